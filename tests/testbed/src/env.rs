//! Slots, objects, mappings and threads on demand.

#![allow(unsafe_code)]

use crate::invoke::{Answer, invoke, use_ipc_buffer};
use crate::uart;
use core::sync::atomic::{AtomicU64, Ordering};
use sel4_sys::{
    BootInfo, CapRights, Invocation, ObjectType, USER_CONTEXT_WORDS, UserContext, init_slot,
    vm_attributes,
};

/// Depth of a slot's address in the root CNode.
pub const DEPTH: u64 = 64;
/// A notification that nobody signals.
static NEVER: AtomicU64 = AtomicU64::new(0);

/// Where a spawned thread stays when it is done: it waits for what never comes.
pub fn park() -> ! {
    loop {
        sel4_sys::syscall::wait(NEVER.load(Ordering::Relaxed));
    }
}

/// Where mappings made by the testbed begin; 1 GiB from here is the testbed's.
const WINDOW: u64 = 0x10_0000_0000;
/// Bytes of a spawned thread's stack.
const STACK_BYTES: u64 = 16 * 1024;

/// The root task's means.
pub struct Env {
    boot_info: &'static BootInfo,
    next_slot: u64,
    next_window: u64,
    /// The untyped that objects come from: index into the boot list.
    untyped: u64,
    pub(crate) window_table: u64,
    before: u64,
}

/// How a spawned thread runs.
#[derive(Clone, Copy, Debug)]
pub struct ThreadSpec {
    /// Priority and maximum controlled priority.
    pub priority: u64,
    /// Budget and period in microseconds, or `None` for a passive thread.
    pub budget_us: Option<u64>,
    /// `seL4_TCBFlag_*`.
    pub flags: u64,
    /// Endpoint for its faults, or 0.
    pub fault_endpoint: u64,
}

impl Default for ThreadSpec {
    fn default() -> Self {
        Self {
            priority: 200,
            budget_us: Some(10_000),
            flags: 0,
            fault_endpoint: 0,
        }
    }
}

/// Stops the run when an operation of the testbed itself failed.
pub(crate) fn check(what: &str, answer: Answer) -> Answer {
    assert!(
        answer.label == 0,
        "{what}: error {} {:x?}",
        answer.label,
        answer.words
    );
    answer
}

impl Env {
    /// The environment of a root task that was started with this bootinfo address.
    pub(crate) fn new(boot_info: u64, before: u64) -> Self {
        // SAFETY: the kernel maps the bootinfo frame there for the root task's whole life, and nobody writes to it.
        let boot_info = unsafe { &*(boot_info as *const BootInfo) };
        use_ipc_buffer(boot_info.ipc_buffer);
        let mut env = Self {
            boot_info,
            next_slot: boot_info.empty.start,
            next_window: WINDOW,
            untyped: 0,
            window_table: 0,
            before,
        };
        env.untyped = env.largest_untyped();
        env.map_uart();
        let never = env.object(ObjectType::Notification, 0);
        NEVER.store(never, Ordering::Relaxed);
        env
    }

