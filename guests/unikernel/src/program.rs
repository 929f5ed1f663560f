//! What the unikernel does from its first Rust function on. How it misbehaves is in [`crate::hostile`].

use crate::hostile::Hostile;
use crate::machine::{self, mmio_read, mmio_write, peek, poke, ticks, ticks_per_ms, wait_until};
use crate::queue::{BUFFER_BYTES, QUEUE_BYTES, Queue, To, acknowledge, negotiate, ready};
use core::cell::Cell;
use core::fmt::{self, Write};
use unikernel::command::{Command, CommandError, LINE_BYTES, parse, split_tag};
use unikernel::memory::{Content, MAX_PIECES, Memory, pattern};
use unikernel::{PIECE_BYTES, RAM, RINGS, tree};

pub(crate) const CONSOLE: u64 = 0x0a00_0000;
const AGENT: u64 = CONSOLE + 0x200;
pub(crate) const BALLOON: u64 = CONSOLE + 0x400;
pub(crate) const HOTPLUG: u64 = CONSOLE + 0x600;
pub(crate) const GICD: u64 = 0x0800_0000;
const GICC: u64 = 0x0801_0000;
const GICR: u64 = 0x080a_0000;
/// The devices' interrupts: INTID 48 to 51.
const DEVICE_INTERRUPTS: u32 = 0xf << 16;
/// Longest sleep, in milliseconds: nothing depends on it.
const SLEEP_MS: u64 = 1000;
const WORDS: u64 = PIECE_BYTES / 8;
const PAGES: u32 = 512;

const F_MUST_TELL_HOST: u64 = 1;
const F_STATS: u64 = 2;
const F_DEFLATE_ON_OOM: u64 = 4;
const F_REPORTING: u64 = 32;

/// Whether the balloon is heeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obedience {
    Heeds,
    Refuses,
}

/// Whether the guest is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    Speaks,
    Hushed,
}

/// What the host is told of free memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figures {
    True,
    /// All memory is free.
    Idle,
}

/// A serial port on virtio-console.
pub(crate) struct Port {
    receive: Queue,
    transmit: Queue,
    device: u64,
}

impl Port {
    pub(crate) fn new(device: u64, rings: u64) -> Option<Self> {
        negotiate(device, 3, 0)?;
        let mut port = Self {
            receive: Queue::new(device, 0, rings),
            transmit: Queue::new(device, 1, rings + QUEUE_BYTES),
            device,
        };
        ready(device);
        port.offer();
        Some(port)
    }

    fn offer(&mut self) {
        let buffer = self.receive.buffer(0);
        self.receive
            .offer(0, buffer, BUFFER_BYTES as u32, To::Driver);
    }

    /// Writes text; waits until the device has taken it.
    pub(crate) fn write(&mut self, text: &str) {
        for part in text.as_bytes().chunks(BUFFER_BYTES as usize) {
            let buffer = self.transmit.buffer(0);
            for (index, chunk) in part.chunks(8).enumerate() {
                let mut word = [0; 8];
                for (to, from) in word.iter_mut().zip(chunk) {
                    *to = *from;
                }
                poke(buffer + 8 * index as u64, u64::from_le_bytes(word));
            }
            self.transmit
                .offer(0, buffer, part.len() as u32, To::Device);
            while self.transmit.take().is_none() {
                wait_until(ticks() + ticks_per_ms());
                acknowledge(self.device);
            }
        }
    }

    /// Hands each received byte to `each`.
    fn read(&mut self, mut each: impl FnMut(u8)) {
        while let Some((slot, bytes)) = self.receive.take() {
            let buffer = self.receive.buffer(slot);
            for at in 0..u64::from(bytes).min(BUFFER_BYTES) {
                each((peek(buffer + at / 8 * 8) >> (8 * (at % 8))) as u8);
            }
            self.offer();
        }
    }
}

pub(crate) struct Balloon {
    pub(crate) inflate: Queue,
    pub(crate) deflate: Queue,
    statistics: Queue,
    reporting: Queue,
    pub(crate) obedience: Obedience,
}

pub(crate) struct Program {
    pub(crate) memory: Memory,
    seed: u64,
    generation: u64,
    pub(crate) balloon: Option<Balloon>,
    pub(crate) figures: Figures,
    voice: Voice,
    /// Changes of the balloon's configuration that the host announced.
    pub(crate) asked: Cell<u32>,
    is_v3: bool,
    pub(crate) pieces: u32,
}

