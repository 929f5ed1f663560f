//! What happens in a round, and what is seen of it.

use super::Random;
use crate::stage::{HELD, Means, NODE_BITS, RECEIVE, Stage};
use sel4_sys::{
    Fault, Invocation, IpcBuffer, MessageInfo, cap_fault, init_slot, syscall, unknown_syscall,
};
use testbed::puppet::{self, PUPPETS, REGISTERS};
use testbed::{Env, println};

/// Slots of capabilities that can be received on, the first endpoint's above all, and of those that can be sent to.
const READABLE: [u64; 10] = [2, 2, 5, 5, 6, 6, 8, 10, 12, 14];
const WRITABLE: [u64; 12] = [2, 2, 3, 3, 4, 6, 6, 7, 8, 9, 11, 13];

/// Steps of a round.
const STEPS: u64 = 60;

/// A round being played.
pub struct Round<'a> {
    env: &'a Env,
    stage: Stage<'a>,
    random: Random,
    digest: Digest,
    finished: [u64; PUPPETS],
    is_busy: [bool; PUPPETS],
    sent: [u64; PUPPETS],
    fault_replies: [u64; PUPPETS],
    free_reply: u64,
    seen: Seen,
}

/// How much was seen: a play in which nothing happens would compare nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// System calls that came back.
    pub returns: u64,
    /// Of these, with more words than registers take.
    pub long: u64,
    /// Of these, with capabilities.
    pub capabilities: u64,
    /// Of these, with one that arrived as a badge.
    pub unwrapped: u64,
    /// Faults.
    pub faults: u64,
}

/// What was seen, as a number, and printed if it is asked for.
struct Digest {
    value: u64,
    prints: bool,
}

impl Digest {
    fn add(&mut self, words: &[u64]) {
        for word in words {
            self.value = (self.value ^ word).wrapping_mul(0x0000_0100_0000_01b3);
            self.value ^= self.value >> 29;
        }
    }

    fn say(&mut self, what: &str, words: &[u64]) {
        self.add(words);
        if self.prints {
            println!("    {what} {words:x?}");
        }
    }
}

impl<'a> Round<'a> {
    /// The round of this seed.
    pub fn new(env: &'a Env, means: &'a Means, seed: u64, prints: bool) -> Self {
        let stage = Stage::new(env, means);
        let [free_reply, fault_replies @ ..] = stage.fault_replies;
        Self {
            env,
            stage,
            random: Random::new(seed),
            digest: Digest {
                value: 0xcbf2_9ce4_8422_2325,
                prints,
            },
            finished: core::array::from_fn(|puppet| puppet::read(puppet).0),
            is_busy: [false; PUPPETS],
            sent: [0; PUPPETS],
            fault_replies,
            free_reply,
            seen: Seen::default(),
        }
    }

    /// Plays it; the digest of what was seen, and how much of it there was.
    pub fn play(mut self) -> (u64, Seen) {
        if self.digest.prints {
            println!("  the round, step by step:");
        }
        for _ in 0..STEPS {
            let mut puppet = self.random.below(PUPPETS as u64) as usize;
            if self.random.one_in(5) {
                self.interfere(puppet);
            } else {
                // Mostly one that will do it: who is in a system call or a fault is passed over, or is taken out of it.
                for _ in 0..PUPPETS {
                    if self.is_busy[puppet] && !self.random.one_in(4) {
                        puppet = (puppet + 1) % PUPPETS;
                    }
                }
                if self.is_busy[puppet] && !self.random.one_in(4) {
                    let label = self.stage.restart(puppet);
                    self.digest.say("restart", &[puppet as u64, label]);
                }
                self.command(puppet);
            }
            self.observe();
        }
        for puppet in 0..PUPPETS {
            let probe = self.stage.fill(puppet);
            self.digest.say("capabilities left", &[probe]);
        }
        let cleared = self.stage.clear();
        self.digest.add(&[cleared]);
        (self.digest.value, self.seen)
    }

