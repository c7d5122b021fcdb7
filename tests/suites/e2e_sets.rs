//! Live sets at the gate: what is listed is met, what changes takes effect at once, also on flows that were let in before;
//! entries end; rules add; nothing is lost by another policy or daemon.

#[path = "e2e_sets/scene.rs"]
mod scene;

use scene::{SOON, Scene, number};
use sluice_tests::lab::{Lab, Transfer, wait_for};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long an echo takes at most that nothing stands in the way of.
const SHORT: Duration = Duration::from_millis(100);
const SERVER: &str = "10.77.2.2:53";
const SERVER6: &str = "[fd77:2::2]:53";

#[test]
fn who_is_listed_by_a_file_is_dropped_and_nobody_else() {
    const LISTED: [&str; 4] = ["10.77.1.65", "10.77.1.66", "10.77.1.130", "fd77:1::66"];
    const OTHERS: [&str; 4] = ["10.77.1.2", "10.77.1.67", "10.77.1.127", "fd77:1::2"];
    let policy = "
set listed live file \"drop.txt\" = { 10.77.1.65 }
rule listed drop in on wan0 udp from @listed
";
    let list =
        "; a list as they are published\n10.77.1.66 # scanner\n10.77.1.128/25\n\nfd77:1::66\n";
    let test = "e2e_sets::who_is_listed_by_a_file_is_dropped_and_nobody_else";
    let Some(scene) = Scene::start(test, policy, &[("drop.txt", list)]) else { return };
    let passes = |from: &str| scene.passes(from, if from.contains(':') { SERVER6 } else { SERVER });
    for (from, passed) in LISTED.map(|a| (a, false)).into_iter().chain(OTHERS.map(|a| (a, true))) {
        assert_eq!(passes(from), passed, "{from}");
    }
    assert_eq!(scene.daemon.rule("listed")["hits"], LISTED.len());
    // The other way round: only who is listed gets in.
    let policy = "
default in drop
set listed live file \"drop.txt\" = { 10.77.1.65 }
rule known allow in on wan0 icmpv6
rule others drop in on wan0 udp from not @listed
rule rest allow in on wan0 udp
";
    scene.daemon.apply(policy);
    for (from, passed) in LISTED.map(|a| (a, true)).into_iter().chain(OTHERS.map(|a| (a, false))) {
        assert_eq!(passes(from), passed, "{from}, negated");
    }
    let rules = ["others", "rest"].map(|name| number(&scene.daemon.rule(name), "hits"));
    assert_eq!(rules, [OTHERS.len() as u64, LISTED.len() as u64]);
}

#[test]
fn a_change_takes_effect_at_once_on_new_flows_and_on_live_ones() {
    let policy = "
default in drop
set friends live
rule friends allow in on wan0 tcp from @friends to port 9000
rule udp     allow in on wan0 udp from @friends
";
    let test = "e2e_sets::a_change_takes_effect_at_once_on_new_flows_and_on_live_ones";
    let Some(scene) = Scene::start(test, policy, &[]) else { return };
    let generation = scene.daemon.json(&["status"])["generation"].clone();
    let new = |passes: bool, when: &str| {
        assert_eq!(scene.passes(Lab::CLIENT4, SERVER), passes, "{when}");
    };
    new(false, "at first");
    let said = scene.set(&["add", "friends", Lab::CLIENT4]);
    assert_eq!((number(&said, "added"), number(&said, "entries")), (1, 1));
    new(true, "added");
    let Scene { lab, .. } = &scene;
    let transfer = Transfer::start(&lab.client, &lab.server, Lab::SERVER4, 9000).expect("let in");
    let goes_on = |when: &str| {
        let more = transfer.advance(200_000, SOON);
        more.unwrap_or_else(|late| panic!("{when}: {late}"));
    };
    let stalls = |when: &str| {
        let stalled = wait_for("the transfer stalling", SOON, || {
            transfer.stalls_for(Duration::from_millis(300)).then_some(())
        });
        stalled.unwrap_or_else(|late| panic!("{when}: {late}"));
    };
    goes_on("added");
    scene.set(&["delete", "friends", Lab::CLIENT4]);
    new(false, "deleted");
    stalls("deleted");
    scene.set(&["add", "friends", "10.77.1.0/24"]);
    new(true, "added by its net");
    goes_on("added by its net");
    scene.set(&["flush", "friends"]);
    new(false, "flushed");
    stalls("flushed");
    let list = |name: &str, text: &str| {
        let path = scene.daemon.dir.join(name);
        std::fs::write(&path, text).expect("written");
        scene.set(&["load", "friends", &path.display().to_string()])
    };
    list("one.txt", "10.77.1.2\n10.77.1.3\n");
    new(true, "loaded");
    goes_on("loaded");
    let said = list("two.txt", "10.77.1.3\n");
    assert_eq!((number(&said, "deleted"), number(&said, "entries")), (2, 1));
    new(false, "not in the next list");
    stalls("not in the next list");
    assert_eq!(scene.daemon.json(&["status"])["generation"], generation, "it is no other policy");
}

