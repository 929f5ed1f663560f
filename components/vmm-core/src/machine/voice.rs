//! Whether the guest is heard.
//!
//! Liveness is measured at the guest, not at its VMM: a guest is heard when it gives fresh statistics. One that never did
//! (it may have no balloon driver) is judged by signs of life instead: what its kernel does of its own accord. Interrupts
//! that it takes are no such sign; a kernel that has panicked takes them for ever.

use super::Machine;
pub use protocol::balancer::SILENT_MS;

/// One that was never heard: its kernel needs time to come to its balloon driver. In milliseconds.
pub const NEVER_HEARD_MS: u64 = 55_000;

/// Why a guest is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its balloon driver is there and does not answer.
    Unanswered,
    /// Its balloon driver was there and is not any more.
    DriverGone,
    /// Its balloon driver broke the protocol, and does not reset the device.
    DriverFailed,
    /// It never gave statistics, and does nothing of its own accord.
    NeverHeard,
    /// It never gave statistics, and lives: it has no balloon driver. That is no silence.
    NoDriver,
}

/// A guest that is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Why.
    pub cause: Cause,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

/// What the host was told of the present silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    NoDriver,
    Silent,
}

/// Whether a guest ever gave statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Never,
    Once,
}

/// What is known of a guest's voice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice {
    /// When it was last heard; before the first time, when it started.
    heard_ms: u64,
    heard: Heard,
    sign_ms: u64,
    told: Told,
}

impl Voice {
    pub(super) const fn new(now_ms: u64) -> Self {
        Self {
            heard_ms: now_ms,
            heard: Heard::Never,
            sign_ms: now_ms,
            told: Told::Nothing,
        }
    }

    /// Fresh statistics arrived. For how long it had been silent when the host was told so.
    pub(super) fn hear(&mut self, now_ms: u64) -> Option<u64> {
        let was = (self.told == Told::Silent).then(|| now_ms.saturating_sub(self.heard_ms));
        *self = Self {
            heard: Heard::Once,
            ..Self::new(now_ms)
        };
        was
    }

    /// From now on it counts as if it had just been heard: it could not speak before.
    pub(super) const fn excuse(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.sign_ms = now_ms;
        self.told = Told::Nothing;
    }

    pub(super) const fn sign(&mut self, now_ms: u64) {
        self.sign_ms = now_ms;
    }

    /// How old what it said last is, in milliseconds.
    pub(super) const fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.heard_ms)
    }

    pub(super) const fn heard(&self) -> Heard {
        self.heard
    }

    /// What is new; each silence is told once.
    fn listen(&mut self, now_ms: u64, cause: Cause) -> Option<Silence> {
        let for_ms = self.age_ms(now_ms);
        let (told, cause, for_ms) = match self.heard {
            Heard::Once if for_ms >= SILENT_MS => (Told::Silent, cause, for_ms),
            Heard::Never if for_ms >= NEVER_HEARD_MS => {
                let still_ms = now_ms.saturating_sub(self.sign_ms);
                if still_ms >= SILENT_MS {
                    (Told::Silent, Cause::NeverHeard, still_ms)
                } else {
                    (Told::NoDriver, Cause::NoDriver, for_ms)
                }
            }
            Heard::Once | Heard::Never => return None,
        };
        if self.told == told || self.told == Told::Silent {
            return None;
        }
        self.told = told;
        Some(Silence { cause, for_ms })
    }
}

impl Machine {
    /// A silence that the host was not told of yet.
    pub fn silence(&mut self, now_ms: u64) -> Option<Silence> {
        let transport = &self.balloon.transport;
        let cause = if transport.has_failed() {
            Cause::DriverFailed
        } else if transport.is_live() {
            Cause::Unanswered
        } else {
            Cause::DriverGone
        };
        self.voice.listen(now_ms, cause)
    }

    /// The guest is heard again: for how long it had been silent, in milliseconds, if the host was told so.
    pub const fn take_heard_again(&mut self) -> Option<u64> {
        self.heard_again.take()
    }

    /// Whether signs of life count: the guest never gave statistics.
    #[must_use]
    pub fn wants_signs(&self) -> bool {
        self.voice.heard() == Heard::Never
    }

    /// The guest did something of its own accord.
    pub const fn sign_of_life(&mut self, now_ms: u64) {
        self.voice.sign(now_ms);
    }

    /// The guest could not speak until now: it was paused.
    pub const fn excuse(&mut self, now_ms: u64) {
        self.voice.excuse(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(voice: &mut Voice, now_ms: u64) -> Option<(Cause, u64)> {
        let silence = voice.listen(now_ms, Cause::Unanswered)?;
        Some((silence.cause, silence.for_ms))
    }

    #[test]
    fn a_guest_that_falls_silent_is_named_once_and_again_when_it_has_spoken() {
        let mut voice = Voice::new(0);
        assert_eq!(voice.hear(1000), None);
        assert_eq!(voice.age_ms(1500), 500);
        assert_eq!(told(&mut voice, 30_999), None);
        assert_eq!(told(&mut voice, 31_000), Some((Cause::Unanswered, 30_000)));
        assert_eq!(told(&mut voice, 99_000), None);
        assert_eq!(voice.age_ms(99_000), 98_000, "it ages on");
        assert_eq!(voice.hear(100_000), Some(99_000));
        assert_eq!(told(&mut voice, 129_999), None);
        assert_eq!(told(&mut voice, 131_000), Some((Cause::Unanswered, 31_000)));
    }

    #[test]
    fn a_guest_without_a_driver_is_judged_by_its_signs_of_life() {
        let mut voice = Voice::new(0);
        voice.sign(54_000);
        assert_eq!(told(&mut voice, 54_999), None);
        assert_eq!(told(&mut voice, 55_000), Some((Cause::NoDriver, 55_000)));
        voice.sign(70_000);
        assert_eq!(told(&mut voice, 99_000), None);
        assert_eq!(told(&mut voice, 100_000), Some((Cause::NeverHeard, 30_000)));
        assert_eq!(told(&mut voice, 200_000), None);
        // One that panics while it boots never gives a sign.
        let mut voice = Voice::new(1000);
        voice.sign(3000);
        assert_eq!(told(&mut voice, 56_000), Some((Cause::NeverHeard, 53_000)));
    }

    #[test]
    fn a_pause_is_no_silence() {
        let mut voice = Voice::new(0);
        voice.hear(1000);
        voice.excuse(200_000);
        assert_eq!(voice.age_ms(200_100), 100);
        assert_eq!(told(&mut voice, 229_000), None);
        assert_eq!(told(&mut voice, 230_000), Some((Cause::Unanswered, 30_000)));
    }
}
