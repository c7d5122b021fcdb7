//! The daemon: configuration, the core with its threads, the ways in, signals, systemd.

mod bindings;
pub mod config;
pub mod control;
mod destroy;
pub use destroy::outlook as destroy_outlook;
mod foreign;
pub mod history;
mod memory;
mod minutes;
mod past;
pub mod sockets;
#[cfg(test)]
pub(crate) mod testing;

use crate::{
    datapath::{Datapath, DatapathError, HookMode, Options},
    monitor::{Limits, Monitor, Tick},
    netfilter::{BindingSink, Follow, Netfilter},
    server::{
        api::Api,
        auth::{Auth, TokenError, load_or_make_token},
        listen::{ControlSocket, ListenError, bind_tcp, serve_tcp},
        origin::Origins,
        routes::{Server, router},
        ws::{Patience, hub::Hub},
    },
    store::{self, Deed, History, Origin},
};
use config::{Config, ConfigError, Interface};
use control::{Actor, Beginning, Control, ControlError, Facts, Gate};
use foreign::Foreign;
use history::NatChange;
use past::Endings;
use sd_notify::NotifyState;
use sockets::Sockets;
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
};

/// Ticks that may wait for the switchboard before the actor waits for it.
const TICKS_AHEAD: usize = 64;
/// How often the figures of following netfilter are brought to the statistics.
const NETFILTER_STATS: Duration = Duration::from_secs(1);
/// How long open connections may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(1500);

/// What the command line says instead of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Configuration file.
    pub config: Option<PathBuf>,
    /// Policy file.
    pub policy: Option<PathBuf>,
    /// Interfaces; empty leaves those of the configuration.
    pub interfaces: Vec<Interface>,
    /// The console's address.
    pub listen: Option<SocketAddr>,
    /// Where things are pinned.
    pub pin_dir: Option<PathBuf>,
    /// Where token and last good policy are kept.
    pub state_dir: Option<PathBuf>,
    /// Control socket.
    pub socket: Option<PathBuf>,
}

impl Overrides {
    fn load(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(self.config.as_deref())?;
        let replace = |slot: &mut PathBuf, value: &Option<PathBuf>| {
            if let Some(value) = value {
                slot.clone_from(value);
            }
        };
        replace(&mut config.policy, &self.policy);
        replace(&mut config.pin_dir, &self.pin_dir);
        replace(&mut config.state_dir, &self.state_dir);
        replace(&mut config.socket, &self.socket);
        if !self.interfaces.is_empty() {
            config.interface.clone_from(&self.interfaces);
        }
        if let Some(listen) = self.listen {
            config.server.listen = listen;
        }
        Ok(config)
    }
}

/// Why the daemon doesn't run.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// Its configuration.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// Its policy, or the core.
    #[error("{}", control::explain(.0))]
    Control(#[from] ControlError),
    /// The kernel's side.
    #[error("{}", brief(&.0.to_string()))]
    Datapath(#[from] DatapathError),
    /// The ways in.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// The token.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// Anything else of the system.
    #[error("{what}: {error}")]
    System {
        /// What was attempted.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// The thread that owns the gate ended by itself.
    #[error(
        "the thread that owns the filter has ended; the filter goes on, start the daemon again"
    )]
    CoreDied,
}

impl DaemonError {
    /// Whether the policy is to blame.
    pub fn is_policy(&self) -> bool {
        matches!(self, Self::Control(ControlError::Invalid(_) | ControlError::Unusable(_)))
    }
}

/// A program that the verifier refused comes with a log of megabytes, whose end is what matters.
fn brief(text: &str) -> String {
    const HEAD: usize = 4;
    const TAIL: usize = 24;
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= HEAD + TAIL {
        return text.to_owned();
    }
    let left_out = lines.len() - HEAD - TAIL;
    let (head, tail) = (&lines[..HEAD], &lines[HEAD + left_out..]);
    format!("{}\n[{left_out} lines left out]\n{}", head.join("\n"), tail.join("\n"))
}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> DaemonError {
    let what = what.into();
    move |error| DaemonError::System { what, error }
}

/// Whether this binary carries the kernel program.
pub const fn has_kernel_object() -> bool {
    !include_bytes!(concat!(env!("OUT_DIR"), "/sluice.bpf.o")).is_empty()
}

