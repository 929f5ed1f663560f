//! The policy's behaviour, each rule of the book's page `dynamic-memory.md` on a simulated host.

mod sim;

use proptest::prelude::*;
use protocol::badge::Client;
use protocol::balancer::{
    Change, Flag, Mode, OnRefusal, PauseState, Reply, Request, Settings, Status,
};
use protocol::units::{GuestId, Pieces};
use sim::{Driver, Host, Manner, settings};

fn set(host: &mut Host, index: usize, change: Change) -> Reply {
    let guest = GuestId(index as u16);
    host.ask(Client::Console, Request::Set { guest, change })
}

/// Two guests of 512 MiB that may grow to 2 GiB, in a pool of 2 GiB with 128 MiB of reserve.
fn two() -> Host {
    let mut host = Host::new(2048, 128);
    for _ in 0..2 {
        host.start(settings(64, 512, 2048), 60, 0).unwrap();
    }
    host.run(3000);
    host
}

#[test]
fn a_burst_is_served_before_the_guest_suffers() {
    let mut host = two();
    host.guests[0].wanted_mib = 1200;
    host.run(3000);
    assert!(
        host.guests[0].short_ms <= 1500,
        "short for {} ms",
        host.guests[0].short_ms
    );
    let assigned = host.assigned_mib(0);
    assert!(assigned >= 1400, "{assigned} MiB");
}

#[test]
fn memory_stays_where_it_is_until_somebody_needs_it() {
    let mut host = two();
    host.guests[0].wanted_mib = 1000;
    host.settle(4000, 20_000);
    let peak = host.assigned_mib(0);
    host.guests[0].wanted_mib = 60;
    host.run(30_000);
    assert_eq!(host.assigned_mib(0), peak, "{}", host.why(0));
    assert!(
        host.why(0).contains("nobody needs the rest"),
        "{}",
        host.why(0)
    );
    host.guests[1].wanted_mib = 1200;
    host.settle(4000, 30_000);
    assert!(host.assigned_mib(1) >= 1490, "{}", host.why(1));
    assert!(host.assigned_mib(0) < peak);
}

#[test]
fn a_constant_demand_settles_and_stays() {
    let mut host = two();
    host.guests[0].wanted_mib = 900;
    host.guests[1].wanted_mib = 600;
    let settled = host.settle(3000, 20_000);
    assert!(settled <= 3000, "settled after {settled} ms");
    let (before, granted) = (host.holdings(), host.granted);
    host.run(60_000);
    assert_eq!((host.holdings(), host.granted), (before, granted));
}

/// Memory moves for somebody who lacks it, never for a buffer that may be gone before it is filled: under any alternation
/// at most 1.2 times what demand itself changed by.
#[test]
fn an_alternating_demand_moves_no_more_than_it_changes() {
    for period_ms in [200, 500, 1000, 2500, 5000, 10_000] {
        let mut host = two();
        host.guests[0].wanted_mib = 1100;
        host.guests[1].wanted_mib = 300;
        host.settle(3000, 30_000);
        let before = host.granted;
        let rounds = 60_000 / period_ms;
        for round in 0..rounds {
            let (high, low) = if round % 2 == 0 { (1, 0) } else { (0, 1) };
            host.guests[high].wanted_mib = 1100;
            host.guests[low].wanted_mib = 300;
            host.run(period_ms);
        }
        let moved = host.granted - before;
        let changed = rounds * 2 * (1100 - 300) / 2;
        println!(
            "period {period_ms} ms: {moved} pieces moved, {changed} changed: {:.2}",
            moved as f64 / changed as f64
        );
        assert!(
            moved * 10 <= changed * 12,
            "period {period_ms} ms: {moved} pieces moved, and demand changed by {changed}"
        );
    }
}

#[test]
fn a_higher_weight_means_lower_pressure() {
    let mut host = Host::new(2048, 128);
    for weight in [2000, 8000] {
        let settings = Settings {
            weight,
            ..settings(64, 512, 2048)
        };
        host.start(settings, 60, 0).unwrap();
    }
    host.run(2000);
    for guest in &mut host.guests {
        guest.wanted_mib = 850;
    }
    host.settle(4000, 40_000);
    let (low, high) = (host.row(0), host.row(1));
    assert!(
        high.assigned > low.assigned,
        "{} / {}",
        host.why(0),
        host.why(1)
    );
    assert!(high.pressure < low.pressure);
    assert!(
        low.assigned.mib() >= 850,
        "demand comes before buffers: {}",
        host.why(0)
    );
    // Changed while they run: the other way round, within 2 s.
    set(&mut host, 0, Change::Weight(9000));
    set(&mut host, 1, Change::Weight(500));
    host.run(2000);
    assert!(
        host.assigned_mib(0) > host.assigned_mib(1),
        "{} / {}",
        host.why(0),
        host.why(1)
    );
}

