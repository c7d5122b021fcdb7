//! What has been, as an operator asks for it: sockets and flows that ended, what was counted by minute, and who had
//! what done. The daemon stands at a gate and the ends are in three namespaces.

use serde_json::Value;
use sluice_tests::lab::{Daemon, DaemonOptions, Lab, TcpEcho, wait_for};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);
const POLICY: &str = "
default in drop
default out allow
nat away masquerade on lan0 from 10.77.1.0/24
rule web allow in tcp to port 80
rule echo allow tcp to port 7
rule noisy drop in udp to port 53
";

fn setup(test: &str) -> Option<(Lab, Daemon)> {
    let lab = Lab::or_skip(test)?;
    let daemon = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(POLICY))?;
    Some((lab, daemon))
}

fn address(host: &str, port: u16) -> SocketAddr {
    format!("{host}:{port}").parse().expect("an address")
}

/// Rows, once there are so many.
fn rows(daemon: &Daemon, args: &[&str], least: usize) -> Vec<Value> {
    let mut seen = Vec::new();
    let found = wait_for("rows of the history", SOON, || {
        seen = daemon.rows(args);
        (seen.len() >= least).then(|| seen.clone())
    });
    found.unwrap_or_else(|error| panic!("{error}: {args:?} gave {seen:?}\n{}", daemon.log()))
}

/// A connection to the gate's port 80 that carries so many bytes; the client's port.
fn talk(lab: &Lab, listener: &TcpListener, bytes: usize) -> u16 {
    let mut client = lab.client.run(|| TcpStream::connect(address(Lab::GATE4, 80)).unwrap());
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(&vec![1; bytes]).unwrap();
    server.read_exact(&mut vec![0; bytes]).unwrap();
    client.local_addr().unwrap().port()
}

#[test]
fn what_ended_is_there_with_owner_and_rule_and_survives_the_daemon() {
    let test = "e2e_history::what_ended_is_there_with_owner_and_rule_and_survives_the_daemon";
    let Some((lab, mut daemon)) = setup(test) else { return };
    let listener = lab.gate.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let port = talk(&lab, &listener, 100_000);
    let filter = lab.mine(&format!("local_port=80 and remote_port={port}"));
    let found = rows(&daemon, &["history", &filter], 1);
    let row = &found[0];
    assert_eq!(found.len(), 1, "once: {found:?}");
    assert_eq!((&row["ended"], &row["rule"]), (&"closed".into(), &"web".into()), "{row}");
    assert_eq!((&row["pid"], &row["user"]), (&std::process::id().into(), &"root".into()), "{row}");
    assert_eq!(row["received_bytes"].as_u64().map(|n| n / 100), Some(1000), "{row}");
    let exe = std::env::current_exe().unwrap().display().to_string();
    assert_eq!((&row["exe"], &row["confidence"]), (&exe.into(), &"stamped".into()), "{row}");
    assert!(row["age_ms"].as_u64().is_some() && row["closed"].as_str().is_some(), "{row}");
    // Its flow, with the same id.
    let flow = row["flow"].as_str().expect("its packets met a flow");
    let flows =
        rows(&daemon, &["history", "--kind", "flows", &format!("sport={port} and dport=80")], 1);
    assert_eq!(flows.len(), 1, "once: {flows:?}");
    assert_eq!((&flows[0]["id"], &flows[0]["rule"]), (&flow.into(), &"web".into()), "{flows:?}");
    assert!(flows[0]["bytes"].as_u64() > Some(100_000), "{flows:?}");
    // A failed one names the rule that refused it.
    lab.client.run(|| {
        TcpStream::connect_timeout(&address(Lab::GATE4, 81), Duration::from_secs(1)).unwrap_err()
    });
    let refused = rows(&daemon, &["history", &lab.mine("remote_port=81")], 1);
    let why = (&refused[0]["ended"], &refused[0]["rule"]);
    assert_eq!(why, (&"dropped".into(), &"default in".into()), "{refused:?}");
    // One more ends just before the daemon does: what isn't written yet is written then.
    let last = talk(&lab, &listener, 10);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(daemon.terminate(), 0);
    daemon.start();
    assert_eq!(rows(&daemon, &["history", &filter], 1), found);
    let filter = lab.mine(&format!("local_port=80 and remote_port={last}"));
    assert_eq!(rows(&daemon, &["history", &filter], 1).len(), 1);
    let flows = ["history", "--kind", "flows", &format!("sport={last} and dport=80")];
    assert_eq!(rows(&daemon, &flows, 1).len(), 1);
}

