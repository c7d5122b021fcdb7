use super::*;
use crate::policy::classify::{Probe, classify};
use crate::policy::parse;

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
    let judge = |text: &str| classify(&c.table, &probe(text));
    let name = |slot: u16| slots.rule_name(slot).unwrap_or("default");
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
    let out = classify(&c.table, &probe("in 0 tcp 10.0.0.77 1 192.0.2.1 8080"));
    assert_eq!((out.verdict, out.rule, c.table.settings.words), (Verdict::Allow, None, 0));
}

#[test]
fn what_is_too_large_is_named_and_slots_stay() {
    use std::fmt::Write as _;
    let mut slots = Slots::new();
    let mut refused = |text: &str| {
        let policy = parse(text, "test").unwrap_or_else(|e| panic!("{e}"));
        let error = compile(&policy, &mut slots, 1).unwrap_err();
        assert_eq!(slots.rules().count(), 0);
        error
    };
    let mut text = String::new();
    for i in 0..1025 {
        writeln!(text, "rule r{i} allow in").unwrap();
    }
    assert_eq!(refused(&text), CompileError { part: Part::Rules, seen: 1025, limit: 1024 });
    let mut text = String::from("rule a drop from {");
    for i in 0..20_000u32 {
        write!(text, "{}, ", std::net::Ipv4Addr::from(i << 16 | 0x8000)).unwrap();
    }
    // One block serves all: the same pattern below each /16.
    let policy = parse(&format!("{text} }}"), "test").unwrap();
    assert_eq!(compile(&policy, &mut Slots::new(), 1).unwrap().usage.leaves, [4, 0]);
    let mut text = String::from("rule a drop to {");
    for i in 0..20_000u32 {
        write!(text, "{}, ", std::net::Ipv4Addr::from(i << 16 | (i + 1))).unwrap();
    }
    let error = refused(&format!("{text} }}"));
    assert_eq!((error.part, error.limit), (Part::Ipv4Destinations, V4_LEAVES));
    assert!(error.seen > 70_000, "{error}");
    let mut text = String::from("rule a drop from {");
    for i in 0..5_000u32 {
        write!(text, "2001:db8:{i:x}::/48, ").unwrap();
    }
    // Neighbours are joined: one interval.
    let policy = parse(&format!("{text} }}"), "test").unwrap();
    assert_eq!(compile(&policy, &mut Slots::new(), 1).unwrap().usage.bounds, [3, 1]);
    let error = refused(&format!("{text} }}").replace("::/48", "::/49"));
    assert_eq!(error, CompileError { part: Part::Ipv6Sources, seen: 10_001, limit: V6_BOUNDS });
    assert!(error.to_string().contains("needs 10001 intervals of IPv6 sources"), "{error}");
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
    let actions = &c.table.actions;
    assert_eq!(actions[0].flags, ACTION_NO_TRACK | ACTION_LOG);
    assert_eq!(actions[1].flags, ACTION_COOKIES);
    assert_eq!((actions[2].verdict, actions[2].flags), (Verdict::Allow.raw(), ACTION_BYPASS));
    assert_eq!((c.rules[2].action, c.rules[2].verdict), ("bypass", Verdict::Allow));
    // `syn-cookies` made it a rule about TCP.
    assert_eq!(classify(&c.table, &probe("in 0 tcp 10.0.0.1 9 10.0.0.2 80")).rule, Some(1));
    assert_eq!(classify(&c.table, &probe("in 0 udp 10.0.0.1 9 10.0.0.2 80")).rule, None);
    let untracked = Probe { state: State::Untracked, ..probe("out 0 tcp 10.0.0.1 9 10.0.0.2 81") };
    assert_eq!(classify(&c.table, &untracked).rule, Some(3));
}
