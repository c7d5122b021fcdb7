//! The daemon is killed while ports are lent: connections live on, mappings stay, no port is lent twice.

use super::{SILENCE, SOON, setup};
use sluice_tests::lab::{Daemon, NatLab, Transfer, wait_for};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

/// As many ports as the test has connections to one destination, and no more.
const POLICY: &str = "
interface wan = wan0
interface lan = lan0
option timeout tcp-closed 1s
default in drop
default out allow
nat bulk masquerade on wan tcp from 10.9.0.0/24 to port 9000
nat out source on wan from 10.9.0.0/24 ports 50000-50059 => 203.0.113.70
rule inside allow in on lan
";
const PORTS: usize = 60;
const PUBLIC: &str = "203.0.113.70";
const AT: &str = "198.51.100.2:7000";

/// A connection through the gate, both its ends.
struct Pair {
    near: TcpStream,
    far: TcpStream,
    /// The host's own port.
    sport: u16,
    /// Its public end, as the server sees it.
    public: SocketAddr,
}

struct Pairs<'a> {
    lab: &'a NatLab,
    listener: TcpListener,
    next: u16,
}

impl<'a> Pairs<'a> {
    fn new(lab: &'a NatLab) -> Self {
        let listener = lab.server.run(|| TcpListener::bind(AT)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { lab, listener, next: 30_000 }
    }

    /// One more, from either host in turn, each pair of ports twice.
    fn open(&mut self) -> Pair {
        let sport = self.next / 2;
        let host = if self.next.is_multiple_of(2) { &self.lab.a } else { &self.lab.b };
        self.next += 1;
        let near = host
            .connect_from(sport, AT, SOON)
            .unwrap_or_else(|error| panic!("[{}] from port {sport}: {error}", host.label));
        let accepted = wait_for("the server accepting", SOON, || self.listener.accept().ok());
        let (far, public) = accepted.unwrap();
        far.set_nonblocking(false).unwrap();
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(SOON)).unwrap();
        }
        Pair { near, far, sport, public }
    }

    fn many(&mut self, count: usize) -> Vec<Pair> {
        (0..count).map(|_| self.open()).collect()
    }
}

impl Pair {
    /// A few bytes each way: those that arrive are those of this very connection.
    fn talks(&self) {
        let words = self.public.to_string();
        let mut heard = vec![0; words.len()];
        for (mut from, mut to) in [(&self.near, &self.far), (&self.far, &self.near)] {
            from.write_all(words.as_bytes()).unwrap();
            to.read_exact(&mut heard).unwrap_or_else(|error| panic!("{words}: {error}"));
            assert_eq!(heard, words.as_bytes());
        }
    }

    /// Both ends say goodbye.
    fn close(mut self) -> SocketAddr {
        self.near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(self.far.read(&mut [0; 1]).unwrap(), 0);
        self.far.shutdown(Shutdown::Write).unwrap();
        assert_eq!(self.near.read(&mut [0; 1]).unwrap(), 0);
        self.public
    }
}

/// Each has a public port of its own, out of the pool.
fn distinct(pairs: &[Pair]) {
    let ports: BTreeSet<u16> = pairs.iter().map(|pair| pair.public.port()).collect();
    assert_eq!(ports.len(), pairs.len(), "no port is lent twice: {ports:?}");
    for pair in pairs {
        assert_eq!(pair.public.ip().to_string(), PUBLIC);
        assert!((50_000..50_000 + PORTS as u16).contains(&pair.public.port()), "{}", pair.public);
    }
}

/// The daemon says of each connection what the server sees.
fn shown(daemon: &Daemon, pairs: &[Pair]) {
    let mut differ = Vec::new();
    let same = wait_for("flows that say what the server sees", SOON, || {
        let rows = daemon.flows("dport=7000 and nat=true");
        let seen = |pair: &Pair| {
            rows.iter().any(|row| {
                row["ended"].is_null()
                    && row["sport"] == pair.sport
                    && row["nat"]["src"] == PUBLIC
                    && row["nat"]["sport"] == pair.public.port()
            })
        };
        differ = pairs.iter().filter(|pair| !seen(pair)).map(|pair| pair.public).collect();
        differ.is_empty().then_some(())
    });
    assert!(same.is_ok(), "not shown: {differ:?}");
}

#[test]
fn mappings_outlive_their_daemon_and_no_port_is_lent_twice() {
    let test = "e2e_nat::survival::mappings_outlive_their_daemon_and_no_port_is_lent_twice";
    let Some((lab, mut daemon)) = setup(test, &[], POLICY) else { return };
    let load = Transfer::start(&lab.b, &lab.server, NatLab::SERVER, 9000).unwrap();
    let mut pairs = Pairs::new(&lab);
    let mut open = pairs.many(20);
    load.advance(1_000_000, SOON).unwrap();
    shown(&daemon, &open);

    daemon.kill9();
    load.advance(2_000_000, SOON).unwrap();
    open.iter().for_each(Pair::talks);
    open.extend(pairs.many(20));
    distinct(&open);

    daemon.start();
    assert_eq!(daemon.json(&["status"])["adopted"], true);
    load.advance(2_000_000, SOON).unwrap();
    open.extend(pairs.many(20));
    distinct(&open);
    open.iter().for_each(Pair::talks);
    shown(&daemon, &open);

    // All sixty are lent, and none is found that isn't: neither by this daemon's kernel nor without it.
    let refused = |sport: u16| {
        let error = lab.a.connect_from(sport, AT, SILENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    };
    assert_eq!(daemon.reason("nat-exhausted"), 0);
    refused(20_000);
    let counted = daemon.reason("nat-exhausted");
    assert!(counted > 0, "a refused SYN is counted");
    daemon.kill9();
    refused(20_001);

    // What ends while nobody is there is given back by the next daemon, and lent again.
    let freed: BTreeSet<u16> = open.drain(..10).map(|pair| pair.close().port()).collect();
    daemon.start();
    assert!(daemon.reason("nat-exhausted") > counted, "counters went on without a daemon");
    let anew = wait_for("ports that are free again", SOON + SOON, || {
        let rows = daemon.flows("dport=7000 and nat=true");
        let live = rows.iter().filter(|row| row["ended"].is_null()).count();
        (live == PORTS - 10).then_some(())
    });
    anew.unwrap();
    let again = pairs.many(10);
    let lent: BTreeSet<u16> = again.iter().map(|pair| pair.public.port()).collect();
    assert_eq!(lent, freed, "the ports that were given back, and no others");
    open.extend(again);
    distinct(&open);
    open.iter().for_each(Pair::talks);
    load.advance(1_000_000, SOON).unwrap();
    assert!(load.finish().unwrap() > 6_000_000, "the transfer went through all of it, whole");
}
