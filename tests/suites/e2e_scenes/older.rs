//! Sockets that were there before the daemon.

use crate::stage::{empty, is_near, me, mine};
use serde_json::Value;
use sluice_tests::lab::{Daemon, DaemonOptions, RawSocket};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};

const BYTES: u64 = 500_000;
const DATAGRAM: u64 = 1000;

#[test]
fn what_is_older_than_the_daemon_has_owner_and_bytes() {
    let test = "e2e_scenes::older::what_is_older_than_the_daemon_has_owner_and_bytes";
    let Some(ns) = empty(test) else { return };
    let packet = RawSocket::open(&ns, "lo").unwrap();
    let (listener, mut client, one, two) = ns.run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let one = UdpSocket::bind("127.0.0.1:0").unwrap();
        let two = UdpSocket::bind("127.0.0.1:0").unwrap();
        one.connect(two.local_addr().unwrap()).unwrap();
        (listener, client, one, two)
    });
    let (mut server, _) = listener.accept().unwrap();
    let mut exchange = |times: u64| {
        std::thread::scope(|scope| {
            scope.spawn(|| client.write_all(&vec![7; BYTES as usize]).unwrap());
            server.read_exact(&mut vec![0; BYTES as usize]).unwrap();
        });
        for _ in 0..times {
            one.send(&[7; DATAGRAM as usize]).unwrap();
            two.recv(&mut [0; DATAGRAM as usize]).unwrap();
        }
    };
    exchange(100);
    let options = DaemonOptions::on("default in allow\n", &[]);
    let Some(daemon) = Daemon::or_skip(test, &ns, options) else { return };
    exchange(50);
    let (pid, exe) = me();
    let row = |filter: &str, bytes: [u64; 2]| -> Value {
        let rows = daemon.rows(&["sockets", &mine(&ns, filter)]);
        let [row] = rows.as_slice() else { panic!("one row of {filter}: {rows:#?}") };
        let seen = (&row["pid"], &row["confidence"], &row["created"], &row["exe"]);
        assert_eq!(seen, (&pid.into(), &"held".into(), &Value::Null, &exe.as_str().into()));
        assert!(is_near(&row["sent_bytes"], bytes[0]), "{row:#}");
        assert!(is_near(&row["received_bytes"], bytes[1]), "{row:#}");
        row.clone()
    };
    // TCP knows what it did before; of others only what is seen is known.
    let port = listener.local_addr().unwrap().port();
    row(&format!("remote_port={port}"), [2 * BYTES, 0]);
    row(&format!("local_port={port} and state=established"), [0, 2 * BYTES]);
    row(&format!("local_port={port} and state=listen"), [0, 0]);
    let at = two.local_addr().unwrap().port();
    row(&format!("proto=udp and remote_port={at}"), [50 * DATAGRAM, 0]);
    row(&format!("proto=udp and local_port={at}"), [0, 50 * DATAGRAM]);
    row("proto=packet", [0, 0]);
    // What is accepted from now on was seen as it came.
    let late = ns.run(|| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let _accepted = listener.accept().unwrap();
    let filter = format!("local_port={port} and remote_port={}", late.local_addr().unwrap().port());
    let rows = daemon.rows(&["sockets", &mine(&ns, &filter)]);
    assert_eq!((&rows[0]["pid"], &rows[0]["confidence"]), (&pid.into(), &"stamped".into()));
    drop(packet);
}
