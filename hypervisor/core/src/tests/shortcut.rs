//! The direct way does what the long way does: the same system calls on two equal kernels, one of which never takes it.

use super::stage::{Stage, Thread};
use crate::direct::{self, Path};
use crate::mem::Ref;
use crate::object::Tcb;
use crate::scheduler;
use crate::syscall;
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
            &[crate::fixture::slots::TCB, threads[2].sc, eps[0]],
        );
        s.boss_waits(pause);
        Self {
            s,
            threads,
            eps,
            replies,
            signals,
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
                crate::refill::all(sc).collect::<Vec<_>>(),
            );
        }
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
        if call % 11 == 10 && current == self.threads[2].tcb {
            let k = &self.s.w.k;
            match cap % 3 {
                0 => k.handle_vm_fault(1, 2, crate::fault::Access::Data),
                1 => k.handle_vcpu_fault(3),
                _ => k.handle_unknown_syscall(4),
            }
            self.s.check_threads();
            return false;
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
        current.context.x[0].set(if about_signals {
            self.signals
        } else {
            self.eps[usize::from(cap % 2)]
        });
        current.context.x[6].set(self.replies[usize::from(reply % 2)]);
        current.context.pc.set(current.context.pc.get() + 4);
        let k = &self.s.w.k;
        let taken =
            way == Way::Direct && direct::system_call(k, current, call.word()) == Path::Taken;
        if !taken {
            syscall::dispatch(k, call.word());
            scheduler::schedule(k);
        }
        self.s.check_threads();
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
    Direct,
    Long,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]

    #[test]
    fn the_direct_way_is_the_long_way(
        passive in any::<bool>(),
        steps in prop::collection::vec((any::<(u8, u8, u8, u8)>(), 0u64..30_000), 1..40)
    ) {
        let servers = if passive { Servers::Passive } else { Servers::Active };
        let (a, b) = (Scene::new(servers), Scene::new(servers));
        for (choice, ticks) in steps {
            a.call(choice, Way::Direct);
            b.call(choice, Way::Long);
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
            assert!(scene.call((0, 1, 0, words), Way::Direct), "{servers:?}");
            assert!(scene.call((2, 1, 1, words), Way::Direct), "{servers:?}");
        }
        // Signals nobody waits for, and taking them.
        assert!(scene.call((5, 0, 0, 0), Way::Direct));
        assert!(scene.call((7, 0, 0, 0), Way::Direct));
        assert!(scene.call((8, 0, 0, 0), Way::Direct));
        assert!(!scene.call((7, 0, 0, 0), Way::Direct), "it blocks");
    }
}
