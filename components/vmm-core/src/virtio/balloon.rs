//! virtio-balloon (virtio 1.3, 5.5): inflate, deflate, statistics, free page reporting.
//!
//! Offered: MUST_TELL_HOST (a page is used only after its deflation was answered, so that its piece is back first),
//! STATS_VQ, DEFLATE_ON_OOM, REPORTING. The reporting queue is 4 by the specification; drivers that number queues
//! without gaps (Linux before 6.11) use 3. Without FREE_PAGE_HINT queue 3 means nothing else, so both are served.

use super::queue::{Chain, Interrupt, QueueError, Violation};
use super::transport::{Event, Transport, config_bytes};
use crate::pieces::{Growth, State, Supply, Table, TouchError, View};
use crate::syndrome::Width;
use protocol::balancer::Counters;

/// Device type (5.5.1).
pub const DEVICE: u32 = 5;
/// VIRTIO_BALLOON_F_MUST_TELL_HOST.
pub const F_MUST_TELL_HOST: u64 = 1 << 0;
/// VIRTIO_BALLOON_F_STATS_VQ.
pub const F_STATS_VQ: u64 = 1 << 1;
/// VIRTIO_BALLOON_F_DEFLATE_ON_OOM.
pub const F_DEFLATE_ON_OOM: u64 = 1 << 2;
/// VIRTIO_BALLOON_F_PAGE_REPORTING.
pub const F_REPORTING: u64 = 1 << 5;

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const STATISTICS: usize = 2;
const REPORTING: [usize; 2] = [3, 4];
/// Page numbers read in one step.
const STEP_PAGES: usize = 64;
/// Bytes of a statistics buffer that are looked at: Linux 6.12 sends 16 entries of 10 bytes.
const STATISTICS_BYTES: usize = 640;
/// A page list as short as this is a page that the guest's kernel moves: it tells of the new place first. One page of 64 KiB.
const MOVED_BYTES: u64 = 16 * 4;
/// Longest page list in one buffer: Linux sends 256 numbers.
const LIST_BYTES: u64 = 256 * 1024;

/// What the guest told about itself, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Free memory.
    pub free: Option<u64>,
    /// Total memory.
    pub total: Option<u64>,
    /// Available memory.
    pub available: Option<u64>,
    /// Event counters.
    pub counters: Counters,
}

/// What happened that the balancer should hear of at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// Pages came out of the balloon that the device had not asked back, or wait for that: the guest's OOM notifier.
    pub unasked_deflation: bool,
    /// A deflation waits for memory.
    pub starved: bool,
    /// Fresh statistics arrived.
    pub statistics: bool,
    /// The balloon has come to be as large as was asked.
    pub filled: bool,
}

/// The device.
#[derive(Debug)]
pub struct Balloon {
    /// The registers.
    pub transport: Transport<5>,
    /// Pages the guest should put into the balloon.
    wanted_pages: u32,
    /// What the driver says is in it.
    actual_pages: u32,
    statistics: Statistics,
    /// Head of the statistics buffer that the device holds until it wants fresh ones.
    held: Option<u16>,
    /// Page lists that were done partly: bytes of the chain at the head of the deflate queue.
    deflated_bytes: u64,
    /// Pages that were offered without the guest having them.
    foreign_pages: u64,
    /// Pages inflated since the start.
    inflated_pages: u64,
    /// The driver reset the device and not all pieces are back yet.
    emptying: Emptying,
    /// Pieces that a deflation waits for.
    missing: u32,
    /// Whether the guest's OOM notifier waits for its answer until more memory has come by plugging.
    hold: Hold,
    /// The guest's kernel ran out of memory a short time ago: it deflates for that, asked or not.
    is_pressed: bool,
}

/// Whether a deflation that nobody asked for is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It is.
    No,
    /// It is not.
    Yes,
    /// It is not, and there is one.
    Holding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Emptying {
    Done,
    Waiting,
}

