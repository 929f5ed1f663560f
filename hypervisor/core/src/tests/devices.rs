//! Interrupts, vCPUs, secure monitor calls, domains.

use crate::cap::CapView;
use crate::check::fixture::{World, slots};
use crate::object::error::Error;
use sel4_sys::{Invocation as Label, ObjectType};

fn handler(w: &World, irq: u64, dest: u64) -> Result<u64, Error> {
    w.call(
        slots::IRQ_CONTROL,
        Label::IrqIssueIrqHandler,
        &[irq, dest, 64],
        &[slots::CNODE],
    )
}

#[test]
fn an_interrupt_signals_its_notification() {
    let w = World::new();
    w.retype(slots::RAM, ObjectType::Notification, 0, 20, 1)
        .unwrap();
    w.mint(21, 20, 0x10).unwrap();
    handler(&w, 33, 22).unwrap();
    assert!(!w.k.arch.is_masked(33));
    assert_eq!(handler(&w, 33, 23), Err(Error::RevokeFirst));
    assert_eq!(
        handler(&w, 26, 23),
        Err(Error::RevokeFirst),
        "the kernel's own"
    );
    assert_eq!(handler(&w, 64, 23), Err(Error::Range { min: 0, max: 63 }));
    assert_eq!(w.k.take_irq(33), None);
    assert!(w.k.arch.is_masked(33));
    w.call(22, Label::IrqSetIrqHandler, &[], &[21]).unwrap();
    w.call(22, Label::IrqAckIrq, &[], &[]).unwrap();
    assert!(!w.k.arch.is_masked(33));
    let CapView::Notification { object, .. } = w.cap(20) else {
        panic!("no notification");
    };
    assert_eq!(w.k.take_irq(33), Some((object, 0x10)));
    w.assert_consistent();
    // Another one in its place, then none.
    w.call(22, Label::IrqSetIrqHandler, &[], &[20]).unwrap();
    assert_eq!(w.k.take_irq(33), Some((object, 0)));
    w.call(22, Label::IrqClearIrqHandler, &[], &[]).unwrap();
    assert_eq!(w.k.take_irq(33), None);
    assert_eq!(
        w.call(22, Label::IrqSetIrqHandler, &[], &[slots::TCB]),
        Err(Error::InvalidCapability(0))
    );
    w.assert_consistent();
}

#[test]
fn an_interrupt_whose_handler_goes_is_free_again() {
    let w = World::new();
    w.retype(slots::RAM, ObjectType::Notification, 0, 20, 1)
        .unwrap();
    handler(&w, 40, 22).unwrap();
    w.copy(23, 22).unwrap();
    w.call(22, Label::IrqSetIrqHandler, &[], &[20]).unwrap();
    w.delete(22).unwrap();
    assert!(w.k.take_irq(40).is_some());
    // The last capability to the notification is the interrupt's.
    w.delete(20).unwrap();
    w.delete(23).unwrap();
    assert!(w.k.arch.is_masked(40));
    assert_eq!(w.k.take_irq(40), None);
    w.assert_consistent();
    handler(&w, 40, 22).unwrap();
    w.revoke(slots::IRQ_CONTROL).unwrap();
    assert!(w.slot(22).cap.get().is_null());
    w.assert_consistent();
}

#[test]
fn software_generated_interrupts() {
    let w = World::new();
    let issue = |irq: u64, target: u64, dest: u64| {
        w.call(
            slots::IRQ_CONTROL,
            Label::ArmIrqIssueSgiSignal,
            &[irq, target, dest, 64],
            &[slots::CNODE],
        )
    };
    assert_eq!(issue(16, 0, 20), Err(Error::Range { min: 0, max: 15 }));
    assert_eq!(issue(3, 8, 20), Err(Error::InvalidArgument(1)));
    issue(3, 7, 20).unwrap();
    w.copy(21, 20).unwrap();
    crate::decode::irq::signal_sgi(&w.k, w.slot(21).cap.get());
    assert_eq!(w.k.arch.sgis(), [(3, 7)]);
    w.revoke(20).unwrap();
    assert!(w.slot(21).cap.get().is_null());
    w.assert_consistent();
}

