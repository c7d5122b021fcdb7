//! How much work the verifier has with each program, against a committed ceiling: growth must be a
//! decision, not an accident. The programs don't depend on the policy (tables are data), so what is
//! loaded here is the largest configuration there is.

use firewall_user::datapath::observed::Observer;
use firewall_user::datapath::owners::{OwnerKeys, OwnerPolicy};
use firewall_user::datapath::sockets::SocketMonitor;
use firewall_user::datapath::{Datapath, Options, SlotNames};
use firewall_user::policy::{self, Slots};
use sluice_tests::kernel::Kernel;

/// Ceilings by program name: `name = number`.
fn ceilings() -> Vec<(String, u32)> {
    include_str!("../verifier-ceilings.toml")
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, number) =
                line.split_once('=').unwrap_or_else(|| panic!("`{line}` isn't `name = number`"));
            let number = number.trim().replace('_', "");
            (
                name.trim().to_owned(),
                number.parse().unwrap_or_else(|_| panic!("`{line}` has no number")),
            )
        })
        .collect()
}

#[test]
fn verified_instructions_stay_below_their_ceilings() {
    let test = "verifier::verified_instructions_stay_below_their_ceilings";
    let Some(mut kernel) = Kernel::or_skip(test) else { return };
    // The largest policy there is: as many rules as there may be.
    let mut policy = String::from("default in drop\n");
    for i in 0..1024 {
        policy.push_str(&format!(
            "rule r{i} allow in tcp from 10.{}.{}.0/24 to port {}\n",
            i / 256,
            i % 256,
            1 + i
        ));
    }
    kernel.install(&policy);
    stays_below(test, kernel.verified_instructions());
}

#[test]
fn the_socket_monitors_stay_below_theirs() {
    let test = "verifier::the_socket_monitors_stay_below_theirs";
    if let Some(reason) = sluice_tests::skip::no_kernel_access() {
        return sluice_tests::skip::skip(test, reason);
    }
    if sluice_tests::skip::path_from_env("SLUICE_BPF_OBJECT").is_none() {
        let why = "SLUICE_BPF_OBJECT isn't set (run `cargo xtask test`)";
        return sluice_tests::skip::skip(test, why);
    }
    let monitor = SocketMonitor::start().expect("a monitor");
    stays_below(test, monitor.verified().expect("the kernel's figures"));
}

#[test]
fn what_names_are_read_from_stays_below_its_ceiling() {
    let test = "verifier::what_names_are_read_from_stays_below_its_ceiling";
    if let Some(reason) = sluice_tests::skip::no_kernel_access() {
        return sluice_tests::skip::skip(test, reason);
    }
    if sluice_tests::skip::path_from_env("SLUICE_BPF_OBJECT").is_none() {
        let why = "SLUICE_BPF_OBJECT isn't set (run `cargo xtask test`)";
        return sluice_tests::skip::skip(test, why);
    }
    let observer = Observer::start().expect("an observer");
    stays_below(test, observer.verified().expect("the kernel's figures"));
}

#[test]
fn the_rules_by_owners_stay_below_theirs() {
    let test = "verifier::the_rules_by_owners_stay_below_theirs";
    let Some(reason) = sluice_tests::skip::no_kernel_access() else {
        if sluice_tests::skip::path_from_env("SLUICE_BPF_OBJECT").is_none() {
            let why = "SLUICE_BPF_OBJECT isn't set (run `cargo xtask test`)";
            return sluice_tests::skip::skip(test, why);
        }
        let pin_dir = format!("/sys/fs/bpf/sluice-verifier-{}", std::process::id()).into();
        let options = Options { pin_dir, max_flows: 1024, ..Options::default() };
        let mut datapath = Datapath::open(&options).expect("a datapath");
        let policy = policy::parse("rule a drop process no-such-process unit none", "test");
        let compiled = policy::compile(&policy.expect("a policy"), &mut Slots::new(), 1);
        let mut compiled = compiled.expect("small");
        let owners = compiled.owners.take().expect("a rule by owner");
        let owners = OwnerPolicy {
            table: owners.table().expect("small"),
            keys: OwnerKeys::default(),
            others: true,
        };
        datapath
            .install(&compiled.table, &compiled.arena, 1, &SlotNames::default(), Some(&owners))
            .expect("installed");
        let seen = datapath.owners_verified();
        datapath.unload().expect("unloaded");
        return stays_below(test, seen);
    };
    sluice_tests::skip::skip(test, reason);
}

fn stays_below(test: &str, programs: Vec<(String, u32)>) {
    let ceilings = ceilings();
    // All of them before the first that is too large.
    for (name, seen) in &programs {
        println!("{name}: {seen} instructions verified");
    }
    for (name, seen) in programs {
        if seen == 0 {
            return sluice_tests::skip::skip(
                test,
                "this kernel doesn't tell verified instructions",
            );
        }
        let (_, ceiling) = ceilings
            .iter()
            .find(|(n, _)| *n == name)
            .unwrap_or_else(|| panic!("no ceiling for {name}"));
        assert!(
            seen <= *ceiling,
            "{name}: {seen} instructions verified, more than {ceiling} (tests/verifier-ceilings.toml)"
        );
        assert!(seen * 4 > *ceiling, "{name}: {seen} is far below its ceiling {ceiling}: lower it");
    }
}
