//! Random policies and packet sequences through the kernel and through the oracle: verdict after
//! verdict, and at the end every counter and every flow must be the same.
//!
//! `SLUICE_SEED=N` starts at another seed, `SLUICE_CASES=N` runs more or fewer. A case that fails is
//! shrunk (steps and rules are taken away while it still fails) and printed whole.

use firewall_common::abi::table::{Direction, State as AbiState};
use firewall_user::policy::{self as product, Slots, classify};
use sluice_tests::kernel::{Fate, Hook, INTERFACES, Kernel};
use sluice_tests::model::gate::{self, Gate};
use sluice_tests::model::generate::{self, Case, Step};
use sluice_tests::model::policy::{Action, Policy, Question, State, Way};
use sluice_tests::packet::hex;
use sluice_tests::rng::Rng;
use std::collections::BTreeMap;
use std::fmt::Write as _;

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs a case in the kernel and in the oracle; in words, where they first differ.
fn run(kernel: &mut Kernel, case: &Case, way_in: Hook) -> Result<(), String> {
    kernel.install(&case.policy.to_string());
    kernel.clear();
    let mut oracle = Gate::new(case.policy.clone());
    for (i, step) in case.steps.iter().enumerate() {
        match step {
            Step::Swap(policy) => {
                kernel.install(&policy.to_string());
                oracle.swap(policy.clone());
            }
            Step::Frame { way, interface, bytes } => {
                let hook = if *way == Way::In { way_in } else { Hook::TcOut };
                let Some((seen, _)) = kernel.run(hook, *interface, bytes) else { continue };
                let expected = oracle.packet(*way, INTERFACES[*interface], bytes);
                let same = matches!(
                    (expected, seen),
                    (gate::Fate::Pass, Fate::Pass)
                        | (gate::Fate::Drop, Fate::Drop)
                        | (gate::Fate::Answer, Fate::Answer)
                );
                if !same {
                    return Err(format!(
                        "step {i}: the oracle says {expected:?}, the kernel {seen:?}"
                    ));
                }
            }
        }
    }
    compare(kernel, &oracle)
}

fn compare(kernel: &mut Kernel, oracle: &Gate) -> Result<(), String> {
    let seen = kernel.counters();
    differ(
        "rule counters",
        &oracle
            .rules
            .iter()
            .map(|(name, c)| (name.clone(), [c.hits, c.packets, c.bytes]))
            .collect(),
        &seen.rules,
    )?;
    differ(
        "reason counters",
        &oracle.reasons.iter().map(|(key, (packets, bytes))| (*key, [*packets, *bytes])).collect(),
        &seen.reasons,
    )?;
    // The ring may fill up (nobody drains it here), and budgets hold samples back: what was due is
    // numbered or held back in any case.
    let events = seen
        .events
        .iter()
        .map(|(class, [produced, _, suppressed])| (*class, produced + suppressed))
        .collect();
    differ("events", &oracle.events, &events)?;
    let expected: BTreeMap<_, _> = oracle
        .flows
        .values()
        .map(|flow| {
            let e = &flow.ends;
            let totals = [flow.packets, flow.bytes, flow.reply_packets, flow.reply_bytes];
            ((e.src, e.sport, e.dst, e.dport, e.proto), totals)
        })
        .collect();
    let flows = kernel.flows().into_iter().map(|flow| (flow.ends, flow.totals)).collect();
    differ("flows", &expected, &flows)
}

fn differ<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &BTreeMap<K, V>,
    seen: &BTreeMap<K, V>,
) -> Result<(), String> {
    let keys: std::collections::BTreeSet<_> = expected.keys().chain(seen.keys()).collect();
    let mut words = String::new();
    for key in keys {
        let (e, s) = (expected.get(key), seen.get(key));
        if e != s {
            let _ = write!(words, "\n  {key:?}: the oracle has {e:?}, the kernel {s:?}");
        }
    }
    if words.is_empty() { Ok(()) } else { Err(format!("{what} differ:{words}")) }
}

/// Takes steps and rules away while the case still fails.
fn shrink(kernel: &mut Kernel, mut case: Case, way_in: Hook) -> Case {
    let mut tries = 0;
    loop {
        let mut smaller = None;
        let halves =
            (1..=3).rev().map(|shift| case.steps.len() >> shift).filter(|n| *n > 1).chain([1]);
        'search: for size in halves {
            for start in (0..case.steps.len()).step_by(size) {
                let mut next = case.clone();
                next.steps.drain(start..(start + size).min(next.steps.len()));
                tries += 1;
                if run(kernel, &next, way_in).is_err() {
                    smaller = Some(next);
                    break 'search;
                }
            }
        }
        for i in 0..case.policy.rules.len() {
            if smaller.is_some() {
                break;
            }
            let mut next = case.clone();
            next.policy.rules.remove(i);
            tries += 1;
            if run(kernel, &next, way_in).is_err() {
                smaller = Some(next);
            }
        }
        match smaller {
            Some(next) if tries < 2000 => case = next,
            _ => return case,
        }
    }
}

