//! Lines of text for the operator, and the end of a thread that cannot go on.

use crate::log::{self, Route};
use core::fmt::{self, Write};
use protocol::console::{Reply, Request};
use protocol::slots;
use protocol::units::Line;

/// Takes what fits, drops the rest.
struct Cut(Line);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.0.push(character).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Formats a line, cut to its greatest length.
#[must_use]
pub fn line(text: fmt::Arguments<'_>) -> Line {
    let mut cut = Cut(Line::new());
    // `Cut` never fails; a `Display` that does has at least left what it wrote.
    let _ = cut.write_fmt(text);
    cut.0
}

/// Says a formatted line to the operator: see [`say_line`].
pub fn say(text: fmt::Arguments<'_>) {
    say_line(&line(text));
}

/// Says a line to the operator through the console server. A VMM waits until it is taken; a server only tries, so
/// that it can never wait for the console while the console waits for it.
pub fn say_line(line: &Line) {
    let console = cap::Endpoint::new(slots::CONSOLE);
    let request = Request::Say(line.clone());
    match log::route() {
        Route::Call => {
            let _: Result<Reply, _> = cap::call_value(console, &request, None);
        }
        Route::Try => {
            if let Ok(words) = protocol::codec::encode(&request) {
                // Nobody may be listening; the line is then lost, and so says the documentation.
                let _ = console.nb_send(&cap::Message {
                    label: protocol::codec::LABEL_VALUE,
                    words: words.as_slice(),
                    caps: &[],
                });
            }
        }
        Route::Own(own) => own.say(line),
    }
}

/// Says why, then ends the thread with a fault, of which the supervisor hears.
pub fn fail(why: &str) -> ! {
    say(format_args!("{why}"));
    crate::arch::fault()
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    match info.location() {
        Some(place) => say(format_args!(
            "{}:{}: {}",
            place.file(),
            place.line(),
            info.message()
        )),
        None => say(format_args!("{}", info.message())),
    }
    crate::arch::fault()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_at_a_character() {
        assert_eq!(line(format_args!("{}-{}", 1, "ü")).as_str(), "1-ü");
        let long = line(format_args!("{}", "ü".repeat(200)));
        assert_eq!(long.len(), 160);
        assert!(long.chars().all(|character| character == 'ü'));
    }
}
