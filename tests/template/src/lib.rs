//! A template for a component of one's own: a server that lends a fixed number of tickets to its clients.
//!
//! The shape is the one of every server in this repository: the *core* (this file) decides, and reaches the kernel only
//! through a small trait; the *binary* is the receive loop. So the core is tested on the host, against a fake of that
//! trait, with as many random requests as one likes; and the same core is then tested in QEMU on the real kernel
//! (`src/main.rs`). Copy the crate, replace the core, keep the shape.
//!
//! Invariant: tickets in hand plus tickets lent is the number the server started with.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

/// Most clients (their badges are `0..CLIENTS`).
pub const CLIENTS: usize = 8;

/// What the core needs of the kernel.
pub trait Kernel {
    /// Wakes a client that waits for a ticket.
    fn signal(&mut self, client: usize);
}

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A ticket, please.
    Take,
    /// One back.
    Return,
}

impl Request {
    /// From a message's label; the wire is not trusted.
    #[must_use]
    pub const fn from_label(label: u64) -> Option<Self> {
        match label {
            1 => Some(Self::Take),
            2 => Some(Self::Return),
            _ => None,
        }
    }
}

/// What the server answers; the discriminant is the answer's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Reply {
    /// Done.
    Done = 0,
    /// None left: the client is signalled when there is one.
    Later = 1,
    /// The client has none to return.
    NotYours = 2,
    /// No such request, or no such client.
    Malformed = 3,
}

/// The server's state.
#[derive(Debug)]
pub struct Tickets {
    left: u32,
    lent: [u32; CLIENTS],
    waiting: [bool; CLIENTS],
}

impl Tickets {
    /// A server with `tickets` to lend.
    #[must_use]
    pub const fn new(tickets: u32) -> Self {
        Self {
            left: tickets,
            lent: [0; CLIENTS],
            waiting: [false; CLIENTS],
        }
    }

    /// Tickets in hand.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.left
    }

    /// Answers one request. A refused request has changed nothing but the waiting list.
    pub fn handle(
        &mut self,
        kernel: &mut impl Kernel,
        badge: u64,
        request: Option<Request>,
    ) -> Reply {
        let client = usize::try_from(badge).unwrap_or(CLIENTS);
        let (Some(request), Some(lent)) = (request, self.lent.get_mut(client)) else {
            return Reply::Malformed;
        };
        match request {
            Request::Take if self.left == 0 => {
                if let Some(waiting) = self.waiting.get_mut(client) {
                    *waiting = true;
                }
                Reply::Later
            }
            Request::Take => {
                self.left -= 1;
                *lent += 1;
                Reply::Done
            }
            Request::Return if *lent == 0 => Reply::NotYours,
            Request::Return => {
                *lent -= 1;
                self.left += 1;
                if let Some(next) = self.waiting.iter().position(|waiting| *waiting) {
                    if let Some(waiting) = self.waiting.get_mut(next) {
                        *waiting = false;
                    }
                    kernel.signal(next);
                }
                Reply::Done
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The fake kernel: it remembers whom it woke.
    #[derive(Default)]
    struct Fake {
        woken: Vec<usize>,
    }

    impl Kernel for Fake {
        fn signal(&mut self, client: usize) {
            self.woken.push(client);
        }
    }

    #[test]
    fn who_waits_is_woken_once() {
        let (mut server, mut kernel) = (Tickets::new(1), Fake::default());
        assert_eq!(
            server.handle(&mut kernel, 0, Some(Request::Take)),
            Reply::Done
        );
        assert_eq!(
            server.handle(&mut kernel, 3, Some(Request::Take)),
            Reply::Later
        );
        assert_eq!(
            server.handle(&mut kernel, 0, Some(Request::Return)),
            Reply::Done
        );
        assert_eq!(kernel.woken, [3]);
        assert_eq!(
            server.handle(&mut kernel, 3, Some(Request::Take)),
            Reply::Done
        );
        assert_eq!(
            server.handle(&mut kernel, 3, Some(Request::Return)),
            Reply::Done
        );
        assert_eq!(kernel.woken, [3]);
    }

    proptest! {
        #[test]
        fn no_ticket_is_lost_or_made(requests in proptest::collection::vec((0u64..12, 0u64..4), 0..200)) {
            let (mut server, mut kernel) = (Tickets::new(5), Fake::default());
            for (badge, label) in requests {
                server.handle(&mut kernel, badge, Request::from_label(label));
                prop_assert_eq!(server.left + server.lent.iter().sum::<u32>(), 5);
            }
        }
    }
}
