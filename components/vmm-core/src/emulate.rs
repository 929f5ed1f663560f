//! How an instruction of the guest that trapped is finished, and how its fault is answered.
//!
//! On seL4 the answer to such a fault carries nothing: the VMM writes the guest's registers, and the guest runs on with them.
//! Our own kernel finishes the instruction with the answer (`sel4_sys::tcb_flags::EMULATED`), and lets a guest rest that waits
//! for an interrupt. [`Manner`] says which; everything else does not know.
//!
//! A guest that is paused before its answer comes makes the same access again when it goes on, where the answer would have
//! finished it. All registers of our devices bear that.

use crate::syndrome::Register;
use sel4_sys::{USER_CONTEXT_WORDS, UserContext, emulated};

/// Instructions of AArch64 are four bytes.
pub const STEP: u64 = 4;

/// What the kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// seL4's interface: registers are read and written.
    ByRegisters,
    /// The answer finishes the instruction.
    ByAnswer,
}

/// How a fault is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Run on with the registers as they are.
    Empty,
    /// Run on after a call: x0 to x7 and the next pc.
    Call([u64; 9]),
    /// The instruction is done: its register, and that one's value.
    Finish([u64; 2]),
    /// The instruction, a wait for an interrupt, is done when there is one.
    Rest,
}

impl Answer {
    /// The message's label.
    #[must_use]
    pub const fn label(&self) -> u64 {
        match self {
            Self::Empty | Self::Call(_) => 0,
            Self::Finish(_) => emulated::FINISH,
            Self::Rest => emulated::REST,
        }
    }

    /// The message's words.
    #[must_use]
    pub const fn words(&self) -> &[u64] {
        match self {
            Self::Empty | Self::Rest => &[],
            Self::Call(words) => words,
            Self::Finish(words) => words,
        }
    }
}

/// The registers of the guest's thread, in the order of [`UserContext`].
pub trait Registers {
    /// Why they cannot be had.
    type Error;

    /// The first `count` of them; the others come as 0.
    ///
    /// # Errors
    /// See [`Self::Error`].
    fn read(&self, count: usize) -> Result<[u64; USER_CONTEXT_WORDS], Self::Error>;

    /// Sets the first of them; the others keep their values.
    ///
    /// # Errors
    /// See [`Self::Error`].
    fn write(&self, words: &[u64]) -> Result<(), Self::Error>;
}

/// What is known of the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pc {
    /// Its address.
    At(u64),
    /// Nothing: the message does not say.
    Unknown,
}

/// Finishes a guest's instructions.
#[derive(Clone, Copy, Debug)]
pub struct Emulator<R> {
    registers: R,
    manner: Manner,
}

impl<R: Registers> Emulator<R> {
    /// For a guest's thread.
    pub const fn new(registers: R, manner: Manner) -> Self {
        Self { registers, manner }
    }

    /// What the kernel offers.
    pub const fn manner(&self) -> Manner {
        self.manner
    }

    /// The registers.
    pub const fn registers(&self) -> &R {
        &self.registers
    }

    /// The instruction has no result, or it is to be ignored.
    ///
    /// # Errors
    /// When the registers cannot be had.
    pub fn skip(&self, pc: Pc) -> Result<Answer, R::Error> {
        self.set(Register::from_field(emulated::NO_REGISTER), 0, pc)
    }

    /// The instruction's result is `value`, in `register`.
    ///
    /// # Errors
    /// When the registers cannot be had.
    pub fn set(&self, register: Register, value: u64, pc: Pc) -> Result<Answer, R::Error> {
        let number = register.number();
        if self.manner == Manner::ByAnswer {
            let number = number.map_or(emulated::NO_REGISTER, u64::from);
            return Ok(Answer::Finish([number, value]));
        }
        let word = number.and_then(|number| UserContext::word_of_x(usize::from(number)));
        match (word, pc) {
            (None, Pc::At(pc)) => self.registers.write(&[pc.wrapping_add(STEP)])?,
            (word, pc) => {
                let last = word.unwrap_or(0);
                let mut words = self.registers.read(last + 1)?;
                let [first, ..] = &mut words;
                if let Pc::At(pc) = pc {
                    *first = pc;
                }
                *first = first.wrapping_add(STEP);
                if let Some(slot) = word.and_then(|word| words.get_mut(word)) {
                    *slot = value;
                }
                self.registers.write(words.get(..=last).unwrap_or(&words))?;
            }
        }
        Ok(Answer::Empty)
    }

    /// The value of a register; 0 for the zero register.
    ///
    /// # Errors
    /// When the registers cannot be had.
    pub fn value_of(&self, register: Register) -> Result<u64, R::Error> {
        let number = register.number();
        let Some(word) = number.and_then(|number| UserContext::word_of_x(usize::from(number)))
        else {
            return Ok(0);
        };
        let words = self.registers.read(word + 1)?;
        Ok(words.get(word).copied().unwrap_or(0))
    }

