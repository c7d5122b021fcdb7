//! Translation of addresses and ports: what a policy asks for, and what is in force.
//!
//! A translated flow has one record, as any flow, and one or two *aliases*: the other tuples under which
//! its packets are seen. The flow's own key is the tuple at which its first packet came in. Ingress
//! rewrites the destination, egress the source, in both directions of the flow; so the tuples are
//!
//! ```text
//! original, as it came in        s  -> d     the flow's key
//! translated, as it goes out     s' -> d'    alias (kind OUTER); replies come in as d' -> s'
//! between the two hooks          s  -> d'    alias (kind INNER), only where both ends are translated
//! ```
//!
//! Entering the OUTER alias is the reservation of its port: one atomic step, one winner.

use super::{flow::Key4, numbers, plain_bytes};
use bytemuck::{Pod, Zeroable};

/// Most translation rules of a policy: one word of a row.
pub const MAX_NAT_RULES: usize = 64;

/// Public addresses that may be used with ports of their own: the first 64 belong to the interface
/// slots (masquerade), the rest to the policy's pools in the order in which they stand.
pub const POOL_ADDRESSES: usize = 256;

/// Hosts inside that have totals of their own; more share the last row, which the user sees as `other`.
pub const NAT_HOSTS: usize = 4096;

numbers! {
    /// What a rule translates.
    NatKind(u8) {
        /// No rule.
        None = 0 => "none",
        /// Source, to the address of the interface it leaves through.
        Masquerade = 1 => "masquerade",
        /// Source, to an address of a pool.
        Source = 2 => "source",
        /// Destination, to an address (and port) inside.
        Destination = 3 => "destination",
        /// Destination, to the machine's own address at the interface it came in at.
        Redirect = 4 => "redirect",
        /// One to one, both ways: the half that translates sources.
        StaticOut = 5 => "static-out",
        /// One to one, both ways: the half that translates destinations.
        StaticIn = 6 => "static-in",
        /// IPv6 prefix translation (RFC 6296), without state: outgoing sources.
        PrefixOut = 7 => "prefix-out",
        /// IPv6 prefix translation: incoming destinations.
        PrefixIn = 8 => "prefix-in",
    }
}

/// [`NatRule::flags`]: one inside endpoint keeps one public endpoint, whomever it talks to (RFC 4787
/// REQ-1).
pub const NAT_ENDPOINT_INDEPENDENT: u8 = 1;
/// [`NatRule::flags`]: a destination rule that also serves clients on the inside of the same interface:
/// their source becomes the interface's address, so that answers come back this way.
pub const NAT_HAIRPIN: u8 = 2;
/// [`NatRule::flags`]: each inside host has its block of ports by arithmetic (RFC 7422).
pub const NAT_BLOCKS: u8 = 4;
/// [`NatRule::flags`]: the destination's port is translated too, to `ports`.
pub const NAT_TO_PORT: u8 = 8;

/// One translation rule: what happens to a packet that meets its conditions, which are bits in the
/// classifier's rows like those of any rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct NatRule {
    /// [`NatKind`].
    pub kind: u8,
    /// `NAT_*`.
    pub flags: u8,
    /// Source rules: first of its addresses in map `PORTS` (masquerade: by interface slot).
    pub pool: u16,
    /// Stable slot of its counters and name, among the rules' slots.
    pub slot: u32,
    /// IPv4: first address of the target, as on the wire.
    pub to: [u8; 4],
    /// IPv4, static and blocks: first address of the inside prefix.
    pub inside: [u8; 4],
    /// Ports to use, host-endian, both included. Destination rules: the range that the ports go to.
    pub ports: [u16; 2],
    /// Destination rules: first port of the range that was asked for; the target's port keeps the
    /// distance. 0: every packet goes to `ports[0]`.
    pub from_port: u16,
    /// Blocks: ports of each inside host.
    pub block: u16,
    /// Length of the inside prefix, bits (static, blocks, prefix).
    pub inside_len: u8,
    /// IPv6 prefix translation: length of both prefixes, bits, at most 64.
    pub prefix_len: u8,
    /// IPv6 prefix translation: what is added, in one's complement, to one word of an inside address
    /// (RFC 6296 section 3.1); host-endian.
    pub adjust: u16,
    /// IPv6 prefix translation: prefix that comes in place of the other.
    pub prefix: [u8; 16],
    /// How many public addresses, from `to` on.
    pub addresses: u16,
    /// Explicit padding.
    pub _pad: u16,
}

