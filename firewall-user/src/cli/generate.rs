//! Completions and manual pages, from the same description as `--help`.

use super::{args::Cli, out::CliError};
use clap::{Command, CommandFactory};
use std::{fs, io, path::Path, process::ExitCode};

pub fn completions(shell: clap_complete::Shell) -> Result<ExitCode, CliError> {
    clap_complete::generate(shell, &mut Cli::command(), "sluice", &mut io::stdout().lock());
    Ok(ExitCode::SUCCESS)
}

/// `sluice.1`, and `sluice-COMMAND.1` for each command that isn't hidden.
pub fn man(dir: &Path) -> Result<ExitCode, CliError> {
    fs::create_dir_all(dir)?;
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    write_pages(dir, "sluice", &root)?;
    Ok(ExitCode::SUCCESS)
}

fn write_pages(dir: &Path, name: &str, command: &Command) -> io::Result<()> {
    let page =
        clap_mangen::Man::new(command.clone().name(name.to_owned()).display_name(name.to_owned()))
            .title(name.to_uppercase())
            .source(concat!("sluice ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::write(dir.join(format!("{name}.1")), text)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_pages(dir, &format!("{name}-{}", sub.get_name()), sub)?;
    }
    Ok(())
}
