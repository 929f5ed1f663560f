//! Threads that make any system call with any registers, on command.
//!
//! A puppet waits for its notification, makes the system call that was written down for it, writes down what came back and waits
//! again. It runs in the root task's address space with a capability space of its own, of which it uses the slot [`GO`].

#![allow(unsafe_code)]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use sel4_sys::{IpcBuffer, syscall};

/// How many there can be.
pub const PUPPETS: usize = 4;
/// x0 to x8: all that system calls read or write.
pub const REGISTERS: usize = 9;
/// Where in its capability space a puppet finds the notification that it waits for.
pub const GO: u64 = 1;

struct Script {
    input: [AtomicU64; REGISTERS],
    output: [AtomicU64; REGISTERS],
    finished: AtomicU64,
}

static SCRIPTS: [Script; PUPPETS] = [const {
    Script {
        input: [const { AtomicU64::new(0) }; REGISTERS],
        output: [const { AtomicU64::new(0) }; REGISTERS],
        finished: AtomicU64::new(0),
    }
}; PUPPETS];

/// Where a puppet's thread begins, with its number as the argument.
pub extern "C" fn entry(puppet: u64) -> ! {
    let script = &SCRIPTS[puppet as usize % PUPPETS];
    loop {
        syscall::wait(GO);
        let mut x = [0; REGISTERS];
        for (register, word) in x.iter_mut().zip(&script.input) {
            *register = word.load(Ordering::SeqCst);
        }
        system_call(&mut x);
        for (register, word) in x.iter().zip(&script.output) {
            word.store(*register, Ordering::SeqCst);
        }
        script.finished.fetch_add(1, Ordering::SeqCst);
    }
}

#[inline(never)]
fn system_call(x: &mut [u64; REGISTERS]) {
    let [x0, x1, x2, x3, x4, x5, x6, x7, x8] = x;
    // SAFETY: the kernel changes registers that are declared here, this thread's IPC buffer, and what the capabilities in its own
    // capability space allow; none of them is to memory that Rust knows of.
    unsafe {
        asm!(
            "svc #0",
            inout("x0") * x0,
            inout("x1") * x1,
            inout("x2") * x2,
            inout("x3") * x3,
            inout("x4") * x4,
            inout("x5") * x5,
            inout("x6") * x6,
            inout("x7") * x7,
            inout("x8") * x8,
            options(nostack)
        );
    }
}

/// Writes down a puppet's next system call.
pub fn write(puppet: usize, x: [u64; REGISTERS]) {
    for (word, register) in SCRIPTS[puppet].input.iter().zip(x) {
        word.store(register, Ordering::SeqCst);
    }
}

/// How many system calls a puppet has made and come back from, and the registers after the last.
#[must_use]
pub fn read(puppet: usize) -> (u64, [u64; REGISTERS]) {
    let script = &SCRIPTS[puppet];
    let mut x = [0; REGISTERS];
    for (register, word) in x.iter_mut().zip(&script.output) {
        *register = word.load(Ordering::SeqCst);
    }
    (script.finished.load(Ordering::SeqCst), x)
}

/// A frame that the testbed mapped to be a puppet's IPC buffer.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// Where it is mapped.
    pub vaddr: u64,
    /// The capability to the frame.
    pub frame: u64,
}

impl Buffer {
    /// What is in it now.
    #[must_use]
    pub fn get(self) -> IpcBuffer {
        // SAFETY: `Env::buffer` mapped it for good; who uses it is a thread that does not run now.
        unsafe { core::ptr::read_volatile(self.vaddr as *const IpcBuffer) }
    }

    /// Fills it.
    pub fn set(self, content: &IpcBuffer) {
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(self.vaddr as *mut IpcBuffer, *content) };
    }
}

impl crate::Env {
    /// A frame for the IPC buffer of a thread that others want to look at.
    pub fn buffer(&mut self) -> Buffer {
        let frame = self.object(sel4_sys::ObjectType::SmallPage, 0);
        Buffer {
            vaddr: self.map_here(frame),
            frame,
        }
    }
}
