//! virtio-mem (virtio 1.3, 5.15): memory is plugged and unplugged in blocks of 2 MiB, one piece each.
//!
//! UNPLUGGED_INACCESSIBLE is offered and required: memory that is not plugged is not there. The guest has a piece
//! before its plug request is answered; an unplug request is answered after the piece went back.

use super::queue::{Interrupt, QueueError};
use super::transport::{Event, Transport, config_bytes};
use crate::pieces::{State, Supply, Table, View};
use crate::syndrome::Width;
use protocol::memory::Refusal;
use protocol::units::{PIECE_BITS, PIECE_BYTES};

/// Device type.
pub const DEVICE: u32 = 24;
/// VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE.
pub const F_UNPLUGGED_INACCESSIBLE: u64 = 1 << 1;
const REQUESTS: usize = 0;
const REQUEST_BYTES: usize = 24;

const PLUG: u16 = 0;
const UNPLUG: u16 = 1;
const UNPLUG_ALL: u16 = 2;
const STATE: u16 = 3;

const ACK: u16 = 0;
const NACK: u16 = 1;
const BUSY: u16 = 2;
const ERROR: u16 = 3;

/// The device.
#[derive(Debug)]
pub struct Hotplug {
    /// The registers.
    pub transport: Transport<1>,
    requested: u32,
}

/// What a request ended in.
enum Answer {
    Respond(u16, u16),
    /// The memory server has no clean piece at this moment: asked again on its signal.
    Wait,
}

impl Hotplug {
    /// After reset.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            transport: Transport::new(DEVICE, F_UNPLUGGED_INACCESSIBLE),
            requested: 0,
        }
    }

    /// Pieces that the guest is asked to have plugged.
    #[must_use]
    pub const fn requested(&self) -> u32 {
        self.requested
    }

    /// Asks the guest to have this many pieces plugged.
    pub fn request(&mut self, pieces: u32) {
        if self.requested != pieces {
            self.requested = pieces;
            self.transport.raise_config();
        }
    }

    /// Makes the driver try again at once: after BUSY or ENOMEM Linux waits 50 s and more unless it is told.
    pub fn kick(&mut self) {
        self.transport.raise_config();
    }

    /// Reads configuration space (5.15.4): block_size, node_id, padding, addr, region_size, usable_region_size,
    /// plugged_size, requested_size.
    #[must_use]
    pub fn config(&self, offset: u64, width: Width, table: &Table) -> u64 {
        let region = u64::from(table.hotplug()) << PIECE_BITS;
        let words = [
            PIECE_BYTES,
            0,
            table.hotplug_base(),
            region,
            region,
            u64::from(table.plugged()) << PIECE_BITS,
            u64::from(self.requested) << PIECE_BITS,
        ];
        let mut bytes = [0u8; 56];
        for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *chunk = word.to_le_bytes();
        }
        config_bytes(&bytes, offset, width)
    }

    /// Acts on a register write.
    pub fn event<S: Supply>(&mut self, event: Event, table: &mut Table, supply: &mut S) {
        if matches!(event, Event::Notify(_) | Event::Ready) {
            self.work(table, supply);
        }
        // A reset leaves memory plugged (5.15.5): a new driver sends UNPLUG_ALL.
    }

    /// Serves requests that wait.
    pub fn work<S: Supply>(&mut self, table: &mut Table, supply: &mut S) {
        match self.serve(table, supply) {
            Ok(()) | Err(QueueError::NotReady) => {}
            Err(QueueError::Broken(_)) => self.transport.fail(),
        }
    }

    fn serve<S: Supply>(&mut self, table: &mut Table, supply: &mut S) -> Result<(), QueueError> {
        let mut wanted = Interrupt::Unwanted;
        let requested = self.requested;
        while let Some(queue) = self.transport.queue(REQUESTS) {
            let mut view = View { table, supply };
            let Some(chain) = queue.peek(&mut view)? else {
                break;
            };
            let mut raw = [0u8; REQUEST_BYTES];
            let bytes = chain.copy_out(&mut view, 0, &mut raw)?;
            let answer = if bytes < REQUEST_BYTES {
                Answer::Respond(ERROR, 0)
            } else {
                answer(&raw, requested, view.table, view.supply)
            };
            let Answer::Respond(kind, state) = answer else {
                break;
            };
            let mut response = [0u8; 10];
            let (head, tail) = response.split_at_mut(8);
            if let Some(first) = head.get_mut(..2) {
                first.copy_from_slice(&kind.to_le_bytes());
            }
            tail.copy_from_slice(&state.to_le_bytes());
            let written = chain.copy_in(&mut view, &response)?;
            queue.advance();
            if queue.finish(&mut view, chain.head, written)? == Interrupt::Wanted {
                wanted = Interrupt::Wanted;
            }
        }
        if wanted == Interrupt::Wanted {
            self.transport.raise_used();
        }
        Ok(())
    }
}

