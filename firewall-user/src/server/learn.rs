//! Rules proposed from what somebody was seen doing.

use super::{
    error::ApiError,
    history::owner::{self, Done},
};
use crate::{
    daemon::sockets::Sockets,
    filter::Field,
    policy,
    store::History,
    view::{FlowView, LearnHistoryView, LearnView, LearntRuleView, SocketView},
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Remote addresses that are listed; of more than that any is meant.
const ADDRESSES: usize = 8;
/// Ports of one rule.
const PORTS: usize = 32;

/// `?by=&owner=&since=`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnQuery {
    by: String,
    owner: String,
    /// Those of the history as well, from then on.
    #[serde(default)]
    since: Option<String>,
}

/// Rules from what an owner's sockets were seen doing, live and ended ones.
///
/// # Errors
/// Sockets aren't followed; there is no such kind of owner; none of its sockets was seen; the history is asked for, and
/// isn't there.
pub async fn learn(
    sockets: &Sockets,
    flows: impl FnOnce(&mut dyn FnMut(FlowView)),
    history: Option<History>,
    asked: &LearnQuery,
) -> Result<LearnView, ApiError> {
    let (field, of): (Field, fn(&SocketView) -> Option<&String>) = match asked.by.as_str() {
        "unit" => (Field::Unit, |row| row.unit.as_ref()),
        "exe" => (Field::Exe, |row| row.exe.as_ref()),
        "process" => (Field::Comm, |row| row.comm.as_ref()),
        "user" => (Field::User, |row| row.user.as_ref()),
        other => {
            return Err(ApiError::bad_request(format!(
                "can't learn by `{other}`; there are: unit, exe, process, user"
            )));
        }
    };
    super::sockets::fresh(sockets).await?;
    // As policies have it: a unit without an ending is a service.
    let owner = match asked.by.as_str() {
        "unit" if !asked.owner.contains('.') => format!("{}.service", asked.owner),
        _ => asked.owner.clone(),
    };
    if policy::owner_text(&owner).is_none() {
        return Err(ApiError::bad_request(format!("`{owner}` can't be named in a policy")));
    }
    let mine = |row: &SocketView| of(row).is_some_and(|name| *name == owner);
    let live = sockets.rows(false, mine);
    let kept = sockets.rows(true, mine);
    let seen = (live.len() as u64, kept.len() as u64);
    let mut done = Done::default();
    if let Some(since) = &asked.since {
        let known: HashSet<_> = kept.iter().map(ends).collect();
        let listens = listens(live.iter().chain(&kept));
        let known = move |row: &SocketView| known.contains(&ends(row));
        done = owner::done(history, field, owner.clone(), since, listens, known).await?;
    }
    let past = std::mem::take(&mut done.rows);
    let rows: Vec<Row> = live.into_iter().chain(kept).map(|row| (row, 1)).chain(past).collect();
    if rows.is_empty() {
        let by = &asked.by;
        let more = match &asked.since {
            Some(since) => format!(", nor has the history one since {since}"),
            None => "; `--since 24h` looks into the history, too".to_owned(),
        };
        let message = format!(
            "no socket of the {by} `{owner}` was seen{more}; `sluice summary by {by}` says of whom some were"
        );
        return Err(ApiError::bad_request(message));
    }
    let mut udp = Vec::new();
    flows(&mut |flow| {
        if flow.proto == "udp" {
            udp.push(flow);
        }
    });
    let mut view = propose(&asked.by, &owner, &rows, &udp);
    (view.live, view.kept) = seen;
    view.forgotten = sockets.stats().ended_dropped;
    if asked.since.is_some() {
        view.history = Some(LearnHistoryView {
            sockets: done.sockets,
            since: done.since,
            whole_since: done.whole_since,
            cut: done.cut,
            left_out: done.left_out,
            lost: done.lost,
        });
    }
    view.text = text(&view);
    Ok(view)
}

/// A socket, and how many did the same.
type Row = (SocketView, u64);

