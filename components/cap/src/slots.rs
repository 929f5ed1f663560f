//! CNodes and the slots in them.

use crate::{Error, capability, thread};
use sel4_sys::{CapRights, Invocation, WORD_BITS};

capability! {
    /// A CNode.
    CNode;
}

impl CNode {
    /// The slot that `index` resolves to below this CNode with `depth` bits (guard included).
    #[must_use]
    pub const fn slot(self, index: u64, depth: u32) -> Slot {
        Slot {
            root: self,
            index,
            depth,
        }
    }
}

/// A slot of the component's own capability space, whose root fills all 64 bits: slot number = capability pointer.
#[must_use]
pub const fn own_slot(index: u64) -> Slot {
    CNode::new(protocol::slots::CNODE).slot(index, WORD_BITS)
}

/// A capability slot: an index of `depth` bits below a CNode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The CNode.
    pub root: CNode,
    /// The index.
    pub index: u64,
    /// Bits of it that are resolved, 1..=64.
    pub depth: u32,
}

impl Slot {
    const fn depth_word(self) -> u64 {
        self.depth as u64
    }

    /// Copies the capability here to `dest` with at most `rights`.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, CNode - Copy); `DeleteFirst` when `dest` is occupied.
    pub fn copy_to(self, dest: Self, rights: CapRights) -> Result<(), Error> {
        let words = [
            dest.index,
            dest.depth_word(),
            self.index,
            self.depth_word(),
            rights.0,
        ];
        thread::invoke(
            dest.root.cptr(),
            Invocation::CNodeCopy,
            &words,
            &[self.root.cptr()],
        )
        .map(drop)
    }

    /// Copies the capability here to `dest` with at most `rights` and a badge (or, of a CNode, its guard data).
    ///
    /// # Errors
    /// The kernel's (seL4 manual, CNode - Mint).
    pub fn mint_to(self, dest: Self, rights: CapRights, badge: u64) -> Result<(), Error> {
        let words = [
            dest.index,
            dest.depth_word(),
            self.index,
            self.depth_word(),
            rights.0,
            badge,
        ];
        thread::invoke(
            dest.root.cptr(),
            Invocation::CNodeMint,
            &words,
            &[self.root.cptr()],
        )
        .map(drop)
    }

    /// Moves the capability here to `dest`.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, CNode - Move).
    pub fn move_to(self, dest: Self) -> Result<(), Error> {
        let words = [dest.index, dest.depth_word(), self.index, self.depth_word()];
        thread::invoke(
            dest.root.cptr(),
            Invocation::CNodeMove,
            &words,
            &[self.root.cptr()],
        )
        .map(drop)
    }

    /// Moves the capability here to `dest` and sets its badge or guard data.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, CNode - Mutate).
    pub fn mutate_to(self, dest: Self, badge: u64) -> Result<(), Error> {
        let words = [
            dest.index,
            dest.depth_word(),
            self.index,
            self.depth_word(),
            badge,
        ];
        thread::invoke(
            dest.root.cptr(),
            Invocation::CNodeMutate,
            &words,
            &[self.root.cptr()],
        )
        .map(drop)
    }

    fn on_slot(self, label: Invocation) -> Result<(), Error> {
        thread::invoke(
            self.root.cptr(),
            label,
            &[self.index, self.depth_word()],
            &[],
        )
        .map(drop)
    }

    /// Deletes the capability here; the object goes with its last capability.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, CNode - Delete).
    pub fn delete(self) -> Result<(), Error> {
        self.on_slot(Invocation::CNodeDelete)
    }

    /// Deletes every capability derived from the one here. Of an untyped: destroys all objects made from it.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, CNode - Revoke).
    pub fn revoke(self) -> Result<(), Error> {
        self.on_slot(Invocation::CNodeRevoke)
    }

    /// Cancels the sends in progress that used the badge of the endpoint capability here.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, CNode - Cancel Badged Sends).
    pub fn cancel_badged_sends(self) -> Result<(), Error> {
        self.on_slot(Invocation::CNodeCancelBadgedSends)
    }
}
