//! The kernel's side, seen from user space: the only place that names aya.
//!
//! [`Datapath::open`] loads the programs, or takes over what an earlier daemon left pinned;
//! [`Datapath::install`] makes a compiled policy the live one: it writes the idle table, flips the
//! generation word, and a grace period is waited for before anybody may write again
//! ([`Datapath::settle`]). Everything is synchronous and owned by one thread.

pub mod cgroup;
mod clock;
mod cookies;
mod counters;
mod error;
mod features;
mod flows;
mod follow;
mod install;
pub mod kfunc;
mod limits;
mod links;
mod mode;
mod names;
mod netdev;
mod notify;
mod object;
pub mod observed;
pub mod owners;
mod patch;
mod pins;
pub mod programs;
mod raw;
pub mod rules;
pub mod sets;
mod shortcut;
pub mod sockets;
pub mod stages;
pub mod table;
pub mod testing;
pub mod twin;
mod units;

pub use cookies::outlook as cookies_outlook;
pub use error::DatapathError;
pub use mode::{HookMode, outlook as interface_outlook};
pub use names::SlotNames;
pub use netdev::{addresses, names as interface_names};
pub use patch::{NewPart, Patch as RulePatch, nobody_looks};

use crate::{monitor::Clock, view::IfaceView};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData, PerCpuArray, RingBuf},
    programs::{SchedClassifier, Xdp},
};
use error::chain;
use firewall_common::abi::{
    ABI_VERSION,
    bucket::{PLANNED, SLOTS, buckets_for},
    clock::ClockReading,
    control::{Control, CookieClock},
    counter::{EventCounter, ReasonCounter, RuleCounter, TableCounter},
    event::Event,
    iface::{IFACE_SLOTS, IFACE_XDP, IFACE_XDP_GENERIC, IFINDEX_LIMIT, Iface},
    limit::LimitStats,
    names::Name,
    table::{RuleTable, SLOT_FIRST, TIMEOUTS},
};
use notify::LinkNotices;
use std::{
    collections::BTreeSet,
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::Arc,
};
use table::Tables;

/// How to open the datapath.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory on bpffs for programs' maps and links.
    pub pin_dir: PathBuf,
    /// Interfaces to filter, and how.
    pub ifaces: Vec<(String, HookMode)>,
    /// Capacity of the flow table, per family. Fixed when the maps are made.
    pub max_flows: u32,
    /// Size of the event ring, bytes: a power of two, at least a page. Fixed when the maps are made.
    pub ring_bytes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pin_dir: PathBuf::from("/sys/fs/bpf/sluice"),
            ifaces: Vec::new(),
            max_flows: 131_072,
            ring_bytes: 4 << 20,
        }
    }
}

/// The running filter.
pub struct Datapath {
    ebpf: Ebpf,
    pin_dir: PathBuf,
    /// Keeps a second daemon from the same pins; released when dropped.
    _lock: File,
    adopted: bool,
    rate: u64,
    timeouts: [u32; TIMEOUTS],
    interfaces: Vec<IfaceView>,
    attached: Vec<Place>,
    wanted: shortcut::Wanted,
    /// What is left to do of the last installation.
    unsettled: Option<install::Unsettled>,
    /// The live table as the kernel has it, if we installed it.
    live: Option<Box<RuleTable>>,
    flows: Tables,
    events: RingBuf<MapData>,
    control: Array<MapData, Control>,
    tables: Array<MapData, RuleTable>,
    /// Rows of the policies.
    arenas: rules::Arenas,
    /// The same map by its descriptor, for reads that go straight to the heap.
    tables_fd: OwnedFd,
    ifaces: Array<MapData, Iface>,
    rule_counters: PerCpuArray<MapData, RuleCounter>,
    rule_counters_fd: OwnedFd,
    reason_counters: PerCpuArray<MapData, ReasonCounter>,
    limits: limits::Limits,
    limit_stats: Array<MapData, LimitStats>,
    event_counters: Array<MapData, EventCounter>,
    table_counters: Array<MapData, TableCounter>,
    clock: Array<MapData, ClockReading>,
    rule_names: names::RuleNames,
    iface_names: Array<MapData, Name>,
    cookie_clock: Array<MapData, CookieClock>,
    /// The kernel can give connections that cookies made to their listeners.
    cookies_able: bool,
    /// The live policy asks for cookies.
    cookies_asked: bool,
    /// Live sets.
    sets: Option<Arc<sets::Sets>>,
    /// Rules by owner, while the live policy has any.
    owners: Option<owners::OwnerGate>,
    ring_bytes: u32,
    /// Rule slots that anybody has: the others' counters aren't worth four thousand calls a second.
    counted: BTreeSet<u32>,
    /// Without it changes are seen a second later.
    notices: Option<LinkNotices>,
}

