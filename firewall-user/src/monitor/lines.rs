//! Rows of flows straight to JSON, for those who want a million of them: what [`Lens::row`] and serde would
//! write, byte for byte, without a text of its own for each field.

use super::{
    FlowRecord, Lens,
    clock::Clock,
    shown::{Met, Shown, shown, translated_ends},
    text,
};
use firewall_common::abi::reason::Reason;
use std::{collections::HashMap, io::Write as _, net::Ipv6Addr};

/// Minutes that are remembered in words.
const MINUTES: usize = 64;
const MINUTE_NS: i64 = 60_000_000_000;
/// `2026-11-22T10:00:` of a time.
const TO_MINUTE: usize = 17;

/// Writes rows as one lens shows them.
#[derive(Debug)]
pub struct Lines {
    lens: Lens,
    /// Rules' names as JSON.
    rules: HashMap<u32, Vec<u8>>,
    /// Interfaces' names as JSON.
    ifaces: HashMap<u32, Vec<u8>>,
    minutes: Box<[(i64, [u8; TO_MINUTE]); MINUTES]>,
}

fn json(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).unwrap_or_else(|_| b"\"\"".to_vec())
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A word that has nothing to escape.
fn word(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

fn ipv4(out: &mut Vec<u8>, [a, b, c, d]: [u8; 4]) {
    let mut buffer = itoa::Buffer::new();
    for (byte, dot) in [(a, true), (b, true), (c, true), (d, false)] {
        out.extend_from_slice(buffer.format(byte).as_bytes());
        if dot {
            out.push(b'.');
        }
    }
}

fn address(out: &mut Vec<u8>, name: &str, family: u8, wide: &[u8; 16]) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
    match family {
        4 => ipv4(out, [wide[0], wide[1], wide[2], wide[3]]),
        // Writing into memory doesn't fail.
        _ => drop(write!(out, "{}", Ipv6Addr::from(*wide))),
    }
    out.push(b'"');
}

fn two(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&[b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]);
}

impl Lines {
    /// A writer of what this lens shows.
    pub fn new(lens: Lens) -> Self {
        let minutes = Box::new([(i64::MIN, [0; TO_MINUTE]); MINUTES]);
        Self { lens, rules: HashMap::new(), ifaces: HashMap::new(), minutes }
    }

    /// Shows what follows through another lens; names may be others.
    pub fn through(&mut self, lens: Lens) {
        self.rules.clear();
        self.ifaces.clear();
        self.lens = lens;
    }

    fn time(&mut self, out: &mut Vec<u8>, name: &str, tick: u64) {
        out.extend_from_slice(name.as_bytes());
        let Some(ns) = self.lens.clock.tick_to_unix(tick) else {
            return out.extend_from_slice(b"null");
        };
        let minute = ns.div_euclid(MINUTE_NS);
        let known = &mut self.minutes[minute.rem_euclid(MINUTES as i64) as usize];
        if known.0 != minute {
            let words = text::time(minute.saturating_mul(MINUTE_NS));
            let Some(head) = words.as_bytes().first_chunk() else {
                // Beyond the years that have four digits.
                return out.extend_from_slice(&json(&text::time(ns)));
            };
            *known = (minute, *head);
        }
        let ms = (ns.rem_euclid(MINUTE_NS) / 1_000_000).unsigned_abs();
        out.push(b'"');
        out.extend_from_slice(&known.1);
        two(out, ms / 1000);
        out.push(b'.');
        out.push(b'0' + (ms / 100 % 10) as u8);
        two(out, ms % 100);
        out.extend_from_slice(b"Z\"");
    }

    fn rule(&mut self, out: &mut Vec<u8>, name: &str, slot: u32) {
        let names = &self.lens.names;
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(self.rules.entry(slot).or_insert_with(|| json(&names.rule(slot))));
    }

    fn iface(&mut self, out: &mut Vec<u8>, name: &str, met: Met) {
        out.extend_from_slice(name.as_bytes());
        // Indices and slots in one map: a slot is below 64 and has the sign set.
        let key = match met {
            Met::Nowhere => return out.extend_from_slice(b"null"),
            Met::Slot(slot) => u32::from(slot) | 1 << 31,
            Met::Index(index) => index,
        };
        let names = &self.lens.names;
        let known = self.ifaces.entry(key).or_insert_with(|| {
            met.name(names).map_or_else(|| b"null".to_vec(), |name| json(&name))
        });
        out.extend_from_slice(known);
    }

