//! What the release kernel may not have: a way to a panic, recursion, calls through pointers. A build that has one fails, and
//! says which way leads there.

use super::calls::Calls;
use anyhow::{Context, Result, bail};
use object::{File, Object as _};
use std::path::Path;

/// Where a panic ends, in the kernel that is built to find the way there.
const PANIC_PATH: &str = "kernel::entry::panic_path";

fn calls<T>(kernel: &Path, look: impl FnOnce(&File<'_>, Calls) -> Result<T>) -> Result<T> {
    let content = std::fs::read(kernel).with_context(|| format!("reading {}", kernel.display()))?;
    let file = File::parse(&*content)?;
    look(&file, Calls::of(&file)?)
}

/// What is wrong with a kernel's calls; empty if nothing is.
pub(super) fn complaints(file: &File<'_>, calls: &Calls) -> Vec<String> {
    let mut complaints = Vec::new();
    if let Some(path) = calls.cycle() {
        complaints.push(format!("the kernel recurses: {}", path.join(" -> ")));
    }
    for function in calls.calls_through_pointers() {
        complaints.push(format!("the kernel calls through a pointer in {function}"));
    }
    if file.symbols().next().is_none() {
        complaints.push("the kernel has no symbols to check".to_owned());
    }
    complaints
}

/// Fails if the kernel in this file recurses or calls through a pointer.
///
/// # Errors
/// What it does, and on which way; or the file cannot be read.
pub fn check(kernel: &Path) -> Result<()> {
    calls(kernel, |file, calls| {
        let complaints = complaints(file, &calls);
        if !complaints.is_empty() {
            bail!("{}", complaints.join("\n"));
        }
        Ok(())
    })
}

/// How a kernel that was built with its feature `panic-path` comes to a panic; `None` if it does not.
///
/// # Errors
/// When the file cannot be read.
pub fn way_to_a_panic(kernel: &Path) -> Result<Option<String>> {
    calls(kernel, |_, calls| {
        Ok(calls.way_to(PANIC_PATH).map(|way| way.join(" -> ")))
    })
}
