//! One decision: from the accounts as they are to the targets that are asked for.
//!
//! 1. Guests that the plan leaves alone are seen to: paused or silent ones. A deflation that waits is served.
//! 2. The rest is planned ([`plan`]): each guest's goal.
//! 3. Targets go down to their goals, so that memory comes back.
//! 4. Targets go up by what is free of promises at this moment, needs before buffers. What is still on its way back is
//!    promised to nobody (two phases).
//!
//! A change that only moves buffers is made when it is worth the work; one that serves a need always is.

use crate::balancer::{Action, Actions, Balancer, Snapshot};
use crate::guest::Guest;
use crate::plan::{BUFFER, Entry, FLOOR, Plan, SOON, Supply, plan};
use crate::reclaim::ReclaimStep;
use crate::share::{Part, fill};
use crate::why::{Reason, Why};
use protocol::balancer::{Flag, OnRefusal};
use protocol::units::{GuestId, Pieces};

/// Less than this part of what a guest has is not taken from it, unless somebody needs it.
const TAKE_PART: u32 = 128;
/// Where memory had to be taken for a need within this time, it will be needed again: this part of all is then kept free of
/// surplus, clean and at hand.
const HEADROOM_MS: u64 = 10_000;
const HEADROOM_PART: u32 = 16;
/// So many pieces are not worth a request of their own, unless the guest needs them.
const GIVE_PIECES: u32 = 1;

/// How a guest takes part in a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The memory server does not know it.
    Absent,
    /// It is left as it is.
    Left(Flag),
    /// Its figures are too old to take anything from it or to give it more.
    Old,
    /// It was asked for memory and gives none; the others are served without it.
    Late,
    /// It takes part in the plan.
    Shares,
}

/// The order in which free memory is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// What guests need at this moment.
    First,
    /// What they will need before more can come.
    Soon,
    /// The rest of their goals.
    Rest,
}

/// What a decision has in hand.
struct Round<const N: usize> {
    now_ms: u64,
    standings: [Standing; N],
    actions: Actions<N>,
    /// What targets may still grow by.
    budget: Pieces,
    /// The same with the reserve: a deflation that waits may use that.
    spare: Pieces,
    /// What the reserve and promised rooms lack.
    debt: Pieces,
    /// Clean memory that nobody is promised.
    clean: Pieces,
}

impl<const N: usize> Balancer<N> {
    /// A decision: call it on each tick, when memory came back, and when a report is urgent.
    pub fn decide(&mut self, now_ms: u64, snapshot: &Snapshot<N>) -> Actions<N> {
        self.rounds = self.rounds.wrapping_add(1);
        self.decided_ms = now_ms;
        self.take_accounts(snapshot);
        let mut round = Round {
            now_ms,
            standings: self.standings(now_ms, snapshot),
            actions: Actions::new(),
            budget: self.free(now_ms, snapshot),
            spare: snapshot.unpromised(),
            debt: self.debt(now_ms, snapshot),
            clean: snapshot.host.pool.minus(snapshot.host.promised),
        };
        let (entries, capacity) = self.entries(&round);
        let headroom = match self.taken_ms {
            Some(at) if now_ms.saturating_sub(at) < HEADROOM_MS => {
                self.host.total.0 / HEADROOM_PART
            }
            _ => 0,
        };
        let plan = plan(capacity.0, headroom, &entries);
        self.see_to_others(&mut round);
        self.serve_deflations(&mut round);
        self.supply = plan.supply;
        self.explain(&round, &entries, &plan);
        self.lower(&mut round, &entries, &plan);
        self.raise(&mut round, &entries, &plan);
        self.follow_reclaims(&mut round);
        for guest in self.guests.iter_mut().flatten() {
            guest.update_status(now_ms);
        }
        round.actions
    }

    fn standings(&self, now_ms: u64, snapshot: &Snapshot<N>) -> [Standing; N] {
        let mut standings = [Standing::Absent; N];
        for ((standing, slot), account) in standings
            .iter_mut()
            .zip(&self.guests)
            .zip(&snapshot.accounts)
        {
            let (Some(guest), Some(_)) = (slot, account) else {
                continue;
            };
            *standing = if let Some(flag) = guest.left(now_ms) {
                Standing::Left(flag)
            } else if guest.is_late(now_ms) {
                Standing::Late
            } else if guest.is_old(now_ms) {
                Standing::Old
            } else {
                Standing::Shares
            };
        }
        standings
    }

    /// The plan's entries, and what there is for them: what they have, and what is free.
    fn entries(&self, round: &Round<N>) -> ([Entry; N], Pieces) {
        let mut entries = [Entry::default(); N];
        let mut claims = Pieces(0);
        for ((entry, slot), standing) in entries.iter_mut().zip(&self.guests).zip(&round.standings)
        {
            if let Some(guest) = slot
                && *standing == Standing::Shares
            {
                *entry = guest.entry(round.now_ms);
                claims = claims.plus(guest.claim(guest.account.target));
            }
        }
        (entries, claims.plus(round.budget).minus(round.debt))
    }

