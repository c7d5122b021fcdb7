//! Random policies and packet sequences, drawn from a world small enough that packets meet rules,
//! flows meet replies, and policies meet flows of their predecessors.

use super::policy::{Action, End, Policy, Proto, Question, Range, Rule, State, Way};
use crate::packet::{Packet, tcp};
use crate::rng::Rng;
use std::net::IpAddr;

/// One step of a case.
#[derive(Clone, Debug)]
pub enum Step {
    /// A frame at a hook of an interface.
    Frame {
        /// Way through the hook.
        way: Way,
        /// Index into the world's interfaces.
        interface: usize,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Another policy goes live.
    Swap(Policy),
}

/// A policy and what happens to it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The first policy.
    pub policy: Policy,
    /// What follows.
    pub steps: Vec<Step>,
}

const HOSTS4: [&str; 6] =
    ["10.0.0.1", "10.0.0.2", "10.0.1.1", "192.0.2.7", "203.0.113.255", "10.255.255.255"];
const HOSTS6: [&str; 5] =
    ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "fd00::7", "ffff:ffff::ffff"];
const PORTS: [u16; 9] = [0, 22, 53, 80, 443, 1023, 1024, 8080, 65_535];
const FLAGS: [u8; 9] = [
    tcp::SYN,
    tcp::SYN,
    tcp::SYN | tcp::ACK,
    tcp::ACK,
    tcp::ACK | tcp::PSH,
    tcp::FIN | tcp::ACK,
    tcp::RST,
    tcp::RST | tcp::ACK,
    0,
];

/// The case of a seed, over these interfaces.
pub fn case(seed: u64, interfaces: &[&str]) -> Case {
    let mut rng = Rng::new(seed);
    let policy = random_policy(&mut rng, interfaces);
    let mut talks: Vec<Talk> =
        (0..rng.between(2, 5)).map(|_| Talk::random(&mut rng, interfaces.len())).collect();
    let mut steps = Vec::new();
    for _ in 0..rng.between(8, 24) {
        if rng.one_in(12) {
            // Often a small edit of the live policy rather than another world.
            let current = steps
                .iter()
                .rev()
                .find_map(|step| if let Step::Swap(policy) = step { Some(policy) } else { None })
                .unwrap_or(&policy)
                .clone();
            let next = if rng.one_in(3) {
                random_policy(&mut rng, interfaces)
            } else {
                edited(&mut rng, current, interfaces)
            };
            steps.push(Step::Swap(next));
        } else if rng.one_in(8) {
            talks.push(Talk::random(&mut rng, interfaces.len()));
        } else {
            let talk = talks[rng.below(talks.len())].clone();
            steps.extend(talk.step(&mut rng));
        }
    }
    Case { policy, steps }
}

fn edited(rng: &mut Rng, mut policy: Policy, interfaces: &[&str]) -> Policy {
    match rng.below(5) {
        0 if !policy.rules.is_empty() => {
            policy.rules.remove(rng.below(policy.rules.len()));
        }
        1 if !policy.rules.is_empty() => {
            let i = rng.below(policy.rules.len());
            policy.rules[i].enabled ^= true;
        }
        2 if policy.rules.len() > 1 => {
            let (i, j) = (rng.below(policy.rules.len()), rng.below(policy.rules.len()));
            policy.rules.swap(i, j);
        }
        3 => policy.default_in = default_action(rng),
        _ => {
            let name = format!("extra{}", rng.below(1000));
            if policy.rules.iter().all(|rule| rule.name != name) {
                let rule = random_rule(rng, name, interfaces);
                let at = rng.below(policy.rules.len() + 1);
                policy.rules.insert(at, rule);
            }
        }
    }
    policy
}

fn default_action(rng: &mut Rng) -> Action {
    *rng.pick(&[Action::Allow, Action::Allow, Action::Drop, Action::Reject])
}

/// A random policy of up to 12 rules (now and then a few hundred).
pub fn random_policy(rng: &mut Rng, interfaces: &[&str]) -> Policy {
    let count = if rng.one_in(40) { rng.between(60, 200) } else { rng.below(12) };
    Policy {
        default_in: default_action(rng),
        default_out: default_action(rng),
        pickup: rng.one_in(2),
        malformed_passes: rng.one_in(3),
        ethertypes_pass: !rng.one_in(3),
        fragments_pass: rng.one_in(3),
        rules: (0..count).map(|i| random_rule(rng, format!("r{i}"), interfaces)).collect(),
    }
}

