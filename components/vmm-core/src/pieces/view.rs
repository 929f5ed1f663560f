//! The view that devices get of the guest's pieces: a range is opened as a whole before its first byte is copied.

use super::{Supply, Table, TouchError, Vanished, Window};
use crate::ram::{AccessError, GuestMemory, offset_ipa};
use protocol::units::PIECE_BITS;

impl Table {
    /// Makes every piece of a range accessible in the window.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn open_range(
        &mut self,
        ipa: u64,
        len: u64,
        supply: &mut impl Supply,
    ) -> Result<(), AccessError> {
        let end = offset_ipa(ipa, len)?;
        let mut at = ipa;
        while at < end {
            self.open(at, len, supply)?;
            at = ((at >> PIECE_BITS) + 1) << PIECE_BITS;
        }
        Ok(())
    }

    /// Makes one piece, by an address in it, accessible in the window.
    fn open(&mut self, ipa: u64, len: u64, supply: &mut impl Supply) -> Result<(), AccessError> {
        let out_of_range = AccessError::OutOfRange { ipa, len };
        let index = self.touch(ipa, supply).map_err(|error| match error {
            TouchError::NotReady | TouchError::Refused => AccessError::NotReady,
            TouchError::Foreign | TouchError::Revoked => out_of_range,
        })?;
        let Some(entry) = self.storage.entries.get_mut(index as usize) else {
            return Err(out_of_range);
        };
        if entry.window == Window::Closed {
            let base = self.ipa_of(index);
            supply
                .open_window(index, base)
                .map_err(|Vanished| out_of_range)?;
            if let Some(entry) = self.storage.entries.get_mut(index as usize) {
                entry.window = Window::Open;
            }
        }
        Ok(())
    }
}

/// The devices' view of guest memory.
pub struct View<'a, S> {
    /// The table.
    pub table: &'a mut Table,
    /// The memory server and the window.
    pub supply: &'a mut S,
}

impl<S: Supply> View<'_, S> {
    /// Opens every piece of a range, then hands each part (offset in the buffer, bytes) to `part`.
    fn each_part(
        &mut self,
        ipa: u64,
        len: usize,
        mut part: impl FnMut(&mut S, u64, core::ops::Range<usize>) -> Result<(), Vanished>,
    ) -> Result<(), AccessError> {
        let error = AccessError::OutOfRange {
            ipa,
            len: len as u64,
        };
        let end = ipa.checked_add(len as u64).ok_or(error)?;
        self.table.open_range(ipa, len as u64, self.supply)?;
        let next_piece = |at: u64| ((at >> PIECE_BITS) + 1) << PIECE_BITS;
        let mut at = ipa;
        while at < end {
            let stop = next_piece(at).min(end);
            let range = (at - ipa) as usize..(stop - ipa) as usize;
            part(self.supply, at, range).map_err(|Vanished| error)?;
            at = stop;
        }
        Ok(())
    }
}

impl<S: Supply> GuestMemory for View<'_, S> {
    fn read(&mut self, ipa: u64, into: &mut [u8]) -> Result<(), AccessError> {
        self.each_part(ipa, into.len(), |supply, at, range| {
            supply.copy_out(at, into.get_mut(range).ok_or(Vanished)?)
        })
    }

    fn write(&mut self, ipa: u64, from: &[u8]) -> Result<(), AccessError> {
        self.each_part(ipa, from.len(), |supply, at, range| {
            supply.copy_in(at, from.get(range).ok_or(Vanished)?)
        })
    }
}
