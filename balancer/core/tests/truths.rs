//! What a guest says and does not say: old figures, silence, memory that it does not take.

use balancer_core::{Action, Balancer, Snapshot};
use protocol::balancer::{
    Flag, Mode, OnRefusal, OnSilence, PauseState, Report, SILENT_MS, Settings, Uptake,
};
use protocol::memory::{Account, Bounds, HostAccount};
use protocol::units::{GuestId, Pieces};

const POOL_MIB: u64 = 2048;
const STARTUP_MIB: u64 = 256;
const MAXIMUM_MIB: u64 = 1024;

fn pieces(mib: u64) -> Pieces {
    Pieces::from_mib_ceil(mib)
}

/// Guests that have all that their targets say at once.
struct World {
    balancer: Box<Balancer<4>>,
    accounts: [Option<Account>; 4],
    now_ms: u64,
}

impl World {
    fn new(guests: u16) -> Self {
        let mut world = Self {
            balancer: Box::new(Balancer::new(Pieces(0))),
            accounts: [None; 4],
            now_ms: 1000,
        };
        let bounds = Bounds {
            minimum: pieces(128),
            startup: pieces(STARTUP_MIB),
            maximum: pieces(MAXIMUM_MIB),
        };
        for guest in 0..guests {
            let settings = Settings {
                mode: Mode::Dynamic,
                bounds,
                buffer_percent: 20,
                weight: 5000,
                on_refusal: OnRefusal::Mark,
                deadline_ms: 2000,
                on_silence: OnSilence::Keep,
            };
            world
                .balancer
                .started(1000, GuestId(guest), settings)
                .unwrap();
            world.accounts[usize::from(guest)] = Some(Account {
                assigned: bounds.startup,
                target: bounds.startup,
                minimum: bounds.minimum,
                startup: bounds.startup,
                maximum: bounds.maximum,
                ..Account::default()
            });
        }
        world
    }

    fn snapshot(&self) -> Snapshot<4> {
        let sum = |part: fn(&Account) -> Pieces| {
            let accounts = self.accounts.iter().flatten();
            accounts.fold(Pieces(0), |sum, account| sum.plus(part(account)))
        };
        let granted = sum(|account| account.assigned);
        let claimed = sum(|account| {
            let held = account.assigned.plus(account.earmarked);
            held.max(account.target).max(account.minimum)
        });
        Snapshot {
            host: HostAccount {
                total: pieces(POOL_MIB),
                pool: pieces(POOL_MIB).minus(granted),
                granted,
                cleaning: Pieces(0),
                promised: claimed.minus(granted),
            },
            accounts: self.accounts,
        }
    }

    fn account(&mut self, guest: u16) -> &mut Account {
        self.accounts[usize::from(guest)].as_mut().unwrap()
    }

    fn decide(&mut self) {
        for action in self.balancer.decide(self.now_ms, &self.snapshot()) {
            match action {
                Action::SetTarget { guest, target } => {
                    let account = self.account(guest.0);
                    account.target = target;
                    let room = target.minus(account.earmarked);
                    account.assigned = account.assigned.max(room).min(target.max(account.minimum));
                }
                Action::Revoke { guest, pieces } => {
                    let account = self.account(guest.0);
                    assert!(pieces <= account.earmarked, "a piece was taken by force");
                    account.earmarked = account.earmarked.minus(pieces);
                }
            }
        }
    }

    /// A second passes; this is what guests say in it: who, what they see and what they use in MiB, and the rest.
    fn second(&mut self, said: &[(u16, u64, u64, Report)]) {
        self.now_ms += 1000;
        for (guest, visible_mib, used_mib, rest) in said {
            let report = Report {
                visible_kib: visible_mib << 10,
                available_kib: Some((visible_mib - used_mib) << 10),
                ..*rest
            };
            self.balancer
                .report(self.now_ms, GuestId(*guest), &report)
                .unwrap();
        }
        self.decide();
    }

    fn row(&self, guest: u16) -> protocol::balancer::Row {
        self.balancer.row(self.now_ms, GuestId(guest)).unwrap()
    }

    fn held_mib(&mut self, guest: u16) -> u64 {
        let account = self.account(guest);
        account.assigned.plus(account.earmarked).mib()
    }
}

#[test]
fn a_guest_that_does_not_take_memory_is_promised_what_it_can_reach_and_told_why() {
    for (reach_mib, uptake, flag) in [
        (256, Uptake::NotTaken, Flag::NotTaking),
        (300, Uptake::NotTaken, Flag::NotTaking),
        // Without a driver nothing was offered; it is at its maximum, as far as anybody can do something.
        (256, Uptake::Taken, Flag::None),
    ] {
        let mut world = World::new(2);
        let rest = Report {
            reach_kib: Some(reach_mib << 10),
            uptake,
            ..Report::default()
        };
        for _ in 0..10 {
            let visible_mib = world.held_mib(0).min(reach_mib);
            world.second(&[(0, visible_mib, visible_mib - 10, rest)]);
        }
        assert_eq!(world.row(0).target.mib(), reach_mib);
        assert!(world.held_mib(0) <= reach_mib);
        let row = world.row(0);
        assert!(row.flag == flag || flag == Flag::None, "{row:?}");
        let why = world.balancer.why(GuestId(0)).unwrap();
        assert_eq!(
            why.contains("boot it with memhp_default_state=online_movable"),
            uptake == Uptake::NotTaken,
            "{why}"
        );
    }
}

