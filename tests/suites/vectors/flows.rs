//! The state table: what begins a flow, what belongs to it, what ends it, and what a new policy means.

use super::{Bench, C, S, back, back6, forth, forth6};
use firewall_common::flow::tcp::TcpState;
use sluice_tests::kernel::Hook;
use sluice_tests::packet::{Packet, tcp};

const ONE_WAY: &str = "default in drop\ndefault out drop\noption tcp-pickup off\nrule a allow in tcp to port 80\nrule u allow in udp to port 53\nrule p allow in icmp type echo-request\nrule q allow in icmpv6 type echo-request\n";

/// A handshake: in, out, in.
fn handshake(bench: &mut Bench) {
    bench.xdp(&forth().tcp(4000, 80).flags(tcp::SYN)).passes("rule");
    let syn_ack = back().tcp(80, 4000).flags(tcp::SYN | tcp::ACK).seq(999, 1001);
    bench.out(&syn_ack).passes("established");
    bench.xdp(&forth().tcp(4000, 80).flags(tcp::ACK).seq(1001, 1000)).passes("established");
}

#[test]
fn tcp_from_syn_to_close() {
    let Some(mut bench) = Bench::or_skip("vectors::flows::tcp_from_syn_to_close") else { return };
    bench.case("a whole connection", ONE_WAY);
    handshake(&mut bench);
    assert_eq!(
        (bench.events("new"), bench.events("established"), bench.events("closed")),
        (1, 1, 0)
    );
    bench.xdp(&forth().tcp(4000, 80).flags(tcp::PSH | tcp::ACK).fill(100)).passes("established");
    bench.out(&back().tcp(80, 4000).flags(tcp::ACK).fill(200)).passes("established");
    assert_eq!(bench.only_flow(), [3, 40 + 40 + 140, 2, 40 + 240]);
    assert_eq!(bench.rule("a"), [1, 5, 500], "one hit; every packet of the flow, both ways");
    bench.xdp(&forth().tcp(4000, 80).flags(tcp::FIN | tcp::ACK)).passes("established");
    assert_eq!(bench.events("closed"), 0, "one FIN closes one way");
    bench.out(&back().tcp(80, 4000).flags(tcp::FIN | tcp::ACK)).passes("established");
    assert_eq!(bench.events("closed"), 1);
    bench.xdp(&forth().tcp(4000, 80).flags(tcp::ACK)).passes("established");
    assert_eq!(bench.events("closed"), 1, "told once");
    // The same ports again: a new connection, judged as one.
    bench.xdp(&forth().tcp(4000, 80).flags(tcp::SYN)).passes("rule");
    assert_eq!((bench.events("new"), bench.rule("a")[0]), (2, 2));
    assert_eq!(bench.only_flow(), [1, 40, 0, 0]);

    bench.case("a reset", ONE_WAY);
    handshake(&mut bench);
    bench
        .out(&back().tcp(80, 4000).flags(tcp::RST | tcp::ACK).seq(1000, 1001))
        .passes("established");
    assert_eq!(bench.events("closed"), 1);

    bench.case("a SYN again before the answer", ONE_WAY);
    bench.xdp(&forth().tcp(4000, 80)).passes("rule");
    bench.xdp(&forth().tcp(4000, 80)).passes("established");
    assert_eq!((bench.events("new"), bench.only_flow()), (1, [2, 80, 0, 0]));

    bench.case("replies need a flow", ONE_WAY);
    bench.out(&back().tcp(80, 4000).flags(tcp::SYN | tcp::ACK)).drops("default");
    bench.case("other ports aren't the flow's", ONE_WAY);
    handshake(&mut bench);
    bench.out(&back().tcp(80, 4001).flags(tcp::ACK)).drops("default");
    bench.out(&back().tcp(81, 4000).flags(tcp::ACK)).drops("default");
    bench.out(&Packet::new().ipv4(S, "192.0.2.11").tcp(80, 4000).flags(tcp::ACK)).drops("default");
}

#[test]
fn picked_up_in_mid_stream() {
    let Some(mut bench) = Bench::or_skip("vectors::flows::picked_up_in_mid_stream") else { return };
    let loose =
        "default in drop\ndefault out drop\noption tcp-pickup on\nrule a allow in tcp to port 80\n";
    bench.case("an ACK begins a flow", loose);
    bench.xdp(&forth().tcp(4000, 80).flags(tcp::ACK)).passes("rule");
    bench.out(&back().tcp(80, 4000).flags(tcp::ACK)).passes("established");
    assert_eq!(bench.only_flow(), [1, 40, 1, 40]);
    let strict = loose.replace("pickup on", "pickup off");
    bench.case("not where the policy is strict", &strict);
    bench.xdp(&forth().tcp(4000, 80).flags(tcp::ACK)).passes("rule");
    assert!(bench.flows().is_empty(), "the rule lets the packet by, but it begins nothing");
    bench.out(&back().tcp(80, 4000).flags(tcp::ACK)).drops("default");
}

