//! The live watcher: table, messages and a command line on a terminal; a guest's console over the whole of it.

use crate::board::{Board, BoardError, PortId};
use crate::command::{self, Command, HELP};
use crate::session::{Flow, View};
use crate::snapshot::Snapshot;
use crate::table;
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use protocol::console::Port;
use protocol::management::{Answer, HostBody};
use protocol::units::GuestId;
use ratatui::layout::{Constraint, Layout};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph};
use ratatui::{DefaultTerminal, Frame};
use std::collections::VecDeque;
use std::io::{IsTerminal as _, Write};
use std::time::Duration;

/// Messages kept for the lower part of the screen.
const MESSAGES: usize = 500;

/// What the screen shows; apart from the terminal, so that it can be tested.
#[derive(Default)]
pub struct Screen {
    latest: Option<Snapshot>,
    messages: VecDeque<String>,
    typed: String,
    selected: usize,
}

impl Screen {
    /// Adds a message.
    pub fn say(&mut self, line: &str) {
        if self.messages.len() >= MESSAGES {
            self.messages.pop_front();
        }
        self.messages.push_back(line.to_owned());
    }

    /// Takes a new sample.
    pub fn update(&mut self, snapshot: &Snapshot) {
        self.latest = Some(snapshot.clone());
    }

    fn names(&self) -> Vec<String> {
        self.latest
            .iter()
            .flat_map(|snapshot| snapshot.guests.iter().map(|guest| guest.name.clone()))
            .collect()
    }

    /// Takes a key; returns the command that it completes, if any.
    pub fn key(&mut self, key: KeyEvent) -> Option<Command> {
        let guests = self.names();
        match key.code {
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Some(Command::Quit);
            }
            KeyCode::Up => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down => {
                self.selected = (self.selected + 1).min(guests.len().saturating_sub(1));
            }
            KeyCode::Esc => self.typed.clear(),
            KeyCode::Backspace => {
                self.typed.pop();
            }
            KeyCode::Char(character) if self.typed.len() < 100 => self.typed.push(character),
            KeyCode::Enter if self.typed.trim().is_empty() => {
                self.typed.clear();
                if let Some(id) = u16::try_from(self.selected)
                    .ok()
                    .filter(|_| !guests.is_empty())
                {
                    return Some(Command::Attach(GuestId(id)));
                }
            }
            KeyCode::Enter => {
                let typed = std::mem::take(&mut self.typed);
                self.say(&format!("> {typed}"));
                match command::parse(&typed, &guests) {
                    Ok(command) => return Some(command),
                    Err(why) => self.say(&why),
                }
            }
            _ => {}
        }
        None
    }

    /// Draws everything.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let guests = self
            .latest
            .as_ref()
            .map_or(0, |snapshot| snapshot.guests.len());
        let [top, middle, bottom] = Layout::vertical([
            Constraint::Length(u16::try_from(guests).unwrap_or(16) + 3),
            Constraint::Min(3),
            Constraint::Length(2),
        ])
        .areas(frame.area());
        match &self.latest {
            Some(snapshot) => {
                frame.render_widget(table::widget(snapshot, Some(self.selected)), top)
            }
            None => {
                let waiting = Paragraph::new("").block(Block::bordered().title("the board starts"));
                frame.render_widget(waiting, top);
            }
        }
        let room = usize::from(middle.height);
        let skip = self.messages.len().saturating_sub(room);
        let lines: Vec<Line<'_>> = self
            .messages
            .iter()
            .skip(skip)
            .map(|message| Line::from(message.as_str()))
            .collect();
        frame.render_widget(Paragraph::new(lines), middle);
        let prompt = vec![
            Line::from(format!("> {}_", self.typed)),
            Line::from(
                "help lists the commands; arrows choose a guest, Enter attaches its console; Ctrl-C ends",
            ),
        ];
        frame.render_widget(Paragraph::new(prompt), bottom);
    }
}

/// The bytes that a key sends to a guest's console (as a VT100 does); none for keys without any.
#[must_use]
pub fn key_bytes(key: KeyEvent) -> Vec<u8> {
    match key.code {
        KeyCode::Char(character) if key.modifiers.contains(KeyModifiers::CONTROL) => {
            match character.to_ascii_lowercase() {
                letter @ 'a'..='z' => vec![letter as u8 - b'a' + 1],
                ' ' | '@' => vec![0],
                '[' => vec![0x1b],
                '\\' | '4' => vec![0x1c],
                ']' | '5' => vec![0x1d],
                _ => Vec::new(),
            }
        }
        KeyCode::Char(character) => character.to_string().into_bytes(),
        KeyCode::Enter => b"\r".to_vec(),
        KeyCode::Tab => b"\t".to_vec(),
        KeyCode::Backspace => vec![0x7f],
        KeyCode::Esc => vec![0x1b],
        KeyCode::Up => b"\x1b[A".to_vec(),
        KeyCode::Down => b"\x1b[B".to_vec(),
        KeyCode::Right => b"\x1b[C".to_vec(),
        KeyCode::Left => b"\x1b[D".to_vec(),
        KeyCode::Home => b"\x1b[H".to_vec(),
        KeyCode::End => b"\x1b[F".to_vec(),
        KeyCode::Delete => b"\x1b[3~".to_vec(),
        _ => Vec::new(),
    }
}

