//! Guests that rest: their handler answers a wait for an interrupt with `emulated::REST`.

use super::faults::Case;
use super::stage::{PC, us};
use crate::object::{ThreadState, queued};
use proptest::prelude::*;
use sel4_sys::{Invocation as Label, ObjectType, VcpuReg, emulated, tcb_flags};

/// ESR_EL2 of a trapped WFI.
const WFI: u64 = 0x0600_0000;
/// CNTV_CTL_EL0: enabled, not masked.
const ON: u64 = 1;

/// A case whose thread is a guest with the flag, and a notification on which the boss sleeps.
fn guest() -> (Case, u64) {
    let c = Case::new();
    let words = [0, tcb_flags::EMULATED];
    c.s.must(c.t.cap, Label::TcbSetFlags, &words, &[]);
    c.s.must(c.vcpu, Label::ArmVcpuSetTcb, &[], &[c.t.cap]);
    let pause = c.s.object(ObjectType::Notification);
    (c, pause)
}

fn set(c: &Case, register: VcpuReg, value: u64) {
    let words = [register.word(), value];
    c.s.must(c.vcpu, Label::ArmVcpuWriteReg, &words, &[]);
}

/// The guest waits for an interrupt, and rests.
fn rest(c: &Case) {
    c.fault(|s| s.w.k.handle_vcpu_fault(WFI));
    c.answer(emulated::REST, &[]);
    c.s.check();
}

fn rests(c: &Case) -> bool {
    c.t.tcb.thread.queued.get() & queued::RELEASE != 0
}

fn inject(c: &Case, list: u64) {
    let word = 40 | list << 32;
    c.s.must(c.vcpu, Label::ArmVcpuInjectIrq, &[word], &[]);
    c.s.check();
}

#[test]
fn it_goes_on_when_its_timer_is_due_and_not_before() {
    let (c, pause) = guest();
    set(&c, VcpuReg::CntvCtl, ON);
    set(&c, VcpuReg::CntvCval, c.s.now() + us(900));
    rest(&c);
    assert!(rests(&c));
    assert_eq!(c.t.tcb.context.pc.get(), PC + 4);
    c.s.boss_waits(pause);
    assert_eq!(c.s.current(), None);
    c.s.pass(us(899));
    assert_eq!(c.s.current(), None);
    c.s.pass(us(2));
    assert_eq!(c.s.current(), Some(c.t.tcb));
}

#[test]
fn without_a_timer_only_an_interrupt_ends_it() {
    // Off; masked; on and masked.
    for control in [0, 2, 3] {
        let (c, pause) = guest();
        set(&c, VcpuReg::CntvCtl, control);
        set(&c, VcpuReg::CntvCval, 0);
        rest(&c);
        c.s.boss_waits(pause);
        c.s.pass(us(50_000));
        assert_eq!(c.s.current(), None);
        c.s.wake_boss(pause);
        // Resuming a thread that runs does nothing, and a resting one counts as running.
        c.s.must(c.t.cap, Label::TcbResume, &[], &[]);
        assert!(rests(&c));
        inject(&c, 0);
        assert!(!rests(&c));
        c.s.boss_waits(pause);
        assert_eq!(c.s.current(), Some(c.t.tcb));
    }
}

#[test]
fn a_timer_that_is_due_already_is_not_waited_for() {
    let (c, _) = guest();
    set(&c, VcpuReg::CntvCtl, ON);
    set(&c, VcpuReg::CntvCval, c.s.now());
    rest(&c);
    assert!(!rests(&c));
    assert_eq!(c.t.tcb.context.pc.get(), PC + 4);
    assert_eq!(c.s.state(c.t), ThreadState::Running);
}

#[test]
fn an_interrupt_gives_no_time_that_there_is_not() {
    let (c, pause) = guest();
    c.s.configure(c.t.sc, 100, 10_000, 0, 0);
    c.s.recv(c.s.boss(), c.handler, c.reply);
    c.s.pass(us(99));
    c.s.w.k.handle_vcpu_fault(WFI);
    c.s.pass(us(1));
    c.answer(emulated::REST, &[]);
    inject(&c, 0);
    let waits = rests(&c);
    c.s.boss_waits(pause);
    assert!(waits && c.s.current().is_none());
    // Its next period has begun, and its budget has not ended again.
    c.s.pass(us(9_950));
    assert_eq!(c.s.current(), Some(c.t.tcb));
}

