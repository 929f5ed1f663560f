//! The fastpath does what the slow path does: the same system calls on two equal kernels, one of which never takes it.

use super::stage::{Stage, Thread};
use crate::arch::Arch;
use crate::check::fixture::slots;
use crate::check::invariants::all_slots;
use crate::object::Tcb;
use crate::object::mem::Ref;
use crate::run::fault::{self, Access, Fault};
use crate::run::scheduler;
use crate::syscall::fastpath::{self, Path};
use crate::syscall::slowpath;
use proptest::prelude::*;
use sel4_sys::{Invocation as Label, ObjectType, Syscall};
use std::format;
use std::string::String;
use std::vec::Vec;

struct Scene {
    s: Stage,
    threads: [Thread; 4],
    eps: [u64; 2],
    replies: [u64; 2],
    signals: u64,
    /// Empty slots at first: capabilities arrive here, and are moved about.
    spare: [u64; 4],
}

impl Scene {
    /// Servers without time of their own, or with it.
    fn new(servers_are: Servers) -> Self {
        let s = Stage::new();
        let signals = s.object(ObjectType::Notification);
        let pause = s.object(ObjectType::Notification);
        let eps = [
            s.object(ObjectType::Endpoint),
            s.object(ObjectType::Endpoint),
        ];
        let replies = [s.object(ObjectType::Reply), s.object(ObjectType::Reply)];
        let servers = [s.active(60), s.active(70)];
        s.boss_waits(pause);
        for n in [1, 0] {
            s.recv(servers[n].tcb, eps[n], replies[n]);
        }
        s.wake_boss(pause);
        for (t, period_us) in servers.into_iter().zip([1000, 3000]) {
            if servers_are == Servers::Passive {
                s.must(t.sc, Label::SchedContextUnbind, &[], &[]);
            } else {
                s.configure(t.sc, 1000, period_us, 0, 0);
            }
        }
        let threads = [servers[0], servers[1], s.active(50), s.active(65)];
        // The lower client's faults go to the lower server.
        s.must(
            threads[2].cap,
            Label::TcbSetSchedParams,
            &[255, 50],
            &[slots::TCB, threads[2].sc, eps[0]],
        );
        let spare = [(); 4].map(|()| s.free_slot());
        for (thread, index) in threads.iter().zip(spare) {
            let buffer = crate::run::ipc::receive_buffer(thread.tcb);
            for (at, word) in [(1000, slots::CNODE), (1008, index), (1016, 64)] {
                s.w.k.arch.write_word(buffer + at, word);
            }
        }
        s.boss_waits(pause);
        Self {
            s,
            threads,
            eps,
            replies,
            signals,
            spare,
        }
    }

    /// Everything that a thread or a scheduler could notice, without addresses.
    fn picture(&self) -> String {
        let place = |tcb: Option<Ref<Tcb>>| {
            tcb.map(|t| self.threads.iter().position(|thread| thread.tcb == t))
        };
        let mut picture = format!("{:?}", place(self.s.current()));
        for t in &self.threads {
            let f = &t.tcb.thread;
            let c = &t.tcb.context;
            let x: Vec<u64> = c.x.iter().map(|x| x.get()).collect();
            let owner = self
                .threads
                .iter()
                .position(|o| f.sched_context.get() == Some(self.s.sc(o.sc)));
            let reply = self
                .replies
                .iter()
                .position(|&r| f.reply.get() == Some(self.s.reply(r)));
            let ep = self
                .eps
                .iter()
                .position(|&e| f.endpoint.get() == Some(self.s.endpoint(e)));
            let sc = self.s.sc(t.sc);
            picture += &format!(
                "\n{:?} {} {} {owner:?} {reply:?} {ep:?} {:?} {} {:x?} sc {:?} {:?}",
                f.state.get(),
                f.ipc_flags.get(),
                f.queued.get(),
                place(sc.tcb.get()),
                c.pc.get(),
                x,
                sc.consumed.get(),
                crate::run::refill::all(sc).collect::<Vec<_>>(),
            );
        }
        for slot in self.spare {
            let cap = self.s.w.slot(slot).cap.get();
            picture += &format!(" {:?}:{:x}", cap.kind(), cap.word());
        }
        let order = all_slots(self.s.w.slot(slots::CNODE)).into_iter();
        let order: Vec<_> = order
            .map(|slot| self.spare.iter().position(|&s| self.s.w.slot(s) == slot))
            .collect();
        picture += &format!(" {order:?}");
        let signals = self.s.notification(self.signals);
        picture
            + &format!(
                " {} {} {}",
                self.s.w.k.arch.deadline(),
                signals.active.get(),
                signals.word.get()
            )
    }

    /// One system call by whoever runs.
    fn call(&self, choice: (u8, u8, u8, u8), way: Way) -> bool {
        let (call, cap, reply, words) = choice;
        let Some(current) = self.s.current() else {
            return false;
        };
        match call % 16 {
            10 if current == self.threads[2].tcb => return self.fault(current, cap, way),
            11 => return self.call_object(current, cap, words, way),
            12 => {
                let extra =
                    [self.eps[0], self.eps[1], self.signals, 0xffff][usize::from(words % 4)];
                self.s.message(current, 5, &[7, 8], &[extra]);
                let ep = self.eps[usize::from(cap % 2)];
                return self.make(current, Syscall::Call, ep, reply, way);
            }
            _ => {}
        }
        let call = [
            Syscall::Call,
            Syscall::Call,
            Syscall::ReplyRecv,
            Syscall::ReplyRecv,
            Syscall::Recv,
            Syscall::Send,
            Syscall::NBSend,
            Syscall::Wait,
            Syscall::NBWait,
        ][usize::from(call % 9)];
        let about_signals = matches!(
            call,
            Syscall::Send | Syscall::NBSend | Syscall::Wait | Syscall::NBWait
        );
        self.s.message(
            current,
            5,
            &[7, 8, 9, 10, 11][..usize::from(words % 6)],
            &[],
        );
        let target = if about_signals {
            self.signals
        } else {
            self.eps[usize::from(cap % 2)]
        };
        self.make(current, call, target, reply, way)
    }

