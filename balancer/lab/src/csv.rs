//! The file format of traces.
//!
//! ```csv
//! # pool_mib = 8192
//! # reserve_mib = 512
//! # guest Finance 1024 1024 4096 20 5000
//! time_s,guest,demand_mib,assigned_mib
//! 0.0,Finance,300,1024
//! ```
//! One line for each guest and moment, in any order; `assigned_mib`, what the guest really had, may be left out. Between two
//! moments demand runs straight. Time counts from the first moment of the file, and a guest starts at its first moment.
//!
//! A guest's settings are its startup, minimum and maximum in MiB, its buffer in percent and its weight, in this order, or each
//! with its name as in `startup_mib=1024`; the last ones may be left out. Lines that begin with `#` are comments, except for
//! those above; without them the pool and the settings are chosen from the demand.

use crate::curve::{Curve, Point};
use crate::families::{self, fitting_kib};
use crate::host::WARM_UP_MS;
use crate::policies::GUESTS_MAX;
use crate::trace::{GuestTrace, Manner, Trace, settings};
use protocol::balancer::Settings;
use protocol::units::Pieces;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The largest amount that a file may name: 64 TiB, in MiB.
const MIB_MAX: f64 = (64 << 20) as f64;
/// The latest moment, in seconds: seconds since 1970 are fine.
const SECONDS_MAX: f64 = 1e11;
/// The longest trace: a week, in milliseconds.
const LENGTH_MAX_MS: u64 = 7 * 24 * 3600 * 1000;
/// The columns, the last of which may be missing.
const COLUMNS: &str = "time_s,guest,demand_mib,assigned_mib";
const COLUMNS_SHORT: &str = "time_s,guest,demand_mib";

/// A mistake in a file: the line, what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "line {}: {}", self.line, self.what)
    }
}

#[derive(Default)]
struct Samples {
    demand: Vec<Point>,
    assigned: Vec<Point>,
}

#[derive(Default)]
struct Reader {
    pool_mib: Option<f64>,
    reserve_mib: Option<f64>,
    settings: BTreeMap<String, Settings>,
    /// In the order of their first lines.
    names: Vec<String>,
    samples: BTreeMap<String, Samples>,
    columns: usize,
}

