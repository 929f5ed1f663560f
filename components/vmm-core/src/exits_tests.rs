use super::*;
use crate::machine::tests::{World, machine};
use crate::stuck::MOST_REPEATS;
use core::cell::{Cell, RefCell};
use proptest::prelude::*;
use protocol::layout::ipa as map;
use sel4_sys::USER_CONTEXT_WORDS;
use std::collections::BTreeMap;

const VECTORS: u64 = 0xffff_8000_1000_0000;
/// EL1h, interrupts on.
const SPSR: u64 = 5;
const FROM_SAME_LEVEL: u64 = VECTORS + 0x200;
/// Where nothing is.
const NOWHERE: u64 = 0x1000;
/// A word is loaded into x1.
const LOAD: u64 = 0x24 << 26 | 1 << 24 | 2 << 22 | 1 << 16;
const STORE: u64 = LOAD | 1 << 6;
const PAIR: u64 = 0x24 << 26;
const FETCH: u64 = 0x20 << 26;
/// WFI, and an instruction of a class that no vCPU fault has.
const WFI: u64 = 1 << 26;
const HVC: u64 = 0x16 << 26;
const SMC: u64 = 0x17 << 26;
const OTHER: u64 = 0x3f << 26;
const X1: usize = 4;
const CALL_LABEL: u64 = Fault::UnknownSyscall as u64;

struct FakeCpu {
    words: RefCell<[u64; USER_CONTEXT_WORDS]>,
    vcpu: RefCell<BTreeMap<u64, u64>>,
    ticks: Cell<u64>,
    refuses: Cell<bool>,
}

impl FakeCpu {
    fn new() -> Self {
        let mut words = [0; USER_CONTEXT_WORDS];
        words[..3].copy_from_slice(&[0x4008_0000, 0x9000, SPSR]);
        Self {
            words: RefCell::new(words),
            vcpu: RefCell::new(BTreeMap::from([(VcpuReg::Vbar as u64, VECTORS)])),
            ticks: Cell::new(100),
            refuses: Cell::new(false),
        }
    }

    fn pc(&self) -> u64 {
        self.words.borrow()[0]
    }

    /// The handler returns, `step` bytes after the instruction that faulted.
    fn handler_returns(&self, step: u64) {
        let elr = self.read_vcpu(VcpuReg::ElrEl1).unwrap() + step;
        self.write_vcpu(VcpuReg::ElrEl1, elr).unwrap();
        self.words.borrow_mut()[0] = elr;
        self.words.borrow_mut()[2] = self.read_vcpu(VcpuReg::SpsrEl1).unwrap();
    }

    fn asked(&self) -> Result<(), &'static str> {
        if self.refuses.get() {
            return Err("no");
        }
        Ok(())
    }
}

impl Registers for &FakeCpu {
    type Error = &'static str;

    fn read(&self, count: usize) -> Result<[u64; USER_CONTEXT_WORDS], &'static str> {
        self.asked()?;
        let mut words = *self.words.borrow();
        words[count..].fill(0);
        Ok(words)
    }

    fn write(&self, from: &[u64]) -> Result<(), &'static str> {
        self.asked()?;
        self.words.borrow_mut()[..from.len()].copy_from_slice(from);
        Ok(())
    }
}

impl FakeCpu {
    fn read_vcpu(&self, register: VcpuReg) -> Result<u64, &'static str> {
        self.asked()?;
        Ok(*self.vcpu.borrow().get(&(register as u64)).unwrap_or(&0))
    }

    fn write_vcpu(&self, register: VcpuReg, value: u64) -> Result<(), &'static str> {
        self.asked()?;
        self.vcpu.borrow_mut().insert(register as u64, value);
        Ok(())
    }
}

impl Cpu for &FakeCpu {
    fn read_vcpu(&self, register: VcpuReg) -> Result<u64, &'static str> {
        FakeCpu::read_vcpu(self, register)
    }

    fn write_vcpu(&self, register: VcpuReg, value: u64) -> Result<(), &'static str> {
        FakeCpu::write_vcpu(self, register, value)
    }

    fn now_ticks(&self) -> u64 {
        self.ticks.get()
    }

    fn now_ms(&self) -> u64 {
        self.ticks.get() / 10
    }
}

/// A guest with 4 pieces at start and 4 to plug.
struct Bench<'a> {
    cpu: &'a FakeCpu,
    exits: Exits<&'a FakeCpu>,
    machine: Machine,
    world: World,
}

impl<'a> Bench<'a> {
    fn new(cpu: &'a FakeCpu, manner: Manner) -> Self {
        let (machine, world) = machine(4, 4);
        Self {
            cpu,
            exits: Exits::new(cpu, manner),
            machine,
            world,
        }
    }

