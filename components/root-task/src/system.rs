//! Starting the system: from the kernel's hand-over to running components.

use crate::component::{
    self, Built, CALL, CSpace, Plan, Ports, build, load_shared, make_tcb, map_stack,
};
use crate::cspace::{self, SCHED_CONTROL};
use crate::device::DeviceMemory;
use crate::guests::{self, GICV_PAGES, ServerSpaces, Servers, Template};
use crate::kernel::{
    Doing, Everything, Failure, Mapping, Private, Slots, Source, map, prepare_scratch, slot,
};
use crate::store::Store;
use crate::supervisor::{Costs, Entry, Supervisor};
use crate::{fault, sink};
use cap::{
    CNode, CapRights, Frame, IrqControl, IrqHandler, Notification, ObjectType, Space, Tcb, Trigger,
    Untyped, VSpace,
};
use heapless::Vec;
use protocol::badge::{Client, signal};
use protocol::bundle::Header;
use protocol::layout::{DEVICE_VADDR, IPC_BUFFERS_VADDR, STACK_STRIDE, STACKS_VADDR};
use protocol::schedule;
use protocol::slots;
use protocol::startup::{Role, Startup};
use protocol::units::{MAX_GUESTS, PIECE_BITS};
use root_task::board::{self, Board};
use root_task::bundle;
use root_task::image::{Image, PAGE};
use root_task::manifest::{self, Component, SPEAKER, Service, Thread, WATCHER};
use root_task::seeds::Seeds;
use root_task::size::{self, Headroom, VmmImage};
use rt::root::Boot;
use sel4_sys::{RETYPE_FAN_OUT_LIMIT, WORD_BITS, init_slot};
use spin::Once;

/// The bundle's header, for ever.
static HEADER: Once<Header> = Once::new();

/// Everything up to the supervisor's loop.
pub fn start(boot: Boot) -> Result<Supervisor<'static>, Failure> {
    let (mut kernel, devices) = cspace::enlarge(boot.info)?;
    let mut devices = DeviceMemory::new(devices);
    let board = board::read(boot.extra).map_err(|_| {
        Failure::Unusable(
            "the device tree has no PL011 or no interrupt controller with virtualisation",
        )
    })?;
    let (uart, gicv) = device_frames(&mut kernel, &mut devices, &board)?;
    let root = VSpace::new(init_slot::VSPACE);
    map(&mut kernel, uart, root, DEVICE_VADDR, Mapping::Device)?;
    sink::use_uart();
    prepare_scratch(&mut kernel)?;
    let header = read_bundle(&kernel, boot.bundle)?;

    let servers = make_servers(&mut kernel)?;
    make_pool(&mut kernel, header, servers.cspaces.memory)?;
    say_when("the pool is made");
    let builder = Builder {
        bundle: boot.bundle,
        header,
        servers,
        faults: kernel.make(ObjectType::Endpoint, 0)?,
    };
    let always = Always::build(&mut kernel, &builder)?;
    always.endow(&mut kernel, &board, uart, &servers)?;

    let seeds = Seeds::new(board::rng_seed(boot.extra));
    let (template, store_bytes) = make_template(&mut kernel, &builder, &board, gicv, seeds)?;
    let before_guests = kernel.memory.handed_out();
    let entries = make_entries(&mut kernel, header, &template)?;
    say_when("all is made");
    let guest_bytes = kernel.memory.handed_out() - before_guests;

    let clients = SupervisorPorts::make(&mut kernel, &servers)?;
    start_own_threads(&mut kernel, builder.faults, &servers)?;
    let costs = Costs {
        components_bytes: before_guests - store_bytes,
        per_guest_bytes: guest_bytes / (header.system.guests.len().max(1) as u64),
        pool: header.system.pool,
    };
    let root_tcb = Tcb::new(init_slot::TCB);
    root_tcb
        .bind_notification(Notification::new(servers.supervisor.notification))
        .doing("binding the supervisor's notification")?;
    root_tcb
        .set_priority(root_tcb, schedule::SUPERVISOR.priority)
        .doing("setting the supervisor's priority")?;
    always.resume()?;
    Ok(Supervisor::new(
        &header.system.guests,
        template,
        entries,
        clients,
        costs,
    ))
}

