//! What only the root task has: the kernel's boot information, and the bundle behind its image.

use sel4_sys::BootInfo;

/// What the kernel and the build gave the root task.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// The bootinfo frame.
    pub info: &'static BootInfo,
    /// The extra bootinfo behind it: a sequence of headers with contents.
    pub extra: &'static [u8],
    /// The pages behind the image proper, from [`protocol::layout::BUNDLE_VADDR`] to the image's end; empty when the
    /// image ends before.
    pub bundle: &'static [u8],
}

/// Writes characters to a debug kernel's console. On a release kernel this ends the caller with a fault.
pub fn debug_text(text: &str) {
    for byte in text.bytes() {
        crate::arch::debug_put_char(byte);
    }
}

/// Registers of a further thread of the root task that runs `body`: `index` is its number from 1 on, `buffer_vaddr` its IPC
/// buffer, `stack_top` the end of its stack. A `body` that returns ends its thread with a fault.
#[must_use]
pub fn thread_registers(
    index: u64,
    body: extern "C" fn(),
    buffer_vaddr: u64,
    stack_top: u64,
) -> sel4_sys::UserContext {
    #[cfg(target_os = "none")]
    let pc = crate::entry::root_thread_address();
    #[cfg(not(target_os = "none"))]
    let pc = 0;
    sel4_sys::UserContext {
        pc,
        sp: stack_top,
        x0: index,
        x1: body as usize as u64,
        x2: buffer_vaddr,
        ..sel4_sys::UserContext::default()
    }
}

/// Ends the root task, which nobody hears of.
pub fn stop() -> ! {
    crate::arch::fault()
}

/// Reads what the kernel left for the root task.
///
/// # Safety
/// `info` is the address of the bootinfo frame as the kernel gave it in x0, followed by `extra_len` mapped bytes at the
/// next page; nobody writes either any more; called on the target once, before anything is mapped or unmapped.
#[cfg(target_os = "none")]
pub(crate) unsafe fn boot(info: u64) -> Option<Boot> {
    use protocol::layout::{BUNDLE_VADDR, ROOT_TASK_VADDR};
    use sel4_sys::BOOT_INFO_FRAME_BYTES;

    let pointer = core::ptr::NonNull::new(info as *mut BootInfo)?;
    // SAFETY: the caller says that the frame is mapped and constant; every bit pattern is a BootInfo.
    let info_ref: &'static BootInfo = unsafe { pointer.as_ref() };
    let extra_start = (info + BOOT_INFO_FRAME_BYTES as u64) as *const u8;
    let extra_len = usize::try_from(info_ref.extra_len).ok()?;
    // SAFETY: the kernel maps the extra bootinfo right behind the bootinfo frame, `extra_len` bytes (seL4 manual 9.1).
    let extra = unsafe { core::slice::from_raw_parts(extra_start, extra_len) };
    let image_end = ROOT_TASK_VADDR + info_ref.user_image_frames.len() * 4096;
    let bundle_len = usize::try_from(image_end.saturating_sub(BUNDLE_VADDR)).ok()?;
    // SAFETY: the image is mapped contiguously from its first address with one frame for each 4 KiB (seL4 manual 9, fixed
    // slots); the linker script ends the image proper below BUNDLE_VADDR, so that no Rust object lies there, and the
    // bundle is never written.
    let bundle = unsafe { core::slice::from_raw_parts(BUNDLE_VADDR as *const u8, bundle_len) };
    Some(Boot {
        info: info_ref,
        extra,
        bundle,
    })
}
