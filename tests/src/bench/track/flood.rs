//! `flood`: SYNs of sources that don't exist, as fast as one core sends them, through a real link into the
//! gate. Meanwhile a thousand connections made before talk on, and new ones are tried.
//!
//! `flood`: the server stands behind the gate. `flood, listener here`: it is the gate itself, where SYN cookies
//! are made.
//!
//! The first core sends and does everything that becomes of what it sends; clients and servers have the
//! second. The peer is nftables' `synproxy` in front of the kernel's connection tracking; `nothing` is a gate
//! that only forwards.

use super::super::Figures;
use super::super::gate::{Gate, Setup};
use super::super::netfilter::nft;
use super::super::street::Street;
use super::super::train::{Header, Train};
use super::super::tuples::{Macs, Step, Tuple};
use super::SLUICE;
use crate::bpf::{self, Asm, Hook, Kind, Link, Program, Reg};
use crate::lab::{Lab, NetNs, TcpEcho};
use crate::rng::Rng;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Name of the peer.
pub(super) const SYNPROXY: &str = "nft synproxy";
const NOTHING: &str = "nothing";

/// Connections that are there before.
const ESTABLISHED: usize = 1000;
/// Different SYNs; then they come again.
const SYNS: usize = 1 << 18;
/// A connect has so long.
const PATIENCE: Duration = Duration::from_secs(3);

/// A connection that says nothing for so long is lost.
const SILENCE: Duration = Duration::from_secs(10);

const PORT: u16 = 8080;

const POLICY: &str = "option syn-cookies above 1000/s\n\
    default in drop\n\
    default out drop\n\
    rule web allow tcp to { 10.77.1.1, 10.77.2.2 } port 8080\n";

/// Where the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind the gate.
    Behind,
    /// The gate itself.
    Here,
}

impl Place {
    fn case(self) -> &'static str {
        match self {
            Self::Behind => "flood",
            Self::Here => "flood, listener here",
        }
    }
    fn address(self) -> Ipv4Addr {
        match self {
            Self::Behind => [10, 77, 2, 2].into(),
            Self::Here => [10, 77, 1, 1].into(),
        }
    }
    fn server(self) -> String {
        format!("{}:{PORT}", self.address())
    }
    fn ns(self, lab: &Lab) -> &NetNs {
        match self {
            Self::Behind => &lab.server,
            Self::Here => &lab.gate,
        }
    }
    /// As the manual of nftables has it, for a gate in front of the server, or for the server itself.
    fn rules(self) -> String {
        let hook = if self == Self::Behind { "forward" } else { "input" };
        format!(
            "table ip bench {{\n chain pre {{\n  type filter hook prerouting priority -300; \
             policy accept;\n  iifname wan0 tcp dport 8080 tcp flags syn / fin,syn,rst,ack notrack\n }}\n \
             chain guarded {{\n  type filter hook {hook} priority 0; policy drop;\n  \
             tcp dport 8080 ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp \
             sack-perm\n  ct state invalid drop\n  ct state established accept\n  \
             tcp dport 8080 ct state new accept\n }}\n}}\n"
        )
    }
}

/// SYNs from anywhere in 198.18.0.0/15.
fn syns(macs: Macs, place: Place) -> Vec<Header> {
    let mut rng = Rng::new(11);
    (0..SYNS)
        .map(|_| {
            let bits = rng.bits();
            let source = 0xc612_0000u32 + (bits as u32 & 0x1_ffff);
            let client = (source.into(), 1024 + (bits >> 32) as u16 % 64_000);
            Tuple { client, server: (place.address(), PORT) }.tcp(macs, Step::Syn)
        })
        .collect()
}

/// What a flood did.
struct Outcome {
    /// Connections that didn't even live until the flood.
    dead: usize,
    lost: usize,
    tried: usize,
    succeeded: usize,
    rate: f64,
}

/// A street with a filter at its gate.
struct Scene {
    place: Place,
    street: Street,
    gate: Option<Gate>,
    _elsewhere: Link,
}

