//! Random policies and packet sequences through the kernel and through the oracle: verdict after
//! verdict, and at the end every counter and every flow must be the same.
//!
//! `SLUICE_SEED=N` starts at another seed, `SLUICE_CASES=N` runs more or fewer. A case that fails is
//! shrunk (steps and rules are taken away while it still fails) and printed whole.

use firewall_common::abi::table::{Direction, PART_RULES, State as AbiState};
use firewall_user::policy::{self as product, Slots, classify};
use sluice_tests::kernel::{Fate, Hook, INTERFACES, Kernel};
use sluice_tests::model::classbench;
use sluice_tests::model::gate::{self, Gate};
use sluice_tests::model::generate::{self, Case, Step};
use sluice_tests::model::policy::{Action, Policy, Question, State, Way};
use sluice_tests::model::translated;
use sluice_tests::packet::hex;
use sluice_tests::rng::Rng;
use std::collections::BTreeMap;
use std::fmt::Write as _;

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs a case in the kernel and in the oracle; in words, where they first differ.
fn run(kernel: &mut Kernel, case: &Case, way_in: Hook) -> Result<(), String> {
    kernel.forget_sets();
    kernel.install(&case.policy.to_string());
    kernel.clear();
    let mut oracle = Gate::new(case.policy.clone());
    for (i, step) in case.steps.iter().enumerate() {
        match step {
            Step::Swap(policy) => {
                kernel.install(&policy.to_string());
                oracle.swap(policy.clone());
            }
            Step::Wait => {
                // The shortest time-outs are 100 ms, which the harness takes for as many ticks.
                std::thread::sleep(std::time::Duration::from_millis(550));
                oracle.wait();
            }
            Step::Frame { way, interface, bytes } => {
                let hook = if *way == Way::In { way_in } else { Hook::TcOut };
                let Some((seen, _)) = kernel.run(hook, *interface, bytes) else { continue };
                let expected = oracle.packet(*way, INTERFACES[*interface], bytes);
                same_fate(expected, seen).map_err(|words| format!("step {i}: {words}"))?;
            }
        }
    }
    compare(kernel, &oracle)
}

fn same_fate(expected: gate::Fate, seen: Fate) -> Result<(), String> {
    let same = matches!(
        (expected, seen),
        (gate::Fate::Pass, Fate::Pass)
            | (gate::Fate::Drop, Fate::Drop)
            | (gate::Fate::Answer, Fate::Answer)
    );
    if same { Ok(()) } else { Err(format!("the oracle says {expected:?}, the kernel {seen:?}")) }
}

fn compare(kernel: &mut Kernel, oracle: &Gate) -> Result<(), String> {
    // (Ports aren't added by rules.)
    for (name, members) in oracle.sets.iter().filter(|(name, _)| **name != "ports") {
        let mut expected: Vec<String> =
            members.iter().map(|m| m.to_string().replace("/32", "").replace("/128", "")).collect();
        expected.sort();
        expected.dedup();
        let seen = kernel.set(name);
        if seen != expected {
            return Err(format!("the oracle has {expected:?} in @{name}, the kernel {seen:?}"));
        }
    }
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
            Step::Wait => writeln!(out, "--- step {i}: time passes"),
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
    let count = from_env("SLUICE_CASES", 2100);
    agree(&mut kernel, count, |seed| generate::case(seed, &INTERFACES));
}

/// Rules of the largest policies among many.
const MANY: usize = 1_024;

/// Many rules over addresses that nest, as ClassBench has them, and packets drawn from the rules. Nightly there are
/// 200,000 cases (`SLUICE_CASES=200000`).
#[test]
fn kernel_and_oracle_agree_on_many_rules() {
    let test = "differential::kernel_and_oracle_agree_on_many_rules";
    let Some(mut kernel) = Kernel::or_skip(test) else { return };
    let count = from_env("SLUICE_CASES", 3000);
    agree(&mut kernel, count, |seed| classbench::case(seed, &INTERFACES, MANY));
}

