//! One fixture for each message: what a mistake looks like, and what is said about it, word for word.
//!
//! `UPDATE_FIXTURES=1 cargo test -p system` writes what is said now; read the difference before you commit it.

use protocol::balancer::OnSilence;
use protocol::system::Interface;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use system::{Board, Context, Scale, Source, check, render};

const BOARDS: &[Board] = &[
    Board {
        name: "test-board",
        memory_max_mib: 4096,
    },
    Board {
        name: "large-board",
        memory_max_mib: 65_536,
    },
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn context(directory: &Path, scale: Scale) -> Context<'_> {
    Context {
        directory,
        boards: BOARDS,
        board: None,
        scale,
    }
}

fn said(text: &str, file: &str) -> String {
    let scale = if text.starts_with("# scale: quarter") {
        Scale::Quarter
    } else {
        Scale::Full
    };
    let directory = fixtures();
    match check(text, &context(&directory, scale)) {
        Ok(description) if description.warnings.is_empty() => "accepted\n".to_owned(),
        Ok(description) => format!("accepted\n{}", render(file, text, &description.warnings)),
        Err(problems) => {
            assert!(!problems.is_empty(), "{file}: refused without a reason");
            format!("refused\n{}", render(file, text, &problems))
        }
    }
}

#[test]
fn every_fixture_says_what_is_written_beside_it() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "toml") {
            continue;
        }
        seen += 1;
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let now = said(&text, &file);
        let beside = path.with_extension("txt");
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(&beside, &now).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&beside).unwrap_or_default();
        if now != expected {
            wrong.push(format!(
                "--- {file}: expected\n{expected}--- but it says\n{now}"
            ));
        }
    }
    assert!(seen > 30, "only {seen} fixtures found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_refusal_names_line_and_column_and_a_way_out() {
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        if path.extension().is_none_or(|ext| ext != "toml") {
            continue;
        }
        if let Err(problems) = check(&text, &context(&fixtures(), Scale::Full)) {
            for problem in problems {
                assert!(
                    !problem.help.is_empty(),
                    "{}: {}",
                    path.display(),
                    problem.title
                );
                let shown = render("f.toml", &text, std::slice::from_ref(&problem));
                assert!(shown.contains("f.toml:"), "{shown}");
            }
        }
    }
}

#[test]
fn a_right_description_is_what_it_says() {
    let text = std::fs::read_to_string(fixtures().join("right.toml")).unwrap();
    let directory = fixtures();
    let description = check(&text, &context(&directory, Scale::Full)).unwrap();
    assert_eq!(description.memory_mib, 3072);
    assert_eq!(description.board, "test-board");
    assert_eq!(description.system.pool.mib(), 2048);
    assert_eq!(description.system.reserve.mib(), 128);
    let one = &description.system.guests[0];
    assert_eq!(one.settings.bounds.minimum.mib(), 128);
    assert_eq!(one.settings.bounds.startup.mib(), 256);
    assert_eq!(one.settings.bounds.maximum.mib(), 1024);
    assert_eq!(one.settings.buffer_percent, 30);
    assert_eq!(one.settings.weight, 10_000);
    assert_eq!(one.settings.deadline_ms, 1500);
    assert_eq!(one.settings.on_silence, OnSilence::Restart);
    assert_eq!(one.interface, Interface::Sel4);
    assert!(one.command_line.ends_with("ballast.name=one loglevel=7"));
    let kernel = &description.files[usize::from(one.kernel_file)];
    assert_eq!(kernel.source, Source::DebianKernel);
    let initrd = &description.files[usize::from(one.initrd_file.unwrap())];
    assert_eq!(initrd.source, Source::DebianInitrd);
    let two = &description.system.guests[1];
    assert_eq!(two.settings.bounds.maximum, two.settings.bounds.minimum);
    assert_eq!(two.initrd_file, None);
    assert_eq!(two.settings.on_silence, OnSilence::Stop);
    assert_eq!(two.interface, Interface::Own);
}

#[test]
fn quarter_scale_divides_every_size_and_guests_share_files() {
    let text = "[system]\nname = \"x\"\npool = \"8GiB\"\n\n\
                [[guest]]\nname = \"a\"\nkernel = \"debian\"\nstartup = \"1GiB\"\nminimum = \"512MiB\"\nmaximum = \"4GiB\"\n\n\
                [[guest]]\nname = \"b\"\nkernel = \"debian\"\nstartup = \"1GiB\"\nmaximum = \"4GiB\"\n";
    let description = check(text, &context(Path::new("."), Scale::Quarter)).unwrap();
    assert_eq!(description.system.pool.mib(), 2048);
    assert_eq!(description.system.reserve.mib(), 128);
    assert_eq!(description.memory_mib, 2048 + 512);
    let bounds = description.system.guests[0].settings.bounds;
    assert_eq!(
        (
            bounds.minimum.mib(),
            bounds.startup.mib(),
            bounds.maximum.mib()
        ),
        (128, 256, 1024)
    );
    let on_silence = description.system.guests[1].settings.on_silence;
    assert_eq!(on_silence, OnSilence::Keep, "the default");
    assert_eq!(description.files.len(), 2);
    let distinct: BTreeSet<u16> = description
        .system
        .guests
        .iter()
        .map(|guest| guest.kernel_file)
        .collect();
    assert_eq!(distinct.len(), 1);
}