/// Runs until SIGTERM or SIGINT. The filter stays when the daemon goes.
///
/// # Errors
/// What kept it from starting, or ended it.
pub fn run(overrides: &Overrides) -> Result<(), DaemonError> {
    let config = overrides.load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sluice-serve")
        .enable_all()
        .build()
        .map_err(system("starting threads"))?;
    let done = runtime.block_on(serve(overrides, config));
    runtime.shutdown_timeout(Duration::from_millis(500));
    done
}

/// Takes the filter down.
///
/// # Errors
/// A daemon runs, or something couldn't be removed.
pub fn unload(overrides: &Overrides) -> Result<(), DaemonError> {
    let config = overrides.load()?;
    if !config.pin_dir.join("CONTROL").exists() {
        log::info!("nothing is loaded at {}", config.pin_dir.display());
        return Ok(());
    }
    Datapath::open(&options(&config, false))?.unload()?;
    log::info!("the filter at {} is down: nothing is filtered any more", config.pin_dir.display());
    Ok(())
}

fn hook_mode(mode: config::Mode) -> HookMode {
    match mode {
        config::Mode::Auto => HookMode::Auto,
        config::Mode::Xdp => HookMode::Xdp,
        config::Mode::XdpGeneric => HookMode::XdpGeneric,
        config::Mode::Tc => HookMode::Tc,
    }
}

fn options(config: &Config, attach: bool) -> Options {
    let ifaces = config.interface.iter().filter(|_| attach);
    Options {
        pin_dir: config.pin_dir.clone(),
        ifaces: ifaces.map(|iface| (iface.name.clone(), hook_mode(iface.mode))).collect(),
        max_flows: config.max_flows,
        ring_bytes: config.ring_bytes,
    }
}

fn open_gate(config: &Config) -> Result<Datapath, DaemonError> {
    mount_bpffs(&config.pin_dir);
    if config.interface.is_empty() {
        log::warn!("no interface is named, by `[[interface]]` or --iface: nothing is filtered");
    }
    let mut gate = Datapath::open(&options(config, true))?;
    // What an earlier daemon filtered and this one isn't meant to.
    for (_, name, _) in gate.slot_names()?.ifaces {
        if !config.interface.iter().any(|iface| iface.name == name) {
            gate.detach(&name)?;
        }
    }
    for iface in gate.interfaces() {
        log::info!(
            "{}: in at {}, out at {} ({})",
            iface.name,
            iface.ingress,
            iface.egress,
            iface.why
        );
    }
    Ok(gate)
}

/// Mounts a BPF file system where one is expected and missing; where that fails, opening the
/// datapath says what is wrong.
fn mount_bpffs(pin_dir: &Path) {
    let root = Path::new("/sys/fs/bpf");
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounted = mounts.lines().any(|line| line.split(' ').nth(1) == Some("/sys/fs/bpf"));
    if mounted || !pin_dir.starts_with(root) {
        return;
    }
    // SAFETY: all arguments are C strings or null.
    let result = unsafe {
        libc::mount(c"bpf".as_ptr(), c"/sys/fs/bpf".as_ptr(), c"bpf".as_ptr(), 0, std::ptr::null())
    };
    if result == 0 {
        log::info!("mounted a BPF file system at /sys/fs/bpf");
    } else {
        log::warn!("can't mount a BPF file system at /sys/fs/bpf: {}", io::Error::last_os_error());
    }
}

