//! Building a component: address space, image, stacks, capability space, threads.

use crate::cspace::SCHED_CONTROL;
use crate::kernel::{Doing, Failure, Mapping, Source, fill, make_vspace, map, slot};
use cap::{
    CNode, CNodeCapData, CapRights, Endpoint, Frame, Notification, ObjectType, SchedContext,
    SchedControl, SchedParams, Space, Tcb, UserContext, VSpace,
};
use heapless::Vec;
use protocol::badge::{Client, signal};
use protocol::layout::{IPC_BUFFERS_VADDR, STACK_STRIDE, STACKS_VADDR, STARTUP_VADDR};
use protocol::slots;
use protocol::startup::Startup;
use root_task::image::{Access, Image, PAGE};
use root_task::manifest::{Component, Own, Service, Thread};
use root_task::size::SCHED_CONTEXT_BITS;
use sel4_sys::{WORD_BITS, init_slot, tcb_flags};

/// Bit of a fault endpoint's badge: the message is a fault, not a request. Above it the thread's number.
pub const FAULT: u64 = 1 << 40;
/// Shift of the thread's number.
pub const FAULT_THREAD_SHIFT: u32 = 41;

/// The badge of a thread's fault endpoint.
#[must_use]
pub const fn fault_badge(client: Client, thread: u64) -> u64 {
    client.badge() | FAULT | (thread << FAULT_THREAD_SHIFT)
}

/// Sending and calling, without passing capabilities.
pub const CALL: CapRights = CapRights::WRITE.union(CapRights::GRANT_REPLY);

/// A CNode of a component, as the root task fills it.
#[derive(Clone, Copy, Debug)]
pub struct CSpace {
    /// Its slot in the root task's CNode.
    pub slot: u64,
    /// log2 of its slots.
    pub radix: u32,
}

impl CSpace {
    /// Makes an empty one.
    pub fn make(source: &mut dyn Source, radix: u32) -> Result<Self, Failure> {
        Ok(Self {
            slot: source.make(ObjectType::CapTable, radix)?,
            radix,
        })
    }

    const fn dest(self, index: u64) -> cap::Slot {
        CNode::new(self.slot).slot(index, self.radix)
    }

    /// The guard data with which its slot numbers are capability pointers.
    #[must_use]
    pub const fn data(self) -> u64 {
        CNodeCapData::new(0, (WORD_BITS - self.radix) as u64).0
    }

    /// Copies the root task's capability `from` to `index`.
    pub fn copy(self, from: u64, index: u64, rights: CapRights) -> Result<(), Failure> {
        slot(from)
            .copy_to(self.dest(index), rights)
            .doing("copying a capability to a component")
    }

    /// Mints the root task's capability `from` to `index` with a badge.
    pub fn mint(self, from: u64, index: u64, rights: CapRights, badge: u64) -> Result<(), Failure> {
        slot(from)
            .mint_to(self.dest(index), rights, badge)
            .doing("minting a capability for a component")
    }
}

