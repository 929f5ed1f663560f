//! The event loop: what the guest does, and what happens to it.

mod calls;
mod silence;

use crate::clock::Clock;
use crate::host::Outside;
use crate::start::{self, StartError};
use cap::{After, Endpoint, Message, Notification, Received, Reply, Source, Tcb, VcpuReg};
use protocol::badge::signal;
use protocol::console::{CHUNK_BYTES, Port};
use protocol::slots;
use protocol::startup::Vmm;
use protocol::supervisor::{self, EndReason};
use protocol::system::Interface;
use protocol::timer::Alarm;
use protocol::units::{Line, Name};
use sel4_sys::{Fault, USER_CONTEXT_WORDS, cap_fault, tcb_flags, user_exception, vm_fault};
use spin::{Mutex, MutexGuard};
use vmm_core::emulate::{Answer, Emulator, Manner, Pc, Registers};
use vmm_core::exception::{self, Kind};
use vmm_core::machine::{Machine, Place};
use vmm_core::pieces::Storage;
use vmm_core::psci::NOT_SUPPORTED;
use vmm_core::syndrome::{
    DataAccess, Register, Stage2Fault, SystemAccess, Transfer, VcpuFault, extend, stage2_fault,
    vcpu_fault,
};
use vmm_core::sysreg::{self, Answer as RegisterAnswer};

/// The piece table's room: taken once, never given back.
static STORAGE: Mutex<Storage> = Mutex::new(Storage::new());

/// A guest that faults at the same instruction this often without getting anywhere is stopped.
const MOST_REPEATS: u32 = 8;
/// CNTV_CTL_EL0: ENABLE set, IMASK clear (Arm ARM, D24.10).
const TIMER_MASK: u64 = 3;
const TIMER_ON: u64 = 1;

/// What the guest is doing.
#[derive(Clone, Copy, Debug)]
enum State {
    /// It runs, rests until an interrupt, or is paused by the supervisor.
    Runs,
    /// Its fault is answered at the next opportunity.
    Answered(Answer),
    /// It waits for an interrupt, at the latest until its timer fires.
    Waits { answer: Answer, until_ticks: u64 },
    /// It touched memory that comes later.
    Starves { ipa: u64 },
    /// What was in its balloon when the driver was reset is not back yet.
    Held(Answer),
    /// It is over.
    Ended,
}

