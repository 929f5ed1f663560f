//! Invocations of threads: registers, states, priorities, spaces; their errors.

use super::stage::{PC, Stage};
use crate::arch::Arch;
use crate::check::fixture::slots;
use crate::object::{ThreadState, tcb_slot};
use sel4_sys::{Invocation as Label, ObjectType, Syscall};
use std::vec::Vec;

#[test]
fn all_registers_are_written_and_read_in_the_order_of_the_interface() {
    let s = Stage::new();
    let t = s.passive(20);
    let values: Vec<u64> = (0..36).map(|n| 0x1000 + n).collect();
    let mut words = [0u64, 36].to_vec();
    words.extend(&values);
    s.must(t.cap, Label::TcbWriteRegisters, &words, &[]);
    let c = &t.tcb.context;
    assert_eq!(c.pc.get(), 0x1000);
    assert_eq!(c.sp.get(), 0x1001);
    assert_eq!(c.spsr.get(), 0, "sanitised");
    let order = [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 18, 29, 30, 9, 10, 11, 12, 13, 14, 15, 19, 20, 21, 22,
        23, 24, 25, 26, 27, 28,
    ];
    for (n, x) in order.into_iter().enumerate() {
        assert_eq!(c.x[x].get(), 0x1003 + n as u64, "x{x}");
    }
    assert_eq!(c.tpidr_el0.get(), 0x1022);
    assert_eq!(c.tpidrro_el0.get(), 0x1023);
    let (error, read) = s.invoke(t.cap, Label::TcbReadRegisters, &[0, 36], &[]);
    let mut expected = values;
    expected[2] = 0;
    assert_eq!((error, read), (0, expected));
    assert_eq!(s.state(t), ThreadState::Inactive);
}

#[test]
fn register_transfers_check_their_arguments() {
    let s = Stage::new();
    let t = s.passive(20);
    let call = |cap, label, words: &[u64]| s.invoke(cap, label, words, &[]);
    assert_eq!(
        call(t.cap, Label::TcbReadRegisters, &[0, 0]),
        (4, [1, 36].to_vec())
    );
    assert_eq!(call(t.cap, Label::TcbReadRegisters, &[0, 37]).0, 4);
    assert_eq!(call(t.cap, Label::TcbReadRegisters, &[0]).0, 7);
    assert_eq!(call(slots::TCB, Label::TcbReadRegisters, &[0, 1]).0, 3);
    assert_eq!(call(t.cap, Label::TcbWriteRegisters, &[0, 2, 1]).0, 7);
    assert_eq!(call(slots::TCB, Label::TcbWriteRegisters, &[0, 1, 1]).0, 3);
    assert_eq!(call(t.cap, Label::CNodeCopy, &[0, 2, 1]).0, 3);
    let copy = |words: &[u64], source| s.invoke(t.cap, Label::TcbCopyRegisters, words, &[source]);
    assert_eq!(copy(&[0], t.sc), (2, [1].to_vec()));
    assert_eq!(s.invoke(t.cap, Label::TcbCopyRegisters, &[0], &[]).0, 7);
}

#[test]
fn answers_leave_a_read_only_buffer_alone() {
    let s = Stage::new();
    let (t, buffer) = (s.passive(20), s.object(ObjectType::SmallPage));
    let boss = s.boss();
    // A frame that it may read: it sends from there, and receives nothing in it.
    boss.thread.ipc_buffer_kernel.set(s.frame(buffer));
    let (error, words) = s.invoke(t.cap, Label::TcbReadRegisters, &[0, 36], &[]);
    assert_eq!((error, words.len()), (0, 4));
    for n in 0..512 {
        assert_eq!(s.w.k.arch.read_word(s.frame(buffer) + 8 * n), 0, "word {n}");
    }
}

