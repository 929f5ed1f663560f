//! IPC: order, words, capabilities, rights, answers.

use super::stage::{PC, Stage, Thread};
use crate::object::ThreadState;
use sel4_sys::{Invocation as Label, ObjectType, Syscall};
use std::vec;
use std::vec::Vec;

const ALL: u64 = 15;
const WRITE: u64 = 1;
const READ: u64 = 2;
const GRANT: u64 = 4;
const GRANT_REPLY: u64 = 8;

/// A boss that waits on its own notification, so that the others run.
pub(super) struct Play {
    pub s: Stage,
    pause: u64,
    pub ep: u64,
}

impl Play {
    pub fn new() -> Self {
        let s = Stage::new();
        let pause = s.object(ObjectType::Notification);
        let ep = s.object(ObjectType::Endpoint);
        Self { s, pause, ep }
    }

    pub fn go(&self) {
        self.s.boss_waits(self.pause);
    }

    pub fn stop(&self) {
        self.s.wake_boss(self.pause);
    }

    /// A server of this priority without scheduling context, waiting on the endpoint with a reply object.
    fn server(&self, priority: u64) -> (Thread, u64) {
        let reply = self.s.object(ObjectType::Reply);
        let server = self.s.active(priority);
        self.go();
        self.s.recv(server.tcb, self.ep, reply);
        self.stop();
        self.s.must(
            server.sc,
            Label::SchedContextUnbindObject,
            &[],
            &[server.cap],
        );
        (server, reply)
    }
}

#[test]
fn call_to_a_passive_server_and_back() {
    let p = Play::new();
    let (server, reply) = p.server(120);
    let badged = p.s.minted(p.ep, ALL, 0x77);
    let client = p.s.active(100);
    p.go();
    let sc = client.tcb.thread.sched_context.get();
    p.s.message(client.tcb, 5, &[1, 2, 3], &[]);
    p.s.syscall(client.tcb, Syscall::Call, badged, 0);
    assert_eq!(p.s.current(), Some(server.tcb));
    assert_eq!(server.tcb.thread.sched_context.get(), sc);
    assert_eq!(p.s.state(client), ThreadState::BlockedOnReply);
    assert_eq!(p.s.received(server.tcb), (5, vec![1, 2, 3]));
    assert_eq!(p.s.badge(server.tcb), 0x77);

    p.s.message(server.tcb, 9, &[4], &[]);
    p.s.syscall(server.tcb, Syscall::ReplyRecv, p.ep, reply);
    assert_eq!(p.s.current(), Some(client.tcb));
    assert_eq!(client.tcb.thread.sched_context.get(), sc);
    assert_eq!(server.tcb.thread.sched_context.get(), None);
    assert_eq!(p.s.received(client.tcb), (9, vec![4]));
    assert_eq!(p.s.badge(client.tcb), 0);
    assert_eq!(client.tcb.context.pc.get(), PC + 4);
    // And once more, from the server's waiting in ReplyRecv.
    p.s.message(client.tcb, 1, &[], &[]);
    p.s.syscall(client.tcb, Syscall::Call, p.ep, 0);
    assert_eq!(p.s.current(), Some(server.tcb));
    assert_eq!(p.s.badge(server.tcb), 0);
}

#[test]
fn only_the_words_of_the_message_are_copied() {
    let p = Play::new();
    let (server, _) = p.server(120);
    let client = p.s.active(100);
    p.go();
    for n in 2..6 {
        server.tcb.context.x[n].set(0xdead);
        client.tcb.context.x[n].set(n as u64);
    }
    client.tcb.context.x[1].set(2);
    p.s.syscall(client.tcb, Syscall::Call, p.ep, 0);
    let x: Vec<_> = (2..6).map(|n| server.tcb.context.x[n].get()).collect();
    assert_eq!(x, [2, 3, 0xdead, 0xdead]);
}

