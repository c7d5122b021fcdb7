//! `/etc/sluice/sluice.toml`, and what the command line says instead.

use crate::{netfilter::Follow, policy::units, store};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};
use thiserror::Error;

/// Where the configuration stands if nothing else is said.
pub const DEFAULT_FILE: &str = "/etc/sluice/sluice.toml";
/// Where the policy stands.
pub const DEFAULT_POLICY: &str = "/etc/sluice/policy.sluice";
/// Where the control socket stands.
pub const DEFAULT_SOCKET: &str = "/run/sluice/sluice.sock";
/// Where the maps, programs and links are pinned.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/sluice";
/// Where token and last good policy are kept.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/sluice";

/// Where files of live sets are looked for.
pub const DEFAULT_SETS_DIR: &str = "/etc/sluice/sets";

/// Records that may wait to be written to the history: each takes some hundred bytes.
const HISTORY_QUEUE: std::ops::RangeInclusive<usize> = 1..=1_000_000;
/// Least bytes of a history.
const MIN_HISTORY: u64 = 1 << 20;

/// Why a configuration can't be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("configuration {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It isn't TOML, or has a setting that doesn't exist.
    #[error("configuration {path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column, what was seen and what was expected.
        message: String,
    },
}

/// Where a packet of an interface meets the filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// What fits the interface.
    #[default]
    Auto,
    /// In the driver.
    Xdp,
    /// Behind the driver, in the same place for any driver.
    XdpGeneric,
    /// At the traffic control hook.
    Tc,
}

impl Mode {
    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
        }
    }
}

/// An interface that takes part.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its mode.
    #[serde(default)]
    pub mode: Mode,
}

impl FromStr for Interface {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, mode) = text.split_once('=').unwrap_or((text, "auto"));
        let mode = match mode {
            "auto" => Mode::Auto,
            "xdp" => Mode::Xdp,
            "xdp-generic" => Mode::XdpGeneric,
            "tc" => Mode::Tc,
            other => return Err(format!("mode `{other}`: expected auto, xdp, xdp-generic or tc")),
        };
        if name.is_empty() || name.len() > 15 {
            return Err(format!("`{name}` can't be an interface's name: it has 1 to 15 bytes"));
        }
        Ok(Self { name: name.to_owned(), mode })
    }
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Where the console listens; loopback only.
    pub listen: SocketAddr,
    /// More values of `Host` that are right (behind a tunnel with another port).
    pub hosts: Vec<String>,
    /// More values of `Origin` that are right.
    pub origins: Vec<String>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8470)),
            hosts: Vec::new(),
            origins: Vec::new(),
        }
    }
}

/// `[history]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct History {
    /// Whether one is kept.
    pub enabled: bool,
    /// The database; `None`: `history.db` in the state directory.
    pub path: Option<PathBuf>,
    /// Bytes that it may have.
    pub max_bytes: u64,
    /// How long what has ended is remembered, ms; written as `30d`.
    #[serde(rename = "max_age", deserialize_with = "duration")]
    pub max_age_ms: u64,
    /// Records that may wait to be written; those that don't fit are lost, and counted.
    pub queue: usize,
}

impl Default for History {
    fn default() -> Self {
        let limits = store::Limits::default();
        Self {
            enabled: true,
            path: None,
            max_bytes: limits.max_bytes,
            max_age_ms: limits.max_age_ms,
            queue: limits.queue,
        }
    }
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    units::duration_ms(&text).filter(|ms| *ms > 0).ok_or_else(|| {
        D::Error::custom(format!("`{text}`: expected a duration such as `30d`, `12h` or `1d12h`"))
    })
}

/// `[netfilter]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Netfilter {
    /// Whether the kernel's own connection tracking is shown beside ours: `"auto"`, `true`, `false`.
    #[serde(deserialize_with = "follow")]
    pub enabled: Follow,
}

fn follow<'de, D: Deserializer<'de>>(from: D) -> Result<Follow, D::Error> {
    match toml::Value::deserialize(from)? {
        toml::Value::Boolean(true) => Ok(Follow::Always),
        toml::Value::Boolean(false) => Ok(Follow::Never),
        toml::Value::String(word) if word == "auto" => Ok(Follow::Auto),
        other => Err(D::Error::custom(format!("{other}, expected \"auto\", true or false"))),
    }
}

/// `[sockets]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SocketSettings {
    /// Whether the sockets of the machine are followed.
    pub enabled: bool,
    /// Whether what they reached is named, by answers of DNS and ClientHellos that are seen on the wire.
    pub names: bool,
}

impl Default for SocketSettings {
    fn default() -> Self {
        Self { enabled: true, names: false }
    }
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Policy file.
    pub policy: PathBuf,
    /// Control socket.
    pub socket: PathBuf,
    /// Group whose members may use it.
    pub group: String,
    /// Where things are pinned.
    pub pin_dir: PathBuf,
    /// Where token, last good policy, history and entries of live sets are kept.
    pub state_dir: PathBuf,
    /// Where files of live sets are looked for.
    pub sets_dir: PathBuf,
    /// Most flows, per family; takes effect when the filter is loaded anew.
    pub max_flows: u32,
    /// Size of the event ring, bytes (a power of two); takes effect when the filter is loaded anew.
    pub ring_bytes: u32,
    /// Interfaces that take part.
    pub interface: Vec<Interface>,
    /// The console.
    pub server: Server,
    /// What has been.
    pub history: History,
    /// The kernel's own connection tracking.
    pub netfilter: Netfilter,
    /// The machine's sockets and who owns them.
    pub sockets: SocketSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: DEFAULT_POLICY.into(),
            socket: DEFAULT_SOCKET.into(),
            group: "sluice".into(),
            pin_dir: DEFAULT_PIN_DIR.into(),
            state_dir: DEFAULT_STATE_DIR.into(),
            sets_dir: DEFAULT_SETS_DIR.into(),
            max_flows: 262_144,
            ring_bytes: 8 << 20,
            interface: Vec::new(),
            server: Server::default(),
            history: History::default(),
            netfilter: Netfilter::default(),
            sockets: SocketSettings::default(),
        }
    }
}

