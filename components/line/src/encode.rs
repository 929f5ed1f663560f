//! Frames out.

use crate::{CRC, Channel, MAX_PAYLOAD_BYTES};
use cobs::CobsEncoder;

/// Why a frame could not be made; nothing of it may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The payload is longer than [`MAX_PAYLOAD_BYTES`]; its length.
    PayloadTooLong(usize),
    /// The buffer is too short; [`crate::MAX_FRAME_BYTES`] always suffices. Its length.
    BufferTooShort(usize),
    /// A guest or port number is out of its range.
    NoSuchChannel(Channel),
}

/// Writes one frame, delimiters included, to the start of `out` and returns its length in bytes.
///
/// # Errors
/// [`EncodeError`] when the payload is too long, `out` too short, or the channel's numbers are out of range.
pub fn encode(channel: Channel, payload: &[u8], out: &mut [u8]) -> Result<usize, EncodeError> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(EncodeError::PayloadTooLong(payload.len()));
    }
    let header = channel
        .to_header()
        .ok_or(EncodeError::NoSuchChannel(channel))?;
    let too_short = EncodeError::BufferTooShort(out.len());
    let mut digest = CRC.digest();
    digest.update(&header);
    digest.update(payload);
    let crc = digest.finalize().to_le_bytes();

    let (first, rest) = out.split_first_mut().ok_or(too_short)?;
    let needed = cobs::max_encoding_length(header.len() + payload.len() + crc.len());
    // The encoder wants room for the worst case before it starts.
    if rest.len() <= needed {
        return Err(too_short);
    }
    *first = 0;
    let mut encoder = CobsEncoder::new(rest);
    for part in [header.as_slice(), payload, crc.as_slice()] {
        encoder.push(part).map_err(|_| too_short)?;
    }
    let body = encoder.finalize();
    *rest.get_mut(body).ok_or(too_short)? = 0;
    Ok(body + 2)
}
