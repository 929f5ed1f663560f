//! The commands, as text: `[#TAG] VERB [ARGUMENTS]`.
//!
//! An answer is `[#TAG] ok ...` or `[#TAG] error ...`; the tag lets the other side tell a late answer from the one that it
//! waits for.

use crate::burst::Load;
use std::fmt;
use std::time::Duration;

/// What is asked of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `hello`: who is there?
    Hello,
    /// `touch BYTES [RAMP_MS]`: make the set this large, evenly over that time.
    Touch {
        /// Bytes.
        bytes: u64,
        /// Over this time.
        ramp: Duration,
    },
    /// `verify`: read everything back.
    Verify,
    /// `work BYTES`: read everything back again and again, until so much has been read.
    Work {
        /// Bytes.
        bytes: u64,
    },
    /// `free`: give everything up.
    Free,
    /// `meminfo`: what the kernel says.
    MemInfo,
    /// `burst fault BYTES [AFTER]`, `burst tmpfs BYTES`, `burst forks COUNT [BYTES]`, `burst cache BYTES`: use memory up at full
    /// speed, in a process of its own.
    Burst(Load),
    /// `stall`: the longest stall since last asked.
    Stall,
    /// `oom`: processes killed for want of memory since the guest started.
    Oom,
    /// `exit`.
    Exit,
}

/// A line that is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// No such verb.
    Unknown(String),
    /// An argument is missing or no number.
    Argument {
        /// Of which verb.
        verb: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// There is no such load.
    Load(String),
    /// There are words after the last argument.
    Surplus(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(verb) => write!(
                f,
                "no command {verb:?}; there are hello, touch, verify, work, free, meminfo, burst, stall, oom, exit"
            ),
            Self::Load(load) => write!(
                f,
                "burst wants fault, tmpfs, forks or cache, found {load:?}"
            ),
            Self::Argument {
                verb,
                expected,
                found,
            } => write!(f, "{verb} wants {expected}, found {found:?}"),
            Self::Surplus(word) => write!(f, "unexpected {word:?} after the command"),
        }
    }
}

impl std::error::Error for CommandError {}

/// What each process of a fork storm writes to unless it is said: about what a small shell does.
const FORK_BYTES: u64 = 128 * 1024;

/// Splits the tag off a line: the tag without its `#`, and the rest.
#[must_use]
pub fn split_tag(line: &str) -> (Option<&str>, &str) {
    let line = line.trim();
    match line.strip_prefix('#') {
        None => (None, line),
        Some(rest) => match rest.split_once(char::is_whitespace) {
            Some((tag, rest)) => (Some(tag), rest.trim_start()),
            None => (Some(rest), ""),
        },
    }
}

/// Reads a command.
///
/// # Errors
/// [`CommandError`] says what is wrong with the line.
pub fn parse(text: &str) -> Result<Command, CommandError> {
    let mut words = text.split_whitespace();
    let verb = words.next().unwrap_or("");
    let load = match verb {
        "burst" => words.next().unwrap_or(""),
        _ => "",
    };
    let mut number = |verb, expected, default: Option<u64>| match (words.next(), default) {
        (None, Some(default)) => Ok(default),
        (word, _) => {
            let found = word.unwrap_or("");
            found.parse().map_err(|_| CommandError::Argument {
                verb,
                expected,
                found: found.to_owned(),
            })
        }
    };
    let command = match verb {
        "hello" => Command::Hello,
        "touch" => Command::Touch {
            bytes: number("touch", "a number of bytes", None)?,
            ramp: Duration::from_millis(number("touch", "a number of milliseconds", Some(0))?),
        },
        "verify" => Command::Verify,
        "work" => Command::Work {
            bytes: number("work", "a number of bytes", None)?,
        },
        "free" => Command::Free,
        "meminfo" => Command::MemInfo,
        "burst" => Command::Burst(match load {
            "fault" => Load::Fault {
                bytes: number("burst fault", "a number of bytes", None)?,
                after: number("burst fault", "a number of bytes", Some(0))?,
            },
            "tmpfs" => Load::Tmpfs {
                bytes: number("burst tmpfs", "a number of bytes", None)?,
            },
            "forks" => Load::Forks {
                count: number("burst forks", "a number of processes", None)?,
                bytes: number("burst forks", "a number of bytes", Some(FORK_BYTES))?,
            },
            "cache" => Load::Cache {
                bytes: number("burst cache", "a number of bytes", None)?,
            },
            unknown => return Err(CommandError::Load(unknown.to_owned())),
        }),
        "stall" => Command::Stall,
        "oom" => Command::Oom,
        "exit" => Command::Exit,
        unknown => return Err(CommandError::Unknown(unknown.to_owned())),
    };
    match words.next() {
        None => Ok(command),
        Some(word) => Err(CommandError::Surplus(word.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        assert_eq!(
            parse("touch 1048576 5000"),
            Ok(Command::Touch {
                bytes: 1 << 20,
                ramp: Duration::from_secs(5)
            })
        );
        assert_eq!(
            parse("touch 4096"),
            Ok(Command::Touch {
                bytes: 4096,
                ramp: Duration::ZERO
            })
        );
        for (text, command) in [
            ("hello", Command::Hello),
            (" verify ", Command::Verify),
            ("work 4096", Command::Work { bytes: 4096 }),
            ("free", Command::Free),
            (
                "burst fault 4096",
                Command::Burst(Load::Fault {
                    bytes: 4096,
                    after: 0,
                }),
            ),
            (
                "burst forks 500",
                Command::Burst(Load::Forks {
                    count: 500,
                    bytes: 128 << 10,
                }),
            ),
            ("meminfo", Command::MemInfo),
            ("stall", Command::Stall),
            ("oom", Command::Oom),
            ("exit", Command::Exit),
        ] {
            assert_eq!(parse(text), Ok(command), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            ("touch", "touch wants a number of bytes, found \"\""),
            ("touch -1", "touch wants a number of bytes, found \"-1\""),
            (
                "touch 1 x",
                "touch wants a number of milliseconds, found \"x\"",
            ),
            ("verify all", "unexpected \"all\" after the command"),
            (
                "grow",
                "no command \"grow\"; there are hello, touch, verify, work, free, meminfo, burst, stall, oom, exit",
            ),
            (
                "burst dust 5",
                "burst wants fault, tmpfs, forks or cache, found \"dust\"",
            ),
            (
                "burst forks",
                "burst forks wants a number of processes, found \"\"",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn tags_are_split_off() {
        assert_eq!(split_tag("#17 touch 5"), (Some("17"), "touch 5"));
        assert_eq!(split_tag("#17"), (Some("17"), ""));
        assert_eq!(split_tag("verify\r"), (None, "verify"));
    }
}