#[test]
fn long_messages_need_both_buffers() {
    let p = Play::new();
    let words: Vec<u64> = (1000..1064).collect();
    let (server, reply) = p.server(120);
    let client = p.s.active(100);
    p.go();
    p.s.send(client.tcb, Syscall::Call, p.ep, &words);
    assert_eq!(p.s.received(server.tcb).1, words);
    p.s.send(server.tcb, Syscall::Send, reply, &words[..10]);
    assert_eq!(p.s.received(client.tcb).1, &words[..10]);
}

#[test]
fn a_message_of_127_words_is_one_of_120() {
    let p = Play::new();
    let (server, _) = p.server(120);
    let client = p.s.active(100);
    p.go();
    p.s.message(client.tcb, 3, &[7; 120], &[]);
    client.tcb.context.x[1].set(3 << 12 | 127);
    p.s.syscall(client.tcb, Syscall::Call, p.ep, 0);
    let (label, words) = p.s.received(server.tcb);
    assert_eq!((label, words.len()), (3, 120));
    assert!(words.iter().all(|&w| w == 7));
}

#[test]
fn without_a_buffer_four_words_arrive() {
    let p = Play::new();
    let (server, reply) = p.server(120);
    let client = p.s.active(100);
    p.s.must(client.cap, Label::TcbSetIpcBuffer, &[0], &[client.cap]);
    p.go();
    client.tcb.context.x[1].set(10);
    p.s.syscall(client.tcb, Syscall::Call, p.ep, 0);
    assert_eq!(p.s.received(server.tcb).1.len(), 4);
    p.s.send(server.tcb, Syscall::Send, reply, &[1, 2, 3, 4, 5, 6]);
    assert_eq!(p.s.received(client.tcb), (0, vec![1, 2, 3, 4]));
}

#[test]
fn deleting_the_buffer_frame_is_noticed() {
    let p = Play::new();
    let (server, _) = p.server(120);
    let client = p.s.passive(100);
    assert_ne!(client.tcb.thread.ipc_buffer_kernel.get(), 0);
    // The frame's own slot lies between the scheduling context and the thread's next object.
    let frame = client.sc + 1;
    p.s.must(
        crate::check::fixture::slots::CNODE,
        Label::CNodeRevoke,
        &[frame, 64],
        &[],
    );
    assert_eq!(client.tcb.thread.ipc_buffer_kernel.get(), 0);
    assert_ne!(server.tcb.thread.ipc_buffer_kernel.get(), 0);
}

#[test]
fn senders_are_served_by_priority_then_in_order() {
    let p = Play::new();
    let senders: Vec<_> = [10, 30, 20, 30, 10].map(|prio| p.s.active(prio)).into();
    let badged: Vec<_> = (1..6).map(|b| p.s.minted(p.ep, ALL, b)).collect();
    p.go();
    // They run by priority; equals in the order in which they were started last to first, so each takes its own badge.
    for _ in 0..5 {
        let current = p.s.current().unwrap();
        let n = senders.iter().position(|t| t.tcb == current).unwrap();
        p.s.send(current, Syscall::Send, badged[n], &[n as u64]);
    }
    assert_eq!(p.s.current(), None);
    p.stop();
    // Now one is raised above all others while it waits.
    p.s.must(
        senders[4].cap,
        Label::TcbSetPriority,
        &[40],
        &[crate::check::fixture::slots::TCB],
    );
    let mut got = Vec::new();
    for _ in 0..5 {
        let reply = p.s.object(ObjectType::Reply);
        p.s.syscall(p.s.boss(), Syscall::NBRecv, p.ep, reply);
        got.push(p.s.badge(p.s.boss()));
    }
    assert_eq!(got[0], 5, "the raised one comes first");
    assert_eq!(got[3..], [3, 1], "then priorities 20 and 10");
    let mut equal = got[1..3].to_vec();
    equal.sort_unstable();
    assert_eq!(equal, [2, 4]);
    p.s.syscall(
        p.s.boss(),
        Syscall::NBRecv,
        p.ep,
        p.s.object(ObjectType::Reply),
    );
    assert_eq!(p.s.badge(p.s.boss()), 0, "nobody is left");
}

