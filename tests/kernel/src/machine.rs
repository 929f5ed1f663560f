//! What the machine gives to threads and guests: floating point, the virtual timer, virtual interrupts, software-generated
//! interrupts, registers that are not theirs.

#![allow(unsafe_code)] // Floating-point instructions, and a look at the device tree's bytes.

use crate::same;
use crate::suite::{Failure, Test};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use sel4_sys::{
    CapRights, Error, Fault, Invocation, MessageInfo, ObjectType, init_slot, syscall, tcb_flags,
    vm_attributes, vm_fault,
};
use testbed::Env;
use testbed::guest::{CODE_IPA, instruction, reply_to_hvc};
use testbed::{ThreadSpec, park};

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("fpu_registers_belong_to_their_thread", fpu_kept),
    ("fpu_registers_of_a_guest_are_kept", fpu_of_guest),
    ("fpu_disabled_thread_faults", fpu_disabled),
    ("sgi_reaches_its_handler", sgi),
    ("sgi_targets_are_what_the_controller_can_name", sgi_targets),
    (
        "guest_virtual_timer_event_waits_for_its_acknowledgement",
        virtual_timer,
    ),
    (
        "guest_takes_a_virtual_interrupt_and_ends_it",
        virtual_interrupt,
    ),
    (
        "guest_cannot_touch_debug_and_monitor_registers",
        foreign_registers,
    ),
    (
        "guest_store_to_a_read_only_page_tells_the_address",
        read_only,
    ),
    ("boot_info_has_the_device_tree", device_tree),
    (
        "boot_info_has_no_room_behind_the_device_tree",
        packed_device_tree,
    ),
];

const BARE: MessageInfo = MessageInfo::new(0, 0, 0, 0);
/// The virtual timer's interrupt (GIC: PPI 11).
const VTIMER: u64 = 27;

fn fault_endpoint(env: &mut Env) -> (u64, u64, u64) {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let reply = env.object(ObjectType::Reply, 0);
    let cap = env.mint(endpoint, CapRights::ALL, 0x77);
    (endpoint, reply, cap)
}

fn write_d5(value: u64) {
    // SAFETY: the program is compiled without floating point, so nothing else is in d5.
    unsafe { asm!(".arch_extension fp", "fmov d5, {0}", in(reg) value, options(nomem, nostack)) };
}

fn read_d5() -> u64 {
    let value;
    // SAFETY: as above.
    unsafe { asm!(".arch_extension fp", "fmov {0}, d5", out(reg) value, options(nomem, nostack)) };
    value
}

static SEEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn other_thread(value: u64) -> ! {
    SEEN.store(read_d5(), Ordering::SeqCst);
    write_d5(value);
    park()
}

fn fpu_kept(env: &mut Env) -> Result<(), Failure> {
    write_d5(0x1111);
    for round in 0..3 {
        env.invoke(
            init_slot::TCB,
            Invocation::TcbSetPriority,
            &[150],
            &[init_slot::TCB],
        );
        SEEN.store(1, Ordering::SeqCst);
        env.spawn(ThreadSpec::default(), other_thread, 0x2222 + round);
        same!(SEEN.load(Ordering::SeqCst), 0);
        same!(read_d5(), 0x1111);
    }
    Ok(())
}

fn fpu_of_guest(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = fault_endpoint(env);
    // mov x1, #3 << 20; msr cpacr_el1, x1; isb; mov x0, #0x55; fmov d5, x0; hvc #0; fmov x0, d5; hvc #0; b .
    let code = [
        0xd2a0_0601,
        0xd518_1041,
        0xd503_3fdf,
        0xd280_0aa0,
        0x9e67_0005,
        instruction::HVC,
        0x9e66_00a0,
        instruction::HVC,
        instruction::SELF,
    ];
    let guest = env.bare_guest(&code, cap, 100);
    env.resume(guest.tcb);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::UnknownSyscall.word());
    write_d5(0x99);
    reply_to_hvc(reply, &fault);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.words[0], 0x55);
    same!(read_d5(), 0x99);
    Ok(())
}

extern "C" fn uses_fpu(_: u64) -> ! {
    write_d5(1);
    park()
}

fn fpu_disabled(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = fault_endpoint(env);
    let spec = ThreadSpec {
        flags: tcb_flags::FPU_DISABLED,
        fault_endpoint: cap,
        ..ThreadSpec::default()
    };
    env.spawn(spec, uses_fpu, 0);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::VcpuFault.word());
    // EC 7: floating point that traps.
    same!(fault.words[0] >> 26, 7);
    Ok(())
}