/// More rules than one part holds: the policy is cut, and packets are asked for in several parts.
#[test]
fn kernel_and_oracle_agree_on_rules_in_parts() {
    let test = "differential::kernel_and_oracle_agree_on_rules_in_parts";
    let Some(mut kernel) = Kernel::or_skip(test) else { return };
    let count = from_env("SLUICE_CASES", 2100).min(2);
    agree(&mut kernel, count, |seed| classbench::full(seed, &INTERFACES, PART_RULES + 2_000));
}

/// A hundred thousand rules: more than numbers of 16 bits tell apart. Who decides is asked of the rules one by one.
#[test]
fn a_hundred_thousand_rules_decide_and_count_by_their_names() {
    use sluice_tests::{
        packet::{DST_MAC, SRC_MAC},
        ruleset::{draw, first_match, name, policy, random},
    };
    const RULES: usize = 100_000;
    let test = "differential::a_hundred_thousand_rules_decide_and_count_by_their_names";
    let Some(mut kernel) = Kernel::or_skip(test) else { return };
    let rules = random::five_tuples(RULES, 7);
    kernel.install(&policy::policy(&rules, "drop"));
    kernel.clear();
    let mut rng = Rng::new(7);
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    let ns = kernel.namespace().clone();
    ns.run(|| {
        // The last of all, some whose slots need 17 bits, some of the others.
        let asked = (RULES - 40..RULES).chain((0..RULES).step_by(2_500));
        for rule in asked {
            let key = draw::key_of(&rules[rule], &mut rng);
            let met = first_match(&rules, &key).expect("its own rule takes it");
            *expected.entry(name(met)).or_default() += 1;
            let fate = kernel.run(Hook::Xdp, 0, &key.frame(SRC_MAC, DST_MAC));
            assert!(matches!(fate, Some((Fate::Drop, _))), "{rule}");
        }
    });
    assert!(expected.contains_key(&name(RULES - 1)), "the last rule is met");
    let hits = kernel.counters().rules.into_iter().map(|(name, [hits, ..])| (name, hits));
    assert_eq!(hits.collect::<BTreeMap<_, _>>(), expected);
}

/// Live sets: asked, added to, kept through swaps.
#[test]
fn kernel_and_oracle_agree_on_live_sets() {
    let test = "differential::kernel_and_oracle_agree_on_live_sets";
    let Some(mut kernel) = Kernel::or_skip(test) else { return };
    let count = from_env("SLUICE_CASES", 400);
    agree(&mut kernel, count, |seed| generate::live(seed, &INTERFACES));
}

/// The same with time passing. The kernel's clock can't be moved, so that these are few.
#[test]
fn kernel_and_oracle_agree_as_time_passes() {
    let test = "differential::kernel_and_oracle_agree_as_time_passes";
    let Some(mut kernel) = Kernel::or_skip(test) else { return };
    let count = from_env("SLUICE_CASES", 2100).min(16);
    agree(&mut kernel, count, |seed| generate::timed(seed, &INTERFACES));
}

