//! Interfaces: those of the daemon's namespace, and those elsewhere that lead here.

use super::{
    Gate, Judgement, Share,
    order::{Stand, attached, list, stand},
};
use crate::{
    paths::facts::{Facts, Link, QueueOwner, Side, Space, XdpMode},
    view::PathView,
};

/// An interface with its row.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Inode of its namespace.
    pub space: u64,
    /// Its index there.
    pub index: u32,
    /// How much of its packets is judged.
    pub filtered: Share,
    /// Whether Sluice stands at it in the driver or in generic XDP.
    pub at_xdp: bool,
    /// Whether Sluice stands at it at all.
    pub attached: bool,
    /// The row.
    pub row: PathView,
}

/// The row of an interface, if it has one.
pub fn of(interfaces: &[Judged], space: u64, index: u32) -> Option<&Judged> {
    interfaces.iter().find(|judged| judged.space == space && judged.index == index)
}

/// All of the daemon's namespace, and those of others that lead here or are hardware.
pub fn judge_all(facts: &Facts, gate: &Gate) -> Vec<Judged> {
    let mut all: Vec<Judged> =
        facts.here.links.iter().map(|link| here(link, facts, gate)).collect();
    for space in &facts.others {
        let leads = |link: &&Link| {
            link.side == Side::Space(facts.here.inode) || link.device() == "physical"
        };
        for link in space.links.iter().filter(leads) {
            let judged = elsewhere(link, space, facts, &all);
            all.push(judged);
        }
    }
    all
}

fn row(link: &Link, space: &Space, facts: &Facts) -> PathView {
    let mode = match link.xdp.as_slice() {
        [] => None,
        [(mode, _)] => Some(match mode {
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
            XdpMode::Offload => "offload",
        }),
        _ => Some("multiple"),
    };
    PathView {
        kind: "interface".to_owned(),
        name: link.name.clone(),
        device: Some(link.device().to_owned()),
        parent: parent(link, space, facts),
        mode: mode.map(str::to_owned),
        ..PathView::default()
    }
}

/// Whether an interface has another end, instead of something below it.
fn is_pair(link: &Link) -> bool {
    matches!(link.kind.as_str(), "veth" | "netkit" | "vxcan")
}

