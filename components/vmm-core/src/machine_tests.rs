use super::*;
use crate::gic::tests::FakeLists;
use crate::gic::{LIST_REGISTERS, ListBusy};
use crate::pieces::Vanished;
use crate::pieces::tests::FakeSupply;
use proptest::prelude::*;
use protocol::balancer::NextReport;
use protocol::memory::{Purpose, Refusal, ReturnReason};

#[path = "machine/truth_tests.rs"]
mod truths;

pub(crate) struct World {
    pub supply: FakeSupply,
    pub lists: FakeLists,
    pub output: Vec<(Port, Vec<u8>)>,
    reports: Vec<Report>,
    pub revoked: Vec<PieceId>,
    keep: Pieces,
}

impl Lists for World {
    fn inject(
        &mut self,
        interrupt: u16,
        priority: u8,
        group: u8,
        list: u8,
    ) -> Result<(), ListBusy> {
        self.lists.inject(interrupt, priority, group, list)
    }
    fn acknowledge_timer(&mut self) {
        self.lists.acknowledge_timer();
    }
}

impl Supply for World {
    fn take(&mut self, index: u32, purpose: Purpose) -> Result<PieceId, Refusal> {
        self.supply.take(index, purpose)
    }
    fn map(&mut self, index: u32, ipa: u64) -> Result<(), Vanished> {
        self.supply.map(index, ipa)
    }
    fn offer_first(&mut self, piece: PieceId) {
        self.supply.offer_first(piece);
    }
    fn give_back(&mut self, index: u32, piece: PieceId, why: ReturnReason) -> Result<(), Refusal> {
        self.supply.give_back(index, piece, why)
    }
    fn earmark(&mut self, pieces: Pieces) -> Result<(), Refusal> {
        self.supply.earmark(pieces)
    }
    fn drop_earmark(&mut self, pieces: Pieces) {
        self.supply.drop_earmark(pieces);
    }
    fn open_window(&mut self, index: u32, ipa: u64) -> Result<(), Vanished> {
        self.supply.open_window(index, ipa)
    }
    fn copy_out(&mut self, ipa: u64, into: &mut [u8]) -> Result<(), Vanished> {
        self.supply.copy_out(ipa, into)
    }
    fn copy_in(&mut self, ipa: u64, from: &[u8]) -> Result<(), Vanished> {
        self.supply.copy_in(ipa, from)
    }
}

impl Host for World {
    fn console_write(&mut self, port: Port, bytes: &[u8]) -> usize {
        self.output.push((port, bytes.to_vec()));
        bytes.len()
    }
    fn report(&mut self, report: &Report) -> Option<NextReport> {
        self.reports.push(*report);
        Some(NextReport {
            in_ms: 500,
            keep: self.keep,
        })
    }
    fn account(&mut self) -> Option<Account> {
        Some(Account {
            target: Pieces(self.supply.target),
            revoked: Pieces(self.revoked.len() as u32),
            maximum: Pieces(1 << 12),
            ..Account::default()
        })
    }
    fn next_revoked(&mut self) -> Option<PieceId> {
        self.revoked.pop()
    }
}

pub(crate) fn machine(startup: u32, hotplug: u32) -> (Machine, World) {
    let storage = Box::leak(Box::new(Storage::new()));
    let bytes = u64::from(hotplug) << 21;
    let mut machine = Machine::new(
        storage,
        GicVersion::V3,
        Pieces(startup),
        bytes,
        Pieces(startup / 2),
        0,
    );
    let mut world = World {
        supply: FakeSupply::new(startup),
        lists: FakeLists::default(),
        output: Vec::new(),
        reports: Vec::new(),
        revoked: Vec::new(),
        keep: Pieces(0),
    };
    for index in 0..startup {
        machine.table.take(index, &mut world).unwrap();
    }
    (machine, world)
}

const BALLOON: u64 = map::VIRTIO_MMIO + 2 * map::VIRTIO_MMIO_STRIDE;
const HOTPLUG: u64 = map::VIRTIO_MMIO + 3 * map::VIRTIO_MMIO_STRIDE;

