//! Sluice in user space: policy, datapath, monitor, server, command line.

pub mod datapath;
pub mod monitor;
pub mod policy;
pub mod view;
