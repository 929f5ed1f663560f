//! What follows from a guest's exit: the fault that it took is routed to memory, a device, a register, PSCI or an
//! exception, and the guest goes on, waits or ends.
//!
//! [`Exit`] is the kernel's fault message, decoded; [`Exits::handle`] answers it; [`State`] is what the guest does
//! then; [`Ending`] says why it does nothing any more.

mod calls;

use crate::emulate::{Answer, Emulator, Manner, Pc, Registers};
use crate::exception::{self, Kind};
use crate::machine::{Host, Machine, Place};
use crate::psci::NOT_SUPPORTED;
use crate::stuck::{Cause, Stuck};
use crate::syndrome::{
    DataAccess, Register, Stage2Fault, SystemAccess, Transfer, VcpuFault, extend, stage2_fault,
    vcpu_fault,
};
use crate::sysreg::{self, Answer as RegisterAnswer};
use core::fmt;
use protocol::supervisor::EndReason;
use sel4_sys::{
    Fault, UserContext, VcpuReg, cap_fault, unknown_syscall, user_exception,
    vcpu_fault as vcpu_words, vgic_maintenance, vm_fault,
};

/// CNTV_CTL_EL0: ENABLE and IMASK; the timer fires with ENABLE set and IMASK clear (Arm ARM, D24.10).
const TIMER_MASK: u64 = 3;
const TIMER_ON: u64 = 1;

/// The guest's CPU as the VMM reaches it, and the clock that its timer counts on.
pub trait Cpu: Registers {
    /// A register of the vCPU.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn read_vcpu(&self, register: VcpuReg) -> Result<u64, Self::Error>;

    /// Sets a register of the vCPU.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn write_vcpu(&self, register: VcpuReg, value: u64) -> Result<(), Self::Error>;

    /// The counter, in ticks since power-on.
    fn now_ticks(&self) -> u64;

    /// Milliseconds since power-on.
    fn now_ms(&self) -> u64;
}

/// An access that found no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The instruction.
    pub pc: u64,
    /// The address that did not translate.
    pub ipa: u64,
    /// ESR_EL2.
    pub syndrome: u64,
    /// The register that is stored, where the kernel tells.
    pub stored: u64,
}

impl Access {
    const fn cause(&self) -> Cause {
        Cause {
            pc: self.pc,
            ipa: Some(self.ipa),
        }
    }
}

/// Why the guest stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A stage-2 fault.
    Memory(Access),
    /// A trapped instruction; ESR_EL2.
    Trap(u64),
    /// An HVC: x0 to x7, and the address of the next instruction.
    Call {
        /// x0 to x7.
        words: [u64; 8],
        /// Where the guest goes on.
        next_pc: u64,
    },
    /// An HVC that the kernel took for a system call of its own, at this address.
    CallThatWasNone(u64),
    /// The virtual timer fired.
    Timer,
    /// A list register is free; which, if the kernel knows.
    Maintenance(Option<u8>),
    /// An exception of no other kind, at this address.
    Exception(u64),
    /// A fault message of a label that is not known.
    Unknown(u64),
}

impl Exit {
    /// Decodes a fault message: its label, and `word` for its words by index.
    pub fn decode(label: u64, word: impl Fn(usize) -> u64) -> Self {
        const VM: u64 = Fault::VmFault as u64;
        const VCPU: u64 = Fault::VcpuFault as u64;
        const CALL: u64 = Fault::UnknownSyscall as u64;
        const TIMER: u64 = Fault::VppiEvent as u64;
        const MAINTENANCE: u64 = Fault::VgicMaintenance as u64;
        const CAP: u64 = Fault::CapFault as u64;
        const USER: u64 = Fault::UserException as u64;
        match label {
            VM => Self::Memory(Access {
                pc: word(vm_fault::IP),
                ipa: word(vm_fault::ADDR),
                syndrome: word(vm_fault::FSR),
                stored: word(vm_fault::LENGTH),
            }),
            VCPU => Self::Trap(word(vcpu_words::HSR)),
            CALL => Self::Call {
                words: core::array::from_fn(|index| word(unknown_syscall::X0 + index)),
                // The word is called "LR" and holds ELR.
                next_pc: word(unknown_syscall::LR),
            },
            TIMER => Self::Timer,
            // The word is -1 when the kernel does not know which.
            MAINTENANCE => Self::Maintenance(u8::try_from(word(vgic_maintenance::IDX)).ok()),
            CAP => Self::CallThatWasNone(word(cap_fault::IP)),
            USER => Self::Exception(word(user_exception::FAULT_IP)),
            label => Self::Unknown(label),
        }
    }
}

