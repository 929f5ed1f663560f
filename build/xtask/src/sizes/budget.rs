//! What is allowed, and the table that shows the figures beside it.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    subject: String,
    what: String,
    value: u64,
}

impl Figure {
    /// A figure.
    #[must_use]
    pub fn new(subject: &str, what: &str, value: u64) -> Self {
        Self {
            subject: subject.to_owned(),
            what: what.to_owned(),
            value,
        }
    }
}

/// The budgets: for each subject, what may be how much.
#[derive(Debug)]
pub struct Budgets(BTreeMap<String, BTreeMap<String, u64>>);

impl Budgets {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is missing or not tables of numbers.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        Ok(Self(toml::from_str(text)?))
    }

    /// The budget for something.
    #[must_use]
    pub fn of(&self, subject: &str, what: &str) -> Option<u64> {
        self.0.get(subject)?.get(what).copied()
    }

    /// The table, and whether every figure is within its budget. A figure without a budget is not; neither is a budget for
    /// what no longer exists.
    #[must_use]
    pub fn table(&self, figures: &[Figure]) -> (String, bool) {
        let mut out = String::new();
        let mut good = true;
        let mut left = self.0.clone();
        let mut subject = "";
        for figure in figures {
            if figure.subject != subject {
                subject = &figure.subject;
                let _ = writeln!(out, "{subject}");
            }
            let budget = left
                .get_mut(subject)
                .and_then(|budgets| budgets.remove(&figure.what));
            let verdict = match budget {
                None => "no budget",
                Some(budget) if figure.value > budget => "OVER",
                Some(_) => "",
            };
            good &= verdict.is_empty();
            let budget = budget.map_or("-".to_owned(), |budget| budget.to_string());
            let line = format!(
                "  {:<44} {:>9} of {budget:>9} {verdict}",
                figure.what, figure.value
            );
            let _ = writeln!(out, "{}", line.trim_end());
        }
        for (subject, budgets) in left {
            for what in budgets.keys() {
                good = false;
                let _ = writeln!(out, "{subject}: there is no {what}; remove its budget");
            }
        }
        (out, good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_or_unknown_fails() {
        let budgets = Budgets::parse("[kernel]\ntext = 100\n[unsafe]\n\"a/b.rs\" = 1\n").unwrap();
        let within = [
            Figure::new("kernel", "text", 100),
            Figure::new("unsafe", "a/b.rs", 0),
        ];
        assert!(budgets.table(&within).1);
        for (figure, complaint) in [
            (Figure::new("kernel", "text", 101), "101 of       100 OVER"),
            (
                Figure::new("kernel", "stack", 1),
                "1 of         - no budget",
            ),
        ] {
            let figures = [vec![figure], within[1..].to_vec()].concat();
            let (table, good) = budgets.table(&figures);
            assert!(!good && table.contains(complaint), "{table}");
        }
        let (table, good) = budgets.table(&within[..1]);
        assert!(
            !good && table.contains("unsafe: there is no a/b.rs"),
            "{table}"
        );
    }
}
