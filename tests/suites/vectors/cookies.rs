//! SYN cookies: the answer byte by byte, what brings it back, and when none is sent. What they keep of a
//! handshake shows in the flow's windows; that listeners take the connections is shown by `e2e_cookies`.

use super::{Bench, C, C6, S, S6};
use sluice_tests::bpf::pin_to_cpu;
use sluice_tests::kernel::Hook;
use sluice_tests::packet::{Answer, DST_MAC, Packet, SRC_MAC, inspect, tcp, verify_checksums};
use std::net::TcpListener;
use std::sync::OnceLock;

const ALWAYS: &str = "option syn-cookies always\noption tcp-pickup off\ndefault in drop\n\
    default out drop\nrule web allow in tcp to port { 80, 81 }\n";
const HOOKS: [Hook; 2] = [Hook::Xdp, Hook::TcIn];
const ISN: u32 = 0xffff_ff00;
/// What Linux sends: MSS 1460, SACK permitted, timestamp 0x01020304, window scale 9.
const LINUX: &[u8] = &[2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 9];

/// Listeners at port 80 of the server's addresses; as long as the tests run, with the kernel under test.
static LISTENERS: OnceLock<Vec<TcpListener>> = OnceLock::new();

/// A kernel whose machine is the server, or a skip.
fn machine(test: &str) -> Option<Bench> {
    let bench = Bench::or_skip(test)?;
    // Budgets are a CPU's own.
    pin_to_cpu(0);
    let ns = bench.kernel.namespace();
    LISTENERS.get_or_init(|| {
        for address in [format!("{S}/32"), format!("{S6}/128")] {
            let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
            ns.ip(&[&["address", "add", &address, "dev", "wan0"], nodad].concat()).unwrap();
        }
        ns.sysctl("ipv4/ip_forward", "1").unwrap();
        ns.sysctl("ipv6/conf/all/forwarding", "1").unwrap();
        // Something to forward to, so that a route leads there.
        ns.ip(&["route", "add", "203.0.113.0/24", "dev", "lan0"]).unwrap();
        ns.ip(&["-6", "route", "add", "2001:db8:2::/64", "dev", "lan0"]).unwrap();
        ns.run(|| ["0.0.0.0:80", "[::]:80"].map(bind).into())
    });
    Some(bench)
}

fn bind(address: &str) -> TcpListener {
    use std::os::fd::FromRawFd as _;
    let to: std::net::SocketAddr = address.parse().unwrap();
    if to.is_ipv4() {
        return TcpListener::bind(to).unwrap();
    }
    // Of IPv6 alone: the other family has a listener of its own.
    // SAFETY: plain calls; the descriptor is ours, and the address is a whole sockaddr_in6.
    unsafe {
        let fd = libc::socket(libc::AF_INET6, libc::SOCK_STREAM, 0);
        let on: libc::c_int = 1;
        let len = size_of::<libc::c_int>() as u32;
        libc::setsockopt(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, (&raw const on).cast(), len);
        let mut name: libc::sockaddr_in6 = std::mem::zeroed();
        name.sin6_family = libc::AF_INET6 as u16;
        name.sin6_port = to.port().to_be();
        let size = size_of::<libc::sockaddr_in6>() as u32;
        assert_eq!(libc::bind(fd, (&raw const name).cast(), size), 0);
        assert_eq!(libc::listen(fd, 16), 0);
        TcpListener::from_raw_fd(fd)
    }
}

/// The two families: client, server, header of an IP packet, MSS behind the interface's MTU of 1500.
const FAMILIES: [(&str, &str, usize, u16); 2] = [(C, S, 20, 1460), (C6, S6, 40, 1440)];

fn syn(client: &str, server: &str, options: &[u8]) -> Packet {
    Packet::new().ip(client, server).tcp(4000, 80).seq(ISN, 0).tcp_options(options)
}

fn ack(client: &str, server: &str, cookie: u32, options: &[u8]) -> Packet {
    Packet::new()
        .ip(client, server)
        .tcp(4000, 80)
        .flags(tcp::ACK)
        .seq(ISN.wrapping_add(1), cookie.wrapping_add(1))
        .window(500)
        .tcp_options(options)
}

/// The options that bring an answer's timestamp back.
fn echo(answer: &Answer) -> Vec<u8> {
    let options = &answer.segment[20..];
    if options.len() < 20 {
        return Vec::new();
    }
    [&[1, 1, 8, 10, 1, 2, 3, 5][..], &options[8..12]].concat()
}

