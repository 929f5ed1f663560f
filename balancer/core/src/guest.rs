//! What the balancer keeps of one guest: its reports, its status, and what it was asked for.

use crate::balancer::Urgent;
use crate::floor::floor;
use crate::observe::{Observed, Observer, PEAK_WINDOW_S, Shortage, buffer_kib, low_mark_kib};
use crate::plan::{Entry, Standing};
use crate::why::Why;
use protocol::balancer::{Flag, Mode, PauseState, Report, Row, Settings, Status};
use protocol::memory::Account;
use protocol::units::Pieces;

/// A guest without a report for this long has no driver.
const NO_DRIVER_MS: u64 = 60_000;
/// A status changes after this time.
const STATUS_MS: u64 = 1000;
/// ... and when pressure has passed its mark by more than this, in percent (or by a granule, if that is more).
const STATUS_PERCENT: u64 = 2;
/// Between two reports: calm, and with half the buffer gone.
const CALM_MS: u32 = 1000;
const PRESSED_MS: u32 = 10;
/// ... and with just the buffer left.
pub(crate) const BALANCED_MS: u32 = 200;
/// A guest that stays pressed cannot be helped at this moment; after so many reports it is asked less often.
const PRESSED_REPORTS: u16 = 64;
const STILL_PRESSED_MS: u32 = 100;
/// Time per piece asked that a reclaim may take, in microseconds: 1 s per GiB.
const RECLAIM_US_PER_PIECE: u64 = 1_000_000 / 512;
/// Seconds over which the highest demand counts, at least: one full second beside the running one.
const WINDOW_S: u8 = 2;
/// A guest that is given more within this time after it had to give is being played ping-pong with.
const REVERSAL_MS: u64 = 30_000;
/// ... if it is given more than this part of what it went down to: following a guest that moves a little is no game.
const REVERSAL_PART: u32 = 16;
/// After this time without one the window is short again.
const FORGET_MS: u64 = 60_000;

/// A guest that grows keeps what it will use within this time: it cannot have back sooner what it gave.
const GIVE_BACK_MS: u64 = 1000;
/// ... and every guest so many times what it would count as short with.
const LOW_MARKS: u64 = 2;

/// A guest that was asked to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reclaim {
    /// When the present term began.
    began_ms: u64,
    /// When it ends.
    deadline_ms: u64,
    /// What it held when the term began.
    held: Pieces,
    /// What it is to give in this term.
    asked: Pieces,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asked,
    Reminded,
    Passed,
}

/// What has to be done about a reclaim now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReclaimStep {
    /// Nothing.
    Wait,
    /// Ask again.
    Remind,
    /// It has passed its deadline.
    Passed,
}

/// How long a demand is remembered, against ping-pong.
#[derive(Clone, Copy, Debug)]
struct Damping {
    window_s: u8,
    /// When it last had to give, and how far down.
    lowered: Option<(u64, Pieces)>,
    reversed_ms: Option<u64>,
}

/// One guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest {
    pub(crate) settings: Settings,
    pub(crate) account: Account,
    pub(crate) why: Why,
    started_ms: u64,
    pause: PauseState,
    observer: Observer,
    report: Report,
    /// What a deflation waits to have, as of the report that said so.
    deflates_to: Option<Pieces>,
    reported_ms: Option<u64>,
    pressed_reports: u16,
    status: Status,
    candidate: Option<(Status, u64)>,
    reclaim: Option<Reclaim>,
    damping: Damping,
}

impl Guest {
    pub(crate) fn new(now_ms: u64, settings: Settings) -> Self {
        Self {
            settings,
            account: Account::default(),
            why: Why::default(),
            started_ms: now_ms,
            pause: PauseState::Running,
            observer: Observer::default(),
            report: Report::default(),
            deflates_to: None,
            reported_ms: None,
            pressed_reports: 0,
            status: Status::Ok,
            candidate: None,
            reclaim: None,
            damping: Damping {
                window_s: WINDOW_S,
                lowered: None,
                reversed_ms: None,
            },
        }
    }