/// Why the set is smaller than asked.
enum NotTouched {
    NoMemory,
    /// Memory that the host gave held something: the piece and the byte in it.
    NotZero(usize, u64),
}

pub(crate) const fn piece_address(index: usize) -> u64 {
    RAM + index as u64 * PIECE_BYTES
}

impl Program {
    fn interrupts_on(&self) {
        mmio_write(GICD, 3);
        mmio_write(GICD + 0x104, DEVICE_INTERRUPTS);
        if self.is_v3 {
            mmio_write(GICR + 0x14, 0);
            machine::gicv3_enable();
        } else {
            mmio_write(GICC + 4, 0xff);
            mmio_write(GICC, 1);
        }
    }

    /// Sleeps until a device wants something, or a millisecond count passed.
    fn sleep(&self, ms: u64) {
        wait_until(ticks() + ms * ticks_per_ms());
        for device in [CONSOLE, AGENT] {
            acknowledge(device);
        }
        // Bit 1 is a change of the configuration.
        if acknowledge(BALLOON) & 2 != 0 {
            self.asked.set(self.asked.get() + 1);
        }
        // As many as there are devices, and a spurious one.
        for _ in 0..8 {
            let interrupt = if self.is_v3 {
                machine::gicv3_take()
            } else {
                let interrupt = mmio_read(GICC + 0xc);
                if interrupt & 0x3ff < 1020 {
                    mmio_write(GICC + 0x10, interrupt);
                }
                interrupt & 0x3ff
            };
            if interrupt >= 1020 {
                return;
            }
        }
    }

    /// Gives the host fresh statistics when it asked.
    fn answer_statistics(&mut self) {
        let total = u64::from(self.pieces - self.memory.ballooned()) * PIECE_BYTES;
        let free = match self.figures {
            Figures::True => u64::from(self.memory.free()) * PIECE_BYTES,
            Figures::Idle => total,
        };
        if let Some(balloon) = &mut self.balloon
            && balloon.statistics.take().is_some()
        {
            offer_statistics(&mut balloon.statistics, free, total);
        }
    }

    /// Serves the balloon: statistics and its wanted size.
    fn service(&mut self) {
        if self.voice == Voice::Hushed {
            return;
        }
        self.answer_statistics();
        match &self.balloon {
            Some(balloon) if balloon.obedience == Obedience::Heeds => {}
            _ => return,
        }
        let wanted = mmio_read(BALLOON + 0x100) / PAGES;
        let before = self.memory.ballooned();
        // At most every piece once.
        for _ in 0..MAX_PIECES {
            let ballooned = self.memory.ballooned();
            if ballooned < wanted {
                let Some(index) = self.memory.inflate() else {
                    break;
                };
                self.send_pages(index, |balloon| &mut balloon.inflate);
            } else if ballooned > wanted {
                if !self.deflate() {
                    break;
                }
            } else {
                break;
            }
        }
        if self.memory.ballooned() != before {
            mmio_write(BALLOON + 0x104, self.memory.ballooned() * PAGES);
        }
    }

    /// Sends the page numbers of a piece on one of the balloon's queues and waits for the answers.
    pub(crate) fn send_pages(&mut self, index: usize, queue: impl Fn(&mut Balloon) -> &mut Queue) {
        self.send_some(index, u64::from(PAGES), queue);
    }

    /// The same for the first pages of a piece; an even number.
    pub(crate) fn send_some(
        &mut self,
        index: usize,
        pages: u64,
        queue: impl Fn(&mut Balloon) -> &mut Queue,
    ) {
        let first = piece_address(index) / 4096;
        let per_list = BUFFER_BYTES / 4;
        let mut at = 0;
        while at < pages {
            let Some(balloon) = &mut self.balloon else {
                return;
            };
            let lists = queue(balloon);
            let count = per_list.min(pages - at);
            let buffer = lists.buffer(0);
            for pair in 0..count / 2 {
                let page = first + at + 2 * pair;
                poke(buffer + 8 * pair, page | (page + 1) << 32);
            }
            lists.offer(0, buffer, 4 * count as u32, To::Device);
            loop {
                let Some(balloon) = &mut self.balloon else {
                    return;
                };
                if queue(balloon).take().is_some() {
                    break;
                }
                // A deflation may wait for memory, and the host may want statistics first.
                self.answer_statistics();
                self.sleep(SLEEP_MS);
            }
            at += count;
        }
    }

