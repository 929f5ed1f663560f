//! The guest's memory piece by piece.
//!
//! Invariants:
//! 1. Piece `i` below the startup size lies at RAM + i * 2 MiB, the others follow in the hot-plug region.
//! 2. [`State::Granted`] exactly while the memory server's last word on the piece was a grant, and as many pieces are
//!    [`State::Reported`] as it has earmarked: what the guest may touch is one or the other, so it is promised.
//! 3. A piece is mapped for the guest at its first touch, so one that is neither mapped nor open in the window still holds
//!    zeros: it can be taken by force and come back without a difference.
//! 4. A piece's balloon bits count pages that the guest gave up; a piece with all 512 set and granted is about to
//!    be given back.

mod cushion;
mod leave;
mod surplus;
mod touch;

use core::ops::Range;
use protocol::layout::ipa as map;
use protocol::memory::{Purpose, Refusal, ReturnReason};
use protocol::units::{PIECE_BITS, PIECE_BYTES, PieceId, Pieces};

mod view;

pub use view::View;

/// Most pieces of a guest: 8 GiB.
pub const MAX_PIECES: usize = 4096;
/// Balloon pages (4 KiB; virtio 1.3, 5.5.6) in a piece.
pub const PAGES_PER_PIECE: u32 = 512;

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not plugged: the guest has no right to touch it.
    Absent,
    /// The guest has it.
    Granted(PieceId),
    /// It is promised to the guest and has no frame, because the guest reported it free or has not touched it since it
    /// was plugged: it comes at the next touch.
    Reported,
    /// Wholly in the balloon and given back.
    Ballooned,
    /// Taken by force.
    Revoked,
    /// It holds nothing and is not promised (taken by force before anybody had touched it, about to be unplugged, or plugged
    /// for the balloon): it comes at the first touch.
    Unused,
}

/// The memory server and the VMM's address space, as this crate needs them.
pub trait Supply {
    /// Obtains a piece as the guest's piece `index`.
    ///
    /// # Errors
    /// The server's refusal; nothing has changed.
    fn take(&mut self, index: u32, purpose: Purpose) -> Result<PieceId, Refusal>;
    /// Maps piece `index` for the guest at `ipa`.
    ///
    /// # Errors
    /// [`Vanished`] when that fails: the piece was taken by force.
    fn map(&mut self, index: u32, ipa: u64) -> Result<(), Vanished>;
    /// Tells the server that of this guest's pieces it may best take this one, if it has to.
    fn offer_first(&mut self, piece: PieceId);
    /// Gives the guest's piece `index` back. Afterwards no mapping of it is left.
    ///
    /// # Errors
    /// The server's refusal.
    fn give_back(&mut self, index: u32, piece: PieceId, why: ReturnReason) -> Result<(), Refusal>;
    /// Promises so many pieces to the guest without a frame.
    ///
    /// # Errors
    /// The server's refusal; nothing has changed.
    fn earmark(&mut self, pieces: Pieces) -> Result<(), Refusal>;
    /// Pieces that were promised without a frame are given up for good.
    fn drop_earmark(&mut self, pieces: Pieces);
    /// Makes piece `index` visible in the VMM's own window.
    ///
    /// # Errors
    /// [`Vanished`] when that fails: the piece was taken by force.
    fn open_window(&mut self, index: u32, ipa: u64) -> Result<(), Vanished>;
    /// Copies out of the window.
    ///
    /// # Errors
    /// [`Vanished`] when the memory was taken by force under the copy.
    fn copy_out(&mut self, ipa: u64, into: &mut [u8]) -> Result<(), Vanished>;
    /// Copies into the window.
    ///
    /// # Errors
    /// [`Vanished`] when the memory was taken by force under the copy.
    fn copy_in(&mut self, ipa: u64, from: &[u8]) -> Result<(), Vanished>;
}

/// Memory that was there is there no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vanished;

/// Whether the VMM sees a piece in its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    Closed,
    Open,
}

/// Whether the guest's address space has a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mapping {
    Missing,
    Present,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    mapping: Mapping,
    window: Window,
    ballooned_pages: u16,
}

impl Entry {
    /// Neither the guest nor a device has had access: it holds zeros.
    fn is_untouched(&self) -> bool {
        (self.mapping, self.window) == (Mapping::Missing, Window::Closed)
    }
}

/// Why a piece could not be brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TouchError {
    /// The guest has no right to it.
    Foreign,
    /// It was taken by force.
    Revoked,
    /// Not at this moment; the memory server will signal.
    NotReady,
    /// Its earmark was taken by force, and it has reached its target: the memory server signals when that changes.
    Refused,
}

