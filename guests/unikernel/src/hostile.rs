//! How the unikernel misbehaves, on command: what a driver, a kernel or a guest as a whole must not do.
//!
//! What breaks a device sets it up anew afterwards, and says in its answer what the device made of it.

use crate::machine::{self, mmio_read, mmio_write, peek, poke, ticks, ticks_per_ms, wait_until};
use crate::program::{
    BALLOON, Balloon, CONSOLE, GICD, HOTPLUG, Port, Program, SPARE_RINGS, piece_address,
};
use crate::queue::{
    BUFFER_BYTES, INDIRECT, NEXT, QUEUE_BYTES, Queue, SIZE, To, WRITE, acknowledge, negotiate,
    ready,
};
use core::fmt::{self, Write};
use unikernel::command::{Break, Nowhere};
use unikernel::{PIECE_BYTES, RAM};

/// DEVICE_NEEDS_RESET in a device's status (virtio 1.3, 2.1).
const NEEDS_RESET: u32 = 64;
/// Longest page list that the balloon's device takes.
const LIST_BYTES: u32 = 256 * 1024;
/// VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE.
const F_UNPLUGGED_INACCESSIBLE: u64 = 2;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub enum Hostile {
    GarbageRing,
    ForeignBalloon,
    TouchBallooned,
    Rebind,
    Break(Break),
    Flood(u64),
    Nowhere(Nowhere),
    Strand,
}

impl Program {
    pub(crate) fn misbehave(
        &mut self,
        how: Hostile,
        answer: &mut impl Write,
    ) -> Result<(), fmt::Error> {
        match how {
            Hostile::GarbageRing => {
                if let Some(balloon) = &mut self.balloon {
                    // A descriptor far beyond the queue, and more heads than it has.
                    for head in [0xfff0, 0x7fff, 9, 10, 11, 12, 13, 14, 15, 16] {
                        balloon.inflate.publish(head);
                    }
                }
                write!(answer, "ok status {}", mmio_read(BALLOON + 0x70))
            }
            Hostile::ForeignBalloon => {
                // Pages outside memory: the device gigabyte, and far above.
                for foreign in [0, GICD, 0x7f_0000_0000, 0xfff_ffe0_0000] {
                    if let Some(balloon) = &mut self.balloon {
                        let buffer = balloon.inflate.buffer(0);
                        poke(buffer, (foreign / 4096) | ((foreign / 4096 + 1) << 32));
                        balloon.inflate.offer(0, buffer, 8, To::Device);
                        while balloon.inflate.take().is_none() {
                            wait_until(ticks() + ticks_per_ms());
                        }
                    }
                }
                write!(answer, "ok offered 4")
            }
            Hostile::TouchBallooned => match self.memory.next_deflation() {
                Some(index) => {
                    let word = peek(piece_address(index));
                    write!(answer, "ok read {word:#x}")
                }
                None => write!(answer, "error nothing is ballooned"),
            },
            Hostile::Rebind => self.rebind(answer),
            Hostile::Break(what) => self.break_a_device(what, answer),
            Hostile::Flood(rounds) => self.flood(rounds, answer),
            Hostile::Strand => {
                // It was in use once: the host cannot know that nothing of it is needed.
                let Some(index) = self.memory.strand() else {
                    return write!(answer, "error nothing is free");
                };
                poke(piece_address(index), 1);
                self.send_some(index, 256, |balloon| &mut balloon.inflate);
                write!(answer, "ok stranded")
            }
            Hostile::Nowhere(place) => {
                let end = RAM + u64::from(self.pieces) * PIECE_BYTES;
                let read = match place {
                    Nowhere::Gap => mmio_read(0x0b00_0000),
                    Nowhere::Pair => machine::mmio_read_pair(GICD),
                    Nowhere::Beyond => {
                        poke(end, 1);
                        0
                    }
                };
                write!(answer, "ok read {read:#x}")
            }
        }
    }

    /// Resets the balloon with memory in it: that is the guest's again, and clean, as soon as the device is reset.
    fn rebind(&mut self, answer: &mut impl Write) -> Result<(), fmt::Error> {
        mmio_write(BALLOON + 0x70, 0);
        let mut back = 0;
        while let Some(index) = self.memory.next_deflation() {
            let word = peek(piece_address(index));
            if word != 0 {
                return write!(answer, "error piece {index} holds {word:#x}");
            }
            self.memory.deflated(index);
            back += 1;
        }
        self.start_balloon();
        write!(answer, "ok back {back}")
    }

