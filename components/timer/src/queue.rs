//! The alarms that are set.

use protocol::badge::Client;
use protocol::slots;
use protocol::units::MAX_GUESTS;

/// Clients that can set an alarm: every VMM, the balancer, the console, the supervisor.
pub const CLIENTS: usize = MAX_GUESTS + 3;

/// A client's place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIndex(usize);

impl ClientIndex {
    /// The place of a client; `None` for those that have no alarm.
    #[must_use]
    pub fn of(client: Client) -> Option<Self> {
        match client {
            Client::Vmm(guest) if usize::from(guest.0) < MAX_GUESTS => {
                Some(Self(usize::from(guest.0)))
            }
            Client::Balancer => Some(Self(MAX_GUESTS)),
            Client::Console => Some(Self(MAX_GUESTS + 1)),
            Client::Supervisor => Some(Self(MAX_GUESTS + 2)),
            Client::Vmm(_) | Client::Cleaner | Client::MemoryServer | Client::Timer => None,
        }
    }

    /// The slot of the client's notification in the timer's CNode.
    #[must_use]
    pub const fn signal_slot(self) -> u64 {
        let index = self.0 as u64;
        match index.checked_sub(MAX_GUESTS as u64) {
            None => slots::timer::VMM_SIGNALS + index,
            Some(other) => slots::timer::CLIENT_SIGNALS + other,
        }
    }
}

/// One alarm per client, in ticks of the counter.
#[derive(Clone, Debug)]
pub struct Queue {
    at_ticks: [Option<u64>; CLIENTS],
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

impl Queue {
    /// No alarms.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            at_ticks: [None; CLIENTS],
        }
    }

    /// Sets or clears a client's alarm.
    pub fn set(&mut self, client: ClientIndex, at_ticks: Option<u64>) {
        if let Some(alarm) = self.at_ticks.get_mut(client.0) {
            *alarm = at_ticks;
        }
    }

    /// The earliest alarm.
    #[must_use]
    pub fn earliest(&self) -> Option<u64> {
        self.at_ticks.iter().flatten().min().copied()
    }

    /// Takes one alarm whose time has come at `now_ticks`; call until `None`.
    pub fn take_due(&mut self, now_ticks: u64) -> Option<ClientIndex> {
        for (index, alarm) in self.at_ticks.iter_mut().enumerate() {
            if alarm.is_some_and(|at_ticks| at_ticks <= now_ticks) {
                *alarm = None;
                return Some(ClientIndex(index));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::units::GuestId;

    #[test]
    fn every_client_has_its_own_place_and_slot() {
        let clients = (0..MAX_GUESTS as u8)
            .map(|guest| Client::Vmm(GuestId(guest)))
            .chain([Client::Balancer, Client::Console, Client::Supervisor]);
        let places: Vec<ClientIndex> = clients.filter_map(ClientIndex::of).collect();
        assert_eq!(places.len(), CLIENTS);
        let mut slots: Vec<u64> = places.iter().map(|place| place.signal_slot()).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), CLIENTS);
        assert!(slots.iter().all(|slot| *slot < 1 << slots::timer::RADIX));
        assert_eq!(ClientIndex::of(Client::Vmm(GuestId(16))), None);
        assert_eq!(ClientIndex::of(Client::Cleaner), None);
    }

    proptest! {
        #[test]
        fn alarms_come_due_in_time_and_once(
            alarms in proptest::collection::vec((0..CLIENTS, proptest::option::of(0u64..100)), 0..60),
            now in 0u64..100,
        ) {
            let mut queue = Queue::new();
            let mut model = [None; CLIENTS];
            for (client, at) in alarms {
                queue.set(ClientIndex(client), at);
                model[client] = at;
            }
            prop_assert_eq!(queue.earliest(), model.iter().flatten().min().copied());
            let mut due = Vec::new();
            while let Some(client) = queue.take_due(now) {
                due.push(client.0);
            }
            due.sort_unstable();
            let expected: Vec<usize> =
                (0..CLIENTS).filter(|client| model[*client].is_some_and(|at| at <= now)).collect();
            prop_assert_eq!(due, expected);
            prop_assert!(queue.earliest().is_none_or(|at| at > now));
        }
    }
}
