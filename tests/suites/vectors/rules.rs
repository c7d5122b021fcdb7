//! What rules match, and in which order.

use super::{Bench, C, C6, S, S6, back, forth, forth6};
use sluice_tests::kernel::Hook;
use sluice_tests::packet::{Packet, tcp};

#[test]
fn the_first_match_decides() {
    let Some(mut bench) = Bench::or_skip("vectors::rules::the_first_match_decides") else { return };
    bench.case(
        "drop before allow",
        "default in allow\nrule a drop in udp to port 53\nrule b allow in udp to port 53\n",
    );
    bench.xdp(&forth().udp(1, 53)).drops("rule");
    assert_eq!((bench.rule("a")[0], bench.rule("b")[0]), (1, 0));
    bench.case(
        "allow before drop",
        "default in drop\nrule a allow in udp to port 53\nrule b drop in udp\n",
    );
    bench.xdp(&forth().udp(1, 53)).passes("rule");
    bench.xdp(&forth().udp(1, 54)).drops("rule");
    bench.case("a disabled rule isn't there", "default in drop\ndisabled rule a allow in udp\n");
    bench.xdp(&forth().udp(1, 53)).drops("default");
    assert_eq!(bench.rule("a"), [0; 3]);
    bench.case(
        "counting rules count and let others decide",
        "default in drop\nrule seen count in udp\nrule a allow in udp to port 53\nrule later count in udp\n",
    );
    bench.xdp(&forth().udp(1, 53).fill(2)).passes("rule");
    bench.xdp(&forth().udp(1, 54).fill(2)).drops("default");
    assert_eq!(
        (bench.rule("seen"), bench.rule("a"), bench.rule("later")),
        ([2, 2, 60], [1, 1, 30], [1, 1, 30])
    );
    bench.case("a rule that logs", "default in allow\nrule a allow in udp log\n");
    bench.xdp(&forth().udp(1, 53)).passes("rule");
    bench.xdp(&forth().udp(1, 53)).passes("established");
    assert_eq!(bench.events("log"), 1, "told when met, not for each packet of the flow");
    let mut many = String::from("default in drop\n");
    for i in 0..1000 {
        many.push_str(&format!(
            "rule r{i} drop in udp from 203.0.113.{} to port {}\n",
            i % 256,
            1 + i
        ));
    }
    many.push_str("rule last allow in udp to port 9999\n");
    bench.case("the last of a thousand and one", &many);
    bench.xdp(&forth().udp(1, 9999)).passes("rule");
    bench.xdp(&Packet::new().ipv4("203.0.113.231", S).udp(1, 1000)).drops("rule");
    assert_eq!((bench.rule("last")[0], bench.rule("r999")[0]), (1, 1));
}

#[test]
fn defaults_go_by_direction() {
    let Some(mut bench) = Bench::or_skip("vectors::rules::defaults_go_by_direction") else {
        return;
    };
    bench.case("closed in, open out", "default in drop\ndefault out allow\n");
    bench.xdp(&forth().udp(1, 53)).drops("default");
    bench.tc_in(&forth().udp(1, 53)).drops("default");
    bench.out(&forth().udp(1, 53)).passes("default");
    assert_eq!((bench.rule("default in"), bench.rule("default out")), ([2, 2, 56], [1, 1, 28]));
    bench.case("open in, closed out", "default in allow\ndefault out drop\n");
    bench.out(&forth().udp(1, 53)).drops("default");
    bench.xdp(&forth().udp(1, 53)).passes("default");
    bench.case("an empty policy only watches", "");
    bench.xdp(&forth().udp(1, 53)).passes("default");
    bench.out(&forth().udp(2, 53)).passes("default");
    assert_eq!(bench.flows().len(), 2);
}

