//! One end of a TCP connection, as RFC 9293 has it: numbers, windows, acknowledgements, reassembly. No
//! congestion control and no timers: when something is sent again is up to the test.

use crate::chance::Chance;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// A segment on its way.
#[derive(Clone, Debug)]
pub struct Packet {
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    /// Bytes of data.
    pub data: u32,
    pub window: u16,
    /// Window scale option.
    pub scale: Option<u8>,
}

impl Packet {
    /// Sequence numbers it takes up.
    pub fn len(&self) -> u32 {
        self.data + u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0)
    }
    pub fn end(&self) -> u32 {
        self.seq.wrapping_add(self.len())
    }
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// How far `a` is ahead of `b`.
pub fn ahead(a: u32, b: u32) -> i64 {
    i64::from(a.wrapping_sub(b).cast_signed())
}

/// What an end is like.
#[derive(Clone, Debug)]
pub struct Character {
    pub isn: u32,
    pub scale: Option<u8>,
    pub mss: u32,
    /// Bytes that it can hold unread.
    pub buffer: u32,
    /// Bytes that it has to say.
    pub says: u32,
    /// Opens by itself, rather than to wait for the other.
    pub active: bool,
    /// Probes a closed window with a byte, rather than with an old number.
    pub probes_with_data: bool,
}

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub is: Character,
    /// Oldest number that isn't acknowledged.
    pub una: u32,
    /// Next number to send.
    pub nxt: u32,
    window: u32,
    wl: (u32, u32),
    /// Next number expected; none: no SYN came yet.
    pub rcv: Option<u32>,
    /// Right edge of what was ever offered.
    pub edge: u32,
    /// Largest window that was ever offered.
    pub widest: u32,
    unread: u32,
    pub got: u32,
    peer_scale: Option<u8>,
    parts: Vec<(u32, u32)>,
    peer_fin: Option<u32>,
    pub fin_came: bool,
    /// Something has to be answered.
    pub owes: bool,
    /// Gave up: everything that comes is answered with RST.
    pub aborted: bool,
    /// Was told so by the other.
    pub was_reset: bool,
}

impl Endpoint {
    pub fn new(is: Character) -> Self {
        Self {
            una: is.isn,
            nxt: is.isn,
            window: 0,
            wl: (0, 0),
            rcv: None,
            edge: 0,
            widest: 0,
            unread: 0,
            got: 0,
            peer_scale: None,
            parts: Vec::new(),
            peer_fin: None,
            fin_came: false,
            owes: false,
            aborted: false,
            was_reset: false,
            is,
        }
    }

    fn syn_acked(&self) -> bool {
        self.una != self.is.isn
    }
    pub fn open(&self) -> bool {
        self.rcv.is_some() && self.syn_acked()
    }
    fn fin_at(&self) -> u32 {
        self.is.isn.wrapping_add(1).wrapping_add(self.is.says)
    }
    /// Everything was said and heard.
    pub fn done(&self) -> bool {
        self.open() && self.una == self.fin_at().wrapping_add(1) && self.fin_came
    }
    /// Numbers on the way.
    fn outstanding(&self) -> bool {
        self.una != self.nxt
    }

    fn shift(&self) -> u32 {
        match (self.is.scale, self.peer_scale) {
            (Some(own), Some(_)) => own.into(),
            _ => 0,
        }
    }

    /// A segment with the ACK and the window of now.
    fn packet(&mut self, flags: u8, seq: u32, data: u32) -> Packet {
        let shift = if flags & SYN != 0 { 0 } else { self.shift() };
        let free = self.is.buffer - self.unread;
        let kept = self.rcv.map_or(0, |rcv| ahead(self.edge, rcv).max(0) as u32);
        let offers = (free.max(kept) >> shift).min(65_535);
        self.widest = self.widest.max(offers << shift);
        let mut flags = flags;
        if let Some(rcv) = self.rcv {
            flags |= ACK;
            let edge = rcv.wrapping_add(offers << shift);
            if ahead(edge, self.edge) > 0 {
                self.edge = edge;
            }
            self.owes = false;
        }
        let scale = (flags & SYN != 0)
            .then_some(self.is.scale)
            .flatten()
            // An answer offers a scale only if it was offered one.
            .filter(|_| self.rcv.is_none() || self.is.active || self.peer_scale.is_some());
        Packet { flags, seq, ack: self.rcv.unwrap_or(0), data, window: offers as u16, scale }
    }

