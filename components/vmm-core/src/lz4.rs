//! Unpacking one LZ4 block (the LZ4 block format description, lz4 project).
//!
//! The registry's decoder needs an allocator in the program; this one writes into memory that is there. Every length
//! and offset is checked. Copies go in steps of 16 bytes where there is room for them behind the end, because a
//! kernel image has a million short runs.

/// The block is damaged, or does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Bytes of input that were understood.
    pub at: usize,
}

/// Bytes that are copied in one step.
const STEP: usize = 16;

/// Unpacks `packed` into `out`; the bytes written.
///
/// # Errors
/// [`Damaged`]; `out` is then partly written.
pub fn unpack(packed: &[u8], out: &mut [u8]) -> Result<usize, Damaged> {
    let mut at = 0;
    let mut done = 0;
    loop {
        let damaged = Damaged { at };
        let token = usize::from(*packed.get(at).ok_or(damaged)?);
        at += 1;
        let mut literals = token >> 4;
        if literals == 15 {
            literals += length(packed, &mut at).ok_or(damaged)?;
        }
        copy_literals(packed, at, out, done, literals).ok_or(damaged)?;
        at += literals;
        done += literals;
        if at == packed.len() {
            return Ok(done);
        }
        let offset = match packed.get(at..).and_then(|rest| rest.first_chunk::<2>()) {
            Some(raw) => usize::from(u16::from_le_bytes(*raw)),
            None => return Err(damaged),
        };
        at += 2;
        let mut matched = token & 15;
        if matched == 15 {
            matched += length(packed, &mut at).ok_or(damaged)?;
        }
        matched += 4;
        copy_match(out, done, offset, matched).ok_or(damaged)?;
        done += matched;
    }
}

/// The rest of a length: bytes are added until one is not 255.
fn length(packed: &[u8], at: &mut usize) -> Option<usize> {
    let mut sum = 0usize;
    loop {
        let byte = *packed.get(*at)?;
        *at += 1;
        sum = sum.checked_add(usize::from(byte))?;
        if byte != 255 {
            return Some(sum);
        }
    }
}

#[inline(always)]
fn copy_literals(packed: &[u8], at: usize, out: &mut [u8], done: usize, len: usize) -> Option<()> {
    if len <= STEP
        && let Some(from) = packed.get(at..).and_then(|rest| rest.first_chunk::<STEP>())
        && let Some(to) = out
            .get_mut(done..)
            .and_then(|rest| rest.first_chunk_mut::<STEP>())
    {
        *to = *from;
        return Some(());
    }
    let from = packed.get(at..at.checked_add(len)?)?;
    out.get_mut(done..done.checked_add(len)?)?
        .copy_from_slice(from);
    Some(())
}

#[inline(always)]
fn copy_match(out: &mut [u8], done: usize, offset: usize, len: usize) -> Option<()> {
    let start = done.checked_sub(offset)?;
    if offset == 0 {
        return None;
    }
    if offset >= STEP && len <= 2 * STEP && done + 2 * STEP <= out.len() {
        out.copy_within(start..start + STEP, done);
        if len > STEP {
            out.copy_within(start + STEP..start + 2 * STEP, done + STEP);
        }
        return Some(());
    }
    let end = done.checked_add(len)?;
    if end > out.len() {
        return None;
    }
    // What repeats grows with each step: the source may run into the destination.
    let mut at = done;
    while at < end {
        let step = (at - start).min(end - at);
        out.copy_within(start..start + step, at);
        at += step;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_block_written_by_hand() {
        // "abcd", then 12 bytes from 4 back, then "!".
        let packed = [0x48, b'a', b'b', b'c', b'd', 4, 0, 0x10, b'!'];
        let mut out = [0u8; 17];
        assert_eq!(unpack(&packed, &mut out), Ok(17));
        assert_eq!(&out, b"abcdabcdabcdabcd!");
        assert_eq!(unpack(&packed, &mut [0; 16]), Err(Damaged { at: 7 }));
    }

    #[test]
    fn damage_is_named() {
        assert_eq!(unpack(&[], &mut [0; 9]), Err(Damaged { at: 0 }));
        assert!(
            unpack(&[0x10, 1, 0, 0, 0], &mut [0; 99]).is_err(),
            "offset 0"
        );
        assert!(
            unpack(&[0x10, 1, 2, 0, 0], &mut [0; 99]).is_err(),
            "before the start"
        );
        assert!(
            unpack(&[0xf0, 255], &mut [0; 99]).is_err(),
            "no end of a length"
        );
    }

    proptest! {
        #[test]
        fn what_was_packed_unpacks(seed in proptest::collection::vec(0u8..4, 0..2000), repeat in 1usize..60) {
            let mut data = seed.clone();
            for round in 0..repeat {
                data.extend_from_slice(&seed[..seed.len() * round / repeat]);
                data.extend(std::iter::repeat_n(round as u8, round * 3));
            }
            let packed = lz4_flex::block::compress(&data);
            let mut out = vec![0xee; data.len()];
            prop_assert_eq!(unpack(&packed, &mut out), Ok(data.len()));
            prop_assert_eq!(out, data);
        }

        #[test]
        fn random_bytes_unpack_or_fail(packed in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = unpack(&packed, &mut [0; 1000]);
        }
    }
}
