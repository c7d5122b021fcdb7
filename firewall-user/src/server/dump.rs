//! The whole flow table, as it is read: a row a line (NDJSON), in no order.
//!
//! Rows are made while the table is read, part by part, and sent as they are made: a million flows take no
//! more memory than a thousand, and whoever reads slowly holds up nobody but themselves. Each flow that lives
//! through the reading is told once; those that come or go meanwhile may be.

use super::{error::ApiError, query};
use crate::{
    daemon::control::{Control, Part},
    filter::Filter,
    monitor::{FlowRecord, Lens},
    view::FlowView,
};
use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use firewall_common::abi::{flow::bits, reason::Reason};
use futures_util::stream;
use std::{convert::Infallible, sync::Arc};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// What is asked for in `Accept`, and answered.
pub const NDJSON: &str = "application/x-ndjson";
/// Parts in which the table is read: the thread that owns it does other things in between.
const PARTS: usize = 256;
/// Parts that are read ahead of the rows.
const READ_AHEAD: usize = 2;
/// Bytes of rows that are handed on together.
const PIECE: usize = 128 << 10;
/// Pieces that wait for whoever reads.
const PIECES: usize = 4;

/// What to tell.
#[derive(Debug)]
pub struct Wanted {
    filter: Option<Filter>,
    limit: usize,
}

impl Wanted {
    /// As a request says: without a `limit` there is none.
    ///
    /// # Errors
    /// The filter makes no sense, or an order is asked for.
    pub fn new(query: &query::Query) -> Result<Self, ApiError> {
        if query.sort.as_deref().is_some_and(|sort| sort != query::UNSORTED) {
            return Err(ApiError::bad_request(
                "a stream of flows comes as the table is read: `sort` can only be `none`",
            ));
        }
        let filter = query::filter::<FlowView>(query.filter.as_deref().unwrap_or(""))?;
        Ok(Self { filter, limit: query.limit.unwrap_or(usize::MAX) })
    }
}

/// Begins to tell.
pub fn respond(
    control: Control,
    lens: Arc<dyn Fn() -> Lens + Send + Sync>,
    wanted: Wanted,
) -> Response {
    let (parts, read) = channel(READ_AHEAD);
    let (pieces, made) = channel(PIECES);
    tokio::spawn(read_parts(control, parts));
    // Rows are work: not on the threads that serve.
    tokio::task::spawn_blocking(move || make_rows(read, &*lens, &wanted, &pieces));
    let body = stream::unfold(made, async |mut made: Receiver<Bytes>| {
        made.recv().await.map(|piece| (Ok::<_, Infallible>(piece), made))
    });
    ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(body)).into_response()
}

async fn read_parts(control: Control, parts: Sender<Vec<FlowRecord>>) {
    for part in 0..PARTS {
        let Ok(records) = control.part(Part { part, parts: PARTS, translated: false }).await else {
            return;
        };
        // Nobody wants more.
        if parts.send(records).await.is_err() {
            return;
        }
    }
}

fn make_rows(
    mut read: Receiver<Vec<FlowRecord>>,
    lens: &dyn Fn() -> Lens,
    wanted: &Wanted,
    pieces: &Sender<Bytes>,
) {
    let mut left = wanted.limit;
    let mut piece = Vec::with_capacity(2 * PIECE);
    while let Some(records) = read.blocking_recv() {
        let lens = lens();
        for record in &records {
            if left == 0 {
                break;
            }
            let closed = record.flow.bits & bits::TOLD_CLOSED != 0;
            let row = lens.row(record, closed.then_some(Reason::Closed));
            if wanted.filter.as_ref().is_some_and(|filter| !filter.matches(&row)) {
                continue;
            }
            // Writing into memory doesn't fail.
            let _ = serde_json::to_writer(&mut piece, &row);
            piece.push(b'\n');
            left -= 1;
            if piece.len() >= PIECE {
                let full = std::mem::replace(&mut piece, Vec::with_capacity(2 * PIECE));
                if pieces.blocking_send(full.into()).is_err() {
                    return;
                }
            }
        }
        if left == 0 {
            break;
        }
    }
    if !piece.is_empty() {
        let _ = pieces.blocking_send(piece.into());
    }
}
