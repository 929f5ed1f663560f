//! virtio-console (virtio 1.3, 5.3) with one port: a receive queue (0) and a transmit queue (1). No size, no
//! multiport.

use super::queue::{Chain, Interrupt, QueueError};
use super::transport::{Event, Transport};
use crate::ram::GuestMemory;

/// Device type (5.3.1).
pub const DEVICE: u32 = 3;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// Bytes handed on in one step.
pub const STEP_BYTES: usize = protocol::console::CHUNK_BYTES;
/// Most bytes, and most buffers, of a guest's output that are handed on at once: then others have their turn.
const TURN_BYTES: usize = 4096;
const TURN_BUFFERS: usize = 64;
/// Input kept until the guest offers buffers; more is dropped, as a serial line's receiver does.
const INPUT_BYTES: usize = 1024;

/// Where a guest's output goes. One value is both the guest's memory and the sink, because both end at the same host.
pub trait Sink {
    /// Takes some of the bytes, maybe none; how many.
    fn put(&mut self, bytes: &[u8]) -> usize;
}

/// The device.
#[derive(Debug)]
pub struct Console {
    /// The registers.
    pub transport: Transport<2>,
    input: heapless::Deque<u8, INPUT_BYTES>,
    /// Bytes of the chain at the head of the transmit queue that are out already.
    sent: u64,
    backlog: Backlog,
}

/// Whether output is left that the sink would have taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// Nothing is left, or the sink is full and says when it is not.
    None,
    /// The turn was over: [`Console::transmit`] goes on.
    Left,
}

