//! The supervisor: starts, stops and watches guests, at the operator's word and at their VMMs'.
//!
//! It calls the memory server, the balancer and the timer, which never call it; it never waits for a VMM or the console.

use crate::fault;
use crate::guests::{Living, Template, create, take_back};
use crate::kernel::{Doing, Failure, Private};
use crate::system::SupervisorPorts;
use cap::{CallError, Endpoint, Received, Reply as ReplyCap, call_value};
use heapless::Vec;
use protocol::badge::{Client, signal};
use protocol::balancer::{OnSilence, Settings};
use protocol::supervisor::{EndReason, GuestState, Reply, Request};
use protocol::system::{Autostart, Guest};
use protocol::units::{GuestId, Line, MAX_GUESTS, Pieces};
use protocol::{balancer, memory, timer};
use root_task::guest::{Action, Event, Guest as Life};
use root_task::size;

/// How often the balancer is asked for room while a guest waits.
const ASK_EVERY_US: u64 = 50_000;

/// A guest's place in the supervisor.
#[derive(Clone, Debug)]
pub struct Entry {
    life: Life,
    private: Private,
    /// log2 of the bytes of its private memory.
    private_bits: u32,
    /// Those of the description, then what the operator made of them while it ran.
    settings: Settings,
    living: Option<Living>,
    detail: Line,
}

impl Entry {
    /// A guest that was never started, with its private memory.
    #[must_use]
    pub const fn new(private: Private, private_bits: u32, settings: Settings) -> Self {
        Self {
            life: Life::new(),
            private,
            private_bits,
            settings,
            living: None,
            detail: Line::new(),
        }
    }
}

/// What the system costs beside guests' RAM.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// Bytes for the components that always run.
    pub components_bytes: u64,
    /// Bytes for each guest.
    pub per_guest_bytes: u64,
    /// The pool.
    pub pool: Pieces,
}

/// The supervisor.
pub struct Supervisor<'a> {
    guests: &'a [Guest],
    template: Template<'a>,
    entries: Vec<Entry, MAX_GUESTS>,
    ports: SupervisorPorts,
    costs: Costs,
}

/// A server that the supervisor needs did not answer as it should.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// It has faulted.
    Gone(&'static str),
    /// The call failed.
    Call(CallError),
    /// It refuses: the memory server's reason.
    Memory(memory::Refusal),
    /// It answered something else.
    Unexpected,
}

impl core::fmt::Display for Trouble {
    fn fmt(&self, to: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Gone(who) => write!(to, "{who}"),
            Self::Call(error) => write!(to, "{error:?}"),
            Self::Memory(refusal) => write!(to, "refuses: {refusal:?}"),
            Self::Unexpected => write!(to, "answers something else"),
        }
    }
}

impl<'a> Supervisor<'a> {
    /// A supervisor of guests none of which runs.
    #[must_use]
    pub const fn new(
        guests: &'a [Guest],
        template: Template<'a>,
        entries: Vec<Entry, MAX_GUESTS>,
        ports: SupervisorPorts,
        costs: Costs,
    ) -> Self {
        Self {
            guests,
            template,
            entries,
            ports,
            costs,
        }
    }

    /// Starts the guests that start at boot, then serves for ever. Returns only where there is no kernel.
    pub fn run(mut self) -> Result<(), Failure> {
        for (index, guest) in (0u16..).zip(self.guests) {
            if guest.autostart == Autostart::AtBoot {
                self.event(GuestId(index), Event::Start);
            }
        }
        let endpoint = Endpoint::new(self.ports.endpoint);
        let reply = ReplyCap::new(self.ports.reply);
        self.ask_for_room();
        let mut received = endpoint.recv(reply).doing("receiving")?;
        loop {
            let answer = self.handle(&received);
            received = match answer {
                Some(answer) => endpoint.reply_recv_value(&answer, None, reply),
                None => endpoint.recv(reply),
            }
            .doing("receiving")?;
        }
    }

    fn handle(&mut self, message: &Received) -> Option<Reply> {
        if message.badge & signal::IS_SIGNAL != 0 {
            self.ask_for_room();
            return None;
        }
        if let Some((client, thread)) = fault::who(message.badge) {
            self.faulted(client, thread, message);
            return None;
        }
        let request = message.decode::<Request>();
        let answer = match (Client::from_badge(message.badge), request) {
            (Some(Client::Console), Ok(request)) => self.operator(request),
            (Some(Client::Vmm(id)), Ok(request)) => self.vmm(id, request),
            (_, Ok(_)) => refused(format_args!("not allowed")),
            (_, Err(_)) => refused(format_args!("no request of the supervisor's")),
        };
        self.ask_for_room();
        Some(answer)
    }

