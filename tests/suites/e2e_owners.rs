//! Rules by owner, as processes meet them: real calls by real processes, refused and let by; counted, told, kept.

#[path = "e2e_owners/places.rs"]
mod places;
#[path = "e2e_owners/survival.rs"]
mod survival;

use serde_json::Value;
use sluice_tests::lab::{Daemon, DaemonOptions, Lab, NetNs, TcpEcho, UdpEcho, wait_for};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);
/// Whoever runs as this user here does so for these tests.
const NOBODY: u32 = 65_534;

fn setup(test: &str, policy: &str) -> Option<(Lab, Daemon)> {
    let lab = Lab::or_skip(test)?;
    let daemon = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(policy))?;
    Some((lab, daemon))
}

fn address(host: &str, port: u16) -> SocketAddr {
    format!("{host}:{port}").parse().expect("an address")
}

/// What this process is called.
fn my_name() -> String {
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", std::process::id()));
    comm.expect("a name").trim().to_owned()
}

/// Bash by another name and as another file.
fn bash_as(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::copy("/bin/bash", &path).expect("a copy of bash");
    path
}

/// Whether `bash`, run in a namespace, can connect; what it said.
fn connects(ns: &NetNs, bash: &Path, to: SocketAddr, uid: u32) -> Result<(), String> {
    connects_after(ns, bash, to, uid, "")
}

/// As [`connects`], once `first` was done.
fn connects_after(
    ns: &NetNs,
    bash: &Path,
    to: SocketAddr,
    uid: u32,
    first: &str,
) -> Result<(), String> {
    let line = format!("{first} exec 3<>/dev/tcp/{}/{}", to.ip(), to.port());
    let user = format!("--reuid={uid}");
    let mut command = ns.command("setpriv");
    command.args([&user, "--", &bash.display().to_string(), "-c", &line]).env("LC_ALL", "C");
    let done = command.output().expect("bash runs");
    if done.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    }
}

fn hits(daemon: &Daemon, rule: &str) -> u64 {
    daemon.rule(rule)["hits"].as_u64().expect("a number")
}

fn calls(daemon: &Daemon, filter: &str) -> Vec<Value> {
    daemon.rows(&["events", &format!("class=call and {filter}")])
}

#[test]
fn a_process_by_its_name_gets_eperm_and_others_connect() {
    let test = "e2e_owners::a_process_by_its_name_gets_eperm_and_others_connect";
    let policy = "rule no-sly drop out tcp to port 7 process { sly-one, sly-two }\n\
                  rule no-sly6 reject out ipv6 process sly-three";
    let Some((lab, daemon)) = setup(test, policy) else { return };
    let _echo = TcpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    let to = address(Lab::SERVER4, 7);
    let [sly, other] = ["sly-one", "honest"].map(|name| bash_as(&daemon.dir, name));
    connects(&lab.gate, &other, to, 0).expect("another process");
    let said = connects(&lab.gate, &sly, to, 0).unwrap_err();
    assert!(said.contains("Operation not permitted"), "{said}");
    // Another port is another matter: nobody listens there.
    let said = connects(&lab.gate, &sly, address(Lab::SERVER4, 8), 0).unwrap_err();
    assert!(said.contains("Connection refused"), "{said}");
    assert_eq!(hits(&daemon, "no-sly"), 1);
    let told = wait_for("the call's event", SOON, || calls(&daemon, "comm=sly-one").pop()).unwrap();
    assert_eq!((&told["rule"], &told["verdict"]), (&"no-sly".into(), &"drop".into()), "{told}");
    assert_eq!((&told["dst"], &told["dport"]), (&Lab::SERVER4.into(), &7.into()), "{told}");
    assert_eq!(told["caller"]["uid"], 0, "{told}");
    // Among the sockets that have ended, with the cause.
    let denied = daemon.rows(&["sockets", "--ended", "ended=denied and comm=sly-one"]);
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!((&denied[0]["rule"], &denied[0]["pid"]), (&told["rule"], &told["caller"]["pid"]));
    // In other namespaces the rules aren't for anybody.
    connects(&lab.client, &sly, to, 0).expect("of another namespace");
    // An IPv4 address in IPv6's clothes is an IPv4 address.
    let mapped: SocketAddr = format!("[::ffff:{}]:7", Lab::SERVER4).parse().unwrap();
    let said = connects(&lab.gate, &sly, mapped, 0).unwrap_err();
    assert!(said.contains("Operation not permitted"), "{said}");
    let three = bash_as(&daemon.dir, "sly-three");
    connects(&lab.gate, &three, to, 0).expect("not about IPv4");
    connects(&lab.gate, &three, mapped, 0).expect("IPv4 all the same");
    let said = connects(&lab.gate, &three, address(&format!("[{}]", Lab::SERVER6), 7), 0);
    assert!(said.unwrap_err().contains("Connection refused"), "reject");
    assert_eq!(hits(&daemon, "no-sly6"), 1);
}

