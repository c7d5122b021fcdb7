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