    fn break_a_device(&mut self, what: Break, answer: &mut impl Write) -> Result<(), fmt::Error> {
        match what {
            Break::Balloon => return self.balloon_nonsense(answer),
            Break::Unplug => return unplug_nonsense(answer),
            Break::Power => return power_nonsense(answer),
            Break::Reset => return self.reset_while_busy(answer),
            Break::Registers => {
                for device in [BALLOON, HOTPLUG] {
                    scribble(device);
                }
            }
            _ => self.break_the_ring(what),
        }
        let status = mmio_read(BALLOON + 0x70);
        self.start_balloon();
        let healed = mmio_read(BALLOON + 0x70);
        write!(answer, "ok status {status} healed {healed}")
    }

    /// One violation on the queue for inflating.
    fn break_the_ring(&mut self, what: Break) {
        let end = RAM + u64::from(self.pieces) * PIECE_BYTES;
        let Some(Balloon { inflate, .. }) = &mut self.balloon else {
            return;
        };
        let buffer = inflate.buffer(0);
        match what {
            Break::Loop => {
                inflate.describe(0, buffer, 8, NEXT, 1);
                inflate.describe(1, buffer, 8, NEXT, 0);
            }
            Break::Long => inflate.describe(0, end - 4096, 3 * 4096, 0, 0),
            Break::List => inflate.describe(0, piece_address(1), 0xffff_f000, 0, 0),
            Break::Indirect => inflate.describe(0, buffer, 0xffff_fff0, INDIRECT, 0),
            Break::Order => {
                inflate.describe(0, buffer, 8, NEXT | WRITE, 1);
                inflate.describe(1, buffer, 8, 0, 0);
            }
            Break::Index => {
                inflate.describe(0, buffer, 8, 0, 0);
                inflate.jump(100);
                return;
            }
            Break::Outside => {
                // The ring is set up where nothing is; the first look at it fails.
                if negotiate(BALLOON, 5, 0).is_some() {
                    mmio_write(BALLOON + 0x30, 0);
                    mmio_write(BALLOON + 0x38, u32::from(SIZE));
                    for area in [0x80, 0x90, 0xa0] {
                        mmio_write(BALLOON + area + 4, 0x7f);
                    }
                    mmio_write(BALLOON + 0x44, 1);
                    ready(BALLOON);
                    mmio_write(BALLOON + 0x50, 0);
                }
                return;
            }
            _ => return,
        }
        inflate.publish(0);
    }

    /// A piece into the balloon twice, one out that never was in it, and the first one out twice.
    fn balloon_nonsense(&mut self, answer: &mut impl Write) -> Result<(), fmt::Error> {
        let Some(other) = self.memory.free_pieces().next() else {
            return write!(answer, "error nothing is free");
        };
        let Some(index) = self.memory.inflate() else {
            return write!(answer, "error nothing is free");
        };
        poke(piece_address(other), 0x5eed);
        self.memory.used(other);
        for _ in 0..2 {
            self.send_pages(index, |balloon| &mut balloon.inflate);
        }
        self.send_pages(other, |balloon| &mut balloon.deflate);
        for _ in 0..2 {
            self.send_pages(index, |balloon| &mut balloon.deflate);
        }
        self.memory.deflated(index);
        // The one that was never in the balloon keeps what it holds; the other came back clean.
        let (kept, clean) = (peek(piece_address(other)), peek(piece_address(index)));
        if kept == 0x5eed && clean == 0 {
            write!(answer, "ok status {}", mmio_read(BALLOON + 0x70))
        } else {
            write!(answer, "error kept {kept:#x} clean {clean:#x}")
        }
    }

    /// Resets a port that has output which the host has not taken yet, and the balloon with lists it has not seen.
    fn reset_while_busy(&mut self, answer: &mut impl Write) -> Result<(), fmt::Error> {
        let Some(free) = self.memory.free_pieces().next() else {
            return write!(answer, "error nothing is free");
        };
        if negotiate(CONSOLE, 3, 0).is_some() {
            let mut transmit = Queue::new(CONSOLE, 1, SPARE_RINGS);
            ready(CONSOLE);
            for slot in 0..SIZE {
                transmit.offer(slot, piece_address(free), LIST_BYTES, To::Device);
            }
        }
        mmio_write(CONSOLE + 0x70, 0);
        if let Some(mut console) = Port::new(CONSOLE, SPARE_RINGS + QUEUE_BYTES) {
            console.write("\r\nonce more\r\n");
        }
        if let Some(balloon) = &mut self.balloon {
            for slot in 0..SIZE {
                balloon
                    .inflate
                    .describe(slot, piece_address(free), LIST_BYTES, 0, 0);
            }
        }
        mmio_write(BALLOON + 0x70, 0);
        self.start_balloon();
        write!(answer, "ok healed {}", mmio_read(BALLOON + 0x70))
    }

