//! Whether the guest takes what it is offered.
//!
//! A virtio-mem driver that plugs memory says nothing of what its kernel does with it: without
//! `memhp_default_state=online_movable` (or the like) it lies there unused. So memory that was plugged counts as far as the
//! guest's own total moved with it. When that does not move, or the driver does not even plug, nothing more is offered;
//! what was plugged in vain is asked back; and after a while a little is offered again, for somebody may have mended it.

/// What was plugged and did not show in the guest's total for this long was not taken, in milliseconds: a kernel brings
/// 128 MiB online in some 50 ms of its own time.
const NOT_TAKEN_MS: u64 = 5000;
/// What was offered and not plugged for this long was not taken either; the driver is told again several times meanwhile.
const NOT_PLUGGED_MS: u64 = 10_000;
/// A driver plugs in steps of its own, up to 32 MiB with 16 KiB pages: what is offered beyond those is no offer.
const STEP_PIECES: u32 = 16;
/// Time until a guest that did not take what it was offered is offered a step again, in milliseconds; doubles up to
/// [`RETRY_MAX_MS`].
const RETRY_MIN_MS: u64 = 60_000;
/// Greatest such time.
const RETRY_MAX_MS: u64 = 3_600_000;
/// The page structures of plugged memory may lie in it (1/64 with 4 KiB pages): so much is not missed.
const STRUCTURES_PART: u64 = 32;
const PIECE_KIB: u64 = 2048;

/// What is new about the guest's taking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// So many MiB were plugged, and its total did not move.
    NotOnline(u32),
    /// So many MiB were offered, and its driver does not plug them.
    NotPlugged(u32),
    /// It takes what it is offered after all.
    Taking,
}

/// How much is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    /// What the target wants.
    All,
    /// No more than this many pieces plugged, until the time comes to try again.
    AtMost { pieces: u32, retry_ms: u64 },
    /// A step beyond what it took: if it takes that, all is well.
    Trial { pieces: u32, taken: u32 },
}

/// What is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taking {
    /// The guest's total without plugged memory, as it was last seen with none.
    base_kib: Option<u64>,
    /// Plugged memory that its total shows.
    shown_kib: u64,
    offer: Offer,
    /// The most that its total did not show since it last moved, and when that began.
    unshown: Option<u64>,
    /// What was plugged when that last changed or nothing was offered beyond it, and when.
    plugged: (u32, u64),
    back_off_ms: u64,
    news: Option<News>,
}

/// What the guest says of its memory, in KiB, at the moment that it says it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    /// Its total, with what is in the balloon where its driver takes that out of it.
    pub(super) total_kib: u64,
    /// What it has plugged.
    pub(super) plugged_kib: u64,
    /// What it started with.
    pub(super) startup_kib: u64,
}

impl Taking {
    pub(super) const fn new() -> Self {
        Self {
            base_kib: None,
            shown_kib: 0,
            offer: Offer::All,
            unshown: None,
            plugged: (0, 0),
            back_off_ms: RETRY_MIN_MS,
            news: None,
        }
    }

    /// A driver starts: what an earlier one did not take this one may.
    pub(super) const fn renew(&mut self, now_ms: u64) {
        self.offer = Offer::All;
        self.unshown = None;
        self.plugged.1 = now_ms;
        self.back_off_ms = RETRY_MIN_MS;
    }

    /// What of plugged memory counts as the guest's, in KiB.
    pub(super) fn taken_kib(&self, plugged_kib: u64) -> u64 {
        match self.base_kib {
            Some(_)
                if plugged_kib - self.shown_kib.min(plugged_kib)
                    > plugged_kib / STRUCTURES_PART =>
            {
                self.shown_kib.min(plugged_kib)
            }
            _ => plugged_kib,
        }
    }

