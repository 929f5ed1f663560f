//! The report of a run: samples, frames and checks, as JSON.

use crate::snapshot::{Snapshot, flag_name, status_name};
use serde::Serialize;

/// A check and how it came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Whether it held.
    pub ok: bool,
    /// With what figures.
    pub detail: String,
}

#[derive(Serialize)]
struct Sample<'a> {
    t_ms: u64,
    guest: &'a str,
    assigned_mib: u64,
    visible_mib: u32,
    demand_mib: u32,
    target_mib: u64,
    reported_mib: u64,
    stranded_mib: u32,
    pressure: u16,
    status: &'static str,
    /// Beside the status; empty for none.
    flag: &'static str,
    /// How old the guest's own figures (visible, demand) are.
    age_ms: u32,
}

/// In frames of 2 MiB.
#[derive(Serialize)]
struct Frames {
    t_ms: u64,
    total: u32,
    pool: u32,
    granted: u32,
    cleaning: u32,
    /// In the pool, reported free, and still promised.
    reported: u32,
}

#[derive(Serialize)]
struct Report<'a> {
    samples: Vec<Sample<'a>>,
    frames: Vec<Frames>,
    checks: &'a [Check],
}

/// The report as JSON text.
///
/// # Errors
/// Never with this data; the error is the serialiser's.
pub fn to_json(history: &[Snapshot], checks: &[Check]) -> serde_json::Result<String> {
    let mut samples = Vec::new();
    let mut frames = Vec::new();
    for snapshot in history {
        frames.push(Frames {
            t_ms: snapshot.t_ms,
            total: snapshot.counted.total.0,
            pool: snapshot.counted.pool.0,
            granted: snapshot.counted.granted.0,
            cleaning: snapshot.counted.cleaning.0,
            reported: snapshot.host.reported.0,
        });
        for guest in &snapshot.guests {
            let Some(row) = &guest.row else { continue };
            samples.push(Sample {
                t_ms: snapshot.t_ms,
                guest: &guest.name,
                assigned_mib: row.assigned.mib(),
                visible_mib: row.visible_mib,
                demand_mib: row.demand_mib,
                target_mib: row.target.mib(),
                reported_mib: row.reported.mib(),
                stranded_mib: row.stranded_mib,
                pressure: row.pressure,
                status: status_name(row.status),
                flag: flag_name(row.flag),
                age_ms: row.age_ms,
            });
        }
    }
    serde_json::to_string_pretty(&Report {
        samples,
        frames,
        checks,
    })
}
