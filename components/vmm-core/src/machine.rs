//! The guest's machine: devices on their addresses, the interrupt controller, memory, and what the balancer hears.
//!
//! One [`Machine`] per guest. The binary feeds it faults and signals; everything it needs from outside is the [`Host`].

mod cushion;
mod deflation;
mod reports;
mod standing;
mod trim;
mod uptake;
mod voice;

pub use standing::Standing;
pub use uptake::News;
pub use voice::{Cause, NEVER_HEARD_MS, SILENT_MS, Silence};

use crate::follow::{Cushion, Driver, Drivers, Follower, Goal, Kick};
use crate::gic::{Gic, Level, Lists};
use crate::pieces::View;
use crate::pieces::{Mapped, State, Storage, Supply, Table, TouchError, Vanished};
use crate::ram::{AccessError, GuestMemory};
use crate::syndrome::Width;
use crate::virtio::balloon::{Balloon, F_DEFLATE_ON_OOM, F_MUST_TELL_HOST, Happened};
use crate::virtio::console::{Backlog, Console, Sink};
use crate::virtio::hotplug::Hotplug;
use crate::virtio::transport::CONFIG;
use cushion::Cushioned;
use protocol::balancer::{NextReport, Report, Urgency};
use protocol::console::Port;
use protocol::layout::ipa as map;
use protocol::memory::Account;
use protocol::startup::Gic as GicVersion;
use protocol::units::{PieceId, Pieces};
use reports::{Had, REPORT_MS};
use trim::Trim;
use uptake::Taking;
use voice::Voice;

/// Devices on the virtio-mmio bus.
pub const VIRTIO_DEVICES: u32 = 4;
const FIRST_SPI: u32 = 32 + map::VIRTIO_SPI;
const VIRTIO_END: u64 = map::VIRTIO_MMIO + VIRTIO_DEVICES as u64 * map::VIRTIO_MMIO_STRIDE;
const GICD_BYTES: u64 = 0x1_0000;
const GICR_BYTES: u64 = 0x2_0000;
/// Everything outside the machine.
pub trait Host: Lists + Supply {
    /// Takes a guest port's output; how many bytes were taken.
    fn console_write(&mut self, port: Port, bytes: &[u8]) -> usize;
    /// Tells the balancer; what it answered, `None` when it did not.
    fn report(&mut self, report: &Report) -> Option<NextReport>;
    /// The guest's account at the memory server.
    fn account(&mut self) -> Option<Account>;
    /// A piece that the memory server took by force, until there is none.
    fn next_revoked(&mut self) -> Option<PieceId>;
}

/// A console device's outside: guest memory and its port.
struct Outside<'a, H> {
    table: &'a mut Table,
    host: &'a mut H,
    port: Port,
}

impl<H: Host> Sink for Outside<'_, H> {
    fn put(&mut self, bytes: &[u8]) -> usize {
        self.host.console_write(self.port, bytes)
    }
}

impl<H: Host> GuestMemory for Outside<'_, H> {
    fn read(&mut self, ipa: u64, into: &mut [u8]) -> Result<(), AccessError> {
        View {
            table: self.table,
            supply: self.host,
        }
        .read(ipa, into)
    }

    fn write(&mut self, ipa: u64, from: &[u8]) -> Result<(), AccessError> {
        View {
            table: self.table,
            supply: self.host,
        }
        .write(ipa, from)
    }
}

