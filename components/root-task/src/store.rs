//! The store: the guests' kernels and initrds, copied once into large frames that VMMs see read-only.

use crate::kernel::{Doing, Everything, Failure, Mapping, Source, map, slot};
use cap::{CapRights, Frame, ObjectType, VSpace};
use heapless::Vec;
use protocol::bundle::{FileKind, Header, MAX_FILES};
use protocol::layout::STORE_VADDR;
use protocol::startup::StoreFile;
use protocol::units::PIECE_BYTES;
use root_task::bundle;

/// Alignment of a file in the store.
const ALIGN: u64 = 64;

/// The store.
#[derive(Clone, Debug)]
pub struct Store {
    first_frame: u64,
    frames: u64,
    files: Vec<Option<StoreFile>, MAX_FILES>,
}

impl Store {
    /// Copies every file of a guest from the bundle.
    pub fn load(kernel: &mut Everything, bytes: &[u8], header: &Header) -> Result<Self, Failure> {
        let mut files = Vec::new();
        let mut end = 0u64;
        for file in &header.files {
            let place = (file.kind != FileKind::Component).then(|| {
                let start = end.next_multiple_of(ALIGN);
                end = start + file.stored_bytes;
                StoreFile {
                    vaddr: STORE_VADDR + start,
                    stored_bytes: file.stored_bytes,
                    bytes: file.bytes,
                    packing: file.packing,
                }
            });
            files.push(place).map_err(|_| Failure::NoSlot)?;
        }
        let frames = end.div_ceil(PIECE_BYTES);
        let first_frame = kernel.slots.take(frames)?;
        for index in 0..frames {
            let bits = sel4_sys::LARGE_PAGE_BITS;
            let grant = kernel
                .memory
                .take(bits, 1)
                .ok_or(Failure::NoMemory { bits })?;
            cap::Untyped::new(grant.untyped)
                .retype(
                    ObjectType::LargePage,
                    0,
                    crate::kernel::ROOT,
                    first_frame + index,
                    1,
                )
                .doing("making a frame of the store")?;
        }
        let store = Self {
            first_frame,
            frames,
            files,
        };
        store.copy_in(kernel, bytes, header)?;
        Ok(store)
    }

    /// Fills frame by frame with the parts of the files that lie in it.
    fn copy_in(
        &self,
        kernel: &mut Everything,
        bytes: &[u8],
        header: &Header,
    ) -> Result<(), Failure> {
        for index in 0..self.frames {
            let frame = Frame::new(self.first_frame + index);
            let window = (STORE_VADDR + index * PIECE_BYTES, PIECE_BYTES);
            let root = VSpace::new(sel4_sys::init_slot::VSPACE);
            let scratch = rt::window::SCRATCH_LARGE;
            map(kernel, frame, root, scratch.vaddr(), Mapping::Write)?;
            for (file, place) in header.files.iter().zip(&self.files) {
                let (Some(place), Some(content)) = (place, bundle::content(bytes, file)) else {
                    continue;
                };
                let Some((from, to, len)) = part(place.vaddr, place.stored_bytes, window) else {
                    continue;
                };
                let piece = usize::try_from(from)
                    .ok()
                    .zip(usize::try_from(len).ok())
                    .and_then(|(from, len)| content.get(from..from + len))
                    .ok_or(Failure::Unusable("a file of the bundle is cut off"))?;
                scratch
                    .write(to, piece)
                    .map_err(|_| Failure::Unusable("a part of a file leaves its frame"))?;
            }
            frame.unmap().doing("unmapping a frame of the store")?;
        }
        Ok(())
    }

    /// Where a file is; `None` for an index that is no guest's file.
    #[must_use]
    pub fn file(&self, index: u16) -> Option<StoreFile> {
        self.files.get(usize::from(index)).copied().flatten()
    }

    /// Frames in the store.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Maps the frames that hold any of `files` read-only into a VMM's address space.
    pub fn map_into(
        &self,
        source: &mut dyn Source,
        vspace: VSpace,
        files: &[StoreFile],
    ) -> Result<(), Failure> {
        for index in 0..self.frames {
            let vaddr = STORE_VADDR + index * PIECE_BYTES;
            let window = (vaddr, PIECE_BYTES);
            let needed = files
                .iter()
                .any(|file| part(file.vaddr, file.stored_bytes, window).is_some());
            if !needed {
                continue;
            }
            let copy = source.empty_slot()?;
            slot(self.first_frame + index)
                .copy_to(slot(copy), CapRights::READ)
                .doing("copying a frame of the store")?;
            map(source, Frame::new(copy), vspace, vaddr, Mapping::Read)?;
        }
        Ok(())
    }
}

/// The part of `[vaddr, vaddr + bytes)` that lies in a window (first address, bytes), as (offset in the range, offset in
/// the window, length); `None` when there is none.
fn part(vaddr: u64, bytes: u64, window: (u64, u64)) -> Option<(u64, u64, u64)> {
    let start = vaddr.max(window.0);
    let end = (vaddr + bytes).min(window.0 + window.1);
    (start < end).then(|| (start - vaddr, start - window.0, end - start))
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn parts_of_a_file_in_a_window() {
        assert_eq!(part(10, 10, (0, 15)), Some((0, 10, 5)));
        assert_eq!(part(10, 10, (15, 15)), Some((5, 0, 5)));
        assert_eq!(part(10, 10, (12, 3)), Some((2, 0, 3)));
        assert_eq!(part(10, 10, (20, 5)), None);
        assert_eq!(part(10, 0, (0, 100)), None);
    }
}
