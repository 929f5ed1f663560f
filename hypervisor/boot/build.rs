//! Hands the linker script to the linker when the boot stage is built for the machine itself.

fn main() {
    println!("cargo:rerun-if-changed=boot.ld");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-T{directory}/boot.ld");
        // Position independent without position-independent code: the code is relative already, and entry.rs applies the
        // relocations of the pointers in data, read-only data too (notext).
        for argument in [
            "-pie",
            "--no-dynamic-linker",
            "-znotext",
            "-zmax-page-size=4096",
        ] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
