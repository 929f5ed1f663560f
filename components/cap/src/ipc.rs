//! Endpoints, notifications, reply objects and the messages that pass through them.

use crate::{Error, Slot, capability, thread};
use protocol::codec::{self, DecodeError, LABEL_MALFORMED, LABEL_VALUE};
use sel4_sys::{CPtr, FAST_MESSAGE_REGISTERS, MSG_MAX_LENGTH, MessageInfo};
use serde::{Serialize, de::DeserializeOwned};

capability! {
    /// An endpoint.
    Endpoint;
    /// A notification.
    Notification;
    /// A reply object.
    Reply;
}

/// A message to send: words and capabilities (by their pointers, at most three; the kernel accepts one per receiver
/// that named a slot).
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// The label.
    pub label: u64,
    /// At most [`MSG_MAX_LENGTH`] words.
    pub words: &'a [u64],
    /// Capabilities to send copies of.
    pub caps: &'a [CPtr],
}

/// A message that was received. Not `Copy`: words past the fourth lie in the IPC buffer until the next system call.
#[derive(Debug)]
pub struct Received {
    /// The sender's badge, or the notification's word when a bound notification was signalled.
    pub badge: u64,
    info: MessageInfo,
    first: [u64; FAST_MESSAGE_REGISTERS],
}

impl Received {
    pub(crate) const fn from_answer(answer: thread::Answer) -> Self {
        Self {
            badge: answer.badge,
            info: answer.info,
            first: answer.words,
        }
    }

    /// The label.
    #[must_use]
    pub const fn label(&self) -> u64 {
        self.info.label()
    }

    /// Number of words.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.info.length() as usize).min(MSG_MAX_LENGTH)
    }

    /// Whether there are no words.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Word `index`; 0 past the end. Words past the fourth are valid until the thread's next long message.
    #[must_use]
    #[inline]
    pub fn word(&self, index: usize) -> u64 {
        if index >= self.len() {
            return 0;
        }
        match self.first.get(index) {
            Some(word) => *word,
            None => thread::get_word(index),
        }
    }

    /// Copies the words to `into` and returns the filled part; what does not fit is left out.
    pub fn copy_words<'a>(&self, into: &'a mut [u64]) -> &'a mut [u64] {
        let mut filled = 0;
        for (index, word) in into.iter_mut().enumerate().take(self.len()) {
            *word = self.word(index);
            filled = index + 1;
        }
        into.get_mut(..filled).unwrap_or_default()
    }

    /// Capabilities that came with the message.
    #[must_use]
    pub const fn caps(&self) -> u64 {
        self.info.extra_caps()
    }

    /// Whether a capability was put into the receive slot (and not merely recognised as one of the own endpoint).
    #[must_use]
    pub const fn has_cap(&self) -> bool {
        self.info.extra_caps() > 0 && self.info.caps_unwrapped() & 1 == 0
    }

    /// The badge of capability `index` when it was one of the endpoint received on.
    #[must_use]
    pub fn unwrapped_badge(&self, index: usize) -> Option<u64> {
        let is_unwrapped = self.info.caps_unwrapped().checked_shr(index as u32)? & 1 == 1;
        (is_unwrapped && (index as u64) < self.caps()).then(|| thread::get_badge(index))
    }

    /// The value that the message carries.
    ///
    /// # Errors
    /// [`DecodeError`] when the label is not [`LABEL_VALUE`] or the words are no `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        if self.label() != LABEL_VALUE {
            return Err(DecodeError);
        }
        if self.len() <= FAST_MESSAGE_REGISTERS {
            return codec::decode(self.first.get(..self.len()).ok_or(DecodeError)?);
        }
        let mut words = [0; MSG_MAX_LENGTH];
        codec::decode(self.copy_words(&mut words))
    }
}

