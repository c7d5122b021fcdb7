//! `bench track`: flows known, new, by the million, and under a flood.

mod established;
mod flood;
mod new_flow;
mod table;

use super::Figures;

/// Most flows of the measured tables: a million and some room.
const MAX_FLOWS: u32 = 1_200_000;

/// Subject names.
const SLUICE: &str = "sluice";
const NFT: &str = "nftables";
const CONNTRACK: &str = "conntrack";

/// Runs it.
///
/// # Errors
/// None so far: what is missing is named in the figures.
pub(super) fn measure(rounds: usize, only: Option<String>) -> Result<Figures, String> {
    let mut figures = Figures::of("track", only);
    if figures.wants(&[
        "established hot",
        "established 64k",
        "established 1M",
        "sweep 1M",
        "dump 1M",
        "memory",
    ]) {
        established::measure(&mut figures, rounds);
    }
    if figures.wants(&["new flow"]) {
        new_flow::measure(&mut figures, rounds);
    }
    flood::measure(&mut figures, rounds);
    for peer in [NFT, CONNTRACK, flood::SYNPROXY] {
        figures.ratio_to(SLUICE, peer);
    }
    Ok(figures)
}
