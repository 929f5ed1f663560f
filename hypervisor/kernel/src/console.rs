//! Text for people: why the kernel cannot start, and what the debug flavour says. The UART belongs to user level otherwise.

use crate::mmio::Mmio;
use core::cell::Cell;

/// PL011 registers (Arm DDI 0183, chapter 3).
const DATA: u64 = 0x00;
const FLAGS: u64 = 0x18;
const CONTROL: u64 = 0x30;
const TRANSMIT_FULL: u32 = 1 << 5;
/// UARTEN and TXE.
const ENABLED: u32 = 1 | 1 << 8;
/// Polls before a byte is given up.
const POLLS: u32 = 10_000_000;

/// The console; text goes nowhere until a UART is known.
pub struct Console(Cell<Option<Mmio>>);

impl Console {
    /// Without a UART.
    pub const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// From now on text goes to this PL011.
    pub fn attach(&self, registers: Mmio) {
        registers.write(CONTROL, registers.read(CONTROL) | ENABLED);
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

/// Text in the debug flavour only.
#[macro_export]
macro_rules! debug_text {
    ($arch:expr, $text:expr) => {
        if cfg!(feature = "debug") {
            $arch.console.text($text);
        }
    };
}
