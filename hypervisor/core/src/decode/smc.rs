//! Secure monitor calls through a capability (`interfaces/object-api-sel4-arch.xml`, seL4_ARM_SMC).

use crate::arch::Arch;
use crate::cap::CapView;
use crate::decode::invocation::Invocation;
use crate::object::error::{Error, Outcome, Progress};
use crate::state::kernel::Kernel;
use sel4_sys::Invocation as Label;

/// An invocation of an SMC capability: Call, words x0..x7, answered with x0..x7. A badge allows one function identifier only.
///
/// # Errors
/// [`Error::IllegalOperation`], [`Error::TruncatedMessage`].
pub fn decode<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    let CapView::Smc { badge } = inv.cap.view() else {
        return Err(Error::InvalidCapability(0));
    };
    if inv.label != Label::ArmSmcCall.word() {
        return Err(Error::IllegalOperation);
    }
    inv.need_words(8)?;
    let mut registers = [0u64; 8];
    for (register, n) in registers.iter_mut().zip(0u64..) {
        *register = inv.word(k, n);
    }
    let [function, ..] = registers;
    if badge != 0 && badge != function {
        return Err(Error::IllegalOperation);
    }
    let answer = k.arch.smc(registers);
    inv.answer(k, &answer);
    Ok(Progress::Done)
}
