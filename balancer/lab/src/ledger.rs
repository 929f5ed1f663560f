//! Who has how many pieces, and what is promised to whom: the memory server's rules, by amounts.
//!
//! The rules are those of `memory-server-core`: a guest's claim is `max(minimum, target, assigned + earmarked)`, the sum of
//! claims never passes what there is, and a grant never passes the target. Pieces are counted here, not named, so that a
//! thousand guests can be played; a test plays both and compares.

use protocol::memory::{Account, Bounds, HostAccount, Refusal};
use protocol::units::Pieces;

/// The balancer hears of returned memory after this many pieces, as from the memory server (16 MiB).
const SIGNAL_EVERY_PIECES: u32 = 8;

/// The accounts.
#[derive(Clone, Debug)]
pub struct Ledger {
    total: u32,
    pool: u32,
    cleaning: u32,
    promised: u32,
    accounts: Vec<Account>,
    returned: u32,
}

fn held(account: &Account) -> u32 {
    account.assigned.0 + account.earmarked.0
}

fn claim(account: &Account) -> u32 {
    held(account).max(account.target.0).max(account.minimum.0)
}

/// Promised and not granted.
fn owed(account: &Account) -> u32 {
    claim(account) - account.assigned.0
}

impl Ledger {
    /// A ledger of clean pieces without guests.
    #[must_use]
    pub const fn new(total: Pieces) -> Self {
        Self {
            total: total.0,
            pool: total.0,
            cleaning: 0,
            promised: 0,
            accounts: Vec::new(),
            returned: 0,
        }
    }

    /// The host's account.
    #[must_use]
    pub const fn host(&self) -> HostAccount {
        HostAccount {
            total: Pieces(self.total),
            pool: Pieces(self.pool),
            granted: Pieces(self.total - self.pool - self.cleaning),
            cleaning: Pieces(self.cleaning),
            promised: Pieces(self.promised),
        }
    }

    /// The guests' accounts.
    #[must_use]
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// Pieces that nobody has a claim on.
    #[must_use]
    pub const fn unpromised(&self) -> u32 {
        (self.pool + self.cleaning).saturating_sub(self.promised)
    }

    /// Admits a guest with a first target, its startup as a rule.
    ///
    /// # Errors
    /// It is more than what is free of promises.
    pub fn admit(&mut self, bounds: Bounds, target: Pieces) -> Result<(), Refusal> {
        let account = Account {
            assigned: Pieces(0),
            earmarked: Pieces(0),
            target,
            revoked: Pieces(0),
            minimum: bounds.minimum,
            startup: bounds.startup,
            maximum: bounds.maximum,
        };
        self.check_room(claim(&account))?;
        self.promised += owed(&account);
        self.accounts.push(account);
        Ok(())
    }

    /// Sets a target.
    ///
    /// # Errors
    /// It is out of the guest's bounds, or would promise memory twice.
    pub fn set_target(&mut self, guest: usize, target: Pieces) -> Result<(), Refusal> {
        let account = self.accounts[guest];
        if target < account.minimum || target > account.maximum {
            return Err(Refusal::OutOfBounds {
                asked: target,
                least: account.minimum,
                most: account.maximum,
            });
        }
        let changed = Account { target, ..account };
        self.check_room(claim(&changed).saturating_sub(claim(&account)))?;
        self.replace(guest, changed);
        Ok(())
    }

    /// Grants up to `pieces` as growth: at most to the target, and what is clean. Returns how many.
    pub fn grow(&mut self, guest: usize, pieces: u32) -> u32 {
        let account = self.accounts[guest];
        let most = account.target.min(account.maximum).0;
        let granted = most
            .saturating_sub(held(&account))
            .min(pieces)
            .min(self.pool);
        self.pool -= granted;
        self.replace(
            guest,
            Account {
                assigned: Pieces(account.assigned.0 + granted),
                ..account
            },
        );
        granted
    }

    /// Promises up to `pieces` to the guest as growth, without a frame: at most to the target. They come at the touch. Returns
    /// how many.
    pub fn earmark(&mut self, guest: usize, pieces: u32) -> u32 {
        let account = self.accounts[guest];
        let most = account.target.min(account.maximum).0;
        let promised = most.saturating_sub(held(&account)).min(pieces);
        self.replace(
            guest,
            Account {
                earmarked: Pieces(account.earmarked.0 + promised),
                ..account
            },
        );
        promised
    }

    /// Grants up to `pieces` that the guest had reported free, or was promised. Returns how many.
    pub fn touch(&mut self, guest: usize, pieces: u32) -> u32 {
        let account = self.accounts[guest];
        let granted = account.earmarked.0.min(pieces).min(self.pool);
        self.pool -= granted;
        self.replace(
            guest,
            Account {
                assigned: Pieces(account.assigned.0 + granted),
                earmarked: Pieces(account.earmarked.0 - granted),
                ..account
            },
        );
        granted
    }

    /// A guest gives up `pieces` for good: what it reported free first, which needs no cleaning.
    pub fn give(&mut self, guest: usize, pieces: u32) {
        let account = self.accounts[guest];
        let earmarks = account.earmarked.0.min(pieces);
        let frames = (pieces - earmarks).min(account.assigned.0);
        self.cleaning += frames;
        self.returned += earmarks + frames;
        self.replace(
            guest,
            Account {
                assigned: Pieces(account.assigned.0 - frames),
                earmarked: Pieces(account.earmarked.0 - earmarks),
                ..account
            },
        );
    }

    /// A guest reports `pieces` free: they leave it and stay promised to it.
    pub fn report_free(&mut self, guest: usize, pieces: u32) {
        let account = self.accounts[guest];
        let frames = pieces.min(account.assigned.0);
        self.cleaning += frames;
        self.returned += frames;
        self.replace(
            guest,
            Account {
                assigned: Pieces(account.assigned.0 - frames),
                earmarked: Pieces(account.earmarked.0 + frames),
                ..account
            },
        );
    }

    /// Cleans up to `pieces`.
    pub fn clean(&mut self, pieces: u32) {
        let cleaned = pieces.min(self.cleaning);
        self.cleaning -= cleaned;
        self.pool += cleaned;
    }

    /// Whether so much came back since the last signal that the balancer is told.
    pub const fn take_signal(&mut self) -> bool {
        let due = self.returned >= SIGNAL_EVERY_PIECES;
        if due {
            self.returned = 0;
        }
        due
    }

    const fn check_room(&self, asked: u32) -> Result<(), Refusal> {
        let available = self.unpromised();
        if asked > available {
            return Err(Refusal::Overcommit {
                asked: Pieces(asked),
                available: Pieces(available),
            });
        }
        Ok(())
    }

    fn replace(&mut self, guest: usize, account: Account) {
        self.promised = self.promised - owed(&self.accounts[guest]) + owed(&account);
        self.accounts[guest] = account;
    }
}
