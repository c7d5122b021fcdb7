//! Translations as rows: rules, hosts, pools, mappings.

use super::{
    FlowRecord, Lens, NatAccount, NatReading, NatSum, PortFigures, clock::Clock, names::Names, text,
};
use crate::view::{NatAccountView, NatHostView, NatMappingView, NatPoolView, NatRuleView};
use firewall_common::abi::{flow::bits, iface::IFACE_SLOTS};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

/// Bitmaps of each public address in map `PORTS`, by class.
const CLASSES: [&str; 3] = ["tcp", "udp", "icmp"];
/// Who translates.
const OURS: &str = "sluice";
/// All hosts that found no row of their own.
const OTHER_HOSTS: &str = "other";

/// What the policy says of a translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatInfo {
    /// Slot of its counters.
    pub slot: u32,
    /// Name.
    pub name: String,
    /// `masquerade`, `source`, `destination`, `redirect`, `static`, `prefix`.
    pub kind: &'static str,
    /// As written.
    pub text: String,
    /// Whether it takes part.
    pub enabled: bool,
    /// Public addresses, from the first to the second of each pair; none where they are the interface's.
    pub public: Vec<(IpAddr, IpAddr)>,
    /// Ports that flows get.
    pub ports: Option<(u16, u16)>,
    /// Ports of each host inside, where each has a block.
    pub block: Option<u16>,
    /// Interfaces it is about, by name; with `true`: all but these. `None`: all.
    pub on: Option<(bool, Vec<String>)>,
    /// Index of its first public address, where it has a pool.
    pub pool: Option<u16>,
}

impl NatInfo {
    /// Whether it is about flows that leave through this interface.
    fn is_on(&self, iface: &str) -> bool {
        let listed = |names: &[String]| names.iter().any(|name| name == iface);
        self.on.as_ref().is_none_or(|(all_but, names)| listed(names) != *all_but)
    }
}

/// What is to be said of the rule behind a mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatWords {
    /// Its name; empty where it isn't known.
    pub name: String,
    /// Its kind, as [`NatInfo::kind`].
    pub kind: Option<&'static str>,
    /// Whether each host inside has a block of ports.
    pub has_blocks: bool,
}

/// What became of a flow's ends, in the word of a mapping's `kind`.
fn mapping_kind(kind: Option<&str>, flow_bits: u64) -> &'static str {
    let source = flow_bits & bits::NAT_SOURCE != 0;
    match kind {
        Some("masquerade") => "masquerade",
        Some("redirect") => "redirect",
        Some("static") if source => "static-out",
        Some("static") => "static-in",
        Some("destination") => "destination",
        Some(_) | None if source => "source",
        Some(_) | None => "destination",
    }
}

/// The translations of the live policy, and what kind those before were.
#[derive(Clone, Debug, Default)]
pub struct NatBook {
    live: Vec<Arc<NatInfo>>,
    /// Kind, and whether there are blocks.
    kinds: HashMap<u32, (&'static str, bool)>,
}

impl NatBook {
    /// Another policy is live.
    pub fn policy(&mut self, nats: Vec<NatInfo>) {
        for nat in &nats {
            self.kinds.insert(nat.slot, (nat.kind, nat.block.is_some()));
        }
        self.live = nats.into_iter().map(Arc::new).collect();
    }

    /// The rule in this slot, if it stands.
    pub fn rule(&self, slot: u32) -> Option<&NatInfo> {
        self.live.iter().find(|nat| nat.slot == slot).map(|nat| &**nat)
    }

    /// Its kind, also where it doesn't stand any more.
    pub fn kind(&self, slot: u32) -> Option<&'static str> {
        self.kinds.get(&slot).map(|(kind, _)| *kind)
    }

    /// What is to be said of the rule in this slot.
    pub(super) fn words(&self, slot: u32, names: &Names) -> NatWords {
        let (kind, has_blocks) = self.kinds.get(&slot).copied().unzip();
        NatWords {
            name: names.known_rule(slot).unwrap_or_default(),
            kind,
            has_blocks: has_blocks.unwrap_or(false),
        }
    }

