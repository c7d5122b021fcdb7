//! Small packets of a thousand established flows from client to server: one core generates them and does all
//! that becomes of them until they arrive. `no filter`, `stateful`, `nat`, and with Sluice in the driver and
//! its fast path on, `fast path` and `fast path nat`.

use super::super::Figures;
use super::super::gate::{Gate, Setup};
use super::super::netfilter::nft;
use super::super::street::Street;
use super::super::train::{Engine, Header, Train};
use super::super::tuples::{Macs, Tuple, shuffle};
use super::{NFT, NOTHING, SLUICE};
use crate::lab::Lab;
use std::net::UdpSocket;
use std::time::Duration;

/// Flows.
const FLOWS: usize = 1024;
/// Packets of a round.
const PACKETS: usize = 400_000;
const UNIT: &str = "ns a packet";

const SERVER: ([u8; 4], u16) = ([10, 77, 2, 2], 7000);
const CLIENT: [u8; 4] = [10, 77, 1, 2];

fn flow(i: usize) -> Tuple {
    let client = (CLIENT.into(), 20_000 + i as u16);
    Tuple { client, server: (SERVER.0.into(), SERVER.1) }
}

fn headers(macs: Macs) -> Vec<Header> {
    let mut all: Vec<Header> = (0..FLOWS).map(|i| flow(i).udp(macs)).collect();
    shuffle(&mut all);
    all
}

/// A way to fill the gate, and the cases that its figure belongs to.
struct Way {
    subject: &'static str,
    cases: &'static [&'static str],
    filter: Filter,
}

enum Filter {
    None,
    Rules(&'static str),
    Sluice { policy: &'static str, fast: bool },
}

const WAYS: [Way; 7] = [
    Way {
        subject: NOTHING,
        cases: &["no filter", "stateful", "nat", "fast path", "fast path nat"],
        filter: Filter::None,
    },
    Way {
        subject: NFT,
        cases: &["stateful", "fast path"],
        filter: Filter::Rules(
            "table ip bench {\n chain forwarded {\n  type filter hook forward priority 0; \
             policy drop;\n  ct state established,related accept\n  udp dport 7000 accept\n }\n}\n",
        ),
    },
    Way {
        subject: NFT,
        cases: &["nat", "fast path nat"],
        filter: Filter::Rules(
            "table ip bench {\n chain away {\n  type nat hook postrouting priority 100; \
             policy accept;\n  oifname lan0 masquerade\n }\n chain forwarded {\n  \
             type filter hook forward priority 0; policy drop;\n  \
             ct state established,related accept\n  udp dport 7000 accept\n }\n}\n",
        ),
    },
    Way {
        subject: SLUICE,
        cases: &["stateful"],
        filter: Filter::Sluice {
            policy: "default in drop\ndefault out drop\nrule flow allow udp to port 7000\n",
            fast: false,
        },
    },
    Way {
        subject: SLUICE,
        cases: &["nat"],
        filter: Filter::Sluice {
            policy: "default in drop\ndefault out drop\nnat away masquerade on lan0\n\
                rule flow allow udp to port 7000\n",
            fast: false,
        },
    },
    Way {
        subject: SLUICE,
        cases: &["fast path"],
        filter: Filter::Sluice {
            policy: "option fast-path on\ndefault in drop\ndefault out drop\n\
                rule flow allow udp to port 7000\n",
            fast: true,
        },
    },
    Way {
        subject: SLUICE,
        cases: &["fast path nat"],
        filter: Filter::Sluice {
            policy: "option fast-path on\ndefault in drop\ndefault out drop\n\
                nat away masquerade on lan0\nrule flow allow udp to port 7000\n",
            fast: true,
        },
    },
];

struct Scene {
    street: Street,
    engine: Engine,
    _train: Train,
    _gate: Option<Gate>,
}

impl Scene {
    fn new(way: &Way) -> Result<Self, String> {
        let street = Street::new()?;
        let gate = match way.filter {
            Filter::None => None,
            Filter::Rules(rules) => {
                nft(&street.lab.gate, rules)?;
                None
            }
            Filter::Sluice { policy, fast } => Some(start(&street, policy, fast)?),
        };
        let train = Train::new(FLOWS)?;
        train.fill(&headers(street.macs))?;
        let engine = street.engine(&train)?;
        talk(&street.lab)?;
        Ok(Self { street, engine, _train: train, _gate: gate })
    }

    fn round(&self) -> Result<f64, String> {
        let sink = self.street.sink()?;
        let driven = self.street.drive(&self.engine, PACKETS)?;
        let arrived = sink.count()?;
        // Each of them, but for a neighbour's word now and then.
        if arrived < driven.sent * 99 / 100 {
            return Err(format!("{arrived} of {} packets arrived", driven.sent));
        }
        Ok(driven.busy.as_nanos() as f64 / driven.sent as f64)
    }
}

fn start(street: &Street, policy: &str, fast: bool) -> Result<Gate, String> {
    let mode = if fast { "xdp" } else { "auto" };
    let ifaces = [("wan0", mode), ("lan0", mode)];
    let gate = Gate::start(&street.lab.gate, Setup { ifaces: &ifaces, policy, max_flows: 65_536 })?;
    gate.keep_to_cpu(1);
    if fast {
        let index = |name| street.lab.gate.ifindex(name).map_err(|error| error.to_string());
        gate.is_on_wires(&[index("wan0")?, index("lan0")?])?;
    }
    Ok(gate)
}

/// A real exchange in each flow, so that everybody calls it established.
fn talk(lab: &Lab) -> Result<(), String> {
    let bound = |ns: &crate::lab::NetNs, address: [u8; 4], port: u16| {
        let socket = ns.run(|| UdpSocket::bind((std::net::Ipv4Addr::from(address), port)));
        let socket = socket.map_err(|error| format!("port {port}: {error}"))?;
        socket.set_read_timeout(Some(Duration::from_secs(2))).map_err(|error| error.to_string())?;
        Ok::<_, String>(socket)
    };
    let server = bound(&lab.server, SERVER.0, SERVER.1)?;
    let mut buffer = [0; 64];
    for i in 0..FLOWS {
        let client = bound(&lab.client, CLIENT, flow(i).client.1)?;
        for _ in 0..3 {
            let mut exchange = || -> std::io::Result<()> {
                client.send_to(b"ask", (std::net::Ipv4Addr::from(SERVER.0), SERVER.1))?;
                let (_, from) = server.recv_from(&mut buffer)?;
                server.send_to(b"tell", from)?;
                client.recv_from(&mut buffer).map(drop)
            };
            exchange().map_err(|error| format!("flow {i}: {error}"))?;
        }
    }
    Ok(())
}

/// Measures.
pub(super) fn measure(figures: &mut Figures, rounds: usize) {
    let mut scenes: Vec<(&Way, Scene)> = Vec::new();
    for way in WAYS.iter().filter(|way| figures.wants(way.cases)).collect::<Vec<_>>() {
        match Scene::new(way) {
            Ok(scene) => scenes.push((way, scene)),
            Err(why) => figures.missing(way.subject, way.cases[0], why),
        }
    }
    for round in 0..rounds {
        eprintln!("bench: small packets, round {} of {rounds}", round + 1);
        for (way, scene) in &scenes {
            match scene.round() {
                Ok(cost) => {
                    way.cases.iter().for_each(|case| figures.add(way.subject, case, UNIT, cost));
                }
                Err(why) => figures.missing(way.subject, way.cases[0], why),
            }
        }
    }
}
