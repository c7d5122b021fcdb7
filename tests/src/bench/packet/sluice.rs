//! Sluice's XDP program.

use super::{Subject, packet, rule, rules_of};
use crate::bpf::{self, Program};
use crate::kernel::{Fate, Hook, Kernel};
use std::fmt::Write as _;

/// Runs of one measurement.
const REPEAT: u32 = 200_000;

pub(super) struct Sluice {
    kernel: Kernel,
    empty: Program,
    frame: Vec<u8>,
}

impl Sluice {
    pub fn new() -> Result<Self, String> {
        if let Some(reason) = crate::skip::no_kernel_access() {
            return Err(reason.into());
        }
        let object = crate::skip::path_from_env("SLUICE_BPF_OBJECT")
            .ok_or("SLUICE_BPF_OBJECT isn't set: run `cargo xtask bench packet`")?;
        let object = std::fs::read(object).map_err(|error| error.to_string())?;
        let empty = Program::returning(2).map_err(|error| format!("the empty program: {error}"))?;
        Ok(Self {
            kernel: Kernel::load(&object),
            empty,
            frame: packet([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]),
        })
    }

    /// Policy of a case, and what becomes of the packet.
    fn policy(case: &str) -> (String, Fate) {
        match case {
            "established" => ("default in drop\nrule flow allow in udp\n".into(), Fate::Pass),
            "drop" => ("default in drop\n".into(), Fate::Drop),
            _ => {
                let n = rules_of(case).unwrap_or(1);
                let mut text = String::from("default in allow\n");
                for i in 0..n {
                    let (src, dst, (low, high)) = rule(i, n);
                    let _ = writeln!(
                        text,
                        "rule r{i} drop in udp from {src} port 1024-65535 to {dst} port {low}-{high}"
                    );
                }
                (text, Fate::Drop)
            }
        }
    }
}

impl Subject for Sluice {
    fn name(&self) -> &'static str {
        "sluice"
    }

    fn measure(&mut self, case: &str) -> Option<f64> {
        let (policy, fate) = Self::policy(case);
        self.kernel.install_limited(&policy);
        self.kernel.clear();
        let ns = self.kernel.namespace().clone();
        let index = self.kernel.ifindex(0);
        ns.run(|| {
            bpf::pin_to_cpu(0);
            let (seen, _) = self.kernel.run(Hook::Xdp, 0, &self.frame).expect("a whole frame");
            assert_eq!(seen, fate, "{case}: the packet must meet what is measured");
            let xdp = self.kernel.xdp();
            let time = |program: &Program| {
                program.time_xdp(&self.frame, index, REPEAT).expect("a test run").0
            };
            let (empty, ours) = (time(&self.empty), time(xdp));
            Some(ours - empty)
        })
    }
}
