//! The same random rules in Sluice and in nftables, the same frames through both: what arrives and what every rule
//! counted has to be the same. What differs in meaning, and isn't asked for here, is in docs/policy.md ("Beside
//! nftables").
//!
//! `SLUICE_SEED=N` starts at another seed, `SLUICE_CASES=N` runs more or fewer.

use sluice_tests::oracle::gates::{Gates, Outcome};
use sluice_tests::oracle::rules::{INTERFACES, Rules};
use sluice_tests::oracle::{Probe, draw};
use sluice_tests::packet::hex;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Frames for each policy.
const FRAMES: u16 = 120;

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Keeps this thread on one CPU: frames that go one after the other into both interfaces are then filtered and sent on
/// one after the other.
fn stay_here() {
    // SAFETY: all-zero bytes are an empty set; the set outlives the calls, its size is what is said; 0 is this thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu().max(0) as usize, &mut set);
        libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

#[test]
fn sluice_and_nftables_agree() {
    let Some(mut gates) = Gates::or_skip("nft_oracle::sluice_and_nftables_agree") else { return };
    let (first, count) = (from_env("SLUICE_SEED", 1), from_env("SLUICE_CASES", 208));
    stay_here();
    let (mut passed, mut stopped, mut asked) = (0, 0, BTreeSet::new());
    for seed in first..first + count {
        let rules = draw::rules(seed);
        let probes = rules.probes(FRAMES);
        gates.install(&rules);
        let [sluice, nft] = gates.send(&rules, &probes);
        let words = differences(&sluice, &nft, &probes);
        assert!(words.is_empty(), "{}", report(&rules, &words));
        passed += sluice.arrived.len();
        stopped += probes.len() - sluice.arrived.len();
        asked.extend(
            sluice.counts.iter().filter(|(_, n)| n[0] > 0).map(|(name, _)| (seed, name.clone())),
        );
    }
    println!(
        "{count} policies: {passed} frames passed both, {stopped} neither; {} rules were met",
        asked.len()
    );
    // Frames that all share a fate, or meet no rule, would agree about nothing.
    if count >= 100 {
        assert!(passed > 1000 && stopped > 1000 && asked.len() > 500, "{passed} {stopped}");
    }
}

fn differences(sluice: &Outcome, nft: &Outcome, probes: &[Probe]) -> String {
    let mut words = String::new();
    for number in sluice.arrived.symmetric_difference(&nft.arrived) {
        let by = if sluice.arrived.contains(number) { "Sluice" } else { "nftables" };
        let probe = &probes[usize::from(*number)];
        let _ = writeln!(
            words,
            "frame {number} on {} passes by {by} alone: {}",
            INTERFACES[probe.interface],
            hex(&probe.bytes)
        );
    }
    let names: BTreeSet<_> = sluice.counts.keys().chain(nft.counts.keys()).collect();
    for name in names {
        let (ours, theirs) = (sluice.counts.get(name), nft.counts.get(name));
        if ours != theirs {
            let _ = writeln!(words, "{name}: Sluice counts {ours:?}, nftables {theirs:?}");
        }
    }
    words
}

fn report(rules: &Rules, words: &str) -> String {
    format!(
        "\n=== seed {seed}\n{words}(again: SLUICE_SEED={seed} SLUICE_CASES=1)\n--- Sluice\n{}--- nftables\n{}",
        rules.to_sluice(),
        rules.to_nft(1),
        seed = rules.seed
    )
}
