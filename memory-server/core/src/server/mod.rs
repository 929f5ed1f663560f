//! The state machine: a client's request in, an answer and the kernel's work out. The requests are with their clients, in
//! the modules below; what they share is here.

mod balancer;
mod cleaner;
mod supervisor;
mod vmm;

use crate::account::{Guest, Standing, Waiting};
use crate::kernel::{CleanerPace, Kernel, KernelError, Place};
use crate::ledger::{Ledger, State};
use crate::walk::Walk;
use protocol::badge::Client;
use protocol::memory::{HostAccount, Refusal, Reply, Request};
use protocol::units::{GuestId, MAX_GUESTS, PieceId, Pieces};

/// Below this many clean pieces the cleaner hurries: a guest that grows in a burst takes 32 MiB before the balancer has
/// looked once.
const LOW_POOL_PIECES: u32 = 16;
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
            (Client::Vmm(guest), Request::Earmark(pieces)) => self.earmark(guest, pieces),
            (Client::Vmm(guest), Request::DropEarmark(pieces)) => {
                self.drop_earmark(kernel, guest, pieces)
            }
            (Client::Vmm(guest), Request::TakeFirst(piece)) => self.take_first(guest, piece),
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
