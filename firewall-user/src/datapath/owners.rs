//! Rules by owner, seen from user space: an object of its own, beside the filter's in the same pin directory, loaded
//! only while a policy has such rules. Its links are pinned: the rules hold on while no daemon runs.

use super::{DatapathError, cgroup, error::chain, object, sockets, take, units};
use aya::{
    Btf, Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, MapData},
    programs::{
        CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, Iter,
        links::FdLink,
    },
};
use firewall_common::abi::{
    owner::{
        CgroupKey, ExeKey, NameKey, OwnerCounter, OwnerTable, PlaceRows, UNIT_NAME, UnitKey,
        UserKey,
    },
    table::MAX_CONTINUES,
};
use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

/// Rows of owners, by what the kernel knows them by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerKeys {
    /// Users, as numbered in the first user namespace.
    pub users: BTreeMap<u32, u16>,
    /// Executables: file system as the kernel numbers it, inode.
    pub exes: BTreeMap<(u32, u64), u16>,
    /// Names of processes, filled up with zeros.
    pub processes: BTreeMap<[u8; 16], u16>,
    /// Units.
    pub units: BTreeMap<String, u16>,
    /// Cgroups that rules name, by inode.
    pub cgroups: BTreeMap<u64, u16>,
    /// Every cgroup that there is: rows of its unit, and of the nearest cgroup that rules name.
    pub places: BTreeMap<u64, (u16, u16)>,
}

/// A policy's rules by owner, resolved.
pub struct OwnerPolicy {
    /// The table; settings as the compiler leaves them.
    pub table: Box<OwnerTable>,
    /// Who is meant.
    pub keys: OwnerKeys,
    /// Rules may be met by what neither TCP nor UDP sends.
    pub others: bool,
}

/// Hooks with an address: program and name of its pin.
const CALLS: [(&str, &str); 4] = [
    ("sluice_own_connect4", "link-owner-connect4"),
    ("sluice_own_connect6", "link-owner-connect6"),
    ("sluice_own_sendmsg4", "link-owner-sendmsg4"),
    ("sluice_own_sendmsg6", "link-owner-sendmsg6"),
];
const CREATE: (&str, &str) = ("sluice_own_create", "link-owner-create");
const INGRESS: (&str, &str) = ("sluice_own_ingress", "link-owner-ingress");
const EGRESS: (&str, &str) = ("sluice_own_egress", "link-owner-egress");

/// Maps that only this object has.
const MAPS: [&str; 10] = [
    "OWNER_TABLES",
    "OWNER_USERS",
    "OWNER_EXES",
    "OWNER_PROCESSES",
    "OWNER_UNITS",
    "OWNER_CGROUPS",
    "OWNER_PLACES",
    "TALKS",
    "OWNER_COUNTERS",
    "OWNED",
];

/// The loaded object.
pub(super) struct OwnerGate {
    ebpf: Ebpf,
    pin_dir: PathBuf,
    tables: Array<MapData, OwnerTable>,
    users: HashMap<MapData, UserKey, u32>,
    exes: HashMap<MapData, ExeKey, u32>,
    processes: HashMap<MapData, NameKey, u32>,
    units: HashMap<MapData, UnitKey, u32>,
    cgroups: HashMap<MapData, CgroupKey, u32>,
    places: HashMap<MapData, CgroupKey, PlaceRows>,
    counters: Array<MapData, OwnerCounter>,
}

impl OwnerGate {
    /// Whether an earlier daemon left rules by owner in force.
    pub fn is_pinned(pin_dir: &Path) -> bool {
        pin_dir.join(MAPS[0]).exists()
    }

