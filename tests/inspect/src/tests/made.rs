//! A machine's memory, made by hand.

use crate::ram::{NotRam, Ram};
use kernel_core::dump_header::{DumpHeader, MAGIC};
use kernel_core::object::{Tcb, ThreadFields, tcb_slot};
use protocol::slots::{memory, vmm};
use std::collections::HashMap;
use std::mem::offset_of;
use std::ops::Range;

pub const RAM: Range<u64> = 0x4000_0000..0x4800_0000;
pub const WINDOW: u64 = 0x80_0000_0000;
pub const PIECES: u64 = 0x4200_0000;
pub const PIECE: u64 = 1 << 21;
pub const GICV: u64 = 0x0804_0000;
const IMAGE: u64 = 0xff_c000_0000;
const IMAGE_BYTES: u64 = 0x1_0000;
const IMAGE_PHYSICAL: u64 = 0x4020_0000;
const DUMP_HEADER: u64 = 0x1008;
const POOLS: u64 = 0x3000;
const OBJECTS: u64 = 0x4100_0000;
const ROOT_SLOTS: u64 = 256;

/// Attributes of a mapping: normal or device memory; read, write; executed.
pub const DATA: u64 = ACCESSED | 15 << 2 | 3 << 6 | 1 << 54;
pub const CODE: u64 = ACCESSED | 15 << 2 | 1 << 6;
pub const ALL: u64 = ACCESSED | 15 << 2 | 3 << 6;
pub const REGISTERS: u64 = ACCESSED | 3 << 6 | 1 << 54;
const ACCESSED: u64 = 1 << 10 | 3 << 8;

/// Kinds of capabilities.
const UNTYPED: u64 = 1;
const CNODE: u64 = 5;
const THREAD: u64 = 7;
const FRAME: u64 = 12;
const PAGE_TABLE: u64 = 13;
const VSPACE: u64 = 14;
const ASID_POOL: u64 = 16;
const VCPU: u64 = 17;

/// An address space.
#[derive(Clone, Copy)]
pub struct Space {
    pub asid: u64,
    pub root: u64,
}

/// Memory with a kernel in it, and what has been put there so far. Addresses are physical.
pub struct Made {
    pages: HashMap<u64, [u8; 4096]>,
    next_object: u64,
    next_slot: u64,
    next_asid: u64,
    root_node: u64,
    pool: u64,
}

impl Ram for Made {
    fn range(&self) -> Range<u64> {
        RAM
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), NotRam> {
        let bytes = into.len();
        if !RAM.contains(&at) || bytes as u64 > RAM.end - at {
            return Err(NotRam { at, bytes });
        }
        into.fill(0);
        let mut done = 0;
        while done < bytes {
            let at = at + done as u64;
            let offset = (at & 0xfff) as usize;
            let count = (4096 - offset).min(bytes - done);
            if let Some(page) = self.pages.get(&(at >> 12)) {
                into[done..done + count].copy_from_slice(&page[offset..offset + count]);
            }
            done += count;
        }
        Ok(())
    }
}

impl Made {
    pub fn new() -> Self {
        let mut made = Self {
            pages: HashMap::new(),
            next_object: OBJECTS,
            next_slot: 0,
            next_asid: 1,
            root_node: 0,
            pool: 0,
        };
        // The loader's copy of the kernel comes first, and is not the one that runs.
        for image in [IMAGE_PHYSICAL - 0x10_0000, IMAGE_PHYSICAL] {
            let field = |offset: usize| image + DUMP_HEADER + offset as u64;
            let words = [
                (offset_of!(DumpHeader, this), IMAGE + DUMP_HEADER),
                (offset_of!(DumpHeader, image_start), IMAGE),
                (offset_of!(DumpHeader, image_end), IMAGE + IMAGE_BYTES),
                (offset_of!(DumpHeader, image_physical), IMAGE + 0x2000),
                (offset_of!(DumpHeader, window), WINDOW),
                (offset_of!(DumpHeader, root_thread), IMAGE + 0x2008),
                (offset_of!(DumpHeader, asid_pools), IMAGE + POOLS),
            ];
            made.word(image + DUMP_HEADER, MAGIC[0]);
            made.word(image + DUMP_HEADER + 8, MAGIC[1]);
            for (offset, value) in words {
                made.word(field(offset), value);
            }
        }
        made.word(IMAGE_PHYSICAL + 0x2000, IMAGE_PHYSICAL);
        made.root_node = made.object(ROOT_SLOTS * 32);
        made.pool = made.object(4096);
        made.word(IMAGE_PHYSICAL + POOLS, made.pool + WINDOW);
        made.capability(ASID_POOL, 0, made.pool, 0);
        made
    }

    /// The address of the word that holds the first thread.
    pub const ROOT_THREAD: u64 = IMAGE_PHYSICAL + 0x2008;

