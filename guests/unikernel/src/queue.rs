//! The driver's side of one split virtqueue (virtio 1.3, 2.7): chains of one buffer, one at a time or a few.

use crate::machine::{barrier, mmio_read, mmio_write, peek, peek_u16, poke, poke_u16};

/// Descriptors of a queue.
pub const SIZE: u16 = 8;
/// Bytes of a queue's areas and buffers.
pub const QUEUE_BYTES: u64 = 0x2000;
const AVAILABLE: u64 = 0x400;
const USED: u64 = 0x800;
const BUFFERS: u64 = 0x1000;
/// Bytes of one buffer.
pub const BUFFER_BYTES: u64 = (QUEUE_BYTES - BUFFERS) / SIZE as u64;

/// A descriptor's flags (virtio 1.3, 2.7.5): another one follows; the device writes; its buffer is a table.
pub const NEXT: u16 = 1;
/// See [`NEXT`].
pub const WRITE: u16 = 2;
/// See [`NEXT`].
pub const INDIRECT: u16 = 4;

/// A buffer's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The device reads it.
    Device,
    /// The device writes it.
    Driver,
}

/// A queue.
#[derive(Debug)]
pub struct Queue {
    device: u64,
    index: u32,
    base: u64,
    offered: u16,
    taken: u16,
}

impl Queue {
    /// Sets queue `index` of the device up, with its areas at `base`.
    pub fn new(device: u64, index: u32, base: u64) -> Self {
        for offset in (0..BUFFERS).step_by(8) {
            poke(base + offset, 0);
        }
        mmio_write(device + 0x30, index);
        mmio_write(device + 0x38, u32::from(SIZE));
        for (register, area) in [(0x80, base), (0x90, base + AVAILABLE), (0xa0, base + USED)] {
            mmio_write(device + register, area as u32);
            mmio_write(device + register + 4, (area >> 32) as u32);
        }
        mmio_write(device + 0x44, 1);
        Self {
            device,
            index,
            base,
            offered: 0,
            taken: 0,
        }
    }

    /// The address of buffer `slot`.
    pub const fn buffer(&self, slot: u16) -> u64 {
        self.base + BUFFERS + (slot % SIZE) as u64 * BUFFER_BYTES
    }

    /// Offers any memory as descriptor `slot` and tells the device.
    pub fn offer(&mut self, slot: u16, address: u64, bytes: u32, to: To) {
        let flags = match to {
            To::Device => 0,
            To::Driver => WRITE,
        };
        self.describe(slot, address, bytes, flags, 0);
        self.publish(slot % SIZE);
    }

    /// Writes descriptor `slot`, whatever it says.
    pub fn describe(&self, slot: u16, address: u64, bytes: u32, flags: u16, next: u16) {
        let at = self.base + 16 * u64::from(slot % SIZE);
        poke(at, address);
        poke(
            at + 8,
            u64::from(bytes) | u64::from(flags) << 32 | u64::from(next) << 48,
        );
    }

    /// Makes a descriptor number available, whatever it is.
    pub fn publish(&mut self, head: u16) {
        self.enter(0, head);
        self.jump(1);
    }

    /// Writes the entry of the ring that comes `ahead` entries after the last one, and says nothing yet.
    pub fn enter(&self, ahead: u16, head: u16) {
        let entry =
            self.base + AVAILABLE + 4 + 2 * u64::from(self.offered.wrapping_add(ahead) % SIZE);
        poke_u16(entry, head);
    }

    /// Says that so many more buffers are available.
    pub fn jump(&mut self, buffers: u16) {
        self.offered = self.offered.wrapping_add(buffers);
        barrier();
        poke_u16(self.base + AVAILABLE + 2, self.offered);
        barrier();
        mmio_write(self.device + 0x50, self.index);
    }

    /// Takes a used buffer: its slot and the bytes that the device wrote.
    pub fn take(&mut self) -> Option<(u16, u32)> {
        if peek_u16(self.base + USED + 2) == self.taken {
            return None;
        }
        barrier();
        // Elements of 8 bytes from offset 4: a word read crosses two of them.
        let at = self.base + USED + 4 + 8 * u64::from(self.taken % SIZE);
        let low = peek(at - 4) >> 32;
        let high = peek(at + 4) & 0xffff_ffff;
        self.taken = self.taken.wrapping_add(1);
        Some((low as u16, high as u32))
    }
}

/// Negotiates with the device at `device`: the features that both know. `None` when no device of this kind is there.
pub fn negotiate(device: u64, kind: u32, wanted: u64) -> Option<u64> {
    const VERSION_1: u64 = 1 << 32;
    if mmio_read(device) != 0x7472_6976 || mmio_read(device + 8) != kind {
        return None;
    }
    mmio_write(device + 0x70, 0);
    mmio_write(device + 0x70, 3);
    let mut offered = 0;
    for half in 0..2 {
        mmio_write(device + 0x14, half);
        offered |= u64::from(mmio_read(device + 0x10)) << (32 * half);
    }
    let accepted = offered & (wanted | VERSION_1);
    for half in 0..2 {
        mmio_write(device + 0x24, half);
        mmio_write(device + 0x20, (accepted >> (32 * half)) as u32);
    }
    mmio_write(device + 0x70, 11);
    (mmio_read(device + 0x70) & 8 != 0).then_some(accepted)
}

/// The driver is ready.
pub fn ready(device: u64) {
    mmio_write(device + 0x70, 15);
}

/// Acknowledges the device's interrupt; what it was for.
pub fn acknowledge(device: u64) -> u32 {
    let pending = mmio_read(device + 0x60);
    if pending != 0 {
        mmio_write(device + 0x64, pending);
    }
    pending
}
