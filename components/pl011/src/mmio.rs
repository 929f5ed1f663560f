//! The registers on a board, through `safe-mmio` (its accesses never take a form that a hypervisor could not emulate).

use crate::{Register, Registers};
use safe_mmio::{
    UniqueMmioPointer, field, field_shared,
    fields::{ReadPure, ReadPureWrite, ReadWrite, WriteOnly},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The register block, TRM table 3-1. Only what the driver uses is accessible.
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RegisterBlock {
    /// 0x000.
    data: ReadWrite<u32>,
    /// 0x004..0x018: receive status, reserved.
    _receive_status: [u32; 5],
    /// 0x018.
    flags: ReadPure<u32>,
    /// 0x01c..0x02c: reserved, IrDA counter, divisors.
    _divisors: [u32; 4],
    /// 0x02c.
    line_control: ReadPureWrite<u32>,
    /// 0x030.
    control: ReadPureWrite<u32>,
    /// 0x034.
    fifo_levels: ReadPureWrite<u32>,
    /// 0x038.
    interrupt_mask: ReadPureWrite<u32>,
    /// 0x03c, 0x040: raw and masked interrupt status.
    _interrupt_status: [u32; 2],
    /// 0x044.
    interrupt_clear: WriteOnly<u32>,
}

const _: () = assert!(core::mem::size_of::<RegisterBlock>() == 0x48);

/// A device's registers in memory.
#[derive(Debug)]
pub struct Mmio<'a>(UniqueMmioPointer<'a, RegisterBlock>);

impl<'a> Mmio<'a> {
    /// Wraps the device's register block.
    #[must_use]
    pub const fn new(block: UniqueMmioPointer<'a, RegisterBlock>) -> Self {
        Self(block)
    }
}

impl Registers for Mmio<'_> {
    fn read(&mut self, register: Register) -> u32 {
        match register {
            Register::Data => field!(self.0, data).read(),
            Register::Flags => field_shared!(self.0, flags).read(),
            Register::LineControl => field_shared!(self.0, line_control).read(),
            Register::Control => field_shared!(self.0, control).read(),
            Register::FifoLevels => field_shared!(self.0, fifo_levels).read(),
            Register::InterruptMask => field_shared!(self.0, interrupt_mask).read(),
            Register::InterruptClear => 0,
        }
    }

    fn write(&mut self, register: Register, value: u32) {
        match register {
            Register::Data => field!(self.0, data).write(value),
            Register::Flags => {}
            Register::LineControl => field!(self.0, line_control).write(value),
            Register::Control => field!(self.0, control).write(value),
            Register::FifoLevels => field!(self.0, fifo_levels).write(value),
            Register::InterruptMask => field!(self.0, interrupt_mask).write(value),
            Register::InterruptClear => field!(self.0, interrupt_clear).write(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Listen, Pl011, Received};

    /// The block as words, so that offsets are those of the manual and not of our struct.
    fn words(fill: &[(usize, u32)]) -> [u32; 18] {
        let mut words = [0; 18];
        for (offset, value) in fill {
            words[offset / 4] = *value;
        }
        words
    }

    #[test]
    fn adopting_switches_on_and_keeps_divisors_and_format() {
        let mut memory = words(&[
            (0x24, 13),
            (0x28, 1),
            (0x2c, 0x60),
            (0x30, 0xc000),
            (0x38, 0x7ff),
        ]);
        let block: &mut RegisterBlock = zerocopy::transmute_mut!(&mut memory);
        Pl011::adopt(Mmio::new(block.into())).listen(Listen::ReceiveAndTransmit);
        assert_eq!(memory[0x24 / 4], 13);
        assert_eq!(memory[0x28 / 4], 1);
        assert_eq!(memory[0x2c / 4], 0x70);
        assert_eq!(memory[0x30 / 4], 0xc301);
        assert_eq!(memory[0x38 / 4], 0x70);
        assert_eq!(memory[0x44 / 4], 0x7ff);
    }

    #[test]
    fn data_is_at_offset_0_and_flags_at_0x18() {
        let mut memory = words(&[(0, 0x41)]);
        let block: &mut RegisterBlock = zerocopy::transmute_mut!(&mut memory);
        let mut uart = Pl011::adopt(Mmio::new(block.into()));
        assert_eq!(uart.try_receive(), Some(Received::Byte(0x41)));
        assert_eq!(uart.try_transmit(b"xyz"), 3);
        assert_eq!(memory[0], u32::from(b'z'));

        let mut memory = words(&[(0x18, 1 << 4 | 1 << 5)]);
        let block: &mut RegisterBlock = zerocopy::transmute_mut!(&mut memory);
        let mut uart = Pl011::adopt(Mmio::new(block.into()));
        assert_eq!(uart.try_receive(), None);
        assert_eq!(uart.try_transmit(b"xyz"), 0);
        assert_eq!(memory[0], 0);
    }
}
