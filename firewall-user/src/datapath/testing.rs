//! Running the live programs on packets of one's own through BPF_PROG_TEST_RUN: for tests, benchmarks
//! and (on a twin with pins of its own) `explain`.

use super::{Datapath, DatapathError, chain};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use firewall_common::abi::{iface::Iface, table::Direction};
use std::{
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
    time::Duration,
};

/// Which program to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// `sluice_xdp`.
    Xdp,
    /// `sluice_tc_in` or `sluice_tc_out`.
    Tc(Direction),
}

/// What came back.
#[derive(Clone, Debug)]
pub struct TestOutcome {
    /// XDP or TC action, as the program returned it.
    pub action: u32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
    /// Time of one run, by the kernel's own account (whole nanoseconds).
    pub duration: Duration,
}

/// Room for an answer that is longer than the packet.
const SLACK: usize = 256;

impl Datapath {
    /// Runs a program on `frame`, `repeat` times. The frame's interface is the loopback device of the
    /// caller's network namespace (index 1): give it a slot first ([`Datapath::set_iface_slot`]).
    ///
    /// # Errors
    /// The kernel refused, e.g. a frame shorter than an Ethernet header.
    pub fn test_run(
        &self,
        hook: Hook,
        frame: &[u8],
        repeat: u32,
    ) -> Result<TestOutcome, DatapathError> {
        let mut out = vec![0; frame.len() + SLACK];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            repeat,
            ..TestRunOptions::new()
        };
        let gone = || DatapathError::Load("the program isn't there".to_owned());
        let result = match hook {
            Hook::Xdp => {
                let program: &Xdp = self
                    .ebpf
                    .program("sluice_xdp")
                    .and_then(|p| p.try_into().ok())
                    .ok_or_else(gone)?;
                program.test_run(options)
            }
            Hook::Tc(direction) => {
                let name = match direction {
                    Direction::In => "sluice_tc_in",
                    Direction::Out => "sluice_tc_out",
                };
                let program: &SchedClassifier =
                    self.ebpf.program(name).and_then(|p| p.try_into().ok()).ok_or_else(gone)?;
                program.test_run(options)
            }
        };
        let result = result.map_err(|e| DatapathError::Load(chain(&e)))?;
        out.truncate(result.data_size_out as usize);
        Ok(TestOutcome { action: result.return_value, frame: out, duration: result.duration })
    }

    /// Descriptor of a program, for a benchmark's own BPF_PROG_TEST_RUN calls.
    pub fn program_fd(&self, hook: Hook) -> Option<RawFd> {
        let name = match hook {
            Hook::Xdp => "sluice_xdp",
            Hook::Tc(Direction::In) => "sluice_tc_in",
            Hook::Tc(Direction::Out) => "sluice_tc_out",
        };
        Some(self.ebpf.program(name)?.fd().ok()?.as_fd().as_raw_fd())
    }

    /// Instructions that the verifier walked through, by program.
    pub fn verified_instructions(&self) -> Vec<(String, u32)> {
        self.ebpf
            .programs()
            .filter_map(|(name, p)| {
                Some((name.to_owned(), p.info().ok()?.verified_instruction_count()?))
            })
            .collect()
    }

    /// Gives an interface index a slot without attaching anything.
    ///
    /// # Errors
    /// The kernel refused to change the map.
    pub fn set_iface_slot(&mut self, ifindex: u32, slot: u8) -> Result<(), DatapathError> {
        let entry = Iface { slot: u32::from(slot), ..Iface::default() };
        self.ifaces.set(ifindex, entry, 0).map_err(DatapathError::map("IFACES"))
    }
}
