use super::*;
use crate::{
    datapath::programs::OwnProgram,
    paths::facts::{
        ARPHRD_ETHER, ARPHRD_LOOPBACK, Card, Family, Link, NetfilterHook, PacketSocket, Program,
        QueueOwner, QueueUse, Rdma, Side, Space, XdpMode, XdpSocket,
    },
    view::PathOwnerView,
};

const HERE: u64 = 100;
const THERE: u64 = 200;
const XDP: u32 = 1;
const IN: u32 = 2;
const OUT: u32 = 3;

fn gate() -> Gate {
    let own = |id, name: &str| OwnProgram { id, name: name.to_owned() };
    let programs = vec![own(XDP, "sluice_xdp"), own(IN, "sluice_tc_in"), own(OUT, "sluice_tc_out")];
    Gate { interfaces: vec![], ways: Ways { programs, fast_path: false, bypass: false } }
}

fn program(hook: &'static str, id: u32) -> Program {
    Program { hook, id: Some(id), ..Program::default() }
}

/// An interface with these programs; those of XDP run natively.
fn link(index: u32, kind: &str, programs: &[(&'static str, u32)]) -> Link {
    let xdp = programs.iter().filter(|(hook, _)| hook.starts_with("xdp"));
    Link {
        index,
        name: format!("i{index}"),
        kind: kind.to_owned(),
        hardware: ARPHRD_ETHER,
        up: true,
        xdp: xdp.map(|(_, id)| (XdpMode::Native, *id)).collect(),
        programs: programs.iter().map(|(hook, id)| program(hook, *id)).collect(),
        ..Link::default()
    }
}

const TC: &[(&str, u32)] = &[("tcx-in", IN), ("tcx-out", OUT)];
const DRIVER: &[(&str, u32)] = &[("xdp", XDP), ("tcx-in", IN), ("tcx-out", OUT)];

fn facts(links: Vec<Link>) -> Facts {
    Facts { here: Space { inode: HERE, links, ..Space::default() }, ..Facts::default() }
}

fn find<'a>(report: &'a PathsView, kind: &str, name: &str) -> &'a PathView {
    let found = report.rows.iter().find(|row| row.kind == kind && row.name == name);
    found.unwrap_or_else(|| panic!("no {kind} {name} in {report:#?}"))
}

/// A row's `filtered`, whether there is something to do, and words of `why`.
#[track_caller]
fn check(row: &PathView, filtered: &str, todo: bool, words: &str) {
    assert_eq!(row.filtered, filtered, "{row:#?}");
    assert_eq!(row.todo.is_some(), todo, "{row:#?}");
    assert!(row.why.contains(words), "{words}: {row:#?}");
}

#[test]
fn where_sluice_stands_and_who_stands_before_it() {
    type Programs = &'static [(&'static str, u32)];
    let cases: [(Programs, &str, bool, &str); 11] = [
        (TC, "yes", false, "at TC as it comes in"),
        (DRIVER, "yes", false, "in the driver as it comes in"),
        (&[("xdp-generic", XDP), ("tcx-in", IN), ("tcx-out", OUT)], "yes", false, "generic XDP"),
        (&[("tc-in", IN), ("tc-out", OUT)], "yes", false, "at TC"),
        (&[("xdp", 9), ("tcx-in", IN), ("tcx-out", OUT)], "part", true, "XDP program of id 9"),
        (&[("tcx-in", 9), ("tcx-in", IN), ("tcx-out", OUT)], "part", true, "TCX program of id 9"),
        (&[("tcx-in", IN), ("tcx-in", 9), ("tcx-out", OUT)], "yes", false, "every packet"),
        (&[("tcx-in", 9), ("tc-in", IN), ("tc-out", OUT)], "part", true, "of id 9"),
        // Behind XDP others only get what it has let in.
        (&[("xdp", XDP), ("tcx-in", 9), ("tcx-in", IN), ("tcx-out", OUT)], "yes", false, "driver"),
        (&[("tcx-in", IN), ("tcx-out", 9), ("tcx-out", OUT)], "part", true, "on the way out"),
        (&[("tcx-in", IN)], "part", true, "on the way in only"),
    ];
    for (programs, filtered, todo, words) in cases {
        let report = report(&facts(vec![link(4, "veth", programs)]), &gate());
        check(find(&report, "interface", "i4"), filtered, todo, words);
    }
}

