//! Owners that have ended while their sockets live: passed on, inherited, in a message, or still sending.

use super::{Place, Socket, SocketTable};
use crate::monitor::text;
use crate::view::SocketView;
use firewall_common::abi::socket::Process;
use std::collections::{HashMap, HashSet};

/// Ends that are remembered.
const ENDS: usize = 65_536;

/// A process by number and start: its number may be another's by now.
type Identity = (u32, u64);

const fn identity(process: &Process) -> Identity {
    (process.tgid, process.start_ns)
}

/// Ends of processes that own sockets.
#[derive(Debug, Default)]
pub(super) struct Exits {
    /// When, CLOCK_MONOTONIC ns.
    known: HashMap<Identity, u64>,
    forgotten: u64,
}

impl Exits {
    /// When a process ended, if it did.
    pub(super) fn of(&self, process: &Process) -> Option<u64> {
        self.known.get(&identity(process)).copied()
    }

    /// How many ends of owners with sockets that live found no room.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

impl SocketTable {
    /// Learns that a process ended at `at_ns` (CLOCK_MONOTONIC).
    pub fn exited(&mut self, process: &Process, at_ns: u64) {
        if self.exits.known.len() == ENDS {
            self.forget_exits();
        }
        if self.exits.known.len() == ENDS {
            self.exits.forgotten += 1;
            return;
        }
        self.exits.known.entry(identity(process)).or_insert(at_ns);
    }

    /// Forgets ends of those who own nothing that lives.
    pub(super) fn forget_exits(&mut self) {
        let before = std::mem::take(&mut self.exits.known);
        for socket in self.live.values() {
            let owner = identity(&socket.row.usage.owner);
            if let Some(at) = before.get(&owner) {
                self.exits.known.insert(owner, *at);
            }
        }
    }

    /// Owners of live sockets that hold no descriptor, and whose end nobody told of: they may have ended when nobody
    /// watched.
    pub fn absent(&self) -> Vec<Process> {
        let held = self.live.values().flat_map(|socket| &socket.holders);
        let there: HashSet<Identity> = held.map(|(holder, _)| identity(holder)).collect();
        let absent = |owner: &&Process| {
            owner.tgid != 0 && !there.contains(&identity(owner)) && self.exits.of(owner).is_none()
        };
        let absent: HashMap<Identity, Process> =
            self.owners().filter(absent).map(|owner| (identity(owner), *owner)).collect();
        absent.into_values().collect()
    }

    /// A socket that lives, as people see it.
    pub(super) fn view_of(&self, socket: &Socket, place: &Place) -> SocketView {
        let exited = self.exits.of(&socket.row.usage.owner);
        SocketView { owner_exited: shown(exited, place), ..socket.view(place) }
    }
}

/// When an owner ended, in words.
pub(super) fn shown(exited_ns: Option<u64>, place: &Place) -> Option<String> {
    exited_ns.map(|at| text::time(place.clock.monotonic_to_unix(at)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{event, keys, live, place, row};
    use super::*;
    use firewall_common::abi::socket::{HeldSocket, SocketClass, SocketEvent, SocketRow, Usage};

    const SECOND: u64 = 1_000_000_000;
    const ESTABLISHED: u8 = 1;

    fn end_of(owner: Process, at_ns: u64) -> SocketEvent {
        let usage = Usage { owner, ..Usage::default() };
        event(SocketClass::Exited, 0, SocketRow { usage, ..SocketRow::default() }, at_ns)
    }

    fn owned_by(cookie: u64, tgid: u32, start_ns: u64) -> SocketRow {
        let mut row = row(cookie, ESTABLISHED);
        row.usage.owner = Process { tgid, start_ns, ..row.usage.owner };
        row
    }

    #[test]
    fn a_row_says_that_its_owner_is_gone() {
        let mut table = SocketTable::default();
        let rows = [owned_by(1, 7, 5), owned_by(2, 7, 6), owned_by(3, 8, 5)];
        for row in rows {
            table.event(&event(SocketClass::Established, 2, row, SECOND), &keys);
        }
        table.event(&end_of(rows[0].usage.owner, 3 * SECOND), &keys);
        let gone = |table: &SocketTable| {
            let rows = live(table).into_iter();
            rows.map(|row| row.owner_exited.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(gone(&table), [true, false, false], "its number may be another's");
        assert_eq!(table.stats(&Default::default()).events[4].delivered, 1);
        // Another holds it: its owner is who made it, still.
        let held = rows.map(|row| HeldSocket {
            row,
            holder: rows[2].usage.owner,
            ..HeldSocket::default()
        });
        table.snapshot(&held, 4 * SECOND, 5, false, &keys);
        assert_eq!(gone(&table), [true, false, false]);
        assert_eq!(table.absent(), [rows[1].usage.owner], "who may have ended unseen");
        table.event(&event(SocketClass::Closed, 4, rows[0], 5 * SECOND), &keys);
        table.event(&event(SocketClass::Closed, 4, rows[2], 5 * SECOND), &keys);
        let place = place();
        let at = place.clock.monotonic_to_unix(3 * SECOND);
        let ended: Vec<_> = table.ended(&place).map(|(row, _)| row.owner_exited).collect();
        assert_eq!(ended, [None, Some(text::time(at))]);
        table.forget_exits();
        assert!(table.exits.known.is_empty(), "nobody's");
    }

    #[test]
    fn ends_are_bounded_and_those_of_living_sockets_stay() {
        let mut table = SocketTable::default();
        let row = owned_by(1, 7, 5);
        table.event(&event(SocketClass::Established, 2, row, SECOND), &keys);
        table.exited(&row.usage.owner, SECOND);
        let other = |i: u32| Process { tgid: 1000 + i, start_ns: 5, ..Process::default() };
        for i in 0..ENDS as u32 + 5 {
            table.exited(&other(i), SECOND);
        }
        assert!(table.exits.known.len() <= 10 && table.exits.forgotten == 0);
        assert!(table.exits.of(&row.usage.owner).is_some());
    }
}
