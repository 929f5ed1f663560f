//! Memory that others change: a VMM's window onto its guest, the store of guest files, the root task's scratch pages.
//!
//! A window is a range of addresses that `protocol::layout` reserves; no Rust object lies in it. Reads and writes copy,
//! with volatile accesses, so that nothing is assumed about bytes that a guest changes meanwhile. A page of the guest
//! that was taken away faults; the copies of [`crate::guarded`] survive that.

use core::ptr;
use protocol::layout::{GUEST_WINDOW_VADDR, STORE_VADDR};

/// Access outside the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfWindow {
    /// Where the access began, from the window's first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// The window's length in bytes.
    pub window: u64,
}

/// Bytes of the window onto the guest: intermediate physical addresses up to 2^39.
const GUEST_WINDOW_BYTES: u64 = 1 << 39;
/// Bytes of the store's window.
const STORE_BYTES: u64 = 1 << 30;
/// Bytes of a large page.
const LARGE_BYTES: u64 = 2 << 20;

/// A range of reserved addresses.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    base: u64,
    bytes: u64,
}

/// A VMM's window onto its guest: offset = intermediate physical address.
pub const GUEST: Window = Window {
    base: GUEST_WINDOW_VADDR,
    bytes: GUEST_WINDOW_BYTES,
};

/// Where the root task maps a 4 KiB frame to fill it: the addresses at which a VMM has the store.
pub const SCRATCH_SMALL: Window = Window {
    base: STORE_VADDR,
    bytes: 4096,
};

/// Where the root task maps a 2 MiB frame to fill it.
pub const SCRATCH_LARGE: Window = Window {
    base: STORE_VADDR + LARGE_BYTES,
    bytes: LARGE_BYTES,
};

impl Window {
    /// The part of the window from `offset` on, `bytes` long.
    ///
    /// # Errors
    /// [`OutOfWindow`] when that is not wholly inside.
    pub fn part(self, offset: u64, bytes: u64) -> Result<Self, OutOfWindow> {
        self.check(offset, bytes)?;
        Ok(Self {
            base: self.base + offset,
            bytes,
        })
    }

