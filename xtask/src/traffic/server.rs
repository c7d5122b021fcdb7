//! The end that answers: HTTP, DNS-like UDP, a long transfer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{BULK, DNS, HTTP, Stop};

/// Connections served at once; one more is closed at once.
const MOST: usize = 128;
/// How fast a long transfer goes: this many bytes, every [`PACE`].
const CHUNK: usize = 100 * 1024;
const PACE: Duration = Duration::from_millis(50);

pub fn play(stop: &Stop) -> Result<()> {
    // `::` takes both families.
    for port in HTTP {
        serve(port, http)?;
    }
    serve(BULK, bulk)?;
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, DNS))
        .with_context(|| format!("cannot listen at UDP port {DNS}"))?;
    std::thread::spawn(move || dns(&socket));
    while stop.sleep(Duration::from_secs(3600)) {}
    Ok(())
}

fn serve(port: u16, answer: fn(&TcpStream) -> std::io::Result<()>) -> Result<()> {
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen at TCP port {port}"))?;
    let busy = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if busy.fetch_add(1, Ordering::Relaxed) >= MOST {
                busy.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let busy = Arc::clone(&busy);
            std::thread::spawn(move || {
                let limit = Some(Duration::from_secs(30));
                let _ = stream.set_read_timeout(limit);
                let _ = stream.set_write_timeout(limit);
                // A client that breaks off is a part of real traffic.
                let _ = answer(&stream);
                busy.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(())
}

/// HTTP/1.1 with keep-alive; `/N` is answered with N bytes.
fn http(stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.take(1 << 20));
    let mut out = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let size: usize = line
            .split(' ')
            .nth(1)
            .and_then(|path| path.trim_start_matches('/').parse().ok())
            .unwrap_or(0)
            .min(1 << 20);
        let mut header = String::new();
        while reader.read_line(&mut header)? > 2 {
            header.clear();
        }
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + size, b'.');
        out.write_all(&answer)?;
    }
}

/// A transfer that goes on at a steady pace for as long as the client reads.
fn bulk(mut stream: &TcpStream) -> std::io::Result<()> {
    let chunk = vec![0x5a; CHUNK];
    loop {
        stream.write_all(&chunk)?;
        std::thread::sleep(PACE);
    }
}

/// Answers each query with one address, as a name server would.
fn dns(socket: &UdpSocket) {
    let mut query = [0; 512];
    loop {
        let Ok((n, from)) = socket.recv_from(&mut query) else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        if let Some(answer) = dns_answer(&query[..n]) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// The answer to a DNS query: the same question, flags of an answer, one A record.
fn dns_answer(query: &[u8]) -> Option<Vec<u8>> {
    if query.len() < 12 {
        return None;
    }
    let mut answer = query.to_vec();
    answer[2] = 0x81;
    answer[3] = 0x80;
    answer[7] = 1;
    // Name: a pointer to the question's; type A, class IN, 60 s, four bytes.
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_repeats_the_question() {
        let query = super::super::client::dns_query(0x1234, "example.test");
        let answer = dns_answer(&query).unwrap();
        assert_eq!(answer[..2], [0x12, 0x34]);
        assert_eq!(answer[12..query.len()], query[12..]);
        assert!(answer.ends_with(&[192, 0, 2, 1]));
        assert!(dns_answer(&query[..11]).is_none());
    }

    #[test]
    fn http_keeps_the_connection_for_the_next_request() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        std::thread::spawn(move || http(&server));
        for size in [0, 5000] {
            let seen = super::super::client::http_get(&mut client, size).unwrap();
            assert_eq!(seen, size);
        }
    }
}
