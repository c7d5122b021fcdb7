//! Our list beside `ss` and /proc/net, of one namespace at one moment: the same sockets, the same states, the same
//! processes.

use crate::stage::{Stage, number};
use serde_json::Value;
use sluice_tests::lab::{RawSocket, missing_tools, wait_for};
use sluice_tests::skip;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use crate::stage::SOON;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// A socket as both have it: protocol, state, ports, and who holds it at which descriptor.
type Seen = (String, String, u64, u64, BTreeSet<(u64, u64)>);

/// What `ss` calls states, in our words.
fn state(word: &str, kind: &str) -> String {
    match (kind, word) {
        ("tcp", "ESTAB") => "established",
        ("tcp", "LISTEN") => "listen",
        ("tcp", "SYN-SENT") => "syn-sent",
        ("tcp", "FIN-WAIT-1") => "fin-wait-1",
        ("tcp", "FIN-WAIT-2") => "fin-wait-2",
        ("tcp", "CLOSE-WAIT") => "close-wait",
        ("tcp", "LAST-ACK") => "last-ack",
        ("udp", "ESTAB") => "connected",
        ("udp", "UNCONN") => "unconnected",
        ("raw" | "packet", _) => "open",
        _ => panic!("{kind} {word}"),
    }
    .to_owned()
}

/// The last word of a line that begins so, up to what ends it.
fn word<'a>(line: &'a str, begins: &str, ends: char) -> Option<&'a str> {
    let rest = &line[line.find(begins)? + begins.len()..];
    rest.split(ends).next()
}

/// Whether `ss` was told the numbers of raw sockets: kernels without raw_diag have only /proc/net/raw.
static RAW_DIAG: AtomicBool = AtomicBool::new(true);

/// Stands for the number of a socket that `ss` has none of: who holds it.
fn keyless(holders: &BTreeSet<(u64, u64)>) -> u64 {
    RAW_DIAG.store(false, SeqCst);
    let (pid, descriptor) = holders.first().copied().unwrap_or_default();
    1 << 63 | pid << 32 | descriptor
}

/// What `ss` says, by the kernel's own numbers of sockets.
fn of_ss(stage: &Stage) -> BTreeMap<u64, Seen> {
    let mut all = BTreeMap::new();
    for (flags, kind) in
        [("-tanpeH", "tcp"), ("-uanpeH", "udp"), ("-wanpeH", "raw"), ("-0anpeH", "packet")]
    {
        for line in stage.ns.exec("ss", &[flags]).unwrap().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            // The kernel keeps no socket of the one; the other is more about the line before.
            if words[0] == "TIME-WAIT" || line.starts_with('\t') || line.contains("timer:(timewait")
            {
                continue;
            }
            // Packet sockets have a protocol and an interface there, raw ones a protocol for their port.
            let port = |word: &str| match kind {
                "tcp" | "udp" => word.rsplit_once(':').unwrap().1.parse().unwrap_or(0),
                _ => 0,
            };
            let addresses =
                if kind == "packet" { [0, 0] } else { [port(words[3]), port(words[4])] };
            let holders = line.match_indices("pid=").map(|(at, _)| {
                let rest = &line[at..];
                let number = |begins, ends| word(rest, begins, ends).unwrap().parse().unwrap();
                (number("pid=", ','), number("fd=", ')'))
            });
            let holders: BTreeSet<_> = holders.collect();
            let key = match word(line, "sk:", ' ') {
                Some(cookie) => u64::from_str_radix(cookie, 16).unwrap(),
                None => keyless(&holders),
            };
            let (kind, state) = (kind.to_owned(), state(words[0], kind));
            all.insert(key, (kind, state, addresses[0], addresses[1], holders));
        }
    }
    all
}

/// What we say.
fn of_ours(rows: &[Value]) -> BTreeMap<u64, Seen> {
    let seen = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let kind = text("proto").split('/').next().unwrap().to_owned();
        let holders = row["holders"].as_array().unwrap().iter();
        let holders: BTreeSet<_> =
            holders.map(|one| (number(one, "pid"), number(one, "descriptor"))).collect();
        let ports = if matches!(kind.as_str(), "tcp" | "udp") {
            [number(row, "local_port"), number(row, "remote_port")]
        } else {
            [0, 0]
        };
        let key = if kind == "raw" && !RAW_DIAG.load(SeqCst) {
            keyless(&holders)
        } else {
            u64::from_str_radix(&text("id"), 16).unwrap()
        };
        (key, (kind, text("state"), ports[0], ports[1], holders))
    };
    rows.iter().map(seen).collect()
}

/// Ends of /proc/net/tcp and its like: protocol, local and remote port, state as the kernel numbers it.
fn of_procfs(stage: &Stage) -> Vec<(&'static str, u64, u64, u8)> {
    let mut all = Vec::new();
    for (file, kind) in
        [("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp"), ("raw", "raw")]
    {
        let path = format!("/proc/thread-self/net/{file}");
        let text = stage.ns.run(|| std::fs::read_to_string(path).unwrap());
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let port =
                |word: &str| u64::from_str_radix(word.rsplit_once(':').unwrap().1, 16).unwrap();
            let state = u8::from_str_radix(words[3], 16).unwrap();
            // TCP_TIME_WAIT.
            if kind != "tcp" || state != 6 {
                let local = if kind == "raw" { 0 } else { port(words[1]) };
                all.push((kind, local, port(words[2]), state));
            }
        }
    }
    let packet = stage.ns.run(|| std::fs::read_to_string("/proc/thread-self/net/packet").unwrap());
    all.extend(packet.lines().skip(1).map(|_| ("packet", 0, 0, 0)));
    all.sort_unstable();
    all
}

