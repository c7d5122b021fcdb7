//! The socket monitor on the real kernel: owners, states, and numbers of sockets. Through the product's own
//! loader; each test looks at its own sockets among all those of the machine.

use firewall_common::abi::socket::{HeldSocket, Process, SocketClass, SocketEvent};
use firewall_user::datapath::sockets::SocketMonitor;
use firewall_user::owners::Owners;
use sluice_tests::lab::NetNs;
use sluice_tests::skip;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// TCP_ESTABLISHED, TCP_LISTEN (include/net/tcp_states.h).
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;
/// AF_INET6, AF_PACKET.
const INET6: u16 = 10;
const PACKET: u16 = 17;

/// One after the other: each sees the sockets of all, and the ring of one must not fill with another's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Bench {
    monitor: SocketMonitor,
    events: Vec<SocketEvent>,
    _alone: std::sync::MutexGuard<'static, ()>,
}

impl Bench {
    fn or_skip(test: &str) -> Option<Self> {
        if let Some(reason) = skip::no_kernel_access() {
            skip::skip(test, reason);
            return None;
        }
        if skip::path_from_env("SLUICE_BPF_OBJECT").is_none() {
            skip::skip(test, "SLUICE_BPF_OBJECT isn't set (run `cargo xtask test`)");
            return None;
        }
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let monitor = SocketMonitor::start().expect("a monitor");
        assert!(monitor.missing().is_empty(), "{:?}", monitor.missing());
        Some(Self { monitor, events: Vec::new(), _alone: alone })
    }

    fn drain(&mut self) {
        let events = &mut self.events;
        self.monitor.drain(usize::MAX, |event| events.push(*event));
    }

    /// Events with this port at either end, or (as ports may be gone) of the sockets that had one.
    fn of_port(&mut self, port: u16) -> Vec<SocketEvent> {
        self.drain();
        let cookies: HashSet<u64> = self
            .events
            .iter()
            .filter(|e| e.row.local_port == port || e.row.remote_port == port)
            .map(|e| e.row.usage.cookie)
            .collect();
        self.events.iter().filter(|e| cookies.contains(&e.row.usage.cookie)).copied().collect()
    }

    /// Has the owners of sockets that ask for this port met, from the event `from` on, as the daemon does from one
    /// drain to the next; how many events there were.
    fn meet(&self, owners: &mut Owners, port: u16, from: usize) -> usize {
        let mut looks = 200;
        owners.catch_up(&mut looks);
        for event in self.events[from..].iter().filter(|event| event.row.remote_port == port) {
            owners.meet(&event.row.usage.owner, &mut looks);
        }
        self.events.len()
    }

    /// Numbers and starts of processes whose ends were told.
    fn exits(&self) -> impl Iterator<Item = (u32, u64)> {
        let exited = self.events.iter().filter(|e| e.class == SocketClass::Exited.raw());
        exited.map(|e| (e.row.usage.owner.tgid, e.row.usage.owner.start_ns))
    }

    fn held(&mut self, wanted: impl Fn(&HeldSocket) -> bool) -> Vec<HeldSocket> {
        let mut held = self.monitor.snapshot().expect("a snapshot");
        held.retain(wanted);
        held
    }
}

/// Each process whose socket asked for this port was read, or is counted as gone: exactly.
fn every_owner_is_accounted_for(owners: &mut Owners, events: &[SocketEvent], port: u16) {
    let parts = |owners: &Owners| {
        let looks = owners.looks();
        let sum = looks.seen + looks.unseen + looks.waiting + looks.overflowed;
        assert_eq!(looks.met, sum, "{looks:?}");
        looks
    };
    assert!(parts(owners).waiting > 0, "more than can be looked at at once");
    owners.catch_up_all();
    let looks = parts(owners);
    let asked = events.iter().filter(|event| event.row.remote_port == port);
    let all: HashMap<(u32, u64), Process> = asked
        .map(|e| e.row.usage.owner)
        .map(|owner| ((owner.tgid, owner.start_ns), owner))
        .collect();
    let (read, not): (Vec<_>, Vec<_>) =
        all.values().partition(|owner| owners.peek(owner).is_some_and(|owner| owner.seen));
    assert_eq!((looks.seen, looks.unseen), (read.len() as u64, not.len() as u64), "{looks:?}");
    assert!(not.iter().all(|owner| owners.user(owner).is_some()), "users need nobody to be there");
}

