//! The running thread's side of the kernel: its IPC buffer and the system calls.
//!
//! The only module with `unsafe`. A component thread's TPIDR_EL0 holds the address of its IPC buffer; the runtime
//! writes it before any other code of the thread runs, and nothing else ever writes it. The buffer is one page that
//! the thread's creator mapped read-write for this thread alone; it outlives the thread.

#[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
pub use host::*;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
pub use target::*;

/// What came back from a system call: registers only.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Badge.
    pub badge: u64,
    /// Information word.
    pub info: sel4_sys::MessageInfo,
    /// First four words.
    pub words: [u64; 4],
}

#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod target {
    use super::Answer;
    use crate::Error;
    use core::arch::asm;
    use sel4_sys::syscall::{self, Registers};
    use sel4_sys::{FAST_MESSAGE_REGISTERS, IpcBuffer, MSG_MAX_LENGTH, MessageInfo};

    impl From<Registers> for Answer {
        #[inline(always)]
        fn from(registers: Registers) -> Self {
            Self {
                badge: registers.badge,
                info: registers.info,
                words: registers.words,
            }
        }
    }

    #[inline(always)]
    fn buffer() -> *mut IpcBuffer {
        let address: u64;
        // SAFETY: reads a register that EL0 may read; it has no side effect.
        unsafe {
            asm!("mrs {}, tpidr_el0", out(reg) address, options(nomem, nostack, preserves_flags));
        }
        address as *mut IpcBuffer
    }

    /// Writes message words from the fifth on. `index` is the position of the first of `words` in the message.
    #[inline]
    pub fn put_words(index: usize, words: &[u64]) {
        let buffer = buffer();
        for (offset, word) in words.iter().enumerate() {
            if index + offset < MSG_MAX_LENGTH {
                // SAFETY: (1) TPIDR_EL0 holds this thread's mapped IPC buffer (module invariant); (2) the index is
                // below the array's length; (3) no reference to the buffer exists anywhere, so nothing aliases.
                unsafe { (&raw mut (*buffer).msg[index + offset]).write_volatile(*word) };
            }
        }
    }

    /// Message word `index` as the last receive left it in the buffer; 0 past the end.
    #[inline]
    pub fn get_word(index: usize) -> u64 {
        if index >= MSG_MAX_LENGTH {
            return 0;
        }
        // SAFETY: as in `put_words`; the kernel writes the buffer only inside this thread's system calls.
        unsafe { (&raw const (*buffer()).msg[index]).read_volatile() }
    }

    /// Puts the pointers of capabilities to send; more than three are ignored.
    #[inline]
    pub fn put_caps(caps: &[u64]) {
        let buffer = buffer();
        for (index, cap) in caps.iter().enumerate().take(3) {
            // SAFETY: as in `put_words`; the index is below 3.
            unsafe { (&raw mut (*buffer).caps_or_badges[index]).write_volatile(*cap) };
        }
    }

    /// The badge of unwrapped capability `index`; 0 past the third.
    #[inline]
    pub fn get_badge(index: usize) -> u64 {
        if index >= 3 {
            return 0;
        }
        // SAFETY: as in `get_word`; the index is below 3.
        unsafe { (&raw const (*buffer()).caps_or_badges[index]).read_volatile() }
    }

    /// Says where a received capability goes.
    pub fn put_receive_path(root: u64, index: u64, depth: u64) {
        let buffer = buffer();
        // SAFETY: as in `put_words`, for three fields of the buffer.
        unsafe {
            (&raw mut (*buffer).receive_cnode).write_volatile(root);
            (&raw mut (*buffer).receive_index).write_volatile(index);
            (&raw mut (*buffer).receive_depth).write_volatile(depth);
        }
    }

    /// Puts a message where the kernel looks for it: returns its information word and register words.
    #[inline(always)]
    fn stage(label: u64, words: &[u64], caps: &[u64]) -> Result<(MessageInfo, [u64; 4]), Error> {
        if words.len() > MSG_MAX_LENGTH || caps.len() > sel4_sys::MSG_MAX_EXTRA_CAPS {
            return Err(Error::TooLong);
        }
        let mut first = [0; FAST_MESSAGE_REGISTERS];
        for (register, word) in first.iter_mut().zip(words) {
            *register = *word;
        }
        if let Some(rest) = words.get(FAST_MESSAGE_REGISTERS..) {
            put_words(FAST_MESSAGE_REGISTERS, rest);
        }
        put_caps(caps);
        let info = MessageInfo::new(label, 0, caps.len() as u64, words.len() as u64);
        Ok((info, first))
    }

    /// Call.
    #[inline(always)]
    pub fn call(dest: u64, label: u64, words: &[u64], caps: &[u64]) -> Result<Answer, Error> {
        let (info, first) = stage(label, words, caps)?;
        Ok(syscall::call(dest, info, first).into())
    }

    /// Send.
    #[inline(always)]
    pub fn send(dest: u64, label: u64, words: &[u64], caps: &[u64]) -> Result<(), Error> {
        let (info, first) = stage(label, words, caps)?;
        syscall::send(dest, info, first);
        Ok(())
    }

    /// NBSend.
    #[inline(always)]
    pub fn nb_send(dest: u64, label: u64, words: &[u64], caps: &[u64]) -> Result<(), Error> {
        let (info, first) = stage(label, words, caps)?;
        syscall::nb_send(dest, info, first);
        Ok(())
    }

    /// ReplyRecv.
    #[inline(always)]
    pub fn reply_recv(
        src: u64,
        label: u64,
        words: &[u64],
        caps: &[u64],
        reply: u64,
    ) -> Result<Answer, Error> {
        let (info, first) = stage(label, words, caps)?;
        Ok(syscall::reply_recv(src, info, first, reply).into())
    }

    /// Recv.
    #[inline(always)]
    pub fn recv(src: u64, reply: u64) -> Result<Answer, Error> {
        Ok(syscall::recv(src, reply).into())
    }

    /// NBRecv.
    #[inline(always)]
    pub fn nb_recv(src: u64, reply: u64) -> Result<Answer, Error> {
        Ok(syscall::nb_recv(src, reply).into())
    }

    /// Wait.
    #[inline(always)]
    pub fn wait(src: u64) -> Result<Answer, Error> {
        Ok(syscall::wait(src).into())
    }

    /// NBWait.
    #[inline(always)]
    pub fn poll(src: u64) -> Result<Answer, Error> {
        Ok(syscall::nb_wait(src).into())
    }

    /// Signal.
    #[inline(always)]
    pub fn signal(dest: u64) {
        syscall::signal(dest);
    }

    /// Yield.
    #[inline(always)]
    pub fn yield_now() {
        syscall::yield_now();
    }
}