#[test]
fn udp_and_icmp_have_replies_too() {
    let Some(mut bench) = Bench::or_skip("vectors::flows::udp_and_icmp_have_replies_too") else {
        return;
    };
    bench.case("UDP", ONE_WAY);
    bench.xdp(&forth().udp(4000, 53).fill(10)).passes("rule");
    assert_eq!(bench.events("established"), 0);
    bench.out(&back().udp(53, 4000).fill(20)).passes("established");
    assert_eq!((bench.events("established"), bench.only_flow()), (1, [1, 38, 1, 48]));
    bench.case("echo", ONE_WAY);
    bench.xdp(&forth().ping(77)).passes("rule");
    bench.out(&back().pong(77)).passes("established");
    bench.out(&back().pong(78)).drops("default");
    assert_eq!(bench.only_flow(), [1, 28, 1, 28]);
    bench.case("echo over IPv6", ONE_WAY);
    bench.xdp(&forth6().ping(77)).passes("rule");
    bench.out(&back6().pong(77)).passes("established");
    bench.case("an identifier of zero is one like others", ONE_WAY);
    bench.xdp(&forth().ping(0)).passes("rule");
    bench.out(&back().pong(0)).passes("established");
    bench.out(&back().icmp(9, 0, [0; 4]).fill(8)).drops("default");
    bench.out(&back().icmp(3, 1, [0; 4]).payload(&forth().udp(9, 9).ip_packet())).drops("default");
}

#[test]
fn errors_about_known_flows_are_related() {
    let Some(mut bench) = Bench::or_skip("vectors::flows::errors_about_known_flows_are_related")
    else {
        return;
    };
    let router = "203.0.113.1";
    let error = |kind, about: &Packet| {
        Packet::new().ipv4(router, C).icmp(kind, 4, [0; 4]).payload(&about.ip_packet())
    };
    let packet = forth().udp(4000, 53).fill(30);
    for kind in [3, 11, 12] {
        bench.case("an ICMP error from a router", ONE_WAY);
        bench.xdp(&packet).passes("rule");
        bench.out(&error(kind, &packet)).passes("related");
        assert_eq!(bench.only_flow(), [1, 58, 0, 0], "it isn't a packet of the flow");
    }
    bench.case("about a reply", ONE_WAY);
    bench.xdp(&packet).passes("rule");
    bench
        .xdp(
            &Packet::new()
                .ipv4(router, S)
                .icmp(3, 4, [0; 4])
                .payload(&back().udp(53, 4000).ip_packet()),
        )
        .passes("related");
    bench.case("about another flow", ONE_WAY);
    bench.xdp(&packet).passes("rule");
    bench.out(&error(3, &forth().udp(4001, 53))).drops("default");
    bench.case("quoting too little", ONE_WAY);
    bench.xdp(&packet).passes("rule");
    bench
        .out(&Packet::new().ipv4(router, C).icmp(3, 4, [0; 4]).payload(&packet.ip_packet()[..27]))
        .drops("default");
    bench.case("an echo request isn't an error", ONE_WAY);
    bench.xdp(&packet).passes("rule");
    bench.out(&error(8, &packet)).drops("default");
    bench.case("ICMPv6", ONE_WAY);
    let packet = forth6().udp(4000, 53).fill(30);
    bench.xdp(&packet).passes("rule");
    for kind in 1..=4 {
        bench
            .out(
                &Packet::new()
                    .ipv6("2001:db8:9::9", super::C6)
                    .icmp(kind, 0, [0; 4])
                    .payload(&packet.ip_packet()),
            )
            .passes("related");
    }
}

#[test]
fn forwarded_packets_are_judged_at_both_hooks_and_counted_once() {
    let test = "vectors::flows::forwarded_packets_are_judged_at_both_hooks_and_counted_once";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let policy = "default in drop\ndefault out drop\nrule i allow in on wan0 udp to port 53\nrule o allow out on lan0 udp to port 53\n";
    let (there, here) =
        (forth().udp(4000, 53).fill(12).build(), back().udp(53, 4000).fill(22).build());
    bench.case("there and back", policy);
    bench.at(Hook::TcIn, 0, &there).passes("rule");
    bench.at(Hook::TcOut, 1, &there).passes("established");
    bench.at(Hook::TcIn, 1, &here).passes("established");
    bench.at(Hook::TcOut, 0, &here).passes("established");
    assert_eq!(bench.only_flow(), [1, 40, 1, 50], "each packet once");
    assert_eq!((bench.rule("i")[0], bench.rule("o")[0]), (1, 1), "each hook asked its rule once");
    bench.at(Hook::TcIn, 0, &there).passes("established");
    bench.at(Hook::TcOut, 1, &there).passes("established");
    assert_eq!((bench.rule("i")[0], bench.rule("o")[0]), (1, 1));
    assert_eq!(bench.only_flow(), [2, 80, 1, 50]);
    bench.case("refused on the way out", "default in allow\ndefault out drop\n");
    bench.at(Hook::TcIn, 0, &there).passes("default");
    bench.at(Hook::TcOut, 1, &there).drops("default");
    assert!(bench.flows().is_empty(), "a flow that can't leave isn't one");
    bench.case(
        "to a rule at the second hook it is new",
        "default in allow\ndefault out drop\nrule o allow out udp state new\n",
    );
    bench.at(Hook::TcIn, 0, &there).passes("default");
    bench.at(Hook::TcOut, 1, &there).passes("established");
    assert_eq!(bench.rule("o")[0], 1);
}

