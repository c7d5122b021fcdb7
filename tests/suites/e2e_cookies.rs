//! SYN cookies with real connections: the machine's own listeners get them as if they had answered the SYN
//! themselves, at every hook, with what the handshake agreed on.

use sluice_tests::bpf::Program;
use sluice_tests::lab::{Daemon, DaemonOptions, Lab, NetNs, RawSocket, TcpEcho, wait_for};
use sluice_tests::packet::Packet;
use sluice_tests::skip::skip;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

const ALWAYS: &str = "
option syn-cookies always
default in drop
default out drop
rule web allow in on wan0 tcp to port { 80, 8080 }
";

const BY_RULE: &str = "
default in drop
default out drop
rule web  allow in on wan0 tcp to port 80 syn-cookies
rule rest allow in on wan0 tcp to port 81
";

const SOON: Duration = Duration::from_secs(5);
const GATES: [&str; 2] = [Lab::GATE4, "[fd77:1::1]"];

/// A lab with a daemon at the gate's outer interface in `mode`.
fn scene(test: &str, policy: &str, mode: &str) -> Option<(Lab, Daemon)> {
    let lab = Lab::or_skip(test)?;
    let daemon = Daemon::or_skip(test, &lab.gate, DaemonOptions::on(policy, &[("wan0", mode)]))?;
    if mode == "xdp" {
        // What XDP sends back on a veth arrives only where the other end runs an XDP program, too.
        let pin = daemon.pin_dir.join("client_pass");
        Program::returning(2).unwrap().pin(&pin).unwrap();
        lab.client.ip(&["link", "set", "c0", "xdp", "pinned", &pin.display().to_string()]).unwrap();
    }
    Some((lab, daemon))
}

fn echoes(lab: &Lab, port: u16) -> Vec<TcpEcho> {
    GATES.map(|gate| TcpEcho::start(&lab.gate, &format!("{gate}:{port}")).unwrap()).into()
}

#[test]
fn connections_are_made_by_cookies_at_every_hook() {
    for mode in ["tc", "xdp-generic", "xdp"] {
        let test = "e2e_cookies::connections_are_made_by_cookies_at_every_hook";
        let Some((lab, daemon)) = scene(test, ALWAYS, mode) else { return };
        let _servers = echoes(&lab, 80);
        for (i, gate) in (1..).zip(GATES) {
            lab.client
                .tcp_exchange(&format!("{gate}:80"), &[7; 500_000], SOON)
                .unwrap_or_else(|e| panic!("{mode}, {gate}: {e}\n{}", daemon.log()));
            // At once: a closed flow is forgotten soon.
            let to = gate.trim_matches(['[', ']']);
            let flows = daemon.flows(&format!("dport=80 and dst={to}"));
            assert_eq!(flows.len(), 1, "{mode}: {flows:?}");
            assert!(flows[0]["bytes"].as_u64() > Some(500_000), "{mode}: {flows:?}");
            assert!(flows[0]["reply_bytes"].as_u64() > Some(500_000), "{mode}: {flows:?}");
            assert_eq!(daemon.reason("syn-cookie-sent"), i, "{mode}, {gate}");
            assert_eq!(daemon.reason("syn-cookie-good"), i, "{mode}, {gate}");
        }
        assert_eq!(daemon.reason("syn-cookie-bad"), 0, "{mode}");
        assert_eq!(daemon.reason("out-of-window"), 0, "{mode}");
    }
}

/// What `ss` says of the only connection to port 80 in a namespace.
fn agreed(ns: &NetNs, side: &str) -> String {
    let filter = format!("( {side} = :80 )");
    ns.exec("ss", &["-Htion", "state", "established", &filter]).unwrap()
}