    /// Takes one piece out of the balloon. Returns whether there was one.
    pub(crate) fn deflate(&mut self) -> bool {
        let Some(index) = self.memory.next_deflation() else {
            return false;
        };
        self.send_pages(index, |balloon| &mut balloon.deflate);
        self.memory.deflated(index);
        true
    }

    /// Makes the set `bytes` large.
    fn touch(&mut self, bytes: u64, ramp_ms: u64) -> Result<(), NotTouched> {
        let wanted = bytes.div_ceil(PIECE_BYTES);
        while u64::from(self.memory.filled()) > wanted {
            self.memory.release();
        }
        let (start, before) = (ticks(), u64::from(self.memory.filled()));
        let steps = wanted.saturating_sub(before).max(1);
        while u64::from(self.memory.filled()) < wanted {
            let done = u64::from(self.memory.filled()) - before;
            let due = start + (ramp_ms * ticks_per_ms()) / steps * done;
            while ticks() < due {
                self.service();
                wait_until(due);
                self.sleep(0);
            }
            self.service();
            if self.memory.free() == 0 && !self.deflate() {
                return Err(NotTouched::NoMemory);
            }
            let position = u64::from(self.memory.filled());
            let Some((index, content)) = self.memory.fill() else {
                return Err(NotTouched::NoMemory);
            };
            let address = piece_address(index);
            for word in 0..WORDS {
                if content == Content::Fresh && peek(address + 8 * word) != 0 {
                    return Err(NotTouched::NotZero(index, 8 * word));
                }
                let value = pattern(self.seed, self.generation, position * WORDS + word);
                poke(address + 8 * word, value);
            }
        }
        Ok(())
    }

    /// The first place that does not hold what was written.
    fn verify(&mut self) -> Result<(), u64> {
        for position in 0..self.memory.filled() {
            self.service();
            let Some(index) = self.memory.at(position as u16) else {
                return Err(u64::from(position) * PIECE_BYTES);
            };
            let address = piece_address(index);
            for word in 0..WORDS {
                let place = u64::from(position) * WORDS + word;
                if peek(address + 8 * word) != pattern(self.seed, self.generation, place) {
                    return Err(8 * place);
                }
            }
        }
        Ok(())
    }

    fn report_free(&mut self) -> u32 {
        let mut reported = 0;
        for index in 0..MAX_PIECES {
            if !self.memory.free_pieces().any(|free| free == index) {
                continue;
            }
            let Some(balloon) = &mut self.balloon else {
                break;
            };
            let queue = &mut balloon.reporting;
            queue.offer(0, piece_address(index), PIECE_BYTES as u32, To::Driver);
            while queue.take().is_none() {
                wait_until(ticks() + ticks_per_ms());
                acknowledge(BALLOON);
            }
            reported += 1;
        }
        reported
    }

