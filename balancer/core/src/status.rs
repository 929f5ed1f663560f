//! A guest's status: figures in, a word out that does not flicker.

use protocol::balancer::Status;

/// A status changes after this time.
const STATUS_MS: u64 = 1000;
/// ... and when demand has passed its mark by more than this, in percent, or by a granule, if that is more.
const STATUS_PERCENT: u64 = 2;
const GRANULE_KIB: u64 = 2048;

/// What a status is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) held_kib: u64,
    pub(crate) demand_kib: u64,
    /// Of `held_kib`.
    pub(crate) buffer_kib: u64,
    pub(crate) condition: Condition,
}

/// What decides a status whatever the figures say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Nothing does.
    Plain,
    /// The guest is short: its demand is at least what it sees.
    Saturated,
    /// A reclaim passed its deadline.
    Unresponsive,
}

/// The status shown, and the one that is to follow it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StatusKeeper {
    shown: Status,
    candidate: Option<(Status, u64)>,
}

impl StatusKeeper {
    pub(crate) const fn shown(&self) -> Status {
        self.shown
    }

    /// Brings the status up to date: it changes after a second, and not for a trifle.
    pub(crate) fn update(&mut self, now_ms: u64, figures: &Figures) {
        if figures.condition == Condition::Unresponsive {
            self.shown = Status::Unresponsive;
            self.candidate = None;
            return;
        }
        let plain = by_figures(figures, 0);
        let worse = by_figures(figures, STATUS_PERCENT);
        let candidate = match self.shown {
            Status::Unresponsive => plain,
            shown if rank(plain) > rank(shown) && rank(worse) > rank(shown) => worse,
            shown if rank(plain) < rank(shown) => plain,
            shown => shown,
        };
        if candidate == self.shown {
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
            self.shown = candidate;
            self.candidate = None;
        }
    }
}

/// The status by the figures alone, with marks raised by `margin_percent` or a granule, whichever is more.
fn by_figures(figures: &Figures, margin_percent: u64) -> Status {
    if figures.condition == Condition::Saturated {
        return Status::Warning;
    }
    let held_kib = figures.held_kib;
    let margin_kib = match margin_percent {
        0 => 0,
        percent => (held_kib * percent / 100).max(GRANULE_KIB),
    };
    let ok_kib = held_kib.saturating_sub(figures.buffer_kib);
    if figures.demand_kib > held_kib + margin_kib {
        Status::Warning
    } else if figures.demand_kib > ok_kib + margin_kib {
        Status::Low
    } else {
        Status::Ok
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

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(demand_mib: u64, condition: Condition) -> Figures {
        Figures {
            held_kib: 1000 * 1024,
            demand_kib: demand_mib * 1024,
            buffer_kib: 200 * 1024,
            condition,
        }
    }

    #[test]
    fn a_status_changes_after_a_second_and_not_for_a_trifle() {
        let mut status = StatusKeeper::default();
        for (ms, demand, shown) in [
            (0, 815, Status::Ok),
            (2000, 815, Status::Ok),
            (2100, 830, Status::Ok),
            (3000, 830, Status::Ok),
            (3100, 830, Status::Low),
            // Back at once below the mark, after a second.
            (3200, 799, Status::Low),
            (4200, 799, Status::Ok),
        ] {
            status.update(ms, &figures(demand, Condition::Plain));
            assert_eq!(status.shown(), shown, "at {ms} ms");
        }
        status.update(4300, &figures(100, Condition::Unresponsive));
        assert_eq!(status.shown(), Status::Unresponsive);
        status.update(4400, &figures(100, Condition::Saturated));
        status.update(5400, &figures(100, Condition::Saturated));
        assert_eq!(status.shown(), Status::Warning);
    }
}
