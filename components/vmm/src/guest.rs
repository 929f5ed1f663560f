//! The event loop: what the guest does, and what happens to it.

mod silence;

use crate::clock::Clock;
use crate::cpu::GuestCpu;
use crate::host::Outside;
use crate::start::{self, StartError};
use cap::{Endpoint, Message, Notification, Received, Reply, Tcb};
use protocol::badge::signal;
use protocol::console::{CHUNK_BYTES, Port};
use protocol::slots;
use protocol::startup::Vmm;
use protocol::supervisor::{self, EndReason};
use protocol::system::Interface;
use protocol::timer::Alarm;
use protocol::units::{Line, Name};
use sel4_sys::tcb_flags;
use spin::{Mutex, MutexGuard};
use vmm_core::emulate::Manner;
use vmm_core::exits::{Exit, Exits, State};
use vmm_core::machine::Machine;
use vmm_core::pieces::Storage;

/// The piece table's room: taken once, never given back.
static STORAGE: Mutex<Storage> = Mutex::new(Storage::new());

struct Guest {
    machine: Machine,
    outside: Outside,
    clock: Clock,
    thread: Tcb,
    exits: Exits<GuestCpu>,
    input: Input,
    name: Name,
    /// Until the guest has written on its console, which a Linux guest's /init does first.
    boot: Boot,
}

/// Whether a guest has said anything yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boot {
    Silent,
    Heard,
}

/// Whether the console server has input that was not read for lack of room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    None,
    Waits,
}

/// Starts the guest and serves it until it ends.
pub fn run(name: &Name, vmm: &Vmm) {
    let clock = Clock::new();
    let storage = MutexGuard::leak(STORAGE.lock());
    let machine = Machine::new(
        storage,
        vmm.gic,
        vmm.settings.bounds.startup,
        vmm.hotplug_bytes,
        vmm.cushion,
        clock.now_ms(),
    );
    let thread = Tcb::new(slots::vmm::GUEST_TCB);
    let outside = Outside::new();
    let cpu = GuestCpu::new(thread, outside.vcpu(), clock.ticks_of_ms(1));
    let mut guest = Guest {
        machine,
        outside,
        clock,
        thread,
        exits: Exits::new(cpu, manner(thread, vmm.interface)),
        input: Input::None,
        name: name.clone(),
        boot: Boot::Silent,
    };
    match guest.start(vmm) {
        Ok(()) => guest.serve(),
        Err(error) => {
            let why = match error {
                StartError::Load(_) => EndReason::Misbehaved,
                _ => EndReason::VmmFault,
            };
            guest.end(why, rt::line(format_args!("{error}")));
        }
    }
    // The supervisor takes this component apart; until then there is nothing to do.
    let signals = Notification::new(slots::NOTIFICATION);
    while signals.wait().is_ok() {}
}

impl Guest {
    fn start(&mut self, vmm: &Vmm) -> Result<(), StartError> {
        rt::say(format_args!(
            "guest {}: {}",
            vmm.guest.0,
            match self.exits.manner() {
                Manner::ByAnswer => "its instructions are finished by answers",
                Manner::ByRegisters => "its instructions are finished in its registers",
            }
        ));
        start::take_memory(&mut self.machine, &mut self.outside)?;
        start::load(vmm, &mut self.machine, &mut self.outside)?;
        let supervisor = Endpoint::new(slots::SUPERVISOR);
        let _: Result<supervisor::Reply, _> =
            cap::call_value(supervisor, &supervisor::Request::Running, None);
        // The guest's counter is the machine's, so a boot can be measured from here to what the guest reads later.
        rt::say(format_args!(
            "its first instruction at {} ticks",
            rt::ticks()
        ));
        self.thread.resume()?;
        Ok(())
    }

