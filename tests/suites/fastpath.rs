//! The fast path: what leaves by it is what the stack would have sent, what isn't ordinary takes the
//! stack, and accounts are the same on both ways.

#[path = "fastpath/gate.rs"]
mod gate;

use firewall_common::abi::iface::{DEFERRED, IFACE_FAST, IFACE_WIRE};
use sluice_tests::kernel::{Fate, Hook, Kernel};
use sluice_tests::lab::NetNs;
use sluice_tests::model::translated::{Back, back};
use sluice_tests::packet::{DST_MAC, Packet, checksum, hex, tcp, verify_all};
use std::time::Duration;

const WAN: usize = 0;
const LAN: usize = 1;
/// Hosts on both sides that no stack answers for.
const HERE: &str = "10.77.1.50";
const THERE: &str = "10.77.2.50";
const HERE6: &str = "fd77:1::50";
const THERE6: &str = "fd77:2::50";
const HERE_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0x50];
const THERE_MAC: [u8; 6] = [2, 0, 0, 0, 2, 0x50];

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Neighbours for good.
fn neighbours(gate: &NetNs) {
    for (address, mac, dev) in [
        (HERE, HERE_MAC, "wan0"),
        (HERE6, HERE_MAC, "wan0"),
        (THERE, THERE_MAC, "lan0"),
        (THERE6, THERE_MAC, "lan0"),
    ] {
        let mac = mac_text(mac);
        let what = ["neigh", "replace", address, "lladdr", &mac, "dev", dev, "nud", "permanent"];
        gate.ip(&what).unwrap();
    }
}

/// One end's packet of a talk, either family.
#[derive(Clone, Copy, Debug)]
struct Talk {
    v6: bool,
    tcp: bool,
    /// What the one who begins writes to.
    to: (&'static str, u16),
}

impl Talk {
    fn forth(&self) -> Packet {
        let packet = Packet::new().ip(if self.v6 { HERE6 } else { HERE }, self.to.0);
        self.ported(packet, 4000, self.to.1)
    }

    fn ported(&self, packet: Packet, sport: u16, dport: u16) -> Packet {
        if self.tcp { packet.tcp(sport, dport) } else { packet.udp(sport, dport) }
    }
}

/// A gate that knows its routes and neighbours, off the net.
struct Bench {
    kernel: Kernel,
    /// Hardware addresses.
    own: [[u8; 6]; 2],
}

impl Bench {
    fn or_skip(test: &str) -> Option<Self> {
        let mut kernel = Kernel::or_skip(test)?;
        let ns = kernel.namespace().clone();
        for (name, four, six) in
            [("wan0", "10.77.1.1/24", "fd77:1::1/64"), ("lan0", "10.77.2.1/24", "fd77:2::1/64")]
        {
            ns.ip(&["address", "add", four, "dev", name]).unwrap();
            ns.ip(&["address", "add", six, "dev", name, "nodad"]).unwrap();
        }
        ns.sysctl("ipv4/ip_forward", "1").unwrap();
        ns.sysctl("ipv6/conf/all/forwarding", "1").unwrap();
        neighbours(&ns);
        let own = ["wan0", "lan0"].map(|name| ns.mac(name).unwrap());
        for (i, address) in [(WAN, [10, 77, 1, 1]), (LAN, [10, 77, 2, 1])] {
            kernel.set_address(i, address.into());
            kernel.set_flags(i, IFACE_WIRE | IFACE_FAST);
            kernel.set_mac(i, own[i]);
        }
        Some(Self { kernel, own })
    }

    fn install(&mut self, fast: bool, rest: &str) {
        let fast = if fast { "on" } else { "off" };
        self.kernel.install(&format!(
            "option fast-path {fast}\ndefault in allow\ndefault out allow\n{rest}\n"
        ));
    }

    /// Runs a frame through a hook; the builder's usual destination stands for the interface's own.
    fn run(&self, hook: Hook, interface: usize, frame: &[u8]) -> (Fate, Vec<u8>) {
        let frame = self.addressed(interface, frame);
        let ns = self.kernel.namespace();
        ns.run(|| self.kernel.run(hook, interface, &frame).expect("a frame to run"))
    }

    fn addressed(&self, interface: usize, frame: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        if frame[..6] == DST_MAC {
            frame[..6].copy_from_slice(&self.own[interface]);
        }
        frame
    }