fn say_when(what: &str) {
    rt::say(format_args!(
        "{what} {} ms after power-on",
        rt::now_us() / 1000
    ));
}

/// Reads the bundle's header, for ever, and says what the system is.
fn read_bundle(kernel: &Everything, bytes: &'static [u8]) -> Result<&'static Header, Failure> {
    let header = bundle::read(bytes).map_err(|error| {
        rt::say(format_args!("the bundle: {error:?}"));
        Failure::Unusable("the image carries no usable bundle")
    })?;
    let header = HEADER.call_once(|| header);
    rt::say(format_args!(
        "system \"{}\": {} guests, pool of {} MiB; {} MiB of memory; {} ms after power-on",
        header.system.name,
        header.system.guests.len(),
        header.system.pool.mib(),
        kernel.memory.left() >> 20,
        rt::now_us() / 1000
    ));
    Ok(header)
}

/// The components that run as long as the system does.
struct Always {
    timer: Built,
    console: Built,
    memory: Built,
    balancer: Built,
}

impl Always {
    fn build(kernel: &mut Everything, builder: &Builder) -> Result<Self, Failure> {
        let system = &builder.header.system;
        let (total, reserve) = (system.pool, system.reserve);
        let guests = system.guests.iter().map(|guest| guest.name.clone());
        let console = Role::Console {
            guests: guests.collect(),
        };
        Ok(Self {
            timer: builder.build(kernel, &manifest::TIMER, Role::Timer)?,
            console: builder.build(kernel, &manifest::CONSOLE, console)?,
            memory: builder.build(
                kernel,
                &manifest::MEMORY_SERVER,
                Role::MemoryServer { total },
            )?,
            balancer: builder.build(
                kernel,
                &manifest::BALANCER,
                Role::Balancer { reserve, total },
            )?,
        })
    }

    /// Gives each what it needs beyond what every component has.
    fn endow(
        &self,
        kernel: &mut Everything,
        board: &Board,
        uart: Frame,
        servers: &Servers,
    ) -> Result<(), Failure> {
        endow_timer(&self.timer, servers)?;
        endow_console(kernel, &self.console, board, uart, servers.console)?;
        endow_memory_server(kernel, &self.memory, servers)
    }

    fn resume(&self) -> Result<(), Failure> {
        for component in [&self.timer, &self.console, &self.memory, &self.balancer] {
            component.resume()?;
        }
        Ok(())
    }
}

/// What every guest is made from, and the bytes of memory that the guests' files take.
fn make_template(
    kernel: &mut Everything,
    builder: &Builder,
    board: &Board,
    gicv: Vec<Frame, GICV_PAGES>,
    seeds: Seeds,
) -> Result<(Template<'static>, u64), Failure> {
    let image = builder.image(Client::Vmm(protocol::units::GuestId(0)).program())?;
    let shared = load_shared(kernel, &image)?;
    let before_store = kernel.memory.handed_out();
    let store = Store::load(kernel, builder.bundle, builder.header)?;
    let store_bytes = kernel.memory.handed_out() - before_store;
    let sizes = VmmImage {
        data_pages: guests::writable_pages(&image),
        span_bytes: guests::span(&image),
    };
    let template = Template {
        image,
        sizes,
        shared,
        store,
        gic: board.gic,
        gicv,
        service: service_endpoint,
        servers: builder.servers,
        faults: builder.servers.supervisor.endpoint,
        seeds,
    };
    Ok((template, store_bytes))
}

/// The supervisor's own capabilities to receive and to call with.
#[derive(Clone, Copy, Debug)]
pub struct SupervisorPorts {
    /// Its endpoint.
    pub endpoint: u64,
    /// Its reply object.
    pub reply: u64,
    /// The memory server, badged.
    pub memory: u64,
    /// The balancer, badged.
    pub balancer: u64,
    /// The timer, badged.
    pub timer: u64,
}

impl SupervisorPorts {
    fn make(kernel: &mut Everything, servers: &Servers) -> Result<Self, Failure> {
        Ok(Self {
            endpoint: servers.supervisor.endpoint,
            reply: kernel.make(ObjectType::Reply, 0)?,
            memory: mint_for_supervisor(kernel, servers.memory.endpoint)?,
            balancer: mint_for_supervisor(kernel, servers.balancer.endpoint)?,
            timer: mint_for_supervisor(kernel, servers.timer.endpoint)?,
        })
    }
}

fn mint_for_supervisor(kernel: &mut Everything, endpoint: u64) -> Result<u64, Failure> {
    let minted = kernel.slots.take(1)?;
    slot(endpoint)
        .mint_to(slot(minted), CALL, Client::Supervisor.badge())
        .doing("minting the supervisor's endpoint to a server")?;
    Ok(minted)
}

/// The UART's frame and those of the virtual CPU interface, in the order of their addresses.
fn device_frames(
    kernel: &mut Everything,
    devices: &mut DeviceMemory,
    board: &Board,
) -> Result<(Frame, Vec<Frame, GICV_PAGES>), Failure> {
    let mut gicv = Vec::new();
    let take_gicv = |kernel: &mut Everything,
                     devices: &mut DeviceMemory,
                     gicv: &mut Vec<Frame, GICV_PAGES>|
     -> Result<(), Failure> {
        let Some(region) = board.gicv else {
            return Ok(());
        };
        let pages = region.bytes().div_ceil(PAGE).min(GICV_PAGES as u64);
        for page in 0..pages {
            let frame = devices.frame(kernel, region.start + page * PAGE)?;
            gicv.push(frame).map_err(|_| Failure::NoSlot)?;
        }
        Ok(())
    };
    let gicv_first = board
        .gicv
        .is_some_and(|region| region.start < board.uart_paddr);
    if gicv_first {
        take_gicv(kernel, devices, &mut gicv)?;
    }
    let uart = devices.frame(kernel, board.uart_paddr)?;
    if !gicv_first {
        take_gicv(kernel, devices, &mut gicv)?;
    }
    Ok((uart, gicv))
}

fn make_servers(kernel: &mut Everything) -> Result<Servers, Failure> {
    // The largest first.
    let memory_space = CSpace::make(kernel, manifest::MEMORY_SERVER.radix)?;
    let cspaces = ServerSpaces {
        memory: memory_space,
        console: CSpace::make(kernel, manifest::CONSOLE.radix)?,
        timer: CSpace::make(kernel, manifest::TIMER.radix)?,
        balancer: CSpace::make(kernel, manifest::BALANCER.radix)?,
    };
    Ok(Servers {
        console: Ports::make(kernel)?,
        memory: Ports::make(kernel)?,
        balancer: Ports::make(kernel)?,
        timer: Ports::make(kernel)?,
        supervisor: Ports::make(kernel)?,
        cspaces,
    })
}

fn service_endpoint(servers: &Servers, service: Service) -> u64 {
    match service {
        Service::Console => servers.console.endpoint,
        Service::Memory => servers.memory.endpoint,
        Service::Balancer => servers.balancer.endpoint,
        Service::Supervisor => servers.supervisor.endpoint,
        Service::Timer => servers.timer.endpoint,
    }
}

/// The ledger CNodes, and the pieces in the one for dirty pieces: slot = piece.
fn make_pool(kernel: &mut Everything, header: &Header, memory: CSpace) -> Result<(), Failure> {
    let total = u64::from(header.system.pool.0);
    let radix = slots::memory::ledger_radix(header.system.pool);
    let dirty = kernel.make(ObjectType::CapTable, radix)?;
    let mut piece = 0;
    while piece < total {
        let Some(grant) = kernel.memory.take_pieces(total - piece) else {
            rt::say(format_args!(
                "the pool wants {total} pieces of 2 MiB, the board's memory has {piece}"
            ));
            return Err(Failure::Unusable(
                "the pool is larger than the board's memory",
            ));
        };
        let end = piece + grant.count;
        while piece < end {
            let count = (end - piece).min(RETYPE_FAN_OUT_LIMIT);
            Untyped::new(grant.untyped)
                .retype(
                    ObjectType::Untyped,
                    PIECE_BITS,
                    CNode::new(dirty),
                    piece,
                    count,
                )
                .doing("making the pool's pieces")?;
            piece += count;
        }
    }
    memory.copy(dirty, slots::memory::DIRTY, CapRights::ALL)?;
    let owners = header.system.guests.len() as u64;
    let owners = (0..owners).map(|guest| slots::memory::OWNERS + guest);
    for index in [slots::memory::POOL, slots::memory::FRAMES]
        .into_iter()
        .chain(owners)
    {
        let ledger = kernel.make(ObjectType::CapTable, radix)?;
        memory.copy(ledger, index, CapRights::ALL)?;
    }
    Ok(())
}

struct Builder {
    bundle: &'static [u8],
    header: &'static Header,
    servers: Servers,
    faults: u64,
}

impl Builder {
    fn image(&self, program: &str) -> Result<Image<'static>, Failure> {
        let file = bundle::component(self.bundle, self.header, program).ok_or_else(|| {
            rt::say(format_args!("the bundle has no component \"{program}\""));
            Failure::Unusable("a component is missing")
        })?;
        Image::parse(file).map_err(|error| {
            rt::say(format_args!("component \"{program}\": {error:?}"));
            Failure::Unusable("a component's file is not usable")
        })
    }

    fn build(
        &self,
        kernel: &mut Everything,
        component: &Component,
        role: Role,
    ) -> Result<Built, Failure> {
        let client = component.client;
        let image = self.image(client.program())?;
        let shared = load_shared(kernel, &image)?;
        let servers = &self.servers;
        let (ports, cspace) = match client {
            Client::Console => (servers.console, servers.cspaces.console),
            Client::MemoryServer => (servers.memory, servers.cspaces.memory),
            Client::Timer => (servers.timer, servers.cspaces.timer),
            Client::Balancer => (servers.balancer, servers.cspaces.balancer),
            Client::Vmm(_) | Client::Supervisor | Client::Cleaner => {
                return Err(Failure::Unusable("no component that always runs"));
            }
        };
        let name = client
            .program()
            .try_into()
            .map_err(|_| Failure::Unusable("a component's name is too long"))?;
        let startup = Startup {
            name,
            log_id: client.log_id(),
            role,
        };
        build(
            kernel,
            &Plan {
                component,
                client,
                cspace,
                image: &image,
                shared,
                startup: &startup,
                ports,
                service: &|service| service_endpoint(servers, service),
                faults: self.faults,
            },
        )
    }
}

