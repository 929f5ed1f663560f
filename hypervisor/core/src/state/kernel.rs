//! The kernel's own state, apart from the objects.

use crate::arch::Arch;
use crate::object::Tcb;
use crate::object::mem::Ref;
use crate::state::asids::AsidState;
use crate::state::cancelling::Cancelling;
use crate::state::irqs::IrqState;
use crate::state::schedule::Scheduler;
use core::cell::Cell;

/// Work units between two looks at pending interrupts (seL4's CONFIG_MAX_NUM_WORK_UNITS_PER_PREEMPTION).
pub const WORK_UNITS_PER_PREEMPTION: u32 = 100;

/// The kernel of one core. All fields are cells: methods take `&self`.
pub struct Kernel<A: Arch> {
    /// The machine.
    pub arch: A,
    /// The thread that runs; none when all wait.
    pub current: Cell<Option<Ref<Tcb>>>,
    /// Work units since the last look at pending interrupts.
    pub work_units: Cell<u32>,
    /// Number of words in the answer that the invocation at hand wrote into its caller's message registers.
    pub reply_length: Cell<u64>,
    /// ASID pools and VMIDs.
    pub asids: AsidState,
    /// Interrupts and the notifications that they signal.
    pub irqs: IrqState,
    /// Ready queues, budgets, timer.
    pub sched: Scheduler,
    /// Where a preempted `CancelBadgedSends` goes on.
    pub cancelling: Cell<Option<Cancelling>>,
}

impl<A: Arch> Kernel<A> {
    /// A kernel with nothing in it.
    pub const fn new(arch: A) -> Self {
        Self {
            arch,
            current: Cell::new(None),
            work_units: Cell::new(0),
            reply_length: Cell::new(0),
            asids: AsidState::new(),
            irqs: IrqState::new(),
            sched: Scheduler::new(),
            cancelling: Cell::new(None),
        }
    }

    /// Counts one unit of a long operation; true when it is time to stop because an interrupt waits.
    #[inline]
    pub fn preemption_point(&self) -> bool {
        let done = self.work_units.get().wrapping_add(1);
        if done < WORK_UNITS_PER_PREEMPTION {
            self.work_units.set(done);
            return false;
        }
        self.work_units.set(0);
        self.arch.interrupt_pending()
    }
}
