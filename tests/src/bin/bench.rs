//! `cargo xtask bench packet|classify|apply|track|forward|nat|sockets [--json] [--rounds N] [--only CASE]`: what a packet costs.

use sluice_tests::bench;
use std::process::ExitCode;

const USAGE: &str = "usage: bench packet|classify|apply|track|forward|nat|sockets [--json] [--rounds N] [--only CASE]\n  \
    --only: cases whose names begin so, where a benchmark can leave the others out";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut json, mut rounds, mut which, mut only) = (false, bench::ROUNDS, None, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => json = true,
            "--rounds" => match args.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0) {
                Some(n) => rounds = n,
                None => return fail(&format!("--rounds wants a number\n{USAGE}")),
            },
            "--only" => match args.next() {
                Some(case) => only = Some(case),
                None => {
                    return fail(&format!("--only wants the beginning of a case's name\n{USAGE}"));
                }
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
    match bench::run(&which, rounds, only) {
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
