//! Messages: words between threads' registers and IPC buffers, and capabilities (seL4 manual, sections 4.1 and 4.2.2).
//!
//! A message's information word and the numbers in an IPC buffer are the sender's and the receiver's own claims; lengths are
//! cut to what exists, capability addresses are looked up in the claimant's own capability space. Memory of an IPC buffer is
//! reached through the kernel's mapping of the frame whose capability the TCB holds.

use crate::arch::Arch;
use crate::cap::Cap;
use crate::cspace::cdt;
use crate::cspace::cnode::{self, ADDRESS_BITS};
use crate::object::error::LookupFailure;
use crate::object::mem::Ref;
use crate::object::slot;
use crate::object::{Endpoint, Slot, Tcb, ipc_flag, tcb_slot};
use crate::run::fault;
use crate::state::kernel::Kernel;
use core::cell::Cell;

/// Message registers that travel in machine registers (x2..x5).
pub const FAST_MESSAGE_REGISTERS: u64 = 4;

/// Words of the longest message (seL4_MsgMaxLength).
pub const MAX_LENGTH: u64 = 120;
/// Capabilities in the largest message.
pub const MAX_CAPS: usize = 3;

/// Byte offsets in an IPC buffer (`seL4_IPCBuffer`).
mod offset {
    pub const MESSAGE: u64 = 8;
    pub const CAPS: u64 = 976;
    pub const RECEIVE_CNODE: u64 = 1000;
    pub const RECEIVE_INDEX: u64 = 1008;
    pub const RECEIVE_DEPTH: u64 = 1016;
}

const LENGTH_MASK: u64 = 0x7f;
const CAPS_SHIFT: u32 = 7;
const CAPS_MASK: u64 = 3 << CAPS_SHIFT;
const UNWRAPPED_SHIFT: u32 = 9;
const LABEL_SHIFT: u32 = 12;

/// The bits of an information word that mean nothing in what is sent (`capsUnwrapped`).
pub const UNSENT: u64 = 7 << UNWRAPPED_SHIFT;

/// The label in an information word.
#[inline]
#[must_use]
pub const fn label(info: u64) -> u64 {
    info >> LABEL_SHIFT
}

/// The number of capabilities in an information word.
#[inline]
#[must_use]
pub const fn caps(info: u64) -> u64 {
    (info & CAPS_MASK) >> CAPS_SHIFT
}

/// The number of words in an information word, at most [`MAX_LENGTH`].
#[inline]
#[must_use]
pub const fn length(info: u64) -> u64 {
    let length = info & LENGTH_MASK;
    if length > MAX_LENGTH {
        MAX_LENGTH
    } else {
        length
    }
}

/// An information word without capabilities.
#[inline]
#[must_use]
pub const fn info(label: u64, length: u64) -> u64 {
    (label << LABEL_SHIFT) | length
}

/// Kernel address of a thread's IPC buffer to read from, or zero.
#[inline]
#[must_use]
pub fn send_buffer(tcb: Ref<Tcb>) -> u64 {
    tcb.thread.ipc_buffer_kernel.get() & !1
}

/// Kernel address of a thread's IPC buffer to write to, or zero: it needs a writable frame.
#[inline]
#[must_use]
pub fn receive_buffer(tcb: Ref<Tcb>) -> u64 {
    let buffer = tcb.thread.ipc_buffer_kernel.get();
    if buffer & 1 == 1 { buffer & !1 } else { 0 }
}

/// Words that a thread can send with this information word.
#[inline]
#[must_use]
pub fn sendable(tcb: Ref<Tcb>, info: u64) -> u64 {
    let length = length(info);
    if send_buffer(tcb) == 0 {
        length.min(FAST_MESSAGE_REGISTERS)
    } else {
        length
    }
}

/// How many of `length` words a thread can receive.
#[inline]
#[must_use]
pub fn receivable(tcb: Ref<Tcb>, length: u64) -> u64 {
    if receive_buffer(tcb) == 0 {
        length.min(FAST_MESSAGE_REGISTERS)
    } else {
        length
    }
}

#[inline]
fn register(tcb: &Tcb, n: u64) -> Option<&Cell<u64>> {
    tcb.context.x.get(n.wrapping_add(2) as usize)
}

