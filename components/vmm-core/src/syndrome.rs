//! Decoding of exception syndromes (ESR_EL2; Arm ARM DDI 0487, D24.2.40).

/// Width of an access in bytes: 1, 2, 4 or 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Half,
    /// Four bytes.
    Word,
    /// Eight bytes.
    Double,
}

impl Width {
    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }

    /// The bits of `value` that an access of this width carries.
    #[must_use]
    pub const fn mask(self, value: u64) -> u64 {
        match self {
            Self::Byte => value & 0xff,
            Self::Half => value & 0xffff,
            Self::Word => value & 0xffff_ffff,
            Self::Double => value,
        }
    }
}

/// A general-purpose register of the guest, 0..=30, or none for the zero register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(Option<u8>);

impl Register {
    /// From a five-bit field of a syndrome; 31 is the zero register.
    #[must_use]
    pub const fn from_field(field: u64) -> Self {
        let number = (field & 0x1f) as u8;
        Self(if number == 31 { None } else { Some(number) })
    }

    /// Its number, 0..=30.
    #[must_use]
    pub const fn number(self) -> Option<u8> {
        self.0
    }
}

/// How a loaded value fills its register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extend {
    sign: bool,
    wide: bool,
}

/// A load or store that the hardware decoded for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// A load.
    Load {
        /// Into this register.
        register: Register,
        /// Filled like this.
        extend: Extend,
    },
    /// A store.
    Store {
        /// From this register.
        register: Register,
    },
}

/// A data access that did not translate at stage 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataAccess {
    /// Its width.
    pub width: Width,
    /// Load or store.
    pub transfer: Transfer,
}

/// What a stage-2 fault was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage2Fault {
    /// An instruction fetch.
    Fetch,
    /// A data access, decoded.
    Data(DataAccess),
    /// A data access without a valid syndrome: load/store pair, write-back form, SIMD, cache maintenance, or the
    /// stage-1 walk itself. Memory can be supplied and the instruction run again; a device cannot be emulated.
    Undecoded,
}

const ISV: u64 = 1 << 24;
const SSE: u64 = 1 << 21;
const SF: u64 = 1 << 15;
const CACHE_MAINTENANCE: u64 = 1 << 8;
const S1PTW: u64 = 1 << 7;
const WNR: u64 = 1 << 6;

/// Exception class: bits 31..26.
const fn class(esr: u64) -> u64 {
    (esr >> 26) & 0x3f
}

/// Decodes the FSR word of a VM fault (ESR_EL2; ISS encoding for a Data Abort).
#[must_use]
pub fn stage2_fault(esr: u64) -> Stage2Fault {
    if matches!(class(esr), 0x20 | 0x21) {
        return Stage2Fault::Fetch;
    }
    if esr & ISV == 0 || esr & (S1PTW | CACHE_MAINTENANCE) != 0 {
        return Stage2Fault::Undecoded;
    }
    let width = match (esr >> 22) & 3 {
        0 => Width::Byte,
        1 => Width::Half,
        2 => Width::Word,
        _ => Width::Double,
    };
    let register = Register::from_field(esr >> 16);
    let transfer = if esr & WNR != 0 {
        Transfer::Store { register }
    } else {
        Transfer::Load {
            register,
            extend: Extend {
                sign: esr & SSE != 0,
                wide: esr & SF != 0,
            },
        }
    };
    Stage2Fault::Data(DataAccess { width, transfer })
}

/// The register value that a load of `value` leaves.
#[must_use]
pub fn extend(value: u64, width: Width, how: Extend) -> u64 {
    let value = width.mask(value);
    if !how.sign {
        return value;
    }
    let shift = 64 - 8 * width.bytes() as u32;
    let extended = (((value << shift) as i64) >> shift) as u64;
    if how.wide {
        extended
    } else {
        extended & 0xffff_ffff
    }
}

/// A system register access that trapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemAccess {
    /// op0, op1, CRn, CRm, op2.
    pub id: SystemRegister,
    /// The general-purpose register.
    pub register: Register,
    /// Read or write.
    pub direction: Direction,
}

/// The encoding of a system register or instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemRegister {
    /// op0.
    pub op0: u8,
    /// op1.
    pub op1: u8,
    /// CRn.
    pub crn: u8,
    /// CRm.
    pub crm: u8,
    /// op2.
    pub op2: u8,
}

/// MRS or MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// MRS.
    Read,
    /// MSR or SYS.
    Write,
}

