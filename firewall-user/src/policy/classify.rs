//! The walk through a compiled table, step for step as the kernel does it. For tests of the
//! compiler, for "what would happen to this packet", and for the check that the operator's own
//! session survives a policy.

use super::compile::Compiled;
use crate::sets::Entry;
use firewall_common::abi::iface::IFACE_SLOTS;
use firewall_common::abi::limit::how;
use firewall_common::abi::set::{GATES, gate, test};
use firewall_common::abi::table::{
    ACTION_ASKS, Direction, Part, RuleAction, RuleTable, SLOT_DEFAULT_IN, SLOT_DEFAULT_OUT, STATES,
    State, Verdict,
};
use firewall_common::classify::{
    Arena as _, Fields, HAS_DPORT, HAS_SPORT, HAS_V4, NO_RULE, PLACES, Rows, Step, first,
    intervals, meets, nat_word, rows, step, trie,
};
use std::net::IpAddr;

/// What the rules get to see of a packet. Family is that of `src`; `dst` is of the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Hook.
    pub direction: Direction,
    /// Slot of the interface (`Slots::iface`); 0 for one the policy doesn't know.
    pub iface: u8,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number.
    pub proto: u8,
    /// Source port, if the protocol has ports.
    pub sport: u16,
    /// Destination port, if the protocol has ports.
    pub dport: u16,
    /// Type and code, if the protocol is ICMP or ICMPv6.
    pub icmp: (u8, u8),
    /// Flags byte, if the protocol is TCP.
    pub tcp_flags: u8,
    /// What connection tracking says.
    pub state: State,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `Allow`, `Drop`, `Reject`.
    pub verdict: Verdict,
    /// Place of the rule that decided, among the enabled ones; `None`: the default.
    pub rule: Option<usize>,
    /// Slot of the rule that decided, or of the default.
    pub slot: u32,
    /// Slots of the rules that counted it on the way.
    pub counted: Vec<u32>,
}

/// Whether the live set at an index holds an end of a packet.
pub type Holds<'h> = dyn Fn(u8, Entry) -> bool + 'h;

/// What live sets hold by the policy's own text, whatever stands in their files and was added since.
pub fn as_written(policy: &Compiled) -> impl Fn(u8, Entry) -> bool {
    |index, end| {
        let found = policy.sets.iter().find(|(at, _)| *at == index);
        found.is_some_and(|(_, set)| set.entries.iter().any(|(entry, _)| end.within(*entry)))
    }
}

/// An address, with its port or without, as a set would hold it.
pub(super) fn end(address: IpAddr, port: Option<u16>) -> Entry {
    match (address, port) {
        (IpAddr::V4(a), None) => Entry::Prefix4(a.into(), 32),
        (IpAddr::V4(a), Some(port)) => Entry::Pair4(a.into(), port),
        (IpAddr::V6(a), None) => Entry::Prefix6(a.into(), 128),
        (IpAddr::V6(a), Some(port)) => Entry::Pair6(a.into(), port),
    }
}

/// An end of a packet as a set would hold it, alone, its port alone or both; `None` where it has no port.
fn end_of(probe: &Probe, destination: bool, port: bool, pair: bool) -> Option<Entry> {
    let has_ports = matches!(probe.proto, 6 | 17 | 132 | 136);
    let (address, number) =
        if destination { (probe.dst, probe.dport) } else { (probe.src, probe.sport) };
    match (port, pair) {
        (true, _) => has_ports.then_some(Entry::Ports(number, number)),
        (_, true) => has_ports.then(|| end(address, Some(number))),
        _ => Some(end(address, None)),
    }
}

/// A packet, and what else than rows there is to know.
struct Asking<'a> {
    table: &'a RuleTable,
    arena: &'a [u64],
    probe: &'a Probe,
    holds: &'a Holds<'a>,
}

