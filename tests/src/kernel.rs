//! The kernel half alone, without the daemon: loads the object into a namespace of its own, installs
//! policies, runs frames through it with BPF_PROG_TEST_RUN and reads the maps.
//!
//! The loader here is not the product's: it is a few lines that write the maps as `docs/abi.md`
//! describes them, so that the vectors test the kernel programs and the compiler and nothing else.

use crate::bpf::{Program, Run};
use crate::lab::NetNs;
use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use aya::{Ebpf, EbpfLoader, Pod};
use firewall_common::abi::ABI_VERSION;
use firewall_common::abi::clock::ClockReading;
use firewall_common::abi::control::{
    COOKIES_ON, COOKIES_SACK, COOKIES_SCALE, COOKIES_TIMESTAMPS, Control, CookieClock,
};
use firewall_common::abi::counter::{EventCounter, ReasonCounter, RuleCounter};
use firewall_common::abi::event::{CLASSES, Class};
use firewall_common::abi::flow::Flow4;
use firewall_common::abi::frag::{FragFirst, FragKey};
use firewall_common::abi::iface::Iface;
use firewall_common::abi::limit::Limited;
use firewall_common::abi::reason::{REASONS, Reason};
use firewall_common::abi::table::{
    RuleTable, SLOT_DEFAULT_IN, SLOT_DEFAULT_OUT, Settings, Verdict,
};
use firewall_common::flow::tcp::TcpState;
use firewall_user::datapath::kfunc;
use firewall_user::datapath::{rules::Arenas, sets::Sets, stages, table::Tables};
use firewall_user::monitor::FlowRecord;
use firewall_user::policy::{self, Compiled, Slots};
use firewall_user::sets::{Limits, Live};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Interfaces of the namespace: both exist, carry nothing, and are only there to have an index.
pub const INTERFACES: [&str; 2] = ["wan0", "lan0"];

/// A hook that frames can be run through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP, on the way in.
    Xdp,
    /// TC, on the way in.
    TcIn,
    /// TC, on the way out.
    TcOut,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Goes on.
    Pass,
    /// Vanished.
    Drop,
    /// Was turned into an answer, which goes back; at TC, where both are one, also what goes elsewhere.
    Answer,
    /// Goes elsewhere, past the stack.
    Away,
}

/// A flow as the table has it, its ends the right way round.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeenFlow {
    /// Source, source port, destination, destination port, protocol, of the original direction.
    pub ends: (IpAddr, u16, IpAddr, u16, u8),
    /// Packets, bytes, and the same of the reply direction.
    pub totals: [u64; 4],
}

/// Everything that counts, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By rule name: hits, packets, bytes. Only what isn't zero.
    pub rules: BTreeMap<String, [u64; 3]>,
    /// By verdict and reason: packets, bytes. Only what isn't zero.
    pub reasons: BTreeMap<(&'static str, &'static str), [u64; 2]>,
    /// By class: produced, lost, suppressed. Only what isn't zero.
    pub events: BTreeMap<&'static str, [u64; 3]>,
}

