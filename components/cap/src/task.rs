//! Threads and processor time.

use crate::{CNode, CPtr, Capability, Endpoint, Error, Frame, Notification, VSpace};
use crate::{capability, thread};
use sel4_sys::{Invocation, USER_CONTEXT_WORDS, UserContext};

capability! {
    /// A thread.
    Tcb;
    /// A scheduling context: a thread's right to processor time.
    SchedContext;
    /// The right to give processor time of one core.
    SchedControl;
}

/// What happens to a thread after its registers were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It stays as it is.
    Keep,
    /// It is resumed.
    Resume,
}

/// What happens to a thread before its registers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It stays as it is.
    Keep,
    /// It is suspended.
    Suspend,
}

/// A thread's capability space and address space.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// Root of its capability space.
    pub cspace: CNode,
    /// Guard data for it; 0 leaves the guard of the capability.
    pub cspace_data: u64,
    /// Its address space.
    pub vspace: VSpace,
}

/// A thread's scheduling parameters.
#[derive(Clone, Copy, Debug)]
pub struct SchedParams {
    /// The thread whose maximum controlled priority allows these.
    pub authority: Tcb,
    /// Maximum controlled priority, at most the authority's.
    pub mcp: u64,
    /// Priority, at most the authority's maximum controlled priority.
    pub priority: u64,
    /// Its scheduling context, if any.
    pub sched_context: Option<SchedContext>,
    /// Where its faults go, if anywhere.
    pub fault_endpoint: Option<Endpoint>,
}

fn or_null<C: Capability>(cap: Option<C>) -> CPtr {
    cap.map_or(crate::NULL, Capability::cptr)
}

impl Tcb {
    fn invoke(self, label: Invocation, words: &[u64], caps: &[u64]) -> Result<[u64; 4], Error> {
        thread::invoke(self.cptr(), label, words, caps)
    }

    /// Gives the thread its spaces and its IPC buffer.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, TCB - Configure).
    pub fn configure(self, space: &Space, buffer_vaddr: u64, buffer: Frame) -> Result<(), Error> {
        self.invoke(
            Invocation::TcbConfigure,
            &[space.cspace_data, 0, buffer_vaddr],
            &[space.cspace.cptr(), space.vspace.cptr(), buffer.cptr()],
        )
        .map(drop)
    }

    /// Gives the thread its spaces and its fault endpoint; no IPC buffer.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, TCB - Set Space).
    pub fn set_space(self, fault_endpoint: Option<Endpoint>, space: &Space) -> Result<(), Error> {
        self.invoke(
            Invocation::TcbSetSpace,
            &[space.cspace_data, 0],
            &[
                or_null(fault_endpoint),
                space.cspace.cptr(),
                space.vspace.cptr(),
            ],
        )
        .map(drop)
    }

    /// Priorities, scheduling context and fault endpoint.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, TCB - Set Sched Params).
    pub fn set_sched_params(self, params: &SchedParams) -> Result<(), Error> {
        self.invoke(
            Invocation::TcbSetSchedParams,
            &[params.mcp, params.priority],
            &[
                params.authority.cptr(),
                or_null(params.sched_context),
                or_null(params.fault_endpoint),
            ],
        )
        .map(drop)
    }

    /// Priority, at most the maximum controlled priority of `authority`.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, TCB - Set Priority).
    pub fn set_priority(self, authority: Self, priority: u64) -> Result<(), Error> {
        self.invoke(Invocation::TcbSetPriority, &[priority], &[authority.cptr()])
            .map(drop)
    }

    /// The endpoint that hears when the budget runs out.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, TCB - Set Timeout Endpoint).
    pub fn set_timeout_endpoint(self, endpoint: Option<Endpoint>) -> Result<(), Error> {
        self.invoke(Invocation::TcbSetTimeoutEndpoint, &[], &[or_null(endpoint)])
            .map(drop)
    }

    /// Stops the thread.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, TCB - Suspend).
    pub fn suspend(self) -> Result<(), Error> {
        self.invoke(Invocation::TcbSuspend, &[], &[]).map(drop)
    }

    /// Lets the thread go on.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, TCB - Resume).
    pub fn resume(self) -> Result<(), Error> {
        self.invoke(Invocation::TcbResume, &[], &[]).map(drop)
    }

    /// Binds a notification: its signals are received while the thread waits on an endpoint.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, TCB - Bind Notification).
    pub fn bind_notification(self, notification: Notification) -> Result<(), Error> {
        self.invoke(Invocation::TcbBindNotification, &[], &[notification.cptr()])
            .map(drop)
    }

    /// Unbinds its notification.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, TCB - Unbind Notification).
    pub fn unbind_notification(self) -> Result<(), Error> {
        self.invoke(Invocation::TcbUnbindNotification, &[], &[])
            .map(drop)
    }

