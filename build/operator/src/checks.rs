//! What a scenario's run must have shown.

use crate::report::Check;
use crate::snapshot::Snapshot;
use protocol::supervisor::GuestState;
use std::collections::BTreeMap;

/// Longest stall allowed, in milliseconds of guest time.
const STALL_LIMIT_MS: u64 = 2000;
/// What a guest's kernel keeps from `MemTotal`: its own image and tables, 1/32 of memory (page structures are 1/64) and
/// a fixed part.
const KERNEL_SHARE: u64 = 32;
/// See [`KERNEL_SHARE`].
const KERNEL_FIXED_MIB: u64 = 96;
/// The balancer's figures are as old as the guest's last report (at most a second), and the guest runs meanwhile.
const DEMAND_SLACK_MIB: u64 = 32;

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// How each row ended.
    pub rows: Vec<RowEnd>,
    /// Guests that a row started.
    pub started: Vec<Started>,
    /// What the guests' own kernels said.
    pub inside: Vec<Inside>,
    /// What was read back.
    pub verified: Vec<Verified>,
    /// Longest stall of each guest.
    pub stall_ms: BTreeMap<String, u64>,
    /// Processes killed for want of memory, by each guest's own count; none where it did not answer.
    pub oom_kills: BTreeMap<String, Option<u64>>,
    /// Guests whose balloon had to give memory back.
    pub balloon: Vec<String>,
    /// Why the scenario could not go on.
    pub failure: Option<String>,
    /// It came to its end.
    pub finished: bool,
}

/// How a row ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RowEnd {
    /// Which.
    pub minute: f64,
    /// How many guests it names.
    pub expected: usize,
    /// Its guests.
    pub guests: Vec<GuestEnd>,
    /// All were within their tolerance for a while before the time was up.
    pub settled: bool,
}

/// A guest at the end of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestEnd {
    /// Its name.
    pub guest: String,
    /// What the scenario says.
    pub figure_mib: u64,
    /// What it had: the frames granted to it, and nothing else.
    pub assigned_mib: u64,
    /// Its buffer.
    pub buffer_percent: u8,
}

impl GuestEnd {
    /// What a sample says about a guest; none while the guest has no row.
    #[must_use]
    pub fn of(snapshot: &Snapshot, name: &str, figure_mib: u64) -> Option<Self> {
        let row = snapshot.guest(name)?.row?;
        Some(Self {
            guest: name.to_owned(),
            figure_mib,
            assigned_mib: row.assigned.mib(),
            buffer_percent: row.settings.buffer_percent,
        })
    }

    /// How far assigned memory is from the figure.
    #[must_use]
    pub const fn distance_mib(&self) -> u64 {
        self.assigned_mib.abs_diff(self.figure_mib)
    }

    /// Whether that is within one buffer of the figure.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.distance_mib() * 100 <= self.figure_mib * u64::from(self.buffer_percent)
    }
}

/// A guest that was started while the others ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    /// Its name.
    pub guest: String,
    /// Seconds of the board's time until its workload had answered and was measured.
    pub seconds: f64,
}

/// What a guest's own kernel said, beside what balancer and VMM said at that time.
#[derive(Clone, Debug, PartialEq)]
pub struct Inside {
    /// At the end of which row.
    pub minute: f64,
    /// Its name.
    pub guest: String,
    /// The host's: what the guest has.
    pub visible_mib: u64,
    /// The host's: what it needs.
    pub demand_mib: u64,
    /// `MemTotal`.
    pub total_mib: u64,
    /// `MemAvailable`.
    pub available_mib: u64,
    /// In the balloon, by the guest's count.
    pub balloon_mib: u64,
}

impl Inside {
    /// `MemTotal` without the balloon is `visible` without what the guest's kernel keeps for itself (under
    /// DEFLATE_ON_OOM `MemTotal` does not follow the balloon), and `visible - MemAvailable` is the demand.
    fn disagreement(&self) -> Option<String> {
        let usable = self.total_mib.saturating_sub(self.balloon_mib);
        let kept = self.visible_mib / KERNEL_SHARE + KERNEL_FIXED_MIB;
        if usable > self.visible_mib || usable + kept < self.visible_mib {
            return Some(format!(
                "MemTotal {} - balloon {} = {usable} is not within {kept} below visible {}",
                self.total_mib, self.balloon_mib, self.visible_mib
            ));
        }
        let used = self.visible_mib.saturating_sub(self.available_mib);
        let slack = DEMAND_SLACK_MIB + self.visible_mib / KERNEL_SHARE;
        if used.abs_diff(self.demand_mib) > slack {
            return Some(format!(
                "visible {} - MemAvailable {} = {used} is not within {slack} of demand {}",
                self.visible_mib, self.available_mib, self.demand_mib
            ));
        }
        None
    }
}

