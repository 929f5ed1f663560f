//! The operator's commands, as they are typed: one line each.

use protocol::balancer::{Change, Mode, OnRefusal, OnSilence};
use protocol::management::HostBody;
use protocol::units::{GuestId, Pieces};

/// What the operator wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Something for the board.
    Ask(Box<HostBody>),
    /// Attach a guest's console.
    Attach(GuestId),
    /// End the run.
    Quit,
    /// Show the commands.
    Help,
}

/// All commands, for `help`.
pub const HELP: &[&str] = &[
    "attach GUEST            its console; Ctrl-] leaves it",
    "start|stop|pause|resume GUEST",
    "why GUEST               why its memory is what it is",
    "buffer GUEST PERCENT    5..95",
    "weight GUEST NUMBER     1..10000, or low, medium, high",
    "min|startup|max GUEST MIB",
    "dynamic GUEST on|off",
    "refusal GUEST mark|revoke",
    "silence GUEST keep|restart|stop",
    "reserve MIB             kept out of all targets",
    "quit",
];

/// Reads a command line; guests by name or number.
///
/// # Errors
/// What is wrong, for the operator.
pub fn parse(line: &str, guests: &[String]) -> Result<Command, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let guest = |name: &str| find_guest(name, guests);
    let ask = |body| Ok(Command::Ask(Box::new(body)));
    let set = |name: &str, change: Change| {
        ask(HostBody::Set {
            guest: guest(name)?,
            change,
        })
    };
    match words.as_slice() {
        ["quit" | "q"] => Ok(Command::Quit),
        ["help" | "h" | "?"] => Ok(Command::Help),
        ["attach" | "a", name] => Ok(Command::Attach(guest(name)?)),
        ["start", name] => ask(HostBody::Start(guest(name)?)),
        ["stop", name] => ask(HostBody::Stop(guest(name)?)),
        ["pause", name] => ask(HostBody::Pause(guest(name)?)),
        ["resume", name] => ask(HostBody::Resume(guest(name)?)),
        ["why", name] => ask(HostBody::Why(guest(name)?)),
        ["buffer", name, value] => set(name, Change::Buffer(bounded(value, 5, 95, "percent")?)),
        ["weight", name, value] => set(name, Change::Weight(weight(value)?)),
        ["min", name, value] => set(name, Change::Minimum(memory(value)?)),
        ["startup", name, value] => set(name, Change::Startup(memory(value)?)),
        ["max", name, value] => set(name, Change::Maximum(memory(value)?)),
        ["dynamic", name, "on"] => set(name, Change::Mode(Mode::Dynamic)),
        ["dynamic", name, "off"] => set(name, Change::Mode(Mode::Static)),
        ["refusal", name, "mark"] => set(name, Change::OnRefusal(OnRefusal::Mark)),
        ["refusal", name, "revoke"] => set(name, Change::OnRefusal(OnRefusal::Revoke)),
        ["silence", name, "keep"] => set(name, Change::OnSilence(OnSilence::Keep)),
        ["silence", name, "restart"] => set(name, Change::OnSilence(OnSilence::Restart)),
        ["silence", name, "stop"] => set(name, Change::OnSilence(OnSilence::Stop)),
        ["reserve", value] => ask(HostBody::SetReserve(memory(value)?)),
        _ => Err(format!("no such command: {line:?}; \"help\" lists them")),
    }
}

fn find_guest(name: &str, guests: &[String]) -> Result<GuestId, String> {
    let by_name = guests.iter().position(|guest| guest == name);
    let by_number = name.parse().ok().filter(|number| *number < guests.len());
    by_name
        .or(by_number)
        .and_then(|number| u16::try_from(number).ok())
        .map(GuestId)
        .ok_or_else(|| format!("no guest {name:?}; there are {}", guests.join(", ")))
}

fn bounded<T>(text: &str, least: T, most: T, unit: &str) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy,
{
    match text.trim_end_matches('%').parse::<T>() {
        Ok(value) if value >= least && value <= most => Ok(value),
        _ => Err(format!("{text:?} should be {unit} from {least} to {most}")),
    }
}

/// The names are those of the settings: low, medium and high.
fn weight(text: &str) -> Result<u16, String> {
    match text {
        "low" => Ok(2500),
        "medium" => Ok(5000),
        "high" => Ok(10_000),
        number => bounded(number, 1, 10_000, "a weight"),
    }
}

fn memory(text: &str) -> Result<Pieces, String> {
    // 1 TiB: more than any board of the list has.
    let mib: u64 = bounded(text, 0, 1 << 20, "MiB")?;
    if mib.is_multiple_of(2) {
        Ok(Pieces::from_mib_ceil(mib))
    } else {
        Err(format!("{mib} MiB is no multiple of 2 MiB; {} is", mib + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guests() -> Vec<String> {
        vec!["finance".into(), "sales".into()]
    }

    #[test]
    fn commands_are_read() {
        let ask = |line: &str| match parse(line, &guests()) {
            Ok(Command::Ask(body)) => *body,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(ask("start sales"), HostBody::Start(GuestId(1)));
        assert_eq!(ask("why 0"), HostBody::Why(GuestId(0)));
        assert_eq!(
            ask("buffer finance 30%"),
            HostBody::Set {
                guest: GuestId(0),
                change: Change::Buffer(30)
            }
        );
        assert_eq!(
            ask("max sales 512"),
            HostBody::Set {
                guest: GuestId(1),
                change: Change::Maximum(Pieces(256))
            }
        );
        for (word, action) in [
            ("keep", OnSilence::Keep),
            ("restart", OnSilence::Restart),
            ("stop", OnSilence::Stop),
        ] {
            assert_eq!(
                ask(&format!("silence sales {word}")),
                HostBody::Set {
                    guest: GuestId(1),
                    change: Change::OnSilence(action)
                }
            );
        }
        assert_eq!(ask("reserve 128"), HostBody::SetReserve(Pieces(64)));
        assert_eq!(
            parse("a finance", &guests()),
            Ok(Command::Attach(GuestId(0)))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, message) in [
            (
                "start engineering",
                "no guest \"engineering\"; there are finance, sales",
            ),
            ("buffer sales 3", "\"3\" should be percent from 5 to 95"),
            (
                "weight sales heavy",
                "\"heavy\" should be a weight from 1 to 10000",
            ),
            ("min sales 65", "65 MiB is no multiple of 2 MiB; 66 is"),
            (
                "silence sales kill",
                "no such command: \"silence sales kill\"; \"help\" lists them",
            ),
            ("fly", "no such command: \"fly\"; \"help\" lists them"),
        ] {
            assert_eq!(parse(line, &guests()), Err(message.into()));
        }
    }
}
