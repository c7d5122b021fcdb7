//! The flow table at its ends: full, and swept. Through the product's own datapath, on pins of its own.

use std::path::PathBuf;

use firewall_common::abi::{reason::Reason, table::Verdict};
use firewall_user::{
    datapath::{
        Datapath, Options, SlotNames,
        testing::{Hook, TestOutcome},
    },
    policy::{self, Slots},
};
use sluice_tests::{packet::Packet, skip};

/// Room in the table of these tests.
const ROOM: u32 = 16;
/// XDP_DROP and XDP_PASS (include/uapi/linux/bpf.h).
const DROP: u32 = 1;
const PASS: u32 = 2;

struct Gate {
    datapath: Option<Datapath>,
    slots: Slots,
}

impl Gate {
    fn or_skip(test: &str) -> Option<Self> {
        if let Some(reason) = skip::no_kernel_access() {
            skip::skip(test, reason);
            return None;
        }
        if skip::path_from_env("SLUICE_BPF_OBJECT").is_none() {
            skip::skip(test, "SLUICE_BPF_OBJECT isn't set (run `cargo xtask test`)");
            return None;
        }
        let name = test.replace("::", "-");
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/sluice-{name}-{}", std::process::id()));
        let options = Options { pin_dir, max_flows: ROOM, ..Options::default() };
        let mut datapath = Datapath::open(&options).expect("a datapath");
        // Test runs come in at the loopback device.
        datapath.set_iface_slot(1, 1).expect("a slot");
        Some(Self { datapath: Some(datapath), slots: Slots::new() })
    }

    fn datapath(&mut self) -> &mut Datapath {
        self.datapath.as_mut().expect("open until the end")
    }

    fn install(&mut self, text: &str) {
        let parsed = policy::parse(text, "test").expect("a good policy");
        let next = self.datapath().generation() + 1;
        let compiled = policy::compile(&parsed, &mut self.slots, next).expect("a small policy");
        self.datapath().install(&compiled.table, next, &SlotNames::default()).expect("installed");
    }

    /// A datagram from a port of its own: each begins a flow.
    fn send(&mut self, port: u16) -> TestOutcome {
        let frame = Packet::new().ipv4("192.0.2.1", "198.51.100.2").udp(port, 53).build();
        self.datapath().test_run(Hook::Xdp, &frame, 1).expect("a test run")
    }

    fn counted(&mut self, verdict: Verdict, reason: Reason) -> u64 {
        let counters = self.datapath().counters().expect("counters");
        counters
            .reasons
            .iter()
            .find(|(v, r, _)| (*v, *r) == (verdict, reason))
            .map_or(0, |(.., c)| c.packets)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(datapath) = self.datapath.take()
            && let Err(e) = datapath.unload()
        {
            eprintln!("left behind: {e}");
        }
    }
}

#[test]
fn a_full_table_refuses_or_lets_by_untracked() {
    let Some(mut gate) = Gate::or_skip("table::a_full_table_refuses_or_lets_by_untracked") else {
        return;
    };
    gate.install("option flow-table-full refuse\noption half-open-full refuse\n");
    let sent = 8 * ROOM as u16;
    let passed = (0..sent).filter(|p| gate.send(1000 + p).action == PASS).count() as u64;
    let flows = gate.datapath().flows().expect("flows").len() as u64;
    assert!(flows >= u64::from(ROOM), "what was planned for fits: {flows}");
    assert_eq!(passed, flows, "what has no place doesn't pass, and nothing is pushed out");
    assert_eq!(gate.counted(Verdict::Drop, Reason::FlowTableFull), u64::from(sent) - passed);
    assert_eq!(gate.send(1000).action, PASS, "a known flow goes on");
    assert_eq!(gate.counted(Verdict::Allow, Reason::Established), 1);

    gate.install("option flow-table-full untracked\noption half-open-full refuse\n");
    assert_eq!(gate.send(1000 + sent).action, PASS);
    assert_eq!(gate.counted(Verdict::Allow, Reason::Untracked), 1);
    assert_eq!(gate.send(1000 + sent).action, PASS, "untracked again: nothing was entered");
    assert_eq!(gate.counted(Verdict::Allow, Reason::Untracked), 2);
}

#[test]
fn an_idle_flow_is_swept_with_its_totals_and_judged_anew() {
    let Some(mut gate) =
        Gate::or_skip("table::an_idle_flow_is_swept_with_its_totals_and_judged_anew")
    else {
        return;
    };
    let timeouts = "option timeout udp-new 100ms\noption timeout udp-established 100ms\n";
    gate.install(timeouts);
    // Ticks pass by themselves: the flow is idle once the kernel's clock shows more than 100 ms since.
    let idle = |gate: &mut Gate| {
        let from = gate.datapath().clock();
        let until = from.ticks + 100_000_000 / from.tick_ns + 2;
        while gate.datapath().clock().ticks < until {}
    };
    assert_eq!((gate.send(7).action, gate.send(7).action), (PASS, PASS));
    idle(&mut gate);
    let (expired, live) = gate.datapath().sweep().expect("a sweep");
    let totals: Vec<_> = expired.iter().map(|r| (r.sport, r.flow.packets, r.flow.bytes)).collect();
    assert_eq!((totals, live), (vec![(7, 2, 56)], 0));
    assert!(gate.datapath().flows().expect("flows").is_empty());

    // Not swept, but idle: the next packet is judged as a new flow's.
    assert_eq!(gate.send(8).action, PASS);
    idle(&mut gate);
    gate.install(&format!("{timeouts}default in drop\n"));
    assert_eq!(gate.send(8).action, DROP);
    let mut ended = Vec::new();
    gate.datapath().drain(&mut |e| ended.push((e.class, e.reason)));
    assert!(ended.contains(&(2, Reason::TimedOut.raw())), "{ended:?}");
}
