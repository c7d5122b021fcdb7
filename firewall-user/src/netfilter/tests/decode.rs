//! Bytes to messages.

use super::*;
use crate::netfilter::{decode::dump_request, entry, error::DecodeError};
use proptest::prelude::*;

fn entries(answers: &[Vec<u8>]) -> Vec<NetfilterEntry> {
    let messages = answers.iter().flat_map(|answer| Messages::new(answer));
    messages
        .filter_map(|message| match message.expect("understood") {
            Message::New(entry) | Message::Update(entry) | Message::Destroy(entry) => Some(entry),
            _ => None,
        })
        .collect()
}

#[test]
fn a_recorded_dump_reads_as_conntrack_prints_it() {
    let dump = dump();
    let found = entries(&dump);
    let [udp, tcp, icmp] = found[..] else { panic!("three entries: {found:#?}") };
    // ipv4 tcp 59 CLOSE_WAIT src=10.8.0.1 dst=10.9.0.2 sport=5000 dport=80 packets=5 bytes=318
    //   src=10.9.0.2 dst=10.9.0.1 sport=80 dport=40063 packets=4 bytes=266 [ASSURED] mark=66 id=2053964696
    assert_eq!((tcp.key.id, tcp.key.zone, tcp.key.orig.proto), (2_053_964_696, 0, 6));
    assert_eq!((tcp.key.orig.sport, tcp.key.orig.dport), (5000, 80));
    assert_eq!(tcp.key.orig.src, IpAddr::from([10, 8, 0, 1]));
    assert_eq!(tcp.state(), "close-wait");
    assert_eq!(tcp.facts.timeout_s, Some(59));
    assert_eq!(tcp.facts.mark, Some(66));
    let counters = tcp.facts.counters.expect("counted");
    assert_eq!((counters.orig.packets, counters.orig.bytes), (5, 318));
    assert_eq!((counters.reply.packets, counters.reply.bytes), (4, 266));
    assert!(tcp.facts.status.has(Status::ASSURED) && tcp.facts.status.has(Status::SRC_NAT));
    assert!(tcp.facts.start_ns.is_some_and(|ns| ns > 1_790_000_000_000_000_000));
    assert_eq!(tcp.facts.stop_ns, None);
    let nat = tcp.nat().expect("a translation");
    assert!(nat.source && !nat.destination);
    assert_eq!((nat.to.src, nat.to.sport), (IpAddr::from([10, 9, 0, 1]), 40_063));
    assert_eq!((nat.to.dst, nat.to.dport), (tcp.key.orig.dst, 80));
    // ipv6 udp 29 src=fd09::1 dst=fd09::2 sport=6000 dport=53 packets=1 bytes=53 ... mark=66 id=830291024
    assert_eq!((udp.key.id, udp.key.orig.family(), udp.key.orig.proto), (830_291_024, 6, 17));
    assert_eq!(udp.key.orig.dst, "fd09::2".parse::<IpAddr>().unwrap());
    assert_eq!((udp.nat(), udp.state()), (None, "established"));
    assert_eq!(udp.facts.counters.expect("counted").reply, Count { packets: 1, bytes: 53 });
    // ipv4 icmp 29 src=10.8.0.1 dst=10.9.0.2 type=8 code=0 id=77 packets=1 bytes=84 ... id=1540340151
    assert_eq!((icmp.key.id, icmp.key.orig.proto), (1_540_340_151, 1));
    assert_eq!((icmp.key.orig.sport, icmp.key.orig.dport, icmp.key.orig.icmp_type), (77, 0, 8));
    assert_eq!(icmp.nat().expect("a translation").to.src, IpAddr::from([10, 9, 0, 1]));
    let ends: Vec<_> = Messages::new(&dump[1]).collect();
    assert_eq!(ends.last(), Some(&Ok(Message::Done(0))));
}

