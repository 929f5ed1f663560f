//! The index of the ledger: for each piece where its untyped is, as lists, so that every step is constant time.
//!
//! The truth is the place of the capability. This index is what the server last did; the walk compares the two.

use crate::kernel::Place;
use protocol::units::{GuestId, MAX_GUESTS, PieceId};

/// What is happening to a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It rests at its place.
    At(Place),
    /// At `Dirty`, and the cleaner is retyping it.
    Cleaning,
    /// The kernel refused something; it rests at its place, and nobody owns it.
    Aside(Place),
    /// There is no such piece, or no CNode holds it.
    Missing,
}

const LISTS: usize = MAX_GUESTS + 2;
const POOL: u8 = 1;
const DIRTY: u8 = 2;
const GUEST_0: u8 = 3;
const CLEANING: u8 = 0x40;
const ASIDE: u8 = 0x80;

const fn place_code(place: Place) -> u8 {
    match place {
        Place::Pool => POOL,
        Place::Dirty => DIRTY,
        Place::Guest(GuestId(id)) if (id as usize) < MAX_GUESTS => GUEST_0 + id as u8,
        // There is no such guest: a code without a list.
        Place::Guest(_) => CLEANING - 1,
    }
}

const fn place_of(code: u8) -> Place {
    match code {
        POOL => Place::Pool,
        DIRTY => Place::Dirty,
        guest => Place::Guest(GuestId(guest.wrapping_sub(GUEST_0) as u16)),
    }
}

/// A doubly linked list of pieces; links are the piece's number plus one, 0 is the end.
#[derive(Clone, Copy)]
struct List {
    head: u16,
    tail: u16,
    count: u32,
}

const EMPTY: List = List {
    head: 0,
    tail: 0,
    count: 0,
};

/// The index. All-zero bytes when empty, so that a static one costs no image space.
pub(crate) struct Ledger<const N: usize> {
    /// 0 = missing, else a place code, or `CLEANING`, or `ASIDE | place code`.
    codes: [u8; N],
    next: [u16; N],
    previous: [u16; N],
    lists: [List; LISTS],
    aside: u32,
    cleaning: u32,
}

impl<const N: usize> Ledger<N> {
    pub(crate) const fn new() -> Self {
        assert!(N < u16::MAX as usize);
        Self {
            codes: [0; N],
            next: [0; N],
            previous: [0; N],
            lists: [EMPTY; LISTS],
            aside: 0,
            cleaning: 0,
        }
    }

    /// Forgets every piece.
    pub(crate) fn clear(&mut self) {
        self.codes.fill(0);
        self.next.fill(0);
        self.previous.fill(0);
        self.lists = [EMPTY; LISTS];
        self.aside = 0;
        self.cleaning = 0;
    }

    pub(crate) fn state(&self, piece: PieceId) -> State {
        match self.codes.get(piece.0 as usize).copied() {
            None | Some(0) => State::Missing,
            Some(CLEANING) => State::Cleaning,
            Some(code) if code & ASIDE != 0 => State::Aside(place_of(code & !ASIDE)),
            Some(code) => State::At(place_of(code)),
        }
    }

    /// Records a piece's new state. A piece put at a place becomes that place's newest.
    pub(crate) fn set(&mut self, piece: PieceId, state: State) {
        let index = piece.0 as usize;
        match self.state(piece) {
            State::At(place) => self.unlink(index, place),
            State::Cleaning => self.cleaning -= 1,
            State::Aside(_) => self.aside -= 1,
            State::Missing => {}
        }
        let code = match state {
            State::At(place) => place_code(place),
            State::Cleaning => CLEANING,
            State::Aside(place) => ASIDE | place_code(place),
            State::Missing => 0,
        };
        let Some(slot) = self.codes.get_mut(index) else {
            return;
        };
        *slot = code;
        match state {
            State::At(place) => self.link(index, place),
            State::Cleaning => self.cleaning += 1,
            State::Aside(_) => self.aside += 1,
            State::Missing => {}
        }
    }

    /// Pieces resting at a place.
    pub(crate) fn count(&self, place: Place) -> u32 {
        self.list(place).map_or(0, |list| list.count)
    }

    /// Pieces with the cleaner.
    pub(crate) const fn cleaning(&self) -> u32 {
        self.cleaning
    }

