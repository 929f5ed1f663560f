//! Readable text on the UART that the device tree names, for what goes wrong before the kernel runs.

#![allow(unsafe_code)]

use crate::memory;
use core::cell::Cell;
use core::fmt::{self, Write};
use machine::describe::Uart;

/// PL011 registers (Arm DDI 0183, chapter 3).
const DATA: u64 = 0x00;
const FLAGS: u64 = 0x18;
const CONTROL: u64 = 0x30;
const TRANSMIT_FULL: u32 = 1 << 5;
/// UARTEN and TXE.
const ENABLED: u32 = 1 | 1 << 8;
/// Polls before a byte is given up: at 9600 baud a full FIFO drains a byte in 1 ms.
const POLLS: u32 = 10_000_000;

/// The console; writes go nowhere until a UART is known.
pub struct Console(Cell<Option<u64>>);

impl Console {
    /// Without a UART.
    pub const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// From now on text goes to this UART.
    pub fn attach(&self, uart: Uart) {
        let Uart::Pl011(base) = uart;
        if memory::map_device(base).is_err() {
            return;
        }
        // SAFETY: the device tree names a PL011 here, which was just mapped. Enabling the transmitter changes no memory.
        unsafe {
            let control = memory::device_read(base.wrapping_add(CONTROL));
            if control & ENABLED != ENABLED {
                memory::device_write(base.wrapping_add(CONTROL), control | ENABLED);
            }
        }
        self.0.set(Some(base));
    }

    fn put(&self, byte: u8) {
        let Some(base) = self.0.get() else { return };
        for _ in 0..POLLS {
            // SAFETY: `attach` mapped the PL011 whose address this is.
            if unsafe { memory::device_read(base.wrapping_add(FLAGS)) } & TRANSMIT_FULL == 0 {
                break;
            }
        }
        // SAFETY: as above.
        unsafe { memory::device_write(base.wrapping_add(DATA), u32::from(byte)) };
    }
}

impl Write for &Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
        Ok(())
    }
}
