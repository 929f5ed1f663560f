//! What a program's sections take in memory.

use object::{File, Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags, elf};

/// Bytes of code, of constants and of data (zeroed data included); for the kernel code that runs at boot only apart.
pub fn sizes(file: &File<'_>) -> Vec<(&'static str, u64)> {
    let (mut text, mut boot, mut constants, mut data) = (0, None, 0, 0);
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else {
            continue;
        };
        let has = |flag: u32| sh_flags & u64::from(flag) != 0;
        if !has(elf::SHF_ALLOC) {
            continue;
        }
        let bytes = section.size();
        if section.name() == Ok(".boot") {
            boot = Some(bytes);
        } else if has(elf::SHF_EXECINSTR) {
            // The kernel's is filled up to a whole page.
            let end = file
                .symbols()
                .find(|symbol| symbol.name() == Ok("__text_code_end"))
                .map(|symbol| symbol.address());
            text += end.map_or(bytes, |end| end.saturating_sub(section.address()));
        } else if has(elf::SHF_WRITE) {
            data += bytes;
        } else {
            constants += bytes;
        }
    }
    let mut sizes = vec![("text", text), ("rodata", constants), ("data", data)];
    sizes.extend(boot.map(|bytes| ("boot", bytes)));
    sizes
}
