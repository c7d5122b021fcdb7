//! `sluice paths`: each way in and out is listed, with what hangs there, whose it is, and whether Sluice
//! judges it.

use serde_json::Value;
use sluice_tests::bpf::{Asm, Hook, Kind, Link, Program};
use sluice_tests::lab::{
    Daemon, DaemonOptions, Lab, NetNs, RawSocket, missing_tools, sluice_bin, wait_for,
};
use sluice_tests::skip::skip;
use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const POLICY: &str = "default in drop\ndefault out allow\n\
    rule tunnel bypass in on wan0 udp to port 4789 => xsk\n";

/// The report's row, once it satisfies `is`.
#[track_caller]
fn row(daemon: &Daemon, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = wait_for(what, SOON, || {
        last = daemon.json(&["paths"]);
        last["rows"].as_array().unwrap().iter().find(|row| is(row)).cloned()
    });
    found.unwrap_or_else(|late| panic!("{late}: {last:#}"))
}

fn interface<'a>(name: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |row| row["kind"] == "interface" && row["name"] == name && row["netns"].is_null()
}

fn shares(row: &Value) -> (&str, &str) {
    (row["filtered"].as_str().unwrap(), row["accounted"].as_str().unwrap())
}

fn says(row: &Value, field: &str, words: &str) {
    assert!(row[field].as_str().is_some_and(|text| text.contains(words)), "{words}: {row:#}");
}

/// Hooks of a row with ours marked, in their order.
fn hooks(row: &Value) -> Vec<String> {
    let hook = |program: &Value| {
        let ours = if program["ours"] == true { " ours" } else { "" };
        format!("{}{ours}", program["hook"].as_str().unwrap())
    };
    row["attached"].as_array().unwrap().iter().map(hook).collect()
}

fn attach(ns: &NetNs, name: &str, hook: Hook, program: &Program) -> Link {
    let index = ns.ifindex(name).unwrap();
    ns.run(|| Link::attach(program, index, hook)).unwrap()
}

#[test]
fn programs_and_chains_stand_in_the_order_that_packets_meet_them() {
    let test = "e2e_paths::programs_and_chains_stand_in_the_order_that_packets_meet_them";
    let Some(lab) = Lab::or_skip(test) else { return };
    let pass = Program::returning(2).unwrap();
    let foreign = attach(&lab.gate, "wan0", Hook::Xdp, &pass);
    let options = DaemonOptions::on(POLICY, &[("wan0", "tc"), ("lan0", "tc")]);
    let Some(daemon) = Daemon::or_skip(test, &lab.gate, options) else { return };
    let rules = "table inet pth {\nchain later { type filter hook input priority 7; }\n\
        chain input { type filter hook input priority -5; }\nchain plain {\n}\n}\n";
    lab.gate.feed("nft", &["-f", "-"], rules).unwrap();

    let wan = row(&daemon, "a foreign XDP program and a chain at wan0", |row| {
        interface("wan0")(row) && row["mode"] == "native" && hooks(row).contains(&"nf-input".into())
    });
    assert_eq!(shares(&wan), ("part", "part"), "{wan:#}");
    says(&wan, "why", "sees packets before Sluice does");
    says(&wan, "todo", "ip link set dev wan0 xdp off");
    let expected = ["xdp", "tcx-in ours", "nf-input", "nf-input", "tcx-out ours"];
    assert_eq!(hooks(&wan), expected, "{wan:#}");
    let chains: Vec<(&Value, &Value)> = wan["attached"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|program| program["hook"] == "nf-input")
        .map(|program| (&program["name"], &program["priority"]))
        .collect();
    let chain = |name: &str, priority: i32| (Value::from(name), Value::from(priority));
    let expected = [chain("inet pth input", -5), chain("inet pth later", 7)];
    assert!(
        chains.iter().zip(&expected).all(|(seen, want)| *seen == (&want.0, &want.1)),
        "{wan:#}"
    );
    let xdp = &wan["attached"][0];
    assert!(xdp["id"].as_u64().is_some_and(|id| id > 0), "{xdp}");

    // Nobody stands before Sluice on the other side; whoever stands behind it takes nothing away.
    let _behind = attach(&lab.gate, "lan0", Hook::TcxIn, &pass_at_tc());
    let lan = row(&daemon, "a program behind Sluice's", |row| {
        interface("lan0")(row) && hooks(row).starts_with(&["tcx-in ours".into(), "tcx-in".into()])
    });
    assert_eq!(shares(&lan), ("yes", "yes"), "{lan:#}");
    assert!(lan["todo"].is_null(), "{lan:#}");

    drop(foreign);
    let wan =
        row(&daemon, "wan0 without it", |row| interface("wan0")(row) && row["mode"].is_null());
    assert_eq!(shares(&wan), ("yes", "yes"), "{wan:#}");
}

