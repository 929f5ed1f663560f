//! What makes a description right: each rule once, with its message. The rules are with the keys, in the modules below.

mod guest;
mod host;
mod sources;
mod together;

use crate::problem::{Problem, Severity};
use crate::quantity::show_bytes;
use crate::reader::{At, Problems, Reader};
use crate::{Context, Description};
use guest::{Candidate, read_guest};
use host::read_host;
use protocol::units::{PIECE_BYTES, Pieces};
use std::ops::Range;
use together::{assemble, check_together};
use toml::de::{DeTable, DeValue};

const NAME_BYTES: usize = 32;

/// See [`crate::check`].
pub fn check(text: &str, context: &Context<'_>) -> Result<Description, Vec<Problem>> {
    let problems = Problems::default();
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        problems.push(
            Problem::error("this is no TOML", span)
                .label(error.message())
                .help("TOML is `key = value` under `[system]` and `[[guest]]`; see toml.io"),
        );
    }
    if !problems.is_empty() {
        // What follows a syntax error is guesswork.
        return Err(problems.into_sorted());
    }
    let built = build(table.get_ref(), text, context, &problems);
    let problems = problems.into_sorted();
    match built {
        Some(description) if problems.iter().all(|one| one.severity == Severity::Warning) => {
            Ok(Description {
                warnings: problems,
                ..description
            })
        }
        _ => Err(problems),
    }
}

fn build(
    table: &DeTable<'_>,
    text: &str,
    context: &Context<'_>,
    problems: &Problems,
) -> Option<Description> {
    let root = Reader::new(table, 0..0, "the description", problems);
    let system = root.get("system");
    let guests = root.get("guest");
    root.finish();

    let host = match system {
        None => {
            problems.push(
                Problem::error("the description has no `[system]`", 0..0)
                    .label("missing")
                    .help("begin with `[system]`, `name = \"...\"` and `pool = \"2GiB\"`"),
            );
            None
        }
        Some(value) => match value.get_ref() {
            DeValue::Table(table) => {
                let span = header(text, value.span());
                read_host(
                    Reader::new(table, span, "[system]", problems),
                    context,
                    problems,
                )
            }
            other => {
                problems.push(wrong_shape("system", "[system]", value.span(), other));
                None
            }
        },
    };

    let mut candidates = Vec::new();
    match guests.map(|value| (value.get_ref(), value.span())) {
        None => problems.push(
            Problem::error("the description has no guest", 0..0)
                .label("no `[[guest]]` in this file")
                .help("add `[[guest]]` with `name`, `kernel`, `startup` and `maximum`"),
        ),
        Some((DeValue::Array(array), _)) => {
            for value in array.iter() {
                match value.get_ref() {
                    DeValue::Table(table) => {
                        let span = header(text, value.span());
                        let reader = Reader::new(table, span, "[[guest]]", problems);
                        candidates.push(read_guest(reader, context, problems));
                    }
                    other => {
                        problems.push(wrong_shape("guest", "[[guest]]", value.span(), other));
                    }
                }
            }
        }
        Some((other, span)) => problems.push(wrong_shape("guest", "[[guest]]", span, other)),
    }
    let complete = candidates.iter().all(Option::is_some);
    let candidates: Vec<Candidate> = candidates.into_iter().flatten().collect();
    check_together(host.as_ref(), &candidates, problems);
    if !complete {
        return None;
    }
    assemble(host?, candidates)
}

fn wrong_shape(key: &str, header: &str, span: Range<usize>, found: &DeValue<'_>) -> Problem {
    Problem::error(format!("`{key}` has the wrong type"), span)
        .label(format!("this is of type {}", found.type_str()))
        .help(format!("write `{header}` on a line of its own"))
}

/// The header line of a table: a span over the whole table would underline all of it.
fn header(text: &str, span: Range<usize>) -> Range<usize> {
    let rest = text.get(span.start..).unwrap_or_default();
    let line = rest.lines().next().unwrap_or_default().trim_end();
    span.start..span.start + line.len()
}

/// Checks that a size is whole pieces, also once it is scaled, and scales it.
fn scaled(
    size: Option<At<u64>>,
    key: &str,
    context: &Context<'_>,
    problems: &Problems,
) -> Option<At<u64>> {
    let size = size?;
    let divisor = context.scale.divisor();
    let unit = PIECE_BYTES * divisor;
    if !size.value.is_multiple_of(unit) {
        let down = size.value / unit * unit;
        let why = if size.value.is_multiple_of(PIECE_BYTES) {
            format!(
                "a quarter of {} is not whole pieces of 2MiB",
                show_bytes(size.value)
            )
        } else {
            "memory moves in pieces of 2MiB".to_owned()
        };
        let near = if down == 0 {
            format!("`\"{}\"`", show_bytes(unit))
        } else {
            format!(
                "`\"{}\"` or `\"{}\"`",
                show_bytes(down),
                show_bytes(down + unit)
            )
        };
        problems.push(
            Problem::error(
                format!("`{key}` is no multiple of {}", show_bytes(unit)),
                size.span,
            )
            .label(why)
            .help(format!("write {near}")),
        );
        return None;
    }
    Some(At {
        value: size.value / divisor,
        span: size.span,
    })
}

fn check_name(what: &str, name: &At<String>, problems: &Problems) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.value.is_empty() || name.value.len() > NAME_BYTES || !name.value.chars().all(allowed) {
        problems.push(
            Problem::error(
                format!("{what} cannot be `{}`", name.value),
                name.span.clone(),
            )
            .label("not a usable name")
            .help(format!(
                "1 to {NAME_BYTES} letters (a-z), digits, `-` and `_`, without spaces"
            )),
        );
    }
}

fn pieces(bytes: u64) -> Pieces {
    Pieces(u32::try_from(bytes / PIECE_BYTES).unwrap_or(u32::MAX))
}
