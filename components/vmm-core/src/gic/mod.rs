//! The virtual interrupt controller: the distributor (and GICv3 redistributor) of one CPU, and the list registers.
//!
//! The CPU interface is hardware's. This module decides which interrupt goes into which list register; the kernel
//! reports the end of each by a maintenance fault. What it cannot see is whether a listed interrupt was acknowledged
//! already, so "active" reads as "in a list register" (IHI 0048B, 4.3.7: a guest with one CPU uses it for debugging
//! only).
//!
//! Invariants: an interrupt is in at most one list register; one that is disabled, or in no state to be delivered,
//! is never put into one.

mod registers;

use protocol::startup::Gic as Version;

/// Interrupts: 16 SGIs, 16 PPIs, 32 SPIs. One bit each in a `u64`.
pub const INTERRUPTS: u32 = 64;
/// List registers used. Four is the least that a GICv2 of the supported boards has.
pub const LIST_REGISTERS: usize = 4;
/// The virtual timer's interrupt.
pub const VIRTUAL_TIMER: u32 = 27;

/// The physical end: list registers of the vCPU.
pub trait Lists {
    /// Puts an interrupt into a list register. Priority is 0..=31 (five bits), group 0 or 1.
    ///
    /// # Errors
    /// [`ListBusy`] when the register still holds one.
    fn inject(&mut self, interrupt: u16, priority: u8, group: u8, list: u8)
    -> Result<(), ListBusy>;
    /// The virtual timer's interrupt may fire again.
    fn acknowledge_timer(&mut self);
}

/// The list register still holds an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListBusy;

/// The controller's state.
#[derive(Debug)]
pub struct Gic {
    version: Version,
    /// GICD_CTLR's group enables.
    control: u32,
    enabled: u64,
    /// Latched: edges, SGIs, and the timer's event.
    pending: u64,
    /// Level of each line.
    line: u64,
    /// 1 = edge-triggered.
    edge: u64,
    group: u64,
    priority: [u8; INTERRUPTS as usize],
    lists: [Option<u8>; LIST_REGISTERS],
    in_list: u64,
    /// GICR_WAKER.ProcessorSleep.
    asleep: u32,
}

impl Gic {
    /// After reset: everything disabled; SGIs are edge-triggered.
    #[must_use]
    pub const fn new(version: Version) -> Self {
        Self {
            version,
            control: 0,
            // SGIs are always enabled on GICv2 implementations such as GIC-400.
            enabled: match version {
                Version::V2 => 0xffff,
                Version::V3 => 0,
            },
            pending: 0,
            line: 0,
            edge: 0xffff,
            group: 0,
            priority: [0; INTERRUPTS as usize],
            lists: [None; LIST_REGISTERS],
            in_list: 0,
            asleep: 1 << 1,
        }
    }

    /// Sets or clears an interrupt's line.
    pub fn set_line(&mut self, interrupt: u32, level: Level) {
        let bit = bit(interrupt);
        match level {
            Level::High => {
                if self.line & bit == 0 {
                    self.pending |= bit & self.edge;
                }
                self.line |= bit;
            }
            Level::Low => self.line &= !bit,
        }
    }

    /// The virtual timer fired; its interrupt stays masked until it is acknowledged.
    pub fn timer_fired(&mut self) {
        self.pending |= bit(VIRTUAL_TIMER);
    }

    /// A software-generated interrupt to the CPU itself.
    pub fn send_sgi(&mut self, number: u32) {
        self.pending |= bit(number & 15);
    }

    /// ICC_SGI1R_EL1 (IHI 0069, 12.2.24): affinity 0.0.0.x, bit 0 of the target list is this CPU.
    pub fn sgi_register(&mut self, value: u64) {
        let to_others = value >> 40 & 1 != 0;
        let affinity = value & (0xff << 48 | 0xff << 32 | 0xff << 16) | value >> 44 & 0xf;
        if !to_others && affinity == 0 && value & 1 != 0 {
            self.send_sgi((value >> 24 & 15) as u32);
        }
    }

