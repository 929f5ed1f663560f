//! Building a guest's VMM and taking it down again.

use crate::component::{Built, CALL, CSpace, Made, Plan, Ports, SharedPages, build, make_tcb};
use crate::kernel::{Doing, Failure, Mapping, Private, Source, add_table, make_vspace, map, slot};
use crate::store::Store;
use cap::{
    CNode, CNodeCapData, CapRights, Endpoint, Frame, Notification, ObjectType, SchedContext, Space,
    Tcb, VSpace, Vcpu,
};
use heapless::Vec;
use protocol::badge::{Client, signal};
use protocol::balancer::Settings;
use protocol::bundle::MAX_FILES;
use protocol::layout::{GUEST_WINDOW_VADDR, ipa};
use protocol::schedule;
use protocol::slots;
use protocol::startup::{Gic, RngSeed, Role, Startup};
use protocol::system::Guest;
use protocol::units::GuestId;
use root_task::image::{Access, Image};
use root_task::manifest::{self, Service, Thread};
use root_task::seeds::Seeds;
use root_task::size::{GuestSize, VmmImage, memory_ranges};

/// Bytes that one second-level page table covers.
const GIB: u64 = 1 << 30;
/// Most pages of the virtual CPU interface that a guest sees (GICv2: CPU interface registers and GICC_DIR).
pub const GICV_PAGES: usize = 2;
const _: () = assert!(MAX_FILES < u16::MAX as usize);

/// What all VMMs have in common.
pub struct Template<'a> {
    /// The VMM's image.
    pub image: Image<'a>,
    /// Its read-only pages.
    pub shared: SharedPages,
    /// The guests' files.
    pub store: Store,
    /// The machine's interrupt controller.
    pub gic: Gic,
    /// What sizes depend on.
    pub sizes: VmmImage,
    /// Frames of the virtual CPU interface, on a GICv2.
    pub gicv: Vec<Frame, GICV_PAGES>,
    /// Unbadged endpoints of the services.
    pub service: fn(&Servers, Service) -> u64,
    /// Those services.
    pub servers: Servers,
    /// Where VMMs' faults go.
    pub faults: u64,
    /// Seeds for the guests' random number generators.
    pub seeds: Seeds,
}

/// The servers' ports and CNodes.
#[derive(Clone, Copy, Debug)]
pub struct Servers {
    /// The console.
    pub console: Ports,
    /// The memory server.
    pub memory: Ports,
    /// The balancer.
    pub balancer: Ports,
    /// The timer.
    pub timer: Ports,
    /// The supervisor.
    pub supervisor: Ports,
    /// CNodes of the servers that signal VMMs: console, memory server, timer.
    pub cspaces: ServerSpaces,
}

/// CNodes of the servers that hold VMMs' notifications.
#[derive(Clone, Copy, Debug)]
pub struct ServerSpaces {
    /// The console's.
    pub console: CSpace,
    /// The memory server's.
    pub memory: CSpace,
    /// The timer's.
    pub timer: CSpace,
    /// The balancer's.
    pub balancer: CSpace,
}

/// A guest that is there.
#[derive(Clone, Debug)]
pub struct Living {
    /// Its VMM.
    pub vmm: Built,
    /// Its vCPU's thread.
    pub vcpu_thread: Tcb,
    /// The processor time of that.
    pub vcpu_time: SchedContext,
    /// What of it was used until it was last looked at, in microseconds.
    pub used_us: u64,
    /// Its VMM's notification, badged `TICK`: says that the vCPU runs again after a pause.
    pub nudge: Notification,
}

impl Living {
    /// Stops every thread of it.
    pub fn suspend(&self) -> Result<(), Failure> {
        self.vcpu_thread.suspend().doing("stopping a vCPU")?;
        for thread in &self.vmm.threads {
            thread.tcb.suspend().doing("stopping a VMM")?;
        }
        Ok(())
    }
}

const VCPU: Thread = Thread {
    name: "vcpu",
    share: schedule::VCPU,
    mcp: 0,
    stack_pages: 0,
};

