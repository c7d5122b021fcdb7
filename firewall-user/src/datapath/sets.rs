//! Where live sets stand in the kernel: heads in map `SETS`, an arena of each in a map of its own, which an array of maps
//! leads to, and whose they are in `SET_NAMES`.
//!
//! A map that only an array of maps knows can be opened by its id alone, and that takes CAP_SYS_ADMIN. So each arena is
//! pinned by its id as well, from before programs find it until after they don't: the next daemon opens those that the
//! arrays lead to, and removes the others.

use super::{Datapath, error::DatapathError, raw, table::Mapping};
use crate::sets::{self, Ground, Head, Maker, Memory, Shared};
use aya::Ebpf;
use firewall_common::abi::{
    clock::ClockReading,
    names::Name,
    set::{MAX_SETS, SET_ARENAS, SET_FROZEN, SetHead},
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, Release},
        },
    },
};

/// The arrays of maps, by class less 1.
pub const NAMES: [&str; 4] = ["SETS_A", "SETS_B", "SETS_C", "SETS_D"];
/// What the pins of arenas begin with; their ids follow.
const PIN: &str = "ARENA_";
/// Words of a name.
const NAME_WORDS: usize = size_of::<Name>() / 8;

/// Memory of a map.
#[derive(Debug)]
struct Mapped {
    map: OwnedFd,
    memory: Mapping,
}

impl sets::Arena for Mapped {
    fn words(&self) -> &[std::sync::atomic::AtomicU64] {
        self.memory.words()
    }
    fn map(&self) -> Option<BorrowedFd<'_>> {
        Some(self.map.as_fd())
    }
}

impl Mapped {
    fn of(map: OwnedFd, bytes: usize) -> io::Result<Shared> {
        let memory = Mapping::of(map.as_fd(), bytes)?;
        Ok(Arc::new(Self { map, memory }))
    }
}

fn bytes_of(class: u32) -> io::Result<usize> {
    let words = class.checked_sub(1).and_then(|size| SET_ARENAS.get(size as usize));
    words.map(|words| words * 8).ok_or_else(|| io::Error::other("no arena is of that class"))
}

fn make(class: u32) -> io::Result<Shared> {
    let bytes = bytes_of(class)?;
    Mapped::of(raw::mapped_array("sluice_set", bytes)?, bytes)
}

/// The live sets of a filter.
#[derive(Debug)]
pub struct Sets {
    heads: Shared,
    names: Mapping,
    outer: Vec<OwnedFd>,
    /// `None`: nobody takes this filter over.
    pins: Option<PathBuf>,
    /// The same, found out later.
    apart: AtomicBool,
    arenas: Mutex<Vec<Option<Shared>>>,
    /// A tick, and when it was. Ticks follow CLOCK_MONOTONIC.
    met: ClockReading,
    rate: u64,
}

fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// What is pinned there, or what is made and then pinned there.
fn found_or(at: &Path, make: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    raw::pinned(at).or_else(|_| {
        let made = make()?;
        raw::pin(made.as_fd(), at)?;
        Ok(made)
    })
}

fn descriptor(ebpf: &Ebpf, name: &str) -> io::Result<OwnedFd> {
    let fd = match ebpf.map(name) {
        Some(aya::maps::Map::ArrayOfMaps(data) | aya::maps::Map::Array(data)) => data.fd().as_fd(),
        _ => return Err(io::Error::other(format!("the object has no array {name}"))),
    };
    fd.try_clone_to_owned()
}

impl Sets {
    /// Of a loaded object, whose maps are pinned in `pins`, if they are; `met`: a reading of the clocks, of `rate` ticks a second. `None`
    /// where the object was built without live sets.
    ///
    /// # Errors
    /// The kernel refused to map a map.
    pub fn of(
        ebpf: &Ebpf,
        pins: Option<&Path>,
        met: ClockReading,
        rate: u64,
    ) -> Result<Option<Self>, DatapathError> {
        if ebpf.map(NAMES[0]).is_none() {
            return Ok(None);
        }
        let maps = || -> io::Result<Self> {
            let outer = NAMES.iter().map(|name| descriptor(ebpf, name));
            let outer = outer.collect::<io::Result<_>>()?;
            let (heads, names) = (descriptor(ebpf, "SETS")?, descriptor(ebpf, "SET_NAMES")?);
            Self::on(heads, names.as_fd(), outer, pins, (met, rate))
        };
        maps().map(Some).map_err(DatapathError::io("opening the maps of live sets"))
    }

