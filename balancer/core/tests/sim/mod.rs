//! A host in small: the real rules of the memory server over a model of the kernel, the real policy, and model guests
//! whose memory follows their target as a Linux guest's does: in steps, late, never what they use, or not at all.
#![allow(dead_code, reason = "each test file uses its part of the simulator")]

use balancer_core::{MemoryServer, Service};
use memory_server_core::fake::FakeKernel;
use memory_server_core::{Outcome, Server};
use protocol::badge::Client;
use protocol::balancer::{
    Counters, Mode, NextReport, OnRefusal, OnSilence, Reply, Report, Request, Row, Settings,
    Urgency,
};
use protocol::memory::{self, Bounds, Purpose, ReturnReason};
use protocol::units::{GuestId, PieceId, Pieces};

/// A tick of the simulation.
pub const TICK_MS: u64 = 10;
/// What the cleaner gets done in a tick: 1.6 GiB a second.
const CLEANED_PER_TICK: usize = 8;
/// The balancer's ticker.
const DECIDE_EVERY_MS: u64 = 50;

/// The memory server with its kernel.
pub struct Memory {
    pub server: Box<Server<4096>>,
    pub kernel: FakeKernel,
    in_cleaner: Option<Option<PieceId>>,
}

impl Memory {
    fn new(total: u32) -> Self {
        let mut kernel = FakeKernel::new(total);
        let mut server = Box::new(Server::new());
        let found = server.recover(&mut kernel, Pieces(total));
        assert_eq!(found.dirty, Pieces(total));
        Self {
            server,
            kernel,
            in_cleaner: Some(None),
        }
    }

    pub fn ask(&mut self, client: Client, request: memory::Request) -> memory::Reply {
        let reply = match self.server.handle(&mut self.kernel, client, request) {
            Outcome::Answer(reply) => reply,
            Outcome::AnswerWithFrame(reply) => {
                if let Client::Vmm(guest) = client {
                    self.kernel.deliver(guest);
                }
                reply
            }
            Outcome::Hold => panic!("only the cleaner is held"),
        };
        if let Some(piece) = self.kernel.handed.pop_front() {
            self.in_cleaner = Some(Some(piece));
        }
        reply
    }

    fn clean(&mut self) {
        let Some(given) = self.in_cleaner.take() else {
            return;
        };
        if let Some(piece) = given {
            self.kernel
                .retype(piece)
                .expect("a dirty piece can be retyped");
        }
        let request = memory::Request::Cleaned(given);
        match self
            .server
            .handle(&mut self.kernel, Client::Cleaner, request)
        {
            Outcome::Answer(memory::Reply::Clean(piece)) => self.in_cleaner = Some(Some(piece)),
            Outcome::Hold => {}
            other => panic!("{other:?}"),
        }
    }
}

impl MemoryServer for Memory {
    fn call(&mut self, request: &memory::Request) -> Option<memory::Reply> {
        let reply = self.ask(Client::Balancer, *request);
        if let memory::Request::SetTarget { .. } = request {
            assert_eq!(
                reply,
                memory::Reply::Done,
                "the policy asked for what it may not: {request:?}"
            );
        }
        Some(reply)
    }
}

/// How a guest follows its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// At once, up to so many pieces a tick.
    Follows(u32),
    /// It grows, and gives nothing back.
    Refuses,
    /// It gives one piece back in so many ticks.
    Drips(u64),
    /// As `Follows(16)`, but one page in so many pieces that it gives up is in use and keeps its piece from coming back.
    Strands(usize),
}

/// A guest and its VMM.
pub struct Guest {
    pub id: GuestId,
    pub settings: Settings,
    pub manner: Manner,
    /// What its programs want to use.
    pub wanted_mib: u64,
    held: Vec<PieceId>,
    counters: Counters,
    report_at_ms: u64,
    /// Time it was short of what it wanted.
    pub short_ms: u64,
    /// Whether its balloon driver reports.
    pub reports: Driver,
    /// Pieces that it gave up and that cannot come back yet.
    pub stranded: usize,
    /// Pieces that a deflation waits for; it takes them as soon as its target allows that.
    pub deflating: u64,
    /// What each report says too much or too little, in MiB, in turn: statistics of a guest whose memory is being moved.
    pub swing_mib: &'static [i64],
    reports_sent: usize,
    reported_used_mib: u64,
    /// As of the tick before: a target that was set in this one may not know better.
    reported_before_mib: u64,
    last_target: Pieces,
}