    /// In and out again on the slow way.
    #[track_caller]
    fn through(&self, from: usize, frame: &[u8]) -> Vec<u8> {
        let (fate, between) = self.run(Hook::TcIn, from, frame);
        assert_eq!(fate, Fate::Pass, "{}", hex(frame));
        let (fate, left) = self.run(Hook::TcOut, 1 - from, &between);
        assert_eq!(fate, Fate::Pass, "{}", hex(frame));
        left
    }

    /// A flow that has been answered; a frame of each direction as it comes in at the gate.
    fn established(&self, talk: Talk) -> [(usize, Vec<u8>); 2] {
        let forth = talk.forth();
        let swap = |frame: &[u8]| answer(frame, talk.v6);
        if talk.tcp {
            let syn = self.through(WAN, &forth.clone().seq(100, 0).flags(tcp::SYN).build());
            let (src, dst, sport, dport) = swap(&syn);
            let back = || Packet::new().ip(&src, &dst).tcp(sport, dport).window(1000);
            self.through(LAN, &back().seq(500, 101).flags(tcp::SYN | tcp::ACK).build());
            self.through(WAN, &forth.clone().seq(101, 501).flags(tcp::ACK).build());
            let forth = forth.seq(101, 501).flags(tcp::ACK).fill(41);
            let back = back().seq(501, 101).flags(tcp::ACK).fill(30);
            return [(WAN, forth.build()), (LAN, back.build())];
        }
        let left = self.through(WAN, &forth.clone().fill(20).build());
        let (src, dst, sport, dport) = swap(&left);
        let back = Packet::new().ip(&src, &dst).udp(sport, dport).fill(31);
        self.through(LAN, &back.build());
        [(WAN, forth.fill(20).build()), (LAN, back.build())]
    }

