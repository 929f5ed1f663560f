//! The balancer: the receive loop and the ticker thread. The policy is in `balancer-core`.
//!
//! Invariants:
//! 1. It calls the memory server and nobody else: it never waits for a VMM, the console or the supervisor.
//! 2. It holds no frame, untyped or address space; a VMM learns of a decision from the memory server.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

use balancer_core::{Counting, MemoryServer, Service, Watcher};
use cap::{Endpoint, Notification, Reply as ReplyObject};
use protocol::badge::{Client, signal};
use protocol::balancer::{Reply, Request};
use protocol::memory;
use protocol::slots;
use protocol::startup::{Role, Startup};
use protocol::units::Pieces;
use protocol::watch::Instructions;

rt::component!(serve, tick);

/// The memory server behind its endpoint.
struct Memory(Endpoint);

impl MemoryServer for Memory {
    fn call(&mut self, request: &memory::Request) -> Option<memory::Reply> {
        cap::call_value(self.0, request, None).ok()
    }
}

/// The PMU's counters.
struct Pmu;

impl Counting for Pmu {
    fn start(&mut self) {
        rt::instructions::start();
    }
    fn read(&mut self) -> Instructions {
        rt::instructions::read()
    }
}

/// The tables of all guests: large for a stack.
static SERVICE: spin::Mutex<Service<Memory>> = spin::Mutex::new(Service::new(
    Pieces(0),
    Memory(Endpoint::new(slots::MEMORY)),
));

fn now_ms() -> u64 {
    rt::now_us() / 1000
}

fn serve(startup: Startup) {
    let Role::Balancer { reserve, .. } = startup.role else {
        rt::fail("the startup page is not the balancer's");
    };
    let mut service = SERVICE.lock();
    service.set_reserve_at_start(reserve);
    let mut watcher = Watcher::new(Pmu);
    let endpoint = Endpoint::new(slots::ENDPOINT);
    let reply = ReplyObject::new(slots::REPLY);
    let mut received = endpoint.recv(reply);
    while let Ok(message) = received {
        if message.badge & signal::IS_SIGNAL != 0 {
            service.decide(now_ms());
            received = endpoint.recv(reply);
            continue;
        }
        received = match (
            Client::from_badge(message.badge),
            message.decode::<Request>(),
        ) {
            (Some(client), Ok(request)) => {
                let answer: Reply = watcher
                    .look(rt::now_us(), client, &request)
                    .unwrap_or_else(|| service.handle(now_ms(), client, request));
                endpoint.reply_recv_value(&answer, None, reply)
            }
            _ => endpoint.reply_recv_malformed(reply),
        };
    }
    rt::fail("the balancer cannot receive");
}

fn tick(_: Startup) {
    rt::tick(Notification::new(slots::TICK));
}
