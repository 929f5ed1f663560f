//! What the balancer keeps of one guest: its settings, its account, its reports, and what it was asked for.

use crate::balancer::Urgent;
use crate::cadence::{CALM_MS, Cadence, PRESSED_MS};
use crate::floor::floor;
use crate::observe::{Observer, Shortage, buffer_kib, low_mark_kib};
use crate::plan::{Entry, Figures};
use crate::reclaim::{Reclaim, ReclaimStep};
use crate::status::{self, Condition, StatusKeeper};
use crate::why::Why;
use protocol::balancer::{
    Flag, Mode, PauseState, Report, Row, SILENT_MS, Settings, Uptake, Urgency,
};
use protocol::memory::Account;
use protocol::units::Pieces;

/// A guest that never gave a figure has no driver after this long: its kernel needs time to come to it.
const NO_DRIVER_MS: u64 = 60_000;
/// Figures older than this are no room: the guest may have come to use what they call available. Three times the longest
/// distance of two reports.
const OLD_MS: u64 = 3 * CALM_MS as u64;
/// A guest that starves needs at least so much more, however small its buffer: what a program touches in 16 ms.
const STARVING_STEP_KIB: u64 = 16 * 1024;

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
    cadence: Cadence,
    /// When its next report was due after its last fresh figures, in milliseconds.
    distance_ms: u32,
    status: StatusKeeper,
    reclaim: Option<Reclaim>,
    /// When it was last resumed: figures from before are not old, it could not give any.
    resumed_ms: u64,
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
            cadence: Cadence::default(),
            distance_ms: CALM_MS,
            status: StatusKeeper::default(),
            reclaim: None,
            resumed_ms: now_ms,
        }
    }

    /// Takes a report; returns whether a decision should follow at once, and when the next report is due, in milliseconds.
    pub(crate) fn take_report(&mut self, now_ms: u64, report: &Report) -> (Urgent, u32) {
        self.report = *report;
        let deflating = Pieces::from_mib_ceil(report.deflating_kib.div_ceil(1024));
        self.deflates_to = (deflating > Pieces(0)).then(|| self.held().plus(deflating));
        let event = match report.urgent {
            Urgency::Event | Urgency::Starved => Urgent::Yes,
            Urgency::Periodic => Urgent::No,
        };
        let Some(available_kib) = report.available_kib else {
            return (event, CALM_MS);
        };
        // Figures that the guest did not refresh are no news, unless its VMM saw that it cannot run on. It is asked again as
        // soon as it would have been: a guest that uses up what it has may be too busy to answer.
        if report.age_ms > 0
            && report.urgent != Urgency::Starved
            && self.observer.seen_ms().is_some()
        {
            let in_ms = match (event, self.is_old(now_ms)) {
                (Urgent::Yes, _) => PRESSED_MS,
                (Urgent::No, true) => CALM_MS,
                (Urgent::No, false) => self.distance_ms,
            };
            return (event, in_ms);
        }
        let percent = self.settings.buffer_percent;
        let owed_kib = report
            .visible_kib
            .saturating_sub(self.account.target.mib() * 1024);
        let seen = self
            .observer
            .observe(now_ms, report, available_kib, percent, owed_kib);
        let half_buffer_kib = buffer_kib(seen.visible_kib, percent) / 2;
        let next_ms = self.cadence.next_ms(&seen, half_buffer_kib);
        self.distance_ms = next_ms;
        if self.settings.mode == Mode::Static || self.at_maximum() {
            return (event, CALM_MS);
        }
        if seen.available_kib < half_buffer_kib {
            return (Urgent::Yes, next_ms);
        }
        (event, next_ms)
    }

    pub(crate) fn set_pause(&mut self, now_ms: u64, state: PauseState) {
        self.pause = state;
        self.reclaim = None;
        if state == PauseState::Running {
            self.resumed_ms = now_ms;
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

    /// How old its figures are, in milliseconds; `None` before the first.
    fn age_ms(&self, now_ms: u64) -> Option<u64> {
        let seen_ms = self.observer.seen_ms()?;
        Some(now_ms.saturating_sub(seen_ms.max(self.resumed_ms)))
    }

    /// The flag that keeps it out of the plan, if any.
    pub(crate) fn left(&self, now_ms: u64) -> Option<Flag> {
        if self.pause == PauseState::Paused {
            return Some(Flag::Paused);
        }
        match self.age_ms(now_ms) {
            None if now_ms.saturating_sub(self.started_ms) < NO_DRIVER_MS => Some(Flag::Starting),
            None => Some(Flag::NoDriver),
            Some(age) if age >= SILENT_MS => Some(Flag::Silent),
            Some(_) => None,
        }
    }

    fn flag(&self, now_ms: u64) -> Flag {
        match self.left(now_ms) {
            Some(flag) => flag,
            None if self.report.uptake == Uptake::NotTaken => Flag::NotTaking,
            None if self.at_maximum() => Flag::AtMaximum,
            None => Flag::None,
        }
    }

    /// What it takes at most, when it did not take what it was offered.
    pub(crate) fn takes_at_most(&self) -> Option<Pieces> {
        match self.report.uptake {
            Uptake::Taken => None,
            Uptake::NotTaken => Some(self.limits().1),
        }
    }

    fn at_maximum(&self) -> bool {
        let last = self.observer.last();
        self.held() >= self.settings.bounds.maximum
            && self.wanted(last.basis_kib()) > self.settings.bounds.maximum
    }

    /// Its minimum, and the most that it may have and can take.
    fn limits(&self) -> (Pieces, Pieces) {
        let bounds = self.settings.bounds;
        let minimum = bounds.minimum.max(self.account.minimum);
        let reach = self
            .report
            .reach_kib
            .map_or(Pieces(u32::MAX), |kib| Pieces::from_mib_ceil(kib / 1024));
        // Zero before the first decision.
        let admitted = match self.account.maximum {
            Pieces(0) => bounds.maximum,
            maximum => maximum,
        };
        let maximum = bounds.maximum.min(admitted).min(reach);
        (minimum, maximum.max(minimum))
    }

    /// demand / (1 - buffer), and what lies stranded, without regard to bounds.
    fn wanted(&self, demand_kib: u64) -> Pieces {
        in_pieces(self.with_buffer_kib(demand_kib)).plus(self.stranded())
    }

    fn with_buffer_kib(&self, demand_kib: u64) -> u64 {
        let rest = 100 - u64::from(self.settings.buffer_percent.clamp(5, 95));
        demand_kib
            .saturating_mul(100)
            .div_ceil(rest)
            .max(demand_kib)
    }

    fn stranded(&self) -> Pieces {
        in_pieces(self.report.stranded_kib)
    }

    /// What it cannot do without at this moment, in visible memory: what it uses, and `margin_kib` more, at most its buffer.
    /// A guest that starves shows only what it sees: as long as it does, it needs more each time that it has got more.
    fn needed_kib(&self, margin_kib: u64) -> u64 {
        let last = self.observer.last();
        let basis_kib = last.basis_kib();
        let most_kib = match last.shortage {
            Shortage::None | Shortage::Low => 0,
            Shortage::Starving => basis_kib.saturating_add(STARVING_STEP_KIB),
        };
        basis_kib
            .saturating_add(margin_kib)
            .min(self.with_buffer_kib(basis_kib).max(most_kib))
    }

    /// What a co-operative reclaim leaves, in visible memory. What is in the balloon is not part of the total, as in
    /// hv_balloon; what the kernel needs to manage it counts as used.
    pub(crate) fn floor(&self) -> Pieces {
        let used_kib = self.observer.last().used_kib();
        floor(self.limits().0, self.report.visible_kib, used_kib)
    }

    /// What the plan has to know.
    pub(crate) fn entry(&self, now_ms: u64) -> Entry {
        let weight = u32::from(self.settings.weight);
        let (minimum, maximum) = self.limits();
        let (held, claim) = (self.held(), self.claim(self.account.target));
        if self.settings.mode == Mode::Static {
            let startup = self.settings.bounds.startup.clamp(minimum, maximum);
            let figures = Figures {
                floor: startup.min(held.max(minimum)).0,
                first: startup.0,
                need: startup.0,
                want: startup.0,
                ..Figures::default()
            };
            return Entry::new(&figures, weight).without_surplus();
        }
        let last = self.observer.last();
        let stranded = self.stranded();
        let floor = self
            .floor()
            .plus(stranded)
            .min(held)
            .clamp(minimum, maximum);
        let want = self.wanted(last.basis_kib());
        // Without its low mark it would be short at once, and one that starves will be again before more can come.
        let low_kib = low_mark_kib(last.basis_kib());
        let margin_kib = match last.shortage {
            Shortage::None | Shortage::Low => low_kib,
            Shortage::Starving => low_kib.max(last.soon_kib).max(STARVING_STEP_KIB),
        };
        let first = in_pieces(self.needed_kib(low_kib)).plus(stranded);
        let need = in_pieces(self.needed_kib(margin_kib)).plus(stranded);
        let soon = in_pieces(self.needed_kib(last.soon_kib)).plus(stranded);
        let remembered = self.wanted(self.observer.remembered_kib(now_ms));
        let figures = Figures {
            floor: floor.0,
            first: first.0,
            need: need.clamp(floor, maximum).0,
            soon: soon.clamp(floor, maximum).0,
            want: want.max(need).clamp(floor, maximum).0,
            remembered: remembered.clamp(floor, maximum).0,
            claim: claim.0,
            ahead: in_pieces(self.report.ahead_kib).min(maximum).0,
            rise: match self.report.ahead_kib {
                0 => 0,
                // Not bounded by that: what it comes to need it needs.
                _ => in_pieces(last.lately_kib).0,
            },
        };
        Entry::new(&figures, weight).up_to(maximum)
    }

    /// Whether its figures are too old to take anything from it: it may use by now what they call available.
    pub(crate) fn is_old(&self, now_ms: u64) -> bool {
        self.settings.mode == Mode::Dynamic && self.age_ms(now_ms).is_some_and(|age| age > OLD_MS)
    }

    /// The target that brings what it holds to `goal`. A VMM follows a target with what its guest sees, and holds what is
    /// stranded on top: a target for shrinking leaves that out. One for growing does not, because the memory server
    /// counts what is held against it, and a guest that deflates touches pieces that came back before those that are
    /// stranded.
    pub(crate) fn target_for(&self, goal: Pieces) -> Pieces {
        let current = self.account.target;
        let held = self.held();
        // What is stranded is as old as the report, and what is held is not: the floor holds in any case.
        let floor = match self.settings.mode {
            Mode::Dynamic => self.floor(),
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

    /// What it has to have although its target may say otherwise: a deflation waits for it, and until that is answered its
    /// balloon driver cannot inflate either, so a target below what it has would never be reached.
    pub(crate) fn deflates_to(&self) -> Option<Pieces> {
        self.deflates_to
            .map(|pieces| pieces.min(self.account.maximum))
    }

    /// What it is to have ready even where it reports it free: what it needs at this moment with its buffer. What it
    /// needed before, or may need next, is promised to it, and comes at the first touch.
    pub(crate) fn keep(&self) -> Pieces {
        if self.settings.mode == Mode::Static {
            return self.settings.bounds.startup;
        }
        let (minimum, maximum) = self.limits();
        self.wanted(self.observer.last().basis_kib())
            .clamp(minimum, maximum)
    }

    /// What a guest that does not run keeps: what it has been granted, and its floor. The rest of what it reported free
    /// others may have; it waits for that when it runs again.
    pub(crate) fn sleeping_claim(&self) -> Pieces {
        self.account
            .assigned
            .max(self.floor().min(self.held()))
            .max(self.account.minimum)
    }

    pub(crate) const fn is_short(&self) -> bool {
        matches!(
            self.observer.last().shortage,
            Shortage::Low | Shortage::Starving
        )
    }

    /// Follows a reclaim: starts it, extends it, ends it. `target` is what the guest shall go down to.
    pub(crate) fn follow_reclaim(&mut self, now_ms: u64, target: Pieces) -> ReclaimStep {
        let held = self.held();
        let left = held.minus(self.stranded()).minus(target);
        // What it has come to need since it was asked it owes to nobody; the next decision gives it its share again.
        let needed = in_pieces(self.observer.last().used_kib());
        if left == Pieces(0) || needed > target {
            self.reclaim = None;
            return ReclaimStep::Wait;
        }
        let base_ms = u64::from(self.settings.deadline_ms);
        match &mut self.reclaim {
            Some(reclaim) => reclaim.follow(now_ms, base_ms, held, left),
            None => {
                self.reclaim = Some(Reclaim::new(now_ms, base_ms, held, left));
                ReclaimStep::Wait
            }
        }
    }

    /// Whether its last reclaim passed its deadline.
    pub(crate) fn is_unresponsive(&self) -> bool {
        self.reclaim.is_some_and(|reclaim| reclaim.has_passed())
    }

    /// Whether it was asked for memory and gives none: others are asked in its place.
    pub(crate) fn is_late(&self, now_ms: u64) -> bool {
        self.reclaim
            .is_some_and(|reclaim| reclaim.has_passed() || reclaim.is_late(now_ms))
    }

    /// 100 x demand / assigned; what is reported free counts as assigned.
    fn pressure(&self) -> u16 {
        let held_kib = self.held().mib() * 1024;
        let demand_kib = self.observer.last().demand_kib;
        if held_kib == 0 {
            return 0;
        }
        (demand_kib.saturating_mul(100) / held_kib).min(u64::from(u16::MAX)) as u16
    }

    /// Brings the status up to date.
    pub(crate) fn update_status(&mut self, now_ms: u64) {
        let held_kib = self.held().mib() * 1024;
        let figures = status::Figures {
            held_kib,
            demand_kib: self.observer.last().demand_kib,
            buffer_kib: buffer_kib(held_kib, self.settings.buffer_percent),
            condition: if self.is_unresponsive() {
                Condition::Unresponsive
            } else if self.is_short() {
                Condition::Saturated
            } else {
                Condition::Plain
            },
        };
        self.status.update(now_ms, &figures);
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
            status: self.status.shown(),
            flag: self.flag(now_ms),
            oom_kills: self.observer.oom_kills(),
            age_ms: self
                .observer
                .seen_ms()
                .map_or(0, |seen| now_ms.saturating_sub(seen))
                .min(u64::from(u32::MAX)) as u32,
        }
    }

    /// What it uses and what it remembers, for an explanation.
    pub(crate) fn figures_for_why(&self, now_ms: u64) -> (Pieces, Pieces) {
        let last = self.observer.last();
        let remembered = self.observer.remembered_kib(now_ms);
        (in_pieces(last.basis_kib()), in_pieces(remembered))
    }
}

const fn in_pieces(kib: u64) -> Pieces {
    Pieces::from_mib_ceil(kib.div_ceil(1024))
}
