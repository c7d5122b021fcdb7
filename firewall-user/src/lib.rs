//! Sluice in user space: policy, datapath, monitor, server, command line.

pub mod cli;
pub mod daemon;
pub mod datapath;
pub mod explain;
pub mod filter;
pub mod monitor;
pub mod names;
pub mod netfilter;
pub mod owners;
pub mod paths;
pub mod policy;
pub mod server;
pub mod sets;
pub mod store;
pub mod view;
