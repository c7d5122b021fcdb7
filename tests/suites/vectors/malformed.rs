//! Truncated, lying and unknown frames: a reason for each, and the policy's verdict.

use super::{Bench, C, C6, HOOKS, S, S6, back6, forth, forth6};
use sluice_tests::kernel::{Fate, Hook};
use sluice_tests::packet::Packet;

/// Every way in which a frame can't be understood.
fn cases() -> Vec<(&'static str, Packet, &'static str)> {
    let udp = || forth().udp(1000, 53).fill(32);
    let udp6 = || forth6().udp(1000, 53).fill(32);
    let tcp = || forth().tcp(1000, 80).fill(8);
    let mut long_chain = Packet::new().ipv6(C6, S6);
    for _ in 0..9 {
        long_chain = long_chain.destination_options();
    }
    vec![
        ("a VLAN tag cut short", Packet::new().vlan(5).ipv4(C, S).truncate(16), "truncated-vlan"),
        (
            "a second tag cut short",
            Packet::new().vlan(5).vlan(6).ipv4(C, S).truncate(21),
            "truncated-vlan",
        ),
        (
            "three tags",
            Packet::new().vlan(1).vlan(2).vlan(3).ipv4(C, S).udp(1, 2),
            "too-many-vlans",
        ),
        (
            "three tags, service tag outside",
            Packet::new().tag(0x88a8, 1).vlan(2).vlan(3).ipv4(C, S).udp(1, 2),
            "too-many-vlans",
        ),
        ("an IPv4 header cut short", udp().truncate(33), "truncated-ipv4"),
        (
            "IPv4 options cut short",
            forth().options(&[1; 12]).udp(1, 2).truncate(40),
            "truncated-ipv4",
        ),
        ("version 5 as IPv4", udp().lie_version(5), "bad-ipv4-version"),
        ("version 6 as IPv4", udp().lie_version(6), "bad-ipv4-version"),
        ("an IPv4 header of 16 bytes", udp().lie_ihl(4), "bad-ipv4-header-length"),
        ("an IPv4 header of nothing", udp().lie_ihl(0), "bad-ipv4-header-length"),
        ("an IPv4 total length below its header", udp().lie_total_len(19), "bad-ipv4-total-length"),
        ("an IPv4 total length of zero", udp().lie_total_len(0), "bad-ipv4-total-length"),
        ("an IPv4 total length past the frame", udp().lie_total_len(61), "bad-ipv4-total-length"),
        ("an IPv6 header cut short", udp6().truncate(53), "truncated-ipv6"),
        ("an IPv6 header cut in its first word", udp6().truncate(20), "truncated-ipv6"),
        ("version 4 as IPv6", udp6().lie_version(4), "bad-ipv6-version"),
        ("an IPv6 payload past the frame", udp6().lie_payload_len(41), "bad-ipv6-payload-length"),
        (
            "an IPv6 extension past the payload",
            forth6().extension(60, &[17, 9, 0, 0, 0, 0, 0, 0]).proto(17),
            "truncated-ipv6",
        ),
        (
            "an IPv6 extension without room",
            forth6().hop_by_hop().lie_payload_len(4).proto(59),
            "truncated-ipv6",
        ),
        ("nine IPv6 extensions", long_chain.udp(1, 2), "too-many-extension-headers"),
        ("a TCP header cut short", forth().proto(6).payload(&[0; 19]), "truncated-tcp"),
        ("a TCP header cut by the total length", tcp().lie_total_len(39), "truncated-tcp"),
        ("a TCP data offset of four words", tcp().lie_data_offset(4), "bad-tcp-data-offset"),
        ("a TCP data offset past the packet", tcp().lie_data_offset(15), "bad-tcp-data-offset"),
        ("a UDP header cut short", forth().proto(17).payload(&[0; 7]), "truncated-udp"),
        ("a UDP length of seven", udp().lie_udp_len(7), "bad-udp-length"),
        ("a UDP length past the packet", udp().lie_udp_len(41), "bad-udp-length"),
        ("an SCTP header cut short", forth().proto(132).payload(&[0; 7]), "truncated-transport"),
        ("an ICMP header cut short", forth().proto(1).payload(&[8, 0, 0]), "truncated-icmp"),
        ("an ICMPv6 header cut short", forth6().proto(58).payload(&[128, 0, 0]), "truncated-icmp"),
        (
            "a fragment past 65,535 bytes",
            forth().udp(1, 2).fill(100).fragment(0x1fff, false),
            "bad-fragment",
        ),
        (
            "an IPv6 fragment past 65,535 bytes",
            forth6().fragment6(7, 0x1fff, false).proto(17).payload(&[0; 40]),
            "bad-fragment",
        ),
    ]
}

