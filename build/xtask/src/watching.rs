//! Looking at a scenario's machine from outside while it is played.

use operator::report::Check;
use qemu_machine::Probe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use system_tests::Watch;

/// Looks at running guests that there must have been: a scenario takes minutes.
const LEAST_LOOKS: u64 = 20;
/// How soon the thread hears that it is over.
const NAP: Duration = Duration::from_millis(50);

/// A thread that stops the machine now and then and looks at who maps what.
pub struct Watching {
    over: Arc<AtomicBool>,
    thread: JoinHandle<(Watch, anyhow::Result<()>)>,
}

impl Watching {
    /// Begins; the machine may just have been started. Between two looks at least `pause` passes, and as long as the first one
    /// took nine times: watching may not slow a machine down by more than a tenth.
    pub fn begin(probe: Probe, pause: Duration) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut watch = Watch::new(probe);
            loop {
                let began = Instant::now();
                if let Err(problem) = watch.look() {
                    return (watch, Err(problem));
                }
                let until = Instant::now() + pause.max(began.elapsed() * 9);
                while Instant::now() < until {
                    if ends.load(Ordering::SeqCst) {
                        return (watch, Ok(()));
                    }
                    std::thread::sleep(NAP);
                }
            }
        });
        Self { over, thread }
    }

    /// Ends with a last look.
    pub fn end(self) -> Check {
        self.over.store(true, Ordering::SeqCst);
        let seen = match self.thread.join() {
            Ok((mut watch, Ok(()))) => watch.look().map(|_| *watch.tally()),
            Ok((_, Err(problem))) => Err(problem),
            Err(_) => Err(anyhow::anyhow!("whoever looked died")),
        };
        let (ok, detail) = match seen {
            Ok(tally) => (tally.with_guests >= LEAST_LOOKS, tally.to_string()),
            Err(problem) => (false, format!("{problem:#}")),
        };
        Check {
            name: "no frame is mapped in two guests, and none that is free in any".to_owned(),
            ok,
            detail,
        }
    }
}
