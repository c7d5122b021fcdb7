//! `bench forward`: through three namespaces, the filter in the middle.

mod bulk;
mod connections;
mod scene;
mod small;

use super::Figures;

/// Subject names.
const SLUICE: &str = "sluice";
const NFT: &str = "nftables";
const NOTHING: &str = "nothing";
const EMPTY: &str = "empty program";

/// Runs it.
///
/// # Errors
/// None so far: what is missing is named in the figures.
pub(super) fn measure(rounds: usize, only: Option<String>) -> Result<Figures, String> {
    let mut figures = Figures::of("forward", only);
    small::measure(&mut figures, rounds);
    bulk::measure(&mut figures, rounds);
    for peer in [NOTHING, EMPTY, NFT] {
        figures.ratio_to(SLUICE, peer);
    }
    Ok(figures)
}
