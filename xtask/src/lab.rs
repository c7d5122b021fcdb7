//! The lab: three network namespaces in a row, with Sluice's place in the middle.
//!
//! ```text
//!  client                     gate                      server
//!  c0 10.77.1.2 --------- wan0 10.77.1.1
//!     fd77:1::2                fd77:1::1
//!                         lan0 10.77.2.1 --------- s0 10.77.2.2
//!                              fd77:2::1                fd77:2::2
//! ```
//!
//! Both ends of each link are made inside the namespaces, so nothing ever appears among the host's
//! own interfaces, and labs of different names have nothing in common. The tests build the same
//! picture for themselves (`sluice-tests`' `lab`), tied to a test's scope.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::step::{probe, which};

/// The server's IPv4 address.
pub const SERVER4: &str = "10.77.2.2";
/// The server's IPv6 address.
pub const SERVER6: &str = "fd77:2::2";
/// The interfaces at the gate: towards the client, towards the server.
pub const GATE_IFACES: [&str; 2] = ["wan0", "lan0"];

const QUICK: Duration = Duration::from_secs(20);

/// One of the three namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Place {
    /// Where traffic begins.
    Client,
    /// Where Sluice stands; forwards both families.
    Gate,
    /// Where traffic goes.
    Server,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Gate => "gate",
            Self::Server => "server",
        })
    }
}

const PLACES: [Place; 3] = [Place::Client, Place::Gate, Place::Server];

/// A lab by its name; the value owns nothing, `up` and `down` are explicit.
#[derive(Debug, Clone)]
pub struct Lab {
    name: String,
}

impl Lab {
    /// A lab's name becomes part of three namespaces' names.
    pub fn named(name: &str) -> Result<Self> {
        let fits = !name.is_empty()
            && name.len() <= 32
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !fits {
            bail!("a lab's name is 1 to 32 of a-z, 0-9 and `-`; seen: {name:?}");
        }
        Ok(Self { name: name.to_owned() })
    }

    /// The namespace's name, as `ip netns` lists it.
    pub fn netns(&self, place: Place) -> String {
        format!("sluice-{}-{place}", self.name)
    }

    /// The file that stands for the namespace.
    pub fn netns_file(&self, place: Place) -> PathBuf {
        PathBuf::from("/run/netns").join(self.netns(place))
    }

    /// A command that runs `program` in a namespace. `nsenter` and not `ip netns exec`: that one
    /// mounts a /sys of its own, without the bpffs.
    pub fn command(&self, place: Place, program: &str) -> Command {
        let mut command = Command::new(which("nsenter").unwrap_or_else(|| "nsenter".into()));
        command.arg(format!("--net={}", self.netns_file(place).display())).arg("--").arg(program);
        command
    }

    /// Makes the lab, unless it stands already. What is left of a broken one is taken away first.
    pub fn up(&self) -> Result<bool> {
        needs_root()?;
        if self.stands() {
            return Ok(false);
        }
        self.down()?;
        if let Err(error) = self.make() {
            let _ = self.down();
            return Err(error);
        }
        Ok(true)
    }

    /// Are all three namespaces there, with their links up?
    pub fn stands(&self) -> bool {
        let links = [
            (Place::Client, "c0"),
            (Place::Gate, GATE_IFACES[0]),
            (Place::Gate, GATE_IFACES[1]),
            (Place::Server, "s0"),
        ];
        links.into_iter().all(|(place, link)| {
            self.netns_file(place).exists()
                && probe(self.command(place, "ip").args(["link", "show", link, "up"]), QUICK)
                    .is_some_and(|text| text.contains("LOWER_UP"))
        })
    }

