//! Connections that are broken off by who closes them.

use crate::stage::{SOON, Stage};
use sluice_tests::lab::wait_for;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

/// Closing breaks the connection off (SO_LINGER of no seconds).
fn lingers_not(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of_val(&linger) as u32;
    // SAFETY: the value is as long as said and outlives the call.
    let failed = unsafe {
        let value = (&raw const linger).cast();
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, length)
    };
    assert_eq!(failed, 0);
}

/// What each end of the connection from this port ended as: the caller's, the other.
fn ends(stage: &Stage, port: u16) -> (String, String) {
    let of = |filter: String| {
        let row = wait_for("its end", SOON, || stage.ended(&filter).pop()).unwrap();
        row["ended"].as_str().unwrap().to_owned()
    };
    (of(format!("local_port={port}")), of(format!("remote_port={port}")))
}

#[test]
fn a_reset_by_who_closes_is_told_from_an_end_in_order() {
    let test = "e2e_scenes::aborts::a_reset_by_who_closes_is_told_from_an_end_in_order";
    let Some(stage) = Stage::or_skip(test) else { return };
    let listener = stage.ns.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let pair = || {
        let client = stage.ns.run(|| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let port = client.local_addr().unwrap().port();
        (client, listener.accept().unwrap().0, port)
    };
    let both = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let read =
        |mut stream: &TcpStream| stream.read(&mut [0; 10]).map_err(|error| error.raw_os_error());
    let reset = Err(Some(libc::ECONNRESET));

    let (client, server, port) = pair();
    drop(client);
    assert_eq!(read(&server), Ok(0));
    drop(server);
    assert_eq!(ends(&stage, port), both("closed", "closed"));

    let (client, server, port) = pair();
    lingers_not(&client);
    drop(client);
    assert_eq!(read(&server), reset);
    assert_eq!(ends(&stage, port), both("aborted", "reset"));

    // What came wasn't read.
    let (client, mut server, port) = pair();
    server.write_all(b"hello").unwrap();
    client.peek(&mut [0; 5]).unwrap();
    drop(client);
    assert_eq!(read(&server), reset);
    assert_eq!(ends(&stage, port), both("aborted", "reset"));

    // The other end has closed already.
    let (client, server, port) = pair();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read(&client), Ok(0));
    lingers_not(&client);
    drop(client);
    assert_eq!(read(&server), reset);
    assert_eq!(ends(&stage, port), both("aborted", "reset"));

    // Nobody has accepted it.
    let client = stage.ns.run(|| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let port = client.local_addr().unwrap().port();
    drop(listener);
    assert_eq!(read(&client), reset);
    assert_eq!(ends(&stage, port), both("reset", "aborted"));
    assert_eq!(stage.ended(&format!("ended=aborted and remote_port={port}")).len(), 1);
}
