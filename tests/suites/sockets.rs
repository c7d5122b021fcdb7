//! The socket monitor on the real kernel: owners, states, and numbers of sockets.

use firewall_common::abi::socket::{HeldSocket, SocketClass, SocketEvent};
use firewall_user::datapath::sockets::SocketMonitor;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};

fn me() -> u32 {
    std::process::id()
}

fn drained(monitor: &mut SocketMonitor) -> Vec<SocketEvent> {
    let mut events = Vec::new();
    monitor.drain(usize::MAX, |event| events.push(*event));
    events
}

fn on_port(held: &[HeldSocket], port: u16) -> Vec<HeldSocket> {
    held.iter().filter(|held| held.row.local_port == port).copied().collect()
}

#[test]
fn a_connection_is_followed_from_its_socket_to_its_end() {
    let mut monitor = SocketMonitor::start().unwrap();
    assert!(monitor.missing().is_empty(), "{:?}", monitor.missing());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(&[7; 1000]).unwrap();
    let mut buffer = [0; 1000];
    server.read_exact(&mut buffer).unwrap();
    let held = monitor.snapshot().unwrap();
    let mine = on_port(&held, port);
    assert_eq!(mine.len(), 2, "{mine:?}");
    for socket in &mine {
        assert_eq!((socket.holder.tgid, socket.row.usage.owner.tgid), (me(), me()));
    }
    let accepted = mine.iter().find(|socket| socket.row.state == 1).unwrap();
    assert_eq!((accepted.row.usage.received_bytes, accepted.row.bytes_received), (1000, 1000));
    drop((client, server));
    std::thread::sleep(std::time::Duration::from_millis(100));
    let events = drained(&mut monitor);
    for event in &events {
        eprintln!("{event:?}");
    }
    let classes: Vec<u8> = events
        .iter()
        .filter(|event| event.row.local_port == port || event.row.remote_port == port)
        .map(|event| event.class)
        .collect();
    let count = |class: SocketClass| classes.iter().filter(|c| **c == class as u8).count();
    assert_eq!(count(SocketClass::Listening), 1);
    assert_eq!(count(SocketClass::Connecting), 1);
    assert_eq!(count(SocketClass::Established), 2);
    assert_eq!(count(SocketClass::Closed), 2);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(&[1; 10], ("127.0.0.1", 9)).unwrap();
    drop(udp);
    let events = drained(&mut monitor);
    for event in &events {
        eprintln!("{event:?}");
    }
}
