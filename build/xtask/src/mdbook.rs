//! `cargo xtask book`: the book as pages of HTML.

use crate::cargo::Cargo;
use crate::nightly::NotChecked;
use crate::paths::Paths;
use crate::progress;
use anyhow::{Result, bail, ensure};
use std::path::PathBuf;

/// mdBook's version. Raised here and nowhere else.
const VERSION: &str = "0.5.4";

/// Builds the book; where its first page is.
///
/// # Errors
/// [`NotChecked`] when mdBook cannot be installed from here; others when the book cannot be built, or mdBook warns.
pub fn build(paths: &Paths, cargo: &Cargo) -> Result<PathBuf> {
    let program = ensure_mdbook(paths, cargo)?;
    let directory = paths.out().join("book");
    progress::step("build the book", || {
        let output = std::process::Command::new(program)
            .arg("build")
            .arg("--dest-dir")
            .arg(&directory)
            .arg(paths.root().join("docs"))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "mdbook: {}", said.trim());
        if let Some(warning) = said.lines().find(|line| line.contains("WARN")) {
            bail!("mdbook: {}", warning.trim());
        }
        Ok(())
    })?;
    Ok(directory.join("index.html"))
}

/// mdBook of the version wanted, in `out/tools`; installed if it is not there.
fn ensure_mdbook(paths: &Paths, cargo: &Cargo) -> Result<PathBuf> {
    let tools = paths.out().join("tools");
    let program = tools.join("bin/mdbook");
    let has_version = std::process::Command::new(&program)
        .arg("--version")
        .output()
        .is_ok_and(|output| {
            let said = String::from_utf8_lossy(&output.stdout);
            said.trim().ends_with(VERSION)
        });
    if has_version {
        return Ok(program);
    }
    progress::step(&format!("install mdBook {VERSION}"), || {
        let output = cargo
            .command("install")
            .args(["--quiet", "--locked", "--no-default-features", "--root"])
            .arg(&tools)
            .arg(format!("mdbook@{VERSION}"))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let why = said.trim().lines().last().unwrap_or_default().to_owned();
            bail!(NotChecked(format!(
                "mdBook {VERSION} cannot be installed from here: {why}"
            )));
        }
        Ok(())
    })?;
    Ok(program)
}
