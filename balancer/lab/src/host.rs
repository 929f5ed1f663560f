//! One host: guests, their memory, the memory server and a policy, in ticks of 10 ms.

use crate::curve::Cursor;
use crate::ledger::Ledger;
use crate::linux::Frames;
use crate::mechanism::{Flow, Mechanism, Plugging, Reporting};
use crate::noise::Noise;
use crate::policy::{Policy, Room, Target, Urgent, View};
use crate::trace::{GuestTrace, Manner, Trace};
use protocol::balancer::{Counters, Report, Uptake, Urgency};
use protocol::memory::Refusal;

/// A tick, in milliseconds. No report follows another sooner.
pub const TICK_MS: u64 = 10;
/// What happens before this is not counted.
pub const WARM_UP_MS: u64 = 10_000;
/// The balancer's ticker.
const DECIDE_EVERY_MS: u64 = 50;
/// While a guest uses memory up, its reports are at most this far apart, and for how long after the last sign of it; how many
/// touched pieces are such a sign. These three are the VMM's.
const BUSY_REPORT_MS: u64 = 100;
const BUSY_MS: u64 = 2000;
const TOUCHED_PIECES: u32 = 4;
/// So many times its startup memory a guest can be promised ahead of its need, as its VMM reports.
const AHEAD_TIMES: u64 = 4;
/// A guest that lacks an eighth of what it has for this long kills a program.
const KILL_MS: u64 = 5000;
/// KiB in a piece.
const PIECE_KIB: u64 = 2048;

/// One guest of the simulation.
struct Guest {
    demand: Cursor,
    grow: Flow,
    give: Flow,
    noise: Noise,
    counters: Counters,
    keep: u32,
    report_due_ms: u64,
    distance_ms: u64,
    reported_ms: Option<u64>,
    busy_until_ms: u64,
    touched: u32,
    urgent: Urgency,
    frames: Frames,
    asked_since_ms: Option<u64>,
    lacking_since_ms: Option<u64>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Demand, in KiB x ms, after the warm-up.
    pub demand: u128,
    /// What of it found no memory.
    pub unmet: u128,
    /// Pieces granted as growth after the warm-up: what was promised before, when it is touched for the first time.
    pub moved: u64,
    /// Pieces promised as growth, without a frame, after the warm-up.
    pub promised: u64,
    /// Pieces granted again that had been reported free.
    pub touched: u64,
    /// Assigned memory, in KiB x ms.
    pub assigned: u128,
    /// Decisions.
    pub decisions: u64,
    /// Reports.
    pub reports: u64,
    /// Targets that the memory server refused.
    pub refused: u64,
}

impl Outcome {
    /// Unmet demand in percent of demand.
    #[must_use]
    pub fn unmet_percent(&self) -> f64 {
        if self.demand == 0 {
            return 0.0;
        }
        self.unmet as f64 * 100.0 / self.demand as f64
    }

    /// Moved memory in GiB.
    #[must_use]
    pub fn moved_gib(&self) -> f64 {
        self.moved as f64 / 512.0
    }

    /// Both together.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            demand: self.demand + other.demand,
            unmet: self.unmet + other.unmet,
            moved: self.moved + other.moved,
            promised: self.promised + other.promised,
            touched: self.touched + other.touched,
            assigned: self.assigned + other.assigned,
            decisions: self.decisions + other.decisions,
            reports: self.reports + other.reports,
            refused: self.refused + other.refused,
        }
    }
}

/// What somebody who watches a run sees after each tick.
pub struct Moment<'a> {
    /// Now.
    pub now_ms: u64,
    /// The accounts.
    pub ledger: &'a Ledger,
    /// The policy.
    pub policy: &'a dyn Policy,
    /// What each guest wants and has, in KiB.
    pub guests: &'a [Level],
}

/// A guest's level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// What its programs want, at most its maximum.
    pub demand_kib: u64,
    /// What it believes it has.
    pub visible_kib: u64,
    /// What its programs can use of what they want: what it sees, but for what has no frame because none is clean.
    pub usable_kib: u64,
}

/// A host while it runs.
struct Host<'a> {
    trace: &'a Trace,
    mechanism: Mechanism,
    ledger: Ledger,
    cleaner: Flow,
    clean_kib_s: u64,
    guests: Vec<Guest>,
    levels: Vec<Level>,
    outcome: Outcome,
}

/// Plays a trace.
///
/// # Errors
/// The guests' startups do not fit the pool.
pub fn play(
    trace: &Trace,
    mechanism: Mechanism,
    policy: &mut dyn Policy,
) -> Result<Outcome, String> {
    watch(trace, mechanism, policy, |_| {})
}