    /// Takes a report; returns whether a decision should follow at once, and when the next report is due, in milliseconds.
    pub(crate) fn take_report(&mut self, now_ms: u64, report: &Report) -> (Urgent, u32) {
        self.report = *report;
        let deflating = Pieces::from_mib_ceil(report.deflating_kib.div_ceil(1024));
        self.deflates_to = (deflating > Pieces(0)).then(|| self.held().plus(deflating));
        let Some(available_kib) = report.available_kib else {
            return (Urgent::No, CALM_MS);
        };
        self.reported_ms = Some(now_ms);
        let percent = self.settings.buffer_percent;
        let owed_kib = report
            .visible_kib
            .saturating_sub(self.account.target.mib() * 1024);
        let seen = self
            .observer
            .observe(now_ms, report, available_kib, percent, owed_kib);
        let buffer = buffer_kib(seen.visible_kib, percent);
        let next_ms = if self.settings.mode == Mode::Static {
            CALM_MS
        } else {
            self.next_report_ms(&seen, buffer)
        };
        let hurry = seen.available_kib < buffer / 4 * 3;
        let urgent = if hurry { Urgent::Yes } else { Urgent::No };
        (urgent, next_ms)
    }

    /// When the next report is due: in 10 ms once half the buffer is gone, in 200 ms when just the buffer is there (a
    /// burst can use it up in less than a second), in 1 s when twice as much is. A guest whose demand rises is asked
    /// before it can have used up half of the way to the point where it is pressed.
    fn next_report_ms(&mut self, seen: &Observed, buffer_kib: u64) -> u32 {
        let half = buffer_kib / 2;
        if seen.available_kib <= half {
            self.pressed_reports = self.pressed_reports.saturating_add(1);
            return if self.at_maximum() {
                CALM_MS
            } else if self.pressed_reports > PRESSED_REPORTS {
                STILL_PRESSED_MS
            } else {
                PRESSED_MS
            };
        }
        self.pressed_reports = 0;
        let between = |from: u64, to: u64, from_ms: u32, to_ms: u32| {
            let part =
                u64::from(to_ms - from_ms) * (seen.available_kib - from) / (to - from).max(1);
            from_ms + part as u32
        };
        let by_level_ms = if seen.available_kib < buffer_kib {
            between(half, buffer_kib, PRESSED_MS, BALANCED_MS)
        } else if seen.available_kib < 2 * buffer_kib {
            between(buffer_kib, 2 * buffer_kib, BALANCED_MS, CALM_MS)
        } else {
            CALM_MS
        };
        match ((seen.available_kib - half) * 500).checked_div(seen.rise_kib_s) {
            Some(by_rise_ms) => by_level_ms.min(by_rise_ms.min(u64::from(CALM_MS)) as u32),
            None => by_level_ms,
        }
        .max(PRESSED_MS)
    }

    pub(crate) fn set_pause(&mut self, now_ms: u64, state: PauseState) {
        self.pause = state;
        self.reclaim = None;
        if state == PauseState::Running && self.reported_ms.is_some() {
            self.reported_ms = Some(now_ms);
        }
    }

    /// What it has or may touch at any moment.
    pub(crate) const fn held(&self) -> Pieces {
        self.account.assigned.plus(self.account.earmarked)
    }

    /// What is promised to it, as the memory server counts.
    pub(crate) fn claim(&self, target: Pieces) -> Pieces {
        self.held().max(target).max(self.account.minimum)
    }

    /// The flag that keeps it out of the plan, if any.
    pub(crate) fn left(&self, now_ms: u64) -> Option<Flag> {
        if self.pause == PauseState::Paused {
            return Some(Flag::Paused);
        }
        let since = |ms: u64| now_ms.saturating_sub(ms);
        match self.reported_ms {
            None if since(self.started_ms) < NO_DRIVER_MS => Some(Flag::Starting),
            None => Some(Flag::NoDriver),
            Some(at) if since(at) >= NO_DRIVER_MS => Some(Flag::NoDriver),
            Some(_) => None,
        }
    }

    pub(crate) fn flag(&self, now_ms: u64) -> Flag {
        match self.left(now_ms) {
            Some(flag) => flag,
            None if self.at_maximum() => Flag::AtMaximum,
            None => Flag::None,
        }
    }

    fn at_maximum(&self) -> bool {
        let last = self.observer.last();
        self.held() >= self.settings.bounds.maximum
            && self.wanted(last.demand_kib) > self.settings.bounds.maximum
    }

