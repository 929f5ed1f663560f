//! State of the one kernel thread of control.

#![allow(unsafe_code)]

/// A static that only the kernel's single thread of control reaches.
#[repr(transparent)]
pub struct Global<T>(T);

// SAFETY: the kernel runs on one core with interrupts masked from entry to exit, so there is no second thread of control and
// nothing is interrupted in the middle.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value.
    #[inline(always)]
    pub const fn get(&self) -> &T {
        &self.0
    }
}
