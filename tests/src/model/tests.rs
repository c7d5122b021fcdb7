//! The oracle against itself: what goes out and comes back is what was sent, nobody shares a mapping,
//! every checksum stays right.

use super::gate::{Fate, Gate};
use super::nat::{Kind, Nat};
use super::parse::{self, Ends, Frame};
use super::policy::{Action, Policy, Range, Way, Window};
use super::translated::{self, Back, OWN, Step, back};
use crate::kernel::INTERFACES;
use crate::packet::{Packet, tcp, verify_all};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

fn policy(nats: Vec<Nat>) -> Policy {
    Policy {
        default_in: Action::Allow,
        default_out: Action::Allow,
        pickup: true,
        window: Window::Strict,
        short: Vec::new(),
        malformed_passes: false,
        ethertypes_pass: false,
        fragments_pass: false,
        live: Vec::new(),
        nats,
        rules: Vec::new(),
    }
}

fn gate(nats: Vec<Nat>) -> Gate {
    let mut gate = Gate::new(policy(nats));
    for (name, address) in INTERFACES.iter().zip(OWN) {
        gate.addresses.insert((*name).to_owned(), address);
    }
    gate
}

fn masquerade() -> Nat {
    let mut nat = Nat::new("m", "wan0", Kind::Masquerade);
    let ten = |text: &str| text.parse().expect("an address");
    nat.from.addresses.push(Range { low: ten("10.0.0.0"), high: ten("10.255.255.255") });
    nat
}

fn ends(frame: &[u8]) -> Ends {
    match parse::read(frame) {
        Ok(Frame::Ip(ip)) => ip.ends,
        other => panic!("{other:?}"),
    }
}

/// In at one interface and out at another; what leaves.
fn through(gate: &mut Gate, from: usize, to: usize, frame: &[u8]) -> Option<Vec<u8>> {
    let (fate, frame) = gate.translated(Way::In, INTERFACES[from], frame, None);
    if fate != Fate::Pass {
        return None;
    }
    let (fate, frame) = gate.translated(Way::Out, INTERFACES[to], &frame, None);
    (fate == Fate::Pass).then_some(frame)
}

fn inside() -> Packet {
    Packet::new().ipv4("10.0.0.5", "198.51.100.7")
}

#[test]
fn there_and_back_is_where_it_came_from() {
    for packet in [
        inside().tcp(4000, 80).fill(31),
        inside().udp(4000, 53).fill(8),
        inside().udp(4000, 53).no_udp_checksum().fill(8),
        inside().ping(4000).fill(5),
        inside().proto(47).fill(16),
    ] {
        let mut gate = gate(vec![masquerade()]);
        let sent = packet.build();
        let out = through(&mut gate, 1, 0, &sent).expect("it leaves");
        assert_eq!(ends(&out).src, OWN[0]);
        assert_eq!(verify_all(&out), Ok(()));
        // A mirror's answer: with ends turned round it is the packet that was sent.
        let answer = back(&out, Back::Answer(20)).expect("an answer");
        let inwards = through(&mut gate, 0, 1, &answer).expect("it comes back");
        assert_eq!(verify_all(&inwards), Ok(()));
        let (sent, came) = (ends(&sent), ends(&inwards));
        assert_eq!(
            (came.src, came.sport, came.dst, came.dport),
            (sent.dst, sent.dport, sent.src, sent.sport)
        );
        let flow = gate.flows.values().next().expect("a flow");
        assert_eq!((flow.packets, flow.reply_packets), (1, 1));
        for most in [28, 40, 200] {
            let error = back(&out, Back::Error(most)).expect("an error");
            let inwards = through(&mut gate, 0, 1, &error).expect("it is related");
            assert_eq!(verify_all(&inwards), Ok(()));
            let Ok(Frame::Ip(ip)) = parse::read(&inwards) else { panic!("an IP packet") };
            assert_eq!(ip.ends.dst, sent.src);
            assert_eq!(ip.quoted, Some(sent.clone()), "it quotes what was sent");
        }
    }
}

