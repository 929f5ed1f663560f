//! The guest, or a device for it, uses memory that it may or may not have.

use super::{Mapped, Mapping, State, Supply, Table, TouchError, Vanished};
use protocol::memory::Refusal;

impl Table {
    /// The guest (or a device for it) touches an address: brings back what it had reported free, and what is in the balloon.
    /// What a kernel has given to the balloon another one takes for its memory: one that was started from the first, or
    /// one whose driver went away. Such a piece is stranded until its pages leave the balloon.
    ///
    /// # Errors
    /// [`TouchError`].
    pub fn touch(&mut self, ipa: u64, supply: &mut impl Supply) -> Result<u32, TouchError> {
        let index = self.index_of(ipa).ok_or(TouchError::Foreign)?;
        match self.state(index) {
            State::Granted(_) => Ok(index),
            State::Reported | State::Unused | State::Ballooned => {
                let taken = match self.take(index, supply) {
                    Err(Refusal::AtTarget { .. } | Refusal::AtMaximum(_)) if self.reported > 0 => {
                        self.take_by_other_promise(index, supply)
                    }
                    taken => taken,
                };
                match taken {
                    Ok(()) => Ok(index),
                    Err(Refusal::AtTarget { .. } | Refusal::AtMaximum(_)) => {
                        Err(TouchError::Refused)
                    }
                    Err(_) => Err(TouchError::NotReady),
                }
            }
            State::Absent => Err(TouchError::Foreign),
            State::Revoked => Err(TouchError::Revoked),
        }
    }

    /// The guest touched a piece that it has: maps it if it is not. Whether that was so.
    ///
    /// # Errors
    /// [`Vanished`] when the piece was taken by force.
    pub fn map(&mut self, index: u32, supply: &mut impl Supply) -> Result<Mapped, Vanished> {
        let ipa = self.ipa_of(index);
        match self.storage.entries.get_mut(index as usize) {
            Some(entry) if entry.mapping == Mapping::Missing => {
                supply.map(index, ipa)?;
                entry.mapping = Mapping::Present;
                Ok(Mapped::Now)
            }
            _ => Ok(Mapped::Before),
        }
    }
}
