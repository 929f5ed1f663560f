//! The capability derivation tree (seL4 manual, section 3.1.5).
//!
//! All capabilities lie in one doubly linked list, in depth-first preorder: what is derived from a capability follows it. Who is
//! whose child is computed: the parent is an original ([`Derivation::ORIGINAL`]), and the child's object is the
//! parent's or lies inside it; badged endpoints and notifications form groups of their own.
//!
//! # Invariants
//! - All capabilities to one object are neighbours (apart from their descendants), so that the last one sees that it is
//!   the last by looking at the two slots beside it.
//! - An empty slot is in no list and has no flags.

use crate::cap::{Cap, Kind};
use crate::object::Slot;
use crate::object::mem::Ref;
use crate::object::slot::Derivation;

/// Puts `cap` into the empty slot `dest`, right behind `behind` in the list.
///
/// A new object of an untyped goes behind the untyped as an original; a copy behind its source ([`insert_copy`]).
#[inline]
pub fn insert(cap: Cap, behind: Ref<Slot>, dest: Ref<Slot>, derivation: Derivation) {
    let next = behind.next.get();
    dest.cap.set(cap);
    dest.next.set(next);
    dest.set_prev_and_derivation(Some(behind), derivation);
    behind.next.set(Some(dest));
    if let Some(next) = next {
        next.set_prev(Some(dest));
    }
}

/// Puts the first capability of all into the empty slot `dest`: it starts the list.
pub fn insert_first(cap: Cap, dest: Ref<Slot>) {
    dest.cap.set(cap);
    dest.next.set(None);
    dest.set_prev_and_derivation(None, Derivation::ORIGINAL);
}

/// Puts `cap`, derived from the capability in `source`, into the empty slot `dest`.
///
/// Copies of an untyped and newly badged capabilities are originals again. Copying an untyped uses up the source: all of
/// its memory is the copy's until that is revoked.
#[inline]
pub fn insert_copy(cap: Cap, source: Ref<Slot>, dest: Ref<Slot>) {
    let from = source.cap.get();
    let derivation = match cap.kind() {
        Kind::ENDPOINT | Kind::NOTIFICATION | Kind::SMC if cap.word() != from.word() => {
            Derivation::ORIGINAL
        }
        Kind::UNTYPED => {
            source.cap.set(from.with_untyped_full());
            Derivation::ORIGINAL
        }
        _ => Derivation::COPY,
    };
    insert(cap, source, dest, derivation);
}

/// Moves the capability of `source`, changed to `cap`, into the empty slot `dest`; its place in the tree stays.
#[inline]
pub fn relocate(cap: Cap, source: Ref<Slot>, dest: Ref<Slot>) {
    let prev = source.prev();
    let next = source.next.get();
    dest.cap.set(cap);
    dest.next.set(next);
    dest.set_prev_and_derivation(prev, source.derivation());
    clear(source);
    if let Some(prev) = prev {
        prev.next.set(Some(dest));
    }
    if let Some(next) = next {
        next.set_prev(Some(dest));
    }
}

/// Exchanges two slots; `cap_for_a` and `cap_for_b` are what was in the other one, perhaps changed. Either may be empty.
pub fn swap(a: Ref<Slot>, b: Ref<Slot>, cap_for_a: Cap, cap_for_b: Cap) {
    if a == b {
        return;
    }
    let (prev_a, next_a, flags_a) = (a.prev(), a.next.get(), a.derivation());
    let (prev_b, next_b, flags_b) = (b.prev(), b.next.get(), b.derivation());
    // Where one is the other's neighbour, it finds itself there after the exchange.
    let through = |link: Option<Ref<Slot>>, own: Ref<Slot>, other: Ref<Slot>| match link {
        Some(slot) if slot == own => Some(other),
        link => link,
    };
    let new_prev_a = through(prev_b, a, b);
    let new_next_a = through(next_b, a, b);
    let new_prev_b = through(prev_a, b, a);
    let new_next_b = through(next_a, b, a);
    a.cap.set(cap_for_a);
    a.set_prev_and_derivation(new_prev_a, flags_b);
    a.next.set(new_next_a);
    b.cap.set(cap_for_b);
    b.set_prev_and_derivation(new_prev_b, flags_a);
    b.next.set(new_next_b);
    for slot in [a, b] {
        if slot.cap.get().is_null() {
            continue;
        }
        if let Some(prev) = slot.prev() {
            prev.next.set(Some(slot));
        }
        if let Some(next) = slot.next.get() {
            next.set_prev(Some(slot));
        }
    }
}

/// Takes the capability out of the list and empties the slot. What was derived from it stays where it is.
#[inline]
pub fn remove(slot: Ref<Slot>) {
    let prev = slot.prev();
    let next = slot.next.get();
    if let Some(prev) = prev {
        prev.next.set(next);
    }
    if let Some(next) = next {
        next.set_prev(prev);
        next.inherit_first_badged(slot.derivation());
    }
    clear(slot);
}

#[inline]
fn clear(slot: Ref<Slot>) {
    slot.cap.set(Cap::NULL);
    slot.next.set(None);
    slot.set_prev_and_derivation(None, Derivation::COPY);
}

/// Whether the capability in `child`, which follows `parent` in the list, is derived from it.
#[inline]
#[must_use]
pub fn is_child(parent: Ref<Slot>, child: Ref<Slot>) -> bool {
    if !parent.derivation().revocable() {
        return false;
    }
    let (above, below) = (parent.cap.get(), child.cap.get());
    match above.kind() {
        Kind::UNTYPED => above.untyped_contains(below),
        Kind::IRQ_CONTROL => matches!(
            below.kind(),
            Kind::IRQ_HANDLER | Kind::SGI | Kind::IRQ_CONTROL
        ),
        Kind::ENDPOINT | Kind::NOTIFICATION | Kind::SMC => {
            above.same_object(below)
                && (above.word() == 0
                    || (above.word() == below.word() && !child.derivation().first_badged()))
        }
        _ => above.same_object(below),
    }
}

/// The first child, if any: children follow their parent directly.
#[inline]
#[must_use]
pub fn first_child(slot: Ref<Slot>) -> Option<Ref<Slot>> {
    let next = slot.next.get()?;
    if is_child(slot, next) {
        Some(next)
    } else {
        None
    }
}

/// Whether no other capability to the same object exists.
#[inline]
#[must_use]
pub fn is_last(slot: Ref<Slot>) -> bool {
    let cap = slot.cap.get();
    if let Some(next) = slot.next.get()
        && cap.same_object(next.cap.get())
    {
        return false;
    }
    if let Some(prev) = slot.prev()
        && cap.same_object(prev.cap.get())
    {
        return false;
    }
    true
}
