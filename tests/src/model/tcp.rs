//! A TCP connection as a naive gate sees it: who sent what, who acknowledged it, what was allowed.
//!
//! Windows after G. van Rooij, "Real stateful TCP packet filtering in IP Filter" (2001), and netfilter's
//! way with it; what is said here beyond them is in docs/policy.md under `tcp-window`.

use super::parse::Segment;
use crate::packet::tcp::{ACK, FIN, RST, SYN};

/// What one end did.
#[derive(Clone, Debug, Default)]
struct End {
    /// Said SYN.
    syn: bool,
    /// Its SYN was acknowledged.
    syn_acked: bool,
    /// Said FIN.
    fin: bool,
    /// Largest window it offered, bytes; none: nothing of its windows is known.
    offered: Option<u32>,
    /// Scale in its SYN.
    scale: Option<u8>,
    /// One above the highest number it sent.
    sent: u32,
    /// What it may send to.
    limit: u32,
    /// Highest ACK it sent; 0: none.
    acked: u32,
}

/// A connection; end 0 began it.
#[derive(Clone, Debug)]
pub struct Connection {
    ends: [End; 2],
    reset: bool,
    /// Numbers are not to be trusted: taken up in mid-stream, or seen unread.
    loose: bool,
    /// The originator's last SYN that this connection had no use for.
    asked: Option<Segment>,
}

/// How far `a` is beyond `b`.
fn beyond(a: u32, b: u32) -> i64 {
    i64::from(a.wrapping_sub(b).cast_signed())
}

fn whole(bytes: u32, unit: u32) -> u32 {
    bytes.div_ceil(unit).max(1) * unit
}

impl Connection {
    /// The connection that a segment begins; it is the first SYN, or something later.
    pub fn begin(s: &Segment) -> Self {
        let first = s.flags & (SYN | ACK) == SYN;
        let syn = s.flags & SYN != 0;
        let numbers = s.data + u32::from(syn) + u32::from(s.flags & FIN != 0);
        let mut a = End {
            syn: true,
            syn_acked: !syn,
            fin: s.flags & FIN != 0,
            offered: Some(whole(s.window.into(), 1)),
            scale: s.scale.filter(|_| first),
            sent: s.seq.wrapping_add(numbers),
            limit: s.seq.wrapping_add(numbers),
            ..End::default()
        };
        let mut b = End::default();
        if !first {
            // Who acknowledges has heard the other's SYN.
            (b.syn, b.syn_acked) = (true, true);
            a.limit = a.sent.wrapping_add(s.window.into());
            a.acked = s.ack;
            (b.sent, b.limit) = (s.ack, s.ack.wrapping_add(s.window.into()));
        }
        Self { ends: [a, b], reset: false, loose: !first, asked: None }
    }

    /// Nothing more is made of its numbers.
    pub fn loosen(&mut self) {
        self.loose = true;
    }

    /// Both ends have agreed to talk, and nobody has said good-bye.
    pub fn open(&self) -> bool {
        !self.reset && self.ends.iter().all(|end| end.syn && end.syn_acked && !end.fin)
    }

    /// One end has said good-bye.
    pub fn closing(&self) -> bool {
        !self.reset && self.ends.iter().any(|end| end.fin)
    }

    /// Nothing more is said.
    pub fn over(&self) -> bool {
        self.reset || self.ends.iter().all(|end| end.fin)
    }

    /// Only the originator has said something.
    fn unanswered(&self) -> bool {
        let [a, b] = &self.ends;
        !self.reset && !a.syn_acked && !a.fin && !b.syn && !b.fin
    }

    fn shaking_hands(&self) -> bool {
        !self.reset && !self.ends.iter().any(|e| e.fin) && !self.open()
    }

    /// The responder's SYN-ACK came, and no more.
    fn half_open(&self) -> bool {
        let [a, b] = &self.ends;
        self.shaking_hands() && a.syn_acked && b.syn && !b.syn_acked
    }

