//! Sockets, with the flow that their packets met.

use super::{denied, error::ApiError, query};
use crate::{
    daemon::sockets::Sockets,
    monitor::sockets::AttributeError,
    policy::SshPeer,
    view::{
        EventView, FailedKillView, FlowView, KilledSocketsView, SocketDetailsView,
        SocketSamplesView, SocketView,
    },
};
use serde::Deserialize;
use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

/// `?filter=&limit=&sort=&ended=`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketQuery {
    /// Filter expression.
    #[serde(default)]
    filter: Option<String>,
    /// Rows at most.
    #[serde(default)]
    limit: Option<usize>,
    /// Field to sort by.
    #[serde(default)]
    sort: Option<String>,
    /// Those that have ended, instead of those that live.
    #[serde(default)]
    ended: bool,
}

/// `sockets.kill`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillQuery {
    filter: String,
    #[serde(default)]
    dry_run: bool,
    /// Also the connection that the caller came by.
    #[serde(default)]
    force: bool,
    /// First refuse their remote addresses, by rules of their own.
    #[serde(default)]
    block: bool,
    /// The caller's `SSH_CONNECTION`.
    #[serde(default)]
    ssh_connection: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
}

/// Addresses that are blocked at once.
const BLOCKED: usize = 256;

/// What is to be blocked before sockets are ended.
#[derive(Debug)]
pub struct Block {
    /// Addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// As of the request.
    pub force: bool,
    /// As of the request.
    pub ssh_connection: Option<String>,
}

/// Ends the sockets that match. `block`: refuses addresses, and says by which rules; done first, or who was ended
/// would be back at once.
///
/// # Errors
/// Sockets aren't followed; the filter is empty or makes no sense; nothing can be blocked: nothing is ended,
/// then.
pub async fn kill(
    sockets: &Sockets,
    flows: impl FnOnce(&mut dyn FnMut(FlowView)),
    block: impl AsyncFnOnce(Block) -> Result<Vec<String>, ApiError>,
    asked: KillQuery,
) -> Result<KilledSocketsView, ApiError> {
    let KillQuery { filter, dry_run, force, block: blocks, ssh_connection, limit } = asked;
    let Some(filter) = query::filter::<SocketView>(&filter)? else {
        return Err(ApiError::bad_request(
            "an empty filter would end every socket; say so: `family in (4, 6)`",
        ));
    };
    let mut rows = live(sockets, flows).await?;
    rows.retain(|row| filter.matches(row));
    let matched = rows.len();
    let caller = ssh_connection.as_deref().filter(|_| !force);
    rows.retain(|row| !is_ours(row) && !caller.is_some_and(|ssh| came_by(row, ssh)));
    let mut view = KilledSocketsView {
        dry_run,
        spared: (matched - rows.len()) as u64,
        ..KilledSocketsView::default()
    };
    if blocks && !rows.is_empty() {
        let addresses: BTreeSet<IpAddr> = rows.iter().filter_map(remote).collect();
        if addresses.len() > BLOCKED {
            return Err(ApiError::bad_request(format!(
                "{} remote addresses are more than {BLOCKED}: give a narrower filter",
                addresses.len()
            )));
        }
        if !dry_run && !addresses.is_empty() {
            view.blocked = block(Block { addresses, force, ssh_connection }).await?;
        }
    }
    if !dry_run {
        let ids: Vec<u64> =
            rows.iter().filter_map(|row| u64::from_str_radix(&row.id, 16).ok()).collect();
        let handle = sockets.clone();
        let failed = tokio::task::spawn_blocking(move || handle.kill(&ids))
            .await
            .map_err(|error| ApiError::internal(error.to_string()))?;
        for (id, why) in failed {
            let id = format!("{id:x}");
            rows.retain(|row| row.id != id);
            view.failed.push(FailedKillView { id, why });
        }
        log::info!("{} sockets killed: {}", rows.len(), filter.text());
    }
    view.total = rows.len() as u64;
    rows.truncate(query::Query { limit, ..query::Query::default() }.limit());
    view.rows = rows;
    Ok(view)
}

/// Whom a socket is connected with, where that can be blocked.
fn remote(row: &SocketView) -> Option<IpAddr> {
    let address: IpAddr = row.remote.parse().ok()?;
    (row.remote_port != 0 && !address.is_unspecified() && !address.is_loopback()).then_some(address)
}

/// Whether a socket is the daemon's own: nobody could see what becomes of the others.
fn is_ours(row: &SocketView) -> bool {
    row.holders.iter().any(|holder| holder.pid == std::process::id())
}