fn report(seed: u64, way_in: Hook, case: &Case, words: &str) -> String {
    let mut out = format!(
        "\n=== case of seed {seed} ({way_in:?}): {words}\n(again: SLUICE_SEED={seed} SLUICE_CASES=1)\n--- policy\n{}",
        case.policy
    );
    for (i, step) in case.steps.iter().enumerate() {
        let _ = match step {
            Step::Swap(policy) => write!(out, "--- step {i}: policy\n{policy}"),
            Step::Frame { way, interface, bytes } => {
                writeln!(out, "--- step {i}: {way} on {}: {}", INTERFACES[*interface], hex(bytes))
            }
        };
    }
    out
}

#[test]
fn kernel_and_oracle_agree() {
    let Some(mut kernel) = Kernel::or_skip("differential::kernel_and_oracle_agree") else { return };
    let (first, count) = (from_env("SLUICE_SEED", 1), from_env("SLUICE_CASES", 2100));
    let ns = kernel.namespace().clone();
    let failure = ns.run(|| {
        for seed in first..first + count {
            let case = generate::case(seed, &INTERFACES);
            let way_in = if seed % 2 == 0 { Hook::Xdp } else { Hook::TcIn };
            if run(&mut kernel, &case, way_in).is_err() {
                let small = shrink(&mut kernel, case, way_in);
                let words = run(&mut kernel, &small, way_in)
                    .err()
                    .unwrap_or_else(|| "it passes when run again".into());
                return Some(report(seed, way_in, &small, &words));
            }
        }
        None
    });
    if let Some(words) = failure {
        panic!("{words}");
    }
}

/// The compiler alone, without the kernel: one table, many questions. Runs anywhere.
#[test]
fn compiler_and_oracle_agree() {
    let first = from_env("SLUICE_SEED", 1);
    for seed in first..first + from_env("SLUICE_CASES", 2100).min(400) {
        let mut rng = Rng::new(seed ^ 0xc0de);
        let policy = generate::random_policy(&mut rng, &INTERFACES);
        let text = policy.to_string();
        let parsed = product::parse(&text, "test")
            .unwrap_or_else(|error| panic!("{}\n{text}", error.render(false)));
        let mut slots = Slots::new();
        let compiled = product::compile(&parsed, &mut slots, 1)
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        for _ in 0..60 {
            let question = generate::question(&mut rng, &INTERFACES);
            let (verdict, name, counted) = ask(&policy, &question);
            let seen = classify::classify(&compiled.table, &probe(&question, &slots));
            let seen_name = slots
                .rule_name(seen.slot)
                .map_or_else(|| format!("default {}", question.way), str::to_owned);
            let seen_counted: Vec<_> =
                seen.counted.iter().filter_map(|slot| slots.rule_name(*slot)).collect();
            assert_eq!(
                (verdict, name.as_str(), counted.iter().map(String::as_str).collect::<Vec<_>>()),
                (seen.verdict.name(), seen_name.as_str(), seen_counted),
                "seed {seed}: {question:?}\n{text}"
            );
        }
    }
}

/// First match wins, said naively: verdict, who decided, and the counting rules met on the way.
fn ask(policy: &Policy, question: &Question<'_>) -> (&'static str, String, Vec<String>) {
    let word = |action: Action| match action {
        Action::Allow | Action::Count => "allow",
        Action::Drop => "drop",
        Action::Reject => "reject",
    };
    let mut counted = Vec::new();
    for rule in policy.rules.iter().filter(|rule| rule.matches(question)) {
        if rule.action == Action::Count {
            counted.push(rule.name.clone());
        } else {
            return (word(rule.action), rule.name.clone(), counted);
        }
    }
    let default = if question.way == Way::In { policy.default_in } else { policy.default_out };
    (word(default), format!("default {}", question.way), counted)
}

fn probe(q: &Question<'_>, slots: &Slots) -> classify::Probe {
    let ports = q.ports.unwrap_or_default();
    classify::Probe {
        direction: if q.way == Way::In { Direction::In } else { Direction::Out },
        iface: slots.iface(q.interface).unwrap_or(0),
        src: q.src,
        dst: q.dst,
        proto: q.proto,
        sport: ports.0,
        dport: ports.1,
        icmp: q.icmp.unwrap_or_default(),
        tcp_flags: q.flags.unwrap_or_default(),
        state: match q.state {
            State::New => AbiState::New,
            State::Established => AbiState::Established,
            State::Related => AbiState::Related,
            State::Invalid => AbiState::Invalid,
        },
    }
}
