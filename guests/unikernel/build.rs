//! Links the unikernel at the address where guests' memory begins.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rerun-if-changed={directory}/unikernel.ld");
        println!("cargo::rustc-link-arg-bins=-T{directory}/unikernel.ld");
        println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
    }
}
