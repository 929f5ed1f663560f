//! Debug system calls: only in the debug flavour, and at nobody's expense but the caller's (libsel4 `api/syscall.xml`).

use crate::arch::Arch;
use crate::cap::{CapView, Kind};
use crate::object::Tcb;
use crate::object::mem::Ref;
use crate::run::ipc;
use crate::state::kernel::Kernel;

/// The numbers of debug system calls, as patterns.
mod number {
    use sel4_sys::Syscall;

    pub(super) const PUT_CHAR: u64 = Syscall::DebugPutChar.word();
    pub(super) const DUMP_SCHEDULER: u64 = Syscall::DebugDumpScheduler.word();
    pub(super) const HALT: u64 = Syscall::DebugHalt.word();
    pub(super) const CAP_IDENTIFY: u64 = Syscall::DebugCapIdentify.word();
    pub(super) const SNAPSHOT: u64 = Syscall::DebugSnapshot.word();
    pub(super) const NAME_THREAD: u64 = Syscall::DebugNameThread.word();
}

/// Does the debug system call with this number; `false` when there is none.
#[must_use]
pub fn dispatch<A: Arch>(k: &Kernel<A>, current: Ref<Tcb>, number: u64) -> bool {
    let argument = current.context.x[0].get();
    match number {
        number::PUT_CHAR => k.arch.debug_putchar(argument as u8),
        number::DUMP_SCHEDULER => dump_scheduler(k),
        number::HALT => k.arch.debug_halt(),
        number::CAP_IDENTIFY => {
            let kind =
                ipc::lookup(current, argument).map_or(Kind::NULL, |slot| slot.cap.get().kind());
            current.context.x[0].set(cap_type(kind));
        }
        // The snapshot's format is not part of the interface; there is nothing to say here.
        number::SNAPSHOT => put_line(k, b"no snapshot\n"),
        number::NAME_THREAD => name_thread(k, current, argument),
        _ => return false,
    }
    true
}

/// seL4's number for a kind of capability, 0 for an empty or missing slot: libsel4's users compare with these (even ones are
/// every architecture's, odd ones Arm's).
const fn cap_type(kind: Kind) -> u64 {
    match kind {
        Kind::UNTYPED => 2,
        Kind::ENDPOINT => 4,
        Kind::NOTIFICATION => 6,
        Kind::REPLY => 8,
        Kind::CNODE => 10,
        Kind::THREAD => 12,
        Kind::IRQ_CONTROL => 14,
        Kind::IRQ_HANDLER => 16,
        Kind::ZOMBIE => 18,
        Kind::DOMAIN => 20,
        Kind::SC => 22,
        Kind::SCHED_CONTROL => 24,
        Kind::FRAME => 1,
        Kind::PAGE_TABLE => 3,
        Kind::VSPACE => 9,
        Kind::ASID_CONTROL => 11,
        Kind::ASID_POOL => 13,
        Kind::VCPU => 15,
        Kind::SMC => 25,
        Kind::SGI => 27,
        _ => 0,
    }
}

fn put_line<A: Arch>(k: &Kernel<A>, text: &[u8]) {
    for &byte in text {
        k.arch.debug_putchar(byte);
    }
}

/// Gives the thread at `addr` the name in the caller's IPC buffer (a string that ends with a zero byte).
fn name_thread<A: Arch>(k: &Kernel<A>, current: Ref<Tcb>, addr: u64) {
    let Ok(slot) = ipc::lookup(current, addr) else {
        return;
    };
    let CapView::Thread(tcb) = slot.cap.get().view() else {
        return;
    };
    let buffer = ipc::send_buffer(current);
    if buffer == 0 {
        return;
    }
    let mut ended = false;
    for (n, cell) in (0u64..).zip(tcb.thread.name.iter()) {
        // The message words begin behind the information word.
        let word = k
            .arch
            .read_word(buffer.wrapping_add(8).wrapping_add(n & !7));
        let byte = (word >> ((n & 7) << 3)) as u8;
        ended |= byte == 0;
        cell.set(if ended { 0 } else { byte });
    }
}

fn put_decimal<A: Arch>(k: &Kernel<A>, value: u8) {
    for unit in [100u8, 10, 1] {
        k.arch.debug_putchar(b'0'.wrapping_add(value / unit % 10));
    }
}

/// One line for each thread in a ready queue: priority and name.
fn dump_scheduler<A: Arch>(k: &Kernel<A>) {
    put_line(k, b"ready threads, by priority:\n");
    for priority in (0..=u8::MAX).rev() {
        let mut next = k.sched.ready.first_ready(priority);
        // Not a service to rely on: the first few of each priority.
        for _ in 0..8 {
            let Some(tcb) = next else { break };
            put_decimal(k, priority);
            k.arch.debug_putchar(b' ');
            for cell in &tcb.thread.name {
                let byte = cell.get();
                if byte == 0 {
                    break;
                }
                k.arch.debug_putchar(byte);
            }
            k.arch.debug_putchar(b'\n');
            next = tcb.thread.sched_next.get();
        }
    }
}
