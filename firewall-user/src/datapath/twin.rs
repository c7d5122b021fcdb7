//! The filter's twin: the same programs with maps of their own, attached to nothing. Packets are run through
//! it to see what would become of them; nothing of the running filter changes.

pub use super::netdev::{address, mac};
use super::{Datapath, DatapathError, Options, netdev, pins, table::Kept, testing::Hook};
use crate::monitor::{CounterInput, FlowRecord};
use firewall_common::{
    abi::{
        control::Control,
        event::Event,
        iface::{IFACE_WIRE, IFACE_XDP, IFACE_XDP_GENERIC, Iface},
        table::Direction,
    },
    wire::Facts,
};
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Flows of each family that a twin has room for.
pub const TWIN_FLOWS: u32 = 32_768;
/// The twin's ring, bytes: it is drained after each packet.
const RING: u32 = 1 << 16;
/// Index of the loopback device, which test runs come in at (`BPF_PROG_TEST_RUN` of net/bpf/test_run.c).
const LOOPBACK: u32 = 1;

/// A twin. It is gone when this is dropped.
pub struct Twin {
    datapath: Datapath,
    before: CounterInput,
}

/// How an interface's packets come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// At TC.
    Tc,
    /// At XDP, and at TC what XDP leaves to it.
    Xdp,
    /// As [`Self::Xdp`], where XDP runs in the stack.
    XdpGeneric,
}

impl Ingress {
    /// From the word that `status` has for it.
    pub fn named(word: &str) -> Self {
        match word {
            "xdp" => Self::Xdp,
            "xdp-generic" => Self::XdpGeneric,
            _ => Self::Tc,
        }
    }
}

/// Where a packet is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// Interface.
    pub iface: String,
    /// Its slot.
    pub slot: u8,
    /// How its packets come in.
    pub ingress: Ingress,
    /// Which way.
    pub direction: Direction,
}

/// What became of a packet.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The hook that judged it: `xdp`, `tc-in`, `tc-out`.
    pub hook: &'static str,
    /// The program's own answer, in words.
    pub action: &'static str,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
    /// What was counted.
    pub moved: CounterInput,
    /// What was told.
    pub events: Vec<Event>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The twins of a filter that is pinned in `dir` stand beside it, under names that begin like this.
fn prefix(dir: &Path) -> Option<String> {
    Some(format!("{}-twin-", dir.file_name()?.to_str()?))
}

/// Removes what daemons left that died while a twin was loaded.
fn sweep(dir: &Path) {
    let (Some(parent), Some(prefix)) = (dir.parent(), prefix(dir)) else { return };
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix));
        // Whoever loads one holds its lock.
        if ours && let Ok(_lock) = pins::lock(&entry.path()) {
            remove(&entry.path());
        }
    }
}

fn remove(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
    let _ = std::fs::remove_dir(dir);
}

impl Datapath {
    /// Where the filter is pinned.
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }
}

/// Removes a folder however its maker ends.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

