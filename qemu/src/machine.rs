//! What is emulated.

use std::ffi::OsString;
use std::path::Path;

/// The version of the interrupt controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Gic {
    /// GICv2.
    V2,
    /// GICv3.
    #[default]
    V3,
}

/// The CPU model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Cpu {
    /// Cortex-A53: the kernel's reference.
    #[default]
    CortexA53,
    /// Cortex-A57: what the peers were measured on.
    CortexA57,
    /// Cortex-A72: 44-bit physical addresses.
    CortexA72,
}

impl Cpu {
    /// QEMU's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CortexA53 => "cortex-a53",
            Self::CortexA57 => "cortex-a57",
            Self::CortexA72 => "cortex-a72",
        }
    }
}

/// Where the machine puts what does not fit below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Highmem {
    /// Devices and RAM above 4 GiB as well.
    #[default]
    On,
    /// Everything below 4 GiB: another RAM layout, at most 3 GiB of it.
    Off,
}

/// How time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Count {
    /// With the host's clock.
    #[default]
    Wall,
    /// One nanosecond an instruction, and with the host's clock while nothing runs (`-icount shift=0,sleep=on`): a busy
    /// host makes the machine slower, and not the time in which its guests must get something done shorter.
    Paced,
    /// One nanosecond an instruction (`-icount shift=0,sleep=off`): repeatable on any machine.
    Instructions,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Interrupt controller.
    pub gic: Gic,
    /// CPU model.
    pub cpu: Cpu,
    /// RAM in MiB.
    pub memory_mib: u64,
    /// RAM layout.
    pub highmem: Highmem,
    /// Clock.
    pub count: Count,
    /// Whether EL2 is there (off for measuring a guest's kernel on the bare machine).
    pub exception_levels: ExceptionLevels,
    /// More arguments, as they are (an initrd, a plugin).
    pub extra: Vec<OsString>,
}

/// The exception levels that the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ExceptionLevels {
    /// EL0 to EL2.
    #[default]
    WithEl2,
    /// EL0 and EL1.
    WithoutEl2,
}

impl Machine {
    /// QEMU's `virt` board with this much RAM, GICv3 and a Cortex-A53.
    #[must_use]
    pub fn virt(memory_mib: u64) -> Self {
        Self {
            gic: Gic::default(),
            cpu: Cpu::default(),
            memory_mib,
            highmem: Highmem::default(),
            count: Count::default(),
            exception_levels: ExceptionLevels::default(),
            extra: Vec::new(),
        }
    }

    /// QEMU's arguments to boot `image` (an arm64 `Image`) with the serial line on standard input and output.
    #[must_use]
    pub fn arguments(&self, image: &Path) -> Vec<OsString> {
        let virtualization = match self.exception_levels {
            ExceptionLevels::WithEl2 => "on",
            ExceptionLevels::WithoutEl2 => "off",
        };
        let gic = match self.gic {
            Gic::V2 => "2",
            Gic::V3 => "3",
        };
        let highmem = match self.highmem {
            Highmem::On => "on",
            Highmem::Off => "off",
        };
        let machine = format!(
            "virt,virtualization={virtualization},gic-version={gic},highmem={highmem},secure=off"
        );
        let memory = format!("{}M", self.memory_mib);
        let mut arguments: Vec<OsString> = [
            "-nodefaults",
            "-display",
            "none",
            "-monitor",
            "none",
            "-no-reboot",
            "-machine",
            &machine,
            "-cpu",
            self.cpu.name(),
            "-smp",
            "1",
            "-m",
            &memory,
            "-chardev",
            "stdio,id=line,signal=off",
            "-serial",
            "chardev:line",
        ]
        .iter()
        .map(OsString::from)
        .collect();
        let icount = match self.count {
            Count::Wall => None,
            Count::Paced => Some("shift=0,sleep=on"),
            Count::Instructions => Some("shift=0,sleep=off"),
        };
        if let Some(icount) = icount {
            arguments.extend(["-icount", icount].map(OsString::from));
        }
        arguments.extend(self.extra.iter().cloned());
        arguments.push("-kernel".into());
        arguments.push(image.into());
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_the_machine() {
        let machine = Machine {
            gic: Gic::V2,
            highmem: Highmem::Off,
            count: Count::Instructions,
            ..Machine::virt(1024)
        };
        let arguments = machine.arguments(Path::new("image"));
        let text: Vec<_> = arguments
            .iter()
            .map(|argument| argument.to_string_lossy())
            .collect();
        assert!(
            text.iter()
                .any(|a| a == "virt,virtualization=on,gic-version=2,highmem=off,secure=off")
        );
        assert!(
            text.windows(2)
                .any(|pair| pair == ["-icount", "shift=0,sleep=off"])
        );
        assert!(text.windows(2).any(|pair| pair == ["-m", "1024M"]));
        assert!(text.ends_with(&["-kernel".into(), "image".into()]));
    }
}
