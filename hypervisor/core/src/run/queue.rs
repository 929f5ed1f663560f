//! Wait queues of endpoints and notifications: highest priority first, first come first served within one priority.
//!
//! All waiters form one doubly linked list. The first waiter of each priority also links to the first ones of the neighbouring
//! priorities, so that an insertion looks at most at one thread for each of the 256 priorities, however many wait.
//!
//! # Invariants
//! - A thread's priority does not change while it is queued (`thread::set_priority` takes it out first).
//! - `wait_first` of the last waiter of a priority is the first one of that priority, whose `wait_last` is the last one;
//!   `wait_higher`/`wait_lower` are valid in first waiters only.

use crate::object::mem::Ref;
use crate::object::{Tcb, WaitQueue};

/// Number of priorities: more distinct ones cannot wait.
const PRIORITIES: usize = 256;

impl WaitQueue {
    /// Adds a thread behind all others of its priority.
    #[inline]
    pub fn insert(&self, tcb: Ref<Tcb>) {
        match self.tail.get() {
            Some(tail) => self.insert_among(tcb, tail),
            None => self.insert_first(tcb),
        }
    }

    /// [`Self::insert`] where others wait, `tail` the last of them.
    #[inline(never)]
    fn insert_among(&self, tcb: Ref<Tcb>, tail: Ref<Tcb>) {
        let t = &tcb.thread;
        let priority = t.priority.get();
        let last_priority = tail.thread.priority.get();
        if priority <= last_priority {
            t.wait_prev.set(Some(tail));
            t.wait_next.set(None);
            tail.thread.wait_next.set(Some(tcb));
            self.tail.set(Some(tcb));
            let first = tail.thread.wait_first.get();
            if priority == last_priority {
                join(tcb, first);
            } else {
                lone(tcb, first, None);
            }
            return;
        }
        self.insert_inside(tcb, priority);
    }

    /// [`Self::insert`] into an empty queue.
    #[inline(always)]
    pub fn insert_first(&self, tcb: Ref<Tcb>) {
        let t = &tcb.thread;
        t.wait_prev.set(None);
        t.wait_next.set(None);
        self.head.set(Some(tcb));
        self.tail.set(Some(tcb));
        lone(tcb, None, None);
    }

    /// [`Self::insert`] before the last priority's group.
    fn insert_inside(&self, tcb: Ref<Tcb>, priority: u8) {
        let mut group = self.head.get();
        for _ in 0..PRIORITIES {
            let Some(first) = group else { return };
            let found = first.thread.priority.get();
            if found == priority {
                let last = first.thread.wait_last.get();
                let next = last.and_then(|last| last.thread.wait_next.get());
                self.link(last, tcb, next);
                join(tcb, Some(first));
                return;
            }
            if found < priority {
                let higher = first.thread.wait_higher.get();
                self.link(first.thread.wait_prev.get(), tcb, Some(first));
                lone(tcb, higher, Some(first));
                return;
            }
            group = first.thread.wait_lower.get();
        }
    }

    fn link(&self, prev: Option<Ref<Tcb>>, tcb: Ref<Tcb>, next: Option<Ref<Tcb>>) {
        tcb.thread.wait_prev.set(prev);
        tcb.thread.wait_next.set(next);
        match prev {
            Some(prev) => prev.thread.wait_next.set(Some(tcb)),
            None => self.head.set(Some(tcb)),
        }
        match next {
            Some(next) => next.thread.wait_prev.set(Some(tcb)),
            None => self.tail.set(Some(tcb)),
        }
    }

    /// Takes a queued thread out.
    #[inline]
    pub fn remove(&self, tcb: Ref<Tcb>) {
        let t = &tcb.thread;
        let prev = t.wait_prev.get();
        let next = t.wait_next.get();
        if prev.is_some() || next.is_some() {
            self.remove_between(tcb, prev, next);
        } else {
            self.head.set(None);
            self.tail.set(None);
        }
    }

    /// [`Self::remove`] where others wait.
    #[inline(never)]
    fn remove_between(&self, tcb: Ref<Tcb>, prev: Option<Ref<Tcb>>, next: Option<Ref<Tcb>>) {
        match prev {
            Some(prev) => prev.thread.wait_next.set(next),
            None => self.head.set(next),
        }
        match next {
            Some(next) => next.thread.wait_prev.set(prev),
            None => self.tail.set(prev),
        }
        leave_group(tcb, prev, next);
    }
}

/// Makes `tcb` the only one of its priority.
#[inline]
fn lone(tcb: Ref<Tcb>, higher: Option<Ref<Tcb>>, lower: Option<Ref<Tcb>>) {
    let t = &tcb.thread;
    t.wait_first.set(Some(tcb));
    t.wait_last.set(Some(tcb));
    t.wait_higher.set(higher);
    t.wait_lower.set(lower);
    if let Some(higher) = higher {
        higher.thread.wait_lower.set(Some(tcb));
    }
    if let Some(lower) = lower {
        lower.thread.wait_higher.set(Some(tcb));
    }
}

/// Makes `tcb` the last one of the group that starts with `first`.
#[inline]
fn join(tcb: Ref<Tcb>, first: Option<Ref<Tcb>>) {
    tcb.thread.wait_first.set(first);
    if let Some(first) = first {
        first.thread.wait_last.set(Some(tcb));
    }
}

/// Repairs the group links around a thread that has been unlinked from between `prev` and `next`.
fn leave_group(tcb: Ref<Tcb>, prev: Option<Ref<Tcb>>, next: Option<Ref<Tcb>>) {
    let t = &tcb.thread;
    let priority = t.priority.get();
    let same = |other: Option<Ref<Tcb>>| other.filter(|o| o.thread.priority.get() == priority);
    match (same(prev), same(next)) {
        (None, None) => {
            let higher = t.wait_higher.get();
            let lower = t.wait_lower.get();
            if let Some(higher) = higher {
                higher.thread.wait_lower.set(lower);
            }
            if let Some(lower) = lower {
                lower.thread.wait_higher.set(higher);
            }
        }
        (None, Some(next)) => {
            let higher = t.wait_higher.get();
            let lower = t.wait_lower.get();
            let last = t.wait_last.get();
            next.thread.wait_higher.set(higher);
            next.thread.wait_lower.set(lower);
            next.thread.wait_last.set(last);
            if let Some(last) = last {
                last.thread.wait_first.set(Some(next));
            }
            if let Some(higher) = higher {
                higher.thread.wait_lower.set(Some(next));
            }
            if let Some(lower) = lower {
                lower.thread.wait_higher.set(Some(next));
            }
        }
        (Some(prev), None) => {
            let first = t.wait_first.get();
            prev.thread.wait_first.set(first);
            if let Some(first) = first {
                first.thread.wait_last.set(Some(prev));
            }
        }
        (Some(_), Some(_)) => {}
    }
}
