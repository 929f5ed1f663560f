//! Builds the product's crates with the cargo that runs us.

use crate::nightly;
use crate::paths::Paths;
use crate::progress;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What a crate is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Kernel, boot stage and components.
    BareMetal,
    /// Static Linux programs for guests.
    LinuxMusl,
}

impl Target {
    /// The target triple.
    #[must_use]
    pub const fn triple(self) -> &'static str {
        match self {
            Self::BareMetal => "aarch64-unknown-none-softfloat",
            Self::LinuxMusl => "aarch64-unknown-linux-musl",
        }
    }
}

/// The cargo that runs us.
#[derive(Clone, Debug)]
pub struct Cargo {
    root: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Cargo {
    /// For the workspace found.
    #[must_use]
    pub fn new(paths: &Paths) -> Self {
        Self {
            root: paths.root().to_path_buf(),
            variables: Vec::new(),
        }
    }

    /// The same with a variable in the environment of what it builds.
    #[must_use]
    pub fn with_variable(&self, name: &'static str, value: &str) -> Self {
        let mut other = self.clone();
        other.variables.push((name, value.to_owned()));
        other
    }

    /// A cargo command in the workspace, with the lock file as it is.
    #[must_use]
    pub fn command(&self, subcommand: &str) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        self.in_workspace(Command::new(cargo), subcommand)
    }

    /// A cargo command of the pinned nightly toolchain ([`nightly::ensure`] has installed it).
    #[must_use]
    pub fn nightly(&self, subcommand: &str) -> Command {
        let mut rustup = Command::new("rustup");
        rustup.args(["run", nightly::TOOLCHAIN, "cargo"]);
        self.in_workspace(rustup, subcommand)
    }

    /// Where cargo puts what it builds for a purpose with flags or a toolchain of its own.
    #[must_use]
    pub fn target_dir(&self, purpose: &str) -> PathBuf {
        let usual = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let usual = usual.unwrap_or_else(|| "target".into());
        self.root.join(usual).join(purpose)
    }

    fn in_workspace(&self, mut command: Command, subcommand: &str) -> Command {
        command
            .current_dir(&self.root)
            .arg(subcommand)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        // What cargo told us about our own crate is not for the crates that we build.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Builds one program in release and returns its file.
    ///
    /// # Errors
    /// When it does not compile; the compiler's messages have been shown.
    pub fn build_one(&self, package: &str, target: Target) -> Result<PathBuf> {
        self.build_with(package, target, &[])
    }

    /// Builds one program in release with features.
    ///
    /// # Errors
    /// When it does not compile; the compiler's messages have been shown.
    pub fn build_with(&self, package: &str, target: Target, features: &[&str]) -> Result<PathBuf> {
        progress::step(&format!("build {package}"), || {
            let mut command = self.command("build");
            command
                .args(["--locked", "--release", "--package", package, "--target"])
                .arg(target.triple())
                .args(["--message-format", "json-render-diagnostics", "--quiet"]);
            if !features.is_empty() {
                command.arg("--features").arg(features.join(","));
            }
            let output = command
                .stdout(Stdio::piped())
                .stderr(Stdio::inherit())
                .output()
                .context("starting cargo")?;
            if !output.status.success() {
                bail!("{package} does not build for {}", target.triple());
            }
            let messages = String::from_utf8_lossy(&output.stdout);
            executable(&messages, package)
                .with_context(|| format!("{package} has no program of its name"))
        })
    }
}

/// Finds a program's file in cargo's messages.
fn executable(messages: &str, program: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| {
            message["reason"] == "compiler-artifact" && message["target"]["name"] == program
        })
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_the_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"rt"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"vmm"},"executable":"/t/vmm"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "vmm"), Some(PathBuf::from("/t/vmm")));
        assert_eq!(executable(messages, "rt"), None);
    }
}
