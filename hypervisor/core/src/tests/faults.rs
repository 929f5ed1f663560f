//! Faults: what the handler is told, and what its answer does.

use super::stage::{PC, Stage, Thread, us};
use crate::check::fixture::slots;
use crate::object::ThreadState;
use crate::run::fault::Access;
use sel4_sys::{Invocation as Label, ObjectType, Syscall};
use std::vec::Vec;

/// A thread that faults, and the boss as its handler.
pub(super) struct Case {
    pub s: Stage,
    pub t: Thread,
    pub handler: u64,
    pub reply: u64,
    pub vcpu: u64,
}

impl Case {
    pub fn new() -> Self {
        let s = Stage::new();
        let handler = s.object(ObjectType::Endpoint);
        let reply = s.object(ObjectType::Reply);
        let t = s.active(100);
        let badged = s.minted(handler, 15, 0xf0);
        s.must(
            t.cap,
            Label::TcbSetSchedParams,
            &[200, 100],
            &[slots::TCB, t.sc, badged],
        );
        let vcpu = s.object(ObjectType::Vcpu);
        Self {
            s,
            t,
            handler,
            reply,
            vcpu,
        }
    }

    /// The thread runs into `fault`; the handler's message: label and words.
    #[track_caller]
    pub fn fault(&self, fault: impl FnOnce(&Stage)) -> (u64, Vec<u64>) {
        let s = &self.s;
        s.recv(s.boss(), self.handler, self.reply);
        assert_eq!(s.current(), Some(self.t.tcb));
        fault(s);
        s.check();
        assert_eq!(s.current(), Some(s.boss()));
        assert_eq!(s.badge(s.boss()), 0xf0);
        assert_eq!(s.state(self.t), ThreadState::BlockedOnReply);
        s.received(s.boss())
    }

    pub fn answer(&self, label: u64, words: &[u64]) {
        let s = &self.s;
        s.message(s.boss(), label, words, &[]);
        s.syscall(s.boss(), Syscall::Send, self.reply, 0);
    }
}

#[test]
fn unknown_system_call() {
    let c = Case::new();
    let tcb = c.t.tcb;
    for n in 0..8 {
        tcb.context.x[n].set(100 + n as u64);
    }
    tcb.context.sp.set(0x7000);
    tcb.context.spsr.set(0x4000_0000);
    tcb.context.pc.set(PC + 4);
    let (label, words) = c.fault(|s| s.w.k.handle_unknown_syscall(0x8400_0000));
    assert_eq!(label, 2);
    assert_eq!(words[..8], [100, 101, 102, 103, 104, 105, 106, 107]);
    assert_eq!(
        words[8..],
        [PC, 0x7000, PC + 4, 0x4000_0000, 0x8400_0000],
        "pc, sp, next pc, spsr, number"
    );
    // Nine words, word 8 = word 10: the thread goes on behind its call.
    let mut answer = words[..9].to_vec();
    answer[0] = 0xabcd;
    answer[8] = words[10];
    c.answer(0, &answer);
    assert_eq!(tcb.context.pc.get(), PC + 4);
    assert_eq!(tcb.context.x[0].get(), 0xabcd);
    assert_eq!(c.s.state(c.t), ThreadState::Running);
}

#[test]
fn an_empty_answer_makes_the_call_again_and_a_label_stops() {
    let c = Case::new();
    c.t.tcb.context.pc.set(PC + 4);
    c.fault(|s| s.w.k.handle_syscall(77));
    c.answer(0, &[]);
    assert_eq!(c.t.tcb.context.pc.get(), PC);
    assert_eq!(c.s.state(c.t), ThreadState::Running);
    c.t.tcb.context.pc.set(PC + 4);
    c.fault(|s| s.w.k.handle_unknown_syscall(1));
    c.answer(1, &[]);
    assert_eq!(c.s.state(c.t), ThreadState::Inactive);
}

#[test]
fn an_answer_cannot_raise_the_status() {
    let c = Case::new();
    c.t.tcb.context.pc.set(PC + 4);
    c.fault(|s| s.w.k.handle_unknown_syscall(1));
    c.answer(0, &[0, 0, 0, 0, 0, 0, 0, 0, PC, 0, 0, 0x3c9]);
    assert_eq!(c.t.tcb.context.spsr.get(), 0);
}

#[test]
fn user_exception() {
    let c = Case::new();
    c.t.tcb.context.sp.set(0x9000);
    let (label, words) = c.fault(|s| s.w.k.handle_user_exception(5, 6));
    assert_eq!((label, words), (3, [PC, 0x9000, 0, 5, 6].to_vec()));
    c.answer(0, &[PC + 4, 0x8000]);
    assert_eq!(c.t.tcb.context.pc.get(), PC + 4);
    assert_eq!(c.t.tcb.context.sp.get(), 0x8000);
}

