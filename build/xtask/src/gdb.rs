//! `cargo xtask gdb`: a system stopped before its first instruction, and the command that attaches a debugger to it with the
//! right symbols.
//!
//! QEMU's debugger sees virtual addresses of whatever runs. Components are linked at the same addresses, so a breakpoint in one
//! of them has a condition: that the function's own first instructions are there.

use crate::cargo::{Cargo, Target};
use crate::image::{self, Flavour};
use crate::paths::{Paths, write_if_changed};
use anyhow::{Context as _, Result, bail, ensure};
use object::{File, Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};
use qemu_machine::{Board, Qemu};
use std::path::{Path, PathBuf};
use system::{Scale, Source};

/// What is debugged.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The system description; without one, four unikernels that boot in a second.
    system: Option<PathBuf>,
    /// The kernel (this is what happens without another choice).
    #[arg(long)]
    kernel: bool,
    /// A component by its crate's name: root-task, memory-server, balancer, console, timer, vmm.
    #[arg(long, value_name = "NAME", conflicts_with = "kernel")]
    component: Option<String>,
    /// A guest by its name in the description.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["kernel", "component"])]
    guest: Option<String>,
    /// The ELF file with the symbols, where the build does not have it: a Linux kernel's vmlinux, for example.
    #[arg(long, value_name = "ELF", requires = "guest")]
    symbols: Option<PathBuf>,
    /// Where the debugger connects, on this machine.
    #[arg(long, value_name = "PORT", default_value_t = 1234)]
    port: u16,
    /// Print the command and start no machine.
    #[arg(long)]
    print: bool,
    /// A Debian mirror to use instead of the machine's own.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

impl Options {
    /// The mirror that was asked for.
    #[must_use]
    pub fn mirror(&self) -> Option<&str> {
        self.mirror.as_deref()
    }

    /// Builds, says how to attach, and runs the machine until it or the user ends it.
    ///
    /// # Errors
    /// When nothing is called so, something does not build, or QEMU cannot be started.
    pub fn run(&self, paths: &Paths, cargo: &Cargo) -> Result<()> {
        let usual = paths.systems().join("tests/unikernels.toml");
        let system = self.system.as_ref().unwrap_or(&usual);
        let description = image::describe(system, None, Scale::Full)?;
        if let Some(name) = &self.guest {
            let guests: Vec<_> = description
                .system
                .guests
                .iter()
                .map(|guest| guest.name.as_str())
                .collect();
            ensure!(
                guests.contains(&name.as_str()),
                "no guest is called `{name}`; {} has {}",
                system.display(),
                guests.join(", ")
            );
        }
        let built = image::build(
            paths,
            cargo,
            &description,
            Flavour::Release,
            self.mirror.as_deref(),
        )?;
        let symbols = match (&self.component, &self.guest) {
            (Some(name), _) => Some(component(name, &built.programs)?),
            (None, Some(_)) => match &self.symbols {
                Some(file) => Some(file.clone()),
                None if description
                    .files
                    .iter()
                    .all(|file| file.source == Source::Unikernel) =>
                {
                    Some(cargo.build_one("unikernel", Target::BareMetal)?)
                }
                None => None,
            },
            (None, None) => Some(image::kernel(cargo, Flavour::Release)?),
        };
        let command = command(symbols.as_deref(), self.component.as_deref(), self.port)?;
        if symbols.is_none() {
            println!(
                "There are no symbols of this guest's kernel here: give its vmlinux with --symbols."
            );
        }
        if self.print {
            println!("{command}");
            return Ok(());
        }
        let file = paths.out().join("gdb.img");
        write_if_changed(&file, &built.image)?;
        let board = Board::named(description.board).context("the board has vanished")?;
        let mut machine = board.machine(description.memory_mib);
        let endpoint = format!("tcp:127.0.0.1:{}", self.port);
        machine
            .extra
            .extend(["-S".into(), "-gdb".into(), endpoint.into()]);
        let (mut qemu, mut line, _input) = Qemu::start(&machine, &file)?;
        std::fs::create_dir_all(paths.logs())?;
        let log = paths.logs().join("gdb-line.log");
        let mut kept = std::fs::File::create(&log)?;
        println!(
            "The machine is stopped before its first instruction. Attach with:\n\n{command}\n"
        );
        println!(
            "Its line goes to {}. Ctrl-C, or `kill` in the debugger, ends it.",
            log.display()
        );
        std::io::copy(&mut line, &mut kept)?;
        let complaints = qemu.stop();
        // The debugger's `kill` is an end as good as any.
        let ended = complaints.trim().is_empty() || complaints.contains("GDBstub");
        ensure!(ended, "{}", complaints.trim());
        Ok(())
    }
}

/// The file of a component.
fn component(name: &str, programs: &[(String, PathBuf)]) -> Result<PathBuf> {
    let names: Vec<_> = programs.iter().map(|(name, _)| name.as_str()).collect();
    match programs.iter().find(|(other, _)| other == name) {
        Some((_, file)) => Ok(file.clone()),
        None => bail!(
            "no component is called `{name}`; there are {}",
            names.join(", ")
        ),
    }
}

/// The debugger's command line.
fn command(symbols: Option<&Path>, component: Option<&str>, port: u16) -> Result<String> {
    let mut text = "gdb-multiarch".to_owned();
    if let Some(file) = symbols {
        text += &format!(" {}", file.display());
    }
    text += " \\\n  -ex 'set architecture aarch64' \\\n";
    text += &format!("  -ex 'target remote 127.0.0.1:{port}'");
    if let Some(file) = symbols {
        let elf = std::fs::read(file).with_context(|| file.display().to_string())?;
        let first = first_stop(&elf, component)?;
        // The condition is C, whatever the program is written in.
        text += &format!(
            " \\\n  -ex 'set language c' \\\n  -ex '{first}' \\\n  -ex 'set language auto' \\\n  -ex continue"
        );
    }
    Ok(text)
}

/// The breakpoint command for where a program is first of interest: a component at its largest function, which no other component
/// has; everything else at its entry.
fn first_stop(elf: &[u8], component: Option<&str>) -> Result<String> {
    let file = File::parse(elf)?;
    let Some(name) = component else {
        return Ok(format!("hbreak *{:#x}", file.entry()));
    };
    let at = largest_function(&file, name)?;
    let word = file
        .sections()
        .find_map(|section| section.data_range(at, 8).ok().flatten())
        .and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)))
        .with_context(|| format!("nothing is at {at:#x}"))?;
    Ok(format!(
        "hbreak *{at:#x} if *(unsigned long *){at:#x} == {word:#x}"
    ))
}

/// The address of the largest function in the crate of this name.
fn largest_function(file: &File<'_>, name: &str) -> Result<u64> {
    let prefix = format!("{}::", name.replace('-', "_"));
    file.symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text)
        .filter(|symbol| {
            let name = rustc_demangle::demangle(symbol.name().unwrap_or_default()).to_string();
            // A method's name begins with its type in angle brackets.
            name.trim_start_matches('<').starts_with(&prefix)
        })
        .max_by_key(object::ObjectSymbol::size)
        .map(|symbol| symbol.address())
        .with_context(|| format!("{name} has no function of its own"))
}