    /// Sets and clears flags ([`sel4_sys::tcb_flags`]); returns what is set afterwards.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, TCB - Set Flags).
    pub fn set_flags(self, clear: u64, set: u64) -> Result<u64, Error> {
        self.invoke(Invocation::TcbSetFlags, &[clear, set], &[])
            .map(|words| words[0])
    }

    /// Writes all registers.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, TCB - Write Registers).
    pub fn write_registers(self, after: After, registers: &UserContext) -> Result<(), Error> {
        self.write_words(after, &registers.to_words())
    }

    /// Writes the first registers in the order of [`UserContext`]; the others keep their values. One or two of them
    /// (pc, sp) cost no memory access.
    ///
    /// # Errors
    /// The kernel's; [`Error::TooLong`] for more than [`USER_CONTEXT_WORDS`].
    #[inline]
    pub fn write_words(self, after: After, registers: &[u64]) -> Result<(), Error> {
        let flags = u64::from(after == After::Resume);
        let count = registers.len() as u64;
        // Two words go first; what is left fits the registers only for the shortest writes.
        match registers {
            [pc] => self.invoke(Invocation::TcbWriteRegisters, &[flags, count, *pc], &[]),
            [pc, sp] => self.invoke(
                Invocation::TcbWriteRegisters,
                &[flags, count, *pc, *sp],
                &[],
            ),
            _ => {
                if registers.len() > USER_CONTEXT_WORDS {
                    return Err(Error::TooLong);
                }
                let mut words = [0; USER_CONTEXT_WORDS + 2];
                let (head, tail) = words.split_at_mut(2);
                head.copy_from_slice(&[flags, count]);
                for (to, from) in tail.iter_mut().zip(registers) {
                    *to = *from;
                }
                let used = words.get(..registers.len() + 2).unwrap_or(&words);
                self.invoke(Invocation::TcbWriteRegisters, used, &[])
            }
        }
        .map(drop)
    }

    /// Reads the first `count` registers (at most all 36) in the order of [`UserContext`]; the others come back 0.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, TCB - Read Registers).
    #[inline]
    pub fn read_registers(self, source: Source, count: usize) -> Result<UserContext, Error> {
        let count = count.min(USER_CONTEXT_WORDS);
        let flags = u64::from(source == Source::Suspend);
        let first = self.invoke(Invocation::TcbReadRegisters, &[flags, count as u64], &[])?;
        let mut words = [0; USER_CONTEXT_WORDS];
        for (index, word) in words.iter_mut().enumerate().take(count) {
            *word = match first.get(index) {
                Some(word) => *word,
                None => thread::get_word(index),
            };
        }
        Ok(UserContext::from_words(&words))
    }
}

impl SchedControl {
    /// Sets budget and period of a scheduling context, in microseconds; equal values mean round robin without
    /// bandwidth limit. `extra_refills` beyond the two that every context has, `badge` is told in timeout faults,
    /// `flags` are [`sel4_sys::sched_context_flags`].
    ///
    /// # Errors
    /// The kernel's (seL4 manual, SchedControl - Configure Flags); `Range` for a budget or period out of bounds.
    pub fn configure(
        self,
        context: SchedContext,
        budget_us: u64,
        period_us: u64,
        extra_refills: u64,
        badge: u64,
        flags: u64,
    ) -> Result<(), Error> {
        thread::invoke(
            self.cptr(),
            Invocation::SchedControlConfigureFlags,
            &[budget_us, period_us, extra_refills, badge, flags],
            &[context.cptr()],
        )
        .map(drop)
    }
}

impl SchedContext {
    fn invoke(self, label: Invocation, caps: &[u64]) -> Result<[u64; 4], Error> {
        thread::invoke(self.cptr(), label, &[], caps)
    }

    /// Binds it to a thread or a notification.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, SchedContext - Bind).
    pub fn bind<C: Capability>(self, object: C) -> Result<(), Error> {
        self.invoke(Invocation::SchedContextBind, &[object.cptr()])
            .map(drop)
    }

    /// Unbinds it from everything.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, SchedContext - Unbind).
    pub fn unbind(self) -> Result<(), Error> {
        self.invoke(Invocation::SchedContextUnbind, &[]).map(drop)
    }

    /// Unbinds it from one object.
    ///
    /// # Errors
    /// The kernel's (seL4 manual, SchedContext - UnbindObject).
    pub fn unbind_object<C: Capability>(self, object: C) -> Result<(), Error> {
        self.invoke(Invocation::SchedContextUnbindObject, &[object.cptr()])
            .map(drop)
    }

    /// Microseconds of processor time used since the last call (or a timeout fault).
    ///
    /// # Errors
    /// The kernel's (seL4 manual, SchedContext - Consumed).
    pub fn consumed_us(self) -> Result<u64, Error> {
        self.invoke(Invocation::SchedContextConsumed, &[])
            .map(|words| words[0])
    }
}

/// Gives up the rest of the budget: a thread with a periodic scheduling context goes on at its next replenishment.
#[inline]
pub fn yield_now() {
    thread::yield_now();
}
