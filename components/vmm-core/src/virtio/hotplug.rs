//! virtio-mem (virtio 1.3, 5.15): memory is plugged and unplugged in blocks of 2 MiB, one piece each.
//!
//! UNPLUGGED_INACCESSIBLE is offered and required: memory that is not plugged is not there. The guest has a piece
//! before its plug request is answered; an unplug request is answered after the piece went back.

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
    /// A plug request that waits for clean pieces.
    pending: Option<Pending>,
}

/// A plug request of which not all pieces are there yet. Those that are stay: given back, they would have to be cleaned
/// again, and a pool that is cleaned piece by piece would never fill the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    first: u32,
    count: u32,
    /// Pieces `first..end` are there.
    end: u32,
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
            pending: None,
        }
    }

    /// Pieces that the guest is asked to have plugged.
    #[must_use]
    pub const fn requested(&self) -> u32 {
        self.requested
    }

    /// Pieces that are here for a plug that waits for more: the guest does not have them yet.
    #[must_use]
    pub const fn coming(&self) -> u32 {
        match self.pending {
            Some(pending) => pending.end.saturating_sub(pending.first),
            None => 0,
        }
    }

    /// Whether a plug waits for the memory server.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.pending.is_some()
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
        match event {
            Event::Notify(_) | Event::Ready => self.work(table, supply),
            // A reset leaves memory plugged (5.15.5): a new driver sends UNPLUG_ALL. What is here for a request that was
            // not answered goes back: no driver believes that it has it.
            Event::Reset => {
                if let Some(held) = self.pending.take() {
                    let _ = unplug(held.first..held.end, table, supply);
                }
            }
            Event::None | Event::Config { .. } => {}
        }
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
            let answer = if bytes < REQUEST_BYTES {
                Answer::Respond(ERROR, 0)
            } else {
                let held = &mut self.pending;
                answer(&raw, requested, held, view.table, view.supply)
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
    pending: &mut Option<Pending>,
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
    let address = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
    let count = u32::from(u16::from_le_bytes([n0, n1]));
    let range = range(address, count, table);
    // A request that waits is the first in its queue until it is answered; anything else there means that the driver was
    // reset, or rewrites what it has sent.
    let held = pending.take().filter(|held| {
        let is_same = kind == PLUG && range == Some(held.first) && count == held.count;
        if !is_same {
            // What the server does not take back stays plugged, as the driver can see.
            let _ = unplug(held.first..held.end, table, supply);
        }
        is_same
    });
    if kind == UNPLUG_ALL {
        let region = table.startup()..table.startup() + table.hotplug();
        return match unplug(region, table, supply) {
            Ok(()) => Answer::Respond(ACK, 0),
            Err(_) => Answer::Respond(BUSY, 0),
        };
    }
    let Some(first) = range else {
        return Answer::Respond(ERROR, 0);
    };
    match kind {
        PLUG => {
            let end = held.map_or(first, |held| held.end);
            match plug(first..first + count, end, requested, table, supply) {
                Plugged::Waits { end } => {
                    *pending = Some(Pending { first, count, end });
                    Answer::Wait
                }
                Plugged::Answered(kind) => Answer::Respond(kind, 0),
            }
        }
        UNPLUG => {
            if (first..first + count).any(|index| table.state(index) == State::Absent) {
                return Answer::Respond(ERROR, 0);
            }
            match unplug_all_or_none(first..first + count, table, supply) {
                Ok(()) => Answer::Respond(ACK, 0),
                Err(_) => Answer::Respond(BUSY, 0),
            }
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

fn unplug<S: Supply>(
    mut pieces: Range<u32>,
    table: &mut Table,
    supply: &mut S,
) -> Result<(), Refusal> {
    pieces.try_for_each(|index| table.unplug(index, supply))
}

/// Unplugs pieces that are plugged: all of them or none. A driver that is told that its request failed goes on with all
/// that it had.
fn unplug_all_or_none<S: Supply>(
    pieces: Range<u32>,
    table: &mut Table,
    supply: &mut S,
) -> Result<(), Refusal> {
    for index in pieces.clone() {
        if let Err(refusal) = table.unplug(index, supply) {
            for gone in pieces.start..index {
                table.keep_plugged(gone);
            }
            return Err(refusal);
        }
    }
    Ok(())
}

/// What came of a plug request.
enum Plugged {
    Answered(u16),
    /// The pieces before `end` are there; for the next one the memory server has to clean first.
    Waits {
        end: u32,
    },
}

/// Plugs `pieces`, of which those before `end` are there from an earlier attempt: all of them or none.
fn plug<S: Supply>(
    pieces: Range<u32>,
    end: u32,
    requested: u32,
    table: &mut Table,
    supply: &mut S,
) -> Plugged {
    let mut rest = end..pieces.end;
    if rest
        .clone()
        .any(|index| table.state(index) != State::Absent)
    {
        return Plugged::Answered(ERROR);
    }
    // 5.15.6.1: not beyond what is requested, which may be less than when the request came.
    let refused = if table.plugged() + rest.len() as u32 > requested {
        NACK
    } else {
        let taken =
            rest.try_for_each(|index| table.take(index, supply).map_err(|why| (index, why)));
        match taken {
            Ok(()) => return Plugged::Answered(ACK),
            Err((end, Refusal::NotReady { .. })) => return Plugged::Waits { end },
            Err(_) => BUSY,
        }
    };
    // What the server does not take back stays plugged; the driver is then told of an error.
    let absent = |index: &u32| table.state(*index) == State::Absent;
    let end = pieces.clone().find(absent).unwrap_or(pieces.end);
    match unplug(pieces.start..end, table, supply) {
        Ok(()) => Plugged::Answered(refused),
        Err(_) => Plugged::Answered(ERROR),
    }
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
        guest.supply.returned.clear();
        assert_eq!(guest.send(PLUG, base, 3), None);
        // Pieces come from the cleaner one at a time; none of them goes back to it.
        for coming in 1..3 {
            assert_eq!(guest.response(), None);
            assert_eq!(guest.device.coming(), coming);
            guest.supply.clean = 1;
            guest.device.work(&mut guest.table, &mut guest.supply);
        }
        assert_eq!(guest.response(), Some((ACK, 0)));
        assert_eq!(guest.table.plugged(), 3);
        assert_eq!(guest.supply.returned, []);
    }

    #[test]
    fn a_request_that_waits_and_then_is_too_much_leaves_nothing_behind() {
        let mut guest = Guest::new();
        let base = guest.table.hotplug_base();
        guest.device.request(3);
        guest.supply.clean = 2;
        assert_eq!(guest.send(PLUG, base, 3), None);
        guest.device.request(1);
        guest.device.work(&mut guest.table, &mut guest.supply);
        assert_eq!(guest.response(), Some((NACK, 0)));
        assert_eq!(guest.table.plugged(), 0);
        // The same when the server refuses the rest.
        guest.device.request(3);
        guest.supply.clean = 2;
        assert_eq!(guest.send(PLUG, base, 3), None);
        guest.supply.clean = 9;
        guest.supply.target = 4;
        guest.device.work(&mut guest.table, &mut guest.supply);
        assert_eq!(guest.response(), Some((BUSY, 0)));
        assert_eq!(guest.table.plugged(), 0);
        assert_eq!(guest.supply.granted.len(), 2);
    }

    #[test]
    fn a_request_that_is_rewritten_while_it_waits_gives_back_what_it_held() {
        let mut guest = Guest::new();
        let base = guest.table.hotplug_base();
        guest.device.request(4);
        guest.supply.clean = 1;
        assert_eq!(guest.send(PLUG, base, 3), None);
        assert_eq!(guest.table.plugged(), 1);
        guest.supply.clean = 9;
        let other = (base + 5 * PIECE_BYTES).to_le_bytes();
        guest.view().write(AT + 0x3008, &other).unwrap();
        guest.device.work(&mut guest.table, &mut guest.supply);
        assert_eq!(guest.response(), Some((ACK, 0)));
        assert_eq!(guest.table.plugged(), 3);
        assert_eq!(guest.supply.granted.len(), 2 + 3);
    }

    #[test]
    fn an_unplug_that_fails_half_way_leaves_all_plugged() {
        let mut guest = Guest::new();
        let base = guest.table.hotplug_base();
        guest.device.request(4);
        assert_eq!(guest.send(PLUG, base, 4), Some((ACK, 0)));
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
    fn a_reset_gives_back_what_waited_for_a_plug() {
        let mut guest = Guest::new();
        let base = guest.table.hotplug_base();
        guest.device.request(3);
        guest.supply.clean = 2;
        assert_eq!(guest.send(PLUG, base, 3), None);
        assert_eq!((guest.device.coming(), guest.table.plugged()), (2, 2));
        let reset = guest.device.transport.write(0x70, Width::Word, 0);
        guest
            .device
            .event(reset, &mut guest.table, &mut guest.supply);
        assert_eq!((guest.device.coming(), guest.table.plugged()), (0, 0));
        assert_eq!(guest.supply.granted.len(), 2);
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
                prop_assert_eq!(guest.supply.granted.len() as u32, 2 + guest.table.plugged());
            }
        }
    }
}
