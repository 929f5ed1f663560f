//! Raw system calls: one `svc #0` each (libsel4 aarch64 `syscalls.h`).
//!
//! x7 is the number, x0 the capability (coming back: the badge), x1 the information word, x2 to x5 the first four
//! message words, x6 the reply capability, x8 the destination of NBSendRecv. The kernel keeps every other register.
//! Message words from the fifth on and capabilities travel through the thread's IPC buffer: a caller that announces
//! them in the information word has put them there, and reads the answer's there.
//!
//! The stubs are safe functions: the kernel writes no memory of the caller but its IPC buffer, which the caller
//! gave up when it made the buffer known to the kernel (a thread's creator does). What a system call does to
//! *mappings* is the business of who invokes a page or page table capability: `cap` says so there.

use crate::{MessageInfo, Syscall};
use core::arch::asm;

/// What a receiving system call leaves in the registers.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    /// x0: badge of the sender, or the notification's word.
    pub badge: u64,
    /// x1: information word.
    pub info: MessageInfo,
    /// x2 to x5: the first message words.
    pub words: [u64; 4],
}

/// Sends and waits for the answer (seL4_Call).
#[inline(always)]
pub fn call(dest: u64, info: MessageInfo, words: [u64; 4]) -> Registers {
    let (badge, out, w0, w1, w2, w3);
    // SAFETY: `svc #0` with Call in x7 enters the kernel, which changes x0 to x5 and this thread's IPC buffer only;
    // all of x0 to x5 are declared outputs, and without `nomem` the compiler assumes that memory changes.
    unsafe {
        asm!("svc #0", in("x7") Syscall::Call.word(), inlateout("x0") dest => badge,
            inlateout("x1") info.0 => out, inlateout("x2") words[0] => w0, inlateout("x3") words[1] => w1,
            inlateout("x4") words[2] => w2, inlateout("x5") words[3] => w3, options(nostack));
    }
    Registers {
        badge,
        info: MessageInfo(out),
        words: [w0, w1, w2, w3],
    }
}

#[inline(always)]
fn send_with(number: Syscall, dest: u64, info: MessageInfo, words: [u64; 4]) {
    // SAFETY: as in `call`; the sending calls return nothing, and their argument registers are declared lost.
    unsafe {
        asm!("svc #0", in("x7") number.word(), inlateout("x0") dest => _, inlateout("x1") info.0 => _,
            inlateout("x2") words[0] => _, inlateout("x3") words[1] => _, inlateout("x4") words[2] => _,
            inlateout("x5") words[3] => _, options(nostack));
    }
}

/// Sends, blocking until it is received (seL4_Send).
#[inline(always)]
pub fn send(dest: u64, info: MessageInfo, words: [u64; 4]) {
    send_with(Syscall::Send, dest, info, words);
}

/// Sends if somebody waits, else does nothing (seL4_NBSend).
#[inline(always)]
pub fn nb_send(dest: u64, info: MessageInfo, words: [u64; 4]) {
    send_with(Syscall::NBSend, dest, info, words);
}

/// Signals a notification (seL4_Signal), or invokes a reply object without words.
#[inline(always)]
pub fn signal(dest: u64) {
    // SAFETY: as in `call`; Send with an empty message reads x0, x1 and x7 only. The message registers are declared
    // lost because they are the kernel's to change.
    unsafe {
        asm!("svc #0", in("x7") Syscall::Send.word(), inlateout("x0") dest => _, inlateout("x1") 0u64 => _,
            lateout("x2") _, lateout("x3") _, lateout("x4") _, lateout("x5") _, options(nostack));
    }
}

#[inline(always)]
fn receive_with(number: Syscall, src: u64, reply: u64) -> Registers {
    let (badge, out, w0, w1, w2, w3);
    // SAFETY: as in `call`.
    unsafe {
        asm!("svc #0", in("x7") number.word(), inlateout("x0") src => badge, lateout("x1") out,
            lateout("x2") w0, lateout("x3") w1, lateout("x4") w2, lateout("x5") w3, in("x6") reply,
            options(nostack));
    }
    Registers {
        badge,
        info: MessageInfo(out),
        words: [w0, w1, w2, w3],
    }
}

/// Receives, blocking; a caller's right to an answer goes to `reply` (seL4_Recv).
#[inline(always)]
pub fn recv(src: u64, reply: u64) -> Registers {
    receive_with(Syscall::Recv, src, reply)
}

/// Receives if a message waits (seL4_NBRecv). Badge 0 and an empty message when none does.
#[inline(always)]
pub fn nb_recv(src: u64, reply: u64) -> Registers {
    receive_with(Syscall::NBRecv, src, reply)
}

/// Waits for a notification, or receives from an endpoint without a reply object (seL4_Wait).
#[inline(always)]
pub fn wait(src: u64) -> Registers {
    receive_with(Syscall::Wait, src, 0)
}

/// Polls (seL4_NBWait, seL4_Poll).
#[inline(always)]
pub fn nb_wait(src: u64) -> Registers {
    receive_with(Syscall::NBWait, src, 0)
}