    /// Takes what the guest says of its total.
    pub(super) fn observe(&mut self, now_ms: u64, said: Said) {
        let Said {
            total_kib,
            plugged_kib,
            startup_kib,
        } = said;
        if plugged_kib == 0 {
            self.base_kib = Some(total_kib);
        }
        // Where memory was plugged before the guest said anything: what its kernel keeps is less than half of startup.
        let base_kib =
            *self
                .base_kib
                .get_or_insert_with(|| match total_kib.checked_sub(plugged_kib) {
                    Some(base_kib) if base_kib >= startup_kib / 2 => base_kib,
                    _ => total_kib.min(startup_kib),
                });
        let before_kib = self.shown_kib;
        self.shown_kib = total_kib.saturating_sub(base_kib).min(plugged_kib);
        let taken_kib = self.taken_kib(plugged_kib);
        if taken_kib == plugged_kib {
            self.unshown = None;
            self.all_taken((plugged_kib / PIECE_KIB) as u32);
        } else if self.shown_kib > before_kib {
            self.unshown = Some(now_ms);
        } else {
            let since_ms = *self.unshown.get_or_insert(now_ms);
            if now_ms.saturating_sub(since_ms) >= NOT_TAKEN_MS && self.may_end() {
                let vain_kib = plugged_kib - taken_kib;
                self.end_offer(
                    now_ms,
                    (taken_kib / PIECE_KIB) as u32,
                    News::NotOnline((vain_kib / 1024) as u32),
                );
            }
        }
    }

    /// Takes what is offered and what is plugged of it.
    pub(super) fn watch(&mut self, now_ms: u64, requested: u32, plugged: u32) {
        let offered = requested.saturating_sub(plugged);
        if plugged != self.plugged.0 || offered < STEP_PIECES {
            self.plugged = (plugged, now_ms);
        } else if now_ms.saturating_sub(self.plugged.1) >= NOT_PLUGGED_MS && self.may_end() {
            self.end_offer(now_ms, plugged, News::NotPlugged(offered * 2));
        }
        if let Offer::AtMost { pieces, retry_ms } = self.offer
            && now_ms >= retry_ms
        {
            self.plugged.1 = now_ms;
            self.offer = Offer::Trial {
                pieces: pieces + STEP_PIECES,
                taken: pieces,
            };
        }
    }

    /// All that is plugged shows.
    fn all_taken(&mut self, plugged: u32) {
        let is_mended = match self.offer {
            Offer::All => return,
            // It only was slow.
            Offer::AtMost { pieces, .. } => plugged > pieces,
            Offer::Trial { taken, .. } => plugged > taken,
        };
        if is_mended {
            self.offer = Offer::All;
            self.back_off_ms = RETRY_MIN_MS;
            self.news = Some(News::Taking);
        }
    }

    const fn may_end(&self) -> bool {
        !matches!(self.offer, Offer::AtMost { .. })
    }

    fn end_offer(&mut self, now_ms: u64, pieces: u32, news: News) {
        // A trial that fails is no news.
        if self.offer == Offer::All {
            self.news = Some(news);
        }
        self.unshown = None;
        self.offer = Offer::AtMost {
            pieces,
            retry_ms: now_ms + self.back_off_ms,
        };
        self.back_off_ms = (self.back_off_ms * 2).min(RETRY_MAX_MS);
    }

    /// Most pieces to ask for.
    pub(super) const fn most_plugged(&self) -> u32 {
        match self.offer {
            Offer::All => u32::MAX,
            Offer::AtMost { pieces, .. } | Offer::Trial { pieces, .. } => pieces,
        }
    }

    /// Whether it takes what it is offered.
    pub(super) fn uptake(&self) -> protocol::balancer::Uptake {
        match self.offer {
            Offer::All => protocol::balancer::Uptake::Taken,
            Offer::AtMost { .. } | Offer::Trial { .. } => protocol::balancer::Uptake::NotTaken,
        }
    }

