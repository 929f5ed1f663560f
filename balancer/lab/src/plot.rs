//! Unmet demand over moved memory, one point for each policy: an SVG for each family and size.

use crate::policies::Told;
use crate::policy::Pace;
use crate::table::{Contestant, Row};
use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::*;
use std::path::{Path, PathBuf};

const SIZE: (u32, u32) = (1100, 720);
/// What leaves less unmet is drawn here, in percent.
const LEAST_PERCENT: f64 = 0.001;
/// What moves less is drawn here, in GiB.
const LEAST_GIB: f64 = 0.1;

/// Draws rows into a directory; returns the files.
///
/// # Errors
/// The directory cannot be made or a file not be written.
pub fn draw(directory: &Path, rows: &[Row], contestants: &[Contestant]) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    rows.iter()
        .map(|row| {
            let path = directory.join(format!("{}-{}.svg", row.family, row.guests));
            one(&path, row, contestants).map_err(|error| anyhow!("{}: {error}", path.display()))?;
            Ok(path)
        })
        .collect()
}

/// Ours stands out; what is told more than ours is grey.
fn colour(contestant: &Contestant) -> RGBColor {
    match (
        contestant.entry.name,
        contestant.entry.told,
        contestant.pace,
    ) {
        ("ours", ..) => RGBColor(0xd9, 0x5f, 0x02),
        (_, Told::Demand | Told::Future, _) => RGBColor(0x99, 0x99, 0x99),
        (_, _, Pace::Own) => RGBColor(0x1f, 0x78, 0xb4),
        (_, _, Pace::Ours) => RGBColor(0x23, 0x8b, 0x45),
    }
}

fn one(
    path: &Path,
    row: &Row,
    contestants: &[Contestant],
) -> Result<(), Box<dyn std::error::Error>> {
    let points: Vec<(f64, f64, &Contestant)> = contestants
        .iter()
        .zip(&row.outcomes)
        .map(|(contestant, outcome)| {
            let x = outcome.moved_gib().max(LEAST_GIB);
            (x, outcome.unmet_percent().max(LEAST_PERCENT), contestant)
        })
        .collect();
    let right = points.iter().map(|point| point.0).fold(1.0, f64::max) * 3.0;
    let top = points.iter().map(|point| point.1).fold(0.1, f64::max) * 2.0;
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let caption = format!("{}, {} guests", row.family, row.guests);
    let mut chart = ChartBuilder::on(&root)
        .caption(caption, ("sans-serif", 24))
        .margin(12)
        .x_label_area_size(50)
        .y_label_area_size(70)
        .build_cartesian_2d(
            (LEAST_GIB * 0.8..right).log_scale(),
            (LEAST_PERCENT * 0.8..top).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("moved memory, GiB")
        .y_desc("unmet demand, % of demand")
        .draw()?;
    for (x, y, contestant) in points {
        let colour = colour(contestant);
        chart.draw_series(std::iter::once(
            EmptyElement::at((x, y))
                + Circle::new((0, 0), 5, colour.filled())
                + Text::new(
                    contestant.name(),
                    (8, -6),
                    ("sans-serif", 14).into_font().color(&colour),
                ),
        ))?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families;
    use crate::table::{contestants, row};

    #[test]
    fn a_plot_has_a_point_for_each_policy() {
        let contestants = contestants();
        let family = families::named("bursty").unwrap();
        let row = row(family, 2, 20_000, &[1], &contestants).unwrap();
        let directory = std::env::temp_dir().join(format!("lab-plot-{}", std::process::id()));
        let files = draw(&directory, &[row], &contestants).unwrap();
        let text = std::fs::read_to_string(&files[0]).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(files[0].ends_with("bursty-2.svg"));
        assert_eq!(text.matches("<circle").count(), contestants.len());
        for contestant in &contestants {
            assert!(text.contains(&contestant.name()), "{}", contestant.name());
        }
    }
}
