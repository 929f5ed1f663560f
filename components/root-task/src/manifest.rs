//! Who the components are: their threads, their priorities, and whom they may call. The book's page
//! `concepts.md` has the same as a table of who may hold what.
//!
//! Priorities: the supervisor above all (it must be able to stop anybody), the timer (wakes others in time), the memory
//! server, the balancer, the console, the VMMs and the guests' vCPUs as equals, and below them the memory server's cleaner
//! while nobody waits for it. A server is above its clients, so a call to it is never delayed by another client. A VMM is
//! not above vCPUs: what it does, it does for its own guest, and the other guests' vCPUs take turns with it. Its slice is
//! as long as a vCPU's, so a guest that makes its VMM work pays for that with its own turns.

use protocol::badge::Client;
use protocol::slots;

/// The supervisor's priority.
pub const SUPERVISOR_PRIORITY: u64 = 250;
/// Priority of the supervisor's speaker thread: below the console, to which it speaks.
pub const SPEAKER_PRIORITY: u64 = 170;
/// A vCPU's priority.
pub const VCPU_PRIORITY: u64 = 100;
/// A vCPU's time slice: budget and period are equal, so vCPUs take turns.
pub const VCPU_SLICE_US: u64 = 5_000;
/// Time slice of a thread that is limited by priority alone.
const SLICE_US: u64 = 10_000;

/// A thread of a component.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// For messages.
    pub name: &'static str,
    /// Its priority.
    pub priority: u64,
    /// The highest priority that it may give.
    pub mcp: u64,
    /// Microseconds of processor time in each period.
    pub budget_us: u64,
    /// Microseconds.
    pub period_us: u64,
    /// Pages of its stack.
    pub stack_pages: u64,
}

/// A server that others call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The console server.
    Console,
    /// The memory server.
    Memory,
    /// The balancer.
    Balancer,
    /// The supervisor.
    Supervisor,
    /// The timer.
    Timer,
}

impl Service {
    /// Every service.
    pub const ALL: [Self; 5] = [
        Self::Console,
        Self::Memory,
        Self::Balancer,
        Self::Supervisor,
        Self::Timer,
    ];

    /// The slot for its endpoint in a client's CNode.
    #[must_use]
    pub const fn slot(self) -> u64 {
        match self {
            Self::Console => slots::CONSOLE,
            Self::Memory => slots::MEMORY,
            Self::Balancer => slots::BALANCER,
            Self::Supervisor => slots::SUPERVISOR,
            Self::Timer => slots::TIMER,
        }
    }
}

/// What a component may hold of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Nothing.
    Nothing,
    /// Its CNode: it moves capabilities.
    CNode,
    /// Its CNode and its address space: it maps frames.
    CNodeAndVSpace,
}

/// A component.
#[derive(Clone, Copy, Debug)]
pub struct Component {
    /// Who it is; for a VMM the guest's number differs.
    pub client: Client,
    /// log2 of its CNode's slots; for a VMM it depends on its guest.
    pub radix: u32,
    /// Its threads, the main one first. Its binary names their functions in the same order.
    pub threads: &'static [Thread],
    /// Whom it calls.
    pub calls: &'static [Service],
    /// What it holds of itself.
    pub own: Own,
}

const fn server(priority: u64) -> Thread {
    Thread {
        name: "main",
        priority,
        mcp: priority,
        budget_us: SLICE_US,
        period_us: SLICE_US,
        stack_pages: 16,
    }
}

const fn helper(name: &'static str, priority: u64) -> Thread {
    Thread {
        name,
        priority,
        mcp: 0,
        budget_us: SLICE_US,
        period_us: SLICE_US,
        stack_pages: 4,
    }
}

/// The timer's alarm thread yields for ever: its context must have a period in which it does not run. The timer sets
/// another one with the first alarm. What it overruns (on an emulator whose host is busy that can be milliseconds) is charged a
/// period for each budget's worth, so the budget is not small.
const ALARM: Thread = Thread {
    name: "alarm",
    priority: 241,
    mcp: 0,
    budget_us: 750_000,
    period_us: 1_000_000,
    stack_pages: 4,
};

/// The timer: main and alarm thread.
pub const TIMER: Component = Component {
    client: Client::Timer,
    radix: slots::timer::RADIX,
    threads: &[server(240), ALARM],
    calls: &[Service::Console],
    own: Own::Nothing,
};

