//! What would become of a packet, and why.

use super::FlowView;
use serde::{Deserialize, Serialize};

/// A packet that was run through the filter's twin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExplainView {
    /// Generation of the policy that judged.
    pub generation: u32,
    /// `in` or `out`.
    pub direction: String,
    /// Interface it is met at.
    pub interface: String,
    /// The hook that judged it: `xdp`, `tc-in`, `tc-out`.
    pub hook: String,
    /// The frame, hexadecimal.
    pub frame: String,
    /// Its length, bytes.
    pub length: u32,
    /// What the parser made of it, in one line.
    pub packet: String,
    /// Why it can't be understood, where it can't: a reason.
    pub malformed: Option<String>,
    /// What connection tracking says: `new`, `established`, `related`, `invalid`, `untracked`; `None`: it isn't asked.
    pub state: Option<String>,
    /// Where that comes from, in words.
    pub tracking: String,
    /// The live flow that it belongs to; a copy of it was put into the twin.
    pub flow: Option<FlowView>,
    /// Name of the statement that translates its destination before the rules are asked.
    pub translation: Option<String>,
    /// What the rules see then, where that is another packet.
    pub seen: Option<String>,
    /// The rules that were looked at, in order: the deciding one, those before it that are met or miss one
    /// condition; with `all` each.
    pub rules: Vec<ExplainedRuleView>,
    /// Rules before the deciding one that aren't shown: they miss several conditions each.
    pub hidden: u32,
    /// `allow`, `drop`, `reject`.
    pub verdict: String,
    /// Why: a reason.
    pub reason: String,
    /// The rule that decided, or that let the flow in; `default in`, `default out`.
    pub rule: Option<String>,
    /// What the program did with the frame: `pass`, `drop`, `answer`, `redirect`.
    pub action: String,
    /// The frame as it goes on, or the answer, hexadecimal, where that is another one.
    pub becomes: Option<String>,
    /// That frame in one line.
    pub becomes_packet: Option<String>,
    /// Counters that the packet would move.
    pub counters: Vec<MovedCounterView>,
    /// What is odd, such as a rule that should decide and doesn't.
    pub warnings: Vec<String>,
    /// What is to be known of how this came about.
    pub notes: Vec<String>,
}

/// A rule that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExplainedRuleView {
    /// 1-based place in the policy.
    pub position: u32,
    /// Its name.
    pub rule: String,
    /// `allow`, `drop`, `reject`, `count`, `bypass`.
    pub action: String,
    /// Whether all its conditions are met.
    pub met: bool,
    /// Whether it decided.
    pub decides: bool,
    /// Conditions that are missed.
    pub misses: Vec<MissView>,
    /// The statement.
    pub text: String,
}

/// A condition that the packet doesn't meet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MissView {
    /// `direction`, `interface`, `family`, `proto`, `icmp`, `icmp-type`, `icmp-code`, `src`, `dst`, `sport`, `dport`,
    /// `flags`, `state`.
    pub field: String,
    /// What the packet has.
    pub seen: String,
    /// What the rule asks for, as it is written.
    pub expected: String,
}

/// A counter that a packet would move.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MovedCounterView {
    /// `rule`, `reason` or `event`.
    pub kind: String,
    /// Name of the rule, `VERDICT REASON`, or the event's class.
    pub name: String,
    /// Packets that were judged by the rule; of events: how many.
    pub hits: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes: of rules from the IP header on, of reasons the frame's.
    pub bytes: u64,
}

/// A part of a capture that was run through the filter's twin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayView {
    /// What the next part has to say, so that flows go on; `None`: this was the last one.
    pub session: Option<String>,
    /// Generation of the policy that judged.
    pub generation: u32,
    /// Interface.
    pub interface: String,
    /// A row a packet.
    pub rows: Vec<ReplayRowView>,
    /// Flows that made room for newer ones in the twin so far: its table is smaller than it may have to be.
    pub evicted: u64,
}

/// What would become of a captured packet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayRowView {
    /// `in` or `out`.
    pub direction: String,
    /// What the parser made of it.
    pub packet: String,
    /// Length of the frame, bytes.
    pub length: u32,
    /// What becomes of it; `None`: the kernel refused to run it.
    pub fate: Option<FateView>,
    /// What becomes of it by the other policy.
    pub against: Option<FateView>,
    /// Whether the two verdicts differ.
    pub changed: bool,
    /// Why it couldn't be run.
    pub error: Option<String>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FateView {
    /// `allow`, `drop`, `reject`.
    pub verdict: String,
    /// A reason.
    pub reason: String,
    /// The rule that decided, or that its flow was let in by.
    pub rule: Option<String>,
}
