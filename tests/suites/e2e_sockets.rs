//! Sockets as an operator sees them: with owner, rule and translation on one row, why connections failed, and
//! how to end them. The daemon stands at a gate and the ends are in three namespaces.

use serde_json::Value;
use sluice_tests::lab::{Daemon, DaemonOptions, Lab, TcpEcho, wait_for};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);
const POLICY: &str = "
default in drop
default out allow
nat away masquerade on lan0 from 10.77.1.0/24
rule web allow in tcp to port 80
rule echo allow tcp to port 7
rule answers allow in tcp to port 9000
";

fn setup(test: &str) -> Option<(Lab, Daemon)> {
    let lab = Lab::or_skip(test)?;
    let daemon = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(POLICY))?;
    Some((lab, daemon))
}

fn sockets(lab: &Lab, daemon: &Daemon, filter: &str) -> Vec<Value> {
    daemon.rows(&["sockets", &lab.mine(filter)])
}

fn ended(lab: &Lab, daemon: &Daemon, filter: &str) -> Vec<Value> {
    daemon.rows(&["sockets", "--ended", &lab.mine(filter)])
}

fn address(host: &str, port: u16) -> SocketAddr {
    format!("{host}:{port}").parse().expect("an address")
}

/// Tries to connect, for a second at most.
fn fails(lab: &Lab, to: SocketAddr) {
    lab.client.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(1)).unwrap_err());
}

#[test]
fn a_socket_its_owner_its_rule_and_its_translation_are_one_row() {
    let test = "e2e_sockets::a_socket_its_owner_its_rule_and_its_translation_are_one_row";
    let Some((lab, daemon)) = setup(test) else { return };
    let me = std::process::id();
    // On the gate itself.
    let listener = lab.gate.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let mut client = lab.client.run(|| TcpStream::connect(address(Lab::GATE4, 80)).unwrap());
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(&[1; 100_000]).unwrap();
    server.read_exact(&mut vec![0; 100_000]).unwrap();
    let rows = sockets(&lab, &daemon, "local_port=80 and own_netns=true").len();
    assert_eq!(rows, 2, "the listener, and who was accepted");
    let accepted = sockets(&lab, &daemon, "local_port=80 and state=established");
    let row = &accepted[0];
    assert_eq!((&row["rule"], &row["pid"]), (&"web".into(), &me.into()), "{row}");
    assert_eq!((&row["received_bytes"], &row["confidence"]), (&100_000.into(), &"stamped".into()));
    assert_eq!(row["holders"][0]["pid"], me);
    let exe = std::env::current_exe().unwrap().display().to_string();
    assert_eq!((&row["exe"], &row["user"]), (&exe.as_str().into(), &"root".into()), "{row}");
    assert!(row["cmdline"].as_str().is_some_and(|words| words.contains("e2e_sockets")), "{row}");
    assert_eq!(sockets(&lab, &daemon, &format!("exe={exe} and local_port=80")).len(), 2);
    let flow = row["flow"].as_str().expect("its packets met a flow").to_owned();
    assert_eq!(daemon.flows(&format!("id={flow}"))[0]["dport"], 80);
    // The other end, in another namespace: seen with its owner, but the filter's flows aren't of that place.
    let other = sockets(&lab, &daemon, "remote_port=80");
    assert_eq!((&other[0]["own_netns"], &other[0]["rule"]), (&false.into(), &Value::Null));
    assert_eq!(other[0]["pid"], me);
    // Of the gate's own, to the outside; what is translated says how.
    let _echo = TcpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    let out = lab.gate.run(|| TcpStream::connect(address(Lab::SERVER4, 7)).unwrap());
    let row = &sockets(&lab, &daemon, "remote_port=7")[0];
    assert_eq!((&row["rule"], &row["nat"]), (&"echo".into(), &Value::Null), "{row}");
    drop(out);
    drop((client, server));
    let closed = wait_for("the end of it", SOON, || {
        let rows = ended(&lab, &daemon, "local_port=80 and ended=closed");
        (!rows.is_empty()).then_some(rows)
    })
    .unwrap();
    assert_eq!(closed[0]["received_bytes"].as_u64().map(|n| n / 100), Some(1000), "{closed:?}");
}

