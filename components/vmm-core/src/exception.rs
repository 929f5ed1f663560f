//! Injecting a synchronous exception into EL1 (Arm ARM DDI 0487, D1.3: exception entry).

/// What the guest is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Undefined instruction (EC 0, IL set).
    Undefined,
    /// Synchronous external abort on a data access, at an address that stage 1 gave (FnV: the VMM knows only the
    /// intermediate physical address).
    ExternalData,
    /// The same on an instruction fetch.
    ExternalFetch,
}

/// Register values after the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The vector.
    pub pc: u64,
    /// EL1h, all exceptions masked.
    pub spsr: u64,
    /// ELR_EL1: the instruction that faulted.
    pub elr_el1: u64,
    /// SPSR_EL1: the state it ran in.
    pub spsr_el1: u64,
    /// ESR_EL1.
    pub esr_el1: u64,
}

const MODE_EL1H: u64 = 0b0101;
const MODE_EL1T: u64 = 0b0100;
const MODE_AARCH32: u64 = 1 << 4;
const DAIF: u64 = 0xf << 6;
/// 32-bit instruction length.
const IL: u64 = 1 << 25;
/// ISS.FnV: FAR_EL1 is not valid.
const FAR_NOT_VALID: u64 = 1 << 10;
/// Fault status code: synchronous external abort, not on a walk.
const FSC_EXTERNAL: u64 = 0x10;

/// Computes the entry from the guest's state.
#[must_use]
pub fn enter(kind: Kind, pc: u64, spsr: u64, vbar_el1: u64) -> Entry {
    let from_el0 = spsr & 0xf == 0 || spsr & MODE_AARCH32 != 0;
    let offset = if spsr & MODE_AARCH32 != 0 {
        0x600
    } else if from_el0 {
        0x400
    } else if spsr & 0xf == MODE_EL1T {
        0
    } else {
        0x200
    };
    // Lower EL: class 0x20 / 0x24; same EL: one more.
    let same = u64::from(!from_el0);
    let esr_el1 = match kind {
        Kind::Undefined => IL,
        Kind::ExternalData => (0x24 + same) << 26 | IL | FAR_NOT_VALID | FSC_EXTERNAL,
        Kind::ExternalFetch => (0x20 + same) << 26 | IL | FAR_NOT_VALID | FSC_EXTERNAL,
    };
    Entry {
        pc: (vbar_el1 & !0x7ff).wrapping_add(offset),
        spsr: DAIF | MODE_EL1H,
        elr_el1: pc,
        spsr_el1: spsr,
        esr_el1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_depends_on_where_the_guest_was() {
        let at = |spsr| enter(Kind::Undefined, 0x1000, spsr, 0xffff_8000_1000_0800).pc & 0x7ff;
        assert_eq!(at(0b0101), 0x200);
        assert_eq!(at(0b0100), 0);
        assert_eq!(at(0), 0x400);
        assert_eq!(at(0b1_0000), 0x600);
    }

    #[test]
    fn an_abort_from_the_kernel_has_the_same_level_class() {
        let entry = enter(Kind::ExternalData, 0x1000, 0b0101, 0);
        assert_eq!(entry.esr_el1 >> 26, 0x25);
        assert_eq!(entry.esr_el1 & 0x3f, 0x10);
        assert_eq!(enter(Kind::ExternalFetch, 0, 0, 0).esr_el1 >> 26, 0x20);
        assert_eq!((entry.elr_el1, entry.spsr_el1), (0x1000, 0b0101));
        assert_eq!(entry.spsr, 0x3c5);
    }
}