    /// On maps that no program may know of, pinned in `pins`: for tests of this alone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn apart(pins: &Path) -> io::Result<Self> {
        let heads = raw::mapped_array("sluice_heads", MAX_SETS * size_of::<SetHead>());
        let names = raw::mapped_array("sluice_names", MAX_SETS * size_of::<Name>());
        let outer = NAMES.iter().zip(1..).map(|(name, class)| {
            let like = raw::mapped_array("sluice_set", bytes_of(class)?)?;
            found_or(&pins.join(name), || raw::array_of_maps(name, MAX_SETS as u32, like.as_fd()))
        });
        let outer = outer.collect::<io::Result<_>>()?;
        let heads = found_or(&pins.join("SETS"), || heads)?;
        let names = found_or(&pins.join("SET_NAMES"), || names)?;
        let met = ClockReading { ticks: 1 << 32, monotonic_ns: monotonic_ns() };
        Self::on(heads, names.as_fd(), outer, Some(pins), (met, 250))
    }

    fn on(
        heads: OwnedFd,
        names: BorrowedFd<'_>,
        outer: Vec<OwnedFd>,
        pins: Option<&Path>,
        (met, rate): (ClockReading, u64),
    ) -> io::Result<Self> {
        let mut this = Self {
            heads: Mapped::of(heads, MAX_SETS * size_of::<SetHead>())?,
            names: Mapping::of(names, MAX_SETS * size_of::<Name>())?,
            outer,
            pins: pins.map(Path::to_owned),
            apart: AtomicBool::new(false),
            arenas: Mutex::default(),
            met,
            rate,
        };
        this.adopt();
        Ok(this)
    }

    /// Opens the arenas that are found, and removes what a daemon left that died while it put one in place.
    fn adopt(&mut self) {
        let mut used = Vec::new();
        let mut arenas = Vec::new();
        for index in 0..MAX_SETS as u8 {
            let head = self.head(index);
            let class = head.read().class;
            for other in (1..=NAMES.len() as u32).filter(|other| *other != class) {
                let _ = self.clear(index, other);
            }
            let arena = self.found(index, class).inspect_err(|error| {
                log::error!("live set {index}: its memory can't be opened: {error}");
            });
            let (id, arena) = arena.ok().flatten().unzip();
            used.extend(id);
            if class != 0 {
                head.set_rate(self.rate);
            }
            arenas.push(arena);
        }
        let pinned = self.pins.as_ref().and_then(|pins| std::fs::read_dir(pins).ok());
        for entry in pinned.into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix(PIN)?.parse::<u32>().ok());
            if id.is_some_and(|id| !used.contains(&id)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        self.arenas = Mutex::new(arenas);
    }

    /// The arena that programs find at an index, and its id.
    fn found(&self, index: u8, class: u32) -> io::Result<Option<(u32, Shared)>> {
        let Some(outer) = self.outer_of(class) else { return Ok(None) };
        let mut id = 0u32;
        match raw::get(outer, &u32::from(index), &mut id) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let pin = self.pin_of(id).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        let map = pin.and_then(|pin| raw::pinned(&pin)).or_else(|_| raw::map_by_id(id))?;
        Ok(Some((id, Mapped::of(map, bytes_of(class)?)?)))
    }

    fn pin_of(&self, id: u32) -> Option<PathBuf> {
        let pins = self.pins.as_ref().filter(|_| !self.apart.load(Relaxed));
        pins.map(|pins| pins.join(format!("{PIN}{id}")))
    }

    fn outer_of(&self, class: u32) -> Option<BorrowedFd<'_>> {
        let size = class.checked_sub(1)?;
        self.outer.get(size as usize).map(|fd| fd.as_fd())
    }

    /// Takes an arena out of the array of its class.
    fn clear(&self, index: u8, class: u32) -> io::Result<()> {
        let Some(outer) = self.outer_of(class) else { return Ok(()) };
        match raw::remove(outer, &u32::from(index)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn arenas(&self) -> MutexGuard<'_, Vec<Option<Shared>>> {
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pins an arena, before programs find it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pin(&self, arena: &Shared) -> io::Result<()> {
        let map = arena.map().ok_or_else(|| io::Error::other("memory that is no map's"))?;
        let pin = self.pin_of(raw::map_id(map)?);
        pin.map_or(Ok(()), |pin| raw::pin(map, &pin))
    }

    fn unpin(&self, arena: Option<Shared>) {
        let map = arena.as_ref().and_then(|arena| arena.map());
        let id = map.and_then(|map| raw::map_id(map).ok());
        if let Some(pin) = id.and_then(|id| self.pin_of(id)) {
            let _ = std::fs::remove_file(pin);
        }
    }

    fn put(&self, index: u8, class: u32, map: BorrowedFd<'_>) -> io::Result<()> {
        let outer = self.outer_of(class).ok_or_else(|| io::Error::other("no such class"))?;
        raw::set(outer, &u32::from(index), &map.as_raw_fd().cast_unsigned())
    }

    /// Lets the programs of a twin find the sets of the running filter, whose maps are pinned in `pins`: they add nothing
    /// to them. Sets that can't be shown are empty there.
    pub(super) fn share(&self, pins: &Path) -> io::Result<()> {
        self.apart.store(true, Relaxed);
        let heads = raw::pinned(&pins.join("SETS"))?;
        let heads = Mapped::of(heads, MAX_SETS * size_of::<SetHead>())?;
        let outer = NAMES.iter().map(|name| raw::pinned(&pins.join(name)));
        let outer = outer.collect::<io::Result<Vec<_>>>()?;
        for index in 0..MAX_SETS as u8 {
            let theirs = Head::new(heads.clone(), index).read();
            let Some(from) = theirs.class.checked_sub(1).and_then(|size| outer.get(size as usize))
            else {
                continue;
            };
            let mut id = 0u32;
            if raw::get(from.as_fd(), &u32::from(index), &mut id).is_err() {
                continue;
            }
            let map = raw::pinned(&pins.join(format!("{PIN}{id}"))).or_else(|_| raw::map_by_id(id));
            if let Ok(map) = map {
                self.put(index, theirs.class, map.as_fd())?;
                self.head(index).copy(&SetHead { flags: SET_FROZEN, lock: 0, ..theirs });
            }
        }
        Ok(())
    }
}

impl Datapath {
    /// The live sets.
    pub fn sets(&self) -> Option<Arc<Sets>> {
        self.sets.clone()
    }

    /// Lets flows that were let in be judged anew, each by its next packet.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn rejudge(&mut self) -> Result<(), DatapathError> {
        let mut control = self.control.get(&0, 0).map_err(DatapathError::map("CONTROL"))?;
        if control.generation == 0 {
            return Ok(());
        }
        if control.installed == 0 {
            control.installed = control.generation;
        }
        // The table stays the live one. Numbers begin anew behind the last one, where 0 is left out.
        let next = control.generation.wrapping_add(2);
        control.generation = if next == 0 { 2 } else { next };
        self.control.set(0, control, 0).map_err(DatapathError::map("CONTROL"))
    }
}

