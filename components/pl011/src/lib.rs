//! A driver for Arm's PrimeCell UART PL011 (Technical Reference Manual DDI 0183, "TRM" below).
//!
//! The crate `arm-pl011-uart` is not used for two reasons: it can enable the device only together with a baud rate
//! computed from a clock that is known, where a board's firmware has set both already (and the device tree need not name
//! the clock); and a receive overrun makes it drop the byte that was received well.
//!
//! Invariants:
//! 1. No function waits for the device, except the two that `embedded_io` defines to block.
//! 2. [`Pl011::adopt`] leaves the divisors and the word format alone.
//! 3. Interrupts are unmasked only by [`Pl011::listen`].
//!
//! The driver reaches the registers through [`Registers`]: on the board [`Mmio`], in tests a model with FIFOs.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod io;
mod mmio;
#[cfg(test)]
mod model;

pub use mmio::{Mmio, RegisterBlock};

/// The registers that the driver uses, by their names in TRM table 3-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// `UARTDR`: data; reading takes a byte from the FIFO.
    Data,
    /// `UARTFR`: flags.
    Flags,
    /// `UARTLCR_H`: line control.
    LineControl,
    /// `UARTCR`: control.
    Control,
    /// `UARTIFLS`: interrupt FIFO levels.
    FifoLevels,
    /// `UARTIMSC`: interrupt mask.
    InterruptMask,
    /// `UARTICR`: interrupt clear, write only.
    InterruptClear,
}

/// Access to the registers of one device.
pub trait Registers {
    /// Reads a register. [`Register::InterruptClear`] reads as zero.
    fn read(&mut self, register: Register) -> u32;
    /// Writes a register. Writing [`Register::Flags`] does nothing.
    fn write(&mut self, register: Register, value: u32);
}

/// Bits of the registers.
mod bits {
    /// `UARTFR.RXFE`: receive FIFO empty.
    pub const FR_RXFE: u32 = 1 << 4;
    /// `UARTFR.TXFF`: transmit FIFO full.
    pub const FR_TXFF: u32 = 1 << 5;
    /// `UARTFR.BUSY`: a byte is still being shifted out.
    pub const FR_BUSY: u32 = 1 << 3;
    /// `UARTLCR_H.FEN`: FIFOs on.
    pub const LCR_FEN: u32 = 1 << 4;
    /// `UARTCR`: receive, transmit and the device itself enabled.
    pub const CR_ENABLE: u32 = 1 << 9 | 1 << 8 | 1;
    /// `UARTDR`: framing, parity and break errors: the byte is no byte that was sent.
    pub const DR_BAD: u32 = 0b111 << 8;
    /// `UARTDR.OE`: bytes before this one were lost.
    pub const DR_OVERRUN: u32 = 1 << 11;
    /// Receive and receive-timeout interrupts.
    pub const INT_RECEIVE: u32 = 1 << 6 | 1 << 4;
    /// Transmit interrupt.
    pub const INT_TRANSMIT: u32 = 1 << 5;
    /// All interrupts.
    pub const INT_ALL: u32 = 0x7ff;
    /// Receive interrupt at 1/8 full (a byte that waits alone is reported by the timeout interrupt), transmit interrupt at
    /// 1/8 full.
    pub const IFLS_EARLY: u32 = 0;
}

/// Which interrupts the device shall raise beside the one for received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Received bytes only.
    Receive,
    /// Also room in the transmit FIFO.
    ReceiveAndTransmit,
}

/// What came from the receive FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A byte.
    Byte(u8),
    /// A byte, and before it bytes were lost.
    ByteAfterOverrun(u8),
    /// A break, or a byte with a framing or parity error.
    Damaged,
}

/// One UART.
#[derive(Debug)]
pub struct Pl011<R> {
    registers: R,
}

impl<R: Registers> Pl011<R> {
    /// Takes over a device that firmware or boot stage has set up: switches FIFOs, receiver and transmitter on, all
    /// interrupts off and cleared, and leaves the baud rate and the word format as they are.
    pub fn adopt(mut registers: R) -> Self {
        registers.write(Register::InterruptMask, 0);
        registers.write(Register::InterruptClear, bits::INT_ALL);
        let line = registers.read(Register::LineControl);
        if line & bits::LCR_FEN == 0 {
            registers.write(Register::LineControl, line | bits::LCR_FEN);
        }
        registers.write(Register::FifoLevels, bits::IFLS_EARLY);
        let control = registers.read(Register::Control);
        registers.write(Register::Control, control | bits::CR_ENABLE);
        Self { registers }
    }

    /// Chooses the interrupts.
    pub fn listen(&mut self, listen: Listen) {
        let mask = match listen {
            Listen::Receive => bits::INT_RECEIVE,
            Listen::ReceiveAndTransmit => bits::INT_RECEIVE | bits::INT_TRANSMIT,
        };
        self.registers.write(Register::InterruptMask, mask);
    }

    /// Clears what interrupts are pending. Call it before looking into the FIFOs, so that what comes later raises a new one.
    pub fn clear_interrupts(&mut self) {
        self.registers
            .write(Register::InterruptClear, bits::INT_ALL);
    }

    /// Takes what is next in the receive FIFO, or `None` when it is empty. Never waits.
    pub fn try_receive(&mut self) -> Option<Received> {
        if self.registers.read(Register::Flags) & bits::FR_RXFE != 0 {
            return None;
        }
        let data = self.registers.read(Register::Data);
        let byte = (data & 0xff) as u8;
        Some(if data & bits::DR_BAD != 0 {
            Received::Damaged
        } else if data & bits::DR_OVERRUN != 0 {
            Received::ByteAfterOverrun(byte)
        } else {
            Received::Byte(byte)
        })
    }

    /// Puts as many of the bytes into the transmit FIFO as fit now, and returns how many. Never waits.
    pub fn try_transmit(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        for byte in bytes {
            if !self.has_room() {
                break;
            }
            self.registers.write(Register::Data, u32::from(*byte));
            sent += 1;
        }
        sent
    }

    fn has_room(&mut self) -> bool {
        self.registers.read(Register::Flags) & bits::FR_TXFF == 0
    }

    fn is_busy(&mut self) -> bool {
        self.registers.read(Register::Flags) & bits::FR_BUSY != 0
    }
}
