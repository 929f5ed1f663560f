//! Debian's kernel on the bare machine and as our guest: what a boot costs.

use super::LIMIT;
use super::rows::Row;
use crate::cargo::Cargo;
use crate::image::{self, Flavour};
use crate::paths::Paths;
use crate::{guests, progress};
use anyhow::{Context, Result, bail};
use operator::board::{Board, PortId};
use operator::logs::Logs;
use operator::transcript::Transcript;
use protocol::console::Port;
use protocol::management::{Answer, Event, HostBody};
use protocol::units::GuestId;
use qemu_machine::{Count, Ending, ExceptionLevels, Machine, Qemu, run_to_verdict};
use std::time::{Duration, Instant};
use system::Scale;

/// The kernel's command line on the bare machine: the guest's, but for the console.
const BARE_COMMAND_LINE: &str = "console=ttyAMA0 quiet cma=0 rdinit=/init";
/// RAM of the bare machine; the guest of `bench.toml` has the same.
const MEMORY_MIB: u64 = 256;
/// What the VMM says before the guest runs.
const START_LINE: &str = "its first instruction at ";
/// What the VMM says when its guest writes on its console for the first time, which /init does.
const EXITS_LINE: &str = "its console opened after ";
/// Wall time that may pass from the one to the other.
const EXITS_LIMIT: Duration = Duration::from_secs(20);
/// What /init says first.
const INIT_LINE: &str = "init: /init began at ";

/// The rows about Linux.
///
/// # Errors
/// When one of the two does not reach /init.
pub fn rows(paths: &Paths, cargo: &Cargo, mirror: Option<&str>) -> Result<Vec<Row>> {
    let bare = progress::step("boot Linux on the bare machine", || {
        bare(paths, cargo, mirror)
    })?;
    let mut rows = guest(paths, cargo, mirror)?;
    let ours = rows.first().map_or(f64::NAN, |row| row.value);
    rows.insert(0, Row::new("linux_boot_bare_machine", bare, "instructions"));
    rows.push(Row::new("linux_boot_to_init_ratio", ours / bare, "ratio"));
    Ok(rows)
}

/// Instructions (nanoseconds under icount) in `N ticks of F Hz`.
fn instructions(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let ticks: f64 = words.next()?.parse().ok()?;
    let hz: f64 = words.nth(2)?.parse().ok()?;
    Some(ticks * 1e9 / hz)
}

/// Instructions from a moment in ticks to that of `N ticks of F Hz`.
fn between(start_ticks: f64, text: &str) -> Option<f64> {
    let hz: f64 = text.split_whitespace().nth(3)?.parse().ok()?;
    Some(instructions(text)? - start_ticks * 1e9 / hz)
}

fn bare(paths: &Paths, cargo: &Cargo, mirror: Option<&str>) -> Result<f64> {
    let linux = guests::linux(paths, cargo, mirror)?;
    let machine = Machine {
        count: Count::Instructions,
        exception_levels: ExceptionLevels::WithoutEl2,
        extra: [
            "-initrd".into(),
            linux.initrd.into(),
            "-append".into(),
            BARE_COMMAND_LINE.into(),
        ]
        .into(),
        ..Machine::virt(MEMORY_MIB)
    };
    let log = paths.logs().join("bench-bare-linux.log");
    let transcript = run_to_verdict(&machine, &linux.kernel, LIMIT, &log, |line| {
        line.contains(INIT_LINE)
    })?;
    let Ending::Verdict(line) = transcript.ending else {
        bail!(
            "Linux did not reach /init on the bare machine; its output is in {}",
            log.display()
        );
    };
    line.split(INIT_LINE)
        .nth(1)
        .and_then(instructions)
        .with_context(|| format!("/init said {line:?} on the bare machine"))
}

/// Boots one guest; its first row is the boot's instructions.
fn guest(paths: &Paths, cargo: &Cargo, mirror: Option<&str>) -> Result<Vec<Row>> {
    let description = image::describe(&paths.systems().join("bench.toml"), None, Scale::Full)?;
    let built = image::build(paths, cargo, &description, Flavour::Release, mirror)?;
    let file = paths.out().join("bench-linux.img");
    crate::paths::write_if_changed(&file, &built.image)?;
    let log = paths.logs().join("bench-guest-linux.log");
    progress::step("boot Linux as a guest", || {
        let machine = Machine {
            count: Count::Instructions,
            ..Machine::virt(description.memory_mib)
        };
        let (_qemu, reader, writer) = Qemu::start(&machine, &file)?;
        let transcript = Transcript::new(Some(Box::new(std::fs::File::create(&log)?)));
        let mut board = Board::new(
            Box::new(reader),
            Box::new(writer),
            Logs::default(),
            transcript,
        );
        let console = PortId::new(GuestId(0), Port::Console);
        let until = Instant::now() + LIMIT;
        let mut said = String::new();
        let mut start_ticks = None;
        let mut exits = None;
        let boot = loop {
            board.pump(Duration::from_millis(100));
            while let Some(event) = board.next_event() {
                if let Event::Say { text, .. } = event {
                    start_ticks = start_ticks.or_else(|| number_after(&text, START_LINE));
                    exits = exits.or_else(|| number_after(&text, EXITS_LINE));
                }
            }
            said.push_str(&String::from_utf8_lossy(&board.take_output(console)));
            if let Some(rest) = said.split(INIT_LINE).nth(1)
                && let Some((line, _)) = rest.split_once('\n')
            {
                let start = start_ticks.context("the VMM did not say when the guest started")?;
                break between(start, line).with_context(|| format!("/init said {line:?}"))?;
            }
            if board.is_closed() || Instant::now() >= until {
                bail!(
                    "Linux did not reach /init as a guest; the log is {}",
                    log.display()
                );
            }
        };
        let mut rows = vec![Row::new("linux_boot_guest", boot, "instructions")];
        let until = Instant::now() + EXITS_LIMIT;
        while exits.is_none() && Instant::now() < until {
            board.pump(Duration::from_millis(100));
            while let Some(event) = board.next_event() {
                if let Event::Say { text, .. } = event {
                    exits = exits.or_else(|| number_after(&text, EXITS_LINE));
                }
            }
        }
        let exits = exits.context("the VMM did not say how many exits the boot took")?;
        rows.push(Row::new("linux_boot_exits", exits, "exits"));
        if let Ok(Answer::Costs {
            components_bytes,
            per_guest_bytes,
            ..
        }) = board.request(HostBody::Costs)
        {
            rows.push(Row::new(
                "components_memory_bytes",
                components_bytes as f64,
                "bytes",
            ));
            rows.push(Row::new(
                "per_guest_memory_bytes",
                per_guest_bytes as f64,
                "bytes",
            ));
        }
        Ok(rows)
    })
}

/// The number that follows `start` at the beginning of `text`.
fn number_after(text: &str, start: &str) -> Option<f64> {
    text.strip_prefix(start)?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_instructions() {
        assert_eq!(
            instructions("52045298 ticks of 62500000 Hz"),
            Some(832_724_768.0)
        );
        assert_eq!(instructions("soon"), None);
        assert_eq!(
            between(1000.0, "3000 ticks of 62500000 Hz\r"),
            Some(32_000.0)
        );
    }
}