    fn faulted(&mut self, client: Client, thread: u64, message: &Received) {
        let text = fault::describe(message);
        if let Client::Vmm(id) = client {
            self.set_detail(id, rt::line(format_args!("VMM thread {thread}: {text}")));
            self.event(id, Event::Ended(EndReason::VmmFault));
            self.ask_for_room();
        }
    }

    fn operator(&mut self, request: Request) -> Reply {
        let (id, event) = match request {
            Request::Start(id) => (id, Event::Start),
            Request::Stop(id) => (id, Event::Stop),
            Request::Pause(id) => (id, Event::Pause),
            Request::Resume(id) => (id, Event::Resume),
            Request::Guest(id) => return self.row(id),
            Request::Costs => {
                return Reply::Costs {
                    components_bytes: self.costs.components_bytes,
                    per_guest_bytes: self.costs.per_guest_bytes,
                    pool: self.costs.pool,
                };
            }
            Request::Running | Request::Mine | Request::Silent | Request::Ended { .. } => {
                return refused(format_args!("not allowed"));
            }
        };
        self.event(id, event)
    }

    fn vmm(&mut self, id: GuestId, request: Request) -> Reply {
        match request {
            Request::Running => self.event(id, Event::Running),
            Request::Mine => match self.entry(id) {
                Some(entry) => Reply::State(entry.life.state()),
                None => refused(format_args!("there is no guest {}", id.0)),
            },
            Request::Silent => {
                let on_silence = self.on_silence(id);
                self.set_detail(id, rt::line(format_args!("on_silence is {on_silence:?}")));
                self.event(id, Event::Silent(on_silence))
            }
            Request::Ended { why, detail } => {
                self.set_detail(id, detail);
                self.event(id, Event::Ended(why))
            }
            Request::Start(_)
            | Request::Stop(_)
            | Request::Pause(_)
            | Request::Resume(_)
            | Request::Guest(_)
            | Request::Costs => refused(format_args!("not allowed")),
        }
    }

    fn row(&mut self, id: GuestId) -> Reply {
        let used_us = self.used_us(id);
        match (self.guests.get(usize::from(id.0)), self.entry(id)) {
            (Some(guest), Some(entry)) => Reply::Guest {
                name: guest.name.clone(),
                state: entry.life.state(),
                starts: entry.life.starts(),
                last_end: entry.life.last_end(),
                used_us,
                detail: entry.detail.clone(),
            },
            _ => refused(format_args!("there is no guest {}", id.0)),
        }
    }

    /// The processor time of a guest's vCPU; the kernel tells what was used since it was last asked.
    fn used_us(&mut self, id: GuestId) -> u64 {
        let entry = self.entries.get_mut(usize::from(id.0));
        let Some(living) = entry.and_then(|entry| entry.living.as_mut()) else {
            return 0;
        };
        let more_us = living.vcpu_time.consumed_us().unwrap_or(0);
        living.used_us = living.used_us.saturating_add(more_us);
        living.used_us
    }

    fn entry(&self, id: GuestId) -> Option<&Entry> {
        self.entries.get(usize::from(id.0))
    }

    /// What a guest's settings say to its silence: those at the balancer, which the operator may have changed.
    fn on_silence(&self, id: GuestId) -> OnSilence {
        match self.call_balancer(&balancer::Request::Row(id)) {
            Ok(balancer::Reply::Row(row)) => row.settings.on_silence,
            _ => self
                .entry(id)
                .map_or(OnSilence::Keep, |entry| entry.settings.on_silence),
        }
    }

    fn set_detail(&mut self, id: GuestId, detail: Line) {
        if let Some(entry) = self.entries.get_mut(usize::from(id.0)) {
            entry.detail = detail;
        }
    }

    /// Takes an event and does what follows from it.
    fn event(&mut self, id: GuestId, event: Event) -> Reply {
        let mut next = Some(event);
        // An action brings at most one event, and no state comes back within one chain: the bound is never reached.
        for _ in 0..4 {
            let Some(event) = next else { break };
            let Some(entry) = self.entries.get_mut(usize::from(id.0)) else {
                return refused(format_args!("there is no guest {}", id.0));
            };
            let before = entry.life.state();
            match entry.life.on(event) {
                Ok(action) => {
                    next = self.act(id, action);
                    self.announce(id, before, event);
                }
                Err(unfit) => return refused(format_args!("the guest is {:?}", unfit.state)),
            }
        }
        Reply::Done
    }

