//! Random sequences of hostile requests from every client, with the kernel failing now and then. After each step the
//! promises M1 to M5 are checked against the model of the kernel's capabilities.

use crate::fake::{Content, DELETE_FIRST, FakeKernel};
use crate::kernel::{Place, Presence};
use crate::ledger::State;
use crate::server::{Outcome, Server};
use proptest::prelude::*;
use protocol::badge::Client;
use protocol::memory::{Bounds, Purpose, Reply, Request, ReturnReason};
use protocol::units::{GuestId, PieceId, Pieces};
use std::collections::BTreeMap;

const PIECES: u32 = 24;
const GUESTS: u16 = 4;

pub(crate) type Small = Server<64>;

/// One step of a test.
#[derive(Clone, Debug)]
enum Step {
    /// A client asks.
    Ask(Client, Request),
    /// A guest returns one of the pieces that it holds.
    ReturnOwn(u16, usize, ReturnReason),
    /// The cleaner thread finishes what it was given, or comes with its first call.
    Clean,
    /// The cleaner's retype fails.
    CleanFails,
    /// A VMM copies a frame it may hold to another one.
    Leak(u32, u16, u16),
    /// A VMM writes.
    Write(u32, u16),
    /// The kernel will refuse the n-th operation from now.
    Fail(u32),
    /// The server dies and comes back.
    Restart,
}

fn amount() -> impl Strategy<Value = Pieces> {
    prop_oneof![4 => 0u32..30, 1 => any::<u32>()].prop_map(Pieces)
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let ordered = (1u32..6, 0u32..6, 0u32..12)
        .prop_map(|(a, b, c)| (Pieces(a), Pieces(a + b), Pieces(a + b + c)));
    prop_oneof![5 => ordered, 1 => (amount(), amount(), amount())].prop_map(
        |(minimum, startup, maximum)| Bounds {
            minimum,
            startup,
            maximum,
        },
    )
}

fn guest() -> impl Strategy<Value = GuestId> {
    prop_oneof![12 => 0..GUESTS, 1 => any::<u16>()].prop_map(GuestId)
}

fn why() -> impl Strategy<Value = ReturnReason> {
    prop_oneof![
        1 => Just(ReturnReason::Unplugged),
        1 => Just(ReturnReason::Ballooned),
        2 => Just(ReturnReason::Reported)
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let piece = (0..PIECES + 2).prop_map(PieceId);
    prop_oneof![
        8 => Just(Request::Take(Purpose::Grow)),
        3 => Just(Request::Take(Purpose::Touched)),
        3 => (piece.clone(), why()).prop_map(|(piece, why)| Request::Return { piece, why }),
        2 => amount().prop_map(Request::Earmark),
        1 => amount().prop_map(Request::DropEarmark),
        2 => piece.clone().prop_map(Request::TakeFirst),
        2 => Just(Request::NextRevoked),
        1 => Just(Request::Mine),
        5 => (guest(), amount()).prop_map(|(guest, target)| Request::SetTarget { guest, target }),
        2 => (guest(), amount()).prop_map(|(guest, pieces)| Request::Revoke { guest, pieces }),
        1 => Just(Request::Host),
        1 => guest().prop_map(Request::Account),
        2 => Just(Request::Count),
        2 => (guest(), bounds()).prop_map(|(guest, bounds)| Request::SetBounds { guest, bounds }),
        4 => (guest(), bounds()).prop_map(|(guest, bounds)| Request::Admit { guest, bounds }),
        1 => (0..GUESTS).prop_map(|id| Request::Retire(GuestId(id))),
        1 => proptest::option::of(piece).prop_map(Request::Cleaned),
    ]
}

/// Who really may ask it, most of the time; anybody, now and then.
fn ask() -> impl Strategy<Value = Step> {
    (request(), guest(), 0u16..20).prop_map(|(request, guest, who)| {
        let client = match (who, &request) {
            (0, _) => Client::Vmm(guest),
            (1, _) => Client::Balancer,
            (2, _) => Client::Console,
            (3, _) => Client::Supervisor,
            (
                _,
                Request::Take(_)
                | Request::Return { .. }
                | Request::Earmark(_)
                | Request::DropEarmark(_)
                | Request::TakeFirst(_)
                | Request::NextRevoked
                | Request::Mine,
            ) => Client::Vmm(guest),
            (_, Request::SetTarget { .. } | Request::Revoke { .. }) => Client::Balancer,
            (_, Request::Admit { .. } | Request::Retire(_)) => Client::Supervisor,
            _ => Client::Console,
        };
        Step::Ask(client, request)
    })
}

fn step(faults: u32) -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => ask(),
        15 => (0..GUESTS, any::<usize>(), why()).prop_map(|(g, n, why)| Step::ReturnOwn(g, n, why)),
        25 => Just(Step::Clean),
        8 => (0..PIECES, 0..GUESTS, 0..GUESTS).prop_map(|(p, a, b)| Step::Leak(p, a, b)),
        12 => (0..PIECES, 0..GUESTS).prop_map(|(p, a)| Step::Write(p, a)),
        faults => (0u32..12).prop_map(Step::Fail),
        faults => Just(Step::CleanFails),
        2 => Just(Step::Restart),
    ]
}

