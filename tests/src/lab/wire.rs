//! What really arrives: tcpdump at a receiver, and what tshark says of the checksums.

use super::{LabError, NetNs};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Fields of tshark's that tell of a checksum, and what the tally calls them.
const FIELDS: [(&str, &str); 4] = [
    ("ip", "ip.checksum.status"),
    ("tcp", "tcp.checksum.status"),
    ("udp", "udp.checksum.status"),
    ("icmp", "icmp.checksum.status"),
];

/// A capture of what comes in at an interface.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    file: PathBuf,
}

/// What tshark says of a segment whose checksum is 0xffff where 0 is right. Both are zero in ones' complement,
/// so receivers take it; RFC 1624 section 3 tells how an update makes one by mistake.
const OTHER_ZERO: &str = "[TCP CHECKSUM 0xFFFF]";

/// Checksums of a capture: how many are good and bad, by protocol; `quoted` are those of the TCP and UDP
/// headers that ICMP errors carry, `other-zero` those of segments that have 0xffff for 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Good ones.
    pub good: BTreeMap<&'static str, u64>,
    /// Bad ones.
    pub bad: BTreeMap<&'static str, u64>,
    /// The first of the packets that have one, in tshark's words.
    pub bad_packets: Vec<String>,
}

impl Sums {
    /// Good ones of a protocol.
    pub fn good(&self, protocol: &str) -> u64 {
        self.good.get(protocol).copied().unwrap_or(0)
    }

    /// Bad ones of all protocols.
    pub fn bad(&self) -> u64 {
        self.bad.values().sum()
    }
}

impl Capture {
    /// Begins to write what comes in at `interface` of `ns` to a file in `dir`.
    ///
    /// # Errors
    /// Where tcpdump doesn't.
    pub fn start(ns: &NetNs, interface: &str, dir: &Path) -> Result<Self, LabError> {
        let file = dir.join(format!("{}-{interface}.pcap", ns.label));
        let mut child = ns
            .command("tcpdump")
            .args(["-i", interface, "-n", "-Q", "in", "-s", "0", "-B", "65536", "-Z", "root"])
            .args(["--immediate-mode", "-U", "-w"])
            .arg(&file)
            .arg("ip")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(LabError::system("starting tcpdump"))?;
        let mut words = String::new();
        if let Some(stderr) = child.stderr.take() {
            let mut lines = BufReader::new(stderr);
            while !words.contains("listening on") {
                let read = lines.read_line(&mut words).map_err(LabError::system("tcpdump"))?;
                if read == 0 {
                    return Err(LabError::Late(format!("tcpdump on {interface}: {words}")));
                }
            }
            // It writes its account there at the end: the pipe has to stay open.
            std::thread::spawn(move || lines.lines().for_each(drop));
        }
        Ok(Self { child, file })
    }

    /// Waits until nothing more is written: tcpdump forgets at its end what it hasn't read.
    fn settle(&self) {
        let size = || std::fs::metadata(&self.file).map_or(0, |file| file.len());
        let mut before = u64::MAX;
        while size() != before {
            before = size();
            std::thread::sleep(Duration::from_millis(150));
        }
    }

    /// Ends the capture and has tshark check each packet.
    ///
    /// # Panics
    /// Where the tools fail.
    pub fn checksums(mut self) -> Sums {
        self.settle();
        // SAFETY: kill takes numbers; the process is a child that hasn't been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        self.child.wait().expect("tcpdump ends");
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(&self.file).args(["-n", "-T", "fields", "-E", "separator=;"]);
        for protocol in ["ip", "tcp", "udp"] {
            tshark.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
        }
        // Payload isn't looked at.
        tshark.args(["-o", "tcp.desegment_tcp_streams:FALSE"]);
        for field in FIELDS.map(|(_, field)| field).into_iter().chain(["ip.src", "_ws.col.Info"]) {
            tshark.args(["-e", field]);
        }
        let output = tshark.stdin(Stdio::null()).output().expect("tshark");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tshark: {words}");
        tally(&String::from_utf8_lossy(&output.stdout))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One line a packet; a packet within a packet has its values in the same place, behind a comma.
fn tally(text: &str) -> Sums {
    let mut sums = Sums::default();
    for line in text.lines() {
        let before = sums.bad();
        let is_icmp = line.split(';').nth(3).is_some_and(|status| !status.is_empty());
        for ((protocol, _), values) in FIELDS.iter().zip(line.split(';')) {
            let quoted = is_icmp && matches!(*protocol, "tcp" | "udp");
            let protocol = match *protocol {
                _ if quoted => "quoted",
                "tcp" if line.contains(OTHER_ZERO) => "other-zero",
                protocol => protocol,
            };
            for value in values.split(',') {
                match value.trim() {
                    "1" | "Good" => *sums.good.entry(protocol).or_default() += 1,
                    "0" | "Bad" => *sums.bad.entry(protocol).or_default() += 1,
                    _ => {}
                }
            }
        }
        if sums.bad() > before && sums.bad_packets.len() < 5 {
            sums.bad_packets.push(line.to_owned());
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::{Capture, tally};
    use crate::lab::{NatLab, NetNs, RawSocket};
    use crate::packet::Packet;

    #[test]
    fn the_other_zero_is_told_from_a_bad_checksum() {
        let info = "80 → 51052 [ACK] Seq=1 Ack=2 Win=9 [TCP CHECKSUM 0xFFFF] Len=0";
        let sums =
            tally(&format!("1;0;;;198.51.100.2;{info}\n1;0;;;198.51.100.2;80 → 51052 [ACK]\n"));
        assert_eq!((sums.bad.get("other-zero"), sums.bad.get("tcp")), (Some(&1), Some(&1)));
    }

    #[test]
    fn bad_checksums_are_found() {
        let tools = ["tcpdump", "tshark"];
        let Some(lab) = NatLab::or_skip("lab::bad_checksums_are_found", &tools) else { return };
        let dir = std::env::temp_dir().join(format!("sluice-test-{}-sums", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let capture = Capture::start(&lab.gate, "wan0", &dir).expect("a capture");
        let raw = RawSocket::open(&lab.router, "r0").expect("a socket");
        let mac = |ns: &NetNs, name: &str| ns.mac(name).expect("a MAC address");
        let head = Packet::new().macs(mac(&lab.router, "r0"), mac(&lab.gate, "wan0"));
        let good = head.ipv4(NatLab::SERVER, NatLab::PUBLIC).udp(1000, 9).fill(21).build();
        for at in [24, 40] {
            // The IPv4 header's checksum, and the datagram's.
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            raw.send(&bad);
        }
        raw.send(&good);
        let sums = capture.checksums();
        let _ = std::fs::remove_dir_all(&dir);
        assert_eq!((sums.good("ip"), sums.bad.get("ip")), (2, Some(&1)), "{sums:?}");
        assert_eq!(sums.bad.get("udp"), Some(&1), "{sums:?}");
    }
}
