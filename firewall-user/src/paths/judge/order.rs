//! What packets meet at an interface, in their order.

use super::Gate;
use crate::{
    paths::facts::{Family, Link, Program, Space},
    view::PathProgramView,
};

/// The order of hooks: `__netif_receive_skb_core` and `__dev_queue_xmit` (net/core/dev.c), between them
/// netfilter's.
const ORDER: [&str; 16] = [
    "netkit-peer",
    "xdp-offload",
    "xdp",
    "xdp-generic",
    "tcx-in",
    "tc-in",
    "nf-ingress",
    "nf-prerouting",
    "nf-input",
    "nf-forward",
    "nf-output",
    "nf-postrouting",
    "nf-egress",
    "tcx-out",
    "tc-out",
    "netkit",
];

fn rank(hook: &str) -> usize {
    ORDER.iter().position(|other| *other == hook).unwrap_or(ORDER.len())
}

/// Everything at an interface, in the order that packets meet it.
pub fn attached(link: &Link, space: &Space, gate: &Gate) -> Vec<PathProgramView> {
    let programs = link.programs.iter().map(|program| {
        let own = gate.own(program.id);
        PathProgramView {
            hook: program.hook.to_owned(),
            id: program.id,
            name: own.map(str::to_owned).or_else(|| program.name.clone()),
            priority: program.priority,
            ours: own.is_some(),
        }
    });
    let bridged = link
        .master
        .and_then(|master| space.link(master))
        .is_some_and(|master| master.kind == "bridge");
    let hooks = space.hooks.iter().filter(|hook| match hook.family {
        Family::Device => hook.devices.contains(&link.name),
        // What a bridge's port gets meets the bridge's hooks; the stack's, once it is the bridge's own.
        Family::Bridge => bridged,
        Family::Ip | Family::Arp => !bridged,
    });
    let hooks = hooks.map(|hook| PathProgramView {
        hook: hook.hook.to_owned(),
        id: None,
        name: Some(hook.name.clone()),
        priority: Some(hook.priority),
        ours: false,
    });
    let mut all: Vec<PathProgramView> = programs.chain(hooks).collect();
    // Stable: within a hook the kernel's order stays.
    all.sort_by_key(|program| rank(&program.hook));
    all
}

/// Where Sluice stands at an interface, and who stands before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stand {
    /// Hook on the way in.
    pub ingress: Option<&'static str>,
    /// Whether it stands on the way out.
    pub egress: bool,
    /// Others that packets meet before it on the way in.
    pub before_in: Vec<Program>,
    /// Others that packets meet before it on the way out.
    pub before_out: Vec<Program>,
}

/// Our program on the way in, by the names of the kernel's object.
const WAY_IN: [&str; 2] = ["sluice_xdp", "sluice_tc_in"];
const WAY_OUT: &str = "sluice_tc_out";

/// As the kernel's rows say it.
pub fn stand(link: &Link, gate: &Gate) -> Stand {
    let mut programs: Vec<&Program> = link.programs.iter().collect();
    programs.sort_by_key(|program| rank(program.hook));
    let mut stand = Stand::default();
    for program in programs {
        let own = gate.own(program.id);
        match program.hook {
            hook @ ("xdp-offload" | "xdp" | "xdp-generic" | "tcx-in" | "tc-in") => match own {
                Some(name) if stand.ingress.is_none() && WAY_IN.contains(&name) => {
                    stand.ingress = Some(hook);
                }
                None if stand.ingress.is_none() => stand.before_in.push(program.clone()),
                _ => {}
            },
            "tcx-out" | "tc-out" => match own {
                Some(WAY_OUT) => stand.egress = true,
                None if !stand.egress => stand.before_out.push(program.clone()),
                _ => {}
            },
            _ => {}
        }
    }
    stand
}

/// A program in words.
pub fn words(program: &Program) -> String {
    let kind = match program.hook {
        "xdp" | "xdp-generic" | "xdp-offload" => "XDP program",
        "tcx-in" | "tcx-out" => "TCX program",
        _ => "TC classifier",
    };
    match (&program.name, program.id) {
        // libxdp's, which has its programs as functions of its own: no row of the kernel's lists them.
        (Some(name), Some(id)) if name == "xdp_dispatcher" => {
            format!("{kind} `{name}` (id {id}), which runs others that the kernel doesn't list,")
        }
        (Some(name), Some(id)) if !name.is_empty() => format!("{kind} `{name}` (id {id})"),
        (Some(name), None) => format!("{kind} `{name}`"),
        (_, Some(id)) => format!("{kind} of id {id}"),
        (None, None) => kind.to_owned(),
    }
}

/// Several of them.
pub fn list(programs: &[Program]) -> String {
    programs.iter().map(words).collect::<Vec<_>>().join(", ")
}