fn thread(built: &Built, index: usize) -> Result<component::Made, Failure> {
    built
        .threads
        .get(index)
        .copied()
        .ok_or(Failure::Unusable("a component lacks a thread"))
}

fn endow_timer(timer: &Built, servers: &Servers) -> Result<(), Failure> {
    let alarm = thread(timer, 1)?;
    let cspace = timer.cspace;
    cspace.copy(SCHED_CONTROL, slots::timer::SCHED_CONTROL, CapRights::ALL)?;
    cspace.copy(alarm.tcb.cptr(), slots::timer::ALARM_TCB, CapRights::ALL)?;
    cspace.copy(alarm.context.cptr(), slots::timer::ALARM_SC, CapRights::ALL)?;
    let signals = [servers.balancer, servers.console, servers.supervisor];
    for (index, ports) in (slots::timer::CLIENT_SIGNALS..).zip(signals) {
        let badge = signal::ALARM | signal::IS_SIGNAL;
        cspace.mint(ports.notification, index, CapRights::WRITE, badge)?;
    }
    Ok(())
}

fn endow_console(
    kernel: &mut Everything,
    console: &Built,
    board: &Board,
    uart: Frame,
    ports: Ports,
) -> Result<(), Failure> {
    let copy = kernel.slots.take(1)?;
    slot(uart.cptr())
        .copy_to(slot(copy), CapRights::READ_WRITE)
        .doing("copying the UART's frame")?;
    let frame = Frame::new(copy);
    map(kernel, frame, console.vspace, DEVICE_VADDR, Mapping::Device)?;
    let handler = kernel.slots.take(1)?;
    IrqControl::new(init_slot::IRQ_CONTROL)
        .get(board.uart_irq, Trigger::Level, slot(handler))
        .doing("taking the UART's interrupt")?;
    let badged = kernel.slots.take(1)?;
    slot(ports.notification)
        .mint_to(
            slot(badged),
            CapRights::WRITE,
            signal::IRQ | signal::IS_SIGNAL,
        )
        .doing("minting the UART's notification")?;
    IrqHandler::new(handler)
        .set_notification(Notification::new(badged))
        .doing("routing the UART's interrupt")?;
    console
        .cspace
        .copy(handler, slots::console::IRQ, CapRights::ALL)
}

