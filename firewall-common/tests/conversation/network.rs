//! Two ends, the ways between them, and the gate in the middle.

use crate::chance::Chance;
use crate::endpoint::{ACK, Character, Endpoint, Packet, RST, SYN, ahead};
use firewall_common::abi::flow::Windows;
use firewall_common::flow::tcp::{self, TcpState};
use firewall_common::flow::window::{self, Known, Segment};
use firewall_common::wire::options::Options;

/// What the gate keeps of the connection.
#[derive(Clone, Debug)]
pub struct Gate {
    pub windows: Windows,
    pub bits: u64,
    pub scales: u8,
    pub state: TcpState,
    /// Which end of the network began.
    pub originator: usize,
}

impl Gate {
    /// The flow of a first segment.
    fn begin(from: usize, p: &Packet) -> Option<Self> {
        if !tcp::begins(p.flags, false) {
            return None;
        }
        let mut windows = Windows::default();
        window::begin(&mut windows, &segment(p));
        let (scales, bits) = window::note_options(0, 0, &options(p));
        Some(Self { windows, bits, scales, state: tcp::first(p.flags), originator: from })
    }

    /// Whether a segment of end `from` of the network goes on.
    pub fn passes(&mut self, from: usize, p: &Packet) -> bool {
        let from = from ^ self.originator;
        let (mut scales, mut bits) = (self.scales, self.bits);
        if p.has(SYN) {
            let (with, more) = window::note_options(scales, from, &options(p));
            (scales, bits) = (with, bits | more);
        }
        let s = segment(p);
        let known = Known { bits, scales, state: self.state, enforce: true };
        if !window::fits(&mut self.windows, from, &s, known) {
            return false;
        }
        (self.scales, self.bits) = (scales, bits);
        let flags = if p.has(RST) && !window::resets(&self.windows, from, &s, known) {
            p.flags & !RST
        } else {
            p.flags
        };
        self.state = tcp::next(self.state, from == 1, flags);
        true
    }
}

fn segment(p: &Packet) -> Segment {
    Segment { seq: p.seq, ack: p.ack, len: p.len(), window: p.window, flags: p.flags }
}

fn options(p: &Packet) -> Options {
    Options {
        has_scale: p.scale.is_some(),
        scale: p.scale.unwrap_or(0),
        sack: false,
        ..Options::default()
    }
}

/// One in so many is lost, comes twice, is overtaken; 0: never.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub loses: u32,
    pub doubles: u32,
    pub overtakes: u32,
}

const CALM: Weather = Weather { loses: 0, doubles: 0, overtakes: 0 };

/// A way: what is on it, oldest first.
#[derive(Default)]
struct Way(Vec<Packet>);

impl Way {
    /// What arrives next, if something does.
    fn arrives(&mut self, chance: &mut Chance, weather: Weather) -> Option<Packet> {
        let happens = |n: u32, chance: &mut Chance| n > 0 && chance.one_in(n);
        if self.0.is_empty() {
            return None;
        }
        let last = self.0.len() as u32 - 1;
        let at =
            if happens(weather.overtakes, chance) { chance.between(0, last.min(3)) } else { 0 };
        if happens(weather.doubles, chance) {
            return Some(self.0[at as usize].clone());
        }
        let packet = self.0.remove(at as usize);
        if happens(weather.loses, chance) { None } else { Some(packet) }
    }
}

pub struct Network {
    pub ends: [Endpoint; 2],
    to_gate: [Way; 2],
    from_gate: [Way; 2],
    pub gate: Option<Gate>,
    /// Newest ACK of each end that passed the gate.
    acked: [Option<u32>; 2],
    pub chance: Chance,
    /// Refused although not useless: overtaken by a newer ACK, and more than a window sent since.
    pub overtaken: u32,
    pub passed: u32,
}

impl Network {
    pub fn new(a: Character, b: Character, seed: u64) -> Self {
        Self {
            ends: [Endpoint::new(a), Endpoint::new(b)],
            to_gate: Default::default(),
            from_gate: Default::default(),
            gate: None,
            acked: [None; 2],
            chance: Chance(seed),
            overtaken: 0,
            passed: 0,
        }
    }

    /// Lets something happen. An error says what the gate did wrong.
    pub fn step(&mut self, weather: Weather, aborts: u32) -> Result<(), String> {
        let (who, what) = (self.chance.between(0, 1) as usize, self.chance.between(0, 19));
        let (end, chance) = (&mut self.ends[who], &mut self.chance);
        let sent = match what {
            0..=4 => end.send(chance),
            5 if chance.one_in(3) => end.send_again(chance),
            6 | 7 if end.owes => end.acknowledge(),
            8 if chance.one_in(6) => end.acknowledge(),
            8 if aborts > 0 && !end.aborted && chance.one_in(aborts) => end.abort(chance),
            9 if chance.one_in(3) => end.probe(chance),
            10 => {
                end.read(chance);
                None
            }
            11..=15 => {
                if let Some(packet) = self.to_gate[who].arrives(chance, weather) {
                    self.meets_gate(who, packet)?;
                }
                None
            }
            16..=19 => {
                if let Some(packet) = self.from_gate[who].arrives(chance, weather) {
                    let answer = self.ends[who ^ 1].receive(&packet);
                    self.to_gate[who ^ 1].0.extend(answer);
                }
                None
            }
            _ => None,
        };
        self.to_gate[who].0.extend(sent);
        Ok(())
    }

    fn meets_gate(&mut self, from: usize, p: Packet) -> Result<(), String> {
        let passes = match &mut self.gate {
            None => {
                self.gate = Gate::begin(from, &p);
                self.gate.is_some()
            }
            Some(gate) => gate.passes(from, &p),
        };
        if passes {
            self.passed += 1;
            if p.has(ACK) && self.acked[from].is_none_or(|old| ahead(p.ack, old) > 0) {
                self.acked[from] = Some(p.ack);
            }
            self.from_gate[from].0.push(p);
            return Ok(());
        }
        let peer = &self.ends[from ^ 1];
        // All of it was received (then the RFC has it dropped, ACK included), or just so, and its ACK too.
        let nothing_new = peer.rcv.is_some_and(|rcv| {
            ahead(p.end(), rcv) < 0
                || (p.end() == rcv && (!p.has(ACK) || ahead(p.ack, peer.una) <= 0))
        });
        let no_reset = p.has(RST) && peer.rcv.is_none_or(|rcv| ahead(p.seq, rcv) < 0);
        if peer.was_reset
            || peer.aborted
            || peer.beyond(&p)
            || no_reset
            || (nothing_new && !p.has(RST))
        {
            return Ok(());
        }
        // It says something, but its sender has acknowledged more in what came before it.
        if self.acked[from].is_some_and(|newest| ahead(newest, p.ack) > 0) {
            self.overtaken += 1;
            return Ok(());
        }
        Err(format!("end {from}: {p:?} is refused by {:#?}\npeer {peer:#?}", self.gate))
    }

    /// Lets it go on without mishaps until it ends one way or the other.
    pub fn finish(&mut self) -> Result<(), String> {
        for _ in 0..400_000 {
            let [a, b] = &self.ends;
            if (a.done() && b.done()) || (self.silent() && (a.was_reset || b.was_reset)) {
                return Ok(());
            }
            self.step(CALM, 0)?;
        }
        Err(format!("it doesn't end: {:#?}\n{:#?}", self.ends, self.gate))
    }

    fn silent(&self) -> bool {
        self.to_gate.iter().chain(&self.from_gate).all(|way| way.0.is_empty())
    }
}
