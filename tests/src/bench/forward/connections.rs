//! TCP connections made and closed, as many as go.

use crate::lab::{Lab, NetNs};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Ports of the server: together with the client's they outlast a run, though each pair rests a minute.
const PORTS: std::ops::Range<u16> = 9000..9008;
/// Clients that connect at the same time.
const CLIENTS: usize = 4;

fn server(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 77, 2, 2), port)
}

/// Connections a second, for some time.
///
/// # Errors
/// In words: the server can't listen, or a client can't connect.
pub(super) fn rate(lab: &Lab, time: Duration) -> Result<f64, String> {
    let words = |error: crate::lab::LabError| error.to_string();
    lab.client.sysctl("ipv4/ip_local_port_range", "1024 65535").map_err(words)?;
    lab.client.sysctl("ipv4/tcp_tw_reuse", "1").map_err(words)?;
    let listeners: Vec<TcpListener> = lab
        .server
        .run(|| PORTS.map(|port| TcpListener::bind(server(port))).collect::<std::io::Result<_>>())
        .map_err(|error| format!("listening: {error}"))?;
    let (over, made) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for listener in &listeners {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    drop(listener.accept());
                }
            });
        }
        let start = Instant::now();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|i| {
                scope.spawn({
                    let (over, made) = (&over, &made);
                    move || client(&lab.client, i, over, made)
                })
            })
            .collect();
        while start.elapsed() < time
            && !clients.iter().any(std::thread::ScopedJoinHandle::is_finished)
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        let rate = made.load(SeqCst) as f64 / start.elapsed().as_secs_f64();
        over.store(true, SeqCst);
        let ended: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        // One more for each listener, which waits for it.
        lab.server.run(|| PORTS.for_each(|port| drop(TcpStream::connect(server(port)))));
        for outcome in ended {
            outcome.map_err(|_| "a client's thread failed")??;
        }
        Ok(rate)
    })
}

fn client(ns: &NetNs, number: usize, over: &AtomicBool, made: &AtomicU64) -> Result<(), String> {
    ns.run(|| {
        for port in PORTS.cycle().skip(number) {
            if over.load(SeqCst) {
                break;
            }
            TcpStream::connect(server(port)).map_err(|error| format!("connecting: {error}"))?;
            made.fetch_add(1, SeqCst);
        }
        Ok(())
    })
}
