//! The board at the other end of the line: takes the stream of bytes apart and asks requests.

use crate::logs::Logs;
use crate::transcript::Transcript;
use line::{Channel, Decoder, Item, MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES, encode};
use protocol::badge::Client;
use protocol::console::{CHUNK_BYTES, Chunk, Port};
use protocol::management::{Answer, BoardMessage, Event, HostBody, HostRequest};
use protocol::units::GuestId;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// After this much silence an unfinished frame is taken for text.
const SILENCE: Duration = Duration::from_millis(300);
/// How long one attempt of a request waits for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);
/// How often a request is sent before it is given up.
const ATTEMPTS: u32 = 4;
/// Bytes kept of each console, for somebody who attaches later.
const BACKLOG_BYTES: usize = 16 * 1024;

/// Answers kept for whoever asked; older ones are late and wanted by nobody.
const MOST_ANSWERS: usize = 16;

/// Why the board did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoardError {
    /// The line is closed: the board has been switched off, or its emulator has ended.
    Closed,
    /// No answer after all attempts.
    Silent {
        /// To what.
        request: String,
        /// Milliseconds waited in all.
        waited_ms: u128,
    },
    /// The board refused, with its reason.
    Refused(String),
    /// The board answered something else than what was asked.
    Unexpected(String),
}

impl fmt::Display for BoardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the line to the board is closed"),
            Self::Silent { request, waited_ms } => {
                write!(
                    f,
                    "the board did not answer {request} within {waited_ms} ms"
                )
            }
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Unexpected(answer) => write!(f, "the board answered {answer}"),
        }
    }
}

impl std::error::Error for BoardError {}

/// A guest's serial port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortId {
    /// The guest.
    pub guest: u16,
    /// The port's number: 0 console, 1 agent.
    pub port: u8,
}

impl PortId {
    /// A port of a guest.
    #[must_use]
    pub fn new(guest: GuestId, port: Port) -> Self {
        let port = match port {
            Port::Console => 0,
            Port::Agent => 1,
        };
        Self {
            guest: guest.0,
            port,
        }
    }
}

/// Bytes of a port: the last ones, and those nobody has taken yet.
#[derive(Default)]
struct Capture {
    backlog: VecDeque<u8>,
    fresh: Vec<u8>,
}

/// The board.
pub struct Board {
    incoming: Receiver<Vec<u8>>,
    output: Box<dyn Write + Send>,
    decoder: Decoder,
    last_byte: Instant,
    sequence: u32,
    /// The last answers that nobody has taken.
    answers: VecDeque<(u32, Answer)>,
    captures: BTreeMap<PortId, Capture>,
    events: VecDeque<Event>,
    notices: VecDeque<String>,
    text: Vec<u8>,
    logs: Logs,
    transcript: Transcript,
    closed: bool,
    answer_timeout: Duration,
}

