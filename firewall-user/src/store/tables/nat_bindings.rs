//! Mappings of translated flows: a row is written when one begins, and completed when it ends.

use super::{Aged, Removed, Which, address, bytes, names::Names, unknown};
use rusqlite::{
    Connection, OptionalExtension, Row, named_params, params,
    types::{ToSql, Value, ValueRef},
};
use std::{net::IpAddr, sync::Arc};

/// [`span`] of a mapping that lives.
pub(in crate::store) const LIVE: u8 = 31;
/// Past 4^20 ms, 35 years, all are alike.
pub(in crate::store) const LONGEST: u8 = 20;

/// An address with its port (ICMP: the query's identifier; 0 where there is none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint.
    pub const fn new(address: IpAddr, port: u16) -> Self {
        Self { address, port }
    }
}

/// Who translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// We do.
    Sluice,
    /// The kernel's netfilter does, on the same machine.
    Netfilter,
}

impl Origin {
    /// As the protocol writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sluice => "sluice",
            Self::Netfilter => "netfilter",
        }
    }
    const fn of(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Sluice),
            1 => Some(Self::Netfilter),
            _ => None,
        }
    }
}

/// What kind of translation it is. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindingKind {
    /// Source, to the address of the interface.
    Masquerade = 1,
    /// Source, to an address of a pool.
    Source = 2,
    /// Destination.
    Destination = 3,
    /// Destination, to the machine itself.
    Redirect = 4,
    /// One to one.
    Static = 5,
    /// Source, to a port of the host's own block.
    Block = 6,
}

impl BindingKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Masquerade,
        Self::Source,
        Self::Destination,
        Self::Redirect,
        Self::Static,
        Self::Block,
    ];
    /// As the protocol writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Masquerade => "masquerade",
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Redirect => "redirect",
            Self::Static => "static",
            Self::Block => "block",
        }
    }
    fn of(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as i64 == number)
    }
}

/// A mapping that came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The flow's id.
    pub id: u64,
    /// Who translates.
    pub origin: Origin,
    /// How.
    pub kind: BindingKind,
    /// IP protocol.
    pub proto: u8,
    /// Who began it, as it came in.
    pub src: Endpoint,
    /// Whom it was meant for, as it came in.
    pub dst: Endpoint,
    /// The source as it goes out; the same if it isn't translated.
    pub to_src: Endpoint,
    /// The destination as it goes out; the same if it isn't translated.
    pub to_dst: Endpoint,
    /// The rule's name.
    pub rule: Arc<str>,
    /// First packet, ms since 1970.
    pub start_ms: i64,
}

impl Binding {
    /// The host inside that it is about: the client whose source is translated, else the server that
    /// the destination is translated to.
    pub fn host(&self) -> IpAddr {
        if self.to_src == self.src { self.to_dst.address } else { self.src.address }
    }
}

/// What a mapping has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets, original direction.
    pub packets: u64,
    /// Bytes, original direction.
    pub bytes: u64,
    /// Packets, reply direction.
    pub reply_packets: u64,
    /// Bytes, reply direction.
    pub reply_bytes: u64,
}

/// A mapping as the history has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingRow {
    /// What was known at its beginning.
    pub binding: Binding,
    /// Totals; zero while it lives.
    pub totals: Totals,
    /// Last moment; `None` while it lives.
    pub end_ms: Option<i64>,
    /// Why it ended.
    pub reason: Option<String>,
}

/// Which mappings to list; what isn't said doesn't matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingFilter {
    /// Of this host inside.
    pub host: Option<IpAddr>,
    /// Live, or ended not before this time.
    pub since_ms: Option<i64>,
    /// Begun not after this time.
    pub until_ms: Option<i64>,
    /// Only those that are live (or that have ended).
    pub live: Option<bool>,
    /// At most so many.
    pub limit: usize,
}