    /// Loads the programs beside the filter that is pinned in `pin_dir`, or takes over their maps.
    pub fn open(pin_dir: &Path, ring_bytes: u32) -> Result<Self, DatapathError> {
        let bytes = object::owners();
        if bytes.is_empty() {
            return Err(DatapathError::NoObject);
        }
        let failed = |error: &dyn std::error::Error| {
            DatapathError::Load(format!("rules by owner: {}", chain(error)))
        };
        let (layout, tree) = sockets::layouts().map_err(|error| failed(&error))?;
        let netns = netns_cookie().map_err(|error| failed(&error))?;
        let mut ebpf = EbpfLoader::new()
            .default_map_pin_directory(pin_dir)
            .map_max_entries("EVENTS", ring_bytes)
            .override_global("LAYOUT", &layout, true)
            .override_global("TREE", &tree, true)
            .override_global("NETNS", &netns, true)
            .load(bytes)
            .map_err(|error| failed(&error))?;
        for (name, _) in CALLS {
            program::<CgroupSockAddr>(&mut ebpf, name)?.load().map_err(|error| failed(&error))?;
        }
        program::<CgroupSock>(&mut ebpf, CREATE.0)?.load().map_err(|error| failed(&error))?;
        for (name, _) in [INGRESS, EGRESS] {
            program::<CgroupSkb>(&mut ebpf, name)?.load().map_err(|error| failed(&error))?;
        }
        let btf = Btf::from_sys_fs().map_err(|error| failed(&error))?;
        program::<Iter>(&mut ebpf, "sluice_own_held")?
            .load("task_file", &btf)
            .map_err(|error| failed(&error))?;
        Ok(Self {
            tables: take(&mut ebpf, "OWNER_TABLES")?,
            users: take(&mut ebpf, "OWNER_USERS")?,
            exes: take(&mut ebpf, "OWNER_EXES")?,
            processes: take(&mut ebpf, "OWNER_PROCESSES")?,
            units: take(&mut ebpf, "OWNER_UNITS")?,
            cgroups: take(&mut ebpf, "OWNER_CGROUPS")?,
            places: take(&mut ebpf, "OWNER_PLACES")?,
            counters: take(&mut ebpf, "OWNER_COUNTERS")?,
            pin_dir: pin_dir.to_owned(),
            ebpf,
        })
    }

    /// Writes table `index`, which isn't live.
    pub fn write(
        &mut self,
        index: u32,
        policy: &OwnerPolicy,
        rate: u64,
    ) -> Result<(), DatapathError> {
        let mut table: Box<OwnerTable> = bytemuck::allocation::zeroed_box();
        bytemuck::bytes_of_mut(&mut *table).copy_from_slice(bytemuck::bytes_of(&*policy.table));
        units::to_kernel(&mut table.rules.settings, rate);
        table
            .rules
            .index_actions()
            .map_err(|seen| DatapathError::TooManyContinues { seen, limit: MAX_CONTINUES })?;
        self.tables.set(index, table.as_ref(), 0).map_err(DatapathError::map("OWNER_TABLES"))?;
        self.fill(index, &policy.keys, true)
    }

    /// Empties table `index`, which isn't live: nobody is refused anything by it.
    pub fn clear(&mut self, index: u32) -> Result<(), DatapathError> {
        let table: Box<OwnerTable> = bytemuck::allocation::zeroed_box();
        self.tables.set(index, table.as_ref(), 0).map_err(DatapathError::map("OWNER_TABLES"))?;
        self.fill(index, &OwnerKeys::default(), true)
    }

    /// Cgroups that table `index` has rows of: those that programs met are among them.
    fn places(&self, index: u32) -> Vec<u64> {
        let keys = self.places.keys().filter_map(Result::ok);
        keys.filter(|key| key.table == index).map(|key| key.id).collect()
    }

    /// Forgets cgroups.
    fn forget(&mut self, index: u32, gone: impl Iterator<Item = u64>) {
        for id in gone {
            // Not there any more is as good.
            let _ = self.places.remove(&CgroupKey { id, table: index, _pad: 0 });
        }
    }