    /// The address of its first byte.
    #[must_use]
    pub const fn vaddr(self) -> u64 {
        self.base
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    pub(crate) fn check(self, offset: u64, len: u64) -> Result<u64, OutOfWindow> {
        match offset.checked_add(len) {
            Some(end) if end <= self.bytes => Ok(self.base + offset),
            _ => Err(OutOfWindow {
                offset,
                len,
                window: self.bytes,
            }),
        }
    }

    /// Copies from the window.
    ///
    /// # Errors
    /// [`OutOfWindow`]; nothing was copied.
    pub fn read(self, offset: u64, into: &mut [u8]) -> Result<(), OutOfWindow> {
        let mut from = self.check(offset, into.len() as u64)?;
        let (head, rest) = into.split_at_mut(head_bytes(from, into.len()));
        let (words, tail) = rest.as_chunks_mut::<8>();
        for byte in head {
            *byte = read_byte(from);
            from += 1;
        }
        for word in words {
            // SAFETY: `check` put the whole copy inside a window (module documentation: mapped memory that holds no Rust
            // object, or a fault); `head_bytes` made the address 8-byte aligned.
            *word = unsafe { ptr::read_volatile(from as *const u64) }.to_ne_bytes();
            from += 8;
        }
        for byte in tail {
            *byte = read_byte(from);
            from += 1;
        }
        Ok(())
    }

    /// Copies to the window.
    ///
    /// # Errors
    /// [`OutOfWindow`]; nothing was copied.
    pub fn write(self, offset: u64, from: &[u8]) -> Result<(), OutOfWindow> {
        let mut to = self.check(offset, from.len() as u64)?;
        let (head, rest) = from.split_at(head_bytes(to, from.len()));
        let (words, tail) = rest.as_chunks::<8>();
        for byte in head {
            write_byte(to, *byte);
            to += 1;
        }
        for word in words {
            // SAFETY: as in `read`, for writing.
            unsafe { ptr::write_volatile(to as *mut u64, u64::from_ne_bytes(*word)) };
            to += 8;
        }
        for byte in tail {
            write_byte(to, *byte);
            to += 1;
        }
        Ok(())
    }

    /// Reads a `u16` in one access if aligned (little-endian, as the guest's devices have it).
    ///
    /// # Errors
    /// [`OutOfWindow`].
    pub fn read_u16(self, offset: u64) -> Result<u16, OutOfWindow> {
        let from = self.check(offset, 2)?;
        if from % 2 == 0 {
            // SAFETY: as in `read`; aligned.
            return Ok(u16::from_le(unsafe {
                ptr::read_volatile(from as *const u16)
            }));
        }
        let mut bytes = [0; 2];
        self.read(offset, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Writes a `u16` in one access if aligned.
    ///
    /// # Errors
    /// [`OutOfWindow`].
    pub fn write_u16(self, offset: u64, value: u16) -> Result<(), OutOfWindow> {
        let to = self.check(offset, 2)?;
        if to % 2 == 0 {
            // SAFETY: as in `write`; aligned.
            unsafe { ptr::write_volatile(to as *mut u16, value.to_le()) };
            return Ok(());
        }
        self.write(offset, &value.to_le_bytes())
    }

    /// Reads a `u32` in one access if aligned.
    ///
    /// # Errors
    /// [`OutOfWindow`].
    pub fn read_u32(self, offset: u64) -> Result<u32, OutOfWindow> {
        let from = self.check(offset, 4)?;
        if from % 4 == 0 {
            // SAFETY: as in `read`; aligned.
            return Ok(u32::from_le(unsafe {
                ptr::read_volatile(from as *const u32)
            }));
        }
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes a `u32` in one access if aligned.
    ///
    /// # Errors
    /// [`OutOfWindow`].
    pub fn write_u32(self, offset: u64, value: u32) -> Result<(), OutOfWindow> {
        let to = self.check(offset, 4)?;
        if to % 4 == 0 {
            // SAFETY: as in `write`; aligned.
            unsafe { ptr::write_volatile(to as *mut u32, value.to_le()) };
            return Ok(());
        }
        self.write(offset, &value.to_le_bytes())
    }

    /// Reads a `u64` in one access if aligned.
    ///
    /// # Errors
    /// [`OutOfWindow`].
    pub fn read_u64(self, offset: u64) -> Result<u64, OutOfWindow> {
        let mut bytes = [0; 8];
        self.read(offset, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes a `u64` in one access if aligned.
    ///
    /// # Errors
    /// [`OutOfWindow`].
    pub fn write_u64(self, offset: u64, value: u64) -> Result<(), OutOfWindow> {
        self.write(offset, &value.to_le_bytes())
    }
}

/// Bytes of a copy of `len` bytes before `address` is 8-byte aligned.
const fn head_bytes(address: u64, len: usize) -> usize {
    let to_alignment = (address.wrapping_neg() & 7) as usize;
    if to_alignment < len {
        to_alignment
    } else {
        len
    }
}

fn read_byte(from: u64) -> u8 {
    // SAFETY: as in `Window::read`, whose `check` covered this address; a byte needs no alignment.
    unsafe { ptr::read_volatile(from as *const u8) }
}

fn write_byte(to: u64, byte: u8) {
    // SAFETY: as in `Window::write`, whose `check` covered this address; a byte needs no alignment.
    unsafe { ptr::write_volatile(to as *mut u8, byte) };
}

/// Bytes of the store, where the root task mapped the guests' files read-only and for ever. `None` outside the store's
/// window or on a host. A range that the startup page did not name may not be mapped and then faults.
#[must_use]
pub fn store(vaddr: u64, bytes: u64) -> Option<&'static [u8]> {
    let end = vaddr.checked_add(bytes)?;
    if vaddr < STORE_VADDR || end > STORE_VADDR + STORE_BYTES || cfg!(not(target_os = "none")) {
        return None;
    }
    let pointer = ptr::NonNull::new(vaddr as *mut u8)?;
    // SAFETY: (1) the range lies in the store's window, which the root task maps read-only before the VMM's first
    // instruction and never changes or unmaps while the VMM lives; (2) the root task has no writable mapping of it any
    // more; (3) every byte is a u8. A range that is not mapped is a fault of this component on first use.
    Some(unsafe { core::slice::from_raw_parts(pointer.as_ptr(), usize::try_from(bytes).ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(memory: &mut [u8]) -> Window {
        Window {
            base: memory.as_mut_ptr() as u64,
            bytes: memory.len() as u64,
        }
    }

    #[test]
    fn copies_of_every_alignment_and_length_arrive() {
        let mut memory = [0u8; 64];
        let window = over(&mut memory);
        for offset in 0..16 {
            for len in 0..40usize {
                let from: [u8; 40] = core::array::from_fn(|index| (index + len + 1) as u8);
                window.write(0, &[0; 64]).unwrap();
                window.write(offset, &from[..len]).unwrap();
                let mut back = [0; 64];
                window.read(0, &mut back).unwrap();
                let at = offset as usize;
                assert_eq!(&back[at..at + len], &from[..len]);
                assert!(
                    back[..at]
                        .iter()
                        .chain(&back[at + len..])
                        .all(|byte| *byte == 0)
                );
            }
        }
    }

    #[test]
    fn words_are_little_endian_at_any_address() {
        let mut memory = [0u8; 32];
        let window = over(&mut memory);
        for offset in 0..8 {
            window.write_u16(offset, 0x1234).unwrap();
            assert_eq!(window.read_u16(offset), Ok(0x1234));
            window.write_u32(offset, 0x1234_5678).unwrap();
            assert_eq!(window.read_u32(offset), Ok(0x1234_5678));
            window.write_u64(offset, 0x0102_0304_0506_0708).unwrap();
            assert_eq!(window.read_u64(offset), Ok(0x0102_0304_0506_0708));
            let mut bytes = [0; 2];
            window.read(offset, &mut bytes).unwrap();
            assert_eq!(bytes, [8, 7]);
        }
    }

    #[test]
    fn nothing_outside_is_touched() {
        let mut memory = [0u8; 16];
        let window = over(&mut memory[..8]);
        let error = OutOfWindow {
            offset: 1,
            len: 8,
            window: 8,
        };
        assert_eq!(window.write(1, &[1; 8]), Err(error));
        assert_eq!(window.read(1, &mut [0; 8]), Err(error));
        assert!(window.read_u64(u64::MAX).is_err());
        assert!(window.write_u16(7, 1).is_err());
        assert!(window.part(4, 5).is_err());
        assert_eq!(window.part(4, 4).unwrap().bytes(), 4);
        assert_eq!(memory, [0; 16]);
    }

    #[test]
    fn the_store_ends_where_it_ends() {
        assert!(store(STORE_VADDR - 1, 1).is_none());
        assert!(store(STORE_VADDR + STORE_BYTES, 1).is_none());
        assert!(store(u64::MAX, 2).is_none());
    }
}
