//! The memory-mapped registers: GICv2 distributor (IHI 0048B, 4.3), GICv3 distributor and redistributor (IHI 0069,
//! 12.9 and 12.11). Offsets are from the frame's base. Unknown registers read as zero and ignore writes.

use super::{Gic, INTERRUPTS, VIRTUAL_TIMER, Version, bit};
use crate::syndrome::Width;

const CTLR: u64 = 0x000;
const TYPER: u64 = 0x004;
const IIDR: u64 = 0x008;
const IGROUPR: u64 = 0x080;
const ISENABLER: u64 = 0x100;
const ICENABLER: u64 = 0x180;
const ISPENDR: u64 = 0x200;
const ICPENDR: u64 = 0x280;
const ISACTIVER: u64 = 0x300;
const IPRIORITYR: u64 = 0x400;
const ITARGETSR: u64 = 0x800;
const ICFGR: u64 = 0xc00;
const SGIR: u64 = 0xf00;
const V2_PIDR2: u64 = 0xfe8;
const V3_PIDR2: u64 = 0xffe8;
const GICR_TYPER: u64 = 0x008;
const GICR_WAKER: u64 = 0x014;
/// The redistributor's second frame, with SGIs and PPIs.
const SGI_FRAME: u64 = 0x1_0000;
/// JEP106 code of Arm; the implementation is ours to name.
const IMPLEMENTER: u64 = 0x43b;
/// GICD_CTLR.ARE_NS and DS, always set on our GICv3: one security state, affinity routing only.
const CTLR_ARE_DS: u64 = 1 << 4 | 1 << 6;

/// `(register index, interrupts per 32 bits)` helpers: the 32-bit half of a 64-interrupt bitmap at `offset`.
const fn half(map: u64, offset: u64) -> u64 {
    match offset & !3 {
        0 => map & 0xffff_ffff,
        4 => map >> 32,
        _ => 0,
    }
}

const fn from_half(value: u64, offset: u64) -> u64 {
    match offset & !3 {
        0 => value & 0xffff_ffff,
        4 => value << 32,
        _ => 0,
    }
}

impl Gic {
    /// Reads the distributor.
    #[must_use]
    pub fn distributor_read(&self, offset: u64, width: Width) -> u64 {
        let value = match offset {
            CTLR => match self.version {
                Version::V2 => u64::from(self.control),
                Version::V3 => u64::from(self.control) | CTLR_ARE_DS,
            },
            // ITLinesNumber = INTERRUPTS / 32 - 1; one CPU. GICv3: 10 bits of interrupt identifiers.
            TYPER => match self.version {
                Version::V2 => u64::from(INTERRUPTS / 32 - 1),
                Version::V3 => u64::from(INTERRUPTS / 32 - 1) | 9 << 19,
            },
            IIDR => IMPLEMENTER,
            V2_PIDR2 if matches!(self.version, Version::V2) => 0x2b,
            V3_PIDR2 if matches!(self.version, Version::V3) => 0x3b,
            _ => return self.bank_read(offset, width),
        };
        width.mask(value)
    }

    /// Writes the distributor.
    pub fn distributor_write(&mut self, offset: u64, width: Width, value: u64) {
        match offset {
            CTLR => self.control = (value & 3) as u32,
            SGIR if matches!(self.version, Version::V2) => {
                // Target list filter 0: the list, bit 0 is this CPU; 2: this CPU.
                let to_self = match value >> 24 & 3 {
                    0 => value >> 16 & 1 != 0,
                    2 => true,
                    _ => false,
                };
                if to_self {
                    self.send_sgi((value & 15) as u32);
                }
            }
            _ => self.bank_write(offset, width, value),
        }
    }

    /// Reads the GICv3 redistributor (both frames).
    #[must_use]
    pub fn redistributor_read(&self, offset: u64, width: Width) -> u64 {
        if let Some(offset) = offset.checked_sub(SGI_FRAME) {
            return if private(offset) {
                self.bank_read(offset, width)
            } else {
                0
            };
        }
        let value = match offset {
            IIDR_GICR => IMPLEMENTER,
            // Last (bit 4): the only redistributor; affinity and processor number 0.
            GICR_TYPER => 1 << 4,
            GICR_WAKER => {
                // ChildrenAsleep follows ProcessorSleep at once.
                u64::from(self.asleep) | u64::from(self.asleep) << 1
            }
            V3_PIDR2 => 0x3b,
            _ => 0,
        };
        width.mask(value)
    }

