//! Who a message is from. A server's endpoint is minted once per client with one of these badges.

use crate::units::GuestId;

/// A client of a server, as the kernel vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The VMM of a guest.
    Vmm(GuestId),
    /// The balancer.
    Balancer,
    /// The serial / management server.
    Console,
    /// The root task as supervisor.
    Supervisor,
    /// The memory server's own cleaner thread.
    Cleaner,
    /// The memory server.
    MemoryServer,
    /// The timer.
    Timer,
}

const KIND_SHIFT: u32 = 16;

impl Client {
    /// The badge that stands for this client. Never zero.
    #[must_use]
    pub const fn badge(self) -> u64 {
        let (kind, id) = match self {
            Self::Vmm(GuestId(id)) => (1, id as u64),
            Self::Balancer => (2, 0),
            Self::Console => (3, 0),
            Self::Supervisor => (4, 0),
            Self::Cleaner => (5, 0),
            Self::MemoryServer => (6, 0),
            Self::Timer => (7, 0),
        };
        (kind << KIND_SHIFT) | id
    }

    /// The client a badge stands for, or `None` for a badge nobody was given.
    #[must_use]
    pub const fn from_badge(badge: u64) -> Option<Self> {
        let id = (badge & 0xffff) as u16;
        match (badge >> KIND_SHIFT, id) {
            (1, id) => Some(Self::Vmm(GuestId(id))),
            (2, 0) => Some(Self::Balancer),
            (3, 0) => Some(Self::Console),
            (4, 0) => Some(Self::Supervisor),
            (5, 0) => Some(Self::Cleaner),
            (6, 0) => Some(Self::MemoryServer),
            (7, 0) => Some(Self::Timer),
            _ => None,
        }
    }
}

/// Log number of guest 0's VMM; guest `g`'s has `FIRST_VMM_LOG + g`.
const FIRST_VMM_LOG: u8 = 16;

impl Client {
    /// The number of this client's log channel on the operator's line ([`crate::startup::Startup::log_id`]). The console
    /// server takes it from the badge, so no component can log in another's name.
    #[must_use]
    pub const fn log_id(self) -> u8 {
        match self {
            Self::Vmm(GuestId(id)) => {
                FIRST_VMM_LOG.saturating_add(if id < 256 { id as u8 } else { u8::MAX })
            }
            Self::Balancer => 2,
            Self::Console => 3,
            Self::Supervisor => 4,
            Self::Cleaner => 5,
            Self::MemoryServer => 6,
            Self::Timer => 7,
        }
    }

    /// The client that logs on a channel, or `None` when nobody does.
    #[must_use]
    pub const fn from_log_id(log_id: u8) -> Option<Self> {
        match log_id {
            2 => Some(Self::Balancer),
            3 => Some(Self::Console),
            4 => Some(Self::Supervisor),
            5 => Some(Self::Cleaner),
            6 => Some(Self::MemoryServer),
            7 => Some(Self::Timer),
            FIRST_VMM_LOG.. => Some(Self::Vmm(GuestId((log_id - FIRST_VMM_LOG) as u16))),
            _ => None,
        }
    }

    /// The crate that this client's program is built from: its file name in the bundle.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Vmm(_) => "vmm",
            Self::Balancer => "balancer",
            Self::Console => "console",
            Self::Supervisor => "root-task",
            Self::Cleaner | Self::MemoryServer => "memory-server",
            Self::Timer => "timer",
        }
    }
}

/// Bits that a notification's word carries; each signaller has its own bit, so they add up without loss.
pub mod signal {
    /// The memory server: this guest's target or pool situation changed (VMM); clean frames or returns (balancer).
    pub const MEMORY: u64 = 1 << 0;
    /// The timer: the alarm that was set has passed.
    pub const ALARM: u64 = 1 << 1;
    /// Another thread of the component.
    pub const TICK: u64 = 1 << 2;
    /// The console server: input is waiting.
    pub const CONSOLE: u64 = 1 << 3;
    /// The supervisor: stop, in good order.
    pub const STOP: u64 = 1 << 4;
    /// The balancer: send a report now.
    pub const REPORT: u64 = 1 << 5;
    /// A device interrupt.
    pub const IRQ: u64 = 1 << 6;
    /// Set in the badge of every notification bound to a thread that also receives on an endpoint, so that the two
    /// kinds of message cannot be confused (endpoint badges are below 2^32).
    pub const IS_SIGNAL: u64 = 1 << 63;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn badges_round_trip_and_nothing_else_decodes() {
        let clients = [
            Client::Vmm(GuestId(0)),
            Client::Vmm(GuestId(15)),
            Client::Balancer,
            Client::Console,
            Client::Supervisor,
            Client::Cleaner,
            Client::MemoryServer,
            Client::Timer,
        ];
        for client in clients {
            assert_eq!(Client::from_badge(client.badge()), Some(client));
            assert_ne!(client.badge(), 0);
            assert_eq!(Client::from_log_id(client.log_id()), Some(client));
        }
        for badge in [0, 1, 0x2_0001, 0x9_0000, u64::MAX, 0x101_0001] {
            assert_eq!(Client::from_badge(badge), None, "{badge:#x}");
        }
    }
}
