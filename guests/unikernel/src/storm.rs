//! Storms: what a guest can do without end to make the host work for it.
//!
//! A storm lasts for a time of the machine's clock and ends with an answer, so that a test can measure what another guest
//! gets meanwhile.

use crate::machine::{mmio_read, mmio_write, poke, ticks, ticks_per_ms, wait_until};
use crate::program::{Balloon, CONSOLE, GICD, Program, piece_address};
use crate::queue::{BUFFER_BYTES, NEXT, Queue, SIZE, acknowledge, negotiate, ready};
use core::fmt::{self, Write};
use unikernel::RINGS;
use unikernel::command::Storm;

/// Bytes of each descriptor of the long chain.
const LONG_BYTES: u32 = 28 << 20;
/// What the console is flooded with, eight bytes at a time.
const TEXT: u64 = u64::from_le_bytes(*b"flood..\n");
/// virtio-console's device type (virtio 1.3, 5.3.1), its transmit queue, and where the storm's queue lies: the console's
/// own rings, which nothing uses after the first line.
const DEVICE: u32 = 3;
const TRANSMIT: u32 = 1;

impl Program {
    /// Makes a storm for `ms` milliseconds.
    pub(crate) fn storm(
        &mut self,
        kind: Storm,
        ms: u64,
        answer: &mut impl Write,
    ) -> Result<(), fmt::Error> {
        let end = ticks() + ms * ticks_per_ms();
        let rounds = match kind {
            Storm::Mmio => until(end, || {
                mmio_read(GICD + 8);
            }),
            // The timer is due already: the wait ends at once.
            Storm::Wfi => until(end, || wait_until(ticks())),
            // The timer is due a moment later: each wait is an alarm of the host's.
            Storm::Timer => until(end, || wait_until(ticks() + ticks_per_ms() / 50)),
            Storm::Console => flood_console(end),
            Storm::Chain => send_long_chain(end),
            Storm::Balloon => {
                let mut rounds = 0;
                while ticks() < end {
                    let Some(index) = self.memory.inflate() else {
                        return write!(answer, "error nothing is free");
                    };
                    self.send_pages(index, |balloon: &mut Balloon| &mut balloon.inflate);
                    if !self.deflate() {
                        return write!(answer, "error nothing is ballooned");
                    }
                    rounds += 1;
                }
                rounds
            }
        };
        write!(answer, "ok rounds {rounds}")
    }
}

/// Does the same again and again; how often.
fn until(end: u64, mut step: impl FnMut()) -> u64 {
    let mut rounds = 0;
    while ticks() < end {
        step();
        rounds += 1;
    }
    rounds
}

/// The console's device, set up anew, and its transmit queue.
fn transmit_queue() -> Option<Queue> {
    negotiate(CONSOLE, DEVICE, 0)?;
    let queue = Queue::new(CONSOLE, TRANSMIT, RINGS);
    ready(CONSOLE);
    Some(queue)
}

/// Keeps the transmit queue full.
fn flood_console(end: u64) -> u64 {
    let Some(mut queue) = transmit_queue() else {
        return 0;
    };
    for slot in 0..SIZE {
        let buffer = queue.buffer(slot);
        for offset in (0..BUFFER_BYTES).step_by(8) {
            poke(buffer + offset, TEXT);
        }
        queue.describe(slot, buffer, BUFFER_BYTES as u32, 0, 0);
        queue.enter(slot, slot);
    }
    queue.jump(SIZE);
    let mut rounds = 0;
    while ticks() < end {
        match queue.take() {
            Some((slot, _)) => {
                queue.publish(slot);
                rounds += 1;
            }
            None => {
                wait_until((ticks() + ticks_per_ms()).min(end));
                acknowledge(CONSOLE);
            }
        }
    }
    mmio_write(CONSOLE + 0x70, 0);
    rounds
}

/// Offers one chain of as many buffers as the queue has descriptors, each nearly all of memory.
fn send_long_chain(end: u64) -> u64 {
    let Some(mut queue) = transmit_queue() else {
        return 0;
    };
    for slot in 0..SIZE {
        let flags = if slot + 1 < SIZE { NEXT } else { 0 };
        queue.describe(slot, piece_address(1), LONG_BYTES, flags, slot + 1);
    }
    queue.publish(0);
    let mut rounds = 0;
    while ticks() < end {
        rounds += u64::from(queue.take().is_some());
        wait_until((ticks() + ticks_per_ms()).min(end));
        acknowledge(CONSOLE);
    }
    mmio_write(CONSOLE + 0x70, 0);
    rounds
}
