//! What names are read from, seen from user space: an object of its own, loaded only where names are wanted. Nothing is
//! pinned: when this is dropped, it is gone.

use super::{
    DatapathError, cgroup,
    error::chain,
    object,
    sockets::btf::{BtfError, Structures},
};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, RingBuf},
    programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType},
};
use firewall_common::abi::{
    counter::EventCounter,
    observed::{NetLayout, OBSERVED_KINDS, Observed},
};
use std::time::Duration;

/// Programs, and where they are attached: at the root of cgroup v2.
const PROGRAMS: [(&str, CgroupSkbAttachType); 2] = [
    ("sluice_name_in", CgroupSkbAttachType::Ingress),
    ("sluice_name_out", CgroupSkbAttachType::Egress),
];

/// The running programs.
pub struct Observer {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    counters: Array<MapData, EventCounter>,
}

impl Observer {
    /// Loads the programs and attaches them, beside those of others.
    ///
    /// # Errors
    /// The kernel has no types (BTF) or no cgroup v2, refuses a program, or the binary was built without them.
    pub fn start() -> Result<Self, DatapathError> {
        let object = object::names();
        if object.is_empty() {
            return Err(DatapathError::NoObject);
        }
        let failed =
            |error: &dyn std::error::Error| DatapathError::Load(format!("names: {}", chain(error)));
        let layout = layout().map_err(|error| failed(&error))?;
        let mut ebpf = EbpfLoader::new()
            .override_global("NET", &layout, true)
            .load(object)
            .map_err(|error| failed(&error))?;
        let root = cgroup::root().map_err(|error| failed(&error))?;
        for (name, attach_type) in PROGRAMS {
            let program: &mut CgroupSkb = ebpf
                .program_mut(name)
                .ok_or_else(|| DatapathError::Load(format!("no program {name}")))?
                .try_into()
                .map_err(|error: aya::programs::ProgramError| failed(&error))?;
            program.load().map_err(|error| failed(&error))?;
            // A link stands beside those of others, whatever is asked for.
            program
                .attach(&root, attach_type, CgroupAttachMode::Single)
                .map_err(|error| failed(&error))?;
        }
        let take = |ebpf: &mut Ebpf, name: &str| {
            ebpf.take_map(name).ok_or_else(|| DatapathError::Load(format!("no map {name}")))
        };
        let ring =
            RingBuf::try_from(take(&mut ebpf, "OBSERVED")?).map_err(|error| failed(&error))?;
        let counters = Array::try_from(take(&mut ebpf, "OBSERVED_COUNTERS")?)
            .map_err(|error| failed(&error))?;
        Ok(Self { ebpf, ring, counters })
    }

    /// Hands over what the ring has, oldest first, at most `limit`: a record, and the message that was seen, from its
    /// first byte on. How many.
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(&Observed, &[u8])) -> usize {
        let mut drained = 0;
        while drained < limit {
            let Some(item) = self.ring.next() else { break };
            drained += 1;
            let Some((head, message)) = item.split_at_checked(size_of::<Observed>()) else {
                continue;
            };
            let head: Observed = bytemuck::pod_read_unaligned(head);
            each(&head, &message[..message.len().min(head.length.into())]);
        }
        drained
    }

    /// What became of messages, by kind.
    ///
    /// # Errors
    /// The kernel's.
    pub fn counters(&self) -> Result<[EventCounter; OBSERVED_KINDS], DatapathError> {
        let mut all = [EventCounter::default(); OBSERVED_KINDS];
        for (kind, counter) in all.iter_mut().enumerate() {
            *counter = self
                .counters
                .get(&(kind as u32), 0)
                .map_err(DatapathError::map("OBSERVED_COUNTERS"))?;
        }
        Ok(all)
    }

    /// What each program has cost since it was loaded, while the kernel accounted for it: name, time, runs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn costs(&self) -> Result<Vec<(String, Duration, u64)>, DatapathError> {
        super::sockets::costs(&self.ebpf)
    }

    /// Instructions that the verifier walked for each program; 0 where the kernel doesn't tell.
    ///
    /// # Errors
    /// The kernel's.
    pub fn verified(&self) -> Result<Vec<(String, u32)>, DatapathError> {
        super::sockets::verified(&self.ebpf)
    }
}

/// Where this kernel has what the programs read.
fn layout() -> Result<NetLayout, BtfError> {
    let all = Structures::of_kernel()?;
    Ok(NetLayout {
        net: all.offset("sock_common", "skc_net.net")?,
        inode: all.offset("net", "ns.inum")?,
    })
}