#[test]
fn every_malformed_frame_has_a_reason_and_the_policys_verdict() {
    let test = "vectors::malformed::every_malformed_frame_has_a_reason_and_the_policys_verdict";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    for (option, fate) in [("drop", Fate::Drop), ("allow", Fate::Pass)] {
        // The default is the other one: it isn't asked.
        let policy = format!("default in allow\ndefault out allow\noption malformed {option}\n");
        for (label, packet, reason) in cases() {
            let frame = packet.build();
            for hook in HOOKS {
                if !bench.takes(hook, &frame) {
                    continue;
                }
                bench.case(label, &policy);
                let met = bench.at(hook, 0, &frame);
                assert_eq!(
                    (met.fate, met.reason),
                    (fate, reason),
                    "{label} ({hook:?}, malformed {option})"
                );
                assert!(bench.flows().is_empty(), "{label}: no flow comes of it");
                assert_eq!(bench.rule("default in"), [0; 3], "{label}: no default is asked");
                assert_eq!(bench.events("verdict"), u64::from(fate == Fate::Drop), "{label}");
            }
        }
    }
}

#[test]
fn what_only_looks_odd_is_understood() {
    let Some(mut bench) = Bench::or_skip("vectors::malformed::what_only_looks_odd_is_understood")
    else {
        return;
    };
    let policy = "default in drop\nrule odd allow in udp to port 53\n";
    let options6 = || forth6().hop_by_hop().destination_options().routing().destination_options();
    for (label, packet) in [
        ("link padding behind the packet", forth().udp(1000, 53).trailer(18)),
        ("IPv4 options", forth().options(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0]).udp(1000, 53)),
        ("IPv4 options to the full", forth().options(&[1; 40]).udp(1000, 53)),
        (
            "a wrong IPv4 checksum, which the stack looks at",
            forth().lie_ip_checksum(1).udp(1000, 53),
        ),
        ("a UDP checksum of zero", forth().udp(1000, 53).no_udp_checksum()),
        ("a UDP length below the packet's", forth().udp(1000, 53).fill(20).lie_udp_len(10)),
        ("four IPv6 extension headers", options6().udp(1000, 53)),
        ("an atomic IPv6 fragment", forth6().fragment6(1, 0, false).udp(1000, 53)),
        ("one VLAN tag", Packet::new().vlan(4095).ipv4(C, S).udp(1000, 53)),
        ("two VLAN tags", Packet::new().tag(0x88a8, 100).vlan(200).ipv6(C6, S6).udp(1000, 53)),
        ("no payload", forth().udp(1000, 53)),
        ("much payload", forth().udp(1000, 53).fill(1400)),
    ] {
        for hook in [Hook::Xdp, Hook::TcIn] {
            bench.case(label, policy);
            bench.at(hook, 0, &packet.build()).passes("rule");
            let bytes = packet.ip_packet().len() as u64;
            assert_eq!(bench.rule("odd"), [1, 1, bytes], "{label}");
            assert_eq!(bench.only_flow(), [1, bytes, 0, 0], "{label}");
        }
    }
}

#[test]
fn what_isnt_ip_has_verdicts_of_its_own() {
    let Some(mut bench) =
        Bench::or_skip("vectors::malformed::what_isnt_ip_has_verdicts_of_its_own")
    else {
        return;
    };
    let closed = "default in drop\ndefault out drop\noption ethertypes drop\n";
    let lldp = Packet::new().ethertype(0x88cc).payload(&[2, 7, 4, 0]);
    let llc = Packet::new().ethertype(38).payload(&[0x42; 38]);
    let neighbour = |kind: u8| back6().ttl(255).icmp(kind, 0, [0; 4]).payload(&[0x20; 16]);
    for hook in HOOKS {
        bench.case("ARP", closed);
        bench.at(hook, 0, &Packet::new().arp(C, S).build()).passes("arp");
        bench.case("ARP in a VLAN", closed);
        bench.at(hook, 0, &Packet::new().vlan(7).arp(C, S).build()).passes("arp");
        for kind in 133..=137 {
            bench.case("neighbour discovery", closed);
            bench.at(hook, 0, &neighbour(kind).build()).passes("neighbour-discovery");
        }
        bench.case("neighbour discovery from beyond the link", closed);
        bench.at(hook, 0, &neighbour(135).ttl(254).build()).drops("default");
        bench.case("an ICMPv6 type that isn't neighbour discovery", closed);
        bench.at(hook, 0, &neighbour(138).build()).drops("default");
        for packet in [&lldp, &llc] {
            bench.case("another EtherType, dropped", closed);
            bench.at(hook, 0, &packet.build()).drops("unknown-ethertype");
            bench.case(
                "another EtherType, allowed",
                "default in drop\ndefault out drop\noption ethertypes allow\n",
            );
            bench.at(hook, 0, &packet.build()).passes("unknown-ethertype");
        }
    }
}

