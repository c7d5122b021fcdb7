//! What is known of sockets by name, as one table of all.

use super::{error::ApiError, query, sockets};
use crate::{
    daemon::sockets::{AttributeTable, Sockets},
    view::{FlowView, SocketView},
};
use serde::Deserialize;

/// `?filter=&name=&ended=&limit=`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeQuery {
    /// Filter expression: of sockets.
    #[serde(default)]
    filter: Option<String>,
    /// Attributes of this name alone.
    #[serde(default)]
    name: Option<String>,
    /// Of those that have ended, instead of those that live.
    #[serde(default)]
    ended: bool,
    /// Rows at most.
    #[serde(default)]
    limit: Option<usize>,
}

/// Attributes of the sockets that match, in the order of their ids.
///
/// # Errors
/// Sockets aren't followed; the filter makes no sense.
pub async fn attributes(
    handle: &Sockets,
    flows: impl FnOnce(&mut dyn FnMut(FlowView)),
    asked: &AttributeQuery,
) -> Result<AttributeTable, ApiError> {
    let filter = query::filter::<SocketView>(asked.filter.as_deref().unwrap_or(""))?;
    sockets::fresh(handle).await?;
    let mut rows = handle.rows(asked.ended, |_| true);
    sockets::join(&mut rows, flows);
    rows.retain(|row| filter.as_ref().is_none_or(|filter| filter.matches(row)));
    let mut ids: Vec<u64> =
        rows.iter().filter_map(|row| u64::from_str_radix(&row.id, 16).ok()).collect();
    ids.sort_unstable();
    ids.dedup();
    let most = query::Query { limit: asked.limit, ..query::Query::default() }.limit();
    let (handle, name, ended) = (handle.clone(), asked.name.clone(), asked.ended);
    // It looks into folders.
    let read = move || handle.attributes(ended, &ids, name.as_deref(), most);
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|error| ApiError::internal(error.to_string()))
}
