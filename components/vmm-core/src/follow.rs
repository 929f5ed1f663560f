//! From the guest's target to what is asked of its drivers.
//!
//! The target counts pieces that the guest has or may touch at any moment (granted and earmarked). Growing deflates
//! the balloon first, then plugs. Shrinking unplugs first; the balloon inflates only when nothing is plugged, because
//! Linux balloons movable (plugged) memory first, which unplugging would then have to move page by page. When
//! unplugging makes no progress for [`STALL_MS`], the balloon takes the rest.

use crate::pieces::{PAGES_PER_PIECE, Table};

/// Without progress for this long, a plug or unplug counts as stalled, in milliseconds. Linux retries a failed step
/// within 5 s; a deadline of a reclaim is 2 s and more.
pub const STALL_MS: u64 = 1000;
/// First distance between two kicks of the hot-plug driver, in milliseconds; doubles up to [`KICK_MAX_MS`].
const KICK_MIN_MS: u64 = 250;
/// Greatest distance between two kicks.
const KICK_MAX_MS: u64 = 8000;

/// Which drivers the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drivers {
    /// virtio-mem is live.
    pub hotplug: Driver,
    /// The balloon is live.
    pub balloon: Driver,
}

/// Whether a driver is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// It is.
    Live,
    /// It is not.
    Absent,
}

/// What the drivers are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Pieces plugged.
    pub plugged_pieces: u32,
    /// Pages in the balloon.
    pub balloon_pages: u32,
    /// The hot-plug driver should try again.
    pub kick: Kick,
}

/// Whether the hot-plug driver is kicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// It is.
    Now,
    /// It is not.
    No,
}

/// What is remembered between two looks.
#[derive(Clone, Copy, Debug)]
pub struct Follower {
    last_plugged: u32,
    last_wished: u32,
    progress_ms: u64,
    kick_ms: u64,
    kick_distance_ms: u64,
}

impl Follower {
    /// Nothing asked yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            last_plugged: 0,
            last_wished: 0,
            progress_ms: 0,
            kick_ms: 0,
            kick_distance_ms: KICK_MIN_MS,
        }
    }

    /// Looks at target (pieces) and guest at `now_ms`.
    pub fn look(&mut self, target: u32, table: &Table, drivers: Drivers, now_ms: u64) -> Wishes {
        let startup = table.startup();
        let plugged = table.plugged();
        let mut wish = match drivers.hotplug {
            Driver::Live => target.saturating_sub(startup).min(table.hotplug()),
            Driver::Absent => plugged,
        };
        if table.ballooned_pages() != 0 && drivers.balloon == Driver::Live {
            // Deflate before plugging more.
            wish = wish.min(plugged);
        }
        if plugged != self.last_plugged || wish != self.last_wished || plugged == wish {
            self.progress_ms = now_ms;
            self.kick_distance_ms = KICK_MIN_MS;
            self.kick_ms = now_ms;
        }
        self.last_plugged = plugged;
        self.last_wished = wish;
        let is_stalled = now_ms.saturating_sub(self.progress_ms) >= STALL_MS;
        let kick =
            if plugged != wish && now_ms.saturating_sub(self.kick_ms) >= self.kick_distance_ms {
                self.kick_ms = now_ms;
                self.kick_distance_ms = (self.kick_distance_ms * 2).min(KICK_MAX_MS);
                Kick::Now
            } else {
                Kick::No
            };
        let unplugging = plugged > wish;
        let expected_plugged = if unplugging && !is_stalled {
            wish
        } else {
            plugged.min(wish.max(if is_stalled { plugged } else { 0 }))
        };
        let surplus = (startup + expected_plugged).saturating_sub(target) * PAGES_PER_PIECE;
        let balloon_pages = match drivers.balloon {
            Driver::Absent => 0,
            // Hold while unplugging is under way.
            Driver::Live if unplugging && !is_stalled => surplus.min(table.ballooned_pages()),
            Driver::Live => surplus,
        };
        Wishes {
            plugged_pieces: wish,
            balloon_pages,
            kick,
        }
    }

    /// When to look again although nothing happened: `None` while all wishes are fulfilled.
    #[must_use]
    pub fn next_look_ms(&self) -> Option<u64> {
        (self.last_plugged != self.last_wished).then(|| {
            let kick = self.kick_ms + self.kick_distance_ms;
            let stall = self.progress_ms + STALL_MS;
            if stall > self.kick_ms {
                kick.min(stall)
            } else {
                kick
            }
        })
    }
}

