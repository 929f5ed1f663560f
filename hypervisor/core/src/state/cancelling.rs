//! A cancellation that was preempted, and how far it came.

use crate::object::Tcb;
use crate::object::mem::Ref;

/// Where a preempted [`cancel_badged_sends`](crate::run::endpoint::cancel_badged_sends) goes on, and for whom.
#[derive(Clone, Copy)]
pub struct Cancelling {
    /// The sender that is looked at next; it has [`ipc_flag::CURSOR`](crate::object::ipc_flag::CURSOR).
    pub(crate) next: Ref<Tcb>,
    /// The badge that is cancelled.
    pub(crate) badge: u64,
    /// The thread whose call it is.
    pub(crate) caller: Ref<Tcb>,
}
