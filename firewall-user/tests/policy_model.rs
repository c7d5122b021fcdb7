//! The compiled tables against a model that knows nothing of rows, ranges or parsers: random rules
//! are kept as plain values, written out as policy text, and judged one after the other by asking
//! each condition. What the tables say of random packets must be the same.

use firewall_common::abi::table::{Direction, Verdict};
use firewall_user::policy::classify::{Probe, classify, translation};
use firewall_user::policy::{Slots, compile, parse};
use proptest::prelude::*;
use rules::*;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

#[path = "policy_model/rules.rs"]
mod rules;

/// First match, asked rule by rule: verdict, deciding rule, rules that counted.
fn judge(
    rules: &[Rule],
    probe: &Probe,
    iface: u8,
    default: Verdict,
) -> (Verdict, Option<usize>, Vec<usize>) {
    let mut counted = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        if rule.matches(probe, iface) {
            match ACTIONS[rule.action].1 {
                Some(verdict) => return (verdict, Some(i), counted),
                None => counted.push(i),
            }
        }
    }
    (default, None, counted)
}

fn write_policy(rules: &[Rule]) -> String {
    let mut text = String::from("default in drop\ndefault out reject\n");
    for (i, rule) in rules.iter().enumerate() {
        rule.write(i, &mut text);
    }
    text
}

fn compare(rules: &[Rule], packets: &[(Probe, u8)]) -> Result<(), TestCaseError> {
    let text = write_policy(rules);
    let policy = parse(&text, "random").map_err(|e| TestCaseError::fail(format!("{text}\n{e}")))?;
    let mut slots = Slots::new();
    let compiled =
        compile(&policy, &mut slots, 1).map_err(|e| TestCaseError::fail(e.to_string()))?;
    for (probe, iface) in packets {
        let default =
            if probe.direction == Direction::In { Verdict::Drop } else { Verdict::Reject };
        let (verdict, rule, counted) = judge(rules, probe, *iface, default);
        let probe =
            Probe { iface: slots.iface(&format!("if{iface}")).unwrap_or(0), ..probe.clone() };
        let got = classify(&compiled, &probe);
        let name = |slot: u32| slots.rule_name(slot).map(str::to_owned);
        prop_assert_eq!(got.verdict, verdict, "{}\n{:?}", text, probe);
        prop_assert_eq!(
            got.rule.and_then(|_| name(got.slot)),
            rule.map(|i| format!("r{i}")),
            "{}\n{:?}",
            text,
            probe
        );
        let got: Vec<_> = got.counted.iter().filter_map(|s| name(*s)).collect();
        prop_assert_eq!(
            got,
            counted.iter().map(|i| format!("r{i}")).collect::<Vec<_>>(),
            "{}\n{:?}",
            text,
            probe
        );
    }
    Ok(())
}

/// A translation: its kind, and what it asks for, as a rule would.
fn nat() -> impl Strategy<Value = (usize, Rule)> {
    (0usize..4, rule()).prop_map(|(kind, mut rule)| {
        // What the language doesn't let a translation ask for.
        (rule.states, rule.action, rule.family) = (None, 0, Some(true));
        rule.direction = Some(if kind < 2 { Direction::Out } else { Direction::In });
        rule.on.get_or_insert((false, vec![1]));
        let v4 = |list: List<Addrs>| {
            let ours = |a: &Addrs| match a {
                Addrs::Prefix(a, _) | Addrs::Range(a, _) => a.is_ipv4(),
            };
            let items: Vec<Addrs> = list.items.into_iter().filter(ours).collect();
            (!items.is_empty()).then_some(List { named: 0, items, ..list })
        };
        rule.src = rule.src.and_then(v4);
        rule.dst = rule.dst.and_then(v4);
        rule.proto = match rule.proto {
            ProtoClause::Some(protos) if kind != 3 => ProtoClause::Some(protos),
            ProtoClause::Some(_) => ProtoClause::Some(vec![17]),
            _ => ProtoClause::Any,
        };
        if rule.proto_is_any() && (rule.sport.is_some() || rule.dport.is_some()) {
            // Without a protocol, ports are those of TCP and UDP.
            rule.proto = ProtoClause::Some(vec![6, 17]);
        }
        (kind, rule)
    })
}

const NATS: [(&str, &str); 4] = [
    ("masquerade", ""),
    ("source", " => 203.0.113.1-203.0.113.2"),
    ("destination", " => 10.9.9.9"),
    ("redirect", " => port 5353"),
];

/// The translation that is met first, asked one by one.
fn translated(nats: &[(usize, Rule)], probe: &Probe, iface: u8) -> Option<usize> {
    nats.iter().position(|(kind, rule)| {
        // A port can be given to TCP and UDP only.
        let ports = *kind != 3 || [6, 17].contains(&probe.proto);
        rule.enabled && ports && rule.matches(probe, iface)
    })
}