    fn make(&self) -> Result<()> {
        for place in PLACES {
            run(Command::new("ip").args(["netns", "add", &self.netns(place)]))?;
            // Before there is any link: links take over what `default` says.
            self.script(
                place,
                "ip link set lo up
                 echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter
                 echo 0 > /proc/sys/net/ipv4/conf/default/rp_filter
                 echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
                 echo 0 > /proc/sys/net/ipv6/conf/default/accept_ra
                 echo 0 > /proc/sys/net/ipv6/conf/default/router_solicitations",
            )?;
        }
        for (gate_link, place, link) in
            [(GATE_IFACES[0], Place::Client, "c0"), (GATE_IFACES[1], Place::Server, "s0")]
        {
            run(Command::new("ip").args([
                "link",
                "add",
                gate_link,
                "netns",
                &self.netns(Place::Gate),
                "type",
                "veth",
                "peer",
                "name",
                link,
                "netns",
                &self.netns(place),
            ]))?;
        }
        self.script(Place::Client, &ends("c0", 1, 2, Some(1)))?;
        self.script(Place::Server, &ends("s0", 2, 2, Some(2)))?;
        self.script(Place::Gate, &ends(GATE_IFACES[0], 1, 1, None))?;
        self.script(Place::Gate, &ends(GATE_IFACES[1], 2, 1, None))?;
        self.script(
            Place::Gate,
            "echo 1 > /proc/sys/net/ipv4/ip_forward
             echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
        )?;
        // GRO at the peers switches on their NAPI, which native XDP at the gate sends through.
        for (place, link) in [(Place::Client, "c0"), (Place::Server, "s0")] {
            run(self.command(place, "ethtool").args(["-K", link, "gro", "on"]))?;
        }
        let until = Instant::now() + Duration::from_secs(10);
        while !self.stands() {
            if Instant::now() > until {
                bail!("the lab's links did not come up within 10 s");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn script(&self, place: Place, text: &str) -> Result<()> {
        run(self.command(place, "sh").args(["-euc", text]))
            .with_context(|| format!("setting up {}", self.netns(place)))
    }

    /// Takes the lab away: every process in it, then the namespaces and with them the links.
    pub fn down(&self) -> Result<bool> {
        needs_root()?;
        let mut any = false;
        for place in PLACES {
            if !self.netns_file(place).exists() {
                continue;
            }
            any = true;
            self.end_processes(place)?;
            run(Command::new("ip").args(["netns", "delete", &self.netns(place)]))?;
        }
        Ok(any)
    }

    fn pids(&self, place: Place) -> Vec<Pid> {
        let me = rustix::process::getpid();
        probe(Command::new("ip").args(["netns", "pids", &self.netns(place)]), QUICK)
            .unwrap_or_default()
            .lines()
            .filter_map(|line| Pid::from_raw(line.trim().parse().ok()?))
            .filter(|pid| *pid != me)
            .collect()
    }

    fn end_processes(&self, place: Place) -> Result<()> {
        for (signal, wait) in [(Signal::TERM, 3), (Signal::KILL, 5)] {
            let until = Instant::now() + Duration::from_secs(wait);
            let mut told: Vec<Pid> = Vec::new();
            loop {
                let pids = self.pids(place);
                if pids.is_empty() {
                    return Ok(());
                }
                for pid in pids {
                    if !told.contains(&pid) {
                        // It may have ended by itself meanwhile.
                        let _ = kill_process(pid, signal);
                        told.push(pid);
                    }
                }
                if Instant::now() > until {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        bail!("processes in {} do not end: {:?}", self.netns(place), self.pids(place))
    }

    /// Moves the calling thread, for the rest of its life, into a namespace.
    pub fn enter(&self, place: Place) -> Result<()> {
        let path = self.netns_file(place);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        rustix::thread::move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&file),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )
        .with_context(|| format!("cannot enter {}", path.display()))
    }
}

/// Every lab on this machine, by name.
pub fn all() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = name.strip_prefix("sluice-")?.strip_suffix("-gate")?;
            Lab::named(name).is_ok().then(|| name.to_owned())
        })
        .collect();
    names.sort();
    names
}

/// The commands that give one end of a link its addresses and routes.
fn ends(link: &str, net: u8, host: u8, via: Option<u8>) -> String {
    let mut text = format!(
        "echo 0 > /proc/sys/net/ipv4/conf/{link}/rp_filter
         ip address add 10.77.{net}.{host}/24 dev {link}
         ip -6 address add fd77:{net}::{host}/64 dev {link} nodad
         ip link set {link} up\n"
    );
    if let Some(net) = via {
        text.push_str(&format!(
            "ip route add default via 10.77.{net}.1
             ip -6 route add default via fd77:{net}::1\n"
        ));
    }
    text
}

fn needs_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!("network namespaces need root: sudo -E env PATH=\"$PATH\" cargo xtask ...")
}

fn run(command: &mut Command) -> Result<()> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let output = child.wait_with_output().context("cannot wait")?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_commands_are_refused() {
        for bad in ["", "a b", "../x", "UP", "a_b", &"x".repeat(33)] {
            assert!(Lab::named(bad).is_err(), "{bad:?}");
        }
        let lab = Lab::named("run-2").unwrap();
        assert_eq!(lab.netns(Place::Gate), "sluice-run-2-gate");
    }

    #[test]
    fn labs_come_up_side_by_side_and_leave_nothing() {
        if needs_root().is_err() {
            println!("\nSKIP labs_come_up_side_by_side_and_leave_nothing: not root");
            return;
        }
        let pid = std::process::id();
        let labs = ["a", "b"].map(|n| Lab::named(&format!("unit-{n}-{pid}")).unwrap());
        for lab in &labs {
            assert!(lab.up().unwrap(), "made");
            assert!(!lab.up().unwrap(), "stands already");
            for address in [SERVER4, SERVER6] {
                let ping =
                    probe(lab.command(Place::Client, "ping").args(["-c1", "-W5", address]), QUICK);
                assert!(ping.is_some(), "no way from client to {address}");
            }
        }
        let mut stray = labs[0].command(Place::Server, "sleep").arg("600").spawn().unwrap();
        // A lab that lost a piece is made anew.
        run(Command::new("ip").args(["netns", "delete", &labs[1].netns(Place::Server)])).unwrap();
        assert!(labs[1].up().unwrap(), "made anew");
        for lab in &labs {
            assert!(lab.down().unwrap());
            assert!(!lab.down().unwrap(), "gone already");
            for place in PLACES {
                assert!(!lab.netns_file(place).exists());
            }
        }
        assert!(!stray.wait().unwrap().success(), "the stray was ended");
    }
}
