//! Invocations of threads (seL4 manual, section 6.1; `interfaces/object-api.xml`, interface seL4_TCB).

use crate::arch::Arch;
use crate::cap::{Cap, CapView, Kind, MemoryKind, Rights};
use crate::cspace::cdt;
use crate::cspace::cnode::{self, BadgeUse};
use crate::decode::invocation::Invocation;
use crate::lifecycle::delete;
use crate::object::error::{Error, Outcome, Progress};
use crate::object::mem::Ref;
use crate::object::slot;
use crate::object::{Slot, Tcb, tcb_slot, thread_flag};
use crate::run::fault;
use crate::run::ipc;
use crate::run::notification;
use crate::run::registers;
use crate::run::sched_context;
use crate::run::thread;
use crate::state::kernel::Kernel;
use sel4_sys::{Invocation as Label, tcb_flags};

/// Bits of the first word of ReadRegisters, WriteRegisters and CopyRegisters.
mod transfer_flag {
    /// ReadRegisters, CopyRegisters: stop the source first.
    pub const SUSPEND_SOURCE: u64 = 1;
    /// WriteRegisters: start the thread afterwards.
    pub const RESUME: u64 = 1;
    /// CopyRegisters: start the destination afterwards.
    pub const RESUME_DESTINATION: u64 = 2;
    /// CopyRegisters: pc, sp, spsr, x0-x8, x16-x18, x29, x30.
    pub const FRAME: u64 = 4;
    /// CopyRegisters: the other registers.
    pub const INTEGER: u64 = 8;
}

/// The flags of a thread: the bit in [`crate::object::ThreadFields::flags`], and the one that user level knows.
const FLAGS: [(u8, u64); 2] = [
    (thread_flag::FPU_DISABLED, tcb_flags::FPU_DISABLED),
    (thread_flag::EMULATED, tcb_flags::EMULATED),
];
/// An IPC buffer lies at a multiple of its size.
const IPC_BUFFER_MASK: u64 = (1 << 10) - 1;

/// An invocation of a thread.
///
/// # Errors
/// Those that the interface documents for each method.
pub fn decode<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    const READ: u64 = Label::TcbReadRegisters.word();
    const WRITE: u64 = Label::TcbWriteRegisters.word();
    const COPY: u64 = Label::TcbCopyRegisters.word();
    const CONFIGURE: u64 = Label::TcbConfigure.word();
    const SET_PRIORITY: u64 = Label::TcbSetPriority.word();
    const SET_MCP: u64 = Label::TcbSetMcPriority.word();
    const SET_SCHED_PARAMS: u64 = Label::TcbSetSchedParams.word();
    const SET_TIMEOUT: u64 = Label::TcbSetTimeoutEndpoint.word();
    const SET_BUFFER: u64 = Label::TcbSetIpcBuffer.word();
    const SET_SPACE: u64 = Label::TcbSetSpace.word();
    const SUSPEND: u64 = Label::TcbSuspend.word();
    const RESUME: u64 = Label::TcbResume.word();
    const BIND: u64 = Label::TcbBindNotification.word();
    const UNBIND: u64 = Label::TcbUnbindNotification.word();
    const SET_TLS: u64 = Label::TcbSetTlsBase.word();
    const SET_FLAGS: u64 = Label::TcbSetFlags.word();
    let CapView::Thread(tcb) = inv.cap.view() else {
        return Err(Error::InvalidCapability(0));
    };
    match inv.label {
        READ => read_registers(k, inv, tcb)?,
        WRITE => write_registers(k, inv, tcb)?,
        COPY => copy_registers(k, inv, tcb)?,
        CONFIGURE => return configure(k, inv, tcb),
        SET_PRIORITY => {
            inv.need_words(1)?;
            let priority = controlled(inv.word(k, 0), authority(inv)?)?;
            thread::set_priority(k, tcb, priority);
        }
        SET_MCP => {
            inv.need_words(1)?;
            let mcp = controlled(inv.word(k, 0), authority(inv)?)?;
            tcb.thread.mcp.set(mcp);
        }
        SET_SCHED_PARAMS => return set_sched_params(k, inv, tcb),
        SET_TIMEOUT => {
            let handler = handler(inv, 0, 1)?;
            return install(k, tcb, tcb_slot::TIMEOUT_HANDLER, handler)
                .map(|()| Progress::Done)
                .or_else(preempted);
        }
        SET_BUFFER => {
            inv.need_words(1)?;
            let buffer = ipc_buffer(inv.word(k, 0), inv.extra(0)?)?;
            return set_buffer(k, tcb, buffer)
                .map(|()| Progress::Done)
                .or_else(preempted);
        }
        SET_SPACE => return set_space(k, inv, tcb),
        SUSPEND => thread::suspend(k, tcb),
        RESUME => thread::resume(k, tcb),
        BIND => bind_notification(inv, tcb)?,
        UNBIND => match tcb.thread.notification.get() {
            Some(object) => notification::unbind(object),
            None => return Err(Error::IllegalOperation),
        },
        SET_TLS => {
            inv.need_words(1)?;
            tcb.context.tpidr_el0.set(inv.word(k, 0));
            k.arch.refresh(tcb);
        }
        SET_FLAGS => {
            inv.need_words(2)?;
            let old = tcb.thread.flags.get();
            let (clear, set) = (inv.word(k, 0), inv.word(k, 1));
            let mut new = 0u8;
            let mut answer = 0u64;
            for (bit, flag) in FLAGS {
                if set & flag != 0 || old & bit != 0 && clear & flag == 0 {
                    new |= bit;
                    answer |= flag;
                }
            }
            tcb.thread.flags.set(new);
            k.arch.refresh(tcb);
            inv.answer(k, &[answer]);
        }
        _ => return Err(Error::IllegalOperation),
    }
    Ok(Progress::Done)
}

