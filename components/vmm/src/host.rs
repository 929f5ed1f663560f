//! What `vmm-core` needs from outside, by IPC and invocations.

use cap::{Arrived, CapRights, Endpoint, Error, Frame, VSpace, Vcpu, own_slot, vm_attributes};
use protocol::balancer::{self, NextReport, Report};
use protocol::console::{self, Chunk, Port};
use protocol::layout::GUEST_WINDOW_VADDR;
use protocol::memory::{self, Account, Purpose, Refusal, ReturnReason};
use protocol::slots;
use protocol::units::{PieceId, Pieces};
use rt::window::GUEST;
use vmm_core::gic::{ListBusy, Lists, VIRTUAL_TIMER};
use vmm_core::machine::Host;
use vmm_core::pieces::{Supply, Vanished};
use vmm_core::tail::Tail;

/// The outside.
#[derive(Debug)]
pub struct Outside {
    memory: Endpoint,
    console: Endpoint,
    balancer: Endpoint,
    guest_space: VSpace,
    own_space: VSpace,
    vcpu: Vcpu,
    /// Whether the guest has written on its console.
    pub console_opened: bool,
    /// The last that it wrote there.
    pub tail: Tail,
    /// Copies that ended early because the memory was taken by force.
    cut_copies: u32,
}

/// So many cut copies are said; a guest can cause more, and nobody learns anything from them.
const MOST_SAID: u32 = 4;

/// Slot of the capability by which the guest has its piece `index`; the next one is the window's.
const fn frame_slot(index: u32) -> u64 {
    slots::vmm::GUEST_FRAMES + 2 * index as u64
}

/// The frame capability by which piece `index` is mapped in the window.
pub const fn window_frame(index: u32) -> Frame {
    Frame::new(frame_slot(index) + 1)
}

impl Outside {
    /// The capabilities at their slots.
    pub const fn new() -> Self {
        Self {
            memory: Endpoint::new(slots::MEMORY),
            console: Endpoint::new(slots::CONSOLE),
            balancer: Endpoint::new(slots::BALANCER),
            guest_space: VSpace::new(slots::vmm::GUEST_VSPACE),
            own_space: VSpace::new(slots::VSPACE),
            vcpu: Vcpu::new(slots::vmm::VCPU),
            console_opened: false,
            tail: Tail::new(),
            cut_copies: 0,
        }
    }

    /// A copy from or to the guest's memory found none.
    fn cut(&mut self, ipa: u64) -> Vanished {
        self.cut_copies = self.cut_copies.saturating_add(1);
        if self.cut_copies <= MOST_SAID {
            rt::say(format_args!("memory at {ipa:#x} was taken under a copy"));
        }
        Vanished
    }

    fn ask(&self, request: memory::Request) -> Option<memory::Reply> {
        cap::call_value(self.memory, &request, None).ok()
    }
}

impl Lists for Outside {
    fn inject(
        &mut self,
        interrupt: u16,
        priority: u8,
        group: u8,
        list: u8,
    ) -> Result<(), ListBusy> {
        self.vcpu
            .inject_irq(interrupt, priority, group, list)
            .map_err(|_| ListBusy)
    }

    fn acknowledge_timer(&mut self) {
        // It can only fail for a number that is no virtual PPI.
        let _ = self.vcpu.ack_vppi(u64::from(VIRTUAL_TIMER));
    }
}

impl Supply for Outside {
    fn take(&mut self, index: u32, purpose: Purpose) -> Result<PieceId, Refusal> {
        let slot = frame_slot(index);
        cap::set_receive_slot(own_slot(slot));
        let answer = cap::call_value_receiving(self.memory, &memory::Request::Take(purpose), None);
        cap::clear_receive_slot();
        match answer {
            Ok((memory::Reply::Granted { piece }, Arrived::Capability)) => Ok(piece),
            Ok((memory::Reply::Granted { piece }, Arrived::Nothing)) => {
                // The slot was in use: nothing is gained by keeping the piece.
                let why = ReturnReason::Unplugged;
                self.ask(memory::Request::Return { piece, why });
                Err(Refusal::Kernel(Error::DeleteFirst.code()))
            }
            Ok((memory::Reply::Refused(refusal), _)) => Err(refusal),
            Ok(_) | Err(_) => Err(Refusal::Malformed),
        }
    }

