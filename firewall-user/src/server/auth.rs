//! Who may ask: the token, cookies made with it, and the price of a wrong one.

use super::{error::ApiError, routes::Peer};
use axum::http::StatusCode;
use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use subtle::ConstantTimeEq;
use thiserror::Error;
use tokio::sync::watch;

/// Bytes of randomness in a token and in a session key.
const KEY_BYTES: usize = 32;
/// A cookie session without any request or open WebSocket ends after this.
const SESSION_IDLE: Duration = Duration::from_secs(12 * 3600);
/// Cookie sessions at once; past that the longest unused one ends.
const MAX_SESSIONS: usize = 256;
/// Wrong tokens that cost nothing.
const FREE_ATTEMPTS: u32 = 5;
/// The longest wait after a wrong one.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Why there is no token.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The file can't be read or made.
    #[error("token file {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file holds something else.
    #[error(
        "token file {path} doesn't hold 64 hexadecimal digits: delete it, and the daemon makes a new one"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// No randomness.
    #[error("the system has no randomness to offer: {0}")]
    Random(getrandom::Error),
}

/// Reads the token, or makes one where there is none: 64 hexadecimal digits, readable by the
/// daemon's user only.
///
/// # Errors
/// The file can't be read or made, or holds something else.
pub fn load_or_make_token(path: &Path) -> Result<String, TokenError> {
    let io_error = |error| TokenError::Io { path: path.to_owned(), error };
    match fs::read_to_string(path) {
        Ok(text) => {
            let token = text.trim();
            if token.len() != 2 * KEY_BYTES || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(TokenError::Damaged { path: path.to_owned() });
            }
            let mode = fs::metadata(path).map_err(io_error)?.permissions().mode();
            if mode & 0o077 != 0 {
                log::warn!(
                    "token file {} could be read by others (mode {:o}): set to 600",
                    path.display(),
                    mode & 0o777
                );
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io_error)?;
            }
            Ok(token.to_ascii_lowercase())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let token = random_key().map_err(TokenError::Random)?;
            let mut options = fs::OpenOptions::new();
            let mut file =
                options.write(true).create_new(true).mode(0o600).open(path).map_err(io_error)?;
            io::Write::write_all(&mut file, format!("{token}\n").as_bytes()).map_err(io_error)?;
            file.sync_all().map_err(io_error)?;
            log::info!("made a token for the console and the API: {}", path.display());
            Ok(token)
        }
        Err(error) => Err(io_error(error)),
    }
}

fn random_key() -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; KEY_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What somebody may do. More roles come with more operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
}

impl Role {
    /// The name clients see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
        }
    }
}

/// How somebody showed who they are.
#[derive(Clone, Debug)]
pub enum Via {
    /// Root or the group, over the Unix socket.
    Socket,
    /// The token itself.
    Bearer,
    /// A session made by `login`; turns true when it ends.
    Cookie(watch::Receiver<bool>),
}

/// Somebody who was let in.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What they may do.
    pub role: Role,
    /// How they were let in.
    pub via: Via,
    /// Where they are, as far as the transport knows.
    pub from: Option<Peer>,
}

#[derive(Debug)]
struct Session {
    used: Instant,
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Attempts {
    wrong: u32,
    until: Option<Instant>,
}

/// The doorman. Time is an argument.
#[derive(Debug)]
pub struct Auth {
    token: String,
    cookie: String,
    sessions: Mutex<HashMap<String, Session>>,
    attempts: Mutex<Attempts>,
}

impl Auth {
    /// A doorman for the console on `port` (cookies don't know ports: the name has to).
    pub fn new(token: String, port: u16) -> Self {
        Self {
            token,
            cookie: format!("sluice-{port}"),
            sessions: Mutex::new(HashMap::new()),
            attempts: Mutex::new(Attempts::default()),
        }
    }

