//! The timer component: the receive loop and the alarm thread. The logic is in the library.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

use cap::{Endpoint, Notification, Received, Reply, SchedContext, SchedControl, Tcb};
use core::sync::atomic::{AtomicU64, Ordering};
use protocol::badge::{Client, signal};
use protocol::slots;
use protocol::startup::{Role, Startup};
use protocol::timer as wire;
use timer::{ClientIndex, Plan, Queue, plan};

rt::component!(serve, alarm);

/// No alarm is set.
const NEVER: u64 = u64::MAX;
/// When the alarm thread shall signal the main thread.
static WAKE_TICKS: AtomicU64 = AtomicU64::new(NEVER);

fn alarm(_: Startup) {
    let main = Notification::new(slots::TICK);
    loop {
        let wake_ticks = WAKE_TICKS.load(Ordering::Acquire);
        if rt::ticks() >= wake_ticks
            && WAKE_TICKS
                .compare_exchange(wake_ticks, NEVER, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            main.signal();
        }
        cap::yield_now();
    }
}

/// The alarm thread as the main thread sees it.
struct Alarm {
    thread: Tcb,
    context: SchedContext,
    control: SchedControl,
}

impl Alarm {
    /// Lets it wake as planned. The thread is suspended meanwhile: the context of a thread that cannot run is filled
    /// anew, that of a runnable one only changes its rate (seL4 manual, 6.1.6).
    fn program(&self, plan: Plan) -> Result<(), cap::Error> {
        self.thread.suspend()?;
        WAKE_TICKS.store(plan.wake_ticks, Ordering::Release);
        self.control
            .configure(self.context, plan.budget_us, plan.period_us, 0, 0, 0)?;
        self.thread.resume()
    }
}

fn serve(startup: Startup) {
    if !matches!(startup.role, Role::Timer) {
        rt::fail("the startup page is not the timer's");
    }
    let endpoint = Endpoint::new(slots::ENDPOINT);
    let reply = Reply::new(slots::REPLY);
    let alarm = Alarm {
        thread: Tcb::new(slots::timer::ALARM_TCB),
        context: SchedContext::new(slots::timer::ALARM_SC),
        control: SchedControl::new(slots::timer::SCHED_CONTROL),
    };
    let hz = rt::frequency_hz();
    let mut queue = Queue::new();
    let mut received = endpoint.recv(reply);
    while let Ok(message) = received {
        let answer = if message.badge & signal::IS_SIGNAL != 0 {
            None
        } else {
            Some(handle(&mut queue, &message))
        };
        let now_ticks = rt::ticks();
        while let Some(client) = queue.take_due(now_ticks) {
            Notification::new(client.signal_slot()).signal();
        }
        if let Some(earliest) = queue.earliest()
            && alarm.program(plan(earliest, now_ticks, hz)).is_err()
        {
            rt::fail("the alarm thread cannot be programmed");
        }
        received = match answer {
            Some(answer) => endpoint.reply_recv_value(&answer, None, reply),
            None => endpoint.recv(reply),
        };
    }
}

fn handle(queue: &mut Queue, message: &Received) -> wire::Reply {
    let client = Client::from_badge(message.badge).and_then(ClientIndex::of);
    match (client, message.decode()) {
        (Some(client), Ok(wire::Request::SetAlarm { at_ticks })) => {
            queue.set(client, Some(at_ticks));
            wire::Reply::Done
        }
        (Some(client), Ok(wire::Request::ClearAlarm)) => {
            queue.set(client, None);
            wire::Reply::Done
        }
        (None, _) | (_, Err(_)) => wire::Reply::Refused,
    }
}
