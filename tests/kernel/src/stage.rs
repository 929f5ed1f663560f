//! The objects that four puppets play with, made anew for each round of a random play and each scene of a rule.

use sel4_sys::{
    CNodeCapData, CapRights, Invocation, ObjectType, USER_CONTEXT_WORDS, UserContext, init_slot,
};
use testbed::puppet::{self, Buffer, PUPPETS};
use testbed::{Answer, Env};

/// Log2 of the bytes that a round's objects take.
const ROUND_BITS: u64 = 17;
/// Slots of the root CNode that a round uses.
const ROUND_SLOTS: u64 = 64;
/// Log2 of the slots of a puppet's CNode.
pub const NODE_BITS: u64 = 6;
/// The depth of an address in the root CNode.
const DEPTH: u64 = 64;

/// Where in a puppet's CNode capabilities received go, by choice.
pub const RECEIVE: core::ops::Range<u64> = 24..28;
/// Slots of a puppet's CNode that hold something at the start of a round, but the first two.
pub const HELD: core::ops::Range<u64> = 2..24;

/// What lasts from round to round.
pub struct Means {
    untyped: u64,
    slots: u64,
    buffers: [Buffer; PUPPETS],
    stacks: [u64; PUPPETS],
}

impl Means {
    /// Made once.
    pub fn new(env: &mut Env) -> Self {
        Self {
            untyped: env.object(ObjectType::Untyped, ROUND_BITS),
            slots: env.slots(ROUND_SLOTS),
            buffers: core::array::from_fn(|_| env.buffer()),
            stacks: core::array::from_fn(|_| env.buffer().vaddr + 4096),
        }
    }
}

/// One round's objects, by their slots in the root CNode.
pub struct Stage<'a> {
    env: &'a Env,
    means: &'a Means,
    next: u64,
    /// Two endpoints.
    pub endpoints: [u64; 2],
    /// Two notifications.
    pub notifications: [u64; 2],
    /// Reply objects that all puppets can use.
    pub replies: [u64; 4],
    /// Where puppets' faults go.
    pub faults: u64,
    /// Reply objects for faults: one that is free, and one for each puppet.
    pub fault_replies: [u64; PUPPETS + 1],
    /// What a puppet waits for between its system calls.
    pub go: [u64; PUPPETS],
    /// The puppets' threads.
    pub threads: [u64; PUPPETS],
    /// Their time.
    pub contexts: [u64; PUPPETS],
    /// Their capabilities.
    pub nodes: [u64; PUPPETS],
    /// An untyped that has a child, so that it cannot be copied, and a page table that is not mapped, which cannot either.
    underivable: [u64; 2],
}

impl<'a> Stage<'a> {
    /// Sets the stage; the puppets are ready for their first system call.
    pub fn new(env: &'a Env, means: &'a Means) -> Self {
        let mut stage = Stage {
            env,
            means,
            next: means.slots,
            endpoints: [0; 2],
            notifications: [0; 2],
            replies: [0; 4],
            faults: 0,
            fault_replies: [0; PUPPETS + 1],
            go: [0; PUPPETS],
            threads: [0; PUPPETS],
            contexts: [0; PUPPETS],
            nodes: [0; PUPPETS],
            underivable: [0; 2],
        };
        stage.endpoints = stage.make(ObjectType::Endpoint, 0);
        stage.notifications = stage.make(ObjectType::Notification, 0);
        stage.replies = stage.make(ObjectType::Reply, 0);
        [stage.faults] = stage.make(ObjectType::Endpoint, 0);
        stage.fault_replies = stage.make(ObjectType::Reply, 0);
        stage.go = stage.make(ObjectType::Notification, 0);
        stage.threads = stage.make(ObjectType::Tcb, 0);
        stage.contexts = stage.make(ObjectType::SchedContext, 8);
        stage.nodes = stage.make(ObjectType::CapTable, NODE_BITS);
        let [untyped] = stage.make(ObjectType::Untyped, 6);
        let child = stage.slot();
        ok(env.retype(untyped, ObjectType::Endpoint, 0, child, 1));
        let [table] = stage.make(ObjectType::PageTable, 0);
        stage.underivable = [untyped, table];
        for puppet in 0..PUPPETS {
            stage.place(puppet, puppet::GO, stage.go[puppet], CapRights::READ, 0);
            stage.fill(puppet);
            // They cannot be copied, so only one puppet has them.
            if puppet == 0 {
                for (slot, cap) in (22..24).zip(stage.underivable) {
                    stage.transfer(
                        Invocation::CNodeMove,
                        puppet,
                        &[slot, NODE_BITS, cap, DEPTH],
                    );
                }
            }
            stage.configure(puppet);
            stage.restart(puppet);
        }
        stage
    }

