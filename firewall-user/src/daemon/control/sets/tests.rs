//! Sets through policies, requests, restarts and reboots, on a ground without a kernel.

use super::*;
use crate::{
    daemon::testing::{TestDaemon, TestDir, directory},
    sets::testing::HeapGround,
};

fn declared(name: &str, entries: &[&str]) -> Declared {
    let entries = entries.iter().map(|text| (text.parse().expect("an entry"), None));
    Declared {
        name: name.to_owned(),
        kind: SetKind::Addresses,
        size: None,
        timeout: None,
        file: None,
        entries: entries.collect(),
        grows: false,
    }
}

struct Scene {
    ground: Arc<HeapGround>,
    sets: Sets,
    dir: TestDir,
}

fn scene() -> Scene {
    on(Arc::default(), directory())
}

fn on(ground: Arc<HeapGround>, dir: TestDir) -> Scene {
    let sets = Sets::new(ground.clone(), dir.join("lists"), dir.join("sets"));
    Scene { ground, sets, dir }
}

impl Scene {
    async fn apply(&self, next: Vec<(u8, Declared)>) -> Result<(), String> {
        let step = self.sets.prepare(next).await.map_err(|error| error.to_string())?;
        step.commit().await;
        Ok(())
    }

    async fn entries(&self, name: &str) -> Vec<String> {
        let live = self.sets.look(name).await.expect("there");
        let mut entries = live.entries().expect("there");
        entries.sort_unstable();
        entries.into_iter().map(|(entry, _)| entry.to_string()).collect()
    }

    async fn add(&self, name: &str, entry: &str, timeout: Option<u64>) {
        let entry = entry.parse().expect("an entry");
        let change = move |known: &mut Known, _: &Inner| {
            Ok(known.live.add(&known.limits(), &[(entry, timeout)]).map(drop)?)
        };
        self.sets.change(name.to_owned(), change).await.expect("added");
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.dir.join("lists")).expect("a folder");
        std::fs::write(self.dir.join("lists").join(name), text).expect("written");
    }
}

#[tokio::test]
async fn a_set_that_stays_keeps_what_was_added() {
    let scene = scene();
    scene.apply(vec![(3, declared("a", &["192.0.2.1", "192.0.2.2"]))]).await.expect("new");
    assert_eq!(scene.ground.names(), [(3, "a".to_owned())]);
    scene.add("a", "198.51.100.1", None).await;
    scene.apply(vec![(3, declared("a", &["192.0.2.2", "192.0.2.3"]))]).await.expect("again");
    assert_eq!(scene.entries("a").await, ["192.0.2.2", "192.0.2.3", "198.51.100.1"]);
    // What somebody deleted stays deleted while the text doesn't change.
    let gone = "192.0.2.3".parse().expect("an entry");
    let change = move |known: &mut Known, _: &Inner| Ok(known.live.delete(&[gone])?);
    scene.sets.change("a".to_owned(), change).await.expect("deleted");
    scene.apply(vec![(3, declared("a", &["192.0.2.2", "192.0.2.3"]))]).await.expect("again");
    assert_eq!(scene.entries("a").await, ["192.0.2.2", "198.51.100.1"]);
    scene.apply(vec![(4, declared("b", &[]))]).await.expect("another");
    assert_eq!(scene.ground.names(), [(4, "b".to_owned())]);
    assert!(scene.ground.arena(3).is_none(), "its memory is given back");
    assert!(scene.sets.look("a").await.is_err());
}

#[tokio::test]
async fn what_is_not_committed_is_taken_back() {
    let scene = scene();
    scene.apply(vec![(0, declared("a", &["192.0.2.1"]))]).await.expect("new");
    let next =
        vec![(0, declared("a", &["192.0.2.1", "192.0.2.2"])), (1, declared("b", &["192.0.2.9"]))];
    let step = scene.sets.prepare(next.clone()).await.expect("prepared");
    assert!(scene.ground.arena(1).is_some(), "it is there before the policy is");
    drop(step);
    assert_eq!(scene.entries("a").await, ["192.0.2.1"]);
    assert_eq!(scene.ground.names(), [(0, "a".to_owned())]);
    assert!(scene.ground.arena(1).is_none());
    // The kernel refuses the second one.
    scene.ground.refuses.store(true, Relaxed);
    let error = scene.apply(next).await.expect_err("refused");
    assert!(error.contains("no memory"), "{error}");
    assert_eq!(scene.entries("a").await, ["192.0.2.1"]);
    assert_eq!(scene.ground.names(), [(0, "a".to_owned())]);
}

