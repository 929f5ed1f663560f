//! What holds whatever runs on the kernel.

use crate::capability::{Capability, Mapping, ObjectKind};
use crate::dump_header::Anchor;
use crate::picture::{Object, Picture, Space};
use crate::tables::Leaf;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Everything that does not hold. `ram` is where memory is: all else is devices.
#[must_use]
pub fn check(picture: &Picture, anchor: &Anchor, ram: &Range<u64>) -> Vec<String> {
    let mut problems = Vec::new();
    let rules = Rules::new(picture, anchor, ram.clone());
    rules.objects(&mut problems);
    let mut tables = HashSet::new();
    for space in &picture.spaces {
        rules.root(space, &mut problems);
        rules.tables(space, &mut tables, &mut problems);
        for leaf in &space.walk.leaves {
            if let Some(problem) = rules.leaf(space, leaf) {
                problems.push(format!("{}: {problem}", named(space, leaf)));
            }
        }
    }
    problems
}

/// How a mapping is named where it is complained about.
#[must_use]
pub fn named(space: &Space, leaf: &Leaf) -> String {
    format!(
        "address space {} maps {:#x} at {:#x} ({} KiB)",
        space.asid,
        leaf.paddr,
        leaf.vaddr,
        leaf.bytes() >> 10
    )
}

struct FrameCap {
    bits: u32,
    device: bool,
    read: bool,
    write: bool,
    mapping: Option<Mapping>,
}

struct Rules<'a> {
    picture: &'a Picture,
    image: Range<u64>,
    ram: Range<u64>,
    /// Capabilities to frames by physical address.
    frames: HashMap<u64, Vec<FrameCap>>,
    /// Where page tables stand, by physical address.
    tables: HashMap<u64, Vec<Mapping>>,
    /// Address spaces by their roots, the kernel's address.
    roots: HashMap<u64, HashSet<u16>>,
    /// What only the kernel works with, by address.
    own: Vec<Object>,
}

impl<'a> Rules<'a> {
    fn new(picture: &'a Picture, anchor: &Anchor, ram: Range<u64>) -> Self {
        let mut rules = Self {
            picture,
            image: anchor.image_range(),
            ram,
            frames: HashMap::new(),
            tables: HashMap::new(),
            roots: HashMap::new(),
            own: Vec::new(),
        };
        for held in &picture.capabilities {
            match held.capability {
                Capability::Frame {
                    address,
                    bits,
                    device,
                    read,
                    write,
                    mapping,
                } => rules
                    .frames
                    .entry(anchor.physical(address))
                    .or_default()
                    .push(FrameCap {
                        bits,
                        device,
                        read,
                        write,
                        mapping,
                    }),
                Capability::PageTable { address, mapping } => rules
                    .tables
                    .entry(anchor.physical(address))
                    .or_default()
                    .extend(mapping),
                Capability::VSpace { address, asid } => {
                    rules.roots.entry(address).or_default().extend(asid);
                }
                _ => {}
            }
        }
        let objects = picture.objects.iter();
        rules.own = objects
            .filter(|object| object.kind != ObjectKind::Frame)
            .copied()
            .collect();
        rules
    }

    /// Objects lie in memory, apart from each other and from the kernel's image.
    fn objects(&self, problems: &mut Vec<String>) {
        for held in &self.picture.capabilities {
            if let Capability::Unknown(kind) = held.capability {
                let slot = held.slot;
                problems.push(format!(
                    "slot {slot:#x} has a capability of no kind: {kind}"
                ));
            }
        }
        let mut last: Option<&Object> = None;
        for object in &self.picture.objects {
            let end = object.paddr.saturating_add(object.bytes);
            if object.paddr < self.ram.start || end > self.ram.end {
                problems.push(format!("{object:x?} is not in memory"));
            }
            if object.paddr < self.image.end && end > self.image.start {
                problems.push(format!("{object:x?} lies in the kernel's image"));
            }
            if let Some(last) = last
                && object.paddr < last.paddr + last.bytes
            {
                problems.push(format!("{last:x?} and {object:x?} overlap"));
            }
            if last.is_none_or(|last| end > last.paddr + last.bytes) {
                last = Some(object);
            }
        }
    }

    /// An address space is one by a capability that has its ASID.
    fn root(&self, space: &Space, problems: &mut Vec<String>) {
        let holders = self.roots.get(&space.root);
        if !holders.is_some_and(|asids| asids.contains(&space.asid)) {
            problems.push(format!(
                "address space {} at {:#x} is nobody's",
                space.asid, space.root
            ));
        }
    }

    /// A table stands where its capability says, and in one place.
    fn tables(&self, space: &Space, seen: &mut HashSet<u64>, problems: &mut Vec<String>) {
        for reserved in &space.walk.reserved {
            let asid = space.asid;
            problems.push(format!(
                "address space {asid}: the descriptor at {reserved:#x} means nothing"
            ));
        }
        for table in &space.walk.tables {
            let place = Mapping {
                asid: space.asid,
                vaddr: table.vaddr,
                level: table.level,
            };
            let capable = self
                .tables
                .get(&table.paddr)
                .is_some_and(|places| places.contains(&place));
            if !capable {
                problems.push(format!("no capability puts a table there: {table:x?}"));
            }
            if !seen.insert(table.paddr) {
                problems.push(format!("a table stands in two places: {table:x?}"));
            }
        }
    }

    /// A translation is there by a capability, leads to nothing of the kernel's, and treats memory as memory and devices as
    /// devices.
    fn leaf(&self, space: &Space, leaf: &Leaf) -> Option<String> {
        let end = leaf.paddr + leaf.bytes();
        if leaf.paddr < self.image.end && end > self.image.start {
            return Some("that is the kernel's image".into());
        }
        let next = self
            .own
            .partition_point(|object| object.paddr + object.bytes <= leaf.paddr);
        if let Some(object) = self.own.get(next).filter(|object| object.paddr < end) {
            return Some(format!("that is a kernel object: {object:x?}"));
        }
        let place = Mapping {
            asid: space.asid,
            vaddr: leaf.vaddr,
            level: 0,
        };
        let capability = self.frames.get(&leaf.paddr).and_then(|frames| {
            frames
                .iter()
                .find(|frame| frame.bits == leaf.bits && frame.mapping == Some(place))
        });
        let Some(frame) = capability else {
            return Some("no capability says so".into());
        };
        if leaf.writes() && !frame.write || leaf.reads() && !frame.read {
            return Some("its capability does not allow so much".into());
        }
        let in_ram = self.ram.contains(&leaf.paddr) && end <= self.ram.end;
        if in_ram == frame.device {
            return Some("its capability takes memory for a device, or a device for memory".into());
        }
        if in_ram && !(leaf.is_normal() && leaf.is_inner_shareable()) {
            return Some("memory, but not as normal, shared, write-back memory".into());
        }
        if !in_ram && (!leaf.is_device() || leaf.executes()) {
            return Some("a device, but cached or executable".into());
        }
        None
    }
}
