//! A system made by hand, sound at first.

use super::made::{
    ALL, CODE, DATA, GICV, GUEST_RAM, GUEST_WINDOW, Made, PIECE, PIECES, REGISTERS, System,
};
use crate::{Figures, Place, Ram as _};

/// Pieces: the guests' are the first six, three each, then three of the pool and two that are being cleaned.
const fn piece(index: u64) -> u64 {
    PIECES + index * PIECE
}

const POOL: u64 = piece(6);
const DIRTY: u64 = piece(9);

fn look(made: &Made) -> crate::Findings {
    let place = Place::find(made).unwrap().expect("the dump header");
    let anchor = place.anchor(made).unwrap().expect("a kernel that runs");
    crate::look(made, &anchor).unwrap()
}

#[test]
fn a_sound_system_is_sound() {
    let system = System::new();
    let findings = look(&system.made);
    assert_eq!(findings.problems, Vec::<String>::new());
    let seen = findings.figures;
    assert_eq!(
        Figures {
            capabilities: 0,
            objects: 0,
            tables: 0,
            ..seen
        },
        Figures {
            spaces: 7,
            leaves: 24,
            guests: 2,
            guest_pieces: 6,
            least_whole_percent: Some(100),
            ledger_pieces: 11,
            zero_pieces: 3,
            ..Figures::default()
        }
    );
    assert!(seen.capabilities > 70 && seen.objects > 30 && seen.tables > 10);
}

#[test]
fn a_piece_that_is_mapped_in_parts_is_not_whole() {
    let mut system = System::new();
    let guest = system.guests[0];
    system.made.unmap(guest, GUEST_RAM);
    for page in 0..8 {
        let offset = page << 12;
        system
            .made
            .map(guest, GUEST_RAM + offset, piece(0) + offset, 12, ALL);
    }
    let seen = look(&system.made).figures;
    // 4 MiB of 4 MiB and 32 KiB.
    assert_eq!(seen.least_whole_percent, Some(99));
}

#[test]
fn without_a_kernel_that_runs_there_is_nothing() {
    let mut made = System::new().made;
    made.word(Made::ROOT_THREAD, 0);
    assert_eq!(Place::find(&made), Ok(None));
    let mut made = System::new().made;
    // No kernel has noted where it is.
    made.word(Made::ROOT_THREAD - 8, 0);
    assert_eq!(Place::find(&made), Ok(None));
}

/// A system in which something has been done, and what there is to complain about.
fn finds(what: &str, complaint: &str, plant: impl FnOnce(&mut System)) {
    let mut system = System::new();
    plant(&mut system);
    let problems = look(&system.made).problems;
    assert!(
        problems.iter().any(|problem| problem.contains(complaint)),
        "{what}: {problems:?}"
    );
}

/// With capabilities that say so: what the kernel allows, and this system does not.
#[test]
fn a_frame_in_two_guests_is_found() {
    let beyond = GUEST_RAM + 5 * PIECE;
    finds(
        "granted to one, mapped by both",
        "memory of several guests",
        |s| {
            s.made.map(s.guests[1], beyond, piece(0), 21, ALL);
        },
    );
    finds("the same", "is mapped by several guests", |s| {
        s.made.map(s.guests[1], beyond, piece(0), 21, ALL);
    });
    finds("and by both VMMs", "mapped by several components", |s| {
        s.made
            .map(s.vmms[1], GUEST_WINDOW + 5 * PIECE, piece(0), 21, DATA);
    });
    finds("twice by one", "and so do others", |s| {
        s.made.map(s.guests[0], beyond, piece(0), 21, ALL);
    });
}

#[test]
fn memory_of_guests_in_other_hands_is_found() {
    let vaddr = 0x1_4000_0000;
    finds("the balancer has it", "several components", |s| {
        s.made.map(s.balancer, vaddr, piece(0), 21, DATA);
    });
    finds("only the wrong VMM has it", "which is not its VMM's", |s| {
        let lone = s.grant(0, 7);
        s.vmms.swap(0, 1);
        // A guest's piece that only the other VMM maps: the guest's own window is closed.
        for index in [0, 1, 2, 7] {
            s.made.unmap(s.vmms[1], GUEST_WINDOW + index * PIECE);
        }
        s.made
            .map(s.vmms[0], GUEST_WINDOW + 8 * PIECE, lone, 21, DATA);
    });
    finds("the balancer alone has it", "which is not its VMM's", |s| {
        for index in 0..3 {
            s.made.unmap(s.vmms[0], GUEST_WINDOW + index * PIECE);
            s.made.unmap(s.guests[0], GUEST_RAM + index * PIECE);
        }
        s.made.map(s.balancer, vaddr, piece(0), 21, DATA);
    });
    finds(
        "the guest has a component's page",
        "that is no memory of guests",
        |s| {
            let page = s.made.page(s.balancer, 0x1300_0000, CODE);
            s.made.map(s.guests[0], vaddr, page, 12, CODE);
        },
    );
    finds("the guest has a device", "that is a device", |s| {
        s.made.map(s.guests[0], vaddr, 0x0900_1000, 12, REGISTERS);
    });
    finds("the ledger has it twice", "in the ledger twice", |s| {
        s.untyped_again(piece(0))
    });
}

#[test]
fn free_memory_that_is_not_free_is_found() {
    let beyond = GUEST_RAM + 5 * PIECE;
    for (what, paddr, complaint) in [
        ("a piece of the pool", POOL, "free (Pool)"),
        ("a piece that is being cleaned", DIRTY, "free (Dirty)"),
    ] {
        finds(what, complaint, |s| {
            s.made.map(s.guests[0], beyond, paddr, 21, ALL);
        });
        finds(what, complaint, |s| {
            s.made
                .map(s.vmms[0], GUEST_WINDOW + 5 * PIECE, paddr, 21, DATA);
        });
    }
    finds("a capability that was kept", "2 frame capabilities", |s| {
        s.copy(POOL)
    });
    finds(
        "a byte that was kept",
        "is in the pool and not zero at",
        |s| {
            s.made.word(POOL + PIECE - 8, 1 << 56);
        },
    );
    finds("the first byte", &format!("not zero at {POOL:#x}"), |s| {
        s.made.word(POOL, 1)
    });
}

#[test]
fn components_that_share_too_much_are_found() {
    let vaddr = 0x1310_0000;
    finds("one writes what another reads", "and so do others", |s| {
        let page = s.made.page(s.balancer, vaddr, DATA);
        s.made.map(s.vmms[0], vaddr, page, 12, CODE);
    });
    finds("two have a device", "and so do others", |s| {
        s.made.map(s.vmms[0], vaddr, 0x0900_0000, 12, REGISTERS);
    });
    finds("code that can be written", "writable and executable", |s| {
        s.made.page(s.balancer, vaddr, ALL);
    });
    finds("a thread's own registers", "kernel object", |s| {
        let tcb = s.made.object(4096);
        s.made.capability(7, 0, tcb, 0);
        s.made.map(s.balancer, vaddr, tcb, 12, DATA);
    });
    finds("the kernel's image", "that is the kernel's image", |s| {
        s.made.map(s.balancer, vaddr, 0x4020_3000, 12, DATA);
    });
    // What all guests reach is theirs together.
    let system = System::new();
    assert!(!system.made.range().contains(&GICV));
}
