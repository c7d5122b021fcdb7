//! Translations: what leaves and what comes in, byte for byte, all checksums looked at. `wan0` is outside,
//! `lan0` inside.

use super::Bench;
use sluice_tests::kernel::Hook;
use sluice_tests::model::nat::Plan;
use sluice_tests::model::parse::{self, Ends, Frame, Ip};
use sluice_tests::model::rewrite;
use sluice_tests::model::translated::{Back, OWN, back};
use sluice_tests::packet::{Packet, assemble, hex, tcp, verify_all};
use std::collections::BTreeSet;
use std::net::IpAddr;

pub const WAN: usize = 0;
pub const LAN: usize = 1;
const INSIDE: &str = "10.0.0.5";
const OTHER: &str = "10.0.0.6";
const OUTSIDE: &str = "198.51.100.7";
const PUBLIC: &str = "203.0.113.5";
const MASQUERADE: &str = "nat m masquerade on wan0 from 10.0.0.0/8";

/// A case whose rules let everything by.
pub fn begin(bench: &mut Bench, label: &str, nat: &str) {
    begin_with(bench, label, &format!("default in allow\ndefault out allow\n{nat}\n"));
}

fn begin_with(bench: &mut Bench, label: &str, policy: &str) {
    for (interface, address) in OWN.iter().enumerate() {
        bench.kernel.set_address(interface, *address);
    }
    bench.case(label, policy);
}

fn read(frame: &[u8]) -> Ip {
    match parse::read(frame) {
        Ok(Frame::Ip(ip)) => ip,
        other => panic!("{other:?}: {}", hex(frame)),
    }
}

