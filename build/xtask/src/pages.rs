//! What pages and comments refer to is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where paths in pages begin.
const TOP: [&str; 9] = [
    "hypervisor/",
    "components/",
    "memory-server/",
    "balancer/",
    "guests/",
    "build/",
    "qemu/",
    "systems/",
    "tests/",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Files with one of these extensions that are the project's own, by `git ls-files`.
fn files(extension: &str) -> Vec<PathBuf> {
    let listed = std::process::Command::new("git")
        .args(["ls-files", "--", &format!("*.{extension}")])
        .current_dir(root())
        .output()
        .expect("git lists the project's files");
    assert!(listed.status.success(), "git ls-files");
    let listed = String::from_utf8(listed.stdout).expect("names are UTF-8");
    listed
        .lines()
        .map(|name| root().join(name))
        .filter(|path| path.exists())
        .collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The anchors of a page: its headings as mdbook writes them.
fn anchors(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|heading| {
            heading
                .trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

/// The targets of a page's links.
fn links(page: &str) -> Vec<String> {
    page.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .filter(|target| !target.contains("://"))
        .collect()
}

/// Paths in a page's code spans.
fn paths(page: &str) -> Vec<String> {
    page.split('`')
        .skip(1)
        .step_by(2)
        .filter(|span| TOP.iter().any(|top| span.starts_with(top)))
        .filter(|span| {
            span.chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
        })
        // A name in capitals stands for one that the reader chooses.
        .filter(|span| !span.contains("NAME") && !span.contains("FILE"))
        .map(str::to_owned)
        .collect()
}

/// What a page refers to that is not there.
fn missing(at: &Path, page: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for link in links(page) {
        let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let target = if file.is_empty() {
            at.to_path_buf()
        } else {
            at.parent().unwrap_or(at).join(file)
        };
        if !target.exists() {
            missing.push(format!("{}: the link {link}", at.display()));
        } else if !anchor.is_empty() && !anchors(&read(&target)).contains(anchor) {
            missing.push(format!("{}: the heading of {link}", at.display()));
        }
    }
    for path in paths(page) {
        if !root().join(&path).exists() {
            missing.push(format!("{}: the path {path}", at.display()));
        }
    }
    missing
}

#[test]
fn what_pages_refer_to_is_there() {
    let pages = files("md");
    assert!(pages.len() > 10, "only {} pages", pages.len());
    let missing: Vec<String> = pages
        .iter()
        .flat_map(|page| missing(page, &read(page)))
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn what_is_not_there_is_noticed() {
    let at = root().join("README.md");
    for (page, count) in [
        ("see [this](docs/src/SUMMARY.md#summary)", 0),
        ("see [this](docs/src/none.md)", 1),
        ("see [this](docs/src/SUMMARY.md#none)", 1),
        ("`build/xtask/src/pages.rs`, `build/xtask/src/none.rs`", 1),
        ("`tests/system/src/NAME.rs`, `tests/{a,b}`", 0),
    ] {
        assert_eq!(missing(&at, page).len(), count, "{page}");
    }
}

/// A page that a comment cites is a page of the book, or lies at the top.
#[test]
fn pages_that_comments_cite_are_there() {
    let mut missing = Vec::new();
    for file in files("rs") {
        for (number, line) in read(&file).lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("//") else {
                continue;
            };
            for span in comment.split('`').skip(1).step_by(2) {
                let is_page = span.ends_with(".md") && !span.contains(['/', ' ']);
                let is_there =
                    root().join("docs/src").join(span).exists() || root().join(span).exists();
                if is_page && !is_there {
                    missing.push(format!("{}:{}: {span}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// What the editor checks for the machine is what CI lints for it.
#[test]
fn the_editors_packages_are_those_of_ci() {
    let script = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    let list = script.split("MACHINE_PACKAGES=(").nth(1).unwrap();
    let packages: Vec<&str> = list.split(')').next().unwrap().split_whitespace().collect();
    assert!(packages.len() > 10, "{packages:?}");
    let text = std::fs::read_to_string(root().join("ballast-machine.code-workspace")).unwrap();
    let settings: serde_json::Value = serde_json::from_str(&text).unwrap();
    let command = settings["settings"]["rust-analyzer.check.overrideCommand"]
        .as_array()
        .unwrap();
    let words: Vec<&str> = command.iter().filter_map(|word| word.as_str()).collect();
    let checked: Vec<&str> = words
        .windows(2)
        .filter(|pair| pair[0] == "--package")
        .map(|pair| pair[1])
        .collect();
    assert_eq!(checked, packages);
}
