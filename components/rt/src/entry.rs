//! The first instructions of a thread.

use crate::log;
use core::arch::naked_asm;
use protocol::startup::Startup;

unsafe extern "Rust" {
    /// The component's threads; defined by `component!`.
    safe fn ballast_component_thread(index: u64, startup: Startup);
    /// The root task; defined by `root_task!`.
    safe fn ballast_root_task(boot: crate::root::Boot);
}

/// Bytes of the startup page that are looked at.
const STARTUP_BYTES: usize = 4096;
/// Bytes of the root task's stack.
const ROOT_STACK_BYTES: usize = 128 * 1024;
/// Offset of the IPC buffer's address in the bootinfo frame.
const IPC_BUFFER_OFFSET: usize = core::mem::offset_of!(sel4_sys::BootInfo, ipc_buffer);
/// Offset of the user word in an IPC buffer.
const USER_WORD_OFFSET: usize = core::mem::offset_of!(sel4_sys::IpcBuffer, user_data);

/// Entry of every component thread: x0 index, x1 startup page, x2 IPC buffer, sp stack.
///
/// # Safety
/// Only the root task starts a thread here, with those registers.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        "msr tpidr_el0, x2",
        "str x0, [x2, #{user_word}]",
        "mov x29, xzr",
        "mov x30, xzr",
        "b {begin}",
        user_word = const USER_WORD_OFFSET,
        begin = sym begin,
    )
}

extern "C" fn begin(index: u64, startup: u64) -> ! {
    // SAFETY: the root task maps the startup page before it starts the thread, read-only and for ever.
    let page = unsafe { core::slice::from_raw_parts(startup as *const u8, STARTUP_BYTES) };
    match postcard::take_from_bytes::<Startup>(page) {
        Ok((startup, _)) => {
            log::route_for(&startup.role);
            ballast_component_thread(index, startup);
            crate::fail("a thread of this component returned");
        }
        Err(_) => crate::fail("the startup page does not decode"),
    }
}

#[repr(C, align(16))]
struct RootStack(core::cell::UnsafeCell<[u8; ROOT_STACK_BYTES]>);

// SAFETY: only the entry below takes its address, as the stack of the one thread that runs there.
unsafe impl Sync for RootStack {}

static ROOT_STACK: RootStack = RootStack(core::cell::UnsafeCell::new([0; ROOT_STACK_BYTES]));

/// Entry of the root task: x0 bootinfo, no stack.
///
/// # Safety
/// Only the kernel starts a thread here.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _root_start() -> ! {
    naked_asm!(
        "adrp x1, {stack}",
        "add x1, x1, :lo12:{stack}",
        "mov x2, #{stack_bytes}",
        "add sp, x1, x2",
        "ldr x2, [x0, #{ipc_buffer}]",
        "msr tpidr_el0, x2",
        "str xzr, [x2, #{user_word}]",
        "mov x29, xzr",
        "mov x30, xzr",
        "b {begin}",
        stack = sym ROOT_STACK,
        stack_bytes = const ROOT_STACK_BYTES,
        ipc_buffer = const IPC_BUFFER_OFFSET,
        user_word = const USER_WORD_OFFSET,
        begin = sym begin_root,
    )
}

extern "C" fn begin_root(info: u64) -> ! {
    // SAFETY: the kernel's x0, on the one way into the root task, before anything else happened.
    if let Some(boot) = unsafe { crate::root::boot(info) } {
        ballast_root_task(boot);
    }
    crate::fail("the root task returned");
}

/// Entry of the root task's other threads: x0 index, x1 the function, x2 IPC buffer, sp stack.
///
/// # Safety
/// Only the root task's first thread starts a thread here, with those registers; x1 is an `extern "C" fn()`.
#[unsafe(naked)]
unsafe extern "C" fn root_thread() -> ! {
    naked_asm!(
        "msr tpidr_el0, x2",
        "str x0, [x2, #{user_word}]",
        "mov x29, xzr",
        "mov x30, xzr",
        "blr x1",
        "udf #0",
        user_word = const USER_WORD_OFFSET,
    )
}

/// Address of [`root_thread`].
pub(crate) fn root_thread_address() -> u64 {
    root_thread as *const () as u64
}
