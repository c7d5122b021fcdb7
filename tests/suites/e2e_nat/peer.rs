//! A gate of nftables and the kernel's connection tracking beside ours: the same traffic, the same outcome,
//! connection by connection.

use super::masquerade::hops;
use super::{SILENCE, SOON, echoes};
use sluice_tests::lab::{NatLab, NetNs, RawSocket, TcpEcho, UdpEcho, run, udp_exchange, wait_for};
use sluice_tests::packet::Packet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};

const OURS: &str = "
interface wan = wan0
interface lan = lan0
option tcp-pickup off
default in drop
default out allow
nat web  destination on wan tcp to 203.0.113.1 port 8080 => 10.9.0.2 port 80 hairpin
nat dns  redirect    on lan udp to port 53 => port 5353
nat one  static      on wan 10.9.0.3/32 <=> 203.0.113.67/32
nat out  masquerade  on wan from 10.9.0.0/24
rule telnet reject in on lan tcp to port 23
rule echo   reject in on lan udp to port 7
rule inside allow  in on lan
rule web-in allow  in on wan tcp to 10.9.0.2 port 80
rule one-in allow  in on wan icmp type echo-request to 10.9.0.3
";

const THEIRS: &str = "
table ip gate {
  chain pre {
    type nat hook prerouting priority dstnat;
    ip daddr 203.0.113.1 tcp dport 8080 dnat to 10.9.0.2:80
    iifname lan0 udp dport 53 redirect to :5353
    iifname wan0 ip daddr 203.0.113.67 dnat to 10.9.0.3
  }
  chain post {
    type nat hook postrouting priority srcnat;
    oifname lan0 iifname lan0 ct status dnat masquerade
    oifname wan0 ip saddr 10.9.0.3 snat to 203.0.113.67
    oifname wan0 ip saddr 10.9.0.0/24 masquerade
  }
  chain through {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ct state invalid drop
    iifname lan0 tcp dport 23 reject with tcp reset
    iifname lan0 udp dport 7 reject
    iifname lan0 accept
    iifname wan0 ip daddr 10.9.0.2 tcp dport 80 accept
    iifname wan0 ip daddr 10.9.0.3 icmp type echo-request accept
  }
  chain mine {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    ct state invalid drop
    iifname { lo, lan0 } accept
  }
}";