fn word(machine: &mut Machine, world: &mut World, ipa: u64, value: u64) {
    machine.write(ipa, Width::Word, value, world, || 0);
}

/// A driver that accepts everything offered and sets no queue up.
fn go_live(machine: &mut Machine, world: &mut World, device: u64) {
    negotiate(machine, world, device);
    word(machine, world, device + 0x70, 15);
    assert_eq!(machine.read(device + 0x70, Width::Word), 15);
}

#[test]
fn memory_may_be_promised_ahead_to_a_guest_that_can_plug_it() {
    let (mut machine, mut world) = machine(8, 64);
    assert_eq!(machine.report(0).ahead_kib, 0, "it has no driver");
    go_live(&mut machine, &mut world, HOTPLUG);
    assert_eq!(machine.report(0).ahead_kib, 4 * 8 * 2048);
}

#[test]
fn every_device_answers_at_its_address() {
    let (mut machine, _) = machine(4, 4);
    for (device, kind) in [(0, 3), (1, 3), (2, 5), (3, 24)] {
        let base = map::VIRTIO_MMIO + device * map::VIRTIO_MMIO_STRIDE;
        assert_eq!(machine.read(base, Width::Word), 0x7472_6976);
        assert_eq!(machine.read(base + 8, Width::Word), kind);
    }
    assert_eq!(machine.read(map::GICD + 0xffe8, Width::Word), 0x3b);
    assert_eq!(machine.read(map::VIRTIO_MMIO + 1, Width::Word), 0);
}

#[test]
fn a_target_becomes_a_wish_and_an_interrupt() {
    let (mut machine, mut world) = machine(4, 8);
    word(&mut machine, &mut world, map::GICD, 2);
    word(&mut machine, &mut world, map::GICD + 0x104, 0xf << 16);
    go_live(&mut machine, &mut world, HOTPLUG);
    go_live(&mut machine, &mut world, BALLOON);
    world.supply.target = 7;
    machine.memory_changed(&mut world, 10);
    // First the cushion, half of its startup. This driver does not put it into the balloon.
    assert_eq!(machine.read(HOTPLUG + 0x100 + 48, Width::Double), 2 << 21);
    machine.time(&mut world, 1100);
    assert_eq!(machine.read(HOTPLUG + 0x100 + 48, Width::Double), 5 << 21);
    assert_eq!(world.lists.held[0], Some(51));
    world.supply.target = 3;
    machine.memory_changed(&mut world, 20);
    assert_eq!(machine.read(BALLOON + 0x100, Width::Word), 512);
    assert_eq!(machine.read(HOTPLUG + 0x100 + 48, Width::Double), 2 << 21);
}

#[test]
fn reports_go_out_in_time_even_without_a_driver() {
    let (mut machine, mut world) = machine(4, 0);
    machine.time(&mut world, 999);
    assert!(world.reports.is_empty());
    assert_eq!(machine.next_ms(), 1000);
    machine.time(&mut world, 1000);
    assert_eq!(world.reports.len(), 1);
    assert_eq!(world.reports[0].available_kib, None);
    assert_eq!(world.reports[0].visible_kib, 8192);
    assert_eq!(machine.next_ms(), 1500, "as the balancer said");
    machine.report_wanted(&mut world, 1200);
    assert_eq!(world.reports.len(), 2);
}

/// A queue of a device with its rings at `base`: descriptors, then 4 KiB on the driver's ring, then the device's.
fn set_up_queue(machine: &mut Machine, world: &mut World, device: u64, queue: u64, base: u64) {
    word(machine, world, device + 0x30, queue);
    word(machine, world, device + 0x38, 8);
    for (register, at) in [(0x80, 0), (0x90, 0x1000), (0xa0, 0x2000)] {
        word(machine, world, device + register, base + at);
        word(machine, world, device + register + 4, 0);
    }
    word(machine, world, device + 0x44, 1);
}

/// Offers one list of page numbers.
fn offer_pages(machine: &mut Machine, world: &mut World, queue: u64, base: u64, pages: &[u32]) {
    let list: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
    offer_bytes(machine, world, queue, base, &list);
}