    /// Makes `keys` those of table `index`. `idle`: nobody reads it, and nothing that programs entered stays.
    fn fill(&mut self, index: u32, keys: &OwnerKeys, idle: bool) -> Result<(), DatapathError> {
        let row = |row: &u16| u32::from(*row);
        let met: Vec<(CgroupKey, PlaceRows)> = self
            .places
            .iter()
            .filter_map(Result::ok)
            .filter(|(key, _)| key.table == index)
            .collect();
        put(&mut self.users, "OWNER_USERS", index, |key| key.table, idle, {
            keys.users.iter().map(|(uid, r)| (UserKey { uid: *uid, table: index }, row(r)))
        })?;
        put(&mut self.exes, "OWNER_EXES", index, |key| key.table, idle, {
            keys.exes.iter().map(|((device, inode), r)| {
                (ExeKey { inode: *inode, device: *device, table: index }, row(r))
            })
        })?;
        put(&mut self.processes, "OWNER_PROCESSES", index, |key| key.table, idle, {
            let key = |comm: &[u8; 16]| NameKey { comm: *comm, table: index, _pad: 0 };
            keys.processes.iter().map(move |(comm, r)| (key(comm), row(r)))
        })?;
        put(&mut self.units, "OWNER_UNITS", index, |key| key.table, idle, {
            keys.units.iter().map(|(unit, r)| {
                let mut key = UnitKey { name: [0; UNIT_NAME], table: index, _pad: 0 };
                let length = unit.len().min(UNIT_NAME - 1);
                key.name[..length].copy_from_slice(&unit.as_bytes()[..length]);
                (key, row(r))
            })
        })?;
        put(&mut self.cgroups, "OWNER_CGROUPS", index, |key| key.table, idle, {
            let key = |id: u64| CgroupKey { id, table: index, _pad: 0 };
            keys.cgroups.iter().map(move |(id, r)| (key(*id), row(r)))
        })?;
        put(&mut self.places, "OWNER_PLACES", index, |key| key.table, idle, {
            let key = |id: u64| CgroupKey { id, table: index, _pad: 0 };
            let rows = |(unit, cgroup): (u16, u16)| PlaceRows { unit, cgroup };
            let places = keys.places.iter().map(move |(id, place)| (key(*id), rows(*place)));
            // Of a live table all that is there stays: programs enter what they meet.
            let there =
                met.into_iter().filter(|(key, _)| !idle && !keys.places.contains_key(&key.id));
            places.chain(there)
        })
    }

    /// Attaches what `others` says, beside whatever an earlier life left: for a moment both judge, never none. Then
    /// looks who holds the sockets that are there.
    pub fn attach(&mut self, others: bool) -> Result<(), DatapathError> {
        let failed = |hook: &str| {
            let hook = hook.to_owned();
            move |error: &dyn std::error::Error| DatapathError::Attach {
                name: "the root of cgroup v2".into(),
                mode: hook.clone(),
                message: chain(error),
            }
        };
        let root = cgroup::root().map_err(DatapathError::io("opening the root of cgroup v2"))?;
        for (name, at) in CALLS {
            let failed = failed(name);
            let program: &mut CgroupSockAddr = program(&mut self.ebpf, name)?;
            let id =
                program.attach(&root, CgroupAttachMode::Single).map_err(|error| failed(&error))?;
            let link = program.take_link(id).map_err(|error| failed(&error))?;
            pin(&self.pin_dir, at, link.try_into().map_err(|error| failed(&error))?)?;
        }
        {
            let failed = failed(CREATE.0);
            let program: &mut CgroupSock = program(&mut self.ebpf, CREATE.0)?;
            let id =
                program.attach(&root, CgroupAttachMode::Single).map_err(|error| failed(&error))?;
            let link = program.take_link(id).map_err(|error| failed(&error))?;
            pin(&self.pin_dir, CREATE.1, link.try_into().map_err(|error| failed(&error))?)?;
        }
        self.packets(&root, INGRESS, CgroupSkbAttachType::Ingress)?;
        if others {
            self.packets(&root, EGRESS, CgroupSkbAttachType::Egress)?;
        }
        self.look()
    }

    fn attach_egress(&mut self) -> Result<(), DatapathError> {
        let root = cgroup::root().map_err(DatapathError::io("opening the root of cgroup v2"))?;
        self.packets(&root, EGRESS, CgroupSkbAttachType::Egress)
    }

