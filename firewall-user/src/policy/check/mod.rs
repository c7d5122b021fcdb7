//! What is legal and hardly meant: rules that can never match, names nobody uses, interfaces that
//! aren't there, and a policy that would cut its operator off.

mod candidates;
mod cookies;
mod corners;
mod glance;
mod lockout;
mod nat;
mod owners;
mod quiet;
mod shadow;
mod space;

pub use glance::Glance;
pub use quiet::Quiet;

use super::ast::{Action, AddrItem, Conditions, Element, Policy, PortItem, Rule};
use super::diagnostic::{Diagnostic, Severity};
use super::resolved::Resolved;
use super::span::Span;
use super::{Compiled, Slots, classify, compile, suggest, words};
use firewall_common::abi::table::{State, Verdict};
use std::collections::HashSet;
use std::net::IpAddr;

/// What the checks may know of the machine. The empty one is fine: what isn't known isn't checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckContext {
    /// Interfaces of this machine.
    pub interfaces: Option<Vec<String>>,
    /// Addresses of this machine.
    pub addresses: Option<Vec<IpAddr>>,
    /// The operator's own session.
    pub ssh: Option<SshPeer>,
}

/// An ssh session into this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshPeer {
    /// Where the operator sits.
    pub peer: IpAddr,
    /// Port there.
    pub peer_port: u16,
    /// Address of this machine that the session goes to.
    pub local: IpAddr,
    /// Port of the ssh server.
    pub local_port: u16,
    /// Interface it comes in at; `None`: any interface may be it.
    pub iface: Option<String>,
}

impl SshPeer {
    /// From the value of `SSH_CONNECTION`: `PEER PORT LOCAL PORT`. `None` if it isn't of that form.
    pub fn from_ssh_connection(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        // A link-local peer carries its zone, which is the interface: fe80::1%eth0.
        let (peer, zone) =
            words.next().map(|w| w.split_once('%').map_or((w, None), |(a, z)| (a, Some(z))))?;
        let peer: IpAddr = peer.parse().ok()?;
        let peer_port = words.next()?.parse().ok()?;
        let local = words.next()?;
        let local: IpAddr = local.split_once('%').map_or(local, |(a, _)| a).parse().ok()?;
        let local_port = words.next()?.parse().ok()?;
        // A server that listens on :: sees IPv4 peers as mapped addresses; on the wire they are IPv4.
        let (peer, local) = (peer.to_canonical(), local.to_canonical());
        Some(Self { peer, peer_port, local, local_port, iface: zone.map(str::to_owned) })
    }
}

/// Code of the warning that a policy cuts off the operator's ssh session.
pub const SSH_LOCKOUT: &str = "ssh-lockout";

/// Warnings about a policy, in the order of the text.
pub fn check(policy: &Policy, context: &CheckContext) -> Vec<Diagnostic> {
    let resolved = Resolved::new(policy);
    let mut report = Report { policy, found: Vec::new() };
    unused(&mut report);
    interfaces(context, &mut report);
    single_rules(&mut report);
    shadow::check(&resolved, &mut report);
    nat::check(&resolved, &mut report);
    cookies::check(&resolved, context, &mut report);
    if let Some(ssh) = &context.ssh {
        let mut slots = Slots::new();
        // A policy that can't be compiled is somebody else's error.
        if let Ok(compiled) = compile(policy, &mut slots, 1) {
            let holds = classify::as_written(&compiled);
            report.found.extend(lockouts(policy, ssh, &compiled, &slots, &holds));
        }
    }
    report.found.sort_by_key(|d| (d.line, d.column));
    report.found
}

/// Warnings that a policy cuts off an ssh session; `compiled` is what it was compiled to, with `slots`, and `holds` says
/// what live sets hold.
pub fn lockouts(
    policy: &Policy,
    ssh: &SshPeer,
    compiled: &Compiled,
    slots: &Slots,
    holds: &classify::Holds<'_>,
) -> Vec<Diagnostic> {
    let mut report = Report { policy, found: Vec::new() };
    lockout::check(ssh, (compiled, slots), holds, &mut report);
    owners::check(ssh, &mut report);
    report.found
}

