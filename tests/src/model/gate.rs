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
//! 5. Everything else asks the rules in order, then the direction's default. Allowed, and able to
//!    begin a flow: it does.
//! 6. A reject that can't be answered is a drop with a reason of its own.

use super::parse::{self, Ends, Frame, Ip, Part, Role};
use super::policy::{Action, Policy, Question, State, Way};
use crate::packet::tcp::{ACK, FIN, RST, SYN};
use std::collections::BTreeMap;
use std::net::IpAddr;

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

/// A flow's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tcp {
    SynSent,
    SynReceived,
    Established,
    /// One side said FIN: the responder, if true.
    Fin(bool),
    Closed,
    Reset,
}

impl Tcp {
    fn begin(flags: u8) -> Self {
        match (flags & SYN != 0, flags & ACK != 0, flags & FIN != 0) {
            (true, false, _) => Self::SynSent,
            (true, true, _) => Self::SynReceived,
            (false, _, true) => Self::Fin(false),
            (false, _, false) => Self::Established,
        }
    }

    fn step(self, reply: bool, flags: u8) -> Self {
        if flags & RST != 0 {
            return Self::Reset;
        }
        if self.over() {
            return self;
        }
        if flags & FIN != 0 {
            return if self == Self::Fin(!reply) { Self::Closed } else { Self::Fin(reply) };
        }
        match self {
            Self::SynSent if reply && flags & SYN != 0 => Self::SynReceived,
            Self::SynReceived if !reply && flags & (SYN | ACK) == ACK => Self::Established,
            same => same,
        }
    }

    fn over(self) -> bool {
        matches!(self, Self::Closed | Self::Reset)
    }
}

/// A flow.
#[derive(Clone, Debug)]
pub struct Flow {
    /// As the packet that began it.
    pub ends: Ends,
    /// Packets of the original direction.
    pub packets: u64,
    /// Bytes of the original direction.
    pub bytes: u64,
    /// Packets of the other direction.
    pub reply_packets: u64,
    /// Bytes of the other direction.
    pub reply_bytes: u64,
    tcp: Option<Tcp>,
    first_flags: u8,
    first_icmp: Option<(u8, u8)>,
    /// By way: judgement, and interface.
    judged: BTreeMap<Way, (u32, String, String)>,
    /// By "is a reply": whether that direction was ever seen coming in.
    came_in: [bool; 2],
    seen_reply: bool,
    told_established: bool,
    told_closed: bool,
}

/// Both ends in order, and the protocol: the same for both directions.
type Key = ((IpAddr, u16), (IpAddr, u16), u8);

fn key(ends: &Ends) -> Key {
    let (a, b) = ((ends.src, ends.sport), (ends.dst, ends.dport));
    (a.min(b), a.max(b), ends.proto)
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
    policy: Policy,
    generation: u32,
    /// Live flows.
    pub flows: BTreeMap<(String, Key), Flow>,
    firsts: BTreeMap<FragmentKey, First>,
    /// By rule name (`default in`, `default out` for the defaults).
    pub rules: BTreeMap<String, RuleCount>,
    /// By verdict and reason: packets, and bytes of their frames.
    pub reasons: BTreeMap<(&'static str, &'static str), (u64, u64)>,
    /// Events by class, those that sampling may hold back included.
    pub events: BTreeMap<&'static str, u64>,
}

