//! The MMIO transport's registers (virtio 1.3, 4.2.2) and the device status state machine (2.1).

use super::queue::{MAX_QUEUE_SIZE, Queue};
use crate::gic::Level;
use crate::syndrome::Width;

/// VIRTIO_F_VERSION_1 (6): every device here requires it.
pub const F_VERSION_1: u64 = 1 << 32;

const MAGIC: u64 = 0x7472_6976;
const VENDOR: u64 = u32::from_le_bytes(*b"BLST") as u64;
const STATUS_FEATURES_OK: u32 = 8;
const STATUS_DRIVER_OK: u32 = 4;
const STATUS_NEEDS_RESET: u32 = 64;
const STATUS_DRIVER_BITS: u32 = 1 | 2 | STATUS_DRIVER_OK | STATUS_FEATURES_OK | 128;
const INTERRUPT_USED: u32 = 1;
const INTERRUPT_CONFIG: u32 = 2;

/// First byte of a device's configuration space.
pub const CONFIG: u64 = 0x100;

/// What a register write asks of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing.
    None,
    /// The driver put buffers into this queue.
    Notify(u32),
    /// The driver is ready (DRIVER_OK).
    Ready,
    /// The driver reset the device: it holds no buffer any more and its state is the initial one.
    Reset,
    /// The driver wrote configuration space.
    Config {
        /// Offset in configuration space.
        offset: u64,
        /// The value.
        value: u64,
    },
}

/// The common part of a device with `Q` queues.
#[derive(Debug)]
pub struct Transport<const Q: usize> {
    device: u32,
    offered: u64,
    accepted: u64,
    device_selector: u32,
    driver_selector: u32,
    queue_selector: u32,
    status: u32,
    interrupt: u32,
    generation: u32,
    queues: [Queue; Q],
}

impl<const Q: usize> Transport<Q> {
    /// A device of this type (virtio 1.3, 5) that offers these features.
    #[must_use]
    pub const fn new(device: u32, features: u64) -> Self {
        Self {
            device,
            offered: features | F_VERSION_1,
            accepted: 0,
            device_selector: 0,
            driver_selector: 0,
            queue_selector: 0,
            status: 0,
            interrupt: 0,
            generation: 0,
            queues: [const { Queue::new() }; Q],
        }
    }

    /// Whether the driver accepted a feature.
    #[must_use]
    pub const fn accepted(&self, feature: u64) -> bool {
        self.accepted & feature == feature
    }