fn sgi(env: &mut Env) -> Result<(), Failure> {
    const SGI: u64 = 2;
    let handler = env.slot();
    same!(
        env.invoke(
            init_slot::IRQ_CONTROL,
            Invocation::IrqIssueIrqHandler,
            &[SGI, handler, 64],
            &[init_slot::CNODE],
        )
        .label,
        0
    );
    let notification = env.object(ObjectType::Notification, 0);
    let badged = env.mint(notification, CapRights::ALL, 0x40);
    same!(
        env.invoke(handler, Invocation::IrqSetIrqHandler, &[], &[badged])
            .label,
        0
    );
    let signal = env.slot();
    same!(
        env.invoke(
            init_slot::IRQ_CONTROL,
            Invocation::ArmIrqIssueSgiSignal,
            &[SGI, 0, signal, 64],
            &[init_slot::CNODE],
        )
        .label,
        0
    );
    for _ in 0..3 {
        syscall::send(signal, BARE, [0; 4]);
        same!(syscall::wait(notification).badge, 0x40);
        same!(syscall::nb_wait(notification).badge, 0);
        same!(
            env.invoke(handler, Invocation::IrqAckIrq, &[], &[]).label,
            0
        );
    }
    Ok(())
}

fn sgi_targets(env: &mut Env) -> Result<(), Failure> {
    let slot = env.slot();
    let (possible, impossible): (&[u64], &[u64]) = if has_gic_v3(env) {
        (
            &[0, 15, 16, 0xff, 0x0102_0304, 0xffff_ffff],
            &[1 << 32, 0xff_0000_0000],
        )
    } else {
        (&[0, 7], &[8, 16, 1 << 32])
    };
    let issue = |target| {
        let words = [1, target, slot, 64];
        let label = Invocation::ArmIrqIssueSgiSignal;
        let root = [init_slot::CNODE];
        env.invoke(init_slot::IRQ_CONTROL, label, &words, &root)
    };
    for target in possible {
        same!(issue(*target).label, 0);
        same!(env.delete(slot).label, 0);
    }
    for target in impossible {
        let refused = issue(*target);
        same!(refused.label, Error::InvalidArgument.word());
        same!(refused.words[0], 1);
    }
    Ok(())
}

fn virtual_timer(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = fault_endpoint(env);
    // mrs x0, cntvct_el0; msr cntv_cval_el0, x0; mov x1, #1; msr cntv_ctl_el0, x1; isb; hvc #0; b back to the hvc
    let code = [
        0xd53b_e040,
        0xd51b_e340,
        0xd280_0021,
        0xd51b_e321,
        0xd503_3fdf,
        instruction::HVC,
        instruction::back(1),
    ];
    let guest = env.bare_guest(&code, cap, 100);
    env.resume(guest.tcb);
    for _ in 0..3 {
        let fault = syscall::recv(endpoint, reply);
        same!(fault.info.label(), Fault::VppiEvent.word());
        same!(fault.words[0], VTIMER);
        // The timer is still due: without the acknowledgement the guest runs and nothing comes.
        syscall::send(reply, BARE, [0; 4]);
        let fault = syscall::recv(endpoint, reply);
        same!(fault.info.label(), Fault::UnknownSyscall.word());
        let ack = env.invoke(guest.vcpu, Invocation::ArmVcpuAckVppi, &[VTIMER], &[]);
        same!(ack.label, 0);
        reply_to_hvc(reply, &fault);
    }
    let other = env.invoke(guest.vcpu, Invocation::ArmVcpuAckVppi, &[30], &[]);
    same!(u64::from(other.label != 0), 1);
    env.invoke(guest.tcb, Invocation::TcbSuspend, &[], &[]);
    Ok(())
}

/// The extra bootinfo, behind the bootinfo frame.
fn extra(env: &Env) -> &'static [u8] {
    let info = env.boot_info();
    let start = core::ptr::from_ref(info) as u64 + 4096;
    // SAFETY: the kernel mapped `extra_len` bytes of extra bootinfo behind the bootinfo frame.
    unsafe { core::slice::from_raw_parts(start as *const u8, info.extra_len as usize) }
}

/// Whether the device tree names a GICv3.
fn has_gic_v3(env: &Env) -> bool {
    extra(env).windows(10).any(|bytes| bytes == b"arm,gic-v3")
}

/// A big-endian number of the device tree at this offset.
fn tree_number(env: &Env, at: usize) -> u64 {
    // Behind the header of 16 bytes.
    let bytes = extra(env)
        .get(16 + at..20 + at)
        .and_then(|bytes| bytes.try_into().ok());
    u64::from(u32::from_be_bytes(bytes.unwrap_or_default()))
}

