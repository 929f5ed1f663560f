//! `cargo xtask sizes`: what each program takes, how deep its stack can get, and how many `unsafe` there are, each beside what
//! `build/budgets.toml` allows.
//!
//! Everything is read from the release ELF files and the sources. What is over its budget fails; raising a budget is a line in
//! that file, to be seen in review. The kernel may neither recurse nor call through a pointer: the first path that does is
//! printed.

mod budget;
mod calls;
mod code;
pub mod kernel;
mod sections;
mod threads;
pub mod unsafety;

use crate::cargo::{Cargo, Target};
use crate::image::{self, COMPONENTS, Flavour};
use crate::paths::Paths;
use anyhow::{Context, Result};
use budget::{Budgets, Figure};
use calls::Calls;
use object::File;
use std::path::Path;

/// Prints the figures; whether all of them are within their budgets.
///
/// # Errors
/// When something cannot be built or read.
pub fn run(paths: &Paths, cargo: &Cargo) -> Result<bool> {
    let budgets = Budgets::read(&paths.root().join("build/budgets.toml"))?;
    let mut programs = vec![
        ("kernel", image::kernel(cargo, Flavour::Release)?),
        ("boot", cargo.build_one("boot", Target::BareMetal)?),
        (
            "root-task",
            cargo.build_one("root-task", Target::BareMetal)?,
        ),
    ];
    for component in COMPONENTS {
        programs.push((component, cargo.build_one(component, Target::BareMetal)?));
    }
    let mut figures = Vec::new();
    let mut remarks = Vec::new();
    for (name, file) in &programs {
        let (found, remark) = program(name, file, &budgets).with_context(|| (*name).to_owned())?;
        figures.extend(found);
        remarks.extend(remark);
    }
    for (file, count) in unsafety::count(paths.root())? {
        figures.push(Figure::new("unsafe", &file, count));
    }
    let (table, good) = budgets.table(&figures);
    print!("{table}");
    for remark in &remarks {
        println!("{remark}");
    }
    Ok(good && remarks.iter().all(|remark| !remark.starts_with("error")))
}

/// The figures of one program, and what has to be said about it.
fn program(name: &str, path: &Path, budgets: &Budgets) -> Result<(Vec<Figure>, Vec<String>)> {
    let content = std::fs::read(path)?;
    let file = File::parse(&*content)?;
    let mut figures: Vec<Figure> = sections::sizes(&file)
        .into_iter()
        .map(|(what, bytes)| Figure::new(name, what, bytes))
        .collect();
    let calls = Calls::of(&file)?;
    let mut remarks = Vec::new();
    let threads = threads::of(name, &calls, &file)?;
    for thread in &threads {
        figures.push(thread.figure(name));
        remarks.extend(thread.complaint(name, budgets.of(name, &thread.what())));
    }
    let deepest = calls.deepest();
    if threads.is_empty() {
        figures.push(Figure::new(name, "stack", deepest.bytes));
    }
    if name == "kernel" {
        let complaints = kernel::complaints(&file, &calls);
        remarks.extend(complaints.iter().map(|what| format!("error: {what}")));
        remarks.push(format!(
            "deepest in the kernel: {}",
            deepest.path.join(" -> ")
        ));
    }
    for function in calls.with_unknown_frames() {
        remarks.push(format!(
            "{name}: {function} moves its stack pointer by a variable, which is not counted"
        ));
    }
    Ok((figures, remarks))
}