/// A connection's name and what became of it.
type Outcomes = Vec<(&'static str, String)>;

#[test]
fn a_gate_of_nftables_has_the_same_outcomes() {
    let test = "e2e_nat::peer::a_gate_of_nftables_has_the_same_outcomes";
    let tools = ["nft", "ping", "traceroute"];
    let Some((ours, daemon)) = super::setup(test, &tools, OURS) else { return };
    let theirs = NatLab::new().unwrap();
    theirs.gate.feed("nft", &["-f", "-"], THEIRS).unwrap();
    // What `tcp-pickup off` is here.
    theirs.gate.sysctl("netfilter/nf_conntrack_tcp_loose", "0").unwrap();
    let (by_us, by_them) = std::thread::scope(|scope| {
        let them = scope.spawn(|| script(&theirs));
        (script(&ours), them.join().unwrap())
    });
    assert_eq!(by_us.len(), by_them.len());
    let differ: Vec<_> = by_us
        .iter()
        .zip(&by_them)
        .filter(|(us, them)| us != them)
        .map(|(us, them)| (us, &them.1))
        .collect();
    assert!(differ.is_empty(), "what became of it here, and there: {differ:#?}");
    // Both kinds of outcome are in the script, or it would say nothing.
    let went = by_us.iter().filter(|(_, outcome)| outcome.starts_with("works")).count();
    assert!(went >= 14 && by_us.len() - went >= 8, "{by_us:#?}");
    assert_eq!(daemon.reason("nat-exhausted"), 0);
}

/// The same traffic for either gate.
fn script(lab: &NatLab) -> Outcomes {
    let at = |address: &str, port: u16| format!("{address}:{port}");
    let (server, public) = (NatLab::SERVER, NatLab::PUBLIC);
    let _tcp: Vec<_> = [(&lab.server, server), (&lab.a, NatLab::A), (&lab.b, NatLab::B)]
        .iter()
        .map(|(ns, address)| TcpEcho::start(ns, &at(address, 80)).unwrap())
        .collect();
    let _udp = UdpEcho::start(&lab.server, &at(server, 7000)).unwrap();
    let _dns = UdpEcho::start(&lab.gate, "0.0.0.0:5353").unwrap();
    let tcp = |ns: &NetNs, to: &str, port: u16| {
        said(
            ns.connect(&at(to, port), SILENCE)
                .and_then(|mut stream| echoes(&mut stream, &[5; 30_000])),
        )
    };
    let udp = |ns: &NetNs, to: &str, port: u16, size: usize| {
        said(udp_exchange(ns, 0, &at(to, port), &vec![7; size], SILENCE))
    };
    let ping = |ns: &NetNs, to: &str, size: u32| {
        let line = format!("ping -n -q -c 2 -i 0.1 -W 1 -s {size} {to}");
        let run = run(ns, &line, SOON);
        if run.code == 0 { "works".to_owned() } else { format!("ping says {}", run.code) }
    };
    let way = |how: &str| format!("works by {:?}", hops(&lab.a, how, server));
    vec![
        ("tcp out", tcp(&lab.a, server, 80)),
        ("tcp out, one to one", tcp(&lab.b, server, 80)),
        ("tcp out, closed port", tcp(&lab.a, server, 81)),
        ("tcp out, rejected", tcp(&lab.a, server, 23)),
        ("tcp to the gate, closed port", tcp(&lab.a, NatLab::GATE, 81)),
        ("tcp in, forwarded", tcp(&lab.server, public, 8080)),
        ("tcp in, not forwarded", tcp(&lab.server, public, 8081)),
        ("tcp in, one to one, not allowed", tcp(&lab.server, "203.0.113.67", 80)),
        ("tcp from inside to the public address", tcp(&lab.b, public, 8080)),
        ("tcp from a server to its public address", tcp(&lab.a, public, 8080)),
        ("udp out", udp(&lab.a, server, 7000, 100)),
        ("udp out, in fragments", udp(&lab.a, server, 7000, 6000)),
        ("udp out, one to one, in fragments", udp(&lab.b, server, 7000, 6000)),
        ("udp out, closed port", udp(&lab.a, server, 7001, 100)),
        ("udp out, rejected", udp(&lab.a, server, 7, 100)),
        ("udp redirected", udp(&lab.a, server, 53, 100)),
        ("udp in, nobody's", udp(&lab.server, public, 9999, 100)),
        ("ping out", ping(&lab.a, server, 56)),
        ("ping out, in fragments", ping(&lab.a, server, 4000)),
        ("ping to the gate", ping(&lab.a, NatLab::GATE, 56)),
        ("ping in", ping(&lab.server, public, 56)),
        ("ping in, one to one", ping(&lab.server, "203.0.113.67", 56)),
        ("traceroute by udp", way("-U")),
        ("traceroute by icmp", way("-I")),
        ("traceroute by tcp", way("-T")),
        ("one source port twice", same_port(lab)),
        ("a connection closed on one side", half_closed(lab)),
        ("a connection reset by its client", reset_by_client(lab)),
        ("a reset that doesn't fit", stray_reset(lab)),
        ("a segment of no connection", stray_segment(lab)),
    ]
}

/// An outcome in a word.
fn said<T>(outcome: std::io::Result<T>) -> String {
    match outcome {
        Ok(_) => "works".to_owned(),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            "silence".to_owned()
        }
        Err(error) => format!("{:?}", error.kind()),
    }
}

fn same_port(lab: &NatLab) -> String {
    let to = format!("{}:80", NatLab::SERVER);
    let open = [&lab.a, &lab.b].map(|host| host.connect_from(30_000, &to, SOON));
    let mut outcomes = Vec::new();
    for stream in open {
        outcomes.push(said(stream.and_then(|mut stream| echoes(&mut stream, b"mine"))));
    }
    outcomes.join(" and ")
}