    fn announce(&self, id: GuestId, before: GuestState, event: Event) {
        let (Some(guest), Some(entry)) = (self.guests.get(usize::from(id.0)), self.entry(id))
        else {
            return;
        };
        match event {
            Event::Ended(why) => rt::say(format_args!(
                "guest \"{}\" ended: {why:?} {}",
                guest.name, entry.detail
            )),
            Event::Silent(OnSilence::Restart | OnSilence::Stop) => rt::say(format_args!(
                "guest \"{}\" ended: Silent {}",
                guest.name, entry.detail
            )),
            Event::NoRoom | Event::BuildFailed => rt::say(format_args!(
                "guest \"{}\" is not started: {}",
                guest.name, entry.detail
            )),
            _ if before != entry.life.state() => rt::say(format_args!(
                "guest \"{}\": {:?}",
                guest.name,
                entry.life.state()
            )),
            _ => {}
        }
    }

    fn act(&mut self, id: GuestId, action: Action) -> Option<Event> {
        match action {
            // Asked by the loop, for all that wait.
            Action::Nothing | Action::AskRoom => None,
            Action::Build => Some(self.bring_up(id)),
            Action::TearDown => {
                self.tear_down(id);
                Some(Event::TornDown)
            }
            Action::Suspend | Action::Resume => {
                self.pause(id, action);
                None
            }
        }
    }

    /// Asks the balancer for room for the guests that wait, in order, and comes back in a while if some still wait.
    fn ask_for_room(&mut self) {
        let mut waiting = 0u32;
        for id in (0..self.entries.len() as u16).map(GuestId) {
            if self.entry(id).map(|entry| entry.life.state()) != Some(GuestState::Waiting) {
                continue;
            }
            let Some(bounds) = self.entry(id).map(|entry| entry.settings.bounds) else {
                continue;
            };
            let request = balancer::Request::MakeRoom { guest: id, bounds };
            match self.call_balancer(&request) {
                Ok(balancer::Reply::Room) => {
                    self.event(id, Event::Room);
                }
                Ok(balancer::Reply::Wait { .. }) => waiting += 1,
                Ok(balancer::Reply::NoRoom { needed, available }) => {
                    let (needed, available) = (needed.mib(), available.mib());
                    let detail = rt::line(format_args!(
                        "needs {needed} MiB, {available} MiB can be freed"
                    ));
                    self.set_detail(id, detail);
                    self.event(id, Event::NoRoom);
                }
                other => {
                    self.set_detail(id, rt::line(format_args!("the balancer: {other:?}")));
                    self.event(id, Event::NoRoom);
                }
            }
        }
        if waiting > 0 && !fault::is_gone(Client::Timer) {
            let hz = rt::frequency_hz();
            let at_ticks = rt::ticks() + rt::time::ticks_from_us(ASK_EVERY_US, hz);
            let endpoint = Endpoint::new(self.ports.timer);
            let alarm = timer::Alarm::Work;
            let request = timer::Request::SetAlarm { alarm, at_ticks };
            let answer: Result<timer::Reply, _> = call_value(endpoint, &request, None);
            if answer != Ok(timer::Reply::Done) {
                rt::say(format_args!("the timer refuses an alarm: {answer:?}"));
            }
        }
    }

    fn call_balancer(&self, request: &balancer::Request) -> Result<balancer::Reply, Trouble> {
        if fault::is_gone(Client::Balancer) {
            return Err(Trouble::Gone("the balancer has faulted"));
        }
        call_value(Endpoint::new(self.ports.balancer), request, None).map_err(Trouble::Call)
    }

    fn call_memory(&self, request: &memory::Request) -> Result<(), Trouble> {
        if fault::is_gone(Client::MemoryServer) {
            return Err(Trouble::Gone("the memory server has faulted"));
        }
        match call_value(Endpoint::new(self.ports.memory), request, None).map_err(Trouble::Call)? {
            memory::Reply::Done => Ok(()),
            memory::Reply::Refused(refusal) => Err(Trouble::Memory(refusal)),
            _ => Err(Trouble::Unexpected),
        }
    }

