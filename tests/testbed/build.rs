//! Tells the root tasks that link with this crate where its linker script is (their build scripts read
//! `DEP_TESTBED_SCRIPT`).

use std::path::Path;

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let script = Path::new(&directory).join("root-task.ld");
    println!("cargo::metadata=script={}", script.display());
    println!("cargo::rerun-if-changed={}", script.display());
}
