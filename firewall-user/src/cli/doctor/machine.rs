//! What the machine tells: /proc, /sys, and the interfaces of this network namespace.

use super::Finding;
use crate::{
    datapath,
    server::client::{Client, ClientError},
};
use std::{fs, path::Path};

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// `xdp.frags` and the XDP byte helpers need 5.18, TCX 6.6.
pub fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match version {
        (0, 0) => Finding::warn(
            "kernel",
            format!("release `{release}`"),
            "can't tell how old it is; 5.18 or later is needed",
        ),
        version if version < (5, 18) => {
            Finding::fail("kernel", release, "too old: 5.18 or later is needed")
        }
        version if version < (6, 6) => {
            Finding::ok("kernel", format!("{release} (6.6 or later has TCX)"))
        }
        _ => Finding::ok("kernel", release),
    }
}

/// Whether the build put the kernel object and the console in.
pub fn embedded() -> Finding {
    let version = env!("CARGO_PKG_VERSION");
    if crate::daemon::has_kernel_object() {
        Finding::ok("this binary", format!("sluice {version}, with the kernel program"))
    } else {
        Finding::fail(
            "this binary",
            format!("sluice {version}, built without the kernel program"),
            "build it with `cargo xtask build`",
        )
    }
}

/// CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON; or CAP_SYS_ADMIN for the first and the last.
pub fn capabilities() -> Finding {
    let status = read("/proc/self/status");
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective >> bit & 1 == 1;
    let admin = has(21);
    let missing: Vec<&str> = [
        ("CAP_NET_ADMIN", has(12)),
        ("CAP_BPF", has(39) || admin),
        ("CAP_PERFMON", has(38) || admin),
    ]
    .iter()
    .filter(|(_, there)| !there)
    .map(|(name, _)| *name)
    .collect();
    if missing.is_empty() {
        Finding::ok("capabilities", "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON")
    } else {
        Finding::fail(
            "capabilities",
            format!("missing: {}", missing.join(", ")),
            "run as root (the daemon needs them, the other commands don't)",
        )
    }
}

/// Without it, every program is interpreted.
pub fn jit() -> Finding {
    match read("/proc/sys/net/core/bpf_jit_enable").as_str() {
        "1" => Finding::ok("BPF compiler (JIT)", "on"),
        "2" => Finding::warn(
            "BPF compiler (JIT)",
            "on, with debug output",
            "`sysctl net.core.bpf_jit_enable=1`",
        ),
        "0" => Finding::warn(
            "BPF compiler (JIT)",
            "off: packets cost many times more",
            "`sysctl net.core.bpf_jit_enable=1`",
        ),
        _ => Finding::ok("BPF compiler (JIT)", "always on in this kernel"),
    }
}

/// Types of the kernel.
pub fn btf() -> Finding {
    match fs::metadata("/sys/kernel/btf/vmlinux") {
        Ok(file) => Finding::ok("kernel types (BTF)", format!("{} kB", file.len() / 1000)),
        Err(_) => Finding::warn(
            "kernel types (BTF)",
            "not there",
            "packet filtering works; sockets aren't followed without (CONFIG_DEBUG_INFO_BTF=y)",
        ),
    }
}

/// Where pins live.
pub fn bpffs() -> Finding {
    let mounts = read("/proc/mounts");
    let mounted = mounts.lines().find(|line| line.split(' ').nth(2) == Some("bpf"));
    match mounted.and_then(|line| line.split(' ').nth(1)) {
        Some("/sys/fs/bpf") => Finding::ok("BPF file system", "mounted at /sys/fs/bpf"),
        Some(other) => Finding::warn(
            "BPF file system",
            format!("mounted at {other}"),
            "give the daemon a `pin_dir` in it, or mount one at /sys/fs/bpf",
        ),
        None => Finding::warn(
            "BPF file system",
            "not mounted",
            "the daemon tries to; else `mount -t bpf bpf /sys/fs/bpf`",
        ),
    }
}

/// Maps are charged to the memory control group since 5.11, to RLIMIT_MEMLOCK before.
pub fn memlock() -> Finding {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the struct.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    let what = "locked memory";
    if result != 0 {
        return Finding::warn(what, "the limit can't be read", "");
    }
    if limit.rlim_cur == libc::RLIM_INFINITY {
        return Finding::ok(what, "no limit");
    }
    Finding::ok(
        what,
        format!("limit {} kB; maps don't count against it since 5.11", limit.rlim_cur / 1000),
    )
}

/// Needed once sockets are watched; filtering doesn't need it.
pub fn cgroup2() -> Finding {
    let mounts = read("/proc/mounts");
    let mounted = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    match mounted.and_then(|line| line.split(' ').nth(1)) {
        Some(at) => Finding::ok("control groups v2", format!("mounted at {at}")),
        None => Finding::warn(
            "control groups v2",
            "not mounted",
            "packet filtering works without, and the daemon tries a mount of its own; else who makes a socket is only known \
             from who holds it: `mount -t cgroup2 none /sys/fs/cgroup`",
        ),
    }
}

/// Whether SYN cookies could be sent.
pub fn cookies() -> Finding {
    let what = "SYN cookies";
    match datapath::cookies_outlook() {
        None => Finding::ok(what, "can be sent, with window scaling, SACK and timestamps"),
        Some((seen, advice)) => Finding::warn(what, seen, advice),
    }
}

/// Each interface, and what hook mode `auto` would choose.
pub fn interfaces() -> Vec<Finding> {
    let mut names = datapath::interface_names();
    names.sort();
    if names.is_empty() {
        let advice = "look for the network namespace that you are in: `ip netns identify`";
        return vec![Finding::warn("interfaces", "none can be seen", advice)];
    }
    let shown: Vec<String> = names
        .iter()
        .map(|name| match datapath::interface_outlook(name) {
            Ok(outlook) => format!("{name} ({outlook})"),
            Err(_) => format!("{name} (carries no Ethernet frames: can't be filtered)"),
        })
        .collect();
    vec![Finding::ok("interfaces", shown.join(", "))]
}

/// Who may use the control socket.
pub fn group() -> Finding {
    let groups = read("/etc/group");
    match groups.lines().find(|line| line.starts_with("sluice:")) {
        Some(line) => {
            let members = line.rsplit(':').next().unwrap_or("");
            let members = if members.is_empty() { "no members" } else { members };
            Finding::ok("group sluice", members)
        }
        None => Finding::warn(
            "group sluice",
            "not there",
            "only root can use the daemon; `groupadd --system sluice` for others",
        ),
    }
}

/// Whether one runs.
pub fn daemon(socket: &Path) -> Finding {
    let what = "daemon";
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Finding::warn(what, "can't be asked", "");
    };
    let status =
        runtime.block_on(Client::new(socket).get::<crate::view::StatusView>("/api/v1/status"));
    match status {
        Ok(status) if status.interfaces.is_empty() => Finding::warn(
            what,
            format!("sluice {} runs, on no interface", status.version),
            "name some in /etc/sluice/sluice.toml",
        ),
        Ok(status) => Finding::ok(
            what,
            format!(
                "sluice {} runs, policy generation {}, {} interfaces",
                status.version,
                status.generation,
                status.interfaces.len()
            ),
        ),
        Err(error @ ClientError::Unreachable { .. }) => Finding::warn(what, error.to_string(), ""),
        Err(error) => Finding::warn(what, error.to_string(), ""),
    }
}
