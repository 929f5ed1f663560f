//! System-call numbers (libsel4 `api/syscall.xml`, MCS, master order), as they appear in x7.

use crate::numbered;

const fn negative(number: i64) -> u64 {
    number as u64
}

numbered! {
    /// A system call. The numbers are negative: -1 is `Call`.
    pub enum Syscall {
        /// Send and wait for the answer.
        Call = negative(-1),
        /// Answer, then receive.
        ReplyRecv = negative(-2),
        /// Send without blocking, then receive.
        NBSendRecv = negative(-3),
        /// Send without blocking, then wait (no reply object).
        NBSendWait = negative(-4),
        /// Send, blocking.
        Send = negative(-5),
        /// Send without blocking.
        NBSend = negative(-6),
        /// Receive, blocking.
        Recv = negative(-7),
        /// Receive without blocking.
        NBRecv = negative(-8),
        /// Receive without a reply object, blocking.
        Wait = negative(-9),
        /// Receive without a reply object and without blocking.
        NBWait = negative(-10),
        /// Give up the rest of the budget.
        Yield = negative(-11),
        /// Debug flavour: one character to the kernel's console.
        DebugPutChar = negative(-12),
        /// Debug flavour: the scheduler's state to the kernel's console.
        DebugDumpScheduler = negative(-13),
        /// Debug flavour: stop the machine.
        DebugHalt = negative(-14),
        /// Debug flavour: the type of a capability.
        DebugCapIdentify = negative(-15),
        /// Debug flavour: a description of the capability spaces.
        DebugSnapshot = negative(-16),
        /// Debug flavour: name a thread.
        DebugNameThread = negative(-17),
    }
}