    /// A fault of the thread whose handler is the lower server.
    fn fault(&self, current: Ref<Tcb>, which: u8, way: Way) -> bool {
        let fault = match which % 3 {
            0 => Fault::Vm {
                addr: 1,
                fsr: 2,
                access: Access::Data,
            },
            1 => Fault::Vcpu { esr: 3 },
            _ => Fault::UnknownSyscall { number: 4 },
        };
        let k = &self.s.w.k;
        current.thread.fault.set(fault);
        let taken = way == Way::Fast && fastpath::fault(k, current) == Path::Taken;
        if !taken {
            fault::raise(k, current, fault);
            scheduler::schedule(k);
        }
        self.s.step_threads();
        taken
    }

    /// An operation of a CNode or a thread, some of them mistaken.
    fn call_object(&self, current: Ref<Tcb>, which: u8, more: u8, way: Way) -> bool {
        let [a, b] = [more, more / 4].map(|n| self.spare[usize::from(n % 4)]);
        let thread = self.threads[usize::from(more % 4)];
        let root = slots::CNODE;
        let copy = [a, 64, self.signals, 64, 15];
        let (target, label, words, extra): (u64, Label, &[u64], &[u64]) = match which % 10 {
            0 => (root, Label::CNodeCopy, &copy, &[root]),
            1 => (
                root,
                Label::CNodeMint,
                &[a, 64, self.eps[0], 64, 15, 9],
                &[root],
            ),
            2 => (root, Label::CNodeMove, &[a, 64, b, 64], &[root]),
            3 => (root, Label::CNodeDelete, &[a, 64], &[]),
            4 => (root, Label::CNodeRevoke, &[self.signals, 64], &[]),
            5 => (root, Label::CNodeCopy, &copy[..4], &[root]),
            6 => (root, Label::CNodeDelete, &[a, 65], &[]),
            7 => (thread.cap, Label::TcbSetPriority, &[55], &[slots::TCB]),
            8 => (thread.cap, Label::TcbSuspend, &[], &[]),
            _ => (thread.cap, Label::TcbResume, &[], &[]),
        };
        self.s.message(current, label.word(), words, extra);
        self.make(current, Syscall::Call, target, 0, way)
    }

    fn make(&self, current: Ref<Tcb>, call: Syscall, target: u64, reply: u8, way: Way) -> bool {
        current.context.x[0].set(target);
        current.context.x[6].set(self.replies[usize::from(reply % 2)]);
        current.context.pc.set(current.context.pc.get() + 4);
        let k = &self.s.w.k;
        let taken =
            way == Way::Fast && fastpath::system_call(k, current, call.word()) == Path::Taken;
        if !taken {
            slowpath::dispatch(k, call.word());
            scheduler::schedule(k);
        }
        self.s.step_threads();
        taken
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Servers {
    Passive,
    Active,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Fast,
    Slow,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]

    #[test]
    fn the_fastpath_is_the_slow_path(
        passive in any::<bool>(),
        steps in prop::collection::vec((any::<(u8, u8, u8, u8)>(), 0u64..30_000), 1..super::steps(40))
    ) {
        let servers = if passive { Servers::Passive } else { Servers::Active };
        let (a, b) = (Scene::new(servers), Scene::new(servers));
        for (choice, ticks) in steps {
            a.call(choice, Way::Fast);
            b.call(choice, Way::Slow);
            prop_assert_eq!(a.picture(), b.picture());
            a.s.pass_with(ticks, || ());
            b.s.pass_with(ticks, || ());
            prop_assert_eq!(a.picture(), b.picture());
        }
    }
}

#[test]
fn call_and_answer_take_it() {
    for servers in [Servers::Passive, Servers::Active] {
        let scene = Scene::new(servers);
        // The highest client calls the higher server, and is answered, again and again; with short and long messages.
        for words in [3, 5, 0] {
            assert!(scene.call((0, 1, 0, words), Way::Fast), "{servers:?}");
            assert!(scene.call((2, 1, 1, words), Way::Fast), "{servers:?}");
        }
        // With a capability, and with one to the endpoint itself; the answer.
        for extra in [2, 1] {
            assert!(scene.call((12, 1, 0, extra), Way::Fast), "{servers:?}");
            assert!(scene.call((2, 1, 1, 0), Way::Fast), "{servers:?}");
        }
        // Signals nobody waits for, and taking them.
        assert!(scene.call((5, 0, 0, 0), Way::Fast));
        assert!(scene.call((7, 0, 0, 0), Way::Fast));
        assert!(scene.call((8, 0, 0, 0), Way::Fast));
        for which in 0..10 {
            assert!(scene.call((11, which, 0, 2), Way::Fast), "{which}");
        }
        assert!(scene.call((7, 0, 0, 0), Way::Fast), "it blocks");
        // The lower client runs now.
        assert!(scene.call((10, 0, 0, 0), Way::Fast), "its handler waits");
    }
}
