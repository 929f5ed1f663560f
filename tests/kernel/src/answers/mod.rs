//! What every invocation answers when it cannot be done: error and details, row by row, as seL4 16 gives them (the rows were run
//! there too). What invocations do when they succeed is in the other modules.

pub mod capabilities;
pub mod documented;
pub mod machine;
pub mod memory;
pub mod sweep;
pub mod threads;

use crate::suite::Failure;
use sel4_sys::{Error, Invocation, LookupFailure, init_slot};
use testbed::{Env, println};

/// A label, words, capabilities, the error expected and the first words of its details.
type Row<'a> = (Invocation, &'a [u64], &'a [u64], u64, &'a [u64]);

const OK: u64 = 0;
const ARGUMENT: u64 = Error::InvalidArgument.word();
const CAPABILITY: u64 = Error::InvalidCapability.word();
const ILLEGAL: u64 = Error::IllegalOperation.word();
const RANGE: u64 = Error::RangeError.word();
const ALIGNMENT: u64 = Error::AlignmentError.word();
const LOOKUP: u64 = Error::FailedLookup.word();
const TRUNCATED: u64 = Error::TruncatedMessage.word();
const DELETE: u64 = Error::DeleteFirst.word();
const REVOKE: u64 = Error::RevokeFirst.word();
const MEMORY: u64 = Error::NotEnoughMemory.word();

/// Whose lookup failed, and how.
const DESTINATION: u64 = 0;
const SOURCE: u64 = 1;
const ROOT: u64 = LookupFailure::InvalidRoot.word();
const MISSING: u64 = LookupFailure::MissingCapability.word();
const GUARD: u64 = LookupFailure::GuardMismatch.word();
const DEPTH: u64 = LookupFailure::DepthMismatch.word();

const SPACE: u64 = init_slot::VSPACE;
const MAX: u64 = u64::MAX;

fn check(env: &Env, object: u64, rows: &[Row<'_>]) -> Result<(), Failure> {
    for (number, (label, words, caps, error, details)) in rows.iter().enumerate() {
        let answer = env.invoke(object, *label, words, caps);
        let seen = answer.words.get(..details.len()).unwrap_or(&[]);
        if answer.label != *error || seen != *details {
            let label = label.word();
            println!(
                "  label {label}, words {words:x?}: {} {seen:x?}",
                answer.label
            );
            return Err(Failure {
                file: file!(),
                line: number as u32,
                what: "the answer to the row of this number",
                seen: answer.label,
            });
        }
    }
    Ok(())
}
