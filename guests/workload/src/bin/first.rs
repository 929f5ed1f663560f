//! `/init` of the Linux guest: takes the time with its first instructions, then becomes the script `/etc/init`.
//!
//! The time is the virtual counter, which counts from power-on on a bare machine, so a boot can be measured to this
//! point without anything in between. It is kept in `/run/init.clock` as `TICKS ticks of FREQUENCY Hz`.
#![deny(unsafe_code)]

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// The one instruction that Rust has no word for.
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
mod counter {
    /// CNTVCT_EL0 and CNTFRQ_EL0 (Arm ARM, D24.10.14 and D24.10.9).
    pub fn read() -> (u64, u64) {
        let (ticks, frequency_hz): (u64, u64);
        // SAFETY: 1. both registers are readable from EL0: Linux sets CNTKCTL_EL1.EL0VCTEN before it starts a process;
        // where it emulates the read instead, the result is the same. 2. reading them changes nothing and touches no
        // memory.
        unsafe {
            core::arch::asm!(
                "mrs {ticks}, cntvct_el0",
                "mrs {frequency}, cntfrq_el0",
                ticks = out(reg) ticks,
                frequency = out(reg) frequency_hz,
                options(nomem, nostack, preserves_flags)
            );
        }
        (ticks, frequency_hz)
    }
}

#[cfg(not(target_arch = "aarch64"))]
mod counter {
    /// The development host has no such counter.
    pub fn read() -> (u64, u64) {
        (0, 0)
    }
}

fn main() -> ExitCode {
    let (ticks, frequency_hz) = counter::read();
    let text = format!("{ticks} ticks of {frequency_hz} Hz\n");
    // Without it the boot goes on; only the measurement is missing.
    let _ = std::fs::write("/run/init.clock", text);
    let error = Command::new("/bin/sh").arg("/etc/init").exec();
    eprintln!("init: /bin/sh cannot be started: {error}");
    ExitCode::FAILURE
}
