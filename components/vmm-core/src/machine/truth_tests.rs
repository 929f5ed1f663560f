//! What a guest says, and what is true of it.

use super::*;
use protocol::balancer::Uptake;

/// Offers statistics on a balloon whose queue 2 has its rings at `base`: tags with values in bytes.
fn tell(machine: &mut Machine, world: &mut World, base: u64, now_ms: u64, entries: &[(u16, u64)]) {
    let mut raw = Vec::new();
    for (tag, value) in entries {
        raw.extend_from_slice(&tag.to_le_bytes());
        raw.extend_from_slice(&value.to_le_bytes());
    }
    offer_bytes_at(machine, world, (BALLOON, 2), base, &raw, now_ms);
}

/// A balloon with its queues for inflating, deflating and statistics at these places.
fn set_up_balloon(machine: &mut Machine, world: &mut World, bases: [u64; 3]) {
    negotiate_balloon(machine, world);
    for (queue, base) in (0..).zip(bases) {
        set_up_queue(machine, world, BALLOON, queue, base);
    }
    word(machine, world, BALLOON + 0x70, 15);
}

const BASES: [u64; 3] = [map::RAM, map::RAM + 0x8000, map::RAM + 0x1_0000];

#[test]
fn a_driver_that_is_reset_holds_its_guest_until_all_memory_is_back() {
    let (mut machine, mut world) = machine(8, 0);
    set_up_balloon(&mut machine, &mut world, BASES);
    let first = (map::RAM / 4096) as u32;
    let pages: Vec<u32> = (first + 512..first + 2560).collect();
    offer_pages(&mut machine, &mut world, 0, BASES[0], &pages);
    assert_eq!(machine.table.granted(), 4);
    world.supply.target = 5;
    machine.memory_changed(&mut world, 10);
    assert!(!machine.is_held());
    machine.write(BALLOON + 0x70, Width::Word, 0, &mut world, || 100);
    assert!(machine.is_held());
    let report = *world.reports.last().unwrap();
    assert_eq!(report.urgent, Urgency::Starved, "{report:?}");
    assert_eq!(report.deflating_kib, 3 * 2048);
    // It says so for as long as it waits.
    machine.time(&mut world, 2000);
    assert_eq!(world.reports.last().unwrap().urgent, Urgency::Starved);
    for (target, is_held) in [(6, true), (7, true), (8, false)] {
        world.supply.target = target;
        machine.memory_changed(&mut world, 2000 + u64::from(target));
        assert_eq!(machine.is_held(), is_held, "{target}");
    }
    // What it touches is there, and what it does not touch is promised.
    assert_eq!(machine.table.granted() + machine.table.reported(), 8);
    assert_eq!(machine.table.ballooned_pages(), 0);
    for piece in 0..8 {
        let place = machine.place(map::RAM + (piece << 21), &mut world);
        assert!(matches!(place, Place::Mapped | Place::Present), "{place:?}");
    }
    // The target rose for that: the next driver is asked for nothing.
    set_up_balloon(&mut machine, &mut world, BASES);
    assert_eq!(machine.read(BALLOON + 0x100, Width::Word), 0);
    world.supply.target = 7;
    machine.memory_changed(&mut world, 3000);
    assert_eq!(machine.read(BALLOON + 0x100, Width::Word), 512);
}

#[test]
fn a_touch_of_what_is_in_the_balloon_finds_memory_or_waits_for_it() {
    let (mut machine, mut world) = machine(4, 4);
    set_up_balloon(&mut machine, &mut world, BASES);
    let first = (map::RAM / 4096) as u32;
    let pages: Vec<u32> = (first + 512..first + 1536).collect();
    offer_pages(&mut machine, &mut world, 0, BASES[0], &pages);
    let touched = map::RAM + (1 << 21);
    assert_eq!(machine.place(touched, &mut world), Place::Present);
    world.supply.target = 3;
    let touched = touched + (1 << 21);
    assert_eq!(machine.place(touched, &mut world), Place::Later);
    machine.report_wanted(&mut world, 50);
    assert_eq!(world.reports.last().unwrap().urgent, Urgency::Starved);
    world.supply.target = 4;
    assert_eq!(machine.place(touched, &mut world), Place::Present);
    // What was never given is not there.
    let plugged = machine.table.hotplug_base();
    assert_eq!(machine.place(plugged, &mut world), Place::Nothing);
}

