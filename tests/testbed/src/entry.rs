//! The first instructions: the kernel starts a root task without a stack.

#![allow(unsafe_code)]

use crate::env::Env;
use core::arch::global_asm;
use core::panic::PanicInfo;

/// Bytes of the root task's stack.
const STACK_BYTES: usize = 128 * 1024;

#[repr(C, align(16))]
struct Stack(core::cell::UnsafeCell<[u8; STACK_BYTES]>);
// SAFETY: only the assembly below takes its address, once, as the stack of the only thread that starts there.
unsafe impl Sync for Stack {}
static STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK_BYTES]));

global_asm!(
    ".section .text.start, \"ax\"",
    ".global _start",
    "_start:",
    "    adrp x1, {stack}",
    "    add  x1, x1, :lo12:{stack}",
    "    ldr  x2, ={bytes}",
    "    add  sp, x1, x2",
    "    mov  x29, xzr",
    "    mov  x30, xzr",
    "    bl   {main}",
    "1:  b 1b",
    stack = sym STACK,
    bytes = const STACK_BYTES,
    main = sym start,
);

unsafe extern "Rust" {
    /// The test program, named by [`crate::root_task!`].
    safe fn testbed_main(env: &mut Env);
    /// What it wants to know before anything is set up.
    safe fn testbed_before() -> u64;
}

extern "C" fn start(boot_info: u64) -> ! {
    let before = testbed_before();
    let mut env = Env::new(boot_info, before);
    testbed_main(&mut env);
    crate::println!("testbed: the end");
    stop()
}

/// Names the function that the root task runs: `root_task!(main)` with `fn main(env: &mut Env)`. With `before = first`,
/// `fn first() -> u64` runs before anything else, and `Env::before` tells its result.
#[macro_export]
macro_rules! root_task {
    ($main:path) => {
        $crate::root_task!($main, before = u64::default);
    };
    ($main:path, before = $before:path) => {
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "Rust" fn testbed_main(env: &mut $crate::Env) {
            $main(env);
        }

        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "Rust" fn testbed_before() -> u64 {
            $before()
        }
    };
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    crate::println!("testbed: panic: {info}");
    crate::println!("0 passed, 1 failed");
    stop()
}

/// Gives the processor away for ever.
pub(crate) fn stop() -> ! {
    loop {
        sel4_sys::syscall::yield_now();
    }
}
