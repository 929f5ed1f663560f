//! A rival: a policy that states goals. When it decides, and how its goals become targets, is the same for all.

use crate::policy::{Answer, Pace, Policy, Room as Start, Target, Urgent, View};
use protocol::balancer::{Report, Settings, Urgency};
use protocol::memory::Account;
use protocol::units::Pieces;

/// What a rival knows of a guest.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its settings.
    pub settings: Settings,
    /// Its last report.
    pub report: Report,
    /// Its account.
    pub account: Account,
}

impl Seen {
    /// What it believes it has, in KiB.
    #[must_use]
    pub const fn visible_kib(&self) -> u64 {
        self.report.visible_kib
    }

    /// What it could use at once, in KiB.
    #[must_use]
    pub fn available_kib(&self) -> u64 {
        self.report
            .available_kib
            .unwrap_or(0)
            .min(self.report.visible_kib)
    }

    /// What it uses, in KiB.
    #[must_use]
    pub fn used_kib(&self) -> u64 {
        self.visible_kib() - self.available_kib()
    }

    /// What it has, in pieces.
    #[must_use]
    pub const fn held(&self) -> u32 {
        self.account.assigned.0 + self.account.earmarked.0
    }

    /// Its minimum, in pieces.
    #[must_use]
    pub const fn minimum(&self) -> u32 {
        self.settings.bounds.minimum.0
    }

    /// Its maximum, in pieces.
    #[must_use]
    pub const fn maximum(&self) -> u32 {
        self.settings.bounds.maximum.0
    }

    /// An amount in pieces, within its bounds.
    #[must_use]
    pub fn clamp(&self, pieces: u32) -> u32 {
        pieces.clamp(self.minimum(), self.maximum())
    }

    /// The buffer that its settings ask for on top of `kib`: together `kib / (1 - buffer)`.
    #[must_use]
    pub fn with_buffer_kib(&self, kib: u64) -> u64 {
        kib * 100 / (100 - u64::from(self.settings.buffer_percent.clamp(5, 95)))
    }
}

/// Pieces that hold so much, in KiB.
#[must_use]
pub const fn pieces(kib: u64) -> u32 {
    Pieces::from_mib_ceil(kib.div_ceil(1024)).0
}

/// The host at the moment of a decision.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// All pieces that guests can have.
    pub total: u32,
    /// What may be given to them.
    pub capacity: u32,
    /// Pieces that nobody has, clean or on the way there.
    pub free: u32,
}

/// A rival's formula.
pub trait Rival: Send {
    /// How often its own system decides, in milliseconds.
    fn interval_ms(&self) -> u64;

    /// States what each guest should have, in pieces. What stands in `goals` is what it stated last (at first what the guest
    /// was started with). `apart_ms` is the time since it was asked last.
    fn goals(&mut self, apart_ms: u64, room: &Room, guests: &[Seen], goals: &mut [u32]);
}

/// How often guests report at our pace, in milliseconds: as ours asks those that are near their buffer's end, and more often.
const OUR_REPORT_MS: u64 = 50;
const PRESSED_REPORT_MS: u64 = 10;

/// Plays a rival at a pace.
pub struct Paced<R> {
    rival: R,
    pace: Pace,
    reserve: Pieces,
    guests: Vec<Seen>,
    goals: Vec<u32>,
    decided_ms: Option<u64>,
    /// What a guest waits for that is about to start: no goal may take it.
    waiting: u32,
}

impl<R: Rival> Paced<R> {
    /// A host that keeps `reserve` out of the targets.
    pub const fn new(rival: R, pace: Pace, reserve: Pieces) -> Self {
        Self {
            rival,
            pace,
            reserve,
            guests: Vec::new(),
            goals: Vec::new(),
            decided_ms: None,
            waiting: 0,
        }
    }