#[test]
fn figures_that_the_guest_does_not_refresh_grow_old() {
    let (mut machine, mut world) = machine(4, 0);
    machine.time(&mut world, 1000);
    let age_ms = |world: &World| world.reports.last().unwrap().age_ms;
    assert_eq!(age_ms(&world), 1000, "since it started");
    set_up_balloon(&mut machine, &mut world, BASES);
    let speak = |machine: &mut Machine, world: &mut World, now_ms| {
        tell(
            machine,
            world,
            BASES[2],
            now_ms,
            &[(6, 4 << 20), (5, 7 << 20)],
        );
    };
    speak(&mut machine, &mut world, 1100);
    machine.time(&mut world, 1600);
    machine.time(&mut world, 1700);
    assert_eq!(age_ms(&world), 600);
    for now_ms in (2000..31_000).step_by(500) {
        machine.time(&mut world, now_ms);
        assert_eq!(machine.silence(now_ms), None, "{now_ms}");
    }
    assert!(age_ms(&world) > 28_000);
    assert_eq!(world.reports.last().unwrap().available_kib, Some(4096));
    let silence = Silence {
        cause: Cause::Unanswered,
        for_ms: 30_000,
    };
    assert_eq!(machine.silence(31_100), Some(silence));
    assert_eq!(machine.silence(60_000), None);
    speak(&mut machine, &mut world, 61_100);
    assert_eq!(machine.take_heard_again(), Some(60_000));
    assert_eq!(age_ms(&world), 0, "a late answer is reported at once");
    // Its driver goes away; then it is there again, and breaks the protocol.
    word(&mut machine, &mut world, BALLOON + 0x70, 0);
    let silence = machine.silence(91_100).unwrap();
    assert_eq!(silence.cause, Cause::DriverGone);
    set_up_balloon(&mut machine, &mut world, BASES);
    machine.excuse(100_000);
    machine.balloon.transport.fail();
    let silence = machine.silence(130_000).unwrap();
    assert_eq!(silence.cause, Cause::DriverFailed);
}

/// Plugs pieces `first..first + count` of the region as a driver does.
fn plug(machine: &mut Machine, world: &mut World, base: u64, now_ms: u64, first: u64, count: u64) {
    let region = machine.table.hotplug_base();
    let mut request = 0u64.to_le_bytes().to_vec();
    request.extend_from_slice(&(region + (first << 21)).to_le_bytes());
    request.extend_from_slice(&count.to_le_bytes());
    offer_bytes_at(machine, world, (HOTPLUG, 0), base, &request, now_ms);
}

