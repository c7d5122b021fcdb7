//! An independent WebSocket client beside the daemon.

use super::{Daemon, NetNs};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// An answer may need a twin of the filter first, which takes seconds to load on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A Python that has `websockets`: Debian's own first, whatever else calls itself python3 shadows it.
pub fn python_with_websockets() -> Option<&'static str> {
    ["/usr/bin/python3", "python3"].into_iter().find(|python| {
        Command::new(python)
            .args(["-c", "import websockets"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

/// A WebSocket client in another language: a process that prints each message it gets, and sends each
/// line it is given. Lines that begin with `!` are for itself: see `websocket_client.py`.
#[derive(Debug)]
pub struct WsClient {
    child: Child,
    stdin: ChildStdin,
    messages: Receiver<Value>,
}

impl WsClient {
    /// Starts one in the daemon's namespace.
    ///
    /// # Panics
    /// Where the process can't be started.
    pub fn start(gate: &NetNs, python: &str, token: &str) -> Self {
        let script = crate::skip::repository().join("tests/suites/websocket_client.py");
        let mut child = gate
            .command(python)
            .arg(script)
            .arg(format!("ws://127.0.0.1:{}/api/v1/ws", Daemon::PORT))
            .env("SLUICE_TOKEN", token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a Python process");
        let stdin = child.stdin.take().expect("its input");
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line)
                    .unwrap_or_else(|e| json!({ "not_json": line, "error": e.to_string() }));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Self { child, stdin, messages }
    }

    /// Sends a line.
    ///
    /// # Panics
    /// Where the process is gone.
    pub fn send(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the client's input");
    }

    /// The next message that `wanted` accepts; what came before it is returned to nobody.
    ///
    /// # Panics
    /// Where none comes.
    #[track_caller]
    pub fn wait(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        loop {
            match self.messages.recv_timeout(SOON) {
                Ok(message) if wanted(&message) => return message,
                Ok(message) => seen.push(message.to_string().chars().take(300).collect::<String>()),
                Err(_) => panic!("no {what}; seen: {seen:#?}"),
            }
        }
    }
}

impl Drop for WsClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