fn count(events: &[SocketEvent], class: SocketClass) -> usize {
    events.iter().filter(|event| event.class == class.raw()).count()
}

fn me() -> u32 {
    std::process::id()
}

/// Number and start of a process, as the kernel has them: from /proc, in clock ticks.
fn start_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let after = stat.rsplit_once(')').expect("a name").1;
    after.split_whitespace().nth(19).and_then(|word| word.parse().ok()).expect("a start")
}

fn is_process(process: &Process, pid: u32) {
    assert_eq!(process.tgid, pid);
    // SAFETY: sysconf reads a number.
    let rate = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as u64;
    assert_eq!(process.start_ns / (1_000_000_000 / rate), start_ticks(pid), "{process:?}");
}

fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
fn a_connection_is_followed_from_its_socket_to_its_end() {
    let test = "sockets::a_connection_is_followed_from_its_socket_to_its_end";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mut client, mut server) = pair(&listener);
    client.write_all(&[7; 1000]).unwrap();
    server.read_exact(&mut [0; 1000]).unwrap();
    let mine = bench.held(|socket| socket.row.local_port == port);
    assert_eq!(mine.len(), 2, "{mine:?}");
    for socket in &mine {
        is_process(&socket.holder, me());
        is_process(&socket.row.usage.owner, me());
        assert_ne!(socket.row.usage.created_ns, 0);
    }
    let accepted = mine.iter().find(|socket| socket.row.state == ESTABLISHED).unwrap();
    assert_eq!(accepted.descriptor, server.as_raw_fd() as u32);
    assert_eq!((accepted.row.usage.received_bytes, accepted.row.bytes_received), (1000, 1000));
    assert_eq!((accepted.row.usage.receives, accepted.row.usage.sent_bytes), (1, 0));
    assert!(accepted.row.srtt_us > 0 && accepted.row.segs_in >= 2, "{accepted:?}");
    assert!(mine.iter().any(|socket| socket.row.state == LISTEN));
    drop((client, server));
    drop(listener);
    let events = bench.of_port(port);
    let counts = SocketClass::ALL.iter().map(|class| count(&events, *class)).collect::<Vec<_>>();
    let all = "listening, connecting, established, closed, exited";
    assert_eq!(counts, [1, 1, 2, 3, 0], "{all}: {events:?}");
    for event in events.iter().filter(|event| event.class == SocketClass::Closed.raw()) {
        is_process(&event.row.usage.owner, me());
        assert_ne!(event.row.local_port, 0, "also where it is bound no more: {event:?}");
    }
    let asked = |event: &&SocketEvent| event.row.usage.asked_ns != 0;
    for event in events.iter().filter(asked).filter(|e| e.class == SocketClass::Established.raw()) {
        let took = event.row.usage.established_ns - event.row.usage.asked_ns;
        assert!(took > 0 && took < 1_000_000_000, "{took} ns");
    }
}

#[test]
fn what_was_there_before_has_its_holder() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let old = pair(&listener);
    let Some(mut bench) = Bench::or_skip("sockets::what_was_there_before_has_its_holder") else {
        return;
    };
    let mine = bench.held(|socket| socket.row.local_port == port || socket.row.remote_port == port);
    assert_eq!(mine.len(), 3, "the listener and both ends: {mine:?}");
    for socket in &mine {
        is_process(&socket.row.usage.owner, me());
        assert_eq!(socket.row.usage.created_ns, 0, "nobody saw it made");
    }
    // Accepted from now on: the owner is inherited, the rest isn't.
    let new = pair(&listener);
    let port = new.0.local_addr().unwrap().port();
    let accepted = bench.held(|socket| socket.row.remote_port == port);
    is_process(&accepted[0].row.usage.owner, me());
    assert_ne!(accepted[0].row.usage.created_ns, 0);
    drop((old, new));
}