#[test]
fn a_user_is_refused_and_root_is_not() {
    let test = "e2e_owners::a_user_is_refused_and_root_is_not";
    let policy = format!("rule users reject out tcp user {{ {NOBODY}, no-such-user }}");
    let Some((lab, daemon)) = setup(test, &policy) else { return };
    let _echo = TcpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    let (to, bash) = (address(Lab::SERVER4, 7), Path::new("/bin/bash"));
    connects(&lab.gate, bash, to, 0).expect("root");
    let said = connects(&lab.gate, bash, to, NOBODY).unwrap_err();
    assert!(said.contains("Connection refused"), "as if the other end had: {said}");
    assert_eq!(hits(&daemon, "users"), 1);
    let status = daemon.json(&["status"]).to_string();
    assert!(status.contains("there is no user `no-such-user`"), "{status}");
}

#[test]
fn an_executable_is_followed_when_it_is_replaced() {
    let test = "e2e_owners::an_executable_is_followed_when_it_is_replaced";
    let Some((lab, mut daemon)) = setup(test, "") else { return };
    let _echo = TcpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    let to = address(Lab::SERVER4, 7);
    let program = bash_as(&daemon.dir, "a program");
    daemon.apply(&format!("rule not-it drop out exe \"{}\" log", program.display()));
    connects(&lab.gate, &program, to, 0).expect_err("it is meant");
    connects(&lab.gate, Path::new("/bin/bash"), to, 0).expect("another file");
    // A hard link is the same file, and a copy isn't.
    let link = daemon.dir.join("link");
    std::fs::hard_link(&program, &link).unwrap();
    connects(&lab.gate, &link, to, 0).expect_err("the same file");
    let copy = bash_as(&daemon.dir, "copy");
    connects(&lab.gate, &copy, to, 0).expect("another file");
    // As a package's upgrade does it.
    std::fs::rename(&copy, &program).unwrap();
    wait_for("the new file to be meant", SOON, || {
        connects(&lab.gate, &program, to, 0).is_err().then_some(())
    })
    .unwrap();
    wait_for("the old one to be forgotten", SOON, || {
        connects(&lab.gate, &link, to, 0).is_ok().then_some(())
    })
    .expect("nobody runs it");
    assert!(daemon.alive());
}

#[test]
fn everybody_but_one_and_in_order() {
    let test = "e2e_owners::everybody_but_one_and_in_order";
    let policy = "rule good allow out tcp process good\n\
                  rule seen count out tcp process any\n\
                  rule but drop out tcp to port 7 process not { fair }\n\
                  rule rest drop out tcp to port 9 process any";
    let Some((lab, daemon)) = setup(test, policy) else { return };
    let _seven = TcpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    let _nine = TcpEcho::start(&lab.server, &format!("{}:9", Lab::SERVER4)).unwrap();
    let [good, fair, poor] = ["good", "fair", "poor"].map(|name| bash_as(&daemon.dir, name));
    let (seven, nine) = (address(Lab::SERVER4, 7), address(Lab::SERVER4, 9));
    for (bash, to, may) in [
        (&good, seven, true),
        (&good, nine, true),
        (&fair, seven, true),
        (&fair, nine, false),
        (&poor, seven, false),
    ] {
        assert_eq!(connects(&lab.gate, bash, to, 0).is_ok(), may, "{} {to}", bash.display());
    }
    let counts = ["good", "seen", "but", "rest"].map(|rule| hits(&daemon, rule));
    assert_eq!(counts, [2, 3, 1, 1]);
}

