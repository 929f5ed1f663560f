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
        used_us: 0,
        row: None,
    };
    let mut finance = guest(0, "Finance", true);
    finance.row = Some(row);
    Snapshot {
        t_ms: 12_345,
        host: HostRow {
            reserve: Pieces(64),
            headroom: Pieces(300),
            reported: Pieces(320),
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
host: 2048 MiB in all = pool 1260 + granted 768 + cleaning 20   reported free 640   reserve 128   headroom 600   (12.3 s)
guest          state      assigned  visible   demand  pressure  heard status                    weight  buffer  minimum  startup  maximum
Finance        running         768      770      614      79 %    now Warning (at-maximum)        5000    20 %      128      256     1024
Service        stopped           -        -        -         -      - -                              -       -        -        -        -";
    assert_eq!(table::plain(&snapshot()), expected);
}

/// A snapshot in which the first guest's figures are of another age.
fn aged(age_ms: u32) -> Snapshot {
    let mut snapshot = snapshot();
    for row in snapshot.guests.iter_mut().flat_map(|guest| &mut guest.row) {
        row.age_ms = age_ms;
        row.flag = if age_ms >= 30_000 {
            Flag::Silent
        } else {
            Flag::None
        };
    }
    snapshot
}

#[test]
fn figures_that_a_guest_did_not_refresh_are_shown_with_their_age() {
    for (age_ms, shown) in [
        (0, "now"),
        (4999, "now"),
        (5000, "5 s"),
        (42_000, "42 s"),
        (999_000, "999 s"),
        (1_000_000, "16 min"),
        (u32::MAX, "71582 min"),
    ] {
        assert_eq!(table::cells(&aged(age_ms).guests[0])[6], shown, "{age_ms}");
    }
    assert_eq!(table::cells(&aged(42_000).guests[0])[7], "Warning (silent)");
    let history = [aged(500), aged(6000), aged(42_000), aged(300)];
    let json: serde_json::Value =
        serde_json::from_str(&operator::report::to_json(&history, &[]).unwrap()).unwrap();
    let ages: Vec<u64> = json["samples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sample| sample["age_ms"].as_u64().unwrap())
        .collect();
    assert_eq!(ages, [500, 6000, 42_000, 300]);
    assert_eq!(json["samples"][2]["flag"], "silent");
    assert_eq!(json["frames"][0]["reported"], 320);
    let svg = operator::plot::to_svg("t", &history, &[]);
    assert_eq!(svg.matches("class=\"old\"").count(), 1, "one span");
    assert!(svg.contains("640 MiB reported free and still promised"));
    let silent = operator::plot::to_svg("t", &history[..3], &[]);
    assert!(silent.contains("768 MiB, silent for 42 s"));
    let fresh = operator::plot::to_svg("t", &history[..1], &[]);
    assert!(!fresh.contains("class=\"old\""));
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