#[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
#[allow(missing_docs, clippy::missing_errors_doc, clippy::must_use_candidate)]
mod host {
    //! The same functions where there is no kernel.
    use super::Answer;
    use crate::Error;

    pub fn get_word(_: usize) -> u64 {
        0
    }
    pub fn get_badge(_: usize) -> u64 {
        0
    }
    pub fn put_receive_path(_: u64, _: u64, _: u64) {}
    pub fn call(_: u64, _: u64, _: &[u64], _: &[u64]) -> Result<Answer, Error> {
        Err(Error::NotHere)
    }
    pub fn send(_: u64, _: u64, _: &[u64], _: &[u64]) -> Result<(), Error> {
        Err(Error::NotHere)
    }
    pub fn nb_send(_: u64, _: u64, _: &[u64], _: &[u64]) -> Result<(), Error> {
        Err(Error::NotHere)
    }
    pub fn reply_recv(_: u64, _: u64, _: &[u64], _: &[u64], _: u64) -> Result<Answer, Error> {
        Err(Error::NotHere)
    }
    pub fn recv(_: u64, _: u64) -> Result<Answer, Error> {
        Err(Error::NotHere)
    }
    pub fn nb_recv(_: u64, _: u64) -> Result<Answer, Error> {
        Err(Error::NotHere)
    }
    pub fn wait(_: u64) -> Result<Answer, Error> {
        Err(Error::NotHere)
    }
    pub fn poll(_: u64) -> Result<Answer, Error> {
        Err(Error::NotHere)
    }
    pub fn signal(_: u64) {}
    pub fn yield_now() {}
}

/// Invokes a kernel object: Call, and the answer's label checked. Returns the answer's first words.
#[inline(always)]
pub fn invoke(
    cap: u64,
    label: sel4_sys::Invocation,
    words: &[u64],
    caps: &[u64],
) -> Result<[u64; 4], crate::Error> {
    let answer = call(cap, label.word(), words, caps)?;
    crate::Error::check(answer.info, answer.words)?;
    Ok(answer.words)
}