/// What reading everything back gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// At the end of which row.
    pub minute: f64,
    /// Whose.
    pub guest: String,
    /// Bytes that were right, or what was not.
    pub result: Result<u64, String>,
}

fn check(name: impl Into<String>, problems: &[String], detail: String) -> Check {
    Check {
        name: name.into(),
        ok: problems.is_empty(),
        detail: if problems.is_empty() {
            detail
        } else {
            problems.join("; ")
        },
    }
}

/// All checks, in the order of the example.
#[must_use]
pub fn evaluate(evidence: &Evidence, history: &[Snapshot]) -> Vec<Check> {
    let mut checks = Vec::new();
    let ran = match (&evidence.failure, evidence.finished) {
        (Some(why), _) => vec![why.clone()],
        (None, false) => vec!["it was interrupted".into()],
        (None, true) => Vec::new(),
    };
    let rows = evidence.rows.len();
    checks.push(check(
        "the scenario ran to its end",
        &ran,
        format!("{rows} rows"),
    ));
    checks.extend(evidence.rows.iter().map(row_check));
    checks.extend(
        evidence
            .started
            .iter()
            .map(|started| start_check(started, history)),
    );
    checks.extend(
        evidence
            .balloon
            .iter()
            .map(|name| balloon_check(name, history)),
    );
    checks.push(oom_check(evidence, history));
    checks.push(restart_check(evidence, history));
    checks.push(stall_check(evidence));
    checks.push(verify_check(evidence));
    checks.push(conservation_check(history));
    checks.push(inside_check(evidence));
    checks
}

fn row_check(row: &RowEnd) -> Check {
    let mut figures = Vec::new();
    let mut problems = Vec::new();
    for end in &row.guests {
        let text = format!(
            "{} {} of {} MiB ± {} %",
            end.guest, end.assigned_mib, end.figure_mib, end.buffer_percent
        );
        if !end.is_within() {
            problems.push(format!("{text} is off by {}", end.distance_mib()));
        }
        figures.push(text);
    }
    if row.guests.len() < row.expected {
        problems.push(format!(
            "only {} of {} guests have a row at the balancer",
            row.guests.len(),
            row.expected
        ));
    }
    if problems.is_empty() && !row.settled {
        problems.push(format!("it did not stay settled: {}", figures.join(", ")));
    }
    check(
        format!(
            "assigned memory ends minute {} within one buffer",
            row.minute
        ),
        &problems,
        figures.join(", "),
    )
}

fn start_check(started: &Started, history: &[Snapshot]) -> Check {
    let mut problems = Vec::new();
    let state = history
        .last()
        .and_then(|snapshot| snapshot.guest(&started.guest));
    match state {
        Some(guest) if guest.state == GuestState::Running => {}
        Some(guest) => problems.push(format!("it ends as {:?}", guest.state)),
        None => problems.push("it is not in the samples".into()),
    }
    if let Some(over) = history
        .iter()
        .find(|snapshot| snapshot.counted.granted > snapshot.counted.total)
    {
        problems.push(format!(
            "at {} ms {} frames are granted of {}",
            over.t_ms, over.counted.granted.0, over.counted.total.0
        ));
    }
    let most = history
        .iter()
        .map(|snapshot| snapshot.counted.granted.mib())
        .max()
        .unwrap_or(0);
    let total = history
        .last()
        .map_or(0, |snapshot| snapshot.counted.total.mib());
    check(
        format!("{} starts within the pool", started.guest),
        &problems,
        format!(
            "ready after {:.1} s; at most {most} of {total} MiB granted",
            started.seconds
        ),
    )
}