impl Default for Hotplug {
    fn default() -> Self {
        Self::new()
    }
}

fn answer<S: Supply>(
    raw: &[u8; REQUEST_BYTES],
    requested: u32,
    table: &mut Table,
    supply: &mut S,
) -> Answer {
    let [
        t0,
        t1,
        _,
        _,
        _,
        _,
        _,
        _,
        a0,
        a1,
        a2,
        a3,
        a4,
        a5,
        a6,
        a7,
        n0,
        n1,
        ..,
    ] = *raw;
    let kind = u16::from_le_bytes([t0, t1]);
    if kind == UNPLUG_ALL {
        for index in table.startup()..table.startup() + table.hotplug() {
            if table.unplug(index, supply).is_err() {
                return Answer::Respond(BUSY, 0);
            }
        }
        return Answer::Respond(ACK, 0);
    }
    let address = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
    let count = u32::from(u16::from_le_bytes([n0, n1]));
    let Some(first) = range(address, count, table) else {
        return Answer::Respond(ERROR, 0);
    };
    match kind {
        PLUG => plug(first, count, requested, table, supply),
        UNPLUG => {
            if (first..first + count).any(|index| table.state(index) == State::Absent) {
                return Answer::Respond(ERROR, 0);
            }
            for index in first..first + count {
                if table.unplug(index, supply).is_err() {
                    return Answer::Respond(BUSY, 0);
                }
            }
            Answer::Respond(ACK, 0)
        }
        STATE => {
            let plugged = (first..first + count)
                .filter(|index| table.state(*index) != State::Absent)
                .count() as u32;
            let state = match plugged {
                0 => 1,
                all if all == count => 0,
                _ => 2,
            };
            Answer::Respond(ACK, state)
        }
        _ => Answer::Respond(ERROR, 0),
    }
}

/// The first piece of a request's blocks, all of them in the region.
fn range(address: u64, count: u32, table: &Table) -> Option<u32> {
    if count == 0 || !address.is_multiple_of(PIECE_BYTES) {
        return None;
    }
    let first = table.index_of(address)?;
    let end = first.checked_add(count)?;
    (first >= table.startup() && end <= table.startup() + table.hotplug()).then_some(first)
}

