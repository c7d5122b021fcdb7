//! The walk through a compiled table, step for step as the kernel does it. For tests of the
//! compiler, for "what would happen to this packet", and for the check that the operator's own
//! session survives a policy.

use firewall_common::abi::iface::IFACE_SLOTS;
use firewall_common::abi::table::{
    Direction, RuleTable, SLOT_DEFAULT_IN, SLOT_DEFAULT_OUT, State, V4_POINTER, V4Map, V6Map,
    Verdict, WORDS,
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
    pub slot: u16,
    /// Slots of the rules that counted it on the way.
    pub counted: Vec<u16>,
}

/// A row of the table.
type Row = [u64; WORDS];

/// The rows of a packet: what is set in all of them matches.
fn rows<'t>(table: &'t RuleTable, probe: &Probe) -> [&'t Row; 8] {
    let row = |number: u16| &table.rows[usize::from(number)];
    let meta = table.meta
        [probe.direction.raw() as usize * IFACE_SLOTS + usize::from(probe.iface) % IFACE_SLOTS];
    let (src, dst) = match (probe.src, probe.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            (v4_row(&table.src4, src.into()), v4_row(&table.dst4, dst.into()))
        }
        (src, dst) => (v6_row(&table.src6, bits6(src)), v6_row(&table.dst6, bits6(dst))),
    };
    let (sport, dport) = match probe.proto {
        6 | 17 | 132 | 136 => {
            (table.sport[usize::from(probe.sport)], table.dport[usize::from(probe.dport)])
        }
        1 | 58 => {
            let index = u16::from(probe.icmp.0) << 8 | u16::from(probe.icmp.1);
            (table.no_port[0], table.dport[usize::from(index)])
        }
        _ => (table.no_port[0], table.no_port[1]),
    };
    let flags = if probe.proto == 6 {
        table.tcp_flags[usize::from(probe.tcp_flags)]
    } else {
        table.no_port[2]
    };
    [
        row(meta),
        row(table.proto[usize::from(probe.proto)]),
        row(table.state[probe.state.raw() as usize]),
        row(src),
        row(dst),
        row(sport),
        row(dport),
        row(flags),
    ]
}

/// Index in `RuleTable::nat` of the translation that a new flow's packet meets at this hook.
pub fn translation(table: &RuleTable, probe: &Probe) -> Option<usize> {
    let of_hook = match probe.direction {
        Direction::In => table.settings.nat_in | table.settings.prefix_in,
        Direction::Out => table.settings.nat_out | table.settings.prefix_out,
    };
    let word = table.settings.nat_word as usize;
    let bits = rows(table, probe)
        .iter()
        .fold(of_hook, |bits, row| bits & row.get(word).copied().unwrap_or(0));
    (bits != 0).then(|| bits.trailing_zeros() as usize)
}

/// Judges a packet that belongs to no flow yet.
pub fn classify(table: &RuleTable, probe: &Probe) -> Outcome {
    let rows = rows(table, probe);
    let mut counted = Vec::new();
    for word in 0..(table.settings.words as usize).min(WORDS) {
        let mut bits = rows.iter().fold(u64::MAX, |bits, row| bits & row[word]);
        while bits != 0 {
            let rule = word * 64 + bits.trailing_zeros() as usize;
            let action = table.actions[rule];
            match Verdict::try_from(action.verdict) {
                Ok(Verdict::Continue) | Err(_) => counted.push(action.slot),
                Ok(verdict) => {
                    return Outcome { verdict, rule: Some(rule), slot: action.slot, counted };
                }
            }
            bits &= bits - 1;
        }
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

/// The row of an IPv4 address.
pub fn v4_row(map: &V4Map, addr: u32) -> u16 {
    let entry = map.top[(addr >> 16) as usize];
    if entry & V4_POINTER == 0 {
        return entry as u16;
    }
    let (k, base, low) =
        ((entry & !V4_POINTER) >> 24, (entry & 0x00ff_ffff) as usize, addr & 0xffff);
    let mut at = 0;
    for step in (0..k).rev().map(|k| 1usize << k) {
        if map.leaves[base + at + step] >> 16 <= low {
            at += step;
        }
    }
    map.leaves[base + at] as u16
}

/// The row of an IPv6 address.
pub fn v6_row(map: &V6Map, addr: u128) -> u16 {
    let start = |i: usize| u128::from(map.hi[i]) << 64 | u128::from(map.lo[i]);
    let mut at = 0;
    for step in (0..map.log2_len).rev().map(|k| 1usize << k) {
        if start(at + step) <= addr {
            at += step;
        }
    }
    map.row[at]
}

fn bits6(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => a.to_ipv6_mapped().into(),
        IpAddr::V6(a) => a.into(),
    }
}