impl Balloon {
    /// After reset.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            transport: Transport::new(
                DEVICE,
                F_MUST_TELL_HOST | F_STATS_VQ | F_DEFLATE_ON_OOM | F_REPORTING,
            ),
            wanted_pages: 0,
            actual_pages: 0,
            statistics: Statistics {
                free: None,
                total: None,
                available: None,
                counters: Counters {
                    swap_in_bytes: None,
                    swap_out_bytes: None,
                    major_faults: None,
                    oom_kills: None,
                    alloc_stalls: None,
                    direct_scans: None,
                },
            },
            held: None,
            deflated_bytes: 0,
            foreign_pages: 0,
            inflated_pages: 0,
            emptying: Emptying::Done,
            missing: 0,
            hold: Hold::No,
            is_pressed: false,
        }
    }

    /// Pieces that a deflation waits for: until they are there its driver does nothing else, neither inflate.
    #[must_use]
    pub const fn missing_pieces(&self) -> u32 {
        self.missing
    }

    /// Says whether a deflation that nobody asked for is answered. Its memory is promised in any case; as long as it is not
    /// answered the process that ran out of memory waits, and the guest's hot-plug driver runs.
    pub const fn set_hold(&mut self, hold: Hold, is_pressed: bool) {
        self.hold = hold;
        self.is_pressed = is_pressed;
    }

    /// Whether a deflation is not answered because of [`Balloon::set_hold`].
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.hold == Hold::Holding
    }

    /// Whether the driver was reset and not all that was in the balloon is back: until it is, the guest does not go on.
    #[must_use]
    pub fn is_emptying(&self) -> bool {
        self.emptying == Emptying::Waiting
    }

    /// The latest statistics.
    #[must_use]
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Pages offered that the guest does not have.
    #[must_use]
    pub const fn foreign_pages(&self) -> u64 {
        self.foreign_pages
    }

    /// Pages asked for.
    #[must_use]
    pub const fn wanted_pages(&self) -> u32 {
        self.wanted_pages
    }

    /// Asks the guest for a balloon of this size.
    pub fn want(&mut self, pages: u32) {
        if self.wanted_pages != pages {
            self.wanted_pages = pages;
            self.transport.raise_config();
        }
    }

    /// Asks for the same once more.
    pub fn remind(&mut self) {
        self.transport.raise_config();
    }

    /// Reads configuration space (5.5.4): num_pages, actual, then hint command and poison value (not offered).
    #[must_use]
    pub fn config(&self, offset: u64, width: Width) -> u64 {
        let mut bytes = [0u8; 16];
        let (wanted, rest) = bytes.split_at_mut(4);
        wanted.copy_from_slice(&self.wanted_pages.to_le_bytes());
        if let Some(actual) = rest.get_mut(..4) {
            actual.copy_from_slice(&self.actual_pages.to_le_bytes());
        }
        config_bytes(&bytes, offset, width)
    }

    /// Acts on a register write.
    pub fn event<S: Supply>(
        &mut self,
        event: Event,
        table: &mut Table,
        supply: &mut S,
    ) -> Happened {
        let mut happened = Happened::default();
        match event {
            Event::Reset => {
                self.held = None;
                self.deflated_bytes = 0;
                self.actual_pages = 0;
                self.statistics = Statistics::default();
                self.missing = 0;
                // What a new driver is asked for is decided anew: the target rose to bring back what the old one had given.
                self.wanted_pages = 0;
                self.hold = Hold::No;
                if table.ballooned_pages() != 0 {
                    self.emptying = Emptying::Waiting;
                    happened = self.work(table, supply);
                    happened.starved |= self.missing > 0;
                }
            }
            Event::Notify(queue) => match queue as usize {
                INFLATE => {
                    let before = table.ballooned_pages();
                    let result = self.inflate(table, supply);
                    let wanted = self.wanted_pages;
                    happened.filled = before < wanted && table.ballooned_pages() >= wanted;
                    self.settle(result);
                }
                DEFLATE => happened = self.run_deflate(table, supply),
                STATISTICS => {
                    let result = self.take_statistics(table, supply);
                    happened.statistics = result == Ok(Fresh::Yes);
                    self.settle(result.map(|_| ()));
                }
                queue => {
                    let result = self.reports(queue, table, supply);
                    self.settle(result);
                }
            },
            Event::Ready => {
                // Linux offers the statistics buffer, and says so, before it sets DRIVER_OK: nobody could hear that.
                let result = self.take_statistics(table, supply);
                happened.statistics = result == Ok(Fresh::Yes);
                self.settle(result.map(|_| ()));
            }
            Event::Config { offset: 4, value } => self.actual_pages = value as u32,
            Event::None | Event::Config { .. } => {}
        }
        happened
    }

    /// Goes on with what had to wait for the memory server.
    pub fn work<S: Supply>(&mut self, table: &mut Table, supply: &mut S) -> Happened {
        if self.emptying == Emptying::Waiting {
            self.missing = table.empty_balloon(supply);
            if self.missing == 0 {
                self.emptying = Emptying::Done;
            }
        }
        let result = self.inflate(table, supply);
        self.settle(result);
        let happened = self.run_deflate(table, supply);
        for queue in REPORTING {
            let result = self.reports(queue, table, supply);
            self.settle(result);
        }
        happened
    }

    fn settle(&mut self, result: Result<(), QueueError>) {
        match result {
            Ok(()) | Err(QueueError::NotReady) => {}
            Err(QueueError::Broken(_)) => self.transport.fail(),
        }
    }

    fn inflate<S: Supply>(&mut self, table: &mut Table, supply: &mut S) -> Result<(), QueueError> {
        let mut wanted = Interrupt::Unwanted;
        while let Some(queue) = self.transport.queue(INFLATE) {
            let mut view = View { table, supply };
            let mut room = Chain::new();
            let Some(chain) = queue.peek(&mut view, &mut room)? else {
                break;
            };
            if chain.readable_bytes() > LIST_BYTES {
                return Err(QueueError::Broken(Violation::Content));
            }
            let mut at = 0;
            loop {
                let mut step = [0u8; 4 * STEP_PAGES];
                let mut view = View { table, supply };
                let bytes = chain.copy_out(&mut view, at, &mut step)?;
                at += bytes as u64;
                for page in page_numbers(&step, bytes) {
                    match view.table.inflate(page, view.supply) {
                        Ok(()) => self.inflated_pages += 1,
                        Err(_) => self.foreign_pages += 1,
                    }
                }
                if bytes < step.len() {
                    break;
                }
            }
            let mut view = View { table, supply };
            queue.advance();
            if queue.finish(&mut view, chain.head, 0)? == Interrupt::Wanted {
                wanted = Interrupt::Wanted;
            }
        }
        if wanted == Interrupt::Wanted {
            self.transport.raise_used();
        }
        Ok(())
    }

    fn run_deflate<S: Supply>(&mut self, table: &mut Table, supply: &mut S) -> Happened {
        let before = table.ballooned_pages();
        let mut unasked = Unasked::default();
        let result = self.deflate(table, supply, &mut unasked);
        let after = table.ballooned_pages().saturating_sub(unasked.waiting);
        let happened = Happened {
            unasked_deflation: unasked.lists > 0 && after < before && after < self.wanted_pages,
            starved: result == Err(QueueError::NotReady),
            ..Happened::default()
        };
        self.settle(result);
        happened
    }

    /// Serves the deflate queue.
    fn deflate<S: Supply>(
        &mut self,
        table: &mut Table,
        supply: &mut S,
        unasked: &mut Unasked,
    ) -> Result<(), QueueError> {
        let mut wanted = Interrupt::Unwanted;
        let mut starved = false;
        if self.emptying == Emptying::Done {
            self.missing = 0;
        }
        while let Some(queue) = self.transport.queue(DEFLATE) {
            let mut view = View { table, supply };
            let mut room = Chain::new();
            let Some(chain) = queue.peek(&mut view, &mut room)? else {
                break;
            };
            if chain.readable_bytes() > LIST_BYTES {
                return Err(QueueError::Broken(Violation::Content));
            }
            let pages = |bytes: u64| (bytes / 4).min(u64::from(u32::MAX)) as u32;
            let left = pages(chain.readable_bytes().saturating_sub(self.deflated_bytes));
            let is_moved = chain.readable_bytes() <= MOVED_BYTES;
            unasked.lists += u32::from(!is_moved);
            let is_less = table.ballooned_pages().saturating_sub(left) < self.wanted_pages;
            let growth = if is_less && !is_moved {
                Growth::Yes
            } else {
                Growth::No
            };
            'list: loop {
                let mut step = [0u8; 4 * STEP_PAGES];
                let mut view = View { table, supply };
                let bytes = chain.copy_out(&mut view, self.deflated_bytes, &mut step)?;
                for page in page_numbers(&step, bytes) {
                    if view.table.deflate(page, growth, view.supply) == Err(TouchError::NotReady) {
                        // What was done of this step is done; repeating it changes nothing.
                        starved = true;
                        self.missing = missing(view.table, page_numbers(&step, bytes));
                        break 'list;
                    }
                }
                self.deflated_bytes += bytes as u64;
                if bytes < step.len() {
                    break;
                }
            }
            if starved {
                unasked.waiting = pages(chain.readable_bytes().saturating_sub(self.deflated_bytes));
                break;
            }
            if (is_less || self.is_pressed) && !is_moved && self.hold != Hold::No {
                self.hold = Hold::Holding;
                break;
            }
            self.deflated_bytes = 0;
            let mut view = View { table, supply };
            queue.advance();
            if queue.finish(&mut view, chain.head, 0)? == Interrupt::Wanted {
                wanted = Interrupt::Wanted;
            }
        }
        if wanted == Interrupt::Wanted {
            self.transport.raise_used();
        }
        if starved {
            return Err(QueueError::NotReady);
        }
        Ok(())
    }

    fn reports<S: Supply>(
        &mut self,
        queue: usize,
        table: &mut Table,
        supply: &mut S,
    ) -> Result<(), QueueError> {
        if !self.transport.accepted(F_REPORTING) {
            return Ok(());
        }
        let mut wanted = Interrupt::Unwanted;
        while let Some(queue) = self.transport.queue(queue) {
            let mut view = View { table, supply };
            let mut room = Chain::new();
            let Some(chain) = queue.peek(&mut view, &mut room)? else {
                break;
            };
            for buffer in chain.writable() {
                view.table
                    .report_free(buffer.ipa, u64::from(buffer.len), view.supply);
            }
            queue.advance();
            if queue.finish(&mut view, chain.head, 0)? == Interrupt::Wanted {
                wanted = Interrupt::Wanted;
            }
        }
        if wanted == Interrupt::Wanted {
            self.transport.raise_used();
        }
        Ok(())
    }

    /// 5.5.6.3: the driver offers one buffer; the device keeps it until it wants fresh figures.
    fn take_statistics<S: Supply>(
        &mut self,
        table: &mut Table,
        supply: &mut S,
    ) -> Result<Fresh, QueueError> {
        let Some(queue) = self.transport.queue(STATISTICS) else {
            return Ok(Fresh::No);
        };
        let mut view = View { table, supply };
        let mut room = Chain::new();
        let Some(chain) = queue.peek(&mut view, &mut room)? else {
            return Ok(Fresh::No);
        };
        let mut raw = [0u8; STATISTICS_BYTES];
        let bytes = chain.copy_out(&mut view, 0, &mut raw)?;
        queue.advance();
        if let Some(old) = self.held.replace(chain.head) {
            // A second buffer: the driver may not offer one before the first came back; give the first back.
            let _ = queue.finish(&mut view, old, 0)?;
        }
        let fresh = parse_statistics(raw.get(..bytes).unwrap_or_default());
        // The first buffer after DRIVER_OK may be stale or empty; what it says is kept all the same.
        self.statistics = fresh;
        Ok(Fresh::Yes)
    }

    /// Asks for fresh statistics. Returns whether the driver was asked.
    pub fn ask_statistics<S: Supply>(&mut self, table: &mut Table, supply: &mut S) -> Asked {
        let Some(head) = self.held else {
            return Asked::No;
        };
        let Some(queue) = self.transport.queue(STATISTICS) else {
            return Asked::No;
        };
        let mut view = View { table, supply };
        match queue.finish(&mut view, head, 0) {
            Ok(interrupt) => {
                self.held = None;
                if interrupt == Interrupt::Wanted {
                    self.transport.raise_used();
                }
                Asked::Yes
            }
            Err(error) => {
                self.settle(Err(error));
                Asked::No
            }
        }
    }
}

