//! Masquerade under the tools that people use, with every checksum looked at where packets arrive; and the
//! path's MTU found through it.

use super::{LONG, POLICY, SOON, curl, echoes, noise, setup};
use sluice_tests::lab::{
    Capture, Checksums, Daemon, HttpServer, NatLab, NetNs, TcpEcho, UdpEcho, run, udp_exchange,
    wait_for,
};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Stdio;

const TOOLS: [&str; 9] =
    ["curl", "ncat", "ping", "traceroute", "iperf3", "tcpdump", "tshark", "ethtool", "ip"];

/// Bytes that are got and put by `curl`.
const BIG: usize = 10_000_000;

#[test]
fn tools_work_and_every_checksum_is_good_where_senders_make_them() {
    let test = "e2e_nat::masquerade::tools_work_and_every_checksum_is_good_where_senders_make_them";
    under_the_tools(test, Checksums::Whole);
}

#[test]
fn tools_work_and_every_checksum_is_good_where_links_make_them() {
    let test = "e2e_nat::masquerade::tools_work_and_every_checksum_is_good_where_links_make_them";
    under_the_tools(test, Checksums::Partial);
}

fn under_the_tools(test: &str, who: Checksums) {
    // Ports that no host chooses by itself: each is translated, in quoted headers too.
    let policy = POLICY.replace("from 10.9.0.0/24", "from 10.9.0.0/24 ports 20000-29999");
    let Some((lab, daemon)) = setup(test, &TOOLS, &policy) else { return };
    lab.checksums(who);
    // Where the gate's packets really arrive, on both sides.
    let outside = Capture::start(&lab.router, "r0", &daemon.dir).unwrap();
    let inside = Capture::start(&lab.a, "a0", &daemon.dir).unwrap();
    there_and_back(&lab, &daemon);
    datagrams(&lab);
    pings(&lab);
    routes(&lab);
    same_port_twice(&lab);
    many_streams(&lab);
    for (side, mut sums) in [("outside", outside.checksums()), ("inside", inside.checksums())] {
        if who == Checksums::Partial {
            // The gate's own stack quotes what came in: a checksum that nobody has completed yet.
            sums.bad.remove("quoted");
            // The link that completes a segment writes 0xffff for 0, be it TCP or UDP (`skb_checksum_help` in
            // net/core/dev.c): one of 65,536 segments.
            sums.bad.remove("other-zero");
        } else if side == "inside" {
            assert!(sums.good("quoted") > 0, "errors quote what was sent: {sums:?}");
        }
        assert_eq!(sums.bad(), 0, "{side}: {sums:?}");
        for (protocol, least) in [("tcp", 5000), ("udp", 2), ("icmp", 5), ("ip", 5000)] {
            assert!(sums.good(protocol) >= least, "{side}: {protocol} was looked at: {sums:?}");
        }
    }
    let bad_segments: u64 =
        [&lab.a, &lab.b, &lab.server].map(|ns| ns.snmp("Tcp", "InCsumErrors")).iter().sum();
    assert_eq!(bad_segments, 0, "receivers found bad checksums");
    // Of some ten thousand segments: on a busy machine one that was sent twice may come when its window has
    // long moved on.
    let strays = daemon.reason("out-of-window");
    assert!(strays <= 10, "segments fit their flows, but for {strays}");
    assert_eq!(daemon.reason("nat-exhausted"), 0);
}

