//! Who runs when: priority, budget and period of every thread of the system, in one table.
//!
//! From above: the supervisor and its watcher (they must be able to stop anybody), the timer (it wakes others in time), the
//! memory server, the balancer, the console, then VMMs and vCPUs as equals, and below them the memory server's cleaner while
//! nobody waits for it. A server is above its clients, so a call to it is never delayed by another client. A VMM is not above
//! vCPUs: what it does, it does for its own guest, and the other guests' vCPUs take turns with it. Its slice is as long as a
//! vCPU's, so a guest that makes its VMM work pays for that with its own turns.

/// A row: how important a thread is, and how much of the processor it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its priority.
    pub priority: u64,
    /// Microseconds of processor time in each period.
    pub budget_us: u64,
    /// Microseconds. The same as the budget: no limit, equals take turns of that length.
    pub period_us: u64,
}

/// Limited by priority alone, in turns of 10 ms with its equals.
const fn unlimited(priority: u64) -> Share {
    Share {
        priority,
        budget_us: 10_000,
        period_us: 10_000,
    }
}

/// In turns of 1 ms with its equals. A VMM that has something to tell its running guest waits for the end of such a turn, and a
/// guest uses memory up at 3 MiB a millisecond.
const fn guests_turn(priority: u64) -> Share {
    Share {
        priority,
        budget_us: 1_000,
        period_us: 1_000,
    }
}

/// The root task's thread that hears of faults, above all others.
pub const WATCHER: Share = unlimited(251);
/// The supervisor.
pub const SUPERVISOR: Share = unlimited(250);
/// The timer's alarm thread. It yields for ever, so its context must have a period in which it does not run; the timer sets another
/// one with the first alarm. What it overruns (on an emulator whose host is busy that can be milliseconds) is charged a period for
/// each budget's worth, so the budget is not small.
pub const ALARM: Share = Share {
    priority: 241,
    budget_us: 750_000,
    period_us: 1_000_000,
};
/// The timer.
pub const TIMER: Share = unlimited(240);
/// The memory server.
pub const MEMORY_SERVER: Share = unlimited(200);
/// The balancer.
pub const BALANCER: Share = unlimited(190);
/// The console. What guests write makes it work, above all of them: it has a fifth of the processor at most, which is about two
/// megabytes of output a second.
pub const CONSOLE: Share = Share {
    priority: 180,
    budget_us: 2_000,
    period_us: 10_000,
};
/// The root task's thread that passes on what its others say: below the console, to which it speaks.
pub const SPEAKER: Share = unlimited(170);
/// The memory server's cleaner while somebody waits for clean memory: above guests, below every server.
pub const CLEANER_HURRIED: Share = unlimited(120);
/// A VMM's thread that ends copies from memory that was taken away: above its main thread, which is in such a copy.
pub const VMM_FAULTS: Share = unlimited(101);
/// A VMM.
pub const VMM: Share = guests_turn(100);
/// A vCPU.
pub const VCPU: Share = guests_turn(100);
/// The memory server's cleaner when it may wait for everybody else.
pub const CLEANER: Share = unlimited(50);

/// All of them, from above.
pub const ALL: [(&str, Share); 13] = [
    ("watcher", WATCHER),
    ("supervisor", SUPERVISOR),
    ("alarm", ALARM),
    ("timer", TIMER),
    ("memory server", MEMORY_SERVER),
    ("balancer", BALANCER),
    ("console", CONSOLE),
    ("speaker", SPEAKER),
    ("hurried cleaner", CLEANER_HURRIED),
    ("VMM's faults", VMM_FAULTS),
    ("VMM", VMM),
    ("vCPU", VCPU),
    ("cleaner", CLEANER),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sound_and_from_above() {
        for (name, share) in ALL {
            assert!(share.priority <= 255, "{name}");
            let Share {
                budget_us,
                period_us,
                ..
            } = share;
            assert!(0 < budget_us && budget_us <= period_us, "{name}");
        }
        for pair in ALL.windows(2) {
            assert!(pair[0].1.priority >= pair[1].1.priority, "{pair:?}");
        }
        // A guest's VMM and its vCPU are equals, in turns of the same length.
        assert_eq!(VMM, VCPU);
    }
}
