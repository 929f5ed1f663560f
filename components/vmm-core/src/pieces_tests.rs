use super::*;
use crate::ram::{AccessError, GuestMemory};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A memory server with a target, and memory that remembers.
pub struct FakeSupply {
    pub target: u32,
    pub granted: BTreeMap<u32, PieceId>,
    pub earmarked: u32,
    pub clean: u32,
    next: u32,
    pub memory: BTreeMap<u32, Vec<u8>>,
    pub windows: Vec<u32>,
    pub returned: Vec<(u32, ReturnReason)>,
    pub vanish: Option<u32>,
    /// This piece is not taken back.
    pub refuse: Option<u32>,
    pub offered: Vec<PieceId>,
}

impl FakeSupply {
    pub fn new(target: u32) -> Self {
        Self {
            target,
            granted: BTreeMap::new(),
            earmarked: 0,
            clean: u32::MAX,
            next: 0,
            memory: BTreeMap::new(),
            windows: Vec::new(),
            returned: Vec::new(),
            vanish: None,
            refuse: None,
            offered: Vec::new(),
        }
    }

    fn find(&self, ipa: u64) -> (u32, usize) {
        let base = ipa & !(PIECE_BYTES - 1);
        let index = if base < map::HOTPLUG_MIN {
            (base - map::RAM) / PIECE_BYTES
        } else {
            1000 + (base - map::HOTPLUG_MIN) / PIECE_BYTES
        };
        (index as u32, (ipa - base) as usize)
    }
}

impl Supply for FakeSupply {
    fn take(&mut self, index: u32, purpose: Purpose) -> Result<PieceId, Refusal> {
        assert!(!self.granted.contains_key(&index));
        if self.clean == 0 {
            return Err(Refusal::NotReady {
                cleaning: Pieces(1),
            });
        }
        let assigned = self.granted.len() as u32 + self.earmarked;
        match purpose {
            Purpose::Grow if assigned >= self.target => {
                return Err(Refusal::AtTarget {
                    assigned: Pieces(assigned),
                    target: Pieces(self.target),
                });
            }
            Purpose::Grow => {}
            // Without an earmark it is growth like any other.
            Purpose::Touched if self.earmarked == 0 && assigned >= self.target => {
                return Err(Refusal::AtTarget {
                    assigned: Pieces(assigned),
                    target: Pieces(self.target),
                });
            }
            Purpose::Touched => self.earmarked = self.earmarked.saturating_sub(1),
        }
        self.clean -= 1;
        self.next += 1;
        self.granted.insert(index, PieceId(self.next));
        Ok(PieceId(self.next))
    }

    fn map(&mut self, index: u32, _: u64) -> Result<(), Vanished> {
        if self.vanish == Some(index) {
            return Err(Vanished);
        }
        assert!(self.granted.contains_key(&index));
        Ok(())
    }

    fn offer_first(&mut self, piece: PieceId) {
        self.offered.push(piece);
    }

    fn give_back(&mut self, index: u32, piece: PieceId, why: ReturnReason) -> Result<(), Refusal> {
        if self.granted.get(&index) != Some(&piece) {
            return Err(Refusal::NotYours(piece));
        }
        if self.refuse == Some(index) {
            return Err(Refusal::Kernel(1));
        }
        self.granted.remove(&index);
        self.windows.retain(|open| *open != index);
        if why == ReturnReason::Reported {
            self.earmarked += 1;
        }
        self.returned.push((index, why));
        Ok(())
    }

    fn earmark(&mut self, pieces: Pieces) -> Result<(), Refusal> {
        let assigned = self.granted.len() as u32 + self.earmarked;
        if assigned + pieces.0 > self.target {
            return Err(Refusal::AtTarget {
                assigned: Pieces(assigned),
                target: Pieces(self.target),
            });
        }
        self.earmarked += pieces.0;
        Ok(())
    }

    fn drop_earmark(&mut self, pieces: Pieces) {
        self.earmarked -= pieces.0;
    }

    fn open_window(&mut self, index: u32, _ipa: u64) -> Result<(), Vanished> {
        assert!(self.granted.contains_key(&index));
        self.windows.push(index);
        Ok(())
    }

