//! Copies from and to the guest's memory that survive when the memory is taken away meanwhile, and the guest's memory
//! as plain bytes while there is no guest yet.
//!
//! A copy that faults is ended by the VMM's fault thread, which finds by [`resume_after_fault`] that the fault was in
//! such a copy and where the thread goes on.

use crate::window::{GUEST, OutOfWindow, Window};
use core::sync::atomic::{AtomicBool, Ordering};

/// Why a guarded copy did not happen, or not wholly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyError {
    /// It would leave the window; nothing was copied.
    OutOfWindow(OutOfWindow),
    /// The memory was not there (any more); some of it may have been copied.
    Vanished,
}

impl Window {
    /// Copies from the window; survives that the memory vanishes. Two bytes at an even address travel in one access.
    ///
    /// # Errors
    /// [`CopyError`].
    #[inline]
    pub fn copy_out(self, offset: u64, into: &mut [u8]) -> Result<(), CopyError> {
        let from = self
            .check(offset, into.len() as u64)
            .map_err(CopyError::OutOfWindow)?;
        // SAFETY: (1) `into` is exclusive and as long as said; (2) `check` put the source inside the window, which is
        // mapped memory that holds no Rust object, or a fault that ends the copy.
        unsafe { routine::copy(into.as_mut_ptr(), from as *const u8, into.len()) }
    }

    /// Copies to the window; survives that the memory vanishes. Two bytes at an even address travel in one access.
    ///
    /// # Errors
    /// [`CopyError`].
    #[inline]
    pub fn copy_in(self, offset: u64, from: &[u8]) -> Result<(), CopyError> {
        let to = self
            .check(offset, from.len() as u64)
            .map_err(CopyError::OutOfWindow)?;
        // SAFETY: as in `copy_out`, the other way round.
        unsafe { routine::copy(to as *mut u8, from.as_ptr(), from.len()) }
    }
}

/// Where a thread that faulted at `pc` goes on, if it was in a guarded copy; the copy then ends with
/// [`CopyError::Vanished`]. `None` when the fault was anywhere else.
#[must_use]
pub fn resume_after_fault(pc: u64) -> Option<u64> {
    routine::landing(pc)
}

#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod routine {
    use super::CopyError;

    // x0 destination, x1 source, x2 bytes; returns 0, or 1 from the landing. It uses x0 to x4 only and no stack, so
    // that the caller's state is whole wherever it faults. Two bytes travel in one access: the rings of virtio have
    // 16-bit indices.
    core::arch::global_asm!(
        ".pushsection .text.ballast_guarded_copy, \"ax\"",
        ".p2align 4",
        ".global ballast_guarded_copy",
        ".type ballast_guarded_copy, @function",
        "ballast_guarded_copy:",
        "cmp x2, #2",
        "b.ne 1f",
        "ldrh w3, [x1]",
        "strh w3, [x0]",
        "b 4f",
        "1: subs x2, x2, #16",
        "b.lo 2f",
        "ldp x3, x4, [x1], #16",
        "stp x3, x4, [x0], #16",
        "b 1b",
        // x2 is the rest less 16.
        "2: adds x2, x2, #8",
        "b.mi 3f",
        "ldr x3, [x1], #8",
        "str x3, [x0], #8",
        "sub x2, x2, #8",
        // x2 is the rest less 8.
        "3: adds x2, x2, #8",
        "b.eq 4f",
        "5: ldrb w3, [x1], #1",
        "strb w3, [x0], #1",
        "subs x2, x2, #1",
        "b.ne 5b",
        "4: mov x0, #0",
        "ret",
        ".global ballast_guarded_landing",
        "ballast_guarded_landing:",
        "mov x0, #1",
        "ret",
        ".size ballast_guarded_copy, . - ballast_guarded_copy",
        ".popsection",
    );

    unsafe extern "C" {
        fn ballast_guarded_copy(to: *mut u8, from: *const u8, bytes: usize) -> u64;
        fn ballast_guarded_landing();
    }

    /// # Safety
    /// Each of the two ranges is either a Rust object that the caller may access so, or lies in a window.
    #[inline]
    pub unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), CopyError> {
        // SAFETY: the caller's promise; the routine touches nothing else and keeps the calling convention.
        match unsafe { ballast_guarded_copy(to, from, bytes) } {
            0 => Ok(()),
            _ => Err(CopyError::Vanished),
        }
    }

    pub fn landing(pc: u64) -> Option<u64> {
        let first = ballast_guarded_copy as *const () as u64;
        let landing = ballast_guarded_landing as *const () as u64;
        (first..landing).contains(&pc).then_some(landing)
    }
}

#[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
mod routine {
    use super::CopyError;

    /// # Safety
    /// Both ranges may be accessed so.
    pub unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), CopyError> {
        // SAFETY: the caller's promise.
        unsafe { core::ptr::copy(from, to, bytes) };
        Ok(())
    }

    pub fn landing(_: u64) -> Option<u64> {
        None
    }
}

static STAGING_TAKEN: AtomicBool = AtomicBool::new(false);

/// The guest's memory while there is no guest yet: plain bytes, to unpack its kernel into.
///
/// It is given out once per component, and the vCPU's thread must not be started before it is dropped: until then
/// nobody else has the memory. The VMM's start does nothing else.
#[derive(Debug)]
pub struct Staging(());

impl Staging {
    /// The one value; `None` the second time and on a host.
    #[must_use]
    pub fn claim() -> Option<Self> {
        if cfg!(not(target_os = "none")) || STAGING_TAKEN.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(Self(()))
    }

    /// `len` bytes from intermediate physical address `ipa` on. Memory that is not mapped in the window faults on use.
    pub fn bytes(&mut self, ipa: u64, len: u64) -> Option<&mut [u8]> {
        let vaddr = GUEST.check(ipa, len).ok()?;
        let len = usize::try_from(len).ok()?;
        // SAFETY: (1) inside the window, which holds no Rust object of its own; (2) exclusive: `claim` gives out one
        // value, the borrow is of all of it, and no vCPU runs yet (type documentation); (3) every byte is a u8; (4) not
        // null, because the window begins far above 0.
        Some(unsafe { core::slice::from_raw_parts_mut(vaddr as *mut u8, len) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_the_window_and_a_host_has_no_guest() {
        let end = GUEST.bytes();
        assert!(matches!(
            GUEST.copy_in(end - 2, b"abc"),
            Err(CopyError::OutOfWindow(_))
        ));
        assert!(matches!(
            GUEST.copy_out(u64::MAX, &mut [0; 3]),
            Err(CopyError::OutOfWindow(_))
        ));
        assert_eq!(resume_after_fault(0x20_0000), None);
        assert!(Staging::claim().is_none());
    }
}
