//! Which name an address had, when, and for whom; tables of fixed size, out of which the oldest goes first, and is counted.

use super::{
    dns::{self, Answer, Question},
    hello::{self, HelloError, ServerName},
};
use crate::view::{NAME_SOURCES, NameStatsView, NameView, ObservedStatsView};
use firewall_common::abi::{
    counter::EventCounter,
    observed::{OBSERVED_KINDS, Observed, ObservedKind},
};
use hashlink::LruCache;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// Addresses that have names.
const ADDRESSES: usize = 16_384;
/// Names of one address: those that were answered last.
const PER_ADDRESS: usize = 8;
/// Questions that wait for their answer.
const QUESTIONS: usize = 4_096;
/// ClientHellos of sockets of which nothing else was heard yet.
const HELLOS: usize = 4_096;
/// A question is answered, and a socket heard of, within so long, or not at all: resolvers ask for 5 seconds, and again.
const PATIENCE_NS: u64 = 30_000_000_000;
/// A name is an address's for its time to live, but for a minute at least, and a minute more: programs connect some
/// time after they asked, and remember longer than they are told.
const LEAST_NS: u64 = 60_000_000_000;
const GRACE_NS: u64 = 60_000_000_000;
/// Nobody believes in a time to live of more than a day (RFC 8767 advises against more than a week).
const MOST_S: u32 = 86_400;

/// How a name is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An answer of DNS gave it the address.
    Dns,
    /// The ClientHello of the connection asked for it.
    Sni,
    /// So it did, and had another hello inside that can't be read: it may be but a front (RFC 9849).
    SniOuter,
}

impl Source {
    /// The word that rows have for it.
    pub const fn name(self) -> &'static str {
        NAME_SOURCES[self as usize]
    }
}

/// A name, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// In small letters.
    pub name: Arc<str>,
    /// How it is known.
    pub source: Source,
    /// When it was seen first, CLOCK_MONOTONIC ns.
    pub from_ns: u64,
    /// Who answered; for a ClientHello: who was asked.
    pub server: IpAddr,
    /// Other names that the address had then.
    pub others: u32,
}

/// What a socket reached.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// Its cookie.
    pub cookie: u64,
    /// Its network namespace: the inode.
    pub netns: u32,
    /// The other end.
    pub address: IpAddr,
    /// When it began, CLOCK_MONOTONIC ns; 0 where that isn't known.
    pub began_ns: u64,
}

/// A name that DNS gave an address.
#[derive(Debug)]
struct Given {
    name: Arc<str>,
    from_ns: u64,
    /// When it was answered last.
    last_ns: u64,
    until_ns: u64,
    server: IpAddr,
    answers: u64,
}

impl Given {
    const fn holds(&self, at_ns: u64) -> bool {
        self.from_ns <= at_ns && at_ns <= self.until_ns
    }
}

#[derive(Debug)]
struct Asked {
    name: String,
    at_ns: u64,
}

/// Every name that is known.
#[derive(Debug)]
pub struct Names {
    addresses: LruCache<(u32, IpAddr), Vec<Given>>,
    /// By the socket's cookie and the message's number.
    questions: LruCache<(u64, u16), Asked>,
    hellos: LruCache<u64, Named>,
    counters: [EventCounter; OBSERVED_KINDS],
    delivered: [u64; OBSERVED_KINDS],
    unread: [u64; OBSERVED_KINDS],
    incomplete: u64,
    unasked: u64,
    nameless: u64,
    forgotten: u64,
    crowded: u64,
    questions_forgotten: u64,
    hellos_forgotten: u64,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            addresses: LruCache::new(ADDRESSES),
            questions: LruCache::new(QUESTIONS),
            hellos: LruCache::new(HELLOS),
            counters: Default::default(),
            delivered: Default::default(),
            unread: Default::default(),
            incomplete: 0,
            unasked: 0,
            nameless: 0,
            forgotten: 0,
            crowded: 0,
            questions_forgotten: 0,
            hellos_forgotten: 0,
        }
    }
}

