//! The release queue: threads that wait until their scheduling context has budget again, and guests that wait for their timer,
//! earliest first.
//!
//! A leftist heap linked through the TCBs. The right spine of a heap of n threads has at most log2(n + 1) nodes, so insertion and
//! removal of any thread take at most that many steps; nothing recurses.
//!
//! # Invariants
//! - A thread's `release_time` is not before its parent's.
//! - `release_rank` is one more than the right child's; the left child's is not smaller than the right child's.

use crate::object::mem::Ref;
use crate::object::{Tcb, queued};
use core::cell::Cell;

/// The heap.
pub struct ReleaseQueue {
    root: Cell<Option<Ref<Tcb>>>,
}

impl Default for ReleaseQueue {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
fn rank(tcb: Option<Ref<Tcb>>) -> u8 {
    tcb.map_or(0, |t| t.thread.release_rank.get())
}

/// Restores the order of ranks at one node; whether its rank changed.
fn settle(node: Ref<Tcb>) -> bool {
    let t = &node.thread;
    let left = t.release_left.get();
    let right = t.release_right.get();
    let (left_rank, right_rank) = (rank(left), rank(right));
    let least = if left_rank < right_rank {
        t.release_left.set(right);
        t.release_right.set(left);
        left_rank
    } else {
        right_rank
    };
    let new = least.wrapping_add(1);
    let changed = new != t.release_rank.get();
    t.release_rank.set(new);
    changed
}

/// Merges two heaps; the result's parent is `None`.
fn merge(a: Option<Ref<Tcb>>, b: Option<Ref<Tcb>>) -> Option<Ref<Tcb>> {
    let (mut a, mut b) = (a, b);
    let mut root = None;
    let mut last: Option<Ref<Tcb>> = None;
    // Down the two right spines, the earlier node first. At most 2 * 64 rounds: each takes a node of a right spine.
    loop {
        let next = match (a, b) {
            (Some(x), Some(y)) => {
                if y.thread.release_time.get() < x.thread.release_time.get() {
                    b = y.thread.release_right.get();
                    y
                } else {
                    a = x.thread.release_right.get();
                    x
                }
            }
            (Some(rest), None) | (None, Some(rest)) => {
                attach(&mut root, last, rest);
                break;
            }
            (None, None) => break,
        };
        attach(&mut root, last, next);
        last = Some(next);
    }
    // Back up.
    while let Some(node) = last {
        settle(node);
        last = node.thread.release_parent.get();
    }
    root
}

/// Makes `node` the right child of `last`, or the root.
fn attach(root: &mut Option<Ref<Tcb>>, last: Option<Ref<Tcb>>, node: Ref<Tcb>) {
    node.thread.release_parent.set(last);
    match last {
        Some(last) => last.thread.release_right.set(Some(node)),
        None => *root = Some(node),
    }
}

impl ReleaseQueue {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            root: Cell::new(None),
        }
    }

    /// The thread that is released next.
    #[inline]
    #[must_use]
    pub fn first(&self) -> Option<Ref<Tcb>> {
        self.root.get()
    }

    /// When the first thread is released; `u64::MAX` when none waits.
    #[inline]
    #[must_use]
    pub fn first_time(&self) -> u64 {
        self.root
            .get()
            .map_or(u64::MAX, |t| t.thread.release_time.get())
    }

    /// Adds a thread that is in no queue of the scheduler.
    pub fn insert(&self, tcb: Ref<Tcb>, time: u64) {
        let t = &tcb.thread;
        t.queued.set(t.queued.get() | queued::RELEASE);
        t.release_time.set(time);
        t.release_left.set(None);
        t.release_right.set(None);
        t.release_parent.set(None);
        t.release_rank.set(1);
        self.root.set(merge(self.root.get(), Some(tcb)));
    }

    /// Takes a thread out that is in it.
    pub fn remove(&self, tcb: Ref<Tcb>) {
        let t = &tcb.thread;
        t.queued.set(t.queued.get() & !queued::RELEASE);
        let parent = t.release_parent.get();
        let rest = merge(t.release_left.get(), t.release_right.get());
        if let Some(rest) = rest {
            rest.thread.release_parent.set(parent);
        }
        let Some(parent) = parent else {
            self.root.set(rest);
            return;
        };
        if parent.thread.release_left.get() == Some(tcb) {
            parent.thread.release_left.set(rest);
        } else {
            parent.thread.release_right.set(rest);
        }
        // Ranks rise by one with each step up as long as they change, so this ends after at most 64 steps.
        let mut node = Some(parent);
        while let Some(n) = node {
            if !settle(n) {
                break;
            }
            node = n.thread.release_parent.get();
        }
    }
}
