//! The balancer's protocol: VMMs report, the balancer answers with when to report next.

use crate::memory::Bounds;
use crate::units::{GuestId, Line, Pieces};
use crate::watch::{Watch, Watched};
use serde::{Deserialize, Serialize};

/// What happens to a guest that ignores a reclaim past its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnRefusal {
    /// It is marked `Unresponsive`.
    #[default]
    Mark,
    /// Its surplus is revoked by force.
    Revoke,
}

/// A guest that reported is silent after this time without a fresh figure of its own, in milliseconds of the board's time: it
/// is asked at least every second, and one that runs at all answers within a few.
pub const SILENT_MS: u64 = 30_000;

/// What happens to a guest that fell silent: it gave no fresh figure for [`SILENT_MS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnSilence {
    /// It is named and left alone.
    #[default]
    Keep,
    /// It is started again.
    Restart,
    /// It is stopped.
    Stop,
}

/// Whether a guest's memory follows its demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mode {
    /// Startup is all it ever has.
    Static,
    /// Dynamic Memory.
    #[default]
    Dynamic,
}

/// A guest's settings; the book's page `system-description.md` has their bounds and defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Static or dynamic.
    pub mode: Mode,
    /// Minimum, startup, maximum.
    pub bounds: Bounds,
    /// Percent kept free or as file cache, 5..=95.
    pub buffer_percent: u8,
    /// Relative importance, 1..=10000.
    pub weight: u16,
    /// What follows a passed deadline.
    pub on_refusal: OnRefusal,
    /// Milliseconds a reclaim may take before its size is added (1 s per GiB asked); default 2000.
    pub deadline_ms: u32,
    /// What follows silence.
    pub on_silence: OnSilence,
}

/// What a VMM knows of its guest, in KiB where the guest counts pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// startup + plugged - ballooned, in KiB.
    pub visible_kib: u64,
    /// `available` from the balloon statistics, or `None` while the guest's driver has not reported.
    pub available_kib: Option<u64>,
    /// How old the guest's own figures are at the moment of this report, in milliseconds. Figures that the guest did not
    /// refresh for this report are no news.
    pub age_ms: u32,
    /// The most that the guest's mechanisms can bring it to, in KiB of visible memory; `None` when nothing but its
    /// maximum limits it.
    pub reach_kib: Option<u64>,
    /// Up to how much visible memory the guest may be promised ahead of its need, in KiB: what it has not touched takes no
    /// frame, and comes back without one being cleaned. 0: what it is promised costs what it costs others.
    pub ahead_kib: u64,
    /// Whether the guest takes what it is offered.
    pub uptake: Uptake,
    /// `free` from the statistics.
    pub free_kib: Option<u64>,
    /// Total memory by the guest's own count.
    pub total_kib: Option<u64>,
    /// Bytes of stranded pages: in the balloon, their piece not wholly.
    pub stranded_kib: u64,
    /// Plugged by virtio-mem, in KiB.
    pub plugged_kib: u64,
    /// In the balloon, in KiB.
    pub ballooned_kib: u64,
    /// Raw event counters of the guest, each wrapping, missing, or restarting at zero.
    pub counters: Counters,
    /// What a deflation or a touch waits for beyond what the guest has, in KiB.
    pub deflating_kib: u64,
    /// The guest's OOM notifier deflated the balloon, or a fault hit a reported frame, since the last report.
    pub urgent: Urgency,
}

/// Whether a guest takes the memory that it is offered, as its own total shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Uptake {
    /// It does, or nothing was offered.
    #[default]
    Taken,
    /// Memory was offered, and the guest's own total did not move with it.
    NotTaken,
}

/// Whether a report is one of the events on which memory must grow at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Urgency {
    /// A periodic report.
    #[default]
    Periodic,
    /// The guest asked for memory back.
    Event,
    /// The guest cannot run on: it touched memory that it may touch, and the memory server refuses to give more than the
    /// target. What it had reported free was taken by force.
    Starved,
}

/// Cumulative guest counters from virtio-balloon statistics (virtio 1.3, 5.5.6.3 and Linux 6.12's later tags).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes swapped in.
    pub swap_in_bytes: Option<u64>,
    /// Bytes swapped out.
    pub swap_out_bytes: Option<u64>,
    /// Major page faults.
    pub major_faults: Option<u64>,
    /// OOM kills.
    pub oom_kills: Option<u64>,
    /// Allocation stalls.
    pub alloc_stalls: Option<u64>,
    /// Pages scanned directly.
    pub direct_scans: Option<u64>,
}

