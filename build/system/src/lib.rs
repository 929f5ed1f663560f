//! The system description: one TOML file, parsed, checked, explained.
//!
//! [`check`] turns the text of a description into a [`Description`]: the checked [`protocol::system::System`] that goes
//! into the image, the guest files it needs, and the machine. Or it says what is wrong, and with what and where that is:
//! every [`Problem`] carries the place in the file and what would be right, and all of them are found in one go.
//!
//! Invariants of a [`Description`]:
//! 1. minimum <= startup <= maximum for each guest, all multiples of 2 MiB, and the minimums together fit the pool;
//! 2. names are unique; every range that the book gives holds;
//! 3. `kernel_file` and `initrd_file` of each guest are positions in [`Description::files`], and files named by path
//!    exist and are what they should be.
//!
//! The crate knows no board: the list of boards comes from the caller.
#![forbid(unsafe_code)]

mod check;
pub mod files;
mod problem;
mod quantity;
mod reader;

pub use problem::{Problem, Severity, render};

use protocol::system::System;
use std::path::{Path, PathBuf};

/// A machine that a system can be built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// Its name in descriptions.
    pub name: &'static str,
    /// The most memory it can have, in MiB.
    pub memory_max_mib: u64,
}

/// How large everything is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// As written.
    #[default]
    Full,
    /// Every size divided by four.
    Quarter,
}

impl Scale {
    /// What sizes are divided by.
    #[must_use]
    pub const fn divisor(self) -> u64 {
        match self {
            Self::Full => 1,
            Self::Quarter => 4,
        }
    }
}

/// Where a guest's file comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The kernel of the packaged Debian guest.
    DebianKernel,
    /// The initramfs of the packaged Debian guest.
    DebianInitrd,
    /// The Rust unikernel.
    Unikernel,
    /// A file.
    Path(PathBuf),
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// A kernel.
    Kernel,
    /// An initrd.
    Initrd,
}

/// A file that guests need. Guests that name the same file share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GuestFile {
    /// Where it comes from.
    pub source: Source,
    /// What it is for.
    pub used_as: Use,
}

/// A checked description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What goes into the image.
    pub system: System,
    /// The files that guests need, in the order in which the bundle has them.
    pub files: Vec<GuestFile>,
    /// The board's name.
    pub board: &'static str,
    /// The machine's memory, in MiB.
    pub memory_mib: u64,
    /// What is allowed but not wise.
    pub warnings: Vec<Problem>,
}

/// What a check needs beside the text.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The directory that relative paths in the description start from.
    pub directory: &'a Path,
    /// The boards there are; the first is the default.
    pub boards: &'a [Board],
    /// Overrides the description's board.
    pub board: Option<&'a str>,
    /// How large.
    pub scale: Scale,
}

/// Checks a description.
///
/// # Errors
/// Everything that is wrong with it, warnings included.
pub fn check(text: &str, context: &Context<'_>) -> Result<Description, Vec<Problem>> {
    check::check(text, context)
}
