//! A flood of spoofed SYNs: who is connected stays so, and who wants to connect can. Counts, not times.

use sluice_tests::lab::{Daemon, DaemonOptions, Flood, NatLab, NetNs, TcpEcho, wait_for};
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);
/// A SYN may be lost in a full queue, of the kernel's own too, and is sent again after 1, 3 and 7 seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Flows that the table is planned for: few, so that the flood has to take others' places.
const ROOM: u64 = 8192;
/// Connections that are there before.
const ESTABLISHED: usize = 40;
/// Connections that are tried meanwhile, and how many of them have to succeed.
const TRIED: usize = 200;
const SUCCEED: usize = TRIED * 99 / 100;

/// One test at a time has both processors for itself.
static ALONE: Mutex<()> = Mutex::new(());

/// What stands against the flood.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Against {
    /// The room that half-open flows may take at most, alone.
    HalfOpen,
    /// SYN cookies.
    Cookies,
}

/// Whom the flood is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// A server inside, behind a port forward.
    Inside,
    /// A server on the gate itself.
    Gate,
}

#[test]
fn a_forwarded_server_is_reached_through_a_flood() {
    flood(
        "e2e_nat_flood::a_forwarded_server_is_reached_through_a_flood",
        Against::HalfOpen,
        Victim::Inside,
    );
}

#[test]
fn a_server_on_the_gate_is_reached_through_a_flood() {
    flood(
        "e2e_nat_flood::a_server_on_the_gate_is_reached_through_a_flood",
        Against::HalfOpen,
        Victim::Gate,
    );
}

#[test]
fn cookies_keep_a_flood_out_of_the_table() {
    flood("e2e_nat_flood::cookies_keep_a_flood_out_of_the_table", Against::Cookies, Victim::Gate);
}

fn policy(against: Against) -> String {
    let cookies = if against == Against::Cookies { "option syn-cookies above 1k/s\n" } else { "" };
    format!(
        "interface wan = wan0\ninterface lan = lan0\n{cookies}default in drop\ndefault out allow\n\
         nat web destination on wan tcp to 203.0.113.1 port 8080 => 10.9.0.2 port 80\n\
         nat out masquerade on wan from 10.9.0.0/24\n\
         rule inside allow in on lan\n\
         rule web-in allow in on wan tcp to 10.9.0.2 port 80\n\
         rule own-in allow in on wan tcp to 203.0.113.1 port 8081\n"
    )
}

/// Whether the binary under test speaks of cookies and doesn't make them.
fn cookies_are_missing(daemon: &Daemon) -> bool {
    let file = daemon.dir.join("policy.sluice");
    let checked = daemon.cli(&["--json", "check", &file.display().to_string()]);
    (checked.stdout + &checked.stderr).contains("not-in-force")
}

/// Sends a few bytes to an echo server and reads them back.
fn echoes(stream: &mut TcpStream, payload: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(payload)?;
    let mut back = vec![0; payload.len()];
    stream.read_exact(&mut back)?;
    if back == payload { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

fn flood(test: &str, against: Against, victim: Victim) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(lab) = NatLab::or_skip(test, &["ip"]) else { return };
    if against == Against::Cookies {
        // Otherwise the kernel takes a cookie for one of its own only once its queue is full.
        lab.gate.sysctl("ipv4/tcp_syncookies", "2").unwrap();
    }
    let options = DaemonOptions {
        config: format!("max_flows = {ROOM}\n"),
        ..DaemonOptions::gate(&policy(against))
    };
    let Some(daemon) = Daemon::or_skip(test, &lab.gate, options) else { return };
    if against == Against::Cookies && cookies_are_missing(&daemon) {
        return sluice_tests::skip::skip(test, "SYN cookies are not built yet");
    }
    // What is answered to nobody vanishes there.
    lab.router.ip(&["route", "add", "blackhole", "100.64.0.0/10"]).unwrap();
    let _inside = TcpEcho::start(&lab.a, "10.9.0.2:80").unwrap();
    let _own = TcpEcho::start(&lab.gate, "203.0.113.1:8081").unwrap();
    let _outside = TcpEcho::start(&lab.server, &format!("{}:80", NatLab::SERVER)).unwrap();
    let target = match victim {
        Victim::Inside => "203.0.113.1:8080",
        Victim::Gate => "203.0.113.1:8081",
    };

    // Half of them to the victim, half through the gate to somebody else.
    let connect = |i: usize, limit| {
        let (ns, to): (&NetNs, &str) =
            if i.is_multiple_of(2) { (&lab.server, target) } else { (&lab.b, "198.51.100.2:80") };
        ns.connect(to, limit)
    };
    let mut established: Vec<TcpStream> =
        (0..ESTABLISHED).map(|i| connect(i, SOON).unwrap()).collect();
    for stream in &mut established {
        echoes(stream, b"before").unwrap();
    }

    let to: SocketAddrV4 = target.parse().expect("an address");
    let flood = Flood::start(&lab.router, "r0", lab.gate.mac("wan0").unwrap(), to).unwrap();
    wait_for("the flood", PATIENCE, || (flood.sent() > 4 * ROOM).then_some(())).unwrap();
    let (next, succeeded) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, SeqCst);
                    if i >= TRIED {
                        return;
                    }
                    let tried = connect(i, PATIENCE)
                        .and_then(|mut stream| echoes(&mut stream, b"meanwhile"));
                    if tried.is_ok() {
                        succeeded.fetch_add(1, SeqCst);
                    }
                }
            });
        }
    });
    let lost = established
        .iter_mut()
        .map(|stream| echoes(stream, b"meanwhile"))
        .filter(Result::is_err)
        .count();
    let sent = flood.sent();
    wait_for("a flood that is worth its name", PATIENCE, || {
        (flood.sent() > 10 * ROOM).then_some(())
    })
    .unwrap();
    drop(flood);

    let succeeded = succeeded.into_inner();
    let stats = daemon.json(&["stats"]);
    assert!(succeeded >= SUCCEED, "{succeeded} of {TRIED} connected, {sent} SYNs; {stats}");
    assert_eq!(lost, 0, "of {ESTABLISHED} connections, after {sent} SYNs; {stats}");
    for stream in &mut established {
        echoes(stream, b"after").expect("an established connection");
    }
    // It was a flood to the gate, too, or this says nothing.
    let rule = daemon.rule(if victim == Victim::Inside { "web-in" } else { "own-in" });
    match against {
        Against::HalfOpen => {
            assert!(rule["hits"].as_u64() > Some(2 * ROOM), "{rule}");
            // What made room is counted, and the daemon doesn't keep it.
            let kept = wait_for("a model that forgets what was evicted", PATIENCE, || {
                let stats = daemon.json(&["stats"]);
                let evicted = stats["table"]["evicted"].as_u64()?;
                (evicted > ROOM && stats["flows"] == stats["table"]["flows"]).then_some(())
            });
            assert!(kept.is_ok(), "{}", daemon.json(&["stats"]));
        }
        Against::Cookies => {
            assert!(daemon.reason("syn-cookie-sent") > 2 * ROOM, "{stats}");
            assert!(daemon.reason("syn-cookie-good") > 0, "{stats}");
        }
    }
}