impl Default for Balloon {
    fn default() -> Self {
        Self::new()
    }
}

/// What came out of the balloon, as far as it may be the guest's OOM notifier.
#[derive(Clone, Copy, Debug, Default)]
struct Unasked {
    /// Page lists that are no moved page.
    lists: u32,
    /// Pages of a list that cannot be answered yet.
    waiting: u32,
}

/// Whether the driver was asked for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It was.
    Yes,
    /// There is no driver, or it has not answered the last time.
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fresh {
    Yes,
    No,
}

/// The 32-bit page numbers in the first `bytes` of a step.
fn page_numbers(step: &[u8], bytes: usize) -> impl Iterator<Item = u64> {
    step.get(..bytes)
        .unwrap_or_default()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|raw| u64::from(u32::from_le_bytes(*raw)))
}

/// How many pieces would have to come back for these pages, counted anew at each change of piece.
fn missing(table: &Table, pages: impl Iterator<Item = u64>) -> u32 {
    let mut count = 0;
    let mut last = None;
    for index in pages.filter_map(|page| table.index_of(page.checked_mul(4096)?)) {
        if last != Some(index) && matches!(table.state(index), State::Ballooned | State::Unused) {
            count += 1;
        }
        last = Some(index);
    }
    count
}

/// Parses statistics: entries of tag (16 bits) and value (64 bits), little-endian, packed. Unknown tags are skipped.
#[must_use]
pub fn parse_statistics(raw: &[u8]) -> Statistics {
    let mut statistics = Statistics::default();
    for entry in raw.as_chunks::<10>().0 {
        let [t0, t1, value @ ..] = *entry;
        let value = Some(u64::from_le_bytes(value));
        let counters = &mut statistics.counters;
        match u16::from_le_bytes([t0, t1]) {
            0 => counters.swap_in_bytes = value,
            1 => counters.swap_out_bytes = value,
            2 => counters.major_faults = value,
            4 => statistics.free = value,
            5 => statistics.total = value,
            6 => statistics.available = value,
            10 => counters.oom_kills = value,
            11 => counters.alloc_stalls = value,
            13 => counters.direct_scans = value,
            _ => {}
        }
    }
    statistics
}

#[cfg(test)]
#[path = "balloon_tests.rs"]
mod tests;
