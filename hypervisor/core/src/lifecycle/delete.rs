//! Deletion and revocation (seL4 manual, section 3.2).
//!
//! Deleting the last capability to an object finishes the object. A CNode or TCB holds capabilities itself: its slot turns
//! into a zombie, which counts the slots that are still to be emptied, from the top down. The zombie is all there is to
//! restart from: a preempted deletion goes on where it stopped, whoever deletes the slot next.
//!
//! Nothing here recurses. A CNode whose last capability is found in a container under deletion is not deleted along with it: its
//! zombie changes places with the CNode's own first slot, where nobody reaches it but a revoke of the untyped memory below
//! (so does seL4; manual, footnote in section 3.2). A TCB found there is emptied at once, since it has five slots.
//!
//! # Invariants
//! - A zombie is the only capability to its container, and it cannot be copied, moved or invoked.
//! - The slots of its container at or above its count are empty.
//!
//! Termination: every step either empties a slot, lowers a count, turns the last capability of a container into a zombie, or
//! brings a zombie home into its container, and none of these is ever undone.

use crate::arch::Arch;
use crate::cap::{Cap, CapView, Kind, ZOMBIE_TCB, ZombieParts};
use crate::cspace::cdt;
use crate::object::error::Progress;
use crate::object::mem::Ref;
use crate::object::slot;
use crate::object::{Slot, tcb_slot};
use crate::run::endpoint;
use crate::run::notification;
use crate::run::reply;
use crate::run::sched_context;
use crate::run::thread;
use crate::run::vcpu;
use crate::state::kernel::Kernel;
use crate::vspace::paging;

/// What became of the object of a capability that is being deleted.
enum Fate {
    /// The slot can be emptied.
    Finished,
    /// It is a container: this zombie takes the capability's place.
    Container(Cap),
    /// An interrupt is pending; nothing of the capability has changed.
    Preempted,
}

/// Whether the capability in `slot` can go without anybody noticing: other capabilities to the object exist, or it is a frame's
/// that is mapped nowhere, and nobody's state depends on the slot itself.
#[inline(always)]
fn goes_unnoticed(slot: Ref<Slot>) -> bool {
    let cap = slot.cap.get();
    match cap.kind() {
        Kind::NULL | Kind::ZOMBIE => false,
        Kind::FRAME => !cap.is_mapped() && slot::tcb_place(slot).is_none(),
        Kind::VSPACE => slot::tcb_place(slot).is_none() && !cdt::is_last(slot),
        _ => !cdt::is_last(slot),
    }
}

/// Empties a slot. [`Progress::Preempted`]: it may hold a zombie now; deleting it again goes on.
#[inline(always)]
pub fn delete<A: Arch>(k: &Kernel<A>, slot: Ref<Slot>) -> Progress {
    if goes_unnoticed(slot) {
        cdt::remove(slot);
        return Progress::Done;
    }
    if slot.cap.get().kind() == Kind::FRAME {
        finish_frame(k, slot);
        cdt::remove(slot);
        return Progress::Done;
    }
    delete_object(k, slot)
}

/// A frame's capability goes, and with it the mapping that it made.
#[inline(never)]
fn finish_frame<A: Arch>(k: &Kernel<A>, slot: Ref<Slot>) {
    if let Some(frame) = slot.cap.get().as_frame()
        && let Some(mapping) = frame.mapping
    {
        paging::unmap_frame(
            k,
            mapping.asid,
            mapping.vaddr,
            frame.addr.wrapping_sub(A::PHYS_OFFSET),
            frame.size.bits(),
        );
    }
    if let Some(place) = slot::tcb_place(slot)
        && place.index == tcb_slot::IPC_BUFFER
    {
        thread::ipc_buffer_gone(k, place.tcb);
    }
}

/// [`delete`] where the object, or somebody who uses it, is concerned.
#[inline(never)]
fn delete_object<A: Arch>(k: &Kernel<A>, slot: Ref<Slot>) -> Progress {
    match slot.cap.get().kind() {
        Kind::NULL => return Progress::Done,
        Kind::ZOMBIE => {}
        _ => match finish(k, slot) {
            Fate::Finished => {
                cdt::remove(slot);
                return Progress::Done;
            }
            Fate::Container(zombie) => slot.cap.set(zombie),
            Fate::Preempted => return Progress::Preempted,
        },
    }
    empty_container(k, slot)
}