    /// Writes a flow's row, without a newline; `ended` as in [`Lens::row`].
    pub fn write(&mut self, out: &mut Vec<u8>, record: &FlowRecord, ended: Option<Reason>) {
        let clock: Clock = self.lens.clock;
        let flow = &record.flow;
        let Shown {
            state,
            direction,
            in_iface,
            out_iface,
            verdict,
            rule,
            generation,
            first,
            last,
            idle_ms,
            timeout_ms,
        } = shown(record, None, &self.lens.timeouts, &clock);
        let _ = write!(out, "{{\"id\":\"{:016x}\"", flow.id);
        match record.proto {
            text::TCP => word(out, ",\"proto\":", "tcp"),
            text::UDP => word(out, ",\"proto\":", "udp"),
            other => word(out, ",\"proto\":", &text::proto(other)),
        }
        number(out, ",\"family\":", record.family.into());
        address(out, ",\"src\":", record.family, &record.src);
        number(out, ",\"sport\":", record.sport.into());
        address(out, ",\"dst\":", record.family, &record.dst);
        number(out, ",\"dport\":", record.dport.into());
        word(out, ",\"state\":", state);
        word(out, ",\"direction\":", direction);
        self.iface(out, ",\"in_iface\":", in_iface);
        self.iface(out, ",\"out_iface\":", out_iface);
        number(out, ",\"vlan\":", flow.vlan.into());
        word(out, ",\"verdict\":", verdict);
        self.rule(out, ",\"rule\":", rule);
        number(out, ",\"generation\":", generation.into());
        number(out, ",\"packets\":", flow.packets);
        number(out, ",\"bytes\":", flow.bytes);
        number(out, ",\"reply_packets\":", flow.reply_packets);
        number(out, ",\"reply_bytes\":", flow.reply_bytes);
        self.time(out, ",\"first\":", first);
        self.time(out, ",\"last\":", last);
        number(out, ",\"age_ms\":", clock.ms_since_tick(first));
        number(out, ",\"idle_ms\":", idle_ms);
        number(out, ",\"timeout_ms\":", timeout_ms);
        match ended {
            Some(reason) => word(out, ",\"ended\":", reason.name()),
            None => out.extend_from_slice(b",\"ended\":null"),
        }
        let Some(nat) = record.nat else {
            return out.extend_from_slice(b",\"nat\":null}");
        };
        out.extend_from_slice(b",\"nat\":{\"src\":\"");
        ipv4(out, nat.src);
        number(out, "\",\"sport\":", nat.sport.into());
        out.extend_from_slice(b",\"dst\":\"");
        ipv4(out, nat.dst);
        number(out, "\",\"dport\":", nat.dport.into());
        self.rule(out, ",\"rule\":", nat.rule);
        word(out, ",\"kind\":", translated_ends(flow.bits));
        out.extend_from_slice(b"}}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{Limits, Monitor, NatTuple};
    use firewall_common::abi::{
        flow::{Flow, Judgement, bits},
        table::{TIMEOUTS, Verdict},
    };
    use proptest::prelude::*;

    fn lens() -> Lens {
        let mut monitor = Monitor::new(Limits::default());
        monitor.names_mut().set_rule(20, "with \"quotes\" and \\");
        monitor.names_mut().set_iface_slot(2, "wan0");
        monitor.names_mut().set_iface_index(7, "lan0");
        monitor.policy(3, Vec::new(), Vec::new(), [90_000; TIMEOUTS]);
        monitor.begin(Clock {
            unix_ns: 1_700_000_059_999_000_000,
            monotonic_ns: 50_000_000_000,
            ticks: 4_000_000,
            tick_ns: 4_000_000,
            tick_zero_ns: None,
        });
        monitor.lens()
    }

    fn record() -> impl Strategy<Value = FlowRecord> {
        let judgement = || {
            (any::<u32>(), prop_oneof![Just(20u32), 0..30u32], 0..6u8, any::<bool>()).prop_map(
                |(generation, slot, verdict, set)| {
                    if set {
                        Judgement::new(generation, slot, verdict)
                    } else {
                        Judgement::default()
                    }
                },
            )
        };
        let ends = (any::<bool>(), any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[u16; 2]>());
        let proto = prop_oneof![Just(6u8), Just(17), Just(1), Just(58), any::<u8>()];
        let nat = proptest::option::of((any::<[u8; 4]>(), any::<[u8; 4]>(), any::<[u16; 2]>()));
        let counts = any::<[u64; 4]>();
        let ticks = (0..4_000_100u64, 0..4_000_100u32, 0..9u8, 0..70u8, 0..3u8);
        let rest =
            (any::<u64>(), any::<u64>(), any::<u16>(), prop_oneof![Just(7u32), any::<u32>()]);
        (ends, proto, nat, counts, ticks, rest, judgement(), judgement()).prop_map(
            |(ends, proto, nat, counts, ticks, rest, judged_in, judged_out)| {
                let (six, src, dst, [sport, dport]) = ends;
                let nat = nat.map(|(src, dst, [sport, dport])| NatTuple {
                    src,
                    dst,
                    sport,
                    dport,
                    rule: 20,
                });
                FlowRecord {
                    family: if six { 6 } else { 4 },
                    proto,
                    src,
                    dst,
                    sport,
                    dport,
                    ifindex: rest.3,
                    nat,
                    flow: Flow {
                        id: rest.0,
                        bits: rest.1
                            & (bits::SEEN_REPLY | bits::NAT_SOURCE | bits::NAT_DESTINATION),
                        vlan: rest.2,
                        packets: counts[0],
                        bytes: counts[1],
                        reply_packets: counts[2],
                        reply_bytes: counts[3],
                        first: ticks.0 as u32,
                        last: ticks.1,
                        tcp_state: ticks.2,
                        if_in: ticks.3,
                        if_out: ticks.4,
                        judged_in,
                        judged_out,
                        ..Flow::default()
                    },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_line_is_what_the_row_would_be(records in proptest::collection::vec(record(), 1..20)) {
            let lens = lens();
            let mut lines = Lines::new(lens.clone());
            for record in &records {
                for ended in [None, Some(Reason::Closed)] {
                    let mut line = Vec::new();
                    lines.write(&mut line, record, ended);
                    let row = serde_json::to_string(&lens.row(record, ended)).expect("rows are JSON");
                    prop_assert_eq!(String::from_utf8(line).expect("text"), row);
                }
            }
        }
    }

    #[test]
    fn verdicts_are_words_without_anything_to_escape() {
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        assert!(Verdict::ALL.iter().all(|verdict| plain(verdict.name())));
        assert!(Reason::ALL.iter().all(|reason| plain(reason.name())));
    }
}
