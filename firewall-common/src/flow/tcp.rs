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
    /// SYN-ACK from the responder: the originator's ACK is missing.
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
    /// The originator has acknowledged the responder's SYN, and its own SYN is not acknowledged yet: in
    /// a simultaneous open, or where a SYN-ACK was the first that was seen.
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
        TcpState::SynBothAcked
    } else if flags & FIN != 0 {
        TcpState::FinOrig
    } else {
        TcpState::Established
    }
}

/// State after a segment with `flags`, `reply` if it comes from the responder. Segments that neither end
/// acts upon change nothing.
#[inline(always)]
pub const fn next(state: TcpState, reply: bool, flags: u8) -> TcpState {
    use TcpState::*;
    let ack = flags & ACK != 0;
    let syn = flags & SYN != 0;
    let fin = flags & FIN != 0;
    if flags & RST != 0 {
        // Who has sent no more than a SYN believes a RST only if it acknowledges that (RFC 9293 section
        // 3.10.7.3).
        return if matches!(state, SynSent) && reply && !ack { state } else { Reset };
    }
    // No stack sends SYN with FIN; without ACK there is nothing but a first SYN (section 3.10.7.4,
    // "fifth, check the ACK field").
    if (syn && fin) || !(syn || ack) {
        return state;
    }
    if fin {
        return match (state, reply) {
            // Nothing that could be closed was ever acknowledged.
            (SynSent, _) => state,
            (Closed | Reset, _) => state,
            (FinOrig, true) | (FinReply, false) => Closed,
            (_, false) => FinOrig,
            (_, true) => FinReply,
        };
    }
    if syn && !ack {
        return match (state, reply) {
            (None, false) => SynSent,
            (None | SynSent, true) => SynBoth,
            _ => state,
        };
    }
    // An ACK, with SYN or without. What it acknowledges was checked by the windows.
    match (state, reply) {
        (None, _) if !syn => Established,
        (None | SynBoth, false) => SynBothAcked,
        (None | SynBoth, true) => SynReceived,
        // Without SYN it comes from an old connection that only the responder remembers (section
        // 3.5.1).
        (SynSent, true) if syn => SynReceived,
        (SynReceived, false) | (SynBothAcked, true) => Established,
        _ => state,
    }
}

#[cfg(test)]
mod tests;
