use super::*;
use crate::policy::classify::{Probe, classify, translation};
use crate::policy::{Compiled, Slots, compile, parse};
use firewall_common::abi::nat::NAT_ENDPOINT_INDEPENDENT as INDEPENDENT;
use firewall_common::abi::table::{Direction, State};
use std::net::Ipv6Addr;

fn compiled(text: &str) -> (Compiled, Slots) {
    let mut slots = Slots::new();
    let policy = parse(text, "test").unwrap_or_else(|e| panic!("{e}"));
    let compiled = compile(&policy, &mut slots, 1).unwrap();
    (compiled, slots)
}

fn probe(direction: Direction, iface: u8, proto: u8, src: &str, dst: &str, dport: u16) -> Probe {
    Probe {
        direction,
        iface,
        proto,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        sport: 40_000,
        dport,
        icmp: (8, 0),
        tcp_flags: 2,
        state: State::New,
    }
}

const ROUTER: &str = "
interface wan = eth0
interface lan = { eth1, eth2 }
default in drop
rule inside allow in on lan
rule web allow in tcp to 10.0.0.5 port 8080
nat web destination on wan tcp to 203.0.113.5 port 80 => 10.0.0.5 port 8080 hairpin
nat games destination on wan udp to port 27000-27010 => 10.0.0.7 port 7000-7010
nat dns redirect on lan udp to port 53 => port 5353
nat one static on wan 10.0.0.8/29 <=> 203.0.113.8/29
disabled nat old masquerade on wan
nat pool source on wan tcp from 10.1.0.0/16 => 198.51.100.4-198.51.100.7 ports 2000-3999
nat all masquerade on wan from 10.0.0.0/8 endpoint-independent
nat six prefix on wan fd00:1::/48 <=> 2001:db8:1::/48
";

#[test]
fn each_kind_is_what_the_kernel_reads() {
    let text = ROUTER.replace("rule web", "rule weba");
    let (c, slots) = compiled(&text);
    let t = &c.table;
    assert_eq!((t.settings.words, t.settings.nat_word), (1, 2));
    let kinds: Vec<u8> = t.nat.iter().map(|n| n.kind).take_while(|k| *k != 0).collect();
    let at = |kind: NatKind| kinds.iter().position(|k| *k == kind.raw()).unwrap();
    let kind = NatKind::raw;
    assert_eq!(
        kinds,
        [
            kind(NatKind::Destination),
            kind(NatKind::Destination),
            kind(NatKind::Redirect),
            kind(NatKind::StaticOut),
            kind(NatKind::StaticIn),
            kind(NatKind::Source),
            kind(NatKind::Masquerade),
            kind(NatKind::PrefixOut),
            kind(NatKind::PrefixIn),
        ]
    );
    assert_eq!((t.settings.nat_in, t.settings.prefix_in), (0b0_0001_0111, 0b1_0000_0000));
    assert_eq!((t.settings.nat_out, t.settings.prefix_out), (0b0_0110_1000, 0b0_1000_0000));
    let slot = |name: &str| slots.rule(name).unwrap();
    let none = NatRule::default();
    assert_eq!(
        t.nat[0],
        NatRule {
            kind: NatKind::Destination.raw(),
            flags: NAT_HAIRPIN | NAT_TO_PORT,
            slot: slot("web"),
            addresses: 1,
            to: [10, 0, 0, 5],
            ports: [8080, 8080],
            ..none
        }
    );
    assert_eq!(
        (t.nat[1].flags, t.nat[1].ports, t.nat[1].from_port),
        (NAT_TO_PORT, [7000, 7010], 27_000)
    );
    assert_eq!((t.nat[2].flags, t.nat[2].ports, t.nat[2].to), (NAT_TO_PORT, [5353, 5353], [0; 4]));
    let (out, back) = (t.nat[at(NatKind::StaticOut)], t.nat[at(NatKind::StaticIn)]);
    assert_eq!((out.to, out.inside, out.inside_len), ([203, 0, 113, 8], [10, 0, 0, 8], 29));
    assert_eq!((back.to, back.inside, back.inside_len), ([10, 0, 0, 8], [10, 0, 0, 8], 29));
    assert_eq!((out.slot, back.slot), (slot("one"), slot("one")));
    assert_eq!(
        t.nat[5],
        NatRule {
            kind: NatKind::Source.raw(),
            slot: slot("pool"),
            pool: 64,
            addresses: 4,
            to: [198, 51, 100, 4],
            ports: [2000, 3999],
            ..none
        }
    );
    assert_eq!(
        t.nat[6],
        NatRule {
            kind: NatKind::Masquerade.raw(),
            flags: INDEPENDENT,
            slot: slot("all"),
            addresses: 1,
            ports: [1024, 65_535],
            ..none
        }
    );
    let mut address = "fd00:1:0:7::9".parse::<Ipv6Addr>().unwrap().octets();
    let before = address;
    assert!(
        nptv6::translate(&mut address, &t.nat[7]) && address[..6] == [0x20, 1, 0xd, 0xb8, 0, 1]
    );
    assert!(nptv6::translate(&mut address, &t.nat[8]) && address == before);
    // What people see, in the policy's order.
    let names: Vec<&str> = c.nats.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["web", "games", "dns", "one", "old", "pool", "all", "six"]);
    assert!(!c.nats[4].enabled && c.nats[4].slot == slot("old"));
    let pool = &c.nats[5];
    assert_eq!((pool.kind, pool.ports, pool.pool), ("source", Some((2000, 3999)), Some(64)));
    let ends = |a: &str, b: &str| (a.parse().unwrap(), b.parse().unwrap());
    assert_eq!(pool.public, [ends("198.51.100.4", "198.51.100.7")]);
    assert_eq!(c.nats[3].inside, Some(ends("10.0.0.8", "10.0.0.15")));
    assert_eq!(c.nats[0].public, [ends("203.0.113.5", "203.0.113.5")]);
    assert!(c.interfaces.contains("eth0") && c.usage.nats == 9 && c.usage.pool_addresses == 4);
}

