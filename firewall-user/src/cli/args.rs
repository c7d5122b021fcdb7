//! What can be said on the command line.

use super::nat::PublicEndpoint;
use crate::daemon::{
    Overrides,
    config::{DEFAULT_SOCKET, Interface},
};
use crate::store::{now_ms, when};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{net::SocketAddr, path::PathBuf};

/// Options that every command takes are listed apart.
const GENERAL: &str = "Options of every command";

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  the policy, the filter expression, the packet or an entry of a set is invalid
  4  the daemon can't be reached
  5  refused: the policy has changed meanwhile, or the operator would be locked out

Files:
  /etc/sluice/sluice.toml      configuration of the daemon
  /etc/sluice/policy.sluice    the policy
  /run/sluice/sluice.sock      control socket (root and group `sluice`)
  /var/lib/sluice/token        token of the console and the API";

/// Decides what flows through this machine, and shows it flowing.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, after_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// The daemon's control socket
    #[arg(long, global = true, help_heading = GENERAL, env = "SLUICE_SOCKET", hide_env_values = true, default_value = DEFAULT_SOCKET, value_name = "PATH")]
    pub socket: PathBuf,
    /// Print JSON: one object, or one a line for lists
    #[arg(long, global = true, help_heading = GENERAL)]
    pub json: bool,
    /// When to colour; NO_COLOR is honoured
    #[arg(long, global = true, help_heading = GENERAL, value_enum, default_value_t = Colour::Auto, value_name = "WHEN")]
    pub color: Colour,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: load (or take over) the filter, serve console and commands
    Daemon(DaemonArgs),
    /// Check a policy file, without a daemon
    Check {
        /// The policy file; `-` is standard input
        file: PathBuf,
    },
    /// Make a policy file the live policy; shows the difference first, and asks on a terminal
    Apply(ApplyArgs),
    /// List the rules with their counters
    Rules {
        /// How the rules are laid out instead: the parts they were cut into, and what memory they take
        #[arg(long, conflicts_with = "filter")]
        plan: bool,
        /// Only rules that match, such as `hits=0`
        #[arg(value_name = "FILTER")]
        filter: Vec<String>,
    },
    /// Edit one rule of the live policy; the file is written back, comments kept
    #[command(subcommand)]
    Rule(RuleCommand),
    /// Live sets: addresses, pairs and ports that change while the rules stay
    #[command(subcommand)]
    Set(super::set::SetCommand),
    /// Take flows out of the table
    #[command(subcommand)]
    Flow(FlowCommand),
    /// List the flows
    Flows {
        /// Only flows that match, such as `proto=tcp and port in (22,80) and bytes>1M`
        #[arg(value_name = "FILTER")]
        filter: Vec<String>,
        /// How many at most; more than 100,000 with --json, unsorted
        #[arg(long, default_value_t = 1000, value_name = "N")]
        limit: usize,
        /// Field to sort by: largest, latest, or A first; `-FIELD` turns it round; `none`: as they come
        #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
        sort: Option<String>,
        /// Those of the kernel's own connection tracking instead, largest first; they have fields of their own, such as `nat_src=203.0.113.5`
        #[arg(long, conflicts_with = "sort")]
        netfilter: bool,
    },
    /// List the sockets of the machine, in all network namespaces: who owns them, what they do, which rule their packets met
    Sockets {
        /// Only sockets that match, such as `comm=nginx and state=established` or `remote=10.0.0.0/8`
        #[arg(value_name = "FILTER")]
        filter: Vec<String>,
        /// How many at most
        #[arg(long, default_value_t = 1000, value_name = "N")]
        limit: usize,
        /// Field to sort by: largest or A first; `-FIELD` turns it round; else listeners, then the busiest
        #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
        sort: Option<String>,
        /// Those that have ended, the latest first, and why: refused, dropped by a rule, timed out, no route, reset
        #[arg(long)]
        ended: bool,
        /// How many there are, and what became of their events: produced = delivered + lost
        #[arg(long, conflicts_with_all = ["filter", "sort", "ended"])]
        stats: bool,
        /// What the stack dropped, by the kernel's reasons; resets, and segments sent again
        #[arg(long, conflicts_with_all = ["filter", "sort", "ended", "stats"])]
        drops: bool,
    },
    /// Sum up sockets, live and ended, since the last reset
    #[command(subcommand)]
    Summary(SummaryCommand),
    /// Say what would become of a packet, and why: parser, flow, each rule that comes close, verdict, counters
    Explain(super::explain::ExplainArgs),
    /// Say what would become of the packets of a capture, by the live policy or by another one
    Replay(super::replay::ReplayArgs),
    /// Propose rules that let a unit, program, process or user do what was seen of it, and no more
    Learn {
        /// What it is
        #[arg(value_name = "WHAT", value_parser = ["unit", "exe", "process", "user"])]
        by: String,
        /// Which, such as `nginx.service` or `/usr/sbin/sshd`
        #[arg(value_name = "NAME")]
        owner: String,
        /// Look into the history as well: from then on, such as `24h` or `2026-11-22T10:00:00Z`
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
    /// Show one socket, note something on it, end sockets
    #[command(subcommand)]
    Socket(SocketCommand),
    /// Show events as they happen: new, established and ended flows, refused packets, logs
    Watch {
        /// Only events that match, such as `verdict=drop and src=10.0.0.0/8`
        #[arg(value_name = "FILTER")]
        filter: Vec<String>,
        /// Begin with up to N (at most 100) events that have been
        #[arg(long, default_value_t = 0, value_name = "N")]
        recent: usize,
        /// Stop after N events
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Show recent events, oldest first
    Events {
        /// Only events that match
        #[arg(value_name = "FILTER")]
        filter: Vec<String>,
        /// How many at most
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
    },
    /// Show what the daemon does: policy, interfaces, limits
    Status,
    /// Show totals: packets, reasons, lost events
    Stats,
    /// Counters of rules, reasons and events
    #[command(subcommand)]
    Counters(CountersCommand),
    /// Address translation
    #[command(subcommand)]
    Nat(NatCommand),
    /// Show what has been: sockets and flows that have ended, verdicts by minute, mappings; as rows, or summed up
    History(super::history::HistoryArgs),
    /// Show what remote addresses are called, as answers of DNS were seen to say; needs `names = true` under `[sockets]`
    Names {
        /// Only names that match, such as `name~github` or `address=10.0.0.0/8 and expired=false`
        #[arg(value_name = "FILTER")]
        filter: Vec<String>,
        /// How many at most
        #[arg(long, default_value_t = 1000, value_name = "N")]
        limit: usize,
        /// Field to sort by: largest, latest or A first; `-FIELD` turns it round; else the latest answers
        #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
        sort: Option<String>,
        /// What was seen of DNS and TLS, and what came of it: produced = delivered + lost
        #[arg(long, conflicts_with_all = ["filter", "sort"])]
        stats: bool,
    },
    /// Show every way that packets enter and leave by: which are filtered and counted, which aren't, and what to do
    Paths,
    /// Print the live policy as written
    Policy,
    /// Say what this kernel and machine can and can't do, and what to do about it
    Doctor,
    /// Print shell completions
    #[command(hide = true)]
    Completions {
        /// For which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// Where to
        dir: PathBuf,
    },
}

/// `sluice daemon`.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// Configuration file [default: /etc/sluice/sluice.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Policy file [default: /etc/sluice/policy.sluice]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// An interface to filter, instead of those of the configuration; MODE: auto, xdp, xdp-generic, tc
    #[arg(long = "iface", value_name = "NAME[=MODE]")]
    pub interfaces: Vec<Interface>,
    /// Where the console listens (loopback only) [default: 127.0.0.1:8470]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where programs, links and maps are pinned [default: /sys/fs/bpf/sluice]
    #[arg(long, value_name = "DIR")]
    pub pin_dir: Option<PathBuf>,
    /// Where the token and the last good policy are kept [default: /var/lib/sluice]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Take the filter down instead: nothing is filtered any more
    #[arg(long)]
    pub unload: bool,
}