/// Whether it is the connection that the caller came by.
fn came_by(row: &SocketView, ssh_connection: &str) -> bool {
    SshPeer::from_ssh_connection(ssh_connection).is_some_and(|ssh| {
        row.remote == ssh.peer.to_string()
            && row.local == ssh.local.to_string()
            && (row.remote_port, row.local_port) == (ssh.peer_port, ssh.local_port)
    })
}

/// Live sockets, fresh, with their flows.
async fn live(
    sockets: &Sockets,
    flows: impl FnOnce(&mut dyn FnMut(FlowView)),
) -> Result<Vec<SocketView>, ApiError> {
    fresh(sockets).await?;
    let mut rows = sockets.rows(false, |_| true);
    join(&mut rows, flows);
    Ok(rows)
}

pub(super) async fn fresh(sockets: &Sockets) -> Result<(), ApiError> {
    sockets.refresh().await;
    if let Some(trouble) = sockets.trouble() {
        let message = format!("sockets aren't followed: {trouble}");
        let status = axum::http::StatusCode::SERVICE_UNAVAILABLE;
        return Err(ApiError::new(status, "sockets-off", message));
    }
    Ok(())
}

/// Both ends and the protocol, as rows have them.
type Ends<'a> = (&'a str, &'a str, u16, &'a str, u16);

/// The rows that are asked for, and how many there are.
///
/// # Errors
/// Sockets aren't followed; filter or order make no sense.
pub async fn sockets(
    sockets: &Sockets,
    flows: impl FnOnce(&mut dyn FnMut(FlowView)),
    calls: impl FnOnce(&mut dyn FnMut(&EventView)),
    asked: &SocketQuery,
) -> Result<(usize, Vec<SocketView>), ApiError> {
    let filter = query::filter::<SocketView>(asked.filter.as_deref().unwrap_or(""))?;
    fresh(sockets).await?;
    let mut rows = sockets.rows(asked.ended, |_| true);
    join(&mut rows, flows);
    if asked.ended {
        let netns = sockets.netns();
        calls(&mut |event| rows.extend(denied::row(event, netns)));
    }
    rows.retain(|row| filter.as_ref().is_none_or(|filter| filter.matches(row)));
    sort(&mut rows, asked)?;
    let total = rows.len();
    let limit = query::Query { limit: asked.limit, ..query::Query::default() }.limit();
    rows.truncate(limit);
    Ok((total, rows))
}

/// `{"id", "text"?}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneQuery {
    #[serde(alias = "name")]
    id: String,
    /// The note.
    #[serde(default)]
    text: Option<String>,
}

impl OneQuery {
    fn cookie(&self) -> Result<u64, ApiError> {
        u64::from_str_radix(&self.id, 16).map_err(|_| {
            let message = format!(
                "`{}` isn't the id of a socket: hexadecimal digits, as in `sockets`",
                self.id
            );
            ApiError::bad_request(message)
        })
    }
}

fn no_socket(id: &str) -> ApiError {
    let message = format!("there is no socket {id}, or it has made room for later ones");
    ApiError::not_found("no-such-socket", message)
}

/// All about one socket, live or ended.
///
/// # Errors
/// Sockets aren't followed; there is none of this id.
pub async fn show(
    sockets: &Sockets,
    flows: impl FnOnce(&mut dyn FnMut(FlowView)),
    asked: &OneQuery,
) -> Result<SocketDetailsView, ApiError> {
    let cookie = asked.cookie()?;
    if asked.text.is_some() {
        return Err(ApiError::bad_request("`sockets.show` takes no `text`"));
    }
    fresh(sockets).await?;
    let mut view = sockets.details(cookie).ok_or_else(|| no_socket(&asked.id))?;
    let mut rows = [view.socket];
    join(&mut rows, flows);
    let [socket] = rows;
    view.socket = socket;
    Ok(view)
}

/// One socket over time, live or ended.
///
/// # Errors
/// Sockets aren't followed; there is none of this id.
pub async fn samples(sockets: &Sockets, asked: &OneQuery) -> Result<SocketSamplesView, ApiError> {
    let cookie = asked.cookie()?;
    if asked.text.is_some() {
        return Err(ApiError::bad_request("`sockets.samples` takes no `text`"));
    }
    fresh(sockets).await?;
    sockets.samples(cookie).ok_or_else(|| no_socket(&asked.id))
}

