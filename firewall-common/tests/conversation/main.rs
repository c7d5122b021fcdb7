//! Whole conversations of two simulated ends through the gate's checks: nothing that an honest end sends
//! and the other can use is refused, and of what is sent by guess no more gets by than the window's
//! share of all numbers.

mod chance;
mod endpoint;
mod network;

use endpoint::{ACK, Character, FIN, Packet, RST, ahead};
use firewall_common::flow::tcp::TcpState;
use network::{Network, Weather};
use proptest::prelude::*;

fn character(active: bool) -> impl Strategy<Value = Character> {
    let isn = prop_oneof![any::<u32>(), (0u32..200_000).prop_map(|n| n.wrapping_neg())];
    let scale = prop_oneof![2 => Just(None), 5 => (0u8..=14).prop_map(Some)];
    let buffer = prop_oneof![1u32..200, 1000u32..70_000, 70_000u32..3_000_000];
    let says = prop_oneof![0u32..3, 0u32..20_000, 0u32..2_000_000];
    (isn, scale, prop_oneof![1u32..100, 500u32..9000], buffer, says, any::<bool>()).prop_map(
        move |(isn, scale, mss, buffer, says, probes_with_data)| {
            // A window that can be said in its units.
            let buffer = buffer.max(2 << scale.unwrap_or(0));
            // Enough to fill windows, and not more than a test has time for.
            let says = says.min(mss * 100);
            Character { isn, scale, mss, buffer, says, active, probes_with_data }
        },
    )
}

fn pair() -> impl Strategy<Value = (Character, Character)> {
    any::<bool>().prop_flat_map(|both| (character(true), character(both))).prop_map(
        |(mut a, mut b)| {
            a.says = a.says.min(b.buffer * 8);
            b.says = b.says.min(a.buffer * 8);
            (a, b)
        },
    )
}

fn weather() -> impl Strategy<Value = Weather> {
    let odds = || prop_oneof![Just(0u32), 4u32..40];
    (odds(), odds(), odds()).prop_map(|(loses, doubles, overtakes)| Weather {
        loses,
        doubles,
        overtakes,
    })
}

/// `n` cases; `PROPTEST_CASES` asks for others.
fn cases(n: u32) -> ProptestConfig {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() {
        ProptestConfig::default().cases
    } else {
        n
    };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(250))]

    /// Losses, repeats, overtaking, keep-alives, probes, closed windows, half-closed connections,
    /// simultaneous opens: everything is heard at the other end, and the flow is closed.
    #[test]
    fn no_honest_segment_is_lost((a, b) in pair(), weather in weather(), seed in any::<u64>()) {
        let mut net = Network::new(a, b, seed);
        for _ in 0..2000 {
            net.step(weather, 0).map_err(TestCaseError::fail)?;
        }
        net.finish().map_err(TestCaseError::fail)?;
        let [a, b] = &net.ends;
        prop_assert_eq!((a.got, b.got), (b.is.says, a.is.says));
        let gate = net.gate.expect("a flow");
        prop_assert_eq!(gate.state, TcpState::Closed);
        prop_assert!(net.overtaken * 100 <= net.passed, "{} of {}", net.overtaken, net.passed);
    }

    /// One end gives up at any moment: its RST arrives, and the gate knows.
    #[test]
    fn a_reset_reaches_the_other_end((a, b) in pair(), weather in weather(), seed in any::<u64>()) {
        // A RST that overtakes data before the gate, and is overtaken by it behind, means more to the
        // other end than to the gate.
        let weather = Weather { overtakes: 0, ..weather };
        let mut net = Network::new(a, b, seed);
        for _ in 0..6000 {
            net.step(weather, 20).map_err(TestCaseError::fail)?;
            if net.ends.iter().any(|end| end.was_reset) {
                prop_assert_eq!(net.gate.as_ref().expect("a flow").state, TcpState::Reset);
                break;
            }
        }
    }
}

/// Numbers in a sweep over all of them.
const SAMPLES: u64 = 1 << 16;

/// What part of all numbers gets a segment by, in numbers.
fn share(mut passes: impl FnMut(u32) -> bool) -> u64 {
    let stride = (1u64 << 32) / SAMPLES;
    (0..SAMPLES).filter(|i| passes((i * stride) as u32)).count() as u64 * stride
}

proptest! {
    #![proptest_config(cases(24))]

    /// Of segments with a wrong number no more get by than the windows are wide.
    #[test]
    fn a_guess_has_the_odds_of_the_window((a, b) in pair(), seed in any::<u64>()) {
        let mut net = Network::new(a, b, seed);
        let open = |net: &Network| {
            net.ends.iter().all(|end| end.open())
                && net.gate.as_ref().is_some_and(|gate| gate.state == TcpState::Established)
        };
        let calm = Weather { loses: 0, doubles: 0, overtakes: 0 };
        for _ in 0..500 {
            net.step(calm, 0).map_err(TestCaseError::fail)?;
        }
        prop_assume!(open(&net));
        let gate = net.gate.expect("a flow");
        let stride = (1u64 << 32) / SAMPLES;
        for from in 0..2 {
            let (s, r) = (from ^ gate.originator, from ^ gate.originator ^ 1);
            let ends = gate.windows.ends;
            let shift = |end: usize| {
                let scaled = net.ends.iter().all(|end| end.is.scale.is_some());
                let by = net.ends[end ^ gate.originator].is.scale.unwrap_or(0);
                if scaled { u32::from(by) } else { 0 }
            };
            let reach = |end: usize| u64::from(gate.windows.largest[end]) << shift(end);
            // The gate knows what was offered, and no more (but for the byte that probes).
            let peer = &net.ends[from ^ 1];
            prop_assert!(ahead(ends[s].max_end, peer.edge) <= 1);
            prop_assert!(reach(r) < u64::from(peer.widest) + (1 << shift(r)) + 1);
            let free = u64::from(ends[s].max_end.wrapping_sub(ends[s].end));
            let unheard = u64::from(ends[s].max_end.wrapping_sub(ends[r].max_ack));
            let packet = |flags, seq, ack| {
                Packet { flags, seq, ack, data: 0, window: 100, scale: None }
            };
            let passes = |p: Packet| gate.clone().passes(from, &p);
            let good = (ends[s].end, ends[r].end);
            prop_assert!(passes(packet(ACK, good.0, good.1)));
            // In the window: what may be sent, and what may be sent again.
            for flags in [ACK, FIN | ACK] {
                let by = share(|seq| passes(packet(flags, seq, good.1)));
                prop_assert!(by <= free + reach(r) + 2 * stride, "{} past {} and {}", by, free, reach(r));
            }
            // An ACK of what is on the way.
            let by = share(|ack| passes(packet(ACK, good.0, ack)));
            prop_assert!(by <= reach(s).max(66_000) + 2 * stride, "{} past {}", by, reach(s));
            // A RST gets by if the receiver may take it for one, and ends the flow at two numbers.
            let by = share(|seq| passes(packet(RST, seq, 0)));
            prop_assert!(by <= unheard + 2 * stride, "{} past {}", by, unheard);
            let ends_it = |seq: u32| {
                let mut gate = gate.clone();
                gate.passes(from, &packet(RST, seq, 0)) && gate.state == TcpState::Reset
            };
            let near = (0..200_000u32).filter(|i| ends_it(good.0.wrapping_sub(100_000).wrapping_add(*i)));
            prop_assert!((1..=2).contains(&near.count()));
        }
    }
}