/// How long a mapping lived: the smallest n with 4^n ms >= its length.
pub(in crate::store) fn span(start_ms: i64, end_ms: i64) -> u8 {
    let length = end_ms.saturating_sub(start_ms).max(1) as u64;
    (0..LONGEST).find(|n| 1 << (2 * n) >= length).unwrap_or(LONGEST)
}

/// Rows that start no later than a time and are of `span` can only be live at it if they start after this
/// long before it.
pub(in crate::store) fn reach(span: u8) -> Option<i64> {
    (span < LONGEST).then(|| 1 << (2 * span))
}

/// The columns that [`read`] reads, in its order.
pub(in crate::store) const COLUMNS: &str = "b.flow, b.origin, b.kind, b.proto, b.src, b.sport, b.dst, \
     b.dport, b.to_src, b.to_sport, b.to_dst, b.to_dport, \
     (SELECT name FROM names WHERE id = b.rule), b.start, b.end, \
     (SELECT name FROM names WHERE id = b.reason), \
     b.packets, b.bytes, b.reply_packets, b.reply_bytes";

/// A row of [`COLUMNS`].
pub(in crate::store) fn read(row: &Row<'_>) -> rusqlite::Result<BindingRow> {
    let (origin, kind) = (row.get(1)?, row.get(2)?);
    let src = Endpoint::new(address(row, 4)?, row.get(5)?);
    let dst = Endpoint::new(address(row, 6)?, row.get(7)?);
    let translated = |at, same| -> rusqlite::Result<Endpoint> {
        if row.get_ref(at)? == ValueRef::Null {
            return Ok(same);
        }
        Ok(Endpoint::new(address(row, at)?, row.get(at + 1)?))
    };
    let count = |at| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(at)? as u64) };
    Ok(BindingRow {
        binding: Binding {
            id: count(0)?,
            origin: Origin::of(origin).ok_or_else(|| unknown(1, origin))?,
            kind: BindingKind::of(kind).ok_or_else(|| unknown(2, kind))?,
            proto: row.get(3)?,
            src,
            dst,
            to_src: translated(8, src)?,
            to_dst: translated(10, dst)?,
            rule: row.get::<_, Option<Arc<str>>>(12)?.unwrap_or_default(),
            start_ms: row.get(13)?,
        },
        end_ms: row.get(14)?,
        reason: row.get(15)?,
        totals: Totals {
            packets: count(16)?,
            bytes: count(17)?,
            reply_packets: count(18)?,
            reply_bytes: count(19)?,
        },
    })
}

/// Writes a mapping that began; `false` if it is there already, perhaps with one end translated less.
pub(in crate::store) fn begin(
    connection: &Connection,
    names: &mut Names,
    binding: &Binding,
) -> rusqlite::Result<bool> {
    let rule = names.number(connection, &binding.rule)?;
    let translated = |from: Endpoint, to: Endpoint| (from != to).then_some(to);
    let (to_src, to_dst) =
        (translated(binding.src, binding.to_src), translated(binding.dst, binding.to_dst));
    let mut insert = connection.prepare_cached(
        "INSERT INTO nat_bindings (flow, origin, kind, proto, src, sport, dst, dport, to_src, to_sport, \
         to_dst, to_dport, rule, start, span) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) \
         ON CONFLICT DO NOTHING",
    )?;
    let mut write = || {
        insert.execute(params![
            binding.id as i64,
            binding.origin as i64,
            binding.kind as i64,
            binding.proto,
            bytes(binding.src.address),
            binding.src.port,
            bytes(binding.dst.address),
            binding.dst.port,
            to_src.map(|end| bytes(end.address)),
            to_src.map(|end| end.port),
            to_dst.map(|end| bytes(end.address)),
            to_dst.map(|end| end.port),
            rule,
            binding.start_ms,
            LIVE,
        ])
    };
    if write()? == 1 {
        return Ok(true);
    }
    // The same mapping told again, by a new daemon that found its flow; or another one under the same
    // id (netfilter's come back), whose predecessor's end was never told.
    let live = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM nat_bindings b WHERE flow = ?1 AND origin = ?2 AND end IS NULL"
        ))?
        .query_row(params![binding.id as i64, binding.origin as i64], read)?
        .binding;
    let original = |b: &Binding| (b.proto, b.src, b.dst);
    let behind = |b: &Binding| (b.to_src, b.to_dst);
    if original(&live) == original(binding) {
        if behind(&live) == behind(binding) {
            return Ok(false);
        }
        if binding.origin == Origin::Sluice {
            // Both ends are translated, one after the other: the second is the whole story.
            connection
                .prepare_cached(
                    "UPDATE nat_bindings SET kind = ?3, to_src = ?4, to_sport = ?5, to_dst = ?6, \
                     to_dport = ?7, rule = ?8 WHERE flow = ?1 AND origin = ?2 AND end IS NULL",
                )?
                .execute(params![
                    binding.id as i64,
                    binding.origin as i64,
                    binding.kind as i64,
                    to_src.map(|end| bytes(end.address)),
                    to_src.map(|end| end.port),
                    to_dst.map(|end| bytes(end.address)),
                    to_dst.map(|end| end.port),
                    rule,
                ])?;
            return Ok(false);
        }
    }
    end(
        connection,
        names,
        binding.origin,
        binding.id,
        &Totals::default(),
        "unseen",
        binding.start_ms,
    )?;
    write()?;
    Ok(true)
}