    /// Admits a guest and builds its VMM: `Built`, or `BuildFailed` when everything that was begun has been undone.
    fn bring_up(&mut self, id: GuestId) -> Event {
        let (Some(guest), Some(entry)) = (self.guests.get(usize::from(id.0)), self.entry(id))
        else {
            return Event::BuildFailed;
        };
        let settings = entry.settings;
        let admit = memory::Request::Admit {
            guest: id,
            bounds: settings.bounds,
        };
        if let Err(trouble) = self.call_memory(&admit) {
            self.set_detail(id, rt::line(format_args!("the memory server: {trouble}")));
            return Event::BuildFailed;
        }
        let started = balancer::Request::Started {
            guest: id,
            settings,
        };
        let detail = match self.call_balancer(&started) {
            Ok(balancer::Reply::Done) => match self.build_vmm(id, guest) {
                Ok(()) => return Event::Built,
                Err(failure) => rt::line(format_args!("{failure}")),
            },
            Ok(other) => rt::line(format_args!("the balancer: {other:?}")),
            Err(trouble) => rt::line(format_args!("the balancer: {trouble}")),
        };
        self.set_detail(id, detail);
        self.undo(id);
        Event::BuildFailed
    }

    fn build_vmm(&mut self, id: GuestId, guest: &Guest) -> Result<(), Failure> {
        let Some(entry) = self.entries.get_mut(usize::from(id.0)) else {
            return Err(Failure::NoSlot);
        };
        entry.detail.clear();
        let settings = entry.settings;
        let sizes = self.template.sizes;
        let size = size::guest_within(&settings.bounds, self.costs.pool, sizes, entry.private_bits)
            .ok_or(Failure::Unusable(
                "its private memory is too small for its new limits",
            ))?;
        let rng_seed = self.template.seeds.draw();
        let living = create(
            &mut entry.private,
            &self.template,
            id,
            guest,
            &settings,
            &size,
            rng_seed,
        )?;
        let living = entry.living.insert(living);
        living.vmm.resume()
    }

    /// Stops a guest's threads, then takes back what it had.
    fn tear_down(&mut self, id: GuestId) {
        let living = self.entry(id).and_then(|entry| entry.living.as_ref());
        if let Some(Err(failure)) = living.map(Living::suspend) {
            rt::say(format_args!("stopping guest {}: {failure}", id.0));
        }
        self.undo(id);
    }

    /// Gives a guest's memory back to the pool, tells the balancer, and takes its private memory back. Each step is done
    /// even if one before it failed; none of them needs another.
    fn undo(&mut self, id: GuestId) {
        if let Err(trouble) = self.call_memory(&memory::Request::Retire(id)) {
            rt::say(format_args!("retiring guest {}: {trouble}", id.0));
        }
        // What the operator changed while it ran holds at its next start.
        if let Ok(balancer::Reply::Row(row)) = self.call_balancer(&balancer::Request::Row(id))
            && let Some(entry) = self.entries.get_mut(usize::from(id.0))
        {
            entry.settings = row.settings;
        }
        match self.call_balancer(&balancer::Request::Stopped(id)) {
            Ok(balancer::Reply::Done) => {}
            other => rt::say(format_args!("the balancer on guest {}: {other:?}", id.0)),
        }
        if let Some(entry) = self.entries.get_mut(usize::from(id.0)) {
            entry.living = None;
            if let Err(failure) = take_back(&mut entry.private) {
                rt::say(format_args!("taking guest {} down: {failure}", id.0));
            }
        }
    }

    fn pause(&mut self, id: GuestId, action: Action) {
        let Some(living) = self.entry(id).and_then(|entry| entry.living.as_ref()) else {
            return;
        };
        let (done, state) = if action == Action::Suspend {
            (living.vcpu_thread.suspend(), balancer::PauseState::Paused)
        } else {
            let resumed = living.vcpu_thread.resume();
            // What the VMM waited for on the vCPU's behalf ended with the pause.
            living.nudge.signal();
            (resumed, balancer::PauseState::Running)
        };
        if let Err(error) = done {
            rt::say(format_args!("pausing guest {}: {error:?}", id.0));
        }
        let paused = balancer::Request::Paused { guest: id, state };
        match self.call_balancer(&paused) {
            Ok(balancer::Reply::Done) => {}
            other => rt::say(format_args!("the balancer on guest {}: {other:?}", id.0)),
        }
    }
}

fn refused(why: core::fmt::Arguments<'_>) -> Reply {
    Reply::Refused(rt::line(why))
}
