//! The rules one by one.

use crate::fake::DELETE_FIRST;
use crate::kernel::{CleanerPace, Place};
use crate::properties::World;
use protocol::badge::Client;
use protocol::memory::{Bounds, Purpose, Refusal, Reply, Request, ReturnReason};
use protocol::units::{GuestId, PieceId, Pieces};

const A: GuestId = GuestId(0);
const B: GuestId = GuestId(1);

fn bounds(minimum: u32, startup: u32, maximum: u32) -> Bounds {
    Bounds {
        minimum: Pieces(minimum),
        startup: Pieces(startup),
        maximum: Pieces(maximum),
    }
}

fn admit(world: &mut World, guest: GuestId, bounds: Bounds) -> Reply {
    world.ask(Client::Supervisor, Request::Admit { guest, bounds })
}

fn take(world: &mut World, guest: GuestId) -> Reply {
    world.ask(Client::Vmm(guest), Request::Take(Purpose::Grow))
}

fn target(world: &mut World, guest: GuestId, target: u32) -> Reply {
    world.ask(
        Client::Balancer,
        Request::SetTarget {
            guest,
            target: Pieces(target),
        },
    )
}

fn give_back(world: &mut World, guest: GuestId, piece: PieceId, why: ReturnReason) -> Reply {
    world.ask(Client::Vmm(guest), Request::Return { piece, why })
}

/// A pool of `total` clean pieces, guest A with `pieces` of them.
fn with_guest(total: u32, limits: Bounds, pieces: u32) -> (World, Vec<PieceId>) {
    let mut world = World::new(total);
    world.clean_all();
    assert_eq!(admit(&mut world, A, limits), Reply::Done);
    let mut held = Vec::new();
    for _ in 0..pieces {
        match take(&mut world, A) {
            Reply::Granted { piece } => held.push(piece),
            other => panic!("{other:?}"),
        }
    }
    world.check();
    (world, held)
}

#[test]
fn a_guest_gets_its_startup_and_not_one_piece_more() {
    let (mut world, _) = with_guest(10, bounds(1, 4, 8), 4);
    assert_eq!(
        take(&mut world, A),
        Reply::Refused(Refusal::AtTarget {
            assigned: Pieces(4),
            target: Pieces(4)
        })
    );
    assert_eq!(target(&mut world, A, 8), Reply::Done);
    for _ in 0..4 {
        assert!(matches!(take(&mut world, A), Reply::Granted { .. }));
    }
    assert_eq!(
        take(&mut world, A),
        Reply::Refused(Refusal::AtMaximum(Pieces(8)))
    );
}

#[test]
fn memory_is_promised_before_it_has_a_frame_up_to_the_target() {
    let (mut world, _) = with_guest(10, bounds(1, 4, 8), 4);
    let earmark =
        |world: &mut World, pieces| world.ask(Client::Vmm(A), Request::Earmark(Pieces(pieces)));
    let refused = earmark(&mut world, 1);
    assert!(
        matches!(refused, Reply::Refused(Refusal::AtTarget { .. })),
        "{refused:?}"
    );
    assert_eq!(target(&mut world, A, 7), Reply::Done);
    let refused = earmark(&mut world, 4);
    assert!(
        matches!(refused, Reply::Refused(Refusal::AtTarget { .. })),
        "all or none: {refused:?}"
    );
    assert_eq!(
        earmark(&mut world, u32::MAX),
        Reply::Refused(Refusal::AtMaximum(Pieces(8)))
    );
    assert_eq!(earmark(&mut world, 3), Reply::Done);
    // No frame has moved, and the promise holds when the target falls.
    assert_eq!(world.server.host().pool, Pieces(6));
    assert_eq!(target(&mut world, A, 4), Reply::Done);
    let refused = admit(&mut world, B, bounds(4, 4, 4));
    assert!(
        matches!(refused, Reply::Refused(Refusal::Overcommit { .. })),
        "{refused:?}"
    );
    assert!(matches!(take(&mut world, A), Reply::Refused(_)));
    for _ in 0..3 {
        let touched = world.ask(Client::Vmm(A), Request::Take(Purpose::Touched));
        assert!(matches!(touched, Reply::Granted { .. }), "{touched:?}");
    }
    world.check();
}