/// Reads a trace.
///
/// # Errors
/// The first mistake.
pub fn read(name: &str, text: &str) -> Result<Trace, Mistake> {
    let mut reader = Reader::default();
    let mut last = 1;
    for (index, line) in text.lines().enumerate() {
        last = index + 1;
        reader
            .line(line.trim())
            .map_err(|what| Mistake { line: last, what })?;
    }
    reader
        .finish(name)
        .map_err(|what| Mistake { line: last, what })
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() {
            return Ok(());
        }
        if let Some(comment) = line.strip_prefix('#') {
            return self.comment(comment.trim());
        }
        if self.columns == 0 {
            self.columns = match line.replace(' ', "").as_str() {
                COLUMNS => 4,
                COLUMNS_SHORT => 3,
                _ => {
                    return Err(format!(
                        "`{line}`: the first line says the columns: `{COLUMNS}` or `{COLUMNS_SHORT}`"
                    ));
                }
            };
            return Ok(());
        }
        self.sample(line)
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        if fields.len() != self.columns {
            return Err(format!(
                "{} fields: there are {} columns",
                fields.len(),
                self.columns
            ));
        }
        let (time, guest, demand) = (fields[0], fields[1], fields[2]);
        if guest.is_empty() {
            return Err("no guest: a name is needed between the first and the second comma".into());
        }
        let at_ms = (number(time, "a time in seconds", SECONDS_MAX)? * 1000.0).round() as u64;
        let demand_kib = kib(demand)?;
        let assigned_kib = match fields.get(3) {
            None | Some(&"") => None,
            Some(text) => Some(kib(text)?),
        };
        if !self.samples.contains_key(guest) {
            if self.names.len() == GUESTS_MAX {
                return Err(format!(
                    "guest `{guest}` is one too many: at most {GUESTS_MAX}"
                ));
            }
            self.names.push(guest.to_owned());
        }
        let samples = self.samples.entry(guest.to_owned()).or_default();
        if samples.demand.iter().any(|point| point.at_ms == at_ms) {
            return Err(format!("`{guest}` has a line for {time} s already"));
        }
        samples.demand.push(Point {
            at_ms,
            kib: demand_kib,
        });
        if let Some(kib) = assigned_kib {
            samples.assigned.push(Point { at_ms, kib });
        }
        Ok(())
    }

    fn comment(&mut self, comment: &str) -> Result<(), String> {
        if let Some(rest) = comment.strip_prefix("guest ") {
            return self.guest(rest);
        }
        let Some((key, value)) = comment.split_once('=') else {
            return Ok(());
        };
        let slot = match key.trim() {
            "pool_mib" => &mut self.pool_mib,
            "reserve_mib" => &mut self.reserve_mib,
            _ => return Ok(()),
        };
        *slot = Some(number(value.trim(), "an amount in MiB", MIB_MAX)?);
        Ok(())
    }

    fn guest(&mut self, text: &str) -> Result<(), String> {
        const KEYS: [&str; 5] = [
            "startup_mib",
            "minimum_mib",
            "maximum_mib",
            "buffer_percent",
            "weight",
        ];
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        let mut values = [None; KEYS.len()];
        for (place, word) in words.enumerate() {
            let (key, value) = match (word.split_once('='), KEYS.get(place)) {
                (Some(named), _) => named,
                (None, Some(key)) => (*key, word),
                (None, None) => return Err(format!("`{word}`: at most {}", KEYS.join(", "))),
            };
            let slot = KEYS.iter().position(|known| *known == key).ok_or_else(|| {
                format!("`{key}`: no such setting; there are {}", KEYS.join(", "))
            })?;
            values[slot] = Some(number(value, "a number", MIB_MAX)?);
        }
        let [startup, minimum, maximum, buffer, weight] = values;
        let startup = startup.ok_or("no startup_mib: it is needed, as in `startup_mib=512`")?;
        let (minimum, maximum) = (minimum.unwrap_or(startup), maximum.unwrap_or(startup));
        if minimum < 2.0 || minimum > startup || startup > maximum {
            return Err(format!(
                "minimum {minimum}, startup {startup}, maximum {maximum} MiB: \
                 must be at least 2 MiB, and none above the next"
            ));
        }
        let (buffer, weight) = (buffer.unwrap_or(20.0), weight.unwrap_or(5000.0));
        if !(5.0..=95.0).contains(&buffer) {
            return Err(format!("buffer {buffer} %: must be 5 to 95"));
        }
        if !(1.0..=10_000.0).contains(&weight) {
            return Err(format!("weight {weight}: must be 1 to 10000"));
        }
        let given = Settings {
            buffer_percent: buffer as u8,
            weight: weight as u16,
            ..settings(minimum as u64, startup as u64, maximum as u64)
        };
        if self.settings.insert(name.to_owned(), given).is_some() {
            return Err(format!("`{name}` has settings already"));
        }
        Ok(())
    }

    fn finish(mut self, name: &str) -> Result<Trace, String> {
        if self.names.is_empty() {
            return Err(format!(
                "no line with a guest's demand: a line `{COLUMNS}`, then `0.0,Name,300,512`"
            ));
        }
        if let Some(unknown) = self
            .settings
            .keys()
            .find(|name| !self.samples.contains_key(*name))
        {
            return Err(format!(
                "guest `{unknown}` has settings and no line of demand"
            ));
        }
        let moments = || self.samples.values().flat_map(|samples| &samples.demand);
        let first_ms = moments().map(|point| point.at_ms).min().unwrap_or(0);
        let last_ms = moments().map(|point| point.at_ms).max().unwrap_or(0);
        let span_ms = last_ms - first_ms;
        if !(WARM_UP_MS + 1..=LENGTH_MAX_MS).contains(&span_ms) {
            return Err(format!(
                "{} s from the first moment to the last: must be more than {} (the warm-up, which is not counted) \
                 and at most {}",
                span_ms as f64 / 1000.0,
                WARM_UP_MS / 1000,
                LENGTH_MAX_MS / 1000
            ));
        }
        let mut guests = Vec::new();
        for name in &self.names {
            let mut samples = self.samples.remove(name).unwrap_or_default();
            for point in samples.demand.iter_mut().chain(&mut samples.assigned) {
                point.at_ms -= first_ms;
            }
            guests.push(guest(name, samples, self.settings.get(name)));
        }
        guests.sort_by_key(|guest| guest.start_ms);
        let length_ms = guests
            .iter()
            .filter_map(|guest| guest.demand.points().last())
            .map(|point| point.at_ms)
            .max()
            .unwrap_or(0)
            .next_multiple_of(10);
        let curves: Vec<(u64, &Curve)> = guests
            .iter()
            .map(|guest| (guest.start_ms, &guest.demand))
            .collect();
        let fitting = fitting_kib(length_ms, &curves);
        let mut trace = families::host(name, length_ms, fitting, guests, 0);
        if let Some(pool_mib) = self.pool_mib {
            trace.pool = Pieces::from_mib_ceil(pool_mib as u64);
            trace.reserve = Pieces(trace.pool.0 / 16);
        }
        if let Some(reserve_mib) = self.reserve_mib {
            trace.reserve = Pieces::from_mib_ceil(reserve_mib as u64);
        }
        let starts: u64 = trace
            .guests
            .iter()
            .filter(|guest| guest.start_ms == 0)
            .map(|guest| guest.initial.mib())
            .sum();
        if starts > trace.pool.mib() || trace.reserve > trace.pool {
            return Err(format!(
                "pool {} MiB: must be at least {} MiB (the reserve, and what guests start with)",
                trace.pool.mib(),
                starts.max(trace.reserve.mib())
            ));
        }
        Ok(trace)
    }
}

