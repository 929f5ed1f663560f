//! Random system calls by several threads, with every invariant of threads, queues and budgets checked after each; and the
//! queues against simple models.

use super::stage::{SCHED_CONTROL, Stage, Thread, us};
use super::steps;
use crate::check::fixture::slots;
use crate::object::mem::Ref;
use crate::object::{Tcb, WaitQueue};
use crate::run::refill;
use crate::state::release::ReleaseQueue;
use proptest::prelude::*;
use sel4_sys::{Invocation as Label, ObjectType, Syscall};
use std::vec::Vec;

/// Numbers that a choice is made of, taken one after the other.
struct Choices(u64);

impl Choices {
    fn below(&mut self, n: u64) -> u64 {
        // SplitMix64 on what is left.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

struct Crowd {
    s: Stage,
    threads: Vec<Thread>,
    /// Slots that system calls name: objects, badged copies, an empty one, one that does not exist.
    caps: Vec<u64>,
    replies: Vec<u64>,
}

impl Crowd {
    fn new() -> Self {
        let s = Stage::new();
        let mut threads: Vec<_> = [(99, 1000, 1000), (100, 300, 2000), (100, 700, 700)]
            .iter()
            .map(|&(priority, budget, period)| s.with_budget(priority, budget, period))
            .collect();
        // A server without time of its own, waiting for its first caller.
        let server = s.active(101);
        let (first_ep, first_reply) = (s.object(ObjectType::Endpoint), s.object(ObjectType::Reply));
        let pause = s.object(ObjectType::Notification);
        s.boss_waits(pause);
        s.recv(server.tcb, first_ep, first_reply);
        s.wake_boss(pause);
        s.must(server.sc, Label::SchedContextUnbind, &[], &[]);
        threads.push(server);
        let mut caps = std::vec![slots::TCB, SCHED_CONTROL];
        for _ in 0..2 {
            let ep = if caps.len() == 2 {
                first_ep
            } else {
                s.object(ObjectType::Endpoint)
            };
            let n = s.object(ObjectType::Notification);
            caps.extend([ep, ep, ep, n, n]);
            caps.push(s.minted(ep, 15, 7));
            caps.push(s.minted(ep, 1, 8));
            caps.push(s.minted(n, 15, 3));
        }
        let mut replies: Vec<_> = (0..4).map(|_| s.object(ObjectType::Reply)).collect();
        replies.push(first_reply);
        caps.extend(&replies);
        for t in &threads {
            caps.extend([t.cap, t.sc]);
        }
        caps.extend([s.free_slot(), 1 << 50]);
        // Handlers for two of them.
        for (t, n) in [(0, 2), (1, 10)] {
            s.must(
                threads[t].cap,
                Label::TcbSetSchedParams,
                &[255, 100],
                &[slots::TCB, threads[t].sc, caps[n]],
            );
            s.must(
                threads[t].cap,
                Label::TcbSetTimeoutEndpoint,
                &[],
                &[caps[n]],
            );
        }
        for t in &threads {
            s.must(t.cap, Label::TcbResume, &[], &[]);
        }
        // The boss is one of them.
        let sc = slots::FREE + 1;
        s.configure(sc, 400, 500, 5, 0);
        s.must(slots::TCB, Label::TcbSetPriority, &[100], &[slots::TCB]);
        Self {
            s,
            threads,
            caps,
            replies,
        }
    }

    fn step(&self, choice: u64) {
        let mut c = Choices(choice);
        let s = &self.s;
        let k = &s.w.k;
        let Some(current) = s.current() else {
            s.pass_unchecked(us(1 + c.below(3000)));
            self.revive(&mut c);
            return;
        };
        match c.below(20) {
            0 => {
                // A supervisor makes a waiting server passive.
                let t = c.of(&self.threads).tcb;
                if crate::run::thread::blocked(t)
                    && let Some(sc) = t.thread.sched_context.get()
                    && sc.reply.get().is_none()
                {
                    crate::run::sched_context::unbind_tcb(k, sc, t);
                    crate::run::scheduler::schedule(k);
                }
            }
            1..=2 => s.pass_unchecked(c.below(us(800))),
            3 => k.handle_vm_fault(c.below(9), 0, crate::run::fault::Access::Data),
            4 => {
                current.context.pc.set(current.context.pc.get() + 4);
                k.handle_syscall(c.below(40));
            }
            5..=9 => self.invoke(&mut c, current),
            _ => self.call(&mut c, current),
        }
    }

    /// When nobody runs for long, somebody is started from outside.
    fn revive(&self, c: &mut Choices) {
        let all = [
            self.s.boss(),
            self.threads[0].tcb,
            self.threads[1].tcb,
            self.threads[2].tcb,
            self.threads[3].tcb,
        ];
        let k = &self.s.w.k;
        let t = c.of(&self.threads);
        let sc = self.s.sc(t.sc);
        if sc.tcb.get().is_none()
            && t.tcb.thread.sched_context.get().is_none()
            && c.below(2) == 0
            && !crate::run::thread::blocked(t.tcb)
        {
            crate::run::sched_context::bind_tcb(k, sc, t.tcb);
        }
        // Waiting servers mostly stay.
        let chosen = c.of(&all);
        if !crate::run::thread::blocked(chosen) || c.below(4) == 0 {
            crate::run::thread::resume(k, chosen);
        }
        crate::run::scheduler::schedule(k);
    }

    /// An IPC system call.
    fn call(&self, c: &mut Choices, current: Ref<Tcb>) {
        let s = &self.s;
        let call = c.of(&[
            Syscall::Call,
            Syscall::Call,
            Syscall::ReplyRecv,
            Syscall::ReplyRecv,
            Syscall::NBSendRecv,
            Syscall::NBSendWait,
            Syscall::Send,
            Syscall::NBSend,
            Syscall::Recv,
            Syscall::Recv,
            Syscall::NBRecv,
            Syscall::Wait,
            Syscall::NBWait,
            Syscall::Yield,
        ]);
        let words = [1, 2, 3, 4, 5, 6];
        let extra = [c.of(&self.caps), c.of(&self.caps)];
        s.message(
            current,
            c.below(3),
            &words[..c.below(7) as usize],
            &extra[..if c.below(4) == 0 {
                c.below(3) as usize
            } else {
                0
            }],
        );
        current.context.x[8].set(c.of(&self.caps));
        let x6 = if c.below(6) == 0 {
            c.of(&self.caps)
        } else {
            c.of(&self.replies)
        };
        // Two endpoints are where most meet.
        let any = c.of(&self.caps);
        let x0 = c.of(&[self.caps[2], self.caps[10], any]);
        s.syscall_unchecked(current, call, x0, x6);
    }

    /// An invocation that can disturb others.
    fn invoke(&self, c: &mut Choices, current: Ref<Tcb>) {
        let s = &self.s;
        let t = c.of(&self.threads);
        let other = c.of(&self.caps);
        let priority = 98 + c.below(5);
        let (cap, label, words, extra): (u64, Label, Vec<u64>, Vec<u64>) = match c.below(24) {
            0 => (t.cap, Label::TcbSuspend, [].into(), [].into()),
            1..=3 | 17..=23 => (t.cap, Label::TcbResume, [].into(), [].into()),
            4 => (
                t.cap,
                Label::TcbSetPriority,
                [priority].into(),
                [slots::TCB].into(),
            ),
            5 => (t.sc, Label::SchedContextUnbind, [].into(), [].into()),
            6 => (
                t.sc,
                Label::SchedContextUnbindObject,
                [].into(),
                [other].into(),
            ),
            7 => (t.sc, Label::SchedContextBind, [].into(), [t.cap].into()),
            8 => (t.sc, Label::SchedContextBind, [].into(), [other].into()),
            9 => (t.sc, Label::SchedContextYieldTo, [].into(), [].into()),
            10 => (t.sc, Label::SchedContextConsumed, [].into(), [].into()),
            11 => {
                let period = 20 + c.below(1500);
                let budget = 20 + c.below(period - 19);
                let words = [budget, period, c.below(10), 1, c.below(2)];
                (
                    SCHED_CONTROL,
                    Label::SchedControlConfigureFlags,
                    words.into(),
                    [t.sc].into(),
                )
            }
            12 => (t.cap, Label::TcbBindNotification, [].into(), [other].into()),
            13 => (t.cap, Label::TcbUnbindNotification, [].into(), [].into()),
            14 => (
                t.cap,
                Label::TcbWriteRegisters,
                [c.below(2), 1, super::stage::PC].into(),
                [].into(),
            ),
            15 => (
                slots::CNODE,
                Label::CNodeCancelBadgedSends,
                [other, 64].into(),
                [].into(),
            ),
            _ => (
                t.cap,
                Label::TcbSetSchedParams,
                [200, priority].into(),
                [slots::TCB, t.sc, other].into(),
            ),
        };
        s.message(current, label.word(), &words, &extra);
        s.syscall_unchecked(current, Syscall::Call, cap, 0);
    }
}

impl Stage {
    fn pass_unchecked(&self, ticks: u64) {
        self.pass_with(ticks, || self.step_threads());
    }

    fn syscall_unchecked(&self, tcb: Ref<Tcb>, call: Syscall, x0: u64, x6: u64) {
        tcb.context.x[0].set(x0);
        tcb.context.x[6].set(x6);
        tcb.context.pc.set(tcb.context.pc.get() + 4);
        self.w.k.handle_syscall(call.word());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(super::cases(500)))]

    #[test]
    fn no_sequence_of_calls_breaks_an_invariant(choices in prop::collection::vec(any::<u64>(), 1..steps(400))) {
        let crowd = Crowd::new();
        for choice in choices {
            crowd.step(choice);
            crowd.s.step_threads();
        }
        crowd.s.check();
        // Whatever happened, everything can be taken apart.
        for t in &crowd.threads {
            for slot in [t.cap, t.sc] {
                crowd.s.w.delete(slot).unwrap();
            }
        }
        for &slot in &crowd.caps {
            if slot > slots::FREE && slot < 1 << 8 {
                crowd.s.w.revoke(slot).unwrap();
                crowd.s.w.delete(slot).unwrap();
            }
        }
        crate::run::scheduler::schedule(&crowd.s.w.k);
        crowd.s.check();
    }
}

/// Threads to be queued, never run.
fn loose(s: &Stage, count: u64) -> Vec<Ref<Tcb>> {
    let first = s.free_slot();
    for _ in 1..count {
        s.free_slot();
    }
    s.w.retype(slots::RAM, ObjectType::Tcb, 0, first, count)
        .unwrap();
    (0..count)
        .map(|n| match s.w.cap(first + n) {
            crate::cap::CapView::Thread(tcb) => tcb,
            other => panic!("{other:?}"),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]

    #[test]
    fn a_wait_queue_is_a_stable_sort(moves in prop::collection::vec((0usize..40, 0u8..6), 1..steps(200))) {
        let s = Stage::new();
        let threads = loose(&s, 40);
        let ep = s.endpoint(s.object(ObjectType::Endpoint));
        let queue: &WaitQueue = &ep.queue;
        let mut model: Vec<(u8, Ref<Tcb>)> = Vec::new();
        for (n, priority) in moves {
            let tcb = threads[n];
            if let Some(at) = model.iter().position(|entry| entry.1 == tcb) {
                queue.remove(tcb);
                model.remove(at);
            } else {
                tcb.thread.priority.set(priority);
                queue.insert(tcb);
                let at = model.iter().take_while(|entry| entry.0 >= priority).count();
                model.insert(at, (priority, tcb));
            }
            let found = crate::check::invariants_ipc::wait_queue(queue).unwrap();
            prop_assert_eq!(found, model.iter().map(|entry| entry.1).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_release_queue_yields_the_earliest(moves in prop::collection::vec((0usize..40, 0u64..50), 1..steps(200))) {
        let s = Stage::new();
        let threads = loose(&s, 40);
        let queue = ReleaseQueue::new();
        let mut model: Vec<(u64, Ref<Tcb>)> = Vec::new();
        for (n, time) in moves {
            let tcb = threads[n];
            if let Some(at) = model.iter().position(|entry| entry.1 == tcb) {
                queue.remove(tcb);
                model.remove(at);
            } else {
                queue.insert(tcb, time);
                model.push((time, tcb));
            }
            crate::check::invariants_ipc::heap(queue.first()).unwrap();
            let earliest = model.iter().map(|entry| entry.0).min();
            prop_assert_eq!(queue.first_time(), earliest.unwrap_or(u64::MAX));
        }
        let mut last = 0;
        while let Some(tcb) = queue.first() {
            prop_assert!(tcb.thread.release_time.get() >= last);
            last = tcb.thread.release_time.get();
            queue.remove(tcb);
            model.retain(|entry| entry.1 != tcb);
        }
        prop_assert!(model.is_empty());
    }

    /// Whatever is charged in whatever pieces: the budget is conserved and refills do not overlap. When each run begins anew, no
    /// window of a period gets more than the budget; when it does not, the rate holds over the whole time.
    #[test]
    fn refills_conserve_the_budget(
        extra in 0u64..9,
        budget in 20u64..500,
        pause in 0u64..2000,
        anew in any::<bool>(),
        runs in prop::collection::vec((1u64..400, 0u64..1500), 1..steps(120)),
    ) {
        let s = Stage::new();
        let sc = s.sc(s.sized(ObjectType::SchedContext, 8));
        let least = us(20);
        let (budget, period) = (us(budget), us(budget + 1 + pause));
        refill::fill(sc, (2 + extra) as u16, budget, period, 0);
        let mut now = 0;
        let mut used: Vec<(u64, u64)> = Vec::new();
        for (run, idle) in runs {
            now += us(idle);
            if !refill::usable(sc, now, least) {
                now = now.max(refill::head_time(sc));
            }
            prop_assert!(refill::usable(sc, now, least), "a head that has come can be used");
            if anew {
                refill::start(sc, now);
            }
            let time = us(run).min(refill::head_amount(sc));
            used.push((now, time));
            now += time;
            let _slice = refill::charge(sc, time, least);
            prop_assert_eq!(refill::total(sc), budget);
            let mut end = 0;
            for (at, amount) in refill::all(sc) {
                prop_assert!(at >= end, "overlap at {}", at);
                end = at + amount;
            }
        }
        if anew {
            for (n, &(start, _)) in used.iter().enumerate() {
                let in_window: u64 = used[n..]
                    .iter()
                    .take_while(|&&(at, _)| at < start + period)
                    .map(|&(at, time)| time.min(start + period - at))
                    .sum();
                prop_assert!(in_window <= budget, "{} of {} from {}", in_window, budget, start);
            }
        } else {
            let sum: u64 = used.iter().map(|&(_, time)| time).sum();
            prop_assert!(sum <= budget * (now / period + 1));
        }
    }
}