fn endow_memory_server(
    kernel: &mut Everything,
    memory: &Built,
    servers: &Servers,
) -> Result<(), Failure> {
    let (main, cleaner) = (thread(memory, 0)?, thread(memory, 1)?);
    let cspace = memory.cspace;
    cspace.copy(
        cleaner.tcb.cptr(),
        slots::memory::CLEANER_TCB,
        CapRights::ALL,
    )?;
    cspace.copy(main.tcb.cptr(), slots::memory::AUTHORITY, CapRights::ALL)?;
    let reply = kernel.make(ObjectType::Reply, 0)?;
    cspace.copy(reply, slots::memory::CLEANER_REPLY, CapRights::ALL)?;
    let endpoint = servers.memory.endpoint;
    let badge = Client::Cleaner.badge();
    cspace.mint(endpoint, slots::memory::CLEANER_ENDPOINT, CALL, badge)?;
    cspace.mint(
        servers.balancer.notification,
        slots::memory::BALANCER_SIGNAL,
        CapRights::WRITE,
        signal::MEMORY | signal::IS_SIGNAL,
    )
}

fn make_entries(
    kernel: &mut Everything,
    header: &Header,
    template: &Template<'_>,
) -> Result<Vec<Entry, MAX_GUESTS>, Failure> {
    let mut entries = Vec::new();
    for guest in &header.system.guests {
        let bounds = &guest.settings.bounds;
        let pool = header.system.pool;
        let size = size::guest(bounds, pool, template.sizes, Headroom::TwiceMaximum);
        let untyped = kernel.make(ObjectType::Untyped, size.untyped_bits)?;
        let count = size::guest_slots(&size, template.shared.count, template.store.frames());
        let first = kernel.slots.take(count)?;
        let private = Private {
            untyped,
            slots: Slots::new(first, first + count),
        };
        entries
            .push(Entry::new(private, size.untyped_bits, guest.settings))
            .map_err(|_| Failure::NoSlot)?;
    }
    Ok(entries)
}

