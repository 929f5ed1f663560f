//! Trees are written here, word by word: a reader is tested against the specification, not against another tool's writer.

use super::*;
use crate::describe::{self, DescribeError, Gic, PsciConduit, Uart};
use crate::regions::Region;
use proptest::prelude::*;

/// Writes a tree.
#[derive(Default)]
struct Writer {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Writer {
    fn word(&mut self, value: u32) {
        self.structure.extend(value.to_be_bytes());
    }
    fn pad(&mut self) {
        while !self.structure.len().is_multiple_of(4) {
            self.structure.push(0);
        }
    }
    fn begin(&mut self, name: &str) -> &mut Self {
        self.word(BEGIN_NODE);
        self.structure.extend(name.as_bytes());
        self.structure.push(0);
        self.pad();
        self
    }
    fn end(&mut self) -> &mut Self {
        self.word(END_NODE);
        self
    }
    fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.word(PROP);
        self.word(u32::try_from(value.len()).unwrap());
        self.word(u32::try_from(self.strings.len()).unwrap());
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        self.structure.extend(value);
        self.pad();
        self
    }
    fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.bytes(name, format!("{value}\0").as_bytes())
    }
    fn cells(&mut self, name: &str, value: &[u32]) -> &mut Self {
        let bytes: Vec<u8> = value.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &bytes)
    }
    fn tree(&mut self, reservations: &[(u64, u64)]) -> Vec<u8> {
        self.word(9);
        let reserve_at = HEADER_BYTES;
        let structure_at = reserve_at + 16 * (reservations.len() + 1);
        let strings_at = structure_at + self.structure.len();
        let total = strings_at + self.strings.len();
        let fields = [
            MAGIC as usize,
            total,
            structure_at,
            strings_at,
            reserve_at,
            17,
            16,
            0,
            self.strings.len(),
            self.structure.len(),
        ];
        let mut tree = Vec::new();
        fields
            .iter()
            .for_each(|&field| tree.extend(u32::try_from(field).unwrap().to_be_bytes()));
        for (address, size) in reservations.iter().chain([&(0, 0)]) {
            tree.extend(address.to_be_bytes());
            tree.extend(size.to_be_bytes());
        }
        tree.extend(&self.structure);
        tree.extend(&self.strings);
        tree
    }
}

/// A machine with memory in two banks, a GIC below a bus that moves addresses, and a console behind an alias.
fn board() -> Vec<u8> {
    let mut w = Writer::default();
    w.begin("")
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[1]);
    w.begin("chosen")
        .text("stdout-path", "serial0:115200n8")
        .end();
    w.begin("aliases")
        .text("serial0", "/soc/serial@201000")
        .end();
    w.begin("memory@0")
        .text("device_type", "memory")
        .cells("reg", &[0, 0, 0x3000_0000, 1, 0, 0x4000_0000])
        .end();
    w.begin("reserved-memory")
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[2])
        .bytes("ranges", &[]);
    w.begin("fw@1000")
        .cells("reg", &[0, 0x1000, 0, 0x2000])
        .end();
    w.end();
    w.begin("psci")
        .text("compatible", "arm,psci-1.0")
        .text("method", "smc")
        .end();
    w.begin("soc")
        .cells("#address-cells", &[1])
        .cells("#size-cells", &[1]);
    w.cells(
        "ranges",
        &[
            0x7e00_0000,
            0,
            0xfe00_0000,
            0x0180_0000,
            0x4000_0000,
            0,
            0xff80_0000,
            0x0080_0000,
        ],
    );
    w.begin("serial@201000")
        .text("compatible", "arm,pl011\0arm,primecell")
        .cells("reg", &[0x7e20_1000, 0x200])
        .end();
    w.begin("intc@40041000").text("compatible", "arm,gic-400");
    w.cells(
        "reg",
        &[
            0x4004_1000,
            0x1000,
            0x4004_2000,
            0x2000,
            0x4004_4000,
            0x2000,
            0x4004_6000,
            0x2000,
        ],
    )
    .end();
    w.end();
    w.end();
    w.tree(&[(0x8000, 0x1000)])
}

