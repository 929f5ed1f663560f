//! Invocations of kernel objects with any label and arguments; the invariants hold after each.
#![no_main]

use kernel_core::check::fixture::{World, slots};
use libfuzzer_sys::fuzz_target;
use sel4_sys::{Invocation, ObjectType};

/// Memory of the fake machine: little, since all of it is looked at after each invocation.
const MEMORY_BYTES: u64 = 256 << 10;
/// Invocations of one input.
const MOST: usize = 48;
/// Bytes of one invocation: slot, label, number of words, two extra capabilities, the words.
const STEP_BYTES: usize = 5 + 6 * 2;

fuzz_target!(|bytes: &[u8]| {
    let world = World::with_memory(MEMORY_BYTES);
    // One of everything, so that labels meet an object.
    for (n, (kind, bits)) in [
        (ObjectType::Untyped, 14),
        (ObjectType::Tcb, 0),
        (ObjectType::Endpoint, 0),
        (ObjectType::Notification, 0),
        (ObjectType::CapTable, 4),
        (ObjectType::SchedContext, 8),
        (ObjectType::Reply, 0),
        (ObjectType::SmallPage, 0),
        (ObjectType::PageTable, 0),
        (ObjectType::VSpace, 0),
        (ObjectType::Vcpu, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let _ = world.retype(slots::RAM, kind, bits, slots::FREE + n as u64, 1);
    }
    for step in bytes.chunks_exact(STEP_BYTES).take(MOST) {
        let (head, rest) = step.split_at(5);
        let words: Vec<u64> = rest
            .chunks_exact(2)
            .take(usize::from(head[2] % 7))
            .map(|pair| {
                let word = u64::from(u16::from_le_bytes([pair[0], pair[1]]));
                // Small numbers, and now and then one with high bits.
                if word & 0x8000 == 0 {
                    word
                } else {
                    word << 48 | word
                }
            })
            .collect();
        let Some(label) = Invocation::from_word(u64::from(head[1] % 80)) else {
            continue;
        };
        let extra = [u64::from(head[3] % 64), u64::from(head[4] % 64)];
        let _ = world.call_once(u64::from(head[0] % 64), label, &words, &extra);
        if let Err(broken) = world.check() {
            panic!("after {label:?}: {broken}");
        }
    }
});
