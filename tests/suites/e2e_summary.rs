//! Summaries of sockets as an operator reads them: by rule and by account, each socket by itself, connections now
//! and in all, in what order, which of them, begun anew one by one, and folded when there are too many.

use serde_json::Value;
use sluice_tests::lab::{Daemon, DaemonOptions, Lab, NetNs, wait_for};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);
const POLICY: &str = "
default in drop
default out allow
rule web allow in tcp to port 80
rule spare allow in tcp to port 81
";

/// `host`: the client's address, of this test's own: summaries are of the whole machine.
fn setup(test: &str, host: &str) -> Option<(Lab, Daemon)> {
    let lab = Lab::or_skip(test)?;
    let daemon = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(POLICY))?;
    lab.client.ip(&["address", "add", &format!("{host}/24"), "dev", "c0"]).unwrap();
    lab.client.ip(&["route", "add", "10.77.1.1/32", "dev", "c0", "src", host]).unwrap();
    Some((lab, daemon))
}

fn gate(port: u16) -> SocketAddr {
    format!("{}:{port}", Lab::GATE4).parse().expect("an address")
}

/// A connection through the gate's filter, which carried `size` bytes to the gate.
fn connection(lab: &Lab, listener: &TcpListener, size: usize) -> (TcpStream, TcpStream) {
    let to = gate(listener.local_addr().unwrap().port());
    let mut client = lab.client.run(|| TcpStream::connect(to).unwrap());
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(&vec![1; size]).unwrap();
    server.read_exact(&mut vec![0; size]).unwrap();
    (client, server)
}

fn summary(daemon: &Daemon, by: &str, more: &[&str]) -> Vec<Value> {
    daemon.rows(&[&["summary", "by", by, "--top", "10000"], more].concat())
}

fn row(daemon: &Daemon, by: &str, key: &str) -> Value {
    let rows = summary(daemon, by, &[]);
    rows.into_iter().find(|row| row["key"] == key && row["other"] == false).unwrap_or_default()
}

fn number(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap_or_default()
}

#[test]
fn rules_have_what_their_sockets_did() {
    let test = "e2e_summary::rules_have_what_their_sockets_did";
    let host = "10.77.1.94";
    let Some((lab, daemon)) = setup(test, host) else { return };
    let listen = |port: u16| lab.gate.run(|| TcpListener::bind(("0.0.0.0", port)).unwrap());
    let (web, spare) = (listen(80), listen(81));
    let kept = connection(&lab, &web, 1000);
    for _ in 0..9 {
        drop(connection(&lab, &web, 100));
    }
    drop(connection(&lab, &spare, 50));
    // Refused, from another namespace.
    let refused = lab.client.run(|| TcpStream::connect_timeout(&gate(82), Duration::from_secs(1)));
    refused.unwrap_err();
    let settled = || {
        let row = row(&daemon, "rule", "web");
        let refused = row_of_refused(&daemon);
        (number(&row, "total") == 10 && number(&row, "live") == 1 && refused).then_some(row)
    };
    let first = wait_for("what ended", SOON, settled).unwrap();
    let received = number(&first, "received_bytes");
    // FINs count one each.
    assert!((1900..1920).contains(&received), "{first}");
    assert_eq!((number(&first, "connected"), number(&first, "connections")), (1, 10), "{first}");
    assert_eq!(first["accept_us"]["count"], 10);
    // A SYN, an ACK, data and a FIN each, at least.
    assert!(number(&first, "received_packets") >= 10 * 3, "{first}");
    assert_eq!(number(&row(&daemon, "rule", "spare"), "total"), 1);
    // What has ended keeps its rule when its flow is long forgotten.
    std::thread::sleep(Duration::from_secs(7));
    let rows = daemon.rows(&["sockets", "--ended", "own_netns=true and local_port in (80, 81)"]);
    let rules: Vec<_> = rows.iter().map(|row| row["rule"].as_str().unwrap_or("-")).collect();
    assert_eq!(rules.iter().filter(|rule| **rule == "web").count(), 9, "{rules:?}");
    assert_eq!(rules.iter().filter(|rule| **rule == "spare").count(), 1, "{rules:?}");
    assert_eq!(number(&row(&daemon, "rule", "web"), "total"), 10, "each once");
    drop(kept);
}

