//! What makes a description right: each rule once, with its message.

use crate::files::check_arm64_image;
use crate::problem::{Problem, Severity};
use crate::quantity::{MIB, show_bytes};
use crate::reader::{At, Problems, Reader, nearest, unknown_word};
use crate::{Context, Description, GuestFile, Source, Use};
use protocol::balancer::{Mode, OnRefusal, Settings};
use protocol::memory::Bounds;
use protocol::slots;
use protocol::system::{Autostart, COMMAND_LINE_BYTES, Guest, System};
use protocol::units::{MAX_GUESTS, PIECE_BYTES, Pieces};
use std::ops::Range;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// What the machine needs beside the pool when the description does not say how much memory it has: kernel, root task
/// with the guests' files twice (packed in the image, and in the store), components, page tables for guests. In MiB.
const BESIDE_POOL_DEFAULT_MIB: u64 = 512;
/// The least of it that can work, in MiB.
const BESIDE_POOL_MIN_MIB: u64 = 256;
/// A Linux guest does not boot with less: it needs 60 MiB (measured with Debian 13's).
const LINUX_MINIMUM_BYTES: u64 = 64 * MIB;
/// A unikernel's smallest memory.
const UNIKERNEL_MINIMUM_BYTES: u64 = PIECE_BYTES;
/// The most one guest can have: two capabilities for each piece in its VMM's CNode, as a round number.
const GUEST_MAXIMUM_BYTES: u64 = 8 << 30;
const _: () = assert!(
    slots::vmm::GUEST_FRAMES + 2 * (GUEST_MAXIMUM_BYTES / PIECE_BYTES) <= 1 << slots::vmm::RADIX
);
/// The most the memory server can own.
const POOL_MAX_BYTES: u64 = PIECE_BYTES << slots::memory::LEDGER_RADIX_MAX;
/// Hot-added memory is movable memory, and its page structures come from ordinary memory: beyond this it runs short.
const HEALTHY_GROWTH: u64 = 4;
/// The reserve's default: this part of the pool.
const RESERVE_PART: u64 = 16;
const NAME_BYTES: usize = 32;
const WEIGHT_NAMES: [(&str, u16); 3] = [("low", 2500), ("medium", 5000), ("high", 10000)];

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

/// The system's own settings, checked.
struct Host {
    name: String,
    board: &'static str,
    memory_mib: u64,
    pool: At<u64>,
    reserve_bytes: u64,
}