#[test]
fn a_board_is_described() {
    let tree = board();
    let machine = describe::describe(&Fdt::new(&tree).unwrap()).unwrap();
    assert_eq!(
        machine.memory.as_slice(),
        [
            Region::new(0, 0x3000_0000),
            Region::new(1 << 32, 0x4000_0000)
        ]
    );
    assert_eq!(
        machine.reserved.as_slice(),
        [Region::new(0x1000, 0x2000), Region::new(0x8000, 0x1000)]
    );
    assert_eq!(machine.uart, Some(Uart::Pl011(0xfe20_1000)));
    assert_eq!(machine.psci, Some(PsciConduit::Smc));
    let Some(Gic::V2 {
        distributor,
        virtual_cpu_interface,
        ..
    }) = machine.gic
    else {
        panic!("{:?}", machine.gic)
    };
    assert_eq!(distributor, Region::new(0xff84_1000, 0x1000));
    assert_eq!(virtual_cpu_interface, Region::new(0xff84_6000, 0x2000));
}

#[test]
fn paths_are_followed() {
    let tree = board();
    let fdt = Fdt::new(&tree).unwrap();
    assert_eq!(fdt.find(b"/").unwrap().depth, 0);
    assert_eq!(
        fdt.find(b"/soc/serial").unwrap().region(0),
        Some((0xfe20_1000, 0x200))
    );
    assert!(fdt.find(b"/chosen/serial@201000").is_none());
    assert!(fdt.find(b"/soc/nothing").is_none());
    assert_eq!(fdt.nodes().count(), 10);
}

#[test]
fn room_behind_the_last_block_is_not_part_of_the_tree() {
    let mut tree = board();
    let used = tree.len();
    assert_eq!(Fdt::new(&tree).unwrap().used_bytes(), used);
    tree.resize(used + 5000, 0);
    let total = u32::try_from(tree.len()).unwrap();
    tree[4..8].copy_from_slice(&total.to_be_bytes());
    assert_eq!(Fdt::new(&tree).unwrap().used_bytes(), used);
}

#[test]
fn each_mistake_is_named() {
    assert_eq!(Fdt::new(&[0; 64]).err(), Some(FdtError::Magic(0)));
    let mut tree = board();
    let length = tree.len();
    assert_eq!(
        Fdt::new(&tree[..length - 1]).err(),
        Some(FdtError::Length(length))
    );
    tree[39] = 0xff;
    tree[38] = 0xff;
    assert_eq!(Fdt::new(&tree).err(), Some(FdtError::Block));
    let mut tree = board();
    tree[27] = 18;
    assert_eq!(Fdt::new(&tree).err(), Some(FdtError::Version(18)));
    let mut empty = Writer::default();
    let empty = empty.begin("").end().tree(&[]);
    assert_eq!(
        describe::describe(&Fdt::new(&empty).unwrap()).err(),
        Some(DescribeError::NoMemory)
    );
}

#[test]
fn nesting_beyond_the_bound_is_skipped() {
    let mut w = Writer::default();
    (0..MAX_DEPTH * 2).for_each(|_| {
        w.begin("n");
    });
    (0..MAX_DEPTH * 2).for_each(|_| {
        w.end();
    });
    let tree = w.tree(&[]);
    assert_eq!(Fdt::new(&tree).unwrap().nodes().count(), MAX_DEPTH);
}

proptest! {
    #[test]
    fn damaged_trees_are_survived(damage in prop::collection::vec((0usize..900, any::<u8>()), 1..8)) {
        let mut tree = board();
        for (at, value) in damage {
            if let Some(byte) = tree.get_mut(at) {
                *byte = value;
            }
        }
        if let Ok(fdt) = Fdt::new(&tree) {
            let _ = describe::describe(&fdt);
        }
    }

    #[test]
    fn any_bytes_are_survived(mut tree in prop::collection::vec(any::<u8>(), 40..400)) {
        tree[..4].copy_from_slice(&MAGIC.to_be_bytes());
        let length = u32::try_from(tree.len()).unwrap();
        tree[4..8].copy_from_slice(&length.to_be_bytes());
        if let Ok(fdt) = Fdt::new(&tree) {
            let _ = describe::describe(&fdt);
        }
    }
}
