//! What a guest can best do without.

use super::{Entry, PAGES_PER_PIECE, State, Supply, Table};
use protocol::units::Pieces;

impl Table {
    /// Names the pieces that the guest can best do without, at most `surplus` of each kind, in case the server has to take
    /// some by force: it takes those named last first. Stranded ones come before those never touched; of the stranded,
    /// those with most pages in the balloon.
    pub fn offer_surplus(&self, surplus: Pieces, supply: &mut impl Supply) {
        const ALL: u16 = PAGES_PER_PIECE as u16;
        const HALF: u16 = ALL / 2;
        let little = |entry: &Entry| (1..HALF).contains(&entry.ballooned_pages);
        // One that is wholly in the balloon and here all the same was touched there: somebody uses it.
        let much = |entry: &Entry| (HALF..ALL).contains(&entry.ballooned_pages);
        let kinds: [&dyn Fn(&Entry) -> bool; 3] = [&Entry::is_untouched, &little, &much];
        for kind in kinds {
            let mut left = surplus.0;
            for index in 0..self.startup + self.hotplug {
                let Some(entry) = self.entry(index) else {
                    continue;
                };
                if let State::Granted(piece) = entry.state
                    && left > 0
                    && kind(entry)
                {
                    supply.offer_first(piece);
                    left -= 1;
                }
            }
        }
    }
}
