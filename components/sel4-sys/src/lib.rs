//! The seL4 16 system-call interface for AArch64 EL2 with MCS: numbers, layouts, raw system calls.
//!
//! The configuration is the one of the design pages: seL4 16.0.0, aarch64, `ARM_HYPERVISOR_SUPPORT`, MCS, one core,
//! 4 KiB pages, 40-bit intermediate physical addresses. Every number here is a fact of libsel4's interface files
//! (`libsel4/include/interfaces`, `libsel4/arch_include/arm`, `libsel4/sel4_arch_include/aarch64`); the kernel and
//! the components share it, so a disagreement between the two cannot exist.
//!
//! Invariants:
//! 1. Nothing here depends on the machine that compiles it: the crate builds on any 64-bit host, except that the
//!    module `syscall` only exists for bare AArch64.
//! 2. Layouts that cross the kernel boundary are `repr(C)` and their offsets are checked at compile time.
//! 3. `unsafe` appears in `syscall` only, which is one `svc` instruction per stub.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

mod bootinfo;
mod context;
mod error;
mod fault;
mod ipc;
mod label;
mod number;
mod object;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
#[allow(unsafe_code)]
pub mod syscall;

pub use bootinfo::*;
pub use context::*;
pub use error::*;
pub use fault::*;
pub use ipc::*;
pub use label::*;
pub use number::*;
pub use object::*;

/// A machine word.
pub type Word = u64;
/// A capability pointer: an address in the caller's capability space.
pub type CPtr = u64;

/// Bits of a machine word (seL4_WordBits).
pub const WORD_BITS: u32 = 64;
/// The highest address a native thread can use (seL4_UserTop).
pub const USER_TOP: u64 = 0xff_ffff_ffff;
/// Bits of an intermediate physical address.
pub const IPA_BITS: u32 = 40;
/// Threads' priorities are 0..=255 (seL4_MinPrio..=seL4_MaxPrio).
pub const MAX_PRIORITY: u64 = 255;
/// Least number of objects that one Retype may be asked for is 1, most is this (CONFIG_RETYPE_FAN_OUT_LIMIT).
pub const RETYPE_FAN_OUT_LIMIT: u64 = 256;

/// Declares a `repr(u64)` enum of interface numbers with a checked conversion from a word.
macro_rules! numbered {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:expr,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u64)]
        $vis enum $name { $($(#[$vmeta])* $variant = $value,)+ }

        impl $name {
            /// Every value, in the order of the interface.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The number as it appears in a register.
            #[must_use]
            pub const fn word(self) -> u64 {
                self as u64
            }

            /// The value a word stands for, or `None` when the interface has no such number.
            #[must_use]
            pub const fn from_word(word: u64) -> Option<Self> {
                $(if word == $value { return Some(Self::$variant); })+
                None
            }
        }
    };
}
pub(crate) use numbered;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for call in Syscall::ALL {
            assert_eq!(Syscall::from_word(call.word()), Some(*call));
        }
        assert_eq!(Syscall::from_word(0), None);
        for label in Invocation::ALL {
            assert_eq!(Invocation::from_word(label.word()), Some(*label));
        }
        assert_eq!(Invocation::from_word(62), None);
        assert_eq!(Invocation::ALL.len(), 62);
        assert_eq!(Error::from_word(11), None);
    }

    #[test]
    fn message_info_has_libsel4s_layout() {
        let info = MessageInfo::new(0xba1, 5, 2, 100);
        assert_eq!(info.0, (0xba1 << 12) | (5 << 9) | (2 << 7) | 100);
        assert_eq!(
            (
                info.label(),
                info.caps_unwrapped(),
                info.extra_caps(),
                info.length()
            ),
            (0xba1, 5, 2, 100)
        );
        let cut = MessageInfo::new(u64::MAX, u64::MAX, u64::MAX, u64::MAX);
        assert_eq!(cut.0, u64::MAX);
    }

    #[test]
    fn capability_data_has_libsel4s_layout() {
        assert_eq!(CNodeCapData::new(0, 52).0, 52);
        assert_eq!(CNodeCapData::new(0x1234, 16).0, (0x1234 << 6) | 16);
        assert_eq!(CNodeCapData::new(0x1234, 16).guard(), 0x1234);
        assert_eq!(CNodeCapData::new(0x1234, 16).guard_size(), 16);
        assert_eq!(CapRights::ALL.0, 0xf);
        assert_eq!(CapRights::READ_WRITE.0, 0x3);
        assert_eq!(
            CapRights::WRITE
                .union(CapRights::GRANT_REPLY)
                .intersection(CapRights::ALL)
                .0,
            0x9
        );
    }
}
