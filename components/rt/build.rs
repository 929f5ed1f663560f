//! Tells the build scripts of component binaries how to link: each prints the arguments in `DEP_BALLAST_RT_COMPONENT`
//! (the root task those in `DEP_BALLAST_RT_ROOT_TASK`), separated by semicolons, as `cargo::rustc-link-arg-bins`.

use std::path::Path;

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let script = Path::new(&directory).join("image.ld");
    println!("cargo::rerun-if-changed={}", script.display());
    // The addresses are those of `protocol::layout`: IMAGE_VADDR, ROOT_TASK_VADDR.
    for (name, base, entry) in [
        ("component", "0x200000", "_start"),
        ("root-task", "0x1ff00000", "_root_start"),
    ] {
        println!(
            "cargo::metadata={name}=-T{};--defsym=__image_base={base};--entry={entry};-zmax-page-size=4096;-Tdefmt.x",
            script.display()
        );
    }
}