/// A connection from `a` to a listener at the server: both ends.
fn connection(lab: &NatLab, port: u16, from: u16) -> std::io::Result<(TcpStream, TcpStream)> {
    let to = format!("{}:{port}", NatLab::SERVER);
    let listener = lab.server.run(|| TcpListener::bind(&to))?;
    let near = lab.a.connect_from(from, &to, SOON)?;
    let far = listener.accept()?.0;
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(SOON))?;
    }
    Ok((near, far))
}

/// One end has said all it has to say; the other goes on.
fn half_closed(lab: &NatLab) -> String {
    let talk = || {
        let (mut near, mut far) = connection(lab, 7100, 0)?;
        near.write_all(b"that is all")?;
        near.shutdown(Shutdown::Write)?;
        let mut heard = Vec::new();
        far.read_to_end(&mut heard)?;
        far.write_all(&[9; 50_000])?;
        drop(far);
        let mut rest = Vec::new();
        near.read_to_end(&mut rest)?;
        Ok((heard.len(), rest.len()))
    };
    let outcome: std::io::Result<(usize, usize)> = talk();
    outcome.map_or_else(|error| format!("{:?}", error.kind()), |sizes| format!("works: {sizes:?}"))
}

fn reset_by_client(lab: &NatLab) -> String {
    let talk = || {
        let (near, mut far) = connection(lab, 7101, 0)?;
        // What is closed with unread bytes is reset (RFC 9293 section 3.6.1).
        far.write_all(b"unread")?;
        wait_for("the bytes", SOON, || {
            (near.peek(&mut [0; 1]).is_ok_and(|n| n == 1)).then_some(())
        })
        .map_err(|late| std::io::Error::other(late.to_string()))?;
        drop(near);
        far.read(&mut [0; 8])
    };
    said(talk())
}

/// The frame of a segment from the server to somebody's public port, as the router would pass it on.
fn from_server(lab: &NatLab, sport: u16, to: SocketAddrV4) -> Packet {
    let macs = (lab.router.mac("r0").unwrap(), lab.gate.mac("wan0").unwrap());
    let head = Packet::new().macs(macs.0, macs.1).ipv4(NatLab::SERVER, &to.ip().to_string());
    head.tcp(sport, to.port())
}

const RST: u8 = 4;
const ACK: u8 = 16;

/// Somebody who knows addresses and ports sends a RST far outside of the window.
fn stray_reset(lab: &NatLab) -> String {
    let raw = RawSocket::open(&lab.router, "r0").unwrap();
    let talk = || {
        let (mut near, mut far) = connection(lab, 7102, 0)?;
        near.write_all(b"before")?;
        far.read_exact(&mut [0; 6])?;
        let std::net::SocketAddr::V4(public) = far.peer_addr()? else { unreachable!("IPv4") };
        for seq in [1, 0x4000_0000, 0x8000_0000, 0xc000_0000] {
            raw.send(&from_server(lab, 7102, public).flags(RST).seq(seq, 0).build());
        }
        far.write_all(b"after")?;
        near.read_exact(&mut [0; 5])?;
        near.write_all(b"and back")?;
        far.read_exact(&mut [0; 8])
    };
    said(talk())
}

/// An ACK out of nowhere gets nowhere: not even an answer.
fn stray_segment(lab: &NatLab) -> String {
    let raw = RawSocket::open(&lab.router, "r0").unwrap();
    let to = SocketAddrV4::new(NatLab::PUBLIC.parse().expect("an address"), 8080);
    raw.send(&from_server(lab, 7103, to).flags(ACK).seq(1, 1).build());
    let answered = raw.receive(SILENCE, |frame| {
        frame.get(36..38).is_some_and(|port| port == 7103u16.to_be_bytes()) && frame[23] == 6
    });
    answered.map_or("silence".to_owned(), |_| "an answer".to_owned())
}
