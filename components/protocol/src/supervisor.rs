//! The supervisor's protocol: guests start and stop at run time.

use crate::units::{GuestId, Line, Name, Pieces};
use serde::{Deserialize, Serialize};

/// What is asked of the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// From the console: start a guest of the description.
    Start(GuestId),
    /// From the console: stop a guest and take everything back.
    Stop(GuestId),
    /// From the console: pause its vCPU.
    Pause(GuestId),
    /// From the console: let it run again.
    Resume(GuestId),
    /// From the console: what is this guest doing?
    Guest(GuestId),
    /// From the console: the host's fixed costs.
    Costs,
    /// From a VMM: its guest is up (first instruction ran).
    Running,
    /// From a VMM: what is its guest doing, by the supervisor's word?
    Mine,
    /// From a VMM: its guest fell silent, and the operator was told. What follows is the guest's setting's.
    Silent,
    /// From a VMM: its guest ended.
    Ended {
        /// How.
        why: EndReason,
        /// For the operator.
        detail: Line,
    },
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// PSCI SYSTEM_OFF.
    PoweredOff,
    /// PSCI SYSTEM_RESET: it is started again.
    Reset,
    /// The guest did what the VMM could not go on from.
    Misbehaved,
    /// Its memory was taken by force and it touched it.
    Revoked,
    /// The operator stopped it.
    Stopped,
    /// The VMM itself faulted.
    VmmFault,
    /// It fell silent, and `on_silence` says that it is not kept.
    Silent,
}

/// What a guest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum GuestState {
    /// Not started, or stopped.
    #[default]
    Stopped,
    /// Waiting for memory.
    Waiting,
    /// Its VMM prepares it.
    Starting,
    /// Runs.
    Running,
    /// Paused.
    Paused,
    /// Its memory goes back.
    Stopping,
}

/// The supervisor's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done (or begun).
    Done,
    /// To `Mine`.
    State(GuestState),
    /// A guest's state.
    Guest {
        /// Its name.
        name: Name,
        /// What it is doing.
        state: GuestState,
        /// How often it was started.
        starts: u32,
        /// The last reason it ended.
        last_end: Option<EndReason>,
        /// Microseconds of processor time that its vCPU has used since its last start: its own work, and the kernel's for it.
        used_us: u64,
        /// For the operator.
        detail: Line,
    },
    /// The host's fixed costs, in bytes.
    Costs {
        /// Untyped memory used for the components that always run.
        components_bytes: u64,
        /// Untyped memory used for each guest's VMM and objects.
        per_guest_bytes: u64,
        /// Pieces handed to the memory server.
        pool: Pieces,
    },
    /// Refused, with the reason.
    Refused(Line),
}