#[test]
fn nothing_is_promised_twice() {
    let (mut world, _) = with_guest(10, bounds(2, 4, 10), 4);
    assert_eq!(
        admit(&mut world, B, bounds(1, 7, 8)),
        Reply::Refused(Refusal::Overcommit {
            asked: Pieces(7),
            available: Pieces(6)
        })
    );
    assert_eq!(admit(&mut world, B, bounds(1, 6, 8)), Reply::Done);
    // B has taken nothing yet; its startup is promised all the same.
    assert_eq!(
        target(&mut world, A, 5),
        Reply::Refused(Refusal::Overcommit {
            asked: Pieces(1),
            available: Pieces(0)
        })
    );
    // A lower target frees nothing before the pieces are back (two phases).
    assert_eq!(target(&mut world, A, 2), Reply::Done);
    assert_eq!(
        target(&mut world, B, 7),
        Reply::Refused(Refusal::Overcommit {
            asked: Pieces(1),
            available: Pieces(0)
        })
    );
    let held = world.server.ledger().newest(Place::Guest(A)).unwrap();
    assert_eq!(
        give_back(&mut world, A, held, ReturnReason::Unplugged),
        Reply::Done
    );
    assert_eq!(target(&mut world, B, 7), Reply::Done);
}

#[test]
fn a_guest_waits_for_a_clean_piece_and_is_signalled() {
    let mut world = World::new(3);
    assert_eq!(admit(&mut world, A, bounds(1, 2, 3)), Reply::Done);
    assert_eq!(
        take(&mut world, A),
        Reply::Refused(Refusal::NotReady {
            cleaning: Pieces(3)
        })
    );
    assert_eq!(world.kernel.pace, Some(CleanerPace::Hurried));
    world.clean();
    assert_eq!(world.kernel.guest_signals.get(&A.0), None);
    world.clean();
    assert_eq!(world.kernel.guest_signals.get(&A.0), Some(&1));
    assert!(matches!(take(&mut world, A), Reply::Granted { .. }));
    world.clean_all();
    assert_eq!(world.kernel.pace, Some(CleanerPace::Idle));
    assert_eq!(world.count().pool, Pieces(2));
}

#[test]
fn a_reported_piece_stays_promised_and_comes_back_at_a_touch() {
    let (mut world, held) = with_guest(6, bounds(1, 4, 6), 4);
    assert_eq!(
        give_back(&mut world, A, held[0], ReturnReason::Reported),
        Reply::Done
    );
    let Reply::Account(account) = world.ask(Client::Vmm(A), Request::Mine) else {
        panic!("no account");
    };
    assert_eq!(
        (account.assigned, account.earmarked),
        (Pieces(3), Pieces(1))
    );
    // Growth does not eat the earmark, the touch does.
    assert!(matches!(
        take(&mut world, A),
        Reply::Refused(Refusal::AtTarget { .. })
    ));
    // Nobody else gets it: 2 free of promises, not 3.
    assert_eq!(
        admit(&mut world, B, bounds(1, 3, 3)),
        Reply::Refused(Refusal::Overcommit {
            asked: Pieces(3),
            available: Pieces(2)
        })
    );
    world.clean_all();
    assert!(matches!(
        world.ask(Client::Vmm(A), Request::Take(Purpose::Touched)),
        Reply::Granted { .. }
    ));
    // Without an earmark a touch is growth.
    assert!(matches!(
        world.ask(Client::Vmm(A), Request::Take(Purpose::Touched)),
        Reply::Refused(Refusal::AtTarget { .. })
    ));
}

#[test]
fn force_takes_earmarks_then_the_newest_and_stops_at_the_minimum() {
    let (mut world, held) = with_guest(8, bounds(2, 6, 8), 6);
    assert_eq!(
        give_back(&mut world, A, held[1], ReturnReason::Reported),
        Reply::Done
    );
    assert_eq!(target(&mut world, A, 2), Reply::Done);
    let force = Request::Revoke {
        guest: A,
        pieces: Pieces(3),
    };
    assert_eq!(world.ask(Client::Balancer, force), Reply::Taken(Pieces(3)));
    world.check();
    for piece in [held[5], held[4]] {
        assert!(world.kernel.pieces[piece.0 as usize].copies.is_empty());
    }
    let force = Request::Revoke {
        guest: A,
        pieces: Pieces(100),
    };
    assert_eq!(world.ask(Client::Balancer, force), Reply::Taken(Pieces(1)));
    assert_eq!(world.ask(Client::Balancer, force), Reply::Taken(Pieces(0)));
    let mut lost = Vec::new();
    while let Reply::Revoked(Some(piece)) = world.ask(Client::Vmm(A), Request::NextRevoked) {
        lost.push(piece);
    }
    lost.sort();
    assert_eq!(lost, [held[3], held[4], held[5]]);
}

