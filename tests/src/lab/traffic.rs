//! Real traffic: echo servers, exchanges, a long transfer whose every byte is checked.

use super::{LabError, NetNs};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

/// A server thread that ends when its owner is dropped.
#[derive(Debug)]
pub(super) struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(work: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = stop.clone();
        Self { stop, thread: Some(std::thread::spawn(move || work(&theirs))) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(super) const TICK: Duration = Duration::from_millis(20);

/// Sends back whatever a TCP connection brings, connection by connection on threads of their own.
#[derive(Debug)]
pub struct TcpEcho {
    _server: Server,
}

impl TcpEcho {
    /// Listens on `address` in `ns`.
    ///
    /// # Errors
    /// Where the address can't be bound.
    pub fn start(ns: &NetNs, address: &str) -> Result<Self, LabError> {
        let listener = listen(ns, address)?;
        Ok(Self {
            _server: Server::start(move |stop| {
                while !stop.load(SeqCst) {
                    match listener.accept() {
                        Ok((stream, _)) => drop(std::thread::spawn(move || echo(stream))),
                        Err(_) => std::thread::sleep(TICK),
                    }
                }
            }),
        })
    }
}

pub(super) fn listen(ns: &NetNs, address: &str) -> Result<TcpListener, LabError> {
    let listener = ns
        .run(|| TcpListener::bind(address))
        .map_err(LabError::system(format!("listening on {address}")))?;
    listener.set_nonblocking(true).map_err(LabError::system("a listener without blocking"))?;
    Ok(listener)
}

fn echo(mut stream: TcpStream) {
    let _ = stream.set_nonblocking(false);
    // A peer that a policy cut off never says goodbye.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

/// Sends back each datagram.
#[derive(Debug)]
pub struct UdpEcho {
    _server: Server,
}

impl UdpEcho {
    /// Listens on `address` in `ns`.
    ///
    /// # Errors
    /// Where the address can't be bound.
    pub fn start(ns: &NetNs, address: &str) -> Result<Self, LabError> {
        let socket = ns
            .run(|| UdpSocket::bind(address))
            .map_err(LabError::system(format!("binding {address}")))?;
        socket
            .set_read_timeout(Some(TICK))
            .map_err(LabError::system("a socket with a time-out"))?;
        Ok(Self {
            _server: Server::start(move |stop| {
                let mut buffer = [0; 65_536];
                while !stop.load(SeqCst) {
                    if let Ok((n, from)) = socket.recv_from(&mut buffer) {
                        let _ = socket.send_to(&buffer[..n], from);
                    }
                }
            }),
        })
    }
}

/// Sends `payload` from `ns` (source port `sport`, 0 for any) and waits for the same to come back.
///
/// # Errors
/// `TimedOut`/`WouldBlock` where nothing came within `limit`; `ConnectionRefused` where an ICMP
/// unreachable did.
pub fn udp_exchange(
    ns: &NetNs,
    sport: u16,
    to: &str,
    payload: &[u8],
    limit: Duration,
) -> std::io::Result<()> {
    let to: SocketAddr = to.parse().expect("a socket address");
    let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    // A port that was closed a moment ago may live on in a child of this process, between fork and exec.
    let mut bound = ns.run(|| UdpSocket::bind((any, sport)));
    for _ in 0..100 {
        if !bound.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse) {
            break;
        }
        std::thread::sleep(TICK);
        bound = ns.run(|| UdpSocket::bind((any, sport)));
    }
    let socket = bound?;
    socket.connect(to).or_else(|_| ns.run(|| socket.connect(to)))?;
    socket.set_read_timeout(Some(limit))?;
    socket.send(payload)?;
    let mut buffer = vec![0; payload.len() + 1];
    let n = socket.recv(&mut buffer)?;
    assert_eq!(&buffer[..n], payload, "the echo is what was sent");
    Ok(())
}

impl NetNs {
    /// Connects to `to` from inside.
    ///
    /// # Errors
    /// As `TcpStream::connect_timeout`.
    pub fn connect(&self, to: &str, limit: Duration) -> std::io::Result<TcpStream> {
        let to: SocketAddr = to.parse().expect("a socket address");
        self.run(|| TcpStream::connect_timeout(&to, limit))
    }

    /// Connects, sends `payload`, and reads it back.
    ///
    /// # Errors
    /// Where the connection isn't made, or the echo doesn't come within `limit`.
    pub fn tcp_exchange(&self, to: &str, payload: &[u8], limit: Duration) -> std::io::Result<()> {
        let mut stream = self.connect(to, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(payload)?;
        let mut back = vec![0; payload.len()];
        stream.read_exact(&mut back)?;
        assert_eq!(back, payload, "the echo is what was sent");
        Ok(())
    }

    /// Whether `count` echo requests to `to` are all answered (a second each at most).
    pub fn ping(&self, to: &str, count: u32) -> bool {
        let count = count.to_string();
        self.command("ping")
            .args(["-q", "-n", "-i", "0.1", "-W", "1", "-c", &count, to])
            .output()
            .is_ok_and(|output| {
                output.status.success()
                    && String::from_utf8_lossy(&output.stdout).contains(" 0% packet loss")
            })
    }
}

/// A TCP transfer that goes on until told to stop. The receiver checks every byte.
#[derive(Debug)]
pub struct Transfer {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    sender: Option<JoinHandle<std::io::Result<u64>>>,
    receiver: Option<JoinHandle<Result<u64, String>>>,
}

/// Byte number `at` of every transfer: a pattern whose period is no power of two, so that a lost or
/// doubled segment shows.
fn pattern(at: u64) -> u8 {
    (at % 251) as u8
}

impl Transfer {
    /// Starts one from `from` to port `port` at `to_address` in `to`, at about 20 MB/s, so that it
    /// leaves a shared machine room.
    ///
    /// # Errors
    /// Where the connection can't be made.
    pub fn start(from: &NetNs, to: &NetNs, to_address: &str, port: u16) -> Result<Self, LabError> {
        let address: SocketAddr = if to_address.contains(':') {
            format!("[{to_address}]:{port}")
        } else {
            format!("{to_address}:{port}")
        }
        .parse()
        .expect("an address");
        let listener = listen(to, &address.to_string())?;
        let stream = from
            .connect(&address.to_string(), Duration::from_secs(5))
            .map_err(LabError::system(format!("connecting to {address}")))?;
        let incoming = super::wait_for("accepting the transfer", Duration::from_secs(5), || {
            listener.accept().ok()
        })?
        .0;
        let stop = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicU64::new(0));
        let (their_stop, counter) = (stop.clone(), received.clone());
        Ok(Self {
            stop,
            received,
            sender: Some(std::thread::spawn(move || send(stream, &their_stop))),
            receiver: Some(std::thread::spawn(move || receive(incoming, &counter))),
        })
    }

    /// Bytes that have arrived so far.
    pub fn received(&self) -> u64 {
        self.received.load(SeqCst)
    }

    /// Waits until `more` further bytes have arrived.
    ///
    /// # Errors
    /// Where they don't within `limit`.
    pub fn advance(&self, more: u64, limit: Duration) -> Result<(), LabError> {
        let goal = self.received() + more;
        super::wait_for("the transfer going on", limit, || (self.received() >= goal).then_some(()))
    }

    /// Whether nothing at all arrives for `time`.
    pub fn stalls_for(&self, time: Duration) -> bool {
        let before = self.received();
        std::thread::sleep(time);
        self.received() == before
    }

    /// Ends the transfer and returns how many bytes went through whole.
    ///
    /// # Errors
    /// In words, where a byte was wrong, missing, or the connection broke.
    pub fn finish(mut self) -> Result<u64, String> {
        self.stop.store(true, SeqCst);
        let sent =
            self.sender.take().expect("joined once").join().expect("the sender doesn't panic");
        let received =
            self.receiver.take().expect("joined once").join().expect("the receiver doesn't panic");
        let (sent, received) = (sent.map_err(|error| format!("sending: {error}"))?, received?);
        if sent == received {
            Ok(received)
        } else {
            Err(format!("{sent} bytes sent, {received} received"))
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        // The threads end by themselves: the sender at the flag, the receiver with the connection.
        self.stop.store(true, SeqCst);
    }
}

fn send(mut stream: TcpStream, stop: &AtomicBool) -> std::io::Result<u64> {
    stream.set_write_timeout(Some(Duration::from_millis(200)))?;
    let mut at = 0;
    let mut chunk = [0; 20_000];
    while !stop.load(SeqCst) {
        for (i, byte) in chunk.iter_mut().enumerate() {
            *byte = pattern(at + i as u64);
        }
        let mut done = 0;
        while done < chunk.len() {
            match stream.write(&chunk[done..]) {
                Ok(n) => done += n,
                // A full window is no error: a policy may have cut the other end off.
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if stop.load(SeqCst) {
                        return Ok(at + done as u64);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        at += chunk.len() as u64;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(at)
}

fn receive(mut stream: TcpStream, counter: &AtomicU64) -> Result<u64, String> {
    let fail = |error: std::io::Error| format!("receiving: {error}");
    stream.set_nonblocking(false).map_err(fail)?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(fail)?;
    let mut buffer = [0; 65_536];
    let mut at = 0;
    loop {
        let n = stream.read(&mut buffer).map_err(fail)?;
        if n == 0 {
            return Ok(at);
        }
        if let Some(i) =
            buffer[..n].iter().enumerate().position(|(i, byte)| *byte != pattern(at + i as u64))
        {
            return Err(format!("byte {} is wrong", at + i as u64));
        }
        at += n as u64;
        counter.store(at, SeqCst);
    }
}
