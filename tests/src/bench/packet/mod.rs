//! What a packet costs: Sluice and its peers on the same packets in the same run.
//!
//! - XDP programs (ours, `xdp-filter`'s): thread CPU time around BPF_PROG_TEST_RUN, divided by the
//!   number of repeats, less the empty program's of the same round.
//! - nftables, which works behind the driver: live frames through a program that passes them, less
//!   live frames through one that drops them.
//!
//! Everything runs on one core, every subject once a round; the figure is the median over the rounds.
//! Ratios hold, absolute times don't: the machine may be shared.

mod peers;
mod sluice;

use super::output::Figures;
use super::pair::{DST, SRC};
use super::xdp_filter::XdpFilter;

/// The cases by name, in the order they are printed.
const CASES: [&str; 6] = ["1 rule", "10 rules", "100 rules", "1000 rules", "established", "drop"];

/// Number of rules of a case, where it is about rules.
fn rules_of(case: &str) -> Option<usize> {
    case.strip_suffix(" rules").or(case.strip_suffix(" rule"))?.parse().ok()
}

/// Ports of the measured packets.
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
pub(super) fn rule(i: usize, n: usize) -> (String, String, (u16, u16)) {
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

/// What a packet costs, with rules, established, refused.
///
/// # Errors
/// In words, where Sluice itself can't be measured.
pub(super) fn measure(rounds: usize) -> Result<Figures, String> {
    let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(sluice::Sluice::new()?)];
    let mut figures = Figures::new("packet");
    match XdpFilter::new() {
        Ok(peer) => subjects.push(Box::new(peer)),
        Err(why) => figures.missing("xdp-filter", "*", why),
    }
    match peers::Nftables::new() {
        Ok(peer) => subjects.push(Box::new(peer)),
        Err(why) => figures.missing("nftables", "*", why),
    }
    for round in 0..rounds {
        eprintln!("bench: round {} of {rounds}", round + 1);
        for case in CASES {
            for subject in &mut subjects {
                if let Some(value) = subject.measure(case) {
                    figures.add(subject.name(), case, "ns over empty", value);
                }
            }
        }
    }
    for peer in ["xdp-filter", "nftables"] {
        figures.ratio_to("sluice", peer);
    }
    Ok(figures)
}