/// The memory server: main and cleaner. Its main thread's priority bounds what it may give the cleaner.
pub const MEMORY_SERVER: Component = Component {
    client: Client::MemoryServer,
    radix: slots::memory::RADIX,
    threads: &[server(200), helper("cleaner", 50)],
    calls: &[Service::Console],
    own: Own::CNode,
};

/// The balancer.
pub const BALANCER: Component = Component {
    client: Client::Balancer,
    radix: slots::balancer::RADIX,
    threads: &[server(190)],
    calls: &[Service::Console, Service::Memory, Service::Timer],
    own: Own::Nothing,
};

/// The serial / management server. What guests write makes it work, above all of them: it has a fifth of the processor at
/// most, which is about two megabytes of output a second.
pub const CONSOLE: Component = Component {
    client: Client::Console,
    radix: slots::console::RADIX,
    threads: &[Thread {
        budget_us: 2_000,
        period_us: 10_000,
        ..server(180)
    }],
    calls: &[Service::Memory, Service::Balancer, Service::Supervisor],
    own: Own::Nothing,
};

/// A VMM: event loop and window faults.
pub const VMM: Component = Component {
    client: Client::Vmm(protocol::units::GuestId(0)),
    radix: slots::vmm::RADIX,
    threads: &[
        Thread {
            budget_us: VCPU_SLICE_US,
            period_us: VCPU_SLICE_US,
            ..server(VCPU_PRIORITY)
        },
        helper("faults", VCPU_PRIORITY + 1),
    ],
    calls: &Service::ALL,
    own: Own::CNodeAndVSpace,
};

/// The root task's thread that passes on what its others say (priority below the console, to which it speaks).
pub const SPEAKER: Thread = Thread {
    stack_pages: 8,
    ..helper("speaker", SPEAKER_PRIORITY)
};

/// The root task's thread that hears of faults, above all others.
pub const WATCHER: Thread = Thread {
    stack_pages: 8,
    ..helper("watcher", SUPERVISOR_PRIORITY + 1)
};

/// The components that always run, in the order in which they are started: a server before those that call it at once.
pub const ALWAYS: [&Component; 4] = [&TIMER, &CONSOLE, &MEMORY_SERVER, &BALANCER];

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::layout::STACK_STRIDE;

    fn all() -> impl Iterator<Item = &'static Component> {
        ALWAYS.into_iter().chain([&VMM])
    }

    fn main_priority(service: Service) -> u64 {
        let component = match service {
            Service::Console => &CONSOLE,
            Service::Memory => &MEMORY_SERVER,
            Service::Balancer => &BALANCER,
            Service::Timer => &TIMER,
            Service::Supervisor => return SUPERVISOR_PRIORITY,
        };
        component.threads[0].priority
    }

    #[test]
    fn threads_are_sound() {
        for component in all() {
            assert!(component.threads.len() <= rt::MAX_THREADS);
            for thread in component.threads {
                assert!(thread.priority < SUPERVISOR_PRIORITY && thread.mcp <= 255);
                assert!(0 < thread.budget_us && thread.budget_us <= thread.period_us);
                // The stack's lowest page stays unmapped.
                assert!((thread.stack_pages + 1) * 4096 <= STACK_STRIDE);
            }
        }
    }

    #[test]
    fn the_console_is_told_things_but_waits_for_nobody_who_waits_for_it() {
        // Servers that the console calls only ever try to send to it (`rt::log`); a VMM waits for it, so it must not be
        // among those that the console calls. No service is a VMM, so the table cannot say it.
        assert!(!CONSOLE.calls.contains(&Service::Console));
        // Calls go up: whoever answers runs before whoever asks.
        for component in all() {
            for service in component.calls {
                let up = main_priority(*service) > component.threads[0].priority;
                assert!(up || *service == Service::Console, "{:?}", component.client);
            }
        }
    }

    #[test]
    fn only_the_vmm_holds_an_address_space_and_the_balancer_holds_nothing() {
        for component in all() {
            let is_vmm = matches!(component.client, Client::Vmm(_));
            assert_eq!(component.own == Own::CNodeAndVSpace, is_vmm);
        }
        assert_eq!(BALANCER.own, Own::Nothing);
        assert!(!BALANCER.calls.contains(&Service::Supervisor));
    }
}
