//! Messages: the information word, the IPC buffer, capability rights and CNode data (libsel4 `shared_types.bf`).

use core::mem::{offset_of, size_of};

/// Longest message, in words (seL4_MsgMaxLength).
pub const MSG_MAX_LENGTH: usize = 120;
/// Most capabilities in a message.
pub const MSG_MAX_EXTRA_CAPS: usize = 3;
/// Message words that travel in CPU registers.
pub const FAST_MESSAGE_REGISTERS: usize = 4;
/// log2 of the IPC buffer's bytes.
pub const IPC_BUFFER_BITS: u32 = 10;
/// Register of the first message word: word `n` < 4 is in x`2 + n`.
pub const FIRST_MESSAGE_REGISTER: usize = 2;

/// The information word: label 52 bits, capabilities unwrapped 3, extra capabilities 2, length 7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct MessageInfo(pub u64);

impl MessageInfo {
    /// Builds the word; each argument is cut to its field.
    #[must_use]
    pub const fn new(label: u64, caps_unwrapped: u64, extra_caps: u64, length: u64) -> Self {
        Self(
            (label << 12) | ((caps_unwrapped & 7) << 9) | ((extra_caps & 3) << 7) | (length & 0x7f),
        )
    }

    /// The label.
    #[must_use]
    pub const fn label(self) -> u64 {
        self.0 >> 12
    }

    /// Bit `n` is set when capability `n` arrived as the badge of the endpoint received on.
    #[must_use]
    pub const fn caps_unwrapped(self) -> u64 {
        (self.0 >> 9) & 7
    }

    /// Capabilities sent or received, 0..=3.
    #[must_use]
    pub const fn extra_caps(self) -> u64 {
        (self.0 >> 7) & 3
    }

    /// Words, 0..=127; more than [`MSG_MAX_LENGTH`] counts as that many.
    #[must_use]
    pub const fn length(self) -> u64 {
        self.0 & 0x7f
    }
}

/// Rights of a capability: bit 0 write, 1 read, 2 grant, 3 grant reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct CapRights(pub u64);

impl CapRights {
    /// None.
    pub const NONE: Self = Self(0);
    /// Write, or send.
    pub const WRITE: Self = Self(1);
    /// Read, or receive.
    pub const READ: Self = Self(2);
    /// Send capabilities, and what `GRANT_REPLY` gives.
    pub const GRANT: Self = Self(4);
    /// Call: the callee may answer, with capabilities.
    pub const GRANT_REPLY: Self = Self(8);
    /// Read and write.
    pub const READ_WRITE: Self = Self(3);
    /// Everything.
    pub const ALL: Self = Self(15);

    /// What either has.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What both have.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether every right of `other` is there.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The four bits that have a meaning.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word & 15)
    }
}

/// The data word of a CNode capability: guard 58 bits, guard size 6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct CNodeCapData(pub u64);

impl CNodeCapData {
    /// A guard of `guard_size` bits.
    #[must_use]
    pub const fn new(guard: u64, guard_size: u64) -> Self {
        Self((guard << 6) | (guard_size & 0x3f))
    }

    /// The guard.
    #[must_use]
    pub const fn guard(self) -> u64 {
        self.0 >> 6
    }

    /// Bits of the guard.
    #[must_use]
    pub const fn guard_size(self) -> u64 {
        self.0 & 0x3f
    }
}

/// A thread's IPC buffer. Lies in a frame, aligned to its own size.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(1024))]
pub struct IpcBuffer {
    /// Information word (unused by the kernel on this architecture).
    pub tag: u64,
    /// Message words.
    pub msg: [u64; MSG_MAX_LENGTH],
    /// For the user.
    pub user_data: u64,
    /// Sending: capability pointers. After receiving: badges of unwrapped capabilities.
    pub caps_or_badges: [u64; MSG_MAX_EXTRA_CAPS],
    /// Root of the path to the slot for a received capability.
    pub receive_cnode: u64,
    /// Index below it.
    pub receive_index: u64,
    /// Depth of that index, in bits.
    pub receive_depth: u64,
}

const _: () = {
    assert!(size_of::<IpcBuffer>() == 1024);
    assert!(offset_of!(IpcBuffer, tag) == 0);
    assert!(offset_of!(IpcBuffer, msg) == 8);
    assert!(offset_of!(IpcBuffer, user_data) == 968);
    assert!(offset_of!(IpcBuffer, caps_or_badges) == 976);
    assert!(offset_of!(IpcBuffer, receive_cnode) == 1000);
    assert!(offset_of!(IpcBuffer, receive_index) == 1008);
    assert!(offset_of!(IpcBuffer, receive_depth) == 1016);
};