#[test]
fn who_refuses_is_named_and_the_others_are_served_from_elsewhere() {
    let mut host = Host::new(3072, 128);
    for _ in 0..3 {
        host.start(settings(64, 512, 2048), 60, 0).unwrap();
    }
    host.run(2000);
    for index in [0, 1] {
        host.guests[index].wanted_mib = 850;
    }
    host.settle(4000, 30_000);
    for index in [0, 1] {
        host.guests[index].wanted_mib = 100;
    }
    host.guests[0].manner = Manner::Refuses;
    host.run(5000);
    host.guests[2].wanted_mib = 1200;
    host.run(10_000);
    assert_eq!(host.row(0).status, Status::Unresponsive, "{}", host.why(0));
    assert!(host.why(0).contains("past its deadline"), "{}", host.why(0));
    assert_ne!(host.row(1).status, Status::Unresponsive);
    assert!(host.assigned_mib(2) >= 1480, "{}", host.why(2));
    // It comes to its senses.
    host.guests[0].manner = Manner::Follows(16);
    host.guests[2].wanted_mib = 1600;
    host.run(8000);
    assert_eq!(host.row(0).status, Status::Ok, "{}", host.why(0));
}

#[test]
fn force_is_used_only_where_it_was_asked_for() {
    let mut host = Host::new(2048, 128);
    let settings = Settings {
        on_refusal: OnRefusal::Revoke,
        ..settings(64, 512, 2048)
    };
    host.start(settings, 60, 0).unwrap();
    host.start(settings, 60, 0).unwrap();
    host.guests[0].wanted_mib = 1000;
    host.settle(4000, 30_000);
    host.guests[0].wanted_mib = 100;
    host.guests[0].manner = Manner::Refuses;
    host.run(4000);
    host.guests[1].wanted_mib = 1200;
    // Each step of its growth is asked for first.
    host.run(20_000);
    assert!(host.assigned_mib(1) >= 1480, "{}", host.why(1));
    assert!(host.assigned_mib(0) >= 60, "never below its minimum");
}

#[test]
fn a_guest_that_drips_is_not_called_cooperative() {
    let mut host = two();
    host.guests[0].wanted_mib = 1000;
    host.settle(4000, 30_000);
    host.guests[0].wanted_mib = 100;
    host.guests[0].manner = Manner::Drips(100);
    host.run(4000);
    host.guests[1].wanted_mib = 1400;
    host.run(8000);
    assert_eq!(host.row(0).status, Status::Unresponsive, "{}", host.why(0));
}

#[test]
fn what_is_stranded_is_no_refusal_and_not_lost_to_the_guest() {
    let mut host = two();
    host.guests[0].wanted_mib = 1000;
    host.settle(4000, 30_000);
    host.guests[0].wanted_mib = 300;
    host.guests[0].manner = Manner::Strands(4);
    host.run(4000);
    host.guests[1].wanted_mib = 1100;
    let mut stranded_mib = 0;
    for _ in 0..200 {
        host.run(100);
        stranded_mib = stranded_mib.max(host.row(0).stranded_mib);
    }
    let row = host.row(0);
    assert_eq!(row.status, Status::Ok, "{}", host.why(0));
    assert!(stranded_mib > 50, "{stranded_mib} MiB");
    assert!(host.assigned_mib(1) >= 1370, "{}", host.why(1));
    // It grows again, through what is stranded as well.
    host.guests[1].wanted_mib = 100;
    host.run(4000);
    host.guests[0].wanted_mib = 1200;
    host.run(6000);
    assert_eq!(host.guests[0].stranded, 0);
    assert!(
        u64::from(host.row(0).visible_mib) >= 1490,
        "{}",
        host.why(0)
    );
}

#[test]
fn starting_reclaims_first_and_is_refused_with_the_arithmetic() {
    let mut host = two();
    host.guests[0].wanted_mib = 600;
    host.guests[1].wanted_mib = 600;
    host.settle(4000, 30_000);
    host.guests[1].wanted_mib = 100;
    host.run(5000);
    // 128 of reserve, 750 and 750 assigned: 420 free.
    let third = host.start(settings(64, 512, 1024), 60, 10_000).unwrap();
    host.run(2000);
    assert_eq!(host.assigned_mib(third), 512);
    let refused = host.start(settings(64, 1024, 1024), 60, 10_000);
    let Err(Reply::NoRoom { needed, available }) = refused.map_err(|reply| *reply) else {
        panic!("a guest was started without room for it");
    };
    assert_eq!(needed, Pieces(512));
    assert!(available < needed && available > Pieces(0), "{available:?}");
}

