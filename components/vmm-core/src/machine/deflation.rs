//! Pages that come out of the balloon without having been asked for: what the balancer hears of it, and when the guest's OOM
//! notifier is answered.

use super::{Host, Machine};
use crate::follow::Cushion;
use crate::virtio::balloon::{Happened, Hold};
use protocol::balancer::Urgency;

/// Longest time that a deflation waits for plugging, in milliseconds: Linux plugs 128 MiB in some 30 ms.
const HOLD_MS: u64 = 200;

impl Machine {
    /// A deflation that nobody asked for is answered when what the guest is to plug is plugged, or has had its time.
    pub(super) fn decide_hold(&mut self, now_ms: u64) {
        let is_plugging =
            self.hotplug.transport.is_live() && self.table.plugged() < self.hotplug.requested();
        if !self.balloon.is_holding() {
            self.hold_until_ms = now_ms + HOLD_MS;
        }
        let hold = if !is_plugging || now_ms >= self.hold_until_ms {
            Hold::No
        } else if self.balloon.is_holding() {
            Hold::Holding
        } else {
            Hold::Yes
        };
        let is_pressed = self.cushion.wish() == Cushion::InUse;
        self.balloon.set_hold(hold, is_pressed);
    }

    /// Answers what was held, if its time has come.
    pub(super) fn go_on_deflating<H: Host>(&mut self, host: &mut H, now_ms: u64) {
        if !self.balloon.is_holding() {
            return;
        }
        self.decide_hold(now_ms);
        if !self.balloon.is_holding() {
            let happened = self.balloon.work(&mut self.table, host);
            self.balloon_happened(happened, host, now_ms);
            self.lines();
            self.gic.flush(host);
        }
    }

    /// Pages that come out of the balloon, or wait for memory.
    pub(super) fn note_deflation(&mut self, happened: Happened, now_ms: u64) {
        if happened.unasked_deflation {
            self.cushion.used(now_ms);
            if happened.starved && self.cushion.wish() == Cushion::InUse {
                self.out_of_memory_ms.get_or_insert(now_ms);
            }
        }
        if self.cushion.wish() != Cushion::InUse {
            self.out_of_memory_ms = None;
        }
        match (happened.unasked_deflation, happened.starved) {
            (false, false) => {}
            // The guest's kernel is out of memory, and waits.
            (true, true) => self.urgent = Urgency::Starved,
            _ => self.urgent = Urgency::Event,
        }
    }
}
