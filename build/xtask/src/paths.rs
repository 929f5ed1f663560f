//! Where things are: the workspace, and what the build leaves under `out/`.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The workspace's directories.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Finds the workspace: the directory above the current one (or cargo's manifest directory) whose `Cargo.toml`
    /// declares a workspace.
    ///
    /// # Errors
    /// When no such directory exists.
    pub fn find() -> Result<Self> {
        let start = match std::env::var_os("CARGO_MANIFEST_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => std::env::current_dir().context("the current directory")?,
        };
        start
            .ancestors()
            .find(|dir| {
                std::fs::read_to_string(dir.join("Cargo.toml"))
                    .is_ok_and(|text| text.contains("[workspace]"))
            })
            .map(|root| Self {
                root: root.to_path_buf(),
            })
            .with_context(|| {
                format!(
                    "no workspace at or above {}: run this inside the repository",
                    start.display()
                )
            })
    }

    /// The workspace's root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Everything that is made and is not cargo's: images, guest files, logs.
    pub fn out(&self) -> PathBuf {
        self.root.join("out")
    }

    /// The packaged guest files.
    pub fn guests(&self) -> PathBuf {
        self.out().join("guests")
    }

    /// Logs of test runs.
    pub fn logs(&self) -> PathBuf {
        self.out().join("logs")
    }

    /// What the Linux guests are made from.
    pub fn linux_sources(&self) -> PathBuf {
        self.root.join("guests/linux")
    }

    /// System descriptions that ship.
    pub fn systems(&self) -> PathBuf {
        self.root.join("systems")
    }
}

/// Writes a file so that readers see the old content or the new, never a part; leaves it alone when it is equal.
///
/// # Errors
/// When the directory cannot be made or the file not written.
pub fn write_if_changed(path: &Path, content: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let partial = path.with_extension("partial");
    std::fs::write(&partial, content).with_context(|| format!("writing {}", partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("writing {}", path.display()))
}
