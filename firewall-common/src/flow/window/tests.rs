//! Conversations with numbers that fit, and single segments that don't.

use super::*;
use crate::abi::flow::Flow;
use crate::wire::transport::{FIN, PSH};
use TcpState::{Closed, Established, Reset, SynBoth, SynSent};

/// A connection between 0 (originator) and 1, as the gate knows it.
struct Wire {
    flow: Flow,
    state: TcpState,
}

const SCALE: u8 = 7;

fn options(scale: Option<u8>) -> Options {
    Options {
        has_scale: scale.is_some(),
        scale: scale.unwrap_or(0),
        sack: true,
        ..Options::default()
    }
}

fn seg(flags: u8, seq: u32, ack: u32, len: u32, window: u16) -> Segment {
    let len = len + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    Segment { seq, ack, len, window, flags }
}

impl Wire {
    /// SYN with sequence number `isn`.
    fn syn(isn: u32, scale: Option<u8>) -> Self {
        let mut flow = Flow::default();
        begin(&mut flow.windows, &seg(SYN, isn, 0, 0, 65_000));
        (flow.scales, flow.bits) = note_options(0, 0, &options(scale));
        Self { flow, state: SynSent }
    }
    fn syn_ack(&mut self, s: Segment, scale: Option<u8>) -> bool {
        let (scales, set) = note_options(self.flow.scales, 1, &options(scale));
        self.flow.scales = scales;
        self.flow.bits |= set;
        self.send(1, s)
    }
    fn fits(&mut self, from: usize, s: &Segment, enforce: bool) -> bool {
        let (bits, scales) = (self.flow.bits, self.flow.scales);
        let known = Known { bits, scales, state: self.state, enforce };
        fits(&mut self.flow.windows, from, s, known)
    }
    fn clone_fits(&self, from: usize, s: Segment) -> bool {
        Self { flow: self.flow, state: self.state }.fits(from, &s, true)
    }
    fn send(&mut self, from: usize, s: Segment) -> bool {
        let fits = self.fits(from, &s, true);
        if fits {
            self.state = crate::flow::tcp::next(self.state, from == 1, s.flags);
        }
        fits
    }
    /// Open, scale 7 on both sides; numbers 1000 and 5000 are next.
    fn open() -> Self {
        let mut w = Self::syn(999, Some(SCALE));
        assert!(w.syn_ack(seg(SYN | ACK, 4999, 1000, 0, 65_000), Some(SCALE)));
        assert!(w.send(0, seg(ACK, 1000, 5000, 0, 500)));
        assert_eq!(w.state, Established);
        w
    }
}

#[test]
fn a_transfer_fits() {
    let mut w = Wire::open();
    let (mut at, mut got) = (1000u32, 5000u32);
    for _ in 0..5000 {
        assert!(w.send(0, seg(ACK | PSH, at, got, 1448, 500)));
        at = at.wrapping_add(1448);
        assert!(w.send(1, seg(ACK, got, at, 100, 500)));
        got = got.wrapping_add(100);
    }
    assert!(w.send(0, seg(FIN | ACK, at, got, 0, 500)));
    assert!(w.send(1, seg(FIN | ACK, got, at + 1, 0, 500)));
    assert!(w.send(0, seg(ACK, at + 1, got + 1, 0, 500)));
    assert_eq!(w.state, Closed);
}

#[test]
fn numbers_come_round() {
    let mut w = Wire::syn(u32::MAX - 2, None);
    assert!(w.syn_ack(seg(SYN | ACK, u32::MAX, u32::MAX - 1, 0, 60_000), None));
    assert!(w.send(0, seg(ACK, u32::MAX - 1, 0, 0, 60_000)));
    let mut at = u32::MAX - 1;
    for _ in 0..200 {
        assert!(w.send(0, seg(ACK, at, 0, 1000, 60_000)));
        at = at.wrapping_add(1000);
        assert!(w.send(1, seg(ACK, 0, at, 0, 60_000)));
    }
}

