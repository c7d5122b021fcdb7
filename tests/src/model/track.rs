//! The oracle's flows: what begins one, what belongs to it, what ends it.

use super::gate::{Asked, Decision, Gate, ask};
use super::nat::Translated;
use super::parse::{Ends, Ip, Part, Role};
use super::policy::{Action, State, Way, Window};
use super::tcp::Connection;
use crate::packet::tcp::{ACK, FIN, RST, SYN};
use std::collections::BTreeMap;
use std::net::IpAddr;

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
    /// Its translation.
    pub nat: Option<Translated>,
    tcp: Option<Connection>,
    first_flags: u8,
    first_icmp: Option<(u8, u8)>,
    /// By way: judgement, and interface.
    judged: BTreeMap<Way, (u32, String, String)>,
    /// By "is a reply": whether that direction was ever seen coming in.
    came_in: [bool; 2],
    seen_reply: bool,
    told_established: bool,
    told_closed: bool,
    /// Time passed since its last packet.
    pub(super) idle: bool,
}

/// Both ends in order, and the protocol: the same for both directions. Families sort apart by
/// themselves.
pub type Key = ((IpAddr, u16), (IpAddr, u16), u8);

/// Key of a flow in the table.
pub fn name(ends: &Ends) -> Key {
    let (a, b) = ((ends.src, ends.sport), (ends.dst, ends.dport));
    (a.min(b), a.max(b), ends.proto)
}

/// Whether a packet with these ends goes against the direction of `original`.
pub fn is_reply(ends: &Ends, original: &Ends) -> bool {
    (ends.src, ends.sport) != (original.src, original.sport)
}

impl Flow {
    fn begun_by(ip: &Ip, way: Way) -> Self {
        Self {
            ends: ip.ends.clone(),
            packets: 1,
            bytes: ip.len as u64,
            reply_packets: 0,
            reply_bytes: 0,
            nat: None,
            tcp: ip.segment.as_ref().map(Connection::begin),
            first_flags: ip.flags,
            first_icmp: ip.icmp,
            judged: BTreeMap::new(),
            came_in: [way == Way::In, false],
            seen_reply: false,
            told_established: false,
            told_closed: false,
            idle: false,
        }
    }

    /// The ends that rules and translations see: the originator, and the destination inside.
    pub fn real(&self) -> &Ends {
        self.nat.as_ref().map_or(&self.ends, |nat| &nat.real)
    }

    /// Interface at which it came in.
    pub fn came_in_at(&self) -> Option<&str> {
        self.judged.get(&Way::In).map(|judged| judged.2.as_str())
    }

    /// Which of the policy's time-outs it has.
    fn timeout(&self) -> &'static str {
        match self.ends.proto {
            6 => match &self.tcp {
                Some(tcp) if tcp.over() => "tcp-closed",
                Some(tcp) if tcp.open() => "tcp-established",
                Some(tcp) if tcp.closing() => "tcp-half-closed",
                _ => "tcp-handshake",
            },
            17 | 136 if self.seen_reply => "udp-established",
            17 | 136 => "udp-new",
            1 | 58 => "icmp",
            132 => "sctp",
            47 => "gre",
            _ => "other",
        }
    }

    /// Whether a packet counts at this hook: at the way in, or at the way out if its direction never came
    /// in (a forwarded packet counts once).
    fn counts(&mut self, reply: bool, way: Way) -> bool {
        let came_in = &mut self.came_in[usize::from(reply)];
        *came_in |= way == Way::In;
        way == Way::In || !*came_in
    }

    /// Whether a packet that counts fits the connection.
    fn fits(&mut self, reply: bool, ip: &Ip, window: Window) -> bool {
        let (Some(tcp), Some(segment)) = (&mut self.tcp, &ip.segment) else { return true };
        if window == Window::Off || ip.part != Part::Whole {
            // What isn't followed can't be held to its numbers later on.
            tcp.loosen();
            return true;
        }
        tcp.fits(reply, segment)
    }
}