#[test]
fn force_takes_what_the_vmm_named_before_the_newest() {
    let (mut world, held) = with_guest(8, bounds(2, 6, 8), 6);
    for piece in [held[3], held[1]] {
        let named = world.ask(Client::Vmm(A), Request::TakeFirst(piece));
        assert_eq!(named, Reply::Done);
    }
    let foreign = world.ask(Client::Vmm(A), Request::TakeFirst(PieceId(7)));
    assert_eq!(foreign, Reply::Refused(Refusal::NotYours(PieceId(7))));
    assert_eq!(target(&mut world, A, 3), Reply::Done);
    let force = Request::Revoke {
        guest: A,
        pieces: Pieces(3),
    };
    assert_eq!(world.ask(Client::Balancer, force), Reply::Taken(Pieces(3)));
    world.check();
    for piece in [held[1], held[3], held[5]] {
        assert!(world.kernel.pieces[piece.0 as usize].copies.is_empty());
    }
}

#[test]
fn an_unread_loss_is_not_granted_again_to_the_same_guest() {
    let (mut world, held) = with_guest(2, bounds(1, 2, 2), 2);
    assert_eq!(target(&mut world, A, 1), Reply::Done);
    let force = Request::Revoke {
        guest: A,
        pieces: Pieces(1),
    };
    assert_eq!(world.ask(Client::Balancer, force), Reply::Taken(Pieces(1)));
    world.clean_all();
    assert_eq!(target(&mut world, A, 2), Reply::Done);
    assert!(matches!(
        take(&mut world, A),
        Reply::Refused(Refusal::NotReady { .. })
    ));
    assert_eq!(
        world.ask(Client::Vmm(A), Request::NextRevoked),
        Reply::Revoked(Some(held[1]))
    );
    assert_eq!(take(&mut world, A), Reply::Granted { piece: held[1] });
}

#[test]
fn bounds_move_both_ways_and_never_beyond_what_exists() {
    let (mut world, _) = with_guest(8, bounds(2, 4, 6), 4);
    assert_eq!(admit(&mut world, B, bounds(1, 2, 2)), Reply::Done);
    let set = |world: &mut World, bounds| {
        world.ask(Client::Console, Request::SetBounds { guest: A, bounds })
    };
    assert_eq!(set(&mut world, bounds(1, 4, 3)), {
        Reply::Refused(Refusal::OutOfBounds {
            asked: Pieces(3),
            least: Pieces(4),
            most: Pieces(u32::MAX),
        })
    });
    assert_eq!(
        set(&mut world, bounds(7, 7, 7)),
        Reply::Refused(Refusal::Overcommit {
            asked: Pieces(3),
            available: Pieces(2)
        })
    );
    assert_eq!(set(&mut world, bounds(6, 6, 8)), Reply::Done);
    assert_eq!(set(&mut world, bounds(1, 2, 3)), Reply::Done);
    let Reply::Account(account) = world.ask(Client::Vmm(A), Request::Mine) else {
        panic!("no account");
    };
    assert_eq!((account.target, account.assigned), (Pieces(3), Pieces(4)));
    assert_eq!(
        take(&mut world, A),
        Reply::Refused(Refusal::AtMaximum(Pieces(3)))
    );
    world.check();
}

#[test]
fn a_piece_that_the_kernel_will_not_move_is_nobodys_and_comes_back_later() {
    let (mut world, held) = with_guest(4, bounds(1, 2, 4), 2);
    world.kernel.fail_after = Some((1, DELETE_FIRST));
    assert_eq!(
        give_back(&mut world, A, held[0], ReturnReason::Unplugged),
        Reply::Refused(Refusal::Kernel(DELETE_FIRST.0))
    );
    let host = world.server.host();
    assert_eq!((host.granted, host.cleaning), (Pieces(1), Pieces(1)));
    assert_eq!(
        give_back(&mut world, A, held[0], ReturnReason::Unplugged),
        Reply::Refused(Refusal::NotYours(held[0]))
    );
    // The cleaner's next call mends it.
    assert_eq!(
        give_back(&mut world, A, held[1], ReturnReason::Unplugged),
        Reply::Done
    );
    world.clean_all();
    assert_eq!(world.count().pool, Pieces(4));
}

