//! The device tree of the board: whatever is in it, kernel, boot stage and root task read it or refuse it.
//!
//! The bytes are read as a tree, and as changes of a right one, so that what is behind the header is reached as well.
#![no_main]

use libfuzzer_sys::fuzz_target;
use machine::describe::describe;
use machine::fdt::Fdt;
use sel4_sys::EXTRA_FDT;
use std::sync::LazyLock;
use vmm_core::fdt::Writer;

/// A board with everything that is looked for.
static BOARD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut tree = vec![0; 4096];
    let mut w = Writer::new(&mut tree);
    w.begin("");
    w.cells("#address-cells", &[2]);
    w.cells("#size-cells", &[2]);
    w.cells("interrupt-parent", &[1]);
    w.begin("chosen");
    w.string("stdout-path", "serial0:115200n8");
    w.raw("rng-seed", &[7; 32]);
    w.end();
    w.begin("aliases");
    w.string("serial0", "/soc/serial@9000000");
    w.end();
    w.begin("memory@40000000");
    w.string("device_type", "memory");
    w.cells64("reg", &[0x4000_0000, 1 << 30, 1 << 32, 1 << 31]);
    w.end();
    w.begin("reserved-memory");
    w.cells("#address-cells", &[2]);
    w.cells("#size-cells", &[2]);
    w.flag("ranges");
    w.begin("firmware@41000000");
    w.cells64("reg", &[0x4100_0000, 0x2000]);
    w.end();
    w.end();
    w.begin("psci");
    w.strings_list("compatible", &["arm,psci-1.0", "arm,psci-0.2"]);
    w.string("method", "smc");
    w.end();
    w.begin("soc");
    w.cells("#address-cells", &[1]);
    w.cells("#size-cells", &[1]);
    w.cells("ranges", &[0x0800_0000, 0, 0x0800_0000, 0x0800_0000]);
    w.begin("serial@9000000");
    w.strings_list("compatible", &["arm,pl011", "arm,primecell"]);
    w.cells("reg", &[0x0900_0000, 0x1000]);
    w.cells("interrupts", &[0, 1, 4]);
    w.end();
    w.begin("intc@8000000");
    w.string("compatible", "arm,gic-400");
    w.cells("phandle", &[1]);
    let reg = [0x0800_0000, 0x0801_0000, 0x0803_0000, 0x0804_0000];
    w.cells("reg", &reg.map(|at| [at, 0x1_0000]).concat());
    w.end();
    w.end();
    w.end();
    let length = w.finish().expect("4096 bytes hold it");
    tree.truncate(length);
    // One that is refused would be no way in.
    let described = describe(&Fdt::new(&tree).expect("a tree")).expect("a machine");
    assert!(described.gic.is_some() && described.uart.is_some() && described.psci.is_some());
    root_task::board::read(&extra(&tree)).expect("a board");
    tree
});

/// The board's tree with a byte changed for every three bytes of the input: where, and by what.
fn changed(input: &[u8]) -> Vec<u8> {
    let mut tree = BOARD.clone();
    for change in input.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % tree.len();
        tree[at] ^= change[2];
    }
    tree
}

/// As the root task finds it: a chunk of the extra bootinfo.
fn extra(tree: &[u8]) -> Vec<u8> {
    let length = 16 + tree.len() as u64;
    [&EXTRA_FDT.to_le_bytes()[..], &length.to_le_bytes(), tree].concat()
}

fn read(tree: &[u8]) {
    if let Ok(tree) = Fdt::new(tree) {
        let _ = describe(&tree);
        let _ = tree.stdout();
        for node in tree.nodes() {
            for (name, value) in node.properties() {
                core::hint::black_box((name, value));
            }
            let _ = node.region(0);
        }
    }
    let extra = extra(tree);
    let _ = root_task::board::read(&extra);
    let _ = root_task::board::rng_seed(&extra);
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    read(&changed(bytes));
    // The sequence of chunks is from outside, too.
    let _ = root_task::board::read(bytes);
    let _ = root_task::board::rng_seed(bytes);
});
