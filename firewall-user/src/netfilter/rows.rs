//! Entries and accounts as people see them, and as the filter language asks for them.

use super::{
    account::{AccountKey, Totals},
    entry::{Count, NetfilterEntry},
    table::LiveEntry,
};
use crate::{
    filter::{Field, Subject, SubjectKind, Value},
    monitor::text,
    view::{NetfilterAccountView, NetfilterFlowView, NetfilterNatView},
};
use std::{borrow::Cow, net::IpAddr};

/// Who tracks these flows.
const TRACKED_BY: &str = "netfilter";

/// An entry at a moment: what filters are applied to, cheaper than its row.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    live: LiveEntry,
    /// Nanoseconds since 1970.
    now_ns: i64,
}

impl Shown {
    /// An entry, now.
    pub const fn new(live: LiveEntry, now_ns: i64) -> Self {
        Self { live, now_ns }
    }

    /// The entry.
    pub const fn entry(&self) -> &NetfilterEntry {
        &self.live.entry
    }

    fn age_ms(&self) -> Option<u64> {
        let start = i64::try_from(self.entry().facts.start_ns?).ok()?;
        Some(self.now_ns.saturating_sub(start).max(0).unsigned_abs() / 1_000_000)
    }

    fn timeout_ms(&self) -> Option<u64> {
        let since = self.now_ns.saturating_sub(self.live.seen_ns).max(0).unsigned_abs() / 1_000_000;
        self.entry().facts.timeout_s.map(|s| (u64::from(s) * 1000).saturating_sub(since))
    }

    fn orig(&self) -> Option<Count> {
        self.entry().facts.counters.map(|counters| counters.orig)
    }

    fn reply(&self) -> Option<Count> {
        self.entry().facts.counters.map(|counters| counters.reply)
    }

    /// Its row.
    pub fn view(&self) -> NetfilterFlowView {
        let NetfilterEntry { key, facts } = self.entry();
        NetfilterFlowView {
            id: key.id.to_string(),
            proto: text::proto(key.orig.proto),
            family: key.orig.family(),
            src: key.orig.src.to_string(),
            sport: key.orig.sport,
            dst: key.orig.dst.to_string(),
            dport: key.orig.dport,
            state: self.entry().state().to_owned(),
            status: facts.status.words().map(str::to_owned).collect(),
            nat: self.entry().nat().map(|nat| NetfilterNatView {
                src: nat.to.src.to_string(),
                sport: nat.to.sport,
                dst: nat.to.dst.to_string(),
                dport: nat.to.dport,
            }),
            packets: self.orig().map(|count| count.packets),
            bytes: self.orig().map(|count| count.bytes),
            reply_packets: self.reply().map(|count| count.packets),
            reply_bytes: self.reply().map(|count| count.bytes),
            first: facts.start_ns.and_then(|ns| i64::try_from(ns).ok()).map(text::time),
            age_ms: self.age_ms(),
            timeout_ms: self.timeout_ms(),
            mark: facts.mark.unwrap_or(0),
            zone: key.zone,
            tracked_by: TRACKED_BY.to_owned(),
        }
    }
}

fn address(address: IpAddr) -> Value<'static> {
    Value::Text(Cow::Owned(address.to_string()))
}

fn maybe(number: Option<u64>) -> Value<'static> {
    number.map_or(Value::None, Value::Number)
}

impl Subject for Shown {
    const KIND: SubjectKind = SubjectKind::Netfilter;

    fn field(&self, field: Field) -> Value<'_> {
        let NetfilterEntry { key, facts } = self.entry();
        let nat = || self.entry().nat();
        match field {
            Field::Proto => Value::Text(Cow::Owned(text::proto(key.orig.proto))),
            Field::Family => Value::Number(key.orig.family().into()),
            Field::Src => address(key.orig.src),
            Field::Dst => address(key.orig.dst),
            Field::Sport => Value::Number(key.orig.sport.into()),
            Field::Dport => Value::Number(key.orig.dport.into()),
            Field::State => Value::Text(Cow::Borrowed(self.entry().state())),
            Field::Status => {
                Value::Text(Cow::Owned(facts.status.words().collect::<Vec<_>>().join(",")))
            }
            Field::Nat => Value::Bool(nat().is_some()),
            Field::NatSrc => nat().map_or(Value::None, |nat| address(nat.to.src)),
            Field::NatDst => nat().map_or(Value::None, |nat| address(nat.to.dst)),
            Field::NatSport => maybe(nat().map(|nat| nat.to.sport.into())),
            Field::NatDport => maybe(nat().map(|nat| nat.to.dport.into())),
            Field::Id => Value::Text(Cow::Owned(key.id.to_string())),
            Field::Packets => maybe(self.orig().map(|count| count.packets)),
            Field::Bytes => maybe(self.orig().map(|count| count.bytes)),
            Field::ReplyPackets => maybe(self.reply().map(|count| count.packets)),
            Field::ReplyBytes => maybe(self.reply().map(|count| count.bytes)),
            Field::Age => maybe(self.age_ms()),
            Field::Timeout => maybe(self.timeout_ms()),
            Field::Mark => Value::Number(facts.mark.unwrap_or(0).into()),
            Field::Zone => Value::Number(key.zone.into()),
            _ => Value::None,
        }
    }
}

