//! A root task that tests the kernel from user level.
//!
//! Every test prints one line, `test NAME ... ok` or `test NAME ... FAILED` with the place and what was seen; the last line is
//! `N passed, N failed`. `cargo xtask test` runs it in QEMU, on both interrupt controllers; with `--kernel`, on seL4's kernel, where
//! the tests of `elsewhere` print `test NAME ... skipped on seL4: REASON`.
//!
//! Objects are never freed and slots never reused between tests, so one test cannot hide another's damage. Add a test as
//! a function in the module of its subject and a line in that module's `TESTS`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod answers;
#[cfg(target_os = "none")]
mod capabilities;
#[cfg(all(target_os = "none", feature = "debug"))]
mod debug;
#[cfg(target_os = "none")]
mod derivation;
#[cfg(target_os = "none")]
mod elsewhere;
#[cfg(target_os = "none")]
mod faults;
#[cfg(target_os = "none")]
mod guests;
#[cfg(target_os = "none")]
mod ipc;
#[cfg(target_os = "none")]
mod machine;
#[cfg(all(target_os = "none", feature = "masked-time"))]
mod masked_time;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod play;
#[cfg(target_os = "none")]
mod rules;
#[cfg(target_os = "none")]
mod stage;
#[cfg(target_os = "none")]
mod threads;

#[cfg(target_os = "none")]
mod suite {
    use crate::elsewhere;
    use testbed::{Env, println};

    /// Where a test failed and what it saw there.
    pub struct Failure {
        pub file: &'static str,
        pub line: u32,
        pub what: &'static str,
        pub seen: u64,
    }

    /// The one test that this build runs (`cargo xtask test --exact`); all if there is none. [`LIST`] prints the names alone.
    const ONLY: Option<&str> = option_env!("KERNEL_TEST");
    /// See [`ONLY`].
    const LIST: &str = "--list";

    /// A test.
    pub type Test = (&'static str, fn(&mut Env) -> Result<(), Failure>);

    /// Fails the test unless the two are equal.
    #[macro_export]
    macro_rules! same {
        ($left:expr, $right:expr) => {
            let (left, right): (u64, u64) = ($left, $right);
            if left != right {
                return Err($crate::suite::Failure {
                    file: file!(),
                    line: line!(),
                    what: concat!(stringify!($left), " should be ", stringify!($right)),
                    seen: left,
                });
            }
        };
    }

    /// Runs all tests; `testbed` prints the end.
    pub fn run(env: &mut Env) {
        let groups = [
            crate::capabilities::TESTS,
            crate::answers::capabilities::TESTS,
            crate::answers::memory::TESTS,
            crate::answers::threads::TESTS,
            crate::answers::machine::TESTS,
            crate::answers::documented::TESTS,
            crate::answers::sweep::TESTS,
            crate::memory::TESTS,
            crate::derivation::TESTS,
            crate::faults::TESTS,
            crate::ipc::TESTS,
            crate::rules::messages::TESTS,
            crate::rules::time::TESTS,
            crate::threads::TESTS,
            crate::play::TESTS,
            crate::machine::TESTS,
            crate::guests::TESTS,
            #[cfg(feature = "debug")]
            crate::debug::TESTS,
        ];
        #[cfg(not(feature = "masked-time"))]
        let (passed, failed) = play(env, &groups, |_| {});
        #[cfg(feature = "masked-time")]
        let (passed, failed) = crate::masked_time::run(env, &groups);
        let (passed, failed) = match unknown(&groups) {
            None => (passed, failed),
            Some(name) => {
                println!("test {name} ... FAILED: `elsewhere` names it, and there is none");
                (passed, failed + 1)
            }
        };
        println!("{passed} passed, {failed} failed");
        #[cfg(feature = "debug")]
        crate::debug::halt();
    }

    /// A name that no test has, of those that are left out on seL4.
    fn unknown(groups: &[&[Test]]) -> Option<&'static str> {
        let exists = |name: &str| {
            let mut tests = groups.iter().flat_map(|group| group.iter());
            tests.any(|(other, _)| *other == name)
        };
        let mut names = elsewhere::DIFFERENT.iter().map(|(name, _)| *name);
        names.find(|name| !exists(name))
    }

    /// Runs these tests, `after` each with its name; how many passed and failed.
    pub fn play(env: &mut Env, groups: &[&[Test]], after: impl Fn(&'static str)) -> (u64, u64) {
        let (mut passed, mut failed) = (0, 0);
        let is_elsewhere = elsewhere::is_elsewhere(env);
        for (name, test) in groups.iter().flat_map(|group| group.iter()) {
            if ONLY == Some(LIST) {
                println!("test {name}");
                continue;
            }
            if ONLY.is_some_and(|only| only != *name) {
                continue;
            }
            if is_elsewhere && let Some(reason) = elsewhere::reason(name) {
                println!("test {name} ... skipped on seL4: {reason}");
                continue;
            }
            let result = test(env);
            after(name);
            match result {
                Ok(()) => {
                    passed += 1;
                    println!("test {name} ... ok");
                }
                Err(failure) => {
                    failed += 1;
                    println!(
                        "test {name} ... FAILED: {}:{}: {}, not {:#x}",
                        failure.file, failure.line, failure.what, failure.seen
                    );
                }
            }
        }
        (passed, failed)
    }
}

#[cfg(target_os = "none")]
testbed::root_task!(suite::run);
