//! `bench apply`: how long a change of the rules takes, from the file or the request until it is in force.
//!
//! - `apply 10k`, `apply 100k`: another whole rule set. `sluice apply`, `nft -f` and `iptables-legacy-restore` of the same
//!   rules, each as a command.
//! - `single edit`: one rule added in the middle of 10,000 that are live, and deleted again: as a command, and for Sluice as a
//!   request on the control socket, too.
//! - `set 1M`, `one address`: a set filled with a million addresses, and one more in and out; for Sluice also as
//!   requests, each on a connection of its own and all on one.

use super::Figures;
use super::gate::{Gate, Setup, refusal};
use crate::lab::NetNs;
use crate::rng::Rng;
use crate::ruleset::{Rule, foreign, name, policy, random};
use firewall_user::server::client::{Client, ClientError};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Instant;

const SLUICE: &str = "sluice";
const NFT: &str = "nft";
const IPTABLES: &str = "iptables-legacy";

/// Addresses of the big set.
const ADDRESSES: usize = 1_000_000;

/// Runs it.
///
/// # Errors
/// In words, where there is no daemon to ask.
pub(super) fn measure(rounds: usize, only: Option<String>) -> Result<Figures, String> {
    let mut figures = Figures::of("apply", only);
    for (case, rules) in [("apply 10k", 10_000), ("apply 100k", 100_000)] {
        if figures.wants(&[case]) {
            whole(&mut figures, case, rules, rounds)?;
        }
    }
    if figures.wants(&["single edit"]) {
        single(&mut figures, rounds)?;
    }
    if figures.wants(&["set 1M", "one address"]) {
        sets(&mut figures, rounds)?;
    }
    figures.ratio_to_best(SLUICE, &[NFT, IPTABLES]);
    Ok(figures)
}

/// A daemon and the peers, each in a namespace of its own.
struct Scene {
    gate: Gate,
    peers: NetNs,
}

impl Scene {
    fn new() -> Result<Self, String> {
        let (ns, peers) = (namespace("gate")?, namespace("peers")?);
        ns.ip(&["link", "add", "in0", "type", "veth", "peer", "name", "in1"])
            .and_then(|()| ns.ip(&["link", "set", "in0", "up"]))
            .map_err(|error| error.to_string())?;
        let setup =
            Setup { ifaces: &[("in0", "xdp")], policy: "default in allow\n", max_flows: 1 << 16 };
        Ok(Self { gate: Gate::start(&ns, setup)?, peers })
    }

    fn file(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.gate.daemon.dir.join(name);
        let wrong = |error| format!("{}: {error}", path.display());
        std::fs::write(&path, text).map_err(wrong)?;
        Ok(path)
    }

    /// Runs `sluice ARGS`: milliseconds, the process's own start included.
    fn sluice(&self, args: &[&str]) -> Result<f64, String> {
        let start = Instant::now();
        let output = self.gate.daemon.cli(args);
        let spent = millis(start);
        if output.code == 0 { Ok(spent) } else { Err(refusal(&output.stderr)) }
    }

    /// The same of another command, and what it printed.
    fn peer(&self, program: &str, args: &[&str]) -> Result<(f64, String), String> {
        let start = Instant::now();
        let printed = self.peers.exec(program, args).map_err(|error| short(&error.to_string()))?;
        Ok((millis(start), printed))
    }
}

