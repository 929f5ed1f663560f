//! The state machine: a client's request in, an answer and the kernel's work out.

use crate::account::{Guest, Standing, Waiting, check_bounds};
use crate::kernel::{CleanerPace, Kernel, KernelError, Place};
use crate::ledger::{Ledger, State};
use crate::walk::{Step, Walk};
use protocol::badge::Client;
use protocol::memory::{Bounds, HostAccount, Purpose, Refusal, Reply, Request, ReturnReason};
use protocol::units::{GuestId, MAX_GUESTS, PieceId, Pieces};

/// Below this many clean pieces the cleaner hurries: a guest that grows in a burst takes 32 MiB before the balancer has
/// looked once.
const LOW_POOL_PIECES: u32 = 16;
/// Most pieces that one `Revoke` takes: about 2000 instructions each, so that nobody waits for more than a quarter of
/// a million.
const REVOKE_STEP_PIECES: u32 = 128;
/// The balancer is signalled after this many returned pieces (16 MiB): often enough to pass memory on while it comes in,
/// rarely enough that its decisions cost little beside the cleaning.
const SIGNAL_EVERY_PIECES: u32 = 8;

/// What the receive loop does with a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a caller without an answer waits for ever"]
pub enum Outcome {
    /// Answer it.
    Answer(Reply),
    /// Answer it, and send the capability in the outgoing slot along.
    AnswerWithFrame(Reply),
    /// Keep its reply: it is the cleaner, and [`Kernel::hand_to_cleaner`] answers it later.
    Hold,
}

/// Whether the cleaner's call is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cleaner {
    /// Not here yet, or retyping a piece.
    Busy,
    /// Its call is held.
    Waits,
}

/// The memory server, for at most `N` pieces. Empty, it is all zeros.
pub struct Server<const N: usize> {
    total: Pieces,
    ledger: Ledger<N>,
    /// Bit `g` of a piece: taken from guest `g` by force, which has not read so yet.
    notices: [u16; N],
    guests: [Option<Guest>; MAX_GUESTS],
    cleaner: Cleaner,
    pace: CleanerPace,
    walk: Walk,
    returned_since_signal: u32,
}

