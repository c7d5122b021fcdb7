//! Members of the running kernel's structures, out of its own description of its types (BTF:
//! Documentation/bpf/btf.rst, include/uapi/linux/btf.h).
//!
//! aya reads BTF for itself and shows no members; the crate that does, `btf-rs`, has a licence (LGPL) that a
//! binary linked as one piece can't follow. What is needed here is little: structures by name, members by path.

use std::{collections::HashMap, path::Path};

/// Where the kernel keeps it.
const KERNEL: &str = "/sys/kernel/btf/vmlinux";
/// BTF_MAGIC.
const MAGIC: u16 = 0xeb9f;

/// BTF_KIND_*.
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// What is wrong with the kernel's types.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// They can't be read.
    #[error("{KERNEL}: {0}")]
    Read(#[from] std::io::Error),
    /// They are not what they should be.
    #[error("{KERNEL}: malformed at byte {0}")]
    Malformed(usize),
    /// A structure isn't there.
    #[error("the kernel has no `struct {0}`")]
    NoStruct(String),
    /// A member isn't.
    #[error("the kernel's `struct {0}` has no member `{1}`")]
    NoMember(String, String),
}

/// The kernel's structures.
pub struct Structures {
    bytes: Vec<u8>,
    /// Where each type begins, by its number; number 0 is `void`.
    types: Vec<usize>,
    strings: usize,
    by_name: HashMap<String, u32>,
}

/// A type's head.
struct Type {
    name: u32,
    kind: u32,
    /// How many members, or such.
    count: usize,
    /// Bitfields have their size in the high byte of their offset.
    bitfields: bool,
    /// Size, or the type that is meant.
    of: u32,
}

impl Structures {
    /// Of the running kernel.
    ///
    /// # Errors
    /// It has no BTF, or it can't be read.
    pub fn of_kernel() -> Result<Self, BtfError> {
        Self::read(Path::new(KERNEL))
    }

    fn read(path: &Path) -> Result<Self, BtfError> {
        Self::parse(std::fs::read(path)?)
    }

    fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let this = Self { bytes, types: vec![usize::MAX], strings: 0, by_name: HashMap::new() };
        if this.short(0)? != MAGIC {
            return Err(BtfError::Malformed(0));
        }
        let head = this.word(4)? as usize;
        let (start, length) = (head + this.word(8)? as usize, this.word(12)? as usize);
        let strings = head + this.word(16)? as usize;
        let mut this = Self { strings, ..this };
        let mut at = start;
        while at < start + length {
            this.types.push(at);
            let head = this.head(at)?;
            let number = (this.types.len() - 1) as u32;
            if head.kind == STRUCT && head.name != 0 {
                let name = this.name(head.name)?.to_owned();
                this.by_name.entry(name).or_insert(number);
            }
            at += 12
                + match head.kind {
                    INT | VAR | DECL_TAG => 4,
                    ARRAY => 12,
                    STRUCT | UNION | DATASEC | ENUM64 => head.count * 12,
                    ENUM | FUNC_PROTO => head.count * 8,
                    _ => 0,
                };
        }
        Ok(this)
    }

    fn word(&self, at: usize) -> Result<u32, BtfError> {
        let bytes = self.bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_ne_bytes).ok_or(BtfError::Malformed(at))
    }

    fn short(&self, at: usize) -> Result<u16, BtfError> {
        let bytes = self.bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u16::from_ne_bytes).ok_or(BtfError::Malformed(at))
    }

    fn head(&self, at: usize) -> Result<Type, BtfError> {
        let info = self.word(at + 4)?;
        Ok(Type {
            name: self.word(at)?,
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            bitfields: info >> 31 != 0,
            of: self.word(at + 8)?,
        })
    }

    fn name(&self, offset: u32) -> Result<&str, BtfError> {
        let at = self.strings + offset as usize;
        let rest = self.bytes.get(at..).ok_or(BtfError::Malformed(at))?;
        let end = rest.iter().position(|byte| *byte == 0).ok_or(BtfError::Malformed(at))?;
        std::str::from_utf8(&rest[..end]).map_err(|_| BtfError::Malformed(at))
    }

    /// Byte offset of a member within a structure: `path` names members within members, with dots between;
    /// members of nameless ones are found by themselves.
    ///
    /// # Errors
    /// There is no such structure, or no such member.
    pub fn offset(&self, structure: &str, path: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::NoMember(structure.to_owned(), path.to_owned());
        let mut number =
            *self.by_name.get(structure).ok_or_else(|| BtfError::NoStruct(structure.to_owned()))?;
        let mut bits = 0;
        for member in path.split('.') {
            let (offset, of) = self.member(number, member)?.ok_or_else(missing)?;
            bits += offset;
            number = of;
        }
        Ok(bits / 8)
    }

    /// Names of an enumeration's values, with them.
    ///
    /// # Errors
    /// The kernel has none of that name.
    pub fn enumerators(&self, wanted: &str) -> Result<Vec<(u32, String)>, BtfError> {
        for at in self.types.iter().copied().filter(|at| *at != usize::MAX) {
            let head = self.head(at)?;
            if head.kind != ENUM || head.name == 0 || self.name(head.name)? != wanted {
                continue;
            }
            let value = |i: usize| {
                let at = at + 12 + i * 8;
                Ok((self.word(at + 4)?, self.name(self.word(at)?)?.to_owned()))
            };
            return (0..head.count).map(value).collect();
        }
        Err(BtfError::NoStruct(wanted.to_owned()))
    }

    /// Bit offset and type of a member.
    fn member(&self, number: u32, wanted: &str) -> Result<Option<(u32, u32)>, BtfError> {
        let number = self.plain(number)?;
        let Some(&at) = self.types.get(number as usize).filter(|at| **at != usize::MAX) else {
            return Ok(None);
        };
        let head = self.head(at)?;
        if !matches!(head.kind, STRUCT | UNION) {
            return Ok(None);
        }
        for i in 0..head.count {
            let at = at + 12 + i * 12;
            let (name, of, offset) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
            let offset = if head.bitfields { offset & 0xff_ffff } else { offset };
            if name == 0 {
                if let Some((within, of)) = self.member(of, wanted)? {
                    return Ok(Some((offset + within, of)));
                }
            } else if self.name(name)? == wanted {
                return Ok(Some((offset, of)));
            }
        }
        Ok(None)
    }

    /// The type behind names and qualifiers.
    fn plain(&self, mut number: u32) -> Result<u32, BtfError> {
        // No chain is as long as this.
        for _ in 0..32 {
            let Some(&at) = self.types.get(number as usize).filter(|at| **at != usize::MAX) else {
                break;
            };
            let head = self.head(at)?;
            if !matches!(head.kind, TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG) {
                break;
            }
            number = head.of;
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct a { int x; struct { int y; }; t z; }` with `typedef struct b t` and `struct b { int w: 3; int v; }`.
    fn made_up() -> Vec<u8> {
        let strings = b"\0a\0x\0y\0z\0b\0w\0v\0t\0";
        let mut types: Vec<u32> = Vec::new();
        types.extend([0, INT << 24, 4, 32]); // 1: int
        types.extend([0, STRUCT << 24 | 1, 4, 5, 1, 0]); // 2: struct { int y; }
        types.extend([9, 1 << 31 | STRUCT << 24 | 2, 8, 11, 1, 3 << 24, 13, 1, 32]); // 3: struct b
        types.extend([15, TYPEDEF << 24, 3]); // 4: t
        types.extend([1, STRUCT << 24 | 3, 16, 3, 1, 0, 0, 2, 32, 7, 4, 64]); // 5: struct a
        let length = types.len() as u32 * 4;
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_ne_bytes());
        bytes.extend([1, 0]);
        for word in [24, 0, length, length, strings.len() as u32] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        types.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_by_their_path() {
        let all = Structures::parse(made_up()).expect("well formed");
        let offset = |path| all.offset("a", path).ok();
        assert_eq!((offset("x"), offset("y"), offset("z")), (Some(0), Some(4), Some(8)));
        assert_eq!((offset("z.v"), offset("z.w")), (Some(12), Some(8)));
        assert!(matches!(all.offset("a", "z.u"), Err(BtfError::NoMember(..))));
        assert!(matches!(all.offset("a", "x.y"), Err(BtfError::NoMember(..))), "int has none");
        assert!(matches!(all.offset("c", "x"), Err(BtfError::NoStruct(_))));
    }

    #[test]
    fn what_is_cut_short_is_malformed() {
        let whole = made_up();
        for length in 0..whole.len() - 19 {
            assert!(Structures::parse(whole[..length].to_vec()).is_err(), "{length} bytes");
        }
        assert!(matches!(Structures::parse(vec![0; 64]), Err(BtfError::Malformed(0))));
    }
}
