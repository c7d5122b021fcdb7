//! The daemon's own life: killed, stopped, restarted, taken down; hook modes; what it says to bad
//! input.

use serde_json::Value;
use sluice_tests::bpf::Program;
use sluice_tests::lab::{Daemon, DaemonOptions, Lab, TcpEcho, Transfer, sluice_bin, wait_for};
use sluice_tests::skip::skip;
use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(700);

const POLICY: &str = "
default in drop
default out allow
rule bulk   allow  in on wan0 tcp to port 9000
rule web    allow  in on wan0 tcp to port 80
rule telnet reject in on wan0 tcp to port 23
";

fn number(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {row}"))
}

#[test]
fn a_killed_daemon_loses_nothing_and_the_next_one_adopts() {
    let test = "e2e_daemon::a_killed_daemon_loses_nothing_and_the_next_one_adopts";
    let Some(lab) = Lab::or_skip(test) else { return };
    let Some(mut daemon) = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(POLICY)) else {
        return;
    };
    assert_eq!(daemon.json(&["status"])["adopted"], false);
    let transfer = Transfer::start(&lab.client, &lab.server, Lab::SERVER4, 9000).unwrap();
    transfer.advance(1_000_000, SOON).unwrap();
    let before = daemon.rule("bulk");
    let flow = daemon.flows("dport=9000")[0].clone();

    daemon.kill9();
    transfer.advance(2_000_000, SOON).unwrap();
    let refused = lab.client.connect(&format!("{}:81", Lab::SERVER4), SILENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TimedOut, "the filter stays without its daemon");

    daemon.start();
    let status = daemon.json(&["status"]);
    assert_eq!(status["adopted"], true, "{status}");
    let after = daemon.rule("bulk");
    assert_eq!(after["id"], before["id"], "a rule keeps its counters' slot");
    assert_eq!(after["hits"], before["hits"], "the flow wasn't judged as a new one");
    assert!(
        number(&after, "packets") > number(&before, "packets"),
        "counters go on: {before} then {after}"
    );
    let same = daemon.flows("dport=9000")[0].clone();
    assert_eq!(same["id"], flow["id"], "the same flow");
    transfer.advance(1_000_000, SOON).unwrap();
    transfer.finish().unwrap();
    // Not one segment went uncounted: neither while no daemon ran, nor while one took over.
    let sent = || lab.client.snmp("Tcp", "OutSegs") + lab.client.snmp("Tcp", "RetransSegs");
    let mut seen = Value::Null;
    wait_for("the flow's totals", SOON, || {
        seen = daemon.rule("bulk");
        let flow = daemon.flows("dport=9000").first().cloned()?;
        // The connection that was refused sent SYNs too.
        let refused = number(&daemon.rule("default in"), "hits");
        (number(&flow, "packets") + refused == sent()).then_some(())
    })
    .unwrap_or_else(|late| {
        panic!("{late}: sent {}, rule {seen}, flows {:?}", sent(), daemon.flows("dport=9000"))
    });
}

/// Pins of the arrays through which the programs go on to each other.
fn stages(daemon: &Daemon) -> Vec<PathBuf> {
    let pins = std::fs::read_dir(&daemon.pin_dir).expect("a folder of pins");
    let pins = pins.flatten().map(|entry| entry.path());
    let is_stages = |name: &str| name.starts_with("stages-");
    pins.filter(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(is_stages)).collect()
}