    /// Writes the GICv3 redistributor (both frames).
    pub fn redistributor_write(&mut self, offset: u64, width: Width, value: u64) {
        if let Some(offset) = offset.checked_sub(SGI_FRAME) {
            if private(offset) {
                self.bank_write(offset, width, value);
            }
        } else if offset == GICR_WAKER {
            self.asleep = (value & 1 << 1) as u32;
        }
    }

    fn bank_read(&self, offset: u64, width: Width) -> u64 {
        let active = self.in_list;
        let pending = self.pending | (self.line & !self.edge);
        let value = match offset {
            IGROUPR..0x100 => half(self.group, offset - IGROUPR),
            ISENABLER..ICENABLER => half(self.enabled, offset - ISENABLER),
            ICENABLER..ISPENDR => half(self.enabled, offset - ICENABLER),
            ISPENDR..ICPENDR => half(pending, offset - ISPENDR),
            ICPENDR..ISACTIVER => half(pending, offset - ICPENDR),
            ISACTIVER..0x380 => half(active, offset - ISACTIVER),
            0x380..IPRIORITYR => half(active, offset - 0x380),
            IPRIORITYR..ITARGETSR => {
                return gather(width, |byte| {
                    self.priority
                        .get((offset - IPRIORITYR + byte) as usize)
                        .copied()
                        .unwrap_or(0)
                });
            }
            // One CPU: every interrupt that exists targets CPU 0 (GICv2); reserved in GICv3.
            ITARGETSR..ICFGR if matches!(self.version, Version::V2) => {
                return gather(width, |byte| {
                    u8::from(offset - ITARGETSR + byte < u64::from(INTERRUPTS))
                });
            }
            ICFGR..0xd00 => config_read(self.edge, offset - ICFGR),
            _ => 0,
        };
        // A byte of a 32-bit register may be read alone in the byte-accessible ones only; others give the low part.
        width.mask(value >> (8 * (offset & 3)))
    }