/// What is asked of the balancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// From a VMM.
    Report(Report),
    /// From the supervisor: a guest starts.
    Started {
        /// Who.
        guest: GuestId,
        /// With what settings.
        settings: Settings,
    },
    /// From the supervisor: a guest ended.
    Stopped(GuestId),
    /// From the supervisor: is there room to start this guest? Reclaims from the others when there is not yet.
    MakeRoom {
        /// Who wants to start.
        guest: GuestId,
        /// Its bounds.
        bounds: Bounds,
    },
    /// From the supervisor or console: the guest is paused or runs again.
    Paused {
        /// Who.
        guest: GuestId,
        /// Whether it is.
        state: PauseState,
    },
    /// From the console: change a setting.
    Set {
        /// Whose.
        guest: GuestId,
        /// What.
        change: Change,
    },
    /// From the console: the host's reserve, in pieces.
    SetReserve(Pieces),
    /// From the console: one guest's row.
    Row(GuestId),
    /// From the console: the host's row.
    HostRow,
    /// From the console: why is this guest's target what it is?
    Why(GuestId),
    /// From the console: note when a guest has so much memory, by its own report. Ends an earlier watch.
    Watch(Watch),
    /// From the console: what has come of it.
    Watched,
}

/// Running or paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PauseState {
    /// Runs.
    Running,
    /// Paused: keeps its memory, is not `Unresponsive`.
    Paused,
}

/// One live change of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Static or dynamic.
    Mode(Mode),
    /// Minimum, in pieces.
    Minimum(Pieces),
    /// Startup, at the next start.
    Startup(Pieces),
    /// Maximum, in pieces.
    Maximum(Pieces),
    /// Buffer, percent.
    Buffer(u8),
    /// Weight.
    Weight(u16),
    /// On refusal.
    OnRefusal(OnRefusal),
    /// On silence.
    OnSilence(OnSilence),
}

/// The balancer's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Done,
    /// Answer to a report.
    NextReport(NextReport),
    /// Answer to `MakeRoom`: start it.
    Room,
    /// Answer to `MakeRoom`: others are giving back; ask again.
    Wait {
        /// Still missing.
        missing: Pieces,
    },
    /// Answer to `MakeRoom`: it cannot be started; the arithmetic.
    NoRoom {
        /// What it needs.
        needed: Pieces,
        /// What the others could still give without going below their floors.
        available: Pieces,
    },
    /// A row.
    Row(Row),
    /// The host's row.
    HostRow(HostRow),
    /// An explanation.
    Why(Line),
    /// What has come of the last watch; none was asked for.
    Watched(Option<Watched>),
    /// Refused, with the reason; nothing changed.
    Refused(Line),
}

/// What a VMM is told when it reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextReport {
    /// The next report is due in this many milliseconds at the latest.
    pub in_ms: u32,
    /// What the guest is to have ready even where it reports it free: its demand with its buffer. What it reports free
    /// beyond that goes back.
    pub keep: Pieces,
}

/// A guest's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Status {
    /// Pressure at most 100 - buffer.
    #[default]
    Ok,
    /// Above that, up to 100.
    Low,
    /// Above 100, or saturated.
    Warning,
    /// A reclaim passed its deadline.
    Unresponsive,
}

/// A flag beside the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Flag {
    /// None.
    #[default]
    None,
    /// Until its first report.
    Starting,
    /// No report within 60 s.
    NoDriver,
    /// Wants more than its maximum.
    AtMaximum,
    /// Paused.
    Paused,
    /// It reported before, and its figures are older than [`SILENT_MS`].
    Silent,
    /// It does not take the memory that it is offered.
    NotTaking,
}

/// What the balancer knows of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its settings.
    pub settings: Settings,
    /// Granted.
    pub assigned: Pieces,
    /// Target.
    pub target: Pieces,
    /// Reported free and taken back.
    pub reported: Pieces,
    /// MiB its OS believes it has.
    pub visible_mib: u32,
    /// MiB it needs.
    pub demand_mib: u32,
    /// MiB in the balloon.
    pub ballooned_mib: u32,
    /// MiB of that whose piece cannot come back yet.
    pub stranded_mib: u32,
    /// 100 x demand / assigned.
    pub pressure: u16,
    /// Status.
    pub status: Status,
    /// Flag.
    pub flag: Flag,
    /// OOM kills seen since the start.
    pub oom_kills: u32,
    /// How old the guest's own figures are, in milliseconds; saturates.
    pub age_ms: u32,
}

/// What the balancer knows of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRow {
    /// All pieces.
    pub total: Pieces,
    /// Clean and free.
    pub pool: Pieces,
    /// Kept out of the targets.
    pub reserve: Pieces,
    /// What targets may still grow by.
    pub headroom: Pieces,
    /// Being cleaned.
    pub cleaning: Pieces,
    /// Free, but promised to the guests that reported it free: they may touch it at any moment.
    pub reported: Pieces,
    /// Decisions taken since the start.
    pub rounds: u32,
}