#[test]
fn vm_fault_runs_the_instruction_again_whatever_the_answer() {
    let c = Case::new();
    let (label, words) = c.fault(|s| s.w.k.handle_vm_fault(0x1234, 0x9200_0007, Access::Fetch));
    assert_eq!((label, words), (6, [PC, 0x1234, 1, 0x9200_0007].to_vec()));
    c.answer(3, &[PC + 4, 1, 2, 3]);
    assert_eq!(c.t.tcb.context.pc.get(), PC);
    assert_eq!(c.s.state(c.t), ThreadState::Running);
    let (_, words) = c.fault(|s| s.w.k.handle_vm_fault(8, 9, Access::Data));
    assert_eq!(words, [PC, 8, 0, 9]);
}

#[test]
fn an_emulated_instruction_is_finished_by_the_answer() {
    let c = Case::new();
    let x = |n: usize| c.t.tcb.context.x[n].get();
    let pc = || c.t.tcb.context.pc.get();
    let emulated = sel4_sys::tcb_flags::EMULATED;
    c.s.must(c.t.cap, Label::TcbSetFlags, &[0, emulated], &[]);
    c.t.tcb.context.x[7].set(0x77);
    // A store of x7: its value comes along.
    let store = |s: &Stage| s.w.k.handle_vm_fault(8, 0x9347_0047, Access::Data);
    let (_, words) = c.fault(store);
    assert_eq!(words, [PC, 8, 0, 0x9347_0047, 0x77]);
    c.answer(0, &[31, 5]);
    assert_eq!((pc(), x(7)), (PC + 4, 0x77));
    // Syndromes that name no register, or the one that is always zero.
    for esr in [0x9247_0047, 0x935f_0047] {
        let (_, words) = c.fault(|s| s.w.k.handle_vm_fault(8, esr, Access::Data));
        assert_eq!(words[4], 0, "{esr:#x}");
        c.answer(0, &[30, 6]);
        assert_eq!(x(30), 6);
    }
    assert_eq!(pc(), PC + 12);
    // What is no such answer runs the instruction again.
    for (label, answer) in [(0, [].as_slice()), (0, &[1]), (1, &[1, 2]), (0, &[32, 2])] {
        c.fault(store);
        c.answer(label, answer);
        assert_eq!((pc(), x(1)), (PC + 12, 0), "{label} {answer:?}");
    }
    c.s.must(c.t.cap, Label::TcbSetFlags, &[emulated, 0], &[]);
    assert_eq!(c.fault(store).1.len(), 4);
    c.answer(0, &[1, 2]);
    assert_eq!((pc(), x(1)), (PC + 12, 0));
}

#[test]
fn vcpu_faults_and_pc_advanced_by_the_handler() {
    let c = Case::new();
    c.s.must(c.vcpu, Label::ArmVcpuSetTcb, &[], &[c.t.cap]);
    let (label, words) = c.fault(|s| s.w.k.handle_vcpu_fault(0x0600_0000));
    assert_eq!((label, words), (8, [0x0600_0000].to_vec()));
    let (error, words) = c.s.invoke(c.t.cap, Label::TcbReadRegisters, &[0, 1], &[]);
    assert_eq!((error, words), (0, [PC].to_vec()));
    c.s.must(c.t.cap, Label::TcbWriteRegisters, &[0, 1, PC + 4], &[]);
    assert_eq!(c.s.state(c.t), ThreadState::BlockedOnReply);
    c.answer(0, &[]);
    assert_eq!(c.t.tcb.context.pc.get(), PC + 4);
    let (label, words) = c.fault(|s| s.w.k.handle_vppi_event(27));
    assert_eq!((label, words), (9, [27].to_vec()));
    c.answer(0, &[]);
    let (label, words) = c.fault(|s| s.w.k.handle_vgic_maintenance(u64::MAX));
    assert_eq!((label, words), (7, [u64::MAX].to_vec()));
}

#[test]
fn an_interrupt_for_a_vcpu_that_is_gone_is_nobodys_fault() {
    let c = Case::new();
    c.s.recv(c.s.boss(), c.handler, c.reply);
    c.s.w.k.handle_vppi_event(27);
    assert_eq!(c.s.current(), Some(c.t.tcb));
}