    /// Compares a token in constant time; a wrong one costs its sender, and everybody else who
    /// guesses, an ever longer wait.
    ///
    /// # Errors
    /// 401, or 429 while waiting.
    pub fn check_token(&self, seen: &str, now: Instant) -> Result<(), ApiError> {
        let mut attempts = lock(&self.attempts);
        // The length of a token is no secret; `ct_eq` is false at once for another one.
        if bool::from(seen.as_bytes().ct_eq(self.token.as_bytes())) {
            *attempts = Attempts::default();
            return Ok(());
        }
        if let Some(until) = attempts.until
            && now < until
        {
            return Err(too_many(until - now));
        }
        attempts.wrong = attempts.wrong.saturating_add(1);
        if attempts.wrong >= FREE_ATTEMPTS {
            let wait =
                Duration::from_secs(1 << (attempts.wrong - FREE_ATTEMPTS).min(6)).min(MAX_WAIT);
            attempts.until = Some(now + wait);
        }
        Err(unauthorized(
            "the token is wrong; it stands in the daemon's state directory, file `token`",
        ))
    }

    /// Exchanges the token for a cookie: the `Set-Cookie` header.
    ///
    /// # Errors
    /// As [`Self::check_token`], or 500 where the system has no randomness.
    pub fn login(&self, token: &str, now: Instant) -> Result<String, ApiError> {
        self.check_token(token, now)?;
        let key =
            random_key().map_err(|error| ApiError::internal(format!("no randomness: {error}")))?;
        let mut sessions = lock(&self.sessions);
        expire(&mut sessions, now);
        if sessions.len() >= MAX_SESSIONS
            && let Some(oldest) =
                sessions.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| key.clone())
            && let Some(session) = sessions.remove(&oldest)
        {
            session.ended.send_replace(true);
        }
        let header = format!("{}={key}; HttpOnly; SameSite=Strict; Path=/", self.cookie);
        sessions.insert(key, Session { used: now, ended: watch::Sender::new(false) });
        Ok(header)
    }

    /// Ends the session of this `Cookie` header, if there is one: the `Set-Cookie` header that clears it.
    pub fn logout(&self, cookies: &str) -> String {
        if let Some(key) = self.cookie_value(cookies)
            && let Some(session) = lock(&self.sessions).remove(key)
        {
            session.ended.send_replace(true);
        }
        format!("{}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0", self.cookie)
    }

    /// Who sent this `Authorization` and `Cookie`.
    ///
    /// # Errors
    /// 401 or 429.
    pub fn identify(
        &self,
        authorization: Option<&str>,
        cookies: Option<&str>,
        now: Instant,
    ) -> Result<Identity, ApiError> {
        if let Some(authorization) = authorization {
            let (scheme, token) = authorization.split_once(' ').unwrap_or((authorization, ""));
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(unauthorized(format!(
                    "Authorization: `{scheme}` isn't known here, `Bearer TOKEN` is"
                )));
            }
            self.check_token(token.trim(), now)?;
            return Ok(Identity { role: Role::Admin, via: Via::Bearer, from: None });
        }
        let Some(key) = cookies.and_then(|cookies| self.cookie_value(cookies)) else {
            return Err(unauthorized("log in first, or send `Authorization: Bearer TOKEN`"));
        };
        let mut sessions = lock(&self.sessions);
        expire(&mut sessions, now);
        match sessions.get_mut(key) {
            Some(session) => {
                session.used = now;
                let via = Via::Cookie(session.ended.subscribe());
                Ok(Identity { role: Role::Admin, via, from: None })
            }
            None => Err(unauthorized("this session has ended: log in again")),
        }
    }

    fn cookie_value<'a>(&self, cookies: &'a str) -> Option<&'a str> {
        cookies
            .split(';')
            .find_map(|cookie| cookie.trim().strip_prefix(self.cookie.as_str())?.strip_prefix('='))
    }
}

fn expire(sessions: &mut HashMap<String, Session>, now: Instant) {
    // Someone listens to `ended` as long as a WebSocket of the session is open.
    sessions.retain(|_, session| {
        let keep = session.ended.receiver_count() > 0
            || now.saturating_duration_since(session.used) < SESSION_IDLE;
        if !keep {
            session.ended.send_replace(true);
        }
        keep
    });
}

