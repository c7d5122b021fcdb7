//! Random cases of translation: hosts inside, hosts outside, a gate between `lan0` and `wan0` that
//! translates, and what comes back to whatever the gate made of them.

use super::generate::random_policy;
use super::nat::{Kind, Nat};
use super::parse::{self, Ends, Frame};
use super::policy::{Action, End, Policy, Proto, Range, Window};
use crate::packet::{Packet, tcp};
use crate::rng::Rng;
use std::net::{IpAddr, Ipv4Addr};

/// Addresses of the gate at the interfaces, in the order of [`crate::kernel::INTERFACES`].
pub const OWN: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(10, 0, 0, 1)];

/// One step. Interfaces are numbers: 0 is outside, 1 inside.
#[derive(Clone, Debug)]
pub enum Step {
    /// A packet comes in at an interface and, as it is then, leaves through another.
    Through {
        /// Where it comes in.
        from: usize,
        /// Where it leaves.
        to: usize,
        /// As it comes in.
        bytes: Vec<u8>,
    },
    /// The gate itself sends a packet.
    Own {
        /// Where it leaves.
        to: usize,
        /// As the gate sends it.
        bytes: Vec<u8>,
    },
    /// Something comes back to what left at step `of` (if it did), and goes the other way.
    Back {
        /// Number of the step.
        of: usize,
        /// What it is.
        what: Back,
    },
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// The answer of the other end, with so many bytes.
    Answer(usize),
    /// An ICMP error of a router beyond, with so many bytes of the packet at most.
    Error(usize),
}

/// A policy and what happens to it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The policy.
    pub policy: Policy,
    /// What follows.
    pub steps: Vec<Step>,
}

/// What left: at which interface, from which other one (none: from the gate itself), as what.
pub type Left = (usize, Option<usize>, Vec<u8>);

const INSIDE: [&str; 4] = ["10.0.0.5", "10.0.0.6", "10.0.0.9", "10.1.0.7"];
const OUTSIDE: [&str; 3] = ["198.51.100.7", "198.51.100.8", "192.0.2.33"];
const PUBLIC: [&str; 3] = ["203.0.113.1", "203.0.113.5", "203.0.113.9"];
const PORTS: [u16; 6] = [53, 80, 8080, 2000, 2001, 40_000];

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address of this file")
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().expect("an address of this file")
}

fn prefix(low: &str, high: &str) -> Range {
    Range { low: address(low), high: address(high) }
}

fn random_nat(rng: &mut Rng, i: usize) -> Nat {
    let name = format!("n{i}");
    let ten = prefix("10.0.0.0", "10.255.255.255");
    // Few ports run out.
    let ports = [None, Some((2000, 2001)), Some((3000, 3002)), Some((1024, 65_535))];
    let proto = *rng.pick(&[None, None, Some(Proto::Tcp), Some(Proto::Udp)]);
    match rng.below(6) {
        0 | 1 => {
            let mut nat = Nat::new(&name, "wan0", Kind::Masquerade);
            nat.from.addresses.push(ten);
            (nat.proto, nat.ports) = (proto, *rng.pick(&ports));
            if rng.one_in(3) {
                // So many ports that nobody has to share one.
                (nat.endpoint_independent, nat.ports) = (true, None);
            }
            nat
        }
        2 => {
            let last = *rng.pick(&["203.0.113.5", "203.0.113.6"]);
            let kind = Kind::Source(v4("203.0.113.5"), v4(last));
            let mut nat = Nat::new(&name, "wan0", kind);
            nat.from.addresses.push(ten);
            (nat.proto, nat.ports) = (proto, *rng.pick(&ports));
            if rng.one_in(3) {
                nat.from.addresses = vec![prefix("10.0.0.0", "10.0.0.15")];
                (nat.ports, nat.blocks) = (Some((1024, 65_535)), Some(4000));
            }
            nat
        }
        3 => {
            let port = *rng.pick(&[80, 53]);
            let target = *rng.pick(&[None, Some((8080, 8080)), Some((2000, 2000))]);
            let mut nat = Nat::new(&name, "wan0", Kind::Destination(v4(INSIDE[0]), target));
            nat.proto = Some(*rng.pick(&[Proto::Tcp, Proto::Udp]));
            let public = prefix(PUBLIC[1], PUBLIC[1]);
            nat.to = End { addresses: vec![public], ports: vec![(port, port)], ..End::default() };
            nat.hairpin = rng.one_in(3);
            nat
        }
        4 => {
            let port = Some((8080, 8080));
            let mut nat = Nat::new(&name, "lan0", Kind::Redirect(port));
            nat.proto = Some(Proto::Udp);
            nat.to.ports.push((53, 53));
            nat
        }
        _ => Nat::new(&name, "wan0", Kind::Static(v4("10.0.0.8"), v4("203.0.113.8"), 29)),
    }
}