    /// Those that the plan leaves alone.
    fn see_to_others(&mut self, round: &mut Round<N>) {
        let is_wanted = self.supply == Supply::Short || round.debt > Pieces(0);
        for (index, (slot, standing)) in self.guests.iter().zip(round.standings).enumerate() {
            let Some(guest) = slot else { continue };
            let id = GuestId(index as u16);
            let current = guest.account.target;
            match standing {
                Standing::Left(Flag::Paused | Flag::Silent) if is_wanted => {
                    // What it reported free and does not need at once others may have; it waits for that when it wakes.
                    let keeps = guest.sleeping_claim();
                    if current != keeps {
                        round.actions.free(set(id, keeps));
                    }
                    let pieces = guest.held().minus(keeps).min(guest.account.earmarked);
                    if pieces > Pieces(0) {
                        round.actions.reclaim(Action::Revoke { guest: id, pieces });
                    }
                }
                Standing::Left(Flag::Paused) if current < guest.held() => {
                    // It keeps what it has: a target below that is taken back, which promises nothing new.
                    let target = guest.held().min(guest.account.maximum);
                    round.actions.free(set(id, target));
                }
                _ => {}
            }
        }
    }

    /// A deflation that waits gets what it waits for, from the reserve too: until it is answered its guest's balloon driver
    /// can do nothing else, and the process that caused it does not run on.
    fn serve_deflations(&mut self, round: &mut Round<N>) {
        for (index, (slot, standing)) in self.guests.iter_mut().zip(round.standings).enumerate() {
            let Some(guest) = slot else { continue };
            let Some(target) = guest.deflates_to() else {
                continue;
            };
            let current = guest.account.target;
            let more = target.minus(guest.claim(current));
            let is_here = matches!(standing, Standing::Shares | Standing::Late | Standing::Old);
            if is_here && target > current && more <= round.spare {
                round.actions.free(set(GuestId(index as u16), target));
                round.spare = round.spare.minus(more);
                round.budget = round.budget.minus(more);
                guest.account.target = target;
            }
        }
    }

    /// Targets go down to their goals. What only fills buffers waits until it is worth a guest's work; what somebody needs
    /// and is not free does not.
    fn lower(&mut self, round: &mut Round<N>, entries: &[Entry; N], plan: &Plan<N>) {
        let is_lacked = self.lacking(round, entries, plan) > round.budget;
        if is_lacked {
            self.taken_ms = Some(round.now_ms);
        }
        let is_needed = is_lacked || round.debt > Pieces(0);
        for (index, guest, goal) in sharing(&mut self.guests, &round.standings, plan) {
            let current = guest.account.target;
            let deflates_to = guest.deflates_to().unwrap_or_default();
            let target = guest.target_for(goal).max(deflates_to);
            if target >= current {
                continue;
            }
            if !is_needed && current.0 - target.0 <= current.0 / TAKE_PART {
                guest.why.reason = Reason::TooLittle;
                continue;
            }
            round.actions.free(set(GuestId(index as u16), target));
            let cancelled = guest.claim(current).minus(guest.claim(target));
            round.budget = round.budget.plus(cancelled);
            guest.why.target = target;
        }
    }

    /// What guests lack of what they need now, and are to get.
    fn lacking(&self, round: &Round<N>, entries: &[Entry; N], plan: &Plan<N>) -> Pieces {
        self.guests
            .iter()
            .zip(&round.standings)
            .zip(entries.iter().zip(plan.goals))
            .filter_map(|((slot, standing), (entry, goal))| {
                let guest = slot.as_ref().filter(|_| *standing == Standing::Shares)?;
                let needed = Pieces(goal.min(entry.level(SOON)));
                Some(needed.minus(guest.claim(guest.account.target)))
            })
            .fold(Pieces(0), Pieces::plus)
    }

    /// Targets go up by what is free, each by weight: first what guests need, then what they will need, then the rest of
    /// their goals. What was cancelled fills the reserve before.
    fn raise(&mut self, round: &mut Round<N>, entries: &[Entry; N], plan: &Plan<N>) {
        let mut budget = round.budget.minus(round.debt).0;
        let mut given = [0; N];
        for turn in [Turn::First, Turn::Soon, Turn::Rest] {
            if turn != Turn::First {
                // What is not needed now waits for memory that is clean: it would take it from those that need it.
                let given = given.iter().copied().fold(0, u32::saturating_add);
                budget = budget.min(round.clean.0.saturating_sub(given));
            }
            let (shares, _) = fill(budget, &self.lacks(round, entries, plan, turn, &given));
            for (given, share) in given.iter_mut().zip(shares) {
                *given += share;
                budget -= share.min(budget);
            }
        }
        for (index, guest, goal) in sharing(&mut self.guests, &round.standings, plan) {
            let claim = guest.claim(guest.account.target);
            let target = match given.get(index) {
                Some(given) if *given > 0 => claim.plus(Pieces(*given)),
                // It has that already: nothing new is promised.
                _ => guest.target_for(goal).min(claim),
            };
            if target > guest.account.target {
                round.actions.promise(set(GuestId(index as u16), target));
                guest.why.target = target;
            }
        }
    }

