//! Prints what one decision costs the host that this runs on, with 16, 64 and 1,000 guests: all of them short, so that every
//! level of the plan is gone through.

use balancer_core::{Balancer, Snapshot};
use protocol::balancer::{Mode, OnRefusal, OnSilence, Report, Settings};
use protocol::memory::{Account, Bounds, HostAccount};
use protocol::units::{GuestId, Pieces};
use std::time::Instant;

const SETTINGS: Settings = Settings {
    mode: Mode::Dynamic,
    bounds: Bounds {
        minimum: Pieces(32),
        startup: Pieces(128),
        maximum: Pieces(2048),
    },
    buffer_percent: 20,
    weight: 5000,
    on_refusal: OnRefusal::Mark,
    deadline_ms: 2000,
    on_silence: OnSilence::Keep,
};

fn round<const N: usize>(guests: u16) {
    let mut balancer = Box::new(Balancer::<N>::new(Pieces(64)));
    let mut snapshot = Box::new(Snapshot::<N>::default());
    for (id, slot) in (0..guests).zip(snapshot.accounts.iter_mut()) {
        let started = balancer.started(0, GuestId(id), SETTINGS);
        assert!(started.is_ok(), "{started:?}");
        *slot = Some(Account {
            assigned: Pieces(128),
            target: Pieces(128),
            minimum: SETTINGS.bounds.minimum,
            startup: SETTINGS.bounds.startup,
            maximum: SETTINGS.bounds.maximum,
            ..Account::default()
        });
        let report = Report {
            visible_kib: 256 * 1024,
            available_kib: Some(u64::from(id % 64) * 1024),
            ..Report::default()
        };
        let answer = balancer.report(1, GuestId(id), &report);
        assert!(answer.is_ok(), "{answer:?}");
    }
    let granted = u32::from(guests) * 128;
    snapshot.host = HostAccount {
        total: Pieces(granted + 256),
        pool: Pieces(256),
        granted: Pieces(granted),
        ..HostAccount::default()
    };
    const ROUNDS: u32 = 200;
    let began = Instant::now();
    let mut actions = 0;
    for now_ms in 2..2 + u64::from(ROUNDS) {
        actions += balancer.decide(now_ms, &snapshot).len();
    }
    let ns = began.elapsed().as_nanos() / u128::from(ROUNDS);
    println!(
        "{guests:>5} guests: {:>8} ns a round, {:>5} ns a guest, {} actions a round",
        ns,
        ns / u128::from(guests),
        actions / ROUNDS as usize
    );
}

fn main() {
    round::<16>(16);
    round::<64>(64);
    round::<1024>(1000);
}
