use super::*;
use crate::policy::classify::{Outcome, Probe, classify};
use crate::policy::edit::Spot;
use crate::policy::{compile, parse, splice};
use firewall_common::abi::table::{ARENAS, Direction, State};
use proptest::prelude::*;

/// A policy that is changed rule by rule, as the kernel has it.
struct Patched {
    policy: Policy,
    compiled: Compiled,
    slots: Slots,
    live: Live,
}

impl Patched {
    fn new(text: &str) -> Self {
        let mut slots = Slots::new();
        let policy = parse(text, "test").unwrap();
        let mut compiled = compile(&policy, &mut slots, 1).unwrap();
        compiled.arena.resize(ARENAS[compiled.table.size as usize], 0);
        let live = Live::of(&policy, &compiled).unwrap();
        Self { policy, compiled, slots, live }
    }

    fn apply(
        &mut self,
        (next, patch): (Live, Patch),
        probes: &[Probe],
    ) -> Result<(), TestCaseError> {
        let before = self.outcomes(probes);
        let Self { compiled, .. } = self;
        if let Some((number, extra)) = &patch.write {
            compiled.arena[extra.at as usize..][..extra.words.len()].copy_from_slice(&extra.words);
            compiled.table.parts[*number] = extra.part;
        }
        compiled.table.always = patch.always;
        // Nothing has changed so far.
        prop_assert_eq!(&before, &self.outcomes(probes));
        let mut during = None;
        for (at, value) in &patch.store {
            self.compiled.arena[*at as usize] = *value;
            // The first store is the change.
            let seen = self.outcomes(probes);
            prop_assert_eq!(during.get_or_insert_with(|| seen.clone()), &seen);
        }
        if let Some(seat) = patch.clear {
            self.compiled.arena[seat.word as usize] &= !(1 << seat.bit);
        }
        let seen = self.outcomes(probes);
        self.compiled.table.always = patch.always_then;
        prop_assert_eq!(seen, self.outcomes(probes));
        self.live = next;
        if let Some(left) = patch.left {
            self.live.free(left);
        }
        Ok(())
    }

    /// Verdicts and slots: a place among all isn't known of rules that joined.
    fn outcomes(&self, probes: &[Probe]) -> Vec<(Verdict, u16, Vec<u16>)> {
        let said = |Outcome { verdict, slot, counted, .. }| (verdict, slot, counted);
        probes.iter().map(|probe| said(classify(&self.compiled, probe))).collect()
    }
}

use firewall_common::abi::table::Verdict;

fn probe() -> impl Strategy<Value = Probe> {
    (0u8..6, 0u8..6, 0u16..6, any::<bool>()).prop_map(|(src, dst, dport, udp)| Probe {
        direction: Direction::In,
        iface: 0,
        src: std::net::Ipv4Addr::new(10, 0, 0, src).into(),
        dst: std::net::Ipv4Addr::new(10, 0, 0, dst).into(),
        proto: if udp { 17 } else { 6 },
        sport: 9,
        dport,
        icmp: (0, 0),
        tcp_flags: 2,
        state: State::New,
    })
}

fn rule() -> impl Strategy<Value = String> {
    let address = || prop_oneof![Just(None), (0u8..6).prop_map(Some)];
    let action = prop_oneof![Just("allow"), Just("drop"), Just("reject"), Just("drop")];
    (action, any::<bool>(), address(), address(), 0u16..6).prop_map(
        |(action, udp, src, dst, port)| {
            let end = |a: Option<u8>| a.map_or("any".to_owned(), |a| format!("10.0.0.{a}"));
            let proto = if udp { "udp" } else { "tcp" };
            format!("{action} in {proto} from {} to {} port {port}", end(src), end(dst))
        },
    )
}

fn spot(policy: &Policy, at: usize) -> Spot {
    let at = at % (policy.rules.len() + 1);
    if at == policy.rules.len() { Spot::Last } else { Spot::Above(at) }
}