#[test]
fn copied_registers() {
    let s = Stage::new();
    let (from, to) = (s.passive(20), s.passive(20));
    for n in 0..31 {
        from.tcb.context.x[n].set(500 + n as u64);
    }
    from.tcb.context.pc.set(0x4444);
    s.must(to.cap, Label::TcbCopyRegisters, &[4], &[from.cap]);
    assert_eq!(to.tcb.context.pc.get(), 0x4444);
    assert_eq!(to.tcb.context.x[16].get(), 516);
    assert_eq!(to.tcb.context.x[9].get(), 0);
    s.must(to.cap, Label::TcbCopyRegisters, &[8 | 2 | 1], &[from.cap]);
    assert_eq!(to.tcb.context.x[9].get(), 509);
    assert_eq!(s.state(to), ThreadState::Running);
}

#[test]
fn a_suspended_waiter_makes_its_call_again_when_resumed() {
    let s = Stage::new();
    let (n, pause) = (
        s.object(ObjectType::Notification),
        s.object(ObjectType::Notification),
    );
    let t = s.active(20);
    s.boss_waits(pause);
    s.wait(t.tcb, n);
    assert_eq!(t.tcb.context.pc.get(), PC + 4);
    s.wake_boss(pause);
    let (_, words) = s.invoke(t.cap, Label::TcbReadRegisters, &[0, 1], &[]);
    assert_eq!(words, [PC], "where it would be restarted");
    s.must(t.cap, Label::TcbSuspend, &[], &[]);
    assert_eq!(s.state(t), ThreadState::Inactive);
    assert_eq!(t.tcb.context.pc.get(), PC);
    s.must(t.cap, Label::TcbResume, &[], &[]);
    assert_eq!(s.state(t), ThreadState::Running);
    assert_eq!(t.tcb.context.pc.get(), PC);
}

#[test]
fn a_waiter_whose_pc_is_written_starts_there() {
    let s = Stage::new();
    let (n, pause) = (
        s.object(ObjectType::Notification),
        s.object(ObjectType::Notification),
    );
    let t = s.active(20);
    s.boss_waits(pause);
    s.wait(t.tcb, n);
    s.wake_boss(pause);
    s.must(t.cap, Label::TcbWriteRegisters, &[1, 1, 0x5000], &[]);
    assert_eq!(s.state(t), ThreadState::Running);
    assert_eq!(t.tcb.context.pc.get(), 0x5000);
}

#[test]
fn suspending_oneself() {
    let s = Stage::new();
    let t = s.active(20);
    let pause = s.object(ObjectType::Notification);
    s.boss_waits(pause);
    s.message(t.tcb, Label::TcbSuspend.word(), &[], &[]);
    s.syscall(t.tcb, Syscall::Call, t.cap, 0);
    assert_eq!(s.current(), None);
    assert_eq!(s.state(t), ThreadState::Inactive);
    s.wake_boss(pause);
    s.must(t.cap, Label::TcbResume, &[], &[]);
    s.boss_waits(pause);
    assert_eq!(s.current(), Some(t.tcb));
    // Resuming oneself is harmless.
    s.message(t.tcb, Label::TcbResume.word(), &[], &[]);
    s.syscall(t.tcb, Syscall::Call, t.cap, 0);
    assert_eq!(s.current(), Some(t.tcb));
    assert_eq!(s.received(t.tcb).0, 0);
}

#[test]
fn priorities_are_bounded_by_the_authority() {
    let s = Stage::new();
    let (t, weak) = (s.passive(20), s.passive(20));
    s.must(weak.cap, Label::TcbSetMcPriority, &[30], &[slots::TCB]);
    for label in [Label::TcbSetPriority, Label::TcbSetMcPriority] {
        assert_eq!(s.invoke(t.cap, label, &[30], &[weak.cap]).0, 0);
        assert_eq!(
            s.invoke(t.cap, label, &[31], &[weak.cap]),
            (4, [0, 30].to_vec())
        );
        assert_eq!(s.invoke(t.cap, label, &[256], &[slots::TCB]).0, 4);
        assert_eq!(s.invoke(t.cap, label, &[1], &[t.sc]), (2, [1].to_vec()));
        assert_eq!(s.invoke(t.cap, label, &[1], &[]).0, 7);
        assert_eq!(s.invoke(t.cap, label, &[], &[slots::TCB]).0, 7);
    }
    assert_eq!(t.tcb.thread.priority.get(), 30);
}