/// TCX_NEXT: whatever comes behind decides.
fn pass_at_tc() -> Program {
    Program::load(Kind::Tc, &Asm::returning(u32::MAX)).unwrap()
}

/// What kernels before 6.6 have: our programs are classifiers there, and still ours.
#[test]
fn classifiers_of_ours_are_known_as_ours() {
    let test = "e2e_paths::classifiers_of_ours_are_known_as_ours";
    let Some(lab) = Lab::or_skip(test) else { return };
    let options = DaemonOptions { clsact: true, ..DaemonOptions::on(POLICY, &[("wan0", "tc")]) };
    let Some(daemon) = Daemon::or_skip(test, &lab.gate, options) else { return };
    let wan = row(&daemon, "wan0", interface("wan0"));
    assert_eq!(hooks(&wan), ["tc-in ours", "tc-out ours"], "{wan:#}");
    assert_eq!(shares(&wan), ("yes", "yes"), "{wan:#}");
    // TCX comes before all classifiers.
    let _before = attach(&lab.gate, "wan0", Hook::TcxIn, &pass_at_tc());
    let wan = row(&daemon, "wan0 with a TCX program", |row| {
        interface("wan0")(row) && hooks(row).contains(&"tcx-in".into())
    });
    assert_eq!(hooks(&wan), ["tcx-in", "tc-in ours", "tc-out ours"], "{wan:#}");
    assert_eq!(shares(&wan), ("part", "part"), "{wan:#}");
    says(&wan, "why", "TCX program of id");
}

#[test]
fn interfaces_without_sluice_and_those_over_others_are_told_apart() {
    let test = "e2e_paths::interfaces_without_sluice_and_those_over_others_are_told_apart";
    let Some(lab) = Lab::or_skip(test) else { return };
    let options = DaemonOptions::on(POLICY, &[("wan0", "tc")]);
    let Some(daemon) = Daemon::or_skip(test, &lab.gate, options) else { return };
    let guest = NetNs::new("guest").unwrap();
    let gate = &lab.gate;
    for (name, mode) in [("mac0", "bridge"), ("mac1", "private"), ("mac2", "bridge")] {
        gate.ip(&["link", "add", name, "link", "wan0", "type", "macvlan", "mode", mode]).unwrap();
        gate.ip(&["link", "set", name, "up"]).unwrap();
    }
    gate.ip(&["link", "set", "mac2", "netns", guest.path().to_str().unwrap()]).unwrap();
    gate.ip(&["link", "add", "br0", "type", "bridge"]).unwrap();
    gate.ip(&["link", "set", "br0", "up"]).unwrap();

    let mac0 = row(&daemon, "mac0", interface("mac0"));
    assert_eq!((shares(&mac0), &mac0["device"]), (("part", "part"), &"macvlan".into()), "{mac0:#}");
    says(&mac0, "parent", "over wan0");
    says(&mac0, "why", "not what the interfaces over it send each other");
    let mac1 = row(&daemon, "mac1", interface("mac1"));
    assert_eq!(shares(&mac1), ("yes", "yes"), "{mac1:#}");
    let away = row(&daemon, "mac2 in its namespace", |row| {
        row["name"] == "mac2" && row["netns"].is_string()
    });
    assert_eq!(shares(&away), ("part", "part"), "{away:#}");
    says(&away, "parent", "over wan0 of the daemon's namespace");

    let lan = row(&daemon, "lan0", interface("lan0"));
    assert_eq!((shares(&lan), &lan["device"]), (("no", "no"), &"veth".into()), "{lan:#}");
    says(&lan, "parent", "other end: s0 in netns net:[");
    says(&lan, "todo", "name = \"lan0\"");
    let far = |name: &'static str| {
        row(&daemon, name, move |row| {
            row["name"] == name
                && row["parent"].as_str().is_some_and(|text| text.contains("daemon's namespace"))
                && row["netns"].is_string()
        })
    };
    assert_eq!(shares(&far("s0")), ("no", "no"), "behind lan0, where nobody judges");
    assert_eq!(shares(&far("c0")), ("yes", "yes"), "behind wan0");

    let bridge = row(&daemon, "br0", interface("br0"));
    assert_eq!(
        (shares(&bridge), &bridge["device"]),
        (("no", "no"), &"bridge".into()),
        "{bridge:#}"
    );
    gate.ip(&["link", "set", "lan0", "master", "br0"]).unwrap();
    let port = row(&daemon, "lan0 at the bridge", |row| {
        interface("lan0")(row)
            && row["parent"].as_str().is_some_and(|text| text.ends_with("port of br0"))
    });
    assert_eq!(shares(&port), ("no", "no"), "{port:#}");
    let lo = row(&daemon, "lo", interface("lo"));
    assert_eq!((shares(&lo), &lo["todo"]), (("no", "no"), &Value::Null), "{lo:#}");
}

