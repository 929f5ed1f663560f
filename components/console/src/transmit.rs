//! What goes out: one frame at a time, answers first, then everybody in turn.

use crate::ports::{PORTS, Ports, port_number, port_of};
use crate::sources::{SOURCES, Sources, client_of};
use heapless::Deque;
use line::{Channel, MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES, encode};
use protocol::badge::Client;
use protocol::management::{BoardMessage, Event};
use protocol::units::{GuestId, Line, MAX_GUESTS};

/// Answers and own events queued: the host has one request outstanding, and there are few events of the server's own.
const ANSWERS: usize = 4;
/// Console bytes in one frame: how long the others wait for one guest at most.
const TURN_BYTES: usize = 256;
/// Sources of log and lines, then all ports.
const TURNS: usize = SOURCES + MAX_GUESTS * PORTS;

/// The transmitter.
pub struct Transmitter {
    frame: [u8; MAX_FRAME_BYTES],
    /// The part of `frame` that is still to be sent.
    from: usize,
    to: usize,
    answers: Deque<BoardMessage, ANSWERS>,
    turn: usize,
}

impl Transmitter {
    /// Nothing to send.
    pub const fn new() -> Self {
        Self {
            frame: [0; MAX_FRAME_BYTES],
            from: 0,
            to: 0,
            answers: Deque::new(),
            turn: 0,
        }
    }

    /// Queues an answer or an event of the server's own. When the queue is full the host has stopped listening or sends
    /// without waiting: the oldest is dropped, and the host asks again.
    pub fn answer(&mut self, message: BoardMessage) {
        if self.answers.is_full() {
            let _ = self.answers.pop_front();
        }
        let _ = self.answers.push_back(message);
    }

    /// The bytes to send next; empty when there is nothing. `wake` is called for each guest whose VMM can write again.
    pub fn pending(
        &mut self,
        ports: &mut Ports,
        sources: &mut Sources,
        wake: &mut dyn FnMut(GuestId),
    ) -> &[u8] {
        if self.from >= self.to {
            self.next_frame(ports, sources, wake);
        }
        self.frame.get(self.from..self.to).unwrap_or(&[])
    }

    /// `count` of the pending bytes were sent.
    pub fn sent(&mut self, count: usize) {
        self.from = self.from.saturating_add(count).min(self.to);
    }

    fn next_frame(
        &mut self,
        ports: &mut Ports,
        sources: &mut Sources,
        wake: &mut dyn FnMut(GuestId),
    ) {
        self.from = 0;
        self.to = 0;
        if let Some(message) = self.answers.pop_front() {
            self.put_message(&message);
            return;
        }
        for _ in 0..TURNS {
            let turn = self.turn;
            self.turn = (turn + 1) % TURNS;
            match turn.checked_sub(SOURCES) {
                None => self.put_source(turn, sources),
                Some(port) => self.put_port(port, ports, wake),
            }
            if self.to > 0 {
                return;
            }
        }
    }

    fn put_source(&mut self, source: usize, sources: &mut Sources) {
        let client = client_of(source);
        let guest = match client {
            Client::Vmm(guest) => Some(guest),
            _ => None,
        };
        if let Some(text) = sources.next_line(source) {
            self.put_message(&BoardMessage::Event(Event::Say { guest, text }));
            return;
        }
        let mut record = [0; MAX_PAYLOAD_BYTES];
        if let Some(len) = sources.next_record(source, &mut record) {
            self.put(
                Channel::Log(client.log_id()),
                record.get(..len).unwrap_or(&[]),
            );
            return;
        }
        if let Some(dropped) = sources.take_dropped(source) {
            let mut text = Line::new();
            // 160 bytes hold the longest program name and number.
            let _ = core::fmt::Write::write_fmt(
                &mut text,
                format_args!(
                    "{}: {dropped} log records or lines were dropped: it wrote faster than the line carries",
                    client.program()
                ),
            );
            self.put_message(&BoardMessage::Event(Event::Say { guest, text }));
        }
    }

    fn put_port(&mut self, number: usize, ports: &mut Ports, wake: &mut dyn FnMut(GuestId)) {
        let guest = GuestId((number / PORTS) as u16);
        let port = port_of(number % PORTS);
        let mut bytes = [0; TURN_BYTES];
        let drained = ports.drain(guest, port, &mut bytes);
        if drained.wake {
            wake(guest);
        }
        if drained.bytes > 0 {
            let channel = Channel::Console {
                guest: (number / PORTS) as u8,
                port: port_number(port),
            };
            self.put(channel, bytes.get(..drained.bytes).unwrap_or(&[]));
        }
    }

    fn put_message(&mut self, message: &BoardMessage) {
        let mut bytes = [0; MAX_PAYLOAD_BYTES];
        // Every message fits (tested with the longest); one that did not would be lost, and the host would ask again.
        if let Ok(encoded) = postcard::to_slice(message, &mut bytes) {
            self.put(Channel::Management, encoded);
        }
    }

    fn put(&mut self, channel: Channel, payload: &[u8]) {
        self.from = 0;
        self.to = encode(channel, payload, &mut self.frame).unwrap_or(0);
    }
}
