//! Counts `unsafe` in the sources of what runs on the machine: blocks, functions, implementations.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Where the product's sources are.
const DIRECTORIES: [&str; 5] = [
    "hypervisor",
    "components",
    "memory-server",
    "balancer",
    "guests",
];

/// The files that have any, by path from `root`, sorted.
///
/// # Errors
/// When a file cannot be read.
pub fn count(root: &Path) -> Result<Vec<(String, u64)>> {
    let mut waiting: Vec<PathBuf> = DIRECTORIES.iter().map(|name| root.join(name)).collect();
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let count = count_in(&text);
            if count > 0 {
                let name = path.strip_prefix(root).unwrap_or(&path);
                found.push((name.display().to_string(), count));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The word in code: not in comments, not in a longer word. (A string that has it counts; none does.)
fn count_in(text: &str) -> u64 {
    text.lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        // `unsafe(no_mangle)` is a promise of the kind that the linker script and assembly keep, and is counted.
        .flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .filter(|word| *word == "unsafe")
        .count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_functions_and_implementations_count() {
        let text = "#![deny(unsafe_code)] // unsafe\n/// unsafe\nunsafe impl Sync for T {}\n\
                    pub unsafe fn f() { unsafe { g() } } // SAFETY: unsafe\n";
        assert_eq!(count_in(text), 3);
    }
}
