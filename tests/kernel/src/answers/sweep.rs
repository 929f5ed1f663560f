//! Random invocations of every object: words and capabilities that fit or not, in any order, so that what is looked at first, second and
//! third is compared as well. The digests are seL4 16's; how one that differs is looked into is said in `play`.

use super::*;
use crate::play::Random;
use crate::suite::Test;
use sel4_sys::{CNodeCapData, ObjectType};

/// The tests of this module.
pub const TESTS: &[Test] = &[("answers_to_random_invocations", sweep)];

/// How often each group is played; all objects are made anew each time.
const ROUNDS: u64 = 40;
/// Invocations in a round.
const STEPS: u64 = 60;

/// What is invoked, and the labels that are its own.
#[derive(Clone, Copy, Debug)]
enum Target {
    Object(ObjectType, u64, u64),
    Irq,
    Handler,
    Asids,
    Pool,
    Time,
    OwnSpace,
}

/// What is played, and the digest of what it answers.
const GROUPS: [(Target, u64); 15] = [
    (
        Target::Object(ObjectType::Untyped, 1, 1),
        0xcb7f2ad1352ed34b,
    ),
    (Target::Object(ObjectType::Tcb, 2, 17), 0x254f8e6ab2379383),
    (
        Target::Object(ObjectType::CapTable, 18, 25),
        0x377cccd8c2cfa761,
    ),
    (
        Target::Object(ObjectType::SchedContext, 34, 38),
        0x99fa9015959cbe55,
    ),
    (
        Target::Object(ObjectType::VSpace, 39, 42),
        0xe458d94f222008a8,
    ),
    (
        Target::Object(ObjectType::PageTable, 44, 45),
        0x193d1fb3ee5c01b3,
    ),
    (
        Target::Object(ObjectType::SmallPage, 46, 52),
        0x5cfcae4bcb791b77,
    ),
    (
        Target::Object(ObjectType::LargePage, 46, 52),
        0x2dbce435e4ceb526,
    ),
    (Target::Irq, 0x4321c322ed6cf319),
    (Target::Handler, 0x96dfc438f0ec068b),
    (Target::Asids, 0x5564da3cf80169dd),
    (Target::Pool, 0xb2258a38b6a29c93),
    (Target::Time, 0x4b823af87d307c12),
    (Target::OwnSpace, 0x371f9e73a9499b6a),
    (Target::Object(ObjectType::Vcpu, 55, 59), 0x76c3549d273329ef),
];

/// What a round has beside the object that is invoked.
struct Cast {
    memory: u64,
    slots: u64,
    caps: [u64; 14],
    node: u64,
    /// An address with page tables above it.
    here: u64,
}

/// Slots of the root CNode for a round.
const SLOTS: u64 = 40;

fn sweep(env: &mut Env) -> Result<(), Failure> {
    let memory = env.object(ObjectType::Untyped, 23);
    let slots = env.slots(SLOTS);
    let here = env.window(0x10_000);
    let mut wrong = None;
    for (number, (target, expected)) in GROUPS.into_iter().enumerate() {
        let mut digest = 0xcbf2_9ce4_8422_2325;
        for round in 0..ROUNDS {
            let mut random = Random::new(round << 8 | number as u64);
            digest = play(
                env,
                [memory, slots, here],
                target,
                &mut random,
                digest,
                false,
            );
            let cleared = env.revoke(memory);
            assert!(cleared.label == OK, "clearing: {cleared:?}");
        }
        if digest != expected {
            println!("group {number} {digest:#x}");
            wrong = wrong.or(Some((number, target, digest)));
        }
    }
    let Some((number, target, seen)) = wrong else {
        return Ok(());
    };
    for round in 0..ROUNDS {
        println!("  round {round} of {target:?}");
        let mut random = Random::new(round << 8 | number as u64);
        play(env, [memory, slots, here], target, &mut random, 0, true);
        env.revoke(memory);
    }
    Err(Failure {
        file: file!(),
        line: number as u32,
        what: "the digest of the group of this number",
        seen,
    })
}

