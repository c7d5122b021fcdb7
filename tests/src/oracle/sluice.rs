//! Rules in the language of docs/policy.md.

use super::rules::{
    Action, Addresses, End, Flags, INTERFACES, List, MARK_PORT, MARK_TO, Member, Place, Ports,
    Rule, Rules, Set, State,
};
use std::fmt::Write as _;

impl Rules {
    /// As a Sluice policy. Where nothing is tracked a last rule stands for the default, because defaults enter flows.
    pub fn to_sluice(&self) -> String {
        let word = |allow: bool| if allow { "allow" } else { "drop" };
        let mut out = format!("# seed {}, {:?}\n", self.seed, self.place);
        let untracked = if self.place.tracks() { "" } else { " no-track" };
        let _ = writeln!(out, "default in {}", word(self.default_allow));
        out.push_str("default out allow\noption fragments drop\n");
        if let Place::Tracked(pickup) = self.place {
            let _ = writeln!(out, "option tcp-pickup {}", if pickup { "on" } else { "off" });
        }
        let _ = writeln!(out, "interface any-wan = {{ {} }}", INTERFACES.join(", "));
        for (i, set) in self.sets.iter().enumerate() {
            let members = match set {
                Set::Addresses(members) => list(members, address),
                Set::Ports(members) => list(members, ports),
            };
            let _ = writeln!(out, "set s{i} = {{ {} }}", members.join(", "));
        }
        let _ = writeln!(
            out,
            "rule {} allow in udp to {MARK_TO} port {MARK_PORT}{untracked}",
            self.fence()
        );
        for rule in &self.rules {
            out.push_str(&line(rule));
            if rule.action == Action::Allow {
                out.push_str(untracked);
            }
            out.push('\n');
        }
        if !self.place.tracks() {
            let no_track = if self.default_allow { untracked } else { "" };
            let _ = writeln!(out, "rule {} {} in{no_track}", self.rest(), word(self.default_allow));
        }
        out
    }
}

fn line(rule: &Rule) -> String {
    let mut out = String::new();
    if !rule.enabled {
        out.push_str("disabled ");
    }
    let action = match rule.action {
        Action::Allow => "allow",
        Action::Drop => "drop",
        Action::Reject => "reject",
        Action::Count => "count",
    };
    let _ = write!(out, "rule {} {action} in", rule.name);
    if let Some((not, names)) = &rule.on {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let _ = write!(out, " on {}{}", negation(*not), braces(&names));
    }
    if let Some(family) = rule.family {
        let _ = write!(out, " ipv{family}");
    }
    out.push_str(&protocols(rule));
    end("from", &rule.from, &mut out);
    end("to", &rule.to, &mut out);
    match rule.flags {
        None => {}
        Some(Flags::All(set)) => {
            let _ = write!(out, " flags {}", flags(set));
        }
        Some(Flags::Of(set, mask)) => {
            let _ = write!(out, " flags {}/{}", flags(set), flags(mask));
        }
        Some(Flags::None) => out.push_str(" flags none"),
        Some(Flags::Only(set)) => {
            let _ = write!(out, " flags {}/all", flags(set));
        }
    }
    match rule.state {
        None => {}
        Some(State::New) => out.push_str(" state new"),
        Some(State::Invalid) => out.push_str(" state invalid"),
        Some(State::Untracked) => out.push_str(" state untracked"),
        Some(State::Stray) => out.push_str(" state invalid,untracked"),
    }
    out
}

fn protocols(rule: &Rule) -> String {
    let names: Vec<String> = rule.protos.iter().map(|number| protocol(*number)).collect();
    let plain = |name: &String| name.parse::<u8>().is_err();
    match (&rule.icmp, &names[..]) {
        (_, []) => String::new(),
        (Some((types, codes)), [one, ..]) => {
            let numbers = |list: &[u8]| braces(&list.iter().map(u8::to_string).collect::<Vec<_>>());
            let mut out = format!(" {one} type {}", numbers(types));
            if !codes.is_empty() {
                let _ = write!(out, " code {}", numbers(codes));
            }
            out
        }
        (None, [one]) if plain(one) => format!(" {one}"),
        (None, many) => format!(" proto {}", braces(many)),
    }
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "icmpv6".into(),
        132 => "sctp".into(),
        136 => "udplite".into(),
        other => other.to_string(),
    }
}

fn end(word: &str, end: &End, out: &mut String) {
    if end.addresses.is_none() && end.ports.is_none() {
        return;
    }
    let _ = write!(out, " {word}");
    if let Some(List { not, members }) = &end.addresses {
        let _ = write!(out, " {}{}", negation(*not), braces(&list(members, address)));
    }
    if let Some(List { not, members }) = &end.ports {
        let _ = write!(out, " port {}{}", negation(*not), braces(&list(members, ports)));
    }
}

fn list<T: Copy>(members: &[Member<T>], words: impl Fn(T) -> String) -> Vec<String> {
    members
        .iter()
        .map(|member| match member {
            Member::Value(value) => words(*value),
            Member::Set(i) => format!("@s{i}"),
        })
        .collect()
}

fn address(addresses: Addresses) -> String {
    match addresses {
        Addresses::One(a) => a.to_string(),
        Addresses::Prefix(a, bits) => format!("{a}/{bits}"),
        Addresses::Range(a, b) => format!("{a}-{b}"),
    }
}

fn ports((low, high): Ports) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}

fn negation(not: bool) -> &'static str {
    if not { "not " } else { "" }
}

fn braces(items: &[String]) -> String {
    if let [one] = items { one.clone() } else { format!("{{ {} }}", items.join(", ")) }
}

fn flags(bits: u8) -> String {
    let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
    let set: Vec<&str> = (0..8)
        .filter(|bit| bits >> bit & 1 != 0)
        .filter_map(|bit| names.get(bit).copied())
        .collect();
    if set.is_empty() { "none".into() } else { set.join(",") }
}
