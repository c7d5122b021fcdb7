use super::*;
use crate::view::{EventView, FlowNatView, FlowView, RuleView};
use proptest::prelude::*;

fn flow() -> FlowView {
    FlowView {
        id: "00a1".into(),
        proto: "tcp".into(),
        family: 4,
        src: "10.0.0.7".into(),
        sport: 51_000,
        dst: "192.0.2.1".into(),
        dport: 443,
        state: "established".into(),
        direction: "forward".into(),
        in_iface: Some("eth0".into()),
        out_iface: Some("eth1".into()),
        verdict: "allow".into(),
        rule: "web".into(),
        packets: 12,
        bytes: 2_000_000,
        age_ms: 90_000,
        idle_ms: 400,
        nat: Some(FlowNatView {
            src: "203.0.113.5".into(),
            sport: 40_021,
            dst: "192.0.2.1".into(),
            dport: 443,
            rule: "out".into(),
            kind: "source".into(),
        }),
        ..FlowView::default()
    }
}

#[track_caller]
fn holds(text: &str) -> bool {
    parse_for::<FlowView>(text).unwrap_or_else(|e| panic!("{}", e.render())).matches(&flow())
}

#[test]
fn comparisons_mean_what_they_say() {
    for yes in [
        "",
        "  ",
        "proto=tcp",
        "proto = 6",
        "proto in (udp, 6)",
        "proto not in (udp, icmp)",
        "src=10.0.0.0/8",
        "src=10.0.0.7-10.0.0.9",
        "addr=192.0.2.0/24",
        "addr=10.0.0.7",
        "addr=0.0.0.0/0",
        "src != 192.0.2.1",
        "addr in (2001:db8::/32, 10.0.0.7)",
        "port=443",
        "port in (22,443)",
        "port=51000",
        "dport=400-500",
        "port != 22",
        "bytes>1M",
        "bytes<=2M",
        "bytes>=2000k",
        "bytes < 2.1M",
        "nat=yes and nat_src=203.0.113.0/24 and nat_sport=40000-40100",
        "nat_rule=out and nat_dport=443 and nat_dst!=10.0.0.1",
        "age>1m",
        "age = 1m30s",
        "idle<1s",
        "rule~WE",
        "rule=\"web\"",
        "src ~ 10.0",
        "port ~ 44",
        "iface=eth0",
        "iface=eth1",
        "in_iface=eth0 and out-iface=eth1",
        "family=4",
        "verdict=allow",
        "ended != timed-out",
        "not proto=udp",
        "! (proto=udp or dport=80)",
        "proto=udp and dport=1 or dport=443",
        "dport=443 or proto=udp and dport=1",
        "proto=tcp && port=443 || verdict=drop",
        "not not proto=tcp",
    ] {
        assert!(holds(yes), "{yes}");
    }
    for no in [
        "proto=udp",
        "proto=17",
        "proto!=tcp",
        "src=10.0.0.8-10.0.0.9",
        "src=2001:db8::/32",
        "addr=::/0",
        "addr != 10.0.0.7",
        "port != 443",
        "port=22",
        "dport=51000",
        "bytes>2M",
        "idle>=1s",
        "rule~x",
        "iface=eth2",
        "in_iface=eth1",
        "ended=closed",
        "(proto=udp or proto=tcp) and dport=80",
        "not (proto=tcp)",
    ] {
        assert!(!holds(no), "{no}");
    }
}

#[test]
fn events_and_rules_have_their_own_fields() {
    let event = EventView {
        class: "verdict".into(),
        proto: "udp".into(),
        reason: "rule".into(),
        iface: "wan".into(),
        verdict: "drop".into(),
        frame_len: 60,
        ..EventView::default()
    };
    let yes = |text: &str| parse_for::<EventView>(text).unwrap().matches(&event);
    assert!(yes("class=verdict and reason=rule and iface=wan and frame_len<64"));
    assert!(!yes("seq>=0"), "no value is neither more nor less");
    let rule = RuleView {
        name: "web".into(),
        action: "drop".into(),
        enabled: true,
        hits: 3,
        id: 17,
        ..RuleView::default()
    };
    let yes = |text: &str| parse_for::<RuleView>(text).unwrap().matches(&rule);
    assert!(yes(
        "enabled=yes and log=false and hits>2 and name=web and rule=web and verdict=drop and action=drop and id=17"
    ));
    let error = parse_for::<RuleView>("hits>2 and sport=1").unwrap_err();
    assert_eq!((error.column, error.seen.as_str()), (12, "`sport`"));
    assert!(error.expected.starts_with("a field of rules: verdict, action"), "{error}");
}

#[test]
fn nesting_has_an_end() {
    let deep = format!("{}proto=tcp{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(parse(&deep).unwrap_err().expected.contains("at most"));
    let long = vec!["proto=tcp"; 10_000].join(" and ");
    assert!(holds(&long));
}

proptest! {
    #[test]
    fn any_text_gives_a_filter_or_a_place(text in "\\PC{0,40}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.column as usize <= text.chars().count() + 1);
            let _ = error.render();
        }
    }

    #[test]
    fn words_and_signs_in_any_order_never_panic(words in proptest::collection::vec(
        prop_oneof![Just("proto"), Just("port"), Just("="), Just("in"), Just("("), Just(")"), Just(","), Just("not"),
            Just("and"), Just("or"), Just("tcp"), Just("22"), Just("<"), Just("~"), Just("\"a\""), Just("src"), Just("10.0.0.0/8")], 0..14)) {
        let text = words.join(" ");
        if let Err(error) = parse(&text) {
            prop_assert!(error.column as usize <= text.chars().count() + 1);
        }
    }
}
