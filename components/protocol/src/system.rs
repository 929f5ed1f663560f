//! The checked system description, as the build puts it into the image.

use crate::balancer::Settings;
use crate::units::{MAX_GUESTS, Name, Pieces};
use serde::{Deserialize, Serialize};

/// Longest kernel command line, in bytes.
pub const COMMAND_LINE_BYTES: usize = 512;

/// When a guest is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Autostart {
    /// At boot.
    #[default]
    AtBoot,
    /// When the operator says so.
    Manual,
}

/// What a guest's VMM uses of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Interface {
    /// What the kernel offers beside seL4's interface, too, where it is there.
    #[default]
    Own,
    /// Nothing but seL4's interface, whatever is there.
    Sel4,
}

/// What kind of kernel a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KernelKind {
    /// An arm64 Linux `Image`.
    LinuxImage,
}

/// One guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Its name, unique.
    pub name: Name,
    /// When it starts.
    pub autostart: Autostart,
    /// What its VMM uses of the kernel.
    pub interface: Interface,
    /// Memory that lies in its balloon for its OOM notifier.
    pub cushion: Pieces,
    /// Index of its kernel in the bundle's file table.
    pub kernel_file: u16,
    /// Index of its initrd, if any.
    pub initrd_file: Option<u16>,
    /// Kernel command line.
    pub command_line: heapless::String<COMMAND_LINE_BYTES>,
    /// Dynamic Memory settings.
    pub settings: Settings,
}

/// The system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// Its name.
    pub name: Name,
    /// Pieces the memory server shall own; the board must have them.
    pub pool: Pieces,
    /// Pieces kept out of the targets.
    pub reserve: Pieces,
    /// The guests.
    pub guests: heapless::Vec<Guest, MAX_GUESTS>,
}