fn row_of_refused(daemon: &Daemon) -> bool {
    number(&row(daemon, "rule", "default in"), "total") == 1
}

#[test]
fn sockets_older_than_the_daemon_have_their_rule() {
    let test = "e2e_summary::sockets_older_than_the_daemon_have_their_rule";
    let host = "10.77.1.95";
    let Some((lab, mut daemon)) = setup(test, host) else { return };
    let listener = lab.gate.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let old = connection(&lab, &listener, 100);
    let has_it = |daemon: &Daemon| {
        let there = || (number(&row(daemon, "rule", "web"), "live") == 1).then_some(());
        wait_for("its rule", SOON, there).unwrap();
    };
    // Nothing is left for the next one to be told: its flow has to be found in the table.
    has_it(&daemon);
    daemon.kill9();
    daemon.start();
    has_it(&daemon);
    drop(old);
    let ended = || {
        let row = row(&daemon, "rule", "web");
        (number(&row, "live") == 0 && number(&row, "total") == 1).then_some(())
    };
    wait_for("its end, under that rule", SOON, ended).unwrap();
}

#[test]
fn accounts_and_instances_say_who_is_connected() {
    let test = "e2e_summary::accounts_and_instances_say_who_is_connected";
    let host = "10.77.1.96";
    let Some((lab, daemon)) = setup(test, host) else { return };
    let listener = lab.gate.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let kept = connection(&lab, &listener, 300);
    drop(connection(&lab, &listener, 100));
    let account = format!("root@{host}");
    let both = || {
        let row = row(&daemon, "account", &account);
        (number(&row, "total") == 2 && number(&row, "live") == 1).then_some(row)
    };
    let row = wait_for("both", SOON, both).unwrap();
    assert_eq!((number(&row, "connected"), number(&row, "connections")), (1, 2), "{row}");
    let shown = daemon.cli(&["summary", "accounts", "--filter", &format!("remote={host}")]);
    let line = shown.stdout.lines().find(|line| line.contains(&account)).expect("its line");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..3], [account.as_str(), "1", "2"], "current and total: {line}");
    assert!(shown.stdout.contains("CURRENT"), "{shown:?}");
    for (verb, key) in [("hosts", host), ("users", "root")] {
        let rows = daemon.rows(&["summary", verb, "--filter", &format!("key={key}")]);
        assert_eq!((rows.len(), &rows[0]["key"]), (1, &key.into()), "{rows:?}");
        assert!(number(&rows[0], "connected") > 0);
    }
    // Each socket by itself, by its two ends; it is the one that `sockets` shows.
    let port = kept.0.local_addr().unwrap().port();
    let name = format!("tcp {}:80 > {host}:{port}", Lab::GATE4);
    let rows = summary(&daemon, "instance", &["--filter", &format!("key=\"{name}\"")]);
    assert_eq!((rows.len(), number(&rows[0], "received_bytes")), (1, 300), "{rows:?}");
    let id = rows[0]["id"].as_str().expect("its id");
    assert_eq!(daemon.rows(&["sockets", &format!("id={id}")])[0]["remote_port"], port);
    drop(kept);
}

