//! TCP by every way that its bytes may go.

use crate::stage::{ACTOR, Stage, me, number, owned};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

const BYTES: usize = 1_000_000;

/// The actor connects over the loopback device and sends or receives; both ends are looked at, alive and ended.
fn scene(test: &str, verb: &str, way: &str, at: &str) {
    let Some(stage) = Stage::or_skip(test) else { return };
    let listener = stage.ns.run(|| TcpListener::bind(at).unwrap());
    let to = listener.local_addr().unwrap();
    let mut actor = stage.actor(&[verb, way, &to.to_string(), &BYTES.to_string()]);
    let (mut stream, from) = listener.accept().unwrap();
    let sends = verb == "send";
    let mut played = 0;
    if sends {
        let mut buffer = [0; 16_384];
        while played < BYTES {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                n => played += n,
            }
        }
    } else {
        stream.write_all(&vec![7; BYTES]).unwrap();
    }
    let Some(said) = actor.says_or_skip(test) else { return };
    let moved = number(&said, if sends { "sent" } else { "received" });
    assert_eq!((moved, number(&said, "port")), (BYTES as u64, from.port().into()), "{said}");
    let (sent, received) = if sends { (moved, 0) } else { (0, moved) };
    let (pid, (me, test_exe)) = (actor.pid(), me());
    let (theirs, ours) = (
        format!("local_port={} and remote_port={}", from.port(), to.port()),
        format!("local_port={} and remote_port={}", to.port(), from.port()),
    );
    let row = stage.row(&theirs, sent, received);
    assert_eq!((&row["proto"], &row["state"]), (&"tcp".into(), &"established".into()), "{row:#}");
    assert_eq!(row["remote"], to.ip().to_string(), "{row:#}");
    assert_eq!(row["holders"][0]["pid"], pid, "{row:#}");
    owned(&row, pid, ACTOR);
    // What was spliced out of it, no call received.
    let calls = number(&row, if sends { "sends" } else { "receives" });
    assert_eq!(calls > 0, (verb, way) != ("receive", "splice"), "{row:#}");
    owned(&stage.row(&ours, received, sent), me, &test_exe);
    actor.ends();
    drop(stream);
    owned(&stage.end_of(&theirs, sent, received), pid, ACTOR);
    owned(&stage.end_of(&ours, received, sent), me, &test_exe);
}

macro_rules! scenes {
    ($($name:ident: $verb:literal $way:literal at $at:literal;)*) => {$(
        #[test]
        fn $name() {
            scene(concat!("e2e_scenes::tcp::", stringify!($name)), $verb, $way, $at);
        }
    )*};
}

scenes! {
    written: "send" "write" at "127.0.0.1:0";
    written_over_ipv6: "send" "write" at "[::1]:0";
    by_sendfile: "send" "sendfile" at "127.0.0.1:0";
    spliced_into: "send" "splice" at "127.0.0.1:0";
    by_zerocopy: "send" "zerocopy" at "127.0.0.1:0";
    by_io_uring: "send" "uring" at "127.0.0.1:0";
    by_io_uring_that_the_kernel_polls: "send" "uring-polled" at "127.0.0.1:0";
    by_io_uring_without_a_copy: "send" "uring-zerocopy" at "127.0.0.1:0";
    read: "receive" "read" at "127.0.0.1:0";
    looked_at_before_it_is_read: "receive" "peeked" at "[::1]:0";
    spliced_out_of: "receive" "splice" at "127.0.0.1:0";
    received_by_io_uring: "receive" "uring" at "127.0.0.1:0";
}
