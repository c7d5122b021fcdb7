//! What is counted is what was sent, to the byte: by flow, by inside host, by rule, in the API, over the
//! WebSocket; also when the daemon is killed meanwhile.

use super::{SOON, curl};
use bytemuck::pod_read_unaligned;
use firewall_common::abi::control::Control;
use firewall_common::abi::nat::{NAT_HOSTS, NatTotals};
use firewall_common::flow::hash::source4;
use serde_json::{Value, json};
use sluice_tests::bpf::Map;
use sluice_tests::lab::{
    Checksums, Daemon, DaemonOptions, HttpServer, NatLab, NetNs, RawSocket, Transfer, UdpEcho,
    WsClient, python_with_websockets, run, udp_exchange, wait_for,
};
use sluice_tests::packet::Packet;
use sluice_tests::skip::skip;
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::Add;
use std::time::Duration;

/// Short time-outs, so that flows end and are folded while the test runs.
const POLICY: &str = "
interface wan = wan0
interface lan = lan0
option timeout tcp-closed 1s
option timeout icmp 1s
default in drop
default out allow
nat web destination on wan tcp to 203.0.113.1 port 8080 => 10.9.0.2 port 80
nat out masquerade on wan from 10.9.0.0/24
rule inside allow in on lan
rule web-in allow in on wan tcp to 10.9.0.2 port 80
";
const TOOLS: [&str; 4] = ["curl", "ping", "ethtool", "ip"];
/// Crafted flows, each of its own size.
const CRAFTED: u16 = 20;
/// Until ended flows are folded: their time-outs, two sweeps, a scan.
const FOLDED: Duration = Duration::from_secs(20);

/// Packets and bytes, both directions together: a host answers some flows and begins others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Both {
    packets: u64,
    bytes: u64,
}

impl Add for Both {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }
}

