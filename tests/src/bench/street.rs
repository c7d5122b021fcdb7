//! Client, gate and server with a generator at the client's end and a counting sink at the server's.

use super::gate::{run_time, softirq_task};
use super::train::{Engine, Then, Train, frame};
use super::tuples::Macs;
use crate::bpf::{self, Asm, Hook, Kind, Link, Map, Program, Reg};
use crate::lab::{Lab, LabError};
use std::time::{Duration, Instant};

/// A lab that frames can be driven through.
#[derive(Debug)]
pub(super) struct Street {
    /// The three namespaces.
    pub lab: Lab,
    /// MAC addresses of frames from the client to the gate.
    pub macs: Macs,
    client: u32,
    server: u32,
}

/// What driving frames through gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Driven {
    /// Frames that were sent.
    pub sent: u64,
    /// CPU time of the core, generator and all.
    pub busy: Duration,
    /// Time by the clock.
    pub took: Duration,
}

/// Takes every frame at the server's end, and counts them.
#[derive(Debug)]
pub(super) struct Sink {
    count: Map,
    _link: Link,
}

fn words(error: LabError) -> String {
    error.to_string()
}

impl Street {
    /// Builds one. All ends have NAPI, so that frames can be redirected and sent back into their links, and know
    /// their neighbours for good. Client and server compute whole checksums, as over a wire.
    ///
    /// # Errors
    /// In words.
    pub fn new() -> Result<Self, String> {
        Self::build().map_err(words)
    }

    fn build() -> Result<Self, LabError> {
        let lab = Lab::new()?;
        let ends =
            [(&lab.client, "c0"), (&lab.gate, "wan0"), (&lab.gate, "lan0"), (&lab.server, "s0")];
        for (ns, name) in ends {
            ns.exec("ethtool", &["-K", name, "gro", "on"])?;
        }
        for (ns, name) in [(&lab.client, "c0"), (&lab.server, "s0")] {
            ns.exec("ethtool", &["-K", name, "tx", "off"])?;
        }
        for ns in [&lab.client, &lab.gate, &lab.server] {
            ns.sysctl("ipv4/conf/all/rp_filter", "0")?;
        }
        let neighbours = [
            (&lab.gate, "wan0", Lab::CLIENT4, &lab.client, "c0"),
            (&lab.gate, "lan0", Lab::SERVER4, &lab.server, "s0"),
            (&lab.client, "c0", Lab::GATE4, &lab.gate, "wan0"),
            (&lab.server, "s0", "10.77.2.1", &lab.gate, "lan0"),
        ];
        for (ns, name, address, owner, at) in neighbours {
            let mac = owner.mac(at)?.map(|byte| format!("{byte:02x}")).join(":");
            let what = ["neigh", "replace", address, "lladdr", &mac, "dev", name];
            ns.ip(&[&what[..], &["nud", "permanent"]].concat())?;
        }
        Ok(Self {
            macs: (lab.client.mac("c0")?, lab.gate.mac("wan0")?),
            client: lab.client.ifindex("c0")?,
            server: lab.server.ifindex("s0")?,
            lab,
        })
    }

    /// The generator: sends the train's frames to the gate.
    ///
    /// # Errors
    /// The kernel's, in words.
    pub fn engine(&self, train: &Train) -> Result<Engine, String> {
        train.engine(Kind::XDP, Then::Redirect(self.client))
    }

    /// Sends `count` frames from core 0, which does everything that becomes of them on the way.
    ///
    /// # Errors
    /// The kernel's, in words.
    pub fn drive(&self, engine: &Engine, count: usize) -> Result<Driven, String> {
        let softirq = softirq_task(0);
        self.lab.client.run(|| {
            bpf::pin_to_cpu(0);
            let (start, others) = (Instant::now(), run_time(&softirq));
            let each = engine
                .program
                .time_live(&frame(), self.client, count as u32)
                .map_err(|error| format!("live frames: {error}"))?;
            let others = run_time(&softirq).saturating_sub(others);
            let busy = Duration::from_nanos((each * count as f64) as u64 + others);
            Ok(Driven { sent: count as u64, busy, took: start.elapsed() })
        })
    }

    /// Puts a sink at the server's end: from now on nothing reaches the server. It stands at XDP, as the
    /// wire behind a driver would: whether what the gate sent was a frame or a socket buffer, it ends
    /// there without becoming another.
    ///
    /// # Errors
    /// The kernel's, in words.
    pub fn sink(&self) -> Result<Sink, String> {
        let build = || -> std::io::Result<Sink> {
            let count = Map::memory(8)?;
            let code = Asm::new()
                .memory(Reg::R1, &count)
                .load64(Reg::R2, Reg::R1, 0)
                .add(Reg::R2, 1)
                .store64(Reg::R1, 0, Reg::R2)
                // XDP_DROP
                .set(Reg::R0, 1)
                .exit();
            let program = Program::load(Kind::XDP, &code)?;
            let attach = || Link::attach(&program, self.server, Hook::Xdp);
            Ok(Sink { count, _link: self.lab.server.run(attach)? })
        };
        build().map_err(|error| format!("a sink: {error}"))
    }
}

impl Sink {
    /// Frames that came so far.
    ///
    /// # Errors
    /// The kernel's, in words.
    pub fn count(&self) -> Result<u64, String> {
        let bytes = self.count.lookup(&0u32.to_ne_bytes(), 8).map_err(|error| error.to_string())?;
        Ok(u64::from_ne_bytes(bytes.try_into().map_err(|_| "eight bytes")?))
    }
}