/// The world around the server: the kernel, the cleaner thread, and what each VMM was told.
pub(crate) struct World {
    pub(crate) server: Box<Small>,
    pub(crate) kernel: FakeKernel,
    /// What the cleaner was given; `None` once it waits in its held call.
    in_cleaner: Option<Option<PieceId>>,
    /// What each guest was told it was granted, and holds as far as it knows.
    told: BTreeMap<u16, Vec<PieceId>>,
    /// What each guest reported free and has neither touched nor given up, by the answers alone.
    earmarks: BTreeMap<u16, u32>,
    faulty: Faults,
}

/// Whether the kernel has refused something in this run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Faults {
    None,
    Some,
}

impl World {
    pub(crate) fn new(pieces: u32) -> Self {
        let mut kernel = FakeKernel::new(pieces);
        let mut server = Box::new(Small::new());
        let found = server.recover(&mut kernel, Pieces(pieces));
        assert_eq!((found.dirty, found.lost), (Pieces(pieces), Pieces(0)));
        Self {
            server,
            kernel,
            in_cleaner: Some(None),
            told: BTreeMap::new(),
            earmarks: BTreeMap::new(),
            faulty: Faults::None,
        }
    }

    pub(crate) fn ask(&mut self, client: Client, request: Request) -> Reply {
        let faulted_before = self.kernel.fail_after;
        let reply = match self.server.handle(&mut self.kernel, client, request) {
            Outcome::Answer(reply) => reply,
            Outcome::AnswerWithFrame(reply) => {
                let (Client::Vmm(guest), Reply::Granted { piece }) = (client, reply) else {
                    panic!("a frame for {client:?} with {reply:?}");
                };
                assert_eq!(self.kernel.deliver(guest), Some(piece));
                reply
            }
            Outcome::Hold => panic!("{client:?} was left without an answer to {request:?}"),
        };
        if faulted_before.is_some() && self.kernel.fail_after.is_none() {
            self.faulty = Faults::Some;
        }
        self.note(client, request, reply);
        while let Some(piece) = self.kernel.handed.pop_front() {
            assert_eq!(
                self.in_cleaner, None,
                "the cleaner was handed a piece while it had one"
            );
            self.in_cleaner = Some(Some(piece));
        }
        reply
    }

    fn note(&mut self, client: Client, request: Request, reply: Reply) {
        match (client, request, reply) {
            (Client::Vmm(guest), Request::Take(purpose), Reply::Granted { piece }) => {
                let account = self.server.guests()[usize::from(guest.0)].unwrap();
                let earmarks = self.earmarks.entry(guest.0).or_default();
                if purpose == Purpose::Touched && *earmarks > 0 {
                    *earmarks -= 1;
                } else {
                    assert!(
                        account.held() <= account.target,
                        "{guest:?} grew past its target"
                    );
                }
                let told = self.told.entry(guest.0).or_default();
                assert!(
                    !told.contains(&piece),
                    "{guest:?} was granted {piece:?} twice"
                );
                told.push(piece);
            }
            (Client::Vmm(guest), Request::Earmark(pieces), Reply::Done) => {
                *self.earmarks.entry(guest.0).or_default() += pieces.0;
                let account = self.server.guests()[guest.0 as usize].unwrap();
                assert!(
                    pieces == Pieces(0) || account.held() <= account.target,
                    "{guest:?} was promised more than its target"
                );
            }
            (Client::Vmm(guest), Request::DropEarmark(pieces), Reply::Done) => {
                *self.earmarks.entry(guest.0).or_default() -= pieces.0;
            }
            (Client::Balancer, Request::Revoke { guest, .. }, Reply::Taken(pieces)) => {
                let earmarks = self.earmarks.entry(guest.0).or_default();
                *earmarks -= pieces.0.min(*earmarks);
            }
            (Client::Vmm(guest), Request::Return { piece, why }, Reply::Done) => {
                if why == ReturnReason::Reported {
                    *self.earmarks.entry(guest.0).or_default() += 1;
                }
                // M5: when the answer arrives nothing is left.
                assert!(self.kernel.pieces[piece.0 as usize].copies.is_empty());
                self.told
                    .entry(guest.0)
                    .or_default()
                    .retain(|other| *other != piece);
            }
            (Client::Vmm(guest), Request::NextRevoked, Reply::Revoked(Some(piece))) => {
                let told = self.told.entry(guest.0).or_default();
                assert!(
                    told.contains(&piece),
                    "{guest:?} lost {piece:?}, which it did not have"
                );
                told.retain(|other| *other != piece);
            }
            (Client::Supervisor, Request::Retire(guest), Reply::Done) => {
                self.told.remove(&guest.0);
                self.earmarks.remove(&guest.0);
            }
            _ => {}
        }
    }

