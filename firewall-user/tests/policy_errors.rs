//! What an operator reads when a policy is wrong: each mistake in `mistakes/` and its report in
//! `snapshots/`, to be read by people when it changes (`INSTA_UPDATE=always cargo test` writes
//! them anew).

use firewall_user::policy::{CheckContext, SshPeer, check, parse};
use std::path::Path;

fn here() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"))
}

#[test]
fn each_mistake_has_a_good_report() {
    let mut files: Vec<_> = std::fs::read_dir(here().join("mistakes"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 20, "{} mistakes", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let report = match parse(&text, &name) {
            Ok(_) => panic!("{name}: no mistake was found"),
            Err(errors) => errors.render(false),
        };
        insta::assert_snapshot!(name.trim_end_matches(".sluice"), report, &name);
    }
}

#[test]
fn warnings_read_well() {
    let text = std::fs::read_to_string(here().join("warnings/all.sluice")).unwrap();
    let policy = parse(&text, "all.sluice").unwrap_or_else(|e| panic!("{e}"));
    let context = CheckContext {
        interfaces: Some(vec!["lo".into(), "eth0".into(), "eth1".into()]),
        ssh: SshPeer::from_ssh_connection("2001:db8::9 51000 2001:db8::1 2222")
            .map(|ssh| SshPeer { iface: Some("eth1".into()), ..ssh }),
        ..CheckContext::default()
    };
    let report: Vec<String> = check(&policy, &context).iter().map(|w| w.render(false)).collect();
    insta::assert_snapshot!("warnings", report.join("\n"));
}

#[test]
fn warnings_about_translations_read_well() {
    let text = std::fs::read_to_string(here().join("warnings/nat.sluice")).unwrap();
    let policy = parse(&text, "nat.sluice").unwrap_or_else(|e| panic!("{e}"));
    let report: Vec<String> =
        check(&policy, &CheckContext::default()).iter().map(|w| w.render(false)).collect();
    insta::assert_snapshot!("nat-warnings", report.join("\n"));
}

#[test]
fn a_report_can_be_coloured_and_sent() {
    let errors = parse("rule web alow in", "p").unwrap_err();
    insta::assert_snapshot!("coloured", errors.render(true).replace('\x1b', "ESC"));
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&errors.items[0]).unwrap());
}

/// A policy may come over the network: whatever is in it, the answer comes soon, and the daemon
/// lives.
#[test]
fn hostile_text_is_answered_in_time() {
    let many = |line: &dyn Fn(usize) -> String, n: usize| (0..n).map(line).collect::<String>();
    let texts = [
        many(&|i| format!("set s{i} = {{ @s{} }}\n", i + 1), 5_000),
        many(&|i| format!("set s{} = {{ @s{i} }}\n", i + 1), 5_000),
        many(&|i| format!("interface g{i} = {{ g{}, g{} }}\n", i + 1, i + 2), 200),
        format!("set a = {{{}", "\n".repeat(200_000)),
        "{".repeat(10_000),
        "rule a drop\n".repeat(10_000),
        many(&|i| format!("rule r{i} drop from @nix{i}\n"), 10_000),
        "x\n".repeat(40_000),
        "\u{0}\u{7}é".repeat(20_000),
        format!("set a = {{ {} }}", "1.2.3.x, ".repeat(10_000)),
    ];
    for text in texts {
        let start = std::time::Instant::now();
        let errors = match parse(&text, "hostile") {
            Ok(policy) => {
                check(&policy, &CheckContext::default());
                String::new()
            }
            Err(errors) => errors.render(false),
        };
        let (size, head) = (errors.len(), &text[..40]);
        assert!(size < 100_000, "{size} bytes for {head:?}");
        assert!(start.elapsed().as_secs() < 10, "{:?} for {head:?}", start.elapsed());
    }
}