#[test]
fn each_daemon_has_its_own_stages_and_takes_the_last_ones_away() {
    let test = "e2e_daemon::each_daemon_has_its_own_stages_and_takes_the_last_ones_away";
    let Some(lab) = Lab::or_skip(test) else { return };
    let _echo = TcpEcho::start(&lab.server, &format!("{}:81", Lab::SERVER4)).unwrap();
    let Some(mut daemon) = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(POLICY)) else {
        return;
    };
    let first = stages(&daemon);
    assert_eq!(first.len(), 2, "one for XDP, one for TC: {first:?}");
    daemon.kill9();
    daemon.start();
    let second = stages(&daemon);
    assert_eq!(second.len(), 2, "{second:?}");
    assert!(second.iter().all(|pin| !first.contains(pin)), "{first:?}, then {second:?}");
    let denied = format!("{}:81", Lab::SERVER4);
    assert_eq!(lab.client.connect(&denied, SILENCE).unwrap_err().kind(), ErrorKind::TimedOut);
    // Whoever takes the pins away while no daemon holds the arrays opens the gate, and it says so.
    let unjudged = |daemon: &Daemon| {
        let all = daemon.json(&["stats"]);
        let reasons = all["reasons"].as_array().cloned().unwrap_or_default();
        let row = reasons.into_iter().find(|row| row["reason"] == "no-policy");
        row.map_or(0, |row| number(&row, "packets"))
    };
    assert_eq!(unjudged(&daemon), 0);
    daemon.kill9();
    for pin in stages(&daemon) {
        std::fs::remove_file(pin).unwrap();
    }
    lab.client.tcp_exchange(&denied, b"open", SOON).expect("nothing judges any more");
    daemon.start();
    assert!(unjudged(&daemon) > 0, "packets that no stage was left for are counted");
    assert_eq!(lab.client.connect(&denied, SILENCE).unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn a_stopped_daemon_leaves_the_filter_and_unload_takes_it_down() {
    let test = "e2e_daemon::a_stopped_daemon_leaves_the_filter_and_unload_takes_it_down";
    let Some(lab) = Lab::or_skip(test) else { return };
    let _echo = TcpEcho::start(&lab.server, &format!("{}:81", Lab::SERVER4)).unwrap();
    let Some(mut daemon) = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(POLICY)) else {
        return;
    };
    assert_eq!(daemon.terminate(), 0, "SIGTERM is a clean end; log:\n{}", daemon.log());
    assert!(daemon.pin_dir.exists());
    let denied = format!("{}:81", Lab::SERVER4);
    assert_eq!(lab.client.connect(&denied, SILENCE).unwrap_err().kind(), ErrorKind::TimedOut);

    let unloaded = daemon.unload();
    assert_eq!(unloaded.code, 0, "{unloaded:?}");
    assert!(!daemon.pin_dir.exists(), "no pin is left");
    let links = lab.gate.exec("ip", &["-d", "link", "show"]).unwrap();
    assert!(!links.contains("xdp"), "no XDP program is left: {links}");
    lab.client.tcp_exchange(&denied, b"free", SOON).expect("nothing filters any more");
    // Twice is no error.
    assert_eq!(daemon.unload().code, 0);
}

#[test]
fn every_hook_mode_filters() {
    for mode in ["auto", "tc", "xdp-generic", "xdp"] {
        let test = "e2e_daemon::every_hook_mode_filters";
        let Some(lab) = Lab::or_skip(test) else { return };
        let _echo = TcpEcho::start(&lab.server, &format!("{}:80", Lab::SERVER4)).unwrap();
        let options = DaemonOptions::on(POLICY, &[("wan0", mode), ("lan0", "tc")]);
        let Some(daemon) = Daemon::or_skip(test, &lab.gate, options) else { return };
        let status = daemon.json(&["status"]);
        let ifaces = status["interfaces"].as_array().cloned().unwrap_or_default();
        let wan = ifaces.iter().find(|row| row["name"] == "wan0").cloned().unwrap_or_default();
        assert_eq!(wan["mode_asked"], mode, "{status}");
        // A veth is a virtual link: there `auto` takes TC, because XDP would cost segmentation offload.
        let expected: &[&str] =
            if matches!(mode, "auto" | "tc") { &["tcx", "clsact"] } else { &[mode] };
        assert!(expected.iter().any(|hook| wan["ingress"] == *hook), "{mode}: {wan}");
        assert_ne!(wan["why"], "", "{mode}: what was chosen has a reason");
        lab.client
            .tcp_exchange(&format!("{}:80", Lab::SERVER4), &[3; 40_000], SOON)
            .unwrap_or_else(|e| panic!("{mode}: {e}"));
        let denied = lab.client.connect(&format!("{}:81", Lab::SERVER4), SILENCE).unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::TimedOut, "{mode}");
        assert_eq!(daemon.rule("web")["hits"], 1, "{mode}");
        if mode == "xdp" {
            // What XDP sends back on a veth waits in the peer's ring, and the peer is only woken if it
            // runs an XDP program itself. A wire has no such needs; here the client gets one.
            let pin = daemon.pin_dir.join("client_pass");
            Program::returning(2).unwrap().pin(&pin).unwrap();
            lab.client
                .ip(&["link", "set", "c0", "xdp", "pinned", &pin.display().to_string()])
                .unwrap();
        }
        let rejected = lab.client.connect(&format!("{}:23", Lab::SERVER4), SOON).unwrap_err();
        assert_eq!(rejected.kind(), ErrorKind::ConnectionRefused, "{mode}");
    }
}

