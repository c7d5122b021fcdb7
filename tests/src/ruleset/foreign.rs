//! A rule set in the words of other filters: nftables (rule by rule, and as sets), iptables. All rules drop; what none
//! takes is counted where the benchmark looks for it, and passes.

use super::policy::{flag_names, range};
use super::{ANY_PORT, Detail, Prefix, Rule, proto};
use std::fmt::Write as _;

/// Family as nft's tables and its addresses' expressions have it.
fn family(rules: &[Rule]) -> &'static str {
    if rules.first().is_some_and(Rule::is_v6) { "ip6" } else { "ip" }
}

/// Name of the counter of what no rule took: `nft list counter ip bench passed`.
const PASSED: &str = "passed";

fn table(family: &str, sets: &str, rules: &str) -> String {
    format!(
        "table {family} bench {{\n counter {PASSED} {{ }}\n{sets} chain pre {{\n  \
         type filter hook prerouting priority raw; policy accept;\n{rules}  counter name {PASSED}\n }}\n}}\n"
    )
}

/// nftables, one rule after the other, at prerouting before connection tracking; each counts, as ours do.
pub fn nft_linear(rules: &[Rule]) -> String {
    let family = family(rules);
    let mut text = String::new();
    for rule in rules {
        let _ = writeln!(text, "  {}", nft_rule(rule));
    }
    table(family, "", &text)
}

/// One rule of nftables: its conditions, a counter, and `drop`.
pub fn nft_rule(rule: &Rule) -> String {
    let family = if rule.is_v6() { "ip6" } else { "ip" };
    let mut text = String::new();
    for (word, prefix) in [("saddr", rule.src), ("daddr", rule.dst)] {
        if !prefix.is_any() {
            let _ = write!(text, "{family} {word} {prefix} ");
        }
    }
    let layer = match rule.proto {
        Some(proto::TCP) => "tcp",
        _ => "udp",
    };
    if let (Some(number), None, false) = (rule.proto, rule.detail, rule.has_ports()) {
        let _ = write!(text, "meta l4proto {number} ");
    }
    for (word, ports) in [("sport", rule.sport), ("dport", rule.dport)] {
        if ports != ANY_PORT {
            let _ = write!(text, "{layer} {word} {} ", range(ports, "-"));
        }
    }
    if let Some(detail) = rule.detail {
        let _ = write!(text, "{} ", nft_detail(detail, rule.is_v6()));
    }
    text + "counter drop"
}

fn nft_detail(detail: Detail, v6: bool) -> String {
    match detail {
        Detail::IcmpType(kind) => format!("{} type {kind}", if v6 { "icmpv6" } else { "icmp" }),
        Detail::Flags { set, of } => format!("tcp flags & ({}) == {set:#x}", flag_names(of, "|")),
    }
}

/// nftables with sets of five concatenated fields. Such a set takes no two elements that overlap, and doesn't know flags
/// or types: so rules are shared out to as many sets as that takes, in their order, each to the first that takes it; the rules
/// all do the same, so that their order is nobody's matter. `None` where that would be more than `most` sets.
pub fn nft_sets(rules: &[Rule], most: usize) -> Option<String> {
    let mut sets: Vec<(Option<Detail>, Vec<Rule>)> = Vec::new();
    for rule in rules {
        let fits = |(detail, members): &&mut (Option<Detail>, Vec<Rule>)| {
            *detail == rule.detail && !members.iter().any(|member| overlap(member, rule))
        };
        if let Some((_, members)) = sets.iter_mut().find(fits) {
            members.push(*rule);
        } else if sets.len() == most {
            return None;
        } else {
            sets.push((rule.detail, vec![*rule]));
        }
    }
    let family = family(rules);
    let fields = format!("{family} saddr . {family} daddr . meta l4proto . th sport . th dport");
    let (mut declared, mut asked) = (String::new(), String::new());
    for (i, (detail, members)) in sets.iter().enumerate() {
        let _ = writeln!(
            declared,
            " set s{i} {{\n  typeof {fields}\n  flags interval\n  counter\n  elements = {{"
        );
        for rule in members {
            let (src, dst) = (nft_addresses(rule.src), nft_addresses(rule.dst));
            let proto = rule.proto.map_or("0-255".to_owned(), |number| number.to_string());
            let (sport, dport) = (range(rule.sport, "-"), range(rule.dport, "-"));
            let _ = writeln!(declared, "   {src} . {dst} . {proto} . {sport} . {dport},");
        }
        declared.push_str("  }\n }\n");
        let detail = detail.map_or(String::new(), |detail| {
            nft_detail(detail, rules.first().is_some_and(Rule::is_v6)) + " "
        });
        let _ = writeln!(asked, "  {detail}{fields} @s{i} drop");
    }
    Some(table(family, &declared, &asked))
}

