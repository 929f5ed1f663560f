//! What a guest does next: a state machine without the kernel.

use protocol::balancer::OnSilence;
use protocol::supervisor::{EndReason, GuestState};

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The operator, or the description, wants it to run.
    Start,
    /// The operator wants it gone.
    Stop,
    /// The operator wants it to pause.
    Pause,
    /// The operator wants it to go on.
    Resume,
    /// The balancer has room for it.
    Room,
    /// The balancer cannot make room.
    NoRoom,
    /// Its VMM is there and runs.
    Built,
    /// It could not be admitted or built; what was begun has been undone.
    BuildFailed,
    /// Its VMM says that it runs.
    Running,
    /// It ended, or its VMM faulted.
    Ended(EndReason),
    /// It fell silent, and this is what its settings say to that.
    Silent(OnSilence),
    /// Everything that it had was taken back.
    TornDown,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the state assumes that it is done"]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Ask the balancer for room, now and every tick until it says yes or no.
    AskRoom,
    /// Admit it at the memory server and build its VMM; then report `Built` or `BuildFailed`.
    Build,
    /// Suspend its vCPU.
    Suspend,
    /// Resume its vCPU.
    Resume,
    /// Take everything back; then report `TornDown`.
    TearDown,
}

/// The event does not fit the state; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The state.
    pub state: GuestState,
}

/// What follows a tear-down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Afterwards {
    Rest,
    StartAgain,
}

/// A guest of the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    state: GuestState,
    starts: u32,
    last_end: Option<EndReason>,
    afterwards: Afterwards,
}

impl Default for Guest {
    fn default() -> Self {
        Self::new()
    }
}

