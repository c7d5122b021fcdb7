//! Sockets that take packets at an interface: AF_PACKET and AF_XDP.

use super::{
    Gate, Judgement, Share,
    interface::{Judged, of},
    order::{list, stand},
};
use crate::{
    paths::facts::{Facts, QueueOwner, Space},
    view::{PathOwnerView, PathView},
};
use std::collections::{BTreeMap, BTreeSet};

/// The daemon's namespace without a name, then the others.
fn spaces(facts: &Facts) -> impl Iterator<Item = (Option<String>, &Space)> {
    let others = facts.others.iter().map(|space| (Some(space.label.clone()), space));
    std::iter::once((None, &facts.here)).chain(others)
}

fn name(space: &Space, index: u32) -> String {
    match index {
        0 => "any".to_owned(),
        _ => space.link(index).map_or_else(|| format!("#{index}"), |link| link.name.clone()),
    }
}

fn who(owners: &[PathOwnerView]) -> String {
    match owners {
        [] => "its program".to_owned(),
        [one] => format!("`{}`", one.comm),
        [one, rest @ ..] => format!("`{}` and {} more", one.comm, rest.len()),
    }
}

/// AF_PACKET sockets: those of the same programs at the same place are one row.
pub fn packet(facts: &Facts, interfaces: &[Judged]) -> Vec<PathView> {
    let mut rows = Vec::new();
    for (netns, space) in spaces(facts) {
        let mut groups: BTreeMap<(u32, Vec<PathOwnerView>), (u32, bool)> = BTreeMap::new();
        for socket in &space.packet {
            let owners = facts.owners.get(&socket.inode).cloned().unwrap_or_default();
            let group = groups.entry((socket.index, owners)).or_default();
            group.0 += 1;
            // One that names no protocol only sends.
            group.1 |= socket.protocol != 0;
        }
        for ((index, owners), (count, receives)) in groups {
            let judgement = if netns.is_none() {
                packet_here(facts, interfaces, index, receives, &owners)
            } else {
                packet_elsewhere(space, interfaces, index)
            };
            rows.push(judgement.on(PathView {
                kind: "af-packet".to_owned(),
                name: name(space, index),
                netns: netns.clone(),
                count,
                owners,
                ..PathView::default()
            }));
        }
    }
    rows
}

fn packet_here(
    facts: &Facts,
    interfaces: &[Judged],
    index: u32,
    receives: bool,
    owners: &[PathOwnerView],
) -> Judgement {
    let here = facts.here.inode;
    let there: Vec<&Judged> = match index {
        0 => interfaces.iter().filter(|judged| judged.space == here).collect(),
        _ => of(interfaces, here, index).into_iter().collect(),
    };
    let attached = there.iter().filter(|judged| judged.attached).count();
    let todo = format!("stop {} if it shouldn't see or send raw frames", who(owners));
    if attached == 0 {
        let why = "it sees and sends raw frames where Sluice isn't attached";
        return Judgement::new(Share::No, why).todo(todo);
    }
    // Taps come behind XDP and before TC on the way in (net/core/dev.c, `ptype_all`); on the way out
    // behind TC. Senders pass TC unless PACKET_QDISC_BYPASS is set, which PACKET_DIAG doesn't tell.
    let sees = if !receives {
        "it gets nothing"
    } else if there.iter().all(|judged| judged.at_xdp) {
        "it gets copies of what Sluice has let in"
    } else {
        "it gets copies of what arrives before Sluice has judged it"
    };
    Judgement::new(
        Share::Part,
        format!(
            "{sees}; what it sends is judged and counted, unless it has told the kernel to leave TC \
             out (PACKET_QDISC_BYPASS), which can't be seen"
        ),
    )
    .todo(todo)
}

fn packet_elsewhere(space: &Space, interfaces: &[Judged], index: u32) -> Judgement {
    let leads: Vec<&Judged> = interfaces
        .iter()
        .filter(|judged| judged.space == space.inode && (index == 0 || judged.index == index))
        .collect();
    if leads.iter().any(|judged| judged.filtered != Share::No) {
        let names: Vec<&str> = leads.iter().map(|judged| judged.row.name.as_str()).collect();
        return Judgement::new(
            Share::Part,
            format!(
                "it sees and sends raw frames in its own namespace; what passes {} is judged where \
                 that leads",
                names.join(", ")
            ),
        );
    }
    Judgement::new(
        Share::No,
        "it sees and sends raw frames in another network namespace, where Sluice doesn't judge",
    )
}