/// What a stage-2 fault needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Memory that the guest had not touched before: run the instruction again.
    Mapped,
    /// Memory that it had reported free and has again: run the instruction again.
    Present,
    /// Memory that the guest has: it came in the meantime, or was taken by force and we do not know it yet.
    Already,
    /// Memory that comes later: the guest waits for the memory server's signal.
    Later,
    /// A device register.
    Device,
    /// Memory that was taken by force.
    Revoked,
    /// Nothing is there.
    Nothing,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    /// The interrupt controller.
    pub gic: Gic,
    /// The memory.
    pub table: Table,
    console: Console,
    agent: Console,
    /// When the rest of an output is handed on, in milliseconds.
    output_ms: Option<u64>,
    balloon: Balloon,
    hotplug: Hotplug,
    follower: Follower,
    target: u32,
    minimum: u32,
    maximum: u32,
    keep: u32,
    cushion: Cushioned,
    /// The guest touched memory that was not promised to it and waits for it.
    refused_touch: bool,
    /// Its OOM notifier has waited for memory that was not promised to it; the first time since it last had enough.
    out_of_memory_ms: Option<u64>,
    /// Until then a deflation that nobody asked for waits for plugging, in milliseconds.
    hold_until_ms: u64,
    /// A target that was set so that a deflation could be answered: it is no reason to deflate more.
    answering_target: Option<u32>,
    next_report_ms: u64,
    report_distance_ms: u64,
    last_report_ms: u64,
    asked_ms: Option<u64>,
    /// It did not answer in time, and the balancer has old figures: a late answer is reported at once.
    is_late: bool,
    /// What the guest had when its last statistics were taken.
    counted: Option<Had>,
    urgent: Urgency,
    touched_pieces: u32,
    busy_until_ms: u64,
    voice: Voice,
    /// For how long it had been silent, in milliseconds, until it was heard again.
    heard_again: Option<u64>,
    uptake: Taking,
    trim: Trim,
}

impl Machine {
    /// A machine as it is before its guest's first instruction.
    #[must_use]
    pub fn new(
        storage: &'static mut Storage,
        gic: GicVersion,
        startup: Pieces,
        hotplug_bytes: u64,
        cushion: Pieces,
        now_ms: u64,
    ) -> Self {
        let mut table = Table::new(storage);
        table.set_up(startup, hotplug_bytes);
        Self {
            gic: Gic::new(gic),
            table,
            console: Console::new(),
            agent: Console::new(),
            output_ms: None,
            balloon: Balloon::new(),
            hotplug: Hotplug::new(),
            follower: Follower::new(),
            target: startup.0,
            minimum: 0,
            maximum: startup.0,
            keep: 0,
            cushion: Cushioned::new(cushion.0),
            refused_touch: false,
            out_of_memory_ms: None,
            hold_until_ms: 0,
            answering_target: None,
            next_report_ms: now_ms + REPORT_MS,
            report_distance_ms: REPORT_MS,
            last_report_ms: 0,
            asked_ms: None,
            is_late: false,
            counted: None,
            urgent: Urgency::Periodic,
            touched_pieces: 0,
            busy_until_ms: 0,
            voice: Voice::new(now_ms),
            heard_again: None,
            uptake: Taking::new(),
            trim: Trim::new(),
        }
    }

    /// What lies at an address that did not translate.
    pub fn place(&mut self, ipa: u64, host: &mut impl Host) -> Place {
        if let Some(index) = self.table.index_of(ipa) {
            if let State::Granted(_) = self.table.state(index) {
                return match self.table.map(index, host) {
                    Ok(Mapped::Now) => Place::Mapped,
                    Ok(Mapped::Before) | Err(Vanished) => Place::Already,
                };
            }
            let touched = self.table.touch(ipa, host);
            self.refused_touch = touched == Err(TouchError::Refused);
            return match touched {
                Ok(index) => match self.table.map(index, host) {
                    Ok(_) => Place::Present,
                    Err(Vanished) => Place::Already,
                },
                Err(TouchError::NotReady) => {
                    self.urgent = Urgency::Event;
                    Place::Later
                }
                Err(TouchError::Refused) => {
                    // It can do nothing else until then.
                    self.urgent = Urgency::Starved;
                    Place::Later
                }
                Err(TouchError::Revoked) => Place::Revoked,
                Err(TouchError::Foreign) => Place::Nothing,
            };
        }
        match ipa {
            map::VIRTIO_MMIO..VIRTIO_END => Place::Device,
            _ if ipa.wrapping_sub(map::GICD) < GICD_BYTES => Place::Device,
            _ if ipa.wrapping_sub(map::GICR) < GICR_BYTES => Place::Device,
            _ => Place::Nothing,
        }
    }

