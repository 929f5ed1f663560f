//! Fetches packages from a Debian mirror where there is no apt, and checks them the way apt does: the signature of the
//! release file with the archive's keyring (`gpgv`), the package list against the release file, the package against the
//! list.

use super::apt::{KEYRING, Package, parse_stanzas};
use super::{deb, sha256_of};
use crate::progress;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mirror whose lists have been read and checked.
#[derive(Debug)]
pub struct Mirror {
    url: String,
    packages: Vec<Package>,
}

impl Mirror {
    /// Reads one suite's list for one architecture into `dir`.
    ///
    /// # Errors
    /// When the mirror does not answer, or a check fails.
    pub fn open(dir: &Path, url: &str, suite: &str, architecture: &str) -> Result<Self> {
        ensure!(
            Path::new(KEYRING).exists(),
            "{KEYRING} is missing: the keys that sign Debian's archive; install the package debian-archive-keyring"
        );
        let url = url.trim_end_matches('/');
        std::fs::create_dir_all(dir)?;
        let signed = dir.join("InRelease");
        fetch(&format!("{url}/dists/{suite}/InRelease"), &signed)?;
        let release = verified(&signed, &dir.join("Release"))?;
        ensure!(
            names_suite(&release, suite),
            "{url}: the release file is signed, but it is not that of `{suite}`"
        );
        let path = format!("main/binary-{architecture}/Packages.xz");
        let (sha256, bytes) = listed(&release, &path)
            .with_context(|| format!("{url}: the release file has no {path}"))?;
        let list = dir.join("Packages.xz");
        fetch(&format!("{url}/dists/{suite}/{path}"), &list)?;
        check(&list, &sha256, bytes)?;
        let content = std::fs::read(&list)?;
        let text = deb::unxz(&mut content.as_slice())?;
        Ok(Self {
            url: url.to_owned(),
            packages: parse_stanzas(&String::from_utf8_lossy(&text)),
        })
    }

    /// What the list says of a package.
    ///
    /// # Errors
    /// When it does not have it.
    pub fn show(&self, package: &str) -> Result<Package> {
        self.packages
            .iter()
            .find(|one| one.name == package)
            .cloned()
            .with_context(|| format!("the package list has no `{package}`"))
    }

    /// Downloads a package into `dir` and returns the file.
    ///
    /// # Errors
    /// When the download fails, or is not what the list names.
    pub fn download(&self, package: &Package, dir: &Path) -> Result<PathBuf> {
        let file = dir.join(
            Path::new(&package.file)
                .file_name()
                .context("the package list names no file")?,
        );
        if file.exists() && check(&file, &package.sha256, package.bytes).is_ok() {
            return Ok(file);
        }
        let scratch = dir.join("partial");
        std::fs::create_dir_all(&scratch)?;
        let partial = scratch.join("download");
        let what = format!("download {}", package.name);
        progress::download(&what, &scratch, package.bytes, || {
            fetch(&format!("{}/{}", self.url, package.file), &partial)
        })?;
        check(&partial, &package.sha256, package.bytes)?;
        std::fs::rename(&partial, &file)?;
        Ok(file)
    }
}

fn fetch(url: &str, file: &Path) -> Result<()> {
    let output = Command::new("curl")
        .args([
            "--fail",
            "--location",
            "--silent",
            "--show-error",
            "--retry",
            "3",
            "--output",
        ])
        .arg(file)
        .arg("--")
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .context(
            "curl is needed to fetch from a mirror; install it with this system's package manager",
        )?;
    ensure!(
        output.status.success(),
        "{url}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// What a clear-signed file says, once its signature has been checked.
fn verified(signed: &Path, content: &Path) -> Result<String> {
    // gpgv does not replace a file.
    if content.exists() {
        std::fs::remove_file(content)?;
    }
    let output = Command::new("gpgv")
        .args(["--quiet", "--keyring", KEYRING, "--output"])
        .args([content, signed])
        .stdin(Stdio::null())
        .output()
        .context(
            "gpgv is needed to check the signature; install it with this system's package manager",
        )?;
    ensure!(
        output.status.success(),
        "the release file's signature does not hold: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    std::fs::read_to_string(content).with_context(|| content.display().to_string())
}

fn names_suite(release: &str, suite: &str) -> bool {
    release
        .lines()
        .filter_map(|line| line.split_once(": "))
        .any(|(key, value)| matches!(key, "Suite" | "Codename") && value.trim() == suite)
}

/// The SHA-256 and size that a release file lists for a path.
fn listed(release: &str, path: &str) -> Option<(String, u64)> {
    let (_, list) = release.split_once("\nSHA256:")?;
    list.lines()
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .find_map(|line| {
            let mut words = line.split_whitespace();
            let (sha256, bytes) = (words.next()?, words.next()?);
            (words.next()? == path).then_some((sha256.to_owned(), bytes.parse().ok()?))
        })
}

fn check(file: &Path, sha256: &str, bytes: u64) -> Result<()> {
    let length = std::fs::metadata(file)?.len();
    if length != bytes || sha256_of(file)? != sha256 {
        bail!(
            "{}: what was downloaded ({length} bytes) is not what the signed list names ({bytes} bytes)",
            file.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASE: &str = "Origin: Debian\nSuite: stable\nCodename: trixie\nMD5Sum:\n 00 1 main/binary-arm64/Packages.xz\n\
                           SHA256:\n aa 7 main/binary-amd64/Packages.xz\n bb 9 main/binary-arm64/Packages.xz\nEnd: x\n \
                           cc 3 main/late\n";

    #[test]
    fn a_release_file_is_read() {
        assert_eq!(
            listed(RELEASE, "main/binary-arm64/Packages.xz"),
            Some(("bb".to_owned(), 9))
        );
        assert_eq!(listed(RELEASE, "main/late"), None);
        assert_eq!(listed("", "x"), None);
        assert!(names_suite(RELEASE, "trixie"));
        assert!(names_suite(RELEASE, "stable"));
        assert!(!names_suite(RELEASE, "bookworm"));
    }

    #[test]
    fn a_damaged_download_is_refused() {
        let file = std::env::temp_dir().join(format!("ballast-mirror-{}", std::process::id()));
        std::fs::write(&file, b"abc").unwrap();
        let sha256 = sha256_of(&file).unwrap();
        assert!(check(&file, &sha256, 3).is_ok());
        assert!(check(&file, &sha256, 4).is_err());
        assert!(check(&file, &"0".repeat(64), 3).is_err());
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_file_without_signature_is_refused() {
        let file = std::env::temp_dir().join(format!("ballast-unsigned-{}", std::process::id()));
        std::fs::write(&file, RELEASE).unwrap();
        let output = file.with_extension("out");
        assert!(verified(&file, &output).is_err());
        std::fs::remove_file(&file).unwrap();
    }
}
