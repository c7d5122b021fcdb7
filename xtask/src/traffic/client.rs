//! The end that asks: requests, queries, pings, a long transfer, and what a gate should stop.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{BULK, DNS, HTTP, Stop, TELNET};
use crate::lab::{SERVER4, SERVER6};

const PATIENCE: Duration = Duration::from_secs(3);
/// A dropped probe is given up after this.
const SCAN_PATIENCE: Duration = Duration::from_millis(150);
/// How long a transfer goes on before the next one begins.
const TRANSFER: Duration = Duration::from_secs(60);
/// Ports of one scan.
const SCAN: [u16; 24] = [
    21, 22, 25, 110, 111, 135, 139, 143, 161, 389, 443, 445, 465, 587, 993, 995, 1433, 1521, 3306,
    3389, 5432, 5900, 6379, 11211,
];

/// What was done, by kind: done and failed.
#[derive(Debug, Default)]
struct Tally {
    http: [AtomicU64; 2],
    dns: [AtomicU64; 2],
    bulk_bytes: AtomicU64,
    scan: [AtomicU64; 2],
    telnet: [AtomicU64; 2],
}

fn count(pair: &[AtomicU64; 2], good: bool) {
    pair[usize::from(!good)].fetch_add(1, Ordering::Relaxed);
}

impl Tally {
    fn line(&self) -> String {
        let pair = |name: &str, pair: &[AtomicU64; 2], good: &str, bad: &str| {
            format!(
                "{name} {} {good} {} {bad}",
                pair[0].load(Ordering::Relaxed),
                pair[1].load(Ordering::Relaxed)
            )
        };
        [
            pair("http", &self.http, "answered", "failed"),
            pair("dns", &self.dns, "answered", "failed"),
            format!("bulk {} MiB", self.bulk_bytes.load(Ordering::Relaxed) >> 20),
            pair("scan", &self.scan, "open", "closed"),
            pair("telnet", &self.telnet, "open", "refused"),
        ]
        .join(", ")
    }
}

pub fn play(stop: &Stop) -> Result<()> {
    let tally = Arc::new(Tally::default());
    let mut threads = Vec::new();
    let mut pings = Vec::new();
    for server in [SERVER4, SERVER6] {
        let ip: IpAddr = server.parse().context("the server's address")?;
        for job in [http, dns, bulk, scan, telnet] {
            let (tally, stop) = (Arc::clone(&tally), *stop);
            threads.push(std::thread::spawn(move || job(ip, &tally, stop)));
        }
        pings.push(ping(server)?);
    }
    while stop.sleep(Duration::from_secs(10)) {
        println!("{}", tally.line());
    }
    for mut ping in pings {
        let _ = ping.kill();
        let _ = ping.wait();
    }
    for thread in threads {
        // A thread that panicked has said so in the log.
        let _ = thread.join();
    }
    println!("{}", tally.line());
    Ok(())
}

fn ping(server: &str) -> Result<Child> {
    Command::new("ping")
        .args(["-q", "-i", "1", server])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start ping: apt-get install iputils-ping")
}

fn connect(ip: IpAddr, port: u16, patience: Duration) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(ip, port), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// Four connections a second, each with one to three requests of different sizes.
fn http(ip: IpAddr, tally: &Tally, stop: Stop) {
    let sizes = [200, 1_500, 20_000, 90_000];
    let mut n = 0;
    while stop.sleep(Duration::from_millis(250)) {
        n += 1;
        let port = HTTP[n % HTTP.len()];
        match connect(ip, port, PATIENCE) {
            Ok(mut stream) => {
                for request in 0..=n % 3 {
                    let size = sizes[(n + request) % sizes.len()];
                    count(&tally.http, http_get(&mut stream, size).is_ok());
                }
            }
            Err(_) => count(&tally.http, false),
        }
    }
}

/// Asks for `size` bytes and returns how many came.
pub fn http_get(stream: &mut TcpStream, size: usize) -> std::io::Result<usize> {
    write!(stream, "GET /{size} HTTP/1.1\r\nHost: server.test\r\n\r\n")?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(length)
}

/// Five queries a second, each from a port of its own.
fn dns(ip: IpAddr, tally: &Tally, stop: Stop) {
    let from = match ip {
        IpAddr::V4(_) => "0.0.0.0:0",
        IpAddr::V6(_) => "[::]:0",
    };
    let mut id: u16 = 0;
    while stop.sleep(Duration::from_millis(200)) {
        id = id.wrapping_add(1);
        let asked = || -> std::io::Result<bool> {
            let socket = UdpSocket::bind(from)?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            socket.connect((ip, DNS))?;
            socket.send(&dns_query(id, "server.test"))?;
            let mut answer = [0; 512];
            let n = socket.recv(&mut answer)?;
            Ok(n > 2 && answer[..2] == id.to_be_bytes())
        };
        count(&tally.dns, asked().unwrap_or(false));
    }
}

/// A DNS query for the A record of `name`.
pub fn dns_query(id: u16, name: &str) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap_or(63));
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// One long transfer after the other, at the pace the server sets.
fn bulk(ip: IpAddr, tally: &Tally, stop: Stop) {
    let mut buffer = vec![0; 64 * 1024];
    while stop.sleep(Duration::from_secs(1)) {
        let Ok(mut stream) = connect(ip, BULK, PATIENCE) else {
            continue;
        };
        let until = Instant::now() + TRANSFER;
        while Instant::now() < until && !stop.now() {
            match stream.read(&mut buffer) {
                Ok(n) if n > 0 => {
                    tally.bulk_bytes.fetch_add(u64::try_from(n).unwrap_or(0), Ordering::Relaxed);
                }
                _ => break,
            }
        }
    }
}

/// Every ten seconds, ports where nothing should answer.
fn scan(ip: IpAddr, tally: &Tally, stop: Stop) {
    while stop.sleep(Duration::from_secs(10)) {
        for port in SCAN {
            if stop.now() {
                return;
            }
            count(&tally.scan, connect(ip, port, SCAN_PATIENCE).is_ok());
        }
    }
}

/// Every three seconds, a port that the gate rejects.
fn telnet(ip: IpAddr, tally: &Tally, stop: Stop) {
    while stop.sleep(Duration::from_secs(3)) {
        count(&tally.telnet, connect(ip, TELNET, PATIENCE).is_ok());
    }
}
