//! What the kernel answers when it refuses an invocation.

use sel4_sys::{Error as Code, MessageInfo};

/// Why an invocation failed. Nothing has changed in the kernel when it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The argument of this number (from 0, capabilities counted after the words) is wrong.
    InvalidArgument(u64),
    /// A capability is wrong: 0 is the one invoked, then the ones in the message.
    InvalidCapability(u64),
    /// Not possible in the object's state.
    IllegalOperation,
    /// A number lies outside these bounds.
    Range {
        /// Least allowed.
        least: u64,
        /// Most allowed.
        most: u64,
    },
    /// An address is not aligned as it must be.
    Alignment,
    /// A capability pointer or slot path did not resolve.
    FailedLookup {
        /// 1 when it was the source of the operation, 0 for the destination.
        source: u64,
        /// [`sel4_sys::LookupFailure`] as a number.
        failure: u64,
    },
    /// Words or capabilities are missing in the message.
    TruncatedMessage,
    /// The destination is in use.
    DeleteFirst,
    /// Capabilities are derived from the object.
    RevokeFirst,
    /// The untyped has this many bytes left.
    NotEnoughMemory(u64),
    /// An answer that the interface does not have.
    Unknown(u64),
    /// The message is longer than [`sel4_sys::MSG_MAX_LENGTH`] words or has more than three capabilities.
    TooLong,
    /// There is no kernel here: a development host.
    NotHere,
}

impl Error {
    /// The error an answer stands for; `Ok` for success.
    ///
    /// # Errors
    /// The answer's error, with the details of its first words.
    #[inline]
    pub(crate) fn check(info: MessageInfo, words: [u64; 4]) -> Result<(), Self> {
        if info.label() == Code::NoError.word() {
            return Ok(());
        }
        Err(Self::from_label(info.label(), words))
    }

    #[cold]
    pub(crate) fn from_label(label: u64, words: [u64; 4]) -> Self {
        match Code::from_word(label) {
            Some(Code::InvalidArgument) => Self::InvalidArgument(words[0]),
            Some(Code::InvalidCapability) => Self::InvalidCapability(words[0]),
            Some(Code::IllegalOperation) => Self::IllegalOperation,
            Some(Code::RangeError) => Self::Range {
                least: words[0],
                most: words[1],
            },
            Some(Code::AlignmentError) => Self::Alignment,
            Some(Code::FailedLookup) => Self::FailedLookup {
                source: words[0],
                failure: words[1],
            },
            Some(Code::TruncatedMessage) => Self::TruncatedMessage,
            Some(Code::DeleteFirst) => Self::DeleteFirst,
            Some(Code::RevokeFirst) => Self::RevokeFirst,
            Some(Code::NotEnoughMemory) => Self::NotEnoughMemory(words[0]),
            Some(Code::NoError) | None => Self::Unknown(label),
        }
    }

    /// The seL4 error number (`libsel4/include/sel4/errors.h`); 0xff for what is not the kernel's.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::InvalidArgument(_) => 1,
            Self::InvalidCapability(_) => 2,
            Self::IllegalOperation => 3,
            Self::Range { .. } => 4,
            Self::Alignment => 5,
            Self::FailedLookup { .. } => 6,
            Self::TruncatedMessage => 7,
            Self::DeleteFirst => 8,
            Self::RevokeFirst => 9,
            Self::NotEnoughMemory(_) => 10,
            Self::Unknown(_) | Self::TooLong | Self::NotHere => 0xff,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_errors_with_their_details() {
        let words = [7, 9, 0, 0];
        assert_eq!(Error::check(MessageInfo::new(0, 0, 0, 0), words), Ok(()));
        for code in Code::ALL.iter().filter(|code| **code != Code::NoError) {
            let error = Error::check(MessageInfo::new(code.word(), 0, 0, 0), words).unwrap_err();
            assert_eq!(u64::from(error.code()), code.word(), "{code:?}");
        }
        assert_eq!(
            Error::from_label(4, words),
            Error::Range { least: 7, most: 9 }
        );
        assert_eq!(Error::from_label(99, words), Error::Unknown(99));
    }
}