#[test]
fn lowering_oneself_lets_others_run() {
    let s = Stage::new();
    let (a, b) = (s.active(20), s.active(10));
    let pause = s.object(ObjectType::Notification);
    a.tcb.thread.mcp.set(20);
    s.boss_waits(pause);
    s.message(a.tcb, Label::TcbSetPriority.word(), &[5], &[a.cap]);
    s.syscall(a.tcb, Syscall::Call, a.cap, 0);
    assert_eq!(s.current(), Some(b.tcb));
    s.wake_boss(pause);
    s.must(a.cap, Label::TcbSetPriority, &[15], &[slots::TCB]);
    s.boss_waits(pause);
    assert_eq!(s.current(), Some(a.tcb));
}

#[test]
fn scheduling_parameters_in_one_call() {
    let s = Stage::new();
    let t = s.passive(20);
    let other = s.with_budget(20, 1000, 1000);
    let null = s.free_slot();
    let ep = s.object(ObjectType::Endpoint);
    let set = |words: &[u64], caps: &[u64]| s.invoke(t.cap, Label::TcbSetSchedParams, words, caps);
    assert_eq!(set(&[9, 9], &[slots::TCB, t.sc]).0, 7);
    assert_eq!(set(&[9], &[slots::TCB, t.sc, null]).0, 7);
    assert_eq!(set(&[9, 9], &[t.sc, t.sc, null]), (2, [1].to_vec()));
    assert_eq!(set(&[9, 9], &[slots::TCB, ep, null]), (2, [2].to_vec()));
    assert_eq!(set(&[9, 9], &[slots::TCB, t.sc, t.sc]), (2, [3].to_vec()));
    assert_eq!(set(&[9, 9], &[slots::TCB, other.sc, null]).0, 3);
    assert_eq!(t.tcb.thread.priority.get(), 20);
    assert_eq!(set(&[9, 8], &[slots::TCB, t.sc, ep]).0, 0);
    assert_eq!(t.tcb.thread.mcp.get(), 9);
    assert_eq!(t.tcb.thread.priority.get(), 8);
    assert_eq!(t.tcb.thread.sched_context.get(), Some(s.sc(t.sc)));
    assert!(!t.tcb.slots[tcb_slot::FAULT_HANDLER].cap.get().is_null());
    assert_eq!(set(&[9, 8], &[slots::TCB, other.sc, null]).0, 3);
    assert_eq!(set(&[9, 8], &[slots::TCB, null, null]).0, 0);
    assert!(t.tcb.thread.sched_context.get().is_none());
    assert!(t.tcb.slots[tcb_slot::FAULT_HANDLER].cap.get().is_null());
    let own = s.invoke(
        slots::TCB,
        Label::TcbSetSchedParams,
        &[255, 255],
        &[slots::TCB, null, null],
    );
    assert_eq!(own.0, 3, "not one's own time");
}

