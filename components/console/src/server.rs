//! The server: requests of clients, bytes of the line, bytes for the line.

use crate::management::{Services, forward, guest_of, line};
use crate::ports::Ports;
use crate::sources::Sources;
use crate::transmit::Transmitter;
use line::{Channel, Decoder, Item};
use protocol::badge::Client;
use protocol::console::{Reply, Request};
use protocol::management::{Answer, BoardMessage, Event, HostBody, HostRequest};
use protocol::units::{GuestId, MAX_GUESTS, Name};

/// The guests' names.
type Names = heapless::Vec<Name, MAX_GUESTS>;

/// The serial and management server without its UART and its endpoint.
pub struct Server {
    guests: Names,
    decoder: Decoder,
    ports: Ports,
    sources: Sources,
    transmitter: Transmitter,
    /// The last request that was carried out, with its answer.
    last: Option<(u32, Answer)>,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// A server that knows no guest yet. `const`, so that it can live in a static and not on a stack.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            guests: Names::new(),
            decoder: Decoder::new(),
            ports: Ports::new(),
            sources: Sources::new(),
            transmitter: Transmitter::new(),
            last: None,
        }
    }

    /// Begins: tells the operator that the board listens.
    pub fn begin(&mut self, guests: Names) {
        self.guests = guests;
        self.transmitter.answer(BoardMessage::Event(Event::Ready));
    }

    /// Answers a request of a client inside the system. Never waits for anybody.
    pub fn serve(&mut self, client: Client, request: Request) -> Reply {
        match (client, request) {
            (Client::Vmm(guest), Request::Write { port, bytes }) => {
                Reply::Taken(self.ports.write(guest, port, &bytes) as u16)
            }
            (Client::Vmm(guest), Request::Read) => {
                let (port, bytes) = self.ports.take_input(guest);
                Reply::Input { port, bytes }
            }
            (client, Request::Log(record)) => match self.sources.log(client, &record) {
                Ok(()) => Reply::Done,
                Err(_) => Reply::Refused,
            },
            (client, Request::Say(text)) => match self.sources.say(client, text) {
                Ok(()) => Reply::Done,
                Err(_) => Reply::Refused,
            },
            (_, Request::Write { .. } | Request::Read) => Reply::Refused,
        }
    }

    /// Takes a byte from the line. Bytes that make no request are skipped: the host asks again.
    pub fn receive(&mut self, byte: u8, services: &mut impl Services) {
        let Some(Item::Frame(frame)) = self.decoder.push(byte) else {
            return;
        };
        if frame.channel != Channel::Management {
            return;
        }
        let Ok(request) = postcard::from_bytes::<HostRequest>(frame.payload) else {
            return;
        };
        let answer = match &self.last {
            Some((sequence, answer)) if *sequence == request.sequence => answer.clone(),
            _ => {
                let answer = self.carry_out(&request.body, services);
                self.last = Some((request.sequence, answer.clone()));
                answer
            }
        };
        self.transmitter.answer(BoardMessage::Answer {
            sequence: request.sequence,
            body: answer,
        });
    }

    fn carry_out(&mut self, body: &HostBody, services: &mut impl Services) -> Answer {
        let known = |guest: GuestId| usize::from(guest.0) < self.guests.len();
        match body {
            HostBody::Input { guest, port, bytes } if known(*guest) => {
                match self.ports.offer_input(*guest, *port, bytes) {
                    Ok(()) => {
                        services.signal_vmm(*guest);
                        Answer::Done
                    }
                    Err(room) => Answer::Refused(line(format_args!(
                        "{} bytes do not fit: the port has room for {room}, the guest does not read",
                        bytes.len()
                    ))),
                }
            }
            body => {
                let answer = forward(body, &self.guests, services);
                if let (HostBody::Stop(_), Some(guest), Answer::Done) =
                    (body, guest_of(body), &answer)
                {
                    self.ports.forget_input(guest);
                }
                answer
            }
        }
    }

    /// The bytes that go out next; empty when there is nothing to send.
    pub fn pending(&mut self, services: &mut impl Services) -> &[u8] {
        self.transmitter
            .pending(&mut self.ports, &mut self.sources, &mut |guest| {
                services.signal_vmm(guest);
            })
    }

    /// `count` of the pending bytes went out.
    pub fn sent(&mut self, count: usize) {
        self.transmitter.sent(count);
    }
}
