//! How the policy gets live at the start, and stays.

use super::*;
use crate::daemon::testing::{Kernel, TestDaemon, directory};
use crate::server::ws::Patience;

async fn begin(dir: &Path, kernel: Kernel) -> Result<TestDaemon, ControlError> {
    TestDaemon::start_on(dir, kernel, Patience::default()).await
}

/// What a daemon that was killed leaves in the kernel.
fn left_behind(daemon: &TestDaemon) -> Kernel {
    let kernel = daemon.kernel();
    Kernel {
        generation: kernel.generation,
        installed: kernel.installed,
        adopted: true,
        slots: kernel.slots.clone(),
        ..Kernel::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_filter_with_the_same_policy_is_left_alone() {
    let dir = directory();
    std::fs::write(dir.join("policy"), "rule web allow in tcp to port 80\n").expect("written");
    let first = begin(&dir, Kernel::default()).await.expect("starts");
    assert_eq!(first.beginning, Beginning::Installed);
    let left = left_behind(&first);
    drop(first);

    let second = begin(&dir, left).await.expect("starts");
    assert_eq!((&second.beginning, second.kernel().generation), (&Beginning::Kept, 1));
    assert_eq!(second.control.status().await.expect("answers").generation, 1);
    let left = left_behind(&second);
    drop(second);

    std::fs::write(dir.join("policy"), "rule web drop in tcp to port 80\n").expect("written");
    let third = begin(&dir, left).await.expect("starts");
    assert_eq!((&third.beginning, third.kernel().generation), (&Beginning::Installed, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn judging_anew_is_no_other_policy() {
    let dir = directory();
    std::fs::write(dir.join("policy"), "rule web allow in tcp to port 80\n").expect("written");
    let first = begin(&dir, Kernel::default()).await.expect("starts");
    first.control.rejudge().await.expect("judged");
    assert_eq!(first.kernel().generation, 3);
    // Whoever looked at the policy before may change it.
    let disable = || Change::Disable("web".to_owned());
    let options = |base| ChangeOptions { base_generation: Some(base), ..ChangeOptions::default() };
    assert_eq!(first.control.status().await.expect("answers").generation, 1);
    let applied = first.control.change(disable(), options(1)).await.expect("applied");
    assert_eq!((applied.generation, first.kernel().generation), (4, 4));
    let conflict = first.control.change(disable(), options(1)).await;
    assert!(matches!(conflict, Err(ControlError::Conflict { generation: 4, base: 1 })));
    first.control.rejudge().await.expect("judged");
    first.control.rejudge().await.expect("judged");
    let left = left_behind(&first);
    drop(first);

    let second = begin(&dir, left).await.expect("starts");
    assert_eq!((&second.beginning, second.kernel().generation), (&Beginning::Kept, 8));
    assert_eq!(second.control.status().await.expect("answers").generation, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_does_not_open_the_gate() {
    let dir = directory();
    std::fs::write(dir.join("policy"), "rule web allow in tpc\n").expect("written");
    let refused = begin(&dir, Kernel::default()).await;
    assert!(
        matches!(refused.err(), Some(ControlError::Invalid(_))),
        "there is no last good policy"
    );

    std::fs::write(dir.join("policy"), "default in drop\n").expect("written");
    drop(begin(&dir, Kernel::default()).await.expect("starts"));
    std::fs::write(dir.join("policy"), "default in drpo\n").expect("written");
    let daemon = begin(&dir, Kernel::default()).await.expect("starts with the last good one");
    assert!(matches!(&daemon.beginning, Beginning::LastGood(said) if said.contains("drpo")));
    let status = daemon.control.status().await.expect("answers");
    assert!(
        status.limits.iter().any(|limit| limit.contains("can't be used")),
        "{:?}",
        status.limits
    );
    assert_eq!(daemon.control.policy().await.text, "default in drop\n");
    assert_eq!(
        std::fs::read_to_string(dir.join("policy")).expect("read"),
        "default in drpo\n",
        "the file is the operator's"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_a_good_file_and_refuses_a_bad_one() {
    let daemon = TestDaemon::start("default in drop\n").await;
    let file = daemon.dir.join("policy");
    std::fs::write(&file, "nonsense\n").expect("written");
    assert!(daemon.control.reload(&file).await.is_err());
    assert_eq!(daemon.kernel().generation, 1);
    let status = daemon.control.status().await.expect("answers");
    assert_eq!(status.limits.len(), 1);
    std::fs::write(&file, "default in allow\n").expect("written");
    assert_eq!(daemon.control.reload(&file).await.expect("good"), 2);
    assert!(daemon.control.status().await.expect("answers").limits.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn interfaces_come_and_go_with_the_configuration() {
    let daemon = TestDaemon::start("").await;
    let names = || -> Vec<String> {
        daemon.kernel().interfaces.iter().map(|iface| iface.name.clone()).collect()
    };
    let wanted = |names: &[&str]| -> Vec<(String, &'static str)> {
        names.iter().map(|name| ((*name).to_owned(), "auto")).collect()
    };
    daemon.control.interfaces(&wanted(&["a", "b"])).await.expect("there");
    assert_eq!(names(), ["a", "b"]);
    let error =
        daemon.control.interfaces(&wanted(&["b", "nowhere", "c"])).await.expect_err("one isn't");
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert_eq!(names(), ["b", "c"], "the others are served all the same");
}

/// Rules about ports from 1,000 on.
fn many(n: usize) -> String {
    let rules = (0..n).map(|i| format!("rule r{i} drop in udp to port {}\n", 1_000 + i));
    format!("default in allow\n{}", rules.collect::<String>())
}

#[tokio::test(flavor = "multi_thread")]
async fn among_many_rules_one_joins_and_leaves_by_itself() {
    let daemon = TestDaemon::start("default in allow\n").await;
    let control = &daemon.control;
    let change = async |change| control.change(change, ChangeOptions::default()).await;
    let add = |text: &str, place| Change::Add { text: text.to_owned(), place };
    let (whole, before) = (many(600), Place::Before("r300".into()));
    change(Change::Replace(whole.clone())).await.expect("applied");
    let added = change(add("rule new drop in udp to port 7", before)).await.expect("added");
    assert_eq!((added.generation, added.warnings.len()), (4, 0));
    let said: Vec<&str> = added.changes.iter().map(|change| change.text.as_str()).collect();
    assert_eq!(said, ["+ 301: rule new drop in udp to port 7"]);
    assert_eq!(daemon.kernel().patches.len(), 1);
    let place = |name: &str| {
        let rules = daemon.monitor.lock().expect("no panic").rules();
        rules.iter().find(|row| row.name == name).map(|row| row.position)
    };
    assert_eq!(["r299", "new", "r300", "r599"].map(place), [300, 301, 302, 601].map(Some));
    let text = control.policy().await.text;
    assert!(text.contains("port 1299\nrule new drop in udp to port 7\nrule r300"), "{text}");

    let deleted = change(Change::Delete("r0".into())).await.expect("deleted");
    assert_eq!(deleted.generation, 6);
    assert_eq!(deleted.changes[0].text, "- 1: rule r0 drop in udp to port 1000");
    assert_eq!((place("r0"), place("r599"), place("default in")), (None, Some(600), Some(0)));
    let error = change(add("rule r5 drop in udp", Place::End)).await.expect_err("there is one");
    assert!(error.to_string().contains("an error"), "{error}");

    // What may be said of others is asked of all.
    let shadows = change(add("rule all drop in udp to port 1-2000", Place::Position(1))).await;
    let shadows = shadows.expect("added");
    assert_eq!((shadows.generation, shadows.warnings.len()), (7, 600));
    assert_eq!(daemon.kernel().patches.len(), 2);
    let text = control.policy().await.text;
    let file = std::fs::read_to_string(daemon.dir.join("policy")).expect("read");
    assert_eq!(file, text, "what came before is in it");
    policy::parse(&text, "test").expect("a policy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_the_kernel_refuses_by_itself_comes_with_all() {
    let daemon = TestDaemon::start("default in allow\n").await;
    let change = async |change| daemon.control.change(change, ChangeOptions::default()).await;
    change(Change::Replace(many(600))).await.expect("applied");
    daemon.kernel().refuses = Some("not like this".into());
    let text = "rule new drop in udp to port 7".to_owned();
    let added = change(Change::Add { text, place: Place::End }).await.expect("added");
    assert_eq!((added.generation, added.changes.len()), (3, 1));
    assert!(daemon.kernel().patches.is_empty());
    let delete = async || change(Change::Delete("new".into())).await;
    assert_eq!(delete().await.expect("deleted").generation, 5);
    let dry = ChangeOptions { dry_run: true, ..ChangeOptions::default() };
    let dry = daemon.control.change(Change::Delete("r1".into()), dry).await.expect("looked at");
    assert_eq!((dry.generation, daemon.kernel().generation), (5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_single_rules_changed_is_in_the_file_when_the_daemon_stops() {
    let daemon = TestDaemon::start("default in allow\n").await;
    let change = async |change| daemon.control.change(change, ChangeOptions::default()).await;
    change(Change::Replace(many(600))).await.expect("applied");
    for i in 0..20 {
        change(Change::Delete(format!("r{i}"))).await.expect("deleted");
    }
    assert_eq!(daemon.kernel().patches.len(), 20);
    daemon.control.stop();
    let text = daemon.control.policy().await.text;
    assert_eq!(std::fs::read_to_string(daemon.dir.join("policy")).expect("read"), text);
    let last = LastGood::load(&daemon.dir.join("live.json")).expect("written");
    assert_eq!((last.text, last.generation), (text, 42));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_file_can_not_follow_no_single_rule_changes() {
    let daemon = TestDaemon::start("default in allow\n").await;
    let change = async |change| daemon.control.change(change, ChangeOptions::default()).await;
    change(Change::Replace(many(600))).await.expect("applied");
    let (dir, elsewhere) = (daemon.dir.clone(), daemon.dir.with_extension("elsewhere"));
    std::fs::rename(&dir, &elsewhere).expect("renamed");
    let delete = async || change(Change::Delete("r1".into())).await;
    let error = delete().await.expect_err("there is no such folder");
    assert!(error.to_string().contains("nothing was changed"), "{error}");
    let (generation, patches) = {
        let kernel = daemon.kernel();
        (kernel.generation, kernel.patches.len())
    };
    assert_eq!((generation, patches), (2, 0));
    std::fs::rename(&elsewhere, &dir).expect("renamed");
    assert_eq!(delete().await.expect("deleted").generation, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_rules_join_one_by_one_than_there_are_places() {
    let daemon = TestDaemon::start("default in allow\n").await;
    let change = async |change| daemon.control.change(change, ChangeOptions::default()).await;
    change(Change::Replace(many(600))).await.expect("applied");
    for i in 0..20 {
        let text = format!("rule new{i} drop in udp to port {i}");
        let added = change(Change::Add { text, place: Place::End }).await.expect("added");
        assert_eq!(added.generation, 4 + 2 * i);
    }
    assert_eq!(daemon.kernel().patches.len(), 20);
    // Judging anew is no other policy: the next one is made on top of it.
    daemon.control.rejudge().await.expect("judged");
    let deleted = change(Change::Delete("new7".into())).await.expect("deleted");
    assert_eq!((deleted.generation, daemon.kernel().generation), (46, 46));
}
