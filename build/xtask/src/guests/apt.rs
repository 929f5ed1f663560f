//! Fetches packages with apt through a private state directory.
//!
//! Nothing of the machine's own apt is changed: lists, cache, sources and configuration live in the directory given.
//! From the machine come only the mirror's address, proxy settings and the archive's keyring, and every file is
//! checked against the signature of that keyring by apt itself.

use crate::progress;
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The keys of the Debian archive, where Debian and its relatives keep them.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What a private apt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// Packages of another architecture, as files. The machine's own packages do not matter.
    Files {
        /// The architecture.
        architecture: &'a str,
    },
    /// Packages for this machine, beside those that it has.
    ThisMachine,
}

/// A private apt.
#[derive(Debug)]
pub struct Apt {
    dir: PathBuf,
}

/// What the package lists say of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Names it depends on, without versions.
    pub depends: Vec<String>,
    /// Bytes of the package file.
    pub bytes: u64,
    /// Its path in the archive.
    pub file: String,
    /// Its hash, in hexadecimal.
    pub sha256: String,
}

impl Apt {
    /// Makes a private apt in `dir` that knows some suites of Debian, and reads their lists. Without `mirror` the mirrors of
    /// the machine's own apt are tried in turn; the signature decides which is right.
    ///
    /// # Errors
    /// When apt, the keyring or a usable mirror is missing; the message says what to do.
    pub fn open(
        dir: &Path,
        suites: &[&str],
        purpose: Purpose<'_>,
        mirror: Option<&str>,
    ) -> Result<Self> {
        let keyring = Path::new(KEYRING);
        ensure!(
            keyring.exists(),
            "{KEYRING} is missing: the keys that sign Debian's archive. As root: apt-get install debian-archive-keyring"
        );
        let mirrors = match mirror {
            Some(mirror) => vec![mirror.trim_end_matches('/').to_owned()],
            None => machine_mirrors()?,
        };
        let apt = Self {
            dir: dir.to_path_buf(),
        };
        let mut reasons = String::new();
        for mirror in &mirrors {
            apt.configure(mirror, suites, purpose)?;
            match apt.update() {
                Ok(()) => return Ok(apt),
                Err(error) => writeln!(reasons, "  {mirror}: {error:#}")?,
            }
        }
        bail!(
            "no mirror known to this machine's apt has Debian's {}; give one with --mirror URL. Tried:\n{reasons}",
            suites.join(" and ")
        )
    }

    fn configure(&self, mirror: &str, suites: &[&str], purpose: Purpose<'_>) -> Result<()> {
        for sub in ["state/lists/partial", "cache/archives/partial", "parts"] {
            std::fs::create_dir_all(self.dir.join(sub))?;
        }
        let dir = self.dir.display();
        let options = match purpose {
            Purpose::Files { architecture } => format!("arch={architecture} "),
            Purpose::ThisMachine => String::new(),
        };
        let sources: String = suites
            .iter()
            .map(|suite| format!("deb [{options}signed-by={KEYRING}] {mirror} {suite} main\n"))
            .collect();
        std::fs::write(self.dir.join("sources.list"), sources)?;
        let mut config = format!(
            "Dir::State::lists \"{dir}/state/lists\";\n\
             Dir::Cache \"{dir}/cache\";\n\
             Dir::Etc::sourcelist \"{dir}/sources.list\";\n\
             Dir::Etc::sourceparts \"{dir}/parts\";\n\
             APT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"3\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
        );
        if let Purpose::Files { architecture } = purpose {
            std::fs::write(self.dir.join("state/status"), "")?;
            write!(
                config,
                "Dir::State \"{dir}/state\";\n\
                 Dir::State::status \"{dir}/state/status\";\n\
                 Dir::Etc::parts \"{dir}/parts\";\n\
                 Dir::Etc::preferencesparts \"{dir}/parts\";\n\
                 APT::Architecture \"{architecture}\";\n\
                 APT::Architectures {{ \"{architecture}\"; }};\n"
            )?;
        }
        // How this machine reaches the network, and whether its mirror is a dated snapshot, is the machine's to say.
        let machine = Command::new("apt-config")
            .args(["dump", "Acquire"])
            .output();
        for line in machine
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
            .lines()
            .filter(|line| line.contains("Proxy") || line.contains("::Check-"))
        {
            writeln!(config, "{line}")?;
        }
        std::fs::write(self.config(), config)?;
        Ok(())
    }

