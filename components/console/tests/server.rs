//! The server with fake services: what the operator and the guests see.

use console::{Clock, INPUT_BYTES, LOG_BYTES, OUTPUT_BYTES, SAY_LINES, Server, Services};
use line::{Channel, Decoder, Item, MAX_FRAME_BYTES, encode};
use proptest::prelude::*;
use protocol::badge::Client;
use protocol::balancer::{self, Change, HostRow, Row, Settings};
use protocol::console::{Chunk, Port, Reply, Request};
use protocol::management::{Answer, BoardMessage, Event, HostBody, HostRequest};
use protocol::memory::{self, Bounds, HostAccount};
use protocol::supervisor::{self, GuestState};
use protocol::units::{GuestId, Line, Pieces};

fn settings() -> Settings {
    Settings {
        mode: balancer::Mode::Dynamic,
        bounds: Bounds {
            minimum: Pieces(64),
            startup: Pieces(128),
            maximum: Pieces(512),
        },
        buffer_percent: 20,
        weight: 5000,
        on_refusal: balancer::OnRefusal::Mark,
        deadline_ms: 2000,
        on_silence: balancer::OnSilence::Keep,
    }
}

fn row() -> Row {
    Row {
        settings: settings(),
        assigned: Pieces(128),
        target: Pieces(130),
        reported: Pieces(1),
        visible_mib: 256,
        demand_mib: 200,
        ballooned_mib: 4,
        stranded_mib: 2,
        pressure: 78,
        status: balancer::Status::Ok,
        flag: balancer::Flag::None,
        oom_kills: 0,
        age_ms: 0,
    }
}

/// Steps that the fake memory server needs to count.
const STEPS: u32 = 3;

#[derive(Default)]
struct Fake {
    balancer: Vec<balancer::Request>,
    supervisor: Vec<supervisor::Request>,
    signalled: Vec<GuestId>,
    count_calls: u32,
    supervisor_is_silent: bool,
}

impl Services for Fake {
    fn balancer(&mut self, request: &balancer::Request) -> Option<balancer::Reply> {
        self.balancer.push(request.clone());
        Some(match request {
            balancer::Request::Row(GuestId(0)) => balancer::Reply::Row(row()),
            balancer::Request::HostRow => balancer::Reply::HostRow(HostRow {
                total: Pieces(1024),
                ..HostRow::default()
            }),
            balancer::Request::Why(_) => balancer::Reply::Why(Line::try_from("because").unwrap()),
            balancer::Request::Set { .. } | balancer::Request::SetReserve(_) => {
                balancer::Reply::Done
            }
            _ => balancer::Reply::Refused(Line::try_from("no such guest").unwrap()),
        })
    }

    fn memory(&mut self, request: &memory::Request) -> Option<memory::Reply> {
        assert_eq!(*request, memory::Request::Count);
        self.count_calls += 1;
        Some(if self.count_calls.is_multiple_of(STEPS) {
            memory::Reply::Counted(HostAccount {
                total: Pieces(1024),
                pool: Pieces(1000),
                granted: Pieces(24),
                ..HostAccount::default()
            })
        } else {
            memory::Reply::Counting { left: Pieces(9) }
        })
    }

    fn supervisor(&mut self, request: &supervisor::Request) -> Option<supervisor::Reply> {
        self.supervisor.push(request.clone());
        if self.supervisor_is_silent {
            return None;
        }
        Some(match request {
            supervisor::Request::Guest(_) => supervisor::Reply::Guest {
                name: "finance".try_into().unwrap(),
                state: GuestState::Running,
                starts: 1,
                last_end: None,
                used_us: 5,
                detail: Line::new(),
            },
            _ => supervisor::Reply::Done,
        })
    }

    fn signal_vmm(&mut self, guest: GuestId) {
        self.signalled.push(guest);
    }

    fn clock(&mut self) -> Clock {
        Clock {
            ticks: 125_000_000,
            frequency_hz: 62_500_000,
        }
    }
}

struct Board {
    server: Box<Server>,
    services: Fake,
    sequence: u32,
}

#[derive(Debug, PartialEq, Clone)]
enum Seen {
    Message(BoardMessage),
    Log(u8, Vec<u8>),
    Console(u8, u8, Vec<u8>),
}

impl Board {
    fn new() -> Self {
        let mut server = Box::new(Server::new());
        let names = ["finance", "sales", "engineering"].map(|name| name.try_into().unwrap());
        server.begin(heapless::Vec::from_slice(&names).unwrap());
        let mut board = Self {
            server,
            services: Fake::default(),
            sequence: 100,
        };
        assert_eq!(
            board.next(),
            Some(Seen::Message(BoardMessage::Event(Event::Ready)))
        );
        board
    }

