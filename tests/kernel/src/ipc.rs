//! Endpoints, notifications and capability transfer.

use crate::same;
use crate::suite::{Failure, Test};
use core::sync::atomic::{AtomicU64, Ordering};
use sel4_sys::{CapRights, Error, MessageInfo, ObjectType, init_slot, syscall};
use testbed::{Env, ThreadSpec, set_receive_slot};

/// The tests of this module.
pub const TESTS: &[Test] = &[
    ("ipc_call_returns_every_word", every_word),
    ("ipc_badge_tells_the_caller", badge),
    ("ipc_nbsend_without_receiver_is_dropped", nbsend_dropped),
    ("ipc_reply_object_answers_once", reply_once),
    (
        "ipc_capability_arrives_in_the_receive_slot",
        capability_transfer,
    ),
    ("ipc_capability_without_grant_is_not_sent", no_grant),
    (
        "ipc_capability_to_the_same_endpoint_is_unwrapped",
        unwrapped,
    ),
    ("notification_collects_badges", collects),
    ("notification_bound_to_a_thread_wakes_its_receive", bound),
    ("ipc_waiting_receivers_are_served_by_priority", by_priority),
    (
        "ipc_deleting_the_endpoint_wakes_the_waiter",
        deleted_endpoint,
    ),
];

const fn pack(endpoint: u64, reply: u64, extra: u64) -> u64 {
    endpoint << 40 | reply << 20 | extra
}

const fn unpack(word: u64) -> (u64, u64, u64) {
    (word >> 40, (word >> 20) & 0xf_ffff, word & 0xf_ffff)
}

/// Answers each call with its words inverted and the badge as the label.
extern "C" fn inverter(argument: u64) -> ! {
    let (endpoint, reply, _) = unpack(argument);
    let mut message = syscall::recv(endpoint, reply);
    loop {
        let length = message.info.length();
        let buffer = testbed::ipc_buffer();
        for index in 4..length as usize {
            invert(buffer, index);
        }
        let words = message.words.map(|word| !word);
        message = syscall::reply_recv(
            endpoint,
            MessageInfo::new(message.badge, 0, 0, length),
            words,
            reply,
        );
    }
}

#[allow(unsafe_code)]
fn invert(buffer: *mut sel4_sys::IpcBuffer, index: usize) {
    // SAFETY: a thread's own IPC buffer, mapped while it runs.
    unsafe {
        if let Some(word) = (*buffer).msg.get_mut(index) {
            *word = !*word;
        }
    }
}

#[allow(unsafe_code)]
fn word_of_buffer(index: usize) -> u64 {
    // SAFETY: as in `invert`.
    unsafe {
        (*testbed::ipc_buffer())
            .msg
            .get(index)
            .copied()
            .unwrap_or(0)
    }
}

fn server(env: &mut Env, entry: extern "C" fn(u64) -> !, extra: u64) -> u64 {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let reply = env.object(ObjectType::Reply, 0);
    env.spawn(ThreadSpec::default(), entry, pack(endpoint, reply, extra));
    endpoint
}

fn every_word(env: &mut Env) -> Result<(), Failure> {
    let endpoint = server(env, inverter, 0);
    let mut words = [0u64; 120];
    for (index, word) in words.iter_mut().enumerate() {
        *word = 0x1000 + index as u64;
    }
    for length in [0usize, 1, 4, 5, 64, 120] {
        let answer = testbed::invoke(endpoint, 3, &words[..length], &[]);
        same!(answer.length, length as u64);
        for index in 0..length {
            let got = if index < 4 {
                answer.words[index]
            } else {
                word_of_buffer(index)
            };
            same!(got, !(0x1000 + index as u64));
        }
    }
    Ok(())
}

fn badge(env: &mut Env) -> Result<(), Failure> {
    let endpoint = server(env, inverter, 0);
    let badged = env.mint(endpoint, CapRights::ALL, 0x4321);
    same!(testbed::invoke(badged, 0, &[], &[]).label, 0x4321);
    same!(testbed::invoke(endpoint, 0, &[], &[]).label, 0);
    Ok(())
}