/// Warnings so far.
struct Report<'p> {
    policy: &'p Policy,
    found: Vec<Diagnostic>,
}

impl Report<'_> {
    fn warn(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let policy = self.policy;
        let found =
            Diagnostic::new(Severity::Warning, code, &policy.file, &policy.source, span, message);
        self.found.push(found.hint(hint));
    }
}

/// Where the name of a rule stands: what is said of a rule as a whole is said there.
fn rule_span(rule: &Rule) -> Span {
    rule.name.span
}

/// What all rules and translations ask for, the disabled ones' too.
fn conditions(policy: &Policy) -> impl Iterator<Item = &Conditions> {
    policy.rules.iter().map(|r| &r.when).chain(policy.nats.iter().map(|n| &n.when))
}

/// Sets and groups that no rule, translation, set or group uses. Disabled ones use them too.
fn unused(report: &mut Report<'_>) {
    let policy = report.policy;
    let mut sets: HashSet<&str> = HashSet::new();
    let mut groups: HashSet<&str> = HashSet::new();
    for when in conditions(policy) {
        for end in [&when.src, &when.dst] {
            sets.extend(end.addrs.iter().flat_map(|m| &m.items).filter_map(|i| match &i.value {
                AddrItem::Set(name) => Some(name.as_str()),
                AddrItem::Range(_) => None,
            }));
            sets.extend(end.ports.iter().flat_map(|m| &m.items).filter_map(|i| match &i.value {
                PortItem::Set(name) => Some(name.as_str()),
                PortItem::Range(..) => None,
            }));
        }
        groups.extend(when.on.iter().flat_map(|m| &m.items).map(|i| i.value.as_str()));
    }
    sets.extend(
        conditions(policy).flat_map(|c| c.asks_live()).map(|asked| asked.name.value.as_str()),
    );
    sets.extend(policy.rules.iter().flat_map(|r| &r.adds).map(|adds| adds.name.value.as_str()));
    for set in &policy.sets {
        sets.extend(set.elements.iter().filter_map(|e| match &e.value {
            Element::Set(name) => Some(name.as_str()),
            _ => None,
        }));
    }
    for group in &policy.groups {
        let others = group.members.iter().map(|m| m.value.as_str());
        groups.extend(others.filter(|m| *m != group.name.value));
    }
    let plain = policy.sets.iter().map(|set| &set.name);
    for name in plain.chain(policy.live.iter().map(|set| &set.name)) {
        if !sets.contains(name.value.as_str()) {
            let message = format!("no rule uses the set `@{}`", name.value);
            report.warn("unused-set", name.span, message, None);
        }
    }
    for group in policy.groups.iter().filter(|g| !groups.contains(g.name.value.as_str())) {
        let name = &group.name.value;
        report.warn(
            "unused-interface",
            group.name.span,
            format!("no rule uses the interface `{name}`"),
            None,
        );
    }
}

/// Interfaces that this machine doesn't have.
fn interfaces(context: &CheckContext, report: &mut Report<'_>) {
    let Some(known) = &context.interfaces else {
        return;
    };
    let policy = report.policy;
    let groups: Vec<&str> = policy.groups.iter().map(|g| g.name.value.as_str()).collect();
    let here: Vec<&str> = known.iter().map(String::as_str).collect();
    let candidates: Vec<&str> = groups.iter().chain(&here).copied().collect();
    let mut told: HashSet<&str> = HashSet::new();
    let members = policy
        .groups
        .iter()
        .flat_map(|g| g.members.iter().map(move |m| (m, m.value == g.name.value)));
    let named = conditions(policy).flat_map(|c| &c.on).flat_map(|m| &m.items).map(|i| (i, false));
    for (name, itself) in members.chain(named) {
        let is_group = groups.contains(&name.value.as_str()) && !itself;
        if is_group || here.contains(&name.value.as_str()) || !told.insert(&name.value) {
            continue;
        }
        let hint = suggest::hint(&name.value, "interfaces", &candidates, "");
        report.warn(
            "unknown-interface",
            name.span,
            format!("there is no interface `{}` here", name.value),
            hint,
        );
    }
}

