//! The `defmt` logger: records go to the console server, or to a component's own sink.
//!
//! Each thread has its own encoder and buffer, found by its index, so that threads of one component that preempt each
//! other need no lock. A record that is too long for one message, or beyond the rate, is dropped and counted.

use crate::limit::Limit;
use crate::{MAX_THREADS, arch, time};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering};
use protocol::codec::LABEL_VALUE;
use protocol::console::{Chunk, Reply, Request};
use protocol::slots;
use protocol::startup::Role;
use protocol::units::Line;

/// Where a component that is its own console (or comes before it) puts text and records.
pub trait Sink: Sync {
    /// A line of text.
    fn say(&self, line: &Line);
    /// One encoded `defmt` record.
    fn log(&self, record: &[u8]);
}

/// How text and records leave the component.
#[derive(Clone, Copy)]
pub(crate) enum Route {
    /// Call the console: for VMMs, which the console never waits for.
    Call,
    /// Send to the console if it happens to listen: for servers.
    Try,
    /// The component's own.
    Own(&'static dyn Sink),
}

static OWN: spin::Once<&'static dyn Sink> = spin::Once::new();
static CALLS: spin::Once<()> = spin::Once::new();
static DROPPED: AtomicU32 = AtomicU32::new(0);

/// From now on text and records of this component go to `sink`. The first call counts.
pub fn set_sink(sink: &'static dyn Sink) {
    OWN.call_once(|| sink);
}

/// Records dropped since the start (wraps).
#[must_use]
pub fn dropped() -> u32 {
    DROPPED.load(Ordering::Relaxed)
}

pub(crate) fn route() -> Route {
    match OWN.get() {
        Some(sink) => Route::Own(*sink),
        None if CALLS.is_completed() => Route::Call,
        None => Route::Try,
    }
}

#[cfg_attr(not(target_os = "none"), allow(dead_code))]
pub(crate) fn route_for(role: &Role) {
    if matches!(role, Role::Vmm(_)) {
        CALLS.call_once(|| ());
    }
}

fn deliver(record: Chunk) {
    match route() {
        Route::Own(sink) => sink.log(&record),
        Route::Call => {
            let console = cap::Endpoint::new(slots::CONSOLE);
            let answer: Result<Reply, _> = cap::call_value(console, &Request::Log(record), None);
            if answer != Ok(Reply::Done) {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
        Route::Try => {
            if let Ok(words) = protocol::codec::encode(&Request::Log(record)) {
                // Whether the console listened is not known; a record that it missed is lost.
                let _ = cap::Endpoint::new(slots::CONSOLE).nb_send(&cap::Message {
                    label: LABEL_VALUE,
                    words: words.as_slice(),
                    caps: &[],
                });
            }
        }
    }
}

/// What a thread's record is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Writing,
    /// Too long, over the limit, or begun while another was being written.
    Dropping,
}

struct State {
    encoder: defmt::Encoder,
    record: Chunk,
    stage: Stage,
    limit: Limit,
}

impl State {
    const fn new() -> Self {
        Self {
            encoder: defmt::Encoder::new(),
            record: Chunk::new(),
            stage: Stage::Idle,
            limit: Limit::new(),
        }
    }

    fn put(record: &mut Chunk, stage: &mut Stage, bytes: &[u8]) {
        if *stage == Stage::Writing && record.extend_from_slice(bytes).is_err() {
            *stage = Stage::Dropping;
        }
    }

    fn begin(&mut self) {
        self.record.clear();
        self.stage = if self.limit.take(time::now_us()) {
            Stage::Writing
        } else {
            Stage::Dropping
        };
        let (record, stage) = (&mut self.record, &mut self.stage);
        self.encoder
            .start_frame(|bytes| Self::put(record, stage, bytes));
    }

    fn write(&mut self, bytes: &[u8]) {
        let (record, stage) = (&mut self.record, &mut self.stage);
        self.encoder
            .write(bytes, |bytes| Self::put(record, stage, bytes));
    }

    /// Ends the record; returns it unless it is to be dropped.
    fn end(&mut self) -> Option<Chunk> {
        let (record, stage) = (&mut self.record, &mut self.stage);
        self.encoder
            .end_frame(|bytes| Self::put(record, stage, bytes));
        let keep = self.stage == Stage::Writing;
        self.stage = Stage::Idle;
        if !keep {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        keep.then(|| core::mem::take(&mut self.record))
    }
}

struct Cell(UnsafeCell<State>);

// SAFETY: cell `n` is used by thread `n` alone: `with_state` picks the cell by the running thread's index, which the
// entry set once for each thread and which is unique within the component.
unsafe impl Sync for Cell {}

static STATES: [Cell; MAX_THREADS] = [const { Cell(UnsafeCell::new(State::new())) }; MAX_THREADS];

/// Runs `f` with the running thread's state; nothing for a thread beyond the table.
fn with_state<T>(f: impl FnOnce(&mut State) -> T) -> Option<T> {
    let cell = STATES.get(usize::try_from(arch::thread_index()).ok()?)?;
    // SAFETY: (1) only this thread uses the cell (see `Sync`); (2) the closures in this module call neither each other
    // nor the logger, so no second reference to the state exists meanwhile.
    Some(f(unsafe { &mut *cell.0.get() }))
}

#[defmt::global_logger]
struct Logger;

// SAFETY: `acquire` and `release` bracket one record of the running thread, whose state no other thread touches; a
// record that begins inside another (a `Format` that logs) is impossible, because `defmt` forbids logging there.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        with_state(State::begin);
    }

    unsafe fn flush() {}

    unsafe fn release() {
        if let Some(Some(record)) = with_state(State::end) {
            deliver(record);
        }
    }

    unsafe fn write(bytes: &[u8]) {
        with_state(|state| state.write(bytes));
    }
}

defmt::timestamp!("{=u64:us}", time::now_us());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_kept_whole_or_dropped() {
        let mut state = State::new();
        state.begin();
        state.write(&[1, 2, 3]);
        let record = state.end().unwrap();
        assert!(record.len() >= 4 && record.last() == Some(&0));

        let before = dropped();
        state.begin();
        for _ in 0..200 {
            state.write(&[7, 8, 9]);
        }
        assert!(state.end().is_none());
        assert_eq!(dropped(), before + 1);

        state.begin();
        state.write(&[4]);
        assert!(state.end().is_some(), "the next record is not affected");
    }

    /// The only test that uses the table: on a host all threads have the same index.
    #[test]
    fn a_record_is_made_piece_by_piece_in_the_threads_own_state() {
        with_state(State::begin).unwrap();
        with_state(|state| state.write(&[1, 2])).unwrap();
        with_state(|state| state.write(&[3])).unwrap();
        let record = with_state(State::end).flatten().unwrap();
        assert!(record.len() >= 4 && record.last() == Some(&0));
        assert!(with_state(|state| state.record.is_empty()).unwrap());
    }

    #[test]
    fn a_test_of_delivery_on_a_host_does_nothing() {
        deliver(Chunk::new());
        assert!(matches!(route(), Route::Try));
    }
}