    pub fn word(&mut self, at: u64, value: u64) {
        let page = self.pages.entry(at >> 12).or_insert([0; 4096]);
        page[(at & 0xfff) as usize..][..8].copy_from_slice(&value.to_le_bytes());
    }

    pub fn read_word(&self, at: u64) -> u64 {
        crate::ram::word(self, at).unwrap()
    }

    /// Room for an object.
    pub fn object(&mut self, bytes: u64) -> u64 {
        let at = self.next_object.next_multiple_of(bytes);
        self.next_object = at + bytes;
        at
    }

    /// A capability in a slot.
    pub fn put(&mut self, slot: u64, kind: u64, detail: u64, object: u64, word: u64) {
        let address = match object {
            0 => 0,
            physical => (physical + WINDOW) >> 4,
        };
        self.word(slot, word);
        self.word(slot + 8, kind << 59 | detail << 44 | address);
    }

    /// A capability in the root task's CNode.
    pub fn capability(&mut self, kind: u64, detail: u64, object: u64, word: u64) -> u64 {
        let slot = self.root_node + self.next_slot * 32;
        assert!(self.next_slot < ROOT_SLOTS);
        self.next_slot += 1;
        self.put(slot, kind, detail, object, word);
        slot
    }

    /// A CNode.
    pub fn node(&mut self, radix: u64) -> u64 {
        let node = self.object(32 << radix);
        self.capability(CNODE, radix, node, 0);
        node
    }

    pub fn space(&mut self) -> Space {
        let root = self.object(8192);
        let asid = self.next_asid;
        self.next_asid += 1;
        self.word(self.pool + asid * 8, root + WINDOW);
        self.capability(VSPACE, 0, root, asid | 1 << 16);
        Space { asid, root }
    }

    /// A thread; a guest's has a vCPU.
    pub fn thread(&mut self, space: Space, node: (u64, u64), vcpu: u64) -> u64 {
        let tcb = self.object(2048);
        self.capability(THREAD, 0, tcb, 0);
        let slot = |index: usize| tcb + (offset_of!(Tcb, slots) + index * 32) as u64;
        let assigned = space.asid | 1 << 16;
        self.put(slot(tcb_slot::VSPACE), VSPACE, 0, space.root, assigned);
        if node.0 != 0 {
            self.put(slot(tcb_slot::CSPACE), CNODE, node.1, node.0, 0);
        }
        if vcpu != 0 {
            let field = offset_of!(Tcb, thread) + offset_of!(ThreadFields, vcpu);
            self.word(tcb + field as u64, vcpu + WINDOW);
        }
        tcb
    }

    fn frame_details(bits: u64, paddr: u64) -> u64 {
        let device = u64::from(!RAM.contains(&paddr));
        u64::from(bits == 21) | device << 2 | 3 << 3
    }

    /// Maps a frame with a capability of its own; the descriptor's address.
    pub fn map(&mut self, space: Space, vaddr: u64, paddr: u64, bits: u64, flags: u64) -> u64 {
        let mut table = space.root;
        for (level, shift) in [(1, 30), (2, 21)] {
            if bits == shift {
                break;
            }
            let index = vaddr >> shift & if level == 1 { 1023 } else { 511 };
            let at = table + index * 8;
            table = match self.read_word(at) {
                0 => {
                    let below = self.object(4096);
                    let base = vaddr >> shift << shift;
                    let mapping = space.asid | 1 << 16 | (level + 1) << 17 | base >> 12 << 20;
                    self.capability(PAGE_TABLE, 0, below, mapping);
                    self.word(at, below | 3);
                    below
                }
                descriptor => descriptor & !0xfff,
            };
        }
        let mapping = space.asid | 1 << 16 | vaddr >> 12 << 20;
        self.capability(FRAME, Self::frame_details(bits, paddr), paddr, mapping);
        let at = table + (vaddr >> bits & 511) * 8;
        self.word(at, paddr | flags | if bits == 12 { 3 } else { 1 });
        at
    }

    /// Takes a large frame out of an address space.
    pub fn unmap(&mut self, space: Space, vaddr: u64) {
        // Windows lie above the first 512 GiB, in the second of the root's tables.
        let table = self.read_word(space.root + (vaddr >> 30 & 1023) * 8) & !0xfff;
        self.word(table + (vaddr >> 21 & 511) * 8, 0);
    }

    /// A fresh page, mapped.
    pub fn page(&mut self, space: Space, vaddr: u64, flags: u64) -> u64 {
        let page = self.object(4096);
        self.map(space, vaddr, page, 12, flags);
        page
    }
}

