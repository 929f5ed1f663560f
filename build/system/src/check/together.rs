//! What guests and host have to agree on, and the description made of both.

use super::guest::Candidate;
use super::host::Host;
use super::pieces;
use crate::problem::Problem;
use crate::quantity::show_bytes;
use crate::reader::Problems;
use crate::{Description, GuestFile, Source, Use};
use protocol::system::{Autostart, Guest, System};
use protocol::units::MAX_GUESTS;

/// What guests and host have to agree on.
pub(super) fn check_together(host: Option<&Host>, guests: &[Candidate], problems: &Problems) {
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

pub(super) fn assemble(host: Host, guests: Vec<Candidate>) -> Option<Description> {
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
                interface: guest.interface,
                cushion: pieces(guest.cushion),
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
