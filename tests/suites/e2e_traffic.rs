//! Real traffic through a real gate: what the policy allows arrives, what it denies doesn't, and the
//! flows' totals are what was sent.

use sluice_tests::lab::{
    Daemon, DaemonOptions, Lab, NetNs, RawSocket, TcpEcho, UdpEcho, udp_exchange, wait_for,
};
use sluice_tests::packet::Packet;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

const POLICY: &str = "
default in drop
default out allow
rule web     allow  in on wan0 tcp to port 80
rule dns     allow  in on wan0 udp to port 53
rule pings   allow  in on wan0 icmp type echo-request
rule pings6  allow  in on wan0 icmpv6 type echo-request
rule telnet  reject in on wan0 tcp to port 23
rule echo    reject in on wan0 udp to port 7
";

const SOON: Duration = Duration::from_secs(5);
/// Long enough for a packet that is let through, on a busy machine; short enough to wait out.
const SILENCE: Duration = Duration::from_millis(700);

/// The two families' address of the server, as `address:port` takes it.
const SERVERS: [&str; 2] = [Lab::SERVER4, "[fd77:2::2]"];

fn lab_and_daemon(test: &str, policy: &str) -> Option<(Lab, Daemon)> {
    let lab = Lab::or_skip(test)?;
    let daemon = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(policy))?;
    Some((lab, daemon))
}

#[test]
fn tcp_is_allowed_dropped_and_rejected_in_both_families() {
    let Some((lab, daemon)) =
        lab_and_daemon("e2e_traffic::tcp_is_allowed_dropped_and_rejected_in_both_families", POLICY)
    else {
        return;
    };
    let _servers: Vec<_> = SERVERS
        .iter()
        .flat_map(|server| {
            [80, 81, 23]
                .map(|port| TcpEcho::start(&lab.server, &format!("{server}:{port}")).unwrap())
        })
        .collect();
    for server in SERVERS {
        lab.client
            .tcp_exchange(&format!("{server}:80"), &[7; 50_000], SOON)
            .unwrap_or_else(|e| panic!("{server}: {e}"));
        let dropped = lab.client.connect(&format!("{server}:81"), SILENCE).unwrap_err();
        assert_eq!(dropped.kind(), ErrorKind::TimedOut, "{server}: a dropped SYN is silence");
        let start = Instant::now();
        let rejected = lab.client.connect(&format!("{server}:23"), SOON).unwrap_err();
        assert_eq!(
            rejected.kind(),
            ErrorKind::ConnectionRefused,
            "{server}: a rejected SYN gets a RST"
        );
        assert!(start.elapsed() < Duration::from_secs(1), "{server}: and at once");
    }
    assert_eq!(daemon.rule("web")["hits"], 2, "one hit a connection: {}", daemon.rule("web"));
    assert_eq!(daemon.rule("telnet")["hits"], 2);
    assert!(daemon.rule("default in")["hits"].as_u64() >= Some(2));
}

#[test]
fn udp_is_allowed_dropped_and_rejected_in_both_families() {
    let Some((lab, daemon)) =
        lab_and_daemon("e2e_traffic::udp_is_allowed_dropped_and_rejected_in_both_families", POLICY)
    else {
        return;
    };
    let _servers: Vec<_> = SERVERS
        .iter()
        .flat_map(|server| {
            [53, 54, 7]
                .map(|port| UdpEcho::start(&lab.server, &format!("{server}:{port}")).unwrap())
        })
        .collect();
    let timed_out = |error: &std::io::Error| {
        matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
    };
    for server in SERVERS {
        udp_exchange(&lab.client, 0, &format!("{server}:53"), b"query", SOON)
            .unwrap_or_else(|e| panic!("{server}: {e}"));
        let dropped =
            udp_exchange(&lab.client, 0, &format!("{server}:54"), b"query", SILENCE).unwrap_err();
        assert!(timed_out(&dropped), "{server}: a dropped datagram is silence, not {dropped}");
        let rejected =
            udp_exchange(&lab.client, 0, &format!("{server}:7"), b"query", SOON).unwrap_err();
        assert!(
            !timed_out(&rejected),
            "{server}: a rejected datagram is answered with an ICMP error"
        );
    }
    assert_eq!(daemon.rule("dns")["hits"], 2);
    assert_eq!(daemon.rule("echo")["hits"], 2);
}

