//! Names of remote hosts, as an operator sees them: real resolvers and clients in namespaces, a DNS server whose bytes are
//! written by hand.

use serde_json::Value;
use sluice_tests::lab::{
    Daemon, DaemonOptions, Lab, NetNs, Run, TcpEcho, missing_tools, run, wait_for,
};
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{RwLock, RwLockReadGuard},
    thread,
    time::Duration,
};

const SOON: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(20);
const POLICY: &str = "default in allow\ndefault out allow\n";

/// Every daemon sees the questions of all namespaces: while the flood's test writes, no other one runs, or its own question
/// would be forgotten among theirs.
static FLOOD: RwLock<()> = RwLock::new(());

fn no_flood() -> RwLockReadGuard<'static, ()> {
    FLOOD.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn setup(test: &str, names: bool) -> Option<(Lab, Daemon)> {
    if let Some(reason) = missing_tools(&["curl", "unshare"]) {
        sluice_tests::skip::skip(test, &reason);
        return None;
    }
    let lab = Lab::or_skip(test)?;
    let mut options = DaemonOptions::gate(POLICY);
    if names {
        options.config = "[sockets]\nnames = true\n".into();
    }
    let daemon = Daemon::or_skip(test, &lab.gate, options)?;
    Some((lab, daemon))
}

/// Where the question of a message ends: the name, then type and class.
fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

/// The answer to a question for `A` or `AAAA`: the name is an alias for another, which has these addresses.
fn answer(asked: &[u8], v4: Ipv4Addr, v6: Ipv6Addr) -> Vec<u8> {
    let end = question_end(asked);
    let kind = u16::from_be_bytes([asked[end - 4], asked[end - 3]]);
    let mut said = asked[..end].to_vec();
    said[2..4].copy_from_slice(&[0x81, 0x80]);
    said[6..8].copy_from_slice(&[0, 2]);
    said[8..12].fill(0);
    // CNAME cdn.example; the owner is a pointer to the question's name.
    let alias = b"\x03cdn\x07example\x00";
    said.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, alias.len() as u8]);
    let at = said.len() as u8;
    said.extend(alias);
    let data = if kind == 1 { v4.octets().to_vec() } else { v6.octets().to_vec() };
    said.extend([0xc0, at]);
    said.extend(kind.to_be_bytes());
    said.extend([0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
    said.extend(data);
    said
}

/// A DNS server at `at` that answers every question with these two addresses, until the test's process ends.
fn dns_server(ns: &NetNs, at: (&str, u16), v4: &str, v6: &str) {
    let socket = ns.run(|| UdpSocket::bind(at).expect("a socket"));
    let (v4, v6) = (v4.parse().expect("IPv4"), v6.parse().expect("IPv6"));
    thread::spawn(move || {
        let mut message = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut message) {
            let _ = socket.send_to(&answer(&message[..length], v4, v6), from);
        }
    });
}

/// `curl`, with the system's own resolver, which asks `resolver`.
fn curl(ns: &NetNs, dir: &Path, resolver: &str, arguments: &str) -> Run {
    let file = dir.join("resolv.conf");
    std::fs::write(&file, format!("nameserver {resolver}\noptions timeout:2\n")).expect("a file");
    let script = dir.join("curl.sh");
    let text = format!(
        "mount --bind {} /etc/resolv.conf && exec curl -sS -k --noproxy '*' --max-time 5 {arguments}",
        file.display()
    );
    std::fs::write(&script, text).expect("a file");
    run(ns, &format!("unshare -m sh {}", script.display()), LONG)
}

fn inode(ns: &NetNs) -> u64 {
    std::fs::metadata(ns.path()).map_or(0, |meta| meta.ino())
}

fn ended(lab: &Lab, daemon: &Daemon, filter: &str) -> Value {
    wait_for("the end of a socket", SOON, || {
        daemon.rows(&["sockets", "--ended", &lab.mine(filter)]).first().cloned()
    })
    .unwrap()
}

fn stats(daemon: &Daemon) -> Value {
    daemon.json(&["names", "--stats"])
}

fn observed(stats: &Value, kind: &str, field: &str) -> u64 {
    let kinds = stats["observed"].as_array().expect("kinds");
    let row = kinds.iter().find(|row| row["kind"] == kind).expect("the kind");
    row[field].as_u64().expect("a number")
}

