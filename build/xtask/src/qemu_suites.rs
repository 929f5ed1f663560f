//! The suites that are a root task of their own in QEMU. A new one is a row of the table.

use crate::cargo::{Cargo, Target};
use crate::image::{Flavour, Kernel};
use crate::paths::write_if_changed;
use crate::test::{pack_elf, read};
use anyhow::Result;
use qemu_machine::{Count, Gic, Highmem, Machine};
use std::path::Path;
use std::time::Duration;

/// A root task that tests something in QEMU and prints `N passed, N failed` in the end.
pub(crate) struct QemuSuite {
    /// What FILTER selects it by.
    pub(crate) name: &'static str,
    /// The crate that is the root task.
    pub(crate) package: &'static str,
    /// The kernel; the crate is built with the flavour's features, too.
    pub(crate) flavour: Flavour,
    pub(crate) gic: Gic,
    highmem: Highmem,
    memory_mib: u64,
    /// Wall time after which it counts as hanging: many times what it takes on two cores.
    pub(crate) limit: Duration,
}

pub(crate) const QEMU_SUITES: [QemuSuite; 7] = [
    QemuSuite {
        name: "kernel-gicv3",
        package: "kernel-tests",
        flavour: Flavour::Release,
        gic: Gic::V3,
        highmem: Highmem::On,
        memory_mib: 1024,
        limit: Duration::from_secs(120),
    },
    QemuSuite {
        name: "kernel-gicv2-lowmem",
        package: "kernel-tests",
        flavour: Flavour::Release,
        gic: Gic::V2,
        highmem: Highmem::Off,
        memory_mib: 2048,
        limit: Duration::from_secs(120),
    },
    QemuSuite {
        name: "kernel-debug",
        package: "kernel-tests",
        flavour: Flavour::Debug,
        gic: Gic::V3,
        highmem: Highmem::On,
        memory_mib: 1024,
        limit: Duration::from_secs(120),
    },
    // 4 GiB: beside what the objects come from there is an untyped of exactly 1 GiB.
    QemuSuite {
        name: "kernel-masked-time",
        package: "kernel-tests",
        flavour: Flavour::MaskedTime,
        gic: Gic::V3,
        highmem: Highmem::On,
        memory_mib: 4096,
        limit: Duration::from_secs(300),
    },
    QemuSuite {
        name: "kernel-masked-time-gicv2",
        package: "kernel-tests",
        flavour: Flavour::MaskedTime,
        gic: Gic::V2,
        highmem: Highmem::On,
        memory_mib: 4096,
        limit: Duration::from_secs(300),
    },
    QemuSuite {
        name: "components",
        package: "component-tests",
        flavour: Flavour::Release,
        gic: Gic::V2,
        highmem: Highmem::On,
        memory_mib: 512,
        limit: Duration::from_secs(120),
    },
    QemuSuite {
        name: "template",
        package: "component-template",
        flavour: Flavour::Release,
        gic: Gic::V3,
        highmem: Highmem::On,
        memory_mib: 512,
        limit: Duration::from_secs(120),
    },
];

impl QemuSuite {
    /// Builds its image with a kernel; the machine that runs it.
    pub(crate) fn make(&self, cargo: &Cargo, kernel: &Kernel, image: &Path) -> Result<Machine> {
        let root_task =
            cargo.build_with(self.package, Target::BareMetal, self.flavour.features())?;
        write_if_changed(image, &pack_elf(cargo, &read(&root_task)?, kernel)?)?;
        Ok(Machine {
            gic: self.gic,
            highmem: self.highmem,
            // Repeatable, however busy this machine is.
            count: Count::Instructions,
            ..Machine::virt(self.memory_mib)
        })
    }
}
