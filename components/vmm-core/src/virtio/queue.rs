//! The split virtqueue, device side (virtio 1.3, 2.7).
//!
//! The rings lie in guest memory and the driver may write anything there at any time: each value is read once into a
//! local and checked. A chain is at most as long as the queue (2.7.5.1: loops are the driver's error). Nothing of
//! the ring is trusted between two calls but our own two counters.

use crate::ram::{AccessError, GuestMemory, offset_ipa};
use core::sync::atomic::{Ordering, fence};
use heapless::Vec;

/// Largest queue offered: enough for 32 pages of a free-page report (Linux's PAGE_REPORTING_CAPACITY) twice.
pub const MAX_QUEUE_SIZE: u16 = 64;

const DESC_NEXT: u16 = 1;
const DESC_WRITE: u16 = 2;
const DESC_INDIRECT: u16 = 4;
const AVAIL_NO_INTERRUPT: u16 = 1;

/// One buffer of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Its address.
    pub ipa: u64,
    /// Its bytes.
    pub len: u32,
    /// Who writes it.
    pub writer: Writer,
}

/// Who writes a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The driver; the device reads.
    Driver,
    /// The device.
    Device,
}

/// A chain that the driver made available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its head descriptor.
    pub head: u16,
    /// Its buffers, readable ones first (2.7.4.2).
    pub buffers: Vec<Buffer, { MAX_QUEUE_SIZE as usize }>,
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl Chain {
    /// Room for one, without buffers.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            head: 0,
            buffers: Vec::new(),
        }
    }

    /// Buffers that the device reads.
    pub fn readable(&self) -> impl Iterator<Item = &Buffer> {
        self.buffers
            .iter()
            .filter(|buffer| buffer.writer == Writer::Driver)
    }

    /// Buffers that the device writes.
    pub fn writable(&self) -> impl Iterator<Item = &Buffer> {
        self.buffers
            .iter()
            .filter(|buffer| buffer.writer == Writer::Device)
    }

    /// Copies the readable bytes from `skip` on into `into`; how many were copied.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn copy_out(
        &self,
        memory: &mut impl GuestMemory,
        skip: u64,
        into: &mut [u8],
    ) -> Result<usize, AccessError> {
        let (mut skip, mut done) = (skip, 0usize);
        for buffer in self.readable() {
            let len = u64::from(buffer.len);
            if skip >= len {
                skip -= len;
                continue;
            }
            let room = into.get_mut(done..).unwrap_or_default();
            let take = (len - skip).min(room.len() as u64) as usize;
            if take == 0 {
                break;
            }
            if let Some(room) = room.get_mut(..take) {
                memory.read(offset_ipa(buffer.ipa, skip)?, room)?;
            }
            done += take;
            skip = 0;
        }
        Ok(done)
    }

    /// Copies bytes into the writable buffers; how many fit.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn copy_in(&self, memory: &mut impl GuestMemory, from: &[u8]) -> Result<u32, AccessError> {
        let mut done = 0usize;
        for buffer in self.writable() {
            let rest = from.get(done..).unwrap_or_default();
            let take = rest.len().min(buffer.len as usize);
            if take == 0 {
                continue;
            }
            memory.write(buffer.ipa, rest.get(..take).unwrap_or_default())?;
            done += take;
        }
        Ok(done as u32)
    }

    /// Total readable bytes.
    #[must_use]
    pub fn readable_bytes(&self) -> u64 {
        self.readable().map(|buffer| u64::from(buffer.len)).sum()
    }
}

/// Why a queue cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// The driver broke the protocol; the device needs a reset.
    Broken(Violation),
    /// A guest page is not there yet; try again later. Nothing was consumed.
    NotReady,
}

/// What the driver did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// More buffers were made available than the queue has (2.7.13.3).
    AvailableIndex,
    /// A descriptor number beyond the queue.
    Descriptor,
    /// A chain longer than the queue, or a loop.
    Length,
    /// An indirect descriptor, which was not negotiated.
    Indirect,
    /// A readable buffer behind a writable one.
    Order,
    /// A ring or buffer outside the guest's memory.
    Address,
    /// A buffer of a wrong kind or size for this device.
    Content,
}

impl From<AccessError> for QueueError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::OutOfRange { .. } => Self::Broken(Violation::Address),
            AccessError::NotReady => Self::NotReady,
        }
    }
}

/// A virtqueue's registers and our two counters.
#[derive(Debug)]
pub struct Queue {
    size: u16,
    enabled: u16,
    descriptors: u64,
    available: u64,
    used: u64,
    next_available: u16,
    next_used: u16,
}