/// An interface that is filtered.
struct Place {
    dev: netdev::NetDev,
    how: mode::Ingress,
    shortcut: shortcut::Shortcut,
}

/// Takes a map out of the object as the type that it must be.
fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, DatapathError>
where
    T: TryFrom<Map>,
    T::Error: std::error::Error + 'static,
{
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| DatapathError::Load(format!("the object has no map {name}")))?;
    T::try_from(map).map_err(|e| DatapathError::Map { map: name, message: chain(&e) })
}

/// A descriptor of an array map's own.
fn descriptor(ebpf: &Ebpf, name: &'static str) -> Result<OwnedFd, DatapathError> {
    let Some(Map::Array(data) | Map::PerCpuArray(data)) = ebpf.map(name) else {
        return Err(DatapathError::Load(format!("the object has no array {name}")));
    };
    let what = "duplicating a map's descriptor";
    data.fd().as_fd().try_clone_to_owned().map_err(DatapathError::io(what))
}

impl Datapath {
    /// Loads the filter, or takes over the one that is pinned in `options.pin_dir`; attaches to every
    /// interface of `options.ifaces`.
    ///
    /// # Errors
    /// See [`DatapathError`]. Where an adopted filter was running, it runs on.
    pub fn open(options: &Options) -> Result<Self, DatapathError> {
        let object = object::bytes();
        if object.is_empty() {
            return Err(DatapathError::NoObject);
        }
        let lock = pins::lock(&options.pin_dir)?;
        let pinned = pins::control(&options.pin_dir)?;
        if let Some(found) = pinned
            && found.abi_version != ABI_VERSION
            && found.abi_version != 0
        {
            return Err(DatapathError::AbiMismatch {
                path: options.pin_dir.clone(),
                found: found.abi_version,
                expected: ABI_VERSION,
            });
        }
        let linked = kfunc::link(object)?;
        let cookies_able = linked.cookies && links::has_tcx();
        let buckets = buckets_for(options.max_flows);
        let mut ebpf = EbpfLoader::new()
            .default_map_pin_directory(&options.pin_dir)
            .map_max_entries("BUCKETS4", buckets)
            .map_max_entries("FLOWS4", buckets * SLOTS as u32)
            .map_max_entries("BUCKETS6", buckets)
            .map_max_entries("FLOWS6", buckets * SLOTS as u32)
            .map_max_entries("ALIAS_BUCKETS", buckets)
            .map_max_entries("ALIASES", buckets * SLOTS as u32)
            .map_max_entries("EVENTS", options.ring_bytes)
            .map_pin_path(rules::NAMES[0], options.pin_dir.join(rules::NAMES[0]))
            .map_pin_path(rules::NAMES[1], options.pin_dir.join(rules::NAMES[1]))
            .map_pin_path(rules::NAMES[2], options.pin_dir.join(rules::NAMES[2]))
            .map_pin_path(sets::NAMES[0], options.pin_dir.join(sets::NAMES[0]))
            .map_pin_path(sets::NAMES[1], options.pin_dir.join(sets::NAMES[1]))
            .map_pin_path(sets::NAMES[2], options.pin_dir.join(sets::NAMES[2]))
            .map_pin_path(sets::NAMES[3], options.pin_dir.join(sets::NAMES[3]))
            .load(&linked.object)
            .map_err(|e| load_error(&e))?;
        load_programs(&mut ebpf)?;
        stages::pin(&ebpf, &options.pin_dir)?;
        let found = pinned.unwrap_or_default();
        let [buckets4, buckets6, alias_buckets] = Tables::buckets(&ebpf)?;
        let control = Control {
            abi_version: ABI_VERSION,
            generation: found.generation,
            // Drawn once: whoever is in the tables stands where the secret says.
            seed: if found.seed == 0 { table::secret()? } else { found.seed },
            buckets4,
            buckets6,
            alias_buckets,
            nat: found.nat,
            cookie_key: if found.cookie_key == [0; 2] {
                [table::secret()?, table::secret()?]
            } else {
                found.cookie_key
            },
            cookies: cookies::read(cookies_able),
            installed: found.installed,
        };
        let capacity = u64::from(buckets4) * u64::from(PLANNED) / 2;
        let mut this = Self {
            flows: Tables::new(&ebpf, &control, capacity)?,
            events: take(&mut ebpf, "EVENTS")?,
            control: take(&mut ebpf, "CONTROL")?,
            tables_fd: descriptor(&ebpf, "TABLES")?,
            tables: take(&mut ebpf, "TABLES")?,
            arenas: rules::Arenas::of(&ebpf)
                .map_err(DatapathError::io("opening the arrays of rows"))?,
            ifaces: take(&mut ebpf, "IFACES")?,
            rule_counters_fd: descriptor(&ebpf, "RULE_COUNTERS")?,
            rule_counters: take(&mut ebpf, "RULE_COUNTERS")?,
            reason_counters: take(&mut ebpf, "REASON_COUNTERS")?,
            limits: limits::Limits::of(descriptor(&ebpf, "LIMITS")?.as_fd())
                .map_err(DatapathError::io("mapping the limits of rules"))?,
            limit_stats: take(&mut ebpf, "LIMIT_STATS")?,
            event_counters: take(&mut ebpf, "EVENT_COUNTERS")?,
            table_counters: take(&mut ebpf, "TABLE_COUNTERS")?,
            clock: take(&mut ebpf, "CLOCK")?,
            rule_names: names::RuleNames::of(descriptor(&ebpf, "RULE_NAMES")?.as_fd())
                .map_err(DatapathError::io("mapping the names of rules"))?,
            iface_names: take(&mut ebpf, "IFACE_NAMES")?,
            cookie_clock: take(&mut ebpf, "COOKIES")?,
            cookies_able,
            cookies_asked: false,
            sets: None,
            owners: None,
            ring_bytes: options.ring_bytes,
            counted: (0..SLOT_FIRST).collect(),
            notices: LinkNotices::open().inspect_err(|e| log::warn!("{e}")).ok(),
            adopted: pinned.is_some_and(|c| c.generation != 0),
            pin_dir: options.pin_dir.clone(),
            _lock: lock,
            rate: 250,
            timeouts: [0; TIMEOUTS],
            interfaces: Vec::new(),
            attached: Vec::new(),
            wanted: shortcut::Wanted::default(),
            // Whatever an earlier daemon left undone.
            unsettled: None,
            live: None,
            ebpf,
        };
        this.control.set(0, control, 0).map_err(DatapathError::map("CONTROL"))?;
        this.rate = clock::rate();
        let met = clock::read(&this.ebpf, &this.clock)?;
        this.sets = sets::Sets::of(&this.ebpf, Some(&this.pin_dir), met, this.rate)?.map(Arc::new);
        let named = this.slot_names()?.rules;
        this.counted.extend(named.iter().map(|(slot, ..)| *slot));
        if this.adopted {
            let live = this.table(this.generation() & 1)?;
            this.timeouts = live.settings.timeouts;
            this.cookies_asked = cookies::asked(&live);
            this.wanted = shortcut::Wanted::of(&live);
        }
        if owners::OwnerGate::is_pinned(&this.pin_dir) {
            let mut gate = owners::OwnerGate::open(&this.pin_dir, this.ring_bytes)?;
            gate.attach(owners::OwnerGate::sees_others(&this.pin_dir))?;
            this.owners = Some(gate);
        }
        for (name, mode) in &options.ifaces {
            this.attach(name, *mode)?;
        }
        stages::forget(&this.pin_dir);
        Ok(this)
    }

