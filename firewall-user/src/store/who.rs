//! Who was behind a public endpoint at a given time.
//!
//! A mapping counts from its first to its last moment, both included: in the millisecond in which a
//! port changes hands, both hosts are named.

use super::tables::{
    bytes,
    nat_bindings::{self, BindingRow, COLUMNS, LIVE, LONGEST, reach},
    nat_blocks::{self, BlockRow},
    since,
};
use rusqlite::{Connection, params};
use std::net::{IpAddr, Ipv4Addr};

/// The question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhoQuery {
    /// Public address.
    pub address: IpAddr,
    /// Public port (ICMP: identifier); `None`: any, which takes longer.
    pub port: Option<u16>,
    /// IP protocol; `None`: any.
    pub proto: Option<u8>,
    /// When, ms since 1970.
    pub at_ms: i64,
    /// Mappings at most.
    pub limit: usize,
}

/// A host that had the port in its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockHit {
    /// The host inside.
    pub host: Ipv4Addr,
    /// Its public address.
    pub address: Ipv4Addr,
    /// First and last port of its block.
    pub ports: [u16; 2],
    /// The assignment it follows from.
    pub row: BlockRow,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Mappings, the latest begun first.
    pub bindings: Vec<BindingRow>,
    /// There are more.
    pub more: bool,
    /// By arithmetic.
    pub blocks: Vec<BlockHit>,
    /// From then on nothing was forgotten, ms since 1970.
    pub since_ms: i64,
}

/// The public side of a translated source, and of a translated destination: index, address, port.
const SIDES: [(&str, &str, &str); 2] =
    [("nat_public_src", "to_src", "to_sport"), ("nat_public_dst", "dst", "dport")];

pub(super) fn who(connection: &Connection, query: &WhoQuery) -> rusqlite::Result<Who> {
    // One view of the file for all that follows.
    let view = connection.unchecked_transaction()?;
    let mut bindings = Vec::new();
    for side in SIDES {
        match query.port {
            Some(port) => at_port(&view, query, side, port, &mut bindings)?,
            None => anywhere(&view, query, side, &mut bindings)?,
        }
    }
    // One whose both ends are translated may be on both sides.
    nat_bindings::latest_first(&mut bindings);
    let more = bindings.len() > query.limit;
    bindings.truncate(query.limit);
    let blocks = blocks(&view, query)?;
    let since_ms = since(&view)?.unwrap_or_default();
    Ok(Who { bindings, more, blocks, since_ms })
}

/// One more than is wanted tells that there are more.
fn most(query: &WhoQuery) -> i64 {
    i64::try_from(query.limit).unwrap_or(i64::MAX).saturating_add(1)
}

fn at_port(
    connection: &Connection,
    query: &WhoQuery,
    (index, address, port_column): (&str, &str, &str),
    port: u16,
    into: &mut Vec<BindingRow>,
) -> rusqlite::Result<()> {
    let end = &index["nat_public_".len()..];
    let wanted = bytes(query.address);
    // Most endpoints are on one side alone.
    let any = connection
        .prepare_cached(&format!(
            "SELECT 1 FROM nat_bindings b INDEXED BY {index} \
             WHERE b.to_{end} IS NOT NULL AND b.{address} = ?1 AND b.{port_column} = ?2 LIMIT 1"
        ))?
        .exists(params![wanted, port])?;
    if !any {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM nat_bindings b INDEXED BY {index} \
         WHERE b.to_{end} IS NOT NULL AND b.{address} = ?1 AND b.{port_column} = ?2 \
         AND b.span = ?3 AND b.start BETWEEN ?4 AND ?5 \
         AND (b.end IS NULL OR b.end >= ?5) AND (?6 IS NULL OR b.proto = ?6) \
         ORDER BY b.start DESC LIMIT ?7"
    ))?;
    for span in (0..=LONGEST).chain([LIVE]) {
        let from = reach(span).map_or(i64::MIN, |reach| query.at_ms.saturating_sub(reach));
        let rows = statement.query_map(
            params![wanted, port, span, from, query.at_ms, query.proto, most(query)],
            nat_bindings::read,
        )?;
        for row in rows {
            into.push(row?);
        }
    }
    Ok(())
}

/// Every port of the address: a walk over all that the index has of it.
fn anywhere(
    connection: &Connection,
    query: &WhoQuery,
    (index, address, _): (&str, &str, &str),
    into: &mut Vec<BindingRow>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM nat_bindings b INDEXED BY {index} \
         WHERE b.to_{end} IS NOT NULL AND b.{address} = ?1 AND b.start <= ?2 \
         AND (b.span >= {LONGEST} OR b.start >= ?2 - (1 << (2 * b.span))) \
         AND (b.end IS NULL OR b.end >= ?2) AND (?3 IS NULL OR b.proto = ?3) \
         ORDER BY b.start DESC LIMIT ?4",
        end = &index["nat_public_".len()..],
    ))?;
    let rows = statement.query_map(
        params![bytes(query.address), query.at_ms, query.proto, most(query)],
        nat_bindings::read,
    )?;
    for row in rows {
        into.push(row?);
    }
    Ok(())
}

fn blocks(connection: &Connection, query: &WhoQuery) -> rusqlite::Result<Vec<BlockHit>> {
    let (IpAddr::V4(address), Some(port)) = (query.address, query.port) else {
        return Ok(Vec::new());
    };
    let mut hits = Vec::new();
    for row in nat_blocks::in_force(connection, query.at_ms)? {
        let blocks = &row.assignment.blocks;
        let Some(host) = blocks.host_of(address.into(), port) else { continue };
        let Some(block) = blocks.of_host(host) else { continue };
        let ports = [block.first, block.last];
        hits.push(BlockHit { host: host.into(), address, ports, row });
    }
    Ok(hits)
}