fn agree(kernel: &mut Kernel, count: u64, case: impl Fn(u64) -> Case + Sync) {
    let first = from_env("SLUICE_SEED", 1);
    let ns = kernel.namespace().clone();
    let failure = ns.run(|| {
        for seed in first..first + count {
            let case = case(seed);
            let way_in = if seed % 2 == 0 { Hook::Xdp } else { Hook::TcIn };
            if run(kernel, &case, way_in).is_err() {
                let small = shrink(kernel, case, way_in);
                let words = run(kernel, &small, way_in)
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

/// Runs a case of translation, at TC; in words, where the kernel and the oracle first differ.
fn run_translated(kernel: &mut Kernel, case: &translated::Case) -> Result<(), String> {
    use translated::Step;
    kernel.install(&case.policy.to_string());
    kernel.clear();
    let mut oracle = Gate::new(case.policy.clone());
    for (i, name) in INTERFACES.iter().enumerate() {
        kernel.set_address(i, translated::OWN[i]);
        oracle.addresses.insert((*name).to_owned(), translated::OWN[i]);
    }
    let mut left: Vec<Option<translated::Left>> = Vec::new();
    for (i, step) in case.steps.iter().enumerate() {
        let (from, to, bytes) = match step {
            Step::Through { from, to, bytes } => (Some(*from), Some(*to), Some(bytes.clone())),
            Step::Own { to, bytes } => (None, Some(*to), Some(bytes.clone())),
            Step::Back { of, what } => match left.get(*of).cloned().flatten() {
                Some((at, to, frame)) => (Some(at), to, translated::back(&frame, *what)),
                None => (None, None, None),
            },
        };
        let mut frame = bytes;
        for (way, at) in [(Way::In, from), (Way::Out, to)] {
            let (Some(at), Some(bytes)) = (at, frame.take()) else { continue };
            frame = both(kernel, &mut oracle, way, at, &bytes)
                .map_err(|words| format!("step {i}, {way} on {}: {words}", INTERFACES[at]))?;
            if frame.is_none() {
                break;
            }
        }
        left.push(to.zip(frame).map(|(at, frame)| (at, from, frame)));
    }
    compare(kernel, &oracle)
}

/// One frame at one hook; what goes on.
fn both(
    kernel: &Kernel,
    oracle: &mut Gate,
    way: Way,
    at: usize,
    bytes: &[u8],
) -> Result<Option<Vec<u8>>, String> {
    let hook = if way == Way::In { Hook::TcIn } else { Hook::TcOut };
    let Some((seen, frame)) = kernel.run(hook, at, bytes) else { return Ok(None) };
    let hint = (seen == Fate::Pass).then_some(&frame[..]);
    let (expected, wanted) = oracle.translated(way, INTERFACES[at], bytes, hint);
    same_fate(expected, seen)?;
    if seen != Fate::Pass {
        return Ok(None);
    }
    if frame != wanted {
        return Err(format!(
            "of {}\nthe oracle makes {}\nthe kernel {}",
            hex(bytes),
            hex(&wanted),
            hex(&frame)
        ));
    }
    Ok(Some(frame))
}

#[test]
fn kernel_and_oracle_translate_alike() {
    let test = "differential::kernel_and_oracle_translate_alike";
    let Some(mut kernel) = Kernel::or_skip(test) else { return };
    let (first, count) = (from_env("SLUICE_SEED", 1), from_env("SLUICE_CASES", 2100));
    let ns = kernel.namespace().clone();
    let failure = ns.run(|| {
        for seed in first..first + count {
            let mut case = translated::case(seed, &INTERFACES);
            let Err(mut words) = run_translated(&mut kernel, &case) else { continue };
            // Steps at the end go; those before are what later ones come back to.
            while case.steps.len() > 1 {
                let mut shorter = case.clone();
                shorter.steps.pop();
                match run_translated(&mut kernel, &shorter) {
                    Err(more) => (case, words) = (shorter, more),
                    Ok(()) => break,
                }
            }
            return Some(format!(
                "\n=== case of seed {seed}: {words}\n--- policy\n{}\n--- steps\n{:#?}",
                case.policy, case.steps
            ));
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
            let seen = classify::classify(&compiled, &probe(&question, &slots));
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

/// The checks of TCP windows alone, without the kernel, over the segments of random cases. Runs anywhere.
#[test]
fn windows_and_oracle_agree() {
    use firewall_common::abi::flow::{Windows, bits};
    use firewall_common::flow::resync::{self, Syn};
    use firewall_common::flow::tcp::{self, TcpState};
    use firewall_common::flow::window::{self, Known, Segment};
    use firewall_common::wire::options::Options;
    use sluice_tests::model::{generate::segments, tcp::Connection};
    const RST: u8 = 4;
    let options = |scale: Option<u8>| Options {
        has_scale: scale.is_some(),
        scale: scale.unwrap_or(0),
        ..Options::default()
    };
    let (mut refused, mut opened, mut anew) = (0, 0, 0);
    for seed in 0..from_env("SLUICE_CASES", 2100) * 4 {
        let talk = segments(seed, 40);
        let mut unused = Syn::default();
        let mut begun: Option<(Connection, Windows, u64, u8, TcpState, bool)> = None;
        for (i, (forth, s)) in talk.iter().enumerate() {
            let numbers = s.data + u32::from(s.flags & 1) + u32::from(s.flags >> 1 & 1);
            let segment =
                Segment { seq: s.seq, ack: s.ack, len: numbers, window: s.window, flags: s.flags };
            let Some((oracle, windows, known_bits, scales, state, first)) = &mut begun else {
                if tcp::begins(s.flags, seed % 2 == 0) {
                    let mut windows = Windows::default();
                    window::begin(&mut windows, &segment);
                    let picked_up = s.flags & (2 | 16) != 2;
                    let (scales, mut set) = window::note_options(0, 0, &options(s.scale));
                    if picked_up {
                        set = bits::PICKED_UP;
                    }
                    let scales = if picked_up { 0 } else { scales };
                    let state = tcp::first(s.flags);
                    begun = Some((Connection::begin(s), windows, set, scales, state, *forth));
                }
                continue;
            };
            let reply = forth != first;
            let (mut with, mut set) = (*scales, 0);
            if s.flags & 2 != 0 && state.is_handshake() {
                (with, set) = window::note_options(*scales, usize::from(reply), &options(s.scale));
            }
            let mut known =
                Known { bits: *known_bits | set, scales: with, state: *state, enforce: true };
            let mut fits = window::fits(windows, usize::from(reply), &segment, known);
            if !reply && resync::is_unused(windows, &segment) {
                unused = Syn::of(1, &segment, &options(s.scale));
            } else if !fits && reply && unused.is_answered(1, &segment) {
                unused.flow = 0;
                unused.begin(windows);
                *state = TcpState::SynSent;
                (with, set) = window::note_options(unused.scales, 1, &options(s.scale));
                known.bits = *known_bits & !resync::FORGOTTEN | unused.options | set;
                (known.scales, known.state) = (with, *state);
                fits = window::fits(windows, 1, &segment, known);
                anew += 1;
            }
            let place = format!("seed {seed}, segment {i}: {s:?} of {talk:#?}");
            assert_eq!(oracle.fits(reply, s), fits, "{place}");
            if !fits {
                refused += 1;
                continue;
            }
            (*known_bits, *scales) = (known.bits, with);
            let resets = window::resets(windows, usize::from(reply), &segment, known);
            assert_eq!(oracle.believes(reply, s), resets, "{place}");
            let flags = if resets { s.flags } else { s.flags & !RST };
            *state = tcp::next(*state, reply, flags);
            oracle.step(reply, flags);
            assert_eq!(oracle.over(), state.is_over(), "{place}: {state:?}");
            assert_eq!(oracle.open(), *state == TcpState::Established, "{place}: {state:?}");
            opened += u64::from(oracle.open());
        }
    }
    assert!(refused > 1000 && opened > 1000 && anew > 100, "{refused} {opened} {anew}");
}

/// What the oracle writes is the language that operators write. Runs anywhere.
#[test]
fn translations_are_of_the_language() {
    for seed in 0..400 {
        let text = translated::case(seed, &INTERFACES).policy.to_string();
        let parsed = product::parse(&text, "test")
            .unwrap_or_else(|error| panic!("{}\n{text}", error.render(false)));
        product::compile(&parsed, &mut Slots::new(), 1)
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
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
            State::Untracked => AbiState::Untracked,
        },
    }
}