#[test]
fn a_vcpu_and_its_thread() {
    let w = World::new();
    w.retype(slots::RAM, ObjectType::Vcpu, 0, 20, 2).unwrap();
    w.retype(slots::RAM, ObjectType::Tcb, 0, 22, 2).unwrap();
    let bind = |vcpu: u64, tcb: u64| w.call(vcpu, Label::ArmVcpuSetTcb, &[], &[tcb]);
    bind(20, 22).unwrap();
    bind(21, 23).unwrap();
    w.assert_consistent();
    bind(20, 23).unwrap();
    w.assert_consistent();
    let (CapView::Vcpu(first), CapView::Vcpu(second)) = (w.cap(20), w.cap(21)) else {
        panic!("no vCPUs");
    };
    assert_eq!(second.tcb.get(), None);
    assert!(first.tcb.get().is_some());
    w.delete(23).unwrap();
    assert_eq!(first.tcb.get(), None);
    bind(20, 22).unwrap();
    w.delete(20).unwrap();
    w.assert_consistent();
    assert_eq!(bind(21, 21), Err(Error::IllegalOperation));
    assert_eq!(
        w.call(21, Label::ArmVcpuSetTcb, &[], &[]),
        Err(Error::TruncatedMessage)
    );
}

#[test]
fn vcpu_registers_and_interrupts() {
    let w = World::new();
    w.retype(slots::RAM, ObjectType::Vcpu, 0, 20, 1).unwrap();
    w.call(20, Label::ArmVcpuWriteReg, &[17, 0x1234], &[])
        .unwrap();
    w.call(20, Label::ArmVcpuReadReg, &[17], &[]).unwrap();
    assert_eq!(w.answer(0), 0x1234);
    assert_eq!(
        w.call(20, Label::ArmVcpuReadReg, &[24], &[]),
        Err(Error::InvalidArgument(1))
    );
    let inject = |virq: u64, priority: u64, group: u64, index: u64| {
        let word = virq | priority << 16 | group << 24 | index << 32;
        w.call(20, Label::ArmVcpuInjectIrq, &[word], &[])
    };
    inject(48, 5, 1, 0).unwrap();
    assert_eq!(inject(49, 5, 1, 0), Err(Error::DeleteFirst));
    assert_eq!(
        inject(1024, 0, 0, 1),
        Err(Error::Range { min: 0, max: 1023 })
    );
    assert_eq!(inject(48, 32, 0, 1), Err(Error::Range { min: 0, max: 31 }));
    assert_eq!(inject(48, 0, 2, 1), Err(Error::Range { min: 0, max: 1 }));
    assert_eq!(inject(48, 0, 0, 4), Err(Error::Range { min: 0, max: 3 }));
    w.call(20, Label::ArmVcpuAckVppi, &[27], &[]).unwrap();
    assert_eq!(
        w.call(20, Label::ArmVcpuAckVppi, &[30], &[]),
        Err(Error::InvalidArgument(0))
    );
    assert_eq!(
        w.call(20, Label::ArmVcpuAckVppi, &[64], &[]),
        Err(Error::Range { min: 0, max: 63 })
    );
}

#[test]
fn a_badged_smc_capability_allows_one_function() {
    let w = World::new();
    w.mint(20, slots::SMC, 0x8400_0000).unwrap();
    let call = |slot: u64, function: u64| {
        w.call(
            slot,
            Label::ArmSmcCall,
            &[function, 1, 2, 3, 4, 5, 6, 7],
            &[],
        )
    };
    call(slots::SMC, 9).unwrap();
    assert_eq!((w.answer(0), w.answer(7)), (!9, !7));
    call(20, 0x8400_0000).unwrap();
    assert_eq!(call(20, 0x8400_0001), Err(Error::IllegalOperation));
    assert_eq!(w.mint(21, 20, 1), Err(Error::IllegalOperation));
    w.revoke(slots::SMC).unwrap();
    assert!(w.slot(20).cap.get().is_null());
}

#[test]
fn there_is_one_domain() {
    let w = World::new();
    let set =
        |domain: u64, thread: u64| w.call(slots::DOMAIN, Label::DomainSetSet, &[domain], &[thread]);
    set(0, slots::TCB).unwrap();
    assert_eq!(set(1, slots::TCB), Err(Error::InvalidArgument(0)));
    assert_eq!(set(0, slots::RAM), Err(Error::InvalidArgument(1)));
    let configure =
        |words: [u64; 3]| w.call(slots::DOMAIN, Label::DomainScheduleConfigure, &words, &[]);
    configure([0, 0, 100]).unwrap();
    assert_eq!(configure([1, 0, 100]), Err(Error::Range { min: 0, max: 0 }));
    assert_eq!(configure([0, 1, 100]), Err(Error::Range { min: 0, max: 0 }));
    assert_eq!(configure([0, 0, 0]), Err(Error::InvalidArgument(2)));
    let start = |index: u64| w.call(slots::DOMAIN, Label::DomainScheduleSetStart, &[index], &[]);
    start(0).unwrap();
    assert_eq!(start(1), Err(Error::InvalidArgument(0)), "the end marker");
    assert_eq!(start(2), Err(Error::Range { min: 0, max: 1 }));
}