/// Whether the guest comes to have more by a deflation than it was asked to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// It does.
    Yes,
    /// It does not: its kernel moves the page elsewhere, or gives back what was asked of it.
    No,
}

/// What [`Table::map`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// The piece was not mapped and is now.
    Now,
    /// It was mapped.
    Before,
}

/// The room that a table needs, all zero at first so that it costs no byte of a program's file.
#[derive(Debug)]
pub struct Storage {
    entries: [Entry; MAX_PIECES],
    bits: [[u64; 8]; MAX_PIECES],
}

impl Storage {
    /// Room for [`MAX_PIECES`] absent pieces.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: [Entry {
                state: State::Absent,
                mapping: Mapping::Missing,
                window: Window::Closed,
                ballooned_pages: 0,
            }; MAX_PIECES],
            bits: [[0; 8]; MAX_PIECES],
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self::new()
    }
}

/// The table.
#[derive(Debug)]
pub struct Table {
    storage: &'static mut Storage,
    startup: u32,
    hotplug_base: u64,
    hotplug: u32,
    ballooned_pages: u32,
    returned_by_balloon: u32,
    reported: u32,
    plugged: u32,
    granted: u32,
    keep: u32,
    plug_wish: u32,
    cushion: u32,
    unused: u32,
}

impl Table {
    /// A table of nothing; [`Table::set_up`] says how much there is.
    #[must_use]
    pub const fn new(storage: &'static mut Storage) -> Self {
        Self {
            storage,
            startup: 0,
            hotplug_base: 0,
            hotplug: 0,
            ballooned_pages: 0,
            returned_by_balloon: 0,
            reported: 0,
            plugged: 0,
            granted: 0,
            keep: 0,
            plug_wish: u32::MAX,
            cushion: 0,
            unused: 0,
        }
    }

    /// Sets the sizes: startup memory, and the hot-plug region as far as the table has room. The region lies at the
    /// first multiple of 1 GiB at or above both the end of startup memory and 4 GiB.
    pub fn set_up(&mut self, startup: Pieces, hotplug_bytes: u64) {
        self.startup = startup.0.min(MAX_PIECES as u32);
        let ram_end = map::RAM + u64::from(self.startup) * PIECE_BYTES;
        self.hotplug_base = ram_end
            .max(map::HOTPLUG_MIN)
            .next_multiple_of(map::HOTPLUG_ALIGN);
        let room = MAX_PIECES as u64 - u64::from(self.startup);
        self.hotplug = (hotplug_bytes / PIECE_BYTES).min(room) as u32;
    }

    /// Startup pieces.
    #[must_use]
    pub const fn startup(&self) -> u32 {
        self.startup
    }

    /// Pieces that the hot-plug region has room for.
    #[must_use]
    pub const fn hotplug(&self) -> u32 {
        self.hotplug
    }

    /// First byte of the hot-plug region.
    #[must_use]
    pub const fn hotplug_base(&self) -> u64 {
        self.hotplug_base
    }

    /// Plugged pieces of the hot-plug region.
    #[must_use]
    pub const fn plugged(&self) -> u32 {
        self.plugged
    }

    /// Pages in the balloon.
    #[must_use]
    pub const fn ballooned_pages(&self) -> u32 {
        self.ballooned_pages
    }

    /// Pages in the balloon whose piece could not go back.
    #[must_use]
    pub const fn stranded_pages(&self) -> u32 {
        self.ballooned_pages
            .saturating_sub(self.returned_by_balloon * PAGES_PER_PIECE)
    }

    /// Pieces promised without a frame.
    #[must_use]
    pub const fn reported(&self) -> u32 {
        self.reported
    }

    /// Pieces that the guest has, ready to be touched.
    #[must_use]
    pub const fn granted(&self) -> u32 {
        self.granted
    }

    /// Says how many pieces the guest keeps although it reports them free: what it uses and its buffer, which is there
    /// to be ready. Only what is beyond them goes back by a report.
    pub const fn set_keep(&mut self, pieces: u32) {
        self.keep = pieces;
    }

    /// The piece that holds an address.
    #[must_use]
    pub fn index_of(&self, ipa: u64) -> Option<u32> {
        let region = |base: u64, pieces: u32, first: u32| {
            let piece = ipa.checked_sub(base)? >> PIECE_BITS;
            (piece < u64::from(pieces)).then_some(first + piece as u32)
        };
        region(map::RAM, self.startup, 0)
            .or_else(|| region(self.hotplug_base, self.hotplug, self.startup))
    }