/// AF_XDP sockets, by queue.
pub fn xdp(facts: &Facts, gate: &Gate) -> Vec<PathView> {
    let mut rows = Vec::new();
    for (netns, space) in spaces(facts) {
        for socket in &space.xdp {
            let owners = facts.owners.get(&socket.inode).cloned().unwrap_or_default();
            let mode = socket.zero_copy.map(|zero| if zero { "zero-copy" } else { "copy" });
            let bound = socket.index != 0;
            let row = PathView {
                mode: mode.map(str::to_owned),
                queue: bound.then_some(socket.queue),
                ..xdp_row(&netns, name(space, socket.index), owners)
            };
            let judgement = if bound {
                xdp_judgement(netns.is_none(), space, socket.index, gate, &row.owners)
            } else {
                Judgement::new(Share::No, "it is bound to no interface yet")
            };
            rows.push(judgement.on(row));
        }
        rows.extend(unlisted(facts, gate, &netns, space));
    }
    rows
}

fn xdp_row(netns: &Option<String>, name: String, owners: Vec<PathOwnerView>) -> PathView {
    PathView {
        kind: "af-xdp".to_owned(),
        name,
        netns: netns.clone(),
        owners,
        ..PathView::default()
    }
}

/// Sockets that the kernel doesn't list, but the queues and the processes that have some.
fn unlisted(facts: &Facts, gate: &Gate, netns: &Option<String>, space: &Space) -> Vec<PathView> {
    if !space.xdp.is_empty() {
        return Vec::new();
    }
    let mut owners: Vec<PathOwnerView> = facts
        .xdp_processes
        .iter()
        .filter(|(_, home)| *home == space.inode)
        .map(|(owner, _)| owner.clone())
        .collect();
    owners.sort_unstable();
    let queues: BTreeSet<(u32, u32)> = space
        .queues
        .iter()
        .filter(|queue| queue.owner == QueueOwner::Xsk)
        .map(|queue| (queue.index, queue.queue))
        .collect();
    if queues.is_empty() && !owners.is_empty() {
        let row = xdp_row(netns, "unknown".to_owned(), owners);
        let todo = format!("stop {} if it isn't meant to have one", who(&row.owners));
        return vec![
            Judgement::new(
                Share::No,
                "a program has AF_XDP sockets, and this kernel doesn't tell at which interface; what \
                 they send passes no hook",
            )
            .todo(todo)
            .on(row),
        ];
    }
    let certain = match owners.len() {
        0 => "",
        1 => "; its program is the only one seen here that has such sockets",
        _ => "; which of these programs it belongs to, this kernel doesn't tell",
    };
    let row = |(index, queue): (u32, u32)| {
        let row =
            PathView { queue: Some(queue), ..xdp_row(netns, name(space, index), owners.clone()) };
        let mut judgement = xdp_judgement(netns.is_none(), space, index, gate, &row.owners);
        judgement.why.push_str(certain);
        judgement.on(row)
    };
    queues.into_iter().map(row).collect()
}

fn xdp_judgement(
    here: bool,
    space: &Space,
    index: u32,
    gate: &Gate,
    owners: &[PathOwnerView],
) -> Judgement {
    let todo = format!(
        "stop {} if it isn't meant to be there: what it sends can't be judged anywhere",
        who(owners)
    );
    if !here {
        return Judgement::new(
            Share::No,
            "it takes and sends packets in another network namespace, where Sluice doesn't judge",
        )
        .todo(todo);
    }
    let stand = space.link(index).map(|link| stand(link, gate)).unwrap_or_default();
    let first: Vec<_> =
        stand.before_in.iter().filter(|program| program.hook.starts_with("xdp")).cloned().collect();
    if !first.is_empty() {
        let why = format!(
            "{} hands it packets before Sluice sees them, and what it sends passes no hook",
            list(&first)
        );
        return Judgement::new(Share::No, why).todo(todo);
    }
    let at_xdp = stand.ingress.is_some_and(|hook| hook.starts_with("xdp"));
    if at_xdp && gate.ways.bypass {
        return Judgement::new(
            Share::Part,
            "what `bypass` rules hand to it is judged and counted; what it sends passes no hook",
        )
        .todo(todo);
    }
    Judgement::new(
        Share::No,
        if at_xdp {
            "no rule hands packets to it; what it sends passes no hook"
        } else {
            "no XDP program hands packets to it; what it sends passes no hook"
        },
    )
    .todo(todo)
}
