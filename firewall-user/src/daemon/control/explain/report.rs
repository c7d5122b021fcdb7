//! One packet's way, in words.

use super::{
    Scene,
    stage::{Judged, Stage},
};
use crate::{
    daemon::control::{ControlError, actor::Found, gate::GateError},
    datapath::twin::{self, Post},
    explain::{Understood, hex_text, understand},
    monitor::{FlowRecord, names},
    policy::{
        Policy,
        meet::{Meeting, Seen, flag_names},
        words,
    },
    view::{ExplainView, ExplainedRuleView, MissView, MovedCounterView},
};
use firewall_common::{
    abi::{
        event::Class,
        flow::{Judgement, bits},
        reason::Reason,
        table::{Direction, State},
    },
    wire::Parsed,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most rules that are shown.
const SHOWN: usize = 200;
/// The same where each is asked for.
const SHOWN_ALL: usize = 10_000;

/// What is asked.
pub struct Question<'q> {
    pub scene: &'q Scene,
    pub post: &'q Post,
    pub frame: &'q [u8],
    pub packet: &'q Understood,
    /// The live flow.
    pub found: Option<&'q Found>,
    /// Each rule.
    pub all: bool,
    pub notes: Vec<String>,
}

/// Runs the packet and says what came of it.
pub fn report(stage: &mut Stage, question: Question<'_>) -> Result<ExplainView, ControlError> {
    let Question { scene, post, frame, packet, found, all, notes } = question;
    let known = packet.is_ip().then(|| stage.flow(&packet.facts)).flatten();
    let judged = stage.run(post, frame, &packet.facts).map_err(GateError::from)?;
    let mut view = ExplainView {
        generation: scene.generation,
        direction: post.direction.name().to_owned(),
        interface: post.iface.clone(),
        hook: judged.ran.hook.to_owned(),
        frame: hex_text(frame),
        length: u32::try_from(frame.len()).unwrap_or(u32::MAX),
        packet: packet.line(),
        malformed: packet.parsed.err().map(|reason| reason.name().to_owned()),
        flow: found.map(|found| found.row.clone()),
        verdict: judged.verdict.name().to_owned(),
        reason: judged.reason.name().to_owned(),
        rule: judged.slot.map(|slot| stage.name(slot)),
        action: judged.ran.action.to_owned(),
        counters: counters(stage, &judged),
        notes,
        ..ExplainView::default()
    };
    if judged.ran.frame != frame && judged.ran.action != "drop" {
        view.becomes = Some(hex_text(&judged.ran.frame));
        view.becomes_packet = Some(understand(&judged.ran.frame).line());
    }
    let meeting = Meeting::with_sets(&scene.policy, scene.sets.by_name(&scene.policy));
    let way = way(&meeting, stage, post, packet, known.as_ref(), judged.reason);
    view.state = way.state.map(|state| state.name().to_owned());
    view.tracking = way.text;
    if let Some(seen) = &way.seen
        && judged.asked
    {
        rules(&meeting, seen, &judged, stage, all, &mut view);
        view.translation = way.translation;
        view.seen = way.changed.then(|| seen_line(seen));
    }
    let asked = scene.policy.owner_rules().count();
    if asked > 0 && judged.asked {
        view.notes.push(format!(
            "{asked} rules by owner aren't asked here, but where a process calls for the network"
        ));
    }
    Ok(view)
}

/// What the rules are asked about.
struct Way {
    state: Option<State>,
    text: String,
    seen: Option<Seen>,
    translation: Option<String>,
    /// What the rules see isn't the packet itself.
    changed: bool,
}

