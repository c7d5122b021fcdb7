//! Names that have to outlive the daemon: which rule owns a slot, which interface owns a slot.

use super::plain_bytes;
use bytemuck::{Pod, Zeroable};

/// Longest name of a rule or an interface, bytes.
pub const NAME_LEN: usize = 56;

/// One entry of maps `RULE_NAMES` (by rule slot) and `IFACE_NAMES` (by interface slot). Written and
/// read by the daemon only: it is how the next one finds out whose counters these are.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Name {
    /// UTF-8, zero-padded.
    pub text: [u8; NAME_LEN],
    /// Bytes used; 0 is a free slot.
    pub len: u32,
    /// Generation at which the name last stood in the live policy (slots are reused oldest first).
    pub generation: u32,
}

impl Name {
    /// A name, or `None` where it is empty or longer than [`NAME_LEN`].
    pub fn new(name: &str, generation: u32) -> Option<Self> {
        if name.is_empty() || name.len() > NAME_LEN {
            return None;
        }
        let mut text = [0; NAME_LEN];
        text[..name.len()].copy_from_slice(name.as_bytes());
        Some(Self { text, len: name.len() as u32, generation })
    }
    /// The text; empty if the slot is free or its bytes aren't UTF-8.
    pub fn as_str(&self) -> &str {
        let len = (self.len as usize).min(NAME_LEN);
        core::str::from_utf8(&self.text[..len]).unwrap_or("")
    }
}

impl Default for Name {
    fn default() -> Self {
        Self { text: [0; NAME_LEN], len: 0, generation: 0 }
    }
}

plain_bytes!(Name => 64);
