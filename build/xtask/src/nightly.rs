//! The nightly toolchain of the checks that need one: Miri and the fuzzers. The product builds without it.

use crate::progress;
use crate::setup::has_program;
use anyhow::{Context, Result, ensure};
use std::process::{Command, Stdio};

/// Of one day, so that what these tools find depends on our sources alone. Raised here and nowhere else.
pub const TOOLCHAIN: &str = "nightly-2026-05-20";

/// What a check needs cannot be had here, so nothing was checked.
#[derive(Debug)]
pub struct NotChecked(pub String);

impl NotChecked {
    /// The exit status that says so, apart from that of a check that found something.
    pub const EXIT_STATUS: u8 = 3;
}

impl std::fmt::Display for NotChecked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not checked: {}", self.0)
    }
}

impl std::error::Error for NotChecked {}

/// Makes sure that the toolchain is there with these components.
///
/// # Errors
/// [`NotChecked`] when it is not, and cannot be installed from here.
pub fn ensure(components: &[&str]) -> Result<()> {
    install(components).map_err(|error| NotChecked(format!("{error:#}")).into())
}

fn install(components: &[&str]) -> Result<()> {
    let mut install = Command::new("rustup");
    install.args(["toolchain", "install", TOOLCHAIN, "--profile", "minimal"]);
    install.arg("--no-self-update");
    for component in components {
        install.args(["--component", component]);
    }
    let shown = format!("rustup {}", arguments(&install));
    ensure!(
        has_program("rustup"),
        "Rust's {TOOLCHAIN} is needed, and there is no rustup here: take it from https://rustup.rs"
    );
    if is_installed(components)? {
        return Ok(());
    }
    progress::step(&format!("Rust's {TOOLCHAIN}"), || {
        let output = install.stdin(Stdio::null()).output().context("rustup")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let why = said.lines().find(|line| line.starts_with("error:"));
        ensure!(
            output.status.success(),
            "Rust's {TOOLCHAIN} cannot be installed from here; `{shown}` says: {}",
            why.unwrap_or_else(|| said.trim())
        );
        Ok(())
    })
}

fn arguments(command: &Command) -> String {
    let words: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}

fn is_installed(components: &[&str]) -> Result<bool> {
    let output = Command::new("rustup")
        .args(["component", "list", "--installed", "--toolchain", TOOLCHAIN])
        .stdin(Stdio::null())
        .output()
        .context("rustup")?;
    Ok(output.status.success() && has_all(&String::from_utf8_lossy(&output.stdout), components))
}

/// Whether rustup's list (`rust-src`, `miri-x86_64-unknown-linux-gnu`: one a line) has all of these.
fn has_all(list: &str, components: &[&str]) -> bool {
    components.iter().all(|component| {
        list.lines().any(|line| {
            line.strip_prefix(component)
                .is_some_and(|target| target.is_empty() || target.starts_with('-'))
        })
    })
}

/// The triple of this machine: what the toolchain builds for when it is asked for nothing else.
///
/// # Errors
/// When the toolchain does not say.
pub fn host() -> Result<String> {
    let output = Command::new("rustup")
        .args(["run", TOOLCHAIN, "rustc", "--version", "--verbose"])
        .stdin(Stdio::null())
        .output()
        .context("rustup")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let triple = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(triple.context("rustc does not say its host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_found_with_and_without_its_target() {
        let list = "cargo-x86_64-unknown-linux-gnu\nmiri-x86_64-unknown-linux-gnu\nrust-src\n";
        assert!(has_all(list, &["miri", "rust-src"]));
        assert!(has_all(list, &[]));
        assert!(!has_all(list, &["miri", "rust-docs"]));
        assert!(!has_all("", &["miri"]));
        assert!(!has_all("mirimiri\n", &["miri"]));
    }
}
