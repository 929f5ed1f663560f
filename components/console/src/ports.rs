//! The guests' serial ports: a queue each way.

use heapless::Deque;
use protocol::console::{CHUNK_BYTES, Chunk, Port};
use protocol::units::{GuestId, MAX_GUESTS};

/// Bytes queued from a guest's port to the operator. Four of a VMM's messages.
pub const OUTPUT_BYTES: usize = 2048;
/// Bytes queued from the operator to a guest's port. Two of the operator's messages.
pub const INPUT_BYTES: usize = 1024;
/// Ports of a guest.
pub const PORTS: usize = 2;

/// A port's number on the line.
pub const fn port_number(port: Port) -> u8 {
    match port {
        Port::Console => 0,
        Port::Agent => 1,
    }
}

/// The port of a number.
pub const fn port_of(index: usize) -> Port {
    if index == 0 {
        Port::Console
    } else {
        Port::Agent
    }
}

/// Whether the VMM must be told that it can write again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Content,
    /// It was refused bytes.
    Waiting,
}

struct Queues {
    output: Deque<u8, OUTPUT_BYTES>,
    input: Deque<u8, INPUT_BYTES>,
    writer: Writer,
}

impl Queues {
    const fn new() -> Self {
        Self {
            output: Deque::new(),
            input: Deque::new(),
            writer: Writer::Content,
        }
    }
}

/// All ports of all guests.
pub struct Ports {
    queues: [[Queues; PORTS]; MAX_GUESTS],
    /// Which port of a guest is looked at first for input, so that both get their turn.
    input_turn: [usize; MAX_GUESTS],
}

/// What was taken from an output queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Bytes.
    pub bytes: usize,
    /// The VMM waits to write and there is room again: signal it.
    pub wake: bool,
}

impl Ports {
    /// No bytes anywhere.
    pub const fn new() -> Self {
        Self {
            queues: [const { [const { Queues::new() }; PORTS] }; MAX_GUESTS],
            input_turn: [0; MAX_GUESTS],
        }
    }

    fn port(&mut self, guest: GuestId, port: Port) -> Option<&mut Queues> {
        self.queues
            .get_mut(usize::from(guest.0))?
            .get_mut(usize::from(port_number(port)))
    }

    /// Takes bytes from a guest; returns how many were taken.
    pub fn write(&mut self, guest: GuestId, port: Port, bytes: &[u8]) -> usize {
        let Some(queues) = self.port(guest, port) else {
            return 0;
        };
        let mut taken = 0;
        for byte in bytes {
            if queues.output.push_back(*byte).is_err() {
                queues.writer = Writer::Waiting;
                break;
            }
            taken += 1;
        }
        taken
    }

    /// Takes bytes for the operator from a port's queue into `into`.
    pub fn drain(&mut self, guest: GuestId, port: Port, into: &mut [u8]) -> Drained {
        let mut drained = Drained {
            bytes: 0,
            wake: false,
        };
        let Some(queues) = self.port(guest, port) else {
            return drained;
        };
        for place in into {
            let Some(byte) = queues.output.pop_front() else {
                break;
            };
            *place = byte;
            drained.bytes += 1;
        }
        // Half empty: waking at every byte of room would cost a message a byte.
        if queues.writer == Writer::Waiting && queues.output.len() <= OUTPUT_BYTES / 2 {
            queues.writer = Writer::Content;
            drained.wake = true;
        }
        drained
    }

    /// Queues bytes for a guest: all of them, or none when they do not fit.
    pub fn offer_input(&mut self, guest: GuestId, port: Port, bytes: &[u8]) -> Result<(), usize> {
        let queues = self.port(guest, port).ok_or(0usize)?;
        let room = INPUT_BYTES - queues.input.len();
        if bytes.len() > room {
            return Err(room);
        }
        for byte in bytes {
            let _ = queues.input.push_back(*byte);
        }
        Ok(())
    }

    /// Takes input for one of a guest's ports; empty when there is none for any.
    pub fn take_input(&mut self, guest: GuestId) -> (Port, Chunk) {
        let mut bytes = Chunk::new();
        let index = usize::from(guest.0);
        let (Some(queues), Some(turn)) =
            (self.queues.get_mut(index), self.input_turn.get_mut(index))
        else {
            return (Port::Console, bytes);
        };
        for offset in 0..PORTS {
            let port = (*turn + offset) % PORTS;
            let Some(input) = queues.get_mut(port).map(|queues| &mut queues.input) else {
                continue;
            };
            if input.is_empty() {
                continue;
            }
            while bytes.len() < CHUNK_BYTES {
                let Some(byte) = input.pop_front() else { break };
                let _ = bytes.push(byte);
            }
            *turn = (port + 1) % PORTS;
            return (port_of(port), bytes);
        }
        (port_of(*turn), bytes)
    }

    /// Forgets input that a guest never read: it has stopped.
    pub fn forget_input(&mut self, guest: GuestId) {
        for port in [Port::Console, Port::Agent] {
            if let Some(queues) = self.port(guest, port) {
                queues.input.clear();
            }
        }
    }
}