#[test]
fn sums_and_csv_say_what_the_rows_say() {
    let test = "e2e_history::sums_and_csv_say_what_the_rows_say";
    let Some((lab, daemon)) = setup(test) else { return };
    let listener = lab.gate.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    for size in [1_000, 20_000, 300_000] {
        talk(&lab, &listener, size);
    }
    let filter = lab.mine("local_port=80 and remote_port>0");
    let all = rows(&daemon, &["history", &filter], 3);
    let received: u64 = all.iter().filter_map(|row| row["received_bytes"].as_u64()).sum();
    assert_eq!(all.len(), 3, "{all:?}");
    for by in ["process", "exe", "user", "host", "rule", "protocol", "ended", "minute"] {
        let sums = daemon.rows(&["history", &filter, "--by", by]);
        let count: u64 = sums.iter().filter_map(|row| row["count"].as_u64()).sum();
        let bytes: u64 = sums.iter().filter_map(|row| row["reply_bytes"].as_u64()).sum();
        assert_eq!((count, bytes), (3, received), "by {by}: {sums:?}");
        // What the database can't do of a filter is done row by row: the same comes out.
        let slow = format!("{filter} and comm~a and age>=0ms");
        let slow = slow.replace("comm~a", "confidence~a");
        assert_eq!(daemon.rows(&["history", &slow, "--by", by]), sums, "by {by}");
    }
    let host = &daemon.rows(&["history", &filter, "--by", "host", "--top", "1"])[0];
    assert_eq!(host["key"], Lab::CLIENT4, "{host}");
    // Everything of the machine, from the sums by hour and from the rows.
    let [kept, counted] = [&[][..], &["sent_bytes>=0"]].map(|filter| {
        let args =
            [&["history", "--since", "3h", "--until", "now", "--by", "rule"], filter].concat();
        daemon.rows(&args).into_iter().find(|row| row["key"] == "web")
    });
    assert!(kept.is_some() && kept == counted, "{kept:?} {counted:?}");
    // Rows as CSV.
    let csv = daemon.cli(&["history", &filter, "--csv"]);
    let lines: Vec<&str> = csv.stdout.lines().collect();
    assert_eq!((csv.code, lines.len()), (0, 4), "{csv:?}");
    let at = |name| lines[0].split(',').position(|column| column == name).expect("a column");
    let sum: u64 = lines[1..]
        .iter()
        .map(|line| line.split(',').nth(at("received_bytes")).unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, received, "{csv:?}");
    // Nothing before, and nothing behind.
    assert_eq!(daemon.rows(&["history", &filter, "--until", "1h"]), Vec::<Value>::new());
    assert_eq!(daemon.rows(&["history", &filter, "--limit", "2"]), all[..2]);
}

#[test]
fn minutes_have_what_the_kernel_counted() {
    let test = "e2e_history::minutes_have_what_the_kernel_counted";
    let Some((lab, mut daemon)) = setup(test) else { return };
    lab.client.run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..50 {
            socket.send_to(&[0; 100], address(Lab::GATE4, 53)).unwrap();
        }
    });
    wait_for("the rule's counter", SOON, || (daemon.rule("noisy")["packets"] == 50).then_some(()))
        .unwrap();
    // A daemon that ends writes the minute that runs.
    assert_eq!(daemon.terminate(), 0);
    daemon.start();
    let filter = ["history", "--kind", "rules", "rule=noisy", "--by", "rule"];
    let noisy = rows(&daemon, &filter, 1);
    assert_eq!(
        (&noisy[0]["packets"], &noisy[0]["key"]),
        (&50.into(), &"noisy".into()),
        "{noisy:?}"
    );
    let minutes = daemon.rows(&["history", "--kind", "rules", "action=drop and rule=noisy"]);
    assert!(minutes[0]["hits"] == 50 && minutes[0]["action"] == "drop", "{minutes:?}");
    let dropped = daemon.rows(&["history", "--kind", "verdicts", "verdict=drop and reason=rule"]);
    let packets: u64 = dropped.iter().filter_map(|row| row["packets"].as_u64()).sum();
    assert_eq!(packets, 50, "{dropped:?}");
    // And mappings, live or not, are there under the same command.
    let _echo = TcpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    let _client = lab.client.run(|| TcpStream::connect(address(Lab::SERVER4, 7)).unwrap());
    let mapping = &rows(&daemon, &["history", "--kind", "nat", "remote_port=7"], 1)[0];
    assert_eq!((&mapping["rule"], &mapping["inside"]), (&"away".into(), &Lab::CLIENT4.into()));
}