#[test]
fn each_client_is_kept_to_its_own_requests() {
    let (mut world, held) = with_guest(4, bounds(1, 2, 4), 2);
    let refused = Reply::Refused(Refusal::NotAllowed);
    assert_eq!(world.ask(Client::Vmm(A), Request::Host), refused);
    assert_eq!(world.ask(Client::Vmm(A), Request::Account(B)), refused);
    assert_eq!(
        world.ask(
            Client::Vmm(A),
            Request::SetTarget {
                guest: A,
                target: Pieces(4)
            }
        ),
        refused
    );
    assert_eq!(
        world.ask(Client::Balancer, Request::Take(Purpose::Grow)),
        refused
    );
    assert_eq!(world.ask(Client::Console, Request::Retire(A)), refused);
    assert_eq!(world.ask(Client::Timer, Request::Host), refused);
    assert_eq!(admit(&mut world, B, bounds(1, 1, 1)), Reply::Done);
    assert_eq!(
        give_back(&mut world, B, held[0], ReturnReason::Unplugged),
        Reply::Refused(Refusal::NotYours(held[0]))
    );
    assert_eq!(
        world.ask(Client::Vmm(GuestId(250)), Request::Mine),
        Reply::Refused(Refusal::NoSuchGuest(GuestId(250)))
    );
}

/// A walk of several steps with pieces moving in between says what is true at its end.
#[test]
fn a_long_walk_never_reports_a_mix() {
    use crate::fake::FakeKernel;
    use crate::server::{Outcome, Server};
    let total = 3000u32;
    let mut kernel = FakeKernel::new(total);
    let mut server = Box::new(Server::<4096>::new());
    assert_eq!(
        server.recover(&mut kernel, Pieces(total)).dirty,
        Pieces(total)
    );
    let mut ask =
        |kernel: &mut FakeKernel, client, request| match server.handle(kernel, client, request) {
            Outcome::Answer(reply) | Outcome::AnswerWithFrame(reply) => Some(reply),
            Outcome::Hold => None,
        };
    let admit = Request::Admit {
        guest: A,
        bounds: bounds(1, 900, 900),
    };
    assert_eq!(
        ask(&mut kernel, Client::Supervisor, admit),
        Some(Reply::Done)
    );
    let mut given = None;
    for _ in 0..1500 {
        if let Some(Reply::Clean(piece)) =
            ask(&mut kernel, Client::Cleaner, Request::Cleaned(given))
        {
            kernel.retype(piece).unwrap();
            given = Some(piece);
        }
    }
    let mut steps = 0;
    let counted = loop {
        match ask(&mut kernel, Client::Console, Request::Count) {
            Some(Reply::Counting { left }) => {
                steps += 1;
                assert!(left.0 < total);
                for _ in 0..300 {
                    let taken = ask(&mut kernel, Client::Vmm(A), Request::Take(Purpose::Grow));
                    assert!(matches!(taken, Some(Reply::Granted { .. })), "{taken:?}");
                }
                let back = Request::Return {
                    piece: PieceId(steps),
                    why: ReturnReason::Unplugged,
                };
                assert_eq!(ask(&mut kernel, Client::Vmm(A), back), Some(Reply::Done));
            }
            Some(Reply::Counted(counted)) => break counted,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(steps, 2);
    let real =
        |place: fn(&Place) -> bool| kernel.pieces.iter().filter(|p| place(&p.place)).count() as u32;
    assert_eq!(counted.pool.0, real(|p| *p == Place::Pool));
    assert_eq!(counted.cleaning.0, real(|p| *p == Place::Dirty));
    assert_eq!(counted.granted.0, real(|p| matches!(p, Place::Guest(_))));
    assert_eq!(
        counted.pool.0 + counted.cleaning.0 + counted.granted.0,
        total
    );
}

/// The kernel work of the two benchmarked paths, so that a change which adds an invocation is seen.
#[test]
fn a_grant_costs_two_invocations_and_a_return_two() {
    let (mut world, held) = with_guest(40, bounds(1, 4, 8), 3);
    let before = world.kernel.invocations;
    assert!(matches!(take(&mut world, A), Reply::Granted { .. }));
    assert_eq!(world.kernel.invocations - before, 2);
    let before = world.kernel.invocations;
    assert_eq!(
        give_back(&mut world, A, held[0], ReturnReason::Unplugged),
        Reply::Done
    );
    assert_eq!(world.kernel.invocations - before, 2);
}