impl Twin {
    /// Loads a twin of the filter that is pinned in `dir`, whose first policy will be of generation
    /// `generation`.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn open(dir: &Path, generation: u32) -> Result<Self, DatapathError> {
        sweep(dir);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{}-{n}", prefix(dir).unwrap_or_default(), std::process::id());
        // Nobody else is to find its maps: the descriptors keep them alive, and the pins go at once.
        let pins = Pins(dir.with_file_name(name));
        let options = Options {
            pin_dir: pins.0.clone(),
            ifaces: Vec::new(),
            max_flows: TWIN_FLOWS,
            ring_bytes: RING,
        };
        let mut datapath = Datapath::open(&options)?;
        drop(pins);
        if let Some(sets) = datapath.sets()
            && let Err(error) = sets.share(dir)
        {
            log::warn!("live sets are empty to the twin: {error}");
        }
        let what = DatapathError::map("CONTROL");
        let control = datapath.control.get(&0, 0).map_err(DatapathError::map("CONTROL"))?;
        let control = Control { generation: generation.saturating_sub(1), ..control };
        datapath.control.set(0, control, 0).map_err(what)?;
        Ok(Self { datapath, before: CounterInput::default() })
    }

    /// The datapath, to install a policy.
    pub fn datapath(&mut self) -> &mut Datapath {
        &mut self.datapath
    }

    /// Enters a copy of a live flow; whether there was room.
    ///
    /// # Errors
    /// The kernel refused to change a map.
    pub fn enter(&mut self, kept: &Kept) -> Result<bool, DatapathError> {
        if kept.is_translated() {
            let control =
                self.datapath.control.get(&0, 0).map_err(DatapathError::map("CONTROL"))?;
            let control = Control { nat: 1, ..control };
            self.datapath.control.set(0, control, 0).map_err(DatapathError::map("CONTROL"))?;
        }
        Ok(self.datapath.flows.enter(kept, self.datapath.clock().ticks))
    }

    /// The flow that a packet belongs to here.
    pub fn flow(&self, facts: &Facts) -> Option<FlowRecord> {
        self.datapath.flows.find(facts).map(|(record, _)| record)
    }

    /// Flows that made room for newer ones so far.
    ///
    /// # Errors
    /// The kernel refused to read the map.
    pub fn evicted(&self) -> Result<u64, DatapathError> {
        Ok(self.datapath.table_counters()?.evicted)
    }

    /// Runs a packet through the hook that it would meet.
    ///
    /// # Errors
    /// The kernel refused to run it: it takes no frame without an Ethernet header, nor, at TC, one without a
    /// whole IP header.
    pub fn run(&mut self, post: &Post, frame: &[u8]) -> Result<Ran, DatapathError> {
        let inwards = post.direction == Direction::In;
        if inwards && post.ingress != Ingress::Tc {
            let ran = self.run_at(post, Hook::Xdp, frame)?;
            // Left to the program at TC: nothing was counted yet.
            if !ran.moved.reasons.is_empty() {
                return Ok(ran);
            }
        }
        match self.run_at(post, Hook::Tc(post.direction), frame) {
            // XDP takes what TC doesn't get from any link.
            Err(_) if inwards && frame.len() >= 14 => self.run_at(post, Hook::Xdp, frame),
            done => done,
        }
    }

    fn run_at(&mut self, post: &Post, hook: Hook, frame: &[u8]) -> Result<Ran, DatapathError> {
        self.place(post, hook)?;
        let outcome = self.datapath.test_run(hook, frame, 1)?;
        let after = self.datapath.counters()?;
        let mut events = Vec::new();
        self.datapath.drain(&mut |event| events.push(*event));
        let (name, action) = match (hook, outcome.action.cast_signed()) {
            (Hook::Xdp, 2) => ("xdp", "pass"),
            (Hook::Xdp, 1) => ("xdp", "drop"),
            (Hook::Xdp, 3) => ("xdp", "answer"),
            (Hook::Xdp, 4) => ("xdp", "redirect"),
            (Hook::Xdp, _) => ("xdp", "abort"),
            (Hook::Tc(direction), code) => {
                let name = if direction == Direction::In { "tc-in" } else { "tc-out" };
                // TC_ACT_UNSPEC, TC_ACT_SHOT, TC_ACT_REDIRECT.
                let action = match code {
                    2 => "drop",
                    7 => "answer",
                    _ => "pass",
                };
                (name, action)
            }
        };
        let moved = difference(&self.before, &after);
        self.before = after;
        Ok(Ran { hook: name, action, frame: outcome.frame, moved, events })
    }

    /// Makes the loopback device stand for an interface.
    fn place(&mut self, post: &Post, hook: Hook) -> Result<(), DatapathError> {
        let known = netdev::find(&post.iface).ok();
        let unknown = Iface { slot: u32::from(post.slot), ..Iface::default() };
        let mut entry = known.as_ref().map_or(unknown, |dev| netdev::entry(dev, post.slot));
        if hook == Hook::Xdp {
            entry.flags |= IFACE_XDP;
            if known.is_some_and(|dev| dev.physical) {
                entry.flags |= IFACE_WIRE;
            }
            if post.ingress == Ingress::XdpGeneric {
                entry.flags |= IFACE_XDP_GENERIC;
            }
        }
        self.datapath.ifaces.set(LOOPBACK, entry, 0).map_err(DatapathError::map("IFACES"))
    }
}

/// What was counted between two readings: only what isn't zero.
fn difference(before: &CounterInput, after: &CounterInput) -> CounterInput {
    let mut moved = CounterInput::default();
    for (slot, now) in &after.rules {
        let mut sum = *now;
        if let Some((_, then)) = before.rules.iter().find(|(other, _)| other == slot) {
            sum.hits -= then.hits;
            sum.packets -= then.packets;
            sum.bytes -= then.bytes;
        }
        if sum.hits | sum.packets != 0 {
            moved.rules.push((*slot, sum));
        }
    }
    for (verdict, reason, now) in &after.reasons {
        let mut sum = *now;
        let then = before.reasons.iter().find(|(v, r, _)| v == verdict && r == reason);
        if let Some((_, _, then)) = then {
            sum.packets -= then.packets;
            sum.bytes -= then.bytes;
        }
        if sum.packets != 0 {
            moved.reasons.push((*verdict, *reason, sum));
        }
    }
    for ((to, now), then) in moved.events.iter_mut().zip(&after.events).zip(&before.events) {
        to.produced = now.produced - then.produced;
        to.lost = now.lost - then.lost;
        to.suppressed = now.suppressed - then.suppressed;
    }
    moved
}