#[test]
fn direction_and_interface() {
    let Some(mut bench) = Bench::or_skip("vectors::rules::direction_and_interface") else { return };
    let policy = "default in drop\ndefault out drop\nrule a allow in on wan0 udp\nrule b allow out on lan0 udp\nrule c allow tcp\n";
    let frame = forth().udp(1, 53).build();
    for (hook, interface, passes) in [
        (Hook::Xdp, 0, true),
        (Hook::Xdp, 1, false),
        (Hook::TcOut, 0, false),
        (Hook::TcOut, 1, true),
    ] {
        bench.case("rules on interfaces", policy);
        let met = bench.at(hook, interface, &frame);
        if passes {
            met.passes("rule")
        } else {
            met.drops("default")
        };
    }
    for hook in super::HOOKS {
        bench.case("a rule without direction", policy);
        bench.at(hook, 1, &forth().tcp(1, 2).build()).passes("rule");
    }
    bench.case(
        "a group of interfaces",
        "interface both = { wan0, lan0 }\ndefault in drop\nrule a allow in on both udp\n",
    );
    bench.at(Hook::TcIn, 0, &frame).passes("rule");
    bench.at(Hook::TcIn, 1, &forth().udp(2, 53).build()).passes("rule");
}

#[test]
fn addresses_match_to_the_last_bit() {
    let Some(mut bench) = Bench::or_skip("vectors::rules::addresses_match_to_the_last_bit") else {
        return;
    };
    let policy = "
set nets = { 10.1.0.0/16, 192.0.2.128/25, 198.51.100.7, 203.0.113.10-203.0.113.20, 2001:db8:5::/48, fd00::1-fd00::ff }
default in drop
rule a allow in from @nets
";
    for (source, passes) in [
        ("10.1.0.0", true),
        ("10.1.255.255", true),
        ("10.0.255.255", false),
        ("10.2.0.0", false),
        ("192.0.2.127", false),
        ("192.0.2.128", true),
        ("192.0.2.255", true),
        ("192.0.3.0", false),
        ("198.51.100.6", false),
        ("198.51.100.7", true),
        ("198.51.100.8", false),
        ("203.0.113.9", false),
        ("203.0.113.10", true),
        ("203.0.113.20", true),
        ("203.0.113.21", false),
        ("2001:db8:4:ffff:ffff:ffff:ffff:ffff", false),
        ("2001:db8:5::", true),
        ("2001:db8:5:ffff:ffff:ffff:ffff:ffff", true),
        ("2001:db8:6::", false),
        ("fd00::", false),
        ("fd00::1", true),
        ("fd00::ff", true),
        ("fd00::100", false),
    ] {
        bench.case(source, policy);
        let met = bench
            .xdp(&Packet::new().ip(source, if source.contains(':') { S6 } else { S }).udp(1, 2));
        if passes {
            met.passes("rule")
        } else {
            met.drops("default")
        };
    }
    let policy = "default in drop\nrule a allow in to { 0.0.0.0/1, 8000::/1 }\n";
    for (to, passes) in
        [("127.255.255.255", true), ("128.0.0.0", false), ("7fff::1", false), ("8000::", true)]
    {
        bench.case(to, policy);
        let met = bench.xdp(&Packet::new().ip(if to.contains(':') { C6 } else { C }, to).tcp(1, 2));
        if passes {
            met.passes("rule")
        } else {
            met.drops("default")
        };
    }
    bench.case("both ends", "default in drop\nrule a allow in from 192.0.2.10 to 198.51.100.20\n");
    bench.xdp(&forth().udp(1, 2)).passes("rule");
    bench.case(
        "both ends, turned round",
        "default in drop\nrule a allow in from 192.0.2.10 to 198.51.100.20\n",
    );
    bench.xdp(&back().udp(1, 2)).drops("default");
}