    /// Pieces set aside.
    pub(crate) const fn aside(&self) -> u32 {
        self.aside
    }

    /// The piece that came to a place first.
    pub(crate) fn oldest(&self, place: Place) -> Option<PieceId> {
        named(self.list(place)?.head)
    }

    /// The piece that came to a place last.
    pub(crate) fn newest(&self, place: Place) -> Option<PieceId> {
        named(self.list(place)?.tail)
    }

    fn list(&self, place: Place) -> Option<&List> {
        self.lists.get(usize::from(place_code(place) - POOL))
    }

    fn list_mut(&mut self, place: Place) -> Option<&mut List> {
        self.lists.get_mut(usize::from(place_code(place) - POOL))
    }

    fn link(&mut self, index: usize, place: Place) {
        let link = index as u16 + 1;
        let Some(list) = self.list_mut(place) else {
            return;
        };
        let last = list.tail;
        list.tail = link;
        list.count += 1;
        if last == 0 {
            list.head = link;
        }
        put(&mut self.next, link, 0);
        put(&mut self.previous, link, last);
        put(&mut self.next, last, link);
    }

    fn unlink(&mut self, index: usize, place: Place) {
        let link = index as u16 + 1;
        let (before, after) = (take(&self.previous, link), take(&self.next, link));
        put(&mut self.next, before, after);
        put(&mut self.previous, after, before);
        let Some(list) = self.list_mut(place) else {
            return;
        };
        list.count -= 1;
        if before == 0 {
            list.head = after;
        }
        if after == 0 {
            list.tail = before;
        }
    }
}

fn named(link: u16) -> Option<PieceId> {
    link.checked_sub(1).map(|index| PieceId(u32::from(index)))
}

fn put(links: &mut [u16], at: u16, value: u16) {
    if let Some(slot) = usize::from(at)
        .checked_sub(1)
        .and_then(|i| links.get_mut(i))
    {
        *slot = value;
    }
}

fn take(links: &[u16], at: u16) -> u16 {
    usize::from(at)
        .checked_sub(1)
        .and_then(|i| links.get(i))
        .copied()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> impl Strategy<Value = Place> {
        prop_oneof![
            Just(Place::Pool),
            Just(Place::Dirty),
            (0..MAX_GUESTS as u16).prop_map(|id| Place::Guest(GuestId(id))),
        ]
    }

    fn state() -> impl Strategy<Value = State> {
        prop_oneof![
            6 => place().prop_map(State::At),
            1 => Just(State::Cleaning),
            1 => place().prop_map(State::Aside),
            1 => Just(State::Missing),
        ]
    }

    proptest! {
        /// Against the plainest model: a vector in order of arrival.
        #[test]
        fn lists_agree_with_a_vector(steps in proptest::collection::vec((0u32..9, state()), 0..200)) {
            let mut ledger = Ledger::<8>::new();
            let mut model: Vec<(u32, State)> = Vec::new();
            for (piece, state) in steps {
                ledger.set(PieceId(piece), state);
                model.retain(|(other, _)| *other != piece);
                if piece < 8 && state != State::Missing {
                    model.push((piece, state));
                }
                for piece in 0..9 {
                    let want = model.iter().find(|(p, _)| *p == piece).map_or(State::Missing, |(_, s)| *s);
                    prop_assert_eq!(ledger.state(PieceId(piece)), want);
                }
                for place in [Place::Pool, Place::Dirty, Place::Guest(GuestId(0)), Place::Guest(GuestId(15))] {
                    let at: Vec<u32> = model.iter().filter(|(_, s)| *s == State::At(place)).map(|(p, _)| *p).collect();
                    prop_assert_eq!(ledger.count(place), at.len() as u32);
                    prop_assert_eq!(ledger.oldest(place), at.first().map(|p| PieceId(*p)));
                    prop_assert_eq!(ledger.newest(place), at.last().map(|p| PieceId(*p)));
                }
                let cleaning = model.iter().filter(|(_, s)| *s == State::Cleaning).count();
                let aside = model.iter().filter(|(_, s)| matches!(s, State::Aside(_))).count();
                prop_assert_eq!((ledger.cleaning(), ledger.aside()), (cleaning as u32, aside as u32));
            }
        }
    }
}
