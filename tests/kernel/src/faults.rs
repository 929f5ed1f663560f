//! Faults of native threads: what the handler is told, and what its answer does (seL4 manual, 6.2).

#![allow(unsafe_code)] // Instructions that fault.

use crate::same;
use crate::suite::{Failure, Test};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use sel4_sys::{
    CapRights, Fault, Invocation, MessageInfo, ObjectType, init_slot, syscall, timeout,
    unknown_syscall, user_exception, vm_fault,
};
use testbed::guest::reply_to_hvc;
use testbed::{Env, ThreadSpec, message_word, park};

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("fault_of_an_undefined_instruction", undefined),
    ("fault_of_a_jump_to_nowhere", fetch),
    ("fault_of_a_store_to_a_read_only_page", read_only),
    (
        "fault_of_an_unknown_system_call_is_answered_with_registers",
        unknown,
    ),
    ("fault_of_a_budget_that_ran_out", out_of_time),
    ("fault_without_a_handler_stops_the_thread", no_handler),
];

const BADGE: u64 = 0x5a;
static SEEN: AtomicU64 = AtomicU64::new(0);

/// An endpoint, a reply object, and the capability for a thread's faults.
fn handler(env: &mut Env) -> (u64, u64, u64) {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let reply = env.object(ObjectType::Reply, 0);
    let cap = env.mint(endpoint, CapRights::ALL, BADGE);
    (endpoint, reply, cap)
}

const fn faults_to(fault_endpoint: u64) -> ThreadSpec {
    ThreadSpec {
        priority: 200,
        budget_us: Some(10_000),
        flags: 0,
        fault_endpoint,
    }
}

/// Lets the thread of a test run until it waits or faults.
fn let_run(env: &Env) {
    env.set_own_priority(100);
    env.set_own_priority(255);
}

extern "C" fn is_undefined(_: u64) -> ! {
    // SAFETY: an instruction that is none; the handler goes on behind it.
    unsafe { asm!(".inst 0", options(nostack, nomem)) };
    SEEN.fetch_add(1, Ordering::SeqCst);
    park()
}

fn undefined(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = handler(env);
    SEEN.store(0, Ordering::SeqCst);
    let tcb = env.spawn(faults_to(cap), is_undefined, 0);
    for _ in 0..2 {
        let fault = syscall::recv(endpoint, reply);
        same!(fault.badge, BADGE);
        same!(fault.info.label(), Fault::UserException.word());
        same!(fault.info.length(), user_exception::LENGTH as u64);
        // The syndrome of an unknown reason (Arm ARM, ESR_ELx): class 0, a 32-bit instruction.
        same!(fault.words[user_exception::NUMBER], 1 << 25);
        same!(message_word(&fault, user_exception::CODE), 0);
        let read = env.invoke(tcb, Invocation::TcbReadRegisters, &[0, 2], &[]);
        same!(fault.words[user_exception::FAULT_IP], read.words[0]);
        same!(fault.words[user_exception::SP], read.words[1]);
        // As it is: the instruction is run again.
        syscall::send(reply, MessageInfo::new(0, 0, 0, 0), [0; 4]);
    }
    // The answer's words are pc, stack pointer and status, as many as there are.
    let fault = syscall::recv(endpoint, reply);
    let next = fault.words[user_exception::FAULT_IP] + 4;
    syscall::send(reply, MessageInfo::new(0, 0, 0, 1), [next, 0, 0, 0]);
    let_run(env);
    same!(SEEN.load(Ordering::SeqCst), 1);
    Ok(())
}

extern "C" fn jumps(address: u64) -> ! {
    // SAFETY: nothing is mapped there, so the jump faults; nobody lets it go on.
    unsafe { asm!("br {}", in(reg) address, options(noreturn)) }
}

fn fetch(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = handler(env);
    let nowhere = 0x18_0000_0000;
    env.spawn(faults_to(cap), jumps, nowhere);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::VmFault.word());
    same!(fault.info.length(), vm_fault::LENGTH as u64);
    same!(fault.words[vm_fault::IP], nowhere);
    same!(fault.words[vm_fault::ADDR], nowhere);
    same!(fault.words[vm_fault::PREFETCH_FAULT], 1);
    Ok(())
}

extern "C" fn stores(address: u64) -> ! {
    // SAFETY: the page is mapped read-only, so the store faults, until the handler has it mapped writable.
    unsafe { core::ptr::write_volatile(address as *mut u64, 0x1234) };
    park()
}