#[test]
fn what_becomes_of_it_meanwhile() {
    let (c, pause) = guest();
    // Suspended and resumed, it goes on behind its wait.
    rest(&c);
    c.s.must(c.t.cap, Label::TcbSuspend, &[], &[]);
    c.s.check();
    assert!(!rests(&c));
    inject(&c, 0);
    assert_eq!(c.s.state(c.t), ThreadState::Inactive);
    c.s.must(c.t.cap, Label::TcbResume, &[], &[]);
    assert_eq!(c.s.state(c.t), ThreadState::Running);
    assert_eq!(c.t.tcb.context.pc.get(), PC + 4);
    // Its time is taken and given back.
    rest(&c);
    c.s.must(c.t.sc, Label::SchedContextUnbind, &[], &[]);
    c.s.check();
    c.s.must(c.t.sc, Label::SchedContextBind, &[], &[c.t.cap]);
    c.s.check();
    assert!(!rests(&c));
    // Its priority changes: it rests on.
    rest(&c);
    c.s.must(
        c.t.cap,
        Label::TcbSetPriority,
        &[120],
        &[sel4_sys::init_slot::TCB],
    );
    c.s.check();
    assert!(rests(&c));
    // Its vCPU goes: no timer would ever end it.
    c.s.must(
        crate::check::fixture::slots::CNODE,
        Label::CNodeDelete,
        &[c.vcpu, 64],
        &[],
    );
    c.s.check();
    assert!(!rests(&c));
    c.s.boss_waits(pause);
    assert_eq!(c.s.current(), Some(c.t.tcb));
}

#[test]
fn without_flag_vcpu_or_plain_time_it_goes_on_at_once() {
    let (c, _) = guest();
    c.s.must(c.vcpu, Label::ArmVcpuSetTcb, &[], &[c.s.active(50).cap]);
    rest(&c);
    assert!(!rests(&c));
    assert_eq!(c.t.tcb.context.pc.get(), PC + 4);
    c.s.must(c.vcpu, Label::ArmVcpuSetTcb, &[], &[c.t.cap]);
    c.s.configure(c.t.sc, 1000, 2000, 0, 1);
    rest(&c);
    assert!(!rests(&c));
    c.s.configure(c.t.sc, 1000, 2000, 0, 0);
    let words = [tcb_flags::EMULATED, 0];
    c.s.must(c.t.cap, Label::TcbSetFlags, &words, &[]);
    rest(&c);
    // As on seL4: the label says nothing, and the instruction runs again.
    assert!(!rests(&c));
    assert_eq!(c.t.tcb.context.pc.get(), PC + 8);
    assert_eq!(c.s.state(c.t), ThreadState::Running);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(super::cases(64)))]

    /// Whatever the offset of its counter and the moment, a guest runs when its own count has reached its timer's.
    #[test]
    fn it_never_oversleeps(
        steps in proptest::collection::vec((any::<u64>(), 0u64..3000, 0u64..3000, any::<bool>()), 1..8),
    ) {
        let (c, pause) = guest();
        set(&c, VcpuReg::CntvCtl, ON);
        for (list, (offset, after_us, early_us, interrupted)) in steps.into_iter().enumerate() {
            let due = c.s.now() + us(after_us);
            // The guest's count begins anew at most 2^63 ago: CVAL is not before its beginning.
            let offset = offset >> 1;
            let virtual_due = due.wrapping_sub(offset);
            prop_assume!(virtual_due >= us(after_us));
            set(&c, VcpuReg::Cntvoff, offset);
            set(&c, VcpuReg::CntvCval, virtual_due);
            rest(&c);
            c.s.boss_waits(pause);
            if interrupted && early_us < after_us && list < 4 {
                c.s.pass(us(early_us));
                prop_assert_eq!(c.s.current(), None);
                c.s.wake_boss(pause);
                inject(&c, list as u64);
                c.s.boss_waits(pause);
            } else {
                c.s.pass(due - c.s.now());
            }
            prop_assert_eq!(c.s.current(), Some(c.t.tcb));
            c.s.wake_boss(pause);
        }
    }
}
