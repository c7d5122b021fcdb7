//! What was written is found.

use super::*;
use firewall_common::flow::block::Blocks;

#[test]
fn a_mapping_from_its_beginning_to_its_end() {
    let dir = Dir::new();
    let history = dir.open(ageless());
    let binding = masquerade(u64::MAX - 3, "10.0.0.7:5000", "203.0.113.5:40021", 1_000);
    history.binding_began(binding.clone());
    assert!(history.settle(SOON));
    let all = BindingFilter { limit: 10, ..BindingFilter::default() };
    let rows = history.bindings(&all).expect("rows");
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0].binding, rows[0].end_ms), (&binding, None), "there before it ends");

    history.binding_ended(Origin::Netfilter, binding.id, TOTALS, "closed", 2_000);
    history.binding_ended(Origin::Sluice, binding.id, TOTALS, "closed", 5_000);
    history.binding_ended(Origin::Sluice, binding.id, TOTALS, "closed", 6_000);
    assert!(history.settle(SOON));
    let rows = history.bindings(&all).expect("rows");
    assert_eq!((rows[0].end_ms, rows[0].totals), (Some(5_000), TOTALS));
    assert_eq!(rows[0].reason.as_deref(), Some("closed"));
    let stats = history.stats();
    assert_eq!((stats.written, stats.completed, stats.unmatched), (1, 1, 2));
    assert_eq!((stats.lost, stats.errors, stats.queued, stats.trouble), (0, 0, 0, None));
    assert!(stats.bytes > 0);

    // And again by the next daemon.
    drop(history);
    let history = dir.open(ageless());
    assert!(history.settle(SOON));
    assert_eq!(history.bindings(&all).expect("rows"), rows);
}

#[test]
fn start_and_end_are_included() {
    let dir = Dir::new();
    let history = dir.open(ageless());
    // Two hosts have the same public port, one after the other.
    for (id, host, from, to) in [
        (1, "10.0.0.1:5000", 1_000, 2_000),
        (2, "10.0.0.2:5000", 2_000, 2_000),
        (3, "10.0.0.3:1", 2_001, 9_000),
    ] {
        history.binding_began(masquerade(id, host, "203.0.113.5:40021", from));
        history.binding_ended(Origin::Sluice, id, TOTALS, "closed", to);
    }
    history.binding_began(masquerade(4, "10.0.0.4:1", "203.0.113.5:40021", 20_000));
    assert!(history.settle(SOON));
    for (at, expected) in [
        (999, &[][..]),
        (1_000, &[1]),
        (1_999, &[1]),
        (2_000, &[2, 1]),
        (2_001, &[3]),
        (9_000, &[3]),
        (9_001, &[]),
        (19_999, &[]),
        (20_000, &[4]),
        (now_ms(), &[4]),
    ] {
        assert_eq!(who(&history, "203.0.113.5:40021", at), expected, "at {at}");
    }
    assert_eq!(who(&history, "203.0.113.5:40022", 1_500), &[] as &[u64]);
    assert_eq!(who(&history, "203.0.113.6:40021", 1_500), &[] as &[u64]);
    assert_eq!(who(&history, "10.0.0.1:5000", 1_500), &[] as &[u64], "not a public endpoint");
}

#[test]
fn every_interval_is_found_wherever_one_asks() {
    let dir = Dir::new();
    let history = dir.open(ageless());
    let mut seed = 7u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let base = 1_700_000_000_000i64;
    let mut truth = Vec::new();
    for id in 0..3_000u64 {
        // Lengths of every order, from nothing to a year.
        let order = 1 + random(35);
        let length = random(1 << order) as i64;
        let start = base + random(1 << 36) as i64;
        let port = 1 + random(3);
        history.binding_began(masquerade(id, "10.0.0.1:9", &format!("203.0.113.5:{port}"), start));
        let lives = random(20) == 0;
        if !lives {
            history.binding_ended(Origin::Sluice, id, TOTALS, "closed", start + length);
        }
        truth.push((id, port, start, if lives { i64::MAX } else { start + length }));
    }
    assert!(history.settle(SOON));
    for question in 0..400 {
        let port = 1 + random(3);
        let at = match question % 4 {
            // On the edges.
            0 => truth[random(3_000) as usize].2,
            1 => truth[random(3_000) as usize].3.min(base * 2),
            _ => base + random(1 << 36) as i64,
        };
        let mut expected: Vec<u64> = truth
            .iter()
            .filter(|(_, p, from, to)| *p == port && *from <= at && at <= *to)
            .map(|(id, ..)| *id)
            .collect();
        let query = WhoQuery {
            address: ip("203.0.113.5"),
            port: Some(port as u16),
            proto: Some(6),
            at_ms: at,
            limit: 5_000,
        };
        let answer = history.who(&query).expect("an answer");
        let mut found: Vec<u64> = answer.bindings.iter().map(|row| row.binding.id).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "port {port} at {at}");
        let all_ports = truth.iter().filter(|(_, _, from, to)| *from <= at && at <= *to).count();
        let anywhere = history.who(&WhoQuery { port: None, ..query }).expect("an answer");
        assert_eq!(anywhere.bindings.len(), all_ports, "any port at {at}");
        let few = history.who(&WhoQuery { limit: 2, ..query }).expect("an answer");
        assert_eq!(few.bindings, answer.bindings[..answer.bindings.len().min(2)]);
        assert_eq!(few.more, expected.len() > 2);
        assert_eq!(history.who(&WhoQuery { proto: Some(17), ..query }).expect("one").bindings, []);
    }
}