fn random_rule(rng: &mut Rng, name: String, interfaces: &[&str]) -> Rule {
    let proto = match rng.below(10) {
        0..=2 => Some(Proto::Tcp),
        3..=4 => Some(Proto::Udp),
        5 => Some(Proto::Icmp),
        6 => Some(Proto::Icmpv6),
        7 => Some(Proto::Number(*rng.pick(&[47, 50, 132]))),
        _ => None,
    };
    let family = match proto {
        Some(Proto::Icmp) => Some(4),
        Some(Proto::Icmpv6) => Some(6),
        _ if rng.one_in(2) => None,
        _ => Some(*rng.pick(&[4, 6])),
    };
    let ports = matches!(proto, Some(Proto::Tcp | Proto::Udp));
    let icmp = match proto {
        Some(Proto::Icmp) if rng.one_in(2) => {
            Some((*rng.pick(&[0, 3, 8]), rng.one_in(3).then(|| rng.below(4) as u8)))
        }
        Some(Proto::Icmpv6) if rng.one_in(2) => Some((*rng.pick(&[1, 128, 129]), None)),
        _ => None,
    };
    let flags = (proto == Some(Proto::Tcp) && rng.one_in(4)).then(|| {
        let mask =
            *rng.pick(&[tcp::SYN | tcp::ACK, tcp::SYN, tcp::RST | tcp::SYN | tcp::ACK | tcp::FIN]);
        (*rng.pick(&[tcp::SYN, tcp::ACK, tcp::SYN | tcp::ACK]) & mask, mask)
    });
    let mut states = Vec::new();
    if rng.one_in(5) {
        for state in [State::New, State::Established, State::Related, State::Invalid] {
            if rng.one_in(2) {
                states.push(state);
            }
        }
    }
    Rule {
        name,
        enabled: !rng.one_in(10),
        action: *rng.pick(&[
            Action::Allow,
            Action::Allow,
            Action::Drop,
            Action::Drop,
            Action::Reject,
            Action::Count,
        ]),
        way: *rng.pick(&[None, Some(Way::In), Some(Way::In), Some(Way::Out)]),
        interfaces: if rng.one_in(5) {
            vec![(*rng.pick(interfaces)).to_owned()]
        } else {
            Vec::new()
        },
        proto,
        from: random_end(rng, family, ports),
        to: random_end(rng, family, ports),
        flags,
        icmp,
        states,
        log: rng.one_in(6),
    }
}

fn random_end(rng: &mut Rng, family: Option<u8>, ports: bool) -> End {
    let mut end = End::default();
    if rng.one_in(2) {
        for _ in 0..rng.between(1, 3) {
            let family = family.unwrap_or(*rng.pick(&[4, 6]));
            end.addresses.push(random_range(rng, family));
        }
    }
    if ports && rng.one_in(2) {
        for _ in 0..rng.between(1, 3) {
            let (a, b) = (*rng.pick(&PORTS), *rng.pick(&PORTS));
            end.ports.push(if rng.one_in(2) { (a, a) } else { (a.min(b), a.max(b)) });
        }
    }
    end
}

fn host(rng: &mut Rng, family: u8) -> IpAddr {
    let text = if family == 4 { *rng.pick(&HOSTS4) } else { *rng.pick(&HOSTS6) };
    text.parse().expect("an address of this file")
}

/// A host, a prefix around one, or a range between two.
fn random_range(rng: &mut Rng, family: u8) -> Range {
    let a = host(rng, family);
    match rng.below(3) {
        0 => Range { low: a, high: a },
        1 => match a {
            IpAddr::V4(v4) => {
                let bits = *rng.pick(&[8u32, 15, 16, 17, 24, 31]);
                let mask = u32::MAX << (32 - bits);
                let low = u32::from(v4) & mask;
                Range { low: IpAddr::V4(low.into()), high: IpAddr::V4((low | !mask).into()) }
            }
            IpAddr::V6(v6) => {
                let bits = *rng.pick(&[16u32, 48, 63, 64, 65, 127]);
                let mask = u128::MAX << (128 - bits);
                let low = u128::from(v6) & mask;
                Range { low: IpAddr::V6(low.into()), high: IpAddr::V6((low | !mask).into()) }
            }
        },
        _ => {
            let b = host(rng, family);
            Range { low: a.min(b), high: a.max(b) }
        }
    }
}

/// Two ends that talk, and where the gate sees them.
#[derive(Clone, Debug)]
struct Talk {
    a: IpAddr,
    b: IpAddr,
    proto: u8,
    a_port: u16,
    b_port: u16,
    /// Interface on `a`'s side, and on `b`'s side; the same where the gate itself is an end.
    near: usize,
    far: usize,
    forwarded: bool,
    vlan: Option<u16>,
}

impl Talk {
    fn random(rng: &mut Rng, interfaces: usize) -> Self {
        let family = *rng.pick(&[4, 4, 6]);
        Self {
            a: host(rng, family),
            b: host(rng, family),
            proto: *rng.pick(&[6, 6, 6, 17, 17, if family == 4 { 1 } else { 58 }, 132, 47]),
            a_port: *rng.pick(&[1024, 40_000, 8080, 53]),
            b_port: *rng.pick(&PORTS),
            near: rng.below(interfaces),
            far: rng.below(interfaces),
            forwarded: rng.one_in(3),
            vlan: rng.one_in(5).then(|| rng.between(1, 4094) as u16),
        }
    }