#[test]
fn what_the_handshake_agreed_on_is_kept() {
    let test = "e2e_cookies::what_the_handshake_agreed_on_is_kept";
    for mode in ["tc", "xdp"] {
        let Some((lab, daemon)) = scene(test, ALWAYS, mode) else { return };
        let _servers = echoes(&lab, 80);
        if mode == "xdp" {
            // Where the kernel makes cookies of its own, ours are taken all the same.
            lab.gate.sysctl("ipv4/tcp_syncookies", "2").unwrap();
        }
        for gate in GATES {
            let to = format!("{gate}:80");
            // By the client: timestamps, scaling, SACK; then without timestamps, which carry the rest.
            for (timestamps, wanted) in [("1", true), ("0", false)] {
                lab.client.sysctl("ipv4/tcp_timestamps", timestamps).unwrap();
                let before = daemon.reason("syn-cookie-good");
                let mut stream = lab.client.connect(&to, SOON).unwrap();
                stream.write_all(b"hello").unwrap();
                stream.read_exact(&mut [0; 5]).unwrap();
                assert_eq!(daemon.reason("syn-cookie-good"), before + 1, "{mode} {to}");
                for (ns, side) in [(&lab.client, "dport"), (&lab.gate, "sport")] {
                    let said = agreed(ns, side);
                    for word in [" ts ", " sack ", "wscale:"] {
                        assert_eq!(
                            said.contains(word),
                            wanted,
                            "{mode} {to} {side}: {word} in {said}"
                        );
                    }
                    let mss: u32 = said
                        .split_once(" mss:")
                        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
                        .unwrap_or(0);
                    assert!((1388..=1460).contains(&mss), "{mode} {to} {side}: {said}");
                }
            }
        }
    }
}

