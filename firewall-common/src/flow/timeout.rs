//! Which time-out applies.

use super::tcp::TcpState;
use crate::abi::flow::{Flow, bits};
use crate::abi::table::Timeout;
use crate::wire::{icmp, transport};

/// The time-out that counts for a flow of `proto` in this state.
#[inline(always)]
pub const fn of(proto: u8, tcp_state: u8, flow_bits: u64) -> Timeout {
    match proto {
        transport::TCP => match TcpState::from_raw(tcp_state) {
            TcpState::None
            | TcpState::SynSent
            | TcpState::SynReceived
            | TcpState::SynBoth
            | TcpState::SynBothAcked => Timeout::TcpHandshake,
            TcpState::Established => Timeout::TcpEstablished,
            TcpState::FinOrig | TcpState::FinReply => Timeout::TcpHalfClosed,
            TcpState::Closed | TcpState::Reset => Timeout::TcpClosed,
        },
        transport::UDP | transport::UDPLITE => {
            if flow_bits & bits::STREAM != 0 {
                Timeout::UdpStream
            } else if flow_bits & bits::SEEN_REPLY != 0 {
                Timeout::UdpEstablished
            } else {
                Timeout::UdpNew
            }
        }
        icmp::PROTO_ICMP | icmp::PROTO_ICMPV6 => Timeout::Icmp,
        transport::SCTP => Timeout::Sctp,
        transport::GRE => Timeout::Gre,
        _ => Timeout::Other,
    }
}

/// Whether the flow has been idle for longer than `timeouts` (ticks) allow at tick `now`.
#[inline(always)]
pub fn expired(
    flow: &Flow,
    proto: u8,
    timeouts: &[u32; crate::abi::table::TIMEOUTS],
    now: u64,
) -> bool {
    let limit = timeouts[of(proto, flow.tcp_state, flow.bits) as usize] as u64;
    u64::from(flow.idle(now)) > limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::table::TIMEOUTS;

    #[test]
    fn udp_lives_longer_once_answered() {
        assert_eq!(of(17, 0, 0), Timeout::UdpNew);
        assert_eq!(of(17, 0, bits::SEEN_REPLY), Timeout::UdpEstablished);
        assert_eq!(of(17, 0, bits::SEEN_REPLY | bits::STREAM), Timeout::UdpStream);
    }

    #[test]
    fn idle_is_measured_from_the_last_packet_and_never_negative() {
        let flow = Flow { last: 1000, ..Flow::default() };
        let mut limits = [0; TIMEOUTS];
        limits[Timeout::UdpNew as usize] = 30;
        assert!(!expired(&flow, 17, &limits, 1030));
        assert!(expired(&flow, 17, &limits, 1031));
        assert!(!expired(&flow, 17, &limits, 999));
        // The 32 bits that are kept come round.
        let flow = Flow { last: u32::MAX - 5, ..Flow::default() };
        assert!(!expired(&flow, 17, &limits, (7 << 32) + 10));
        assert!(expired(&flow, 17, &limits, (7 << 32) + 40));
    }
}
