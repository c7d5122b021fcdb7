//! Where live sets stand: the seam between what is done to them and the kernel's maps.

use super::{
    SetKind,
    lock::{self, Held},
    memory::Memory,
};
use firewall_common::abi::set::SetHead;
use std::{
    fmt::Debug,
    io,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Words of a head.
pub const HEAD_WORDS: usize = size_of::<SetHead>() / 8;

/// Words of an arena, or of all heads, for as long as this lives.
pub trait Arena: Debug + Send + Sync {
    /// The words.
    fn words(&self) -> &[AtomicU64];
    /// The map that they are of, if there is one.
    fn map(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A handle on an arena.
pub type Shared = Arc<dyn Arena>;

/// Makes an arena of zeros of a class (1 plus the index in `SET_ARENAS`), which nobody else knows of.
pub type Maker = fn(class: u32) -> io::Result<Shared>;

/// Where live sets stand. Everything may be asked from any thread; who changes sets is one at a time.
pub trait Ground: Debug + Send + Sync {
    /// Which set is at which index.
    fn names(&self) -> Vec<(u8, String)>;
    /// Says who is at an index from now on; an empty name: nobody.
    fn set_name(&self, index: u8, name: &str);
    /// A set's head.
    fn head(&self, index: u8) -> Head;
    /// A set's arena, if it has one.
    fn arena(&self, index: u8) -> Option<Shared>;
    /// What makes arenas.
    fn maker(&self) -> Maker;
    /// Lets programs find an arena as that of a set. When this returns, none looks at the one before any more.
    ///
    /// # Errors
    /// The kernel refused. Then the one before is found, as it was; or, if all that failed was to wait, the new one.
    fn publish(&self, index: u8, arena: &Shared) -> io::Result<()>;
    /// Takes a set's arena away.
    ///
    /// # Errors
    /// The kernel refused.
    fn withdraw(&self, index: u8) -> io::Result<()>;
    /// The kernel's tick.
    fn now(&self) -> u64;
    /// Ticks a second.
    fn rate(&self) -> u64;
}

/// A set's head where it stands.
#[derive(Clone, Debug)]
pub struct Head {
    all: Shared,
    first: usize,
}

/// Words of [`SetHead`].
mod at {
    pub const CLASS_KIND: usize = 0;
    pub const FLAGS_RATE: usize = 1;
    pub const MOST: usize = 2;
    pub const LOCK: usize = 3;
}

impl Head {
    /// Of the set at `index` of the array of heads. An index beyond it has the last.
    pub fn new(all: Shared, index: u8) -> Self {
        let last = (all.words().len() / HEAD_WORDS).saturating_sub(1);
        Self { first: usize::from(index).min(last) * HEAD_WORDS, all }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.all.words()[self.first + at]
    }

    /// All of it, as it is now.
    pub fn read(&self) -> SetHead {
        let words: [u64; HEAD_WORDS] = std::array::from_fn(|at| self.word(at).load(Relaxed));
        bytemuck::cast(words)
    }

    /// The lock.
    pub fn lock(&self) -> &AtomicU64 {
        self.word(at::LOCK)
    }

    /// Says what a set is, before anybody is sent there: all counters begin at zero.
    pub fn begin(&self, kind: SetKind, rate: u64, most: u64) {
        let head = SetHead {
            kind: kind.raw(),
            rate: u32::try_from(rate).unwrap_or(u32::MAX),
            most,
            ..SetHead::default()
        };
        self.copy(&head);
    }

    /// Makes it be another one. Nobody is sent there yet.
    pub fn copy(&self, head: &SetHead) {
        let words: [u64; HEAD_WORDS] = bytemuck::cast(*head);
        for (at, word) in words.into_iter().enumerate() {
            self.word(at).store(word, Relaxed);
        }
    }

    /// Says of which class its arena is; 0: there is none.
    pub fn set_class(&self, class: u32) {
        let kind = self.word(at::CLASS_KIND).load(Relaxed) >> 32;
        self.word(at::CLASS_KIND).store(kind << 32 | u64::from(class), Relaxed);
    }

    /// Says how many entries it may have.
    pub fn set_most(&self, most: u64) {
        self.word(at::MOST).store(most, Relaxed);
    }

    /// Says how many ticks a second has.
    pub fn set_rate(&self, rate: u64) {
        let flags = self.word(at::FLAGS_RATE).load(Relaxed) & 0xffff_ffff;
        self.word(at::FLAGS_RATE).store(rate << 32 | flags, Relaxed);
    }

    /// What it holds.
    pub fn kind(&self) -> SetKind {
        let raw = (self.word(at::CLASS_KIND).load(Relaxed) >> 32) as u32;
        SetKind::try_from(raw).unwrap_or(SetKind::Addresses)
    }
}

/// What is in an arena.
pub fn memory(arena: &Shared) -> Memory<'_> {
    Memory::new(arena.words())
}

/// Takes a set's lock.
pub fn lock<'a>(head: &'a Head, ground: &(impl Ground + ?Sized)) -> Held<'a> {
    lock::take(head.lock(), ground.rate(), &|| ground.now())
}