fn namespace(label: &'static str) -> Result<NetNs, String> {
    NetNs::new(label).map_err(|error| error.to_string())
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// A complaint may quote ten thousand rules.
fn short(words: &str) -> String {
    words.chars().take(300).collect()
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// Takes a figure, or the reason why there is none; whether there is one.
fn note(
    figures: &mut Figures,
    subject: &str,
    case: &str,
    unit: &str,
    result: Result<f64, String>,
) -> bool {
    match result {
        Ok(value) => {
            figures.add(subject, case, unit, value);
            true
        }
        Err(why) => {
            figures.missing(subject, case, why);
            false
        }
    }
}

/// Whole rule sets, two by turns: an unchanged one would be no work.
fn whole(figures: &mut Figures, case: &str, count: usize, rounds: usize) -> Result<(), String> {
    eprintln!("bench: {case}");
    let scene = Scene::new()?;
    let mut files = Vec::new();
    for turn in 0..2 {
        let rules = random::five_tuples(count, turn);
        files.push([
            scene.file(&format!("{turn}.sluice"), &policy::policy(&rules, "drop"))?,
            scene.file(
                &format!("{turn}.nft"),
                &format!("flush ruleset\n{}", foreign::nft_linear(&rules)),
            )?,
            scene.file(&format!("{turn}.iptables"), &foreign::iptables(&rules))?,
        ]);
    }
    let mut able = [true; 3];
    for round in 0..rounds {
        let [ours, nft, iptables] = &files[round % 2];
        for (i, subject) in [SLUICE, NFT, IPTABLES].into_iter().enumerate() {
            if !able[i] {
                continue;
            }
            let spent = match subject {
                SLUICE => scene.sluice(&["apply", "--yes", "--force", text_of(ours)]),
                NFT => scene.peer("nft", &["-f", text_of(nft)]).map(|(spent, _)| spent),
                _ => scene
                    .peer("iptables-legacy-restore", &[text_of(iptables)])
                    .map(|(spent, _)| spent),
            };
            able[i] = note(figures, subject, case, "ms", spent);
        }
    }
    Ok(())
}

/// Rules that are live meanwhile, and where among them the new one goes.
const LIVE: usize = 10_000;
const PLACE: usize = LIVE / 2;
/// Edits of a round.
const EDITS: usize = 16;

/// One rule in and out again.
fn single(figures: &mut Figures, rounds: usize) -> Result<(), String> {
    const CASE: &str = "single edit";
    eprintln!("bench: {CASE}");
    let scene = Scene::new()?;
    let mut rules = random::five_tuples(LIVE + EDITS, 1);
    let new = rules.split_off(LIVE);
    let ours = scene.gate.apply(&policy::policy(&rules, "drop"));
    let ours = ours.map_err(|why| figures.missing(SLUICE, CASE, why)).is_ok();
    let nft = scene.file("rules.nft", &foreign::nft_linear(&rules))?;
    let nft = scene.peer("nft", &["-f", text_of(&nft)]).and_then(|_| nft_handle(&scene));
    let nft = nft.map_err(|why| figures.missing(NFT, CASE, why)).ok();
    let iptables = scene.file("rules.iptables", &foreign::iptables(&rules))?;
    let iptables = scene.peer("iptables-legacy-restore", &[text_of(&iptables)]);
    let iptables = iptables.map_err(|why| figures.missing(IPTABLES, CASE, why)).is_ok();
    let requests = Requests::new(&scene)?;
    let units = ["ms to add, command", "ms to delete, command"];
    for _ in 0..rounds {
        for rule in &new {
            if ours {
                let both = requests.edit(rule);
                twice(figures, SLUICE, CASE, ["ms to add, request", "ms to delete, request"], both);
                twice(figures, SLUICE, CASE, units, sluice_edit(&scene, rule));
            }
            if let Some(handle) = &nft {
                twice(figures, NFT, CASE, units, nft_edit(&scene, handle, rule));
            }
            if iptables {
                twice(figures, IPTABLES, CASE, units, iptables_edit(&scene, rule));
            }
        }
    }
    Ok(())
}

fn twice(
    figures: &mut Figures,
    subject: &str,
    case: &str,
    units: [&str; 2],
    both: Result<[f64; 2], String>,
) {
    match both {
        Ok(values) => {
            for (unit, value) in units.into_iter().zip(values) {
                figures.add(subject, case, unit, value);
            }
        }
        Err(why) => figures.missing(subject, case, why),
    }
}

/// The control socket, without a process for each request.
struct Requests {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Requests {
    fn new(scene: &Scene) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { runtime, client: Client::new(scene.gate.daemon.dir.join("sock")) })
    }

    /// Adds a rule and deletes it: milliseconds of each.
    fn edit(&self, rule: &Rule) -> Result<[f64; 2], String> {
        let text = policy::statement(rule, "extra", "drop");
        let body = json!({"text": text, "before": name(PLACE), "force": true});
        self.runtime.block_on(async {
            let start = Instant::now();
            let added = self.client.post::<Value>("/api/v1/rules", &body).await;
            added.map_err(|error| short(&error.to_string()))?;
            let (add, start) = (millis(start), Instant::now());
            let deleted = self.client.delete::<Value>("/api/v1/rules/extra?force=true").await;
            deleted.map_err(|error| short(&error.to_string()))?;
            Ok([add, millis(start)])
        })
    }

    /// Enters an address and takes it out so many times, on one connection: milliseconds of each.
    fn many(&self, set: &str, address: &str, times: usize) -> Result<Vec<[f64; 2]>, String> {
        let said = |error: ClientError| short(&error.to_string());
        self.runtime.block_on(async {
            let mut talk = self.client.talk().await.map_err(said)?;
            let mut all = Vec::with_capacity(times);
            for _ in 0..times {
                let mut both = [0.0; 2];
                for (verb, spent) in ["sets.add", "sets.delete"].into_iter().zip(&mut both) {
                    let args = json!({"name": set, "entries": [address]});
                    let command = json!({"type": "command", "id": 1, "verb": verb, "args": args});
                    let start = Instant::now();
                    talk.say(&command).await.map_err(said)?;
                    loop {
                        let heard = talk.hear().await.map_err(said)?;
                        let heard = heard.ok_or("the daemon closed the conversation")?;
                        if heard["type"] == "result" {
                            *spent = millis(start);
                            if heard["ok"] != true {
                                return Err(short(&heard.to_string()));
                            }
                            break;
                        }
                    }
                }
                all.push(both);
            }
            Ok(all)
        })
    }

    /// Enters an address into a live set and takes it out: milliseconds of each.
    fn one(&self, set: &str, address: &str) -> Result<[f64; 2], String> {
        let (path, body) = (format!("/api/v1/sets/{set}/entries"), json!({"entries": [address]}));
        self.runtime.block_on(async {
            let start = Instant::now();
            let added = self.client.post::<Value>(&path, &body).await;
            added.map_err(|error| short(&error.to_string()))?;
            let (add, start) = (millis(start), Instant::now());
            let deleted = self.client.delete_some::<Value>(&path, &body).await;
            deleted.map_err(|error| short(&error.to_string()))?;
            Ok([add, millis(start)])
        })
    }
}

fn sluice_edit(scene: &Scene, rule: &Rule) -> Result<[f64; 2], String> {
    let text = policy::statement(rule, "extra", "drop");
    let place = name(PLACE);
    let add = scene.sluice(&["rule", "add", "--force", "--before", &place, &text])?;
    Ok([add, scene.sluice(&["rule", "delete", "--force", "extra"])?])
}

/// Handle of the rule in the middle.
fn nft_handle(scene: &Scene) -> Result<String, String> {
    let (_, text) = scene.peer("nft", &["-a", "list", "chain", "ip", "bench", "pre"])?;
    let rule = text.lines().filter(|line| line.contains(" drop # handle ")).nth(PLACE);
    rule.and_then(handle).ok_or_else(|| format!("no handles in {}", short(&text)))
}

fn handle(line: &str) -> Option<String> {
    Some(line.split_once("# handle ")?.1.trim().to_owned())
}

fn nft_edit(scene: &Scene, before: &str, rule: &Rule) -> Result<[f64; 2], String> {
    let text = format!("insert rule ip bench pre position {before} {}", foreign::nft_rule(rule));
    let (add, echo) = scene.peer("nft", &["-e", "-a", &text])?;
    let new =
        echo.lines().find_map(handle).ok_or_else(|| format!("no handle in {}", short(&echo)))?;
    let (delete, _) = scene.peer("nft", &[&format!("delete rule ip bench pre handle {new}")])?;
    Ok([add, delete])
}

fn iptables_edit(scene: &Scene, rule: &Rule) -> Result<[f64; 2], String> {
    let conditions = foreign::iptables_conditions(rule);
    let (number, words) = (PLACE.to_string(), conditions.split_whitespace());
    let mut args = vec!["-t", "raw", "-I", "PREROUTING", &number];
    args.extend(words.chain(["-j", "DROP"]));
    let (add, _) = scene.peer(IPTABLES, &args)?;
    let (delete, _) = scene.peer(IPTABLES, &["-t", "raw", "-D", "PREROUTING", &number])?;
    Ok([add, delete])
}

/// A set of a million, loaded from a file with a line for each; and one address more.
fn sets(figures: &mut Figures, rounds: usize) -> Result<(), String> {
    const LOAD: &str = "set 1M";
    const ONE: &str = "one address";
    eprintln!("bench: {LOAD}, {ONE}");
    let scene = Scene::new()?;
    let text = addresses();
    let list = text.lines().collect::<Vec<_>>().join(",\n");
    let table = "table ip bench {\n set listed {\n  type ipv4_addr\n ";
    let empty = scene.file("empty.nft", &format!("flush ruleset\n{table} }}\n}}\n"))?;
    let full = scene.file("full.nft", &format!("{table} elements = {{\n{list}\n}}\n }}\n}}\n"))?;
    let theirs = scene.peer("nft", &["-f", text_of(&empty)]);
    let mut theirs = theirs.map_err(|why| figures.missing(NFT, LOAD, why)).is_ok();
    // Whether there is such a command at all.
    let policy = "set listed live size 2000000\nrule listed drop in from @listed\n";
    let ours = scene.sluice(&["set", "list"]).and_then(|_| scene.gate.apply(policy));
    let mut ours = ours
        .map_err(|why| [LOAD, ONE].map(|case| figures.missing(SLUICE, case, why.as_str())))
        .is_ok();
    let file = scene.file("addresses", &text)?;
    let requests = Requests::new(&scene)?;
    for _ in 0..rounds {
        if ours {
            if figures.wants(&[LOAD]) {
                let spent = scene
                    .sluice(&["set", "flush", "listed"])
                    .and_then(|_| scene.sluice(&["set", "load", "listed", text_of(&file)]));
                ours = note(figures, SLUICE, LOAD, "ms", spent);
            }
            for _ in 0..EACH {
                let both = requests.one("listed", "192.0.2.1").map(|both| both.map(|ms| ms * 1e3));
                twice(figures, SLUICE, ONE, ONE_REQUESTS, both);
            }
            match requests.many("listed", "192.0.2.1", EACH) {
                Ok(all) => all.into_iter().for_each(|both| {
                    let both = both.map(|ms| ms * 1e3);
                    twice(figures, SLUICE, ONE, ONE_TALK, Ok(both));
                }),
                Err(why) => figures.missing(SLUICE, ONE, why),
            }
            let one = |verb| scene.sluice(&["set", verb, "listed", "192.0.2.1"]);
            let both = one("add").and_then(|add| Ok([add, one("delete")?]));
            twice(figures, SLUICE, ONE, ONE_UNITS, both);
        }
        if theirs {
            if figures.wants(&[LOAD]) {
                let spent = scene
                    .peer("nft", &["-f", text_of(&empty)])
                    .and_then(|_| scene.peer("nft", &["-f", text_of(&full)]))
                    .map(|(spent, _)| spent);
                theirs = note(figures, NFT, LOAD, "ms", spent);
            }
            let one = |verb: &str| {
                let text = format!("{verb} element ip bench listed {{ 192.0.2.1 }}");
                scene.peer("nft", &[&text]).map(|(spent, _)| spent)
            };
            let both = one("add").and_then(|add| Ok([add, one("delete")?]));
            twice(figures, NFT, ONE, ONE_UNITS, both);
        }
    }
    Ok(())
}

/// Requests for each command.
const EACH: usize = 20;
const ONE_TALK: [&str; 2] = ["µs to add, kept connection", "µs to delete, kept connection"];
const ONE_REQUESTS: [&str; 2] = ["µs to add, request", "µs to delete, request"];
const ONE_UNITS: [&str; 2] = ["ms to add, command", "ms to delete, command"];

/// A million different addresses that hosts may have, a line each.
fn addresses() -> String {
    let mut rng = Rng::new(4);
    let mut seen = HashSet::with_capacity(ADDRESSES);
    let mut text = String::with_capacity(16 * ADDRESSES);
    while seen.len() < ADDRESSES {
        let address = Ipv4Addr::from_bits(rng.bits() as u32);
        if (1..224).contains(&address.octets()[0]) && seen.insert(address) {
            text.push_str(&format!("{address}\n"));
        }
    }
    text
}