    fn slot(&mut self) -> u64 {
        let slot = self.next;
        self.next += 1;
        assert!(
            slot < self.means.slots + ROUND_SLOTS,
            "a round is too large"
        );
        slot
    }

    fn make<const N: usize>(&mut self, kind: ObjectType, bits: u64) -> [u64; N] {
        core::array::from_fn(|_| {
            let slot = self.slot();
            ok(self.env.retype(self.means.untyped, kind, bits, slot, 1));
            slot
        })
    }

    fn transfer(&self, label: Invocation, puppet: usize, words: &[u64]) -> Answer {
        self.env
            .invoke(self.nodes[puppet], label, words, &[init_slot::CNODE])
    }

    fn place(&self, puppet: usize, slot: u64, cap: u64, rights: CapRights, badge: u64) -> u64 {
        let words = [slot, NODE_BITS, cap, DEPTH, rights.0, badge];
        let label = if badge == 0 {
            Invocation::CNodeCopy
        } else {
            Invocation::CNodeMint
        };
        self.transfer(label, puppet, &words).label
    }

    /// Puts the capabilities into a puppet's CNode that are not there; what the attempts answered, as one number.
    pub fn fill(&self, puppet: usize) -> u64 {
        let own = 0x100 * (puppet as u64 + 1);
        let [first, second] = self.endpoints;
        let [signal, other] = self.notifications;
        let call = CapRights::WRITE.union(CapRights::GRANT_REPLY);
        let grant = CapRights::WRITE.union(CapRights::GRANT);
        let caps = [
            (first, CapRights::ALL, own + 1),
            (first, call, own + 2),
            (first, CapRights::WRITE, own + 3),
            (first, CapRights::READ, 0),
            (first, CapRights::ALL, 0),
            (first, grant, 0x77),
            (second, CapRights::ALL, own + 4),
            (second, grant, 0),
            (second, CapRights::READ_WRITE, 0),
            (signal, CapRights::ALL, 1 << puppet),
            (signal, CapRights::READ, 0),
            (signal, CapRights::WRITE, 0x80),
            (other, CapRights::ALL, 0),
            (self.replies[0], CapRights::ALL, 0),
            (self.replies[1], CapRights::ALL, 0),
            (self.replies[2], CapRights::ALL, 0),
            (self.replies[puppet], CapRights::WRITE, 0),
            (self.nodes[puppet], CapRights::ALL, 0),
            (self.threads[(puppet + 1) % PUPPETS], CapRights::ALL, 0),
            (init_slot::VSPACE, CapRights::ALL, 0),
        ];
        (HELD.start..)
            .zip(caps)
            .fold(0, |sum, (slot, (cap, rights, badge))| {
                sum * 13 + self.place(puppet, slot, cap, rights, badge)
            })
    }

