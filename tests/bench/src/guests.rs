//! Guests of a few instructions, and what their exits cost the VMM.

use crate::measure::{Clock, invoke, row};
use crate::messages::passive_thread;
use core::sync::atomic::{AtomicU64, Ordering};
use sel4_sys::{CapRights, Invocation, MessageInfo, ObjectType, syscall, tcb_flags};
use testbed::Env;
use testbed::guest::{Guest, instruction};

const BARE: MessageInfo = MessageInfo::new(0, 0, 0, 0);
/// Below the measuring thread's.
const GUEST_PRIORITY: u64 = 100;
/// What guests do again and again: the rows with time of their own and with donated time, and the instruction.
const EXITS: [(&str, &str, u32); 3] = [
    ("hvc_round_trip", "hvc_round_trip_donated", instruction::HVC),
    ("wfi_round_trip", "wfi_round_trip_donated", instruction::WFI),
    (
        "unmapped_round_trip",
        "unmapped_round_trip_donated",
        instruction::LOAD_W1_X2,
    ),
];

/// What the VMM without time of its own measured.
static DONATED: AtomicU64 = AtomicU64::new(0);

/// A VMM without time of its own: it runs on its guest's. Its argument: endpoint, reply, ready, done.
extern "C" fn passive_vmm(argument: u64) -> ! {
    let slot = |shift: u32| argument >> shift & 0xffff;
    let (endpoint, reply, ready, done) = (slot(48), slot(32), slot(16), slot(0));
    let clock = Clock::new();
    syscall::nb_send_recv(ready, BARE, [0; 4], endpoint, reply);
    let mean = clock.mean(|| {
        syscall::reply_recv(endpoint, BARE, [0; 4], reply);
    });
    DONATED.store(mean, Ordering::Relaxed);
    syscall::signal(done);
    loop {
        syscall::recv(endpoint, reply);
    }
}

fn suspend(env: &Env, guest: Guest) {
    let _ = env.invoke(guest.tcb, Invocation::TcbSuspend, &[], &[]);
}

/// All rows about guests; a guest's address space in the end, for mappings.
pub fn guests(env: &mut Env, clock: Clock) -> u64 {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let reply = env.object(ObjectType::Reply, 0);
    let faults = env.mint(endpoint, CapRights::ALL, 1);
    for (name, donated, code) in EXITS {
        let code = [code, instruction::back(1)];
        let guest = env.bare_guest(&code, faults, GUEST_PRIORITY);
        env.resume(guest.tcb);
        syscall::recv(endpoint, reply);
        let own_time = clock.mean(|| {
            syscall::reply_recv(endpoint, BARE, [0; 4], reply);
        });
        row(name, own_time);
        suspend(env, guest);

        let endpoint = env.object(ObjectType::Endpoint, 0);
        let reply = env.object(ObjectType::Reply, 0);
        let faults = env.mint(endpoint, CapRights::ALL, 1);
        let ready = env.object(ObjectType::Notification, 0);
        let done = env.object(ObjectType::Notification, 0);
        let argument = endpoint << 48 | reply << 32 | ready << 16 | done;
        passive_thread(env, passive_vmm, argument, ready);
        let guest = env.bare_guest(&code, faults, GUEST_PRIORITY);
        env.resume(guest.tcb);
        syscall::wait(done);
        row(donated, DONATED.load(Ordering::Relaxed));
        suspend(env, guest);
    }
    alternating(env, clock, endpoint, faults, reply);
    mmio(env, clock, endpoint, faults, reply)
}

/// Two guests by turns: each answer switches to the other vCPU.
fn alternating(env: &mut Env, clock: Clock, endpoint: u64, faults: u64, reply: u64) {
    let code = [instruction::WFI, instruction::back(1)];
    let replies = [reply, env.object(ObjectType::Reply, 0)];
    let pair = [(); 2].map(|()| env.bare_guest(&code, faults, GUEST_PRIORITY));
    for (guest, reply) in pair.into_iter().zip(replies) {
        env.resume(guest.tcb);
        syscall::recv(endpoint, reply);
    }
    let mut turn = 0;
    row(
        "wfi_round_trip_alternating",
        clock.mean(|| {
            syscall::reply_recv(endpoint, BARE, [0; 4], replies[turn & 1]);
            turn ^= 1;
        }),
    );
    for guest in pair {
        suspend(env, guest);
    }
}

/// A read of a device register, emulated; and the vCPU's own operations.
fn mmio(env: &mut Env, clock: Clock, endpoint: u64, faults: u64, reply: u64) -> u64 {
    let code = [instruction::LOAD_W1_X2, instruction::back(1)];
    let guest = env.bare_guest(&code, faults, GUEST_PRIORITY);
    let tcb = guest.tcb;
    env.resume(tcb);
    syscall::recv(endpoint, reply);
    // pc, sp, spsr, x0, x1 are the first five registers: read them, put the value into x1, step over, let it run.
    row(
        "vmm_mmio_read_round_trip",
        clock.mean(|| {
            let read = invoke(tcb, Invocation::TcbReadRegisters, [0, 5], []);
            let [pc, sp, spsr, x0] = read.words;
            let words = [1, 5, pc + 4, sp, spsr, x0, 0x1234];
            invoke(tcb, Invocation::TcbWriteRegisters, words, []);
            syscall::recv(endpoint, reply);
        }),
    );
    // The same through our kernel's own flag: the answer to the fault finishes the instruction.
    let words = [0, tcb_flags::EMULATED];
    let flags = invoke(tcb, Invocation::TcbSetFlags, words, []);
    if flags.words[0] & tcb_flags::EMULATED != 0 {
        let finished = MessageInfo::new(0, 0, 0, 2);
        row(
            "vmm_mmio_read_by_answer",
            clock.mean(|| {
                syscall::reply_recv(endpoint, finished, [1, 0x1234, 0, 0], reply);
            }),
        );
    }
    suspend(env, guest);
    let vcpu = guest.vcpu;
    row(
        "vcpu_read_reg",
        clock.mean(|| {
            invoke(vcpu, Invocation::ArmVcpuReadReg, [0], []);
        }),
    );
    row(
        "vcpu_write_reg",
        clock.mean(|| {
            invoke(vcpu, Invocation::ArmVcpuWriteReg, [1, 0], []);
        }),
    );
    let mut injected = 0;
    for register in 0..4 {
        // Each into a list register of its own: virtual interrupts from 40 on, priority 0, group 0.
        let word = (40 + register) | (register << 32);
        injected += clock.once(|| {
            invoke(vcpu, Invocation::ArmVcpuInjectIrq, [word], []);
        });
    }
    row("vcpu_inject_irq", injected / 4);
    guest.vspace
}