fn guest(name: &str, samples: Samples, given: Option<&Settings>) -> GuestTrace {
    let mut demand = Curve::through(samples.demand);
    let start_ms = demand.points().first().map_or(0, |point| point.at_ms);
    // What is there from the first figure on was there before anybody looked.
    let start_ms = if start_ms < 1000 { 0 } else { start_ms };
    if start_ms == 0 {
        let mut points = demand.points().to_vec();
        if let Some(first) = points.first_mut() {
            first.at_ms = 0;
        }
        demand = Curve::through(points);
    }
    let settings = given.copied().unwrap_or_else(|| chosen(&demand));
    let assigned = (!samples.assigned.is_empty()).then(|| Curve::through(samples.assigned));
    let bounds = settings.bounds;
    let initial = assigned
        .as_ref()
        .and_then(|curve| curve.points().first())
        .map_or(bounds.startup, |point| {
            Pieces::from_mib_ceil(point.kib / 1024).clamp(bounds.minimum, bounds.maximum)
        });
    GuestTrace {
        name: name.to_owned(),
        settings,
        start_ms,
        initial,
        manner: Manner::Willing,
        noise_percent: 0,
        demand,
        assigned,
    }
}

/// Settings for a guest of which only the demand is known.
fn chosen(demand: &Curve) -> Settings {
    let peak_mib = (demand.peak_kib() / 1024).max(64);
    let first_mib = demand.points().first().map_or(0, |point| point.kib / 1024);
    let maximum_mib = peak_mib * 5 / 4;
    let startup_mib = (first_mib * 5 / 4).max(maximum_mib / 4).max(64);
    settings(
        (startup_mib / 2).max(64),
        startup_mib,
        maximum_mib.max(startup_mib),
    )
}

fn number(text: &str, what: &str, most: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=most).contains(&number) => Ok(number),
        _ => Err(format!("`{text}`: must be {what}, 0 to {most}")),
    }
}

fn kib(text: &str) -> Result<u64, String> {
    Ok((number(text, "an amount in MiB", MIB_MAX)? * 1024.0).round() as u64)
}

