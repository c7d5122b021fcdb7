//! The gate's translations: which flow has which other tuples, and who may have which.

use super::gate::Gate;
use super::nat::{self, Choice, Kind, Moved, Nat, Plan, Translated, has_free_ports};
use super::parse::{Ends, Ip};
use super::policy::Way;
use super::track::{Key, is_reply, name};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a mapping can't be.
type Refused = &'static str;

impl Gate {
    /// The flow of a packet, by its own tuple or by another, and whether it is a reply.
    pub(super) fn find(&self, ends: &Ends, way: Way) -> Option<(Key, bool)> {
        let key = name(ends);
        if let Some(flow) = self.flows.get(&key) {
            let reply = is_reply(ends, &flow.ends);
            // Replies come to the public address: one that doesn't is of another flow.
            let elsewhere =
                reply && way == Way::In && flow.nat.as_ref().is_some_and(|nat| nat.source);
            if !elsewhere {
                return Some((key, reply));
            }
        }
        let (flow, original) = self.aliases.get(&key)?;
        Some((*flow, is_reply(ends, original)))
    }

    /// The flow of a packet that an ICMP error quotes.
    pub(super) fn find_quoted(&self, ends: &Ends) -> Option<(Key, bool)> {
        let key = name(ends);
        if let Some(flow) = self.flows.get(&key) {
            return Some((key, is_reply(ends, &flow.ends)));
        }
        let (flow, original) = self.aliases.get(&key)?;
        Some((*flow, is_reply(ends, original)))
    }

    /// Says how a packet of a flow is rewritten at this hook.
    pub(super) fn plan_for(&mut self, key: &Key, reply: bool, way: Way) {
        let Some(flow) = self.flows.get(key) else { return };
        let Some(nat) = &flow.nat else { return };
        let to = match (way, reply) {
            (Way::In, false) if nat.destination => (false, nat.outer.dst, nat.outer.dport),
            (Way::In, true) if nat.source => (false, flow.ends.src, flow.ends.sport),
            (Way::Out, false) if nat.source => (true, nat.outer.src, nat.outer.sport),
            (Way::Out, true) if nat.destination => (true, flow.ends.dst, flow.ends.dport),
            _ => return,
        };
        let (source, address, port) = to;
        self.plan = Some(Plan { source, address, port: Some(port), quoted: None });
    }

    /// The translation of a new flow's destination.
    pub(super) fn destination_rule(&self, interface: &str, ip: &Ip) -> Option<Nat> {
        self.policy.nats.iter().find(|nat| nat.takes_destination(interface, &ip.ends)).cloned()
    }

    /// Gives a new flow its destination inside.
    pub(super) fn map_destination(
        &mut self,
        key: &Key,
        nat: &Nat,
        to: Ends,
    ) -> Result<(), Refused> {
        if self.taken(&to) {
            return Err("nat-exhausted");
        }
        self.aliases.insert(name(&to), (*key, to.clone()));
        if let Some(flow) = self.flows.get_mut(key) {
            flow.nat = Some(Translated {
                real: to.clone(),
                outer: to,
                source: false,
                destination: true,
                hairpin: nat.hairpin,
                by: None,
            });
        }
        self.tell("nat");
        Ok(())
    }

    /// Gives a flow that leaves for the first time its public source, where a translation wants it to
    /// have one.
    pub(super) fn map_source(
        &mut self,
        key: &Key,
        interface: &str,
        ip: &Ip,
        seen: Option<&Ends>,
    ) -> Result<(), Refused> {
        let Some(flow) = self.flows.get(key) else { return Ok(()) };
        let real = flow.real().clone();
        let hairpin = flow.nat.as_ref().is_some_and(|nat| nat.hairpin)
            && flow.came_in_at() == Some(interface);
        let rule = self.policy.nats.iter().find(|nat| nat.takes_source(interface, &real)).cloned();
        let rule = match rule {
            Some(rule) => rule,
            None if hairpin => Nat::new("hairpin", interface, Kind::Masquerade),
            None => return Ok(()),
        };
        let own = self.addresses.get(interface).copied();
        let Some(choice) = rule.source(&real, own) else {
            return Err(if rule.kind == Kind::Masquerade {
                "nat-impossible"
            } else {
                "nat-exhausted"
            });
        };
        let its_own = IpAddr::V4(choice.addresses.0) == real.src;
        if rule.kind == Kind::Masquerade && its_own && !self.aliases.contains_key(&name(&ip.ends)) {
            return Ok(());
        }
        let outer = self.choose(&rule, &choice, &real, seen).ok_or("nat-exhausted")?;
        self.public.insert((rule.name.clone(), real.src), outer.src);
        self.aliases.insert(name(&outer), (*key, outer.clone()));
        if let Some(flow) = self.flows.get_mut(key) {
            let destination = flow.nat.as_ref().is_some_and(|nat| nat.destination);
            let hairpin = flow.nat.as_ref().is_some_and(|nat| nat.hairpin);
            let by = Some(rule.name);
            flow.nat = Some(Translated { real, outer, source: true, destination, hairpin, by });
        }
        self.tell("nat");
        Ok(())
    }