fn compare_nats(
    rules: &[Rule],
    nats: &[(usize, Rule)],
    packets: &[(Probe, u8)],
) -> Result<(), TestCaseError> {
    let mut text = write_policy(rules);
    for (i, (kind, nat)) in nats.iter().enumerate() {
        let mut line = String::new();
        nat.write(1000 + i, &mut line);
        // Sets stand in front of the rule, which is the last line. The kind says direction and family.
        let (sets, line) = line.trim_end().rsplit_once('\n').unwrap_or(("", line.trim_end()));
        let (name, target) = NATS[*kind];
        let line = line
            .replace(&format!("rule r{} allow", 1000 + i), &format!("nat n{i} {name}"))
            .replace(" ipv4", "")
            .replace(" out", "")
            .replace(" in", "");
        writeln!(text, "{sets}\n{line}{target}").unwrap();
    }
    let policy = parse(&text, "random").map_err(|e| TestCaseError::fail(format!("{text}\n{e}")))?;
    let mut slots = Slots::new();
    let compiled =
        compile(&policy, &mut slots, 1).map_err(|e| TestCaseError::fail(e.to_string()))?;
    for (probe, iface) in packets {
        let expected = translated(nats, probe, *iface).map(|i| format!("n{i}"));
        let judged = judge(rules, probe, *iface, Verdict::Drop).1;
        let probe =
            Probe { iface: slots.iface(&format!("if{iface}")).unwrap_or(0), ..probe.clone() };
        let found = translation(&compiled, &probe).map(|i| compiled.table.nat[i].slot);
        let found = found.and_then(|slot| slots.rule_name(slot)).map(str::to_owned);
        prop_assert_eq!(found, expected, "{}\n{:?}", text, probe);
        // Translations beside them change nothing about the rules.
        let rule = classify(&compiled, &probe).rule;
        prop_assert_eq!(rule.is_some(), judged.is_some(), "{}\n{:?}", text, probe);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn translations_are_met_as_they_are_written(
        rules in proptest::collection::vec(rule(), 0..4),
        nats in proptest::collection::vec(nat(), 1..8),
        packets in proptest::collection::vec(packet(), 64),
    ) {
        compare_nats(&rules, &nats, &packets)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tables_say_what_the_rules_say(
        rules in proptest::collection::vec(rule(), 0..12),
        packets in proptest::collection::vec(packet(), 64),
    ) {
        compare(&rules, &packets)?;
    }

    /// Whatever is in the file: a policy or errors with places in it, never a panic.
    #[test]
    fn any_words_are_read(words in proptest::collection::vec(proptest::sample::select(&[
        "rule", "set", "default", "option", "interface", "disabled", "nat", "masquerade", "source", "destination", "static", "prefix",
        "redirect", "=>", "<=>", "hairpin", "blocks", "ports", "endpoint-independent", "bypass", "xsk", "no-track", "syn-cookies",
        "fd00:1::/48", "10.0.0.0/29", "203.0.113.8/29", "a", "b", "@a", "=", "{", "}", ",", "\n", "\n", "allow",
        "drop", "in", "out", "on", "tcp", "icmp", "type", "code", "from", "to", "port", "not", "flags", "syn/ack", "state",
        "new", "log", "10.0.0.0/8", "10.0.0.1-10.0.0.9", "::1", "22", "80-90", "timeout", "udp-new", "30s", "é", "!", "#x",
        "\\", "\"", "\t", "\u{0}",
    ][..]), 0..60)) {
        let text = words.join(" ");
        match parse(&text, "words") {
            Ok(policy) => { let _ = compile(&policy, &mut Slots::new(), 1); }
            Err(errors) => {
                prop_assert!(!errors.items.is_empty());
                for error in &errors.items {
                    let line = text.split('\n').nth(error.line as usize - 1);
                    prop_assert!(line.is_some_and(|l| error.column as usize <= l.chars().count() + 1), "{error:?}");
                }
                let _ = errors.render(true);
            }
        }
    }
}

proptest! {
    // Each case takes a hundred times longer in a build without optimisation.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Rules that cross the border of a 64-bit word, and then some.
    #[test]
    fn many_rules_too(
        rules in proptest::collection::vec(rule(), 60..140),
        packets in proptest::collection::vec(packet(), 32),
    ) {
        compare(&rules, &packets)?;
    }
}

/// A policy that is as large as this issue asks for: 1000 rules, 10,000 prefixes in ten sets.
fn large() -> String {
    let mut text = String::new();
    for set in 0..10u32 {
        write!(text, "set s{set} = {{").unwrap();
        for i in 0..1000u32 {
            // Spread over 4096 /16s, /20 to /24 long.
            let n = (set * 1000 + i).wrapping_mul(2_654_435_761) >> 8;
            let len = 20 + n % 5;
            let addr =
                Ipv4Addr::from((0x2000_0000 + (n << 8 & 0x0fff_ff00)) & (u32::MAX << (32 - len)));
            write!(text, "{addr}/{len}, ").unwrap();
        }
        text.push_str("}\n");
    }
    for i in 0..1000 {
        writeln!(
            text,
            "rule r{i} drop in tcp from @s{} to 10.0.{}.0/24 port {}",
            i % 10,
            i % 250,
            1 + i % 7
        )
        .unwrap();
    }
    text
}

#[test]
fn a_thousand_rules_over_ten_thousand_prefixes_compile_in_time() {
    let text = large();
    let start = std::time::Instant::now();
    let policy = parse(&text, "large").unwrap_or_else(|e| panic!("{e}"));
    let parsed = start.elapsed();
    let compiled = compile(&policy, &mut Slots::new(), 1).unwrap_or_else(|e| panic!("{e}"));
    let total = start.elapsed();
    println!("parsed in {parsed:?}, compiled by {total:?}: {:?}", compiled.usage);
    let warnings = firewall_user::policy::check(&policy, &Default::default());
    println!("checked by {:?}, {} warnings", start.elapsed(), warnings.len());
    // Unoptimised builds and shared machines take their time; the bound is for what people run.
    let bound = if cfg!(debug_assertions) { 5000 } else { 300 };
    assert!(total.as_millis() < bound, "{total:?}");
}