#[test]
fn missing_capabilities() {
    let c = Case::new();
    let far = 0x100_0000_0000;
    let (label, words) = c.fault(|s| {
        s.message(c.t.tcb, 0, &[], &[]);
        c.t.tcb.context.x[0].set(far);
        c.t.tcb.context.pc.set(PC + 4);
        s.w.k.handle_syscall(Syscall::Call.word());
    });
    assert_eq!((label, words), (1, [PC, far, 0, 4, 64, 0, 56].to_vec()));
    c.answer(0, &[]);
    assert_eq!(c.t.tcb.context.pc.get(), PC, "it tries again");
    let empty = c.s.free_slot();
    let (_, words) = c.fault(|s| {
        c.t.tcb.context.x[0].set(empty);
        c.t.tcb.context.pc.set(PC + 4);
        s.w.k.handle_syscall(Syscall::NBRecv.word());
    });
    assert_eq!(
        words,
        [PC, empty, 1, 2, 0],
        "missing capability, no bits left"
    );
    // A polling send fails without a word; sending to an empty slot is an error, not a fault.
    c.answer(0, &[]);
    c.s.recv(c.s.boss(), c.handler, c.reply);
    c.s.send(c.t.tcb, Syscall::NBSend, far, &[]);
    let (error, words) = c.s.invoke_by(c.t.tcb, empty, Label::TcbResume, &[], &[]);
    assert_eq!((error, words), (2, [0].to_vec()));
}

#[test]
fn without_a_handler_the_thread_stops() {
    let s = Stage::new();
    let t = s.active(100);
    let pause = s.object(ObjectType::Notification);
    s.boss_waits(pause);
    s.w.k.handle_vm_fault(1, 2, Access::Data);
    s.check();
    assert_eq!(s.state(t), ThreadState::Inactive);
    assert_eq!(s.current(), None);
    s.wake_boss(pause);
    s.must(t.cap, Label::TcbResume, &[], &[]);
    assert_eq!(s.state(t), ThreadState::Running);
}

#[test]
fn a_handler_needs_write_and_grant_or_grant_reply() {
    let s = Stage::new();
    let ep = s.object(ObjectType::Endpoint);
    let t = s.passive(100);
    for (rights, error) in [(1, 2), (2 | 4, 2), (1 | 4, 0), (1 | 8, 0)] {
        let cap = s.minted(ep, rights, 1);
        let got = s.invoke(t.cap, Label::TcbSetTimeoutEndpoint, &[], &[cap]);
        assert_eq!(got.0, error, "rights {rights}");
        if error != 0 {
            assert_eq!(got.1, [1]);
        }
    }
    let got = s.invoke(t.cap, Label::TcbSetTimeoutEndpoint, &[], &[t.cap]);
    assert_eq!(got, (2, [1].to_vec()));
    s.must(t.cap, Label::TcbSetTimeoutEndpoint, &[], &[s.free_slot()]);
}

#[test]
fn a_resumed_thread_forgets_its_fault() {
    let c = Case::new();
    c.fault(|s| s.w.k.handle_vm_fault(1, 2, Access::Data));
    c.s.must(c.t.cap, Label::TcbResume, &[], &[]);
    assert_eq!(c.s.state(c.t), ThreadState::Running);
    assert_eq!(c.t.tcb.context.pc.get(), PC);
    c.answer(0, &[]);
    assert_eq!(c.s.state(c.t), ThreadState::Running);
}

#[test]
fn a_fault_waits_for_its_handler() {
    let c = Case::new();
    let pause = c.s.object(ObjectType::Notification);
    c.s.boss_waits(pause);
    c.s.w.k.handle_vm_fault(0x40, 2, Access::Data);
    c.s.check();
    assert_eq!(c.s.state(c.t), ThreadState::BlockedOnSend);
    c.s.wake_boss(pause);
    c.s.recv(c.s.boss(), c.handler, c.reply);
    assert_eq!(c.s.received(c.s.boss()), (6, [PC, 0x40, 0, 2].to_vec()));
    c.answer(0, &[]);
    assert_eq!(c.s.state(c.t), ThreadState::Running);
}

#[test]
fn timeouts_reach_the_timeout_handler() {
    let s = Stage::new();
    let (handler, reply) = (s.object(ObjectType::Endpoint), s.object(ObjectType::Reply));
    let t = s.with_budget(100, 1000, 10_000);
    s.configure(t.sc, 1000, 10_000, 0xbad, 1);
    s.must(t.cap, Label::TcbSetTimeoutEndpoint, &[], &[handler]);
    s.must(t.cap, Label::TcbResume, &[], &[]);
    s.recv(s.boss(), handler, reply);
    assert_eq!(s.current(), Some(t.tcb));
    s.pass(us(1500));
    assert_eq!(s.current(), Some(s.boss()));
    assert_eq!(s.received(s.boss()), (5, [0xbad, 1000].to_vec()));
    assert_eq!(s.state(t), ThreadState::BlockedOnReply);
    // The answer can set registers; there is no budget until the next period, and no second timeout for that.
    s.message(s.boss(), 0, &[PC + 8], &[]);
    s.syscall(s.boss(), Syscall::Send, reply, 0);
    assert_eq!(t.tcb.context.pc.get(), PC + 8);
    assert_eq!(s.state(t), ThreadState::Running);
    s.recv(s.boss(), handler, reply);
    assert_eq!(s.current(), None);
    s.pass(us(9_000));
    assert_eq!(s.current(), Some(t.tcb));
}
