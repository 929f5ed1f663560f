//! Both controllers against registers that hold what is written.

use super::{Gic, HCR_ENABLED, MAINTENANCE_IRQ, SPURIOUS, TIMER_IRQ, VTIMER_IRQ, gicd, saved};
use crate::fakes::{device, set_device, set_system, system, take_written, vcpu, writes};
use kernel_core::arch::{IrqMask, Trigger};
use machine::describe;
use machine::regions::Region;

const DISTRIBUTOR: u64 = 0x800_0000;
const CPU_INTERFACE: u64 = 0x801_0000;
const VIRTUAL: u64 = 0x803_0000;
const REDISTRIBUTORS: u64 = 0x80a_0000;

/// A GICv2 of 96 interrupts and four list registers, on the core that is bit 2 of target lists.
pub fn v2() -> Gic {
    set_device(DISTRIBUTOR + gicd::TYPER, 2);
    set_device(DISTRIBUTOR + gicd::ITARGETSR, 0x0404_0404);
    set_device(VIRTUAL + 4, 3);
    let region = |start| Region::new(start, 0x1000);
    Gic::set_up(&describe::Gic::V2 {
        distributor: region(DISTRIBUTOR),
        cpu_interface: region(CPU_INTERFACE),
        virtual_control: region(VIRTUAL),
        virtual_cpu_interface: region(0x804_0000),
    })
    .expect("room for tables")
}

/// A GICv3 of 96 interrupts and four list registers; this core is the third that has a redistributor. `pre_bits` are those of
/// ICH_VTR_EL2.
fn v3_with(pre_bits: u64) -> Option<Gic> {
    set_device(DISTRIBUTOR + gicd::TYPER, 2);
    set_system("mpidr_el1", 1 << 31 | 0x01_0203);
    // The second has virtual LPIs, so it is twice as large.
    for (at, affinity, features) in [
        (0, 0x0201, 0),
        (0x2_0000, 0x0202, 2),
        (0x6_0000, 0x01_0203, 0x10),
    ] {
        set_device(REDISTRIBUTORS + at + 8, features);
        set_device(REDISTRIBUTORS + at + 12, affinity);
    }
    set_system("ich_vtr_el2", pre_bits << 26 | 3);
    Gic::set_up(&describe::Gic::V3 {
        distributor: Region::new(DISTRIBUTOR, 0x1_0000),
        redistributors: Region::new(REDISTRIBUTORS, 0x8_0000),
    })
    .ok()
}

pub fn v3() -> Gic {
    v3_with(4).expect("this core's redistributor")
}

/// The frame of interrupts 0 to 31 of this core.
const PRIVATE: u64 = REDISTRIBUTORS + 0x6_0000 + 0x1_0000;

#[test]
fn a_new_v2_is_masked_quiet_and_aims_at_this_core() {
    let gic = v2();
    assert_eq!((gic.interrupts(), gic.list_registers()), (96, 4));
    for word in 0..3 {
        let at = |register: u64| device(DISTRIBUTOR + register + 4 * word);
        assert_eq!(at(gicd::ICENABLER), u32::MAX);
        assert_eq!(at(gicd::ICPENDR), u32::MAX);
        assert_eq!(at(gicd::ICACTIVER), u32::MAX);
        assert_eq!(at(gicd::IGROUPR), 0);
    }
    for irq in (0..96).step_by(4) {
        assert_eq!(device(DISTRIBUTOR + gicd::IPRIORITYR + irq), 0x8080_8080);
    }
    for irq in (32..96).step_by(4) {
        assert_eq!(device(DISTRIBUTOR + gicd::ITARGETSR + irq), 0x0404_0404);
    }
    // Nothing beyond the last interrupt is written.
    assert_eq!(device(DISTRIBUTOR + gicd::ICENABLER + 12), 0);
    // The distributor goes on last, when all is quiet.
    let written = take_written();
    let on = written
        .iter()
        .position(|entry| *entry == (DISTRIBUTOR + gicd::CTLR, 1));
    let quiet = written
        .iter()
        .rposition(|(at, _)| (gicd::IGROUPR..gicd::SGIR).contains(&at.wrapping_sub(DISTRIBUTOR)));
    assert!(on > quiet, "{on:?} {quiet:?}");
}