    /// A device register is read. Accesses that cross their natural alignment read as zero.
    pub fn read(&mut self, ipa: u64, width: Width) -> u64 {
        if !ipa.is_multiple_of(width.bytes()) {
            return 0;
        }
        if let Some(offset) = ipa.checked_sub(map::VIRTIO_MMIO)
            && ipa < VIRTIO_END
        {
            let (device, offset) = (
                offset / map::VIRTIO_MMIO_STRIDE,
                offset % map::VIRTIO_MMIO_STRIDE,
            );
            let config = offset.checked_sub(CONFIG);
            return match (device, config) {
                (0, None) => self.console.transport.read(offset, width),
                (1, None) => self.agent.transport.read(offset, width),
                (2, None) => self.balloon.transport.read(offset, width),
                (3, None) => self.hotplug.transport.read(offset, width),
                (2, Some(offset)) => self.balloon.config(offset, width),
                (3, Some(offset)) => self.hotplug.config(offset, width, &self.table),
                _ => 0,
            };
        }
        if ipa.wrapping_sub(map::GICD) < GICD_BYTES {
            return self.gic.distributor_read(ipa - map::GICD, width);
        }
        if ipa.wrapping_sub(map::GICR) < GICR_BYTES {
            return self.gic.redistributor_read(ipa - map::GICR, width);
        }
        0
    }

    /// A device register is written. `now_ms` is asked for only when it matters.
    pub fn write<H: Host>(
        &mut self,
        ipa: u64,
        width: Width,
        value: u64,
        host: &mut H,
        now_ms: impl Fn() -> u64,
    ) {
        if !ipa.is_multiple_of(width.bytes()) {
            return;
        }
        if let Some(offset) = ipa.checked_sub(map::VIRTIO_MMIO)
            && ipa < VIRTIO_END
        {
            let (device, offset) = (
                offset / map::VIRTIO_MMIO_STRIDE,
                offset % map::VIRTIO_MMIO_STRIDE,
            );
            self.device_write(device, offset, width, value, host, &now_ms);
            self.lines();
            self.gic.flush(host);
        } else if ipa.wrapping_sub(map::GICD) < GICD_BYTES {
            self.gic.distributor_write(ipa - map::GICD, width, value);
            self.gic.flush(host);
        } else if ipa.wrapping_sub(map::GICR) < GICR_BYTES {
            self.gic.redistributor_write(ipa - map::GICR, width, value);
            self.gic.flush(host);
        }
    }

    fn device_write<H: Host>(
        &mut self,
        device: u64,
        offset: u64,
        width: Width,
        value: u64,
        host: &mut H,
        now_ms: &impl Fn() -> u64,
    ) {
        match device {
            0 | 1 => {
                let (console, port) = if device == 0 {
                    (&mut self.console, Port::Console)
                } else {
                    (&mut self.agent, Port::Agent)
                };
                let event = console.transport.write(offset, width, value);
                let table = &mut self.table;
                console.event(event, &mut Outside { table, host, port });
                self.note_backlog(now_ms);
            }
            2 => {
                let event = self.balloon.transport.write(offset, width, value);
                self.decide_hold(now_ms());
                let happened = self.balloon.event(event, &mut self.table, host);
                self.balloon_happened(happened, host, now_ms());
                if event == crate::virtio::transport::Event::Ready {
                    self.uptake.renew(now_ms());
                    self.pursue(host, now_ms());
                }
            }
            3 => {
                let event = self.hotplug.transport.write(offset, width, value);
                let plugged = self.table.plugged();
                self.hotplug.event(event, &mut self.table, host);
                if self.table.plugged() > plugged {
                    self.busy(now_ms());
                }
                if event == crate::virtio::transport::Event::Ready {
                    self.uptake.renew(now_ms());
                    // What it can reach is more now.
                    self.busy(now_ms());
                }
                if event == crate::virtio::transport::Event::Ready
                    || matches!(event, crate::virtio::transport::Event::Notify(_))
                {
                    self.pursue(host, now_ms());
                }
                self.go_on_deflating(host, now_ms());
            }
            _ => {}
        }
    }

