//! A reader of flattened device trees (Devicetree Specification 0.4, chapter 5).
//!
//! Every offset and length is an allegation until it has been checked; a tree that is cut short simply ends.

/// Deepest nesting that is followed; nodes below are skipped. Real trees nest 4 to 6 levels.
pub const MAX_DEPTH: usize = 8;

/// The first word of a device tree, big-endian.
pub const MAGIC: u32 = 0xd00d_feed;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 40;
/// Largest tree accepted: Linux accepts 2 MiB.
pub const MAX_BYTES: usize = 2 << 20;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;

/// Why some bytes are no device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdtError {
    /// The first word is this one, not [`MAGIC`].
    Magic(u32),
    /// The header says it is this long; the memory or [`MAX_BYTES`] allow less.
    Length(usize),
    /// A block lies outside the tree.
    Block,
    /// Only readers of a newer version than 17 understand it.
    Version(u32),
}

/// The big-endian word at `offset`.
fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let end = offset.checked_add(4)?;
    Some(u32::from_be_bytes(bytes.get(offset..end)?.try_into().ok()?))
}

/// The bytes at `offset` up to, without, the next zero byte.
fn string(bytes: &[u8], offset: usize) -> Option<&[u8]> {
    let rest = bytes.get(offset..)?;
    let length = rest.iter().position(|&byte| byte == 0)?;
    rest.get(..length)
}

/// The length that a header alleges, if the first eight bytes are a device tree's.
///
/// # Errors
/// [`FdtError::Magic`], and [`FdtError::Length`] when it is shorter than a header or longer than [`MAX_BYTES`].
pub fn total_bytes(first: [u8; 8]) -> Result<usize, FdtError> {
    let magic = word(&first, 0).unwrap_or(0);
    if magic != MAGIC {
        return Err(FdtError::Magic(magic));
    }
    let length = word(&first, 4).unwrap_or(0) as usize;
    if (HEADER_BYTES..=MAX_BYTES).contains(&length) {
        Ok(length)
    } else {
        Err(FdtError::Length(length))
    }
}

/// A device tree whose header has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Fdt<'a> {
    structure: &'a [u8],
    strings: &'a [u8],
    reservations: &'a [u8],
    used_bytes: usize,
}

impl<'a> Fdt<'a> {
    /// Checks the header of the tree at the start of `bytes`.
    ///
    /// # Errors
    /// What is wrong with the header.
    pub fn new(bytes: &'a [u8]) -> Result<Self, FdtError> {
        let first: [u8; 8] = bytes
            .get(..8)
            .and_then(|b| b.try_into().ok())
            .ok_or(FdtError::Length(bytes.len()))?;
        let length = total_bytes(first)?;
        let tree = bytes.get(..length).ok_or(FdtError::Length(length))?;
        let field = |index: usize| {
            word(tree, index.wrapping_mul(4))
                .map(|value| value as usize)
                .ok_or(FdtError::Block)
        };
        let compatible_version = field(6)?;
        if compatible_version > 17 {
            return Err(FdtError::Version(compatible_version as u32));
        }
        let block = |offset: usize, size: usize| {
            let end = offset.checked_add(size).ok_or(FdtError::Block)?;
            tree.get(offset..end).ok_or(FdtError::Block)
        };
        let (structure_at, strings_at) = (field(2)?, field(3)?);
        let (structure, strings) = (
            block(structure_at, field(9)?)?,
            block(strings_at, field(8)?)?,
        );
        let reservations_at = field(4)?;
        let mut fdt = Self {
            structure,
            strings,
            reservations: tree.get(reservations_at..).ok_or(FdtError::Block)?,
            used_bytes: 0,
        };
        // The block of reservations has no length: it ends with an entry of zeros.
        let entries = fdt.reservations().count().saturating_add(1);
        fdt.used_bytes = structure_at
            .saturating_add(structure.len())
            .max(strings_at.saturating_add(strings.len()))
            .max(reservations_at.saturating_add(entries.saturating_mul(16)))
            .min(length);
        Ok(fdt)
    }

