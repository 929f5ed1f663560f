//! Which QEMU is installed.

use crate::PROGRAM;
use std::process::Command;

/// The oldest major version with everything that the machines use (GICv3 with EL2, the cycle counter under icount).
pub const MINIMUM_MAJOR: u32 = 8;

/// A version of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
}

/// Why there is no usable QEMU.
#[derive(Debug)]
pub enum VersionError {
    /// The program cannot be started.
    NotFound(std::io::Error),
    /// Its answer is no version.
    Unreadable(String),
    /// Older than [`MINIMUM_MAJOR`].
    TooOld(Version),
}

impl std::fmt::Display for VersionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound(error) => write!(f, "{PROGRAM} cannot be started: {error}"),
            Self::Unreadable(answer) => write!(
                f,
                "`{PROGRAM} --version` answered {answer:?}, which is no version"
            ),
            Self::TooOld(Version { major, minor }) => {
                write!(
                    f,
                    "{PROGRAM} is {major}.{minor}; {MINIMUM_MAJOR}.0 or newer is needed"
                )
            }
        }
    }
}

impl std::error::Error for VersionError {}

/// The installed version.
///
/// # Errors
/// When there is none, or it is too old.
pub fn installed() -> Result<Version, VersionError> {
    let output = Command::new(PROGRAM)
        .arg("--version")
        .output()
        .map_err(VersionError::NotFound)?;
    let answer = String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    let version = parse(&answer).ok_or(VersionError::Unreadable(answer))?;
    if version.major < MINIMUM_MAJOR {
        Err(VersionError::TooOld(version))
    } else {
        Ok(version)
    }
}

fn parse(answer: &str) -> Option<Version> {
    let mut numbers = answer.split("version ").nth(1)?.split(['.', ' ']);
    Some(Version {
        major: numbers.next()?.parse().ok()?,
        minor: numbers.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_answer_is_read() {
        let answer = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)";
        assert_eq!(
            parse(answer),
            Some(Version {
                major: 10,
                minor: 0
            })
        );
        assert_eq!(parse("something else"), None);
        assert!(
            parse("QEMU emulator version 7.2.1")
                < Some(Version {
                    major: MINIMUM_MAJOR,
                    minor: 0
                })
        );
    }
}
