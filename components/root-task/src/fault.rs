//! Faults of components: what the kernel reports, as text, and the thread that hears of them.
//!
//! A component that always runs has its faults received by a thread of its own in the root task, the watcher: the
//! supervisor may itself be waiting for the component that has just faulted.

use crate::component::{FAULT, FAULT_THREAD_SHIFT};
use crate::sink;
use cap::{Endpoint, Received, Reply};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use protocol::badge::Client;
use protocol::units::Line;
use sel4_sys::{Fault, cap_fault, unknown_syscall, user_exception, vcpu_fault, vm_fault};

/// The watcher's endpoint and reply object.
static ENDPOINT: AtomicU64 = AtomicU64::new(0);
static REPLY: AtomicU64 = AtomicU64::new(0);
/// Bit `n` is set when the component with log number `n` has faulted.
static GONE: AtomicU32 = AtomicU32::new(0);

/// Names the watcher's endpoint and reply object, before it starts.
pub fn set_watcher(endpoint: u64, reply: u64) {
    ENDPOINT.store(endpoint, Ordering::Release);
    REPLY.store(reply, Ordering::Release);
}

/// Whether a component has faulted; calling it would never end.
#[must_use]
pub fn is_gone(client: Client) -> bool {
    let bit = 1u32.checked_shl(u32::from(client.log_id())).unwrap_or(0);
    GONE.load(Ordering::Acquire) & bit != 0
}

/// Who faulted, by the badge of its fault endpoint: the component and its thread.
#[must_use]
pub const fn who(badge: u64) -> Option<(Client, u64)> {
    if badge & FAULT == 0 {
        return None;
    }
    match Client::from_badge(badge & (FAULT - 1)) {
        Some(client) => Some((client, badge >> FAULT_THREAD_SHIFT)),
        None => None,
    }
}

/// A fault message as text.
#[must_use]
pub fn describe(message: &Received) -> Line {
    let word = |index| message.word(index);
    match Fault::from_word(message.label()) {
        Some(Fault::VmFault) => rt::line(format_args!(
            "memory fault at {:#x}, pc {:#x}, syndrome {:#x}",
            word(vm_fault::ADDR),
            word(vm_fault::IP),
            word(vm_fault::FSR)
        )),
        Some(Fault::CapFault) => rt::line(format_args!(
            "no capability at {:#x}, pc {:#x}, lookup failure {}",
            word(cap_fault::ADDR),
            word(cap_fault::IP),
            word(cap_fault::LOOKUP_FAILURE_TYPE)
        )),
        Some(Fault::UserException) => rt::line(format_args!(
            "exception {:#x} at pc {:#x}",
            word(user_exception::NUMBER),
            word(user_exception::FAULT_IP)
        )),
        Some(Fault::UnknownSyscall) => rt::line(format_args!(
            "unknown system call {:#x} at pc {:#x}",
            word(unknown_syscall::SYSCALL),
            word(unknown_syscall::FAULT_IP)
        )),
        Some(Fault::VcpuFault) => rt::line(format_args!(
            "exception with syndrome {:#x}",
            word(vcpu_fault::HSR)
        )),
        _ => rt::line(format_args!("fault of kind {}", message.label())),
    }
}

/// The watcher thread: says who faulted and how. The thread that faulted never runs again.
pub extern "C" fn watch() {
    let endpoint = Endpoint::new(ENDPOINT.load(Ordering::Acquire));
    let reply = Reply::new(REPLY.load(Ordering::Acquire));
    while let Ok(message) = endpoint.recv(reply) {
        let Some((client, thread)) = who(message.badge) else {
            continue;
        };
        let bit = 1u32.checked_shl(u32::from(client.log_id())).unwrap_or(0);
        GONE.fetch_or(bit, Ordering::AcqRel);
        if client == Client::Console {
            sink::console_is_gone();
        }
        let text = describe(&message);
        rt::say(format_args!("{} thread {thread}: {text}", client.program()));
    }
}
