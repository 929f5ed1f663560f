//! The deepest stack of each thread of a program, against the stack that it gets.
//!
//! A component's threads all begin in the same function, which finds theirs by a number in a table (`rt::component!`); the root
//! task's begin in a function that they are given. A thread's functions are called from there only, so each thread is a program of
//! its own: its way in, its own function, and all that this calls.

use super::budget::Figure;
use super::calls::{Calls, Deepest};
use anyhow::{Context, Result, ensure};
use object::File;
use root_task::manifest::{self, Component, Thread};

const PAGE_BYTES: u64 = 4096;
/// Where every thread of a component begins, and what looks its function up.
const START: &str = "_start";
const DISPATCHER: &str = "ballast_component_thread";
/// Where the root task's first thread begins, and where its others do.
const ROOT_START: &str = "_root_start";
const ROOT_THREAD: &str = "root_thread";
/// The root task's other threads, and the functions that they are given.
const ROOT_THREADS: [(&Thread, &str); 2] = [
    (&manifest::WATCHER, "fault::watch"),
    (&manifest::SPEAKER, "sink::speak"),
];

/// A thread of a program.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name.
    pub name: &'static str,
    /// Its deepest stack.
    pub deepest: Deepest,
    /// Bytes of stack that it gets; none where that is in the program's own data.
    pub reserved: Option<u64>,
}

impl Found {
    /// What its figure is called.
    #[must_use]
    pub fn what(&self) -> String {
        format!("stack of {}", self.name)
    }

    /// What is wrong with a budget that allows more than there is.
    #[must_use]
    pub fn complaint(&self, program: &str, budget: Option<u64>) -> Option<String> {
        let (budget, reserved) = (budget?, self.reserved?);
        (budget > reserved).then(|| {
            let what = self.what();
            format!(
                "error: {program}: the {what} may be {budget} bytes deep, and {reserved} are reserved"
            )
        })
    }

    /// It as a figure.
    #[must_use]
    pub fn figure(&self, program: &str) -> Figure {
        Figure::new(program, &self.what(), self.deepest.bytes)
    }
}

/// The threads of a program of this name; none for one that has no threads.
///
/// # Errors
/// When it should have some and they are not found in it.
pub fn of(name: &str, calls: &Calls, file: &File<'_>) -> Result<Vec<Found>> {
    let component = match name {
        "memory-server" => &manifest::MEMORY_SERVER,
        "balancer" => &manifest::BALANCER,
        "console" => &manifest::CONSOLE,
        "timer" => &manifest::TIMER,
        "vmm" => &manifest::VMM,
        "root-task" => return of_root_task(calls),
        _ => return Ok(Vec::new()),
    };
    of_component(component, calls, file)
}

fn of_component(component: &Component, calls: &Calls, file: &File<'_>) -> Result<Vec<Found>> {
    let start = calls.named(START)?;
    let dispatcher = calls.named(DISPATCHER)?;
    let count = component.threads.len();
    let bodies = calls.table_in(dispatcher, count, file)?;
    // A table of one is none: the only thread is called directly.
    ensure!(
        bodies.len() == count || bodies.is_empty() && count == 1,
        "{DISPATCHER} finds {} threads in its table, the manifest has {count}",
        bodies.len()
    );
    let threads = component.threads.iter().enumerate();
    Ok(threads
        .map(|(index, thread)| {
            let own = bodies.get(index).copied();
            Found {
                name: thread.name,
                deepest: calls
                    .with_only(dispatcher, own, &bodies)
                    .deepest_from(start),
                reserved: Some(thread.stack_pages * PAGE_BYTES),
            }
        })
        .collect())
}

fn of_root_task(calls: &Calls) -> Result<Vec<Found>> {
    let entry = calls.named(ROOT_THREAD)?;
    let bodies = ROOT_THREADS
        .iter()
        .map(|(thread, function)| calls.named(function).context(thread.name))
        .collect::<Result<Vec<_>>>()?;
    let main = calls.with_only(entry, None, &bodies);
    let mut found = vec![Found {
        name: "main",
        deepest: main.deepest_from(calls.named(ROOT_START)?),
        reserved: None,
    }];
    for ((thread, _), &body) in ROOT_THREADS.iter().zip(&bodies) {
        found.push(Found {
            name: thread.name,
            deepest: calls
                .with_only(entry, Some(body), &bodies)
                .deepest_from(entry),
            reserved: Some(thread.stack_pages * PAGE_BYTES),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_above_what_is_reserved_is_no_budget() {
        let mut thread = Found {
            name: "alarm",
            deepest: Deepest::default(),
            reserved: Some(16384),
        };
        assert_eq!(thread.complaint("timer", Some(16384)), None);
        let said = thread.complaint("timer", Some(16400)).unwrap();
        assert!(
            said.starts_with("error: timer: the stack of alarm") && said.contains("16384"),
            "{said}"
        );
        thread.reserved = None;
        assert_eq!(thread.complaint("root-task", Some(16400)), None);
    }
}