    /// Rules in the policy's order, then those that are gone but have counted something.
    fn rows(&self, reading: &NatReading, names: &Names) -> Vec<NatRuleView> {
        let sums: HashMap<u32, NatSum> = reading.rules.iter().copied().collect();
        let sum = |slot: u32| sums.get(&slot).copied().unwrap_or_default();
        let standing = self.live.iter().map(|nat| {
            let row = rule_row(nat.slot, nat.name.clone(), nat.kind, sum(nat.slot));
            NatRuleView { text: Some(nat.text.clone()), ..row }
        });
        let gone = reading.rules.iter().filter(|(slot, _)| self.rule(*slot).is_none());
        let gone = gone.map(|(slot, sum)| {
            rule_row(*slot, names.rule(*slot), self.kind(*slot).unwrap_or_default(), *sum)
        });
        standing.chain(gone).collect()
    }

    /// Public addresses and what their ports are used for.
    pub(super) fn pools(
        &self,
        ports: &[PortFigures],
        addresses: &[(u8, [u8; 4])],
        names: &Names,
    ) -> Vec<NatPoolView> {
        ports.iter().map(|figures| self.pool(figures, addresses, names)).collect()
    }

    /// One public address.
    pub(super) fn pool(
        &self,
        figures: &PortFigures,
        addresses: &[(u8, [u8; 4])],
        names: &Names,
    ) -> NatPoolView {
        let (place, class) = (figures.index / CLASSES.len(), figures.index % CLASSES.len());
        let enabled = || self.live.iter().filter(|nat| nat.enabled);
        let (address, interface, rules): (_, _, Vec<&Arc<NatInfo>>) = if place < IFACE_SLOTS {
            let slot = place as u8;
            let known = addresses.iter().find(|(other, _)| *other == slot);
            let address = known.map(|(_, address)| Ipv4Addr::from(*address));
            let iface = names.iface_slot(slot);
            let here = |nat: &NatInfo| iface.as_deref().is_some_and(|iface| nat.is_on(iface));
            let masquerades = enabled().filter(|nat| nat.kind == "masquerade" && here(nat));
            (address, iface.clone(), masquerades.collect())
        } else {
            let of = |nat: &NatInfo| {
                let (first, last) = match nat.public.first()? {
                    (IpAddr::V4(first), IpAddr::V4(last)) => (u32::from(*first), u32::from(*last)),
                    _ => return None,
                };
                let step = u32::try_from(place.checked_sub(usize::from(nat.pool?))?).ok()?;
                first.checked_add(step).filter(|at| *at <= last).map(Ipv4Addr::from)
            };
            let address = enabled().find_map(|nat| of(nat));
            (address, None, enabled().filter(|nat| of(nat).is_some()).collect())
        };
        let usable = covered(rules.iter().filter_map(|nat| nat.ports).collect());
        let used = if usable == 0 { 0.0 } else { 100.0 * figures.in_use as f64 / usable as f64 };
        NatPoolView {
            address: address.map(|address| address.to_string()).unwrap_or_default(),
            interface,
            rules: rules.iter().map(|nat| nat.name.clone()).collect(),
            proto: CLASSES.get(class).copied().unwrap_or_default().to_owned(),
            ports: usable,
            in_use: figures.in_use,
            peak: figures.peak,
            made: figures.made,
            failures: figures.failures,
            used_percent: (10.0 * used).round() / 10.0,
        }
    }

    /// Whose ports these are, in words.
    pub(super) fn pool_name(
        &self,
        figures: &PortFigures,
        addresses: &[(u8, [u8; 4])],
        names: &Names,
    ) -> String {
        let NatPoolView { address, interface, proto, .. } = self.pool(figures, addresses, names);
        match interface {
            Some(interface) => format!("{proto} ports of {address} ({interface})"),
            None => format!("{proto} ports of {address}"),
        }
    }
}

/// How many ports these ranges have together.
fn covered(mut ranges: Vec<(u16, u16)>) -> u64 {
    ranges.sort_unstable();
    let (mut sum, mut next) = (0, 0u32);
    for (first, last) in ranges {
        let (first, end) = (u32::from(first).max(next), u32::from(last) + 1);
        sum += u64::from(end.saturating_sub(first));
        next = next.max(end);
    }
    sum
}

fn rule_row(slot: u32, name: String, kind: &str, sum: NatSum) -> NatRuleView {
    NatRuleView { slot, name, kind: kind.to_owned(), text: None, account: account(sum) }
}

fn account(sum: NatSum) -> NatAccountView {
    let NatSum { account: NatAccount { mappings, ended, failures, totals }, live } = sum;
    let [packets, bytes, reply_packets, reply_bytes] = totals;
    NatAccountView { live, mappings, ended, failures, packets, bytes, reply_packets, reply_bytes }
}

impl Lens {
    /// Rules with what they have done.
    pub fn nat_rules(&self, reading: &NatReading) -> Vec<NatRuleView> {
        self.nats.rows(reading, &self.names)
    }