#[test]
fn only_listeners_of_the_machine_are_spoken_for() {
    let test = "e2e_cookies::only_listeners_of_the_machine_are_spoken_for";
    let policy = ALWAYS.replace("default out drop", "default out allow");
    let Some((lab, daemon)) = scene(test, &policy, "tc") else { return };
    // For every address, so that it would be found for the server's, too.
    let _wide = TcpEcho::start(&lab.gate, "0.0.0.0:80").unwrap();
    let server = format!("{}:80", Lab::SERVER4);
    let _far = TcpEcho::start(&lab.server, &server).unwrap();
    lab.client.tcp_exchange(&server, &[1; 5000], SOON).unwrap();
    assert_eq!(daemon.reason("syn-cookie-sent"), 0, "forwarded");
    let closed = lab.client.connect(&format!("{}:8080", Lab::GATE4), SOON).unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::ConnectionRefused, "the machine's own RST");
    assert_eq!(daemon.reason("syn-cookie-sent"), 0, "nobody listens");
    lab.client.tcp_exchange(&format!("{}:80", Lab::GATE4), &[1; 5000], SOON).unwrap();
    assert_eq!(daemon.reason("syn-cookie-good"), 1);
    // What a listener for MPTCP is sent goes on as it is: it takes no connection from a cookie.
    let mptcp = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)\n\
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
        s.bind(('10.77.1.1', 8080)); s.listen()\nprint('listens', flush=True)\n\
        c, _ = s.accept()\nc.sendall(c.recv(100))\nc.close()\n";
    let mut child = lab
        .gate
        .command("python3")
        .args(["-c", mptcp])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line.contains("listens") {
        lab.client.tcp_exchange(&format!("{}:8080", Lab::GATE4), b"multipath", SOON).unwrap();
        assert_eq!(daemon.reason("syn-cookie-sent"), 1, "MPTCP");
    } else {
        skip(test, "this kernel has no MPTCP");
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn a_rule_asks_for_its_own_alone() {
    let test = "e2e_cookies::a_rule_asks_for_its_own_alone";
    let Some((lab, daemon)) = scene(test, BY_RULE, "auto") else { return };
    // A host that forwards nothing: there the kernel gives no route at all.
    lab.gate.sysctl("ipv4/ip_forward", "0").unwrap();
    lab.gate.sysctl("ipv6/conf/all/forwarding", "0").unwrap();
    let _servers = [echoes(&lab, 80), echoes(&lab, 81)];
    for gate in GATES {
        lab.client.tcp_exchange(&format!("{gate}:81"), &[1; 5000], SOON).unwrap();
    }
    assert_eq!(daemon.reason("syn-cookie-sent"), 0);
    for gate in GATES {
        lab.client.tcp_exchange(&format!("{gate}:80"), &[1; 5000], SOON).unwrap();
    }
    assert_eq!(daemon.reason("syn-cookie-sent"), 2);
    // Another daemon takes over while an answer is on its way: the secret stays.
    let mut daemon = daemon;
    daemon.kill9();
    daemon.start();
    lab.client.tcp_exchange(&format!("{}:80", Lab::GATE4), &[1; 5000], SOON).unwrap();
    assert_eq!(daemon.reason("syn-cookie-good"), 3);
}

#[test]
fn a_flood_leaves_nothing_behind_and_connections_are_made_through_it() {
    let test = "e2e_cookies::a_flood_leaves_nothing_behind_and_connections_are_made_through_it";
    for mode in ["tc", "xdp-generic"] {
        let policy = ALWAYS.replace("always", "above 50/s");
        let Some((lab, daemon)) = scene(test, &policy, mode) else { return };
        let _servers = echoes(&lab, 80);
        let raw = RawSocket::open(&lab.client, "c0").unwrap();
        let (from, to) = (lab.client.mac("c0").unwrap(), lab.gate.mac("wan0").unwrap());
        let done = AtomicBool::new(false);
        let sent = std::thread::scope(|scope| {
            let flood = scope.spawn(|| {
                let mut sent = 0u32;
                while !done.load(SeqCst) {
                    for _ in 0..200 {
                        let source = Ipv4Addr::from(0xc612_0000 + sent % 100_000).to_string();
                        let syn = Packet::new().macs(from, to).ipv4(&source, Lab::GATE4);
                        raw.send(&syn.tcp(1024 + (sent % 60_000) as u16, 80).build());
                        sent += 1;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                sent
            });
            std::thread::sleep(Duration::from_millis(300));
            for _ in 0..20 {
                lab.client
                    .tcp_exchange(&format!("{}:80", Lab::GATE4), &[5; 20_000], SOON)
                    .unwrap_or_else(|e| panic!("{mode}: {e}"));
            }
            done.store(true, SeqCst);
            flood.join().unwrap()
        });
        let (answered, good) = (daemon.reason("syn-cookie-sent"), daemon.reason("syn-cookie-good"));
        assert!(answered > u64::from(sent) / 2, "{mode}: {answered} of {sent}");
        assert!(good >= 5, "{mode}: {good}");
        let kept = daemon.flows("dport=80 and src=198.18.0.0/15").len() as u64;
        // The clients' own SYNs are answered, too: more answers than the flood has packets are no mistake.
        let through = (u64::from(sent) + 20).saturating_sub(answered);
        assert!(kept < through + 25, "{mode}: {kept} flows of a flood are kept");
    }
}

#[test]
fn what_keeps_them_from_being_sent_is_said() {
    let test = "e2e_cookies::what_keeps_them_from_being_sent_is_said";
    let Some((lab, daemon)) = scene(test, ALWAYS, "tc") else { return };
    let limits = || daemon.json(&["status"])["limits"].to_string();
    assert!(!limits().contains("SYN cookies"), "{}", limits());
    lab.gate.sysctl("ipv4/tcp_syncookies", "0").unwrap();
    wait_for("the daemon to see it", SOON, || {
        limits().contains("tcp_syncookies is 0").then_some(())
    })
    .unwrap();
    // And so the kernel makes the handshake as ever.
    let _servers = echoes(&lab, 80);
    lab.client.tcp_exchange(&format!("{}:80", Lab::GATE4), &[1; 5000], SOON).unwrap();
    assert_eq!(daemon.reason("syn-cookie-sent"), 0);
    daemon.apply("default in allow\ndefault out allow\n");
    wait_for("nobody to ask", SOON, || (!limits().contains("SYN cookies")).then_some(())).unwrap();
}
