//! Writes initramfs archives: the "newc" format of cpio, as Linux's `Documentation/driver-api/early-userspace/
//! buffer-format.rst` defines it.
//!
//! Everything belongs to root, times are zero and inode numbers count up, so equal input gives equal bytes.

/// An archive being made.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_LINK: u32 = 0o120_000;
const TYPE_CHARACTER_DEVICE: u32 = 0o020_000;

impl Archive {
    /// Adds a directory; its parents come first.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, TYPE_DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds a file that may be executed.
    pub fn executable(&mut self, path: &str, content: &[u8]) {
        self.entry(path, TYPE_FILE | 0o755, (0, 0), content);
    }

    /// Adds a plain file.
    pub fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, TYPE_FILE | 0o644, (0, 0), content);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, TYPE_LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device.
    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, TYPE_CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    /// Closes the archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            content.len() as u32,
            0,
            0,
            device.0,
            device.1,
            path.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive back, independently of the writer: (path, mode, content).
    fn read(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |n: usize| {
                let start = at + 6 + n * 8;
                u32::from_str_radix(std::str::from_utf8(&bytes[start..start + 8]).unwrap(), 16)
                    .unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = &bytes[at + 110..at + 110 + name_size - 1];
            assert_eq!(bytes[at + 110 + name_size - 1], 0);
            let start = (at + 110 + name_size).next_multiple_of(4);
            let name = String::from_utf8(name.to_vec()).unwrap();
            if name == "TRAILER!!!" {
                return found;
            }
            found.push((name, mode, bytes[start..start + size].to_vec()));
            at = (start + size).next_multiple_of(4);
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut archive = Archive::default();
        archive.directory("bin");
        archive.executable("bin/a", b"12345");
        archive.link("bin/b", "a");
        archive.file("etc", b"");
        archive.character_device("console", 5, 1);
        let found = read(&archive.finish());
        assert_eq!(
            found,
            vec![
                ("bin".to_owned(), 0o040_755, vec![]),
                ("bin/a".to_owned(), 0o100_755, b"12345".to_vec()),
                ("bin/b".to_owned(), 0o120_777, b"a".to_vec()),
                ("etc".to_owned(), 0o100_644, vec![]),
                ("console".to_owned(), 0o020_600, vec![]),
            ]
        );
    }
}
