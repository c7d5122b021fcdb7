//! IPv6 prefix translation: every byte that leaves and comes in. `wan0` is outside, `lan0` inside.

use super::nat::{LAN, WAN, begin, ends, out, through};
use super::{Bench, C6, HOOKS};
use sluice_tests::kernel::{Fate, Hook};
use sluice_tests::model::nat::{Moved, prefix};
use sluice_tests::packet::{Packet, hex, tcp, verify_all};

const NAT: &str = "nat p prefix on wan0 fd01:203:405::/48 <=> 2001:db8:1::/48";

#[test]
fn as_in_the_rfc() {
    let Some(mut bench) = Bench::or_skip("vectors::prefixes::as_in_the_rfc") else {
        return;
    };
    // RFC 6296 section 3.3 and appendix B.
    let nat = NAT;
    let (inside, outside) = ("fd01:203:405:1::1234", "2001:db8:1:d550::1234");
    let by_hand = prefix(
        inside.parse().expect("an address"),
        "fd01:203:405::".parse().expect("an address"),
        "2001:db8:1::".parse().expect("an address"),
        48,
    );
    let wanted = outside.parse().expect("an address");
    assert_eq!(by_hand, Some(Moved::To(wanted)));
    let (from, to) = (|| Packet::new().ipv6(inside, C6), || Packet::new().ipv6(outside, C6));
    for (label, sent, expected) in [
        ("TCP", from().tcp(4000, 80).fill(9), to().tcp(4000, 80).fill(9)),
        ("UDP", from().udp(4000, 53), to().udp(4000, 53)),
        ("a query", from().ping(7), to().ping(7)),
        ("extension headers", from().hop_by_hop().udp(1, 2), to().hop_by_hop().udp(1, 2)),
    ] {
        begin(&mut bench, label, nat);
        let left = out(&mut bench, &sent);
        assert_eq!(hex(&left), hex(&expected.build()), "{label}: the checksum is the same");
        let ends = ends(&sent.build());
        let answer = |to: &str| {
            let packet = Packet::new().ipv6(C6, to);
            match ends.proto {
                6 => packet.tcp(80, 4000).flags(tcp::SYN | tcp::ACK).seq(1, 1001),
                17 => packet.udp(ends.dport, ends.sport),
                _ => packet.pong(7),
            }
        };
        let came = through(&mut bench, WAN, LAN, &answer(outside).build());
        assert_eq!(hex(&came), hex(&answer(inside).build()), "{label}: the way back");
        let error = |to: &str, about: &Packet| {
            Packet::new().ipv6("2001:db8:9::9", to).icmp(3, 0, [0; 4]).payload(&about.ip_packet())
        };
        let came = through(&mut bench, WAN, LAN, &error(outside, &expected).build());
        assert_eq!(hex(&came), hex(&error(inside, &sent).build()), "{label}: an error about it");
    }
}

#[test]
fn what_has_no_counterpart() {
    let Some(mut bench) = Bench::or_skip("vectors::prefixes::what_has_no_counterpart") else {
        return;
    };
    begin(&mut bench, "subnet of ones", NAT);
    let out = Packet::new().ipv6("fd01:203:405:ffff::1", C6).udp(1, 2).build();
    bench.at(Hook::TcIn, LAN, &out).passes("default");
    bench.at(Hook::TcOut, WAN, &out).drops("nat-impossible");
    let back = Packet::new().ipv6(C6, "2001:db8:1:ffff::1").udp(2, 1).build();
    for hook in [Hook::Xdp, Hook::TcIn] {
        bench.at(hook, WAN, &back).drops("nat-impossible");
    }
    begin(&mut bench, "others", NAT);
    for (src, dst) in [("fd01:203:406::1", C6), ("2001:db8:7::1", C6), ("fe80::1", C6)] {
        let packet = Packet::new().ipv6(src, dst).udp(1, 2).build();
        let met = bench.meet(Hook::TcOut, WAN, &packet).passes("default");
        assert_eq!(hex(&met.data), hex(&packet), "not of the prefix");
    }
    begin(&mut bench, "another interface", NAT);
    let packet = Packet::new().ipv6("fd01:203:405:1::1", C6).udp(1, 2).build();
    let met = bench.meet(Hook::TcOut, LAN, &packet).passes("default");
    assert_eq!(hex(&met.data), hex(&packet));
}

#[test]
fn at_every_ingress_hook() {
    let Some(mut bench) = Bench::or_skip("vectors::prefixes::at_every_ingress_hook") else {
        return;
    };
    for hook in HOOKS.into_iter().filter(|hook| *hook != Hook::TcOut) {
        begin(&mut bench, "a packet in", NAT);
        let sent = |to: &str| Packet::new().ipv6(C6, to).tcp(80, 4000).fill(20).build();
        let met = bench.meet(hook, WAN, &sent("2001:db8:1:d550::1234"));
        assert_eq!(met.fate, Fate::Pass);
        assert_eq!(hex(&met.data), hex(&sent("fd01:203:405:1::1234")), "{hook:?}");
    }
}

#[test]
fn fragments_go_with_their_first() {
    let test = "vectors::prefixes::fragments_go_with_their_first";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    begin(&mut bench, "fragments", NAT);
    let whole = |src: &str| Packet::new().ipv6(src, C6).udp(4000, 53).fill(100);
    let sent = whole("fd01:203:405:1::1234").fragments(48, 9);
    let wanted = whole("2001:db8:1:d550::1234").fragments(48, 9);
    for (sent, wanted) in sent.iter().zip(&wanted) {
        bench.at(Hook::TcIn, LAN, &sent.build());
        let met = bench.meet(Hook::TcOut, WAN, &sent.build());
        assert_eq!((met.fate, hex(&met.data)), (Fate::Pass, hex(&wanted.build())));
    }
}

#[test]
fn errors_from_inside_say_nothing_of_the_inside() {
    let test = "vectors::prefixes::errors_from_inside_say_nothing_of_the_inside";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    begin(&mut bench, "an error", NAT);
    let asked = |to: &str| Packet::new().ipv6(C6, to).udp(4000, 53).fill(30);
    through(&mut bench, WAN, LAN, &asked("2001:db8:1:d550::1234").build());
    let error = |from: &str, to: &str| {
        Packet::new().ipv6(from, C6).icmp(1, 4, [0; 4]).payload(&asked(to).ip_packet()).build()
    };
    // Of the host that was asked, and of a router on the way to it.
    for (from, seen) in [
        ("fd01:203:405:1::1234", "2001:db8:1:d550::1234"),
        ("fd01:203:405:2::1", "2001:db8:1:d551::1"),
        ("2001:db8:9::1", "2001:db8:9::1"),
    ] {
        let sent = error(from, "fd01:203:405:1::1234");
        assert!(verify_all(&sent).is_ok());
        let left = through(&mut bench, LAN, WAN, &sent);
        assert_eq!(hex(&left), hex(&error(seen, "2001:db8:1:d550::1234")), "{from}");
    }
}