fn cast(env: &Env, [memory, slots, here]: [u64; 3]) -> Cast {
    let mut next = slots;
    let mut make = |kind, bits| {
        let slot = next;
        next += 1;
        let made = env.retype(memory, kind, bits, slot, 1);
        assert!(made.label == OK, "making objects: {made:?}");
        slot
    };
    let node = make(ObjectType::CapTable, 4);
    let caps = [
        node,
        make(ObjectType::Tcb, 0),
        make(ObjectType::SchedContext, 8),
        make(ObjectType::Endpoint, 0),
        make(ObjectType::Notification, 0),
        make(ObjectType::VSpace, 0),
        SPACE,
        make(ObjectType::SmallPage, 0),
        make(ObjectType::Untyped, 12),
        make(ObjectType::PageTable, 0),
        make(ObjectType::CapTable, 4),
        init_slot::TCB,
        // Nothing, and what has another guard.
        slots + SLOTS - 1,
        make(ObjectType::Reply, 0),
    ];
    // One of the CNodes translates whole addresses.
    let (wide, guard) = (next, CNodeCapData::new(0, 60).0);
    let mut caps = caps;
    let words = [wide, 64, caps[10], 64, 15, guard];
    let root = [init_slot::CNODE];
    env.invoke(init_slot::CNODE, Invocation::CNodeMint, &words, &root);
    caps[10] = wide;
    let held = [caps[4], caps[3], caps[7], node];
    for (slot, cap) in (1..).zip(held) {
        let words = [slot, 4, cap, 64, 15];
        let root = [init_slot::CNODE];
        env.invoke(node, Invocation::CNodeCopy, &words, &root);
    }
    Cast {
        memory,
        slots: next + 1,
        caps,
        node,
        here,
    }
}

fn play(
    env: &Env,
    means: [u64; 3],
    target: Target,
    random: &mut Random,
    mut digest: u64,
    prints: bool,
) -> u64 {
    let cast = cast(env, means);
    let (object, first, last) = match target {
        Target::Object(ObjectType::CapTable, first, last) => (cast.node, first, last),
        Target::Object(kind, first, last) => {
            env.retype(cast.memory, kind, 12, cast.slots, 1);
            (cast.slots, first, last)
        }
        Target::Irq => (init_slot::IRQ_CONTROL, 60, 61),
        Target::Handler => {
            let words = [97, cast.slots, 64];
            let root = [init_slot::CNODE];
            let issue = Invocation::IrqIssueIrqHandler;
            env.invoke(init_slot::IRQ_CONTROL, issue, &words, &root);
            (cast.slots, 27, 29)
        }
        Target::Asids => (init_slot::ASID_CONTROL, 53, 53),
        Target::Pool => (init_slot::ASID_POOL, 54, 54),
        Target::Time => (env.boot_info().schedcontrol.start, 33, 33),
        Target::OwnSpace => (SPACE, 39, 42),
    };
    for _ in 0..STEPS {
        let label = match target {
            Target::Irq if random.below(2) == 0 => 26,
            // Not InjectIRQ: what it answers to a list register in use is on `elsewhere`'s list.
            Target::Object(ObjectType::Vcpu, ..) => [55, 57, 58, 59][random.below(4) as usize],
            _ => first + random.below(last - first + 1),
        };
        let words: [u64; 8] = core::array::from_fn(|_| word(random, cast.here));
        let caps: [u64; 3] =
            core::array::from_fn(|_| cast.caps[random.below(cast.caps.len() as u64) as usize]);
        let (mut words, mut caps) = fit(random, label, &cast, words, caps);
        if label == Invocation::ArmVcpuSetTcb.word() && caps[0] == init_slot::TCB {
            // The root task does not become a guest.
            caps[0] = cast.caps[1];
        }
        if (matches!(target, Target::Irq) && label != 61 || label == 59) && words[0] < 1024 {
            // How many there are is the machine's, so only such as every machine has.
            words[0] %= 100;
        }
        if label == Invocation::ArmIrqIssueSgiSignal.word() && words[1] >> 32 == 0 {
            // A GICv2 names eight cores, a GICv3 more.
            words[1] %= 8;
        }
        let length = if random.below(6) == 0 {
            random.below(9)
        } else {
            8
        };
        let count = if random.below(6) == 0 {
            random.below(4)
        } else {
            3
        };
        let (words, caps) = (&words[..length as usize], &caps[..count as usize]);
        let answer = testbed::invoke(object, label, words, caps);
        let mut answer = answer;
        if label == Invocation::TcbSetFlags.word() {
            // Those above are this kernel's own.
            answer.words[0] &= 0xffff_ffff;
        }
        let shown = shown(label, &answer);
        for word in [answer.label, answer.length].iter().chain(shown) {
            digest = (digest ^ word).wrapping_mul(0x0000_0100_0000_01b3);
            digest ^= digest >> 29;
        }
        if prints {
            let caps = caps
                .iter()
                .map(|cap| cast.caps.iter().position(|other| other == cap));
            let caps = caps.map(|place| place.unwrap_or(99) as u64);
            let numbers = caps.fold(0, |sum, place| sum << 8 | place);
            println!(
                "    {label} {words:x?} {numbers:x} -> {} {shown:x?}",
                answer.label
            );
        }
    }
    // What a round leaves behind outside of its memory.
    for slot in cast.slots..means[1] + SLOTS {
        env.delete(slot);
    }
    digest
}