    /// Something new, if the other's window allows.
    pub fn send(&mut self, chance: &mut Chance) -> Option<Packet> {
        if self.aborted || self.was_reset {
            return None;
        }
        if self.nxt == self.is.isn {
            if !self.is.active && self.rcv.is_none() {
                return None;
            }
            self.nxt = self.is.isn.wrapping_add(1);
            return Some(self.packet(SYN, self.is.isn, 0));
        }
        if !self.open() {
            return None;
        }
        let left = ahead(self.fin_at(), self.nxt);
        if left < 0 {
            return None;
        }
        let room = ahead(self.una.wrapping_add(self.window), self.nxt);
        let data = i64::from(chance.between(1, self.is.mss)).min(left).min(room).max(0) as u32;
        let fin = i64::from(data) == left && room >= i64::from(data) && chance.one_in(2);
        if data == 0 && !fin {
            return None;
        }
        let seq = self.nxt;
        self.nxt = seq.wrapping_add(data + u32::from(fin));
        Some(self.packet(if fin { FIN } else { 0 }, seq, data))
    }

    /// Something that is on the way already.
    pub fn send_again(&mut self, chance: &mut Chance) -> Option<Packet> {
        if self.aborted || self.was_reset || !self.outstanding() {
            return None;
        }
        if !self.syn_acked() {
            return Some(self.packet(SYN, self.is.isn, 0));
        }
        let far = ahead(self.nxt, self.una) as u32;
        let from = if chance.one_in(3) { chance.between(0, far - 1) } else { 0 };
        let seq = self.una.wrapping_add(from);
        let data_end = if ahead(self.nxt, self.fin_at()) > 0 { self.fin_at() } else { self.nxt };
        let data = (ahead(data_end, seq).max(0) as u32).min(self.is.mss);
        let fin = seq.wrapping_add(data) == self.fin_at() && ahead(self.nxt, self.fin_at()) > 0;
        Some(self.packet(if fin { FIN } else { 0 }, seq, data))
    }

    /// An ACK.
    pub fn acknowledge(&mut self) -> Option<Packet> {
        if self.aborted || self.was_reset || self.rcv.is_none() || self.nxt == self.is.isn {
            return None;
        }
        if !self.syn_acked() {
            return Some(self.packet(SYN, self.is.isn, 0));
        }
        Some(self.packet(0, self.nxt, 0))
    }

    /// A keep-alive, or a probe of a closed window.
    pub fn probe(&mut self, chance: &mut Chance) -> Option<Packet> {
        if self.aborted || self.was_reset || !self.open() || self.outstanding() {
            return None;
        }
        if self.window == 0 && self.is.probes_with_data && ahead(self.fin_at(), self.nxt) > 0 {
            let seq = self.nxt;
            self.nxt = seq.wrapping_add(1);
            return Some(self.packet(0, seq, 1));
        }
        // The byte, where there is one, is rubbish: its number is taken.
        let data = u32::from(chance.one_in(2));
        Some(self.packet(0, self.una.wrapping_sub(1), data))
    }

    /// Reads some of what came, which makes room.
    pub fn read(&mut self, chance: &mut Chance) {
        let n = if chance.one_in(2) { self.unread } else { chance.between(0, self.unread) };
        self.unread -= n;
        self.owes |= n > 0;
    }

    /// Gives up.
    pub fn abort(&mut self, chance: &mut Chance) -> Option<Packet> {
        if !self.open() {
            return None;
        }
        self.aborted = true;
        let mut rst = self.packet(RST, self.nxt, 0);
        if chance.one_in(2) {
            (rst.flags, rst.ack) = (RST, 0);
        }
        Some(rst)
    }

