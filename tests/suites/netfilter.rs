//! The kernel's own connection tracking: what we read of it is what `conntrack` prints, with
//! netfilter translating real traffic at the gate.

use firewall_user::filter::{self, Filter};
use firewall_user::netfilter::{BindingEvent, Ended, Follow, Netfilter, Shown, Told};
use firewall_user::view::NetfilterFlowView;
use sluice_tests::lab::{
    Daemon, DaemonOptions, Lab, NetNs, TcpEcho, UdpEcho, sluice_bin, udp_exchange, wait_for,
};
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);
/// Where the gate stands towards the server: what masquerading shows.
const PUBLIC4: &str = "10.77.2.1";
const PUBLIC6: &str = "fd77:2::1";

/// Masquerades what leaves towards the server, and sends the gate's own port 8080 there.
const RULESET: &str = "
    add table inet t;
    add chain inet t post { type nat hook postrouting priority srcnat; };
    add rule inet t post oifname lan0 masquerade;
    add chain inet t pre { type nat hook prerouting priority dstnat; };
    add rule inet t pre iifname wan0 ip daddr 10.77.1.1 tcp dport 8080 dnat ip to 10.77.2.2:80";

/// A lab whose gate translates, with packets, bytes and time counted.
fn translating(test: &str) -> Option<Lab> {
    let lab = Lab::or_skip(test)?;
    lab.gate.exec("nft", &[RULESET]).unwrap();
    count(&lab.gate);
    Some(lab)
}

fn count(gate: &NetNs) {
    for setting in ["acct", "timestamp"] {
        gate.sysctl(&format!("netfilter/nf_conntrack_{setting}"), "1").unwrap();
    }
}

/// Follows a namespace's netfilter, and keeps what is told of translations.
struct Follower {
    netfilter: Netfilter,
    told: Arc<Mutex<Vec<BindingEvent>>>,
    runtime: tokio::runtime::Runtime,
}

impl Follower {
    fn start(ns: &NetNs) -> Self {
        let told: Arc<Mutex<Vec<BindingEvent>>> = Arc::default();
        let theirs = told.clone();
        let sink = move |event| {
            if let Told::Binding(event) = event {
                theirs.lock().unwrap().push(event);
            }
        };
        Self::with(ns, told, Box::new(sink))
    }

    fn with(
        ns: &NetNs,
        told: Arc<Mutex<Vec<BindingEvent>>>,
        sink: firewall_user::netfilter::BindingSink,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let netfilter = ns.run(|| Netfilter::start(Follow::Auto, sink)).unwrap().expect("wanted");
        let follower = Self { netfilter, told, runtime };
        wait_for("the first dump", SOON, || follower.netfilter.stats().following.then_some(()))
            .unwrap_or_else(|late| panic!("{late}: {:?}", follower.netfilter.limits()));
        follower
    }

    fn rows(&self, text: &str) -> Vec<NetfilterFlowView> {
        self.runtime.block_on(self.netfilter.refresh());
        let filter: Filter = filter::parse_for::<Shown>(text).expect("a filter");
        self.netfilter.flows(Some(&filter), 100_000).1
    }

    /// The one row that matches.
    fn row(&self, text: &str) -> NetfilterFlowView {
        let rows = self.rows(text);
        assert_eq!(rows.len(), 1, "{text}: {rows:#?}");
        rows.into_iter().next().expect("one")
    }

    /// Ends of translations from this source port: how, packets and bytes there and back.
    fn ends(&self, sport: u16) -> Vec<(Ended, [u64; 4])> {
        let told = self.told.lock().unwrap();
        told.iter()
            .filter_map(|event| match event {
                BindingEvent::Ended { binding, totals, how, .. }
                    if binding.key.orig.sport == sport =>
                {
                    let (there, back) = totals.map(|t| (t.orig, t.reply)).unwrap_or_default();
                    Some((*how, [there.packets, there.bytes, back.packets, back.bytes]))
                }
                _ => None,
            })
            .collect()
    }

    fn end(&self, sport: u16) -> (Ended, [u64; 4]) {
        wait_for("the end being told", SOON, || self.ends(sport).first().copied())
            .unwrap_or_else(|late| panic!("{late}: {:#?}", self.told.lock().unwrap()))
    }
}