#[tokio::test]
async fn another_kind_is_refused_while_it_is_live() {
    let scene = scene();
    scene.apply(vec![(0, declared("a", &["192.0.2.1"]))]).await.expect("new");
    let ports = Declared { kind: SetKind::Ports, entries: Vec::new(), ..declared("a", &[]) };
    let error = scene.apply(vec![(0, ports)]).await.expect_err("another kind");
    assert!(error.contains("addresses") && error.contains("ports"), "{error}");
    assert_eq!(scene.entries("a").await, ["192.0.2.1"]);
}

#[tokio::test]
async fn files_stay_in_their_folder_and_mistakes_have_a_place() {
    let scene = scene();
    let of = |file: &str| Declared { file: Some(file.to_owned()), ..declared("a", &["192.0.2.1"]) };
    for file in ["/etc/passwd", "../token", "x/../../token", ""] {
        let error = scene.apply(vec![(0, of(file))]).await.expect_err(file);
        assert!(error.contains("expected a name below") && error.contains("lists"), "{error}");
    }
    let error = scene.apply(vec![(0, of("no"))]).await.expect_err("no file");
    assert!(error.contains("lists/no") && error.contains("set `a`"), "{error}");
    scene.file("bad", "192.0.2.7\nnonsense\n");
    let error = scene.apply(vec![(0, of("bad"))]).await.expect_err("a mistake");
    assert!(error.contains("lists/bad, line 2, column 1") && error.contains("nonsense"), "{error}");
    assert!(scene.ground.names().is_empty(), "nothing was begun");
    scene.file("good", "198.51.100.0/24 ; a net\n");
    scene.apply(vec![(0, of("good"))]).await.expect("a list");
    assert_eq!(scene.entries("a").await, ["192.0.2.1", "198.51.100.0/24"]);
}

#[tokio::test]
async fn nothing_is_lost_by_a_reboot_but_what_has_ended() {
    let before = scene();
    let text = || Declared { timeout: Some(3_600_000), ..declared("a", &["192.0.2.1"]) };
    before.apply(vec![(0, text()), (1, declared("odd/name", &[]))]).await.expect("new");
    before.add("a", "198.51.100.1", None).await;
    before.add("a", "198.51.100.2", Some(60_000)).await;
    before.add("a", "198.51.100.3", Some(1)).await;
    before.add("odd/name", "2001:db8::/32", None).await;
    before.sets.keep(true).await;
    std::thread::sleep(std::time::Duration::from_millis(10));
    // Fresh maps.
    let after = on(Arc::default(), before.dir);
    after.apply(vec![(5, text()), (6, declared("odd/name", &[]))]).await.expect("again");
    assert_eq!(after.entries("a").await, ["192.0.2.1", "198.51.100.1", "198.51.100.2"]);
    assert_eq!(after.entries("odd/name").await, ["2001:db8::/32"]);
    let live = after.sets.look("a").await.expect("there");
    let left = live.test("198.51.100.2".parse().expect("an entry")).expect("asked")[0].1;
    assert!(left.is_some_and(|ms| ms <= 60_000 && ms > 50_000), "{left:?}");
    // What the policy drops isn't there when it comes back.
    after.apply(Vec::new()).await.expect("none");
    after.apply(vec![(5, declared("a", &[]))]).await.expect("again");
    assert_eq!(after.entries("a").await, [""; 0]);
}

