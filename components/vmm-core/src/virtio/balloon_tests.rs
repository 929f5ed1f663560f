use super::*;
use crate::pieces::State;
use crate::pieces::tests::{FakeSupply, started};
use crate::ram::GuestMemory;
use crate::virtio::transport::tests::{negotiate, set_up_queue, start};
use proptest::prelude::*;
use protocol::layout::ipa as map;
use protocol::memory::ReturnReason;
use protocol::units::PIECE_BYTES;

const RAM_PAGE: u32 = (map::RAM / 4096) as u32;
const LIST: u64 = map::RAM + 0x8_0000;

struct Guest {
    balloon: Balloon,
    table: Box<Table>,
    supply: FakeSupply,
    available: [u16; 5],
}

impl Guest {
    fn new(pieces: u32) -> Self {
        let mut guest = Self::before_driver_ok(pieces);
        start(&mut guest.balloon.transport);
        guest
    }

    fn before_driver_ok(pieces: u32) -> Self {
        let (table, supply) = started(pieces, 0);
        let mut balloon = Balloon::new();
        negotiate(
            &mut balloon.transport,
            F_MUST_TELL_HOST | F_STATS_VQ | F_REPORTING,
        );
        for queue in 0..5 {
            set_up_queue(&mut balloon.transport, queue, 64, Self::areas(queue));
        }
        Self {
            balloon,
            table,
            supply,
            available: [0; 5],
        }
    }

    fn areas(queue: u32) -> [u64; 3] {
        let base = map::RAM + 0x4000 * u64::from(queue);
        [base, base + 0x1000, base + 0x2000]
    }

    fn write(&mut self, ipa: u64, bytes: &[u8]) {
        View {
            table: &mut self.table,
            supply: &mut self.supply,
        }
        .write(ipa, bytes)
        .unwrap();
    }

    fn used(&mut self, queue: u32) -> u16 {
        View {
            table: &mut self.table,
            supply: &mut self.supply,
        }
        .read_u16(Self::areas(queue)[2] + 2)
        .unwrap()
    }

    fn offer(&mut self, queue: u32, ipa: u64, len: u32, flags: u16) -> Happened {
        let [descriptors, available, _] = Self::areas(queue);
        let mut raw = ipa.to_le_bytes().to_vec();
        raw.extend_from_slice(&len.to_le_bytes());
        raw.extend_from_slice(&flags.to_le_bytes());
        raw.extend_from_slice(&[0, 0]);
        self.write(descriptors, &raw);
        let index = self.available[queue as usize];
        self.write(available + 4 + 2 * u64::from(index % 64), &[0, 0]);
        self.available[queue as usize] = index.wrapping_add(1);
        self.write(available + 2, &(index.wrapping_add(1)).to_le_bytes());
        self.balloon
            .event(Event::Notify(queue), &mut self.table, &mut self.supply)
    }

    fn pages(&mut self, queue: u32, pages: impl Iterator<Item = u32>) -> Happened {
        let raw: Vec<u8> = pages.flat_map(u32::to_le_bytes).collect();
        self.write(LIST, &raw);
        self.offer(queue, LIST, raw.len() as u32, 0)
    }
}

#[test]
fn a_whole_piece_goes_and_comes_back_before_the_answer() {
    let mut guest = Guest::new(3);
    let second = RAM_PAGE + 512;
    guest.balloon.want(512);
    guest.pages(0, second..second + 256);
    guest.pages(0, second + 256..second + 512);
    assert_eq!(guest.supply.returned, [(1, ReturnReason::Ballooned)]);
    assert_eq!(guest.used(0), 2);
    guest.supply.target = 2;
    let happened = guest.pages(1, second..second + 256);
    assert!(happened.starved);
    assert_eq!(guest.balloon.missing_pieces(), 1);
    assert_eq!(
        guest.used(1),
        0,
        "not answered before the piece is promised"
    );
    guest.supply.target = 3;
    let happened = guest.balloon.work(&mut guest.table, &mut guest.supply);
    assert!(happened.unasked_deflation && !happened.starved);
    assert_eq!(guest.balloon.missing_pieces(), 0);
    assert_eq!(guest.used(1), 1);
    assert_eq!(
        (guest.table.state(1), guest.supply.earmarked),
        (State::Reported, 1)
    );
}

#[test]
fn foreign_pages_are_counted_and_harm_nobody() {
    let mut guest = Guest::new(2);
    guest.pages(0, [0, 1, RAM_PAGE + 1024, u32::MAX].into_iter());
    assert_eq!(guest.balloon.foreign_pages(), 4);
    assert_eq!(guest.table.ballooned_pages(), 0);
    assert_eq!(guest.used(0), 1);
    guest.offer(0, LIST, 0x10_0000, 0);
    assert!(
        guest.balloon.transport.has_failed(),
        "a list beyond all measure"
    );
}

#[test]
fn reported_pieces_go_back_on_both_queue_numbers() {
    for queue in [3, 4] {
        let mut guest = Guest::new(4);
        guest.offer(queue, map::RAM + PIECE_BYTES, 2 * PIECE_BYTES as u32, 2);
        assert_eq!(guest.table.reported(), 2);
        assert_eq!(guest.used(queue), 1);
    }
}