/// `curl` gets and puts 10 MB; the server sees the gate's address.
fn there_and_back(lab: &NatLab, daemon: &Daemon) {
    let web = HttpServer::start(&lab.server, &format!("{}:80", NatLab::SERVER)).unwrap();
    let big = noise(BIG);
    web.put("/big", big.clone());
    let url = format!("http://{}", NatLab::SERVER);
    let file = daemon.dir.join("big");
    curl(&lab.a, &format!("-o {} {url}/big", file.display())).good();
    assert!(std::fs::read(&file).unwrap() == big, "what was got is what lies there");
    curl(&lab.a, &format!("-T {} {url}/up", file.display())).good();
    assert!(web.get("/up").as_ref() == Some(&big), "what was put is what was sent");
    let who = curl(&lab.a, &format!("{url}/who")).good();
    assert_eq!(who.split(':').next(), Some(NatLab::PUBLIC), "the server sees the gate");
    // At least 10 MB each way were counted, on flows that say how they are translated.
    let rows = daemon.flows("proto=tcp and dport=80");
    let sum = |field: &str| rows.iter().filter_map(|row| row[field].as_u64()).sum::<u64>();
    assert!(sum("bytes") > BIG as u64 && sum("reply_bytes") > BIG as u64, "{rows:?}");
    for row in &rows {
        assert_eq!(
            (&row["nat"]["src"], &row["nat"]["rule"]),
            (&NatLab::PUBLIC.into(), &"out".into())
        );
    }
}

