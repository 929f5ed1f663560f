//! The few A64 instructions that matter to calls and stacks (Arm ARM C4.1).

/// What an instruction does that is of interest here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// BL: a call.
    Call(u64),
    /// B, B.cond, CBZ, TBZ: a jump, inside the function or to another one.
    Jump(u64),
    /// BLR: a call through a register.
    CallRegister,
    /// BR: a jump through this register.
    JumpRegister(u32),
    /// The stack pointer goes down by so many bytes.
    Grow(u64),
    /// The stack pointer goes down by a register.
    GrowUnknown,
    /// ADR: this address into this register.
    Address(u32, u64),
    /// ADRP: this page into this register.
    Page(u32, u64),
    /// ADD of an immediate: destination, source, value.
    Add(u32, u32, u64),
    /// ADD of two registers into this one.
    AddRegister(u32),
    /// Anything else.
    Other,
}

const SP: u32 = 31;

/// `bits` bits of `word` from `low` on, signed.
fn signed(word: u32, low: u32, bits: u32) -> i64 {
    i64::from((word << (32 - bits - low)) as i32 >> (32 - bits))
}

/// Decodes the instruction `word` at `at`.
pub fn decode(word: u32, at: u64) -> Instruction {
    let target = |low, bits| at.wrapping_add_signed(signed(word, low, bits) * 4);
    let (rd, rn) = (word & 31, word >> 5 & 31);
    let page_or_byte = signed(word, 5, 19) << 2 | i64::from(word >> 29 & 3);
    let immediate = u64::from(word >> 10 & 0xfff) << if word & 1 << 22 == 0 { 0 } else { 12 };
    if word & 0xfc00_0000 == 0x9400_0000 {
        Instruction::Call(target(0, 26))
    } else if word & 0xfc00_0000 == 0x1400_0000 {
        Instruction::Jump(target(0, 26))
    } else if word & 0xff00_0010 == 0x5400_0000 || word & 0x7e00_0000 == 0x3400_0000 {
        Instruction::Jump(target(5, 19))
    } else if word & 0x7e00_0000 == 0x3600_0000 {
        Instruction::Jump(target(5, 14))
    } else if word & 0xffff_fc1f == 0xd63f_0000 {
        Instruction::CallRegister
    } else if word & 0xffff_fc1f == 0xd61f_0000 {
        Instruction::JumpRegister(rn)
    } else if word & 0x9f00_0000 == 0x1000_0000 {
        Instruction::Address(rd, at.wrapping_add_signed(page_or_byte))
    } else if word & 0x9f00_0000 == 0x9000_0000 {
        Instruction::Page(rd, (at & !0xfff).wrapping_add_signed(page_or_byte << 12))
    } else if word & 0xff80_0000 == 0xd100_0000 && rd == SP && rn == SP {
        Instruction::Grow(immediate)
    } else if word & 0xff20_0000 == 0xcb20_0000 && rd == SP && rn == SP {
        Instruction::GrowUnknown
    } else if word & 0xff80_0000 == 0x9100_0000 {
        Instruction::Add(rd, rn, immediate)
    } else if word & 0xff00_0000 == 0x8b00_0000 {
        Instruction::AddRegister(rd)
    } else if word & 0xffc0_0000 == 0xa980_0000 && rn == SP {
        // STP, pre-indexed.
        Instruction::Grow(signed(word, 15, 7).min(0).unsigned_abs() * 8)
    } else if word & 0xffe0_0c00 == 0xf800_0c00 && rn == SP {
        // STR, pre-indexed.
        Instruction::Grow(signed(word, 12, 9).min(0).unsigned_abs())
    } else {
        Instruction::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_told_apart() {
        for (word, meaning) in [
            (0x9400_0002, Instruction::Call(0x1008)),
            (0x17ff_ffff, Instruction::Jump(0xffc)),
            (0x5400_0041, Instruction::Jump(0x1008)), // b.ne
            (0xb400_0040, Instruction::Jump(0x1008)), // cbz x0
            (0x3607_ffe8, Instruction::Jump(0xffc)),  // tbz w8, #0
            (0xd63f_0100, Instruction::CallRegister), // blr x8
            (0xd61f_0140, Instruction::JumpRegister(10)),
            (0xd108_03ff, Instruction::Grow(512)), // sub sp, sp, #512
            (0xd140_07ff, Instruction::Grow(4096)), // sub sp, sp, #1, lsl #12
            (0xa9ba_7bfd, Instruction::Grow(96)),  // stp x29, x30, [sp, #-96]!
            (0xf81d_0ffe, Instruction::Grow(48)),  // str x30, [sp, #-48]!
            (0xa900_7bfd, Instruction::Other),     // stp x29, x30, [sp]
            (0xcb28_63ff, Instruction::GrowUnknown), // sub sp, sp, x8
            (0x1000_0049, Instruction::Address(9, 0x1008)),
            (0xb000_0008, Instruction::Page(8, 0x2000)),
            (0x9120_0108, Instruction::Add(8, 8, 0x800)),
            (0x8b0b_014a, Instruction::AddRegister(10)),
            (0xd503_201f, Instruction::Other), // nop
        ] {
            assert_eq!(decode(word, 0x1000), meaning, "{word:#x}");
        }
    }
}