#[test]
fn what_a_client_resolved_is_the_name_of_its_connection() {
    let _no_flood = no_flood();
    let test = "e2e_names::what_a_client_resolved_is_the_name_of_its_connection";
    let Some((lab, daemon)) = setup(test, true) else { return };
    dns_server(&lab.server, (Lab::SERVER4, 53), Lab::SERVER4, Lab::SERVER6);
    let _v4 = TcpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    let _v6 = TcpEcho::start(&lab.server, &format!("[{}]:7", Lab::SERVER6)).unwrap();
    // Whether the echo is a page is not of interest.
    curl(&lab.gate, &daemon.dir, Lab::SERVER4, "-4 http://Shop.example:7/");
    let row = ended(&lab, &daemon, "comm=curl and remote_port=7 and family=4");
    assert_eq!(
        (&row["name"], &row["name_source"]),
        (&"shop.example".into(), &"dns".into()),
        "{row}"
    );
    assert_eq!(row["other_names"], 0);
    curl(&lab.gate, &daemon.dir, Lab::SERVER4, "-6 http://shop.example:7/");
    let row = ended(&lab, &daemon, "comm=curl and remote_port=7 and family=6");
    assert_eq!(
        (&row["name"], &row["remote"]),
        (&"shop.example".into(), &Lab::SERVER6.into()),
        "{row}"
    );
    // The filter knows it, and a live socket has it.
    let live = lab.gate.run(|| TcpStream::connect((Lab::SERVER4, 7)).unwrap());
    let rows = daemon.rows(&["sockets", &lab.mine("name~shop and state=established and pid>0")]);
    assert!(rows.iter().any(|row| row["pid"] == std::process::id()), "{rows:?}");
    // A second name of the same address: what begins later has that one, what there is keeps its own.
    curl(&lab.gate, &daemon.dir, Lab::SERVER4, "-4 http://bank.example:7/");
    let row = ended(&lab, &daemon, "comm=curl and name=bank.example");
    assert_eq!(row["other_names"], 1, "{row}");
    let port = live.local_addr().unwrap().port();
    let row = &daemon.rows(&["sockets", &lab.mine(&format!("local_port={port}"))])[0];
    assert_eq!(row["name"], "shop.example", "{row}");
    let id = row["id"].as_str().expect("an id");
    let shown = daemon.cli(&["socket", "show", id]).stdout;
    assert!(shown.contains("shop.example, as DNS answered"), "{shown}");
    // In the namespace where nobody asked, the address has no name.
    let _other = lab.client.run(|| TcpStream::connect((Lab::SERVER4, 7)).unwrap());
    let client = format!("netns={} and remote_port=7", inode(&lab.client));
    let rows = daemon.rows(&["sockets", &client]);
    assert_eq!((rows.len(), &rows[0]["name"]), (1, &Value::Null), "{rows:?}");
    // The list, and the hosts.
    let gate = inode(&lab.gate);
    let rows = daemon.rows(&["names", &format!("netns={gate} and address={}", Lab::SERVER4)]);
    let mut names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["bank.example", "shop.example"]);
    assert!(rows.iter().all(|row| row["server"] == Lab::SERVER4 && row["expired"] == false));
    let hosts = daemon.rows(&["summary", "by", "host", "--filter", "name=bank.example"]);
    assert_eq!(hosts[0]["key"], Lab::SERVER4, "{hosts:?}");
    // What has ended keeps it, in the history too.
    wait_for("the history", SOON, || {
        let rows = daemon.rows(&["history", "name=bank.example", "--since", "1h"]);
        (rows.first()?["name_source"] == "dns").then_some(())
    })
    .unwrap();
    let sums = daemon.rows(&["history", "--by", "name", "--since", "1h"]);
    assert!(sums.iter().any(|row| row["key"] == "shop.example"), "{sums:?}");
    let table = daemon.cli(&["sockets", &lab.mine("name=shop.example")]).stdout;
    assert!(table.contains("NAME") && table.contains("shop.example"), "{table}");
    drop(live);
}

#[test]
fn what_a_hello_asks_for_is_the_name_of_its_connection() {
    let _no_flood = no_flood();
    let test = "e2e_names::what_a_hello_asks_for_is_the_name_of_its_connection";
    let Some((lab, daemon)) = setup(test, true) else { return };
    let listener = lab.server.run(|| TcpListener::bind((Lab::SERVER4, 443)).expect("a listener"));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || (&client).read(&mut [0; 8192]));
        }
    });
    let to = format!("--resolve api.example:443:{} https://API.example/", Lab::SERVER4);
    curl(&lab.client, &daemon.dir, Lab::SERVER4, &to);
    let row = ended(&lab, &daemon, "comm=curl and remote_port=443");
    assert_eq!(
        (&row["name"], &row["name_source"]),
        (&"api.example".into(), &"sni".into()),
        "{row}"
    );
    // Not TLS at all, though nearly; and a hello that is longer than what is taken.
    let send = |bytes: &[u8]| {
        let mut client =
            lab.client.run(|| TcpStream::connect((Lab::SERVER4, 443)).expect("connected"));
        client.write_all(bytes).expect("sent");
    };
    let before = stats(&daemon);
    send(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00");
    let mut long = b"\x16\x03\x01\x10\x00\x01\x00\x0f\xfc\x03\x03".to_vec();
    long.resize(4101, 0);
    send(&long);
    send(b"GET / HTTP/1.1\r\n\r\n");
    wait_for("both to be told of", SOON, || {
        let now = stats(&daemon);
        let more = |field| observed(&now, "hello", field) - observed(&before, "hello", field);
        let cut = now["incomplete"].as_u64()? - before["incomplete"].as_u64()?;
        // Others' connections may be among them.
        (more("unread") >= 1 && cut >= 1 && more("delivered") >= 2).then_some(())
    })
    .unwrap();
}

