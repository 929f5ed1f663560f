//! What this system promises about guests' memory.
//!
//! Who is who follows from what they hold. A thread with a vCPU is a guest; the memory server is the thread whose CNode has the
//! ledger's CNodes; a VMM is a thread whose CNode has the vCPU of a guest.

use crate::capability::{Capability, ObjectKind, SLOT_BYTES};
use crate::dump_header::Anchor;
use crate::kernel::named;
use crate::picture::{Picture, Space, Thread};
use crate::ram::{NotRam, Ram, first_not_zero};
use crate::{Findings, tables::Leaf};
use protocol::slots::{memory, vmm};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// log2 of a piece's bytes.
const PIECE_BITS: u32 = 21;
/// The GICv2 virtual CPU interface of QEMU's `virt` machine: the one device that guests reach themselves, all of them the same
/// one, since the kernel gives it to one at a time.
const VIRTUAL_CPU_INTERFACE: Range<u64> = 0x0804_0000..0x0804_2000;

/// Where a piece is by the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Free and clean.
    Pool,
    /// Free.
    Dirty,
    /// This guest's.
    Guest(u64),
}

/// The memory server's record of who owns what, read from where its capabilities are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Each piece's place by its physical address.
    pub pieces: BTreeMap<u64, Place>,
    /// Pieces that are in the ledger twice.
    twice: Vec<u64>,
    /// The piece whose frame the memory server has copied for an answer. Between that and the move of its untyped, which is
    /// the grant, it is still in the pool.
    leaving: Option<u64>,
}

impl Ledger {
    /// The ledger of the one thread that has one; none before the system is built.
    #[must_use]
    pub fn find(picture: &Picture, anchor: &Anchor) -> Option<Self> {
        let threads = picture.threads.iter();
        let (cspace, (nodes, count)) = threads
            .filter_map(|thread| thread.cspace)
            .find_map(|(first, slots)| Some((first, ledger_nodes(picture, first, slots)?)))?;
        let mut ledger = Self::default();
        if let Capability::Frame { address, .. } = picture.in_node(cspace, memory::OUTGOING) {
            ledger.leaving = Some(anchor.physical(address));
        }
        for (place, first) in nodes {
            for index in 0..count {
                if let Capability::Untyped {
                    address,
                    bits: PIECE_BITS,
                    device: false,
                } = picture.in_node(first, index)
                {
                    let paddr = anchor.physical(address);
                    if ledger.pieces.insert(paddr, place).is_some() {
                        ledger.twice.push(paddr);
                    }
                }
            }
        }
        Some(ledger)
    }

    fn place(&self, paddr: u64) -> Option<(u64, Place)> {
        let piece = paddr >> PIECE_BITS << PIECE_BITS;
        Some((piece, *self.pieces.get(&piece)?))
    }
}

/// The CNodes of a ledger, if a CNode has them: first slots, and how many slots each has.
fn ledger_nodes(picture: &Picture, first: u64, slots: u64) -> Option<(Vec<(Place, u64)>, u64)> {
    if slots != 1 << memory::RADIX {
        return None;
    }
    let node = |index: u64| match picture.in_node(first, index) {
        Capability::Slots {
            first,
            count,
            zombie: false,
            ..
        } => Some((first, count)),
        _ => None,
    };
    let (pool, count) = node(memory::POOL)?;
    let (dirty, _) = node(memory::DIRTY)?;
    // Only one that has the frames is a ledger.
    node(memory::FRAMES)?;
    let mut nodes = vec![(Place::Pool, pool), (Place::Dirty, dirty)];
    let owners = 0..memory::VMM_SIGNALS - memory::OWNERS;
    nodes.extend(
        owners.filter_map(|guest| Some((Place::Guest(guest), node(memory::OWNERS + guest)?.0))),
    );
    Some((nodes, count))
}

