//! Translation in every hook mode. Where packets are judged at XDP, those to be translated are left to the TC
//! program behind it; nothing may be judged twice, or by nobody.

use super::{LONG, SOON, curl, noise};
use sluice_tests::lab::{Daemon, DaemonOptions, HttpServer, NatLab, UdpEcho, run, udp_exchange};

const POLICY: &str = "
interface wan = wan0
interface lan = lan0
default in drop
default out allow
nat web   destination on wan tcp to 203.0.113.1 port 8080 => 10.9.0.2 port 80
nat out   masquerade  on wan from 10.9.0.0/24
rule inside allow in on lan
rule web-in allow in on wan tcp to 10.9.0.2 port 80
rule shut   drop  in on wan tcp to port 23
";

const BIG: usize = 1_000_000;

fn in_mode(test: &str, mode: &str) {
    let Some(lab) = NatLab::or_skip(test, &["curl", "ping", "traceroute"]) else { return };
    let options = DaemonOptions::on(POLICY, &[("wan0", mode), ("lan0", mode)]);
    let Some(daemon) = Daemon::or_skip(test, &lab.gate, options) else { return };

    let far = HttpServer::start(&lab.server, &format!("{}:80", NatLab::SERVER)).unwrap();
    let near = HttpServer::start(&lab.a, &format!("{}:80", NatLab::A)).unwrap();
    let page = noise(BIG);
    let file = daemon.dir.join("page");
    for (who, ns, server, url) in [
        ("out", &lab.a, &far, format!("http://{}", NatLab::SERVER)),
        ("in", &lab.server, &near, "http://203.0.113.1:8080".to_owned()),
    ] {
        server.put("/page", page.clone());
        curl(ns, &format!("-o {} {url}/page", file.display())).good();
        assert!(std::fs::read(&file).unwrap() == page, "{who}: what was got is what lies there");
        curl(ns, &format!("-T {} {url}/up", file.display())).good();
        assert!(server.get("/up").as_ref() == Some(&page), "{who}: what was put is what was sent");
    }
    let _echo = UdpEcho::start(&lab.server, &format!("{}:7003", NatLab::SERVER)).unwrap();
    let to = format!("{}:7003", NatLab::SERVER);
    udp_exchange(&lab.a, 0, &to, &[7; 100], SOON).expect("a datagram");
    udp_exchange(&lab.a, 0, &to, &[7; 6000], SOON).expect("a datagram in fragments");
    run(&lab.a, &format!("ping -n -q -i 0.1 -W 2 -c 3 {}", NatLab::SERVER), LONG).good();
    let hops = run(&lab.a, &format!("traceroute -n -q 1 -w 2 -m 4 {}", NatLab::SERVER), LONG);
    assert!(
        hops.good().contains(NatLab::ROUTER),
        "an error about a translated packet came through"
    );

    // Each new packet from outside met the rules once.
    assert_eq!(daemon.rule("web-in")["hits"], 2, "{}", daemon.rule("web-in"));
    for _ in 0..2 {
        lab.server.connect("203.0.113.1:23", super::SILENCE).unwrap_err();
    }
    let shut = daemon.rule("shut")["hits"].as_u64().unwrap_or_default();
    assert!((2..=4).contains(&shut), "{shut} SYNs at most twice each");
    // Totals of a flow are those of its packets, each once.
    let row = &daemon.flows("proto=udp and dport=7003")[..];
    let whole = row.iter().find(|row| row["bytes"] == 128).unwrap_or_else(|| panic!("{row:?}"));
    let figures = ["packets", "reply_packets", "reply_bytes"].map(|field| whole[field].as_u64());
    assert_eq!(figures, [Some(1), Some(1), Some(128)], "{whole}");
    assert_eq!(daemon.reason("nat-impossible"), 0);
    assert_eq!(daemon.reason("out-of-window"), 0);
}

#[test]
fn at_native_xdp() {
    in_mode("e2e_nat::modes::at_native_xdp", "xdp");
}

#[test]
fn generic_xdp_says_that_it_cannot() {
    let test = "e2e_nat::modes::generic_xdp_says_that_it_cannot";
    let Some(lab) = NatLab::or_skip(test, &[]) else { return };
    let options = DaemonOptions::on(POLICY, &[("wan0", "xdp-generic"), ("lan0", "tc")]);
    let Some(daemon) = Daemon::or_skip(test, &lab.gate, options) else { return };
    let status = daemon.json(&["status"]).to_string();
    assert!(status.contains("wan0: under generic XDP, packets that come in"), "{status}");
    let _echo = UdpEcho::start(&lab.server, &format!("{}:7003", NatLab::SERVER)).unwrap();
    let to = format!("{}:7003", NatLab::SERVER);
    udp_exchange(&lab.a, 0, &to, &[7; 100], super::SILENCE).unwrap_err();
    assert_eq!(daemon.reason("nat-impossible"), 1, "and counts what it drops for it");
}

#[test]
fn at_tc() {
    in_mode("e2e_nat::modes::at_tc", "tc");
}
