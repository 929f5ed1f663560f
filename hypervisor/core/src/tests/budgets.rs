//! Scheduling: priorities, time slices, budgets, donation and the unwinding of call stacks, YieldTo.

use super::stage::{PC, SCHED_CONTROL, Stage, Thread, us};
use super::steps;
use crate::check::fixture::slots;
use crate::object::mem::Ref;
use crate::object::{Tcb, ThreadState};
use crate::run::refill;
use sel4_sys::{Invocation as Label, ObjectType, Syscall};
use std::vec::Vec;

fn pause(s: &Stage) -> u64 {
    let pause = s.object(ObjectType::Notification);
    s.boss_waits(pause);
    pause
}

#[test]
fn the_highest_priority_runs_and_equals_take_turns() {
    let s = Stage::new();
    let low = s.active(10);
    let (a, b) = (s.active(20), s.active(20));
    pause(&s);
    let mut turns = Vec::new();
    for _ in 0..6 {
        turns.push(s.current().unwrap());
        s.pass(us(1000));
    }
    assert!(turns.iter().all(|&t| t == a.tcb || t == b.tcb));
    assert!(turns.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(s.state(low), ThreadState::Running);
}

/// Client and server have a context each, and each is blocked most of the time when its slice ends. They take turns with a third
/// thread all the same, as one thread would that does the work of both.
#[test]
fn threads_that_call_each_other_take_turns_with_their_equals() {
    let s = Stage::new();
    let (client, server, other) = (s.active(20), s.active(20), s.active(20));
    let (ep, reply) = (s.object(ObjectType::Endpoint), s.object(ObjectType::Reply));
    pause(&s);
    let mut ran = [0usize; 3];
    let mut serves = false;
    let pieces = 330;
    for _ in 0..pieces {
        let current = s.current().unwrap();
        let runs = |thread: Thread| current == thread.tcb;
        for (count, thread) in ran.iter_mut().zip([client, server, other]) {
            *count += usize::from(runs(thread));
        }
        // What is left of a slice after eleven of these is below the least budget: it ends as its thread blocks.
        s.pass(us(90));
        if s.current() != Some(current) {
            continue;
        }
        if runs(client) {
            s.send(client.tcb, Syscall::Call, ep, &[]);
        } else if runs(server) && serves {
            s.syscall(server.tcb, Syscall::ReplyRecv, ep, reply);
        } else if runs(server) {
            s.recv(server.tcb, ep, reply);
            serves = true;
        }
    }
    assert!(
        ran[2] * 5 >= pieces * 2 && ran[2] * 5 <= pieces * 3,
        "about half of {pieces} pieces: {ran:?}"
    );
}

#[test]
fn yield_goes_behind_equals() {
    let s = Stage::new();
    let (a, b) = (s.active(20), s.active(20));
    pause(&s);
    let first = s.current().unwrap();
    s.syscall(first, Syscall::Yield, 0, 0);
    let second = s.current().unwrap();
    assert_ne!(first, second);
    assert!([a.tcb, b.tcb].contains(&second));
    s.syscall(second, Syscall::Yield, 0, 0);
    assert_eq!(s.current(), Some(first));
}

#[test]
fn a_preempted_thread_goes_on_before_its_equals() {
    let s = Stage::new();
    let (_a, _b) = (s.active(20), s.active(20));
    let p = pause(&s);
    let first = s.current().unwrap();
    s.pass(us(100));
    s.wake_boss(p);
    s.boss_waits(p);
    assert_eq!(s.current(), Some(first));
    // With what is left of its slice.
    s.pass(us(899));
    assert_eq!(s.current(), Some(first));
    s.pass(us(2));
    assert_ne!(s.current(), Some(first));
}

#[test]
fn a_budget_is_used_once_a_period() {
    let s = Stage::new();
    let t = s.with_budget(20, 2000, 10_000);
    s.must(t.cap, Label::TcbResume, &[], &[]);
    let idle = s.active(1);
    pause(&s);
    let mut ran = 0usize;
    let pieces = steps(1000);
    for _ in 0..pieces {
        if s.current() == Some(t.tcb) {
            ran += 1;
        } else {
            assert_eq!(s.current(), Some(idle.tcb));
        }
        s.pass(us(100));
    }
    assert!(
        ran.abs_diff(pieces / 5) <= 5,
        "a fifth of {pieces} pieces: {ran}"
    );
}

#[test]
fn no_window_of_a_period_holds_more_than_the_budget() {
    for flags in [0, 1] {
        let s = Stage::new();
        let t = s.with_budget(20, 2000, 10_000);
        s.configure(t.sc, 2000, 10_000, 0, flags);
        let n = s.object(ObjectType::Notification);
        s.must(t.cap, Label::TcbResume, &[], &[]);
        let idle = s.active(1);
        pause(&s);
        let mut history = Vec::new();
        for step in 0..steps(2000) {
            let runs = s.current() == Some(t.tcb);
            history.push(u64::from(runs));
            s.pass(us(100));
            // It blocks now and then, and is woken at odd moments.
            if step % 7 == 3 && s.current() == Some(t.tcb) {
                s.wait(t.tcb, n);
            } else if step % 13 == 5 && s.current() == Some(idle.tcb) {
                s.send(idle.tcb, Syscall::Send, n, &[]);
            }
        }
        for window in history.windows(100) {
            let used: u64 = window.iter().sum();
            assert!(
                used <= 21,
                "flags {flags}: {used} tenths of a millisecond in 10 ms"
            );
        }
        let ran: u64 = history.iter().sum();
        assert!(ran > steps(1000) as u64 / 10, "it does run: {ran}");
    }
}

#[test]
fn yield_gives_up_a_budget_until_the_next_period() {
    let s = Stage::new();
    let t = s.with_budget(20, 2000, 10_000);
    s.must(t.cap, Label::TcbResume, &[], &[]);
    pause(&s);
    s.syscall(t.tcb, Syscall::Yield, 0, 0);
    assert_eq!(s.current(), None);
    s.pass(us(9_900));
    assert_eq!(s.current(), None);
    s.pass(us(200));
    assert_eq!(s.current(), Some(t.tcb));
}

#[test]
fn threads_are_released_in_the_order_of_their_periods() {
    let s = Stage::new();
    let (count, end_us, least) = if cfg!(miri) {
        (5u64, 8_000, 8)
    } else {
        (20, 20_000, 40)
    };
    let threads: Vec<Thread> = (1..=count)
        .map(|n| {
            let t = s.with_budget(20 + n % 5, 100, 1000 + 997 * n % 8000);
            s.must(t.cap, Label::TcbResume, &[], &[]);
            t
        })
        .collect();
    pause(&s);
    for _ in 0..count {
        let current = s.current().unwrap();
        s.syscall(current, Syscall::Yield, 0, 0);
    }
    let mut released = 0u64;
    let mut last = 0;
    while s.now() < us(end_us) {
        s.pass(us(10));
        if let Some(current) = s.current() {
            let time = refill::head_time(current.thread.sched_context.get().unwrap());
            assert!(time <= s.now() && time + us(20) >= last);
            last = time;
            released += 1;
            s.syscall(current, Syscall::Yield, 0, 0);
        }
    }
    assert!(released > least, "{released}");
    assert_eq!(threads.len() as u64, count);
}

#[test]
fn consumed_counts_what_was_used() {
    let s = Stage::new();
    let t = s.active(20);
    let p = pause(&s);
    s.pass(us(300));
    s.wake_boss(p);
    s.pass(us(50));
    assert_eq!(
        s.invoke(t.sc, Label::SchedContextConsumed, &[], &[]),
        (0, [300].to_vec())
    );
    assert_eq!(s.invoke(t.sc, Label::SchedContextConsumed, &[], &[]).1, [0]);
    // One's own time, up to now.
    let own = slots::FREE + 1;
    s.invoke(own, Label::SchedContextConsumed, &[], &[]);
    s.pass(us(70));
    assert_eq!(s.invoke(own, Label::SchedContextConsumed, &[], &[]).1, [70]);
}

#[test]
fn what_cannot_be_configured() {
    let s = Stage::new();
    let sc = s.sized(ObjectType::SchedContext, 7);
    let big = s.sized(ObjectType::SchedContext, 8);
    let max = s.w.k.sched.longest_us();
    let f = |words: &[u64], sc| {
        s.invoke(
            SCHED_CONTROL,
            Label::SchedControlConfigureFlags,
            words,
            &[sc],
        )
    };
    assert_eq!(f(&[1000, 1000, 0, 0, 0], SCHED_CONTROL), (2, [1].to_vec()));
    let range = (4, [20, max].to_vec());
    assert_eq!(f(&[0, 0, 0, 0, 0], SCHED_CONTROL), range, "words first");
    assert_eq!(f(&[19, 1000, 0, 0, 0], sc), (4, [20, max].to_vec()));
    assert_eq!(f(&[20, max + 1, 0, 0, 0], sc), (4, [20, max].to_vec()));
    assert_eq!(f(&[1001, 1000, 0, 0, 0], sc), (4, [20, 1000].to_vec()));
    assert_eq!(f(&[100, 1000, 1, 0, 0], sc), (4, [0, 0].to_vec()));
    assert_eq!(f(&[100, 1000, 9, 0, 0], big), (4, [0, 8].to_vec()));
    assert_eq!(f(&[100, 1000, u64::MAX, 0, 0], big).0, 4);
    assert_eq!(f(&[100, 1000, 0, 0], sc).0, 7);
    assert!(
        !refill::configured(s.sc(sc)),
        "a failed call changes nothing"
    );
    assert_eq!(f(&[100, 1000, 8, 0, 0], big).0, 0);
    assert_eq!(f(&[20, 20, 0, 0, 0], sc).0, 0);
}

#[test]
fn what_cannot_be_bound() {
    let s = Stage::new();
    let (t, u) = (s.passive(20), s.with_budget(20, 1000, 1000));
    let bind = |sc, cap| s.invoke(sc, Label::SchedContextBind, &[], &[cap]);
    assert_eq!(s.invoke(t.sc, Label::SchedContextBind, &[], &[]).0, 7);
    assert_eq!(bind(t.sc, t.sc), (2, [1].to_vec()));
    assert_eq!(bind(u.sc, t.cap).0, 3);
    assert_eq!(bind(t.sc, u.cap).0, 3);
    assert_eq!(
        s.invoke(t.sc, Label::SchedContextUnbindObject, &[], &[t.cap])
            .0,
        3
    );
    // A blocked thread cannot get a context that has no time.
    let n = s.object(ObjectType::Notification);
    s.must(u.cap, Label::TcbResume, &[], &[]);
    s.boss_waits(n);
    s.wait(u.tcb, n);
    s.wake_boss_first(n, u.tcb);
    s.must(u.sc, Label::SchedContextUnbind, &[], &[]);
    assert_eq!(bind(t.sc, u.cap).0, 3);
    assert_eq!(bind(u.sc, u.cap).0, 0);
    // Nobody takes his own time away.
    let own = slots::FREE + 1;
    assert_eq!(s.invoke(own, Label::SchedContextUnbind, &[], &[]).0, 3);
    assert_eq!(
        s.invoke(own, Label::SchedContextUnbindObject, &[], &[slots::TCB])
            .0,
        3
    );
}

impl Stage {
    /// Both the boss and `other` wait on `n`; the boss is of higher priority and is woken first.
    fn wake_boss_first(&self, n: u64, other: Ref<Tcb>) {
        self.wake_boss(n);
        assert_eq!(other.thread.state.get(), ThreadState::BlockedOnNotification);
    }
}

#[test]
fn a_thread_without_time_starts_when_it_gets_some() {
    let s = Stage::new();
    let t = s.passive(20);
    s.must(t.cap, Label::TcbResume, &[], &[]);
    s.must(t.sc, Label::SchedContextBind, &[], &[t.cap]);
    let p = pause(&s);
    assert_eq!(s.current(), None, "an empty scheduling context");
    s.wake_boss(p);
    s.configure(t.sc, 1000, 5000, 0, 0);
    s.boss_waits(p);
    assert_eq!(s.current(), Some(t.tcb));
    s.wake_boss(p);
    s.must(t.sc, Label::SchedContextUnbind, &[], &[]);
    s.boss_waits(p);
    assert_eq!(s.current(), None);
}

#[test]
fn deleting_the_scheduling_context_stops_its_thread() {
    let s = Stage::new();
    let t = s.active(20);
    let p = pause(&s);
    s.pass(us(10));
    s.wake_boss(p);
    s.must(slots::CNODE, Label::CNodeDelete, &[t.sc, 64], &[]);
    assert!(t.tcb.thread.sched_context.get().is_none());
    s.boss_waits(p);
    assert_eq!(s.current(), None);
}

#[test]
fn a_thread_can_delete_itself_and_its_time() {
    let s = Stage::new();
    let (t, u) = (s.active(20), s.active(20));
    pause(&s);
    let delete = |tcb, slot| {
        s.message(tcb, Label::CNodeDelete.word(), &[slot, 64], &[]);
        s.syscall(tcb, Syscall::Call, slots::CNODE, 0);
    };
    let first = s.current().unwrap();
    let (first, second) = if first == t.tcb { (t, u) } else { (u, t) };
    delete(first.tcb, first.cap);
    assert_eq!(s.current(), Some(second.tcb));
    delete(second.tcb, second.sc);
    assert_eq!(s.current(), None);
}

/// Client, middle and inner server, each passive but the client; all in the call: client -> middle -> inner.
struct Chain {
    s: Stage,
    pause: u64,
    client: Thread,
    middle: Thread,
    inner: Thread,
    reply_middle: u64,
    reply_inner: u64,
    eps: [u64; 2],
}

impl Chain {
    fn new() -> Self {
        let s = Stage::new();
        let pause = s.object(ObjectType::Notification);
        let eps = [
            s.object(ObjectType::Endpoint),
            s.object(ObjectType::Endpoint),
        ];
        let reply_middle = s.object(ObjectType::Reply);
        let reply_inner = s.object(ObjectType::Reply);
        let middle = s.active(60);
        let inner = s.active(70);
        s.boss_waits(pause);
        s.recv(inner.tcb, eps[1], reply_inner);
        s.recv(middle.tcb, eps[0], reply_middle);
        s.wake_boss(pause);
        for t in [middle, inner] {
            s.must(t.sc, Label::SchedContextUnbindObject, &[], &[t.cap]);
        }
        let client = s.active(50);
        s.boss_waits(pause);
        s.send(client.tcb, Syscall::Call, eps[0], &[1]);
        s.send(middle.tcb, Syscall::Call, eps[1], &[2]);
        assert_eq!(s.current(), Some(inner.tcb));
        Self {
            s,
            pause,
            client,
            middle,
            inner,
            reply_middle,
            reply_inner,
            eps,
        }
    }

    fn owner(&self) -> Option<Ref<Tcb>> {
        self.s.sc(self.client.sc).tcb.get()
    }

    fn delete(&self, slot: u64) {
        self.s.wake_boss(self.pause);
        self.s
            .must(slots::CNODE, Label::CNodeDelete, &[slot, 64], &[]);
        self.s.boss_waits(self.pause);
    }
}

#[test]
fn a_chain_of_calls_returns_the_time_step_by_step() {
    let c = Chain::new();
    assert_eq!(c.owner(), Some(c.inner.tcb));
    c.s.syscall(c.inner.tcb, Syscall::ReplyRecv, c.eps[1], c.reply_inner);
    assert_eq!(c.owner(), Some(c.middle.tcb));
    c.s.syscall(c.middle.tcb, Syscall::ReplyRecv, c.eps[0], c.reply_middle);
    assert_eq!(c.owner(), Some(c.client.tcb));
    assert_eq!(c.s.current(), Some(c.client.tcb));
}

#[test]
fn revoking_the_newest_reply_returns_the_time_to_its_caller() {
    let c = Chain::new();
    c.delete(c.reply_inner);
    assert_eq!(c.owner(), Some(c.middle.tcb));
    assert_eq!(c.s.state(c.middle), ThreadState::Inactive);
    assert_eq!(
        c.s.current(),
        None,
        "the middle one waits for nobody and is stopped"
    );
    c.s.wake_boss(c.pause);
    c.s.must(c.middle.cap, Label::TcbResume, &[], &[]);
    c.s.boss_waits(c.pause);
    assert_eq!(c.middle.tcb.context.pc.get(), PC + 4, "it calls again");
    assert_eq!(c.s.current(), Some(c.middle.tcb));
}

#[test]
fn revoking_an_older_reply_leaves_the_time_where_it_is() {
    let c = Chain::new();
    c.delete(c.reply_middle);
    assert_eq!(c.owner(), Some(c.inner.tcb));
    assert_eq!(c.s.state(c.client), ThreadState::Inactive);
    c.s.syscall(c.inner.tcb, Syscall::ReplyRecv, c.eps[1], c.reply_inner);
    assert_eq!(c.owner(), Some(c.middle.tcb));
}

#[test]
fn a_stopped_middle_leaves_a_chain_between_its_neighbours() {
    let c = Chain::new();
    c.s.wake_boss(c.pause);
    c.s.must(c.middle.cap, Label::TcbSuspend, &[], &[]);
    assert_eq!(c.owner(), Some(c.inner.tcb));
    // Answering the client brings the time back from the inner server.
    c.s.send(c.s.boss(), Syscall::Send, c.reply_middle, &[]);
    assert_eq!(c.owner(), Some(c.client.tcb));
    c.s.boss_waits(c.pause);
    assert_eq!(c.s.current(), Some(c.client.tcb));
    assert_eq!(c.inner.tcb.thread.sched_context.get(), None);
}

#[test]
fn a_deleted_middle_and_a_deleted_client() {
    let c = Chain::new();
    c.delete(c.middle.cap);
    assert_eq!(c.owner(), Some(c.inner.tcb));
    c.delete(c.client.cap);
    assert_eq!(c.owner(), Some(c.inner.tcb));
    assert_eq!(c.s.current(), Some(c.inner.tcb));
    c.delete(c.client.sc);
    assert_eq!(c.s.current(), None);
}

#[test]
fn an_unbound_server_returns_the_time_to_its_caller() {
    let c = Chain::new();
    c.s.wake_boss(c.pause);
    c.s.must(
        c.client.sc,
        Label::SchedContextUnbindObject,
        &[],
        &[c.inner.cap],
    );
    assert_eq!(c.owner(), Some(c.middle.tcb));
    c.s.must(c.client.sc, Label::SchedContextUnbind, &[], &[]);
    assert_eq!(c.owner(), None);
    assert!(c.s.sc(c.client.sc).reply.get().is_none());
}

#[test]
fn yield_to_runs_an_equal_first() {
    let s = Stage::new();
    let (a, b) = (s.active(20), s.active(20));
    let (first, second) = {
        pause(&s);
        if s.current() == Some(a.tcb) {
            (a, b)
        } else {
            (b, a)
        }
    };
    s.message(first.tcb, Label::SchedContextYieldTo.word(), &[], &[]);
    first.tcb.thread.mcp.set(20);
    s.syscall(first.tcb, Syscall::Call, second.sc, 0);
    assert_eq!(s.current(), Some(second.tcb));
    s.pass(us(400));
    s.wait(second.tcb, s.object(ObjectType::Notification));
    assert_eq!(s.current(), Some(first.tcb));
    assert_eq!(s.received(first.tcb), (0, [400].to_vec()));
}

#[test]
fn yield_to_needs_a_thread_within_ones_priority() {
    let s = Stage::new();
    let high = s.active(90);
    let free = s.passive(10);
    let t = s.active(20);
    t.tcb.thread.mcp.set(50);
    let n = s.object(ObjectType::Notification);
    pause(&s);
    s.wait(high.tcb, n);
    let by = |sc| {
        s.invoke_by(t.tcb, sc, Label::SchedContextYieldTo, &[], &[])
            .0
    };
    assert_eq!(by(high.sc), 3);
    assert_eq!(by(free.sc), 3);
    assert_eq!(by(t.sc), 3);
}

#[test]
fn equals_made_ready_go_behind_the_running_one() {
    let s = Stage::new();
    let n = s.object(ObjectType::Notification);
    let (a, b) = (s.active(20), s.active(20));
    pause(&s);
    let first = s.current().unwrap();
    let second = if first == a.tcb { b } else { a };
    s.wait(first, n);
    assert_eq!(s.current(), Some(second.tcb));
    s.send(second.tcb, Syscall::Send, n, &[]);
    assert_eq!(s.current(), Some(second.tcb), "an equal does not preempt");
    s.wait(second.tcb, n);
    assert_eq!(s.current(), Some(first));
}
