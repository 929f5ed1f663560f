//! The unikernel's program: devices, the command loop, the balloon.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(target_os = "none")]
mod hostile;
#[cfg(target_os = "none")]
#[allow(unsafe_code)]
mod machine;
#[cfg(target_os = "none")]
mod program;
#[cfg(target_os = "none")]
mod queue;
#[cfg(target_os = "none")]
mod storm;

#[cfg(target_os = "none")]
use program::{begin, exception};

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    machine::end(machine::SYSTEM_OFF)
}
