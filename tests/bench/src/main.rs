//! A root task that measures what the kernel's operations cost.
//!
//! Run under `-icount shift=0,sleep=off`, where PMCCNTR_EL0 counts instructions of all exception levels, the caller's stub
//! included; the counter's own overhead is subtracted. Each row is printed as `bench NAME VALUE instructions`; the last
//! line is `bench end`. `cargo xtask bench` runs it and prints the rows beside seL4's and the peers'.
//!
//! Threads may use floating point, as in the recorded figures, except in the rows that say `no_fpu`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod devices;
#[cfg(target_os = "none")]
mod guests;
#[cfg(target_os = "none")]
mod measure;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod messages;
#[cfg(target_os = "none")]
mod threads;

#[cfg(target_os = "none")]
testbed::root_task!(rows, before = testbed::pmu::cycles);

/// All rows.
#[cfg(target_os = "none")]
fn rows(env: &mut testbed::Env) {
    use sel4_sys::{Invocation, init_slot};
    measure::row("kernel_entry_to_root_task", env.before());
    // Below everybody who answers, so that whoever answers runs at once.
    let _ = env.invoke(
        init_slot::TCB,
        Invocation::TcbSetPriority,
        &[150],
        &[init_slot::TCB],
    );
    let clock = measure::Clock::new();
    messages::notifications(env, clock);
    memory::capabilities(env, clock);
    memory::retypes(env, clock);
    let guest_vspace = guests::guests(env, clock);
    memory::mappings(env, clock, guest_vspace, testbed::guest::CODE_IPA + 0x1000);
    messages::faults(env, clock);
    messages::ipc(env, clock);
    messages::one_way(env, clock);
    threads::threads(env, clock);
    devices::devices(env, clock);
    testbed::println!("bench end");
}