    /// A puppet makes a system call, if it waits for its command and has time.
    fn command(&mut self, puppet: usize) {
        let random = &mut self.random;
        let mut content = IpcBuffer {
            tag: 0,
            msg: core::array::from_fn(|word| 0x1_0000 * (puppet as u64 + 1) + word as u64),
            user_data: 0,
            caps_or_badges: core::array::from_fn(|_| {
                if random.one_in(3) {
                    address(random)
                } else {
                    HELD.start + random.below(HELD.end - HELD.start - 2)
                }
            }),
            receive_cnode: if random.one_in(8) {
                address(random)
            } else {
                // The puppet's own CNode.
                19
            },
            receive_index: RECEIVE.start + random.below(RECEIVE.end - RECEIVE.start),
            receive_depth: NODE_BITS,
        };
        match random.below(12) {
            0 => content.receive_index = HELD.start,
            1 => content.receive_depth = random.below(70),
            2 => content.receive_index = 0x40 + random.below(0x40),
            _ => {}
        }
        self.stage.buffer(puppet).set(&content);
        let length = match random.below(6) {
            0 => 0,
            1 => random.below(5),
            2 => random.below(128),
            _ => 1 + random.below(8),
        };
        let caps = if random.one_in(2) { random.below(4) } else { 0 };
        // A label that invokes nothing of the objects that puppets have but the one that is called next.
        let mut label = 0x100 + random.below(0x100);
        let mut x: [u64; REGISTERS] = core::array::from_fn(|n| 0x10 * (n as u64 + 1));
        x[6] = reply(random);
        x[7] = match random.below(24) {
            0 => [0, 42, u64::MAX - 100, 1 << 63][random.below(4) as usize],
            1..6 => (-1i64) as u64,
            6..10 => (-2i64) as u64,
            10..15 => (-7i64) as u64,
            _ => (-1 - random.below(11) as i64) as u64,
        };
        let receives = ![-1, -5, -6].map(|call: i64| call as u64).contains(&x[7]);
        x[0] = if random.one_in(5) {
            address(random)
        } else if receives {
            READABLE[random.below(READABLE.len() as u64) as usize]
        } else {
            WRITABLE[random.below(WRITABLE.len() as u64) as usize]
        };
        x[8] = address(random);
        if x[7] == (-4i64) as u64 && random.one_in(2) {
            x[6] = address(random);
        }
        if x[0] == 20 && random.one_in(2) {
            label = [
                Invocation::TcbSuspend.word(),
                Invocation::TcbResume.word(),
                Invocation::TcbUnbindNotification.word(),
            ][random.below(3) as usize];
        }
        x[1] = MessageInfo::new(label, random.below(8), caps, length).0;
        self.sent[puppet] = x[1];
        puppet::write(puppet, x);
        self.digest.say(
            "command",
            &[puppet as u64, x[7].wrapping_neg(), x[0], x[1], x[6], x[8]],
        );
        self.is_busy[puppet] = true;
        syscall::signal(self.stage.go[puppet]);
    }

    /// The root task does something to a puppet, or to what it uses.
    #[expect(clippy::too_many_lines, reason = "one arm for each thing it does")]
    fn interfere(&mut self, puppet: usize) {
        let tcb = self.stage.threads[puppet];
        let context = self.stage.contexts[puppet];
        let node = self.stage.nodes[puppet];
        let random = &mut self.random;
        let choice = random.below(22);
        let pick = random.next();
        let notification = self.stage.notifications[pick as usize & 1];
        let endpoint = self.stage.endpoints[pick as usize & 1];
        let simple = |cap, label, words: &[u64], caps: &[u64]| {
            let answer = self.env.invoke(cap, label, words, caps);
            let length = answer.length.min(4) as usize;
            (answer.label, answer.words.get(..length).map_or(0, sum))
        };
        let slot = HELD.start + pick % (RECEIVE.end - HELD.start);
        let (label, words) = match choice {
            0..3 => (self.stage.restart(puppet), 0),
            3 => {
                syscall::signal(notification);
                (0, 0)
            }
            4 | 5 => simple(tcb, Invocation::TcbSuspend, &[], &[]),
            6 | 7 => simple(tcb, Invocation::TcbResume, &[], &[]),
            8 => {
                let priority = 110 + pick % 5;
                let authority = [init_slot::TCB];
                simple(tcb, Invocation::TcbSetPriority, &[priority], &authority)
            }
            9 => simple(node, Invocation::CNodeDelete, &[slot, NODE_BITS], &[]),
            10 => {
                let (label, words) = (Invocation::CNodeCancelBadgedSends, [2, NODE_BITS]);
                simple(node, label, &words, &[])
            }
            11 => simple(tcb, Invocation::TcbBindNotification, &[], &[notification]),
            12 => simple(tcb, Invocation::TcbUnbindNotification, &[], &[]),
            13 => simple(context, Invocation::SchedContextUnbind, &[], &[]),
            14 => simple(context, Invocation::SchedContextBind, &[], &[tcb]),
            15 => {
                let object = if pick & 2 == 0 { notification } else { tcb };
                let label = [
                    Invocation::SchedContextBind,
                    Invocation::SchedContextUnbindObject,
                ][pick as usize >> 2 & 1];
                simple(context, label, &[], &[object])
            }
            16 => {
                let buffer = self.stage.buffer(puppet);
                let address = if pick & 1 == 0 { 0 } else { buffer.vaddr };
                let label = Invocation::TcbSetIpcBuffer;
                simple(tcb, label, &[address], &[buffer.frame])
            }
            17 => {
                // What it consumed is not compared: the kernels need different times.
                let label = Invocation::SchedContextYieldTo;
                (self.env.invoke(context, label, &[], &[]).label, 0)
            }
            18 => {
                let object = self.stage.object(pick >> 4, puppet);
                let revoked = self.env.revoke(object).label;
                let deleted = if pick >> 62 == 0 {
                    self.env.delete(object).label
                } else {
                    0
                };
                (revoked, deleted)
            }
            19 | 20 => {
                let info = MessageInfo::new(pick >> 20, 0, 0, pick & 3);
                syscall::nb_send(endpoint, info, [1, 2, 3, 4]);
                (0, 0)
            }
            _ => {
                // An answer to a fault, or nothing.
                let info = MessageInfo::new(pick >> 4 & 1, 0, 0, pick & 3);
                let words = [0x51, 0x52, 0x53, 0x54];
                syscall::send(self.fault_replies[puppet], info, words);
                (0, 0)
            }
        };
        let refilled = match (choice, pick >> 60 & 1) {
            (9 | 18, 0) => self.stage.fill(puppet),
            (18, _) => sum(&core::array::from_fn::<u64, PUPPETS, _>(|puppet| {
                self.stage.fill(puppet)
            })),
            _ => 0,
        };
        let words = [puppet as u64, choice, pick & 7, label, words, refilled];
        self.digest.say("interference", &words);
    }

