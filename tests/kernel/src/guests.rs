//! Bare guests: what reaches the VMM, and what does not reach the kernel.

use crate::same;
use crate::suite::{Failure, Test};
use sel4_sys::{
    CapRights, Error, Fault, Invocation, MessageInfo, ObjectType, VcpuReg, emulated, syscall,
    tcb_flags, unknown_syscall, vm_fault,
};
use testbed::Env;
use testbed::guest::{CODE_IPA, Guest, HOLE_IPA, instruction, reply_to_hvc};
use testbed::pmu;

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("guest_wfi_is_reported_with_its_syndrome", wfi),
    (
        "guest_unmapped_access_is_reported_with_its_address",
        unmapped,
    ),
    ("guest_register_is_written_and_pc_advanced", emulated_read),
    ("guest_read_is_finished_by_the_answer", read_by_answer),
    ("guest_rests_until_its_timer_is_due", rests_until_timer),
    ("guest_rests_until_an_interrupt", rests_until_interrupt),
    ("guest_revoked_code_faults_at_the_next_fetch", revoked),
    ("guest_vcpu_registers_keep_their_values", vcpu_registers),
    ("guest_two_vcpus_keep_apart", two_guests),
    ("guest_injected_list_register_is_taken_once", inject_twice),
    ("guest_hvc_is_never_a_system_call", hvc),
];

fn fault_endpoint(env: &mut Env) -> (u64, u64, u64) {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let reply = env.object(ObjectType::Reply, 0);
    let cap = env.mint(endpoint, CapRights::ALL, 0x77);
    (endpoint, reply, cap)
}

const BARE: MessageInfo = MessageInfo::new(0, 0, 0, 0);

fn lower_self(env: &Env) -> u64 {
    let tcb = sel4_sys::init_slot::TCB;
    env.invoke(tcb, Invocation::TcbSetPriority, &[150], &[tcb])
        .label
}

fn hvc(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = fault_endpoint(env);
    // mov x7, #-5 (Send's number); hvc #0; b back to the hvc
    let guest = env.bare_guest(
        &[0x9280_0087, instruction::HVC, instruction::back(1)],
        cap,
        100,
    );
    env.resume(guest.tcb);
    for _ in 0..3 {
        let fault = syscall::recv(endpoint, reply);
        same!(fault.badge, 0x77);
        same!(fault.info.label(), Fault::UnknownSyscall.word());
        same!(fault.info.length(), unknown_syscall::LENGTH as u64);
        syscall::send(reply, BARE, [0; 4]);
    }
    same!(
        env.invoke(guest.tcb, Invocation::TcbSuspend, &[], &[])
            .label,
        0
    );
    Ok(())
}

fn wfi(env: &mut Env) -> Result<(), Failure> {
    same!(lower_self(env), 0);
    let (endpoint, reply, cap) = fault_endpoint(env);
    let guest = env.bare_guest(&[instruction::WFI, instruction::SELF], cap, 100);
    env.resume(guest.tcb);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::VcpuFault.word());
    // EC 1: a trapped WFI or WFE (Arm ARM, ESR_ELx).
    same!(fault.words[0] >> 26, 1);
    same!(
        env.invoke(guest.tcb, Invocation::TcbSuspend, &[], &[])
            .label,
        0
    );
    Ok(())
}

fn unmapped(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = fault_endpoint(env);
    let guest = env.bare_guest(
        &[instruction::NOP, instruction::LOAD_W1_X2, instruction::SELF],
        cap,
        100,
    );
    env.resume(guest.tcb);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::VmFault.word());
    same!(fault.words[vm_fault::IP], CODE_IPA + 4);
    same!(fault.words[vm_fault::ADDR], HOLE_IPA);
    // ISV and a word-sized access into w1.
    same!((fault.words[vm_fault::FSR] >> 24) & 1, 1);
    same!((fault.words[vm_fault::FSR] >> 16) & 31, 1);
    same!(
        env.invoke(guest.tcb, Invocation::TcbSuspend, &[], &[])
            .label,
        0
    );
    Ok(())
}