/// Plays a trace and shows each tick to `watcher`.
///
/// # Errors
/// As [`play`].
pub fn watch(
    trace: &Trace,
    mechanism: Mechanism,
    policy: &mut dyn Policy,
    mut watcher: impl FnMut(&Moment<'_>),
) -> Result<Outcome, String> {
    let mut host = Host::new(trace, mechanism);
    host.start_first(policy)?;
    let mut targets = Vec::new();
    let mut now_ms = 0;
    while now_ms < trace.length_ms {
        now_ms += TICK_MS;
        if now_ms.is_multiple_of(DECIDE_EVERY_MS) {
            host.start_next(now_ms, policy);
        }
        let urgent = host.tick(now_ms, policy);
        if urgent == Urgent::Yes
            || host.ledger.take_signal()
            || now_ms.is_multiple_of(DECIDE_EVERY_MS)
        {
            host.decide(now_ms, policy, &mut targets);
        }
        watcher(&Moment {
            now_ms,
            ledger: &host.ledger,
            policy,
            guests: &host.levels,
        });
    }
    Ok(host.outcome)
}

impl<'a> Host<'a> {
    fn new(trace: &'a Trace, mechanism: Mechanism) -> Self {
        Self {
            trace,
            mechanism,
            ledger: Ledger::new(trace.pool),
            cleaner: Flow::default(),
            clean_kib_s: mechanism.host_clean_kib_s(trace.guests.len()),
            guests: Vec::new(),
            levels: vec![Level::default(); trace.guests.len()],
            outcome: Outcome::default(),
        }
    }

    /// Starts those that are there from the beginning.
    fn start_first(&mut self, policy: &mut dyn Policy) -> Result<(), String> {
        for guest in &self.trace.guests {
            if guest.start_ms > 0 {
                break;
            }
            self.start(0, guest, policy).map_err(|refusal| {
                format!(
                    "{}: what it starts with does not fit the pool of {} MiB: {refusal:?}",
                    guest.name,
                    self.trace.pool.mib()
                )
            })?;
        }
        Ok(())
    }

    /// Starts those whose time has come, as far as there is room.
    fn start_next(&mut self, now_ms: u64, policy: &mut dyn Policy) {
        while let Some(guest) = self.trace.guests.get(self.guests.len())
            && guest.start_ms <= now_ms
        {
            let view = View {
                host: self.ledger.host(),
                accounts: self.ledger.accounts(),
            };
            let room = policy.make_room(now_ms, &guest.settings, &view);
            if room == Room::Wait || self.start(now_ms, guest, policy).is_err() {
                break;
            }
        }
    }

    fn start(
        &mut self,
        now_ms: u64,
        guest: &GuestTrace,
        policy: &mut dyn Policy,
    ) -> Result<(), Refusal> {
        let index = self.guests.len();
        self.ledger.admit(guest.settings.bounds, guest.initial)?;
        self.ledger.grow(index, guest.initial.0);
        self.guests
            .push(Guest::new(now_ms, guest, self.trace.seed, index as u64));
        policy.started(now_ms, &guest.settings);
        Ok(())
    }

    fn tick(&mut self, now_ms: u64, policy: &mut dyn Policy) -> Urgent {
        let cleaned = self.cleaner.pieces(self.clean_kib_s, TICK_MS, u32::MAX);
        self.ledger.clean(cleaned);
        let counts = now_ms > WARM_UP_MS;
        let mut urgent = Urgent::No;
        for index in 0..self.guests.len() {
            let level = self.live(now_ms, index);
            self.levels[index] = level;
            if counts {
                let lack = level.demand_kib.saturating_sub(level.usable_kib);
                let assigned = self.ledger.accounts()[index].assigned.mib() * 1024;
                self.outcome.demand += u128::from(level.demand_kib * TICK_MS);
                self.outcome.unmet += u128::from(lack * TICK_MS);
                self.outcome.assigned += u128::from(assigned * TICK_MS);
            }
            if self.speak(now_ms, index, policy) == Urgent::Yes {
                urgent = Urgent::Yes;
            }
        }
        if counts {
            self.count_waiting(now_ms);
        }
        urgent
    }

    /// What those want that should run and wait for room.
    fn count_waiting(&mut self, now_ms: u64) {
        for (index, guest) in self.trace.guests.iter().enumerate().skip(self.guests.len()) {
            if guest.start_ms > now_ms {
                break;
            }
            let maximum_kib = guest.settings.bounds.maximum.mib() * 1024;
            let demand_kib = guest.demand.at(now_ms).min(maximum_kib);
            self.levels[index].demand_kib = demand_kib;
            self.outcome.demand += u128::from(demand_kib * TICK_MS);
            self.outcome.unmet += u128::from(demand_kib * TICK_MS);
        }
    }

    fn decide(&mut self, now_ms: u64, policy: &mut dyn Policy, targets: &mut Vec<Target>) {
        targets.clear();
        let view = View {
            host: self.ledger.host(),
            accounts: self.ledger.accounts(),
        };
        policy.decide(now_ms, &view, targets);
        self.outcome.decisions += 1;
        for target in targets.iter() {
            if self.ledger.set_target(target.guest, target.pieces).is_err() {
                self.outcome.refused += 1;
            }
        }
    }

    /// A tick of a guest's life: it gives, takes, touches and leaves free.
    fn live(&mut self, now_ms: u64, index: usize) -> Level {
        let guest = &mut self.guests[index];
        let trace = &self.trace.guests[index];
        let maximum_kib = trace.settings.bounds.maximum.mib() * 1024;
        let demand_kib = guest.demand.at(&trace.demand, now_ms).min(maximum_kib);
        let account = self.ledger.accounts()[index];
        let visible = account.assigned.0 + account.earmarked.0;
        let used = (demand_kib.div_ceil(PIECE_KIB) as u32).min(visible);
        if visible > account.target.0 {
            let surplus = visible - account.target.0;
            let willing = guest.willing(now_ms, trace.manner, surplus, visible - used);
            let given = guest
                .give
                .pieces(self.mechanism.give_kib_s, TICK_MS, willing);
            self.ledger.give(index, given);
            guest.frames.gave(given);
        } else {
            guest.asked_since_ms = None;
            let wanted = account.target.0 - visible;
            if wanted > 0 {
                let most = guest
                    .grow
                    .pieces(self.mechanism.grow_kib_s, TICK_MS, wanted);
                let grown = match self.mechanism.plugging {
                    Plugging::Promised => self.ledger.earmark(index, most),
                    Plugging::Granted => self.ledger.grow(index, most),
                };
                if grown > 0 {
                    guest.busy(now_ms);
                }
                let counted = match self.mechanism.plugging {
                    Plugging::Promised => {
                        guest.frames.promised(grown);
                        &mut self.outcome.promised
                    }
                    Plugging::Granted => &mut self.outcome.moved,
                };
                if now_ms > WARM_UP_MS {
                    *counted += u64::from(grown);
                }
            }
        }
        if self.mechanism.reporting == Reporting::On {
            self.touch_and_report(now_ms, index, used);
        }
        let account = self.ledger.accounts()[index];
        let visible_kib = (account.assigned.0 + account.earmarked.0) as u64 * PIECE_KIB;
        let lack_kib = demand_kib.saturating_sub(visible_kib);
        self.guests[index].suffer(now_ms, lack_kib, visible_kib);
        let without_frame = used.saturating_sub(account.assigned.0);
        Level {
            demand_kib,
            visible_kib,
            usable_kib: demand_kib
                .min(visible_kib)
                .saturating_sub(u64::from(without_frame) * PIECE_KIB),
        }
    }

    /// What the guest uses and had reported free comes back at the touch; what has lain free goes.
    fn touch_and_report(&mut self, now_ms: u64, index: usize, used: u32) {
        let guest = &mut self.guests[index];
        let account = self.ledger.accounts()[index];
        let missing = guest.frames.missing(&account, used, guest.keep);
        if missing > 0 {
            let touched = self.ledger.touch(index, missing);
            let came = guest.frames.came(&account, touched);
            if used > account.assigned.0 {
                guest.touched += touched;
                if touched < (used - account.assigned.0).min(account.earmarked.0) {
                    // The frame is still being cleaned.
                    guest.urgent = Urgency::Event;
                }
            }
            if now_ms > WARM_UP_MS {
                self.outcome.moved += u64::from(came.grown);
                self.outcome.touched += u64::from(came.again);
            }
        }
        let account = self.ledger.accounts()[index];
        // Guests do not all look at the same moment.
        let spread_ms = index as u64 * TICK_MS;
        let back = guest
            .frames
            .goes_back(now_ms, spread_ms, &account, used, guest.keep);
        self.ledger.report_free(index, back);
    }

    /// A guest's VMM reports, if it is time.
    fn speak(&mut self, now_ms: u64, index: usize, policy: &mut dyn Policy) -> Urgent {
        let guest = &mut self.guests[index];
        let level = self.levels[index];
        let trace = &self.trace.guests[index];
        let startup_kib = trace.settings.bounds.startup.mib() * 1024;
        let ballooned_kib = startup_kib.saturating_sub(level.visible_kib);
        let mut deflating_kib = 0;
        if level.demand_kib > level.visible_kib && ballooned_kib > 0 {
            // The guest's OOM notifier takes a little out of the balloon at a time, which waits for its piece.
            guest.urgent = Urgency::Event;
            deflating_kib = PIECE_KIB;
        }
        if guest.touched >= TOUCHED_PIECES {
            guest.touched = 0;
            guest.busy(now_ms);
            guest.report_due_ms = now_ms;
        }
        if now_ms < guest.report_due_ms && guest.urgent == Urgency::Periodic {
            return Urgent::No;
        }
        let used_kib = level.demand_kib.min(level.visible_kib);
        let error_kib = level.visible_kib * u64::from(trace.noise_percent) / 100;
        let said_kib = guest
            .noise
            .around(used_kib, error_kib)
            .min(level.visible_kib);
        let available_kib = level.visible_kib - said_kib;
        let report = Report {
            visible_kib: level.visible_kib,
            available_kib: Some(available_kib),
            age_ms: 0,
            reach_kib: None,
            ahead_kib: match self.mechanism.plugging {
                Plugging::Promised => startup_kib * AHEAD_TIMES,
                Plugging::Granted => 0,
            },
            uptake: Uptake::Taken,
            free_kib: Some(available_kib),
            total_kib: Some(level.visible_kib),
            stranded_kib: 0,
            plugged_kib: level.visible_kib.saturating_sub(startup_kib),
            ballooned_kib,
            counters: guest.counters,
            deflating_kib,
            urgent: guest.urgent,
        };
        guest.urgent = Urgency::Periodic;
        let answer = policy.report(now_ms, index, &report);
        self.outcome.reports += 1;
        guest.keep = answer.keep.0;
        guest.distance_ms = answer.in_ms.max(TICK_MS);
        guest.reported_ms = Some(now_ms);
        let distance_ms = if now_ms < guest.busy_until_ms {
            guest.distance_ms.min(BUSY_REPORT_MS)
        } else {
            guest.distance_ms
        };
        guest.report_due_ms = now_ms + distance_ms;
        answer.urgent
    }
}

impl Guest {
    fn new(now_ms: u64, trace: &GuestTrace, seed: u64, index: u64) -> Self {
        Self {
            demand: Cursor::default(),
            grow: Flow::default(),
            give: Flow::default(),
            noise: Noise::new(seed, index),
            counters: Counters {
                oom_kills: Some(0),
                alloc_stalls: Some(0),
                direct_scans: Some(0),
                ..Counters::default()
            },
            keep: trace.settings.bounds.startup.0,
            report_due_ms: now_ms,
            distance_ms: 1000,
            reported_ms: None,
            busy_until_ms: 0,
            touched: 0,
            urgent: Urgency::Periodic,
            frames: Frames::new(trace.initial.0),
            asked_since_ms: None,
            lacking_since_ms: None,
        }
    }

    /// How many pieces it gives of `surplus`, with so many free.
    fn willing(&mut self, now_ms: u64, manner: Manner, surplus: u32, free: u32) -> u32 {
        let since = *self.asked_since_ms.get_or_insert(now_ms);
        let most = match manner {
            Manner::Willing => free,
            Manner::Part { percent } => (u64::from(free) * u64::from(percent) / 100) as u32,
            Manner::Late { ms } if now_ms < since + ms => 0,
            Manner::Late { .. } => free,
            Manner::Refuses => 0,
        };
        surplus.min(most)
    }

    const fn busy(&mut self, now_ms: u64) {
        self.busy_until_ms = now_ms + BUSY_MS;
        let soon = now_ms + BUSY_REPORT_MS;
        if soon < self.report_due_ms {
            self.report_due_ms = soon;
        }
    }

    /// What a guest counts that lacks memory.
    fn suffer(&mut self, now_ms: u64, lack_kib: u64, visible_kib: u64) {
        if lack_kib == 0 {
            self.lacking_since_ms = None;
            return;
        }
        let add = |counter: &mut Option<u64>, more: u64| *counter = counter.map(|n| n + more);
        add(&mut self.counters.alloc_stalls, 1);
        add(&mut self.counters.direct_scans, 32);
        if lack_kib <= visible_kib / 8 {
            self.lacking_since_ms = None;
            return;
        }
        let since = *self.lacking_since_ms.get_or_insert(now_ms);
        if now_ms >= since + KILL_MS {
            add(&mut self.counters.oom_kills, 1);
            self.lacking_since_ms = None;
        }
    }
}