/// Notes something on a socket.
///
/// # Errors
/// Sockets aren't followed; there is none of this id; no room, or the text doesn't fit.
pub async fn note(sockets: &Sockets, asked: &OneQuery) -> Result<(), ApiError> {
    let cookie = asked.cookie()?;
    let Some(text) = &asked.text else {
        return Err(ApiError::bad_request(
            "`text` is missing: the note; an empty one takes it away",
        ));
    };
    fresh(sockets).await?;
    sockets.note(cookie, text).map_err(|error| match error {
        AttributeError::NoSocket => no_socket(&asked.id),
        other => ApiError::bad_request(format!("the note: {other}")),
    })?;
    log::info!("socket {}: noted", asked.id);
    Ok(())
}

/// Gives each socket of the daemon's namespace the flow with its two ends, whichever began it.
pub(crate) fn join(rows: &mut [SocketView], flows: impl FnOnce(&mut dyn FnMut(FlowView))) {
    let mut found: HashMap<usize, FlowView> = HashMap::new();
    {
        let ends: HashMap<Ends<'_>, usize> = rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.own_netns && row.remote_port != 0)
            .map(|(i, row)| {
                let ends = (
                    row.proto.as_str(),
                    row.local.as_str(),
                    row.local_port,
                    row.remote.as_str(),
                    row.remote_port,
                );
                (ends, i)
            })
            .collect();
        if ends.is_empty() {
            return;
        }
        flows(&mut |flow| {
            let there: Ends<'_> = (&flow.proto, &flow.src, flow.sport, &flow.dst, flow.dport);
            let back: Ends<'_> = (&flow.proto, &flow.dst, flow.dport, &flow.src, flow.sport);
            let at = ends.get(&there).or_else(|| ends.get(&back)).copied();
            if let Some(at) = at {
                found.insert(at, flow);
            }
        });
    }
    for (at, flow) in found {
        if let Some(row) = rows.get_mut(at) {
            // One that has ended may have had the ends of a flow that came later.
            if row.ended.is_none() || row.rule.is_none() {
                row.rule = Some(flow.rule);
            }
            (row.flow, row.nat) = (Some(flow.id), flow.nat);
        }
    }
}

/// Names the rule that refused a connection, where the filter told of it: `dropped`, whatever the caller's own
/// stack made of it. Also of other namespaces, whose packets come by here.
pub(crate) fn blame(rows: &mut [SocketView], refused: impl FnOnce(&mut dyn FnMut(&EventView))) {
    let mut ends: HashMap<(String, u16, String, u16), usize> = HashMap::new();
    for (i, row) in rows.iter().enumerate() {
        let failed = matches!(
            row.ended.as_deref(),
            Some("refused" | "timed-out" | "no-route" | "abandoned" | "failed")
        );
        if failed && row.proto == "tcp" && row.connect_us.is_none() && row.local_port != 0 {
            let key = (row.local.clone(), row.local_port, row.remote.clone(), row.remote_port);
            // Rows come latest first, and the latest is meant.
            ends.entry(key).or_insert(i);
        }
    }
    if ends.is_empty() {
        return;
    }
    refused(&mut |event| {
        if event.class != "verdict" || event.proto != "tcp" || event.verdict == "allow" {
            return;
        }
        let key = (event.src.clone(), event.sport, event.dst.clone(), event.dport);
        if let Some(row) = ends.get(&key).and_then(|at| rows.get_mut(*at)) {
            (row.ended, row.rule) = (Some("dropped".to_owned()), Some(event.rule.clone()));
        }
    });
}

/// Fields to sort by: numbers from the largest, text from A.
const SORTS: [&str; 10] = [
    "sent_rate",
    "received_rate",
    "sent_bytes",
    "received_bytes",
    "rtt",
    "retransmits",
    "age",
    "local_port",
    "comm",
    "state",
];