/// The speaker and the watcher (see [`sink`] and [`fault`]).
fn start_own_threads(
    kernel: &mut Everything,
    faults: u64,
    servers: &Servers,
) -> Result<(), Failure> {
    let notification = kernel.make(ObjectType::Notification, 0)?;
    let console = mint_for_supervisor(kernel, servers.console.endpoint)?;
    sink::use_console(console, notification);
    let reply = kernel.make(ObjectType::Reply, 0)?;
    fault::set_watcher(faults, reply);
    start_own_thread(kernel, 1, &WATCHER, fault::watch)?;
    start_own_thread(kernel, 2, &SPEAKER, sink::speak)
}

fn start_own_thread(
    kernel: &mut Everything,
    index: u64,
    thread: &Thread,
    body: extern "C" fn(),
) -> Result<(), Failure> {
    let vspace = VSpace::new(init_slot::VSPACE);
    let buffer_vaddr = IPC_BUFFERS_VADDR + index * PAGE;
    let stack_top = STACKS_VADDR + (index + 1) * STACK_STRIDE;
    let buffer = Frame::new(kernel.make(ObjectType::SmallPage, 0)?);
    map(kernel, buffer, vspace, buffer_vaddr, Mapping::Write)?;
    map_stack(kernel, vspace, stack_top, thread.stack_pages)?;
    let made = make_tcb(kernel, thread, None)?;
    let space = Space {
        cspace: CNode::new(init_slot::CNODE),
        cspace_data: 0,
        vspace,
    };
    made.tcb
        .configure(&space, buffer_vaddr, buffer)
        .doing("configuring a thread of the root task")?;
    made.tcb
        .write_registers(
            cap::After::Resume,
            &rt::root::thread_registers(index, body, buffer_vaddr, stack_top),
        )
        .doing("starting a thread of the root task")
}

const _: () = assert!(WORD_BITS == 64);