#[test]
fn pings_are_allowed_and_dropped_in_both_families() {
    let Some((lab, daemon)) =
        lab_and_daemon("e2e_traffic::pings_are_allowed_and_dropped_in_both_families", POLICY)
    else {
        return;
    };
    for server in [Lab::SERVER4, Lab::SERVER6, Lab::GATE4, Lab::GATE6] {
        assert!(lab.client.ping(server, 3), "{server} answers");
    }
    daemon.apply("default in drop\ndefault out allow\nrule web allow in tcp to port 80\n");
    for server in [Lab::SERVER4, Lab::SERVER6] {
        assert!(!lab.client.ping(server, 1), "{server} is out of reach");
    }
    // Neighbour discovery lives on even where everything is dropped: the gate's address resolves.
    lab.client.ip(&["neigh", "flush", "dev", "c0"]).unwrap();
    lab.client.ping(Lab::GATE6, 1);
    let neighbours = lab.client.exec("ip", &["-6", "neigh", "show", "dev", "c0"]).unwrap();
    assert!(neighbours.contains("lladdr"), "IPv6 neighbours resolve: {neighbours}");
    assert!(daemon.reason("neighbour-discovery") > 0);
}

#[test]
fn tagged_frames_are_judged_by_what_they_carry() {
    let test = "e2e_traffic::tagged_frames_are_judged_by_what_they_carry";
    let Some((lab, daemon)) = lab_and_daemon(test, POLICY) else { return };
    let raw = RawSocket::open(&lab.client, "c0").unwrap();
    let (from, to) = (lab.client.mac("c0").unwrap(), lab.gate.mac("wan0").unwrap());
    let frame = |tags: &[u16], sport: u16, dport: u16| {
        let tagged = tags.iter().fold(Packet::new().macs(from, to), |packet, id| packet.vlan(*id));
        tagged.ipv4(Lab::CLIENT4, Lab::SERVER4).udp(sport, dport).fill(20).build()
    };
    for _ in 0..3 {
        raw.send(&frame(&[5], 4001, 53));
        raw.send(&frame(&[6, 7], 4002, 53));
        raw.send(&frame(&[5], 4003, 99));
    }
    let flow = |sport: u16| daemon.flows(&format!("sport={sport}"));
    wait_for("the tagged flows", SOON, || (flow(4001).len() + flow(4002).len() == 2).then_some(()))
        .unwrap();
    wait_for("their packets", SOON, || (flow(4002)[0]["packets"] == 3).then_some(())).unwrap();
    assert_eq!(
        (&flow(4001)[0]["vlan"], &flow(4001)[0]["bytes"]),
        (&5.into(), &(3 * 48).into()),
        "{:?}",
        flow(4001)
    );
    assert_eq!(flow(4002)[0]["vlan"], 6, "the outer tag: {:?}", flow(4002));
    assert!(flow(4003).is_empty(), "a denied packet makes no flow");
    assert_eq!(daemon.rule("default in")["hits"], 3);
}

#[test]
fn fragmented_datagrams_follow_their_first_fragment() {
    let test = "e2e_traffic::fragmented_datagrams_follow_their_first_fragment";
    let Some((lab, daemon)) = lab_and_daemon(test, POLICY) else { return };
    let _servers: Vec<_> = SERVERS
        .iter()
        .flat_map(|server| {
            [53, 54].map(|port| UdpEcho::start(&lab.server, &format!("{server}:{port}")).unwrap())
        })
        .collect();
    for server in SERVERS {
        udp_exchange(&lab.client, 0, &format!("{server}:53"), &[9; 9000], SOON)
            .unwrap_or_else(|e| panic!("{server}: {e}"));
        udp_exchange(&lab.client, 0, &format!("{server}:54"), &[9; 9000], SILENCE)
            .expect_err("denied in fragments too");
    }
    assert_eq!(daemon.reason("fragment-without-first"), 0);
    assert_eq!(daemon.reason("bad-fragment"), 0);
    // A later fragment alone.
    let raw = RawSocket::open(&lab.client, "c0").unwrap();
    let (from, to) = (lab.client.mac("c0").unwrap(), lab.gate.mac("wan0").unwrap());
    let lone = Packet::new()
        .macs(from, to)
        .ipv4(Lab::CLIENT4, Lab::SERVER4)
        .udp(1, 53)
        .fill(64)
        .fragments(32, 77);
    raw.send(&lone[1].build());
    wait_for("the lone fragment", SOON, || {
        (daemon.reason("fragment-without-first") == 1).then_some(())
    })
    .unwrap();
}

