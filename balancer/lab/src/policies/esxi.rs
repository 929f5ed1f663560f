//! ESXi's way: min-funding revocation with a tax on idle memory.
//!
//! Source: C. Waldspurger, "Memory Resource Management in VMware ESX Server", OSDI 2002, section 5: memory is taken from the
//! guest with the fewest shares for each page that it has, where an idle page costs k = 1 / (1 - tax) times as much as one in
//! use: rho = S / (P x (f + k x (1 - f))), tax 75 %. What a guest asks for is what it uses and its buffer; what nobody asks for
//! stays where it is. There the part in use is estimated from samples, as the most of averages that follow fast and slowly:
//! at its own pace, what is in use here rises with what the guest reports as used and falls over a minute. Memory that is
//! free there goes to a guest at the touch: at its own pace it decides every second.

use super::{Entry, Told};
use crate::policy::Pace;
use crate::rival::{Paced, Rival, Room, Seen, pieces};

/// What the laboratory calls it.
pub const ENTRIES: &[Entry] = &[Entry {
    name: "esxi",
    what: "ESXi's way: min-funding revocation, idle tax of 75 %",
    told: Told::Reports,
    paces: &[Pace::Own, Pace::Ours],
    make: |trace, pace| {
        let esxi = Esxi {
            pace,
            active: Vec::new(),
        };
        Box::new(Paced::new(esxi, pace, trace.reserve))
    },
}];

/// What an idle page costs, in active ones: 1 / (1 - 0.75).
const IDLE_COST: f64 = 4.0;

/// A guest as the formula sees it, in pieces.
#[derive(Clone, Copy, Debug)]
struct Client {
    shares: f64,
    active: f64,
    /// What it has and asks for.
    wants: f64,
    minimum: f64,
}

impl Client {
    /// What `pages` of it cost: P x (f + k x (1 - f)).
    fn cost(&self, pages: f64) -> f64 {
        let active = self.active.min(pages);
        active + IDLE_COST * (pages - active)
    }

    /// Its shares for each page, as taxed.
    fn rho(&self, pages: f64) -> f64 {
        self.shares / self.cost(pages).max(1e-9)
    }

    /// How many pages it keeps when all below `rho` are taken from.
    fn keeps(&self, rho: f64) -> f64 {
        let cost = self.shares / rho;
        let pages = if cost <= self.active {
            cost
        } else {
            self.active + (cost - self.active) / IDLE_COST
        };
        pages.min(self.wants).max(self.minimum.min(self.wants))
    }
}

/// Takes from those with the lowest rho until all fits.
fn revoke(capacity: f64, clients: &[Client]) -> Vec<f64> {
    let wanted: f64 = clients.iter().map(|client| client.wants).sum();
    if wanted <= capacity {
        return clients.iter().map(|client| client.wants).collect();
    }
    let lowest = clients
        .iter()
        .map(|client| client.rho(client.wants))
        .fold(f64::INFINITY, f64::min);
    let (mut low, mut high) = (lowest, lowest.max(1e-9) * 1e9);
    for _ in 0..80 {
        let middle = (low * high).sqrt();
        let kept: f64 = clients.iter().map(|client| client.keeps(middle)).sum();
        if kept > capacity {
            low = middle;
        } else {
            high = middle;
        }
    }
    clients.iter().map(|client| client.keeps(high)).collect()
}

struct Esxi {
    pace: Pace,
    /// What each guest has in use, as estimated, in pieces.
    active: Vec<f64>,
}

/// The estimate falls to 1/e of a difference in this time, in milliseconds.
const ESTIMATE_MS: f64 = 60_000.0;

impl Rival for Esxi {
    fn interval_ms(&self) -> u64 {
        1000
    }

    fn goals(&mut self, apart_ms: u64, room: &Room, guests: &[Seen], goals: &mut [u32]) {
        self.active.resize(guests.len(), 0.0);
        let fall = match self.pace {
            Pace::Own => (-(apart_ms as f64) / ESTIMATE_MS).exp(),
            Pace::Ours => 0.0,
        };
        let clients: Vec<Client> = guests
            .iter()
            .zip(&mut self.active)
            .map(|(seen, active)| {
                let used = f64::from(pieces(seen.used_kib()));
                *active = used.max(used + (*active - used) * fall);
                let asks = seen.clamp(pieces(seen.with_buffer_kib(seen.used_kib())));
                Client {
                    shares: f64::from(seen.settings.weight),
                    active: *active,
                    wants: f64::from(asks.max(seen.held().min(seen.maximum()))),
                    minimum: f64::from(seen.minimum()),
                }
            })
            .collect();
        let kept = revoke(f64::from(room.capacity), &clients);
        for (goal, pages) in goals.iter_mut().zip(kept) {
            *goal = pages as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn client(shares: f64, active: f64, wants: f64) -> Client {
        Client {
            shares,
            active,
            wants,
            minimum: 0.0,
        }
    }

    /// rho = S / (P x (f + k x (1 - f))) with k = 4: 1,000 shares, 100 pages, a quarter of them active: 1000 / 325.
    #[test]
    fn the_adjusted_ratio() {
        let rho = client(1000.0, 25.0, 100.0).rho(100.0);
        assert!((rho - 1000.0 / 325.0).abs() < 1e-9, "{rho}");
        // All active: no tax.
        assert!((client(1000.0, 100.0, 100.0).rho(100.0) - 10.0).abs() < 1e-9);
    }

    /// The paper's case of one idle and one active guest with equal shares: without regard to use both would get half; with
    /// the tax the idle one gives. 360 pages, both want 256, one uses 256 and the other 20: its idle ones cost four times.
    #[test]
    fn an_idle_guest_gives_to_an_active_one() {
        let kept = revoke(
            360.0,
            &[client(1000.0, 256.0, 256.0), client(1000.0, 20.0, 256.0)],
        );
        assert!((kept[0] - 256.0).abs() < 0.5, "{kept:?}");
        assert!((kept[1] - 104.0).abs() < 0.5, "{kept:?}");
        // Both idle: in proportion to shares.
        let kept = revoke(
            300.0,
            &[client(2000.0, 0.0, 256.0), client(1000.0, 0.0, 256.0)],
        );
        assert!((kept[0] - 200.0).abs() < 0.5, "{kept:?}");
        // There is enough: nobody gives.
        let enough = revoke(
            600.0,
            &[client(1000.0, 10.0, 256.0), client(1000.0, 10.0, 256.0)],
        );
        assert_eq!(enough, [256.0, 256.0]);
    }
}