impl Gate {
    pub(super) fn track(
        &mut self,
        way: Way,
        interface: &str,
        ip: &Ip,
        seen: Option<&Ends>,
    ) -> Decision {
        // Only queries and answers have an identifier; other ICMP messages belong to no flow.
        let flow_like = ip.icmp.is_none() || matches!(ip.role, Role::Query | Role::Answer);
        if flow_like && let Some((key, reply)) = self.find(&ip.ends, way) {
            let flow = &self.flows[&key];
            let fresh_syn = ip.ends.proto == 6 && ip.flags & (SYN | ACK) == SYN;
            let again = fresh_syn && flow.tcp.as_ref().is_some_and(Connection::over);
            let late = flow.idle && self.policy.short.contains(&flow.timeout());
            if again || late {
                self.end(&key);
            } else {
                return self.known(&key, reply, way, interface, ip, seen);
            }
        }
        let (state, begins) = self.fresh(ip);
        let begins = begins && ip.part != Part::Later;
        let mut real = ip.ends.clone();
        let mut incoming = None;
        if begins
            && way == Way::In
            && let Some(nat) = self.destination_rule(interface, ip)
        {
            match nat.destination(&ip.ends, self.addresses.get(interface).copied()) {
                None => return (Action::Drop, "nat-impossible"),
                Some(to) => real = to,
            }
            incoming = Some(nat);
        }
        let question = ask(way, interface, &real, ip.flags, ip.icmp, state);
        let Asked { decision, rule, no_track } = self.ask_rules(&question, ip.len as u64);
        if decision.0 != Action::Allow {
            return decision;
        }
        if no_track {
            return (Action::Allow, "no-track");
        }
        if !begins {
            return decision;
        }
        let key = name(&ip.ends);
        let mut flow = Flow::begun_by(ip, way);
        flow.judged.insert(way, (self.generation, rule, interface.to_owned()));
        self.flows.insert(key, flow);
        self.tell("new");
        let refused = match incoming {
            Some(nat) => self.map_destination(&key, &nat, real),
            None if way == Way::Out => self.map_source(&key, interface, ip, seen),
            None => Ok(()),
        };
        match refused {
            Ok(()) => {
                self.plan_for(&key, false, way);
                decision
            }
            Err(reason) => {
                // It came to nothing: nobody is told of its end.
                self.forget(&key);
                (Action::Drop, reason)
            }
        }
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
                Role::Other => return (State::Untracked, false),
                Role::Answer | Role::Error => false,
            }
        } else {
            true
        };
        (if begins { State::New } else { State::Invalid }, begins)
    }

    /// A packet of a flow.
    fn known(
        &mut self,
        key: &Key,
        reply: bool,
        way: Way,
        interface: &str,
        ip: &Ip,
        seen: Option<&Ends>,
    ) -> Decision {
        let generation = self.generation;
        let window = self.policy.window;
        let Some(flow) = self.flows.get_mut(key) else { return (Action::Drop, "no such flow") };
        let counts = flow.counts(reply, way);
        let fits = !counts || flow.fits(reply, ip, window);
        if !fits && window == Window::Strict {
            return (Action::Drop, "out-of-window");
        }
        let decision = (Action::Allow, if fits { "established" } else { "out-of-window" });
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
            self.advance(key, reply, counts, fits, ip);
            self.plan_for(key, reply, way);
            return decision;
        };
        let (real, flags, icmp) = (flow.real().clone(), flow.first_flags, flow.first_icmp);
        let question = ask(at, &on, &real, flags, icmp, state);
        let asked = self.ask_rules(&question, ip.len as u64);
        if asked.decision.0 != Action::Allow {
            self.end(key);
            return asked.decision;
        }
        if (way, state) == (Way::Out, State::New)
            && let Err(reason) = self.map_source(key, interface, ip, seen)
        {
            self.end(key);
            return (Action::Drop, reason);
        }
        if let Some(flow) = self.flows.get_mut(key) {
            flow.judged.insert(at, (generation, asked.rule, on));
        }
        self.advance(key, reply, counts, fits, ip);
        self.plan_for(key, reply, way);
        decision
    }

    /// Takes a flow out of the table. That it ends is told once.
    fn end(&mut self, key: &Key) {
        if self.flows.get(key).is_some_and(|flow| !flow.told_closed) {
            self.tell("closed");
        }
        self.forget(key);
    }

    fn forget(&mut self, key: &Key) {
        self.flows.remove(key);
        self.aliases.retain(|_, (flow, _)| flow != key);
    }

    /// Counts a packet on its flow and steps the flow's life.
    fn advance(&mut self, key: &Key, reply: bool, counts: bool, fits: bool, ip: &Ip) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if !counts {
            return;
        }
        flow.idle = false;
        if reply {
            flow.reply_packets += 1;
            flow.reply_bytes += ip.len as u64;
        } else {
            flow.packets += 1;
            flow.bytes += ip.len as u64;
        }
        let first_reply = reply && !flow.seen_reply;
        flow.seen_reply |= reply;
        let mut closed = false;
        let established = match &mut flow.tcp {
            None => first_reply,
            Some(_) if ip.part == Part::Later || !fits => false,
            Some(tcp) => {
                let before = (tcp.open(), tcp.over());
                // A RST that its receiver doesn't believe changes nothing.
                let guess = ip.segment.as_ref().is_some_and(|s| !tcp.believes(reply, s));
                let flags = if guess { ip.flags & !RST } else { ip.flags };
                tcp.step(reply, flags);
                closed = tcp.over() && !before.1;
                tcp.open() && !before.0
            }
        };
        let mut told = Vec::new();
        if closed && !flow.told_closed {
            flow.told_closed = true;
            told.push("closed");
        }
        if established && !flow.told_established {
            flow.told_established = true;
            told.push("established");
        }
        told.into_iter().for_each(|class| self.tell(class));
    }
}
