//! Trains of packets: a program that writes the next of many headers into the packet and hands it on.
//!
//! A test run repeats one packet, and a program may have changed it; so flows by the million, new flows
//! and translated packets need a program in front that writes the packet anew. Headers lie one behind the
//! other and are read in that order, which the processor foresees; which flow comes next is random, because
//! they are shuffled before. So the train costs the same whoever is called, and is subtracted.

use crate::bpf::{Asm, Kind, Map, Program, Reg};

/// What is written: Ethernet, IPv4 and TCP or UDP headers (54 bytes), rounded up to words.
pub(super) const HEADER: usize = 56;
/// The same with IPv6 (74 bytes).
pub(super) const WIDE_HEADER: usize = 80;
/// Length of the frames: the least of Ethernet.
pub(super) const FRAME: usize = 60;

/// The first bytes of a frame.
pub(super) type Header = [u8; HEADER];

/// What is done with a packet that has its header.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then<'a> {
    /// Nothing but this verdict.
    Return(u32),
    /// Another program gets it.
    Call(&'a Program),
    /// It goes out at an interface.
    Redirect(u32),
}

/// `bpf_tail_call`, `bpf_redirect`.
const TAIL_CALL: i32 = 12;
const REDIRECT: i32 = 23;

/// The headers, shared by every engine that pulls them.
#[derive(Debug)]
pub(super) struct Train {
    memory: Map,
    next: Map,
    room: usize,
    /// Bytes of a header.
    width: usize,
}

/// The program that pulls a train.
#[derive(Debug)]
pub(super) struct Engine {
    /// Run this.
    pub program: Program,
    /// On a blank frame of this length.
    pub frame_len: usize,
    /// Keeps what is called alive.
    _calls: Option<Map>,
}

fn words(error: std::io::Error) -> String {
    error.to_string()
}

impl Train {
    /// Room for `room` headers (a power of two) of [`HEADER`] bytes.
    pub fn new(room: usize) -> Result<Self, String> {
        Self::of_width(HEADER, room)
    }

    /// Room for `room` headers (a power of two) of so many bytes (whole words).
    pub fn of_width(width: usize, room: usize) -> Result<Self, String> {
        assert!(room.is_power_of_two(), "the program wraps with a mask");
        assert!(width.is_multiple_of(8), "the program copies words");
        Ok(Self {
            memory: Map::memory(room * width).map_err(words)?,
            next: Map::memory(8).map_err(words)?,
            room,
            width,
        })
    }

    /// Fills it, over and over where `headers` are fewer than there is room; the first is the next.
    pub fn fill<H: AsRef<[u8]>>(&self, headers: &[H]) -> Result<(), String> {
        assert!(headers.len() <= self.room, "{} headers in {}", headers.len(), self.room);
        let width = |header: &H| header.as_ref().len();
        assert!(
            headers.iter().all(|header| width(header) == self.width),
            "headers of {}",
            self.width
        );
        let headers = headers.iter().cycle().take(self.room);
        let bytes: Vec<u8> = headers.flat_map(AsRef::as_ref).copied().collect();
        self.memory.update(&0u32.to_ne_bytes(), &bytes).map_err(words)?;
        self.rewind()
    }

    /// The first header is the next.
    pub fn rewind(&self) -> Result<(), String> {
        self.next.update(&0u32.to_ne_bytes(), &0u64.to_ne_bytes()).map_err(words)
    }

    /// A program of a kind that pulls it.
    pub fn engine(&self, kind: Kind, then: Then<'_>) -> Result<Engine, String> {
        let calls = match then {
            Then::Call(_) => Some(Map::programs().map_err(words)?),
            _ => None,
        };
        let program = Program::load(kind, &self.code(kind, then, calls.as_ref())).map_err(words)?;
        if let (Some(calls), Then::Call(target)) = (&calls, then) {
            calls.call(target).map_err(words)?;
        }
        Ok(Engine { program, frame_len: self.width.max(FRAME), _calls: calls })
    }

