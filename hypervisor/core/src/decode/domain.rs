//! Scheduling domains (seL4 manual, section 6.3). This configuration has one domain and one schedule entry, so what can be
//! asked for is what is: everything else is refused.

use crate::arch::Arch;
use crate::cap::CapView;
use crate::decode::invocation::Invocation;
use crate::object::error::{Error, Outcome, Progress};
use crate::state::kernel::Kernel;
use sel4_sys::Invocation as Label;

/// Domains (KernelNumDomains).
pub const DOMAINS: u64 = 1;
/// Schedule entries (KernelNumDomainSchedules).
pub const SCHEDULES: u64 = 1;
/// Durations have 56 bits.
const DURATION_BITS: u32 = 56;

/// An invocation of the domain capability: Set (word domain; capability thread), ScheduleConfigure (index, domain, duration),
/// ScheduleSetStart (index).
///
/// # Errors
/// Those that the interface documents for each method.
pub fn decode<A: Arch>(k: &Kernel<A>, inv: &Invocation) -> Outcome {
    const SET: u64 = Label::DomainSetSet.word();
    const CONFIGURE: u64 = Label::DomainScheduleConfigure.word();
    const SET_START: u64 = Label::DomainScheduleSetStart.word();
    let below = |value: u64, limit: u64| {
        if value < limit {
            Ok(())
        } else {
            Err(Error::Range {
                min: 0,
                max: limit.saturating_sub(1),
            })
        }
    };
    match inv.label {
        SET => {
            inv.need_words(1)?;
            let domain = inv.word(k, 0);
            if domain >= DOMAINS {
                return Err(Error::InvalidArgument(0));
            }
            match inv.extra(0)?.cap.get().view() {
                CapView::Thread(tcb) => tcb.thread.domain.set(domain as u8),
                _ => return Err(Error::InvalidArgument(1)),
            }
        }
        CONFIGURE => {
            inv.need_words(3)?;
            let duration = inv.word(k, 2);
            below(inv.word(k, 0), SCHEDULES)?;
            below(inv.word(k, 1), DOMAINS)?;
            // The only entry is the starting one, which must not become an end marker.
            if duration == 0 || duration >> DURATION_BITS != 0 {
                return Err(Error::InvalidArgument(2));
            }
        }
        SET_START => {
            inv.need_words(1)?;
            // Behind the entries stands an end marker, at which nothing can start.
            below(inv.word(k, 0), SCHEDULES.saturating_add(1))?;
            if inv.word(k, 0) == SCHEDULES {
                return Err(Error::InvalidArgument(0));
            }
        }
        _ => return Err(Error::IllegalOperation),
    }
    Ok(Progress::Done)
}
