//! `cargo xtask bench packet [--json] [--rounds N]`: what a packet costs.

use sluice_tests::bench;
use std::process::ExitCode;

const USAGE: &str = "usage: bench packet [--json] [--rounds N]";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut json, mut rounds, mut packet) = (false, bench::ROUNDS, false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "packet" => packet = true,
            "--json" => json = true,
            "--rounds" => match args.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0) {
                Some(n) => rounds = n,
                None => return fail(&format!("--rounds wants a number\n{USAGE}")),
            },
            "--help" | "-h" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            other => return fail(&format!("unknown argument `{other}`\n{USAGE}")),
        }
    }
    if !packet {
        return fail(USAGE);
    }
    match bench::packet_costs(rounds) {
        Ok(samples) if json => bench::print_json(&samples),
        Ok(samples) => bench::print_table(&samples),
        Err(why) => return fail(&why),
    }
    ExitCode::SUCCESS
}

fn fail(words: &str) -> ExitCode {
    eprintln!("bench: {words}");
    ExitCode::FAILURE
}