/// A guest, checked by itself.
struct Candidate {
    name: At<String>,
    autostart: Autostart,
    kernel: Source,
    initrd: Option<Source>,
    command_line: String,
    settings: Settings,
    minimum: At<u64>,
    startup: At<u64>,
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

fn read_host(reader: Reader<'_>, context: &Context<'_>, problems: &Problems) -> Option<Host> {
    let name = reader.required_string("name", "\"example\"");
    if let Some(name) = &name {
        check_name("the system's name", name, problems);
    }
    let board = read_board(&reader, context, problems);
    let memory = scaled(reader.size("memory"), "memory", context, problems);
    let pool = scaled(
        reader.required_size("pool", "\"2GiB\""),
        "pool",
        context,
        problems,
    );
    let reserve = scaled(reader.size("reserve"), "reserve", context, problems);
    reader.finish();
    let (board, pool) = (board?, pool?);

    if pool.value == 0 || pool.value > POOL_MAX_BYTES {
        problems.push(
            Problem::error("`pool` is out of range", pool.span.clone())
                .label(show_bytes(pool.value))
                .help(format!(
                    "write a size from {} to {}",
                    show_bytes(PIECE_BYTES),
                    show_bytes(POOL_MAX_BYTES)
                )),
        );
    }
    if let Some(reserve) = &reserve
        && reserve.value >= pool.value
    {
        problems.push(
            Problem::error("`reserve` leaves nothing for guests", reserve.span.clone())
                .label(format!("{} kept back", show_bytes(reserve.value)))
                .related(pool.span.clone(), format!("of {}", show_bytes(pool.value)))
                .help(format!(
                    "the default is 1/{RESERVE_PART} of the pool: {}",
                    show_bytes(default_reserve(pool.value))
                )),
        );
    }
    let memory_mib = match &memory {
        None => pool.value / MIB + BESIDE_POOL_DEFAULT_MIB,
        Some(memory) => {
            let needed = pool.value + BESIDE_POOL_MIN_MIB * MIB;
            if memory.value < needed {
                problems.push(
                    Problem::error("the pool does not fit the machine", pool.span.clone())
                        .label(format!(
                            "{} for guests, and {BESIDE_POOL_MIN_MIB}MiB for what runs them",
                            show_bytes(pool.value)
                        ))
                        .related(
                            memory.span.clone(),
                            format!("the machine has {}", show_bytes(memory.value)),
                        )
                        .help(format!(
                            "a pool of at most {}, or a machine of at least {}",
                            show_bytes(
                                memory.value.saturating_sub(BESIDE_POOL_MIN_MIB * MIB)
                                    / PIECE_BYTES
                                    * PIECE_BYTES
                            ),
                            show_bytes(needed)
                        )),
                );
            }
            memory.value / MIB
        }
    };
    if pool.value <= POOL_MAX_BYTES && memory_mib > board.memory_max_mib {
        let span = memory.map_or(pool.span.clone(), |memory| memory.span);
        problems.push(
            Problem::error(
                format!("the board `{}` has no such memory", board.name),
                span,
            )
            .label(format!("needs {}", show_bytes(memory_mib * MIB)))
            .help(format!(
                "`{}` can have up to {}",
                board.name,
                show_bytes(board.memory_max_mib * MIB)
            )),
        );
    }
    Some(Host {
        name: name?.value,
        board: board.name,
        memory_mib,
        reserve_bytes: reserve.map_or(default_reserve(pool.value), |reserve| reserve.value),
        pool,
    })
}

fn default_reserve(pool_bytes: u64) -> u64 {
    pool_bytes / RESERVE_PART / PIECE_BYTES * PIECE_BYTES
}

fn read_board<'a>(
    reader: &Reader<'_>,
    context: &Context<'a>,
    problems: &Problems,
) -> Option<&'a crate::Board> {
    let written = reader.string("board");
    let (name, span) = match (context.board, &written) {
        (Some(name), _) => (
            name,
            written
                .as_ref()
                .map_or(reader.span.clone(), |at| at.span.clone()),
        ),
        (None, Some(at)) => (at.value.as_str(), at.span.clone()),
        (None, None) => return context.boards.first(),
    };
    let found = context.boards.iter().find(|board| board.name == name);
    if found.is_none() {
        let names: Vec<&str> = context.boards.iter().map(|board| board.name).collect();
        problems.push(unknown_word("board", name, span, &names));
    }
    found
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

fn read_guest(reader: Reader<'_>, context: &Context<'_>, problems: &Problems) -> Option<Candidate> {
    let name = reader.required_string("name", "\"guest-1\"");
    if let Some(name) = &name {
        check_name("a guest's name", name, problems);
    }
    let kernel = read_kernel(&reader, context, problems);
    let initrd = read_initrd(&reader, kernel.as_ref(), context, problems);
    let extra = reader.string("cmdline_extra");
    let dynamic = reader.boolean("dynamic").is_none_or(|flag| flag.value);
    let autostart = match reader.boolean("autostart") {
        Some(At { value: false, .. }) => Autostart::Manual,
        _ => Autostart::AtBoot,
    };
    let size = |key, value| scaled(value, key, context, problems);
    let startup = size("startup", reader.required_size("startup", "\"256MiB\""));
    let minimum = size("minimum", reader.size("minimum"));
    let maximum = size(
        "maximum",
        if dynamic {
            reader.required_size("maximum", "\"1GiB\"")
        } else {
            reader.size("maximum")
        },
    );
    let buffer = reader.integer("buffer", 5, 95);
    let weight = read_weight(&reader);
    let on_refusal = match reader.word("on_refusal", &["mark", "revoke"]) {
        Some(At {
            value: "revoke", ..
        }) => OnRefusal::Revoke,
        _ => OnRefusal::Mark,
    };
    let deadline = read_deadline(&reader, problems);
    reader.finish();

    let startup = startup?;
    let minimum = minimum.unwrap_or_else(|| startup.clone());
    let maximum = maximum.unwrap_or_else(|| startup.clone());
    check_bounds(&minimum, &startup, &maximum, dynamic, problems);
    let (name, kernel) = (name?, kernel?);
    check_lowest(&kernel.value, &minimum, problems);
    let command_line = command_line(&name.value, &kernel.value, extra.as_ref(), problems);
    Some(Candidate {
        autostart,
        kernel: kernel.value,
        initrd: initrd?,
        command_line,
        settings: Settings {
            mode: if dynamic { Mode::Dynamic } else { Mode::Static },
            bounds: Bounds {
                minimum: pieces(minimum.value),
                startup: pieces(startup.value),
                maximum: pieces(maximum.value),
            },
            buffer_percent: buffer.map_or(20, |buffer| buffer.value as u8),
            weight,
            on_refusal,
            deadline_ms: deadline,
        },
        name,
        minimum,
        startup,
    })
}

