//! Would this policy cut off the one who installs it?

use super::super::ast::{Nat, Translation};
use super::super::classify::{Holds, Outcome, Probe, classify_with, translation};
use super::super::span::Span;
use super::super::{Compiled, Policy, Slots};
use super::{Report, SSH_LOCKOUT, SshPeer, rule_span};
use firewall_common::abi::table::{Direction, State, Verdict};

/// SYN.
const SYN: u8 = 2;

/// Judges the operator's session as a live flow, and a new one like it.
pub fn check(
    ssh: &SshPeer,
    (compiled, slots): (&Compiled, &Slots),
    holds: &Holds<'_>,
    report: &mut Report<'_>,
) {
    // An interface that the policy doesn't name is as one that nobody does.
    let named = |name: &String| slots.iface(name).filter(|_| compiled.interfaces.contains(name));
    let ifaces: Vec<u8> = match &ssh.iface {
        Some(name) => vec![named(name).unwrap_or(0)],
        // Not known: it is safe if some interface lets it in, one the policy doesn't name included.
        None => [0].into_iter().chain(compiled.interfaces.iter().filter_map(named)).collect(),
    };
    let judge = |state: State| -> Option<Outcome> {
        let outcomes =
            ifaces.iter().map(|iface| classify_with(compiled, &probe(ssh, *iface, state), holds));
        let mut refused = None;
        for outcome in outcomes {
            if outcome.verdict == Verdict::Allow {
                return None;
            }
            refused.get_or_insert(outcome);
        }
        refused
    };
    let session =
        format!("{} port {} to {} port {}", ssh.peer, ssh.peer_port, ssh.local, ssh.local_port);
    let (outcome, message) = if let Some(outcome) = judge(State::Established) {
        (outcome, format!("this would cut off your own ssh session ({session})"))
    } else if let Some(outcome) = judge(State::New) {
        (outcome, format!("this would keep you from logging in again over ssh ({session})"))
    } else {
        if let Some(nat) = sent_elsewhere(ssh, compiled, &ifaces, report.policy) {
            let message = format!(
                "this would keep you from logging in again over ssh ({session}): nat `{}` sends it elsewhere",
                nat.name.value
            );
            let hint = format!("let it ask for another port than {}", ssh.local_port);
            report.warn(SSH_LOCKOUT, nat.name.span, message, hint);
        }
        return;
    };
    let decided = outcome.rule.and_then(|i| report.policy.packet_rules().nth(i));
    let (span, why) = match decided {
        Some(rule) => (
            rule_span(rule),
            format!("rule `{}` would {} it", rule.name.value, outcome.verdict.name()),
        ),
        None => (
            default_span(&report.policy.source),
            format!("no rule lets it in, and `default in` is {}", outcome.verdict.name()),
        ),
    };
    let family = format!("rule ssh allow in tcp from {} to port {}", ssh.peer, ssh.local_port);
    let hint = match decided {
        Some(rule) => format!("put a rule above `{}`: `{family}`", rule.name.value),
        None => format!("add a rule: `{family}`"),
    };
    report.warn(SSH_LOCKOUT, span, format!("{message}: {why}"), hint);
}

/// The translation that a new session like the operator's would meet at every interface it may come
/// in at, if it would go somewhere else. Live ones keep their way.
fn sent_elsewhere<'p>(
    ssh: &SshPeer,
    compiled: &Compiled,
    ifaces: &[u8],
    policy: &'p Policy,
) -> Option<&'p Nat> {
    // What the server sees may itself be the work of a translation: then that is the way in.
    let port = ssh.local_port;
    let leads_here = |nat: &Nat| match &nat.translation {
        Translation::Destination { to, ports, .. } => {
            ssh.local == *to && ports.is_none_or(|p| (p.ports.0..=p.ports.1).contains(&port))
        }
        Translation::Redirect { ports } => {
            ports.is_some_and(|p| (p.ports.0..=p.ports.1).contains(&port))
        }
        _ => false,
    };
    let mut found = None;
    for iface in ifaces {
        let rule = translation(compiled, &probe(ssh, *iface, State::New))?;
        let slot = compiled.table.nat[rule].slot;
        let name = &compiled.nats.iter().find(|nat| nat.slot == slot)?.name;
        found = policy.nat(name).map(|(_, nat)| nat);
    }
    let way_in = policy.nats.iter().filter(|nat| nat.enabled).any(leads_here);
    found.filter(|_| !way_in)
}

fn probe(ssh: &SshPeer, iface: u8, state: State) -> Probe {
    Probe {
        direction: Direction::In,
        iface,
        src: ssh.peer,
        dst: ssh.local,
        proto: 6,
        sport: ssh.peer_port,
        dport: ssh.local_port,
        icmp: (0, 0),
        // A live flow is judged by the flags of its first packet, too.
        tcp_flags: SYN,
        state,
    }
}

/// Where `default in` is said; the file's start where it isn't.
fn default_span(source: &str) -> Span {
    let mut at = 0;
    for line in source.split_inclusive('\n') {
        let mut words = line.split_whitespace();
        if words.next() == Some("default") && words.next() == Some("in") {
            let indent = line.len() - line.trim_start().len();
            let text = line.split('#').next().unwrap_or(line).trim();
            return Span::new(at + indent, at + indent + text.len());
        }
        at += line.len();
    }
    Span::default()
}