fn read_registers<A: Arch>(k: &Kernel<A>, inv: &Invocation, tcb: Ref<Tcb>) -> Result<(), Error> {
    inv.need_words(2)?;
    let flags = inv.word(k, 0);
    let count = inv.word(k, 1);
    if !(1..=registers::WORDS).contains(&count) {
        return Err(Error::Range {
            min: 1,
            max: registers::WORDS,
        });
    }
    if tcb == inv.current {
        return Err(Error::IllegalOperation);
    }
    if flags & transfer_flag::SUSPEND_SOURCE != 0 {
        thread::suspend(k, tcb);
    }
    inv.answer_with(k, count, |out| registers::read(tcb, out));
    Ok(())
}

fn write_registers<A: Arch>(k: &Kernel<A>, inv: &Invocation, tcb: Ref<Tcb>) -> Result<(), Error> {
    inv.need_words(2)?;
    let flags = inv.word(k, 0);
    let count = inv.word(k, 1);
    if inv.length.wrapping_sub(2) < count {
        return Err(Error::TruncatedMessage);
    }
    if tcb == inv.current {
        return Err(Error::IllegalOperation);
    }
    let words = ipc::Words::new(k, inv.current, 2, count.wrapping_add(2));
    registers::write(k, tcb, words);
    k.arch.refresh(tcb);
    if flags & transfer_flag::RESUME != 0 {
        thread::resume(k, tcb);
    }
    Ok(())
}

fn copy_registers<A: Arch>(k: &Kernel<A>, inv: &Invocation, dest: Ref<Tcb>) -> Result<(), Error> {
    inv.need_words(1)?;
    let flags = inv.word(k, 0);
    let CapView::Thread(source) = inv.extra(0)?.cap.get().view() else {
        return Err(Error::InvalidCapability(1));
    };
    if flags & transfer_flag::SUSPEND_SOURCE != 0 {
        thread::suspend(k, source);
    }
    if flags & transfer_flag::FRAME != 0 {
        registers::copy_frame(k, source, dest);
    }
    if flags & transfer_flag::INTEGER != 0 {
        registers::copy_integer(source, dest);
    }
    k.arch.refresh(dest);
    if flags & transfer_flag::RESUME_DESTINATION != 0 {
        thread::resume(k, dest);
    }
    Ok(())
}

/// The thread whose maximum controlled priority limits what can be set: capability 0 of the message.
fn authority(inv: &Invocation) -> Result<Ref<Tcb>, Error> {
    match inv.extra(0)?.cap.get().view() {
        CapView::Thread(tcb) => Ok(tcb),
        _ => Err(Error::InvalidCapability(1)),
    }
}

/// A priority that `authority` may set.
fn controlled(priority: u64, authority: Ref<Tcb>) -> Result<u8, Error> {
    let max = authority.thread.mcp.get();
    match u8::try_from(priority) {
        Ok(priority) if priority <= max => Ok(priority),
        _ => Err(Error::Range {
            min: 0,
            max: u64::from(max),
        }),
    }
}

/// A capability that is to be copied into one of the thread's slots: what it will look like, and where it comes from. A null one
/// empties the slot.
#[derive(Clone, Copy)]
struct Incoming {
    cap: Cap,
    source: Ref<Slot>,
}

