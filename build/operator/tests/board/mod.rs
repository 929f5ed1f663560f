//! A simulated board: the real console server and the real workload agents, with simple models of the other components.

use console::{Clock, Server, Services};
use line::{Channel, Decoder, Item};
use protocol::badge::Client;
use protocol::balancer::{self, Change, HostRow, Row, Settings};
use protocol::console::{Chunk, Port, Reply, Request};
use protocol::memory::{self, Bounds, HostAccount};
use protocol::supervisor::{self, GuestState};
use protocol::units::{GuestId, Line, Pieces};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use workload::agent::{Agent, Kernel};
use workload::clock::{LongestGap, System};

/// What an idle guest uses.
pub const IDLE_MIB: u64 = 20;
/// Pieces in the pool: 512 MiB.
pub const POOL: u32 = 256;
/// Pieces that move in one step of the model.
const STEP: u32 = 4;

/// What goes wrong in the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Bytes are damaged in both directions.
    NoisyLine,
    /// A frame is lost when the first guest grows.
    LostFrame,
    /// The balancer gives nobody anything.
    StuckBalancer,
    /// Nothing comes back from a balloon.
    IdleBalloon,
    /// The guest's kernel killed a process.
    OomKill,
    /// A guest was started twice.
    Restart,
    /// The board is switched off as soon as a workload runs.
    SwitchedOff,
}

pub struct Guest {
    name: &'static str,
    settings: Settings,
    state: GuestState,
    starts: u32,
    assigned: u32,
    touched_mib: u64,
    commands: Option<Sender<u8>>,
}

impl Guest {
    fn demand_mib(&self) -> u64 {
        IDLE_MIB + self.touched_mib
    }

    fn target(&self) -> u32 {
        let buffer = u64::from(self.settings.buffer_percent);
        let pieces = Pieces::from_mib_ceil(self.demand_mib() * 100 / (100 - buffer)).0;
        let bounds = self.settings.bounds;
        pieces.clamp(bounds.minimum.0, bounds.maximum.0)
    }
}

pub struct World {
    pub guests: Vec<Guest>,
    fault: Fault,
    start: Instant,
}

impl World {
    fn pool(&self) -> u32 {
        POOL - self.guests.iter().map(|guest| guest.assigned).sum::<u32>()
    }

    fn step(&mut self) {
        if self.fault == Fault::StuckBalancer {
            return;
        }
        for index in 0..self.guests.len() {
            let pool = self.pool();
            let guest = &mut self.guests[index];
            if guest.state != GuestState::Running {
                continue;
            }
            let target = guest.target();
            if guest.assigned > target {
                guest.assigned -= STEP.min(guest.assigned - target);
            } else {
                guest.assigned += STEP.min(target - guest.assigned).min(pool);
            }
        }
    }

    /// What a guest has less than it started with.
    fn ballooned_mib(fault: Fault, guest: &Guest) -> u64 {
        match fault {
            Fault::IdleBalloon => 0,
            _ => {
                let startup = guest.settings.bounds.startup;
                startup.minus(Pieces(guest.assigned)).mib()
            }
        }
    }

    fn row(&self, guest: GuestId) -> Option<Row> {
        let guest = self.guests.get(usize::from(guest.0))?;
        (guest.state == GuestState::Running).then(|| Row {
            settings: guest.settings,
            assigned: Pieces(guest.assigned),
            target: Pieces(guest.target()),
            reported: Pieces(0),
            visible_mib: guest.assigned * 2,
            demand_mib: guest.demand_mib() as u32,
            ballooned_mib: Self::ballooned_mib(self.fault, guest) as u32,
            stranded_mib: 0,
            pressure: (guest.demand_mib() * 100 / u64::from(guest.assigned * 2)) as u16,
            status: balancer::Status::Ok,
            flag: balancer::Flag::None,
            oom_kills: 0,
            age_ms: 0,
        })
    }
}

/// The kernel of a guest of the simulation.
struct GuestKernel {
    world: Arc<Mutex<World>>,
    index: usize,
}

impl Kernel for GuestKernel {
    fn meminfo(&self) -> io::Result<String> {
        let world = self.world.lock().unwrap();
        let guest = &world.guests[self.index];
        let visible_kib = u64::from(guest.assigned) * 2048;
        let available_kib = visible_kib.saturating_sub(guest.demand_mib() * 1024);
        let total_kib = visible_kib - visible_kib / 64;
        Ok(format!(
            "MemTotal: {total_kib} kB\nMemFree: 1 kB\nMemAvailable: {available_kib} kB\n"
        ))
    }

    fn vmstat(&self) -> io::Result<String> {
        let kills = u32::from(self.world.lock().unwrap().fault == Fault::OomKill);
        Ok(format!("oom_kill {kills}\n"))
    }
}

