//! What reading names off the wire costs packets, by the kernel's own accounts (which add one reading of the clock).
//!
//! - `packet past names`: a packet that has nothing to do with DNS or TLS: of UDP, or late on a TCP connection.
//! - `message of DNS`: a question, copied into the ring.

use super::Figures;
use crate::lab::NetNs;
use firewall_user::datapath::{observed::Observer, sockets::SocketMonitor};
use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

const SLUICE: &str = "sluice";
const PAST_UDP: &str = "packet past names, UDP";
const PAST_TCP: &str = "packet past names, TCP";
const MESSAGE: &str = "message of DNS";
const PACKETS: u32 = 50_000;
const QUESTION: &[u8] =
    b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01";

pub(super) fn measure(figures: &mut Figures, rounds: usize) -> Result<(), String> {
    if !figures.wants(&[PAST_UDP, PAST_TCP, MESSAGE]) {
        return Ok(());
    }
    let place = NetNs::new("names").map_err(|error| error.to_string())?;
    place.ip(&["link", "set", "lo", "up"]).map_err(|error| error.to_string())?;
    for _ in 0..rounds {
        place.run(|| one(figures))?;
    }
    Ok(())
}

fn one(figures: &mut Figures) -> Result<(), String> {
    let mut observer = Observer::start().map_err(|error| error.to_string())?;
    let _accounts = SocketMonitor::account().map_err(|error| error.to_string())?;
    let mut cost = |case: &str, work: &mut dyn FnMut() -> std::io::Result<()>| {
        let before = spent(&observer)?;
        work().map_err(|error| format!("{case}: {error}"))?;
        let after = spent(&observer)?;
        let _ = observer.drain(usize::MAX, |_, _| {});
        let (time, runs) = (after.0 - before.0, after.1 - before.1);
        figures.add(SLUICE, case, "ns", time.as_nanos() as f64 / runs.max(1) as f64);
        Ok::<(), String>(())
    };
    cost(PAST_UDP, &mut || {
        let server = UdpSocket::bind("127.0.0.1:0")?;
        let client = UdpSocket::bind("127.0.0.1:0")?;
        client.connect(server.local_addr()?)?;
        for _ in 0..PACKETS {
            client.send(&[1; 64])?;
            server.recv(&mut [0; 64])?;
        }
        Ok(())
    })?;
    cost(PAST_TCP, &mut || {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut client = TcpStream::connect(listener.local_addr()?)?;
        let (mut server, _) = listener.accept()?;
        client.set_nodelay(true)?;
        for _ in 0..PACKETS {
            client.write_all(&[1; 64])?;
            server.read_exact(&mut [0; 64])?;
        }
        Ok(())
    })?;
    cost(MESSAGE, &mut || {
        // Nobody answers; both hooks see it, and one of them takes it.
        let server = UdpSocket::bind("127.0.0.1:53")?;
        let client = UdpSocket::bind("127.0.0.1:0")?;
        client.connect(server.local_addr()?)?;
        for _ in 0..1_500 {
            client.send(QUESTION)?;
            server.recv(&mut [0; 64])?;
        }
        Ok(())
    })
}

/// What both programs have spent, in how many runs.
fn spent(observer: &Observer) -> Result<(Duration, u64), String> {
    let all = observer.costs().map_err(|error| error.to_string())?;
    Ok(all
        .into_iter()
        .fold((Duration::ZERO, 0), |(time, runs), (_, more, some)| (time + more, runs + some)))
}
