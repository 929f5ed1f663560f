//! `[[guest]]`: the keys of one guest, checked by itself.

use super::sources::{read_initrd, read_kernel};
use super::{check_name, pieces, scaled};
use crate::problem::Problem;
use crate::quantity::{MIB, show_bytes};
use crate::reader::{At, Problems, Reader};
use crate::{Context, Source};
use protocol::balancer::{Mode, OnRefusal, OnSilence, Settings};
use protocol::memory::Bounds;
use protocol::slots;
use protocol::system::{Autostart, COMMAND_LINE_BYTES, Interface};
use protocol::units::PIECE_BYTES;

/// A Linux guest does not boot with less: it needs 60 MiB (measured with Debian 13's).
const LINUX_MINIMUM_BYTES: u64 = 64 * MIB;
/// A unikernel's smallest memory.
const UNIKERNEL_MINIMUM_BYTES: u64 = PIECE_BYTES;
/// The most one guest can have: two capabilities for each piece in its VMM's CNode, as a round number.
const GUEST_MAXIMUM_BYTES: u64 = 8 << 30;
const _: () = assert!(
    slots::vmm::GUEST_FRAMES + 2 * (GUEST_MAXIMUM_BYTES / PIECE_BYTES) <= 1 << slots::vmm::RADIX
);
/// Hot-added memory is movable memory, and its page structures come from ordinary memory: beyond this it runs short.
const HEALTHY_GROWTH: u64 = 4;
const WEIGHT_NAMES: [(&str, u16); 3] = [("low", 2500), ("medium", 5000), ("high", 10000)];
/// What every Linux guest is started with; `cmdline_extra` follows, so that it can override.
///
/// A part (1/32) of what is plugged is kept free in ordinary memory from programs, which use plugged memory as well: page
/// structures (1/64 of what is plugged next), page tables and stacks can be nowhere else, and where a burst fills both kinds
/// of memory at once, the kernel's own need is what kills.
const LINUX_COMMAND_LINE: &str = "console=hvc0 quiet memhp_default_state=online_movable cma=0 \
     sysctl.vm.lowmem_reserve_ratio=\"32 32 32 0 0\" rdinit=/init";

/// A guest, checked by itself.
pub(super) struct Candidate {
    pub(super) name: At<String>,
    pub(super) autostart: Autostart,
    pub(super) interface: Interface,
    pub(super) cushion: u64,
    pub(super) kernel: Source,
    pub(super) initrd: Option<Source>,
    pub(super) command_line: String,
    pub(super) settings: Settings,
    pub(super) minimum: At<u64>,
    pub(super) startup: At<u64>,
}

pub(super) fn read_guest(
    reader: Reader<'_>,
    context: &Context<'_>,
    problems: &Problems,
) -> Option<Candidate> {
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
    let interface = match reader.word("interface", &["own", "sel4"]) {
        Some(At { value: "sel4", .. }) => Interface::Sel4,
        _ => Interface::Own,
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
    let cushion = size("cushion", reader.size("cushion"));
    let buffer = reader.integer("buffer", 5, 95);
    let weight = read_weight(&reader);
    let on_refusal = match reader.word("on_refusal", &["mark", "revoke"]) {
        Some(At {
            value: "revoke", ..
        }) => OnRefusal::Revoke,
        _ => OnRefusal::Mark,
    };
    let on_silence = match reader.word("on_silence", &["keep", "restart", "stop"]) {
        Some(At {
            value: "restart", ..
        }) => OnSilence::Restart,
        Some(At { value: "stop", .. }) => OnSilence::Stop,
        _ => OnSilence::Keep,
    };
    let deadline = read_deadline(&reader, problems);
    reader.finish();

    let startup = startup?;
    let minimum = minimum.unwrap_or_else(|| startup.clone());
    let maximum = maximum.unwrap_or_else(|| startup.clone());
    check_bounds(&minimum, &startup, &maximum, dynamic, problems);
    let (name, kernel) = (name?, kernel?);
    let cushion = check_cushion(cushion, &startup, problems);
    check_lowest(&kernel.value, &minimum, problems);
    let command_line = command_line(&name.value, &kernel.value, extra.as_ref(), problems);
    Some(Candidate {
        autostart,
        interface,
        cushion,
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
            on_silence,
        },
        name,
        minimum,
        startup,
    })
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

/// The cushion, in bytes: none if nothing is said.
fn check_cushion(cushion: Option<At<u64>>, startup: &At<u64>, problems: &Problems) -> u64 {
    let Some(cushion) = cushion else { return 0 };
    if cushion.value > startup.value / 2 {
        problems.push(
            Problem::error(
                "`cushion` is more than half of `startup`",
                cushion.span.clone(),
            )
            .label("its page structures lie in startup memory")
            .related(
                startup.span.clone(),
                format!("that is {}", show_bytes(startup.value)),
            )
            .help(format!("at most {}", show_bytes(startup.value / 2))),
        );
    }
    cushion.value
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
