//! A writer for flattened device trees (Devicetree Specification 0.4, chapter 5) into a fixed buffer.
//!
//! Property names go into the strings block once each. The writer never panics: running out of room is remembered
//! and reported by [`Writer::finish`].

use heapless::Vec;

const MAGIC: u32 = 0xd00d_feed;
const HEADER_BYTES: usize = 40;
/// One empty reservation entry (address 0, size 0) follows the header.
const RESERVATIONS_BYTES: usize = 16;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const END: u32 = 9;
/// Bytes of all distinct property names.
const STRINGS_BYTES: usize = 512;

/// The buffer was too small, the nodes did not nest, or there are too many property names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeError;

/// Writes a tree.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
    strings: Vec<u8, STRINGS_BYTES>,
    depth: u32,
    failed: bool,
}

impl<'a> Writer<'a> {
    /// Starts a tree in `buffer`.
    #[must_use]
    pub fn new(buffer: &'a mut [u8]) -> Self {
        let mut writer = Self {
            buffer,
            at: HEADER_BYTES,
            strings: Vec::new(),
            depth: 0,
            failed: false,
        };
        writer.bytes(&[0; RESERVATIONS_BYTES]);
        writer
    }

    fn bytes(&mut self, bytes: &[u8]) {
        match self.buffer.get_mut(self.at..self.at + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.at += bytes.len();
            }
            None => self.failed = true,
        }
    }

    fn word(&mut self, word: u32) {
        self.bytes(&word.to_be_bytes());
    }

    fn align(&mut self) {
        let padding = self.at.next_multiple_of(4) - self.at;
        self.bytes(&[0u8; 3][..padding]);
    }

    /// Opens a node (the root's name is empty).
    pub fn begin(&mut self, name: &str) {
        self.word(BEGIN_NODE);
        self.bytes(name.as_bytes());
        self.bytes(&[0]);
        self.align();
        self.depth += 1;
    }

    /// Opens a node `name@address`.
    pub fn begin_at(&mut self, name: &str, address: u64) {
        let mut full: heapless::String<48> = heapless::String::new();
        if core::fmt::write(&mut full, format_args!("{name}@{address:x}")).is_err() {
            self.failed = true;
        }
        self.begin(&full);
    }

    /// Closes the innermost node.
    pub fn end(&mut self) {
        self.word(END_NODE);
        match self.depth.checked_sub(1) {
            Some(depth) => self.depth = depth,
            None => self.failed = true,
        }
    }

    fn name_offset(&mut self, name: &str) -> u32 {
        let mut start = 0;
        for entry in self.strings.split(|&byte| byte == 0) {
            if entry == name.as_bytes() {
                return start as u32;
            }
            start += entry.len() + 1;
        }
        let offset = self.strings.len();
        if self.strings.extend_from_slice(name.as_bytes()).is_err() || self.strings.push(0).is_err()
        {
            self.failed = true;
        }
        offset as u32
    }

    /// A property of raw bytes.
    pub fn raw(&mut self, name: &str, value: &[u8]) {
        let offset = self.name_offset(name);
        self.word(PROP);
        self.word(value.len() as u32);
        self.word(offset);
        self.bytes(value);
        self.align();
    }

    /// A property without a value.
    pub fn flag(&mut self, name: &str) {
        self.raw(name, &[]);
    }

    /// A string property.
    pub fn string(&mut self, name: &str, value: &str) {
        self.strings_list(name, &[value]);
    }

    /// A list of strings.
    pub fn strings_list(&mut self, name: &str, values: &[&str]) {
        let offset = self.name_offset(name);
        let bytes: usize = values.iter().map(|value| value.len() + 1).sum();
        self.word(PROP);
        self.word(bytes as u32);
        self.word(offset);
        for value in values {
            self.bytes(value.as_bytes());
            self.bytes(&[0]);
        }
        self.align();
    }

    /// A property of 32-bit cells.
    pub fn cells(&mut self, name: &str, cells: &[u32]) {
        let offset = self.name_offset(name);
        self.word(PROP);
        self.word(cells.len() as u32 * 4);
        self.word(offset);
        for &cell in cells {
            self.word(cell);
        }
    }

    /// A property of 64-bit values (two cells each).
    pub fn cells64(&mut self, name: &str, values: &[u64]) {
        let offset = self.name_offset(name);
        self.word(PROP);
        self.word(values.len() as u32 * 8);
        self.word(offset);
        for &value in values {
            self.bytes(&value.to_be_bytes());
        }
    }

    /// Completes the tree; the bytes in use.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn finish(mut self) -> Result<usize, TreeError> {
        self.word(END);
        let structure = HEADER_BYTES + RESERVATIONS_BYTES;
        let structure_bytes = self.at - structure.min(self.at);
        let strings = self.at;
        let names = core::mem::take(&mut self.strings);
        self.bytes(&names);
        let total = self.at;
        if self.failed || self.depth != 0 {
            return Err(TreeError);
        }
        let header = [
            MAGIC,
            total as u32,
            structure as u32,
            strings as u32,
            HEADER_BYTES as u32,
            17,
            16,
            0,
            names.len() as u32,
            structure_bytes as u32,
        ];
        self.at = 0;
        for word in header {
            self.word(word);
        }
        if self.failed {
            return Err(TreeError);
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn be(bytes: &[u8], at: usize) -> u32 {
        u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn a_small_tree_has_the_published_layout() {
        let mut buffer = [0xffu8; 512];
        let mut writer = Writer::new(&mut buffer);
        writer.begin("");
        writer.cells("#address-cells", &[2]);
        writer.begin_at("memory", 0x4000_0000);
        writer.cells64("reg", &[0x4000_0000, 0x1000]);
        writer.end();
        writer.begin("x");
        writer.cells64("reg", &[1]);
        writer.end();
        writer.end();
        let total = writer.finish().unwrap();
        assert_eq!(be(&buffer, 0), MAGIC);
        assert_eq!(be(&buffer, 4), total as u32);
        assert_eq!(be(&buffer, 8), 56);
        // #address-cells and reg, each once.
        assert_eq!(be(&buffer, 32), 15 + 4);
        assert_eq!(be(&buffer, 56), BEGIN_NODE);
        assert_eq!(be(&buffer, 56 + 8), PROP);
        assert_eq!(be(&buffer, 56 + 12), 4);
        let strings = be(&buffer, 12) as usize;
        assert_eq!(&buffer[strings..strings + 14], b"#address-cells");
        assert_eq!(strings + 19, total);
    }

    #[test]
    fn too_little_room_or_bad_nesting_is_an_error() {
        let mut buffer = [0u8; 60];
        let mut writer = Writer::new(&mut buffer);
        writer.begin("a-long-name");
        writer.end();
        assert_eq!(writer.finish(), Err(TreeError));
        let mut buffer = [0u8; 256];
        let mut writer = Writer::new(&mut buffer);
        writer.begin("");
        assert_eq!(writer.finish(), Err(TreeError));
        let mut buffer = [0u8; 256];
        let mut writer = Writer::new(&mut buffer);
        writer.end();
        assert_eq!(writer.finish(), Err(TreeError));
    }
}