/// Deletes everything that is derived from the capability in `slot`.
pub fn revoke<A: Arch>(k: &Kernel<A>, slot: Ref<Slot>) -> Progress {
    // Each round deletes one child; nothing can be derived meanwhile.
    while let Some(child) = cdt::first_child(slot) {
        #[cfg(test)]
        if planted::is_missed(slot, child) {
            break;
        }
        if delete(k, child) == Progress::Preempted {
            return Progress::Preempted;
        }
        if k.preemption_point() && cdt::first_child(slot).is_some() {
            return Progress::Preempted;
        }
    }
    Progress::Done
}

/// Does what the deletion of the capability in `slot` means for its object. The slot itself stays as it is.
#[inline]
fn finish<A: Arch>(k: &Kernel<A>, slot: Ref<Slot>) -> Fate {
    let cap = slot.cap.get();
    if cap.kind() == Kind::FRAME {
        finish_frame(k, slot);
        return Fate::Finished;
    }
    if cap.kind() == Kind::VSPACE
        && let Some(place) = slot::tcb_place(slot)
        && k.current.get() == Some(place.tcb)
    {
        // The running thread must not go on in an address space that it has no capability to any more.
        k.activate_vspace(Cap::NULL);
    }
    if !cdt::is_last(slot) {
        return Fate::Finished;
    }
    let progress = match cap.view() {
        CapView::Endpoint { object, .. } => endpoint::cancel_all(k, object),
        CapView::Notification { object, .. } => notification::finalise(k, object),
        CapView::Reply { object, .. } => {
            reply::finalise(k, object);
            Progress::Done
        }
        CapView::SchedContext { object, .. } => {
            sched_context::finalise(k, object);
            Progress::Done
        }
        CapView::IrqHandler { irq } => finish_irq(k, irq),
        CapView::Thread(tcb) => {
            vcpu::forget_thread(k, tcb);
            thread::finalise(k, tcb);
            k.arch.forget_thread(tcb);
            return Fate::Container(Cap::zombie(
                slot::tcb_slots(tcb),
                ZOMBIE_TCB,
                tcb_slot::COUNT as u64,
            ));
        }
        CapView::CNode { slots, radix, .. } => {
            return Fate::Container(Cap::zombie(slots, radix, 1 << radix));
        }
        CapView::PageTable {
            addr,
            mapping: Some(mapping),
            level,
        } => {
            let paddr = addr.wrapping_sub(A::PHYS_OFFSET);
            paging::unmap_table(k, mapping.asid, mapping.vaddr, paddr, level);
            Progress::Done
        }
        CapView::VSpace {
            addr,
            asid: Some(asid),
        } => {
            k.release_asid(asid, addr);
            Progress::Done
        }
        CapView::AsidPool { object, base } => {
            k.remove_asid_pool(object, base);
            Progress::Done
        }
        CapView::Vcpu(object) => {
            vcpu::finalise(k, object);
            Progress::Done
        }
        _ => Progress::Done,
    };
    match progress {
        Progress::Done => Fate::Finished,
        Progress::Preempted => Fate::Preempted,
    }
}

/// The last handler capability of an interrupt goes: it signals nobody any more.
fn finish_irq<A: Arch>(k: &Kernel<A>, irq: u64) -> Progress {
    if clear_irq(k, irq) == Progress::Preempted {
        return Progress::Preempted;
    }
    k.disable_irq(irq);
    Progress::Done
}

/// Empties the slot of an interrupt, which holds a notification capability or nothing.
pub(crate) fn clear_irq<A: Arch>(k: &Kernel<A>, irq: u64) -> Progress {
    let Some(slot) = k.irqs.slot(irq) else {
        return Progress::Done;
    };
    let CapView::Notification { object, .. } = slot.cap.get().view() else {
        return Progress::Done;
    };
    if cdt::is_last(slot) && notification::finalise(k, object) == Progress::Preempted {
        return Progress::Preempted;
    }
    cdt::remove(slot);
    Progress::Done
}

/// The zombie in a slot.
#[inline]
fn zombie_in(slot: Ref<Slot>) -> Option<ZombieParts> {
    slot.cap.get().as_zombie()
}

/// The highest slot of a zombie that is not known to be empty.
#[inline]
fn top_of(zombie: &ZombieParts) -> Option<Ref<Slot>> {
    slot::of_zombie(zombie, zombie.remaining.checked_sub(1)?)
}