/// Fault or timeout handler: capability `n` of the message, called `argument` in errors.
fn handler(inv: &Invocation, n: usize, argument: u64) -> Result<Incoming, Error> {
    let source = inv.extra(n)?;
    let cap = source.cap.get();
    if fault::valid_handler(cap) {
        Ok(Incoming { cap, source })
    } else {
        Err(Error::InvalidCapability(argument))
    }
}

/// An operation on a slot was interrupted before anything changed.
struct Interrupted;

#[expect(clippy::unnecessary_wraps, reason = "used with or_else")]
fn preempted(_: Interrupted) -> Outcome {
    Ok(Progress::Preempted)
}

/// Replaces the capability in a slot of the thread.
fn install<A: Arch>(
    k: &Kernel<A>,
    tcb: Ref<Tcb>,
    index: usize,
    new: Incoming,
) -> Result<(), Interrupted> {
    let dest = slot::of_tcb(tcb, index);
    if delete::delete(k, dest) == Progress::Preempted {
        return Err(Interrupted);
    }
    // The deletion of the old capability can have taken the new one with it.
    if !new.cap.is_null() && new.source.cap.get().same_object(new.cap) {
        cdt::insert_copy(new.cap, new.source, dest);
    }
    Ok(())
}

/// Whether replacing what is in a slot would mean to delete a whole CNode: that is refused (so does seL4).
fn long_deletion(tcb: Ref<Tcb>, index: usize) -> bool {
    let slot = slot::of_tcb(tcb, index);
    matches!(
        slot.cap.get().kind(),
        Kind::CNODE | Kind::THREAD | Kind::ZOMBIE
    ) && cdt::is_last(slot)
}

/// The roots of a thread's capability space and address space.
struct Roots {
    cspace: Incoming,
    vspace: Incoming,
}

/// Capabilities `n` and `n + 1` of the message, with the data words for their guards.
fn roots(
    inv: &Invocation,
    tcb: Ref<Tcb>,
    n: usize,
    cspace_data: u64,
    vspace_data: u64,
) -> Result<Roots, Error> {
    let cspace = inv.extra(n)?;
    let vspace = inv.extra(n.wrapping_add(1))?;
    if long_deletion(tcb, tcb_slot::CSPACE) || long_deletion(tcb, tcb_slot::VSPACE) {
        return Err(Error::IllegalOperation);
    }
    let derived = |source: Ref<Slot>, data: u64| -> Result<Cap, Error> {
        let mut cap = source.cap.get();
        if data != 0 {
            cap = cnode::with_badge(cap, data, BadgeUse::Mutate).ok_or(Error::IllegalOperation)?;
        }
        cnode::derive(source, cap)
    };
    let cspace_cap = derived(cspace, cspace_data)?;
    if cspace_cap.kind() != Kind::CNODE {
        return Err(Error::IllegalOperation);
    }
    let vspace_cap = derived(vspace, vspace_data)?;
    if !matches!(vspace_cap.view(), CapView::VSpace { asid: Some(_), .. }) {
        return Err(Error::IllegalOperation);
    }
    Ok(Roots {
        cspace: Incoming {
            cap: cspace_cap,
            source: cspace,
        },
        vspace: Incoming {
            cap: vspace_cap,
            source: vspace,
        },
    })
}

fn set_roots<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, roots: &Roots) -> Result<(), Interrupted> {
    install(k, tcb, tcb_slot::CSPACE, roots.cspace)?;
    install(k, tcb, tcb_slot::VSPACE, roots.vspace)?;
    if k.current.get() == Some(tcb) {
        k.activate_vspace(tcb.slots[tcb_slot::VSPACE].cap.get());
    }
    Ok(())
}

/// An IPC buffer: its address in the thread's address space, and the frame; the null capability for none.
struct Buffer {
    vaddr: u64,
    frame: Incoming,
    /// Kernel address, bit 0 set when writable; zero when the thread cannot use it.
    kernel: u64,
}

fn ipc_buffer(vaddr: u64, source: Ref<Slot>) -> Result<Buffer, Error> {
    if vaddr == 0 {
        return Ok(Buffer {
            vaddr,
            frame: Incoming {
                cap: Cap::NULL,
                source,
            },
            kernel: 0,
        });
    }
    let cap = cnode::derive(source, source.cap.get())?;
    let CapView::Frame {
        addr,
        size,
        kind: MemoryKind::Ram,
        rights,
        ..
    } = cap.view()
    else {
        return Err(Error::IllegalOperation);
    };
    if vaddr & IPC_BUFFER_MASK != 0 {
        return Err(Error::Alignment);
    }
    let inside = vaddr & (1u64 << (size.bits() & 63)).wrapping_sub(1);
    let kernel = if !rights.has(Rights::READ) {
        0
    } else if rights.has(Rights::WRITE) {
        addr.wrapping_add(inside) | 1
    } else {
        addr.wrapping_add(inside)
    };
    Ok(Buffer {
        vaddr,
        frame: Incoming { cap, source },
        kernel,
    })
}