#[tokio::test]
async fn a_daemon_takes_up_what_another_one_left() {
    let before = scene();
    before
        .apply(vec![(0, declared("a", &["192.0.2.1"])), (1, declared("b", &[]))])
        .await
        .expect("new");
    before.add("a", "198.51.100.1", None).await;
    // Killed: nothing was written down.
    let after = on(before.ground, directory());
    after.sets.resume(vec![(0, declared("a", &["192.0.2.1"])), (1, declared("b", &[]))]).await;
    after.apply(vec![(0, declared("a", &["192.0.2.1"]))]).await.expect("another text");
    assert_eq!(after.entries("a").await, ["192.0.2.1", "198.51.100.1"]);
    assert_eq!(after.ground.names(), [(0, "a".to_owned())]);
}

#[tokio::test]
async fn entries_end_and_what_rules_add_is_seen() {
    let scene = scene();
    let text = Declared { grows: true, size: Some(1_000), ..declared("a", &[]) };
    scene.apply(vec![(0, text)]).await.expect("new");
    scene.add("a", "192.0.2.1", Some(1_000)).await;
    scene.sets.0.changed.store(false, Relaxed);
    scene.ground.clock.fetch_add(250, Relaxed);
    assert_eq!(scene.entries("a").await, [""; 0], "it has ended");
    let count = || memory(&scene.ground.arena(0).expect("there")).count();
    scene.sets.look_after().await;
    assert_eq!((count(), scene.sets.0.changed.load(Relaxed)), (1, false), "a moment of grace");
    scene.ground.clock.fetch_add(501, Relaxed);
    scene.sets.look_after().await;
    assert_eq!((count(), scene.sets.0.changed.load(Relaxed)), (0, true));
    // A rule adds one.
    scene.sets.0.changed.store(false, Relaxed);
    scene.sets.keep(true).await;
    let head = SetHeadOf(&scene).bump();
    scene.sets.look_after().await;
    assert!(scene.sets.0.changed.load(Relaxed), "{head:?}");
    assert!(scene.sets.0.desk.lock().await.find("a").expect("there").dirty);
}

/// What a rule that added an entry leaves in the head.
struct SetHeadOf<'a>(&'a Scene);