#[test]
fn a_failed_connection_says_why() {
    let Some(mut bench) = Bench::or_skip("sockets::a_failed_connection_says_why") else { return };
    // A port that nobody listens at: it was just let go.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    let events = bench.of_port(port);
    let closed: Vec<_> = events
        .iter()
        .filter(|e| e.class == SocketClass::Closed.raw() && e.row.remote_port == port)
        .collect();
    assert_eq!(closed.len(), 1, "{events:?}");
    assert_eq!((closed[0].row.error as i32, closed[0].before), (libc::ECONNREFUSED, 2));
    is_process(&closed[0].row.usage.owner, me());
}

#[test]
fn datagrams_are_counted_from_the_first_to_the_last() {
    let test = "sockets::datagrams_are_counted_from_the_first_to_the_last";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(("127.0.0.1", port)).unwrap();
    for size in 1..=50 {
        client.send(&vec![9; size * 10]).unwrap();
        let mut buffer = [0; 2000];
        // Looked at and then taken: counted once.
        server.peek(&mut buffer).unwrap();
        assert_eq!(server.recv(&mut buffer).unwrap(), size * 10);
    }
    let sum: u64 = (1..=50).map(|size| size * 10).sum();
    let mine = bench.held(|socket| socket.row.local_port == port);
    let usage = &mine[0].row.usage;
    assert_eq!((usage.received_bytes, usage.receives), (sum, 50));
    drop((client, server));
    let events = bench.of_port(port);
    assert_eq!(count(&events, SocketClass::Established), 2, "each is used for the first time once");
    assert_eq!(count(&events, SocketClass::Closed), 2);
    let sent: Vec<_> = events
        .iter()
        .filter(|e| e.class == SocketClass::Closed.raw() && e.row.usage.sends != 0)
        .map(|e| (e.row.usage.sent_bytes, e.row.usage.sends))
        .collect();
    assert_eq!(sent, [(sum, 50)]);
}

#[test]
fn who_uses_a_passed_descriptor_is_told_from_its_owner() {
    let test = "sockets::who_uses_a_passed_descriptor_is_told_from_its_owner";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, mut server) = pair(&listener);
    let port = client.local_addr().unwrap().port();
    let out: OwnedFd = client.try_clone().unwrap().into();
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(out).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"hello").unwrap();
    server.read_exact(&mut [0; 5]).unwrap();
    let mine = bench.held(|socket| socket.row.local_port == port);
    let holders: BTreeSet<u32> = mine.iter().map(|socket| socket.holder.tgid).collect();
    assert_eq!(holders, BTreeSet::from([me(), child.id()]), "both hold it");
    let usage = &mine[0].row.usage;
    is_process(&usage.owner, me());
    is_process(&usage.user, child.id());
    assert_eq!(&usage.user.comm[..4], b"cat\0");
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn every_namespace_is_seen_and_told_apart() {
    let test = "sockets::every_namespace_is_seen_and_told_apart";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let ns = NetNs::new("far").unwrap();
    ns.ip(&["link", "set", "lo", "up"]).unwrap();
    let (listener, inode) = ns.run(|| {
        use std::os::unix::fs::MetadataExt as _;
        let listener = TcpListener::bind("[::1]:7070").unwrap();
        (listener, std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino() as u32)
    });
    // SAFETY: a new descriptor that is nobody else's.
    let raw = ns.run(|| unsafe {
        OwnedFd::from_raw_fd(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0x0300))
    });
    let mine = bench.held(|socket| socket.row.netns == inode);
    let listening: Vec<_> = mine.iter().filter(|socket| socket.row.family == INET6).collect();
    assert_eq!(listening.len(), 1, "{mine:?}");
    assert_eq!((listening[0].row.local_port, listening[0].row.state), (7070, LISTEN));
    assert_eq!(listening[0].row.local[15], 1, "::1");
    let packet: Vec<_> = mine.iter().filter(|socket| socket.row.family == PACKET).collect();
    assert_eq!(packet.len(), 1, "a socket that sees everything is seen: {mine:?}");
    is_process(&packet[0].holder, me());
    drop((listener, raw));
    assert!(bench.held(|socket| socket.row.netns == inode).is_empty());
}

