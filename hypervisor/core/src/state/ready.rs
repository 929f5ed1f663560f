//! The ready queues: threads that can run, by priority, with a bitmap of the priorities that have one.
//!
//! # Invariants
//! - A thread is in a queue exactly when it has [`queued::READY`], and then in that of its priority.
//! - A priority's bit is set exactly when its queue has a thread; a word's bit in `words` exactly when the word is not zero.

use crate::object::mem::Ref;
use crate::object::{Link, Tcb, queued};
use core::cell::Cell;

/// The queues.
pub struct ReadyQueues {
    heads: [Link<Tcb>; 256],
    tails: [Link<Tcb>; 256],
    /// One bit for each priority with a thread; `words` has one bit for each word that is not zero.
    bits: [Cell<u64>; 4],
    words: Cell<u64>,
}

impl Default for ReadyQueues {
    fn default() -> Self {
        Self::new()
    }
}

impl ReadyQueues {
    /// Nothing is ready.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            heads: [const { Cell::new(None) }; 256],
            tails: [const { Cell::new(None) }; 256],
            bits: [const { Cell::new(0) }; 4],
            words: Cell::new(0),
        }
    }

    /// Highest priority in the ready queues.
    #[inline]
    #[must_use]
    pub fn highest(&self) -> Option<u8> {
        let words = self.words.get();
        if words == 0 {
            return None;
        }
        let word = 63u32.wrapping_sub(words.leading_zeros()) & 3;
        let bits = self.bits.get(word as usize).map_or(0, Cell::get);
        let bit = 63u32.wrapping_sub(bits.leading_zeros()) & 63;
        Some(((word << 6) | bit) as u8)
    }

    /// First thread in the ready queue of a priority.
    #[must_use]
    pub fn first_ready(&self, priority: u8) -> Option<Ref<Tcb>> {
        self.heads[usize::from(priority)].get()
    }

    #[inline]
    fn mark(&self, priority: u8) {
        let word = priority >> 6;
        let cell = &self.bits[usize::from(word)];
        cell.set(cell.get() | 1 << (priority & 63));
        self.words.set(self.words.get() | 1 << word);
    }

    #[inline]
    fn unmark(&self, priority: u8) {
        let word = priority >> 6;
        let cell = &self.bits[usize::from(word)];
        let bits = cell.get() & !(1 << (priority & 63));
        cell.set(bits);
        if bits == 0 {
            self.words.set(self.words.get() & !(1 << word));
        }
    }

    /// Puts a thread that is in no queue first among its priority; nothing when it is ready already.
    #[inline]
    pub(crate) fn push_front(&self, tcb: Ref<Tcb>) {
        let t = &tcb.thread;
        if t.queued.get() & queued::READY != 0 {
            return;
        }
        t.queued.set(t.queued.get() | queued::READY);
        let priority = t.priority.get();
        let head = &self.heads[usize::from(priority)];
        let first = head.get();
        t.sched_prev.set(None);
        t.sched_next.set(first);
        head.set(Some(tcb));
        match first {
            Some(first) => first.thread.sched_prev.set(Some(tcb)),
            None => {
                self.tails[usize::from(priority)].set(Some(tcb));
                self.mark(priority);
            }
        }
    }

    /// Puts it last.
    #[inline]
    pub(crate) fn push_back(&self, tcb: Ref<Tcb>) {
        let t = &tcb.thread;
        if t.queued.get() & queued::READY != 0 {
            return;
        }
        t.queued.set(t.queued.get() | queued::READY);
        let priority = t.priority.get();
        let tail = &self.tails[usize::from(priority)];
        let last = tail.get();
        t.sched_next.set(None);
        t.sched_prev.set(last);
        tail.set(Some(tcb));
        match last {
            Some(last) => last.thread.sched_next.set(Some(tcb)),
            None => {
                self.heads[usize::from(priority)].set(Some(tcb));
                self.mark(priority);
            }
        }
    }

    /// Takes a thread out; nothing when it is not there.
    #[inline]
    pub(crate) fn take_out(&self, tcb: Ref<Tcb>) {
        let t = &tcb.thread;
        if t.queued.get() & queued::READY == 0 {
            return;
        }
        t.queued.set(t.queued.get() & !queued::READY);
        let priority = t.priority.get();
        let prev = t.sched_prev.get();
        let next = t.sched_next.get();
        match next {
            Some(next) => next.thread.sched_prev.set(prev),
            None => self.tails[usize::from(priority)].set(prev),
        }
        match prev {
            Some(prev) => prev.thread.sched_next.set(next),
            None => {
                self.heads[usize::from(priority)].set(next);
                if next.is_none() {
                    self.unmark(priority);
                }
            }
        }
    }

    /// The first thread of the highest priority, out of its queue.
    #[inline]
    pub(crate) fn pop_highest(&self) -> Option<Ref<Tcb>> {
        let tcb = self.heads[usize::from(self.highest()?)].get()?;
        self.take_out(tcb);
        Some(tcb)
    }

    /// Everything that waits in ready queues; for checks.
    #[cfg(any(test, feature = "fixture"))]
    pub(crate) fn threads(&self) -> std::vec::Vec<Ref<Tcb>> {
        let mut all = std::vec::Vec::new();
        for head in &self.heads {
            let mut next = head.get();
            while let Some(tcb) = next {
                all.push(tcb);
                next = tcb.thread.sched_next.get();
            }
        }
        all
    }

    /// Whether the bitmap says what the queues say; for checks.
    #[cfg(any(test, feature = "fixture"))]
    pub(crate) fn bitmap_is_right(&self) -> bool {
        (0..=255u8).all(|p| {
            let bit = self.bits[usize::from(p >> 6)].get() >> (p & 63) & 1 == 1;
            bit == self.heads[usize::from(p)].get().is_some()
                && bit == self.tails[usize::from(p)].get().is_some()
        }) && (0..4).all(|w| (self.words.get() >> w & 1 == 1) == (self.bits[w].get() != 0))
    }
}
