//! Translations to the kernel's rules.

use super::super::ast::{AddrRange, Half, Mapping, Nat, Policy, PortTarget, Translation};
use super::super::resolved::Resolved;
use super::{CompileError, Part};
use firewall_common::abi::iface::IFACE_SLOTS;
use firewall_common::abi::nat::{
    MAX_NAT_RULES, NAT_BLOCKS, NAT_ENDPOINT_INDEPENDENT, NAT_HAIRPIN, NAT_TO_PORT, NatKind,
    NatRule, POOL_ADDRESSES,
};
use firewall_common::flow::nptv6;
use std::net::{IpAddr, Ipv4Addr};

/// What people want to know of a translation that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledNat {
    /// Slot of its counters, among the rules' slots.
    pub slot: u32,
    /// Name.
    pub name: String,
    /// `masquerade`, `source`, `destination`, `redirect`, `static`, `prefix`.
    pub kind: &'static str,
    /// As written, on one line.
    pub text: String,
    /// Whether it takes part.
    pub enabled: bool,
    /// Public addresses, from the first to the second; none where they are the interface's own.
    pub public: Vec<(IpAddr, IpAddr)>,
    /// First and last address inside that packets are sent to: of the kinds that translate destinations.
    pub inside: Option<(IpAddr, IpAddr)>,
    /// Ports: those that flows get, or those that destinations get.
    pub ports: Option<(u16, u16)>,
    /// Ports of each host inside, where each has a block.
    pub block: Option<u16>,
    /// Interfaces it is about, by name; with `true`: all but these. `None`: all.
    pub on: Option<(bool, Vec<String>)>,
    /// Index of its first public address in map `PORTS`; of enabled pools only. A masquerade uses the
    /// slot of the interface that the flow leaves through.
    pub pool: Option<u16>,
}

/// Public addresses and their places in map `PORTS`, in the order of the policy.
#[derive(Default)]
pub struct Pools {
    /// First and last address, index of the first.
    runs: Vec<((u32, u32), u16)>,
    used: usize,
}

impl Pools {
    /// The index of the first of these addresses. Two pools over the same addresses share their ports.
    fn place(&mut self, pool: (Ipv4Addr, Ipv4Addr)) -> u16 {
        let (first, last) = (u32::from(pool.0), u32::from(pool.1));
        let within = |((a, b), _): &&((u32, u32), u16)| *a <= first && last <= *b;
        if let Some(((a, _), index)) = self.runs.iter().find(within) {
            return index + (first - a) as u16;
        }
        // Past the limit the number no longer matters: the policy will be refused.
        let index = u16::try_from(IFACE_SLOTS + self.used).unwrap_or(u16::MAX);
        self.runs.push(((first, last), index));
        self.used += (last - first) as usize + 1;
        index
    }

    /// Addresses that have a place.
    pub fn len(&self) -> usize {
        self.used
    }
}

/// Translations that take part, each with what the kernel does for it.
pub fn enabled(policy: &Policy) -> Result<Vec<(&Nat, Half)>, CompileError> {
    let halves: Vec<(&Nat, Half)> = policy
        .nats
        .iter()
        .filter(|nat| nat.enabled)
        .flat_map(|nat| nat.halves().into_iter().map(move |half| (nat, half)))
        .collect();
    CompileError::check(Part::Nats, halves.len(), MAX_NAT_RULES)?;
    Ok(halves)
}

/// The pools of a policy's enabled translations.
pub fn pools(halves: &[(&Nat, Half)]) -> Result<Pools, CompileError> {
    let mut pools = Pools::default();
    for (nat, _) in halves {
        if let Translation::Source { pool, .. } = &nat.translation {
            pools.place(*pool);
        }
    }
    CompileError::check(Part::PoolAddresses, pools.len(), POOL_ADDRESSES - IFACE_SLOTS)?;
    Ok(pools)
}

/// Whether it changes destinations, at ingress.
pub const fn at_ingress(kind: NatKind) -> bool {
    match kind {
        NatKind::Destination | NatKind::Redirect | NatKind::StaticIn | NatKind::PrefixIn => true,
        NatKind::None
        | NatKind::Masquerade
        | NatKind::Source
        | NatKind::StaticOut
        | NatKind::PrefixOut => false,
    }
}