#[test]
fn what_is_plugged_counts_as_far_as_the_guests_own_total_moved() {
    const MIB: u64 = 1 << 20;
    let (mut machine, mut world) = machine(64, 128);
    world.supply.target = 64;
    machine.memory_changed(&mut world, 0);
    assert_eq!(machine.report(0).reach_kib, Some(128 << 10), "no driver");
    set_up_balloon(&mut machine, &mut world, BASES);
    let speak = |machine: &mut Machine, world: &mut World, now_ms, online_mib: u64| {
        let total = (118 + online_mib) * MIB;
        tell(
            machine,
            world,
            BASES[2],
            now_ms,
            &[(6, 60 * MIB), (5, total)],
        );
    };
    speak(&mut machine, &mut world, 100, 0);
    negotiate(&mut machine, &mut world, HOTPLUG);
    let requests = map::RAM + 0x1_8000;
    set_up_queue(&mut machine, &mut world, HOTPLUG, 0, requests);
    word(&mut machine, &mut world, HOTPLUG + 0x70, 15);
    let report = machine.report(100);
    assert_eq!((report.reach_kib, report.uptake), (None, Uptake::Taken));
    // The cushion has had its time.
    world.supply.target = 104;
    machine.memory_changed(&mut world, 1000);
    plug(&mut machine, &mut world, requests, 1000, 0, 40);
    assert_eq!(machine.table.plugged(), 40);
    // A part is online, the rest is not, and will not be.
    speak(&mut machine, &mut world, 1010, 16);
    assert_eq!(machine.report(1010).visible_kib, (128 + 16) << 10);
    for now_ms in (1500..7000).step_by(500) {
        speak(&mut machine, &mut world, now_ms, 16);
    }
    let report = machine.report(7000);
    assert_eq!(report.uptake, Uptake::NotTaken);
    assert_eq!(report.reach_kib, Some((128 + 16) << 10));
    assert_eq!(machine.take_news(), Some(News::NotOnline(64)));
    // What was offered is asked back, whatever the target says.
    let requested = machine.read(HOTPLUG + 0x100 + 48, Width::Double);
    assert_eq!(requested, 8 << 21);
    machine.memory_changed(&mut world, 7100);
    let requested = machine.read(HOTPLUG + 0x100 + 48, Width::Double);
    assert_eq!(requested, 8 << 21);
    // Another driver may do better.
    word(&mut machine, &mut world, HOTPLUG + 0x70, 0);
    negotiate(&mut machine, &mut world, HOTPLUG);
    set_up_queue(&mut machine, &mut world, HOTPLUG, 0, requests);
    word(&mut machine, &mut world, HOTPLUG + 0x70, 15);
    assert_eq!(machine.report(7200).uptake, Uptake::Taken);
}

#[test]
fn a_guest_out_of_memory_waits_for_others_then_for_the_reserve_and_for_plugging() {
    let (mut machine, mut world) = machine(8, 16);
    set_up_balloon(&mut machine, &mut world, BASES);
    negotiate(&mut machine, &mut world, HOTPLUG);
    let requests = map::RAM + 0x1_8000;
    set_up_queue(&mut machine, &mut world, HOTPLUG, 0, requests);
    word(&mut machine, &mut world, HOTPLUG + 0x70, 15);
    machine.memory_changed(&mut world, 0);
    // The cushion: half of its startup, plugged and ballooned, neither granted nor promised.
    plug(&mut machine, &mut world, requests, 0, 0, 4);
    assert_eq!(machine.read(BALLOON + 0x100, Width::Word), 4 * 512);
    let first = (machine.table.hotplug_base() / 4096) as u32;
    for half in [first..first + 1024, first + 1024..first + 2048] {
        let pages: Vec<u32> = half.collect();
        offer_pages(&mut machine, &mut world, 0, BASES[0], &pages);
    }
    assert_eq!(machine.table.ballooned_pages(), 4 * 512);
    assert_eq!(machine.table.granted() + machine.table.reported(), 8);
    // Its OOM notifier takes 1 MiB, and waits.
    let pages: Vec<u32> = (first + 1792..first + 2048).collect();
    offer_pages(&mut machine, &mut world, 1, BASES[1], &pages);
    assert_eq!(world.reports.last().unwrap().urgent, Urgency::Starved);
    let deflating = [0, 1999, 2000].map(|now_ms| machine.report(now_ms).deflating_kib);
    assert_eq!(deflating, [0, 0, 2048], "the reserve comes last");
    // Others gave: the memory is promised, and the answer waits until more is plugged.
    world.supply.target = 12;
    machine.memory_changed(&mut world, 20);
    assert_eq!(machine.table.reported(), 1);
    assert!(machine.balloon.is_holding());
    assert!(machine.next_ms() <= 220);
    let requested = machine.read(HOTPLUG + 0x100 + 48, Width::Double) >> 21;
    assert_eq!(requested, 4 + 3);
    plug(&mut machine, &mut world, requests, 30, 4, 3);
    assert!(!machine.balloon.is_holding());
    assert_eq!(machine.table.granted() + machine.table.reported(), 12);
}
