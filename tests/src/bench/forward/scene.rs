//! A lab whose gate has one of the filters that bulk traffic and connections meet: a thousand rules, the last
//! of which lets the traffic through.

use super::super::gate::{Gate, Setup};
use super::super::netfilter::nft;
use super::super::packet::rule;
use crate::bpf::{Asm, Hook, Kind, Link, Program};
use crate::lab::Lab;
use std::fmt::Write as _;

/// What stands at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// Nothing.
    None,
    /// nftables, with state.
    Nftables,
    /// Programs that pass everything, where Sluice's stand in mode `xdp`: at XDP and at TC, out.
    EmptyXdp,
    /// The same at TC, in and out.
    EmptyTc,
    /// Sluice in a hook mode.
    Sluice(&'static str),
}

/// The lab and its filter.
#[derive(Debug)]
pub(super) struct Scene {
    /// The three namespaces; nothing is changed at their links.
    pub lab: Lab,
    _gate: Option<Gate>,
    _links: Vec<Link>,
}

/// Rules before the one that matches.
const RULES: usize = 999;

impl Scene {
    /// Builds it.
    ///
    /// # Errors
    /// In words.
    pub fn new(filter: Filter) -> Result<Self, String> {
        let lab = Lab::new().map_err(|error| error.to_string())?;
        let mut scene = Self { lab, _gate: None, _links: Vec::new() };
        let lab = &scene.lab;
        match filter {
            Filter::None => {}
            Filter::Nftables => nft(&lab.gate, &rules())?,
            Filter::EmptyXdp => {
                let program = Program::load(Kind::XDP_FRAGS, &Asm::returning(2));
                scene._links = attach(lab, &program, &[Hook::Xdp])?;
                let program = Program::load(Kind::Tc, &Asm::returning(u32::MAX));
                scene._links.extend(attach(lab, &program, &[Hook::TcxOut])?);
            }
            Filter::EmptyTc => {
                let program = Program::load(Kind::Tc, &Asm::returning(u32::MAX));
                scene._links = attach(lab, &program, &[Hook::TcxIn, Hook::TcxOut])?;
            }
            Filter::Sluice(mode) => {
                let ifaces = [("wan0", mode), ("lan0", mode)];
                let setup = Setup { ifaces: &ifaces, policy: &policy(), max_flows: 1_000_000 };
                scene._gate = Some(Gate::start(&lab.gate, setup)?);
            }
        }
        Ok(scene)
    }
}

fn attach(
    lab: &Lab,
    program: &std::io::Result<Program>,
    hooks: &[Hook],
) -> Result<Vec<Link>, String> {
    let program = program.as_ref().map_err(|error| error.to_string())?;
    let mut links = Vec::new();
    for name in ["wan0", "lan0"] {
        let index = lab.gate.ifindex(name).map_err(|error| error.to_string())?;
        for hook in hooks {
            let link = lab.gate.run(|| Link::attach(program, index, *hook));
            links.push(link.map_err(|error| format!("{hook:?} at {name}: {error}"))?);
        }
    }
    Ok(links)
}

fn policy() -> String {
    let mut text = String::from("default in drop\ndefault out drop\n");
    for i in 0..RULES {
        let (src, dst, (low, high)) = rule(i, RULES + 1);
        let _ = writeln!(text, "rule r{i} allow tcp from {src} to {dst} port {low}-{high}");
    }
    text.push_str("rule last allow tcp to 10.77.2.0/24\n");
    text
}

fn rules() -> String {
    let mut text = String::from(
        "table ip bench {\n chain forwarded {\n  type filter hook forward priority 0; policy drop;\n  \
         ct state established,related accept\n  ct state invalid drop\n",
    );
    for i in 0..RULES {
        let (src, dst, (low, high)) = rule(i, RULES + 1);
        let _ =
            writeln!(text, "  ip saddr {src} ip daddr {dst} tcp dport {low}-{high} counter accept");
    }
    text.push_str("  ip daddr 10.77.2.0/24 ip protocol tcp counter accept\n }\n}\n");
    text
}