    /// The next frame that the board sends, transmitted a few bytes at a time.
    fn next(&mut self) -> Option<Seen> {
        let mut decoder = Decoder::new();
        loop {
            let pending = self.server.pending(&mut self.services);
            if pending.is_empty() {
                return None;
            }
            let part = pending[..pending.len().min(7)].to_vec();
            self.server.sent(part.len());
            for byte in part {
                match decoder.push(byte) {
                    None => {}
                    Some(Item::Frame(frame)) => {
                        return Some(match frame.channel {
                            Channel::Management => {
                                Seen::Message(postcard::from_bytes(frame.payload).unwrap())
                            }
                            Channel::Log(id) => Seen::Log(id, frame.payload.to_vec()),
                            Channel::Console { guest, port } => {
                                Seen::Console(guest, port, frame.payload.to_vec())
                            }
                        });
                    }
                    Some(other) => panic!("the board sent {other:?}"),
                }
            }
        }
    }

    fn all(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn send(&mut self, request: &HostRequest) {
        let mut payload = [0; 768];
        let payload = postcard::to_slice(request, &mut payload).unwrap();
        let mut frame = [0; MAX_FRAME_BYTES];
        let len = encode(Channel::Management, payload, &mut frame).unwrap();
        for byte in &frame[..len] {
            self.server.receive(*byte, &mut self.services);
        }
    }

    fn ask(&mut self, body: HostBody) -> Answer {
        self.sequence += 1;
        let sequence = self.sequence;
        self.send(&HostRequest { sequence, body });
        match self.next() {
            Some(Seen::Message(BoardMessage::Answer {
                sequence: answered,
                body,
            })) if answered == sequence => body,
            other => panic!("no answer first: {other:?}"),
        }
    }

    fn write(&mut self, guest: u8, bytes: &[u8]) -> u16 {
        let request = Request::Write {
            port: Port::Console,
            bytes: Chunk::from_slice(bytes).unwrap(),
        };
        match self
            .server
            .serve(Client::Vmm(GuestId(u16::from(guest))), request)
        {
            Reply::Taken(taken) => taken,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_operator_sees_guests_host_and_reasons() {
    let mut board = Board::new();
    assert_eq!(
        board.ask(HostBody::Hello),
        Answer::Hello {
            version: protocol::management::VERSION,
            guests: 3,
            ticks: 125_000_000,
            frequency_hz: 62_500_000
        }
    );
    let Answer::Guest {
        row: Some(found),
        t_ms,
        ..
    } = board.ask(HostBody::Guest(GuestId(0)))
    else {
        panic!("no row");
    };
    assert_eq!((found, t_ms), (row(), 2000));
    let Answer::Guest { row: None, .. } = board.ask(HostBody::Guest(GuestId(1))) else {
        panic!("a stopped guest has a state and no row");
    };
    let Answer::Host { counted, row, .. } = board.ask(HostBody::Host) else {
        panic!("no host row");
    };
    assert_eq!((counted.pool, row.total), (Pieces(1000), Pieces(1024)));
    assert_eq!(
        board.services.count_calls, STEPS,
        "the walk is followed to its end"
    );
    assert_eq!(
        board.ask(HostBody::Why(GuestId(2))),
        Answer::Why("because".try_into().unwrap())
    );
}

#[test]
fn changes_and_commands_go_to_whose_business_they_are() {
    let mut board = Board::new();
    let change = Change::Buffer(30);
    assert_eq!(
        board.ask(HostBody::Set {
            guest: GuestId(1),
            change
        }),
        Answer::Done
    );
    assert_eq!(
        board.services.balancer,
        [balancer::Request::Set {
            guest: GuestId(1),
            change
        }]
    );
    assert_eq!(board.ask(HostBody::Pause(GuestId(2))), Answer::Done);
    assert_eq!(
        board.services.supervisor,
        [supervisor::Request::Pause(GuestId(2))]
    );
}

#[test]
fn a_guest_that_does_not_exist_is_refused_before_anybody_is_asked() {
    let mut board = Board::new();
    let Answer::Refused(why) = board.ask(HostBody::Stop(GuestId(3))) else {
        panic!("not refused");
    };
    assert_eq!(
        why,
        "there is no guest 3: the description has 3, numbered from 0"
    );
    let bytes = Chunk::from_slice(b"x").unwrap();
    let input = HostBody::Input {
        guest: GuestId(200),
        port: Port::Agent,
        bytes,
    };
    assert!(matches!(board.ask(input), Answer::Refused(_)));
    assert!(board.services.supervisor.is_empty() && board.services.signalled.is_empty());
}

#[test]
fn a_silent_component_is_named() {
    let mut board = Board::new();
    board.services.supervisor_is_silent = true;
    let Answer::Refused(why) = board.ask(HostBody::Start(GuestId(0))) else {
        panic!("not refused");
    };
    assert_eq!(why, "the supervisor gave no answer that makes sense");
}

#[test]
fn a_repeated_request_is_answered_again_and_not_carried_out_again() {
    let mut board = Board::new();
    let request = HostRequest {
        sequence: 7,
        body: HostBody::Start(GuestId(0)),
    };
    board.send(&request);
    let first = board.next();
    board.send(&request);
    assert_eq!(board.next(), first);
    assert_eq!(board.services.supervisor.len(), 1);
}

#[test]
fn an_answer_overtakes_guests_that_write_without_end() {
    let mut board = Board::new();
    for guest in 0..16 {
        while board.write(guest, &[guest; 512]) > 0 {}
    }
    // `ask` fails unless the answer is the first frame.
    board.ask(HostBody::Hello);
}

#[test]
fn guests_take_turns() {
    let mut board = Board::new();
    for guest in [0, 1, 2] {
        while board.write(guest, &[guest; 512]) > 0 {}
    }
    let order: Vec<u8> = board
        .all()
        .iter()
        .map(|seen| match seen {
            Seen::Console(guest, 0, bytes) => {
                assert!(bytes.len() <= 256 && bytes.iter().all(|byte| byte == guest));
                *guest
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order, [0, 1, 2].repeat(OUTPUT_BYTES / 256));
}

#[test]
fn a_full_port_refuses_and_its_vmm_is_woken_once_there_is_room() {
    let mut board = Board::new();
    let mut taken = 0;
    loop {
        let now = board.write(1, &[b'a'; 500]);
        taken += usize::from(now);
        if now < 500 {
            break;
        }
    }
    assert_eq!(taken, OUTPUT_BYTES);
    assert!(board.services.signalled.is_empty());
    board.all();
    assert_eq!(board.services.signalled, [GuestId(1)]);
    assert_eq!(board.write(1, b"more"), 4);
}

#[test]
fn input_reaches_its_guest_only_and_port_by_port() {
    let mut board = Board::new();
    for (port, bytes) in [
        (Port::Console, b"ls\n".as_slice()),
        (Port::Agent, b"verify\n"),
    ] {
        let bytes = Chunk::from_slice(bytes).unwrap();
        let input = HostBody::Input {
            guest: GuestId(2),
            port,
            bytes,
        };
        assert_eq!(board.ask(input), Answer::Done);
    }
    assert_eq!(board.services.signalled, [GuestId(2), GuestId(2)]);
    let mut read = |guest| match board
        .server
        .serve(Client::Vmm(GuestId(guest)), Request::Read)
    {
        Reply::Input { port, bytes } => (port, bytes.to_vec()),
        other => panic!("{other:?}"),
    };
    assert!(read(0).1.is_empty());
    assert_eq!(read(2), (Port::Console, b"ls\n".to_vec()));
    assert_eq!(read(2), (Port::Agent, b"verify\n".to_vec()));
    assert!(read(2).1.is_empty());
}

#[test]
fn input_that_does_not_fit_is_refused_whole() {
    let mut board = Board::new();
    let input = |len| HostBody::Input {
        guest: GuestId(0),
        port: Port::Console,
        bytes: Chunk::from_slice(&vec![b'x'; len]).unwrap(),
    };
    assert_eq!(board.ask(input(512)), Answer::Done);
    assert_eq!(board.ask(input(500)), Answer::Done);
    let Answer::Refused(why) = board.ask(input(13)) else {
        panic!("not refused");
    };
    assert!(
        why.starts_with("13 bytes do not fit: the port has room for 12"),
        "{why}"
    );
    assert_eq!(board.ask(input(12)), Answer::Done);
    assert_eq!(INPUT_BYTES, 1024);
    // A guest that is stopped loses what it never read.
    assert_eq!(board.ask(HostBody::Stop(GuestId(0))), Answer::Done);
    assert_eq!(board.ask(input(512)), Answer::Done);
}

#[test]
fn only_vmms_have_ports() {
    let mut board = Board::new();
    for client in [Client::Balancer, Client::Supervisor, Client::MemoryServer] {
        let write = Request::Write {
            port: Port::Console,
            bytes: Chunk::new(),
        };
        assert_eq!(board.server.serve(client, write), Reply::Refused);
        assert_eq!(board.server.serve(client, Request::Read), Reply::Refused);
    }
    let stranger = Client::Vmm(GuestId(200));
    assert_eq!(
        board.server.serve(stranger, Request::Log(Chunk::new())),
        Reply::Refused
    );
    assert_eq!(board.write(200, b"hello"), 0);
    assert_eq!(board.next(), None);
}

#[test]
fn logs_keep_their_records_and_lines_their_speaker() {
    let mut board = Board::new();
    for record in [b"one".as_slice(), b"two!"] {
        let record = Chunk::from_slice(record).unwrap();
        assert_eq!(
            board.server.serve(Client::Balancer, Request::Log(record)),
            Reply::Done
        );
    }
    let text: Line = "it is stopped".try_into().unwrap();
    board
        .server
        .serve(Client::Vmm(GuestId(2)), Request::Say(text.clone()));
    let log = Client::Balancer.log_id();
    let mut seen = board.all();
    seen.sort_by_key(|seen| matches!(seen, Seen::Message(_)));
    assert_eq!(
        seen,
        [
            Seen::Log(log, b"one".to_vec()),
            Seen::Log(log, b"two!".to_vec()),
            Seen::Message(BoardMessage::Event(Event::Say {
                guest: Some(GuestId(2)),
                text
            }))
        ]
    );
}

#[test]
fn a_component_that_logs_too_fast_loses_its_own_records_and_the_operator_is_told() {
    let mut board = Board::new();
    let noisy = Client::Vmm(GuestId(0));
    let records = LOG_BYTES / 102 + 5;
    for _ in 0..records {
        let record = Chunk::from_slice(&[1; 100]).unwrap();
        assert_eq!(board.server.serve(noisy, Request::Log(record)), Reply::Done);
    }
    for _ in 0..SAY_LINES + 2 {
        board.server.serve(noisy, Request::Say(Line::new()));
    }
    let quiet = Chunk::from_slice(b"mine").unwrap();
    board
        .server
        .serve(Client::Timer, Request::Log(quiet.clone()));
    let seen = board.all();
    assert!(seen.contains(&Seen::Log(Client::Timer.log_id(), quiet.to_vec())));
    let said = seen.iter().any(|seen| {
        matches!(seen, Seen::Message(BoardMessage::Event(Event::Say { text, .. }))
            if text.as_str() == "vmm: 7 log records or lines were dropped: it wrote faster than the line carries")
    });
    assert!(said, "{seen:?}");
}

#[test]
fn the_longest_message_fits_a_frame() {
    let mut board = Board::new();
    let line: Line = core::iter::repeat_n('x', 160).collect();
    board
        .server
        .serve(Client::Supervisor, Request::Say(line.clone()));
    assert_eq!(
        board.next(),
        Some(Seen::Message(BoardMessage::Event(Event::Say {
            guest: None,
            text: line
        })))
    );
    let longest = HostRequest {
        sequence: u32::MAX,
        body: HostBody::Input {
            guest: GuestId(2),
            port: Port::Agent,
            bytes: Chunk::from_slice(&[0xff; 512]).unwrap(),
        },
    };
    board.send(&longest);
    assert!(matches!(
        board.next(),
        Some(Seen::Message(BoardMessage::Answer {
            sequence: u32::MAX,
            body: Answer::Done
        }))
    ));
}

proptest! {
    #[test]
    fn nothing_from_the_line_stops_the_server(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut board = Board::new();
        for byte in bytes {
            board.server.receive(byte, &mut board.services);
        }
        board.all();
        // Damage may swallow the first request after it; the host repeats.
        let request = HostRequest { sequence: 1, body: HostBody::Hello };
        board.send(&request);
        board.send(&request);
        prop_assert!(
            matches!(board.next(), Some(Seen::Message(BoardMessage::Answer { sequence: 1, .. }))),
            "no answer"
        );
    }

    #[test]
    fn every_byte_a_port_takes_comes_out_once_and_in_order(
        writes in proptest::collection::vec((0u8..3, 0usize..512, 0usize..40), 0..40),
    ) {
        let mut board = Board::new();
        let mut expected = vec![Vec::new(); 3];
        let mut seen = vec![Vec::new(); 3];
        let mut next = 0u8;
        let mut note = |found: Seen| {
            if let Seen::Console(guest, 0, bytes) = found {
                seen[usize::from(guest)].extend(bytes);
            }
        };
        for (guest, len, frames) in writes {
            let bytes: Vec<u8> = (0..len).map(|_| { next = next.wrapping_add(1); next }).collect();
            let taken = usize::from(board.write(guest, &bytes));
            expected[usize::from(guest)].extend_from_slice(&bytes[..taken]);
            for _ in 0..frames {
                board.next().into_iter().for_each(&mut note);
            }
        }
        board.all().into_iter().for_each(&mut note);
        prop_assert_eq!(seen, expected);
    }
}