    /// A tuple for a source: what the kernel chose, if that is allowed, else the first that is.
    fn choose(
        &self,
        rule: &Nat,
        choice: &Choice,
        real: &Ends,
        seen: Option<&Ends>,
    ) -> Option<Ends> {
        let as_source = |address: IpAddr, port: u16| {
            let mut outer = Ends { src: address, sport: port, ..real.clone() };
            if real.proto == 1 {
                // A query has one identifier.
                outer.dport = port;
            }
            outer
        };
        let (low, high) = choice.ports.unwrap_or((real.sport, real.sport));
        let fixed = self.endpoint(rule, real);
        let known = self.public.get(&(rule.name.clone(), real.src));
        let allowed = |ends: &Ends| {
            let IpAddr::V4(address) = ends.src else { return false };
            (choice.addresses.0..=choice.addresses.1).contains(&address)
                && (low..=high).contains(&ends.sport)
                && known.is_none_or(|known| *known == ends.src)
                && fixed.is_none_or(|fixed| fixed == (ends.src, ends.sport))
                && !self.taken(ends)
        };
        if let Some(seen) = seen {
            let hint =
                as_source(seen.src, if has_free_ports(real.proto) { seen.sport } else { low });
            if allowed(&hint) {
                return Some(hint);
            }
        }
        let (first, last) = (u32::from(choice.addresses.0), u32::from(choice.addresses.1));
        (first..=last)
            .flat_map(|address| (low..=high).map(move |port| (Ipv4Addr::from(address), port)))
            .map(|(address, port)| as_source(address.into(), port))
            .find(allowed)
    }

    /// The public endpoint that an endpoint inside has already, where it is to keep it.
    fn endpoint(&self, rule: &Nat, real: &Ends) -> Option<(IpAddr, u16)> {
        if !rule.endpoint_independent || !has_free_ports(real.proto) {
            return None;
        }
        self.flows.values().find_map(|flow| {
            let nat = flow.nat.as_ref()?;
            let same = nat.by.as_ref() == Some(&rule.name)
                && (nat.real.src, nat.real.sport, nat.real.proto)
                    == (real.src, real.sport, real.proto);
            same.then_some((nat.outer.src, nat.outer.sport))
        })
    }

    /// Whether a tuple is somebody's.
    fn taken(&self, ends: &Ends) -> bool {
        let key = name(ends);
        self.aliases.contains_key(&key) || self.flows.contains_key(&key)
    }

    /// IPv6 prefixes have no state: on the way in a destination is translated before anything else. An
    /// error's quoted packet went the other way: its source is.
    pub(super) fn prefix_in(
        &mut self,
        way: Way,
        interface: &str,
        ip: &mut Ip,
    ) -> Result<(), Refused> {
        if way != Way::In || !ip.ends.dst.is_ipv6() {
            return Ok(());
        }
        let outer = self.other_prefix(interface, ip.ends.dst, false)?;
        let quoted = match &ip.quoted {
            // One that has no counterpart stays, and belongs to no flow.
            Some(quoted) => self.other_prefix(interface, quoted.src, false).unwrap_or_default(),
            None => None,
        };
        if outer.is_some() || quoted.is_some() {
            let address = outer.unwrap_or(ip.ends.dst);
            self.plan = Some(Plan { source: false, address, port: None, quoted });
        }
        ip.ends.dst = outer.unwrap_or(ip.ends.dst);
        if let (Some(quoted), Some(to)) = (&mut ip.quoted, quoted) {
            quoted.src = to;
        }
        Ok(())
    }

    /// On the way out a source is translated behind everything else; an error's quoted destination with it.
    pub(super) fn prefix_out(&mut self, way: Way, interface: &str, ip: &Ip) -> Result<(), Refused> {
        if way != Way::Out || !ip.ends.src.is_ipv6() {
            return Ok(());
        }
        let outer = self.other_prefix(interface, ip.ends.src, true)?;
        let quoted = match &ip.quoted {
            Some(quoted) => self.other_prefix(interface, quoted.dst, true)?,
            None => None,
        };
        if outer.is_some() || quoted.is_some() {
            let address = outer.unwrap_or(ip.ends.src);
            self.plan = Some(Plan { source: true, address, port: None, quoted });
        }
        Ok(())
    }

    fn other_prefix(
        &self,
        interface: &str,
        address: IpAddr,
        outwards: bool,
    ) -> Result<Option<IpAddr>, Refused> {
        let IpAddr::V6(address) = address else { return Ok(None) };
        let moved =
            self.policy.nats.iter().filter(|nat| nat.interface == interface).find_map(|nat| {
                let Kind::Prefix(inside, outside, len) = nat.kind else { return None };
                let (from, to): (Ipv6Addr, Ipv6Addr) =
                    if outwards { (inside, outside) } else { (outside, inside) };
                nat::prefix(address, from, to, len)
            });
        match moved {
            None => Ok(None),
            Some(Moved::To(to)) => Ok(Some(to.into())),
            Some(Moved::Nowhere) => Err("nat-impossible"),
        }
    }
}
