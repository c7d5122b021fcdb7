//! Policy to the kernel's tables: one row of rule bits for each value of each field.

mod arena;
mod axis;
mod cut;
mod extra;
mod gates;
mod live;
mod nat;
mod owner;
mod part;
mod plan;
mod rows;
mod small;
mod trie;

use super::Slots;
use super::ast::{
    Action, Conditions, FlowFull, HalfOpenFull, IcmpMatch, LimitUnit, Policy, Rule, SynCookies,
    TcpWindow,
};
use super::ranges::Ranges;
use super::resolved::Resolved;
use crate::sets::Declared;
pub use extra::{EXTRA_WORDS, Extra, GAP, Seat, extra, room};
use firewall_common::abi::iface::IFACE_SLOTS;
use firewall_common::abi::nat::NatKind;
use firewall_common::abi::table::{
    ACTION_ADDS, ACTION_ASKS, ACTION_BYPASS, ACTION_COOKIES, ACTION_LIMITS, ACTION_LOG,
    ACTION_NO_TRACK, ARENAS, MAX_CONTINUES, MAX_RULES, RuleAction, RuleTable,
    SETTING_EVICT_HALF_OPEN, SETTING_FAST_PATH, SETTING_HAS_CONTINUE, SETTING_TCP_PICKUP,
    SETTING_WINDOW_OFF, SETTING_WINDOW_STRICT, Settings, Verdict,
};
use gates::{Gates, Wanted};
pub use nat::CompiledNat;
pub use owner::OwnerRules;
pub use plan::{PartPlan, Why};
use std::collections::BTreeSet;

/// A policy that can be installed.
pub struct Compiled {
    /// The tables. [`Settings::timeouts`](firewall_common::abi::table::Settings) are milliseconds,
    /// budgets and rates are a second, of the whole machine: `datapath` turns them into what the
    /// kernel wants.
    pub table: Box<RuleTable>,
    /// The words that the table points into.
    pub arena: Vec<u64>,
    /// The parts that the rules were cut into.
    pub plan: Vec<PartPlan>,
    /// Rules by owner, if there are any enabled.
    pub owners: Option<OwnerRules>,
    /// Every rule, in order, disabled ones too.
    pub rules: Vec<CompiledRule>,
    /// Every translation, in order, disabled ones too.
    pub nats: Vec<CompiledNat>,
    /// Live sets that it declares, by their indices in map `SETS`.
    pub sets: Vec<(u8, Declared)>,
    /// Interfaces the policy names.
    pub interfaces: BTreeSet<String>,
    /// How full the tables are.
    pub usage: Usage,
    /// Between the places of two rules that packets are judged by.
    pub gap: u32,
    /// Where each of those stands.
    pub seats: Vec<Seat>,
    /// Word of the arena behind which parts may come.
    pub extras: u32,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled")
            .field("rules", &self.rules)
            .field("nats", &self.nats)
            .field("usage", &self.usage)
            .finish_non_exhaustive()
    }
}

/// What people want to know of a rule that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledRule {
    /// Slot of its counters.
    pub slot: u32,
    /// Name.
    pub name: String,
    /// `allow`, `drop`, `reject`, `count`, `bypass`.
    pub action: &'static str,
    /// What the action means to a packet.
    pub verdict: Verdict,
    /// As written, on one line.
    pub text: String,
    /// Whether it takes part.
    pub enabled: bool,
    /// Whether it logs.
    pub log: bool,
}

/// How full the tables are, next to the `abi::table` limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Enabled rules, of `MAX_RULES`.
    pub rules: usize,
    /// Translation rules, of `MAX_NAT_RULES`; those both ways count twice.
    pub nats: usize,
    /// Public addresses of pools, of `POOL_ADDRESSES - IFACE_SLOTS`.
    pub pool_addresses: usize,
    /// Distinct rows of all parts.
    pub rows: usize,
    /// Bytes of the arena, of the largest of `ARENAS`.
    pub bytes: usize,
}

