//! The ledger's operations as seL4 invocations.

use crate::ledger_slot;
use cap::{CNode, CapRights, Error, Notification, ObjectType, Reply, Slot, Tcb, Untyped, own_slot};
use memory_server_core::{CleanerPace, Kernel, KernelError, Place, Presence};
use protocol::schedule;
use protocol::slots::memory as slots;
use protocol::units::{GuestId, PieceId, Pieces};

/// Whether the outgoing slot holds a copy of an earlier grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outgoing {
    Empty,
    Used,
}

/// The kernel, as the server's rules see it.
pub struct Ledger {
    total: Pieces,
    /// Holds the cleaner's call, or nobody's.
    spare: Reply,
    outgoing: Outgoing,
}

impl Ledger {
    /// A ledger of `total` pieces. `spare` is the reply object that the main loop does not receive with.
    pub const fn new(total: Pieces, spare: Reply) -> Self {
        Self {
            total,
            spare,
            // A predecessor may have left one.
            outgoing: Outgoing::Used,
        }
    }

    /// Keeps the call that `reply` stands for; returns the reply object to go on with.
    pub const fn hold(&mut self, reply: Reply) -> Reply {
        core::mem::replace(&mut self.spare, reply)
    }

    fn slot(&self, piece: PieceId, place: Place) -> Slot {
        let node = match place {
            Place::Pool => slots::POOL,
            Place::Dirty => slots::DIRTY,
            Place::Guest(GuestId(id)) => slots::OWNERS + u64::from(id),
        };
        ledger_slot(node, self.total, piece)
    }
}

const fn number(error: Error) -> KernelError {
    KernelError(error.code())
}

/// Whether a slot is occupied, by trying to copy nothing into it: an occupied one says `DeleteFirst` before the empty
/// source is looked at (seL4 manual, CNode - Copy). Slot 0 of every component is empty for ever.
fn probe(slot: Slot) -> Result<Presence, KernelError> {
    match own_slot(0).copy_to(slot, CapRights::ALL) {
        Err(Error::DeleteFirst) => Ok(Presence::Full),
        Err(Error::FailedLookup { source: 1, .. }) => Ok(Presence::Empty),
        Err(error) => Err(number(error)),
        Ok(()) => Err(KernelError(0)),
    }
}

impl Kernel for Ledger {
    fn move_untyped(&mut self, piece: PieceId, from: Place, to: Place) -> Result<(), KernelError> {
        let to = self.slot(piece, to);
        self.slot(piece, from).move_to(to).map_err(number)
    }

    fn revoke(&mut self, piece: PieceId, at: Place) -> Result<(), KernelError> {
        self.slot(piece, at).revoke().map_err(number)
    }

    fn stage_frame(&mut self, piece: PieceId) -> Result<(), KernelError> {
        let outgoing = own_slot(slots::OUTGOING);
        if self.outgoing == Outgoing::Used {
            outgoing.delete().map_err(number)?;
            self.outgoing = Outgoing::Empty;
        }
        ledger_slot(slots::FRAMES, self.total, piece)
            .copy_to(outgoing, CapRights::READ_WRITE)
            .map_err(number)?;
        self.outgoing = Outgoing::Used;
        Ok(())
    }

    fn untyped_at(&mut self, piece: PieceId, place: Place) -> Result<Presence, KernelError> {
        probe(self.slot(piece, place))
    }

    fn frame_present(&mut self, piece: PieceId) -> Result<Presence, KernelError> {
        probe(ledger_slot(slots::FRAMES, self.total, piece))
    }

    fn signal_guest(&mut self, guest: GuestId) {
        // The rules name admitted guests only, below MAX_GUESTS; a signal to an empty slot is lost.
        Notification::new(slots::VMM_SIGNALS + u64::from(guest.0)).signal();
    }

    fn signal_balancer(&mut self) {
        Notification::new(slots::BALANCER_SIGNAL).signal();
    }

    fn hand_to_cleaner(&mut self, piece: PieceId) {
        let answer = protocol::memory::Reply::Clean(piece);
        if self.spare.send_value(&answer, None).is_err() {
            rt::fail("the cleaner cannot be answered");
        }
    }

    fn pace_cleaner(&mut self, pace: CleanerPace) {
        let priority = match pace {
            CleanerPace::Idle => schedule::CLEANER.priority,
            CleanerPace::Hurried => schedule::CLEANER_HURRIED.priority,
        };
        let authority = Tcb::new(slots::AUTHORITY);
        if let Err(error) = Tcb::new(slots::CLEANER_TCB).set_priority(authority, priority) {
            rt::say(format_args!("memory server: cleaner's priority: {error:?}"));
        }
    }
}

/// Makes the frame of a dirty piece: the retype zeroes it and cleans it. An untyped is invoked by a capability pointer
/// and those in ledger CNodes have none, so it is done through a copy, which goes away again; the frame stays below the
/// piece's own untyped.
///
/// # Errors
/// The kernel's. What was begun is undone by the revocation that precedes the next attempt.
pub fn make_frame(total: Pieces, piece: PieceId) -> Result<(), Error> {
    let work = own_slot(slots::CLEANING);
    // Left over when a predecessor died here; empty otherwise.
    work.delete()?;
    ledger_slot(slots::DIRTY, total, piece).copy_to(work, CapRights::ALL)?;
    let made = Untyped::new(slots::CLEANING).retype(
        ObjectType::LargePage,
        0,
        CNode::new(slots::FRAMES),
        u64::from(piece.0),
        1,
    );
    work.delete()?;
    made
}