    /// What the puppets have got, and whose faults are waiting.
    fn observe(&mut self) {
        loop {
            let fault = syscall::nb_recv(self.stage.faults, self.free_reply);
            let Some(puppet) = (fault.badge as usize).checked_sub(1) else {
                break;
            };
            core::mem::swap(&mut self.fault_replies[puppet], &mut self.free_reply);
            let word = |n: usize| testbed::message_word(&fault, n);
            let label = fault.info.label();
            let words = if label == Fault::CapFault.word() {
                [
                    word(cap_fault::ADDR),
                    word(cap_fault::IN_RECV_PHASE),
                    word(cap_fault::LOOKUP_FAILURE_TYPE),
                    if fault.info.length() > cap_fault::BITS_LEFT as u64 {
                        word(cap_fault::BITS_LEFT)
                    } else {
                        0
                    },
                ]
            } else if label == Fault::UnknownSyscall.word() {
                [word(0), word(1), word(6), word(unknown_syscall::SYSCALL)]
            } else {
                [0; 4]
            };
            let told = [fault.badge, fault.info.0, sum(&words)];
            self.digest.say("fault", &told);
            self.seen.faults += 1;
        }
        for puppet in 0..PUPPETS {
            let (finished, x) = puppet::read(puppet);
            if finished != self.finished[puppet] {
                self.finished[puppet] = finished;
                self.is_busy[puppet] = false;
                self.digest.say("back", &[puppet as u64]);
                self.digest.say("  registers", &x);
                // What was sent stands there yet if nothing was received.
                let info = if x[1] == self.sent[puppet] {
                    MessageInfo(0)
                } else {
                    MessageInfo(x[1])
                };
                self.seen.returns += 1;
                self.seen.long += u64::from(info.length() > 4);
                self.seen.capabilities += u64::from(info.extra_caps() > 0);
                self.seen.unwrapped += u64::from(info.caps_unwrapped() > 0);
            }
            let content = self.stage.buffer(puppet).get();
            let mut seen = Digest {
                value: 0,
                prints: false,
            };
            seen.add(&content.msg);
            seen.add(&content.caps_or_badges);
            self.digest.say("  buffer", &[seen.value]);
        }
    }
}

/// Different for most different words.
fn sum(words: &[u64]) -> u64 {
    words
        .iter()
        .fold(0, |sum: u64, word| sum.rotate_left(9) ^ word)
}

/// The address of a capability, or of none.
fn address(random: &mut Random) -> u64 {
    match random.below(16) {
        0 => 0,
        1 => RECEIVE.start + random.below(RECEIVE.end - RECEIVE.start),
        // Where only the puppet with several levels finds something, or fails in other ways.
        2 => random.below(6) << 10 | [0, 5 << 6][random.below(2) as usize] | HELD.start,
        3 if random.one_in(2) => 28 + random.below(100),
        3 => 1 << random.below(64),
        4..8 => HELD.start + random.below(HELD.end - HELD.start),
        // The endpoints, the first one above all.
        8..10 => HELD.start + random.below(9),
        _ => HELD.start + random.below(6),
    }
}

/// The address of a reply object, mostly.
fn reply(random: &mut Random) -> u64 {
    match random.below(10) {
        0 => address(random),
        _ => 15 + random.below(4),
    }
}
