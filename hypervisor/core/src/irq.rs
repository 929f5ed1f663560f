//! Interrupts: capabilities to them, and the notifications that they signal.

use crate::mem::Ref;
use crate::object::Slot;
use core::cell::Cell;

/// What becomes of an interrupt.
pub struct IrqState {
    /// One slot for each interrupt number, holding the notification capability that it signals. Boot sets this aside
    /// and makes it known; `None` before.
    pub slots: Cell<Option<Ref<Slot>>>,
    /// Number of those slots.
    pub count: Cell<u64>,
    /// One bit for each interrupt that has a handler capability.
    pub issued: [Cell<u64>; 16],
}

impl IrqState {
    /// No interrupt known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            slots: Cell::new(None),
            count: Cell::new(0),
            issued: [const { Cell::new(0) }; 16],
        }
    }
}

impl Default for IrqState {
    fn default() -> Self {
        Self::new()
    }
}