#[test]
fn a_failed_connection_names_its_cause() {
    let test = "e2e_sockets::a_failed_connection_names_its_cause";
    let Some((lab, daemon)) = setup(test) else { return };
    // Let through, and nobody listens; refused by our own default; no way there at all.
    fails(&lab, address(Lab::GATE4, 80));
    fails(&lab, address(Lab::GATE4, 81));
    lab.client.ip(&["route", "add", "unreachable", "192.0.2.0/24"]).unwrap();
    fails(&lab, address("192.0.2.1", 80));
    let why = |port: u16, to: &str| {
        wait_for("the end of it", SOON, || {
            ended(&lab, &daemon, &format!("remote={to} and remote_port={port}")).first().cloned()
        })
        .unwrap()
    };
    assert_eq!(why(80, Lab::GATE4)["ended"], "refused");
    let dropped = why(81, Lab::GATE4);
    assert_eq!((&dropped["ended"], &dropped["rule"]), (&"dropped".into(), &"default in".into()));
    assert_eq!(dropped["pid"], std::process::id());
    // No SYN was ever sent: there is nothing that could end, and nothing is made up.
    assert!(ended(&lab, &daemon, "remote=192.0.2.1").iter().all(|row| row["ended"] != "dropped"));
}

#[test]
fn a_socket_is_killed_and_nobody_else() {
    let test = "e2e_sockets::a_socket_is_killed_and_nobody_else";
    let Some((lab, daemon)) = setup(test) else { return };
    let listener = lab.gate.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let pair = || {
        let client = lab.client.run(|| TcpStream::connect(address(Lab::GATE4, 80)).unwrap());
        let (server, _) = listener.accept().unwrap();
        (client, server)
    };
    let (mut killed, mut kept) = (pair(), pair());
    let port = killed.0.local_addr().unwrap().port();
    let filter = format!("remote_port={port}");
    let dry = daemon.json(&["socket", "kill", "--dry-run", &lab.mine(&filter)]);
    assert_eq!((&dry["total"], &dry["dry_run"]), (&1.into(), &true.into()));
    assert_eq!(sockets(&lab, &daemon, &filter).len(), 1, "nothing was done");
    let done = daemon.json(&["socket", "kill", &lab.mine(&filter)]);
    assert_eq!((&done["total"], &done["failed"]), (&1.into(), &serde_json::json!([])), "{done}");
    let error = killed.1.write(b"x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNABORTED), "{error}");
    assert_eq!(killed.0.read(&mut [0]).unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
    kept.0.write_all(b"still here").unwrap();
    kept.1.read_exact(&mut [0; 10]).unwrap();
    let row =
        wait_for("the end of it", SOON, || ended(&lab, &daemon, &filter).first().cloned()).unwrap();
    assert_eq!(row["ended"], "killed");
    // In another namespace.
    let filter = format!("local_port={}", kept.0.local_addr().unwrap().port());
    let done = daemon.json(&["socket", "kill", &lab.mine(&filter)]);
    assert_eq!(done["total"], 1, "{done}");
    assert_eq!(kept.0.write(b"x").unwrap_err().raw_os_error(), Some(libc::ECONNABORTED));
    // Blocked first, then ended: nobody is back before the rules are there; and it can be undone.
    let (client, mut server) = pair();
    let port = client.local_addr().unwrap().port();
    let filter = format!("remote_port={port} and local_port=80");
    let done = daemon.json(&["socket", "kill", "--block", &lab.mine(&filter)]);
    assert_eq!(done["blocked"], serde_json::json!(["blocked-1-to", "blocked-1-from"]), "{done}");
    assert_eq!(server.write(b"x").unwrap_err().raw_os_error(), Some(libc::ECONNABORTED));
    fails(&lab, address(Lab::GATE4, 80));
    assert!(daemon.rule("blocked-1-from")["hits"].as_u64() > Some(0));
    for name in ["blocked-1-to", "blocked-1-from"] {
        assert_eq!(daemon.cli(&["rule", "delete", name]).code, 0);
    }
    drop(pair());
    // Whoever asks for everything has to say so; and the daemon leaves itself alone.
    assert_eq!(daemon.cli(&["socket", "kill", ""]).code, 2);
    let own = format!("pid={}", daemon.pid().unwrap());
    let spared = daemon.json(&["socket", "kill", "--dry-run", &own]);
    assert_eq!(spared["total"], 0, "{spared}");
    assert!(spared["spared"].as_u64() > Some(0), "{spared}");
    let _ = kept.1.shutdown(Shutdown::Both);
}

#[test]
fn mistakes_are_named_and_accounts_add_up() {
    let test = "e2e_sockets::mistakes_are_named_and_accounts_add_up";
    let Some((lab, mut daemon)) = setup(test) else { return };
    let bad = daemon.cli(&["sockets", "colour=red"]);
    assert_eq!(bad.code, 3);
    assert!(bad.stderr.contains("column 1") && bad.stderr.contains("local_port"), "{bad:?}");
    let bad = daemon.cli(&["sockets", "--sort", "colour"]);
    assert!(bad.code == 2 && bad.stderr.contains("received_rate"), "{bad:?}");
    let listener = lab.gate.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    for _ in 0..200 {
        let client = lab.client.run(|| TcpStream::connect(address(Lab::GATE4, 80)).unwrap());
        drop((client, listener.accept().unwrap()));
    }
    let adds_up = || {
        let stats = daemon.json(&["sockets", "--stats"]);
        let events = stats["events"].as_array().cloned().unwrap_or_default();
        let number = |row: &Value, field: &str| row[field].as_u64().expect("a number");
        let settled = events
            .iter()
            .all(|row| number(row, "produced") == number(row, "delivered") + number(row, "lost"));
        let established = events.iter().find(|row| row["class"] == "established")?;
        (settled && number(established, "delivered") >= 400).then_some(stats)
    };
    wait_for("produced = delivered + lost", SOON, adds_up).unwrap();
    // A daemon that was killed takes its hooks with it, and the next one finds what there is.
    daemon.kill9();
    let client = lab.client.run(|| TcpStream::connect(address(Lab::GATE4, 80)).unwrap());
    let _server = listener.accept().unwrap();
    daemon.start();
    let rows = sockets(&lab, &daemon, "local_port=80 and state=established");
    let port = client.local_addr().unwrap().port();
    let row = rows.iter().find(|row| row["remote_port"] == port).expect("it is there");
    assert_eq!((&row["confidence"], &row["created"]), (&"held".into(), &Value::Null), "{row}");
    assert_eq!(row["pid"], std::process::id());
}

#[test]
fn summaries_add_up_and_begin_anew() {
    let test = "e2e_sockets::summaries_add_up_and_begin_anew";
    let Some((lab, daemon)) = setup(test) else { return };
    let listener = lab.gate.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    // A host of this test's own: summaries are of the whole machine.
    let host = "10.77.1.99";
    lab.client.ip(&["address", "add", &format!("{host}/24"), "dev", "c0"]).unwrap();
    let via = ["route", "add", "10.77.1.1/32", "dev", "c0", "src", host];
    lab.client.ip(&via).unwrap();
    let socket = |size: usize| {
        let mut client = lab.client.run(|| TcpStream::connect(address(Lab::GATE4, 80)).unwrap());
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&vec![1; size]).unwrap();
        server.read_exact(&mut vec![0; size]).unwrap();
        (client, server)
    };
    let row = || {
        let rows = daemon.rows(&["summary", "by", "host", "--top", "10000"]);
        rows.into_iter().find(|row| row["key"] == host).unwrap_or_default()
    };
    let kept = socket(1000);
    for _ in 0..9 {
        drop(socket(100));
    }
    let first = wait_for("what ended", SOON, || {
        let row = row();
        (row["live"] == 1 && row["total"] == 10).then_some(row)
    })
    .unwrap();
    let received = first["received_bytes"].as_u64().unwrap();
    // FINs count one each.
    assert!((1900..1920).contains(&received), "{first}");
    let reads = &first["read_bytes"];
    assert_eq!(
        (&reads["sum"], &reads["min"], &reads["max"]),
        (&1900.into(), &100.into(), &1000.into())
    );
    assert_eq!(
        (&first["accept_us"]["count"], &first["connect_us"]["count"]),
        (&10.into(), &0.into())
    );
    assert_eq!(first["life_us"]["count"], 9);
    assert_eq!(daemon.json(&["summary", "reset"])["ok"], true);
    let after = row();
    assert_eq!(
        (&after["live"], &after["total"], &after["received_bytes"]),
        (&1.into(), &1.into(), &0.into())
    );
    let bad = daemon.cli(&["summary", "by", "colour"]);
    assert!(bad.code == 2 && bad.stderr.contains("protocol"), "{bad:?}");
    drop(kept);
}

#[test]
fn who_does_not_want_it_has_none_of_it() {
    let test = "e2e_sockets::who_does_not_want_it_has_none_of_it";
    let Some(lab) = Lab::or_skip(test) else { return };
    let options = DaemonOptions {
        config: "[sockets]\nenabled = false\n".into(),
        ..DaemonOptions::gate(POLICY)
    };
    let Some(daemon) = Daemon::or_skip(test, &lab.gate, options) else { return };
    let said = daemon.cli(&["sockets"]);
    assert!(said.code != 0 && said.stderr.contains("enabled = false"), "{said:?}");
}

#[test]
fn what_the_stack_drops_is_counted_with_its_reason_and_its_socket() {
    let test = "e2e_sockets::what_the_stack_drops_is_counted_with_its_reason_and_its_socket";
    let Some((lab, daemon)) = setup(test) else { return };
    let dropped = |reason: &str| {
        let drops = daemon.json(&["sockets", "--drops"]);
        let rows = drops["rows"].as_array().expect("rows").clone();
        let row = rows.into_iter().find(|row| row["reason"] == reason);
        let number = |row: &Value, field: &str| row[field].as_u64().expect("a number");
        row.map_or((0, 0), |row| (number(&row, "packets"), number(&row, "known")))
    };
    // Nobody has that port.
    let before = dropped("no-socket").0;
    let sender = lab.gate.run(|| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    for _ in 0..10 {
        let _ = sender.send_to(b"x", "127.0.0.1:9");
    }
    assert!(dropped("no-socket").0 >= before + 10);
    // Somebody has it and doesn't read.
    let full = lab.gate.run(|| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let port = full.local_addr().unwrap().port();
    for _ in 0..2_000 {
        let _ = sender.send_to(&[1; 1_000], ("127.0.0.1", port));
    }
    let rows = sockets(&lab, &daemon, &format!("proto=udp and local_port={port}"));
    assert!(rows[0]["drops"].as_u64() > Some(100), "{:#}", rows[0]);
    assert_eq!(rows[0]["drop_reason"], "socket-rcvbuff", "{:#}", rows[0]);
    assert!(dropped("socket-rcvbuff").1 > 100);
    assert_eq!(sockets(&lab, &daemon, &format!("drops>100 and local_port={port}")).len(), 1);
    // Who connects to where nobody listens gets a reset.
    let resets = |daemon: &Daemon| daemon.json(&["sockets", "--drops"])["resets_sent"].as_u64();
    let before = resets(&daemon);
    lab.gate.run(|| TcpStream::connect("127.0.0.1:9").unwrap_err());
    assert!(resets(&daemon) > before);
}

#[test]
fn attributes_of_many_are_a_table_of_what_is_told_of_one() {
    let test = "e2e_sockets::attributes_of_many_are_a_table_of_what_is_told_of_one";
    let Some((lab, daemon)) = setup(test) else { return };
    let listener = lab.gate.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let client = lab.client.run(|| TcpStream::connect(address(Lab::GATE4, 80)).unwrap());
    let (server, _) = listener.accept().unwrap();
    let (listening, accepted) = (
        lab.mine("own_netns=true and local_port=80 and state=listen"),
        lab.mine("own_netns=true and local_port=80 and remote_port!=0"),
    );
    let both = lab.mine("own_netns=true and local_port=80");
    let id = |filter: &str| {
        let rows = daemon.rows(&["sockets", filter]);
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0]["id"].as_str().unwrap().to_owned()
    };
    let ids = [id(&listening), id(&accepted)];
    assert_eq!(daemon.json(&["socket", "note", &ids[1], "ask", "Ada"])["ok"], true);
    let all = daemon.rows(&["socket", "attributes", &both]);
    let mut seen = 0;
    for id in &ids {
        let told = daemon.json(&["socket", "show", id])["attributes"].clone();
        let told = told.as_array().unwrap();
        let rows: Vec<&Value> = all.iter().filter(|row| row["socket"] == **id).collect();
        assert_eq!(rows.len(), told.len(), "{rows:?} and {told:?}");
        for (n, (row, one)) in rows.iter().zip(told).enumerate() {
            let same = ["name", "value", "source"].iter().all(|field| row[field] == one[field]);
            assert!(same && row["ordinal"] == n + 1, "{row} and {one}");
            assert_eq!(row["pid"], std::process::id(), "{row}");
        }
        seen += rows.len();
    }
    assert_eq!(seen, all.len(), "of nobody else: {all:?}");
    // Notes alone; a part, which says so.
    let notes = daemon.rows(&["socket", "attributes", &both, "--name", "note"]);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!(
        (&notes[0]["socket"], &notes[0]["value"]),
        (&ids[1].clone().into(), &"ask Ada".into())
    );
    let few = daemon.cli(&["socket", "attributes", &both, "--limit", "2"]).stdout;
    assert_eq!(few.lines().count(), 4, "a head, two, and what is left out: {few}");
    assert!(few.contains(&format!("2 of {} attributes", all.len())), "{few}");
    // After the end, as long as it is kept.
    drop((client, server));
    let ended = ["socket", "attributes", &accepted, "--name", "note", "--ended"];
    let ended = wait_for("its end", SOON, || daemon.rows(&ended).pop()).unwrap();
    assert_eq!((&ended["socket"], &ended["value"]), (&ids[1].clone().into(), &"ask Ada".into()));
    let none = daemon.rows(&["socket", "attributes", &both, "--name", "note"]);
    assert!(none.is_empty(), "it doesn't live: {none:?}");
    let bad = daemon.cli(&["socket", "attributes", "colour=red"]);
    assert!(bad.code == 3 && bad.stderr.contains("column 1"), "{bad:?}");
}