fn pieces(bytes: u64) -> Pieces {
    Pieces(u32::try_from(bytes / PIECE_BYTES).unwrap_or(u32::MAX))
}

fn read_weight(reader: &Reader<'_>) -> u16 {
    const MEDIUM: u16 = WEIGHT_NAMES[1].1;
    let is_word = reader
        .get("weight")
        .is_some_and(|value| value.get_ref().is_str());
    if is_word {
        let names = WEIGHT_NAMES.map(|(name, _)| name);
        let word = reader
            .word("weight", &names)
            .map_or("medium", |at| at.value);
        WEIGHT_NAMES
            .iter()
            .find(|(name, _)| *name == word)
            .map_or(MEDIUM, |(_, weight)| *weight)
    } else {
        reader
            .integer("weight", 1, 10_000)
            .map_or(MEDIUM, |weight| weight.value as u16)
    }
}

fn read_deadline(reader: &Reader<'_>, problems: &Problems) -> u32 {
    const DEFAULT_MS: u32 = 2000;
    const RANGE_MS: std::ops::RangeInclusive<u64> = 100..=600_000;
    let Some(deadline) = reader.duration("deadline") else {
        return DEFAULT_MS;
    };
    if !RANGE_MS.contains(&deadline.value) {
        problems.push(
            Problem::error("`deadline` is out of range", deadline.span)
                .label(format!("{} ms", deadline.value))
                .help("write a duration from \"100ms\" to \"600s\""),
        );
        return DEFAULT_MS;
    }
    deadline.value as u32
}

fn check_bounds(
    minimum: &At<u64>,
    startup: &At<u64>,
    maximum: &At<u64>,
    dynamic: bool,
    problems: &Problems,
) {
    if !dynamic && (minimum.value != startup.value || maximum.value != startup.value) {
        let odd = if minimum.value == startup.value {
            maximum
        } else {
            minimum
        };
        problems.push(
            Problem::error(
                "a guest with `dynamic = false` has its startup memory only",
                odd.span.clone(),
            )
            .label("has no effect")
            .related(startup.span.clone(), "all it ever has")
            .help("remove this line, or `dynamic = false`"),
        );
        return;
    }
    if minimum.value > startup.value {
        problems.push(
            Problem::error("`minimum` is above `startup`", minimum.span.clone())
                .label(format!("{} is never taken away", show_bytes(minimum.value)))
                .related(
                    startup.span.clone(),
                    format!("but it starts with {}", show_bytes(startup.value)),
                )
                .help(format!(
                    "a minimum of at most {}, or a startup of at least {}",
                    show_bytes(startup.value),
                    show_bytes(minimum.value)
                )),
        );
    }
    if maximum.value < startup.value {
        problems.push(
            Problem::error("`maximum` is below `startup`", maximum.span.clone())
                .label(format!(
                    "it may never have more than {}",
                    show_bytes(maximum.value)
                ))
                .related(
                    startup.span.clone(),
                    format!("but it starts with {}", show_bytes(startup.value)),
                )
                .help(format!(
                    "a maximum of at least {}",
                    show_bytes(startup.value)
                )),
        );
    } else if maximum.value > GUEST_MAXIMUM_BYTES {
        problems.push(
            Problem::error(
                "`maximum` is more than a guest can have",
                maximum.span.clone(),
            )
            .label(show_bytes(maximum.value))
            .help(format!(
                "write at most `\"{}\"`",
                show_bytes(GUEST_MAXIMUM_BYTES)
            )),
        );
    } else if maximum.value > HEALTHY_GROWTH * startup.value {
        problems.push(
            Problem::warning(
                format!("`maximum` is more than {HEALTHY_GROWTH} times `startup`"),
                maximum.span.clone(),
            )
            .label(format!(
                "{} times as much",
                maximum.value as f64 / startup.value as f64
            ))
            .related(startup.span.clone(), "what it starts with")
            .help(
                "memory added later is movable memory: the kernel's own data cannot live there, and its page \
                 structures (1/64) come from the startup memory, which then runs short",
            ),
        );
    }
}

