//! The device tree of the board: whatever is in it, kernel, boot stage and root task read it or refuse it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use machine::describe::describe;
use machine::fdt::Fdt;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tree) = Fdt::new(bytes) {
        let _ = describe(&tree);
        let _ = tree.stdout();
        for node in tree.nodes() {
            for (name, value) in node.properties() {
                core::hint::black_box((name, value));
            }
            let _ = node.region(0);
        }
    }
    // The same as the root task finds it: behind other chunks of the extra bootinfo.
    let _ = root_task::board::read(bytes);
    let _ = root_task::board::rng_seed(bytes);
});