/// An image whose pages are in frames. Writable pages are not among them: they are made for each instance.
#[derive(Clone, Copy, Debug)]
pub struct SharedPages {
    /// Slot of the first page's frame; the others follow in the order of the segments.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// Puts the read-only pages of an image into frames.
pub fn load_shared(source: &mut dyn Source, image: &Image<'_>) -> Result<SharedPages, Failure> {
    let mut shared = SharedPages { first: 0, count: 0 };
    for segment in image.segments.iter().filter(|s| s.access != Access::Write) {
        for page in 0..segment.pages() {
            let frame = source.make(ObjectType::SmallPage, 0)?;
            if shared.count == 0 {
                shared.first = frame;
            }
            // Objects of one source get consecutive slots, and `prepare_scratch` made the tables that `fill` needs.
            if frame != shared.first + shared.count {
                return Err(Failure::Unusable(
                    "an image's frames are not in consecutive slots",
                ));
            }
            fill(source, Frame::new(frame), segment.page_data(page))?;
            shared.count += 1;
        }
    }
    Ok(shared)
}

/// Maps an image into an address space: the shared pages through copies of their capabilities, writable ones fresh.
pub fn map_image(
    source: &mut dyn Source,
    vspace: VSpace,
    image: &Image<'_>,
    shared: SharedPages,
) -> Result<(), Failure> {
    let mut next_shared = shared.first;
    for segment in &image.segments {
        for page in 0..segment.pages() {
            let vaddr = segment.vaddr + page * PAGE;
            let (frame, mapping) = match segment.access {
                Access::Write => {
                    let frame = source.make(ObjectType::SmallPage, 0)?;
                    let data = segment.page_data(page);
                    if !data.is_empty() {
                        fill(source, Frame::new(frame), data)?;
                    }
                    (frame, Mapping::Write)
                }
                access => {
                    let copy = source.empty_slot()?;
                    slot(next_shared)
                        .copy_to(slot(copy), CapRights::READ)
                        .doing("copying an image's frame")?;
                    next_shared += 1;
                    let mapping = if access == Access::Execute {
                        Mapping::Execute
                    } else {
                        Mapping::Read
                    };
                    (copy, mapping)
                }
            };
            map(source, Frame::new(frame), vspace, vaddr, mapping)?;
        }
    }
    Ok(())
}

/// A component that is there but does not run yet.
#[derive(Clone, Debug)]
pub struct Built {
    /// Its CNode.
    pub cspace: CSpace,
    /// Its address space.
    pub vspace: VSpace,
    /// Its threads, the main one first.
    pub threads: Vec<Made, { rt::MAX_THREADS }>,
}

/// A thread that was made.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Its TCB.
    pub tcb: Tcb,
    /// Its scheduling context.
    pub context: SchedContext,
}

impl Built {
    /// Lets all threads run, helpers first, so that they are there when the main thread needs them.
    pub fn resume(&self) -> Result<(), Failure> {
        for thread in self.threads.iter().rev() {
            thread.tcb.resume().doing("starting a thread")?;
        }
        Ok(())
    }
}

/// The endpoint and the notification on which a component receives.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Its endpoint.
    pub endpoint: u64,
    /// Its notification.
    pub notification: u64,
}

impl Ports {
    /// Makes both.
    pub fn make(source: &mut dyn Source) -> Result<Self, Failure> {
        Ok(Self {
            notification: source.make(ObjectType::Notification, 0)?,
            endpoint: source.make(ObjectType::Endpoint, 0)?,
        })
    }
}

/// Everything that a component is built from.
pub struct Plan<'a> {
    /// What it is.
    pub component: &'a Component,
    /// Who it is.
    pub client: Client,
    /// Its CNode.
    pub cspace: CSpace,
    /// Its image and the frames of its read-only pages.
    pub image: &'a Image<'a>,
    /// Those frames.
    pub shared: SharedPages,
    /// What it is told.
    pub startup: &'a Startup,
    /// On what it receives.
    pub ports: Ports,
    /// Endpoint of each service.
    pub service: &'a dyn Fn(Service) -> u64,
    /// Where its faults go, without a badge.
    pub faults: u64,
}

/// Builds a component up to the point where its threads only need to be resumed.
pub fn build(source: &mut dyn Source, plan: &Plan<'_>) -> Result<Built, Failure> {
    let vspace = make_vspace(source)?;
    map_image(source, vspace, plan.image, plan.shared)?;
    map_startup(source, vspace, plan.startup)?;
    fill_cspace(source, plan, vspace)?;
    let mut threads = Vec::new();
    for (index, thread) in (0u64..).zip(plan.component.threads) {
        let made = make_thread(source, plan, vspace, index, thread)?;
        threads.push(made).map_err(|_| Failure::NoSlot)?;
    }
    if let Some(main) = threads.first() {
        main.tcb
            .bind_notification(Notification::new(plan.ports.notification))
            .doing("binding a component's notification")?;
    }
    Ok(Built {
        cspace: plan.cspace,
        vspace,
        threads,
    })
}

fn map_startup(source: &mut dyn Source, vspace: VSpace, startup: &Startup) -> Result<(), Failure> {
    let mut page = [0; PAGE as usize];
    let used = postcard::to_slice(startup, &mut page)
        .map_err(|_| Failure::Unusable("a startup page is too small"))?
        .len();
    let frame = Frame::new(source.make(ObjectType::SmallPage, 0)?);
    fill(source, frame, page.get(..used).unwrap_or_default())?;
    map(source, frame, vspace, STARTUP_VADDR, Mapping::Read)
}