#[test]
fn recorded_events_tell_beginning_change_and_end() {
    let events = events();
    let tcp: Vec<Message> = events
        .iter()
        .flat_map(|event| Messages::new(event))
        .map(|message| message.expect("understood"))
        .filter(|message| match message {
            Message::New(entry) | Message::Update(entry) | Message::Destroy(entry) => {
                entry.key.orig.proto == 6
            }
            other => panic!("not of an entry: {other:?}"),
        })
        .collect();
    let told: Vec<_> = tcp
        .iter()
        .map(|message| match message {
            Message::New(entry) => ("new", entry.state()),
            Message::Update(entry) => ("update", entry.state()),
            Message::Destroy(entry) => ("destroy", entry.state()),
            _ => ("", ""),
        })
        .collect();
    assert_eq!(
        told,
        [
            ("new", "syn-sent"),
            ("update", "syn-recv"),
            ("update", "established"),
            ("update", "fin-wait"),
            ("update", "close-wait"),
            ("destroy", "close-wait")
        ]
    );
    let Some(Message::Destroy(ended)) = tcp.last() else { panic!("the end comes last") };
    let counters = ended.facts.counters.expect("final totals");
    assert_eq!((counters.orig.bytes, counters.reply.bytes), (318, 266));
    assert!(ended.facts.stop_ns > ended.facts.start_ns && ended.facts.start_ns.is_some());
}

#[test]
fn what_was_made_here_reads_as_it_was_meant() {
    let mut entry = carried(masqueraded(7, 5000), (1, 2), (3, u64::MAX));
    entry.key.zone = 9;
    entry.facts.start_ns = Some(77);
    let bytes = [event(NEW, &entry), event(UPDATE, &entry), event(DESTROY, &entry)].concat();
    let messages: Vec<_> = Messages::new(&bytes).collect::<Result<_, _>>().unwrap();
    assert_eq!(messages, [Message::New(entry), Message::Update(entry), Message::Destroy(entry)]);
    assert_eq!(Messages::new(&event(DUMPED, &entry)).next(), Some(Ok(Message::New(entry))));
    assert_eq!(Messages::new(&done(4)).next(), Some(Ok(Message::Done(4))));
    let refused = raw(2, 0, &(-libc::EPERM).to_ne_bytes());
    assert_eq!(Messages::new(&refused).next(), Some(Ok(Message::Error(libc::EPERM))));
    assert_eq!(Messages::new(&raw(0x0a00, 0, &[])).next(), Some(Ok(Message::Other)));
}

#[test]
fn a_bad_entry_doesnt_hide_the_next() {
    let good = masqueraded(7, 5000);
    let mut bad = event(NEW, &good);
    // The first attribute claims more than there is.
    bad[20..22].copy_from_slice(&60_000u16.to_ne_bytes());
    let bytes = [bad, raw(0x100, 0, &[2, 0, 0, 0]), event(NEW, &good)].concat();
    let messages: Vec<_> = Messages::new(&bytes).collect();
    assert_eq!(messages[0], Err(DecodeError::Attribute { kind: 1, length: 60_000 }));
    assert_eq!(messages[1], Err(DecodeError::Missing("original tuple")));
    assert_eq!(messages[2], Ok(Message::New(good)));
    // A header that lies ends it.
    let mut lying = event(NEW, &good);
    lying[..4].copy_from_slice(&9_999u32.to_ne_bytes());
    let messages: Vec<_> = Messages::new(&lying).collect();
    assert_eq!(messages, [Err(DecodeError::Message { length: 9_999, seen: lying.len() })]);
    assert_eq!(Messages::new(&[1, 2, 3]).count(), 1);
}

#[test]
fn the_request_is_for_everything() {
    let request = dump_request(5);
    assert_eq!(u32::from_ne_bytes(request[..4].try_into().unwrap()), 20);
    assert_eq!(u16::from_ne_bytes([request[4], request[5]]), 0x101, "get an entry");
    assert_eq!(u16::from_ne_bytes([request[6], request[7]]), 0x301, "request, dump");
    assert_eq!(request[16], 0, "any family");
}

proptest! {
    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Messages::new(&bytes).count() <= bytes.len());
        let framed = raw(0x100, 0, &bytes);
        let _ = Messages::new(&framed).count();
    }

    #[test]
    fn any_damage_to_what_was_recorded_ends(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        for mut answer in dump().into_iter().chain(events()) {
            for (at, byte) in &damage {
                let at = at.index(answer.len());
                answer[at] = *byte;
            }
            let _ = Messages::new(&answer).count();
            let _ = Messages::new(&answer[..cut.index(answer.len())]).count();
        }
    }

    #[test]
    fn a_tuple_turned_twice_is_itself(a in any::<[u8; 4]>(), b in any::<[u8; 4]>(), sport: u16, dport: u16) {
        let orig = Tuple { src: a.into(), dst: b.into(), sport, dport, proto: 17, icmp_type: 0, icmp_code: 0 };
        let reply = Tuple { src: b.into(), dst: a.into(), sport: dport, dport: sport, ..orig };
        prop_assert_eq!(entry::nat(&orig, &reply), None);
    }
}