    /// One packet of the conversation, at one hook or (forwarded) at both.
    fn step(&self, rng: &mut Rng) -> Vec<Step> {
        let forth = rng.below(5) < 3;
        let packet = if rng.one_in(14) { self.error(rng, forth) } else { self.packet(rng, forth) };
        let mut frames: Vec<Vec<u8>> = if packet_can_fragment(self.proto) && rng.one_in(14) {
            let mut frames: Vec<_> = packet
                .fill(64)
                .fragments(24, rng.below(3) as u32)
                .iter()
                .map(Packet::build)
                .collect();
            if rng.one_in(4) {
                frames.remove(0);
            }
            frames
        } else {
            vec![packet.build()]
        };
        if rng.one_in(16) {
            frames = frames.into_iter().map(|frame| mangled(rng, frame)).collect();
        }
        // `a` stands before the near interface: its packets come in there and go out at the far one.
        let hops: Vec<(Way, usize)> = match (self.forwarded, forth) {
            (false, true) => vec![(Way::In, self.near)],
            (false, false) => vec![(Way::Out, self.near)],
            (true, true) => vec![(Way::In, self.near), (Way::Out, self.far)],
            (true, false) => vec![(Way::In, self.far), (Way::Out, self.near)],
        };
        frames
            .into_iter()
            .flat_map(|bytes| {
                hops.iter()
                    .map(|&(way, interface)| Step::Frame { way, interface, bytes: bytes.clone() })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn header(&self, forth: bool) -> Packet {
        let (src, dst) = if forth { (self.a, self.b) } else { (self.b, self.a) };
        let packet = match self.vlan {
            Some(id) => Packet::new().vlan(id),
            None => Packet::new(),
        };
        packet.ip(&src.to_string(), &dst.to_string())
    }

    fn packet(&self, rng: &mut Rng, forth: bool) -> Packet {
        let mut packet = self.header(forth);
        if rng.one_in(8) {
            packet = if self.a.is_ipv4() {
                packet.options(&[1; 8])
            } else {
                packet.hop_by_hop().destination_options()
            };
        }
        let (sport, dport) =
            if forth { (self.a_port, self.b_port) } else { (self.b_port, self.a_port) };
        let packet = match self.proto {
            6 => {
                let flags = *rng.pick(&FLAGS);
                packet.tcp(sport, dport).flags(flags).seq(rng.bits() as u32, rng.bits() as u32)
            }
            17 => packet.udp(sport, dport),
            1 | 58 => match rng.below(8) {
                0 => packet.icmp(*rng.pick(&[5, 13, 14, 100, 134, 200]), 0, [1, 2, 3, 4]),
                _ if forth => packet.ping(self.a_port),
                _ => packet.pong(self.a_port),
            },
            132 => packet
                .proto(132)
                .payload(&[&sport.to_be_bytes()[..], &dport.to_be_bytes(), &[0; 8]].concat()),
            other => packet.proto(other),
        };
        if self.proto == 132 {
            return packet;
        }
        packet.fill(rng.below(40)).trailer(if rng.one_in(5) { 6 } else { 0 })
    }

    /// An ICMP error from the other end about a packet of this conversation.
    fn error(&self, rng: &mut Rng, forth: bool) -> Packet {
        let mut about = self.packet(rng, !forth).ip_packet();
        if rng.one_in(4) {
            about.truncate(rng.between(0, 40));
        }
        let kind =
            if self.a.is_ipv4() { *rng.pick(&[3, 11, 12]) } else { *rng.pick(&[1, 2, 3, 4]) };
        self.header(forth).icmp(kind, 1, [0; 4]).payload(&about)
    }
}

fn packet_can_fragment(proto: u8) -> bool {
    matches!(proto, 6 | 17 | 1 | 58)
}

/// A frame that lost its end, or one of whose header bytes is wrong.
fn mangled(rng: &mut Rng, mut frame: Vec<u8>) -> Vec<u8> {
    if rng.one_in(2) {
        frame.truncate(rng.between(14, frame.len()));
    } else {
        let at = rng.between(12, frame.len().min(70) - 1);
        frame[at] = rng.bits() as u8;
    }
    frame
}

/// A random question for the rules alone.
pub fn question<'a>(rng: &mut Rng, interfaces: &[&'a str]) -> Question<'a> {
    let family = *rng.pick(&[4, 6]);
    let proto = *rng.pick(&[6, 6, 17, 17, if family == 4 { 1 } else { 58 }, 132, 47]);
    Question {
        way: *rng.pick(&[Way::In, Way::Out]),
        interface: interfaces[rng.below(interfaces.len())],
        src: host(rng, family),
        dst: host(rng, family),
        proto,
        ports: matches!(proto, 6 | 17 | 132).then(|| (*rng.pick(&PORTS), *rng.pick(&PORTS))),
        flags: (proto == 6).then(|| rng.bits() as u8),
        icmp: matches!(proto, 1 | 58)
            .then(|| (*rng.pick(&[0, 1, 3, 8, 128, 129]), rng.below(4) as u8)),
        state: *rng.pick(&[State::New, State::Established, State::Related, State::Invalid]),
    }
}
