//! The shape of the house: which way imports lead, inside the kernel core and between crates.

use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The floors of the kernel core, from the ground up: a file imports from its own floor and from those below.
const FLOORS: [&[&str]; 8] = [
    &["arch", "cap", "object"],
    &["state"],
    &["cspace", "vspace"],
    &["run"],
    &["lifecycle"],
    &["decode"],
    &["syscall"],
    &["boot", "dump_header"],
];

/// The files that import each other in a circle: who runs decides who gets a message, and a message decides who runs.
const KNOT: [&str; 10] = [
    "run/endpoint.rs",
    "run/fault.rs",
    "run/ipc.rs",
    "run/notification.rs",
    "run/registers.rs",
    "run/reply.rs",
    "run/sched_context.rs",
    "run/scheduler.rs",
    "run/thread.rs",
    "run/vcpu.rs",
];

/// The workspace's crates: one depends only on crates of earlier lines. (Tests may depend on more.)
const CRATES: [&[&str]; 5] = [
    &[
        "front",
        "line",
        "machine",
        "pl011",
        "protocol",
        "qemu-machine",
        "sel4-sys",
        "unikernel",
        "workload",
    ],
    &[
        "balancer-core",
        "boot",
        "cap",
        "guest-window",
        "kernel-core",
        "memory-server-core",
        "system",
        "testbed",
        "vmm-core",
    ],
    &[
        "balancer-lab",
        "component-template",
        "component-tests",
        "inspect",
        "kernel",
        "kernel-bench",
        "kernel-tests",
        "operator",
        "rt",
    ],
    &[
        "balancer",
        "console",
        "memory-server",
        "root-task",
        "system-tests",
        "timer",
        "vmm",
    ],
    &["xtask"],
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Sources by their path below the crate's `src`.
type Sources = BTreeMap<String, String>;

fn collect(directory: &Path, below: &Path, sources: &mut Sources) {
    for entry in std::fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, below, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(below).expect("below it");
            let text = std::fs::read_to_string(&path).expect("a source is text");
            sources.insert(name.to_string_lossy().into_owned(), text);
        }
    }
}

/// Files that a file imports, by `crate::` paths in its code.
fn imports(text: &str, sources: &Sources) -> BTreeSet<String> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    // Unit tests may look where they like.
    let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    code.split("crate::")
        .skip(1)
        .filter_map(|rest| {
            let path: String = rest
                .chars()
                .take_while(|c| {
                    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | ':')
                })
                .collect();
            let mut parts = path.split("::").filter(|part| !part.is_empty());
            let first = parts.next()?;
            let second = parts.next().unwrap_or_default();
            [
                format!("{first}/{second}.rs"),
                format!("{first}/objects.rs"),
                format!("{first}/mod.rs"),
                format!("{first}.rs"),
            ]
            .into_iter()
            .find(|name| sources.contains_key(name))
        })
        .collect()
}

fn floor(name: &str) -> Option<usize> {
    let top = name.split('/').next()?.trim_end_matches(".rs");
    FLOORS.iter().position(|floor| floor.contains(&top))
}

/// What breaks the rules in a tree of sources.
fn faults(sources: &Sources) -> Vec<String> {
    let judged: BTreeMap<&String, BTreeSet<String>> = sources
        .iter()
        .filter(|(name, _)| {
            !["lib.rs", "tests/", "check/"]
                .iter()
                .any(|apart| name.starts_with(apart))
        })
        .map(|(name, text)| (name, imports(text, sources)))
        .collect();
    let mut faults = Vec::new();
    for (name, imported) in &judged {
        let Some(own) = floor(name) else {
            faults.push(format!("{name} is on no floor"));
            continue;
        };
        for other in imported {
            if floor(other).is_some_and(|floor| floor > own) {
                faults.push(format!("{name} imports upwards: {other}"));
            }
        }
    }
    for name in judged.keys() {
        if !KNOT.contains(&name.as_str()) && reaches(name, name, &judged) {
            faults.push(format!("{name} imports itself in a circle"));
        }
    }
    faults
}

/// Whether imports lead from one file to another.
fn reaches(from: &str, to: &str, judged: &BTreeMap<&String, BTreeSet<String>>) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(name) = next.pop() {
        for other in judged.get(&name).into_iter().flatten() {
            if other == to && (name != to) {
                return true;
            }
            if seen.insert(other.clone()) {
                next.push(other.clone());
            }
        }
    }
    false
}

fn kernel_core() -> Sources {
    let below = root().join("hypervisor/core/src");
    let mut sources = Sources::new();
    collect(&below, &below, &mut sources);
    sources
}

