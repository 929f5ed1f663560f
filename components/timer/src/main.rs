//! The timer component: the receive loop and the alarm thread. The logic is in the library.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

use cap::{Endpoint, Notification, Received, Reply, SchedContext, SchedControl, Tcb};
use core::sync::atomic::{AtomicU64, Ordering};
use protocol::badge::{Client, signal};
use protocol::slots;
use protocol::startup::{Role, Startup};
use protocol::timer as wire;
use timer::{AlarmIndex, NEVER, Plan, Queue, Schedule, Step};

rt::component!(serve, alarm);

/// When the alarm thread shall signal the main thread.
static WAKE_TICKS: AtomicU64 = AtomicU64::new(NEVER);
/// When it last ran. It writes this before it reads the other, and the main thread the other way round: of a wake-up that
/// crosses a new order at least one of the two knows.
static RAN_TICKS: AtomicU64 = AtomicU64::new(0);

fn alarm(_: Startup) {
    let main = Notification::new(slots::TICK);
    loop {
        let now_ticks = rt::ticks();
        RAN_TICKS.store(now_ticks, Ordering::SeqCst);
        let wake_ticks = WAKE_TICKS.load(Ordering::SeqCst);
        if now_ticks >= wake_ticks
            && WAKE_TICKS
                .compare_exchange(wake_ticks, NEVER, Ordering::SeqCst, Ordering::Relaxed)
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
        WAKE_TICKS.store(plan.wake_ticks, Ordering::SeqCst);
        self.control
            .configure(self.context, plan.budget_us, plan.period_us, 0, 0, 0)?;
        self.thread.resume()
    }

    /// Sees to it that it signals in time for the earliest alarm.
    fn arm(
        &self,
        schedule: &mut Schedule,
        earliest_ticks: u64,
        now_ticks: u64,
    ) -> Result<(), cap::Error> {
        // It wakes at most once in the shortest period, so this ends.
        loop {
            let ran_ticks = RAN_TICKS.load(Ordering::SeqCst);
            let step = schedule.step(earliest_ticks, now_ticks, ran_ticks);
            match step {
                Step::Keep => {}
                Step::Program(plan) => self.program(plan)?,
                Step::Signal { wake_ticks } => {
                    WAKE_TICKS.store(wake_ticks, Ordering::SeqCst);
                    if RAN_TICKS.load(Ordering::SeqCst) != ran_ticks {
                        // It woke without knowing of it.
                        continue;
                    }
                }
            }
            schedule.done(earliest_ticks, step);
            return Ok(());
        }
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
    let mut schedule = Schedule::new(rt::frequency_hz());
    let mut queue = Queue::new();
    let mut received = endpoint.recv(reply);
    while let Ok(message) = received {
        let answer = if message.badge & signal::IS_SIGNAL != 0 {
            // Unless it was told something else since.
            if WAKE_TICKS.load(Ordering::SeqCst) == NEVER {
                schedule.signalled();
            }
            None
        } else {
            Some(handle(&mut queue, &message))
        };
        let now_ticks = rt::ticks();
        while let Some(alarm) = queue.take_due(now_ticks) {
            Notification::new(alarm.signal_slot()).signal();
        }
        if let Some(earliest) = queue.earliest()
            && alarm.arm(&mut schedule, earliest, now_ticks).is_err()
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
    let Ok(wire::Request::SetAlarm { alarm, at_ticks }) = message.decode() else {
        return wire::Reply::Refused;
    };
    let client = Client::from_badge(message.badge);
    match client.and_then(|client| AlarmIndex::of(client, alarm)) {
        Some(index) => {
            queue.set(index, at_ticks);
            wire::Reply::Done
        }
        None => wire::Reply::Refused,
    }
}
