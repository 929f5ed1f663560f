//! The operator's requests: checked, forwarded to whose business they are, answered.

use protocol::management::{Answer, HostBody, VERSION};
use protocol::units::{GuestId, Line};
use protocol::{balancer, memory, supervisor};

/// The other components, as this server reaches them. Each call waits for the answer of a component that never waits for
/// this one; `None` when it does not answer with a value.
pub trait Services {
    /// Asks the balancer.
    fn balancer(&mut self, request: &balancer::Request) -> Option<balancer::Reply>;
    /// Asks the memory server.
    fn memory(&mut self, request: &memory::Request) -> Option<memory::Reply>;
    /// Asks the supervisor.
    fn supervisor(&mut self, request: &supervisor::Request) -> Option<supervisor::Reply>;
    /// Tells a guest's VMM that there is input, or room for output. Never waits.
    fn signal_vmm(&mut self, guest: GuestId);
    /// The counter CNTVCT and its frequency in Hz.
    fn clock(&mut self) -> Clock;
}

/// A reading of the machine's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Count since power-on.
    pub ticks: u64,
    /// Counts per second.
    pub frequency_hz: u64,
}

impl Clock {
    /// Milliseconds since power-on.
    #[must_use]
    pub const fn ms(self) -> u64 {
        let hz = if self.frequency_hz == 0 {
            1
        } else {
            self.frequency_hz
        };
        (self.ticks / hz) * 1000 + (self.ticks % hz) * 1000 / hz
    }
}

/// A count of the pool takes one step for each of at least 64 pieces; a pool has at most 2^14.
const COUNT_STEPS: usize = 256;

/// A line with as much of the text as fits.
pub fn line(text: core::fmt::Arguments<'_>) -> Line {
    struct Cut(Line);
    impl core::fmt::Write for Cut {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            for character in text.chars() {
                self.0.push(character).map_err(|_| core::fmt::Error)?;
            }
            Ok(())
        }
    }
    let mut cut = Cut(Line::new());
    let _ = core::fmt::Write::write_fmt(&mut cut, text);
    cut.0
}

fn refused(text: core::fmt::Arguments<'_>) -> Answer {
    Answer::Refused(line(text))
}

fn no_answer(who: &str) -> Answer {
    refused(format_args!("the {who} gave no answer that makes sense"))
}

/// Carries out a request that concerns the other components ([`HostBody::Input`] is the server's own affair).
pub fn forward(
    body: &HostBody,
    guests: &[protocol::units::Name],
    services: &mut impl Services,
) -> Answer {
    if let Some(guest) = guest_of(body)
        && usize::from(guest.0) >= guests.len()
    {
        return refused(format_args!(
            "there is no guest {}: the description has {}, numbered from 0",
            guest.0,
            guests.len()
        ));
    }
    match body {
        HostBody::Hello => {
            let clock = services.clock();
            Answer::Hello {
                version: VERSION,
                guests: guests.len() as u8,
                ticks: clock.ticks,
                frequency_hz: clock.frequency_hz,
            }
        }
        HostBody::Guest(guest) => guest_row(*guest, services),
        HostBody::Host => host_row(services),
        HostBody::Why(guest) => match services.balancer(&balancer::Request::Why(*guest)) {
            Some(balancer::Reply::Why(why)) => Answer::Why(why),
            other => from_balancer(other),
        },
        HostBody::Set { guest, change } => {
            from_balancer(services.balancer(&balancer::Request::Set {
                guest: *guest,
                change: *change,
            }))
        }
        HostBody::SetReserve(reserve) => {
            from_balancer(services.balancer(&balancer::Request::SetReserve(*reserve)))
        }
        HostBody::Start(guest) => {
            from_supervisor(services.supervisor(&supervisor::Request::Start(*guest)))
        }
        HostBody::Stop(guest) => {
            from_supervisor(services.supervisor(&supervisor::Request::Stop(*guest)))
        }
        HostBody::Pause(guest) => {
            from_supervisor(services.supervisor(&supervisor::Request::Pause(*guest)))
        }
        HostBody::Resume(guest) => {
            from_supervisor(services.supervisor(&supervisor::Request::Resume(*guest)))
        }
        HostBody::Costs => match services.supervisor(&supervisor::Request::Costs) {
            Some(supervisor::Reply::Costs {
                components_bytes,
                per_guest_bytes,
                pool,
            }) => Answer::Costs {
                components_bytes,
                per_guest_bytes,
                pool,
            },
            other => from_supervisor(other),
        },
        HostBody::Watch(watch) => {
            from_balancer(services.balancer(&balancer::Request::Watch(*watch)))
        }
        HostBody::Watched => match services.balancer(&balancer::Request::Watched) {
            Some(balancer::Reply::Watched(watched)) => Answer::Watched(watched),
            other => from_balancer(other),
        },
        HostBody::Input { .. } => no_answer("console"),
    }
}

/// The guest a request is about.
pub const fn guest_of(body: &HostBody) -> Option<GuestId> {
    match body {
        HostBody::Guest(guest)
        | HostBody::Why(guest)
        | HostBody::Start(guest)
        | HostBody::Stop(guest)
        | HostBody::Pause(guest)
        | HostBody::Resume(guest)
        | HostBody::Set { guest, .. }
        | HostBody::Input { guest, .. } => Some(*guest),
        HostBody::Watch(watch) => Some(watch.guest),
        HostBody::Hello
        | HostBody::Host
        | HostBody::SetReserve(_)
        | HostBody::Costs
        | HostBody::Watched => None,
    }
}

fn guest_row(guest: GuestId, services: &mut impl Services) -> Answer {
    // A guest that is not running has no row; that is no error.
    let row = match services.balancer(&balancer::Request::Row(guest)) {
        Some(balancer::Reply::Row(row)) => Some(row),
        _ => None,
    };
    match services.supervisor(&supervisor::Request::Guest(guest)) {
        Some(supervisor::Reply::Guest {
            name,
            state,
            starts,
            last_end,
            used_us,
            ..
        }) => Answer::Guest {
            name,
            state,
            starts,
            last_end,
            used_us,
            row,
            t_ms: services.clock().ms(),
        },
        other => from_supervisor(other),
    }
}

fn host_row(services: &mut impl Services) -> Answer {
    let row = match services.balancer(&balancer::Request::HostRow) {
        Some(balancer::Reply::HostRow(row)) => row,
        other => return from_balancer(other),
    };
    for _ in 0..COUNT_STEPS {
        match services.memory(&memory::Request::Count) {
            Some(memory::Reply::Counting { .. }) => {}
            Some(memory::Reply::Counted(counted)) => {
                return Answer::Host {
                    row,
                    counted,
                    t_ms: services.clock().ms(),
                };
            }
            Some(memory::Reply::Refused(why)) => {
                return refused(format_args!("memory server: {why:?}"));
            }
            _ => return no_answer("memory server"),
        }
    }
    refused(format_args!(
        "memory server: counting took more than {COUNT_STEPS} steps"
    ))
}

fn from_balancer(reply: Option<balancer::Reply>) -> Answer {
    match reply {
        Some(balancer::Reply::Done) => Answer::Done,
        Some(balancer::Reply::Refused(why)) => Answer::Refused(why),
        _ => no_answer("balancer"),
    }
}

fn from_supervisor(reply: Option<supervisor::Reply>) -> Answer {
    match reply {
        Some(supervisor::Reply::Done) => Answer::Done,
        Some(supervisor::Reply::Refused(why)) => Answer::Refused(why),
        _ => no_answer("supervisor"),
    }
}
