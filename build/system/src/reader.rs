//! Reads a TOML table key by key: what is asked for, of the type asked for; what is left over is unknown.

use crate::problem::Problem;
use crate::quantity::{duration_ms, size_bytes};
use std::cell::RefCell;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Range<usize>,
}

/// Collects problems.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// One more.
    pub fn push(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// All of them, in the order of the file.
    pub fn into_sorted(self) -> Vec<Problem> {
        let mut problems = self.0.into_inner();
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        problems
    }
}

/// A table being read.
pub struct Reader<'a> {
    table: &'a DeTable<'a>,
    /// Where the table is: its header.
    pub span: Range<usize>,
    /// What it is, for messages: `[system]`.
    name: &'static str,
    known: RefCell<Vec<&'static str>>,
    problems: &'a Problems,
}

impl<'a> Reader<'a> {
    /// Begins.
    pub fn new(
        table: &'a DeTable<'a>,
        span: Range<usize>,
        name: &'static str,
        problems: &'a Problems,
    ) -> Self {
        Self {
            table,
            span,
            name,
            known: RefCell::new(Vec::new()),
            problems,
        }
    }

    /// A key's value, if it is there.
    pub fn get(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.borrow_mut().push(key);
        self.table
            .iter()
            .find(|(name, _)| name.get_ref() == key)
            .map(|(_, value)| value)
    }

    /// A string.
    pub fn string(&self, key: &'static str) -> Option<At<String>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At {
                value: text.to_string(),
                span: value.span(),
            }),
            other => self.mistyped(key, value.span(), "a string, as in `\"...\"`", other),
        }
    }

    /// A string that has to be there.
    pub fn required_string(&self, key: &'static str, example: &str) -> Option<At<String>> {
        if self.get(key).is_none() {
            self.missing(key, example);
        }
        self.string(key)
    }

    /// A boolean.
    pub fn boolean(&self, key: &'static str) -> Option<At<bool>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(At {
                value: *flag,
                span: value.span(),
            }),
            other => self.mistyped(key, value.span(), "`true` or `false`", other),
        }
    }

    /// A whole number in a range.
    pub fn integer(&self, key: &'static str, low: i64, high: i64) -> Option<At<i64>> {
        let value = self.get(key)?;
        let DeValue::Integer(digits) = value.get_ref() else {
            return self.mistyped(
                key,
                value.span(),
                &format!("a number from {low} to {high}"),
                value.get_ref(),
            );
        };
        let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
        match number.filter(|number| (low..=high).contains(number)) {
            Some(number) => Some(At {
                value: number,
                span: value.span(),
            }),
            None => {
                self.problems.push(
                    Problem::error(format!("`{key}` is out of range"), value.span())
                        .label(format!("not from {low} to {high}"))
                        .help(format!("write a number from {low} to {high}")),
                );
                None
            }
        }
    }

    /// A size in bytes.
    pub fn size(&self, key: &'static str) -> Option<At<u64>> {
        self.measure(key, "a size, as in `\"512MiB\"`", "is no size", size_bytes)
    }

    /// A size that has to be there.
    pub fn required_size(&self, key: &'static str, example: &str) -> Option<At<u64>> {
        if self.get(key).is_none() {
            self.missing(key, example);
        }
        self.size(key)
    }

    /// A duration in milliseconds.
    pub fn duration(&self, key: &'static str) -> Option<At<u64>> {
        self.measure(
            key,
            "a duration, as in `\"2s\"`",
            "is no duration",
            duration_ms,
        )
    }

    fn measure(
        &self,
        key: &'static str,
        wanted: &str,
        title: &str,
        parse: fn(&str) -> Result<u64, String>,
    ) -> Option<At<u64>> {
        let value = self.get(key)?;
        let DeValue::String(text) = value.get_ref() else {
            return self.mistyped(key, value.span(), wanted, value.get_ref());
        };
        match parse(text) {
            Ok(number) => Some(At {
                value: number,
                span: value.span(),
            }),
            Err(hint) => {
                self.problems.push(
                    Problem::error(format!("`{key}` {title}"), value.span())
                        .label("not understood")
                        .help(hint),
                );
                None
            }
        }
    }

    /// One of several words.
    pub fn word(&self, key: &'static str, words: &[&'static str]) -> Option<At<&'static str>> {
        let text = self.string(key)?;
        let found = words.iter().find(|word| **word == text.value);
        if found.is_none() {
            self.problems
                .push(unknown_word(key, &text.value, text.span.clone(), words));
        }
        Some(At {
            value: found?,
            span: text.span,
        })
    }

    /// Reports a value of the wrong type.
    pub fn mistyped<T>(
        &self,
        key: &str,
        span: Range<usize>,
        wanted: &str,
        found: &DeValue<'_>,
    ) -> Option<T> {
        self.problems.push(
            Problem::error(format!("`{key}` has the wrong type"), span)
                .label(format!("this is of type {}", found.type_str()))
                .help(format!("write {wanted}")),
        );
        None
    }

    fn missing(&self, key: &str, example: &str) {
        self.problems.push(
            Problem::error(
                format!("`{key}` is missing in {}", self.name),
                self.span.clone(),
            )
            .label(format!("has no `{key}`"))
            .help(format!("add a line like `{key} = {example}`")),
        );
    }

    /// Ends: keys that nobody asked for are errors.
    pub fn finish(self) {
        let known = self.known.into_inner();
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let mut all: Vec<&str> = known.clone();
            all.sort_unstable();
            all.dedup();
            let problem =
                Problem::error(format!("unknown key `{name}` in {}", self.name), key.span());
            self.problems.push(match nearest(name, &all) {
                Some(near) => problem
                    .label(format!("did you mean `{near}`?"))
                    .help(format!("{} knows: {}", self.name, all.join(", "))),
                None => problem.label("not known here").help(format!(
                    "{} knows: {}",
                    self.name,
                    all.join(", ")
                )),
            });
        }
    }
}

/// A word that is none of those allowed.
pub fn unknown_word(key: &str, found: &str, span: Range<usize>, words: &[&str]) -> Problem {
    let problem = Problem::error(format!("`{key}` cannot be `{found}`"), span);
    let list: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
    let problem = match nearest(found, words) {
        Some(near) => problem.label(format!("did you mean `\"{near}\"`?")),
        None => problem.label("not known here"),
    };
    problem.help(format!("write one of {}", list.join(", ")))
}

/// The word that was probably meant.
pub fn nearest<'a>(found: &str, words: &[&'a str]) -> Option<&'a str> {
    words
        .iter()
        .map(|word| (strsim::jaro_winkler(found, word), *word))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, word)| word)
}
