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

    /// What is live as each store leaves it, from before the first to behind the last.
    fn moments(&self, patch: &Patch) -> Vec<Vec<u64>> {
        let mut arena = self.compiled.arena.clone();
        let mut moments = vec![arena.clone()];
        for (at, value) in &patch.store {
            arena[*at as usize] = *value;
            moments.push(arena.clone());
        }
        for seat in &patch.clear {
            arena[seat.word as usize] &= !(1 << seat.bit);
            moments.push(arena.clone());
        }
        moments
    }

    fn apply(
        &mut self,
        (next, patch): (Live, Patch),
        probes: &[Probe],
    ) -> Result<(), TestCaseError> {
        let before = self.outcomes(probes);
        if let Some((number, extra)) = &patch.write {
            let compiled = &mut self.compiled;
            prop_assert_eq!(
                compiled.arena[extra.part.terminal as usize],
                0,
                "nothing decides there"
            );
            let is_asked = *number < compiled.table.always as usize;
            prop_assert!(!patch.changes || !is_asked, "it is not to be asked by what it was");
            compiled.arena[extra.at as usize..][..extra.words.len()].copy_from_slice(&extra.words);
            compiled.table.parts[*number] = extra.part;
        }
        prop_assert!(patch.always >= self.compiled.table.always);
        self.compiled.table.always = patch.always;
        // Nothing has changed so far.
        prop_assert_eq!(&before, &self.outcomes(probes));
        let moments = self.moments(&patch);
        let of = |this: &mut Self, arena: &[u64]| {
            this.compiled.arena.copy_from_slice(arena);
            this.outcomes(probes)
        };
        let behind = of(self, &moments[moments.len() - 1]);
        prop_assert!(patch.changes || before == behind, "a step changes nothing");
        // A program that is slow looks at each part at a moment of its own, never an earlier one than before.
        let words: Vec<usize> =
            (0..self.live.uses.len()).map(|i| self.live.word(i) as usize).collect();
        let looks = patch.store.iter().map(|(at, _)| *at).chain(patch.clear.iter().map(|s| s.word));
        let mut changed: Vec<usize> = looks.map(|at| at as usize).collect();
        changed.sort_unstable();
        changed.dedup();
        for at in 0..moments.len().pow(changed.len() as u32) {
            let mut rest = at;
            let mut seen = moments[0].clone();
            let mut last = 0;
            let mut goes = true;
            for word in &changed {
                let moment = rest % moments.len();
                rest /= moments.len();
                goes &= moment >= last || !words.contains(word);
                last = moment;
                seen[*word] = moments[moment][*word];
            }
            if goes {
                for ((seen, before), behind) in of(self, &seen).iter().zip(&before).zip(&behind) {
                    prop_assert!(
                        seen == before || seen == behind,
                        "{seen:?} {before:?} {behind:?}"
                    );
                }
            }
        }
        of(self, &moments[moments.len() - 1]);
        self.compiled.table.always = patch.always_then;
        prop_assert_eq!(&behind, &self.outcomes(probes));
        self.live = next;
        Ok(())
    }

    /// Until there is no more to be done.
    fn settle(&mut self, turn: u64, probes: &[Probe]) -> Result<(), TestCaseError> {
        self.live.passed(turn);
        while let Some(change) = self.live.step(&self.policy, &self.slots, turn) {
            self.apply(change, probes)?;
            self.live.passed(turn);
        }
        prop_assert!(!self.live.is_unsettled());
        prop_assert!(self.live.covered <= 1 && self.live.has_room());
        Ok(())
    }

    /// Verdicts and slots: a place among all isn't known of rules that joined.
    fn outcomes(&self, probes: &[Probe]) -> Vec<(Verdict, u32, Vec<u32>)> {
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
    /// A grace period, and the step behind it.
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (rule(), any::<usize>()).prop_map(|(rule, at)| Step::Join(rule, at)),
        any::<usize>().prop_map(Step::Leave),
        Just(Step::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever joined and left: what is live decides as what would be compiled now, after each step and half-way through it.
    #[test]
    fn what_was_changed_rule_by_rule_decides_as_one_compiled_whole(
        rules in proptest::collection::vec(rule(), 0..20),
        steps in proptest::collection::vec(step(), 1..24),
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
                    if !patched.live.has_room() {
                        patched.settle(i as u64, &probes)?;
                    }
                    let Patched { live, policy, slots, .. } = &patched;
                    let change = live.join(policy, joins.index, &joins.rule, slots, i as u64).unwrap();
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
                    let change = patched.live.leave(index, i as u64).unwrap();
                    patched.apply(change, &probes)?;
                    splice::leave(&mut patched.policy, index);
                }
                Step::Settle => {
                    patched.live.passed(i as u64);
                    let Patched { live, policy, slots, .. } = &patched;
                    if let Some(change) = live.step(policy, slots, i as u64) {
                        patched.apply(change, &probes)?;
                    }
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
        let joined = live.join(&policy, joins.index, &joins.rule, &slots, i as u64);
        if i == room {
            assert!(joined.is_none() && !live.has_room(), "all are asked or were lately");
            break;
        }
        let (next, patch) = joined.unwrap();
        written.push(patch.write.unwrap().0);
        splice::join(&mut policy, joins);
        live = next;
    }
    // The one behind is asked first: no grace period is needed between.
    assert_eq!(written, (1..=room).collect::<Vec<_>>());
    assert!(
        live.step(&policy, &slots, 100).is_none(),
        "whoever looks at the first one has to be waited for"
    );
    let mut stores = Vec::new();
    for turn in 100..103 {
        live.passed(turn - 1);
        let (next, patch) = live.step(&policy, &slots, turn).unwrap();
        assert!(next.step(&policy, &slots, turn).is_none(), "each step waits for the one before");
        stores.push((patch.write.is_some(), patch.store.len(), patch.always, patch.always_then));
        live = next;
    }
    let all = 1 + room as u32;
    assert_eq!(stores, [(true, 0, all, all), (false, 1, all, all), (false, 1, all, 2)]);
    assert!(!live.has_room() && live.is_unsettled());
    live.passed(102);
    assert!(live.has_room() && !live.is_unsettled());
}
