//! Commit subjects are as CONTRIBUTING says: a prefix of its list, and at most 72 characters.

use crate::paths::Paths;
use std::process::Command;

/// The commit before the first that the list is held against.
const BEFORE: &str = "5f08dac";
/// Most characters of a subject.
const LONGEST: usize = 72;

/// The prefixes: what stands in backquotes in the section "Commits", up to its first empty line after the list.
fn prefixes(contributing: &str) -> Vec<&str> {
    let section = contributing.split("## Commits").nth(1).unwrap_or_default();
    let list = section
        .split("\n\n")
        .find(|paragraph| paragraph.trim_start().starts_with('`'));
    let parts = list.unwrap_or_default().split('`');
    parts.skip(1).step_by(2).collect()
}

fn complaint(subject: &str, prefixes: &[&str]) -> Option<String> {
    if subject.chars().count() > LONGEST {
        return Some(format!("more than {LONGEST} characters: {subject}"));
    }
    let known = subject
        .split_once(": ")
        .is_some_and(|(prefix, _)| prefixes.contains(&prefix));
    (!known).then(|| format!("no prefix of CONTRIBUTING's list: {subject}"))
}

#[test]
fn subjects_are_as_contributing_says() {
    let root = Paths::find().unwrap().root().to_path_buf();
    let text = std::fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let prefixes = prefixes(&text);
    assert!(prefixes.len() > 20, "{prefixes:?}");
    assert!(complaint("Kernel core: folders are floors", &prefixes).is_none());
    assert!(complaint("fix things", &prefixes).is_some());
    assert!(complaint("Misc: things", &prefixes).is_some());
    assert!(complaint(&format!("Book: {}", "x".repeat(67)), &prefixes).is_some());
    // An archive of the sources has no history, and neither has a shallow clone.
    let range = format!("{BEFORE}..HEAD");
    let log = Command::new("git")
        .current_dir(root)
        .args(["log", "--no-merges", "--format=%s", &range])
        .output();
    let Some(log) = log.ok().filter(|log| log.status.success()) else {
        return;
    };
    for subject in String::from_utf8_lossy(&log.stdout).lines() {
        assert_eq!(complaint(subject, &prefixes), None);
    }
}
