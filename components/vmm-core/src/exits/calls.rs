//! Calls of the guest: PSCI and SMCCC, by HVC.

use super::{Cpu, Ending, Exits, Next, State};
use crate::emulate::{Answer, STEP};
use crate::machine::Machine;
use crate::psci::{self, Outcome};
use sel4_sys::UserContext;

impl<C: Cpu> Exits<C> {
    /// An HVC that the kernel handed over as such: x0 to x7 in `registers`. The answer sets them and the pc.
    pub(super) fn call(
        &mut self,
        registers: [u64; 8],
        next_pc: u64,
        machine: &Machine,
    ) -> Next<C::Error> {
        self.signs = self.signs.wrapping_add(1);
        let [function, x1, x2, x3, x4, x5, x6, x7] = registers;
        let result = psci::call(function, [x1, x2, x3]);
        let x0 = value::<C::Error>(result)?;
        let answer = Answer::Call([x0, x1, x2, x3, x4, x5, x6, x7, next_pc]);
        if result == Outcome::Suspend {
            // Where the kernel does not tell the timer, the guest's standby ends at once; PSCI allows that.
            return Ok(self
                .wait(answer, machine)
                .unwrap_or(State::Answered(answer)));
        }
        Ok(State::Answered(answer))
    }

    /// An HVC that the kernel took for something else (on seL4 when x7 is a valid system call number): served from the
    /// registers. `pc` is the instruction itself.
    pub(super) fn call_that_was_none(&mut self, pc: u64) -> Next<C::Error> {
        let context = UserContext::from_words(&self.cpu().read(7)?);
        let x0 = value::<C::Error>(psci::call(context.x0, [context.x1, context.x2, context.x3]))?;
        // Not by the answer: the fault may be one that has no such answer.
        let next_pc = pc.wrapping_add(STEP);
        self.cpu().write(&[next_pc, context.sp, context.spsr, x0])?;
        Ok(State::Answered(Answer::Empty))
    }
}

/// What x0 gets, or the guest's end.
const fn value<E>(outcome: Outcome) -> Result<u64, Ending<E>> {
    match outcome {
        Outcome::Return(value) => Ok(value as u64),
        Outcome::Suspend => Ok(0),
        Outcome::PowerOff => Err(Ending::PoweredOff),
        Outcome::Reset => Err(Ending::Reset),
    }
}
