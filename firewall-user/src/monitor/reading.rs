//! What is read of the tables beside the flows: accounts of translations, ports, how full it is.

use firewall_common::abi::counter::TableCounter;

/// One account: a rule's, a host's, or a public address's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatAccount {
    /// Mappings begun.
    pub mappings: u64,
    /// Of those, ended.
    pub ended: u64,
    /// Mappings refused for want of a port.
    pub failures: u64,
    /// Totals of ended flows: packets, bytes, reply packets, reply bytes.
    pub totals: [u64; 4],
}

/// An account and the flows that live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatSum {
    /// The account, with the live flows' figures in its totals.
    pub account: NatAccount,
    /// Flows that live.
    pub live: u64,
}

/// One reading of everything that is counted of translations, live flows included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatReading {
    /// By slot of the rule.
    pub rules: Vec<(u32, NatSum)>,
    /// By inside host; `None`: those that found no row of their own.
    pub hosts: Vec<(Option<[u8; 4]>, NatSum)>,
}

/// Ports of one public address and protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortFigures {
    /// Index in map `PORTS`: three times the address's, plus the protocol's class.
    pub index: usize,
    /// Ports in use at the last count.
    pub in_use: u64,
    /// Most that were.
    pub peak: u64,
    /// Mappings made.
    pub made: u64,
    /// Mappings refused.
    pub failures: u64,
}

/// How full the flow tables are, as the sweep sees it: each part is as old as its last sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Flows of each family, IPv4 first.
    pub flows: [u64; 2],
    /// Of those, unanswered ones.
    pub half_open: u64,
    /// Translated flows, at the last count of ports.
    pub mappings: u64,
}

/// Everything about the tables that statistics and alarms are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableInput {
    /// How full.
    pub census: Census,
    /// What befell entries.
    pub counter: TableCounter,
    /// Public ports.
    pub ports: Vec<PortFigures>,
    /// Addresses of interfaces, by interface slot: those of masquerades.
    pub addresses: Vec<(u8, [u8; 4])>,
    /// Mappings refused, of all rules.
    pub nat_failures: u64,
}
