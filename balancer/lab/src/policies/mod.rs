//! The policies. Each is a file; a new one is a file and a line in the list below.

use crate::policy::{Pace, Policy};
use crate::trace::Trace;
use std::sync::Arc;

/// What a policy is told of its guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// What an unmodified Linux reports.
    Reports,
    /// What the guests want, although no guest could say it: for information.
    Demand,
    /// What they will want: an oracle.
    Future,
}

/// A policy that can be played.
pub struct Entry {
    /// What `--policy` names it by.
    pub name: &'static str,
    /// What it is, in a line.
    pub what: &'static str,
    /// What it is told.
    pub told: Told,
    /// Whether it is compared at its own pace too.
    pub paces: &'static [Pace],
    /// Makes one for a host.
    pub make: fn(&Arc<Trace>, Pace) -> Box<dyn Policy>,
}

macro_rules! policies {
    ($($name:ident),* $(,)?) => {
        $(mod $name;)*
        /// All policies; the first is ours.
        pub const ALL: &[&[Entry]] = &[$($name::ENTRIES),*];
    };
}

policies! {
    ours,
    demand,
    fixed,
    hyperv,
    squeezed,
    proxmox,
    mom,
    qubes,
    esxi,
    chromeos,
    oracle,
}

/// Every entry.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    ALL.iter().flat_map(|entries| entries.iter())
}

pub use oracle::without_limits as oracle_without_limits;
pub use ours::GUESTS_MAX;
