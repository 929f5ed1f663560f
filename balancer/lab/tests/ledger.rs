//! The laboratory's accounts are those of the memory server: random requests to both, and both say the same.

use balancer_lab::ledger::Ledger;
use memory_server_core::fake::FakeKernel;
use memory_server_core::{Outcome, Server};
use proptest::prelude::*;
use protocol::badge::Client;
use protocol::memory::{Bounds, Purpose, Refusal, Reply, Request, ReturnReason};
use protocol::units::{GuestId, PieceId, Pieces};

const TOTAL: u32 = 64;
const GUESTS: usize = 3;
const BOUNDS: Bounds = Bounds {
    minimum: Pieces(4),
    startup: Pieces(10),
    maximum: Pieces(40),
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Target(usize, u32),
    Grow(usize, u32),
    Earmark(usize, u32),
    Touch(usize, u32),
    Give(usize, u32),
    ReportFree(usize, u32),
    Clean(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let guest = 0..GUESTS;
    prop_oneof![
        (guest.clone(), 0u32..45).prop_map(|(guest, pieces)| Step::Target(guest, pieces)),
        (guest.clone(), 1u32..20).prop_map(|(guest, pieces)| Step::Grow(guest, pieces)),
        (guest.clone(), 1u32..20).prop_map(|(guest, pieces)| Step::Earmark(guest, pieces)),
        (guest.clone(), 1u32..10).prop_map(|(guest, pieces)| Step::Touch(guest, pieces)),
        (guest.clone(), 1u32..20).prop_map(|(guest, pieces)| Step::Give(guest, pieces)),
        (guest, 1u32..20).prop_map(|(guest, pieces)| Step::ReportFree(guest, pieces)),
        (1u32..20).prop_map(Step::Clean),
    ]
}

/// The memory server with its kernel, its cleaner, and what each VMM holds.
struct Real {
    server: Box<Server<TOTAL_USIZE>>,
    kernel: FakeKernel,
    cleaner: Option<Option<PieceId>>,
    held: [Vec<PieceId>; GUESTS],
}

const TOTAL_USIZE: usize = TOTAL as usize;

impl Real {
    fn new() -> Self {
        let mut kernel = FakeKernel::new(TOTAL);
        let mut server = Box::new(Server::new());
        let found = server.recover(&mut kernel, Pieces(TOTAL));
        assert_eq!(found.dirty, Pieces(TOTAL));
        let mut real = Self {
            server,
            kernel,
            cleaner: Some(None),
            held: Default::default(),
        };
        real.clean(TOTAL + 1);
        real
    }

    fn ask(&mut self, client: Client, request: Request) -> Reply {
        let reply = match self.server.handle(&mut self.kernel, client, request) {
            Outcome::Answer(reply) => reply,
            Outcome::AnswerWithFrame(reply) => {
                if let Client::Vmm(guest) = client {
                    self.kernel.deliver(guest);
                }
                reply
            }
            Outcome::Hold => panic!("only the cleaner is held"),
        };
        if let Some(piece) = self.kernel.handed.pop_front() {
            self.cleaner = Some(Some(piece));
        }
        reply
    }

    fn clean(&mut self, pieces: u32) {
        for _ in 0..pieces {
            let Some(given) = self.cleaner.take() else {
                return;
            };
            if let Some(piece) = given {
                self.kernel.retype(piece).unwrap();
            }
            let request = Request::Cleaned(given);
            match self
                .server
                .handle(&mut self.kernel, Client::Cleaner, request)
            {
                Outcome::Answer(Reply::Clean(piece)) => self.cleaner = Some(Some(piece)),
                Outcome::Hold => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn take(&mut self, guest: usize, most: u32, purpose: Purpose) -> u32 {
        let client = Client::Vmm(GuestId(guest as u16));
        for taken in 0..most {
            match self.ask(client, Request::Take(purpose)) {
                Reply::Granted { piece } => self.held[guest].push(piece),
                _ => return taken,
            }
        }
        most
    }

    fn give(&mut self, guest: usize, most: u32, why: ReturnReason) {
        let client = Client::Vmm(GuestId(guest as u16));
        for _ in 0..most {
            let Some(piece) = self.held[guest].pop() else {
                return;
            };
            let reply = self.ask(client, Request::Return { piece, why });
            assert_eq!(reply, Reply::Done);
        }
    }

    fn account(&mut self, guest: usize) -> protocol::memory::Account {
        match self.ask(Client::Vmm(GuestId(guest as u16)), Request::Mine) {
            Reply::Account(account) => account,
            other => panic!("{other:?}"),
        }
    }
}

fn play(ledger: &mut Ledger, real: &mut Real, step: Step) {
    match step {
        Step::Target(guest, pieces) => {
            let target = Pieces(pieces);
            let ours = ledger.set_target(guest, target);
            let request = Request::SetTarget {
                guest: GuestId(guest as u16),
                target,
            };
            let theirs: Result<(), Refusal> = match real.ask(Client::Balancer, request) {
                Reply::Done => Ok(()),
                Reply::Refused(refusal) => Err(refusal),
                other => panic!("{other:?}"),
            };
            assert_eq!(ours, theirs);
        }
        Step::Grow(guest, pieces) => {
            let granted = ledger.grow(guest, pieces);
            assert_eq!(granted, real.take(guest, pieces, Purpose::Grow));
        }
        Step::Earmark(guest, pieces) => {
            let promised = ledger.earmark(guest, pieces);
            // The memory server promises all or nothing: what the laboratory's guest is promised, and no piece more.
            let client = Client::Vmm(GuestId(guest as u16));
            if promised > 0 {
                let reply = real.ask(client, Request::Earmark(Pieces(promised)));
                assert_eq!(reply, Reply::Done);
            }
            if promised < pieces {
                let more = real.ask(client, Request::Earmark(Pieces(1)));
                assert!(matches!(more, Reply::Refused(_)), "{more:?}");
            }
        }
        Step::Touch(guest, pieces) => {
            // Beyond its earmarks a touch would be growth, which a guest of the laboratory never does.
            let most = pieces.min(real.account(guest).earmarked.0);
            let granted = ledger.touch(guest, most);
            assert_eq!(granted, real.take(guest, most, Purpose::Touched));
        }
        Step::Give(guest, pieces) => {
            ledger.give(guest, pieces);
            let earmarks = real.account(guest).earmarked.0.min(pieces);
            if earmarks > 0 {
                let client = Client::Vmm(GuestId(guest as u16));
                let reply = real.ask(client, Request::DropEarmark(Pieces(earmarks)));
                assert_eq!(reply, Reply::Done);
            }
            real.give(guest, pieces - earmarks, ReturnReason::Unplugged);
        }
        Step::ReportFree(guest, pieces) => {
            ledger.report_free(guest, pieces);
            real.give(guest, pieces, ReturnReason::Reported);
        }
        Step::Clean(pieces) => {
            ledger.clean(pieces);
            real.clean(pieces);
        }
    }
}

proptest! {
    #[test]
    fn both_keep_the_same_accounts(steps in proptest::collection::vec(step(), 1..120)) {
        let mut ledger = Ledger::new(Pieces(TOTAL));
        let mut real = Real::new();
        for guest in 0..GUESTS {
            ledger.admit(BOUNDS, BOUNDS.startup).unwrap();
            let request = Request::Admit {
                guest: GuestId(guest as u16),
                bounds: BOUNDS,
            };
            prop_assert_eq!(real.ask(Client::Supervisor, request), Reply::Done);
        }
        for step in steps {
            play(&mut ledger, &mut real, step);
            prop_assert_eq!(ledger.host(), real.server.host(), "{:?}", step);
            for guest in 0..GUESTS {
                prop_assert_eq!(ledger.accounts()[guest], real.account(guest), "{:?}", step);
            }
        }
    }
}
