//! What the balancer hears of a machine.

use super::trim;
use super::uptake::Said;
use super::{Host, Machine};
use crate::virtio::balloon::{Asked, F_DEFLATE_ON_OOM};
use protocol::balancer::{Report, Urgency};
use protocol::units::PIECE_BYTES;

/// Distance of two reports when the balancer has not said, in milliseconds.
pub(super) const REPORT_MS: u64 = 1000;
/// Shortest distance of two reports, so that a guest cannot make the balancer busy.
const REPORT_MIN_MS: u64 = 10;
/// A guest that took back this many pieces it had reported free is using memory up: it is asked at once. 8 MiB.
const TOUCHED_PIECES: u32 = 4;
/// While a guest is using memory up, reports are at most this far apart, in milliseconds.
const BUSY_REPORT_MS: u64 = 100;
/// It counts as using memory up for this long after the last sign of it, in milliseconds. What was just plugged may be
/// used up before a report in the balancer's rhythm tells.
const BUSY_MS: u64 = 2000;
/// A guest that runs out of memory gets some from the host's reserve only after this time, in milliseconds: what others have as
/// their buffers comes in less.
const OUT_OF_MEMORY_MS: u64 = 2000;
/// How long a report waits for fresh statistics, in milliseconds.
const STATISTICS_MS: u64 = 100;

/// What a guest has at some moment, as the balancer counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Had {
    visible_kib: u64,
    plugged_kib: u64,
    ballooned_kib: u64,
}

/// So many times its startup memory a guest may see before it needs that: page structures of what is plugged (1/64) come
/// from ordinary memory, of which it has its startup. At eight times a guest of 64 MiB, of which 19 are free, has none left for
/// its page tables and dies.
const AHEAD_TIMES: u64 = 4;

impl Machine {
    /// Time has passed: statistics are asked for, reports sent, stalled drivers kicked.
    pub fn time(&mut self, host: &mut impl Host, now_ms: u64) {
        if self.output_ms.is_some_and(|at| at <= now_ms) {
            self.output(host, now_ms);
        }
        if self.follower.next_look_ms().is_some_and(|at| at <= now_ms) {
            self.pursue(host, now_ms);
        }
        self.go_on_deflating(host, now_ms);
        self.watch_offer(host, now_ms);
        if let Some(asked) = self.asked_ms {
            if now_ms >= asked + STATISTICS_MS {
                // The guest does not answer (it may be busy, or have no driver any more): what is known goes out.
                self.asked_ms = None;
                self.is_late = true;
                self.send_report(host, now_ms);
            }
        } else if now_ms >= self.next_report_ms {
            match self.balloon.ask_statistics(&mut self.table, host) {
                Asked::Yes => {
                    self.asked_ms = Some(now_ms);
                    self.lines();
                    self.gic.flush(host);
                }
                Asked::No => self.send_report(host, now_ms),
            }
        }
    }

    /// The guest touched a piece that it had reported free, and has it again.
    pub fn touched(&mut self, host: &mut impl Host, now_ms: u64) {
        self.touched_pieces += 1;
        if self.touched_pieces >= TOUCHED_PIECES {
            self.touched_pieces = 0;
            self.busy(now_ms);
            if now_ms >= self.last_report_ms + REPORT_MIN_MS {
                self.next_report_ms = now_ms;
                self.time(host, now_ms);
            }
        }
    }

    /// The guest is using memory up: the next report comes soon.
    pub(super) fn busy(&mut self, now_ms: u64) {
        self.busy_until_ms = now_ms + BUSY_MS;
        self.next_report_ms = self.next_report_ms.min(now_ms + BUSY_REPORT_MS);
    }

    /// The balancer wants a report now.
    pub fn report_wanted(&mut self, host: &mut impl Host, now_ms: u64) {
        self.next_report_ms = now_ms;
        self.time(host, now_ms);
    }

    /// When [`Machine::time`] wants to be called next.
    #[must_use]
    pub fn next_ms(&self) -> u64 {
        let report = match self.asked_ms {
            Some(asked) => asked + STATISTICS_MS,
            None => self.next_report_ms,
        };
        let held = self.balloon.is_holding().then_some(self.hold_until_ms);
        let look = self.follower.next_look_ms();
        held.into_iter()
            .chain(look)
            .chain(self.output_ms)
            .fold(report, u64::min)
    }

    /// The guest has ready what it needs with its buffer, as far as its target goes: what it reported free of that is
    /// brought back before it is touched.
    pub(super) fn keep_ready(&mut self, host: &mut impl Host) {
        self.table.set_keep(self.keep.min(self.target));
        self.table.restore(host);
    }

    pub(super) fn send_report(&mut self, host: &mut impl Host, now_ms: u64) {
        if self.last_report_ms != 0 && now_ms < self.last_report_ms + REPORT_MIN_MS {
            self.next_report_ms = self.last_report_ms + REPORT_MIN_MS;
            return;
        }
        let report = self.report(now_ms);
        if let Some(next) = host.report(&report) {
            self.report_distance_ms = u64::from(next.in_ms).max(REPORT_MIN_MS);
            self.keep = next.keep.0;
            self.keep_ready(host);
        }
        self.urgent = Urgency::Periodic;
        self.last_report_ms = now_ms.max(1);
        let distance_ms = if now_ms < self.busy_until_ms {
            self.report_distance_ms.min(BUSY_REPORT_MS)
        } else {
            self.report_distance_ms
        };
        self.next_report_ms = now_ms + distance_ms;
    }

