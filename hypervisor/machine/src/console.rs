//! Readable text on a PL011, polled: why boot stage or kernel cannot start, and what the debug flavour says.
//!
//! How a register is reached is the user's affair ([`Registers`]), so nothing here touches a machine.

use core::cell::Cell;
use core::fmt::{self, Write};

/// PL011 registers (Arm DDI 0183, chapter 3).
const DATA: u64 = 0x00;
const FLAGS: u64 = 0x18;
const CONTROL: u64 = 0x30;
const TRANSMIT_FULL: u32 = 1 << 5;
/// UARTEN and TXE.
const ENABLED: u32 = 1 | 1 << 8;
/// Polls before a byte is written all the same: at 9600 baud a full FIFO drains a byte in 1 ms.
const POLLS: u32 = 10_000_000;

/// The 32-bit registers of one device, by byte offset.
pub trait Registers: Copy {
    /// Reads one.
    fn read(self, offset: u64) -> u32;
    /// Writes one.
    fn write(self, offset: u64, value: u32);
}

/// The console; text goes nowhere until a UART is known.
pub struct Console<R>(Cell<Option<R>>);

impl<R: Registers> Default for Console<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Registers> Console<R> {
    /// Without a UART.
    #[must_use]
    pub const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// From now on text goes to this PL011.
    pub fn attach(&self, registers: R) {
        let control = registers.read(CONTROL);
        if control & ENABLED != ENABLED {
            registers.write(CONTROL, control | ENABLED);
        }
        self.0.set(Some(registers));
    }

    /// Writes a byte as it is.
    pub fn put(&self, byte: u8) {
        let Some(registers) = self.0.get() else {
            return;
        };
        for _ in 0..POLLS {
            if registers.read(FLAGS) & TRANSMIT_FULL == 0 {
                break;
            }
        }
        registers.write(DATA, u32::from(byte));
    }

    /// Writes text.
    pub fn text(&self, text: &str) {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
    }

    /// Writes a number in hexadecimal.
    pub fn hex(&self, value: u64) {
        self.text("0x");
        let mut shift = 60u32;
        while shift > 0 && value >> shift == 0 {
            shift = shift.wrapping_sub(4);
        }
        loop {
            let digit = (value >> shift & 0xf) as u8;
            self.put(if digit < 10 {
                b'0'.wrapping_add(digit)
            } else {
                b'a'.wrapping_sub(10).wrapping_add(digit)
            });
            if shift == 0 {
                break;
            }
            shift = shift.wrapping_sub(4);
        }
    }
}

impl<R: Registers> Write for &Console<R> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// A PL011 whose FIFO is full for a while after each byte.
    #[derive(Default)]
    struct Uart {
        control: Cell<u32>,
        busy: Cell<u32>,
        sent: RefCell<Vec<u8>>,
    }

    impl Registers for &Uart {
        fn read(self, offset: u64) -> u32 {
            match offset {
                FLAGS if self.busy.get() > 0 => {
                    self.busy.set(self.busy.get() - 1);
                    TRANSMIT_FULL
                }
                CONTROL => self.control.get(),
                _ => 0,
            }
        }

        fn write(self, offset: u64, value: u32) {
            match offset {
                DATA => {
                    assert_eq!(self.busy.get(), 0, "a byte into a full FIFO is lost");
                    self.busy.set(3);
                    self.sent.borrow_mut().push(value as u8);
                }
                CONTROL => self.control.set(value),
                _ => panic!("{offset:#x} is not written"),
            }
        }
    }

    #[test]
    fn text_and_numbers_come_out_once_there_is_a_uart() {
        let uart = Uart::default();
        uart.control.set(1 << 9);
        let console = Console::new();
        console.text("lost");
        console.attach(&uart);
        assert_eq!(uart.control.get(), 1 << 9 | ENABLED, "what was on stays on");
        console.text("a\n");
        console.hex(0);
        console.hex(0xfedc_0a19);
        console.hex(u64::MAX);
        write!(&console, " {}", 7).unwrap();
        assert_eq!(
            String::from_utf8(uart.sent.take()).unwrap(),
            "a\r\n0x00xfedc0a190xffffffffffffffff 7"
        );
    }
}