/// Every tuple beside its own under which a flow's packets are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Alias4 {
    /// The tuple, canonical like any key.
    pub key: Key4,
    /// Slot of the flow's record in `FLOWS4`.
    pub flow: u32,
    /// Stable slot of the rule.
    pub rule: u32,
    /// Index of the public address in map `PORTS`, plus 1; 0: no port is reserved.
    pub pool: u16,
    /// `ALIAS_*`.
    pub flags: u16,
    /// Slot of the flow's inner alias, plus 1; 0: there is none.
    pub inner: u32,
}

/// [`Alias4::flags`]: the original direction's source is end `a` of this key.
pub const ALIAS_ORIG_IS_A: u16 = 1;
/// [`Alias4::flags`]: the tuple between the two hooks; else it is the translated tuple.
pub const ALIAS_INNER: u16 = 2;

/// [`Alias4::flags`]: the destination rule asks for a hairpin.
pub const ALIAS_HAIRPIN: u16 = 4;
/// [`Alias4::flags`]: no tuple, but what an endpoint inside has outside (see [`endpoint_key`]): `flow` holds
/// the public address as on the wire, `inner` the public port.
pub const ALIAS_ENDPOINT: u16 = 8;
/// [`Alias4::flags`]: its port is that of an endpoint, and stays in use when the flow ends.
pub const ALIAS_KEEPS_PORT: u16 = 16;

/// Key of what an endpoint inside has by a rule: that of no packet, for its padding isn't zero.
#[inline(always)]
pub const fn endpoint_key(src: [u8; 4], sport: [u8; 2], proto: u8, rule: u32) -> Key4 {
    let [_, high, b_port @ ..] = rule.to_be_bytes();
    Key4 { a: src, b: [0; 4], a_port: sport, b_port, proto, _pad: [1, high, 0] }
}

/// Ports of one public address and protocol, an entry of map `PORTS`, `3 * address + class` (TCP, UDP,
/// ICMP identifiers). A set bit says that some mapping uses the port. It is a hint that makes the search
/// short: the truth is the alias. Set by programs, cleared by the sweep, which counts anew.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Ports {
    /// A bit a port.
    pub used: [u64; 1024],
    /// A bit a word of `used` in which every bit is set.
    pub full: [u64; 16],
    /// Mappings made on ports that were in use towards other destinations, since the sweep last counted.
    pub shared: u64,
    /// Mappings that could not be made because no port was left.
    pub failures: u64,
    /// Mappings made.
    pub made: u64,
    /// Most ports in use at once, as the sweep saw it.
    pub peak: u64,
    /// Ports in use, as the sweep saw it.
    pub in_use: u64,
    /// The last long search that found no port to share: its destination's hash (high half) and its tick. Plain
    /// stores; a lost race costs a search.
    pub searched: u64,
}

/// Totals of ended translated flows, by rule slot (map `NAT_RULES`) and by inside host (map `NAT_HOSTS`).
/// Whoever takes a flow out of the table adds its totals here first, with atomic adds; so a total is this
/// plus the live flows, also after a daemon was killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct NatTotals {
    /// Host: its address as a number in the low half, 1 << 32 if in use. Rule: unused.
    pub owner: u64,
    /// Mappings begun.
    pub mappings: u64,
    /// Mappings ended.
    pub ended: u64,
    /// Mappings refused: no port was left.
    pub failures: u64,
    /// Packets of the original direction of ended flows.
    pub packets: u64,
    /// Bytes of those, from the IP header on.
    pub bytes: u64,
    /// Packets of the reply direction of ended flows.
    pub reply_packets: u64,
    /// Bytes of those.
    pub reply_bytes: u64,
}

plain_bytes!(NatRule => 48, Alias4 => 32, Ports => 8192 + 128 + 48, NatTotals => 64);
