//! Whether a TCP segment fits what both ends have sent and allowed.
//!
//! The checks are those of G. van Rooij, "Real stateful TCP packet filtering in IP Filter" (2001), as
//! netfilter does them (`tcp_in_window` in net/netfilter/nf_conntrack_proto_tcp.c). With S the sender, R
//! the receiver:
//!
//! 1. `seq <= S.max_end`: not above what R allowed (without data, one more);
//! 2. `seq + len >= S.end - R.max_window - 1`: not below what R may still ask for again;
//! 3. `ack <= R.end`: nothing is acknowledged that was never sent;
//! 4. `ack >= R.end - max(S.max_window, 66,000)`: no ancient ACK;
//!
//! and a segment with neither SYN, ACK nor RST never does; for RST also `seq >= R.max_ack` (RFC 5961 section 3.2: what R has acknowledged can't reset it).
//!
//! SACK blocks are not needed for 4: what R has in flight is never more than S's window, so that a
//! plain ACK is never further behind than that.

use crate::{
    abi::flow::{Windows, bits},
    wire::{
        options::Options,
        transport::{ACK, RST, SYN},
    },
};

use super::tcp::TcpState;

/// The least that check 4 allows an ACK to be behind (netfilter's MAXACKWINCONST).
pub const ACK_SLACK: u32 = 66_000;

/// How far below its SYN's end an end may be that was not answered yet: a SYN with data (RFC 7413) may be
/// repeated without. netfilter asks for nothing there.
const SYN_SLACK: u32 = 65_536;

/// A segment's numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Sequence numbers it takes up ([`crate::wire::Facts::segment_len`]).
    pub len: u32,
    /// Window, as written.
    pub window: u16,
    /// Flags.
    pub flags: u8,
}

/// `a` is after `b`, modulo 2^32 (RFC 9293 section 3.4).
#[inline(always)]
const fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// Scale that counts for an end: none, unless both SYNs offered one (RFC 7323 section 2.2).
#[inline(always)]
const fn scale(flow_bits: u64, scales: u8, end: usize) -> u32 {
    if flow_bits & bits::SCALE_ORIG == 0 || flow_bits & bits::SCALE_REPLY == 0 {
        return 0;
    }
    (if end == 0 { scales & 0x0f } else { scales >> 4 }) as u32
}

/// A window in units of `1 << shift`, rounded up, at least 1: zero is "nothing seen yet".
#[inline(always)]
const fn units(window: u32, shift: u32) -> u16 {
    let n = (window + (1 << shift) - 1) >> shift;
    if n == 0 { 1 } else { n as u16 }
}

/// What the segment that begins a flow says.
#[inline(always)]
pub fn begin(windows: &mut Windows, s: &Segment) {
    let end = s.seq.wrapping_add(s.len);
    windows.ends[0].end = end;
    windows.ends[0].max_end = end;
    windows.largest[0] = units(s.window as u32, 0);
    if s.flags & SYN == 0 || s.flags & ACK != 0 {
        // In mid-stream: the scale is unknown, so that nothing is enforced (see `bits::PICKED_UP`).
        windows.ends[0].max_end = end.wrapping_add(s.window as u32);
        windows.ends[0].max_ack = s.ack;
        windows.ends[1].end = s.ack;
        windows.ends[1].max_end = s.ack.wrapping_add(s.window as u32);
    }
}

/// Both ends after a handshake that a cookie made: `s` is the originator's first segment after its SYN, and
/// `room` the window that the SYN-ACK offered it, in bytes.
#[inline(always)]
pub fn begin_answered(windows: &mut Windows, s: &Segment, room: u32, flow_bits: u64, scales: u8) {
    let (shift, back) = (scale(flow_bits, scales, 0), scale(flow_bits, scales, 1));
    let window = (s.window as u32) << shift;
    windows.ends[0].end = s.seq.wrapping_add(s.len);
    windows.ends[0].max_end = s.seq.wrapping_add(room);
    windows.ends[0].max_ack = s.ack;
    windows.ends[1].end = s.ack;
    windows.ends[1].max_end = s.ack.wrapping_add(window);
    windows.ends[1].max_ack = s.seq;
    windows.largest = [units(window, shift), units(room, back)];
}

