//! What an owner's sockets did that have ended long ago, for rules that are learnt.

use super::{HistoryKind, SETTLE, failed, rows, unavailable};
use crate::{
    filter::Field,
    server::error::ApiError,
    store::{Condition, History, PastSocket, Span, Wanted, now_ms, when},
    view::SocketView,
};
use std::collections::{BTreeSet, HashMap};

/// Sockets that are told apart: of so many kinds, and no more, the daemon holds one in memory for a while.
const KINDS: usize = 20_000;

/// Sockets of the history, those that did the same as one.
#[derive(Debug, Default)]
pub struct Done {
    /// One of them, the latest, and how many there are.
    pub rows: Vec<(SocketView, u64)>,
    /// How many there are in all.
    pub sockets: u64,
    /// More that did something else, and weren't looked at.
    pub left_out: u64,
    /// From when on was asked for.
    pub since: String,
    /// From when on nothing has been forgotten.
    pub whole_since: String,
    /// Whether that is after what was asked for.
    pub cut: bool,
    /// Records that were never written since the daemon began.
    pub lost: u64,
}

/// What an owner's sockets did from `since` on; `known` are looked at already, and `listens` are ports that they listen
/// on.
///
/// # Errors
/// `since` is no time; 503 `history`: none is kept, or it can't be read.
pub async fn done(
    history: Option<History>,
    field: Field,
    owner: String,
    since: &str,
    listens: BTreeSet<u16>,
    known: impl Fn(&SocketView) -> bool + Send + 'static,
) -> Result<Done, ApiError> {
    let since_ms = when::parse_back(since, now_ms())
        .map_err(|error| ApiError::bad_request(format!("`since` is {error}")))?;
    let history = history.ok_or_else(|| {
        unavailable(
            "no history is kept, so nothing can be learnt from it; `[history] enabled = true` in \
             sluice.toml keeps one"
                .into(),
        )
    })?;
    tokio::task::spawn_blocking(move || {
        history.settle(SETTLE);
        read(&history, field, owner, since_ms, listens, known)
    })
    .await
    .map_err(|error| ApiError::internal(error.to_string()))?
}

fn read(
    history: &History,
    field: Field,
    owner: String,
    since_ms: i64,
    mut listens: BTreeSet<u16>,
    known: impl Fn(&SocketView) -> bool,
) -> Result<Done, ApiError> {
    let column = HistoryKind::Sockets
        .column(field)
        .ok_or_else(|| ApiError::internal(format!("the history has no `{}`", field.name())))?;
    let condition = Condition::Is(column, vec![Wanted::Word(owner)]);
    let mut found = Done { since: when::show(since_ms), ..Done::default() };
    let mut kinds: HashMap<Kind, usize> = HashMap::new();
    let span = Span { since_ms, until_ms: i64::MAX };
    // A listener ends after what it accepted, or lives.
    let mut listener = |row: PastSocket| {
        if row.state == "listen" && row.proto == "tcp" && row.own_netns {
            listens.insert(row.local_port);
        }
        true
    };
    history.sockets(span, Some(&condition), &mut listener).map_err(failed)?;
    history
        .sockets(span, Some(&condition), &mut |row| {
            let row = rows::socket(row);
            if known(&row) {
                return true;
            }
            let kind = kind(&row, &listens);
            if let Some(at) = kinds.get(&kind) {
                if let Some((first, n)) = found.rows.get_mut(*at) {
                    *n += 1;
                    // The one that is kept says since when.
                    if row.created < first.created {
                        first.created = row.created;
                    }
                }
            } else if found.rows.len() == KINDS {
                found.left_out += 1;
                return true;
            } else {
                kinds.insert(kind, found.rows.len());
                found.rows.push((row, 1));
            }
            found.sockets += 1;
            true
        })
        .map_err(failed)?;
    let whole_ms = history.since().map_err(failed)?;
    found.whole_since = when::show(whole_ms);
    found.cut = whole_ms > since_ms;
    found.lost = history.stats().lost;
    Ok(found)
}

/// What of a socket rules are made of: protocol, whether it listens, its port, the other end, and whether it is of the
/// daemon's namespace, was connected, and carried anything.
type Kind = (String, bool, u16, String, u16, bool, bool, bool);

/// Of a connection its own port says only whether a listener accepted it; and then the other end says nothing.
fn kind(row: &SocketView, listens: &BTreeSet<u16>) -> Kind {
    let listens_itself = row.state == "listen";
    let accepted = !listens_itself && row.proto == "tcp" && listens.contains(&row.local_port);
    let port = match (listens_itself || accepted, row.remote_port) {
        (true, _) | (false, 0) => row.local_port,
        (false, _) => 0,
    };
    let (remote, remote_port) =
        if accepted { (String::new(), 0) } else { (row.remote.clone(), row.remote_port) };
    let carried = row.sends + row.receives > 0;
    let (own, connected) = (row.own_netns, row.connect_us.is_some());
    (row.proto.clone(), listens_itself, port, remote, remote_port, own, connected, carried)
}
