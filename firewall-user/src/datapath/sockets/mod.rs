//! The socket monitor's kernel side: loads its programs, drains its ring, reads every socket of the machine.
//!
//! Nothing is pinned and nothing is judged: when this is dropped, it is gone.

pub mod btf;
pub mod drops;
mod layout;

pub(super) use layout::both as layouts;

use super::{DatapathError, cgroup, error::chain, object};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, MapData, RingBuf},
    programs::{BtfTracePoint, CgroupAttachMode, CgroupSock, Iter, Program},
    sys::{Stats, enable_stats},
};
use firewall_common::abi::{
    counter::EventCounter,
    socket::{HeldSocket, SOCKET_CLASSES, SocketEvent},
};
use std::{io::Read as _, os::fd::OwnedFd, time::Duration};

/// Tracepoints, and what the monitor can't tell without them.
const TRACEPOINTS: [(&str, &str, &str); 8] = [
    ("sluice_state", "inet_sock_set_state", "connections that begin and end"),
    ("sluice_sent", "sock_send_length", "who sends, and how much"),
    ("sluice_received", "sock_recv_length", "who receives, and how much"),
    ("sluice_exited", "sched_process_exit", "owners that end while their sockets live"),
    ("sluice_dropped", "kfree_skb", "what the stack drops, and why"),
    ("sluice_resent", "tcp_retransmit_skb", "how many segments are sent again in all"),
    ("sluice_reset_sent", "tcp_send_reset", "resets that are sent"),
    ("sluice_reset_received", "tcp_receive_reset", "resets that come in"),
];

/// What this kernel lacks of the monitor's hooks, each with what can't be told without it.
///
/// # Errors
/// The kernel has no types (BTF).
pub fn lacking() -> Result<Vec<String>, DatapathError> {
    let btf = Btf::from_sys_fs().map_err(|error| DatapathError::Load(chain(&error)))?;
    let mut lacking: Vec<String> = TRACEPOINTS
        .iter()
        .filter(|(_, tracepoint, _)| !btf_has(&btf, tracepoint))
        .map(|(_, tracepoint, what)| format!("{tracepoint} ({what})"))
        .collect();
    let iterator = btf.id_by_type_name_kind("bpf_iter_task_file", aya_obj::btf::BtfKind::Func);
    if iterator.is_err() {
        lacking.push("iter/task_file (sockets without events, and who holds them)".to_owned());
    }
    Ok(lacking)
}

/// The running monitor.
pub struct SocketMonitor {
    ebpf: Ebpf,
    events: RingBuf<MapData>,
    counters: Array<MapData, EventCounter>,
    drops: drops::Drops,
    missing: Vec<String>,
}

impl SocketMonitor {
    /// Loads the programs and attaches them: cgroup hooks to the root of cgroup v2, tracepoints.
    ///
    /// A hook that this kernel doesn't have is left out, and [`Self::missing`] says what can't be told.
    ///
    /// # Errors
    /// The kernel has no types (BTF), refuses a program, or the binary was built without them.
    pub fn start() -> Result<Self, DatapathError> {
        let object = object::monitor();
        if object.is_empty() {
            return Err(DatapathError::NoObject);
        }
        let load = |error: &dyn std::error::Error| DatapathError::Load(chain(error));
        let layout = layout::of_kernel().map_err(|error| load(&error))?;
        let btf = Btf::from_sys_fs().map_err(|error| load(&error))?;
        let mut ebpf = EbpfLoader::new()
            .override_global("LAYOUT", &layout, true)
            .override_global("QUEUE_PURGE", &drops::queue_purge(), true)
            .load(object)
            .map_err(|error| load(&error))?;
        let mut missing = Vec::new();
        let failed = |name: &str, error: &dyn std::error::Error| {
            DatapathError::Load(format!("{name}: {}", chain(error)))
        };
        for (name, tracepoint, what) in TRACEPOINTS {
            let program: &mut BtfTracePoint = program(&mut ebpf, name)?;
            match program.load(tracepoint, &btf) {
                Ok(()) => {
                    program.attach().map_err(|error| failed(name, &error))?;
                }
                Err(error) if btf_has(&btf, tracepoint) => return Err(failed(name, &error)),
                Err(_) => {
                    missing.push(format!("{what}: the kernel has no tracepoint {tracepoint}"))
                }
            }
        }
        match cgroup::root() {
            Ok(root) => {
                for name in ["sluice_sock_create", "sluice_sock_release"] {
                    let program: &mut CgroupSock = program(&mut ebpf, name)?;
                    program.load().map_err(|error| failed(name, &error))?;
                    // A link stands beside those of others, whatever is asked for.
                    program
                        .attach(&root, CgroupAttachMode::Single)
                        .map_err(|error| failed(name, &error))?;
                }
            }
            Err(error) => missing.push(format!(
                "owners of sockets as they are made, and the end of those that aren't TCP's: cgroup v2 can't be \
                 had: {error}"
            )),
        }
        let program: &mut Iter = program(&mut ebpf, "sluice_held")?;
        program.load("task_file", &btf).map_err(|error| failed("sluice_held", &error))?;
        let take = |ebpf: &mut Ebpf, name: &str| {
            ebpf.take_map(name).ok_or_else(|| DatapathError::Load(format!("no map {name}")))
        };
        let events =
            RingBuf::try_from(take(&mut ebpf, "SOCKET_EVENTS")?).map_err(|error| load(&error))?;
        let counters =
            Array::try_from(take(&mut ebpf, "SOCKET_COUNTERS")?).map_err(|error| load(&error))?;
        let drops = drops::Drops::take(&mut ebpf)?;
        Ok(Self { ebpf, events, counters, drops, missing })
    }