/// A part of the tables that has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Enabled rules.
    Rules,
    /// Enabled rules that only count or log.
    CountRules,
    /// Rules and translations with counters, disabled ones too.
    RuleSlots,
    /// Enabled translations; those both ways count twice.
    Nats,
    /// Live sets, those that are about to go included.
    LiveSets,
    /// Public addresses of all pools.
    PoolAddresses,
    /// Interfaces named, and those attached.
    Interfaces,
    /// Parts that the rules are cut into.
    Parts,
    /// Bytes of rows and of what leads to them.
    Bytes,
    /// Distinct combinations of rules over all fields (rules by owner).
    Rows,
    /// IPv4 source entries.
    Ipv4Sources,
    /// IPv4 destination entries.
    Ipv4Destinations,
    /// IPv6 source intervals.
    Ipv6Sources,
    /// IPv6 destination intervals.
    Ipv6Destinations,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Rules => "enabled rules",
            Self::CountRules => "rules that only count or log",
            Self::RuleSlots => "rules and translations (disabled ones counted)",
            Self::Nats => "translations (`static` and `prefix` counted twice)",
            Self::LiveSets => "live sets (those that are about to go counted)",
            Self::PoolAddresses => "public addresses of pools",
            Self::Interfaces => "interfaces (attached ones counted)",
            Self::Parts => "parts of rules",
            Self::Bytes => "bytes of tables",
            Self::Rows => "distinct combinations of rules",
            Self::Ipv4Sources => "entries for IPv4 sources",
            Self::Ipv4Destinations => "entries for IPv4 destinations",
            Self::Ipv6Sources => "intervals of IPv6 sources",
            Self::Ipv6Destinations => "intervals of IPv6 destinations",
        }
    }
    const fn advice(self) -> &'static str {
        match self {
            Self::Rules => "join rules that differ in one list only, or disable some",
            Self::Parts | Self::Bytes => {
                "let rules share sets instead of overlapping in part, or disable some"
            }
            Self::CountRules => "every packet is tested against each of them: disable some",
            Self::RuleSlots => "delete disabled ones",
            Self::Nats => "join those that differ in one list only, or disable some",
            Self::LiveSets => {
                "sets that change with the policy only aren't counted: `set NAME = ...`"
            }
            Self::PoolAddresses => "each has 64,512 ports: fewer will do",
            Self::Interfaces => "name fewer interfaces, or detach some",
            Self::Rows => "let rules share sets instead of overlapping in part",
            Self::Ipv4Sources | Self::Ipv4Destinations => {
                "use shorter prefixes: those up to /16 cost nothing, longer ones 2 to 4 entries each"
            }
            Self::Ipv6Sources | Self::Ipv6Destinations => {
                "join neighbouring prefixes: each costs up to 2 intervals"
            }
        }
    }
}

/// The policy doesn't fit the kernel's tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy needs {seen} {}, and there is room for {limit}: {}", part.name(), part.advice())]
pub struct CompileError {
    /// What there is too much of.
    pub part: Part,
    /// How much there is.
    pub seen: usize,
    /// How much there can be.
    pub limit: usize,
}

impl CompileError {
    const fn check(part: Part, seen: usize, limit: usize) -> Result<(), Self> {
        if seen > limit { Err(Self { part, seen, limit }) } else { Ok(()) }
    }
}