#[test]
fn entries_end() {
    let policy = "
default in drop
set friends live timeout 3s
rule friends allow in on wan0 tcp from @friends to port 9000
rule udp     allow in on wan0 udp from @friends
";
    let test = "e2e_sets::entries_end";
    let Some(scene) = Scene::start(test, policy, &[]) else { return };
    let begun = Instant::now();
    scene.set(&["add", "friends", Lab::CLIENT4]);
    let transfer = Transfer::start(&scene.lab.client, &scene.lab.server, Lab::SERVER4, 9000)
        .expect("let in, for three seconds");
    let left = scene.entries("friends")[0]["left_ms"].as_u64();
    assert!(left.is_some_and(|ms| ms > 1_000 && ms <= 3_000), "{left:?}");
    wait_for("the entry's end", SOON, || (!scene.passes(Lab::CLIENT4, SERVER)).then_some(()))
        .expect("it ends");
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    wait_for("the transfer stalling", SOON, || {
        transfer.stalls_for(Duration::from_millis(300)).then_some(())
    })
    .expect("a flow that was let in is judged anew");
    assert_eq!(scene.entries("friends"), [serde_json::Value::Null; 0]);
    // Its own time is not the set's.
    scene.set(&["add", "friends", Lab::CLIENT4, "--timeout", "1h"]);
    transfer.advance(200_000, SOON).expect("it goes on");
    std::thread::sleep(Duration::from_secs(4));
    assert!(scene.passes(Lab::CLIENT4, SERVER));
}