    fn bank_write(&mut self, offset: u64, width: Width, value: u64) {
        let value = width.mask(value);
        match offset {
            IGROUPR..0x100 => self.group = merge(self.group, value, offset - IGROUPR),
            ISENABLER..ICENABLER => self.enabled |= from_half(value, offset - ISENABLER),
            ICENABLER..ISPENDR => self.enabled &= !from_half(value, offset - ICENABLER),
            ISPENDR..ICPENDR => {
                self.pending |= from_half(value, offset - ISPENDR) & !bit(VIRTUAL_TIMER);
            }
            ICPENDR..ISACTIVER => {
                // The timer's event is a level that the guest ends at the timer, not here.
                self.pending &= !(from_half(value, offset - ICPENDR) & !bit(VIRTUAL_TIMER));
            }
            IPRIORITYR..ITARGETSR => {
                for byte in 0..width.bytes() {
                    if let Some(priority) =
                        self.priority.get_mut((offset - IPRIORITYR + byte) as usize)
                    {
                        *priority = (value >> (8 * byte)) as u8;
                    }
                }
            }
            ICFGR..0xd00 => {
                // SGIs (first register) are fixed.
                if let Some(shift) = (offset - ICFGR).checked_sub(4).map(|at| (at / 4 + 1) * 16) {
                    for pair in 0..16 {
                        let target = bit((shift + pair) as u32);
                        if value >> (2 * pair + 1) & 1 != 0 {
                            self.edge |= target;
                        } else {
                            self.edge &= !target;
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

const IIDR_GICR: u64 = 0x004;

/// Whether a register of the SGI frame is one of its private interrupts'.
const fn private(offset: u64) -> bool {
    matches!(offset,
        0x080..0x084 | 0x100..0x104 | 0x180..0x184 | 0x200..0x204 | 0x280..0x284 | 0x300..0x304 | 0x380..0x384
        | 0x400..0x420 | 0xc00..0xc08)
}

fn gather(width: Width, mut byte_at: impl FnMut(u64) -> u8) -> u64 {
    let mut value = 0;
    for byte in 0..width.bytes() {
        value |= u64::from(byte_at(byte)) << (8 * byte);
    }
    value
}

const fn merge(map: u64, value: u64, offset: u64) -> u64 {
    match offset & !3 {
        0 => map & !0xffff_ffff | value & 0xffff_ffff,
        4 => map & 0xffff_ffff | value << 32,
        _ => map,
    }
}

fn config_read(edge: u64, offset: u64) -> u64 {
    let first = offset / 4 * 16;
    let mut value = 0;
    for pair in 0..16 {
        if edge & bit((first + pair) as u32) != 0 {
            value |= 2 << (2 * pair);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gic::tests::FakeLists;
    use crate::gic::{Level, Lists};
    use proptest::prelude::*;

    /// What Linux's GICv2 driver does before it uses an interrupt.
    #[test]
    fn a_gicv2_guest_sets_up_and_gets_an_interrupt() {
        let mut gic = Gic::new(Version::V2);
        assert_eq!(gic.distributor_read(TYPER, Width::Word) & 0x1f, 1);
        assert_eq!(gic.distributor_read(ITARGETSR, Width::Word), 0x0101_0101);
        gic.distributor_write(IPRIORITYR + 48, Width::Word, 0xa0a0_a0a0);
        assert_eq!(gic.distributor_read(IPRIORITYR + 49, Width::Byte), 0xa0);
        gic.distributor_write(CTLR, Width::Word, 1);
        gic.set_line(48, Level::High);
        let mut lists = FakeLists::default();
        gic.flush(&mut lists);
        assert_eq!(lists.held[0], None, "not enabled yet");
        gic.distributor_write(ISENABLER + 4, Width::Word, 1 << 16);
        gic.flush(&mut lists);
        assert_eq!(lists.held[0], Some(48));
        gic.distributor_write(SGIR, Width::Word, 2 << 24 | 5);
        gic.flush(&mut lists);
        assert_eq!(lists.held[1], Some(5));
    }

    #[test]
    fn a_gicv3_guest_finds_its_redistributor() {
        let mut gic = Gic::new(Version::V3);
        assert_eq!(gic.distributor_read(V3_PIDR2, Width::Word) >> 4 & 15, 3);
        assert_eq!(gic.redistributor_read(V3_PIDR2, Width::Word) >> 4 & 15, 3);
        assert_ne!(
            gic.redistributor_read(GICR_TYPER, Width::Double) & 1 << 4,
            0
        );
        assert_ne!(gic.redistributor_read(GICR_WAKER, Width::Word) & 4, 0);
        gic.redistributor_write(GICR_WAKER, Width::Word, 0);
        assert_eq!(gic.redistributor_read(GICR_WAKER, Width::Word), 0);
        gic.redistributor_write(SGI_FRAME + ISENABLER, Width::Word, 1 << 27);
        gic.distributor_write(CTLR, Width::Word, 2);
        gic.timer_fired();
        let mut lists = FakeLists::default();
        gic.flush(&mut lists);
        assert_eq!(lists.held[0], Some(27));
    }

    #[test]
    fn trigger_configuration_is_kept_and_sgis_stay_edges() {
        let mut gic = Gic::new(Version::V2);
        gic.distributor_write(ICFGR + 12, Width::Word, 2);
        assert_eq!(gic.distributor_read(ICFGR + 12, Width::Word), 2);
        gic.distributor_write(ICFGR, Width::Word, 0);
        assert_eq!(gic.distributor_read(ICFGR, Width::Word), 0xaaaa_aaaa);
    }

    proptest! {
        #[test]
        fn any_access_is_survived(offset in 0u64..0x2_0000, value in any::<u64>(), width in 0u8..4) {
            let width = [Width::Byte, Width::Half, Width::Word, Width::Double][usize::from(width)];
            for version in [Version::V2, Version::V3] {
                let mut gic = Gic::new(version);
                gic.distributor_write(offset, width, value);
                gic.redistributor_write(offset, width, value);
                let _ = gic.distributor_read(offset, width);
                let _ = gic.redistributor_read(offset, width);
                let mut lists = FakeLists::default();
                gic.flush(&mut lists);
                let _ = lists.inject(1, 0, 0, 3);
            }
        }
    }
}
