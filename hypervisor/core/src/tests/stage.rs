//! Several threads on the fake machine, making system calls as the exception code would hand them over.

use crate::arch::Arch as _;
use crate::cap::{Cap, CapView};
use crate::check::fixture::{World, slots};
use crate::cspace::cdt;
use crate::object::mem::Ref;
use crate::object::slot::Derivation;
use crate::object::{Endpoint, Notification, Reply, SchedContext, Tcb, ThreadState};
use crate::run::ipc;
use sel4_sys::{Invocation as Label, ObjectType, Syscall};
use std::cell::Cell;
use std::vec::Vec;

/// Slot of the scheduling control capability.
pub const SCHED_CONTROL: u64 = 10;
/// Ticks of one microsecond on the fake machine (62.5 MHz), doubled.
pub const TICKS_PER_2_US: u64 = 125;

/// Ticks of `us` microseconds.
pub const fn us(us: u64) -> u64 {
    us * TICKS_PER_2_US / 2
}

/// A thread and the slots of what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    pub tcb: Ref<Tcb>,
    pub cap: u64,
    pub sc: u64,
    pub buffer: u64,
}

/// Where every thread's program begins.
pub const PC: u64 = 0x20_0000;

pub struct Stage {
    pub w: World,
    next: Cell<u64>,
    time: Cell<u64>,
}

impl Stage {
    /// A kernel with one running thread, the boss, of priority 255 with a time slice of a second.
    pub fn new() -> Self {
        let w = World::new();
        w.k.init_time();
        w.k.arch.set_now(1000);
        let stage = Self {
            w,
            next: Cell::new(slots::FREE),
            time: Cell::new(1000),
        };
        cdt::insert(
            Cap::from_view(CapView::SchedControl { core: 0 }),
            stage.w.slot(slots::SMC),
            stage.w.slot(SCHED_CONTROL),
            Derivation::ORIGINAL,
        );
        let boss = stage.w.tcb;
        boss.thread.priority.set(255);
        boss.thread.mcp.set(255);
        boss.context.pc.set(PC);
        let frame = stage.object(ObjectType::SmallPage);
        boss.thread.ipc_buffer_kernel.set(stage.frame(frame) | 1);
        let sc = stage.sized(ObjectType::SchedContext, 8);
        stage.w.k.bind_initial(stage.sc(sc), boss, 1_000_000);
        stage.w.k.start(boss);
        assert_eq!(stage.current(), Some(boss));
        stage.step();
        stage
    }

    pub fn boss(&self) -> Ref<Tcb> {
        self.w.tcb
    }

    pub fn current(&self) -> Option<Ref<Tcb>> {
        self.w.k.current.get()
    }

    /// All invariants.
    #[track_caller]
    pub fn check(&self) {
        if let Err(problem) = self.w.check() {
            panic!("{problem}");
        }
        self.check_threads();
    }

    /// All invariants, after one step of a test, when it is time to look ([`World::looks`]).
    #[track_caller]
    fn step(&self) {
        if self.w.looks() {
            self.check();
        }
    }

    /// [`Self::check_threads`], after one step of a test, when it is time to look.
    #[track_caller]
    pub fn step_threads(&self) {
        if self.w.looks() {
            self.check_threads();
        }
    }

    /// The invariants of threads, queues and budgets.
    #[track_caller]
    pub fn check_threads(&self) {
        let all = crate::check::invariants::all_slots(self.w.slot(slots::CNODE));
        if let Err(problem) = crate::check::invariants_ipc::check(&self.w.k, &all) {
            panic!("{problem}");
        }
    }

    /// An empty slot.
    pub fn free_slot(&self) -> u64 {
        let slot = self.next.get();
        self.next.set(slot + 1);
        slot
    }

    pub fn object(&self, kind: ObjectType) -> u64 {
        self.sized(kind, 0)
    }

    pub fn sized(&self, kind: ObjectType, bits: u64) -> u64 {
        let slot = self.free_slot();
        // The fixture's own way of making objects leaves the boss's registers as they are.
        self.w.retype(slots::RAM, kind, bits, slot, 1).unwrap();
        slot
    }

