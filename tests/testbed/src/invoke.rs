//! Any invocation with any words, and this thread's IPC buffer.

#![allow(unsafe_code)]

use core::arch::asm;
use sel4_sys::{IpcBuffer, MessageInfo, syscall};

/// The answer to an invocation or a call.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The label: an error number for invocations (0: none).
    pub label: u64,
    /// Number of words.
    pub length: u64,
    /// The first four words.
    pub words: [u64; 4],
    /// The badge register.
    pub badge: u64,
}

impl Answer {
    /// The first word of a success.
    ///
    /// # Errors
    /// The error number.
    pub fn ok(self) -> Result<u64, u64> {
        if self.label == 0 {
            Ok(self.words[0])
        } else {
            Err(self.label)
        }
    }
}

/// This thread's IPC buffer.
#[must_use]
pub fn ipc_buffer() -> *mut IpcBuffer {
    let address: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) address, options(nomem, nostack)) };
    address as *mut IpcBuffer
}

/// Makes `address` this thread's IPC buffer for [`ipc_buffer`].
pub(crate) fn use_ipc_buffer(address: u64) {
    // SAFETY: TPIDR_EL0 is user level's own register.
    unsafe { asm!("msr tpidr_el0, {}", in(reg) address, options(nomem, nostack)) };
}

/// Word `n` of the message that was just received; zero beyond its longest.
#[must_use]
pub fn message_word(message: &syscall::Registers, n: usize) -> u64 {
    if let Some(word) = message.words.get(n) {
        return *word;
    }
    // SAFETY: as in `set_receive_slot`.
    unsafe { (*ipc_buffer()).msg.get(n).copied().unwrap_or(0) }
}

/// Where the next received capability goes.
pub fn set_receive_slot(root: u64, index: u64, depth: u64) {
    let buffer = ipc_buffer();
    // SAFETY: the buffer is mapped for this thread as long as it runs, and only this thread and the kernel use it.
    unsafe {
        (*buffer).receive_cnode = root;
        (*buffer).receive_index = index;
        (*buffer).receive_depth = depth;
    }
}

/// Calls `cap` with `label`, the words and the capabilities. At most 120 words and 3 capabilities; more are cut off.
pub fn invoke(cap: u64, label: u64, words: &[u64], caps: &[u64]) -> Answer {
    let mut first = [0; 4];
    for (slot, word) in first.iter_mut().zip(words) {
        *slot = *word;
    }
    if words.len() > 4 || !caps.is_empty() {
        let buffer = ipc_buffer();
        // SAFETY: as in `set_receive_slot`.
        unsafe {
            for (index, word) in words.iter().enumerate().take(120).skip(4) {
                (*buffer).msg[index] = *word;
            }
            for (index, cap) in caps.iter().enumerate().take(3) {
                (*buffer).caps_or_badges[index] = *cap;
            }
        }
    }
    let info = MessageInfo::new(
        label,
        0,
        caps.len().min(3) as u64,
        words.len().min(120) as u64,
    );
    let out = syscall::call(cap, info, first);
    Answer {
        label: out.info.label(),
        length: out.info.length(),
        words: out.words,
        badge: out.badge,
    }
}

/// [`invoke`] with a number of words and capabilities that is known where it is called: no more instructions than libsel4's
/// stubs, for measuring. More than 120 words or 3 capabilities do not compile.
#[inline(always)]
pub fn invoke_fixed<const W: usize, const C: usize>(
    cap: u64,
    label: u64,
    words: &[u64; W],
    caps: &[u64; C],
) -> Answer {
    const { assert!(W <= 120 && C <= 3) };
    let mut first = [0; 4];
    let mut index = 0;
    while index < W && index < 4 {
        first[index] = words[index];
        index += 1;
    }
    if W > 4 || C > 0 {
        let buffer = ipc_buffer();
        // SAFETY: as in `set_receive_slot`.
        unsafe {
            while index < W {
                (*buffer).msg[index] = words[index];
                index += 1;
            }
            let mut index = 0;
            while index < C {
                (*buffer).caps_or_badges[index] = caps[index];
                index += 1;
            }
        }
    }
    let info = MessageInfo::new(label, 0, C as u64, W as u64);
    let out = syscall::call(cap, info, first);
    Answer {
        label: out.info.label(),
        length: out.info.length(),
        words: out.words,
        badge: out.badge,
    }
}
