//! The console: the first PL011 of QEMU's virt machine, mapped by [`crate::Env::new`].

#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

/// Physical address of the UART on QEMU's virt machine.
pub(crate) const UART_PADDR: u64 = 0x0900_0000;

static BASE: AtomicU64 = AtomicU64::new(0);

/// The registers are mapped at `base` from now on.
pub(crate) fn use_uart(base: u64) {
    BASE.store(base, Ordering::Relaxed);
}

/// Prints text; nothing before the UART is mapped.
pub fn print_str(text: &str) {
    let base = BASE.load(Ordering::Relaxed);
    if base == 0 {
        return;
    }
    for byte in text.bytes() {
        // SAFETY: `base` is the mapped register page of a PL011 (set once by `Env::new`): UARTFR at 0x18 (bit 5: the transmit
        // FIFO is full), UARTDR at 0.
        unsafe {
            while core::ptr::read_volatile((base + 0x18) as *const u32) & (1 << 5) != 0 {}
            core::ptr::write_volatile(base as *mut u32, u32::from(byte));
        }
    }
}
