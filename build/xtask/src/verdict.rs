//! What a run of tests says about itself, read.

use anyhow::Result;
use std::io::Write as _;
use std::path::Path;

/// What a suite counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
}

impl Counts {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Whether something ran and nothing failed.
    #[must_use]
    pub const fn good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// One test that failed.
    pub const FAILED: Self = Self {
        passed: 0,
        failed: 1,
    };
}

/// What the debug system calls leave on the console, by the tests that make them: on seL4 the same.
const DEBUG_SIGNS: [(&str, &str); 2] = [
    ("debug_put_char_prints", "put by the kernel, one by one"),
    (
        "debug_dump_scheduler_prints_the_names_of_threads",
        "Wilhelm",
    ),
];
/// The test that ends everything.
const HALT: &str = "debug_halt_stops_the_machine";
/// What a kernel says when it halts, ours and seL4's; and what the root task says if it does not.
const HALTED: [&str; 2] = ["Debug halt", "halting"];
const GOES_ON: &str = "testbed: the end";

/// Reads `test result: ok. 5 passed; 0 failed; ...`.
#[must_use]
pub fn host_result(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let (_, numbers) = rest.split_once(". ")?;
    let mut parts = numbers.split("; ");
    Some(Counts {
        passed: parts.next()?.strip_suffix(" passed")?.parse().ok()?,
        failed: parts.next()?.strip_suffix(" failed")?.parse().ok()?,
    })
}

/// Reads `5 passed, 0 failed`.
#[must_use]
pub fn verdict(line: &str) -> Option<Counts> {
    let (passed, failed) = line.trim().split_once(", ")?;
    Some(Counts {
        passed: passed.strip_suffix(" passed")?.parse().ok()?,
        failed: failed.strip_suffix(" failed")?.parse().ok()?,
    })
}

/// Whether a root task's output ends with this line.
#[must_use]
pub fn ends(line: &str, debug: bool) -> bool {
    if debug {
        line == GOES_ON || HALTED.iter().any(|halted| line.contains(halted))
    } else {
        verdict(line).is_some()
    }
}

/// What a root task counted, and in the debug flavour what the debug system calls were to print; what is missing is added to the log.
///
/// # Errors
/// When the log cannot be written.
pub fn judge(lines: &[String], debug: bool, log: &Path) -> Result<Counts> {
    let Some(mut counts) = lines.iter().find_map(|line| verdict(line)) else {
        return Ok(Counts::FAILED);
    };
    if !debug {
        return Ok(counts);
    }
    let mut missing = String::new();
    for (name, sign) in DEBUG_SIGNS {
        if !lines.iter().any(|line| line.contains(sign)) {
            counts.passed = counts.passed.saturating_sub(1);
            counts.add(Counts::FAILED);
            missing += &format!("test {name} ... FAILED: `{sign}` is not on the console\n");
        }
    }
    if lines.last().is_some_and(|line| line == GOES_ON) {
        counts.add(Counts::FAILED);
        missing += &format!("test {HALT} ... FAILED: the machine goes on\n");
    } else {
        counts.passed += 1;
    }
    std::fs::OpenOptions::new()
        .append(true)
        .open(log)?
        .write_all(missing.as_bytes())?;
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        assert_eq!(
            host_result(
                "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s"
            ),
            Some(Counts {
                passed: 12,
                failed: 3
            })
        );
        assert_eq!(host_result("running 5 tests"), None);
        assert_eq!(
            verdict("61 passed, 2 failed\r"),
            Some(Counts {
                passed: 61,
                failed: 2
            })
        );
        assert_eq!(verdict("test a ... ok"), None);
        assert_eq!(verdict("passed, failed"), None);
    }

    #[test]
    fn what_debug_calls_print_is_looked_for() {
        let log = std::env::temp_dir().join(format!("ballast-judge-{}", std::process::id()));
        std::fs::write(&log, "").unwrap();
        let judged = |text: &str, debug| {
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let counts = judge(&lines, debug, &log).unwrap();
            (counts.passed, counts.failed)
        };
        let signs: String = DEBUG_SIGNS
            .iter()
            .map(|(_, sign)| format!("{sign}\n"))
            .collect();
        let end = "3 passed, 0 failed\n";
        assert_eq!(judged(end, false), (3, 0));
        assert_eq!(judged(&format!("{signs}{end}Debug halt.\n"), true), (4, 0));
        assert_eq!(judged(&format!("{signs}{end}{GOES_ON}\n"), true), (3, 1));
        assert_eq!(judged(&format!("{end}Debug halt.\n"), true), (2, 2));
        assert_eq!(judged("", true), (0, 1));
        let said = std::fs::read_to_string(&log).unwrap();
        assert_eq!(
            said.lines().filter(|line| line.contains("FAILED")).count(),
            3
        );
        std::fs::remove_file(log).unwrap();
    }
}
