//! The rules of messages (seL4 manual, chapter 4, in `messages`) and of time that goes along with them (6.1.6, in `time`), one test
//! each.
//!
//! Puppets make one system call at a time; they are more important than the root task, so that whatever a call leads to has happened
//! when the root task looks. The numbers of slots are `stage`'s.

pub mod messages;
pub mod time;

use crate::same;
use crate::stage::{Means, NODE_BITS, Stage};
use crate::suite::Failure;
use sel4_sys::{
    Error, Fault, Invocation, IpcBuffer, LookupFailure, MessageInfo, Syscall, cap_fault, init_slot,
    syscall,
};
use testbed::Env;
use testbed::puppet::{self, PUPPETS, REGISTERS};

// Slots of every puppet's CNode: see `Stage::fill`.
const ALL: u64 = 2;
const CALLS: u64 = 3;
const SENDS: u64 = 4;
const RECEIVES: u64 = 5;
const PLAIN: u64 = 6;
const GRANTS: u64 = 7;
const OTHER: u64 = 8;
const SIGNAL: u64 = 11;
const REPLY: u64 = 15;
const SECOND_REPLY: u64 = 16;
const WEAK_REPLY: u64 = 18;
const OWN_NODE: u64 = 19;
const UNDERIVABLE: u64 = 22;
const EMPTY: u64 = 24;

/// The puppet's own badges.
const fn badge(puppet: usize, which: u64) -> u64 {
    0x100 * (puppet as u64 + 1) + which
}

const NONE: MessageInfo = MessageInfo::new(0, 0, 0, 0);
/// A message of this label without anything.
const fn tag(label: u64) -> MessageInfo {
    MessageInfo::new(label, 0, 0, 0)
}

struct Scene<'a> {
    env: &'a Env,
    stage: Stage<'a>,
    finished: [u64; PUPPETS],
}

impl Scene<'_> {
    /// Has a puppet make a system call.
    fn does(&mut self, puppet: usize, call: Syscall, cap: u64, info: MessageInfo, reply: u64) {
        self.does_with(puppet, call, [cap, reply, 0], info, &[]);
    }

    /// The same with capabilities to go along, and NBSendRecv's destination behind capability and reply object.
    fn does_with(
        &mut self,
        puppet: usize,
        call: Syscall,
        [cap, reply, dest]: [u64; 3],
        info: MessageInfo,
        caps: &[u64],
    ) {
        let buffer = self.stage.buffer(puppet);
        let mut content = IpcBuffer {
            msg: core::array::from_fn(|n| 0x1000 + n as u64),
            ..buffer.get()
        };
        for (place, cap) in content.caps_or_badges.iter_mut().zip(caps) {
            *place = *cap;
        }
        buffer.set(&content);
        self.finished[puppet] = puppet::read(puppet).0;
        let info = MessageInfo(info.0 | (caps.len() as u64) << 7);
        let words = [0x1000, 0x1001, 0x1002, 0x1003];
        let [w0, w1, w2, w3] = words;
        puppet::write(
            puppet,
            [cap, info.0, w0, w1, w2, w3, reply, call.word(), dest],
        );
        syscall::signal(self.stage.go[puppet]);
    }

    /// Where the next capability that a puppet receives is to go.
    fn receives_at(&self, puppet: usize, [node, index, depth]: [u64; 3]) {
        let buffer = self.stage.buffer(puppet);
        buffer.set(&IpcBuffer {
            receive_cnode: node,
            receive_index: index,
            receive_depth: depth,
            ..buffer.get()
        });
    }

    /// The registers after the puppet's system call, if it came back.
    fn back(&self, puppet: usize) -> Option<[u64; REGISTERS]> {
        let (finished, x) = puppet::read(puppet);
        (finished != self.finished[puppet]).then_some(x)
    }

    /// 1 if the puppet's system call came back.
    fn is_back(&self, puppet: usize) -> u64 {
        u64::from(self.back(puppet).is_some())
    }

    /// Badge and information word that a puppet received; all ones if nothing.
    fn got(&self, puppet: usize) -> (u64, MessageInfo) {
        self.back(puppet)
            .map_or((u64::MAX, MessageInfo(u64::MAX)), |x| {
                (x[0], MessageInfo(x[1]))
            })
    }

    /// The fault that waits, with the puppet whose it is; label and puppet are all ones if there is none.
    fn fault(&self) -> (usize, u64, [u64; 5]) {
        let fault = syscall::nb_recv(self.stage.faults, self.stage.fault_replies[0]);
        if fault.badge == 0 {
            return (usize::MAX, u64::MAX, [0; 5]);
        }
        let words = core::array::from_fn(|n| testbed::message_word(&fault, n));
        (fault.badge as usize - 1, fault.info.label(), words)
    }

    fn invoke(&self, object: u64, label: Invocation, caps: &[u64]) -> u64 {
        self.env.invoke(object, label, &[], caps).label
    }

    /// Has a puppet run on others' time only, from its next system call on.
    fn makes_passive(&self, puppet: usize) -> u64 {
        let unbind = Invocation::SchedContextUnbind;
        self.invoke(self.stage.contexts[puppet], unbind, &[])
    }
}

/// Plays a scene.
fn scene(
    env: &mut Env,
    play: impl FnOnce(&mut Scene<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let means = Means::new(env);
    env.set_own_priority(100);
    let stage = Stage::new(env, &means);
    let mut scene = Scene {
        env,
        stage,
        finished: [0; PUPPETS],
    };
    let result = play(&mut scene);
    let cleared = scene.stage.clear();
    env.set_own_priority(255);
    result?;
    same!(cleared, 0);
    Ok(())
}
