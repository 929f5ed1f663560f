//! The guest's thread and vCPU, by invocations.

use cap::{After, Error, Source, Tcb, Vcpu, VcpuReg};
use sel4_sys::USER_CONTEXT_WORDS;
use vmm_core::emulate::Registers;
use vmm_core::exits::Cpu;

/// The guest's CPU.
#[derive(Clone, Copy, Debug)]
pub struct GuestCpu {
    thread: Tcb,
    vcpu: Vcpu,
    ticks_per_ms: u64,
}

impl GuestCpu {
    /// Of a thread with its vCPU; `ticks_per_ms`: the counter's ticks in a millisecond, at least 1.
    pub const fn new(thread: Tcb, vcpu: Vcpu, ticks_per_ms: u64) -> Self {
        Self {
            thread,
            vcpu,
            ticks_per_ms,
        }
    }
}

impl Registers for GuestCpu {
    type Error = Error;

    fn read(&self, count: usize) -> Result<[u64; USER_CONTEXT_WORDS], Error> {
        Ok(self.thread.read_registers(Source::Keep, count)?.to_words())
    }

    fn write(&self, words: &[u64]) -> Result<(), Error> {
        self.thread.write_words(After::Keep, words)
    }
}

impl Cpu for GuestCpu {
    fn read_vcpu(&self, register: VcpuReg) -> Result<u64, Error> {
        self.vcpu.read_reg(register)
    }

    fn write_vcpu(&self, register: VcpuReg, value: u64) -> Result<(), Error> {
        self.vcpu.write_reg(register, value)
    }

    fn now_ticks(&self) -> u64 {
        rt::ticks()
    }

    fn now_ms(&self) -> u64 {
        rt::ticks() / self.ticks_per_ms
    }
}