#[test]
fn a_new_policy_reaches_live_flows() {
    let Some(mut bench) = Bench::or_skip("vectors::flows::a_new_policy_reaches_live_flows") else {
        return;
    };
    bench.case("still allowed, by another rule", ONE_WAY);
    handshake(&mut bench);
    bench.swap("default in drop\ndefault out drop\nrule other allow in tcp to port 79-81\n");
    bench.xdp(&forth().tcp(4000, 80).flags(tcp::ACK).fill(60)).passes("established");
    assert_eq!(bench.rule("other"), [1, 1, 100]);
    bench.out(&back().tcp(80, 4000).flags(tcp::ACK)).passes("established");
    assert_eq!(
        bench.rule("other"),
        [1, 2, 140],
        "the flow counts for the rule that judged it last"
    );
    assert_eq!(bench.only_flow(), [3, 40 + 40 + 100, 2, 80]);
    assert_eq!((bench.events("new"), bench.events("closed")), (1, 0), "the same flow");

    bench.case("a reply first", ONE_WAY);
    handshake(&mut bench);
    bench.swap("default in drop\ndefault out drop\nrule other allow in tcp to port 79-81\n");
    bench.out(&back().tcp(80, 4000).flags(tcp::ACK)).passes("established");
    assert_eq!(bench.rule("other")[0], 1, "judged as the packet it answers");

    for (label, first_is_reply) in [("cut", false), ("cut at a reply", true)] {
        bench.case(label, ONE_WAY);
        handshake(&mut bench);
        bench.swap("default in drop\ndefault out drop\nrule cut drop in tcp to port 80\n");
        if first_is_reply {
            bench.out(&back().tcp(80, 4000).flags(tcp::ACK)).drops("rule");
        } else {
            bench.xdp(&forth().tcp(4000, 80).flags(tcp::ACK)).drops("rule");
        }
        assert!(bench.flows().is_empty(), "{label}");
        assert_eq!((bench.rule("cut")[0], bench.events("closed")), (1, 1), "{label}");
    }
    bench.case(
        "a rule for the SYN speaks for the connection",
        "default in drop\ndefault out drop\nrule a allow in tcp flags syn/syn,ack\n",
    );
    handshake(&mut bench);
    bench.swap(
        "default in drop\ndefault out drop\nrule b allow in tcp to port 80 flags syn/syn,ack\n",
    );
    bench.xdp(&forth().tcp(4000, 80).flags(tcp::ACK)).passes("established");
    bench.case("live connections, but no new ones", ONE_WAY);
    handshake(&mut bench);
    bench.swap("default in drop\ndefault out drop\nrule live allow in state established\n");
    bench.xdp(&forth().tcp(4000, 80).flags(tcp::ACK)).passes("established");
    bench.xdp(&forth().tcp(4001, 80)).drops("default");
    bench.case("counters of a rule that comes back", ONE_WAY);
    bench.xdp(&forth().udp(1, 53)).passes("rule");
    bench.swap("default in drop\n");
    bench.swap(ONE_WAY);
    assert_eq!(bench.rule("u"), [1, 1, 28], "kept under the rule's name");
}

#[test]
fn a_later_fragment_begins_no_flow() {
    let Some(mut bench) = Bench::or_skip("vectors::flows::a_later_fragment_begins_no_flow") else {
        return;
    };
    bench.case("its first was refused, the rules changed", "default in drop\n");
    let parts = forth().udp(4000, 53).fill(64).fragments(24, 5);
    bench.xdp(&parts[0]).drops("default");
    bench.swap(ONE_WAY);
    bench.xdp(&parts[1]).passes("rule");
    assert!(bench.flows().is_empty());
}

/// Two CPUs see one FIN each and write over each other's state: a connection that is closed at both ends is
/// closed all the same, and its ports can be used again.
#[test]
fn two_fins_at_once_close() {
    let Some(mut bench) = Bench::or_skip("vectors::flows::two_fins_at_once_close") else { return };
    let fin = tcp::FIN | tcp::ACK;
    let by_client = forth().tcp(4000, 80).flags(fin).seq(1001, 1000);
    let by_server = back().tcp(80, 4000).flags(fin).seq(1000, 1001);
    // Whose write is lost: it read the state before the other's FIN, so what it finds is `Established`.
    for client_first in [true, false] {
        bench.case(&format!("client first: {client_first}"), ONE_WAY);
        handshake(&mut bench);
        for client in [client_first, !client_first] {
            bench.kernel.overwrite_state(TcpState::Established);
            if client {
                bench.xdp(&by_client).passes("established");
            } else {
                bench.out(&by_server).passes("established");
            }
        }
        assert_eq!(bench.events("closed"), 1, "client first: {client_first}");
        bench.xdp(&forth().tcp(4000, 80).flags(tcp::SYN)).passes("rule");
        assert_eq!(bench.events("new"), 2, "client first: {client_first}");
    }
}
