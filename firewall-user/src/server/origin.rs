//! Which `Host` and `Origin` belong here. Keeps other web pages (and names that were rebound to
//! 127.0.0.1) from talking to the daemon with the operator's browser.

use super::error::ApiError;
use axum::http::StatusCode;
use serde_json::json;
use std::net::SocketAddr;

/// The lists.
#[derive(Clone, Debug)]
pub struct Origins {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Origins {
    /// The daemon's own names for the address it listens on, and what the configuration adds.
    pub fn new(listen: SocketAddr, more_hosts: &[String], more_origins: &[String]) -> Self {
        let port = listen.port();
        let mut hosts = vec![listen.to_string()];
        hosts.extend(["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{port}")));
        // A browser leaves out the default port.
        if port == 80 {
            hosts.extend(["127.0.0.1", "localhost", "[::1]"].map(str::to_owned));
        }
        hosts.extend(more_hosts.iter().map(|host| host.to_ascii_lowercase()));
        hosts.sort();
        hosts.dedup();
        let origins = hosts
            .iter()
            .map(|host| format!("http://{host}"))
            .chain(
                more_origins.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()),
            )
            .collect();
        Self { hosts, origins }
    }

    /// Checks a `Host` header.
    ///
    /// # Errors
    /// 403 that names what was seen, what is expected, and the setting.
    pub fn check_host(&self, host: Option<&str>) -> Result<(), ApiError> {
        let seen = host.unwrap_or("").to_ascii_lowercase();
        if self.hosts.contains(&seen) {
            return Ok(());
        }
        Err(refused("bad-host", "Host", &seen, &self.hosts, "server.hosts"))
    }

    /// Checks an `Origin` header, where there is one.
    ///
    /// # Errors
    /// 403 that names what was seen, what is expected, and the setting.
    pub fn check_origin(&self, origin: Option<&str>) -> Result<(), ApiError> {
        let Some(origin) = origin else { return Ok(()) };
        let seen = origin.to_ascii_lowercase();
        if self.origins.contains(&seen) {
            return Ok(());
        }
        Err(refused("bad-origin", "Origin", &seen, &self.origins, "server.origins"))
    }

    /// Insists on an `Origin`: for what a browser asks with a cookie and what changes something.
    ///
    /// # Errors
    /// 403, as [`Self::check_origin`].
    pub fn require_origin(&self, origin: Option<&str>) -> Result<(), ApiError> {
        match origin {
            Some(_) => self.check_origin(origin),
            None => Err(refused("bad-origin", "Origin", "", &self.origins, "server.origins")),
        }
    }
}

fn refused(code: &str, header: &str, seen: &str, expected: &[String], setting: &str) -> ApiError {
    let what = if seen.is_empty() {
        format!("there is no {header}")
    } else {
        format!("{header} is `{seen}`")
    };
    ApiError::new(
        StatusCode::FORBIDDEN,
        code,
        format!(
            "{what}, expected one of: {}; the setting `{setting}` adds to them",
            expected.join(", ")
        ),
    )
    .details(json!({"seen": seen, "expected": expected, "setting": setting}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_and_configured_ones_only() {
        let listen = "127.0.0.1:8470".parse().expect("an address");
        let origins = Origins::new(
            listen,
            &["Gate.example:9000".into()],
            &["https://console.example/".into()],
        );
        for host in [
            "127.0.0.1:8470",
            "localhost:8470",
            "LOCALHOST:8470",
            "[::1]:8470",
            "gate.example:9000",
        ] {
            assert!(origins.check_host(Some(host)).is_ok(), "{host}");
        }
        for host in
            [None, Some(""), Some("127.0.0.1"), Some("127.0.0.1:80"), Some("evil.example:8470")]
        {
            assert!(origins.check_host(host).is_err(), "{host:?}");
        }
        for origin in [
            None,
            Some("http://localhost:8470"),
            Some("https://console.example"),
            Some("http://gate.example:9000"),
        ] {
            assert!(origins.check_origin(origin).is_ok(), "{origin:?}");
        }
        for origin in [
            "null",
            "https://localhost:8470",
            "http://localhost:8471",
            "http://localhost:8470.evil.example",
        ] {
            let error = origins.check_origin(Some(origin)).unwrap_err();
            assert_eq!(error.body.details["seen"], origin);
            assert_eq!(error.body.details["setting"], "server.origins");
        }
        assert!(origins.require_origin(None).is_err());
    }
}