#[test]
fn a_new_v3_finds_this_cores_redistributor() {
    let gic = v3();
    assert_eq!((gic.interrupts(), gic.list_registers()), (96, 4));
    assert_eq!(device(PRIVATE + gicd::ICENABLER), u32::MAX);
    assert_eq!(device(REDISTRIBUTORS + gicd::ICENABLER + 0x1_0000), 0);
    for irq in 32..96u64 {
        assert_eq!(device(DISTRIBUTOR + 0x6000 + 8 * irq), 0x01_0203);
        assert_eq!(device(DISTRIBUTOR + 0x6004 + 8 * irq), 0);
    }
    // Affinity routing, both groups.
    assert_eq!(device(DISTRIBUTOR + gicd::CTLR), 0b1_0011);
    assert_eq!(system("icc_igrpen1_el1"), 1);
    // Awake.
    assert_eq!(device(REDISTRIBUTORS + 0x6_0000 + 0x14) & 2, 0);
}

#[test]
fn a_core_without_a_redistributor_is_an_error() {
    assert!(v3_with(4).is_some());
    set_device(REDISTRIBUTORS + 0x6_0000 + 12, 0x99);
    set_system("mpidr_el1", 0x01_0203);
    let lost = Gic::set_up(&describe::Gic::V3 {
        distributor: Region::new(DISTRIBUTOR, 0x1_0000),
        redistributors: Region::new(REDISTRIBUTORS, 0x8_0000),
    });
    assert!(lost.is_err());
}

#[test]
fn masks_go_to_the_bit_of_the_interrupt() {
    for (gic, low) in [(v2(), DISTRIBUTOR), (v3(), PRIVATE)] {
        take_written();
        gic.mask(27, IrqMask::Unmasked);
        gic.mask(27, IrqMask::Masked);
        gic.mask(79, IrqMask::Unmasked);
        assert_eq!(
            take_written(),
            [
                (low + gicd::ISENABLER, 1 << 27),
                (low + gicd::ICENABLER, 1 << 27),
                (DISTRIBUTOR + gicd::ISENABLER + 8, 1 << 15),
            ]
        );
    }
}

#[test]
fn a_trigger_changes_its_own_bit_alone() {
    for gic in [v2(), v3()] {
        let at = DISTRIBUTOR + gicd::ICFGR + 8;
        set_device(at, 0x5555_5555);
        gic.set_trigger(35, Trigger::Edge);
        assert_eq!(device(at), 0x5555_5555 | 2 << 6);
        gic.set_trigger(35, Trigger::Level);
        assert_eq!(device(at), 0x5555_5555 & !(2 << 6));
        // Software-generated interrupts have no choice.
        take_written();
        gic.set_trigger(15, Trigger::Edge);
        assert!(take_written().is_empty());
    }
}

#[test]
fn software_interrupts_reach_their_target_or_nobody() {
    let gic = v2();
    assert!(gic.sgi_target_valid(7) && !gic.sgi_target_valid(8));
    gic.send_sgi(3, 5);
    assert_eq!(device(DISTRIBUTOR + gicd::SGIR), 1 << 21 | 3);
    let gic = v3();
    assert!(gic.sgi_target_valid(0xffff_ffff) && !gic.sgi_target_valid(1 << 32));
    gic.send_sgi(3, 0x0403_0201);
    let expected = 4 << 48 | 3 << 32 | 3 << 24 | 2 << 16 | 1 << 1;
    assert_eq!(system("icc_sgi1r_el1"), expected);
    gic.send_sgi(4, 0x10);
    assert_eq!(system("icc_sgi1r_el1"), expected);
}

#[test]
fn list_entries_say_what_was_injected() {
    let (v2, v3) = (v2(), v3());
    for virq in [0, 27, 1019] {
        for priority in 0..32 {
            for group in 0..2 {
                // IHI 0048, 5.3.11: number, request at the end, priority in the upper five bits, pending, group.
                let entry = v2.list_entry(virq, priority, group);
                assert_eq!(
                    entry,
                    virq | 1 << 19 | priority << 23 | 1 << 28 | group << 30
                );
                assert!(!v2.list_entry_is_free(entry));
                // IHI 0069, 12.4.9.
                let entry = v3.list_entry(virq, priority, group);
                let expected = virq | 1 << 41 | priority << 51 | group << 60 | 1 << 62;
                assert_eq!(entry, expected);
                assert!(!v3.list_entry_is_free(entry));
            }
        }
    }
    for gic in [v2, v3] {
        assert!(gic.list_entry_is_free(0));
    }
    // Active alone, pending alone; on GICv3 one that is a hardware interrupt's.
    assert!(!v2.list_entry_is_free(2 << 28) && !v2.list_entry_is_free(1 << 28));
    assert!(!v3.list_entry_is_free(2 << 62) && !v3.list_entry_is_free(1 << 61));
}

