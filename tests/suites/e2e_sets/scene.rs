//! A gate with live sets between a client of many addresses and a server that echoes.

use serde_json::Value;
use sluice_tests::lab::{Daemon, DaemonOptions, Lab, UdpEcho, sluice_bin};
use sluice_tests::skip::skip;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Until something has to have happened.
pub const SOON: Duration = Duration::from_secs(10);
/// How long an echo may take that comes.
const SILENCE: Duration = Duration::from_millis(400);

/// Ports where the server echoes, of both families.
const PORTS: [u16; 7] = [7, 53, 54, 60, 7005, 7011, 7012];

/// Client, gate, server, and a daemon.
pub struct Scene {
    pub lab: Lab,
    pub daemon: Daemon,
    _echoes: Vec<UdpEcho>,
}

/// A number of a row.
pub fn number(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {row}"))
}

impl Scene {
    /// Starts a daemon with a policy, and lists in its folder for them.
    pub fn start(test: &str, policy: &str, lists: &[(&str, &str)]) -> Option<Self> {
        let lab = Lab::or_skip(test)?;
        let Some(bin) = sluice_bin() else {
            skip(test, "SLUICE_BIN isn't set (run `cargo xtask test`)");
            return None;
        };
        let hosts = (64..84).chain([127, 130]).map(|host| format!("10.77.1.{host}/24"));
        for address in hosts.chain(["fd77:1::66/64".to_owned()]) {
            let add = ["addr", "add", &address, "dev", "c0", "nodad"];
            let add = &add[..if address.contains(':') { 6 } else { 5 }];
            lab.client.ip(add).expect("an address");
        }
        let mac = lab.client.mac("c0").expect("a mac").map(|byte| format!("{byte:02x}")).join(":");
        let neighbour = ["-6", "neigh", "replace", "fd77:1::66", "lladdr", &mac, "dev", "wan0"];
        lab.gate.ip(&[&neighbour[..], &["nud", "permanent"]].concat()).expect("a neighbour");
        let mut echoes = Vec::new();
        for port in PORTS {
            for server in [format!("{}:{port}", Lab::SERVER4), format!("[{}]:{port}", Lab::SERVER6)]
            {
                echoes.push(UdpEcho::start(&lab.server, &server).expect("an echo"));
            }
        }
        let options = DaemonOptions::on(policy, &[("wan0", "tc"), ("lan0", "tc")]);
        let mut daemon = Daemon::prepare(&lab.gate, &bin, options).expect("prepared");
        let folder = daemon.dir.join("lists");
        std::fs::create_dir(&folder).expect("a folder");
        for (name, text) in lists {
            std::fs::write(folder.join(name), text).expect("written");
        }
        let config = format!("sets_dir = \"{}\"\n", folder.display());
        std::fs::write(daemon.dir.join("sluice.toml"), config).expect("written");
        daemon.start();
        Some(Self { lab, daemon, _echoes: echoes })
    }

    /// Sends one datagram, and waits for nothing.
    pub fn send(&self, from: &str, to: &str) {
        let socket = socket(&self.lab, from, to);
        socket.send(b"a").expect("sent");
        // Until it is through the gate.
        let _ = socket.set_read_timeout(Some(Duration::from_millis(100)));
        let _ = socket.recv(&mut [0; 8]);
    }

    /// Whether a new flow is let through, there and back.
    pub fn passes(&self, from: &str, to: &str) -> bool {
        passes(&self.lab, from, to, SILENCE)
    }

    /// `sluice set ...`, which has to succeed.
    pub fn set(&self, args: &[&str]) -> Value {
        self.daemon.json(&[&["set"], args].concat())
    }

    /// What a set holds.
    pub fn entries(&self, name: &str) -> Vec<Value> {
        self.daemon.rows(&["set", "show", name])
    }

    /// A set's row of `sluice set list`.
    pub fn row(&self, name: &str) -> Value {
        let rows = self.daemon.rows(&["set", "list"]);
        let found = rows.iter().find(|row| row["name"] == name).cloned();
        found.unwrap_or_else(|| panic!("no set {name} in {rows:?}"))
    }
}

fn socket(lab: &Lab, from: &str, to: &str) -> UdpSocket {
    let from: IpAddr = from.parse().expect("an address");
    let to: SocketAddr = to.parse().expect("an address and a port");
    let bound = lab.client.run(|| {
        let socket = UdpSocket::bind((from, 0))?;
        socket.connect(to)?;
        std::io::Result::Ok(socket)
    });
    bound.unwrap_or_else(|error| panic!("a socket from {from} to {to}: {error}"))
}

/// Whether a new flow of the client's is let through and comes back within `limit`.
pub fn passes(lab: &Lab, from: &str, to: &str, limit: Duration) -> bool {
    let socket = socket(lab, from, to);
    socket.set_read_timeout(Some(limit)).expect("a limit");
    socket.send(b"through").expect("sent");
    socket.recv(&mut [0; 8]).is_ok()
}