    fn copy_out(&mut self, ipa: u64, into: &mut [u8]) -> Result<(), Vanished> {
        let (slot, offset) = self.find(ipa);
        if self.vanish == Some(slot) {
            return Err(Vanished);
        }
        let piece = self
            .memory
            .entry(slot)
            .or_insert_with(|| vec![0; PIECE_BYTES as usize]);
        into.copy_from_slice(&piece[offset..offset + into.len()]);
        Ok(())
    }

    fn copy_in(&mut self, ipa: u64, from: &[u8]) -> Result<(), Vanished> {
        let (slot, offset) = self.find(ipa);
        if self.vanish == Some(slot) {
            return Err(Vanished);
        }
        let piece = self
            .memory
            .entry(slot)
            .or_insert_with(|| vec![0; PIECE_BYTES as usize]);
        piece[offset..offset + from.len()].copy_from_slice(from);
        Ok(())
    }
}

/// A guest with `startup` pieces, all granted, and room for `hotplug`.
pub fn started(startup: u32, hotplug: u32) -> (Box<Table>, FakeSupply) {
    // A test's table lives as long as the test process.
    let mut table = Box::new(Table::new(Box::leak(Box::new(Storage::new()))));
    table.set_up(Pieces(startup), u64::from(hotplug) * PIECE_BYTES);
    let mut supply = FakeSupply::new(startup);
    for index in 0..startup {
        table.take(index, &mut supply).unwrap();
    }
    (table, supply)
}

const RAM_PAGE: u64 = map::RAM / 4096;

#[test]
fn addresses_and_pieces_agree() {
    let (table, _) = started(4, 8);
    assert_eq!(table.index_of(map::RAM - 1), None);
    assert_eq!(table.index_of(map::RAM), Some(0));
    assert_eq!(table.index_of(map::RAM + 4 * PIECE_BYTES), None);
    assert_eq!(table.hotplug_base(), map::HOTPLUG_MIN);
    assert_eq!(table.index_of(map::HOTPLUG_MIN + PIECE_BYTES), Some(5));
    assert_eq!(table.ipa_of(5), map::HOTPLUG_MIN + PIECE_BYTES);
    assert_eq!(table.index_of(map::HOTPLUG_MIN + 8 * PIECE_BYTES), None);
    assert_eq!(table.index_of(u64::MAX), None);
}

#[test]
fn a_piece_goes_back_when_its_last_page_is_ballooned_and_comes_before_the_guest_uses_it() {
    let (mut table, mut supply) = started(2, 0);
    for page in 0..511 {
        table.inflate(RAM_PAGE + page, &mut supply).unwrap();
    }
    assert_eq!(table.stranded_pages(), 511);
    assert!(supply.returned.is_empty());
    table.inflate(RAM_PAGE + 511, &mut supply).unwrap();
    assert_eq!(supply.returned, [(0, ReturnReason::Ballooned)]);
    assert_eq!(table.stranded_pages(), 0);
    supply.target = 1;
    assert_eq!(
        table.deflate(RAM_PAGE + 3, Growth::Yes, &mut supply),
        Err(TouchError::NotReady)
    );
    supply.target = 2;
    table
        .deflate(RAM_PAGE + 3, Growth::Yes, &mut supply)
        .unwrap();
    assert_eq!(table.touch(map::RAM, &mut supply), Ok(0));
    assert_eq!(table.stranded_pages(), 511);
}

#[test]
fn pages_the_guest_does_not_have_are_refused() {
    let (mut table, mut supply) = started(2, 4);
    for page in [
        0,
        RAM_PAGE - 1,
        RAM_PAGE + 1024,
        map::HOTPLUG_MIN / 4096,
        u64::MAX,
    ] {
        assert_eq!(table.inflate(page, &mut supply), Err(TouchError::Foreign));
    }
    assert_eq!(table.ballooned_pages(), 0);
    table.inflate(RAM_PAGE, &mut supply).unwrap();
    table.inflate(RAM_PAGE, &mut supply).unwrap();
    assert_eq!(table.ballooned_pages(), 1);
}