struct Guest {
    machine: Machine,
    outside: Outside,
    clock: Clock,
    thread: Tcb,
    emulator: Emulator<Thread>,
    /// The instruction that faulted last, and how often.
    last_pc: u64,
    repeats: u32,
    input: Input,
    /// Faults of the guest so far.
    exits: u64,
    /// Those of its own accord, and how many there were at the last look.
    signs: u64,
    signs_seen: u64,
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

/// The guest's thread.
#[derive(Clone, Copy, Debug)]
struct Thread(Tcb);

/// An access that found no memory.
#[derive(Clone, Copy, Debug)]
struct Access {
    pc: u64,
    ipa: u64,
    /// ESR_EL2.
    syndrome: u64,
    /// The register that is stored, where the kernel tells.
    stored: u64,
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
        clock.now_ms(),
    );
    let thread = Tcb::new(slots::vmm::GUEST_TCB);
    let mut guest = Guest {
        machine,
        outside: Outside::new(),
        clock,
        thread,
        emulator: Emulator::new(Thread(thread), manner(thread, vmm.interface)),
        last_pc: 0,
        repeats: 0,
        input: Input::None,
        exits: 0,
        signs: 0,
        signs_seen: 0,
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
            match self.emulator.manner() {
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
            self.machine.output(&mut self.outside);
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
        match state {
            State::Waits {
                answer,
                until_ticks,
            } => {
                let known = signal::MEMORY | signal::ALARM | signal::CONSOLE | signal::REPORT;
                // A signal that is none of these says that the guest was paused and runs again.
                let resumed = bits & !(known | signal::IS_SIGNAL) != 0;
                if resumed || self.machine.has_interrupt() || rt::ticks() >= until_ticks {
                    State::Answered(answer)
                } else {
                    state
                }
            }
            // The instruction runs again; if its memory is still not there it faults again.
            State::Starves { .. } => State::Answered(Answer::Empty),
            State::Held(answer) if !self.machine.is_held() => State::Answered(answer),
            State::Held(_) | State::Runs | State::Answered(_) | State::Ended => state,
        }
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
        const VM: u64 = Fault::VmFault as u64;
        const VCPU: u64 = Fault::VcpuFault as u64;
        const CALL: u64 = Fault::UnknownSyscall as u64;
        const TIMER: u64 = Fault::VppiEvent as u64;
        const MAINTENANCE: u64 = Fault::VgicMaintenance as u64;
        const CAP: u64 = Fault::CapFault as u64;
        const USER: u64 = Fault::UserException as u64;
        self.exits = self.exits.wrapping_add(1);
        let result = match message.label() {
            VM => self.memory_fault(Access {
                pc: message.word(vm_fault::IP),
                ipa: message.word(vm_fault::ADDR),
                syndrome: message.word(vm_fault::FSR),
                stored: message.word(vm_fault::LENGTH),
            }),
            VCPU => self.trap(message.word(0)),
            CALL => Ok(self.call(message)),
            TIMER => {
                self.machine.gic.timer_fired();
                self.machine.gic.flush(&mut self.outside);
                Ok(State::Answered(Answer::Empty))
            }
            MAINTENANCE => {
                // The word is -1 when the kernel does not know which.
                let list = u8::try_from(message.word(0)).ok();
                self.machine.gic.maintenance(list, &mut self.outside);
                Ok(State::Answered(Answer::Empty))
            }
            CAP => self.call_that_was_none(message.word(cap_fault::IP)),
            USER => self.inject(Kind::Undefined, message.word(user_exception::FAULT_IP)),
            label => Ok(self.end(
                EndReason::Misbehaved,
                rt::line(format_args!("an unknown fault: {label}")),
            )),
        };
        if self.input == Input::Waits {
            self.read_input();
        }
        if self.boot == Boot::Silent && self.outside.console_opened {
            self.boot = Boot::Heard;
            rt::say(format_args!(
                "its console opened after {} exits",
                self.exits
            ));
        }
        match result {
            Ok(state) => state,
            Err(error) => self.end(
                EndReason::VmmFault,
                rt::line(format_args!("the kernel refused: {error:?}")),
            ),
        }
    }

    fn memory_fault(&mut self, access: Access) -> Result<State, cap::Error> {
        let Access { pc, ipa, .. } = access;
        let mut place = self.machine.place(ipa, &mut self.outside);
        if place == Place::Already {
            // Perhaps it was taken by force and the signal is still to come.
            let now_ms = self.clock.now_ms();
            self.machine.memory_changed(&mut self.outside, now_ms);
            place = self.machine.place(ipa, &mut self.outside);
        }
        match place {
            Place::Present => {
                let now_ms = self.clock.now_ms();
                self.machine.touched(&mut self.outside, now_ms);
                Ok(State::Answered(Answer::Empty))
            }
            Place::Mapped => Ok(State::Answered(Answer::Empty)),
            Place::Already => {
                if self.is_stuck(pc) {
                    return Ok(self.end(
                        EndReason::Misbehaved,
                        rt::line(format_args!("stuck at {pc:#x}, address {ipa:#x}")),
                    ));
                }
                Ok(State::Answered(Answer::Empty))
            }
            Place::Later => {
                let now_ms = self.clock.now_ms();
                self.machine.report_wanted(&mut self.outside, now_ms);
                Ok(State::Starves { ipa })
            }
            Place::Device => self.device(access),
            Place::Revoked | Place::Nothing => {
                if self.is_stuck(pc) {
                    let why = if place == Place::Revoked {
                        EndReason::Revoked
                    } else {
                        EndReason::Misbehaved
                    };
                    return Ok(self.end(
                        why,
                        rt::line(format_args!("no memory at {ipa:#x}, used at {pc:#x}")),
                    ));
                }
                let kind = match stage2_fault(access.syndrome) {
                    Stage2Fault::Fetch => Kind::ExternalFetch,
                    Stage2Fault::Data(_) | Stage2Fault::Undecoded => Kind::ExternalData,
                };
                self.inject(kind, pc)
            }
        }
    }

    /// Whether the guest faults at the same instruction again and again.
    fn is_stuck(&mut self, pc: u64) -> bool {
        if self.last_pc == pc {
            self.repeats += 1;
        } else {
            self.last_pc = pc;
            self.repeats = 0;
        }
        self.repeats >= MOST_REPEATS
    }

    fn device(&mut self, access: Access) -> Result<State, cap::Error> {
        let Access { pc, ipa, .. } = access;
        let Stage2Fault::Data(DataAccess { width, transfer }) = stage2_fault(access.syndrome)
        else {
            // A pair, a write-back form or a fetch: no device can answer it.
            return self.inject(Kind::ExternalData, pc);
        };
        let answer = match transfer {
            Transfer::Load {
                register,
                extend: how,
            } => {
                let value = extend(self.machine.read(ipa, width), width, how);
                self.emulator.set(register, value, Pc::At(pc))?
            }
            Transfer::Store { register } => {
                let value = self.emulator.stored(register, access.stored)?;
                let clock = &self.clock;
                self.machine
                    .write(ipa, width, value, &mut self.outside, || clock.now_ms());
                self.emulator.skip(Pc::At(pc))?
            }
        };
        if self.machine.is_held() {
            return Ok(State::Held(answer));
        }
        Ok(State::Answered(answer))
    }

    fn pc(&self) -> Result<u64, cap::Error> {
        Ok(self.thread.read_registers(Source::Keep, 1)?.pc)
    }

    /// A trapped instruction.
    fn trap(&mut self, syndrome: u64) -> Result<State, cap::Error> {
        let fault = vcpu_fault(syndrome);
        // A kernel that has panicked takes interrupts, and waits for events while it passes the time.
        if fault != VcpuFault::WaitForEvent {
            self.signs = self.signs.wrapping_add(1);
        }
        match fault {
            VcpuFault::WaitForInterrupt
                if self.emulator.manner() == Manner::ByAnswer && !self.machine.has_interrupt() =>
            {
                // It goes on when its timer is due, or when an interrupt is put into a list register.
                Ok(State::Answered(Answer::Rest))
            }
            VcpuFault::WaitForInterrupt => {
                let answer = self.emulator.skip(Pc::Unknown)?;
                self.wait(answer)
            }
            VcpuFault::WaitForEvent => Ok(State::Answered(self.emulator.skip(Pc::Unknown)?)),
            VcpuFault::System(access) => self.system(access),
            VcpuFault::Smc(_) => {
                // The conduit is HVC; an SMC is answered as a call that nobody serves.
                let x0 = Register::from_field(0);
                let answer = self.emulator.set(x0, NOT_SUPPORTED as u64, Pc::Unknown)?;
                Ok(State::Answered(answer))
            }
            VcpuFault::Hvc(_) => {
                let pc = self.pc()?;
                self.call_that_was_none(pc)
            }
            VcpuFault::Other { .. } => {
                let pc = self.pc()?;
                self.inject(Kind::Undefined, pc)
            }
        }
    }

    fn system(&mut self, access: SystemAccess) -> Result<State, cap::Error> {
        let answer = match sysreg::access(access.id, access.direction) {
            RegisterAnswer::Value(value) => {
                self.emulator.set(access.register, value, Pc::Unknown)?
            }
            RegisterAnswer::Ignored => self.emulator.skip(Pc::Unknown)?,
            RegisterAnswer::SendSgi => {
                let value = self.emulator.value_of(access.register)?;
                self.machine.gic.sgi_register(value);
                self.machine.gic.flush(&mut self.outside);
                self.emulator.skip(Pc::Unknown)?
            }
            RegisterAnswer::Undefined => {
                let pc = self.pc()?;
                return self.inject(Kind::Undefined, pc);
            }
        };
        Ok(State::Answered(answer))
    }

    /// The guest has nothing to do until an interrupt.
    fn wait(&self, answer: Answer) -> Result<State, cap::Error> {
        if self.machine.has_interrupt() {
            return Ok(State::Answered(answer));
        }
        let vcpu = self.outside.vcpu();
        let until_ticks = if vcpu.read_reg(VcpuReg::CntvCtl)? & TIMER_MASK == TIMER_ON {
            vcpu.read_reg(VcpuReg::CntvCval)?
        } else {
            u64::MAX
        };
        if rt::ticks() >= until_ticks {
            return Ok(State::Answered(answer));
        }
        Ok(State::Waits {
            answer,
            until_ticks,
        })
    }

    /// Gives the guest an exception at `pc`.
    fn inject(&mut self, kind: Kind, pc: u64) -> Result<State, cap::Error> {
        if self.is_stuck(pc) {
            return Ok(self.end(
                EndReason::Misbehaved,
                rt::line(format_args!("exceptions without end at {pc:#x}")),
            ));
        }
        let vcpu = self.outside.vcpu();
        let context = self.thread.read_registers(Source::Keep, 3)?;
        let entry = exception::enter(kind, pc, context.spsr, vcpu.read_reg(VcpuReg::Vbar)?);
        vcpu.write_reg(VcpuReg::ElrEl1, entry.elr_el1)?;
        vcpu.write_reg(VcpuReg::SpsrEl1, entry.spsr_el1)?;
        vcpu.write_reg(VcpuReg::Esr, entry.esr_el1)?;
        self.thread
            .write_words(After::Keep, &[entry.pc, context.sp, entry.spsr])?;
        Ok(State::Answered(Answer::Empty))
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

impl Registers for Thread {
    type Error = cap::Error;

    fn read(&self, count: usize) -> Result<[u64; USER_CONTEXT_WORDS], cap::Error> {
        Ok(self.0.read_registers(Source::Keep, count)?.to_words())
    }

    fn write(&self, words: &[u64]) -> Result<(), cap::Error> {
        self.0.write_words(After::Keep, words)
    }
}
