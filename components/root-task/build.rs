//! Links the root task as the runtime says: right below the bundle.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in std::env::var("DEP_BALLAST_RT_ROOT_TASK")
            .unwrap_or_default()
            .split(';')
        {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