    /// Whether a running filter was found and taken over.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// The live generation; 0 if no policy was ever installed.
    pub fn generation(&self) -> u32 {
        self.control.get(&0, 0).map_or(0, |c| c.generation)
    }

    /// What [`Self::generation`] was when the live policy was installed.
    pub fn installed(&self) -> u32 {
        let of = |c: Control| if c.installed == 0 { c.generation } else { c.installed };
        self.control.get(&0, 0).map_or(0, of)
    }

    /// Who owns which slot.
    ///
    /// # Errors
    /// The kernel refused to read the maps.
    pub fn slot_names(&self) -> Result<SlotNames, DatapathError> {
        names::load(&self.rule_names, &self.iface_names)
    }

    /// Reads a table into the heap: it is far too large for a stack.
    fn table(&self, index: u32) -> Result<Box<RuleTable>, DatapathError> {
        let mut table: Box<RuleTable> = bytemuck::allocation::zeroed_box();
        raw::get(self.tables_fd.as_fd(), &index, &mut *table)
            .map_err(DatapathError::io("reading the live policy"))?;
        Ok(table)
    }

    /// Slot of an interface's name, taking a free one if it has none.
    fn iface_slot(&mut self, name: &str) -> Result<u8, DatapathError> {
        let known = names::load(&self.rule_names, &self.iface_names)?.ifaces;
        if let Some((slot, ..)) = known.iter().find(|(_, n, _)| n == name) {
            return Ok(*slot);
        }
        let slot = (1..IFACE_SLOTS as u8)
            .find(|s| known.iter().all(|(taken, ..)| taken != s))
            .ok_or_else(|| DatapathError::NoIfaceSlot {
                name: name.to_owned(),
                limit: IFACE_SLOTS - 1,
            })?;
        let generation = self.generation();
        names::store(&mut self.iface_names, "IFACE_NAMES", u32::from(slot), name, generation)?;
        Ok(slot)
    }

