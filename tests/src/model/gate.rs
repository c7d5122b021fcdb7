//! The oracle itself: one packet after the other against one policy and one table of flows.
//!
//! What it implements, in words (docs/policy.md and docs/abi.md say the same to operators):
//!
//! 1. What can't be read gets the policy's `malformed` verdict; ARP and neighbour discovery with hop
//!    limit 255 pass; other EtherTypes get the `ethertypes` verdict.
//! 2. A later fragment takes ports, flags and ICMP type from its first; without one it gets the
//!    `fragments` verdict.
//! 3. An ICMP error that quotes a packet of a known flow passes.
//! 4. A packet of a known flow that the live policy has judged at this hook passes. What an older
//!    policy judged is judged again as the packet that began the flow: allowed, the flow goes on;
//!    else the flow is gone. A reply renews what the original direction was judged by.
//! 5. A TCP segment of a known flow has to fit what both ends sent and allowed ([`super::tcp`]), at the
//!    hook where it counts: `strict` drops it otherwise, and nothing of it counts; `liberal` lets it by
//!    under a reason of its own, without a step of the flow's life.
//! 6. Everything else asks the rules in order, then the direction's default. Allowed, and able to
//!    begin a flow: it does, unless a rule says `no-track`.
//! 7. A reject that can't be answered is a drop with a reason of its own.
//! 8. Translation ([`super::nat`]): a destination on the way in, before the rules; a source on the way
//!    out, behind them.

use super::nat::Plan;
use super::parse::{self, Ends, Frame, Ip, Part, Role};
use super::policy::{Action, Policy, Question, State, Way};
use super::rewrite;
use super::sets::{self, Contents};
use super::track::{Flow, Key};
use crate::packet::tcp::RST;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Went on.
    Pass,
    /// Vanished.
    Drop,
    /// Was answered.
    Answer,
}

/// A rule's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCount {
    /// Packets that met it.
    pub hits: u64,
    /// Packets it decided, those of its flows included.
    pub packets: u64,
    /// Bytes of those from the IP header on.
    pub bytes: u64,
}

/// What a later fragment takes from its first.
#[derive(Clone, Debug)]
struct First {
    ends: Ends,
    flags: u8,
    icmp: Option<(u8, u8)>,
    role: Role,
}

/// Source, destination, identification, and for IPv4 the protocol.
type FragmentKey = (IpAddr, IpAddr, u32, u8);

/// The gate: a policy, flows, counters.
#[derive(Clone, Debug)]
pub struct Gate {
    pub(super) policy: Policy,
    pub(super) generation: u32,
    /// Live flows.
    pub flows: BTreeMap<Key, Flow>,
    /// Other tuples of translated flows: the flow's own key, and what the original direction shows.
    pub(super) aliases: BTreeMap<Key, (Key, Ends)>,
    /// Public address of each host inside that has one (RFC 4787 REQ-2).
    pub(super) public: BTreeMap<(String, IpAddr), IpAddr>,
    /// First address of each interface.
    pub addresses: BTreeMap<String, Ipv4Addr>,
    /// How the packet at hand is rewritten.
    pub(super) plan: Option<Plan>,
    firsts: BTreeMap<FragmentKey, First>,
    /// What live sets hold.
    pub sets: Contents,
    /// By rule name (`default in`, `default out` for the defaults).
    pub rules: BTreeMap<String, RuleCount>,
    /// By verdict and reason: packets, and bytes of their frames.
    pub reasons: BTreeMap<(&'static str, &'static str), (u64, u64)>,
    /// Events by class, those that sampling may hold back included.
    pub events: BTreeMap<&'static str, u64>,
}

/// What the rules say of a packet.
pub(super) struct Asked {
    pub(super) decision: Decision,
    /// Name of who decided.
    pub(super) rule: String,
    /// It is not to begin a flow.
    pub(super) no_track: bool,
}