    /// What is new, once.
    pub(super) const fn take_news(&mut self) -> Option<News> {
        self.news.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::balancer::Uptake::{NotTaken, Taken};

    const STARTUP_KIB: u64 = 256 << 10;
    /// What such a guest's kernel calls its total.
    const BASE_KIB: u64 = 244 << 10;

    /// A guest: what it has plugged, and what of that it puts online.
    struct Guest {
        uptake: Taking,
        plugged: u32,
        online: u32,
        now_ms: u64,
    }

    impl Guest {
        fn new() -> Self {
            let mut guest = Self {
                uptake: Taking::new(),
                plugged: 0,
                online: 0,
                now_ms: 0,
            };
            guest.pass(1000);
            guest
        }

        /// Time passes, with statistics every 500 ms; the driver follows what is asked of it.
        fn pass(&mut self, ms: u64) {
            for _ in 0..ms / 500 {
                self.now_ms += 500;
                self.uptake.observe(
                    self.now_ms,
                    Said {
                        total_kib: BASE_KIB + u64::from(self.online.min(self.plugged)) * PIECE_KIB,
                        plugged_kib: u64::from(self.plugged) * PIECE_KIB,
                        startup_kib: STARTUP_KIB,
                    },
                );
                self.uptake.watch(self.now_ms, self.plugged, self.plugged);
                self.plugged = self.plugged.min(self.uptake.most_plugged());
            }
        }

        fn taken_mib(&self) -> u64 {
            self.uptake.taken_kib(u64::from(self.plugged) * PIECE_KIB) / 1024
        }
    }

    #[test]
    fn memory_that_is_put_online_counts_and_the_other_does_not() {
        for (online, counts_mib) in [(100, 200), (0, 0), (37, 74), (99, 200)] {
            let mut guest = Guest::new();
            guest.plugged = 100;
            guest.online = online;
            guest.pass(500);
            assert_eq!(guest.taken_mib(), counts_mib, "{online} of 100");
        }
    }

    #[test]
    fn what_is_never_put_online_is_asked_back_and_offering_stops() {
        let mut guest = Guest::new();
        guest.plugged = 100;
        guest.pass(5500);
        assert_eq!(guest.uptake.take_news(), Some(News::NotOnline(200)));
        assert_eq!((guest.plugged, guest.uptake.most_plugged()), (0, 0));
        assert_eq!(guest.uptake.uptake(), NotTaken);
        guest.pass(50_000);
        assert_eq!(guest.uptake.most_plugged(), 0);
        // After a minute a step is offered; it is not taken either.
        guest.pass(15_000);
        assert_eq!(guest.uptake.most_plugged(), STEP_PIECES);
        assert_eq!(guest.uptake.uptake(), NotTaken);
        guest.plugged = STEP_PIECES;
        guest.pass(6000);
        assert_eq!((guest.plugged, guest.uptake.most_plugged()), (0, 0));
        assert_eq!(guest.uptake.take_news(), None, "that is known");
        guest.pass(110_000);
        assert_eq!(guest.uptake.most_plugged(), 0, "two minutes this time");
        guest.pass(15_000);
        // Meanwhile somebody has told the kernel to put it online.
        guest.plugged = STEP_PIECES;
        guest.online = u32::MAX;
        guest.pass(500);
        assert_eq!(guest.uptake.take_news(), Some(News::Taking));
        assert_eq!(guest.uptake.most_plugged(), u32::MAX);
        assert_eq!(guest.uptake.uptake(), Taken);
    }

    #[test]
    fn a_part_that_is_online_stays() {
        let mut guest = Guest::new();
        guest.plugged = 64;
        guest.online = u32::MAX;
        guest.pass(500);
        guest.plugged = 164;
        guest.online = 64;
        guest.pass(6000);
        assert_eq!(guest.uptake.take_news(), Some(News::NotOnline(200)));
        assert_eq!((guest.plugged, guest.taken_mib()), (64, 128));
    }

    #[test]
    fn a_slow_guest_is_not_taken_for_one_that_does_not_take() {
        let mut guest = Guest::new();
        guest.plugged = 400;
        for _ in 0..100 {
            guest.online += 4;
            guest.pass(4500);
            assert_eq!(guest.uptake.take_news(), None);
        }
        assert_eq!(guest.taken_mib(), 800);
        // And one that was taken for it once is believed as soon as its total moves.
        let mut guest = Guest::new();
        guest.plugged = 100;
        guest.pass(5000);
        guest.plugged = 100;
        guest.online = 100;
        guest.pass(500);
        assert_eq!(guest.uptake.most_plugged(), u32::MAX);
    }

    #[test]
    fn a_driver_that_does_not_plug_is_noticed_and_its_step_is_no_refusal() {
        for (requested, plugged, noticed) in [(200, 0, true), (100, 84, true), (100, 90, false)] {
            let mut uptake = Taking::new();
            for now_ms in (0..20_000).step_by(500) {
                uptake.watch(now_ms, requested, plugged);
            }
            let offered = requested - plugged;
            let news = noticed.then_some(News::NotPlugged(offered * 2));
            assert_eq!(uptake.take_news(), news, "{requested} {plugged}");
            assert_eq!(uptake.most_plugged() == plugged, noticed);
        }
    }

    #[test]
    fn memory_plugged_before_the_first_word_is_judged_by_what_a_kernel_can_keep() {
        for (online_mib, counts_mib) in [(0, 0), (512, 512)] {
            let mut uptake = Taking::new();
            uptake.observe(
                0,
                Said {
                    total_kib: BASE_KIB + (online_mib << 10),
                    plugged_kib: 512 << 10,
                    startup_kib: STARTUP_KIB,
                },
            );
            assert_eq!(uptake.taken_kib(512 << 10) >> 10, counts_mib);
        }
    }
}
