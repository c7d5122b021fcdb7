//! The commands. They talk to the daemon over its control socket; `check`, `doctor` and `daemon`
//! need none.

pub mod args;
mod attributes;
mod doctor;
mod drops;
mod explain;
mod flows;
mod format;
mod generate;
mod history;
mod learn;
mod list;
mod mappings;
mod names;
mod nat;
mod netfilter;
mod out;
mod page;
mod paths;
mod plan;
mod policy;
mod replay;
mod samples;
mod set;
mod socket;
mod sockets;
mod summary;
mod watch;

use args::{Cli, Command, CountersCommand, FlowCommand, NatCommand, SocketCommand};
use clap::Parser;
use out::{CliError, Out};
use std::{io::Write, process::ExitCode};

use crate::{daemon, server::client::Client};

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Out::new(cli.json, cli.color);
    let socket = cli.socket;
    let done = match cli.command {
        Command::Daemon(args) => return run_daemon(args, socket),
        Command::Check { file } => policy::check(&out, &file),
        Command::Doctor => doctor::run(&out, &socket),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { dir } => generate::man(&dir),
        command => ask(&out, &Client::new(socket), command),
    };
    match done {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            complain(&out, &error);
            error.exit()
        }
    }
}

/// Commands that need the daemon.
fn ask(out: &Out, client: &Client, command: Command) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Apply(args) => policy::apply(out, client, args).await,
            Command::Rules { plan: true, .. } => plan::print(out, client).await,
            Command::Rules { filter, plan: false } => {
                list::rules(out, client, &filter.join(" ")).await
            }
            Command::Rule(command) => policy::rule(out, client, command).await,
            Command::Flows { filter, limit, netfilter: true, .. } => {
                netfilter::flows(out, client, &filter.join(" "), limit).await
            }
            Command::Flows { filter, limit, sort, netfilter: false } => {
                flows::list(out, client, &filter.join(" "), limit, sort.as_deref()).await
            }
            Command::Sockets { drops: true, .. } => drops::drops(out, client).await,
            Command::Sockets { stats: true, .. } => sockets::stats(out, client).await,
            Command::Sockets { filter, limit, sort, ended, .. } => {
                let filter = &filter.join(" ");
                let asked = sockets::Asked { filter, limit, sort: sort.as_deref(), ended };
                sockets::list(out, client, asked).await
            }
            Command::Explain(args) => explain::explain(out, client, args).await,
            Command::Replay(args) => replay::replay(out, client, args).await,
            Command::Set(command) => set::run(out, client, command).await,
            Command::Learn { by, owner, since } => {
                learn::learn(out, client, &by, &owner, since.as_deref()).await
            }
            Command::Summary(command) => summary::run(out, client, command).await,
            Command::Socket(SocketCommand::Show { id }) => socket::show(out, client, &id).await,
            Command::Socket(SocketCommand::Watch { id, count }) => {
                samples::watch(out, client, &id, count).await
            }
            Command::Socket(SocketCommand::Attributes(args)) => {
                attributes::list(out, client, args).await
            }
            Command::Socket(SocketCommand::Note { id, text }) => {
                socket::note(out, client, &id, &text.join(" ")).await
            }
            Command::Socket(SocketCommand::Kill { filter, dry_run, force, block }) => {
                let how = sockets::How { dry_run, force, block };
                sockets::kill(out, client, &filter.join(" "), how).await
            }
            Command::Flow(FlowCommand::Kill { filter, dry_run }) => {
                flows::kill(out, client, &filter.join(" "), dry_run).await
            }
            Command::Watch { filter, recent, count } => {
                watch::run(out, client, &filter.join(" "), recent, count).await
            }
            Command::Events { filter, limit } => {
                list::events(out, client, &filter.join(" "), limit).await
            }
            Command::Status => list::status(out, client).await,
            Command::Stats => list::stats(out, client).await,
            Command::Counters(CountersCommand::Reset) => list::reset(out, client).await,
            Command::Nat(NatCommand::Who { endpoint, at, proto, limit }) => {
                nat::who(out, client, &endpoint, at, proto.as_deref(), limit).await
            }
            Command::Nat(NatCommand::Mappings { filter, limit, sort }) => {
                mappings::mappings(out, client, &filter.join(" "), limit, sort.as_deref()).await
            }
            Command::Nat(NatCommand::Rules) => mappings::rules(out, client).await,
            Command::Nat(NatCommand::Hosts { limit, sort }) => {
                mappings::hosts(out, client, limit, sort.as_deref()).await
            }
            Command::Nat(NatCommand::Pools) => mappings::pools(out, client).await,
            Command::History(args) => history::run(out, client, args).await,
            Command::Names { stats: true, .. } => names::stats(out, client).await,
            Command::Names { filter, limit, sort, .. } => {
                names::list(out, client, &filter.join(" "), limit, sort.as_deref()).await
            }
            Command::Paths => paths::run(out, client).await,
            Command::Policy => policy::print(out, client).await,
            // Answered by `main`.
            Command::Daemon(_)
            | Command::Check { .. }
            | Command::Doctor
            | Command::Completions { .. }
            | Command::Man { .. } => Ok(ExitCode::FAILURE),
        }
    })
}

fn run_daemon(args: args::DaemonArgs, socket: std::path::PathBuf) -> ExitCode {
    start_log();
    let unload = args.unload;
    // The configuration names a socket too: the default on the command line mustn't hide it.
    let socket = (socket.as_os_str() != daemon::config::DEFAULT_SOCKET).then_some(socket);
    let overrides = args.overrides(socket);
    let done = if unload { daemon::unload(&overrides) } else { daemon::run(&overrides) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::from(if error.is_policy() { 3 } else { 1 })
        }
    }
}

/// Logs to standard error; RUST_LOG says how much. For systemd's journal, which has its own clock, a
/// priority stands in front of each line instead of the time (sd-daemon(3)).
fn start_log() {
    let mut builder =
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"));
    builder.format_target(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.format(|out, record| {
            let priority = match record.level() {
                log::Level::Error => 3,
                log::Level::Warn => 4,
                log::Level::Info => 6,
                log::Level::Debug | log::Level::Trace => 7,
            };
            for line in record.args().to_string().lines() {
                writeln!(out, "<{priority}>{line}")?;
            }
            Ok(())
        });
    }
    builder.init();
}

/// Errors go to standard error: for programs as JSON, if they asked for JSON.
fn complain(out: &Out, error: &CliError) {
    use crate::server::client::ClientError;
    if out.json {
        let body = match error {
            CliError::Client(ClientError::Refused(body)) => serde_json::json!({"error": body}),
            other => {
                serde_json::json!({"error": {"code": "failed", "message": other.to_string(), "details": null}})
            }
        };
        eprintln!("{body}");
        return;
    }
    if let CliError::Client(ClientError::Refused(body)) = error {
        policy::explain(out, body);
    }
    eprintln!("sluice: {error}");
}