impl Default for Follower {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::tests::started;
    use protocol::layout::ipa as map;

    const BOTH: Drivers = Drivers {
        hotplug: Driver::Live,
        balloon: Driver::Live,
    };

    #[test]
    fn growth_plugs_and_shrinking_unplugs_before_it_balloons() {
        let (mut table, mut supply) = started(4, 8);
        let mut follower = Follower::new();
        let wishes = follower.look(7, &table, BOTH, 0);
        assert_eq!((wishes.plugged_pieces, wishes.balloon_pages), (3, 0));
        supply.target = 7;
        for index in 4..7 {
            table.take(index, &mut supply).unwrap();
        }
        assert_eq!(follower.look(7, &table, BOTH, 10).plugged_pieces, 3);
        assert_eq!(follower.next_look_ms(), None);
        // Down to 2: unplug all three first.
        let wishes = follower.look(2, &table, BOTH, 20);
        assert_eq!((wishes.plugged_pieces, wishes.balloon_pages), (0, 0));
        for index in 4..7 {
            table.unplug(index..index + 1, &mut supply).unwrap();
        }
        let wishes = follower.look(2, &table, BOTH, 30);
        assert_eq!((wishes.plugged_pieces, wishes.balloon_pages), (0, 2 * 512));
    }

    #[test]
    fn a_stalled_unplug_is_kicked_and_then_ballooned() {
        let (mut table, mut supply) = started(4, 8);
        supply.target = 8;
        for index in 4..8 {
            table.take(index, &mut supply).unwrap();
        }
        let mut follower = Follower::new();
        assert_eq!(follower.look(5, &table, BOTH, 0).balloon_pages, 0);
        assert_eq!(follower.look(5, &table, BOTH, 100).kick, Kick::No);
        assert_eq!(follower.next_look_ms(), Some(250));
        assert_eq!(follower.look(5, &table, BOTH, 250).kick, Kick::Now);
        let wishes = follower.look(5, &table, BOTH, 1000);
        assert_eq!(wishes.balloon_pages, 3 * 512);
        assert_eq!(wishes.plugged_pieces, 1);
    }

    #[test]
    fn growth_deflates_first() {
        let (mut table, mut supply) = started(4, 8);
        for page in 0..100 {
            table.inflate(map::RAM / 4096 + page, &mut supply).unwrap();
        }
        let mut follower = Follower::new();
        let wishes = follower.look(6, &table, BOTH, 0);
        assert_eq!((wishes.plugged_pieces, wishes.balloon_pages), (0, 0));
        table.empty_balloon(&mut supply);
        assert_eq!(follower.look(6, &table, BOTH, 1).plugged_pieces, 2);
    }

    #[test]
    fn without_a_hotplug_driver_nothing_is_asked_of_it() {
        let (table, _) = started(4, 8);
        let mut follower = Follower::new();
        let none = Drivers {
            hotplug: Driver::Absent,
            balloon: Driver::Absent,
        };
        let wishes = follower.look(8, &table, none, 0);
        assert_eq!((wishes.plugged_pieces, wishes.balloon_pages), (0, 0));
        assert_eq!(follower.look(2, &table, none, 0).balloon_pages, 0);
        assert_eq!(follower.next_look_ms(), None);
    }
}
