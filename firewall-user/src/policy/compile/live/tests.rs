use crate::policy::classify::{Probe, classify, classify_with};
use crate::policy::{Compiled, Slots, compile, parse};
use crate::sets::SetKind;
use firewall_common::abi::table::{ACTION_ADDS, ACTION_ASKS, Direction, RuleAction, State};
use std::net::IpAddr;

const POLICY: &str = "
set plain = { 198.51.100.0/24 }
set bad live = { 192.0.2.0/24, 2001:db8::/32 }
set dns live pairs = { 9.9.9.9:53, [2620:fe::fe]:53 }
set web live ports = { 80, 8000-8010 }
set scanners live size 500 timeout 10m
default in drop
rule seen    count in tcp to port @web
rule bad     drop in from @bad
rule dns     allow in to @dns
rule not-dns reject in udp to not @dns
rule web     allow in tcp from not @scanners to port @web
rule rest    allow in tcp from @plain add source to @scanners update destination to @dns timeout 5s
";

fn compiled(slots: &mut Slots, generation: u32) -> Compiled {
    compile(&parse(POLICY, "test").unwrap(), slots, generation).unwrap()
}

fn probe(proto: u8, src: &str, dst: &str, dport: u16) -> Probe {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    Probe {
        direction: Direction::In,
        iface: 0,
        src: address(src),
        dst: address(dst),
        proto,
        sport: 4242,
        dport,
        icmp: (8, 0),
        tcp_flags: 2,
        state: State::New,
    }
}

fn decided(c: &Compiled, probe: &Probe) -> Option<String> {
    let outcome = classify(c, probe);
    let named = c.rules.iter().find(|rule| rule.slot == outcome.slot);
    named.filter(|_| outcome.rule.is_some()).map(|rule| rule.name.clone())
}

#[test]
fn rules_are_asked_for_what_sets_hold() {
    let c = compiled(&mut Slots::new(), 1);
    let decided = |proto, src, dst, port| decided(&c, &probe(proto, src, dst, port));
    assert_eq!(decided(6, "192.0.2.7", "10.0.0.1", 80).as_deref(), Some("bad"));
    assert_eq!(decided(6, "2001:db8:1::1", "2001:db8::1", 80).as_deref(), Some("bad"));
    assert_eq!(decided(17, "10.0.0.9", "9.9.9.9", 53).as_deref(), Some("dns"));
    assert_eq!(decided(17, "fd00::1", "2620:fe::fe", 53).as_deref(), Some("dns"));
    assert_eq!(decided(17, "10.0.0.9", "9.9.9.9", 54).as_deref(), Some("not-dns"));
    assert_eq!(decided(6, "10.0.0.9", "9.9.9.9", 54), None);
    assert_eq!(decided(6, "10.0.0.9", "10.0.0.1", 8005).as_deref(), Some("web"));
    assert_eq!(decided(6, "198.51.100.9", "10.0.0.1", 22).as_deref(), Some("rest"));
    // Who asks for pairs asks for packets that have ports, `not` or not.
    assert_eq!(decided(1, "10.0.0.9", "9.9.9.9", 53), None);
}

#[test]
fn rules_that_only_count_are_asked_too() {
    let c = compiled(&mut Slots::new(), 1);
    let seen = c.rules.iter().find(|rule| rule.name == "seen").unwrap().slot;
    assert_eq!(classify(&c, &probe(6, "10.0.0.9", "10.0.0.1", 80)).counted, [seen]);
    assert!(classify(&c, &probe(6, "10.0.0.9", "10.0.0.1", 81)).counted.is_empty());
}

#[test]
fn sets_may_be_known_by_somebody_else() {
    let c = compiled(&mut Slots::new(), 1);
    let scanners = c.sets.iter().find(|(_, set)| set.name == "scanners").unwrap().0;
    let probe = probe(6, "10.0.0.9", "10.0.0.1", 80);
    let nobody = classify_with(&c, &probe, &|_, _| false);
    assert_eq!(nobody.rule, None, "no set of ports holds 80 then");
    let outcome =
        classify_with(&c, &probe, &|index, end| index == scanners || end.kind() == SetKind::Ports);
    assert_eq!(outcome.rule, None, "it is a scanner");
}

