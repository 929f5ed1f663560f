//! virtio 1.3 devices on the MMIO transport, device side.
//!
//! [`transport`] is the register file, [`queue`] the split virtqueue; the devices are [`console`], [`balloon`] and
//! [`hotplug`] (virtio-mem).

pub mod balloon;
pub mod console;
pub mod hotplug;
pub mod queue;
pub mod transport;