/// What a process of its own does, which ends at once: nobody could ask /proc. Its number.
///
/// # Safety
/// The child calls nothing but system calls.
unsafe fn short_life(does: impl FnOnce()) -> u32 {
    // SAFETY: the caller's promise; the child ends.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            does();
            libc::_exit(0);
        }
        assert!(child > 0, "fork: {}", std::io::Error::last_os_error());
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0);
        child as u32
    }
}

/// One connection.
fn connects(to: libc::sockaddr_in) -> u32 {
    // SAFETY: system calls, which are given what they ask for.
    unsafe {
        short_life(|| {
            let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            let length = size_of::<libc::sockaddr_in>() as u32;
            libc::connect(socket, (&raw const to).cast(), length);
        })
    }
}

#[test]
fn ten_thousand_short_lived_processes_own_their_connections() {
    let test = "sockets::ten_thousand_short_lived_processes_own_their_connections";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    };
    let mut children = Vec::new();
    let (mut owners, mut met) = (Owners::default(), 0);
    for i in 0..10_000 {
        children.push(connects(to));
        drop(listener.accept().unwrap());
        // Others on this machine fill the ring, too.
        if i % 50 == 0 {
            bench.drain();
        }
        if i % 500 == 0 {
            met = bench.meet(&mut owners, port, met);
        }
    }
    let events = bench.of_port(port);
    bench.meet(&mut owners, port, met);
    every_owner_is_accounted_for(&mut owners, &events, port);
    // In the order in which they were made: a number may be used again, its process isn't the same.
    let asked: Vec<_> = events
        .iter()
        .filter(|e| e.class == SocketClass::Connecting.raw() && e.row.remote_port == port)
        .collect();
    let owners: Vec<u32> = asked.iter().map(|event| event.row.usage.owner.tgid).collect();
    assert_eq!(owners, children, "each connection is its process's own");
    let identities: HashSet<(u32, u64)> = asked
        .iter()
        .map(|event| (event.row.usage.owner.tgid, event.row.usage.owner.start_ns))
        .collect();
    assert_eq!(identities.len(), children.len(), "no two are the same process");
    // At the end too: the event is of the socket, whoever runs there.
    let by_cookie: HashMap<u64, u32> =
        asked.iter().map(|e| (e.row.usage.cookie, e.row.usage.owner.tgid)).collect();
    let closed = events.iter().filter(|e| {
        e.class == SocketClass::Closed.raw() && by_cookie.contains_key(&e.row.usage.cookie)
    });
    let mut ends = 0;
    for event in closed {
        assert_eq!(Some(&event.row.usage.owner.tgid), by_cookie.get(&event.row.usage.cookie));
        ends += 1;
    }
    assert!(ends > 9_000, "{ends}: the last may still be waiting for their other end");
    let counters = bench.monitor.counters().unwrap();
    assert!(counters.iter().all(|counter| counter.lost == 0), "{counters:?}");
    // The end of each was told, once.
    let exited: Vec<(u32, u64)> = bench.exits().filter(|who| identities.contains(who)).collect();
    assert_eq!(exited.len(), identities.len());
    assert_eq!(exited.into_iter().collect::<HashSet<_>>(), identities);
}

/// A process that only ends, maybe with a socket that it never used.
fn only_ends(with_socket: bool) -> u32 {
    // SAFETY: a system call.
    unsafe {
        short_life(|| {
            if with_socket {
                libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
            }
        })
    }
}