#[test]
fn interfaces_without_sluice() {
    let lo = Link { hardware: ARPHRD_LOOPBACK, ..link(1, "", &[]) };
    let down = Link { up: false, ..link(1, "", &[]) };
    let away = Link { side: Side::Unknown, lower: Some(7), ..link(1, "veth", &[]) };
    let layer3 = Link { hardware: 0xfffe, ..link(1, "tun", &[]) };
    for (link, todo, words) in [
        (link(1, "", &[]), true, "isn't attached to it"),
        (link(1, "", &[("xdp", 9)]), true, "XDP program of id 9 handles them instead"),
        (lo, false, "talks to itself"),
        (down, false, "it is down"),
        (away, true, "another network namespace"),
        (layer3, true, "no Ethernet frames"),
        (link(1, "tun", &[]), true, "a program sends and gets"),
        (link(1, "vxlan", &[]), true, "travel inside others"),
        (link(1, "dummy", &[]), false, "nothing enters or leaves"),
        (link(1, "bridge", &[]), true, "isn't attached"),
    ] {
        let report = report(&facts(vec![link]), &gate());
        check(find(&report, "interface", "i1"), "no", todo, words);
    }
}

#[test]
fn a_filter_that_should_be_there_is_missed() {
    let mut gate = gate();
    gate.interfaces.push(IfaceView { name: "i1".into(), ifindex: 1, ..IfaceView::default() });
    let mut facts = facts(vec![link(1, "", &[])]);
    check(&report(&facts, &gate).rows[0], "no", true, "its programs are gone");
    facts.programs_unread = true;
    check(&report(&facts, &gate).rows[0], "yes", false, "couldn't be read");
    gate.interfaces[0].ifindex = 2;
    check(&report(&facts, &gate).rows[0], "no", true, "isn't attached");
}

#[test]
fn interfaces_over_below_and_beside_others() {
    let over = |kind: &str, isolated| Link { lower: Some(1), isolated, ..link(2, kind, &[]) };
    let port = |index, programs| Link { master: Some(9), ..link(index, "", programs) };
    let judged = |links: Vec<Link>, name: &str| {
        find(&report(&facts(links), &gate()), "interface", name).clone()
    };
    for (links, name, filtered, todo, words) in [
        (vec![link(1, "", TC), over("vlan", false)], "i2", "yes", false, "pass i1"),
        (vec![link(1, "", &[]), over("vlan", false)], "i2", "no", true, "isn't attached"),
        (vec![link(1, "", TC), over("macvlan", true)], "i2", "yes", false, "pass i1"),
        (vec![link(1, "", TC), over("macvlan", false)], "i2", "part", true, "each other"),
        (vec![link(1, "", TC), over("ipvlan", false)], "i2", "part", true, "each other"),
        (vec![link(1, "veth", TC), over("veth", false)], "i2", "yes", false, "its other end, i1"),
        (vec![link(1, "veth", &[]), over("veth", false)], "i2", "no", true, "isn't attached"),
        (vec![link(1, "", TC), over("vxlan", false)], "i2", "no", true, "inside others"),
        (vec![link(9, "bridge", &[]), port(1, TC), port(2, TC)], "i9", "yes", false, "each of"),
        (vec![link(9, "bridge", &[]), port(1, TC), port(2, &[])], "i9", "part", true, "1 of its 2"),
        (vec![link(9, "bridge", TC), port(1, &[])], "i1", "part", true, "from port to port"),
        (vec![link(9, "bond", TC), port(1, &[])], "i1", "yes", false, "those of i9"),
    ] {
        check(&judged(links, name), filtered, todo, words);
    }
    let row = judged(vec![link(9, "bridge", &[]), port(1, &[])], "i1");
    assert_eq!(row.parent.as_deref(), Some("port of i9"));
}

#[test]
fn other_namespaces_are_listed_where_they_lead_here() {
    let end = |lower, kind: &str| Link {
        lower: Some(lower),
        side: Side::Space(HERE),
        ..link(7, kind, &[])
    };
    for (kind, programs, filtered, words) in [
        ("veth", TC, "yes", "at its other end, i1"),
        ("veth", &[][..], "no", "aren't judged"),
        ("macvlan", TC, "part", "each other"),
        ("macvlan", &[][..], "no", "doesn't stand"),
    ] {
        let mut facts = facts(vec![link(1, "", programs)]);
        let links = vec![end(1, kind), link(8, "veth", &[])];
        let blue = Space { inode: THERE, label: "blue".into(), links, ..Space::default() };
        facts.others.push(blue);
        let report = report(&facts, &gate());
        assert_eq!(report.rows.len(), 2, "what leads nowhere else isn't listed: {report:#?}");
        let row = find(&report, "interface", "i7");
        assert_eq!(row.netns.as_deref(), Some("blue"));
        check(row, filtered, false, words);
    }
    let mut facts = facts(vec![]);
    let links = vec![link(3, "", &[])];
    facts.others.push(Space { inode: THERE, label: "blue".into(), links, ..Space::default() });
    check(&report(&facts, &gate()).rows[0], "no", true, "hardware in another");
}

