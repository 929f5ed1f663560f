//! Which vCPU is in the registers: against registers that hold what is written.

use crate::fakes::{set_system, system, vcpu, writes};
use crate::gic::{Gic, tests::v2};
use crate::vcpus::Vcpus;

/// How many `seL4_VCPUReg` there are.
const REGISTERS: u64 = 24;

/// The value that a guest has in a register.
const fn own(guest: u64, index: u64) -> u64 {
    0xa5a5_0000_0000 | guest << 16 | index
}

/// Two vCPUs whose registers were written as their VMMs do it.
fn two() -> (
    Vcpus,
    Gic,
    [kernel_core::object::mem::Ref<kernel_core::object::Vcpu>; 2],
) {
    let (vcpus, gic) = (Vcpus::new(), Gic::Absent);
    vcpus.set_up();
    let pair = [vcpu(), vcpu()];
    for (guest, each) in (1..).zip(pair) {
        vcpus.init(each);
        for index in 0..REGISTERS {
            vcpus.write(each, index, own(guest, index));
        }
    }
    (vcpus, gic, pair)
}

#[test]
fn each_vcpu_keeps_every_register_whoever_runs_between() {
    let (vcpus, gic, [a, b]) = two();
    for turn in 0..3 {
        for (guest, each) in [(1, a), (2, b)] {
            vcpus.enter(each, &gic);
            for index in 0..REGISTERS {
                assert_eq!(
                    vcpus.read(each, index),
                    own(guest, index),
                    "turn {turn}, register {index}"
                );
            }
            vcpus.leave(&gic);
            // Loaded, and not active.
            for index in 0..REGISTERS {
                assert_eq!(
                    vcpus.read(each, index),
                    own(guest, index),
                    "left, register {index}"
                );
            }
        }
    }
}

#[test]
fn what_a_guest_writes_in_hardware_is_read_and_kept() {
    let (vcpus, gic, [a, b]) = two();
    vcpus.enter(a, &gic);
    // TTBR0_EL1, SCTLR_EL1, and the virtual timer's control, as the guest writes them.
    for (name, value) in [
        ("ttbr0_el1", 0x11),
        ("sctlr_el1", 0x22),
        ("cntv_ctl_el0", 1),
    ] {
        set_system(name, value);
    }
    assert_eq!(
        (vcpus.read(a, 2), vcpus.read(a, 0), vcpus.read(a, 20)),
        (0x11, 0x22, 1)
    );
    vcpus.leave(&gic);
    vcpus.enter(b, &gic);
    assert_eq!(
        (vcpus.read(a, 2), vcpus.read(a, 0), vcpus.read(a, 20)),
        (0x11, 0x22, 1)
    );
    assert_eq!(system("ttbr0_el1"), own(2, 2));
}

#[test]
fn native_threads_find_nothing_of_a_guest_in_force() {
    let (vcpus, gic, [a, _]) = two();
    vcpus.enter(a, &gic);
    // HCR_EL2: WFI traps, stage 1 is the guest's own.
    assert_eq!(system("hcr_el2") & (1 << 13 | 1 << 12 | 1 << 27), 1 << 13);
    assert!(vcpus.is_active() && vcpus.is_running(a));
    vcpus.leave(&gic);
    // TGE and DC; the virtual timer is off, its offset zero.
    assert_eq!(
        system("hcr_el2") & (1 << 13 | 1 << 12 | 1 << 27),
        1 << 12 | 1 << 27
    );
    assert_eq!((system("cntv_ctl_el0"), system("cntvoff_el2")), (0, 0));
    assert!(!vcpus.is_active() && !vcpus.is_running(a));
}

#[test]
fn a_vcpu_that_comes_back_is_not_loaded_again() {
    let (vcpus, gic, [a, b]) = two();
    vcpus.enter(a, &gic);
    let loads = writes("ttbr0_el1");
    for _ in 0..5 {
        vcpus.leave(&gic);
        vcpus.enter(a, &gic);
    }
    assert_eq!(writes("ttbr0_el1"), loads);
    vcpus.leave(&gic);
    vcpus.enter(b, &gic);
    assert_eq!(writes("ttbr0_el1"), loads + 1);
}

#[test]
fn an_unloaded_vcpu_leaves_no_register_behind_to_be_saved() {
    let (vcpus, gic, [a, b]) = two();
    vcpus.enter(a, &gic);
    // An active one stays.
    vcpus.unload(a, &gic);
    assert!(vcpus.is_running(a));
    vcpus.leave(&gic);
    vcpus.unload(a, &gic);
    // What is in the registers now is nobody's.
    set_system("ttbr0_el1", 0xdead);
    assert_eq!(vcpus.read(a, 2), own(1, 2));
    vcpus.enter(b, &gic);
    assert_eq!(vcpus.read(a, 2), own(1, 2));
}

#[test]
fn the_virtual_timer_interrupts_once_until_it_is_acknowledged() {
    let (vcpus, gic, [a, b]) = two();
    // No guest is there to have it.
    assert!(!vcpus.timer_fired(&gic));
    vcpus.enter(a, &gic);
    assert!(vcpus.timer_fired(&gic));
    assert_eq!(a.vtimer[0].get(), 1);
    vcpus.leave(&gic);
    vcpus.enter(b, &gic);
    assert_eq!(b.vtimer[0].get(), 0);
    vcpus.acknowledge_timer(a, &gic);
    assert_eq!(a.vtimer[0].get(), 0);
}

#[test]
fn an_interrupt_is_injected_where_the_vcpu_is_and_never_over_another() {
    let (vcpus, gic, [a, b]) = (Vcpus::new(), v2(), [vcpu(), vcpu()]);
    vcpus.set_up();
    // In memory, while it is nowhere.
    assert!(vcpus.inject(a, &gic, 1, (40, 3, 1)));
    assert_ne!(a.lr[1].get(), 0);
    assert!(!vcpus.inject(a, &gic, 1, (41, 3, 1)));
    // Entering takes it along; from then on the hardware's is the true one.
    vcpus.enter(a, &gic);
    assert_eq!(gic.read_list(1), a.lr[1].get());
    assert!(!vcpus.inject(a, &gic, 1, (41, 3, 1)));
    assert!(vcpus.inject(a, &gic, 0, (41, 3, 1)));
    assert_eq!((gic.read_list(0) & 0x3ff, a.lr[0].get()), (41, 0));
    // Another guest's registers are its own, and a's come back with a.
    vcpus.leave(&gic);
    vcpus.enter(b, &gic);
    assert_eq!(gic.read_list(0), 0);
    assert!(vcpus.inject(b, &gic, 0, (50, 3, 1)));
    vcpus.leave(&gic);
    vcpus.enter(a, &gic);
    assert_eq!((gic.read_list(0) & 0x3ff, b.lr[0].get() & 0x3ff), (41, 50));
}
