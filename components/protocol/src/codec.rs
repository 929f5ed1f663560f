//! Values to message registers and back.
//!
//! A message's label is [`LABEL_VALUE`] and its words hold the `postcard` bytes of one value, little-endian, the last
//! word padded with zeros. Short values fit the four message registers that travel in CPU registers.

use serde::{Serialize, de::DeserializeOwned};

/// Words of the longest message (seL4_MsgMaxLength).
pub const MAX_WORDS: usize = 120;
/// Words that travel in CPU registers (seL4_FastMessageRegisters).
const SHORT_WORDS: usize = 4;
/// Bytes of the longest value.
pub const MAX_BYTES: usize = MAX_WORDS * 8;
/// Label of a message that carries a value of the endpoint's protocol.
pub const LABEL_VALUE: u64 = 0x0ba1;
/// Label of the answer to a message that did not decode.
pub const LABEL_MALFORMED: u64 = 0x0bad;

/// A value, encoded.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    words: [u64; MAX_WORDS],
    len: usize,
}

impl Words {
    /// The words in use.
    #[must_use]
    pub fn as_slice(&self) -> &[u64] {
        self.words.get(..self.len).unwrap_or(&self.words)
    }
}

/// The value is longer than [`MAX_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// The words are no value of the type asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError;

/// Encodes a value.
///
/// # Errors
/// [`TooLong`] when it needs more than [`MAX_BYTES`].
pub fn encode<T: Serialize>(value: &T) -> Result<Words, TooLong> {
    let mut bytes = [0u8; MAX_BYTES];
    let used = postcard::to_slice(value, &mut bytes)
        .map_err(|_| TooLong)?
        .len();
    let mut words = [0u64; MAX_WORDS];
    let len = used.div_ceil(8);
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)).take(len) {
        let mut raw = [0u8; 8];
        raw.copy_from_slice(chunk);
        *word = u64::from_le_bytes(raw);
    }
    Ok(Words { words, len })
}

/// Decodes a value from a message's words.
///
/// # Errors
/// [`DecodeError`] when the bytes are no `T`, or the message is longer than [`MAX_WORDS`].
pub fn decode<T: DeserializeOwned>(words: &[u64]) -> Result<T, DecodeError> {
    // Most messages are short; clearing room for the longest would cost more than all the rest.
    if words.len() <= SHORT_WORDS {
        decode_within::<T, { SHORT_WORDS * 8 }>(words)
    } else {
        decode_within::<T, MAX_BYTES>(words)
    }
}

#[inline(never)]
fn decode_within<T: DeserializeOwned, const BYTES: usize>(words: &[u64]) -> Result<T, DecodeError> {
    let mut bytes = [0u8; BYTES];
    if words.len() > BYTES / 8 {
        return Err(DecodeError);
    }
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    from_bytes(bytes.get(..words.len() * 8).ok_or(DecodeError)?)
}

/// Apart, so that there is one for each type.
#[inline(never)]
fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    postcard::from_bytes(bytes).map_err(|_| DecodeError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Request, ReturnReason};
    use crate::units::PieceId;
    use proptest::prelude::*;

    #[test]
    fn a_short_request_fits_the_register_words() {
        let words = encode(&Request::Return {
            piece: PieceId(4095),
            why: ReturnReason::Unplugged,
        })
        .unwrap();
        assert!(words.as_slice().len() <= 4);
    }

    #[test]
    fn lengths_around_the_short_ones_decode() {
        for bytes in [0, 1, 29, 30, 31, 32, 33, 100, MAX_BYTES - 3] {
            let text = "x".repeat(bytes);
            let words = encode(&text.as_str()).unwrap();
            let back: heapless::String<MAX_BYTES> = decode(words.as_slice()).unwrap();
            assert_eq!(back, text.as_str(), "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(piece in any::<u32>()) {
            let request = Request::Return { piece: PieceId(piece), why: ReturnReason::Reported };
            prop_assert_eq!(decode::<Request>(encode(&request).unwrap().as_slice()), Ok(request));
        }

        #[test]
        fn any_words_decode_or_fail_without_a_panic(words in proptest::collection::vec(any::<u64>(), 0..130)) {
            let _ = decode::<Request>(&words);
            let _ = decode::<crate::management::HostRequest>(&words);
        }
    }
}