    /// Whether packets of protocols other than TCP and UDP were seen by an earlier life.
    pub fn sees_others(pin_dir: &Path) -> bool {
        pin_dir.join(EGRESS.1).exists()
    }

    fn packets(
        &mut self,
        root: &OwnedFd,
        (name, at): (&str, &str),
        way: CgroupSkbAttachType,
    ) -> Result<(), DatapathError> {
        let failed = |error: &dyn std::error::Error| DatapathError::Attach {
            name: "the root of cgroup v2".into(),
            mode: name.to_owned(),
            message: chain(error),
        };
        let program: &mut CgroupSkb = program(&mut self.ebpf, name)?;
        let id =
            program.attach(root, way, CgroupAttachMode::Single).map_err(|error| failed(&error))?;
        let link = program.take_link(id).map_err(|error| failed(&error))?;
        pin(&self.pin_dir, at, link.try_into().map_err(|error| failed(&error))?)
    }

    /// Whoever holds a socket whose maker isn't known is taken for it.
    fn look(&mut self) -> Result<(), DatapathError> {
        let failed = |error: &dyn std::error::Error| {
            DatapathError::Load(format!("looking at sockets: {}", chain(error)))
        };
        let program: &mut Iter = program(&mut self.ebpf, "sluice_own_held")?;
        let link = program.attach().map_err(|error| failed(&error))?;
        let link = program.take_link(link).map_err(|error| failed(&error))?;
        let mut file = link.into_file().map_err(|error| failed(&error))?;
        let mut buffer = [0u8; 64];
        loop {
            // Nothing is written: the end comes when all were looked at.
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&error)),
            }
        }
    }

    /// What became of calls.
    pub fn counters(&self) -> Result<OwnerCounter, DatapathError> {
        self.counters.get(&0, 0).map_err(DatapathError::map("OWNER_COUNTERS"))
    }

    /// Instructions that the verifier walked for each program.
    pub fn verified(&self) -> Vec<(String, u32)> {
        let count = |program: &aya::programs::Program| {
            program.info().ok().and_then(|info| info.verified_instruction_count())
        };
        self.ebpf
            .programs()
            .map(|(name, program)| (name.to_owned(), count(program).unwrap_or(0)))
            .collect()
    }

    /// What each program has cost since it was loaded, while the kernel accounted for it: name, time, runs.
    fn costs(&self) -> Vec<(String, Duration, u64)> {
        let info = |(name, program): (&str, &aya::programs::Program)| {
            let info = program.info().ok()?;
            Some((name.to_owned(), info.run_time(), info.run_count()))
        };
        self.ebpf.programs().filter_map(info).collect()
    }

    /// Takes everything down: nobody is judged any more.
    pub fn close(self) {
        remove_pins(&self.pin_dir);
    }
}

fn remove_pins(pin_dir: &Path) {
    let links = CALLS.into_iter().chain([CREATE, INGRESS, EGRESS]).map(|(_, pin)| pin);
    for name in links.chain(MAPS) {
        let _ = std::fs::remove_file(pin_dir.join(name));
    }
}

/// Pins a link where an earlier one may be, which goes then.
fn pin(dir: &Path, name: &str, link: FdLink) -> Result<(), DatapathError> {
    let path = dir.join(name);
    let failed = |message: String| DatapathError::Attach {
        name: path.display().to_string(),
        mode: "pin".into(),
        message,
    };
    // The new one is attached already.
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error.to_string())),
    }
    link.pin(&path).map(drop).map_err(|error| failed(chain(&error)))
}

