//! A compiled policy: the classifier's tables and everything else that a swap must change at once.
//!
//! Each field of a packet is looked up to a *row*: the set of rules, as a bit vector in rule order,
//! whose condition on that field the packet meets. The AND of all rows is the set of rules that
//! match; its first bit is the verdict. Rows are shared (equal sets are stored once), so that
//! thousands of prefixes need few.

use super::{
    iface::IFACE_SLOTS,
    nat::{MAX_NAT_RULES, NatRule},
    numbers, plain_bytes,
};
use bytemuck::{Pod, Zeroable};

/// Most rules a policy may have.
pub const MAX_RULES: usize = 1024;
/// 64-bit words of a row.
pub const WORDS: usize = MAX_RULES / 64;
/// Rows in the pool.
pub const MAX_ROWS: usize = 8192;
/// Row 0: no rule. Row 1: every rule.
pub const ROW_NONE: u16 = 0;
/// See [`ROW_NONE`].
pub const ROW_ALL: u16 = 1;
/// Second-level IPv4 entries a direction (source, destination).
pub const V4_LEAVES: usize = 32_768;
/// IPv6 interval starts a direction.
pub const V6_BOUNDS: usize = 8192;
/// Rule slots: indices of `RULE_COUNTERS` and `RULE_NAMES`.
pub const RULE_SLOTS: usize = 4096;
/// Slot of "no rule".
pub const SLOT_NONE: u16 = 0;
/// Slot that counts the default for incoming packets.
pub const SLOT_DEFAULT_IN: u16 = 1;
/// Slot that counts the default for outgoing packets.
pub const SLOT_DEFAULT_OUT: u16 = 2;
/// First slot that a named rule may own.
pub const SLOT_FIRST: u16 = 16;

numbers! {
    /// What happens to a packet.
    Verdict(u8) {
        /// Not decided: the rule only counts or logs, and the next one is asked.
        Continue = 0 => "count",
        /// Passes.
        Allow = 1 => "allow",
        /// Vanishes.
        Drop = 2 => "drop",
        /// Refused with an answer: TCP RST, else ICMP unreachable.
        Reject = 3 => "reject",
    }
}

numbers! {
    /// Which way through the interface.
    Direction(u8) {
        /// Into the machine.
        In = 0 => "in",
        /// Out of the machine.
        Out = 1 => "out",
    }
}

numbers! {
    /// What connection tracking says of a packet, as rules match it.
    State(u8) {
        /// Would begin a flow.
        New = 0 => "new",
        /// Belongs to a flow (only seen by rules when a new policy judges a live flow's packet).
        Established = 1 => "established",
        /// An ICMP error about a known flow.
        Related = 2 => "related",
        /// Can't begin a flow and belongs to none.
        Invalid = 3 => "invalid",
        /// Neither begins a flow nor belongs to one, and nothing is wrong with it: ICMP messages that
        /// neither ask nor answer, whatever a `no-track` rule let by.
        Untracked = 4 => "untracked",
    }
}

/// Number of [`State`]s, rounded up to a power of two.
pub const STATES: usize = 8;

/// Most rules that only count or log ([`Verdict::Continue`]): the kernel tests each of them, and its
/// verifier wants the walk short.
pub const MAX_CONTINUES: usize = 64;

/// [`RuleAction::flags`]: tell of each match through a `log` event (sampled).
pub const ACTION_LOG: u8 = 1;
/// [`RuleAction::flags`]: what the rule lets by enters no flow.
pub const ACTION_NO_TRACK: u8 = 2;
/// [`RuleAction::flags`]: SYNs that the rule lets by are answered with a cookie.
pub const ACTION_COOKIES: u8 = 4;
/// [`RuleAction::flags`]: packets of the flow go to the AF_XDP socket of the queue they came in at.
pub const ACTION_BYPASS: u8 = 8;

/// What rule number *i* does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RuleAction {
    /// [`Verdict`].
    pub verdict: u8,
    /// `ACTION_*`.
    pub flags: u8,
    /// Stable slot of its counters and name.
    pub slot: u16,
}

