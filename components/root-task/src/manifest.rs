//! Who the components are: their threads, their priorities, and whom they may call. The book's page
//! `concepts.md` has the same as a table of who may hold what.
//! Their priorities and budgets are those of [`protocol::schedule`].

use protocol::badge::Client;
use protocol::schedule::{self, Share};
use protocol::slots;

/// A thread of a component.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// For messages.
    pub name: &'static str,
    /// When it runs.
    pub share: Share,
    /// The highest priority that it may give.
    pub mcp: u64,
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

const fn server(share: Share) -> Thread {
    Thread {
        name: "main",
        share,
        mcp: share.priority,
        stack_pages: 16,
    }
}

const fn helper(name: &'static str, share: Share) -> Thread {
    Thread {
        name,
        share,
        mcp: 0,
        stack_pages: 4,
    }
}

/// The timer: main and alarm thread.
pub const TIMER: Component = Component {
    client: Client::Timer,
    radix: slots::timer::RADIX,
    threads: &[server(schedule::TIMER), helper("alarm", schedule::ALARM)],
    calls: &[Service::Console],
    own: Own::Nothing,
};

/// The memory server: main and cleaner. Its main thread's priority bounds what it may give the cleaner.
pub const MEMORY_SERVER: Component = Component {
    client: Client::MemoryServer,
    radix: slots::memory::RADIX,
    threads: &[
        server(schedule::MEMORY_SERVER),
        helper("cleaner", schedule::CLEANER),
    ],
    calls: &[Service::Console],
    own: Own::CNode,
};

/// The balancer.
pub const BALANCER: Component = Component {
    client: Client::Balancer,
    radix: slots::balancer::RADIX,
    threads: &[server(schedule::BALANCER)],
    calls: &[Service::Console, Service::Memory, Service::Timer],
    own: Own::Nothing,
};

/// The serial / management server.
pub const CONSOLE: Component = Component {
    client: Client::Console,
    radix: slots::console::RADIX,
    threads: &[server(schedule::CONSOLE)],
    calls: &[Service::Memory, Service::Balancer, Service::Supervisor],
    own: Own::Nothing,
};

/// A VMM: event loop and window faults.
pub const VMM: Component = Component {
    client: Client::Vmm(protocol::units::GuestId(0)),
    radix: slots::vmm::RADIX,
    threads: &[
        server(schedule::VMM),
        helper("faults", schedule::VMM_FAULTS),
    ],
    calls: &Service::ALL,
    own: Own::CNodeAndVSpace,
};

/// The root task's thread that passes on what its others say.
pub const SPEAKER: Thread = Thread {
    stack_pages: 8,
    ..helper("speaker", schedule::SPEAKER)
};

/// The root task's thread that hears of faults.
pub const WATCHER: Thread = Thread {
    stack_pages: 8,
    ..helper("watcher", schedule::WATCHER)
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
            Service::Supervisor => return schedule::SUPERVISOR.priority,
        };
        component.threads[0].share.priority
    }

    #[test]
    fn threads_are_sound() {
        for component in all() {
            assert!(component.threads.len() <= rt::MAX_THREADS);
            for thread in component.threads {
                assert!(thread.share.priority < schedule::SUPERVISOR.priority && thread.mcp <= 255);
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
                let up = main_priority(*service) > component.threads[0].share.priority;
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
