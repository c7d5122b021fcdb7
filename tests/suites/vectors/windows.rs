//! TCP's numbers: what fits and what doesn't, under each policy, and what neither end would act upon.

use super::{Bench, back, forth};
use sluice_tests::packet::{Packet, tcp};

fn policy(window: &str) -> String {
    format!(
        "default in drop\ndefault out drop\noption tcp-pickup off\noption tcp-window {window}\nrule a allow in tcp to port 80\n"
    )
}

fn there(flags: u8, seq: u32, ack: u32) -> Packet {
    forth().tcp(4000, 80).flags(flags).seq(seq, ack).window(1000)
}

fn here(flags: u8, seq: u32, ack: u32) -> Packet {
    back().tcp(80, 4000).flags(flags).seq(seq, ack).window(1000)
}

/// Open: the client's next number is 101, the server's 501; both allow 1000 bytes.
fn open(bench: &mut Bench, label: &str, window: &str) {
    bench.case(label, &policy(window));
    bench.xdp(&there(tcp::SYN, 100, 0)).passes("rule");
    bench.out(&here(tcp::SYN | tcp::ACK, 500, 101)).passes("established");
    bench.xdp(&there(tcp::ACK, 101, 501)).passes("established");
    assert_eq!(bench.events("established"), 1, "{label}");
}