impl Both {
    fn of_row(row: &Value) -> Self {
        let n = |field: &str| {
            row[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {row}"))
        };
        Self { packets: n("packets") + n("reply_packets"), bytes: n("bytes") + n("reply_bytes") }
    }

    fn folded(totals: &NatTotals) -> Self {
        Self {
            packets: totals.packets + totals.reply_packets,
            bytes: totals.bytes + totals.reply_bytes,
        }
    }

    fn sum(of: impl IntoIterator<Item = Self>) -> Self {
        of.into_iter().fold(Self::default(), Self::add)
    }
}

/// Two hosts and what their links carried since the lab was built: nothing but IPv4.
struct Generator<'a> {
    hosts: [(&'static str, &'a NetNs, &'static str); 2],
    before: [Both; 2],
}

impl<'a> Generator<'a> {
    fn new(lab: &'a NatLab) -> Self {
        let hosts = [(NatLab::A, &lab.a, "a0"), (NatLab::B, &lab.b, "b0")];
        let before = hosts.map(|(_, ns, link)| carried(ns, link));
        Self { hosts, before }
    }

    /// By host.
    fn sent(&self) -> Vec<(&'static str, Both)> {
        let since = |((address, ns, link), before): (&(&'static str, &NetNs, &str), &Both)| {
            let now = carried(ns, link);
            let bytes = now.bytes - before.bytes;
            (*address, Both { packets: now.packets - before.packets, bytes })
        };
        self.hosts.iter().zip(&self.before).map(since).collect()
    }
}

/// Both directions of a link's counters, without the Ethernet headers.
fn carried(ns: &NetNs, link: &str) -> Both {
    let text = ns.exec("ip", &["-j", "-s", "link", "show", "dev", link]).unwrap();
    let value: Value = serde_json::from_str(&text).expect("JSON of `ip`");
    let sum = |what: &str| {
        ["rx", "tx"].iter().map(|way| value[0]["stats64"][way][what].as_u64().unwrap()).sum::<u64>()
    };
    let packets = sum("packets");
    Both { packets, bytes: sum("bytes") - 14 * packets }
}

/// The kernel's accounts of ended flows.
struct Folded {
    hosts: Map,
    rules: Map,
    seed: u64,
}

impl Folded {
    fn open(daemon: &Daemon) -> Self {
        let map = |name: &str| Map::pinned(&daemon.pin_dir.join(name)).expect("a pinned map");
        let control = map("CONTROL").lookup(&0u32.to_ne_bytes(), size_of::<Control>()).unwrap();
        let seed = pod_read_unaligned::<Control>(&control).seed;
        Self { hosts: map("NAT_HOSTS"), rules: map("NAT_RULES"), seed }
    }

    fn row(map: &Map, index: u32) -> NatTotals {
        let bytes = map.lookup(&index.to_ne_bytes(), size_of::<NatTotals>()).unwrap();
        pod_read_unaligned(&bytes)
    }

    fn host(&self, address: &str) -> NatTotals {
        let address: Ipv4Addr = address.parse().expect("an address");
        let owner = u64::from(u32::from(address)) | 1 << 32;
        let first = source4(address.octets(), self.seed);
        (0..8)
            .map(|turn| Self::row(&self.hosts, ((first + turn) & (NAT_HOSTS - 1)) as u32))
            .find(|row| row.owner == owner)
            .unwrap_or_default()
    }

    fn rules(&self) -> NatTotals {
        let entries = self.rules.info("max_entries").unwrap() as u32;
        (0..entries).map(|slot| Self::row(&self.rules, slot)).fold(
            NatTotals::default(),
            |sum, row| NatTotals {
                mappings: sum.mappings + row.mappings,
                ended: sum.ended + row.ended,
                packets: sum.packets + row.packets,
                bytes: sum.bytes + row.bytes,
                reply_packets: sum.reply_packets + row.reply_packets,
                reply_bytes: sum.reply_bytes + row.reply_bytes,
                ..sum
            },
        )
    }
}

/// Live translated flows.
fn live(daemon: &Daemon) -> Vec<Value> {
    daemon.flows("nat=true").into_iter().filter(|row| row["ended"].is_null()).collect()
}

/// Whether a flow is one of this host's: it began it, or it is what it was translated to.
fn is_of(row: &Value, host: &str) -> bool {
    row["src"] == host || row["nat"]["dst"] == host
}

/// A lab whose generator can be counted: senders make each packet themselves.
fn counted(test: &str) -> Option<(NatLab, Daemon)> {
    let lab = NatLab::or_skip(test, &TOOLS)?;
    lab.checksums(Checksums::Whole);
    // Less on its way than the queues between the namespaces hold: what is lost there was sent, and never
    // came to the gate.
    for ns in [&lab.a, &lab.b, &lab.server] {
        ns.sysctl("ipv4/tcp_rmem", "4096 131072 131072").unwrap();
        ns.sysctl("ipv4/tcp_wmem", "4096 131072 131072").unwrap();
    }
    let daemon = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(POLICY))?;
    Some((lab, daemon))
}

/// Short connections, datagrams and pings, from inside and from outside.
struct Small {
    _outside: HttpServer,
    _inside: HttpServer,
    _echo: UdpEcho,
}

impl Small {
    fn start(lab: &NatLab) -> Self {
        let outside = HttpServer::start(&lab.server, "198.51.100.2:80").unwrap();
        let inside = HttpServer::start(&lab.a, "10.9.0.2:80").unwrap();
        for server in [&outside, &inside] {
            server.put("/page", super::noise(100_000));
        }
        let echo = UdpEcho::start(&lab.server, "198.51.100.2:7000").unwrap();
        Self { _outside: outside, _inside: inside, _echo: echo }
    }

    fn traffic(lab: &NatLab, round: u16) {
        for (ns, url) in [
            (&lab.a, "http://198.51.100.2/page"),
            (&lab.b, "http://198.51.100.2/page"),
            (&lab.server, "http://203.0.113.1:8080/page"),
        ] {
            curl(ns, &format!("-o /dev/null {url}")).good();
        }
        for (i, ns) in [&lab.a, &lab.b].into_iter().enumerate() {
            let sport = 20_000 + 10 * round + i as u16;
            for size in [1, 500, 4000] {
                udp_exchange(ns, sport, "198.51.100.2:7000", &vec![3; size], SOON).unwrap();
            }
            run(ns, "ping -n -q -c 2 -i 0.1 -W 2 198.51.100.2", SOON).good();
        }
    }
}

/// Waits until the kernel's accounts, hosts and rules alike, are what was sent.
fn settle(lab: &NatLab, daemon: &Daemon, generator: &Generator<'_>) {
    let folded = Folded::open(daemon);
    let mut seen = String::new();
    let settled = wait_for("accounts that are what was sent", FOLDED, || {
        let rows = live(daemon);
        let hosts: Vec<_> = generator
            .hosts
            .iter()
            .map(|(host, ..)| {
                let of = rows.iter().filter(|row| is_of(row, host)).map(Both::of_row);
                (*host, Both::folded(&folded.host(host)) + Both::sum(of))
            })
            .collect();
        let rules = folded.rules();
        let by_rule = Both::folded(&rules) + Both::sum(rows.iter().map(Both::of_row));
        let sent = generator.sent();
        let all = Both::sum(sent.iter().map(|(_, both)| *both));
        seen = format!("sent {sent:?}\nhosts {hosts:?}\nrules {by_rule:?} of {all:?}");
        let adds_up = hosts == sent && by_rule == all;
        // Flows that ended are in it, and flows that live.
        (adds_up && rules.ended > 0 && !rows.is_empty()).then_some(())
    });
    if settled.is_err() {
        let lost: Vec<_> = [&lab.a, &lab.b, &lab.server, &lab.gate]
            .map(|ns| (ns.label, ns.snmp("Tcp", "RetransSegs")))
            .into();
        panic!("{seen}\nsent again {lost:?}\nstats {}", daemon.json(&["stats"]));
    }
}

#[test]
fn flows_hosts_and_rules_are_what_was_sent() {
    let test = "e2e_nat::totals::flows_hosts_and_rules_are_what_was_sent";
    let Some((lab, daemon)) = counted(test) else { return };
    let generator = Generator::new(&lab);
    let _small = Small::start(&lab);
    crafted(&lab, &daemon);
    Small::traffic(&lab, 0);
    let transfers = [(&lab.a, 9000), (&lab.b, 9001)]
        .map(|(ns, port)| Transfer::start(ns, &lab.server, NatLab::SERVER, port).unwrap());
    for transfer in &transfers {
        transfer.advance(3_000_000, SOON).unwrap();
    }
    Small::traffic(&lab, 1);
    let killed = daemon.json(&["flow", "kill", "proto=udp and sport=20000"]);
    assert_eq!(killed["total"], 1, "{killed}");
    for transfer in transfers {
        transfer.finish().unwrap();
    }
    settle(&lab, &daemon, &generator);
}

/// Flows of which every packet is known.
fn crafted(lab: &NatLab, daemon: &Daemon) {
    let raw = RawSocket::open(&lab.a, "a0").unwrap();
    let macs = (lab.a.mac("a0").unwrap(), lab.gate.mac("lan0").unwrap());
    let mut expected = Vec::new();
    // Without somebody there the host would send errors, which belong to no flow's totals.
    let _ears: Vec<_> = (0..CRAFTED)
        .map(|i| lab.a.run(|| UdpSocket::bind(("10.9.0.2", 30_000 + i))).unwrap())
        .collect();
    for flow in 0..CRAFTED {
        let (mut packets, mut bytes) = (0, 0);
        for i in 0..1 + flow % 5 {
            let head = Packet::new().macs(macs.0, macs.1).ipv4(NatLab::A, NatLab::SERVER);
            let packet = head.udp(30_000 + flow, 7000).fill(usize::from(flow * 40 + i));
            packets += 1;
            bytes += packet.ip_packet().len() as u64;
            raw.send(&packet.build());
        }
        // The server sends each back.
        expected.push((u64::from(30_000 + flow), [packets, bytes, packets, bytes]));
    }
    let mut seen = Vec::new();
    let same = wait_for("each flow's totals", SOON, || {
        seen = daemon
            .flows("nat=true and sport=30000-30999")
            .iter()
            .map(|row| {
                let n = |field: &str| row[field].as_u64().unwrap_or(u64::MAX);
                let totals = ["packets", "bytes", "reply_packets", "reply_bytes"].map(n);
                (n("sport"), totals)
            })
            .collect();
        seen.sort_unstable();
        (seen == expected).then_some(())
    });
    assert!(same.is_ok(), "sent {expected:?}\nseen {seen:?}");
}

#[test]
fn nothing_is_lost_when_the_daemon_is_killed() {
    let test = "e2e_nat::totals::nothing_is_lost_when_the_daemon_is_killed";
    let Some((lab, mut daemon)) = counted(test) else { return };
    let generator = Generator::new(&lab);
    let _small = Small::start(&lab);
    let transfers = [(&lab.a, 9000), (&lab.b, 9001)]
        .map(|(ns, port)| Transfer::start(ns, &lab.server, NatLab::SERVER, port).unwrap());
    for round in 0..3 {
        // With the daemon, without it, and while the next one takes over.
        Small::traffic(&lab, 2 * round);
        daemon.kill9();
        Small::traffic(&lab, 2 * round + 1);
        for transfer in &transfers {
            transfer.advance(1_000_000, SOON).unwrap();
        }
        daemon.start();
        assert_eq!(daemon.json(&["status"])["adopted"], true);
    }
    for transfer in transfers {
        transfer.finish().unwrap();
    }
    settle(&lab, &daemon, &generator);
}

/// A page of the API, as `curl` gets it at the gate.
fn api(lab: &NatLab, daemon: &Daemon, path: &str) -> Value {
    let auth = daemon.dir.join("auth");
    std::fs::write(&auth, format!("header = \"Authorization: Bearer {}\"\n", daemon.token()))
        .unwrap();
    let url = format!("http://127.0.0.1:{}/api/v1/{path}", Daemon::PORT);
    let got = curl(&lab.gate, &format!("-K {} {url}", auth.display())).good();
    serde_json::from_str(&got).expect("JSON")
}

/// By name, the rows of one of the lists about translation.
fn rows_by(rows: &[Value], name: &str) -> Vec<(String, Both)> {
    let mut rows: Vec<_> = rows
        .iter()
        .map(|row| (row[name].as_str().unwrap_or_default().to_owned(), Both::of_row(row)))
        .filter(|(_, both)| *both != Both::default())
        .collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}

#[test]
fn every_client_is_told_the_same_totals() {
    let test = "e2e_nat::totals::every_client_is_told_the_same_totals";
    let Some((lab, mut daemon)) = counted(test) else { return };
    let Some(python) = python_with_websockets() else {
        return skip(test, "no python3 with `websockets` (apt-get install python3-websockets)");
    };
    let generator = Generator::new(&lab);
    let _small = Small::start(&lab);
    Small::traffic(&lab, 0);
    daemon.kill9();
    Small::traffic(&lab, 1);
    daemon.start();
    crafted(&lab, &daemon);
    settle(&lab, &daemon, &generator);
    let sent: Vec<_> =
        generator.sent().into_iter().map(|(host, both)| (host.to_owned(), both)).collect();
    let all = Both::sum(sent.iter().map(|(_, both)| *both));

    let list = |value: &Value| value["rows"].as_array().cloned().unwrap_or_default();
    let mut client = WsClient::start(&lab.gate, python, &daemon.token());
    client.wait("hello", |message| message["type"] == "hello");
    let mut ask = |verb: &str| {
        client
            .send(&json!({ "type": "command", "id": verb, "verb": verb, "args": {} }).to_string());
        let result = client.wait("a result", |message| message["id"] == verb);
        assert_eq!(result["ok"], true, "{result}");
        list(&result["data"])
    };
    // Their figures are as old as the last scan.
    let mut seen = String::new();
    let same = wait_for("the same totals everywhere", SOON, || {
        let by_api = |what: &str| list(&api(&lab, &daemon, &format!("nat/{what}")));
        let hosts = [
            ("API", by_api("hosts")),
            ("CLI", daemon.rows(&["nat", "hosts"])),
            ("WebSocket", ask("nat.hosts")),
        ]
        .map(|(who, rows)| (who, rows_by(&rows, "host")));
        let rules = [
            ("API", by_api("rules")),
            ("CLI", daemon.rows(&["nat", "rules"])),
            ("WebSocket", ask("nat.rules")),
        ]
        .map(|(who, rows)| (who, rows_by(&rows, "name")));
        seen = format!("sent {sent:?}\n{hosts:?}\n{rules:?}");
        let hosts = hosts.iter().all(|(_, rows)| *rows == sent);
        let rules = rules.iter().all(|(_, rows)| {
            rows.len() == 2 && Both::sum(rows.iter().map(|(_, both)| *both)) == all
        });
        (hosts && rules).then_some(())
    });
    assert!(same.is_ok(), "{seen}");
    // The mappings are the translated flows that live, with the same totals. One may end between the two questions.
    let of = |rows: &[Value]| (rows.len(), Both::sum(rows.iter().map(Both::of_row)));
    let mut seen = String::new();
    let same = wait_for("the mappings to be the live flows", SOON, || {
        let mappings = list(&api(&lab, &daemon, "nat/mappings?limit=1000"));
        let flows = live(&daemon);
        seen = format!("{:?} and {:?}: {mappings:?}", of(&mappings), of(&flows));
        (of(&mappings) == of(&flows)).then_some(())
    });
    assert!(same.is_ok(), "{seen}");
}
