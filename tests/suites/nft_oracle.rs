//! The same random rules in Sluice and in nftables, the same frames through both: what arrives and what every rule
//! counted has to be the same. What differs in meaning, and isn't asked for here, is in docs/policy.md ("Beside
//! nftables").
//!
//! `SLUICE_SEED=N` starts at another seed, `SLUICE_CASES=N` runs more or fewer.

use sluice_tests::oracle::gates::{Gates, Outcome};
use sluice_tests::oracle::rules::{
    Action, Addresses, End, INTERFACES, List, Member, Place, Rule, Rules, State,
};
use sluice_tests::oracle::{Probe, draw};
use sluice_tests::packet::{Packet, hex, tcp};
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

/// Packets that belong to no flow, and their states where TCP segments without SYN may begin one: in Sluice, in nftables.
fn strays() -> Vec<(&'static str, Packet, [State; 2])> {
    use State::{Invalid, New, Untracked};
    let v4 = || Packet::new().ipv4("10.20.30.40", "10.20.31.1");
    let v6 = || Packet::new().ipv6("2001:db8:0:1::7", "2001:db8:0:2::7");
    let segment = |port, flags| v4().tcp(port, 80).flags(flags).seq(1, 7000);
    let rest = [0, 7, 0, 1];
    vec![
        ("SYN", v4().tcp(2000, 80), [New, New]),
        ("ACK", segment(2001, tcp::ACK), [New, New]),
        ("SYN-ACK", segment(2002, tcp::SYN | tcp::ACK), [New, Invalid]),
        ("FIN-ACK", segment(2003, tcp::FIN | tcp::ACK), [New, Invalid]),
        ("RST", segment(2004, tcp::RST), [Invalid, Invalid]),
        ("SYN-FIN", segment(2005, tcp::SYN | tcp::FIN), [Invalid, Invalid]),
        ("no flags", segment(2006, 0), [Invalid, Invalid]),
        ("echo request", v4().ping(1), [New, New]),
        ("echo reply", v4().pong(2), [Invalid, Invalid]),
        ("router advertisement", v4().icmp(9, 0, rest), [Untracked, Invalid]),
        ("extended echo", v4().icmp(42, 0, rest), [New, Invalid]),
        ("extended echo of IPv6", v6().icmp(160, 0, rest), [New, Invalid]),
        ("node information", v6().icmp(139, 0, rest), [Untracked, New]),
        ("listener done", v6().icmp(132, 0, rest), [Untracked, Untracked]),
        ("unknown of IPv6", v6().icmp(155, 0, rest), [Untracked, Invalid]),
        ("wrong checksum", v4().udp(2007, 53).lie_checksum(1), [New, Invalid]),
        // Ports, tag, no checksum, a data chunk.
        (
            "SCTP data",
            v4().proto(132).payload(&[8, 8, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0, 3, 0, 20]),
            [New, Invalid],
        ),
    ]
}

/// docs/policy.md says in which state either has what belongs to no flow. Each packet has a destination of its own, and
/// for it a rule for each state.
#[test]
fn states_differ_as_documented() {
    let Some(mut gates) = Gates::or_skip("nft_oracle::states_differ_as_documented") else { return };
    stay_here();
    let strays = strays();
    for (name, packet, [ours, theirs]) in strays {
        let seed = 1 << 40 | name.bytes().fold(7, |sum, byte| sum * 31 % 9973 + u64::from(byte));
        let rule = |state: State| Rule {
            name: format!("{state:?}of{seed}"),
            enabled: true,
            action: Action::Count,
            on: None,
            family: None,
            protos: Vec::new(),
            from: End::default(),
            to: End {
                // Not the fence's.
                addresses: Some(List {
                    not: true,
                    members: vec![Member::Value(Addresses::Prefix([198, 18, 0, 0].into(), 16))],
                }),
                ports: None,
            },
            flags: None,
            icmp: None,
            state: Some(state),
        };
        let rules = Rules {
            seed,
            place: Place::Tracked(true),
            default_allow: false,
            sets: Vec::new(),
            rules: [State::New, State::Invalid, State::Untracked].map(rule).to_vec(),
        };
        gates.install(&rules);
        let seen = gates.send(&rules, &[Probe { interface: 0, bytes: packet.build() }]);
        for (who, outcome, expected) in [("Sluice", &seen[0], ours), ("nftables", &seen[1], theirs)]
        {
            for rule in &rules.rules {
                let hits = outcome.counts.get(&rule.name).map_or(0, |counts| counts[0]);
                let due = u64::from(rule.state == Some(expected));
                assert_eq!(hits, due, "{name}, {:?} in {who}: {:?}", rule.state, outcome.counts);
            }
        }
    }
}