numbers! {
    /// Time-outs, as indices of [`Settings::timeouts`].
    Timeout(u8) {
        /// SYN seen, or SYN and SYN-ACK.
        TcpHandshake = 0 => "tcp-handshake",
        /// Both ways open (RFC 5382 REQ-5: at least 2 h 4 min).
        TcpEstablished = 1 => "tcp-established",
        /// One side said FIN.
        TcpHalfClosed = 2 => "tcp-half-closed",
        /// Both said FIN, or one RST.
        TcpClosed = 3 => "tcp-closed",
        /// UDP without a reply yet.
        UdpNew = 4 => "udp-new",
        /// UDP with a reply (RFC 4787 REQ-5: at least 2 min).
        UdpEstablished = 5 => "udp-established",
        /// ICMP query.
        Icmp = 6 => "icmp",
        /// Any other protocol.
        Other = 7 => "other",
        /// How long a first fragment is remembered for the rest (Linux: 30 s).
        Fragment = 8 => "fragment",
        /// UDP that goes both ways beyond a first exchange (netfilter's `udp_timeout_stream`).
        UdpStream = 9 => "udp-stream",
        /// SCTP (netfilter: 3.5 days).
        Sctp = 10 => "sctp",
        /// GRE.
        Gre = 11 => "gre",
    }
}

/// Number of [`Timeout`]s.
pub const TIMEOUTS: usize = 12;

/// [`Settings::flags`]: a TCP segment without SYN may begin a flow (netfilter's `tcp_loose`).
pub const SETTING_TCP_PICKUP: u32 = 1;
/// [`Settings::flags`]: some rule only counts or logs.
pub const SETTING_HAS_CONTINUE: u32 = 2;
/// [`Settings::flags`]: TCP segments outside the window are dropped; else they only count under their
/// reason.
pub const SETTING_WINDOW_STRICT: u32 = 4;
/// [`Settings::flags`]: windows are not looked at.
pub const SETTING_WINDOW_OFF: u32 = 8;
/// [`Settings::flags`]: where new flows find no room, the oldest unanswered one makes it; else the new
/// one is refused.
pub const SETTING_EVICT_HALF_OPEN: u32 = 16;
/// [`Settings::flags`]: established forwarded flows may skip the stack.
pub const SETTING_FAST_PATH: u32 = 32;

/// The policy's settings.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Settings {
    /// Time-outs by [`Timeout`]. The policy compiler writes **milliseconds**; `datapath` turns them
    /// into ticks on the way into the kernel.
    pub timeouts: [u32; TIMEOUTS],
    /// `SETTING_*`.
    pub flags: u32,
    /// 64-bit words of a row that are in use for rules (not for translation rules).
    pub words: u32,
    /// Verdict by [`Direction`] where no rule matches.
    pub defaults: [u8; 2],
    /// Verdict for what can't be parsed.
    pub malformed: u8,
    /// Verdict for EtherTypes other than IPv4, IPv6, ARP.
    pub ethertypes: u8,
    /// Verdict for a later fragment whose first wasn't seen.
    pub fragments: u8,
    /// Verdict for a new flow when the table is full: drop, or allow (untracked).
    pub flow_full: u8,
    /// Explicit padding.
    pub _pad: [u8; 2],
    /// Length of a budget window, ticks; written by `datapath`.
    pub budget_window: u32,
    /// Answers to rejected packets a window and CPU. The policy compiler writes them a **second** and
    /// machine; `datapath` turns them into this.
    pub reject_budget: u32,
    /// Sampled events (verdict, log) a window and CPU; as `reject_budget`.
    pub sample_budget: u32,
    /// First word of a row that speaks of translation rules.
    pub nat_word: u32,
    /// Most flows of one source address (IPv6: of one /64); 0: no limit.
    pub source_flows: u32,
    /// SYNs a window and CPU from which on each is answered with a cookie; 0: never by rate. As
    /// `reject_budget`.
    pub cookie_rate: u32,
    /// Events of new flows a window and CPU; more are held back (and counted), so that a flood of first
    /// packets can't drown the ring. As `reject_budget`.
    pub new_budget: u32,
    /// UDP and others that go both ways for longer than this after their first packet are streams, ticks
    /// (netfilter: 2 s); written by `datapath`.
    pub stream_after: u32,
    /// Translation rules (bits of word `nat_word`) that change destinations, at ingress.
    pub nat_in: u64,
    /// Translation rules that change sources, at egress.
    pub nat_out: u64,
    /// Rules for IPv6 prefixes that change destinations, at ingress; not in `nat_in`.
    pub prefix_in: u64,
    /// Rules for IPv6 prefixes that change sources, at egress; not in `nat_out`.
    pub prefix_out: u64,
}