    /// What the kernel told.
    #[must_use]
    pub fn boot_info(&self) -> &'static BootInfo {
        self.boot_info
    }

    /// What the function `before` of [`crate::root_task!`] returned.
    #[must_use]
    pub fn before(&self) -> u64 {
        self.before
    }

    fn largest_untyped(&self) -> u64 {
        let mut best = (0, 0);
        for (index, untyped) in self
            .boot_info
            .untyped_list
            .iter()
            .enumerate()
            .take(self.boot_info.untyped.len() as usize)
        {
            if untyped.is_device == 0 && untyped.size_bits > best.1 {
                best = (index as u64, untyped.size_bits);
            }
        }
        self.boot_info.untyped.start + best.0
    }

    /// The untyped capability that objects come from.
    #[must_use]
    pub fn untyped(&self) -> u64 {
        self.untyped
    }

    /// A fresh slot.
    pub fn slot(&mut self) -> u64 {
        self.slots(1)
    }

    /// `count` fresh slots in a row.
    pub fn slots(&mut self, count: u64) -> u64 {
        let first = self.next_slot;
        self.next_slot += count;
        assert!(
            self.next_slot <= self.boot_info.empty.end,
            "testbed: out of slots"
        );
        first
    }

    /// Any invocation.
    pub fn invoke(&self, cap: u64, label: Invocation, words: &[u64], caps: &[u64]) -> Answer {
        invoke(cap, label.word(), words, caps)
    }

    /// Untyped_Retype into slots of the root CNode.
    pub fn retype(
        &self,
        untyped: u64,
        kind: ObjectType,
        bits: u64,
        slot: u64,
        count: u64,
    ) -> Answer {
        self.invoke(
            untyped,
            Invocation::UntypedRetype,
            &[kind.word(), bits, 0, 0, slot, count],
            &[init_slot::CNODE],
        )
    }

    /// A new object; `bits` where its type asks for them.
    pub fn object(&mut self, kind: ObjectType, bits: u64) -> u64 {
        let slot = self.slot();
        check(
            "Untyped_Retype",
            self.retype(self.untyped, kind, bits, slot, 1),
        );
        slot
    }

    /// A copy of a capability with fewer rights.
    pub fn copy(&mut self, cap: u64, rights: CapRights) -> u64 {
        let slot = self.slot();
        check("CNode_Copy", self.copy_to(slot, cap, rights));
        slot
    }

    /// CNode_Copy within the root CNode.
    pub fn copy_to(&self, slot: u64, cap: u64, rights: CapRights) -> Answer {
        self.invoke(
            init_slot::CNODE,
            Invocation::CNodeCopy,
            &[slot, DEPTH, cap, DEPTH, rights.0],
            &[init_slot::CNODE],
        )
    }

    /// A badged copy of a capability.
    pub fn mint(&mut self, cap: u64, rights: CapRights, badge: u64) -> u64 {
        let slot = self.slot();
        check(
            "CNode_Mint",
            self.invoke(
                init_slot::CNODE,
                Invocation::CNodeMint,
                &[slot, DEPTH, cap, DEPTH, rights.0, badge],
                &[init_slot::CNODE],
            ),
        );
        slot
    }

    /// CNode_Delete in the root CNode.
    pub fn delete(&self, slot: u64) -> Answer {
        self.invoke(
            init_slot::CNODE,
            Invocation::CNodeDelete,
            &[slot, DEPTH],
            &[],
        )
    }

    /// CNode_Revoke in the root CNode.
    pub fn revoke(&self, slot: u64) -> Answer {
        self.invoke(
            init_slot::CNODE,
            Invocation::CNodeRevoke,
            &[slot, DEPTH],
            &[],
        )
    }

    /// Page_Map.
    pub fn map(
        &self,
        frame: u64,
        vspace: u64,
        vaddr: u64,
        rights: CapRights,
        attributes: u64,
    ) -> Answer {
        self.invoke(
            frame,
            Invocation::ArmPageMap,
            &[vaddr, rights.0, attributes],
            &[vspace],
        )
    }

    /// Maps a 4 KiB frame somewhere in the testbed's window and says where.
    pub fn map_here(&mut self, frame: u64) -> u64 {
        let vaddr = self.window(4096);
        let attributes = vm_attributes::DEFAULT | vm_attributes::EXECUTE_NEVER;
        check(
            "Page_Map",
            self.map(
                frame,
                init_slot::VSPACE,
                vaddr,
                CapRights::READ_WRITE,
                attributes,
            ),
        );
        vaddr
    }

    /// Room in the testbed's window, with page tables down to 4 KiB; `bytes` is a multiple of 4096.
    pub fn window(&mut self, bytes: u64) -> u64 {
        let start = self.next_window;
        self.next_window += bytes;
        let mut covered = self.window_table;
        let mut at = WINDOW + covered * 0x20_0000;
        while at < self.next_window {
            let tables = if covered == 0 { 2 } else { 1 };
            for _ in 0..tables {
                let table = self.object(ObjectType::PageTable, 0);
                check(
                    "PageTable_Map",
                    self.invoke(
                        table,
                        Invocation::ArmPageTableMap,
                        &[at, vm_attributes::DEFAULT],
                        &[init_slot::VSPACE],
                    ),
                );
            }
            covered += 1;
            at += 0x20_0000;
        }
        self.window_table = covered;
        start
    }

    /// An untyped of 4 KiB of device memory at this physical address, if there is one.
    pub fn device(&mut self, paddr: u64) -> Option<u64> {
        let mut found = None;
        for (index, untyped) in self
            .boot_info
            .untyped_list
            .iter()
            .enumerate()
            .take(self.boot_info.untyped.len() as usize)
        {
            let end = untyped.paddr.wrapping_add(1 << (untyped.size_bits & 63));
            if untyped.is_device == 1 && untyped.paddr <= paddr && paddr < end {
                found = Some((
                    self.boot_info.untyped.start + index as u64,
                    untyped.paddr,
                    u64::from(untyped.size_bits),
                ));
            }
        }
        let (mut cap, mut base, mut bits) = found?;
        // Halve the untyped until the page is at its start: the first half stays behind when the page is in the second.
        while bits > 12 {
            bits -= 1;
            let first = self.slots(2);
            if self.retype(cap, ObjectType::Untyped, bits, first, 2).label != 0 {
                return None;
            }
            if paddr >= base + (1 << bits) {
                cap = first + 1;
                base += 1 << bits;
            } else {
                cap = first;
            }
        }
        Some(cap)
    }

    fn map_uart(&mut self) {
        let Some(cap) = self.device(uart::UART_PADDR) else {
            return;
        };
        let frame = self.slot();
        if self.retype(cap, ObjectType::SmallPage, 0, frame, 1).label != 0 {
            return;
        }
        let vaddr = self.window(4096);
        if self
            .map(
                frame,
                init_slot::VSPACE,
                vaddr,
                CapRights::READ_WRITE,
                vm_attributes::EXECUTE_NEVER,
            )
            .label
            == 0
        {
            uart::use_uart(vaddr);
        }
    }

    /// A scheduling context with this budget and period in microseconds.
    pub fn sched_context(&mut self, budget_us: u64, period_us: u64) -> u64 {
        let context = self.object(ObjectType::SchedContext, 8);
        check(
            "SchedControl_ConfigureFlags",
            self.invoke(
                self.boot_info.schedcontrol.start,
                Invocation::SchedControlConfigureFlags,
                &[budget_us, period_us, 0, 0, 0],
                &[context],
            ),
        );
        context
    }

    /// TCB_WriteRegisters, all of them, without resuming.
    pub fn write_registers(&self, tcb: u64, registers: &UserContext) {
        let mut words = [0; USER_CONTEXT_WORDS + 2];
        words[1] = USER_CONTEXT_WORDS as u64;
        words[2..].copy_from_slice(&registers.to_words());
        check(
            "TCB_WriteRegisters",
            self.invoke(tcb, Invocation::TcbWriteRegisters, &words, &[]),
        );
    }

    /// TCB_Resume.
    pub fn resume(&self, tcb: u64) {
        check(
            "TCB_Resume",
            self.invoke(tcb, Invocation::TcbResume, &[], &[]),
        );
    }

    /// TCB_SetPriority of the root task itself.
    pub fn set_own_priority(&self, priority: u64) {
        check(
            "TCB_SetPriority",
            self.invoke(
                init_slot::TCB,
                Invocation::TcbSetPriority,
                &[priority],
                &[init_slot::TCB],
            ),
        );
    }

    /// A thread in this address space and CSpace that runs `entry(argument)`, which must not return. Started.
    pub fn spawn(
        &mut self,
        spec: ThreadSpec,
        entry: extern "C" fn(u64) -> !,
        argument: u64,
    ) -> u64 {
        let tcb = self.thread(spec, entry, argument);
        self.resume(tcb);
        tcb
    }

    /// As [`Self::spawn`], not started.
    pub fn thread(
        &mut self,
        spec: ThreadSpec,
        entry: extern "C" fn(u64) -> !,
        argument: u64,
    ) -> u64 {
        let tcb = self.object(ObjectType::Tcb, 0);
        let buffer_frame = self.object(ObjectType::SmallPage, 0);
        let buffer = self.map_here(buffer_frame);
        let mut top = 0;
        for _ in 0..STACK_BYTES / 4096 {
            let frame = self.object(ObjectType::SmallPage, 0);
            top = self.map_here(frame) + 4096;
        }
        // Fault endpoint 0 is the null slot.
        check(
            "TCB_Configure",
            self.invoke(
                tcb,
                Invocation::TcbConfigure,
                &[0, 0, buffer],
                &[init_slot::CNODE, init_slot::VSPACE, buffer_frame],
            ),
        );
        let context = spec
            .budget_us
            .map_or(0, |budget| self.sched_context(budget, budget));
        check(
            "TCB_SetSchedParams",
            self.invoke(
                tcb,
                Invocation::TcbSetSchedParams,
                &[spec.priority, spec.priority],
                &[init_slot::TCB, context, spec.fault_endpoint],
            ),
        );
        check(
            "TCB_SetFlags",
            self.invoke(tcb, Invocation::TcbSetFlags, &[0, spec.flags], &[]),
        );
        let registers = UserContext {
            pc: entry as usize as u64,
            sp: top,
            x0: argument,
            tpidr_el0: buffer,
            ..UserContext::default()
        };
        self.write_registers(tcb, &registers);
        tcb
    }
}
