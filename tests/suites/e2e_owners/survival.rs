//! Rules by owner hold while no daemon runs, come and go with policies, and leave nothing behind.

use super::*;

fn pins(daemon: &Daemon) -> Vec<String> {
    let entries = std::fs::read_dir(&daemon.pin_dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.to_lowercase().contains("owner")).collect()
}

#[test]
fn they_hold_while_no_daemon_runs() {
    let test = "e2e_owners::survival::they_hold_while_no_daemon_runs";
    let policy = "rule no drop out tcp process sly-four";
    let Some((lab, mut daemon)) = setup(test, policy) else { return };
    let _echo = TcpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    let to = address(Lab::SERVER4, 7);
    let sly = bash_as(&daemon.dir, "sly-four");
    connects(&lab.gate, &sly, to, 0).unwrap_err();
    daemon.kill9();
    connects(&lab.gate, &sly, to, 0).expect_err("nobody had to be there");
    daemon.start();
    wait_for("both to be counted", SOON, || (hits(&daemon, "no") == 2).then_some(())).unwrap();
    connects(&lab.gate, &sly, to, 0).expect_err("taken over");
    assert_eq!(hits(&daemon, "no"), 3, "judged once, not by two");
    daemon.apply("rule another drop out tcp process nobody-of-that");
    connects(&lab.gate, &sly, to, 0).expect("another policy");
    daemon.apply(policy);
    connects(&lab.gate, &sly, to, 0).expect_err("the first again");
    daemon.apply("");
    connects(&lab.gate, &sly, to, 0).expect("none");
    // A grace period behind the answer, which doesn't wait for it.
    wait_for("nothing to be left where no rule asks for it", SOON, || {
        pins(&daemon).is_empty().then_some(())
    })
    .unwrap();
    daemon.apply(policy);
    assert!(!pins(&daemon).is_empty());
    daemon.terminate();
    assert_eq!(daemon.unload().code, 0);
    connects(&lab.gate, &sly, to, 0).expect("unloaded");
}

/// Each call is judged by one policy, the one before or the one behind: whatever is swapped, one of the two ports is
/// closed and the other open.
#[test]
fn a_call_is_judged_by_one_whole_policy() {
    let test = "e2e_owners::survival::a_call_is_judged_by_one_whole_policy";
    let me = my_name();
    let policies = [(7, 9), (9, 7)].map(|(open, closed)| {
        format!(
            "rule open allow out tcp to port {open} process {me}\n\
             rule closed drop out tcp to port {closed} process {me}\n\
             rule rest reject out tcp process {me}"
        )
    });
    let Some((lab, daemon)) = setup(test, &policies[0]) else { return };
    let _seven = TcpEcho::start(&lab.server, &format!("{}:7", Lab::SERVER4)).unwrap();
    let _nine = TcpEcho::start(&lab.server, &format!("{}:9", Lab::SERVER4)).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let (mut open, mut shut) = (0u64, 0u64);
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for port in [7, 9] {
                    let to = address(Lab::SERVER4, port);
                    match lab.gate.run(|| TcpStream::connect_timeout(&to, SOON)) {
                        Ok(_) => open += 1,
                        Err(error) if error.kind() == ErrorKind::PermissionDenied => shut += 1,
                        Err(error) => panic!("neither policy says so: {error}"),
                    }
                }
            }
            (open, shut)
        });
        for i in 0..20 {
            daemon.apply(&policies[(i + 1) % 2]);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let (open, shut) = caller.join().expect("every call was one of the two");
        assert!(open > 0 && shut > 0, "{open} {shut}");
        println!("{open} calls let by, {shut} refused over 20 swaps");
    });
}
