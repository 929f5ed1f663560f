//! System calls: what each of them does with the caller's registers (seL4 manual, section 2.2; libsel4 `api/syscall.xml`, MCS).
//!
//! x0 is the capability address (after a receive the badge), x1 the information word, x2-x5 the first message words, x6 the
//! reply object, x8 the destination of NBSendRecv.

use crate::arch::Arch;
use crate::cap::{Cap, Kind, Rights};
use crate::decode::asid;
use crate::decode::cnode;
use crate::decode::domain;
use crate::decode::invocation::{Answer, Invocation};
use crate::decode::irq;
use crate::decode::sched_context;
use crate::decode::smc;
use crate::decode::tcb;
use crate::decode::untyped;
use crate::decode::vcpu;
use crate::decode::vspace;
use crate::object::error::{Error, LookupFailure, LookupSide, Outcome, Progress};
use crate::object::mem::Ref;
use crate::object::{Reply, Slot, Tcb, ipc_flag};
use crate::run::endpoint::{self, Donation, Sending, Waiting};
use crate::run::fault::{self, Fault, Phase};
use crate::run::ipc;
use crate::run::notification;
use crate::run::reply;
use crate::run::scheduler;
use crate::run::thread;
use crate::state::kernel::Kernel;
use crate::syscall::path::Path;
use sel4_sys::Error as ErrorLabel;

/// x6: the reply object.
const REPLY_REGISTER: usize = 6;
/// x8: the destination of NBSendRecv.
const DESTINATION_REGISTER: usize = 8;

/// How a capability is invoked.
#[derive(Clone, Copy)]
struct Invoking {
    answer: Answer,
    waiting: Waiting,
    donation: Donation,
    phase: SendPhase,
}

/// Whether a receive follows in the same system call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SendPhase {
    /// No: any object can be invoked.
    Only,
    /// Yes: only what cannot block, fail or be preempted.
    First,
}

const CALL: Invoking = Invoking {
    answer: Answer::Wanted,
    waiting: Waiting::Blocks,
    donation: Donation::Allowed,
    phase: SendPhase::Only,
};
const SEND: Invoking = Invoking {
    answer: Answer::Dropped,
    waiting: Waiting::Blocks,
    donation: Donation::Refused,
    phase: SendPhase::Only,
};
const NB_SEND: Invoking = Invoking {
    answer: Answer::Dropped,
    waiting: Waiting::Polls,
    donation: Donation::Refused,
    phase: SendPhase::Only,
};
const FIRST: Invoking = Invoking {
    answer: Answer::Dropped,
    waiting: Waiting::Polls,
    donation: Donation::Allowed,
    phase: SendPhase::First,
};

/// The numbers of system calls, as patterns.
mod number {
    use sel4_sys::Syscall;

    pub(super) const CALL: u64 = Syscall::Call.word();
    pub(super) const REPLYRECV: u64 = Syscall::ReplyRecv.word();
    pub(super) const NBSENDRECV: u64 = Syscall::NBSendRecv.word();
    pub(super) const NBSENDWAIT: u64 = Syscall::NBSendWait.word();
    pub(super) const SEND: u64 = Syscall::Send.word();
    pub(super) const NBSEND: u64 = Syscall::NBSend.word();
    pub(super) const RECV: u64 = Syscall::Recv.word();
    pub(super) const NBRECV: u64 = Syscall::NBRecv.word();
    pub(super) const WAIT: u64 = Syscall::Wait.word();
    pub(super) const NBWAIT: u64 = Syscall::NBWait.word();
    pub(super) const YIELD: u64 = Syscall::Yield.word();
}

