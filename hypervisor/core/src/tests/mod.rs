//! Tests of capability spaces, untyped memory, deletion and address spaces on the fake machine.

/// Cases of a property test that plays long sequences: few under Miri, and `KERNEL_SOAK` times as many for a long run.
fn cases(native: u32) -> u32 {
    if cfg!(miri) {
        return 2;
    }
    let soak = std::env::var("KERNEL_SOAK").ok();
    let times = soak.map_or(1, |times| times.parse().expect("KERNEL_SOAK is a number"));
    native * times
}

/// Steps of a long run: fewer under Miri, which takes some ten thousand times as long for each.
const fn steps(native: usize) -> usize {
    if cfg!(miri) { native / 10 } else { native }
}

mod budgets;
mod cancellation;
mod deletion;
mod derivation;
mod devices;
mod fastpath;
mod faults;
mod hostile;
mod lookup;
mod memory;
mod messages;
mod model;
mod random;
mod rest;
mod signals;
mod stage;
mod threads;
mod translation;