/// What a guest's balloon had given back when that was most.
fn balloon_check(name: &str, history: &[Snapshot]) -> Check {
    let mut asked_mib = 0;
    let mut most = (0, 0, 0);
    for row in history
        .iter()
        .filter_map(|snapshot| snapshot.guest(name)?.row)
    {
        // Reclaim of memory that was there at the start is the balloon's: nothing is plugged then.
        asked_mib = asked_mib.max(row.settings.bounds.startup.minus(row.target).mib());
        let returned_mib = u64::from(row.ballooned_mib.saturating_sub(row.stranded_mib));
        most = most.max((returned_mib, row.ballooned_mib, row.stranded_mib));
    }
    let (returned_mib, ballooned_mib, stranded_mib) = most;
    let percent = (returned_mib * 100).checked_div(asked_mib).unwrap_or(0);
    let figures = format!(
        "asked for {asked_mib} MiB, {ballooned_mib} MiB in the balloon, of which {returned_mib} MiB came back in whole pieces ({percent} % of what was asked) and {stranded_mib} MiB lay stranded"
    );
    let mut problems = Vec::new();
    if returned_mib == 0 {
        problems.push(figures.clone());
    }
    check(
        format!("the balloon of {name} gives memory back"),
        &problems,
        figures,
    )
}

fn oom_check(evidence: &Evidence, history: &[Snapshot]) -> Check {
    let mut problems = Vec::new();
    for (name, kills) in &evidence.oom_kills {
        match kills {
            Some(0) => {}
            Some(kills) => problems.push(format!("{name} killed {kills}")),
            None => problems.push(format!("{name} did not say")),
        }
    }
    // The balancer's count also covers what a guest forgot by a restart.
    for guest in history.last().iter().flat_map(|snapshot| &snapshot.guests) {
        if let Some(kills) = guest
            .row
            .map(|row| row.oom_kills)
            .filter(|kills| *kills > 0)
        {
            problems.push(format!("{}: the balancer counted {kills}", guest.name));
        }
    }
    if evidence.oom_kills.is_empty() {
        problems.push("no guest was asked".into());
    }
    let guests = evidence.oom_kills.len();
    check(
        "no out-of-memory kill",
        &problems,
        format!("0 in {guests} guests"),
    )
}

fn restart_check(evidence: &Evidence, history: &[Snapshot]) -> Check {
    let mut problems = Vec::new();
    let Some(last) = history.last() else {
        return check("no restart", &["no sample".into()], String::new());
    };
    let mut starts = Vec::new();
    for name in evidence.oom_kills.keys() {
        match last.guest(name) {
            Some(guest) if guest.starts == 1 && guest.last_end.is_none() => {
                starts.push(format!("{name} 1"));
            }
            Some(guest) => problems.push(format!(
                "{name} was started {} times, last end {:?}",
                guest.starts, guest.last_end
            )),
            None => problems.push(format!("{name} is not in the last sample")),
        }
    }
    if starts.is_empty() && problems.is_empty() {
        problems.push("no guest was seen to the end".into());
    }
    check(
        "no restart",
        &problems,
        format!("starts: {}", starts.join(", ")),
    )
}

fn stall_check(evidence: &Evidence) -> Check {
    let figures: Vec<String> = evidence
        .stall_ms
        .iter()
        .map(|(name, ms)| format!("{name} {ms} ms"))
        .collect();
    let mut problems: Vec<String> = evidence
        .stall_ms
        .iter()
        .filter(|(_, ms)| **ms > STALL_LIMIT_MS)
        .map(|(name, ms)| format!("{name} stood still for {ms} ms"))
        .collect();
    if figures.is_empty() {
        problems.push("no guest was asked".into());
    }
    check(
        "no stall above 2 s of guest time",
        &problems,
        format!("longest: {}", figures.join(", ")),
    )
}

fn verify_check(evidence: &Evidence) -> Check {
    let mut problems = Vec::new();
    let mut bytes = 0;
    for verified in &evidence.verified {
        match &verified.result {
            Ok(count) => bytes += count,
            Err(why) => problems.push(format!(
                "{} at minute {}: {why}",
                verified.guest, verified.minute
            )),
        }
    }
    if bytes == 0 && problems.is_empty() {
        problems.push("nothing was read back".into());
    }
    let times = evidence.verified.len();
    check(
        "every byte written is read back",
        &problems,
        format!("{} MiB in {times} readings", bytes >> 20),
    )
}

