//! What rules by owner cost those who call: nanoseconds of the program at `connect`, as the kernel's own accounts have
//! them, and of the whole call.
//!
//! - `connect, N rules by owner`: the program's, with N rules that all have to be passed (each names another process,
//!   executable, user or unit).
//! - `connect and close`: the whole of a UDP socket's, with none and with a thousand of them in force.

use super::Figures;
use crate::lab::NetNs;
use firewall_common::abi::owner::OwnerField;
use firewall_user::datapath::owners::{OwnerKeys, OwnerPolicy};
use firewall_user::datapath::sockets::SocketMonitor;
use firewall_user::datapath::{Datapath, Options, SlotNames};
use firewall_user::policy::{self, Slots};
use std::net::UdpSocket;
use std::time::Instant;

const SLUICE: &str = "sluice";
const CALLS: u32 = 50_000;
const CASES: [(&str, usize); 3] = [
    ("connect, 1 rule by owner", 1),
    ("connect, 100 rules by owner", 100),
    ("connect, 1,000 rules by owner", 1_000),
];
const NONE: &str = "connect and close, no rules";
const WHOLE: &str = "connect and close, 1,000 rules by owner";

pub(super) fn measure(figures: &mut Figures, rounds: usize) -> Result<(), String> {
    let cases: Vec<&str> = CASES.iter().map(|(case, _)| *case).chain([NONE, WHOLE]).collect();
    if !figures.wants(&cases) {
        return Ok(());
    }
    let place = NetNs::new("owners").map_err(|error| error.to_string())?;
    place.ip(&["link", "set", "lo", "up"]).map_err(|error| error.to_string())?;
    for _ in 0..rounds {
        for (case, rules) in CASES {
            place.run(|| one(figures, case, rules))?;
        }
    }
    Ok(())
}

/// So many rules, each about somebody else.
fn text(rules: usize) -> String {
    let who = |i: usize| match i % 4 {
        0 => format!("process other-{i}"),
        1 => format!("exe /no/such/file-{i}"),
        2 => format!("user {}", 100_000 + i),
        _ => format!("unit other-{i}"),
    };
    (0..rules).map(|i| format!("rule r{i} drop out udp {}\n", who(i))).collect()
}

fn one(figures: &mut Figures, case: &str, rules: usize) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let pin_dir = format!("/sys/fs/bpf/sluice-bench-owners-{}", std::process::id()).into();
    let options = Options { pin_dir, max_flows: 1024, ..Options::default() };
    let mut datapath = Datapath::open(&options).map_err(|error| failed(&error))?;
    let before = calls()?;
    let parsed = policy::parse(&text(rules), "bench").map_err(|error| failed(&error))?;
    let mut compiled =
        policy::compile(&parsed, &mut Slots::new(), 1).map_err(|error| failed(&error))?;
    let mut owners = compiled.owners.take().ok_or("no rules by owner")?;
    let mut keys = OwnerKeys::default();
    for name in owners.names(OwnerField::Process) {
        let mut comm = [0; 16];
        comm[..name.len()].copy_from_slice(name.as_bytes());
        keys.processes.insert(comm, owners.row(OwnerField::Process, &|text| text == name));
    }
    for name in owners.names(OwnerField::User) {
        let row = owners.row(OwnerField::User, &|text| text == name);
        keys.users.insert(name.parse().map_err(|error| failed(&error))?, row);
    }
    for name in owners.names(OwnerField::Unit) {
        let row = owners.row(OwnerField::Unit, &|text| text == name);
        keys.units.insert(name, row);
    }
    let table = owners.table().map_err(|error| failed(&error))?;
    let owners = OwnerPolicy { table, keys, others: false };
    datapath
        .install(&compiled.table, &compiled.arena, 1, &SlotNames::default(), Some(&owners))
        .map_err(|error| failed(&error))?;
    let with = calls()?;
    {
        let _accounts = SocketMonitor::account().map_err(|error| failed(&error))?;
        calls()?;
    }
    for (name, time, runs) in datapath.owners_costs() {
        if name == "sluice_own_connect4" && runs > 0 {
            figures.add(SLUICE, case, "ns", time.as_nanos() as f64 / runs as f64);
        }
    }
    if rules == 1_000 {
        figures.add(SLUICE, NONE, "ns, the whole call", before);
        figures.add(SLUICE, WHOLE, "ns, the whole call", with);
    }
    datapath.unload().map_err(|error| failed(&error))
}

/// Nanoseconds of making, connecting and closing a UDP socket.
fn calls() -> Result<f64, String> {
    let start = Instant::now();
    for _ in 0..CALLS {
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        socket.connect("127.0.0.1:9").map_err(|error| error.to_string())?;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(CALLS))
}
