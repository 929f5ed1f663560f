//! The rows, named as in the table of costs they are compared with.

use sel4_sys::{CapRights, Invocation, MessageInfo, ObjectType, init_slot, syscall, vm_attributes};
use testbed::guest::instruction;
use testbed::pmu::cycles;
use testbed::{Env, ThreadSpec, println};

/// Repetitions of a short operation; the mean is printed.
const ROUNDS: u64 = 64;
/// FPU-using threads are the default, as in the recorded figures.
const SERVER_PRIORITY: u64 = 254;

fn row(name: &str, value: u64) {
    println!("bench {name} {value} instructions");
}

/// The mean of `ROUNDS` runs, after two that warm up, less the counter's overhead.
fn mean(overhead: u64, mut operation: impl FnMut()) -> u64 {
    for _ in 0..2 {
        operation();
    }
    let mut sum = 0u64;
    for _ in 0..ROUNDS {
        let start = cycles();
        operation();
        sum += cycles().wrapping_sub(start).saturating_sub(overhead);
    }
    sum / ROUNDS
}

/// One run, less the counter's overhead.
fn once(overhead: u64, operation: impl FnOnce()) -> u64 {
    let start = cycles();
    operation();
    cycles().wrapping_sub(start).saturating_sub(overhead)
}

/// Packs two slots for a spawned thread's argument.
const fn pair(first: u64, second: u64) -> u64 {
    first << 32 | second
}

extern "C" fn echo(argument: u64) -> ! {
    let (endpoint, reply) = (argument >> 32, argument & 0xffff_ffff);
    let mut message = syscall::recv(endpoint, reply);
    loop {
        message = syscall::reply_recv(
            endpoint,
            MessageInfo::new(0, 0, 0, message.info.length()),
            message.words,
            reply,
        );
    }
}

/// Signals readiness on its notification once, then serves: it becomes passive when its context is taken away.
extern "C" fn passive_echo(argument: u64) -> ! {
    let (endpoint, reply) = (argument >> 32, argument & 0xffff);
    let ready = (argument >> 16) & 0xffff;
    let mut message =
        syscall::nb_send_recv(ready, MessageInfo::new(0, 0, 0, 0), [0; 4], endpoint, reply);
    loop {
        message = syscall::reply_recv(
            endpoint,
            MessageInfo::new(0, 0, 0, message.info.length()),
            message.words,
            reply,
        );
    }
}

extern "C" fn answer_signals(argument: u64) -> ! {
    let (mine, yours) = (argument >> 32, argument & 0xffff_ffff);
    loop {
        syscall::wait(mine);
        syscall::signal(yours);
    }
}

fn ipc(env: &mut Env, overhead: u64) {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let reply = env.object(ObjectType::Reply, 0);
    let ready = env.object(ObjectType::Notification, 0);
    let argument = pair(endpoint, ready << 16 | reply);
    let spec = ThreadSpec {
        priority: SERVER_PRIORITY,
        ..ThreadSpec::default()
    };
    let server = env.spawn(spec, passive_echo, argument);
    // Its priority is above ours, so by now it waits in its Recv; without its context it goes on waiting, passively.
    syscall::wait(ready);
    let authority = [init_slot::TCB, 0, 0];
    let _ = env.invoke(
        server,
        Invocation::TcbSetSchedParams,
        &[SERVER_PRIORITY, SERVER_PRIORITY],
        &authority,
    );
    for (name, words) in [("ipc_call_reply_0", 0u64), ("ipc_call_reply_4", 4)] {
        let info = MessageInfo::new(0, 0, 0, words);
        row(
            name,
            mean(overhead, || {
                syscall::call(endpoint, info, [1, 2, 3, 4]);
            }),
        );
    }
    let ten = [0u64; 10];
    row(
        "ipc_call_reply_10",
        mean(overhead, || {
            testbed::invoke(endpoint, 0, &ten, &[]);
        }),
    );

    let active_endpoint = env.object(ObjectType::Endpoint, 0);
    let active_reply = env.object(ObjectType::Reply, 0);
    env.spawn(spec, echo, pair(active_endpoint, active_reply));
    let info = MessageInfo::new(0, 0, 0, 0);
    row(
        "ipc_call_reply_0_active",
        mean(overhead, || {
            syscall::call(active_endpoint, info, [0; 4]);
        }),
    );
}

fn notifications(env: &mut Env, overhead: u64) {
    let alone = env.object(ObjectType::Notification, 0);
    row(
        "signal_no_waiter",
        mean(overhead, || syscall::signal(alone)),
    );
    row("wait_signalled", {
        let mut sum = 0;
        for _ in 0..ROUNDS {
            syscall::signal(alone);
            sum += once(overhead, || {
                syscall::wait(alone);
            });
        }
        sum / ROUNDS
    });
    row(
        "poll_empty",
        mean(overhead, || {
            syscall::nb_wait(alone);
        }),
    );
    let there = env.object(ObjectType::Notification, 0);
    let back = env.object(ObjectType::Notification, 0);
    let spec = ThreadSpec {
        priority: SERVER_PRIORITY,
        ..ThreadSpec::default()
    };
    env.spawn(spec, answer_signals, pair(there, back));
    row(
        "signal_wait_round_trip",
        mean(overhead, || {
            syscall::signal(there);
            syscall::wait(back);
        }),
    );
    row("yield_alone", mean(overhead, syscall::yield_now));
}

