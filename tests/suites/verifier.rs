//! How much work the verifier has with each program, against a committed ceiling: growth must be a
//! decision, not an accident. The programs don't depend on the policy (tables are data), so what is
//! loaded here is the largest configuration there is.

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
    let ceilings = ceilings();
    for (name, program) in kernel.programs() {
        let seen = program.verified_instructions().expect("the kernel's figure");
        println!("{name}: {seen} instructions verified");
        if seen == 0 {
            return sluice_tests::skip::skip(
                test,
                "this kernel doesn't tell verified instructions",
            );
        }
        let (_, ceiling) = ceilings
            .iter()
            .find(|(n, _)| n == name)
            .unwrap_or_else(|| panic!("no ceiling for {name}"));
        assert!(
            seen <= *ceiling,
            "{name}: {seen} instructions verified, more than {ceiling} (tests/verifier-ceilings.toml)"
        );
        assert!(seen * 4 > *ceiling, "{name}: {seen} is far below its ceiling {ceiling}: lower it");
    }
}
