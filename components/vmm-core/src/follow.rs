//! From the guest's target to what is asked of its drivers.
//!
//! The target counts pieces that the guest has or may touch at any moment (granted and earmarked). Growing deflates
//! the balloon first, then plugs. Shrinking unplugs first; the balloon inflates only when nothing is plugged, because
//! Linux balloons movable (plugged) memory first, which unplugging would then have to move page by page. When
//! unplugging makes no progress for [`STALL_MS`], the balloon takes the rest.
//!
//! Beyond its target a guest has its cushion ([`Cushion`]): plugged, and in the balloon. It stays there while the guest
//! grows, and is deflated only when plugging stalls or the guest's kernel runs out of memory.

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

/// Memory beyond the target that is plugged and lies in the balloon, for the guest's OOM notifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cushion {
    /// So many pieces, as far as the guest's maximum goes.
    Whole(u32),
    /// The guest's kernel takes pages out of it: what is left in the balloon stays there, and none are asked for.
    InUse,
}

/// What the guest is to have, in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// What it has or may touch at any moment.
    pub target: u32,
    /// The most that it may ever have.
    pub maximum: u32,
    /// What is plugged beyond the target.
    pub cushion: Cushion,
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

/// Whether growth waits for the cushion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settle {
    Wait,
    GoOn,
}

/// What is remembered between two looks.
#[derive(Clone, Copy, Debug)]
pub struct Follower {
    last_plugged: u32,
    last_wished: u32,
    progress_ms: u64,
    kick_ms: u64,
    kick_distance_ms: u64,
    settling: Settling,
}