#[test]
fn the_end_of_who_has_a_socket_is_told_and_of_nobody_else() {
    let test = "sockets::the_end_of_who_has_a_socket_is_told_and_of_nobody_else";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let owners: Vec<u32> = (0..100).map(|_| only_ends(true)).collect();
    let others: Vec<u32> = (0..100).map(|_| only_ends(false)).collect();
    // A thread's end isn't its process's.
    std::thread::spawn(|| UdpSocket::bind("127.0.0.1:0").unwrap()).join().unwrap();
    bench.drain();
    let exited: Vec<u32> = bench.exits().map(|(pid, _)| pid).collect();
    let told = |pid: &u32| exited.iter().filter(|one| *one == pid).count();
    assert!(owners.iter().all(|pid| told(pid) == 1), "{owners:?}: {exited:?}");
    assert!(others.iter().all(|pid| told(pid) == 0), "{others:?}: {exited:?}");
    assert_eq!(told(&me()), 0, "{exited:?}");
}

#[test]
fn who_was_found_holding_a_socket_is_watched_too() {
    let test = "sockets::who_was_found_holding_a_socket_is_watched_too";
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let input: OwnedFd = socket.into();
    let mut child = Command::new("sleep").arg("600").stdin(input).spawn().unwrap();
    let Some(mut bench) = Bench::or_skip(test) else {
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    };
    let held = bench.held(|socket| socket.row.local_port == port);
    is_process(&held[0].row.usage.owner, child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    bench.drain();
    assert_eq!(bench.exits().filter(|(pid, _)| *pid == child.id()).count(), 1);
}

#[test]
fn what_overflows_is_counted() {
    let Some(mut bench) = Bench::or_skip("sockets::what_overflows_is_counted") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Six events a connection, and room for some 15,000.
    for _ in 0..5_000 {
        drop(pair(&listener));
    }
    bench.drain();
    // Those that were produced while we read are read as well.
    bench.drain();
    let counters = bench.monitor.counters().unwrap();
    let lost: u64 = counters.iter().map(|counter| counter.lost).sum();
    assert!(lost > 1_000, "{counters:?}");
    for class in SocketClass::ALL {
        let seen = count(&bench.events, *class) as u64;
        let counter = counters[usize::from(class.raw())];
        assert!(counter.produced >= seen + counter.lost, "{}: {counter:?}, {seen}", class.name());
        // Others on this machine may have made some since the last look.
        assert!(
            counter.produced - seen - counter.lost < 50,
            "{}: {counter:?}, {seen}",
            class.name()
        );
    }
}

#[test]
fn ss_sees_the_same() {
    let test = "sockets::ss_sees_the_same";
    if let Some(why) = sluice_tests::lab::missing_tools(&["ss"]) {
        skip::skip(test, &why);
        return;
    }
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let ns = NetNs::new("ss").unwrap();
    ns.ip(&["link", "set", "lo", "up"]).unwrap();
    let (inode, kept) = ns.run(|| {
        use std::os::unix::fs::MetadataExt as _;
        let mut kept: Vec<(TcpListener, Vec<(TcpStream, TcpStream)>)> = Vec::new();
        for i in 0..20 {
            let at = if i % 2 == 0 { "127.0.0.1:0" } else { "[::1]:0" };
            let listener = TcpListener::bind(at).unwrap();
            let pairs = (0..10).map(|_| pair(&listener)).collect();
            kept.push((listener, pairs));
        }
        (std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino() as u32, kept)
    });
    let theirs: BTreeSet<(String, u16, u16)> = ns
        .exec("ss", &["-tanH"])
        .unwrap()
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let port = |word: &str| word.rsplit_once(':').unwrap().1.parse().unwrap_or(0);
            (words[0].to_owned(), port(words[3]), port(words[4]))
        })
        .collect();
    let ours: BTreeSet<(String, u16, u16)> = bench
        .held(|socket| socket.row.netns == inode)
        .iter()
        .map(|socket| {
            let state = match socket.row.state {
                ESTABLISHED => "ESTAB",
                LISTEN => "LISTEN",
                _ => "?",
            };
            (state.to_owned(), socket.row.local_port, socket.row.remote_port)
        })
        .collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 20 + 20 * 10 * 2);
    drop(kept);
}