#[test]
fn chains_stand_between_the_hooks_of_tc_and_those_of_others_are_left_out() {
    let hook = |family, hook, priority, name: &str, devices: &[&str]| NetfilterHook {
        family,
        hook,
        priority,
        name: name.to_owned(),
        devices: devices.iter().map(|name| (*name).to_owned()).collect(),
    };
    let bridged = Link { master: Some(9), ..link(2, "", &[]) };
    let mut facts = facts(vec![link(1, "", DRIVER), bridged, link(9, "bridge", &[])]);
    facts.here.hooks = vec![
        hook(Family::Device, "nf-egress", 0, "netdev t out", &["i1"]),
        hook(Family::Device, "nf-ingress", 0, "netdev t in", &["i1"]),
        hook(Family::Ip, "nf-input", -5, "inet t a", &[]),
        hook(Family::Ip, "nf-input", 5, "inet t b", &[]),
        hook(Family::Ip, "nf-prerouting", 10, "ip t c", &[]),
        hook(Family::Bridge, "nf-forward", 0, "bridge t d", &[]),
    ];
    let report = report(&facts, &gate());
    let names = |name: &str| -> Vec<String> {
        let row = find(&report, "interface", name);
        row.attached.iter().map(|at| at.name.clone().unwrap_or_default()).collect()
    };
    let expected = [
        "sluice_xdp",
        "sluice_tc_in",
        "netdev t in",
        "ip t c",
        "inet t a",
        "inet t b",
        "netdev t out",
        "sluice_tc_out",
    ];
    assert_eq!(names("i1"), expected);
    assert_eq!(names("i2"), ["bridge t d"], "a port's packets aren't the stack's");
    assert_eq!(names("i9"), ["ip t c", "inet t a", "inet t b"]);
}

fn owner(pid: u32, comm: &str) -> PathOwnerView {
    PathOwnerView { pid, comm: comm.into(), exe: None }
}

#[test]
fn packet_sockets_of_one_program_at_one_place_are_one_row() {
    let socket = |inode, index, protocol| PacketSocket { inode, index, protocol };
    let mut facts = facts(vec![link(1, "", DRIVER), link(2, "", TC), link(3, "", &[])]);
    facts.here.packet = vec![
        socket(10, 1, 3),
        socket(11, 1, 3),
        socket(12, 2, 3),
        socket(13, 3, 3),
        socket(14, 0, 3),
        socket(15, 2, 0),
    ];
    for (inode, owned) in [(10, "dump"), (11, "dump"), (12, "dump"), (13, "dump"), (15, "send")] {
        facts.owners.insert(inode, vec![owner(5, owned)]);
    }
    let report = report(&facts, &gate());
    let rows: Vec<&PathView> = report.rows.iter().filter(|row| row.kind == "af-packet").collect();
    let row = |name: &str, comm: Option<&str>| {
        let of = |row: &PathView| row.owners.first().map(|owner| owner.comm.clone());
        let found = rows.iter().find(|row| row.name == name && of(row).as_deref() == comm);
        (*found.unwrap_or_else(|| panic!("{name}: {rows:#?}"))).clone()
    };
    assert_eq!((row("i1", Some("dump")).count, rows.len()), (2, 5));
    check(&row("i1", Some("dump")), "part", true, "copies of what Sluice has let in");
    check(&row("i2", Some("dump")), "part", true, "before Sluice has judged it");
    check(&row("i2", Some("send")), "part", true, "it gets nothing");
    check(&row("i3", Some("dump")), "no", true, "isn't attached");
    check(&row("any", None), "part", true, "before Sluice has judged it");
}

#[test]
fn xdp_sockets_get_what_rules_or_others_hand_to_them() {
    let socket = XdpSocket { inode: 10, index: 1, queue: 3, zero_copy: Some(true) };
    for (programs, bypass, filtered, words) in [
        (DRIVER, true, "part", "`bypass` rules"),
        (DRIVER, false, "no", "no rule hands"),
        (TC, true, "no", "no XDP program hands"),
        (&[("xdp", 9), ("tcx-in", IN), ("tcx-out", OUT)][..], true, "no", "id 9 hands it packets"),
        (&[("xdp", 9)][..], true, "no", "id 9 hands it packets"),
    ] {
        let mut facts = facts(vec![link(1, "", programs)]);
        facts.here.xdp = vec![socket];
        facts.owners.insert(10, vec![owner(5, "recv")]);
        let mut gate = gate();
        gate.ways.bypass = bypass;
        let report = report(&facts, &gate);
        let row = find(&report, "af-xdp", "i1");
        check(row, filtered, true, words);
        assert_eq!((row.queue, row.mode.as_deref()), (Some(3), Some("zero-copy")));
        assert!(row.todo.as_ref().is_some_and(|todo| todo.contains("`recv`")));
        assert_ne!(find(&report, "interface", "i1").filtered, "yes", "it sends past us");
    }
}