/// Sends a SYN that is answered; the answer, its lower layers checked.
#[track_caller]
fn answered(bench: &mut Bench, hook: Hook, syn: &Packet) -> Answer {
    let met = bench.at(hook, 0, &syn.build()).answers("syn-cookie-sent");
    assert_eq!(verify_checksums(&met.data), Ok(()), "{}", met.case);
    let seen = inspect(&met.data).expect("a whole frame");
    assert_eq!((seen.src_mac, seen.dst_mac), (DST_MAC, SRC_MAC), "back to who sent it");
    assert_eq!((seen.u16(0), seen.u16(2), seen.segment[13]), (80, 4000, tcp::SYN | tcp::ACK));
    assert_eq!(usize::from(seen.segment[12] >> 4) * 4, seen.segment.len(), "no payload");
    assert_eq!(seen.u32(8), ISN.wrapping_add(1), "the SYN is acknowledged, and nothing more");
    assert!(bench.flows().is_empty(), "{}: nothing is kept", bench.case);
    seen
}

/// Options of a SYN; of the answer, behind the MSS: SACK or padding, timestamps, scale or padding.
type Case<'a> = (&'a [u8], Option<([u8; 2], [u8; 4])>);

#[test]
fn a_syn_is_answered_and_its_ack_begins_the_flow() {
    let test = "vectors::cookies::a_syn_is_answered_and_its_ack_begins_the_flow";
    let Some(mut bench) = machine(test) else { return };
    const TS: [u8; 10] = [8, 10, 1, 2, 3, 4, 0, 0, 0, 0];
    let cases: [Case<'_>; 6] = [
        (&[], None),
        (&[2, 4, 5, 0xb4], None),
        (&[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 9], None),
        (LINUX, Some(([4, 2], [1, 3, 3, 7]))),
        (&TS, Some(([1, 1], [1, 1, 1, 1]))),
        (&[TS.as_slice(), &[4, 2]].concat(), Some(([4, 2], [1, 1, 1, 1]))),
    ];
    for hook in HOOKS {
        for (client, server, header, mss) in FAMILIES {
            for (tags, (options, expected)) in cases.iter().flat_map(|case| [(0, case), (1, case)])
            {
                let label = format!("{server}, {tags} tags, {options:?}");
                bench.case(&label, ALWAYS);
                let sent =
                    (0..tags).fold(syn(client, server, options), |packet, i| packet.vlan(7 + i));
                let answer = answered(&mut bench, hook, &sent);
                assert_eq!(answer.vlans.len(), usize::from(tags), "{label}: tags are kept");
                assert_eq!(
                    answer.frame_len,
                    14 + 4 * usize::from(tags) + header + answer.segment.len()
                );
                let [hi, lo] = mss.to_be_bytes();
                assert_eq!(answer.segment[20..24], [2, 4, hi, lo], "{label}: the interface's MSS");
                match expected {
                    None => assert_eq!(answer.segment.len(), 24, "{label}"),
                    Some((sack, scale)) => {
                        assert_eq!(answer.segment.len(), 40, "{label}");
                        assert_eq!(answer.segment[24..26], *sack, "{label}");
                        assert_eq!(answer.segment[26..28], [8, 10], "{label}");
                        assert_eq!(answer.u32(32), 0x0102_0304, "{label}: the client's echo");
                        assert_eq!(answer.segment[36..], *scale, "{label}");
                    }
                }
                let cookie = answer.u32(4);
                let brought = ack(client, server, cookie, &echo(&answer));
                bench.at(hook, 0, &brought.build()).passes("syn-cookie-good");
                let bytes = brought.ip_packet().len() as u64;
                assert_eq!(bench.only_flow(), [1, bytes, 0, 0], "{label}");
                assert_eq!(bench.events("established"), 1, "{label}");
                assert_eq!(bench.rule("web")[0], 2, "{label}: asked for the SYN and for the ACK");
                // What the server may send: a window of 500, scaled only where both said so.
                let scaled = expected.is_some_and(|(_, scale)| scale[1] == 3);
                let edge = if scaled { 500 << 9 } else { 500 };
                let reply = |seq: u32, n: usize| {
                    Packet::new()
                        .ip(server, client)
                        .tcp(80, 4000)
                        .flags(tcp::ACK)
                        .seq(cookie.wrapping_add(1).wrapping_add(seq), ISN.wrapping_add(1))
                        .window(1000)
                        .fill(n)
                };
                bench.out(&reply(edge + 1, 10)).drops("out-of-window");
                bench.out(&reply(edge, 10)).passes("established");
                // And the client: what the answer offered, then what the server says.
                let heard = cookie.wrapping_add(1).wrapping_add(edge + 10);
                let more = |seq: u32, n: usize| {
                    ack(client, server, cookie, &[])
                        .seq(ISN.wrapping_add(1).wrapping_add(seq), heard)
                        .fill(n)
                };
                let edge = if scaled { 1000 << 7 } else { 29_200 };
                bench.at(hook, 0, &more(edge + 1, 10).build()).drops("out-of-window");
                bench.at(hook, 0, &more(edge, 10).build()).passes("established");
            }
        }
    }
}