    pub fn frame(&self, slot: u64) -> u64 {
        match self.w.cap(slot) {
            CapView::Frame { addr, .. } => addr,
            other => panic!("{other:?}"),
        }
    }

    pub fn sc(&self, slot: u64) -> Ref<SchedContext> {
        match self.w.cap(slot) {
            CapView::SchedContext { object, .. } => object,
            other => panic!("{other:?}"),
        }
    }

    pub fn endpoint(&self, slot: u64) -> Ref<Endpoint> {
        match self.w.cap(slot) {
            CapView::Endpoint { object, .. } => object,
            other => panic!("{other:?}"),
        }
    }

    pub fn notification(&self, slot: u64) -> Ref<Notification> {
        match self.w.cap(slot) {
            CapView::Notification { object, .. } => object,
            other => panic!("{other:?}"),
        }
    }

    pub fn reply(&self, slot: u64) -> Ref<Reply> {
        match self.w.cap(slot) {
            CapView::Reply { object, .. } => object,
            other => panic!("{other:?}"),
        }
    }

    pub fn minted(&self, source: u64, rights: u64, badge: u64) -> u64 {
        let dest = self.free_slot();
        let words = [dest, 64, source, 64, rights, badge];
        self.w
            .call(slots::CNODE, Label::CNodeMint, &words, &[slots::CNODE])
            .unwrap();
        dest
    }

    /// A stopped thread with CSpace, IPC buffer and priority, and a scheduling context that it is not bound to.
    pub fn passive(&self, priority: u64) -> Thread {
        let cap = self.object(ObjectType::Tcb);
        let sc = self.sized(ObjectType::SchedContext, 8);
        let frame = self.object(ObjectType::SmallPage);
        let CapView::Thread(tcb) = self.w.cap(cap) else {
            panic!("no thread");
        };
        let root = crate::object::slot::of_tcb(tcb, crate::object::tcb_slot::CSPACE);
        let source = self.w.slot(slots::CNODE);
        cdt::insert_copy(source.cap.get(), source, root);
        tcb.context.pc.set(PC);
        self.must(cap, Label::TcbSetIpcBuffer, &[0x10_0000], &[frame]);
        self.must(cap, Label::TcbSetPriority, &[priority], &[slots::TCB]);
        Thread {
            tcb,
            cap,
            sc,
            buffer: self.frame(frame),
        }
    }

    /// A thread on its own time slice of 1 ms, started.
    pub fn active(&self, priority: u64) -> Thread {
        let thread = self.with_budget(priority, 1000, 1000);
        self.must(thread.cap, Label::TcbResume, &[], &[]);
        thread
    }

    /// A stopped thread bound to a scheduling context.
    pub fn with_budget(&self, priority: u64, budget_us: u64, period_us: u64) -> Thread {
        let thread = self.passive(priority);
        self.configure(thread.sc, budget_us, period_us, 0, 0);
        self.must(thread.sc, Label::SchedContextBind, &[], &[thread.cap]);
        thread
    }

    pub fn configure(&self, sc: u64, budget_us: u64, period_us: u64, badge: u64, flags: u64) {
        self.must(
            SCHED_CONTROL,
            Label::SchedControlConfigureFlags,
            &[budget_us, period_us, 0, badge, flags],
            &[sc],
        );
    }

    /// Sets message words and capabilities of a thread.
    pub fn message(&self, tcb: Ref<Tcb>, label: u64, words: &[u64], extra: &[u64]) {
        let buffer = ipc::send_buffer(tcb);
        for (n, &word) in words.iter().enumerate() {
            if n < 4 {
                tcb.context.x[n + 2].set(word);
            } else if buffer != 0 {
                self.w.k.arch.write_word(buffer + 8 + 8 * n as u64, word);
            }
        }
        for (n, &cap) in extra.iter().enumerate() {
            if buffer != 0 {
                self.w.k.arch.write_word(buffer + 976 + 8 * n as u64, cap);
            }
        }
        tcb.context.x[1].set(label << 12 | (extra.len() as u64) << 7 | words.len() as u64);
    }