/// Makes `wanted` the entries of table `index`; what is wanted comes before the rest goes. Of a table that isn't
/// idle only what has other keys goes that isn't there any more, and programs' own entries are theirs.
fn put<K: Pod + PartialEq + Eq + std::hash::Hash, V: Pod>(
    map: &mut HashMap<MapData, K, V>,
    name: &'static str,
    index: u32,
    table: impl Fn(&K) -> u32,
    idle: bool,
    wanted: impl Iterator<Item = (K, V)>,
) -> Result<(), DatapathError> {
    let old: Vec<K> = map.keys().filter_map(Result::ok).filter(|key| table(key) == index).collect();
    let mut stays = std::collections::HashSet::new();
    if idle {
        // Room first: nobody looks.
        for key in &old {
            let _ = map.remove(key);
        }
    }
    for (key, value) in wanted {
        map.insert(key, value, 0).map_err(DatapathError::map(name))?;
        stays.insert(key);
    }
    for key in old.iter().filter(|key| !idle && !stays.contains(*key)) {
        let _ = map.remove(key);
    }
    Ok(())
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, DatapathError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program>,
{
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| DatapathError::Load(format!("the object has no program {name}")))
}

/// Cookie of the network namespace that we are in (SO_NETNS_COOKIE, net/core/sock.c).
fn netns_cookie() -> io::Result<u64> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")
        .or_else(|_| std::net::UdpSocket::bind("0.0.0.0:0"))?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: a live descriptor; the kernel writes at most `length` bytes.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if done == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

impl super::Datapath {
    /// Before the flip: writes the idle table. Without rules, and without a gate, there is nothing to do.
    pub(super) fn prepare_owners(
        &mut self,
        idle: u32,
        policy: Option<&OwnerPolicy>,
    ) -> Result<(), DatapathError> {
        match (policy, &mut self.owners) {
            (None, None) => Ok(()),
            (None, Some(gate)) => gate.clear(idle),
            (Some(policy), Some(gate)) => {
                gate.write(idle, policy, self.rate)?;
                if policy.others && !OwnerGate::sees_others(&self.pin_dir) {
                    gate.attach_egress()?;
                }
                Ok(())
            }
            (Some(policy), None) => {
                let begun = OwnerGate::open(&self.pin_dir, self.ring_bytes).and_then(|mut gate| {
                    gate.clear(idle ^ 1)?;
                    gate.write(idle, policy, self.rate)?;
                    gate.attach(policy.others)?;
                    Ok(gate)
                });
                match begun {
                    Ok(gate) => {
                        self.owners = Some(gate);
                        Ok(())
                    }
                    Err(error) => {
                        remove_pins(&self.pin_dir);
                        Err(error)
                    }
                }
            }
        }
    }

    /// After the flip and its grace period: takes down what the live policy doesn't need. `others`: whether its rules
    /// speak of others, if it has any.
    pub(super) fn settle_owners(&mut self, others: Option<bool>) {
        match others {
            None => {
                if let Some(gate) = self.owners.take() {
                    gate.close();
                }
            }
            Some(false) => {
                let _ = std::fs::remove_file(self.pin_dir.join(EGRESS.1));
            }
            Some(true) => {}
        }
    }

    /// Asks `look` who is meant by the live rules now; `None`: nothing has changed.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn refresh_owners(
        &mut self,
        look: &mut dyn FnMut() -> Option<OwnerKeys>,
    ) -> Result<(), DatapathError> {
        let live = self.generation() & 1;
        let Some(gate) = self.owners.as_mut() else { return Ok(()) };
        // Read before the look: what it doesn't find of these is gone, and not too new.
        let met = gate.places(live);
        let Some(keys) = look() else { return Ok(()) };
        gate.fill(live, &keys, false)?;
        if !keys.places.is_empty() {
            gate.forget(live, met.into_iter().filter(|id| !keys.places.contains_key(id)));
        }
        Ok(())
    }

    /// What became of calls, if the live policy has rules by owner.
    pub fn owner_counters(&self) -> Option<OwnerCounter> {
        self.owners.as_ref().and_then(|gate| gate.counters().ok())
    }

    /// What each program of rules by owner has cost since it was loaded, while the kernel accounted for it: name,
    /// time, runs.
    pub fn owners_costs(&self) -> Vec<(String, Duration, u64)> {
        self.owners.as_ref().map(OwnerGate::costs).unwrap_or_default()
    }

    /// Instructions that the verifier walked for the programs of rules by owner.
    pub fn owners_verified(&self) -> Vec<(String, u32)> {
        self.owners.as_ref().map(OwnerGate::verified).unwrap_or_default()
    }
}
