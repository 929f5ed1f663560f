//! Calls, signals and faults between threads.

use crate::measure::{Clock, delete, row};
use sel4_sys::{Invocation, MessageInfo, ObjectType, UserContext, init_slot, syscall, tcb_flags};
use testbed::{Env, ThreadSpec, invoke_fixed};

/// Above the measuring thread's, so that whoever answers runs at once.
const SERVER_PRIORITY: u64 = 254;
/// Nothing is ever mapped here.
const HOLE: u64 = 0x20_0000_0000;

const EMPTY: MessageInfo = MessageInfo::new(0, 0, 0, 0);

/// The slots that a server is told in its argument, sixteen bits each.
#[derive(Clone, Copy)]
struct Told {
    endpoint: u64,
    reply: u64,
    /// Signalled once by a server that becomes passive.
    ready: u64,
    /// Where a capability goes that comes with a call.
    received: u64,
}

impl Told {
    const fn argument(self) -> u64 {
        self.endpoint << 48 | self.reply << 32 | self.ready << 16 | self.received
    }

    const fn from_argument(argument: u64) -> Self {
        Self {
            endpoint: argument >> 48,
            reply: argument >> 32 & 0xffff,
            ready: argument >> 16 & 0xffff,
            received: argument & 0xffff,
        }
    }
}

/// Answers each call with as many words as it had.
fn serve(told: Told, first: syscall::Registers) -> ! {
    let mut message = first;
    loop {
        message = syscall::reply_recv(
            told.endpoint,
            MessageInfo::new(0, 0, 0, message.info.length()),
            message.words,
            told.reply,
        );
    }
}

extern "C" fn active(argument: u64) -> ! {
    let told = Told::from_argument(argument);
    testbed::set_receive_slot(init_slot::CNODE, told.received, 64);
    serve(told, syscall::recv(told.endpoint, told.reply))
}

/// Signals readiness once, then serves: it becomes passive when its context is taken away.
extern "C" fn passive(argument: u64) -> ! {
    let told = Told::from_argument(argument);
    testbed::set_receive_slot(init_slot::CNODE, told.received, 64);
    let first = syscall::nb_send_recv(told.ready, EMPTY, [0; 4], told.endpoint, told.reply);
    serve(told, first)
}

extern "C" fn answer_signals(argument: u64) -> ! {
    let (mine, yours) = (argument >> 32, argument & 0xffff_ffff);
    loop {
        syscall::wait(mine);
        syscall::signal(yours);
    }
}

/// A thread without time of its own that waits for calls.
pub fn passive_thread(
    env: &mut Env,
    entry: extern "C" fn(u64) -> !,
    argument: u64,
    ready: u64,
) -> u64 {
    let spec = ThreadSpec {
        priority: SERVER_PRIORITY,
        ..ThreadSpec::default()
    };
    let server = env.spawn(spec, entry, argument);
    // Its priority is above ours, so by now it waits in its Recv; without its context it goes on waiting, passively.
    syscall::wait(ready);
    let priorities = [SERVER_PRIORITY, SERVER_PRIORITY];
    let authority = [init_slot::TCB, 0, 0];
    let _ = env.invoke(
        server,
        Invocation::TcbSetSchedParams,
        &priorities,
        &authority,
    );
    server
}

fn set_flags(env: &Env, tcb: u64, clear: u64, set: u64) {
    let _ = env.invoke(tcb, Invocation::TcbSetFlags, &[clear, set], &[]);
}

/// Calls with 0, 4, 10 words and with one capability.
fn calls(clock: Clock, names: [&str; 4], told: Told, capability: u64) {
    let endpoint = told.endpoint;
    row(
        names[0],
        clock.mean(|| {
            syscall::call(endpoint, EMPTY, [0; 4]);
        }),
    );
    row(
        names[1],
        clock.mean(|| {
            invoke_fixed(endpoint, 0, &[1, 2, 3, 4], &[]);
        }),
    );
    row(
        names[2],
        clock.mean(|| {
            invoke_fixed(endpoint, 0, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &[]);
        }),
    );
    row(
        names[3],
        clock.mean_with(
            || delete(told.received),
            || {
                invoke_fixed(endpoint, 0, &[], &[capability]);
            },
        ),
    );
}

/// Calls to servers.
pub fn ipc(env: &mut Env, clock: Clock) {
    let capability = env.object(ObjectType::Notification, 0);
    let told = Told {
        endpoint: env.object(ObjectType::Endpoint, 0),
        reply: env.object(ObjectType::Reply, 0),
        ready: env.object(ObjectType::Notification, 0),
        received: env.slot(),
    };
    let server = passive_thread(env, passive, told.argument(), told.ready);
    let names = [
        "ipc_call_reply_0",
        "ipc_call_reply_4",
        "ipc_call_reply_10",
        "ipc_call_reply_0_one_cap",
    ];
    calls(clock, names, told, capability);
    let words = [7u64; 64];
    row(
        "ipc_call_reply_64",
        clock.mean(|| {
            invoke_fixed(told.endpoint, 0, &words, &[]);
        }),
    );
    for tcb in [server, init_slot::TCB] {
        set_flags(env, tcb, 0, tcb_flags::FPU_DISABLED);
    }
    let names = [
        "ipc_call_reply_0_no_fpu",
        "ipc_call_reply_4_no_fpu",
        "ipc_call_reply_10_no_fpu",
        "ipc_call_reply_0_one_cap_no_fpu",
    ];
    calls(clock, names, told, capability);
    set_flags(env, init_slot::TCB, tcb_flags::FPU_DISABLED, 0);

    let told = Told {
        endpoint: env.object(ObjectType::Endpoint, 0),
        reply: env.object(ObjectType::Reply, 0),
        ready: 0,
        received: env.slot(),
    };
    let spec = ThreadSpec {
        priority: SERVER_PRIORITY,
        ..ThreadSpec::default()
    };
    env.spawn(spec, active, told.argument());
    let names = [
        "ipc_call_reply_0_active",
        "ipc_call_reply_4_active",
        "ipc_call_reply_10_active",
        "ipc_call_reply_0_one_cap_active",
    ];
    calls(clock, names, told, capability);
}

