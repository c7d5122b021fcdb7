//! What Sluice costs and what its peers do, on the same packets in the same run.
//!
//! - `packet`: a packet against rules.
//! - `classify`: packets of every rule against few rules and very many, and addresses against long lists.
//! - `apply`: how long a change of the rules takes.
//! - `track`: flows known and new, floods, memory, sweeps, dumps.
//! - `nat`: translated packets, and mappings where ports run short.
//! - `forward`: packets through three namespaces, bulk TCP, connections.
//! - `sockets`: what the socket monitor costs those whom it watches, and how fast it sees them.
//!
//! Two ways to measure a packet:
//!
//! - Programs (ours, `xdp-filter`'s): thread CPU time around BPF_PROG_TEST_RUN, divided by the number of
//!   repeats, less the empty program's of the same round. Where packets must differ, both are tail-called by
//!   the program of [`train`], which writes another header each time.
//! - What works behind the driver: live frames. The test program passes them to the stack as a driver would
//!   (less the same frames dropped), or redirects them into a veth.
//!
//! Everything runs on one core, every subject once a round; a figure is the median over the rounds.
//! Ratios hold, absolute times don't: the machine may be shared.

mod apply;
mod classify;
mod forward;
mod gate;
mod history;
mod names;
mod nat;
mod netfilter;
mod ours;
mod output;
mod owners;
mod packet;
mod pair;
mod sockets;
mod sockets_daemon;
mod street;
mod track;
mod train;
mod tuples;
mod xdp_filter;

pub use output::Figures;

/// Rounds of a full run.
pub const ROUNDS: usize = 9;

/// The benchmarks by name.
pub const BENCHES: [&str; 7] =
    ["packet", "classify", "apply", "track", "forward", "nat", "sockets"];

/// Runs a benchmark of [`BENCHES`]. `rounds` below [`ROUNDS`] makes it quicker and noisier; `only`: cases whose
/// names begin so, where the others can be left out. What can't be measured here is named with its reason.
///
/// # Errors
/// In words, where nothing can be measured.
pub fn run(bench: &str, rounds: usize, only: Option<String>) -> Result<Figures, String> {
    if let Some(reason) = crate::skip::no_kernel_access() {
        return Err(reason.into());
    }
    if std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled")
        .is_ok_and(|on| on.trim() != "0")
    {
        eprintln!(
            "bench: kernel.bpf_stats_enabled is on: every program reads the clock twice more"
        );
    }
    match bench {
        "packet" => packet::measure(rounds),
        "classify" => classify::measure(rounds, only),
        "apply" => apply::measure(rounds, only),
        "track" => track::measure(rounds, only),
        "forward" => forward::measure(rounds, only),
        "nat" => nat::measure(rounds),
        "sockets" => sockets::measure(rounds, only),
        other => Err(format!("no benchmark `{other}`, but {}", BENCHES.join(", "))),
    }
}