/// What stands at the client's end: answers to the flood's sources, 198.18.0.0/15, end here as they would end
/// elsewhere, everything else passes. Where the gate answers at XDP it has to stand there, too: only then a veth wakes
/// its other end for what XDP sends back (drivers/net/veth.c, `veth_xdp_flush`).
fn elsewhere(lab: &Lab, xdp: bool) -> Result<Link, String> {
    // Where the context has the packet's begin and end; XDP_PASS and XDP_DROP, TC_ACT_UNSPEC and TC_ACT_SHOT.
    let (kind, hook, data, end, pass, drop) = if xdp {
        (Kind::XDP, Hook::Xdp, 0, 4, 2, 1)
    } else {
        (Kind::Tc, Hook::TcxIn, 76, 80, -1, 2)
    };
    let attach = || -> std::io::Result<Link> {
        let code = Asm::new()
            .set(Reg::R0, pass)
            .load32(Reg::R2, Reg::R1, data)
            .load32(Reg::R3, Reg::R1, end)
            .copy(Reg::R4, Reg::R2)
            .add(Reg::R4, 34)
            .end_if_greater(Reg::R4, Reg::R3)
            // First two bytes of the destination, less the bit that is not of the prefix.
            .load32(Reg::R5, Reg::R2, 30)
            .and(Reg::R5, 0xfeff)
            .set(Reg::R2, 0x12c6)
            .end_if_greater(Reg::R5, Reg::R2)
            .end_if_greater(Reg::R2, Reg::R5)
            .set(Reg::R0, drop)
            .exit_then_end()
            .exit();
        let program = Program::load(kind, &code)?;
        let index = lab.client.ifindex("c0").map_err(std::io::Error::other)?;
        lab.client.run(|| Link::attach(&program, index, hook))
    };
    attach().map_err(|error| format!("a program at the client's end: {error}"))
}

impl Scene {
    fn new(subject: &str, place: Place) -> Result<Self, String> {
        let street = Street::new()?;
        let lab = &street.lab;
        let words = |error: crate::lab::LabError| error.to_string();
        // Answers to sources that don't exist go where the flood comes from, and end there.
        lab.gate.ip(&["route", "add", "198.18.0.0/15", "via", Lab::CLIENT4]).map_err(words)?;
        lab.server.sysctl("ipv4/tcp_syncookies", "1").map_err(words)?;
        // So that the server's window scale is 7, as the proxy tells its clients.
        place.ns(lab).sysctl("ipv4/tcp_rmem", "4096 131072 6291456").map_err(words)?;
        lab.gate.sysctl("ipv4/tcp_syncookies", "1").map_err(words)?;
        let gate = match subject {
            SLUICE => Some(Gate::start(
                &lab.gate,
                Setup {
                    ifaces: &[("wan0", "xdp"), ("lan0", "auto")],
                    policy: POLICY,
                    max_flows: 262_144,
                },
            )?),
            SYNPROXY => {
                lab.gate.sysctl("netfilter/nf_conntrack_tcp_loose", "0").map_err(words)?;
                nft(&lab.gate, &place.rules())?;
                None
            }
            _ => None,
        };
        let elsewhere = elsewhere(lab, subject == SLUICE)?;
        Ok(Self { place, street, gate, _elsewhere: elsewhere })
    }

