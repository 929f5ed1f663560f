//! Which way a system call went.

/// Whether the fastpath was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "when it was not, nothing has been done yet"]
pub enum Path {
    /// Everything is done, the next thread is current.
    Taken,
    /// Nothing was done.
    Closed,
}
