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
pub(super) fn measure(rounds: usize) -> Result<Figures, String> {
    let mut figures = Figures::new("track");
    established::measure(&mut figures, rounds);
    new_flow::measure(&mut figures, rounds);
    flood::measure(&mut figures, rounds);
    for peer in [NFT, CONNTRACK, flood::SYNPROXY] {
        figures.ratio_to(SLUICE, peer);
    }
    Ok(figures)
}
