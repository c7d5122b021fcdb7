//! The console's address on the host, carried into the gate's namespace.
//!
//! The daemon lives in a namespace with a loopback of its own. A socket belongs to the namespace
//! of the thread that made it: one thread in here moves into the gate and makes all connections.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::lab::{Lab, Place};

/// Connections carried at once; more wait in the listener's queue.
const MOST: usize = 64;

/// Starts carrying connections from `listener` to `to` inside the gate, until the process ends.
pub fn start(listener: TcpListener, lab: &Lab, to: SocketAddr) -> Result<()> {
    let (accepted, inbox) = sync_channel::<TcpStream>(MOST);
    let (ready, entered) = sync_channel::<Result<()>>(1);
    let lab = lab.clone();
    thread("proxy-gate", move || {
        let result = lab.enter(Place::Gate);
        let good = result.is_ok();
        if ready.send(result).is_ok() && good {
            connect_all(&inbox, to);
        }
    })?;
    entered.recv().map_err(|_| anyhow!("the console's proxy did not start"))??;
    thread("proxy-host", move || accept_all(&listener, &accepted))
}

fn accept_all(listener: &TcpListener, accepted: &SyncSender<TcpStream>) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                if accepted.send(stream).is_err() {
                    return;
                }
            }
            // Out of descriptors, or a client that has gone already.
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn connect_all(inbox: &Receiver<TcpStream>, to: SocketAddr) {
    for client in inbox {
        // A daemon that is restarting is met with a closed connection; the console tries again.
        if let Ok(server) = TcpStream::connect_timeout(&to, Duration::from_secs(2)) {
            let _ = carry(&client, &server);
        }
    }
}

/// Copies both ways on two threads until both ends are done.
fn carry(client: &TcpStream, server: &TcpStream) -> Result<()> {
    for (from, into) in [(client, server), (server, client)] {
        let mut from = from.try_clone().context("no descriptor")?;
        let mut into = into.try_clone().context("no descriptor")?;
        thread("proxy-copy", move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(n) = from.read(&mut buffer) {
                if n == 0 || into.write_all(&buffer[..n]).is_err() {
                    break;
                }
            }
            let _ = into.shutdown(Shutdown::Write);
            let _ = from.shutdown(Shutdown::Read);
        })?;
    }
    Ok(())
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .context("cannot start a thread")
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_ends_are_carried_both_ways() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(front.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let inner = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        carry(&front.accept().unwrap().0, &inner).unwrap();
        drop(inner);
        let mut served = server.accept().unwrap().0;
        client.write_all(b"ask").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut seen = String::new();
        served.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "ask");
        served.write_all(b"answer").unwrap();
        drop(served);
        let mut back = String::new();
        client.read_to_string(&mut back).unwrap();
        assert_eq!(back, "answer");
    }
}