fn sort(rows: &mut [SocketView], asked: &SocketQuery) -> Result<(), ApiError> {
    // Ties by id, so that the same sockets come in the same order.
    rows.sort_by(|a, b| (a.id.len(), &a.id).cmp(&(b.id.len(), &b.id)));
    let Some(by) = asked.sort.as_deref() else {
        if asked.ended {
            rows.sort_by(|a, b| b.closed.cmp(&a.closed));
        } else {
            rows.sort_by_key(|row| {
                (row.state != "listen", Reverse(row.sent_rate + row.received_rate))
            });
        }
        return Ok(());
    };
    let (name, turned) = by.strip_prefix('-').map_or((by, false), |name| (name, true));
    match name {
        "sent_rate" => rows.sort_by_key(|row| Reverse(row.sent_rate)),
        "received_rate" => rows.sort_by_key(|row| Reverse(row.received_rate)),
        "sent_bytes" => rows.sort_by_key(|row| Reverse(row.sent_bytes)),
        "received_bytes" => rows.sort_by_key(|row| Reverse(row.received_bytes)),
        "rtt" => rows.sort_by_key(|row| Reverse(row.rtt_us)),
        "retransmits" => rows.sort_by_key(|row| Reverse(row.retransmits)),
        "age" => rows.sort_by_key(|row| Reverse(row.age_ms)),
        "local_port" => rows.sort_by_key(|row| row.local_port),
        "comm" => rows.sort_by(|a, b| a.comm.cmp(&b.comm)),
        "state" => rows.sort_by(|a, b| a.state.cmp(&b.state)),
        _ => return Err(query::unsortable(name, SORTS.into_iter())),
    }
    if turned {
        rows.reverse();
    }
    // What isn't known is neither the largest nor the smallest.
    rows.sort_by_key(|row| match name {
        "rtt" => row.rtt_us.is_none(),
        "age" => row.age_ms.is_none(),
        "comm" => row.comm.is_none(),
        _ => false,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(id: &str, local: u16, remote: u16) -> SocketView {
        SocketView {
            id: id.into(),
            proto: "tcp".into(),
            local: "10.0.0.1".into(),
            local_port: local,
            remote: "10.0.0.2".into(),
            remote_port: remote,
            own_netns: true,
            ..SocketView::default()
        }
    }

    fn flow(id: &str, src: (&str, u16), dst: (&str, u16)) -> FlowView {
        FlowView {
            id: id.into(),
            proto: "tcp".into(),
            src: src.0.into(),
            sport: src.1,
            dst: dst.0.into(),
            dport: dst.1,
            rule: format!("rule-{id}"),
            ..FlowView::default()
        }
    }

    #[test]
    fn a_socket_meets_its_flow_whoever_began_it() {
        let mut other = socket("3", 80, 5000);
        other.own_netns = false;
        let mut rows = vec![socket("1", 80, 4000), socket("2", 5000, 22), other];
        let flows = [
            flow("a", ("10.0.0.2", 4000), ("10.0.0.1", 80)),
            flow("b", ("10.0.0.1", 5000), ("10.0.0.2", 22)),
            flow("c", ("10.0.0.2", 5000), ("10.0.0.1", 80)),
            flow("d", ("10.0.0.2", 4000), ("10.0.0.1", 81)),
        ];
        join(&mut rows, |each| flows.into_iter().for_each(each));
        let met: Vec<_> = rows.iter().map(|row| row.rule.as_deref()).collect();
        assert_eq!(met, [Some("rule-a"), Some("rule-b"), None], "another namespace's isn't ours");
    }

    #[test]
    fn what_is_not_known_comes_last_either_way() {
        let timed = |id: &str, rtt_us| SocketView { rtt_us, ..socket(id, 1, 2) };
        let mut rows = vec![timed("1", None), timed("2", Some(5)), timed("3", Some(9))];
        for (by, order) in [("rtt", "321"), ("-rtt", "231")] {
            let asked = SocketQuery { sort: Some(by.into()), ..SocketQuery::default() };
            sort(&mut rows, &asked).expect("a field");
            let ids: String = rows.iter().map(|row| row.id.as_str()).collect();
            assert_eq!(ids, order, "{by}");
        }
    }

    #[test]
    fn the_connection_that_the_caller_came_by_is_known() {
        let row = socket("1", 22, 40_000);
        assert!(came_by(&row, "10.0.0.2 40000 10.0.0.1 22"));
        assert!(came_by(&row, "::ffff:10.0.0.2 40000 ::ffff:10.0.0.1 22"));
        for other in ["10.0.0.2 40001 10.0.0.1 22", "10.0.0.1 22 10.0.0.2 40000", "", "10.0.0.2"] {
            assert!(!came_by(&row, other), "{other}");
        }
    }

    #[test]
    fn sorting_names_what_there_is() {
        let mut rows = vec![socket("2", 80, 0), socket("10", 22, 0), socket("1", 443, 0)];
        let by = |sort: &str| SocketQuery { sort: Some(sort.into()), ..SocketQuery::default() };
        sort(&mut rows, &by("local_port")).expect("known");
        assert_eq!(rows.iter().map(|row| row.local_port).collect::<Vec<_>>(), [22, 80, 443]);
        sort(&mut rows, &by("-local_port")).expect("known");
        assert_eq!(rows[0].local_port, 443);
        let error = sort(&mut rows, &by("colour")).expect_err("unknown");
        assert!(error.body.message.contains("received_rate"), "{}", error.body.message);
        for name in SORTS {
            sort(&mut rows, &by(name)).expect("as it is listed");
        }
    }
}