/// Compiles a policy. `slots` gets the owners of the new policy, marked with `generation`; on an
/// error it is left as it was.
///
/// # Errors
/// Names the first part of the tables that is too small, how much the policy needs and how much
/// there is.
pub fn compile(
    policy: &Policy,
    slots: &mut Slots,
    generation: u32,
) -> Result<Compiled, CompileError> {
    let resolved = Resolved::new(policy);
    let enabled: Vec<&Rule> = policy.packet_rules().collect();
    let halves = nat::enabled(policy)?;
    let mut pools = nat::pools(&halves)?;
    CompileError::check(Part::Rules, enabled.len(), MAX_RULES)?;
    let counting = enabled.iter().filter(|r| !r.action.is_terminal()).count();
    CompileError::check(Part::CountRules, counting, MAX_CONTINUES)?;
    let (taken, interfaces) = take_slots(policy, &resolved, slots, generation)?;

    let mut table: Box<RuleTable> = bytemuck::zeroed_box();
    settings(policy, &enabled, &mut table.settings);
    for (i, (nat, half)) in halves.iter().enumerate() {
        let slot = taken.rule(&nat.name.value).unwrap_or_default();
        table.nat[i] = nat::rule(nat, half, slot, &mut pools);
        let settings = &mut table.settings;
        let way = match (nat::at_ingress(half.kind), half.kind) {
            (true, NatKind::PrefixIn) => &mut settings.prefix_in,
            (true, _) => &mut settings.nat_in,
            (false, NatKind::PrefixOut) => &mut settings.prefix_out,
            (false, _) => &mut settings.nat_out,
        };
        *way |= 1 << i;
    }
    let gates = Gates::of(&enabled);
    table.gates = gates.word(&taken);
    let actions: Vec<RuleAction> =
        enabled.iter().map(|rule| action(rule, &gates, &taken)).collect();
    table.any_flags = actions.iter().fold(0, |all, action| all | u32::from(action.flags()));
    let ask = |(i, when)| Ask::new(i, when, &gates, &resolved, &taken);
    let rules: Vec<Ask<'_>> = enabled.iter().map(|rule| &rule.when).enumerate().map(ask).collect();
    let nats: Vec<Ask<'_>> =
        halves.iter().map(|(_, half)| &half.when).enumerate().map(ask).collect();
    let single = table.any_flags & BESIDE_ROWS == 0 && table.gates == 0;
    let gap = if single { GAP } else { 1 };
    let live: Vec<_> =
        enabled.iter().map(|rule| live::asked(rule, policy, &gates, &taken)).collect();
    let whole = plan::Whole {
        actions: &actions,
        rules: &rules,
        live: &live,
        nats: &nats,
        resolved: &resolved,
        answers: gates.answers(),
        gap,
    };
    let plan::Laid { words: arena, plan, seats, extras } = plan::write(&whole, &mut table)?;
    let usage = Usage {
        rules: enabled.len(),
        nats: halves.len(),
        pool_addresses: pools.len(),
        rows: plan.iter().map(|part| part.rows).sum(),
        bytes: arena.len() * 8,
    };
    let owners = owner::compile(policy, &resolved, &taken)?;

    *slots = taken;
    let sets = live::declared(policy, slots);
    let slot = |name: &str| slots.rule(name).unwrap_or_default();
    let rules = policy
        .rules
        .iter()
        .map(|rule| CompiledRule {
            slot: slot(&rule.name.value),
            name: rule.name.value.clone(),
            action: rule.action.name(),
            verdict: rule.action.verdict(),
            text: rule.text.clone(),
            enabled: rule.enabled,
            log: rule.log,
        })
        .collect();
    let nats = policy.nats.iter();
    let nats = nats.map(|n| nat::view(n, slot(&n.name.value), &mut pools, &resolved)).collect();
    Ok(Compiled {
        table,
        arena,
        plan,
        owners,
        rules,
        nats,
        sets,
        interfaces,
        usage,
        gap,
        seats,
        extras,
    })
}

/// Slots for all that the policy names, and the interfaces among it.
fn take_slots(
    policy: &Policy,
    resolved: &Resolved,
    slots: &Slots,
    generation: u32,
) -> Result<(Slots, BTreeSet<String>), CompileError> {
    let mut interfaces: BTreeSet<String> = resolved.groups.values().flatten().cloned().collect();
    let nats = policy.nats.iter().map(|n| &n.when);
    for when in policy.rules.iter().map(|r| &r.when).chain(nats) {
        interfaces.extend(when.on.iter().flat_map(|on| resolved.interfaces(on)));
    }
    let mut taken = slots.clone();
    let nats = policy.nats.iter().map(|n| n.name.value.as_str());
    let names: Vec<&str> = policy.rules.iter().map(|r| r.name.value.as_str()).chain(nats).collect();
    taken.take_rules(&names, generation).map_err(|seen| CompileError {
        part: Part::RuleSlots,
        seen,
        limit: Slots::RULES,
    })?;
    live::take(policy, &mut taken, generation)?;
    let names: Vec<&str> = interfaces.iter().map(String::as_str).collect();
    taken.take_ifaces(&names, generation).map_err(|seen| CompileError {
        part: Part::Interfaces,
        seen,
        limit: Slots::IFACES,
    })?;
    Ok((taken, interfaces))
}

/// What a rule does, and where it counts.
fn action(rule: &Rule, gates: &Gates<'_>, slots: &Slots) -> RuleAction {
    let slot = slots.rule(&rule.name.value).unwrap_or_default();
    RuleAction::new(rule.action.verdict(), flags(rule, gates), slot)
}