/// The loaded programs and their maps.
pub struct Kernel {
    ns: NetNs,
    ebpf: Ebpf,
    tables: Tables,
    control: Control,
    xdp: Program,
    tc_in: Program,
    tc_out: Program,
    ifindexes: Vec<u32>,
    arenas: Arenas,
    sets: Arc<Sets>,
    /// Indices of live sets that this case's policies declared.
    filled: BTreeSet<u8>,
    slots: Slots,
    generation: u32,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Kernel {
    /// Loads the object that `SLUICE_BPF_OBJECT` names, or skips under `test`'s name.
    ///
    /// # Panics
    /// Where it should load and doesn't.
    pub fn or_skip(test: &str) -> Option<Self> {
        if let Some(reason) = crate::skip::no_kernel_access() {
            crate::skip::skip(test, reason);
            return None;
        }
        let Some(object) = crate::skip::path_from_env("SLUICE_BPF_OBJECT") else {
            crate::skip::skip(test, "SLUICE_BPF_OBJECT isn't set (run `cargo xtask test`)");
            return None;
        };
        Some(Self::load(&std::fs::read(object).expect("a readable object")))
    }

    /// Loads an object.
    ///
    /// # Panics
    /// Where it doesn't load.
    pub fn load(object: &[u8]) -> Self {
        let ns = NetNs::new("gate").expect("a namespace");
        let [wan, lan] = INTERFACES;
        ns.ip(&["link", "add", wan, "type", "veth", "peer", "name", lan]).expect("two interfaces");
        for name in INTERFACES {
            ns.ip(&["link", "set", name, "up"]).expect("an interface up");
        }
        let pins = PathBuf::from(format!(
            "/sys/fs/bpf/sluice-test-{}-k{}",
            std::process::id(),
            COUNT.fetch_add(1, SeqCst)
        ));
        std::fs::create_dir_all(&pins).expect("a folder for pins");
        let linked = kfunc::link(object).expect("an object");
        let mut ebpf = EbpfLoader::new()
            .default_map_pin_directory(&pins)
            .load(&linked.object)
            .unwrap_or_else(|error| panic!("loading the object: {error:?}"));
        let mut program = |name: &str| {
            let program = ebpf
                .program_mut(name)
                .unwrap_or_else(|| panic!("the object has no program {name}"));
            let loaded = match program {
                aya::programs::Program::Xdp(program) => program.load(),
                aya::programs::Program::SchedClassifier(program) => program.load(),
                other => panic!("{name} is a {other:?}"),
            };
            loaded.unwrap_or_else(|error| {
                // The end of the verifier's log says what was wrong; all of it may be megabytes.
                let words = format!("{error:#?}");
                let end: Vec<&str> = words.lines().rev().take(40).collect();
                let end: Vec<&str> = end.into_iter().rev().collect();
                panic!("the verifier refuses {name}:\n{}", end.join("\n"))
            });
            Program::of(program.fd().expect("a loaded program"))
        };
        program("sluice_cookies_in");
        let (xdp, tc_in, tc_out) =
            (program("sluice_xdp"), program("sluice_tc_in"), program("sluice_tc_out"));
        stages::load(&mut ebpf).unwrap_or_else(|error| panic!("the stages: {error}"));
        let ifindexes = INTERFACES.map(|name| ns.ifindex(name).expect("an index")).to_vec();
        // Nobody else is to find these maps: the descriptors keep them alive, and a test that is killed
        // leaves nothing behind.
        for entry in std::fs::read_dir(&pins).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(entry.path());
        }
        let _ = std::fs::remove_dir(&pins);
        let [buckets4, buckets6, alias_buckets] = Tables::buckets(&ebpf).expect("tables");
        let arenas = Arenas::of(&ebpf).expect("arrays of rows");
        let control = Control {
            abi_version: ABI_VERSION,
            seed: 0x5eed,
            buckets4,
            buckets6,
            alias_buckets,
            cookie_key: [0xc00, 0x1e5],
            cookies: COOKIES_ON | COOKIES_TIMESTAMPS | COOKIES_SCALE | COOKIES_SACK,
            ..Control::default()
        };
        let tables = Tables::new(&ebpf, &control, 0).expect("mapped tables");
        // Entries of tests end never, so that any tick will do that the kernel's is past: what dies by a clock that is ahead
        // of it keeps its slot for good.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let monotonic_ns = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
        let met = ClockReading { ticks: 1_000, monotonic_ns };
        let sets = Sets::of(&ebpf, None, met, 250).expect("sets").expect("an object with sets");
        let mut kernel = Self {
            ns,
            ebpf,
            tables,
            control,
            xdp,
            tc_in,
            tc_out,
            ifindexes,
            arenas,
            sets: Arc::new(sets),
            filled: BTreeSet::new(),
            slots: Slots::new(),
            generation: 0,
        };
        for (i, name) in INTERFACES.iter().enumerate() {
            let slot = kernel.slots.hold_iface(name, 0).expect("a slot for an interface");
            let iface = Iface { slot: u32::from(slot), ..Iface::default() };
            let index = kernel.ifindexes[i];
            kernel.array::<Iface>("IFACES").set(index, iface, 0).expect("writing IFACES");
        }
        kernel
    }

