//! Answers to rejected packets, byte by byte: RST (RFC 9293 3.10.7.1), ICMP unreachable (RFC 792,
//! RFC 4443), and when none is sent (RFC 1122 3.2.2).

use super::{Bench, C, C6, HOOKS, S, S6, forth, forth6};
use sluice_tests::kernel::Hook;
use sluice_tests::packet::{Answer, DST_MAC, Packet, SRC_MAC, hex, inspect, tcp, verify_checksums};
use std::net::IpAddr;

const REJECT: &str = "default in reject\ndefault out reject\noption tcp-pickup off\n";

fn octets(address: &str) -> Vec<u8> {
    match address.parse().expect("an address") {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The answer to a packet, its lower layers checked: the way back, fresh hop limit, right checksums,
/// nothing behind the packet.
#[track_caller]
fn answer(bench: &mut Bench, hook: Hook, packet: &Packet, from: &str, to: &str) -> Answer {
    let met = bench.at(hook, 0, &packet.build()).answers("default");
    assert_eq!(verify_checksums(&met.data), Ok(()), "{}", hex(&met.data));
    let seen = inspect(&met.data).expect("a whole frame");
    assert_eq!((seen.src_mac, seen.dst_mac), (DST_MAC, SRC_MAC), "back to who sent it");
    assert_eq!((&seen.src, &seen.dst), (&octets(from), &octets(to)));
    assert!(seen.ttl >= 64, "a hop limit of its own");
    let header = 14 + 4 * seen.vlans.len() + if seen.family == 4 { 20 } else { 40 };
    assert_eq!(
        seen.frame_len,
        header + seen.segment.len(),
        "nothing of the original is left behind the answer"
    );
    seen
}

#[test]
fn resets_have_the_numbers_the_rfc_asks_for() {
    let Some(mut bench) =
        Bench::or_skip("vectors::answers::resets_have_the_numbers_the_rfc_asks_for")
    else {
        return;
    };
    const SEQ: u32 = 0xffff_fff0;
    const ACK: u32 = 0x1234_5678;
    // Flags and payload of the rejected segment; sequence, acknowledgement and flags of the RST.
    // Without ACK: sequence 0, and everything that came is acknowledged (SYN and FIN count one). With
    // ACK: its number is the sequence, and nothing is acknowledged.
    let without = |length: u32| (0, SEQ.wrapping_add(length), tcp::RST | tcp::ACK);
    let with = (ACK, 0, tcp::RST);
    for (label, flags, payload, expected) in [
        ("a SYN", tcp::SYN, 0, without(1)),
        ("a SYN with data", tcp::SYN, 30, without(31)),
        ("a FIN", tcp::FIN, 5, without(6)),
        ("a SYN with FIN", tcp::SYN | tcp::FIN, 0, without(2)),
        ("no flags", 0, 10, without(10)),
        ("an ACK", tcp::ACK, 0, with),
        ("data", tcp::ACK | tcp::PSH, 100, with),
        ("a SYN-ACK", tcp::SYN | tcp::ACK, 0, with),
        ("a FIN-ACK", tcp::FIN | tcp::ACK, 0, with),
    ] {
        for hook in HOOKS {
            for (packet, from, to) in [(forth(), S, C), (forth6(), S6, C6)] {
                bench.case(label, REJECT);
                let packet = packet.tcp(4000, 23).flags(flags).seq(SEQ, ACK).fill(payload);
                let rst = answer(&mut bench, hook, &packet, from, to);
                assert_eq!((rst.proto, rst.segment.len()), (6, 20), "{label}: a bare header");
                assert_eq!((rst.u16(0), rst.u16(2)), (23, 4000), "{label}: ports turned round");
                assert_eq!(
                    (rst.u32(4), rst.u32(8), rst.segment[13]),
                    expected,
                    "{label} ({hook:?})"
                );
                assert_eq!(
                    (rst.segment[12], rst.u16(18)),
                    (0x50, 0),
                    "{label}: five words, nothing urgent"
                );
                assert!(bench.flows().is_empty(), "{label}");
            }
        }
    }
}

#[test]
fn resets_fit_whatever_they_answer() {
    let Some(mut bench) = Bench::or_skip("vectors::answers::resets_fit_whatever_they_answer")
    else {
        return;
    };
    let mss: [u8; 4] = [2, 4, 5, 180];
    for hook in HOOKS {
        bench.case("TCP options aren't payload", REJECT);
        let rst =
            answer(&mut bench, hook, &forth().tcp(4000, 23).seq(7, 0).tcp_options(&mss), S, C);
        assert_eq!(rst.u32(8), 8);
        bench.case("nor are IPv4 options", REJECT);
        let rst = answer(
            &mut bench,
            hook,
            &forth().options(&[1; 8]).tcp(4000, 23).seq(7, 0).fill(3),
            S,
            C,
        );
        assert_eq!(rst.u32(8), 11);
        bench.case("nor IPv6 extension headers", REJECT);
        let rst = answer(
            &mut bench,
            hook,
            &forth6().destination_options().tcp(4000, 23).seq(7, 0).fill(3),
            S6,
            C6,
        );
        assert_eq!(rst.u32(8), 11);
        bench.case("nor link padding", REJECT);
        let rst = answer(&mut bench, hook, &forth().tcp(4000, 23).seq(7, 0).trailer(6), S, C);
        assert_eq!(rst.u32(8), 8);
        bench.case("a large segment", REJECT);
        let rst = answer(&mut bench, hook, &forth().tcp(4000, 23).seq(7, 0).fill(1400), S, C);
        assert_eq!(rst.u32(8), 1408);
        bench.case("a VLAN's answer stays in it", REJECT);
        let rst = answer(&mut bench, hook, &Packet::new().vlan(42).ipv4(C, S).tcp(4000, 23), S, C);
        assert_eq!(rst.vlans, [42]);
        bench.case("two tags", REJECT);
        let rst = answer(
            &mut bench,
            hook,
            &Packet::new().tag(0x88a8, 9).vlan(42).ipv6(C6, S6).tcp(4000, 23),
            S6,
            C6,
        );
        assert_eq!(rst.vlans, [9, 42]);
    }
}

#[test]
fn everything_else_gets_an_unreachable_that_quotes_it() {
    let test = "vectors::answers::everything_else_gets_an_unreachable_that_quotes_it";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    for (label, packet, from, to) in [
        ("UDP", forth().udp(4000, 7).fill(40), S, C),
        ("UDP without payload", forth().udp(4000, 7), S, C),
        ("an echo request", forth().ping(9), S, C),
        ("GRE", forth().proto(47).payload(&[0xaa; 30]), S, C),
        ("SCTP", forth().proto(132).payload(&[0xbb; 12]), S, C),
        ("UDP in a VLAN", Packet::new().vlan(42).ipv4(C, S).udp(4000, 7).fill(40), S, C),
        ("UDP over IPv6", forth6().udp(4000, 7).fill(40), S6, C6),
        ("an echo request over IPv6", forth6().ping(9), S6, C6),
    ] {
        for hook in HOOKS {
            bench.case(label, REJECT);
            let icmp = answer(&mut bench, hook, &packet, from, to);
            let original = packet.ip_packet();
            let (proto, kind) = if icmp.family == 4 { (1, 3) } else { (58, 1) };
            assert_eq!(
                (icmp.proto, icmp.segment[0]),
                (proto, kind),
                "{label}: destination unreachable"
            );
            let port_unreachable = if icmp.family == 4 { 3 } else { 4 };
            assert_eq!(icmp.segment[1], port_unreachable, "{label}");
            assert_eq!(icmp.u32(4), 0, "{label}: unused, zero");
            let quote = &icmp.segment[8..];
            let least = if icmp.family == 4 { 28 } else { 48 };
            assert!(
                quote.len() >= least.min(original.len()),
                "{label}: {} bytes quoted",
                quote.len()
            );
            assert_eq!(
                quote,
                &original[..quote.len()],
                "{label} ({hook:?}): the packet as it came"
            );
        }
    }
}

#[test]
fn some_packets_are_never_answered() {
    let Some(mut bench) = Bench::or_skip("vectors::answers::some_packets_are_never_answered")
    else {
        return;
    };
    let group = [1, 0, 0x5e, 0, 0, 1];
    let unknown_error = forth().icmp(3, 1, [0; 4]).payload(&forth().udp(1, 2).ip_packet());
    for (label, packet) in [
        ("a RST", forth().tcp(1, 2).flags(tcp::RST)),
        ("a RST-ACK over IPv6", forth6().tcp(1, 2).flags(tcp::RST | tcp::ACK)),
        ("an ICMP error", unknown_error),
        ("an ICMPv6 error", forth6().icmp(1, 0, [0; 4]).payload(&forth6().udp(1, 2).ip_packet())),
        ("a frame to a group", forth().macs(SRC_MAC, group).udp(1, 2)),
        ("a broadcast frame", forth().macs(SRC_MAC, [0xff; 6]).tcp(1, 2)),
        ("a packet to a multicast address", Packet::new().ipv4(C, "224.0.0.251").udp(5353, 5353)),
        (
            "a packet to the limited broadcast address",
            Packet::new().ipv4(C, "255.255.255.255").udp(68, 67),
        ),
        ("a packet from nobody", Packet::new().ipv4("0.0.0.0", S).udp(68, 67)),
        ("a packet from a group", Packet::new().ipv4("239.1.2.3", S).udp(1, 2)),
        ("a packet to an IPv6 group", Packet::new().ipv6(C6, "ff02::fb").udp(5353, 5353)),
        ("a packet from the unspecified IPv6 address", Packet::new().ipv6("::", S6).udp(1, 2)),
    ] {
        for hook in HOOKS {
            bench.case(label, REJECT);
            bench.at(hook, 0, &packet.build()).drops("reject-impossible");
        }
    }
    let parts = forth().udp(1, 2).fill(64).fragments(24, 5);
    bench.case("a later fragment", REJECT);
    bench.xdp(&parts[0]).answers("default");
    bench.xdp(&parts[1]).drops("reject-impossible");
}