fn flags(rule: &Rule, gates: &Gates<'_>) -> u8 {
    let of = |on: bool, flag: u8| if on { flag } else { 0 };
    of(rule.log, ACTION_LOG)
        | of(rule.no_track, ACTION_NO_TRACK)
        | of(rule.syn_cookies, ACTION_COOKIES)
        | of(rule.action == Action::Bypass, ACTION_BYPASS)
        | live::flags(rule, gates)
}

fn settings(policy: &Policy, enabled: &[&Rule], settings: &mut Settings) {
    let options = &policy.options;
    settings.timeouts = options.timeouts;
    let counting = enabled.iter().any(|r| !r.action.is_terminal());
    for (on, flag) in [
        (options.tcp_pickup, SETTING_TCP_PICKUP),
        (counting, SETTING_HAS_CONTINUE),
        (options.tcp_window == TcpWindow::Strict, SETTING_WINDOW_STRICT),
        (options.tcp_window == TcpWindow::Off, SETTING_WINDOW_OFF),
        (options.half_open_full == HalfOpenFull::Evict, SETTING_EVICT_HALF_OPEN),
        (options.fast_path, SETTING_FAST_PATH),
    ] {
        if on {
            settings.flags |= flag;
        }
    }
    settings.words = enabled.len().div_ceil(64) as u32;
    settings.defaults = policy.defaults.map(Verdict::raw);
    settings.malformed = options.malformed.raw();
    settings.ethertypes = options.ethertypes.raw();
    settings.fragments = options.fragments.raw();
    let full = match options.flow_full {
        FlowFull::Refuse => Verdict::Drop,
        FlowFull::Untracked => Verdict::Allow,
    };
    settings.flow_full = full.raw();
    settings.reject_budget = options.reject_rate;
    settings.sample_budget = options.sample_rate;
    settings.new_budget = options.new_rate;
    // Counted, but without end, where a rule asks how many there are.
    let counts =
        |rule: &&Rule| rule.when.limit.is_some_and(|limit| limit.unit == LimitUnit::Connections);
    let counted = if enabled.iter().any(counts) { u32::MAX } else { 0 };
    settings.source_flows = options.source_flows.unwrap_or(counted);
    settings.cookie_rate = match options.syn_cookies {
        SynCookies::Off => 0,
        SynCookies::Always => 1,
        // 0 would be never, and whoever says so means always.
        SynCookies::Above(rate) => rate.max(1),
    };
}

/// `ACTION_*` of what rows don't know of a rule. That is found by the rule's place, so each place is a rule's then.
const BESIDE_ROWS: u32 = (ACTION_ASKS | ACTION_ADDS | ACTION_LIMITS) as u32;

/// A bit of the rows, and when it is set.
struct Ask<'p> {
    bit: usize,
    when: &'p Conditions,
    on: Option<OnSlots>,
    /// What gates have to say.
    gates: Wanted,
}

/// `on`, as interface slots.
struct OnSlots {
    negated: bool,
    slots: [bool; IFACE_SLOTS],
}

impl<'p> Ask<'p> {
    fn new(
        bit: usize,
        when: &'p Conditions,
        gates: &Gates<'_>,
        resolved: &Resolved,
        slots: &Slots,
    ) -> Self {
        let on = when.on.as_ref().map(|on| {
            let mut out = OnSlots { negated: on.negated, slots: [false; IFACE_SLOTS] };
            for slot in resolved.interfaces(on).iter().filter_map(|name| slots.iface(name)) {
                out.slots[usize::from(slot)] = true;
            }
            out
        });
        Self { bit, when, on, gates: gates.wanted(when) }
    }
}

/// `type << 8 | code` of an ICMP condition.
pub(super) fn icmp_ranges(icmp: &IcmpMatch) -> Ranges<u16> {
    let mut ranges = Vec::new();
    for kind in &icmp.types {
        let first = u16::from(*kind) << 8;
        match &icmp.codes {
            None => ranges.push((first, first | 0xff)),
            Some(codes) => {
                ranges.extend(codes.iter().map(|c| (first | u16::from(*c), first | u16::from(*c))))
            }
        }
    }
    Ranges::new(ranges)
}

#[cfg(test)]
mod tests;