#[test]
fn the_first_that_matches_translates_and_each_only_at_its_hook() {
    let (c, slots) = compiled(&ROUTER.replace("rule web", "rule weba"));
    let [wan, lan] = ["eth0", "eth1"].map(|name| slots.iface(name).unwrap());
    let of = |p: Probe| {
        translation(&c, &p).map(|i| slots.rule_name(c.table.nat[i].slot).unwrap().to_owned())
    };
    use Direction::{In, Out};
    for (p, name) in [
        (probe(In, wan, 6, "192.0.2.1", "203.0.113.5", 80), Some("web")),
        // Hairpin: from inside too, by its public address.
        (probe(In, lan, 6, "10.0.0.9", "203.0.113.5", 80), Some("web")),
        (probe(In, lan, 6, "10.0.0.9", "203.0.113.6", 80), None),
        (probe(In, wan, 17, "192.0.2.1", "203.0.113.5", 80), None),
        (probe(In, wan, 17, "192.0.2.1", "203.0.113.5", 27_010), Some("games")),
        (probe(In, lan, 17, "192.0.2.1", "203.0.113.5", 27_010), None),
        (probe(In, lan, 17, "10.0.0.9", "192.0.2.1", 53), Some("dns")),
        (probe(Out, lan, 17, "10.0.0.9", "192.0.2.1", 53), None),
        (probe(In, wan, 47, "192.0.2.1", "203.0.113.9", 0), Some("one")),
        (probe(Out, wan, 47, "10.0.0.9", "192.0.2.1", 0), Some("one")),
        (probe(Out, wan, 6, "10.1.0.9", "192.0.2.1", 443), Some("pool")),
        (probe(Out, wan, 17, "10.1.0.9", "192.0.2.1", 443), Some("all")),
        (probe(Out, lan, 17, "10.1.0.9", "192.0.2.1", 443), None),
        (probe(Out, wan, 17, "192.0.2.9", "192.0.2.1", 443), None),
        (probe(Out, wan, 6, "fd00:1::5", "2001:db8:9::1", 443), Some("six")),
        (probe(In, wan, 6, "2001:db8:9::1", "2001:db8:1:d550::5", 443), Some("six")),
        (probe(In, lan, 6, "2001:db8:9::1", "2001:db8:1:d550::5", 443), None),
    ] {
        assert_eq!(of(p.clone()).as_deref(), name, "{p:?}");
    }
    // Translations take no part in what rules say.
    let p = probe(In, wan, 6, "192.0.2.1", "203.0.113.5", 80);
    assert_eq!(classify(&c, &p).rule, None);
}

#[test]
fn pools_follow_the_policy_and_share_what_is_the_same() {
    let (c, _) = compiled(
        "nat a source on wan from 10.0.0.0/24 => 198.51.100.0/28
         nat b source on wan from 10.0.1.0/24 => 203.0.113.7
         nat c source on wan from 10.0.2.0/24 => 198.51.100.4-198.51.100.5 ports 5000
         nat d source on wan from 100.64.0.0/26 => 203.0.113.8-203.0.113.9 blocks 2000",
    );
    let pools: Vec<u16> = c.table.nat[..4].iter().map(|n| n.pool).collect();
    assert_eq!(pools, [64, 80, 68, 81]);
    let d = c.table.nat[3];
    assert_eq!((d.flags, d.block, d.inside, d.inside_len), (NAT_BLOCKS, 2000, [100, 64, 0, 0], 26));
    assert_eq!(c.nats[3].block, Some(2000));
}

#[test]
fn what_is_too_much_is_named() {
    let refused = |text: &str| {
        let policy = parse(text, "test").unwrap_or_else(|e| panic!("{e}"));
        compile(&policy, &mut Slots::new(), 1).unwrap_err()
    };
    let text: String = (0..33)
        .map(|i| format!("nat n{i} static on wan 10.0.{i}.0/24 <=> 198.18.{i}.0/24\n"))
        .collect();
    assert_eq!(refused(&text), CompileError { part: Part::Nats, seen: 66, limit: 64 });
    let text: String =
        (0..3).map(|i| format!("nat n{i} source on wan => 198.18.{i}.0/25\n")).collect();
    assert_eq!(refused(&text), CompileError { part: Part::PoolAddresses, seen: 384, limit: 192 });
}

#[test]
fn the_last_word_is_theirs() {
    let mut text: String = (0..960).map(|i| format!("rule r{i} allow in tcp\n")).collect();
    for i in 0..64 {
        text.push_str(&format!("nat n{i} masquerade on wan udp to port {i}\n"));
    }
    let (c, slots) = compiled(&text);
    // Behind one word that sums fifteen up.
    assert_eq!((c.table.settings.words, c.table.settings.nat_word), (15, 16));
    let wan = slots.iface("wan").unwrap();
    for port in [0, 63] {
        let p = probe(Direction::Out, wan, 17, "10.0.0.1", "192.0.2.1", port);
        assert_eq!(translation(&c, &p), Some(usize::from(port)));
        assert_eq!(classify(&c, &p).rule, None);
    }
    let (c, _) = compiled(&(0..1024).map(|i| format!("rule r{i} allow in\n")).collect::<String>());
    assert_eq!(translation(&c, &probe(Direction::In, 1, 6, "10.0.0.1", "10.0.0.2", 1)), None);
}
