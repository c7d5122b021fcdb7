//! The flow table at its ends: full, and swept. Through the product's own datapath, on pins of its own.

use std::path::PathBuf;

use firewall_common::abi::{
    bucket::{HALF_OPEN_SLOTS, QUARANTINE, SLOTS, buckets_for},
    reason::Reason,
    table::{Direction, Verdict},
};
use firewall_user::{
    datapath::{
        Datapath, Options, SlotNames,
        testing::{Hook, TestOutcome},
    },
    policy::{self, Compiled, Slots},
};
use sluice_tests::{packet::Packet, skip};

/// Flows that the table of these tests is planned for.
const ROOM: u32 = 64;
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

    fn compiled(&mut self, text: &str) -> Compiled {
        let parsed = policy::parse(text, "test").expect("a good policy");
        let next = self.datapath().generation() + 1;
        policy::compile(&parsed, &mut self.slots, next).expect("a small policy")
    }

    fn install(&mut self, text: &str) {
        let compiled = self.compiled(text);
        let next = self.datapath().generation() + 1;
        self.datapath()
            .install(&compiled.table, &compiled.arena, next, &SlotNames::default(), None)
            .expect("installed");
    }

    /// The same, and says whose the counters are.
    fn install_named(&mut self, text: &str) {
        let compiled = self.compiled(text);
        let next = self.datapath().generation() + 1;
        let owners = self.slots.rules();
        let rules = owners.map(|(slot, of)| (slot, of.name.clone(), of.generation)).collect();
        let names = SlotNames { rules, ..SlotNames::default() };
        let installed =
            self.datapath().install(&compiled.table, &compiled.arena, next, &names, None);
        installed.expect("installed");
    }

    /// A datagram from a port of its own: each begins a flow.
    fn send(&mut self, port: u16) -> TestOutcome {
        let frame = Packet::new().ipv4("192.0.2.1", "198.51.100.2").udp(port, 53).build();
        self.datapath().test_run(Hook::Xdp, &frame, 1).expect("a test run")
    }

    /// The answer to it.
    fn answer(&mut self, port: u16) -> TestOutcome {
        let frame = Packet::new().ipv4("198.51.100.2", "192.0.2.1").udp(53, port).build();
        self.datapath().test_run(Hook::Xdp, &frame, 1).expect("a test run")
    }

    /// Sends from each of these ports; those that passed.
    fn passing(&mut self, ports: std::ops::Range<u16>) -> Vec<u16> {
        ports.filter(|port| self.send(*port).action == PASS).collect()
    }

    fn live(&mut self) -> usize {
        self.datapath().flows().expect("flows").len()
    }

    /// Until so many milliseconds have passed by the kernel's own clock.
    fn wait(&mut self, ms: u64) {
        let from = self.datapath().clock();
        let until = from.ticks + ms * 1_000_000 / from.tick_ns + 2;
        while self.datapath().clock().ticks < until {}
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
fn as_many_answered_flows_fit_as_were_asked_for() {
    let Some(mut gate) = Gate::or_skip("table::as_many_answered_flows_fit_as_were_asked_for")
    else {
        return;
    };
    gate.install("option half-open-full refuse\n");
    for port in 1000..1000 + ROOM as u16 {
        assert_eq!((gate.send(port).action, gate.answer(port).action), (PASS, PASS), "{port}");
    }
    assert_eq!(gate.live(), ROOM as usize);
}

#[test]
fn a_full_table_refuses_or_lets_by_untracked() {
    let Some(mut gate) = Gate::or_skip("table::a_full_table_refuses_or_lets_by_untracked") else {
        return;
    };
    gate.install("option flow-table-full refuse\noption half-open-full refuse\n");
    let sent = 4 * ROOM as u16;
    let passed = gate.passing(1000..1000 + sent);
    let buckets = buckets_for(ROOM) as usize;
    assert_eq!(gate.live(), passed.len(), "what has no place doesn't pass");
    assert!(passed.len() <= buckets * HALF_OPEN_SLOTS as usize, "{}", passed.len());
    assert!(passed.len() >= buckets * SLOTS / 2, "{}", passed.len());
    let refused = u64::from(sent) - passed.len() as u64;
    assert_eq!(gate.counted(Verdict::Drop, Reason::FlowTableFull), refused);
    assert_eq!(gate.send(passed[0]).action, PASS, "a known flow goes on");
    assert_eq!(gate.counted(Verdict::Allow, Reason::Established), 1);

    let stranger = (1000..1000 + sent).find(|port| !passed.contains(port)).expect("one refused");
    gate.install("option flow-table-full untracked\noption half-open-full refuse\n");
    assert_eq!(gate.send(stranger).action, PASS);
    assert_eq!(gate.counted(Verdict::Allow, Reason::Untracked), 1);
    assert_eq!(gate.send(stranger).action, PASS, "untracked again: nothing was entered");
    assert_eq!(gate.counted(Verdict::Allow, Reason::Untracked), 2);
}

#[test]
fn answers_make_room_for_others_and_the_unanswered_do() {
    let Some(mut gate) = Gate::or_skip("table::answers_make_room_for_others_and_the_unanswered_do")
    else {
        return;
    };
    gate.install("option flow-table-full refuse\noption half-open-full refuse\n");
    let first = gate.passing(1000..1000 + 4 * ROOM as u16);
    // The room that is kept for the answered is free now.
    for port in &first {
        assert_eq!(gate.answer(*port).action, PASS);
    }
    let second = gate.passing(5000..5000 + 4 * ROOM as u16);
    assert!(!second.is_empty());
    let all = first.len() + second.len();
    assert!(all <= buckets_for(ROOM) as usize * SLOTS && gate.live() == all, "{all}");

    // A flood pushes out the unanswered, never one that was answered.
    gate.install("option flow-table-full refuse\noption half-open-full evict\n");
    let clock = gate.datapath().clock();
    gate.wait(u64::from(QUARANTINE + 2) * clock.tick_ns / 1_000_000);
    let third = gate.passing(9000..9000 + 4 * ROOM as u16);
    assert!(!third.is_empty());
    let flows = gate.datapath().flows().expect("flows");
    let is_there = |port: &u16| flows.iter().any(|flow| flow.sport == *port);
    assert!(first.iter().all(is_there), "all that were answered are there");
    let gone = second.iter().filter(|port| !is_there(port)).count() as u64;
    let evicted = gate.datapath().table_counters().expect("counters").evicted;
    assert!(gone > 0 && evicted >= gone, "{gone} gone, {evicted} evicted");
    assert_eq!(flows.len() as u64, all as u64 + third.len() as u64 - evicted);
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
    assert_eq!((gate.send(7).action, gate.send(7).action), (PASS, PASS));
    gate.wait(100);
    let (expired, live) = gate.datapath().sweep().expect("a sweep");
    let totals: Vec<_> = expired.iter().map(|r| (r.sport, r.flow.packets, r.flow.bytes)).collect();
    assert_eq!((totals, live), (vec![(7, 2, 56)], 0));
    assert_eq!(gate.live(), 0);

    // Not swept, but idle: the next packet is judged as a new flow's.
    assert_eq!(gate.send(8).action, PASS);
    gate.wait(100);
    gate.install(&format!("{timeouts}default in drop\n"));
    assert_eq!(gate.send(8).action, DROP);
    let mut ended = Vec::new();
    gate.datapath().drain(&mut |e| ended.push((e.class, e.reason)));
    assert!(ended.contains(&(2, Reason::TimedOut.raw())), "{ended:?}");
}

#[test]
fn a_killed_flow_gives_its_place_back_after_a_while() {
    let Some(mut gate) = Gate::or_skip("table::a_killed_flow_gives_its_place_back_after_a_while")
    else {
        return;
    };
    gate.install("option flow-table-full refuse\noption half-open-full refuse\n");
    let passed = gate.passing(1000..1000 + 4 * ROOM as u16);
    let killed = gate.datapath().kill(&mut |flow| flow.sport % 2 == 0).expect("killed");
    assert!(killed.iter().all(|flow| flow.sport % 2 == 0 && flow.flow.packets == 1));
    assert_eq!(gate.live() + killed.len(), passed.len());
    assert!(gate.datapath().kill(&mut |_| false).expect("killed").is_empty());
    let clock = gate.datapath().clock();
    gate.wait(u64::from(QUARANTINE + 1) * clock.tick_ns / 1_000_000);
    assert!(!gate.passing(5000..5000 + 4 * ROOM as u16).is_empty());
}

#[test]
fn a_source_that_has_its_share_gets_it_back_flow_by_flow() {
    let Some(mut gate) =
        Gate::or_skip("table::a_source_that_has_its_share_gets_it_back_flow_by_flow")
    else {
        return;
    };
    gate.install("option source-flows 5\n");
    assert_eq!(gate.passing(1000..1010).len(), 5);
    assert_eq!(gate.datapath().kill(&mut |flow| flow.sport < 1002).expect("killed").len(), 2);
    assert_eq!(gate.passing(2000..2010).len(), 2);
}

#[test]
fn a_swept_mapping_leaves_its_totals_and_gives_its_port_back() {
    let Some(mut gate) =
        Gate::or_skip("table::a_swept_mapping_leaves_its_totals_and_gives_its_port_back")
    else {
        return;
    };
    assert_eq!(gate.slots.hold_iface("lo", 0), Some(1));
    gate.install(
        "option timeout udp-new 100ms\n\
         nat out source on lo from 192.0.2.0/24 => 203.0.113.1\n",
    );
    let frame = Packet::new().ipv4("192.0.2.1", "198.51.100.2").udp(1000, 53).build();
    for _ in 0..2 {
        gate.datapath().test_run(Hook::Tc(Direction::Out), &frame, 1).expect("a test run");
    }
    let flows = gate.datapath().flows().expect("flows");
    let nat = flows[0].nat.expect("translated");
    assert_eq!((nat.src, nat.dst, nat.dport), ([203, 0, 113, 1], [198, 51, 100, 2], 53));
    assert_eq!(Some(nat.rule), gate.slots.rule("out"));
    let accounts = |gate: &mut Gate| {
        let tables = gate.datapath().tables();
        let host = tables.nat_hosts();
        assert_eq!(host[0].0, Some([192, 0, 2, 1]));
        let rule = tables.nat_rules()[0].1;
        assert_eq!(rule, host[0].1);
        let in_use = tables.nat_ports()[0].in_use;
        (rule.mappings, rule.ended, rule.totals, in_use)
    };
    gate.datapath().sweep().expect("a sweep");
    assert_eq!(accounts(&mut gate), (1, 0, [0; 4], 1), "what lives is in the flow table");
    gate.wait(100);
    let (ended, _) = gate.datapath().sweep().expect("a sweep");
    assert_eq!(ended[0].nat, Some(nat));
    assert_eq!(accounts(&mut gate), (1, 1, [2, 56, 0, 0], 0));
}

#[test]
fn a_flow_keeps_its_limit_when_counters_are_reset() {
    let Some(mut gate) = Gate::or_skip("table::a_flow_keeps_its_limit_when_counters_are_reset")
    else {
        return;
    };
    gate.install_named("default in drop\nrule a allow in udp limit 3 packets/h burst 3\n");
    let slot = gate.slots.rule("a").expect("a slot");
    let passing = |gate: &mut Gate| (0..5).filter(|_| gate.send(1).action == PASS).count();
    assert_eq!(passing(&mut gate), 3);
    let over =
        |gate: &mut Gate| gate.datapath().counters().expect("counters").over.get(&slot).copied();
    assert_eq!(over(&mut gate), Some(2));
    gate.datapath().reset_counters().expect("reset");
    assert_eq!(over(&mut gate), None);
    assert_eq!((passing(&mut gate), over(&mut gate)), (0, Some(5)));
}