    fn take(&mut self, exit: Exit) -> Next<&'static str> {
        self.exits.handle(exit, &mut self.machine, &mut self.world)
    }

    /// The instruction at the guest's pc uses `ipa`.
    fn uses(&mut self, ipa: u64, syndrome: u64) -> Next<&'static str> {
        let pc = self.cpu.pc();
        self.take(Exit::Memory(Access {
            pc,
            ipa,
            syndrome,
            stored: 0,
        }))
    }
}

const GOES_ON: Next<&'static str> = Ok(State::Answered(Answer::Empty));

#[test]
fn handled_aborts_never_end_a_guest() {
    for sleeps in [true, false] {
        let cpu = FakeCpu::new();
        let mut bench = Bench::new(&cpu, Manner::ByAnswer);
        let pc = cpu.pc();
        for _ in 0..5 * MOST_REPEATS {
            assert_eq!(bench.uses(NOWHERE, LOAD), GOES_ON);
            assert_eq!(cpu.pc(), FROM_SAME_LEVEL);
            cpu.handler_returns(4);
            assert_eq!(cpu.pc(), pc + 4);
            if sleeps {
                assert_eq!(
                    bench.take(Exit::Trap(WFI)),
                    Ok(State::Answered(Answer::Rest))
                );
                assert_eq!(bench.take(Exit::Timer), GOES_ON);
            }
            cpu.words.borrow_mut()[0] = pc;
        }
    }
}

#[test]
fn a_handler_that_tries_the_same_again_ends_its_guest() {
    let cases = [
        (NOWHERE, LOAD, "no memory at 0x1000, used at 0x40080000"),
        (NOWHERE, FETCH, "no memory at 0x1000, used at 0x40080000"),
        (
            map::VIRTIO_MMIO,
            PAIR,
            "exceptions without end at 0x40080000",
        ),
    ];
    for (ipa, syndrome, why) in cases {
        let cpu = FakeCpu::new();
        let mut bench = Bench::new(&cpu, Manner::ByAnswer);
        for _ in 0..MOST_REPEATS {
            assert_eq!(bench.uses(ipa, syndrome), GOES_ON);
            cpu.handler_returns(0);
        }
        let ending = bench.uses(ipa, syndrome).unwrap_err();
        assert_eq!(ending.to_string(), why);
        assert_eq!(ending.reason(), EndReason::Misbehaved);
    }
}

#[test]
fn vectors_where_nothing_is_end_the_guest() {
    let cpu = FakeCpu::new();
    let mut bench = Bench::new(&cpu, Manner::ByRegisters);
    let end = (0..2 * MOST_REPEATS).find_map(|_| bench.uses(NOWHERE, FETCH).err());
    let ending = end.expect("it ends");
    assert_eq!(
        ending.to_string(),
        format!("no memory at 0x1000, used at {FROM_SAME_LEVEL:#x}")
    );
}

#[test]
fn what_runs_in_between_is_progress() {
    let cpu = FakeCpu::new();
    let mut bench = Bench::new(&cpu, Manner::ByAnswer);
    for _ in 0..3 {
        for _ in 0..MOST_REPEATS {
            assert_eq!(bench.uses(NOWHERE, LOAD), GOES_ON);
            cpu.handler_returns(0);
        }
        assert_eq!(bench.take(Exit::Maintenance(None)), GOES_ON);
    }
}

#[test]
fn an_undefined_instruction_is_told_to_the_guest() {
    let cpu = FakeCpu::new();
    let mut bench = Bench::new(&cpu, Manner::ByAnswer);
    let pc = cpu.pc();
    for exit in [Exit::Exception(pc), Exit::Trap(OTHER)] {
        assert_eq!(bench.take(exit), GOES_ON);
        assert_eq!(cpu.words.borrow()[..3], [FROM_SAME_LEVEL, 0x9000, 0x3c5]);
        assert_eq!(cpu.read_vcpu(VcpuReg::ElrEl1), Ok(pc));
        assert_eq!(cpu.read_vcpu(VcpuReg::SpsrEl1), Ok(SPSR));
        assert_eq!(cpu.read_vcpu(VcpuReg::Esr), Ok(1 << 25));
        cpu.handler_returns(0);
    }
}

#[test]
fn memory_is_mapped_and_a_fault_on_what_is_mapped_is_borne_a_few_times() {
    let cpu = FakeCpu::new();
    let mut bench = Bench::new(&cpu, Manner::ByAnswer);
    // The first one maps it.
    for _ in 0..=MOST_REPEATS {
        assert_eq!(bench.uses(map::RAM, LOAD), GOES_ON);
    }
    let ending = bench.uses(map::RAM, LOAD).unwrap_err();
    assert!(matches!(ending, Ending::Stuck(_)));
    assert_eq!(
        ending.to_string(),
        format!("stuck at {:#x}, address {:#x}", cpu.pc(), map::RAM)
    );
}