/// What tells a socket from others, also of another life of the machine.
fn ends(row: &SocketView) -> (String, u16, String, u16) {
    (row.id.clone(), row.local_port, row.remote.clone(), row.remote_port)
}

/// Ports of the daemon's namespace that they listen on.
fn listens<'a>(rows: impl Iterator<Item = &'a SocketView>) -> BTreeSet<u16> {
    let listens = rows.filter(|row| row.own_netns && row.proto == "tcp" && row.state == "listen");
    listens.map(|row| row.local_port).collect()
}

/// What was done: protocol and port, with whom, how often.
#[derive(Debug, Default)]
struct Seen {
    out: BTreeMap<(String, u16), (BTreeSet<String>, u64)>,
    into: BTreeMap<(String, u16), u64>,
    /// Datagrams of which the flow isn't known.
    blind: BTreeMap<String, u64>,
}

impl Seen {
    fn out(&mut self, proto: &str, remote: &str, port: u16, n: u64) {
        let (remotes, sockets) = self.out.entry((proto.to_owned(), port)).or_default();
        remotes.insert(remote.to_owned());
        *sockets += n;
    }

    fn look(&mut self, (row, n): &Row, listens: &BTreeSet<u16>, udp: &[FlowView]) {
        let n = *n;
        let connected = row.remote_port != 0;
        match row.proto.as_str() {
            "tcp" if row.state == "listen" => {
                *self.into.entry(("tcp".to_owned(), row.local_port)).or_default() += n;
            }
            // Accepted: the listener says it.
            "tcp" if listens.contains(&row.local_port) => {}
            // Never connected: what failed isn't to be let by.
            "tcp" if connected && row.connect_us.is_some() => {
                self.out("tcp", &row.remote, row.remote_port, n);
            }
            "udp" if connected => self.out("udp", &row.remote, row.remote_port, n),
            "udp" if row.local_port != 0 => {
                let mut found = false;
                for flow in udp {
                    if flow.direction == "out" && flow.sport == row.local_port {
                        self.out("udp", &flow.dst, flow.dport, n);
                        found = true;
                    } else if flow.direction == "in" && flow.dport == row.local_port {
                        *self.into.entry(("udp".to_owned(), row.local_port)).or_default() += n;
                        found = true;
                    }
                }
                if !found && row.sends + row.receives > 0 {
                    *self.blind.entry("udp".to_owned()).or_default() += n;
                }
            }
            "icmp" | "icmpv6" => *self.blind.entry(row.proto.clone()).or_default() += n,
            _ => {}
        }
    }
}

/// Ports of one protocol that have the same other ends.
#[derive(Debug, Default)]
struct Group {
    ports: BTreeSet<u16>,
    sockets: u64,
    /// Most other ends that one of them had.
    ends: usize,
}

