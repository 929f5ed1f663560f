//! How fast memory moves.

/// KiB in a GiB.
const GIB: u64 = 1024 * 1024;

/// Speeds, in KiB a second, and whether guests report what they have free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanism {
    /// How fast one guest takes memory into use that it was given.
    pub grow_kib_s: u64,
    /// How fast one guest gives memory back.
    pub give_kib_s: u64,
    /// How fast one cleaner of the host cleans what came back, before it can be given again.
    pub clean_kib_s: u64,
    /// Whether free page reporting takes back what lies free.
    pub reporting: Reporting,
    /// Whether a guest can be given memory without a frame.
    pub plugging: Plugging,
}

/// How a guest comes to see more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugging {
    /// What is plugged is promised, and has no frame before the guest touches it. So it can be promised ahead of the need.
    Promised,
    /// What is deflated has a frame.
    Granted,
}

/// Free page reporting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporting {
    /// What lies free and beyond what the policy wants kept ready goes back, and stays promised.
    On,
    /// Not used.
    Off,
}

impl Mechanism {
    /// Ours: plugging and unplugging blocks of 2 MiB, and one thread that cleans. The speeds are what real guests reach in
    /// the scenarios with Linux (a burst is served at about 1 GiB a second; unplugging free blocks runs at twice that), the
    /// cleaner's is that of the simulator among the policy's own tests.
    pub const OURS: Self = Self {
        grow_kib_s: GIB,
        give_kib_s: 2 * GIB,
        clean_kib_s: GIB * 16 / 10,
        reporting: Reporting::On,
        plugging: Plugging::Promised,
    };

    /// A balloon of 4 KiB pages: 0.86 GiB/s to inflate, 0.69 GiB/s to deflate and touch (the HyperAlloc benchmark on a Xeon
    /// Gold 6252, 20 to 2 GiB, virtio-balloon). How fast the host cleans is the machine's matter: as under ours.
    pub const BALLOON: Self = Self {
        grow_kib_s: GIB * 69 / 100,
        give_kib_s: GIB * 86 / 100,
        clean_kib_s: Self::OURS.clean_kib_s,
        reporting: Reporting::Off,
        plugging: Plugging::Granted,
    };

    /// The same, so many times slower.
    #[must_use]
    pub const fn slower(self, times: u64) -> Self {
        Self {
            grow_kib_s: self.grow_kib_s / times,
            give_kib_s: self.give_kib_s / times,
            clean_kib_s: self.clean_kib_s / times,
            reporting: self.reporting,
            plugging: self.plugging,
        }
    }

    /// How fast a host with so many guests cleans: one cleaner for every 64 guests, since a machine for more has more cores.
    #[must_use]
    pub const fn host_clean_kib_s(&self, guests: usize) -> u64 {
        self.clean_kib_s * guests.div_ceil(64) as u64
    }
}

/// Turns a speed into whole pieces a tick, without losing the rest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// What is saved up, in KiB x 1000.
    saved: u64,
}

impl Flow {
    const PIECE: u64 = 2048 * 1000;

    /// Whole pieces that may move in a tick of `tick_ms`, `most` of which there is use for. What is not used is not saved,
    /// except for less than a piece.
    pub fn pieces(&mut self, kib_s: u64, tick_ms: u64, most: u32) -> u32 {
        self.saved += kib_s * tick_ms;
        let pieces = (self.saved / Self::PIECE).min(u64::from(most));
        self.saved = (self.saved - pieces * Self::PIECE).min(Self::PIECE - 1);
        pieces as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_neither_loses_nor_saves_up() {
        let mut flow = Flow::default();
        let second: u32 = (0..100).map(|_| flow.pieces(GIB, 10, 1000)).sum();
        assert!((511..=512).contains(&second), "{second}");
        for _ in 0..100 {
            flow.pieces(GIB, 10, 0);
        }
        assert!(flow.pieces(GIB, 10, 1000) <= 6);
    }
}
