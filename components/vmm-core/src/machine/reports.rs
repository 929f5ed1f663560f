//! What the balancer hears of a machine.

use super::Machine;
use protocol::balancer::{Report, Uptake};
use protocol::units::PIECE_BYTES;

/// What a guest has at some moment, as the balancer counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Had {
    visible_kib: u64,
    plugged_kib: u64,
    ballooned_kib: u64,
}

impl Machine {
    /// What the guest has now.
    pub(super) fn has(&self) -> Had {
        let ballooned_kib = u64::from(self.table.ballooned_pages()) * 4;
        // What waits for the rest of its plug is neither used nor available to the guest.
        let plugged = self.table.plugged().saturating_sub(self.hotplug.coming());
        let plugged_kib = kib(plugged);
        Had {
            visible_kib: (kib(self.table.startup()) + plugged_kib).saturating_sub(ballooned_kib),
            plugged_kib,
            ballooned_kib,
        }
    }

    /// What the balancer hears. What the guest has and what of it is available are of one moment, that of its last
    /// statistics: a report that cannot wait for fresh ones would otherwise take memory that came or went since then for a
    /// change of what the guest uses.
    #[must_use]
    pub fn report(&self) -> Report {
        let statistics = self.balloon.statistics();
        let in_kib = |bytes: Option<u64>| bytes.map(|bytes| bytes / 1024);
        let had = match (self.counted, statistics.available) {
            (Some(counted), Some(_)) => counted,
            _ => self.has(),
        };
        Report {
            visible_kib: had.visible_kib,
            available_kib: in_kib(statistics.available),
            age_ms: 0,
            reach_kib: None,
            uptake: Uptake::Taken,
            free_kib: in_kib(statistics.free),
            total_kib: in_kib(statistics.total),
            stranded_kib: u64::from(self.table.stranded_pages()) * 4,
            plugged_kib: had.plugged_kib,
            ballooned_kib: had.ballooned_kib,
            counters: statistics.counters,
            deflating_kib: kib(self.balloon.missing_pieces()),
            urgent: self.urgent,
        }
    }
}

const fn kib(pieces: u32) -> u64 {
    pieces as u64 * (PIECE_BYTES / 1024)
}
