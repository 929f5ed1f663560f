//! The component apart from its receive loop: who may ask what, and what each request does at the memory server.

use crate::balancer::{Action, Balancer, Snapshot, Urgent};
use crate::refusal::{Refusal, line};
use protocol::badge::Client;
use protocol::balancer::{Change, Reply, Request};
use protocol::memory;
use protocol::units::{GuestId, MAX_GUESTS, Pieces};

/// The memory server, as the balancer may call it.
pub trait MemoryServer {
    /// Calls it. `None` when the call failed; the next decision starts from what is true then.
    fn call(&mut self, request: &memory::Request) -> Option<memory::Reply>;
}

/// Most calls of `Revoke` in one decision: 2 GiB by force at a time, so that other requests get their turn.
const REVOKE_CALLS: u32 = 8;

/// The policy with its memory server.
pub struct Service<M, const N: usize = MAX_GUESTS> {
    balancer: Balancer<N>,
    memory: M,
}

impl<M: MemoryServer, const N: usize> Service<M, N> {
    /// A policy without guests that keeps `reserve` out of all targets.
    pub const fn new(reserve: Pieces, memory: M) -> Self {
        Self {
            balancer: Balancer::new(reserve),
            memory,
        }
    }

    /// Says what the description keeps out of the targets, before the first request.
    pub const fn set_reserve_at_start(&mut self, reserve: Pieces) {
        self.balancer.set_reserve_at_start(reserve);
    }

    /// The policy.
    #[must_use]
    pub const fn balancer(&self) -> &Balancer<N> {
        &self.balancer
    }

    /// The memory server.
    pub const fn memory(&mut self) -> &mut M {
        &mut self.memory
    }

    /// Answers a request. What concerns memory is decided before the answer.
    pub fn handle(&mut self, now_ms: u64, client: Client, request: Request) -> Reply {
        self.answer(now_ms, client, request)
            .unwrap_or_else(|refusal| Reply::Refused(line(format_args!("{refusal}"))))
    }

    fn answer(&mut self, now_ms: u64, client: Client, request: Request) -> Result<Reply, Refusal> {
        let done = |()| Reply::Done;
        match (client, request) {
            (Client::Vmm(guest), Request::Report(report)) => {
                let (next, urgent) = self.balancer.report(now_ms, guest, &report)?;
                if urgent == Urgent::Yes {
                    self.decide(now_ms);
                }
                Ok(Reply::NextReport(next))
            }
            (Client::Supervisor, Request::Started { guest, settings }) => {
                self.balancer.started(now_ms, guest, settings).map(done)
            }
            (Client::Supervisor, Request::Stopped(guest)) => {
                self.balancer.stopped(guest);
                self.decide(now_ms);
                Ok(Reply::Done)
            }
            (Client::Supervisor, Request::MakeRoom { guest, bounds }) => {
                let snapshot = self.snapshot().ok_or(Refusal::NoMemoryServer)?;
                let reply = self.balancer.make_room(now_ms, guest, bounds, &snapshot);
                self.decide(now_ms);
                Ok(reply)
            }
            (Client::Supervisor | Client::Console, Request::Paused { guest, state }) => {
                self.balancer.paused(now_ms, guest, state)?;
                self.decide(now_ms);
                Ok(Reply::Done)
            }
            (Client::Console, Request::Set { guest, change }) => {
                self.set(guest, change)?;
                self.decide(now_ms);
                Ok(Reply::Done)
            }
            (Client::Console, Request::SetReserve(reserve)) => {
                self.balancer.set_reserve(reserve)?;
                self.decide(now_ms);
                Ok(Reply::Done)
            }
            // The supervisor remembers a guest's settings for its next start.
            (Client::Console | Client::Supervisor, Request::Row(guest)) => {
                let row = self.balancer.row(now_ms, guest);
                row.map(Reply::Row).ok_or(Refusal::NotRunning(guest))
            }
            (Client::Console, Request::HostRow) => Ok(Reply::HostRow(self.balancer.host_row())),
            (Client::Console, Request::Why(guest)) => {
                let why = self.balancer.why(guest);
                why.map(Reply::Why).ok_or(Refusal::NotRunning(guest))
            }
            _ => Err(Refusal::NotAllowed),
        }
    }

    /// Decides and tells the memory server: on each tick, and when it signals that memory came back.
    pub fn decide(&mut self, now_ms: u64) {
        let Some(snapshot) = self.snapshot() else {
            return;
        };
        for action in self.balancer.decide(now_ms, &snapshot) {
            // What the memory server refuses has changed nothing there, and the next decision sees that.
            match action {
                Action::SetTarget { guest, target } => {
                    self.memory
                        .call(&memory::Request::SetTarget { guest, target });
                }
                Action::Revoke { guest, pieces } => self.revoke(guest, pieces),
            }
        }
    }

    fn revoke(&mut self, guest: GuestId, pieces: Pieces) {
        let mut left = pieces;
        for _ in 0..REVOKE_CALLS {
            let request = memory::Request::Revoke {
                guest,
                pieces: left,
            };
            match self.memory.call(&request) {
                Some(memory::Reply::Taken(taken)) if taken > Pieces(0) => left = left.minus(taken),
                _ => return,
            }
            if left == Pieces(0) {
                return;
            }
        }
    }

    /// Changes a setting. Bounds are the memory server's to agree to first: it knows what can still be promised.
    fn set(&mut self, guest: GuestId, change: Change) -> Result<(), Refusal> {
        let settings = self.balancer.changed(guest, change)?;
        if let Change::Minimum(_) | Change::Startup(_) | Change::Maximum(_) = change {
            let request = memory::Request::SetBounds {
                guest,
                bounds: settings.bounds,
            };
            match self.memory.call(&request) {
                Some(memory::Reply::Done) => {}
                Some(memory::Reply::Refused(refusal)) => return Err(Refusal::Memory(refusal)),
                _ => return Err(Refusal::NoMemoryServer),
            }
        }
        self.balancer.set(guest, change)
    }

    fn snapshot(&mut self) -> Option<Snapshot<N>> {
        let Some(memory::Reply::Host(host)) = self.memory.call(&memory::Request::Host) else {
            return None;
        };
        let mut snapshot = Snapshot {
            host,
            ..Snapshot::default()
        };
        for (id, slot) in (0u16..).zip(snapshot.accounts.iter_mut()) {
            let guest = GuestId(id);
            if !self.balancer.knows(guest) {
                continue;
            }
            let request = memory::Request::Account(guest);
            if let Some(memory::Reply::Account(account)) = self.memory.call(&request) {
                *slot = Some(account);
            }
        }
        Some(snapshot)
    }
}