#[test]
fn statistics_are_asked_for_and_unknown_tags_skipped() {
    let mut guest = Guest::new(2);
    let mut raw = Vec::new();
    for (tag, value) in [(6u16, 1000u64), (99, 7), (4, 500), (11, 3)] {
        raw.extend_from_slice(&tag.to_le_bytes());
        raw.extend_from_slice(&value.to_le_bytes());
    }
    guest.write(LIST, &raw);
    assert!(guest.offer(2, LIST, raw.len() as u32, 0).statistics);
    let statistics = *guest.balloon.statistics();
    assert_eq!(statistics.available, Some(1000));
    assert_eq!(statistics.free, Some(500));
    assert_eq!(statistics.counters.alloc_stalls, Some(3));
    assert_eq!(statistics.total, None);
    assert_eq!(guest.used(2), 0, "the device keeps the buffer");
    assert_eq!(
        guest
            .balloon
            .ask_statistics(&mut guest.table, &mut guest.supply),
        Asked::Yes
    );
    assert_eq!(guest.used(2), 1);
    assert_eq!(
        guest
            .balloon
            .ask_statistics(&mut guest.table, &mut guest.supply),
        Asked::No
    );
}

/// Linux offers its statistics buffer before DRIVER_OK.
#[test]
fn statistics_offered_before_the_driver_is_ready_are_taken() {
    let mut guest = Guest::before_driver_ok(2);
    let mut raw = 6u16.to_le_bytes().to_vec();
    raw.extend_from_slice(&4096u64.to_le_bytes());
    guest.write(LIST, &raw);
    assert!(!guest.offer(2, LIST, raw.len() as u32, 0).statistics);
    let ready = guest.balloon.transport.write(0x70, Width::Word, 15);
    assert_eq!(ready, Event::Ready);
    let happened = guest
        .balloon
        .event(ready, &mut guest.table, &mut guest.supply);
    assert!(happened.statistics);
    assert_eq!(guest.balloon.statistics().available, Some(4096));
    assert_eq!(
        guest
            .balloon
            .ask_statistics(&mut guest.table, &mut guest.supply),
        Asked::Yes
    );
}

#[test]
fn the_wanted_size_is_seen_in_configuration_space() {
    let mut guest = Guest::new(2);
    guest.balloon.want(1024);
    assert_eq!(guest.balloon.config(0, Width::Word), 1024);
    guest.balloon.transport.write(0x104, Width::Word, 17);
    assert_eq!(guest.balloon.transport.read(0x60, Width::Word), 2);
}

#[test]
fn a_driver_reset_empties_the_balloon() {
    let mut guest = Guest::new(2);
    guest.pages(0, RAM_PAGE + 512..RAM_PAGE + 1024);
    assert_eq!(guest.table.ballooned_pages(), 512);
    let event = guest.balloon.transport.write(0x70, Width::Word, 0);
    guest
        .balloon
        .event(event, &mut guest.table, &mut guest.supply);
    assert_eq!(guest.table.ballooned_pages(), 0);
    assert_eq!(
        (guest.table.state(1), guest.supply.earmarked),
        (State::Reported, 1)
    );
}

/// The driver goes away while it waits for memory that it wants back: all that is in the balloon comes, then it goes on.
#[test]
fn a_reset_in_the_middle_of_a_deflation_brings_everything() {
    let mut guest = Guest::new(4);
    guest.pages(0, RAM_PAGE + 512..RAM_PAGE + 2048);
    assert_eq!(guest.table.granted(), 1);
    guest.supply.target = 1;
    guest.balloon.want(1536);
    assert!(guest.pages(1, RAM_PAGE + 512..RAM_PAGE + 544).starved);
    let reset = guest.balloon.transport.write(0x70, Width::Word, 0);
    let happened = guest
        .balloon
        .event(reset, &mut guest.table, &mut guest.supply);
    assert!(happened.starved && guest.balloon.is_emptying());
    assert_eq!(guest.balloon.missing_pieces(), 3);
    for (target, missing) in [(2, 2), (3, 1), (4, 0)] {
        guest.supply.target = target;
        guest.balloon.work(&mut guest.table, &mut guest.supply);
        assert_eq!(guest.balloon.missing_pieces(), missing);
        assert_eq!(guest.balloon.is_emptying(), missing > 0);
    }
    assert_eq!(guest.table.granted() + guest.table.reported(), 4);
    assert_eq!(guest.table.ballooned_pages(), 0);
}

proptest! {
    #[test]
    fn random_lists_and_reports_keep_the_books(
        ops in proptest::collection::vec((0u32..5, 0u64..3 * PIECE_BYTES, 0u32..0x800, 0u16..8), 0..60),
        bytes in proptest::collection::vec(any::<u8>(), 0x400),
    ) {
        let mut guest = Guest::new(3);
        guest.write(LIST, &bytes);
        for (queue, at, len, flags) in ops {
            if guest.balloon.transport.has_failed() || guest.table.state(0) == State::Reported {
                break;
            }
            guest.offer(queue, map::RAM + at, len, flags);
        }
        prop_assert!(guest.supply.granted.len() as u32 + guest.supply.earmarked <= 3);
    }

    #[test]
    fn any_statistics_parse(raw in proptest::collection::vec(any::<u8>(), 0..700)) {
        let _ = parse_statistics(&raw);
    }
}