/// Signals, and Yield.
pub fn notifications(env: &mut Env, clock: Clock) {
    let alone = env.object(ObjectType::Notification, 0);
    row("signal_no_waiter", clock.mean(|| syscall::signal(alone)));
    let signalled = clock.mean_with(
        || syscall::signal(alone),
        || {
            syscall::wait(alone);
        },
    );
    row("wait_signalled", signalled);
    row(
        "poll_empty",
        clock.mean(|| {
            syscall::nb_wait(alone);
        }),
    );
    let there = env.object(ObjectType::Notification, 0);
    let back = env.object(ObjectType::Notification, 0);
    let spec = ThreadSpec {
        priority: SERVER_PRIORITY,
        ..ThreadSpec::default()
    };
    env.spawn(spec, answer_signals, there << 32 | back);
    row(
        "signal_wait_round_trip",
        clock.mean(|| {
            syscall::signal(there);
            syscall::wait(back);
        }),
    );
    row("yield_alone", clock.mean(syscall::yield_now));
}

/// Parks at once.
pub extern "C" fn never(_: u64) -> ! {
    testbed::park()
}

/// Sends to where the CSpace has no slot, again and again: a fault each time.
extern "C" fn sends_to_nothing(_: u64) -> ! {
    loop {
        syscall::send(u64::MAX, EMPTY, [0; 4]);
    }
}

/// What threads do wrong: the row and where they do it.
enum Wrong {
    /// At this address, with registers as they come.
    At(u64),
    /// In this function.
    In(extern "C" fn(u64) -> !),
}

/// Threads that do something wrong again and again; the handler's answer has nothing in it.
pub fn faults(env: &mut Env, clock: Clock) {
    // SVC with number 0, which no system call has; and an instruction that is none (Arm ARM C6.2.390: UDF).
    let [unknown, undefined] = [[0xd400_0001], [0]].map(|code| env.code(&code));
    for (name, wrong) in [
        ("user_page_fault", Wrong::At(HOLE)),
        ("cap_fault_round_trip", Wrong::In(sends_to_nothing)),
        ("unknown_syscall_round_trip", Wrong::At(unknown)),
        ("user_exception_round_trip", Wrong::At(undefined)),
    ] {
        let endpoint = env.object(ObjectType::Endpoint, 0);
        let reply = env.object(ObjectType::Reply, 0);
        let spec = ThreadSpec {
            priority: 100,
            fault_endpoint: endpoint,
            ..ThreadSpec::default()
        };
        let entry = match wrong {
            Wrong::In(entry) => entry,
            Wrong::At(_) => never,
        };
        let thread = env.thread(spec, entry, 0);
        if let Wrong::At(pc) = wrong {
            let lost = UserContext {
                pc,
                ..UserContext::default()
            };
            env.write_registers(thread, &lost);
        }
        env.resume(thread);
        syscall::recv(endpoint, reply);
        row(
            name,
            clock.mean(|| syscall::reply_recv(endpoint, EMPTY, [0; 4], reply)),
        );
        let _ = env.invoke(thread, Invocation::TcbSuspend, &[], &[]);
    }
}

/// Receives, and does nothing about it.
extern "C" fn receives(argument: u64) -> ! {
    loop {
        syscall::recv(argument >> 32, argument & 0xffff_ffff);
    }
}

/// Receives on one endpoint and sends to the other.
extern "C" fn passes_on(argument: u64) -> ! {
    let (from, to, reply) = (argument >> 32, argument >> 16 & 0xffff, argument & 0xffff);
    loop {
        syscall::recv(from, reply);
        syscall::nb_send(to, EMPTY, [0; 4]);
    }
}

/// Messages that nobody answers through a reply object.
pub fn one_way(env: &mut Env, clock: Clock) {
    let spec = ThreadSpec {
        priority: SERVER_PRIORITY,
        ..ThreadSpec::default()
    };
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let reply = env.object(ObjectType::Reply, 0);
    row(
        "nb_send_no_receiver",
        clock.mean(|| syscall::nb_send(endpoint, EMPTY, [0; 4])),
    );
    row(
        "nb_recv_empty",
        clock.mean(|| syscall::nb_recv(endpoint, reply)),
    );
    env.spawn(spec, receives, endpoint << 32 | reply);
    row(
        "send_to_receiver",
        clock.mean(|| syscall::send(endpoint, EMPTY, [0; 4])),
    );
    row(
        "nb_send_to_receiver",
        clock.mean(|| syscall::nb_send(endpoint, EMPTY, [0; 4])),
    );

    let [there, back] = [(); 2].map(|()| env.object(ObjectType::Endpoint, 0));
    let [theirs, ours] = [(); 2].map(|()| env.object(ObjectType::Reply, 0));
    env.spawn(spec, passes_on, there << 32 | back << 16 | theirs);
    row(
        "nb_send_recv_round_trip",
        clock.mean(|| syscall::nb_send_recv(there, EMPTY, [0; 4], back, ours)),
    );
    let [there, back] = [(); 2].map(|()| env.object(ObjectType::Notification, 0));
    env.spawn(spec, answer_signals, there << 32 | back);
    row(
        "nb_send_wait_round_trip",
        clock.mean(|| syscall::nb_send_wait(there, EMPTY, [0; 4], back)),
    );
}