/// What kernels before 6.6 have: filters on a clsact qdisc, which no link holds.
#[test]
fn clsact_filters_outlive_the_daemon_are_adopted_and_unloaded() {
    let test = "e2e_daemon::clsact_filters_outlive_the_daemon_are_adopted_and_unloaded";
    let Some(lab) = Lab::or_skip(test) else { return };
    let _echo = TcpEcho::start(&lab.server, &format!("{}:80", Lab::SERVER4)).unwrap();
    let options = DaemonOptions { clsact: true, ..DaemonOptions::gate(POLICY) };
    let Some(mut daemon) = Daemon::or_skip(test, &lab.gate, options) else { return };
    let wan = daemon.json(&["status"])["interfaces"][0].clone();
    assert_eq!((&wan["ingress"], &wan["egress"]), (&"clsact".into(), &"clsact".into()), "{wan}");
    let judges = || {
        lab.client.tcp_exchange(&format!("{}:80", Lab::SERVER4), &[3; 4000], SOON).unwrap();
        let refused = lab.client.connect(&format!("{}:23", Lab::SERVER4), SOON).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    };
    judges();
    daemon.kill9();
    judges();
    daemon.start();
    assert_eq!(daemon.json(&["status"])["adopted"], true);
    judges();
    assert_eq!(daemon.rule("web")["hits"], 3, "one filter a hook, before and after");
    let gone = daemon.unload();
    assert_eq!(gone.code, 0, "{}", gone.stderr);
    // Nobody refuses port 23 any more but the server, which has nothing there; port 81 is as open.
    let refused = lab.client.connect(&format!("{}:81", Lab::SERVER4), SOON).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "nothing is filtered any more");
}

