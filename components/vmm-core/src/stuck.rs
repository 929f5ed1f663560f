//! Whether a guest is stuck: it takes the same exit again and again, and does nothing else.
//!
//! One rule for every exit that does not advance the guest by itself. An exit counts against the guest when it is the
//! same as the exit before it, and the guest did not take the exception that it was given for that one. Any other exit
//! in between, and any exception that the guest took, clears the count.

/// A guest whose exit repeats this often without progress is ended.
pub const MOST_REPEATS: u32 = 8;

/// What makes two exits the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The instruction.
    pub pc: u64,
    /// The address that it used (intermediate physical); `None` where the instruction itself is the cause.
    pub ipa: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    cause: Cause,
    repeats: u32,
}

/// The count of one guest.
#[derive(Debug, Default)]
pub struct Stuck {
    /// The exit before the present one, if that one did not advance the guest.
    before: Option<Seen>,
    /// The present exit, if it does not.
    now: Option<Seen>,
}

impl Stuck {
    /// No exit so far.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            before: None,
            now: None,
        }
    }

    /// An exit begins. Unless [`Self::repeats`] is called for it, it counts as progress.
    pub const fn begin(&mut self) {
        self.before = self.now.take();
    }

    /// Whether the present exit is the same as the one before it.
    #[must_use]
    pub fn is_same(&self, cause: Cause) -> bool {
        self.before.is_some_and(|seen| seen.cause == cause)
    }

    /// The present exit did not advance the guest, and the guest took no exception since the exit before. Returns whether
    /// it is stuck.
    pub fn repeats(&mut self, cause: Cause) -> bool {
        let repeats = match self.before {
            Some(seen) if seen.cause == cause => seen.repeats + 1,
            _ => 0,
        };
        self.now = Some(Seen { cause, repeats });
        repeats >= MOST_REPEATS
    }

    /// The present exit did not advance the guest, but the guest took the exception that the exit before gave it.
    pub const fn starts_again(&mut self, cause: Cause) {
        self.now = Some(Seen { cause, repeats: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Cause = Cause {
        pc: 0x1000,
        ipa: Some(0x2000),
    };

    #[test]
    fn the_same_exit_is_borne_so_often_and_no_oftener() {
        let mut stuck = Stuck::new();
        for _ in 0..MOST_REPEATS {
            stuck.begin();
            assert!(!stuck.repeats(HERE));
        }
        stuck.begin();
        assert!(stuck.repeats(HERE));
    }

    #[test]
    fn another_address_another_instruction_or_any_other_exit_clears_the_count() {
        let elsewhere = [
            Some(Cause {
                ipa: Some(0x3000),
                ..HERE
            }),
            Some(Cause { pc: 0x1004, ..HERE }),
            None,
        ];
        for other in elsewhere {
            let mut stuck = Stuck::new();
            for _ in 0..3 {
                for _ in 0..MOST_REPEATS {
                    stuck.begin();
                    assert!(!stuck.repeats(HERE), "{other:?}");
                }
                stuck.begin();
                if let Some(cause) = other {
                    assert!(!stuck.repeats(cause));
                }
            }
        }
    }
}