#[test]
fn rewriting_back_is_the_identity() {
    use super::nat::Plan;
    use super::rewrite;
    for packet in [
        inside().tcp(4000, 80).fill(31),
        inside().options(&[1; 8]).udp(4000, 53).fill(8),
        inside().udp(4000, 53).no_udp_checksum(),
        inside().udp(4000, 53).lie_checksum(0x77),
        inside().lie_ip_checksum(9).ping(4000),
        inside()
            .icmp(3, 1, [0; 4])
            .payload(&Packet::new().ipv4("198.51.100.7", "10.0.0.5").udp(5, 6).fill(9).ip_packet()),
        inside().udp(4000, 53).fill(100).fragments(48, 9).remove(0),
        inside().udp(4000, 53).fill(100).fragments(48, 9).remove(1),
        inside().vlan(9).tcp(1, 2).trailer(7),
    ] {
        let frame = packet.build();
        let source = |address: Ipv4Addr, port| Plan {
            source: true,
            address: address.into(),
            port: Some(port),
            quoted: None,
        };
        let original = ends(&frame);
        let there = rewrite::frame(&frame, &source(OWN[0], 777));
        assert_ne!(there, frame);
        let port = if original.sport == 0 { 6 } else { original.sport };
        let again = rewrite::frame(&there, &source(Ipv4Addr::new(10, 0, 0, 5), port));
        assert_eq!(again, frame);
    }
}

#[test]
fn fragments_keep_the_checksum_of_the_whole() {
    let mut gate = gate(vec![masquerade()]);
    let parts: Vec<_> =
        inside().udp(4000, 53).fill(100).fragments(48, 9).iter().map(Packet::build).collect();
    let out: Vec<_> =
        parts.iter().map(|part| through(&mut gate, 1, 0, part).expect("it leaves")).collect();
    let whole = crate::packet::assemble(&out);
    assert_eq!(verify_all(&whole), Ok(()));
    assert_eq!(ends(&whole).src, OWN[0]);
}

#[test]
fn nobody_shares_a_mapping_and_ports_run_out() {
    let mut nat = masquerade();
    nat.ports = Some((2000, 2003));
    let mut gate = gate(vec![nat]);
    let mut seen = BTreeSet::new();
    for port in 1..=4 {
        let out = through(&mut gate, 1, 0, &inside().udp(port, 53).build()).expect("there is room");
        assert!(seen.insert(ends(&out).sport));
    }
    assert_eq!(through(&mut gate, 1, 0, &inside().udp(5, 53).build()), None);
    assert_eq!(gate.reasons[&("drop", "nat-exhausted")].0, 1);
    let elsewhere = Packet::new().ipv4("10.0.0.5", "198.51.100.8").udp(5, 53).build();
    assert!(through(&mut gate, 1, 0, &elsewhere).is_some(), "to others they are free");
    assert_eq!(gate.flows.len(), 5);
}

#[test]
fn the_kernels_choice_is_taken_if_it_is_a_good_one() {
    for (choice, good) in [(40_000, true), (1023, false)] {
        let mut gate = gate(vec![masquerade()]);
        let sent = inside().udp(4000, 53).build();
        let (_, between) = gate.translated(Way::In, "lan0", &sent, None);
        let seen = Packet::new().ipv4("203.0.113.1", "198.51.100.7").udp(choice, 53).build();
        let (_, out) = gate.translated(Way::Out, "wan0", &between, Some(&seen));
        assert_eq!(ends(&out).sport == choice, good);
        assert_eq!(out == seen, good);
    }
}

#[test]
fn destinations_and_hairpins() {
    let mut web =
        Nat::new("w", "wan0", Kind::Destination(Ipv4Addr::new(10, 0, 0, 9), Some((8080, 8080))));
    web.proto = Some(super::policy::Proto::Tcp);
    let public = "203.0.113.5".parse().expect("an address");
    web.to.addresses.push(Range { low: public, high: public });
    web.to.ports.push((80, 80));
    web.hairpin = true;
    let mut gate = gate(vec![web]);
    let outside = Packet::new().ipv4("198.51.100.7", "203.0.113.5").tcp(4000, 80).build();
    let inwards = through(&mut gate, 0, 1, &outside).expect("it is let in");
    let seen = ends(&inwards);
    assert_eq!((seen.dst.to_string(), seen.dport, seen.sport), ("10.0.0.9".into(), 8080, 4000));
    let answer = back(&inwards, Back::Answer(0)).expect("an answer");
    let out = ends(&through(&mut gate, 1, 0, &answer).expect("it goes back"));
    assert_eq!((out.src, out.sport), (public, 80));
    // A client inside: the answer has to come back this way, so that the source is ours.
    let client = Packet::new().ipv4("10.0.0.5", "203.0.113.5").tcp(4000, 80).build();
    let turned = through(&mut gate, 1, 1, &client).expect("it is turned round");
    let seen = ends(&turned);
    assert_eq!((seen.src, seen.dst.to_string()), (OWN[1].into(), "10.0.0.9".into()));
    let answer = back(&turned, Back::Answer(0)).expect("an answer");
    let seen = ends(&through(&mut gate, 1, 1, &answer).expect("it goes back"));
    assert_eq!(
        (seen.src, seen.sport, seen.dst.to_string(), seen.dport),
        (public, 80, "10.0.0.5".into(), 4000)
    );
}