    /// demand / (1 - buffer), and what lies stranded, without regard to bounds.
    fn wanted(&self, demand_kib: u64) -> Pieces {
        let with_buffer_mib = self.with_buffer_kib(demand_kib).div_ceil(1024);
        Pieces::from_mib_ceil(with_buffer_mib).plus(self.stranded())
    }

    fn with_buffer_kib(&self, demand_kib: u64) -> u64 {
        let rest = 100 - u64::from(self.settings.buffer_percent.clamp(5, 95));
        demand_kib
            .saturating_mul(100)
            .div_ceil(rest)
            .max(demand_kib)
    }

    /// The target that brings what it holds to `goal`. A VMM follows a target with what its guest sees, and holds what is
    /// stranded on top: a target for shrinking leaves that out. One for growing does not, because the memory server
    /// counts what is held against it, and a guest that deflates touches pieces that came back before those that are
    /// stranded.
    pub(crate) fn target_for(&self, now_ms: u64, goal: Pieces) -> Pieces {
        let current = self.account.target;
        let held = self.held();
        // What is stranded is as old as the report, and what is held is not: the floor holds in any case.
        let floor = match self.settings.mode {
            Mode::Dynamic => self.visible_floor(now_ms),
            Mode::Static => Pieces(0),
        };
        let least = goal
            .minus(self.stranded())
            .max(floor.min(goal))
            .max(self.account.minimum);
        if goal < held {
            least.min(held)
        } else if goal == held && current >= least && current <= goal {
            current
        } else {
            goal
        }
    }

    /// The highest demand of the guest's window, which grows against ping-pong.
    fn damped_kib(&self, now_ms: u64) -> u64 {
        let window_s = usize::from(self.damping.window_s);
        self.observer.peak_kib(now_ms, window_s)
    }

    /// The highest demand of three quarters of that window: what counts when others need what it only remembers.
    fn recent_kib(&self, now_ms: u64) -> u64 {
        let window_s = (self.damping.window_s / 4 * 3).max(WINDOW_S);
        self.observer.peak_kib(now_ms, usize::from(window_s))
    }

    /// What it will keep once its demand of the last seconds is forgotten, in held memory.
    pub(crate) fn floor_soon(&self) -> Pieces {
        match self.settings.mode {
            Mode::Static => self.settings.bounds.startup,
            Mode::Dynamic => self
                .floor_for(self.observer.last().demand_kib)
                .plus(self.stranded()),
        }
    }

    /// What a co-operative reclaim leaves, in visible memory.
    fn visible_floor(&self, now_ms: u64) -> Pieces {
        let recent_kib = self.recent_kib(now_ms);
        self.floor_for(recent_kib)
            .max(self.floor_with(recent_kib, self.growth_kib()))
    }

    /// What it cannot do without while it needs this much, in visible memory.
    fn floor_for(&self, demand_kib: u64) -> Pieces {
        self.floor_with(demand_kib, low_mark_kib(demand_kib) * LOW_MARKS)
    }

    /// With its demand alone a guest would be short at once: `margin_kib` is left to it as well, at most its buffer.
    fn floor_with(&self, demand_kib: u64, margin_kib: u64) -> Pieces {
        let total_kib = self
            .report
            .visible_kib
            .saturating_add(self.report.ballooned_kib);
        let minimum = self.settings.bounds.minimum.max(self.account.minimum);
        let needed_kib = demand_kib
            .saturating_add(margin_kib)
            .min(self.with_buffer_kib(demand_kib));
        floor(minimum, total_kib, needed_kib)
    }

    /// What it will use before it could have back what it gave.
    const fn growth_kib(&self) -> u64 {
        self.observer.last().rise_kib_s.saturating_mul(GIVE_BACK_MS) / 1000
    }

    fn stranded(&self) -> Pieces {
        Pieces::from_mib_ceil(self.report.stranded_kib.div_ceil(1024))
    }