    fn update(&self) -> Result<()> {
        let output = self
            .command("apt-get")
            .args(["update", "--quiet", "--error-on=any"])
            .output()
            .context("apt-get")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// What the lists say of a package's newest version.
    ///
    /// # Errors
    /// When they do not have it.
    pub fn show(&self, package: &str) -> Result<Package> {
        let output = self
            .command("apt-cache")
            .args(["show", "--no-all-versions", package])
            .output()
            .context("apt-cache")?;
        parse_stanzas(&String::from_utf8_lossy(&output.stdout))
            .into_iter()
            .next()
            .with_context(|| format!("the package lists have no `{package}`"))
    }

    /// Downloads a package into `dir` and returns the file.
    ///
    /// # Errors
    /// When the download fails or its signature chain does not hold.
    pub fn download(&self, package: &Package, dir: &Path) -> Result<PathBuf> {
        let file = dir.join(
            Path::new(&package.file)
                .file_name()
                .context("the package list names no file")?,
        );
        if std::fs::metadata(&file).is_ok_and(|meta| meta.len() == package.bytes)
            && super::sha256_of(&file)? == package.sha256
        {
            return Ok(file);
        }
        let scratch = dir.join("partial");
        std::fs::create_dir_all(&scratch)?;
        progress::download(
            &format!("download {}", package.name),
            &scratch,
            package.bytes,
            || {
                let output = self
                    .command("apt-get")
                    .current_dir(&scratch)
                    .args(["download", "--quiet"])
                    .arg(format!("{}={}", package.name, package.version))
                    .output()
                    .context("apt-get")?;
                ensure!(
                    output.status.success(),
                    "apt-get download {}: {}",
                    package.name,
                    String::from_utf8_lossy(&output.stderr).trim()
                );
                Ok(())
            },
        )?;
        for entry in std::fs::read_dir(&scratch)? {
            let path = entry?.path();
            if path.is_file() && super::sha256_of(&path)? == package.sha256 {
                std::fs::rename(&path, &file)?;
                return Ok(file);
            }
        }
        bail!(
            "{}: what was downloaded is not what the signed list names",
            package.name
        )
    }

    /// The versions of a package that the lists offer.
    ///
    /// # Errors
    /// When apt cannot be asked.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        let output = self
            .command("apt-cache")
            .args(["madison", package])
            .output()
            .context("apt-cache")?;
        Ok(String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| line.split('|').nth(1))
            .map(|version| version.trim().to_owned())
            .collect())
    }

    /// The file that makes apt this private apt, for the environment variable `APT_CONFIG`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("apt.conf")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.config())
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }
}

/// The archive roots that the machine's apt fetches from, those that look like Debian's main archive first.
///
/// # Errors
/// When there is no apt here.
pub fn machine_mirrors() -> Result<Vec<String>> {
    let lists = std::env::temp_dir().join("no-lists-here");
    let output = Command::new("apt-get")
        .args(["update", "--print-uris", "-o"])
        .arg(format!("Dir::State::lists={}", lists.display()))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("apt-get is not on this machine; give a Debian mirror with --mirror URL")?;
    let mirrors = parse_mirrors(&String::from_utf8_lossy(&output.stdout));
    ensure!(
        !mirrors.is_empty(),
        "this machine's apt has no archive configured; give a Debian mirror with --mirror URL"
    );
    Ok(mirrors)
}

fn parse_mirrors(uris: &str) -> Vec<String> {
    let mut mirrors: Vec<String> = Vec::new();
    for line in uris.lines() {
        let Some(uri) = line
            .strip_prefix('\'')
            .and_then(|rest| rest.split('\'').next())
        else {
            continue;
        };
        if let Some((root, _)) = uri.split_once("/dists/")
            && !mirrors.iter().any(|known| known == root)
        {
            mirrors.push(root.to_owned());
        }
    }
    mirrors.sort_by_key(|root| match root {
        root if root.ends_with("/debian") => 0,
        root if root.contains("debian") && !root.contains("security") => 1,
        _ => 2,
    });
    mirrors
}

/// Parses a `Packages` file or the output of `apt-cache show` (deb822 stanzas).
pub fn parse_stanzas(text: &str) -> Vec<Package> {
    let mut packages = Vec::new();
    for stanza in text.split("\n\n") {
        let mut package = Package::default();
        for line in stanza.lines() {
            let Some((key, value)) = line.split_once(": ") else {
                continue;
            };
            let value = value.trim();
            match key {
                "Package" => package.name = value.to_owned(),
                "Version" => package.version = value.to_owned(),
                "Filename" => package.file = value.to_owned(),
                "SHA256" => package.sha256 = value.to_owned(),
                "Size" => package.bytes = value.parse().unwrap_or(0),
                "Depends" => {
                    package.depends = value
                        .split(',')
                        .filter_map(|one| one.split_whitespace().next())
                        .map(str::to_owned)
                        .collect();
                }
                _ => {}
            }
        }
        if !package.name.is_empty() {
            packages.push(package);
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_taken_from_what_apt_would_fetch() {
        let uris = "'https://example.org/other/dists/x/InRelease' a 0 \n\
                    'http://mirror.example/debian-security/dists/bookworm-security/InRelease' b 0 \n\
                    'http://mirror.example/debian/dists/bookworm/InRelease' c 0 \n\
                    'http://mirror.example/debian/dists/bookworm-updates/InRelease' d 0 \n";
        assert_eq!(
            parse_mirrors(uris),
            [
                "http://mirror.example/debian",
                "https://example.org/other",
                "http://mirror.example/debian-security"
            ]
        );
    }

    #[test]
    fn a_stanza_is_read() {
        let text = "Package: linux-image-arm64\nVersion: 6.12.1-1\nDepends: linux-image-6.12.1-arm64 (= 6.12.1-1), other\n\
                    Size: 1444\nFilename: pool/main/l/x_arm64.deb\nSHA256: 00ff\nDescription: a\n more: text\n\n";
        let packages = parse_stanzas(text);
        assert_eq!(packages.len(), 1);
        assert_eq!(packages[0].depends, ["linux-image-6.12.1-arm64", "other"]);
        assert_eq!(packages[0].bytes, 1444);
        assert_eq!(packages[0].sha256, "00ff");
    }
}
