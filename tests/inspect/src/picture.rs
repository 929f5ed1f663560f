//! Everything that the kernel has, collected.

use crate::Figures;
use crate::capability::{Capability, ObjectKind, SLOT_BYTES};
use crate::dump_header::Anchor;
use crate::ram::{NotRam, Ram, word, words};
use crate::tables::{self, Walk};
use kernel_core::object::{Slot, Tcb, ThreadFields, tcb_slot};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem::offset_of;

const SLOT_WORDS: usize = size_of::<Slot>() / 8;
/// The address in the word that also holds a slot's flags.
const PREVIOUS: u64 = !31;
/// The root in an entry of an ASID pool, and the bit that says that the entry is free.
const ENTRY_ROOT: u64 = !0x1fff;
const ENTRY_FREE: u64 = 1;
const POOL_ENTRIES: usize = 1 << kernel_core::vspace::asid::POOL_BITS;

/// A capability in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The slot's address, the kernel's.
    pub slot: u64,
    /// It.
    pub capability: Capability,
}

/// An object, frame or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Its physical address.
    pub paddr: u64,
    /// How much memory it is.
    pub bytes: u64,
}

/// An address space that has an ASID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// The ASID.
    pub asid: u16,
    /// Its root's address, the kernel's.
    pub root: u64,
    /// What is under it.
    pub walk: Walk,
}

/// A thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its address, the kernel's.
    pub address: u64,
    /// Its address space: the root's address, the kernel's.
    pub vspace: Option<u64>,
    /// Its CNode: first slot and number of slots.
    pub cspace: Option<(u64, u64)>,
    /// Its vCPU's address, the kernel's.
    pub vcpu: Option<u64>,
}

/// Everything at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Every capability that there is.
    pub capabilities: Vec<Held>,
    /// Where each is in [`Self::capabilities`], by its slot.
    by_slot: HashMap<u64, usize>,
    /// Every object with a capability, by address and kind.
    pub objects: Vec<Object>,
    /// Every address space.
    pub spaces: Vec<Space>,
    /// Every thread.
    pub threads: Vec<Thread>,
}

/// Slots that are to be looked at.
struct Search<'a> {
    ram: &'a dyn Ram,
    anchor: &'a Anchor,
    seen: HashSet<u64>,
    found: Vec<Held>,
    containers: HashSet<(u64, u64)>,
    waiting: Vec<(u64, u64)>,
    links: Vec<u64>,
}

impl Search<'_> {
    fn open(&mut self, first: u64, count: u64) {
        if self.containers.insert((first, count)) {
            self.waiting.push((first, count));
        }
    }

    fn read(&mut self, first: u64, count: u64) -> Result<(), NotRam> {
        let at = self.anchor.physical(first);
        let content = words(self.ram, at, count as usize * SLOT_WORDS)?;
        let slots = (first..).step_by(SLOT_BYTES as usize);
        for (slot, words) in slots.zip(content.chunks_exact(SLOT_WORDS)) {
            let word = |offset: usize| words[offset / 8];
            let cap = offset_of!(Slot, cap);
            let capability = Capability::decode(word(cap), word(cap + 8));
            if capability == Capability::Null || !self.seen.insert(slot) {
                continue;
            }
            self.found.push(Held { slot, capability });
            self.links
                .push(word(offset_of!(Slot, prev_and_flags)) & PREVIOUS);
            self.links.push(word(offset_of!(Slot, next)));
            if let Capability::Slots { first, count, .. } = capability {
                self.open(first, count);
            }
        }
        Ok(())
    }

    /// Whatever hangs together with what was found: what is in containers, and whoever is beside them in the derivation tree.
    fn run(&mut self) -> Result<(), NotRam> {
        loop {
            if let Some((first, count)) = self.waiting.pop() {
                self.read(first, count)?;
            } else if let Some(slot) = self.links.pop() {
                if slot != 0 && !self.seen.contains(&slot) {
                    self.read(slot, 1)?;
                }
            } else {
                return Ok(());
            }
        }
    }
}

impl Picture {
    /// Collects everything.
    ///
    /// # Errors
    /// [`NotRam`] when something leads to where there is no memory.
    pub fn take(ram: &dyn Ram, anchor: &Anchor) -> Result<Self, NotRam> {
        let mut search = Search {
            ram,
            anchor,
            seen: HashSet::new(),
            found: Vec::new(),
            containers: HashSet::new(),
            waiting: Vec::new(),
            links: Vec::new(),
        };
        if let Capability::Slots { first, count, .. } = Capability::thread(anchor.root_thread) {
            search.open(first, count);
        }
        search.run()?;
        let mut picture = Self {
            capabilities: search.found,
            ..Self::default()
        };
        let mut objects = BTreeMap::new();
        for (index, held) in picture.capabilities.iter().enumerate() {
            picture.by_slot.insert(held.slot, index);
            if let Some((kind, address, bytes)) = held.capability.object() {
                objects.insert((anchor.physical(address), kind, bytes), address);
            }
        }
        for ((paddr, kind, bytes), address) in objects {
            picture.objects.push(Object { kind, paddr, bytes });
            if kind == ObjectKind::Thread {
                let thread = picture.thread(ram, anchor, address)?;
                picture.threads.push(thread);
            }
        }
        for (number, pool) in (0u16..).zip(&anchor.pools) {
            if *pool == 0 {
                continue;
            }
            let entries = words(ram, anchor.physical(*pool), POOL_ENTRIES)?;
            for (index, entry) in (0u16..).zip(entries) {
                let root = entry & ENTRY_ROOT;
                if entry & ENTRY_FREE == 0 && root != 0 {
                    picture.spaces.push(Space {
                        asid: number << kernel_core::vspace::asid::POOL_BITS | index,
                        root,
                        walk: tables::walk(ram, anchor.physical(root))?,
                    });
                }
            }
        }
        Ok(picture)
    }

    fn thread(&self, ram: &dyn Ram, anchor: &Anchor, address: u64) -> Result<Thread, NotRam> {
        let slot = |index: usize| {
            let slots = address + offset_of!(Tcb, slots) as u64;
            self.at(slots + index as u64 * SLOT_BYTES)
        };
        let vcpu = offset_of!(Tcb, thread) + offset_of!(ThreadFields, vcpu);
        let vcpu = word(ram, anchor.physical(address) + vcpu as u64)?;
        Ok(Thread {
            address,
            vspace: match slot(tcb_slot::VSPACE) {
                Capability::VSpace { address, .. } => Some(address),
                _ => None,
            },
            cspace: match slot(tcb_slot::CSPACE) {
                Capability::Slots { first, count, .. } => Some((first, count)),
                _ => None,
            },
            vcpu: (vcpu != 0).then_some(vcpu),
        })
    }

    /// The capability in the slot at this address, the kernel's.
    #[must_use]
    pub fn at(&self, slot: u64) -> Capability {
        self.by_slot.get(&slot).map_or(Capability::Null, |&index| {
            self.capabilities[index].capability
        })
    }

    /// The capability in slot `index` of the CNode that begins at `first`.
    #[must_use]
    pub fn in_node(&self, first: u64, index: u64) -> Capability {
        self.at(first + index * SLOT_BYTES)
    }

    /// How much it is.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let objects = self.objects.iter();
        Figures {
            capabilities: self.capabilities.len(),
            objects: objects.filter(|o| o.kind != ObjectKind::Frame).count(),
            spaces: self.spaces.len(),
            tables: self.spaces.iter().map(|s| s.walk.tables.len()).sum(),
            leaves: self.spaces.iter().map(|s| s.walk.leaves.len()).sum(),
            ..Figures::default()
        }
    }
}
