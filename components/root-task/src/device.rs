//! Frames of devices, from the device untypeds.

use crate::cspace::Devices;
use crate::kernel::{Doing, Everything, Failure, ROOT, slot};
use cap::{Frame, ObjectType, Untyped};
use root_task::memory::steps_to;
use sel4_sys::PAGE_BITS;

/// How much of each device untyped is behind its watermark: devices are asked for in ascending order of their addresses.
pub struct DeviceMemory {
    devices: Devices,
    used: heapless::Vec<u64, { sel4_sys::MAX_BOOT_UNTYPEDS }>,
}

impl DeviceMemory {
    /// Nothing used yet.
    #[must_use]
    pub fn new(devices: Devices) -> Self {
        let used = devices.iter().map(|_| 0).collect();
        Self { devices, used }
    }

    /// The 4 KiB frame at the physical address `paddr`.
    pub fn frame(&mut self, kernel: &mut Everything, paddr: u64) -> Result<Frame, Failure> {
        let (device, used) = self
            .devices
            .iter()
            .zip(self.used.iter_mut())
            .find(|(device, _)| paddr >= device.paddr && (paddr - device.paddr) >> device.bits == 0)
            .ok_or(Failure::Unusable(
                "no device memory is at a device's address",
            ))?;
        let target = paddr - device.paddr;
        let steps = steps_to(*used, target).ok_or(Failure::Unusable(
            "devices must be asked for in ascending order",
        ))?;
        let untyped = Untyped::new(device.slot);
        for bits in steps {
            // Skips memory. The children stay: deleting the last one would reset the untyped.
            let skipped = kernel.slots.take(1)?;
            untyped
                .retype(ObjectType::Untyped, bits, ROOT, skipped, 1)
                .doing("skipping device memory")?;
        }
        let frame = kernel.slots.take(1)?;
        untyped
            .retype(ObjectType::SmallPage, 0, ROOT, frame, 1)
            .doing("making a device's frame")?;
        *used = target + (1 << PAGE_BITS);
        let frame = Frame::new(frame);
        match frame
            .address()
            .doing("asking for a device frame's address")?
        {
            address if address == paddr => Ok(frame),
            _ => {
                slot(frame.cptr())
                    .delete()
                    .doing("deleting a wrong frame")?;
                Err(Failure::Unusable(
                    "a device's frame is not where it should be",
                ))
            }
        }
    }
}