    /// Fresh statistics arrived.
    pub(super) fn heard(&mut self, host: &mut impl Host, now_ms: u64) {
        let most = self.most_plugged();
        if let Some(total) = self.balloon.statistics().total {
            let ballooned_kib = u64::from(self.table.ballooned_pages()) * 4;
            // virtio 1.3, 5.5.6.1: with DEFLATE_ON_OOM Linux leaves what is in the balloon in its total.
            let left_out_kib = if self.balloon.transport.accepted(F_DEFLATE_ON_OOM) {
                0
            } else {
                ballooned_kib
            };
            let plugged = self.table.plugged();
            self.uptake.observe(
                now_ms,
                Said {
                    total_kib: total / 1024 + left_out_kib,
                    plugged_kib: kib(plugged),
                    startup_kib: kib(self.table.startup()),
                },
            );
        }
        if let Some(silent_ms) = self.voice.hear(now_ms) {
            self.heard_again = Some(silent_ms);
        }
        let has = self.has();
        self.counted = Some(has);
        self.trim(now_ms);
        let in_use = self.cushion.wish();
        if self.table.ballooned_pages() >= self.balloon.wanted_pages() {
            self.table.promise_what_is_left(host);
        }
        if let Some(available) = self.balloon.statistics().available {
            self.cushion.hear(now_ms, available / 1024, has.visible_kib);
        }
        if self.most_plugged() != most || self.cushion.wish() != in_use {
            self.pursue(host, now_ms);
        }
    }

    /// Looks for what is free and is not reported.
    fn trim(&mut self, now_ms: u64) {
        let Some(free) = self.balloon.statistics().free else {
            return;
        };
        if !self.hotplug.transport.is_live() || self.table.ballooned_pieces() > self.cushion.most()
        {
            self.trim.interrupt(now_ms);
            return;
        }
        self.trim.look(
            now_ms,
            trim::Has {
                free: (free / PIECE_BYTES).min(u64::from(u32::MAX)) as u32,
                granted: self.table.granted(),
                promised: self.table.reported(),
                keep: self.keep,
                plugged: self.table.plugged(),
            },
        );
    }

    /// Most pieces that the guest is asked to have plugged, whatever its target says.
    pub(super) fn most_plugged(&self) -> u32 {
        self.uptake.most_plugged().min(self.trim.most_plugged())
    }

    /// Looks after what was offered and is not taken.
    fn watch_offer(&mut self, host: &mut impl Host, now_ms: u64) {
        let requested = if self.hotplug.transport.is_live() {
            self.hotplug.requested()
        } else {
            self.table.plugged()
        };
        let most = self.uptake.most_plugged();
        self.uptake.watch(now_ms, requested, self.table.plugged());
        if self.uptake.most_plugged() != most {
            self.pursue(host, now_ms);
        }
    }

    /// The most that the guest can come to have by what its drivers do; `None` where its maximum alone says.
    fn reach_kib(&self) -> Option<u64> {
        let startup_kib = kib(self.table.startup());
        if !self.hotplug.transport.is_live() {
            return Some(startup_kib + self.uptake.taken_kib(kib(self.table.plugged())));
        }
        let most = self.uptake.most_plugged();
        (most != u32::MAX).then(|| startup_kib + kib(most))
    }

    /// How far memory may be promised ahead: what is plugged or deflated has no frame until it is touched, and can be unplugged
    /// again without one.
    fn ahead_kib(&self) -> u64 {
        if self.hotplug.transport.is_live() {
            kib(self.table.startup()) * AHEAD_TIMES
        } else {
            0
        }
    }

    /// What the guest has now.
    pub(super) fn has(&self) -> Had {
        let ballooned_kib = u64::from(self.table.ballooned_pages()) * 4;
        let plugged_kib = kib(self.table.plugged());
        Had {
            visible_kib: (kib(self.table.startup()) + self.uptake.taken_kib(plugged_kib))
                .saturating_sub(ballooned_kib),
            plugged_kib,
            ballooned_kib,
        }
    }

    /// Pieces without which the guest or its balloon driver cannot go on. Those that its OOM notifier waits for are its need
    /// like any other, until it has waited for long.
    fn waits_for(&self, now_ms: u64) -> u32 {
        match self.out_of_memory_ms {
            Some(since_ms) if now_ms < since_ms + OUT_OF_MEMORY_MS => {
                self.missing_pieces() - self.balloon.missing_pieces()
            }
            _ => self.missing_pieces(),
        }
    }

    /// What the balancer hears. What the guest has and what of it is available are of one moment, that of its last
    /// statistics: a report that cannot wait for fresh ones would otherwise take memory that came or went since then for a
    /// change of what the guest uses.
    #[must_use]
    pub fn report(&self, now_ms: u64) -> Report {
        let statistics = self.balloon.statistics();
        let in_kib = |bytes: Option<u64>| bytes.map(|bytes| bytes / 1024);
        let had = match (self.counted, statistics.available) {
            (Some(counted), Some(_)) => counted,
            _ => self.has(),
        };
        Report {
            visible_kib: had.visible_kib,
            available_kib: in_kib(statistics.available),
            age_ms: self.voice.age_ms(now_ms).min(u64::from(u32::MAX)) as u32,
            reach_kib: self.reach_kib(),
            uptake: self.uptake.uptake(),
            ahead_kib: self.ahead_kib(),
            free_kib: in_kib(statistics.free),
            total_kib: in_kib(statistics.total),
            stranded_kib: u64::from(self.table.stranded_pages()) * 4,
            plugged_kib: had.plugged_kib,
            ballooned_kib: had.ballooned_kib,
            counters: statistics.counters,
            deflating_kib: kib(self.waits_for(now_ms)),
            urgent: if self.is_held() {
                Urgency::Starved
            } else {
                self.urgent
            },
        }
    }
}

const fn kib(pieces: u32) -> u64 {
    pieces as u64 * (PIECE_BYTES / 1024)
}