/// Word `n` of the message that a thread sends; zero where it has none.
#[inline]
#[must_use]
pub fn word<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, n: u64) -> u64 {
    if n < FAST_MESSAGE_REGISTERS {
        return register(&tcb, n).map_or(0, Cell::get);
    }
    let buffer = send_buffer(tcb);
    if buffer == 0 || n >= MAX_LENGTH {
        return 0;
    }
    k.arch
        .read_word(buffer.wrapping_add(offset::MESSAGE).wrapping_add(n << 3))
}

/// The words of the message that a thread sends, one by one.
pub struct Words<'k, A: Arch> {
    k: &'k Kernel<A>,
    sender: Ref<Tcb>,
    buffer: u64,
    next: u64,
    end: u64,
}

impl<'k, A: Arch> Words<'k, A> {
    /// Words `from..to` of those that it can send.
    #[inline]
    pub fn new(k: &'k Kernel<A>, sender: Ref<Tcb>, from: u64, to: u64) -> Self {
        let buffer = send_buffer(sender);
        let room = if buffer == 0 {
            FAST_MESSAGE_REGISTERS
        } else {
            MAX_LENGTH
        };
        Self {
            k,
            sender,
            buffer: buffer.wrapping_add(offset::MESSAGE),
            next: from,
            end: to.min(room),
        }
    }
}

impl<A: Arch> Iterator for Words<'_, A> {
    type Item = u64;

    #[inline(always)]
    fn next(&mut self) -> Option<u64> {
        let n = self.next;
        if n >= self.end {
            return None;
        }
        self.next = n.wrapping_add(1);
        if n < FAST_MESSAGE_REGISTERS {
            return register(&self.sender, n).map(Cell::get);
        }
        let place = self.buffer.wrapping_add(n << 3);
        Some(self.k.arch.read_word(place))
    }
}

/// Sets word `n` of the message that a thread receives; lost where it has no room.
#[inline]
pub fn set_word<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, n: u64, value: u64) {
    if n < FAST_MESSAGE_REGISTERS {
        if let Some(register) = register(&tcb, n) {
            register.set(value);
        }
        return;
    }
    let buffer = receive_buffer(tcb);
    if buffer != 0 && n < MAX_LENGTH {
        k.arch.write_word(
            buffer.wrapping_add(offset::MESSAGE).wrapping_add(n << 3),
            value,
        );
    }
}

/// Sets the words behind those in registers of the message that a thread receives; lost where it has no room. `words` are at
/// most 116.
#[inline(always)]
pub fn set_buffer_words<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, words: &[u64]) {
    let buffer = receive_buffer(tcb);
    if buffer == 0 {
        return;
    }
    let mut at = buffer.wrapping_add(offset::MESSAGE + (FAST_MESSAGE_REGISTERS << 3));
    for &word in words {
        k.arch.write_word(at, word);
        at = at.wrapping_add(8);
    }
}

/// Follows a capability address in a thread's capability space.
///
/// # Errors
/// Why it leads nowhere.
#[inline]
pub fn lookup(tcb: Ref<Tcb>, addr: u64) -> Result<Ref<Slot>, LookupFailure> {
    if let Some(slot) = lookup_flat(tcb, addr) {
        return Ok(slot);
    }
    lookup_deep(tcb, addr)
}

/// [`lookup`] for any capability space.
#[inline(never)]
fn lookup_deep(tcb: Ref<Tcb>, addr: u64) -> Result<Ref<Slot>, LookupFailure> {
    let root = tcb.slots[tcb_slot::CSPACE].cap.get();
    cnode::resolve(root, addr, ADDRESS_BITS).map(|found| found.slot)
}

/// [`lookup`] for a capability space of one CNode whose radix and guard make up the whole address; `None` for all others, and
/// for an address that leads nowhere.
#[inline(always)]
#[must_use]
pub fn lookup_flat(tcb: Ref<Tcb>, addr: u64) -> Option<Ref<Slot>> {
    let node = tcb.slots[tcb_slot::CSPACE].cap.get().as_cnode()?;
    let radix = node.radix() & 63;
    if radix.wrapping_add(node.guard_bits) != ADDRESS_BITS || addr >> radix != node.guard {
        return None;
    }
    Some(slot::of_cnode(&node, addr))
}

/// The slots of the capabilities that a message carries.
pub type ExtraCaps = [Option<Ref<Slot>>; MAX_CAPS];

/// A capability address of a message that leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadExtraCap {
    /// The address.
    pub addr: u64,
    /// Why.
    pub failure: LookupFailure,
}

