use super::*;
use crate::policy::classify::{Probe, classify};
use crate::policy::parse;
use firewall_common::abi::table::{Direction, RULE_SLOTS, State};

fn compiled(text: &str) -> (Compiled, Slots) {
    let mut slots = Slots::new();
    let policy = parse(text, "test").unwrap_or_else(|e| panic!("{e}"));
    let compiled = compile(&policy, &mut slots, 1).unwrap();
    (compiled, slots)
}

fn probe(text: &str) -> Probe {
    // "in 1 tcp 10.0.0.1 1000 10.0.0.2 22"
    let words: Vec<&str> = text.split(' ').collect();
    Probe {
        direction: Direction::from_name(words[0]).unwrap(),
        iface: words[1].parse().unwrap(),
        proto: match words[2] {
            "tcp" => 6,
            "udp" => 17,
            "icmp" => 1,
            other => other.parse().unwrap(),
        },
        src: words[3].parse().unwrap(),
        sport: words[4].parse().unwrap(),
        dst: words[5].parse().unwrap(),
        dport: words[6].parse().unwrap(),
        icmp: words.get(7).map_or((0, 0), |t| (t.parse().unwrap(), 0)),
        tcp_flags: 2,
        state: State::New,
    }
}

#[test]
fn the_sketch_means_what_it_says() {
    let (c, slots) = compiled(
        "interface wan = eth0
         set admins = { 10.0.0.0/24, 2001:db8::/64 }
         default in drop
         default out allow
         option timeout udp-new 5s
         rule seen   count in udp
         rule ssh    allow  in on wan tcp to port 22 from @admins
         rule telnet reject out tcp to port 23 log
         rule pings  allow in icmp type echo-request
         disabled rule old allow in tcp to port 8080",
    );
    let wan = slots.iface("eth0").unwrap();
    let judge = |text: &str| classify(&c, &probe(text));
    let name = |slot: u32| slots.rule_name(slot).unwrap_or("default");
    let ssh = judge(&format!("in {wan} tcp 10.0.0.77 999 192.0.2.1 22"));
    assert_eq!((ssh.verdict, name(ssh.slot)), (Verdict::Allow, "ssh"));
    assert_eq!(judge(&format!("in {wan} tcp 10.0.1.0 999 192.0.2.1 22")).verdict, Verdict::Drop);
    assert_eq!(
        judge(&format!("in {wan} tcp 2001:db8::ffff 999 2001:db8::1 22")).verdict,
        Verdict::Allow
    );
    assert_eq!(
        judge(&format!("in {wan} tcp 2001:db8:0:1:: 999 2001:db8::1 22")).verdict,
        Verdict::Drop
    );
    assert_eq!(judge("in 2 tcp 10.0.0.77 999 192.0.2.1 22").verdict, Verdict::Drop);
    assert_eq!(judge("out 0 tcp 10.0.0.77 999 192.0.2.1 23").verdict, Verdict::Reject);
    assert_eq!(judge("out 0 tcp 10.0.0.77 999 192.0.2.1 24").rule, None);
    assert_eq!(judge("in 0 icmp 10.0.0.77 0 192.0.2.1 0 8").verdict, Verdict::Allow);
    assert_eq!(judge("in 0 icmp 10.0.0.77 0 192.0.2.1 0 0").verdict, Verdict::Drop);
    assert_eq!(judge("in 0 tcp 10.0.0.77 1 192.0.2.1 8080").verdict, Verdict::Drop);
    // ICMP type 8 code 0 is index 2048 of the table that holds ports too.
    assert_eq!(judge("in 0 tcp 10.0.0.77 1 192.0.2.1 2048").verdict, Verdict::Drop);
    let udp = judge("in 0 udp 10.0.0.77 1 192.0.2.1 53");
    assert_eq!(
        (udp.verdict, udp.counted.iter().map(|s| name(*s)).collect::<Vec<_>>()),
        (Verdict::Drop, vec!["seen"])
    );
    assert_eq!(c.table.settings.timeouts[4], 5000);
    assert_eq!(
        c.table.settings.flags,
        SETTING_HAS_CONTINUE | SETTING_TCP_PICKUP | SETTING_WINDOW_STRICT | SETTING_EVICT_HALF_OPEN
    );
    assert_eq!(c.table.settings.words, 1);
    assert_eq!((c.rules.len(), c.rules[4].enabled), (5, false));
    assert_eq!(c.rules[2].text, "rule telnet reject out tcp to port 23 log");
}