#[test]
fn polling_sends_are_dropped_when_nobody_waits() {
    let p = Play::new();
    p.s.send(p.s.boss(), Syscall::NBSend, p.ep, &[1]);
    assert_eq!(p.s.current(), Some(p.s.boss()));
    p.s.syscall(p.s.boss(), Syscall::NBWait, p.ep, 0);
    assert_eq!(p.s.badge(p.s.boss()), 0);
}

#[test]
fn sending_without_the_right_is_an_error_for_calls_only() {
    let p = Play::new();
    let read_only = p.s.minted(p.ep, READ, 1);
    let (error, words) = p.s.invoke(read_only, Label::InvalidInvocation, &[], &[]);
    assert_eq!((error, words), (2, vec![0]));
    p.s.send(p.s.boss(), Syscall::Send, read_only, &[]);
    assert_eq!(p.s.current(), Some(p.s.boss()));
}

#[test]
fn a_call_without_grant_or_grant_reply_stops_the_caller() {
    let p = Play::new();
    let (server, _) = p.server(120);
    let write_only = p.s.minted(p.ep, WRITE, 3);
    let client = p.s.active(100);
    p.go();
    p.s.send(client.tcb, Syscall::Call, write_only, &[8]);
    assert_eq!(p.s.state(client), ThreadState::Inactive);
    assert_eq!(p.s.state(server), ThreadState::Running);
    assert_eq!(p.s.received(server.tcb).1, [8]);
    assert_eq!(p.s.current(), None, "nothing was donated");
    assert_eq!(client.tcb.context.pc.get(), PC, "resumed, it calls again");
}

/// A capability of the sender's in the receiver's slot.
fn transfer(rights: u64, sent: impl Fn(&Play) -> Vec<u64>) -> (Play, Thread, u64) {
    let p = Play::new();
    let (server, _) = p.server(120);
    let ep = p.s.minted(p.ep, rights, 0x55);
    let client = p.s.active(100);
    let dest = p.s.free_slot();
    let buffer = server.buffer;
    use crate::arch::Arch as _;
    p.s.w
        .k
        .arch
        .write_word(buffer + 1000, crate::check::fixture::slots::CNODE);
    p.s.w.k.arch.write_word(buffer + 1008, dest);
    p.s.w.k.arch.write_word(buffer + 1016, 64);
    p.go();
    let caps = sent(&p);
    p.s.message(client.tcb, 1, &[2], &caps);
    p.s.syscall(client.tcb, Syscall::Call, ep, 0);
    (p, server, dest)
}

fn caps_received(t: Thread) -> (u64, u64) {
    let info = t.tcb.context.x[1].get();
    (info >> 7 & 3, info >> 9 & 7)
}

#[test]
fn grant_transfers_one_capability() {
    let (p, server, dest) = transfer(WRITE | GRANT, |p| vec![p.pause]);
    assert_eq!(caps_received(server), (1, 0));
    assert_eq!(p.s.w.cap(dest), p.s.w.cap(p.pause));
}

#[test]
fn grant_reply_transfers_none() {
    let (p, server, dest) = transfer(WRITE | GRANT_REPLY, |p| vec![p.pause]);
    assert_eq!(caps_received(server), (0, 0));
    assert!(p.s.w.slot(dest).cap.get().is_null());
    assert_eq!(p.s.received(server.tcb).1, [2]);
}

#[test]
fn the_endpoints_own_capabilities_are_unwrapped() {
    use crate::arch::Arch as _;
    let (p, server, dest) = transfer(ALL, |p| vec![p.pause, p.s.minted(p.ep, ALL, 0x99)]);
    assert_eq!(caps_received(server), (2, 2));
    assert_eq!(p.s.w.cap(dest), p.s.w.cap(p.pause));
    assert_eq!(p.s.w.k.arch.read_word(server.buffer + 976 + 8), 0x99);
}