/// A line of `ncat -u` each way.
fn datagrams(lab: &NatLab) {
    let ncat = |ns: &NetNs, line: &str| {
        ns.command("ncat")
            .args(line.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut far = ncat(&lab.server, &format!("-n -u -l {} 7000", NatLab::SERVER));
    wait_for("ncat listening", SOON, || {
        let sockets = lab.server.exec("ss", &["-lunH"]).ok()?;
        sockets.contains(":7000").then_some(())
    })
    .unwrap();
    let mut near = ncat(&lab.a, &format!("-n -u {} 7000", NatLab::SERVER));
    let line = |child: &mut std::process::Child| {
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = reader.read_line(&mut line);
            let _ = sender.send(line);
        });
        receiver
    };
    let (heard_far, heard_near) = (line(&mut far), line(&mut near));
    near.stdin.as_mut().unwrap().write_all(b"from inside\n").unwrap();
    assert_eq!(heard_far.recv_timeout(SOON).unwrap(), "from inside\n");
    far.stdin.as_mut().unwrap().write_all(b"from outside\n").unwrap();
    assert_eq!(heard_near.recv_timeout(SOON).unwrap(), "from outside\n");
    for mut child in [near, far] {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Pings, whole and in fragments, and an error that a port nobody listens at sends back.
fn pings(lab: &NatLab) {
    for size in [56, 4000] {
        let line = format!("ping -n -q -i 0.1 -W 2 -c 3 -s {size} {}", NatLab::SERVER);
        let said = run(&lab.a, &line, LONG).good();
        assert!(said.contains(" 0% packet loss"), "{said}");
    }
    let _echo = UdpEcho::start(&lab.server, &format!("{}:7003", NatLab::SERVER)).unwrap();
    let to = format!("{}:7003", NatLab::SERVER);
    udp_exchange(&lab.a, 0, &to, &[7; 6000], SOON).expect("a datagram in fragments, each way");
    let closed = format!("{}:7004", NatLab::SERVER);
    let refused = udp_exchange(&lab.a, 0, &closed, b"anybody?", SOON).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "the error came through");
}

/// Each hop of a `traceroute`: the errors of gate and router are about translated packets.
pub(crate) fn hops(ns: &NetNs, how: &str, to: &str) -> Vec<String> {
    let line = format!("traceroute -n {how} -q 1 -w 2 -N 1 -m 5 {to}");
    let said = run(ns, &line, LONG).good();
    let hop = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    said.lines().skip(1).filter_map(hop).collect()
}

fn routes(lab: &NatLab) {
    for how in ["-U", "-I", "-T"] {
        let way = hops(&lab.a, how, NatLab::SERVER);
        assert_eq!(way, [NatLab::GATE, NatLab::ROUTER, NatLab::SERVER], "traceroute {how}");
    }
}

/// Two hosts, one source port, one server: two public ports, and each gets its own.
fn same_port_twice(lab: &NatLab) {
    // Below those that a host chooses by itself, which one of its own may still hold.
    const PORT: u16 = 30_000;
    let _echo = TcpEcho::start(&lab.server, &format!("{}:7001", NatLab::SERVER)).unwrap();
    let to = format!("{}:7001", NatLab::SERVER);
    let hosts = [&lab.a, &lab.b];
    let mut streams = hosts.map(|host| host.connect_from(PORT, &to, SOON).unwrap());
    for (i, stream) in streams.iter_mut().enumerate() {
        echoes(stream, format!("host {i}").as_bytes()).unwrap();
    }
    let _echo = UdpEcho::start(&lab.server, &format!("{}:7002", NatLab::SERVER)).unwrap();
    for host in hosts.iter().chain(&hosts) {
        let to = format!("{}:7002", NatLab::SERVER);
        udp_exchange(host, PORT, &to, host.label.as_bytes(), SOON).unwrap();
    }
}

fn many_streams(lab: &NatLab) {
    // Who listens where: a port that is free now.
    let port =
        lab.server.run(|| TcpListener::bind("0.0.0.0:0")).unwrap().local_addr().unwrap().port();
    let far = lab.server.clone();
    let served = std::thread::spawn(move || run(&far, &format!("iperf3 -s -1 -p {port}"), LONG));
    wait_for("iperf3 listening", SOON, || {
        let sockets = lab.server.exec("ss", &["-ltnH"]).ok()?;
        sockets.contains(&format!(":{port}")).then_some(())
    })
    .unwrap();
    let line = format!("iperf3 -c {} -p {port} -P 4 -n 8M -J", NatLab::SERVER);
    let said = run(&lab.a, &line, LONG).good();
    let report: serde_json::Value = serde_json::from_str(&said).expect("iperf3's report");
    let streams = report["end"]["streams"].as_array().cloned().unwrap_or_default();
    assert_eq!(streams.len(), 4, "{said}");
    for stream in streams {
        assert!(stream["receiver"]["bytes"].as_u64() > Some(0), "{stream}");
    }
    served.join().unwrap().good();
}

/// A narrow link on either side, which a packet meets behind the gate: the error that says so is translated
/// back, and what it is about with it.
#[test]
fn the_mtu_of_the_path_is_found() {
    let test = "e2e_nat::masquerade::the_mtu_of_the_path_is_found";
    let Some((lab, daemon)) = setup(test, &["curl", "ping", "ip"], POLICY) else { return };
    lab.checksums(Checksums::Offloaded);
    // Routes with an MTU of their own: what the links between the routers take, though both ends think better
    // of them.
    lab.router.ip(&["route", "replace", "198.51.100.0/24", "dev", "r1", "mtu", "1280"]).unwrap();
    lab.gate.ip(&["route", "replace", "10.9.0.0/24", "dev", "lan0", "mtu", "1300"]).unwrap();

    let line = format!("ping -n -c 1 -W 2 -M do -s 1400 {}", NatLab::SERVER);
    let said = run(&lab.a, &line, LONG);
    let expected =
        format!("From {} icmp_seq=1 Frag needed and DF set (mtu = 1280)", NatLab::ROUTER);
    assert!(said.stdout.contains(&expected), "{said:?}");
    lab.a.ip(&["route", "flush", "cache"]).unwrap();

    let web = HttpServer::start(&lab.server, &format!("{}:80", NatLab::SERVER)).unwrap();
    let big = noise(BIG);
    web.put("/big", big.clone());
    let url = format!("http://{}", NatLab::SERVER);
    let file = daemon.dir.join("big");
    curl(&lab.a, &format!("-o {} {url}/big", file.display())).good();
    assert!(std::fs::read(&file).unwrap() == big, "what was got is what lies there");
    curl(&lab.a, &format!("-T {} {url}/up", file.display())).good();
    assert!(web.get("/up").as_ref() == Some(&big), "what was put is what was sent");

    // Both ends learnt it of the errors, the server of one about the gate's own address.
    let learnt = |ns: &NetNs, to: &str| ns.exec("ip", &["route", "get", to]).unwrap();
    let (a, server) = (learnt(&lab.a, NatLab::SERVER), learnt(&lab.server, NatLab::PUBLIC));
    assert!(a.contains("mtu 1280"), "{a}");
    assert!(server.contains("mtu 1300"), "{server}");
    assert!(daemon.reason("related") >= 4, "each error at both hooks");
}
