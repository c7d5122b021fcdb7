//! A daemon without a kernel, for tests of everything above the gate.

use super::{
    Core,
    control::{Beginning, Control, ControlError, Facts, Gate, GateError},
};
use crate::{
    datapath::{
        owners::{OwnerKeys, OwnerPolicy},
        programs::Ways,
    },
    monitor::{Clock, CounterInput, FlowRecord, Limits, Monitor, NatReading},
    policy::{Compiled, Slots, live::Patch},
    server::{
        api::Api,
        auth::Auth,
        listen::{ControlSocket, serve_tcp},
        origin::Origins,
        routes::{Server, router},
        ws::{Patience, hub::Hub},
    },
    sets::{Ground, testing::HeapGround},
    store::{self, History},
    view::IfaceView,
};
use firewall_common::abi::{
    event::{Class, Event},
    flow::{Flow, Judgement, bits},
    table::Verdict,
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::sync::watch;

/// The token of every test daemon.
pub const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// What the pretended kernel holds; tests put things in.
#[derive(Debug, Default)]
pub struct Kernel {
    pub generation: u32,
    /// What it was when the live policy was installed, if it has changed since.
    pub installed: u32,
    pub adopted: bool,
    pub slots: Slots,
    pub interfaces: Vec<IfaceView>,
    pub ring: Vec<Event>,
    pub flows: Vec<FlowRecord>,
    pub expired: Vec<FlowRecord>,
    pub counters: CounterInput,
    pub nat: NatReading,
    /// Changes of single rules.
    pub patches: Vec<Patch>,
    /// The next installation, or change of a single rule, fails with this.
    pub refuses: Option<String>,
    pub now_ms: u64,
    /// Where live sets stand.
    pub sets: Arc<HeapGround>,
    /// How often flows were to be judged anew.
    pub rejudged: u32,
    pub next_seq: [u64; 5],
}

impl Kernel {
    /// Numbers and writes `n` verdict events; every event's source port is its number.
    pub fn verdicts(&mut self, n: u64) {
        for _ in 0..n {
            let event = self.event(Class::Verdict);
            self.ring.push(event);
        }
    }

    /// Numbers `n` events of a class that find the ring full.
    pub fn lose(&mut self, class: Class, n: u64) {
        self.next_seq[usize::from(class.raw())] += n;
        self.count();
    }

    fn count(&mut self) {
        for (counter, produced) in self.counters.events.iter_mut().zip(self.next_seq) {
            counter.produced = produced;
        }
    }

    fn event(&mut self, class: Class) -> Event {
        let seq = self.next_seq[usize::from(class.raw())];
        self.next_seq[usize::from(class.raw())] += 1;
        self.count();
        let mut event = Event {
            seq,
            time_ns: self.now_ms * 1_000_000,
            class: class.raw(),
            verdict: Verdict::Drop.raw(),
            family: 4,
            proto: 17,
            sport: (seq as u16).to_be_bytes(),
            dport: 53u16.to_be_bytes(),
            ifindex: 7,
            frame_len: 60,
            ..Event::default()
        };
        event.src[..4].copy_from_slice(&[10, 0, 0, 1]);
        event.dst[..4].copy_from_slice(&[10, 0, 0, 2]);
        event
    }

    /// A flow with this id and so many packets.
    pub fn flow(id: u64, packets: u64) -> FlowRecord {
        FlowRecord {
            family: 4,
            proto: 6,
            src: [10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            dst: [10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            sport: id as u16,
            dport: 80,
            ifindex: 0,
            nat: None,
            flow: Flow {
                id,
                packets,
                bytes: packets * 100,
                first: 1,
                last: 1,
                bits: bits::SEEN_REPLY,
                judged_in: Judgement::new(1, 16, Verdict::Allow.raw()),
                if_in: 1,
                tcp_state: 3,
                ..Flow::default()
            },
        }
    }
}

#[derive(Clone, Debug, Default)]
struct MemoryGate(Arc<Mutex<Kernel>>);

impl MemoryGate {
    fn kernel(&self) -> std::sync::MutexGuard<'_, Kernel> {
        self.0.lock().expect("no test panics with it locked")
    }
}

impl Gate for MemoryGate {
    fn adopted(&self) -> bool {
        self.kernel().adopted
    }
    fn generation(&self) -> u32 {
        self.kernel().generation
    }
    fn installed(&self) -> u32 {
        let kernel = self.kernel();
        if kernel.installed == 0 { kernel.generation } else { kernel.installed }
    }
    fn slots(&self) -> Result<Slots, GateError> {
        let kernel = self.kernel();
        let mut slots = kernel.slots.clone();
        for (index, name) in kernel.sets.names() {
            slots.restore_set(index, &name, kernel.generation);
        }
        Ok(slots)
    }
    fn refresh_owners(
        &mut self,
        look: &mut dyn FnMut() -> Option<OwnerKeys>,
    ) -> Result<(), GateError> {
        look();
        Ok(())
    }
    fn install(
        &mut self,
        _: &Compiled,
        slots: &Slots,
        generation: u32,
        _: Option<&OwnerPolicy>,
    ) -> Result<u32, GateError> {
        let mut kernel = self.kernel();
        if let Some(refusal) = kernel.refuses.take() {
            return Err(GateError(refusal));
        }
        assert_eq!(generation, kernel.generation + 1);
        kernel.slots = slots.clone();
        (kernel.generation, kernel.installed) = (generation, generation);
        Ok(generation)
    }
    fn patch(
        &mut self,
        patch: &Patch,
        generation: u32,
        _: Option<(u32, &str)>,
    ) -> Result<u32, GateError> {
        let mut kernel = self.kernel();
        if let Some(refusal) = kernel.refuses.take() {
            return Err(GateError(refusal));
        }
        let installed = if kernel.installed == 0 { kernel.generation } else { kernel.installed };
        assert_eq!(generation, installed);
        if !patch.changes {
            return Ok(installed);
        }
        kernel.patches.push(patch.clone());
        kernel.generation += 2;
        kernel.installed = kernel.generation;
        Ok(kernel.generation)
    }
    fn ways(&self) -> Ways {
        Ways::default()
    }
    fn attach(&mut self, name: &str, mode: &str) -> Result<(), GateError> {
        if name.starts_with("no") {
            return Err(GateError(format!("no interface named `{name}`; there are: lo")));
        }
        let view = IfaceView { name: name.into(), mode_asked: mode.into(), ..IfaceView::default() };
        self.kernel().interfaces.push(view);
        Ok(())
    }
    fn detach(&mut self, name: &str) -> Result<(), GateError> {
        self.kernel().interfaces.retain(|iface| iface.name != name);
        Ok(())
    }
    fn interfaces(&self) -> Vec<IfaceView> {
        self.kernel().interfaces.clone()
    }
    fn flows(&self, _: Option<u64>) -> Result<Vec<FlowRecord>, GateError> {
        Ok(self.kernel().flows.clone())
    }
    fn part(&self, part: usize, parts: usize, translated: bool) -> Vec<FlowRecord> {
        let kernel = self.kernel();
        let wanted = kernel.flows.iter().filter(|flow| !translated || flow.nat.is_some());
        let wanted: Vec<FlowRecord> = wanted.copied().collect();
        let n = wanted.len();
        wanted[n * part / parts..n * (part + 1) / parts].to_vec()
    }
    fn nat_reading(&mut self) -> NatReading {
        self.kernel().nat.clone()
    }
    fn sweep(&mut self, _: usize) -> Result<Vec<FlowRecord>, GateError> {
        Ok(std::mem::take(&mut self.kernel().expired))
    }
    fn kill(
        &mut self,
        choose: &mut dyn FnMut(&FlowRecord) -> bool,
    ) -> Result<Vec<FlowRecord>, GateError> {
        Ok(self.kernel().flows.extract_if(.., |flow| choose(flow)).collect())
    }
    fn interfaces_changed(&mut self) -> bool {
        false
    }
    fn follow(&mut self) {}
    fn counters(&self) -> Result<CounterInput, GateError> {
        Ok(self.kernel().counters.clone())
    }
    fn reset_counters(&mut self) -> Result<(), GateError> {
        let mut kernel = self.kernel();
        kernel.counters.rules.clear();
        kernel.counters.reasons.clear();
        Ok(())
    }
    fn drain(&mut self, each: &mut dyn FnMut(&Event)) -> usize {
        let ring = std::mem::take(&mut self.kernel().ring);
        ring.iter().for_each(each);
        ring.len()
    }
    fn clock(&self) -> Clock {
        let now_ms = self.kernel().now_ms;
        Clock {
            unix_ns: 1_700_000_000_000_000_000 + (now_ms * 1_000_000) as i64,
            monotonic_ns: now_ms * 1_000_000,
            ticks: 1_000 + now_ms / 4,
            tick_ns: 4_000_000,
            tick_zero_ns: None,
        }
    }
    fn limits(&self) -> Vec<String> {
        Vec::new()
    }
    fn sets(&self) -> Option<Arc<dyn Ground>> {
        Some(self.kernel().sets.clone())
    }
    fn rejudge(&mut self) -> Result<(), GateError> {
        let mut kernel = self.kernel();
        kernel.rejudged += 1;
        kernel.installed = if kernel.installed == 0 { kernel.generation } else { kernel.installed };
        kernel.generation += 2;
        Ok(())
    }
}

/// A running daemon. Stops when dropped.
pub struct TestDaemon {
    pub kernel: Arc<Mutex<Kernel>>,
    pub control: Control,
    pub monitor: Arc<Mutex<Monitor>>,
    pub beginning: Beginning,
    pub address: SocketAddr,
    pub dir: PathBuf,
    pub epoch: String,
    pub stop: watch::Sender<bool>,
    pub history: History,
    /// Goes last, after everything that may have files in it.
    owned: Option<TestDir>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A directory of the test's own. It goes when this is dropped.
#[derive(Debug)]
pub struct TestDir(PathBuf);

/// Makes one.
pub fn directory() -> TestDir {
    let dir = std::env::temp_dir().join(format!(
        "sluice-unit-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    ));
    std::fs::create_dir_all(&dir).expect("temporary directory");
    TestDir(dir)
}

impl std::ops::Deref for TestDir {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        // A thread that hasn't ended yet may put a file in while the others are removed.
        for _ in 0..100 {
            match std::fs::remove_dir_all(&self.0) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                Ok(()) | Err(_) => return,
            }
        }
    }
}

impl TestDaemon {
    /// With this policy.
    pub async fn start(policy: &str) -> Self {
        Self::start_with(policy, Patience::default()).await
    }

    /// With this policy and this patience.
    pub async fn start_with(policy: &str, patience: Patience) -> Self {
        let dir = directory();
        std::fs::write(dir.join("policy"), policy).expect("policy written");
        let started = Self::start_on(&dir, Kernel::default(), patience).await;
        let mut daemon = started.expect("the daemon starts");
        daemon.owned = Some(dir);
        daemon
    }

    /// In a directory that has everything, over this kernel.
    pub async fn start_on(
        dir: &Path,
        kernel: Kernel,
        patience: Patience,
    ) -> Result<Self, ControlError> {
        let gate = MemoryGate(Arc::new(Mutex::new(kernel)));
        let kernel = gate.0.clone();
        let limits = Limits { events_kept: 100_000, ..Limits::default() };
        let monitor = Arc::new(Mutex::new(Monitor::new(limits)));
        let epoch = format!("epoch-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let hub = Arc::new(Hub::new(monitor.clone(), epoch.clone()));
        let core =
            Core::start(Box::new(gate), monitor.clone(), hub.clone(), None).expect("threads");
        let facts = Facts {
            epoch: epoch.clone(),
            started: String::new(),
            console: String::new(),
            last_good: dir.join("live.json"),
            set_files: dir.join("lists"),
            kept_sets: dir.join("sets"),
        };
        let (control, beginning) =
            Control::begin(core.jobs, monitor.clone(), facts, &dir.join("policy")).await?;
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = tcp.local_addr().expect("bound");
        let history = History::open(&dir.join("history.db"), store::Limits::default());
        let history = history.expect("a thread");
        let (stop, stopped) = watch::channel(false);
        let server = Arc::new(Server {
            api: Arc::new(
                Api::new(control.clone(), monitor.clone(), hub).with_history(Some(history.clone())),
            ),
            auth: Auth::new(TOKEN.to_owned(), address.port()),
            origins: Origins::new(address, &[], &[]),
            patience,
            stop: stopped.clone(),
            sessions: Server::session_slots(),
        });
        let router = router(server);
        let unix = ControlSocket::bind(&dir.join("sock"), "no-such-group-here").expect("a socket");
        tokio::spawn(unix.serve(router.clone(), stopped.clone()));
        tokio::spawn(serve_tcp(tcp, router, stopped));
        let (dir, owned) = (dir.to_owned(), None);
        Ok(Self { kernel, control, monitor, beginning, address, dir, epoch, stop, history, owned })
    }

    /// The pretended kernel.
    pub fn kernel(&self) -> std::sync::MutexGuard<'_, Kernel> {
        self.kernel.lock().expect("no test panics with it locked")
    }
}

impl Drop for TestDaemon {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.control.stop();
        // It would make its directory anew.
        self.history.close(std::time::Duration::from_secs(5));
    }
}
