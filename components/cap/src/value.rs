//! Calls with typed values.

use crate::ipc::with_words;
use crate::{Endpoint, Error, Message};
use protocol::codec::{LABEL_MALFORMED, LABEL_VALUE};
use sel4_sys::{CPtr, Error as Code};
use serde::{Serialize, de::DeserializeOwned};

/// Why a call with a value brought no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The kernel refused (the capability is not what it should be, or the request is too long).
    Kernel(Error),
    /// The server says that the request did not decode.
    Malformed,
    /// The answer is no value of the expected type; the label is here.
    BadAnswer(u64),
}

/// Whether a capability arrived with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// None.
    Nothing,
    /// One; it is in the slot that [`crate::set_receive_slot`] named.
    Capability,
}

/// Calls a server with a request and, if given, a copy of a capability; returns its answer.
///
/// # Errors
/// See [`CallError`].
#[inline]
pub fn call_value<Req: Serialize, Rep: DeserializeOwned>(
    endpoint: Endpoint,
    request: &Req,
    cap: Option<CPtr>,
) -> Result<Rep, CallError> {
    call_value_receiving(endpoint, request, cap).map(|(reply, _)| reply)
}

/// As [`call_value`], and tells whether a capability arrived in the slot that [`crate::set_receive_slot`] named.
///
/// # Errors
/// See [`CallError`].
#[inline]
pub fn call_value_receiving<Req: Serialize, Rep: DeserializeOwned>(
    endpoint: Endpoint,
    request: &Req,
    cap: Option<CPtr>,
) -> Result<(Rep, Arrived), CallError> {
    let answer = with_words(request, |words| {
        endpoint.call(&Message {
            label: LABEL_VALUE,
            words,
            caps: cap.as_slice(),
        })
    })
    .flatten()
    .map_err(CallError::Kernel)?;
    let arrived = if answer.has_cap() {
        Arrived::Capability
    } else {
        Arrived::Nothing
    };
    match answer.decode() {
        Ok(reply) => Ok((reply, arrived)),
        Err(_) => Err(explain(&answer)),
    }
}

#[cold]
fn explain(answer: &crate::Received) -> CallError {
    match answer.label() {
        LABEL_MALFORMED => CallError::Malformed,
        label if label != 0 && Code::from_word(label).is_some() => {
            let words = [answer.word(0), answer.word(1), 0, 0];
            CallError::Kernel(Error::from_label(label, words))
        }
        label => CallError::BadAnswer(label),
    }
}
