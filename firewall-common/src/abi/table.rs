//! A compiled policy: what a swap must change at once.
//!
//! The rules stand in *parts* of up to 16,384 each. In a part each field of a packet is looked up to a *row*: the set of
//! its rules, as a bit vector in rule order, whose condition on that field the packet meets. The AND of all rows is the set
//! of rules that match; its first bit decides. Rows are shared (equal sets are stored once), so that thousands of prefixes
//! need few. Rows and what leads to them stand in an *arena*, a map of its own for each policy
//! ([`RuleTable::size`]); this table says where. The look-ups are [`crate::classify`]'s.

use super::{
    nat::{MAX_NAT_RULES, NatRule},
    numbers, plain_bytes,
};
use bytemuck::{Pod, Zeroable};

/// Rule slots: indices of `RULE_COUNTERS` and `RULE_NAMES`.
pub const RULE_SLOTS: usize = 131_072;
/// Most rules a policy may have: each has a slot.
pub const MAX_RULES: usize = RULE_SLOTS - SLOT_FIRST as usize;
/// Most parts.
pub const MAX_PARTS: usize = 256;
/// Most parts that every packet is asked for.
pub const MAX_ALWAYS: usize = 8;
/// Most rules of a part.
pub const PART_RULES: usize = 16_384;
/// 64-bit words of rules in a part's rows, at most.
pub const PART_WORDS: usize = PART_RULES / 64;
/// 64-bit words of the arenas, by [`RuleTable::size`]: maps `RULES_S`, `RULES_M`, `RULES_L`.
pub const ARENAS: [usize; 3] = [1 << 17, 1 << 22, 1 << 25];
/// Slot of "no rule".
pub const SLOT_NONE: u32 = 0;
/// Slot that counts the default for incoming packets.
pub const SLOT_DEFAULT_IN: u32 = 1;
/// Slot that counts the default for outgoing packets.
pub const SLOT_DEFAULT_OUT: u32 = 2;
/// First slot that a named rule may own.
pub const SLOT_FIRST: u32 = 16;

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
/// [`RuleAction::flags`]: the rule has conditions that rows don't know ([`super::set::ASK_WORDS`]).
pub const ACTION_ASKS: u8 = 16;
/// [`RuleAction::flags`]: it adds to sets.
pub const ACTION_ADDS: u8 = 32;
/// [`RuleAction::flags`]: packets or bits of the flows that it lets in are limited.
pub const ACTION_LIMITS: u8 = 64;

/// What rule number *i* does, in half a word: slot (bits 31..10), flags (9..2), verdict (1..0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct RuleAction(pub u32);

impl RuleAction {
    /// Packs an action.
    #[inline(always)]
    #[must_use]
    pub const fn new(verdict: Verdict, flags: u8, slot: u32) -> Self {
        Self(slot << 10 | (flags as u32) << 2 | verdict as u32)
    }
    /// [`Verdict`], raw.
    #[inline(always)]
    #[must_use]
    pub const fn verdict(self) -> u8 {
        self.0 as u8 & 3
    }
    /// `ACTION_*`.
    #[inline(always)]
    #[must_use]
    pub const fn flags(self) -> u8 {
        (self.0 >> 2) as u8
    }
    /// Stable slot of its counters and name.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.0 >> 10
    }
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

/// IPv6 intervals: starts, sorted, the first 0, as pairs of words (upper and lower half, host-endian) in the arena from
/// word `starts` on; what each leads to from half-word `values` on. Their number is a power of two: the last address and the
/// last value stand there again and again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Intervals {
    /// First word of the starts.
    pub starts: u32,
    /// First half-word of the values.
    pub values: u32,
    /// Half their number; 0: there is one.
    pub step: u32,
}

/// Some of the rules, in order. A row is the offset of its first word in the arena: `summaries` words whose bits say
/// which of the `words` words behind them aren't zero, then those; in part 0 one more, of translation rules. Tries are
/// as [`crate::classify::trie`] reads them, their leaves rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Part {
    /// Trie of IPv4 sources.
    pub src4: u32,
    /// Trie of IPv4 destinations.
    pub dst4: u32,
    /// Rows of IPv6 sources.
    pub src6: Intervals,
    /// Rows of IPv6 destinations.
    pub dst6: Intervals,
    /// Trie of source ports (in the upper 16 bits of the key).
    pub sport: u32,
    /// Trie of destination ports; ICMP and ICMPv6: `type << 8 | code`.
    pub dport: u32,
    /// Row for packets without a source port.
    pub no_sport: u32,
    /// Row for packets without a destination port, type or code.
    pub no_dport: u32,
    /// First half-word of `KINDS` rows: by protocol number; TCP: 256 + flags.
    pub kind: u32,
    /// First half-word of `PLACES` rows by `(direction * IFACE_SLOTS + slot) * STATES + state`; where there are `gates`, of
    /// as many for each of the answers that they may give.
    pub place: u32,
    /// Words of rules in a row.
    pub words: u32,
    /// Words before those that sum them up.
    pub summaries: u32,
    /// First word of the rules that decide, as bits.
    pub terminal: u32,
    /// First half-word of the [`RuleAction`]s.
    pub actions: u32,
    /// First half-word of the rules' places among all rules.
    pub order: u32,
    /// Explicit padding.
    pub _pad: u32,
}

/// One whole policy but for its arena: an entry of map `TABLES` (two entries; `generation & 1` is live). The daemon
/// writes the idle one, flips the generation, and waits a grace period before it writes again.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct RuleTable {
    /// Settings.
    pub settings: Settings,
    /// Rules of part 0 that only count or log, ascending.
    pub continues: [u16; MAX_CONTINUES],
    /// How many of `continues` are in use.
    pub continues_len: u32,
    /// Which of [`ARENAS`] the rows stand in.
    pub size: u32,
    /// Every packet is asked for in that many parts, from part 0 on.
    pub always: u32,
    /// Trie: part that is asked for an IPv4 destination; 0: none.
    pub by_dst4: u32,
    /// The same for an IPv4 source.
    pub by_src4: u32,
    /// The same for an IPv6 destination.
    pub by_dst6: Intervals,
    /// The same for an IPv6 source.
    pub by_src6: Intervals,
    /// 1: some packets have parts of their own.
    pub cut: u32,
    /// `ACTION_*` that any rule has.
    pub any_flags: u32,
    /// First half-word of an array by a rule's place among all: the first word of what rows don't know of it
    /// ([`super::set::ASK_WORDS`]); 0: nothing. Read where `ACTION_ASKS` or `ACTION_ADDS` says so.
    pub asks: u32,
    /// Tests of live sets that are made before rows are looked up, 16 bits each ([`super::set::gate`]): bit `i` of what is
    /// looked up says whether the set of test `i` holds the packet. 0: none.
    pub gates: u64,
    /// The parts.
    pub parts: [Part; MAX_PARTS],
    /// Translation rules, in order: rule `i` is bit `i` of a row's word `nat_word`.
    pub nat: [NatRule; MAX_NAT_RULES],
}

const _: () = assert!(core::mem::size_of::<RuleAction>() == 4);
// Half a word's 22 bits, and the 24 of a judgement and a limit's key, hold every slot.
const _: () = assert!(RULE_SLOTS <= 1 << 22);
const _: () = assert!(core::mem::size_of::<Settings>() == 128);
const _: () = assert!(core::mem::size_of::<Part>() == 80);
plain_bytes!(RuleTable => 128 + 128 + 64 + 80 * MAX_PARTS + 64 * 48);
