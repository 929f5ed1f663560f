//! Frames in.

use crate::{CRC, CRC_BYTES, Channel, HEADER_BYTES, MAX_BODY_BYTES};

/// A frame whose checksum holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub channel: Channel,
    /// Its payload.
    pub payload: &'a [u8],
}

/// What the decoder found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// A byte outside any frame.
    Text(u8),
    /// Bytes after a delimiter that made no frame: a damaged frame, or text that followed one.
    Noise(&'a [u8]),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Outside: bytes are text.
    Outside,
    /// After a delimiter: bytes may be a frame.
    Inside,
    /// The buffer has been handed out; the next byte begins with an empty one, in the state given.
    Spent(Next),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Outside,
    Inside,
}

/// One byte more than the longest frame: only what fills all of it is too long.
const BUFFER_BYTES: usize = MAX_BODY_BYTES + 1;

/// Takes the line apart, byte by byte.
///
/// A zero byte opens a frame; a sound frame's closing zero leads back to text. The closing zero of a damaged frame may
/// as well be the opening one of the next (a delimiter may have been lost), so it is taken as both.
pub struct Decoder {
    state: State,
    buffer: [u8; BUFFER_BYTES],
    len: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the start of a line.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State::Outside,
            buffer: [0; BUFFER_BYTES],
            len: 0,
        }
    }

    /// Takes one byte; returns what it completes, if anything.
    pub fn push(&mut self, byte: u8) -> Option<Item<'_>> {
        self.settle();
        match (self.state, byte) {
            (State::Outside, 0) => {
                self.state = State::Inside;
                None
            }
            (State::Outside, text) => Some(Item::Text(text)),
            // Two delimiters in a row: the second opens.
            (_, 0) if self.len == 0 => None,
            (_, 0) => Some(self.close()),
            (_, byte) => {
                // A full buffer is given up below before the next byte comes, so there is room.
                if let Some(place) = self.buffer.get_mut(self.len) {
                    *place = byte;
                    self.len += 1;
                }
                if self.len < self.buffer.len() {
                    return None;
                }
                // Longer than any frame: text without a delimiter.
                Some(self.give_up(Next::Outside))
            }
        }
    }

    /// Gives up on a frame that has not ended: to be called when the line has been silent for a while, so that the text
    /// of a panic that followed an unfinished frame is seen.
    pub fn flush(&mut self) -> Option<Item<'_>> {
        self.settle();
        if self.state != State::Inside || self.len == 0 {
            return None;
        }
        Some(self.give_up(Next::Outside))
    }

    fn settle(&mut self) {
        if let State::Spent(next) = self.state {
            self.len = 0;
            self.state = match next {
                Next::Outside => State::Outside,
                Next::Inside => State::Inside,
            };
        }
    }

    fn give_up(&mut self, next: Next) -> Item<'_> {
        self.state = State::Spent(next);
        Item::Noise(self.buffer.get(..self.len).unwrap_or(&self.buffer))
    }

    fn close(&mut self) -> Item<'_> {
        let mut raw = [0; BUFFER_BYTES];
        let sound = self
            .buffer
            .get(..self.len)
            .and_then(|body| cobs::decode(body, &mut raw).ok())
            .and_then(|report| sound_channel(raw.get(..report.frame_size())?));
        let Some((channel, raw_len)) = sound else {
            return self.give_up(Next::Inside);
        };
        self.buffer = raw;
        self.state = State::Spent(Next::Outside);
        let payload = self
            .buffer
            .get(HEADER_BYTES..raw_len - CRC_BYTES)
            .unwrap_or(&[]);
        Item::Frame(Frame { channel, payload })
    }
}

/// The channel of a decoded body and the body's length, if its checksum holds and there is such a channel.
fn sound_channel(raw: &[u8]) -> Option<(Channel, usize)> {
    let (content, crc) = raw.split_last_chunk::<CRC_BYTES>()?;
    if CRC.checksum(content) != u32::from_le_bytes(*crc) {
        return None;
    }
    let header = content.first_chunk::<HEADER_BYTES>()?;
    Some((Channel::from_header(*header)?, raw.len()))
}
