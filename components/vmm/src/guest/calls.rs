//! Calls of the guest: PSCI and SMCCC, by HVC.

use super::{Guest, State};
use cap::{After, Received, Source};
use protocol::supervisor::EndReason;
use protocol::units::Line;
use sel4_sys::{UserContext, unknown_syscall};
use vmm_core::emulate::{Answer, STEP};
use vmm_core::psci::{self, Outcome};

impl Guest {
    /// HVC: PSCI and SMCCC.
    pub(super) fn call(&mut self, message: &Received) -> State {
        self.signs = self.signs.wrapping_add(1);
        let mut words = [0; 9];
        for (index, word) in words.iter_mut().enumerate().take(8) {
            *word = message.word(index);
        }
        let [function, a, b, c, ..] = words;
        // The next instruction: the reply's word 8 is the message's word 10 (its "LR" is ELR).
        let next_pc = message.word(unknown_syscall::LR);
        let result = psci::call(function, [a, b, c]);
        let value = match result {
            Outcome::Return(value) => value as u64,
            Outcome::Suspend => 0,
            Outcome::PowerOff => return self.end(EndReason::PoweredOff, Line::new()),
            Outcome::Reset => return self.end(EndReason::Reset, Line::new()),
        };
        let [x0, .., pc] = &mut words;
        *x0 = value;
        *pc = next_pc;
        let answer = Answer::Call(words);
        if result == Outcome::Suspend {
            return match self.wait(answer) {
                Ok(state) => state,
                Err(_) => State::Answered(answer),
            };
        }
        State::Answered(answer)
    }

    /// An HVC that the kernel took for something else (on seL4 when x7 is a valid system call number): served from the
    /// registers. `pc` is the instruction itself.
    pub(super) fn call_that_was_none(&mut self, pc: u64) -> Result<State, cap::Error> {
        let context: UserContext = self.thread.read_registers(Source::Keep, 7)?;
        let value = match psci::call(context.x0, [context.x1, context.x2, context.x3]) {
            Outcome::Return(value) => value as u64,
            Outcome::Suspend => 0,
            Outcome::PowerOff => return Ok(self.end(EndReason::PoweredOff, Line::new())),
            Outcome::Reset => return Ok(self.end(EndReason::Reset, Line::new())),
        };
        // Not by the answer: the fault may be one that has no such answer.
        let mut words = context.to_words();
        let [at, _, _, x0, ..] = &mut words;
        (*at, *x0) = (pc.wrapping_add(STEP), value);
        let first = words.get(..4).unwrap_or(&words);
        self.thread.write_words(After::Keep, first)?;
        Ok(State::Answered(Answer::Empty))
    }
}
