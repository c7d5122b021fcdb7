//! What the filter judged lately, for those who look for the rule behind a socket: flows that began, and packets
//! that were refused. Kept from one collection to the next, and no more than so many.

use super::{FlowRecord, Names, names::rule_text, shown::judged_by};
use firewall_common::abi::event::{Class, Event};
use firewall_common::abi::table::Verdict;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// Judgements that are kept until they are collected.
const KEPT: usize = 65_536;

/// Two ends and a protocol, as one of the ends sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ends {
    /// IP protocol number.
    pub proto: u8,
    /// 4 or 6. An address of IPv4 in IPv6's clothes (RFC 4291 section 2.5.5.2) is one of IPv4.
    pub family: u8,
    /// This end's address; IPv4 in the first four bytes, the rest zero.
    pub local: [u8; 16],
    /// Its port, host-endian.
    pub local_port: u16,
    /// The other end's address; as `local`.
    pub remote: [u8; 16],
    /// Its port, host-endian.
    pub remote_port: u16,
}

impl Ends {
    /// The same as the other end sees it.
    #[must_use]
    pub const fn turned(&self) -> Self {
        let Self { proto, family, local, local_port, remote, remote_port } = *self;
        Self {
            proto,
            family,
            local: remote,
            local_port: remote_port,
            remote: local,
            remote_port: local_port,
        }
    }

    /// Without IPv6's clothes.
    #[must_use]
    pub fn plain(self) -> Self {
        let bare = |bytes: &[u8; 16]| {
            let four = Ipv6Addr::from(*bytes).to_ipv4_mapped()?.octets();
            let mut wide = [0; 16];
            wide.get_mut(..4)?.copy_from_slice(&four);
            Some(wide)
        };
        match (self.family, bare(&self.local), bare(&self.remote)) {
            (6, Some(local), Some(remote)) => Self { family: 4, local, remote, ..self },
            _ => self,
        }
    }

    /// Of a flow, from where it began.
    pub fn of_flow(record: &FlowRecord) -> Self {
        Self {
            proto: record.proto,
            family: record.family,
            local: record.src,
            local_port: record.sport,
            remote: record.dst,
            remote_port: record.dport,
        }
    }

    /// Of a flow, as it goes out when it is translated.
    pub fn translated(record: &FlowRecord) -> Option<Self> {
        let nat = record.nat?;
        let wide = |four: [u8; 4]| {
            let mut wide = [0; 16];
            let [a, b, c, d, ..] = &mut wide;
            [*a, *b, *c, *d] = four;
            wide
        };
        Some(Self {
            proto: record.proto,
            family: 4,
            local: wide(nat.src),
            local_port: nat.sport,
            remote: wide(nat.dst),
            remote_port: nat.dport,
        })
    }
}

/// One judgement.
#[derive(Clone, Debug)]
pub struct Judged {
    /// From where it began, or was refused.
    pub ends: Ends,
    /// The rule.
    pub rule: Arc<str>,
    /// The packet was refused; else a flow began.
    pub refused: bool,
}

/// Whoever is shown judgements: ends, whether they were refused, and how to get the rule's name.
pub type Visit<'a> = &'a mut dyn FnMut(&Ends, bool, &dyn Fn() -> Arc<str>);

/// Those since the last collection. Nothing is kept until somebody says that he collects.
#[derive(Debug, Default)]
pub struct JudgedLog {
    wanted: bool,
    kept: Vec<Judged>,
    lost: u64,
}

impl JudgedLog {
    /// From now on somebody collects.
    pub const fn want(&mut self) {
        self.wanted = true;
    }

    /// One event; of a flow that began or a packet that was refused something is kept.
    pub fn event(&mut self, event: &Event, names: &Names) {
        let refused = match Class::try_from(event.class) {
            Ok(Class::FlowNew) => false,
            Ok(Class::Verdict) => Verdict::try_from(event.verdict) != Ok(Verdict::Allow),
            _ => return,
        };
        if !self.wanted || event.family == 0 {
            return;
        }
        if self.kept.len() == KEPT {
            self.lost += 1;
            return;
        }
        let ends = Ends {
            proto: event.proto,
            family: event.family,
            local: event.src,
            local_port: u16::from_be_bytes(event.sport),
            remote: event.dst,
            remote_port: u16::from_be_bytes(event.dport),
        };
        self.kept.push(Judged { ends, rule: rule(event.rule, names), refused });
    }

    /// Those since the last collection, and how many there was no room for in all.
    pub fn collect(&mut self) -> (Vec<Judged>, u64) {
        (std::mem::take(&mut self.kept), self.lost)
    }
}

/// Shows a flow of the table, under the tuple that it began with and under the one that it goes out with.
pub(super) fn show(record: &FlowRecord, names: &Names, visit: Visit<'_>) {
    let name = || rule(judged_by(record).slot(), names);
    visit(&Ends::of_flow(record), false, &name);
    if let Some(ends) = Ends::translated(record) {
        visit(&ends, false, &name);
    }
}

fn rule(slot: u32, names: &Names) -> Arc<str> {
    let known = names.shared_rule(slot);
    known.unwrap_or_else(|| rule_text(slot, None).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(class: Class, verdict: Verdict, sport: u16) -> Event {
        let mut src = [0; 16];
        src[..4].copy_from_slice(&[10, 0, 0, 1]);
        Event {
            class: class.raw(),
            verdict: verdict.raw(),
            family: 4,
            proto: 6,
            src,
            sport: sport.to_be_bytes(),
            rule: 7,
            ..Event::default()
        }
    }

    #[test]
    fn flows_and_refusals_are_kept_for_whoever_collects() {
        let mut names = Names::default();
        names.set_rule(7, "web");
        let mut log = JudgedLog::default();
        log.event(&event(Class::FlowNew, Verdict::Allow, 1), &names);
        assert!(log.collect().0.is_empty(), "nobody wanted it");
        log.want();
        log.event(&event(Class::FlowNew, Verdict::Allow, 1), &names);
        log.event(&event(Class::Verdict, Verdict::Drop, 2), &names);
        log.event(&event(Class::Log, Verdict::Allow, 3), &names);
        log.event(&event(Class::FlowEstablished, Verdict::Allow, 4), &names);
        let (kept, lost) = log.collect();
        let told: Vec<_> =
            kept.iter().map(|one| (one.ends.local_port, &*one.rule, one.refused)).collect();
        assert_eq!((told, lost), (vec![(1, "web", false), (2, "web", true)], 0));
        for _ in 0..KEPT + 5 {
            log.event(&event(Class::FlowNew, Verdict::Allow, 1), &names);
        }
        let (kept, lost) = log.collect();
        assert_eq!((kept.len(), lost), (KEPT, 5), "bounded, and counted");
    }

    #[test]
    fn both_ends_mean_the_same() {
        let four = [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let six = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4];
        let ends = Ends { family: 4, local: four, remote: four, local_port: 1, ..Ends::default() };
        assert_eq!(ends.turned().turned(), ends);
        assert_eq!(ends.turned().remote_port, 1);
        let mapped = Ends { family: 6, local: six, remote: six, ..ends };
        assert_eq!((mapped.plain(), ends.plain()), (ends, ends));
        let real = Ends { local: [1; 16], ..mapped };
        assert_eq!(real.plain(), real);
    }
}
