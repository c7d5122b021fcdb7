//! What is said of single sockets by others than the kernel: notes of operators, names that were seen on the wire.
//! It goes with its socket, and no socket has more than so many.

use super::{Place, Socket, SocketTable};
use crate::view::SocketView;
use firewall_common::abi::socket::SocketRow;
use std::sync::Arc;
use thiserror::Error;

/// Attributes of a socket.
const EACH: usize = 16;
/// Sockets with attributes, live and ended.
const SOCKETS: usize = 4_096;
/// Letters of a value.
pub const LETTERS: usize = 256;

/// One of them. A socket has one of each name and source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// What it is.
    pub name: &'static str,
    /// In words, at most [`LETTERS`] of them, without control characters.
    pub value: Arc<str>,
    /// Who says so.
    pub source: &'static str,
}

/// Why one isn't kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AttributeError {
    /// It has made room for later ones, or never was.
    #[error("there is no such socket, or it has made room for later ones")]
    NoSocket,
    /// Of this socket.
    #[error("it has {EACH} attributes already")]
    Full,
    /// Of all.
    #[error("{SOCKETS} sockets have attributes already: take some away")]
    TooMany,
    /// It is too long for a line.
    #[error("it has more than {LETTERS} letters, or some that can't be shown")]
    Unfit,
}

impl SocketTable {
    /// Says something of a socket, in the place of what was said under this name from there; an empty value takes
    /// it away.
    ///
    /// # Errors
    /// There is no such socket, or no room, or the value doesn't fit.
    pub fn attach(&mut self, cookie: u64, attribute: Attribute) -> Result<(), AttributeError> {
        let value = &attribute.value;
        if value.chars().count() > LETTERS || value.chars().any(char::is_control) {
            return Err(AttributeError::Unfit);
        }
        let room = value.is_empty() || self.attributed() < SOCKETS;
        let socket = self.find_mut(cookie).ok_or(AttributeError::NoSocket)?;
        let all = &mut socket.attributes;
        let is_it =
            |other: &Attribute| (other.name, other.source) == (attribute.name, attribute.source);
        match all.iter().position(is_it) {
            Some(at) if attribute.value.is_empty() => drop(all.remove(at)),
            Some(at) => {
                if let Some(old) = all.get_mut(at) {
                    *old = attribute;
                }
            }
            None if attribute.value.is_empty() => {}
            None if all.is_empty() && !room => return Err(AttributeError::TooMany),
            None if all.len() == EACH => return Err(AttributeError::Full),
            None => all.push(attribute),
        }
        Ok(())
    }

    /// How many sockets have attributes.
    fn attributed(&self) -> usize {
        let all = self.live.values().chain(self.ended.iter().map(|ended| &ended.socket));
        all.filter(|socket| !socket.attributes.is_empty()).count()
    }

    /// A socket that lives, or the latest of that id that has ended.
    fn find_mut(&mut self, cookie: u64) -> Option<&mut Socket> {
        if let Some(socket) = self.live.get_mut(&cookie) {
            return Some(socket);
        }
        let ended = self.ended.iter_mut().rev();
        ended.map(|ended| &mut ended.socket).find(|socket| socket.row.usage.cookie == cookie)
    }

    /// A live socket as the kernel had it last, and what others say of it.
    pub fn live_said(&self, cookie: u64) -> Option<(&SocketRow, &[Attribute])> {
        self.live.get(&cookie).map(|socket| (&socket.row, socket.attributes.as_slice()))
    }

    /// The same of all that have ended, the earliest first.
    pub fn ended_said(&self) -> impl Iterator<Item = (&SocketRow, &[Attribute])> {
        let all = self.ended.iter().map(|ended| &ended.socket);
        all.map(|socket| (&socket.row, socket.attributes.as_slice()))
    }

    /// A socket that lives, or the latest of that id that has ended: as people see it, as the kernel had it last, and
    /// what others say of it.
    pub fn one(
        &self,
        cookie: u64,
        place: &Place,
    ) -> Option<(SocketView, &SocketRow, &[Attribute])> {
        if let Some(socket) = self.live.get(&cookie) {
            return Some((self.view_of(socket, place), &socket.row, &socket.attributes));
        }
        let mut ended = self.ended.iter().rev();
        let ended = ended.find(|ended| ended.socket.row.usage.cookie == cookie)?;
        Some((ended.view(place), &ended.socket.row, &ended.socket.attributes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::sockets::tests::{event, keys, place, row};
    use firewall_common::abi::socket::SocketClass;

    fn note(text: &str) -> Attribute {
        Attribute { name: "note", value: text.into(), source: "operator" }
    }

    fn notes(table: &SocketTable, cookie: u64) -> Vec<String> {
        let place = place();
        let (_, _, all) = table.one(cookie, &place).expect("a socket");
        all.iter().map(|one| one.value.to_string()).collect()
    }

    #[test]
    fn a_note_stays_with_its_socket() {
        let mut table = SocketTable::default();
        table.event(&event(SocketClass::Established, 2, row(1, 1), 1), &keys);
        table.attach(1, note("of mine")).expect("room");
        table.attach(1, note("of mine, too")).expect("room");
        table
            .attach(1, Attribute { name: "name", source: "dns", ..note("a.example") })
            .expect("room");
        assert_eq!(notes(&table, 1), ["of mine, too", "a.example"]);
        table.event(&event(SocketClass::Closed, 1, row(1, 7), 2), &keys);
        assert_eq!(notes(&table, 1).len(), 2, "after its end");
        table.attach(1, note("")).expect("taken away");
        assert_eq!(notes(&table, 1), ["a.example"]);
        assert_eq!(table.attach(2, note("x")), Err(AttributeError::NoSocket));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let mut table = SocketTable::default();
        for cookie in 1..=SOCKETS as u64 + 1 {
            table.event(&event(SocketClass::Established, 2, row(cookie, 1), 1), &keys);
        }
        for bad in ["x\n", &"x".repeat(LETTERS + 1)] {
            assert_eq!(table.attach(1, note(bad)), Err(AttributeError::Unfit));
        }
        table.attach(1, note(&"é".repeat(LETTERS))).expect("letters, not bytes");
        for cookie in 2..=SOCKETS as u64 {
            table.attach(cookie, note("x")).expect("room");
        }
        let last = SOCKETS as u64 + 1;
        assert_eq!(table.attach(last, note("x")), Err(AttributeError::TooMany));
        table.attach(1, note("")).expect("taken away");
        table.attach(last, note("x")).expect("room again");
        const NAMES: [&str; EACH] =
            ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];
        let full = NAMES.map(|name| table.attach(2, Attribute { name, ..note("x") }));
        assert_eq!(full.last(), Some(&Err(AttributeError::Full)));
    }
}
