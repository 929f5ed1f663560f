//! The live table: a row for each guest, one for the host.

use crate::snapshot::{Guest, OLD_MS, Snapshot, flag_name, state_name, status_name};
use protocol::balancer::Status;
use ratatui::layout::Constraint;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Text;
use ratatui::widgets::{Block, Cell, Row, Table};

/// The columns and their widths.
const COLUMNS: [(&str, u16); 13] = [
    ("guest", 14),
    ("state", 9),
    ("assigned", 9),
    ("visible", 8),
    ("demand", 8),
    ("pressure", 9),
    ("heard", 6),
    ("status", 24),
    ("weight", 7),
    ("buffer", 7),
    ("minimum", 8),
    ("startup", 8),
    ("maximum", 8),
];

/// The cells of a guest's row; memory in MiB.
#[must_use]
pub fn cells(guest: &Guest) -> [String; COLUMNS.len()] {
    let name = guest.name.clone();
    let state = state_name(guest.state).to_owned();
    let Some(row) = &guest.row else {
        let mut cells: [String; COLUMNS.len()] = std::array::from_fn(|_| "-".into());
        cells[0] = name;
        cells[1] = state;
        return cells;
    };
    let flag = flag_name(row.flag);
    let status = if flag.is_empty() {
        status_name(row.status).to_owned()
    } else {
        format!("{} ({flag})", status_name(row.status))
    };
    let bounds = &row.settings.bounds;
    [
        name,
        state,
        row.assigned.mib().to_string(),
        row.visible_mib.to_string(),
        row.demand_mib.to_string(),
        format!("{} %", row.pressure),
        age(row.age_ms),
        status,
        row.settings.weight.to_string(),
        format!("{} %", row.settings.buffer_percent),
        bounds.minimum.mib().to_string(),
        bounds.startup.mib().to_string(),
        bounds.maximum.mib().to_string(),
    ]
}

/// How long ago a guest's own figures were fresh. Below [`snapshot::OLD_MS`](crate::snapshot::OLD_MS) they are as fresh as
/// they get.
fn age(age_ms: u32) -> String {
    match age_ms / 1000 {
        _ if age_ms < OLD_MS => "now".into(),
        seconds @ ..=999 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

/// The host's line; memory in MiB. What was reported free is in the pool, and promised.
#[must_use]
pub fn host_line(snapshot: &Snapshot) -> String {
    let (host, counted) = (&snapshot.host, &snapshot.counted);
    format!(
        "host: {} MiB in all = pool {} + granted {} + cleaning {}   reported free {}   reserve {}   headroom {}   ({:.1} s)",
        counted.total.mib(),
        counted.pool.mib(),
        counted.granted.mib(),
        counted.cleaning.mib(),
        host.reported.mib(),
        host.reserve.mib(),
        host.headroom.mib(),
        snapshot.t_ms as f64 / 1000.0
    )
}

fn colour(guest: &Guest) -> Style {
    match guest.row.map(|row| row.status) {
        None => Style::new().fg(Color::DarkGray),
        Some(Status::Ok) => Style::new(),
        Some(Status::Low) => Style::new().fg(Color::Yellow),
        Some(Status::Warning | Status::Unresponsive) => Style::new().fg(Color::Red),
    }
}

/// The table as a widget; the row of number `selected` is highlighted.
#[must_use]
pub fn widget(snapshot: &Snapshot, selected: Option<usize>) -> Table<'static> {
    let rows = snapshot.guests.iter().enumerate().map(|(number, guest)| {
        let mut style = colour(guest);
        if selected == Some(number) {
            style = style.add_modifier(Modifier::REVERSED);
        }
        let cells = cells(guest).into_iter().enumerate().map(|(column, text)| {
            let text = Text::from(text);
            // Figures to the right, words to the left.
            Cell::from(if is_figure(column) {
                text.right_aligned()
            } else {
                text
            })
        });
        Row::new(cells).style(style)
    });
    let header = COLUMNS.iter().enumerate().map(|(column, (name, _))| {
        let text = Text::from(*name);
        Cell::from(if is_figure(column) {
            text.right_aligned()
        } else {
            text
        })
    });
    let widths = COLUMNS.map(|(_, width)| Constraint::Length(width));
    Table::new(rows, widths)
        .header(Row::new(header).style(Style::new().add_modifier(Modifier::BOLD)))
        .block(Block::bordered().title(host_line(snapshot)))
}

const fn is_figure(column: usize) -> bool {
    !matches!(column, 0 | 1 | 7)
}

/// The table as plain text, for output that is no terminal.
#[must_use]
pub fn plain(snapshot: &Snapshot) -> String {
    let mut lines = vec![host_line(snapshot)];
    let line = |cells: Vec<String>| {
        let cells = cells.iter().zip(COLUMNS).enumerate();
        let cells = cells.map(|(column, (text, (_, width)))| {
            let width = usize::from(width);
            if is_figure(column) {
                format!("{text:>width$}")
            } else {
                format!("{text:<width$}")
            }
        });
        cells.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    };
    lines.push(line(
        COLUMNS.iter().map(|(name, _)| (*name).to_owned()).collect(),
    ));
    lines.extend(
        snapshot
            .guests
            .iter()
            .map(|guest| line(cells(guest).into())),
    );
    lines.join("\n")
}