    /// Whether the driver is ready and the device has not failed.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET) == STATUS_DRIVER_OK
    }

    /// A queue that the driver enabled on a live device.
    pub fn queue(&mut self, index: usize) -> Option<&mut Queue> {
        if !self.is_live() {
            return None;
        }
        self.queues.get_mut(index).filter(|queue| queue.is_ready())
    }

    /// The level of the device's interrupt line.
    #[must_use]
    pub const fn line(&self) -> Level {
        if self.interrupt == 0 {
            Level::Low
        } else {
            Level::High
        }
    }

    /// Buffers were used; the driver is interrupted unless it asked not to be.
    pub fn raise_used(&mut self) {
        self.interrupt |= INTERRUPT_USED;
    }

    /// The configuration changed.
    pub fn raise_config(&mut self) {
        if self.status & STATUS_DRIVER_OK != 0 {
            self.generation = self.generation.wrapping_add(1);
            self.interrupt |= INTERRUPT_CONFIG;
        }
    }

    /// The driver broke the protocol: DEVICE_NEEDS_RESET (2.1.2).
    pub fn fail(&mut self) {
        if self.status & STATUS_NEEDS_RESET == 0 {
            self.status |= STATUS_NEEDS_RESET;
            self.raise_config();
        }
    }

    /// Whether the device waits to be reset after the driver broke the protocol.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        self.status & STATUS_NEEDS_RESET != 0
    }

    fn selected(&self) -> Option<&Queue> {
        self.queues.get(self.queue_selector as usize)
    }

    /// Reads a register below [`CONFIG`]; all are 32 bits wide (4.2.2.2), other widths read as zero.
    #[must_use]
    pub fn read(&self, offset: u64, width: Width) -> u64 {
        if width != Width::Word {
            return 0;
        }
        match offset {
            0x000 => MAGIC,
            0x004 => 2,
            0x008 => u64::from(self.device),
            0x00c => VENDOR,
            0x010 => match self.device_selector {
                0 => self.offered & 0xffff_ffff,
                1 => self.offered >> 32,
                _ => 0,
            },
            0x034 => self.selected().map_or(0, |_| u64::from(MAX_QUEUE_SIZE)),
            0x044 => self
                .selected()
                .map_or(0, |queue| u64::from(queue.is_ready())),
            0x060 => u64::from(self.interrupt),
            0x070 => u64::from(self.status),
            0x0fc => u64::from(self.generation),
            // No shared memory: length and base all ones (4.2.2).
            0x0b0..=0x0bc => 0xffff_ffff,
            _ => 0,
        }
    }

    /// Writes a register or configuration space.
    pub fn write(&mut self, offset: u64, width: Width, value: u64) -> Event {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            return Event::Config {
                offset,
                value: width.mask(value),
            };
        }
        if width != Width::Word {
            return Event::None;
        }
        let value = value as u32;
        match offset {
            0x014 => self.device_selector = value,
            0x020 if self.status & STATUS_FEATURES_OK == 0 => {
                let value = u64::from(value);
                match self.driver_selector {
                    0 => self.accepted = self.accepted & !0xffff_ffff | value,
                    1 => self.accepted = self.accepted & 0xffff_ffff | value << 32,
                    _ => {}
                }
            }
            0x024 => self.driver_selector = value,
            0x030 => self.queue_selector = value,
            0x038..=0x0a4 if matches!(offset, 0x038 | 0x044 | 0x080..=0x0a4) => {
                if let Some(queue) = self.queues.get_mut(self.queue_selector as usize) {
                    queue.configure(offset, value);
                }
            }
            0x050 if self.is_live() && (value as usize) < Q => return Event::Notify(value),
            0x064 => self.interrupt &= !value,
            0x070 => return self.set_status(value),
            _ => {}
        }
        Event::None
    }

    fn set_status(&mut self, value: u32) -> Event {
        if value == 0 {
            let (device, offered) = (self.device, self.offered);
            *self = Self::new(device, offered);
            return Event::Reset;
        }
        let mut wanted = value & STATUS_DRIVER_BITS;
        if wanted & STATUS_FEATURES_OK != 0 && self.status & STATUS_FEATURES_OK == 0 {
            // 2.2.2: only a subset of what is offered, and VERSION_1 with it.
            let valid = self.accepted & !self.offered == 0 && self.accepted & F_VERSION_1 != 0;
            if !valid {
                wanted &= !STATUS_FEATURES_OK;
            }
        }
        if wanted & STATUS_FEATURES_OK == 0 {
            wanted &= !STATUS_DRIVER_OK;
        }
        let was_ready = self.status & STATUS_DRIVER_OK != 0;
        // The driver may only add bits (2.1.1).
        self.status |= wanted;
        if !was_ready && self.status & STATUS_DRIVER_OK != 0 {
            Event::Ready
        } else {
            Event::None
        }
    }
}