#[test]
fn xdp_sockets_that_the_kernel_does_not_list() {
    let mut facts = facts(vec![link(1, "", DRIVER)]);
    facts.xdp_processes = vec![(owner(5, "recv"), HERE), (owner(6, "other"), THERE)];
    check(find(&report(&facts, &gate()), "af-xdp", "unknown"), "no", true, "at which interface");
    let queue = |receives| QueueUse { index: 1, queue: 2, receives, owner: QueueOwner::Xsk };
    facts.here.queues = vec![queue(true), queue(false)];
    let report_one = report(&facts, &gate());
    let rows: Vec<_> = report_one.rows.iter().filter(|row| row.kind == "af-xdp").collect();
    assert_eq!((rows.len(), rows[0].queue, &rows[0].owners), (1, Some(2), &vec![owner(5, "recv")]));
    facts.xdp_processes.push((owner(7, "third"), HERE));
    let report = report(&facts, &gate());
    check(find(&report, "af-xdp", "i1"), "no", true, "which of these programs");
}

#[test]
fn the_fast_path_is_told_where_it_begins() {
    let mut gate = gate();
    let view = |index: u32, fast_path: &str| IfaceView {
        name: format!("i{index}"),
        ifindex: index,
        fast_path: fast_path.into(),
        ..IfaceView::default()
    };
    gate.interfaces = vec![view(1, "from here at TC; ..."), view(2, "not from here: ...")];
    let mut facts = facts(vec![link(1, "", TC), link(2, "", TC)]);
    let fast = |facts: &Facts, gate: &Gate| {
        let rows = report(facts, gate).rows;
        rows.into_iter().filter(|row| row.kind == "fast-path").collect::<Vec<_>>()
    };
    assert_eq!(fast(&facts, &gate), []);
    gate.ways.fast_path = true;
    let rows = fast(&facts, &gate);
    assert_eq!((rows.len(), rows[0].name.as_str()), (1, "i1"));
    check(&rows[0], "yes", false, "past netfilter");
    facts.here.hooks.push(NetfilterHook {
        hook: "nf-forward",
        name: "inet t fwd".into(),
        ..NetfilterHook::default()
    });
    let rows = fast(&facts, &gate);
    assert!(rows[0].todo.as_ref().is_some_and(|todo| todo.contains("inet t fwd")));
}

#[test]
fn cards_rdma_and_zero_copy() {
    let mut facts = facts(vec![link(1, "", TC)]);
    let vfio = |address: &str| (address.to_owned(), "vfio-pci".to_owned());
    facts.cards = vec![
        Card {
            address: "0000:03:00.0".into(),
            driver: "vfio-pci".into(),
            userspace: true,
            physical: Some("0000:02:00.0".into()),
            ..Card::default()
        },
        Card {
            address: "0000:02:00.0".into(),
            driver: "ice".into(),
            functions: 2,
            virtuals: vec![vfio("0000:03:00.0"), ("0000:03:00.1".into(), "iavf".into())],
            interfaces: vec!["i1".into()],
            ..Card::default()
        },
    ];
    facts.rdma =
        vec![Rdma { name: "mlx5_0".into(), device: None, layers: vec!["Ethernet".into()] }];
    facts.uring_processes = vec![owner(5, "server")];
    let queue = QueueUse { index: 1, queue: 6, receives: true, owner: QueueOwner::IoUring };
    facts.here.queues = vec![queue];
    facts.unread("something", "some reason");
    let report = report(&facts, &gate());
    let card = find(&report, "userspace-driver", "0000:03:00.0");
    check(card, "no", true, "never meet the kernel");
    assert_eq!(card.parent.as_deref(), Some("virtual function of 0000:02:00.0"));
    let shared = find(&report, "sr-iov", "0000:02:00.0");
    check(shared, "no", true, "1 with iavf, 1 with vfio-pci");
    assert_eq!((shared.count, shared.parent.as_deref()), (2, Some("i1")));
    check(find(&report, "rdma", "mlx5_0"), "no", true, "(Ethernet)");
    let zero = find(&report, "zero-copy", "i1");
    check(zero, "yes", false, "without a copy");
    assert_eq!((zero.queue, zero.owners[0].pid), (Some(6), 5));
    let summary = &report.summary;
    assert_eq!((summary.ways, summary.todo, summary.unread), (5, 3, 1));
    assert_eq!(summary.filtered, PathCountsView { yes: 2, part: 0, no: 3 });
}
