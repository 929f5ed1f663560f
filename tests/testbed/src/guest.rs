//! Bare guests: a few instructions at EL1 in an address space of their own.

#![allow(unsafe_code)]

use crate::Env;
use crate::env::check;
use sel4_sys::{CapRights, Invocation, ObjectType, UserContext, init_slot, vm_attributes};

/// Where a bare guest's code lies in its address space.
pub const CODE_IPA: u64 = 0x4000_0000;
/// An address that is never mapped.
pub const HOLE_IPA: u64 = 0x0900_0000;

/// Instructions that bare guests are made of.
pub mod instruction {
    /// `hvc #0`
    pub const HVC: u32 = 0xd400_0002;
    /// `wfi`
    pub const WFI: u32 = 0xd503_207f;
    /// `nop`
    pub const NOP: u32 = 0xd503_201f;
    /// `ldr w1, [x2]`
    pub const LOAD_W1_X2: u32 = 0xb940_0041;
    /// `b .`
    pub const SELF: u32 = 0x1400_0000;
    /// `b .-4 * n`
    #[must_use]
    pub const fn back(instructions: u32) -> u32 {
        0x1400_0000 | (0x03ff_ffff & 0u32.wrapping_sub(instructions))
    }
}

/// A bare guest's capabilities.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// Its thread.
    pub tcb: u64,
    /// Its vCPU.
    pub vcpu: u64,
    /// Its address space.
    pub vspace: u64,
    /// The frame of its code; what is mapped is a copy.
    pub code: u64,
}

/// Answers a guest's HVC, or a thread's unknown system call: every register as it was, x0 to x7 included, and on at the next
/// instruction.
///
/// The answer to an UnknownSyscall fault copies registers back; the fault's "LR" word is the next program counter.
pub fn reply_to_hvc(reply: u64, fault: &sel4_sys::syscall::Registers) {
    use sel4_sys::unknown_syscall::{FAULT_IP, LR};
    let buffer = crate::ipc_buffer();
    // SAFETY: this thread's IPC buffer, where the kernel has just put the fault's words from the fifth on.
    unsafe { (*buffer).msg[FAULT_IP] = (*buffer).msg[LR] };
    let info = sel4_sys::MessageInfo::new(0, 0, 0, LR as u64 + 1);
    sel4_sys::syscall::send(reply, info, fault.words);
}

impl Env {
    /// A frame with `code` in it (at most 1024 instructions).
    fn written(&mut self, code: &[u32]) -> u64 {
        let frame = self.object(ObjectType::SmallPage, 0);
        let window = self.map_here(frame);
        for (index, word) in code.iter().enumerate().take(1024) {
            // SAFETY: `window` is 4 KiB just mapped for this, 1024 words.
            unsafe { core::ptr::write_volatile((window as *mut u32).add(index), *word) };
        }
        check(
            "Page_Unify",
            self.invoke(frame, Invocation::ArmPageUnifyInstruction, &[0, 4096], &[]),
        );
        frame
    }

    /// An address in this address space with `code` (at most 1024 instructions), to be executed.
    pub fn code(&mut self, code: &[u32]) -> u64 {
        let frame = self.written(code);
        let copy = self.copy(frame, CapRights::ALL);
        let vaddr = self.window(4096);
        check(
            "Page_Map",
            self.map(
                copy,
                init_slot::VSPACE,
                vaddr,
                CapRights::READ,
                vm_attributes::DEFAULT,
            ),
        );
        vaddr
    }

    /// Makes a guest that runs `code` at [`CODE_IPA`] with x2 = [`HOLE_IPA`]; its faults go to `fault_endpoint`. Not started.
    pub fn bare_guest(&mut self, code: &[u32], fault_endpoint: u64, priority: u64) -> Guest {
        let vspace = self.object(ObjectType::VSpace, 0);
        check(
            "ASIDPool_Assign",
            self.invoke(
                init_slot::ASID_POOL,
                Invocation::ArmAsidPoolAssign,
                &[],
                &[vspace],
            ),
        );
        for _ in 0..2 {
            let table = self.object(ObjectType::PageTable, 0);
            check(
                "PageTable_Map",
                self.invoke(
                    table,
                    Invocation::ArmPageTableMap,
                    &[CODE_IPA, vm_attributes::DEFAULT],
                    &[vspace],
                ),
            );
        }
        let frame = self.written(code);
        let copy = self.copy(frame, CapRights::ALL);
        check(
            "Page_Map",
            self.invoke(
                copy,
                Invocation::ArmPageMap,
                &[CODE_IPA, CapRights::ALL.0, vm_attributes::DEFAULT],
                &[vspace],
            ),
        );
        let tcb = self.object(ObjectType::Tcb, 0);
        let vcpu = self.object(ObjectType::Vcpu, 0);
        check(
            "VCPU_SetTCB",
            self.invoke(vcpu, Invocation::ArmVcpuSetTcb, &[], &[tcb]),
        );
        let empty = self.object(ObjectType::CapTable, 1);
        check(
            "TCB_SetSpace",
            self.invoke(
                tcb,
                Invocation::TcbSetSpace,
                &[0, 0],
                &[fault_endpoint, empty, vspace],
            ),
        );
        let context = self.sched_context(10_000, 10_000);
        check(
            "TCB_SetSchedParams",
            self.invoke(
                tcb,
                Invocation::TcbSetSchedParams,
                &[priority, priority],
                &[init_slot::TCB, context, fault_endpoint],
            ),
        );
        let registers = UserContext {
            pc: CODE_IPA,
            spsr: 0x3c5,
            x2: HOLE_IPA,
            ..UserContext::default()
        };
        self.write_registers(tcb, &registers);
        Guest {
            tcb,
            vcpu,
            vspace,
            code: frame,
        }
    }
}