#[test]
fn destinations_both_ends_and_six() {
    let dir = Dir::new();
    let history = dir.open(ageless());
    let forward = Binding {
        id: 1,
        origin: Origin::Netfilter,
        kind: BindingKind::Destination,
        proto: 6,
        src: end("198.51.100.7:50000"),
        dst: end("203.0.113.5:443"),
        to_src: end("198.51.100.7:50000"),
        to_dst: end("10.0.0.80:8443"),
        rule: "web".into(),
        start_ms: 1_000,
    };
    // From inside, by way of the public address, to the same server.
    let hairpin = Binding {
        id: 2,
        src: end("10.0.0.9:50000"),
        to_src: end("10.0.0.254:1025"),
        ..forward.clone()
    };
    let six = masquerade(3, "[fd00::9]:50000", "[2001:db8::1]:1025", 1_000);
    for binding in [&forward, &hairpin, &six] {
        history.binding_began(binding.clone());
    }
    assert!(history.settle(SOON));
    assert_eq!(who(&history, "203.0.113.5:443", 1_000), [1, 2]);
    assert_eq!(who(&history, "10.0.0.254:1025", 1_000), [2]);
    assert_eq!(who(&history, "[2001:db8::1]:1025", 1_000), [3]);
    let of = |host: &str| -> Vec<u64> {
        let filter = BindingFilter { host: Some(ip(host)), limit: 10, ..BindingFilter::default() };
        history.bindings(&filter).expect("rows").iter().map(|row| row.binding.id).collect()
    };
    assert_eq!((of("10.0.0.80"), of("10.0.0.9"), of("fd00::9")), (vec![1, 2], vec![2], vec![3]));
    assert_eq!(of("198.51.100.7"), &[] as &[u64], "not inside");
    let hosts = [&forward, &hairpin, &six].map(Binding::host);
    assert_eq!(hosts, [ip("10.0.0.80"), ip("10.0.0.9"), ip("fd00::9")]);

    history.binding_ended(Origin::Netfilter, 1, TOTALS, "closed", 5_000);
    assert!(history.settle(SOON));
    let ids = |filter: BindingFilter| -> Vec<u64> {
        let filter = BindingFilter { limit: 10, ..filter };
        history.bindings(&filter).expect("rows").iter().map(|row| row.binding.id).collect()
    };
    assert_eq!(ids(BindingFilter { live: Some(true), ..BindingFilter::default() }), [2, 3]);
    assert_eq!(ids(BindingFilter { live: Some(false), ..BindingFilter::default() }), [1]);
    assert_eq!(ids(BindingFilter { since_ms: Some(5_001), ..BindingFilter::default() }), [2, 3]);
    assert_eq!(
        ids(BindingFilter { until_ms: Some(999), ..BindingFilter::default() }),
        &[] as &[u64]
    );
}