impl DaemonArgs {
    /// What the command line says instead of the configuration.
    pub fn overrides(self, socket: Option<PathBuf>) -> Overrides {
        let Self { config, policy, interfaces, listen, pin_dir, state_dir, unload: _ } = self;
        Overrides { config, policy, interfaces, listen, pin_dir, state_dir, socket }
    }
}

/// `sluice apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The policy file; `-` is standard input
    pub file: PathBuf,
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Don't ask
    #[arg(long, short)]
    pub yes: bool,
    /// Apply it though it cuts off the SSH session this is typed in
    #[arg(long)]
    pub force: bool,
    /// Refuse if the live policy isn't of this generation any more
    #[arg(long, value_name = "N")]
    pub base_generation: Option<u32>,
}

/// Where a rule goes.
#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub struct PlaceArgs {
    /// To this place, counted from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub position: Option<u32>,
    /// Before this rule
    #[arg(long, value_name = "RULE")]
    pub before: Option<String>,
    /// Behind this rule
    #[arg(long, value_name = "RULE")]
    pub after: Option<String>,
}

/// What every edit may say.
#[derive(Debug, Default, Args)]
pub struct EditArgs {
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Do it though it cuts off the SSH session this is typed in
    #[arg(long)]
    pub force: bool,
    /// Refuse if the live policy isn't of this generation any more
    #[arg(long, value_name = "N")]
    pub base_generation: Option<u32>,
}