/// What the guest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs, rests until an interrupt, or is paused by the supervisor.
    Runs,
    /// Its fault is answered at the next opportunity.
    Answered(Answer),
    /// It waits for an interrupt, at the latest until its timer fires.
    Waits {
        /// The answer to its fault then.
        answer: Answer,
        /// The counter when its timer fires; `u64::MAX` when that is off.
        until_ticks: u64,
    },
    /// It touched memory that comes later.
    Starves {
        /// The address.
        ipa: u64,
    },
    /// What was in its balloon when the driver was reset is not back yet.
    Held(Answer),
    /// It is over.
    Ended,
}

impl State {
    /// The state after the VMM has served signals. `resumed`: the guest was paused and runs again.
    #[must_use]
    pub fn after_signals(self, resumed: bool, machine: &Machine, now_ticks: u64) -> Self {
        match self {
            Self::Waits {
                answer,
                until_ticks,
            } if resumed || machine.has_interrupt() || now_ticks >= until_ticks => {
                Self::Answered(answer)
            }
            // The instruction runs again; if its memory is still not there it faults again.
            Self::Starves { .. } => Self::Answered(Answer::Empty),
            Self::Held(answer) if !machine.is_held() => Self::Answered(answer),
            state => state,
        }
    }
}

/// Why the guest is over. `E`: why the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending<E> {
    /// PSCI SYSTEM_OFF.
    PoweredOff,
    /// PSCI SYSTEM_RESET.
    Reset,
    /// It repeats an access to memory that it has.
    Stuck(Access),
    /// It repeats an access to an address where nothing is.
    NoMemory(Access),
    /// It repeats an access to memory that was taken by force.
    Revoked(Access),
    /// It takes exceptions at this instruction and gets no further.
    Exceptions(u64),
    /// It faulted in a way that is not known: the message's label.
    UnknownFault(u64),
    /// The kernel refused what the VMM asked of it.
    Kernel(E),
}

impl<E> From<E> for Ending<E> {
    fn from(error: E) -> Self {
        Self::Kernel(error)
    }
}

impl<E> Ending<E> {
    /// The reason that the supervisor is told.
    #[must_use]
    pub const fn reason(&self) -> EndReason {
        match self {
            Self::PoweredOff => EndReason::PoweredOff,
            Self::Reset => EndReason::Reset,
            Self::Revoked(_) => EndReason::Revoked,
            Self::Stuck(_) | Self::NoMemory(_) | Self::Exceptions(_) | Self::UnknownFault(_) => {
                EndReason::Misbehaved
            }
            Self::Kernel(_) => EndReason::VmmFault,
        }
    }
}

impl<E: fmt::Debug> fmt::Display for Ending<E> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoweredOff | Self::Reset => Ok(()),
            Self::Stuck(Access { pc, ipa, .. }) => {
                write!(to, "stuck at {pc:#x}, address {ipa:#x}")
            }
            Self::NoMemory(Access { pc, ipa, .. }) | Self::Revoked(Access { pc, ipa, .. }) => {
                write!(to, "no memory at {ipa:#x}, used at {pc:#x}")
            }
            Self::Exceptions(pc) => write!(to, "exceptions without end at {pc:#x}"),
            Self::UnknownFault(label) => write!(to, "an unknown fault: {label}"),
            Self::Kernel(error) => write!(to, "the kernel refused: {error:?}"),
        }
    }
}

/// What an exit leads to.
pub type Next<E> = Result<State, Ending<E>>;

/// Handles the exits of one guest.
#[derive(Debug)]
pub struct Exits<C> {
    emulator: Emulator<C>,
    stuck: Stuck,
    /// Exits so far.
    count: u64,
    /// Exits of the guest's own accord, and how many there were at the last look.
    signs: u64,
    signs_seen: u64,
}

impl<C: Cpu> Exits<C> {
    /// For a guest's CPU.
    pub const fn new(cpu: C, manner: Manner) -> Self {
        Self {
            emulator: Emulator::new(cpu, manner),
            stuck: Stuck::new(),
            count: 0,
            signs: 0,
            signs_seen: 0,
        }
    }

