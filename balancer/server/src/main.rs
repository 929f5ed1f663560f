//! The balancer: the receive loop. The policy is in `balancer-core`.
//!
//! Invariants:
//! 1. It calls the memory server and the timer and nobody else: it never waits for a VMM, the console or the supervisor.
//! 2. It holds no frame, untyped or address space; a VMM learns of a decision from the memory server.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

mod rhythm;

use balancer_core::{Counting, MemoryServer, Service, Watcher};
use cap::{Endpoint, Reply as ReplyObject};
use protocol::badge::{Client, signal};
use protocol::balancer::{Reply, Request};
use protocol::slots;
use protocol::startup::{Role, Startup};
use protocol::units::Pieces;
use protocol::watch::Instructions;
use protocol::{memory, timer};
use rhythm::{Rhythm, Sign};

rt::component!(serve);

/// The memory server behind its endpoint.
struct Memory {
    endpoint: Endpoint,
    /// What it was told to do, and not only asked.
    orders: u32,
}

impl MemoryServer for Memory {
    fn call(&mut self, request: &memory::Request) -> Option<memory::Reply> {
        if let memory::Request::SetTarget { .. } | memory::Request::Revoke { .. } = request {
            self.orders = self.orders.wrapping_add(1);
        }
        cap::call_value(self.endpoint, request, None).ok()
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
    Memory {
        endpoint: Endpoint::new(slots::MEMORY),
        orders: 0,
    },
));

fn now_ms() -> u64 {
    rt::now_us() / 1000
}

/// The alarm at the timer.
struct Alarm {
    /// When it comes, in milliseconds since power-on; none is set.
    at_ms: Option<u64>,
}

impl Alarm {
    /// Makes sure that it comes at this time at the latest. One that is set for earlier stays: it costs a wake-up, a new one
    /// a call. What the timer refuses is asked for again with the next message.
    fn wake_by(&mut self, due_ms: u64, now_ms: u64) {
        // One whose time has passed without a signal is lost.
        let is_set = |at_ms| (now_ms..=due_ms).contains(&at_ms);
        if self.at_ms.is_some_and(is_set) {
            return;
        }
        let at_ticks = rt::time::ticks_from_us(due_ms.saturating_mul(1000), rt::frequency_hz());
        let alarm = timer::Alarm::Work;
        let request = timer::Request::SetAlarm { alarm, at_ticks };
        let answer = cap::call_value(Endpoint::new(slots::TIMER), &request, None);
        if answer == Ok(timer::Reply::Done) {
            self.at_ms = Some(due_ms);
        }
    }

    /// The timer has signalled; it does so never before the alarm's time.
    fn fired(&mut self, now_ms: u64) {
        if self.at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.at_ms = None;
        }
    }
}

/// What a request says about how much goes on, with its answer.
fn sign(request: &Request, answer: &Reply) -> Sign {
    match (request, answer) {
        (Request::Report(_), Reply::NextReport(next)) => Sign::of_report(next.in_ms),
        (
            Request::Row(_)
            | Request::HostRow
            | Request::Why(_)
            | Request::Watch(_)
            | Request::Watched,
            _,
        )
        | (_, Reply::Refused(_)) => Sign::Nothing,
        _ => Sign::Event,
    }
}

/// Decides. What comes of orders is looked at soon.
fn decide(service: &mut Service<Memory>, rhythm: &mut Rhythm) {
    let orders = service.memory().orders;
    service.decide(now_ms());
    if service.memory().orders != orders {
        rhythm.note(Sign::Event, now_ms());
    }
    rhythm.decided(now_ms());
}

/// Answers one request.
fn answer(
    service: &mut Service<Memory>,
    watcher: &mut Watcher<Pmu>,
    rhythm: &mut Rhythm,
    client: Client,
    request: Request,
) -> Reply {
    if let Some(answer) = watcher.look(rt::now_us(), client, &request) {
        return answer;
    }
    let asked = request.clone();
    let rounds = service.balancer().host_row().rounds;
    let answer = service.handle(now_ms(), client, request);
    rhythm.note(sign(&asked, &answer), now_ms());
    if service.balancer().host_row().rounds != rounds {
        // What cannot wait was decided on before it was answered.
        rhythm.decided(now_ms());
    }
    answer
}

fn serve(startup: Startup) {
    let Role::Balancer { reserve, .. } = startup.role else {
        rt::fail("the startup page is not the balancer's");
    };
    let mut service = SERVICE.lock();
    service.set_reserve_at_start(reserve);
    let mut watcher = Watcher::new(Pmu);
    let mut rhythm = Rhythm::new();
    let mut alarm = Alarm { at_ms: None };
    let endpoint = Endpoint::new(slots::ENDPOINT);
    let reply = ReplyObject::new(slots::REPLY);
    let mut received = endpoint.recv(reply);
    while let Ok(message) = received {
        let answered = if message.badge & signal::IS_SIGNAL != 0 {
            if message.badge & signal::ALARM != 0 {
                alarm.fired(now_ms());
            }
            if message.badge & signal::MEMORY != 0 {
                rhythm.note(Sign::Event, now_ms());
                decide(&mut service, &mut rhythm);
            }
            None
        } else {
            match (
                Client::from_badge(message.badge),
                message.decode::<Request>(),
            ) {
                (Some(client), Ok(request)) => Some(Some(answer(
                    &mut service,
                    &mut watcher,
                    &mut rhythm,
                    client,
                    request,
                ))),
                _ => Some(None),
            }
        };
        if rhythm.is_due(now_ms()) {
            decide(&mut service, &mut rhythm);
        }
        alarm.wake_by(rhythm.due_ms(), now_ms());
        received = match answered {
            Some(Some(answer)) => endpoint.reply_recv_value(&answer, None, reply),
            Some(None) => endpoint.reply_recv_malformed(reply),
            None => endpoint.recv(reply),
        };
    }
    rt::fail("the balancer cannot receive");
}