fn emulated_read(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = fault_endpoint(env);
    // ldr w1, [x2]; hvc #0: the hvc shows what arrived in x1.
    let guest = env.bare_guest(
        &[instruction::LOAD_W1_X2, instruction::HVC, instruction::SELF],
        cap,
        100,
    );
    env.resume(guest.tcb);
    syscall::recv(endpoint, reply);
    let read = env.invoke(guest.tcb, Invocation::TcbReadRegisters, &[0, 4], &[]);
    let [pc, sp, spsr, x0] = read.words;
    same!(pc, CODE_IPA);
    let words = [1, 5, pc + 4, sp, spsr, x0, 0xcafe];
    same!(
        env.invoke(guest.tcb, Invocation::TcbWriteRegisters, &words, &[])
            .label,
        0
    );
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::UnknownSyscall.word());
    same!(fault.words[1], 0xcafe);
    same!(
        env.invoke(guest.tcb, Invocation::TcbSuspend, &[], &[])
            .label,
        0
    );
    Ok(())
}

/// Sets our kernel's own flag.
fn emulate(env: &Env, guest: Guest) -> Result<(), Failure> {
    let words = [0, tcb_flags::EMULATED];
    let flags = env.invoke(guest.tcb, Invocation::TcbSetFlags, &words, &[]);
    same!(flags.label, 0);
    same!(flags.words[0], tcb_flags::EMULATED);
    Ok(())
}

/// The answer to a wait for an interrupt.
const REST: MessageInfo = MessageInfo::new(emulated::REST, 0, 0, 0);
const WFI_THEN_HVC: [u32; 3] = [instruction::WFI, instruction::HVC, instruction::SELF];

fn rests_until_timer(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = fault_endpoint(env);
    let guest = env.bare_guest(&WFI_THEN_HVC, cap, 100);
    emulate(env, guest)?;
    let due = pmu::ticks() + pmu::frequency_hz() / 200;
    for (register, value) in [(VcpuReg::CntvCval, due), (VcpuReg::CntvCtl, 1)] {
        let words = [register.word(), value];
        let written = env.invoke(guest.vcpu, Invocation::ArmVcpuWriteReg, &words, &[]);
        same!(written.label, 0);
    }
    env.resume(guest.tcb);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::VcpuFault.word());
    same!(u64::from(pmu::ticks() < due), 1);
    // Its timer fires as soon as it runs again.
    let fault = syscall::reply_recv(endpoint, REST, [0; 4], reply);
    same!(fault.info.label(), Fault::VppiEvent.word());
    same!(u64::from(pmu::ticks() >= due), 1);
    let fault = syscall::reply_recv(endpoint, BARE, [0; 4], reply);
    same!(fault.info.label(), Fault::UnknownSyscall.word());
    suspend(env, guest)
}

fn rests_until_interrupt(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = fault_endpoint(env);
    let guest = env.bare_guest(&WFI_THEN_HVC, cap, 100);
    emulate(env, guest)?;
    env.resume(guest.tcb);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::VcpuFault.word());
    syscall::send(reply, REST, [0; 4]);
    let word = 40 | (0x10 << 16) | (1 << 24);
    let injected = env.invoke(guest.vcpu, Invocation::ArmVcpuInjectIrq, &[word], &[]);
    same!(injected.label, 0);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::UnknownSyscall.word());
    suspend(env, guest)
}

fn suspend(env: &Env, guest: Guest) -> Result<(), Failure> {
    let stopped = env.invoke(guest.tcb, Invocation::TcbSuspend, &[], &[]);
    same!(stopped.label, 0);
    Ok(())
}

/// With our kernel's own flag.
fn read_by_answer(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = fault_endpoint(env);
    let code = [instruction::LOAD_W1_X2, instruction::HVC, instruction::SELF];
    let guest = env.bare_guest(&code, cap, 100);
    emulate(env, guest)?;
    env.resume(guest.tcb);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.length(), vm_fault::LENGTH as u64 + 1);
    let finished = MessageInfo::new(0, 0, 0, 2);
    let fault = syscall::reply_recv(endpoint, finished, [1, 0xcafe, 0, 0], reply);
    same!(fault.info.label(), Fault::UnknownSyscall.word());
    same!(fault.words[1], 0xcafe);
    same!(
        env.invoke(guest.tcb, Invocation::TcbSuspend, &[], &[])
            .label,
        0
    );
    Ok(())
}