impl Console {
    /// After reset.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            transport: Transport::new(DEVICE, 0),
            input: heapless::Deque::new(),
            sent: 0,
            backlog: Backlog::None,
        }
    }

    /// Whether output is left although the sink takes more.
    #[must_use]
    pub const fn backlog(&self) -> Backlog {
        self.backlog
    }

    /// Acts on a register write. Errors of the driver leave the device in need of a reset.
    pub fn event<M: GuestMemory + Sink>(&mut self, event: Event, memory: &mut M) {
        match event {
            Event::Reset => {
                self.sent = 0;
                self.backlog = Backlog::None;
                self.input.clear();
            }
            Event::Notify(0) => self.receive(memory),
            Event::Notify(_) => self.transmit(memory),
            Event::Ready => {
                // What was offered before DRIVER_OK.
                self.transmit(memory);
                self.receive(memory);
            }
            Event::None | Event::Config { .. } => {}
        }
    }

    /// Moves the guest's output to the sink until it takes no more, there is none, or the turn is over: what is left then
    /// is the [`Self::backlog`].
    pub fn transmit<M: GuestMemory + Sink>(&mut self, memory: &mut M) {
        if let Err(error) = self.try_transmit(memory) {
            self.give_up(error);
        }
    }

    fn try_transmit<M: GuestMemory + Sink>(&mut self, memory: &mut M) -> Result<(), QueueError> {
        let mut wanted = Interrupt::Unwanted;
        let mut step = [0u8; STEP_BYTES];
        let Some(queue) = self.transport.queue(TRANSMIT) else {
            return Ok(());
        };
        let mut room = Chain::new();
        let (mut bytes_left, mut buffers_left) = (TURN_BYTES, TURN_BUFFERS);
        self.backlog = Backlog::None;
        'turn: while let Some(chain) = queue.peek(memory, &mut room)? {
            if buffers_left == 0 {
                self.backlog = Backlog::Left;
                break;
            }
            buffers_left -= 1;
            loop {
                if bytes_left == 0 {
                    self.backlog = Backlog::Left;
                    break 'turn;
                }
                let most = bytes_left.min(STEP_BYTES);
                let into = step.get_mut(..most).unwrap_or_default();
                let bytes = chain.copy_out(memory, self.sent, into)?;
                if bytes == 0 {
                    break;
                }
                let taken = memory.put(step.get(..bytes).unwrap_or_default()).min(bytes);
                self.sent += taken as u64;
                bytes_left -= taken;
                if taken < bytes {
                    break 'turn;
                }
            }
            self.sent = 0;
            queue.advance();
            if queue.finish(memory, chain.head, 0)? == Interrupt::Wanted {
                wanted = Interrupt::Wanted;
            }
        }
        if wanted == Interrupt::Wanted {
            self.transport.raise_used();
        }
        Ok(())
    }

    /// Input for the guest; how many bytes were kept.
    pub fn input(&mut self, bytes: &[u8], memory: &mut impl GuestMemory) -> usize {
        let kept = bytes
            .iter()
            .take_while(|byte| self.input.push_back(**byte).is_ok())
            .count();
        self.receive(memory);
        kept
    }

    /// Room for input, in bytes.
    #[must_use]
    pub fn input_room(&self) -> usize {
        INPUT_BYTES - self.input.len()
    }

    /// Moves waiting input into the guest's buffers.
    pub fn receive(&mut self, memory: &mut impl GuestMemory) {
        if let Err(error) = self.try_receive(memory) {
            self.give_up(error);
        }
    }

    fn try_receive(&mut self, memory: &mut impl GuestMemory) -> Result<(), QueueError> {
        let mut wanted = Interrupt::Unwanted;
        let Some(queue) = self.transport.queue(RECEIVE) else {
            return Ok(());
        };
        while !self.input.is_empty() {
            let mut room = Chain::new();
            let Some(chain) = queue.peek(memory, &mut room)? else {
                break;
            };
            let mut step = [0u8; STEP_BYTES];
            let mut bytes = 0;
            for (to, from) in step.iter_mut().zip(self.input.iter()) {
                *to = *from;
                bytes += 1;
            }
            let written = chain.copy_in(memory, step.get(..bytes).unwrap_or_default())?;
            queue.advance();
            if queue.finish(memory, chain.head, written)? == Interrupt::Wanted {
                wanted = Interrupt::Wanted;
            }
            for _ in 0..written {
                self.input.pop_front();
            }
        }
        if wanted == Interrupt::Wanted {
            self.transport.raise_used();
        }
        Ok(())
    }

    fn give_up(&mut self, error: QueueError) {
        match error {
            QueueError::NotReady => {}
            QueueError::Broken(_) => self.transport.fail(),
        }
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gic::Level;
    use crate::ram::AccessError;
    use crate::ram::fake::Flat;
    use crate::virtio::queue::tests::{BASE, DATA, Driver};
    use crate::virtio::transport::tests::{negotiate, set_up_queue, start};

    struct Outside {
        memory: Flat,
        taken: Vec<u8>,
        room: usize,
    }

    impl Sink for Outside {
        fn put(&mut self, bytes: &[u8]) -> usize {
            let take = bytes.len().min(self.room);
            self.room -= take;
            self.taken.extend_from_slice(&bytes[..take]);
            take
        }
    }

    impl GuestMemory for Outside {
        fn read(&mut self, ipa: u64, into: &mut [u8]) -> Result<(), AccessError> {
            self.memory.read(ipa, into)
        }

        fn write(&mut self, ipa: u64, from: &[u8]) -> Result<(), AccessError> {
            self.memory.write(ipa, from)
        }
    }

    fn live(room: usize) -> (Console, Outside, Driver, Driver) {
        let mut console = Console::new();
        let outside = Outside {
            memory: Flat::new(BASE, 0x20_000),
            taken: vec![],
            room,
        };
        let receive = Driver {
            offset: 0,
            available: 0,
        };
        let transmit = Driver {
            offset: 0x8000,
            available: 0,
        };
        negotiate(&mut console.transport, 0);
        set_up_queue(&mut console.transport, 0, 4, receive.areas());
        set_up_queue(&mut console.transport, 1, 4, transmit.areas());
        start(&mut console.transport);
        (console, outside, receive, transmit)
    }

    #[test]
    fn output_waits_for_room_and_loses_nothing() {
        let (mut console, mut outside, _, mut driver) = live(4);
        outside.write(DATA, b"hello world").unwrap();
        driver.descriptor(&mut outside.memory, 0, DATA, 11, 0, 0);
        driver.offer(&mut outside.memory, 0, 4);
        console.event(Event::Notify(1), &mut outside);
        assert_eq!(driver.used(&mut outside.memory), 0);
        outside.room = 100;
        console.transmit(&mut outside);
        assert_eq!(outside.taken, b"hello world");
        assert_eq!(driver.used(&mut outside.memory), 1);
        assert_eq!(console.transport.line(), Level::High);
    }

    #[test]
    fn a_turn_is_bounded_and_the_next_goes_on() {
        let (mut console, mut outside, _, mut driver) = live(usize::MAX);
        // One chain of 40,000 bytes.
        driver.descriptor(&mut outside.memory, 0, DATA, 40_000, 0, 0);
        driver.offer(&mut outside.memory, 0, 4);
        console.event(Event::Notify(1), &mut outside);
        let mut turns = 1;
        while console.backlog() == Backlog::Left {
            assert_eq!(outside.taken.len(), turns * TURN_BYTES);
            assert_eq!(driver.used(&mut outside.memory), 0);
            console.transmit(&mut outside);
            turns += 1;
        }
        assert_eq!((outside.taken.len(), turns), (40_000, 10));
        assert_eq!(driver.used(&mut outside.memory), 1);
        // A reset forgets what was left.
        driver.offer(&mut outside.memory, 0, 4);
        console.event(Event::Notify(1), &mut outside);
        assert_eq!(console.backlog(), Backlog::Left);
        console.event(Event::Reset, &mut outside);
        assert_eq!(console.backlog(), Backlog::None);
    }

    #[test]
    fn input_waits_for_buffers() {
        let (mut console, mut outside, mut driver, _) = live(0);
        assert_eq!(console.input(b"ls\n", &mut outside), 3);
        driver.descriptor(&mut outside.memory, 1, DATA, 2, 2, 0);
        driver.offer(&mut outside.memory, 1, 4);
        driver.offer(&mut outside.memory, 1, 4);
        console.event(Event::Notify(0), &mut outside);
        assert_eq!(driver.used(&mut outside.memory), 2);
        assert_eq!(outside.memory.bytes[(DATA - BASE) as usize], b'\n');
        let flood = [0u8; 3000];
        assert!(console.input(&flood, &mut outside) <= INPUT_BYTES);
    }

    #[test]
    fn a_broken_ring_stops_the_device_only() {
        let (mut console, mut outside, _, mut driver) = live(100);
        driver.offer(&mut outside.memory, 999, 4);
        console.event(Event::Notify(1), &mut outside);
        assert!(console.transport.has_failed());
        console.event(Event::Notify(1), &mut outside);
        assert!(outside.taken.is_empty());
    }
}
