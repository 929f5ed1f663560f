//! `[system]`: its keys, and what they demand of each other.

use super::{check_name, scaled};
use crate::Context;
use crate::problem::Problem;
use crate::quantity::{MIB, show_bytes};
use crate::reader::{At, Problems, Reader, unknown_word};
use protocol::slots;
use protocol::units::PIECE_BYTES;

/// What the machine needs beside the pool when the description does not say how much memory it has: kernel, root task
/// with the guests' files twice (packed in the image, and in the store), components, page tables for guests. In MiB.
const BESIDE_POOL_DEFAULT_MIB: u64 = 512;
/// The least of it that can work, in MiB.
const BESIDE_POOL_MIN_MIB: u64 = 256;
/// The most the memory server can own.
const POOL_MAX_BYTES: u64 = PIECE_BYTES << slots::memory::LEDGER_RADIX_MAX;
/// The reserve's default: this part of the pool.
const RESERVE_PART: u64 = 16;

/// The system's own settings, checked.
pub(super) struct Host {
    pub(super) name: String,
    pub(super) board: &'static str,
    pub(super) memory_mib: u64,
    pub(super) pool: At<u64>,
    pub(super) reserve_bytes: u64,
}

pub(super) fn read_host(
    reader: Reader<'_>,
    context: &Context<'_>,
    problems: &Problems,
) -> Option<Host> {
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
            check_that_the_pool_fits(&pool, memory, problems);
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

fn check_that_the_pool_fits(pool: &At<u64>, memory: &At<u64>, problems: &Problems) {
    let needed = pool.value + BESIDE_POOL_MIN_MIB * MIB;
    if memory.value >= needed {
        return;
    }
    let most = memory.value.saturating_sub(BESIDE_POOL_MIN_MIB * MIB) / PIECE_BYTES * PIECE_BYTES;
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
                show_bytes(most),
                show_bytes(needed)
            )),
    );
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
