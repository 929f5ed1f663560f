//! The plot of a run, as SVG: assigned memory of each guest, stacked up to the pool, with the demand inside each layer.
//!
//! Written by hand rather than with a plotting crate: a stacked area with a second figure inside each layer is none of
//! their chart types, and text must not depend on fonts of the machine that draws it.

use crate::session::Mark;
use crate::snapshot::{OLD_MS, Snapshot};
use std::fmt::Write as _;

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 700.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 290.0;
const TOP: f64 = 110.0;
const BOTTOM: f64 = 70.0;
/// Light for assigned, dark for demand; told apart also by people who do not see red and green apart.
const COLOURS: [(&str, &str); 6] = [
    ("#a6cee3", "#1f78b4"),
    ("#fdd0a2", "#d95f02"),
    ("#c7e9c0", "#238b45"),
    ("#dadaeb", "#6a51a3"),
    ("#fcbba1", "#a50f15"),
    ("#d9d9d9", "#525252"),
];

/// Reported free, whosever it is.
const PROMISED: &str = "#f3f3e6";
/// Over what a guest said when it has not said it anew.
const OLD: &str = "#000000";

struct Axes {
    from_ms: u64,
    span_ms: f64,
    top_mib: f64,
}

impl Axes {
    fn x(&self, t_ms: u64) -> f64 {
        let since = t_ms.saturating_sub(self.from_ms) as f64;
        LEFT + (WIDTH - LEFT - RIGHT) * since / self.span_ms
    }

    fn y(&self, mib: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * mib / self.top_mib
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The step between two grid lines: 1, 2 or 5 times a power of ten, at most `lines`
/// of them.
fn grid_step(span: f64, lines: f64) -> f64 {
    let raw = (span / lines).max(1e-9);
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw)
        .unwrap_or(10.0 * power)
}

/// The step between two lines of memory: a power of two of MiB.
fn memory_step(span_mib: f64) -> f64 {
    let mut step = 16.0;
    while span_mib / step > 10.0 {
        step *= 2.0;
    }
    step
}

/// The SVG text.
#[must_use]
pub fn to_svg(title: &str, history: &[Snapshot], marks: &[Mark]) -> String {
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">
<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>
<text x="{LEFT}" y="30" font-size="20" font-weight="bold">{}</text>"##,
        escape(title)
    );
    let (Some(first), Some(last)) = (history.first(), history.last()) else {
        let _ = writeln!(
            svg,
            r#"<text x="{LEFT}" y="60">No sample was taken.</text></svg>"#
        );
        return svg;
    };
    let pool_mib = last.counted.total.mib() as f64;
    let axes = Axes {
        from_ms: first.t_ms,
        span_ms: (last.t_ms.saturating_sub(first.t_ms) as f64).max(1.0),
        top_mib: (pool_mib * 1.04).max(1.0),
    };
    let _ = writeln!(
        svg,
        r##"<text x="{LEFT}" y="52" fill="#444">One guest above the other. Dark: what it needs (demand). Light: memory assigned to it beyond that. Cream: what it reported free. White: free.</text>"##
    );
    grid(&mut svg, &axes, last);
    let names: Vec<String> = last.guests.iter().map(|guest| guest.name.clone()).collect();
    layers(&mut svg, &axes, history, &names);
    limits(&mut svg, &axes, last);
    rows(&mut svg, &axes, marks);
    legend(&mut svg, last, &names);
    svg.push_str("</svg>\n");
    svg
}

fn grid(svg: &mut String, axes: &Axes, last: &Snapshot) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let step = memory_step(axes.top_mib);
    let mut mib = 0.0;
    while mib <= axes.top_mib {
        let y = axes.y(mib);
        let _ = writeln!(
            svg,
            r##"<line x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="#e4e4e4"/><text x="{}" y="{:.1}" text-anchor="end">{mib:.0}</text>"##,
            LEFT - 8.0,
            y + 4.0
        );
        mib += step;
    }
    let step_s = grid_step(axes.span_ms / 1000.0, 12.0);
    let mut seconds = 0.0;
    while seconds * 1000.0 <= axes.span_ms {
        let x = axes.x(axes.from_ms + (seconds * 1000.0) as u64);
        let label = if step_s < 1.0 {
            format!("{seconds:.1}")
        } else {
            format!("{seconds:.0}")
        };
        let _ = writeln!(
            svg,
            r##"<line x1="{x:.1}" y1="{bottom}" x2="{x:.1}" y2="{}" stroke="#888"/><text x="{x:.1}" y="{}" text-anchor="middle">{label}</text>"##,
            bottom + 5.0,
            bottom + 20.0
        );
        seconds += step_s;
    }
    let _ = writeln!(
        svg,
        r##"<line x1="{LEFT}" y1="{TOP}" x2="{LEFT}" y2="{bottom}" stroke="#888"/><line x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="#888"/>
<text x="{}" y="{}" text-anchor="middle">seconds since the first sample ({:.0} s after power-on)</text>
<text transform="translate(28 {}) rotate(-90)" text-anchor="middle">memory in MiB (pool: {})</text>"##,
        (LEFT + right) / 2.0,
        bottom + 45.0,
        axes.from_ms as f64 / 1000.0,
        (TOP + bottom) / 2.0,
        last.counted.total.mib()
    );
}

