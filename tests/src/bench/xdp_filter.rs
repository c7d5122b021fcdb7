//! The peer `xdp-filter` (Debian's xdp-tools), matching exact destination addresses: it knows neither prefixes nor
//! ranges, and no rule of several fields.

use super::pair::{DST, Pair};
use super::train::{Engine, Then, Train};
use crate::bpf::{self, Kind, Map, Program};
use std::net::Ipv4Addr;
use std::path::Path;

const PINS: &str = "/sys/fs/bpf/xdp-filter";

/// A loaded one.
pub(super) struct XdpFilter {
    pair: Pair,
    empty: Program,
    program: Program,
    addresses: Map,
    /// A value that xdp-filter itself wrote: one for each CPU.
    flags: Vec<u8>,
    inside: Vec<Ipv4Addr>,
}

/// Its program behind a train, beside the empty program behind the same.
pub(super) struct Behind {
    train: Train,
    full: Engine,
    empty: Engine,
    // What is called lives as long as it may be.
    _nothing: Program,
}

impl XdpFilter {
    /// Loads it in namespaces of its own.
    ///
    /// # Errors
    /// In words: one runs on this machine, or there is none.
    pub fn new() -> Result<Self, String> {
        if Path::new(PINS).exists() {
            return Err(format!("{PINS} exists: an xdp-filter runs on this machine"));
        }
        let pair = Pair::new()?;
        let words = |error: std::io::Error| error.to_string();
        let run =
            |args: &[&str]| pair.near.exec("xdp-filter", args).map_err(|error| error.to_string());
        // All its features, as it loads by default: the program that can match what ours can (addresses
        // and ports of both families).
        run(&["load", "b0", "-m", "skb", "-p", "allow"])?;
        run(&["ip", DST, "-m", "dst"])?;
        let links = pair
            .near
            .exec("ip", &["-j", "-d", "link", "show", "dev", "b0"])
            .map_err(|error| error.to_string())?;
        let links: serde_json::Value =
            serde_json::from_str(&links).map_err(|error| error.to_string())?;
        let id = links[0]["xdp"]["prog"]["id"]
            .as_u64()
            .ok_or_else(|| format!("no program on b0: {links}"))?;
        let addresses = Map::pinned(&Path::new(PINS).join("filter_ipv4")).map_err(words)?;
        let own: Ipv4Addr = DST.parse().map_err(|_| "an address")?;
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error.to_string())?;
        let flags = addresses.lookup(&own.octets(), 8 * cpus).map_err(words)?;
        Ok(Self {
            program: Program::by_id(id as u32).map_err(words)?,
            empty: Program::returning(2).map_err(words)?,
            addresses,
            flags,
            inside: vec![own],
            pair,
        })
    }

    /// MAC addresses of frames that come in at its interface.
    pub fn macs(&self) -> ([u8; 6], [u8; 6]) {
        self.pair.macs
    }

    /// Drops what goes to these addresses and nothing else.
    ///
    /// # Errors
    /// The kernel's, in words.
    pub fn drop_what_goes_to(&mut self, wanted: Vec<Ipv4Addr>) -> Result<(), String> {
        for old in self.inside.drain(..) {
            // Twice in the list, once in the map.
            let _ = self.addresses.delete(&old.octets());
        }
        for new in &wanted {
            let added = self.addresses.update(&new.octets(), &self.flags);
            added.map_err(|error| format!("xdp-filter's map takes no {new}: {error}"))?;
        }
        self.inside = wanted;
        Ok(())
    }

    /// What it costs over the empty program to drop this frame.
    ///
    /// # Errors
    /// In words; where it doesn't drop it.
    pub fn over_empty(&self, frame: &[u8], repeat: u32) -> Result<f64, String> {
        self.pair.near.run(|| {
            bpf::pin_to_cpu(0);
            let time = |program: &Program| {
                let run = program.time_xdp(frame, self.pair.index, repeat);
                run.map_err(|error| format!("a test run: {error}"))
            };
            let ((empty, _), (theirs, code)) = (time(&self.empty)?, time(&self.program)?);
            if code == 1 {
                Ok(theirs - empty)
            } else {
                Err(format!("it answers {code}, not XDP_DROP"))
            }
        })
    }

    /// It behind a train.
    ///
    /// # Errors
    /// The kernel's, in words.
    pub fn behind(&self, train: Train) -> Result<Behind, String> {
        let (full, kind) = train.engine_for_xdp(&self.program)?;
        let nothing =
            Program::load(kind, &bpf::Asm::returning(2)).map_err(|error| error.to_string())?;
        let empty = train.engine(kind, Then::Call(&nothing))?;
        debug_assert_ne!(kind, Kind::Tc);
        Ok(Behind { train, full, empty, _nothing: nothing })
    }

    /// What the train's packets cost over the empty program.
    ///
    /// # Errors
    /// In words.
    pub fn train_over_empty<H: AsRef<[u8]>>(
        &self,
        behind: &Behind,
        headers: &[H],
    ) -> Result<f64, String> {
        behind.train.fill(headers)?;
        let count = headers.len() as u32;
        let time = |engine: &Engine| {
            behind.train.rewind()?;
            self.pair.near.run(|| {
                bpf::pin_to_cpu(0);
                let frame = vec![0; engine.frame_len];
                let run = engine.program.time_xdp(&frame, self.pair.index, count);
                run.map(|(ns, _)| ns).map_err(|error| format!("a test run: {error}"))
            })
        };
        let empty = time(&behind.empty)?;
        Ok(time(&behind.full)? - empty)
    }
}

impl Drop for XdpFilter {
    fn drop(&mut self) {
        let _ = self.pair.near.exec("xdp-filter", &["unload", "--all"]);
    }
}