/// What is below an interface, at its other end, or above it, in words.
fn parent(link: &Link, space: &Space, facts: &Facts) -> Option<String> {
    let word = if is_pair(link) { "other end:" } else { "over" };
    let name = |space: &Space| {
        let found = link.lower.and_then(|lower| space.link(lower));
        found.map_or_else(|| "an interface".to_owned(), |other| other.name.clone())
    };
    let below = match (link.side, link.lower) {
        (Side::Same, None) => None,
        (Side::Same, Some(_)) => Some(format!("{word} {}", name(space))),
        (Side::Space(inode), _) if inode == facts.here.inode => {
            Some(format!("{word} {} of the daemon's namespace", name(&facts.here)))
        }
        (Side::Space(inode), _) => {
            let other = facts.others.iter().find(|other| other.inode == inode);
            Some(match other {
                Some(other) => format!("{word} {} in netns {}", name(other), other.label),
                None => match facts.labels.get(&inode) {
                    Some(label) => format!("{word} in netns {label}"),
                    None => format!("{word} in netns net:[{inode}]"),
                },
            })
        }
        (Side::Unknown, _) => {
            Some(format!("{word} in a network namespace that can't be reached from here"))
        }
    };
    let port = link.master.and_then(|master| space.link(master));
    let port = port.map(|master| format!("port of {}", master.name));
    let bus = link.bus.clone();
    let parts: Vec<String> = [bus, below, port].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn here(link: &Link, facts: &Facts, gate: &Gate) -> Judged {
    let space = &facts.here;
    let stand = stand(link, gate);
    let judgement = judge(link, &stand, facts, gate);
    let judged = Judged {
        space: space.inode,
        index: link.index,
        filtered: judgement.filtered,
        at_xdp: stand.ingress.is_some_and(|hook| hook.starts_with("xdp")),
        attached: stand.ingress.is_some(),
        row: PathView::default(),
    };
    let row = PathView { attached: attached(link, space, gate), ..row(link, space, facts) };
    Judged { row: judgement.on(row), ..judged }
}

/// Whether Sluice stands at an interface, both ways.
fn stands(link: &Link, gate: &Gate) -> bool {
    let stand = stand(link, gate);
    stand.ingress.is_some() && stand.egress
}

fn judge(link: &Link, stand: &Stand, facts: &Facts, gate: &Gate) -> Judgement {
    match (stand.ingress, stand.egress) {
        (Some(hook), true) => attached_there(link, hook, stand, facts),
        (Some(_), false) => Judgement::new(
            Share::Part,
            "Sluice stands on the way in only: what leaves isn't judged",
        )
        .todo("restart the daemon; its log says why nothing hangs on the way out"),
        (None, true) => Judgement::new(
            Share::Part,
            "Sluice stands on the way out only: what comes in isn't judged",
        )
        .todo("restart the daemon; its log says why nothing hangs on the way in"),
        (None, false) => not_attached(link, stand, facts, gate),
    }
}

fn attached_there(link: &Link, hook: &str, stand: &Stand, facts: &Facts) -> Judgement {
    if !stand.before_in.is_empty() {
        let others = list(&stand.before_in);
        let todo = if hook.starts_with("tc") && others.starts_with("XDP") {
            format!(
                "take it off (`ip link set dev {} xdp off`) and let Sluice attach with mode `xdp`, \
                 if it isn't meant to be there",
                link.name
            )
        } else {
            "let Sluice stand first: take the other off, restart the daemon, then load it again"
                .to_owned()
        };
        let why = format!("{others} sees packets before Sluice does, and can take or answer them");
        return Judgement::new(Share::Part, why).todo(todo);
    }
    if !stand.before_out.is_empty() {
        let why = format!(
            "{} sees packets before Sluice does on the way out, and can send them elsewhere",
            list(&stand.before_out)
        );
        return Judgement::new(Share::Part, why)
            .todo("load it behind Sluice, if it isn't meant to be first");
    }
    let xsk = facts.here.xdp.iter().any(|socket| socket.index == link.index)
        || facts
            .here
            .queues
            .iter()
            .any(|queue| queue.index == link.index && queue.owner == QueueOwner::Xsk);
    if xsk {
        return Judgement::new(
            Share::Part,
            "Sluice judges and counts what comes in; what AF_XDP sockets send here passes no hook",
        )
        .todo("see the rows `af-xdp` for who has them");
    }
    let place = match hook {
        "xdp-offload" | "xdp" => "in the driver",
        "xdp-generic" => "in generic XDP",
        _ => "at TC",
    };
    Judgement::new(
        Share::Yes,
        format!(
            "Sluice judges and counts every packet, {place} as it comes in and at TC as it goes out"
        ),
    )
}

/// `[[interface]]` of the configuration.
fn attach(name: &str) -> String {
    format!(
        "put `[[interface]]` with `name = \"{name}\"` in sluice.toml and reload the daemon, \
         if its packets should be judged"
    )
}

fn not_attached(link: &Link, stand: &Stand, facts: &Facts, gate: &Gate) -> Judgement {
    let name = &link.name;
    if gate.interface(name, link.index).is_some() {
        if facts.programs_unread {
            return Judgement::new(
                Share::Yes,
                "Sluice attached to it; whether others stand before it couldn't be read",
            );
        }
        return Judgement::new(Share::No, "Sluice attached to it, and its programs are gone")
            .todo("restart the daemon, and find out who took them off");
    }
    if link.device() == "loopback" {
        return Judgement::new(
            Share::No,
            "the machine talks to itself here: nothing enters or leaves by it",
        );
    }
    if !link.up {
        return Judgement::new(Share::No, "it is down: no packets pass");
    }
    if let Some(judgement) = around(link, facts, gate) {
        return judgement;
    }
    if !link.ethernet() {
        return Judgement::new(
            Share::No,
            "it carries no Ethernet frames, and Sluice judges no others",
        )
        .todo("judge its packets with nftables, or where they leave wrapped in others");
    }
    let first = if stand.before_in.is_empty() {
        String::new()
    } else {
        format!("; {} handles them instead", list(&stand.before_in))
    };
    let why = match link.kind.as_str() {
        "veth" | "netkit" if link.side != Side::Same => {
            format!("another network namespace sends and gets packets here past Sluice{first}")
        }
        "vxlan" | "geneve" | "gretap" | "ip6gretap" | "erspan" | "macsec" => format!(
            "its packets travel inside others: Sluice sees those at most, not what is in them{first}"
        ),
        "tun" => format!("a program sends and gets packets here past Sluice{first}"),
        "dummy" | "ifb" | "nlmon" => {
            return Judgement::new(Share::No, "nothing enters or leaves the machine by it");
        }
        _ => format!(
            "Sluice isn't attached to it: its packets are neither judged nor counted{first}"
        ),
    };
    Judgement::new(Share::No, why).todo(attach(name))
}

/// Interfaces whose packets are judged at others: below, above, or beside them.
fn around(link: &Link, facts: &Facts, gate: &Gate) -> Option<Judgement> {
    let space = &facts.here;
    let lower = link.lower.filter(|_| link.side == Side::Same).and_then(|lower| space.link(lower));
    match link.kind.as_str() {
        "veth" | "netkit" => {
            if let Some(end) = lower.filter(|lower| stands(lower, gate)) {
                return Some(Judgement::new(
                    Share::Yes,
                    format!("its packets are judged and counted at its other end, {}", end.name),
                ));
            }
        }
        "vlan" => {
            let lower = lower.filter(|lower| stands(lower, gate))?;
            return Some(Judgement::new(
                Share::Yes,
                format!("its frames pass {}, where Sluice judges and counts them", lower.name),
            ));
        }
        "macvlan" | "macvtap" | "ipvlan" | "ipvtap" => {
            let lower = lower.filter(|lower| stands(lower, gate))?;
            return Some(over_parent(link, &lower.name));
        }
        "bridge" | "bond" | "team" => {
            let ports: Vec<&Link> =
                space.links.iter().filter(|port| port.master == Some(link.index)).collect();
            let judged = ports.iter().filter(|port| stands(port, gate)).count();
            if !ports.is_empty() && judged == ports.len() {
                return Some(Judgement::new(
                    Share::Yes,
                    "Sluice judges and counts the packets of each of its ports",
                ));
            }
            if judged > 0 {
                return Some(
                    Judgement::new(
                        Share::Part,
                        format!("Sluice judges {judged} of its {} ports", ports.len()),
                    )
                    .todo(attach(&link.name)),
                );
            }
        }
        _ => {}
    }
    let master = space.link(link.master?).filter(|master| stands(master, gate))?;
    Some(match master.kind.as_str() {
        "bond" | "team" => Judgement::new(
            Share::Yes,
            format!("its frames are those of {}, where Sluice judges and counts them", master.name),
        ),
        _ => Judgement::new(
            Share::Part,
            format!(
                "Sluice judges what the machine itself sends and gets at {}, not what the bridge \
                 forwards from port to port",
                master.name
            ),
        )
        .todo(attach(&link.name)),
    })
}

/// A macvlan or ipvlan over an interface where Sluice stands.
fn over_parent(link: &Link, parent: &str) -> Judgement {
    if link.isolated {
        return Judgement::new(
            Share::Yes,
            format!("its frames pass {parent}, where Sluice judges and counts them"),
        );
    }
    Judgement::new(
        Share::Part,
        format!(
            "Sluice judges what passes {parent}, not what the interfaces over it send each other"
        ),
    )
    .todo("attach Sluice to it too, or switch it to a mode that keeps siblings apart, if that matters")
}

fn elsewhere(link: &Link, space: &Space, facts: &Facts, judged: &[Judged]) -> Judged {
    let lower = link.lower.filter(|_| link.side == Side::Space(facts.here.inode));
    let lower = lower.and_then(|lower| of(judged, facts.here.inode, lower));
    let judgement = match lower {
        None => Judgement::new(
            Share::No,
            "it is hardware in another network namespace, and Sluice judges in its own only",
        )
        .todo("run another daemon in that namespace, or bring the card back"),
        Some(end) if is_pair(link) => {
            let name = &end.row.name;
            match end.filtered {
                Share::Yes => Judgement::new(
                    Share::Yes,
                    format!("its packets are judged and counted at its other end, {name}"),
                ),
                Share::Part => Judgement::new(
                    Share::Part,
                    format!("its packets are judged in part at its other end, {name}"),
                ),
                Share::No => Judgement::new(
                    Share::No,
                    format!("its packets aren't judged at its other end, {name}"),
                ),
            }
        }
        Some(parent) => match parent.filtered {
            Share::No => Judgement::new(
                Share::No,
                format!("its frames pass {}, where Sluice doesn't stand", parent.row.name),
            ),
            Share::Part => Judgement::new(
                Share::Part,
                format!("its frames pass {}, where Sluice judges in part", parent.row.name),
            ),
            Share::Yes => Judgement { todo: None, ..over_parent(link, &parent.row.name) },
        },
    };
    let filtered = judgement.filtered;
    let row = PathView {
        netns: Some(space.label.clone()),
        owners: space.process.clone().into_iter().collect(),
        ..row(link, space, facts)
    };
    Judged {
        space: space.inode,
        index: link.index,
        filtered,
        at_xdp: false,
        attached: false,
        row: judgement.on(row),
    }
}
