//! Capabilities that messages and signals go through: endpoints, notifications, reply objects. Their first word is the badge.

use super::Cap;
use super::kind::{K_ENDPOINT, K_NOTIFICATION, K_REPLY};
use crate::object::mem::Ref;
use crate::object::{Endpoint, Notification, Reply};

/// Rights on an endpoint or notification capability (seL4_CapRights).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rights(u8);

impl Rights {
    /// Send.
    pub const WRITE: Self = Self(1);
    /// Receive.
    pub const READ: Self = Self(2);
    /// Transfer capabilities.
    pub const GRANT: Self = Self(4);
    /// Transfer the reply capability.
    pub const GRANT_REPLY: Self = Self(8);
    /// All four.
    pub const ALL: Self = Self(15);

    /// From seL4's word: the bit order is seL4_CapRights' (write 0, read 1, grant 2, grant reply 3).
    #[inline]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self((word & 15) as u8)
    }
    /// The bits.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
    /// Whether all of `other` is in `self`.
    #[inline]
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// What either has.
    #[inline]
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// What both have.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Cap {
    /// The rights of an endpoint, notification or reply capability.
    #[inline(always)]
    const fn ipc_rights(self) -> Rights {
        Rights(((self.packed >> 44) & 15) as u8)
    }

    /// An endpoint and the rights to it; its badge is [`Self::word`].
    #[inline(always)]
    #[must_use]
    pub fn as_endpoint(self) -> Option<(Ref<Endpoint>, Rights)> {
        if self.packed >> 59 != K_ENDPOINT {
            return None;
        }
        Some((self.object()?, self.ipc_rights()))
    }

    /// A notification and the rights to it; its badge is [`Self::word`].
    #[inline(always)]
    #[must_use]
    pub fn as_notification(self) -> Option<(Ref<Notification>, Rights)> {
        if self.packed >> 59 != K_NOTIFICATION {
            return None;
        }
        Some((self.object()?, self.ipc_rights()))
    }

    /// A reply object and the rights to it.
    #[inline(always)]
    #[must_use]
    pub fn as_reply(self) -> Option<(Ref<Reply>, Rights)> {
        if self.packed >> 59 != K_REPLY {
            return None;
        }
        Some((self.object()?, self.ipc_rights()))
    }
}