#[test]
fn an_empty_policy_lets_everything_pass() {
    let (c, _) = compiled("# nothing\n");
    let out = classify(&c, &probe("in 0 tcp 10.0.0.77 1 192.0.2.1 8080"));
    assert_eq!((out.verdict, out.rule, c.table.settings.words), (Verdict::Allow, None, 0));
}

#[test]
fn what_is_too_large_is_named_and_slots_stay() {
    use std::fmt::Write as _;
    let mut slots = Slots::new();
    let mut text = String::new();
    for i in 0..=MAX_CONTINUES {
        writeln!(text, "rule r{i} count in").unwrap();
    }
    let policy = parse(&text, "test").unwrap_or_else(|e| panic!("{e}"));
    let error = compile(&policy, &mut slots, 1).unwrap_err();
    assert_eq!(slots.rules().count(), 0);
    assert_eq!(error, CompileError { part: Part::CountRules, seen: 65, limit: MAX_CONTINUES });
    assert!(error.to_string().contains("needs 65 rules that only count or log"), "{error}");
}

#[test]
fn more_rules_than_there_are_slots_are_refused_and_as_many_are_not() {
    use std::fmt::Write as _;
    let mut text = String::new();
    for i in 0..=MAX_RULES {
        writeln!(text, "rule r{i} drop in from 10.0.0.1").unwrap();
    }
    let mut policy = parse(&text, "test").unwrap_or_else(|e| panic!("{e}"));
    let mut slots = Slots::new();
    let error = compile(&policy, &mut slots, 1).unwrap_err();
    assert_eq!(error, CompileError { part: Part::Rules, seen: MAX_RULES + 1, limit: MAX_RULES });
    let said = error.to_string();
    assert!(said.contains("needs 131057 enabled rules, and there is room for 131056"), "{said}");
    policy.rules.pop();
    let compiled = compile(&policy, &mut slots, 1).unwrap();
    assert_eq!(compiled.rules.last().map(|rule| rule.slot), Some(RULE_SLOTS as u32 - 1));
}

#[test]
fn more_intervals_than_the_kernel_searches_are_refused() {
    use std::fmt::Write as _;
    let mut text = String::from("rule a drop from {");
    // Neighbours but one: each begins and ends an interval.
    for i in 0..600_000u32 {
        write!(text, "2001:db8::{:x}:{:x}, ", i >> 15, (i & 0x7fff) << 1).unwrap();
    }
    let policy = parse(&format!("{text} }}"), "test").unwrap_or_else(|e| panic!("{e}"));
    let error = compile(&policy, &mut Slots::new(), 1).unwrap_err();
    assert_eq!((error.part, error.limit), (Part::Ipv6Sources, 1 << 20));
    assert!(error.seen > error.limit, "{error}");
}

/// Rules that can't be told apart by few addresses, with ports of their own, most of both families' hosts.
fn many(rules: u32) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("default in allow\nrule seen count in udp\n");
    for i in 0..rules {
        let (a, b) = (i.wrapping_mul(2_654_435_761), i.wrapping_mul(40_503) ^ 0x5bd1_e995);
        let port = 1024 + i % 40_000;
        match i % 8 {
            0 => writeln!(text, "rule r{i} drop in tcp from {} to port {port}", v4(a, 24)),
            1 => writeln!(text, "rule r{i} drop in udp to {} port {port}", v4(b, 28)),
            2 => writeln!(
                text,
                "rule r{i} drop in tcp to 2001:db8:{:x}::/48 port {port}",
                i & 0xffff
            ),
            3 => writeln!(
                text,
                "rule r{i} drop in tcp from 2001:db8:{:x}::1 to port {port}",
                i & 0xffff
            ),
            _ => writeln!(
                text,
                "rule r{i} drop in tcp from {} to {} port {port}",
                v4(a, 16),
                v4(b, 32)
            ),
        }
        .unwrap();
    }
    // Asked by every packet, first and last.
    text + "rule last reject in icmp\n"
}

fn v4(address: u32, length: u32) -> String {
    let network = u64::from(address) >> (32 - length) << (32 - length);
    format!("{}/{length}", std::net::Ipv4Addr::from(network as u32))
}

