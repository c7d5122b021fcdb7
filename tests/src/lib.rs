//! What the suites share: the packet builder, the lab of network namespaces, the naive model.
//!
//! - [`packet`]: frames from a small builder language, checksums right unless asked to lie.
//! - [`bench`]: what a packet costs, here and in peers.
//! - [`bpf`]: programs and test runs, straight through `bpf(2)`.
//! - [`capture`]: frames out of capture files.
//! - [`kernel`]: the kernel half alone, through test runs.
//! - [`lab`]: client, gate and server in namespaces of their own, real traffic between them, and a
//!   real daemon at the gate.
//! - [`oracle`]: a second oracle, nftables: the same rules in both languages, in two gates.
//! - [`model`]: the oracle. Shares no code with the product: it reads bytes itself, walks its own
//!   rules one by one and keeps flows in a `BTreeMap`.
//! - [`ruleset`]: sets of many rules, for every filter, and packets drawn from them.
//!
//! A test that can't run here prints `SKIP name: reason` (see [`skip`]) and returns; the reasons
//! that are expected stand in `expected-skips.txt`.

pub mod bench;
pub mod bpf;
pub mod capture;
pub mod kernel;
pub mod lab;
pub mod model;
pub mod oracle;
pub mod packet;
pub mod rng;
pub mod ruleset;
pub mod skip;