    /// The value that a store stores from `register`. `told` is the word that the kernel adds to the fault's message where the
    /// answer finishes instructions.
    ///
    /// # Errors
    /// When the registers cannot be had.
    pub fn stored(&self, register: Register, told: u64) -> Result<u64, R::Error> {
        match self.manner {
            Manner::ByAnswer => Ok(told),
            Manner::ByRegisters => self.value_of(register),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::{Cell, RefCell};
    use proptest::prelude::*;

    /// A thread, and the accesses to it.
    struct Fake {
        words: RefCell<[u64; USER_CONTEXT_WORDS]>,
        invocations: Cell<u32>,
    }

    impl Fake {
        fn new(seed: u64) -> Self {
            let words = core::array::from_fn(|index| seed.wrapping_mul(index as u64 + 7));
            Self {
                words: RefCell::new(words),
                invocations: Cell::new(0),
            }
        }

        fn count(&self) {
            self.invocations.set(self.invocations.get() + 1);
        }
    }

    impl Registers for &Fake {
        type Error = ();

        fn read(&self, count: usize) -> Result<[u64; USER_CONTEXT_WORDS], ()> {
            self.count();
            let mut words = *self.words.borrow();
            words[count..].fill(0);
            Ok(words)
        }

        fn write(&self, from: &[u64]) -> Result<(), ()> {
            self.count();
            self.words.borrow_mut()[..from.len()].copy_from_slice(from);
            Ok(())
        }
    }

    /// What the kernel does with the answer.
    fn answered(thread: &Fake, answer: Answer) {
        let mut words = thread.words.borrow_mut();
        match answer {
            Answer::Finish([register, value]) => {
                assert_eq!(answer.label(), 0);
                if let Some(word) = UserContext::word_of_x(register as usize) {
                    words[word] = value;
                }
                words[0] = words[0].wrapping_add(4);
            }
            Answer::Empty => assert_eq!((answer.label(), answer.words().len()), (0, 0)),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn both_manners_do_the_same(seed: u64, field in 0u64..32, value: u64, known: bool, skipped: bool) {
            let [by_answer, by_registers] = [Manner::ByAnswer, Manner::ByRegisters].map(|manner| {
                let thread = Fake::new(seed);
                let emulator = Emulator::new(&thread, manner);
                let pc = if known { Pc::At(thread.words.borrow()[0]) } else { Pc::Unknown };
                let answer = if skipped {
                    emulator.skip(pc)
                } else {
                    emulator.set(Register::from_field(field), value, pc)
                };
                answered(&thread, answer.unwrap());
                thread
            });
            prop_assert_eq!(*by_answer.words.borrow(), *by_registers.words.borrow());
            let before = Fake::new(seed);
            prop_assert_eq!(by_answer.words.borrow()[0], before.words.borrow()[0].wrapping_add(4));
            if !skipped && field < 31 {
                let word = UserContext::word_of_x(field as usize).unwrap();
                prop_assert_eq!(by_answer.words.borrow()[word], value);
            }
            prop_assert_eq!(by_answer.invocations.get(), 0, "nothing is asked of the kernel before the answer");
        }

        #[test]
        fn a_stored_value_is_the_registers(seed: u64, field in 0u64..32) {
            let thread = Fake::new(seed);
            let register = Register::from_field(field);
            let value = UserContext::word_of_x(field as usize).map_or(0, |word| thread.words.borrow()[word]);
            let by_registers = Emulator::new(&thread, Manner::ByRegisters);
            prop_assert_eq!(by_registers.stored(register, !value), Ok(value));
            prop_assert_eq!(thread.invocations.get(), u32::from(field != 31));
            let by_answer = Emulator::new(&thread, Manner::ByAnswer);
            prop_assert_eq!(by_answer.stored(register, value), Ok(value));
            prop_assert_eq!(by_answer.value_of(register), Ok(value), "where no message says it");
        }
    }

    #[test]
    fn a_step_at_a_known_place_is_one_invocation() {
        let thread = Fake::new(3);
        let emulator = Emulator::new(&thread, Manner::ByRegisters);
        assert_eq!(emulator.skip(Pc::At(0x1000)), Ok(Answer::Empty));
        assert_eq!(thread.words.borrow()[0], 0x1004);
        assert_eq!(thread.invocations.get(), 1);
    }

    #[test]
    fn answers_as_messages() {
        assert_eq!((Answer::Rest.label(), Answer::Rest.words().len()), (1, 0));
        let call = Answer::Call([7; 9]);
        assert_eq!((call.label(), call.words()), (0, [7; 9].as_slice()));
        assert_eq!(Answer::Finish([31, 0]).words(), [31, 0]);
    }
}