    /// Steps the connection's life by a segment that was taken.
    pub fn step(&mut self, reply: bool, flags: u8) {
        let has = |flag: u8| flags & flag != 0;
        if has(RST) {
            // Who waits for the answer to a SYN believes no RST without ACK (RFC 9293 3.10.7.3).
            self.reset |= has(ACK) || !reply || !self.unanswered();
            return;
        }
        if self.over() || (has(SYN) && has(FIN)) || !(has(SYN) || has(ACK)) {
            return;
        }
        let unanswered = self.unanswered();
        let (me, other) = (usize::from(reply), usize::from(!reply));
        if unanswered && !(reply && has(SYN)) {
            return;
        }
        self.ends[me].syn |= has(SYN);
        if has(FIN) {
            self.ends[me].fin = true;
        } else if has(ACK) && self.ends.iter().all(|end| !end.fin) {
            self.ends[other].syn_acked = true;
        }
    }

    /// Bytes that one unit of an end's window stands for.
    fn unit(&self, end: usize) -> u32 {
        match (self.ends[0].scale, self.ends[1].scale) {
            (Some(a), Some(b)) => 1 << if end == 0 { a } else { b },
            _ => 1,
        }
    }

    /// Whether a segment fits what was said before, and is remembered, then.
    pub fn fits(&mut self, reply: bool, s: &Segment) -> bool {
        let mut next = self.clone();
        if s.flags & SYN != 0 && self.shaking_hands() && s.scale.is_some() {
            next.ends[usize::from(reply)].scale = s.scale;
        }
        let fits = next.take(reply, s) || self.loose || next.begins_anew(reply, s);
        // A RST says nothing about windows.
        if fits && s.flags & RST == 0 {
            *self = next;
        }
        let end = s.seq.wrapping_add(s.data + 1);
        if !reply && s.flags & (SYN | ACK | RST | FIN) == SYN && self.ends[0].sent != end {
            self.asked = Some(*s);
        }
        fits
    }

    /// Where both ends have forgotten the connection: the responder acknowledges a SYN that was of no use, and
    /// the connection is the one that they both mean now.
    fn begins_anew(&mut self, reply: bool, s: &Segment) -> bool {
        let answers = |syn: &Segment| s.ack == syn.seq.wrapping_add(syn.data + 1);
        let syn_ack = s.flags & (SYN | ACK | RST | FIN) == SYN | ACK;
        match self.asked.take().filter(|syn| reply && syn_ack && answers(syn)) {
            Some(syn) => {
                *self = Self::begin(&syn);
                self.fits(reply, s)
            }
            None => false,
        }
    }

    fn take(&mut self, reply: bool, s: &Segment) -> bool {
        let (me, other) = (usize::from(reply), usize::from(!reply));
        let has = |flag: u8| s.flags & flag != 0;
        let (syn, ack, rst) = (has(SYN), has(ACK), has(RST));
        let numbers = s.data + u32::from(syn) + u32::from(has(FIN));
        let end = s.seq.wrapping_add(numbers);
        let unanswered = self.unanswered();
        // Without ACK there is nothing that anybody would take.
        if !(syn || ack || rst) {
            return false;
        }

        // A SYN with a higher number begins the handshake anew.
        let anew = syn
            && beyond(end, self.ends[me].sent) > 0
            && ((unanswered && !reply) || (self.half_open() && reply && ack));
        // Any other SYN asks for an ACK, and nothing more.
        if syn && !ack && !rst && self.ends[me].offered.is_some() && !anew {
            return true;
        }
        // So does the responder, who has another connection in mind; the originator resets that.
        if unanswered && reply && ack && !syn && !rst {
            self.ends[1].acked = s.ack;
            return true;
        }
        if unanswered && !reply && rst && self.ends[1].acked != 0 && s.seq == self.ends[1].acked {
            return true;
        }
        if unanswered && reply && rst {
            return ack && s.ack == self.ends[0].sent;
        }
        if unanswered && reply && syn {
            // The originator's window was written without scale, and is held in its units from now on.
            let unit = self.unit(0);
            self.ends[0].offered = self.ends[0].offered.map(|bytes| whole(bytes, unit));
        }
        let unit = self.unit(me);
        let window = u32::from(s.window) * if syn { 1 } else { unit };
        if self.ends[me].offered.is_none() || anew {
            let mine = &mut self.ends[me];
            mine.offered = Some(whole(window, unit));
            (mine.sent, mine.limit, mine.acked) = (end, end, 0);
            if !syn {
                mine.limit = end.wrapping_add(window);
            } else if !ack {
                return true;
            }
        }
        let (mine, theirs) = (&self.ends[me], &self.ends[other]);
        let number = if !ack || (rst && s.ack == 0) { theirs.sent } else { s.ack };
        let reach = i64::from(theirs.offered.unwrap_or(65_536));
        let memory = i64::from(mine.offered.unwrap_or(0)).max(66_000);
        // A segment without data may stand one number outside: behind a FIN, or a probe's byte.
        let spare = if numbers == 0 { (beyond(mine.sent, mine.limit)).max(1) } else { 0 };
        let fits = beyond(s.seq, mine.limit) <= spare
            && beyond(mine.sent, end) <= reach + 1
            && beyond(number, theirs.sent) <= 0
            && beyond(theirs.sent, number) <= memory
            && !(rst && theirs.acked != 0 && beyond(theirs.acked, s.seq) > 0);
        let (mine, theirs) = if reply {
            let [a, b] = &mut self.ends;
            (b, a)
        } else {
            let [a, b] = &mut self.ends;
            (a, b)
        };
        mine.offered = mine.offered.max(Some(whole(window, unit)));
        if beyond(end, mine.sent) > 0 {
            mine.sent = end;
        }
        if ack {
            if mine.acked == 0 || beyond(number, mine.acked) > 0 {
                mine.acked = number;
            }
            let allowed = number.wrapping_add(window.max(1));
            if beyond(allowed, theirs.limit) > 0 {
                theirs.limit = allowed;
            }
        }
        fits
    }