#[test]
fn every_mss_has_its_class() {
    let Some(mut bench) = machine("vectors::cookies::every_mss_has_its_class") else { return };
    let classes4 = [536, 1200, 1300, 1360, 1400, 1440, 1460, 8960];
    let classes6 = [1220, 1280, 1320, 1360, 1400, 1420, 1440, 8940];
    for hook in HOOKS {
        for ((client, server, ..), classes) in FAMILIES.into_iter().zip([classes4, classes6]) {
            let said = |mss: u16| {
                let [hi, lo] = mss.to_be_bytes();
                syn(client, server, &[2, 4, hi, lo])
            };
            for (class, least) in (0u32..).zip(classes) {
                let next = classes.get(class as usize + 1).copied().unwrap_or(u16::MAX);
                for mss in [least, next - 1] {
                    bench.case(&format!("{server}: {mss}"), ALWAYS);
                    let cookie = answered(&mut bench, hook, &said(mss)).u32(4);
                    assert_eq!(cookie >> 27 & 7, class, "{server}: {mss}");
                }
            }
            bench.case("none said is the least", ALWAYS);
            let cookie = answered(&mut bench, hook, &syn(client, server, &[])).u32(4);
            assert_eq!(cookie >> 27 & 7, 0);
            bench.case("less than any class", ALWAYS);
            bench.at(hook, 0, &said(classes[0] - 1).build()).passes("rule");
            assert_eq!(bench.flows().len(), 1, "it goes on as any other");
        }
    }
}

#[test]
fn what_is_not_the_cookie_is_dropped() {
    let test = "vectors::cookies::what_is_not_the_cookie_is_dropped";
    let Some(mut bench) = machine(test) else { return };
    for hook in HOOKS {
        for (client, server, ..) in FAMILIES {
            bench.case("before any cookie was sent", ALWAYS);
            bench.at(hook, 0, &ack(client, server, 1234, &[]).build()).passes("rule");
            assert!(bench.flows().is_empty(), "it begins none");
            bench.case("bad ones", ALWAYS);
            let cookie = answered(&mut bench, hook, &syn(client, server, &[])).u32(4);
            let good = || ack(client, server, cookie, &[]);
            let next = ISN.wrapping_add(1);
            let other = |client: &str, sport: u16| {
                let packet = Packet::new().ip(client, server).tcp(sport, 80);
                packet.flags(tcp::ACK).seq(next, cookie.wrapping_add(1))
            };
            let neighbour = if client == C { "192.0.2.11" } else { "2001:db8::11" };
            for (label, bad) in [
                ("a guess", ack(client, server, cookie ^ 1, &[])),
                ("another class", ack(client, server, cookie ^ 1 << 27, &[])),
                ("an old period", ack(client, server, cookie.wrapping_sub(2 << 30), &[])),
                ("the next period", ack(client, server, cookie.wrapping_add(1 << 30), &[])),
                ("another number of the client's", good().seq(next ^ 1, cookie.wrapping_add(1))),
                ("another port", other(client, 4001)),
                ("another address", other(neighbour, 4000)),
                ("data behind what was lost", good().seq(next.wrapping_add(5), cookie + 1)),
                (
                    "a FIN with a guess",
                    ack(client, server, cookie ^ 2, &[]).flags(tcp::ACK | tcp::FIN),
                ),
            ] {
                bench.case.clear();
                bench.case.push_str(label);
                bench.at(hook, 0, &bad.build()).drops("syn-cookie-bad");
                assert!(bench.flows().is_empty(), "{label}");
            }
            // None of these is asked for a cookie, and none begins a flow.
            for (label, flags) in
                [("a RST", tcp::RST | tcp::ACK), ("a SYN-ACK", tcp::SYN | tcp::ACK)]
            {
                bench.case.clear();
                bench.case.push_str(label);
                bench.at(hook, 0, &good().flags(flags).build()).passes("rule");
            }
            bench
                .at(hook, 0, &good().tcp(4000, 81).flags(tcp::ACK).seq(next, 7).build())
                .passes("rule");
            bench.case.push_str("the right one, with data");
            bench.at(hook, 0, &good().fill(100).build()).passes("syn-cookie-good");
            assert_eq!(bench.flows().len(), 1);
            bench.at(hook, 0, &good().fill(100).build()).passes("established");
        }
    }
}