    /// An engine that calls `target`, whichever of the kinds the kernel takes it for.
    pub fn engine_for_xdp(&self, target: &Program) -> Result<(Engine, Kind), String> {
        let mut last = String::new();
        for (frags, says_so) in [(true, true), (true, false), (false, true), (false, false)] {
            let kind = Kind::Xdp { frags, says_so };
            match self.engine(kind, Then::Call(target)) {
                Ok(engine) => return Ok((engine, kind)),
                Err(why) => last = why,
            }
        }
        Err(format!("no tail call to the program: {last}"))
    }

    fn code(&self, kind: Kind, then: Then<'_>, calls: Option<&Map>) -> Vec<u64> {
        use Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9};
        // `data` and `data_end` in struct xdp_md and struct __sk_buff.
        let (data, data_end) = if kind == Kind::Tc { (76, 80) } else { (0, 4) };
        let mut asm = Asm::new()
            .copy(R6, R1)
            .load32(R2, R1, data)
            .load32(R3, R1, data_end)
            .copy(R4, R2)
            .add(R4, self.width as i32)
            .end_if_greater(R4, R3)
            .memory(R7, &self.next)
            .load64(R8, R7, 0)
            .copy(R9, R8)
            .add(R9, 1)
            .store64(R7, 0, R9)
            .and(R8, (self.room - 1) as i32)
            .multiply(R8, self.width as i32)
            .memory(R1, &self.memory)
            .add_reg(R1, R8);
        for at in (0..self.width as i16).step_by(8) {
            asm = asm.load64(R5, R1, at).store64(R2, at, R5);
        }
        asm = match (then, calls) {
            (Then::Call(_), Some(calls)) => {
                asm.copy(R1, R6).map(R2, calls).set(R3, 0).call(TAIL_CALL).set(R0, 0)
            }
            (Then::Redirect(index), _) => {
                asm.set(R1, index.cast_signed()).set(R2, 0).call(REDIRECT)
            }
            (Then::Return(code), _) => asm.set(R0, code.cast_signed()),
            (Then::Call(_), None) => unreachable!("a call has its array"),
        };
        asm.exit_then_end().set(R0, 0).exit()
    }
}

/// A blank frame for the headers.
pub(super) fn frame() -> [u8; FRAME] {
    [0; FRAME]
}

/// The first bytes of a frame, as a train of this width has them.
pub(super) fn header_of(frame: &[u8], width: usize) -> Vec<u8> {
    let mut header = frame.to_vec();
    header.resize(width, 0);
    header
}

/// The first bytes of a frame that the packet builder made.
pub(super) fn header(frame: &[u8]) -> Header {
    let mut header = [0; HEADER];
    let n = frame.len().min(HEADER);
    header[..n].copy_from_slice(&frame[..n]);
    header
}

#[cfg(test)]
mod tests {
    use super::{Then, Train, frame, header};
    use crate::bpf::{Kind, Program};

    #[test]
    fn each_run_gets_the_next_header() {
        if let Some(reason) = crate::skip::no_kernel_access() {
            return crate::skip::skip("bench::train::each_run_gets_the_next_header", reason);
        }
        let train = Train::new(4).unwrap();
        let headers = [1u8, 2, 3].map(|n| header(&[n; 60]));
        train.fill(&headers).unwrap();
        let target = Program::returning(3).unwrap();
        let (called, kind) = train.engine_for_xdp(&target).unwrap();
        assert_ne!(kind, Kind::Tc);
        let alone = train.engine(Kind::Tc, Then::Return(5)).unwrap();
        for (n, by_tc) in [(1, false), (2, true), (3, false), (1, true), (1, false)] {
            let run = if by_tc {
                alone.program.run_tc(&frame(), 1).unwrap()
            } else {
                called.program.run_xdp(&frame(), 1).unwrap()
            };
            assert_eq!((run.code, run.data[0]), (if by_tc { 5 } else { 3 }, n));
        }
    }
}