impl Board {
    /// Takes over a line. A thread reads `input` until it ends; it dies with the stream.
    pub fn new(
        mut input: Box<dyn Read + Send>,
        output: Box<dyn Write + Send>,
        logs: Logs,
        transcript: Transcript,
    ) -> Self {
        let (sender, incoming) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                match input.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => {
                        if sender.send(buffer[..count].to_vec()).is_err() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        });
        Self {
            incoming,
            output,
            decoder: Decoder::new(),
            last_byte: Instant::now(),
            sequence: first_sequence(),
            answers: VecDeque::new(),
            captures: BTreeMap::new(),
            events: VecDeque::new(),
            notices: VecDeque::new(),
            text: Vec::new(),
            logs,
            transcript,
            closed: false,
            answer_timeout: ANSWER_TIMEOUT,
        }
    }

    /// Changes how long an attempt of a request waits.
    pub fn set_answer_timeout(&mut self, timeout: Duration) {
        self.answer_timeout = timeout;
    }

    /// Whether the line has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes what has arrived; waits for at most `wait` when nothing has.
    pub fn pump(&mut self, wait: Duration) {
        match self.incoming.recv_timeout(wait) {
            Ok(bytes) => {
                self.take(&bytes);
                while let Ok(bytes) = self.incoming.try_recv() {
                    self.take(&bytes);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                if self.last_byte.elapsed() >= SILENCE {
                    let noise = match self.decoder.flush() {
                        Some(Item::Noise(noise)) => noise.to_vec(),
                        _ => Vec::new(),
                    };
                    self.take_noise(&noise);
                    self.end_text_line();
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                if !self.closed {
                    self.closed = true;
                    if let Some(Item::Noise(noise)) = self.decoder.flush() {
                        let noise = noise.to_vec();
                        self.take_noise(&noise);
                    }
                    self.end_text_line();
                    self.transcript.line("line", "closed");
                }
                // Not a busy loop for a caller that goes on.
                std::thread::sleep(wait.min(Duration::from_millis(20)));
            }
        }
    }

    /// Asks the board and waits for the answer, repeating the request when it gets lost.
    ///
    /// # Errors
    /// [`BoardError`]; a refusal is an error with the board's reason.
    pub fn request(&mut self, body: HostBody) -> Result<Answer, BoardError> {
        self.attempt(body, ATTEMPTS, self.answer_timeout)
    }

    /// Asks the board, with so many attempts that each wait so long.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn attempt(
        &mut self,
        body: HostBody,
        attempts: u32,
        timeout: Duration,
    ) -> Result<Answer, BoardError> {
        let name = format!("{body:?}");
        let mut frame = Vec::new();
        let sequence = self.put_request(body, &mut frame)?;
        let start = Instant::now();
        for _ in 0..attempts {
            self.output
                .write_all(&frame)
                .and_then(|()| self.output.flush())
                .map_err(|_| BoardError::Closed)?;
            let deadline = Instant::now() + timeout;
            while let Some(left) = deadline.checked_duration_since(Instant::now()) {
                self.pump(left.min(Duration::from_millis(50)));
                if let Some(answer) = self.take_answer(sequence) {
                    return answer;
                }
                if self.closed {
                    return Err(BoardError::Closed);
                }
            }
        }
        let mut request = name;
        request.truncate(60);
        Err(BoardError::Silent {
            request,
            waited_ms: start.elapsed().as_millis(),
        })
    }

    /// How long the board itself takes for a request, in ticks of its counter, and how many make a second: its clock is
    /// asked just before and just behind, in one piece with the request, so that the host's pace does not count. `None`
    /// when something of it got lost.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn timed(&mut self, body: HostBody) -> Result<Option<(u64, u64)>, BoardError> {
        let mut frames = Vec::new();
        let before = self.put_request(HostBody::Hello, &mut frames)?;
        let asked = self.put_request(body, &mut frames)?;
        let after = self.put_request(HostBody::Hello, &mut frames)?;
        self.output
            .write_all(&frames)
            .and_then(|()| self.output.flush())
            .map_err(|_| BoardError::Closed)?;
        let deadline = Instant::now() + self.answer_timeout;
        let (mut began, mut done) = (None, None);
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            self.pump(left.min(Duration::from_millis(50)));
            began = began.or_else(|| self.take_answer(before));
            done = done.or_else(|| self.take_answer(asked));
            if let Some(ended) = self.take_answer(after) {
                done.transpose()?;
                return match (began.transpose()?, ended?) {
                    (
                        Some(Answer::Hello { ticks: from, .. }),
                        Answer::Hello {
                            ticks: to,
                            frequency_hz,
                            ..
                        },
                    ) => Ok(Some((to.saturating_sub(from), frequency_hz))),
                    _ => Ok(None),
                };
            }
            if self.closed {
                return Err(BoardError::Closed);
            }
        }
        Ok(None)
    }

    /// Appends a request's frame; its number.
    fn put_request(&mut self, body: HostBody, to: &mut Vec<u8>) -> Result<u32, BoardError> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let name = format!("{body:?}");
        let request = HostRequest { sequence, body };
        let mut payload = [0; MAX_PAYLOAD_BYTES];
        let payload = postcard::to_slice(&request, &mut payload)
            .map_err(|error| BoardError::Unexpected(format!("no frame for {name}: {error}")))?;
        let mut frame = [0; MAX_FRAME_BYTES];
        let len = encode(Channel::Management, payload, &mut frame)
            .map_err(|error| BoardError::Unexpected(format!("no frame for {name}: {error:?}")))?;
        to.extend_from_slice(&frame[..len]);
        Ok(sequence)
    }

    /// The answer to a request, if it is here; a refusal is an error.
    fn take_answer(&mut self, sequence: u32) -> Option<Result<Answer, BoardError>> {
        let at = self
            .answers
            .iter()
            .position(|(answered, _)| *answered == sequence)?;
        let (_, answer) = self.answers.remove(at)?;
        Some(match answer {
            Answer::Refused(why) => Err(BoardError::Refused(why.to_string())),
            answer => Ok(answer),
        })
    }

    /// Asks for something whose answer is `Done`.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn command(&mut self, body: HostBody) -> Result<(), BoardError> {
        match self.request(body)? {
            Answer::Done => Ok(()),
            other => Err(BoardError::Unexpected(format!("{other:?}"))),
        }
    }

    /// Sends bytes to a guest's port; each message is taken as a whole or refused.
    ///
    /// # Errors
    /// As [`Self::request`]; the bytes before the refused message have been taken.
    pub fn input(&mut self, guest: GuestId, port: Port, bytes: &[u8]) -> Result<(), BoardError> {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let bytes = Chunk::from_slice(chunk).unwrap_or_default();
            self.command(HostBody::Input { guest, port, bytes })?;
        }
        Ok(())
    }

    /// What a port has written since the last call.
    pub fn take_output(&mut self, port: PortId) -> Vec<u8> {
        self.captures
            .get_mut(&port)
            .map(|capture| std::mem::take(&mut capture.fresh))
            .unwrap_or_default()
    }

    /// The last bytes that a port has written, taken or not.
    #[must_use]
    pub fn backlog(&self, port: PortId) -> Vec<u8> {
        self.captures
            .get(&port)
            .map(|capture| capture.backlog.iter().copied().collect())
            .unwrap_or_default()
    }

    /// The next event of the board, if any.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next line that the operator should read: text of the boot or of a panic, logs, what components say.
    pub fn next_notice(&mut self) -> Option<String> {
        self.notices.pop_front()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.last_byte = Instant::now();
        for byte in bytes {
            // The items borrow the decoder, so what is kept of them is copied.
            enum Found {
                Nothing,
                Text(u8),
                Noise(Vec<u8>),
                Frame(Channel, Vec<u8>),
            }
            let found = match self.decoder.push(*byte) {
                None => Found::Nothing,
                Some(Item::Text(byte)) => Found::Text(byte),
                Some(Item::Noise(noise)) => Found::Noise(noise.to_vec()),
                Some(Item::Frame(frame)) => Found::Frame(frame.channel, frame.payload.to_vec()),
            };
            match found {
                Found::Nothing => {}
                Found::Text(byte) => self.take_text(byte),
                Found::Noise(noise) => self.take_noise(&noise),
                Found::Frame(channel, payload) => self.take_frame(channel, &payload),
            }
        }
    }

    fn take_frame(&mut self, channel: Channel, payload: &[u8]) {
        match channel {
            Channel::Management => match postcard::from_bytes(payload) {
                Ok(BoardMessage::Answer { sequence, body }) => {
                    self.answers.push_back((sequence, body));
                    if self.answers.len() > MOST_ANSWERS {
                        self.answers.pop_front();
                    }
                }
                Ok(BoardMessage::Event(event)) => self.take_event(event),
                Err(_) => self.notice("line", "a management message of another version"),
            },
            Channel::Log(id) => {
                let who = match Client::from_log_id(id) {
                    Some(Client::Vmm(guest)) => format!("vmm {}", guest.0),
                    Some(client) => client.program().to_owned(),
                    None => format!("log {id}"),
                };
                for line in self.logs.decode(id, payload) {
                    self.notice(&who, &line);
                }
            }
            Channel::Console { guest, port } => {
                let id = PortId {
                    guest: u16::from(guest),
                    port,
                };
                let capture = self.captures.entry(id).or_default();
                capture.fresh.extend_from_slice(payload);
                capture.backlog.extend(payload);
                let surplus = capture.backlog.len().saturating_sub(BACKLOG_BYTES);
                capture.backlog.drain(..surplus);
                // Nobody may ever take it.
                let surplus = capture.fresh.len().saturating_sub(64 * BACKLOG_BYTES);
                capture.fresh.drain(..surplus);
                self.transcript.port(id, payload);
            }
        }
    }

    fn take_event(&mut self, event: Event) {
        if let Event::Say { guest, text } = &event {
            let who = guest.map_or("board".to_owned(), |guest| format!("guest {}", guest.0));
            self.notice(&who, text);
        }
        self.events.push_back(event);
        if self.events.len() > 1000 {
            self.events.pop_front();
        }
    }

    fn take_text(&mut self, byte: u8) {
        if byte == b'\n' {
            self.end_text_line();
        } else if byte != b'\r' {
            self.text.push(byte);
            if self.text.len() >= 400 {
                self.end_text_line();
            }
        }
    }

    /// Damaged bytes: the readable runs in them are shown, for they may be what a panic had to say.
    fn take_noise(&mut self, noise: &[u8]) {
        let is_readable = |byte: &u8| (0x20..0x7f).contains(byte) || *byte == b'\t';
        for run in noise.split(|byte| !is_readable(byte)) {
            if run.len() >= 4 {
                for byte in run {
                    self.take_text(*byte);
                }
                self.end_text_line();
            }
        }
    }

    fn end_text_line(&mut self) {
        if !self.text.is_empty() {
            let line = String::from_utf8_lossy(&self.text).into_owned();
            self.text.clear();
            self.notice("board", &line);
        }
    }

    fn notice(&mut self, who: &str, line: &str) {
        self.transcript.line(who, line);
        self.notices.push_back(format!("{who}: {line}"));
        if self.notices.len() > 2000 {
            self.notices.pop_front();
        }
    }

    /// Notes something of the host tool's own in the transcript.
    pub fn note(&mut self, line: &str) {
        self.transcript.line("host", line);
    }
}

/// Another one for each run, so that the board does not take a new run's first request for a repeated one.
fn first_sequence() -> u32 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |since| since.subsec_nanos() ^ since.as_secs() as u32)
}
