//! A driver's device registers.

use core::mem::{align_of, size_of};
use core::sync::atomic::{AtomicBool, Ordering};
use protocol::layout::DEVICE_VADDR;
use safe_mmio::UniqueMmioPointer;
use zerocopy::FromBytes;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The registers of the device whose page the root task mapped at [`DEVICE_VADDR`]; `None` the second time. A component
/// that was given no device faults when it uses them.
#[must_use]
pub fn registers<T: FromBytes>() -> Option<UniqueMmioPointer<'static, T>> {
    const {
        assert!(size_of::<T>() <= 4096 && align_of::<T>() <= 4096);
    }
    if cfg!(not(target_os = "none")) || TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    let pointer = core::ptr::NonNull::new(DEVICE_VADDR as *mut T)?;
    // SAFETY: (1) DEVICE_VADDR is page-aligned and the page holds device registers or nothing, in which case an access
    // is a fault of this component and not undefined; (2) T fits the page and every bit pattern is a T; (3) the flag
    // makes this the only pointer to them, for ever; (4) no Rust object lies there (`protocol::layout`).
    Some(unsafe { UniqueMmioPointer::new(pointer) })
}