impl Queue {
    /// A queue that is not set up.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            size: 0,
            enabled: 0,
            descriptors: 0,
            available: 0,
            used: 0,
            next_available: 0,
            next_used: 0,
        }
    }

    /// Whether the driver enabled it.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.enabled != 0
    }

    /// A write of one of the queue's registers (4.2.2: QueueSize, QueueReady, the three addresses). Addresses and size
    /// cannot change while the queue is enabled.
    pub(super) fn configure(&mut self, offset: u64, value: u32) {
        if self.is_ready() && offset != 0x044 {
            return;
        }
        let low = |field: u64| field & !0xffff_ffff | u64::from(value);
        let high = |field: u64| field & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            0x038 => self.size = u16::try_from(value).unwrap_or(0),
            0x044 if value & 1 == 0 => {
                self.enabled = 0;
                self.next_available = 0;
                self.next_used = 0;
            }
            0x044 => {
                // 2.7: the size is a power of two; 4.2.2.2: at most QueueSizeMax; 2.7 alignment 16, 2, 4.
                let valid = self.size.is_power_of_two()
                    && self.size <= MAX_QUEUE_SIZE
                    && self.descriptors.is_multiple_of(16)
                    && self.available.is_multiple_of(2)
                    && self.used.is_multiple_of(4);
                self.enabled = u16::from(valid);
            }
            0x080 => self.descriptors = low(self.descriptors),
            0x084 => self.descriptors = high(self.descriptors),
            0x090 => self.available = low(self.available),
            0x094 => self.available = high(self.available),
            0x0a0 => self.used = low(self.used),
            0x0a4 => self.used = high(self.used),
            _ => {}
        }
    }

    /// The next chain, without consuming it: [`Queue::advance`] does. It is put into `room`: a chain is a kilobyte, and most
    /// of the time there is none.
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn peek<'a>(
        &mut self,
        memory: &mut impl GuestMemory,
        room: &'a mut Chain,
    ) -> Result<Option<&'a Chain>, QueueError> {
        let index = memory.read_u16(offset_ipa(self.available, 2)?)?;
        let waiting = index.wrapping_sub(self.next_available);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > self.size {
            return Err(QueueError::Broken(Violation::AvailableIndex));
        }
        // 2.7.13: the entry may be read only after the index that covers it.
        fence(Ordering::Acquire);
        let slot = u64::from(self.next_available & (self.size - 1));
        let head = memory.read_u16(offset_ipa(self.available, 4 + 2 * slot)?)?;
        self.chain(memory, head, room)?;
        Ok(Some(room))
    }

    fn chain(
        &self,
        memory: &mut impl GuestMemory,
        head: u16,
        chain: &mut Chain,
    ) -> Result<(), QueueError> {
        chain.head = head;
        chain.buffers.clear();
        let mut at = head;
        for _ in 0..self.size {
            if at >= self.size {
                return Err(QueueError::Broken(Violation::Descriptor));
            }
            let mut raw = [0u8; 16];
            memory.read(offset_ipa(self.descriptors, 16 * u64::from(at))?, &mut raw)?;
            let (ipa, len, flags, next) = split_descriptor(&raw);
            if flags & DESC_INDIRECT != 0 {
                return Err(QueueError::Broken(Violation::Indirect));
            }
            let writer = if flags & DESC_WRITE != 0 {
                Writer::Device
            } else {
                Writer::Driver
            };
            let after_writable =
                chain.buffers.last().map(|last| last.writer) == Some(Writer::Device);
            if writer == Writer::Driver && after_writable {
                return Err(QueueError::Broken(Violation::Order));
            }
            if chain.buffers.push(Buffer { ipa, len, writer }).is_err() {
                return Err(QueueError::Broken(Violation::Length));
            }
            if flags & DESC_NEXT == 0 {
                return Ok(());
            }
            at = next;
        }
        Err(QueueError::Broken(Violation::Length))
    }

    /// Consumes the chain that [`Queue::peek`] showed.
    pub fn advance(&mut self) {
        self.next_available = self.next_available.wrapping_add(1);
    }

    /// Gives a chain back with `written` bytes in it. Returns whether the driver wants an interrupt.
    ///
    /// # Errors
    /// [`QueueError`]; then nothing was given back.
    pub fn finish(
        &mut self,
        memory: &mut impl GuestMemory,
        head: u16,
        written: u32,
    ) -> Result<Interrupt, QueueError> {
        if self.size == 0 {
            return Ok(Interrupt::Unwanted);
        }
        let slot = u64::from(self.next_used & (self.size - 1));
        let mut element = [0u8; 8];
        let (id, len) = element.split_at_mut(4);
        id.copy_from_slice(&u32::from(head).to_le_bytes());
        len.copy_from_slice(&written.to_le_bytes());
        memory.write(offset_ipa(self.used, 4 + 8 * slot)?, &element)?;
        // 2.7.8.2: the element before the index.
        fence(Ordering::Release);
        let next = self.next_used.wrapping_add(1);
        memory.write_u16(offset_ipa(self.used, 2)?, next)?;
        self.next_used = next;
        // 2.7.7.2: the index before the driver's flag is read.
        fence(Ordering::SeqCst);
        let flags = memory.read_u16(self.available)?;
        Ok(if flags & AVAIL_NO_INTERRUPT != 0 {
            Interrupt::Unwanted
        } else {
            Interrupt::Wanted
        })
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the driver wants to hear of a used buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a driver that waits for the interrupt would wait for ever"]
pub enum Interrupt {
    /// It does.
    Wanted,
    /// It does not.
    Unwanted,
}

fn split_descriptor(raw: &[u8; 16]) -> (u64, u32, u16, u16) {
    let [
        a0,
        a1,
        a2,
        a3,
        a4,
        a5,
        a6,
        a7,
        l0,
        l1,
        l2,
        l3,
        f0,
        f1,
        n0,
        n1,
    ] = *raw;
    (
        u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
        u32::from_le_bytes([l0, l1, l2, l3]),
        u16::from_le_bytes([f0, f1]),
        u16::from_le_bytes([n0, n1]),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ram::fake::Flat;
    use proptest::prelude::*;

    pub const BASE: u64 = 0x4000_0000;
    pub const DESC: u64 = BASE;
    pub const AVAIL: u64 = BASE + 0x1000;
    pub const USED: u64 = BASE + 0x2000;
    pub const DATA: u64 = BASE + 0x4000;

    /// A driver's hand on the ring of one queue whose areas start at an offset from [`BASE`].
    pub struct Driver {
        pub offset: u64,
        pub available: u16,
    }

    impl Driver {
        pub const fn areas(&self) -> [u64; 3] {
            [DESC + self.offset, AVAIL + self.offset, USED + self.offset]
        }

        pub fn descriptor(
            &self,
            memory: &mut Flat,
            at: u16,
            ipa: u64,
            len: u32,
            flags: u16,
            next: u16,
        ) {
            let mut raw = Vec::<u8, 16>::new();
            raw.extend_from_slice(&ipa.to_le_bytes()).unwrap();
            raw.extend_from_slice(&len.to_le_bytes()).unwrap();
            raw.extend_from_slice(&flags.to_le_bytes()).unwrap();
            raw.extend_from_slice(&next.to_le_bytes()).unwrap();
            memory
                .write(DESC + self.offset + 16 * u64::from(at), &raw)
                .unwrap();
        }

        pub fn offer(&mut self, memory: &mut Flat, head: u16, size: u16) {
            let slot = u64::from(self.available % size);
            memory
                .write_u16(AVAIL + self.offset + 4 + 2 * slot, head)
                .unwrap();
            self.available = self.available.wrapping_add(1);
            memory
                .write_u16(AVAIL + self.offset + 2, self.available)
                .unwrap();
        }

        pub fn used(&self, memory: &mut Flat) -> u16 {
            memory.read_u16(USED + self.offset + 2).unwrap()
        }
    }

    pub fn ready(size: u16) -> Queue {
        let mut queue = Queue::new();
        queue.configure(0x38, u32::from(size));
        for (offset, area) in [(0x80, DESC), (0x90, AVAIL), (0xa0, USED)] {
            queue.configure(offset, area as u32);
        }
        queue.configure(0x44, 1);
        assert!(queue.is_ready());
        queue
    }

    #[test]
    fn a_chain_comes_out_and_goes_back() {
        let mut memory = Flat::new(BASE, 0x8000);
        let mut driver = Driver {
            offset: 0,
            available: 0,
        };
        let mut queue = ready(4);
        assert_eq!(queue.peek(&mut memory, &mut Chain::new()), Ok(None));
        memory.write(DATA, b"hello").unwrap();
        driver.descriptor(&mut memory, 2, DATA, 5, DESC_NEXT, 0);
        driver.descriptor(&mut memory, 0, DATA + 0x100, 16, DESC_WRITE, 0);
        driver.offer(&mut memory, 2, 4);
        let mut room = Chain::new();
        let chain = queue.peek(&mut memory, &mut room).unwrap().unwrap();
        let mut bytes = [0u8; 8];
        assert_eq!(chain.copy_out(&mut memory, 1, &mut bytes), Ok(4));
        assert_eq!(&bytes[..4], b"ello");
        assert_eq!(chain.copy_in(&mut memory, b"ok"), Ok(2));
        queue.advance();
        assert_eq!(
            queue.finish(&mut memory, chain.head, 2),
            Ok(Interrupt::Wanted)
        );
        assert_eq!(driver.used(&mut memory), 1);
        assert_eq!(queue.peek(&mut memory, &mut Chain::new()), Ok(None));
        memory.write_u16(AVAIL, 1).unwrap();
        assert_eq!(queue.finish(&mut memory, 1, 0), Ok(Interrupt::Unwanted));
    }

    #[test]
    fn each_violation_is_named() {
        let broken = |set: &dyn Fn(&mut Flat, &mut Driver)| {
            let mut memory = Flat::new(BASE, 0x8000);
            let mut driver = Driver {
                offset: 0,
                available: 0,
            };
            set(&mut memory, &mut driver);
            ready(4).peek(&mut memory, &mut Chain::new()).unwrap_err()
        };
        assert_eq!(
            broken(&|memory, _| memory.write_u16(AVAIL + 2, 5).unwrap()),
            QueueError::Broken(Violation::AvailableIndex)
        );
        assert_eq!(
            broken(&|memory, driver| driver.offer(memory, 4, 4)),
            QueueError::Broken(Violation::Descriptor)
        );
        assert_eq!(
            broken(&|memory, driver| {
                driver.descriptor(memory, 0, DATA, 1, DESC_NEXT, 0);
                driver.offer(memory, 0, 4);
            }),
            QueueError::Broken(Violation::Length)
        );
        assert_eq!(
            broken(&|memory, driver| {
                driver.descriptor(memory, 0, DATA, 1, DESC_INDIRECT, 0);
                driver.offer(memory, 0, 4);
            }),
            QueueError::Broken(Violation::Indirect)
        );
        assert_eq!(
            broken(&|memory, driver| {
                driver.descriptor(memory, 0, DATA, 1, DESC_WRITE | DESC_NEXT, 1);
                driver.descriptor(memory, 1, DATA, 1, 0, 0);
                driver.offer(memory, 0, 4);
            }),
            QueueError::Broken(Violation::Order)
        );
        let mut queue = Queue::new();
        queue.configure(0x38, 4);
        queue.configure(0x94, 0xffff_ffff);
        queue.configure(0x44, 1);
        assert_eq!(
            queue.peek(&mut Flat::new(BASE, 16), &mut Chain::new()),
            Err(QueueError::Broken(Violation::Address))
        );
    }

    #[test]
    fn the_indices_wrap() {
        let mut memory = Flat::new(BASE, 0x8000);
        let mut driver = Driver {
            offset: 0,
            available: 0,
        };
        let mut queue = ready(4);
        driver.descriptor(&mut memory, 1, DATA, 1, 0, 0);
        for round in 0..70_000u32 {
            driver.offer(&mut memory, 1, 4);
            let mut room = Chain::new();
            let chain = queue.peek(&mut memory, &mut room).unwrap().unwrap();
            queue.advance();
            let _ = queue.finish(&mut memory, chain.head, 0).unwrap();
            assert_eq!(driver.used(&mut memory), (round + 1) as u16);
        }
    }

    #[test]
    fn sizes_that_are_no_power_of_two_are_not_enabled() {
        for size in [0, 3, 128, 0x1_0004] {
            let mut queue = Queue::new();
            queue.configure(0x38, size);
            queue.configure(0x44, 1);
            assert!(!queue.is_ready(), "{size}");
        }
    }

    proptest! {
        #[test]
        fn random_rings_never_panic_and_always_end(bytes in proptest::collection::vec(any::<u8>(), 0x3000), size in 0u32..7) {
            let mut memory = Flat::new(BASE, 0x8000);
            memory.bytes[..0x3000].copy_from_slice(&bytes);
            let mut queue = ready(1 << size);
            for _ in 0..70 {
                match queue.peek(&mut memory, &mut Chain::new()) {
                    Ok(Some(chain)) => {
                        prop_assert!(chain.buffers.len() <= 1 << size);
                        let _ = chain.copy_out(&mut memory, 3, &mut [0; 64]);
                        let _ = chain.copy_in(&mut memory, &[1; 64]);
                        queue.advance();
                        let _ = queue.finish(&mut memory, chain.head, 7);
                    }
                    Ok(None) | Err(_) => break,
                }
            }
        }
    }
}
