//! Random policies and packet sequences, drawn from a world small enough that packets meet rules,
//! flows meet replies, and policies meet flows of their predecessors.

use super::parse::Segment;
use super::policy::{Action, End, Policy, Proto, Question, Range, Rule, State, Way, Window};
use super::sets::{Adds, Asks, Kind, LiveSet, Member};
use super::talk::Talk;
use crate::packet::tcp;
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
    /// Time passes: more than the time-outs that the policy has short.
    Wait,
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
pub(super) const PORTS: [u16; 9] = [0, 22, 53, 80, 443, 1023, 1024, 8080, 65_535];
const STATES: [State; 5] =
    [State::New, State::Established, State::Related, State::Invalid, State::Untracked];

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
            let talk = rng.below(talks.len());
            steps.extend(talks[talk].step(&mut rng));
        }
    }
    Case { policy, steps }
}

/// The case of a seed whose rules ask live sets, and add to them.
pub fn live(seed: u64, interfaces: &[&str]) -> Case {
    let mut rng = Rng::new(seed ^ 0x11_7e);
    let mut case = case(seed, interfaces);
    let sets: Vec<LiveSet> =
        LIVE.iter().map(|(name, kind)| live_set(&mut rng, name, *kind)).collect();
    let swaps = case.steps.iter_mut().filter_map(|step| match step {
        Step::Swap(policy) => Some(policy),
        _ => None,
    });
    for policy in std::iter::once(&mut case.policy).chain(swaps) {
        policy.live.clone_from(&sets);
        for rule in &mut policy.rules {
            ask_sets(&mut rng, rule);
        }
    }
    case
}

/// Names of live sets; those of addresses begin with `a`.
const LIVE: [(&str, Kind); 4] = [
    ("a1", Kind::Addresses),
    ("a2", Kind::Addresses),
    ("pairs", Kind::Pairs),
    ("ports", Kind::Ports),
];

fn live_set(rng: &mut Rng, name: &'static str, kind: Kind) -> LiveSet {
    let members = (0..rng.below(4)).map(|_| {
        let family = *rng.pick(&[4, 6]);
        let host = host(rng, family);
        match kind {
            Kind::Addresses => {
                let len = match family {
                    4 => *rng.pick(&[0, 8, 16, 24, 31, 32]),
                    _ => *rng.pick(&[0, 16, 64, 65, 127, 128]),
                };
                Member::Prefix(network(host, len), len)
            }
            Kind::Pairs => Member::Pair(host, *rng.pick(&PORTS)),
            Kind::Ports => {
                let (a, b) = (*rng.pick(&PORTS), *rng.pick(&PORTS));
                Member::Ports(a.min(b), a.max(b))
            }
        }
    });
    LiveSet { name, kind, members: members.collect() }
}

fn network(host: IpAddr, len: u32) -> IpAddr {
    match host {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - len).unwrap_or(0);
            IpAddr::V4((u32::from(a) & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
            IpAddr::V6((u128::from(a) & mask).into())
        }
    }
}

/// Lets a rule ask live sets instead of what it asks, and add to them.
fn ask_sets(rng: &mut Rng, rule: &mut Rule) {
    let ports = matches!(rule.proto, Some(Proto::Tcp | Proto::Udp));
    for end in [&mut rule.from, &mut rule.to] {
        if rng.one_in(3) {
            end.addresses.clear();
            let pairs = ports && rng.one_in(3);
            let set = if pairs { "pairs" } else { *rng.pick(&["a1", "a2"]) };
            end.live = Some(Asks { set, not: rng.one_in(3) });
            if pairs {
                end.ports.clear();
                continue;
            }
        }
        if ports && rng.one_in(4) {
            end.ports.clear();
            end.live_ports = Some(Asks { set: "ports", not: rng.one_in(3) });
        }
    }
    for destination in [false, true] {
        if rng.one_in(4) {
            let pair = rng.one_in(3);
            let set = if pair { "pairs" } else { *rng.pick(&["a1", "a2"]) };
            rule.adds.push(Adds { set, pair, destination });
        }
    }
}

/// The segments of one connection, and whether each goes there or back.
pub fn segments(seed: u64, count: usize) -> Vec<(bool, Segment)> {
    let mut rng = Rng::new(seed ^ 0x5e9);
    let mut talk = Talk::random(&mut rng, 1);
    talk.only_tcp();
    (0..count).map(|_| talk.segment(&mut rng)).collect()
}

/// Time-outs that a timed case may have short.
const TIMEOUTS: [&str; 8] = [
    "tcp-handshake",
    "tcp-established",
    "tcp-half-closed",
    "tcp-closed",
    "udp-new",
    "udp-established",
    "icmp",
    "other",
];

/// The case of a seed, in which time passes now and then.
pub fn timed(seed: u64, interfaces: &[&str]) -> Case {
    let mut rng = Rng::new(seed ^ 0x71_3e);
    let mut case = case(seed, interfaces);
    let short: Vec<_> = TIMEOUTS.into_iter().filter(|_| rng.one_in(2)).collect();
    case.policy.short.clone_from(&short);
    for step in &mut case.steps {
        if let Step::Swap(policy) = step {
            policy.short.clone_from(&short);
        }
    }
    for _ in 0..2 {
        let at = rng.below(case.steps.len() + 1);
        case.steps.insert(at, Step::Wait);
    }
    case
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
        window: *rng.pick(&[Window::Strict, Window::Strict, Window::Liberal, Window::Off]),
        short: Vec::new(),
        malformed_passes: rng.one_in(3),
        ethertypes_pass: !rng.one_in(3),
        fragments_pass: rng.one_in(3),
        live: Vec::new(),
        nats: Vec::new(),
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
        for state in STATES {
            if rng.one_in(2) {
                states.push(state);
            }
        }
    }
    let action = *rng.pick(&[
        Action::Allow,
        Action::Allow,
        Action::Drop,
        Action::Drop,
        Action::Reject,
        Action::Count,
    ]);
    Rule {
        name,
        enabled: !rng.one_in(10),
        action,
        no_track: action == Action::Allow && rng.one_in(8),
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
        adds: Vec::new(),
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

pub(super) fn host(rng: &mut Rng, family: u8) -> IpAddr {
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
        state: *rng.pick(&STATES),
    }
}
