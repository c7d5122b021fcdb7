//! Sockets without connections: UDP, ICMP, raw protocols, AF_PACKET.

use crate::stage::{ACTOR, Stage, number, owned};
use serde_json::Value;
use sluice_tests::lab::UdpEcho;

const COUNT: u64 = 200;
const SIZE: u64 = 1000;

/// The rows, alive and ended, of an actor that exchanges datagrams; the live one is handed to `look`.
fn scene(
    test: &str,
    args: &[&str],
    filter: &str,
    sockets: Option<&str>,
    look: impl Fn(&Value, &Value),
) {
    let Some(stage) = Stage::or_skip(test) else { return };
    stage.ns.sysctl("ipv4/ping_group_range", "0 2147483647").unwrap();
    let _echo = sockets.map(|at| UdpEcho::start(&stage.ns, at).unwrap());
    let mut args = args.to_vec();
    let numbers = [COUNT.to_string(), SIZE.to_string()];
    args.extend(numbers.iter().map(String::as_str));
    let mut actor = stage.actor(&args);
    let Some(said) = actor.says_or_skip(test) else { return };
    let (sent, received) = (number(&said, "sent"), number(&said, "received"));
    assert!(sent >= COUNT * SIZE && received >= COUNT * SIZE, "{said}");
    let filter = format!("pid={} and {filter}", actor.pid());
    let row = stage.row(&filter, sent, received);
    assert_eq!(row["holders"][0]["pid"], actor.pid(), "{row:#}");
    assert!(number(&row, "sends") > 0 && number(&row, "receives") > 0, "{row:#}");
    look(&row, &said);
    if row["proto"] == "packet" {
        // No hook is there where it is made: who holds it is its owner.
        assert_eq!((&row["confidence"], &row["exe"]), (&"held".into(), &ACTOR.into()), "{row:#}");
    } else {
        owned(&row, actor.pid(), ACTOR);
    }
    let (pid, packet) = (actor.pid(), row["proto"] == "packet");
    actor.ends();
    let row = stage.end_of(&filter, sent, received);
    assert_eq!((&row["pid"], &row["exe"]), (&pid.into(), &ACTOR.into()), "{row:#}");
    if !packet {
        owned(&row, pid, ACTOR);
    }
    assert_eq!(stage.live(&filter), Vec::<Value>::new(), "gone");
}

fn udp(test: &str, way: &str, at: &str, state: &str) {
    scene(test, &["datagrams", way, at], "proto=udp", Some(at), |row, said| {
        assert_eq!((&row["local_port"], &row["state"]), (&said["port"], &state.into()), "{row:#}");
        let remote = if state == "connected" { 7 } else { 0 };
        assert_eq!(row["remote_port"], remote, "{row:#}");
    });
}

macro_rules! udp {
    ($($name:ident: $way:literal at $at:literal, $state:literal;)*) => {$(
        #[test]
        fn $name() {
            udp(concat!("e2e_scenes::datagrams::", stringify!($name)), $way, $at, $state);
        }
    )*};
}

udp! {
    connected: "connected" at "127.0.0.1:7", "connected";
    connected_over_ipv6: "connected" at "[::1]:7", "connected";
    unconnected: "unconnected" at "127.0.0.1:7", "unconnected";
    unconnected_over_ipv6: "unconnected" at "[::1]:7", "unconnected";
    several_in_one_call: "many" at "127.0.0.1:7", "connected";
    one_call_cut_into_several: "segments" at "127.0.0.1:7", "connected";
    by_io_uring: "uring" at "127.0.0.1:7", "connected";
}

#[test]
fn echo_requests_of_a_ping_socket() {
    let test = "e2e_scenes::datagrams::echo_requests_of_a_ping_socket";
    scene(test, &["datagrams", "ping", "127.0.0.1"], "proto=icmp", None, |row, _| {
        assert_eq!((&row["family"], &row["note"]), (&4.into(), &Value::Null), "{row:#}");
    });
}

#[test]
fn echo_requests_of_a_ping_socket_over_ipv6() {
    let test = "e2e_scenes::datagrams::echo_requests_of_a_ping_socket_over_ipv6";
    scene(test, &["datagrams", "ping", "::1"], "proto=icmpv6", None, |row, _| {
        assert_eq!(row["family"], 6, "{row:#}");
    });
}

#[test]
fn echo_requests_of_a_raw_socket() {
    let test = "e2e_scenes::datagrams::echo_requests_of_a_raw_socket";
    scene(test, &["datagrams", "ping-raw", "127.0.0.1"], "proto=\"raw/1\"", None, |row, said| {
        assert!(said["received"].as_u64() > said["sent"].as_u64(), "it hears itself, too: {said}");
        assert!(row["note"].as_str().is_some_and(|note| note.contains("headers")), "{row:#}");
    });
}

#[test]
fn a_protocol_of_its_own() {
    let test = "e2e_scenes::datagrams::a_protocol_of_its_own";
    scene(test, &["datagrams", "raw", "::1"], "proto=\"raw/253\"", None, |row, _| {
        assert_eq!((&row["state"], &row["family"]), (&"open".into(), &6.into()), "{row:#}");
        assert!(row["note"].as_str().is_some_and(|note| note.contains("headers")), "{row:#}");
    });
}

#[test]
fn frames_of_a_packet_socket() {
    let test = "e2e_scenes::datagrams::frames_of_a_packet_socket";
    scene(test, &["frames"], "proto=packet", None, |row, _| {
        let note = row["note"].as_str().unwrap_or_default();
        assert!(note.contains("sees packets before rules"), "{row:#}");
    });
}
