//! What this machine needs, whether it has it, and how it gets it.
//!
//! [`ensure`] does what can be done with the rights there are, with a line of progress for each step; what needs more
//! is an error that holds the exact command. [`doctor`] changes nothing.

use crate::cargo::Target;
use crate::guests::apt::{Apt, Purpose};
use crate::paths::Paths;
use crate::progress;
use anyhow::{Context, Result, bail, ensure};
use qemu_machine::MINIMUM_MAJOR;
use std::path::Path;
use std::process::{Command, Stdio};

/// Something a run needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The Rust targets that the product is built for.
    RustTargets,
    /// QEMU.
    Qemu,
    /// The means to fetch the guests' packages, or the packages.
    GuestPackages,
}

/// Everything, in the order in which it is looked at.
pub const ALL: [Need; 3] = [Need::RustTargets, Need::Qemu, Need::GuestPackages];

/// Makes sure that everything named is there.
///
/// # Errors
/// What is missing and cannot be had with the rights there are, with the command that gets it.
pub fn ensure(paths: &Paths, needs: &[Need], mirror: Option<&str>) -> Result<()> {
    for need in needs {
        match need {
            Need::RustTargets => {
                let missing = missing_targets()?;
                if !missing.is_empty() {
                    add_targets(&missing)?;
                }
            }
            Need::Qemu => {
                if let Err(error) = qemu_machine::installed() {
                    install_qemu(paths, mirror)
                        .with_context(|| format!("QEMU is needed, but {error}"))?;
                    qemu_machine::installed()?;
                }
            }
            // The guests' files are fetched when an image needs them.
            Need::GuestPackages => {}
        }
    }
    Ok(())
}

/// Says what is there and what is missing, with the command that gets it. `true` when nothing is missing.
///
/// # Errors
/// When the machine cannot be looked at.
pub fn doctor(paths: &Paths, mirror: Option<&str>) -> Result<bool> {
    let mut whole = true;
    let mut report = |what: &str, state: std::result::Result<String, (String, String)>| match state
    {
        Ok(found) => println!("ok       {what}: {found}"),
        Err((lacks, fix)) => {
            whole = false;
            println!("missing  {what}: {lacks}\n         fix: {fix}");
        }
    };
    let missing = missing_targets()?;
    report(
        "Rust targets",
        if missing.is_empty() {
            Ok(TARGETS.map(Target::triple).join(", "))
        } else {
            Err((
                missing.join(", "),
                format!("rustup target add {}", missing.join(" ")),
            ))
        },
    );
    report(
        "QEMU",
        qemu_machine::installed()
            .map(|version| format!("{}.{}", version.major, version.minor))
            .map_err(|error| {
                let fix = qemu_command(paths, mirror)
                    .map_or_else(|error| format!("{error:#}"), |command| command.shown());
                (error.to_string(), fix)
            }),
    );
    let guest = paths.guests().join("debian/Image");
    report(
        "Linux guest",
        if guest.exists() {
            Ok("fetched before".to_owned())
        } else if !has_program("apt-get") {
            Err((
                "no apt here".to_owned(),
                "give a Debian mirror: cargo xtask run --mirror URL".to_owned(),
            ))
        } else if Path::new(crate::guests::apt::KEYRING).exists() {
            Ok("will be fetched when it is first needed".to_owned())
        } else {
            Err((
                format!("{} is not there", crate::guests::apt::KEYRING),
                sudo("apt-get install debian-archive-keyring"),
            ))
        },
    );
    Ok(whole)
}

const TARGETS: [Target; 2] = [Target::BareMetal, Target::LinuxMusl];

/// The targets whose standard library is not installed for the toolchain in use.
fn missing_targets() -> Result<Vec<&'static str>> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .context("rustc")?;
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let libraries = Path::new(&sysroot).join("lib/rustlib");
    Ok(TARGETS
        .map(Target::triple)
        .into_iter()
        .filter(|triple| !libraries.join(triple).join("lib").is_dir())
        .collect())
}