    /// Hosts inside with what they have done, in no order.
    pub fn nat_hosts(&self, reading: &NatReading) -> Vec<NatHostView> {
        let row = |(host, sum): &(Option<[u8; 4]>, NatSum)| NatHostView {
            host: host
                .map_or_else(|| OTHER_HOSTS.to_owned(), |host| Ipv4Addr::from(host).to_string()),
            account: account(*sum),
        };
        reading.hosts.iter().map(row).collect()
    }

    /// The mapping of a translated flow; `None` if it isn't translated.
    pub fn nat_mapping(&self, record: &FlowRecord) -> Option<NatMappingView> {
        let nat = record.nat?;
        let flow = &record.flow;
        let original = |bytes: &[u8; 16], port| (text::address(record.family, bytes), port);
        let behind = |bytes, port| (Ipv4Addr::from(bytes).to_string(), port);
        let (src, dst) = (original(&record.src, record.sport), original(&record.dst, record.dport));
        let (to_src, to_dst) = (behind(nat.src, nat.sport), behind(nat.dst, nat.dport));
        let destination = flow.bits & bits::NAT_DESTINATION != 0;
        let (inside, public, remote) = if flow.bits & bits::NAT_SOURCE != 0 {
            (src, to_src, dst)
        } else {
            (to_dst.clone(), dst, src)
        };
        let remote_inside = destination.then_some(to_dst);
        let time = |tick| time(&self.clock, tick);
        Some(NatMappingView {
            id: text::flow_id(flow.id),
            proto: text::proto(record.proto),
            inside: inside.0,
            inside_port: inside.1,
            public: public.0,
            public_port: public.1,
            remote: remote.0,
            remote_port: remote.1,
            remote_inside_port: remote_inside.as_ref().map(|(_, port)| *port),
            remote_inside: remote_inside.map(|(address, _)| address),
            kind: mapping_kind(self.nats.kind(nat.rule), flow.bits).to_owned(),
            rule: self.names.known_rule(nat.rule),
            began: time(flow.first_tick()),
            last: time(flow.last_tick(self.clock.ticks)),
            packets: Some(flow.packets),
            bytes: Some(flow.bytes),
            reply_packets: Some(flow.reply_packets),
            reply_bytes: Some(flow.reply_bytes),
            origin: OURS.to_owned(),
        })
    }

    /// The translations of the live policy.
    pub fn nats(&self) -> &NatBook {
        &self.nats
    }
}