/// Builds a guest's VMM from its private memory. Its threads do not run yet. On failure the caller takes the private memory
/// back ([`take_back`]).
pub fn create(
    private: &mut Private,
    template: &Template<'_>,
    id: GuestId,
    guest: &Guest,
    settings: &Settings,
    size: &GuestSize,
    rng_seed: Option<RngSeed>,
) -> Result<Living, Failure> {
    let missing = Failure::Unusable("a guest's file is not in the store");
    let kernel = template.store.file(guest.kernel_file).ok_or(missing)?;
    let initrd = match guest.initrd_file {
        Some(file) => Some(template.store.file(file).ok_or(missing)?),
        None => None,
    };
    let client = Client::Vmm(id);
    let startup = Startup {
        name: guest.name.clone(),
        log_id: client.log_id(),
        role: Role::Vmm(protocol::startup::Vmm {
            guest: id,
            settings: *settings,
            kernel,
            initrd,
            command_line: guest.command_line.clone(),
            gic: template.gic,
            hotplug_bytes: size.hotplug_bytes,
            interface: guest.interface,
            cushion: guest.cushion,
            rng_seed,
        }),
    };
    // The largest objects first: the private memory then has no holes.
    let cspace = CSpace::make(private, size.radix)?;
    let guest_vspace = make_vspace(private)?;
    let ports = Ports::make(private)?;
    let servers = &template.servers;
    let vmm = build(
        private,
        &Plan {
            component: &manifest::VMM,
            client,
            cspace,
            image: &template.image,
            shared: template.shared,
            startup: &startup,
            ports,
            service: &|service| (template.service)(servers, service),
            faults: template.faults,
        },
    )?;
    let mut files: Vec<_, 2> = Vec::new();
    for file in core::iter::once(kernel).chain(initrd) {
        files.push(file).map_err(|_| Failure::NoSlot)?;
    }
    template.store.map_into(private, vmm.vspace, &files)?;
    prepare_memory(private, &vmm, guest_vspace, settings, size)?;
    map_gicv(private, template, guest_vspace)?;
    let vcpu = make_vcpu(private, &vmm, ports, guest_vspace)?;
    window_faults(private, &vmm)?;
    signals(&servers.cspaces, ports, id)?;
    let nudge = private.empty_slot()?;
    slot(ports.notification)
        .mint_to(
            slot(nudge),
            CapRights::WRITE,
            signal::TICK | signal::IS_SIGNAL,
        )
        .doing("minting a VMM's notification")?;
    Ok(Living {
        vmm,
        vcpu_thread: vcpu.tcb,
        vcpu_time: vcpu.context,
        used_us: 0,
        nudge: Notification::new(nudge),
    })
}

/// Page tables for all memory that the guest can have, in its own address space and in the VMM's window.
fn prepare_memory(
    private: &mut Private,
    vmm: &Built,
    guest_vspace: VSpace,
    settings: &Settings,
    size: &GuestSize,
) -> Result<(), Failure> {
    for (first, end) in memory_ranges(size, settings.bounds.startup) {
        let mut at = first & !(GIB - 1);
        while at < end {
            add_table(private, guest_vspace, at)?;
            add_table(private, vmm.vspace, GUEST_WINDOW_VADDR + at)?;
            at += GIB;
        }
    }
    vmm.cspace.copy(
        guest_vspace.cptr(),
        slots::vmm::GUEST_VSPACE,
        CapRights::ALL,
    )
}

/// The virtual CPU interface, where the guest's device tree says that its interrupt controller is.
fn map_gicv(
    private: &mut Private,
    template: &Template<'_>,
    guest_vspace: VSpace,
) -> Result<(), Failure> {
    for (index, frame) in (0u64..).zip(&template.gicv) {
        let copy = private.empty_slot()?;
        slot(frame.cptr())
            .copy_to(slot(copy), CapRights::READ_WRITE)
            .doing("copying the virtual CPU interface")?;
        let at = ipa::GICC + index * 4096;
        map(private, Frame::new(copy), guest_vspace, at, Mapping::Device)?;
    }
    Ok(())
}