/// What the HSR word of a VCPU fault says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuFault {
    /// WFI: wait until an interrupt is pending.
    WaitForInterrupt,
    /// WFE: a hint; the guest goes on.
    WaitForEvent,
    /// HVC with its immediate.
    Hvc(u16),
    /// SMC with its immediate.
    Smc(u16),
    /// MSR, MRS or a system instruction.
    System(SystemAccess),
    /// Another class.
    Other {
        /// The class.
        class: u8,
    },
}

/// Decodes the HSR word of a VCPU fault.
#[must_use]
pub fn vcpu_fault(esr: u64) -> VcpuFault {
    match class(esr) {
        0x01 if esr & 1 == 0 => VcpuFault::WaitForInterrupt,
        0x01 => VcpuFault::WaitForEvent,
        0x16 => VcpuFault::Hvc(esr as u16),
        0x17 => VcpuFault::Smc(esr as u16),
        0x18 => VcpuFault::System(SystemAccess {
            id: SystemRegister {
                op0: (esr >> 20 & 3) as u8,
                op2: (esr >> 17 & 7) as u8,
                op1: (esr >> 14 & 7) as u8,
                crn: (esr >> 10 & 15) as u8,
                crm: (esr >> 1 & 15) as u8,
            },
            register: Register::from_field(esr >> 5),
            direction: if esr & 1 != 0 {
                Direction::Read
            } else {
                Direction::Write
            },
        }),
        class => VcpuFault::Other { class: class as u8 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_word_load_and_a_zero_store() {
        // ldr w3, [..]: EC 0x24, ISV, SAS word, SRT 3.
        let load = stage2_fault(0x24 << 26 | ISV | 2 << 22 | 3 << 16 | 0x7);
        let Stage2Fault::Data(access) = load else {
            panic!("{load:?}")
        };
        assert_eq!(access.width, Width::Word);
        assert!(
            matches!(access.transfer, Transfer::Load { register, .. } if register.number() == Some(3))
        );
        let store = stage2_fault(0x24 << 26 | ISV | 2 << 22 | 31 << 16 | WNR | 0x7);
        assert!(matches!(
            store,
            Stage2Fault::Data(DataAccess { transfer: Transfer::Store { register }, .. })
                if register.number().is_none()
        ));
    }

    #[test]
    fn what_cannot_be_emulated_is_said() {
        assert_eq!(stage2_fault(0x24 << 26), Stage2Fault::Undecoded);
        assert_eq!(
            stage2_fault(0x24 << 26 | ISV | S1PTW),
            Stage2Fault::Undecoded
        );
        assert_eq!(stage2_fault(0x20 << 26), Stage2Fault::Fetch);
    }

    #[test]
    fn sign_extension_follows_the_register_width() {
        let wide = Extend {
            sign: true,
            wide: true,
        };
        let narrow = Extend {
            sign: true,
            wide: false,
        };
        assert_eq!(extend(0x80, Width::Byte, wide), 0xffff_ffff_ffff_ff80);
        assert_eq!(extend(0x80, Width::Byte, narrow), 0xffff_ff80);
        assert_eq!(extend(0x7f, Width::Byte, narrow), 0x7f);
        assert_eq!(extend(u64::MAX, Width::Double, wide), u64::MAX);
    }

    #[test]
    fn wfi_wfe_and_a_register_write() {
        assert_eq!(vcpu_fault(0x01 << 26), VcpuFault::WaitForInterrupt);
        assert_eq!(vcpu_fault(0x01 << 26 | 1), VcpuFault::WaitForEvent);
        // msr icc_sgi1r_el1, x5 : op0 3, op1 0, CRn 12, CRm 11, op2 5.
        let esr = 0x18u64 << 26 | 3 << 20 | 5 << 17 | 12 << 10 | 5 << 5 | 11 << 1;
        assert_eq!(
            vcpu_fault(esr),
            VcpuFault::System(SystemAccess {
                id: SystemRegister {
                    op0: 3,
                    op1: 0,
                    crn: 12,
                    crm: 11,
                    op2: 5
                },
                register: Register::from_field(5),
                direction: Direction::Write,
            })
        );
    }

    proptest! {
        #[test]
        fn every_syndrome_decodes(esr in any::<u64>(), value in any::<u64>()) {
            let _ = vcpu_fault(esr);
            if let Stage2Fault::Data(DataAccess { width, transfer: Transfer::Load { extend: how, .. } }) = stage2_fault(esr) {
                let _ = extend(value, width, how);
            }
        }
    }
}