impl Ground for Sets {
    fn names(&self) -> Vec<(u8, String)> {
        let entries = self.names.words().chunks_exact(NAME_WORDS);
        let named = (0..).zip(entries).filter_map(|(index, raw)| {
            let words: [u64; NAME_WORDS] = std::array::from_fn(|at| raw[at].load(Relaxed));
            let name: Name = bytemuck::cast(words);
            (name.len != 0).then(|| (index, name.as_str().to_owned()))
        });
        named.collect()
    }

    fn set_name(&self, index: u8, name: &str) {
        let words: [u64; NAME_WORDS] = bytemuck::cast(Name::new(name, 0).unwrap_or_default());
        let entry = self.names.words().chunks_exact(NAME_WORDS).nth(usize::from(index));
        for (to, from) in entry.into_iter().flatten().zip(words) {
            to.store(from, Release);
        }
    }

    fn head(&self, index: u8) -> Head {
        Head::new(self.heads.clone(), index)
    }

    fn arena(&self, index: u8) -> Option<Shared> {
        self.arenas().get(usize::from(index)).cloned().flatten()
    }

    fn maker(&self) -> Maker {
        make
    }

    fn publish(&self, index: u8, arena: &Shared) -> io::Result<()> {
        let no_map = || io::Error::other("memory that is no map's");
        let map = arena.map().ok_or_else(no_map)?;
        let class = Memory::new(arena.words()).shape().map(|shape| shape.class);
        let class = class.ok_or_else(|| io::Error::other("an arena that was never laid out"))?;
        let head = self.head(index);
        let before = head.read().class;
        self.pin(arena)?;
        let done = if class == before {
            // Whoever adds an entry looks the arena up more than once: it mustn't be another one by then.
            let _held = sets::lock(&head, self);
            self.put(index, class, map)
        } else {
            self.put(index, class, map).map(|()| {
                let _held = sets::lock(&head, self);
                head.set_class(class);
            })
        };
        if let Err(error) = done {
            self.unpin(Some(arena.clone()));
            return Err(error);
        }
        let old = match self.arenas().get_mut(usize::from(index)) {
            Some(place) => place.replace(arena.clone()),
            None => None,
        };
        // The new one is found. If nobody can tell when the old one isn't looked at any more, the next daemon clears it
        // away.
        raw::grace_period()?;
        if class != before {
            self.clear(index, before)?;
        }
        self.unpin(old);
        Ok(())
    }

    fn withdraw(&self, index: u8) -> io::Result<()> {
        let head = self.head(index);
        let class = head.read().class;
        // Whoever began with a policy that asks it is through.
        raw::grace_period()?;
        {
            let _held = sets::lock(&head, self);
            head.set_class(0);
        }
        raw::grace_period()?;
        self.clear(index, class)?;
        let old = self.arenas().get_mut(usize::from(index)).and_then(Option::take);
        self.unpin(old);
        Ok(())
    }

    fn now(&self) -> u64 {
        let since = monotonic_ns().saturating_sub(self.met.monotonic_ns);
        self.met.ticks + since / (1_000_000_000 / self.rate.max(1))
    }

    fn rate(&self) -> u64 {
        self.rate
    }
}