/// A closed area between two lines that share their times.
fn area(svg: &mut String, axes: &Axes, times: &[u64], low: &[f64], high: &[f64], fill: &str) {
    let mut points = String::new();
    for (t, mib) in times.iter().zip(high) {
        let _ = write!(points, "{:.1},{:.1} ", axes.x(*t), axes.y(*mib));
    }
    for (t, mib) in times.iter().zip(low).rev() {
        let _ = write!(points, "{:.1},{:.1} ", axes.x(*t), axes.y(*mib));
    }
    let _ = writeln!(svg, r#"<polygon points="{points}" fill="{fill}"/>"#);
}

fn layers(svg: &mut String, axes: &Axes, history: &[Snapshot], names: &[String]) {
    let times: Vec<u64> = history.iter().map(|snapshot| snapshot.t_ms).collect();
    let mut base = vec![0.0; history.len()];
    for (number, name) in names.iter().enumerate() {
        let (light, dark) = COLOURS[number % COLOURS.len()];
        let mut top = base.clone();
        let mut assigned = base.clone();
        let mut demand = base.clone();
        for (index, snapshot) in history.iter().enumerate() {
            let Some(row) = snapshot.guest(name).and_then(|guest| guest.row) else {
                continue;
            };
            let promised = (row.assigned.mib() + row.reported.mib()) as f64;
            top[index] += promised;
            assigned[index] += row.assigned.mib() as f64;
            // What a guest needs beyond what it has would lie in its neighbour's layer.
            demand[index] += f64::from(row.demand_mib).min(promised);
        }
        area(svg, axes, &times, &base, &top, PROMISED);
        area(svg, axes, &times, &base, &assigned, light);
        area(svg, axes, &times, &base, &demand, dark);
        for old in old_spans(history, name) {
            let (from, to) = (old.start, old.end);
            let _ = writeln!(svg, r#"<g class="old" fill-opacity="0.3">"#);
            let times = &times[from..to];
            area(svg, axes, times, &base[from..to], &top[from..to], OLD);
            let _ = writeln!(svg, "</g>");
        }
        let line: String = times
            .iter()
            .zip(&top)
            .map(|(t, mib)| format!("{:.1},{:.1} ", axes.x(*t), axes.y(*mib)))
            .collect();
        let _ = writeln!(
            svg,
            r#"<polyline points="{line}" fill="none" stroke="white" stroke-width="2"/>"#
        );
        base = top;
    }
}

/// The samples, each with the one after them, in which a guest's figures were old.
fn old_spans(history: &[Snapshot], name: &str) -> Vec<std::ops::Range<usize>> {
    let is_old = |snapshot: &Snapshot| {
        let row = snapshot.guest(name).and_then(|guest| guest.row);
        row.is_some_and(|row| row.age_ms >= OLD_MS)
    };
    let mut spans: Vec<std::ops::Range<usize>> = Vec::new();
    for (index, snapshot) in history.iter().enumerate() {
        if !is_old(snapshot) {
            continue;
        }
        let end = (index + 2).min(history.len());
        match spans.last_mut() {
            Some(span) if span.end > index => span.end = end,
            _ => spans.push(index..end),
        }
    }
    spans
}

fn limits(svg: &mut String, axes: &Axes, last: &Snapshot) {
    let right = WIDTH - RIGHT;
    let pool = last.counted.total.mib() as f64;
    let above_reserve = pool - last.host.reserve.mib() as f64;
    for (mib, label, dash) in [
        (pool, "pool", ""),
        (
            above_reserve,
            "pool without reserve",
            r#" stroke-dasharray="6 4""#,
        ),
    ] {
        let y = axes.y(mib);
        let _ = writeln!(
            svg,
            r##"<line x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="#222"{dash}/><text x="{}" y="{:.1}" font-size="12">{label}: {mib:.0} MiB</text>"##,
            right + 8.0,
            y + 4.0
        );
    }
}

fn rows(svg: &mut String, axes: &Axes, marks: &[Mark]) {
    let bottom = HEIGHT - BOTTOM;
    for (number, mark) in marks.iter().enumerate() {
        let x = axes.x(mark.t_ms);
        // Three heights, so that neighbours do not overlap; the texts are listed in the legend.
        let y = TOP - 8.0 - 14.0 * (number % 3) as f64;
        let name = mark.title.split(':').next().unwrap_or("");
        let _ = writeln!(
            svg,
            r##"<line x1="{x:.1}" y1="{y:.1}" x2="{x:.1}" y2="{bottom}" stroke="#222" stroke-dasharray="2 3"/><text x="{:.1}" y="{:.1}" font-size="12">{}</text>"##,
            x + 3.0,
            y + 4.0,
            escape(name)
        );
    }
    let x = WIDTH - RIGHT + 15.0;
    let mut y = TOP + 300.0;
    let _ = writeln!(
        svg,
        r##"<text x="{x}" y="{y:.1}" font-weight="bold">What happened</text>"##
    );
    for mark in marks {
        y += 6.0;
        for line in wrap(&mark.title, 36) {
            y += 14.0;
            let _ = writeln!(
                svg,
                r##"<text x="{x}" y="{y:.1}" font-size="11">{}</text>"##,
                escape(&line)
            );
        }
    }
}

/// Lines of at most `width` characters, broken at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn legend(svg: &mut String, last: &Snapshot, names: &[String]) {
    let x = WIDTH - RIGHT + 15.0;
    let mut y = TOP + 55.0;
    let _ = writeln!(
        svg,
        r#"<text x="{x}" y="{y}" font-weight="bold">Guests, at the end</text>"#
    );
    // The topmost layer first, as in the plot.
    for (number, name) in names.iter().enumerate().rev() {
        y += 24.0;
        let (light, dark) = COLOURS[number % COLOURS.len()];
        let figures = match last.guest(name).and_then(|guest| guest.row) {
            Some(row) if row.age_ms >= OLD_MS => format!(
                "{} MiB, silent for {} s",
                row.assigned.mib(),
                row.age_ms / 1000
            ),
            Some(row) => format!("{} MiB, needs {}", row.assigned.mib(), row.demand_mib),
            None => "not running".into(),
        };
        let _ = writeln!(
            svg,
            r##"<rect x="{x}" y="{:.1}" width="12" height="14" fill="{light}"/><rect x="{:.1}" y="{:.1}" width="12" height="14" fill="{dark}"/><text x="{:.1}" y="{y:.1}">{}: {figures}</text>"##,
            y - 12.0,
            x + 12.0,
            y - 12.0,
            x + 32.0,
            escape(name)
        );
    }
    y += 20.0;
    let _ = writeln!(
        svg,
        r##"<text x="{x}" y="{y:.1}" font-size="11">{} MiB reported free and still promised</text>"##,
        last.host.reported.mib()
    );
    for (name, fill) in [
        ("light: assigned", "#cccccc"),
        ("dark: demand", "#555555"),
        ("reported free, still promised to its guest", PROMISED),
        ("darkened: its figures are old", "#777777"),
    ] {
        y += 20.0;
        let _ = writeln!(
            svg,
            r##"<rect x="{x}" y="{:.1}" width="12" height="12" fill="{fill}" stroke="#999"/><text x="{:.1}" y="{y:.1}" font-size="11">{name}</text>"##,
            y - 10.0,
            x + 20.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_steps_are_round() {
        assert_eq!(grid_step(60.0, 12.0), 5.0);
        assert_eq!(grid_step(100.0, 12.0), 10.0);
        assert_eq!(grid_step(1.0, 12.0), 0.1);
        assert_eq!(memory_step(2130.0), 256.0);
        assert_eq!(memory_step(8520.0), 1024.0);
    }

    #[test]
    fn text_is_wrapped_and_escaped() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(escape("a<b & c"), "a&lt;b &amp; c");
    }

    #[test]
    fn a_run_without_samples_says_so() {
        assert!(to_svg("t", &[], &[]).contains("No sample was taken."));
    }
}