    fn balloon_happened<H: Host>(&mut self, happened: Happened, host: &mut H, now_ms: u64) {
        self.note_deflation(happened, now_ms);
        if happened.unasked_deflation || happened.filled {
            self.pursue(host, now_ms);
        }
        if happened.statistics {
            self.heard(host, now_ms);
        }
        let answered = happened.statistics
            && (self.asked_ms.take().is_some() | core::mem::take(&mut self.is_late));
        let first = happened.statistics && self.last_report_ms == 0;
        if answered || first || self.urgent != Urgency::Periodic {
            self.send_report(host, now_ms);
        }
    }

    fn lines(&mut self) {
        let levels = [
            self.console.transport.line(),
            self.agent.transport.line(),
            self.balloon.transport.line(),
            self.hotplug.transport.line(),
        ];
        for (device, level) in levels.into_iter().enumerate() {
            self.gic.set_line(FIRST_SPI + device as u32, level);
        }
    }

    /// Room for input on a port, in bytes.
    #[must_use]
    pub fn input_room(&self, port: Port) -> usize {
        match port {
            Port::Console => self.console.input_room(),
            Port::Agent => self.agent.input_room(),
        }
    }

    /// Input from the operator.
    pub fn input(&mut self, port: Port, bytes: &[u8], host: &mut impl Host) {
        let console = match port {
            Port::Console => &mut self.console,
            Port::Agent => &mut self.agent,
        };
        let mut view = View {
            table: &mut self.table,
            supply: host,
        };
        console.input(bytes, &mut view);
        self.lines();
        self.gic.flush(host);
    }

    /// The console server takes output again, or the rest of an output is due.
    pub fn output(&mut self, host: &mut impl Host, now_ms: u64) {
        for (console, port) in [
            (&mut self.console, Port::Console),
            (&mut self.agent, Port::Agent),
        ] {
            let table = &mut self.table;
            console.transmit(&mut Outside { table, host, port });
        }
        self.output_ms = None;
        self.note_backlog(&|| now_ms);
        self.lines();
        self.gic.flush(host);
    }

    /// Output that is left after a turn goes on a millisecond later: the guest runs meanwhile, and the VMM serves others.
    fn note_backlog(&mut self, now_ms: &impl Fn() -> u64) {
        let left = [&self.console, &self.agent].map(Console::backlog);
        if !left.contains(&Backlog::Left) {
            self.output_ms = None;
        } else if self.output_ms.is_none() {
            self.output_ms = Some(now_ms() + 1);
        }
    }

    /// The memory server signalled: a new target, memory that is ready, or pieces taken by force.
    pub fn memory_changed(&mut self, host: &mut impl Host, now_ms: u64) {
        let mut reminded = false;
        if let Some(account) = host.account() {
            reminded = self.target == account.target.0;
            let surplus = account.assigned.minus(account.target);
            if reminded && surplus > Pieces(0) {
                // It is late, and may be taken from by force.
                self.table.offer_surplus(surplus, host);
            }
            self.target = account.target.0;
            self.minimum = account.minimum.0;
            self.maximum = account.maximum.0;
            if account.revoked.0 != 0 {
                // Bounded: the server names each piece once.
                while let Some(piece) = host.next_revoked() {
                    self.table.revoked(piece);
                }
            }
        }
        let waited = self.balloon.missing_pieces() > 0;
        if waited {
            // What is to be plugged now decides whether the deflation is answered at once.
            self.pursue(host, now_ms);
        }
        self.decide_hold(now_ms);
        let happened = self.balloon.work(&mut self.table, host);
        if waited {
            self.answering_target = Some(self.target);
        }
        self.hotplug.work(&mut self.table, host);
        self.keep_ready(host);
        self.note_deflation(happened, now_ms);
        if happened.starved {
            // Nobody else says that the target leaves no room for it.
            self.send_report(host, now_ms);
        }
        for console in [&mut self.console, &mut self.agent] {
            console.receive(&mut View {
                table: &mut self.table,
                supply: host,
            });
        }
        self.pursue(host, now_ms);
        if reminded {
            self.remind();
        }
        self.output(host, now_ms);
    }