/// A running program, killed at the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sockets_that_take_packets_have_owners() {
    let test = "e2e_paths::sockets_that_take_packets_have_owners";
    let Some(lab) = Lab::or_skip(test) else { return };
    let options = DaemonOptions::on(POLICY, &[("wan0", "xdp")]);
    let Some(daemon) = Daemon::or_skip(test, &lab.gate, options) else { return };
    let me = std::process::id();
    let owned = move |row: &Value, pid: u32| {
        row["owners"].as_array().unwrap().iter().any(|owner| owner["pid"] == pid)
    };
    let packet = move |row: &Value, name: &str| {
        row["kind"] == "af-packet" && row["name"] == name && owned(row, me)
    };
    let _wan = RawSocket::open(&lab.gate, "wan0").unwrap();
    let _lan = RawSocket::open(&lab.gate, "lan0").unwrap();
    let _far = RawSocket::open(&lab.client, "c0").unwrap();
    let wan = row(&daemon, "a raw socket at wan0", |row| packet(row, "wan0"));
    assert_eq!(shares(&wan), ("part", "part"), "{wan:#}");
    says(&wan, "why", "copies of what Sluice has let in");
    says(&wan, "why", "PACKET_QDISC_BYPASS");
    let exe = std::env::current_exe().unwrap();
    assert_eq!(wan["owners"][0]["exe"], exe.to_str().unwrap(), "{wan:#}");
    let lan = row(&daemon, "one at lan0", |row| packet(row, "lan0"));
    assert_eq!(shares(&lan), ("no", "no"), "{lan:#}");
    let far = row(&daemon, "one in the client's namespace", |row| packet(row, "c0"));
    says(&far, "netns", "net:[");
    assert_eq!(shares(&far), ("part", "part"), "{far:#}");

    let status = daemon.json(&["status"]);
    let first = status["interfaces"][0]["xsk_first"].to_string();
    let pins = daemon.pin_dir.display().to_string();
    let args = ["--pins", &pins, "--interface", "wan0", "--first", &first, "--seconds", "60"];
    let mut child = lab
        .gate
        .command(env!("CARGO_BIN_EXE_xsk-receiver"))
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pid = child.id();
    let running = Running(child);
    let socket = row(&daemon, "an AF_XDP socket", |row| row["kind"] == "af-xdp" && owned(row, pid));
    assert_eq!((&socket["name"], &socket["queue"]), (&"wan0".into(), &0.into()), "{socket:#}");
    assert_eq!(shares(&socket), ("part", "part"), "{socket:#}");
    says(&socket, "why", "`bypass` rules");
    says(&socket, "todo", "xsk-receiver");
    assert_eq!(socket["owners"][0]["comm"], "xsk-receiver", "{socket:#}");
    let wan = row(&daemon, "wan0 with it", interface("wan0"));
    assert_eq!(shares(&wan), ("part", "part"), "{wan:#}");

    drop(running);
    row(&daemon, "wan0 without it", |row| interface("wan0")(row) && row["filtered"] == "yes");
}