fn propose(by: &str, owner: &str, rows: &[Row], udp: &[FlowView]) -> LearnView {
    let own: Vec<&Row> = rows.iter().filter(|(row, _)| row.own_netns).collect();
    let listens = listens(own.iter().map(|(row, _)| row));
    let count = |rows: &mut dyn Iterator<Item = &Row>| rows.map(|(_, n)| n).sum::<u64>();
    let all = count(&mut rows.iter());
    let mut seen = Seen::default();
    own.iter().for_each(|row| seen.look(row, &listens, udp));
    let base = base(owner);
    let named = if by == "process" { comm(owner) } else { owner };
    let clause = format!("{by} {}", policy::owner_text(named).unwrap_or_default());
    let mut rules: Vec<LearntRuleView> = Vec::new();
    let mut push = |name: String, what: String, sockets: u64, note: Option<String>| {
        let text = format!("rule {name} {what} {clause}");
        rules.push(LearntRuleView { name, text, sockets, note });
    };
    // Ports with the same other ends are one rule.
    let mut grouped: BTreeMap<(String, Option<BTreeSet<String>>), Group> = BTreeMap::new();
    for ((proto, port), (remotes, sockets)) in seen.out {
        let ends = remotes.len();
        let key = (ends <= ADDRESSES).then_some(remotes);
        let group = grouped.entry((proto, key)).or_default();
        group.ports.insert(port);
        group.sockets += sockets;
        group.ends = group.ends.max(ends);
    }
    let mut n = 0;
    for ((proto, remotes), Group { ports, sockets, ends }) in grouped {
        let ports: Vec<u16> = ports.into_iter().collect();
        for ports in ports.chunks(PORTS) {
            n += 1;
            let to = remotes.as_ref().map_or_else(String::new, |all| format!(" {}", list(all)));
            let note =
                remotes.is_none().then(|| format!("{ends} other ends were seen: any is meant"));
            let what = format!("allow out {proto} to{to} port {}", list(ports));
            push(format!("{base}-out-{n}"), what, sockets, note);
        }
    }
    for (proto, sockets) in seen.blind {
        n += 1;
        let note = "whom it speaks with wasn't seen".to_owned();
        push(format!("{base}-out-{n}"), format!("allow out {proto}"), sockets, Some(note));
    }
    let mut served: BTreeMap<String, (BTreeSet<u16>, u64)> = BTreeMap::new();
    for ((proto, port), sockets) in seen.into {
        let (ports, sum) = served.entry(proto).or_default();
        ports.insert(port);
        *sum += sockets;
    }
    for (n, (proto, (ports, sockets))) in served.into_iter().enumerate() {
        let what = format!("allow in {proto} to port {}", list(&ports));
        push(format!("{base}-in-{}", n + 1), what, sockets, None);
    }
    push(format!("{base}-rest-out"), "reject out log".to_owned(), 0, None);
    push(format!("{base}-rest-in"), "drop in log".to_owned(), 0, None);
    let old = own.iter().any(|(row, _)| row.created.is_none());
    LearnView {
        by: by.to_owned(),
        owner: owner.to_owned(),
        sockets: all,
        since: if old { None } else { own.iter().filter_map(|(row, _)| row.created.clone()).min() },
        elsewhere: all - count(&mut own.iter().copied()),
        rules,
        ..LearnView::default()
    }
}

/// One, or several in braces.
fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.as_slice() {
        [one] => one.clone(),
        all => format!("{{ {} }}", all.join(", ")),
    }
}

/// The kernel keeps so much of a process's name.
fn comm(name: &str) -> &str {
    let end = (0..=name.len().min(15)).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    &name[..end]
}

/// What rules are named after: the last part of a path, without a unit's ending, of letters that a name may have.
fn base(owner: &str) -> String {
    let last = owner.rsplit('/').next().unwrap_or(owner);
    let last = [".service", ".scope", ".socket"]
        .iter()
        .find_map(|ending| last.strip_suffix(ending))
        .unwrap_or(last);
    let letters = last.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' });
    let name: String = letters.take(32).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "learnt".to_owned() } else { name.to_owned() }
}