    /// The cleaner thread does one piece. Does nothing while its call is held.
    pub(crate) fn clean(&mut self) -> Option<PieceId> {
        let given = self.in_cleaner.take()?;
        let request = match given.map(|piece| (piece, self.kernel.retype(piece))) {
            Some((piece, Err(error))) => {
                self.faulty = Faults::Some;
                Request::CleanFailed {
                    piece,
                    error: error.0,
                }
            }
            Some((piece, Ok(()))) => Request::Cleaned(Some(piece)),
            None => Request::Cleaned(None),
        };
        let armed = self.kernel.fail_after.is_some();
        match self
            .server
            .handle(&mut self.kernel, Client::Cleaner, request)
        {
            Outcome::Answer(Reply::Clean(piece)) => self.in_cleaner = Some(Some(piece)),
            Outcome::Hold => {}
            other => panic!("the cleaner got {other:?}"),
        }
        if armed && self.kernel.fail_after.is_none() {
            self.faulty = Faults::Some;
        }
        given
    }

    /// Cleans until nothing is left to clean.
    pub(crate) fn clean_all(&mut self) {
        for _ in 0..200 {
            if self.in_cleaner.is_none() {
                return;
            }
            self.clean();
        }
        panic!("the cleaner does not come to rest");
    }

    pub(crate) fn count(&mut self) -> protocol::memory::HostAccount {
        loop {
            match self.ask(Client::Console, Request::Count) {
                Reply::Counting { .. } => {}
                Reply::Counted(account) => return account,
                other => panic!("count answered {other:?}"),
            }
        }
    }

    /// The server process dies; its CNodes and its clients stay. The cleaner thread dies with it.
    fn restart(&mut self) {
        self.kernel.handed.clear();
        self.in_cleaner = Some(None);
        let total = self.kernel.pieces.len() as u32;
        let mut server = Box::new(Small::new());
        let found = server.recover(&mut self.kernel, Pieces(total));
        assert_eq!(
            found.pool.0 + found.dirty.0 + found.granted.0 + found.lost.0,
            total
        );
        self.server = server;
        self.earmarks.clear();
        // A VMM keeps what its capabilities still name; what was revoked shows as a fault to it.
        for (guest, told) in &mut self.told {
            told.retain(|piece| {
                self.kernel.pieces[piece.0 as usize].place == Place::Guest(GuestId(*guest))
            });
        }
    }