/// What can be seen of one rule alone.
fn single_rules(report: &mut Report<'_>) {
    let policy = report.policy;
    for rule in policy.rules.iter().filter(|r| r.enabled) {
        let name = &rule.name.value;
        let refuses = matches!(rule.action, Action::Drop | Action::Reject);
        if let Some(states) = &rule.when.states {
            if states.iter().all(|s| *s == State::Related) {
                report.warn(
                    "related-passes",
                    rule_span(rule),
                    format!(
                        "rule `{name}` can never match: ICMP errors about a known flow always pass"
                    ),
                    None,
                );
            }
            let cuts = matches!(rule.action, Action::Allow | Action::Bypass)
                && states.contains(&State::New)
                && !states.contains(&State::Established)
                && refused_without(policy, rule);
            if cuts {
                report.warn(
                    "state-cuts-flows",
                    rule_span(rule),
                    format!("the flows that rule `{name}` let in will be cut by the next change of the policy"),
                    Some(
                        "a new policy judges live flows as `established`: write `state new,established`, \
                         or leave `state` out"
                            .to_owned(),
                    ),
                );
            }
        }
        if let Some(icmp) = &rule.when.icmp
            && refuses
            && icmp.v6
            && icmp.types.iter().all(|t| (133..=137).contains(t))
        {
            report.warn(
                "discovery-passes",
                rule_span(rule),
                format!("rule `{name}` can never match: IPv6 neighbour discovery always passes"),
                Some("without it the machine would lose its neighbours; types 133 to 137 are not filtered".into()),
            );
        }
    }
}

/// Whether a packet that this rule would let pass might be refused if the rule didn't match: some
/// other enabled rule may let it pass all the same, which is taken for granted where its `state`
/// says `established` and nothing narrower.
fn refused_without(policy: &Policy, rule: &Rule) -> bool {
    let default_allows = match rule.when.direction {
        Some(direction) => policy.defaults[direction.raw() as usize] == Verdict::Allow,
        None => policy.defaults.iter().all(|d| *d == Verdict::Allow),
    };
    let catches_all = |other: &Rule| {
        other.enabled
            && !other.when.owner.is_asked()
            && other.action == Action::Allow
            && other.when.states.as_ref().is_some_and(|s| s.contains(&State::Established))
            && (other.when.direction.is_none() || other.when.direction == rule.when.direction)
            && other.when.protos.is_none()
            && other.when.on.is_none()
            && other.when.family.is_none()
            && other.when.src.addrs.is_none()
            && other.when.dst.addrs.is_none()
            && other.when.are_certain()
    };
    !default_allows && !policy.rules.iter().any(catches_all)
}

/// Why conditions contradict themselves, if they do: in words.
fn contradiction(when: &Conditions, resolved: &Resolved) -> String {
    let families = |end: &super::ast::Endpoint| match &end.addrs {
        None => (true, true),
        Some(list) => {
            let set = resolved.addresses(list);
            (list.negated || !set.v4.is_empty(), list.negated || !set.v6.is_empty())
        }
    };
    let (src, dst) = (families(&when.src), families(&when.dst));
    let name = |(v4, _): (bool, bool)| if v4 { "IPv4" } else { "IPv6" };
    if src == (false, false) || dst == (false, false) {
        return "its list of addresses is empty".into();
    }
    if !(src.0 && dst.0 || src.1 && dst.1) {
        return format!("it asks for packets from {} to {}", name(src), name(dst));
    }
    let protos = when.protos.as_deref().unwrap_or_default();
    let family = match when.family {
        Some(super::ast::Family::V4) => "IPv4",
        Some(super::ast::Family::V6) => "IPv6",
        None if !(src.0 && dst.0) => "IPv6",
        None => "IPv4",
    };
    if protos == [words::ICMP] && family == "IPv6" {
        return "`icmp` is of IPv4, and it asks for IPv6: did you mean `icmpv6`?".into();
    }
    if protos == [words::ICMPV6] && family == "IPv4" {
        return "`icmpv6` is of IPv6, and it asks for IPv4: did you mean `icmp`?".into();
    }
    if when.family.is_some() {
        return format!(
            "it says `{}`, and its addresses are of the other family",
            family.to_lowercase()
        );
    }
    "what it asks for leaves nothing over".into()
}

#[cfg(test)]
mod tests;