fn unauthorized(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
}

fn too_many(wait: Duration) -> ApiError {
    let seconds = wait.as_secs() + 1;
    let mut error = ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too-many-attempts",
        format!("too many wrong tokens: try again in {seconds} s"),
    );
    error.retry_after = Some(seconds);
    error
}

/// A panic elsewhere mustn't take the door with it: the maps are whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth() -> Auth {
        Auth::new("a".repeat(64), 8470)
    }

    #[test]
    fn a_cookie_works_until_logout_or_too_long_a_pause() {
        let (auth, now) = (auth(), Instant::now());
        let set = auth.login(&"a".repeat(64), now).expect("right token");
        assert!(
            set.contains("HttpOnly")
                && set.contains("SameSite=Strict")
                && !set.contains(&"a".repeat(64)),
            "{set}"
        );
        let cookie = format!("other=1; {}", set.split(';').next().unwrap_or(""));
        assert!(auth.identify(None, Some(&cookie), now).is_ok());
        let later = now + SESSION_IDLE - Duration::from_secs(1);
        let identity = auth.identify(None, Some(&cookie), later).expect("in time");
        let much_later = later + SESSION_IDLE * 2;
        assert!(auth.identify(None, Some(&cookie), much_later).is_ok(), "a WebSocket is open");
        auth.logout(&cookie);
        assert!(
            matches!(identity.via, Via::Cookie(ended) if *ended.borrow()),
            "the WebSocket is told"
        );
        assert_eq!(
            auth.identify(None, Some(&cookie), much_later).unwrap_err().status,
            StatusCode::UNAUTHORIZED
        );

        let set = auth.login(&"a".repeat(64), now).expect("right token");
        let cookie = set.split(';').next().unwrap_or("").to_owned();
        assert!(auth.identify(None, Some(&cookie), now + SESSION_IDLE).is_err());
    }

    #[test]
    fn wrong_tokens_wait_longer_and_right_ones_never() {
        let (auth, mut now) = (auth(), Instant::now());
        for _ in 0..FREE_ATTEMPTS {
            assert_eq!(auth.check_token("b", now).unwrap_err().status, StatusCode::UNAUTHORIZED);
        }
        let error = auth.check_token("b", now).unwrap_err();
        assert_eq!((error.status, error.retry_after), (StatusCode::TOO_MANY_REQUESTS, Some(2)));
        now += Duration::from_millis(1_001);
        assert_eq!(auth.check_token("b", now).unwrap_err().status, StatusCode::UNAUTHORIZED);
        assert_eq!(
            auth.check_token("b", now + Duration::from_millis(1_900)).unwrap_err().retry_after,
            Some(1)
        );
        for _ in 0..100 {
            now += Duration::from_secs(61);
            let _ = auth.check_token("b", now);
        }
        assert!(auth.check_token("b", now).unwrap_err().retry_after.is_some_and(|wait| wait <= 61));
        assert!(auth.check_token(&"a".repeat(64), now).is_ok());
        assert_eq!(auth.check_token("b", now).unwrap_err().status, StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn other_schemes_are_named() {
        let error = auth().identify(Some("Basic Zm9v"), None, Instant::now()).unwrap_err();
        assert!(error.body.message.contains("`Basic`"), "{error:?}");
    }

    #[test]
    fn the_token_is_made_once_and_kept_from_others() {
        let dir = std::env::temp_dir().join(format!("sluice-token-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("temporary directory");
        let path = dir.join("token");
        let _ = fs::remove_file(&path);
        let token = load_or_make_token(&path).expect("made");
        assert_eq!(token.len(), 64);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_make_token(&path).expect("read"), token);
        fs::write(&path, "short").expect("written");
        assert!(matches!(load_or_make_token(&path), Err(TokenError::Damaged { .. })));
        fs::remove_dir_all(&dir).expect("removed");
    }
}