#[test]
fn ends_are_taken_one_by_one_and_only_real_ones() {
    let gic = v2();
    gic.write_list(1, 27 | 1 << 19);
    gic.write_list(3, 28 | 1 << 19);
    set_device(VIRTUAL + 0x20, 0b1010);
    assert_eq!(gic.take_ended(), Some(1));
    assert_eq!(gic.read_list(1), 27);
    // Hardware clears the bit with the request.
    set_device(VIRTUAL + 0x20, 0b1000);
    assert_eq!(gic.take_ended(), Some(3));
    set_device(VIRTUAL + 0x20, 0);
    assert_eq!(gic.take_ended(), None);
    // A bit beyond the list registers that there are.
    set_device(VIRTUAL + 0x20, 1 << 9);
    assert_eq!(gic.take_ended(), None);

    let gic = v3();
    gic.write_list(2, 27 | 1 << 41);
    set_system("ich_eisr_el2", 0b100);
    assert_eq!(gic.take_ended(), Some(2));
    assert_eq!(gic.read_list(2), 27);
    set_system("ich_eisr_el2", 1 << 9);
    assert_eq!(gic.take_ended(), None);
    assert!(matches!(Gic::Absent.acknowledge(), SPURIOUS));
}

#[test]
fn the_virtual_interface_of_one_guest_is_not_anothers() {
    for (gic, words) in [
        (v2(), 1),
        (v3_with(4).unwrap(), 1),
        (v3_with(5).unwrap(), 2),
        (v3_with(6).unwrap(), 4),
    ] {
        let (a, b) = (vcpu(), vcpu());
        for (vcpu, salt) in [(a, 0x1000), (b, 0x2000)] {
            for (index, cell) in (0..).zip(&vcpu.lr) {
                cell.set(salt + index);
            }
            for (index, cell) in (0..).zip(&vcpu.vgic) {
                cell.set(salt + 0x100 + index);
            }
        }
        gic.load_virtual(&a);
        for index in 0..gic.list_registers() {
            assert_eq!(gic.read_list(index), 0x1000 + index);
        }
        gic.write_list(0, 0x77);
        gic.save_virtual(&a);
        gic.load_virtual(&b);
        for index in 0..gic.list_registers() {
            assert_eq!(gic.read_list(index), 0x2000 + index);
        }
        gic.save_virtual(&b);
        assert_eq!(a.lr[0].get(), 0x77);
        for index in 1..gic.list_registers() as usize {
            assert_eq!(a.lr[index].get(), 0x1000 + index as u64);
        }
        // VMCR and the active priorities that this interface has.
        assert_eq!(b.vgic[saved::VMCR].get(), 0x2100 + saved::VMCR as u64);
        for word in 0..words {
            assert_eq!(b.vgic[saved::APR + word].get(), 0x2102 + word as u64);
        }
    }
}

#[test]
fn the_virtual_interface_is_off_while_no_guest_runs() {
    let gic = v3();
    let vcpu = vcpu();
    vcpu.vgic[saved::HCR].set(1 << 3);
    gic.enable_virtual(&vcpu);
    assert_eq!(system("ich_hcr_el2"), 1 << 3 | HCR_ENABLED);
    gic.disable_virtual();
    assert_eq!(system("ich_hcr_el2"), 0);
    assert!(writes("ich_hcr_el2") >= 2);
}

#[test]
fn what_is_acknowledged_is_ended() {
    let gic = v2();
    // A software-generated interrupt names its sender too, in the bits above the number.
    set_device(CPU_INTERFACE + 0xc, 5 << 10 | 27);
    assert_eq!(gic.acknowledge(), 27);
    gic.end(27);
    assert_eq!(device(CPU_INTERFACE + 0x10), 27);
    set_device(CPU_INTERFACE + 0xc, 1023);
    assert!(gic.acknowledge() >= SPURIOUS);
    let gic = v3();
    set_system("icc_iar1_el1", 30);
    assert_eq!(gic.acknowledge(), 30);
    gic.end(30);
    assert_eq!(system("icc_eoir1_el1"), 30);
}

#[test]
fn the_kernels_own_interrupts_are_private_and_different() {
    let own = [TIMER_IRQ, VTIMER_IRQ, MAINTENANCE_IRQ];
    for (index, irq) in own.iter().enumerate() {
        assert!((16..32).contains(irq) && !own[..index].contains(irq));
    }
}
