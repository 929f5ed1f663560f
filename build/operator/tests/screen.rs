//! What the operator sees and types.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use operator::command::Command;
use operator::live::{Screen, key_bytes};
use operator::snapshot::{Guest, Snapshot};
use operator::table;
use protocol::balancer::{Flag, HostRow, Mode, OnRefusal, OnSilence, Row, Settings, Status};
use protocol::management::HostBody;
use protocol::memory::{Bounds, HostAccount};
use protocol::supervisor::GuestState;
use protocol::units::{GuestId, Pieces};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

fn snapshot() -> Snapshot {
    let row = Row {
        settings: Settings {
            mode: Mode::Dynamic,
            bounds: Bounds {
                minimum: Pieces(64),
                startup: Pieces(128),
                maximum: Pieces(512),
            },
            buffer_percent: 20,
            weight: 5000,
            on_refusal: OnRefusal::Mark,
            deadline_ms: 2000,
            on_silence: OnSilence::Keep,
        },
        assigned: Pieces(384),
        target: Pieces(384),
        reported: Pieces(0),
        visible_mib: 770,
        demand_mib: 614,
        ballooned_mib: 0,
        stranded_mib: 0,
        pressure: 79,
        status: Status::Warning,
        flag: Flag::AtMaximum,
        oom_kills: 0,
        age_ms: 0,
    };
    let guest = |id, name: &str, row| Guest {
        id: GuestId(id),
        name: name.into(),
        state: if row {
            GuestState::Running
        } else {
            GuestState::Stopped
        },
        starts: 1,
        last_end: None,
        row: None,
    };
    let mut finance = guest(0, "Finance", true);
    finance.row = Some(row);
    Snapshot {
        t_ms: 12_345,
        host: HostRow {
            reserve: Pieces(64),
            headroom: Pieces(300),
            ..HostRow::default()
        },
        counted: HostAccount {
            total: Pieces(1024),
            pool: Pieces(630),
            granted: Pieces(384),
            cleaning: Pieces(10),
            ..HostAccount::default()
        },
        guests: vec![finance, guest(1, "Service", false)],
    }
}

#[test]
fn the_plain_table_shows_every_column_and_the_host() {
    let expected = "\
host: 2048 MiB in all = pool 1260 + granted 768 + cleaning 20   reserve 128   headroom 600   (12.3 s)
guest          state      assigned  visible   demand  pressure status                    weight  buffer  minimum  startup  maximum
Finance        running         768      770      614      79 % Warning (at-maximum)        5000    20 %      128      256     1024
Service        stopped           -        -        -         - -                              -       -        -        -        -";
    assert_eq!(table::plain(&snapshot()), expected);
}

#[test]
fn the_screen_shows_table_messages_and_what_is_typed() {
    let mut screen = Screen::default();
    screen.update(&snapshot());
    screen.say("Finance: uses 61 MiB when idle");
    for character in "why Fi".chars() {
        screen.key(KeyEvent::from(KeyCode::Char(character)));
    }
    let mut terminal = Terminal::new(TestBackend::new(140, 12)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let text = terminal.backend().to_string();
    for part in [
        "pool 1260 + granted 768 + cleaning 20",
        "Warning (at-maximum)",
        "Service",
        "Finance: uses 61 MiB when idle",
        "> why Fi_",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn a_small_terminal_is_no_reason_to_fail() {
    let mut screen = Screen::default();
    screen.update(&snapshot());
    for (width, height) in [(1, 1), (10, 3), (40, 5)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
    }
}

#[test]
fn typed_lines_become_commands() {
    let mut screen = Screen::default();
    screen.update(&snapshot());
    let mut type_line = |line: &str| {
        for character in line.chars() {
            assert_eq!(screen.key(KeyEvent::from(KeyCode::Char(character))), None);
        }
        screen.key(KeyEvent::from(KeyCode::Enter))
    };
    assert_eq!(
        type_line("start Service"),
        Some(Command::Ask(Box::new(HostBody::Start(GuestId(1)))))
    );
    assert_eq!(type_line("strat Service"), None);
    assert_eq!(type_line(""), Some(Command::Attach(GuestId(0))));
    screen.key(KeyEvent::from(KeyCode::Down));
    screen.key(KeyEvent::from(KeyCode::Down));
    assert_eq!(
        screen.key(KeyEvent::from(KeyCode::Enter)),
        Some(Command::Attach(GuestId(1)))
    );
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.key(interrupt), Some(Command::Quit));
}

#[test]
fn keys_are_sent_as_a_terminal_sends_them() {
    let control = |character| KeyEvent::new(KeyCode::Char(character), KeyModifiers::CONTROL);
    for (key, bytes) in [
        (KeyEvent::from(KeyCode::Enter), b"\r".as_slice()),
        (KeyEvent::from(KeyCode::Backspace), b"\x7f"),
        (KeyEvent::from(KeyCode::Up), b"\x1b[A"),
        (KeyEvent::from(KeyCode::Char('ü')), "ü".as_bytes()),
        (control('c'), b"\x03"),
        (control(']'), b"\x1d"),
        (control('5'), b"\x1d"),
        (KeyEvent::from(KeyCode::F(5)), b""),
    ] {
        assert_eq!(key_bytes(key), bytes, "{key:?}");
    }
}