#[test]
fn totals_of_crafted_flows_are_what_was_sent() {
    let test = "e2e_traffic::totals_of_crafted_flows_are_what_was_sent";
    let Some((lab, daemon)) = lab_and_daemon(test, POLICY) else { return };
    let _echo = UdpEcho::start(&lab.server, &format!("{}:53", Lab::SERVER4)).unwrap();
    let raw = RawSocket::open(&lab.client, "c0").unwrap();
    let (from, to) = (lab.client.mac("c0").unwrap(), lab.gate.mac("wan0").unwrap());
    let mut sent = Vec::new();
    for flow in 0..40u16 {
        let count = 1 + u64::from(flow % 7);
        let mut bytes = 0;
        for i in 0..count {
            let packet = Packet::new()
                .macs(from, to)
                .ipv4(Lab::CLIENT4, Lab::SERVER4)
                .udp(30_000 + flow, 53)
                .fill(usize::from(flow) * 20 + i as usize);
            bytes += packet.ip_packet().len() as u64;
            raw.send(&packet.build());
        }
        sent.push((30_000 + flow, count, bytes));
    }
    let matches = || {
        let rows = daemon.flows("proto=udp and dport=53");
        let seen = |port: u16| rows.iter().find(|row| row["sport"] == port).cloned();
        sent.iter().find_map(|(port, packets, bytes)| match seen(*port) {
            Some(row)
                if row["packets"] == *packets
                    && row["bytes"] == *bytes
                    && row["reply_packets"] == *packets
                    && row["reply_bytes"] == *bytes =>
            {
                None
            }
            other => Some(format!(
                "port {port}: {packets} packets and {bytes} bytes each way; seen {other:?}"
            )),
        })
    };
    let mut wrong = None;
    let done = wait_for("every flow's totals", SOON, || {
        wrong = matches();
        wrong.is_none().then_some(())
    });
    assert!(done.is_ok(), "{wrong:?}");
}

#[test]
fn totals_of_tcp_are_the_segments_the_kernel_sent() {
    let test = "e2e_traffic::totals_of_tcp_are_the_segments_the_kernel_sent";
    let Some((lab, daemon)) = lab_and_daemon(test, POLICY) else { return };
    let _echo = TcpEcho::start(&lab.server, &format!("{}:80", Lab::SERVER4)).unwrap();
    // A namespace of its own has counters of its own: whatever TCP sent there, it sent here. Large
    // writes leave as aggregated buffers, which have to be counted as the segments they stand for.
    let mut stream = lab.client.connect(&format!("{}:80", Lab::SERVER4), SOON).unwrap();
    let mut back = vec![0; 300_000];
    std::thread::scope(|scope| {
        let mut writer = stream.try_clone().unwrap();
        scope.spawn(move || writer.write_all(&[1; 300_000]).unwrap());
        stream.read_exact(&mut back).unwrap();
    });
    // The connection stays open: the row of a live flow is what is looked at.
    let sent = |ns: &NetNs| ns.snmp("Tcp", "OutSegs") + ns.snmp("Tcp", "RetransSegs");
    let mut seen = Vec::new();
    let settled = wait_for("the flow's totals", SOON, || {
        seen = daemon.flows("proto=tcp and dport=80");
        let row = seen.first()?;
        (row["packets"] == sent(&lab.client) && row["reply_packets"] == sent(&lab.server))
            .then_some(())
    });
    let (there, back) = (sent(&lab.client), sent(&lab.server));
    assert!(settled.is_ok(), "the kernels sent {there} and {back} segments; flows: {seen:?}");
}