/// As a part of a policy.
fn text(view: &LearnView) -> String {
    let since = view.since.as_deref().unwrap_or("the monitor began, or before");
    let mut text = format!(
        "# What {} `{}` was seen doing: {} sockets since {since}.\n",
        view.by, view.owner, view.sockets
    );
    if view.elsewhere > 0 {
        text.push_str(&format!(
            "# {} of them in other network namespaces, which these rules aren't for.\n",
            view.elsewhere
        ));
    }
    if let Some(history) = &view.history {
        text.push_str(&format!(
            "# {} live, {} that ended lately, {} of the history since {}.\n",
            view.live, view.kept, history.sockets, history.since
        ));
        if history.cut {
            text.push_str(&format!(
                "# The history is whole since {} only: something may be missing.\n",
                history.whole_since
            ));
        }
        if history.lost > 0 {
            text.push_str(&format!(
                "# The history lost {} records, of anybody and anything: something may be missing.\n",
                history.lost
            ));
        }
        if history.left_out > 0 {
            text.push_str(&format!(
                "# {} more of the history were of too many kinds, and weren't looked at.\n",
                history.left_out
            ));
        }
    } else if view.forgotten > 0 {
        text.push_str(&format!(
            "# {} ended sockets, of anybody, aren't kept any more: something may be missing (--since looks into the history).\n",
            view.forgotten
        ));
    }
    for rule in &view.rules {
        if let Some(note) = &rule.note {
            text.push_str(&format!("# {note}\n"));
        }
        text.push_str(&rule.text);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(proto: &str, state: &str, local: u16, remote: (&str, u16)) -> SocketView {
        SocketView {
            proto: proto.into(),
            state: state.into(),
            local_port: local,
            remote: remote.0.into(),
            remote_port: remote.1,
            own_netns: true,
            connect_us: Some(100),
            created: Some("2026-01-01T00:00:00.000Z".into()),
            sends: 1,
            ..SocketView::default()
        }
    }

    #[test]
    fn what_was_done_is_let_by_and_the_rest_is_not() {
        let mut failed = socket("tcp", "closed", 0, ("10.0.0.66", 66));
        failed.connect_us = None;
        let mut other = socket("tcp", "established", 5, ("10.9.9.9", 9));
        other.own_netns = false;
        let mut rows = vec![
            socket("tcp", "listen", 80, ("0.0.0.0", 0)),
            socket("tcp", "listen", 443, ("0.0.0.0", 0)),
            socket("tcp", "established", 443, ("198.51.100.7", 40_000)),
            socket("tcp", "established", 50_000, ("10.0.0.5", 5432)),
            socket("tcp", "closed", 50_001, ("10.0.0.5", 6432)),
            socket("udp", "connected", 50_002, ("10.0.0.53", 53)),
            socket("udp", "unconnected", 5353, ("0.0.0.0", 0)),
            failed,
            other,
        ];
        for i in 0..20 {
            rows.push(socket("tcp", "closed", 51_000, (&format!("203.0.113.{i}"), 8443)));
        }
        let flow = FlowView {
            proto: "udp".into(),
            direction: "out".into(),
            sport: 5353,
            dst: "224.0.0.251".into(),
            dport: 5353,
            ..FlowView::default()
        };
        let rows: Vec<Row> = rows.into_iter().map(|row| (row, 2)).collect();
        let view = propose("unit", "nginx.service", &rows, &[flow]);
        let rules: Vec<&str> = view.rules.iter().map(|rule| rule.text.as_str()).collect();
        assert_eq!(
            rules,
            [
                "rule nginx-out-1 allow out tcp to port 8443 unit nginx.service",
                "rule nginx-out-2 allow out tcp to 10.0.0.5 port { 5432, 6432 } unit nginx.service",
                "rule nginx-out-3 allow out udp to 10.0.0.53 port 53 unit nginx.service",
                "rule nginx-out-4 allow out udp to 224.0.0.251 port 5353 unit nginx.service",
                "rule nginx-in-1 allow in tcp to port { 80, 443 } unit nginx.service",
                "rule nginx-rest-out reject out log unit nginx.service",
                "rule nginx-rest-in drop in log unit nginx.service",
            ]
        );
        assert_eq!((view.sockets, view.elsewhere), (58, 2));
        let blanks = propose("exe", "/opt/My App/app", &rows, &[]);
        let rule = &blanks.rules[0].text;
        assert!(rule.ends_with(r#" exe "/opt/My App/app""#), "{rule}");
        policy::parse(&super::text(&blanks), "learnt").unwrap_or_else(|error| panic!("{error}"));
        // What is proposed is a policy.
        let text = text(&view);
        let policy =
            crate::policy::parse(&text, "learnt").unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(policy.rules.len(), 7);
    }

    #[test]
    fn names_are_names() {
        for (owner, name) in [
            ("nginx.service", "nginx"),
            ("/usr/bin/curl", "curl"),
            ("getty@tty1.service", "getty-tty1"),
            ("...", "learnt"),
        ] {
            assert_eq!(base(owner), name);
        }
        assert_eq!(comm("a-long-name-of-a-process"), "a-long-name-of-");
    }
}