    /// What this kernel doesn't let the monitor tell, with the reason.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// What the stack dropped, and what TCP sent again and reset.
    pub const fn drops(&self) -> &drops::Drops {
        &self.drops
    }

    /// Hands over what the ring has, oldest first, at most `limit`; how many.
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(&SocketEvent)) -> usize {
        let mut drained = 0;
        let mut event = SocketEvent::default();
        while drained < limit {
            let Some(item) = self.events.next() else { break };
            let bytes = bytemuck::bytes_of_mut(&mut event);
            let length = item.len().min(bytes.len());
            // Where a record ends, zeros follow.
            bytes[length..].fill(0);
            bytes[..length].copy_from_slice(&item[..length]);
            each(&event);
            drained += 1;
        }
        drained
    }

    /// What became of events, by class.
    ///
    /// # Errors
    /// The kernel's.
    pub fn counters(&self) -> Result<[EventCounter; SOCKET_CLASSES], DatapathError> {
        let mut all = [EventCounter::default(); SOCKET_CLASSES];
        for (class, counter) in all.iter_mut().enumerate() {
            *counter = self
                .counters
                .get(&(class as u32), 0)
                .map_err(|error| DatapathError::Load(chain(&error)))?;
        }
        Ok(all)
    }

    /// Has the kernel account for what programs cost, for as long as the result lives.
    ///
    /// # Errors
    /// The kernel's.
    pub fn account() -> Result<OwnedFd, DatapathError> {
        enable_stats(Stats::RunTime).map_err(|error| DatapathError::Load(chain(&error)))
    }

    /// What each program has cost since it was loaded, while the kernel accounted for it: name, time, runs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn costs(&self) -> Result<Vec<(String, Duration, u64)>, DatapathError> {
        costs(&self.ebpf)
    }

    /// Instructions that the verifier walked for each program; 0 where the kernel doesn't tell.
    ///
    /// # Errors
    /// The kernel's.
    pub fn verified(&self) -> Result<Vec<(String, u32)>, DatapathError> {
        verified(&self.ebpf)
    }

    /// Every descriptor of every process that is a socket, in all network namespaces, as it is now. A socket
    /// that nobody owned yet is its holder's from then on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn snapshot(&mut self) -> Result<Vec<HeldSocket>, DatapathError> {
        let failed = |error: &dyn std::error::Error| {
            DatapathError::Load(format!("reading sockets: {}", chain(error)))
        };
        let program: &mut Iter = program(&mut self.ebpf, "sluice_held")?;
        let link = program.attach().map_err(|error| failed(&error))?;
        let link = program.take_link(link).map_err(|error| failed(&error))?;
        let mut file = link.into_file().map_err(|error| failed(&error))?;
        let mut held = Vec::new();
        // The kernel hands out whole records, and a reader asks for more than one at a time.
        let mut buffer = vec![0u8; 256 * size_of::<HeldSocket>()];
        let mut filled = 0;
        loop {
            let n = match file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(&error)),
            };
            filled += n;
            let whole = filled - filled % size_of::<HeldSocket>();
            held.extend(
                buffer[..whole]
                    .chunks_exact(size_of::<HeldSocket>())
                    .map(bytemuck::pod_read_unaligned::<HeldSocket>),
            );
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
        }
        Ok(held)
    }
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, DatapathError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or_else(|| DatapathError::Load(format!("no program {name}")))?
        .try_into()
        .map_err(|error: aya::programs::ProgramError| DatapathError::Load(chain(&error)))
}

/// What each program of an object has cost since it was loaded, while the kernel accounted for it: name, time, runs.
pub(super) fn costs(ebpf: &Ebpf) -> Result<Vec<(String, Duration, u64)>, DatapathError> {
    let info = |(name, program): (&str, &Program)| {
        let info = program.info().map_err(|error| DatapathError::Load(chain(&error)))?;
        Ok((name.to_owned(), info.run_time(), info.run_count()))
    };
    ebpf.programs().map(info).collect()
}

/// Instructions that the verifier walked for each program of an object; 0 where the kernel doesn't tell.
pub(super) fn verified(ebpf: &Ebpf) -> Result<Vec<(String, u32)>, DatapathError> {
    let info = |(name, program): (&str, &Program)| {
        let info = program.info().map_err(|error| DatapathError::Load(chain(&error)))?;
        Ok((name.to_owned(), info.verified_instruction_count().unwrap_or(0)))
    };
    ebpf.programs().map(info).collect()
}

/// Whether the kernel has a tracepoint whose arguments are typed.
fn btf_has(btf: &Btf, tracepoint: &str) -> bool {
    let name = format!("btf_trace_{tracepoint}");
    btf.id_by_type_name_kind(&name, aya_obj::btf::BtfKind::Typedef).is_ok()
}