/// A prefix; in sets any address has to be a range.
fn nft_addresses(prefix: Prefix) -> String {
    match (prefix.is_any(), prefix.is_v6()) {
        (true, false) => "0.0.0.0-255.255.255.255".into(),
        (true, true) => "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".into(),
        _ if prefix.is_host() => prefix.address().to_string(),
        _ => prefix.to_string(),
    }
}

/// Whether some packet has the addresses, protocol and ports of both; flags and types aside.
pub fn overlap(a: &Rule, b: &Rule) -> bool {
    let share = |a: (u16, u16), b: (u16, u16)| a.0 <= b.1 && b.0 <= a.1;
    let same = |(a, b): (Option<u8>, Option<u8>)| a.is_none() || b.is_none() || a == b;
    a.src.overlaps(&b.src)
        && a.dst.overlaps(&b.dst)
        && same((a.proto, b.proto))
        && share(a.sport, b.sport)
        && share(a.dport, b.dport)
}

/// iptables, for `iptables-legacy-restore` or `ip6tables-legacy-restore`: table raw, before connection tracking.
pub fn iptables(rules: &[Rule]) -> String {
    let mut text = String::from("*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n");
    for rule in rules {
        let _ = writeln!(text, "-A PREROUTING{} -j DROP", iptables_conditions(rule));
    }
    text.push_str("COMMIT\n");
    text
}

/// The conditions of a rule, with a blank in front.
pub fn iptables_conditions(rule: &Rule) -> String {
    let mut text = String::new();
    for (word, prefix) in [("-s", rule.src), ("-d", rule.dst)] {
        if !prefix.is_any() {
            let _ = write!(text, " {word} {prefix}");
        }
    }
    let module = match rule.proto {
        Some(proto::TCP) => "tcp",
        Some(proto::UDP) => "udp",
        _ => "",
    };
    if let Some(number) = rule.proto {
        let _ = write!(text, " -p {number}");
    }
    if rule.has_ports() || matches!(rule.detail, Some(Detail::Flags { .. })) {
        let _ = write!(text, " -m {module}");
    }
    for (word, ports) in [("--sport", rule.sport), ("--dport", rule.dport)] {
        if ports != ANY_PORT {
            let _ = write!(text, " {word} {}", range(ports, ":"));
        }
    }
    match rule.detail {
        None => {}
        Some(Detail::Flags { set, of }) => {
            let names = |bits: u8| match bits {
                0 => "NONE".to_owned(),
                bits => flag_names(bits, ",").to_uppercase(),
            };
            let _ = write!(text, " --tcp-flags {} {}", names(of), names(set));
        }
        Some(Detail::IcmpType(kind)) if rule.is_v6() => {
            let _ = write!(text, " -m icmp6 --icmpv6-type {kind}");
        }
        Some(Detail::IcmpType(kind)) => {
            let _ = write!(text, " -m icmp --icmp-type {kind}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{iptables, nft_linear, nft_sets};
    use crate::lab::{NetNs, missing_tools};
    use crate::ruleset::{random, v6};

    #[test]
    fn rules_that_overlap_are_in_different_sets() {
        let mut rules = random::apart(20);
        let one = nft_sets(&rules, 8).unwrap();
        assert!(one.contains("set s0") && !one.contains("set s1"), "{one}");
        rules.push(rules[3]);
        assert!(nft_sets(&rules, 8).unwrap().contains("set s1"));
        assert!(nft_sets(&rules, 1).is_none());
    }

    #[test]
    fn the_others_take_what_is_written() {
        const NAME: &str = "ruleset::foreign::the_others_take_what_is_written";
        if let Some(reason) = crate::skip::no_kernel_access() {
            return crate::skip::skip(NAME, reason);
        }
        let tools = ["nft", "iptables-legacy-restore", "ip6tables-legacy-restore"];
        if let Some(reason) = missing_tools(&tools) {
            return crate::skip::skip(NAME, &reason);
        }
        let ns = NetNs::new("others").unwrap();
        for seed in 0..4 {
            let old = random::classbench_like(200, seed);
            for (rules, restore) in [(v6::twin(&old), tools[2]), (old, tools[1])] {
                ns.feed("nft", &["-f", "-"], &nft_linear(&rules)).unwrap();
                ns.feed("nft", &["flush", "ruleset"], "").unwrap();
                let sets = nft_sets(&rules, 256).unwrap();
                ns.feed("nft", &["-f", "-"], &sets).unwrap();
                ns.feed("nft", &["flush", "ruleset"], "").unwrap();
                ns.feed(restore, &[], &iptables(&rules)).unwrap();
            }
        }
    }
}