#[test]
fn the_kernel_core_stands_on_its_floors() {
    let sources = kernel_core();
    assert!(sources.len() > 50, "only {} files", sources.len());
    for name in KNOT {
        assert!(
            sources.contains_key(name),
            "{name} is in the knot and not there"
        );
    }
    let faults = faults(&sources);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn an_import_that_leads_upwards_or_in_a_circle_is_noticed() {
    for (name, planted, fault) in [
        (
            "object/mem.rs",
            "use crate::run::scheduler;\n",
            "object/mem.rs imports upwards: run/scheduler.rs",
        ),
        (
            "cap/mod.rs",
            "fn f() { crate::decode::tcb::decode() }\n",
            "cap/mod.rs imports upwards: decode/tcb.rs",
        ),
        (
            "cspace/cdt.rs",
            "use crate::cspace::cnode;\n",
            "cspace/cdt.rs imports itself in a circle",
        ),
        ("stray.rs", "\n", "stray.rs is on no floor"),
    ] {
        let mut sources = kernel_core();
        let text = sources.entry(name.to_owned()).or_default();
        *text = format!("{planted}{text}");
        let faults = faults(&sources);
        assert!(faults.iter().any(|found| found == fault), "{faults:?}");
    }
}

/// Each member's name and the workspace's crates that it depends on.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let read = |path: &Path| -> toml::Table {
        let text = std::fs::read_to_string(path).expect("a manifest");
        text.parse().expect("a manifest is TOML")
    };
    let workspace = read(&root().join("Cargo.toml"));
    let members = workspace["workspace"]["members"]
        .as_array()
        .expect("members");
    let mut manifests = Vec::new();
    for member in members.iter().filter_map(|member| member.as_str()) {
        match member.strip_suffix("/*") {
            Some(directory) => {
                let entries =
                    std::fs::read_dir(root().join(directory)).expect("a directory of crates");
                manifests.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
            None => manifests.push(root().join(member)),
        }
    }
    let tables: Vec<toml::Table> = manifests
        .iter()
        .map(|directory| directory.join("Cargo.toml"))
        .filter(|path| path.exists())
        .map(|path| read(&path))
        .collect();
    let name = |table: &toml::Table| {
        let name = table["package"]["name"]
            .as_str()
            .expect("a package has a name");
        name.to_owned()
    };
    let ours: BTreeSet<String> = tables.iter().map(name).collect();
    tables
        .iter()
        .map(|table| {
            let all = table.get("dependencies").and_then(|all| all.as_table());
            let names = all.into_iter().flat_map(toml::Table::keys);
            (
                name(table),
                names.filter(|name| ours.contains(*name)).cloned().collect(),
            )
        })
        .collect()
}

#[test]
fn crates_depend_one_way() {
    let layer = |name: &str| CRATES.iter().position(|layer| layer.contains(&name));
    let all = dependencies();
    assert!(all.len() > 30, "only {} crates", all.len());
    let mut faults = Vec::new();
    for (name, needed) in &all {
        let Some(own) = layer(name) else {
            faults.push(format!("{name} is in no line of CRATES"));
            continue;
        };
        for other in needed {
            if layer(other).is_none_or(|layer| layer >= own) {
                faults.push(format!("{name} depends on {other}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Where threads of the system are made or changed.
const MAKES_THREADS: [&str; 8] = [
    "components/root-task/src",
    "components/rt/src",
    "components/console/src",
    "components/timer/src",
    "components/vmm/src",
    "memory-server/core/src",
    "memory-server/server/src",
    "balancer/server/src",
];

/// A number that is given to a priority, in a line of code.
fn gives_a_priority(line: &str) -> bool {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)(priority(_\w+)?(: u64)?\s*[:=]|set_priority\([^,]*,)\s*\d")
            .expect("a pattern")
    });
    let code = line.split("//").next().unwrap_or_default();
    PATTERN.is_match(code)
}

#[test]
fn priorities_stand_in_one_table() {
    assert!(gives_a_priority("const IDLE_PRIORITY: u64 = 50;"));
    assert!(gives_a_priority("    priority: 241,"));
    assert!(gives_a_priority("tcb.set_priority(authority, 120)?;"));
    assert!(!gives_a_priority("priority: schedule::VCPU.priority,"));
    assert!(!gives_a_priority("// priority: 7"));
    let mut faults = Vec::new();
    for directory in MAKES_THREADS {
        let below = root().join(directory);
        let mut sources = Sources::new();
        collect(&below, &below, &mut sources);
        assert!(!sources.is_empty(), "{directory}");
        for (name, text) in &sources {
            for line in text.lines().filter(|line| gives_a_priority(line)) {
                faults.push(format!("{directory}/{name}: {}", line.trim()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