/// Whether a guest has a balloon driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Present,
    Absent,
}

impl Guest {
    pub fn held_mib(&self) -> u64 {
        self.held.len() as u64 * 2
    }

    /// What its operating system believes it has.
    fn visible(&self) -> usize {
        self.held.len() - self.stranded
    }

    /// What it really uses: all it wants, as far as it has it.
    fn used_mib(&self) -> u64 {
        self.wanted_mib.min(self.visible() as u64 * 2)
    }
}

/// The host.
pub struct Host {
    pub now_ms: u64,
    pub service: Service<Memory>,
    pub guests: Vec<Guest>,
    total: u32,
    reserve: u32,
    signals: u32,
    /// Pieces that were promised after the last tick.
    claims: u32,
    /// Pieces that deflations may have taken from the reserve.
    pub deflations: u32,
    /// Pieces moved into guests since the start.
    pub granted: u64,
}

pub fn settings(minimum_mib: u32, startup_mib: u32, maximum_mib: u32) -> Settings {
    Settings {
        mode: Mode::Dynamic,
        bounds: Bounds {
            minimum: Pieces(minimum_mib / 2),
            startup: Pieces(startup_mib / 2),
            maximum: Pieces(maximum_mib / 2),
        },
        buffer_percent: 20,
        weight: 5000,
        on_refusal: OnRefusal::Mark,
        deadline_ms: 2000,
        on_silence: OnSilence::Keep,
    }
}

impl Host {
    pub fn new(total_mib: u32, reserve_mib: u32) -> Self {
        let memory = Memory::new(total_mib / 2);
        let mut host = Self {
            now_ms: 0,
            service: Service::new(Pieces(reserve_mib / 2), memory),
            guests: Vec::new(),
            total: total_mib / 2,
            reserve: reserve_mib / 2,
            signals: 0,
            claims: 0,
            deflations: 0,
            granted: 0,
        };
        host.run(100);
        host
    }

    pub fn ask(&mut self, client: Client, request: Request) -> Reply {
        self.service.handle(self.now_ms, client, request)
    }

    /// What the supervisor does to start a guest: asks for room until it is there, for at most `patience_ms`.
    pub fn start(
        &mut self,
        settings: Settings,
        idle_mib: u64,
        patience_ms: u64,
    ) -> Result<usize, Box<Reply>> {
        let id = GuestId(self.guests.len() as u16);
        let bounds = settings.bounds;
        let until = self.now_ms + patience_ms;
        loop {
            match self.ask(Client::Supervisor, Request::MakeRoom { guest: id, bounds }) {
                Reply::Room => break,
                Reply::Wait { .. } if self.now_ms < until => self.run(50),
                other => return Err(Box::new(other)),
            }
        }
        let admit = memory::Request::Admit { guest: id, bounds };
        assert_eq!(
            self.service.memory().ask(Client::Supervisor, admit),
            memory::Reply::Done
        );
        let started = Request::Started {
            guest: id,
            settings,
        };
        assert_eq!(self.ask(Client::Supervisor, started), Reply::Done);
        self.guests.push(Guest {
            id,
            settings,
            manner: Manner::Follows(16),
            wanted_mib: idle_mib,
            held: Vec::new(),
            counters: Counters {
                alloc_stalls: Some(0),
                oom_kills: Some(0),
                ..Counters::default()
            },
            report_at_ms: self.now_ms,
            short_ms: 0,
            reports: Driver::Present,
            stranded: 0,
            deflating: 0,
            swing_mib: &[0],
            reports_sent: 0,
            reported_used_mib: 0,
            reported_before_mib: 0,
            last_target: bounds.startup,
        });
        Ok(self.guests.len() - 1)
    }

