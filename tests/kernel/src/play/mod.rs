//! Random plays: four threads make system calls on endpoints, notifications, reply objects and whatever else, with messages,
//! capabilities and receive slots that fit or not, while the root task suspends them, deletes what they use and takes their time away.
//! Everything that they or the root task can see is hashed.
//!
//! The hashes in `digests` are seL4 16's (the same in its release and debug flavours). When a round has another one, it is played again
//! with every step printed; to see what seL4 does there, change the number and run it on seL4.

mod digests;
mod steps;

use crate::same;
use crate::stage::Means;
use crate::suite::{Failure, Test};
use steps::{Round, Seen};
use testbed::{Env, println};

/// The tests of this module.
pub const TESTS: &[Test] = &[("answers_to_messages_in_random_plays", plays)];

/// Below the puppets, so that whatever they can do is done when the root task runs again.
const PRIORITY: u64 = 100;

/// Numbers that only depend on the seed (splitmix64).
pub struct Random(u64);

impl Random {
    /// From this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// A number below this one.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Whether it is so once in so many times.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

fn plays(env: &mut Env) -> Result<(), Failure> {
    env.set_own_priority(PRIORITY);
    let means = Means::new(env);
    let mut different = None;
    let mut all = Seen::default();
    for (seed, digest) in (0..).zip(digests::DIGESTS) {
        let (seen, much) = Round::new(env, &means, seed, false).play();
        all.returns += much.returns;
        all.long += much.long;
        all.capabilities += much.capabilities;
        all.unwrapped += much.unwrapped;
        all.faults += much.faults;
        if seen != *digest {
            println!("round {seed}: {seen:#x}");
            different = different.or(Some((seed, seen)));
        }
    }
    println!("  plays: {all:?}");
    if let Some((seed, _)) = different {
        Round::new(env, &means, seed, true).play();
    }
    env.set_own_priority(255);
    let rounds = digests::DIGESTS.len() as u64;
    let least = [
        (all.returns, 10 * rounds),
        (all.long, rounds),
        (all.capabilities, rounds),
        (all.unwrapped, rounds),
        (all.faults, 5 * rounds),
    ];
    match different {
        None => {
            for (seen, least) in least {
                same!(seen.min(least), least);
            }
            Ok(())
        }
        Some((seed, seen)) => Err(Failure {
            file: file!(),
            line: seed as u32,
            what: "the digest of the round of this number",
            seen,
        }),
    }
}