pub fn ends(frame: &[u8]) -> Ends {
    read(frame).ends
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// In at one interface and out at another; what leaves.
#[track_caller]
pub fn through(bench: &mut Bench, from: usize, to: usize, frame: &[u8]) -> Vec<u8> {
    let good = verify_all(frame).is_ok();
    let between = bench.meet(Hook::TcIn, from, frame);
    assert_eq!(between.fate, sluice_tests::kernel::Fate::Pass, "{}", between.case);
    let met = bench.meet(Hook::TcOut, to, &between.data);
    assert_eq!(met.fate, sluice_tests::kernel::Fate::Pass, "{}: {}", met.reason, met.case);
    assert_eq!(verify_all(&met.data).is_ok(), good, "{}: {}", met.case, hex(&met.data));
    met.data
}

#[track_caller]
pub fn out(bench: &mut Bench, packet: &Packet) -> Vec<u8> {
    through(bench, LAN, WAN, &packet.build())
}

/// From inside to outside by way of the gate's port `port`, as it was sent otherwise.
fn as_source(packet: &Packet, address: IpAddr, port: u16) -> Vec<u8> {
    rewrite::frame(&packet.build(), &Plan { source: true, address, port: Some(port), quoted: None })
}

fn as_destination(frame: &[u8], address: IpAddr, port: u16) -> Vec<u8> {
    rewrite::frame(frame, &Plan { source: false, address, port: Some(port), quoted: None })
}

fn sent() -> Packet {
    Packet::new().ipv4(INSIDE, OUTSIDE)
}

#[test]
fn masquerading_there_and_back() {
    let Some(mut bench) = Bench::or_skip("vectors::nat::masquerading_there_and_back") else {
        return;
    };
    for (label, packet) in [
        ("TCP", sent().tcp(4000, 80).fill(31)),
        ("UDP", sent().udp(4000, 53).fill(8)),
        ("UDP without checksum", sent().udp(4000, 53).no_udp_checksum().fill(8)),
        ("a query", sent().ping(4000).fill(5)),
        ("GRE", sent().proto(47).fill(16)),
        ("IPv4 options", sent().options(&[1; 8]).udp(4000, 53)),
        ("a VLAN", sent().vlan(7).udp(4000, 53)),
        ("padding", sent().udp(4000, 53).trailer(9)),
        ("a wrong checksum stays wrong", sent().udp(4000, 53).lie_checksum(0x4711)),
    ] {
        begin(&mut bench, label, MASQUERADE);
        let left = out(&mut bench, &packet);
        let (was, is) = (ends(&packet.build()), ends(&left));
        assert_eq!(is.src, IpAddr::V4(OWN[0]), "{label}");
        assert!(is.sport >= 1024 || was.sport == 0, "{label}: {}", is.sport);
        assert_eq!(left, as_source(&packet, is.src, is.sport), "{label}: nothing else changed");
        assert_eq!(bench.events("nat"), 1, "{label}");
        // Again: the same port.
        assert_eq!(out(&mut bench, &packet), left, "{label}");
        let answer = back(&left, Back::Answer(20)).expect("an answer");
        let came = through(&mut bench, WAN, LAN, &answer);
        assert_eq!(came, as_destination(&answer, was.src, was.sport), "{label}: the way back");
        assert_eq!((bench.events("nat"), bench.flows().len()), (1, 1), "{label}");
        let flow = bench.only_flow();
        assert_eq!((flow[0], flow[2]), (2, 1), "{label}: each packet once");
    }
}

#[test]
fn errors_translate_what_they_quote() {
    let Some(mut bench) = Bench::or_skip("vectors::nat::errors_translate_what_they_quote") else {
        return;
    };
    for (label, packet) in [
        ("TCP", sent().tcp(4000, 80).fill(50)),
        ("UDP", sent().udp(4000, 33_434).fill(40)),
        ("UDP without checksum", sent().udp(4000, 33_434).no_udp_checksum().fill(40)),
        ("a query", sent().ping(4000).fill(40)),
    ] {
        for (kind, code, rest) in [(11, 0, [0; 4]), (3, 1, [0; 4]), (3, 4, [0, 0, 5, 0xdc])] {
            for most in [28, 40, 200] {
                begin(&mut bench, label, MASQUERADE);
                let left = out(&mut bench, &packet);
                let mut about = left[14..].to_vec();
                about.truncate(most);
                let gate = OWN[0].to_string();
                let error = Packet::new().ipv4("192.0.2.254", &gate).icmp(kind, code, rest);
                let came = through(&mut bench, WAN, LAN, &error.payload(&about).build());
                assert_eq!(bench.last.reasons[&("allow", "related")][0], 2, "{label}: both hooks");
                let seen = read(&came);
                assert_eq!(seen.ends.dst, address(INSIDE), "{label}");
                // What it quotes is what was sent, as far as it goes.
                let quoted = &came[14 + 20 + 8..];
                let original = packet.ip_packet();
                assert_eq!(hex(quoted), hex(&original[..quoted.len()]), "{label} {kind} {most}");
            }
        }
        // The host inside complains about an answer.
        begin(&mut bench, label, MASQUERADE);
        let left = out(&mut bench, &packet);
        let answer = back(&left, Back::Answer(30)).expect("an answer");
        let came = through(&mut bench, WAN, LAN, &answer);
        let error = sent().icmp(3, 3, [0; 4]).payload(&came[14..]);
        let gone = out(&mut bench, &error);
        assert_eq!(ends(&gone).src, IpAddr::V4(OWN[0]), "{label}");
        assert_eq!(hex(&gone[42..]), hex(&answer[14..]), "{label}: as the other end sent it");
    }
    begin_with(
        &mut bench,
        "about nobody's packet",
        &format!("default in drop\ndefault out allow\n{MASQUERADE}\nrule i allow in on lan0\n"),
    );
    let left = out(&mut bench, &sent().udp(4000, 53).fill(20));
    let mut about = left[14..].to_vec();
    // Another port of the gate.
    about[21] ^= 1;
    let error = Packet::new().ipv4("192.0.2.254", &OWN[0].to_string()).icmp(3, 1, [0; 4]);
    let met = bench.meet(Hook::TcIn, WAN, &error.payload(&about).build());
    met.drops("default");
}

#[test]
fn fragments_go_the_way_of_their_first() {
    let Some(mut bench) = Bench::or_skip("vectors::nat::fragments_go_the_way_of_their_first")
    else {
        return;
    };
    for (label, packet) in [
        ("UDP", sent().udp(4000, 53).fill(100)),
        ("UDP without checksum", sent().udp(4000, 53).no_udp_checksum().fill(100)),
        ("a query", sent().ping(4000).fill(100)),
        ("TCP", sent().tcp(4000, 80).fill(100)),
    ] {
        begin(&mut bench, label, MASQUERADE);
        let parts: Vec<_> =
            packet.fragments(48, 9).iter().map(|part| out(&mut bench, part)).collect();
        let whole = assemble(&parts);
        assert_eq!(verify_all(&whole), Ok(()), "{label}");
        let port = ends(&whole).sport;
        // The builder's identification is another; the segment is the same.
        let expected = as_source(&packet, OWN[0].into(), port);
        assert_eq!(hex(&whole[34..]), hex(&expected[34..]), "{label}");
        assert_eq!(bench.only_flow()[0], parts.len() as u64, "{label}");
        if label != "UDP" {
            continue;
        }
        let gate = OWN[0].to_string();
        let answer = Packet::new().ipv4(OUTSIDE, &gate).udp(53, port).fill(90);
        let parts: Vec<_> = answer
            .fragments(48, 8)
            .iter()
            .map(|part| through(&mut bench, WAN, LAN, &part.build()))
            .collect();
        let whole = assemble(&parts);
        assert_eq!(verify_all(&whole), Ok(()));
        assert_eq!((ends(&whole).dst, ends(&whole).dport), (address(INSIDE), 4000));
    }
}

#[test]
fn ports_are_never_shared_and_run_out() {
    let Some(mut bench) = Bench::or_skip("vectors::nat::ports_are_never_shared_and_run_out") else {
        return;
    };
    for class in ["tcp", "udp", "icmp"] {
        begin(&mut bench, class, &format!("{MASQUERADE} ports 2000-2007"));
        let packet = |to: &str, id: u16| {
            let packet = Packet::new().ipv4(INSIDE, to);
            match class {
                "tcp" => packet.tcp(id, 80),
                "udp" => packet.udp(id, 80),
                _ => packet.ping(id),
            }
        };
        let ports: BTreeSet<u16> =
            (1..=8).map(|id| ends(&out(&mut bench, &packet(OUTSIDE, id))).sport).collect();
        assert_eq!(ports, (2000..=2007).collect(), "{class}: all are used");
        let more = packet(OUTSIDE, 9).build();
        bench.meet(Hook::TcIn, LAN, &more).passes("default");
        bench.meet(Hook::TcOut, WAN, &more).drops("nat-exhausted");
        assert_eq!(bench.flows().len(), 8, "{class}: what can't leave is no flow");
        // To somebody else they are as good as new.
        let port = ends(&out(&mut bench, &packet("198.51.100.8", 9))).sport;
        assert!((2000..=2007).contains(&port), "{class}");
    }
}

/// Ports that are in use towards others: a small range is searched whole.
#[test]
fn a_small_range_is_shared_to_its_last_port() {
    let test = "vectors::nat::a_small_range_is_shared_to_its_last_port";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    begin(&mut bench, "sharing all", &format!("{MASQUERADE} ports 2000-2099"));
    for to in [OUTSIDE, "198.51.100.8", "198.51.100.9"] {
        let packet = |id: u16| Packet::new().ipv4(INSIDE, to).udp(id, 80);
        let ports: BTreeSet<u16> =
            (1..=100).map(|id| ends(&out(&mut bench, &packet(id))).sport).collect();
        assert_eq!(ports.len(), 100, "{to}");
        for id in 101..110 {
            let more = packet(id).build();
            bench.meet(Hook::TcIn, LAN, &more).passes("default");
            bench.meet(Hook::TcOut, WAN, &more).drops("nat-exhausted");
        }
    }
}

/// Of a large range only so many ports are looked at. A packet that is sent again looks at others, so that
/// whoever asks again gets the last one too.
#[test]
fn the_last_port_is_shared_with_who_asks_again() {
    let test = "vectors::nat::the_last_port_is_shared_with_who_asks_again";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    begin(&mut bench, "sharing", &format!("{MASQUERADE} ports 2000-2399"));
    let packet = |to: &str, id: u16| Packet::new().ipv4(INSIDE, to).udp(id, 80);
    for id in 1..=400 {
        out(&mut bench, &packet(OUTSIDE, id));
    }
    let mut ports = BTreeSet::new();
    for id in 1..=400 {
        let frame = packet("198.51.100.8", id).build();
        let mut left = None;
        for _ in 0..500 {
            bench.meet(Hook::TcIn, LAN, &frame).passes("default");
            let met = bench.meet(Hook::TcOut, WAN, &frame);
            if met.reason == "established" {
                left = Some(met.data);
                break;
            }
            met.drops("nat-exhausted");
            // The kernel's clock has to go on.
            std::thread::sleep(std::time::Duration::from_millis(4));
        }
        let left = left.unwrap_or_else(|| panic!("number {id} never gets one of {ports:?}"));
        assert!(ports.insert(ends(&left).sport), "number {id} shares with one to the same end");
    }
}

#[test]
fn two_clients_with_one_source_port() {
    let Some(mut bench) = Bench::or_skip("vectors::nat::two_clients_with_one_source_port") else {
        return;
    };
    begin(&mut bench, "the same port twice", MASQUERADE);
    let clients = [INSIDE, OTHER];
    let left: Vec<_> = clients
        .iter()
        .map(|client| out(&mut bench, &Packet::new().ipv4(client, OUTSIDE).tcp(4000, 80)))
        .collect();
    assert_ne!(ends(&left[0]).sport, ends(&left[1]).sport);
    for (client, frame) in clients.iter().zip(&left) {
        let answer = back(frame, Back::Answer(3)).expect("an answer");
        let came = ends(&through(&mut bench, WAN, LAN, &answer));
        assert_eq!((came.dst, came.dport), (address(client), 4000));
    }
    // Nobody's port: the packet is the gate's own.
    let gate = OWN[0].to_string();
    let stray = Packet::new().ipv4("198.51.100.99", &gate).tcp(80, ends(&left[0]).sport);
    bench.at(Hook::TcIn, WAN, &stray.build()).passes("default");
}

#[test]
fn sources_of_a_pool() {
    let Some(mut bench) = Bench::or_skip("vectors::nat::sources_of_a_pool") else { return };
    begin(
        &mut bench,
        "a host keeps its address",
        "nat s source on wan0 from 10.0.0.0/8 ports 5000-5999 => 203.0.113.8-203.0.113.11",
    );
    for host in 1..=20 {
        let mut public = BTreeSet::new();
        for port in 1..=3 {
            let packet = Packet::new().ipv4(&format!("10.0.0.{host}"), OUTSIDE).udp(port, 53);
            let seen = ends(&out(&mut bench, &packet));
            assert!((5000..=5999).contains(&seen.sport));
            public.insert(seen.src);
        }
        assert_eq!(public.len(), 1, "host {host}: {public:?}");
        let low = address("203.0.113.8");
        assert!(public.iter().all(|a| *a >= low && *a <= address("203.0.113.11")));
    }

    // RFC 7422: 64,512 ports hold 64 blocks of 1,000; the 65th host is the second address's first.
    begin(
        &mut bench,
        "blocks",
        "nat b source on wan0 from 100.64.0.0/25 ports 1024-65535 blocks 1000 => 203.0.113.8/31",
    );
    for (host, public, low) in
        [(0, "203.0.113.8", 1024), (63, "203.0.113.8", 64_024), (64, "203.0.113.9", 1024)]
    {
        for port in [1, 2, 3] {
            let packet = Packet::new().ipv4(&format!("100.64.0.{host}"), OUTSIDE).udp(port, 53);
            let seen = ends(&out(&mut bench, &packet));
            assert_eq!(seen.src, address(public), "host {host}");
            assert!((low..low + 1000).contains(&seen.sport), "host {host}: {}", seen.sport);
        }
    }
}

#[test]
fn one_endpoint_for_all() {
    let Some(mut bench) = Bench::or_skip("vectors::nat::one_endpoint_for_all") else { return };
    begin(&mut bench, "one endpoint for all", &format!("{MASQUERADE} endpoint-independent"));
    let mut public = BTreeSet::new();
    for to in [OUTSIDE, "198.51.100.8", "192.0.2.33"] {
        let seen = ends(&out(&mut bench, &Packet::new().ipv4(INSIDE, to).udp(4000, 3478)));
        public.insert((seen.src, seen.sport));
    }
    assert_eq!(public.len(), 1, "{public:?}");
    let seen = ends(&out(&mut bench, &Packet::new().ipv4(OTHER, OUTSIDE).udp(4000, 3478)));
    assert!(!public.contains(&(seen.src, seen.sport)), "another endpoint has another");

    // Ports are nobody else's: two endpoints have both, the third is refused.
    begin(
        &mut bench,
        "none is shared",
        &format!("{MASQUERADE} ports 5000-5001 endpoint-independent"),
    );
    for (host, to) in [(INSIDE, OUTSIDE), (OTHER, OUTSIDE), (INSIDE, "192.0.2.33")] {
        let seen = ends(&out(&mut bench, &Packet::new().ipv4(host, to).udp(4000, 3478)));
        assert!((5000..=5001).contains(&seen.sport), "{}", seen.sport);
    }
    let third = Packet::new().ipv4("10.0.0.7", "192.0.2.34").udp(4000, 3478).build();
    bench.at(Hook::TcIn, LAN, &third).passes("default");
    bench.meet(Hook::TcOut, WAN, &third).drops("nat-exhausted");
}

#[test]
fn destinations_inside() {
    let Some(mut bench) = Bench::or_skip("vectors::nat::destinations_inside") else { return };
    // Rules see the destination inside.
    begin_with(
        &mut bench,
        "a port",
        "default in drop\ndefault out allow\nnat w destination on wan0 tcp to 203.0.113.5 port 80 => 10.0.0.5 port 8080\nrule web allow in on wan0 tcp to 10.0.0.5 port 8080\n",
    );
    let asked = Packet::new().ipv4(OUTSIDE, PUBLIC).tcp(4000, 80).fill(3);
    let came = through(&mut bench, WAN, LAN, &asked.build());
    assert_eq!(came, as_destination(&asked.build(), address(INSIDE), 8080));
    assert_eq!(bench.rule("web")[0], 1);
    let answer = back(&came, Back::Answer(9)).expect("an answer");
    let left = through(&mut bench, LAN, WAN, &answer);
    let plan = Plan { source: true, address: address(PUBLIC), port: Some(80), quoted: None };
    assert_eq!(left, rewrite::frame(&answer, &plan));
    // An error of a router inside comes from the public address, about what was asked.
    let error = Packet::new().ipv4("10.0.0.254", OUTSIDE).icmp(3, 1, [0; 4]);
    let gone = through(&mut bench, LAN, WAN, &error.payload(&came[14..]).build());
    assert_eq!(ends(&gone).src, address(PUBLIC));
    assert_eq!(hex(&gone[42..]), hex(&asked.ip_packet()));
    bench
        .meet(Hook::TcIn, WAN, &Packet::new().ipv4(OUTSIDE, PUBLIC).tcp(4000, 81).build())
        .drops("default");

    begin(
        &mut bench,
        "a range of ports",
        "nat w destination on wan0 udp to 203.0.113.5 port 8000-8009 => 10.0.0.5 port 90-99",
    );
    for port in [8000, 8004, 8009] {
        let asked = Packet::new().ipv4(OUTSIDE, PUBLIC).udp(4000, port);
        let came = ends(&through(&mut bench, WAN, LAN, &asked.build()));
        assert_eq!((came.dst, came.dport), (address(INSIDE), port - 7910));
    }

    begin(&mut bench, "to the gate itself", "nat r redirect on lan0 udp to port 53 => port 5353");
    let asked = sent().udp(4000, 53).fill(4).build();
    let met = bench.meet(Hook::TcIn, LAN, &asked).passes("default");
    assert_eq!(met.data, as_destination(&asked, OWN[1].into(), 5353));
    let answer = back(&met.data, Back::Answer(4)).expect("an answer");
    let met = bench.meet(Hook::TcOut, LAN, &answer).passes("established");
    let seen = ends(&met.data);
    assert_eq!((seen.src, seen.sport), (address(OUTSIDE), 53), "from whom it was asked");
}

#[test]
fn one_to_one_both_ways() {
    let Some(mut bench) = Bench::or_skip("vectors::nat::one_to_one_both_ways") else { return };
    let nat = "nat x static on wan0 10.0.0.8/29 <=> 203.0.113.8/29";
    for (label, packet) in [
        ("TCP", Packet::new().ipv4("10.0.0.11", OUTSIDE).tcp(80, 4000)),
        ("a query", Packet::new().ipv4("10.0.0.11", OUTSIDE).ping(7)),
        ("ESP", Packet::new().ipv4("10.0.0.11", OUTSIDE).proto(50).fill(24)),
        (
            "SCTP",
            Packet::new()
                .ipv4("10.0.0.11", OUTSIDE)
                .proto(132)
                .payload(&[0, 80, 15, 160, 1, 2, 3, 4, 9, 9, 9, 9]),
        ),
    ] {
        begin(&mut bench, label, nat);
        let left = out(&mut bench, &packet);
        let port = ends(&packet.build()).sport;
        assert_eq!(left, as_source(&packet, address("203.0.113.11"), port), "{label}: ports stay");
    }
    begin(&mut bench, "inwards", nat);
    let asked = Packet::new().ipv4(OUTSIDE, "203.0.113.14").tcp(4000, 80).build();
    let came = through(&mut bench, WAN, LAN, &asked);
    assert_eq!(came, as_destination(&asked, address("10.0.0.14"), 80));
    let answer = back(&came, Back::Answer(0)).expect("an answer");
    assert_eq!(ends(&through(&mut bench, LAN, WAN, &answer)).src, address("203.0.113.14"));
}

#[test]
fn clients_inside_may_use_the_public_address() {
    let test = "vectors::nat::clients_inside_may_use_the_public_address";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    begin(
        &mut bench,
        "hairpin",
        "nat w destination on wan0 tcp to 203.0.113.5 port 80 => 10.0.0.9 port 8080 hairpin",
    );
    let asked = Packet::new().ipv4(INSIDE, PUBLIC).tcp(4000, 80).build();
    let turned = through(&mut bench, LAN, LAN, &asked);
    let seen = ends(&turned);
    assert_eq!((seen.src, seen.dst, seen.dport), (OWN[1].into(), address("10.0.0.9"), 8080));
    let answer = back(&turned, Back::Answer(0)).expect("an answer");
    let came = ends(&through(&mut bench, LAN, LAN, &answer));
    let wanted = (address(PUBLIC), 80, address(INSIDE), 4000);
    assert_eq!((came.src, came.sport, came.dst, came.dport), wanted);
    assert_eq!(bench.flows().len(), 1);
    // From outside the source stays.
    let asked = Packet::new().ipv4(OUTSIDE, PUBLIC).tcp(4000, 80).build();
    assert_eq!(ends(&through(&mut bench, WAN, LAN, &asked)).src, address(OUTSIDE));
}

#[test]
fn both_ends_at_once() {
    let Some(mut bench) = Bench::or_skip("vectors::nat::both_ends_at_once") else { return };
    let nat = format!(
        "nat d destination on lan0 udp to 192.0.2.53 port 53 => {OUTSIDE} port 5353\n{MASQUERADE}"
    );
    begin(&mut bench, "destination and source", &nat);
    let asked = Packet::new().ipv4(INSIDE, "192.0.2.53").udp(4000, 53).fill(6);
    let left = out(&mut bench, &asked);
    let seen = ends(&left);
    assert_eq!((seen.src, seen.dst, seen.dport), (OWN[0].into(), address(OUTSIDE), 5353));
    let answer = back(&left, Back::Answer(12)).expect("an answer");
    let came = ends(&through(&mut bench, WAN, LAN, &answer));
    let wanted = (address("192.0.2.53"), 53, address(INSIDE), 4000);
    assert_eq!((came.src, came.sport, came.dst, came.dport), wanted);
    let error = back(&left, Back::Error(200)).expect("an error");
    let came = through(&mut bench, WAN, LAN, &error);
    assert_eq!(hex(&came[42..]), hex(&asked.ip_packet()), "it quotes what was sent");
    assert_eq!(bench.flows().len(), 1);
}

#[test]
fn what_is_not_translated() {
    let Some(mut bench) = Bench::or_skip("vectors::nat::what_is_not_translated") else { return };
    begin(&mut bench, "the gate's own packets", MASQUERADE);
    let own = Packet::new().ipv4(&OWN[0].to_string(), OUTSIDE).udp(4000, 53).build();
    bench.at(Hook::TcOut, WAN, &own).passes("default");
    begin(&mut bench, "another interface", MASQUERADE);
    bench.at(Hook::TcIn, WAN, &sent().udp(4000, 53).build()).passes("default");
    bench.at(Hook::TcOut, LAN, &sent().udp(4000, 53).build()).passes("established");
    begin(
        &mut bench,
        "a segment that begins nothing",
        &format!("{MASQUERADE}\noption tcp-pickup off"),
    );
    bench.at(Hook::TcIn, LAN, &sent().tcp(4000, 80).flags(tcp::ACK).build()).passes("default");
    begin(&mut bench, "no address to use", MASQUERADE);
    bench.kernel.set_address(WAN, std::net::Ipv4Addr::UNSPECIFIED);
    let packet = sent().udp(4000, 53).build();
    bench.at(Hook::TcIn, LAN, &packet).passes("default");
    bench.meet(Hook::TcOut, WAN, &packet).drops("nat-impossible");
    assert!(bench.flows().is_empty());
}

/// A connection that is closed keeps its port until somebody takes its tuple: then it is told closed once
/// more, as `reused`, so that the history has the end of its mapping.
#[test]
fn a_tuple_that_is_taken_again_is_told() {
    let test = "vectors::nat::a_tuple_that_is_taken_again_is_told";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let syn = |from: &str| Packet::new().ipv4(from, OUTSIDE).tcp(4000, 80).flags(tcp::SYN);
    for (label, nat, told) in [("translated", MASQUERADE, 2), ("as it came", "", 1)] {
        begin(&mut bench, label, nat);
        out(&mut bench, &syn(INSIDE));
        let reset = Packet::new().ipv4(INSIDE, OUTSIDE).tcp(4000, 80).flags(tcp::RST);
        out(&mut bench, &reset.seq(1001, 0));
        assert_eq!(bench.events("closed"), 1, "{label}");
        out(&mut bench, &syn(OTHER));
        assert_eq!(bench.events("closed"), 1, "{label}: another tuple");
        out(&mut bench, &syn(INSIDE));
        assert_eq!((bench.events("closed"), bench.events("new")), (told, 3), "{label}");
    }
}
