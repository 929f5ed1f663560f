//! Errors of invocations and reasons of failed lookups (libsel4 `errors.h`, `constants.h`).

use crate::numbered;

numbered! {
    /// The label of an invocation's answer (seL4_Error). `NoError` is success.
    pub enum Error {
        /// Success.
        NoError = 0,
        /// An argument is wrong; word 0 of the answer says which.
        InvalidArgument = 1,
        /// A capability is wrong; word 0 of the answer says which (0: the one invoked).
        InvalidCapability = 2,
        /// The operation is not possible in this state.
        IllegalOperation = 3,
        /// A number is out of range; words 0 and 1 give the bounds.
        RangeError = 4,
        /// An address is not aligned.
        AlignmentError = 5,
        /// A capability could not be looked up; word 0 tells source (1) or destination (0), then the lookup failure.
        FailedLookup = 6,
        /// The message is too short, or a capability is missing in it.
        TruncatedMessage = 7,
        /// The destination slot is not empty, or something is mapped already.
        DeleteFirst = 8,
        /// The object has capabilities derived from it.
        RevokeFirst = 9,
        /// The untyped is too small; word 0 gives the bytes left.
        NotEnoughMemory = 10,
    }
}

numbered! {
    /// Why a capability lookup failed (seL4_LookupFailureType).
    pub enum LookupFailure {
        /// No failure.
        NoFailure = 0,
        /// The root is no CNode.
        InvalidRoot = 1,
        /// The slot is empty.
        MissingCapability = 2,
        /// Too few or too many bits were resolved.
        DepthMismatch = 3,
        /// A guard did not match.
        GuardMismatch = 4,
    }
}
