//! Interrupts: capabilities to them, and the notifications that they signal (seL4 manual, section 9.1).

use crate::arch::{Arch, IrqMask, Trigger};
use crate::cap::{Cap, CapView, Rights};
use crate::cspace::cdt;
use crate::cspace::cnode;
use crate::decode::invocation::Invocation;
use crate::lifecycle::delete;
use crate::object::Notification;
use crate::object::error::{Error, Outcome, Progress};
use crate::object::mem::Ref;
use crate::object::slot::Derivation;
use crate::state::kernel::Kernel;
use sel4_sys::Invocation as Label;

/// Software-generated interrupts are 0..=15 (GIC architecture).
const SGI_LAST: u64 = 15;

impl<A: Arch> Kernel<A> {
    /// An interrupt has come: it stays masked until its handler acknowledges it. The notification to signal and the
    /// badge, if it has one.
    #[inline]
    pub fn take_irq(&self, irq: u64) -> Option<(Ref<Notification>, u64)> {
        self.arch.mask_irq(irq, IrqMask::Masked);
        match self.irqs.slot(irq)?.cap.get().view() {
            CapView::Notification {
                object,
                badge,
                rights,
            } if rights.has(Rights::WRITE) => Some((object, badge)),
            _ => None,
        }
    }

    /// The last handler capability of an interrupt is gone, and its slot is empty.
    pub(crate) fn disable_irq(&self, irq: u64) {
        self.arch.mask_irq(irq, IrqMask::Masked);
        self.irqs.release(irq);
    }
}

/// An invocation of the interrupt control capability: Get (words irq, index, depth), GetTrigger (irq, trigger, index,
/// depth) and IssueSGISignal (irq, target, index, depth), all with capability root.
///
/// # Errors
/// Those that the interface documents for each method.
pub fn decode_control<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    const GET: u64 = Label::IrqIssueIrqHandler.word();
    const GET_TRIGGER: u64 = Label::ArmIrqIssueIrqHandlerTrigger.word();
    const ISSUE_SGI: u64 = Label::ArmIrqIssueSgiSignal.word();
    let (place, words) = match inv.label {
        GET => (1u64, 3),
        GET_TRIGGER | ISSUE_SGI => (2u64, 4),
        _ => return Err(Error::IllegalOperation),
    };
    inv.need_words(words)?;
    let root = inv.extra(0)?;
    let irq = inv.word(k, 0);
    let dest = || {
        cnode::empty_operand(
            root.cap.get(),
            inv.word(k, place),
            inv.word(k, place.wrapping_add(1)),
        )
    };
    if inv.label == ISSUE_SGI {
        if irq > SGI_LAST {
            return Err(Error::Range {
                min: 0,
                max: SGI_LAST,
            });
        }
        let target = inv.word(k, 1);
        if !k.arch.sgi_target_valid(target) {
            return Err(Error::InvalidArgument(1));
        }
        let cap = Cap::from_view(CapView::SgiSignal { irq, target });
        cdt::insert(cap, inv.slot, dest()?, Derivation::ORIGINAL);
        return Ok(Progress::Done);
    }
    let max = k.arch.max_irq();
    if irq > max {
        return Err(Error::Range { min: 0, max });
    }
    if k.irqs.is_issued(irq) {
        return Err(Error::RevokeFirst);
    }
    let dest = dest()?;
    if inv.label == GET_TRIGGER {
        let trigger = if inv.word(k, 1) == 0 {
            Trigger::Level
        } else {
            Trigger::Edge
        };
        k.arch.set_trigger(irq, trigger);
    }
    k.irqs.reserve(irq);
    k.arch.mask_irq(irq, IrqMask::Unmasked);
    let cap = Cap::from_view(CapView::IrqHandler { irq });
    cdt::insert(cap, inv.slot, dest, Derivation::ORIGINAL);
    Ok(Progress::Done)
}

/// An invocation of an interrupt handler capability: Ack, SetNotification (capability notification), Clear.
///
/// # Errors
/// Those that the interface documents for each method.
pub fn decode_handler<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    const ACK: u64 = Label::IrqAckIrq.word();
    const SET: u64 = Label::IrqSetIrqHandler.word();
    const CLEAR: u64 = Label::IrqClearIrqHandler.word();
    let CapView::IrqHandler { irq } = inv.cap.view() else {
        return Err(Error::InvalidCapability(0));
    };
    match inv.label {
        ACK => {
            k.arch.mask_irq(irq, IrqMask::Unmasked);
            Ok(Progress::Done)
        }
        SET => {
            let source = inv.extra(0)?;
            let cap = source.cap.get();
            match cap.view() {
                CapView::Notification { rights, .. } if rights.has(Rights::WRITE) => {}
                _ => return Err(Error::InvalidCapability(0)),
            }
            let Some(slot) = k.irqs.slot(irq) else {
                return Err(Error::InvalidCapability(0));
            };
            if delete::clear_irq(k, irq) == Progress::Preempted {
                return Ok(Progress::Preempted);
            }
            cdt::insert_copy(cap, source, slot);
            Ok(Progress::Done)
        }
        CLEAR => Ok(delete::clear_irq(k, irq)),
        _ => Err(Error::IllegalOperation),
    }
}

/// A send on an SGI signal capability.
pub fn signal_sgi<A: Arch>(k: &Kernel<A>, cap: Cap) {
    if let CapView::SgiSignal { irq, target } = cap.view() {
        k.arch.send_sgi(irq, target);
    }
}