#[test]
fn spaces_and_buffers_are_checked() {
    let s = Stage::new();
    let t = s.passive(20);
    let (frame, vspace, pool) = (
        s.object(ObjectType::SmallPage),
        s.object(ObjectType::VSpace),
        s.sized(ObjectType::Untyped, 12),
    );
    let null = s.free_slot();
    let set = |buffer, frame| s.invoke(t.cap, Label::TcbSetIpcBuffer, &[buffer], &[frame]);
    assert_eq!(set(0x1000, t.sc).0, 3);
    assert_eq!(set(0x1010, frame).0, 5);
    assert_eq!(set(0x1400, frame).0, 0);
    assert_eq!(
        t.tcb.thread.ipc_buffer_kernel.get(),
        s.frame(frame) + 0x400 + 1
    );
    assert_eq!(set(0, frame).0, 0);
    assert_eq!(t.tcb.thread.ipc_buffer_kernel.get(), 0);
    let device = s.free_slot();
    s.w.retype(slots::DEVICE, ObjectType::SmallPage, 0, device, 1)
        .unwrap();
    assert_eq!(set(0x1000, device).0, 3);
    // Read-only: to send from, not to receive in.
    let read_only = s.minted(frame, 2, 0);
    assert_eq!(set(0x1000, read_only).0, 0);
    assert_eq!(t.tcb.thread.ipc_buffer_kernel.get() & 1, 0);
    assert_ne!(t.tcb.thread.ipc_buffer_kernel.get(), 0);

    let space = |words: &[u64], caps: &[u64]| s.invoke(t.cap, Label::TcbSetSpace, words, caps);
    assert_eq!(space(&[0, 0], &[null, slots::CNODE]).0, 7);
    assert_eq!(space(&[0], &[null, slots::CNODE, vspace]).0, 7);
    assert_eq!(
        space(&[0, 0], &[null, slots::CNODE, vspace]).0,
        3,
        "no ASID"
    );
    let asid_pool = s.free_slot();
    s.must(
        slots::ASID_CONTROL,
        Label::ArmAsidControlMakePool,
        &[asid_pool, 64],
        &[pool, slots::CNODE],
    );
    s.must(asid_pool, Label::ArmAsidPoolAssign, &[], &[vspace]);
    assert_eq!(space(&[0, 0], &[null, vspace, vspace]).0, 3);
    assert_eq!(space(&[0, 0], &[null, slots::CNODE, slots::CNODE]).0, 3);
    assert_eq!(
        space(&[0, 0], &[t.sc, slots::CNODE, vspace]),
        (2, [1].to_vec())
    );
    assert_eq!(space(&[63, 0], &[null, slots::CNODE, vspace]).0, 3, "guard");
    assert_eq!(space(&[0, 0], &[null, slots::CNODE, vspace]).0, 0);
    let configure = |caps: &[u64]| s.invoke(t.cap, Label::TcbConfigure, &[0, 0, 0x2000], caps);
    assert_eq!(configure(&[slots::CNODE, vspace]).0, 7);
    assert_eq!(configure(&[slots::CNODE, vspace, frame]).0, 0);
    assert_eq!(t.tcb.thread.ipc_buffer.get(), 0x2000);
    // With the thread go its capabilities.
    s.must(slots::CNODE, Label::CNodeDelete, &[t.cap, 64], &[]);
}

#[test]
fn flags_and_tls() {
    let s = Stage::new();
    let t = s.passive(20);
    let flags = |clear, set| s.invoke(t.cap, Label::TcbSetFlags, &[clear, set], &[]);
    assert_eq!(flags(0, 0), (0, [0].to_vec()));
    assert_eq!(flags(0, 0xff), (0, [1].to_vec()));
    assert_eq!(flags(1, 1), (0, [1].to_vec()), "cleared, then set");
    assert_eq!(flags(1, 0), (0, [0].to_vec()));
    let emulated = sel4_sys::tcb_flags::EMULATED;
    assert_eq!(flags(0, emulated), (0, [emulated].to_vec()));
    assert_eq!(flags(0, 1), (0, [emulated | 1].to_vec()), "one by one");
    assert_eq!(flags(emulated, 0), (0, [1].to_vec()));
    assert_eq!(s.invoke(t.cap, Label::TcbSetFlags, &[0], &[]).0, 7);
    s.must(t.cap, Label::TcbSetTlsBase, &[0x7777], &[]);
    assert_eq!(t.tcb.context.tpidr_el0.get(), 0x7777);
    assert_eq!(s.invoke(t.cap, Label::TcbSetTlsBase, &[], &[]).0, 7);
}

#[test]
fn a_deleted_thread_leaves_every_queue() {
    let s = Stage::new();
    let (ep, n) = (
        s.object(ObjectType::Endpoint),
        s.object(ObjectType::Notification),
    );
    let pause = s.object(ObjectType::Notification);
    let threads: Vec<_> = (0..6).map(|_| s.active(20)).collect();
    s.boss_waits(pause);
    for step in 0..4 {
        let current = s.current().unwrap();
        if step % 2 == 0 {
            s.send(current, Syscall::Call, ep, &[]);
        } else {
            s.wait(current, n);
        }
    }
    s.wake_boss(pause);
    for t in threads {
        s.must(slots::CNODE, Label::CNodeDelete, &[t.cap, 64], &[]);
    }
    assert!(s.endpoint(ep).queue.head.get().is_none());
    assert!(s.notification(n).queue.head.get().is_none());
    s.boss_waits(pause);
    assert_eq!(s.current(), None);
}