/// Empties the container of the zombie in `root`, and then `root`.
fn empty_container<A: Arch>(k: &Kernel<A>, root: Ref<Slot>) -> Progress {
    let mut root = root;
    while let Some(zombie) = zombie_in(root) {
        match step(k, root, zombie) {
            Step::Continue(next) => root = next,
            Step::Finished => return Progress::Done,
            Step::Preempted => return Progress::Preempted,
        }
        if k.preemption_point() {
            return Progress::Preempted;
        }
    }
    Progress::Done
}

/// How one step ended.
enum Step {
    /// There is more to do, for the zombie in this slot.
    Continue(Ref<Slot>),
    /// The zombie is gone.
    Finished,
    /// An interrupt is pending.
    Preempted,
}

/// One work unit of emptying the container of `zombie`, which is in `root`.
fn step<A: Arch>(k: &Kernel<A>, root: Ref<Slot>, zombie: ZombieParts) -> Step {
    let Some(top) = top_of(&zombie) else {
        cdt::remove(root);
        return Step::Finished;
    };
    if top == root {
        // The zombie lies in its own container.
        if zombie.remaining == 1 {
            cdt::remove(root);
            return Step::Finished;
        }
        bring_home(root, zombie);
        return Step::Continue(zombie.first());
    }
    let lower = || {
        root.cap.set(Cap::zombie(
            zombie.first(),
            zombie.radix(),
            zombie.remaining.wrapping_sub(1),
        ));
    };
    if top.cap.get().is_null() {
        lower();
        return Step::Continue(root);
    }
    let Some(inner) = zombie_in(top) else {
        match finish(k, top) {
            Fate::Finished => {
                cdt::remove(top);
                lower();
            }
            Fate::Container(found) => top.cap.set(found),
            Fate::Preempted => return Step::Preempted,
        }
        return Step::Continue(root);
    };
    // Another container's zombie.
    let Some(inner_top) = top_of(&inner) else {
        cdt::remove(top);
        lower();
        return Step::Continue(root);
    };
    if inner.radix() == ZOMBIE_TCB && zombie_in(inner_top).is_none() {
        if !inner_top.cap.get().is_null() {
            match finish(k, inner_top) {
                Fate::Finished => cdt::remove(inner_top),
                Fate::Container(found) => {
                    inner_top.cap.set(found);
                    return Step::Continue(root);
                }
                Fate::Preempted => return Step::Preempted,
            }
        }
        top.cap.set(Cap::zombie(
            inner.first(),
            inner.radix(),
            inner.remaining.wrapping_sub(1),
        ));
        return Step::Continue(root);
    }
    if inner.radix() == ZOMBIE_TCB
        && let Some(third) = zombie_in(inner_top)
    {
        // The thread had the last capability to a CNode. Its zombie goes home; what was there comes here.
        if third.remaining == 0 {
            cdt::remove(inner_top);
            return Step::Continue(root);
        }
        let home = third.first();
        bring_home(inner_top, third);
        return Step::Continue(moved(root, home, inner_top));
    }
    let home = inner.first();
    bring_home(top, inner);
    Step::Continue(moved(root, home, top))
}

/// Where `root` is after the contents of `home` and `other` changed places.
fn moved(root: Ref<Slot>, home: Ref<Slot>, other: Ref<Slot>) -> Ref<Slot> {
    if root == home { other } else { root }
}

/// Exchanges a zombie with the first slot of its own container.
fn bring_home(slot: Ref<Slot>, zombie: ZombieParts) {
    let home = zombie.first();
    cdt::swap(slot, home, home.cap.get(), slot.cap.get());
}

/// A fault that tests plant, to show that they would notice it.
#[cfg(test)]
pub mod planted {
    use super::{Ref, Slot};
    use core::cell::Cell;

    std::thread_local! {
        /// Revocation leaves one child where it is.
        pub static MISSES_ONE_CHILD: Cell<bool> = const { Cell::new(false) };
    }

    /// Whether revocation of `slot` is to miss `child`: the last one left.
    pub fn is_missed(slot: Ref<Slot>, child: Ref<Slot>) -> bool {
        let next = child.next.get();
        MISSES_ONE_CHILD.get() && !next.is_some_and(|next| super::cdt::is_child(slot, next))
    }
}
