//! TCP's life as a middle box sees it (RFC 9293 section 3.3.2, seen from between the two ends).

use crate::wire::transport::{ACK, FIN, RST, SYN};

/// State of a TCP flow, raw in the flow record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TcpState {
    /// Not TCP, or nothing seen.
    None = 0,
    /// SYN from the originator.
    SynSent = 1,
    /// SYN-ACK from the responder.
    SynReceived = 2,
    /// Handshake done, or taken up in mid-stream.
    Established = 3,
    /// The originator said FIN.
    FinOrig = 4,
    /// The responder said FIN.
    FinReply = 5,
    /// Both said FIN.
    Closed = 6,
    /// RST seen.
    Reset = 7,
    /// SYN from both ends: simultaneous open (RFC 9293 section 3.5, figure 8).
    SynBoth = 8,
    /// Simultaneous open, and one end has acknowledged the other's SYN.
    SynBothAcked = 9,
}

impl TcpState {
    /// From the record; unknown numbers are `None`.
    #[inline(always)]
    pub const fn from_raw(raw: u8) -> Self {
        match raw {
            1 => Self::SynSent,
            2 => Self::SynReceived,
            3 => Self::Established,
            4 => Self::FinOrig,
            5 => Self::FinReply,
            6 => Self::Closed,
            7 => Self::Reset,
            8 => Self::SynBoth,
            9 => Self::SynBothAcked,
            _ => Self::None,
        }
    }
    /// The name people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SynSent => "syn-sent",
            Self::SynReceived => "syn-received",
            Self::Established => "established",
            Self::FinOrig => "fin-wait",
            Self::FinReply => "close-wait",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::SynBoth => "syn-both",
            Self::SynBothAcked => "syn-both-acked",
        }
    }
    /// Whether the handshake is still going on.
    #[inline(always)]
    pub const fn is_handshake(self) -> bool {
        matches!(
            self,
            Self::None | Self::SynSent | Self::SynReceived | Self::SynBoth | Self::SynBothAcked
        )
    }
    /// Whether a SYN may begin a new flow in this one's place.
    #[inline(always)]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Reset)
    }
}

/// Whether a segment may begin a flow; `pickup` lets one without SYN do so.
#[inline(always)]
pub const fn begins(flags: u8, pickup: bool) -> bool {
    if flags & RST != 0 {
        return false;
    }
    if flags & SYN != 0 {
        return flags & (ACK | FIN) == 0 || (pickup && flags & FIN == 0);
    }
    pickup && flags & ACK != 0
}

/// State of a flow that this segment begins.
#[inline(always)]
pub const fn first(flags: u8) -> TcpState {
    if flags & SYN != 0 && flags & ACK == 0 {
        TcpState::SynSent
    } else if flags & SYN != 0 {
        TcpState::SynReceived
    } else if flags & FIN != 0 {
        TcpState::FinOrig
    } else {
        TcpState::Established
    }
}

/// State after a segment with `flags`, `reply` if it comes from the responder.
#[inline(always)]
pub const fn next(state: TcpState, reply: bool, flags: u8) -> TcpState {
    use TcpState::*;
    if flags & RST != 0 {
        return Reset;
    }
    if flags & FIN != 0 {
        return match (state, reply) {
            (Reset, _) => Reset,
            (Closed, _) => Closed,
            (FinOrig, true) | (FinReply, false) => Closed,
            (FinOrig, false) => FinOrig,
            (FinReply, true) => FinReply,
            (_, false) => FinOrig,
            (_, true) => FinReply,
        };
    }
    let ack = flags & ACK != 0;
    if flags & SYN != 0 {
        return match (state, reply) {
            (None, _) => SynSent,
            (SynSent, true) if ack => SynReceived,
            (SynSent, true) => SynBoth,
            (SynBoth, _) if ack => SynBothAcked,
            (SynBothAcked, _) if ack => Established,
            _ => state,
        };
    }
    match (state, reply) {
        // The third segment of the handshake, or, where it got lost, any ACK of the originator.
        (SynReceived, false) if ack => Established,
        // Simultaneous open ends with an ACK of either.
        (SynBoth | SynBothAcked, _) if ack => Established,
        (None, _) => Established,
        _ => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TcpState::*;

    fn walk(steps: &[(bool, u8)]) -> TcpState {
        let (_, flags) = steps[0];
        steps[1..].iter().fold(first(flags), |s, (reply, flags)| next(s, *reply, *flags))
    }

    #[test]
    fn open_talk_close() {
        let open = [(false, SYN), (true, SYN | ACK), (false, ACK)];
        assert_eq!(walk(&open[..1]), SynSent);
        assert_eq!(walk(&open[..2]), SynReceived);
        assert_eq!(walk(&open), Established);
        let mut all = open.to_vec();
        all.push((true, FIN | ACK));
        assert_eq!(walk(&all), FinReply);
        all.push((false, ACK));
        assert_eq!(walk(&all), FinReply);
        all.push((false, FIN | ACK));
        assert_eq!(walk(&all), Closed);
    }

    #[test]
    fn both_may_open_at_once() {
        assert_eq!(walk(&[(false, SYN), (true, SYN)]), SynBoth);
        let crossed = [(false, SYN), (true, SYN), (false, SYN | ACK), (true, SYN | ACK)];
        assert_eq!(walk(&crossed), Established);
        assert_eq!(walk(&[(false, SYN), (true, SYN), (true, ACK)]), Established);
    }

    #[test]
    fn rst_ends_it_from_any_state() {
        for s in
            [SynSent, SynReceived, Established, FinOrig, FinReply, Closed, SynBoth, SynBothAcked]
        {
            assert_eq!(next(s, true, RST), Reset);
        }
    }

    #[test]
    fn repeated_fins_of_one_side_do_not_close() {
        assert_eq!(next(FinOrig, false, FIN | ACK), FinOrig);
        assert_eq!(next(FinReply, true, FIN | ACK), FinReply);
    }

    #[test]
    fn what_may_begin_a_flow() {
        assert!(begins(SYN, false));
        assert!(!begins(ACK, false));
        assert!(begins(ACK, true));
        assert!(!begins(SYN | ACK, false));
        assert!(!begins(RST, true));
        assert!(!begins(SYN | FIN, true));
        assert!(!begins(0, true));
    }
}