#[test]
fn a_guest_is_silent_when_it_gives_no_figures_whatever_its_vmm_says() {
    let mut world = World::new(2);
    let fresh = Report::default();
    world.second(&[(0, 256, 100, fresh)]);
    let mut silent_s = 0;
    while world.row(0).flag != Flag::Silent {
        silent_s += 1;
        assert!(silent_s * 1000 <= SILENT_MS, "{:?}", world.row(0));
        let old = Report {
            age_ms: silent_s as u32 * 1000,
            ..fresh
        };
        world.second(&[(0, 256, 100, old)]);
        assert_eq!(u64::from(world.row(0).age_ms), silent_s * 1000);
    }
    assert_eq!(silent_s * 1000, SILENT_MS);
    // One that never said anything may be booting.
    assert_eq!(world.row(1).flag, Flag::Starting);
    for _ in 0..30 {
        world.second(&[]);
    }
    assert_eq!(world.row(1).flag, Flag::NoDriver);
    world.second(&[(0, 256, 100, fresh)]);
    assert_eq!(world.row(0).flag, Flag::None);
    assert_eq!(world.row(0).age_ms, 0);
}

#[test]
fn what_a_guest_that_cannot_run_reported_free_is_a_figure_and_others_can_have_it() {
    for state in [PauseState::Paused, PauseState::Running] {
        let mut world = World::new(2);
        let fresh = Report::default();
        // It used a lot and reported it free.
        *world.account(0) = Account {
            assigned: pieces(200),
            earmarked: pieces(824),
            target: pieces(1024),
            ..*world.account(0)
        };
        world.second(&[(0, 1024, 120, fresh), (1, 256, 100, fresh)]);
        assert_eq!(world.balancer.host_row().reported.mib(), 824);
        if state == PauseState::Paused {
            world
                .balancer
                .paused(world.now_ms, GuestId(0), state)
                .unwrap();
        }
        for _ in 0..60 {
            let visible_mib = world.held_mib(1);
            world.second(&[(1, visible_mib, visible_mib - 5, fresh)]);
        }
        assert_eq!(world.held_mib(1), MAXIMUM_MIB, "{state:?}");
        assert!(
            world.account(0).assigned.mib() >= 200,
            "what it holds stays"
        );
        assert!(world.balancer.host_row().reported.mib() <= 824);
    }
}

/// A guest that uses up what it has may be too busy to answer: what it said last, and how soon it was to be asked again, hold.
#[test]
fn a_guest_that_did_not_answer_is_asked_again_as_soon_as_it_would_have_been() {
    for (used_mib, at_most_ms) in [(111, 150), (230, 30), (255, 10)] {
        let mut balancer = Box::new(Balancer::<4>::new(Pieces(0)));
        let world = World::new(1);
        let settings = Settings {
            mode: Mode::Dynamic,
            bounds: Bounds {
                minimum: pieces(128),
                startup: pieces(STARTUP_MIB),
                maximum: pieces(MAXIMUM_MIB),
            },
            buffer_percent: 20,
            weight: 5000,
            on_refusal: OnRefusal::Mark,
            deadline_ms: 2000,
            on_silence: OnSilence::Keep,
        };
        balancer.started(1000, GuestId(0), settings).unwrap();
        balancer.decide(1000, &world.snapshot());
        let mut report = Report {
            visible_kib: STARTUP_MIB * 1024,
            available_kib: Some((STARTUP_MIB - used_mib) * 1024),
            ..Report::default()
        };
        let (fresh, _) = balancer.report(1100, GuestId(0), &report).unwrap();
        assert!(fresh.in_ms <= at_most_ms, "{used_mib}: {fresh:?}");
        report.age_ms = 40;
        let (stale, _) = balancer.report(1140, GuestId(0), &report).unwrap();
        assert_eq!(stale.in_ms, fresh.in_ms, "{used_mib} MiB used");
        // For ever it is not: then a second apart, until it is silent.
        let (old, _) = balancer.report(9000, GuestId(0), &report).unwrap();
        assert_eq!(old.in_ms, 1000);
    }
}

/// A guest whose use rises again, and that remembers much, is promised memory ahead: up to its maximum and no further, or the
/// memory server would refuse it all.
#[test]
fn what_is_promised_ahead_of_a_rise_stays_within_the_maximum() {
    let mut world = World::new(1);
    let ahead = Report {
        ahead_kib: MAXIMUM_MIB << 10,
        ..Report::default()
    };
    for used_mib in [780, 780, 300, 300, 700] {
        // Reports that are 400 ms apart.
        world.now_ms -= 600;
        let visible_mib = world.held_mib(0).max(used_mib);
        world.second(&[(0, visible_mib, used_mib, ahead)]);
        let target = world.account(0).target;
        assert!(
            target <= pieces(MAXIMUM_MIB),
            "uses {used_mib} MiB: the target is {} MiB",
            target.mib()
        );
    }
    assert_eq!(world.account(0).target, pieces(MAXIMUM_MIB));
}
