//! A model of the device with its two FIFOs, and the driver's tests on it.

use crate::{Listen, Pl011, Received, Register, Registers, bits};
use embedded_io::{Read, ReadReady, Write, WriteReady};
use proptest::prelude::*;
use std::collections::VecDeque;

/// Depth of both FIFOs in revision r1p5; earlier ones have 16.
const DEPTH: usize = 32;

#[derive(Default)]
struct Model {
    receive: VecDeque<u32>,
    transmit: VecDeque<u8>,
    /// What has left the transmitter.
    line: Vec<u8>,
    control: u32,
    line_control: u32,
    mask: u32,
    /// The transmitter shifts one byte out after this many register accesses.
    accesses_per_byte: usize,
    accesses: usize,
}

impl Model {
    fn depth(&self) -> usize {
        if self.line_control & bits::LCR_FEN == 0 {
            1
        } else {
            DEPTH
        }
    }
}

impl Registers for &mut Model {
    fn read(&mut self, register: Register) -> u32 {
        self.accesses += 1;
        if self.accesses_per_byte > 0 && self.accesses.is_multiple_of(self.accesses_per_byte) {
            let byte = self.transmit.pop_front();
            self.line.extend(byte);
        }
        match register {
            Register::Data => self.receive.pop_front().unwrap_or(0xbad),
            Register::Flags => {
                let mut flags = 0;
                if self.receive.is_empty() {
                    flags |= bits::FR_RXFE;
                }
                if self.transmit.len() >= self.depth() {
                    flags |= bits::FR_TXFF;
                }
                if !self.transmit.is_empty() {
                    flags |= bits::FR_BUSY;
                }
                flags
            }
            Register::LineControl => self.line_control,
            Register::Control => self.control,
            Register::FifoLevels | Register::InterruptClear => 0,
            Register::InterruptMask => self.mask,
        }
    }

    fn write(&mut self, register: Register, value: u32) {
        match register {
            Register::Data => {
                assert!(
                    self.transmit.len() < self.depth(),
                    "byte written into a full FIFO"
                );
                assert_eq!(
                    self.control & bits::CR_ENABLE,
                    bits::CR_ENABLE,
                    "device is off"
                );
                self.transmit.push_back((value & 0xff) as u8);
            }
            Register::LineControl => self.line_control = value,
            Register::Control => self.control = value,
            Register::InterruptMask => self.mask = value,
            Register::Flags | Register::FifoLevels | Register::InterruptClear => {}
        }
    }
}

#[test]
fn transmitting_stops_at_a_full_fifo_and_never_waits() {
    let mut model = Model::default();
    let mut uart = Pl011::adopt(&mut model);
    let sent = uart.try_transmit(&[7; 100]);
    assert_eq!(sent, DEPTH);
    assert_eq!(uart.try_transmit(&[8]), 0);
    assert_eq!(uart.write_ready(), Ok(false));
    assert_eq!(model.transmit.len(), DEPTH);
}

#[test]
fn interrupts_are_off_until_asked_for() {
    let mut model = Model {
        mask: 0x7ff,
        ..Model::default()
    };
    let mut uart = Pl011::adopt(&mut model);
    assert_eq!(uart.registers.mask, 0);
    uart.listen(Listen::ReceiveAndTransmit);
    assert_eq!(uart.registers.mask, 0x70);
    uart.listen(Listen::Receive);
    assert_eq!(uart.registers.mask, 0x50);
}

#[test]
fn an_overrun_keeps_its_byte_and_damage_is_told_from_data() {
    let mut model = Model::default();
    model
        .receive
        .extend([0x41, 0x42 | 1 << 11, 1 << 10, 0x43 | 1 << 8, 0x44]);
    let mut uart = Pl011::adopt(&mut model);
    let mut found = Vec::new();
    while let Some(received) = uart.try_receive() {
        found.push(received);
    }
    assert_eq!(
        found,
        [
            Received::Byte(0x41),
            Received::ByteAfterOverrun(0x42),
            Received::Damaged,
            Received::Damaged,
            Received::Byte(0x44)
        ]
    );
}

#[test]
fn a_read_returns_what_is_there_and_reports_damage() {
    let mut model = Model::default();
    model.receive.extend([0x41, 0x42]);
    let mut uart = Pl011::adopt(&mut model);
    let mut buffer = [0; 8];
    assert_eq!(uart.read_ready(), Ok(true));
    assert_eq!(uart.read(&mut buffer), Ok(2));
    assert_eq!(&buffer[..2], b"AB");
    assert_eq!(uart.read_ready(), Ok(false));
    uart.registers.receive.push_back(1 << 10);
    assert_eq!(uart.read(&mut buffer), Err(crate::io::Damaged));
}

proptest! {
    #[test]
    fn everything_written_leaves_in_order(bytes in proptest::collection::vec(any::<u8>(), 0..300), speed in 1usize..9) {
        let mut model = Model { accesses_per_byte: speed, ..Model::default() };
        let mut uart = Pl011::adopt(&mut model);
        prop_assert!(uart.write_all(&bytes).is_ok());
        prop_assert!(uart.flush().is_ok());
        prop_assert_eq!(&model.line, &bytes);
    }
}