/// What `conntrack` prints, by id: each line's values by name, those of the original direction first.
fn conntrack(gate: &NetNs, family: &str) -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let args = ["-L", "-f", family, "-o", "extended,id"];
    let text = gate.exec("conntrack", &args).unwrap();
    let line = |line: &str| {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for word in line.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or(("word", word));
            values.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        (values["id"].last().cloned().expect("asked for"), values)
    };
    text.lines().map(line).collect()
}

fn number<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| value.to_string())
}

/// Whether a row says what `conntrack` does.
#[track_caller]
fn same(row: &NetfilterFlowView, listed: &BTreeMap<String, BTreeMap<String, Vec<String>>>) {
    let line = listed.get(&row.id).unwrap_or_else(|| panic!("{} isn't in {listed:#?}", row.id));
    let both = |name: &str| line.get(name).cloned().unwrap_or_default();
    let nat = row.nat.clone().unwrap_or_else(|| panic!("no translation: {row:#?}"));
    let (sport, dport) = (row.sport.to_string(), row.dport.to_string());
    assert_eq!(both("src"), [row.src.clone(), nat.dst], "{line:?}");
    assert_eq!(both("dst"), [row.dst.clone(), nat.src], "{line:?}");
    if row.proto.starts_with("icmp") {
        // ICMP's identifier goes by the same name as the entry's.
        assert_eq!(both("id")[..2], [sport, nat.sport.to_string()], "{line:?}");
    } else {
        assert_eq!(both("sport"), [sport, nat.dport.to_string()], "{line:?}");
        assert_eq!(both("dport"), [dport, nat.sport.to_string()], "{line:?}");
    }
    assert_eq!(both("packets"), [number(row.packets), number(row.reply_packets)], "{line:?}");
    assert_eq!(both("bytes"), [number(row.bytes), number(row.reply_bytes)], "{line:?}");
    let words = both("word");
    assert_eq!(words.contains(&"[ASSURED]".to_owned()), row.status.contains(&"assured".into()));
    if row.proto == "tcp" {
        let state = row.state.to_uppercase().replace('-', "_");
        assert!(words.contains(&state), "{state} isn't in {line:?}");
    }
    // Family, its number, protocol, its number, seconds left.
    let left: u64 = words[4].parse().expect("seconds");
    let ours = row.timeout_ms.expect("a live entry has a time-out") / 1000;
    assert!(left.abs_diff(ours) <= 2, "{ours} s and {line:?}");
    assert_eq!(both("mark"), [row.mark.to_string()], "{line:?}");
}