/// Answers through `reply`, then receives on `src` (seL4_ReplyRecv).
#[inline(always)]
pub fn reply_recv(src: u64, info: MessageInfo, words: [u64; 4], reply: u64) -> Registers {
    nb_send_recv_with(Syscall::ReplyRecv, 0, src, info, words, reply)
}

#[inline(always)]
fn nb_send_recv_with(
    number: Syscall,
    dest: u64,
    src: u64,
    info: MessageInfo,
    words: [u64; 4],
    reply: u64,
) -> Registers {
    let (badge, out, w0, w1, w2, w3);
    // SAFETY: as in `call`; x6 and x8 are inputs that the kernel keeps.
    unsafe {
        asm!("svc #0", in("x7") number.word(), inlateout("x0") src => badge,
            inlateout("x1") info.0 => out, inlateout("x2") words[0] => w0, inlateout("x3") words[1] => w1,
            inlateout("x4") words[2] => w2, inlateout("x5") words[3] => w3, in("x6") reply, in("x8") dest,
            options(nostack));
    }
    Registers {
        badge,
        info: MessageInfo(out),
        words: [w0, w1, w2, w3],
    }
}

/// Sends to `dest` without blocking, then receives on `src` (seL4_NBSendRecv).
#[inline(always)]
pub fn nb_send_recv(
    dest: u64,
    info: MessageInfo,
    words: [u64; 4],
    src: u64,
    reply: u64,
) -> Registers {
    nb_send_recv_with(Syscall::NBSendRecv, dest, src, info, words, reply)
}

/// Sends to `dest` without blocking, then waits on `src` (seL4_NBSendWait; `dest` travels in x6).
#[inline(always)]
pub fn nb_send_wait(dest: u64, info: MessageInfo, words: [u64; 4], src: u64) -> Registers {
    nb_send_recv_with(Syscall::NBSendWait, 0, src, info, words, dest)
}

/// Gives up the rest of the budget (seL4_Yield).
#[inline(always)]
pub fn yield_now() {
    // SAFETY: Yield takes no argument and returns nothing; the message registers are declared lost because they are
    // the kernel's to change.
    unsafe {
        asm!("svc #0", in("x7") Syscall::Yield.word(), lateout("x0") _, lateout("x1") _, lateout("x2") _,
            lateout("x3") _, lateout("x4") _, lateout("x5") _, options(nostack));
    }
}

/// One character to the kernel's console. On a kernel without debug calls this is an UnknownSyscall fault.
#[inline(always)]
pub fn debug_put_char(character: u8) {
    // SAFETY: DebugPutChar reads x0 and returns nothing; x0 to x6 are declared lost because a fault handler that
    // answers in the kernel's stead may change them.
    unsafe {
        asm!("svc #0", in("x7") Syscall::DebugPutChar.word(), inlateout("x0") u64::from(character) => _,
            lateout("x1") _, lateout("x2") _, lateout("x3") _, lateout("x4") _, lateout("x5") _, lateout("x6") _,
            options(nostack));
    }
}

/// The kernel's number for the type of a capability (seL4_DebugCapIdentify); debug kernels only.
#[inline(always)]
pub fn debug_cap_identify(cap: u64) -> u64 {
    let kind;
    // SAFETY: as in `debug_put_char`; the answer is in x0.
    unsafe {
        asm!("svc #0", in("x7") Syscall::DebugCapIdentify.word(), inlateout("x0") cap => kind,
            lateout("x1") _, lateout("x2") _, lateout("x3") _, lateout("x4") _, lateout("x5") _, lateout("x6") _,
            options(nostack));
    }
    kind
}

/// Stops the machine (seL4_DebugHalt); debug kernels only.
#[inline(always)]
pub fn debug_halt() {
    // SAFETY: as in `debug_put_char`.
    unsafe {
        asm!("svc #0", in("x7") Syscall::DebugHalt.word(), lateout("x0") _, lateout("x1") _, lateout("x2") _,
            lateout("x3") _, lateout("x4") _, lateout("x5") _, lateout("x6") _, options(nostack));
    }
}

#[inline(always)]
fn debug_with(number: Syscall, argument: u64) {
    // SAFETY: as in `debug_put_char`; DebugNameThread reads this thread's IPC buffer, so memory is not assumed untouched.
    unsafe {
        asm!("svc #0", in("x7") number.word(), inlateout("x0") argument => _, lateout("x1") _, lateout("x2") _,
            lateout("x3") _, lateout("x4") _, lateout("x5") _, lateout("x6") _, options(nostack));
    }
}

/// The scheduler's state to the kernel's console (seL4_DebugDumpScheduler); debug kernels only.
#[inline(always)]
pub fn debug_dump_scheduler() {
    debug_with(Syscall::DebugDumpScheduler, 0);
}

/// A description of the capability spaces to the kernel's console (seL4_DebugSnapshot); debug kernels only.
#[inline(always)]
pub fn debug_snapshot() {
    debug_with(Syscall::DebugSnapshot, 0);
}

/// Names a thread for what the kernel prints (seL4_DebugNameThread); the name is a string that ends with a zero byte, where the message
/// words are in this thread's IPC buffer. Debug kernels only.
#[inline(always)]
pub fn debug_name_thread(tcb: u64) {
    debug_with(Syscall::DebugNameThread, tcb);
}