fn plug<S: Supply>(
    first: u32,
    count: u32,
    requested: u32,
    table: &mut Table,
    supply: &mut S,
) -> Answer {
    let absent = |table: &Table, index| table.state(index) == State::Absent;
    if (first..first + count).any(|index| !absent(table, index)) {
        return Answer::Respond(ERROR, 0);
    }
    // 5.15.6.1: not beyond what is requested.
    if table.plugged() + count > requested {
        return Answer::Respond(NACK, 0);
    }
    for index in first..first + count {
        if let Err(refusal) = table.take(index, supply) {
            // All or nothing: what was taken goes back. It was clean and untouched.
            for taken in first..index {
                // A piece that the server does not take back stays plugged; the driver is then told of an error.
                if table.unplug(taken, supply).is_err() {
                    return Answer::Respond(ERROR, 0);
                }
            }
            return match refusal {
                Refusal::NotReady { .. } => Answer::Wait,
                _ => Answer::Respond(BUSY, 0),
            };
        }
    }
    Answer::Respond(ACK, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::tests::{FakeSupply, started};
    use crate::ram::GuestMemory;
    use crate::virtio::transport::tests::{negotiate, set_up_queue, start};
    use proptest::prelude::*;
    use protocol::layout::ipa as map;

    struct Guest {
        device: Hotplug,
        table: Box<Table>,
        supply: FakeSupply,
        available: u16,
    }

    const AT: u64 = map::RAM;

    impl Guest {
        fn new() -> Self {
            let (table, mut supply) = started(2, 8);
            supply.target = 6;
            let mut device = Hotplug::new();
            negotiate(&mut device.transport, F_UNPLUGGED_INACCESSIBLE);
            set_up_queue(&mut device.transport, 0, 8, [AT, AT + 0x1000, AT + 0x2000]);
            start(&mut device.transport);
            Self {
                device,
                table,
                supply,
                available: 0,
            }
        }

        fn view(&mut self) -> View<'_, FakeSupply> {
            View {
                table: &mut self.table,
                supply: &mut self.supply,
            }
        }

        /// Sends a request; the response's type and state, or `None` when it waits.
        fn send(&mut self, kind: u16, address: u64, count: u16) -> Option<(u16, u16)> {
            let mut raw = [0u8; 24];
            raw[..2].copy_from_slice(&kind.to_le_bytes());
            raw[8..16].copy_from_slice(&address.to_le_bytes());
            raw[16..18].copy_from_slice(&count.to_le_bytes());
            self.view().write(AT + 0x3000, &raw).unwrap();
            let mut descriptors = Vec::new();
            for (ipa, len, flags, next) in
                [(AT + 0x3000, 24u32, 1u16, 1u16), (AT + 0x3100, 10, 2, 0)]
            {
                descriptors.extend_from_slice(&ipa.to_le_bytes());
                descriptors.extend_from_slice(&len.to_le_bytes());
                descriptors.extend_from_slice(&flags.to_le_bytes());
                descriptors.extend_from_slice(&next.to_le_bytes());
            }
            self.view().write(AT, &descriptors).unwrap();
            let slot = AT + 0x1004 + 2 * u64::from(self.available % 8);
            self.view().write_u16(slot, 0).unwrap();
            self.available += 1;
            let available = self.available;
            self.view().write_u16(AT + 0x1002, available).unwrap();
            self.device
                .event(Event::Notify(0), &mut self.table, &mut self.supply);
            self.response()
        }

        fn response(&mut self) -> Option<(u16, u16)> {
            let available = self.available;
            let mut view = self.view();
            if view.read_u16(AT + 0x2002).unwrap() != available {
                return None;
            }
            Some((
                view.read_u16(AT + 0x3100).unwrap(),
                view.read_u16(AT + 0x3108).unwrap(),
            ))
        }
    }

    #[test]
    fn plug_state_unplug() {
        let mut guest = Guest::new();
        let base = guest.table.hotplug_base();
        assert_eq!(
            guest.send(PLUG, base, 3),
            Some((NACK, 0)),
            "nothing was requested"
        );
        guest.device.request(3);
        assert_eq!(guest.send(PLUG, base, 3), Some((ACK, 0)));
        assert_eq!(guest.table.plugged(), 3);
        assert_eq!(
            guest.device.config(40, Width::Double, &guest.table),
            3 * PIECE_BYTES
        );
        assert_eq!(guest.send(STATE, base, 3), Some((ACK, 0)));
        assert_eq!(guest.send(STATE, base, 8), Some((ACK, 2)));
        assert_eq!(
            guest.send(PLUG, base, 1),
            Some((ERROR, 0)),
            "plugged already"
        );
        assert_eq!(guest.send(UNPLUG, base + PIECE_BYTES, 2), Some((ACK, 0)));
        assert_eq!(guest.table.plugged(), 1);
        assert_eq!(guest.send(UNPLUG_ALL, 0, 0), Some((ACK, 0)));
        assert_eq!(guest.supply.granted.len(), 2);
    }

    #[test]
    fn a_refusal_takes_nothing_and_a_pool_that_is_being_cleaned_is_waited_for() {
        let mut guest = Guest::new();
        let base = guest.table.hotplug_base();
        guest.device.request(8);
        assert_eq!(
            guest.send(PLUG, base, 5),
            Some((BUSY, 0)),
            "beyond the target"
        );
        assert_eq!(guest.table.plugged(), 0);
        guest.supply.clean = 1;
        assert_eq!(guest.send(PLUG, base, 2), None);
        assert_eq!(guest.table.plugged(), 0);
        guest.supply.clean = 5;
        guest.device.work(&mut guest.table, &mut guest.supply);
        assert_eq!(guest.response(), Some((ACK, 0)));
        assert_eq!(guest.table.plugged(), 2);
    }

    #[test]
    fn addresses_that_are_not_the_regions_are_errors() {
        let mut guest = Guest::new();
        let base = guest.table.hotplug_base();
        guest.device.request(8);
        for (address, count) in [
            (map::RAM, 1),
            (base + 1, 1),
            (base, 0),
            (base, 9),
            (u64::MAX, 1),
        ] {
            assert_eq!(guest.send(PLUG, address, count), Some((ERROR, 0)));
            assert_eq!(guest.send(STATE, address, count), Some((ERROR, 0)));
        }
        assert_eq!(guest.send(77, base, 1), Some((ERROR, 0)));
    }

    proptest! {
        #[test]
        fn plugged_never_passes_what_was_requested(ops in proptest::collection::vec((0u16..5, 0u64..10, 0u16..10, 0u32..9), 0..60)) {
            let mut guest = Guest::new();
            let base = guest.table.hotplug_base();
            for (kind, block, count, requested) in ops {
                let before = guest.table.plugged();
                guest.device.request(requested);
                let _ = guest.send(kind, base + block * PIECE_BYTES, count);
                prop_assert!(guest.table.plugged() <= requested.max(before));
                prop_assert_eq!(guest.supply.granted.len() as u32, 2 + guest.table.plugged());
            }
        }
    }
}
