//! What `cargo xtask` runs first. It depends on nothing, so it is built within a second on a fresh machine, where the tool
//! itself takes a minute: it says so, shows cargo's progress, and becomes the tool.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--locked"]);
    if is_built() {
        command.arg("--quiet");
    } else {
        let said: Vec<_> = arguments
            .iter()
            .map(|argument| argument.to_string_lossy())
            .collect();
        eprintln!(
            "cargo xtask {}: the tool is built first, which takes a minute or two this once",
            said.join(" ")
        );
    }
    command.args(["--package", "xtask", "--"]).args(arguments);
    // Signals and the exit status are the tool's own from here on.
    let error = command.exec();
    eprintln!("error: cargo cannot be started: {error}");
    ExitCode::FAILURE
}

/// Whether the tool was built before, in the directory where this program lies.
fn is_built() -> bool {
    std::env::current_exe()
        .ok()
        .as_deref()
        .and_then(Path::parent)
        .is_some_and(|directory| directory.join("xtask").exists())
}
