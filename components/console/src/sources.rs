//! What components say: log records and lines, a small queue for each client, so that one cannot crowd out another.

use heapless::Deque;
use protocol::badge::Client;
use protocol::units::{GuestId, Line, MAX_GUESTS};

/// Bytes of log records queued for a client, two more for each record.
pub const LOG_BYTES: usize = 1024;
/// Lines queued for a client.
pub const SAY_LINES: usize = 4;
/// Clients that are no VMM and may speak: balancer, supervisor, memory server, timer.
const SERVERS: usize = 4;
/// All sources.
pub const SOURCES: usize = MAX_GUESTS + SERVERS;

/// One client's queues.
pub struct Source {
    log: Deque<u8, LOG_BYTES>,
    lines: Deque<Line, SAY_LINES>,
    /// Records and lines dropped since the operator was last told.
    dropped: u32,
}

/// All clients' queues.
pub struct Sources([Source; SOURCES]);

const fn index(client: Client) -> Option<usize> {
    match client {
        Client::Vmm(GuestId(id)) if (id as usize) < MAX_GUESTS => Some(id as usize),
        Client::Balancer => Some(MAX_GUESTS),
        Client::Supervisor => Some(MAX_GUESTS + 1),
        Client::MemoryServer | Client::Cleaner => Some(MAX_GUESTS + 2),
        Client::Timer => Some(MAX_GUESTS + 3),
        Client::Vmm(_) | Client::Console => None,
    }
}

/// The client of a source, for naming it.
pub fn client_of(source: usize) -> Client {
    const SERVER: [Client; SERVERS] = [
        Client::Balancer,
        Client::Supervisor,
        Client::MemoryServer,
        Client::Timer,
    ];
    source
        .checked_sub(MAX_GUESTS)
        .and_then(|server| SERVER.get(server))
        .copied()
        .unwrap_or(Client::Vmm(GuestId(source as u16)))
}

impl Sources {
    /// Nothing queued.
    pub const fn new() -> Self {
        Self(
            [const {
                Source {
                    log: Deque::new(),
                    lines: Deque::new(),
                    dropped: 0,
                }
            }; SOURCES],
        )
    }

    /// Queues a log record; drops and counts it when it does not fit. [`NoQueue`] when the client may not speak.
    pub fn log(&mut self, client: Client, record: &[u8]) -> Result<(), NoQueue> {
        let source = self.of(client)?;
        if record.is_empty() {
            return Ok(());
        }
        let room = LOG_BYTES - source.log.len();
        if record.len() + 2 > room {
            source.dropped = source.dropped.saturating_add(1);
            return Ok(());
        }
        for byte in (record.len() as u16).to_le_bytes().iter().chain(record) {
            let _ = source.log.push_back(*byte);
        }
        Ok(())
    }

    /// Queues a line; drops and counts it when it does not fit.
    pub fn say(&mut self, client: Client, line: Line) -> Result<(), NoQueue> {
        let source = self.of(client)?;
        if source.lines.push_back(line).is_err() {
            source.dropped = source.dropped.saturating_add(1);
        }
        Ok(())
    }

    fn of(&mut self, client: Client) -> Result<&mut Source, NoQueue> {
        index(client)
            .and_then(|index| self.0.get_mut(index))
            .ok_or(NoQueue)
    }

    /// The next line of a source.
    pub fn next_line(&mut self, source: usize) -> Option<Line> {
        self.0.get_mut(source)?.lines.pop_front()
    }

    /// How many records and lines of a source were dropped since the last call, once there is room for new ones again.
    pub fn take_dropped(&mut self, source: usize) -> Option<u32> {
        let source = self.0.get_mut(source)?;
        let has_room = source.lines.is_empty() && source.log.is_empty();
        (has_room && source.dropped > 0).then(|| core::mem::take(&mut source.dropped))
    }

    /// The next log record of a source, in `into`; its length.
    pub fn next_record(&mut self, source: usize, into: &mut [u8]) -> Option<usize> {
        let log = &mut self.0.get_mut(source)?.log;
        let low = log.pop_front()?;
        let high = log.pop_front()?;
        let len = usize::from(u16::from_le_bytes([low, high]));
        for position in 0..len {
            let byte = log.pop_front()?;
            if let Some(place) = into.get_mut(position) {
                *place = byte;
            }
        }
        Some(len.min(into.len()))
    }
}

/// The client may not speak here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoQueue;