    /// The same target again: drivers that still owe something are told once more. (They are also when the signal was
    /// for something else, which costs them a look.)
    fn remind(&mut self) {
        if self.table.ballooned_pages() < self.balloon.wanted_pages() {
            self.balloon.remind();
        }
        if self.table.plugged() > self.hotplug.requested() {
            self.hotplug.kick();
        }
    }

    /// Asks the drivers for what the target wants.
    fn pursue(&mut self, host: &mut impl Host, now_ms: u64) {
        let live = |is_live| {
            if is_live {
                Driver::Live
            } else {
                Driver::Absent
            }
        };
        let drivers = Drivers {
            hotplug: live(self.hotplug.transport.is_live()),
            balloon: live(self.balloon.transport.is_live()),
        };
        let can_cushion = drivers.hotplug == Driver::Live
            && self
                .balloon
                .transport
                .accepted(F_DEFLATE_ON_OOM | F_MUST_TELL_HOST);
        self.cushion.set_able(can_cushion);
        self.table.set_cushion(self.cushion.unpromised());
        let goal = Goal {
            target: self.target.max(self.minimum),
            maximum: self.maximum,
            cushion: self.cushion.wish(),
        };
        let wishes = self.follower.look(goal, &self.table, drivers, now_ms);
        if drivers.hotplug == Driver::Live {
            // A driver plugs all or nothing of what it is asked: no more than can be promised.
            let room = self.table.plugged() + self.table.plug_room(self.target);
            let wished = wishes.plugged_pieces.min(self.most_plugged());
            let wished = wished.min(room.max(self.table.plugged()));
            self.hotplug.request(wished);
            self.table.set_plug_wish(wished);
            if wishes.kick == Kick::Now {
                self.hotplug.kick();
            }
        }
        if drivers.balloon == Driver::Live {
            let is_whole = goal.cushion != Cushion::InUse;
            let answering = is_whole
                && (self.balloon.missing_pieces() > 0
                    || self.answering_target == Some(self.target));
            let least = if answering {
                self.balloon.wanted_pages()
            } else {
                0
            };
            self.balloon.want(wishes.balloon_pages.max(least));
        }
        self.lines();
        self.gic.flush(host);
    }

    /// Whether the guest has to wait: after a reset of its balloon driver all that was in the balloon is its own again, and
    /// is there before it goes on. On a signal of the memory server.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.balloon.is_emptying()
    }

    /// Pieces that its balloon driver waits for, or the guest itself, after a reset of that or at a touch.
    #[must_use]
    pub const fn missing_pieces(&self) -> u32 {
        self.balloon.missing_pieces() + self.refused_touch as u32
    }

    /// What is new about the guest's taking what it is offered.
    pub const fn take_news(&mut self) -> Option<News> {
        self.uptake.take_news()
    }

    /// Whether an interrupt waits for the guest.
    #[must_use]
    pub const fn has_interrupt(&self) -> bool {
        self.gic.has_work()
    }

    /// The interrupt line of a virtio device, for tests and the operator.
    #[must_use]
    pub fn line(&self, device: u32) -> Level {
        match device {
            0 => self.console.transport.line(),
            1 => self.agent.transport.line(),
            2 => self.balloon.transport.line(),
            _ => self.hotplug.transport.line(),
        }
    }

    /// Pages that the guest offered to the balloon without having them.
    #[must_use]
    pub const fn foreign_pages(&self) -> u64 {
        self.balloon.foreign_pages()
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
pub(crate) mod tests;
