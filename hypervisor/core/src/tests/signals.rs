//! Notifications: signals, waiting, binding, scheduling contexts lent to passive threads.

use super::stage::Stage;
use crate::check::fixture::slots;
use crate::object::ThreadState;
use sel4_sys::{Invocation as Label, ObjectType, Syscall};

#[test]
fn signals_are_gathered_until_somebody_looks() {
    let s = Stage::new();
    let n = s.object(ObjectType::Notification);
    let (one, four) = (s.minted(n, 15, 1), s.minted(n, 15, 4));
    for cap in [one, four, one] {
        s.send(s.boss(), Syscall::Send, cap, &[]);
    }
    s.syscall(s.boss(), Syscall::NBWait, n, 0);
    assert_eq!(s.badge(s.boss()), 5);
    s.syscall(s.boss(), Syscall::NBWait, n, 0);
    assert_eq!(s.badge(s.boss()), 0);
}

#[test]
fn a_signal_without_badge_wakes_too() {
    let s = Stage::new();
    let n = s.object(ObjectType::Notification);
    s.send(s.boss(), Syscall::NBSend, n, &[]);
    s.wait(s.boss(), n);
    assert_eq!(s.current(), Some(s.boss()), "the signal was pending");
    s.wait(s.boss(), n);
    assert_eq!(s.current(), None);
}

#[test]
fn waiters_are_woken_one_at_a_time_by_priority() {
    let s = Stage::new();
    let n = s.object(ObjectType::Notification);
    let pause = s.object(ObjectType::Notification);
    let low = s.active(50);
    let high = s.active(60);
    s.boss_waits(pause);
    s.wait(high.tcb, n);
    s.wait(low.tcb, n);
    s.wake_boss(pause);
    s.send(s.boss(), Syscall::Send, s.minted(n, 15, 9), &[]);
    assert_eq!(s.state(high), ThreadState::Running);
    assert_eq!(s.badge(high.tcb), 9);
    assert_eq!(s.state(low), ThreadState::BlockedOnNotification);
}

#[test]
fn rights_decide_who_signals_and_who_waits() {
    let s = Stage::new();
    let n = s.object(ObjectType::Notification);
    let (read, write) = (s.minted(n, 2, 1), s.minted(n, 1, 1));
    assert_eq!(s.invoke(read, Label::InvalidInvocation, &[], &[]).0, 2);
    let t = s.active(50);
    let pause = s.object(ObjectType::Notification);
    s.boss_waits(pause);
    s.wait(t.tcb, write);
    assert_eq!(s.state(t), ThreadState::Inactive, "a fault without handler");
}

#[test]
fn a_bound_notification_interrupts_receiving() {
    let s = Stage::new();
    let (n, pause) = (
        s.object(ObjectType::Notification),
        s.object(ObjectType::Notification),
    );
    let (ep, reply) = (s.object(ObjectType::Endpoint), s.object(ObjectType::Reply));
    let t = s.active(50);
    let other = s.active(40);
    s.must(t.cap, Label::TcbBindNotification, &[], &[n]);
    s.boss_waits(pause);
    s.recv(t.tcb, ep, reply);
    s.send(other.tcb, Syscall::Send, s.minted(n, 15, 0x30), &[]);
    assert_eq!(s.current(), Some(t.tcb));
    assert_eq!(s.badge(t.tcb), 0x30);
    assert!(s.reply(reply).tcb.get().is_none());
    // A pending signal is taken before any message.
    s.recv(t.tcb, ep, reply);
    s.send(other.tcb, Syscall::Send, ep, &[]);
    s.wake_boss(pause);
    s.send(s.boss(), Syscall::Send, n, &[]);
    s.boss_waits(pause);
    s.recv(t.tcb, ep, reply);
    assert_eq!(s.state(t), ThreadState::Running);
    // Nobody else may wait on it.
    s.wake_boss(pause);
    s.must(t.cap, Label::TcbSuspend, &[], &[]);
    s.boss_waits(pause);
    s.wait(other.tcb, n);
    assert_eq!(s.state(other), ThreadState::Inactive);
}

#[test]
fn binding_is_one_to_one() {
    let s = Stage::new();
    let (n, m) = (
        s.object(ObjectType::Notification),
        s.object(ObjectType::Notification),
    );
    let (t, u) = (s.passive(50), s.passive(50));
    let bind = |t: u64, n: u64| s.invoke(t, Label::TcbBindNotification, &[], &[n]).0;
    assert_eq!(s.invoke(t.cap, Label::TcbUnbindNotification, &[], &[]).0, 3);
    assert_eq!(bind(t.cap, s.minted(n, 1, 1)), 3, "needs Read");
    assert_eq!(bind(t.cap, t.cap), 3, "no notification");
    assert_eq!(bind(t.cap, n), 0);
    assert_eq!(bind(t.cap, m), 3);
    assert_eq!(bind(u.cap, n), 3);
    s.must(t.cap, Label::TcbUnbindNotification, &[], &[]);
    assert_eq!(bind(u.cap, n), 0);
    // The object's end dissolves it, and so does the thread's.
    s.must(slots::CNODE, Label::CNodeRevoke, &[n, 64], &[]);
    s.must(slots::CNODE, Label::CNodeDelete, &[n, 64], &[]);
    assert!(u.tcb.thread.notification.get().is_none());
    assert_eq!(bind(u.cap, m), 0);
    s.must(slots::CNODE, Label::CNodeDelete, &[u.cap, 64], &[]);
    assert!(s.notification(m).bound_tcb.get().is_none());
}

#[test]
fn a_passive_thread_runs_on_the_notifications_time() {
    let s = Stage::new();
    let (n, pause) = (
        s.object(ObjectType::Notification),
        s.object(ObjectType::Notification),
    );
    let t = s.active(50);
    let sc = s.sized(ObjectType::SchedContext, 7);
    s.configure(sc, 2000, 2000, 0, 0);
    s.must(sc, Label::SchedContextBind, &[], &[n]);
    assert_eq!(
        s.invoke(sc, Label::SchedContextBind, &[], &[pause]).0,
        3,
        "one notification only"
    );
    s.boss_waits(pause);
    s.wait(t.tcb, n);
    s.wake_boss(pause);
    s.must(t.sc, Label::SchedContextUnbindObject, &[], &[t.cap]);
    s.send(s.boss(), Syscall::Send, n, &[]);
    assert_eq!(t.tcb.thread.sched_context.get(), Some(s.sc(sc)));
    s.boss_waits(pause);
    assert_eq!(s.current(), Some(t.tcb));
    s.wait(t.tcb, n);
    assert_eq!(t.tcb.thread.sched_context.get(), None, "given back");
    assert_eq!(s.current(), None);
    s.wake_boss(pause);
    s.must(sc, Label::SchedContextUnbindObject, &[], &[n]);
    assert_eq!(
        s.invoke(sc, Label::SchedContextUnbindObject, &[], &[n]).0,
        3
    );
}

#[test]
fn a_deleted_notification_sends_everybody_back() {
    let s = Stage::new();
    let (n, pause) = (
        s.object(ObjectType::Notification),
        s.object(ObjectType::Notification),
    );
    let threads = [s.active(50), s.active(60), s.active(50)];
    s.boss_waits(pause);
    while let Some(current) = s.current() {
        s.wait(current, n);
    }
    s.wake_boss(pause);
    s.must(slots::CNODE, Label::CNodeDelete, &[n, 64], &[]);
    for t in threads {
        assert_eq!(s.state(t), ThreadState::Running);
        assert_eq!(t.tcb.context.pc.get(), super::stage::PC);
    }
}
