//! Units and cgroups: by name from the first call on, wherever the process goes from there.

use super::*;

/// Where cgroup v2 is mounted.
fn root() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(words[1]))
    })
}

/// Cgroups of a test's own; they go when it ends.
struct Groups {
    root: PathBuf,
    made: Vec<PathBuf>,
}

impl Groups {
    fn or_skip(test: &str) -> Option<Self> {
        let Some(root) = root() else {
            sluice_tests::skip::skip(test, "cgroup v2 isn't mounted");
            return None;
        };
        Some(Self { root, made: Vec::new() })
    }

    fn make(&mut self, path: &str) -> PathBuf {
        let whole = self.root.join(path);
        std::fs::create_dir_all(&whole).expect("a cgroup");
        self.made.push(whole.clone());
        whole
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            for dir in path.ancestors().take_while(|dir| *dir != self.root) {
                let _ = std::fs::remove_dir(dir);
            }
        }
    }
}

/// What bash does first to be in a cgroup.
fn enter(group: &Path) -> String {
    format!("echo $$ > {}/cgroup.procs;", group.display())
}

#[test]
fn a_unit_is_known_from_its_first_call_on() {
    let test = "e2e_owners::places::a_unit_is_known_from_its_first_call_on";
    let Some(mut groups) = Groups::or_skip(test) else { return };
    let own = format!("sluice-{}", std::process::id());
    let policy = format!(
        "rule unit drop out tcp to port 7 unit {own}-web\n\
         rule group drop out tcp to port 9 cgroup /{own}.slice"
    );
    let Some((lab, daemon)) = setup(test, &policy) else { return };
    let _seven = TcpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    let _nine = TcpEcho::start(&lab.server, &format!("{}:9", Lab::SERVER4)).unwrap();
    let (seven, nine) = (address(Lab::SERVER4, 7), address(Lab::SERVER4, 9));
    let bash = Path::new("/bin/bash");
    let from = |group: &Path, to| connects_after(&lab.gate, bash, to, 0, &enter(group)).is_ok();
    // None was there when the policy came.
    let web = groups.make(&format!("{own}.slice/{own}-web.service"));
    let below = groups.make(&format!("{own}.slice/{own}-web.service/worker"));
    let db = groups.make(&format!("{own}.slice/{own}-db.service"));
    let fake = groups.make(&format!("{own}-user@1.service/{own}-web.service"));
    assert!(!from(&web, seven), "the unit, at once");
    assert!(!from(&below, seven), "and below it");
    assert!(from(&db, seven), "another unit");
    assert!(from(&fake, seven), "a user's own unit of that name is in another");
    assert!(connects(&lab.gate, bash, seven, 0).is_ok(), "in none");
    assert_eq!(hits(&daemon, "unit"), 2);
    // A path is looked for every second.
    wait_for("the cgroup to be found", SOON, || (!from(&db, nine)).then_some(())).unwrap();
    assert!(!from(&below, nine), "all that is below it");
    assert!(from(&fake, nine), "elsewhere");
    assert!(hits(&daemon, "group") >= 2);
}

#[test]
fn who_listens_is_of_a_unit_too() {
    let test = "e2e_owners::places::who_listens_is_of_a_unit_too";
    if let Some(why) = sluice_tests::lab::missing_tools(&["iperf3"]) {
        return sluice_tests::skip::skip(test, &why);
    }
    let Some(mut groups) = Groups::or_skip(test) else { return };
    let own = format!("sluice-in-{}", std::process::id());
    let policy = format!("rule listens drop in tcp unit {own}");
    let Some((lab, daemon)) = setup(test, &policy) else { return };
    let unit = groups.make(&format!("{own}.service"));
    let line = format!("{} exec iperf3 -s -p 9005", enter(&unit));
    let mut child = lab
        .gate
        .command("/bin/bash")
        .args(["-c", &line])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("a listener");
    let listens = || {
        let rows = daemon.rows(&["sockets", &format!("state=listen and pid={}", child.id())]);
        (!rows.is_empty()).then_some(())
    };
    wait_for("the listener", SOON, listens).unwrap();
    let to = address(Lab::GATE4, 9005);
    let tried = lab.client.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(400)));
    assert_eq!(tried.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(hits(&daemon, "listens") >= 1);
    daemon.apply("");
    lab.client.run(|| TcpStream::connect_timeout(&to, SOON)).expect("no rule any more");
    child.kill().unwrap();
    child.wait().unwrap();
}
