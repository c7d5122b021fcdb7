//! Every chore of this repository, one verb each: `cargo xtask help`.

mod build;
mod ctx;
mod digest;
mod setup;
mod step;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use ctx::{Ctx, Profile};
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
}

fn main() -> ExitCode {
    let args = Args::parse();
    match perform(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(args: Args) -> Result<ExitCode> {
    step::catch_signals()?;
    let ctx = Ctx::find(args.verbose)?;
    match args.verb {
        Verb::Setup { needs } => {
            let needs = if needs.is_empty() {
                vec![Need::Build, Need::Lab, Need::Test]
            } else {
                needs
            };
            let toolchain = setup::ensure(&ctx, &needs)?;
            println!("ready: {toolchain}");
        }
        Verb::Build { profile, .. } => {
            let binary = build::all(&ctx, profile)?;
            println!("{}", binary.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