    /// What the plan has to know. `now_ms` picks the demand: the highest of the guest's window.
    pub(crate) fn entry(&self, now_ms: u64) -> Entry {
        let bounds = self.settings.bounds;
        let minimum = bounds.minimum.max(self.account.minimum);
        let maximum = bounds.maximum.min(self.account.maximum).max(minimum);
        let held = self.held();
        let weight = u32::from(self.settings.weight);
        if self.settings.mode == Mode::Static {
            let startup = bounds.startup.clamp(minimum, maximum).0;
            return Entry {
                standing: Standing::Shares,
                held: held.0,
                claim: startup,
                need: startup,
                demand: startup,
                want: startup,
                floor: startup.min(held.max(minimum).0),
                weight,
            };
        }
        let demand_kib = self.damped_kib(now_ms);
        let demand = Pieces::from_mib_ceil(demand_kib.div_ceil(1024)).plus(self.stranded());
        let need = self
            .floor_for(self.recent_kib(now_ms))
            .plus(self.stranded());
        let floor = self
            .visible_floor(now_ms)
            .plus(self.stranded())
            .min(held)
            .clamp(minimum, maximum);
        let want = self.wanted(demand_kib).clamp(floor, maximum);
        let need = need.clamp(floor, want);
        Entry {
            standing: Standing::Shares,
            held: held.0,
            claim: self.claim(self.account.target).0,
            need: need.0,
            demand: demand.clamp(need, want).0,
            want: want.0,
            floor: floor.0,
            weight,
        }
    }

    /// What it has to have although its target may say otherwise: a deflation waits for it, and until that is answered its
    /// balloon driver cannot inflate either, so a target below what it has would never be reached.
    pub(crate) fn deflates_to(&self) -> Option<Pieces> {
        self.deflates_to
            .map(|pieces| pieces.min(self.account.maximum))
    }

    /// What it is to have ready even where it reports it free: what it needs at this moment with its buffer. What it
    /// needed before, or may need next, is promised to it, and comes at the first touch.
    pub(crate) fn keep(&self) -> Pieces {
        let bounds = self.settings.bounds;
        if self.settings.mode == Mode::Static {
            return bounds.startup;
        }
        let minimum = bounds.minimum.max(self.account.minimum);
        let maximum = bounds.maximum.max(minimum);
        self.wanted(self.observer.last().demand_kib)
            .clamp(minimum, maximum)
    }

    pub(crate) const fn is_short(&self) -> bool {
        matches!(self.observer.last().shortage, Shortage::Saturated)
    }

    /// Notes that the guest's target was changed, and whether others' needs play ping-pong with it.
    pub(crate) fn note_target(&mut self, now_ms: u64, target: Pieces) {
        let damping = &mut self.damping;
        if target < self.account.assigned.plus(self.account.earmarked) {
            damping.lowered = Some((now_ms, target));
        } else if let Some((at_ms, lowest)) = damping.lowered
            && target.0 > lowest.0 + lowest.0 / REVERSAL_PART
            && now_ms.saturating_sub(at_ms) < REVERSAL_MS
        {
            damping.lowered = None;
            damping.window_s = (damping.window_s * 2).min(PEAK_WINDOW_S as u8);
            damping.reversed_ms = Some(now_ms);
        }
        let calm = |at: u64| now_ms.saturating_sub(at) >= FORGET_MS;
        if damping.reversed_ms.is_some_and(calm) {
            damping.window_s = WINDOW_S;
            damping.reversed_ms = None;
        }
    }

    /// Follows a reclaim: starts it, extends it, ends it. `target` is what the guest shall go down to.
    pub(crate) fn follow_reclaim(&mut self, now_ms: u64, target: Pieces) -> ReclaimStep {
        let held = self.held();
        let left = held.minus(self.stranded()).minus(target);
        // What it has come to need since it was asked it owes to nobody; the next decision gives it its share again.
        let needed = Pieces::from_mib_ceil(self.recent_kib(now_ms).div_ceil(1024));
        if left == Pieces(0) || needed > target {
            self.reclaim = None;
            return ReclaimStep::Wait;
        }
        let base_ms = u64::from(self.settings.deadline_ms);
        let time_for = |pieces: Pieces| u64::from(pieces.0) * RECLAIM_US_PER_PIECE / 1000;
        let term = |stage| Reclaim {
            began_ms: now_ms,
            deadline_ms: now_ms + base_ms + time_for(left),
            held,
            asked: left,
            stage,
        };
        let Some(reclaim) = &mut self.reclaim else {
            self.reclaim = Some(term(Stage::Asked));
            return ReclaimStep::Wait;
        };
        let given = reclaim.held.minus(held);
        // Asked for more meanwhile: more time.
        let asked = given.plus(left);
        if asked > reclaim.asked {
            reclaim.deadline_ms += time_for(asked.minus(reclaim.asked));
            reclaim.asked = asked;
        }
        if now_ms < reclaim.deadline_ms {
            let half = reclaim.began_ms + (reclaim.deadline_ms - reclaim.began_ms) / 2;
            match reclaim.stage {
                Stage::Passed => {
                    // It answers after all: half of what is left is back.
                    if given.0 * 2 >= reclaim.asked.0 {
                        self.reclaim = Some(term(Stage::Asked));
                        return ReclaimStep::Wait;
                    }
                    ReclaimStep::Passed
                }
                Stage::Asked if now_ms >= half => {
                    reclaim.stage = Stage::Reminded;
                    ReclaimStep::Remind
                }
                Stage::Asked | Stage::Reminded => ReclaimStep::Wait,
            }
        } else if given.0.saturating_mul(4) >= reclaim.asked.0 {
            // A good part of it is back: another term for the rest. A guest that drips does not come this far.
            self.reclaim = Some(term(Stage::Asked));
            ReclaimStep::Wait
        } else {
            self.reclaim = Some(term(Stage::Passed));
            ReclaimStep::Passed
        }
    }