    /// The root of a puppet's capability space, and the guard that makes its addresses 64 bits long.
    fn space(&mut self, puppet: usize) -> (u64, u64) {
        let flat = (self.nodes[puppet], DEPTH - NODE_BITS);
        if puppet != PUPPETS - 1 {
            return flat;
        }
        // The last puppet's has levels: its CNode, behind a guard of four bits; a capability that is none; CNodes whose guard does not
        // match, is longer than the rest of an address, or leaves too few bits for the index.
        let [root] = self.make(ObjectType::CapTable, 4);
        let guards = [(0, 4), (5, 4), (0, 11), (0, 5)];
        for (slot, (guard, bits)) in [0, 2, 3, 4].into_iter().zip(guards) {
            let data = CNodeCapData::new(guard, bits).0;
            let words = [slot, 4, flat.0, DEPTH, CapRights::ALL.0, data];
            let node = &[init_slot::CNODE];
            ok(self.env.invoke(root, Invocation::CNodeMint, &words, node));
        }
        let words = [1, 4, self.endpoints[0], DEPTH, CapRights::ALL.0];
        let node = &[init_slot::CNODE];
        ok(self.env.invoke(root, Invocation::CNodeCopy, &words, node));
        (root, DEPTH - 4 - 4 - NODE_BITS)
    }

    /// One of the objects that puppets share, or the time of one.
    pub fn object(&self, which: u64, puppet: usize) -> u64 {
        let [first, second] = self.endpoints;
        let [signal, other] = self.notifications;
        let shared = [first, second, signal, other];
        let all = shared.iter().chain(&self.replies);
        let mut all = all.chain(&self.contexts[puppet..=puppet]);
        all.nth(which as usize % 9).copied().unwrap_or(first)
    }

    fn configure(&mut self, puppet: usize) {
        let Buffer { vaddr, frame } = self.buffer(puppet);
        let (root, guard) = self.space(puppet);
        let guard = CNodeCapData::new(0, guard).0;
        let tcb = self.threads[puppet];
        let spaces = [root, init_slot::VSPACE, frame];
        ok(self
            .env
            .invoke(tcb, Invocation::TcbConfigure, &[guard, 0, vaddr], &spaces));
        // A second: nobody's time ends in a round.
        let context = self.contexts[puppet];
        let words = [1_000_000, 1_000_000, 0, 0, 0];
        ok(self.env.invoke(
            self.env.boot_info().schedcontrol.start,
            Invocation::SchedControlConfigureFlags,
            &words,
            &[context],
        ));
        let faults = self.slot();
        let badge = puppet as u64 + 1;
        let words = [faults, DEPTH, self.faults, DEPTH, CapRights::ALL.0, badge];
        let root = &[init_slot::CNODE];
        ok(self
            .env
            .invoke(init_slot::CNODE, Invocation::CNodeMint, &words, root));
        let priority = 110 + puppet as u64;
        ok(self.env.invoke(
            tcb,
            Invocation::TcbSetSchedParams,
            &[priority, priority],
            &[init_slot::TCB, context, faults],
        ));
    }

    /// Has a puppet wait for its next system call, whatever it does now; what that answered.
    pub fn restart(&self, puppet: usize) -> u64 {
        let registers = UserContext {
            pc: puppet::entry as *const () as u64,
            sp: self.means.stacks[puppet],
            x0: puppet as u64,
            ..UserContext::default()
        };
        let mut words = [0; USER_CONTEXT_WORDS + 2];
        words[0] = 1;
        words[1] = USER_CONTEXT_WORDS as u64;
        words[2..].copy_from_slice(&registers.to_words());
        let tcb = self.threads[puppet];
        self.env
            .invoke(tcb, Invocation::TcbWriteRegisters, &words, &[])
            .label
    }

    /// A puppet's IPC buffer.
    pub fn buffer(&self, puppet: usize) -> Buffer {
        self.means.buffers[puppet]
    }

    /// Everything of the round is gone; what that answered.
    pub fn clear(self) -> u64 {
        self.env.revoke(self.means.untyped).label
    }
}

fn ok(answer: Answer) {
    assert!(answer.label == 0, "setting the stage: {answer:x?}");
}
