//! The machine as its device tree describes it.

use crate::fdt::{Fdt, Node};
use crate::regions::{Full, Region, Regions};

/// Most regions of memory, of reservations, and of what is left of one without the other.
pub const MAX_REGIONS: usize = 32;

/// An interrupt controller with the virtualisation extensions. Addresses are physical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gic {
    /// GICv2 (Arm IHI 0048): all four frames are memory.
    V2 {
        /// Distributor.
        distributor: Region,
        /// CPU interface.
        cpu_interface: Region,
        /// Virtual interface control (GICH).
        virtual_control: Region,
        /// Virtual CPU interface (GICV), for guests.
        virtual_cpu_interface: Region,
    },
    /// GICv3 or later (Arm IHI 0069): the CPU interface is in system registers.
    V3 {
        /// Distributor.
        distributor: Region,
        /// First region of redistributors.
        redistributors: Region,
    },
}

/// The UART that the tree names for text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uart {
    /// Arm PrimeCell PL011, at this physical address.
    Pl011(u64),
}

/// How PSCI is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PsciConduit {
    /// By SMC.
    Smc,
    /// By HVC (not from EL2).
    Hvc,
}

/// What kernel and boot stage take from the tree.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// All memory.
    pub memory: Regions<MAX_REGIONS>,
    /// What of it is reserved: `/reserved-memory` and the reservation block.
    pub reserved: Regions<MAX_REGIONS>,
    /// The interrupt controller, if it is one that we know.
    pub gic: Option<Gic>,
    /// The console.
    pub uart: Option<Uart>,
    /// PSCI's conduit, if there is PSCI.
    pub psci: Option<PsciConduit>,
}

/// Why a tree cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescribeError {
    /// More than [`MAX_REGIONS`] regions of memory or of reservations.
    TooManyRegions,
    /// No node with `device_type = "memory"`.
    NoMemory,
}

impl From<Full> for DescribeError {
    fn from(_: Full) -> Self {
        Self::TooManyRegions
    }
}

/// Reads the machine from its tree.
///
/// # Errors
/// When there is no memory in it or too many pieces of it.
pub fn describe(fdt: &Fdt<'_>) -> Result<Machine, DescribeError> {
    let mut machine = Machine {
        memory: Regions::new(),
        reserved: Regions::new(),
        gic: None,
        uart: None,
        psci: None,
    };
    for (address, bytes) in fdt.reservations() {
        machine.reserved.add(Region::new(address, bytes))?;
    }
    let mut in_reserved = false;
    for node in fdt.nodes() {
        if node.depth == 1 {
            in_reserved = node.name == b"reserved-memory";
        }
        if in_reserved && node.depth == 2 && node.is_enabled() {
            add_all(&mut machine.reserved, &node)?;
        } else if node.depth == 1 && node.has_string("device_type", "memory") && node.is_enabled() {
            add_all(&mut machine.memory, &node)?;
        } else if machine.gic.is_none() {
            machine.gic = gic(&node);
        }
        if node.is_compatible(&["arm,psci", "arm,psci-0.2", "arm,psci-1.0"]) {
            machine.psci = if node.has_string("method", "smc") {
                Some(PsciConduit::Smc)
            } else if node.has_string("method", "hvc") {
                Some(PsciConduit::Hvc)
            } else {
                None
            };
        }
    }
    machine.uart = uart(fdt);
    if machine.memory.as_slice().is_empty() {
        Err(DescribeError::NoMemory)
    } else {
        Ok(machine)
    }
}

/// The console alone: for text before the rest of the tree is known to be good.
#[must_use]
pub fn uart(fdt: &Fdt<'_>) -> Option<Uart> {
    let named = fdt
        .stdout()
        .filter(|node| node.is_compatible(&["arm,pl011"]));
    let node = named.or_else(|| {
        fdt.nodes()
            .find(|node| node.is_compatible(&["arm,pl011"]) && node.is_enabled())
    })?;
    Some(Uart::Pl011(node.region(0)?.0))
}

fn add_all(regions: &mut Regions<MAX_REGIONS>, node: &Node<'_>) -> Result<(), Full> {
    for index in 0..MAX_REGIONS {
        let Some((address, bytes)) = node.region(index) else {
            break;
        };
        regions.add(Region::new(address, bytes))?;
    }
    Ok(())
}

fn gic(node: &Node<'_>) -> Option<Gic> {
    if !node.is_enabled() {
        return None;
    }
    let region = |index| {
        node.region(index)
            .map(|(address, bytes)| Region::new(address, bytes))
    };
    if node.is_compatible(&["arm,gic-v3"]) {
        return Some(Gic::V3 {
            distributor: region(0)?,
            redistributors: region(1)?,
        });
    }
    if node.is_compatible(&["arm,gic-400", "arm,cortex-a15-gic", "arm,cortex-a7-gic"]) {
        return Some(Gic::V2 {
            distributor: region(0)?,
            cpu_interface: region(1)?,
            virtual_control: region(2)?,
            virtual_cpu_interface: region(3)?,
        });
    }
    None
}