    /// The address of a piece.
    #[must_use]
    pub fn ipa_of(&self, index: u32) -> u64 {
        match index.checked_sub(self.startup) {
            None => map::RAM + u64::from(index) * PIECE_BYTES,
            Some(plug) => self.hotplug_base + u64::from(plug) * PIECE_BYTES,
        }
    }

    fn entry(&self, index: u32) -> Option<&Entry> {
        if index >= self.startup + self.hotplug {
            return None;
        }
        self.storage.entries.get(index as usize)
    }

    /// A piece's state; `Absent` for one that does not exist.
    #[must_use]
    pub fn state(&self, index: u32) -> State {
        self.entry(index).map_or(State::Absent, |entry| entry.state)
    }

    fn set_state(&mut self, index: u32, state: State) {
        let old = self.state(index);
        if let Some(entry) = self.storage.entries.get_mut(index as usize) {
            entry.state = state;
            entry.mapping = Mapping::Missing;
            entry.window = Window::Closed;
        }
        let step = |count: &mut u32, was: State, kind: State| {
            if was == kind {
                *count = count.saturating_sub(1);
            }
            if state == kind {
                *count += 1;
            }
        };
        step(&mut self.reported, old, State::Reported);
        step(&mut self.returned_by_balloon, old, State::Ballooned);
        step(&mut self.unused, old, State::Unused);
        if matches!(old, State::Granted(_)) {
            self.granted = self.granted.saturating_sub(1);
        }
        if matches!(state, State::Granted(_)) {
            self.granted += 1;
        }
        if index >= self.startup {
            match (old, state) {
                (State::Absent, State::Absent) => {}
                (State::Absent, _) => self.plugged += 1,
                (_, State::Absent) => self.plugged = self.plugged.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// Takes a piece that the guest does not have: at start, for a plug, for a deflation.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn take(&mut self, index: u32, supply: &mut impl Supply) -> Result<(), Refusal> {
        let purpose = match self.state(index) {
            State::Granted(_) => return Ok(()),
            State::Reported => Purpose::Touched,
            State::Absent | State::Ballooned | State::Revoked | State::Unused => Purpose::Grow,
        };
        let piece = supply.take(index, purpose)?;
        self.set_state(index, State::Granted(piece));
        Ok(())
    }

    /// Gives the guest the right to touch pieces that it does not have, all of them absent: they are promised, and their
    /// frames come at the first touch. So memory can be plugged ahead of the need for it, and be taken back without cost.
    ///
    /// # Errors
    /// The server's refusal; nothing has changed.
    pub fn promise(&mut self, pieces: Range<u32>, supply: &mut impl Supply) -> Result<(), Refusal> {
        supply.earmark(Pieces(pieces.len() as u32))?;
        for index in pieces {
            self.set_state(index, State::Reported);
        }
        Ok(())
    }

    /// Says how many plugged pieces the guest is asked to have. What it has beyond them goes back by its unplugging, and is
    /// not taken elsewhere by a report: that would have to be brought back when the unplugging is done.
    pub const fn set_plug_wish(&mut self, pieces: u32) {
        self.plug_wish = pieces;
    }

    /// The guest reported every page of these bytes free: whole pieces in them go back, down to what the guest keeps.
    /// How many did.
    pub fn report_free(&mut self, ipa: u64, len: u64, supply: &mut impl Supply) -> u32 {
        let (Some(end), Some(first)) = (
            ipa.checked_add(len),
            ipa.checked_next_multiple_of(PIECE_BYTES),
        ) else {
            return 0;
        };
        let mut given = 0;
        let mut at = first.max(map::RAM);
        let leaving = self.plugged.saturating_sub(self.plug_wish);
        let least = self.keep.saturating_add(leaving);
        // At most one pass over all pieces: addresses between the regions are skipped.
        while self.granted > least && at.checked_add(PIECE_BYTES).is_some_and(|next| next <= end) {
            match self.index_of(at) {
                Some(index) => {
                    if let State::Granted(piece) = self.state(index)
                        && supply
                            .give_back(index, piece, ReturnReason::Reported)
                            .is_ok()
                    {
                        self.set_state(index, State::Reported);
                        given += 1;
                    }
                    at += PIECE_BYTES;
                }
                None if at < self.hotplug_base => at = self.hotplug_base,
                None => break,
            }
        }
        given
    }

    /// Brings back what was reported free until the guest has all that it keeps. What cannot come at this moment is
    /// tried again on the memory server's signal.
    pub fn restore(&mut self, supply: &mut impl Supply) {
        let mut index = 0;
        while self.granted < self.keep && self.reported > 0 && index < self.startup + self.hotplug {
            if self.state(index) == State::Reported && self.take(index, supply).is_err() {
                return;
            }
            index += 1;
        }
    }

    /// Puts a page into the balloon. Its piece goes back when it was the last one.
    ///
    /// # Errors
    /// [`TouchError::Foreign`] when the guest does not have the page.
    pub fn inflate(&mut self, page: u64, supply: &mut impl Supply) -> Result<(), TouchError> {
        let (index, word, bit) = self.locate(page)?;
        if matches!(self.state(index), State::Absent | State::Revoked) {
            return Err(TouchError::Foreign);
        }
        let Some(slot) = self
            .storage
            .bits
            .get_mut(index as usize)
            .and_then(|bits| bits.get_mut(word))
        else {
            return Err(TouchError::Foreign);
        };
        if *slot & bit != 0 {
            return Ok(());
        }
        *slot |= bit;
        self.ballooned_pages += 1;
        let mut full = false;
        if let Some(entry) = self.storage.entries.get_mut(index as usize) {
            entry.ballooned_pages += 1;
            full = u32::from(entry.ballooned_pages) == PAGES_PER_PIECE;
        }
        if full {
            self.fill(index, supply);
        }
        Ok(())
    }

    /// Takes a page out of the balloon; its piece is promised again before the guest is told. Without growth it may stay
    /// unpromised: the guest's promise is for an amount, which it has elsewhere.
    ///
    /// # Errors
    /// [`TouchError::NotReady`] when the server refuses to promise it: ask again; [`TouchError::Foreign`] for a
    /// page that does not exist.
    pub fn deflate(
        &mut self,
        page: u64,
        growth: Growth,
        supply: &mut impl Supply,
    ) -> Result<(), TouchError> {
        let (index, word, bit) = self.locate(page)?;
        let ballooned = self
            .storage
            .bits
            .get(index as usize)
            .and_then(|bits| bits.get(word))
            .is_some_and(|word| word & bit != 0);
        if !ballooned {
            return Ok(());
        }
        if matches!(self.state(index), State::Ballooned | State::Unused)
            && self.promise(index..index + 1, supply).is_err()
        {
            if growth == Growth::Yes {
                return Err(TouchError::NotReady);
            }
            self.set_state(index, State::Unused);
        }
        self.clear_page(index, word, bit);
        Ok(())
    }

    fn clear_page(&mut self, index: u32, word: usize, bit: u64) {
        if let Some(slot) = self
            .storage
            .bits
            .get_mut(index as usize)
            .and_then(|bits| bits.get_mut(word))
        {
            *slot &= !bit;
        }
        if let Some(entry) = self.storage.entries.get_mut(index as usize) {
            entry.ballooned_pages = entry.ballooned_pages.saturating_sub(1);
        }
        self.ballooned_pages = self.ballooned_pages.saturating_sub(1);
    }

    /// The balloon is empty again (the driver reset the device): its pages are the guest's once more. Returned pieces
    /// become like reported ones only after they are promised again, so this asks for each; those that cannot be
    /// now stay ballooned and are tried again. How many are still missing.
    pub fn empty_balloon(&mut self, supply: &mut impl Supply) -> u32 {
        let mut missing = 0;
        for index in 0..self.startup + self.hotplug {
            if self
                .entry(index)
                .is_none_or(|entry| entry.ballooned_pages == 0)
            {
                continue;
            }
            if self.state(index) == State::Ballooned {
                if index >= self.startup {
                    // A new kernel knows of it only when its driver has plugged it again.
                    self.set_state(index, State::Unused);
                } else if self.promise(index..index + 1, supply).is_err() {
                    missing += 1;
                    continue;
                }
            }
            self.forget_pages(index);
        }
        missing
    }

    fn forget_pages(&mut self, index: u32) {
        if let Some(bits) = self.storage.bits.get_mut(index as usize) {
            *bits = [0; 8];
        }
        if let Some(entry) = self.storage.entries.get_mut(index as usize) {
            self.ballooned_pages = self
                .ballooned_pages
                .saturating_sub(u32::from(entry.ballooned_pages));
            entry.ballooned_pages = 0;
        }
    }

    /// Piece, word and bit of a page frame number (4 KiB).
    fn locate(&self, page: u64) -> Result<(u32, usize, u64), TouchError> {
        let ipa = page.checked_mul(4096).ok_or(TouchError::Foreign)?;
        let index = self.index_of(ipa).ok_or(TouchError::Foreign)?;
        let within = (ipa >> 12) & u64::from(PAGES_PER_PIECE - 1);
        Ok((index, (within / 64) as usize, 1 << (within % 64)))
    }
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
pub(crate) mod tests;
