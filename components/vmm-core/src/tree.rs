//! The guest's device tree.
//!
//! It says what the guest has and nothing else: startup memory (hot-plug memory is virtio-mem's to announce), one
//! CPU, PSCI by HVC, the interrupt controller, the virtual timer, the virtio-mmio devices.

use crate::fdt::{TreeError, Writer};
use protocol::layout::ipa;
use protocol::startup::Gic;

/// Phandle of the interrupt controller.
const GIC_PHANDLE: u32 = 1;
/// Devicetree interrupt type: shared (Linux `interrupt-controller/arm,gic.yaml`).
const SPI: u32 = 0;
/// Devicetree interrupt type: private.
const PPI: u32 = 1;
/// Active high, level-sensitive.
const LEVEL_HIGH: u32 = 4;
/// GICv2 private interrupts carry a CPU mask in bits 8-15: CPU 0.
const CPU0_MASK: u32 = 1 << 8;
/// The virtual timer's private interrupt: INTID 27, PPI 11.
const VIRTUAL_TIMER_PPI: u32 = 11;

/// What the tree says.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    /// Kernel command line.
    pub command_line: &'a str,
    /// First byte and byte after the initrd.
    pub initrd: Option<(u64, u64)>,
    /// Bytes of startup memory at [`ipa::RAM`].
    pub ram_bytes: u64,
    /// The interrupt controller.
    pub gic: Gic,
    /// Number of virtio-mmio devices.
    pub virtio_devices: u32,
    /// For the guest's random number generator.
    pub rng_seed: Option<&'a [u8]>,
}

/// Writes the tree; the bytes in use.
///
/// # Errors
/// [`TreeError`] when `buffer` is too small.
pub fn write(buffer: &mut [u8], about: &Description<'_>) -> Result<usize, TreeError> {
    let mut tree = Writer::new(buffer);
    tree.begin("");
    tree.string("compatible", "ballast,guest");
    tree.string("model", "Ballast guest");
    tree.cells("#address-cells", &[2]);
    tree.cells("#size-cells", &[2]);
    tree.cells("interrupt-parent", &[GIC_PHANDLE]);

    tree.begin("chosen");
    tree.string("bootargs", about.command_line);
    if let Some((start, end)) = about.initrd {
        tree.cells64("linux,initrd-start", &[start]);
        tree.cells64("linux,initrd-end", &[end]);
    }
    if let Some(seed) = about.rng_seed {
        tree.raw("rng-seed", seed);
    }
    tree.end();

    tree.begin("cpus");
    tree.cells("#address-cells", &[1]);
    tree.cells("#size-cells", &[0]);
    tree.begin_at("cpu", 0);
    tree.string("device_type", "cpu");
    tree.string("compatible", "arm,armv8");
    tree.string("enable-method", "psci");
    tree.cells("reg", &[0]);
    tree.end();
    tree.end();

    tree.begin("psci");
    tree.strings_list("compatible", &["arm,psci-1.0", "arm,psci-0.2"]);
    tree.string("method", "hvc");
    tree.end();

    tree.begin_at("memory", ipa::RAM);
    tree.string("device_type", "memory");
    tree.cells64("reg", &[ipa::RAM, about.ram_bytes]);
    tree.end();

    let private_flags = interrupt_controller(&mut tree, about.gic);

    tree.begin("timer");
    tree.string("compatible", "arm,armv8-timer");
    tree.cells(
        "interrupts",
        &[PPI, VIRTUAL_TIMER_PPI, LEVEL_HIGH | private_flags],
    );
    tree.string("interrupt-names", "virt");
    tree.flag("always-on");
    tree.end();

    for device in 0..about.virtio_devices {
        let base = ipa::VIRTIO_MMIO + u64::from(device) * ipa::VIRTIO_MMIO_STRIDE;
        tree.begin_at("virtio_mmio", base);
        tree.string("compatible", "virtio,mmio");
        tree.cells64("reg", &[base, ipa::VIRTIO_MMIO_STRIDE]);
        tree.cells("interrupts", &[SPI, ipa::VIRTIO_SPI + device, LEVEL_HIGH]);
        tree.flag("dma-coherent");
        tree.end();
    }
    tree.end();
    tree.finish()
}

/// Writes the controller's node; the flags that its private interrupts carry.
fn interrupt_controller(tree: &mut Writer<'_>, gic: Gic) -> u32 {
    tree.begin_at("interrupt-controller", ipa::GICD);
    let flags = match gic {
        Gic::V2 => {
            tree.string("compatible", "arm,gic-400");
            tree.cells64("reg", &[ipa::GICD, 0x1000, ipa::GICC, 0x2000]);
            CPU0_MASK
        }
        Gic::V3 => {
            tree.string("compatible", "arm,gic-v3");
            tree.cells64("reg", &[ipa::GICD, 0x1_0000, ipa::GICR, 0x2_0000]);
            0
        }
    };
    tree.flag("interrupt-controller");
    tree.cells("#interrupt-cells", &[3]);
    tree.cells("phandle", &[GIC_PHANDLE]);
    tree.end();
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(haystack: &[u8], needle: &[u8]) -> bool {
        haystack
            .windows(needle.len())
            .any(|window| window == needle)
    }

    #[test]
    fn a_linux_guest_finds_what_it_needs() {
        for gic in [Gic::V2, Gic::V3] {
            let mut buffer = [0u8; 4096];
            let about = Description {
                command_line: "console=hvc0",
                initrd: Some((0x4f00_0000, 0x5000_0000)),
                ram_bytes: 256 << 20,
                gic,
                virtio_devices: 4,
                rng_seed: Some(b"nobody else's seed"),
            };
            let bytes = write(&mut buffer, &about).unwrap();
            let tree = &buffer[..bytes];
            for text in [
                &b"console=hvc0\0"[..],
                b"linux,initrd-start",
                b"virtio_mmio@a000600",
                b"arm,psci-1.0",
                b"rng-seed",
                b"nobody else's seed",
                b"memory@40000000",
            ] {
                assert!(contains(tree, text), "{}", String::from_utf8_lossy(text));
            }
            assert_eq!(contains(tree, b"arm,gic-v3"), gic == Gic::V3);
            assert!(bytes < 2048, "{bytes}");
        }
    }

    #[test]
    fn a_buffer_too_small_is_an_error() {
        let about = Description {
            command_line: "",
            initrd: None,
            ram_bytes: 1 << 21,
            gic: Gic::V3,
            virtio_devices: 4,
            rng_seed: None,
        };
        assert_eq!(write(&mut [0; 300], &about), Err(TreeError));
    }
}
