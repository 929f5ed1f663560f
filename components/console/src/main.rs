//! The serial and management server: the receive loop. The logic is in the library.
//!
//! The root task maps the UART's page and binds its interrupt to this thread's notification, badged
//! [`signal::IRQ`] (and [`signal::IS_SIGNAL`]).
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

use cap::{Endpoint, IrqHandler, Notification, Received, Reply};
use console::{Clock, Server, Services};
use pl011::{Listen, Mmio, Pl011, Received as Byte};
use protocol::badge::{Client, signal};
use protocol::console as wire;
use protocol::slots;
use protocol::startup::{Role, Startup};
use protocol::units::GuestId;
use protocol::{balancer, memory, supervisor};

rt::component!(serve);

/// The server holds the queues of all guests: too large for a stack.
static SERVER: spin::Mutex<Server> = spin::Mutex::new(Server::new());

/// Most bytes put into the UART before clients are served again: on an emulated UART the FIFO is never full.
const BURST_BYTES: usize = 1024;

type Uart = Pl011<Mmio<'static>>;

/// The other components, through their endpoints.
struct Components;

impl Services for Components {
    fn balancer(&mut self, request: &balancer::Request) -> Option<balancer::Reply> {
        cap::call_value(Endpoint::new(slots::BALANCER), request, None).ok()
    }

    fn memory(&mut self, request: &memory::Request) -> Option<memory::Reply> {
        cap::call_value(Endpoint::new(slots::MEMORY), request, None).ok()
    }

    fn supervisor(&mut self, request: &supervisor::Request) -> Option<supervisor::Reply> {
        cap::call_value(Endpoint::new(slots::SUPERVISOR), request, None).ok()
    }

    fn signal_vmm(&mut self, guest: GuestId) {
        Notification::new(slots::console::VMM_SIGNALS + u64::from(guest.0)).signal();
    }

    fn clock(&mut self) -> Clock {
        Clock {
            ticks: rt::ticks(),
            frequency_hz: rt::frequency_hz(),
        }
    }
}

/// Moves what is to be sent into the UART, and asks for an interrupt when some is left.
fn transmit(server: &mut Server, uart: &mut Uart, listening: &mut Listen) {
    let mut left = BURST_BYTES;
    let mut wanted = Listen::Receive;
    loop {
        let pending = server.pending(&mut Components);
        if pending.is_empty() {
            break;
        }
        if left == 0 {
            wanted = Listen::ReceiveAndTransmit;
            break;
        }
        let part = pending.get(..left).unwrap_or(pending);
        let sent = uart.try_transmit(part);
        server.sent(sent);
        left -= sent;
        if sent == 0 {
            wanted = Listen::ReceiveAndTransmit;
            break;
        }
    }
    if *listening != wanted {
        *listening = wanted;
        uart.listen(wanted);
    }
}

fn receive(server: &mut Server, uart: &mut Uart) {
    uart.clear_interrupts();
    while let Some(received) = uart.try_receive() {
        // A damaged or lost byte makes a frame's checksum wrong; the host sends it again.
        if let Byte::Byte(byte) | Byte::ByteAfterOverrun(byte) = received {
            server.receive(byte, &mut Components);
        }
    }
}

fn handle(server: &mut Server, message: &Received) -> wire::Reply {
    match (Client::from_badge(message.badge), message.decode()) {
        (Some(client), Ok(request)) => server.serve(client, request),
        (None, _) | (_, Err(_)) => wire::Reply::Refused,
    }
}

fn serve(startup: Startup) {
    let Role::Console { guests } = startup.role else {
        rt::fail("the startup page is not the console's");
    };
    let Some(registers) = rt::device::registers() else {
        rt::fail("the UART is taken");
    };
    let Some(mut server) = SERVER.try_lock() else {
        rt::fail("a second thread runs the server");
    };
    let mut uart = Pl011::adopt(Mmio::new(registers));
    let mut listening = Listen::Receive;
    uart.listen(listening);
    server.begin(guests);

    let interrupt = IrqHandler::new(slots::console::IRQ);
    let endpoint = Endpoint::new(slots::ENDPOINT);
    let reply = Reply::new(slots::REPLY);
    // What came in while nobody listened has raised its interrupt already, or none will come for it.
    receive(&mut server, &mut uart);
    transmit(&mut server, &mut uart, &mut listening);
    if interrupt.ack().is_err() {
        rt::fail("the UART's interrupt is not there");
    }
    let mut received = endpoint.recv(reply);
    while let Ok(message) = received {
        let answer = if message.badge & signal::IS_SIGNAL == 0 {
            Some(handle(&mut server, &message))
        } else {
            receive(&mut server, &mut uart);
            None
        };
        transmit(&mut server, &mut uart, &mut listening);
        received = match answer {
            Some(answer) => endpoint.reply_recv_value(&answer, None, reply),
            None => {
                // After the FIFOs were looked at: a level that is still high raises it again at once.
                let _ = interrupt.ack();
                endpoint.recv(reply)
            }
        };
    }
}