fn check_lowest(kernel: &Source, minimum: &At<u64>, problems: &Problems) {
    let (least, who) = match kernel {
        Source::Unikernel => (UNIKERNEL_MINIMUM_BYTES, "a unikernel"),
        _ => (LINUX_MINIMUM_BYTES, "a Linux guest"),
    };
    if minimum.value < least {
        problems.push(
            Problem::error(
                format!("{who} cannot live with so little"),
                minimum.span.clone(),
            )
            .label(format!(
                "its minimum would be {}",
                show_bytes(minimum.value)
            ))
            .help(format!("a minimum of at least {}", show_bytes(least))),
        );
    }
}

/// The kernels that are known by a word.
const KERNEL_WORDS: [(&str, Source); 2] = [
    ("debian", Source::DebianKernel),
    ("unikernel", Source::Unikernel),
];

fn read_kernel(
    reader: &Reader<'_>,
    context: &Context<'_>,
    problems: &Problems,
) -> Option<At<Source>> {
    let text = reader.required_string("kernel", "\"debian\"")?;
    if let Some((_, source)) = KERNEL_WORDS.iter().find(|(word, _)| *word == text.value) {
        return Some(At {
            value: source.clone(),
            span: text.span,
        });
    }
    let path = context.directory.join(&text.value);
    let content = match std::fs::read(&path) {
        Ok(content) => content,
        Err(error) => {
            problems.push(no_file(
                "kernel",
                &text,
                &path,
                &error,
                &KERNEL_WORDS.map(|(word, _)| word),
            ));
            return None;
        }
    };
    if let Err(reason) = check_arm64_image(&content) {
        problems.push(
            Problem::error("`kernel` cannot be started", text.span)
                .label(reason)
                .help("give the `Image` file of an arm64 Linux kernel, or `\"debian\"`"),
        );
        return None;
    }
    Some(At {
        value: Source::Path(path),
        span: text.span,
    })
}

fn no_file(
    key: &str,
    text: &At<String>,
    path: &Path,
    error: &std::io::Error,
    words: &[&str],
) -> Problem {
    let problem = Problem::error(
        format!("`{key}` names a file that cannot be read"),
        text.span.clone(),
    );
    let problem = match nearest(&text.value, words) {
        Some(near) => problem.label(format!("did you mean `\"{near}\"`?")),
        None => problem.label(match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            _ => error.to_string(),
        }),
    };
    let shown = path.file_name().unwrap_or_default().to_string_lossy();
    problem.help(format!(
        "put `{shown}` where the path says (it starts from the directory of this description), or write {}",
        words
            .iter()
            .map(|word| format!("`\"{word}\"`"))
            .collect::<Vec<_>>()
            .join(" or ")
    ))
}

/// The initrd: `Some(None)` is none, `None` a mistake.
#[expect(
    clippy::option_option,
    reason = "a mistake and no initrd are different answers"
)]
fn read_initrd(
    reader: &Reader<'_>,
    kernel: Option<&At<Source>>,
    context: &Context<'_>,
    problems: &Problems,
) -> Option<Option<Source>> {
    let Some(text) = reader.string("initrd") else {
        return match kernel.map(|kernel| &kernel.value) {
            Some(Source::DebianKernel) => Some(Some(Source::DebianInitrd)),
            _ => Some(None),
        };
    };
    match kernel.map(|kernel| (&kernel.value, kernel.span.clone())) {
        Some((Source::Unikernel, span)) => {
            problems.push(
                Problem::error("a unikernel takes no initrd", text.span)
                    .label("has no effect")
                    .related(span, "this guest's kernel")
                    .help("remove this line"),
            );
            return None;
        }
        _ if text.value == "default" => return Some(Some(Source::DebianInitrd)),
        _ => {}
    }
    let path = context.directory.join(&text.value);
    match std::fs::metadata(&path) {
        Ok(meta) if meta.is_file() => Some(Some(Source::Path(path))),
        found => {
            let error = found
                .err()
                .unwrap_or_else(|| std::io::Error::other("this is no file"));
            problems.push(no_file("initrd", &text, &path, &error, &["default"]));
            None
        }
    }
}

/// What every Linux guest is started with; `cmdline_extra` follows, so that it can override.
const LINUX_COMMAND_LINE: &str =
    "console=hvc0 quiet memhp_default_state=online_movable cma=0 rdinit=/init";

fn command_line(
    name: &str,
    kernel: &Source,
    extra: Option<&At<String>>,
    problems: &Problems,
) -> String {
    let mut line = match kernel {
        Source::Unikernel => format!("ballast.name={name}"),
        _ => format!("{LINUX_COMMAND_LINE} ballast.name={name}"),
    };
    let room = COMMAND_LINE_BYTES - line.len() - 1;
    if let Some(extra) = extra {
        if extra.value.len() > room
            || !extra
                .value
                .chars()
                .all(|c| c == ' ' || c.is_ascii_graphic())
        {
            problems.push(
                Problem::error("`cmdline_extra` cannot be passed on", extra.span.clone())
                    .label(format!("{} bytes", extra.value.len()))
                    .help(format!(
                        "up to {room} bytes of printable ASCII fit after the defaults"
                    )),
            );
        } else {
            line.push(' ');
            line.push_str(&extra.value);
        }
    }
    line
}