impl Names {
    /// Learns from a record of the kernel's; `message` is what follows it.
    pub fn learn(&mut self, seen: &Observed, message: &[u8]) {
        let Ok(kind) = ObservedKind::try_from(seen.kind) else { return };
        self.delivered[kind as usize] += 1;
        let read = match kind {
            ObservedKind::Question => {
                dns::question(message).map(|q| self.question(seen, q)).is_ok()
            }
            ObservedKind::Answer => dns::answer(message).map(|a| self.answer(seen, a)).is_ok(),
            ObservedKind::Hello => match hello::server_name(message) {
                Ok(Some(name)) => {
                    self.hello(seen, name);
                    true
                }
                Ok(None) => {
                    self.nameless += 1;
                    true
                }
                Err(HelloError::Incomplete) => {
                    self.incomplete += 1;
                    true
                }
                Err(HelloError::Malformed | HelloError::Name) => false,
            },
        };
        self.unread[kind as usize] += u64::from(!read);
    }

    /// What became of records in the kernel, by kind.
    pub fn count(&mut self, counters: [EventCounter; OBSERVED_KINDS]) {
        self.counters = counters;
    }

    fn question(&mut self, seen: &Observed, Question { id, name }: Question) {
        let key = (seen.cookie, id);
        if self.questions.len() == QUESTIONS && !self.questions.contains_key(&key) {
            let old = self.questions.remove_lru();
            let waited = |old: &Asked| seen.time_ns.saturating_sub(old.at_ns) <= PATIENCE_NS;
            self.questions_forgotten += u64::from(old.is_some_and(|(_, old)| waited(&old)));
        }
        self.questions.insert(key, Asked { name, at_ns: seen.time_ns });
    }

    /// Only what this socket asked for is believed: else whoever reaches a port could give addresses names.
    fn answer(&mut self, seen: &Observed, answer: Answer) {
        let key = (seen.cookie, answer.question.id);
        let fits = self.questions.peek(&key).is_some_and(|asked| {
            asked.name == answer.question.name
                && seen.time_ns.saturating_sub(asked.at_ns) <= PATIENCE_NS
        });
        if !fits {
            self.unasked += 1;
            return;
        }
        self.questions.remove(&key);
        let name: Arc<str> = answer.question.name.into();
        let server = remote(seen);
        for (address, ttl) in answer.addresses {
            let lives = u64::from(ttl.min(MOST_S)) * 1_000_000_000;
            let until_ns = seen.time_ns + lives.max(LEAST_NS) + GRACE_NS;
            self.give((seen.netns, address), &name, seen.time_ns, until_ns, server);
        }
    }

    fn give(
        &mut self,
        key: (u32, IpAddr),
        name: &Arc<str>,
        now_ns: u64,
        until_ns: u64,
        server: IpAddr,
    ) {
        if self.addresses.len() == ADDRESSES && !self.addresses.contains_key(&key) {
            self.addresses.remove_lru();
            self.forgotten += 1;
        }
        let names = self.addresses.entry(key).or_insert_with(Vec::new);
        if let Some(given) = names.iter_mut().find(|given| given.name == *name) {
            if !given.holds(now_ns) {
                given.from_ns = now_ns;
            }
            (given.last_ns, given.until_ns) = (now_ns, given.until_ns.max(until_ns));
            (given.server, given.answers) = (server, given.answers + 1);
            return;
        }
        if names.len() == PER_ADDRESS {
            let oldest = names.iter().enumerate().min_by_key(|(_, given)| given.last_ns);
            if let Some((oldest, _)) = oldest {
                names.swap_remove(oldest);
                self.crowded += 1;
            }
        }
        names.push(Given {
            name: name.clone(),
            from_ns: now_ns,
            last_ns: now_ns,
            until_ns,
            server,
            answers: 1,
        });
    }

    fn hello(&mut self, seen: &Observed, ServerName { name, outer }: ServerName) {
        if self.hellos.len() == HELLOS && !self.hellos.contains_key(&seen.cookie) {
            self.hellos.remove_lru();
            self.hellos_forgotten += 1;
        }
        let named = Named {
            name: name.into(),
            source: if outer { Source::SniOuter } else { Source::Sni },
            from_ns: seen.time_ns,
            server: remote(seen),
            others: 0,
        };
        self.hellos.insert(seen.cookie, named);
    }