#[test]
fn reported_memory_comes_back_at_a_touch_by_guest_or_device() {
    let (mut table, mut supply) = started(4, 0);
    assert_eq!(
        table.report_free(map::RAM + 4096, 3 * PIECE_BYTES, &mut supply),
        2
    );
    assert_eq!((table.reported(), supply.earmarked), (2, 2));
    assert_eq!(table.touch(map::RAM + PIECE_BYTES, &mut supply), Ok(1));
    supply.clean = 0;
    let mut view = View {
        table: &mut table,
        supply: &mut supply,
    };
    assert_eq!(
        view.write_u16(map::RAM + 2 * PIECE_BYTES, 7),
        Err(AccessError::NotReady)
    );
    view.supply.clean = 1;
    view.write_u16(map::RAM + 2 * PIECE_BYTES, 7).unwrap();
    assert_eq!(view.read_u16(map::RAM + 2 * PIECE_BYTES), Ok(7));
    assert_eq!(supply.windows, [2], "opened once");
    assert_eq!(supply.earmarked, 0);
}

#[test]
fn the_buffer_stays_with_its_guest_although_it_is_free() {
    let (mut table, mut supply) = started(8, 0);
    table.set_keep(5);
    assert_eq!(
        table.report_free(map::RAM, 8 * PIECE_BYTES, &mut supply),
        3,
        "down to what it keeps"
    );
    assert_eq!((table.granted(), supply.earmarked), (5, 3));
    // It needs more: its buffer is there before it is touched.
    table.set_keep(7);
    supply.clean = 1;
    table.restore(&mut supply);
    assert_eq!(table.granted(), 6, "as far as there is clean memory");
    supply.clean = 9;
    table.restore(&mut supply);
    assert_eq!((table.granted(), table.reported()), (7, 1));
    assert_eq!(supply.earmarked, 1);
    // It cannot have more than it is promised.
    table.set_keep(100);
    table.restore(&mut supply);
    assert_eq!((table.granted(), table.reported()), (8, 0));
}

#[test]
fn what_leaves_by_unplugging_is_not_taken_by_a_report() {
    let (mut table, mut supply) = started(4, 4);
    supply.target = 8;
    let base = table.hotplug_base();
    for index in 4..8 {
        table.take(index, &mut supply).unwrap();
    }
    table.set_keep(5);
    table.set_plug_wish(2);
    assert_eq!(
        table.report_free(map::RAM, 4 * PIECE_BYTES, &mut supply),
        1,
        "two of the three too many are unplugged"
    );
    for index in 6..8 {
        table.unplug(index..index + 1, &mut supply).unwrap();
    }
    assert_eq!(table.report_free(base, 2 * PIECE_BYTES, &mut supply), 0);
    table.set_keep(0);
    assert_eq!(table.report_free(base, 2 * PIECE_BYTES, &mut supply), 2);
}

#[test]
fn a_report_that_covers_the_address_space_is_bounded() {
    let (mut table, mut supply) = started(2, 2);
    assert_eq!(table.report_free(0, u64::MAX, &mut supply), 2);
    assert_eq!(table.report_free(u64::MAX, 2, &mut supply), 0);
    assert_eq!(
        table.report_free(u64::MAX - PIECE_BYTES, PIECE_BYTES, &mut supply),
        0
    );
}

#[test]
fn an_access_across_pieces_is_whole() {
    let (mut table, mut supply) = started(2, 0);
    let mut view = View {
        table: &mut table,
        supply: &mut supply,
    };
    let at = map::RAM + PIECE_BYTES - 3;
    view.write(at, b"abcdef").unwrap();
    let mut back = [0; 6];
    view.read(at, &mut back).unwrap();
    assert_eq!(&back, b"abcdef");
    assert!(
        view.write(map::RAM + 2 * PIECE_BYTES - 3, b"abcdef")
            .is_err()
    );
    assert!(view.read(u64::MAX - 1, &mut back).is_err());
}