/// Does system call `number` for the current thread.
#[inline]
pub fn dispatch<A: Arch>(k: &Kernel<A>, number: u64) {
    let Some(current) = k.current.get() else {
        return;
    };
    let x = &current.context.x;
    match number {
        number::CALL => invoke(k, current, x[0].get(), CALL),
        number::REPLYRECV => {
            invoke(k, current, x[REPLY_REGISTER].get(), FIRST);
            receive(k, current, Waiting::Blocks, ReplyObject::Given);
        }
        number::NBSENDRECV => {
            invoke(k, current, x[DESTINATION_REGISTER].get(), FIRST);
            receive(k, current, Waiting::Blocks, ReplyObject::Given);
        }
        number::NBSENDWAIT => {
            invoke(k, current, x[REPLY_REGISTER].get(), FIRST);
            receive(k, current, Waiting::Blocks, ReplyObject::Absent);
        }
        number::SEND => invoke(k, current, x[0].get(), SEND),
        number::NBSEND => invoke(k, current, x[0].get(), NB_SEND),
        number::RECV => receive(k, current, Waiting::Blocks, ReplyObject::Given),
        number::NBRECV => receive(k, current, Waiting::Polls, ReplyObject::Given),
        number::WAIT => receive(k, current, Waiting::Blocks, ReplyObject::Absent),
        number::NBWAIT => receive(k, current, Waiting::Polls, ReplyObject::Absent),
        number::YIELD => scheduler::yield_current(k, current),
        other => other_call(k, current, other),
    }
}

#[cfg(feature = "debug")]
fn other_call<A: Arch>(k: &Kernel<A>, current: Ref<Tcb>, number: u64) {
    if !crate::syscall::debug::dispatch(k, current, number) {
        fault::raise_in_call(k, current, Fault::UnknownSyscall { number });
    }
}

#[cfg(not(feature = "debug"))]
fn other_call<A: Arch>(k: &Kernel<A>, current: Ref<Tcb>, number: u64) {
    fault::raise_in_call(k, current, Fault::UnknownSyscall { number });
}

/// Sends to, or invokes, the capability at `addr`.
#[inline]
fn invoke<A: Arch>(k: &Kernel<A>, current: Ref<Tcb>, addr: u64, how: Invoking) {
    let slot = match ipc::lookup(current, addr) {
        Ok(slot) => slot,
        Err(failure) => {
            missing(k, current, addr, failure, how);
            return;
        }
    };
    let info = current.context.x[1].get();
    let extra = if ipc::caps(info) == 0 {
        [None; ipc::MAX_CAPS]
    } else {
        match ipc::extra_caps(k, current, info) {
            Ok(extra) => extra,
            Err(bad) => {
                missing(k, current, bad.addr, bad.failure, how);
                return;
            }
        }
    };
    let cap = slot.cap.get();
    let outcome = match cap.kind() {
        Kind::ENDPOINT => {
            if let Some((object, rights)) = cap.as_endpoint()
                && rights.has(Rights::WRITE)
            {
                let rights_bits = rights.and(Rights::GRANT.or(Rights::GRANT_REPLY)).bits() >> 2;
                let call = if how.answer == Answer::Wanted {
                    ipc_flag::CALL
                } else {
                    0
                };
                let sending = Sending {
                    badge: cap.word(),
                    flags: rights_bits | call,
                    waiting: how.waiting,
                    donation: how.donation,
                };
                endpoint::send(k, object, current, sending);
                return;
            }
            Err(Error::InvalidCapability(0))
        }
        Kind::REPLY => {
            if let Some((object, rights)) = cap.as_reply() {
                reply::send(k, current, object, rights);
                Ok(Progress::Done)
            } else {
                Err(Error::InvalidCapability(0))
            }
        }
        Kind::NOTIFICATION => match cap.as_notification() {
            Some((object, rights)) if rights.has(Rights::WRITE) => {
                notification::signal(k, object, cap.word());
                Ok(Progress::Done)
            }
            _ => Err(Error::InvalidCapability(0)),
        },
        Kind::SGI => {
            irq::signal_sgi(k, cap);
            Ok(Progress::Done)
        }
        _ if how.phase == SendPhase::First => Err(Error::InvalidCapability(0)),
        _ => {
            k.reply_length.set(0);
            let inv = Invocation {
                label: ipc::label(info),
                cap,
                slot,
                length: ipc::sendable(current, info),
                buffer: ipc::send_buffer(current),
                extra,
                answer: how.answer,
                current,
            };
            let outcome = object(k, &inv);
            finish(k, current, how, outcome, k.reply_length.get());
            return;
        }
    };
    finish(k, current, how, outcome, 0);
}