/// The kernel's rule.
pub fn rule(nat: &Nat, half: &Half, slot: u32, pools: &mut Pools) -> NatRule {
    let mut rule = NatRule { kind: half.kind.raw(), slot, ..NatRule::default() };
    match &nat.translation {
        Translation::Masquerade(mapping) => {
            mapped(&mut rule, *mapping);
            rule.addresses = 1;
        }
        Translation::Source { pool, mapping, blocks } => {
            mapped(&mut rule, *mapping);
            rule.to = pool.0.octets();
            rule.addresses = (u32::from(pool.1) - u32::from(pool.0) + 1) as u16;
            rule.pool = pools.place(*pool);
            if let Some(blocks) = blocks {
                rule.flags |= NAT_BLOCKS;
                rule.block = blocks.size;
                rule.inside = blocks.inside.first.octets();
                rule.inside_len = blocks.inside.len;
            }
        }
        Translation::Destination { to, ports, hairpin } => {
            rule.to = to.octets();
            rule.addresses = 1;
            if *hairpin {
                rule.flags |= NAT_HAIRPIN;
            }
            to_ports(&mut rule, *ports);
        }
        Translation::Redirect { ports } => to_ports(&mut rule, *ports),
        Translation::Static { inside, outside } => {
            let target = if half.kind == NatKind::StaticIn { inside } else { outside };
            rule.to = target.first.octets();
            rule.inside = inside.first.octets();
            rule.inside_len = inside.len;
            // A whole /16 and beyond don't fit the field; nobody asks it of this kind.
            rule.addresses = u16::try_from(1u64 << (32 - inside.len)).unwrap_or(u16::MAX);
        }
        Translation::Prefix { inside, outside } => {
            let (from, to) = match half.kind {
                NatKind::PrefixIn => (outside, inside),
                _ => (inside, outside),
            };
            rule.prefix = to.first.octets();
            rule.prefix_len = to.len;
            rule.adjust = nptv6::adjustment(&from.first.octets(), &to.first.octets());
        }
    }
    rule
}

fn mapped(rule: &mut NatRule, mapping: Mapping) {
    rule.ports = [mapping.ports.0, mapping.ports.1];
    if mapping.endpoint_independent {
        rule.flags |= NAT_ENDPOINT_INDEPENDENT;
    }
}

fn to_ports(rule: &mut NatRule, target: Option<PortTarget>) {
    if let Some(target) = target {
        rule.flags |= NAT_TO_PORT;
        rule.ports = [target.ports.0, target.ports.1];
        rule.from_port = target.from.unwrap_or(0);
    }
}

/// What people see of it.
pub fn view(nat: &Nat, slot: u32, pools: &mut Pools, resolved: &Resolved) -> CompiledNat {
    let one = |range: AddrRange| vec![range.ends()];
    let range = |(a, b): (Ipv4Addr, Ipv4Addr)| AddrRange::V4(a.into(), b.into());
    let (mut public, mut inside, mut ports, mut block) = (Vec::new(), None, None, None);
    let mut pool = None;
    match &nat.translation {
        Translation::Masquerade(mapping) => ports = Some(mapping.ports),
        Translation::Source { pool: addresses, mapping, blocks } => {
            public = one(range(*addresses));
            ports = Some(mapping.ports);
            block = blocks.map(|b| b.size);
            pool = nat.enabled.then(|| pools.place(*addresses));
        }
        Translation::Destination { to, ports: target, .. } => {
            if let Some(list) = nat.when.dst.addrs.as_ref().filter(|list| !list.negated) {
                let set = resolved.addresses(list);
                public =
                    set.v4.as_slice().iter().map(|(a, b)| AddrRange::V4(*a, *b).ends()).collect();
            }
            inside = Some(((*to).into(), (*to).into()));
            ports = target.map(|t| t.ports);
        }
        Translation::Redirect { ports: target } => ports = target.map(|t| t.ports),
        Translation::Static { inside: a, outside: b } => {
            public = one(b.range());
            inside = Some(a.range().ends());
        }
        Translation::Prefix { inside: a, outside: b } => {
            public = one(b.range());
            inside = Some(a.range().ends());
        }
    }
    CompiledNat {
        slot,
        name: nat.name.value.clone(),
        kind: nat.translation.name(),
        text: nat.text.clone(),
        enabled: nat.enabled,
        public,
        inside,
        ports,
        block,
        on: nat
            .when
            .on
            .as_ref()
            .map(|on| (on.negated, resolved.interfaces(on).into_iter().collect())),
        pool,
    }
}

#[cfg(test)]
mod tests;