/// Adds what does not hold, and what was looked at.
///
/// # Errors
/// [`NotRam`] when a piece is not in memory.
pub fn check(
    picture: &Picture,
    anchor: &Anchor,
    ram: &dyn Ram,
    findings: &mut Findings,
) -> Result<(), NotRam> {
    let Some(ledger) = Ledger::find(picture, anchor) else {
        return Ok(());
    };
    findings.figures.ledger_pieces = ledger.pieces.len();
    for piece in &ledger.twice {
        let problem = format!("piece {piece:#x} is in the ledger twice");
        findings.problems.push(problem);
    }
    let roles = Roles {
        picture,
        anchor,
        ledger,
        ram: ram.range(),
    };
    roles.guests(findings);
    roles.sharing(findings);
    roles.free(findings);
    for (piece, place) in &roles.ledger.pieces {
        if *place != Place::Pool {
            continue;
        }
        match first_not_zero(ram, *piece..piece + (1 << PIECE_BITS))? {
            None => findings.figures.zero_pieces += 1,
            Some(at) => findings.problems.push(format!(
                "piece {piece:#x} is in the pool and not zero at {at:#x}"
            )),
        }
    }
    Ok(())
}

struct Roles<'a> {
    picture: &'a Picture,
    anchor: &'a Anchor,
    ledger: Ledger,
    ram: Range<u64>,
}

