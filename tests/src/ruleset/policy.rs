//! A rule set as Sluice's policy: every rule has a name of its own and does the same.

use super::{ANY_PORT, Detail, Prefix, Rule, name, proto};
use std::fmt::Write as _;

/// Names of TCP's flags, from the lowest bit; every filter here has the same.
pub(super) const FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

/// The flags in `bits`, separated by `between`.
pub(super) fn flag_names(bits: u8, between: &str) -> String {
    let set = FLAGS.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(between)
}

/// The policy: what no rule takes passes; `action` is `drop`, `allow`, ...
pub fn policy(rules: &[Rule], action: &str) -> String {
    let mut text = String::from("default in allow\ndefault out allow\n");
    for (i, rule) in rules.iter().enumerate() {
        text.push_str(&statement(rule, &name(i), action));
        text.push('\n');
    }
    text
}

/// One rule as a line without its end, about packets that come in.
pub fn statement(rule: &Rule, name: &str, action: &str) -> String {
    let mut text = format!("rule {name} {action} in");
    match rule.proto {
        _ if matches!(rule.detail, Some(Detail::IcmpType(_))) => {}
        Some(proto::TCP) => text.push_str(" tcp"),
        Some(proto::UDP) => text.push_str(" udp"),
        Some(number) => {
            let _ = write!(text, " proto {number}");
        }
        // A rule without addresses would be about both families.
        None if rule.src.is_any() && rule.dst.is_any() => {
            text.push_str(if rule.is_v6() { " ipv6" } else { " ipv4" });
        }
        None => {}
    }
    if let Some(Detail::IcmpType(kind)) = rule.detail {
        let word = if rule.is_v6() { "icmpv6" } else { "icmp" };
        let _ = write!(text, " {word} type {kind}");
    }
    end(&mut text, "from", rule.src, rule.sport);
    end(&mut text, "to", rule.dst, rule.dport);
    if let Some(Detail::Flags { set, of }) = rule.detail {
        let set = if set == 0 { "none".to_owned() } else { flag_names(set, ",") };
        let _ = write!(text, " flags {set}/{}", flag_names(of, ","));
    }
    text
}

fn end(text: &mut String, word: &str, prefix: Prefix, ports: (u16, u16)) {
    if prefix.is_any() && ports == ANY_PORT {
        return;
    }
    let _ = write!(text, " {word}");
    if prefix.is_host() {
        let _ = write!(text, " {}", prefix.address());
    } else if !prefix.is_any() {
        let _ = write!(text, " {prefix}");
    }
    if ports != ANY_PORT {
        let _ = write!(text, " port {}", range(ports, "-"));
    }
}

/// A port, or two with `between` them.
pub(super) fn range((low, high): (u16, u16), between: &str) -> String {
    if low == high { low.to_string() } else { format!("{low}{between}{high}") }
}

#[cfg(test)]
mod tests {
    use super::policy;
    use crate::ruleset::{classbench, random, v6};

    #[test]
    fn rules_are_written_as_the_language_has_them() {
        let rules = classbench::parse(
            "@10.0.0.0/8 1.2.3.4/32 0 : 65535 80 : 80 0x06/0xFF 0x0000/0x0200\n\
             @0.0.0.0/0 0.0.0.0/0 53 : 99 0 : 65535 0x11/0xFF 0x0000/0x0000\n\
             @0.0.0.0/0 0.0.0.0/0 0 : 65535 0 : 65535 0x00/0x00 0x0000/0x0000\n\
             @10.0.0.1/32 0.0.0.0/0 0 : 65535 0 : 65535 0x01/0xFF 0x0800/0xff00\n\
             @10.0.0.1/32 0.0.0.0/0 0 : 65535 0 : 65535 0x2f/0xFF 0x0000/0x0000\n",
        )
        .unwrap();
        let text = policy(&rules, "drop");
        assert_eq!(
            text.lines().skip(2).collect::<Vec<_>>(),
            [
                "rule r000001 drop in tcp from 10.0.0.0/8 to 1.2.3.4 port 80 flags none/syn",
                "rule r000002 drop in udp from port 53-99",
                "rule r000003 drop in ipv4",
                "rule r000004 drop in icmp type 8 from 10.0.0.1",
                "rule r000005 drop in proto 47 from 10.0.0.1",
            ]
        );
        firewall_user::policy::parse(&text, "test")
            .unwrap_or_else(|e| panic!("{}", e.render(false)));
    }

    #[test]
    fn every_set_is_a_policy() {
        for rules in [
            random::classbench_like(400, 1),
            random::classbench_like(400, 2),
            random::classbench_like(400, 3),
            random::five_tuples(400, 4),
            v6::twin(&random::classbench_like(400, 5)),
        ] {
            let text = policy(&rules, "drop");
            let parsed = firewall_user::policy::parse(&text, "test");
            parsed.unwrap_or_else(|error| panic!("{}\n{text}", error.render(false)));
        }
    }
}
