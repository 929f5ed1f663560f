//! The machine's registers as the tests on the host have them: each holds what was written last, and what was written to devices
//! is kept in its order.

#![allow(unsafe_code)] // A vCPU's memory, which `Ref` wants by its address.

use core::num::NonZeroU64;
use kernel_core::object::Vcpu;
use kernel_core::object::mem::Ref;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// A machine's registers.
#[derive(Default)]
struct State {
    system: BTreeMap<&'static str, u64>,
    devices: BTreeMap<u64, u32>,
    written: Vec<(u64, u32)>,
    /// Writes of system registers, by name.
    counts: BTreeMap<&'static str, u32>,
    /// They live as long as the test.
    vcpus: Vec<Box<Vcpu>>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::default());
}

fn with<T>(use_it: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(use_it)
}

/// The value of a system register; zero before it is written.
pub fn system(name: &'static str) -> u64 {
    with(|state| state.system.get(name).copied().unwrap_or(0))
}

/// Gives a system register a value, as hardware does.
pub fn set_system(name: &'static str, value: u64) {
    with(|state| state.system.insert(name, value));
}

/// How often a system register was written.
pub fn writes(name: &'static str) -> u32 {
    with(|state| state.counts.get(name).copied().unwrap_or(0))
}

fn write_system(name: &'static str, value: u64) {
    with(|state| {
        *state.counts.entry(name).or_default() += 1;
        state.system.insert(name, value);
    });
}

/// Gives a device's register a value, as hardware does.
pub fn set_device(address: u64, value: u32) {
    with(|state| state.devices.insert(address, value));
}

/// The value of a device's register.
pub fn device(address: u64) -> u32 {
    with(|state| state.devices.get(&address).copied().unwrap_or(0))
}

/// What was written to devices since the last time, in its order.
pub fn take_written() -> Vec<(u64, u32)> {
    with(|state| core::mem::take(&mut state.written))
}

/// A vCPU in zeroed memory, for as long as the test takes.
pub fn vcpu() -> Ref<Vcpu> {
    // SAFETY: a `Vcpu` is valid when all bytes are zero.
    let vcpu: Box<Vcpu> = Box::new(unsafe { core::mem::zeroed() });
    let address = with(|state| {
        state.vcpus.push(vcpu);
        let kept = state.vcpus.last().expect("it was pushed");
        core::ptr::from_ref(&**kept).expose_provenance() as u64
    });
    // SAFETY: it is aligned, and lives until the test's thread has ended.
    unsafe { Ref::from_addr(NonZeroU64::new(address).expect("an address")) }
}

/// In place of the module of this name: system registers.
pub mod regs {
    use super::{system, write_system};

    macro_rules! readable {
        ($($name:ident)*) => {$( pub fn $name() -> u64 { system(stringify!($name)) } )*};
    }
    macro_rules! writable {
        ($($name:ident $register:literal)*) => {$(
            pub fn $name(value: u64) { write_system($register, value); }
        )*};
    }
    macro_rules! barriers {
        ($($name:ident)*) => {$( pub const fn $name() {} )*};
    }

    readable!(mpidr_el1 pmcr_el0 id_aa64dfr0_el1 icc_iar1_el1 ich_vtr_el2 ich_eisr_el2);
    writable! {
        write_hcr_el2 "hcr_el2" write_mdcr_el2 "mdcr_el2" write_mdscr_el1 "mdscr_el1" write_ich_hcr_el2 "ich_hcr_el2"
        write_icc_sre_el2 "icc_sre_el2" write_icc_pmr_el1 "icc_pmr_el1" write_icc_bpr1_el1 "icc_bpr1_el1"
        write_icc_ctlr_el1 "icc_ctlr_el1" write_icc_igrpen1_el1 "icc_igrpen1_el1" write_icc_eoir1_el1 "icc_eoir1_el1"
        write_icc_sgi1r_el1 "icc_sgi1r_el1"
    }
    barriers!(isb dsb_sy dsb_ishst);

    /// A vCPU's registers.
    pub mod guest {
        macro_rules! both {
            ($($name:ident)*) => {$(
                pub mod $name {
                    pub fn read() -> u64 {
                        crate::fakes::system(stringify!($name))
                    }
                    pub fn write(value: u64) {
                        crate::fakes::write_system(stringify!($name), value);
                    }
                }
            )*};
        }
        both! {
            sctlr_el1 cpacr_el1 ttbr0_el1 ttbr1_el1 tcr_el1 mair_el1 amair_el1 contextidr_el1 actlr_el1 afsr0_el1 afsr1_el1
            esr_el1 far_el1 par_el1 vbar_el1 tpidr_el1 sp_el1 elr_el1 spsr_el1 csselr_el1 cntv_ctl_el0 cntv_cval_el0
            cntvoff_el2 cntkctl_el1 vmpidr_el2 ich_vmcr_el2
            ich_ap0r0_el2 ich_ap0r1_el2 ich_ap0r2_el2 ich_ap0r3_el2 ich_ap1r0_el2 ich_ap1r1_el2 ich_ap1r2_el2 ich_ap1r3_el2
            ich_lr0_el2 ich_lr1_el2 ich_lr2_el2 ich_lr3_el2 ich_lr4_el2 ich_lr5_el2 ich_lr6_el2 ich_lr7_el2
            ich_lr8_el2 ich_lr9_el2 ich_lr10_el2 ich_lr11_el2 ich_lr12_el2 ich_lr13_el2 ich_lr14_el2 ich_lr15_el2
        }
    }
}

/// In place of the module of this name: device registers, each at its physical address.
pub mod mmio {
    use super::{device, with};

    /// A block of device registers.
    #[derive(Clone, Copy)]
    pub struct Mmio(pub u64);

    impl Mmio {
        pub fn read(self, offset: u64) -> u32 {
            device(self.0 + offset)
        }

        pub fn write(self, offset: u64, value: u32) {
            let address = self.0 + offset;
            with(|state| {
                state.written.push((address, value));
                state.devices.insert(address, value);
            });
        }
    }
}

/// In place of the module of this name: everything is mapped where it lies.
pub mod tables {
    use super::mmio::Mmio;
    use machine::blocks::OutOfTables;

    pub const fn map_device(physical: u64, _pages: u64) -> Result<Mmio, OutOfTables> {
        Ok(Mmio(physical))
    }
}