/// Offers one buffer of the balloon.
fn offer_bytes(machine: &mut Machine, world: &mut World, queue: u64, base: u64, bytes: &[u8]) {
    offer_bytes_at(machine, world, (BALLOON, queue), base, bytes, 0);
}

/// Offers one buffer to a device's queue.
fn offer_bytes_at(
    machine: &mut Machine,
    world: &mut World,
    (device, queue): (u64, u64),
    base: u64,
    bytes: &[u8],
    now_ms: u64,
) {
    let mut view = View {
        table: &mut machine.table,
        supply: world,
    };
    view.write(base + 0x3000, bytes).unwrap();
    let mut descriptor = (base + 0x3000).to_le_bytes().to_vec();
    descriptor.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    descriptor.extend_from_slice(&[0; 4]);
    view.write(base, &descriptor).unwrap();
    let index = view.read_u16(base + 0x1002).unwrap();
    view.write_u16(base + 0x1004 + 2 * u64::from(index % 8), 0)
        .unwrap();
    view.write_u16(base + 0x1002, index + 1).unwrap();
    machine.write(device + 0x50, Width::Word, queue, world, || now_ms);
}

/// The driver accepts all that the balloon offers.
fn negotiate_balloon(machine: &mut Machine, world: &mut World) {
    negotiate(machine, world, BALLOON);
}

/// The driver accepts all that the device offers (virtio 1.3, 3.1.1, up to FEATURES_OK).
fn negotiate(machine: &mut Machine, world: &mut World, device: u64) {
    word(machine, world, device + 0x70, 3);
    for half in 0..2 {
        word(machine, world, device + 0x14, half);
        let offered = machine.read(device + 0x10, Width::Word);
        word(machine, world, device + 0x24, half);
        word(machine, world, device + 0x20, offered);
    }
    word(machine, world, device + 0x70, 11);
}

#[test]
fn memory_for_a_deflation_is_no_reason_to_deflate_more() {
    let (mut machine, mut world) = machine(8, 0);
    negotiate_balloon(&mut machine, &mut world);
    let (inflate, deflate) = (map::RAM, map::RAM + 0x8000);
    set_up_queue(&mut machine, &mut world, BALLOON, 0, inflate);
    set_up_queue(&mut machine, &mut world, BALLOON, 1, deflate);
    word(&mut machine, &mut world, BALLOON + 0x70, 15);
    world.supply.target = 6;
    machine.memory_changed(&mut world, 0);
    assert_eq!(machine.read(BALLOON + 0x100, Width::Word), 1024);
    let first = (map::RAM / 4096) as u32;
    let pages: Vec<u32> = (first + 512..first + 1536).collect();
    offer_pages(&mut machine, &mut world, 0, inflate, &pages);
    assert_eq!(machine.table.granted(), 6);
    // A page that the guest moves elsewhere, as it does when it compacts its memory, waits for nothing.
    offer_pages(&mut machine, &mut world, 1, deflate, &[first + 1200]);
    assert_eq!(machine.report(0).deflating_kib, 0);
    // Its kernel is out of memory.
    let pages: Vec<u32> = (first + 600..first + 632).collect();
    offer_pages(&mut machine, &mut world, 1, deflate, &pages);
    assert_eq!(world.reports.last().unwrap().urgent, Urgency::Starved);
    assert_eq!(world.reports.last().unwrap().deflating_kib, 2048);
    world.supply.target = 7;
    machine.memory_changed(&mut world, 20);
    assert_eq!(machine.table.reported(), 1, "it is answered");
    assert_eq!(machine.read(BALLOON + 0x100, Width::Word), 1024);
    world.supply.target = 6;
    machine.memory_changed(&mut world, 40);
    world.supply.target = 8;
    machine.memory_changed(&mut world, 60);
    assert_eq!(machine.read(BALLOON + 0x100, Width::Word), 0);
}

