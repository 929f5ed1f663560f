//! Threads, scheduling contexts and faults of native threads.

use crate::memory;
use crate::same;
use crate::suite::{Failure, Test};
use core::sync::atomic::{AtomicU64, Ordering};
use sel4_sys::{
    CapRights, Error, Fault, Invocation, MessageInfo, ObjectType, init_slot, syscall,
    vm_attributes, vm_fault,
};
use testbed::{Env, ThreadSpec, pmu};

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("thread_of_higher_priority_runs_at_once", higher_first),
    (
        "thread_without_a_scheduling_context_does_not_run",
        no_context,
    ),
    (
        "thread_out_of_budget_lets_lower_priorities_run",
        budget_ends,
    ),
    ("thread_suspended_stops_and_resumes", suspend_resume),
    (
        "thread_priority_above_the_authority_is_refused",
        priority_too_high,
    ),
    ("thread_page_fault_is_reported_and_repaired", page_fault),
    ("thread_bad_system_call_is_reported", unknown_syscall),
    ("thread_registers_can_be_read_back", registers),
    (
        "thread_with_a_read_only_buffer_gets_four_words",
        read_only_buffer,
    ),
    ("sched_context_budget_above_period_is_refused", bad_budget),
    ("sched_context_periodic_thread_wakes_each_period", periodic),
];

static COUNT: AtomicU64 = AtomicU64::new(0);

extern "C" fn counts(_: u64) -> ! {
    loop {
        COUNT.fetch_add(1, Ordering::SeqCst);
    }
}

extern "C" fn counts_once(_: u64) -> ! {
    COUNT.fetch_add(1, Ordering::SeqCst);
    testbed::park()
}

extern "C" fn ticks(_: u64) -> ! {
    loop {
        COUNT.fetch_add(1, Ordering::SeqCst);
        syscall::yield_now();
    }
}

fn own_priority(env: &Env, priority: u64) -> u64 {
    env.invoke(
        init_slot::TCB,
        Invocation::TcbSetPriority,
        &[priority],
        &[init_slot::TCB],
    )
    .label
}

fn wait_us(us: u64) {
    let until = pmu::ticks() + us * pmu::frequency_hz() / 1_000_000;
    while pmu::ticks() < until {}
}

fn higher_first(env: &mut Env) -> Result<(), Failure> {
    COUNT.store(0, Ordering::SeqCst);
    same!(own_priority(env, 100), 0);
    env.spawn(
        ThreadSpec {
            priority: 90,
            ..ThreadSpec::default()
        },
        counts_once,
        0x51,
    );
    same!(COUNT.load(Ordering::SeqCst), 0);
    env.spawn(
        ThreadSpec {
            priority: 110,
            ..ThreadSpec::default()
        },
        counts_once,
        0x51,
    );
    same!(COUNT.load(Ordering::SeqCst), 1);
    same!(own_priority(env, 80), 0);
    same!(COUNT.load(Ordering::SeqCst), 2);
    same!(own_priority(env, 255), 0);
    Ok(())
}

fn no_context(env: &mut Env) -> Result<(), Failure> {
    COUNT.store(0, Ordering::SeqCst);
    same!(own_priority(env, 100), 0);
    let tcb = env.spawn(
        ThreadSpec {
            budget_us: None,
            ..ThreadSpec::default()
        },
        counts_once,
        0x51,
    );
    same!(COUNT.load(Ordering::SeqCst), 0);
    let context = env.sched_context(1_000, 1_000);
    same!(
        env.invoke(context, Invocation::SchedContextBind, &[], &[tcb])
            .label,
        0
    );
    same!(COUNT.load(Ordering::SeqCst), 1);
    same!(own_priority(env, 255), 0);
    Ok(())
}

fn budget_ends(env: &mut Env) -> Result<(), Failure> {
    same!(own_priority(env, 100), 0);
    COUNT.store(0, Ordering::SeqCst);
    // Spins above us, for 1 ms of every 20.
    let tcb = env.thread(
        ThreadSpec {
            priority: 110,
            budget_us: None,
            ..ThreadSpec::default()
        },
        counts,
        0,
    );
    let context = env.sched_context(1_000, 20_000);
    same!(
        env.invoke(context, Invocation::SchedContextBind, &[], &[tcb])
            .label,
        0
    );
    env.resume(tcb);
    let after_first = COUNT.load(Ordering::SeqCst);
    same!(u64::from(after_first > 0), 1);
    wait_us(2_000);
    same!(COUNT.load(Ordering::SeqCst), after_first);
    wait_us(25_000);
    same!(u64::from(COUNT.load(Ordering::SeqCst) > after_first), 1);
    same!(env.invoke(tcb, Invocation::TcbSuspend, &[], &[]).label, 0);
    same!(own_priority(env, 255), 0);
    Ok(())
}