    /// Filters an interface; takes over what is attached there.
    ///
    /// # Errors
    /// There is no such interface, or no hook that was tried would do. Then nothing is attached.
    pub fn attach(&mut self, name: &str, mode: HookMode) -> Result<(), DatapathError> {
        let dev = netdev::find(name)?;
        if dev.ifindex as usize >= IFINDEX_LIMIT {
            let (name, ifindex) = (dev.name, dev.ifindex);
            return Err(DatapathError::IfindexTooHigh { name, ifindex, limit: IFINDEX_LIMIT });
        }
        let slot = self.iface_slot(name)?;
        let mut entry = netdev::entry(&dev, slot);
        // Until XDP is there, TC judges everything.
        self.ifaces.set(dev.ifindex, entry, 0).map_err(DatapathError::map("IFACES"))?;
        let (order, mut why) = mode::plan(mode, &dev);
        let mut chosen = None;
        let mut refusal = None;
        for how in order {
            let cookies = self.cookies_able;
            match links::ingress(&mut self.ebpf, &self.pin_dir, slot, &dev, how, cookies) {
                Ok(()) => {
                    chosen = Some(how);
                    break;
                }
                Err(e) => {
                    why = format!("{e}; fell back");
                    refusal = Some(e);
                }
            }
        }
        let Some(how) = chosen else {
            return Err(refusal.unwrap_or(DatapathError::BadMode { seen: mode.to_string() }));
        };
        if let Some(e) = refusal {
            log::warn!("{e}");
        }
        if how != mode::Ingress::Tc {
            entry.flags |= IFACE_XDP;
            if how == mode::Ingress::XdpGeneric {
                entry.flags |= IFACE_XDP_GENERIC;
            }
            self.ifaces.set(dev.ifindex, entry, 0).map_err(DatapathError::map("IFACES"))?;
        }
        links::egress(&mut self.ebpf, &self.pin_dir, slot, &dev)?;
        // What a driver takes may depend on the program that it now has.
        let shortcut = shortcut::Shortcut::of(&dev, how);
        entry.flags |= shortcut.flags;
        self.ifaces.set(dev.ifindex, entry, 0).map_err(DatapathError::map("IFACES"))?;
        if how != mode::Ingress::Tc && !dev.physical && dev.driver == "veth" {
            why.push_str(
                "; answers to rejected packets arrive only where the other end of the pair runs an \
                 XDP program too",
            );
        }
        self.interfaces.retain(|i| i.name != name);
        self.interfaces.push(IfaceView {
            name: name.to_owned(),
            ifindex: dev.ifindex,
            mode_asked: mode.to_string(),
            ingress: match how {
                mode::Ingress::Xdp => "xdp",
                mode::Ingress::XdpGeneric => "xdp-generic",
                mode::Ingress::Tc => links::tc_name(),
            }
            .to_owned(),
            egress: links::tc_name().to_owned(),
            why,
            fast_path: shortcut.fast_path.clone(),
            xsk_first: shortcut::first_queue(slot, how),
        });
        self.attached.retain(|place| place.dev.name != name);
        self.attached.push(Place { dev, how, shortcut });
        Ok(())
    }