/// The slot of the only capability of the message that a thread sends, in a capability space for [`lookup_flat`].
#[inline(always)]
#[must_use]
pub fn only_extra_cap<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>) -> Option<Ref<Slot>> {
    let buffer = send_buffer(tcb);
    if buffer == 0 {
        return None;
    }
    lookup_flat(tcb, k.arch.read_word(buffer.wrapping_add(offset::CAPS)))
}

/// Looks up the capabilities of the message that a thread sends.
///
/// # Errors
/// The first address that leads nowhere.
pub fn extra_caps<A: Arch>(
    k: &Kernel<A>,
    tcb: Ref<Tcb>,
    info: u64,
) -> Result<ExtraCaps, BadExtraCap> {
    let mut found = [None; MAX_CAPS];
    let buffer = send_buffer(tcb);
    let count = caps(info);
    if buffer == 0 || count == 0 {
        return Ok(found);
    }
    let mut at = buffer.wrapping_add(offset::CAPS);
    for (n, place) in (0u64..).zip(found.iter_mut()) {
        if n >= count {
            break;
        }
        let addr = k.arch.read_word(at);
        at = at.wrapping_add(8);
        match lookup(tcb, addr) {
            Ok(slot) => *place = Some(slot),
            Err(failure) => return Err(BadExtraCap { addr, failure }),
        }
    }
    Ok(found)
}

/// Transfers `sender`'s message, or the message about its fault, to `receiver`, who learns `badge`. Capabilities go along when `flags`
/// has [`ipc_flag::GRANT`]; those to `endpoint` itself arrive as their badge.
#[inline]
pub fn transfer<A: Arch>(
    k: &Kernel<A>,
    sender: Ref<Tcb>,
    receiver: Ref<Tcb>,
    endpoint: Option<Ref<Endpoint>>,
    badge: u64,
    flags: u8,
) {
    let from = &sender.context.x;
    let to = &receiver.context.x;
    if fault::pending(sender) {
        let (label, length) = fault::write_message(k, sender, receiver);
        to[0].set(badge);
        to[1].set(info(label.word(), length));
        return;
    }
    let tag = from[1].get();
    if is_short(tag) {
        transfer_short(sender, receiver, tag, badge);
        return;
    }
    to[0].set(badge);
    transfer_long(k, sender, receiver, endpoint, tag, flags);
}

/// Whether a message travels in registers only and carries no capability.
#[inline(always)]
#[must_use]
pub const fn is_short(tag: u64) -> bool {
    tag & (LENGTH_MASK | CAPS_MASK) <= FAST_MESSAGE_REGISTERS
}

/// Transfers a short message.
#[inline(always)]
pub fn transfer_short(sender: Ref<Tcb>, receiver: Ref<Tcb>, tag: u64, badge: u64) {
    let from = &sender.context.x;
    let to = &receiver.context.x;
    let length = tag & LENGTH_MASK;
    to[0].set(badge);
    to[1].set(tag & !UNSENT);
    if length != 0 {
        to[2].set(from[2].get());
        if length > 1 {
            to[3].set(from[3].get());
        }
        if length > 2 {
            to[4].set(from[4].get());
        }
        if length > 3 {
            to[5].set(from[5].get());
        }
    }
}

/// Transfers a message without capabilities, of any length, from a thread that is in no fault.
#[inline(always)]
pub fn transfer_plain<A: Arch>(
    k: &Kernel<A>,
    sender: Ref<Tcb>,
    receiver: Ref<Tcb>,
    tag: u64,
    badge: u64,
) {
    if is_short(tag) {
        transfer_short(sender, receiver, tag, badge);
    } else {
        receiver.context.x[0].set(badge);
        transfer_long(k, sender, receiver, None, tag, 0);
    }
}

/// Transfers a message with capabilities, of any length, from a thread that is in no fault.
#[inline(always)]
pub fn transfer_with_caps<A: Arch>(
    k: &Kernel<A>,
    sender: Ref<Tcb>,
    receiver: Ref<Tcb>,
    endpoint: Ref<Endpoint>,
    tag: u64,
    badge: u64,
    flags: u8,
) {
    receiver.context.x[0].set(badge);
    transfer_long(k, sender, receiver, Some(endpoint), tag, flags);
}