/// Completes a mapping; `false` if there is none that lives.
pub(in crate::store) fn end(
    connection: &Connection,
    names: &mut Names,
    origin: Origin,
    id: u64,
    totals: &Totals,
    reason: &str,
    at_ms: i64,
) -> rusqlite::Result<bool> {
    let found: Option<(i64, i64)> = connection
        .prepare_cached(
            "SELECT row, start FROM nat_bindings WHERE flow = ?1 AND origin = ?2 AND end IS NULL",
        )?
        .query_row(params![id as i64, origin as i64], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((row, start)) = found else { return Ok(false) };
    // The clock may have been set back meanwhile.
    let at_ms = at_ms.max(start);
    let reason = names.number(connection, reason)?;
    connection
        .prepare_cached(
            "UPDATE nat_bindings SET end = ?2, span = ?3, reason = ?4, packets = ?5, bytes = ?6, \
             reply_packets = ?7, reply_bytes = ?8 WHERE row = ?1",
        )?
        .execute(params![
            row,
            at_ms,
            span(start, at_ms),
            reason,
            totals.packets as i64,
            totals.bytes as i64,
            totals.reply_packets as i64,
            totals.reply_bytes as i64,
        ])?;
    Ok(true)
}

/// Ends every live mapping of `origin` that isn't among `ids`; how many.
pub(in crate::store) fn only_live(
    connection: &Connection,
    names: &mut Names,
    origin: Origin,
    ids: &[u64],
    at_ms: i64,
) -> rusqlite::Result<usize> {
    let live: Vec<u64> = connection
        .prepare_cached("SELECT flow FROM nat_bindings WHERE end IS NULL AND origin = ?1")?
        .query_map([origin as i64], |row| row.get::<_, i64>(0).map(|id| id as u64))?
        .collect::<Result<_, _>>()?;
    let ids: std::collections::HashSet<u64> = ids.iter().copied().collect();
    let mut ended = 0;
    for id in live.into_iter().filter(|id| !ids.contains(id)) {
        ended +=
            usize::from(end(connection, names, origin, id, &Totals::default(), "unseen", at_ms)?);
    }
    Ok(ended)
}

/// Sorts rows, and takes out those that were found twice.
pub(in crate::store) fn latest_first(rows: &mut Vec<BindingRow>) {
    rows.sort_by_key(|row| {
        (std::cmp::Reverse(row.binding.start_ms), row.binding.id, row.binding.origin.name())
    });
    rows.dedup();
}

/// Mappings, latest first.
pub(in crate::store) fn list(
    connection: &Connection,
    filter: &BindingFilter,
) -> rusqlite::Result<Vec<BindingRow>> {
    let host = filter.host.map(bytes);
    let live = match filter.live {
        Some(true) => "AND b.end IS NULL",
        Some(false) => "AND b.end IS NOT NULL",
        None => "",
    };
    // One ordered walk for each index: never a sort of everything.
    let (sources, order): (&[&str], _) = match host {
        Some(_) => (
            &[
                "b.to_src IS NOT NULL AND b.src = :host",
                "b.to_dst IS NOT NULL AND b.to_dst = :host",
            ],
            "start",
        ),
        None => (&[":host IS NULL"], "row"),
    };
    let mut rows = Vec::new();
    for source in sources {
        let sql = format!(
            "SELECT {COLUMNS} FROM nat_bindings b WHERE {source} AND b.start <= :until \
             AND coalesce(b.end, :since) >= :since {live} ORDER BY b.{order} DESC LIMIT :limit"
        );
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
        let mut statement = connection.prepare_cached(&sql)?;
        let found = statement.query_map(
            named_params! {
                ":host": host.clone().map_or(Value::Null, Value::Blob),
                ":since": filter.since_ms.unwrap_or(i64::MIN),
                ":until": filter.until_ms.unwrap_or(i64::MAX),
                ":limit": limit,
            } as &[(&str, &dyn ToSql)],
            read,
        )?;
        for row in found {
            rows.push(row?);
        }
    }
    latest_first(&mut rows);
    rows.truncate(filter.limit);
    Ok(rows)
}

/// Mappings, latest first, with no limit; `each` says whether it wants more. Hosts aren't looked at.
pub(in crate::store) fn each(
    connection: &Connection,
    filter: &BindingFilter,
    each: &mut dyn FnMut(BindingRow) -> bool,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM nat_bindings b WHERE b.start <= ?2 \
         AND coalesce(b.end, ?1) >= ?1 ORDER BY b.row DESC"
    ))?;
    let since = filter.since_ms.unwrap_or(i64::MIN);
    let mut rows = statement.query(params![since, filter.until_ms.unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        if !each(read(row)?) {
            break;
        }
    }
    Ok(())
}