#[test]
fn what_was_taken_by_force_is_known_and_named() {
    let (mut table, mut supply) = started(2, 0);
    let State::Granted(piece) = table.state(1) else {
        panic!()
    };
    assert_eq!(table.map(1, &mut supply), Ok(Mapped::Now));
    assert_eq!(table.revoked(piece), Some(1));
    assert_eq!(table.revoked(piece), None);
    assert_eq!(
        table.touch(map::RAM + PIECE_BYTES, &mut supply),
        Err(TouchError::Revoked)
    );
    supply.vanish = Some(0);
    let mut view = View {
        table: &mut table,
        supply: &mut supply,
    };
    assert!(matches!(
        view.read_u16(map::RAM),
        Err(AccessError::OutOfRange { .. })
    ));
}

#[test]
fn stranded_and_untouched_pieces_are_offered_first_and_the_untouched_come_back() {
    let (mut table, mut supply) = started(5, 0);
    let name = |table: &Table, index| match table.state(index) {
        State::Granted(piece) => piece,
        other => panic!("{index} is {other:?}"),
    };
    assert_eq!(table.map(0, &mut supply), Ok(Mapped::Now));
    assert_eq!(table.map(0, &mut supply), Ok(Mapped::Before));
    // Open for a device is touched as well.
    table
        .open_range(map::RAM + PIECE_BYTES, 1, &mut supply)
        .unwrap();
    for (index, pages) in [(2, 300), (3, 5)] {
        assert_eq!(table.map(index, &mut supply), Ok(Mapped::Now));
        for page in 0..pages {
            table
                .inflate(RAM_PAGE + u64::from(index) * 512 + page, &mut supply)
                .unwrap();
        }
    }
    let (stranded, little, untouched) = (name(&table, 2), name(&table, 3), name(&table, 4));
    table.offer_surplus(Pieces(3), &mut supply);
    // What is named last is taken first.
    assert_eq!(supply.offered, [untouched, little, stranded]);
    let used = name(&table, 0);
    for piece in [stranded, untouched, used] {
        supply.granted.retain(|_, granted| *granted != piece);
        table.revoked(piece);
    }
    assert_eq!(table.state(2), State::Revoked);
    assert_eq!(table.state(0), State::Revoked);
    assert_eq!(table.touch(map::RAM + 4 * PIECE_BYTES, &mut supply), Ok(4));
    assert_eq!(table.touch(map::RAM, &mut supply), Err(TouchError::Revoked));
}

#[test]
fn a_reset_driver_gets_its_balloon_back() {
    let (mut table, mut supply) = started(2, 0);
    for page in 0..600 {
        table.inflate(RAM_PAGE + page, &mut supply).unwrap();
    }
    supply.target = 1;
    assert_eq!(table.empty_balloon(&mut supply), 1);
    assert_eq!(table.ballooned_pages(), 512);
    supply.target = 2;
    // It is promised, and has no frame before it is touched.
    supply.clean = 0;
    assert_eq!(table.empty_balloon(&mut supply), 0);
    assert_eq!(table.ballooned_pages(), 0);
    assert_eq!(
        table.touch(map::RAM, &mut supply),
        Err(TouchError::NotReady)
    );
    supply.clean = 1;
    assert_eq!(table.touch(map::RAM, &mut supply), Ok(0));
    assert_eq!(table.state(0), State::Granted(PieceId(3)));
}

/// What one kernel gave to the balloon, the next one (or a reader of all memory) takes for its RAM.
#[test]
fn a_ballooned_piece_that_is_touched_is_there_again() {
    let (mut table, mut supply) = started(3, 0);
    for page in 0..1024 {
        table.inflate(RAM_PAGE + page, &mut supply).unwrap();
    }
    let second = map::RAM + PIECE_BYTES;
    assert_eq!(table.granted(), 1);
    supply.clean = 0;
    assert_eq!(table.touch(second, &mut supply), Err(TouchError::NotReady));
    supply.clean = 9;
    supply.target = 1;
    assert_eq!(table.touch(second, &mut supply), Err(TouchError::Refused));
    supply.target = 2;
    assert_eq!(table.touch(second, &mut supply), Ok(1));
    assert_eq!(table.map(1, &mut supply), Ok(Mapped::Now));
    // By its driver's count it is in the balloon still, and nobody is to take it for memory that is not used.
    assert_eq!(
        (table.ballooned_pages(), table.stranded_pages()),
        (1024, 512)
    );
    table.offer_surplus(Pieces(3), &mut supply);
    assert!(
        !supply.offered.contains(&PieceId(4)),
        "{:?}",
        supply.offered
    );
    // Its pages come out, and go in again: it returns as any other.
    for page in 512..1024 {
        table
            .deflate(RAM_PAGE + page, Growth::Yes, &mut supply)
            .unwrap();
    }
    assert_eq!(table.stranded_pages(), 0);
    for page in 512..1024 {
        table.inflate(RAM_PAGE + page, &mut supply).unwrap();
    }
    assert_eq!(table.state(1), State::Ballooned);
    // Taken by force while it is used: that is not passed over in silence.
    assert_eq!(table.touch(second, &mut supply), Ok(1));
    assert_eq!(table.map(1, &mut supply), Ok(Mapped::Now));
    let State::Granted(piece) = table.state(1) else {
        panic!("{:?}", table.state(1));
    };
    supply.granted.remove(&1);
    table.revoked(piece);
    assert_eq!(table.touch(second, &mut supply), Err(TouchError::Revoked));
}