fn set_buffer<A: Arch>(k: &Kernel<A>, tcb: Ref<Tcb>, buffer: Buffer) -> Result<(), Interrupted> {
    install(k, tcb, tcb_slot::IPC_BUFFER, buffer.frame)?;
    let t = &tcb.thread;
    t.ipc_buffer.set(buffer.vaddr);
    t.ipc_buffer_kernel.set(buffer.kernel);
    Ok(())
}

/// Words: CSpace data, VSpace data, buffer; capabilities: CSpace, VSpace, buffer frame.
fn configure<A: Arch>(k: &Kernel<A>, inv: &Invocation, tcb: Ref<Tcb>) -> Outcome {
    inv.need_words(3)?;
    let frame = inv.extra(2)?;
    let buffer = ipc_buffer(inv.word(k, 2), frame)?;
    let roots = roots(inv, tcb, 0, inv.word(k, 0), inv.word(k, 1))?;
    set_roots(k, tcb, &roots)
        .and_then(|()| set_buffer(k, tcb, buffer))
        .map(|()| Progress::Done)
        .or_else(preempted)
}

/// Words: CSpace data, VSpace data; capabilities: fault handler, CSpace, VSpace.
fn set_space<A: Arch>(k: &Kernel<A>, inv: &Invocation, tcb: Ref<Tcb>) -> Outcome {
    inv.need_words(2)?;
    inv.extra(2)?;
    let roots = roots(inv, tcb, 1, inv.word(k, 0), inv.word(k, 1))?;
    let handler = handler(inv, 0, 1)?;
    install(k, tcb, tcb_slot::FAULT_HANDLER, handler)
        .and_then(|()| set_roots(k, tcb, &roots))
        .map(|()| Progress::Done)
        .or_else(preempted)
}

/// Words: maximum controlled priority, priority; capabilities: authority, scheduling context, fault handler.
fn set_sched_params<A: Arch>(k: &Kernel<A>, inv: &Invocation, tcb: Ref<Tcb>) -> Outcome {
    inv.need_words(2)?;
    inv.extra(2)?;
    let authority = authority(inv)?;
    let mcp = controlled(inv.word(k, 0), authority)?;
    let priority = controlled(inv.word(k, 1), authority)?;
    let bound = tcb.thread.sched_context.get();
    let wanted = match inv.extra(1)?.cap.get().view() {
        CapView::SchedContext { object, .. } => {
            let other_sc = bound.is_some_and(|sc| sc != object);
            let other_tcb = object.tcb.get().is_some_and(|other| other != tcb);
            let stuck = thread::blocked(tcb) && !sched_context::released(k, object);
            if other_sc || other_tcb || stuck {
                return Err(Error::IllegalOperation);
            }
            Some(object)
        }
        CapView::Null => {
            if tcb == inv.current {
                return Err(Error::IllegalOperation);
            }
            None
        }
        _ => return Err(Error::InvalidCapability(2)),
    };
    let handler = handler(inv, 2, 3)?;
    if install(k, tcb, tcb_slot::FAULT_HANDLER, handler).is_err() {
        return Ok(Progress::Preempted);
    }
    tcb.thread.mcp.set(mcp);
    thread::set_priority(k, tcb, priority);
    match (bound, wanted) {
        (None, Some(sc)) => sched_context::bind_tcb(k, sc, tcb),
        (Some(sc), None) => sched_context::unbind_tcb(k, sc, tcb),
        _ => {}
    }
    Ok(Progress::Done)
}

/// Capability: the notification, with Read.
fn bind_notification(inv: &Invocation, tcb: Ref<Tcb>) -> Result<(), Error> {
    let source = inv.extra(0)?;
    if tcb.thread.notification.get().is_some() {
        return Err(Error::IllegalOperation);
    }
    match source.cap.get().view() {
        CapView::Notification { object, rights, .. }
            if rights.has(Rights::READ)
                && object.bound_tcb.get().is_none()
                && object.queue.head.get().is_none() =>
        {
            notification::bind(object, tcb);
            Ok(())
        }
        _ => Err(Error::IllegalOperation),
    }
}