fn conservation_check(history: &[Snapshot]) -> Check {
    let mut problems = Vec::new();
    let lost = history.iter().filter(|snapshot| !snapshot.is_conserved());
    for snapshot in lost.clone().take(3) {
        let counted = &snapshot.counted;
        problems.push(format!(
            "at {} ms pool {} + granted {} + cleaning {} is not {}",
            snapshot.t_ms, counted.pool.0, counted.granted.0, counted.cleaning.0, counted.total.0
        ));
    }
    let more = lost.count().saturating_sub(3);
    if more > 0 {
        problems.push(format!("and in {more} more samples"));
    }
    let totals: std::collections::BTreeSet<u32> = history
        .iter()
        .map(|snapshot| snapshot.counted.total.0)
        .collect();
    if totals.len() != 1 || totals.contains(&0) {
        problems.push(format!("the total was not one number: {totals:?}"));
    }
    let total = totals.first().copied().unwrap_or(0);
    check(
        "pool + granted + cleaning = total at every sample",
        &problems,
        format!("{total} frames in {} samples", history.len()),
    )
}

fn inside_check(evidence: &Evidence) -> Check {
    let mut problems: Vec<String> = evidence
        .inside
        .iter()
        .filter_map(|inside| {
            let why = inside.disagreement()?;
            Some(format!(
                "{} at minute {}: {why}",
                inside.guest, inside.minute
            ))
        })
        .collect();
    if evidence.inside.is_empty() {
        problems.push("no guest was asked".into());
    }
    let detail = evidence
        .inside
        .iter()
        .map(|inside| {
            format!(
                "{} at minute {}: visible {} MemTotal {} balloon {}",
                inside.guest,
                inside.minute,
                inside.visible_mib,
                inside.total_mib,
                inside.balloon_mib
            )
        })
        .collect::<Vec<_>>()
        .join(", ");
    check(
        "/proc/meminfo inside agrees with visible and demand",
        &problems,
        detail,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(visible_mib: u64, total_mib: u64, balloon_mib: u64, available_mib: u64) -> Inside {
        Inside {
            minute: 0.0,
            guest: "a".into(),
            visible_mib,
            demand_mib: 200,
            total_mib,
            available_mib,
            balloon_mib,
        }
    }

    #[test]
    fn stalls_are_allowed_up_to_two_seconds() {
        for (ms, ok) in [(2000, true), (2001, false), (u64::MAX, false)] {
            let evidence = Evidence {
                stall_ms: BTreeMap::from([("a".to_owned(), ms)]),
                ..Evidence::default()
            };
            assert_eq!(stall_check(&evidence).ok, ok, "{ms} ms");
        }
        assert!(!stall_check(&Evidence::default()).ok, "nobody was asked");
    }

    #[test]
    fn one_buffer_is_to_the_byte_and_counts_assigned_memory_alone() {
        let end = |assigned_mib| GuestEnd {
            guest: "a".into(),
            figure_mib: 256,
            assigned_mib,
            buffer_percent: 20,
        };
        // 20 % of 256 MiB are 51.2 MiB.
        for (assigned_mib, within) in [(204, false), (206, true), (306, true), (308, false)] {
            assert_eq!(end(assigned_mib).is_within(), within, "{assigned_mib} MiB");
        }
    }

    #[test]
    fn the_guests_own_figures_are_compared_with_the_hosts() {
        assert_eq!(inside(512, 480, 0, 312).disagreement(), None);
        assert_eq!(inside(256, 480, 240, 56).disagreement(), None, "a balloon");
        for (wrong, part) in [
            (inside(512, 520, 0, 312), "not within 112 below visible 512"),
            (inside(512, 380, 0, 312), "not within 112 below visible 512"),
            (inside(512, 480, 0, 100), "not within 48 of demand 200"),
        ] {
            let why = wrong.disagreement().unwrap();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn a_run_that_saw_nothing_passes_nothing_that_asks_for_evidence() {
        let passed: Vec<String> = evaluate(&Evidence::default(), &[])
            .into_iter()
            .filter(|check| check.ok)
            .map(|check| check.name)
            .collect();
        assert_eq!(passed, Vec::<String>::new());
    }
}
