//! Port blocks by arithmetic: a row for each assignment of a prefix, for as long as it was in force.

use super::{Aged, Removed, Which, names::Names};
use firewall_common::flow::block::Blocks;
use rusqlite::{Connection, OptionalExtension, params};
use std::{net::Ipv4Addr, sync::Arc};

/// What a rule assigns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockAssignment {
    /// The rule's name.
    pub rule: Arc<str>,
    /// The numbers.
    pub blocks: Blocks,
}

/// An assignment as the history has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRow {
    /// What.
    pub assignment: BlockAssignment,
    /// Since when.
    pub start_ms: i64,
    /// Until when; `None` while in force.
    pub end_ms: Option<i64>,
}

impl BlockRow {
    /// The inside prefix as people write it.
    pub fn prefix(&self) -> String {
        let blocks = &self.assignment.blocks;
        format!("{}/{}", Ipv4Addr::from(blocks.inside), blocks.inside_len)
    }
}

const COLUMNS: &str = "(SELECT name FROM names WHERE id = b.rule), b.inside, b.inside_len, b.public, \
     b.addresses, b.port_first, b.port_last, b.size, b.start, b.end";

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<BlockRow> {
    Ok(BlockRow {
        assignment: BlockAssignment {
            rule: row.get::<_, Option<Arc<str>>>(0)?.unwrap_or_default(),
            blocks: Blocks {
                inside: row.get(1)?,
                inside_len: row.get(2)?,
                public: row.get(3)?,
                addresses: row.get(4)?,
                ports: [row.get(5)?, row.get(6)?],
                size: row.get(7)?,
            },
        },
        start_ms: row.get(8)?,
        end_ms: row.get(9)?,
    })
}

/// Assignments that were in force at `at_ms`.
pub(in crate::store) fn in_force(
    connection: &Connection,
    at_ms: i64,
) -> rusqlite::Result<Vec<BlockRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM nat_blocks b WHERE start <= ?1 AND (end IS NULL OR end >= ?1) \
             ORDER BY row"
        ))?
        .query_map([at_ms], read)?
        .collect()
}

/// Makes `wanted` what is in force from `at_ms` on; how many rows began and ended.
pub(in crate::store) fn replace(
    connection: &Connection,
    names: &mut Names,
    wanted: &[BlockAssignment],
    at_ms: i64,
) -> rusqlite::Result<(usize, usize)> {
    let now: Vec<(i64, BlockRow)> = connection
        .prepare_cached(&format!("SELECT {COLUMNS}, b.row FROM nat_blocks b WHERE end IS NULL"))?
        .query_map([], |row| Ok((row.get(10)?, read(row)?)))?
        .collect::<Result<_, _>>()?;
    let (mut begun, mut ended) = (0, 0);
    for (row, old) in &now {
        if !wanted.contains(&old.assignment) {
            ended += connection
                .prepare_cached("UPDATE nat_blocks SET end = max(start, ?2) WHERE row = ?1")?
                .execute([*row, at_ms])?;
        }
    }
    for new in wanted {
        if now.iter().any(|(_, old)| old.assignment == *new) {
            continue;
        }
        let rule = names.number(connection, &new.rule)?;
        let Blocks { inside, inside_len, public, addresses, ports, size } = new.blocks;
        begun += connection
            .prepare_cached(
                "INSERT INTO nat_blocks (rule, inside, inside_len, public, addresses, port_first, \
                 port_last, size, start) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                rule, inside, inside_len, public, addresses, ports[0], ports[1], size, at_ms
            ])?;
    }
    Ok((begun, ended))
}

/// The table, for those who forget.
#[derive(Debug)]
pub(in crate::store) struct NatBlocks;

impl Aged for NatBlocks {
    fn name(&self) -> &'static str {
        "nat_blocks"
    }

    fn oldest(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        // What is in force isn't old, whenever it began.
        connection
            .prepare_cached(
                "SELECT start FROM nat_blocks WHERE end IS NOT NULL ORDER BY row LIMIT 1",
            )?
            .query_row([], |row| row.get(0))
            .optional()
    }

    fn remove(
        &self,
        connection: &Connection,
        which: Which,
        most: usize,
    ) -> rusqlite::Result<Removed> {
        let before = match which {
            Which::EndedBefore(time) => time,
            // What is in force is what the answers hang on, and it is small.
            Which::Ended | Which::Any => i64::MAX,
        };
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let ends: Vec<i64> = connection
            .prepare_cached(
                "DELETE FROM nat_blocks WHERE row IN \
                 (SELECT row FROM nat_blocks WHERE end < ?1 ORDER BY row LIMIT ?2) RETURNING end",
            )?
            .query_map([before, most], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        Ok(Removed { rows: ends.len(), latest: ends.into_iter().max() })
    }
}