/// A system: root task, memory server, balancer, and guests with their VMMs.
pub struct System {
    pub made: Made,
    pub balancer: Space,
    pub guests: Vec<Space>,
    pub vmms: Vec<Space>,
    nodes: [u64; 3],
    owners: Vec<u64>,
    next_piece: u64,
}

/// Where a guest's memory begins for it, and where its VMM sees it.
pub const GUEST_RAM: u64 = 0x4000_0000;
pub const GUEST_WINDOW: u64 = 0x80_0000_0000 + GUEST_RAM;
const LEDGER_RADIX: u64 = 4;

impl System {
    /// Two guests with three pieces each, three pieces in the pool, two that are being cleaned.
    pub fn new() -> Self {
        let mut made = Made::new();
        let root = made.space();
        let node = (made.root_node, 8);
        let thread = made.thread(root, node, 0);
        made.word(Made::ROOT_THREAD, thread + WINDOW);
        made.page(root, 0x20_0000, ALL);
        let server = made.space();
        let cspace = made.node(u64::from(memory::RADIX));
        made.thread(server, (cspace, u64::from(memory::RADIX)), 0);
        made.page(server, 0x20_0000, CODE);
        made.page(server, 0x1200_0000, DATA);
        let nodes = [0; 3].map(|_| made.node(LEDGER_RADIX));
        let owners = [0; 2].map(|_| made.node(LEDGER_RADIX)).to_vec();
        let places = [memory::POOL, memory::DIRTY, memory::FRAMES];
        for (slot, node) in places.into_iter().zip(nodes) {
            made.put(cspace + slot * 32, CNODE, LEDGER_RADIX, node, 0);
        }
        for (slot, node) in (memory::OWNERS..).zip(&owners) {
            made.put(cspace + slot * 32, CNODE, LEDGER_RADIX, *node, 0);
        }
        let balancer = made.space();
        let own = made.node(6);
        made.thread(balancer, (own, 6), 0);
        let shared = made.page(balancer, 0x20_0000, CODE);
        made.page(balancer, 0x1200_0000, DATA);
        made.map(balancer, 0x1400_0000, 0x0900_0000, 12, REGISTERS);
        made.map(root, 0x1400_0000, 0x0900_0000, 12, REGISTERS);
        made.map(server, 0x30_0000, shared, 12, CODE);
        let mut system = Self {
            made,
            balancer,
            guests: Vec::new(),
            vmms: Vec::new(),
            nodes,
            owners,
            next_piece: 0,
        };
        for guest in 0..2 {
            system.guest();
            for piece in 0..3 {
                system.grant(guest, piece);
            }
        }
        for node in [0, 0, 0, 1, 1] {
            system.piece(system.nodes[node]);
        }
        system
    }

    fn guest(&mut self) {
        let made = &mut self.made;
        let vcpu = made.object(4096);
        made.capability(VCPU, 0, vcpu, 0);
        let guest = made.space();
        made.thread(guest, (0, 0), vcpu);
        made.map(guest, 0x0801_0000, GICV, 12, REGISTERS);
        let vmm = made.space();
        let node = made.node(6);
        made.put(node + vmm::VCPU * 32, VCPU, 0, vcpu, 0);
        made.thread(vmm, (node, 6), 0);
        made.page(vmm, 0x1200_0000, DATA);
        self.guests.push(guest);
        self.vmms.push(vmm);
    }

    /// A new piece, its untyped in this node of the ledger, its frame in that of the frames.
    fn piece(&mut self, node: u64) -> u64 {
        let index = self.next_piece;
        self.next_piece += 1;
        let paddr = PIECES + index * PIECE;
        self.made.put(node + index * 32, UNTYPED, 21, paddr, PIECE);
        let details = Made::frame_details(21, paddr);
        let frames = self.nodes[2];
        self.made.put(frames + index * 32, FRAME, details, paddr, 0);
        paddr
    }

    /// A new piece for a guest, mapped by it and by its VMM.
    pub fn grant(&mut self, guest: usize, index: u64) -> u64 {
        let paddr = self.piece(self.owners[guest]);
        self.made.word(paddr + 8 * index, 0xfeed);
        let (vaddr, window) = (GUEST_RAM + index * PIECE, GUEST_WINDOW + index * PIECE);
        self.made.map(self.guests[guest], vaddr, paddr, 21, ALL);
        self.made.map(self.vmms[guest], window, paddr, 21, DATA);
        paddr
    }

    /// Another capability to a piece.
    pub fn copy(&mut self, paddr: u64) {
        let details = Made::frame_details(21, paddr);
        self.made.capability(FRAME, details, paddr, 0);
    }

    /// The second guest has a piece's untyped, too.
    pub fn untyped_again(&mut self, paddr: u64) {
        let slot = self.owners[1] + 15 * 32;
        self.made.put(slot, UNTYPED, 21, paddr, PIECE);
    }
}
