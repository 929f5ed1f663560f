//! The framing of the operator's serial line: several channels and plain text on one stream of bytes.
//!
//! A frame is, between two zero bytes, the COBS encoding of `tag, id, payload, CRC-32 of all that (little-endian)`.
//! Everything outside frames is plain text: what the kernel prints at boot and in a panic needs no framing to be read.
//!
//! Invariants:
//! 1. [`Decoder`] reports a frame only when its checksum holds; bytes that make no frame come out as text or as
//!    [`Item::Noise`], never silently as a frame and never not at all.
//! 2. After any damage the decoder is in step again at the second undamaged frame at the latest.
//! 3. Neither side allocates, and both are bounded by [`MAX_FRAME_BYTES`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod decode;
mod encode;

pub use decode::{Decoder, Frame, Item};
pub use encode::{EncodeError, encode};

/// Most bytes of payload in one frame. The longest management message (a chunk of console bytes with its envelope) fits.
pub const MAX_PAYLOAD_BYTES: usize = 768;
/// Bytes of the tag and the identifier before the payload.
const HEADER_BYTES: usize = 2;
/// Bytes of the checksum.
const CRC_BYTES: usize = 4;
/// Most bytes of a frame before COBS.
const MAX_RAW_BYTES: usize = HEADER_BYTES + MAX_PAYLOAD_BYTES + CRC_BYTES;
/// Most bytes of an encoded frame without its two delimiters.
const MAX_BODY_BYTES: usize = cobs::max_encoding_length(MAX_RAW_BYTES);
/// Most bytes of a frame on the line, with both delimiters.
pub const MAX_FRAME_BYTES: usize = MAX_BODY_BYTES + 2;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// The management protocol (`protocol::management`).
    Management,
    /// `defmt` records of the component with this log number.
    Log(u8),
    /// Bytes of a guest's serial port.
    Console {
        /// The guest's number, `0..=31`.
        guest: u8,
        /// The port's number, `0..=7`.
        port: u8,
    },
}

const TAG_MANAGEMENT: u8 = 1;
const TAG_LOG: u8 = 2;
const TAG_CONSOLE: u8 = 3;
/// Bits of the identifier that name the port.
const PORT_BITS: u32 = 3;

impl Channel {
    /// Tag and identifier on the line, or `None` when a number is out of its range.
    fn to_header(self) -> Option<[u8; HEADER_BYTES]> {
        match self {
            Self::Management => Some([TAG_MANAGEMENT, 0]),
            Self::Log(id) => Some([TAG_LOG, id]),
            Self::Console { guest, port } if guest < 32 && port < 8 => {
                Some([TAG_CONSOLE, guest << PORT_BITS | port])
            }
            Self::Console { .. } => None,
        }
    }

    /// The channel of a tag and identifier, or `None` when there is no such channel.
    fn from_header(header: [u8; HEADER_BYTES]) -> Option<Self> {
        match header {
            [TAG_MANAGEMENT, 0] => Some(Self::Management),
            [TAG_LOG, id] => Some(Self::Log(id)),
            [TAG_CONSOLE, id] => Some(Self::Console {
                guest: id >> PORT_BITS,
                port: id & ((1 << PORT_BITS) - 1),
            }),
            _ => None,
        }
    }
}

/// CRC-32 as in IEEE 802.3 (`ISO-HDLC`): finds every burst of up to 32 bits.
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