    /// Keeps the host reading page lists in the highest piece, all zeros, until a device gives up.
    fn flood(&mut self, rounds: u64, answer: &mut impl Write) -> Result<(), fmt::Error> {
        let highest = RAM + u64::from(self.pieces - 1) * PIECE_BYTES;
        let mut done = 0;
        let Some(Balloon { inflate, .. }) = &mut self.balloon else {
            return write!(answer, "error there is no balloon");
        };
        let is_live = || mmio_read(BALLOON + 0x70) & NEEDS_RESET == 0;
        while done < rounds && is_live() {
            for slot in 0..SIZE {
                inflate.describe(slot, highest, LIST_BYTES, 0, 0);
                inflate.enter(slot, slot);
            }
            inflate.jump(SIZE);
            while is_live() && inflate.take().is_some() {}
            acknowledge(BALLOON);
            done += 1;
        }
        let status = mmio_read(BALLOON + 0x70);
        self.start_balloon();
        let healed = mmio_read(BALLOON + 0x70);
        write!(answer, "ok rounds {done} status {status} healed {healed}")
    }
}

/// Writes nonsense to every register of a device and to all of its configuration, in every width.
fn scribble(device: u64) {
    for value in [0xffff_ffff, 0, 0x5555_5555, 15] {
        for offset in (0..0x200).step_by(4) {
            mmio_write(device + offset, value);
        }
        for offset in 0..0x200 {
            machine::mmio_write_narrow(device + offset, 1, value);
        }
        for offset in (0..0x200).step_by(2) {
            machine::mmio_write_narrow(device + offset, 2, value);
        }
    }
}

/// Requests that virtio-mem must refuse; the answer names each response.
fn unplug_nonsense(answer: &mut impl Write) -> Result<(), fmt::Error> {
    const PLUG: u64 = 0;
    const UNPLUG: u64 = 1;
    if negotiate(HOTPLUG, 24, F_UNPLUGGED_INACCESSIBLE).is_none() {
        return write!(answer, "error there is no virtio-mem");
    }
    let mut queue = Queue::new(HOTPLUG, 0, SPARE_RINGS);
    ready(HOTPLUG);
    let base = u64::from(mmio_read(HOTPLUG + 0x110)) | u64::from(mmio_read(HOTPLUG + 0x114)) << 32;
    write!(answer, "ok responses")?;
    // Kind, address, blocks, bytes of the request.
    for (kind, address, blocks, bytes) in [
        (UNPLUG, base, 1, 24),
        (UNPLUG, base, 0xffff, 24),
        (UNPLUG, RAM, 1, 24),
        (UNPLUG, base + 4096, 1, 24),
        (PLUG, base, 1, 24),
        (PLUG, u64::MAX - PIECE_BYTES + 1, 1, 24),
        (77, base, 1, 24),
        (UNPLUG, base, 1, 5),
    ] {
        let (request, response) = (queue.buffer(0), queue.buffer(1));
        poke(request, kind);
        poke(request + 8, address);
        poke(request + 16, blocks);
        poke(response, u64::MAX);
        queue.describe(0, request, bytes, NEXT, 1);
        queue.describe(1, response, BUFFER_BYTES as u32, WRITE, 0);
        queue.publish(0);
        while queue.take().is_none() {
            wait_until(ticks() + ticks_per_ms());
        }
        write!(answer, " {}", peek(response) & 0xffff)?;
    }
    mmio_write(HOTPLUG + 0x70, 0);
    Ok(())
}

/// Calls that a guest with one CPU may not make; the answer names what each returned.
fn power_nonsense(answer: &mut impl Write) -> Result<(), fmt::Error> {
    write!(answer, "ok returned")?;
    // CPU_ON of itself and of a CPU that is not there, CPU_OFF, CPU_SUSPEND into power-down, and no function at all.
    for (function, argument) in [
        (0xc400_0003, 0),
        (0xc400_0003, 1),
        (0x8400_0002, 0),
        (0xc400_0001, 1 << 16),
        (0xdead_beef, 0),
    ] {
        write!(answer, " {}", machine::call(function, argument))?;
    }
    Ok(())
}
