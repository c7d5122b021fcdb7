//! Sockets over time: what changes is seen when it changes.

use serde_json::Value;
use sluice_tests::lab::{Daemon, DaemonOptions, Lab, wait_for};
use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

const LONG: Duration = Duration::from_secs(20);

fn setup(test: &str) -> Option<(Lab, Daemon)> {
    let lab = Lab::or_skip(test)?;
    let policy = "default in allow\ndefault out allow\n";
    let daemon = Daemon::or_skip(test, &lab.gate, DaemonOptions::gate(policy))?;
    Some((lab, daemon))
}

/// A connection from the gate to the server, and its id.
fn connection(lab: &Lab, daemon: &Daemon) -> (TcpStream, TcpStream, String) {
    let listener = lab.server.run(|| TcpListener::bind((Lab::SERVER4, 7)).unwrap());
    let near = lab.gate.run(|| TcpStream::connect((Lab::SERVER4, 7)).unwrap());
    let (far, _) = listener.accept().unwrap();
    near.set_nodelay(true).unwrap();
    let port = near.local_addr().unwrap().port();
    let rows = daemon.rows(&["sockets", &lab.mine(&format!("local_port={port}"))]);
    let id = rows[0]["id"].as_str().expect("an id").to_owned();
    (near, far, id)
}

/// What has been sampled; asking has it looked at.
fn samples(daemon: &Daemon, id: &str) -> Vec<Value> {
    let out = daemon.cli(&["socket", "watch", id, "--count", "500", "--json"]);
    out.json_lines()
}

/// Samples while `step` is done over and over, and a look is had each 1.1 s, so many times.
fn watched(daemon: &Daemon, id: &str, looks: u32, step: &mut dyn FnMut()) {
    for _ in 0..looks {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1100) {
            step();
        }
        daemon.json(&["socket", "watch", id, "--count", "1", "--json"]);
    }
}

#[test]
fn what_changes_is_seen_when_it_changes() {
    let test = "e2e_samples::what_changes_is_seen_when_it_changes";
    let Some((lab, daemon)) = setup(test) else { return };
    let (mut near, mut far, id) = connection(&lab, &daemon);
    let mut buffer = vec![0; 100_000];
    // Each acknowledged after the time that TCP gives its user to answer (40 ms); then more data than that waits for.
    watched(&daemon, &id, 6, &mut || {
        near.write_all(&[1; 10]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        far.read_exact(&mut buffer[..10]).unwrap();
    });
    let data = vec![1; 100_000];
    watched(&daemon, &id, 3, &mut || {
        near.write_all(&data).unwrap();
        far.read_exact(&mut buffer).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    });
    drop((near, far));
    let rows = wait_for("its end", LONG, || {
        let ended = daemon.rows(&["sockets", "--ended", &lab.mine(&format!("id={id}"))]);
        (!ended.is_empty()).then(|| samples(&daemon, &id))
    })
    .unwrap();
    assert!(rows.len() >= 9, "{rows:?}");
    let rtt = |row: &Value| row["rtt_us"].as_u64().unwrap_or(0);
    let rate = |row: &Value| row["sent_rate"].as_u64().unwrap_or(0);
    let before = rows.iter().take(6).map(rtt).max().unwrap();
    let after = rows.iter().skip(7).map(rtt).min().unwrap();
    assert!(before > 20_000 && after < 10_000, "{before} us, then {after} us: {rows:?}");
    let slow = rows.iter().take(6).map(rate).max().unwrap();
    let fast = rows.iter().map(rate).max().unwrap();
    assert!(slow < 10_000 && fast > 500_000, "{slow} B/s, then {fast} B/s: {rows:?}");
    // The times are those of the looks.
    let times: Vec<&str> = rows.iter().filter_map(|row| row["time"].as_str()).collect();
    assert!(times.is_sorted() && times.len() == rows.len(), "{times:?}");
    let shown = daemon.cli(&["socket", "show", &id]).stdout;
    assert!(shown.contains("looks") && shown.contains('█'), "{shown}");
}

#[test]
fn what_is_sent_again_is_in_the_sample_of_its_time() {
    let test = "e2e_samples::what_is_sent_again_is_in_the_sample_of_its_time";
    let Some((lab, daemon)) = setup(test) else { return };
    let (mut near, mut far, id) = connection(&lab, &daemon);
    let mut step = || {
        near.write_all(&[1; 10]).unwrap();
        far.read_exact(&mut [0; 10]).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    };
    watched(&daemon, &id, 2, &mut step);
    lab.server.ip(&["link", "set", "s0", "down"]).unwrap();
    near.write_all(&[1; 10]).unwrap();
    watched(&daemon, &id, 2, &mut || std::thread::sleep(Duration::from_millis(100)));
    lab.server.ip(&["link", "set", "s0", "up"]).unwrap();
    far.read_exact(&mut [0; 10]).unwrap();
    watched(&daemon, &id, 2, &mut || std::thread::sleep(Duration::from_millis(100)));
    drop((near, far));
    let rows = wait_for("its end", LONG, || {
        let ended = daemon.rows(&["sockets", "--ended", &lab.mine(&format!("id={id}"))]);
        (!ended.is_empty()).then(|| samples(&daemon, &id))
    })
    .unwrap();
    let resent = |row: &Value| row["retransmits"].as_u64().unwrap_or(0);
    assert_eq!(rows.iter().take(3).map(resent).sum::<u64>(), 0, "{rows:?}");
    assert!(rows.iter().map(resent).sum::<u64>() > 0, "{rows:?}");
    assert_eq!(daemon.cli(&["socket", "watch", "ffffffffffff"]).code, 1, "there is none");
}