fn add_targets(missing: &[&str]) -> Result<()> {
    ensure!(
        has_program("rustup"),
        "the Rust targets {} are not installed, and there is no rustup here: install them the way this Rust was \
         installed, or take Rust from https://rustup.rs",
        missing.join(", ")
    );
    progress::step(&format!("Rust targets {}", missing.join(", ")), || {
        let output = Command::new("rustup")
            .args(["target", "add"])
            .args(missing)
            .stdin(Stdio::null())
            .output()
            .context("rustup")?;
        ensure!(
            output.status.success(),
            "rustup target add {}: {}",
            missing.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    })
}

/// A command that installs something, for us or for the user to run.
#[derive(Debug)]
struct InstallCommand {
    environment: Option<(&'static str, String)>,
    arguments: Vec<String>,
}

impl InstallCommand {
    /// As one would type it.
    fn shown(&self) -> String {
        let command = self.arguments.join(" ");
        match &self.environment {
            Some((name, value)) => sudo(&format!("env {name}={value} {command}")),
            None => sudo(&command),
        }
    }
}

fn sudo(command: &str) -> String {
    if is_root() {
        command.to_owned()
    } else {
        format!("sudo {command}")
    }
}

fn is_root() -> bool {
    // /proc/self belongs to the user that the process runs as.
    std::fs::metadata("/proc/self")
        .is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// Whether a program is on the path.
pub fn has_program(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// How QEMU is installed here. On Debian the newest of the release and its backports, from private package lists, with
/// QEMU's packages named exactly, so that nothing else changes its version.
fn qemu_command(paths: &Paths, mirror: Option<&str>) -> Result<InstallCommand> {
    const PACKAGES: [&str; 3] = ["qemu-system-arm", "qemu-system-common", "qemu-system-data"];
    ensure!(
        has_program("apt-get"),
        "install QEMU {MINIMUM_MAJOR}.0 or newer (the program {}) with this system's package manager",
        qemu_machine::PROGRAM
    );
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let install = |packages: Vec<String>| {
        ["apt-get", "install", "--yes", "--no-install-recommends"]
            .map(str::to_owned)
            .into_iter()
            .chain(packages)
            .collect()
    };
    let (Some("debian"), Some(codename)) =
        (field(&release, "ID"), field(&release, "VERSION_CODENAME"))
    else {
        return Ok(InstallCommand {
            environment: None,
            arguments: install(vec![PACKAGES[0].to_owned()]),
        });
    };
    let backports = format!("{codename}-backports");
    let apt = progress::step(
        &format!("package lists of {codename} and {backports}"),
        || {
            let dir = paths.out().join("apt");
            Apt::open(&dir, &[codename, &backports], Purpose::ThisMachine, mirror)
        },
    )?;
    let version = apt
        .versions(PACKAGES[0])?
        .into_iter()
        .find(|version| upstream_major(version).is_some_and(|major| major >= MINIMUM_MAJOR))
        .with_context(|| {
            format!("neither {codename} nor {backports} has QEMU {MINIMUM_MAJOR}.0 or newer")
        })?;
    Ok(InstallCommand {
        environment: Some(("APT_CONFIG", apt.config().display().to_string())),
        arguments: install(
            PACKAGES
                .map(|package| format!("{package}={version}"))
                .to_vec(),
        ),
    })
}

fn install_qemu(paths: &Paths, mirror: Option<&str>) -> Result<()> {
    let command = qemu_command(paths, mirror)?;
    if !is_root() {
        bail!(
            "it cannot be installed without rights; run:\n\n    {}\n",
            command.shown()
        );
    }
    progress::step("install QEMU", || {
        let mut process = Command::new(&command.arguments[0]);
        process
            .args(&command.arguments[1..])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        if let Some((name, value)) = &command.environment {
            process.env(name, value);
        }
        let output = process.output().context("apt-get")?;
        ensure!(
            output.status.success(),
            "{}: {}",
            command.shown(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    })
}

/// A field of `/etc/os-release` (os-release(5)).
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value.trim_matches('"'))
}

/// The major version of the program in a Debian package version: `1:10.0.2+ds-2` is 10.
fn upstream_major(version: &str) -> Option<u32> {
    let upstream = version.split_once(':').map_or(version, |(_, rest)| rest);
    upstream.split(['.', '+', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_packages() {
        assert_eq!(upstream_major("1:10.0.2+ds-2+deb13u1~bpo12+1"), Some(10));
        assert_eq!(upstream_major("1:7.2+dfsg-7"), Some(7));
        assert_eq!(upstream_major("8"), Some(8));
        assert_eq!(upstream_major(""), None);
    }

    #[test]
    fn the_release_is_read() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(field(text, "ID"), Some("debian"));
        assert_eq!(field(text, "VERSION_CODENAME"), Some("bookworm"));
        assert_eq!(field(text, "VERSION"), None);
    }

    #[test]
    fn a_command_is_shown_as_it_is_typed() {
        let command = InstallCommand {
            environment: Some(("APT_CONFIG", "out/apt/apt.conf".to_owned())),
            arguments: vec!["apt-get".to_owned(), "install".to_owned(), "x=1".to_owned()],
        };
        let shown = command.shown();
        assert!(
            shown.ends_with("env APT_CONFIG=out/apt/apt.conf apt-get install x=1"),
            "{shown}"
        );
    }
}
