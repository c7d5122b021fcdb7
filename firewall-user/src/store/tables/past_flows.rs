//! Flows that have ended: a row each.

use super::{
    names::Names,
    past::{Dim, Hours, Numbers, Sums, time_of},
};
use rusqlite::{Connection, Row, params};
use std::net::IpAddr;

/// Which way a flow went. The numbers are stored.
const DIRECTIONS: [&str; 3] = ["in", "out", "forward"];

/// A flow that has ended. Words are those of `FlowView`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastFlow {
    /// When its end was known, ms since 1970.
    pub end_ms: i64,
    /// Its id.
    pub id: u64,
    /// 4 or 6.
    pub family: u8,
    /// IP protocol.
    pub proto: u8,
    /// Originator's address.
    pub src: Option<IpAddr>,
    /// Originator's port.
    pub sport: u16,
    /// Responder's address.
    pub dst: Option<IpAddr>,
    /// Responder's port.
    pub dport: u16,
    /// Its last state.
    pub state: String,
    /// `in`, `out`, `forward`.
    pub direction: String,
    /// Interface it came in at.
    pub in_iface: Option<String>,
    /// Interface it went out at.
    pub out_iface: Option<String>,
    /// VLAN id.
    pub vlan: u16,
    /// Verdict.
    pub verdict: String,
    /// Rule that let it in, or cut it.
    pub rule: String,
    /// Policy generation.
    pub generation: u32,
    /// First packet, ms since 1970.
    pub first_ms: Option<i64>,
    /// Last packet, ms since 1970.
    pub last_ms: Option<i64>,
    /// Why it ended.
    pub ended: String,
    /// Packets, original direction.
    pub packets: u64,
    /// Bytes, original direction.
    pub bytes: u64,
    /// Packets, reply direction.
    pub reply_packets: u64,
    /// Bytes, reply direction.
    pub reply_bytes: u64,
}

/// Sums of raw rows, as [`super::past::read_sums`] reads them behind a key.
pub(in crate::store) const SUMS: &str = "count(*), sum(packets), sum(bytes), sum(reply_packets), \
     sum(reply_bytes), min(row) >> 20, max(row) >> 20";

/// The columns that [`read`] reads, in its order.
pub(in crate::store) const COLUMNS: &str = "row, flow, family, proto, src, sport, dst, dport, state, \
     direction, in_iface, out_iface, vlan, verdict, rule, generation, first, last, ended, packets, bytes, \
     reply_packets, reply_bytes";

/// Writes one.
pub(in crate::store) fn insert(
    connection: &Connection,
    names: &mut Names,
    numbers: &mut Numbers,
    hours: &mut Hours,
    flow: &PastFlow,
) -> rusqlite::Result<()> {
    let state = names.number(connection, &flow.state)?;
    let verdict = names.number(connection, &flow.verdict)?;
    let (rule, ended) =
        (names.number(connection, &flow.rule)?, names.number(connection, &flow.ended)?);
    let mut iface =
        |name: Option<&String>| super::past::word(connection, names, name.map(String::as_str));
    let (in_iface, out_iface) = (iface(flow.in_iface.as_ref())?, iface(flow.out_iface.as_ref())?);
    let direction = DIRECTIONS.iter().position(|word| *word == flow.direction).unwrap_or_default();
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO past_flows (row, flow, family, proto, src, sport, dst, dport, state, \
         direction, in_iface, out_iface, vlan, verdict, rule, generation, first, last, ended, packets, \
         bytes, reply_packets, reply_bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
         ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)",
    )?;
    numbers.place(flow.end_ms, |row| {
        insert.execute(params![
            row,
            flow.id as i64,
            flow.family,
            flow.proto,
            flow.src.map(super::bytes),
            flow.sport,
            flow.dst.map(super::bytes),
            flow.dport,
            state,
            direction as i64,
            in_iface,
            out_iface,
            flow.vlan,
            verdict,
            rule,
            flow.generation,
            flow.first_ms,
            flow.last_ms,
            ended,
            flow.packets as i64,
            flow.bytes as i64,
            flow.reply_packets as i64,
            flow.reply_bytes as i64,
        ])
    })?;
    let sums = Sums {
        count: 1,
        packets: flow.packets,
        bytes: flow.bytes,
        reply_packets: flow.reply_packets,
        reply_bytes: flow.reply_bytes,
        first_ms: flow.end_ms,
        last_ms: flow.end_ms,
    };
    hours.add(Dim::Source, flow.src, &sums);
    hours.add(Dim::Destination, flow.dst, &sums);
    hours.add(Dim::Port, i64::from(flow.dport), &sums);
    hours.add(Dim::FlowRule, rule, &sums);
    hours.add(Dim::FlowProtocol, i64::from(flow.proto), &sums);
    hours.add(Dim::FlowEnded, ended, &sums);
    hours.add(Dim::FlowMinute, flow.end_ms.div_euclid(60_000), &sums);
    Ok(())
}

/// A row of [`COLUMNS`].
pub(in crate::store) fn read(
    row: &Row<'_>,
    word: &dyn Fn(i64) -> rusqlite::Result<String>,
) -> rusqlite::Result<PastFlow> {
    let text = |at| -> rusqlite::Result<Option<String>> {
        row.get::<_, Option<i64>>(at)?.map(word).transpose()
    };
    let count = |at| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(at)? as u64) };
    let direction: u8 = row.get(9)?;
    Ok(PastFlow {
        end_ms: time_of(row.get(0)?),
        id: count(1)?,
        family: row.get(2)?,
        proto: row.get(3)?,
        src: super::maybe_address(row, 4)?,
        sport: row.get(5)?,
        dst: super::maybe_address(row, 6)?,
        dport: row.get(7)?,
        state: text(8)?.unwrap_or_default(),
        direction: DIRECTIONS.get(usize::from(direction)).copied().unwrap_or_default().to_owned(),
        in_iface: text(10)?,
        out_iface: text(11)?,
        vlan: row.get(12)?,
        verdict: text(13)?.unwrap_or_default(),
        rule: text(14)?.unwrap_or_default(),
        generation: row.get(15)?,
        first_ms: row.get(16)?,
        last_ms: row.get(17)?,
        ended: text(18)?.unwrap_or_default(),
        packets: count(19)?,
        bytes: count(20)?,
        reply_packets: count(21)?,
        reply_bytes: count(22)?,
    })
}
