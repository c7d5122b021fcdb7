//! What isn't a socket and no plain interface: the fast path, queues with memory of their own, cards in
//! programs' hands, functions of cards, RDMA.

use super::{
    Gate, Judgement, Share,
    interface::{Judged, of},
    order::stand,
};
use crate::{
    paths::facts::{Facts, QueueOwner},
    view::PathView,
};
use std::collections::BTreeMap;

/// Interfaces from which established forwarded flows skip the stack.
pub fn fast_paths(facts: &Facts, gate: &Gate) -> Vec<PathView> {
    if !gate.ways.fast_path {
        return Vec::new();
    }
    let chains: Vec<&str> = facts
        .here
        .hooks
        .iter()
        .filter(|hook| hook.hook == "nf-forward")
        .map(|hook| hook.name.as_str())
        .collect();
    let fast = facts.here.links.iter().filter(|link| {
        let view = gate.interface(&link.name, link.index);
        stand(link, gate).ingress.is_some()
            && view.is_some_and(|view| view.fast_path.starts_with("from here"))
    });
    fast.map(|link| {
        let judgement = Judgement::new(
            Share::Yes,
            "established flows that are forwarded from here go past netfilter and IPsec; Sluice judged \
             them and counts their packets",
        );
        let judgement = if chains.is_empty() {
            judgement
        } else {
            judgement.todo(format!(
                "leave `option fast-path` off if {} must see every packet",
                chains.join(", ")
            ))
        };
        judgement.on(PathView {
            kind: "fast-path".to_owned(),
            name: link.name.clone(),
            ..PathView::default()
        })
    })
    .collect()
}

/// Queues of io_uring zero-copy receive and of devices' memory.
pub fn queues(facts: &Facts, interfaces: &[Judged]) -> Vec<PathView> {
    let mut rows = Vec::new();
    let others = facts.others.iter().map(|space| (Some(space.label.clone()), space));
    for (netns, space) in std::iter::once((None, &facts.here)).chain(others) {
        for queue in &space.queues {
            let (what, owners) = match queue.owner {
                QueueOwner::Xsk => continue,
                QueueOwner::IoUring => ("io_uring", facts.uring_processes.clone()),
                QueueOwner::DeviceMemory => ("a device's memory", Vec::new()),
            };
            let share = of(interfaces, space.inode, queue.index)
                .map_or(Share::No, |interface| interface.filtered);
            let judged = match share {
                Share::No => "where Sluice doesn't judge",
                Share::Part => "where Sluice judges in part",
                Share::Yes => "where Sluice judges and counts them",
            };
            let mut why =
                format!("payload goes to {what} without a copy; headers pass the stack, {judged}");
            if owners.len() > 1 {
                why.push_str("; which of these programs' rings it is, the kernel doesn't tell");
            }
            let judgement = Judgement::new(share, why);
            rows.push(
                judgement.on(PathView {
                    kind: "zero-copy".to_owned(),
                    name: space
                        .link(queue.index)
                        .map_or_else(|| format!("#{}", queue.index), |link| link.name.clone()),
                    netns: netns.clone(),
                    device: Some(what.to_owned()),
                    queue: Some(queue.queue),
                    owners,
                    ..PathView::default()
                }),
            );
        }
    }
    rows
}

/// Cards in programs' hands, and functions of cards.
pub fn cards(facts: &Facts) -> Vec<PathView> {
    let mut rows = Vec::new();
    for card in &facts.cards {
        if card.userspace {
            let judgement = Judgement::new(
                Share::No,
                format!("a program drives this card by itself ({}): its packets never meet the kernel", card.driver),
            )
            .todo("filter in that program or at the switch, or give the card back to its kernel driver");
            rows.push(judgement.on(PathView {
                kind: "userspace-driver".to_owned(),
                name: card.address.clone(),
                device: Some(card.driver.clone()),
                parent: card.physical.as_ref().map(|card| format!("virtual function of {card}")),
                ..PathView::default()
            }));
        }
        if card.functions > 0 {
            rows.push(functions(card));
        }
    }
    rows
}

fn functions(card: &crate::paths::facts::Card) -> PathView {
    let mut drivers: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, driver) in &card.virtuals {
        *drivers.entry(if driver.is_empty() { "no driver" } else { driver }).or_default() += 1;
    }
    let words: Vec<String> =
        drivers.iter().map(|(driver, count)| format!("{count} with {driver}")).collect();
    // Functions with a kernel driver are interfaces of their own; the others are in somebody's hands.
    let away = drivers.keys().any(|driver| {
        *driver == "no driver" || driver.starts_with("vfio") || driver.contains("uio")
    });
    let judgement = Judgement::new(
        if away { Share::No } else { Share::Part },
        format!(
            "{} virtual functions send and get packets at the same port past its interface ({})",
            card.functions,
            words.join(", ")
        ),
    )
    .todo("attach Sluice to the interfaces of functions; filter for those that guests have in the guest or at the switch");
    judgement.on(PathView {
        kind: "sr-iov".to_owned(),
        name: card.address.clone(),
        device: Some(card.driver.clone()),
        parent: (!card.interfaces.is_empty()).then(|| card.interfaces.join(", ")),
        count: card.functions,
        ..PathView::default()
    })
}

/// RDMA devices.
pub fn rdma(facts: &Facts) -> Vec<PathView> {
    let row = |rdma: &crate::paths::facts::Rdma| {
        let layer = if rdma.layers.is_empty() {
            String::new()
        } else {
            format!(" ({})", rdma.layers.join(", "))
        };
        Judgement::new(
            Share::No,
            format!("RDMA{layer} moves data between machines past the kernel: no hook sees it"),
        )
        .todo("unload its driver if nobody uses it; otherwise filter at the switch")
        .on(PathView {
            kind: "rdma".to_owned(),
            name: rdma.name.clone(),
            parent: rdma.device.clone(),
            ..PathView::default()
        })
    };
    facts.rdma.iter().map(row).collect()
}
