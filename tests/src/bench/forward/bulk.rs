//! `iperf3 auto|xdp|tc`: one TCP stream through the gate; Sluice in each hook mode beside nothing at all, an
//! empty program at the same hooks, and nftables. `connections`: how many are made a second.

use super::super::Figures;
use super::connections;
use super::scene::{Filter, Scene};
use super::{EMPTY, NFT, NOTHING, SLUICE};
use crate::lab::{Lab, wait_for};
use std::process::Stdio;
use std::time::Duration;

const UNIT: &str = "Gb/s";

/// Who, with what, for which cases.
const WAYS: [(&str, Filter, &[&str]); 7] = [
    (NOTHING, Filter::None, &["iperf3 auto", "iperf3 xdp", "iperf3 tc"]),
    (NFT, Filter::Nftables, &["iperf3 auto", "iperf3 xdp", "iperf3 tc"]),
    // On a veth `auto` is TC.
    (EMPTY, Filter::EmptyTc, &["iperf3 auto", "iperf3 tc"]),
    (EMPTY, Filter::EmptyXdp, &["iperf3 xdp"]),
    (SLUICE, Filter::Sluice("auto"), &["iperf3 auto"]),
    (SLUICE, Filter::Sluice("xdp"), &["iperf3 xdp"]),
    (SLUICE, Filter::Sluice("tc"), &["iperf3 tc"]),
];

/// Ways that connections are counted in.
const COUNTED: [Filter; 4] =
    [Filter::None, Filter::EmptyTc, Filter::Nftables, Filter::Sluice("auto")];

/// A transfer of some seconds: Gb/s.
fn transfer(lab: &Lab, seconds: u32) -> Result<f64, String> {
    let words = |error: std::io::Error| format!("iperf3: {error}");
    let mut server = lab
        .server
        .command("iperf3")
        .args(["--server", "--one-off"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(words)?;
    let listens = || {
        let sockets = lab.server.run(|| std::fs::read_to_string("/proc/thread-self/net/tcp6"));
        // Port 5201, state LISTEN.
        sockets
            .is_ok_and(|text| {
                text.lines().any(|line| line.contains(":1451 ") && line.contains(" 0A "))
            })
            .then_some(())
    };
    let outcome = wait_for("iperf3 listening", Duration::from_secs(5), listens)
        .map_err(|error| error.to_string())
        .and_then(|()| {
            let seconds = seconds.to_string();
            let args = ["-c", Lab::SERVER4, "-t", &seconds, "-J", "-A", "0,1"];
            let output = lab.client.command("iperf3").args(args).output().map_err(words)?;
            let said: serde_json::Value =
                serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
            said["end"]["sum_received"]["bits_per_second"]
                .as_f64()
                .map(|bits| bits / 1e9)
                .ok_or_else(|| format!("iperf3: {}", said["error"]))
        });
    let _ = server.kill();
    let _ = server.wait();
    outcome
}

/// Measures.
pub(super) fn measure(figures: &mut Figures, rounds: usize) {
    let mut scenes = Vec::new();
    const CONNECTIONS: &[&str] = &["connections"];
    for (subject, filter, cases) in WAYS {
        let counted = COUNTED.contains(&filter);
        if !(figures.wants(cases) || counted && figures.wants(CONNECTIONS)) {
            continue;
        }
        match Scene::new(filter) {
            Ok(scene) => scenes.push((subject, filter, cases, scene)),
            Err(why) => figures.missing(subject, cases[0], why),
        }
    }
    let (seconds, rounds) = if rounds < 3 { (1, rounds) } else { (2, rounds.min(5)) };
    for round in 0..rounds {
        eprintln!("bench: bulk and connections, round {} of {rounds}", round + 1);
        for (subject, filter, cases, scene) in &scenes {
            if figures.wants(cases) {
                match transfer(&scene.lab, seconds) {
                    Ok(rate) => {
                        cases.iter().for_each(|case| figures.add(subject, case, UNIT, rate));
                    }
                    Err(why) => figures.missing(subject, cases[0], why),
                }
            }
            if COUNTED.contains(filter) && figures.wants(CONNECTIONS) {
                match connections::rate(&scene.lab, Duration::from_secs(seconds.into())) {
                    Ok(rate) => figures.add(subject, "connections", "a second", rate),
                    Err(why) => figures.missing(subject, "connections", why),
                }
            }
        }
    }
}