    /// Does a command and writes the answer.
    #[expect(clippy::too_many_lines, reason = "one arm for each command")]
    fn run(&mut self, command: Command, answer: &mut impl Write) -> Result<(), fmt::Error> {
        let filled = |program: &Self| u64::from(program.memory.filled()) * PIECE_BYTES;
        match command {
            Command::Hello => write!(answer, "ok unikernel seed {:#x}", self.seed),
            Command::Touch { bytes, ramp_ms } => {
                let start = ticks();
                match self.touch(bytes, ramp_ms) {
                    Ok(()) => {
                        let took_ms = (ticks() - start) / ticks_per_ms();
                        write!(answer, "ok touched {} took_ms {took_ms}", filled(self))
                    }
                    Err(NotTouched::NoMemory) => {
                        write!(answer, "error no memory beyond {} bytes", filled(self))
                    }
                    Err(NotTouched::NotZero(piece, byte)) => {
                        write!(answer, "error piece {piece} was not clean: byte {byte}")
                    }
                }
            }
            Command::Verify => {
                let start = ticks();
                match self.verify() {
                    Ok(()) => {
                        let took_us = (ticks() - start) * 1000 / ticks_per_ms();
                        write!(answer, "ok verified {} took_us {took_us}", filled(self))
                    }
                    Err(place) => write!(answer, "error byte {place} is not what was written"),
                }
            }
            Command::Free => {
                let bytes = filled(self);
                while self.memory.release().is_some() {}
                self.generation += 1;
                write!(answer, "ok freed {bytes}")
            }
            Command::MemInfo => {
                let kib = |pieces: u32| u64::from(pieces) * (PIECE_BYTES / 1024);
                let (free, balloon) = (kib(self.memory.free()), kib(self.memory.ballooned()));
                write!(
                    answer,
                    "ok total_kib {} available_kib {free} free_kib {free} balloon_kib {balloon}",
                    kib(self.pieces)
                )
            }
            Command::Stall => write!(answer, "ok heartbeat_ms 0 filling_ms 0"),
            Command::Oom => write!(answer, "ok oom_kills 0"),
            Command::Exit => machine::end(machine::SYSTEM_OFF),
            Command::Reset => machine::end(machine::SYSTEM_RESET),
            Command::Report => write!(answer, "ok reported {}", self.report_free()),
            Command::Refuse => self.obey(Obedience::Refuses, answer),
            Command::Accept => self.obey(Obedience::Heeds, answer),
            Command::Asked => write!(answer, "ok asked {}", self.asked.get()),
            Command::GarbageRing => self.misbehave(Hostile::GarbageRing, answer),
            Command::ForeignBalloon => self.misbehave(Hostile::ForeignBalloon, answer),
            Command::TouchBallooned => self.misbehave(Hostile::TouchBallooned, answer),
            Command::Hush => self.speak(Voice::Hushed, answer),
            Command::Speak => self.speak(Voice::Speaks, answer),
            Command::Leave => {
                self.balloon = None;
                mmio_write(BALLOON + 0x70, 0);
                write!(answer, "ok")
            }
            Command::Rebind => self.misbehave(Hostile::Rebind, answer),
            Command::Sleep => loop {
                self.sleep(SLEEP_MS);
            },
            Command::Break(what) => self.misbehave(Hostile::Break(what), answer),
            Command::Flood(rounds) => self.misbehave(Hostile::Flood(rounds), answer),
            Command::Storm(kind, ms) => self.storm(kind, ms, answer),
            Command::Strand => self.misbehave(Hostile::Strand, answer),
            Command::Nowhere(place) => self.misbehave(Hostile::Nowhere(place), answer),
            Command::Lie => {
                self.figures = Figures::Idle;
                write!(answer, "ok")
            }
            Command::Stubborn => {
                machine::be_stubborn();
                write!(answer, "ok")
            }
            Command::Spin => loop {
                core::hint::spin_loop();
            },
            Command::Crash => machine::crash(),
        }
    }

    fn speak(&mut self, voice: Voice, answer: &mut impl Write) -> Result<(), fmt::Error> {
        self.voice = voice;
        write!(answer, "ok")
    }

    fn obey(&mut self, obedience: Obedience, answer: &mut impl Write) -> Result<(), fmt::Error> {
        match &mut self.balloon {
            Some(balloon) => {
                balloon.obedience = obedience;
                write!(answer, "ok")
            }
            None => write!(answer, "error there is no balloon"),
        }
    }
}

/// Free, total and available memory (virtio 1.3, 5.5.6.4): entries of 16-bit tag and 64-bit value, packed.
fn offer_statistics(queue: &mut Queue, free: u64, total: u64) {
    let mut raw = [0u8; 32];
    for (entry, (tag, value)) in raw
        .chunks_exact_mut(10)
        .zip([(4u16, free), (5, total), (6, free)])
    {
        let (to_tag, to_value) = entry.split_at_mut(2);
        to_tag.copy_from_slice(&tag.to_le_bytes());
        to_value.copy_from_slice(&value.to_le_bytes());
    }
    let buffer = queue.buffer(0);
    for (index, word) in raw.as_chunks::<8>().0.iter().enumerate() {
        poke(buffer + 8 * index as u64, u64::from_le_bytes(*word));
    }
    queue.offer(0, buffer, 30, To::Device);
}

/// Where the balloon's rings lie.
const BALLOON_RINGS: u64 = RINGS + 4 * QUEUE_BYTES;
/// Behind all rings: room for more queues.
pub(crate) const SPARE_RINGS: u64 = BALLOON_RINGS + 4 * QUEUE_BYTES;