fn fill_cspace(source: &mut dyn Source, plan: &Plan<'_>, vspace: VSpace) -> Result<(), Failure> {
    let cspace = plan.cspace;
    if plan.component.own != Own::Nothing {
        cspace.mint(cspace.slot, slots::CNODE, CapRights::ALL, cspace.data())?;
    }
    if plan.component.own == Own::CNodeAndVSpace {
        cspace.copy(vspace.cptr(), slots::VSPACE, CapRights::ALL)?;
    }
    let reply = source.make(ObjectType::Reply, 0)?;
    cspace.copy(reply, slots::REPLY, CapRights::ALL)?;
    // Grant on the receiving side lets its answers carry capabilities; it cannot send on it.
    let receive = CapRights::READ.union(CapRights::GRANT);
    cspace.copy(plan.ports.endpoint, slots::ENDPOINT, receive)?;
    let own_notification = plan.ports.notification;
    cspace.copy(own_notification, slots::NOTIFICATION, CapRights::READ)?;
    let tick = signal::TICK | signal::IS_SIGNAL;
    cspace.mint(own_notification, slots::TICK, CapRights::WRITE, tick)?;
    for service in plan.component.calls {
        let endpoint = (plan.service)(*service);
        cspace.mint(endpoint, service.slot(), CALL, plan.client.badge())?;
    }
    Ok(())
}

fn make_thread(
    source: &mut dyn Source,
    plan: &Plan<'_>,
    vspace: VSpace,
    index: u64,
    thread: &Thread,
) -> Result<Made, Failure> {
    let buffer_vaddr = IPC_BUFFERS_VADDR + index * PAGE;
    let stack_top = STACKS_VADDR + (index + 1) * STACK_STRIDE;
    let buffer = Frame::new(source.make(ObjectType::SmallPage, 0)?);
    map(source, buffer, vspace, buffer_vaddr, Mapping::Write)?;
    map_stack(source, vspace, stack_top, thread.stack_pages)?;
    let fault = source.empty_slot()?;
    slot(plan.faults)
        .mint_to(slot(fault), CALL, fault_badge(plan.client, index))
        .doing("minting a fault endpoint")?;
    let space = Space {
        cspace: CNode::new(plan.cspace.slot),
        cspace_data: plan.cspace.data(),
        vspace,
    };
    let made = make_tcb(source, thread, Some(Endpoint::new(fault)))?;
    made.tcb
        .configure(&space, buffer_vaddr, buffer)
        .doing("configuring a thread")?;
    made.tcb
        .set_flags(0, tcb_flags::FPU_DISABLED)
        .doing("disabling a thread's floating point")?;
    let registers = UserContext {
        pc: plan.image.entry,
        sp: stack_top,
        x0: index,
        x1: STARTUP_VADDR,
        x2: buffer_vaddr,
        ..UserContext::default()
    };
    made.tcb
        .write_registers(cap::After::Keep, &registers)
        .doing("writing a thread's registers")?;
    Ok(made)
}

/// Maps `pages` fresh pages below `stack_top`.
pub fn map_stack(
    source: &mut dyn Source,
    vspace: VSpace,
    stack_top: u64,
    pages: u64,
) -> Result<(), Failure> {
    for page in 1..=pages {
        let frame = Frame::new(source.make(ObjectType::SmallPage, 0)?);
        map(
            source,
            frame,
            vspace,
            stack_top - page * PAGE,
            Mapping::Write,
        )?;
    }
    Ok(())
}

/// Makes a TCB with a scheduling context, priorities and a fault endpoint.
pub fn make_tcb(
    source: &mut dyn Source,
    thread: &Thread,
    fault_endpoint: Option<Endpoint>,
) -> Result<Made, Failure> {
    let tcb = Tcb::new(source.make(ObjectType::Tcb, 0)?);
    let context = SchedContext::new(source.make(ObjectType::SchedContext, SCHED_CONTEXT_BITS)?);
    SchedControl::new(SCHED_CONTROL)
        .configure(
            context,
            thread.share.budget_us,
            thread.share.period_us,
            0,
            0,
            0,
        )
        .doing("configuring a scheduling context")?;
    tcb.set_sched_params(&SchedParams {
        authority: Tcb::new(init_slot::TCB),
        mcp: thread.mcp,
        priority: thread.share.priority,
        sched_context: Some(context),
        fault_endpoint,
    })
    .doing("setting a thread's priority")?;
    Ok(Made { tcb, context })
}