#[test]
fn the_second_real_capability_ends_the_transfer() {
    let (_p, server, _) = transfer(ALL, |p| vec![p.ep, p.pause, p.pause]);
    assert_eq!(caps_received(server), (2, 1));
}

#[test]
fn a_full_receive_slot_ends_the_transfer() {
    let p = Play::new();
    let (server, _) = p.server(120);
    let client = p.s.active(100);
    use crate::arch::Arch as _;
    p.s.w
        .k
        .arch
        .write_word(server.buffer + 1000, crate::check::fixture::slots::CNODE);
    p.s.w.k.arch.write_word(server.buffer + 1008, p.pause);
    p.s.w.k.arch.write_word(server.buffer + 1016, 64);
    p.go();
    p.s.message(client.tcb, 1, &[2], &[p.ep, p.pause]);
    p.s.syscall(client.tcb, Syscall::Call, p.ep, 0);
    assert_eq!(caps_received(server), (1, 1));
}

#[test]
fn a_transferred_capability_is_a_child_of_the_sent_one() {
    let (p, _, dest) = transfer(ALL, |p| vec![p.pause]);
    p.stop();
    p.s.must(
        crate::check::fixture::slots::CNODE,
        Label::CNodeRevoke,
        &[p.pause, 64],
        &[],
    );
    assert!(p.s.w.slot(dest).cap.get().is_null());
}

#[test]
fn a_reply_transfers_only_with_grant_on_the_reply_capability() {
    use crate::arch::Arch as _;
    for rights in [ALL, WRITE] {
        let p = Play::new();
        let (server, reply) = p.server(120);
        let client = p.s.active(100);
        let weak = p.s.free_slot();
        p.s.must(
            crate::check::fixture::slots::CNODE,
            Label::CNodeCopy,
            &[weak, 64, reply, 64, rights],
            &[crate::check::fixture::slots::CNODE],
        );
        let dest = p.s.free_slot();
        p.s.w
            .k
            .arch
            .write_word(client.buffer + 1000, crate::check::fixture::slots::CNODE);
        p.s.w.k.arch.write_word(client.buffer + 1008, dest);
        p.s.w.k.arch.write_word(client.buffer + 1016, 64);
        p.go();
        p.s.send(client.tcb, Syscall::Call, p.ep, &[]);
        p.s.message(server.tcb, 0, &[1], &[p.ep]);
        p.s.syscall(server.tcb, Syscall::Send, weak, 0);
        assert_eq!(!p.s.w.slot(dest).cap.get().is_null(), rights == ALL);
    }
}

#[test]
fn a_missing_extra_capability_is_a_fault_of_the_sender() {
    let p = Play::new();
    let handler = p.s.object(ObjectType::Endpoint);
    let client = p.s.active(100);
    // The handler has no room in its address space to be called otherwise.
    p.s.must(
        client.cap,
        Label::TcbSetSchedParams,
        &[255, 100],
        &[crate::check::fixture::slots::TCB, client.sc, handler],
    );
    let missing = 1 << 40;
    p.go();
    p.s.message(client.tcb, 1, &[2], &[p.ep, missing]);
    p.s.syscall(client.tcb, Syscall::Call, p.ep, 0);
    assert_eq!(p.s.state(client), ThreadState::BlockedOnSend);
    p.stop();
    p.s.syscall(
        p.s.boss(),
        Syscall::Recv,
        handler,
        p.s.object(ObjectType::Reply),
    );
    let (label, words) = p.s.received(p.s.boss());
    assert_eq!(label, 1);
    // pc, address, in receive phase, guard mismatch: bits left, guard found, bits found
    assert_eq!(words, [PC, missing, 0, 4, 64, 0, 56]);
}