#[derive(Clone, Debug)]
enum Step {
    Join(String, usize),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (rule(), any::<usize>()).prop_map(|(rule, at)| Step::Join(rule, at)),
        any::<usize>().prop_map(Step::Leave),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever joined and left: what is live decides as what would be compiled now, after each step and half-way through it.
    #[test]
    fn what_was_changed_rule_by_rule_decides_as_one_compiled_whole(
        rules in proptest::collection::vec(rule(), 0..20),
        steps in proptest::collection::vec(step(), 1..16),
        probes in proptest::collection::vec(probe(), 40),
    ) {
        let mut text = String::from("default in drop\nrule seen count in udp\ndisabled rule off drop\n");
        for (i, rule) in rules.iter().enumerate() {
            text.push_str(&format!("rule r{i} {rule}\n"));
        }
        let mut patched = Patched::new(&text);
        for (i, step) in steps.iter().enumerate() {
            match step {
                Step::Join(rule, at) => {
                    let spot = spot(&patched.policy, *at);
                    let text = format!("rule new{i} {rule}");
                    let joins = splice::joining(&patched.policy, &text, spot).unwrap();
                    patched.slots.take_rule(&joins.rule.name.value, 1).unwrap();
                    let Patched { live, policy, slots, .. } = &patched;
                    let change = live.join(policy, joins.index, &joins.rule, slots).unwrap();
                    patched.apply(change, &probes)?;
                    splice::join(&mut patched.policy, joins);
                }
                Step::Leave(at) => {
                    let decide = |(_, rule): &(usize, &Rule)| rule.enabled && rule.action.is_terminal();
                    let all: Vec<usize> =
                        patched.policy.rules.iter().enumerate().filter(decide).map(|(i, _)| i).collect();
                    if all.is_empty() {
                        continue;
                    }
                    let index = all[at % all.len()];
                    let change = patched.live.leave(index).unwrap();
                    patched.apply(change, &probes)?;
                    splice::leave(&mut patched.policy, index);
                }
            }
            let mut slots = patched.slots.clone();
            let whole = compile(&patched.policy, &mut slots, 2).unwrap();
            for (probe, seen) in probes.iter().zip(patched.outcomes(&probes)) {
                let Outcome { verdict, slot, counted, .. } = classify(&whole, probe);
                prop_assert_eq!(seen, (verdict, slot, counted), "{:?}\n{}", probe, patched.policy.source);
            }
        }
    }
}

#[test]
fn a_part_that_programs_may_still_look_at_is_not_written() {
    let patched = Patched::new("rule a drop in udp to port 1\n");
    let (mut live, mut policy, mut slots) = (patched.live, patched.policy, patched.slots);
    let mut written = Vec::new();
    let room = live.uses.len();
    for i in 0..=room {
        let text = format!("rule n{i} drop in udp to port {}", 2 + i);
        let joins = splice::joining(&policy, &text, Spot::Last).unwrap();
        slots.take_rule(&joins.rule.name.value, 1).unwrap();
        let joined = live.join(&policy, joins.index, &joins.rule, &slots);
        if i == room {
            assert!(joined.is_none() && live.is_full(), "all are asked or were lately");
            break;
        }
        let (next, patch) = joined.unwrap();
        written.push(patch.write.unwrap().0);
        splice::join(&mut policy, joins);
        live = next;
    }
    // The one behind is asked first: no grace period is needed between.
    assert_eq!(written, (1..=room).collect::<Vec<_>>());
    live.free(0);
    let joins = splice::joining(&policy, "rule last drop in udp to port 99", Spot::Last).unwrap();
    slots.take_rule("last", 1).unwrap();
    let (_, patch) = live.join(&policy, joins.index, &joins.rule, &slots).unwrap();
    assert_eq!((patch.write.unwrap().0, patch.wait), (1, true), "one is asked behind it");
}
