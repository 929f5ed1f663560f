//! What a component is told when it starts: the content of its startup page.

use crate::balancer::Settings;
use crate::bundle::Packing;
use crate::system::{COMMAND_LINE_BYTES, Interface};
use crate::units::{GuestId, MAX_GUESTS, Name, Pieces};
use serde::{Deserialize, Serialize};

/// The startup page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Startup {
    /// The component's name.
    pub name: Name,
    /// Number of the component in log frames.
    pub log_id: u8,
    /// What is its own.
    pub role: Role,
}

/// What differs per component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The memory server.
    MemoryServer {
        /// Pieces whose untyped capabilities sit in the pool CNode, slots `0..total`.
        total: Pieces,
    },
    /// The balancer.
    Balancer {
        /// Kept out of the targets.
        reserve: Pieces,
        /// All pieces.
        total: Pieces,
    },
    /// The timer.
    Timer,
    /// The serial / management server.
    Console {
        /// Names of the guests in the description.
        guests: heapless::Vec<Name, MAX_GUESTS>,
    },
    /// A guest's VMM.
    Vmm(Vmm),
}

/// A file in the store that a VMM sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreFile {
    /// Its address in the VMM's address space.
    pub vaddr: u64,
    /// Bytes stored.
    pub stored_bytes: u64,
    /// Bytes once unpacked.
    pub bytes: u64,
    /// How it is stored.
    pub packing: Packing,
}

/// The virtual interrupt controller of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gic {
    /// GICv2: the GICV frame is mapped for the guest.
    V2,
    /// GICv3: system-register CPU interface.
    V3,
}

/// Bytes of a seed: what Linux credits as full entropy.
pub const RNG_SEED_BYTES: usize = 32;

/// A seed for a guest's random number generator.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RngSeed(pub [u8; RNG_SEED_BYTES]);

/// Seeds are not for logs.
impl core::fmt::Debug for RngSeed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RngSeed(..)")
    }
}

/// A VMM's startup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vmm {
    /// Its guest.
    pub guest: GuestId,
    /// The guest's settings.
    pub settings: Settings,
    /// The guest's kernel.
    pub kernel: StoreFile,
    /// The guest's initrd.
    pub initrd: Option<StoreFile>,
    /// Its command line.
    pub command_line: heapless::String<COMMAND_LINE_BYTES>,
    /// The machine's interrupt controller.
    pub gic: Gic,
    /// Bytes of the guest's hot-plug region for which page tables exist.
    pub hotplug_bytes: u64,
    /// What its VMM uses of the kernel.
    pub interface: Interface,
    /// Memory that lies in the guest's balloon for its OOM notifier.
    pub cushion: Pieces,
    /// For the guest's random number generator, this start only; none where the machine has none to give.
    pub rng_seed: Option<RngSeed>,
}