#[test]
fn a_start_waits_for_a_late_guest_and_is_refused_when_it_stays_late() {
    for (manner, starts) in [(Manner::Follows(16), true), (Manner::Refuses, false)] {
        let mut host = two();
        host.guests[0].wanted_mib = 1000;
        host.settle(4000, 30_000);
        host.guests[0].manner = Manner::Refuses;
        host.guests[0].wanted_mib = 100;
        host.run(3000);
        // 128 of reserve, 512 and 1250 assigned. Somebody asks for what the late guest has, and it gives nothing.
        host.guests[1].wanted_mib = 700;
        host.run(6000);
        assert_eq!(host.row(0).status, Status::Unresponsive, "{}", host.why(0));
        let new = settings(64, 512, 1024);
        let early = host.start(new, 60, 2000);
        assert!(matches!(
            early.map_err(|reply| *reply),
            Err(Reply::Wait { .. })
        ));
        host.guests[0].manner = manner;
        let later = host.start(new, 60, 60_000).map_err(|reply| *reply);
        if starts {
            assert_eq!(later, Ok(2));
        } else {
            assert!(matches!(later, Err(Reply::NoRoom { .. })), "{later:?}");
        }
    }
}

#[test]
fn a_stopped_guest_gives_everything_back() {
    let mut host = two();
    host.guests[0].wanted_mib = 900;
    host.settle(4000, 30_000);
    host.stop(0);
    host.run(1000);
    assert_eq!(host.free_mib() + host.assigned_mib(1), 2048);
    host.guests[1].wanted_mib = 1500;
    host.run(6000);
    assert!(host.assigned_mib(1) >= 1800, "{}", host.why(1));
}

#[test]
fn a_guest_without_a_driver_is_left_alone() {
    let mut host = two();
    let index = host.start(settings(64, 512, 2048), 60, 0).unwrap();
    host.guests[index].reports = Driver::Absent;
    host.run(1000);
    assert_eq!(host.row(index).flag, Flag::Starting);
    host.run(60_000);
    assert_eq!(host.row(index).flag, Flag::NoDriver);
    host.guests[0].wanted_mib = 1500;
    host.run(10_000);
    assert_eq!(host.assigned_mib(index), 512, "{}", host.why(index));
    assert_eq!(host.row(index).status, Status::Ok);
}

#[test]
fn a_paused_guest_keeps_its_memory_and_is_not_blamed() {
    let mut host = two();
    host.guests[0].wanted_mib = 1000;
    host.settle(4000, 30_000);
    host.guests[0].wanted_mib = 60;
    host.run(3000);
    let paused = Request::Paused {
        guest: GuestId(0),
        state: PauseState::Paused,
    };
    assert_eq!(host.ask(Client::Supervisor, paused), Reply::Done);
    let before = host.assigned_mib(0);
    host.guests[1].wanted_mib = 1500;
    host.run(70_000);
    let row = host.row(0);
    assert_eq!(
        (row.assigned.mib(), row.status, row.flag),
        (before, Status::Ok, Flag::Paused)
    );
    let running = Request::Paused {
        guest: GuestId(0),
        state: PauseState::Running,
    };
    assert_eq!(host.ask(Client::Supervisor, running), Reply::Done);
    host.run(10_000);
    assert!(host.assigned_mib(0) < before, "{}", host.why(0));
}

#[test]
fn a_raised_reserve_presses_all_guests() {
    let mut host = two();
    for guest in &mut host.guests {
        guest.wanted_mib = 600;
    }
    host.settle(4000, 30_000);
    host.set_reserve(700);
    host.run(6000);
    let total: u64 = host.holdings().iter().sum();
    assert!(
        total <= 2048 - 700,
        "{total} MiB: {} / {}",
        host.why(0),
        host.why(1)
    );
    assert!(host.assigned_mib(0).abs_diff(host.assigned_mib(1)) <= 4);
    let Reply::Refused(why) = host.ask(Client::Console, Request::SetReserve(Pieces(1025))) else {
        panic!("a reserve above the pool was taken");
    };
    assert!(why.contains("2048"), "{why}");
}