/// IPv4 address to row. `top[high 16 bits]` is a row (bit 31 clear), or `1<<31 | k<<24 | base`: then
/// 2^k leaves from `base` on hold `start<<16 | row`, sorted by `start`, the first with start 0,
/// padded with copies of the last; the row is that of the last leaf whose start <= low 16 bits.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct V4Map {
    /// First level.
    pub top: [u32; 65_536],
    /// Second level.
    pub leaves: [u32; V4_LEAVES],
}

/// [`V4Map::top`]: the entry points to leaves.
pub const V4_POINTER: u32 = 1 << 31;

/// IPv6 address to row: 2^`log2_len` intervals, sorted by start (two host-endian halves), the first
/// with start 0, padded with (u64::MAX, u64::MAX) and the last real row. The row is that of the last
/// start <= address.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct V6Map {
    /// Upper halves of the starts.
    pub hi: [u64; V6_BOUNDS],
    /// Lower halves.
    pub lo: [u64; V6_BOUNDS],
    /// Rows.
    pub row: [u16; V6_BOUNDS],
    /// See the type.
    pub log2_len: u32,
    /// Explicit padding.
    pub _pad: u32,
}

/// One whole policy: an entry of map `TABLES` (two entries; `generation & 1` is live). The daemon
/// writes the idle one, flips the generation, and waits a grace period before it writes again.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct RuleTable {
    /// Settings.
    pub settings: Settings,
    /// What each rule does, in order.
    pub actions: [RuleAction; MAX_RULES],
    /// Bits of the rules that decide; set by [`RuleTable::index_actions`].
    pub terminal: [u64; WORDS],
    /// Indices of the rules that only count or log, ascending; as `terminal`.
    pub continues: [u16; MAX_CONTINUES],
    /// How many of `continues` are in use.
    pub continues_len: u32,
    /// Explicit padding.
    pub _pad: u32,
    /// Row by [`Direction`] and interface slot: `direction * IFACE_SLOTS + slot`.
    pub meta: [u16; 2 * IFACE_SLOTS],
    /// Row by IP protocol number.
    pub proto: [u16; 256],
    /// Row by TCP flags byte; other protocols skip it.
    pub tcp_flags: [u16; 256],
    /// Row by [`State`].
    pub state: [u16; STATES],
    /// Translation rules, in order: rule `i` is bit `i` of word `nat_word`.
    pub nat: [NatRule; MAX_NAT_RULES],
    /// Row by source port (host-endian); protocols without ports use entry 0 of `no_port`.
    pub sport: [u16; 65_536],
    /// Row by destination port (host-endian); ICMP and ICMPv6: `type << 8 | code`.
    pub dport: [u16; 65_536],
    /// Rows for packets without ports: source, destination, TCP flags (not TCP), unused.
    pub no_port: [u16; 4],
    /// IPv4 source.
    pub src4: V4Map,
    /// IPv4 destination.
    pub dst4: V4Map,
    /// IPv6 source.
    pub src6: V6Map,
    /// IPv6 destination.
    pub dst6: V6Map,
    /// The pool of rows.
    pub rows: [[u64; WORDS]; MAX_ROWS],
}

impl RuleTable {
    /// Derives `terminal` and `continues` from the actions in use (those with a slot).
    ///
    /// # Errors
    /// The number of rules that only count or log, where that is more than [`MAX_CONTINUES`].
    pub fn index_actions(&mut self) -> Result<(), usize> {
        self.terminal = [0; WORDS];
        let mut n = 0;
        for (i, action) in self.actions.iter().enumerate() {
            if action.slot == SLOT_NONE {
                continue;
            }
            if action.verdict != Verdict::Continue as u8 {
                self.terminal[i / 64] |= 1 << (i % 64);
            } else {
                if let Some(slot) = self.continues.get_mut(n) {
                    *slot = i as u16;
                }
                n += 1;
            }
        }
        self.continues_len = n.min(MAX_CONTINUES) as u32;
        if n > MAX_CONTINUES { Err(n) } else { Ok(()) }
    }
}

const _: () = assert!(core::mem::size_of::<RuleAction>() == 4);
const _: () = assert!(core::mem::size_of::<Settings>() == 128);
plain_bytes!(RuleTable => 128 + 4096 + 128 + 128 + 8 + 256 + 512 + 512 + 16 + 64 * 44 + 131_072 * 2 + 8
    + 2 * (262_144 + 131_072) + 2 * (8192 * 18 + 8) + 1_048_576);