fn way(
    meeting: &Meeting<'_>,
    stage: &Stage,
    post: &Post,
    packet: &Understood,
    known: Option<&FlowRecord>,
    reason: Reason,
) -> Way {
    let none = |text: &str| Way {
        state: None,
        text: text.to_owned(),
        seen: None,
        translation: None,
        changed: false,
    };
    match (packet.parsed, reason) {
        (Err(_), _) => return none("not asked: the packet can't be understood"),
        (Ok(Parsed::Arp), _) => return none("not asked: ARP always passes"),
        (Ok(Parsed::OtherEthertype), _) => return none("not asked: neither IPv4, IPv6 nor ARP"),
        (_, Reason::NeighbourDiscovery) => {
            return none("not asked: neighbour discovery with hop limit 255 always passes");
        }
        (_, Reason::FragmentWithoutFirst) => {
            return none("not asked: a later fragment whose first wasn't seen");
        }
        (_, Reason::Related) => {
            let mut way = none("an ICMP error about a known flow: passes without rules");
            way.state = Some(State::Related);
            return way;
        }
        _ => {}
    }
    let Some(known) = known else { return fresh(meeting, post, packet) };
    if matches!(
        reason,
        Reason::Established | Reason::OutOfWindow | Reason::FastPath | Reason::Bypassed
    ) {
        let mut way = none("its flow is known, and the live policy let it in: rules aren't asked");
        way.state = Some(State::Established);
        return way;
    }
    judged_again(stage, post, packet, known)
}

fn fresh(meeting: &Meeting<'_>, post: &Post, packet: &Understood) -> Way {
    let (state, begins) = packet.fresh(meeting.policy().options.tcp_pickup);
    let text = match (state, begins) {
        (State::New, true) => "no flow is known: it would begin one",
        (State::New, false) => "no flow is known, and a later fragment begins none",
        (State::Invalid, _) => "no flow is known, and it can't begin one",
        _ => "no flow is known, and none is looked for: it neither asks nor answers",
    };
    let seen = packet.seen(post.direction, &post.iface, state);
    let own = twin::address(&post.iface).map(Ipv4Addr::from);
    let inside = seen.as_ref().and_then(|seen| meeting.inside(seen, own));
    let (translation, inside) = inside.map(|(nat, seen)| (nat.name.value.clone(), seen)).unzip();
    let changed = inside.is_some();
    Way { state: Some(state), text: text.to_owned(), seen: inside.or(seen), translation, changed }
}

/// A flow that the policy hasn't judged yet, or not at this hook: it is judged as its first packet was.
fn judged_again(stage: &Stage, post: &Post, packet: &Understood, known: &FlowRecord) -> Way {
    let flow = &known.flow;
    let stale = |judged: Judgement| judged.is_set() && judged.generation() != stage.generation();
    let facts = &packet.facts;
    let port = |bytes: [u8; 2]| u16::from_be_bytes(bytes);
    let reply = (known.src, known.sport) != (facts.src, port(facts.sport))
        && (known.dst, known.dport) == (facts.src, port(facts.sport));
    let slot_name = |slot: u8| stage.iface(slot).unwrap_or_default();
    let (direction, iface, state) = if reply && stale(flow.judged_in) {
        (Direction::In, slot_name(flow.if_in), State::Established)
    } else if reply && stale(flow.judged_out) {
        (Direction::Out, slot_name(flow.if_out), State::Established)
    } else {
        let here = match post.direction {
            Direction::In => flow.judged_in,
            Direction::Out => flow.judged_out,
        };
        let state = if here.is_set() { State::Established } else { State::New };
        (post.direction, post.iface.clone(), state)
    };
    let text = if state == State::New {
        "its flow is known, and meets this hook for the first time"
    } else {
        "its flow is known, and an older policy let it in: judged once more, as its first packet was"
    };
    let address = |bytes: [u8; 16]| match known.family {
        4 => IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]),
        _ => Ipv6Addr::from(bytes).into(),
    };
    let has_ports = words::WITH_PORTS.contains(&known.proto);
    let mut seen = Seen {
        direction,
        iface,
        src: address(known.src),
        dst: address(known.dst),
        proto: known.proto,
        sport: if has_ports { known.sport } else { 0 },
        dport: if has_ports { known.dport } else { 0 },
        icmp: (flow.icmp()[0], flow.icmp()[1]),
        flags: flow.first_flags,
        state,
    };
    if let Some(nat) = known.nat.filter(|_| flow.bits & bits::NAT_DESTINATION != 0) {
        (seen.dst, seen.dport) = (nat.dst.into(), if has_ports { nat.dport } else { 0 });
    }
    let itself = packet.seen(post.direction, &post.iface, state);
    let changed = itself.as_ref() != Some(&seen);
    Way { state: Some(state), text: text.to_owned(), seen: Some(seen), translation: None, changed }
}