/// A configuration field of `bytes` read at `offset` with `width`; zero outside.
#[must_use]
pub fn config_bytes(bytes: &[u8], offset: u64, width: Width) -> u64 {
    let mut value = 0;
    for index in 0..width.bytes() {
        let byte = offset
            .checked_add(index)
            .and_then(|at| bytes.get(usize::try_from(at).ok()?))
            .copied()
            .unwrap_or(0);
        value |= u64::from(byte) << (8 * index);
    }
    value
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Drives a transport as a driver does: queue `index` with its areas at the given addresses.
    pub fn set_up_queue<const Q: usize>(
        transport: &mut Transport<Q>,
        index: u32,
        size: u32,
        areas: [u64; 3],
    ) {
        let mut write = |offset, value: u64| {
            transport.write(offset, Width::Word, value);
        };
        write(0x30, u64::from(index));
        write(0x38, u64::from(size));
        for (offset, area) in [0x80, 0x90, 0xa0].into_iter().zip(areas) {
            write(offset, area & 0xffff_ffff);
            write(offset + 4, area >> 32);
        }
        write(0x44, 1);
    }

    /// Negotiates features; the device is live after [`start`].
    pub fn negotiate<const Q: usize>(transport: &mut Transport<Q>, features: u64) {
        let features = features | F_VERSION_1;
        transport.write(0x70, Width::Word, 1);
        transport.write(0x70, Width::Word, 3);
        transport.write(0x24, Width::Word, 0);
        transport.write(0x20, Width::Word, features & 0xffff_ffff);
        transport.write(0x24, Width::Word, 1);
        transport.write(0x20, Width::Word, features >> 32);
        transport.write(0x70, Width::Word, 11);
        assert_eq!(transport.read(0x70, Width::Word), 11);
    }

    pub fn start<const Q: usize>(transport: &mut Transport<Q>) {
        assert_eq!(transport.write(0x70, Width::Word, 15), Event::Ready);
    }

    #[test]
    fn a_driver_that_keeps_the_order_gets_a_live_device() {
        let mut transport = Transport::<2>::new(3, 1);
        assert_eq!(transport.read(0, Width::Word), MAGIC);
        assert_eq!(transport.read(4, Width::Word), 2);
        negotiate(&mut transport, 1);
        assert!(transport.accepted(1));
        set_up_queue(&mut transport, 1, 8, [0x1000, 0x2000, 0x3000]);
        assert!(transport.queue(1).is_none(), "not before DRIVER_OK");
        start(&mut transport);
        assert!(transport.queue(1).is_some());
        assert!(transport.queue(0).is_none());
        assert_eq!(transport.write(0x50, Width::Word, 1), Event::Notify(1));
        assert_eq!(transport.write(0x50, Width::Word, 2), Event::None);
        assert_eq!(transport.write(0x70, Width::Word, 0), Event::Reset);
        assert!(!transport.is_live());
    }

    #[test]
    fn features_that_were_not_offered_are_refused() {
        let mut transport = Transport::<1>::new(3, 0);
        transport.write(0x70, Width::Word, 3);
        transport.write(0x20, Width::Word, 0x80);
        transport.write(0x24, Width::Word, 1);
        transport.write(0x20, Width::Word, 1);
        transport.write(0x70, Width::Word, 11);
        assert_eq!(transport.read(0x70, Width::Word), 3);
        transport.write(0x70, Width::Word, 15);
        assert!(!transport.is_live());
    }

    #[test]
    fn interrupts_stay_until_acknowledged() {
        let mut transport = Transport::<1>::new(3, 0);
        negotiate(&mut transport, 0);
        start(&mut transport);
        transport.raise_used();
        transport.raise_config();
        assert_eq!(transport.line(), Level::High);
        transport.write(0x64, Width::Word, 1);
        assert_eq!(transport.read(0x60, Width::Word), 2);
        transport.write(0x64, Width::Word, 2);
        assert_eq!(transport.line(), Level::Low);
    }

    proptest! {
        #[test]
        fn any_register_traffic_is_survived(ops in proptest::collection::vec((0u64..0x200, 0u8..4, any::<u64>(), any::<bool>()), 0..100)) {
            let mut transport = Transport::<3>::new(5, 0xff);
            for (offset, width, value, is_read) in ops {
                let width = [Width::Byte, Width::Half, Width::Word, Width::Double][usize::from(width)];
                if is_read {
                    let _ = transport.read(offset, width);
                } else {
                    let _ = transport.write(offset, width, value);
                }
            }
        }
    }
}
