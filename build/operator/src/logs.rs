//! `defmt` records to text: the format strings are in the components' ELF files, not on the line.

use defmt_decoder::{DecodeError, StreamDecoder, Table};
use protocol::badge::Client;
use std::collections::BTreeMap;

/// The decoders of all log channels.
#[derive(Default)]
pub struct Logs {
    tables: BTreeMap<String, &'static Table>,
    decoders: BTreeMap<u8, Box<dyn StreamDecoder + Send + Sync>>,
    /// Channels without a table: told once.
    unknown: Vec<u8>,
}

impl Logs {
    /// Takes the ELF file of a program (a crate's name) for its log's format strings. A program without `defmt` is no
    /// error: it does not log.
    ///
    /// # Errors
    /// When the file's `defmt` data is damaged or of another version.
    pub fn add_program(&mut self, program: &str, elf: &[u8]) -> anyhow::Result<()> {
        if let Some(table) = Table::parse(elf)? {
            // The decoders borrow the table for as long as they live, which is as long as the process.
            self.tables
                .insert(program.to_owned(), Box::leak(Box::new(table)));
        }
        Ok(())
    }

    /// The lines that these bytes of a log channel complete.
    pub fn decode(&mut self, log_id: u8, bytes: &[u8]) -> Vec<String> {
        let table = Client::from_log_id(log_id)
            .and_then(|client| self.tables.get(client.program()).copied());
        let Some(table) = table else {
            if self.unknown.contains(&log_id) {
                return Vec::new();
            }
            self.unknown.push(log_id);
            return vec![
                "logs, but its ELF file is not known here or holds no format strings".into(),
            ];
        };
        let decoder = self
            .decoders
            .entry(log_id)
            .or_insert_with(|| table.new_stream_decoder());
        decoder.received(bytes);
        let mut lines = Vec::new();
        loop {
            match decoder.decode() {
                Ok(frame) => lines.push(frame.display(false).to_string()),
                Err(DecodeError::UnexpectedEof) => return lines,
                Err(DecodeError::Malformed) => {
                    lines.push("a damaged log record".into());
                    if !table.encoding().can_recover() {
                        *decoder = table.new_stream_decoder();
                        return lines;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_program_is_told_once() {
        let mut logs = Logs::default();
        assert_eq!(logs.decode(Client::Balancer.log_id(), b"xyz").len(), 1);
        assert_eq!(logs.decode(Client::Balancer.log_id(), b"xyz").len(), 0);
        assert_eq!(logs.decode(Client::Timer.log_id(), b"xyz").len(), 1);
    }

    #[test]
    fn a_file_that_is_no_elf_is_an_error() {
        assert!(
            Logs::default()
                .add_program("vmm", b"not an ELF file")
                .is_err()
        );
    }
}