/// Segments of the client that don't fit.
fn strays() -> [(&'static str, Packet); 7] {
    [
        ("beyond the window", there(tcp::ACK, 1102, 501).fill(10)),
        ("long gone", there(tcp::ACK, 101u32.wrapping_sub(1010), 501).fill(8)),
        ("an ACK of what was never sent", there(tcp::ACK, 101, 502)),
        ("an ancient ACK", there(tcp::ACK, 101, 501u32.wrapping_sub(66_001))),
        ("a RST beyond the window", there(tcp::RST, 1103, 0)),
        ("a RST of what was acknowledged", there(tcp::RST, 100, 0)),
        ("a FIN without ACK", there(tcp::FIN, 101, 0)),
    ]
}

#[test]
fn out_of_window_is_a_reason_of_its_own() {
    let Some(mut bench) = Bench::or_skip("vectors::windows::out_of_window_is_a_reason_of_its_own")
    else {
        return;
    };
    for (label, stray) in strays() {
        open(&mut bench, label, "strict");
        let (rule, flow) = (bench.rule("a"), bench.only_flow());
        bench.xdp(&stray).drops("out-of-window");
        assert_eq!((bench.rule("a"), bench.only_flow()), (rule, flow), "{label}: nothing counts");
        bench.xdp(&there(tcp::ACK, 101, 501).fill(5)).passes("established");
        bench.out(&here(tcp::ACK, 501, 106)).passes("established");
        open(&mut bench, label, "liberal");
        bench.xdp(&stray).passes("out-of-window");
        assert_eq!(bench.events("closed"), 0, "{label}: the flow goes on");
        bench.xdp(&there(tcp::ACK, 101, 501).fill(5)).passes("established");
        open(&mut bench, label, "off");
        bench.xdp(&stray).passes("established");
    }
}

#[test]
fn windows_are_scaled_when_both_ends_say_so() {
    let test = "vectors::windows::windows_are_scaled_when_both_ends_say_so";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let scale: &[u8] = &[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7];
    for (label, ours, theirs, edge) in [
        ("both", scale, scale, 1000 << 7),
        ("the client alone", scale, &[][..], 1000),
        ("the server alone", &[][..], scale, 1000),
    ] {
        for over in [0, 1] {
            bench.case(label, &policy("strict"));
            bench.xdp(&there(tcp::SYN, 100, 0).tcp_options(ours)).passes("rule");
            let syn_ack = here(tcp::SYN | tcp::ACK, 500, 101).tcp_options(theirs);
            bench.out(&syn_ack).passes("established");
            bench.xdp(&there(tcp::ACK, 101, 501)).passes("established");
            bench.out(&here(tcp::ACK, 501, 101)).passes("established");
            let met = bench.xdp(&there(tcp::ACK, 101 + edge + over, 501).fill(1));
            if over == 0 {
                met.passes("established")
            } else {
                met.drops("out-of-window")
            };
        }
    }
}

#[test]
fn resets_are_believed_at_their_numbers_alone() {
    let test = "vectors::windows::resets_are_believed_at_their_numbers_alone";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    for (label, seq, closed) in [("the next number", 501, 1), ("in the window", 900, 0)] {
        open(&mut bench, label, "strict");
        bench.out(&here(tcp::RST, seq, 0)).passes("established");
        assert_eq!(bench.events("closed"), closed, "{label}");
    }
    for (label, flags, ack, passes) in [
        ("a refusal", tcp::RST | tcp::ACK, 101, true),
        ("of another SYN", tcp::RST | tcp::ACK, 100, false),
        ("without ACK", tcp::RST, 0, false),
    ] {
        bench.case(label, &policy("strict"));
        bench.xdp(&there(tcp::SYN, 100, 0)).passes("rule");
        let met = bench.out(&here(flags, 0, ack));
        if passes {
            met.passes("established")
        } else {
            met.drops("out-of-window")
        };
        assert_eq!(bench.events("closed"), u64::from(passes), "{label}");
    }
}

#[test]
fn a_connection_that_one_end_forgot_is_found_out() {
    let test = "vectors::windows::a_connection_that_one_end_forgot_is_found_out";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    bench.case("RFC 9293 figure 9", &policy("strict"));
    bench.xdp(&there(tcp::SYN, 100, 0)).passes("rule");
    bench.out(&here(tcp::ACK, 70_000, 9_000_000)).passes("established");
    bench.xdp(&there(tcp::RST, 9_000_001, 0)).drops("out-of-window");
    bench.xdp(&there(tcp::RST, 9_000_000, 0)).passes("established");
    bench.xdp(&there(tcp::SYN, 100, 0)).passes("established");
    bench.out(&here(tcp::SYN | tcp::ACK, 500, 101)).passes("established");
    bench.xdp(&there(tcp::ACK, 101, 501)).passes("established");
    assert_eq!((bench.events("established"), bench.events("closed")), (1, 0));
}

#[test]
fn a_connection_that_both_ends_forgot_may_be_opened_again() {
    let test = "vectors::windows::a_connection_that_both_ends_forgot_may_be_opened_again";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    let scale: &[u8] = &[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7];
    for (label, options, edge) in [("unscaled", &[][..], 1000), ("scaled", scale, 1000 << 7)] {
        open(&mut bench, label, "strict");
        bench.xdp(&there(tcp::FIN | tcp::ACK, 101, 501)).passes("established");
        // Both are started anew; their end was never seen.
        let syn = there(tcp::SYN, 3_000_000_000, 0).tcp_options(options);
        let answer = |ack| here(tcp::SYN | tcp::ACK, 77, ack).tcp_options(options);
        bench.out(&answer(3_000_000_001)).drops("out-of-window");
        bench.xdp(&syn).passes("established");
        bench.out(&here(tcp::ACK, 501, 102)).passes("established");
        bench.out(&answer(3_000_000_002)).drops("out-of-window");
        bench.out(&answer(3_000_000_001)).passes("established");
        bench.xdp(&there(tcp::ACK, 3_000_000_001, 78)).passes("established");
        bench.out(&here(tcp::ACK, 78, 3_000_000_001)).passes("established");
        // The old numbers are nobody's any more, the SYN is answered, and the new numbers bind.
        bench.out(&answer(3_000_000_001).seq(70_000_000, 3_000_000_001)).drops("out-of-window");
        bench.out(&here(tcp::ACK, 501, 102)).drops("out-of-window");
        bench.xdp(&there(tcp::ACK, 3_000_000_002 + edge, 78).fill(1)).drops("out-of-window");
        bench.xdp(&there(tcp::ACK, 3_000_000_001 + edge, 78).fill(1)).passes("established");
        // One FIN was the old connection's: both ends of the new one have to say theirs.
        let next = 3_000_000_002 + edge;
        bench.out(&here(tcp::FIN | tcp::ACK, 78, next)).passes("established");
        assert_eq!((bench.events("established"), bench.events("closed")), (1, 0), "{label}");
        bench.xdp(&there(tcp::FIN | tcp::ACK, next, 79)).passes("established");
        assert_eq!(bench.events("closed"), 1, "{label}");
    }
    // The responder, whom the rules let nobody be reached by, opens nothing.
    open(&mut bench, "the other way round", "strict");
    bench.out(&here(tcp::SYN, 9_000_000, 0)).passes("established");
    bench.xdp(&there(tcp::SYN | tcp::ACK, 3_000_000_000, 9_000_001)).drops("out-of-window");
}

#[test]
fn both_may_open_at_once() {
    let Some(mut bench) = Bench::or_skip("vectors::windows::both_may_open_at_once") else { return };
    bench.case("RFC 9293 figure 8", &policy("strict"));
    bench.xdp(&there(tcp::SYN, 100, 0)).passes("rule");
    bench.out(&here(tcp::SYN, 500, 0)).passes("established");
    bench.xdp(&there(tcp::SYN | tcp::ACK, 100, 501)).passes("established");
    bench.xdp(&there(tcp::SYN | tcp::ACK, 100, 501)).passes("established");
    assert_eq!(bench.events("established"), 0, "one end alone opens nothing");
    bench.out(&here(tcp::SYN | tcp::ACK, 500, 101)).passes("established");
    assert_eq!(bench.events("established"), 1);
    bench.xdp(&there(tcp::ACK, 101, 501).fill(20)).passes("established");
}

#[test]
fn what_is_not_followed_is_not_held_to_its_numbers() {
    let test = "vectors::windows::what_is_not_followed_is_not_held_to_its_numbers";
    let Some(mut bench) = Bench::or_skip(test) else { return };
    // Nobody looked for a while: the numbers went on.
    open(&mut bench, "windows that were off", "off");
    bench.xdp(&there(tcp::ACK, 500_101, 501).fill(5)).passes("established");
    bench.swap(&policy("strict"));
    bench.out(&here(tcp::ACK, 501, 500_106)).passes("established");
    // A fragment's length isn't the segment's.
    open(&mut bench, "a segment in pieces", "strict");
    for part in there(tcp::ACK, 101, 501).fill(600).fragments(304, 7) {
        bench.xdp(&part).passes("established");
    }
    bench.out(&here(tcp::ACK, 501, 701)).passes("established");
    let loose = policy("strict").replace("pickup off", "pickup on");
    bench.case("taken up in mid-stream", &loose);
    bench.xdp(&there(tcp::ACK, 101, 501).fill(5)).passes("rule");
    bench.out(&here(tcp::ACK, 501, 106).fill(500)).passes("established");
    bench.out(&here(tcp::ACK, 90_000, 106)).passes("established");
}
