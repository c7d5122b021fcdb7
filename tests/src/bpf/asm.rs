//! A small assembler: instructions by name, jumps forward to one end.
//!
//! Numbers are those of `include/uapi/linux/bpf.h`; an instruction is one little-endian word:
//! opcode, registers, offset, immediate.

/// A register: `r0` to `r10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reg {
    /// Result.
    R0,
    /// First argument.
    R1,
    /// Second argument.
    R2,
    /// Third argument.
    R3,
    /// Fourth argument.
    R4,
    /// Fifth argument.
    R5,
    /// Kept across calls.
    R6,
    /// Kept across calls.
    R7,
    /// Kept across calls.
    R8,
    /// Kept across calls.
    R9,
}

/// `BPF_PSEUDO_MAP_FD`, `BPF_PSEUDO_MAP_VALUE`.
const MAP: u8 = 1;
const MAP_MEMORY: u8 = 2;

/// A program being written.
#[derive(Clone, Debug, Default)]
pub struct Asm {
    code: Vec<u64>,
    /// Jumps that go to the end, wherever that will be.
    to_end: Vec<usize>,
}

impl Asm {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// The program `r0 = code; exit`.
    pub fn returning(code: u32) -> Vec<u64> {
        Self::new().set(Reg::R0, code.cast_signed()).exit()
    }

    fn put(mut self, op: u8, dst: Reg, src: u8, off: i16, imm: i32) -> Self {
        self.code.push(
            u64::from(op)
                | u64::from(dst as u8 | src << 4) << 8
                | u64::from(off.cast_unsigned()) << 16
                | u64::from(imm.cast_unsigned()) << 32,
        );
        self
    }

    /// `dst = value`.
    pub fn set(self, dst: Reg, value: i32) -> Self {
        self.put(0xb7, dst, 0, 0, value)
    }

    /// `dst = src`.
    pub fn copy(self, dst: Reg, src: Reg) -> Self {
        self.put(0xbf, dst, src as u8, 0, 0)
    }

    /// `dst += value`.
    pub fn add(self, dst: Reg, value: i32) -> Self {
        self.put(0x07, dst, 0, 0, value)
    }

    /// `dst += src`.
    pub fn add_reg(self, dst: Reg, src: Reg) -> Self {
        self.put(0x0f, dst, src as u8, 0, 0)
    }

    /// `dst *= value`.
    pub fn multiply(self, dst: Reg, value: i32) -> Self {
        self.put(0x27, dst, 0, 0, value)
    }

    /// `dst &= value`.
    pub fn and(self, dst: Reg, value: i32) -> Self {
        self.put(0x57, dst, 0, 0, value)
    }

    /// `dst = *(u32 *)(src + off)`.
    pub fn load32(self, dst: Reg, src: Reg, off: i16) -> Self {
        self.put(0x61, dst, src as u8, off, 0)
    }

    /// `dst = *(u64 *)(src + off)`.
    pub fn load64(self, dst: Reg, src: Reg, off: i16) -> Self {
        self.put(0x79, dst, src as u8, off, 0)
    }

    /// `*(u32 *)(dst + off) = src`.
    pub fn store32(self, dst: Reg, off: i16, src: Reg) -> Self {
        self.put(0x63, dst, src as u8, off, 0)
    }

    /// `*(u64 *)(dst + off) = src`.
    pub fn store64(self, dst: Reg, off: i16, src: Reg) -> Self {
        self.put(0x7b, dst, src as u8, off, 0)
    }

    /// `dst = map`, for a call.
    pub fn map(self, dst: Reg, map: &super::Map) -> Self {
        self.put(0x18, dst, MAP, 0, map.descriptor()).put(0, Reg::R0, 0, 0, 0)
    }

    /// `dst =` address of the one value of an array.
    pub fn memory(self, dst: Reg, map: &super::Map) -> Self {
        self.put(0x18, dst, MAP_MEMORY, 0, map.descriptor()).put(0, Reg::R0, 0, 0, 0)
    }

    /// To the end, if `a > b`.
    pub fn end_if_greater(mut self, a: Reg, b: Reg) -> Self {
        self.to_end.push(self.code.len());
        self.put(0x2d, a, b as u8, 0, 0)
    }

    /// Calls a helper by number.
    pub fn call(self, helper: i32) -> Self {
        self.put(0x85, Reg::R0, 0, 0, helper)
    }

    /// The end of a way: `exit`. Jumps to the end that were written so far come here.
    pub fn exit(self) -> Vec<u64> {
        self.put(0x95, Reg::R0, 0, 0, 0).code
    }

    /// `exit`, and behind it the place that jumps to the end go to.
    pub fn exit_then_end(mut self) -> Self {
        self = self.put(0x95, Reg::R0, 0, 0, 0);
        let here = self.code.len();
        for at in std::mem::take(&mut self.to_end) {
            let distance = (here - at - 1) as u64;
            self.code[at] |= distance << 16;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{Asm, Reg};

    #[test]
    fn instructions_are_the_documented_words() {
        assert_eq!(Asm::returning(2), [0x0000_0002_0000_00b7, 0x95]);
        let code = Asm::new()
            .end_if_greater(Reg::R4, Reg::R3)
            .set(Reg::R0, 1)
            .exit_then_end()
            .set(Reg::R0, -1)
            .exit();
        assert_eq!(
            code,
            [0x0000_0000_0002_342d, 0x0000_0001_0000_00b7, 0x95, 0xffff_ffff_0000_00b7, 0x95]
        );
    }
}
