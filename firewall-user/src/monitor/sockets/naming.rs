//! Sockets and the names of what they reached.
//!
//! A socket is named once what was seen on the wire until its event has been learnt: events first, then messages, then
//! this.

use super::{INET, INET6, Socket, SocketTable, TCP};
use crate::names::{Names, Reached, Source};
use firewall_common::abi::observed::Observed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl SocketTable {
    /// Has sockets named from now on.
    pub fn with_names(&mut self) {
        self.names.get_or_insert_default();
    }

    /// The names, if sockets are named.
    pub const fn names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// The same, to learn.
    pub const fn names_mut(&mut self) -> Option<&mut Names> {
        self.names.as_mut()
    }

    /// Learns from a message that was seen on the wire.
    pub fn observe(&mut self, seen: &Observed, message: &[u8]) {
        if let Some(names) = &mut self.names {
            names.learn(seen, message);
        }
    }

    /// Names the sockets that events told of since the last time, and those whose ClientHello was seen.
    pub fn name(&mut self) {
        let Some(names) = &mut self.names else { return };
        let ended = usize::try_from(self.ended_ever - self.named_ever).unwrap_or(usize::MAX);
        for one in self.ended.iter_mut().rev().take(ended) {
            one.socket.name(names);
        }
        self.named_ever = self.ended_ever;
        for cookie in self.unnamed.drain(..).chain(names.hellos()) {
            if let Some(socket) = self.live.get_mut(&cookie) {
                socket.name(names);
            }
        }
    }

    /// Names every live socket that has none.
    pub fn name_all(&mut self) {
        self.name();
        if let Some(names) = &mut self.names {
            self.live.values_mut().for_each(|socket| socket.name(names));
        }
    }
}

impl Socket {
    fn name(&mut self, names: &mut Names) {
        let cookie = self.row.usage.cookie;
        // What this very connection asked for says more than what the address is called.
        if let Some(hello) = names.take_hello(cookie) {
            self.named = Some(Box::new(hello));
            return;
        }
        if self.named.is_some() {
            return;
        }
        let usage = &self.row.usage;
        let asked = (self.row.protocol == TCP).then_some(usage.asked_ns);
        let began_ns = asked.filter(|ns| *ns != 0).unwrap_or(usage.created_ns);
        let Some(address) = reached(self.row.family, &self.row.remote) else { return };
        let reached = Reached { cookie, netns: self.row.netns, address, began_ns };
        self.named = names.of(&reached).map(Box::new);
    }

    /// Name of what it reached, how that is known, and how many other names the address had.
    pub(super) fn told_name(&self) -> (Option<String>, Option<String>, u32) {
        let named = self.named.as_deref();
        (
            named.map(|named| named.name.to_string()),
            named.map(|named| named.source.name().to_owned()),
            named.filter(|named| named.source == Source::Dns).map_or(0, |named| named.others),
        )
    }
}

/// The address of the other end, as packets have it; `None` where there is none.
fn reached(family: u16, bytes: &[u8; 16]) -> Option<IpAddr> {
    let address = match family {
        INET => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
        INET6 => IpAddr::from(Ipv6Addr::from(*bytes)).to_canonical(),
        _ => return None,
    };
    (!address.is_unspecified()).then_some(address)
}