#[test]
fn revoked_memory_aborts_and_then_ends() {
    let cpu = FakeCpu::new();
    let mut bench = Bench::new(&cpu, Manner::ByAnswer);
    assert_eq!(bench.uses(map::RAM, LOAD), GOES_ON);
    let piece = bench.world.supply.granted[&0];
    bench.world.revoked.push(piece);
    bench.machine.memory_changed(&mut bench.world, 0);
    let pc = cpu.pc();
    let end = (0..2 * MOST_REPEATS).find_map(|_| {
        cpu.words.borrow_mut()[0] = pc;
        bench.uses(map::RAM, LOAD).err()
    });
    let ending = end.expect("it ends");
    assert!(matches!(ending, Ending::Revoked(_)));
    assert_eq!(ending.reason(), EndReason::Revoked);
}

#[test]
fn a_device_answers_in_both_manners() {
    let cpu = FakeCpu::new();
    let pc = cpu.pc();
    // "virt", the magic value of virtio-mmio.
    let magic = 0x7472_6976;
    let mut bench = Bench::new(&cpu, Manner::ByAnswer);
    let load = bench.uses(map::VIRTIO_MMIO, LOAD);
    assert_eq!(load, Ok(State::Answered(Answer::Finish([1, magic]))));
    assert_eq!(cpu.pc(), pc, "the kernel steps");
    let mut bench = Bench::new(&cpu, Manner::ByRegisters);
    assert_eq!(bench.uses(map::VIRTIO_MMIO, LOAD), GOES_ON);
    assert_eq!((cpu.pc(), cpu.words.borrow()[X1]), (pc + 4, magic));
    // The status register: ACKNOWLEDGE.
    cpu.words.borrow_mut()[X1] = 1;
    assert_eq!(bench.uses(map::VIRTIO_MMIO + 0x70, STORE), GOES_ON);
    assert_eq!(cpu.pc(), pc + 8);
    let width = crate::syndrome::Width::Word;
    assert_eq!(bench.machine.read(map::VIRTIO_MMIO + 0x70, width), 1);
}

fn call(function: u64, next_pc: u64) -> Exit {
    Exit::Call {
        words: [function, 1, 2, 3, 4, 5, 6, 7],
        next_pc,
    }
}

#[test]
fn psci_calls() {
    let cpu = FakeCpu::new();
    let mut bench = Bench::new(&cpu, Manner::ByAnswer);
    let version = bench.take(call(0x8400_0000, 0x44));
    let words = [0x1_0001, 1, 2, 3, 4, 5, 6, 7, 0x44];
    assert_eq!(version, Ok(State::Answered(Answer::Call(words))));
    let off = bench.take(call(0x8400_0008, 0)).unwrap_err();
    assert_eq!(
        (off.reason(), off.to_string()),
        (EndReason::PoweredOff, String::new())
    );
    let reset = bench.take(call(0x8400_0009, 0)).unwrap_err();
    assert_eq!(reset.reason(), EndReason::Reset);
    assert!(bench.exits.take_signs() && !bench.exits.take_signs());
}

#[test]
fn a_call_that_the_kernel_did_not_take_for_one_is_served_from_the_registers() {
    let cpu = FakeCpu::new();
    let pc = cpu.pc();
    let mut bench = Bench::new(&cpu, Manner::ByRegisters);
    for (round, exit) in [Exit::CallThatWasNone(pc), Exit::Trap(HVC)]
        .into_iter()
        .enumerate()
    {
        cpu.words.borrow_mut()[3] = 0x8400_0000;
        assert_eq!(bench.take(exit), GOES_ON);
        let step = 4 * (round as u64 + 1);
        assert_eq!(cpu.words.borrow()[..4], [pc + step, 0x9000, SPSR, 0x1_0001]);
    }
    cpu.words.borrow_mut()[3] = 0x8400_0008;
    assert_eq!(
        bench.take(Exit::CallThatWasNone(pc)),
        Err(Ending::PoweredOff)
    );
}

#[test]
fn an_smc_is_not_supported() {
    let cpu = FakeCpu::new();
    let mut bench = Bench::new(&cpu, Manner::ByAnswer);
    let answer = Answer::Finish([0, u64::MAX]);
    assert_eq!(bench.take(Exit::Trap(SMC)), Ok(State::Answered(answer)));
}