    fn flood(&self, time: Duration) -> Result<Outcome, String> {
        let lab = &self.street.lab;
        let server = &self.place.server();
        bpf::pin_to_cpu(1);
        if let Some(gate) = &self.gate {
            gate.keep_to_cpu(1);
        }
        let _server =
            TcpEcho::start(self.place.ns(lab), server).map_err(|error| error.to_string())?;
        let mut connections: Vec<Option<TcpStream>> = Vec::new();
        for _ in 0..ESTABLISHED {
            let stream = lab.client.connect(server, PATIENCE);
            // Each says something at once: a proxy connects to the server only then, and a server that is connected
            // to a thousand times in a moment refuses some.
            let stream = stream.and_then(|mut stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                exchange(&mut stream).map(|()| stream)
            });
            connections.push(Some(stream.map_err(|error| format!("before the flood: {error}"))?));
        }
        talk(&mut connections);
        let dead = connections.iter().filter(|stream| stream.is_none()).count();
        if dead > ESTABLISHED / 2 {
            return Err(format!("{dead} of {ESTABLISHED} don't even live before the flood"));
        }
        connections.retain(Option::is_some);
        let train = Train::new(SYNS)?;
        train.fill(&syns(self.street.macs, self.place))?;
        let engine = self.street.engine(&train)?;
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let talking = scope.spawn(|| {
                while !over.load(SeqCst) {
                    talk(&mut connections);
                }
                // All of them once more, when the flood has gone.
                talk(&mut connections);
                connections.iter().filter(|stream| stream.is_none()).count()
            });
            let connecting = scope.spawn(|| {
                let (mut tried, mut succeeded) = (0, 0);
                while !over.load(SeqCst) {
                    tried += 1;
                    let answered = lab.client.connect(server, PATIENCE).and_then(|mut stream| {
                        stream.set_read_timeout(Some(PATIENCE))?;
                        exchange(&mut stream)
                    });
                    succeeded += usize::from(answered.is_ok());
                    std::thread::sleep(Duration::from_millis(2));
                }
                (tried, succeeded)
            });
            let (start, mut sent, mut failed) = (Instant::now(), 0, None);
            while start.elapsed() < time && failed.is_none() {
                match self.street.drive(&engine, SYNS) {
                    Ok(driven) => sent += driven.sent,
                    Err(why) => failed = Some(why),
                }
            }
            let rate = sent as f64 / start.elapsed().as_secs_f64();
            over.store(true, SeqCst);
            let lost = talking.join().map_err(|_| "the connections' thread failed")?;
            let (tried, succeeded) = connecting.join().map_err(|_| "the clients' thread failed")?;
            failed.map_or(Ok(Outcome { dead, lost, tried, succeeded, rate }), Err)
        })
    }
}

/// A few bytes there and back.
fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut back = [0; 8];
    stream.write_all(b"a flood?")?;
    stream.read_exact(&mut back)
}

/// All connections say something, then all hear it back; those that don't within [`SILENCE`] are lost.
fn talk(connections: &mut [Option<TcpStream>]) {
    let until = Instant::now() + SILENCE;
    for place in connections.iter_mut() {
        let said = place.as_mut().is_none_or(|stream| stream.write_all(b"a flood?").is_ok());
        if !said {
            *place = None;
        }
    }
    for place in connections {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let heard = place.as_mut().is_none_or(|stream| {
            let mut back = [0; 8];
            stream.set_read_timeout(Some(left)).is_ok() && stream.read_exact(&mut back).is_ok()
        });
        if !heard {
            *place = None;
        }
    }
}

/// Measures.
pub(super) fn measure(figures: &mut Figures, rounds: usize) {
    let time = Duration::from_secs(if rounds < 3 { 3 } else { 8 });
    let subjects = [SLUICE, SYNPROXY, NOTHING];
    for (place, subject) in
        [Place::Behind, Place::Here].into_iter().flat_map(|p| subjects.map(|s| (p, s)))
    {
        let case = place.case();
        if !figures.wants(&[case]) {
            continue;
        }
        eprintln!("bench: {case}, {subject}");
        // A thread of its own: it keeps to one core.
        let outcome = std::thread::scope(|scope| {
            let flooded = scope
                .spawn(|| Scene::new(subject, place).and_then(|scene| scene.flood(time)))
                .join();
            flooded.unwrap_or_else(|_| Err("the flood's thread failed".into()))
        });
        match outcome {
            Ok(o) => {
                figures.add(subject, case, "packets/s", o.rate);
                figures.add(subject, case, "lost before", o.dead as f64);
                figures.add(subject, case, "established lost", o.lost as f64);
                let share = 100.0 * o.succeeded as f64 / o.tried.max(1) as f64;
                figures.add(subject, case, "% of connects succeed", share);
                figures.add(subject, case, "connects tried", o.tried as f64);
            }
            Err(why) => figures.missing(subject, case, why),
        }
    }
}