#[test]
fn what_comes_in_is_judged_by_who_listens() {
    let test = "e2e_owners::what_comes_in_is_judged_by_who_listens";
    let me = my_name();
    let Some((lab, daemon)) = setup(test, "") else { return };
    // One older than the rules, one younger.
    let old = lab.gate.run(|| TcpListener::bind("0.0.0.0:9000").unwrap());
    daemon.apply(&format!(
        "rule mine drop in tcp from {} to port {{ 9000, 9001 }} process {me}\n\
         rule theirs drop in tcp process not {me}",
        Lab::CLIENT4
    ));
    let young = lab.gate.run(|| TcpListener::bind("0.0.0.0:9001").unwrap());
    let other = lab.gate.run(|| TcpListener::bind("0.0.0.0:9002").unwrap());
    let connect = |port: u16| {
        let to = address(Lab::GATE4, port);
        lab.client.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(400)))
    };
    assert_eq!(connect(9000).unwrap_err().kind(), ErrorKind::TimedOut, "older");
    assert_eq!(connect(9001).unwrap_err().kind(), ErrorKind::TimedOut, "younger");
    let _client = connect(9002).expect("nothing is said of this port");
    let _accepted = other.accept().unwrap();
    assert!(hits(&daemon, "mine") >= 2);
    assert_eq!(hits(&daemon, "theirs"), 0);
    let told = wait_for("the event", SOON, || calls(&daemon, "rule=mine").pop()).unwrap();
    assert_eq!((&told["direction"], &told["caller"]["comm"]), (&"in".into(), &me.into()), "{told}");
    assert_eq!(told["src"], Lab::CLIENT4, "{told}");
    drop((old, young));
}

