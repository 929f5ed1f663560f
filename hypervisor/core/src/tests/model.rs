//! The derivation tree against a model that keeps explicit parents: revoke takes exactly the descendants, and what is derived
//! from what follows the manual (section 3.1.5), whatever was deleted and moved in between.

use crate::cap::CapView;
use crate::check::fixture::{World, slots};
use crate::cspace::cdt;
use crate::object::error::Error;
use proptest::prelude::*;
use sel4_sys::{Invocation as Label, ObjectType};
use std::collections::BTreeMap;
use std::vec::Vec;

/// Slots of the root CNode that take part.
const FIRST: u64 = 20;
const COUNT: u64 = 14;
/// Untyped memory that all objects come from.
const UNTYPED: u64 = 19;

#[derive(Clone, Debug)]
enum Operation {
    Retype { dest: u64, what: bool },
    Copy { dest: u64, source: u64 },
    Mint { dest: u64, source: u64, badge: u64 },
    Move { dest: u64, source: u64 },
    Swap { a: u64, b: u64 },
    Delete { slot: u64 },
    Revoke { slot: u64 },
}

/// A capability in the model.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    /// The node that it is derived from; `None`: the untyped.
    parent: Option<u64>,
    /// Whether copies of it are its children (else its siblings).
    original: bool,
    /// Whether it can have a badge, and which.
    badge: Option<u64>,
}

#[derive(Default)]
struct Model {
    /// Node in each slot.
    slots: BTreeMap<u64, u64>,
    nodes: BTreeMap<u64, Node>,
    next: u64,
}

impl Model {
    fn add(&mut self, slot: u64, node: Node) {
        self.next += 1;
        self.slots.insert(slot, self.next);
        self.nodes.insert(self.next, node);
    }

    fn derive(&mut self, dest: u64, source: u64, badge: Option<u64>) {
        let id = self.slots[&source];
        let from = self.nodes[&id];
        let parent = if from.original { Some(id) } else { from.parent };
        let node = Node {
            parent,
            original: badge.is_some_and(|badge| Some(badge) != from.badge),
            badge: badge.or(from.badge),
        };
        self.add(dest, node);
    }

    fn remove(&mut self, slot: u64) {
        let Some(id) = self.slots.remove(&slot) else {
            return;
        };
        let gone = self.nodes.remove(&id).expect("a node");
        for node in self.nodes.values_mut() {
            if node.parent == Some(id) {
                node.parent = gone.parent;
            }
        }
    }

    fn is_below(&self, mut id: u64, above: u64) -> bool {
        while let Some(parent) = self.nodes[&id].parent {
            if parent == above {
                return true;
            }
            id = parent;
        }
        false
    }

    /// The slots of everything that is derived from what is in `slot`, in order.
    fn below(&self, slot: u64) -> Vec<u64> {
        let Some(&id) = self.slots.get(&slot) else {
            return Vec::new();
        };
        self.slots
            .iter()
            .filter(|&(_, &other)| self.is_below(other, id))
            .map(|(&slot, _)| slot)
            .collect()
    }

