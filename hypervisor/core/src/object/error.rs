//! What a system call can answer when it does not do what was asked.

/// The reason a look-up of a capability address failed (seL4 manual, section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupFailure {
    /// The root is no CNode.
    InvalidRoot,
    /// The slot is empty.
    MissingCapability {
        /// Bits of the address not yet used.
        bits_left: u64,
    },
    /// The address ran out of bits, or had some left.
    DepthMismatch {
        /// Bits of the address not yet used.
        bits_left: u64,
        /// Bits the CNode resolves.
        bits_found: u64,
    },
    /// A guard did not match.
    GuardMismatch {
        /// Bits of the address not yet used.
        bits_left: u64,
        /// The CNode's guard.
        guard_found: u64,
        /// Its length in bits.
        bits_found: u64,
    },
}

/// An error that an invocation returns to its caller (seL4 manual, appendix "Error codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Argument `n` is not valid.
    InvalidArgument(u64),
    /// Capability argument `n` is of the wrong kind (0 is the invoked capability).
    InvalidCapability(u64),
    /// Not possible on this object, or no such invocation.
    IllegalOperation,
    /// An argument is outside these bounds.
    Range {
        /// Least allowed.
        min: u64,
        /// Most allowed.
        max: u64,
    },
    /// An address is not aligned.
    Alignment,
    /// A look-up failed: the source (or root) when `source`, else the destination.
    FailedLookup {
        /// Which of the two.
        source: LookupSide,
        /// Why.
        failure: LookupFailure,
    },
    /// Fewer words or capabilities than needed.
    TruncatedMessage,
    /// The destination is occupied.
    DeleteFirst,
    /// The object has descendants.
    RevokeFirst,
    /// The untyped is too small; this many bytes are left.
    NotEnoughMemory(u64),
}

/// Which look-up of an invocation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupSide {
    /// The destination, or the only one.
    Destination,
    /// The source.
    Source,
}

/// Whether a long operation came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a preempted operation has to be restarted, or it is left half done"]
pub enum Progress {
    /// Finished.
    Done,
    /// An interrupt is pending: make the system call again.
    Preempted,
}

/// The result of an invocation's action.
pub type Outcome = Result<Progress, Error>;