#[test]
fn nb_send_recv_donates_to_a_passive_receiver() {
    let p = Play::new();
    let (server, own) = p.server(120);
    let other = p.s.object(ObjectType::Endpoint);
    let reply = p.s.object(ObjectType::Reply);
    let client = p.s.active(100);
    p.go();
    let sc = client.tcb.thread.sched_context.get();
    p.s.message(client.tcb, 4, &[11], &[]);
    client.tcb.context.x[8].set(p.ep);
    p.s.syscall(client.tcb, Syscall::NBSendRecv, other, reply);
    assert_eq!(p.s.current(), Some(server.tcb));
    assert_eq!(server.tcb.thread.sched_context.get(), sc);
    assert_eq!(client.tcb.thread.sched_context.get(), None);
    assert_eq!(p.s.state(client), ThreadState::BlockedOnReceive);
    assert_eq!(p.s.received(server.tcb), (4, vec![11]));
    // Back the same way: the data flows, no reply object is involved.
    server.tcb.context.x[8].set(other);
    p.s.message(server.tcb, 6, &[12], &[]);
    p.s.syscall(server.tcb, Syscall::NBSendRecv, p.ep, own);
    assert_eq!(p.s.current(), Some(client.tcb));
    assert_eq!(p.s.received(client.tcb), (6, vec![12]));
}

#[test]
fn nb_send_wait_uses_x6_as_destination() {
    let p = Play::new();
    let (server, _) = p.server(120);
    let client = p.s.active(100);
    p.go();
    p.s.message(client.tcb, 4, &[13], &[]);
    p.s.syscall(client.tcb, Syscall::NBSendWait, p.pause, p.ep);
    assert_eq!(p.s.received(server.tcb), (4, vec![13]));
    assert_eq!(p.s.state(client), ThreadState::BlockedOnNotification);
}

#[test]
fn the_first_half_invokes_no_objects() {
    let p = Play::new();
    let victim = p.s.active(10);
    p.s.message(p.s.boss(), Label::TcbSuspend.word(), &[], &[]);
    p.s.boss().context.x[8].set(victim.cap);
    p.s.syscall(
        p.s.boss(),
        Syscall::NBSendRecv,
        p.ep,
        p.s.object(ObjectType::Reply),
    );
    assert_eq!(p.s.state(victim), ThreadState::Running);
}

#[test]
fn receiving_needs_the_right_and_a_reply_object() {
    let p = Play::new();
    let write_only = p.s.minted(p.ep, WRITE, 1);
    for (cap, reply) in [
        (write_only, p.s.object(ObjectType::Reply)),
        (p.ep, p.pause),
        (crate::check::fixture::slots::TCB, p.pause),
    ] {
        let client = p.s.active(100);
        p.go();
        client.tcb.context.x[1].set(0);
        p.s.recv(client.tcb, cap, reply);
        assert_eq!(p.s.state(client), ThreadState::Inactive, "no handler");
        assert_eq!(client.tcb.context.pc.get(), PC);
        p.stop();
    }
}

#[test]
fn a_reply_object_in_use_is_taken_from_its_caller() {
    let p = Play::new();
    let (server, reply) = p.server(120);
    let client = p.s.active(100);
    p.go();
    p.s.send(client.tcb, Syscall::Call, p.ep, &[]);
    // The server receives again with the same object without having answered.
    p.s.recv(server.tcb, p.ep, reply);
    assert_eq!(p.s.state(client), ThreadState::Inactive);
    assert_eq!(client.tcb.context.pc.get(), PC);
    assert_eq!(p.s.reply(reply).tcb.get(), Some(server.tcb));
}

#[test]
fn a_deleted_endpoint_sends_everybody_back() {
    let p = Play::new();
    let threads: Vec<_> = (0..5).map(|n| p.s.active(50 + n)).collect();
    p.go();
    for _ in 0..5 {
        let current = p.s.current().unwrap();
        p.s.send(current, Syscall::Send, p.ep, &[]);
    }
    p.stop();
    p.s.must(
        crate::check::fixture::slots::CNODE,
        Label::CNodeDelete,
        &[p.ep, 64],
        &[],
    );
    for thread in threads {
        assert_eq!(p.s.state(thread), ThreadState::Running);
        assert_eq!(thread.tcb.context.pc.get(), PC);
    }
}