/// The table, for those who forget.
#[derive(Debug)]
pub(in crate::store) struct NatBindings;

/// Rows looked at in one step.
const STEP: i64 = 4096;

impl Aged for NatBindings {
    fn name(&self) -> &'static str {
        "nat_bindings"
    }

    fn oldest(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        connection
            .prepare_cached("SELECT start FROM nat_bindings ORDER BY row LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()
    }

    fn remove(
        &self,
        connection: &Connection,
        which: Which,
        most: usize,
    ) -> rusqlite::Result<Removed> {
        // Rows come in the order in which they began (but for those that a new daemon found), so what
        // is old is at the front, between a few that still live.
        let mut walk = connection.prepare_cached(
            "SELECT row, start, end FROM nat_bindings WHERE row > ?1 ORDER BY row LIMIT ?2",
        )?;
        let mut delete = connection.prepare_cached("DELETE FROM nat_bindings WHERE row = ?1")?;
        let mut removed = Removed::default();
        let mut last = i64::MIN;
        loop {
            let step: Vec<(i64, i64, Option<i64>)> = walk
                .query_map([last, STEP], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<_, _>>()?;
            let Some(&(end_of_step, ..)) = step.last() else { return Ok(removed) };
            last = end_of_step;
            let mut all_young = true;
            for (row, start, end) in step {
                let goes = match which {
                    Which::EndedBefore(time) => {
                        all_young &= start >= time;
                        end.is_some_and(|end| end < time)
                    }
                    Which::Ended => {
                        all_young = false;
                        end.is_some()
                    }
                    Which::Any => {
                        all_young = false;
                        true
                    }
                };
                if goes {
                    removed.rows += delete.execute([row])?;
                    removed.latest = removed.latest.max(end.or(Some(start)));
                    if removed.rows >= most {
                        return Ok(removed);
                    }
                }
            }
            if all_young {
                return Ok(removed);
            }
        }
    }
}
