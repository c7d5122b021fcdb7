//! A pool of public ports, used to the last one.

use super::{SILENCE, SOON, setup};
use sluice_tests::lab::{Daemon, NatLab, TcpEcho, UdpEcho, udp_exchange, wait_for};

/// Eight ports of one address.
const POLICY: &str = "
interface wan = wan0
interface lan = lan0
default in drop
default out allow
nat out source on wan from 10.9.0.0/24 ports 50000-50007 => 203.0.113.70
rule inside allow in on lan
";
const PORTS: usize = 8;

#[test]
fn ports_are_used_to_exhaustion_and_used_again() {
    let test = "e2e_nat::pool::ports_are_used_to_exhaustion_and_used_again";
    let Some((lab, daemon)) = setup(test, &[], POLICY) else { return };
    let _echoes = [7000, 7001]
        .map(|port| UdpEcho::start(&lab.server, &format!("{}:{port}", NatLab::SERVER)).unwrap());
    let host = |sport: u16| if sport.is_multiple_of(2) { &lab.a } else { &lab.b };
    let exchange = |sport: u16, dport: u16| {
        let to = format!("{}:{dport}", NatLab::SERVER);
        udp_exchange(host(sport), sport, &to, b"hello", SOON)
    };
    let refused = |sport: u16| {
        let to = format!("{}:7000", NatLab::SERVER);
        udp_exchange(host(sport), sport, &to, b"hello", SILENCE).unwrap_err();
    };
    let ports = || {
        let rows = daemon.flows("dport=7000");
        let mut ports: Vec<u64> = rows
            .iter()
            .filter(|row| row["ended"].is_null() && row["nat"]["src"] == "203.0.113.70")
            .filter_map(|row| row["nat"]["sport"].as_u64())
            .collect();
        ports.sort_unstable();
        ports
    };
    for i in 0..PORTS as u16 {
        exchange(2000 + i, 7000).unwrap_or_else(|error| panic!("port {i}: {error}"));
    }
    let all: Vec<u64> = (50_000..50_000 + PORTS as u64).collect();
    assert_eq!(ports(), all, "each is used, none twice");
    assert_eq!(daemon.reason("nat-exhausted"), 0);
    for i in 0..3 {
        refused(3000 + i);
    }
    assert_eq!(daemon.reason("nat-exhausted"), 3, "each refused packet is counted");
    shown_as_exhausted(&daemon);
    // To another destination the same ports may be lent once more (RFC 4787: port overloading).
    for i in 0..PORTS as u16 {
        exchange(4000 + i, 7001).unwrap_or_else(|error| panic!("shared port {i}: {error}"));
    }
    assert_eq!(daemon.reason("nat-exhausted"), 3);
    // Those that hold ports still work.
    for i in 0..PORTS as u16 {
        exchange(2000 + i, 7000).unwrap_or_else(|error| panic!("port {i} again: {error}"));
    }

    let freed = daemon.json(&["flow", "kill", "dport=7000 and sport=2000-2002"]);
    assert_eq!(freed["total"], 3, "{freed}");
    for i in 0..3 {
        wait_for("a freed port", SOON, || exchange(5000 + i, 7000).ok())
            .unwrap_or_else(|error| panic!("freed port {i}: {error}"));
    }
    assert_eq!(ports(), all, "the freed ones, and no other");
    let before = daemon.reason("nat-exhausted");
    refused(6000);
    assert_eq!(daemon.reason("nat-exhausted"), before + 1, "and again there are no more");
}

/// The pool's row, the rule's and the hosts', and the alarm.
fn shown_as_exhausted(daemon: &Daemon) {
    let mut seen = String::new();
    let shown = wait_for("the pool shown as used up", SOON, || {
        let pools = daemon.rows(&["nat", "pools"]);
        let pool =
            pools.iter().find(|row| row["address"] == "203.0.113.70" && row["proto"] == "udp")?;
        let failures = |rows: Vec<serde_json::Value>| -> u64 {
            rows.iter().filter_map(|row| row["failures"].as_u64()).sum()
        };
        let by_rule = failures(daemon.rows(&["nat", "rules"]));
        let by_host = failures(daemon.rows(&["nat", "hosts"]));
        let alarms = daemon.json(&["status"])["alarms"].clone();
        seen = format!("{pool}\nfailures by rule {by_rule}, by host {by_host}; alarms {alarms}");
        let full = pool["ports"] == PORTS && pool["in_use"] == PORTS && pool["failures"] == 3;
        let alarmed = alarms.as_array()?.iter().any(|alarm| alarm["code"] == "nat-ports-exhausted");
        (full && (by_rule, by_host) == (3, 3) && alarmed).then_some(())
    });
    assert!(shown.is_ok(), "{seen}");
}

#[test]
fn ports_of_the_gates_own_sockets_are_not_lent() {
    let test = "e2e_nat::pool::ports_of_the_gates_own_sockets_are_not_lent";
    let policy = "
interface wan = wan0
interface lan = lan0
default in drop
default out allow
nat out masquerade on wan from 10.9.0.0/24 ports 20000-20063
rule inside allow in on lan
";
    let Some((lab, daemon)) = setup(test, &[], policy) else { return };
    // Sockets that Sluice has seen no packet of.
    let _resolver = UdpEcho::start(&lab.gate, "0.0.0.0:20000").unwrap();
    let _server = TcpEcho::start(&lab.gate, "0.0.0.0:20001").unwrap();
    let _far = [7001, 7002]
        .map(|port| UdpEcho::start(&lab.server, &format!("{}:{port}", NatLab::SERVER)).unwrap());
    let _web = TcpEcho::start(&lab.server, &format!("{}:80", NatLab::SERVER)).unwrap();
    // The port that a host inside uses itself is tried first.
    let to = format!("{}:7001", NatLab::SERVER);
    udp_exchange(&lab.a, 20_000, &to, b"another", SOON).expect("it gets another port");
    let row = &daemon.flows("proto=udp and dport=7001")[0];
    assert_ne!(row["nat"]["sport"], 20_000, "{row}");
    // One that no socket has stays; nor must it be the one that was just lent, at random.
    let free = if row["nat"]["sport"] == 20_002 { 20_003 } else { 20_002 };
    let to = format!("{}:7002", NatLab::SERVER);
    udp_exchange(&lab.a, free, &to, b"free", SOON).expect("nobody's port");
    let row = &daemon.flows("proto=udp and dport=7002")[0];
    assert_eq!(row["nat"]["sport"], free, "{row}");
    lab.a.connect_from(20_001, &format!("{}:80", NatLab::SERVER), SOON).expect("a connection");
    let row = &daemon.flows("proto=tcp and dport=80")[0];
    assert_ne!(row["nat"]["sport"], 20_001, "{row}");
    assert_eq!(daemon.reason("nat-local-port"), 0);
}
