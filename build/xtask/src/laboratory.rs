//! What the tests have of the laboratory: the verdict over the policy.

use crate::paths::Paths;
use crate::verdict::Counts;
use crate::{progress, test};
use anyhow::{Context as _, Result};
use balancer_lab::verdict;

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
