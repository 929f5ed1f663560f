//! The workload agents inside the guests: one command line each, one answer line each.

use crate::board::{Board, BoardError, PortId};
use protocol::console::Port;
use protocol::units::GuestId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What an agent answered.
pub type AgentAnswer = Result<String, String>;

/// A command that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// To whose agent.
    pub guest: GuestId,
    tag: u32,
    sent: Instant,
}

impl Ticket {
    /// How long ago it was sent.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.sent.elapsed()
    }
}

#[derive(Default)]
struct Line {
    partial: Vec<u8>,
    answers: BTreeMap<u32, AgentAnswer>,
}

/// The lines to all agents.
#[derive(Default)]
pub struct Agents {
    lines: BTreeMap<u16, Line>,
    next_tag: u32,
}

impl Agents {
    /// Sends a command.
    ///
    /// # Errors
    /// [`BoardError::Refused`] when the guest does not read its port.
    pub fn send(
        &mut self,
        board: &mut Board,
        guest: GuestId,
        command: &str,
    ) -> Result<Ticket, BoardError> {
        self.next_tag += 1;
        let tag = self.next_tag;
        board.note(&format!("agent of guest {}: #{tag} {command}", guest.0));
        board.input(guest, Port::Agent, format!("#{tag} {command}\n").as_bytes())?;
        Ok(Ticket {
            guest,
            tag,
            sent: Instant::now(),
        })
    }

    /// Takes what the agents have written.
    pub fn poll(&mut self, board: &mut Board, guests: impl Iterator<Item = GuestId>) {
        for guest in guests {
            let bytes = board.take_output(PortId::new(guest, Port::Agent));
            let line = self.lines.entry(guest.0).or_default();
            for byte in bytes {
                if byte == b'\n' {
                    let text = String::from_utf8_lossy(&line.partial).into_owned();
                    line.partial.clear();
                    if let Some((tag, answer)) = parse_answer(text.trim()) {
                        line.answers.insert(tag, answer);
                    }
                } else if line.partial.len() < 1024 {
                    line.partial.push(byte);
                }
            }
        }
    }

    /// The answer to a command, once.
    pub fn answer(&mut self, ticket: &Ticket) -> Option<AgentAnswer> {
        self.lines
            .get_mut(&ticket.guest.0)?
            .answers
            .remove(&ticket.tag)
    }
}

/// `#TAG ok TEXT` or `#TAG error TEXT`; anything else (an echo, noise of the boot) is no answer.
fn parse_answer(line: &str) -> Option<(u32, AgentAnswer)> {
    let line = &line[line.find('#')?..];
    let (tag, rest) = line.strip_prefix('#')?.split_once(' ')?;
    let tag = tag.parse().ok()?;
    let (verdict, text) = rest.split_once(' ').unwrap_or((rest, ""));
    match verdict {
        "ok" => Some((tag, Ok(text.to_owned()))),
        "error" => Some((tag, Err(text.to_owned()))),
        _ => None,
    }
}

/// The number after a word in an answer: `field(text, "total_kib")`.
#[must_use]
pub fn field(text: &str, name: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_echoes() {
        assert_eq!(
            parse_answer("#3 ok verified 5"),
            Some((3, Ok("verified 5".into())))
        );
        assert_eq!(
            parse_answer("\u{0}#4 error no memory"),
            Some((4, Err("no memory".into())))
        );
        for noise in ["#5 touch 4096 10", "hello", "#x ok", "", "#"] {
            assert_eq!(parse_answer(noise), None, "{noise}");
        }
    }

    #[test]
    fn fields_are_found_by_name() {
        let text = "total_kib 12 available_kib 34";
        assert_eq!(field(text, "available_kib"), Some(34));
        assert_eq!(field(text, "free_kib"), None);
    }
}