/// Ctrl-] leaves an attached console.
const LEAVE: u8 = 0x1d;

/// The watcher.
pub struct Live {
    terminal: DefaultTerminal,
    screen: Screen,
    attached: Option<GuestId>,
    dirty: bool,
}

impl Live {
    /// Takes over the terminal until it is dropped.
    ///
    /// # Errors
    /// When standard output is no terminal.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminal: ratatui::try_init()?,
            screen: Screen::default(),
            attached: None,
            dirty: true,
        })
    }

    fn attach(&mut self, board: &mut Board, guest: GuestId) -> anyhow::Result<()> {
        self.attached = Some(guest);
        self.terminal.clear()?;
        let port = PortId::new(guest, Port::Console);
        board.take_output(port);
        let mut output = std::io::stdout();
        write!(output, "console of guest {}; Ctrl-] leaves it\r\n", guest.0)?;
        output.write_all(&board.backlog(port))?;
        output.flush()?;
        Ok(())
    }

    fn leave(&mut self) -> anyhow::Result<()> {
        self.attached = None;
        self.dirty = true;
        // The guest may have left colours or a hidden cursor behind.
        write!(std::io::stdout(), "\x1b[0m\x1b[?25h")?;
        self.terminal.clear()?;
        Ok(())
    }

    fn carry_out(&mut self, board: &mut Board, command: Command) -> anyhow::Result<Flow> {
        match command {
            Command::Quit => return Ok(Flow::Quit),
            Command::Help => HELP.iter().for_each(|line| self.screen.say(line)),
            Command::Attach(guest) => self.attach(board, guest)?,
            Command::Ask(body) => {
                let answer = ask(board, *body);
                self.screen.say(&answer);
            }
        }
        Ok(Flow::GoOn)
    }

    fn console_key(
        &mut self,
        board: &mut Board,
        guest: GuestId,
        key: KeyEvent,
    ) -> anyhow::Result<()> {
        let bytes = key_bytes(key);
        if bytes == [LEAVE] {
            return self.leave();
        }
        if !bytes.is_empty()
            && let Err(error) = board.input(guest, Port::Console, &bytes)
        {
            write!(std::io::stdout(), "\r\n[{error}]\r\n")?;
        }
        Ok(())
    }
}

/// Asks the board and puts the answer into words.
pub fn ask(board: &mut Board, body: HostBody) -> String {
    match board.request(body) {
        Ok(Answer::Done) => "done".into(),
        Ok(Answer::Why(why)) => why.to_string(),
        Ok(other) => format!("{other:?}"),
        Err(BoardError::Refused(why)) => format!("refused: {why}"),
        Err(error) => error.to_string(),
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

impl View for Live {
    fn tick(&mut self, board: &mut Board, latest: Option<&Snapshot>) -> anyhow::Result<Flow> {
        if let Some(snapshot) = latest {
            self.screen.update(snapshot);
            self.dirty = true;
        }
        // A terminal that went away (a closed window, a lost connection) has events without end and none that can be read.
        if !std::io::stdin().is_terminal() {
            return Ok(Flow::Quit);
        }
        while event::poll(Duration::ZERO)? {
            let Event::Key(key) = event::read()? else {
                self.dirty = true;
                continue;
            };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            if let Some(guest) = self.attached {
                self.console_key(board, guest, key)?;
                continue;
            }
            self.dirty = true;
            if let Some(command) = self.screen.key(key)
                && self.carry_out(board, command)? == Flow::Quit
            {
                return Ok(Flow::Quit);
            }
        }
        if let Some(guest) = self.attached {
            let bytes = board.take_output(PortId::new(guest, Port::Console));
            if !bytes.is_empty() {
                let mut output = std::io::stdout();
                output.write_all(&bytes)?;
                output.flush()?;
            }
        } else if self.dirty {
            self.dirty = false;
            let screen = &self.screen;
            self.terminal.draw(|frame| screen.draw(frame))?;
        }
        Ok(Flow::GoOn)
    }

    fn say(&mut self, line: &str) {
        self.screen.say(line);
        self.dirty = true;
    }
}