/// How the packet was decided: verdict, reason.
pub(super) type Decision = (Action, &'static str);

impl Gate {
    /// A gate with its first policy.
    pub fn new(policy: Policy) -> Self {
        let sets = policy.live.iter().map(|set| (set.name, set.members.clone())).collect();
        Self {
            policy,
            sets,
            generation: 1,
            flows: BTreeMap::new(),
            aliases: BTreeMap::new(),
            public: BTreeMap::new(),
            addresses: BTreeMap::new(),
            plan: None,
            firsts: BTreeMap::new(),
            rules: BTreeMap::new(),
            reasons: BTreeMap::new(),
            events: BTreeMap::new(),
        }
    }

    /// Another policy; flows and counters stay.
    pub fn swap(&mut self, policy: Policy) {
        self.policy = policy;
        self.generation += 1;
    }

    /// Time passes: longer than the time-outs that the policy has short, shorter than all others.
    pub fn wait(&mut self) {
        self.flows.values_mut().for_each(|flow| flow.idle = true);
    }

    /// Judges one frame at a hook of an interface.
    pub fn packet(&mut self, way: Way, interface: &str, frame: &[u8]) -> Fate {
        self.translated(way, interface, frame, None).0
    }

    /// Judges one frame, and says what goes on. `seen` is what the kernel let go on: where a public port
    /// is to be chosen, its choice is taken if it is a good one.
    pub fn translated(
        &mut self,
        way: Way,
        interface: &str,
        frame: &[u8],
        seen: Option<&[u8]>,
    ) -> (Fate, Vec<u8>) {
        self.plan = None;
        let seen = seen.and_then(|frame| match parse::read(frame) {
            Ok(Frame::Ip(ip)) => Some(ip.ends),
            _ => None,
        });
        let (decision, ip) = self.judge(way, interface, frame, seen.as_ref());
        let fate = self.settle(decision, ip.as_ref(), frame);
        let out = match (&self.plan, fate) {
            (Some(plan), Fate::Pass) => rewrite::frame(frame, plan),
            _ => frame.to_vec(),
        };
        (fate, out)
    }

    /// Counts what was decided.
    fn settle(&mut self, decision: Decision, ip: Option<&Ip>, frame: &[u8]) -> Fate {
        let (verdict, reason) = match (ip, decision) {
            (Some(ip), (Action::Reject, _)) if !answerable(ip, frame) => {
                (Action::Drop, "reject-impossible")
            }
            _ => decision,
        };
        let word = match verdict {
            Action::Allow | Action::Count => "allow",
            Action::Drop => "drop",
            Action::Reject => "reject",
        };
        let count = self.reasons.entry((word, reason)).or_default();
        count.0 += 1;
        count.1 += frame.len() as u64;
        match verdict {
            Action::Allow | Action::Count => Fate::Pass,
            Action::Drop => {
                self.tell("verdict");
                Fate::Drop
            }
            Action::Reject => {
                self.tell("verdict");
                Fate::Answer
            }
        }
    }

    pub(super) fn tell(&mut self, class: &'static str) {
        *self.events.entry(class).or_default() += 1;
    }

    fn judge(
        &mut self,
        way: Way,
        interface: &str,
        frame: &[u8],
        seen: Option<&Ends>,
    ) -> (Decision, Option<Ip>) {
        let verdict = |passes: bool| if passes { Action::Allow } else { Action::Drop };
        let mut ip = match parse::read(frame) {
            Err(reason) => return ((verdict(self.policy.malformed_passes), reason), None),
            Ok(Frame::Arp) => return ((Action::Allow, "arp"), None),
            Ok(Frame::Other) => {
                return ((verdict(self.policy.ethertypes_pass), "unknown-ethertype"), None);
            }
            Ok(Frame::Ip(ip)) => ip,
        };
        if ip.ends.src.is_ipv6()
            && ip.part == Part::Whole
            && ip.ttl == 255
            && matches!(ip.icmp, Some((133..=137, _)))
        {
            return ((Action::Allow, "neighbour-discovery"), Some(ip));
        }
        let fragment_key = (
            ip.ends.src,
            ip.ends.dst,
            ip.id,
            if ip.ends.src.is_ipv4() { ip.ends.proto } else { 0 },
        );
        match ip.part {
            Part::Whole => {}
            Part::First => {
                let first =
                    First { ends: ip.ends.clone(), flags: ip.flags, icmp: ip.icmp, role: ip.role };
                self.firsts.insert(fragment_key, first);
            }
            Part::Later => match self.firsts.get(&fragment_key) {
                Some(first) => {
                    (ip.ends, ip.flags, ip.icmp, ip.role) =
                        (first.ends.clone(), first.flags, first.icmp, first.role);
                }
                None => {
                    return (
                        (verdict(self.policy.fragments_pass), "fragment-without-first"),
                        Some(ip),
                    );
                }
            },
        }
        if let Err(reason) = self.prefix_in(way, interface, &mut ip) {
            return ((Action::Drop, reason), Some(ip));
        }
        if let Some(quoted) = &ip.quoted
            && let Some((flow, reply)) = self.find_quoted(quoted)
        {
            // The error goes the other way than what it quotes.
            self.plan_for(&flow, !reply, way);
            return (self.leaving((Action::Allow, "related"), way, interface, &ip), Some(ip));
        }
        let decision = self.track(way, interface, &ip, seen);
        (self.leaving(decision, way, interface, &ip), Some(ip))
    }

    /// What may leave gets its prefix.
    fn leaving(&mut self, decision: Decision, way: Way, interface: &str, ip: &Ip) -> Decision {
        if decision.0 != Action::Allow {
            return decision;
        }
        match self.prefix_out(way, interface, ip) {
            Ok(()) => decision,
            Err(reason) => (Action::Drop, reason),
        }
    }

    /// The first rule that decides, or the default; counts every rule met.
    pub(super) fn ask_rules(&mut self, question: &Question<'_>, bytes: u64) -> Asked {
        let mut met = Vec::new();
        let mut logs = 0;
        let mut decision = None;
        let mut no_track = false;
        // Sets decide as they were when the packet came; rules that only count see what those above them added.
        let before = self.sets.clone();
        let decides =
            self.policy.rules.iter().position(|rule| {
                rule.action != Action::Count && rule.matches_with(question, &before)
            });
        for (i, rule) in self.policy.rules.iter().enumerate() {
            let is_it = decides == Some(i);
            let counts = rule.action == Action::Count && rule.matches_with(question, &self.sets);
            if !is_it && !counts {
                continue;
            }
            met.push(rule.name.clone());
            logs += u64::from(rule.log);
            for adds in &rule.adds {
                let ports = question.ports;
                let (address, port) = if adds.destination {
                    (question.dst, ports.map(|ports| ports.1))
                } else {
                    (question.src, ports.map(|ports| ports.0))
                };
                sets::add(&mut self.sets, *adds, address, port);
            }
            if is_it {
                decision = Some((rule.action, "rule"));
                no_track = rule.no_track;
                break;
            }
        }
        let decision = decision.unwrap_or_else(|| {
            met.push(format!("default {}", question.way));
            let default = if question.way == Way::In {
                self.policy.default_in
            } else {
                self.policy.default_out
            };
            (default, "default")
        });
        for name in &met {
            let count = self.rules.entry(name.clone()).or_default();
            count.hits += 1;
            count.packets += 1;
            count.bytes += bytes;
        }
        for _ in 0..logs {
            self.tell("log");
        }
        Asked { decision, rule: met.pop().unwrap_or_default(), no_track }
    }
}

pub(super) fn ask<'a>(
    way: Way,
    interface: &'a str,
    ends: &Ends,
    flags: u8,
    icmp: Option<(u8, u8)>,
    state: State,
) -> Question<'a> {
    Question {
        way,
        interface,
        src: ends.src,
        dst: ends.dst,
        proto: ends.proto,
        ports: matches!(ends.proto, 6 | 17 | 132 | 136).then_some((ends.sport, ends.dport)),
        flags: (ends.proto == 6).then_some(flags),
        icmp,
        state,
    }
}

/// Whether a packet may be answered (RFC 1122 3.2.2, RFC 4443 2.4 (e)): not to groups, not for later
/// fragments, ICMP errors or RSTs; and what can't be quoted from a plain IP header and eight bytes
/// isn't.
fn answerable(ip: &Ip, frame: &[u8]) -> bool {
    let group = frame[0] & 1 != 0;
    let hosts = match (ip.ends.src, ip.ends.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            src.octets()[0] != 0 && src.octets()[0] < 224 && dst.octets()[0] < 224
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            !src.is_multicast() && !dst.is_multicast() && !src.is_unspecified()
        }
        _ => false,
    };
    if group || !hosts || ip.part == Part::Later || ip.role == Role::Error {
        return false;
    }
    if ip.ends.proto == 6 {
        return ip.flags & RST == 0;
    }
    let plain = if ip.ends.src.is_ipv4() { 20 } else { 40 };
    ip.header == plain && ip.len >= plain + 8
}
