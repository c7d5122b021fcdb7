//! Sluice's programs behind a train, at interfaces of one namespace.

use super::gate::{Gate, Setup};
use super::train::{Engine, Header, Then, Train, frame};
use super::tuples::Macs;
use crate::bpf::{self, Kind, Program};
use crate::lab::{LabError, NetNs};

/// One of the daemon's programs with its train, beside the empty program with the same.
#[derive(Debug)]
pub(super) struct Station {
    ns: NetNs,
    index: u32,
    tc: bool,
    train: Train,
    full: Engine,
    empty: Engine,
    /// The programs themselves, without a train.
    alone: Program,
    nothing: Program,
}

/// How often each packet of [`Station::hot_over_empty`] is measured.
pub(super) const HOT_TRIES: usize = 3;

/// MAC addresses of test runs' frames: nobody looks at them.
pub(super) const MACS: Macs = (crate::packet::SRC_MAC, crate::packet::DST_MAC);

/// A namespace with two interfaces, `in0` and `out0`, and a daemon at them.
#[derive(Debug)]
pub(super) struct Ours {
    /// The daemon.
    pub gate: Gate,
    ns: NetNs,
}

/// Address of `out0`: what masquerade translates to.
pub(super) const OUTSIDE: &str = "203.0.113.1";

impl Ours {
    /// Starts a daemon; `mode` is the hook mode of both interfaces.
    ///
    /// # Errors
    /// In words.
    pub fn start(mode: &str, policy: &str, max_flows: u32) -> Result<Self, String> {
        let build = || -> Result<NetNs, LabError> {
            let ns = NetNs::new("gate")?;
            // Nobody speaks but the benchmark: what a link says by itself would be counted as refused.
            ns.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
            for (name, peer, address) in
                [("in0", "in1", "10.255.0.1/24"), ("out0", "out1", "203.0.113.1/24")]
            {
                ns.ip(&["link", "add", name, "type", "veth", "peer", "name", peer])?;
                ns.ip(&["address", "add", address, "dev", name])?;
                ns.ip(&["link", "set", name, "up"])?;
                ns.ip(&["link", "set", peer, "up"])?;
            }
            ns.ip(&["route", "add", "default", "dev", "out0"])?;
            Ok(ns)
        };
        let ns = build().map_err(|error| error.to_string())?;
        let ifaces = [("in0", mode), ("out0", mode)];
        let gate = Gate::start(&ns, Setup { ifaces: &ifaces, policy, max_flows })?;
        gate.keep_to_cpu(1);
        Ok(Self { gate, ns })
    }

    /// The program at a hook (`in-xdp`, `in-tcx`, `out-tcx`) of an interface, with room for a train of
    /// so many packets.
    ///
    /// # Errors
    /// In words.
    pub fn station(&self, hook: &str, interface: &str, room: usize) -> Result<Station, String> {
        self.station_behind(hook, interface, Train::new(room)?)
    }

    /// The same behind a train that is there.
    ///
    /// # Errors
    /// In words.
    pub fn station_behind(
        &self,
        hook: &str,
        interface: &str,
        train: Train,
    ) -> Result<Station, String> {
        let program = self.gate.program(hook)?;
        let tc = hook.ends_with("tcx");
        let (full, kind) = if tc {
            (train.engine(Kind::Tc, Then::Call(&program))?, Kind::Tc)
        } else {
            train.engine_for_xdp(&program)?
        };
        let nothing = if tc {
            Program::load(Kind::Tc, &bpf::Asm::returning(u32::MAX))
        } else {
            Program::load(kind, &bpf::Asm::returning(2))
        };
        let nothing = nothing.map_err(|error| error.to_string())?;
        let empty = train.engine(kind, Then::Call(&nothing))?;
        let index = self.ns.ifindex(interface).map_err(|error| error.to_string())?;
        let ns = self.ns.clone();
        Ok(Station { ns, index, tc, train, full, empty, alone: program, nothing })
    }
}

impl Station {
    /// Another train.
    ///
    /// # Errors
    /// The kernel's, in words.
    pub fn fill<H: AsRef<[u8]>>(&self, headers: &[H]) -> Result<(), String> {
        self.train.fill(headers)
    }

    /// Runs the program on the first `count` packets: nanoseconds a packet, the train's own time included.
    ///
    /// # Errors
    /// The kernel's, in words.
    pub fn run(&self, count: usize) -> Result<f64, String> {
        self.time(&self.full, count)
    }