    /// What the kernel offers.
    pub const fn manner(&self) -> Manner {
        self.emulator.manner()
    }

    /// Exits so far.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether the guest did anything of its own accord since the last call.
    pub const fn take_signs(&mut self) -> bool {
        let is_new = self.signs != self.signs_seen;
        self.signs_seen = self.signs;
        is_new
    }

    /// The guest's CPU.
    pub const fn cpu(&self) -> &C {
        self.emulator.registers()
    }

    /// Answers an exit.
    ///
    /// # Errors
    /// Why the guest is over.
    pub fn handle(
        &mut self,
        exit: Exit,
        machine: &mut Machine,
        host: &mut impl Host,
    ) -> Next<C::Error> {
        self.count = self.count.wrapping_add(1);
        self.stuck.begin();
        match exit {
            Exit::Memory(access) => self.memory(access, machine, host),
            Exit::Trap(syndrome) => self.trap(syndrome, machine, host),
            Exit::Call { words, next_pc } => self.call(words, next_pc, machine),
            Exit::CallThatWasNone(pc) => self.call_that_was_none(pc),
            Exit::Timer => {
                machine.gic.timer_fired();
                machine.gic.flush(host);
                Ok(State::Answered(Answer::Empty))
            }
            Exit::Maintenance(list) => {
                machine.gic.maintenance(list, host);
                Ok(State::Answered(Answer::Empty))
            }
            Exit::Exception(pc) => self.undefined(pc),
            Exit::Unknown(label) => Err(Ending::UnknownFault(label)),
        }
    }

    fn memory(
        &mut self,
        access: Access,
        machine: &mut Machine,
        host: &mut impl Host,
    ) -> Next<C::Error> {
        let mut place = machine.place(access.ipa, host);
        if place == Place::Already {
            // Perhaps it was taken by force and the signal is still to come.
            machine.memory_changed(host, self.cpu().now_ms());
            place = machine.place(access.ipa, host);
        }
        match place {
            Place::Present => {
                machine.touched(host, self.cpu().now_ms());
                Ok(State::Answered(Answer::Empty))
            }
            Place::Mapped => Ok(State::Answered(Answer::Empty)),
            Place::Already if self.stuck.repeats(access.cause()) => Err(Ending::Stuck(access)),
            Place::Already => Ok(State::Answered(Answer::Empty)),
            Place::Later => {
                machine.report_wanted(host, self.cpu().now_ms());
                Ok(State::Starves { ipa: access.ipa })
            }
            Place::Device => self.device(access, machine, host),
            Place::Revoked => self.abort(access, Ending::Revoked(access)),
            Place::Nothing => self.abort(access, Ending::NoMemory(access)),
        }
    }

    /// An external abort for an access that nothing answers.
    fn abort(&mut self, access: Access, ending: Ending<C::Error>) -> Next<C::Error> {
        let kind = match stage2_fault(access.syndrome) {
            Stage2Fault::Fetch => Kind::ExternalFetch,
            Stage2Fault::Data(_) | Stage2Fault::Undecoded => Kind::ExternalData,
        };
        self.inject(kind, access.cause(), ending)
    }

    fn device(
        &mut self,
        access: Access,
        machine: &mut Machine,
        host: &mut impl Host,
    ) -> Next<C::Error> {
        let Access { pc, ipa, .. } = access;
        let Stage2Fault::Data(DataAccess { width, transfer }) = stage2_fault(access.syndrome)
        else {
            // A pair, a write-back form or a fetch: no device can answer it.
            return self.inject(Kind::ExternalData, access.cause(), Ending::Exceptions(pc));
        };
        let answer = match transfer {
            Transfer::Load {
                register,
                extend: how,
            } => {
                let value = extend(machine.read(ipa, width), width, how);
                self.emulator.set(register, value, Pc::At(pc))?
            }
            Transfer::Store { register } => {
                let value = self.emulator.stored(register, access.stored)?;
                machine.write(ipa, width, value, host, || self.cpu().now_ms());
                self.emulator.skip(Pc::At(pc))?
            }
        };
        if machine.is_held() {
            return Ok(State::Held(answer));
        }
        Ok(State::Answered(answer))
    }

    fn pc(&self) -> Result<u64, C::Error> {
        let [pc, ..] = self.cpu().read(1)?;
        Ok(pc)
    }

