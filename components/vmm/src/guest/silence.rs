//! What is said of a guest that is not heard, or does not take what it is offered.

use super::Guest;
use cap::{Endpoint, Source, call_value};
use core::fmt;
use protocol::slots;
use protocol::supervisor::{GuestState, Reply, Request};
use vmm_core::exits::State;
use vmm_core::machine::{Cause, Machine, News, Silence};

/// SPSR's mode field: EL0 (Arm ARM, C5.2.19).
const MODE: u64 = 0xf;
const EL0: u64 = 0;
/// SPSR's mask of interrupts.
const INTERRUPTS_MASKED: u64 = 1 << 7;

/// Where a guest is.
struct Where {
    pc: u64,
    spsr: u64,
}

impl fmt::Display for Where {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.spsr & MODE == EL0 { 0 } else { 1 };
        write!(to, "pc {:#x} at EL{level}", self.pc)?;
        if self.spsr & INTERRUPTS_MASKED != 0 {
            write!(to, ", interrupts masked")?;
        }
        Ok(())
    }
}

/// What a guest does instead of speaking.
struct Instead<'a>(Cause, &'a State, &'a Machine);

impl fmt::Display for Instead<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.1, self.0) {
            (State::Starves { ipa }, _) => {
                write!(
                    to,
                    "it waits for memory at {ipa:#x}, {}",
                    self.2.standing(*ipa)
                )
            }
            (State::Held(_), _) => write!(
                to,
                "it waits for {} MiB that were in its balloon when its driver was reset",
                self.2.missing_pieces() * 2
            ),
            (_, Cause::Unanswered) => write!(to, "its balloon driver does not answer"),
            (_, Cause::DriverGone) => write!(to, "its balloon driver is gone"),
            (_, Cause::DriverFailed) => write!(to, "its balloon driver broke the protocol"),
            (_, Cause::NeverHeard | Cause::NoDriver) => write!(to, "it was never heard"),
        }
    }
}

impl Guest {
    /// Looks whether there is something to say of the guest, which is in `state`. After that it may have been ended.
    pub(super) fn listen(&mut self, now_ms: u64, state: &State) {
        if self.machine.wants_signs() && (self.exits.take_signs() || self.is_at_el0()) {
            self.machine.sign_of_life(now_ms);
        }
        if let Some(news) = self.machine.take_news() {
            self.say_news(news);
        }
        if let Some(silent_ms) = self.machine.take_heard_again() {
            rt::say(format_args!(
                "guest \"{}\" is heard again after {} s",
                self.name,
                silent_ms / 1000
            ));
        }
        if let Some(silence) = self.machine.silence(now_ms) {
            self.say_silence(silence, now_ms, state);
        }
    }

    /// Whether it runs a program at this moment.
    fn is_at_el0(&self) -> bool {
        self.place().is_some_and(|place| place.spsr & MODE == EL0)
    }

    fn place(&self) -> Option<Where> {
        let context = self.thread.read_registers(Source::Keep, 3).ok()?;
        Some(Where {
            pc: context.pc,
            spsr: context.spsr,
        })
    }

    fn say_news(&self, news: News) {
        let name = &self.name;
        match news {
            News::NotOnline(mib) => rt::say(format_args!(
                "guest \"{name}\" leaves {mib} MiB unused that it was given: boot it with memhp_default_state=online_movable"
            )),
            News::NotPlugged(mib) => rt::say(format_args!(
                "guest \"{name}\" does not plug {mib} MiB that it is offered: look at its kernel's log for virtio_mem"
            )),
            News::Taking => rt::say(format_args!("guest \"{name}\" takes what it is offered")),
        }
    }

    fn say_silence(&mut self, silence: Silence, now_ms: u64, state: &State) {
        let Silence { cause, for_ms } = silence;
        let name = &self.name;
        if cause == Cause::NoDriver {
            rt::say(format_args!(
                "guest \"{name}\" runs without a balloon driver: what it needs is not known, and its memory stays as it is"
            ));
            return;
        }
        let supervisor = Endpoint::new(slots::SUPERVISOR);
        let mine: Result<Reply, _> = call_value(supervisor, &Request::Mine, None);
        if mine != Ok(Reply::State(GuestState::Running)) {
            // It is paused: nobody can speak then.
            self.machine.excuse(now_ms);
            return;
        }
        let instead = Instead(cause, state, &self.machine);
        let seconds = for_ms / 1000;
        match self.place() {
            Some(place) => rt::say(format_args!(
                "guest \"{name}\" has been silent for {seconds} s: {instead}; {place}"
            )),
            None => rt::say(format_args!(
                "guest \"{name}\" has been silent for {seconds} s: {instead}"
            )),
        }
        for line in self.outside.tail.lines() {
            rt::say(format_args!("guest \"{name}\", its console: {line}"));
        }
        // The supervisor may take this component apart before it answers.
        let _: Result<Reply, _> = call_value(supervisor, &Request::Silent, None);
    }
}