fn rules(
    meeting: &Meeting<'_>,
    seen: &Seen,
    judged: &Judged,
    stage: &Stage,
    all: bool,
    view: &mut ExplainView,
) {
    let policy: &Policy = meeting.policy();
    let truth = judged.slot.map(|slot| stage.name(slot));
    let most = if all { SHOWN_ALL } else { SHOWN };
    let mut decided = None;
    let enabled = |rule: &&(usize, &crate::policy::ast::Rule)| {
        rule.1.enabled && !rule.1.when.owner.is_asked()
    };
    for (place, rule) in policy.rules.iter().enumerate().filter(|rule| enabled(&rule)) {
        let misses = meeting.misses(rule, seen);
        let met = misses.is_empty();
        let decides = met && rule.action.is_terminal();
        if (decides || all || misses.len() < 2) && (decides || view.rules.len() < most) {
            view.rules.push(ExplainedRuleView {
                position: u32::try_from(place + 1).unwrap_or(u32::MAX),
                rule: rule.name.value.clone(),
                action: rule.action.name().to_owned(),
                met,
                decides,
                misses: misses
                    .into_iter()
                    .map(|miss| MissView {
                        field: miss.field.to_owned(),
                        seen: miss.seen,
                        expected: miss.expected,
                    })
                    .collect(),
                text: rule.text.clone(),
            });
        } else {
            view.hidden += 1;
        }
        if decides {
            decided = Some(rule.name.value.as_str());
            break;
        }
    }
    let default = match seen.direction {
        Direction::In => names::DEFAULT_IN,
        Direction::Out => names::DEFAULT_OUT,
    };
    let reading = decided.unwrap_or(default);
    if truth.as_deref() != Some(reading) {
        view.warnings.push(format!(
            "the kernel's programs and the policy disagree: by the policy as written `{reading}` decides, but the \
             programs were decided by `{}`; the programs are what counts. Please report this, with the packet and \
             the policy",
            truth.as_deref().unwrap_or("no rule")
        ));
    }
}

fn seen_line(seen: &Seen) -> String {
    let end = |addr: IpAddr, port: u16| match (addr, words::WITH_PORTS.contains(&seen.proto)) {
        (addr, false) => addr.to_string(),
        (IpAddr::V4(addr), _) => format!("{addr}:{port}"),
        (IpAddr::V6(addr), _) => format!("[{addr}]:{port}"),
    };
    let flags = match seen.proto {
        words::TCP => format!(" {}", flag_names(seen.flags)),
        _ => String::new(),
    };
    format!(
        "{} on {} {} {} > {}{flags}",
        seen.direction.name(),
        seen.iface,
        words::protocol_name(seen.proto),
        end(seen.src, seen.sport),
        end(seen.dst, seen.dport)
    )
}

fn counters(stage: &Stage, judged: &Judged) -> Vec<MovedCounterView> {
    let moved = &judged.ran.moved;
    let mut rows = Vec::new();
    for (slot, counter) in &moved.rules {
        rows.push(MovedCounterView {
            kind: "rule".to_owned(),
            name: stage.name(*slot),
            hits: counter.hits,
            packets: counter.packets,
            bytes: counter.bytes,
        });
    }
    for (verdict, reason, counter) in &moved.reasons {
        rows.push(MovedCounterView {
            kind: "reason".to_owned(),
            name: format!("{} {}", verdict.name(), reason.name()),
            hits: 0,
            packets: counter.packets,
            bytes: counter.bytes,
        });
    }
    for (class, counter) in Class::ALL.iter().zip(&moved.events) {
        if counter.produced > 0 {
            rows.push(MovedCounterView {
                kind: "event".to_owned(),
                name: class.name().to_owned(),
                hits: counter.produced,
                ..MovedCounterView::default()
            });
        }
    }
    rows
}