/// One HTTP/1.1 request over TCP from inside the gate: status and body.
fn http(lab: &Lab, head: &str, body: &str) -> (u16, String) {
    let mut stream =
        lab.gate.connect(&format!("127.0.0.1:{}", Daemon::PORT), SOON).expect("the daemon's port");
    stream.set_read_timeout(Some(SOON)).expect("a time-out");
    let request =
        format!("{head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).expect("a request sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

#[test]
fn bad_requests_get_clear_errors_and_the_daemon_lives() {
    let test = "e2e_daemon::bad_requests_get_clear_errors_and_the_daemon_lives";
    let Some(lab) = Lab::or_skip(test) else { return };
    let Some(mut daemon) = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(POLICY)) else {
        return;
    };
    let host = format!("Host: 127.0.0.1:{}", Daemon::PORT);
    let token = daemon.token();
    let auth = format!("Authorization: Bearer {token}");
    let good = http(&lab, &format!("GET /api/v1/status HTTP/1.1\r\n{host}\r\n{auth}"), "");
    assert_eq!(good.0, 200, "{good:?}");
    let code = |body: &str| {
        let value: Value =
            serde_json::from_str(body).unwrap_or_else(|e| panic!("not JSON ({e}): {body}"));
        let words = value["error"]["message"].as_str().unwrap_or_default();
        assert!(words.len() > 5, "an error says what is wrong: {body}");
        value["error"]["code"].as_str().unwrap_or_default().to_owned()
    };
    for (what, head, body, status, expected) in [
        ("no token", format!("GET /api/v1/status HTTP/1.1\r\n{host}"), "", 401, "unauthorized"),
        (
            "a wrong token",
            format!("GET /api/v1/status HTTP/1.1\r\n{host}\r\nAuthorization: Bearer 0123"),
            "",
            401,
            "unauthorized",
        ),
        (
            "a foreign host",
            format!("GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\n{auth}"),
            "",
            403,
            "bad-host",
        ),
        (
            "a foreign origin",
            format!(
                "GET /api/v1/status HTTP/1.1\r\n{host}\r\n{auth}\r\nOrigin: http://evil.example"
            ),
            "",
            403,
            "bad-origin",
        ),
        (
            "an unknown path",
            format!("GET /api/v1/nothing HTTP/1.1\r\n{host}\r\n{auth}"),
            "",
            404,
            "not-found",
        ),
        (
            "a bad filter",
            format!("GET /api/v1/flows?filter=proto%3D%3D%28 HTTP/1.1\r\n{host}\r\n{auth}"),
            "",
            400,
            "bad-filter",
        ),
        (
            "broken JSON",
            format!(
                "POST /api/v1/policy/apply HTTP/1.1\r\n{host}\r\n{auth}\r\nContent-Type: application/json"
            ),
            "{\"text\": ",
            400,
            "bad-request",
        ),
        (
            "a bad policy",
            format!(
                "POST /api/v1/policy/apply HTTP/1.1\r\n{host}\r\n{auth}\r\nContent-Type: application/json"
            ),
            "{\"text\": \"rule x allow in tpc\"}",
            422,
            "policy-invalid",
        ),
        (
            "an edit of an old policy",
            format!(
                "POST /api/v1/policy/apply HTTP/1.1\r\n{host}\r\n{auth}\r\nContent-Type: application/json"
            ),
            "{\"text\": \"default in allow\", \"base_generation\": 77}",
            409,
            "generation-conflict",
        ),
    ] {
        let answer = http(&lab, &head, body);
        assert_eq!(answer.0, status, "{what}: {answer:?}");
        assert_eq!(code(&answer.1), expected, "{what}");
    }
    assert!(daemon.alive());
    assert_eq!(daemon.json(&["status"])["generation"], 1, "nothing of it changed the policy");
}

/// Runs `sluice daemon` where it should refuse to start; its exit code and what it said.
fn refusal(lab: &Lab, daemon: &Daemon, args: &[String]) -> (i32, String) {
    let bin = sluice_bin().expect("checked by the caller");
    let child = lab.gate.command(bin).args(args).output().expect("running the binary");
    let _ = daemon;
    let words = String::from_utf8_lossy(&child.stderr).into_owned()
        + &String::from_utf8_lossy(&child.stdout);
    (child.status.code().unwrap_or(-1), words)
}

#[test]
fn an_unknown_interface_is_named() {
    let test = "e2e_daemon::an_unknown_interface_is_named";
    let Some(lab) = Lab::or_skip(test) else { return };
    let Some(bin) = sluice_bin() else {
        return skip(test, "SLUICE_BIN isn't set (run `cargo xtask test`)");
    };
    let daemon =
        Daemon::prepare(&lab.gate, &bin, DaemonOptions::on(POLICY, &[("nope0", "auto")])).unwrap();
    let (code, words) = refusal(&lab, &daemon, &daemon.args());
    assert!(code > 0, "{words}");
    assert!(words.contains("nope0"), "{words}");
    assert!(!words.contains("panicked"), "{words}");
}

#[test]
fn a_policy_with_mistakes_is_refused_with_its_lines() {
    let test = "e2e_daemon::a_policy_with_mistakes_is_refused_with_its_lines";
    let Some(lab) = Lab::or_skip(test) else { return };
    let Some(daemon) = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(POLICY)) else {
        return;
    };
    let file = daemon.dir.join("bad.sluice");
    std::fs::write(
        &file,
        "default in drop\nrule x allow in tpc to port 22\nrule y allow in tcp to port 99999\n",
    )
    .unwrap();
    for verb in ["check", "apply"] {
        let output = daemon.cli(&[verb, &file.display().to_string()]);
        assert!(output.code > 0, "{verb}: {output:?}");
        let words = output.stdout + &output.stderr;
        for part in ["bad.sluice", "tpc", "99999", "^"] {
            assert!(words.contains(part), "{verb} says {part}: {words}");
        }
    }
    assert_eq!(daemon.json(&["status"])["generation"], 1, "the old policy stays");
}

#[test]
fn another_abi_is_refused_with_both_numbers() {
    let test = "e2e_daemon::another_abi_is_refused_with_both_numbers";
    let Some(lab) = Lab::or_skip(test) else { return };
    let Some(mut daemon) = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(POLICY)) else {
        return;
    };
    daemon.kill9();
    let control = daemon.pin_dir.join("CONTROL");
    let len = size_of::<firewall_common::abi::control::Control>();
    let old =
        sluice_tests::bpf::Map::pinned(&control).unwrap().lookup(&0u32.to_ne_bytes(), len).unwrap();
    let mut changed = old.clone();
    changed[..4].copy_from_slice(&4711u32.to_ne_bytes());
    sluice_tests::bpf::Map::pinned(&control)
        .unwrap()
        .update(&0u32.to_ne_bytes(), &changed)
        .unwrap();
    let (code, words) = refusal(&lab, &daemon, &daemon.args());
    assert!(code > 0, "{words}");
    let ours = u32::from_ne_bytes(old[..4].try_into().unwrap()).to_string();
    assert!(words.contains("4711") && words.contains(&ours), "both numbers: {words}");
    // Put right, it is adopted as if nothing had been.
    sluice_tests::bpf::Map::pinned(&control).unwrap().update(&0u32.to_ne_bytes(), &old).unwrap();
    daemon.start();
    assert_eq!(daemon.json(&["status"])["adopted"], true);
}