/// An account's row.
pub fn account((key, totals): &(AccountKey, Totals)) -> NetfilterAccountView {
    let Totals { flows, uncounted, at_least, counters } = *totals;
    NetfilterAccountView {
        translation: key.translation.name().to_owned(),
        side: key.side.name().to_owned(),
        address: key.address.map(|address| address.to_string()),
        flows,
        uncounted,
        at_least,
        packets: counters.orig.packets,
        bytes: counters.orig.bytes,
        reply_packets: counters.reply.packets,
        reply_bytes: counters.reply.bytes,
        tracked_by: TRACKED_BY.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        filter,
        netfilter::entry::{Counters, EntryKey, Facts, ProtoState, Status, Tuple},
    };

    fn shown() -> Shown {
        let orig = Tuple {
            src: IpAddr::from([10, 0, 0, 7]),
            dst: IpAddr::from([192, 0, 2, 1]),
            sport: 5000,
            dport: 443,
            proto: 6,
            icmp_type: 0,
            icmp_code: 0,
        };
        let reply = Tuple {
            src: orig.dst,
            dst: IpAddr::from([203, 0, 113, 5]),
            sport: 443,
            dport: 40_021,
            ..orig
        };
        let count = |packets, bytes| Count { packets, bytes };
        let facts = Facts {
            reply,
            status: Status(0b1_1110),
            state: Some(ProtoState::Tcp(3)),
            timeout_s: Some(100),
            counters: Some(Counters { orig: count(3, 180), reply: count(2, 2_000_000) }),
            start_ns: Some(1_700_000_000_000_000_000),
            stop_ns: None,
            mark: Some(66),
        };
        let entry = NetfilterEntry { key: EntryKey { orig, zone: 7, id: 4_000_000_000 }, facts };
        let seen_ns = 1_700_000_090_000_000_000;
        Shown::new(LiveEntry { entry, seen_ns }, seen_ns + 1_500_000_000)
    }

    #[test]
    fn a_row_says_what_the_entry_does() {
        let row = shown().view();
        assert_eq!((row.id.as_str(), row.proto.as_str(), row.family), ("4000000000", "tcp", 4));
        assert_eq!(row.state, "established");
        assert_eq!(row.status, ["seen-reply", "assured", "confirmed", "src-nat"]);
        let nat = row.nat.expect("a translation");
        assert_eq!((nat.src.as_str(), nat.sport, nat.dport), ("203.0.113.5", 40_021, 443));
        assert_eq!((row.bytes, row.reply_bytes), (Some(180), Some(2_000_000)));
        assert_eq!(row.first.as_deref(), Some("2023-11-14T22:13:20.000Z"));
        assert_eq!((row.age_ms, row.timeout_ms), (Some(91_500), Some(98_500)));
        assert_eq!((row.mark, row.zone, row.tracked_by.as_str()), (66, 7, "netfilter"));
    }

    #[test]
    fn filters_ask_for_what_entries_have() {
        let holds = |text: &str| {
            filter::parse_for::<Shown>(text)
                .unwrap_or_else(|error| panic!("{}", error.render()))
                .matches(&shown())
        };
        for yes in [
            "proto=tcp and addr=10.0.0.0/8 and port=443",
            "nat=yes and nat_src=203.0.113.0/24 and nat_sport=40021",
            "state=established and status~assured and mark=66 and zone=7",
            "reply_bytes>1M and age>1m and timeout<2m and id=4000000000",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in ["nat=no", "nat_dst=10.0.0.7", "state=time-wait", "status~offload"] {
            assert!(!holds(no), "{no}");
        }
        for (mistake, expected) in
            [("rule=web", "a field of netfilter's flows"), ("state=syn-received", "syn-recv")]
        {
            let error = filter::parse_for::<Shown>(mistake).expect_err(mistake);
            assert!(error.expected.contains(expected), "{error}");
        }
        assert!(
            filter::parse_for::<crate::view::FlowView>("state=time-wait").is_err(),
            "netfilter's words aren't ours"
        );
    }
}