fn nbsend_dropped(env: &mut Env) -> Result<(), Failure> {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let reply = env.object(ObjectType::Reply, 0);
    syscall::nb_send(endpoint, MessageInfo::new(1, 0, 0, 1), [1, 0, 0, 0]);
    let nothing = syscall::nb_recv(endpoint, reply);
    same!(nothing.badge, 0);
    Ok(())
}

/// Receives one call, answers it twice, and records what happens through the second answer.
extern "C" fn answers_twice(argument: u64) -> ! {
    let (endpoint, reply, _) = unpack(argument);
    syscall::recv(endpoint, reply);
    syscall::send(reply, MessageInfo::new(11, 0, 0, 0), [0; 4]);
    syscall::send(reply, MessageInfo::new(22, 0, 0, 0), [0; 4]);
    let message = syscall::recv(endpoint, reply);
    syscall::reply_recv(
        endpoint,
        MessageInfo::new(33 + message.badge, 0, 0, 0),
        [0; 4],
        reply,
    );
    testbed::park()
}

fn reply_once(env: &mut Env) -> Result<(), Failure> {
    let endpoint = server(env, answers_twice, 0);
    same!(testbed::invoke(endpoint, 0, &[], &[]).label, 11);
    same!(testbed::invoke(endpoint, 0, &[], &[]).label, 33);
    Ok(())
}

/// Receives with a receive slot; answers with what arrived: label = capsUnwrapped, word 0 = extraCaps.
extern "C" fn taker(argument: u64) -> ! {
    let (endpoint, reply, slot) = unpack(argument);
    set_receive_slot(init_slot::CNODE, slot, 64);
    let mut message = syscall::recv(endpoint, reply);
    loop {
        let answer = [message.info.extra_caps(), caps_or_badge(), 0, 0];
        let info = MessageInfo::new(message.info.caps_unwrapped(), 0, 0, 2);
        message = syscall::reply_recv(endpoint, info, answer, reply);
    }
}

#[allow(unsafe_code)]
fn caps_or_badge() -> u64 {
    // SAFETY: as in `invert`.
    unsafe { (*testbed::ipc_buffer()).caps_or_badges[0] }
}

fn capability_transfer(env: &mut Env) -> Result<(), Failure> {
    let slot = env.slot();
    let endpoint = server(env, taker, slot);
    let notification = env.object(ObjectType::Notification, 0);
    let badged = env.mint(notification, CapRights::ALL, 0x99);
    let answer = testbed::invoke(endpoint, 0, &[], &[badged]);
    same!(answer.words[0], 1);
    same!(answer.label, 0);
    syscall::signal(slot);
    same!(syscall::nb_wait(notification).badge, 0x99);
    // The slot is taken: a second capability does not arrive.
    same!(testbed::invoke(endpoint, 0, &[], &[badged]).words[0], 0);
    Ok(())
}

fn no_grant(env: &mut Env) -> Result<(), Failure> {
    let slot = env.slot();
    let endpoint = server(env, taker, slot);
    let weak = env.copy(endpoint, CapRights::WRITE.union(CapRights::GRANT_REPLY));
    let notification = env.object(ObjectType::Notification, 0);
    same!(testbed::invoke(weak, 0, &[], &[notification]).words[0], 0);
    let probe = env.slot();
    same!(
        env.copy_to(probe, slot, CapRights::ALL).label,
        Error::FailedLookup.word()
    );
    Ok(())
}

fn unwrapped(env: &mut Env) -> Result<(), Failure> {
    let slot = env.slot();
    let endpoint = server(env, taker, slot);
    let badged = env.mint(endpoint, CapRights::ALL, 0x1717);
    let answer = testbed::invoke(endpoint, 0, &[], &[badged]);
    same!(answer.label, 1);
    same!(answer.words[1], 0x1717);
    Ok(())
}

