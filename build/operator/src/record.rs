//! A recording of a run: what each guest needed and what it had, as a trace that can be played again through any policy.
//!
//! The file is text. Lines that begin with `#` come first: the host's pool and reserve, and each guest's settings as they were
//! when it was first seen. Then comes a line for each sample of each guest: seconds since power-on by the board's clock, the
//! guest's name, its demand and the memory granted to it in MiB. A guest has lines from its first report on and while it runs.

use crate::snapshot::{Guest, Snapshot};
use protocol::balancer::{Flag, Settings};
use std::fmt::Write as _;

/// The line above the samples.
const COLUMNS: &str = "time_s,guest,demand_mib,assigned_mib";

/// One guest at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    t_ms: u64,
    /// Its place in [`Recording::guests`].
    guest: usize,
    demand_mib: u32,
    assigned_mib: u32,
}

/// What has been recorded so far. It takes 24 bytes for each guest and sample, so a day of four guests fits in 40 MiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    pool_mib: u64,
    reserve_mib: u64,
    guests: Vec<(String, Settings)>,
    samples: Vec<Sample>,
}

impl Recording {
    /// Adds what a sample says. The pool and its reserve are those of the first one.
    pub fn add(&mut self, snapshot: &Snapshot) {
        if self.pool_mib == 0 {
            self.pool_mib = snapshot.counted.total.mib();
            self.reserve_mib = snapshot.host.reserve.mib();
        }
        for guest in &snapshot.guests {
            self.add_guest(snapshot.t_ms, guest);
        }
    }

    fn add_guest(&mut self, t_ms: u64, guest: &Guest) {
        // Before its first report nobody knows what it needs.
        let Some(row) = guest.row.filter(|row| row.flag != Flag::Starting) else {
            return;
        };
        let known = self.guests.iter().position(|(name, _)| *name == guest.name);
        let index = known.unwrap_or_else(|| {
            self.guests.push((guest.name.clone(), row.settings));
            self.guests.len() - 1
        });
        self.samples.push(Sample {
            t_ms,
            guest: index,
            demand_mib: row.demand_mib,
            assigned_mib: u32::try_from(row.assigned.mib()).unwrap_or(u32::MAX),
        });
    }

    /// The file's text.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut text = format!(
            "# pool_mib = {}\n# reserve_mib = {}\n",
            self.pool_mib, self.reserve_mib
        );
        for (name, settings) in &self.guests {
            let bounds = settings.bounds;
            let _ = writeln!(
                text,
                "# guest {name} {} {} {} {} {}",
                bounds.startup.mib(),
                bounds.minimum.mib(),
                bounds.maximum.mib(),
                settings.buffer_percent,
                settings.weight
            );
        }
        let _ = writeln!(text, "{COLUMNS}");
        for sample in &self.samples {
            let Some((name, _)) = self.guests.get(sample.guest) else {
                continue;
            };
            let _ = writeln!(
                text,
                "{}.{:03},{name},{},{}",
                sample.t_ms / 1000,
                sample.t_ms % 1000,
                sample.demand_mib,
                sample.assigned_mib
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::balancer::{HostRow, Mode, OnRefusal, OnSilence, Row, Status};
    use protocol::memory::{Bounds, HostAccount};
    use protocol::supervisor::GuestState;
    use protocol::units::{GuestId, Pieces};

    fn guest(name: &str, demand_mib: u32, assigned: u32, flag: Flag) -> Guest {
        Guest {
            id: GuestId(0),
            name: name.into(),
            state: GuestState::Running,
            starts: 1,
            last_end: None,
            used_us: 0,
            row: Some(Row {
                settings: Settings {
                    mode: Mode::Dynamic,
                    bounds: Bounds {
                        minimum: Pieces(32),
                        startup: Pieces(64),
                        maximum: Pieces(256),
                    },
                    buffer_percent: 25,
                    weight: 5000,
                    on_refusal: OnRefusal::Mark,
                    deadline_ms: 2000,
                    on_silence: OnSilence::Keep,
                },
                assigned: Pieces(assigned),
                target: Pieces(assigned),
                reported: Pieces(0),
                visible_mib: assigned * 2,
                demand_mib,
                ballooned_mib: 0,
                stranded_mib: 0,
                pressure: 0,
                status: Status::Ok,
                flag,
                oom_kills: 0,
                age_ms: 0,
            }),
        }
    }

    fn snapshot(t_ms: u64, guests: Vec<Guest>) -> Snapshot {
        Snapshot {
            t_ms,
            host: HostRow {
                reserve: Pieces(16),
                ..HostRow::default()
            },
            counted: HostAccount {
                total: Pieces(256),
                ..HostAccount::default()
            },
            guests,
        }
    }

    #[test]
    fn a_guest_is_recorded_from_its_first_report_on_and_while_it_runs() {
        let mut recording = Recording::default();
        recording.add(&snapshot(
            900,
            vec![
                guest("a", 0, 64, Flag::Starting),
                guest("b", 70, 64, Flag::None),
            ],
        ));
        let stopped = Guest {
            row: None,
            ..guest("b", 0, 0, Flag::None)
        };
        recording.add(&snapshot(
            1200,
            vec![guest("a", 100, 66, Flag::None), stopped],
        ));
        recording.add(&snapshot(
            61_005,
            vec![
                guest("a", 90, 64, Flag::AtMaximum),
                guest("b", 71, 62, Flag::None),
            ],
        ));
        assert_eq!(
            recording.to_csv(),
            "# pool_mib = 512\n\
             # reserve_mib = 32\n\
             # guest b 128 64 512 25 5000\n\
             # guest a 128 64 512 25 5000\n\
             time_s,guest,demand_mib,assigned_mib\n\
             0.900,b,70,128\n\
             1.200,a,100,132\n\
             61.005,a,90,128\n\
             61.005,b,71,124\n"
        );
    }

    #[test]
    fn settings_are_those_at_first_sight() {
        let mut recording = Recording::default();
        recording.add(&snapshot(0, vec![guest("a", 10, 64, Flag::None)]));
        let mut changed = guest("a", 10, 64, Flag::None);
        changed.row.as_mut().unwrap().settings.buffer_percent = 50;
        recording.add(&snapshot(250, vec![changed]));
        assert_eq!(
            recording
                .to_csv()
                .matches("# guest a 128 64 512 25 5000")
                .count(),
            1
        );
        assert!(!recording.to_csv().contains(" 50 5000"));
    }
}
