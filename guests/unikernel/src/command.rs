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
    /// How often the host has changed what it wants of the balloon, or reminded.
    Asked,
    /// Misbehave: a ring full of nonsense.
    GarbageRing,
    /// Misbehave: offer pages to the balloon that are not ours.
    ForeignBalloon,
    /// Misbehave: touch a ballooned piece.
    TouchBallooned,
    /// Give no statistics and heed no balloon from now on; commands are still answered.
    Hush,
    /// Be heard again.
    Speak,
    /// Reset the balloon's device and leave it.
    Leave,
    /// Reset the balloon's device with memory in it, use that memory, and set the device up again.
    Rebind,
    /// Misbehave: never do anything again, and sleep.
    Sleep,
    /// Misbehave: tell the host that all memory is free, whatever is in use.
    Lie,
    /// Misbehave: one thing that a driver must not do to a device; the device is set up anew afterwards.
    Break(Break),
    /// Misbehave: use an address where nothing is.
    Nowhere(Nowhere),
    /// Misbehave: put half of a piece into the balloon, and use the piece never again.
    Strand,
    /// Misbehave: answer every exception by trying the same again.
    Stubborn,
    /// Misbehave: keep the host reading page lists in the highest piece, for this many rounds.
    Flood(u64),
    /// Misbehave: make the host work for this many milliseconds.
    Storm(Storm, u64),
    /// Misbehave: never do anything again.
    Spin,
    /// Misbehave: exceptions without end.
    Crash,
}

/// What a driver must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// A chain of descriptors without an end.
    Loop,
    /// A buffer that begins in memory and ends far outside.
    Long,
    /// An indirect descriptor, which was not negotiated, to a table of nonsense.
    Indirect,
    /// A buffer that the device reads behind one that it writes.
    Order,
    /// More buffers available than the ring has.
    Index,
    /// Rings where no memory is.
    Outside,
    /// A page list without an end.
    List,
    /// The same pages into the balloon twice, and others out that never were in it.
    Balloon,
    /// Every register and all of configuration space overwritten, in every width.
    Registers,
    /// Unplug what was never plugged, plug what was not asked for, and requests that are none.
    Unplug,
    /// Reset a device while it still has requests.
    Reset,
    /// Power calls that are not for a guest with one CPU.
    Power,
}

impl Break {
    const ALL: [(&str, Self); 12] = [
        ("loop", Self::Loop),
        ("long", Self::Long),
        ("indirect", Self::Indirect),
        ("order", Self::Order),
        ("index", Self::Index),
        ("outside", Self::Outside),
        ("list", Self::List),
        ("balloon", Self::Balloon),
        ("registers", Self::Registers),
        ("unplug", Self::Unplug),
        ("reset", Self::Reset),
        ("power", Self::Power),
    ];
}

/// What the host is made to work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storm {
    /// Reads of a device's register.
    Mmio,
    /// Waits that end at once.
    Wfi,
    /// Waits for a timer that is due a moment later.
    Timer,
    /// A console's queue that is always full.
    Console,
    /// One chain of console buffers, each nearly all of memory.
    Chain,
    /// A piece into the balloon and out of it.
    Balloon,
}

impl Storm {
    const ALL: [(&str, Self); 6] = [
        ("mmio", Self::Mmio),
        ("wfi", Self::Wfi),
        ("timer", Self::Timer),
        ("console", Self::Console),
        ("chain", Self::Chain),
        ("balloon", Self::Balloon),
    ];
}

/// Where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// Read between the devices.
    Gap,
    /// Write behind the end of memory.
    Beyond,
    /// Read a device with an instruction that names two registers.
    Pair,
}

impl Nowhere {
    const ALL: [(&str, Self); 3] = [
        ("gap", Self::Gap),
        ("beyond", Self::Beyond),
        ("pair", Self::Pair),
    ];
}

fn named<T: Copy>(all: &[(&str, T)], word: Option<&str>) -> Result<T, CommandError> {
    all.iter()
        .find(|(name, _)| Some(*name) == word)
        .map(|(_, value)| *value)
        .ok_or(CommandError::Argument)
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
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
    let command = match words.next().unwrap_or("") {
        "hello" => Command::Hello,
        "touch" => {
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
        "hush" => Command::Hush,
        "speak" => Command::Speak,
        "leave" => Command::Leave,
        "rebind" => Command::Rebind,
        "sleep" => Command::Sleep,
        "asked" => Command::Asked,
        "lie" => Command::Lie,
        "break" => Command::Break(named(&Break::ALL, words.next())?),
        "nowhere" => Command::Nowhere(named(&Nowhere::ALL, words.next())?),
        "strand" => Command::Strand,
        "stubborn" => Command::Stubborn,
        "flood" => Command::Flood(number(words.next()).ok_or(CommandError::Argument)?),
        "storm" => {
            let kind = named(&Storm::ALL, words.next())?;
            Command::Storm(kind, number(words.next()).ok_or(CommandError::Argument)?)
        }
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
        assert_eq!(parse("break loop"), Ok(Command::Break(Break::Loop)));
        assert_eq!(parse("break"), Err(CommandError::Argument));
        assert_eq!(parse("nowhere gap"), Ok(Command::Nowhere(Nowhere::Gap)));
        assert_eq!(parse("nowhere here"), Err(CommandError::Argument));
        assert_eq!(parse("flood 3"), Ok(Command::Flood(3)));
        assert_eq!(parse("storm wfi 20"), Ok(Command::Storm(Storm::Wfi, 20)));
        assert_eq!(parse("storm wfi"), Err(CommandError::Argument));
        assert_eq!(parse("storm snow 20"), Err(CommandError::Argument));
    }
}
