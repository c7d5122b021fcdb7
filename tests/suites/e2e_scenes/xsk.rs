//! AF_XDP: its sockets are marked and have their owners; their bytes are those of the rule that hands them over, as
//! no call of the socket moves any.

use crate::stage::{inode, is_near, number};
use serde_json::Value;
use sluice_tests::lab::{Daemon, DaemonOptions, Lab, RawSocket, wait_for};
use sluice_tests::packet::Packet;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::stage::SOON;

const PACKETS: u64 = 200;
const POLICY: &str = "default in drop\ndefault out allow\n\
    rule tunnel bypass in on wan0 udp to port 4789 => xsk\n";

#[test]
fn an_xdp_socket_is_marked_and_owned() {
    let test = "e2e_scenes::xsk::an_xdp_socket_is_marked_and_owned";
    let Some(lab) = Lab::or_skip(test) else { return };
    let options = DaemonOptions::on(POLICY, &[("wan0", "xdp")]);
    let Some(daemon) = Daemon::or_skip(test, &lab.gate, options) else { return };
    let status = daemon.json(&["status"]);
    let first = number(&status["interfaces"][0], "xsk_first").to_string();
    let exe = env!("CARGO_BIN_EXE_xsk-receiver");
    let pins = daemon.pin_dir.display().to_string();
    let packets = PACKETS.to_string();
    let words = ["--pins", &pins, "--interface", "wan0", "--first", &first, "--packets", &packets];
    let mut receiver = lab.gate.command(exe).args(words).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(receiver.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "ready");
    let filter = format!("netns={} and proto=xdp", inode(&lab.gate));
    let rows = daemon.rows(&["sockets", &filter]);
    let [row] = rows.as_slice() else { panic!("one socket: {rows:#?}") };
    assert_eq!((&row["pid"], &row["comm"]), (&receiver.id().into(), &"xsk-receiver".into()));
    assert_eq!((&row["exe"], &row["confidence"]), (&exe.into(), &"held".into()), "{row:#}");
    assert_eq!(row["holders"][0]["pid"], receiver.id(), "{row:#}");
    assert!(row["note"].as_str().is_some_and(|note| note.contains("past the stack")), "{row:#}");
    let here = RawSocket::open(&lab.client, "c0").unwrap();
    let macs = (lab.client.mac("c0").unwrap(), lab.gate.mac("wan0").unwrap());
    for i in 0..PACKETS {
        let packet = Packet::new().macs(macs.0, macs.1);
        let packet = packet.ipv4(Lab::CLIENT4, Lab::GATE4).udp(4000 + i as u16, 4789);
        here.send(&packet.fill(1000).build());
    }
    let got: Value = serde_json::from_str(&said.next().unwrap().unwrap()).unwrap();
    assert_eq!((&got["packets"], &got["lost"]), (&PACKETS.into(), &0.into()), "{got}");
    assert!(receiver.wait().unwrap().success());
    let rule = daemon.rule("tunnel");
    // Rules count packets, the socket frames: fourteen bytes of Ethernet more.
    assert!(is_near(&rule["bytes"], number(&got, "bytes") - 14 * PACKETS), "{rule:#} {got}");
    // It tells nothing of its end, and is missed at the next look.
    let ended = wait_for("the end of it", SOON, || {
        daemon.rows(&["sockets", "--ended", &filter]).first().cloned()
    })
    .unwrap();
    assert_eq!((&ended["pid"], &ended["ended"]), (&receiver.id().into(), &"closed".into()));
}
