//! What sockets put into the summaries: at their end, and while they live when somebody asks.

use super::{Ended, Socket, SocketTable, address, proto, rules};
use crate::monitor::summary::{Account, Before, By, EVERY, Key};
use crate::view::SummaryView;
use firewall_common::abi::socket::SocketRow;
use std::borrow::Cow;

/// Nanoseconds for which an ended socket is still a row of its own.
const MOMENT: u64 = 10_000_000_000;

/// Tables that a socket is put in when it ends; the rule's takes it when that was looked for.
pub(super) const AT_ONCE: u16 = EVERY & !By::Rule.mask();

/// Under which key a socket is summed up, where it doesn't itself know.
pub type KeysOf<'a> = &'a dyn Fn(By, &SocketRow) -> Key;

impl SocketTable {
    /// Puts a socket that has ended in the tables of `mask`.
    pub(super) fn sum_up(&mut self, mask: u16, socket: &Socket, at_ns: u64, keys: KeysOf<'_>) {
        let ended = Some(at_ns);
        let key = |by| key(socket, by, keys);
        if socket.before.is_empty() {
            // The same for every table.
            let account = socket.account(By::Instance, ended);
            self.summary.ended(mask, key, |_| Cow::Borrowed(&account));
        } else {
            self.summary.ended(mask, key, |by| Cow::Owned(socket.account(by, ended)));
        }
    }

    /// Lets the oldest of the ended ones go.
    pub(super) fn make_room(&mut self, keys: KeysOf<'_>) {
        let Some(ended) = self.ended.pop_front() else { return };
        self.ended_dropped += 1;
        if !ended.settled {
            self.unsettled_dropped += 1;
            self.sum_up(By::Rule.mask(), &ended.socket, ended.at_ns, keys);
        }
        self.settled = self.settled.max(self.ended_dropped);
    }

    /// Sockets by one thing, live and ended, at `now_ns` (CLOCK_MONOTONIC). In no order.
    pub fn summary(&self, by: By, now_ns: u64, keys: KeysOf<'_>) -> SummaryView {
        self.summary.rows(by, |rows| {
            let mut add = |socket: &Socket, ended: Option<u64>| {
                let account = rows.entry(key(socket, by, keys)).or_default();
                socket.add_to(account, by, ended);
            };
            self.live.values().for_each(|socket| add(socket, None));
            let since = now_ns.saturating_sub(MOMENT);
            let told: &dyn Fn(&Ended) -> bool = match by {
                By::Instance => &|ended| ended.at_ns >= since,
                By::Rule => &|ended| !ended.settled,
                _ => return,
            };
            let ended = self.ended.iter().filter(|ended| told(ended));
            ended.for_each(|ended| add(&ended.socket, Some(ended.at_ns)));
        })
    }

    /// Whether that has to be asked soon: rows with sockets that live would fold.
    pub fn wants_marks(&self) -> bool {
        self.summary.is_uncertain()
    }

    /// Asks which rows have sockets that live, where the table is about to fold.
    pub fn mark_summary(&mut self, keys: KeysOf<'_>) {
        let full: Vec<By> = self.summary.nearly_full().collect();
        for by in full {
            let live = self.live.values().map(|socket| key(socket, by, keys));
            self.summary.mark(by, live);
        }
    }

    /// Begins summaries anew at `now_ns` (CLOCK_MONOTONIC): all, or one.
    pub fn reset_summary(&mut self, by: Option<By>, now_ns: u64) {
        let mask = by.map_or(EVERY, By::mask);
        self.summary.reset(mask);
        for socket in self.live.values_mut() {
            socket.before.reset(mask, &socket.row, now_ns);
        }
        if mask & By::Rule.mask() != 0 {
            // They ended before.
            self.ended.iter_mut().for_each(|ended| ended.settled = true);
        }
        if mask & By::Instance.mask() != 0 {
            for ended in &mut self.ended {
                ended.socket.before.reset(By::Instance.mask(), &ended.socket.row, now_ns);
            }
        }
    }
}

impl Socket {
    /// What it did since the table's last reset.
    fn account(&self, by: By, ended: Option<u64>) -> Account {
        let mut account = Account::default();
        self.add_to(&mut account, by, ended);
        account
    }

    fn add_to(&self, account: &mut Account, by: By, ended: Option<u64>) {
        let none = Before::default();
        let before = self.before.of(by.mask()).unwrap_or(&none);
        account.add(&self.row, before, self.was_asked(), ended);
    }

    /// Both ends in words, as `tcp 10.0.0.1:80 > 10.0.0.2:4000`.
    fn ends(&self) -> String {
        let row = &self.row;
        let end = |bytes: &[u8; 16], port: u16| {
            let text = address(row.family, bytes);
            match (text.as_str(), port) {
                ("" | "0.0.0.0" | "::", 0) => "*".to_owned(),
                ("" | "0.0.0.0" | "::", port) => format!("*:{port}"),
                _ if text.contains(':') => format!("[{text}]:{port}"),
                _ => format!("{text}:{port}"),
            }
        };
        let (local, remote) = (end(&row.local, row.local_port), end(&row.remote, row.remote_port));
        if remote == "*" {
            format!("{} {local}", proto(row))
        } else {
            format!("{} {local} > {remote}", proto(row))
        }
    }
}

/// Under which key a socket is summed up.
fn key(socket: &Socket, by: By, keys: KeysOf<'_>) -> Key {
    match by {
        By::Rule => rules::of(socket).map_or_else(Key::unknown, |rule| Key::new(rule.clone())),
        By::Instance => Key { text: socket.ends().into(), id: socket.row.usage.cookie },
        _ => keys(by, &socket.row),
    }
}