#[test]
fn many_rules_are_cut_and_mean_the_same() {
    let text = many(12_000);
    let (c, slots) = compiled(&text);
    assert!(c.plan.len() > 2, "{:?}", c.plan);
    assert!(c.usage.bytes < 64 << 20, "{}", c.usage.bytes);
    let rules: usize = c.plan.iter().map(|part| part.rules).sum();
    assert_eq!(rules, c.usage.rules);
    let (mut met, mut seed) = (0, 1u32);
    for i in (0..12_000u32).step_by(13) {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (a, b) = (i.wrapping_mul(2_654_435_761), i.wrapping_mul(40_503) ^ 0x5bd1_e995);
        let port = 1024 + i % 40_000;
        let (from, to) = (std::net::Ipv4Addr::from(a), std::net::Ipv4Addr::from(b));
        let proto = if i % 8 == 1 { "udp" } else { "tcp" };
        if matches!(i % 8, 2 | 3) {
            let out = classify(
                &c,
                &probe(&format!(
                    "in 1 tcp 2001:db8:{:x}::1 {port} 2001:db8:{:x}::9 {port}",
                    i & 0xffff,
                    i & 0xffff
                )),
            );
            assert_eq!(slots.rule_name(out.slot), Some(format!("r{i}").as_str()));
            continue;
        }
        let out = classify(&c, &probe(&format!("in 1 {proto} {from} 9 {to} {port}")));
        // An earlier one may want it, too.
        let name = slots.rule_name(out.slot).unwrap_or_default().to_owned();
        assert!(out.rule.is_some_and(|place| place <= i as usize + 1), "r{i}: {name}");
        met += u32::from(name == format!("r{i}"));
        assert_eq!(out.counted.len(), usize::from(proto == "udp"));
    }
    assert!(met > 500, "{met}");
    let ping = classify(&c, &probe("in 1 icmp 10.0.0.1 0 10.0.0.2 0 8"));
    assert_eq!((ping.verdict, slots.rule_name(ping.slot)), (Verdict::Reject, Some("last")));
}

#[test]
fn options_reach_the_settings() {
    let (c, _) = compiled("");
    let s = c.table.settings;
    assert_eq!((s.source_flows, s.cookie_rate, s.new_budget), (0, 0, 200_000));
    let (c, _) = compiled(
        "option tcp-window liberal
         option half-open-full refuse
         option source-flows 2k
         option syn-cookies above 10k/s
         option fast-path on
         option new-rate 500/s
         option timeout udp-stream 7m
         option timeout sctp 1h
         option timeout gre 2m",
    );
    let s = c.table.settings;
    assert_eq!(s.flags, SETTING_TCP_PICKUP | SETTING_FAST_PATH);
    assert_eq!((s.source_flows, s.cookie_rate, s.new_budget), (2000, 10_000, 500));
    assert_eq!(s.timeouts[9..], [420_000, 3_600_000, 120_000]);
    let (c, _) = compiled("option tcp-window off\noption syn-cookies always");
    let s = c.table.settings;
    assert_eq!(s.flags, SETTING_TCP_PICKUP | SETTING_WINDOW_OFF | SETTING_EVICT_HALF_OPEN);
    assert_eq!(s.cookie_rate, 1);
    let (c, _) = compiled("option syn-cookies above 0/s");
    assert_eq!(c.table.settings.cookie_rate, 1);
}

#[test]
fn what_a_rule_does_beside_its_verdict() {
    let (c, _) = compiled(
        "rule a allow in udp to port 53 no-track log
         rule b allow in syn-cookies to port 80
         rule c bypass in udp to port 4789 => xsk
         rule d allow state untracked",
    );
    let action = |rule| super::super::classify::action(&c.arena, &c.table.parts[0], rule);
    assert_eq!(action(0).flags(), ACTION_NO_TRACK | ACTION_LOG);
    assert_eq!(action(1).flags(), ACTION_COOKIES);
    assert_eq!((action(2).verdict(), action(2).flags()), (Verdict::Allow.raw(), ACTION_BYPASS));
    assert_eq!(
        c.table.any_flags,
        u32::from(ACTION_NO_TRACK | ACTION_LOG | ACTION_COOKIES | ACTION_BYPASS)
    );
    assert_eq!((c.rules[2].action, c.rules[2].verdict), ("bypass", Verdict::Allow));
    // `syn-cookies` made it a rule about TCP.
    assert_eq!(classify(&c, &probe("in 0 tcp 10.0.0.1 9 10.0.0.2 80")).rule, Some(1));
    assert_eq!(classify(&c, &probe("in 0 udp 10.0.0.1 9 10.0.0.2 80")).rule, None);
    let untracked = Probe { state: State::Untracked, ..probe("out 0 tcp 10.0.0.1 9 10.0.0.2 81") };
    assert_eq!(classify(&c, &untracked).rule, Some(3));
}