/// The vCPU and its thread: an empty capability space, no IPC buffer, faults to the VMM.
fn make_vcpu(
    private: &mut Private,
    vmm: &Built,
    ports: Ports,
    guest_vspace: VSpace,
) -> Result<Made, Failure> {
    let vcpu = Vcpu::new(private.make(ObjectType::Vcpu, 0)?);
    let empty = private.make(ObjectType::CapTable, 1)?;
    let faults = private.empty_slot()?;
    slot(ports.endpoint)
        .mint_to(slot(faults), CALL, slots::vmm::GUEST_FAULT_BADGE)
        .doing("minting a guest's fault endpoint")?;
    let thread = make_tcb(private, &VCPU, Some(Endpoint::new(faults)))?;
    let space = Space {
        cspace: CNode::new(empty),
        cspace_data: CNodeCapData::new(0, 63).0,
        vspace: guest_vspace,
    };
    thread
        .tcb
        .set_space(Some(Endpoint::new(faults)), &space)
        .doing("giving a vCPU its address space")?;
    vcpu.set_tcb(thread.tcb)
        .doing("binding a vCPU to its thread")?;
    let cspace = vmm.cspace;
    cspace.copy(vcpu.cptr(), slots::vmm::VCPU, CapRights::ALL)?;
    cspace.copy(thread.tcb.cptr(), slots::vmm::GUEST_TCB, CapRights::ALL)?;
    cspace.copy(thread.context.cptr(), slots::vmm::GUEST_SC, CapRights::ALL)?;
    Ok(thread)
}

/// The endpoint on which the VMM's second thread hears of the first one's faults.
fn window_faults(private: &mut Private, vmm: &Built) -> Result<(), Failure> {
    let endpoint = private.make(ObjectType::Endpoint, 0)?;
    let reply = private.make(ObjectType::Reply, 0)?;
    let cspace = vmm.cspace;
    cspace.copy(endpoint, slots::vmm::WINDOW_FAULTS, CapRights::READ)?;
    cspace.copy(reply, slots::vmm::FAULT_REPLY, CapRights::ALL)?;
    let Some(main) = vmm.threads.first() else {
        return Err(Failure::Unusable("a VMM has no thread"));
    };
    cspace.copy(main.tcb.cptr(), slots::vmm::MAIN_TCB, CapRights::ALL)?;
    let faults = private.empty_slot()?;
    slot(endpoint)
        .mint_to(slot(faults), CALL, 1)
        .doing("minting a window's fault endpoint")?;
    let main_thread = manifest::VMM.threads.first();
    let (priority, mcp) = main_thread.map_or((0, 0), |thread| (thread.share.priority, thread.mcp));
    main.tcb
        .set_sched_params(&cap::SchedParams {
            authority: Tcb::new(sel4_sys::init_slot::TCB),
            mcp,
            priority,
            sched_context: Some(main.context),
            fault_endpoint: Some(Endpoint::new(faults)),
        })
        .doing("setting a VMM's fault endpoint")
}

/// Tells the servers how to signal this VMM.
fn signals(spaces: &ServerSpaces, ports: Ports, id: GuestId) -> Result<(), Failure> {
    let guest = u64::from(id.0);
    for (cspace, first, bit) in [
        (spaces.console, slots::console::VMM_SIGNALS, signal::CONSOLE),
        (spaces.memory, slots::memory::VMM_SIGNALS, signal::MEMORY),
        (spaces.timer, slots::timer::VMM_SIGNALS, signal::ALARM),
    ] {
        cspace.mint(
            ports.notification,
            first + guest,
            CapRights::WRITE,
            bit | signal::IS_SIGNAL,
        )?;
    }
    Ok(())
}

/// Takes a guest's private memory back: every object in it is destroyed, every capability to one of them, wherever it is,
/// deleted; then the copies of shared frames. The private memory is as good as new afterwards.
pub fn take_back(private: &mut Private) -> Result<(), Failure> {
    slot(private.untyped)
        .revoke()
        .doing("revoking a guest's private memory")?;
    for index in private.slots.reset() {
        slot(index)
            .delete()
            .doing("deleting a guest's capability")?;
    }
    Ok(())
}

/// Writable pages of an image.
#[must_use]
pub fn writable_pages(image: &Image<'_>) -> u64 {
    image.pages(|access| access == Access::Write)
}

/// Bytes from an image's first address to its last.
#[must_use]
pub fn span(image: &Image<'_>) -> u64 {
    let first = image.segments.first().map_or(0, |segment| segment.vaddr);
    let end = image
        .segments
        .last()
        .map_or(0, |segment| segment.vaddr + segment.bytes);
    end.saturating_sub(first)
}
