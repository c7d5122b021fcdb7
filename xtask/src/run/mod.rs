//! `cargo xtask run`: Sluice at a gate with real traffic, until Ctrl-C.
//!
//! Everything that is started is written down below `/run/sluice-NAME` first, so that what a
//! killed run has left is found and taken away by the next one.

mod leftovers;
mod place;
mod proxy;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::build;
use crate::ctx::{Ctx, Profile};
use crate::lab::{GATE_IFACES, Lab, Place};
use crate::setup::{self, Need};
use crate::step::{describe, end_group, interrupted, probe, say, tail};
use place::Dirs;

/// How long the daemon may take until it answers.
const START: Duration = Duration::from_secs(30);

/// What `run` was asked for.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Run on this interface of the machine, with a policy that only watches, instead of the lab
    #[arg(long, value_name = "NAME")]
    iface: Option<String>,
    /// Stop by itself after this many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// The console's port on 127.0.0.1
    #[arg(long, default_value_t = 8470)]
    port: u16,
    /// The policy to begin with, instead of the lab's or the one that only watches
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The lab's name; runs of different names (and ports) stand side by side
    #[arg(long, default_value = "run")]
    name: String,
    /// Make no traffic
    #[arg(long)]
    quiet: bool,
    /// The profile of the binary
    #[arg(long, value_enum, default_value = "release")]
    profile: Profile,
}

/// Builds, starts, waits, takes down.
pub fn run(ctx: &Ctx, args: &RunArgs) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("a packet filter needs root: sudo -E env PATH=\"$PATH\" cargo xtask run");
    }
    let lab = Lab::named(&args.name)?;
    if let Some(iface) = &args.iface
        && !Path::new("/sys/class/net").join(iface).exists()
    {
        let there: Vec<String> = std::fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        bail!("no interface {iface}; there are: {}", there.join(", "));
    }
    let dirs = Dirs::new(&args.name);
    let _lock = leftovers::lock(&args.name)?;
    setup::ensure(ctx, &[Need::Build, Need::Lab])?;
    let binary = build::all(ctx, args.profile)?;
    place::mount_bpffs()?;
    if leftovers::clear(&dirs, &lab, &binary)? {
        say("        took away what an earlier run had left");
    }
    if interrupted() {
        bail!("interrupted");
    }

    let mut stage =
        Stage { ctx, lab: &lab, dirs: &dirs, binary: &binary, children: Vec::new(), down: false };
    let ended = stage.play(args);
    let down = stage.take_down();
    ended.and(down)
}

/// What stands while a run lasts.
struct Stage<'a> {
    ctx: &'a Ctx,
    lab: &'a Lab,
    dirs: &'a Dirs,
    binary: &'a Path,
    children: Vec<Actor>,
    down: bool,
}

/// A process of the run.
struct Actor {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Stage<'_> {
    fn play(&mut self, args: &RunArgs) -> Result<()> {
        let console = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
        let listener = TcpListener::bind(console).map_err(|e| {
            anyhow!("cannot listen at {console} for the console ({e}); choose another with --port")
        })?;
        place::prepare(self.ctx, self.dirs, args.policy.as_deref(), args.iface.is_some())?;
        let ifaces: Vec<String> = match &args.iface {
            Some(name) => {
                // The daemon listens there itself.
                drop(listener);
                vec![name.clone()]
            }
            None => {
                self.lab.up()?;
                proxy::start(listener, self.lab, console)?;
                GATE_IFACES.iter().map(|&name| name.to_owned()).collect()
            }
        };
        self.start_daemon(args, console, &ifaces)?;
        if args.iface.is_none() && !args.quiet {
            self.start_traffic("server", Place::Server)?;
            self.start_traffic("client", Place::Client)?;
        }
        self.announce(args, console, &ifaces);
        self.watch(args.seconds)
    }

