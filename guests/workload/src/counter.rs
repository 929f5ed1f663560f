//! The architecture's counter, as the guest sees it: it starts with the machine (Arm ARM D12.1).

#![allow(unsafe_code)] // Two register reads.

/// CNTVCT_EL0 and CNTFRQ_EL0; `None` on another architecture.
#[cfg(target_arch = "aarch64")]
pub fn read() -> Option<(u64, u64)> {
    let (ticks, hz);
    // SAFETY: Linux lets EL0 read both, and reading changes nothing.
    unsafe {
        core::arch::asm!("isb", "mrs {0}, cntvct_el0", "mrs {1}, cntfrq_el0", out(reg) ticks, out(reg) hz,
            options(nomem, nostack));
    }
    Some((ticks, hz))
}

/// CNTVCT_EL0 and CNTFRQ_EL0; `None` on another architecture.
#[cfg(not(target_arch = "aarch64"))]
pub fn read() -> Option<(u64, u64)> {
    None
}