fn suspend_resume(env: &mut Env) -> Result<(), Failure> {
    same!(own_priority(env, 100), 0);
    let spec = ThreadSpec {
        priority: 100,
        budget_us: Some(1_000),
        ..ThreadSpec::default()
    };
    let tcb = env.spawn(spec, counts, 0);
    wait_us(15_000);
    same!(env.invoke(tcb, Invocation::TcbSuspend, &[], &[]).label, 0);
    let stopped = COUNT.load(Ordering::SeqCst);
    wait_us(15_000);
    same!(COUNT.load(Ordering::SeqCst), stopped);
    env.resume(tcb);
    wait_us(15_000);
    same!(u64::from(COUNT.load(Ordering::SeqCst) > stopped), 1);
    same!(env.invoke(tcb, Invocation::TcbSuspend, &[], &[]).label, 0);
    same!(own_priority(env, 255), 0);
    Ok(())
}

fn priority_too_high(env: &mut Env) -> Result<(), Failure> {
    let weak = env.thread(
        ThreadSpec {
            priority: 50,
            ..ThreadSpec::default()
        },
        counts_once,
        0x51,
    );
    let other = env.thread(
        ThreadSpec {
            priority: 10,
            ..ThreadSpec::default()
        },
        counts_once,
        0x51,
    );
    let answer = env.invoke(other, Invocation::TcbSetPriority, &[51], &[weak]);
    same!(answer.label, Error::RangeError.word());
    same!(answer.words[1], 50);
    same!(
        env.invoke(other, Invocation::TcbSetPriority, &[50], &[weak])
            .label,
        0
    );
    Ok(())
}

extern "C" fn reads(address: u64) -> ! {
    let value = read(address);
    COUNT.store(value, Ordering::SeqCst);
    testbed::park()
}

#[allow(unsafe_code)]
fn read(address: u64) -> u64 {
    // SAFETY: the point is that it is not mapped yet; the handler maps it before this returns.
    unsafe { core::ptr::read_volatile(address as *const u64) }
}

fn page_fault(env: &mut Env) -> Result<(), Failure> {
    same!(own_priority(env, 100), 0);
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let reply = env.object(ObjectType::Reply, 0);
    let cap = env.mint(endpoint, CapRights::ALL, 0x5a);
    let address = env.window(4096);
    COUNT.store(u64::MAX, Ordering::SeqCst);
    let spec = ThreadSpec {
        fault_endpoint: cap,
        ..ThreadSpec::default()
    };
    let tcb = env.spawn(spec, reads, address + 16);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.badge, 0x5a);
    same!(fault.info.label(), Fault::VmFault.word());
    same!(fault.words[vm_fault::ADDR], address + 16);
    same!(fault.words[vm_fault::PREFETCH_FAULT], 0);
    let frame = env.object(ObjectType::SmallPage, 0);
    same!(
        env.map(
            frame,
            init_slot::VSPACE,
            address,
            CapRights::READ_WRITE,
            vm_attributes::DEFAULT
        )
        .label,
        0
    );
    syscall::send(reply, MessageInfo::new(0, 0, 0, 0), [0; 4]);
    same!(COUNT.load(Ordering::SeqCst), 0);
    same!(env.invoke(tcb, Invocation::TcbSuspend, &[], &[]).label, 0);
    same!(own_priority(env, 255), 0);
    Ok(())
}

#[allow(unsafe_code)]
extern "C" fn calls_badly(_: u64) -> ! {
    // SAFETY: an unknown system call is reported to the fault handler, which answers in the kernel's stead.
    unsafe {
        let answer: u64;
        core::arch::asm!("svc #0", in("x7") 12345u64, inlateout("x0") 7u64 => answer, options(nostack));
        COUNT.store(answer, Ordering::SeqCst);
    }
    testbed::park()
}