    pub fn stop(&mut self, index: usize) {
        let guest = &mut self.guests[index];
        let id = guest.id;
        guest.held.clear();
        guest.stranded = 0;
        guest.reports = Driver::Absent;
        guest.manner = Manner::Refuses;
        self.service
            .memory()
            .ask(Client::Supervisor, memory::Request::Retire(id));
        self.ask(Client::Supervisor, Request::Stopped(id));
    }

    pub fn row(&mut self, index: usize) -> Row {
        let guest = GuestId(index as u16);
        match self.ask(Client::Console, Request::Row(guest)) {
            Reply::Row(row) => row,
            other => panic!("{other:?}"),
        }
    }

    pub fn why(&mut self, index: usize) -> String {
        match self.ask(Client::Console, Request::Why(GuestId(index as u16))) {
            Reply::Why(why) => why.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    pub fn assigned_mib(&mut self, index: usize) -> u64 {
        self.row(index).assigned.mib()
    }

    /// Lets time pass.
    pub fn run(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while self.now_ms < until {
            self.tick();
        }
    }

    /// Runs until no assignment has changed for `quiet_ms`; returns the time it took, without the quiet.
    pub fn settle(&mut self, quiet_ms: u64, most_ms: u64) -> u64 {
        let start = self.now_ms;
        let (mut last, mut since) = (self.holdings(), self.now_ms);
        while self.now_ms - since < quiet_ms {
            assert!(
                self.now_ms - start < most_ms,
                "does not settle: {:?}",
                self.holdings()
            );
            self.tick();
            let now = self.holdings();
            if now != last {
                (last, since) = (now, self.now_ms);
            }
        }
        since - start
    }

    pub fn holdings(&self) -> Vec<u64> {
        self.guests.iter().map(Guest::held_mib).collect()
    }

    fn tick(&mut self) {
        self.now_ms += TICK_MS;
        for _ in 0..CLEANED_PER_TICK {
            self.service.memory().clean();
        }
        for index in 0..self.guests.len() {
            self.follow(index);
            self.report(index);
        }
        let signals = self.service.memory().kernel.balancer_signals;
        if signals != self.signals || self.now_ms.is_multiple_of(DECIDE_EVERY_MS) {
            self.signals = signals;
            self.service.decide(self.now_ms);
        }
        self.check();
    }

    /// The VMM's part: pieces come and go as the target says.
    fn follow(&mut self, index: usize) {
        let guest = &mut self.guests[index];
        let client = Client::Vmm(guest.id);
        let memory = self.service.memory();
        while let memory::Reply::Revoked(Some(piece)) =
            memory.ask(client, memory::Request::NextRevoked)
        {
            guest.held.retain(|held| *held != piece);
            guest.stranded = guest.stranded.min(guest.held.len());
        }
        let memory::Reply::Account(account) = memory.ask(client, memory::Request::Mine) else {
            return;
        };
        let target = account.target.0 as usize;
        let step = match guest.manner {
            Manner::Follows(pieces) => pieces as usize,
            Manner::Refuses | Manner::Drips(_) | Manner::Strands(_) => 16,
        };
        for _ in 0..step {
            if guest.visible() >= target {
                break;
            }
            if guest.held.len() >= target {
                // Deflated, as far as it holds the piece.
                guest.stranded = guest.stranded.saturating_sub(1);
                continue;
            }
            match memory.ask(client, memory::Request::Take(Purpose::Grow)) {
                memory::Reply::Granted { piece } => {
                    guest.held.push(piece);
                    guest.deflating = guest.deflating.saturating_sub(1);
                    self.granted += 1;
                }
                _ => break,
            }
        }
        let gives = match guest.manner {
            Manner::Follows(pieces) => pieces as usize,
            Manner::Refuses => 0,
            Manner::Strands(_) => 16,
            Manner::Drips(ticks) => usize::from((self.now_ms / TICK_MS).is_multiple_of(ticks)),
        };
        for _ in 0..gives {
            if guest.visible() <= target || guest.visible() as u64 * 2 <= guest.used_mib() + 2 {
                break;
            }
            if let Manner::Strands(every) = guest.manner
                && guest.visible().is_multiple_of(every)
            {
                guest.stranded += 1;
                continue;
            }
            let Some(piece) = guest.held.pop() else { break };
            let why = ReturnReason::Unplugged;
            let reply = memory.ask(client, memory::Request::Return { piece, why });
            assert_eq!(reply, memory::Reply::Done);
        }
    }

    fn report(&mut self, index: usize) {
        let guest = &mut self.guests[index];
        let (visible, used) = (guest.visible() as u64 * 2, guest.used_mib());
        if guest.wanted_mib > visible {
            guest.short_ms += TICK_MS;
            guest.counters.alloc_stalls = guest.counters.alloc_stalls.map(|n| n + 1);
        }
        if self.now_ms < guest.report_at_ms || guest.reports == Driver::Absent || visible == 0 {
            return;
        }
        let swing_mib = guest.swing_mib[guest.reports_sent % guest.swing_mib.len()];
        guest.reports_sent += 1;
        let used = used.saturating_add_signed(swing_mib).min(visible);
        let report = Report {
            visible_kib: visible * 1024,
            stranded_kib: guest.stranded as u64 * 2048,
            available_kib: Some((visible - used) * 1024),
            counters: guest.counters,
            deflating_kib: guest.deflating * 2048,
            urgent: Urgency::Periodic,
            ..Report::default()
        };
        guest.reported_used_mib = used;
        let id = guest.id;
        match self.ask(Client::Vmm(id), Request::Report(report)) {
            Reply::NextReport(NextReport { in_ms, keep }) => {
                let bounds = self.guests[index].settings.bounds;
                let least = Pieces::from_mib_ceil(used).clamp(bounds.minimum, bounds.maximum);
                assert!(
                    (least..=bounds.maximum).contains(&keep),
                    "uses {used} MiB and keeps {} ready",
                    keep.mib()
                );
                assert!((10..=1000).contains(&in_ms), "next report in {in_ms} ms");
                self.guests[index].report_at_ms = self.now_ms + u64::from(in_ms);
            }
            other => panic!("{other:?}"),
        }
    }

    /// What holds after every tick: the sum, the promises, and that nobody is asked for what it uses.
    fn check(&mut self) {
        let now_ms = self.now_ms;
        let memory = self.service.memory();
        let host = memory.server.host();
        assert_eq!(host.pool.0 + host.granted.0 + host.cleaning.0, self.total);
        assert!(host.promised.0 <= host.pool.0 + host.cleaning.0, "{host:?}");
        let claims = host.granted.0 + host.promised.0;
        let most = (self.total - self.reserve + self.deflations).max(self.claims);
        assert!(
            claims <= most,
            "{claims} pieces promised of {most} at {now_ms} ms"
        );
        self.claims = claims;
        for guest in &mut self.guests {
            let account = memory.ask(Client::Supervisor, memory::Request::Account(guest.id));
            let memory::Reply::Account(account) = account else {
                continue;
            };
            let bounds = account.minimum..=account.maximum;
            assert!(bounds.contains(&account.target), "{account:?}");
            let changed = account.target != guest.last_target;
            if changed && account.target < account.assigned && guest.settings.mode == Mode::Dynamic
            {
                // What it uses is never asked for.
                let used = guest.reported_used_mib.min(guest.reported_before_mib);
                let least = used.min(account.assigned.mib());
                assert!(
                    account.target.mib() >= least,
                    "guest {} uses {used} MiB and was asked down to {} at {now_ms} ms",
                    guest.id.0,
                    account.target.mib()
                );
            }
            guest.last_target = account.target;
            guest.reported_before_mib = guest.reported_used_mib;
        }
    }

    /// Changes what is kept out of the targets.
    pub fn set_reserve(&mut self, reserve_mib: u32) {
        self.reserve = reserve_mib / 2;
        let reply = self.ask(Client::Console, Request::SetReserve(Pieces(self.reserve)));
        assert_eq!(reply, Reply::Done);
    }

    /// Memory that nobody has.
    pub fn free_mib(&mut self) -> u64 {
        let host = self.service.memory().server.host();
        host.pool.plus(host.cleaning).mib()
    }
}