#[inline(never)]
fn transfer_long<A: Arch>(
    k: &Kernel<A>,
    sender: Ref<Tcb>,
    receiver: Ref<Tcb>,
    endpoint: Option<Ref<Endpoint>>,
    tag: u64,
    flags: u8,
) {
    // Looked up before anything is written: the two buffers can be the same memory.
    let extra = if flags & ipc_flag::GRANT != 0 && caps(tag) != 0 {
        extra_caps(k, sender, tag).unwrap_or([None; MAX_CAPS])
    } else {
        [None; MAX_CAPS]
    };
    let source = send_buffer(sender);
    let dest = receive_buffer(receiver);
    let mut length = length(tag);
    let from = &sender.context.x;
    let to = &receiver.context.x;
    for n in 2..6 {
        if length.wrapping_add(2) > n as u64 {
            to[n].set(from[n].get());
        }
    }
    if length > FAST_MESSAGE_REGISTERS {
        if source == 0 || dest == 0 {
            length = FAST_MESSAGE_REGISTERS;
        } else {
            let mut at = offset::MESSAGE.wrapping_add(FAST_MESSAGE_REGISTERS << 3);
            let end = offset::MESSAGE.wrapping_add(length << 3);
            while at < end {
                let value = k.arch.read_word(source.wrapping_add(at));
                k.arch.write_word(dest.wrapping_add(at), value);
                at = at.wrapping_add(8);
            }
        }
    }
    let received = if extra[0].is_some() && dest != 0 {
        transfer_caps(k, receiver, dest, endpoint, &extra)
    } else {
        0
    };
    to[1].set((tag >> LABEL_SHIFT << LABEL_SHIFT) | received | length);
}

/// Transfers capabilities into the receiver's slot; the bits of the information word that tell which arrived and how.
fn transfer_caps<A: Arch>(
    k: &Kernel<A>,
    receiver: Ref<Tcb>,
    buffer: u64,
    endpoint: Option<Ref<Endpoint>>,
    extra: &ExtraCaps,
) -> u64 {
    let mut free = receive_slot(k, receiver, buffer);
    let mut unwrapped = 0u64;
    let mut count = 0u64;
    for source in extra {
        let Some(source) = *source else { break };
        let cap = source.cap.get();
        if let Some((object, _)) = cap.as_endpoint()
            && Some(object) == endpoint
        {
            k.arch.write_word(
                buffer.wrapping_add(offset::CAPS).wrapping_add(count << 3),
                cap.word(),
            );
            unwrapped |= 1 << count;
        } else {
            let Some(dest) = free.take() else { break };
            let Ok(copy) = cnode::derive(source, cap) else {
                break;
            };
            if copy.is_null() {
                break;
            }
            cdt::insert_copy(copy, source, dest);
        }
        count = count.wrapping_add(1);
    }
    (unwrapped << UNWRAPPED_SHIFT) | (count << CAPS_SHIFT)
}

/// The empty slot that a receiver named in its IPC buffer, if there is one.
fn receive_slot<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, buffer: u64) -> Option<Ref<Slot>> {
    let field = |at: u64| k.arch.read_word(buffer.wrapping_add(at));
    let root: Cap = lookup(tcb, field(offset::RECEIVE_CNODE)).ok()?.cap.get();
    cnode::empty_operand(
        root,
        field(offset::RECEIVE_INDEX),
        field(offset::RECEIVE_DEPTH),
    )
    .ok()
}

/// The words of an answer, as they are put.
pub struct AnswerWords<'k, A: Arch> {
    k: &'k Kernel<A>,
    current: Ref<Tcb>,
    buffer: u64,
    written: u64,
    room: u64,
}

impl<'k, A: Arch> AnswerWords<'k, A> {
    /// An answer to this thread, of at most `most` words (at most 120).
    #[inline(always)]
    pub fn new(k: &'k Kernel<A>, current: Ref<Tcb>, most: u64) -> Self {
        Self {
            k,
            current,
            // Not the buffer that the message came from: that may be one that the thread must not write to.
            buffer: receive_buffer(current),
            written: 0,
            room: receivable(current, most),
        }
    }

    /// So many words are the answer.
    #[inline(always)]
    pub fn finish(self) {
        self.k.reply_length.set(self.written);
    }

    /// The next word; `None` when there is no room for it.
    #[inline(always)]
    pub fn put(&mut self, value: u64) -> Option<()> {
        let n = self.written;
        if n >= self.room {
            return None;
        }
        self.written = n.wrapping_add(1);
        if n < FAST_MESSAGE_REGISTERS {
            let register = self.current.context.x.get(n.wrapping_add(2) as usize)?;
            register.set(value);
        } else {
            let place = self.buffer.wrapping_add(n.wrapping_add(1) << 3);
            self.k.arch.write_word(place, value);
        }
        Some(())
    }
}