fn read_only(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = handler(env);
    let frame = env.object(ObjectType::SmallPage, 0);
    let address = env.window(4096);
    let map = |env: &Env, rights| env.map(frame, init_slot::VSPACE, address, rights, 0).label;
    same!(map(env, CapRights::READ), 0);
    env.spawn(faults_to(cap), stores, address + 8);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::VmFault.word());
    same!(fault.words[vm_fault::ADDR], address + 8);
    same!(fault.words[vm_fault::PREFETCH_FAULT], 0);
    // WnR (Arm ARM, ESR_ELx): a store.
    same!(fault.words[vm_fault::FSR] >> 6 & 1, 1);
    same!(map(env, CapRights::READ_WRITE), 0);
    syscall::send(reply, MessageInfo::new(0, 0, 0, 0), [0; 4]);
    let_run(env);
    // SAFETY: mapped above, and the thread waits.
    let stored = unsafe { core::ptr::read_volatile((address + 8) as *const u64) };
    same!(stored, 0x1234);
    Ok(())
}

extern "C" fn calls_unknown(_: u64) -> ! {
    loop {
        let answer: u64;
        // SAFETY: no such system call: the handler answers, and says what x0 is.
        unsafe {
            asm!("svc #0", in("x7") 4711u64, inlateout("x0") 5u64 => answer, lateout("x1") _, options(nostack));
        }
        SEEN.store(answer, Ordering::SeqCst);
    }
}

fn unknown(env: &mut Env) -> Result<(), Failure> {
    let (endpoint, reply, cap) = handler(env);
    SEEN.store(0, Ordering::SeqCst);
    env.spawn(faults_to(cap), calls_unknown, 0);
    for answer in 1..4 {
        let mut fault = syscall::recv(endpoint, reply);
        same!(fault.info.label(), Fault::UnknownSyscall.word());
        same!(fault.words[unknown_syscall::X0], 5);
        same!(message_word(&fault, unknown_syscall::X7), 4711);
        same!(message_word(&fault, unknown_syscall::SYSCALL), 4711);
        same!(SEEN.load(Ordering::SeqCst), answer - 1);
        fault.words[unknown_syscall::X0] = answer;
        reply_to_hvc(reply, &fault);
    }
    // With another label the thread stays where it is.
    syscall::recv(endpoint, reply);
    same!(SEEN.load(Ordering::SeqCst), 3);
    syscall::send(reply, MessageInfo::new(1, 0, 0, 1), [4, 0, 0, 0]);
    let_run(env);
    same!(SEEN.load(Ordering::SeqCst), 3);
    same!(syscall::nb_recv(endpoint, reply).badge, 0);
    Ok(())
}

extern "C" fn spins(_: u64) -> ! {
    loop {
        SEEN.fetch_add(1, Ordering::SeqCst);
    }
}

fn out_of_time(env: &mut Env) -> Result<(), Failure> {
    const BUDGET_US: u64 = 1_000;
    let (endpoint, reply, cap) = handler(env);
    let spec = ThreadSpec {
        budget_us: None,
        ..ThreadSpec::default()
    };
    let tcb = env.thread(spec, spins, 0);
    let context = env.object(ObjectType::SchedContext, 8);
    let control = env.boot_info().schedcontrol.start;
    let words = [BUDGET_US, 10 * BUDGET_US, 0, 0x1717, 0];
    let configure = Invocation::SchedControlConfigureFlags;
    same!(env.invoke(control, configure, &words, &[context]).label, 0);
    let set = Invocation::TcbSetTimeoutEndpoint;
    same!(env.invoke(tcb, set, &[], &[cap]).label, 0);
    let bind = Invocation::SchedContextBind;
    same!(env.invoke(context, bind, &[], &[tcb]).label, 0);
    env.resume(tcb);
    let mut before = 0;
    for _ in 0..3 {
        let fault = syscall::recv(endpoint, reply);
        same!(fault.badge, BADGE);
        same!(fault.info.label(), Fault::Timeout.word());
        same!(fault.info.length(), timeout::LENGTH as u64);
        same!(fault.words[timeout::DATA], 0x1717);
        // What was used since it was told last: the budget, and how late the timer was.
        let used = fault.words[timeout::CONSUMED];
        same!(
            u64::from((BUDGET_US..2 * BUDGET_US).contains(&used)) * used,
            used
        );
        let seen = SEEN.load(Ordering::SeqCst);
        same!(u64::from(seen > before), 1);
        before = seen;
        syscall::send(reply, MessageInfo::new(0, 0, 0, 0), [0; 4]);
    }
    same!(env.invoke(tcb, Invocation::TcbSuspend, &[], &[]).label, 0);
    Ok(())
}

fn no_handler(env: &mut Env) -> Result<(), Failure> {
    SEEN.store(0, Ordering::SeqCst);
    let tcb = env.spawn(ThreadSpec::default(), is_undefined, 0);
    let_run(env);
    same!(SEEN.load(Ordering::SeqCst), 0);
    // Behind the instruction it goes on.
    let read = env.invoke(tcb, Invocation::TcbReadRegisters, &[0, 1], &[]);
    let words = [1, 1, read.words[0] + 4];
    let write = Invocation::TcbWriteRegisters;
    same!(env.invoke(tcb, write, &words, &[]).label, 0);
    let_run(env);
    same!(SEEN.load(Ordering::SeqCst), 1);
    Ok(())
}