/// Encodes a value and goes on with its words. (A value that was returned would be copied with room for the longest message.)
///
/// # Errors
/// [`Error::TooLong`]; then nothing was done.
#[inline]
pub(crate) fn with_words<T: Serialize, R>(
    value: &T,
    go: impl FnOnce(&[u64]) -> R,
) -> Result<R, Error> {
    let mut bytes = [0u8; FAST_MESSAGE_REGISTERS * 8];
    let Ok(used) = postcard::to_slice(value, &mut bytes) else {
        return with_many_words(value, go);
    };
    let len = used.len().div_ceil(8);
    let mut words = [0; FAST_MESSAGE_REGISTERS];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    Ok(go(words.get(..len).unwrap_or(&words)))
}

#[inline(never)]
fn with_many_words<T: Serialize, R>(value: &T, go: impl FnOnce(&[u64]) -> R) -> Result<R, Error> {
    let words = codec::encode(value).map_err(|_| Error::TooLong)?;
    Ok(go(words.as_slice()))
}

impl Endpoint {
    /// Sends a message and waits for the answer.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::NotHere`]. What the kernel or the server answers is the returned message.
    #[inline]
    pub fn call(self, message: &Message<'_>) -> Result<Received, Error> {
        thread::call(self.cptr(), message.label, message.words, message.caps)
            .map(Received::from_answer)
    }

    /// Sends a message, blocking until it is received.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::NotHere`].
    #[inline]
    pub fn send(self, message: &Message<'_>) -> Result<(), Error> {
        thread::send(self.cptr(), message.label, message.words, message.caps)
    }

    /// Sends a message if somebody waits for it, else does nothing. Which of the two is not known.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::NotHere`].
    #[inline]
    pub fn nb_send(self, message: &Message<'_>) -> Result<(), Error> {
        thread::nb_send(self.cptr(), message.label, message.words, message.caps)
    }

    /// Receives a message, or the word of the notification bound to this thread.
    ///
    /// # Errors
    /// [`Error::NotHere`].
    #[inline]
    pub fn recv(self, reply: Reply) -> Result<Received, Error> {
        thread::recv(self.cptr(), reply.cptr()).map(Received::from_answer)
    }

    /// Receives if a message waits; else an empty message with badge 0.
    ///
    /// # Errors
    /// [`Error::NotHere`].
    #[inline]
    pub fn nb_recv(self, reply: Reply) -> Result<Received, Error> {
        thread::nb_recv(self.cptr(), reply.cptr()).map(Received::from_answer)
    }

    /// Answers the caller that `reply` stands for, then receives.
    ///
    /// # Errors
    /// [`Error::TooLong`] (nothing was sent), [`Error::NotHere`].
    #[inline]
    pub fn reply_recv(self, message: &Message<'_>, reply: Reply) -> Result<Received, Error> {
        thread::reply_recv(
            self.cptr(),
            message.label,
            message.words,
            message.caps,
            reply.cptr(),
        )
        .map(Received::from_answer)
    }

    /// Answers with a value (and a copy of a capability), then receives. A value too long for a message is answered
    /// with [`LABEL_MALFORMED`].
    ///
    /// # Errors
    /// [`Error::NotHere`].
    #[inline]
    pub fn reply_recv_value<T: Serialize>(
        self,
        value: &T,
        cap: Option<CPtr>,
        reply: Reply,
    ) -> Result<Received, Error> {
        let answered = with_words(value, |words| {
            let message = Message {
                label: LABEL_VALUE,
                words,
                caps: cap.as_slice(),
            };
            self.reply_recv(&message, reply)
        });
        match answered {
            Ok(received) => received,
            Err(_) => self.reply_recv_malformed(reply),
        }
    }

    /// Answers that the message did not decode, then receives.
    ///
    /// # Errors
    /// [`Error::NotHere`].
    pub fn reply_recv_malformed(self, reply: Reply) -> Result<Received, Error> {
        self.reply_recv(
            &Message {
                label: LABEL_MALFORMED,
                ..Message::default()
            },
            reply,
        )
    }
}