    /// The tree's length without what lies behind its last block: firmware leaves room there to add properties.
    #[must_use]
    pub const fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// All nodes, parents before children.
    #[must_use]
    pub fn nodes(&self) -> Nodes<'a> {
        Nodes {
            fdt: *self,
            offset: 0,
            depth: 0,
            levels: [Level::DEFAULT; MAX_DEPTH],
        }
    }

    /// The entries of the memory reservation block: address and bytes.
    pub fn reservations(&self) -> impl Iterator<Item = (u64, u64)> + 'a {
        let bytes = self.reservations;
        (0..64usize).map_while(move |index| {
            let at = index.wrapping_mul(16);
            let (address, size) = (cells(bytes, at, 2)?, cells(bytes, at.wrapping_add(8), 2)?);
            (address != 0 || size != 0).then_some((address, size))
        })
    }

    /// The node at `path` (`/` separates; a component without unit address matches any).
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<Node<'a>> {
        let mut parts = path
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty());
        let mut wanted = parts.next();
        let mut depth = 1;
        for node in self.nodes() {
            let Some(part) = wanted else {
                return (node.depth == 0).then_some(node);
            };
            if node.depth > 0 && node.depth < depth {
                return None;
            }
            if node.depth == depth && (node.name == part || node.name_without_address() == part) {
                wanted = parts.next();
                if wanted.is_none() {
                    return Some(node);
                }
                depth = depth.wrapping_add(1);
            }
        }
        None
    }

    /// The node that `/chosen/stdout-path` names (by path or alias), for text.
    #[must_use]
    pub fn stdout(&self) -> Option<Node<'a>> {
        let chosen = self.find(b"/chosen")?;
        let path = chosen
            .property("stdout-path")
            .or_else(|| chosen.property("linux,stdout-path"))?;
        // Behind a colon stand line settings, behind the zero nothing.
        let path = path.split(|&byte| byte == b':' || byte == 0).next()?;
        if path.first() == Some(&b'/') {
            return self.find(path);
        }
        let aliases = self.find(b"/aliases")?;
        let target = aliases.properties().find(|(name, _)| *name == path)?.1;
        self.find(target.split(|&byte| byte == 0).next()?)
    }
}

/// `count` (1 or 2) cells at `offset` as one number. With more cells the upper ones must be zero.
fn cells(bytes: &[u8], offset: usize, count: usize) -> Option<u64> {
    if count > 4 {
        return None;
    }
    let mut value = 0u64;
    for index in 0..count {
        if value >> 32 != 0 {
            return None;
        }
        value = value << 32 | u64::from(word(bytes, offset.checked_add(index.wrapping_mul(4))?)?);
    }
    Some(value)
}

/// What a node says about its children's addresses.
#[derive(Clone, Copy, Debug)]
struct Level<'a> {
    address_cells: usize,
    size_cells: usize,
    /// None: not translatable; empty: the same as the parent's.
    ranges: Option<&'a [u8]>,
}

impl Level<'_> {
    const DEFAULT: Self = Level {
        address_cells: 2,
        size_cells: 1,
        ranges: None,
    };
}

/// A node.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    fdt: Fdt<'a>,
    /// Its name with the unit address; empty for the root.
    pub name: &'a [u8],
    /// 0 for the root.
    pub depth: usize,
    offset: usize,
    levels: [Level<'a>; MAX_DEPTH],
}

impl<'a> Node<'a> {
    /// The name up to, without, the `@`.
    #[must_use]
    pub fn name_without_address(&self) -> &'a [u8] {
        self.name
            .split(|&byte| byte == b'@')
            .next()
            .unwrap_or(self.name)
    }

    /// Its properties: name and value.
    #[must_use]
    pub fn properties(&self) -> Properties<'a> {
        Properties {
            fdt: self.fdt,
            offset: self.offset,
        }
    }

    /// The value of one.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&'a [u8]> {
        self.properties()
            .find(|(key, _)| *key == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// A property of one cell.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        word(self.property(name)?, 0)
    }

    /// Whether a string-list property holds `text`.
    #[must_use]
    pub fn has_string(&self, name: &str, text: &str) -> bool {
        self.property(name).is_some_and(|value| {
            value
                .split(|&byte| byte == 0)
                .any(|part| part == text.as_bytes())
        })
    }

    /// Whether it says that it is compatible with one of these.
    #[must_use]
    pub fn is_compatible(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.has_string("compatible", name))
    }

    /// Whether the device is usable (no `status`, or `okay`).
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.property("status")
            .is_none_or(|_| self.has_string("status", "okay") || self.has_string("status", "ok"))
    }

    /// Entry `index` of its `reg`: address and size as the CPU sees them.
    #[must_use]
    pub fn region(&self, index: usize) -> Option<(u64, u64)> {
        let bus = self.depth.checked_sub(1)?;
        let level = self.levels.get(bus)?;
        let entry = level
            .address_cells
            .checked_add(level.size_cells)?
            .checked_mul(4)?;
        let at = entry.checked_mul(index)?;
        let reg = self.property("reg")?;
        let mut address = cells(reg, at, level.address_cells)?;
        let size = cells(
            reg,
            at.checked_add(level.address_cells.checked_mul(4)?)?,
            level.size_cells,
        )?;
        for depth in (1..=bus).rev() {
            address = translate(
                self.levels.get(depth)?,
                self.levels.get(depth.wrapping_sub(1))?,
                address,
            )?;
        }
        Some((address, size))
    }
}