fn capabilities(env: &mut Env, overhead: u64) {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let (a, b) = (env.slot(), env.slot());
    let mut copy = 0;
    let mut delete = 0;
    let mut shift = 0;
    for _ in 0..ROUNDS {
        copy += once(overhead, || {
            env.copy_to(a, endpoint, CapRights::ALL);
        });
        shift += once(overhead, || {
            env.invoke(
                init_slot::CNODE,
                Invocation::CNodeMove,
                &[b, 64, a, 64],
                &[init_slot::CNODE],
            );
        });
        delete += once(overhead, || {
            env.delete(b);
        });
    }
    row("cnode_copy", copy / ROUNDS);
    row("cnode_move", shift / ROUNDS);
    row("cnode_delete", delete / ROUNDS);
    row(
        "cnode_revoke_none",
        mean(overhead, || {
            env.revoke(endpoint);
        }),
    );

    let frame = env.object(ObjectType::SmallPage, 0);
    let room = env.window(4096);
    let (mut map, mut unmap) = (0, 0);
    for _ in 0..ROUNDS {
        map += once(overhead, || {
            env.map(
                frame,
                init_slot::VSPACE,
                room,
                CapRights::READ_WRITE,
                vm_attributes::DEFAULT,
            );
        });
        unmap += once(overhead, || {
            env.invoke(frame, Invocation::ArmPageUnmap, &[], &[]);
        });
    }
    row("map_4kib", map / ROUNDS);
    row("unmap_4kib", unmap / ROUNDS);

    let first = env.slots(512);
    for slot in first..first + 512 {
        env.copy_to(slot, frame, CapRights::READ);
    }
    row(
        "revoke_512_copies",
        once(overhead, || {
            env.revoke(frame);
        }),
    );
}

fn retype(env: &mut Env, overhead: u64) {
    let untyped = env.object(ObjectType::Untyped, 21);
    let slot = env.slot();
    row(
        "retype_2mib_fresh",
        once(overhead, || {
            env.retype(untyped, ObjectType::LargePage, 0, slot, 1);
        }),
    );
    row(
        "revoke_2mib",
        once(overhead, || {
            env.revoke(untyped);
        }),
    );
    row(
        "clean_2mib",
        once(overhead, || {
            env.retype(untyped, ObjectType::LargePage, 0, slot, 1);
        }),
    );
}

fn guests(env: &mut Env, overhead: u64) {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let reply = env.object(ObjectType::Reply, 0);
    let faults = env.mint(endpoint, CapRights::ALL, 1);
    let bare = MessageInfo::new(0, 0, 0, 0);
    let exits = [
        ("hvc_round_trip", [instruction::HVC, instruction::back(1)]),
        ("wfi_round_trip", [instruction::WFI, instruction::back(1)]),
        (
            "unmapped_round_trip",
            [instruction::LOAD_W1_X2, instruction::back(1)],
        ),
    ];
    for (name, code) in exits {
        let guest = env.bare_guest(&code, faults, 100);
        env.resume(guest.tcb);
        syscall::recv(endpoint, reply);
        row(
            name,
            mean(overhead, || {
                syscall::reply_recv(endpoint, bare, [0; 4], reply);
            }),
        );
        let _ = env.invoke(guest.tcb, Invocation::TcbSuspend, &[], &[]);
    }
    let guest = env.bare_guest(
        &[instruction::LOAD_W1_X2, instruction::back(1)],
        faults,
        100,
    );
    env.resume(guest.tcb);
    syscall::recv(endpoint, reply);
    // pc, sp, spsr, x0, x1 are the first five registers: read them, put the value into x1, step over, let it run.
    row(
        "vmm_mmio_read_round_trip",
        mean(overhead, || {
            let read = env.invoke(guest.tcb, Invocation::TcbReadRegisters, &[0, 5], &[]);
            let [pc, sp, spsr, x0] = read.words;
            env.invoke(
                guest.tcb,
                Invocation::TcbWriteRegisters,
                &[1, 5, pc + 4, sp, spsr, x0, 0x1234],
                &[],
            );
            syscall::recv(endpoint, reply);
        }),
    );
    let _ = env.invoke(guest.tcb, Invocation::TcbSuspend, &[], &[]);
    let vcpu = guest.vcpu;
    row(
        "vcpu_read_reg",
        mean(overhead, || {
            env.invoke(vcpu, Invocation::ArmVcpuReadReg, &[0], &[]);
        }),
    );
}

/// All rows.
pub fn run(env: &mut Env) {
    // Ours is the lowest priority of the run, so that whoever answers runs at once.
    let _ = env.invoke(
        init_slot::TCB,
        Invocation::TcbSetPriority,
        &[150],
        &[init_slot::TCB],
    );
    testbed::pmu::start();
    let overhead = testbed::pmu::overhead();
    notifications(env, overhead);
    capabilities(env, overhead);
    retype(env, overhead);
    guests(env, overhead);
    ipc(env, overhead);
    println!("bench end");
}