    fn array<V: Pod>(&mut self, name: &str) -> Array<&mut MapData, V> {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
        Array::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn hash<K: Pod, V: Pod>(&mut self, name: &str) -> HashMap<&mut MapData, K, V> {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
        HashMap::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn per_cpu<V: Pod>(&self, name: &str) -> PerCpuArray<&MapData, V> {
        let map = self.ebpf.map(name).unwrap_or_else(|| panic!("no map {name}"));
        PerCpuArray::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The program at XDP.
    pub fn xdp(&self) -> &Program {
        &self.xdp
    }

    /// What the verifier walked of each program: those that packets enter by, and their stages. 0: the kernel doesn't tell.
    ///
    /// # Panics
    /// Where a program isn't loaded.
    pub fn verified_instructions(&self) -> Vec<(String, u32)> {
        let mut all = Vec::new();
        for (name, program) in self.ebpf.programs() {
            // Those that weren't loaded are nobody's.
            let Ok(info) = program.info() else { continue };
            all.push((name.to_owned(), info.verified_instruction_count().unwrap_or(0)));
        }
        all
    }

    /// Index of one of [`INTERFACES`].
    pub fn ifindex(&self, interface: usize) -> u32 {
        self.ifindexes[interface]
    }

    /// Gives interface number `interface` a first address, which masquerading and redirecting use.
    ///
    /// # Panics
    /// Where the map can't be written.
    pub fn set_address(&mut self, interface: usize, address: Ipv4Addr) {
        self.set_iface(interface, |iface| iface.address = address.octets());
    }

    /// Sets what is known of interface number `interface`: `IFACE_*`.
    ///
    /// # Panics
    /// Where the map can't be written.
    pub fn set_flags(&mut self, interface: usize, flags: u32) {
        self.set_iface(interface, |iface| iface.flags = flags);
    }

    /// Sets what is known of the hardware address of interface number `interface`.
    ///
    /// # Panics
    /// Where the map can't be written.
    pub fn set_mac(&mut self, interface: usize, mac: [u8; 6]) {
        self.set_iface(interface, |iface| iface.mac = mac);
    }

    fn set_iface(&mut self, interface: usize, change: impl FnOnce(&mut Iface)) {
        let index = self.ifindexes[interface];
        let mut map = self.array::<Iface>("IFACES");
        let mut iface = map.get(&index, 0).expect("reading IFACES");
        change(&mut iface);
        map.set(index, iface, 0).expect("writing IFACES");
    }

    /// Changes what the machine's TCP is said to take of cookies (`COOKIES_*`).
    ///
    /// # Panics
    /// Where the map can't be written.
    pub fn set_cookies(&mut self, flags: u32) {
        self.control.cookies = flags;
        let control = Control { generation: self.generation, ..self.control };
        self.array::<Control>("CONTROL").set(0, control, 0).expect("writing CONTROL");
    }

    /// The namespace with the interfaces.
    pub fn namespace(&self) -> &NetNs {
        &self.ns
    }

    /// Compiles a policy and makes it the live one. Samples and answers have no limit, so that nothing
    /// depends on how fast a test runs.
    ///
    /// # Panics
    /// Where it isn't one.
    pub fn install(&mut self, text: &str) {
        self.install_with(text, |settings| {
            settings.reject_budget = u32::MAX;
            settings.sample_budget = u32::MAX;
            settings.new_budget = u32::MAX;
            settings.stream_after = u32::MAX;
            // One window for all of a test: what is counted in it doesn't hang on the clock.
            settings.budget_window = 1 << 31;
        });
    }

    /// As [`Kernel::install`], with the limits that the policy asks for, in the kernel's units: windows
    /// of an eighth of a second (taking 250 ticks for one), shared between the CPUs.
    ///
    /// # Panics
    /// Where the text isn't a policy.
    pub fn install_limited(&mut self, text: &str) {
        let cpus = aya::util::nr_cpus().map_or(1, |n| n as u32);
        self.install_with(text, |settings| {
            settings.reject_budget = settings.reject_budget.div_ceil(8 * cpus);
            settings.sample_budget = settings.sample_budget.div_ceil(8 * cpus);
            settings.new_budget = u32::MAX;
            settings.stream_after = u32::MAX;
            settings.budget_window = 31;
        });
    }

    fn install_with(&mut self, text: &str, limits: impl FnOnce(&mut Settings)) {
        let parsed = policy::parse(text, "test")
            .unwrap_or_else(|error| panic!("{}\n{text}", error.render(false)));
        let next = self.generation + 1;
        let compiled = policy::compile(&parsed, &mut self.slots, next)
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        self.fill_sets(&compiled);
        let mut table: Box<RuleTable> = compiled.table;
        // Milliseconds are taken as ticks: at least as long as meant.
        limits(&mut table.settings);
        self.arenas.put(next & 1, table.size, &compiled.arena).expect("writing the rows");
        self.array::<RuleTable>("TABLES").set(next & 1, table.as_ref(), 0).expect("writing TABLES");
        // As the daemon does: once something was translated, tuples may stand for other flows.
        if table.settings.nat_in | table.settings.nat_out != 0 {
            self.control.nat = 1;
        }
        self.control.generation = next;
        let control = self.control;
        self.array::<Control>("CONTROL").set(0, control, 0).expect("writing CONTROL");
        self.generation = next;
    }

    /// Gives live sets what the policy says, those that no policy declared since [`Self::forget_sets`].
    fn fill_sets(&mut self, compiled: &Compiled) {
        for (index, declared) in &compiled.sets {
            if !self.filled.insert(*index) {
                continue;
            }
            let live = Live::at(self.sets.clone(), *index);
            // Room for what rules add, whichever.
            let limits = Limits { size: declared.size, grows: true };
            if live.head().class == 0 {
                live.begin(&limits, declared.kind, &declared.entries).expect("a set");
                continue;
            }
            assert_eq!(live.kind(), declared.kind, "sets of one name are of one kind");
            let old: Vec<_> = live.entries().expect("entries").iter().map(|(e, _)| *e).collect();
            live.delete(&old).expect("entries that go");
            live.add(&limits, &declared.entries).expect("entries");
        }
    }

    /// The next policy fills its live sets anew.
    pub fn forget_sets(&mut self) {
        self.filled.clear();
    }

    /// Packets over a rule's limit.
    ///
    /// # Panics
    /// Where there is no such rule.
    pub fn over(&self, rule: &str) -> u64 {
        let slot = self.slots.rule(rule).expect("a rule");
        let map = self.ebpf.map("LIMITS").expect("a map");
        let limits: Array<_, Limited> = Array::try_from(map).expect("an array");
        limits.get(&slot, 0).expect("an entry").over
    }

    /// What a live set holds, sorted.
    ///
    /// # Panics
    /// Where there is none of that name.
    pub fn set(&self, name: &str) -> Vec<String> {
        let index = self.slots.set(name).expect("a set");
        let live = Live::at(self.sets.clone(), index);
        let all = live.entries().expect("entries");
        let mut all: Vec<String> = all.iter().map(|(entry, _)| entry.to_string()).collect();
        all.sort();
        all
    }

    /// Runs a frame through a hook of interface number `interface`. The calling thread must be in
    /// [`Kernel::namespace`]. `None`: the kernel doesn't do test runs on such a frame (below an
    /// Ethernet header; at TC, which gets no such thing from a link, also below a whole IP header).
    ///
    /// # Panics
    /// Where the kernel refuses the run or the program returns what no program of ours does.
    pub fn run(&self, hook: Hook, interface: usize, frame: &[u8]) -> Option<(Fate, Vec<u8>)> {
        let index = self.ifindexes[interface];
        let run = match hook {
            Hook::Xdp => self.xdp.run_xdp(frame, index),
            Hook::TcIn => self.tc_in.run_tc(frame, index),
            Hook::TcOut => self.tc_out.run_tc(frame, index),
        };
        if frame.len() < 54
            && run.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
        {
            return None;
        }
        let Run { code, data } =
            run.unwrap_or_else(|error| panic!("{hook:?} of {} bytes: {error}", frame.len()));
        let fate = match (hook, code.cast_signed()) {
            // XDP_PASS, XDP_DROP, XDP_TX, XDP_REDIRECT; TC_ACT_UNSPEC, TC_ACT_SHOT, TC_ACT_REDIRECT.
            (Hook::Xdp, 2) | (_, -1) => Fate::Pass,
            (Hook::Xdp, 1) => Fate::Drop,
            (Hook::Xdp, 4) => Fate::Away,
            (Hook::Xdp, 3) | (Hook::TcIn | Hook::TcOut, 7) => Fate::Answer,
            (Hook::TcIn | Hook::TcOut, 2) => Fate::Drop,
            (_, other) => panic!("{hook:?} returned {other}"),
        };
        Some((fate, data))
    }

    /// Back to the time before the first policy.
    ///
    /// # Panics
    /// Where the map can't be written.
    pub fn forget_policy(&mut self) {
        let control = Control { generation: 0, ..self.control };
        self.array::<Control>("CONTROL").set(0, control, 0).expect("writing CONTROL");
    }

    /// Every counter.
    pub fn counters(&mut self) -> Counters {
        let mut all = Counters::default();
        let rules = self.per_cpu::<RuleCounter>("RULE_COUNTERS");
        let named = self.slots.rules().map(|(slot, owner)| (slot, owner.name.clone()));
        let defaults = [
            (SLOT_DEFAULT_IN, "default in".to_owned()),
            (SLOT_DEFAULT_OUT, "default out".to_owned()),
        ];
        for (slot, name) in named.chain(defaults) {
            let each = rules.get(&slot, 0).expect("a counter");
            let sum = each
                .iter()
                .fold([0; 3], |sum, c| [sum[0] + c.hits, sum[1] + c.packets, sum[2] + c.bytes]);
            if sum != [0; 3] {
                all.rules.insert(name, sum);
            }
        }
        let reasons = self.per_cpu::<ReasonCounter>("REASON_COUNTERS");
        for index in 0..4 * REASONS as u32 {
            let each = reasons.get(&index, 0).expect("a counter");
            let sum = each.iter().fold([0; 2], |sum, c| [sum[0] + c.packets, sum[1] + c.bytes]);
            if sum != [0; 2] {
                let verdict =
                    Verdict::try_from((index as usize / REASONS) as u8).expect("a verdict");
                let reason = Reason::try_from((index as usize % REASONS) as u8).expect("a reason");
                all.reasons.insert((verdict.name(), reason.name()), sum);
            }
        }
        let events = self.array::<EventCounter>("EVENT_COUNTERS");
        for class in 0..CLASSES as u32 {
            let c = events.get(&class, 0).expect("a counter");
            let all_of = [c.produced, c.lost, c.suppressed];
            if all_of != [0; 3] {
                all.events.insert(Class::try_from(class as u8).expect("a class").name(), all_of);
            }
        }
        all
    }

    /// Every flow in the table, sorted.
    pub fn flows(&mut self) -> Vec<SeenFlow> {
        let mut all: Vec<SeenFlow> = self.records().iter().map(seen).collect();
        all.sort();
        all
    }

    /// Every flow with all that the table knows of it.
    pub fn records(&self) -> Vec<FlowRecord> {
        self.tables.all()
    }

    /// The tables in place.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Writes the TCP state of the only IPv4 flow, as another CPU may at the same time.
    ///
    /// # Panics
    /// Where there is no such flow.
    pub fn overwrite_state(&mut self, state: TcpState) {
        let id = self.records()[0].flow.id;
        let mut flows = self.array::<[u8; size_of::<Flow4>()]>("FLOWS4");
        for slot in 0..flows.len() {
            let mut record: Flow4 = bytemuck::cast(flows.get(&slot, 0).expect("reading FLOWS4"));
            if record.flow.id == id {
                record.flow.tcp_state = state as u8;
                return flows.set(slot, bytemuck::cast::<_, [u8; _]>(record), 0).expect("writing");
            }
        }
        panic!("no flow {id:x}");
    }

    /// Forgets flows, fragments, cookies and counts; the policy stays.
    pub fn clear(&mut self) {
        self.tables.clear();
        clear_hash(&mut self.hash::<FragKey, FragFirst>("FRAGMENTS"));
        let mut cookies = self.array::<CookieClock>("COOKIES");
        cookies.set(0, CookieClock::default(), 0).expect("writing COOKIES");
        self.zero::<[u64; 3]>("BUDGETS", &[0]);
        let counters = self.counters();
        let mut slots: Vec<u32> = vec![SLOT_DEFAULT_IN, SLOT_DEFAULT_OUT];
        slots.extend(counters.rules.keys().filter_map(|name| self.slots.rule(name)));
        self.zero::<RuleCounter>("RULE_COUNTERS", &slots);
        let reasons: Vec<u32> = counters
            .reasons
            .keys()
            .filter_map(|(verdict, reason)| {
                let (verdict, reason) = (Verdict::from_name(verdict)?, Reason::from_name(reason)?);
                Some(u32::from(verdict.raw()) * REASONS as u32 + u32::from(reason.raw()))
            })
            .collect();
        self.zero::<ReasonCounter>("REASON_COUNTERS", &reasons);
        let mut events = self.array::<EventCounter>("EVENT_COUNTERS");
        for class in 0..CLASSES as u32 {
            events.set(class, EventCounter::default(), 0).expect("writing EVENT_COUNTERS");
        }
    }

    fn zero<V: Pod + Default>(&mut self, name: &str, indexes: &[u32]) {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
        let mut map: PerCpuArray<_, V> = PerCpuArray::try_from(map).expect("a per-CPU map");
        let cpus = aya::util::nr_cpus().expect("a number of CPUs");
        for index in indexes {
            let zeros = (0..cpus).map(|_| V::default()).collect::<Vec<_>>();
            map.set(*index, zeros.try_into().expect("a value for each CPU"), 0)
                .expect("a counter set to zero");
        }
    }
}

fn clear_hash<K: Pod, V: Pod>(map: &mut HashMap<&mut MapData, K, V>) {
    let keys: Vec<K> = map.keys().flatten().collect();
    for key in keys {
        let _ = map.remove(&key);
    }
}

/// An address of a record as the standard library has it.
fn address(family: u8, wide: [u8; 16]) -> IpAddr {
    if family == 4 {
        IpAddr::from([wide[0], wide[1], wide[2], wide[3]])
    } else {
        IpAddr::from(wide)
    }
}

fn seen(record: &FlowRecord) -> SeenFlow {
    let r = record;
    // An ICMP query has one identifier, which both ends of its key carry.
    let dport = if matches!(r.proto, 1 | 58) { r.sport } else { r.dport };
    let flow = &r.flow;
    SeenFlow {
        ends: (address(r.family, r.src), r.sport, address(r.family, r.dst), dport, r.proto),
        totals: [flow.packets, flow.bytes, flow.reply_packets, flow.reply_bytes],
    }
}
