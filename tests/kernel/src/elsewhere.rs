//! Tests of what this kernel does otherwise than seL4, on purpose: they are left out on another kernel, each with the reason.
//! The book's chapter on the kernel says more about each (a test holds it to that).

use sel4_sys::{Invocation, ObjectType, tcb_flags};
use testbed::Env;

/// The tests' names, and why seL4 answers otherwise.
pub const DIFFERENT: &[(&str, &str)] = &[
    (
        "boot_info_has_no_room_behind_the_device_tree",
        "the tree is passed on as the loader gave it there",
    ),
    #[cfg(feature = "debug")]
    (
        "debug_snapshot_comes_back",
        "it ends with a failed assertion there",
    ),
    (
        "guest_read_is_finished_by_the_answer",
        "answers that finish an instruction are this kernel's own",
    ),
    (
        "guest_rests_until_its_timer_is_due",
        "answers that let a guest rest are this kernel's own",
    ),
    (
        "guest_rests_until_an_interrupt",
        "answers that let a guest rest are this kernel's own",
    ),
    (
        "guest_cannot_touch_debug_and_monitor_registers",
        "such an access is a VCPUFault there",
    ),
    (
        "guest_injected_list_register_is_taken_once",
        "a list register in use is overwritten there",
    ),
    (
        "guest_hvc_is_never_a_system_call",
        "a guest's HVC is a system call there when its x7 is a number of one",
    ),
];

/// Whether the kernel is another than ours: ours has a flag that seL4 does not have, and says so when it is set.
pub fn is_elsewhere(env: &mut Env) -> bool {
    let tcb = env.object(ObjectType::Tcb, 0);
    let words = [0, tcb_flags::EMULATED];
    let flags = env.invoke(tcb, Invocation::TcbSetFlags, &words, &[]);
    flags.words[0] & tcb_flags::EMULATED == 0
}

/// Why a test is left out on another kernel.
pub fn reason(name: &str) -> Option<&'static str> {
    DIFFERENT
        .iter()
        .find(|(different, _)| *different == name)
        .map(|(_, reason)| *reason)
}
