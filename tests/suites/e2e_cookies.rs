//! SYN cookies with real connections: the machine's own listeners get them as if they had answered the SYN
//! themselves, at every hook, with what the handshake agreed on.

use sluice_tests::bpf::Program;
use sluice_tests::lab::{Daemon, DaemonOptions, Lab, TcpEcho};
use std::time::Duration;

const ALWAYS: &str = "
option syn-cookies always
default in drop
default out drop
rule web allow in on wan0 tcp to port { 80, 8080 }
";

const BY_RULE: &str = "
default in drop
default out drop
rule web  allow in on wan0 tcp to port 80 syn-cookies
rule rest allow in on wan0 tcp to port 81
";

const SOON: Duration = Duration::from_secs(5);
const GATES: [&str; 2] = [Lab::GATE4, "[fd77:1::1]"];

/// A lab with a daemon at the gate's outer interface in `mode`.
fn scene(test: &str, policy: &str, mode: &str) -> Option<(Lab, Daemon)> {
    let lab = Lab::or_skip(test)?;
    let daemon = Daemon::or_skip(test, &lab.gate, DaemonOptions::on(policy, &[("wan0", mode)]))?;
    if mode == "xdp" {
        // What XDP sends back on a veth arrives only where the other end runs an XDP program, too.
        let pin = daemon.pin_dir.join("client_pass");
        Program::returning(2).unwrap().pin(&pin).unwrap();
        lab.client
            .ip(&["link", "set", "c0", "xdp", "pinned", &pin.display().to_string()])
            .unwrap();
    }
    Some((lab, daemon))
}

fn echoes(lab: &Lab, port: u16) -> Vec<TcpEcho> {
    GATES.map(|gate| TcpEcho::start(&lab.gate, &format!("{gate}:{port}")).unwrap()).into()
}

#[test]
fn connections_are_made_by_cookies_at_every_hook() {
    for mode in ["tc", "xdp-generic", "xdp"] {
        let test = "e2e_cookies::connections_are_made_by_cookies_at_every_hook";
        let Some((lab, daemon)) = scene(test, ALWAYS, mode) else { return };
        let _servers = echoes(&lab, 80);
        for (i, gate) in (1..).zip(GATES) {
            lab.client
                .tcp_exchange(&format!("{gate}:80"), &[7; 500_000], SOON)
                .unwrap_or_else(|e| panic!("{mode}, {gate}: {e}\n{}", daemon.log()));
            assert_eq!(daemon.reason("syn-cookie-sent"), i, "{mode}, {gate}");
            assert_eq!(daemon.reason("syn-cookie-good"), i, "{mode}, {gate}");
        }
        assert_eq!(daemon.reason("syn-cookie-bad"), 0, "{mode}");
        assert_eq!(daemon.reason("out-of-window"), 0, "{mode}");
        let flows = daemon.flows("dport=80");
        assert_eq!(flows.len(), 2, "{mode}: {flows:?}");
        for flow in flows {
            assert!(flow["bytes"].as_u64() > Some(500_000), "{mode}: {flow}");
            assert!(flow["reply_bytes"].as_u64() > Some(500_000), "{mode}: {flow}");
        }
    }
}