#[test]
fn rows_are_picked_put_in_order_and_begun_anew() {
    let test = "e2e_summary::rows_are_picked_put_in_order_and_begun_anew";
    let host = "10.77.1.97";
    let Some((lab, daemon)) = setup(test, host) else { return };
    let listener = lab.gate.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let kept = connection(&lab, &listener, 5000);
    let rows = summary(&daemon, "process", &["--sort", "-received_bytes"]);
    let received: Vec<u64> = rows.iter().map(|row| number(row, "received_bytes")).collect();
    assert!(received.is_sorted() && received.last() > Some(&4999), "{received:?}");
    let me = format!("pid={} and connections>=1", std::process::id());
    let rows = summary(&daemon, "process", &["--filter", &me]);
    assert_eq!((rows.len(), number(&rows[0], "received_bytes") >= 5000), (1, true), "{rows:?}");
    let bad = daemon.cli(&["summary", "by", "host", "--sort", "colour"]);
    assert!(bad.code == 2 && bad.stderr.contains("received_packets"), "{bad:?}");
    let bad = daemon.cli(&["summary", "by", "host", "--filter", "colour=red"]);
    assert!(bad.code == 3 && bad.stderr.contains("column 1"), "{bad:?}");
    let bad = daemon.cli(&["summary", "by", "colour"]);
    assert!(bad.code == 2 && bad.stderr.contains("instance"), "{bad:?}");
    // One table alone.
    assert_eq!(daemon.json(&["summary", "reset", "host"])["ok"], true);
    assert_eq!(number(&row(&daemon, "host", host), "received_bytes"), 0);
    let account = format!("root@{host}");
    assert_eq!(number(&row(&daemon, "account", &account), "received_bytes"), 5000);
    assert_eq!(daemon.json(&["summary", "reset"])["ok"], true);
    let after = row(&daemon, "account", &account);
    assert_eq!((number(&after, "received_bytes"), number(&after, "live")), (0, 1), "{after}");
    drop(kept);
}

#[test]
fn too_many_rows_fold_where_one_sees_it() {
    let test = "e2e_summary::too_many_rows_fold_where_one_sees_it";
    let host = "10.77.1.98";
    let Some((lab, daemon)) = setup(test, host) else { return };
    let listener = lab.gate.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let kept = connection(&lab, &listener, 300);
    drop(connection(&lab, &listener, 100));
    // 127.0.0.0/8 is all the machine's own: 1,600 hosts, none of which any other test asks for. So slowly that
    // rows with sockets that live, also those of tests beside this one, are known before the table is full.
    let server = lab.client.run(|| TcpListener::bind("0.0.0.0:9100").unwrap());
    for i in 0..1600u32 {
        let to = format!("127.98.{}.{}:9100", i / 250, i % 250 + 1);
        drop(lab.client.run(|| TcpStream::connect(&to).unwrap()));
        drop(server.accept().unwrap());
        if i % 200 == 199 {
            std::thread::sleep(Duration::from_millis(1100));
        }
    }
    let all = || {
        let rows = summary(&daemon, "host", &[]);
        let table = daemon.json(&["sockets", "--stats"])["tables"].clone();
        let table = table.as_array()?.iter().find(|table| table["by"] == "host")?.clone();
        (number(&table, "folded") > 500).then_some((rows, table))
    };
    let (rows, table) = wait_for("rows that fold", SOON, all).unwrap();
    assert_eq!((number(&table, "rows"), number(&table, "capacity")), (1024, 1024), "{table}");
    let other = rows.iter().find(|row| row["other"] == true).expect("where they are");
    assert!(number(other, "total") >= number(&table, "folded"), "{other}");
    let shown = daemon.cli(&["summary", "by", "host"]);
    assert!(shown.stdout.contains("rows were folded into `other`"), "{shown:?}");
    // The oldest of all, and still whole: one of its sockets lives.
    let whole = row(&daemon, "host", host);
    assert_eq!((number(&whole, "live"), number(&whole, "total")), (1, 2), "{whole}");
    drop(kept);
}

/// A name of a network namespace, as `ip netns` gives them.
struct Named(String);