/// What guests and host have to agree on.
fn check_together(host: Option<&Host>, guests: &[Candidate], problems: &Problems) {
    for (index, guest) in guests.iter().enumerate() {
        if let Some(first) = guests[..index]
            .iter()
            .find(|other| other.name.value == guest.name.value)
        {
            problems.push(
                Problem::error(
                    format!("two guests are called `{}`", guest.name.value),
                    guest.name.span.clone(),
                )
                .label("the second")
                .related(first.name.span.clone(), "the first")
                .help("give each guest a name of its own"),
            );
        }
    }
    if let Some(guest) = guests.get(MAX_GUESTS) {
        problems.push(
            Problem::error(
                format!("more than {MAX_GUESTS} guests"),
                guest.name.span.clone(),
            )
            .label(format!("number {}", MAX_GUESTS + 1))
            .help(format!("a system has at most {MAX_GUESTS}")),
        );
    }
    let Some(host) = host else {
        return;
    };
    let room = host.pool.value.saturating_sub(host.reserve_bytes);
    let minimums: u64 = guests.iter().map(|guest| guest.minimum.value).sum();
    if minimums > host.pool.value {
        let mut sum = 0;
        let first_over = guests.iter().find(|guest| {
            sum += guest.minimum.value;
            sum > host.pool.value
        });
        let span = first_over.map_or(host.pool.span.clone(), |guest| guest.minimum.span.clone());
        problems.push(
            Problem::error("the minimums do not fit the pool", span)
                .label(format!("with this one they come to {}", show_bytes(sum)))
                .related(
                    host.pool.span.clone(),
                    format!("of the {} here", show_bytes(host.pool.value)),
                )
                .help(format!(
                    "minimums are reserved, so all of them have to fit: together {}. Lower some, or enlarge the pool",
                    show_bytes(minimums)
                )),
        );
        return;
    }
    let mut sum = 0;
    for guest in guests {
        if guest.autostart == Autostart::Manual {
            continue;
        }
        sum += guest.startup.value;
        if room > 0 && sum > room {
            problems.push(
                Problem::warning(
                    "the guests that start at boot do not all fit at once",
                    guest.startup.span.clone(),
                )
                .label(format!("up to this one they take {}", show_bytes(sum)))
                .related(
                    host.pool.span.clone(),
                    format!("of {} without the reserve", show_bytes(room)),
                )
                .help(
                    "this guest has to wait until the others give memory back; lower startups, enlarge the pool, or \
                     write `autostart = false`",
                ),
            );
            return;
        }
    }
}

fn assemble(host: Host, guests: Vec<Candidate>) -> Option<Description> {
    let mut files: Vec<GuestFile> = Vec::new();
    let mut place = |source: Source, used_as: Use| -> u16 {
        let file = GuestFile { source, used_as };
        let index = files.iter().position(|known| *known == file);
        let index = index.unwrap_or_else(|| {
            files.push(file);
            files.len() - 1
        });
        u16::try_from(index).unwrap_or(u16::MAX)
    };
    let guests: Vec<Guest> = guests
        .into_iter()
        .map(|guest| {
            Some(Guest {
                name: guest.name.value.as_str().try_into().ok()?,
                autostart: guest.autostart,
                kernel_file: place(guest.kernel, Use::Kernel),
                initrd_file: guest.initrd.map(|source| place(source, Use::Initrd)),
                command_line: guest.command_line.as_str().try_into().ok()?,
                settings: guest.settings,
            })
        })
        .collect::<Option<_>>()?;
    Some(Description {
        system: System {
            name: host.name.as_str().try_into().ok()?,
            pool: pieces(host.pool.value),
            reserve: pieces(host.reserve_bytes),
            guests: heapless_guests(guests)?,
        },
        files,
        board: host.board,
        memory_mib: host.memory_mib,
        warnings: Vec::new(),
    })
}

fn heapless_guests(guests: Vec<Guest>) -> Option<heapless::Vec<Guest, MAX_GUESTS>> {
    let mut all = heapless::Vec::new();
    for guest in guests {
        all.push(guest).ok()?;
    }
    Some(all)
}