#[test]
fn mistakes_are_named() {
    let test = "e2e_history::mistakes_are_named";
    let Some((_lab, daemon)) = setup(test) else { return };
    for (args, code, words) in [
        (&["colour=red"][..], 3, &["column 1", "local_port"][..]),
        (&["cmdline=x"], 3, &["the history of sockets has", "comm"]),
        (&["--kind", "flows", "nat=yes"], 3, &["--kind nat"]),
        (&["--kind", "rules", "reason=rule"], 3, &["`reason`", "hits"]),
        (&["--by", "colour"], 2, &["process", "minute"]),
        (&["--by", "exe", "--sort", "colour"], 2, &["bytes", "packets"]),
        (&["--since", "yesterday"], 2, &["since", "RFC 3339"]),
        (&["--since", "1h", "--until", "2h"], 2, &["is after"]),
        (&["--kind", "dreams"], 2, &["sockets", "flows", "verdicts"]),
    ] {
        let said = daemon.cli(&[&["history"], args].concat());
        assert_eq!(said.code, code, "{args:?}: {said:?}");
        assert!(words.iter().all(|word| said.stderr.contains(word)), "{args:?}: {said:?}");
    }
}

#[test]
fn what_people_had_done_is_written_down() {
    let test = "e2e_history::what_people_had_done_is_written_down";
    let Some((_lab, daemon)) = setup(test) else { return };
    assert_eq!(daemon.cli(&["rule", "disable", "noisy"]).code, 0);
    assert_eq!(daemon.cli(&["rule", "delete", "dreams"]).code, 1);
    assert_eq!(daemon.cli(&["flow", "kill", "--dry-run", "family in (4, 6)"]).code, 0);
    assert_eq!(daemon.cli(&["flow", "kill", "src=192.0.2.1"]).code, 0);
    assert_eq!(daemon.cli(&["counters", "reset"]).code, 0);
    let deeds = rows(&daemon, &["history", "--kind", "audit"], 4);
    let told: Vec<[&str; 3]> = deeds
        .iter()
        .map(|deed| ["verb", "outcome", "who"].map(|field| deed[field].as_str().unwrap_or("?")))
        .collect();
    let root = "user root";
    assert_eq!(
        told,
        [
            ["counters.reset", "done", root],
            ["flows.kill", "done", root],
            ["rule.delete", "no-such-rule", root],
            ["rule.disable", "done", root],
        ],
        "latest first, and nothing that was only looked at"
    );
    assert_eq!(deeds[1]["detail"], "src=192.0.2.1: 0 flows");
    let failed = daemon.rows(&["history", "--kind", "audit", "outcome!=done"]);
    assert_eq!(failed, deeds[2..3]);
    let by = daemon.rows(&["history", "--kind", "audit", "--by", "who"]);
    assert_eq!((&by[0]["key"], &by[0]["count"]), (&root.into(), &4.into()), "{by:?}");
}

#[test]
fn what_does_not_fit_is_counted_and_holds_nobody_up() {
    let test = "e2e_history::what_does_not_fit_is_counted_and_holds_nobody_up";
    let Some(lab) = Lab::or_skip(test) else { return };
    let mut options = DaemonOptions::gate(POLICY);
    // A place where nothing can be written: the file is a directory's name.
    options.config = "[history]\npath = \"/proc/self/status/history.db\"\nqueue = 20\n".to_owned();
    let Some(daemon) = Daemon::or_skip(test, &lab.gate, options) else { return };
    let listener = lab.gate.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let lost = || {
        talk(&lab, &listener, 100);
        let history = daemon.json(&["status"])["history"].clone();
        let trouble = history["trouble"].as_str().is_some_and(|text| text.contains("status"));
        (history["lost"].as_u64() > Some(0) && trouble).then_some(history)
    };
    let history = wait_for("records are lost", SOON, lost).unwrap();
    assert!(history["queued"].as_u64() <= Some(20), "{history}");
    let shown = daemon.cli(&["status"]);
    assert!(shown.code == 0 && shown.stdout.contains("records lost"), "{shown:?}");
    let asked = daemon.cli(&["history"]);
    assert!(asked.code == 1 && asked.stderr.contains("the history isn't open"), "{asked:?}");
}