    /// Whether its last reclaim passed its deadline.
    pub(crate) const fn is_unresponsive(&self) -> bool {
        matches!(
            self.reclaim,
            Some(Reclaim {
                stage: Stage::Passed,
                ..
            })
        )
    }

    /// 100 x demand / assigned; what is reported free counts as assigned.
    pub(crate) fn pressure(&self) -> u16 {
        let held_kib = self.held().mib() * 1024;
        let demand_kib = self.observer.last().demand_kib;
        if held_kib == 0 {
            return 0;
        }
        (demand_kib.saturating_mul(100) / held_kib).min(u64::from(u16::MAX)) as u16
    }

    /// Brings the status up to date: it changes after a second, and not for a trifle.
    pub(crate) fn update_status(&mut self, now_ms: u64) {
        if self.is_unresponsive() {
            self.status = Status::Unresponsive;
            self.candidate = None;
            return;
        }
        let raw = self.raw_status(0);
        let worse = self.raw_status(STATUS_PERCENT);
        let candidate = match self.status {
            Status::Unresponsive => raw,
            now if rank(raw) > rank(now) && rank(worse) > rank(now) => worse,
            now if rank(raw) < rank(now) => raw,
            now => now,
        };
        if candidate == self.status {
            self.candidate = None;
            return;
        }
        let since = match self.candidate {
            Some((status, since)) if status == candidate => since,
            _ => {
                self.candidate = Some((candidate, now_ms));
                now_ms
            }
        };
        if now_ms.saturating_sub(since) >= STATUS_MS {
            self.status = candidate;
            self.candidate = None;
        }
    }

    /// The status by the figures alone, with marks raised by `margin` percent or a granule, whichever is more.
    fn raw_status(&self, margin_percent: u64) -> Status {
        let held_kib = self.held().mib() * 1024;
        let demand_kib = self.observer.last().demand_kib;
        if self.is_short() {
            return Status::Warning;
        }
        let margin_kib = match margin_percent {
            0 => 0,
            percent => (held_kib * percent / 100).max(Pieces(1).mib() * 1024),
        };
        let ok_kib = held_kib - buffer_kib(held_kib, self.settings.buffer_percent);
        if demand_kib > held_kib + margin_kib {
            Status::Warning
        } else if demand_kib > ok_kib + margin_kib {
            Status::Low
        } else {
            Status::Ok
        }
    }

    pub(crate) fn row(&self, now_ms: u64) -> Row {
        let mib = |kib: u64| (kib / 1024).min(u64::from(u32::MAX)) as u32;
        Row {
            settings: self.settings,
            assigned: self.account.assigned,
            target: self.account.target,
            reported: self.account.earmarked,
            visible_mib: mib(self.report.visible_kib),
            demand_mib: mib(self.observer.last().demand_kib.saturating_add(1023)),
            ballooned_mib: mib(self.report.ballooned_kib),
            stranded_mib: mib(self.report.stranded_kib),
            pressure: self.pressure(),
            status: self.status,
            flag: self.flag(now_ms),
            oom_kills: self.observer.oom_kills(),
            age_ms: self.report.age_ms,
        }
    }
}

const fn rank(status: Status) -> u8 {
    match status {
        Status::Ok => 0,
        Status::Low => 1,
        Status::Warning => 2,
        Status::Unresponsive => 3,
    }
}
