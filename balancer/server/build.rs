//! Links the component as the runtime says.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in std::env::var("DEP_BALLAST_RT_COMPONENT")
            .unwrap_or_default()
            .split(';')
        {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
