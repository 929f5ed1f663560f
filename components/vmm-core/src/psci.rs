//! PSCI 1.1 (DEN 0022) and SMCCC 1.1 (DEN 0028) for a guest with one CPU. Everything unknown is NOT_SUPPORTED.

/// SMCCC and PSCI "not supported".
pub const NOT_SUPPORTED: i64 = -1;
const INVALID_PARAMETERS: i64 = -2;
const DENIED: i64 = -3;
const ALREADY_ON: i64 = -4;

const SMCCC_VERSION: u32 = 0x8000_0000;
const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
const PSCI_VERSION: u32 = 0x8400_0000;
const CPU_SUSPEND_32: u32 = 0x8400_0001;
const CPU_SUSPEND_64: u32 = 0xc400_0001;
const CPU_OFF: u32 = 0x8400_0002;
const CPU_ON_32: u32 = 0x8400_0003;
const CPU_ON_64: u32 = 0xc400_0003;
const AFFINITY_INFO_32: u32 = 0x8400_0004;
const AFFINITY_INFO_64: u32 = 0xc400_0004;
const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
const SYSTEM_OFF: u32 = 0x8400_0008;
const SYSTEM_RESET: u32 = 0x8400_0009;
const PSCI_FEATURES: u32 = 0x8400_000a;
const SYSTEM_RESET2_32: u32 = 0x8400_0012;
const SYSTEM_RESET2_64: u32 = 0xc400_0012;

/// Affinity fields of MPIDR_EL1; the only CPU has all of them zero.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// What a call asks of the VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// x0 gets this value and the guest goes on.
    Return(i64),
    /// x0 gets 0 once an interrupt is pending (CPU_SUSPEND as a standby state: DEN 0022, 5.4.3).
    Suspend,
    /// The guest is done.
    PowerOff,
    /// The guest wants to start again.
    Reset,
}

/// A call by HVC or SMC: function in w0, arguments in x1 to x3.
#[must_use]
pub fn call(function: u64, arguments: [u64; 3]) -> Outcome {
    let [first, _second, _third] = arguments;
    let value = match function as u32 {
        SMCCC_VERSION => 0x1_0001,
        // No workaround is offered or needed by emulation: each asks as its own function.
        SMCCC_ARCH_FEATURES if matches!(first as u32, SMCCC_VERSION | SMCCC_ARCH_FEATURES) => 0,
        PSCI_VERSION => 0x1_0001,
        PSCI_FEATURES => features(first as u32),
        CPU_SUSPEND_32 | CPU_SUSPEND_64 => {
            // Power state: bit 16 (original format) asks for power-down, which would lose the CPU's context.
            if first & 1 << 16 == 0 {
                return Outcome::Suspend;
            }
            INVALID_PARAMETERS
        }
        // The last CPU may not leave by CPU_OFF without a way back: DENIED.
        CPU_OFF => DENIED,
        CPU_ON_32 | CPU_ON_64 => {
            if first & AFFINITY == 0 {
                ALREADY_ON
            } else {
                INVALID_PARAMETERS
            }
        }
        AFFINITY_INFO_32 | AFFINITY_INFO_64 => {
            if first & AFFINITY == 0 {
                0
            } else {
                INVALID_PARAMETERS
            }
        }
        // 2: no trusted OS, or one that needs no migration.
        MIGRATE_INFO_TYPE => 2,
        SYSTEM_OFF => return Outcome::PowerOff,
        SYSTEM_RESET => return Outcome::Reset,
        SYSTEM_RESET2_32 | SYSTEM_RESET2_64 => {
            // Type 0 is SYSTEM_WARM_RESET; vendor types are not ours.
            if first as u32 == 0 {
                return Outcome::Reset;
            }
            INVALID_PARAMETERS
        }
        _ => NOT_SUPPORTED,
    };
    Outcome::Return(value)
}

fn features(function: u32) -> i64 {
    match function {
        PSCI_VERSION | CPU_SUSPEND_32 | CPU_SUSPEND_64 | CPU_OFF | CPU_ON_32 | CPU_ON_64
        | AFFINITY_INFO_32 | AFFINITY_INFO_64 | MIGRATE_INFO_TYPE | SYSTEM_OFF | SYSTEM_RESET
        | PSCI_FEATURES | SMCCC_VERSION | SYSTEM_RESET2_32 | SYSTEM_RESET2_64 => 0,
        _ => NOT_SUPPORTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_linux_asks_while_booting() {
        assert_eq!(call(0x8400_0000, [0; 3]), Outcome::Return(0x1_0001));
        assert_eq!(call(0x8400_000a, [0x8000_0000, 0, 0]), Outcome::Return(0));
        assert_eq!(call(0x8000_0000, [0; 3]), Outcome::Return(0x1_0001));
        for unknown in [0x8000_7fff_u64, 0x8000_8000, 0x8400_0050, 0xc400_0053] {
            assert_eq!(call(unknown, [0; 3]), Outcome::Return(-1));
            assert_eq!(call(0x8000_0001, [unknown, 0, 0]), Outcome::Return(-1));
        }
        assert_eq!(call(0x8400_0006, [0; 3]), Outcome::Return(2));
    }

    #[test]
    fn off_reset_and_the_missing_cpu() {
        assert_eq!(call(0x8400_0008, [0; 3]), Outcome::PowerOff);
        assert_eq!(call(0x8400_0009, [0; 3]), Outcome::Reset);
        assert_eq!(call(0xc400_0003, [1, 0x4000_0000, 0]), Outcome::Return(-2));
        assert_eq!(call(0xc400_0003, [0, 0x4000_0000, 0]), Outcome::Return(-4));
        assert_eq!(call(0xc400_0001, [0; 3]), Outcome::Suspend);
        assert_eq!(call(0xc400_0001, [1 << 16, 0, 0]), Outcome::Return(-2));
    }

    proptest! {
        #[test]
        fn any_call_is_answered(function in any::<u64>(), a in any::<[u64; 3]>()) {
            let _ = call(function, a);
        }
    }
}
