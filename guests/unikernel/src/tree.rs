//! The one thing that is read from the device tree: how much memory there is.

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;

fn word(tree: &[u8], at: usize) -> Option<u32> {
    let raw = tree.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*raw))
}

fn text(tree: &[u8], at: usize) -> Option<&[u8]> {
    let rest = tree.get(at..)?;
    rest.split(|byte| *byte == 0).next()
}

/// Bytes of the tree, from its header.
#[must_use]
pub fn total_bytes(header: &[u8]) -> Option<u32> {
    (word(header, 0)? == 0xd00d_feed).then_some(word(header, 4)?)
}

/// Bytes of the first memory node, whose addresses and sizes are two cells each.
#[must_use]
pub fn memory_bytes(tree: &[u8]) -> Option<u64> {
    total_bytes(tree)?;
    let structure = word(tree, 8)? as usize;
    let strings = word(tree, 12)? as usize;
    let mut at = structure;
    let mut in_memory = false;
    // Each step reads at least one word.
    for _ in 0..tree.len() / 4 {
        let token = word(tree, at)?;
        at += 4;
        match token {
            BEGIN_NODE => {
                let name = text(tree, at)?;
                in_memory = name.starts_with(b"memory@");
                at = (at + name.len() + 1).next_multiple_of(4);
            }
            END_NODE => in_memory = false,
            PROP => {
                let bytes = word(tree, at)? as usize;
                let name = text(tree, strings.checked_add(word(tree, at + 4)? as usize)?)?;
                let value = tree.get(at + 8..)?.get(..bytes)?;
                if in_memory && name == b"reg" {
                    let size = value.get(8..16)?.first_chunk::<8>()?;
                    return Some(u64::from_be_bytes(*size));
                }
                at = (at + 8 + bytes).next_multiple_of(4);
            }
            NOP => {}
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::startup::Gic;
    use vmm_core::tree::{Description, write};

    fn tree(ram_bytes: u64) -> Vec<u8> {
        let mut buffer = vec![0; 4096];
        let about = Description {
            command_line: "",
            initrd: None,
            ram_bytes,
            gic: Gic::V2,
            virtio_devices: 4,
            rng_seed: None,
        };
        let bytes = write(&mut buffer, &about).unwrap();
        buffer.truncate(bytes);
        buffer
    }

    #[test]
    fn the_vmms_tree_tells_the_memory() {
        assert_eq!(memory_bytes(&tree(64 << 20)), Some(64 << 20));
    }

    proptest! {
        #[test]
        fn a_damaged_tree_is_survived(at in 0usize..700, value in any::<u8>(), len in 0usize..700) {
            let mut tree = tree(1 << 30);
            tree.truncate(len.max(1));
            let index = at % tree.len();
            tree[index] = value;
            let _ = memory_bytes(&tree);
        }
    }
}