    /// The current thread, which must be this one, makes a system call; x0 and x6 are set before, x1-x5 are as they are.
    #[track_caller]
    pub fn syscall(&self, tcb: Ref<Tcb>, call: Syscall, x0: u64, x6: u64) {
        assert_eq!(self.current(), Some(tcb), "not the current thread");
        tcb.context.x[0].set(x0);
        tcb.context.x[6].set(x6);
        tcb.context.pc.set(tcb.context.pc.get() + 4);
        self.w.k.handle_syscall(call.word());
        self.step();
    }

    #[track_caller]
    pub fn send(&self, tcb: Ref<Tcb>, call: Syscall, dest: u64, words: &[u64]) {
        self.message(tcb, 0, words, &[]);
        self.syscall(tcb, call, dest, 0);
    }

    #[track_caller]
    pub fn recv(&self, tcb: Ref<Tcb>, ep: u64, reply: u64) {
        self.syscall(tcb, Syscall::Recv, ep, reply);
    }

    #[track_caller]
    pub fn wait(&self, tcb: Ref<Tcb>, object: u64) {
        self.syscall(tcb, Syscall::Wait, object, 0);
    }

    /// An invocation by the boss; its label and words.
    #[track_caller]
    pub fn invoke(&self, cap: u64, label: Label, words: &[u64], extra: &[u64]) -> (u64, Vec<u64>) {
        self.invoke_by(self.boss(), cap, label, words, extra)
    }

    #[track_caller]
    pub fn invoke_by(
        &self,
        tcb: Ref<Tcb>,
        cap: u64,
        label: Label,
        words: &[u64],
        extra: &[u64],
    ) -> (u64, Vec<u64>) {
        self.message(tcb, label.word(), words, extra);
        self.syscall(tcb, Syscall::Call, cap, 0);
        self.received(tcb)
    }

    #[track_caller]
    pub fn must(&self, cap: u64, label: Label, words: &[u64], extra: &[u64]) {
        let (error, words) = self.invoke(cap, label, words, extra);
        assert_eq!(error, 0, "{label:?}: {words:?}");
    }

    /// Label and words of the message that a thread has in its registers.
    pub fn received(&self, tcb: Ref<Tcb>) -> (u64, Vec<u64>) {
        let info = tcb.context.x[1].get();
        let words = (0..ipc::length(info)).map(|n| ipc::word(&self.w.k, tcb, n));
        (ipc::label(info), words.collect())
    }

    pub fn badge(&self, tcb: Ref<Tcb>) -> u64 {
        tcb.context.x[0].get()
    }

    pub fn now(&self) -> u64 {
        self.time.get()
    }

    /// Time passes; the timer fires when its moment comes.
    #[track_caller]
    pub fn pass(&self, ticks: u64) {
        self.pass_with(ticks, || self.step());
    }

    /// [`Self::pass`] with `check` after each timer interrupt.
    pub fn pass_with(&self, ticks: u64, check: impl Fn()) {
        let end = self.time.get() + ticks;
        loop {
            let deadline = self.w.k.arch.deadline();
            if deadline > end {
                break;
            }
            let at = deadline.max(self.time.get());
            self.time.set(at);
            self.w.k.arch.set_now(at);
            self.w.k.handle_timer();
            check();
        }
        self.time.set(end);
        self.w.k.arch.set_now(end);
    }

    /// The boss stops; the highest of the others runs.
    #[track_caller]
    pub fn boss_waits(&self, on: u64) {
        self.wait(self.boss(), on);
    }

    pub fn state(&self, thread: Thread) -> ThreadState {
        thread.tcb.thread.state.get()
    }

    /// The boss is woken by an interrupt, as it were.
    pub fn wake_boss(&self, notification: u64) {
        crate::run::notification::signal(&self.w.k, self.notification(notification), 1);
        crate::run::scheduler::schedule(&self.w.k);
        assert_eq!(self.current(), Some(self.boss()));
        self.step();
    }
}