#[test]
fn what_does_not_fit() {
    let reach = 500 << SCALE;
    for (what, from, s) in [
        ("above the window", 0, seg(ACK, 1000 + 65_000 + 1, 5000, 10, 500)),
        ("far below the window", 0, seg(ACK, 1000u32.wrapping_sub(66_000 * 3), 5000, 10, 500)),
        ("acknowledges what was never sent", 0, seg(ACK, 1000, 5001, 10, 500)),
        ("an ancient ACK", 0, seg(ACK, 1000, 5000u32.wrapping_sub(70_000), 10, 500)),
        ("the responder above the window", 1, seg(ACK, 5000 + reach + 1, 1000, 10, 500)),
        ("a RST above the window", 1, seg(RST, 5000 + reach + 2, 0, 0, 0)),
        ("a RST below what was acknowledged", 1, seg(RST, 4999, 0, 0, 0)),
        ("a RST with a wrong ACK", 1, seg(RST | ACK, 5000, 1001, 0, 0)),
        ("data without ACK", 0, seg(PSH, 1000, 0, 10, 500)),
        ("a FIN without ACK", 1, seg(FIN, 5000, 0, 0, 500)),
        ("a FIN from nowhere", 1, seg(FIN | ACK, 9_000_000, 1000, 0, 500)),
    ] {
        let mut w = Wire::open();
        let before = bytemuck::bytes_of(&w.flow).to_vec();
        assert!(!w.send(from, s), "{what}");
        assert_eq!(bytemuck::bytes_of(&w.flow), before, "{what}: nothing is stepped on");
        assert_eq!(w.state, Established, "{what}");
        assert!(w.fits(from, &s, false), "{what}: not where nobody enforces");
    }
}

#[test]
fn what_just_fits() {
    let reach = 500 << SCALE;
    for (what, from, s) in [
        ("the last byte of the window", 1, seg(ACK, 5000 + reach, 1000, 0, 500)),
        ("a keep-alive", 0, seg(ACK, 999, 5000, 0, 500)),
        ("a retransmission", 0, seg(ACK, 1000, 5000, 100, 500)),
        ("a RST at the very number", 1, seg(RST, 5000, 0, 0, 0)),
        ("a SYN on an open connection asks for an ACK", 0, seg(SYN, 77, 0, 0, 500)),
    ] {
        assert!(Wire::open().send(from, s), "{what}");
    }
}

#[test]
fn without_both_scales_there_is_none() {
    let mut w = Wire::syn(999, Some(SCALE));
    assert!(w.syn_ack(seg(SYN | ACK, 4999, 1000, 0, 1000), None));
    assert!(w.send(0, seg(ACK, 1000, 5000, 0, 1000)));
    assert!(w.send(0, seg(ACK, 1000 + 1000, 5000, 10, 1000)), "at the edge");
    assert!(!w.send(0, seg(ACK, 1000 + 1001, 5000, 10, 1000)), "scaled it would fit");
}

#[test]
fn a_zero_window_lets_a_probe_by() {
    let mut w = Wire::open();
    assert!(w.send(1, seg(ACK, 5000, 1000, 0, 0)));
    // What was allowed once stays allowed; a peer that never allowed more takes one byte.
    let mut w2 = Wire::syn(999, None);
    assert!(w2.syn_ack(seg(SYN | ACK, 4999, 1000, 0, 0), None));
    assert!(w2.send(0, seg(ACK, 1000, 5000, 0, 500)));
    assert!(w2.send(0, seg(ACK, 1000, 5000, 1, 500)), "a probe");
    assert!(!w2.send(0, seg(ACK, 1002, 5000, 1, 500)));
}

#[test]
fn refused_and_retried() {
    let mut w = Wire::syn(999, Some(SCALE));
    assert!(!w.send(1, seg(RST | ACK, 0, 998, 0, 0)), "acknowledges too little... of another SYN");
    let mut w = Wire::syn(999, Some(SCALE));
    assert!(w.send(1, seg(RST | ACK, 0, 1000, 0, 0)));
    assert_eq!(w.state, Reset);
    let mut w = Wire::syn(999, Some(SCALE));
    assert!(!w.send(1, seg(RST, 0, 0, 0, 0)), "the originator wouldn't believe it");
    assert!(!w.send(1, seg(RST | ACK, 0, 0, 0, 0)), "nor this");
    assert!(!w.send(0, seg(RST, 5_000_000, 0, 0, 0)), "nor can anyone reset what wasn't answered");
    let mut w = Wire::syn(999, Some(SCALE));
    assert!(w.send(0, seg(SYN, 2_000_000, 0, 0, 65_000)), "a new attempt with another number");
    assert!(w.syn_ack(seg(SYN | ACK, 4999, 2_000_001, 0, 65_000), Some(SCALE)));
}

#[test]
fn both_open_at_once() {
    let mut w = Wire::syn(999, Some(SCALE));
    let (scales, set) = note_options(w.flow.scales, 1, &options(Some(SCALE)));
    (w.flow.scales, w.flow.bits) = (scales, w.flow.bits | set);
    assert!(w.send(1, seg(SYN, 4999, 0, 0, 65_000)));
    assert_eq!(w.state, SynBoth);
    assert!(w.send(0, seg(SYN | ACK, 999, 5000, 0, 65_000)));
    assert!(w.send(1, seg(SYN | ACK, 4999, 1000, 0, 65_000)));
    assert_eq!(w.state, Established);
    assert!(w.send(0, seg(ACK, 1000, 5000, 1000, 500)));
    assert!(w.send(1, seg(ACK, 5000, 2000, 1000, 500)));
}