/// Our rows in the same form.
fn as_procfs(rows: &BTreeMap<u64, Seen>) -> Vec<(&'static str, u64, u64, u8)> {
    let mut all: Vec<_> = rows
        .values()
        .map(|(kind, state, local, remote, _)| match kind.as_str() {
            "tcp" => {
                let number = firewall_user::view::SOCKET_TCP_STATES.iter().position(|s| s == state);
                ("tcp", *local, *remote, number.unwrap() as u8)
            }
            "udp" => ("udp", *local, *remote, if state == "connected" { 1 } else { 7 }),
            "raw" => ("raw", 0, 0, 7),
            _ => ("packet", 0, 0, 0),
        })
        .collect();
    all.sort_unstable();
    all
}

/// Sockets in every state that lasts.
fn cast(stage: &Stage) -> Vec<OwnedFd> {
    let mut kept: Vec<OwnedFd> = Vec::new();
    stage.ns.ip(&["link", "add", "d0", "type", "veth", "peer", "name", "d1"]).unwrap();
    stage.ns.ip(&["link", "set", "d1", "up"]).unwrap();
    stage.ns.ip(&["address", "add", "192.0.2.1/24", "dev", "d0"]).unwrap();
    stage.ns.ip(&["link", "set", "d0", "up"]).unwrap();
    // Nobody there answers, nor says that there is nobody.
    let there = ["neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:02", "dev", "d0"];
    stage.ns.ip(&there).unwrap();
    stage.ns.run(|| {
        for at in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let to = (
                if at.starts_with("127") { "127.0.0.1" } else { "::1" },
                listener.local_addr().unwrap().port(),
            );
            for i in 0..10 {
                let client = TcpStream::connect(to).unwrap();
                let (server, _) = listener.accept().unwrap();
                // FIN-WAIT-2 here, CLOSE-WAIT there.
                if i % 3 == 0 {
                    client.shutdown(Shutdown::Write).unwrap();
                }
                kept.extend([OwnedFd::from(client), server.into()]);
            }
            kept.push(listener.into());
            let one = UdpSocket::bind(at).unwrap();
            let two = UdpSocket::bind((to.0, 0)).unwrap();
            two.connect((to.0, one.local_addr().unwrap().port())).unwrap();
            kept.extend([OwnedFd::from(one.try_clone().unwrap()), one.into(), two.into()]);
        }
        // SAFETY: sockets take numbers, and are nobody else's; the address is as long as said.
        unsafe {
            let socket = |family, kind, protocol| {
                let raw = libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol);
                assert!(raw >= 0, "{}", std::io::Error::last_os_error());
                OwnedFd::from_raw_fd(raw)
            };
            kept.push(socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP));
            kept.push(socket(libc::AF_INET, libc::SOCK_RAW, 253));
            let asks = socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
            let mut to: libc::sockaddr_in = std::mem::zeroed();
            to.sin_family = libc::AF_INET as u16;
            to.sin_port = 80u16.to_be();
            to.sin_addr.s_addr = u32::from_ne_bytes([192, 0, 2, 2]);
            libc::connect(asks.as_raw_fd(), (&raw const to).cast(), size_of_val(&to) as u32);
            kept.push(asks);
        }
    });
    kept
}

#[test]
fn ss_and_procfs_list_the_same() {
    let test = "e2e_scenes::beside::ss_and_procfs_list_the_same";
    if let Some(why) = missing_tools(&["ss"]) {
        skip::skip(test, &why);
        return;
    }
    let Some(stage) = Stage::or_skip(test) else { return };
    let kept = cast(&stage);
    let _packet = RawSocket::open(&stage.ns, "lo").unwrap();
    let _other = RawSocket::open(&stage.ns, "d0").unwrap();
    let mut last = None;
    let same = wait_for("a moment when nothing changes", SOON, || {
        let before = of_ss(&stage);
        let rows = stage.live("family in (0, 4, 6)");
        let (between, after) = (of_procfs(&stage), of_ss(&stage));
        // Handshakes and FINs may be on their way.
        let still = before == after;
        last = Some((before, of_ours(&rows), between));
        still.then_some(())
    });
    let (theirs, ours, listed) = last.unwrap();
    same.unwrap();
    for (cookie, seen) in &theirs {
        assert_eq!(ours.get(cookie), Some(seen), "{cookie:x}");
    }
    assert_eq!(ours, theirs);
    assert_eq!(as_procfs(&ours), listed);
    let states: BTreeSet<&str> = ours.values().map(|(_, state, ..)| state.as_str()).collect();
    let all = [
        "close-wait",
        "connected",
        "established",
        "fin-wait-2",
        "listen",
        "open",
        "syn-sent",
        "unconnected",
    ];
    assert_eq!(states, BTreeSet::from(all));
    // 3 listeners with 10 pairs each, one SYN; 2 datagram sockets each; 2 raw, 2 of AF_PACKET.
    assert_eq!(ours.len(), 3 * 21 + 1 + 3 * 2 + 2 + 2);
    drop(kept);
}