    /// A trapped instruction.
    fn trap(
        &mut self,
        syndrome: u64,
        machine: &mut Machine,
        host: &mut impl Host,
    ) -> Next<C::Error> {
        let fault = vcpu_fault(syndrome);
        // A kernel that has panicked takes interrupts, and waits for events while it passes the time.
        if fault != VcpuFault::WaitForEvent {
            self.signs = self.signs.wrapping_add(1);
        }
        match fault {
            VcpuFault::WaitForInterrupt
                if self.manner() == Manner::ByAnswer && !machine.has_interrupt() =>
            {
                // It goes on when its timer is due, or when an interrupt is put into a list register.
                Ok(State::Answered(Answer::Rest))
            }
            VcpuFault::WaitForInterrupt => {
                let answer = self.emulator.skip(Pc::Unknown)?;
                Ok(self.wait(answer, machine)?)
            }
            VcpuFault::WaitForEvent => Ok(State::Answered(self.emulator.skip(Pc::Unknown)?)),
            VcpuFault::System(access) => self.system(access, machine, host),
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
                self.undefined(pc)
            }
        }
    }

    fn system(
        &mut self,
        access: SystemAccess,
        machine: &mut Machine,
        host: &mut impl Host,
    ) -> Next<C::Error> {
        let answer = match sysreg::access(access.id, access.direction) {
            RegisterAnswer::Value(value) => {
                self.emulator.set(access.register, value, Pc::Unknown)?
            }
            RegisterAnswer::Ignored => self.emulator.skip(Pc::Unknown)?,
            RegisterAnswer::SendSgi => {
                let value = self.emulator.value_of(access.register)?;
                machine.gic.sgi_register(value);
                machine.gic.flush(host);
                self.emulator.skip(Pc::Unknown)?
            }
            RegisterAnswer::Undefined => {
                let pc = self.pc()?;
                return self.undefined(pc);
            }
        };
        Ok(State::Answered(answer))
    }

    /// The guest has nothing to do until an interrupt.
    fn wait(&self, answer: Answer, machine: &Machine) -> Result<State, C::Error> {
        if machine.has_interrupt() {
            return Ok(State::Answered(answer));
        }
        let cpu = self.cpu();
        let until_ticks = if cpu.read_vcpu(VcpuReg::CntvCtl)? & TIMER_MASK == TIMER_ON {
            cpu.read_vcpu(VcpuReg::CntvCval)?
        } else {
            u64::MAX
        };
        if cpu.now_ticks() >= until_ticks {
            return Ok(State::Answered(answer));
        }
        Ok(State::Waits {
            answer,
            until_ticks,
        })
    }

    /// An undefined-instruction exception at `pc`.
    fn undefined(&mut self, pc: u64) -> Next<C::Error> {
        let cause = Cause { pc, ipa: None };
        self.inject(Kind::Undefined, cause, Ending::Exceptions(pc))
    }

    /// Gives the guest an exception for `cause`, unless the guest is stuck there: that is its `ending`.
    ///
    /// A guest takes an exception by leaving its handler for another place, which writes ELR_EL1. While ELR_EL1 still
    /// names the instruction at which it exits again, the handler has failed itself or goes back to try the same.
    fn inject(&mut self, kind: Kind, cause: Cause, ending: Ending<C::Error>) -> Next<C::Error> {
        let was_taken =
            self.stuck.is_same(cause) && self.cpu().read_vcpu(VcpuReg::ElrEl1)? != cause.pc;
        if was_taken {
            self.stuck.starts_again(cause);
        } else if self.stuck.repeats(cause) {
            return Err(ending);
        }
        let cpu = self.cpu();
        let context = UserContext::from_words(&cpu.read(3)?);
        let vector = cpu.read_vcpu(VcpuReg::Vbar)?;
        let entry = exception::enter(kind, cause.pc, context.spsr, vector);
        cpu.write_vcpu(VcpuReg::ElrEl1, entry.elr_el1)?;
        cpu.write_vcpu(VcpuReg::SpsrEl1, entry.spsr_el1)?;
        cpu.write_vcpu(VcpuReg::Esr, entry.esr_el1)?;
        cpu.write(&[entry.pc, context.sp, entry.spsr])?;
        Ok(State::Answered(Answer::Empty))
    }
}

#[cfg(test)]
#[path = "exits_tests.rs"]
mod tests;