    /// What each guest lacks of its goal in this turn, beyond what it is given already.
    fn lacks(
        &mut self,
        round: &Round<N>,
        entries: &[Entry; N],
        plan: &Plan<N>,
        turn: Turn,
        given: &[u32; N],
    ) -> [Part; N] {
        let mut lacks = [Part::default(); N];
        for (index, guest, goal) in sharing(&mut self.guests, &round.standings, plan) {
            let (Some(part), Some(entry), Some(given)) =
                (lacks.get_mut(index), entries.get(index), given.get(index))
            else {
                continue;
            };
            let has = guest.claim(guest.account.target).plus(Pieces(*given));
            let target = guest.target_for(goal);
            let most = match turn {
                Turn::First => entry.first,
                Turn::Soon => entry.level(SOON),
                Turn::Rest => u32::MAX,
            };
            let lack = target.min(Pieces(most)).minus(has).0;
            if turn == Turn::Rest && *given == 0 && (1..=GIVE_PIECES).contains(&lack) {
                guest.why.reason = Reason::TooLittle;
                continue;
            }
            part.want = lack;
            part.rank = lack;
            part.weight = entry.weight;
        }
        lacks
    }

    /// Reminders, deadlines and force.
    fn follow_reclaims(&mut self, round: &mut Round<N>) {
        for (index, (slot, standing)) in self.guests.iter_mut().zip(round.standings).enumerate() {
            let Some(guest) = slot else { continue };
            if matches!(standing, Standing::Absent | Standing::Left(_)) {
                continue;
            }
            let id = GuestId(index as u16);
            let target = guest.why.target;
            match guest.follow_reclaim(round.now_ms, target) {
                ReclaimStep::Wait => {}
                ReclaimStep::Remind => round.actions.reclaim(set(id, target)),
                ReclaimStep::Passed => {
                    if guest.settings.on_refusal == OnRefusal::Revoke {
                        let pieces = guest.held().minus(target);
                        round.actions.reclaim(Action::Revoke { guest: id, pieces });
                    }
                }
            }
        }
    }

    /// Notes for each guest why its target will be what it is.
    fn explain(&mut self, round: &Round<N>, entries: &[Entry; N], plan: &Plan<N>) {
        let rows = entries.iter().zip(plan.goals).zip(round.standings);
        for (slot, ((entry, goal), standing)) in self.guests.iter_mut().zip(rows) {
            let Some(guest) = slot else { continue };
            let claim = guest.claim(guest.account.target);
            let want = Pieces(entry.level(BUFFER));
            let (uses, remembers) = guest.figures_for_why(round.now_ms);
            let reason = match standing {
                Standing::Absent => continue,
                Standing::Left(flag) => Reason::Left(flag),
                Standing::Old => Reason::Old,
                Standing::Late if guest.is_unresponsive() => Reason::Unresponsive,
                Standing::Late => Reason::Late,
                Standing::Shares => reason(plan, claim, want, Pieces(goal)),
            };
            guest.why = Why {
                reason,
                mode: guest.settings.mode,
                uses,
                remembers,
                is_short: guest.is_short(),
                buffer_percent: guest.settings.buffer_percent,
                want,
                floor: Pieces(entry.level(FLOOR)),
                held: guest.held(),
                target: guest.account.target,
                goal: Pieces(goal),
            };
        }
    }
}

/// Why a guest that takes part gets its goal.
fn reason<const N: usize>(plan: &Plan<N>, claim: Pieces, want: Pieces, goal: Pieces) -> Reason {
    match plan.reason {
        Reason::Enough if goal < claim => Reason::Gives,
        Reason::Enough if goal > want => Reason::Keeps,
        other => other,
    }
}

/// The guests that take part, with their goals.
fn sharing<'a, const N: usize>(
    guests: &'a mut [Option<Guest>; N],
    standings: &'a [Standing; N],
    plan: &'a Plan<N>,
) -> impl Iterator<Item = (usize, &'a mut Guest, Pieces)> {
    guests
        .iter_mut()
        .zip(standings.iter().zip(&plan.goals))
        .enumerate()
        .filter(|(_, (_, (standing, _)))| **standing == Standing::Shares)
        .filter_map(|(index, (slot, (_, goal)))| Some((index, slot.as_mut()?, Pieces(*goal))))
}

const fn set(guest: GuestId, target: Pieces) -> Action {
    Action::SetTarget { guest, target }
}