fn random_epoch() -> Result<String, TokenError> {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes).map_err(TokenError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

async fn serve(overrides: &Overrides, config: Config) -> Result<(), DaemonError> {
    let mut signals = Signals::new().map_err(system("listening to signals"))?;
    let mut builder = fs::DirBuilder::new();
    let what = format!("state directory {}", config.state_dir.display());
    builder.recursive(true).mode(0o700).create(&config.state_dir).map_err(system(what))?;
    // The ways in come first: a second daemon must fail before it touches anything.
    let tcp = bind_tcp(config.server.listen).await?;
    let listen = tcp.local_addr().map_err(system("asking for our own address"))?;
    let unix = ControlSocket::bind(&config.socket, &config.group)?;
    let token = load_or_make_token(&config.state_dir.join("token"))?;

    let last_good = config.state_dir.join("live.json");
    control::usable(&config.policy, &last_good)?;

    // Beside the filter: both take a while to load.
    let monitor = Arc::new(Mutex::new(Monitor::new(Limits::default())));
    let sockets = follow_sockets(&config, monitor.clone());
    let gate = open_gate(&config)?;
    log::info!(
        "{}",
        if gate.adopted() { "took over the running filter" } else { "loaded the filter" }
    );
    let facts = Facts {
        epoch: random_epoch()?,
        started: format!("{:.3}", jiff::Timestamp::now()),
        console: listen.to_string(),
        last_good,
        set_files: config.sets_dir.clone(),
        kept_sets: config.state_dir.join("sets"),
    };
    let epoch = facts.epoch.clone();
    let history = history::open(&config).map_err(system("starting a thread"))?;
    let hub = Arc::new(Hub::new(monitor.clone(), epoch));
    let core = Core::start(Box::new(gate), monitor.clone(), hub.clone(), history.clone())
        .map_err(system("starting a thread"))?;
    let Core { jobs, beat, started, mut died } = core;
    let (control, beginning) = Control::begin(jobs, monitor.clone(), facts, &config.policy).await?;
    match &beginning {
        Beginning::Kept => log::info!("policy {}: live already", config.policy.display()),
        Beginning::Installed => log::info!("policy {}: live", config.policy.display()),
        Beginning::LastGood(_) => log::warn!("policy: the last good one is live"),
    }

    let netfilter = follow_netfilter(&config, monitor.clone(), history.clone());
    if let Some(sockets) = &sockets {
        // Whoever finds us ready may count on the hooks.
        sockets.refresh().await;
    }
    let endings = match (&sockets, &history) {
        (Some(sockets), Some(history)) => Some(
            Endings::start(sockets.clone(), monitor.clone(), history.clone())
                .map_err(system("starting a thread"))?,
        ),
        _ => None,
    };
    let (stop, stopped) = watch::channel(false);
    let server = Arc::new(Server {
        api: Arc::new(
            Api::new(control.clone(), monitor, hub)
                .with_history(history.clone())
                .beside(netfilter)
                .with_sockets(sockets),
        ),
        auth: Auth::new(token, listen.port()),
        origins: Origins::new(listen, &config.server.hosts, &config.server.origins),
        patience: Patience::default(),
        stop: stopped.clone(),
        sessions: Server::session_slots(),
    });
    let router = router(server);
    let unix = tokio::spawn(unix.serve(router.clone(), stopped.clone()));
    let tcp = tokio::spawn(serve_tcp(tcp, router, stopped));
    log::info!("console at http://{listen}, commands at {}", config.socket.display());
    notify(&[NotifyState::Ready]);
    tokio::spawn(watchdog(beat, started));

    let ended = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Asked::Stop => break Ok(()),
                Asked::Reload => {
                    let done = reload(overrides, &control).await;
                    if let Some(history) = &history {
                        history.done(reloaded(done));
                    }
                }
            },
            _ = &mut died => break Err(DaemonError::CoreDied),
        }
    };
    notify(&[NotifyState::Stopping]);
    log::info!("stopping; the filter goes on");
    stop.send_replace(true);
    let goodbye = async {
        let _ = unix.await;
        let _ = tcp.await;
        // Sessions hold a receiver each.
        stop.closed().await;
    };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    control.keep_sets().await;
    control.stop();
    // What the core and the monitor of sockets still hold belongs to the history.
    let _ = tokio::time::timeout(GOODBYE, died).await;
    if let Some(endings) = endings {
        let _ = tokio::task::spawn_blocking(move || endings.stop()).await;
    }
    if let Some(history) = history {
        // What the last batch holds is written even where a session still has a handle.
        let closed = tokio::task::spawn_blocking(move || history.close(GOODBYE)).await;
        if !closed.unwrap_or(false) {
            log::warn!("history: the last records may be lost");
        }
    }
    ended
}

/// Follows the machine's sockets, if that is wanted. Whatever goes wrong with it, the daemon runs.
fn follow_sockets(config: &Config, model: Arc<Mutex<Monitor>>) -> Option<Sockets> {
    if !config.sockets.enabled {
        return None;
    }
    Sockets::start(model, config.sockets.names)
        .inspect_err(|error| log::error!("sockets aren't followed: starting a thread: {error}"))
        .ok()
}

