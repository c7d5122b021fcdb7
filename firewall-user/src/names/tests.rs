use super::{
    book::{Names, Reached},
    dns::{self, DnsError},
    hello::{self, HelloError},
};
use firewall_common::abi::observed::{Observed, ObservedKind};
use proptest::prelude::*;
use std::net::IpAddr;

const SECOND: u64 = 1_000_000_000;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A name as DNS writes it, by hand: no code of the parser's takes part.
fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> =
        labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

/// A message with one question and records in its answer: name, type, time to live, data.
fn message(id: u16, flags: u16, name: &str, records: &[(&str, u16, u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [id, flags, 1, records.len() as u16, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(wire(name));
    bytes.extend([0, 1, 0, 1]);
    for (owner, kind, ttl, data) in records {
        bytes.extend(wire(owner));
        bytes.extend(kind.to_be_bytes());
        bytes.extend(1u16.to_be_bytes());
        bytes.extend(ttl.to_be_bytes());
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
    }
    bytes
}

const ASKS: u16 = 0x0100;
const ANSWERS: u16 = 0x8180;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

fn asks(id: u16, name: &str) -> Vec<u8> {
    message(id, ASKS, name, &[])
}

#[test]
fn an_answer_gives_the_name_that_was_asked_for_its_addresses() {
    let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    let message = message(
        7,
        ANSWERS,
        "WWW.Shop.example",
        &[
            // Out of order, and with what nobody asked for.
            ("edge.cdn.example", A, 30, vec![192, 0, 2, 1]),
            ("www.shop.example", CNAME, 300, wire("shop.cdn.example")),
            ("shop.cdn.example", CNAME, 300, wire("edge.cdn.example")),
            ("bank.example", A, 3600, vec![192, 0, 2, 66]),
            ("edge.cdn.example", AAAA, 60, v6.to_vec()),
        ],
    );
    let answer = dns::answer(&message).expect("an answer");
    assert_eq!((answer.question.id, answer.question.name.as_str()), (7, "www.shop.example"));
    let addresses = [(ip("192.0.2.1"), 30), (ip("2001:db8::7"), 60)];
    assert_eq!(answer.addresses, addresses, "and not the bank's");
}

#[test]
fn what_is_no_answer_has_no_addresses() {
    let record = [("a.example", A, 30, vec![192, 0, 2, 1])];
    for (flags, what) in [(ASKS, "a question"), (0x8183, "NXDOMAIN")] {
        let answer = dns::answer(&message(1, flags, "a.example", &record)).expect(what);
        assert_eq!(answer.addresses, [], "{what}");
    }
}

#[test]
fn names_can_be_shown_on_a_terminal() {
    let mut bytes = asks(1, "x.example");
    bytes[13] = 0x1b;
    assert_eq!(dns::question(&bytes).expect("a question").name, "\\027.example");
    bytes[13] = b'.';
    assert_eq!(dns::question(&bytes).expect("a question").name, "\\..example");
}

#[test]
fn messages_that_lie_are_refused() {
    let mut many = asks(1, "a.example");
    many[6..8].copy_from_slice(&[0xff, 0xff]);
    assert!(matches!(dns::answer(&many), Err(DnsError::Crowded { records: 65_536, .. })));
    let mut round = asks(1, "a.example");
    // The name points at itself (RFC 1035, section 4.1.4).
    round[12..14].copy_from_slice(&[0xc0, 12]);
    assert!(matches!(dns::question(&round), Err(DnsError::Malformed(_))));
    let mut chaos = asks(1, "version.bind");
    let end = chaos.len();
    chaos[end - 1] = 3;
    assert_eq!(dns::question(&chaos), Err(DnsError::Questions(0)));
    assert!(dns::question(&[]).is_err());
}

/// A ClientHello by hand (RFC 8446, section 4.1.2) with these extensions.
fn client_hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut tail = Vec::new();
    for (kind, data) in extensions {
        tail.extend(kind.to_be_bytes());
        tail.extend((data.len() as u16).to_be_bytes());
        tail.extend(data);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 2, 0x13, 1, 1, 0]);
    body.extend((tail.len() as u16).to_be_bytes());
    body.extend(tail);
    let mut record = vec![1, 0];
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    let mut all = vec![22, 3, 1];
    all.extend((record.len() as u16).to_be_bytes());
    all.extend(record);
    all
}

fn sni(name: &str) -> (u16, Vec<u8>) {
    let length = name.len() as u16;
    let mut data = (length + 3).to_be_bytes().to_vec();
    data.push(0);
    data.extend(length.to_be_bytes());
    data.extend(name.as_bytes());
    (0, data)
}

#[test]
fn a_hello_says_whom_it_is_for() {
    let name = |extensions: &[_]| hello::server_name(&client_hello(extensions));
    let said = name(&[(43, vec![2, 3, 4]), sni("API.example")]).expect("a hello").expect("a name");
    assert_eq!((said.name.as_str(), said.outer), ("api.example", false));
    let front = name(&[sni("front.example"), (0xfe0d, vec![0; 40])]).expect("a hello");
    assert!(front.expect("a name").outer, "there is another inside");
    assert_eq!(name(&[(43, vec![2, 3, 4])]), Ok(None));
    assert_eq!(name(&[sni("a b")]), Err(HelloError::Name), "no host is called that");
    let whole = client_hello(&[sni("api.example")]);
    assert_eq!(hello::server_name(&whole[..60]), Err(HelloError::Incomplete));
    assert_eq!(
        hello::server_name(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"),
        Err(HelloError::Malformed)
    );
}

proptest! {
    /// Whatever comes, it is read or refused.
    #[test]
    fn no_bytes_upset_the_readers(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = (dns::question(&bytes), dns::answer(&bytes), hello::server_name(&bytes));
    }

    /// One byte that is another.
    #[test]
    fn nearly_right_upsets_nobody(at in 0usize..100, byte: u8) {
        let mut answer = message(1, ANSWERS, "a.example", &[
            ("a.example", CNAME, 30, wire("b.example")),
            ("b.example", A, 30, vec![192, 0, 2, 1]),
        ]);
        let mut records = client_hello(&[sni("api.example")]);
        for bytes in [&mut answer, &mut records] {
            let length = bytes.len();
            bytes[at % length] = byte;
        }
        let _ = (dns::answer(&answer), hello::server_name(&records));
    }
}

fn seen(kind: ObservedKind, cookie: u64, time_ns: u64) -> Observed {
    let mut remote = [0; 16];
    remote[..4].copy_from_slice(&[10, 0, 0, 53]);
    Observed {
        cookie,
        time_ns,
        remote,
        netns: 1,
        kind: kind.raw(),
        family: 4,
        ..Observed::default()
    }
}

/// A name is asked for and answered, by socket `cookie`.
fn resolve(names: &mut Names, cookie: u64, at_ns: u64, name: &str, address: [u8; 4], ttl: u32) {
    names.learn(&seen(ObservedKind::Question, cookie, at_ns), &asks(9, name));
    let answer = message(9, ANSWERS, name, &[(name, A, ttl, address.to_vec())]);
    names.learn(&seen(ObservedKind::Answer, cookie, at_ns), &answer);
}

fn reached(address: &str, began_ns: u64) -> Reached {
    Reached { cookie: 77, netns: 1, address: ip(address), began_ns }
}

fn name(names: &mut Names, address: &str, began_ns: u64) -> Option<String> {
    names.of(&reached(address, began_ns)).map(|named| named.name.to_string())
}

#[test]
fn a_socket_has_the_name_that_its_address_had_when_it_began() {
    let mut names = Names::default();
    resolve(&mut names, 1, 100 * SECOND, "a.example", [192, 0, 2, 1], 300);
    assert_eq!(name(&mut names, "192.0.2.1", 99 * SECOND), None, "nobody had asked yet");
    assert_eq!(name(&mut names, "192.0.2.1", 101 * SECOND).as_deref(), Some("a.example"));
    assert_eq!(name(&mut names, "192.0.2.1", 459 * SECOND).as_deref(), Some("a.example"));
    assert_eq!(name(&mut names, "192.0.2.1", 461 * SECOND), None, "its time is over");
    assert_eq!(name(&mut names, "192.0.2.2", 101 * SECOND), None);
    assert_eq!(name(&mut names, "192.0.2.1", 0), None, "older than the monitor");
    let elsewhere = Reached { netns: 2, ..reached("192.0.2.1", 101 * SECOND) };
    assert_eq!(names.of(&elsewhere), None, "another namespace, another network");
    // Shared by many: the last that was asked for by then.
    resolve(&mut names, 1, 200 * SECOND, "b.example", [192, 0, 2, 1], 0);
    let both = names.of(&reached("192.0.2.1", 201 * SECOND)).expect("two");
    assert_eq!((&*both.name, both.others, both.server), ("b.example", 1, ip("10.0.0.53")));
    assert_eq!(name(&mut names, "192.0.2.1", 150 * SECOND).as_deref(), Some("a.example"));
    assert_eq!(name(&mut names, "192.0.2.1", 321 * SECOND).as_deref(), Some("a.example"));
    let rows = names.rows(330 * SECOND, |ns| (ns / SECOND).to_string());
    let mut told: Vec<_> = rows
        .iter()
        .map(|row| (row.name.as_str(), row.until.as_str(), row.answers, row.expired))
        .collect();
    told.sort_unstable();
    assert_eq!(told, [("a.example", "460", 1, false), ("b.example", "320", 1, true)]);
    assert_eq!(names.now(1, ip("192.0.2.1"), 330 * SECOND).map(|name| &**name), Some("a.example"));
}

#[test]
fn only_what_was_asked_for_is_believed() {
    let mut names = Names::default();
    let record = [("bank.example", A, 300, vec![192, 0, 2, 66])];
    let forged = message(9, ANSWERS, "bank.example", &record);
    let answer = |names: &mut Names, cookie, at_ns| {
        names.learn(&seen(ObservedKind::Answer, cookie, at_ns), &forged);
        name(names, "192.0.2.66", at_ns + 1)
    };
    assert_eq!(answer(&mut names, 1, SECOND), None, "nobody asked");
    names.learn(&seen(ObservedKind::Question, 1, SECOND), &asks(9, "shop.example"));
    assert_eq!(answer(&mut names, 1, SECOND), None, "for something else");
    names.learn(&seen(ObservedKind::Question, 1, SECOND), &asks(8, "bank.example"));
    assert_eq!(answer(&mut names, 1, SECOND), None, "by another number");
    names.learn(&seen(ObservedKind::Question, 2, SECOND), &asks(9, "bank.example"));
    assert_eq!(answer(&mut names, 1, SECOND), None, "by another socket");
    assert_eq!(answer(&mut names, 2, 60 * SECOND), None, "too late");
    names.learn(&seen(ObservedKind::Question, 2, 60 * SECOND), &asks(9, "BANK.example"));
    assert_eq!(answer(&mut names, 2, 61 * SECOND).as_deref(), Some("bank.example"));
    let again = names.stats();
    assert_eq!(again.unasked, 5);
    assert_eq!(again.observed[1].delivered, 6);
    names.learn(&seen(ObservedKind::Answer, 2, 62 * SECOND), &forged);
    assert_eq!(names.stats().unasked, 6, "one answer for one question");
    names.learn(&seen(ObservedKind::Answer, 2, 62 * SECOND), b"no DNS");
    assert_eq!(names.stats().observed[1].unread, 1);
}

#[test]
fn tables_have_room_for_so_many_and_count_the_rest() {
    let mut names = Names::default();
    for i in 0..9u32 {
        let name = format!("n{i}.example");
        resolve(&mut names, 1, SECOND + u64::from(i), &name, [192, 0, 2, 1], 300);
    }
    assert_eq!(
        (names.stats().names_forgotten, names.rows(SECOND, |_| String::new()).len()),
        (1, 8)
    );
    for i in 0..16_384u32 {
        let [_, _, c, d] = i.to_be_bytes();
        resolve(&mut names, 1, 2 * SECOND, "a.example", [10, 0, c, d], 300);
    }
    let stats = names.stats();
    assert_eq!((stats.addresses, stats.addresses_forgotten), (16_384, 1));
    assert_eq!(name(&mut names, "192.0.2.1", 2 * SECOND), None, "the oldest went");
    for i in 0..4_097 {
        names.learn(&seen(ObservedKind::Question, i, 3 * SECOND), &asks(1, "a.example"));
        let hello = client_hello(&[sni("api.example")]);
        names.learn(&seen(ObservedKind::Hello, i, 3 * SECOND), &hello);
    }
    let stats = names.stats();
    assert_eq!((stats.questions_forgotten, stats.hellos_forgotten), (1, 1));
    assert_eq!(names.hellos().len(), 4_096);
    assert_eq!(names.take_hello(0), None);
    assert_eq!(
        names.take_hello(1).map(|named| named.name.to_string()).as_deref(),
        Some("api.example")
    );
    // Nothing was heard of the others' sockets for half a minute.
    let hello = client_hello(&[sni("api.example")]);
    names.learn(&seen(ObservedKind::Hello, 9_000, 34 * SECOND), &hello);
    assert_eq!((names.hellos(), names.stats().hellos_forgotten), (vec![9_000], 4_096));
}
