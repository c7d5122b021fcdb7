//! A small web server: what is put there can be got, and it says who asks.

use super::traffic::{Server, TICK, listen};
use super::{LabError, NetNs};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Serves `GET` and `PUT` in memory; `GET /who` answers with the client's address and port as seen here.
#[derive(Debug)]
pub struct HttpServer {
    files: Files,
    _server: Server,
}

impl HttpServer {
    /// Listens on `address` in `ns`.
    ///
    /// # Errors
    /// Where the address can't be bound.
    pub fn start(ns: &NetNs, address: &str) -> Result<Self, LabError> {
        let listener = listen(ns, address)?;
        let files = Files::default();
        let theirs = files.clone();
        Ok(Self {
            files,
            _server: Server::start(move |stop| {
                while !stop.load(SeqCst) {
                    match listener.accept() {
                        Ok((stream, _)) => {
                            let files = theirs.clone();
                            // What goes wrong is for the client to notice.
                            std::thread::spawn(move || serve(stream, &files));
                        }
                        Err(_) => std::thread::sleep(TICK),
                    }
                }
            }),
        })
    }

    /// Puts a file there.
    pub fn put(&self, path: &str, body: Vec<u8>) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), body);
    }

    /// What lies there.
    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }
}

fn serve(stream: TcpStream, files: &Files) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let peer = stream.peer_addr()?;
    let mut reader = BufReader::with_capacity(1 << 16, stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let (mut length, mut waits) = (0, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim().to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                let bad = |_| Error::from(ErrorKind::InvalidData);
                length = value.trim().parse().map_err(bad)?;
            }
            waits |= line.starts_with("expect: 100-continue");
        }
        let mut words = first.split_whitespace();
        let (verb, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (status, body) = match verb {
            "PUT" => {
                if waits {
                    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body)?;
                files.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), body);
                ("201 Created", Vec::new())
            }
            _ if path == "/who" => ("200 OK", peer.to_string().into_bytes()),
            _ => {
                let found = files.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
                found.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body))
            }
        };
        stream.write_all(
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
        )?;
        stream.write_all(&body)?;
    }
}
