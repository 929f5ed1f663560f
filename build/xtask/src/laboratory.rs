//! What the tests have of the laboratory: the verdict over the policy, and whether its guests are as real ones.

use crate::paths::Paths;
use crate::verdict::Counts;
use crate::{progress, test};
use anyhow::{Context as _, Result};
use balancer_lab::calibrate::DIFFERENCE_MAX_PERCENT;
use balancer_lab::verdict;
use std::path::Path;

/// The policy beside its rivals.
pub const LAB_SUITE: &str = "lab";

/// The short form: each row of the verdict counts. Failures that are known, and no worse, are accepted.
///
/// # Errors
/// When it cannot be played, or the log not written.
pub fn short(paths: &Paths) -> Result<Counts> {
    let log = paths.logs().join(format!("{LAB_SUITE}.log"));
    let counts = progress::judged(
        "the policy in the laboratory",
        || {
            let rows = balancer_lab::short()?;
            let text = verdict::text(&rows) + &verdict::summary(&rows);
            std::fs::create_dir_all(paths.logs())?;
            std::fs::write(&log, text).with_context(|| log.display().to_string())?;
            let failed = rows
                .iter()
                .filter(|row| !row.ok() && !row.is_known())
                .count() as u64;
            Ok(Counts {
                passed: rows.len() as u64 - failed,
                failed,
            })
        },
        Counts::good,
    )?;
    test::show(LAB_SUITE, counts, &log, |text| {
        text.lines()
            .filter(|line| line.starts_with("FAILS"))
            .map(str::to_owned)
            .collect()
    });
    Ok(counts)
}

/// Whether the laboratory's guests, given the demand of real ones, have the memory that those had: each guest counts.
///
/// # Errors
/// When the recording cannot be read.
pub fn calibrated(name: &str, recording: &Path) -> Result<Counts> {
    let mut counts = Counts::default();
    for guest in balancer_lab::calibrate_file(recording)? {
        if guest.percent <= DIFFERENCE_MAX_PERCENT {
            counts.passed += 1;
        } else {
            counts.failed += 1;
            progress::failed(&format!(
                "{name}: the laboratory's {} is {:.1} % from the real one, more than {DIFFERENCE_MAX_PERCENT} %",
                guest.guest, guest.percent
            ));
        }
    }
    Ok(counts)
}
