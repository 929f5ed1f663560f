//! The bundle that the build put behind the root task's image: read and checked once, before anything is made from it.

use protocol::bundle::{File, FileKind, Header, MAGIC};

/// Why the bundle cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// There is none, or it does not begin with [`MAGIC`].
    Missing,
    /// Its header does not decode.
    Header,
    /// The file of this index lies outside the bundle.
    FileOutside(usize),
    /// The guest of this index names a file that is not there or of the wrong kind.
    GuestFile(usize),
}

/// Reads and checks the header.
///
/// # Errors
/// See [`BundleError`].
pub fn read(bundle: &[u8]) -> Result<Header, BundleError> {
    let rest = bundle.strip_prefix(&MAGIC).ok_or(BundleError::Missing)?;
    let (len, rest) = rest.split_first_chunk::<8>().ok_or(BundleError::Missing)?;
    let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| BundleError::Header)?;
    let header = rest.get(..len).ok_or(BundleError::Header)?;
    let header: Header = postcard::from_bytes(header).map_err(|_| BundleError::Header)?;
    for (index, file) in header.files.iter().enumerate() {
        if content(bundle, file).is_none() {
            return Err(BundleError::FileOutside(index));
        }
    }
    let is = |index: u16, kind| {
        header
            .files
            .get(usize::from(index))
            .is_some_and(|file| file.kind == kind)
    };
    for (index, guest) in header.system.guests.iter().enumerate() {
        let initrd_ok = guest
            .initrd_file
            .is_none_or(|file| is(file, FileKind::GuestInitrd));
        if !is(guest.kernel_file, FileKind::GuestKernel) || !initrd_ok {
            return Err(BundleError::GuestFile(index));
        }
    }
    Ok(header)
}

/// A file's stored bytes; `None` when they lie outside the bundle.
#[must_use]
pub fn content<'a>(bundle: &'a [u8], file: &File) -> Option<&'a [u8]> {
    let start = usize::try_from(file.offset).ok()?;
    let len = usize::try_from(file.stored_bytes).ok()?;
    bundle.get(start..start.checked_add(len)?)
}

/// A component's ELF file.
#[must_use]
pub fn component<'a>(bundle: &'a [u8], header: &Header, name: &str) -> Option<&'a [u8]> {
    let file = header
        .files
        .iter()
        .find(|file| file.kind == FileKind::Component && file.name.as_str() == name)?;
    content(bundle, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::bundle::Packing;
    use protocol::system::{Guest, System};
    use protocol::units::Pieces;

    fn header(offset: u64) -> Header {
        let file = |name: &str, kind| File {
            name: name.try_into().unwrap(),
            kind,
            packing: Packing::Plain,
            offset,
            stored_bytes: 3,
            bytes: 3,
        };
        Header {
            system: System {
                name: "test".try_into().unwrap(),
                pool: Pieces(1),
                reserve: Pieces(0),
                guests: heapless::Vec::new(),
            },
            files: [
                file("timer", FileKind::Component),
                file("vmlinuz", FileKind::GuestKernel),
            ]
            .into_iter()
            .collect(),
        }
    }

    fn bundle(header: &Header) -> Vec<u8> {
        let encoded = postcard::to_slice(header, &mut [0; 4096]).unwrap().to_vec();
        let mut bytes = MAGIC.to_vec();
        bytes.extend((encoded.len() as u64).to_le_bytes());
        bytes.extend(encoded);
        bytes.resize(4000, 7);
        bytes
    }

    #[test]
    fn a_good_bundle_gives_its_files() {
        let bytes = bundle(&header(3997));
        let header = read(&bytes).unwrap();
        assert_eq!(component(&bytes, &header, "timer"), Some(&[7u8, 7, 7][..]));
        assert_eq!(component(&bytes, &header, "vmlinuz"), None);
    }

    #[test]
    fn each_mistake_is_named() {
        assert_eq!(read(b""), Err(BundleError::Missing));
        assert_eq!(read(b"BALLAST2........"), Err(BundleError::Missing));
        let mut bytes = bundle(&header(0));
        bytes[8] = 0xff;
        bytes[9] = 0xff;
        assert_eq!(read(&bytes), Err(BundleError::Header));
        assert_eq!(
            read(&bundle(&header(3998))),
            Err(BundleError::FileOutside(0))
        );
        assert_eq!(
            read(&bundle(&header(u64::MAX))),
            Err(BundleError::FileOutside(0))
        );
        let mut wrong = header(0);
        let settings = crate::guest::tests::settings();
        let _ = wrong.system.guests.push(Guest {
            name: "g".try_into().unwrap(),
            autostart: protocol::system::Autostart::AtBoot,
            interface: protocol::system::Interface::Own,
            cushion: protocol::units::Pieces(0),
            kernel_file: 0,
            initrd_file: None,
            command_line: heapless::String::new(),
            settings,
        });
        assert_eq!(read(&bundle(&wrong)), Err(BundleError::GuestFile(0)));
        wrong.system.guests[0].kernel_file = 1;
        assert!(read(&bundle(&wrong)).is_ok());
        wrong.system.guests[0].initrd_file = Some(9);
        assert_eq!(read(&bundle(&wrong)), Err(BundleError::GuestFile(0)));
    }
}
