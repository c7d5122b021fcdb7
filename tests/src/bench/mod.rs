//! What a packet costs: Sluice and its peers on the same packets in the same run.
//!
//! - XDP programs (ours, `xdp-filter`'s): thread CPU time around BPF_PROG_TEST_RUN, divided by the
//!   number of repeats, less the empty program's of the same round.
//! - nftables, which works behind the driver: live frames through a program that passes them, less
//!   live frames through one that drops them.
//!
//! Everything runs on one core, every subject once a round; the figure is the median over the rounds.
//! Ratios hold, absolute times don't: the machine may be shared.

mod output;
mod peers;
mod sluice;

pub use output::{Sample, print_json, print_table};

use std::collections::BTreeMap;

/// Rounds of a full run.
pub const ROUNDS: usize = 9;

/// The cases by name, in the order they are printed.
pub const CASES: [&str; 6] =
    ["1 rule", "10 rules", "100 rules", "1000 rules", "established", "drop"];

/// Number of rules of a case, where it is about rules.
fn rules_of(case: &str) -> Option<usize> {
    case.strip_suffix(" rules").or(case.strip_suffix(" rule"))?.parse().ok()
}

/// Source of the measured packets.
const SRC: &str = "192.0.2.10";
/// Their destination.
const DST: &str = "198.51.100.20";
/// Their ports.
const PORTS: (u16, u16) = (4000, 5353);

/// The packet that everybody gets: UDP, 64 bytes on the wire.
fn packet(src_mac: [u8; 6], dst_mac: [u8; 6]) -> Vec<u8> {
    crate::packet::Packet::new()
        .macs(src_mac, dst_mac)
        .ipv4(SRC, DST)
        .udp(PORTS.0, PORTS.1)
        .fill(18)
        .build()
}

/// Addresses (with prefix) and port ranges of rule number `i` of `n`: the last one matches the packet,
/// the others differ from it in each field now and then, as rules of a list do.
fn rule(i: usize, n: usize) -> (String, String, (u16, u16)) {
    if i + 1 == n {
        return ("192.0.2.0/24".into(), "198.51.100.0/24".into(), (5000, 5999));
    }
    let (a, b) = (i / 250, i % 250);
    (format!("10.{a}.{b}.0/24"), format!("172.16.{b}.0/24"), (1000 + i as u16, 1100 + i as u16))
}

/// Something whose cost is measured: nanoseconds a packet, less its own baseline, for one round.
trait Subject {
    fn name(&self) -> &'static str;
    /// `None`: the subject has no such case.
    fn measure(&mut self, case: &str) -> Option<f64>;
}

/// Runs the benchmark. `rounds` below [`ROUNDS`] makes it quicker and noisier. Subjects that can't be
/// had here are named on standard error and left out.
///
/// # Errors
/// In words, where Sluice itself can't be measured.
pub fn packet_costs(rounds: usize) -> Result<Vec<Sample>, String> {
    let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(sluice::Sluice::new()?)];
    match peers::XdpFilter::new() {
        Ok(peer) => subjects.push(Box::new(peer)),
        Err(why) => eprintln!("bench: without xdp-filter: {why}"),
    }
    match peers::Nftables::new() {
        Ok(peer) => subjects.push(Box::new(peer)),
        Err(why) => eprintln!("bench: without nftables: {why}"),
    }
    let mut values: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    for round in 0..rounds {
        eprintln!("bench: round {} of {rounds}", round + 1);
        for (c, case) in CASES.iter().enumerate() {
            for (s, subject) in subjects.iter_mut().enumerate() {
                if let Some(value) = subject.measure(case) {
                    values.entry((s, c)).or_default().push(value);
                }
            }
        }
    }
    let mut samples: Vec<Sample> = values
        .iter()
        .map(|((s, c), runs)| Sample::new(subjects[*s].name(), CASES[*c], "ns over empty", runs))
        .collect();
    samples.extend(ratios(&samples));
    Ok(samples)
}

/// Sluice's median over each peer's, case by case. Below 1: Sluice is faster.
fn ratios(samples: &[Sample]) -> Vec<Sample> {
    let median = |subject: &str, case: &str| {
        samples.iter().find(|s| s.subject == subject && s.case == case).map(|s| s.median)
    };
    let mut out = Vec::new();
    for (peer, unit) in [("xdp-filter", "of xdp-filter"), ("nftables", "of nftables")] {
        for case in CASES {
            if let (Some(ours), Some(theirs)) = (median("sluice", case), median(peer, case)) {
                out.push(Sample::new("ratio", case, unit, &[ours / theirs.max(0.1)]));
            }
        }
    }
    out
}