#[test]
fn the_status_counts_what_the_api_lists() {
    let test = "e2e_paths::the_status_counts_what_the_api_lists";
    let Some(lab) = Lab::or_skip(test) else { return };
    let options = DaemonOptions::on(POLICY, &[("wan0", "tc")]);
    let Some(daemon) = Daemon::or_skip(test, &lab.gate, options) else { return };
    let mut stream = lab.gate.connect(&format!("127.0.0.1:{}", Daemon::PORT), SOON).unwrap();
    let request = format!(
        "GET /api/v1/paths HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {}\r\n\
         Connection: close\r\n\r\n",
        Daemon::PORT,
        daemon.token()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let report: Value = serde_json::from_str(body).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let summary = &report["summary"];
    for field in ["filtered", "accounted"] {
        for word in ["yes", "part", "no"] {
            let count = rows.iter().filter(|row| row[field] == word).count();
            assert_eq!(summary[field][word], count, "{field} {word}");
        }
    }
    assert_eq!(summary["ways"], rows.len());
    assert_eq!(summary["unread"], report["unread"].as_array().unwrap().len());
    assert!(rows.iter().all(|row| row["why"].as_str().is_some_and(|why| why.len() > 10)));

    let status = wait_for("figures in the status", SOON, || {
        let status = daemon.json(&["status"]);
        status["paths"].is_object().then_some(status)
    })
    .unwrap();
    assert!(status["paths"]["ways"].as_u64().is_some_and(|ways| ways >= 3), "{status}");
    assert!(status["paths"]["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{status}");
    let text = daemon.cli(&["status"]).stdout;
    assert!(text.contains("ways in and out") && text.contains("`sluice paths`"), "{text}");
    let table = daemon.cli(&["paths"]).stdout;
    assert!(table.contains("tcx-in Sluice > tcx-out Sluice"), "{table}");
    assert!(table.contains("to do"), "{table}");
}

#[test]
fn what_the_packaged_service_may_not_read_is_said() {
    let test = "e2e_paths::what_the_packaged_service_may_not_read_is_said";
    let Some(lab) = Lab::or_skip(test) else { return };
    let missing = missing_tools(&["setpriv"]);
    let Some(bin) = sluice_bin().filter(|_| missing.is_none()) else {
        skip(test, &missing.unwrap_or_else(|| "SLUICE_BIN isn't set".to_owned()));
        return;
    };
    // The capabilities of packaging/systemd/sluice.service.
    let wrapper = std::env::temp_dir().join(format!("sluice-paths-{}", std::process::id()));
    let script = format!(
        "#!/bin/sh\nexec setpriv --bounding-set=-all,+bpf,+net_admin,+perfmon {} \"$@\"\n",
        bin.display()
    );
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).unwrap();
    let options = DaemonOptions::on(POLICY, &[("wan0", "tc")]);
    let mut daemon = Daemon::prepare(&lab.gate, &wrapper, options).unwrap();
    daemon.start();
    let _socket = RawSocket::open(&lab.gate, "wan0").unwrap();
    let _foreign = attach(&lab.gate, "lan0", Hook::Xdp, &Program::returning(2).unwrap());

    let lan = row(&daemon, "a program without a name", |row| {
        interface("lan0")(row) && row["mode"] == "native"
    });
    assert!(lan["attached"][0]["name"].is_null() && lan["attached"][0]["id"].is_u64(), "{lan:#}");
    let socket = row(&daemon, "a socket without an owner", |row| row["kind"] == "af-packet");
    assert_eq!((&socket["name"], &socket["owners"]), (&"wan0".into(), &Value::Array(vec![])));
    let report = daemon.json(&["paths"]);
    let wan = report["rows"].as_array().unwrap().iter().find(|row| interface("wan0")(row)).unwrap();
    assert_eq!(shares(wan), ("yes", "yes"), "{wan:#}");
    let unread: Vec<&str> = report["unread"]
        .as_array()
        .unwrap()
        .iter()
        .map(|unread| unread["what"].as_str().unwrap())
        .collect();
    for what in ["descriptors of", "names of programs"] {
        assert!(unread.iter().any(|unread| unread.starts_with(what)), "{what}: {unread:?}");
    }
    std::fs::remove_file(&wrapper).unwrap();
}
