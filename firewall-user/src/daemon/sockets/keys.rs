//! Under which keys a socket is summed up, by what is known of its owner.

use crate::{
    monitor::{By, Key, sockets as socket_words},
    owners::Owners,
};
use firewall_common::abi::socket::SocketRow;
use std::sync::Arc;

/// Under which key a socket is summed up; `?` where that isn't known.
pub(super) fn key(owners: &Owners, by: By, row: &SocketRow) -> Key {
    let process = &row.usage.owner;
    let owner = owners.peek(process);
    let known =
        |text: Option<&Arc<str>>| text.map_or_else(Key::unknown, |text| Key::new(text.clone()));
    let user = || {
        let name = owners.user(process).filter(|_| process.tgid != 0).cloned();
        name.unwrap_or_else(|| row.uid.to_string().into())
    };
    let place = owners.place(process).filter(|_| process.tgid != 0);
    match by {
        By::Process if process.tgid == 0 => Key::unknown(),
        By::Process => Key { text: socket_words::process(process).into(), id: process.start_ns },
        By::Exe => known(owner.and_then(|owner| owner.exe.as_ref())),
        By::User => Key::new(user()),
        By::Host => Key::new(socket_words::remote(row)),
        By::Account => Key::new(format!("{}@{}", user(), socket_words::remote(row))),
        By::Unit => known(place.and_then(|place| place.unit.as_ref().or(place.container.as_ref()))),
        By::Container => known(place.and_then(|place| place.container.as_ref())),
        By::Protocol => Key::new(socket_words::proto(row)),
        // The table knows.
        By::Rule | By::Instance => Key::unknown(),
    }
}
