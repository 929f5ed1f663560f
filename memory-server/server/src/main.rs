//! The memory server: the receive loop and the cleaner thread. The rules are in `memory-server-core`.
//!
//! Invariants:
//! 1. The main thread never waits for anybody but its next message: it answers, signals, and sends only to the cleaner's
//!    held call.
//! 2. Of the two reply objects one is received with, the other holds the cleaner's call or nobody's.
//! 3. No endpoint capability of a client carries Grant and no receive slot is named: nobody pushes a capability in here.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

mod ledger;

use cap::{Endpoint, Reply as ReplyObject, Slot};
use ledger::Ledger;
use memory_server_core::{Outcome, Server};
use protocol::badge::{Client, signal};
use protocol::memory::{Refusal, Reply, Request};
use protocol::slots::{self, memory::LEDGER_RADIX_MAX};
use protocol::startup::{Role, Startup};
use protocol::units::{PieceId, Pieces};

rt::component!(serve, clean);

/// Most pieces: 32 GiB.
const MAX_PIECES: usize = 1 << LEDGER_RADIX_MAX;

/// The index of all pieces: too large for a stack. All zeros, so it takes no room in the image.
static SERVER: spin::Mutex<Server<MAX_PIECES>> = spin::Mutex::new(Server::new());

/// How many pieces this component was started with.
fn total_of(startup: &Startup) -> Pieces {
    match &startup.role {
        Role::MemoryServer { total } => *total,
        _ => rt::fail("the startup page is not the memory server's"),
    }
}

fn serve(startup: Startup) {
    let total = total_of(&startup);
    let mut server = SERVER.lock();
    let mut reply = ReplyObject::new(slots::REPLY);
    let mut kernel = Ledger::new(total, ReplyObject::new(slots::memory::CLEANER_REPLY));
    let found = server.recover(&mut kernel, total);
    if found.lost > Pieces(0) {
        rt::say(format_args!(
            "memory server: {} of {} pieces are in no ledger",
            found.lost.0, total.0
        ));
    }
    let endpoint = Endpoint::new(slots::ENDPOINT);
    let mut received = endpoint.recv(reply);
    while let Ok(message) = received {
        if message.badge & signal::IS_SIGNAL != 0 {
            received = endpoint.recv(reply);
            continue;
        }
        let Ok(request) = message.decode::<Request>() else {
            received = endpoint.reply_recv_malformed(reply);
            continue;
        };
        let outcome = match Client::from_badge(message.badge) {
            Some(client) => server.handle(&mut kernel, client, request),
            None => Outcome::Answer(Reply::Refused(Refusal::NotAllowed)),
        };
        received = match outcome {
            Outcome::Answer(answer) => endpoint.reply_recv_value(&answer, None, reply),
            Outcome::AnswerWithFrame(answer) => {
                endpoint.reply_recv_value(&answer, Some(slots::memory::OUTGOING), reply)
            }
            Outcome::Hold => {
                reply = kernel.hold(reply);
                endpoint.recv(reply)
            }
        };
    }
    rt::fail("the memory server cannot receive");
}

/// The cleaner: retypes one piece after the other, which zeroes it and cleans it to the point of coherency.
fn clean(startup: Startup) {
    let total = total_of(&startup);
    let server = Endpoint::new(slots::memory::CLEANER_ENDPOINT);
    let mut request = Request::Cleaned(None);
    loop {
        request = match cap::call_value::<Request, Reply>(server, &request, None) {
            Ok(Reply::Clean(piece)) => match ledger::make_frame(total, piece) {
                Ok(()) => Request::Cleaned(Some(piece)),
                Err(error) => {
                    report(piece, error);
                    Request::CleanFailed {
                        piece,
                        error: error.code(),
                    }
                }
            },
            _ => rt::fail("the cleaner got no piece"),
        };
    }
}

fn report(piece: PieceId, error: cap::Error) {
    rt::say(format_args!(
        "memory server: piece {} cannot be cleaned: {error:?}",
        piece.0
    ));
}

/// A slot of a ledger CNode; its CNode's capability sits in the component's own CNode at `node`.
fn ledger_slot(node: u64, total: Pieces, piece: PieceId) -> Slot {
    cap::CNode::new(node).slot(u64::from(piece.0), slots::memory::ledger_radix(total))
}
