//! One line of progress for each step and each download.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Runs one step under a line that says what is done and, at its end, how long it took.
///
/// # Errors
/// Those of the step.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    judged(what, work, |_| true)
}

/// Like [`step`], for work whose result can be a failure too.
///
/// # Errors
/// Those of the work.
pub fn judged<T>(
    what: &str,
    work: impl FnOnce() -> Result<T>,
    succeeded: impl FnOnce(&T) -> bool,
) -> Result<T> {
    let began = Instant::now();
    let bar = line(what);
    let result = work();
    let good = result.as_ref().is_ok_and(succeeded);
    finish(&bar, what, began, good);
    result
}

/// Like [`step`], for work that downloads into `dir`: the line shows the bytes that have arrived there.
///
/// # Errors
/// Those of the work.
pub fn download<T>(
    what: &str,
    dir: &Path,
    total_bytes: u64,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if !std::io::stderr().is_terminal() {
        let what = format!("{what} ({:.1} MB)", total_bytes as f64 / 1e6);
        return step(&what, work);
    }
    let began = Instant::now();
    let bar = ProgressBar::new(total_bytes);
    if let Ok(style) =
        ProgressStyle::with_template("  {msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}")
    {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let result = std::thread::scope(|scope| {
        let watched = bar.clone();
        scope.spawn(move || {
            while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) =
                stopped.recv_timeout(Duration::from_millis(100))
            {
                watched.set_position(bytes_in(dir).min(total_bytes));
            }
        });
        let result = work();
        drop(stop);
        result
    });
    finish(&bar, what, began, result.is_ok());
    result
}

/// What failed in this run, in its order.
static FAILURES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Says that something failed, now and in the list at the end.
pub fn failed(what: &str) {
    println!("    {what}");
    note_failure(what);
}

/// Something failed and was said: it joins the list at the end.
pub fn note_failure(what: &str) {
    let mut failures = FAILURES.lock().unwrap_or_else(PoisonError::into_inner);
    failures.push(what.to_owned());
}

/// Prints all that failed, a line each, so that the end of a long log tells it.
pub fn print_failures() {
    for what in FAILURES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        println!("failed: {}", what.lines().next().unwrap_or_default());
    }
}

fn line(what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("  {what} ...");
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn finish(bar: &ProgressBar, what: &str, began: Instant, succeeded: bool) {
    bar.finish_and_clear();
    let mark = if succeeded { "ok" } else { "FAILED" };
    eprintln!("  {what}: {mark} ({:.1} s)", began.elapsed().as_secs_f64());
}

fn bytes_in(dir: &Path) -> u64 {
    std::fs::read_dir(dir).map_or(0, |entries| {
        entries
            .flatten()
            .map(|entry| match entry.metadata() {
                Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
                Ok(meta) => meta.len(),
                Err(_) => 0,
            })
            .sum()
    })
}
