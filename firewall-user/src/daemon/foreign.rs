//! Translations of netfilter's in the history.

use super::history::NatChange;
use crate::{
    monitor::text,
    netfilter::{BindingEvent, Ended, NatBinding, Told},
    store::{Binding, BindingKind, Endpoint, Origin, Totals},
};
use firewall_common::abi::bucket::{finish, mix};
use std::{collections::HashSet, net::IpAddr};

/// Turns what is told of netfilter's translations into changes of the history.
#[derive(Debug, Default)]
pub struct Foreign {
    /// Those that live, until the first whole look at the table was told of.
    live: Option<HashSet<u64>>,
    looked: bool,
}

/// An id of an entry: the kernel's own, which entries may share, below a hash of what names it.
fn id(binding: &NatBinding) -> u64 {
    let key = &binding.key;
    let words = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let orig = &key.orig;
    let ports = u64::from(orig.sport) << 16 | u64::from(orig.dport);
    let rest = u64::from(key.zone) << 32 | u64::from(orig.icmp_type) << 16 | u64::from(orig.proto);
    let mut hash = mix(mix(0, ports), rest);
    for wide in [words(orig.src), words(orig.dst)] {
        hash = mix(mix(hash, wide as u64), (wide >> 64) as u64);
    }
    finish(hash) & 0xffff_ffff_0000_0000 | u64::from(key.id)
}

fn ms(ns: i64) -> i64 {
    ns / 1_000_000
}

impl Foreign {
    /// What the history is to be told.
    pub fn told(&mut self, told: Told) -> Option<NatChange> {
        match told {
            Told::Binding(BindingEvent::Began { binding, seen_ns, .. }) => {
                let id = id(&binding);
                if !self.looked {
                    self.live.get_or_insert_default().insert(id);
                }
                Some(NatChange::Began(began(id, &binding, seen_ns)))
            }
            Told::Binding(BindingEvent::Ended { binding, seen_ns, stop_ns, totals, how }) => {
                let id = id(&binding);
                if let Some(live) = &mut self.live {
                    live.remove(&id);
                }
                let stop_ns = stop_ns.and_then(|ns| i64::try_from(ns).ok()).unwrap_or(seen_ns);
                let counters = totals.unwrap_or_default();
                Some(NatChange::Ended {
                    origin: Origin::Netfilter,
                    id,
                    totals: Totals {
                        packets: counters.orig.packets,
                        bytes: counters.orig.bytes,
                        reply_packets: counters.reply.packets,
                        reply_bytes: counters.reply.bytes,
                    },
                    reason: match how {
                        Ended::Told => "ended",
                        Ended::Gone => "gone",
                    },
                    at_ms: ms(stop_ns),
                })
            }
            Told::Whole if self.looked => None,
            Told::Whole => {
                self.looked = true;
                let ids = self.live.take().unwrap_or_default().into_iter().collect();
                let at_ms = crate::store::now_ms();
                Some(NatChange::OnlyLive { origin: Origin::Netfilter, ids, at_ms })
            }
        }
    }
}

fn began(id: u64, binding: &NatBinding, seen_ns: i64) -> Binding {
    let (orig, to) = (&binding.key.orig, &binding.nat.to);
    // A query's identifier stands at both ends, as in our own mappings.
    let query = matches!(orig.proto, text::ICMP | text::ICMPV6);
    let (dport, to_dport) = if query { (orig.sport, to.sport) } else { (orig.dport, to.dport) };
    let (src, to_src) = (Endpoint::new(orig.src, orig.sport), Endpoint::new(to.src, to.sport));
    let start_ns = binding.start_ns.and_then(|ns| i64::try_from(ns).ok()).unwrap_or(seen_ns);
    Binding {
        id,
        origin: Origin::Netfilter,
        kind: if binding.nat.source { BindingKind::Source } else { BindingKind::Destination },
        proto: orig.proto,
        src,
        dst: Endpoint::new(orig.dst, dport),
        to_src,
        to_dst: Endpoint::new(to.dst, to_dport),
        // Netfilter doesn't say which of its rules it was.
        rule: "".into(),
        start_ms: ms(start_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::entry::{Count, Counters, Endpoints, EntryKey, Nat, Tuple};
    use std::net::Ipv4Addr;

    fn binding(sport: u16, id: u32) -> NatBinding {
        let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        let orig = Tuple {
            src: address(7),
            dst: address(1),
            sport,
            dport: 443,
            proto: 6,
            icmp_type: 0,
            icmp_code: 0,
        };
        let to = Endpoints { src: address(99), sport: 40_000, dst: address(1), dport: 443 };
        NatBinding {
            key: EntryKey { orig, zone: 0, id },
            reply: orig,
            nat: Nat { source: true, destination: false, to },
            start_ns: None,
        }
    }

    #[test]
    fn entries_that_share_an_id_are_told_apart_and_ends_find_their_beginnings() {
        let mut foreign = Foreign::default();
        let began = |sport| BindingEvent::Began {
            binding: binding(sport, 5),
            seen_ns: 7_000_000,
            found: true,
        };
        let mut ids = Vec::new();
        for sport in [1000, 1001, 1000] {
            let Some(NatChange::Began(begun)) = foreign.told(Told::Binding(began(sport))) else {
                panic!("begun")
            };
            assert_eq!(
                (begun.start_ms, begun.kind, begun.to_src.port),
                (7, BindingKind::Source, 40_000)
            );
            ids.push(begun.id);
        }
        assert_eq!((ids[0], ids[0] as u32), (ids[2], 5));
        assert_ne!(ids[0], ids[1]);
        let count = |packets| Count { packets, bytes: 10 * packets };
        let end = foreign.told(Told::Binding(BindingEvent::Ended {
            binding: binding(1000, 5),
            seen_ns: 9_000_000,
            stop_ns: Some(8_000_000),
            totals: Some(Counters { orig: count(3), reply: count(2) }),
            how: Ended::Told,
        }));
        let totals = Totals { packets: 3, bytes: 30, reply_packets: 2, reply_bytes: 20 };
        let (origin, id) = (Origin::Netfilter, ids[0]);
        assert_eq!(end, Some(NatChange::Ended { origin, id, totals, reason: "ended", at_ms: 8 }));
        // The first look at everything says which of those from before still live; later ones nothing.
        let Some(NatChange::OnlyLive { ids: live, .. }) = foreign.told(Told::Whole) else {
            panic!("the first look")
        };
        assert_eq!(live, [ids[1]]);
        assert_eq!(foreign.told(Told::Whole), None);
    }
}
