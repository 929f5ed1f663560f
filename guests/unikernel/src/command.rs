//! The commands, as text: `[#TAG] VERB [ARGUMENTS]`, answered with `[#TAG] ok ...` or `[#TAG] error ...`.

/// Longest line, in bytes.
pub const LINE_BYTES: usize = 128;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Who is there?
    Hello,
    /// Make the set this large, evenly over that time.
    Touch {
        /// Bytes, rounded up to pieces.
        bytes: u64,
        /// Milliseconds.
        ramp_ms: u64,
    },
    /// Read everything back.
    Verify,
    /// Give the set up.
    Free,
    /// Figures.
    MemInfo,
    /// The longest stall (none is measured here).
    Stall,
    /// Processes killed (there are none).
    Oom,
    /// Power off.
    Exit,
    /// Reset.
    Reset,
    /// Report all free pieces free.
    Report,
    /// Ignore the balloon from now on.
    Refuse,
    /// Heed the balloon again.
    Accept,
    /// Misbehave: a ring full of nonsense.
    GarbageRing,
    /// Misbehave: offer pages to the balloon that are not ours.
    ForeignBalloon,
    /// Misbehave: touch a ballooned piece.
    TouchBallooned,
    /// Misbehave: never do anything again.
    Spin,
    /// Misbehave: exceptions without end.
    Crash,
}

/// A line that is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// No such verb.
    Unknown,
    /// An argument is missing, no number, or one too many.
    Argument,
}

/// Splits the tag off a line: the tag without its `#`, and the rest.
#[must_use]
pub fn split_tag(line: &str) -> (Option<&str>, &str) {
    let line = line.trim();
    match line.strip_prefix('#') {
        None => (None, line),
        Some(rest) => match rest.split_once(' ') {
            Some((tag, rest)) => (Some(tag), rest.trim_start()),
            None => (Some(rest), ""),
        },
    }
}

/// Reads a command.
///
/// # Errors
/// [`CommandError`].
pub fn parse(text: &str) -> Result<Command, CommandError> {
    let mut words = text.split_whitespace();
    let command = match words.next().unwrap_or("") {
        "hello" => Command::Hello,
        "touch" => {
            let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
            let bytes = number(words.next()).ok_or(CommandError::Argument)?;
            let ramp_ms = match words.next() {
                None => 0,
                word => number(word).ok_or(CommandError::Argument)?,
            };
            Command::Touch { bytes, ramp_ms }
        }
        "verify" => Command::Verify,
        "free" => Command::Free,
        "meminfo" => Command::MemInfo,
        "stall" => Command::Stall,
        "oom" => Command::Oom,
        "exit" => Command::Exit,
        "reset" => Command::Reset,
        "report" => Command::Report,
        "refuse" => Command::Refuse,
        "accept" => Command::Accept,
        "garbage-ring" => Command::GarbageRing,
        "foreign-balloon" => Command::ForeignBalloon,
        "touch-ballooned" => Command::TouchBallooned,
        "spin" => Command::Spin,
        "crash" => Command::Crash,
        _ => return Err(CommandError::Unknown),
    };
    match words.next() {
        None => Ok(command),
        Some(_) => Err(CommandError::Argument),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_tags() {
        assert_eq!(split_tag("#7 verify\r"), (Some("7"), "verify"));
        assert_eq!(
            parse("touch 4194304 500"),
            Ok(Command::Touch {
                bytes: 4 << 20,
                ramp_ms: 500
            })
        );
        assert_eq!(parse("touch"), Err(CommandError::Argument));
        assert_eq!(parse("free all"), Err(CommandError::Argument));
        assert_eq!(parse("grow"), Err(CommandError::Unknown));
        assert_eq!(parse("garbage-ring"), Ok(Command::GarbageRing));
    }
}