const _: () = assert!(Rights::GRANT.bits() >> 2 == ipc_flag::GRANT);
const _: () = assert!(Rights::GRANT_REPLY.bits() >> 2 == ipc_flag::GRANT_REPLY);

/// `Call` on an object of the kernel in `slot`, at most one capability going along: the same as [`dispatch`] and
/// [`scheduler::schedule`], in less. Closed, with nothing done, for what `dispatch` treats apart.
#[inline(never)]
pub(crate) fn call_object<A: Arch>(
    k: &Kernel<A>,
    current: Ref<Tcb>,
    slot: Ref<Slot>,
    info: u64,
) -> Path {
    let extra = match ipc::caps(info) {
        0 => None,
        1 => match ipc::only_extra_cap(k, current) {
            found @ Some(_) => found,
            None => return Path::Closed,
        },
        _ => return Path::Closed,
    };
    let cap = slot.cap.get();
    if matches!(
        cap.kind(),
        Kind::ENDPOINT | Kind::REPLY | Kind::NOTIFICATION | Kind::SGI
    ) {
        return Path::Closed;
    }
    k.reply_length.set(0);
    let inv = Invocation {
        label: ipc::label(info),
        cap,
        slot,
        length: ipc::sendable(current, info),
        buffer: ipc::send_buffer(current),
        extra: [extra, None, None],
        answer: Answer::Wanted,
        current,
    };
    let outcome = match cap.kind() {
        Kind::CNODE => cnode::decode(k, &inv),
        Kind::FRAME => vspace::decode_frame(k, &inv),
        _ => object(k, &inv),
    };
    finish(k, current, CALL, outcome, k.reply_length.get());
    // What only moves capabilities and mappings stops nobody and wakes nobody.
    let only_memory = cap.kind() == Kind::FRAME || cnode::only_moves(cap, inv.label);
    if !(only_memory && outcome == Ok(Progress::Done)) {
        scheduler::schedule_if_needed(k, current);
    }
    Path::Taken
}

/// Hands an invocation to its object.
fn object<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    match inv.cap.kind() {
        Kind::UNTYPED => untyped::decode(k, inv),
        Kind::CNODE => cnode::decode(k, inv),
        Kind::THREAD => tcb::decode(k, inv),
        Kind::SC => sched_context::decode(k, inv),
        Kind::SCHED_CONTROL => sched_context::decode_control(k, inv),
        Kind::IRQ_CONTROL => irq::decode_control(k, inv),
        Kind::IRQ_HANDLER => irq::decode_handler(k, inv),
        Kind::FRAME => vspace::decode_frame(k, inv),
        Kind::PAGE_TABLE => vspace::decode_page_table(k, inv),
        Kind::VSPACE => vspace::decode_vspace(k, inv),
        Kind::ASID_CONTROL => asid::decode_control(k, inv),
        Kind::ASID_POOL => asid::decode_pool(k, inv),
        Kind::VCPU => vcpu::decode(k, inv),
        Kind::DOMAIN => domain::decode(k, inv),
        Kind::SMC => smc::decode(k, inv),
        _ => Err(Error::InvalidCapability(0)),
    }
}

/// What the caller sees of an invocation.
#[inline]
fn finish<A: Arch>(k: &Kernel<A>, current: Ref<Tcb>, how: Invoking, outcome: Outcome, words: u64) {
    match outcome {
        Ok(Progress::Done) => {
            if how.answer == Answer::Wanted {
                current.context.x[0].set(0);
                current.context.x[1].set(ipc::info(0, words));
            }
        }
        // The call is made again as soon as the thread runs; what was done so far is in the objects.
        Ok(Progress::Preempted) => {
            thread::rewind(current);
            scheduler::require(k);
        }
        Err(error) => {
            if how.answer == Answer::Wanted {
                answer_error(k, current, error);
            }
        }
    }
}