impl Asking<'_> {
    /// Whether what rows don't know of the rule at `place` holds.
    fn are_met(&self, action: RuleAction, place: u32) -> bool {
        action.flags() & ACTION_ASKS == 0
            || (0..4).all(|end| self.is_met(place, end)) && !self.is_over(place)
    }

    /// Whether the rule is about what exceeds a limit. Nothing does, as far as anybody knows here.
    fn is_over(&self, place: u32) -> bool {
        let said = self.arena.word(self.arena.half(self.table.asks + place) + 3);
        said as u32 & how::OVER != 0
    }

    fn is_met(&self, place: u32, at: u32) -> bool {
        let tests = self.arena.word(self.arena.half(self.table.asks + place));
        let asked = (tests >> (at * 16)) as u32 & 0xffff;
        if asked == 0 {
            return true;
        }
        let end = end_of(self.probe, at & 1 != 0, at >= 2, asked & test::PAIR != 0);
        let index = (asked & test::SET) - 1;
        let held = end.is_some_and(|end| (self.holds)(index as u8, end));
        held != (asked & test::NOT != 0)
    }

    /// What the policy's gates say, as a part of [`Fields::place`].
    fn gates(&self) -> u32 {
        (0..GATES).fold(0, |said, i| {
            let asked = (self.table.gates >> (i * 16)) as u32 & 0xffff;
            let (destination, port) = (asked & gate::DESTINATION != 0, asked & gate::PORT != 0);
            let end = end_of(self.probe, destination, port, asked & gate::PAIR != 0);
            let holds = |index: u32| end.is_some_and(|end| (self.holds)(index as u8, end));
            let held = (asked & gate::SET).checked_sub(1).is_some_and(holds);
            said | u32::from(held) << i
        }) * PLACES as u32
    }

    /// The first rule of a part that decides: its place, and what it does.
    fn first(&self, part: &Part, rows: &Rows) -> Option<(u32, RuleAction)> {
        let mut rule = first(self.arena, part, rows);
        while rule != NO_RULE {
            let place = self.arena.half(part.order + rule);
            let action = action(self.arena, part, rule);
            if self.are_met(action, place) {
                return Some((place, action));
            }
            let mut from = rule + 1;
            rule = loop {
                match step(self.arena, part, rows, from) {
                    Step::From(next) => from = next,
                    Step::Found(rule) => break rule,
                    Step::Over => break NO_RULE,
                }
            };
        }
        None
    }
}

/// What a probe is looked up by.
fn fields(probe: &Probe) -> Fields {
    let halves = |address: IpAddr| match address {
        IpAddr::V4(a) => [u64::from(u32::from(a)), 0],
        IpAddr::V6(a) => [(u128::from(a) >> 64) as u64, u128::from(a) as u64],
    };
    let is_v4 = probe.src.is_ipv4() && probe.dst.is_ipv4();
    let wide = |address: IpAddr| match address {
        IpAddr::V4(a) if !is_v4 => a.to_ipv6_mapped().into(),
        other => other,
    };
    let has_ports = matches!(probe.proto, 6 | 17 | 132 | 136);
    let is_icmp = matches!(probe.proto, 1 | 58);
    let of = |is: bool, bit: u32| if is { bit } else { 0 };
    let icmp = u16::from(probe.icmp.0) << 8 | u16::from(probe.icmp.1);
    let at =
        usize::from(probe.direction.raw()) * IFACE_SLOTS + usize::from(probe.iface) % IFACE_SLOTS;
    Fields {
        src: halves(wide(probe.src)),
        dst: halves(wide(probe.dst)),
        sport: probe.sport.into(),
        dport: if is_icmp { icmp.into() } else { probe.dport.into() },
        kind: if probe.proto == 6 { 256 + u32::from(probe.tcp_flags) } else { probe.proto.into() },
        place: (at * STATES) as u32 + u32::from(probe.state.raw()),
        has: of(is_v4, HAS_V4) | of(has_ports, HAS_SPORT) | of(has_ports || is_icmp, HAS_DPORT),
        _pad: 0,
    }
}

