//! The virtual machine monitor of one guest: the process around `vmm-core`.
//!
//! - [`host`]: the memory server, the console, the balancer and the vCPU as `vmm-core` sees them.
//! - [`start`]: memory, kernel, initrd, device tree, first registers.
//! - [`guest`]: the receive loop: exits of the guest go to `vmm_core::exits`, signals to its machine.
//! - [`cpu`]: the guest's registers and the counter as `vmm_core::exits` sees them.
//! - [`clock`]: one alarm for everything that needs time.
//! - [`faults`]: the second thread, which ends copies from memory that was taken away.
//!
//! Invariants:
//! 1. The only thread that changes guest state is the main thread; it never blocks on the guest.
//! 2. A reply to a fault is sent only when the guest shall run: a guest in WFI, or one that waits for memory, has its
//!    fault unanswered.
//! 3. Whatever the guest does ends in: it goes on, it gets an exception, or it ends with a reason.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

mod clock;
mod cpu;
mod faults;
mod guest;
mod host;
mod start;

use protocol::startup::{Role, Startup};

rt::component!(run, faults::serve);

fn run(startup: Startup) {
    match startup.role {
        Role::Vmm(vmm) => guest::run(&startup.name, &vmm),
        _ => rt::fail("this component is a VMM"),
    }
}
