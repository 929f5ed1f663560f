//! Whole runs against a simulated board: what holds, and what each check notices.

mod board;

use board::{Fault, boot};
use operator::{Afterwards, Check, Outcome, RunOptions, Scenario, Show, run};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A scenario that a simulated board plays in seconds.
const SMALL: &str = r#"
name = "small"
balloon = ["b"]
second_per_minute = 0.1
ramp_s = 0.3
settle_s = 6
boot_s = 20

[[row]]
minute = 0
title = "idle"
assigned_mib = { a = 64, b = 64 }

[[row]]
minute = 5
title = "a grows"
assigned_mib = { a = 160, b = 64 }

[[row]]
minute = 10
title = "c is started"
start = ["c"]
delay_minutes = { a = 2.5 }
assigned_mib = { a = 96, b = 128, c = 64 }
"#;

/// A check that was not made by the operator.
const ELSEWHERE: &str = "what was watched elsewhere";

struct Files {
    report: serde_json::Value,
    plot: String,
    record: String,
    transcript: String,
}

fn play(fault: Fault, name: &str) -> (Outcome, Files) {
    let board = boot(fault);
    let directory = std::env::temp_dir().join(format!("operator-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = |file: &str| directory.join(file);
    let outcome = run(RunOptions {
        input: Box::new(board.from_board),
        output: Box::new(board.to_board),
        scenario: Some(Scenario::parse("small", SMALL).unwrap()),
        show: Show::Plain,
        afterwards: Afterwards::End,
        report: Some(path("report.json")),
        plot: Some(path("plot.svg")),
        record: Some(path("record.csv")),
        transcript: Some(path("line.log")),
        programs: Vec::new(),
        boot_timeout: Duration::from_secs(20),
        more_checks: Some(Box::new(|| {
            vec![Check {
                name: ELSEWHERE.into(),
                ok: true,
                detail: String::new(),
            }]
        })),
        stop: Arc::new(AtomicBool::new(false)),
    })
    .unwrap();
    let text = |file| std::fs::read_to_string(path(file)).unwrap();
    let files = Files {
        report: serde_json::from_str(&text("report.json")).unwrap(),
        plot: text("plot.svg"),
        record: text("record.csv"),
        transcript: text("line.log"),
    };
    if std::env::var_os("KEEP_RUNS").is_none() {
        std::fs::remove_dir_all(&directory).unwrap();
    }
    (outcome, files)
}

/// The checks that failed, but for the one on stalls: the simulated guests stand still whenever this machine is busy.
fn failed(outcome: &Outcome) -> Vec<&str> {
    outcome
        .checks
        .iter()
        .filter(|check| !check.ok && !check.name.starts_with("no stall"))
        .map(|check| check.name.as_str())
        .collect()
}

#[test]
fn a_sound_board_passes_every_check() {
    let (outcome, files) = play(Fault::None, "sound");
    assert_eq!(failed(&outcome), [""; 0], "{:#?}", outcome.checks);
    let names: Vec<&str> = outcome
        .checks
        .iter()
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "the scenario ran to its end",
            "assigned memory ends minute 0 within one buffer",
            "assigned memory ends minute 5 within one buffer",
            "assigned memory ends minute 10 within one buffer",
            "c starts within the pool",
            "the balloon of b gives memory back",
            "no out-of-memory kill",
            "no restart",
            "no stall above 2 s of guest time",
            "every byte written is read back",
            "pool + granted + cleaning = total at every sample",
            "/proc/meminfo inside agrees with visible and demand",
            ELSEWHERE,
        ]
    );
    the_report_has_the_agreed_fields(&files);
    the_plot_and_the_recording_can_be_read(&files);
    assert!(files.transcript.contains("board: kernel: starts"));
    assert!(files.transcript.contains("uses 20 MiB when idle"));
}

