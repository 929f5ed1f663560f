//! Traces that were recorded from real guests: `cargo xtask run --scenario NAME --headless --record FILE`.
//!
//! What they say of demand ends at what the guests had, so they flatter the policy that they were recorded under.

use crate::csv;
use crate::trace::Trace;
use std::sync::Arc;

/// Their names and texts.
const ALL: [(&str, &str); 2] = [
    ("seeds-rec", include_str!("../traces/seeds.csv")),
    ("boot-rec", include_str!("../traces/bootstorm.csv")),
];

/// The names.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

/// The recording of that name.
///
/// # Errors
/// There is none, or it cannot be read; what is wrong with it.
pub fn named(name: &str) -> Result<Arc<Trace>, String> {
    let (_, text) = ALL
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| format!("no recording is called `{name}`"))?;
    csv::read(name, text)
        .map(Arc::new)
        .map_err(|mistake| format!("{name}, {mistake}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recording_can_be_read_and_has_what_calibration_needs() {
        for name in names() {
            let trace = named(name).unwrap();
            assert!(trace.guests.len() >= 4, "{name}");
            assert!(trace.guests.iter().all(|guest| guest.assigned.is_some()));
            assert!(trace.length_ms > 15_000, "{name}: {} ms", trace.length_ms);
        }
        assert!(named("none").is_err());
    }
}