fn device_tree(env: &mut Env) -> Result<(), Failure> {
    // Header: the identifier of a device tree, and the length with this header.
    let mut header = [0; 2];
    for (number, bytes) in header.iter_mut().zip(extra(env).chunks_exact(8)) {
        *number = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    same!(header[0], 6);
    same!(tree_number(env, 0), 0xd00d_feed);
    same!(tree_number(env, 4) + 16, header[1]);
    Ok(())
}

/// QEMU leaves room for a MiB behind its tree: the root task is not to pay for it with frames and slots.
fn packed_device_tree(env: &mut Env) -> Result<(), Failure> {
    // The structure or the strings end it (Devicetree Specification 0.4, 5.2).
    let structure_end = tree_number(env, 8) + tree_number(env, 36);
    let strings_end = tree_number(env, 12) + tree_number(env, 32);
    same!(structure_end.max(strings_end), tree_number(env, 4));
    Ok(())
}

fn virtual_interrupt(env: &mut Env) -> Result<(), Failure> {
    if !has_gic_v3(env) {
        // A GICv2's CPU interface is a frame of its own: the whole-system tests cover it.
        return Ok(());
    }
    let (endpoint, reply, cap) = fault_endpoint(env);
    let mut code = [instruction::SELF; 680];
    // mov x0, #CODE_IPA + 0x800; msr vbar_el1, x0; mov x1, #0xff; msr icc_pmr_el1, x1; mov x1, #1; msr icc_igrpen1_el1, x1; isb;
    // msr daifclr, #2; hvc #0; b .
    let start = [
        0xd2a8_0000,
        0xf281_0000,
        0xd518_c000,
        0xd280_1fe1,
        0xd518_4601,
        0xd280_0021,
        0xd518_cce1,
        0xd503_3fdf,
        0xd503_42ff,
        instruction::HVC,
        instruction::SELF,
    ];
    // The vector of an interrupt at EL1: mrs x3, icc_iar1_el1; hvc #0; msr icc_eoir1_el1, x3; isb; b .
    let vector = [
        0xd538_cc03,
        instruction::HVC,
        0xd518_cc23,
        0xd503_3fdf,
        instruction::SELF,
    ];
    code[..start.len()].copy_from_slice(&start);
    code[0xa80 / 4..][..vector.len()].copy_from_slice(&vector);
    let guest = env.bare_guest(&code, cap, 100);
    env.resume(guest.tcb);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::UnknownSyscall.word());
    let word = 40 | (0x10 << 16) | (1 << 24);
    same!(
        env.invoke(guest.vcpu, Invocation::ArmVcpuInjectIrq, &[word], &[])
            .label,
        0
    );
    reply_to_hvc(reply, &fault);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::UnknownSyscall.word());
    same!(fault.words[3], 40);
    reply_to_hvc(reply, &fault);
    // The end of an injected interrupt is told, with the list register that is free again.
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::VgicMaintenance.word());
    same!(fault.words[0], 0);
    same!(
        env.invoke(guest.vcpu, Invocation::ArmVcpuInjectIrq, &[word], &[])
            .label,
        0
    );
    env.invoke(guest.tcb, Invocation::TcbSuspend, &[], &[]);
    Ok(())
}

fn foreign_registers(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = fault_endpoint(env);
    // mov x0, #7; mov x1, #7; msr mdscr_el1, x0; mrs x0, mdscr_el1; msr pmuserenr_el0, x1; mrs x1, pmcr_el0; hvc #0; b .
    let code = [
        0xd280_00e0,
        0xd280_00e1,
        0xd510_0240,
        0xd530_0240,
        0xd51b_9e01,
        0xd53b_9c01,
        instruction::HVC,
        instruction::SELF,
    ];
    let guest = env.bare_guest(&code, cap, 100);
    env.resume(guest.tcb);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::UnknownSyscall.word());
    same!(fault.words[0], 0);
    same!(fault.words[1], 0);
    Ok(())
}

fn read_only(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = fault_endpoint(env);
    // add x3, x3, #0; adr x3, .; str w1, [x3, #8]; b .
    let code = [
        instruction::NOP,
        0x1000_0003,
        0xb900_0861,
        instruction::SELF,
    ];
    let guest = env.bare_guest(&code, cap, 100);
    let frame = env.copy(guest.code, CapRights::READ_WRITE);
    same!(
        env.map(
            frame,
            guest.vspace,
            CODE_IPA + 0x1000,
            CapRights::READ,
            vm_attributes::DEFAULT,
        )
        .label,
        0
    );
    // Begin in the second, read-only mapping.
    let words = [0, 1, CODE_IPA + 0x1000];
    same!(
        env.invoke(guest.tcb, Invocation::TcbWriteRegisters, &words, &[])
            .label,
        0
    );
    env.resume(guest.tcb);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::VmFault.word());
    same!(fault.words[vm_fault::IP], CODE_IPA + 0x1008);
    same!(fault.words[vm_fault::ADDR], CODE_IPA + 0x100c);
    same!(fault.words[vm_fault::PREFETCH_FAULT], 0);
    // WnR: a store.
    same!((fault.words[vm_fault::FSR] >> 6) & 1, 1);
    Ok(())
}