    /// Brings targets to the goals: down at once, up as far as memory is free of promises, in proportion to what is missing.
    fn pursue(&self, view: &View<'_>, targets: &mut Vec<Target>) {
        let mut budget = view
            .unpromised()
            .saturating_sub(self.reserve.0 + self.waiting);
        let mut missing = 0u64;
        let claim = |account: &Account, target: u32| {
            (account.assigned.0 + account.earmarked.0)
                .max(target)
                .max(account.minimum.0)
        };
        for (guest, (account, goal)) in view.accounts.iter().zip(&self.goals).enumerate() {
            let (now, then) = (claim(account, account.target.0), claim(account, *goal));
            if *goal < account.target.0 || (then == now && *goal != account.target.0) {
                budget += now - then;
                targets.push(Target {
                    guest,
                    pieces: Pieces(*goal),
                });
            } else {
                missing += u64::from(then - now);
            }
        }
        let budget = u64::from(budget);
        let mut left = budget;
        for (guest, (account, goal)) in view.accounts.iter().zip(&self.goals).enumerate() {
            let now = claim(account, account.target.0);
            let need = u64::from(goal.saturating_sub(now));
            if need == 0 || *goal <= account.target.0 {
                continue;
            }
            let part = if missing <= budget {
                need
            } else {
                (need * budget).div_ceil(missing).min(left)
            };
            if part > 0 {
                left -= part;
                targets.push(Target {
                    guest,
                    pieces: Pieces(now + part as u32),
                });
            }
        }
    }
}

impl<R: Rival> Policy for Paced<R> {
    fn make_room(&mut self, _: u64, settings: &Settings, view: &View<'_>) -> Start {
        self.waiting = settings.bounds.startup.0;
        if self.waiting + self.reserve.0 <= view.unpromised() {
            Start::Ready
        } else {
            Start::Wait
        }
    }

    fn started(&mut self, _: u64, settings: &Settings) {
        self.waiting = 0;
        self.guests.push(Seen {
            settings: *settings,
            report: Report {
                visible_kib: settings.bounds.startup.mib() * 1024,
                ..Report::default()
            },
            account: Account::default(),
        });
        self.goals.push(settings.bounds.startup.0);
    }

    fn report(&mut self, _: u64, guest: usize, report: &Report) -> Answer {
        let seen = &mut self.guests[guest];
        seen.report = *report;
        let keep = Pieces(u32::MAX);
        if self.pace == Pace::Own {
            return Answer {
                in_ms: self.rival.interval_ms(),
                keep,
                urgent: Urgent::No,
            };
        }
        let buffer_kib =
            seen.visible_kib() * u64::from(seen.settings.buffer_percent.clamp(5, 95)) / 100;
        let pressed = seen.available_kib() < buffer_kib / 2;
        Answer {
            in_ms: if pressed {
                PRESSED_REPORT_MS
            } else {
                OUR_REPORT_MS
            },
            keep,
            urgent: if pressed || report.urgent != Urgency::Periodic {
                Urgent::Yes
            } else {
                Urgent::No
            },
        }
    }

    fn decide(&mut self, now_ms: u64, view: &View<'_>, targets: &mut Vec<Target>) {
        for (seen, account) in self.guests.iter_mut().zip(view.accounts) {
            seen.account = *account;
        }
        let apart_ms = now_ms - self.decided_ms.unwrap_or(0);
        let due = match self.pace {
            Pace::Ours => true,
            Pace::Own => self.decided_ms.is_none() || apart_ms >= self.rival.interval_ms(),
        };
        if due {
            self.decided_ms = Some(now_ms);
            let room = Room {
                total: view.host.total.0,
                capacity: view
                    .host
                    .total
                    .minus(Pieces(self.reserve.0 + self.waiting))
                    .0,
                free: view.host.pool.0 + view.host.cleaning.0,
            };
            self.rival
                .goals(apart_ms, &room, &self.guests, &mut self.goals);
            for (goal, seen) in self.goals.iter_mut().zip(&self.guests) {
                *goal = seen.clamp(*goal);
            }
        }
        self.pursue(view, targets);
    }
}
