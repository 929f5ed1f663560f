//! `kernel` and `initrd`: the words for packaged guests, and files by path.

use crate::files::check_arm64_image;
use crate::problem::Problem;
use crate::reader::{At, Problems, Reader, nearest};
use crate::{Context, Source};
use std::path::Path;

/// The kernels that are known by a word.
const KERNEL_WORDS: [(&str, Source); 2] = [
    ("debian", Source::DebianKernel),
    ("unikernel", Source::Unikernel),
];

pub(super) fn read_kernel(
    reader: &Reader<'_>,
    context: &Context<'_>,
    problems: &Problems,
) -> Option<At<Source>> {
    let text = reader.required_string("kernel", "\"debian\"")?;
    if let Some((_, source)) = KERNEL_WORDS.iter().find(|(word, _)| *word == text.value) {
        return Some(At {
            value: source.clone(),
            span: text.span,
        });
    }
    let path = context.directory.join(&text.value);
    let content = match std::fs::read(&path) {
        Ok(content) => content,
        Err(error) => {
            problems.push(no_file(
                "kernel",
                &text,
                &path,
                &error,
                &KERNEL_WORDS.map(|(word, _)| word),
            ));
            return None;
        }
    };
    if let Err(reason) = check_arm64_image(&content) {
        problems.push(
            Problem::error("`kernel` cannot be started", text.span)
                .label(reason)
                .help("give the `Image` file of an arm64 Linux kernel, or `\"debian\"`"),
        );
        return None;
    }
    Some(At {
        value: Source::Path(path),
        span: text.span,
    })
}

fn no_file(
    key: &str,
    text: &At<String>,
    path: &Path,
    error: &std::io::Error,
    words: &[&str],
) -> Problem {
    let problem = Problem::error(
        format!("`{key}` names a file that cannot be read"),
        text.span.clone(),
    );
    let problem = match nearest(&text.value, words) {
        Some(near) => problem.label(format!("did you mean `\"{near}\"`?")),
        None => problem.label(match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            _ => error.to_string(),
        }),
    };
    let shown = path.file_name().unwrap_or_default().to_string_lossy();
    problem.help(format!(
        "put `{shown}` where the path says (it starts from the directory of this description), or write {}",
        words
            .iter()
            .map(|word| format!("`\"{word}\"`"))
            .collect::<Vec<_>>()
            .join(" or ")
    ))
}

/// The initrd: `Some(None)` is none, `None` a mistake.
#[expect(
    clippy::option_option,
    reason = "a mistake and no initrd are different answers"
)]
pub(super) fn read_initrd(
    reader: &Reader<'_>,
    kernel: Option<&At<Source>>,
    context: &Context<'_>,
    problems: &Problems,
) -> Option<Option<Source>> {
    let Some(text) = reader.string("initrd") else {
        return match kernel.map(|kernel| &kernel.value) {
            Some(Source::DebianKernel) => Some(Some(Source::DebianInitrd)),
            _ => Some(None),
        };
    };
    match kernel.map(|kernel| (&kernel.value, kernel.span.clone())) {
        Some((Source::Unikernel, span)) => {
            problems.push(
                Problem::error("a unikernel takes no initrd", text.span)
                    .label("has no effect")
                    .related(span, "this guest's kernel")
                    .help("remove this line"),
            );
            return None;
        }
        _ if text.value == "default" => return Some(Some(Source::DebianInitrd)),
        _ => {}
    }
    let path = context.directory.join(&text.value);
    match std::fs::metadata(&path) {
        Ok(meta) if meta.is_file() => Some(Some(Source::Path(path))),
        found => {
            let error = found
                .err()
                .unwrap_or_else(|| std::io::Error::other("this is no file"));
            problems.push(no_file("initrd", &text, &path, &error, &["default"]));
            None
        }
    }
}