#[test]
fn translated_flows_are_what_conntrack_lists() {
    let test = "netfilter::translated_flows_are_what_conntrack_lists";
    let Some(lab) = translating(test) else { return };
    let follower = Follower::start(&lab.gate);
    let _tcp = TcpEcho::start(&lab.server, "10.77.2.2:80").unwrap();
    let _tcp6 = TcpEcho::start(&lab.server, "[fd77:2::2]:80").unwrap();
    let _udp = UdpEcho::start(&lab.server, "10.77.2.2:53").unwrap();
    // Open while they are looked at: their state and time-out stand still.
    let open = lab.client.connect("10.77.2.2:80", SOON).unwrap();
    let forwarded = lab.client.connect("10.77.1.1:8080", SOON).unwrap();
    lab.client.tcp_exchange("[fd77:2::2]:80", &[7; 30_000], SOON).unwrap();
    udp_exchange(&lab.client, 6000, "10.77.2.2:53", &[1; 100], SOON).unwrap();
    assert!(lab.client.ping(Lab::SERVER4, 3));

    let rows = follower.rows("nat=yes");
    let (listed4, listed6) = (conntrack(&lab.gate, "ipv4"), conntrack(&lab.gate, "ipv6"));
    assert_eq!(rows.len(), 5, "{rows:#?}");
    for row in &rows {
        let listed = if row.family == 4 { &listed4 } else { &listed6 };
        same(row, listed);
        assert!(row.first.is_some() && row.age_ms.is_some_and(|age| age < 60_000), "{row:?}");
    }
    // Exact where that is known from what was sent: IP and UDP headers and the payload.
    let udp = follower.row("proto=udp and sport=6000");
    assert_eq!((udp.packets, udp.bytes), (Some(1), Some(128)));
    assert_eq!((udp.reply_packets, udp.reply_bytes), (Some(1), Some(128)));
    let nat = udp.nat.expect("masqueraded");
    assert_eq!((nat.src.as_str(), nat.dst.as_str(), nat.dport), (PUBLIC4, Lab::SERVER4, 53));
    let icmp = follower.row("proto=icmp");
    assert_eq!((icmp.packets, icmp.bytes, icmp.reply_packets), (Some(3), Some(3 * 84), Some(3)));
    assert_eq!(icmp.nat.expect("masqueraded").src, PUBLIC4);
    let tcp6 = follower.row("proto=tcp and family=6");
    assert_eq!(tcp6.nat.expect("masqueraded").src, PUBLIC6);
    assert!(tcp6.bytes.is_some_and(|bytes| bytes > 30_000), "{:?}", tcp6.bytes);
    // The handshake: SYN and ACK there, SYN-ACK back, with 20 bytes of options each, then 12.
    let sport = open.local_addr().unwrap().port();
    let tcp = follower.row(&format!("proto=tcp and sport={sport} and state=established"));
    assert_eq!((tcp.packets, tcp.reply_packets), (Some(2), Some(1)));
    assert_eq!((tcp.bytes, tcp.reply_bytes), (Some(60 + 52), Some(60)));
    // Both translations at once: asked at the gate, answered by the server, which sees the gate.
    let sport = forwarded.local_addr().unwrap().port();
    let both = follower.row(&format!("status~dst-nat and status~src-nat and sport={sport}"));
    let nat = both.nat.expect("translated");
    assert_eq!((both.dst.as_str(), both.dport), (Lab::GATE4, 8080));
    assert_eq!((nat.src.as_str(), nat.dst.as_str(), nat.dport), (PUBLIC4, Lab::SERVER4, 80));
    assert_eq!(follower.rows("nat_src=10.77.2.1 and nat_dport=53").len(), 1);
    let stats = follower.netfilter.stats();
    assert_eq!((stats.flows, stats.nat_flows, stats.malformed, stats.overruns), (5, 5, 0, 0));
    assert!(stats.began >= 5 && stats.updated >= 5, "{stats:?}");
    assert_eq!(follower.netfilter.limits(), Vec::<String>::new());
}

#[test]
fn ends_are_told_with_their_totals_and_booked() {
    let test = "netfilter::ends_are_told_with_their_totals_and_booked";
    let Some(lab) = translating(test) else { return };
    let follower = Follower::start(&lab.gate);
    let _tcp = TcpEcho::start(&lab.server, "10.77.2.2:80").unwrap();
    let _udp = UdpEcho::start(&lab.server, "10.77.2.2:53").unwrap();
    // One is deleted, one times out.
    lab.client.tcp_exchange("10.77.2.2:80", &[7; 50_000], SOON).unwrap();
    let mut last = None;
    wait_for("the connection being closed", SOON, || {
        let rows = follower.rows("proto=tcp and state in (time-wait, close-wait, last-ack, close)");
        // Until nothing more moves: a segment may still be on its way.
        let quiet = rows.first().filter(|row| last.as_ref() == Some(&row.packets)).cloned();
        last = rows.first().map(|row| row.packets);
        quiet
    })
    .unwrap();
    let tcp = follower.row("proto=tcp");
    let figures = |row: &NetfilterFlowView| {
        [row.packets, row.bytes, row.reply_packets, row.reply_bytes].map(|n| n.expect("counted"))
    };
    lab.gate.exec("conntrack", &["-D", "-p", "tcp"]).unwrap();
    assert_eq!(follower.end(tcp.sport), (Ended::Told, figures(&tcp)));

    lab.gate.sysctl("netfilter/nf_conntrack_udp_timeout", "1").unwrap();
    udp_exchange(&lab.client, 6000, "10.77.2.2:53", &[1; 100], SOON).unwrap();
    wait_for("the time-out", SOON, || follower.rows("proto=udp").is_empty().then_some(())).unwrap();
    assert_eq!(follower.end(6000), (Ended::Told, [1, 128, 1, 128]));

    let accounts = follower.netfilter.accounts();
    let of = |side: &str, address: &str| {
        let found = accounts.iter().find(|row| {
            (row.translation.as_str(), row.side.as_str(), row.address.as_deref())
                == ("snat", side, Some(address))
        });
        let row = found.unwrap_or_else(|| panic!("no {side} {address} in {accounts:#?}"));
        assert_eq!((row.flows, row.uncounted, row.at_least), (2, 0, 0));
        assert_eq!(row.tracked_by, "netfilter");
        [row.packets, row.bytes, row.reply_packets, row.reply_bytes]
    };
    let sum: Vec<u64> =
        figures(&tcp).iter().zip([1, 128, 1, 128]).map(|(tcp, udp)| tcp + udp).collect();
    assert_eq!(of("host", Lab::CLIENT4).to_vec(), sum);
    assert_eq!(of("public", PUBLIC4).to_vec(), sum);
    assert_eq!(follower.rows(""), []);
}