fn time(clock: &Clock, tick: u64) -> Option<String> {
    clock.tick_to_unix(tick).map(text::time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{Limits, Monitor, NatTuple};
    use firewall_common::abi::{flow::Flow, table::TIMEOUTS};

    fn info(slot: u32, name: &str, kind: &'static str) -> NatInfo {
        NatInfo {
            slot,
            name: name.into(),
            kind,
            text: format!("nat {name} {kind}"),
            enabled: true,
            public: Vec::new(),
            ports: Some((1024, 2023)),
            block: None,
            on: None,
            pool: None,
        }
    }

    fn monitor(nats: Vec<NatInfo>) -> Monitor {
        let mut monitor = Monitor::new(Limits::default());
        monitor.names_mut().set_rule(30, "old");
        monitor.policy(1, Vec::new(), nats, [0; TIMEOUTS]);
        monitor
    }

    #[test]
    fn rules_that_are_gone_are_shown_for_what_they_did() {
        let monitor = monitor(vec![info(20, "lan", "masquerade"), info(21, "web", "destination")]);
        let account = NatAccount { mappings: 3, ended: 2, failures: 1, totals: [1, 2, 3, 4] };
        let sum = NatSum { account, live: 1 };
        let reading = NatReading { rules: vec![(30, sum), (20, sum)], hosts: vec![(None, sum)] };
        let rows = monitor.lens().nat_rules(&reading);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row.name.as_str(), row.text.is_some(), row.account.bytes))
            .collect();
        assert_eq!(shown, [("lan", true, 2), ("web", true, 0), ("old", false, 2)]);
        let hosts = monitor.lens().nat_hosts(&reading);
        assert_eq!(
            (hosts[0].host.as_str(), hosts[0].account.live, hosts[0].account.reply_bytes),
            ("other", 1, 4)
        );
    }

    #[test]
    fn a_mapping_is_seen_from_the_host_inside() {
        let lens = monitor(vec![info(20, "lan", "masquerade"), info(21, "web", "static")]).lens();
        let wide = |a: [u8; 4]| {
            let mut wide = [0; 16];
            wide[..4].copy_from_slice(&a);
            wide
        };
        let record = |flow_bits, nat| FlowRecord {
            family: 4,
            proto: 6,
            src: wide([10, 0, 0, 5]),
            dst: wide([198, 51, 100, 7]),
            sport: 5000,
            dport: 443,
            ifindex: 0,
            nat: Some(nat),
            flow: Flow { id: 9, bits: flow_bits, packets: 4, ..Flow::default() },
        };
        let nat = NatTuple {
            src: [203, 0, 113, 5],
            sport: 40_021,
            dst: [198, 51, 100, 7],
            dport: 443,
            rule: 20,
        };
        let view = lens.nat_mapping(&record(bits::NAT_SOURCE, nat)).expect("translated");
        let ends = |view: &NatMappingView| {
            [
                format!("{}:{}", view.inside, view.inside_port),
                format!("{}:{}", view.public, view.public_port),
                format!("{}:{}", view.remote, view.remote_port),
            ]
        };
        assert_eq!(ends(&view), ["10.0.0.5:5000", "203.0.113.5:40021", "198.51.100.7:443"]);
        assert_eq!((view.kind.as_str(), view.rule.as_deref()), ("masquerade", Some("lan")));
        assert_eq!((view.remote_inside, view.packets), (None, Some(4)));

        let nat = NatTuple {
            src: [10, 0, 0, 5],
            sport: 5000,
            dst: [192, 168, 0, 2],
            dport: 8443,
            rule: 21,
        };
        let view = lens.nat_mapping(&record(bits::NAT_DESTINATION, nat)).expect("translated");
        assert_eq!(ends(&view), ["192.168.0.2:8443", "198.51.100.7:443", "10.0.0.5:5000"]);
        assert_eq!(view.kind, "static-in");
        assert_eq!(
            (view.remote_inside.as_deref(), view.remote_inside_port),
            (Some("192.168.0.2"), Some(8443))
        );
        // A rule that nobody knows any more.
        let nat = NatTuple { rule: 99, ..nat };
        let view = lens.nat_mapping(&record(bits::NAT_DESTINATION, nat)).expect("translated");
        assert_eq!((view.kind.as_str(), view.rule), ("destination", None));
        assert_eq!(lens.nat_mapping(&FlowRecord { nat: None, ..record(0, nat) }), None);
    }

    #[test]
    fn pools_say_whose_ports_they_are() {
        let address = |last| IpAddr::from([203, 0, 113, last]);
        let pool = |slot, name, ports| NatInfo {
            public: vec![(address(8), address(9))],
            pool: Some(64),
            ports: Some(ports),
            ..info(slot, name, "source")
        };
        let monitor = monitor(vec![
            NatInfo { on: Some((false, vec!["wan0".into()])), ..info(20, "lan", "masquerade") },
            NatInfo { on: Some((false, vec!["dmz0".into()])), ..info(24, "dmz", "masquerade") },
            NatInfo { on: Some((true, vec!["wan0".into()])), ..info(25, "rest", "masquerade") },
            info(26, "any", "masquerade"),
            pool(21, "a", (1000, 1999)),
            pool(22, "b", (1500, 2499)),
            NatInfo { enabled: false, ..pool(23, "off", (1, 65_535)) },
        ]);
        let mut names = Names::default();
        names.set_iface_slot(2, "wan0");
        let at = |place: usize, class| PortFigures {
            index: 3 * place + class,
            in_use: 150,
            ..PortFigures::default()
        };
        let figures = [at(2, 1), at(65, 0), at(66, 2)];
        let lens = monitor.lens();
        let rows = lens.nats().pools(&figures, &[(2, [192, 0, 2, 1])], &names);
        assert_eq!(
            (rows[0].address.as_str(), rows[0].interface.as_deref()),
            ("192.0.2.1", Some("wan0"))
        );
        assert_eq!(rows[0].rules, ["lan", "any"]);
        assert_eq!(
            (rows[0].proto.as_str(), rows[0].ports, rows[0].used_percent),
            ("udp", 1000, 15.0)
        );
        assert_eq!((rows[1].address.as_str(), rows[1].ports), ("203.0.113.9", 1500));
        assert_eq!((rows[1].rules.join(" "), rows[1].used_percent), ("a b".to_owned(), 10.0));
        // An address that no pool has any more.
        assert_eq!((rows[2].address.as_str(), rows[2].ports, rows[2].rules.len()), ("", 0, 0));
    }
}
