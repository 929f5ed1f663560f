//! Links the root task with the testbed's linker script.

fn main() {
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target == "none"
        && let Ok(script) = std::env::var("DEP_TESTBED_SCRIPT")
    {
        println!("cargo::rustc-link-arg-bins=-T{script}");
    }
}
