//! References into object memory.
//!
//! The one place where an address becomes a Rust reference. [`Ref`] is what the rest of the kernel uses; it is made from
//! fresh memory in [`Ref::create`], and afterwards only copied.

#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::num::NonZeroU64;
use core::ops::Deref;

/// A type that can be a kernel object: made of [`core::cell::Cell`]s (or atomically plain data), valid when all bytes are zero.
///
/// # Safety
/// All-zero bytes must be a valid value, the type must need no drop, and its size must not exceed the object size that retype reserves.
pub unsafe trait Object: Sized {}

/// A reference to a live kernel object. `Copy`, one word, never null, at least 16-byte aligned.
pub struct Ref<T>(NonZeroU64, PhantomData<*const T>);

impl<T> Clone for Ref<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Ref<T> {}
impl<T> PartialEq for Ref<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Ref<T> {}
impl<T> core::fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Ref({:#x})", self.0)
    }
}

impl<T: Object> Ref<T> {
    /// The reference to an object at `addr`.
    ///
    /// # Safety
    /// `addr` is the kernel address of a live `T` (or of zeroed memory of its size reserved for one), aligned for it.
    #[inline]
    #[must_use]
    pub const unsafe fn from_addr(addr: NonZeroU64) -> Self {
        Self(addr, PhantomData)
    }

    /// [`Self::from_addr`] for a word that may be zero.
    ///
    /// # Safety
    /// As for [`Self::from_addr`], unless `addr` is zero.
    #[inline]
    #[must_use]
    pub const unsafe fn from_word(addr: u64) -> Option<Self> {
        match NonZeroU64::new(addr) {
            Some(addr) => Some(Self(addr, PhantomData)),
            None => None,
        }
    }

    /// The kernel address.
    #[inline]
    #[must_use]
    pub const fn addr(self) -> u64 {
        self.0.get()
    }
}

impl<T: Object> Deref for Ref<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a `Ref` is made only by `from_addr`, whose caller vouches for a live, aligned `T`; it stays live as
        // long as anything holds the `Ref` (crate invariant 1). `T` consists of cells, so shared access is all there is.
        unsafe { &*core::ptr::with_exposed_provenance::<T>(self.0.get() as usize) }
    }
}