impl Config {
    /// Reads a file. Where `path` is `None`, the default one, which needn't be there.
    ///
    /// # Errors
    /// It can't be read or understood; the message has line and column.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(ConfigError::Read { path: file.to_owned(), error }),
        };
        Self::parse(&text).map_err(|message| ConfigError::Parse { path: file.to_owned(), message })
    }

    /// Where the history stands.
    pub fn history_path(&self) -> PathBuf {
        self.history.path.clone().unwrap_or_else(|| self.state_dir.join("history.db"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if !config.ring_bytes.is_power_of_two() || config.ring_bytes < 4096 {
            return Err(format!(
                "ring_bytes is {}, expected a power of two of at least 4096",
                config.ring_bytes
            ));
        }
        if config.max_flows == 0 {
            return Err("max_flows is 0, expected at least 1".into());
        }
        if config.history.max_bytes < MIN_HISTORY {
            return Err(format!(
                "[history] max_bytes is {}, expected at least {MIN_HISTORY} (1 MiB); \
                 `enabled = false` keeps no history",
                config.history.max_bytes
            ));
        }
        if !HISTORY_QUEUE.contains(&config.history.queue) {
            return Err(format!(
                "[history] queue is {}, expected {} to {} records",
                config.history.queue,
                HISTORY_QUEUE.start(),
                HISTORY_QUEUE.end()
            ));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_can_be_said() {
        let config = Config::parse(
            r#"
            policy = "/p"
            socket = "/s"
            group = "ops"
            pin_dir = "/sys/fs/bpf/x"
            state_dir = "/state"
            sets_dir = "/lists"
            max_flows = 1000
            ring_bytes = 65536
            [[interface]]
            name = "eth0"
            mode = "xdp-generic"
            [[interface]]
            name = "eth1"
            [server]
            listen = "[::1]:9000"
            hosts = ["gate:9000"]
            origins = ["http://gate:9000"]
            [history]
            enabled = true
            path = "/log/history.db"
            max_bytes = 1048576
            max_age = "1d12h"
            [netfilter]
            enabled = false
            [sockets]
            names = true
            "#,
        )
        .expect("valid");
        assert_eq!(config.interface[0].mode, Mode::XdpGeneric);
        assert_eq!(config.interface[1].mode, Mode::Auto);
        assert_eq!(config.server.listen.port(), 9000);
        assert_eq!(config.history.max_age_ms, 36 * 3_600_000);
        assert_eq!(config.history_path(), Path::new("/log/history.db"));
        assert_eq!(config.sets_dir, Path::new("/lists"));
        assert_eq!(config.netfilter.enabled, Follow::Never);
        assert!(config.sockets.enabled && config.sockets.names);
        let config = Config { state_dir: "/state".into(), ..Config::default() };
        assert_eq!(config.history_path(), Path::new("/state/history.db"));
        let said = |text: &str| Config::parse(text).expect("valid").netfilter.enabled;
        assert_eq!(said("netfilter.enabled = true"), Follow::Always);
        assert_eq!(said("netfilter.enabled = \"auto\""), Follow::Auto);
        assert_eq!(Config::parse("").expect("valid"), Config::default());
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, words) in [
            ("polcy = \"/p\"", ["polcy", "policy", "line 1"]),
            ("[server]\nlisten = \"nowhere\"", ["line 2", "listen", "address"]),
            ("[[interface]]\nname = \"a\"\nmode = \"fast\"", ["line 3", "fast", "xdp-generic"]),
            ("[netfilter]\nenabled = \"maybe\"", ["line 2", "maybe", "true or false"]),
            ("ring_bytes = 5000", ["5000", "power of two", "4096"]),
            ("[history]\nmax_age = \"a month\"", ["line 2", "a month", "30d"]),
            ("[history]\nmax_age = \"0s\"", ["line 2", "0s", "30d"]),
            ("[history]\nmax_age = 30", ["line 2", "max_age", "string"]),
            ("[history]\nmax_bytes = 5000", ["max_bytes", "5000", "1 MiB"]),
            ("[history]\nqueue = 0", ["queue", "0", "1000000"]),
        ] {
            let error = Config::parse(text).expect_err(text);
            for word in words {
                assert!(error.contains(word), "`{word}` is missing in: {error}");
            }
        }
    }

    #[test]
    fn interfaces_on_the_command_line() {
        assert_eq!(
            "eth0=tc".parse::<Interface>().map(|i| (i.name, i.mode)),
            Ok(("eth0".into(), Mode::Tc))
        );
        assert_eq!("eth0".parse::<Interface>().map(|i| i.mode), Ok(Mode::Auto));
        assert!("eth0=fast".parse::<Interface>().unwrap_err().contains("xdp-generic"));
        assert!("=tc".parse::<Interface>().is_err());
    }
}