#[test]
fn none_is_sent_where_nobody_could_take_it() {
    let test = "vectors::cookies::none_is_sent_where_nobody_could_take_it";
    let Some(mut bench) = machine(test) else { return };
    for hook in HOOKS {
        for (client, server, ..) in FAMILIES {
            let far = if client == C { "203.0.113.9" } else { "2001:db8:2::9" };
            for (label, packet, reason) in [
                ("nobody listens", syn(client, server, LINUX).tcp(4000, 81), "rule"),
                ("it is forwarded", syn(client, far, LINUX), "rule"),
                ("the rules refuse", syn(client, server, LINUX).tcp(4000, 22), "default"),
                ("two tags", syn(client, server, LINUX).vlan(7).vlan(8), "rule"),
            ] {
                bench.case(label, ALWAYS);
                let met = bench.at(hook, 0, &packet.build());
                let _ = if reason == "rule" { met.passes(reason) } else { met.drops(reason) };
                assert_eq!(bench.flows().len(), usize::from(reason == "rule"), "{label}");
            }
            bench.case("the machine takes none", ALWAYS);
            bench.kernel.set_cookies(14);
            bench.at(hook, 0, &syn(client, server, LINUX).build()).passes("rule");
            bench.case("the machine has no timestamps", ALWAYS);
            bench.kernel.set_cookies(1);
            let answer = answered(&mut bench, hook, &syn(client, server, LINUX));
            assert_eq!(answer.segment.len(), 24);
            bench.case("it scales no windows and knows no SACK", ALWAYS);
            bench.kernel.set_cookies(3);
            let answer = answered(&mut bench, hook, &syn(client, server, LINUX));
            assert_eq!(
                (&answer.segment[24..26], &answer.segment[36..]),
                (&[1; 2][..], &[1; 4][..])
            );
            bench.kernel.set_cookies(15);
            bench.case("known connections go on", ALWAYS);
            bench.swap(&ALWAYS.replace("always", "off"));
            bench.at(hook, 0, &syn(client, server, LINUX).build()).passes("rule");
            bench.swap(ALWAYS);
            bench.at(hook, 0, &syn(client, server, LINUX).build()).passes("established");
            // On its way out no SYN is answered.
            bench.case("out", &ALWAYS.replace("default out drop", "default out allow"));
            bench.out(&syn(client, server, LINUX)).passes("default");
        }
    }
}

#[test]
fn rules_and_rates_ask_for_them() {
    let Some(mut bench) = machine("vectors::cookies::rules_and_rates_ask_for_them") else { return };
    let head = "option tcp-pickup off\ndefault in drop\ndefault out drop\n";
    for hook in HOOKS {
        for (client, server, ..) in FAMILIES {
            let from = |sport: u16| syn(client, server, LINUX).tcp(sport, 80).seq(ISN, 0);
            bench.case(
                "by rule",
                &format!(
                    "{head}rule near allow in tcp from {client}\n\
                     rule web allow in tcp to port 80 syn-cookies\n"
                ),
            );
            bench.at(hook, 0, &from(4000).build()).passes("rule");
            let other = if client == C { "192.0.2.11" } else { "2001:db8::11" };
            let answer = answered_from(&mut bench, hook, &syn(other, server, LINUX));
            // The ACK is judged as the SYN it stands for, also by a policy that wants no cookies any more.
            let cookie = answer.u32(4);
            bench.swap(&format!("{head}rule web allow in tcp to port 80 flags syn/syn,ack\n"));
            bench
                .at(hook, 0, &ack(other, server, cookie, &echo(&answer)).build())
                .passes("syn-cookie-good");
            bench.swap(&format!("{head}rule other allow in tcp to port 81\n"));
            bench.at(hook, 0, &ack(other, server, cookie, &echo(&answer)).build()).drops("default");
            bench.at(hook, 0, &ack(other, server, cookie, &[]).build()).drops("default");

            let rule = "rule web allow in tcp to port 80\n";
            bench.case("by rate", &format!("option syn-cookies above 3/s\n{head}{rule}"));
            for sport in [5001, 5002] {
                bench.at(hook, 0, &from(sport).build()).passes("rule");
            }
            for sport in [5003, 5004, 5005] {
                bench.at(hook, 0, &from(sport).build()).answers("syn-cookie-sent");
            }
            assert_eq!(bench.flows().len(), 2);
            bench.at(hook, 0, &from(5001).build()).passes("established");
        }
    }
}

/// As [`answered`], where flows are.
#[track_caller]
fn answered_from(bench: &mut Bench, hook: Hook, syn: &Packet) -> Answer {
    let met = bench.at(hook, 0, &syn.build()).answers("syn-cookie-sent");
    assert_eq!(verify_checksums(&met.data), Ok(()), "{}", met.case);
    inspect(&met.data).expect("a whole frame")
}
