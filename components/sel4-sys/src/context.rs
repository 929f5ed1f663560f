//! A thread's registers and a vCPU's (libsel4 aarch64 `types.h`, `constants.h`).

use crate::numbered;
use core::mem::{offset_of, size_of};

/// Words of [`UserContext`].
pub const USER_CONTEXT_WORDS: usize = 36;

/// The registers of a thread, in the order of TCB_ReadRegisters and TCB_WriteRegisters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs)]
pub struct UserContext {
    pub pc: u64,
    pub sp: u64,
    pub spsr: u64,
    pub x0: u64,
    pub x1: u64,
    pub x2: u64,
    pub x3: u64,
    pub x4: u64,
    pub x5: u64,
    pub x6: u64,
    pub x7: u64,
    pub x8: u64,
    pub x16: u64,
    pub x17: u64,
    pub x18: u64,
    pub x29: u64,
    pub x30: u64,
    pub x9: u64,
    pub x10: u64,
    pub x11: u64,
    pub x12: u64,
    pub x13: u64,
    pub x14: u64,
    pub x15: u64,
    pub x19: u64,
    pub x20: u64,
    pub x21: u64,
    pub x22: u64,
    pub x23: u64,
    pub x24: u64,
    pub x25: u64,
    pub x26: u64,
    pub x27: u64,
    pub x28: u64,
    pub tpidr_el0: u64,
    pub tpidrro_el0: u64,
}

const _: () = {
    assert!(size_of::<UserContext>() == USER_CONTEXT_WORDS * 8);
    assert!(offset_of!(UserContext, pc) == 0);
    assert!(offset_of!(UserContext, x0) == 24);
    assert!(offset_of!(UserContext, x16) == 96);
    assert!(offset_of!(UserContext, x9) == 136);
    assert!(offset_of!(UserContext, tpidr_el0) == 272);
    assert!(offset_of!(UserContext, tpidrro_el0) == 280);
};

impl UserContext {
    /// The registers as the words of a message.
    #[must_use]
    pub const fn to_words(&self) -> [u64; USER_CONTEXT_WORDS] {
        [
            self.pc,
            self.sp,
            self.spsr,
            self.x0,
            self.x1,
            self.x2,
            self.x3,
            self.x4,
            self.x5,
            self.x6,
            self.x7,
            self.x8,
            self.x16,
            self.x17,
            self.x18,
            self.x29,
            self.x30,
            self.x9,
            self.x10,
            self.x11,
            self.x12,
            self.x13,
            self.x14,
            self.x15,
            self.x19,
            self.x20,
            self.x21,
            self.x22,
            self.x23,
            self.x24,
            self.x25,
            self.x26,
            self.x27,
            self.x28,
            self.tpidr_el0,
            self.tpidrro_el0,
        ]
    }

    /// Index in [`Self::to_words`] of general register x`number`, `None` for 31 and above.
    #[must_use]
    pub const fn word_of_x(number: usize) -> Option<usize> {
        match number {
            0..=8 => Some(3 + number),
            9..=15 => Some(17 + number - 9),
            16..=18 => Some(12 + number - 16),
            19..=28 => Some(24 + number - 19),
            29 | 30 => Some(15 + number - 29),
            _ => None,
        }
    }

    /// The registers from the words of a message.
    #[must_use]
    pub const fn from_words(words: &[u64; USER_CONTEXT_WORDS]) -> Self {
        let [
            pc,
            sp,
            spsr,
            x0,
            x1,
            x2,
            x3,
            x4,
            x5,
            x6,
            x7,
            x8,
            x16,
            x17,
            x18,
            x29,
            x30,
            x9,
            x10,
            x11,
            x12,
            x13,
            x14,
            x15,
            x19,
            x20,
            x21,
            x22,
            x23,
            x24,
            x25,
            x26,
            x27,
            x28,
            tpidr_el0,
            tpidrro_el0,
        ] = *words;
        Self {
            pc,
            sp,
            spsr,
            x0,
            x1,
            x2,
            x3,
            x4,
            x5,
            x6,
            x7,
            x8,
            x16,
            x17,
            x18,
            x29,
            x30,
            x9,
            x10,
            x11,
            x12,
            x13,
            x14,
            x15,
            x19,
            x20,
            x21,
            x22,
            x23,
            x24,
            x25,
            x26,
            x27,
            x28,
            tpidr_el0,
            tpidrro_el0,
        }
    }
}

numbered! {
    /// A register of a vCPU (seL4_VCPUReg).
    #[allow(missing_docs)]
    pub enum VcpuReg {
        Sctlr = 0,
        Cpacr = 1,
        Ttbr0 = 2,
        Ttbr1 = 3,
        Tcr = 4,
        Mair = 5,
        Amair = 6,
        Cidr = 7,
        Actlr = 8,
        Afsr0 = 9,
        Afsr1 = 10,
        Esr = 11,
        Far = 12,
        Par = 13,
        Vbar = 14,
        TpidrEl1 = 15,
        VmpidrEl2 = 16,
        SpEl1 = 17,
        ElrEl1 = 18,
        SpsrEl1 = 19,
        CntvCtl = 20,
        CntvCval = 21,
        Cntvoff = 22,
        CntkctlEl1 = 23,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_registers_agree() {
        let mut words = [0u64; USER_CONTEXT_WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = index as u64;
        }
        let context = UserContext::from_words(&words);
        assert_eq!(context.to_words(), words);
        assert_eq!(UserContext::word_of_x(9), Some(context.x9 as usize));
        assert_eq!(UserContext::word_of_x(18), Some(context.x18 as usize));
        assert_eq!(UserContext::word_of_x(30), Some(context.x30 as usize));
        assert_eq!(UserContext::word_of_x(28), Some(context.x28 as usize));
        assert_eq!(UserContext::word_of_x(31), None);
        assert_eq!(
            offset_of!(UserContext, x19) / 8,
            UserContext::word_of_x(19).unwrap()
        );
    }
}