    fn reason(&mut self, name: &str) -> u64 {
        let counters = self.kernel.counters();
        counters.reasons.iter().filter(|((_, n), _)| *n == name).map(|(_, c)| c[0]).sum()
    }
}

/// Ends of the answer to a frame: source, destination, ports.
fn answer(frame: &[u8], v6: bool) -> (String, String, u16, u16) {
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    if v6 {
        let address = |at: usize| {
            let bytes: [u8; 16] = frame[at..at + 16].try_into().unwrap();
            std::net::Ipv6Addr::from(bytes).to_string()
        };
        return (address(38), address(22), port(56), port(54));
    }
    let address = |at: usize| {
        let bytes: [u8; 4] = frame[at..at + 4].try_into().unwrap();
        std::net::Ipv4Addr::from(bytes).to_string()
    };
    (address(30), address(26), port(36), port(34))
}

/// A frame as the stack sends it on: next hop's Ethernet header, one hop less.
fn forwarded(frame: &[u8], to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    if frame[12..14] == [0x86, 0xdd] {
        frame[21] -= 1;
    } else {
        frame[22] -= 1;
        frame[24..26].fill(0);
        let sum = checksum::internet(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

const NATS: [(&str, &str, (&str, u16)); 4] = [
    ("plain", "", (THERE, 80)),
    ("source", "nat s masquerade on lan0", (THERE, 80)),
    (
        "destination",
        "nat d destination on wan0 tcp to 10.77.1.1 port 8080 => 10.77.2.50 port 80",
        ("10.77.1.1", 8080),
    ),
    (
        "both",
        "nat s masquerade on lan0\nnat d destination on wan0 tcp to 10.77.1.1 port 8080 => 10.77.2.50 port 80",
        ("10.77.1.1", 8080),
    ),
];

#[test]
fn what_leaves_is_what_the_stack_would_send() {
    let test = "fastpath::what_leaves_is_what_the_stack_would_send";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let own = bench.own;
    let mut seen = 0;
    for (label, nat, to) in NATS {
        for tcp in [true, false] {
            for v6 in [false, true] {
                if v6 && !nat.is_empty() {
                    continue;
                }
                let talk = Talk { v6, tcp, to: if v6 { (THERE6, 80) } else { to } };
                let nat = if tcp { nat.to_owned() } else { nat.replace("tcp", "udp") };
                bench.kernel.clear();
                bench.install(false, &nat);
                let frames = bench.established(talk);
                for (from, frame) in frames {
                    for frame in [frame.clone(), without_sum(&frame)] {
                        let case = format!("{label} {talk:?} at {from}: {}", hex(&frame));
                        bench.install(false, &nat);
                        let slow = bench.through(from, &frame);
                        bench.install(true, &nat);
                        // The policy is new: it judges at both hooks before anything is past them.
                        bench.through(from, &frame);
                        let before = bench.reason("fast-path");
                        let (fate, fast) = bench.at_any_tick(from, &frame);
                        assert_eq!(fate, Fate::Away, "{case}");
                        let to = if from == WAN { THERE_MAC } else { HERE_MAC };
                        let wanted = forwarded(&slow, to, own[1 - from]);
                        assert_eq!(hex(&fast), hex(&wanted), "{case}");
                        assert_eq!(verify_all(&fast), Ok(()), "{case}");
                        // At TC the kernel writes the Ethernet header once the program is through.
                        let (fate, at_tc) = bench.run(Hook::TcIn, from, &frame);
                        assert_eq!(fate, Fate::Answer, "{case}");
                        assert_eq!(hex(&at_tc[14..]), hex(&wanted[14..]), "{case}");
                        assert_eq!(bench.reason("fast-path"), before + 2, "{case}");
                        seen += 1;
                    }
                }
            }
        }
    }
    assert_eq!(seen, 40);
}

/// The same frame with no UDP checksum where it may have none (IPv4).
fn without_sum(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[12..14] == [8, 0] && frame[23] == 17 {
        frame[40..42].fill(0);
    }
    frame
}

impl Bench {
    /// At XDP, where once in a while a tick's packets take the stack.
    fn at_any_tick(&self, from: usize, frame: &[u8]) -> (Fate, Vec<u8>) {
        let first = self.run(Hook::Xdp, from, frame);
        if first.0 == Fate::Away {
            return first;
        }
        std::thread::sleep(Duration::from_millis(20));
        self.run(Hook::Xdp, from, frame)
    }
}

/// A flow's way is remembered for 16 ticks, 64 ms.
fn forget() {
    std::thread::sleep(Duration::from_millis(100));
}

/// A talk in UDP over IPv4 that has been answered, and the policy that lets it skip the stack.
fn ordinary(bench: &mut Bench) -> Vec<u8> {
    bench.kernel.clear();
    for interface in [WAN, LAN] {
        bench.kernel.set_flags(interface, IFACE_WIRE | IFACE_FAST);
    }
    bench.install(false, "");
    let [(_, frame), _] = bench.established(Talk { v6: false, tcp: false, to: (THERE, 80) });
    bench.install(true, "");
    bench.through(WAN, &frame);
    frame
}

#[test]
fn what_is_out_of_the_ordinary_takes_the_stack() {
    let test = "fastpath::what_is_out_of_the_ordinary_takes_the_stack";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let ns = bench.kernel.namespace().clone();
    let frame = ordinary(&mut bench);
    assert_eq!(bench.at_any_tick(WAN, &frame).0, Fate::Away, "the ordinary doesn't");
    // Whatever is wrong with a packet is so at both hooks.
    let stays = |bench: &Bench, label: &str, frame: &[u8]| {
        for hook in [Hook::Xdp, Hook::TcIn] {
            let (fate, left) = bench.run(hook, WAN, frame);
            assert_eq!(fate, Fate::Pass, "{label} at {hook:?}");
            let frame = bench.addressed(WAN, frame);
            assert_eq!(hex(&left), hex(&frame), "{label} at {hook:?}: nothing was changed");
        }
    };
    let sent = || Packet::new().ipv4(HERE, THERE);
    for (label, packet) in [
        ("options", sent().options(&[1; 4]).udp(4000, 80).fill(20)),
        ("a first fragment", sent().fragment(0, true).udp(4000, 80).fill(24)),
        ("a tag", sent().vlan(5).udp(4000, 80).fill(20)),
        ("its last hop", sent().ttl(1).udp(4000, 80).fill(20)),
        ("no hop at all", sent().ttl(0).udp(4000, 80).fill(20)),
        ("a group's address", sent().macs(HERE_MAC, [255; 6]).udp(4000, 80).fill(20)),
        ("another's address", sent().macs(HERE_MAC, [2, 9, 9, 9, 9, 9]).udp(4000, 80).fill(20)),
        ("a flow without an answer", sent().udp(4001, 80).fill(20)),
    ] {
        stays(&bench, label, &packet.build());
        stays(&bench, label, &packet.build());
    }
    let (fate, _) = bench.run(Hook::Xdp, LAN, &frame);
    assert_eq!(fate, Fate::Pass, "from where its packets don't come from");

    // What is wrong with the way.
    for (label, doing, undoing) in [
        ("forwarding is off", "sysctl 0", "sysctl 1"),
        ("nowhere", "route add blackhole 10.77.2.50/32", "route del blackhole 10.77.2.50/32"),
        (
            "back where it came from",
            "route add 10.77.2.50/32 via 10.77.1.50 dev wan0",
            "route del 10.77.2.50/32 via 10.77.1.50 dev wan0",
        ),
        (
            "a neighbour that isn't known",
            "neigh del 10.77.2.50 dev lan0",
            "neigh replace 10.77.2.50 lladdr 02:00:00:00:02:50 dev lan0 nud permanent",
        ),
    ] {
        let act = |words: &str| match words.strip_prefix("sysctl ") {
            Some(value) => ns.sysctl("ipv4/ip_forward", value).unwrap(),
            None => ns.ip(&words.split(' ').collect::<Vec<_>>()).unwrap(),
        };
        act(doing);
        forget();
        stays(&bench, label, &frame);
        act(undoing);
        if doing.starts_with("sysctl") {
            // Forwarding off and on again makes the gate forget its neighbours.
            neighbours(&ns);
        }
        assert_eq!(bench.at_any_tick(WAN, &frame).0, Fate::Away, "{label} no longer");
    }
    let big = sent().udp(4000, 80).fill(1300).build();
    assert_eq!(bench.at_any_tick(WAN, &big).0, Fate::Away);
    ns.ip(&["route", "add", "10.77.2.50/32", "dev", "lan0", "mtu", "lock", "1327"]).unwrap();
    forget();
    stays(&bench, "a byte too big for its way", &big);
    let fits = sent().udp(4000, 80).fill(1299).build();
    assert_eq!(bench.at_any_tick(WAN, &fits).0, Fate::Away, "a byte less");
    ns.ip(&["route", "del", "10.77.2.50/32", "dev", "lan0"]).unwrap();

    // What is wrong with the interfaces matters at XDP alone.
    for (wan, lan) in [(IFACE_FAST, IFACE_FAST), (IFACE_WIRE, IFACE_WIRE), (0, 0)] {
        bench.kernel.set_flags(WAN, wan);
        bench.kernel.set_flags(LAN, lan);
        forget();
        assert_eq!(bench.at_any_tick(WAN, &frame).0, Fate::Pass, "flags {wan} to {lan}");
        assert_eq!(bench.run(Hook::TcIn, WAN, &frame).0, Fate::Answer, "flags {wan} to {lan}");
    }

    // And of the policy: it has to judge at both hooks first, and to want it.
    let frame = ordinary(&mut bench);
    bench.install(true, "rule new allow udp");
    for _ in 0..3 {
        assert_eq!(bench.run(Hook::Xdp, WAN, &frame).0, Fate::Pass, "egress is yet to judge");
    }
    bench.run(Hook::TcOut, LAN, &frame);
    assert_eq!(bench.at_any_tick(WAN, &frame).0, Fate::Away);
    bench.install(true, "rule no drop out udp");
    for _ in 0..3 {
        assert_eq!(bench.run(Hook::Xdp, WAN, &frame).0, Fate::Pass, "egress says no");
    }
    bench.install(false, "");
    bench.through(WAN, &frame);
    bench.through(WAN, &frame);
}

#[test]
fn a_way_is_remembered_for_a_moment_and_for_its_own_packets() {
    let test = "fastpath::a_way_is_remembered_for_a_moment_and_for_its_own_packets";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let ns = bench.kernel.namespace().clone();
    let frame = ordinary(&mut bench);
    let other = Packet::new().ipv4(HERE, THERE).tos(0x10).udp(4000, 80).fill(20).build();
    let goes_to = |bench: &Bench, frame: &[u8]| {
        let (fate, left) = bench.at_any_tick(WAN, frame);
        assert_eq!(fate, Fate::Away);
        left[..6].to_vec()
    };
    let moves_to = |mac: [u8; 6]| {
        let mac = mac_text(mac);
        let what = ["neigh", "replace", THERE, "lladdr", &mac, "dev", "lan0", "nud", "permanent"];
        ns.ip(&what).unwrap();
    };
    let mut remembered = false;
    for i in 0..20 {
        let mac = [2, 0, 0, 0, 7, i];
        let before = goes_to(&bench, &frame);
        moves_to(mac);
        // What it would take for the machine to be slower than the memory lasts is tried again.
        remembered |= goes_to(&bench, &frame) == before;
        assert_eq!(goes_to(&bench, &other), mac, "another service asks for itself");
        forget();
        assert_eq!(goes_to(&bench, &frame), mac, "what has changed is seen");
    }
    assert!(remembered);
}

#[test]
fn tcp_begins_and_ends_with_the_stack() {
    let test = "fastpath::tcp_begins_and_ends_with_the_stack";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    bench.install(true, "");
    let forth = || Packet::new().ipv4(HERE, THERE).tcp(4000, 80).window(1000);
    let back = || Packet::new().ipv4(THERE, HERE).tcp(80, 4000).window(1000);
    bench.through(WAN, &forth().seq(100, 0).flags(tcp::SYN).build());
    bench.through(LAN, &back().seq(500, 101).flags(tcp::SYN | tcp::ACK).build());
    let ack = forth().seq(101, 501).flags(tcp::ACK);
    for _ in 0..2 {
        assert_eq!(bench.run(Hook::TcIn, WAN, &ack.build()).0, Fate::Answer, "open");
    }
    // Outside the window: dropped as ever.
    let stray = forth().seq(9_000_000, 501).flags(tcp::ACK).fill(10);
    assert_eq!(bench.run(Hook::TcIn, WAN, &stray.build()).0, Fate::Drop);
    for (label, from, packet) in [
        ("the end of one side", WAN, forth().seq(101, 501).flags(tcp::FIN | tcp::ACK)),
        ("the other side goes on", LAN, back().seq(501, 102).flags(tcp::ACK).fill(9)),
        ("and ends, too", LAN, back().seq(510, 102).flags(tcp::FIN | tcp::ACK)),
        ("the last word", WAN, forth().seq(102, 511).flags(tcp::ACK)),
    ] {
        let (fate, _) = bench.run(Hook::TcIn, from, &packet.build());
        assert_eq!(fate, Fate::Pass, "{label}");
    }
    assert_eq!(bench.reason("fast-path"), 2);
}

#[test]
fn frames_off_a_wire_are_translated_as_buffers_are() {
    let test = "fastpath::frames_off_a_wire_are_translated_as_buffers_are";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let sent = || Packet::new().ipv4(HERE, THERE);
    let mut seen = 0;
    for (label, packet) in [
        ("TCP", sent().tcp(4000, 80).fill(31)),
        ("UDP", sent().udp(4000, 53).fill(8)),
        ("UDP without checksum", sent().udp(4000, 53).no_udp_checksum().fill(8)),
        ("a query", sent().ping(4000).fill(5)),
        ("GRE", sent().proto(47).fill(16)),
        ("IPv4 options", sent().options(&[1; 8]).udp(4000, 53)),
        ("a VLAN", sent().vlan(7).udp(4000, 53)),
        ("a wrong checksum", sent().udp(4000, 53).lie_checksum(0x4711)),
    ] {
        bench.kernel.clear();
        bench.install(false, "nat s masquerade on lan0");
        let left = bench.through(WAN, &packet.build());
        let mut came = vec![back(&left, Back::Answer(20)).expect("an answer")];
        if packet.build()[12..14] == [8, 0] {
            // A router complains about what was sent.
            let error = Packet::new().ipv4("10.77.2.99", "10.77.2.1").icmp(3, 4, [0, 0, 5, 0xdc]);
            came.push(error.payload(&left[14..]).build());
        }
        for frame in came {
            let (fate, buffer) = bench.run(Hook::TcIn, LAN, &frame);
            assert_eq!(fate, Fate::Pass, "{label}");
            let (fate, wire) = bench.run(Hook::Xdp, LAN, &frame);
            assert_eq!(fate, Fate::Pass, "{label}");
            assert_eq!(hex(&wire), hex(&buffer), "{label}");
            assert_ne!(hex(&wire), hex(&bench.addressed(LAN, &frame)), "{label}: translated");
            // A link that may carry partial checksums is left alone.
            bench.kernel.set_flags(LAN, IFACE_FAST);
            let (_, virtual_link) = bench.run(Hook::Xdp, LAN, &frame);
            let (mark, virtual_link) = virtual_link.split_at(4);
            assert_eq!(mark, DEFERRED.to_ne_bytes(), "{label}: left to the program behind");
            assert_eq!(hex(virtual_link), hex(&bench.addressed(LAN, &frame)), "{label}");
            bench.kernel.set_flags(LAN, IFACE_WIRE | IFACE_FAST);
            seen += 1;
        }
    }
    assert_eq!(seen, 15);
}
