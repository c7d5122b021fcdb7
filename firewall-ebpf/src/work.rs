//! What is known of the packet at hand. It lives in a per-CPU map, because 512 bytes of stack are not
//! enough for it; programs of one CPU don't nest, so each packet has it to itself.

use firewall_common::{
    abi::{
        flow::Flow,
        frag::{FragFirst, FragKey},
        table::Direction,
    },
    wire::{Facts, options::Options},
};

use crate::{classify::Rows, conntrack::Key, nat::{Mapping, Rewrite}, table::Scan};

/// The packet at hand. Keys live here too: the verifier wants every access to the stack aligned, and
/// the fields of a key aren't.
#[repr(C)]
pub struct Work {
    /// What the parser found.
    pub facts: Facts,
    /// The original direction's facts, where a reply is judged; the packet within an ICMP error.
    pub other: Facts,
    /// Its key in the flow table.
    pub key: Key,
    /// Key of the packet within an ICMP error.
    pub other_key: Key,
    /// Its key among the fragments.
    pub frag_key: FragKey,
    /// A first fragment's facts on their way into the map.
    pub frag_first: FragFirst,
    /// A flow on its way into the table.
    pub flow: Flow,
    /// What is known of the room in its buckets.
    pub scan: Scan,
    /// TCP options of a SYN.
    pub options: Options,
    /// Their bytes.
    pub option_bytes: [u8; 40],
    /// How the packet has to be translated here.
    pub rewrite: Rewrite,
    /// The mapping that is being made.
    pub mapping: Mapping,
    /// The classifier's rows.
    pub rows: Rows,
    /// An answer on its way into the packet.
    pub answer: [u8; 96],
    /// Tick at which the packet met the hook.
    pub now: u64,
    /// Segments.
    pub packets: u64,
    /// Bytes from the IP header on, of all segments.
    pub bytes: u64,
    /// Secret of the tables.
    pub seed: u64,
    /// Hash of `key`.
    pub hash: u64,
    /// Slot of the flow that was entered; `u32::MAX`: another CPU was faster.
    pub slot: u32,
    /// Generation that judges.
    pub generation: u32,
    /// Interface.
    pub ifindex: u32,
    /// Frame length, bytes.
    pub frame_len: u32,
    /// Slot of the interface.
    pub iface: u8,
    /// Hook.
    pub direction: Direction,
}
