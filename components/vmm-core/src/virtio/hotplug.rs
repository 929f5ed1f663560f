//! virtio-mem (virtio 1.3, 5.15): memory is plugged and unplugged in blocks of 2 MiB, one piece each.
//!
//! UNPLUGGED_INACCESSIBLE is offered and required: memory that is not plugged is not there. A piece is promised to the
//! guest before its plug request is answered, and gets its frame at the first touch; an unplug request is answered after
//! the piece went back.

use super::queue::{Chain, Interrupt, QueueError};
use super::transport::{Event, Transport, config_bytes};
use crate::pieces::View;
use crate::pieces::{State, Supply, Table};
use crate::syndrome::Width;
use core::ops::Range;
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
            let mut room = Chain::new();
            let Some(chain) = queue.peek(&mut view, &mut room)? else {
                break;
            };
            let mut raw = [0u8; REQUEST_BYTES];
            let bytes = chain.copy_out(&mut view, 0, &mut raw)?;
            let (kind, state) = if bytes < REQUEST_BYTES {
                (ERROR, 0)
            } else {
                answer(&raw, requested, view.table, view.supply)
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
) -> (u16, u16) {
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
    let address = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
    let count = u32::from(u16::from_le_bytes([n0, n1]));
    if kind == UNPLUG_ALL {
        let region = table.startup()..table.startup() + table.hotplug();
        return match table.unplug(region, supply) {
            Ok(()) => (ACK, 0),
            Err(_) => (BUSY, 0),
        };
    }
    let Some(pieces) = pieces(address, count, table) else {
        return (ERROR, 0);
    };
    let absent = |index: u32| table.state(index) == State::Absent;
    match kind {
        PLUG if !pieces.clone().all(absent) => (ERROR, 0),
        // 5.15.6.1: not beyond what is requested, which may be less than when the request came.
        PLUG if table.plugged().saturating_add(count) > requested => (NACK, 0),
        PLUG => match table.plug(pieces, supply) {
            Ok(()) => (ACK, 0),
            Err(_) => (BUSY, 0),
        },
        UNPLUG if pieces.clone().any(absent) => (ERROR, 0),
        UNPLUG => match unplug_all_or_none(pieces, table, supply) {
            Ok(()) => (ACK, 0),
            Err(_) => (BUSY, 0),
        },
        STATE => {
            let plugged = pieces.filter(|index| !absent(*index)).count() as u32;
            let state = match plugged {
                0 => 1,
                all if all == count => 0,
                _ => 2,
            };
            (ACK, state)
        }
        _ => (ERROR, 0),
    }
}

/// Unplugs pieces that are plugged: all of them or none. A driver that is told that its request failed goes on with all
/// that it had.
fn unplug_all_or_none<S: Supply>(
    pieces: Range<u32>,
    table: &mut Table,
    supply: &mut S,
) -> Result<(), Refusal> {
    let result = table.unplug(pieces.clone(), supply);
    if result.is_err() {
        for index in pieces {
            table.keep_plugged(index);
        }
    }
    result
}

/// The pieces of a request's blocks, all of them in the region.
fn pieces(address: u64, count: u32, table: &Table) -> Option<Range<u32>> {
    if count == 0 || !address.is_multiple_of(PIECE_BYTES) {
        return None;
    }
    let first = table.index_of(address)?;
    let end = first.checked_add(count)?;
    (first >= table.startup() && end <= table.startup() + table.hotplug()).then_some(first..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::tests::{FakeSupply, started};
    use crate::ram::GuestMemory;
    use crate::virtio::transport::tests::{negotiate, set_up_queue, start};
    use proptest::prelude::*;
    use protocol::layout::ipa as map;
    use protocol::memory::ReturnReason;

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

        /// Sends a request; the response's type and state, or `None` when there is none.
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
        assert_eq!((guest.supply.granted.len(), guest.supply.earmarked), (2, 0));
    }

    #[test]
    fn a_refusal_promises_nothing() {
        let mut guest = Guest::new();
        let base = guest.table.hotplug_base();
        guest.device.request(8);
        assert_eq!(
            guest.send(PLUG, base, 5),
            Some((BUSY, 0)),
            "beyond the target"
        );
        assert_eq!((guest.table.plugged(), guest.supply.earmarked), (0, 0));
    }

    #[test]
    fn memory_is_plugged_without_a_frame_and_gets_one_at_its_first_touch() {
        let mut guest = Guest::new();
        let base = guest.table.hotplug_base();
        guest.device.request(4);
        // Nothing is clean: a plug does not wait for that.
        guest.supply.clean = 0;
        assert_eq!(guest.send(PLUG, base, 4), Some((ACK, 0)));
        assert_eq!((guest.supply.granted.len(), guest.supply.earmarked), (2, 4));
        guest.supply.clean = 9;
        let touched = guest.table.touch(base + PIECE_BYTES, &mut guest.supply);
        assert_eq!(touched, Ok(3));
        assert_eq!((guest.supply.granted.len(), guest.supply.earmarked), (3, 3));
        assert_eq!(guest.send(UNPLUG, base, 4), Some((ACK, 0)));
        assert_eq!((guest.supply.granted.len(), guest.supply.earmarked), (2, 0));
        assert_eq!(guest.supply.returned, [(3, ReturnReason::Unplugged)]);
    }

    #[test]
    fn an_unplug_that_fails_half_way_leaves_all_plugged() {
        let mut guest = Guest::new();
        let base = guest.table.hotplug_base();
        guest.device.request(4);
        assert_eq!(guest.send(PLUG, base, 4), Some((ACK, 0)));
        for piece in [0, 2, 3] {
            let touched = guest
                .table
                .touch(base + piece * PIECE_BYTES, &mut guest.supply);
            assert_eq!(touched, Ok(2 + piece as u32));
        }
        guest.supply.refuse = Some(4);
        assert_eq!(guest.send(UNPLUG, base, 4), Some((BUSY, 0)));
        assert_eq!(guest.table.plugged(), 4);
        // The driver goes on with them: two come back at their first touch.
        for piece in 0..4 {
            let touched = guest
                .table
                .touch(base + piece * PIECE_BYTES, &mut guest.supply);
            assert_eq!(touched, Ok(2 + piece as u32));
        }
        guest.supply.refuse = None;
        assert_eq!(guest.send(UNPLUG, base, 4), Some((ACK, 0)));
        assert_eq!((guest.table.plugged(), guest.supply.granted.len()), (0, 2));
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
                guest.supply.clean = requested;
                let before = guest.table.plugged();
                guest.device.request(requested);
                let _ = guest.send(kind, base + block * PIECE_BYTES, count);
                prop_assert!(guest.table.plugged() <= requested.max(before));
                // What the guest may touch is promised, neither more nor less.
                prop_assert_eq!(guest.supply.granted.len() as u32 + guest.supply.earmarked, 2 + guest.table.plugged());
            }
        }
    }
}