#[test]
fn picked_up_is_followed_and_not_enforced() {
    let mut flow = Flow { bits: bits::PICKED_UP, ..Flow::default() };
    begin(&mut flow.windows, &seg(ACK, 7000, 9000, 100, 300));
    let mut w = Wire { flow, state: Established };
    assert!(w.send(1, seg(ACK, 9000, 7100, 100_000, 300)));
    assert!(w.send(1, seg(ACK, 900_000, 7100, 10, 300)));
}

#[test]
fn a_connection_that_one_end_forgot_is_found_out() {
    // RFC 9293 section 3.5.1, figure 9: the originator begins anew, the responder still has the old one.
    let mut w = Wire::syn(999, Some(SCALE));
    assert!(w.send(1, seg(ACK, 777_000, 333_000_000, 0, 500)), "the old connection's ACK");
    assert_eq!(w.state, SynSent);
    assert!(!w.send(0, seg(RST, 333_000_001, 0, 0, 0)));
    let rst = seg(RST, 333_000_000, 0, 0, 0);
    assert!(w.send(0, rst), "the RST that answers it");
    let known = Known { bits: w.flow.bits, scales: w.flow.scales, state: SynSent, enforce: true };
    assert!(!resets(&w.flow.windows, 0, &rst, known), "what it ends is another connection");
    // The SYN comes again, and this time it is answered.
    w.state = SynSent;
    assert!(w.send(0, seg(SYN, 999, 0, 0, 65_000)));
    assert!(w.syn_ack(seg(SYN | ACK, 4999, 1000, 0, 65_000), Some(SCALE)));
    assert!(w.send(0, seg(ACK, 1000, 5000, 0, 500)));
    assert_eq!(w.state, Established);
    assert!(w.send(0, seg(RST, 1000, 0, 0, 0)), "the old ACK doesn't count any more");
}

#[test]
fn a_reset_at_another_number_steps_nothing() {
    let w = Wire::open();
    let known =
        Known { bits: w.flow.bits, scales: w.flow.scales, state: Established, enforce: true };
    for (seq, ends_it) in [(5000, true), (5001, false), (60_000, false)] {
        let rst = seg(RST, seq, 0, 0, 0);
        let mut w = Wire::open();
        assert!(w.fits(1, &rst, true), "{seq}: in the window");
        assert_eq!(resets(&w.flow.windows, 1, &rst, known), ends_it, "{seq}");
    }
    // Data that the receiver hasn't acknowledged: the RST stands behind it.
    let mut w = Wire::open();
    assert!(w.send(1, seg(ACK, 5000, 1000, 700, 500)));
    assert!(resets(&w.flow.windows, 1, &seg(RST, 5700, 0, 0, 0), known));
}

#[test]
fn a_syn_with_data_may_come_again_without() {
    let mut flow = Flow::default();
    begin(&mut flow.windows, &seg(SYN, 999, 0, 1400, 65_000));
    let mut w = Wire { flow, state: SynSent };
    assert!(w.send(0, seg(SYN, 999, 0, 0, 65_000)));
    assert!(w.syn_ack(seg(SYN | ACK, 4999, 1000, 0, 2000), None), "the data wasn't taken");
    assert!(w.send(0, seg(SYN, 999, 0, 1400, 65_000)));
    assert!(w.send(0, seg(ACK, 1000, 5000, 100, 500)));
    assert_eq!(w.state, Established);
}

#[test]
fn a_fin_behind_a_full_window_is_followed_by_acks() {
    let mut w = Wire::syn(999, None);
    assert!(w.syn_ack(seg(SYN | ACK, 4999, 1000, 0, 100), None));
    assert!(w.send(0, seg(ACK, 1000, 5000, 100, 500)));
    assert!(w.clone_fits(0, seg(ACK, 1101, 5000, 0, 500)), "the FIN got lost before");
    assert!(!w.clone_fits(0, seg(ACK, 1102, 5000, 0, 500)));
    assert!(w.send(0, seg(FIN | ACK, 1100, 5000, 0, 500)));
    assert!(w.send(0, seg(ACK, 1101, 5000, 0, 500)));
    assert!(!w.send(0, seg(ACK, 1101, 5000, 1, 500)), "data is data");
}