    /// What the ClientHello of a socket asked for; asked once, it is the asker's to keep.
    pub fn take_hello(&mut self, cookie: u64) -> Option<Named> {
        self.hellos.remove(&cookie)
    }

    /// Cookies of sockets whose ClientHello nobody has taken. Those that wait since long are forgotten: nothing is heard of
    /// their sockets any more.
    pub fn hellos(&mut self) -> Vec<u64> {
        let latest_ns = self.hellos.iter().map(|(_, named)| named.from_ns).max().unwrap_or(0);
        let before = self.hellos.len();
        self.hellos.retain(|_, named| named.from_ns + PATIENCE_NS >= latest_ns);
        self.hellos_forgotten += (before - self.hellos.len()) as u64;
        self.hellos.iter().map(|(cookie, _)| *cookie).collect()
    }

    /// The name that DNS had given an address when a socket reached it: of several, the one that was answered last by
    /// then.
    pub fn of(&mut self, reached: &Reached) -> Option<Named> {
        let at_ns = reached.began_ns;
        if at_ns == 0 || self.addresses.is_empty() {
            return None;
        }
        let names = self.addresses.get_mut(&(reached.netns, reached.address))?;
        let held = || names.iter().filter(|given| given.holds(at_ns));
        // One that was answered again since then was last answered at a time that isn't known any more.
        let by_then = |given: &&Given| (given.last_ns <= at_ns, given.last_ns.min(at_ns));
        let given = held().max_by_key(by_then)?;
        Some(Named {
            name: given.name.clone(),
            source: Source::Dns,
            from_ns: given.from_ns,
            server: given.server,
            others: held().count() as u32 - 1,
        })
    }

    /// The name of an address now, in a network namespace.
    pub fn now(&self, netns: u32, address: IpAddr, now_ns: u64) -> Option<&Arc<str>> {
        let names = self.addresses.peek(&(netns, address))?;
        let held = names.iter().filter(|given| given.holds(now_ns));
        held.max_by_key(|given| given.last_ns).map(|given| &given.name)
    }

    /// Every name that DNS gave, in no order; `time` tells a monotonic time in words.
    pub fn rows(&self, now_ns: u64, time: impl Fn(u64) -> String) -> Vec<NameView> {
        let each = |((netns, address), names): (&(u32, IpAddr), &Vec<Given>)| {
            let row = |given: &Given| NameView {
                name: given.name.to_string(),
                address: address.to_string(),
                netns: *netns,
                server: given.server.to_string(),
                answers: given.answers,
                first: time(given.from_ns),
                last: time(given.last_ns),
                until: time(given.until_ns),
                expired: given.until_ns < now_ns,
            };
            names.iter().map(row).collect::<Vec<_>>()
        };
        self.addresses.iter().flat_map(each).collect()
    }

    /// What was seen, and what came of it.
    pub fn stats(&self) -> NameStatsView {
        let kind = |kind: &ObservedKind| ObservedStatsView {
            kind: kind.name().to_owned(),
            produced: self.counters[*kind as usize].produced,
            delivered: self.delivered[*kind as usize],
            lost: self.counters[*kind as usize].lost,
            unread: self.unread[*kind as usize],
        };
        NameStatsView {
            observed: ObservedKind::ALL.iter().map(kind).collect(),
            addresses: self.addresses.len() as u64,
            unasked: self.unasked,
            incomplete: self.incomplete,
            nameless: self.nameless,
            addresses_forgotten: self.forgotten,
            names_forgotten: self.crowded,
            questions_forgotten: self.questions_forgotten,
            hellos_forgotten: self.hellos_forgotten,
        }
    }
}

/// The other end of a message.
fn remote(seen: &Observed) -> IpAddr {
    let [a, b, c, d, ..] = seen.remote;
    match seen.family {
        4 => Ipv4Addr::new(a, b, c, d).into(),
        _ => Ipv6Addr::from(seen.remote).into(),
    }
}