fn the_report_has_the_agreed_fields(files: &Files) {
    let keys = |value: &serde_json::Value| {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(keys(&files.report), "checks frames samples");
    assert_eq!(
        keys(&files.report["samples"][0]),
        "age_ms assigned_mib demand_mib flag guest pressure reported_mib status stranded_mib t_ms target_mib visible_mib"
    );
    assert_eq!(
        keys(&files.report["frames"][0]),
        "cleaning granted pool reported t_ms total"
    );
    assert_eq!(keys(&files.report["checks"][0]), "detail name ok");
    let samples = files.report["samples"].as_array().unwrap();
    assert!(samples.iter().any(|sample| sample["guest"] == "c"));
    let most = samples
        .iter()
        .filter(|sample| sample["guest"] == "a")
        .filter_map(|sample| sample["assigned_mib"].as_u64())
        .max();
    assert!(
        most.is_some_and(|most| (128..=192).contains(&most)),
        "{most:?}"
    );
}

fn the_plot_and_the_recording_can_be_read(files: &Files) {
    for word in [
        "memory in MiB",
        "seconds since",
        "minute 5",
        "minute 10",
        "minute 12.5",
        "pool: 512 MiB",
        ">a: ",
        ">c: ",
    ] {
        assert!(files.plot.contains(word), "the plot lacks {word:?}");
    }
    let mut lines = files.record.lines();
    let head: Vec<&str> = lines.by_ref().take(6).collect();
    assert_eq!(
        head,
        [
            "# pool_mib = 512",
            "# reserve_mib = 32",
            "# guest a 64 32 256 20 5000",
            "# guest b 64 32 256 20 5000",
            "# guest c 64 32 256 20 5000",
            "time_s,guest,demand_mib,assigned_mib",
        ]
    );
    let recorded = lines
        .filter_map(|line| {
            line.split(',')
                .collect::<Vec<_>>()
                .get(1..4)?
                .try_into()
                .ok()
        })
        .filter(|[guest, demand, _]: &[&str; 3]| *guest == "a" && *demand == "128")
        .filter(|[.., assigned]| *assigned == "160")
        .count();
    assert!(recorded > 0, "{}", files.record);
}

#[test]
fn a_noisy_line_changes_nothing() {
    let (outcome, _) = play(Fault::NoisyLine, "noisy");
    assert_eq!(failed(&outcome), [""; 0], "{:#?}", outcome.checks);
}

#[test]
fn a_lost_frame_is_noticed() {
    let (outcome, _) = play(Fault::LostFrame, "lost");
    assert_eq!(
        failed(&outcome),
        ["pool + granted + cleaning = total at every sample"]
    );
}

#[test]
fn memory_that_does_not_move_is_noticed() {
    let (outcome, _) = play(Fault::StuckBalancer, "stuck");
    let failed = failed(&outcome);
    assert!(
        failed.contains(&"assigned memory ends minute 5 within one buffer"),
        "{failed:?}"
    );
}

#[test]
fn a_balloon_that_gives_nothing_back_is_noticed() {
    let (outcome, _) = play(Fault::IdleBalloon, "balloon");
    assert_eq!(failed(&outcome), ["the balloon of b gives memory back"]);
}

#[test]
fn an_out_of_memory_kill_is_noticed() {
    let (outcome, _) = play(Fault::OomKill, "oom");
    assert_eq!(failed(&outcome), ["no out-of-memory kill"]);
}

#[test]
fn a_restart_is_noticed() {
    let (outcome, _) = play(Fault::Restart, "restart");
    assert_eq!(failed(&outcome), ["no restart"]);
}

#[test]
fn a_board_that_goes_away_ends_the_run_with_a_report() {
    let (outcome, files) = play(Fault::SwitchedOff, "off");
    assert_eq!(
        outcome.interrupted.as_deref(),
        Some("the line to the board is closed")
    );
    assert!(!outcome.is_ok());
    assert!(!files.report["samples"].as_array().unwrap().is_empty());
    assert!(files.record.lines().count() > 5, "{}", files.record);
    let ran = &outcome.checks[0];
    assert_eq!((ran.ok, ran.detail.as_str()), (false, "it was interrupted"));
}
