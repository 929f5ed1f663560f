//! A root task for tests and measurements of the kernel.
//!
//! It speaks to the kernel through `sel4-sys` alone, not through the typed wrappers that the components use: a test has to be
//! able to pass what those would never pass. What it offers: slots and objects on demand ([`Env`]), threads in the same
//! address space ([`Env::spawn`]), threads that make any system call ([`puppet`]), bare guests of a few instructions ([`guest`]), the cycle counter ([`pmu`]) and a console
//! on the board's PL011, which works in the release flavour too.
//!
//! Not for production code: nothing is ever freed, and a test that goes wrong stops the run with a message.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod env;
#[cfg(target_os = "none")]
pub mod guest;
#[cfg(target_os = "none")]
mod invoke;
#[cfg(target_os = "none")]
pub mod pmu;
#[cfg(target_os = "none")]
pub mod puppet;
#[cfg(target_os = "none")]
mod uart;

#[cfg(target_os = "none")]
pub use env::{Env, ThreadSpec, park};
#[cfg(target_os = "none")]
pub use invoke::{Answer, invoke, invoke_fixed, ipc_buffer, message_word, set_receive_slot};
#[cfg(target_os = "none")]
pub use uart::print_str;

/// Prints a formatted line on the board's console.
#[cfg(target_os = "none")]
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::print_line(format_args!($($arg)*)) };
}

/// Prints a formatted line; [`println!`] calls it.
#[cfg(target_os = "none")]
pub fn print_line(arguments: core::fmt::Arguments<'_>) {
    use core::fmt::Write;
    struct Out;
    impl Write for Out {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            uart::print_str(text);
            Ok(())
        }
    }
    let _ = Out.write_fmt(arguments);
    uart::print_str("\n");
}
