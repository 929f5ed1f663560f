//! Where the root task's text goes: straight to the UART until the console server runs (and again when that has faulted),
//! to the console server afterwards, through a thread of its own that may wait for it.
//!
//! The root task's threads have different priorities on one core, so they share no lock that one could hold while another
//! spins: the queue of lines is lock-free, and the UART is only tried.

use cap::{Endpoint, Notification};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use heapless::mpmc::Queue;
use pl011::{Mmio, Pl011, RegisterBlock};
use protocol::console::{Reply, Request};
use protocol::units::Line;
use rt::log::Sink;
use spin::{Mutex, Once};

/// Where text goes at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// To a debug kernel, if it is one: the UART is not known yet.
    Kernel,
    /// To the UART.
    Uart,
    /// To the console server.
    Console,
}

static STAGE: AtomicU8 = AtomicU8::new(Stage::Kernel as u8);
static UART: Mutex<Option<Pl011<Mmio<'static>>>> = Mutex::new(None);
#[expect(
    deprecated,
    reason = "a preempted thread may make the queue look full or empty for a while: a line is then lost or late"
)]
static LINES: Queue<Line, 32> = Queue::new();
/// Slot of the speaker's notification; 0 while there is no speaker.
static SPEAKER: AtomicU64 = AtomicU64::new(0);
/// Slot of the speaker's endpoint to the console.
static CONSOLE: Once<u64> = Once::new();

/// The root task's sink.
pub struct RootSink;

/// The one instance.
pub static SINK: RootSink = RootSink;

fn stage(stage: Stage) {
    STAGE.store(stage as u8, Ordering::Release);
}

impl Sink for RootSink {
    fn say(&self, line: &Line) {
        match STAGE.load(Ordering::Acquire) {
            now if now == Stage::Console as u8 => {
                // A full queue means that nobody listens; the line is lost, the supervisor is not.
                let _ = LINES.enqueue(line.clone());
                Notification::new(SPEAKER.load(Ordering::Acquire)).signal();
            }
            now if now == Stage::Uart as u8 => to_uart(line),
            _ => {
                rt::root::debug_text("root task: ");
                rt::root::debug_text(line);
                rt::root::debug_text("\n");
            }
        }
    }

    fn log(&self, _: &[u8]) {}
}

fn to_uart(line: &str) {
    let Some(mut uart) = UART.try_lock() else {
        return;
    };
    if let Some(uart) = uart.as_mut() {
        for part in ["root task: ", line, "\r\n"] {
            let mut rest = part.as_bytes();
            while !rest.is_empty() {
                // Waits for the UART to take what it can; a byte takes below 0.1 ms at 115200 baud.
                let taken = uart.try_transmit(rest);
                rest = rest.get(taken..).unwrap_or_default();
            }
        }
    }
}

/// The UART is mapped: text goes there from now on.
pub fn use_uart() {
    if let Some(block) = rt::device::registers::<RegisterBlock>()
        && let Some(mut uart) = UART.try_lock()
    {
        *uart = Some(Pl011::adopt(Mmio::new(block)));
        stage(Stage::Uart);
    }
}

/// The console server runs and the speaker waits on `notification`: text goes to it through `console` from now on.
pub fn use_console(console: u64, notification: u64) {
    CONSOLE.call_once(|| console);
    SPEAKER.store(notification, Ordering::Release);
    stage(Stage::Console);
}

/// The console server has faulted: text goes to the UART again.
pub fn console_is_gone() {
    stage(Stage::Uart);
    while let Some(line) = LINES.dequeue() {
        to_uart(&line);
    }
}

/// The speaker thread: takes lines from the queue and calls the console server with each.
pub extern "C" fn speak() {
    loop {
        let notification = Notification::new(SPEAKER.load(Ordering::Acquire));
        if notification.wait().is_err() {
            return;
        }
        while let Some(line) = LINES.dequeue() {
            if let Some(console) = CONSOLE.get() {
                let _: Result<Reply, _> =
                    cap::call_value(Endpoint::new(*console), &Request::Say(line), None);
            }
        }
    }
}