#[test]
fn datagrams_are_judged_and_answers_are_not() {
    let test = "e2e_owners::datagrams_are_judged_and_answers_are_not";
    let me = my_name();
    let policy = format!(
        "rule in drop in udp process {me}\nrule out drop out udp to port 9 process {me}\n\
         rule served allow in udp to port 5001 process any"
    );
    let Some((lab, daemon)) = setup(test, &policy) else { return };
    let _echo = UdpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    let socket = lab.gate.run(|| UdpSocket::bind("0.0.0.0:5000").unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut buffer = [0; 64];
    // Asked, without a connection: the answer comes.
    socket.send_to(b"asked", address(Lab::SERVER4, 7)).unwrap();
    let (n, _) = socket.recv_from(&mut buffer).expect("an answer");
    assert_eq!(&buffer[..n], b"asked");
    // Not asked: it doesn't.
    let stranger = lab.client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    stranger.send_to(b"unasked", address(Lab::GATE4, 5000)).unwrap();
    assert!(socket.recv_from(&mut buffer).is_err(), "nobody asked for it");
    assert_eq!(hits(&daemon, "in"), 1);
    // Neither way of sending is let by.
    let error = socket.send_to(b"no", address(Lab::SERVER4, 9)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "sendmsg");
    let error = socket.connect(address(Lab::SERVER4, 9)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "connect");
    assert_eq!(hits(&daemon, "out"), 2);
    // Who was let in is answered, whatever is said of what goes out.
    daemon.apply(&format!(
        "rule served allow in udp to port 5001 process {me}\nrule out drop out udp process {me}"
    ));
    let server = lab.gate.run(|| UdpSocket::bind("0.0.0.0:5001").unwrap());
    server.set_read_timeout(Some(SOON)).unwrap();
    stranger.send_to(b"question", address(Lab::GATE4, 5001)).unwrap();
    let (_, from) = server.recv_from(&mut buffer).expect("a question");
    server.send_to(b"answer", from).expect("it was asked");
    stranger.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(stranger.recv_from(&mut buffer).expect("an answer").0, 6);
    let to = address(Lab::SERVER4, 7);
    assert_eq!(server.send_to(b"of itself", to).unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[test]
fn pings_are_judged_as_packets() {
    let test = "e2e_owners::pings_are_judged_as_packets";
    let policy = "rule no-ping drop out icmp to 10.77.2.2 process ping\n\
                  rule no-ping6 drop out icmpv6 process ping";
    if let Some(why) = sluice_tests::lab::missing_tools(&["ping"]) {
        return sluice_tests::skip::skip(test, &why);
    }
    let Some((lab, daemon)) = setup(test, policy) else { return };
    assert!(!lab.gate.ping(Lab::SERVER6, 1), "IPv6");
    let before = hits(&daemon, "no-ping6");
    assert!(before >= 1, "a packet of the socket's");
    daemon.apply("");
    assert!(lab.gate.ping(Lab::SERVER6, 1), "no rule any more");
}

#[test]
fn a_check_says_what_such_a_rule_cannot_ask() {
    let test = "e2e_owners::a_check_says_what_such_a_rule_cannot_ask";
    let Some((_lab, daemon)) = setup(test, "") else { return };
    let file = daemon.dir.join("wrong.sluice");
    std::fs::write(&file, "rule a drop out tcp on wan0 process x\n").unwrap();
    let said = daemon.cli(&["apply", "--yes", file.to_str().unwrap()]);
    assert_ne!(said.code, 0);
    assert!(said.stdout.contains("can't ask for an interface"), "{said:?}");
    assert_eq!(daemon.json(&["status"])["rules"], 0, "what ran, runs on");
}

#[test]
fn what_is_learnt_is_a_policy_that_lets_it_by_and_no_more() {
    let test = "e2e_owners::what_is_learnt_is_a_policy_that_lets_it_by_and_no_more";
    let Some((lab, daemon)) = setup(test, "") else { return };
    let _seven = TcpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    let _nine = TcpEcho::start(&lab.server, &format!("{}:9", Lab::SERVER4)).unwrap();
    let (seven, nine) = (address(Lab::SERVER4, 7), address(Lab::SERVER4, 9));
    let name = format!("pupil-{}", std::process::id());
    let pupil = bash_as(&daemon.dir, &name);
    let said = daemon.cli(&["learn", "process", &name]);
    assert!(said.code != 0 && said.stderr.contains("no socket"), "{said:?}");
    connects(&lab.gate, &pupil, seven, 0).expect("nothing is forbidden yet");
    let learnt = wait_for("its socket to be seen", SOON, || {
        let said = daemon.cli(&["learn", "process", &name]);
        (said.code == 0).then_some(said.stdout)
    })
    .unwrap();
    assert!(learnt.contains(&format!("to {} port 7 process {name}", Lab::SERVER4)), "{learnt}");
    daemon.apply(&learnt);
    connects(&lab.gate, &pupil, seven, 0).expect("as learnt");
    connects(&lab.gate, &pupil, nine, 0).expect_err("it never did that");
    connects(&lab.gate, Path::new("/bin/bash"), nine, 0).expect("somebody else");
    let rest = format!("{name}-rest-out");
    assert_eq!(hits(&daemon, &rest), 1, "{learnt}");
    let stats = daemon.json(&["stats"]);
    assert!(stats["owners"]["judged"].as_u64() >= Some(2), "{stats}");
}

#[test]
fn what_ended_long_ago_is_learnt_from_the_history() {
    let test = "e2e_owners::what_ended_long_ago_is_learnt_from_the_history";
    let Some((lab, mut daemon)) = setup(test, "") else { return };
    let _seven = TcpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    let seven = address(Lab::SERVER4, 7);
    let name = format!("alum-{}", std::process::id());
    let pupil = bash_as(&daemon.dir, &name);
    for _ in 0..3 {
        connects(&lab.gate, &pupil, seven, 0).expect("nothing is forbidden yet");
    }
    let filter = format!("comm={name}");
    wait_for("them to be written", SOON * 3, || {
        (daemon.rows(&["history", &filter]).len() == 3).then_some(())
    })
    .unwrap();
    // What is kept and what is written are the same sockets.
    let learn = ["learn", "process", &name, "--since", "1h"];
    let view = daemon.json(&learn);
    let told = |view: &Value| {
        let history = view["history"]["sockets"].clone();
        [view["sockets"].clone(), view["live"].clone(), view["kept"].clone(), history]
    };
    assert_eq!(told(&view), [3, 0, 3, 0].map(Value::from), "{view:#}");
    // A daemon that has just begun has seen nothing of it.
    assert_eq!(daemon.terminate(), 0);
    daemon.start();
    let said = daemon.cli(&["learn", "process", &name]);
    assert!(said.code == 2 && said.stderr.contains("--since 24h"), "{said:?}");
    let view = daemon.json(&learn);
    assert_eq!(told(&view), [3, 0, 0, 3].map(Value::from), "{view:#}");
    assert_eq!((&view["history"]["lost"], &view["rules"][0]["sockets"]), (&0.into(), &3.into()));
    let rule = format!("rule {name}-out-1 allow out tcp to {} port 7 process {name}", Lab::SERVER4);
    assert_eq!(view["rules"][0]["text"], rule, "{view:#}");
    let text = daemon.cli(&learn).stdout;
    assert!(text.contains("# 0 live, 0 that ended lately, 3 of the history since "), "{text}");
    let policy = daemon.dir.join("learnt.sluice");
    std::fs::write(&policy, &text).unwrap();
    assert_eq!(daemon.cli(&["check", &policy.display().to_string()]).code, 0, "{text}");
    let said = daemon.cli(&["learn", "process", &name, "--since", "soon"]);
    assert!(said.code == 2 && said.stderr.contains("`since` is `soon`"), "{said:?}");
    let said = daemon.cli(&["learn", "process", "nobody-at-all", "--since", "1h"]);
    assert!(said.code == 2 && said.stderr.contains("nor has the history"), "{said:?}");
}
