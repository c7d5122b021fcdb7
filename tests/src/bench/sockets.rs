//! What the socket monitor costs those whose sockets it watches, and how fast it sees them.
//!
//! - `state event` (a change of TCP's state), `udp packet`, `socket create`, `drop`: nanoseconds of its programs, as the kernel's own accounts have
//!   them (`bpf_stats_enabled`, which adds one reading of the clock to each).
//! - `connections share`: connections made and closed on the loopback device with the monitor at work (its ring
//!   drained every 20 ms), of those without it (before and after), round by round: some 10,000 a second with work for each, and as many
//!   as go.
//! - `events`: how many a second the latter makes, and how many of them were lost.
//! - `snapshot 20k|100k`: a look at all descriptors, beside `ss -tanp`, in one namespace.
//! - `memory 20k`, `idle 20k`: of the whole daemon, see `sockets_daemon`; `memory 20k, the model alone`.
//! - `connect, N rules by owner`: see [`super::owners`].
//! - `packet past names`, `message of DNS`: see [`super::names`].
//! - `history write|query`: see [`super::history`].

use super::{Figures, sockets_daemon};
use crate::lab::NetNs;
use firewall_user::{
    datapath::sockets::SocketMonitor,
    monitor::{Key, SocketTable},
};
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

const SLUICE: &str = "sluice";
const SS: &str = "ss";
/// Of a round of connections.
const TIME: Duration = Duration::from_secs(2);
/// Work for each connection: some 10,000 a second are left.
const WORK: Duration = Duration::from_micros(80);
/// As the daemon does it.
const DRAIN: Duration = Duration::from_millis(20);
/// Sockets of a snapshot.
const SNAPSHOTS: [(&str, usize); 2] = [("snapshot 20k", 20_000), ("snapshot 100k", 100_000)];
/// Connections of one process: both ends are its descriptors, of which it may not have many more.
const PER_PROCESS: usize = 5_000;

/// Measures.
pub(super) fn measure(rounds: usize, only: Option<String>) -> Result<Figures, String> {
    let mut figures = Figures::of("sockets", only);
    // Ratios of what is noisy take all of them.
    let all = rounds;
    let rounds = rounds.min(5);
    if figures.wants(&["state event", "udp packet", "socket create", "drop"]) {
        for _ in 0..rounds {
            programs(&mut figures)?;
        }
    }
    if figures.wants(&["connections share", "events"]) {
        for round in 0..all {
            eprintln!("bench: connections, round {} of {all}", round + 1);
            connections(&mut figures, "connections share", WORK)?;
            connections(&mut figures, "connections share, nothing else to do", Duration::ZERO)?;
        }
    }
    for (case, sockets) in SNAPSHOTS {
        if figures.wants(&[case]) {
            eprintln!("bench: {case}");
            snapshot(&mut figures, case, sockets, rounds)?;
        }
    }
    super::owners::measure(&mut figures, rounds)?;
    super::names::measure(&mut figures, rounds)?;
    super::history::measure(&mut figures)?;
    sockets_daemon::measure(&mut figures, rounds)?;
    figures.ratio_to(SLUICE, SS);
    Ok(figures)
}

fn start() -> Result<SocketMonitor, String> {
    SocketMonitor::start().map_err(|error| error.to_string())
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// Runs of the monitor's programs, by the kernel's accounts.
fn programs(figures: &mut Figures) -> Result<(), String> {
    let mut monitor = start()?;
    let _accounts = SocketMonitor::account().map_err(|error| error.to_string())?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(system("listening"))?;
    let to = listener.local_addr().map_err(system("listening"))?;
    for _ in 0..5_000 {
        let client = TcpStream::connect(to).map_err(system("connecting"))?;
        drop((client, listener.accept().map_err(system("accepting"))?));
    }
    let server = UdpSocket::bind("127.0.0.1:0").map_err(system("binding"))?;
    let client = UdpSocket::bind("127.0.0.1:0").map_err(system("binding"))?;
    let at = server.local_addr().map_err(system("binding"))?;
    client.connect(at).map_err(system("connecting"))?;
    for _ in 0..50_000 {
        client.send(&[1; 64]).map_err(system("sending"))?;
        server.recv(&mut [0; 64]).map_err(system("receiving"))?;
    }
    // Nobody is at that port any more: each datagram is dropped, and its sender told.
    drop(server);
    let lost = UdpSocket::bind("127.0.0.1:0").map_err(system("binding"))?;
    for _ in 0..20_000 {
        lost.send_to(&[1; 64], at).map_err(system("sending"))?;
    }
    monitor.drain(usize::MAX, |event| {
        black_box(event);
    });
    let counters = monitor.counters().map_err(|error| error.to_string())?;
    let told: u64 = counters.iter().map(|counter| counter.produced).sum();
    let mut cost = std::collections::HashMap::new();
    for (name, time, runs) in monitor.costs().map_err(|error| error.to_string())? {
        if name == "sluice_state" {
            // Half of the changes are told of, but for three datagram sockets' ends no other program tells of any.
            let each = time.as_nanos() as f64 / told.max(1) as f64;
            figures.add(
                SLUICE,
                "state event",
                "ns each that is told of, and its share of the others",
                each,
            );
        }
        cost.insert(name, time.as_nanos() as f64 / runs.max(1) as f64);
    }
    let of = |name: &str| cost.get(name).copied().unwrap_or(f64::NAN);
    figures.add(SLUICE, "state event", "ns", of("sluice_state"));
    figures.add(
        SLUICE,
        "udp packet",
        "ns, sent or received",
        (of("sluice_sent") + of("sluice_received")) / 2.0,
    );
    figures.add(SLUICE, "socket create", "ns", of("sluice_sock_create"));
    figures.add(SLUICE, "drop", "ns", of("sluice_dropped"));
    Ok(())
}

/// Connections a second, made and closed one after the other, with so much work for each.
fn rate(work: Duration) -> Result<f64, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(system("listening"))?;
    let to = listener.local_addr().map_err(system("listening"))?;
    let (start, mut made) = (Instant::now(), 0u32);
    while start.elapsed() < TIME {
        let client = TcpStream::connect(to).map_err(system("connecting"))?;
        let (server, _) = listener.accept().map_err(system("accepting"))?;
        // The far end first: the port waits there.
        drop(server);
        drop(client);
        made += 1;
        let begin = Instant::now();
        while begin.elapsed() < work {
            std::hint::spin_loop();
        }
    }
    Ok(f64::from(made) / start.elapsed().as_secs_f64())
}