/// Netfilter sends no events for entries that are older than its first listener.
#[test]
fn what_was_there_before_is_found_and_found_gone() {
    let test = "netfilter::what_was_there_before_is_found_and_found_gone";
    let Some(lab) = translating(test) else { return };
    let _udp = UdpEcho::start(&lab.server, "10.77.2.2:53").unwrap();
    // As if nobody listened: an entry gets what events need when it is made, or never.
    lab.gate.sysctl("netfilter/nf_conntrack_events", "0").unwrap();
    udp_exchange(&lab.client, 6000, "10.77.2.2:53", &[1; 100], SOON).unwrap();
    lab.gate.sysctl("netfilter/nf_conntrack_events", "2").unwrap();
    let follower = Follower::start(&lab.gate);
    let row = follower.row("proto=udp");
    assert_eq!((row.packets, row.sport), (Some(1), 6000));
    let found = |event: &BindingEvent| matches!(event, BindingEvent::Began { found: true, .. });
    assert!(follower.told.lock().unwrap().iter().any(found));
    // And one that began since.
    udp_exchange(&lab.client, 6001, "10.77.2.2:53", &[1; 100], SOON).unwrap();
    assert_eq!(follower.rows("proto=udp").len(), 2);
    lab.gate.exec("conntrack", &["-D", "-p", "udp"]).unwrap();
    assert_eq!(follower.rows("proto=udp"), []);
    assert_eq!(follower.end(6000), (Ended::Gone, [1, 128, 1, 128]));
    assert_eq!(follower.end(6001), (Ended::Told, [1, 128, 1, 128]));
    let stats = follower.netfilter.stats();
    assert_eq!((stats.gone, stats.ended, stats.nat_flows), (1, 1, 0));
    let accounts = follower.netfilter.accounts();
    assert!(accounts.iter().all(|row| (row.flows, row.at_least) == (2, 1)), "{accounts:#?}");
}

#[test]
fn an_overrun_is_counted_and_the_table_is_right_again() {
    let test = "netfilter::an_overrun_is_counted_and_the_table_is_right_again";
    let Some(lab) = translating(test) else { return };
    // Nobody reads while this is held: translations are told on the thread that reads.
    let gate_closed = Arc::new(Mutex::new(()));
    let theirs = gate_closed.clone();
    let sink = Box::new(move |_| drop(theirs.lock().unwrap()));
    let follower = Follower::with(&lab.gate, Arc::default(), sink);
    let held = gate_closed.lock().unwrap();
    let socket = lab.client.run(|| UdpSocket::bind("10.77.1.2:7000")).unwrap();
    // One entry a port; no answer but some refusals, which a connected socket alone would hear of.
    let entries = || -> u64 {
        lab.gate.exec("conntrack", &["-C"]).unwrap().trim().parse().expect("a number")
    };
    for port in 1_000..61_000u16 {
        while socket.send_to(b"x", (Lab::SERVER4, port)).is_err() {}
    }
    assert!(entries() > 50_000, "{}", entries());
    drop(held);
    wait_for("the table being read again", Duration::from_secs(20), || {
        let stats = follower.netfilter.stats();
        (stats.overruns > 0 && stats.flows == entries()).then_some(())
    })
    .unwrap_or_else(|late| panic!("{late}: {:?}", follower.netfilter.stats()));
    let limits = follower.netfilter.limits();
    assert!(limits.iter().any(|limit| limit.contains("came faster")), "{limits:?}");
}