/// Writes a trace as a file that [`read`] reads.
#[must_use]
pub fn write(trace: &Trace) -> String {
    let mut out = format!(
        "# pool_mib = {}\n# reserve_mib = {}\n",
        trace.pool.mib(),
        trace.reserve.mib()
    );
    for guest in &trace.guests {
        let bounds = guest.settings.bounds;
        let _ = writeln!(
            out,
            "# guest {} {} {} {} {} {}",
            guest.name,
            bounds.startup.mib(),
            bounds.minimum.mib(),
            bounds.maximum.mib(),
            guest.settings.buffer_percent,
            guest.settings.weight
        );
    }
    out.push_str(COLUMNS);
    out.push('\n');
    let mib = |kib: u64| kib as f64 / 1024.0;
    for guest in &trace.guests {
        let first = [Point {
            at_ms: guest.start_ms,
            kib: guest.demand.at(guest.start_ms),
        }];
        let later = guest
            .demand
            .points()
            .iter()
            .filter(|point| point.at_ms > guest.start_ms);
        for point in first.iter().chain(later) {
            let assigned = guest
                .assigned
                .as_ref()
                .map(|curve| format!("{}", mib(curve.at(point.at_ms))))
                .unwrap_or_default();
            let _ = writeln!(
                out,
                "{},{},{},{assigned}",
                point.at_ms as f64 / 1000.0,
                guest.name,
                mib(point.kib)
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
# recorded somewhere
# pool_mib = 1024
# reserve_mib = 64
# guest alpha startup_mib=256 minimum_mib=128 maximum_mib=768 buffer_percent=25 weight=7000

time_s,guest,demand_mib,assigned_mib
0.0,alpha,100,200
0,beta,50,
1.5,alpha,400.5,300
20,gamma,10,
";

    #[test]
    fn a_file_is_read_as_it_is_written() {
        let trace = read("file", GOOD).unwrap();
        assert_eq!((trace.pool.mib(), trace.reserve.mib()), (1024, 64));
        assert_eq!(trace.length_ms, 20_000);
        let alpha = &trace.guests[0];
        assert_eq!(alpha.settings.bounds.minimum.mib(), 128);
        assert_eq!(
            (alpha.settings.buffer_percent, alpha.settings.weight),
            (25, 7000)
        );
        assert_eq!(alpha.demand.at(1500), 410_112);
        assert_eq!(alpha.demand.at(750), (102_400 + 410_112) / 2);
        assert_eq!(alpha.initial.mib(), 200);
        assert_eq!(alpha.assigned.as_ref().unwrap().at(1500), 300 * 1024);
        assert_eq!(trace.guests[1].assigned, None);
        // It starts when it is first heard of.
        assert_eq!(
            (trace.guests[2].name.as_str(), trace.guests[2].start_ms),
            ("gamma", 20_000)
        );
    }

    #[test]
    fn time_counts_from_the_first_moment() {
        let later = GOOD
            .replace("\n0.0,", "\n1700000000,")
            .replace("\n0,", "\n1700000000.0,")
            .replace("\n1.5,", "\n1700000001.5,")
            .replace("\n20,", "\n1700000020,");
        assert_ne!(later, GOOD);
        assert_eq!(read("file", &later), read("file", GOOD));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for family in families::ALL {
            let trace = family.trace(5, 60_000, 3);
            let again = read(family.name, &write(&trace)).unwrap();
            assert_eq!((again.pool, again.reserve), (trace.pool, trace.reserve));
            for (guest, before) in again.guests.iter().zip(&trace.guests) {
                assert_eq!(guest.name, before.name);
                assert_eq!(guest.settings, before.settings);
                assert_eq!(guest.start_ms, before.start_ms, "{}", family.name);
                for at_ms in (guest.start_ms..60_000).step_by(700) {
                    let (kib, was) = (guest.demand.at(at_ms), before.demand.at(at_ms));
                    assert!(kib.abs_diff(was) <= 1, "{} at {at_ms}", family.name);
                }
            }
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_line_and_what_would_be_right() {
        let head = "time_s,guest,demand_mib\n";
        let cases: [(String, usize, &str); 17] = [
            (String::new(), 1, "`0.0,Name,300,512`"),
            ("time,guest,mib\n".into(), 1, COLUMNS),
            (format!("{head}0,a\n"), 2, "there are 3 columns"),
            (format!("{head}0,a,1,2\n"), 2, "4 fields"),
            (format!("{head}0,,1\n"), 2, "a name is needed"),
            (format!("{head}0,a,1\nsoon,a,1\n"), 3, "a time in seconds"),
            (format!("{head}-1,a,1\n"), 2, "a time in seconds, 0 to"),
            (format!("{head}0,a,1\n5,a,1\n"), 3, "more than 10"),
            (format!("{head}0,a,1\n700000,a,1\n"), 3, "at most 604800"),
            (format!("{head}0,a,lots\n"), 2, "an amount in MiB"),
            (format!("{head}0,a,NaN\n"), 2, "an amount in MiB"),
            (format!("{head}0,a,1\n0.0,a,2\n"), 3, "already"),
            ("# pool_mib = big\n".into(), 1, "an amount in MiB"),
            ("# guest a minimum_mib=64\n".into(), 1, "startup_mib=512"),
            ("# guest a size=64\n".into(), 1, "startup_mib, minimum_mib"),
            (
                "# guest a startup_mib=64 minimum_mib=128\n".into(),
                1,
                "none above the next",
            ),
            (
                format!("# pool_mib = 100\n# guest a startup_mib=128\n{head}0,a,1\n11,a,1\n"),
                5,
                "at least 128 MiB",
            ),
        ];
        for (text, line, right) in cases {
            let mistake = read("file", &text).unwrap_err();
            assert_eq!(mistake.line, line, "{text}");
            assert!(mistake.what.contains(right), "{text}: {mistake}");
        }
    }

    #[test]
    fn limits_of_settings_are_named() {
        let by_place = "# guest alpha 256 128 768 25 7000";
        let by_name = GOOD.lines().nth(3).unwrap();
        assert_eq!(
            read("file", &GOOD.replace(by_name, by_place)),
            read("file", GOOD)
        );
        for (setting, right) in [
            ("buffer_percent=96", "5 to 95"),
            ("weight=0", "1 to 10000"),
            ("weight", "a number"),
            ("64 64 20 5000 1", "at most startup_mib, minimum_mib"),
        ] {
            let text = format!("# guest a startup_mib=64 {setting}\n");
            let mistake = read("file", &text).unwrap_err();
            assert!(mistake.what.contains(right), "{mistake}");
        }
        let twice = "# guest a startup_mib=64\n".repeat(2);
        assert_eq!(read("file", &twice).unwrap_err().line, 2);
        let no_demand = "# guest a startup_mib=64\ntime_s,guest,demand_mib\n0,b,1\n";
        let mistake = read("file", no_demand).unwrap_err();
        assert!(mistake.what.contains("no line of demand"), "{mistake}");
    }
}