    /// M1 to M5, and the index against the capabilities.
    pub(crate) fn check(&self) {
        let mut at_guest: BTreeMap<u16, u32> = BTreeMap::new();
        for (index, piece) in self.kernel.pieces.iter().enumerate() {
            let id = PieceId(index as u32);
            match self.server.ledger().state(id) {
                State::At(place) => {
                    assert_eq!(piece.place, place, "{id:?}: index and capability differ");
                    match place {
                        Place::Pool => {
                            assert_eq!(
                                piece.frame,
                                Presence::Full,
                                "{id:?} in the pool without a frame"
                            );
                            assert_eq!(
                                piece.content,
                                Content::Zero,
                                "{id:?} in the pool is not clean"
                            );
                            assert!(piece.copies.is_empty(), "{id:?} in the pool has copies");
                        }
                        Place::Dirty => {
                            assert_eq!(piece.frame, Presence::Empty);
                            assert!(piece.copies.is_empty());
                        }
                        Place::Guest(guest) => {
                            *at_guest.entry(guest.0).or_default() += 1;
                            if let Content::Written(writer) = piece.content {
                                assert!(writer.is_some(), "{id:?} was granted unclean");
                            }
                        }
                    }
                }
                State::Cleaning => {
                    assert_eq!(piece.place, Place::Dirty);
                    assert!(piece.copies.is_empty());
                    assert_eq!(self.in_cleaner, Some(Some(id)), "{id:?} is with no cleaner");
                }
                State::Aside(place) => {
                    assert_eq!(piece.place, place);
                    assert!(
                        self.faulty == Faults::Some,
                        "{id:?} set aside without a fault"
                    );
                }
                State::Missing => panic!("{id:?} is missing"),
            }
        }
        let mut claims = 0u64;
        for (id, slot) in (0u16..).zip(self.server.guests()) {
            let held = at_guest.get(&id).copied().unwrap_or(0);
            let Some(guest) = slot else {
                assert_eq!(held, 0, "guest {id} is unknown and holds pieces");
                continue;
            };
            assert_eq!(guest.assigned.0, held, "guest {id}");
            let earmarks = self.earmarks.get(&id).copied().unwrap_or(0);
            assert_eq!(guest.earmarked.0, earmarks, "guest {id}");
            claims += u64::from(guest.claim().0);
            let told = self.told.get(&id).map_or(0, Vec::len) as u32;
            if self.faulty == Faults::None {
                assert_eq!(
                    told,
                    guest.assigned.0 + guest.revoked.0,
                    "guest {id} knows what it has"
                );
            }
        }
        let total = u64::from(self.kernel.pieces.len() as u32);
        assert!(claims <= total, "claims {claims} of {total} pieces");
        let host = self.server.host();
        assert_eq!(host.pool.0 + host.granted.0 + host.cleaning.0, host.total.0);
        if self.faulty == Faults::None {
            assert!(
                host.promised.0 <= host.pool.0 + host.cleaning.0,
                "promised {host:?}"
            );
        }
    }
}

fn play(steps: Vec<Step>) {
    let mut world = World::new(PIECES);
    world.clean_all();
    for (id, startup) in [(0, 4), (1, 6)] {
        let bounds = Bounds {
            minimum: Pieces(2),
            startup: Pieces(startup),
            maximum: Pieces(16),
        };
        let guest = GuestId(id);
        world.ask(Client::Supervisor, Request::Admit { guest, bounds });
    }
    for step in steps {
        match step {
            Step::ReturnOwn(guest, nth, why) => {
                let told = world.told.get(&guest).filter(|told| !told.is_empty());
                if let Some(piece) = told.map(|told| told[nth % told.len()]) {
                    world.ask(Client::Vmm(GuestId(guest)), Request::Return { piece, why });
                }
            }
            Step::Ask(client, request) => {
                world.ask(client, request);
            }
            Step::Clean => {
                world.clean();
            }
            Step::CleanFails => {
                world.kernel.fail_after = Some((0, DELETE_FIRST));
                world.clean();
                world.kernel.fail_after = None;
            }
            Step::Leak(piece, from, to) => {
                world
                    .kernel
                    .leak(PieceId(piece), GuestId(from), GuestId(to));
            }
            Step::Write(piece, by) => world.kernel.write(PieceId(piece), GuestId(by)),
            Step::Fail(after) => world.kernel.fail_after = Some((after, DELETE_FIRST)),
            Step::Restart => {
                world.kernel.fail_after = None;
                world.restart();
            }
        }
        world.check();
    }
    world.kernel.fail_after = None;
    let counted = world.count();
    let by_index = world.server.host();
    assert_eq!(
        counted.pool.0 + counted.granted.0 + counted.cleaning.0,
        PIECES
    );
    assert_eq!(
        (counted.total, counted.promised),
        (by_index.total, by_index.promised)
    );
    if world.faulty == Faults::None {
        assert_eq!(counted, by_index);
    }
    // Everybody goes; everything comes back and can be granted again.
    for id in 0..GUESTS {
        world.ask(Client::Supervisor, Request::Retire(GuestId(id)));
    }
    world.clean_all();
    world.check();
    if world.faulty == Faults::None {
        assert_eq!(world.count().pool, Pieces(PIECES));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_whatever_is_asked(steps in proptest::collection::vec(step(0), 0..220)) {
        play(steps);
    }

    #[test]
    fn promises_hold_when_the_kernel_refuses(steps in proptest::collection::vec(step(3), 0..220)) {
        play(steps);
    }
}