    /// Interrupts that could be delivered now.
    const fn deliverable(&self) -> u64 {
        if self.control & 3 == 0 {
            return 0;
        }
        (self.pending | (self.line & !self.edge)) & self.enabled & !self.in_list
    }

    /// Whether an interrupt waits for a list register or sits in one: a guest in WFI must then go on.
    #[must_use]
    pub const fn has_work(&self) -> bool {
        self.deliverable() != 0 || self.in_list != 0
    }

    /// Whether an interrupt waits to be put into a list register.
    #[must_use]
    pub const fn has_deliverable(&self) -> bool {
        self.deliverable() != 0
    }

    /// Puts what can be delivered into free list registers, highest priority first.
    pub fn flush(&mut self, hardware: &mut impl Lists) {
        let mut waiting = self.deliverable();
        for index in 0..LIST_REGISTERS {
            if waiting == 0 {
                return;
            }
            if !matches!(self.lists.get(index), Some(None)) {
                continue;
            }
            let Some(interrupt) = self.most_urgent(waiting) else {
                return;
            };
            let priority = self.priority_of(interrupt) >> 3;
            let group = match self.version {
                // GICV without security: Linux enables group 0 of its view.
                Version::V2 => 0,
                Version::V3 => 1,
            };
            if hardware
                .inject(interrupt as u16, priority, group, index as u8)
                .is_err()
            {
                continue;
            }
            waiting &= !bit(interrupt);
            self.pending &= !bit(interrupt);
            self.in_list |= bit(interrupt);
            if let Some(list) = self.lists.get_mut(index) {
                *list = Some(interrupt as u8);
            }
        }
    }

    fn most_urgent(&self, mut waiting: u64) -> Option<u32> {
        let mut best: Option<(u8, u32)> = None;
        while waiting != 0 {
            let interrupt = waiting.trailing_zeros();
            waiting &= waiting - 1;
            let priority = self.priority_of(interrupt);
            if best.is_none_or(|(least, _)| priority < least) {
                best = Some((priority, interrupt));
            }
        }
        best.map(|(_, interrupt)| interrupt)
    }

    fn priority_of(&self, interrupt: u32) -> u8 {
        self.priority.get(interrupt as usize).copied().unwrap_or(0)
    }

    /// A maintenance fault: the guest finished the interrupt of a list register. `None` when the kernel does not know
    /// which; then every register is tried again, and a busy one says so.
    pub fn maintenance(&mut self, list: Option<u8>, hardware: &mut impl Lists) {
        match list {
            Some(index) => {
                if let Some(finished) = self
                    .lists
                    .get_mut(usize::from(index))
                    .and_then(Option::take)
                {
                    self.in_list &= !bit(u32::from(finished));
                    if u32::from(finished) == VIRTUAL_TIMER {
                        hardware.acknowledge_timer();
                    }
                }
            }
            None => {
                let timer_listed = self.in_list & bit(VIRTUAL_TIMER) != 0;
                self.lists = [None; LIST_REGISTERS];
                self.in_list = 0;
                if timer_listed {
                    hardware.acknowledge_timer();
                }
            }
        }
        self.flush(hardware);
    }
}

/// The level of an interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Asserted.
    High,
    /// Not asserted.
    Low,
}