    /// Filters an interface no more.
    ///
    /// # Errors
    /// The kernel refused to change a map.
    pub fn detach(&mut self, name: &str) -> Result<(), DatapathError> {
        let known = self.slot_names()?.ifaces;
        if let Some((slot, ..)) = known.iter().find(|(_, n, _)| n == name) {
            links::detach(&self.pin_dir, *slot, name);
        }
        if let Some(ifindex) = netdev::index(name) {
            self.ifaces.set(ifindex, Iface::default(), 0).map_err(DatapathError::map("IFACES"))?;
        }
        self.interfaces.retain(|i| i.name != name);
        self.attached.retain(|place| place.dev.name != name);
        Ok(())
    }

    /// The interfaces that take part.
    pub fn interfaces(&self) -> Vec<IfaceView> {
        self.interfaces.clone()
    }

    /// The live policy's time-outs, in ticks.
    pub fn timeouts(&self) -> [u32; TIMEOUTS] {
        self.timeouts
    }

    /// Hands over what is in the ring; returns how many. Programs never wake us: call it every 20 ms.
    pub fn drain(&mut self, each: &mut dyn FnMut(&Event)) -> usize {
        let mut n = 0;
        while let Some(item) = self.events.next() {
            if let Ok(event) = bytemuck::try_pod_read_unaligned::<Event>(&item) {
                each(&event);
                n += 1;
            }
        }
        n
    }

    /// Now, on all clocks.
    pub fn clock(&self) -> Clock {
        let reading = clock::read(&self.ebpf, &self.clock).unwrap_or_default();
        clock::now(reading, self.rate)
    }

    /// What can't be seen or done here, in plain words.
    pub fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        if !links::has_tcx() {
            limits.push(
                "this kernel has no TCX (Linux 6.6): TC filters hang on clsact qdiscs, and are \
                 replaced, not updated, when a new daemon starts"
                    .to_owned(),
            );
        }
        limits.extend(self.cookie_limits());
        let nat = self.control.get(&0, 0).is_ok_and(|control| control.nat != 0);
        for place in &self.attached {
            if nat && place.how == mode::Ingress::XdpGeneric {
                limits.push(format!(
                    "{}: under generic XDP, packets that come in and have to be translated are dropped \
                     (nat-impossible): use mode tc",
                    place.dev.name
                ));
            }
        }
        limits.extend(self.shortcut_limits());
        for i in &self.interfaces {
            if i.ingress == "xdp-generic" {
                limits.push(format!(
                    "{}: answers to rejected outgoing packets don't reach local programs under \
                     generic XDP",
                    i.name
                ));
            }
        }
        limits.push(
            "packets that bypass the kernel (AF_XDP zero-copy sockets, devices bound to DPDK, \
             hardware offloaded forwarding) are neither filtered nor counted"
                .to_owned(),
        );
        limits
    }

    /// Takes the filter down: links, programs, maps, pins.
    ///
    /// # Errors
    /// A pin couldn't be removed.
    pub fn unload(self) -> Result<(), DatapathError> {
        for (slot, name, _) in self.slot_names()?.ifaces {
            links::detach(&self.pin_dir, slot, &name);
        }
        let failed = |source| DatapathError::PinDir { path: self.pin_dir.clone(), source };
        for entry in std::fs::read_dir(&self.pin_dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            std::fs::remove_file(path).map_err(failed)?;
        }
        std::fs::remove_dir(&self.pin_dir).map_err(failed)
    }
}

fn load_error(e: &dyn std::error::Error) -> DatapathError {
    let text = chain(e);
    if text.contains("Operation not permitted") || text.contains("EPERM") {
        return DatapathError::NotPermitted;
    }
    DatapathError::Load(text)
}

fn load_programs(ebpf: &mut Ebpf) -> Result<(), DatapathError> {
    stages::load(ebpf)?;
    for name in ["sluice_tc_in", "sluice_tc_out", "sluice_cookies_in", "sluice_clock"] {
        let program: &mut SchedClassifier = ebpf
            .program_mut(name)
            .and_then(|p| p.try_into().ok())
            .ok_or_else(|| DatapathError::Load(format!("the object has no program {name}")))?;
        program.load().map_err(|e| load_error(&e))?;
    }
    let program: &mut Xdp = ebpf
        .program_mut("sluice_xdp")
        .and_then(|p| p.try_into().ok())
        .ok_or_else(|| DatapathError::Load("the object has no program sluice_xdp".to_owned()))?;
    program.load().map_err(|e| load_error(&e))
}