/// The first that is plugged goes into the balloon, before more is: the cushion then lies where unplugging, which begins
/// above, comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settling {
    /// No driver has begun.
    Never,
    /// Since then, in milliseconds; it has [`STALL_MS`].
    Since(u64),
    /// It is in the balloon, or had its time.
    Done,
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
            settling: Settling::Never,
        }
    }

    /// Looks at goal and guest at `now_ms`.
    pub fn look(&mut self, mut goal: Goal, table: &Table, drivers: Drivers, now_ms: u64) -> Wishes {
        if self.settle(goal, table, drivers, now_ms) == Settle::Wait {
            goal.target = goal.target.min(table.startup());
        }
        let plugged = table.plugged();
        let wish = plug_wish(goal, table, drivers);
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
        let balloon_pages = match drivers.balloon {
            Driver::Absent => 0,
            Driver::Live => balloon_pages(goal, table, wish, is_stalled),
        };
        Wishes {
            plugged_pieces: wish,
            balloon_pages,
            kick,
        }
    }

    /// Whether the cushion is on its way into the balloon for the first time.
    fn settle(&mut self, goal: Goal, table: &Table, drivers: Drivers, now_ms: u64) -> Settle {
        let Cushion::Whole(cushion) = goal.cushion else {
            self.settling = Settling::Done;
            return Settle::GoOn;
        };
        if cushion == 0 || (drivers.hotplug, drivers.balloon) != (Driver::Live, Driver::Live) {
            self.settling = Settling::Never;
            return Settle::GoOn;
        }
        let since_ms = match self.settling {
            Settling::Never => now_ms,
            Settling::Since(since_ms) => since_ms,
            Settling::Done => return Settle::GoOn,
        };
        let is_done = table.plugged() > cushion
            || table.ballooned_pieces() >= cushion
            || now_ms.saturating_sub(since_ms) >= STALL_MS;
        if is_done {
            self.settling = Settling::Done;
            return Settle::GoOn;
        }
        self.settling = Settling::Since(since_ms);
        Settle::Wait
    }

    /// When to look again although nothing happened: `None` while all wishes are fulfilled.
    #[must_use]
    pub fn next_look_ms(&self) -> Option<u64> {
        let settled_ms = match self.settling {
            Settling::Since(since_ms) => Some(since_ms + STALL_MS),
            Settling::Never | Settling::Done => None,
        };
        let driver_ms = self.next_driver_look_ms();
        settled_ms.into_iter().chain(driver_ms).min()
    }

    fn next_driver_look_ms(&self) -> Option<u64> {
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

/// Pieces that the guest is asked to have plugged.
fn plug_wish(goal: Goal, table: &Table, drivers: Drivers) -> u32 {
    let (startup, plugged) = (table.startup(), table.plugged());
    if drivers.hotplug == Driver::Absent {
        return plugged;
    }
    let most = table.hotplug().min(goal.maximum.saturating_sub(startup));
    let ballooned = table.ballooned_pieces();
    let cushion = match (drivers.balloon, goal.cushion) {
        (Driver::Absent, _) => 0,
        (Driver::Live, Cushion::Whole(pieces)) => pieces,
        // What is left of it stays: what its target allows is plugged.
        (Driver::Live, Cushion::InUse) => ballooned,
    };
    let wish = goal
        .target
        .saturating_sub(startup)
        .saturating_add(cushion)
        .min(most);
    let is_beyond = table.ballooned_pages() > cushion * PAGES_PER_PIECE;
    if drivers.balloon == Driver::Live && goal.cushion != Cushion::InUse && is_beyond {
        // What is in the balloon beyond the cushion is deflated before more is plugged.
        return wish.min(plugged);
    }
    wish
}

/// Pages that the guest is asked to have in its balloon while `wish` pieces are to be plugged.
fn balloon_pages(goal: Goal, table: &Table, wish: u32, is_stalled: bool) -> u32 {
    let (startup, plugged, ballooned) = (table.startup(), table.plugged(), table.ballooned_pages());
    let beyond = |plugged: u32| (startup + plugged).saturating_sub(goal.target) * PAGES_PER_PIECE;
    if goal.cushion == Cushion::InUse {
        let expected = if is_stalled {
            plugged
        } else {
            plugged.max(wish)
        };
        return beyond(expected).min(ballooned);
    }
    if plugged > wish && !is_stalled {
        // Hold while unplugging is under way.
        return beyond(wish).min(ballooned);
    }
    if plugged < wish && !is_stalled {
        // The cushion stays where it is while the guest grows.
        return beyond(plugged).max(beyond(wish).min(ballooned));
    }
    beyond(plugged)
}

impl Default for Follower {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::tests::{FakeSupply, started};
    use crate::pieces::{Growth, State};
    use protocol::layout::ipa as map;

    const BOTH: Drivers = Drivers {
        hotplug: Driver::Live,
        balloon: Driver::Live,
    };

    fn goal(target: u32) -> Goal {
        Goal {
            target,
            maximum: 1000,
            cushion: Cushion::Whole(0),
        }
    }

    #[test]
    fn growth_plugs_and_shrinking_unplugs_before_it_balloons() {
        let (mut table, mut supply) = started(4, 8);
        let mut follower = Follower::new();
        let wishes = follower.look(goal(7), &table, BOTH, 0);
        assert_eq!((wishes.plugged_pieces, wishes.balloon_pages), (3, 0));
        supply.target = 7;
        for index in 4..7 {
            table.take(index, &mut supply).unwrap();
        }
        assert_eq!(follower.look(goal(7), &table, BOTH, 10).plugged_pieces, 3);
        assert_eq!(follower.next_look_ms(), None);
        // Down to 2: unplug all three first.
        let wishes = follower.look(goal(2), &table, BOTH, 20);
        assert_eq!((wishes.plugged_pieces, wishes.balloon_pages), (0, 0));
        for index in 4..7 {
            table.unplug(index..index + 1, &mut supply).unwrap();
        }
        let wishes = follower.look(goal(2), &table, BOTH, 30);
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
        assert_eq!(follower.look(goal(5), &table, BOTH, 0).balloon_pages, 0);
        assert_eq!(follower.look(goal(5), &table, BOTH, 100).kick, Kick::No);
        assert_eq!(follower.next_look_ms(), Some(250));
        assert_eq!(follower.look(goal(5), &table, BOTH, 250).kick, Kick::Now);
        let wishes = follower.look(goal(5), &table, BOTH, 1000);
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
        let wishes = follower.look(goal(6), &table, BOTH, 0);
        assert_eq!((wishes.plugged_pieces, wishes.balloon_pages), (0, 0));
        table.empty_balloon(&mut supply);
        assert_eq!(follower.look(goal(6), &table, BOTH, 1).plugged_pieces, 2);
    }

    #[test]
    fn without_a_hotplug_driver_nothing_is_asked_of_it() {
        let (table, _) = started(4, 8);
        let mut follower = Follower::new();
        let none = Drivers {
            hotplug: Driver::Absent,
            balloon: Driver::Absent,
        };
        let wishes = follower.look(goal(8), &table, none, 0);
        assert_eq!((wishes.plugged_pieces, wishes.balloon_pages), (0, 0));
        assert_eq!(follower.look(goal(2), &table, none, 0).balloon_pages, 0);
        assert_eq!(follower.next_look_ms(), None);
    }

    /// What the drivers make of the wishes.
    fn follow(table: &mut Table, supply: &mut FakeSupply, follower: &mut Follower, goal: Goal) {
        for now_ms in 0..20 {
            let wishes = follower.look(goal, table, BOTH, now_ms);
            let (from, to) = (
                table.startup() + table.plugged(),
                table.startup() + wishes.plugged_pieces,
            );
            for index in from..to {
                let _ = table.plug(index..index + 1, supply);
            }
            for index in (to..from).rev() {
                table.unplug(index..index + 1, supply).unwrap();
            }
            // The driver takes pages from plugged memory first, and gives back what it took last.
            let base = table.hotplug_base() / 4096;
            let pages = base..base + u64::from(table.plugged() * PAGES_PER_PIECE);
            for page in pages.clone() {
                if table.ballooned_pages() < wishes.balloon_pages {
                    table.inflate(page, supply).unwrap();
                }
            }
            for page in pages.rev() {
                if table.ballooned_pages() > wishes.balloon_pages {
                    let _ = table.deflate(page, Growth::Yes, supply);
                }
            }
        }
    }

    fn cushioned(target: u32, maximum: u32) -> (Box<Table>, FakeSupply, Follower, Goal) {
        let (mut table, mut supply) = started(4, 16);
        let goal = Goal {
            target,
            maximum,
            cushion: Cushion::Whole(3),
        };
        supply.target = target;
        table.set_cushion(3);
        let mut follower = Follower::new();
        follow(&mut table, &mut supply, &mut follower, goal);
        (table, supply, follower, goal)
    }

    #[test]
    fn the_cushion_is_plugged_and_ballooned_and_costs_neither_frame_nor_promise() {
        let (mut table, mut supply, mut follower, mut goal) = cushioned(4, 20);
        assert_eq!((table.plugged(), table.ballooned_pages()), (3, 3 * 512));
        assert_eq!(
            (table.granted() + table.reported(), supply.earmarked),
            (4, 0)
        );
        // It stays while the guest grows and shrinks.
        for target in [9, 6, 4] {
            goal.target = target;
            supply.target = target;
            follow(&mut table, &mut supply, &mut follower, goal);
            assert_eq!(table.plugged(), target - 4 + 3);
            assert_eq!(table.ballooned_pages(), 3 * 512);
            assert_eq!(table.granted() + table.reported(), target);
        }
        // Below its startup the guest gives up to the balloon what is its own.
        goal.target = 3;
        supply.target = 3;
        assert_eq!(follower.look(goal, &table, BOTH, 50).balloon_pages, 4 * 512);
    }

    #[test]
    fn the_cushion_ends_at_the_maximum() {
        for (target, cushion) in [(5, 3), (6, 2), (8, 0)] {
            let (table, ..) = cushioned(target, 8);
            assert_eq!(table.plugged(), target - 4 + cushion, "{target}");
            assert_eq!(table.ballooned_pages(), cushion * 512, "{target}");
        }
    }

    #[test]
    fn a_cushion_in_use_is_not_refilled_and_gives_what_the_target_allows() {
        let (mut table, mut supply, mut follower, mut goal) = cushioned(4, 20);
        goal.cushion = Cushion::InUse;
        table.set_cushion(0);
        let base = table.hotplug_base() / 4096;
        // The target leaves no room: the kernel waits for the answer.
        assert!(table.deflate(base, Growth::Yes, &mut supply).is_err());
        follow(&mut table, &mut supply, &mut follower, goal);
        assert_eq!((table.plugged(), table.ballooned_pages()), (3, 3 * 512));
        goal.target = 5;
        supply.target = 5;
        assert_eq!(table.deflate(base, Growth::Yes, &mut supply), Ok(()));
        follow(&mut table, &mut supply, &mut follower, goal);
        assert_eq!(table.ballooned_pages(), 2 * 512, "the rest of that piece");
        assert_eq!(table.plugged(), 3);
        // More is plugged, and what is left of the cushion stays for the next time.
        goal.target = 9;
        supply.target = 9;
        follow(&mut table, &mut supply, &mut follower, goal);
        assert_eq!((table.plugged(), table.ballooned_pages()), (7, 2 * 512));
        // The guest has come to rest.
        goal.cushion = Cushion::Whole(3);
        table.set_cushion(3);
        follow(&mut table, &mut supply, &mut follower, goal);
        assert_eq!((table.plugged(), table.ballooned_pages()), (8, 3 * 512));
        // All that is not in the balloon is there when it is touched.
        for index in 0..12 {
            if table.state(index) == State::Ballooned {
                continue;
            }
            assert_eq!(table.touch(table.ipa_of(index), &mut supply), Ok(index));
        }
        assert_eq!(table.granted(), 9);
    }

    #[test]
    fn a_cushion_in_use_before_it_settled_leaves_nothing_to_look_at() {
        let (mut table, mut supply) = started(4, 16);
        let mut goal = Goal {
            target: 4,
            maximum: 20,
            cushion: Cushion::Whole(3),
        };
        let mut follower = Follower::new();
        table.set_cushion(3);
        for index in 4..7 {
            table.plug(index..index + 1, &mut supply).unwrap();
        }
        follower.look(goal, &table, BOTH, 0);
        assert_eq!(follower.next_look_ms(), Some(STALL_MS));
        goal.cushion = Cushion::InUse;
        let _ = follower.look(goal, &table, BOTH, STALL_MS);
        assert!(follower.next_look_ms().is_none_or(|at| at > STALL_MS));
    }

    #[test]
    fn a_stalled_plug_is_served_from_the_cushion() {
        let (table, _, mut follower, mut goal) = cushioned(4, 20);
        goal.target = 6;
        assert_eq!(
            follower.look(goal, &table, BOTH, 100).balloon_pages,
            3 * 512
        );
        assert_eq!(follower.look(goal, &table, BOTH, 1100).balloon_pages, 512);
    }
}