#[test]
fn rules_add_who_scans_as_far_as_there_is_room() {
    let policy = "
set scanners live size 3
set noisy live timeout 2s
rule scanners drop  in on wan0 udp from @scanners
rule noisy    drop  in on wan0 udp from @noisy
rule scan     count in on wan0 udp to port 1-50 add source to @scanners timeout 3s
rule noise    count in on wan0 udp to port 60-70 update source to @noisy
";
    let test = "e2e_sets::rules_add_who_scans_as_far_as_there_is_room";
    let Some(scene) = Scene::start(test, policy, &[]) else { return };
    // The packet that is counted passes: it is the next one that meets the rule above.
    let begun = Instant::now();
    scene.send("10.77.1.66", "10.77.2.2:7");
    assert!(!scene.passes("10.77.1.66", SERVER), "listed now");
    assert!(scene.passes("10.77.1.67", SERVER), "nobody else is");
    let entries = scene.entries("scanners");
    assert_eq!((entries.len(), &entries[0]["entry"]), (1, &"10.77.1.66".into()));
    scene.send("fd77:1::66", "[fd77:2::2]:7");
    assert!(!scene.passes("fd77:1::66", SERVER6), "the other family, too");
    wait_for("the end of its time", SOON, || scene.passes("10.77.1.66", SERVER).then_some(()))
        .expect("three seconds");
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    wait_for("the end of the other one's", SOON, || {
        scene.passes("fd77:1::66", SERVER6).then_some(())
    })
    .expect("a moment later");
    let row = scene.row("scanners");
    assert_eq!((number(&row, "added"), number(&row, "refused")), (2, 0), "{row}");

    // As many as there may be, and one more.
    wait_for("both being taken out", SOON, || {
        (number(&scene.row("scanners"), "entries") == 0).then_some(())
    })
    .expect("some seconds behind their end");
    for host in 70..74 {
        scene.send(&format!("10.77.1.{host}"), "10.77.2.2:7");
    }
    let blocked = (70..74).filter(|host| !scene.passes(&format!("10.77.1.{host}"), SERVER));
    assert_eq!(blocked.collect::<Vec<u32>>(), [70, 71, 72]);
    let row = scene.row("scanners");
    assert_eq!((number(&row, "added"), number(&row, "entries")), (5, 3), "{row}");
    assert!(number(&row, "refused") >= 1, "{row}");

    // Whoever goes on gets more time.
    scene.send("10.77.1.80", "10.77.2.2:60");
    let begun = Instant::now();
    scene.daemon.apply(&policy.replace(
        "rule noisy    drop  in on wan0 udp from @noisy",
        "rule noisy    drop  in on wan0 udp from @noisy update source to @noisy",
    ));
    while begun.elapsed() < Duration::from_secs(4) {
        scene.send("10.77.1.80", SERVER);
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(!scene.passes("10.77.1.80", SERVER), "its two seconds begin again with each packet");
    let row = scene.row("noisy");
    assert_eq!(number(&row, "added"), 1, "{row}");
    assert!(number(&row, "renewed") >= 10, "{row}");
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(scene.passes("10.77.1.80", SERVER), "it was quiet for long enough");
}

#[test]
fn pairs_and_ports_of_both_families() {
    let policy = "
default in drop
set services live pairs = { 10.77.2.2:53, [fd77:2::2]:54 }
set odd live ports = { 7000-7010 }
rule six      allow in on wan0 icmpv6
rule services allow in on wan0 udp to @services
rule odd      allow in on wan0 udp to port @odd
";
    let test = "e2e_sets::pairs_and_ports_of_both_families";
    let Some(scene) = Scene::start(test, policy, &[]) else { return };
    let passes = |to: &str| {
        let from = if to.starts_with('[') { Lab::CLIENT6 } else { Lab::CLIENT4 };
        scene.passes(from, to)
    };
    let all = |wanted: [bool; 7], when: &str| {
        let to = [
            "10.77.2.2:53",
            "10.77.2.2:54",
            "[fd77:2::2]:53",
            "[fd77:2::2]:54",
            "10.77.2.2:7005",
            "[fd77:2::2]:7005",
            "10.77.2.2:7011",
        ];
        assert_eq!(to.map(passes), wanted, "{when}");
    };
    all([true, false, false, true, true, true, false], "as the policy says");
    scene.set(&["add", "services", "10.77.2.2:54"]);
    scene.set(&["delete", "services", "[fd77:2::2]:54"]);
    scene.set(&["delete", "odd", "7005"]);
    scene.set(&["add", "odd", "7011-7012"]);
    all([true, true, false, false, false, false, true], "changed");
    let entries: Vec<String> =
        scene.entries("odd").iter().map(|row| row["entry"].as_str().unwrap_or("").into()).collect();
    assert_eq!(entries, ["7000-7004", "7006-7012"]);
}

#[test]
fn entries_outlive_policies_and_daemons() {
    let policy = "
set listed live = { 10.77.1.65 }
rule listed drop in on wan0 udp from @listed
";
    let test = "e2e_sets::entries_outlive_policies_and_daemons";
    let Some(mut scene) = Scene::start(test, policy, &[]) else { return };
    scene.set(&["add", "listed", "10.77.1.66"]);
    scene.set(&["add", "listed", "10.77.1.67", "--timeout", "1h"]);
    let blocked = |scene: &Scene| -> Vec<u32> {
        (64..69).filter(|host| !scene.passes(&format!("10.77.1.{host}"), SERVER)).collect()
    };
    assert_eq!(blocked(&scene), [65, 66, 67]);
    // Another text: what it doesn't have any more goes, what people added stays.
    scene.daemon.apply(
        "
set listed live = { 10.77.1.68 }
set other live = { 10.77.1.64 }
rule listed drop in on wan0 udp from @listed
rule more   count in on wan0 udp from @other
",
    );
    assert_eq!(blocked(&scene), [66, 67, 68]);
    let generation = scene.daemon.json(&["status"])["generation"].clone();
    // Flows are judged anew by the number that tells policies apart.
    scene.set(&["add", "listed", "10.77.1.64"]);
    wait_for("judging anew", SOON, || {
        std::thread::sleep(Duration::from_millis(100));
        scene.send("10.77.1.2", SERVER);
        let flows = scene.daemon.flows("src=10.77.1.2 and dport=53");
        let judged = flows.iter().filter_map(|flow| flow["generation"].as_u64()).max();
        (judged > generation.as_u64()).then_some(())
    })
    .expect("a second at most");

    scene.daemon.kill9();
    assert_eq!(blocked(&scene), [64, 66, 67, 68], "without a daemon");
    scene.daemon.start();
    let status = scene.daemon.json(&["status"]);
    assert_eq!((&status["adopted"], &status["generation"]), (&true.into(), &generation));
    assert_eq!(blocked(&scene), [64, 66, 67, 68], "with the next one");
    let entries = scene.entries("listed");
    let left = |at: usize| entries[at]["left_ms"].as_u64();
    assert_eq!(entries.len(), 4);
    assert_eq!((left(0), left(1), left(3)), (None, None, None), "{entries:?}");
    assert!(left(2).is_some_and(|ms| ms > 3_000_000 && ms < 3_600_000), "{entries:?}");
    scene.set(&["delete", "listed", "10.77.1.66"]);
    assert_eq!(blocked(&scene), [64, 67, 68], "it is the set that programs ask");
    // A reboot: nothing is left but what was written down.
    assert_eq!(scene.daemon.unload().code, 0);
    scene.daemon.start();
    assert_eq!(scene.daemon.json(&["status"])["adopted"], false);
    assert_eq!(blocked(&scene), [64, 67, 68], "what it held is read again");
    // A set that no policy declares is gone for good.
    scene.daemon.apply("rule none count in on wan0 udp\n");
    assert_eq!(blocked(&scene), [0; 0]);
    assert_eq!(scene.daemon.rows(&["set", "list"]).len(), 0);
}

#[test]
fn a_bad_list_leaves_everything_as_it_was() {
    let policy = "
set listed live = { 10.77.1.65 }
rule listed drop in on wan0 udp from @listed
";
    let bad = "10.77.1.66\n10.77.1.300 # no address\n";
    let test = "e2e_sets::a_bad_list_leaves_everything_as_it_was";
    let Some(scene) = Scene::start(test, policy, &[("bad.txt", bad)]) else { return };
    let before = scene.daemon.json(&["status"])["generation"].clone();
    let file = scene.daemon.dir.join("next.sluice");
    for (statement, words) in [
        ("set more live file \"bad.txt\"", ["lists/bad.txt, line 2, column 1", "10.77.1.300"]),
        ("set more live file \"none.txt\"", ["lists/none.txt", "No such file"]),
    ] {
        let text = format!("{policy}{statement}\nrule more drop in on wan0 udp from @more\n");
        std::fs::write(&file, text).expect("written");
        let refused = scene.daemon.cli(&["apply", "--yes", "--force", &file.display().to_string()]);
        assert_ne!(refused.code, 0, "{refused:?}");
        assert!(words.iter().all(|word| refused.stderr.contains(word)), "{refused:?}");
        let sets: Vec<_> = scene.daemon.rows(&["set", "list"]);
        assert_eq!((sets.len(), &sets[0]["name"]), (1, &"listed".into()), "{sets:?}");
    }
    let list = scene.daemon.dir.join("lists/bad.txt").display().to_string();
    let refused = scene.daemon.cli(&["set", "load", "listed", &list]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("bad.txt, line 2, column 1"), "{refused:?}");
    for (args, words) in [
        (["set", "add", "listed", "10.77.1.66/24"], "bits set behind its prefix"),
        (["set", "add", "listd", "10.77.1.66"], "did you mean `listed`?"),
        (["set", "delete", "listed", "80"], "`80` is a port"),
    ] {
        let refused = scene.daemon.cli(&args);
        assert!(refused.code != 0 && refused.stderr.contains(words), "{refused:?}");
    }
    assert_eq!(scene.daemon.json(&["status"])["generation"], before);
    assert_eq!(scene.entries("listed").len(), 1);
    assert!(!scene.passes("10.77.1.65", SERVER) && scene.passes("10.77.1.66", SERVER));
}

#[test]
fn what_sets_hold_is_explained_and_whoever_they_would_cut_off_is_warned() {
    let policy = "
default in drop
set admins live
set listed live
rule listed drop  in from @listed
rule admins allow in tcp from @admins to port 22
";
    let test = "e2e_sets::what_sets_hold_is_explained_and_whoever_they_would_cut_off_is_warned";
    let list = "10.77.1.0/24\n";
    let Some(scene) = Scene::start(test, policy, &[("net.txt", list)]) else { return };
    let decides = || {
        let packet = "in on wan0 tcp 10.77.1.66:4000 > 10.77.2.2:22 syn";
        let view = scene.daemon.json(&["explain", packet]);
        assert_eq!(view["warnings"], serde_json::json!([]), "twin and policy agree: {view}");
        (view["rule"].as_str().unwrap_or("").to_owned(), view)
    };
    let (rule, view) = decides();
    assert_eq!(rule, "default in");
    assert!(view.to_string().contains("@admins"), "what is missing is named: {view}");
    scene.set(&["add", "admins", "10.77.1.66"]);
    assert_eq!(decides().0, "admins");
    scene.set(&["add", "listed", "10.77.1.64/29", "--timeout", "1h"]);
    assert_eq!(decides().0, "listed");
    assert_eq!(number(&scene.row("listed"), "added"), 0, "an explanation adds nothing");

    // An operator at 10.77.1.66, as the daemon is told by whoever applies.
    let apply = |policy: &str, more: &[&str]| {
        let file = scene.daemon.dir.join("next.sluice").display().to_string();
        std::fs::write(&file, policy).expect("written");
        let mut command = scene.daemon.command(&[&["apply", "--yes"], more, &[&file]].concat());
        command.env("SSH_CONNECTION", "10.77.1.66 4000 10.77.1.1 22");
        let output = command.output().expect("run");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = apply(policy, &[]);
    assert!(code == Some(5) && said.contains("`listed` would drop it"), "{code:?}: {said}");
    scene.set(&["flush", "listed"]);
    let (code, said) = apply(policy, &[]);
    assert_eq!(code, Some(0), "the set lets them in: {said}");
    scene.set(&["delete", "admins", "10.77.1.66"]);
    let (code, said) = apply(policy, &[]);
    assert!(code == Some(5) && said.contains("default in"), "{code:?}: {said}");
    scene.set(&["add", "admins", "10.77.1.66"]);
    // A list that isn't read yet.
    let listed = policy.replace("set listed live", "set listed live file \"net.txt\"");
    let (code, said) = apply(&listed, &[]);
    assert!(code == Some(5) && said.contains("`listed` would drop it"), "{code:?}: {said}");
    let broken = policy.replace("set listed live", "set listed live file \"none.txt\"");
    let (code, said) = apply(&broken, &["--dry-run"]);
    assert!(code != Some(0) && said.contains("lists/none.txt"), "{code:?}: {said}");
}

#[test]
fn no_packet_meets_half_a_list_whenever_its_daemon_is_killed() {
    const MANY: u32 = 20_000;
    let policy = "
set listed live
rule listed drop in on wan0 udp from @listed
";
    let test = "e2e_sets::no_packet_meets_half_a_list_whenever_its_daemon_is_killed";
    let Some(mut scene) = Scene::start(test, policy, &[]) else { return };
    // Two lists that have one address in common, of tables of different sizes.
    let list = |name: &str, net: u32, many: u32| {
        let others = (0..many).map(|i| std::net::Ipv4Addr::from((net << 24) + i * 97));
        let others: String = others.map(|address| format!("{address}\n")).collect();
        let path = scene.daemon.dir.join(name);
        std::fs::write(&path, format!("{others}10.77.1.70\n")).expect("written");
        path.display().to_string()
    };
    let lists = [list("long.txt", 11, MANY), list("short.txt", 12, 50)];
    scene.set(&["load", "listed", &lists[0]]);
    for round in 0..2 {
        let stop = AtomicBool::new(false);
        let mut loads = lists.each_ref().map(|list| {
            let mut load = scene.daemon.command(&["set", "load", "listed", list]);
            load.stdout(Stdio::null()).stderr(Stdio::null());
            load
        });
        let Scene { lab, daemon, .. } = &mut scene;
        let (lab, stop) = (&*lab, &stop);
        let (loaded, passed) = std::thread::scope(|threads| {
            let loader = threads.spawn(move || {
                let mut loaded = 0;
                while !stop.load(Relaxed) {
                    let load = loads[loaded % 2].status().expect("run");
                    loaded += usize::from(load.success());
                }
                loaded
            });
            let packets = threads.spawn(move || {
                let mut passed = 0;
                while !stop.load(Relaxed) {
                    passed += u32::from(scene::passes(lab, "10.77.1.70", SERVER, SHORT));
                }
                passed
            });
            std::thread::sleep(Duration::from_millis(1_500 + 137 * round));
            daemon.kill9();
            // What is on its way goes on without it.
            std::thread::sleep(3 * SHORT);
            stop.store(true, Relaxed);
            (loader.join().expect("no panic"), packets.join().expect("no panic"))
        });
        assert!(loaded > 3, "{loaded} lists were loaded");
        assert_eq!(passed, 0, "it is in both lists");
        scene.daemon.start();
        assert!(!scene.passes("10.77.1.70", SERVER), "with the next daemon");
        let there = number(&scene.row("listed"), "entries");
        assert!([u64::from(MANY) + 1, 51].contains(&there), "{there} entries are no list");
        // It takes lists as before, and leaves no memory behind.
        let said = scene.set(&["load", "listed", &lists[1]]);
        assert_eq!((number(&said, "entries"), number(&said, "deleted")), (51, there));
        let pins = std::fs::read_dir(&scene.daemon.pin_dir).expect("pins").flatten();
        let arenas = pins.filter(|pin| pin.file_name().to_string_lossy().starts_with("ARENA_"));
        assert_eq!(arenas.count(), 1);
    }
}
