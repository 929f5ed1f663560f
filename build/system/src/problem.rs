//! A mistake in a description, and how it is shown.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::ops::Range;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is built.
    Error,
    /// It is built, but is not wise.
    Warning,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// What is wrong, in a line.
    pub title: String,
    /// Where, in bytes of the text.
    pub span: Range<usize>,
    /// What stands there.
    pub label: String,
    /// What would be right.
    pub help: String,
    /// A second place that belongs to it.
    pub related: Option<(Range<usize>, String)>,
}

impl Problem {
    /// An error.
    #[must_use]
    pub fn error(title: impl Into<String>, span: Range<usize>) -> Self {
        Self {
            severity: Severity::Error,
            title: title.into(),
            span,
            label: String::new(),
            help: String::new(),
            related: None,
        }
    }

    /// A warning.
    #[must_use]
    pub fn warning(title: impl Into<String>, span: Range<usize>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(title, span)
        }
    }

    /// With what stands there.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// With what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// With a second place.
    #[must_use]
    pub fn related(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.related = Some((span, label.into()));
        self
    }
}

/// Shows problems as text: the message, the file with line and column, the line itself, and what would be right.
#[must_use]
pub fn render(file: &str, text: &str, problems: &[Problem]) -> String {
    let renderer = Renderer::plain();
    let mut shown = String::new();
    for problem in problems {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut snippet = Snippet::source(text).path(file).annotation(
            AnnotationKind::Primary
                .span(clamp(&problem.span, text))
                .label(problem.label.as_str()),
        );
        if let Some((span, label)) = &problem.related {
            snippet = snippet.annotation(
                AnnotationKind::Context
                    .span(clamp(span, text))
                    .label(label.as_str()),
            );
        }
        let mut group = level.primary_title(problem.title.as_str()).element(snippet);
        if !problem.help.is_empty() {
            group = group.element(Level::HELP.message(problem.help.as_str()));
        }
        shown.push_str(&renderer.render(&[group]));
        shown.push_str("\n\n");
    }
    shown
}

/// A span inside the text: parsers report the end of the file as one past it.
fn clamp(span: &Range<usize>, text: &str) -> Range<usize> {
    let end = span.end.min(text.len());
    span.start.min(end)..end
}
