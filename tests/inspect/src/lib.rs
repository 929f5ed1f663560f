//! Who maps which memory, read from the machine's RAM while the machine stands still.
//!
//! Nothing inside is asked and no counter is believed: from the kernel's [dump header](kernel_core::dump_header) on, every capability
//! is found ([`Picture`]), the translation tables of every address space are walked as the hardware walks them ([`tables`]),
//! and then two sets of rules are applied:
//!
//! - [`kernel::check`]: what holds whatever runs on the kernel. A table or a frame that a translation leads to is there by a
//!   capability that says so; no object of the kernel, nothing of its image, can be reached; objects do not overlap; RAM is
//!   mapped as normal memory and devices as devices.
//! - [`roles::check`]: what this system promises. A guest's memory is mapped by that guest and the window of its own VMM, and
//!   it is the guest's by the memory server's ledger; what is free or being cleaned is mapped by nobody; what is in the pool
//!   reads as zero; no memory that somebody writes has another reader.
//!
//! The kernel's decoding of capabilities and table entries is not used: a mistake there would be one here, too. That both
//! agree on what a capability looks like is tested against a kernel on the host.
//!
//! Not for: what caches and translation buffers hold, which memory does not show.
#![forbid(unsafe_code)]

mod capability;
mod dump_header;
pub mod kernel;
mod picture;
mod ram;
pub mod roles;
pub mod tables;

#[cfg(test)]
mod tests;

pub use capability::{Capability, Mapping, ObjectKind};
pub use dump_header::{Anchor, Place};
pub use picture::{Held, Object, Picture, Space, Thread};
pub use ram::{Changed, NotRam, Ram};

/// What was looked at: a check that saw nothing has found nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Capabilities found.
    pub capabilities: usize,
    /// Objects of the kernel that they stand for, frames not among them.
    pub objects: usize,
    /// Address spaces.
    pub spaces: usize,
    /// Translation tables below their roots.
    pub tables: usize,
    /// Frames that they map.
    pub leaves: usize,
    /// Address spaces of guests.
    pub guests: usize,
    /// Pieces of memory that guests have mapped.
    pub guest_pieces: usize,
    /// How much of a guest's memory is mapped by frames of 2 MiB, in percent, rounded down, of the guest with the least; none where
    /// no guest has memory.
    pub least_whole_percent: Option<u8>,
    /// Pieces that are in the memory server's ledger.
    pub ledger_pieces: usize,
    /// Pieces of the pool, read and found zero.
    pub zero_pieces: usize,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} capabilities, {} objects; {} address spaces, {} tables, {} frames; {} guests with {} pieces; {} pieces in \
             the ledger, {} of the pool read as zero",
            self.capabilities,
            self.objects,
            self.spaces,
            self.tables,
            self.leaves,
            self.guests,
            self.guest_pieces,
            self.ledger_pieces,
            self.zero_pieces
        )
    }
}

/// What a look found: figures, and every rule that does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What was looked at.
    pub figures: Figures,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// Looks at everything.
///
/// # Errors
/// When a capability or table points to where there is no RAM.
pub fn look(ram: &dyn Ram, anchor: &Anchor) -> Result<Findings, NotRam> {
    let picture = Picture::take(ram, anchor)?;
    let mut findings = Findings {
        figures: picture.figures(),
        problems: kernel::check(&picture, anchor, &ram.range()),
    };
    roles::check(&picture, anchor, ram, &mut findings)?;
    Ok(findings)
}