fn connections(figures: &mut Figures, case: &str, work: Duration) -> Result<(), String> {
    let before = rate(work)?;
    let mut monitor = start()?;
    let over = AtomicBool::new(false);
    let (with, events, lost) = std::thread::scope(|scope| {
        let drains = scope.spawn(|| {
            let (mut table, mut events) = (SocketTable::default(), 0);
            while !over.load(SeqCst) {
                std::thread::sleep(DRAIN);
                events += monitor.drain(usize::MAX, |event| {
                    table.event(event, &|_, _| Key::unknown());
                });
            }
            let lost = monitor
                .counters()
                .map(|counters| counters.iter().map(|counter| counter.lost).sum::<u64>());
            (events, lost)
        });
        let with = rate(work);
        over.store(true, SeqCst);
        let (events, lost) = drains.join().map_err(|_| "a thread failed".to_owned())?;
        Ok::<_, String>((with?, events, lost.map_err(|error| error.to_string())?))
    })?;
    drop(monitor);
    // Before and after: what else the machine does comes and goes.
    let without = (before + rate(work)?) / 2.0;
    figures.add(SLUICE, case, "% of without", with / without * 100.0);
    figures.add(SLUICE, case, "a second", with);
    figures.add("without", case, "a second", without);
    if work.is_zero() {
        figures.add(SLUICE, "events", "a second", events as f64 / TIME.as_secs_f64());
        figures.add(SLUICE, "events", "lost", lost as f64);
    }
    Ok(())
}

/// Memory of this process, bytes.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or_default();
    pages * 4096.0
}

fn snapshot(
    figures: &mut Figures,
    case: &'static str,
    sockets: usize,
    rounds: usize,
) -> Result<(), String> {
    let ns = NetNs::new("many").map_err(|error| error.to_string())?;
    ns.ip(&["link", "set", "lo", "up"]).map_err(|error| error.to_string())?;
    let _holders = ns.run(|| Holders::start(sockets))?;
    let mut monitor = start()?;
    let mut table = SocketTable::default();
    for round in 0..rounds {
        let begin = Instant::now();
        let held = monitor.snapshot().map_err(|error| error.to_string())?;
        figures.add(SLUICE, case, "ms", begin.elapsed().as_secs_f64() * 1e3);
        if held.len() < sockets {
            return Err(format!("{} of {sockets} sockets were seen", held.len()));
        }
        if round == 0 && sockets == SNAPSHOTS[0].1 {
            let before = resident();
            table.snapshot(&held, 1, 1, false, &|_, _| Key::unknown());
            let took = (resident() - before) / 1e6;
            figures.add(SLUICE, "memory 20k, the model alone", "MB", took);
        }
        let begin = Instant::now();
        let seen = ns.exec("ss", &["-tanpH"]).map_err(|error| error.to_string())?;
        figures.add(SS, case, "ms", begin.elapsed().as_secs_f64() * 1e3);
        black_box(seen);
    }
    Ok(())
}

/// Processes that hold sockets: one may not have as many descriptors as are wanted.
pub(super) struct Holders(Vec<libc::pid_t>);

impl Holders {
    /// Starts as many as it takes, in the caller's namespace.
    pub(super) fn start(sockets: usize) -> Result<Self, String> {
        let mut holders = Self(Vec::new());
        for part in 1..=sockets.div_ceil(2 * PER_PROCESS) {
            let pairs = PER_PROCESS.min(sockets / 2 - (part - 1) * PER_PROCESS);
            let (read, write) = std::io::pipe().map_err(system("a pipe"))?;
            // SAFETY: the child has this thread alone, and ends without going back.
            let child = unsafe { libc::fork() };
            if child == 0 {
                drop(read);
                let open = many(part as u8, pairs);
                let _ = (&write).write_all(if open.is_ok() { b"+" } else { b"-" });
                loop {
                    // SAFETY: takes nothing.
                    unsafe { libc::pause() };
                }
            }
            if child < 0 {
                return Err(format!("fork: {}", std::io::Error::last_os_error()));
            }
            holders.0.push(child);
            drop(write);
            let mut said = [0];
            (&read).read_exact(&mut said).map_err(system("a process that holds sockets"))?;
            if said != *b"+" {
                return Err(format!("{pairs} connections can't be made"));
            }
        }
        Ok(holders)
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        for child in &self.0 {
            let mut status = 0;
            // SAFETY: our own children, each waited for once.
            unsafe {
                libc::kill(*child, libc::SIGKILL);
                libc::waitpid(*child, &raw mut status, 0);
            }
        }
    }
}

/// Connections on the loopback device, to an address of their own, and both ends of them.
fn many(last: u8, pairs: usize) -> std::io::Result<Vec<(TcpStream, TcpStream)>> {
    let address = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 7);
    let listener = TcpListener::bind(address)?;
    (0..pairs).map(|_| Ok((TcpStream::connect(address)?, listener.accept()?.0))).collect()
}
