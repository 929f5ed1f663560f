//! The last that a guest wrote on its console, kept for the day on which nothing more comes.

use heapless::{Deque, String, Vec};

/// Bytes kept.
const TAIL_BYTES: usize = 512;
/// Longest line that is shown, in bytes; a longer one keeps its beginning.
pub const LINE_BYTES: usize = 100;
/// Lines that are shown.
pub const LINES: usize = 3;
const ESCAPE: u8 = 0x1b;

/// The last bytes.
#[derive(Debug, Default)]
pub struct Tail {
    bytes: Deque<u8, TAIL_BYTES>,
}

impl Tail {
    /// Nothing was written.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: Deque::new(),
        }
    }

    /// The guest writes.
    pub fn push(&mut self, bytes: &[u8]) {
        let skip = bytes.len().saturating_sub(TAIL_BYTES);
        for byte in bytes.iter().skip(skip) {
            if self.bytes.is_full() {
                self.bytes.pop_front();
            }
            let _ = self.bytes.push_back(*byte);
        }
    }

    /// The last lines that hold anything, the oldest first. Only printable ASCII: what a guest writes must not move an
    /// operator's cursor.
    #[must_use]
    pub fn lines(&self) -> Vec<String<LINE_BYTES>, LINES> {
        let mut lines = Vec::new();
        let mut line = String::new();
        let mut in_escape = false;
        for byte in self.bytes.iter().copied().chain([b'\n']) {
            match byte {
                ESCAPE => in_escape = true,
                b'\n' | b'\r' => {
                    in_escape = false;
                    finish(&mut lines, &mut line);
                }
                // A control sequence ends with a letter (ECMA-48, 5.4).
                _ if in_escape => in_escape = !byte.is_ascii_alphabetic(),
                b' '..=b'~' => {
                    let _ = line.push(char::from(byte));
                }
                _ => {}
            }
        }
        lines
    }
}

fn finish(lines: &mut Vec<String<LINE_BYTES>, LINES>, line: &mut String<LINE_BYTES>) {
    if !line.trim().is_empty() {
        if lines.is_full() {
            lines.remove(0);
        }
        let _ = lines.push(line.clone());
    }
    line.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_lines_are_kept_without_what_moves_a_cursor() {
        let mut tail = Tail::new();
        assert!(tail.lines().is_empty());
        tail.push(b"one\r\n\r\ntwo\n\x1b[1;31mthree\x1b[0m\x07\r\n");
        tail.push(b"Kernel panic - not syncing");
        let lines = tail.lines();
        assert_eq!(lines, ["two", "three", "Kernel panic - not syncing"]);
        tail.push(&[b'x'; 2000]);
        assert_eq!(tail.lines(), ["x".repeat(LINE_BYTES).as_str()]);
    }

    proptest! {
        #[test]
        fn whatever_is_written_the_lines_are_plain(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8)) {
            let mut tail = Tail::new();
            for part in &parts {
                tail.push(part);
            }
            for line in tail.lines() {
                prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
        }
    }
}
