//! CancelBadgedSends, and where it goes on when it was preempted.

use super::messages::Play;
use super::stage::Thread;
use crate::check::fixture::slots;
use crate::object::ThreadState;
use crate::object::error::Progress;
use crate::run::ipc;
use crate::state::kernel::WORK_UNITS_PER_PREEMPTION;
use sel4_sys::{Invocation as Label, Syscall};
use std::vec::Vec;

const ALL: u64 = 15;

#[test]
fn cancelling_badged_sends_spares_the_others() {
    let mut p = Play::new();
    let one = p.s.minted(p.ep, ALL, 1);
    let two = p.s.minted(p.ep, ALL, 2);
    let threads: Vec<_> = (0..8u64).map(|n| p.s.active(50 + n % 3)).collect();
    p.go();
    let mut badge = std::collections::BTreeMap::new();
    for n in 0..8 {
        let current = p.s.current().unwrap();
        badge.insert(current.addr(), 1 + n % 2);
        p.s.send(
            current,
            Syscall::Send,
            if n % 2 == 0 { one } else { two },
            &[],
        );
    }
    p.stop();
    p.s.w.set_storm();
    let restarts = p.s.w.on_slot(Label::CNodeCancelBadgedSends, one).unwrap();
    assert!(
        restarts >= 7,
        "every look is a preemption point: {restarts}"
    );
    for thread in threads {
        let gone = badge[&thread.tcb.addr()] == 1;
        assert_eq!(p.s.state(thread) == ThreadState::Running, gone);
    }
}

/// Eight senders, the highest priority first, with the badges 1 and 2 in turn; a cancellation of badge 1 was preempted after
/// it had looked at three of them.
fn half_cancelled() -> (Play, [u64; 2], Vec<Thread>) {
    let mut p = Play::new();
    let caps = [p.s.minted(p.ep, ALL, 1), p.s.minted(p.ep, ALL, 2)];
    let threads: Vec<_> = (0..8).map(|n| p.s.active(60 - n)).collect();
    p.go();
    for n in 0..8 {
        p.s.send(threads[n].tcb, Syscall::Send, caps[n % 2], &[]);
    }
    p.stop();
    p.s.w.set_storm();
    for _ in 0..3 {
        p.s.w.k.work_units.set(WORK_UNITS_PER_PREEMPTION - 1);
        let words = [caps[0], 64];
        let once = p.s.w.call_once(slots::CNODE, CANCEL, &words, &[]);
        assert_eq!(once.unwrap(), Progress::Preempted);
    }
    (p, caps, threads)
}

const CANCEL: Label = Label::CNodeCancelBadgedSends;

/// Whether every thread of those at even or odd places has been sent back.
fn sent_back(p: &Play, threads: &[Thread], from: usize) -> bool {
    let mut some = threads.iter().skip(from).step_by(2);
    some.all(|thread| p.s.state(*thread) == ThreadState::Running)
}

#[test]
fn a_cancellation_of_another_badge_looks_at_every_sender() {
    let (p, caps, threads) = half_cancelled();
    p.s.w.on_slot(CANCEL, caps[1]).unwrap();
    assert!(sent_back(&p, &threads, 1));
    p.s.w.on_slot(CANCEL, caps[0]).unwrap();
    assert!(sent_back(&p, &threads, 0));
}

#[test]
fn a_cancellation_by_another_thread_looks_at_every_sender() {
    let (p, caps, threads) = half_cancelled();
    let late = p.s.active(100);
    let other = p.s.active(90);
    p.go();
    p.s.send(late.tcb, Syscall::Send, caps[0], &[]);
    p.s.message(other.tcb, CANCEL.word(), &[caps[0], 64], &[]);
    // This one is not preempted.
    p.s.w.k.work_units.set(0);
    p.s.syscall(other.tcb, Syscall::Call, slots::CNODE, 0);
    assert_eq!(p.s.state(late), ThreadState::Running);
    assert!(sent_back(&p, &threads, 0));
    assert!(!sent_back(&p, &threads, 1));
}

/// In the middle of a cancellation its caller's capability space was changed by somebody else, so that the call, made again, is another
/// one. The next cancellation begins anew: a sender that came since is not passed over.
fn swapped_in_between(made_again: impl FnOnce(&Play)) {
    let (p, caps, threads) = half_cancelled();
    let boss = p.s.boss();
    let marks = boss.context.x[1].get() & ipc::UNSENT;
    p.s.message(boss, CANCEL.word(), &[0, 64], &[]);
    boss.context.x[1].set(boss.context.x[1].get() | marks);
    made_again(&p);
    let late = p.s.active(100);
    p.go();
    p.s.send(late.tcb, Syscall::Send, caps[0], &[]);
    p.stop();
    p.s.message(boss, CANCEL.word(), &[caps[0], 64], &[]);
    p.s.w.on_slot(CANCEL, caps[0]).unwrap();
    assert_eq!(p.s.state(late), ThreadState::Running);
    assert!(sent_back(&p, &threads, 0));
    assert!(!sent_back(&p, &threads, 1));
}

#[test]
fn a_cancellation_that_ended_with_an_error_is_not_gone_on_with() {
    swapped_in_between(|p| {
        p.s.syscall(p.s.boss(), Syscall::Call, slots::CNODE, 0);
    });
}

#[test]
fn a_cancellation_that_became_a_message_is_not_gone_on_with() {
    swapped_in_between(|p| {
        p.s.syscall(p.s.boss(), Syscall::NBSend, p.ep, 0);
    });
}

#[test]
fn a_sender_whose_priority_is_raised_does_not_escape_a_cancellation() {
    let (p, caps, threads) = half_cancelled();
    let raised = threads[4].cap;
    p.s.must(raised, Label::TcbSetPriority, &[200], &[slots::TCB]);
    p.s.w.on_slot(CANCEL, caps[0]).unwrap();
    assert!(sent_back(&p, &threads, 0));
    assert!(!sent_back(&p, &threads, 1));
}