fn revoked(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = fault_endpoint(env);
    let guest = env.bare_guest(&[instruction::HVC, instruction::back(1)], cap, 100);
    env.resume(guest.tcb);
    syscall::recv(endpoint, reply);
    same!(env.revoke(guest.code).label, 0);
    syscall::send(reply, BARE, [0; 4]);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::VmFault.word());
    same!(fault.words[vm_fault::PREFETCH_FAULT], 1);
    same!(
        env.invoke(guest.tcb, Invocation::TcbSuspend, &[], &[])
            .label,
        0
    );
    Ok(())
}

fn vcpu_registers(env: &mut Env) -> Result<(), Failure> {
    let (_, _, cap) = fault_endpoint(env);
    let guest = env.bare_guest(&[instruction::SELF], cap, 100);
    let registers = [
        VcpuReg::Ttbr0,
        VcpuReg::Ttbr1,
        VcpuReg::Vbar,
        VcpuReg::ElrEl1,
        VcpuReg::CntvCval,
    ];
    for (index, register) in registers.iter().enumerate() {
        let words = [register.word(), 0x1000 * (index as u64 + 1)];
        same!(
            env.invoke(guest.vcpu, Invocation::ArmVcpuWriteReg, &words, &[])
                .label,
            0
        );
    }
    for (index, register) in registers.iter().enumerate() {
        let read = env.invoke(
            guest.vcpu,
            Invocation::ArmVcpuReadReg,
            &[register.word()],
            &[],
        );
        same!(read.words[0], 0x1000 * (index as u64 + 1));
    }
    same!(
        u64::from(
            env.invoke(guest.vcpu, Invocation::ArmVcpuReadReg, &[24], &[])
                .label
                != 0
        ),
        1
    );
    Ok(())
}

fn two_guests(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = fault_endpoint(env);
    // add x0, x0, #1; msr tpidr_el1, x0; mrs x1, tpidr_el1; hvc #0; back to the add
    let code = [
        0x9100_0400,
        0xd518_d080,
        0xd538_d081,
        instruction::HVC,
        instruction::back(4),
    ];
    let first = env.bare_guest(&code, cap, 100);
    let second = env.bare_guest(&code, cap, 100);
    env.resume(first.tcb);
    for round in 1..=3 {
        let fault = syscall::recv(endpoint, reply);
        same!(fault.words[1], round);
        reply_to_hvc(reply, &fault);
    }
    let waiting = syscall::recv(endpoint, reply);
    env.resume(second.tcb);
    let other_reply = env.object(ObjectType::Reply, 0);
    let fault = syscall::recv(endpoint, other_reply);
    same!(fault.words[1], 1);
    // The first guest's fault was taken earlier, so its words are no longer in the IPC buffer: step it over by hand.
    same!(waiting.words[1], 4);
    let read = env.invoke(first.tcb, Invocation::TcbReadRegisters, &[0, 4], &[]);
    let words = [1, 1, read.words[0] + 4];
    same!(
        env.invoke(first.tcb, Invocation::TcbWriteRegisters, &words, &[])
            .label,
        0
    );
    let fault = syscall::recv(endpoint, reply);
    same!(fault.words[1], 5);
    for guest in [first, second] {
        same!(
            env.invoke(guest.tcb, Invocation::TcbSuspend, &[], &[])
                .label,
            0
        );
    }
    Ok(())
}

fn inject_twice(env: &mut Env) -> Result<(), Failure> {
    let (_, _, cap) = fault_endpoint(env);
    let guest = env.bare_guest(&[instruction::SELF], cap, 100);
    // By the manual a list register in use is refused with DeleteFirst.
    // One word: virtual interrupt 0..=15, priority 16..=23, group 24..=31, list register 32..=39.
    let word = 40 | (0x10 << 16) | (1 << 24);
    same!(
        env.invoke(guest.vcpu, Invocation::ArmVcpuInjectIrq, &[word], &[])
            .label,
        0
    );
    same!(
        env.invoke(guest.vcpu, Invocation::ArmVcpuInjectIrq, &[word], &[])
            .label,
        Error::DeleteFirst.word()
    );
    Ok(())
}