#[test]
fn sets_keep_their_indices() {
    let mut slots = Slots::new();
    let before = compiled(&mut slots, 1);
    let text = POLICY.replace("set bad live", "set first live\nset bad live");
    let text = text.replace("rule seen", "rule first drop in from @first\nrule seen");
    let after = compile(&parse(&text, "test").unwrap(), &mut slots, 2).unwrap();
    let index = |c: &Compiled, name: &str| c.sets.iter().find(|(_, s)| s.name == name).unwrap().0;
    for name in ["bad", "dns", "web", "scanners"] {
        assert_eq!(index(&before, name), index(&after, name), "{name}");
    }
    let (_, scanners) = after.sets.iter().find(|(_, set)| set.name == "scanners").unwrap();
    assert_eq!((scanners.size, scanners.timeout, scanners.grows), (Some(500), Some(600_000), true));
    let (_, bad) = after.sets.iter().find(|(_, set)| set.name == "bad").unwrap();
    assert_eq!((bad.entries.len(), bad.grows), (2, false));
}

#[test]
fn what_rules_add_is_laid_out_as_the_kernel_reads_it() {
    let c = compiled(&mut Slots::new(), 1);
    assert_eq!(c.table.any_flags & u32::from(ACTION_ASKS | ACTION_ADDS), 0x30);
    let arena = &c.arena;
    let half = |at: u32| (arena[at as usize / 2] >> (32 * (at % 2))) as u32;
    let index = |name: &str| u64::from(c.sets.iter().find(|(_, s)| s.name == name).unwrap().0) + 1;
    // Place 5 is `rest`: it asks no live set, and adds to two.
    let at = half(c.table.asks + 5) as usize;
    let renewed = 1 << 15 | 1 << 14 | 1 << 13 | index("dns");
    assert_eq!(arena[at..at + 3], [0, renewed << 16 | index("scanners"), 5_000 << 32 | 600_000]);
    // Place 4 is `web`: source not in `scanners`. That its destination's port is in `web` is a gate's affair.
    let at = half(c.table.asks + 4) as usize;
    assert_eq!(arena[at], 1 << 15 | index("scanners"));
}

#[test]
fn the_first_tests_are_gates() {
    let c = compiled(&mut Slots::new(), 1);
    let index = |name: &str| u64::from(c.sets.iter().find(|(_, s)| s.name == name).unwrap().0) + 1;
    let port_there =
        (1 << 12 | 1 << 13 | index("web"), index("bad"), 1 << 12 | 1 << 14 | index("dns"));
    assert_eq!(c.table.gates, port_there.0 | port_there.1 << 16 | port_there.2 << 32);
    // Rules that ask nothing else are found by their rows alone; `not` asks the same.
    let asks = |slot: u32| {
        let part = &c.table.parts[0];
        let half = |at: u32| (c.arena[at as usize / 2] >> (32 * (at % 2))) as u32;
        let actions = (0..c.rules.len() as u32).map(|i| RuleAction(half(part.actions + i)));
        let all: Vec<RuleAction> = actions.filter(|action| action.slot() == slot).collect();
        assert_eq!(all.len(), 1);
        all[0].flags() & ACTION_ASKS != 0
    };
    let asking = c.rules.iter().filter(|rule| asks(rule.slot)).map(|rule| rule.name.as_str());
    assert_eq!(asking.collect::<Vec<_>>(), ["web"]);
}

#[test]
fn what_counting_rules_add_to_is_asked_where_its_rule_stands() {
    let text = "
set seen live
set other live
default in drop
rule note  count in udp add source to @seen
rule again count in from @seen
rule other drop in from @other
rule both  allow in from @seen
";
    let c = compile(&parse(text, "test").unwrap(), &mut Slots::new(), 1).unwrap();
    let (other, _) = c.sets.iter().find(|(_, s)| s.name == "other").unwrap();
    assert_eq!(c.table.gates, u64::from(*other) + 1);
}

#[test]
fn more_sets_than_there_is_room_for_are_refused() {
    let mut text: String = (0..65).map(|i| format!("set s{i} live\n")).collect();
    text.push_str("rule a drop in from @s0\n");
    let error = compile(&parse(&text, "test").unwrap(), &mut Slots::new(), 1).unwrap_err();
    assert_eq!((error.seen, error.limit), (65, 64), "{error}");
}