fn unknown_syscall(env: &mut Env) -> Result<(), Failure> {
    same!(own_priority(env, 100), 0);
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let reply = env.object(ObjectType::Reply, 0);
    let spec = ThreadSpec {
        fault_endpoint: endpoint,
        ..ThreadSpec::default()
    };
    let tcb = env.spawn(spec, calls_badly, 0);
    let fault = syscall::recv(endpoint, reply);
    same!(fault.info.label(), Fault::UnknownSyscall.word());
    same!(fault.info.length(), 13);
    same!(fault.words[0], 7);
    same!(env.invoke(tcb, Invocation::TcbSuspend, &[], &[]).label, 0);
    same!(own_priority(env, 255), 0);
    Ok(())
}

fn registers(env: &mut Env) -> Result<(), Failure> {
    let tcb = env.thread(ThreadSpec::default(), counts_once, 0x51);
    let read = env.invoke(tcb, Invocation::TcbReadRegisters, &[0, 4], &[]);
    same!(read.label, 0);
    same!(read.words[0], counts_once as *const () as u64);
    same!(read.words[3], 0x51);
    Ok(())
}

/// Reads all registers of the thread in its argument, and tells how many words came.
extern "C" fn reads_registers(tcb: u64) -> ! {
    let label = Invocation::TcbReadRegisters.word();
    let answer = testbed::invoke(tcb, label, &[0, 36], &[]);
    COUNT.store(answer.length, Ordering::SeqCst);
    testbed::park()
}

fn read_only_buffer(env: &mut Env) -> Result<(), Failure> {
    let target = env.thread(ThreadSpec::default(), counts_once, 0x51);
    let reader = env.thread(ThreadSpec::default(), reads_registers, target);
    let frame = env.object(ObjectType::SmallPage, 0);
    let vaddr = env.map_here(frame);
    let read_only = env.copy(frame, CapRights::READ);
    let set = Invocation::TcbSetIpcBuffer;
    same!(env.invoke(reader, set, &[vaddr], &[read_only]).label, 0);
    COUNT.store(0, Ordering::SeqCst);
    same!(own_priority(env, 100), 0);
    env.resume(reader);
    same!(own_priority(env, 255), 0);
    same!(COUNT.load(Ordering::SeqCst), 4);
    let written = (0..512).filter(|n| memory::peek(vaddr + 8 * n) != 0);
    same!(written.count() as u64, 0);
    Ok(())
}

fn bad_budget(env: &mut Env) -> Result<(), Failure> {
    let context = env.object(ObjectType::SchedContext, 8);
    let control = env.boot_info().schedcontrol.start;
    let configure = |words: &[u64]| {
        env.invoke(
            control,
            Invocation::SchedControlConfigureFlags,
            words,
            &[context],
        )
    };
    same!(
        configure(&[2_000, 1_000, 0, 0, 0]).label,
        Error::RangeError.word()
    );
    same!(
        configure(&[0, 1_000, 0, 0, 0]).label,
        Error::RangeError.word()
    );
    // 256 bytes hold 96 of fields and ten refills, two of which are always there.
    same!(
        configure(&[1_000, 2_000, 1_000, 0, 0]).label,
        Error::RangeError.word()
    );
    same!(configure(&[1_000, 2_000, 4, 0, 0]).label, 0);
    Ok(())
}

fn periodic(env: &mut Env) -> Result<(), Failure> {
    same!(own_priority(env, 100), 0);
    COUNT.store(0, Ordering::SeqCst);
    let tcb = env.thread(
        ThreadSpec {
            priority: 120,
            budget_us: None,
            ..ThreadSpec::default()
        },
        ticks,
        0,
    );
    let context = env.sched_context(1_000, 10_000);
    same!(
        env.invoke(context, Invocation::SchedContextBind, &[], &[tcb])
            .label,
        0
    );
    env.resume(tcb);
    wait_us(95_000);
    let count = COUNT.load(Ordering::SeqCst);
    same!(env.invoke(tcb, Invocation::TcbSuspend, &[], &[]).label, 0);
    same!(own_priority(env, 255), 0);
    // One at the start, then one each 10 ms.
    same!(u64::from((8..=11).contains(&count)) * count, count);
    Ok(())
}