#[test]
fn told_again_and_told_anew() {
    let dir = Dir::new();
    let history = dir.open(ageless());
    let old = masquerade(1, "10.0.0.1:5000", "203.0.113.5:40021", 1_000);
    history.binding_began(old.clone());
    // The next daemon's clock gives the flow another first moment, by some ms.
    history.binding_began(Binding { start_ms: 1_003, ..old.clone() });
    assert!(history.settle(SOON));
    assert_eq!(count(&history), 1);
    // Another flow under the same id.
    let new = Binding { start_ms: 3_000, src: end("10.0.0.2:5000"), ..old };
    history.binding_began(new);
    history.binding_began(masquerade(2, "10.0.0.3:5000", "203.0.113.5:40022", 1_000));
    assert!(history.settle(SOON));
    assert_eq!(who(&history, "203.0.113.5:40021", 2_000).len(), 1);
    assert_eq!(count(&history), 3);
    // While no daemon looked, flow 2 ended.
    history.only_live(Origin::Netfilter, vec![], 4_000);
    history.only_live(Origin::Sluice, vec![1], 5_000);
    assert!(history.settle(SOON));
    assert_eq!(who(&history, "203.0.113.5:40022", 5_000), [2]);
    assert_eq!(who(&history, "203.0.113.5:40022", 5_001), &[] as &[u64]);
    assert_eq!(who(&history, "203.0.113.5:40021", 9_000), [1]);
    let filter = BindingFilter { live: Some(false), limit: 10, ..BindingFilter::default() };
    for row in history.bindings(&filter).expect("rows") {
        assert_eq!(row.reason.as_deref(), Some("unseen"));
    }
}

#[test]
fn the_second_end_of_a_flow_completes_its_row() {
    let dir = Dir::new();
    let history = dir.open(ageless());
    // At ingress its destination is translated, at egress its source: told one after the other.
    let inwards = Binding {
        kind: BindingKind::Destination,
        src: end("10.0.0.1:5000"),
        to_src: end("10.0.0.1:5000"),
        dst: end("203.0.113.5:80"),
        to_dst: end("10.0.0.9:8080"),
        rule: "web".into(),
        ..masquerade(1, "10.0.0.1:5000", "203.0.113.5:1", 1_000)
    };
    let both = Binding {
        kind: BindingKind::Masquerade,
        to_src: end("10.0.0.254:40021"),
        rule: "lan".into(),
        start_ms: 1_001,
        ..inwards.clone()
    };
    history.binding_began(inwards);
    history.binding_began(both.clone());
    assert!(history.settle(SOON));
    let filter = BindingFilter { limit: 10, ..BindingFilter::default() };
    let rows = history.bindings(&filter).expect("rows");
    assert_eq!((rows.len(), rows[0].end_ms), (1, None));
    assert_eq!(rows[0].binding, Binding { start_ms: 1_000, ..both });
    for public in ["203.0.113.5:80", "10.0.0.254:40021"] {
        assert_eq!(who(&history, public, 1_500), [1], "{public}");
    }
}

#[test]
fn blocks_need_no_row_a_mapping() {
    let dir = Dir::new();
    let history = dir.open(ageless());
    let of = |public: &str| BlockAssignment {
        rule: "cgn".into(),
        blocks: Blocks {
            inside: u32::from_be_bytes([100, 64, 0, 0]),
            inside_len: 24,
            public: public.parse::<std::net::Ipv4Addr>().expect("IPv4").into(),
            addresses: 4,
            ports: [1024, 65535],
            size: 1000,
        },
    };
    history.blocks_in_force(vec![of("203.0.113.0")], 1_000);
    // A new daemon says the same again.
    history.blocks_in_force(vec![of("203.0.113.0")], 1_500);
    history.blocks_in_force(vec![of("203.0.113.8")], 2_000);
    assert!(history.settle(SOON));
    assert_eq!((history.stats().written, history.stats().completed), (2, 1));
    let ask = |public: &str, at_ms| {
        let public = end(public);
        let query = WhoQuery {
            address: public.address,
            port: Some(public.port),
            proto: None,
            at_ms,
            limit: 9,
        };
        let hits = history.who(&query).expect("an answer").blocks;
        hits.into_iter().map(|hit| (hit.host.to_string(), hit.ports)).collect::<Vec<_>>()
    };
    let host = |host: &str, ports| vec![(host.to_owned(), ports)];
    assert_eq!(ask("203.0.113.1:3500", 999), []);
    assert_eq!(ask("203.0.113.1:3500", 1_000), host("100.64.0.66", [3024, 4023]));
    assert_eq!(ask("203.0.113.1:3500", 2_000), host("100.64.0.66", [3024, 4023]));
    assert_eq!(ask("203.0.113.1:3500", 2_001), []);
    assert_eq!(ask("203.0.113.9:3500", now_ms()), host("100.64.0.66", [3024, 4023]));
    assert_eq!(ask("203.0.113.9:80", now_ms()), []);
}
