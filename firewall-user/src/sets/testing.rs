//! A ground without a kernel.

use super::{
    ground::{Arena, Ground, HEAD_WORDS, Head, Maker, Shared, memory},
    lock,
};
use firewall_common::abi::set::{MAX_SETS, SET_ARENAS};
use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

/// Words on the heap.
#[derive(Debug)]
pub struct Words(Box<[AtomicU64]>);

impl Words {
    pub fn new(words: usize) -> Self {
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Arena for Words {
    fn words(&self) -> &[AtomicU64] {
        &self.0
    }
}

/// An arena of a class on the heap.
pub fn make(class: u32) -> io::Result<Shared> {
    Ok(Arc::new(Words::new(SET_ARENAS[class as usize - 1])))
}

/// A ground on the heap, whose clock stands still until it is set.
#[derive(Debug)]
pub struct HeapGround {
    heads: Shared,
    arenas: Mutex<Vec<Option<Shared>>>,
    names: Mutex<Vec<String>>,
    pub clock: AtomicU64,
    /// The next arena isn't taken.
    pub refuses: AtomicBool,
}

impl Default for HeapGround {
    fn default() -> Self {
        Self {
            heads: Arc::new(Words::new(MAX_SETS * HEAD_WORDS)),
            arenas: Mutex::new(vec![None; MAX_SETS]),
            names: Mutex::new(vec![String::new(); MAX_SETS]),
            clock: AtomicU64::new(1_000_000),
            refuses: AtomicBool::new(false),
        }
    }
}

impl Ground for HeapGround {
    fn names(&self) -> Vec<(u8, String)> {
        let names = self.names.lock().expect("no test panics with it locked");
        let named = (0..).zip(names.iter()).filter(|(_, name)| !name.is_empty());
        named.map(|(index, name)| (index, name.clone())).collect()
    }
    fn set_name(&self, index: u8, name: &str) {
        self.names.lock().expect("as above")[usize::from(index)] = name.to_owned();
    }
    fn head(&self, index: u8) -> Head {
        Head::new(self.heads.clone(), index)
    }
    fn arena(&self, index: u8) -> Option<Shared> {
        self.arenas.lock().expect("as above")[usize::from(index)].clone()
    }
    fn maker(&self) -> Maker {
        make
    }
    fn publish(&self, index: u8, arena: &Shared) -> io::Result<()> {
        if self.refuses.swap(false, Relaxed) {
            return Err(io::Error::other("no memory"));
        }
        let class = memory(arena).shape().map_or(0, |shape| shape.class);
        self.arenas.lock().expect("as above")[usize::from(index)] = Some(arena.clone());
        let head = self.head(index);
        head.set_class(class);
        // Whoever was at the old one holds the lock: a grace period.
        drop(lock::take(head.lock(), self.rate(), &|| self.now()));
        Ok(())
    }
    fn withdraw(&self, index: u8) -> io::Result<()> {
        self.head(index).set_class(0);
        self.arenas.lock().expect("as above")[usize::from(index)] = None;
        Ok(())
    }
    fn now(&self) -> u64 {
        self.clock.load(Relaxed)
    }
    fn rate(&self) -> u64 {
        250
    }
}