#[test]
fn what_nobody_asked_for_is_not_believed() {
    let _no_flood = no_flood();
    let test = "e2e_names::what_nobody_asked_for_is_not_believed";
    let Some((lab, daemon)) = setup(test, true) else { return };
    let liar = lab.server.run(|| UdpSocket::bind((Lab::SERVER4, 53)).expect("a socket"));
    // Open to anybody.
    let victim = lab.gate.run(|| UdpSocket::bind("0.0.0.0:5300").expect("a socket"));
    victim.set_read_timeout(Some(SOON)).unwrap();
    let question =
        b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04bank\x07example\x00\x00\x01\x00\x01";
    let lie = answer(question, "10.77.2.66".parse().unwrap(), Ipv6Addr::LOCALHOST);
    let before = stats(&daemon)["unasked"].as_u64().unwrap();
    let gate: SocketAddr = "10.77.2.1:5300".parse().unwrap();
    liar.send_to(&lie, gate).unwrap();
    victim.recv(&mut [0; 512]).expect("it comes, as all packets do");
    wait_for("the count of it", SOON, || {
        (stats(&daemon)["unasked"].as_u64()? > before).then_some(())
    })
    .unwrap();
    let mine = format!("netns={} and name~bank", inode(&lab.gate));
    assert_eq!(daemon.rows(&["names", &mine]), Vec::<Value>::new());
    // Once it has asked, it is.
    victim.send_to(question, (Lab::SERVER4, 53)).unwrap();
    liar.send_to(&lie, gate).unwrap();
    wait_for("the name", SOON, || daemon.rows(&["names", &mine]).first().cloned()).unwrap();
}

#[test]
fn a_resolver_behind_a_translation_is_understood() {
    let _no_flood = no_flood();
    let test = "e2e_names::a_resolver_behind_a_translation_is_understood";
    if let Some(reason) = missing_tools(&["nft"]) {
        return sluice_tests::skip::skip(test, &reason);
    }
    let Some((lab, daemon)) = setup(test, true) else { return };
    // As containers' resolvers and services of clusters have it: another address, and another port.
    dns_server(&lab.server, (Lab::SERVER4, 5300), Lab::SERVER4, Lab::SERVER6);
    let rules = "table ip away {
        chain out {
        type nat hook output priority -100
        ip daddr 10.99.0.53 udp dport 53 dnat to 10.77.2.2:5300
        }
    }";
    lab.client.feed("nft", &["-f", "-"], rules).unwrap();
    let _echo = TcpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    curl(&lab.client, &daemon.dir, "10.99.0.53", "-4 http://shop.example:7/");
    let row = ended(&lab, &daemon, "comm=curl and remote_port=7");
    assert_eq!(
        (&row["name"], &row["name_source"]),
        (&"shop.example".into(), &"dns".into()),
        "{row}"
    );
    let listed = daemon.rows(&["names", &format!("netns={}", inode(&lab.client))]);
    assert_eq!(listed[0]["server"], "10.99.0.53", "{listed:?}");
}

#[test]
fn every_message_is_delivered_or_counted() {
    let _alone = FLOOD.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let test = "e2e_names::every_message_is_delivered_or_counted";
    let Some((lab, daemon)) = setup(test, true) else { return };
    let client = lab.client.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect((Lab::SERVER4, 53)).expect("connected");
        socket
    });
    let mut question =
        b"\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x00\x00\x01\x00\x01"
            .to_vec();
    let before = observed(&stats(&daemon), "question", "produced");
    const SENT: u16 = 30_000;
    for id in 0..SENT {
        question[..2].copy_from_slice(&id.to_be_bytes());
        // The far end's refusal comes back to the one after.
        let _ = client.send(&question);
    }
    wait_for("all of them", SOON, || {
        let now = stats(&daemon);
        let of = |field| observed(&now, "question", field);
        let all = of("produced") - before >= u64::from(SENT) / 2;
        (all && of("produced") == of("delivered") + of("lost")).then_some(())
    })
    .unwrap();
    // 4,096 wait for an answer, and none ever comes.
    let stats = stats(&daemon);
    assert!(stats["questions_forgotten"].as_u64().unwrap() > 0, "{stats}");
}

#[test]
fn names_are_read_only_where_that_is_wanted() {
    let _no_flood = no_flood();
    let test = "e2e_names::names_are_read_only_where_that_is_wanted";
    let Some((lab, daemon)) = setup(test, false) else { return };
    let refused = daemon.cli(&["names"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("names = true"), "{refused:?}");
    assert_eq!(daemon.json(&["sockets", "--stats"])["names"], Value::Null);
    dns_server(&lab.server, (Lab::SERVER4, 53), Lab::SERVER4, Lab::SERVER6);
    let _echo = TcpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    curl(&lab.gate, &daemon.dir, Lab::SERVER4, "-4 http://shop.example:7/");
    let row = ended(&lab, &daemon, "comm=curl and remote_port=7");
    assert_eq!((&row["name"], &row["name_source"]), (&Value::Null, &Value::Null), "{row}");
}