/// Sets the balloon up.
pub(crate) fn balloon() -> Option<Balloon> {
    let rings = BALLOON_RINGS;
    let features = F_MUST_TELL_HOST | F_STATS | F_DEFLATE_ON_OOM | F_REPORTING;
    negotiate(BALLOON, 5, features)?;
    let queue = |index: u32, at: u64| Queue::new(BALLOON, index, rings + at * QUEUE_BYTES);
    let balloon = Balloon {
        inflate: queue(0, 0),
        deflate: queue(1, 1),
        statistics: queue(2, 2),
        reporting: queue(4, 3),
        obedience: Obedience::Heeds,
    };
    ready(BALLOON);
    Some(balloon)
}

impl Program {
    /// Sets the balloon up, also for another time, and offers statistics.
    pub(crate) fn start_balloon(&mut self) {
        let obedience = self.balloon.as_ref().map(|balloon| balloon.obedience);
        self.balloon = balloon();
        let free = u64::from(self.memory.free()) * PIECE_BYTES;
        let total = u64::from(self.pieces - self.memory.ballooned()) * PIECE_BYTES;
        if let Some(balloon) = &mut self.balloon {
            balloon.obedience = obedience.unwrap_or(Obedience::Heeds);
            offer_statistics(&mut balloon.statistics, free, total);
        }
    }
}

/// The first function: `at` is where the VMM left the device tree.
pub extern "C" fn begin(at: u64) -> ! {
    let ram_bytes = tree::memory_bytes(machine::tree(at)).unwrap_or(PIECE_BYTES);
    let pieces = (ram_bytes / PIECE_BYTES).min(MAX_PIECES as u64) as u32;
    let mut program = Program {
        memory: Memory::new(),
        // Guests that start at the same tick do not exist on one core.
        seed: ticks(),
        generation: 1,
        balloon: None,
        figures: Figures::True,
        voice: Voice::Speaks,
        asked: Cell::new(0),
        is_v3: mmio_read(GICD + 0xffe8) >> 4 & 15 == 3,
        pieces,
    };
    program.memory.set_up(pieces);
    // The loader's, with the tree; all else is as the host gave it.
    program.memory.used(((at - RAM) / PIECE_BYTES) as usize);
    program.interrupts_on();
    let mut console = Port::new(CONSOLE, RINGS);
    let mut agent = Port::new(AGENT, RINGS + 2 * QUEUE_BYTES);
    program.start_balloon();
    if let Some(console) = &mut console {
        let mut text: heapless::String<64> = heapless::String::new();
        if write!(text, "unikernel: {} MiB\r\n", ram_bytes >> 20).is_ok() {
            console.write(&text);
        }
    }
    let mut line: heapless::String<LINE_BYTES> = heapless::String::new();
    let mut is_cut = false;
    loop {
        program.service();
        let mut lines: heapless::Vec<heapless::String<LINE_BYTES>, 4> = heapless::Vec::new();
        if let Some(agent) = &mut agent {
            agent.read(|byte| match byte {
                b'\n' => {
                    // A flood of lines is cut to four at a time, as a serial line's receiver would.
                    if !is_cut {
                        let _ = lines.push(line.clone());
                    }
                    line.clear();
                    is_cut = false;
                }
                byte => is_cut |= line.push(byte as char).is_err(),
            });
        }
        for line in &lines {
            let mut answer: heapless::String<200> = heapless::String::new();
            let (tag, text) = split_tag(line);
            let tagged = match tag {
                Some(tag) => write!(answer, "#{tag} "),
                None => Ok(()),
            };
            let written = tagged.and_then(|()| match parse(text) {
                Ok(command) => program.run(command, &mut answer),
                Err(CommandError::Unknown) => write!(answer, "error no such command"),
                Err(CommandError::Argument) => write!(answer, "error wrong arguments"),
            });
            if written.is_ok()
                && answer.push('\n').is_ok()
                && let Some(agent) = &mut agent
            {
                agent.write(&answer);
            }
        }
        if lines.is_empty() {
            program.sleep(SLEEP_MS);
        }
    }
}

/// Any exception: it is said on the console, and the guest is over.
pub extern "C" fn exception(syndrome: u64, link: u64, _address: u64) -> ! {
    let mut text: heapless::String<96> = heapless::String::new();
    if write!(text, "exception: syndrome {syndrome:#x} at {link:#x}\r\n").is_ok()
        && let Some(mut console) = Port::new(CONSOLE, RINGS)
    {
        console.write(&text);
    }
    machine::end(machine::SYSTEM_OFF)
}