    /// The same with the empty program.
    ///
    /// # Errors
    /// The kernel's, in words.
    pub fn run_empty(&self, count: usize) -> Result<f64, String> {
        self.time(&self.empty, count)
    }

    /// Fills and runs: what the program costs over the empty one. The empty one goes first, so that the
    /// headers are as warm for it as they are for nobody else.
    ///
    /// # Errors
    /// The kernel's, in words.
    pub fn over_empty<H: AsRef<[u8]>>(&self, headers: &[H]) -> Result<f64, String> {
        self.fill(headers)?;
        let empty = self.run_empty(headers.len())?;
        Ok(self.run(headers.len())? - empty)
    }

    /// Runs one packet and returns it as the program left it, if it passed.
    ///
    /// # Errors
    /// The kernel's, in words; where it didn't pass.
    pub fn pass_one(&self, header: &Header) -> Result<Vec<u8>, String> {
        self.fill(&[*header])?;
        let run = self.ns.run(|| {
            if self.tc {
                self.full.program.run_tc(&frame(), self.index)
            } else {
                self.full.program.run_xdp(&frame(), self.index)
            }
        });
        let run = run.map_err(|error| error.to_string())?;
        if run.code == if self.tc { u32::MAX } else { 2 } {
            Ok(run.data)
        } else {
            Err(format!("the packet met verdict {}", run.code.cast_signed()))
        }
    }

    fn time(&self, engine: &Engine, count: usize) -> Result<f64, String> {
        self.train.rewind()?;
        self.ns.run(|| {
            bpf::pin_to_cpu(0);
            self.pull(engine, count)
        })
    }

    /// Runs the engine on the next `count` packets, on the core and in the namespace of the caller.
    fn pull(&self, engine: &Engine, count: usize) -> Result<f64, String> {
        self.repeat(&engine.program, &vec![0; engine.frame_len], count)
    }

    fn repeat(&self, program: &Program, frame: &[u8], count: usize) -> Result<f64, String> {
        let time = if self.tc {
            program.time_tc(frame, self.index, count as u32).map(|(ns, _)| ns)
        } else {
            program.time_xdp(frame, self.index, count as u32).map(|(ns, _)| ns)
        };
        time.map_err(|error| format!("a test run: {error}"))
    }

    /// What the program costs over the empty one for each of these frames, over and over without a train: the least of
    /// three times `repeat` runs, because what else the machine does only ever adds.
    ///
    /// # Errors
    /// The kernel's, in words.
    pub fn hot_over_empty<F: AsRef<[u8]> + Sync>(
        &self,
        frames: &[F],
        repeat: usize,
    ) -> Result<Vec<f64>, String> {
        self.ns.run(|| {
            bpf::pin_to_cpu(0);
            let least = |program: &Program, frame: &F| -> Result<f64, String> {
                let mut least = f64::INFINITY;
                for _ in 0..HOT_TRIES {
                    least = least.min(self.repeat(program, frame.as_ref(), repeat)?);
                }
                Ok(least)
            };
            frames
                .iter()
                .map(|frame| Ok(least(&self.alone, frame)? - least(&self.nothing, frame)?))
                .collect()
        })
    }

    /// What both stations cost over empty ones for the first `count` packets, nanoseconds a packet. A packet meets the
    /// second station soon after the first, as where it is forwarded: `batch` packets here, then the same there.
    ///
    /// # Errors
    /// The kernel's, in words.
    pub fn one_after_the_other(
        stations: [&Self; 2],
        count: usize,
        batch: usize,
    ) -> Result<f64, String> {
        let mut cost = 0.0;
        for (empty, sign) in [(true, -1.0), (false, 1.0)] {
            for station in stations {
                station.train.rewind()?;
            }
            cost += sign
                * stations[0].ns.run(|| {
                    bpf::pin_to_cpu(0);
                    let mut spent = 0.0;
                    for from in (0..count).step_by(batch) {
                        let batch = batch.min(count - from);
                        for station in stations {
                            let engine = if empty { &station.empty } else { &station.full };
                            spent += station.pull(engine, batch)? * batch as f64;
                        }
                    }
                    Ok::<f64, String>(spent)
                })?;
        }
        Ok(cost / count.max(1) as f64)
    }
}