/// An address on a bus as its parent bus sees it.
fn translate(bus: &Level<'_>, parent: &Level<'_>, address: u64) -> Option<u64> {
    let ranges = bus.ranges?;
    if ranges.is_empty() {
        return Some(address);
    }
    let (child, up, size) = (
        bus.address_cells.checked_mul(4)?,
        parent.address_cells.checked_mul(4)?,
        bus.size_cells.checked_mul(4)?,
    );
    let entry = child.checked_add(up)?.checked_add(size)?;
    if entry == 0 {
        return None;
    }
    for range in ranges.chunks_exact(entry) {
        let base = cells(range, 0, bus.address_cells)?;
        let length = cells(range, child.checked_add(up)?, bus.size_cells)?;
        if let Some(offset) = address.checked_sub(base)
            && offset < length
        {
            return cells(range, child, parent.address_cells)?.checked_add(offset);
        }
    }
    None
}

/// Iterates over properties.
#[derive(Clone, Debug)]
pub struct Properties<'a> {
    fdt: Fdt<'a>,
    offset: usize,
}

impl<'a> Iterator for Properties<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match word(self.fdt.structure, self.offset)? {
                NOP => self.offset = self.offset.checked_add(4)?,
                PROP => {
                    let (name, value, next) = property_at(&self.fdt, self.offset)?;
                    self.offset = next;
                    return Some((name, value));
                }
                _ => return None,
            }
        }
    }
}

/// Name, value and the offset behind the property token at `offset`.
fn property_at<'a>(fdt: &Fdt<'a>, offset: usize) -> Option<(&'a [u8], &'a [u8], usize)> {
    let length = word(fdt.structure, offset.checked_add(4)?)? as usize;
    let name = word(fdt.structure, offset.checked_add(8)?)? as usize;
    let start = offset.checked_add(12)?;
    let end = start.checked_add(length)?;
    let next = end.checked_next_multiple_of(4)?;
    Some((
        string(fdt.strings, name)?,
        fdt.structure.get(start..end)?,
        next,
    ))
}

/// Iterates over nodes.
#[derive(Clone, Debug)]
pub struct Nodes<'a> {
    fdt: Fdt<'a>,
    offset: usize,
    depth: usize,
    levels: [Level<'a>; MAX_DEPTH],
}

impl<'a> Iterator for Nodes<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        loop {
            match word(self.fdt.structure, self.offset)? {
                NOP => self.offset = self.offset.checked_add(4)?,
                PROP => self.offset = property_at(&self.fdt, self.offset)?.2,
                END_NODE => {
                    self.depth = self.depth.checked_sub(1)?;
                    self.offset = self.offset.checked_add(4)?;
                }
                BEGIN_NODE => {
                    let at = self.offset.checked_add(4)?;
                    let name = string(self.fdt.structure, at)?;
                    self.offset = at
                        .checked_add(name.len())?
                        .checked_add(1)?
                        .checked_next_multiple_of(4)?;
                    let depth = self.depth;
                    self.depth = depth.checked_add(1)?;
                    let Some(slot) = self.levels.get_mut(depth) else {
                        continue;
                    };
                    *slot = Level::DEFAULT;
                    for (key, value) in (Properties {
                        fdt: self.fdt,
                        offset: self.offset,
                    }) {
                        match key {
                            b"#address-cells" => slot.address_cells = word(value, 0)? as usize,
                            b"#size-cells" => slot.size_cells = word(value, 0)? as usize,
                            b"ranges" => slot.ranges = Some(value),
                            _ => {}
                        }
                    }
                    return Some(Node {
                        fdt: self.fdt,
                        name,
                        depth,
                        offset: self.offset,
                        levels: self.levels,
                    });
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests;