    /// Whether a RST that fits is at a number at which its receiver believes it (RFC 5961 section 3.2).
    pub fn believes(&self, reply: bool, s: &Segment) -> bool {
        let (mine, theirs) = (&self.ends[usize::from(reply)], &self.ends[usize::from(!reply)]);
        if self.loose {
            return true;
        }
        if self.unanswered() {
            return if reply {
                s.flags & ACK != 0 && s.ack == theirs.sent
            } else {
                s.seq == mine.sent
            };
        }
        s.seq == theirs.acked || s.seq == mine.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, seq: u32, ack: u32, data: u32) -> Segment {
        Segment { flags, seq, ack, window: 1000, data, scale: None }
    }

    fn open() -> Connection {
        let mut c = Connection::begin(&segment(SYN, 99, 0, 0));
        for (reply, flags, seq, ack) in [(true, SYN | ACK, 499, 100), (false, ACK, 100, 500)] {
            let s = segment(flags, seq, ack, 0);
            assert!(c.fits(reply, &s) && !c.open());
            c.step(reply, flags);
        }
        assert!(c.open());
        c
    }

    #[test]
    fn a_connection_opens_and_closes() {
        let mut c = open();
        for (reply, s) in [
            (false, segment(ACK, 100, 500, 50)),
            (true, segment(ACK, 500, 150, 20)),
            (false, segment(FIN | ACK, 150, 520, 0)),
            (true, segment(ACK, 520, 151, 100)),
            (true, segment(FIN | ACK, 620, 151, 0)),
        ] {
            assert!(c.fits(reply, &s) && !c.over(), "{s:?}");
            c.step(reply, s.flags);
        }
        assert!(c.over());
    }

    #[test]
    fn both_have_to_acknowledge() {
        let mut c = Connection::begin(&segment(SYN, 99, 0, 0));
        c.step(true, SYN);
        c.step(false, SYN | ACK);
        c.step(false, SYN | ACK);
        assert!(!c.open());
        c.step(true, SYN | ACK);
        assert!(c.open());
    }

    #[test]
    fn outside_the_window_nothing_is_remembered() {
        for s in [
            segment(ACK, 1101, 500, 1),
            segment(ACK, 1102, 500, 0),
            segment(ACK, 100, 501, 0),
            segment(ACK, 100u32.wrapping_sub(1002), 500, 0),
            segment(ACK, 100, 500u32.wrapping_sub(66_001), 0),
            segment(RST, 1102, 0, 0),
        ] {
            let mut c = open();
            let before = format!("{c:?}");
            assert!(!c.fits(false, &s), "{s:?}");
            assert_eq!(format!("{c:?}"), before);
        }
        for s in [segment(ACK, 1100, 500, 1), segment(ACK, 1101, 500, 0), segment(RST, 300, 0, 0)] {
            assert!(open().fits(false, &s), "{s:?}");
        }
    }

    #[test]
    fn a_reset_is_believed_at_its_number_alone() {
        let c = open();
        assert!(c.believes(true, &segment(RST, 500, 0, 0)));
        assert!(!c.believes(true, &segment(RST, 501, 0, 0)));
    }
}
