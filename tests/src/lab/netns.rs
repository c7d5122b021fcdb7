//! One network namespace, held by a file descriptor.

use super::LabError;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// A network namespace; gone when the last clone is dropped and nothing runs in it.
#[derive(Clone, Debug)]
pub struct NetNs {
    fd: Arc<OwnedFd>,
    /// What messages call it.
    pub label: &'static str,
}

impl NetNs {
    /// A new namespace with its loopback up.
    ///
    /// # Errors
    /// Where the kernel refuses (not root).
    pub fn new(label: &'static str) -> Result<Self, LabError> {
        let fd = std::thread::spawn(|| -> std::io::Result<OwnedFd> {
            // SAFETY: unshare takes no pointers; it changes this short-lived thread alone.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(File::open("/proc/thread-self/ns/net")?.into())
        })
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        .map_err(LabError::system("making a network namespace"))?;
        let ns = Self { fd: Arc::new(fd), label };
        ns.ip(&["link", "set", "lo", "up"])?;
        Ok(ns)
    }

    /// The namespace this process started in.
    ///
    /// # Errors
    /// Where /proc is missing.
    pub fn own() -> Result<Self, LabError> {
        let fd = File::open("/proc/self/ns/net")
            .map_err(LabError::system("opening /proc/self/ns/net"))?;
        Ok(Self { fd: Arc::new(fd.into()), label: "own" })
    }

    /// A path that names it for `ip link set … netns` and `nsenter --net=`, while this process lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd()))
    }

    /// Runs `f` on a thread inside the namespace. Sockets opened there stay in it wherever they are
    /// used later.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    enter(self.fd.as_raw_fd())
                        .expect("entering a namespace this process holds open");
                    f()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that will run inside the namespace, with this process's mounts (so that /sys/fs/bpf
    /// stays what it is), and die with the thread that started it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let fd = self.fd.clone();
        // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                enter(fd.as_raw_fd())?;
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        command
    }

    /// Runs a command to its end and returns its standard output.
    ///
    /// # Errors
    /// Where it can't be started or fails.
    pub fn exec(&self, program: &str, args: &[&str]) -> Result<String, LabError> {
        let line = || format!("[{}] {program} {}", self.label, args.join(" "));
        let output = self.command(program).args(args).output().map_err(LabError::system(line()))?;
        if !output.status.success() {
            return Err(LabError::Command {
                command: line(),
                status: output.status.to_string(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command that reads `input`, to its end, and returns its standard output.
    ///
    /// # Errors
    /// As [`NetNs::exec`].
    pub fn feed(&self, program: &str, args: &[&str], input: &str) -> Result<String, LabError> {
        let line = || format!("[{}] {program} {}", self.label, args.join(" "));
        let mut child = self
            .command(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(LabError::system(line()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that doesn't read to the end says why itself.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(LabError::system(line()))?;
        if !output.status.success() {
            return Err(LabError::Command {
                command: line(),
                status: output.status.to_string(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `ip ARGS` inside.
    ///
    /// # Errors
    /// As [`NetNs::exec`].
    pub fn ip(&self, args: &[&str]) -> Result<(), LabError> {
        self.exec("ip", args).map(drop)
    }

    /// Writes a `net.*` sysctl of this namespace, e.g. `ipv4/ip_forward`.
    ///
    /// # Errors
    /// Where there is no such sysctl.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        self.run(|| std::fs::write(format!("/proc/sys/net/{key}"), value))
            .map_err(LabError::system(format!("[{}] writing net/{key}", self.label)))
    }

    /// A counter of /proc/net/snmp inside, e.g. `("Tcp", "OutSegs")`: the kernel's own count of what
    /// this namespace sent and received, aggregated buffers taken apart.
    ///
    /// # Panics
    /// Where there is no such counter.
    pub fn snmp(&self, protocol: &str, counter: &str) -> u64 {
        let text = self
            .run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))
            .expect("/proc/net/snmp");
        let mut lines = text.lines().filter(|line| line.starts_with(&format!("{protocol}:")));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        names
            .split_whitespace()
            .zip(values.split_whitespace())
            .find_map(|(name, value)| if name == counter { value.parse().ok() } else { None })
            .unwrap_or_else(|| panic!("no {protocol} {counter} in:\n{text}"))
    }

    /// Index of an interface inside.
    ///
    /// # Errors
    /// Where there is none of this name.
    pub fn ifindex(&self, name: &str) -> Result<u32, LabError> {
        let c_name = std::ffi::CString::new(name).expect("an interface name without NUL");
        // SAFETY: a NUL-terminated string that outlives the call.
        match self.run(|| unsafe { libc::if_nametoindex(c_name.as_ptr()) }) {
            0 => Err(LabError::Late(format!("[{}] no interface {name}", self.label))),
            index => Ok(index),
        }
    }

    /// MAC address of an interface inside.
    ///
    /// # Errors
    /// Where `ip` fails or says something else than usual.
    pub fn mac(&self, name: &str) -> Result<[u8; 6], LabError> {
        let text = self.exec("ip", &["-o", "link", "show", "dev", name])?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether").skip(1);
        let bytes: Vec<u8> = words
            .next()
            .unwrap_or_default()
            .split(':')
            .filter_map(|part| u8::from_str_radix(part, 16).ok())
            .collect();
        bytes
            .try_into()
            .map_err(|_| LabError::Late(format!("[{}] no MAC address in: {text}", self.label)))
    }
}

fn enter(fd: RawFd) -> std::io::Result<()> {
    // SAFETY: setns takes a descriptor and a number; the descriptor is open as long as its owner,
    // which the caller borrows.
    if unsafe { libc::setns(fd, libc::CLONE_NEWNET) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}