    fn start_daemon(
        &mut self,
        args: &RunArgs,
        console: SocketAddr,
        ifaces: &[String],
    ) -> Result<()> {
        let started = Instant::now();
        let mut command = match args.iface {
            Some(_) => Command::new(self.binary),
            None => self.lab.command(Place::Gate, &self.binary.display().to_string()),
        };
        command.args(self.dirs.daemon_args());
        command.arg("--listen").arg(console.to_string());
        for iface in ifaces {
            command.arg("--iface").arg(iface);
        }
        self.start("daemon", command)?;
        let until = Instant::now() + START;
        loop {
            self.all_alive()?;
            if interrupted() {
                bail!("interrupted");
            }
            let status = probe(
                Command::new(self.binary).arg("--socket").arg(self.dirs.socket()).arg("status"),
                Duration::from_secs(5),
            );
            if status.is_some() {
                break;
            }
            if Instant::now() > until {
                bail!(
                    "the daemon does not answer within {} s:\n{}",
                    START.as_secs(),
                    self.log_tail("daemon")
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        say(&format!(
            "    ok  daemon on {} {:.1} s",
            ifaces.join(", "),
            started.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    fn start_traffic(&mut self, role: &'static str, place: Place) -> Result<()> {
        let me = std::env::current_exe().context("cannot find xtask itself")?;
        let mut command = self.lab.command(place, &me.display().to_string());
        command.args(["traffic", role]);
        self.start(role, command)
    }

    fn start(&mut self, name: &'static str, mut command: Command) -> Result<()> {
        let logs = self.ctx.scratch().join("logs");
        std::fs::create_dir_all(&logs)?;
        let log = logs.join(format!("run-{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start the {name}"))?;
        leftovers::note(self.dirs, child.id())?;
        self.children.push(Actor { name, child, log });
        Ok(())
    }

    fn announce(&self, args: &RunArgs, console: SocketAddr, ifaces: &[String]) {
        let token = std::fs::read_to_string(self.dirs.state().join("token"));
        println!();
        println!("console   http://{console}");
        match token {
            Ok(token) => println!("token     {}", token.trim()),
            Err(_) => println!("token     in {}", self.dirs.state().join("token").display()),
        }
        println!(
            "commands  {} --socket {} flows   (watch, rules, status, ...)",
            self.ctx.short(self.binary),
            self.dirs.socket().display()
        );
        println!("policy    {}", self.dirs.policy().display());
        match &args.iface {
            Some(_) => println!("watching  {}; nothing is dropped", ifaces.join(", ")),
            None => println!(
                "lab       cargo xtask lab exec --name {} client ping {}",
                args.name,
                crate::lab::SERVER4
            ),
        }
        match args.seconds {
            Some(seconds) => println!("stops by itself in {seconds} s"),
            None => println!("Ctrl-C takes everything down"),
        }
        println!();
        use std::io::Write;
        let _ = std::io::stdout().flush();
    }

    fn watch(&mut self, seconds: Option<u64>) -> Result<()> {
        let until = seconds.map(|s| Instant::now() + Duration::from_secs(s));
        while !interrupted() && until.is_none_or(|until| Instant::now() < until) {
            self.all_alive()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn all_alive(&mut self) -> Result<()> {
        for actor in &mut self.children {
            if let Some(status) = actor.child.try_wait().context("cannot wait")? {
                let text = std::fs::read_to_string(&actor.log).unwrap_or_default();
                bail!(
                    "the {} ended by itself ({}):\n{}\n(whole log: {})",
                    actor.name,
                    describe(status),
                    tail(&text, 30),
                    actor.log.display()
                );
            }
        }
        Ok(())
    }

    fn log_tail(&self, name: &str) -> String {
        self.children
            .iter()
            .find(|a| a.name == name)
            .and_then(|a| std::fs::read_to_string(&a.log).ok())
            .map(|text| tail(&text, 30))
            .unwrap_or_default()
    }

    /// Ends every process, unloads the filter, removes the lab and the directories.
    fn take_down(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.down, true) {
            return Ok(());
        }
        let started = Instant::now();
        // Traffic first, then the daemon: the last deltas are still shown.
        for actor in self.children.iter_mut().rev() {
            end_group(&mut actor.child);
            let text = std::fs::read_to_string(&actor.log).unwrap_or_default();
            if actor.name == "client"
                && let Some(line) = text.lines().last()
            {
                say(&format!("        traffic: {line}"));
            }
        }
        leftovers::clear(self.dirs, self.lab, self.binary)?;
        say(&format!("    ok  taken down {:.1} s", started.elapsed().as_secs_f64()));
        Ok(())
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // Only a panic comes here without having taken down.
        let _ = self.take_down();
    }
}