    fn serve(&mut self) {
        let endpoint = Endpoint::new(slots::ENDPOINT);
        let reply = Reply::new(slots::REPLY);
        let signals = Notification::new(slots::NOTIFICATION);
        let mut state = State::Runs;
        loop {
            let work_ticks = self.clock.ticks_of_ms(self.machine.next_ms());
            if !matches!(state, State::Ended) {
                self.clock.wake_by(Alarm::Work, work_ticks);
            }
            let received = match &state {
                State::Ended => return,
                State::Waits { .. } | State::Starves { .. } | State::Held(_) => {
                    if let State::Waits { until_ticks, .. } = &state {
                        self.clock.wake_by(Alarm::Guest, *until_ticks);
                    }
                    match signals.wait() {
                        Ok(bits) => state = self.signalled(bits, state),
                        Err(_) => return,
                    }
                    continue;
                }
                State::Runs => endpoint.recv(reply),
                State::Answered(answer) => {
                    let message = Message {
                        label: answer.label(),
                        words: answer.words(),
                        caps: &[],
                    };
                    endpoint.reply_recv(&message, reply)
                }
            };
            state = match received {
                Ok(message) if message.badge & signal::IS_SIGNAL != 0 => {
                    self.signalled(message.badge, State::Runs)
                }
                Ok(message) => self.fault(&message),
                Err(_) => return,
            };
        }
    }

    /// Signals arrived while the guest was in `state`; its next one.
    fn signalled(&mut self, bits: u64, state: State) -> State {
        if bits & signal::STOP != 0 {
            return self.end(EndReason::Stopped, Line::new());
        }
        if bits & signal::ALARM != 0 {
            self.clock.fired();
        }
        let now_ms = self.clock.now_ms();
        if bits & signal::MEMORY != 0 {
            self.machine.memory_changed(&mut self.outside, now_ms);
        }
        if bits & signal::CONSOLE != 0 {
            self.machine.output(&mut self.outside, now_ms);
            self.input = Input::Waits;
        }
        if bits & signal::TICK != 0 {
            // It was paused and runs again: it could not answer before.
            self.machine.excuse(now_ms);
            self.machine.report_wanted(&mut self.outside, now_ms);
        }
        if bits & signal::REPORT != 0 {
            self.machine.report_wanted(&mut self.outside, now_ms);
        }
        if now_ms >= self.machine.next_ms() {
            self.machine.time(&mut self.outside, now_ms);
        }
        self.read_input();
        self.listen(now_ms, &state);
        let known = signal::MEMORY | signal::ALARM | signal::CONSOLE | signal::REPORT;
        // A signal that is none of these says that the guest was paused and runs again.
        let resumed = bits & !(known | signal::IS_SIGNAL) != 0;
        state.after_signals(resumed, &self.machine, rt::ticks())
    }

    fn read_input(&mut self) {
        while self.input == Input::Waits {
            let has_room = [Port::Console, Port::Agent]
                .into_iter()
                .all(|port| self.machine.input_room(port) >= CHUNK_BYTES);
            if !has_room {
                return;
            }
            match self.outside.console_read() {
                Some((port, bytes)) => self.machine.input(port, &bytes, &mut self.outside),
                None => self.input = Input::None,
            }
        }
    }

    fn fault(&mut self, message: &Received) -> State {
        let exit = Exit::decode(message.label(), |index| message.word(index));
        let next = self
            .exits
            .handle(exit, &mut self.machine, &mut self.outside);
        if self.input == Input::Waits {
            self.read_input();
        }
        if self.boot == Boot::Silent && self.outside.console_opened {
            self.boot = Boot::Heard;
            rt::say(format_args!(
                "its console opened after {} exits",
                self.exits.count()
            ));
        }
        match next {
            Ok(state) => state,
            Err(ending) => self.end(ending.reason(), rt::line(format_args!("{ending}"))),
        }
    }

    /// Tells the supervisor that the guest is over.
    fn end(&mut self, why: EndReason, detail: Line) -> State {
        let supervisor = Endpoint::new(slots::SUPERVISOR);
        let _: Result<supervisor::Reply, _> = cap::call_value(
            supervisor,
            &supervisor::Request::Ended { why, detail },
            None,
        );
        State::Ended
    }
}

/// Finds out what the kernel offers.
fn manner(thread: Tcb, interface: Interface) -> Manner {
    let offered = |set: u64| set & tcb_flags::EMULATED != 0;
    match interface {
        Interface::Own if thread.set_flags(0, tcb_flags::EMULATED).is_ok_and(offered) => {
            Manner::ByAnswer
        }
        Interface::Own | Interface::Sel4 => Manner::ByRegisters,
    }
}
