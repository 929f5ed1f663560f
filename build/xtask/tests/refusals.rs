//! A mistake in a system description ends `cargo xtask image` before anything is built: with the place, what would be
//! right, and an exit status that is not 0. What is said, word for word, is in the fixtures of the crate `system`.

use std::path::Path;
use std::process::Command;

/// The description, the place of the mistake in it, and a part of the advice.
const MISTAKES: [(&str, &str, &str); 6] = [
    ("unknown-key", "10:1", "did you mean `minimum`?"),
    ("minimum-above-startup", "10:11", "a minimum of at most"),
    ("minimums-beyond-pool", "20:11", "Lower some"),
    ("two-of-one-name", "12:8", "a name of its own"),
    ("kernel-missing", "7:10", "put `Image` where the path says"),
    ("kernel-no-image", "7:10", "give the `Image` file"),
];

#[test]
fn a_mistake_is_refused_before_anything_is_built() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../system/fixtures");
    for (name, place, advice) in MISTAKES {
        let file = fixtures.join(name).with_extension("toml");
        let image = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.img"));
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("image")
            .arg(&file)
            .arg("-o")
            .arg(&image)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{name} is accepted: {said}");
        let at = format!("--> {}:{place}", file.display());
        assert!(said.contains(&at), "{name}: no `{at}` in {said}");
        assert!(said.contains(advice), "{name}: no `{advice}` in {said}");
        assert!(
            !said.contains("build "),
            "{name}: something was built: {said}"
        );
        assert!(!image.exists(), "{name}: there is an image");
    }
}