impl<const N: usize> Default for Server<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Server<N> {
    /// A server without pieces; [`Server::recover`] finds them.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            total: Pieces(0),
            ledger: Ledger::new(),
            notices: [0; N],
            guests: [None; MAX_GUESTS],
            cleaner: Cleaner::Busy,
            pace: CleanerPace::Idle,
            walk: Walk::new(),
            returned_since_signal: 0,
        }
    }

    /// Answers a request. All checks come first; a refusal has changed nothing.
    pub fn handle<K: Kernel>(
        &mut self,
        kernel: &mut K,
        client: Client,
        request: Request,
    ) -> Outcome {
        let answer = match (client, request) {
            (Client::Vmm(guest), Request::Take(purpose)) => {
                return self.take(kernel, guest, purpose);
            }
            (Client::Vmm(guest), Request::Return { piece, why }) => {
                self.give_back(kernel, guest, piece, why)
            }
            (Client::Vmm(guest), Request::DropEarmark(pieces)) => {
                self.drop_earmark(kernel, guest, pieces)
            }
            (Client::Vmm(guest), Request::NextRevoked) => self.next_revoked(guest),
            (Client::Vmm(guest), Request::Mine) => self.account(guest),
            (Client::Balancer, Request::SetTarget { guest, target }) => {
                self.set_target(kernel, guest, target)
            }
            (Client::Balancer, Request::Revoke { guest, pieces }) => {
                self.revoke(kernel, guest, pieces)
            }
            (Client::Balancer | Client::Console | Client::Supervisor, Request::Host) => {
                Ok(Reply::Host(self.host()))
            }
            (Client::Balancer | Client::Console | Client::Supervisor, Request::Account(guest)) => {
                self.account(guest)
            }
            (Client::Console | Client::Supervisor, Request::Count) => Ok(self.count(kernel)),
            (Client::Balancer | Client::Console, Request::SetBounds { guest, bounds }) => {
                self.set_bounds(kernel, guest, bounds)
            }
            (Client::Supervisor, Request::Admit { guest, bounds }) => self.admit(guest, bounds),
            (Client::Supervisor, Request::Retire(guest)) => self.retire(kernel, guest),
            (Client::Cleaner, Request::Cleaned(piece)) => {
                return self.cleaned(kernel, piece);
            }
            (Client::Cleaner, Request::CleanFailed { piece, .. }) => {
                return self.clean_failed(kernel, piece);
            }
            _ => Err(Refusal::NotAllowed),
        };
        Outcome::Answer(answer.unwrap_or_else(Reply::Refused))
    }

    /// The host's account by the index; [`Request::Count`] gives the one by the capabilities.
    #[must_use]
    pub fn host(&self) -> HostAccount {
        let pool = Pieces(self.ledger.count(Place::Pool));
        let granted = self
            .each_guest()
            .fold(Pieces(0), |sum, guest| sum.plus(guest.assigned));
        HostAccount {
            total: self.total,
            pool,
            granted,
            cleaning: self.total.minus(pool).minus(granted),
            promised: self.promised(),
        }
    }

    // --- VMMs ---

    fn take<K: Kernel>(&mut self, kernel: &mut K, guest: GuestId, purpose: Purpose) -> Outcome {
        match self.grant(kernel, guest, purpose) {
            Ok(piece) => Outcome::AnswerWithFrame(Reply::Granted { piece }),
            Err(refusal) => Outcome::Answer(Reply::Refused(refusal)),
        }
    }

    fn grant<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
        purpose: Purpose,
    ) -> Result<PieceId, Refusal> {
        let account = self.admitted(guest)?;
        // A touch of a piece that was reported free is inside the claim already. Without an earmark (taken by force, or
        // lost with a restarted server) it is growth like any other.
        let from_earmark = purpose == Purpose::Touched && account.earmarked > Pieces(0);
        if !from_earmark {
            account.may_grow()?;
        }
        let unread = account.revoked > Pieces(0);
        let Some(piece) = self.clean_piece_for(guest, unread) else {
            let cleaning = Pieces(self.ledger.count(Place::Dirty) + self.ledger.cleaning());
            if let Some(account) = self.guest_mut(guest) {
                account.waiting = Waiting::ForClean;
            }
            self.pace(kernel);
            return Err(Refusal::NotReady { cleaning });
        };
        let granted = kernel
            .stage_frame(piece)
            .and_then(|()| self.transfer(kernel, piece, Place::Pool, Place::Guest(guest)));
        if let Err(error) = granted {
            self.ledger.set(piece, State::Aside(Place::Pool));
            return Err(Refusal::Kernel(error.0));
        }
        self.ledger.set(piece, State::At(Place::Guest(guest)));
        if let Some(account) = self.guest_mut(guest) {
            account.assigned.0 += 1;
            if from_earmark {
                account.earmarked.0 -= 1;
            }
        }
        if self.ledger.count(Place::Pool) < LOW_POOL_PIECES {
            self.pace(kernel);
        }
        Ok(piece)
    }

    /// The next clean piece. Never one whose loss the guest has not read yet: its VMM would take the old notice for a
    /// new one.
    fn clean_piece_for(&self, guest: GuestId, unread: bool) -> Option<PieceId> {
        let first = self.ledger.oldest(Place::Pool)?;
        if !unread || !self.has_notice(guest, first) {
            return Some(first);
        }
        (0..self.total.0).map(PieceId).find(|piece| {
            self.ledger.state(*piece) == State::At(Place::Pool) && !self.has_notice(guest, *piece)
        })
    }

    fn give_back<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
        piece: PieceId,
        why: ReturnReason,
    ) -> Result<Reply, Refusal> {
        self.admitted(guest)?;
        if self.ledger.state(piece) != State::At(Place::Guest(guest)) {
            return Err(Refusal::NotYours(piece));
        }
        self.reclaim(kernel, guest, piece)
            .map_err(|error| Refusal::Kernel(error.0))?;
        if why == ReturnReason::Reported
            && let Some(account) = self.guest_mut(guest)
        {
            account.earmarked.0 += 1;
        }
        self.after_return(kernel, 1);
        Ok(Reply::Done)
    }

    fn drop_earmark<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
        pieces: Pieces,
    ) -> Result<Reply, Refusal> {
        let earmarked = self.admitted(guest)?.earmarked;
        if pieces > earmarked {
            return Err(Refusal::OutOfBounds {
                asked: pieces,
                least: Pieces(0),
                most: earmarked,
            });
        }
        if let Some(account) = self.guest_mut(guest) {
            account.earmarked = account.earmarked.minus(pieces);
        }
        self.after_return(kernel, pieces.0);
        Ok(Reply::Done)
    }

    fn next_revoked(&mut self, guest: GuestId) -> Result<Reply, Refusal> {
        let account = *self.admitted(guest)?;
        if account.revoked == Pieces(0) {
            return Ok(Reply::Revoked(None));
        }
        let total = self.total.0;
        let order =
            (account.notice_cursor.min(total)..total).chain(0..account.notice_cursor.min(total));
        let found = order
            .map(PieceId)
            .find(|piece| self.has_notice(guest, *piece));
        if let Some(piece) = found {
            self.set_notice(guest, piece, Notice::Read);
        }
        if let Some(account) = self.guest_mut(guest) {
            match found {
                Some(piece) => {
                    account.revoked.0 -= 1;
                    account.notice_cursor = piece.0 + 1;
                }
                None => account.revoked = Pieces(0),
            }
        }
        Ok(Reply::Revoked(found))
    }

    fn account(&self, guest: GuestId) -> Result<Reply, Refusal> {
        Ok(Reply::Account(self.known(guest)?.report()))
    }

    // --- the balancer ---

    fn set_target<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
        target: Pieces,
    ) -> Result<Reply, Refusal> {
        let account = *self.admitted(guest)?;
        if target < account.bounds.minimum || target > account.bounds.maximum {
            return Err(Refusal::OutOfBounds {
                asked: target,
                least: account.bounds.minimum,
                most: account.bounds.maximum,
            });
        }
        self.replace(guest, Guest { target, ..account })?;
        kernel.signal_guest(guest);
        Ok(Reply::Done)
    }

    fn revoke<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
        pieces: Pieces,
    ) -> Result<Reply, Refusal> {
        let account = *self.admitted(guest)?;
        let surplus = account.held().minus(account.bounds.minimum);
        let wanted = pieces.0.min(surplus.0).min(REVOKE_STEP_PIECES);
        let earmarks = wanted.min(account.earmarked.0);
        if let Some(account) = self.guest_mut(guest) {
            account.earmarked.0 -= earmarks;
        }
        let mut taken = earmarks;
        while taken < wanted {
            let Some(piece) = self.ledger.newest(Place::Guest(guest)) else {
                break;
            };
            let result = self.reclaim(kernel, guest, piece);
            if self.ledger.state(piece) != State::At(Place::Guest(guest)) {
                self.set_notice(guest, piece, Notice::Unread);
                taken += 1;
            }
            if let Err(error) = result {
                if taken == 0 {
                    return Err(Refusal::Kernel(error.0));
                }
                break;
            }
        }
        if taken > 0 {
            kernel.signal_guest(guest);
            self.after_return(kernel, taken);
        }
        Ok(Reply::Taken(Pieces(taken)))
    }

    // --- the console and the supervisor ---

    fn count<K: Kernel>(&mut self, kernel: &mut K) -> Reply {
        let promised = self.promised();
        match self.walk.step(kernel, &self.ledger, self.total, promised) {
            Step::Left(left) => Reply::Counting { left },
            Step::Done(found) => Reply::Counted(found),
        }
    }

    fn set_bounds<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
        bounds: Bounds,
    ) -> Result<Reply, Refusal> {
        let account = *self.admitted(guest)?;
        check_bounds(bounds)?;
        let target = Pieces(account.target.0.clamp(bounds.minimum.0, bounds.maximum.0));
        self.replace(
            guest,
            Guest {
                bounds,
                target,
                ..account
            },
        )?;
        kernel.signal_guest(guest);
        Ok(Reply::Done)
    }

    fn admit(&mut self, guest: GuestId, bounds: Bounds) -> Result<Reply, Refusal> {
        check_bounds(bounds)?;
        let slot = self
            .guests
            .get(usize::from(guest.0))
            .ok_or(Refusal::NoSuchGuest(guest))?;
        let (assigned, claimed) = match slot {
            Some(known) if known.standing == Standing::Admitted => {
                return Err(Refusal::AlreadyAdmitted(guest));
            }
            Some(orphan) => (orphan.assigned, orphan.claim()),
            None => (Pieces(0), Pieces(0)),
        };
        let admitted = Guest::new(Standing::Admitted, bounds, assigned);
        self.check_room(claimed, admitted.claim())?;
        if let Some(slot) = self.guests.get_mut(usize::from(guest.0)) {
            *slot = Some(admitted);
        }
        Ok(Reply::Done)
    }

    fn retire<K: Kernel>(&mut self, kernel: &mut K, guest: GuestId) -> Result<Reply, Refusal> {
        self.known(guest)?;
        let mut returned = 0;
        while let Some(piece) = self.ledger.newest(Place::Guest(guest)) {
            if self.reclaim(kernel, guest, piece).is_err() {
                // Nobody's, and with nobody: the cleaner's call tries again.
                self.ledger.set(piece, State::Aside(Place::Guest(guest)));
            }
            returned += 1;
        }
        if self.known(guest)?.revoked > Pieces(0) {
            for index in 0..self.total.0 {
                self.set_notice(guest, PieceId(index), Notice::Read);
            }
        }
        if let Some(slot) = self.guests.get_mut(usize::from(guest.0)) {
            *slot = None;
        }
        // What it had claimed and not held is free as well.
        self.after_return(kernel, returned.max(SIGNAL_EVERY_PIECES));
        Ok(Reply::Done)
    }

    // --- the cleaner ---

    fn cleaned<K: Kernel>(&mut self, kernel: &mut K, piece: Option<PieceId>) -> Outcome {
        if let Some(piece) = piece {
            if self.ledger.state(piece) != State::Cleaning {
                return Outcome::Answer(Reply::Refused(Refusal::NotYours(piece)));
            }
            match self.transfer(kernel, piece, Place::Dirty, Place::Pool) {
                Ok(()) => {
                    self.ledger.set(piece, State::At(Place::Pool));
                    self.wake_waiting(kernel);
                }
                Err(_) => self.ledger.set(piece, State::Aside(Place::Dirty)),
            }
        }
        self.next_for_cleaner(kernel)
    }

    fn clean_failed<K: Kernel>(&mut self, kernel: &mut K, piece: PieceId) -> Outcome {
        if self.ledger.state(piece) != State::Cleaning {
            return Outcome::Answer(Reply::Refused(Refusal::NotYours(piece)));
        }
        self.ledger.set(piece, State::Aside(Place::Dirty));
        self.next_for_cleaner(kernel)
    }

    fn next_for_cleaner<K: Kernel>(&mut self, kernel: &mut K) -> Outcome {
        self.mend_one(kernel);
        let outcome = match self.ledger.oldest(Place::Dirty) {
            Some(piece) => {
                self.cleaner = Cleaner::Busy;
                self.ledger.set(piece, State::Cleaning);
                Outcome::Answer(Reply::Clean(piece))
            }
            None => {
                self.cleaner = Cleaner::Waits;
                Outcome::Hold
            }
        };
        self.pace(kernel);
        outcome
    }

    /// Tries once more to bring back one piece that was set aside with a guest or in the pool.
    fn mend_one<K: Kernel>(&mut self, kernel: &mut K) {
        if self.ledger.aside() == 0 {
            return;
        }
        let broken =
            (0..self.total.0)
                .map(PieceId)
                .find_map(|piece| match self.ledger.state(piece) {
                    State::Aside(Place::Dirty) => None,
                    State::Aside(place) => Some((piece, place)),
                    _ => None,
                });
        if let Some((piece, place)) = broken {
            let mended = kernel
                .revoke(piece, place)
                .and_then(|()| self.transfer(kernel, piece, place, Place::Dirty));
            if mended.is_ok() {
                self.ledger.set(piece, State::At(Place::Dirty));
            }
        }
    }

    fn wake_waiting<K: Kernel>(&mut self, kernel: &mut K) {
        for (id, slot) in (0..).zip(self.guests.iter_mut()) {
            if let Some(guest) = slot
                && guest.waiting == Waiting::ForClean
            {
                guest.waiting = Waiting::No;
                kernel.signal_guest(GuestId(id));
            }
        }
    }

    // --- what they share ---

    /// Takes a piece back from a guest: revoke, then move, then the index. If the kernel refuses to revoke, nothing has
    /// changed; if it refuses to move, the piece is set aside, for the guest has lost it already.
    fn reclaim<K: Kernel>(
        &mut self,
        kernel: &mut K,
        guest: GuestId,
        piece: PieceId,
    ) -> Result<(), KernelError> {
        let place = Place::Guest(guest);
        kernel.revoke(piece, place)?;
        let moved = self.transfer(kernel, piece, place, Place::Dirty);
        let state = match moved {
            Ok(()) => State::At(Place::Dirty),
            Err(_) => State::Aside(place),
        };
        self.ledger.set(piece, state);
        if let Some(account) = self.guest_mut(guest) {
            account.assigned = account.assigned.minus(Pieces(1));
        }
        moved
    }

    /// The only place where an untyped moves (M1).
    fn transfer<K: Kernel>(
        &mut self,
        kernel: &mut K,
        piece: PieceId,
        from: Place,
        to: Place,
    ) -> Result<(), KernelError> {
        kernel.move_untyped(piece, from, to)?;
        self.walk.moved(piece, from, to);
        Ok(())
    }

    /// Gives the cleaner work and tells the balancer.
    fn after_return<K: Kernel>(&mut self, kernel: &mut K, pieces: u32) {
        if self.cleaner == Cleaner::Waits
            && let Some(piece) = self.ledger.oldest(Place::Dirty)
        {
            self.cleaner = Cleaner::Busy;
            self.ledger.set(piece, State::Cleaning);
            kernel.hand_to_cleaner(piece);
        }
        self.pace(kernel);
        self.returned_since_signal = self.returned_since_signal.saturating_add(pieces);
        if self.returned_since_signal >= SIGNAL_EVERY_PIECES {
            self.returned_since_signal = 0;
            kernel.signal_balancer();
        }
    }

    fn pace<K: Kernel>(&mut self, kernel: &mut K) {
        let work = self.ledger.count(Place::Dirty) + self.ledger.cleaning() > 0;
        let low = self.ledger.count(Place::Pool) < LOW_POOL_PIECES;
        let waited_for = || {
            self.each_guest()
                .any(|guest| guest.waiting == Waiting::ForClean)
        };
        let pace = if work && (low || waited_for()) {
            CleanerPace::Hurried
        } else {
            CleanerPace::Idle
        };
        if pace != self.pace {
            self.pace = pace;
            kernel.pace_cleaner(pace);
        }
    }

    /// Replaces a guest's account when the change of its claim fits (M3).
    fn replace(&mut self, guest: GuestId, account: Guest) -> Result<(), Refusal> {
        let claimed = self.admitted(guest)?.claim();
        self.check_room(claimed, account.claim())?;
        if let Some(slot) = self.guest_mut(guest) {
            *slot = account;
        }
        Ok(())
    }

    fn check_room(&self, claimed: Pieces, claim: Pieces) -> Result<(), Refusal> {
        let asked = claim.minus(claimed);
        let available = self.unpromised();
        if asked > available {
            return Err(Refusal::Overcommit { asked, available });
        }
        Ok(())
    }

    /// Pieces promised and not granted.
    fn promised(&self) -> Pieces {
        self.each_guest().fold(Pieces(0), |sum, guest| {
            sum.plus(guest.claim().minus(guest.assigned))
        })
    }

    /// Pieces that nobody has a claim on.
    fn unpromised(&self) -> Pieces {
        let free = self.ledger.count(Place::Pool)
            + self.ledger.count(Place::Dirty)
            + self.ledger.cleaning();
        Pieces(free).minus(self.promised())
    }

    fn each_guest(&self) -> impl Iterator<Item = &Guest> {
        self.guests.iter().flatten()
    }

    fn known(&self, guest: GuestId) -> Result<&Guest, Refusal> {
        self.guests
            .get(usize::from(guest.0))
            .and_then(Option::as_ref)
            .ok_or(Refusal::NoSuchGuest(guest))
    }

    fn admitted(&self, guest: GuestId) -> Result<&Guest, Refusal> {
        match self.known(guest)?.standing {
            Standing::Admitted => self.known(guest),
            Standing::Orphan => Err(Refusal::NoSuchGuest(guest)),
        }
    }

    fn guest_mut(&mut self, guest: GuestId) -> Option<&mut Guest> {
        self.guests.get_mut(usize::from(guest.0))?.as_mut()
    }

    fn has_notice(&self, guest: GuestId, piece: PieceId) -> bool {
        self.notices
            .get(piece.0 as usize)
            .is_some_and(|bits| bits & notice_bit(guest) != 0)
    }

    fn set_notice(&mut self, guest: GuestId, piece: PieceId, notice: Notice) {
        let Some(bits) = self.notices.get_mut(piece.0 as usize) else {
            return;
        };
        let bit = notice_bit(guest);
        match notice {
            Notice::Unread => {
                let new = *bits & bit == 0;
                *bits |= bit;
                if new && let Some(account) = self.guest_mut(guest) {
                    account.revoked.0 += 1;
                }
            }
            Notice::Read => *bits &= !bit,
        }
    }

    // --- for recovery ---

    pub(crate) fn clear(&mut self, total: Pieces) {
        // Field by field: a whole new server would not fit a component's stack.
        self.total = Pieces(total.0.min(N as u32));
        self.ledger.clear();
        self.notices.fill(0);
        self.guests = [None; MAX_GUESTS];
        self.cleaner = Cleaner::Busy;
        self.pace = CleanerPace::Idle;
        self.walk = Walk::new();
        self.returned_since_signal = 0;
    }

    pub(crate) const fn total(&self) -> Pieces {
        self.total
    }

    pub(crate) const fn ledger_mut(&mut self) -> &mut Ledger<N> {
        &mut self.ledger
    }

    pub(crate) const fn guests_mut(&mut self) -> &mut [Option<Guest>; MAX_GUESTS] {
        &mut self.guests
    }

    #[cfg(test)]
    pub(crate) const fn ledger(&self) -> &Ledger<N> {
        &self.ledger
    }

    #[cfg(test)]
    pub(crate) const fn guests(&self) -> &[Option<Guest>; MAX_GUESTS] {
        &self.guests
    }
}

/// Whether a guest's VMM has read that a piece was taken.
#[derive(Clone, Copy)]
enum Notice {
    Unread,
    Read,
}

const fn notice_bit(guest: GuestId) -> u16 {
    if (guest.0 as usize) < MAX_GUESTS {
        1 << guest.0
    } else {
        0
    }
}