#[test]
fn static_memory_is_startup() {
    let mut host = two();
    assert_eq!(set(&mut host, 0, Change::Mode(Mode::Static)), Reply::Done);
    host.guests[0].wanted_mib = 1000;
    host.run(5000);
    assert_eq!(host.assigned_mib(0), 512);
    assert_eq!(set(&mut host, 0, Change::Mode(Mode::Dynamic)), Reply::Done);
    host.run(5000);
    assert!(host.assigned_mib(0) > 1200, "{}", host.why(0));
}

#[test]
fn limits_change_while_the_guest_runs_and_show_within_two_seconds() {
    let mut host = two();
    host.guests[0].wanted_mib = 1500;
    assert_eq!(set(&mut host, 0, Change::Maximum(Pieces(400))), Reply::Done);
    host.run(5000);
    assert_eq!(host.assigned_mib(0), 800);
    assert_eq!(host.row(0).flag, Flag::AtMaximum);
    assert_eq!(set(&mut host, 0, Change::Maximum(Pieces(500))), Reply::Done);
    host.run(2000);
    assert_eq!(host.assigned_mib(0), 1000);
    assert_eq!(set(&mut host, 0, Change::Minimum(Pieces(250))), Reply::Done);
    assert_eq!(host.row(0).settings.bounds.minimum, Pieces(250));
    // More than can be promised: refused with the numbers, and nothing has changed.
    assert_eq!(
        set(&mut host, 1, Change::Maximum(Pieces(2000))),
        Reply::Done
    );
    assert_eq!(
        set(&mut host, 1, Change::Startup(Pieces(1000))),
        Reply::Done
    );
    let Reply::Refused(why) = set(&mut host, 1, Change::Minimum(Pieces(900))) else {
        panic!("memory was promised twice");
    };
    assert!(why.contains("free of promises"), "{why}");
    assert_eq!(host.row(1).settings.bounds.minimum, Pieces(32));
    // The buffer: 20 % to 50 % of 300 MiB.
    host.guests[1].wanted_mib = 350;
    host.guests[0].wanted_mib = 100;
    host.run(4000);
    assert_eq!(set(&mut host, 1, Change::Buffer(50)), Reply::Done);
    host.run(2000);
    assert!(host.assigned_mib(1) >= 700, "{}", host.why(1));
}

#[test]
fn each_client_is_kept_to_its_own_requests() {
    let mut host = two();
    for (client, request) in [
        (Client::Vmm(GuestId(0)), Request::Stopped(GuestId(1))),
        (Client::Vmm(GuestId(0)), Request::Row(GuestId(1))),
        (Client::Console, Request::Stopped(GuestId(0))),
        (Client::Supervisor, Request::SetReserve(Pieces(0))),
    ] {
        let reply = host.ask(client, request.clone());
        assert!(
            matches!(reply, Reply::Refused(_)),
            "{client:?} {request:?}: {reply:?}"
        );
    }
}

