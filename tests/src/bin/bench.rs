//! `cargo xtask bench packet|track|forward|nat [--json] [--rounds N]`: what a packet costs.

use sluice_tests::bench;
use std::process::ExitCode;

const USAGE: &str = "usage: bench packet|track|forward|nat [--json] [--rounds N]";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut json, mut rounds, mut which) = (false, bench::ROUNDS, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => json = true,
            "--rounds" => match args.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0) {
                Some(n) => rounds = n,
                None => return fail(&format!("--rounds wants a number\n{USAGE}")),
            },
            "--help" | "-h" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            name if bench::BENCHES.contains(&name) => which = Some(name.to_owned()),
            other => return fail(&format!("unknown argument `{other}`\n{USAGE}")),
        }
    }
    let Some(which) = which else { return fail(USAGE) };
    match bench::run(&which, rounds) {
        Ok(figures) if json => figures.print_json(),
        Ok(figures) => figures.print_table(),
        Err(why) => return fail(&why),
    }
    ExitCode::SUCCESS
}

fn fail(words: &str) -> ExitCode {
    eprintln!("bench: {words}");
    ExitCode::FAILURE
}
