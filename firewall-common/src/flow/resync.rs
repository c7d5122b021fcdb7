//! A connection in the place of one whose end was never seen: a reboot, a lost FIN, a link that was down.
//!
//! The SYN of the new one belongs to the old flow and passes ([`window::fits`] says why), but it changes
//! nothing: anybody may send one. If the responder has forgotten the old connection as well, it answers with
//! a SYN-ACK whose numbers fit nothing. As that acknowledges the very SYN that went by, both ends are agreed,
//! and the flow follows them (netfilter does so, too: `nf_conntrack_tcp_packet` in
//! net/netfilter/nf_conntrack_proto_tcp.c, "conntrack out of sync"). A SYN from the responder's side asks for
//! a connection that no rule was asked about: it is not remembered.

use crate::{
    abi::flow::{Windows, bits},
    wire::{
        options::Options,
        transport::{ACK, FIN, RST, SYN},
    },
};

use super::window::{self, Segment};

/// A SYN on a flow that wasn't over.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Syn {
    /// Id of the flow; 0: there is no SYN.
    pub flow: u64,
    /// Sequence number after it: what a SYN-ACK acknowledges.
    pub end: u32,
    /// Window, never scaled in a SYN.
    pub window: u16,
    /// Window scale, where [`bits::SCALE_ORIG`] is among `options`.
    pub scales: u8,
    _pad: u8,
    /// What its options set in a flow's bits.
    pub options: u64,
}

/// Bits that the new connection doesn't inherit.
pub const FORGOTTEN: u64 = bits::SCALE_ORIG
    | bits::SCALE_REPLY
    | bits::SACK_ORIG
    | bits::SACK_REPLY
    | bits::FIN_ORIG
    | bits::FIN_REPLY;

const FLAGS: u8 = SYN | ACK | RST | FIN;

/// Whether a segment of the originator's, which was held to `windows` already, is a SYN that they had no use
/// for.
#[inline(always)]
pub const fn is_unused(windows: &Windows, s: &Segment) -> bool {
    s.flags & FLAGS == SYN && windows.ends[0].end != s.seq.wrapping_add(s.len)
}

impl Syn {
    /// What is kept of a SYN on the flow with id `flow`.
    #[inline(always)]
    pub const fn of(flow: u64, s: &Segment, options: &Options) -> Self {
        let (scales, set) = window::note_options(0, 0, options);
        let end = s.seq.wrapping_add(s.len);
        Self { flow, end, window: s.window, scales, _pad: 0, options: set }
    }

    /// Whether a segment of the responder's on the flow with id `flow` acknowledges it, and it alone.
    #[inline(always)]
    pub const fn is_answered(&self, flow: u64, s: &Segment) -> bool {
        s.flags & FLAGS == SYN | ACK && self.flow == flow && self.end == s.ack
    }

    /// Windows of a connection that it began. The state is `SynSent`, then, the scales are `scales`, and the
    /// bits those of `options` in place of [`FORGOTTEN`].
    #[inline(always)]
    pub fn begin(&self, windows: &mut Windows) {
        *windows = Windows::default();
        let syn = Segment { seq: self.end, ack: 0, len: 0, window: self.window, flags: SYN };
        window::begin(windows, &syn);
    }
}