/// Follows netfilter's connection tracking, if that is wanted. Whatever goes wrong with it, the daemon
/// does the rest.
fn follow_netfilter(
    config: &Config,
    monitor: Arc<Mutex<Monitor>>,
    history: Option<History>,
) -> Option<Netfilter> {
    if config.netfilter.enabled == Follow::Never {
        // What an earlier daemon had written down as live is nobody's to end any more.
        let (origin, at_ms) = (Origin::Netfilter, store::now_ms());
        history::record(history.as_ref(), [NatChange::OnlyLive { origin, ids: vec![], at_ms }]);
    }
    let mut foreign = Foreign::default();
    let sink: BindingSink =
        Box::new(move |told| history::record(history.as_ref(), foreign.told(told)));
    let started = Netfilter::start(config.netfilter.enabled, sink);
    let netfilter = started.unwrap_or_else(|error| {
        log::error!("netfilter's connection tracking isn't followed: starting a thread: {error}");
        None
    })?;
    let follower = netfilter.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(NETFILTER_STATS);
        loop {
            interval.tick().await;
            let stats = follower.stats();
            monitor.lock().unwrap_or_else(PoisonError::into_inner).netfilter(Some(stats));
        }
    });
    Some(netfilter)
}

/// A reload, for the history.
fn reloaded(done: Result<u32, String>) -> Deed {
    let (outcome, detail) = match done {
        Ok(generation) => ("done", format!("generation {generation}")),
        Err(why) => ("failed", why),
    };
    Deed {
        at_ms: store::now_ms(),
        who: "signal".to_owned(),
        verb: "reload".to_owned(),
        detail,
        outcome: outcome.to_owned(),
    }
}

/// Reads configuration and policy again; the generation that is live then, or why not. What can't be used leaves
/// everything as it was.
async fn reload(overrides: &Overrides, control: &Control) -> Result<u32, String> {
    let now = jiff::Timestamp::now();
    log::info!("reloading");
    if let Ok(monotonic) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, monotonic]);
    }
    let done = match overrides.load() {
        Err(error) => {
            log::error!("{error}; everything stays as it was");
            Err(error.to_string())
        }
        Ok(config) => {
            let wanted: Vec<_> = config
                .interface
                .iter()
                .map(|iface| (iface.name.clone(), iface.mode.name()))
                .collect();
            if let Err(error) = control.interfaces(&wanted).await {
                log::error!("{error}");
            }
            match control.reload(&config.policy).await {
                Ok(generation) => {
                    let file = config.policy.display();
                    log::info!("policy {file}: generation {generation} is live");
                    Ok(generation)
                }
                Err(error) => {
                    log::error!("{}", control::explain(&error));
                    log::error!(
                        "policy {} can't be used; what was live stays live",
                        config.policy.display()
                    );
                    Err(error.to_string())
                }
            }
        }
    };
    log::debug!("reload took {}", jiff::Timestamp::now() - now);
    notify(&[NotifyState::Ready]);
    done
}

/// The threads behind the desk.
struct Core {
    jobs: mpsc::Sender<control::Job>,
    beat: Arc<AtomicU64>,
    started: Instant,
    died: oneshot::Receiver<()>,
}

impl Core {
    fn start(
        gate: Box<dyn Gate>,
        monitor: Arc<Mutex<Monitor>>,
        hub: Arc<Hub>,
        history: Option<History>,
    ) -> io::Result<Self> {
        let (jobs, work) = mpsc::channel();
        let (ticks, published) = mpsc::sync_channel::<Tick>(TICKS_AHEAD);
        let beat = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let actor = Actor::new(gate, monitor, ticks, beat.clone(), started, history);
        let (alive, died) = oneshot::channel();
        thread::Builder::new().name("sluice-gate".into()).spawn(move || {
            // Dropped when the thread ends, also by a panic.
            let _alive: oneshot::Sender<()> = alive;
            actor.run(&work);
        })?;
        thread::Builder::new().name("sluice-hub".into()).spawn(move || {
            for tick in published {
                hub.publish(&tick);
            }
        })?;
        Ok(Self { jobs, beat, started, died })
    }
}

/// Tells systemd that we live, as long as the gate's thread does.
async fn watchdog(beat: Arc<AtomicU64>, started: Instant) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut interval = tokio::time::interval(patience / 2);
    loop {
        interval.tick().await;
        let last = Duration::from_millis(beat.load(Ordering::Relaxed));
        if started.elapsed().saturating_sub(last) < patience {
            notify(&[NotifyState::Watchdog]);
        } else {
            log::error!("the thread that owns the filter hangs since {last:?} after the start");
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("systemd can't be told: {error}");
    }
}

enum Asked {
    Stop,
    Reload,
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.term.recv() => Asked::Stop,
            _ = self.int.recv() => Asked::Stop,
            _ = self.hup.recv() => Asked::Reload,
        }
    }
}
