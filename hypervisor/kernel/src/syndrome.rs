//! What an exception from user level is, from ESR_EL2 alone (Arm ARM D19.2.39).

use kernel_core::run::fault::Access;

/// Exception classes.
mod class {
    pub const FLOATING_POINT: u64 = 0x07;
    pub const HVC64: u64 = 0x16;
    pub const SYSTEM_REGISTER: u64 = 0x18;
    pub const INSTRUCTION_ABORT: u64 = 0x20;
    pub const DATA_ABORT: u64 = 0x24;
}

/// An unknown reason, with a 32-bit instruction: the one exception that is a user exception.
const UNKNOWN_REASON: u64 = 0x0200_0000;
/// ISS of aborts: the fault happened on a stage 1 walk.
const S1PTW: u64 = 1 << 7;
/// ISS of aborts: kind of fault in the status code, without its level.
const STATUS_KIND: u64 = 0x3c;
const STATUS_PERMISSION: u64 = 0x0c;

/// Who was running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A native thread.
    Native,
    /// A guest.
    Guest,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// A fault on memory: a message with the address.
    Memory(Access),
    /// A hypervisor call: an unknown system call.
    HypervisorCall,
    /// Floating point, which the thread gets unless it has it.
    FloatingPoint,
    /// A guest's access to a debug register or performance monitor, which the kernel finishes.
    Ignored,
    /// A native thread's undefined instruction.
    User,
    /// Everything else: a message with the syndrome.
    Other,
}

/// What the exception is.
#[inline(always)]
pub const fn decode(esr: u64, mode: Mode) -> Trap {
    match esr >> 26 & 0x3f {
        class::INSTRUCTION_ABORT => Trap::Memory(Access::Fetch),
        class::DATA_ABORT => Trap::Memory(Access::Data),
        class::HVC64 => Trap::HypervisorCall,
        class::FLOATING_POINT => Trap::FloatingPoint,
        class::SYSTEM_REGISTER if matches!(mode, Mode::Guest) && is_debug_or_monitor(esr) => {
            Trap::Ignored
        }
        _ if esr == UNKNOWN_REASON && matches!(mode, Mode::Native) => Trap::User,
        _ => Trap::Other,
    }
}

/// Whether HPFAR_EL2 has no address for this abort: a permission fault outside of a stage 1 walk (D19.2.61).
pub const fn lacks_address(esr: u64) -> bool {
    esr & STATUS_KIND == STATUS_PERMISSION && esr & S1PTW == 0
}

/// Whether a trapped register access is to the debug registers (op0 2) or the performance monitors (op0 3, CRn 9 with CRm 12
/// to 14, CRn 14 with CRm 8 to 15).
const fn is_debug_or_monitor(esr: u64) -> bool {
    let (op0, crn, crm) = (esr >> 20 & 3, esr >> 10 & 0xf, esr >> 1 & 0xf);
    op0 == 2 || op0 == 3 && (crn == 9 && crm >= 12 && crm <= 14 || crn == 14 && crm >= 8)
}

/// The register that a trapped read of a system register is for; none for a write.
pub const fn read_into(esr: u64) -> Option<usize> {
    if esr & 1 == 1 {
        Some((esr >> 5 & 0x1f) as usize)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trapped access to a system register, as D19.2.39 encodes it.
    fn access(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64, is_read: bool) -> u64 {
        class::SYSTEM_REGISTER << 26
            | 1 << 25
            | op0 << 20
            | op2 << 17
            | op1 << 14
            | crn << 10
            | 7 << 5
            | crm << 1
            | u64::from(is_read)
    }

    #[test]
    fn classes_are_told_apart() {
        let esr = |class: u64| class << 26 | 1 << 25 | 0x1_2345;
        for mode in [Mode::Native, Mode::Guest] {
            assert_eq!(decode(esr(0x20), mode), Trap::Memory(Access::Fetch));
            assert_eq!(decode(esr(0x24), mode), Trap::Memory(Access::Data));
            assert_eq!(decode(esr(0x16), mode), Trap::HypervisorCall);
            assert_eq!(decode(esr(0x07), mode), Trap::FloatingPoint);
            // WFI, SMC, pointer authentication, SVE, a breakpoint.
            for class in [0x01, 0x17, 0x09, 0x19, 0x3c] {
                assert_eq!(decode(esr(class), mode), Trap::Other, "class {class:#x}");
            }
        }
    }

    #[test]
    fn only_a_native_threads_undefined_instruction_is_a_user_exception() {
        assert_eq!(decode(UNKNOWN_REASON, Mode::Native), Trap::User);
        assert_eq!(decode(UNKNOWN_REASON, Mode::Guest), Trap::Other);
        // A 16-bit instruction: seL4 tells its syndrome.
        assert_eq!(decode(0, Mode::Native), Trap::Other);
    }

    #[test]
    fn a_guests_debug_registers_and_monitors_are_ignored() {
        let mdscr = access(2, 0, 0, 2, 2, true);
        let pmccntr = access(3, 3, 9, 13, 0, true);
        let pmevcntr0 = access(3, 3, 14, 8, 0, false);
        let pmccfiltr = access(3, 3, 14, 15, 7, false);
        let pmcr = access(3, 3, 9, 12, 0, true);
        let pmuserenr = access(3, 3, 9, 14, 0, false);
        for esr in [mdscr, pmccntr, pmevcntr0, pmccfiltr, pmcr, pmuserenr] {
            assert_eq!(decode(esr, Mode::Guest), Trap::Ignored, "{esr:#x}");
            assert_eq!(decode(esr, Mode::Native), Trap::Other, "{esr:#x}");
        }
        // ICC_SGI1R_EL1, CNTP_CTL_EL0, L2CTLR_EL1 and their neighbours are others' matter.
        for esr in [
            access(3, 0, 12, 11, 5, false),
            access(3, 3, 14, 2, 1, true),
            access(3, 1, 11, 0, 2, true),
            access(3, 3, 9, 11, 7, true),
            access(3, 3, 9, 15, 0, true),
            access(3, 3, 14, 7, 7, true),
            access(1, 0, 7, 14, 2, false),
        ] {
            assert_eq!(decode(esr, Mode::Guest), Trap::Other, "{esr:#x}");
        }
    }

    #[test]
    fn a_read_names_its_register_and_a_write_none() {
        assert_eq!(read_into(access(2, 0, 0, 2, 2, true)), Some(7));
        assert_eq!(read_into(access(2, 0, 0, 2, 2, false)), None);
        // The zero register: there is nothing to write it to.
        assert_eq!(read_into(access(2, 0, 0, 2, 2, true) | 0x1f << 5), Some(31));
    }

    #[test]
    fn the_address_of_a_permission_fault_is_found_by_a_translation() {
        let abort = class::DATA_ABORT << 26;
        for level in 0..4 {
            assert!(lacks_address(abort | 0x0c | level));
            assert!(!lacks_address(abort | 0x0c | level | S1PTW));
            // Translation and access flag faults.
            assert!(!lacks_address(abort | 0x04 | level));
            assert!(!lacks_address(abort | 0x08 | level));
        }
    }
}