#[test]
fn a_piece_taken_by_force_under_an_unplug_is_unplugged() {
    let (mut table, mut supply) = started(1, 2);
    supply.target = 3;
    for index in 1..3 {
        table.take(index, &mut supply).unwrap();
    }
    supply.granted.remove(&1);
    table.unplug(1..2, &mut supply).unwrap();
    assert_eq!((table.plugged(), table.state(1)), (1, State::Absent));
    table.keep_plugged(1);
    assert_eq!((table.plugged(), table.state(1)), (2, State::Unused));
    assert_eq!(table.touch(table.ipa_of(1), &mut supply), Ok(1));
}

proptest! {
    /// Whatever a guest does, our table and the server's agree on every piece, and the counters on the bits.
    #[test]
    fn table_and_server_agree(ops in proptest::collection::vec((0u8..9, 0u64..12, 0u64..512), 0..3000)) {
        let (mut table, mut supply) = started(4, 8);
        supply.target = 12;
        for (op, piece, page) in ops {
            let base = table.ipa_of(piece as u32);
            let frame = base / 4096 + page;
            match op {
                0 => { let _ = table.inflate(frame, &mut supply); }
                1 => { let _ = table.deflate(frame, Growth::Yes, &mut supply); }
                2 => { table.report_free(base, PIECE_BYTES * (page % 3), &mut supply); }
                3 => { let _ = table.touch(base + page * 4096, &mut supply); }
                4 if piece >= 4 => { let _ = table.take(piece as u32, &mut supply); }
                5 if piece >= 4 => { let _ = table.unplug(piece as u32..piece as u32 + 1, &mut supply); }
                7 => {
                    table.set_keep(piece as u32);
                    table.restore(&mut supply);
                }
                8 if table.state(piece as u32) == State::Absent => {
                    // All that are absent from there on, or none of them.
                    let first = piece as u32;
                    let end = (first..12).find(|index| table.state(*index) != State::Absent).unwrap_or(12);
                    let had = supply.earmarked;
                    let done = table.promise(first..end, &mut supply).is_ok();
                    prop_assert_eq!(supply.earmarked - had, if done { end - first } else { 0 });
                }
                6 => for page in 0..512 { let _ = table.inflate(base / 4096 + page, &mut supply); },
                _ => {}
            }
        }
        prop_assert_eq!(table.granted() as usize, supply.granted.len());
        let mut reported = 0;
        let mut pages = 0;
        for index in 0..12 {
            match table.state(index) {
                State::Granted(piece) => prop_assert_eq!(supply.granted.get(&index), Some(&piece)),
                other => {
                    prop_assert!(!supply.granted.contains_key(&index));
                    if other == State::Reported { reported += 1; }
                }
            }
            let bits: u32 = table.storage.bits[index as usize].iter().map(|word| word.count_ones()).sum();
            prop_assert_eq!(bits, u32::from(table.storage.entries[index as usize].ballooned_pages));
            pages += bits;
        }
        // What the guest may touch is promised: it has a frame or an earmark.
        prop_assert_eq!(reported, supply.earmarked);
        prop_assert_eq!(reported, table.reported());
        prop_assert_eq!(pages, table.ballooned_pages());
    }
}
