//! The runtime of a component: entry, threads, panics, log, time, and the memory that is not Rust's.
//!
//! A component's binary names its threads, in the order of the root task's manifest, and is otherwise a library:
//!
//! ```ignore
//! #![cfg_attr(target_os = "none", no_std, no_main)]
//! #![forbid(unsafe_code)]
//! rt::component!(serve, clean);
//! fn serve(startup: protocol::startup::Startup) { /* loop */ }
//! fn clean(_: protocol::startup::Startup) { /* loop */ }
//! ```
//!
//! Its build script prints the linker arguments that this crate exports (`build.rs` of any component).
//!
//! Invariants:
//! 1. A thread starts with x0 = its index, x1 = the startup page, x2 = its IPC buffer, sp = its stack's top; the entry
//!    writes TPIDR_EL0 and the buffer's user word before any other code runs, and nobody writes them again.
//! 2. A thread that returns, panics or cannot read its startup page says so and then faults, so that the supervisor
//!    learns of it. It never goes on.
//! 3. Logging never blocks a server: it drops records when the console is busy, and is limited in rate.
//! 4. Memory that other parties change (the window onto the guest, the store, device registers) is reached through
//!    [`window`], [`guarded`] and [`device`] only, which check bounds and never make references to memory that can change.
//! 5. `unsafe` is in the named modules below that allow it.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod arch;
#[allow(unsafe_code)]
pub mod device;
#[cfg(target_os = "none")]
#[allow(unsafe_code)]
mod entry;
pub mod instructions;
mod limit;
#[allow(unsafe_code)]
pub mod log;
#[allow(unsafe_code)]
pub mod root;
mod say;
pub mod time;

pub use guest_window::{guarded, window};
pub use say::{fail, line, say, say_line};
pub use time::{frequency_hz, now_us, ticks};

#[doc(hidden)]
pub use protocol::startup::Startup;

/// Most threads of a component. Bounds the tables that have an entry per thread.
pub const MAX_THREADS: usize = 4;

/// Names the threads of a component: functions that take the [`Startup`] value; the first is the main thread.
/// A function that returns ends its thread with a fault.
#[macro_export]
macro_rules! component {
    ($($thread:path),+ $(,)?) => {
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        extern "Rust" fn ballast_component_thread(index: u64, startup: $crate::Startup) {
            const THREADS: &[fn($crate::Startup)] = &[$($thread),+];
            match THREADS.get(index as usize) {
                Some(thread) => thread(startup),
                None => $crate::fail("the component has no thread of this number"),
            }
        }

        #[cfg(not(target_os = "none"))]
        fn main() {
            // Nothing runs here; the functions are named so that they are checked like on the target.
            let _: &[fn($crate::Startup)] = &[$($thread),+];
        }
    };
}

/// Names the root task's function, which takes [`root::Boot`].
#[macro_export]
macro_rules! root_task {
    ($main:path) => {
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        extern "Rust" fn ballast_root_task(boot: $crate::root::Boot) {
            $main(boot);
        }

        #[cfg(not(target_os = "none"))]
        fn main() {
            let _: fn($crate::root::Boot) = $main;
        }
    };
}
