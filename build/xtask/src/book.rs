//! What the book says about the kernel's interface is checked against the interface and against the tests.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust files below a directory, one behind the other.
fn sources(directory: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
    text
}

/// The names of an enum of `sel4-sys`: lines `Name = number,`.
fn names(file: &str) -> Vec<String> {
    read(file)
        .lines()
        .filter_map(|line| {
            let (name, number) = line.trim().strip_suffix(',')?.split_once(" = ")?;
            number.parse::<i64>().ok()?;
            Some(name.to_owned())
        })
        .collect()
}

const PAGE: &str = "docs/src/invocations.md";

#[test]
fn every_invocation_and_fault_has_its_row() {
    let page = read(PAGE);
    let invocations = names("components/sel4-sys/src/label.rs");
    let faults = names("components/sel4-sys/src/fault.rs");
    assert!(invocations.len() > 60 && faults.len() > 8);
    for name in invocations.iter().chain(&faults) {
        let nothing = name == "InvalidInvocation" || name == "Null";
        let row = page.contains(&format!("\n| {name} | "));
        assert!(row != nothing, "{PAGE}: {name}");
    }
}

#[test]
fn every_test_and_every_cost_that_the_page_names_exists() {
    let page = read(PAGE);
    let tests = sources(&root().join("hypervisor/core/src/tests"))
        + &sources(&root().join("tests/kernel/src"));
    let bench = sources(&root().join("tests/bench/src"));
    let mut rows = 0;
    for row in page.lines().filter(|line| line.contains("| `")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [_, _, named, cost, ..] = cells[..] else {
            panic!("{PAGE}: {row}");
        };
        for name in named.split(", ").map(|name| name.trim_matches('`')) {
            let function = tests.contains(&format!("fn {name}("));
            assert!(
                function || tests.contains(&format!("\"{name}\"")),
                "{PAGE}: {name}"
            );
        }
        if let Some(name) = cost
            .strip_prefix('`')
            .and_then(|cost| cost.split('`').next())
        {
            assert!(bench.contains(&format!("\"{name}\"")), "{PAGE}: {name}");
        }
        rows += 1;
    }
    assert!(rows > 70, "{rows}");
}

#[test]
fn every_test_that_is_left_out_on_sel4_is_explained() {
    let list = read("tests/kernel/src/elsewhere.rs");
    let page = read("docs/src/kernel.md");
    let names: Vec<&str> = list
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","))
        .filter(|name| !name.contains(' '))
        .collect();
    let rows = page.lines().filter(|line| line.starts_with("| `")).count();
    assert!(!names.is_empty() && rows >= names.len());
    for name in names {
        assert!(page.contains(&format!("\n| `{name}` | ")), "{name}");
    }
}