/// Scales and new bits after a SYN of end `end` (0: originator, 1: responder).
#[inline(always)]
pub const fn note_options(scales: u8, end: usize, options: &Options) -> (u8, u64) {
    let mut set = 0;
    let mut scales = scales;
    if options.has_scale {
        if end == 0 {
            scales = scales & 0xf0 | options.scale;
            set |= bits::SCALE_ORIG;
        } else {
            scales = scales & 0x0f | options.scale << 4;
            set |= bits::SCALE_REPLY;
        }
    }
    if options.sack {
        set |= if end == 0 { bits::SACK_ORIG } else { bits::SACK_REPLY };
    }
    (scales, set)
}

/// What a flow knows beside its windows.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its bits, those of this segment's options set already.
    pub bits: u64,
    /// Its scales; as `bits`.
    pub scales: u8,
    /// Its state before the segment.
    pub state: TcpState,
    /// Whether a segment that doesn't fit is to be told.
    pub enforce: bool,
}

/// Whether the segment of end `from` (0: originator, 1: responder) fits; if so, the windows are stepped
/// on.
///
/// Two kinds of segments fit always and step nothing on, because a connection of which one end knows
/// nothing any more is found out by them (RFC 9293 section 3.5.1): a SYN that is not its end's first, and
/// an ACK in answer to a first SYN. The receiver of the one sends an ACK, that of the other a RST, and
/// these are checked in their turn.
#[inline(always)]
pub fn fits(windows: &mut Windows, from: usize, s: &Segment, known: Known) -> bool {
    let (s_end, r_end) = (from & 1, (from & 1) ^ 1);
    let state = known.state;
    let enforce = known.enforce && known.bits & bits::PICKED_UP == 0;
    let syn = s.flags & SYN != 0;
    let has_ack = s.flags & ACK != 0;
    let rst = s.flags & RST != 0;
    if !(syn || has_ack || rst) {
        // No stack sends it, and none takes it (RFC 9293 section 3.10.7.4, "fifth").
        return !enforce;
    }
    let unanswered = matches!(state, TcpState::SynSent);
    let shift_s = scale(known.bits, known.scales, s_end);
    let shift_r = scale(known.bits, known.scales, r_end);
    let mut sender = windows.ends[s_end];
    let mut receiver = windows.ends[r_end];
    let (old_sender, old_receiver) = (sender, receiver);
    let (old_window_s, old_window_r) = (windows.largest[s_end], windows.largest[r_end]);
    let (mut window_s, mut window_r) = (old_window_s, old_window_r);
    let seq = s.seq;
    let end = seq.wrapping_add(s.len);
    let retried = syn
        && after(end, sender.end)
        && ((unanswered && s_end == 0)
            || (matches!(state, TcpState::SynReceived) && s_end == 1 && has_ack));
    if syn && !has_ack && !rst && window_s != 0 && !retried {
        return true;
    }
    if unanswered && s_end == 1 && has_ack && !syn && !rst {
        // Remembered, so that the RST that answers it is known.
        windows.ends[1].max_ack = s.ack;
        return true;
    }
    if unanswered && s_end == 0 && rst && receiver.max_ack != 0 && seq == receiver.max_ack {
        return true;
    }
    if syn && s_end == 1 && unanswered {
        // From here on the scales are known; the originator's SYN came without.
        window_r = units(window_r as u32, shift_r);
    }
    // The window of a SYN is never scaled (RFC 7323 section 2.2).
    let window = (s.window as u32) << if syn { 0 } else { shift_s };

    if window_s == 0 || retried {
        // The first segment of this end, or a SYN that begins anew with another number.
        window_s = units(window, shift_s);
        sender.end = end;
        sender.max_end = end;
        sender.max_ack = 0;
        if !syn {
            // An end whose SYN wasn't seen: a RST in answer to a SYN, or a stray.
            sender.max_end = end.wrapping_add(window);
            if window_r == 0 {
                receiver.end = s.ack;
                receiver.max_end = s.ack;
            }
        } else if !has_ack {
            // Nothing to compare with yet.
            windows.ends[s_end] = sender;
            windows.largest = if s_end == 0 { [window_s, window_r] } else { [window_r, window_s] };
            return true;
        }
    }
    // Without ACK (a RST may have none, or an ACK of zero) there is nothing to check.
    let ack = if !has_ack || (rst && s.ack == 0) { receiver.end } else { s.ack };
    let reach_s = (window_s as u32) << shift_s;
    let reach_r = if window_r == 0 { SYN_SLACK } else { (window_r as u32) << shift_r };
    let floor = if reach_s > ACK_SLACK { reach_s } else { ACK_SLACK };
    let good = if rst && s_end == 1 && unanswered {
        // A RST in answer to a SYN: its sequence number is zero, its ACK says what it means (RFC 9293
        // section 3.10.7.3).
        has_ack && s.ack == receiver.end
    } else {
        // A FIN or a probe of a closed window may take one number more than was allowed. An ACK stands
        // behind it, also where the FIN itself was lost on its way here; and what is sent again may be
        // that much further below.
        let above =
            s.len == 0 && (!after(seq, sender.end) || !after(seq, sender.max_end.wrapping_add(1)));
        (above || !after(seq, sender.max_end))
            && after(end, sender.end.wrapping_sub(reach_r).wrapping_sub(2))
            && !after(ack, receiver.end)
            && after(ack, receiver.end.wrapping_sub(floor).wrapping_sub(1))
            && !(rst && receiver.max_ack != 0 && after(receiver.max_ack, seq))
    };
    if enforce && !good {
        return false;
    }
    if rst {
        return true;
    }
    let offers = units(window, shift_s);
    if window_s < offers {
        window_s = offers;
    }
    if after(end, sender.end) {
        sender.end = end;
    }
    if has_ack {
        if sender.max_ack == 0 || after(ack, sender.max_ack) {
            sender.max_ack = ack;
        }
        // A closed window may be probed with a byte (netfilter does so, too).
        let allowed = ack.wrapping_add(if window == 0 { 1 } else { window });
        if after(allowed, receiver.max_end) {
            receiver.max_end = allowed;
        }
    }
    // Field by field, and only what changed: a packet of the other direction may be at work on another
    // CPU, and each field has one direction that writes it. A whole window written back would undo what
    // that one wrote meanwhile: an end that went on, and the ACK of it would be "of what was never sent".
    if sender.end != old_sender.end {
        windows.ends[s_end].end = sender.end;
    }
    if sender.max_ack != old_sender.max_ack {
        windows.ends[s_end].max_ack = sender.max_ack;
    }
    if sender.max_end != old_sender.max_end {
        windows.ends[s_end].max_end = sender.max_end;
    }
    if receiver.max_end != old_receiver.max_end {
        windows.ends[r_end].max_end = receiver.max_end;
    }
    if receiver.end != old_receiver.end {
        // Only where the other end had said nothing.
        windows.ends[r_end].end = receiver.end;
    }
    if window_s != old_window_s {
        windows.largest[s_end] = window_s;
    }
    if window_r != old_window_r {
        windows.largest[r_end] = window_r;
    }
    true
}

/// Whether a RST that fits ends the connection: it is at the number that its receiver expects, or at the
/// end of what its sender has sent. Any other is answered with an ACK by its receiver (RFC 5961 section
/// 3.2), and a sender that means it repeats it at the right number; until then it passes and steps
/// nothing, so that a RST by guess doesn't shorten a flow's life. The flags to step the state with are
/// those without RST, then.
///
/// Asked with the windows as they are before or after [`fits`]: a RST changes none.
#[inline(always)]
pub fn resets(windows: &Windows, from: usize, s: &Segment, known: Known) -> bool {
    let sender = &windows.ends[from & 1];
    let receiver = &windows.ends[(from & 1) ^ 1];
    if !known.enforce || known.bits & bits::PICKED_UP != 0 {
        return true;
    }
    if matches!(known.state, TcpState::SynSent) {
        return if from & 1 == 1 {
            s.flags & ACK != 0 && s.ack == receiver.end
        } else {
            s.seq == sender.end
        };
    }
    s.seq == receiver.max_ack || s.seq == sender.end
}

#[cfg(test)]
mod tests;