#[test]
fn ports_protocols_flags_and_icmp() {
    let Some(mut bench) = Bench::or_skip("vectors::rules::ports_protocols_flags_and_icmp") else {
        return;
    };
    let ports =
        "default in drop\nrule a allow in tcp from port 1024-65535 to port { 22, 8000-8100 }\n";
    for (sport, dport, passes) in [
        (1024, 22, true),
        (65_535, 8000, true),
        (1024, 8100, true),
        (1023, 22, false),
        (1024, 23, false),
        (1024, 7999, false),
        (1024, 8101, false),
        (22, 1024, false),
    ] {
        bench.case(&format!("ports {sport} to {dport}"), ports);
        let met = bench.xdp(&forth6().tcp(sport, dport));
        if passes {
            met.passes("rule")
        } else {
            met.drops("default")
        };
        bench.case("another protocol's ports don't count", ports);
        bench.xdp(&forth6().udp(sport, dport)).drops("default");
    }
    bench.case(
        "protocols by number",
        "default in drop\nrule gre allow in proto 47\nrule sctp allow in proto 132\n",
    );
    bench.xdp(&forth().proto(47).payload(&[0; 8])).passes("rule");
    bench.xdp(&forth().proto(132).payload(&[0; 12])).passes("rule");
    bench.xdp(&forth().proto(50).payload(&[0; 8])).drops("default");
    bench.xdp(&forth6().proto(47).payload(&[0; 8])).passes("rule");
    let flags = "default in drop\noption tcp-pickup on\nrule a allow in tcp flags syn/syn,ack\n";
    for (set, passes) in [
        (tcp::SYN, true),
        (tcp::SYN | tcp::PSH, true),
        (tcp::SYN | tcp::ACK, false),
        (tcp::ACK, false),
        (tcp::FIN, false),
        (0, false),
    ] {
        bench.case(&format!("flags {set:#x}"), flags);
        let met = bench.xdp(&forth().tcp(1, 2).flags(set));
        if passes {
            met.passes("rule")
        } else {
            met.drops("default")
        };
    }
    let icmp = "default in drop\nrule a allow in icmp type echo-request\nrule b allow in icmp type 3 code 4\nrule c allow in icmpv6 type echo-request\n";
    for (packet, passes) in [
        (forth().ping(1), true),
        (forth().icmp(3, 4, [0; 4]).fill(28), true),
        (forth().icmp(3, 3, [0; 4]).fill(28), false),
        (forth().icmp(13, 0, [0; 4]), false),
        (forth6().ping(1), true),
        (forth6().icmp(135, 0, [0; 4]), false),
        (forth6().icmp(8, 0, [0; 4]), false),
        // ICMP's number over IPv6, and the other way round, are just protocols.
        (forth6().proto(1).payload(&[8, 0, 0, 0, 0, 1, 0, 1]), false),
        (forth().proto(58).payload(&[128, 0, 0, 0, 0, 1, 0, 1]), false),
    ] {
        bench.case("ICMP types and codes", icmp);
        let met = bench.xdp(&packet);
        if passes {
            met.passes("rule")
        } else {
            met.drops("default")
        };
    }
}

#[test]
fn states() {
    let Some(mut bench) = Bench::or_skip("vectors::rules::states") else { return };
    let policy = "default in allow\noption tcp-pickup off\nrule a drop in state invalid\nrule b count in state new\n";
    for (label, packet, invalid) in [
        ("a SYN", forth().tcp(1, 2), false),
        ("a SYN-ACK out of nowhere", forth().tcp(1, 2).flags(tcp::SYN | tcp::ACK), true),
        ("an ACK out of nowhere", forth().tcp(1, 2).flags(tcp::ACK), true),
        ("a RST out of nowhere", forth().tcp(1, 2).flags(tcp::RST), true),
        ("a FIN out of nowhere", forth().tcp(1, 2).flags(tcp::FIN | tcp::ACK), true),
        ("no flags at all", forth().tcp(1, 2).flags(0), true),
        ("SYN and FIN", forth().tcp(1, 2).flags(tcp::SYN | tcp::FIN), true),
        ("UDP", forth().udp(1, 2), false),
        ("an echo request", forth().ping(1), false),
        ("an echo reply out of nowhere", forth().pong(1), true),
        ("an ICMPv6 echo reply out of nowhere", forth6().pong(1), true),
        (
            "an ICMP error about nothing known",
            forth().icmp(3, 1, [0; 4]).payload(&back().udp(5, 6).ip_packet()),
            true,
        ),
        ("GRE", forth().proto(47).payload(&[0; 8]), false),
    ] {
        bench.case(label, policy);
        let met = bench.xdp(&packet);
        if invalid {
            met.drops("rule")
        } else {
            met.passes("default")
        };
        assert_eq!(bench.rule("b")[0], u64::from(!invalid), "{label}");
    }
    let loose = "default in allow\noption tcp-pickup on\nrule a drop in state invalid\n";
    for (label, flags, invalid) in [
        ("an ACK, taken up", tcp::ACK, false),
        ("a SYN-ACK, taken up", tcp::SYN | tcp::ACK, false),
        ("a RST isn't", tcp::RST, true),
        ("nor a RST-ACK", tcp::RST | tcp::ACK, true),
    ] {
        bench.case(label, loose);
        let met = bench.xdp(&forth().tcp(1, 2).flags(flags));
        if invalid {
            met.drops("rule")
        } else {
            met.passes("default")
        };
    }
}
