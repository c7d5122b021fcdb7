//! `bench classify`: what a packet costs that the rules have to judge, from one rule to a hundred thousand.
//!
//! - Packets are drawn at random from the whole rule set: a random rule, a random value in each of its fields. Every rule
//!   drops, so that no packet ever begins a flow, and each meets the rules.
//! - `CASE hot`: one drawn packet over and over, the median over the drawn ones; of sets of 10,000 rules the 95th
//!   percentile over them, too. `CASE 64k headers`: 65,536 drawn packets one after the other, through a train.
//! - `CASE memory`: what the kernel accounts for the maps that hold the policy.
//! - `blocklist v4|v6 benign|listed ...`: what one rule about a million addresses adds for a packet that isn't among them,
//!   and for one that is.
//!
//! Everything that runs here was seen to drop what it was given, by its own counters, or it has no figure. The peers:
//!
//! - `nft linear`: rule by rule. `nft sets`: as few interval sets as the rules fit into without overlaps, where they are
//!   few enough; since all rules do the same, their order is nobody's matter. `iptables-legacy`. All at
//!   prerouting before connection tracking, by live frames.
//! - `xdp-filter` knows exact keys only: it is measured where every rule has a packet of its own (`1`, `10`, `100`), with
//!   as many exact destination addresses as there are rules, which asks less of it.

mod blocklist;
mod cases;
mod foreign;
mod sluice;

use super::Figures;
use crate::ruleset::{Key, Rule, draw};
use cases::Case;

/// Subject names.
const SLUICE: &str = "sluice";
const XDP_FILTER: &str = "xdp-filter";
const PEERS: [&str; 4] = [
    XDP_FILTER,
    foreign::Kind::Linear.name(),
    foreign::Kind::Sets.name(),
    foreign::Kind::Iptables.name(),
];

const UNIT: &str = "ns over empty";
const P95: &str = "ns over empty, p95 over packets";

/// Packets of the case with many.
const HEADERS: usize = 1 << 16;
/// Packets of the hot case: all, and of sets whose percentile is told.
const HOT: usize = 64;
const HOT_OF_MANY: usize = 256;

/// What is measured in a case.
struct Load {
    /// Its rules.
    rules: Vec<Rule>,
    /// Drawn packets, each for itself.
    hot: Vec<Key>,
    /// Drawn packets, one after the other.
    many: Vec<Key>,
}

impl Load {
    fn new(rules: Vec<Rule>, hot: usize) -> Self {
        let mut keys = draw::keys(&rules, hot + HEADERS, 1);
        let many = keys.split_off(hot);
        Self { rules, hot: keys, many }
    }

    fn is_v6(&self) -> bool {
        self.rules.first().is_some_and(Rule::is_v6)
    }
}

/// One round of a subject: what a packet costs hot, packet by packet, and in the train.
struct Round {
    hot: Vec<f64>,
    many: f64,
}

/// A subject that has a case's rules.
trait Subject {
    /// Measures once.
    ///
    /// # Errors
    /// In words; also where a packet wasn't dropped by a rule.
    fn round(&mut self) -> Result<Round, String>;
}

/// Runs it.
///
/// # Errors
/// None so far: what is missing is named in the figures.
pub(super) fn measure(rounds: usize, only: Option<String>) -> Result<Figures, String> {
    let mut figures = Figures::of("classify", only);
    for case in cases::CASES {
        if figures.wants(&[&case.hot(), &case.many(), &case.memory()]) {
            match case.rules() {
                Ok(rules) => measure_case(&mut figures, case, rules, rounds),
                Err(why) => figures.missing("*", case.name, why),
            }
        }
    }
    blocklist::measure(&mut figures, rounds);
    figures.ratio_to_best(SLUICE, &PEERS);
    Ok(figures)
}

fn measure_case(figures: &mut Figures, case: Case, rules: Vec<Rule>, rounds: usize) {
    eprintln!("bench: {}: {} rules", case.name, rules.len());
    let load = Load::new(rules, if case.has_p95 { HOT_OF_MANY } else { HOT });
    let mut subjects: Vec<(&'static str, Box<dyn Subject>)> = Vec::new();
    match sluice::Sluice::new(&load) {
        Ok(sluice) => {
            match sluice.memory() {
                0 => figures.missing(SLUICE, &case.memory(), "no pin of a policy's map"),
                bytes => figures.add(SLUICE, &case.memory(), "bytes", bytes as f64),
            }
            subjects.push((SLUICE, Box::new(sluice)));
        }
        Err(why) => figures.missing(SLUICE, case.name, why),
    }
    match foreign::XdpFilter::new(case, &load) {
        Ok(peer) => subjects.push((XDP_FILTER, Box::new(peer))),
        Err(why) => figures.missing(XDP_FILTER, case.name, why),
    }
    for kind in foreign::Kind::ALL {
        match foreign::Netfilter::new(kind, &load) {
            Ok(peer) => subjects.push((kind.name(), Box::new(peer))),
            Err(why) => figures.missing(kind.name(), case.name, why),
        }
    }
    for round in 0..rounds {
        eprintln!("bench: {}: round {} of {rounds}", case.name, round + 1);
        subjects.retain_mut(|(name, subject)| match subject.round() {
            Ok(round) => {
                figures.add(name, &case.hot(), UNIT, quantile(&round.hot, 0.5));
                // A few packets have no percentiles.
                if case.has_p95 && round.hot.len() >= HOT_OF_MANY {
                    figures.add(name, &case.hot(), P95, quantile(&round.hot, 0.95));
                }
                figures.add(name, &case.many(), UNIT, round.many);
                true
            }
            Err(why) => {
                figures.missing(name, case.name, why);
                false
            }
        });
    }
}

/// The value below which a share of them are (nearest rank).
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_values() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.95)), (50.0, 95.0));
        assert_eq!(quantile(&[3.0], 0.95), 3.0);
    }
}