#[test]
fn fragments_follow_their_first() {
    let Some(mut bench) = Bench::or_skip("vectors::malformed::fragments_follow_their_first") else {
        return;
    };
    let policy = "default in drop\nrule dns allow in udp to port 53\n";
    for (label, whole) in
        [("IPv4", forth().udp(1000, 53).fill(100)), ("IPv6", forth6().udp(1000, 53).fill(100))]
    {
        let parts = whole.fragments(48, 99);
        for hook in [Hook::Xdp, Hook::TcIn] {
            bench.case(label, policy);
            bench.at(hook, 0, &parts[0].build()).passes("rule");
            bench.at(hook, 0, &parts[1].build()).passes("established");
            bench.at(hook, 0, &parts[2].build()).passes("established");
            let bytes = parts.iter().map(|part| part.ip_packet().len() as u64).sum();
            assert_eq!(bench.only_flow(), [3, bytes, 0, 0], "{label}");
            assert_eq!(bench.rule("dns"), [1, 3, bytes], "{label}: one hit, three packets");

            bench.case("later fragments first", policy);
            bench.at(hook, 0, &parts[1].build()).drops("fragment-without-first");
            bench.case(
                "later fragments first, allowed",
                &format!("{policy}option fragments allow\n"),
            );
            bench.at(hook, 0, &parts[1].build()).passes("fragment-without-first");
            assert!(bench.flows().is_empty());

            bench.case("fragments of a denied datagram", "default in drop\n");
            bench.at(hook, 0, &parts[0].build()).drops("default");
            bench.at(hook, 0, &parts[1].build()).drops("default");
            assert_eq!(bench.rule("default in")[0], 2);
        }
    }
    bench.case("another identification is another datagram", policy);
    bench.xdp(&forth().udp(1000, 53).fill(100).fragments(48, 1)[0]).passes("rule");
    bench.xdp(&forth().udp(1000, 53).fill(100).fragments(48, 2)[1]).drops("fragment-without-first");
    bench.case("another protocol is another datagram", policy);
    bench.xdp(&forth().udp(1000, 53).fill(100).fragments(48, 1)[0]).passes("rule");
    bench.xdp(&forth().tcp(1000, 53).fill(100).fragments(48, 1)[1]).drops("fragment-without-first");
    bench.case("fragments in reverse after their first", policy);
    let parts = forth().udp(1000, 53).fill(200).fragments(48, 3);
    bench.xdp(&parts[0]).passes("rule");
    for part in parts[1..].iter().rev() {
        bench.xdp(part).passes("established");
    }
}

#[test]
fn without_a_policy_or_on_a_foreign_interface_everything_passes() {
    let test = "vectors::malformed::without_a_policy_or_on_a_foreign_interface_everything_passes";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    bench.kernel.forget_policy();
    bench.xdp(&forth().udp(1, 2)).passes("no-policy");
    bench.out(&forth().udp(1, 2).lie_ihl(3)).passes("no-policy");
    bench.case("a foreign interface", "default in drop\ndefault out drop\n");
    let ns = bench.kernel.namespace().clone();
    let frame = forth().udp(1, 2).build();
    // Index 1 is the loopback, which nobody attached.
    let xdp = bench.kernel.xdp();
    assert_eq!(ns.run(|| xdp.run_xdp(&frame, 1)).unwrap().code, 2);
    assert_eq!(
        bench.kernel.counters().reasons[&("allow", "unknown-interface")],
        [1, frame.len() as u64]
    );
}