/// Of the answer, what both kernels can know: not addresses, times and registers, nor how many interrupts the machine has or how long a
/// period the timer can count.
fn shown(label: u64, answer: &testbed::Answer) -> &[u64] {
    let machine = [
        Invocation::IrqIssueIrqHandler,
        Invocation::ArmIrqIssueIrqHandlerTrigger,
        Invocation::SchedControlConfigureFlags,
        Invocation::ArmVcpuAckVppi,
    ];
    let own = [
        Invocation::ArmPageGetAddress,
        Invocation::SchedContextConsumed,
        Invocation::SchedContextYieldTo,
        Invocation::TcbReadRegisters,
        Invocation::ArmVcpuReadReg,
    ];
    let is = |labels: &[Invocation]| labels.iter().any(|other| other.word() == label);
    let told = &answer.words[..answer.length.min(4) as usize];
    if answer.label == RANGE && is(&machine) && told.len() > 1 {
        &told[..1]
    } else if answer.label == OK && is(&own) {
        &[]
    } else {
        told
    }
}

fn word(random: &mut Random, here: u64) -> u64 {
    match random.below(16) {
        0..6 => random.below(5),
        6 | 7 => [4, 64, 12, 15, 16, 255, 256][random.below(7) as usize],
        8 => 64,
        9 => [MAX, MAX - 1, 1 << 40, 1 << 63, 1 << 32][random.below(5) as usize],
        10 | 11 => here + 0x1000 * random.below(4),
        12 => here + random.below(0x3000),
        13 => 0x1000 * random.below(3),
        14 => [1000, 10_000, 300, 100][random.below(4) as usize],
        _ => 0x22_0000_0000 + 0x20_0000 * random.below(3),
    }
}

/// Half of the time, words and capabilities that come closer to what the invocation takes.
fn fit(
    random: &mut Random,
    label: u64,
    cast: &Cast,
    mut words: [u64; 8],
    mut caps: [u64; 3],
) -> ([u64; 8], [u64; 3]) {
    if random.below(2) == 0 {
        return (words, caps);
    }
    let slot = |random: &mut Random| 1 + random.below(7);
    let place = 8 + random.below(3);
    let mut set = |values: &[u64]| words[..values.len()].copy_from_slice(values);
    match label {
        1 => {
            set(&[
                random.below(13),
                4 + random.below(9),
                0,
                0,
                random.below(17),
                1 + random.below(4),
            ]);
            caps[0] = cast.node;
        }
        5 => set(&[0, 0, [0, 0x400, 0x1000][random.below(3) as usize]]),
        18..21 => set(&[slot(random), 4]),
        21..25 => {
            set(&[
                slot(random),
                4,
                slot(random),
                4,
                random.below(16),
                random.below(3),
            ]);
            caps[0] = cast.node;
        }
        25 => {
            set(&[slot(random), 4, 0, slot(random), 4, 0, slot(random), 4]);
            caps = [cast.node; 3];
        }
        26 => {
            set(&[[90, 98, 99][random.below(3) as usize], place, 64]);
            caps[0] = cast.caps[10];
        }
        60 | 61 => {
            set(&[random.below(20) + 83, random.below(3), place, 64]);
            caps[0] = cast.caps[10];
        }
        33 => set(&[
            100 * random.below(4),
            100 * random.below(4),
            random.below(10),
            5,
            random.below(3),
        ]),
        53 => {
            set(&[place, 64]);
            caps = [cast.caps[8], cast.caps[10], 0];
        }
        _ => caps[0] = [SPACE, cast.caps[5], caps[0]][random.below(3) as usize],
    }
    (words, caps)
}