impl Reply {
    /// Answers the caller that this object stands for. Does nothing when it stands for none.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::NotHere`].
    pub fn send(self, message: &Message<'_>) -> Result<(), Error> {
        thread::send(self.cptr(), message.label, message.words, message.caps)
    }

    /// Answers with a value and a copy of a capability.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::NotHere`].
    pub fn send_value<T: Serialize>(self, value: &T, cap: Option<CPtr>) -> Result<(), Error> {
        with_words(value, |words| {
            self.send(&Message {
                label: LABEL_VALUE,
                words,
                caps: cap.as_slice(),
            })
        })?
    }
}

impl Notification {
    /// Signals: the capability's badge is added to the notification's word. Never blocks.
    #[inline]
    pub fn signal(self) {
        thread::signal(self.cptr());
    }

    /// Waits until it is signalled and takes its word.
    ///
    /// # Errors
    /// [`Error::NotHere`].
    #[inline]
    pub fn wait(self) -> Result<u64, Error> {
        thread::wait(self.cptr()).map(|answer| answer.badge)
    }

    /// Takes its word; 0 when it was not signalled.
    ///
    /// # Errors
    /// [`Error::NotHere`].
    #[inline]
    pub fn poll(self) -> Result<u64, Error> {
        thread::poll(self.cptr()).map(|answer| answer.badge)
    }
}

/// Names the slot that receives a capability sent to this thread, until it is named anew. It must be empty when a
/// message arrives, else the capability stays with the sender.
pub fn set_receive_slot(slot: Slot) {
    thread::put_receive_path(slot.root.cptr(), slot.index, u64::from(slot.depth));
}

/// No capability is received from now on.
pub fn clear_receive_slot() {
    thread::put_receive_path(0, 0, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::memory::{Purpose, Reply as MemoryReply, Request};
    use protocol::units::PieceId;

    fn received(label: u64, words: &[u64]) -> Received {
        let mut first = [0; 4];
        for (to, from) in first.iter_mut().zip(words) {
            *to = *from;
        }
        Received {
            badge: 1,
            info: MessageInfo::new(label, 0, 0, words.len() as u64),
            first,
        }
    }

    fn encoded<T: Serialize>(value: &T) -> Vec<u64> {
        with_words(value, <[u64]>::to_vec).unwrap()
    }

    #[test]
    fn short_values_stay_in_registers_and_decode_again() {
        let value = MemoryReply::Granted {
            piece: PieceId(4095),
        };
        let words = encoded(&value);
        assert_eq!(words.len(), 1);
        let message = received(LABEL_VALUE, &words);
        assert_eq!(message.decode::<MemoryReply>(), Ok(value));
    }

    #[test]
    fn both_encoders_agree() {
        let value = Request::Take(Purpose::Touched);
        assert_eq!(encoded(&value), codec::encode(&value).unwrap().as_slice());
        let long =
            protocol::supervisor::Reply::Refused("x".repeat(150).as_str().try_into().unwrap());
        let words = encoded(&long);
        assert!(words.len() > FAST_MESSAGE_REGISTERS);
        assert_eq!(words, codec::encode(&long).unwrap().as_slice());
    }

    #[test]
    fn a_foreign_label_does_not_decode() {
        assert_eq!(
            received(7, &encoded(&Request::Mine)).decode::<Request>(),
            Err(DecodeError)
        );
    }

    #[test]
    fn words_past_the_end_are_zero_and_capabilities_are_told_apart() {
        let mut message = received(0, &[5, 6]);
        assert_eq!(
            (message.word(1), message.word(2), message.word(200)),
            (6, 0, 0)
        );
        assert!(!message.has_cap());
        message.info = MessageInfo::new(0, 0, 1, 2);
        assert!(message.has_cap());
        message.info = MessageInfo::new(0, 1, 1, 2);
        assert!(!message.has_cap());
        assert_eq!(message.unwrapped_badge(0), Some(0));
        assert_eq!(message.unwrapped_badge(1), None);
        assert_eq!(message.unwrapped_badge(64), None);
    }
}
