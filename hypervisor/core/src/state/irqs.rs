//! Which interrupts have a handler, and whom they signal.

use crate::object::Slot;
use crate::object::mem::Ref;
use crate::object::slot::Row;
use core::cell::Cell;

/// What becomes of an interrupt.
pub struct IrqState {
    /// One slot for each interrupt number, holding the notification capability that it signals.
    slots: Cell<Option<Row>>,
    /// One bit for each interrupt that has a handler capability or is the kernel's own.
    issued: [Cell<u64>; 16],
}

impl IrqState {
    /// No interrupt known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            slots: Cell::new(None),
            issued: [const { Cell::new(0) }; 16],
        }
    }

    /// Makes known the empty slots that boot set aside (at most 1024).
    pub fn set_slots(&self, slots: Row) {
        self.slots.set(Some(slots));
    }

    /// The slot of an interrupt.
    #[inline]
    #[must_use]
    pub fn slot(&self, irq: u64) -> Option<Ref<Slot>> {
        self.slots.get()?.get(irq)
    }

    /// Number of slots.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.slots.get().map_or(0, Row::count)
    }

    /// Whether an interrupt has a handler capability or is the kernel's own.
    #[must_use]
    pub fn is_issued(&self, irq: u64) -> bool {
        self.issued
            .get((irq >> 6) as usize)
            .is_some_and(|word| (word.get() >> (irq & 63)) & 1 == 1)
    }

    /// Marks an interrupt as taken: by a handler capability, or by boot for the kernel's own.
    pub fn reserve(&self, irq: u64) {
        if let Some(word) = self.issued.get((irq >> 6) as usize) {
            word.set(word.get() | (1 << (irq & 63)));
        }
    }

    pub(crate) fn release(&self, irq: u64) {
        if let Some(word) = self.issued.get((irq >> 6) as usize) {
            word.set(word.get() & !(1 << (irq & 63)));
        }
    }
}

impl Default for IrqState {
    fn default() -> Self {
        Self::new()
    }
}