    /// Takes what arrives; what has to be answered at once.
    pub fn receive(&mut self, p: &Packet) -> Option<Packet> {
        if self.was_reset {
            return None;
        }
        if self.aborted {
            let answer = Packet { flags: RST, seq: p.ack, ack: 0, data: 0, window: 0, scale: None };
            return (p.has(ACK) && !p.has(RST)).then_some(answer);
        }
        let Some(rcv) = self.rcv else {
            if p.has(RST) || !p.has(SYN) || (p.has(ACK) && p.ack != self.is.isn.wrapping_add(1)) {
                return None;
            }
            self.rcv = Some(p.seq.wrapping_add(1));
            self.edge = p.seq.wrapping_add(1);
            self.peer_scale = p.scale;
            self.window = p.window.into();
            self.wl = (p.seq, p.ack);
            self.owes = true;
            if p.has(ACK) {
                self.una = p.ack;
            }
            return None;
        };
        if self.beyond(p) {
            self.owes |= !p.has(RST);
            return None;
        }
        if p.has(RST) {
            // RFC 5961 section 3.2.
            if p.seq == rcv {
                self.was_reset = true;
            } else if ahead(p.seq, rcv) > 0 && ahead(self.edge, p.seq) > 0 {
                self.owes = true;
            }
            return None;
        }
        if !p.has(ACK) || ahead(p.ack, self.nxt) > 0 {
            self.owes = true;
            return None;
        }
        let shift = if p.has(SYN) { 0 } else { self.their_shift() };
        let newer =
            ahead(p.seq, self.wl.0) > 0 || (p.seq == self.wl.0 && ahead(p.ack, self.wl.1) >= 0);
        // An ACK of something new says a new window whatever its number, as in all stacks there are:
        // else a keep-alive's would move the window on unasked.
        if ahead(p.ack, self.una) > 0 || (newer && p.ack == self.una) {
            self.window = u32::from(p.window) << shift;
            self.wl = (p.seq, p.ack);
            self.una = p.ack;
        }
        if p.len() > 0 || ahead(p.seq, rcv) < 0 {
            self.owes = true;
        }
        if p.has(SYN) {
            return None;
        }
        let end = p.seq.wrapping_add(p.data);
        if p.has(FIN) {
            self.peer_fin = Some(end);
        }
        let low = if ahead(rcv, p.seq) > 0 { rcv } else { p.seq };
        // A byte of a probe is taken where there is room for it.
        let right = if self.unread < self.is.buffer && self.edge == rcv {
            rcv.wrapping_add(1)
        } else {
            self.edge
        };
        let high = if ahead(end, right) > 0 { right } else { end };
        if ahead(high, low) > 0 {
            self.parts.push((low, high));
        }
        self.assemble();
        None
    }

    /// Whether a segment stands beyond what was offered (RFC 9293 section 3.10.7.4, "first"): nothing of
    /// it counts.
    pub fn beyond(&self, p: &Packet) -> bool {
        let Some(rcv) = self.rcv else { return false };
        ahead(p.seq, if ahead(rcv, self.edge) > 0 { rcv } else { self.edge }) > 0
    }

    fn their_shift(&self) -> u32 {
        match (self.is.scale, self.peer_scale) {
            (Some(_), Some(theirs)) => theirs.into(),
            _ => 0,
        }
    }

    fn assemble(&mut self) {
        let Some(mut rcv) = self.rcv else { return };
        while let Some(i) =
            self.parts.iter().position(|(low, high)| ahead(*low, rcv) <= 0 && ahead(*high, rcv) > 0)
        {
            let (_, high) = self.parts.swap_remove(i);
            let n = ahead(high, rcv) as u32;
            self.unread += n;
            self.got += n;
            rcv = high;
        }
        self.parts.retain(|(_, high)| ahead(*high, rcv) > 0);
        if self.peer_fin == Some(rcv) && !self.fin_came {
            self.fin_came = true;
            rcv = rcv.wrapping_add(1);
        }
        self.rcv = Some(rcv);
    }
}