impl Guest {
    /// A guest that was never started.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: GuestState::Stopped,
            starts: 0,
            last_end: None,
            afterwards: Afterwards::Rest,
        }
    }

    /// What it is doing.
    #[must_use]
    pub const fn state(&self) -> GuestState {
        self.state
    }

    /// How often its VMM was built.
    #[must_use]
    pub const fn starts(&self) -> u32 {
        self.starts
    }

    /// How it last ended.
    #[must_use]
    pub const fn last_end(&self) -> Option<EndReason> {
        self.last_end
    }

    /// Takes an event and says what is to be done.
    ///
    /// # Errors
    /// [`Unfit`] when the event does not fit the state.
    pub fn on(&mut self, event: Event) -> Result<Action, Unfit> {
        use GuestState as S;
        let (state, action) = match (self.state, event) {
            (S::Stopped, Event::Start) => (S::Waiting, Action::AskRoom),
            (S::Waiting, Event::Room) => (S::Starting, Action::Build),
            (S::Waiting, Event::NoRoom | Event::Stop) => (S::Stopped, Action::Nothing),
            (S::Starting, Event::Built) => {
                self.starts = self.starts.wrapping_add(1);
                (S::Starting, Action::Nothing)
            }
            (S::Starting, Event::BuildFailed) => (S::Stopped, Action::Nothing),
            (S::Starting, Event::Running) => (S::Running, Action::Nothing),
            (S::Running, Event::Pause) => (S::Paused, Action::Suspend),
            (S::Paused, Event::Resume) => (S::Running, Action::Resume),
            (S::Starting | S::Running | S::Paused, Event::Stop) => {
                self.end(EndReason::Stopped, Afterwards::Rest)
            }
            (S::Starting | S::Running | S::Paused, Event::Ended(EndReason::Reset)) => {
                self.end(EndReason::Reset, Afterwards::StartAgain)
            }
            (S::Starting | S::Running | S::Paused, Event::Ended(why)) => {
                self.end(why, Afterwards::Rest)
            }
            (S::Running, Event::Silent(OnSilence::Keep)) => (S::Running, Action::Nothing),
            (S::Running, Event::Silent(OnSilence::Restart)) => {
                self.end(EndReason::Silent, Afterwards::StartAgain)
            }
            (S::Running, Event::Silent(OnSilence::Stop)) => {
                self.end(EndReason::Silent, Afterwards::Rest)
            }
            (S::Stopping, Event::TornDown) => match self.afterwards {
                Afterwards::Rest => (S::Stopped, Action::Nothing),
                Afterwards::StartAgain => (S::Waiting, Action::AskRoom),
            },
            (state, _) => return Err(Unfit { state }),
        };
        self.state = state;
        Ok(action)
    }

    fn end(&mut self, why: EndReason, afterwards: Afterwards) -> (GuestState, Action) {
        self.last_end = Some(why);
        self.afterwards = afterwards;
        (GuestState::Stopping, Action::TearDown)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::balancer::{Mode, OnRefusal, Settings};
    use protocol::memory::Bounds;
    use protocol::units::Pieces;

    pub fn settings() -> Settings {
        Settings {
            mode: Mode::Dynamic,
            bounds: Bounds {
                minimum: Pieces(1),
                startup: Pieces(2),
                maximum: Pieces(3),
            },
            buffer_percent: 20,
            weight: 5000,
            on_refusal: OnRefusal::Mark,
            deadline_ms: 2000,
            on_silence: OnSilence::Keep,
        }
    }

    #[test]
    fn a_life_with_a_reset() {
        let mut guest = Guest::new();
        assert_eq!(guest.on(Event::Start), Ok(Action::AskRoom));
        assert_eq!(guest.on(Event::Room), Ok(Action::Build));
        assert_eq!(guest.on(Event::Built), Ok(Action::Nothing));
        assert_eq!(guest.on(Event::Running), Ok(Action::Nothing));
        assert_eq!(guest.on(Event::Pause), Ok(Action::Suspend));
        assert_eq!(guest.on(Event::Resume), Ok(Action::Resume));
        assert_eq!(
            guest.on(Event::Ended(EndReason::Reset)),
            Ok(Action::TearDown)
        );
        assert_eq!(guest.on(Event::TornDown), Ok(Action::AskRoom));
        assert_eq!(guest.on(Event::Room), Ok(Action::Build));
        assert_eq!(guest.on(Event::Built), Ok(Action::Nothing));
        assert_eq!(guest.starts(), 2);
        assert_eq!(guest.on(Event::Stop), Ok(Action::TearDown));
        assert_eq!(guest.on(Event::TornDown), Ok(Action::Nothing));
        assert_eq!(guest.state(), GuestState::Stopped);
        assert_eq!(guest.last_end(), Some(EndReason::Stopped));
    }

    fn running() -> Guest {
        let mut guest = Guest::new();
        for event in [Event::Start, Event::Room, Event::Built, Event::Running] {
            let _ = guest.on(event).unwrap();
        }
        guest
    }

    #[test]
    fn silence_ends_a_guest_as_its_settings_say() {
        for (setting, action, then) in [
            (OnSilence::Keep, Action::Nothing, None),
            (OnSilence::Restart, Action::TearDown, Some(Action::AskRoom)),
            (OnSilence::Stop, Action::TearDown, Some(Action::Nothing)),
        ] {
            let mut guest = running();
            assert_eq!(guest.on(Event::Silent(setting)), Ok(action), "{setting:?}");
            if let Some(then) = then {
                assert_eq!(guest.last_end(), Some(EndReason::Silent));
                assert_eq!(guest.on(Event::TornDown), Ok(then), "{setting:?}");
            } else {
                assert_eq!(guest.state(), GuestState::Running);
            }
        }
    }

    #[test]
    fn a_guest_that_is_paused_or_just_ends_is_not_silent() {
        let mut guest = running();
        assert_eq!(guest.on(Event::Pause), Ok(Action::Suspend));
        let paused = Unfit {
            state: GuestState::Paused,
        };
        assert_eq!(guest.on(Event::Silent(OnSilence::Stop)), Err(paused));
        assert_eq!(guest.on(Event::Stop), Ok(Action::TearDown));
        assert!(guest.on(Event::Silent(OnSilence::Restart)).is_err());
        // What ended it before is forgotten: it was stopped, and rests.
        assert_eq!(guest.on(Event::TornDown), Ok(Action::Nothing));
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut guest = Guest::new();
        let before = guest;
        for event in [Event::Stop, Event::Pause, Event::Room, Event::TornDown] {
            assert_eq!(
                guest.on(event),
                Err(Unfit {
                    state: GuestState::Stopped
                })
            );
        }
        assert_eq!(guest, before);
    }

    proptest! {
        /// Whatever comes in whatever order, a build is always followed by a tear-down before the next build.
        #[test]
        fn builds_and_tear_downs_alternate(events in proptest::collection::vec(0u8..13, 0..200)) {
            let mut guest = Guest::new();
            let mut exists = false;
            for number in events {
                let event = match number {
                    0 => Event::Start,
                    1 => Event::Stop,
                    2 => Event::Pause,
                    3 => Event::Resume,
                    4 => Event::Room,
                    5 => Event::NoRoom,
                    6 => Event::Running,
                    7 => Event::Ended(EndReason::Reset),
                    8 => Event::Ended(EndReason::VmmFault),
                    9 => Event::Silent(OnSilence::Keep),
                    10 => Event::Silent(OnSilence::Restart),
                    11 => Event::Silent(OnSilence::Stop),
                    _ => Event::Ended(EndReason::PoweredOff),
                };
                match guest.on(event) {
                    Ok(Action::Build) => {
                        prop_assert!(!exists);
                        if number % 2 == 0 {
                            exists = true;
                            prop_assert_eq!(guest.on(Event::Built), Ok(Action::Nothing));
                        } else {
                            prop_assert_eq!(guest.on(Event::BuildFailed), Ok(Action::Nothing));
                        }
                    }
                    Ok(Action::TearDown) => {
                        prop_assert!(exists);
                        exists = false;
                        prop_assert!(guest.on(Event::TornDown).is_ok());
                    }
                    Ok(Action::Suspend | Action::Resume) => prop_assert!(exists),
                    Ok(Action::Nothing | Action::AskRoom) | Err(_) => {}
                }
            }
        }
    }
}