/// A report that cannot wait for the guest: what it says of it is of one moment, whatever came or went since.
#[test]
fn memory_that_moved_since_the_last_statistics_is_no_change_of_demand() {
    let (mut machine, mut world) = machine(8, 0);
    negotiate_balloon(&mut machine, &mut world);
    let (inflate, statistics) = (map::RAM, map::RAM + 0x8000);
    set_up_queue(&mut machine, &mut world, BALLOON, 0, inflate);
    set_up_queue(&mut machine, &mut world, BALLOON, 2, statistics);
    word(&mut machine, &mut world, BALLOON + 0x70, 15);
    world.supply.target = 6;
    machine.memory_changed(&mut world, 0);
    let first = (map::RAM / 4096) as u32;
    let pages: Vec<u32> = (first + 512..first + 1536).collect();
    let tell = |machine: &mut Machine, world: &mut World, available: u64| {
        let mut entry = 6u16.to_le_bytes().to_vec();
        entry.extend_from_slice(&available.to_le_bytes());
        offer_bytes(machine, world, 2, statistics, &entry);
    };
    let used_kib = |world: &World| {
        let report = world.reports.last().unwrap();
        report.visible_kib - report.available_kib.unwrap()
    };
    tell(&mut machine, &mut world, 10 << 20);
    assert_eq!(used_kib(&world), 6 << 10);
    // 4 MiB go; the guest does not answer in time.
    offer_pages(&mut machine, &mut world, 0, inflate, &pages);
    assert_eq!(machine.table.granted(), 6);
    machine.time(&mut world, 1000);
    machine.time(&mut world, 1200);
    assert_eq!(world.reports.len(), 2);
    assert_eq!(used_kib(&world), 6 << 10);
    // Then it does, and the next report has both.
    tell(&mut machine, &mut world, 5 << 20);
    machine.time(&mut world, 2000);
    machine.time(&mut world, 2200);
    assert_eq!(used_kib(&world), 7 << 10);
    assert_eq!(world.reports.last().unwrap().ballooned_kib, 4 << 10);
}

#[test]
fn what_a_guest_keeps_is_ready_as_far_as_its_target_goes() {
    let (mut machine, mut world) = machine(8, 0);
    world.supply.target = 6;
    machine.memory_changed(&mut world, 0);
    machine.table.report_free(map::RAM, 8 << 21, &mut world);
    assert_eq!(machine.table.granted(), 0, "nobody has said what it needs");
    world.keep = Pieces(4);
    machine.time(&mut world, 1000);
    assert_eq!(machine.table.granted(), 4);
    world.keep = Pieces(8);
    machine.time(&mut world, 2000);
    assert_eq!(machine.table.granted(), 6, "its target");
    world.supply.target = 7;
    machine.memory_changed(&mut world, 2001);
    assert_eq!(machine.table.granted(), 7);
}

#[test]
fn a_guest_that_uses_memory_up_is_heard_soon() {
    let (mut machine, mut world) = machine(8, 0);
    machine.time(&mut world, 1000);
    for touches in 0..4 {
        assert_eq!(world.reports.len(), 1, "{touches}");
        machine.touched(&mut world, 1100);
    }
    assert_eq!(world.reports.len(), 2);
    assert_eq!(machine.next_ms(), 1200, "not in the balancer's 500 ms");
    machine.time(&mut world, 3200);
    assert_eq!(machine.next_ms(), 3700, "calm again");
}

#[test]
fn what_was_taken_by_force_is_seen_at_the_next_touch() {
    let (mut machine, mut world) = machine(4, 0);
    let crate::pieces::State::Granted(piece) = machine.table.state(2) else {
        panic!()
    };
    for place in [Place::Mapped, Place::Already] {
        assert_eq!(machine.place(map::RAM + (2 << 21), &mut world), place);
    }
    world.revoked.push(piece);
    machine.memory_changed(&mut world, 5);
    assert_eq!(
        machine.place(map::RAM + (2 << 21), &mut world),
        Place::Revoked
    );
}