impl Roles<'_> {
    fn threads_of(&self, space: &Space) -> impl Iterator<Item = &Thread> {
        let root = space.root;
        let threads = self.picture.threads.iter();
        threads.filter(move |thread| thread.vspace == Some(root))
    }

    fn is_ram(&self, leaf: &Leaf) -> bool {
        self.ram.contains(&leaf.paddr)
    }

    /// Everybody who maps pieces: a guest, or the VMM that has its vCPU, and of one guest only.
    fn guests(&self, findings: &mut Findings) {
        let mut guests: BTreeMap<u64, Vec<u16>> = BTreeMap::new();
        let mut others: BTreeMap<u64, Vec<(u16, &Space)>> = BTreeMap::new();
        let mut vcpus: HashMap<u64, u64> = HashMap::new();
        for space in &self.picture.spaces {
            let vcpu = self.threads_of(space).find_map(|thread| thread.vcpu);
            // What nobody runs in is being built or taken down.
            let used = self.threads_of(space).next().is_some();
            let mut owners = BTreeSet::new();
            let mut pieces = 0;
            let (mut bytes, mut whole_bytes) = (0, 0);
            for leaf in space.walk.leaves.iter().filter(|leaf| self.is_ram(leaf)) {
                let place = self.ledger.place(leaf.paddr);
                match place {
                    Some((_, Place::Guest(owner))) => {
                        pieces += 1;
                        bytes += leaf.bytes();
                        if leaf.bits == PIECE_BITS {
                            whole_bytes += leaf.bytes();
                        }
                        owners.insert(owner);
                    }
                    // `free` complains.
                    Some(_) => {}
                    None if vcpu.is_some() => findings.problems.push(format!(
                        "{}: a guest, and that is no memory of guests",
                        named(space, leaf)
                    )),
                    None => {}
                }
            }
            if owners.len() > 1 {
                let asid = space.asid;
                findings.problems.push(format!(
                    "address space {asid} maps memory of several guests: {owners:?}"
                ));
            }
            if let Some(vcpu) = vcpu {
                findings.figures.guests += 1;
                findings.figures.guest_pieces += pieces;
                if let Some(percent) = (100 * whole_bytes).checked_div(bytes) {
                    let percent = u8::try_from(percent).unwrap_or(u8::MAX);
                    let least = &mut findings.figures.least_whole_percent;
                    *least = Some(least.map_or(percent, |least| least.min(percent)));
                }
                for owner in owners {
                    guests.entry(owner).or_default().push(space.asid);
                    vcpus.insert(owner, vcpu);
                }
            } else if used {
                for owner in owners {
                    others.entry(owner).or_default().push((space.asid, space));
                }
            }
        }
        for (owner, spaces) in &guests {
            if spaces.len() > 1 {
                findings.problems.push(format!(
                    "memory of guest {owner} is mapped by several guests: address spaces {spaces:?}"
                ));
            }
        }
        for (owner, spaces) in others {
            if spaces.len() > 1 {
                let asids: Vec<u16> = spaces.iter().map(|(asid, _)| *asid).collect();
                findings.problems.push(format!(
                    "memory of guest {owner} is mapped by several components: address spaces {asids:?}"
                ));
            }
            for (asid, space) in spaces {
                let vcpu = vcpus.get(&owner).copied();
                if !self.threads_of(space).any(|thread| self.has(thread, vcpu)) {
                    findings.problems.push(format!(
                        "memory of guest {owner} is mapped by address space {asid}, which is not its VMM's"
                    ));
                }
            }
        }
    }

    /// Whether a thread's CNode has this vCPU, or while the guest is not known any, where a VMM has its guest's.
    fn has(&self, thread: &Thread, vcpu: Option<u64>) -> bool {
        thread.cspace.is_some_and(|(first, _)| {
            matches!(self.picture.at(first + vmm::VCPU * SLOT_BYTES),
                Capability::Other { kind: ObjectKind::Vcpu, address, .. }
                    if vcpu.is_none_or(|vcpu| vcpu == address))
        })
    }

    /// Pieces that are nobody's are mapped by nobody, and in the pool nobody but the ledger has them.
    fn free(&self, findings: &mut Findings) {
        for space in &self.picture.spaces {
            for leaf in space.walk.leaves.iter().filter(|leaf| self.is_ram(leaf)) {
                if let Some((_, place @ (Place::Pool | Place::Dirty))) =
                    self.ledger.place(leaf.paddr)
                {
                    let name = named(space, leaf);
                    findings
                        .problems
                        .push(format!("{name}: that is free ({place:?})"));
                }
            }
        }
        let mut frames: HashMap<u64, u32> = HashMap::new();
        for held in &self.picture.capabilities {
            if let Capability::Frame { address, .. } = held.capability
                && let Some((piece, Place::Pool)) = self.ledger.place(self.anchor.physical(address))
            {
                *frames.entry(piece).or_default() += 1;
            }
        }
        let pieces = self.ledger.pieces.iter();
        for (piece, _) in pieces.filter(|(_, place)| **place == Place::Pool) {
            let copies = frames.get(piece).copied().unwrap_or(0);
            let leaving = u32::from(self.ledger.leaving == Some(*piece));
            if copies != 1 && copies != 1 + leaving {
                findings.problems.push(format!(
                    "piece {piece:#x} is in the pool and has {copies} frame capabilities, not one"
                ));
            }
        }
    }

    /// Memory that somebody writes is in one address space, but for a guest's and its VMM's; nobody but a guest and the first
    /// thread executes what it can write; a device is one component's (and the root task's, which speaks on the serial line when
    /// the console server cannot), but for what all guests reach.
    fn sharing(&self, findings: &mut Findings) {
        let mut frames: HashMap<u64, Vec<User<'_>>> = HashMap::new();
        for space in &self.picture.spaces {
            let role = self.role(space);
            for leaf in &space.walk.leaves {
                let shared = VIRTUAL_CPU_INTERFACE.contains(&leaf.paddr);
                let complaint = match role {
                    Role::Component if leaf.writes() && leaf.executes() => {
                        "writable and executable"
                    }
                    Role::Guest if !self.is_ram(leaf) && !shared => "a guest, and that is a device",
                    _ => "",
                };
                if !complaint.is_empty() {
                    let name = named(space, leaf);
                    findings.problems.push(format!("{name}: {complaint}"));
                }
                if !shared {
                    let users = frames.entry(leaf.paddr).or_default();
                    users.push(User { space, leaf, role });
                }
            }
        }
        for users in frames.values() {
            let distinct: BTreeSet<u16> = users.iter().map(|user| user.space.asid).collect();
            let leaf = users[0].leaf;
            let allowed = if !self.is_ram(leaf) {
                let roots = users.iter().filter(|user| user.role == Role::Root);
                1 + roots.count().min(1)
            } else if self.ledger.place(leaf.paddr).is_some() {
                // `guests` and `free` say who; here: once each.
                if distinct.len() < users.len() { 0 } else { 2 }
            } else if users.iter().any(|user| user.leaf.writes()) {
                1
            } else {
                users.len()
            };
            if users.len() > allowed {
                findings.problems.push(format!(
                    "{}, and so do others: address spaces {distinct:?}, {} mappings",
                    named(users[0].space, leaf),
                    users.len()
                ));
            }
        }
    }

    fn role(&self, space: &Space) -> Role {
        let mut role = Role::Component;
        for thread in self.threads_of(space) {
            if thread.vcpu.is_some() {
                role = Role::Guest;
            } else if thread.address == self.anchor.root_thread {
                role = Role::Root;
            }
        }
        role
    }
}

/// What runs in an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Root,
    Component,
    Guest,
}

/// Who maps a frame.
struct User<'a> {
    space: &'a Space,
    leaf: &'a Leaf,
    role: Role,
}
