//! What a system call hands to an object when its capability is invoked, and how the object answers.
//!
//! `syscall` gathers the message and calls a `decode` function; the function checks everything, acts, and
//! returns an [`Outcome`](crate::object::error::Outcome). An `Err` has changed nothing. `Ok(Progress::Preempted)` means: make the same
//! system call again later.

use crate::arch::Arch;
use crate::cap::Cap;
use crate::object::error::Error;
use crate::object::mem::Ref;
use crate::object::{Slot, Tcb};
use crate::run::ipc::{AnswerWords, FAST_MESSAGE_REGISTERS};
use crate::state::kernel::Kernel;
use core::cell::Cell;

/// Whether the caller waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The system call was `Call`.
    Wanted,
    /// It was a send of some kind: results are dropped.
    Dropped,
}

/// One invocation of a kernel object.
#[derive(Clone, Copy)]
pub struct Invocation {
    /// What is asked: a label of `sel4_sys::Invocation`.
    pub label: u64,
    /// The invoked capability, as it was when the system call began.
    pub cap: Cap,
    /// Where it lies.
    pub slot: Ref<Slot>,
    /// Number of words in the message; at most what registers and the IPC buffer (when there is one) hold.
    pub length: u64,
    /// Kernel address of the sender's IPC buffer, or zero.
    pub buffer: u64,
    /// The capabilities sent along, in order; `None` from the first missing one on.
    pub extra: [Option<Ref<Slot>>; 3],
    /// Whether an answer is wanted.
    pub answer: Answer,
    /// The thread that makes the call.
    pub current: Ref<Tcb>,
}

impl Invocation {
    /// Word `n` of the message; zero where there is none. Words 0..=3 are registers, the rest lies in the IPC buffer.
    #[inline]
    pub fn word<A: Arch>(&self, k: &Kernel<A>, n: u64) -> u64 {
        if n < FAST_MESSAGE_REGISTERS {
            self.current
                .context
                .x
                .get(n.wrapping_add(2) as usize)
                .map_or(0, Cell::get)
        } else if self.buffer != 0 && n < 120 {
            k.arch
                .read_word(self.buffer.wrapping_add(n.wrapping_add(1) << 3))
        } else {
            0
        }
    }

    /// `Err(TruncatedMessage)` unless the message has at least this many words.
    ///
    /// # Errors
    /// [`Error::TruncatedMessage`].
    #[inline]
    pub const fn need_words(&self, words: u64) -> Result<(), Error> {
        if self.length < words {
            Err(Error::TruncatedMessage)
        } else {
            Ok(())
        }
    }

    /// The slot of capability `n` of the message.
    ///
    /// # Errors
    /// [`Error::TruncatedMessage`] when it was not sent.
    #[inline]
    pub fn extra(&self, n: usize) -> Result<Ref<Slot>, Error> {
        match self.extra.get(n) {
            Some(Some(slot)) => Ok(*slot),
            _ => Err(Error::TruncatedMessage),
        }
    }

    /// Writes the answer's words into the caller's message registers, when it wants one, and their number into
    /// [`Kernel::reply_length`]. To be called at most once, after the last look at [`Self::word`].
    #[inline]
    pub fn answer<A: Arch>(&self, k: &Kernel<A>, words: &[u64]) {
        self.answer_with(k, words.len() as u64, |out| {
            for word in words {
                out.put(*word)?;
            }
            None
        });
    }

    /// [`Self::answer`] with at most `most` words (at most 120) that are put one by one.
    #[inline]
    pub fn answer_with<A: Arch>(
        &self,
        k: &Kernel<A>,
        most: u64,
        fill: impl FnOnce(&mut AnswerWords<'_, A>) -> Option<()>,
    ) {
        if self.answer == Answer::Dropped {
            return;
        }
        let mut out = AnswerWords::new(k, self.current, most);
        let _ = fill(&mut out);
        out.finish();
    }
}