/// The bit of an interrupt; no bit for one that does not exist.
const fn bit(interrupt: u32) -> u64 {
    if interrupt < INTERRUPTS {
        1 << interrupt
    } else {
        0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// List registers with the hardware's rules.
    #[derive(Default)]
    pub struct FakeLists {
        pub held: [Option<u16>; LIST_REGISTERS],
        pub timer_acknowledged: u32,
    }

    impl Lists for FakeLists {
        fn inject(
            &mut self,
            interrupt: u16,
            priority: u8,
            group: u8,
            list: u8,
        ) -> Result<(), ListBusy> {
            assert!(priority < 32 && group < 2 && u32::from(interrupt) < INTERRUPTS);
            let slot = &mut self.held[usize::from(list)];
            if slot.is_some() {
                return Err(ListBusy);
            }
            *slot = Some(interrupt);
            Ok(())
        }
        fn acknowledge_timer(&mut self) {
            self.timer_acknowledged += 1;
        }
    }

    fn ready() -> Gic {
        let mut gic = Gic::new(Version::V3);
        gic.control = 2;
        gic.enabled = u64::MAX;
        gic
    }

    #[test]
    fn a_level_interrupt_comes_again_until_its_line_falls() {
        let (mut gic, mut lists) = (ready(), FakeLists::default());
        gic.set_line(48, Level::High);
        gic.flush(&mut lists);
        assert_eq!(lists.held[0], Some(48));
        gic.flush(&mut lists);
        assert_eq!(lists.held[1], None, "once only");
        lists.held[0] = None;
        gic.maintenance(Some(0), &mut lists);
        assert_eq!(lists.held[0], Some(48), "the line is still high");
        gic.set_line(48, Level::Low);
        lists.held[0] = None;
        gic.maintenance(Some(0), &mut lists);
        assert_eq!(lists.held[0], None);
        assert!(!gic.has_work());
    }

    #[test]
    fn the_timer_is_acknowledged_when_the_guest_is_done_with_it() {
        let (mut gic, mut lists) = (ready(), FakeLists::default());
        gic.timer_fired();
        gic.flush(&mut lists);
        assert_eq!(lists.timer_acknowledged, 0);
        lists.held[0] = None;
        gic.maintenance(Some(0), &mut lists);
        assert_eq!(lists.timer_acknowledged, 1);
        assert!(!gic.has_work());
    }

    #[test]
    fn the_most_urgent_goes_first_and_the_fifth_waits() {
        let (mut gic, mut lists) = (ready(), FakeLists::default());
        gic.priority[50] = 0x10;
        for interrupt in [48, 49, 50, 51, 52] {
            gic.priority[interrupt as usize] |= 0x80;
            gic.set_line(interrupt, Level::High);
        }
        gic.priority[50] = 0x10;
        gic.flush(&mut lists);
        assert_eq!(lists.held, [Some(50), Some(48), Some(49), Some(51)]);
        assert!(gic.has_deliverable());
        lists.held[2] = None;
        gic.set_line(49, Level::Low);
        gic.maintenance(Some(2), &mut lists);
        assert_eq!(lists.held[2], Some(52));
    }

    #[test]
    fn an_sgi_reaches_only_oneself() {
        let mut gic = ready();
        gic.sgi_register(1 << 40 | 3 << 24 | 1);
        gic.sgi_register(1 << 16 | 3 << 24 | 1);
        gic.sgi_register(3 << 24 | 2);
        assert_eq!(gic.pending, 0);
        gic.sgi_register(3 << 24 | 1);
        assert_eq!(gic.pending, 1 << 3);
    }

    proptest! {
        #[test]
        fn an_interrupt_is_in_one_list_register_at_most(ops in proptest::collection::vec((0u8..7, any::<u64>(), any::<u64>()), 0..200)) {
            let (mut gic, mut lists) = (Gic::new(Version::V2), FakeLists::default());
            for (op, a, b) in ops {
                match op {
                    0 => gic.set_line(a as u32, if b & 1 == 0 { Level::Low } else { Level::High }),
                    1 => gic.timer_fired(),
                    2 => gic.sgi_register(a),
                    3 => gic.distributor_write(a & 0xfff, crate::syndrome::Width::Word, b),
                    4 => { gic.distributor_write(0, crate::syndrome::Width::Word, 1); }
                    5 => {
                        let index = (a % 4) as usize;
                        lists.held[index] = None;
                        gic.maintenance(Some(a as u8), &mut lists);
                    }
                    _ => gic.flush(&mut lists),
                }
                let mut seen: Vec<u8> = gic.lists.iter().flatten().copied().collect();
                seen.sort_unstable();
                let count = seen.len();
                seen.dedup();
                prop_assert_eq!(count, seen.len());
                prop_assert_eq!(gic.in_list.count_ones() as usize, count);
            }
        }
    }
}