/// Index in `RuleTable::nat` of the translation that a new flow's packet meets at this hook.
pub fn translation(policy: &Compiled, probe: &Probe) -> Option<usize> {
    let (table, arena) = (&*policy.table, policy.arena.as_slice());
    let of_hook = match probe.direction {
        Direction::In => table.settings.nat_in | table.settings.prefix_in,
        Direction::Out => table.settings.nat_out | table.settings.prefix_out,
    };
    if of_hook == 0 {
        return None;
    }
    let rows = rows_of(arena, &table.parts[0], &fields(probe));
    let bits = of_hook & nat_word(arena, &rows, table.settings.nat_word);
    (bits != 0).then(|| bits.trailing_zeros() as usize)
}

fn rows_of(arena: &[u64], part: &Part, f: &Fields) -> Rows {
    let mut out = Rows::default();
    rows(arena, part, f, &mut out);
    out
}

/// The parts that a packet is asked for.
fn parts<'t>(table: &'t RuleTable, arena: &[u64], f: &Fields) -> Vec<&'t Part> {
    let mut all: Vec<usize> = (0..table.always as usize).collect();
    if table.cut != 0 {
        let ends = if f.has & HAS_V4 != 0 {
            [
                trie(arena, table.by_dst4, f.dst[0] as u32),
                trie(arena, table.by_src4, f.src[0] as u32),
            ]
        } else {
            [
                intervals(arena, &table.by_dst6, f.dst[0], f.dst[1]),
                intervals(arena, &table.by_src6, f.src[0], f.src[1]),
            ]
        };
        all.extend(ends.into_iter().filter(|part| *part != 0).map(|part| part as usize));
    }
    all.into_iter().filter_map(|part| table.parts.get(part)).collect()
}

/// What rule `rule` of a part does.
pub(super) fn action(arena: &[u64], part: &Part, rule: u32) -> RuleAction {
    let raw = arena.half(part.actions + rule);
    RuleAction(raw)
}

/// Judges a packet that belongs to no flow yet. Live sets are taken [`as_written`].
pub fn classify(policy: &Compiled, probe: &Probe) -> Outcome {
    classify_with(policy, probe, &as_written(policy))
}

/// As [`classify`], with live sets as somebody else knows them.
pub fn classify_with(policy: &Compiled, probe: &Probe, holds: &Holds<'_>) -> Outcome {
    let (table, arena) = (&*policy.table, policy.arena.as_slice());
    let asking = Asking { table, arena, probe, holds };
    let mut f = fields(probe);
    f.place += asking.gates();
    let met = parts(table, arena, &f)
        .into_iter()
        .filter_map(|part| asking.first(part, &rows_of(arena, part, &f)));
    let met = met.min_by_key(|(place, _)| *place);
    let part = &table.parts[0];
    let walked = rows_of(arena, part, &f);
    let counted = table.continues[..table.continues_len as usize]
        .iter()
        .map(|rule| u32::from(*rule))
        .filter(|rule| met.is_none_or(|(place, _)| arena.half(part.order + rule) < place))
        .filter(|rule| meets(arena, part, &walked, *rule))
        .filter(|rule| asking.are_met(action(arena, part, *rule), arena.half(part.order + rule)))
        .map(|rule| action(arena, part, rule).slot())
        .collect();
    if let Some((place, action)) = met {
        let verdict = Verdict::try_from(action.verdict()).unwrap_or(Verdict::Drop);
        return Outcome {
            verdict,
            rule: Some((place / policy.gap) as usize),
            slot: action.slot(),
            counted,
        };
    }
    let default = table.settings.defaults[probe.direction.raw() as usize];
    let slot = match probe.direction {
        Direction::In => SLOT_DEFAULT_IN,
        Direction::Out => SLOT_DEFAULT_OUT,
    };
    Outcome {
        verdict: Verdict::try_from(default).unwrap_or(Verdict::Drop),
        rule: None,
        slot,
        counted,
    }
}