/// `sluice rule`.
#[derive(Debug, Subcommand)]
pub enum RuleCommand {
    /// Add a rule, at the end if nothing else is said
    Add {
        /// Where to
        #[command(flatten)]
        place: PlaceArgs,
        /// How
        #[command(flatten)]
        edit: EditArgs,
        /// The rule: `web allow in tcp to port 80` (the word `rule` may stand in front)
        #[arg(required = true, value_name = "RULE")]
        text: Vec<String>,
    },
    /// Delete a rule
    Delete {
        /// Its name
        name: String,
        /// How
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Move a rule
    Move {
        /// Its name
        name: String,
        /// Where to
        #[command(flatten)]
        place: PlaceArgs,
        /// How
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Let a rule take part again
    Enable {
        /// Its name
        name: String,
        /// How
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Keep a rule in the file, but out of the filter
    Disable {
        /// Its name
        name: String,
        /// How
        #[command(flatten)]
        edit: EditArgs,
    },
}

/// `sluice nat`.
#[derive(Debug, Subcommand)]
pub enum NatCommand {
    /// List the mappings in force: who inside is which public address and port, to whom
    Mappings {
        /// Only mappings that match, such as `inside=10.0.0.5 and public_port=40021`
        #[arg(value_name = "FILTER")]
        filter: Vec<String>,
        /// How many at most
        #[arg(long, default_value_t = 1000, value_name = "N")]
        limit: usize,
        /// Field to sort by: largest, latest, or A first; `-FIELD` turns it round [default: bytes]
        #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
        sort: Option<String>,
    },
    /// List the translations with what they have carried, ended flows and live ones
    Rules,
    /// List the hosts inside with what their translations have carried
    Hosts {
        /// How many at most
        #[arg(long, default_value_t = 1000, value_name = "N")]
        limit: usize,
        /// Field to sort by: bytes, packets, live, mappings, ended, failures, host; `-FIELD` turns it round [default: bytes]
        #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
        sort: Option<String>,
    },
    /// List the public addresses with their ports: in use, at most, refused
    Pools,
    /// Say who was behind a public address and port, as far back as the history goes
    Who {
        /// The public endpoint, such as `203.0.113.5:40021` or `[2001:db8::1]:40021`; without a port: all of the address
        #[arg(value_name = "ADDRESS[:PORT]")]
        endpoint: PublicEndpoint,
        /// When: `2026-11-22T10:00:00Z`, or how long ago, such as `10m ago` [default: now]
        #[arg(long, value_name = "TIME", value_parser = parse_when)]
        at: Option<i64>,
        /// Only this protocol: tcp, udp, icmp, icmpv6, or a number
        #[arg(long)]
        proto: Option<String>,
        /// How many mappings at most
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
    },
}

fn parse_when(text: &str) -> Result<i64, String> {
    when::parse(text, now_ms()).map_err(|error| error.to_string())
}

/// `sluice flow`.
#[derive(Debug, Subcommand)]
pub enum FlowCommand {
    /// Take the flows that match out of the table: their next packets are judged as new ones
    Kill {
        /// Which flows, such as `src=10.0.0.7 and dport=25`
        #[arg(required = true, value_name = "FILTER")]
        filter: Vec<String>,
        /// Only show which
        #[arg(long)]
        dry_run: bool,
    },
}

/// `sluice summary`.
#[derive(Debug, Subcommand)]
pub enum SummaryCommand {
    /// By process, exe, user, host (the remote one), account (user and host), unit (container where there is none),
    /// container, protocol, rule, or instance (each socket by itself); most bytes first
    By {
        /// By what
        #[arg(value_name = "WHAT", value_parser = SUMMARIES)]
        what: String,
        /// Which rows, in what order
        #[command(flatten)]
        rows: SummaryRows,
    },
    /// Connections of users: those that are, and all that were
    Users(SummaryRows),
    /// Connections with remote hosts
    Hosts(SummaryRows),
    /// Connections of users with remote hosts
    Accounts(SummaryRows),
    /// Set all of it to zero, or one table; sockets that live count from now on
    Reset {
        /// The table
        #[arg(value_name = "WHAT", value_parser = SUMMARIES)]
        what: Option<String>,
    },
}

/// What sockets are summed up by.
const SUMMARIES: [&str; 10] = [
    "process",
    "exe",
    "user",
    "host",
    "account",
    "unit",
    "container",
    "protocol",
    "rule",
    "instance",
];

/// Which rows of a summary.
#[derive(Debug, Default, Args)]
pub struct SummaryRows {
    /// Only rows that match, such as `comm=nginx and connections>100` or `remote=10.0.0.0/8`
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Field to sort by: largest first, keys from A; `-FIELD` turns it round [default: bytes]
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// How many rows at most
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub top: usize,
}

/// `sluice socket`.
#[derive(Debug, Subcommand)]
pub enum SocketCommand {
    /// End the sockets that match: their owners' calls fail, TCP peers get a reset
    Kill {
        /// Which sockets, such as `comm=nc and remote=10.0.0.7`
        #[arg(required = true, value_name = "FILTER")]
        filter: Vec<String>,
        /// Only show which
        #[arg(long)]
        dry_run: bool,
        /// Also the connection that you came by
        #[arg(long)]
        force: bool,
        /// First refuse their remote addresses, by two rules at the top of the policy; says how to undo it
        #[arg(long)]
        block: bool,
    },
    /// Show all that is known of one socket: who made it and holds it, where it belongs, its flow and rule, notes
    Show {
        /// Its id, as in `sluice sockets --json` and `sluice summary by instance --json`
        id: String,
    },
    /// Watch one socket: round trip, congestion window, segments sent again, bytes a second; a line a second, until it ends
    Watch {
        /// Its id
        id: String,
        /// End after N lines
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// List what is known of sockets, live or ended, by name: a table of what `show` tells of one
    Attributes(super::attributes::AttributeArgs),
    /// Note something on a socket, as long as it is known; nothing takes the note away
    Note {
        /// Its id
        id: String,
        /// The note, at most 256 letters
        #[arg(value_name = "TEXT")]
        text: Vec<String>,
    },
}

/// `sluice counters`.
#[derive(Debug, Subcommand)]
pub enum CountersCommand {
    /// Set the counters of rules, reasons and events to zero; flows keep theirs
    Reset,
}
