//! The rule of [`super`], machine by machine.

use super::*;

const DEBIAN: Means = Means { apt: true, root: true, rustup: true, binstall: false };
const LAPTOP: Means = Means { apt: false, root: false, rustup: true, binstall: true };

fn system(llvm: u32, library: Library) -> Compiler {
    Compiler {
        origin: Origin::System,
        rustc: "/usr/bin/rustc".into(),
        cargo: Some("/usr/bin/cargo".into()),
        release: "1.96.0".into(),
        llvm,
        library,
    }
}

fn rustup(name: &str, llvm: u32, library: Library) -> Compiler {
    Compiler {
        origin: Origin::Rustup(name.into()),
        rustc: format!("/rustup/{name}/bin/rustc").into(),
        cargo: Some(format!("/rustup/{name}/bin/cargo").into()),
        release: "1.97.0-nightly".into(),
        llvm,
        library,
    }
}

fn linker(llvm: Option<u32>) -> Linker {
    Linker { path: format!("/cargo/bin/bpf-linker-{llvm:?}").into(), llvm }
}

fn facts(compilers: Vec<Compiler>, linkers: Vec<Linker>, means: Means) -> Facts {
    Facts { compilers, linkers, means }
}

fn origin(next: Next) -> Origin {
    match next {
        Next::Ready(t) => t.origin,
        other => panic!("not ready: {other:?}"),
    }
}

#[test]
fn debians_compiler_with_a_matching_linker_is_ready() {
    let f = facts(vec![system(22, Library::Matches)], vec![linker(Some(22))], DEBIAN);
    assert_eq!(origin(next(&f, &[])), Origin::System);
}

#[test]
fn an_ordinary_users_nightly_is_used_without_apt() {
    let f = facts(
        vec![rustup("stable", 22, Library::Absent), rustup("nightly-x86_64", 22, Library::Matches)],
        vec![linker(Some(22))],
        LAPTOP,
    );
    assert_eq!(origin(next(&f, &[])), Origin::Rustup("nightly-x86_64".into()));
}

#[test]
fn a_linker_of_another_major_is_not_used() {
    let f = facts(vec![system(22, Library::Matches)], vec![linker(Some(21))], DEBIAN);
    assert_eq!(next(&f, &[]), Next::Do(Action::BuildLinker(22)));
}

#[test]
fn the_compiler_follows_the_linker_that_is_there() {
    let f = facts(
        vec![system(22, Library::Matches), rustup("nightly", 23, Library::Matches)],
        vec![linker(Some(23))],
        LAPTOP,
    );
    assert_eq!(origin(next(&f, &[])), Origin::Rustup("nightly".into()));
}

#[test]
fn a_linker_that_cannot_be_told_is_better_than_none_but_worse_than_one_that_matches() {
    let mut f = facts(vec![system(22, Library::Matches)], vec![linker(None)], DEBIAN);
    assert_eq!(origin(next(&f, &[])), Origin::System);
    f.linkers.push(linker(Some(22)));
    match next(&f, &[]) {
        Next::Ready(t) => assert_eq!(t.linker, linker(Some(22)).path),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fresh_debian_gets_the_compiler_then_the_linker() {
    let fresh = facts(vec![rustup("stable", 21, Library::Absent)], vec![], DEBIAN);
    assert_eq!(next(&fresh, &[]), Next::Do(Action::DebianCompiler));
    let mut with = fresh;
    with.compilers.push(system(22, Library::Matches));
    assert_eq!(next(&with, &[Action::DebianCompiler]), Next::Do(Action::BuildLinker(22)));
}

#[test]
fn the_source_of_another_release_does_not_do() {
    let f = facts(
        vec![system(22, Library::Other("1.95.0".into()))],
        vec![linker(Some(22))],
        Means::default(),
    );
    match next(&f, &[]) {
        Next::Stuck(lines) => assert!(lines[0].contains("of 1.95.0"), "{lines:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn where_apt_did_not_help_rustup_is_asked() {
    let f =
        facts(vec![rustup("nightly-x86_64", 22, Library::Absent)], vec![linker(Some(22))], DEBIAN);
    assert_eq!(
        next(&f, &[Action::DebianCompiler]),
        Next::Do(Action::RustSrc("nightly-x86_64".into()))
    );
}

#[test]
fn nothing_is_tried_twice_and_the_commands_are_named() {
    let f = facts(
        vec![system(22, Library::Matches), rustup("nightly", 22, Library::Absent)],
        vec![linker(Some(19))],
        DEBIAN,
    );
    let tried =
        [Action::BuildLinker(22), Action::DebianCompiler, Action::RustSrc("nightly".into())];
    match next(&f, &tried) {
        Next::Stuck(lines) => {
            let text = lines.join("\n");
            assert!(text.contains("rustup component add rust-src"), "{text}");
            assert!(text.contains("--features llvm-22"), "{text}");
            assert!(text.contains("has LLVM 19"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_machine_is_told_both_ways() {
    match next(&Facts::default(), &[]) {
        Next::Stuck(lines) => {
            let text = lines.join("\n");
            assert!(text.contains("rustup.rs"), "{text}");
            assert!(text.contains("rustc-web"), "{text}");
            assert!(text.contains("binstall"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unprivileged_user_is_not_sent_to_apt() {
    let f =
        facts(vec![system(22, Library::Matches)], vec![], Means { apt: true, ..Means::default() });
    assert!(matches!(next(&f, &[]), Next::Stuck(_)));
}

#[test]
fn a_compiler_too_old_for_the_linker_is_upgraded() {
    let old = facts(vec![system(19, Library::Matches)], vec![], DEBIAN);
    assert_eq!(next(&old, &[]), Next::Do(Action::DebianCompiler));
    match next(&old, &[Action::DebianCompiler]) {
        Next::Stuck(lines) => {
            let text = lines.join("\n");
            assert!(text.contains("is too old: LLVM 22"), "{text}");
            assert!(!text.contains("--features llvm-19"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pair_that_fits_but_is_too_old_does_not_do() {
    let f = facts(vec![system(21, Library::Matches)], vec![linker(Some(21))], DEBIAN);
    assert_eq!(next(&f, &[]), Next::Do(Action::DebianCompiler));
}