/// Bytes of the guest's port, one after the other.
struct Input(Receiver<u8>);

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.recv() {
            Ok(byte) => {
                buffer[0] = byte;
                Ok(1)
            }
            Err(_) => Ok(0),
        }
    }
}

/// Tells the world how much the workload holds, and passes the answer on.
struct Output {
    world: Arc<Mutex<World>>,
    index: usize,
    answers: Sender<(usize, Vec<u8>)>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        if let Some(bytes) = operator::agent::field(&text, "touched") {
            self.world.lock().unwrap().guests[self.index].touched_mib = bytes >> 20;
        }
        let _ = self.answers.send((self.index, bytes.to_vec()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Components {
    world: Arc<Mutex<World>>,
    answers: Sender<(usize, Vec<u8>)>,
    readable: Vec<GuestId>,
}

impl Components {
    fn start(&mut self, id: GuestId) -> supervisor::Reply {
        let mut world = self.world.lock().unwrap();
        let pool = world.pool();
        let fault = world.fault;
        let index = usize::from(id.0);
        let guest = &mut world.guests[index];
        let startup = guest.settings.bounds.startup.0;
        if pool < startup {
            return supervisor::Reply::Refused(Line::try_from("no room").unwrap());
        }
        guest.assigned = startup;
        guest.state = GuestState::Running;
        guest.starts += 1 + u32::from(fault == Fault::Restart);
        let (commands, input) = channel();
        guest.commands = Some(commands);
        drop(world);
        let kernel = GuestKernel {
            world: self.world.clone(),
            index,
        };
        let mut output = Output {
            world: self.world.clone(),
            index,
            answers: self.answers.clone(),
        };
        std::thread::spawn(move || {
            let mut agent = Agent::new(
                index as u64,
                kernel,
                System::default(),
                LongestGap::default(),
            );
            let mut input = io::BufReader::new(Input(input));
            // One write for one line.
            let mut line = io::LineWriter::new(&mut output);
            let _ = agent.serve(&mut input, &mut line);
        });
        supervisor::Reply::Done
    }
}

impl Services for Components {
    fn balancer(&mut self, request: &balancer::Request) -> Option<balancer::Reply> {
        let mut world = self.world.lock().unwrap();
        Some(match request {
            balancer::Request::Row(guest) => match world.row(*guest) {
                Some(row) => balancer::Reply::Row(row),
                None => balancer::Reply::Refused(Line::try_from("not running").unwrap()),
            },
            balancer::Request::HostRow => balancer::Reply::HostRow(HostRow {
                total: Pieces(POOL),
                pool: Pieces(world.pool()),
                reserve: Pieces(POOL / 16),
                headroom: Pieces(world.pool()),
                ..HostRow::default()
            }),
            balancer::Request::Set {
                guest,
                change: Change::Buffer(percent),
            } => {
                world.guests[usize::from(guest.0)].settings.buffer_percent = *percent;
                balancer::Reply::Done
            }
            balancer::Request::Why(_) => {
                balancer::Reply::Why(Line::try_from("demand and buffer").unwrap())
            }
            _ => balancer::Reply::Refused(Line::try_from("not simulated").unwrap()),
        })
    }

    fn memory(&mut self, _: &memory::Request) -> Option<memory::Reply> {
        let world = self.world.lock().unwrap();
        let lost = world.fault == Fault::LostFrame && world.guests[0].touched_mib > 0;
        Some(memory::Reply::Counted(HostAccount {
            total: Pieces(POOL),
            pool: Pieces(world.pool() - u32::from(lost)),
            granted: Pieces(POOL - world.pool()),
            ..HostAccount::default()
        }))
    }

    fn supervisor(&mut self, request: &supervisor::Request) -> Option<supervisor::Reply> {
        if let supervisor::Request::Start(guest) = request {
            return Some(self.start(*guest));
        }
        let mut world = self.world.lock().unwrap();
        Some(match request {
            supervisor::Request::Guest(id) => {
                let guest = &world.guests[usize::from(id.0)];
                supervisor::Reply::Guest {
                    name: guest.name.try_into().unwrap(),
                    state: guest.state,
                    starts: guest.starts,
                    last_end: None,
                    used_us: 0,
                    detail: Line::new(),
                }
            }
            supervisor::Request::Stop(id) => {
                let guest = &mut world.guests[usize::from(id.0)];
                guest.state = GuestState::Stopped;
                guest.assigned = 0;
                guest.commands = None;
                supervisor::Reply::Done
            }
            _ => supervisor::Reply::Refused(Line::try_from("not simulated").unwrap()),
        })
    }

    fn signal_vmm(&mut self, guest: GuestId) {
        self.readable.push(guest);
    }

    fn clock(&mut self) -> Clock {
        Clock {
            ticks: self.world.lock().unwrap().start.elapsed().as_micros() as u64,
            frequency_hz: 1_000_000,
        }
    }
}

/// A board that runs in a thread until its line is dropped.
pub struct Board {
    pub from_board: PipeReader,
    pub to_board: PipeWriter,
}

/// A guest's settings.
pub fn settings(minimum: u32, startup: u32, maximum: u32) -> Settings {
    Settings {
        mode: balancer::Mode::Dynamic,
        bounds: Bounds {
            minimum: Pieces(minimum),
            startup: Pieces(startup),
            maximum: Pieces(maximum),
        },
        buffer_percent: 20,
        weight: 5000,
        on_refusal: balancer::OnRefusal::Mark,
        deadline_ms: 2000,
        on_silence: balancer::OnSilence::Keep,
    }
}

/// Boots a board with the guests "a" and "b", which run, and "c", which does not.
pub fn boot(fault: Fault) -> Board {
    let guest = |name| Guest {
        name,
        settings: settings(16, 32, 128),
        state: GuestState::Stopped,
        starts: 0,
        assigned: 0,
        touched_mib: 0,
        commands: None,
    };
    let world = Arc::new(Mutex::new(World {
        guests: vec![guest("a"), guest("b"), guest("c")],
        fault,
        start: Instant::now(),
    }));
    let (from_board, line_out) = io::pipe().unwrap();
    let (line_in, to_board) = io::pipe().unwrap();
    let board = Board {
        from_board,
        to_board,
    };
    std::thread::spawn(move || serve(&world, fault, line_in, line_out));
    board
}

fn serve(
    world: &Arc<Mutex<World>>,
    fault: Fault,
    mut line_in: PipeReader,
    mut line_out: PipeWriter,
) {
    let (bytes_in, received) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while let Ok(count @ 1..) = line_in.read(&mut buffer) {
            for byte in &buffer[..count] {
                if bytes_in.send(*byte).is_err() {
                    return;
                }
            }
        }
    });
    let (answers, answered) = channel();
    let mut components = Components {
        world: world.clone(),
        answers,
        readable: Vec::new(),
    };
    let mut server = Box::new(Server::new());
    let names = ["a", "b", "c"].map(|name| name.try_into().unwrap());
    let _ = line_out.write_all(b"boot stage: 512 MiB\r\nkernel: starts\r\n");
    server.begin(heapless::Vec::from_slice(&names).unwrap());
    for id in [0, 1] {
        components.start(GuestId(id));
    }
    let mut noise = 0u32;
    let mut heard = 0u32;
    loop {
        if let Ok(byte) = received.recv_timeout(Duration::from_millis(5)) {
            let mut next = Some(byte);
            while let Some(mut byte) = next {
                heard += 1;
                if fault == Fault::NoisyLine && heard.is_multiple_of(1009) {
                    byte ^= 0x10;
                }
                server.receive(byte, &mut components);
                next = received.try_recv().ok();
            }
        }
        world.lock().unwrap().step();
        for guest in std::mem::take(&mut components.readable) {
            deliver(&mut server, world, guest);
        }
        while let Ok((index, bytes)) = answered.try_recv() {
            for chunk in bytes.chunks(512) {
                let request = Request::Write {
                    port: Port::Agent,
                    bytes: Chunk::from_slice(chunk).unwrap(),
                };
                server.serve(Client::Vmm(GuestId(index as u16)), request);
            }
            if fault == Fault::SwitchedOff && bytes.windows(7).any(|word| word == b"touched") {
                return;
            }
        }
        loop {
            let mut bytes = server.pending(&mut components).to_vec();
            if bytes.is_empty() {
                break;
            }
            server.sent(bytes.len());
            // One management message in twenty arrives damaged; ports have no repetition, so theirs are spared.
            noise += u32::from(is_management(&bytes));
            if fault == Fault::NoisyLine && noise == 20 {
                noise = 0;
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x55;
            }
            if line_out.write_all(&bytes).is_err() {
                return;
            }
        }
    }
}

fn is_management(frame: &[u8]) -> bool {
    let mut decoder = Decoder::new();
    frame.iter().any(|byte| {
        matches!(decoder.push(*byte), Some(Item::Frame(frame)) if frame.channel == Channel::Management)
    })
}

/// What a VMM does with input: reads it and gives it to the guest.
fn deliver(server: &mut Server, world: &Arc<Mutex<World>>, guest: GuestId) {
    loop {
        let Reply::Input { port, bytes } = server.serve(Client::Vmm(guest), Request::Read) else {
            return;
        };
        if bytes.is_empty() {
            return;
        }
        match port {
            Port::Agent => {
                let world = world.lock().unwrap();
                if let Some(commands) = &world.guests[usize::from(guest.0)].commands {
                    for byte in &bytes {
                        let _ = commands.send(*byte);
                    }
                }
            }
            // The guest's shell echoes.
            Port::Console => {
                let echo = Request::Write {
                    port: Port::Console,
                    bytes,
                };
                server.serve(Client::Vmm(guest), echo);
            }
        }
    }
}