#[derive(Clone, Debug)]
enum Event {
    Wants(usize, u64),
    Behaves(usize, Manner),
    Stops(usize),
    Starts(u32),
    Weighs(usize, u16),
    Buffers(usize, u8),
    Passes(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let guest = 0usize..5;
    let manner = prop_oneof![
        3 => (1u32..40).prop_map(Manner::Follows),
        1 => Just(Manner::Refuses),
        1 => (1u64..50).prop_map(Manner::Drips),
        2 => (2usize..20).prop_map(Manner::Strands),
    ];
    prop_oneof![
        6 => (guest.clone(), 0u64..1500).prop_map(|(g, mib)| Event::Wants(g, mib)),
        1 => (guest.clone(), manner).prop_map(|(g, manner)| Event::Behaves(g, manner)),
        1 => guest.clone().prop_map(Event::Stops),
        1 => (64u32..600).prop_map(Event::Starts),
        1 => (guest.clone(), any::<u16>()).prop_map(|(g, weight)| Event::Weighs(g, weight)),
        1 => (guest, any::<u8>()).prop_map(|(g, percent)| Event::Buffers(g, percent)),
        6 => (10u64..4000).prop_map(Event::Passes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever the guests do: nothing is promised twice, nobody is asked for what it uses, every target is allowed (the
    /// host checks each tick), and a guest that co-operates and fits is not left short.
    #[test]
    fn the_promises_hold_for_any_guests(events in proptest::collection::vec(event(), 1..40)) {
        let mut host = Host::new(2048, 128);
        host.start(settings(64, 256, 1024), 60, 0).unwrap();
        for event in events {
            let count = host.guests.len();
            match event {
                Event::Wants(g, mib) => host.guests[g % count].wanted_mib = mib,
                Event::Behaves(g, manner) => host.guests[g % count].manner = manner,
                Event::Stops(g) => host.stop(g % count),
                Event::Starts(mib) if count < 5 => {
                    let _ = host.start(settings(64, mib / 2 * 2, 1024), 60, 500);
                }
                Event::Starts(_) => {}
                Event::Weighs(g, weight) => {
                    set(&mut host, g % count, Change::Weight(weight));
                }
                Event::Buffers(g, percent) => {
                    set(&mut host, g % count, Change::Buffer(percent));
                }
                Event::Passes(ms) => host.run(ms),
            }
        }
        for guest in &mut host.guests {
            guest.wanted_mib = 100;
        }
        host.run(15_000);
        // What those who give nothing back hold is not there for the others; each wants 100 and a little to move in.
        let refused: u64 = host
            .guests
            .iter()
            .filter(|guest| guest.manner == Manner::Refuses)
            .map(|guest| guest.held_mib())
            .sum();
        let fits = 2048 - 128 >= refused + 116 * host.guests.len() as u64;
        for index in 0..host.guests.len() {
            let guest = &host.guests[index];
            if guest.reports == Driver::Present && fits {
                prop_assert!(guest.held_mib() >= 100, "guest {} has {} MiB: {}", index, guest.held_mib(), host.why(index));
            }
        }
    }
}

#[test]
fn a_deflation_that_waits_is_served_whatever_the_target_says() {
    let mut host = two();
    host.guests[0].wanted_mib = 500;
    host.guests[1].wanted_mib = 900;
    host.settle(4000, 30_000);
    host.guests[0].wanted_mib = 100;
    host.run(3000);
    // All that is free goes to the second guest; the first is asked to give, but its driver waits for a deflation.
    host.guests[0].manner = Manner::Refuses;
    host.guests[1].wanted_mib = 1700;
    host.run(1000);
    let before = host.row(0);
    assert!(before.target < before.assigned, "{}", host.why(0));
    host.guests[0].deflating = 1;
    host.deflations = 1;
    host.run(1100);
    let row = host.row(0);
    assert_eq!(host.guests[0].deflating, 0, "served");
    assert_eq!(row.assigned, before.assigned.plus(Pieces(1)));
    host.guests[0].manner = Manner::Follows(16);
    host.run(10_000);
    assert!(host.assigned_mib(0) < before.assigned.mib());
}

#[test]
fn a_guest_that_has_come_to_need_what_it_was_asked_for_is_not_left_out() {
    let mut host = Host::new(2048, 128);
    host.start(settings(64, 256, 1024), 60, 0).unwrap();
    host.guests[0].wanted_mib = 700;
    for ms in [1291, 611] {
        host.run(ms);
    }
    let _ = host.start(settings(64, 130, 1024), 60, 500);
    host.guests[0].manner = Manner::Refuses;
    let _ = host.start(settings(64, 264, 1024), 60, 500);
    host.guests[0].wanted_mib = 0;
    host.run(21);
    host.guests[1].manner = Manner::Refuses;
    host.guests[1].wanted_mib = 654;
    for ms in [621, 401, 471, 1871] {
        host.run(ms);
    }
    host.guests[0].manner = Manner::Follows(7);
    host.guests[1].wanted_mib = 820;
    host.guests[0].wanted_mib = 986;
    host.run(1281);
    // The third is asked for what it does not use, and then uses it: it cannot give it any more.
    host.guests[2].wanted_mib = 68;
    for ms in [2471, 2271, 461] {
        host.run(ms);
    }
    for guest in &mut host.guests {
        guest.wanted_mib = 100;
    }
    host.run(15_000);
    assert!(host.guests[2].held_mib() >= 100, "{}", host.why(2));
}

#[test]
fn what_a_short_guest_lacks_is_taken_however_little_it_is() {
    let mut host = Host::new(2048, 128);
    host.start(settings(64, 256, 1024), 60, 0).unwrap();
    for _ in 0..3 {
        let _ = host.start(settings(64, 64, 1024), 60, 500);
    }
    host.guests[0].wanted_mib = 955;
    host.guests[1].wanted_mib = 772;
    host.stop(2);
    set(&mut host, 3, Change::Buffer(7));
    host.run(1621);
    for guest in &mut host.guests {
        guest.wanted_mib = 100;
    }
    // The others hold nearly all, and a few pieces are not worth the work of guests of their size.
    host.run(15_000);
    assert!(host.guests[3].held_mib() >= 100, "{}", host.why(3));
}