#[test]
fn a_reminder_reaches_a_driver_that_owes_something() {
    let (mut machine, mut world) = machine(4, 0);
    world.supply.target = 2;
    go_live(&mut machine, &mut world, BALLOON);
    let pending = |machine: &mut Machine| machine.read(BALLOON + 0x60, Width::Word);
    machine.memory_changed(&mut world, 5);
    assert_eq!(pending(&mut machine), 2, "a new target");
    word(&mut machine, &mut world, BALLOON + 0x64, 2);
    machine.memory_changed(&mut world, 1005);
    assert_eq!(pending(&mut machine), 2, "a reminder");
    word(&mut machine, &mut world, BALLOON + 0x64, 2);
    for page in 0..1024 {
        machine
            .table
            .inflate(map::RAM / 4096 + page, &mut world)
            .unwrap();
    }
    machine.memory_changed(&mut world, 2005);
    assert_eq!(pending(&mut machine), 0, "nothing is owed");
}

#[test]
fn a_guest_whose_reported_memory_was_taken_by_force_says_that_it_cannot_run_on() {
    let (mut machine, mut world) = machine(4, 0);
    machine
        .table
        .report_free(map::RAM + (2 << 21), 2 << 21, &mut world);
    // The server took both earmarks, and what else there is is promised to others.
    world.supply.earmarked = 0;
    world.supply.target = 2;
    let touched = map::RAM + (3 << 21);
    assert_eq!(machine.place(touched, &mut world), Place::Later);
    machine.report_wanted(&mut world, 10);
    assert_eq!(
        world.reports.last().map(|report| report.urgent),
        Some(Urgency::Starved)
    );
    // It still waits at the next look, and says so again.
    assert_eq!(machine.place(touched, &mut world), Place::Later);
    machine.report_wanted(&mut world, 30);
    assert_eq!(
        world.reports.last().map(|report| report.urgent),
        Some(Urgency::Starved)
    );
    world.supply.target = 3;
    assert_eq!(machine.place(touched, &mut world), Place::Present);
}

#[test]
fn places() {
    let (mut machine, mut world) = machine(4, 4);
    assert_eq!(machine.place(map::RAM, &mut world), Place::Mapped);
    assert_eq!(machine.place(map::RAM, &mut world), Place::Already);
    assert_eq!(machine.place(map::RAM - 1, &mut world), Place::Nothing);
    assert_eq!(machine.place(map::HOTPLUG_MIN, &mut world), Place::Nothing);
    assert_eq!(machine.place(map::GICD, &mut world), Place::Device);
    assert_eq!(machine.place(HOTPLUG + 0x1ff, &mut world), Place::Device);
    assert_eq!(machine.place(HOTPLUG + 0x200, &mut world), Place::Nothing);
    machine.table.report_free(map::RAM, 1 << 21, &mut world);
    world.supply.clean = 0;
    assert_eq!(machine.place(map::RAM, &mut world), Place::Later);
    world.supply.clean = 1;
    assert_eq!(machine.place(map::RAM, &mut world), Place::Present);
}

proptest! {
    /// A guest that writes anything to any device register, with rings anywhere in its memory.
    #[test]
    fn any_register_traffic_is_survived(
        ops in proptest::collection::vec((0u64..0x900, any::<u32>(), 0u8..10), 0..400),
        ring in proptest::collection::vec(any::<u8>(), 4096),
    ) {
        let (mut machine, mut world) = machine(2, 4);
        world.supply.target = 6;
        world.supply.copy_in(map::RAM, &ring).unwrap();
        let mut now = 0;
        for (offset, value, op) in ops {
            now += 7;
            let ipa = map::VIRTIO_MMIO + offset;
            // Half of the addresses point into the guest's memory.
            let value = if value & 1 == 0 { u64::from(value) } else { map::RAM | u64::from(value & 0xffe) };
            match op {
                0 => { let _ = machine.read(ipa, Width::Word); }
                1 => machine.memory_changed(&mut world, now),
                2 => machine.time(&mut world, now),
                3 => machine.input(Port::Agent, b"x", &mut world),
                4 => machine.write(ipa & !0xff | 0x70, Width::Word, value & 15, &mut world, || now),
                5 => machine.write(ipa & !0xff | 0x50, Width::Word, value & 7, &mut world, || now),
                _ => machine.write(ipa & !3, Width::Word, value, &mut world, || now),
            }
            world.lists.held = [None; LIST_REGISTERS];
            machine.gic.maintenance(None, &mut world);
        }
        prop_assert!(world.supply.granted.len() as u32 + world.supply.earmarked <= 6);
    }
}