#[test]
fn random_cases_hold_together() {
    for seed in 0..600 {
        let case = translated::case(seed, &INTERFACES);
        let mut gate = gate(Vec::new());
        gate.swap(case.policy.clone());
        let mut left: Vec<Option<translated::Left>> = Vec::new();
        for step in &case.steps {
            let (from, to, bytes) = match step {
                Step::Through { from, to, bytes } => (Some(*from), *to, Some(bytes.clone())),
                Step::Own { to, bytes } => (None, *to, Some(bytes.clone())),
                Step::Back { of, what } => match left.get(*of).cloned().flatten() {
                    Some((at, to, frame)) => (Some(at), to.unwrap_or(at), back(&frame, *what)),
                    None => (None, 0, None),
                },
            };
            let out = bytes.as_ref().and_then(|bytes| match from {
                Some(from) => through(&mut gate, from, to, bytes),
                None => match gate.translated(Way::Out, INTERFACES[to], bytes, None) {
                    (Fate::Pass, frame) => Some(frame),
                    _ => None,
                },
            });
            if let (Some(bytes), Some(out)) = (&bytes, &out) {
                assert_eq!(verify_all(bytes).is_ok(), verify_all(out).is_ok(), "seed {seed}");
            }
            left.push(out.map(|frame| (to, from, frame)));
        }
        let mut outer = BTreeSet::new();
        for flow in gate.flows.values() {
            if let Some(nat) = &flow.nat {
                let e = &nat.outer;
                assert!(outer.insert((e.src, e.sport, e.dst, e.dport, e.proto)), "seed {seed}");
            }
        }
    }
}

#[test]
fn a_random_case_has_connections_that_open() {
    // The windows of random cases are worth something only if most segments fit and some don't.
    let (mut fit, mut out, mut open) = (0, 0, 0);
    for seed in 0..400 {
        let case = super::generate::case(seed, &INTERFACES);
        let mut policy = policy(Vec::new());
        policy.pickup = false;
        let mut gate = Gate::new(policy);
        for step in &case.steps {
            if let super::generate::Step::Frame { way, interface, bytes } = step {
                gate.packet(*way, INTERFACES[*interface], bytes);
            }
        }
        let count = |reason| gate.reasons.get(&reason).map_or(0, |count| count.0);
        fit += count(("allow", "established"));
        out += count(("drop", "out-of-window"));
        open += gate.events.get("established").copied().unwrap_or(0);
    }
    assert!(open > 300 && fit > 1000 && out * 40 > fit && out < fit, "{open} {fit} {out}");
}

#[test]
fn no_track_and_untracked() {
    let mut policy = policy(Vec::new());
    policy.default_in = Action::Drop;
    let mut gate = Gate::new(policy.clone());
    gate.packet(
        Way::In,
        "lan0",
        &Packet::new().ipv4("10.0.0.5", "10.0.0.1").icmp(9, 0, [0; 4]).fill(8).build(),
    );
    assert_eq!(gate.reasons[&("drop", "default")].0, 1);
    policy.default_in = Action::Allow;
    let rule = super::policy::Rule {
        name: "n".into(),
        enabled: true,
        action: Action::Allow,
        way: None,
        interfaces: Vec::new(),
        proto: Some(super::policy::Proto::Tcp),
        from: super::policy::End::default(),
        to: super::policy::End::default(),
        flags: None,
        icmp: None,
        states: Vec::new(),
        no_track: true,
        log: false,
        adds: Vec::new(),
    };
    policy.rules.push(rule);
    assert!(policy.to_string().contains("rule n allow tcp no-track\n"), "{policy}");
    gate.swap(policy);
    gate.packet(Way::In, "lan0", &inside().tcp(4000, 80).flags(tcp::SYN).build());
    assert_eq!(gate.reasons[&("allow", "no-track")].0, 1);
    assert!(gate.flows.is_empty());
}

#[test]
fn time_ends_flows_whose_time_outs_are_short() {
    let mut policy = policy(Vec::new());
    policy.short = vec!["udp-new"];
    let mut gate = Gate::new(policy);
    let there = inside().udp(4000, 53).build();
    let here = Packet::new().ipv4("198.51.100.7", "10.0.0.5").udp(53, 4000).build();
    gate.packet(Way::In, "lan0", &there);
    gate.wait();
    gate.packet(Way::In, "lan0", &there);
    assert_eq!((gate.events["new"], gate.events["closed"]), (2, 1));
    gate.packet(Way::Out, "lan0", &here);
    gate.wait();
    gate.packet(Way::In, "lan0", &there);
    assert_eq!(gate.events["new"], 2, "answered, it lives longer");
}