#[test]
fn events_add_up() {
    let test = "e2e_traffic::events_add_up";
    let Some((lab, daemon)) = lab_and_daemon(test, POLICY) else { return };
    let raw = RawSocket::open(&lab.client, "c0").unwrap();
    let (from, to) = (lab.client.mac("c0").unwrap(), lab.gate.mac("wan0").unwrap());
    const FLOWS: u64 = 3000;
    for i in 0..FLOWS as u16 {
        let head = Packet::new().macs(from, to).ipv4(Lab::CLIENT4, Lab::SERVER4);
        raw.send(&head.clone().udp(10_000 + i, 53).build());
        raw.send(&head.udp(10_000 + i, 99).build());
    }
    let mut seen = serde_json::Value::Null;
    let settled = wait_for("the account of events", Duration::from_secs(10), || {
        seen = daemon.json(&["stats"]);
        let class = |name: &str| {
            seen["events"].as_array()?.iter().find(|row| row["class"] == name).cloned()
        };
        let n = |row: &serde_json::Value, field: &str| row[field].as_u64().unwrap_or(0);
        let (new, verdict) = (class("new")?, class("verdict")?);
        let adds_up =
            |row: &serde_json::Value| n(row, "produced") == n(row, "delivered") + n(row, "lost");
        // Of both only so many are told a second.
        let all = n(&new, "produced") + n(&new, "suppressed") == FLOWS
            && n(&verdict, "produced") + n(&verdict, "suppressed") == FLOWS;
        (all && adds_up(&new) && adds_up(&verdict)).then_some(())
    });
    assert!(settled.is_ok(), "{FLOWS} flows and as many refusals: {}", seen["events"]);
}

#[test]
fn killed_flows_are_gone_and_begin_anew() {
    let test = "e2e_traffic::killed_flows_are_gone_and_begin_anew";
    let Some((lab, daemon)) = lab_and_daemon(test, POLICY) else { return };
    let raw = RawSocket::open(&lab.client, "c0").unwrap();
    let (from, to) = (lab.client.mac("c0").unwrap(), lab.gate.mac("wan0").unwrap());
    let send = |port: u16| {
        let head = Packet::new().macs(from, to).ipv4(Lab::CLIENT4, Lab::SERVER4);
        raw.send(&head.udp(port, 53).build());
    };
    (2001..=2005).for_each(send);
    let live =
        |filter: &str| daemon.flows(filter).iter().filter(|row| row["ended"].is_null()).count();
    wait_for("five flows", SOON, || (live("dport=53") == 5).then_some(())).unwrap();

    let all = daemon.cli(&["flow", "kill", " "]);
    assert!(all.code != 0 && all.stderr.contains("every flow"), "{all:?}");
    let looked = daemon.json(&["flow", "kill", "--dry-run", "sport<=2003"]);
    assert_eq!((&looked["total"], live("dport=53")), (&serde_json::json!(3), 5));
    let killed = daemon.json(&["flow", "kill", "sport<=2003"]);
    assert_eq!((&killed["total"], &killed["dry_run"]), (&serde_json::json!(3), &false.into()));
    assert_eq!(killed["rows"][0]["ended"], "killed");
    assert_eq!((live("sport<=2003"), live("sport>2003")), (0, 2));
    let told = daemon.rows(&["events", "reason=killed"]);
    assert_eq!(told.len(), 3, "{told:?}");
    let words = daemon.cli(&["flow", "kill", "sport=2004"]);
    assert!(words.stdout.contains("1 flow killed"), "{words:?}");

    let before = killed["rows"].as_array().unwrap().iter().map(|row| row["id"].clone());
    let before: Vec<_> = before.collect();
    send(2001);
    let anew = wait_for("the flow anew", SOON, || {
        daemon.flows("sport=2001").into_iter().find(|row| row["ended"].is_null())
    });
    assert!(!before.contains(&anew.unwrap()["id"]), "a flow of its own");
}