#[test]
fn a_wait_ends_with_the_timer_an_interrupt_or_a_pause() {
    let cpu = FakeCpu::new();
    let mut bench = Bench::new(&cpu, Manner::ByRegisters);
    let waits = |until_ticks| {
        Ok(State::Waits {
            answer: Answer::Empty,
            until_ticks,
        })
    };
    assert_eq!(bench.take(Exit::Trap(WFI)), waits(u64::MAX), "no timer");
    cpu.write_vcpu(VcpuReg::CntvCval, 200).unwrap();
    cpu.write_vcpu(VcpuReg::CntvCtl, 3).unwrap();
    assert_eq!(bench.take(Exit::Trap(WFI)), waits(u64::MAX), "it is masked");
    cpu.write_vcpu(VcpuReg::CntvCtl, 1).unwrap();
    let state = bench.take(Exit::Trap(WFI)).unwrap();
    assert_eq!(Ok(state), waits(200));
    let after = |resumed, now| state.after_signals(resumed, &bench.machine, now);
    assert_eq!(after(false, 199), state);
    assert_eq!(Ok(after(false, 200)), GOES_ON);
    assert_eq!(Ok(after(true, 199)), GOES_ON);
    let standby = Exit::Call {
        words: [0xc400_0001, 0, 0, 0, 0, 0, 0, 0],
        next_pc: 0x44,
    };
    let standby = bench.take(standby).unwrap();
    assert!(
        matches!(
            standby,
            State::Waits {
                until_ticks: 200,
                ..
            }
        ),
        "{standby:?}"
    );
    cpu.ticks.set(200);
    assert_eq!(bench.take(Exit::Trap(WFI)), GOES_ON, "it is due");
}

#[test]
fn memory_that_comes_later_is_waited_for() {
    let cpu = FakeCpu::new();
    let mut bench = Bench::new(&cpu, Manner::ByAnswer);
    let state = State::Starves { ipa: 1 };
    assert_eq!(Ok(state.after_signals(false, &bench.machine, 0)), GOES_ON);
    let held = State::Held(Answer::Finish([1, 2]));
    let next = held.after_signals(false, &bench.machine, 0);
    assert_eq!(next, State::Answered(Answer::Finish([1, 2])));
    assert_eq!(bench.take(Exit::Timer), GOES_ON);
    assert_eq!(bench.exits.count(), 1);
}

#[test]
fn a_kernel_that_refuses_ends_the_guest() {
    let cpu = FakeCpu::new();
    let mut bench = Bench::new(&cpu, Manner::ByRegisters);
    cpu.refuses.set(true);
    let ending = bench.uses(NOWHERE, LOAD).unwrap_err();
    assert_eq!(ending.reason(), EndReason::VmmFault);
    assert_eq!(ending.to_string(), "the kernel refused: \"no\"");
}

#[test]
fn fault_messages() {
    let word = |index| index as u64 + 10;
    let access = Access {
        pc: 10,
        ipa: 11,
        syndrome: 13,
        stored: 14,
    };
    let call = Exit::Call {
        words: [10, 11, 12, 13, 14, 15, 16, 17],
        next_pc: 20,
    };
    for (label, exit) in [
        (Fault::VmFault as u64, Exit::Memory(access)),
        (Fault::VcpuFault as u64, Exit::Trap(10)),
        (CALL_LABEL, call),
        (Fault::VppiEvent as u64, Exit::Timer),
        (Fault::VgicMaintenance as u64, Exit::Maintenance(Some(10))),
        (Fault::CapFault as u64, Exit::CallThatWasNone(10)),
        (Fault::UserException as u64, Exit::Exception(10)),
        (99, Exit::Unknown(99)),
    ] {
        assert_eq!(Exit::decode(label, word), exit);
    }
    let unknown_list = Exit::decode(Fault::VgicMaintenance as u64, |_| u64::MAX);
    assert_eq!(unknown_list, Exit::Maintenance(None));
    let cpu = FakeCpu::new();
    let ending = Bench::new(&cpu, Manner::ByAnswer).take(Exit::Unknown(99));
    assert_eq!(ending.unwrap_err().to_string(), "an unknown fault: 99");
}

proptest! {
    #[test]
    fn any_message_is_answered(
        messages in proptest::collection::vec((0u64..11, any::<[u64; 13]>(), any::<bool>()), 1..40),
        by_answer: bool,
    ) {
        let cpu = FakeCpu::new();
        let manner = if by_answer { Manner::ByAnswer } else { Manner::ByRegisters };
        let mut bench = Bench::new(&cpu, manner);
        for (label, mut words, on_device) in messages {
            if on_device {
                words[1] = map::VIRTIO_MMIO + words[1] % 0x1000;
            }
            let exit = Exit::decode(label, |index| words.get(index).copied().unwrap_or(0));
            match bench.take(exit) {
                Ok(state) => prop_assert!(!matches!(state, State::Ended | State::Runs)),
                Err(ending) => prop_assert!(!matches!(ending, Ending::Kernel(_))),
            }
        }
    }
}