/// How the packet was decided: verdict, reason.
type Decision = (Action, &'static str);

impl Gate {
    /// A gate with its first policy.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            generation: 1,
            flows: BTreeMap::new(),
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

    /// Judges one frame at a hook of an interface.
    pub fn packet(&mut self, way: Way, interface: &str, frame: &[u8]) -> Fate {
        let (decision, ip) = self.judge(way, interface, frame);
        let (verdict, reason) = match (&ip, decision) {
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

    fn tell(&mut self, class: &'static str) {
        *self.events.entry(class).or_default() += 1;
    }

    fn judge(&mut self, way: Way, interface: &str, frame: &[u8]) -> (Decision, Option<Ip>) {
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
        if let Some(quoted) = &ip.quoted
            && self.flows.contains_key(&self.name(quoted))
        {
            return ((Action::Allow, "related"), Some(ip));
        }
        (self.track(way, interface, &ip), Some(ip))
    }

    /// Key of a flow in the table; the family keeps equal-looking ends apart.
    fn name(&self, ends: &Ends) -> (String, Key) {
        (if ends.src.is_ipv4() { "4".into() } else { "6".into() }, key(ends))
    }

    fn track(&mut self, way: Way, interface: &str, ip: &Ip) -> Decision {
        let name = self.name(&ip.ends);
        // Only queries and answers have an identifier; other ICMP messages belong to no flow.
        let flow_like = ip.icmp.is_none() || matches!(ip.role, Role::Query | Role::Answer);
        if flow_like && let Some(mut flow) = self.flows.remove(&name) {
            let fresh_syn = ip.ends.proto == 6 && ip.flags & (SYN | ACK) == SYN;
            if fresh_syn && flow.tcp.is_some_and(Tcp::over) {
                self.close(&mut flow);
            } else {
                return self.known(name, flow, way, interface, ip);
            }
        }
        let (state, begins) = self.fresh(ip);
        let question = ask(way, interface, &ip.ends, ip.flags, ip.icmp, state);
        let (decision, rule) = self.ask_rules(&question, ip.len as u64);
        if decision.0 == Action::Allow && begins && ip.part != Part::Later {
            let mut flow = Flow {
                ends: ip.ends.clone(),
                packets: 1,
                bytes: ip.len as u64,
                reply_packets: 0,
                reply_bytes: 0,
                tcp: (ip.ends.proto == 6).then(|| Tcp::begin(ip.flags)),
                first_flags: ip.flags,
                first_icmp: ip.icmp,
                judged: BTreeMap::new(),
                came_in: [way == Way::In, false],
                seen_reply: false,
                told_established: false,
                told_closed: false,
            };
            flow.judged.insert(way, (self.generation, rule, interface.to_owned()));
            self.flows.insert(name, flow);
            self.tell("new");
        }
        decision
    }

    /// State of a packet without a flow, and whether it may begin one.
    fn fresh(&self, ip: &Ip) -> (State, bool) {
        let begins = if ip.ends.proto == 6 {
            let has = |flag: u8| ip.flags & flag != 0;
            match (has(RST), has(SYN)) {
                (true, _) => false,
                // A handshake's first segment; with pick-up its second will do.
                (_, true) => !has(FIN) && (!has(ACK) || self.policy.pickup),
                (_, false) => has(ACK) && self.policy.pickup,
            }
        } else if ip.icmp.is_some() {
            match ip.role {
                Role::Query => true,
                // Messages that ask nothing (router discovery beyond the link, unknown types) are
                // judged, and remembered by nobody.
                Role::Other => return (State::New, false),
                Role::Answer | Role::Error => false,
            }
        } else {
            true
        };
        (if begins { State::New } else { State::Invalid }, begins)
    }

    /// A packet of a flow, which was taken out of the table and is put back if it lives on.
    fn known(
        &mut self,
        name: (String, Key),
        mut flow: Flow,
        way: Way,
        interface: &str,
        ip: &Ip,
    ) -> Decision {
        let reply = (ip.ends.src, ip.ends.sport) != (flow.ends.src, flow.ends.sport);
        let generation = self.generation;
        let stale = |way: Way| flow.judged.get(&way).is_some_and(|judged| judged.0 != generation);
        // At which hook, and on which interface, the original direction has to be judged again.
        let again: Option<(Way, String, State)> = if reply {
            [Way::In, Way::Out]
                .into_iter()
                .find(|way| stale(*way))
                .map(|way| (way, flow.judged[&way].2.clone(), State::Established))
        } else {
            match flow.judged.get(&way) {
                Some((judged, _, _)) if *judged == generation => None,
                Some(_) => Some((way, interface.to_owned(), State::Established)),
                // A forwarded flow's first packet at its second hook.
                None => Some((way, interface.to_owned(), State::New)),
            }
        };
        let Some((at, on, state)) = again else {
            // The original direction's packets count for the rule that judged it at this hook; a
            // forwarded reply's for that of the hook across, where the original went the other way.
            let across = if way == Way::In { Way::Out } else { Way::In };
            let order = if reply { [across, way] } else { [way, across] };
            let rule =
                order.iter().find_map(|way| flow.judged.get(way)).map(|judged| judged.1.clone());
            let count = self.rules.entry(rule.unwrap_or_default()).or_default();
            count.packets += 1;
            count.bytes += ip.len as u64;
            self.advance(&mut flow, reply, way, ip);
            self.flows.insert(name, flow);
            return (Action::Allow, "established");
        };
        let question = ask(at, &on, &flow.ends, flow.first_flags, flow.first_icmp, state);
        let (decision, rule) = self.ask_rules(&question, ip.len as u64);
        if decision.0 != Action::Allow {
            self.close(&mut flow);
            return decision;
        }
        flow.judged.insert(at, (generation, rule, on));
        self.advance(&mut flow, reply, way, ip);
        self.flows.insert(name, flow);
        (Action::Allow, "established")
    }

    /// A flow that ends is told once.
    fn close(&mut self, flow: &mut Flow) {
        if !flow.told_closed {
            flow.told_closed = true;
            self.tell("closed");
        }
    }

    /// Counts a packet on its flow and steps the flow's life: at the way in, or at the way out if its
    /// direction never came in (a forwarded packet counts once).
    fn advance(&mut self, flow: &mut Flow, reply: bool, way: Way, ip: &Ip) {
        let came_in = &mut flow.came_in[usize::from(reply)];
        if way == Way::In {
            *came_in = true;
        } else if *came_in {
            return;
        }
        if reply {
            flow.reply_packets += 1;
            flow.reply_bytes += ip.len as u64;
        } else {
            flow.packets += 1;
            flow.bytes += ip.len as u64;
        }
        let first_reply = reply && !flow.seen_reply;
        flow.seen_reply |= reply;
        let established = match flow.tcp {
            None => first_reply,
            Some(_) if ip.part == Part::Later => false,
            Some(before) => {
                let after = before.step(reply, ip.flags);
                flow.tcp = Some(after);
                if after.over() && !before.over() {
                    self.close(flow);
                }
                after == Tcp::Established && before != Tcp::Established
            }
        };
        if established && !flow.told_established {
            flow.told_established = true;
            self.tell("established");
        }
    }

    /// The first rule that decides, or the default; counts every rule met. The name of who decided.
    fn ask_rules(&mut self, question: &Question<'_>, bytes: u64) -> (Decision, String) {
        let mut met = Vec::new();
        let mut logs = 0;
        let mut decision = None;
        for rule in &self.policy.rules {
            if rule.matches(question) {
                met.push(rule.name.clone());
                logs += u64::from(rule.log);
                if rule.action != Action::Count {
                    decision = Some((rule.action, "rule"));
                    break;
                }
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
        (decision, met.pop().unwrap_or_default())
    }
}

fn ask<'a>(
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
