//! What a trapped system register or instruction does.
//!
//! The kernel traps what would reach the machine itself. Debug, PMU, implementation-defined and auxiliary registers
//! read as zero and ignore writes; set/way cache maintenance is ignored (caches are physically tagged and the
//! hypervisor cleans what needs cleaning); anything else is undefined to the guest.

use crate::syndrome::{Direction, SystemRegister};

/// The answer to a trapped access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A read gives this value.
    Value(u64),
    /// A write is ignored.
    Ignored,
    /// A software-generated interrupt is sent (GICv3: ICC_SGI1R_EL1); the written value says which and to whom.
    SendSgi,
    /// An undefined-instruction exception.
    Undefined,
}

const fn register(op0: u8, op1: u8, crn: u8, crm: u8, op2: u8) -> SystemRegister {
    SystemRegister {
        op0,
        op1,
        crn,
        crm,
        op2,
    }
}

const ICC_SGI1R_EL1: SystemRegister = register(3, 0, 12, 11, 5);
const ICC_ASGI1R_EL1: SystemRegister = register(3, 0, 12, 11, 6);
const ICC_SGI0R_EL1: SystemRegister = register(3, 0, 12, 11, 7);
const OSLSR_EL1: SystemRegister = register(2, 0, 1, 1, 4);
/// OSLSR_EL1.OSLM = 0b10: the lock exists; unlocked.
const OS_LOCK_IMPLEMENTED: u64 = 1 << 3;

/// Decides an access.
#[must_use]
pub fn access(id: SystemRegister, direction: Direction) -> Answer {
    let zero_or_ignored = match direction {
        Direction::Read => Answer::Value(0),
        Direction::Write => Answer::Ignored,
    };
    match (id, direction) {
        (ICC_SGI1R_EL1, Direction::Write) => return Answer::SendSgi,
        (ICC_SGI0R_EL1 | ICC_ASGI1R_EL1, Direction::Write) => return Answer::Ignored,
        (OSLSR_EL1, Direction::Read) => return Answer::Value(OS_LOCK_IMPLEMENTED),
        _ => {}
    }
    match (id.op0, id.op1, id.crn, id.crm, id.op2) {
        // Debug and trace registers (op0 = 2).
        (2, ..) => zero_or_ignored,
        // ACTLR_EL1.
        (3, 0, 1, 0, 1) => zero_or_ignored,
        // PMU: PMCR_EL0 and friends, PMINTEN*, PMEVCNTR/PMEVTYPER/PMCCFILTR.
        (3, 3, 9, 12..=14, _) | (3, 0, 9, 14, _) | (3, 3, 14, 8..=15, _) => zero_or_ignored,
        // ID registers space, LORegions (unimplemented parts read as zero).
        (3, 0, 0, 1..=7, _) if matches!(direction, Direction::Read) => Answer::Value(0),
        (3, 0, 10, 4, _) => zero_or_ignored,
        // Implementation defined: CRn 11 and 15.
        (3, _, 11 | 15, ..) => zero_or_ignored,
        (1, _, 11 | 15, ..) => zero_or_ignored,
        // DC ISW, CSW, CISW.
        (1, 0, 7, 6 | 10 | 14, 2) if matches!(direction, Direction::Write) => Answer::Ignored,
        _ => Answer::Undefined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn named_registers() {
        assert_eq!(access(ICC_SGI1R_EL1, Direction::Write), Answer::SendSgi);
        assert_eq!(access(ICC_SGI1R_EL1, Direction::Read), Answer::Undefined);
        assert_eq!(access(OSLSR_EL1, Direction::Read), Answer::Value(8));
        // OSLAR_EL1, MDSCR_EL1, PMCR_EL0, ACTLR_EL1.
        for id in [
            register(2, 0, 1, 0, 4),
            register(2, 0, 0, 2, 2),
            register(3, 3, 9, 12, 0),
            register(3, 0, 1, 0, 1),
        ] {
            assert_eq!(access(id, Direction::Write), Answer::Ignored);
            assert_eq!(access(id, Direction::Read), Answer::Value(0));
        }
        // SCTLR_EL1 never traps here; were it to, the guest would be told.
        assert_eq!(
            access(register(3, 0, 1, 0, 0), Direction::Read),
            Answer::Undefined
        );
    }

    proptest! {
        #[test]
        fn reads_never_send_and_writes_never_return(op0 in 0u8..4, op1 in 0u8..8, crn in 0u8..16, crm in 0u8..16, op2 in 0u8..8) {
            let id = register(op0, op1, crn, crm, op2);
            prop_assert!(!matches!(access(id, Direction::Read), Answer::SendSgi | Answer::Ignored));
            prop_assert!(!matches!(access(id, Direction::Write), Answer::Value(_)));
        }
    }
}