#[test]
fn what_cant_be_known_is_said() {
    let test = "netfilter::what_cant_be_known_is_said";
    let Some(lab) = Lab::or_skip(test) else { return };
    let follower = Follower::start(&lab.gate);
    let limits = follower.netfilter.limits();
    assert!(limits.len() == 1 && limits[0].contains("no entries"), "{limits:?}");
    lab.gate.exec("nft", &[RULESET]).unwrap();
    let _udp = UdpEcho::start(&lab.server, "10.77.2.2:53").unwrap();
    udp_exchange(&lab.client, 6000, "10.77.2.2:53", &[1; 100], SOON).unwrap();
    let row = follower.row("proto=udp");
    assert_eq!((row.packets, row.reply_bytes, row.first, row.age_ms), (None, None, None, None));
    assert!(row.nat.is_some());
    let limits = follower.netfilter.limits().join("\n");
    for words in ["nf_conntrack_acct=0", "nf_conntrack_timestamp=0"] {
        assert!(limits.contains(words), "{words} is missing in: {limits}");
    }
    lab.gate.exec("conntrack", &["-D", "-p", "udp"]).unwrap();
    wait_for("the end", SOON, || (follower.netfilter.stats().ended == 1).then_some(())).unwrap();
    let accounts = follower.netfilter.accounts();
    assert!(
        accounts.len() == 2 && accounts.iter().all(|row| (row.uncounted, row.bytes) == (1, 0)),
        "{accounts:#?}"
    );
    // Settings are only read.
    for setting in ["acct", "timestamp"] {
        let path = format!("/proc/sys/net/netfilter/nf_conntrack_{setting}");
        assert_eq!(lab.gate.run(|| std::fs::read_to_string(path)).unwrap().trim(), "0");
    }
}

#[test]
fn the_daemon_shows_netfilters_flows_beside_its_own() {
    let test = "netfilter::the_daemon_shows_netfilters_flows_beside_its_own";
    let Some(lab) = translating(test) else { return };
    let policy = "default in allow\ndefault out allow\n";
    let Some(daemon) = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(policy)) else {
        return;
    };
    let _udp = UdpEcho::start(&lab.server, "10.77.2.2:53").unwrap();
    udp_exchange(&lab.client, 6000, "10.77.2.2:53", &[1; 100], SOON).unwrap();
    let rows = daemon.rows(&["flows", "--netfilter", "proto=udp and nat_src=10.77.2.1"]);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0]["tracked_by"], "netfilter");
    assert_eq!((&rows[0]["bytes"], &rows[0]["reply_bytes"]), (&128.into(), &128.into()));
    assert_eq!(rows[0]["nat"]["dst"], Lab::SERVER4);
    let table = daemon.cli(&["flows", "--netfilter"]);
    assert!(table.stdout.contains("from 10.77.2.1:6000"), "{table:?}");
    let mistake = daemon.cli(&["flows", "--netfilter", "rule=web"]);
    assert_eq!(mistake.code, 3, "{mistake:?}");
    let stats = daemon.json(&["stats"]);
    assert_eq!(stats["netfilter"]["following"], true, "{stats}");
    assert_eq!(stats["netfilter"]["overruns"], 0, "{stats}");
    lab.gate.sysctl("netfilter/nf_conntrack_acct", "0").unwrap();
    daemon.rows(&["flows", "--netfilter"]);
    let status = daemon.json(&["status"]);
    assert!(status["limits"].to_string().contains("nf_conntrack_acct=0"), "{status}");
}

#[test]
fn a_daemon_that_isnt_to_follow_says_so() {
    let test = "netfilter::a_daemon_that_isnt_to_follow_says_so";
    let Some(lab) = Lab::or_skip(test) else { return };
    let Some(bin) = sluice_bin() else {
        sluice_tests::skip::skip(test, "SLUICE_BIN isn't set (run `cargo xtask test`)");
        return;
    };
    let mut daemon = Daemon::prepare(&lab.gate, &bin, DaemonOptions::gate("")).unwrap();
    std::fs::write(daemon.dir.join("sluice.toml"), "[netfilter]\nenabled = false\n").unwrap();
    daemon.start();
    let answer = daemon.cli(&["flows", "--netfilter"]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.stderr.contains("enabled = false"), "{answer:?}");
    assert!(daemon.json(&["stats"])["netfilter"].is_null());
    assert!(!daemon.json(&["status"])["limits"].to_string().contains("netfilter"));
}
