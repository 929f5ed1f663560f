//! The descriptions of the hosts that are measured.

use super::mix::Mix;
use std::fmt::Write as _;

/// What a guest has that can want for nothing, in MiB: twice its peak and more.
const fn ample_mib(mix: &Mix) -> u64 {
    2 * mix.peak_mib + 256
}

/// A static guest that has memory to spare, and then one of each size.
pub fn fixed(mix: &Mix, sizes: &[(u64, u64)]) -> String {
    let mut all = vec![(0, ample_mib(mix))];
    all.extend_from_slice(sizes);
    let pool_mib: u64 = all.iter().map(|(_, size_mib)| size_mib).sum();
    let mut text = head("static", pool_mib + 2, 2);
    for (count, size_mib) in all {
        let _ = write!(
            text,
            "\n[[guest]]\nname = \"{}\"\nkernel = \"debian\"\nstartup = \"{size_mib}MiB\"\ndynamic = false\n",
            name(count)
        );
    }
    text
}

/// So many guests that share the pool.
pub fn dynamic(mix: &Mix, count: u64) -> String {
    let mut text = head("dynamic", mix.pool_mib, mix.reserve_mib);
    let guest = &mix.guest;
    for number in 1..=count {
        let _ = write!(
            text,
            "\n[[guest]]\nname = \"{}\"\nkernel = \"debian\"\nminimum = \"{}MiB\"\nstartup = \"{}MiB\"\nmaximum = \"{}MiB\"\n",
            name(number),
            guest.minimum_mib,
            guest.startup_mib,
            guest.maximum_mib
        );
    }
    text
}

fn head(kind: &str, pool_mib: u64, reserve_mib: u64) -> String {
    format!(
        "[system]\nname = \"density-{kind}\"\npool = \"{pool_mib}MiB\"\nreserve = \"{reserve_mib}MiB\"\n"
    )
}

fn name(number: u64) -> String {
    format!("guest-{number}")
}
