//! When the guest has its cushion in the balloon, and when it lives on it.

use crate::follow::Cushion;

/// The guest has come to rest when its kernel has taken nothing out of the cushion for so long, in milliseconds ...
const REST_MS: u64 = 2000;
/// ... and at least this part of what it sees is available.
const AVAILABLE_PART: u64 = 16;

/// The cushion of a guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cushioned {
    /// What the system description says, in pieces.
    whole: u32,
    /// The same, or nothing where the guest's drivers cannot have one.
    size: u32,
    used_ms: Option<u64>,
}

impl Cushioned {
    pub(super) const fn new(pieces: u32) -> Self {
        Self {
            whole: pieces,
            size: 0,
            used_ms: None,
        }
    }

    /// Whether the guest's drivers can have one.
    pub(super) const fn set_able(&mut self, is_able: bool) {
        self.size = if is_able { self.whole } else { 0 };
        if self.size == 0 {
            self.used_ms = None;
        }
    }

    /// The guest's kernel took something out of it, or waits for that.
    pub(super) const fn used(&mut self, now_ms: u64) {
        if self.size > 0 {
            self.used_ms = Some(now_ms);
        }
    }

    /// The guest said how much it has available.
    pub(super) const fn hear(&mut self, now_ms: u64, available_kib: u64, visible_kib: u64) {
        if let Some(used_ms) = self.used_ms
            && now_ms >= used_ms + REST_MS
            && available_kib >= visible_kib / AVAILABLE_PART
        {
            self.used_ms = None;
        }
    }

    /// What the guest is to have of it.
    pub(super) const fn wish(&self) -> Cushion {
        match self.used_ms {
            None => Cushion::Whole(self.size),
            Some(_) => Cushion::InUse,
        }
    }

    /// Pieces that may be plugged without a promise.
    pub(super) const fn unpromised(&self) -> u32 {
        match self.used_ms {
            None => self.size,
            Some(_) => 0,
        }
    }

    /// Pieces that lie in the balloon although nobody needs the guest's memory, at most.
    pub(super) const fn most(&self) -> u32 {
        self.size
    }
}
