//! The alarms that are set.

use protocol::badge::Client;
use protocol::slots;
use protocol::timer::Alarm;
use protocol::units::MAX_GUESTS;

/// Alarms: each VMM's two, the balancer's, the console's, the supervisor's.
pub const ALARMS: usize = 2 * MAX_GUESTS + 3;
const BALANCER: usize = 2 * MAX_GUESTS;

/// An alarm's place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmIndex(usize);

impl AlarmIndex {
    /// The place of a client's alarm; `None` for those that have none.
    #[must_use]
    pub fn of(client: Client, alarm: Alarm) -> Option<Self> {
        match (client, alarm) {
            (Client::Vmm(guest), _) if usize::from(guest.0) < MAX_GUESTS => Some(Self(
                2 * usize::from(guest.0) + usize::from(alarm == Alarm::Guest),
            )),
            (Client::Balancer, Alarm::Work) => Some(Self(BALANCER)),
            (Client::Console, Alarm::Work) => Some(Self(BALANCER + 1)),
            (Client::Supervisor, Alarm::Work) => Some(Self(BALANCER + 2)),
            (
                Client::Vmm(_) | Client::Balancer | Client::Console | Client::Supervisor,
                Alarm::Work | Alarm::Guest,
            )
            | (Client::Cleaner | Client::MemoryServer | Client::Timer, _) => None,
        }
    }

    /// The slot of the client's notification in the timer's CNode.
    #[must_use]
    pub const fn signal_slot(self) -> u64 {
        let index = self.0 as u64;
        match index.checked_sub(BALANCER as u64) {
            None => slots::timer::VMM_SIGNALS + index / 2,
            Some(other) => slots::timer::CLIENT_SIGNALS + other,
        }
    }
}

/// The alarms, in ticks of the counter.
#[derive(Clone, Debug)]
pub struct Queue {
    at_ticks: [Option<u64>; ALARMS],
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
            at_ticks: [None; ALARMS],
        }
    }

    /// Sets an alarm.
    pub fn set(&mut self, index: AlarmIndex, at_ticks: u64) {
        if let Some(alarm) = self.at_ticks.get_mut(index.0) {
            *alarm = Some(at_ticks);
        }
    }

    /// The earliest alarm.
    #[must_use]
    pub fn earliest(&self) -> Option<u64> {
        self.at_ticks.iter().flatten().min().copied()
    }

    /// Takes one alarm whose time has come at `now_ticks`; call until `None`.
    pub fn take_due(&mut self, now_ticks: u64) -> Option<AlarmIndex> {
        for (index, alarm) in self.at_ticks.iter_mut().enumerate() {
            if alarm.is_some_and(|at_ticks| at_ticks <= now_ticks) {
                *alarm = None;
                return Some(AlarmIndex(index));
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
    fn every_alarm_has_its_place_and_every_client_its_slot() {
        let vmms = (0..MAX_GUESTS as u16).map(|guest| Client::Vmm(GuestId(guest)));
        let others = [Client::Balancer, Client::Console, Client::Supervisor];
        let mut places = Vec::new();
        let mut slots = Vec::new();
        for client in vmms.clone().chain(others) {
            let work = AlarmIndex::of(client, Alarm::Work).unwrap();
            places.push(work.0);
            slots.push(work.signal_slot());
        }
        for vmm in vmms {
            let guest = AlarmIndex::of(vmm, Alarm::Guest).unwrap();
            places.push(guest.0);
            let work = AlarmIndex::of(vmm, Alarm::Work).unwrap();
            assert_eq!(guest.signal_slot(), work.signal_slot());
        }
        places.sort_unstable();
        assert_eq!(places, (0..ALARMS).collect::<Vec<_>>());
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), MAX_GUESTS + 3);
        assert!(slots.iter().all(|slot| *slot < 1 << slots::timer::RADIX));
        for alarm in [Alarm::Work, Alarm::Guest] {
            let foreign = Client::Vmm(GuestId(MAX_GUESTS as u16));
            assert_eq!(AlarmIndex::of(foreign, alarm), None);
            assert_eq!(AlarmIndex::of(Client::Cleaner, alarm), None);
        }
        for client in others {
            assert_eq!(AlarmIndex::of(client, Alarm::Guest), None);
        }
    }

    proptest! {
        #[test]
        fn alarms_come_due_in_time_and_once(
            alarms in proptest::collection::vec((0..ALARMS, 0u64..100), 0..60),
            now in 0u64..100,
        ) {
            let mut queue = Queue::new();
            let mut model = [None; ALARMS];
            for (index, at) in alarms {
                queue.set(AlarmIndex(index), at);
                model[index] = Some(at);
            }
            prop_assert_eq!(queue.earliest(), model.iter().flatten().min().copied());
            let mut due = Vec::new();
            while let Some(index) = queue.take_due(now) {
                due.push(index.0);
            }
            due.sort_unstable();
            let expected: Vec<usize> =
                (0..ALARMS).filter(|index| model[*index].is_some_and(|at| at <= now)).collect();
            prop_assert_eq!(due, expected);
            prop_assert!(queue.earliest().is_none_or(|at| at > now));
        }
    }
}