fn packet(rng: &mut Rng, src: &str, dst: &str) -> Packet {
    let packet = Packet::new().ipv4(src, dst);
    let (sport, dport) = (*rng.pick(&PORTS), *rng.pick(&PORTS));
    let packet = match rng.below(9) {
        0..=2 => {
            let flags = *rng.pick(&[tcp::SYN, tcp::SYN, tcp::ACK, tcp::ACK | tcp::PSH]);
            packet
                .tcp(sport, dport)
                .flags(flags)
                .seq(1000, if flags == tcp::SYN { 0 } else { 7000 })
        }
        3..=5 => packet.udp(sport, dport),
        6 => packet.udp(sport, dport).no_udp_checksum(),
        7 => packet.ping(sport),
        _ => packet.proto(*rng.pick(&[47, 50])),
    };
    packet.fill(rng.below(60))
}

/// The case of a seed.
pub fn case(seed: u64, interfaces: &[&str]) -> Case {
    let mut rng = Rng::new(seed ^ 0x7a75);
    let mut policy = random_policy(&mut rng, interfaces);
    if !rng.one_in(4) {
        policy.rules.clear();
        (policy.default_in, policy.default_out) = (Action::Allow, Action::Allow);
    }
    policy.rules.truncate(20);
    policy.window = Window::Off;
    policy.nats = (0..rng.between(1, 3)).map(|i| random_nat(&mut rng, i)).collect();
    let mut steps = Vec::new();
    for i in 0..rng.between(6, 20) {
        if i > 0 && rng.one_in(2) {
            let of = rng.below(i);
            let what = if rng.one_in(4) {
                Back::Error(rng.between(28, 120))
            } else {
                Back::Answer(rng.below(40))
            };
            steps.push(Step::Back { of, what });
            continue;
        }
        let (inside, outside) = (*rng.pick(&INSIDE), *rng.pick(&OUTSIDE));
        let step = match rng.below(8) {
            0..=3 => {
                let mut packet = packet(&mut rng, inside, outside);
                if rng.one_in(10) {
                    packet = packet.lie_checksum(0x1234);
                }
                Step::Through { from: 1, to: 0, bytes: packet.build() }
            }
            4 | 5 => {
                let public = *rng.pick(&PUBLIC);
                let bytes = packet(&mut rng, outside, public).build();
                Step::Through { from: 0, to: 1, bytes }
            }
            6 => {
                let public = *rng.pick(&PUBLIC);
                let bytes = packet(&mut rng, inside, public).build();
                Step::Through { from: 1, to: 1, bytes }
            }
            _ => Step::Own { to: 0, bytes: packet(&mut rng, PUBLIC[0], outside).build() },
        };
        steps.push(step);
    }
    Case { policy, steps }
}

/// What comes back to a frame that left; none: nobody answers such a thing.
pub fn back(left: &[u8], what: Back) -> Option<Vec<u8>> {
    let Ok(Frame::Ip(ip)) = parse::read(left) else { return None };
    let Ends { src, dst, proto, sport, dport } = ip.ends.clone();
    let (src, dst) = (src.to_string(), dst.to_string());
    if let Back::Error(most) = what {
        let mut about = left[14..14 + ip.len].to_vec();
        about.truncate(most);
        let error = Packet::new().ipv4("192.0.2.254", &src).icmp(3, 1, [0; 4]);
        return Some(error.payload(&about).build());
    }
    let Back::Answer(size) = what else { return None };
    let packet = Packet::new().ipv4(&dst, &src);
    let packet = match (proto, ip.segment) {
        (6, Some(s)) => {
            let syn = s.flags & tcp::SYN;
            let ack = s.seq.wrapping_add(s.data + u32::from(syn != 0));
            let seq = if syn == 0 { s.ack } else { 6999 };
            packet.tcp(dport, sport).flags(syn | tcp::ACK).seq(seq, ack)
        }
        (17, _) => packet.udp(dport, sport),
        (1, _) => packet.pong(sport),
        (number, _) => packet.proto(number),
    };
    Some(packet.fill(size).build())
}
