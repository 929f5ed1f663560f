//! Waits until a guest reports as much memory as the operator wants to see, and notes what happened in between.

use protocol::badge::Client;
use protocol::balancer::{Reply, Request};
use protocol::watch::{Counters, Instructions, Moment, Watch, Watched};

/// The machine's counters of instructions.
pub trait Counting {
    /// Starts them.
    fn start(&mut self);
    /// Reads them.
    fn read(&mut self) -> Instructions;
}

/// The operator's watch; there is at most one, the last one asked for.
pub struct Watcher<C> {
    counting: C,
    watched: Option<Watched>,
}

impl<C: Counting> Watcher<C> {
    /// Nothing is watched.
    pub const fn new(counting: C) -> Self {
        Self {
            counting,
            watched: None,
        }
    }

    /// Looks at a request before it is carried out. Answers those that concern the watch.
    pub fn look(&mut self, now_us: u64, client: Client, request: &Request) -> Option<Reply> {
        match (client, request) {
            (Client::Console, Request::Watch(watch)) => {
                if watch.counters == Counters::Exported {
                    self.counting.start();
                }
                let from = self.moment(now_us, watch);
                self.watched = Some(Watched {
                    watch: *watch,
                    from,
                    until: None,
                    now: from,
                });
                Some(Reply::Done)
            }
            (Client::Console, Request::Watched) => {
                let watched = self.watched.map(|watched| Watched {
                    now: self.moment(now_us, &watched.watch),
                    ..watched
                });
                Some(Reply::Watched(watched))
            }
            (Client::Vmm(guest), Request::Report(report)) => {
                let watched = self.watched?;
                let is_reached = guest == watched.watch.guest
                    && report.total_kib >= Some(watched.watch.total_kib);
                if watched.until.is_none() && is_reached {
                    self.watched = Some(Watched {
                        until: Some(self.moment(now_us, &watched.watch)),
                        ..watched
                    });
                }
                None
            }
            _ => None,
        }
    }

    fn moment(&mut self, us: u64, watch: &Watch) -> Moment {
        let instructions = match watch.counters {
            Counters::Absent => Instructions::default(),
            Counters::Exported => self.counting.read(),
        };
        Moment { us, instructions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::balancer::Report;
    use protocol::units::GuestId;

    /// Each reading is one more.
    #[derive(Default)]
    struct Fake {
        starts: u32,
        reads: u32,
    }

    impl Counting for Fake {
        fn start(&mut self) {
            self.starts += 1;
        }
        fn read(&mut self) -> Instructions {
            self.reads += 1;
            Instructions {
                el0: self.reads,
                ..Instructions::default()
            }
        }
    }

    fn watch(counters: Counters) -> Request {
        Request::Watch(Watch {
            guest: GuestId(1),
            total_kib: 1000,
            counters,
        })
    }

    fn report(total_kib: Option<u64>) -> Request {
        Request::Report(Report {
            total_kib,
            ..Report::default()
        })
    }

    fn watched(watcher: &mut Watcher<Fake>) -> Option<Watched> {
        match watcher.look(99, Client::Console, &Request::Watched) {
            Some(Reply::Watched(watched)) => watched,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_report_with_enough_ends_it() {
        let mut watcher = Watcher::new(Fake::default());
        assert_eq!(watched(&mut watcher), None);
        watcher.look(10, Client::Console, &watch(Counters::Exported));
        for (client, total) in [
            (Client::Vmm(GuestId(0)), Some(2000)),
            (Client::Vmm(GuestId(1)), Some(999)),
            (Client::Vmm(GuestId(1)), None),
        ] {
            assert_eq!(watcher.look(20, client, &report(total)), None);
            assert_eq!(watched(&mut watcher).unwrap().until, None);
        }
        let enough = report(Some(1000));
        for us in [30, 40] {
            assert_eq!(watcher.look(us, Client::Vmm(GuestId(1)), &enough), None);
        }
        let seen = watched(&mut watcher).unwrap();
        assert_eq!(
            (seen.from.us, seen.until.unwrap().us, seen.now.us),
            (10, 30, 99)
        );
        // One reading when it began, three by the looks in between, one at the report, one by this look.
        let reads = [seen.from, seen.until.unwrap(), seen.now].map(|m| m.instructions.el0);
        assert_eq!((reads, watcher.counting.starts), ([1, 5, 6], 1));
    }

    #[test]
    fn counters_that_are_not_there_are_not_touched() {
        let mut watcher = Watcher::new(Fake::default());
        watcher.look(1, Client::Console, &watch(Counters::Absent));
        watcher.look(2, Client::Vmm(GuestId(1)), &report(Some(5000)));
        assert_eq!(watched(&mut watcher).unwrap().until.unwrap().us, 2);
        assert_eq!((watcher.counting.starts, watcher.counting.reads), (0, 0));
    }

    #[test]
    fn only_the_operator_watches() {
        let mut watcher = Watcher::new(Fake::default());
        for client in [Client::Vmm(GuestId(1)), Client::Supervisor] {
            assert_eq!(watcher.look(1, client, &watch(Counters::Exported)), None);
            assert_eq!(watcher.look(1, client, &Request::Watched), None);
        }
        assert_eq!(watcher.counting.starts, 0);
    }

    #[test]
    fn counts_wrap() {
        let late = Instructions {
            el0: 5,
            ..Instructions::default()
        };
        let early = Instructions {
            el0: u32::MAX,
            ..Instructions::default()
        };
        assert_eq!(late.since(early).el0, 6);
    }
}
