//! Every chore of this repository, one verb each: `cargo xtask help`.

mod bench;
mod build;
mod ci;
mod ctx;
mod digest;
mod lab;
mod package;
mod run;
mod setup;
mod step;
mod test;
mod tidy;
mod traffic;

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use ctx::{Ctx, Profile};
use lab::{Lab, Place};
use setup::Need;

/// Chores of the Sluice repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    /// Show the output of each command as it comes
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Find what building and testing needs, and install what is missing
    Setup {
        /// What to set up for; everything but packaging where unsaid
        #[arg(value_enum)]
        needs: Vec<Need>,
    },
    /// Build the eBPF object, the console and the `sluice` binary
    Build {
        /// The profile of the host side
        #[arg(long, value_enum, default_value = "release")]
        profile: Profile,
        /// The same as --profile release (the default)
        #[arg(long, conflicts_with = "profile")]
        release: bool,
    },
    /// Make, use and remove network namespaces client - gate - server
    Lab {
        #[command(subcommand)]
        verb: LabVerb,
    },
    /// Run Sluice at the lab's gate with real traffic through it, until Ctrl-C
    Run(run::RunArgs),
    /// One end of the traffic that `run` makes, inside a namespace
    #[command(hide = true)]
    Traffic {
        /// Which end
        #[arg(value_enum)]
        role: traffic::Role,
    },
    /// Run every test; ends with `N passed, N failed, N skipped`
    Test {
        /// Only these parts
        #[arg(value_enum)]
        parts: Vec<test::Part>,
    },
    /// What has to pass before a change lands: test, clippy, fmt, tidy
    Ci,
    /// Measure: `cargo xtask bench packet|classify|apply|track|forward|nat|sockets [--json] [--rounds N]`
    Bench {
        /// Handed to the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Make the .deb
    Package,
    /// Check what the compiler does not: directions, sizes, the ABI's hash, leftovers
    Tidy {
        /// Write the ABI's present hash into docs/abi.md
        #[arg(long)]
        bless: bool,
    },
}

#[derive(Debug, Subcommand)]
enum LabVerb {
    /// Make the lab; does nothing where it stands
    Up {
        /// The lab's name; labs of different names stand side by side
        #[arg(long, default_value = "lab")]
        name: String,
    },
    /// Run a command in one of the namespaces
    Exec {
        /// The lab's name
        #[arg(long, default_value = "lab")]
        name: String,
        /// Where
        #[arg(value_enum)]
        place: Place,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Take the lab down, with every process in it
    Down {
        /// The lab's name
        #[arg(long, default_value = "lab")]
        name: String,
        /// Every lab on this machine
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    match perform(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `false`: it was done, and the answer is no.
fn perform(args: Args) -> Result<bool> {
    let ctx = Ctx::find(args.verbose)?;
    if !matches!(args.verb, Verb::Lab { verb: LabVerb::Exec { .. } }) {
        step::catch_signals()?;
    }
    match args.verb {
        Verb::Setup { needs } => {
            let needs =
                if needs.is_empty() { vec![Need::Build, Need::Lab, Need::Test] } else { needs };
            let toolchain = setup::ensure(&ctx, &needs)?;
            println!("ready: {toolchain}");
        }
        Verb::Build { profile, .. } => {
            let binary = build::all(&ctx, profile)?;
            println!("{}", binary.display());
        }
        Verb::Run(args) => run::run(&ctx, &args)?,
        Verb::Traffic { role } => traffic::play(role)?,
        Verb::Lab { verb } => lab_verb(&ctx, verb)?,
        Verb::Test { parts } => {
            let verdict = test::all(&ctx, &parts)?;
            println!("{}", verdict.line);
            return Ok(verdict.good);
        }
        Verb::Ci => {
            let (good, line) = ci::run(&ctx)?;
            println!("{line}");
            return Ok(good);
        }
        Verb::Bench { args } => bench::run(&ctx, &args)?,
        Verb::Package => println!("{}", package::run(&ctx)?.display()),
        Verb::Tidy { bless } => return tidy::all(&ctx, bless),
    }
    Ok(true)
}

fn lab_verb(ctx: &Ctx, verb: LabVerb) -> Result<()> {
    setup::ensure_lab(ctx)?;
    match verb {
        LabVerb::Up { name } => {
            let lab = Lab::named(&name)?;
            let made = lab.up()?;
            println!(
                "lab {name} {}: {} (10.77.1.2, fd77:1::2) - {} (wan0, lan0) - {} ({}, {})",
                if made { "is up" } else { "was up already" },
                lab.netns(Place::Client),
                lab.netns(Place::Gate),
                lab.netns(Place::Server),
                lab::SERVER4,
                lab::SERVER6,
            );
        }
        LabVerb::Exec { name, place, command } => {
            let lab = Lab::named(&name)?;
            if !lab.netns_file(place).exists() {
                bail!("there is no lab {name}: cargo xtask lab up --name {name}");
            }
            let (program, args) = command.split_first().context("no command")?;
            let error = lab.command(place, program).args(args).exec();
            bail!("cannot start nsenter: {error}");
        }
        LabVerb::Down { name, all } => {
            let names = if all { lab::all() } else { vec![name] };
            for name in names {
                let was = Lab::named(&name)?.down()?;
                println!("lab {name} {}", if was { "is down" } else { "was not up" });
            }
        }
    }
    Ok(())
}
