//! The figures in the book's table of invocations, held against what is measured: instructions under `-icount` are the same on any
//! machine, so a figure that has moved is a change that the page has to tell of.

use super::peers;
use super::rows::Row;
use crate::paths::Paths;
use anyhow::{Context, Result, bail};

/// Where the page lies in the repository.
const PAGE: &str = "docs/src/invocations.md";
/// How far a figure may be from the page's, in percent: less than what anybody would call a change.
const TOLERANCE: f64 = 2.0;

/// What the page says of a row of the benchmark.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    row: String,
    ours: f64,
    peer: Option<f64>,
}

/// A number with its thousands apart; `None` for an empty cell.
fn number(cell: &str) -> Option<f64> {
    cell.replace(',', "").parse().ok()
}

/// The rows of the page's tables that give a cost: `| name | status | tests | cost | ours | seL4 |`.
fn said(page: &str) -> Result<Vec<Said>> {
    let mut all = Vec::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", _, _, _, row, ours, peer, ""] = cells[..] else {
            continue;
        };
        let Some(row) = row.strip_prefix('`').and_then(|row| row.strip_suffix('`')) else {
            continue;
        };
        all.push(Said {
            row: row.to_owned(),
            ours: number(ours).with_context(|| format!("{PAGE}: no figure of ours in: {line}"))?,
            peer: number(peer),
        });
    }
    Ok(all)
}

/// How many figures of the page are right, and what is wrong with the others.
///
/// # Errors
/// When the page cannot be read, or has no figures.
pub fn check(paths: &Paths, rows: &[Row]) -> Result<(u64, Vec<String>)> {
    let page = paths.root().join(PAGE);
    let text = std::fs::read_to_string(&page).with_context(|| format!("reading {PAGE}"))?;
    let said = said(&text)?;
    if said.is_empty() {
        bail!("{PAGE} has no table with figures");
    }
    let (good, bad): (Vec<_>, Vec<_>) = said
        .iter()
        .map(|said| complaint(said, rows))
        .partition(Option::is_none);
    Ok((good.len() as u64, bad.into_iter().flatten().collect()))
}

fn complaint(said: &Said, rows: &[Row]) -> Option<String> {
    let Some(row) = rows.iter().find(|row| row.name == said.row) else {
        return Some(format!("{PAGE}: no row `{}` was measured", said.row));
    };
    if (row.value - said.ours).abs() * 100.0 > said.ours * TOLERANCE {
        return Some(format!(
            "{PAGE}: `{}` is {} there and {} now",
            said.row, said.ours, row.value
        ));
    }
    let recorded = peers::recorded(&said.row);
    (recorded != said.peer).then(|| {
        format!(
            "{PAGE}: `{}` has {:?} for seL4, recorded is {recorded:?}",
            said.row, said.peer
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
| call | status | tests | cost | ours | seL4 |
| --- | --- | --- | --- | ---: | ---: |
| Call | as seL4 | `a`, `b` | `cnode_copy` | 384 | 728 |
| Halt | debug | none | | | |
";

    #[test]
    fn figures_are_read_where_there_are_any() {
        let expected = Said {
            row: "cnode_copy".to_owned(),
            ours: 384.0,
            peer: Some(728.0),
        };
        assert_eq!(said(TABLE).unwrap(), [expected]);
        assert!(said(&TABLE.replace("384", "")).is_err());
    }

    #[test]
    fn a_figure_that_moved_is_told() {
        let said = &said(TABLE).unwrap()[0];
        let at = |value: f64| complaint(said, &[Row::new("cnode_copy", value, "instructions")]);
        assert_eq!(at(384.0), None);
        assert_eq!(at(390.0), None);
        assert!(at(393.0).unwrap().contains("384 there and 393 now"));
        assert!(at(370.0).is_some());
        assert!(complaint(said, &[]).unwrap().contains("cnode_copy"));
        let other = Said {
            peer: Some(700.0),
            ..said.clone()
        };
        let row = Row::new("cnode_copy", 384.0, "instructions");
        assert!(complaint(&other, &[row]).unwrap().contains("recorded"));
    }
}