impl Named {
    fn new(ns: &NetNs) -> Self {
        let path = format!("/run/netns/sluice-test-{}", std::process::id());
        std::fs::create_dir_all("/run/netns").unwrap();
        std::fs::write(&path, "").unwrap();
        let from = ns.path().display().to_string();
        let done = Command::new("mount").args(["--bind", &from, &path]).status().unwrap();
        assert!(done.success(), "mounting {from}");
        Self(path)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn one_socket_is_shown_with_all_that_is_known_of_it() {
    let test = "e2e_summary::one_socket_is_shown_with_all_that_is_known_of_it";
    let host = "10.77.1.93";
    let Some((lab, daemon)) = setup(test, host) else { return };
    let listener = lab.gate.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let (client, server) = connection(&lab, &listener, 300);
    let port = client.local_addr().unwrap().port();
    let find = |filter: &str| daemon.rows(&["sockets", filter])[0].clone();
    let here = find(&format!("own_netns=true and remote={host} and remote_port={port}"));
    let id = here["id"].as_str().expect("its id");
    let details = daemon.json(&["socket", "show", id]);
    assert_eq!(
        (&details["socket"]["id"], &details["socket"]["rule"]),
        (&here["id"], &"web".into())
    );
    let attribute = |details: &Value, name: &str| -> Option<(String, String)> {
        let all = details["attributes"].as_array()?;
        let one = all.iter().find(|one| one["name"] == name)?;
        let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
        Some((text("value"), text("source")))
    };
    let exe = std::env::current_exe().unwrap().display().to_string();
    assert_eq!(attribute(&details, "exe"), Some((exe, "proc".to_owned())));
    let inode = |ns: &NetNs| std::fs::metadata(ns.path()).unwrap().ino().to_string();
    assert_eq!(attribute(&details, "netns"), Some((inode(&lab.gate), "kernel".to_owned())));
    assert_eq!(attribute(&details, "netns_name"), None, "nobody has named it");
    assert!(attribute(&details, "cmdline").is_some_and(|(words, _)| words.contains("e2e_summary")));
    assert_eq!(attribute(&details, "user"), Some(("root".to_owned(), "users".to_owned())));
    // The other end, in a namespace that has a name.
    let named = Named::new(&lab.client);
    let there = find(&format!("own_netns=false and local={host} and local_port={port}"));
    let details = daemon.json(&["socket", "show", there["id"].as_str().unwrap()]);
    assert_eq!(attribute(&details, "netns_name"), Some((named.0.clone(), "netns".to_owned())));
    // A note stays after the end; in words it is marked.
    assert_eq!(daemon.json(&["socket", "note", id, "ask", "Ada"])["ok"], true);
    drop((client, server));
    let ended = || {
        let details = daemon.json(&["socket", "show", id]);
        details["socket"]["ended"].is_string().then_some(details)
    };
    let details = wait_for("its end", SOON, ended).unwrap();
    assert_eq!(attribute(&details, "note"), Some(("ask Ada".to_owned(), "operator".to_owned())));
    assert_eq!(details["socket"]["rule"], "web");
    let shown = daemon.cli(&["socket", "show", id]).stdout;
    assert!(shown.contains("ask Ada  (operator)") && shown.contains("e2e_summary"), "{shown}");
    assert_eq!(daemon.json(&["socket", "note", id])["ok"], true);
    assert_eq!(attribute(&daemon.json(&["socket", "show", id]), "note"), None, "taken away");
    // Mistakes.
    let bad = daemon.cli(&["socket", "show", "ffffffffffff"]);
    assert!(bad.code == 1 && bad.stderr.contains("no socket ffffffffffff"), "{bad:?}");
    let bad = daemon.cli(&["socket", "show", "tcp"]);
    assert!(bad.code == 2 && bad.stderr.contains("hexadecimal"), "{bad:?}");
    let bad = daemon.cli(&["socket", "note", id, &"x".repeat(257)]);
    assert!(bad.code == 2 && bad.stderr.contains("256 letters"), "{bad:?}");
}
