//! The `embedded_io` traits. `read` and `write` block until one byte at least has moved, as the traits define it.

use crate::{Pl011, Received, Registers};
use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};

/// A break, or a byte with a framing or parity error, was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl core::fmt::Display for Damaged {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the UART received a break or a byte with a framing or parity error")
    }
}

impl core::error::Error for Damaged {}

impl embedded_io::Error for Damaged {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidData
    }
}

impl<R> ErrorType for Pl011<R> {
    type Error = Damaged;
}

impl<R: Registers> Read for Pl011<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Damaged> {
        let mut count = 0;
        while count < buffer.len() {
            match self.try_receive() {
                None if count > 0 => break,
                None => core::hint::spin_loop(),
                // Damage alone is an error; after good bytes it only ends the read.
                Some(Received::Damaged) if count == 0 => return Err(Damaged),
                Some(Received::Damaged) => break,
                Some(Received::Byte(byte) | Received::ByteAfterOverrun(byte)) => {
                    if let Some(place) = buffer.get_mut(count) {
                        *place = byte;
                    }
                    count += 1;
                }
            }
        }
        Ok(count)
    }
}

impl<R: Registers> ReadReady for Pl011<R> {
    fn read_ready(&mut self) -> Result<bool, Damaged> {
        Ok(self.registers.read(crate::Register::Flags) & crate::bits::FR_RXFE == 0)
    }
}

impl<R: Registers> Write for Pl011<R> {
    fn write(&mut self, buffer: &[u8]) -> Result<usize, Damaged> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.try_transmit(buffer) {
                0 => core::hint::spin_loop(),
                sent => return Ok(sent),
            }
        }
    }

    fn flush(&mut self) -> Result<(), Damaged> {
        while self.is_busy() {
            core::hint::spin_loop();
        }
        Ok(())
    }
}

impl<R: Registers> WriteReady for Pl011<R> {
    fn write_ready(&mut self) -> Result<bool, Damaged> {
        Ok(self.has_room())
    }
}