    fn revoke(&mut self, slot: u64) {
        for slot in self.below(slot) {
            self.remove(slot);
        }
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    let slot = || FIRST..FIRST + COUNT;
    prop_oneof![
        1 => (slot(), any::<bool>()).prop_map(|(dest, what)| Operation::Retype { dest, what }),
        6 => (slot(), slot()).prop_map(|(dest, source)| Operation::Copy { dest, source }),
        6 => (slot(), slot(), 0u64..3).prop_map(
            |(dest, source, badge)| Operation::Mint { dest, source, badge }
        ),
        2 => (slot(), slot()).prop_map(|(dest, source)| Operation::Move { dest, source }),
        1 => (slot(), slot()).prop_map(|(a, b)| Operation::Swap { a, b }),
        4 => slot().prop_map(|slot| Operation::Delete { slot }),
        1 => slot().prop_map(|slot| Operation::Revoke { slot }),
    ]
}

/// The nearest slot at or after `slot` that is full (or empty), so that most operations do something.
fn nearest(w: &World, slot: u64, full: bool) -> u64 {
    (0..COUNT)
        .map(|step| FIRST + (slot - FIRST + step) % COUNT)
        .find(|&index| w.slot(index).cap.get().is_null() != full)
        .unwrap_or(slot)
}

/// The same operation on slots that suit it, seven times out of eight.
fn aimed(w: &World, operation: &Operation) -> Operation {
    let mut aimed = operation.clone();
    match &mut aimed {
        Operation::Retype { dest, .. } => *dest = nearest(w, *dest, false),
        Operation::Copy { dest, source }
        | Operation::Mint { dest, source, .. }
        | Operation::Move { dest, source } => {
            *dest = nearest(w, *dest, false);
            *source = nearest(w, *source, true);
        }
        Operation::Swap { a, b } => {
            *a = nearest(w, *a, true);
            *b = nearest(w, *b, true);
        }
        Operation::Delete { slot } | Operation::Revoke { slot } => *slot = nearest(w, *slot, true),
    }
    aimed
}

fn apply(w: &World, model: &mut Model, operation: &Operation) {
    let full = |slot: u64| !w.slot(slot).cap.get().is_null();
    match *operation {
        Operation::Retype { dest, what } => {
            let object_type = if what {
                ObjectType::Endpoint
            } else {
                ObjectType::Reply
            };
            match w.retype(UNTYPED, object_type, 0, dest, 1) {
                Ok(_) => model.add(
                    dest,
                    Node {
                        parent: None,
                        original: true,
                        badge: what.then_some(0),
                    },
                ),
                Err(error) => assert!(full(dest), "{error:?}"),
            }
        }
        Operation::Copy { dest, source } => {
            if w.copy(dest, source).is_ok() {
                model.derive(dest, source, None);
            } else {
                assert!(full(dest) || !full(source));
            }
        }
        Operation::Mint {
            dest,
            source,
            badge,
        } => {
            let badged = matches!(w.cap(source), CapView::Endpoint { badge: 1.., .. });
            match w.mint(dest, source, badge) {
                Ok(_) => {
                    let is_endpoint = matches!(w.cap(dest), CapView::Endpoint { .. });
                    model.derive(dest, source, is_endpoint.then_some(badge));
                }
                Err(Error::IllegalOperation) => assert!(badged),
                Err(error) => assert!(full(dest) || !full(source), "{error:?}"),
            }
        }
        Operation::Move { dest, source } => {
            if w.relocate(dest, source).is_ok() {
                let id = model.slots.remove(&source).expect("it was full");
                model.slots.insert(dest, id);
            }
        }
        Operation::Swap { a, b } => {
            let words = [a, 64, 0, b, 64, 0, a, 64];
            let root = [slots::CNODE, slots::CNODE];
            if w.call(slots::CNODE, Label::CNodeRotate, &words, &root)
                .is_ok()
            {
                let (id_a, id_b) = (model.slots[&a], model.slots[&b]);
                model.slots.insert(a, id_b);
                model.slots.insert(b, id_a);
            }
        }
        Operation::Delete { slot } => {
            w.delete(slot).unwrap();
            model.remove(slot);
        }
        Operation::Revoke { slot } => {
            w.revoke(slot).unwrap();
            model.revoke(slot);
        }
    }
    let full: Vec<u64> = (FIRST..FIRST + COUNT).filter(|&slot| full(slot)).collect();
    let expected: Vec<u64> = model.slots.keys().copied().collect();
    assert_eq!(full, expected, "after {operation:?}");
    for &slot in &full {
        assert_eq!(
            children(w, slot),
            model.below(slot),
            "what slot {slot} has below it after {operation:?}"
        );
    }
}

/// The slots that a revoke of `slot` would empty, in order.
fn children(w: &World, slot: u64) -> Vec<u64> {
    let above = w.slot(slot);
    let mut found = Vec::new();
    let mut at = above.next.get();
    while let Some(child) = at
        && cdt::is_child(above, child)
    {
        found.extend((FIRST..FIRST + COUNT).find(|&index| w.slot(index) == child));
        at = child.next.get();
    }
    found.sort_unstable();
    found
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 128 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_derivation_tree_is_the_manuals(operations in prop::collection::vec(operation(), 1..super::steps(100))) {
        let w = World::new();
        w.retype(slots::RAM, ObjectType::Untyped, 13, UNTYPED, 1).unwrap();
        let mut model = Model::default();
        for (n, operation) in operations.iter().enumerate() {
            if n % 8 == 7 {
                apply(&w, &mut model, operation);
            } else {
                apply(&w, &mut model, &aimed(&w, operation));
            }
        }
        w.assert_consistent();
    }
}

#[test]
#[should_panic(expected = "after Revoke")]
fn a_revoke_that_misses_one_child_is_noticed() {
    let w = World::new();
    w.retype(slots::RAM, ObjectType::Untyped, 13, UNTYPED, 1)
        .unwrap();
    let mut model = Model::default();
    let what = true;
    apply(&w, &mut model, &Operation::Retype { dest: FIRST, what });
    for dest in FIRST + 1..FIRST + 4 {
        let source = FIRST;
        apply(&w, &mut model, &Operation::Copy { dest, source });
    }
    crate::lifecycle::delete::planted::MISSES_ONE_CHILD.set(true);
    apply(&w, &mut model, &Operation::Revoke { slot: FIRST });
}
