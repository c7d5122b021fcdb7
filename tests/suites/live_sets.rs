//! Where live sets stand in the kernel, without programs that look there: maps are made, filled, found, swapped, taken up
//! by the next daemon, and given back.

use firewall_user::{
    datapath::sets::Sets,
    sets::{Entry, Ground, Limits, Live, SetKind, memory},
};
use sluice_tests::skip;
use std::{path::PathBuf, sync::Arc, time::Instant};

const FREE: Limits = Limits { size: None, grows: false };

/// A folder on a BPF file system. It goes when this is dropped.
struct Pins(PathBuf);

impl Pins {
    fn or_skip(test: &str) -> Option<Self> {
        if let Some(reason) = skip::no_kernel_access() {
            skip::skip(test, reason);
            return None;
        }
        let dir = PathBuf::from(format!("/sys/fs/bpf/sluice-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder on bpffs");
        Some(Self(dir))
    }

    /// As a daemon that starts.
    fn sets(&self) -> Arc<Sets> {
        Arc::new(Sets::apart(&self.0).expect("maps"))
    }

    fn arenas(&self) -> usize {
        let pins = std::fs::read_dir(&self.0).expect("there");
        pins.flatten().filter(|pin| pin.file_name().to_string_lossy().starts_with("ARENA_")).count()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for pin in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(pin.path());
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn some(n: u32) -> Vec<(Entry, Option<u64>)> {
    (0..n).map(|i| (Entry::Prefix4(i.wrapping_mul(0x9e37_79b1), 32), None)).collect()
}

fn entries(live: &Live) -> Vec<Entry> {
    let mut entries: Vec<Entry> =
        live.entries().expect("there").into_iter().map(|(entry, _)| entry).collect();
    entries.sort_unstable();
    entries
}

fn sorted(entries: Vec<(Entry, Option<u64>)>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = entries.into_iter().map(|(entry, _)| entry).collect();
    entries.sort_unstable();
    entries
}

#[test]
fn a_set_outlives_its_daemon_through_classes() {
    let Some(pins) = Pins::or_skip("sets-outlive") else { return };
    let sets = pins.sets();
    let live = Live::at(sets.clone(), 7);
    sets.set_name(7, "scanners");
    live.begin(&FREE, SetKind::Addresses, &some(100)).expect("room");
    assert_eq!((live.head().class, pins.arenas()), (1, 1));
    drop((live, sets));

    let sets = pins.sets();
    assert_eq!(sets.names(), [(7, "scanners".to_owned())]);
    let live = Live::at(sets.clone(), 7);
    assert_eq!(entries(&live), sorted(some(100)));
    // Within a class, and from one to another: the old map is gone each time.
    live.replace(&FREE, &some(50)).expect("room");
    assert_eq!((live.head().class, pins.arenas(), entries(&live).len()), (1, 1, 50));
    live.add(&FREE, &some(10_000)).expect("room");
    assert_eq!((live.head().class, pins.arenas()), (2, 1));
    drop((live, sets));

    let sets = pins.sets();
    let live = Live::at(sets.clone(), 7);
    assert_eq!(entries(&live), sorted(some(10_000)));
    live.end().expect("given back");
    assert_eq!((live.head().class, pins.arenas(), sets.names().len()), (0, 0, 0));
    assert!(live.arena().is_err());
    drop((live, sets));
    assert!(pins.sets().names().is_empty());
}

#[test]
fn what_a_daemon_left_half_done_is_cleared_away() {
    let Some(pins) = Pins::or_skip("sets-half") else { return };
    let sets = pins.sets();
    let live = Live::at(sets.clone(), 0);
    sets.set_name(0, "a");
    live.begin(&FREE, SetKind::Addresses, &some(10)).expect("room");
    // Another one was made, and its daemon died before programs found it.
    let arena = (sets.maker())(2).expect("made");
    sets.pin(&arena).expect("pinned");
    assert_eq!(pins.arenas(), 2);
    drop((arena, live, sets));
    let live = Live::at(pins.sets(), 0);
    assert_eq!((pins.arenas(), entries(&live).len()), (1, 10));
}

/// Figures beside a test that they are possible at all.
#[test]
fn a_million_addresses_are_put_in_place() {
    let Some(pins) = Pins::or_skip("sets-million") else { return };
    let sets = pins.sets();
    let live = Live::at(sets.clone(), 0);
    live.begin(&FREE, SetKind::Addresses, &[]).expect("room");
    let million = some(1_000_000);
    let begun = Instant::now();
    live.replace(&FREE, &million).expect("room");
    println!("a million addresses in place: {:?}", begun.elapsed());
    assert_eq!(memory(&live.arena().expect("there")).count(), 1_000_000);
    let begun = Instant::now();
    for n in 0..1_000u32 {
        live.add(&FREE, &[(Entry::Prefix4(n << 8, 24), None)]).expect("room");
    }
    println!("one more: {:?}", begun.elapsed() / 1_000);
}