impl SetHeadOf<'_> {
    fn bump(&self) -> firewall_common::abi::set::SetHead {
        let head = self.0.ground.head(0);
        let read = head.read();
        head.copy(&firewall_common::abi::set::SetHead { added: read.added + 1, ..read });
        head.read()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_and_mistakes_are_told() {
    let daemon = TestDaemon::start("").await;
    let sets = daemon.control.sets().expect("a ground").clone();
    let text = Declared { size: Some(5), ..declared("scanners", &["192.0.2.0/24"]) };
    let ports = Declared { kind: SetKind::Ports, entries: Vec::new(), ..declared("ports", &[]) };
    sets.prepare(vec![(0, text), (1, ports)]).await.expect("prepared").commit().await;
    let control = &daemon.control;
    let name = || "scanners".to_owned();
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();

    let change = control
        .add_to_set(name(), texts(&["198.51.100.1", "2001:db8::1", "192.0.2.0/24"]), Some(600_000))
        .await
        .expect("added");
    assert_eq!((change.added, change.renewed, change.entries), (2, 1, 3));
    let tested = control.test_set(name(), "192.0.2.77".to_owned()).await.expect("asked");
    assert!(tested.found && tested.rows[0].entry == "192.0.2.0/24");
    assert!(tested.rows[0].left_ms.is_some_and(|ms| ms == 600_000), "{:?}", tested.rows);
    let shown = Shown { filter: Some("198.51.100.0/24".to_owned()), after: 0, limit: 10 };
    let page = control.show_set(name(), shown).await.expect("shown");
    assert_eq!((page.total, page.rows[0].entry.as_str()), (1, "198.51.100.1"));
    let page =
        control.show_set(name(), Shown { filter: None, after: 1, limit: 1 }).await.expect("shown");
    assert_eq!((page.total, page.rows[0].entry.as_str()), (3, "198.51.100.1"));

    let too_many = control.add_to_set(name(), texts(&["10.0.0.0-10.0.0.6"]), None).await;
    let said = too_many.expect_err("six of five").to_string();
    assert!(said.contains("6 entries") && said.contains("`size` is 5"), "{said}");
    for (entry, words) in
        [("80", "`80` is a port"), ("10.0.0.1/8", "bits set"), ("x", "`x` is no entry")]
    {
        let said = control.add_to_set(name(), texts(&["192.0.2.9", entry]), None).await;
        let said = said.expect_err(entry).to_string();
        assert!(said.contains(words), "{said}");
    }
    let said = control.add_to_set("scaners".to_owned(), texts(&["192.0.2.9"]), None).await;
    let said = said.expect_err("a slip").to_string();
    assert!(said.contains("`scaners`") && said.contains("did you mean `scanners`?"), "{said}");
    let said = control.add_to_set("ports".to_owned(), texts(&["80"]), Some(1_000)).await;
    assert!(said.expect_err("a port").to_string().contains("until they are deleted"));
    assert_eq!(control.list_sets().await.expect("listed")[1].entries, 3, "all or none");

    let source = |text: &str| Source::Text { text: text.to_owned(), called: "a.txt".to_owned() };
    let list = source("10.0.0.1 # one\n10.0.0.2 timeout 1h\n");
    let change = control.load_set(name(), list, false).await.expect("loaded");
    assert_eq!((change.added, change.deleted, change.entries), (2, 3, 2));
    let bad = control.load_set(name(), source("10.0.0.3\noops\n"), false).await;
    let said = bad.expect_err("a mistake").to_string();
    assert!(said.contains("a.txt, line 2, column 1") && said.contains("oops"), "{said}");
    let no_file = control.load_set(name(), Source::File, false).await;
    assert!(no_file.expect_err("none").to_string().contains("names no file"));
    let change = control.load_set(name(), source("10.0.0.9"), true).await.expect("added");
    assert_eq!((change.added, change.entries), (1, 3));
    let change =
        control.delete_from_set(name(), texts(&["10.0.0.9", "10.0.0.8"])).await.expect("deleted");
    assert_eq!((change.deleted, change.entries), (1, 2));
    let change = control.flush_set(name()).await.expect("flushed");
    assert_eq!((change.deleted, change.entries), (2, 0));
    // Flows are judged anew soon, and once for many changes.
    for _ in 0..30 {
        if daemon.kernel().rejudged > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!((1..=3).contains(&daemon.kernel().rejudged), "{}", daemon.kernel().rejudged);
}

#[tokio::test]
async fn what_would_be_is_known_before_it_is() {
    let scene = scene();
    scene.apply(vec![(0, declared("a", &["192.0.2.1", "192.0.2.2"]))]).await.expect("new");
    scene.add("a", "198.51.100.0/24", None).await;
    scene.file("list", "203.0.113.7\n");
    std::fs::create_dir_all(scene.dir.join("sets")).expect("a folder");
    std::fs::write(scene.dir.join("sets/b.list"), "203.0.113.8\n").expect("written");
    let mut witness = scene.sets.witness().await;
    let policy = |text: &str| policy::parse(text, "").expect("a policy");
    let held = |witness: &Witness, policy: &policy::Policy, name: &str| {
        let ends = ["192.0.2.1", "192.0.2.2", "198.51.100.9", "203.0.113.7", "203.0.113.8"];
        let holds = witness.by_name(policy);
        ends.map(|text| holds(name, text.parse().expect("an entry")))
    };
    let now = policy("set a live = { 192.0.2.1, 192.0.2.2 }\n");
    assert_eq!(held(&witness, &now, "a"), [true, true, true, false, false]);
    assert_eq!(held(&witness, &now, "b"), [false; 5]);
    let next = policy(
        "set a live file \"list\" = { 192.0.2.2 }\nset b live file \"list\" = { 192.0.2.2 }\n",
    );
    witness.read_files(&next).expect("both are there");
    assert_eq!(held(&witness, &next, "a"), [false, true, true, true, false], "goes, stays, comes");
    assert_eq!(held(&witness, &next, "b"), [false, true, false, true, true], "and was kept");
    let lost = policy("set a live file \"none\"\n");
    let error = witness.read_files(&lost).expect_err("none").to_string();
    assert!(error.contains("lists/none"), "{error}");
}