    fn map(&mut self, index: u32, ipa: u64) -> Result<(), Vanished> {
        Frame::new(frame_slot(index))
            .map(
                self.guest_space,
                ipa,
                CapRights::READ_WRITE,
                vm_attributes::DEFAULT,
            )
            .map_err(|_| Vanished)
    }

    fn offer_first(&mut self, piece: PieceId) {
        self.ask(memory::Request::TakeFirst(piece));
    }

    fn give_back(&mut self, _: u32, piece: PieceId, why: ReturnReason) -> Result<(), Refusal> {
        // The server revokes the piece: both our capabilities and their mappings are gone when it answers.
        match self.ask(memory::Request::Return { piece, why }) {
            Some(memory::Reply::Done) => Ok(()),
            Some(memory::Reply::Refused(refusal)) => Err(refusal),
            Some(_) | None => Err(Refusal::Malformed),
        }
    }

    fn earmark(&mut self, pieces: Pieces) -> Result<(), Refusal> {
        match self.ask(memory::Request::Earmark(pieces)) {
            Some(memory::Reply::Done) => Ok(()),
            Some(memory::Reply::Refused(refusal)) => Err(refusal),
            Some(_) | None => Err(Refusal::Malformed),
        }
    }

    fn drop_earmark(&mut self, pieces: Pieces) {
        self.ask(memory::Request::DropEarmark(pieces));
    }

    fn open_window(&mut self, index: u32, ipa: u64) -> Result<(), Vanished> {
        let window = own_slot(frame_slot(index) + 1);
        own_slot(frame_slot(index))
            .copy_to(window, CapRights::READ_WRITE)
            .and_then(|()| {
                window_frame(index).map(
                    self.own_space,
                    GUEST_WINDOW_VADDR + ipa,
                    CapRights::READ_WRITE,
                    vm_attributes::DEFAULT | vm_attributes::EXECUTE_NEVER,
                )
            })
            .map_err(|_| Vanished)
    }

    fn copy_out(&mut self, ipa: u64, into: &mut [u8]) -> Result<(), Vanished> {
        GUEST.copy_out(ipa, into).map_err(|_| self.cut(ipa))
    }

    fn copy_in(&mut self, ipa: u64, from: &[u8]) -> Result<(), Vanished> {
        GUEST.copy_in(ipa, from).map_err(|_| self.cut(ipa))
    }
}

impl Host for Outside {
    fn console_write(&mut self, port: Port, bytes: &[u8]) -> usize {
        let mut taken = 0;
        self.console_opened |= port == Port::Console;
        for part in bytes.chunks(console::CHUNK_BYTES) {
            let Ok(chunk) = Chunk::from_slice(part) else {
                break;
            };
            let request = console::Request::Write { port, bytes: chunk };
            match cap::call_value(self.console, &request, None) {
                Ok(console::Reply::Taken(count)) => {
                    taken += usize::from(count).min(part.len());
                    if usize::from(count) < part.len() {
                        break;
                    }
                }
                Ok(_) | Err(_) => break,
            }
        }
        if port == Port::Console {
            self.tail.push(bytes.get(..taken).unwrap_or(bytes));
        }
        taken
    }

    fn report(&mut self, report: &Report) -> Option<NextReport> {
        let request = balancer::Request::Report(*report);
        match cap::call_value(self.balancer, &request, None) {
            Ok(balancer::Reply::NextReport(next)) => Some(next),
            Ok(_) | Err(_) => None,
        }
    }

    fn account(&mut self) -> Option<Account> {
        match self.ask(memory::Request::Mine)? {
            memory::Reply::Account(account) => Some(account),
            _ => None,
        }
    }

    fn next_revoked(&mut self) -> Option<PieceId> {
        match self.ask(memory::Request::NextRevoked)? {
            memory::Reply::Revoked(piece) => piece,
            _ => None,
        }
    }
}

impl Outside {
    /// Input that waits at the console server: the port and the bytes; `None` when there is none.
    pub fn console_read(&self) -> Option<(Port, Chunk)> {
        match cap::call_value(self.console, &console::Request::Read, None) {
            Ok(console::Reply::Input { port, bytes }) if !bytes.is_empty() => Some((port, bytes)),
            Ok(_) | Err(_) => None,
        }
    }

    /// The guest's vCPU.
    pub const fn vcpu(&self) -> Vcpu {
        self.vcpu
    }
}