/// Writes an error into the caller's message registers (libsel4 `errors.h`; manual, section 10.1).
#[cold]
fn answer_error<A: Arch>(k: &Kernel<A>, current: Ref<Tcb>, error: Error) {
    let put = |n, value| ipc::set_word(k, current, n, value);
    let (label, length) = match error {
        Error::InvalidArgument(n) => {
            put(0, n);
            (ErrorLabel::InvalidArgument, 1)
        }
        Error::InvalidCapability(n) => {
            put(0, n);
            (ErrorLabel::InvalidCapability, 1)
        }
        Error::IllegalOperation => (ErrorLabel::IllegalOperation, 0),
        Error::Range { min, max } => {
            put(0, min);
            put(1, max);
            (ErrorLabel::RangeError, 2)
        }
        Error::Alignment => (ErrorLabel::AlignmentError, 0),
        Error::FailedLookup { source, failure } => {
            put(0, u64::from(source == LookupSide::Source));
            (
                ErrorLabel::FailedLookup,
                fault::write_lookup_failure(put, 1, failure),
            )
        }
        Error::TruncatedMessage => (ErrorLabel::TruncatedMessage, 0),
        Error::DeleteFirst => (ErrorLabel::DeleteFirst, 0),
        Error::RevokeFirst => (ErrorLabel::RevokeFirst, 0),
        Error::NotEnoughMemory(left) => {
            put(0, left);
            (ErrorLabel::NotEnoughMemory, 1)
        }
    };
    let length = ipc::receivable(current, length);
    current.context.x[0].set(0);
    current.context.x[1].set(ipc::info(label.word(), length));
}

/// A capability that was to be sent to, or along, is not there. Polling sends fail without a word.
#[cold]
fn missing<A: Arch>(
    k: &Kernel<A>,
    current: Ref<Tcb>,
    addr: u64,
    failure: LookupFailure,
    how: Invoking,
) {
    if how.waiting == Waiting::Blocks {
        fault::raise_in_call(
            k,
            current,
            Fault::Cap {
                addr,
                phase: Phase::Send,
                failure,
            },
        );
    }
}

/// Whether x6 names a reply object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReplyObject {
    Given,
    Absent,
}

#[cold]
fn missing_receive<A: Arch>(k: &Kernel<A>, current: Ref<Tcb>, addr: u64, failure: LookupFailure) {
    fault::raise_in_call(
        k,
        current,
        Fault::Cap {
            addr,
            phase: Phase::Receive,
            failure,
        },
    );
}

const WRONG_KIND: LookupFailure = LookupFailure::MissingCapability { bits_left: 0 };

/// The reply object in x6.
#[inline]
fn reply_object(slot: Result<Ref<Slot>, LookupFailure>) -> Result<Ref<Reply>, LookupFailure> {
    let cap: Cap = slot?.cap.get();
    match cap.as_reply() {
        Some((object, _)) => Ok(object),
        None => Err(WRONG_KIND),
    }
}

/// Receives on the capability in x0.
#[inline]
fn receive<A: Arch>(k: &Kernel<A>, current: Ref<Tcb>, waiting: Waiting, reply: ReplyObject) {
    let addr = current.context.x[0].get();
    let slot = match ipc::lookup(current, addr) {
        Ok(slot) => slot,
        Err(failure) => {
            missing_receive(k, current, addr, failure);
            return;
        }
    };
    let cap = slot.cap.get();
    if let Some((object, rights)) = cap.as_endpoint()
        && rights.has(Rights::READ)
    {
        let offered = if reply == ReplyObject::Given {
            let addr = current.context.x[REPLY_REGISTER].get();
            match reply_object(ipc::lookup(current, addr)) {
                Ok(object) => Some(object),
                Err(failure) => {
                    missing_receive(k, current, addr, failure);
                    return;
                }
            }
        } else {
            None
        };
        endpoint::receive(k, object, current, offered, waiting);
    } else if let Some((object, rights)) = cap.as_notification()
        && rights.has(Rights::READ)
        && endpoint::may_wait(object, current)
    {
        notification::receive(k, object, current, waiting);
    } else {
        missing_receive(k, current, addr, WRONG_KIND);
    }
}
