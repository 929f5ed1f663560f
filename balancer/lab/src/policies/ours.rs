//! Ours: the very crate that runs in the balancer component.

use super::{Entry, Told};
use crate::policy::{self, Answer, Pace, Policy, Room, Target, View};
use balancer_core::{Action, Balancer, Snapshot};
use protocol::balancer::{Reply, Report, Settings};
use protocol::units::{GuestId, MAX_GUESTS, Pieces};

/// What the laboratory calls it.
pub const ENTRIES: &[Entry] = &[Entry {
    name: "ours",
    what: "the crate `balancer-core`",
    told: Told::Reports,
    paces: &[Pace::Ours],
    make: |trace, _| {
        // As large as in the component; larger tables only where they are needed.
        let guests = trace.guests.len();
        if guests <= MAX_GUESTS {
            Box::new(Ours::<MAX_GUESTS>::new(trace.reserve))
        } else if guests <= 128 {
            Box::new(Ours::<128>::new(trace.reserve))
        } else {
            Box::new(Ours::<GUESTS_MAX>::new(trace.reserve))
        }
    },
}];

/// The most guests that it is built for.
pub const GUESTS_MAX: usize = 1024;

struct Ours<const N: usize> {
    balancer: Box<Balancer<N>>,
    snapshot: Box<Snapshot<N>>,
    started: usize,
}

const fn id(guest: usize) -> GuestId {
    GuestId(guest as _)
}

impl<const N: usize> Ours<N> {
    fn new(reserve: Pieces) -> Self {
        Self {
            balancer: Box::new(Balancer::new(reserve)),
            snapshot: Box::default(),
            started: 0,
        }
    }

    fn take(&mut self, view: &View<'_>) {
        self.snapshot.host = view.host;
        for (to, from) in self.snapshot.accounts.iter_mut().zip(view.accounts) {
            *to = Some(*from);
        }
    }
}

impl<const N: usize> Policy for Ours<N> {
    fn make_room(&mut self, now_ms: u64, settings: &Settings, view: &View<'_>) -> Room {
        self.take(view);
        let guest = id(self.started);
        let reply = self
            .balancer
            .make_room(now_ms, guest, settings.bounds, &self.snapshot);
        match reply {
            Reply::Room => Room::Ready,
            _ => Room::Wait,
        }
    }

    fn started(&mut self, now_ms: u64, settings: &Settings) {
        let started = self.balancer.started(now_ms, id(self.started), *settings);
        assert!(
            started.is_ok(),
            "a trace's settings are checked, and it has at most {N} guests"
        );
        self.started += 1;
    }

    fn report(&mut self, now_ms: u64, guest: usize, report: &Report) -> Answer {
        match self.balancer.report(now_ms, id(guest), report) {
            Ok((next, urgent)) => Answer {
                in_ms: u64::from(next.in_ms),
                keep: next.keep,
                urgent: match urgent {
                    balancer_core::Urgent::Yes => policy::Urgent::Yes,
                    balancer_core::Urgent::No => policy::Urgent::No,
                },
            },
            // It does not know the guest: nobody is told anything.
            Err(_) => Answer {
                in_ms: 1000,
                keep: Pieces(u32::MAX),
                urgent: policy::Urgent::No,
            },
        }
    }

    fn decide(&mut self, now_ms: u64, view: &View<'_>, targets: &mut Vec<Target>) {
        self.take(view);
        for action in self.balancer.decide(now_ms, &self.snapshot) {
            match action {
                Action::SetTarget { guest, target } => targets.push(Target {
                    guest: usize::from(guest.0),
                    pieces: target,
                }),
                // The guests here are marked when they refuse, and never taken from by force.
                Action::Revoke { .. } => {}
            }
        }
    }

    fn why(&self, guest: usize) -> Option<String> {
        self.balancer
            .why(id(guest))
            .map(|line| line.as_str().to_owned())
    }
}