fn collects(env: &mut Env) -> Result<(), Failure> {
    let notification = env.object(ObjectType::Notification, 0);
    for badge in [1, 4, 16] {
        let badged = env.mint(notification, CapRights::WRITE, badge);
        syscall::signal(badged);
    }
    same!(syscall::wait(notification).badge, 21);
    same!(syscall::nb_wait(notification).badge, 0);
    Ok(())
}

fn bound(env: &mut Env) -> Result<(), Failure> {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let reply = env.object(ObjectType::Reply, 0);
    let notification = env.object(ObjectType::Notification, 0);
    let badged = env.mint(notification, CapRights::ALL, 0x40);
    let bind = sel4_sys::Invocation::TcbBindNotification;
    same!(
        env.invoke(init_slot::TCB, bind, &[], &[notification]).label,
        0
    );
    same!(
        u64::from(env.invoke(init_slot::TCB, bind, &[], &[notification]).label != 0),
        1
    );
    syscall::signal(badged);
    same!(syscall::recv(endpoint, reply).badge, 0x40);
    let unbind = sel4_sys::Invocation::TcbUnbindNotification;
    same!(env.invoke(init_slot::TCB, unbind, &[], &[]).label, 0);
    Ok(())
}

static ORDER: AtomicU64 = AtomicU64::new(0);

/// Receives once and appends its number to `ORDER`.
extern "C" fn appends(argument: u64) -> ! {
    let (endpoint, reply, number) = unpack(argument);
    syscall::recv(endpoint, reply);
    let order = ORDER.load(Ordering::SeqCst);
    ORDER.store(order << 4 | number, Ordering::SeqCst);
    let idle = MessageInfo::new(0, 0, 0, 0);
    syscall::send(reply, idle, [0; 4]);
    testbed::park()
}

fn by_priority(env: &mut Env) -> Result<(), Failure> {
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let own = sel4_sys::Invocation::TcbSetPriority;
    same!(
        env.invoke(init_slot::TCB, own, &[100], &[init_slot::TCB])
            .label,
        0
    );
    for (number, priority) in [(1, 150), (2, 170), (3, 160), (4, 170)] {
        let reply = env.object(ObjectType::Reply, 0);
        let spec = ThreadSpec {
            priority,
            ..ThreadSpec::default()
        };
        env.spawn(spec, appends, pack(endpoint, reply, number));
    }
    ORDER.store(0, Ordering::SeqCst);
    for _ in 0..4 {
        testbed::invoke(endpoint, 0, &[], &[]);
    }
    same!(
        env.invoke(init_slot::TCB, own, &[255], &[init_slot::TCB])
            .label,
        0
    );
    same!(ORDER.load(Ordering::SeqCst), 0x2431);
    Ok(())
}

fn deleted_endpoint(env: &mut Env) -> Result<(), Failure> {
    // The waiter's Recv is cancelled and its system call made again; its capability is gone, so it faults to our endpoint.
    let faults = env.object(ObjectType::Endpoint, 0);
    let reply = env.object(ObjectType::Reply, 0);
    let endpoint = env.object(ObjectType::Endpoint, 0);
    let fault_cap = env.mint(faults, CapRights::ALL, 0x31);
    let spec = ThreadSpec {
        fault_endpoint: fault_cap,
        ..ThreadSpec::default()
    };
    let its_reply = env.object(ObjectType::Reply, 0);
    env.spawn(spec, appends, pack(endpoint, its_reply, 9));
    let own = sel4_sys::Invocation::TcbSetPriority;
    same!(
        env.invoke(init_slot::TCB, own, &[100], &[init_slot::TCB])
            .label,
        0
    );
    same!(env.delete(endpoint).label, 0);
    let fault = syscall::recv(faults, reply);
    same!(
        env.invoke(init_slot::TCB, own, &[255], &[init_slot::TCB])
            .label,
        0
    );
    same!(fault.badge, 0x31);
    same!(fault.info.label(), sel4_sys::Fault::CapFault.word());
    Ok(())
}
