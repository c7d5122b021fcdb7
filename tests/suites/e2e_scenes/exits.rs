//! Owners that end while their sockets live on.

use crate::stage::{ACTOR, Actor, SOON, Stage, me, mine, number, owned};
use serde_json::Value;
use sluice_tests::lab::{passed, wait_for};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

/// The one row of the filter whose owner has ended.
fn left(stage: &Stage, filter: &str) -> Value {
    let found = wait_for("an owner that has ended", SOON, || {
        let rows = stage.live(&format!("{filter} and owner_exited=yes"));
        let [row] = rows.as_slice() else { return None };
        Some(row.clone())
    });
    found.unwrap_or_else(|late| panic!("{late}: {:#?}", stage.live(filter)))
}

#[test]
fn who_passes_a_descriptor_on_and_ends_is_its_owner_still() {
    let test = "e2e_scenes::exits::who_passes_a_descriptor_on_and_ends_is_its_owner_still";
    let Some(stage) = Stage::or_skip(test) else { return };
    let listener = stage.ns.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let to = listener.local_addr().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let input = Stdio::from(OwnedFd::from(theirs));
    let mut command = stage.ns.command(ACTOR);
    let mut actor = Actor::with_input(command.args(["give", &to.to_string()]), input);
    let (pid, port) = (actor.pid(), number(&actor.says(), "port"));
    let (mut server, _) = listener.accept().unwrap();
    let filter = format!("local_port={port}");
    let row = stage.row(&filter, 0, 0);
    owned(&row, pid, ACTOR);
    assert_eq!(row["owner_exited"], Value::Null, "{row:#}");
    // One word, and it ends.
    (&ours).write_all(b"\n").unwrap();
    drop(command);
    actor.ends();
    let row = left(&stage, &filter);
    owned(&row, pid, ACTOR);
    assert_eq!(row["holders"], serde_json::json!([]), "in a message: {row:#}");
    assert!(row["owner_exited"].as_str() >= row["created"].as_str(), "{row:#}");
    let mut client = TcpStream::from(passed(&ours).unwrap());
    client.write_all(&[7; 1000]).unwrap();
    server.read_exact(&mut [0; 1000]).unwrap();
    let row = left(&stage, &filter);
    owned(&row, pid, ACTOR);
    assert_eq!((&row["holders"][0]["pid"], &row["user_pid"]), (&me().0.into(), &me().0.into()));
    let (exited, shown) = (
        row["owner_exited"].clone(),
        stage.daemon().json(&["socket", "show", row["id"].as_str().unwrap()]),
    );
    assert_eq!(shown["socket"]["owner_exited"], exited);
    let text = stage.daemon().cli(&["sockets", &mine(&stage.ns, &filter)]).stdout;
    assert!(text.contains(&format!("scene-actor/{pid} (exited) > ")), "{text}");
    assert!(stage.live(&format!("{filter} and owner_exited=no")).is_empty());
    drop((client, server));
    let row = stage.end_of(&filter, 1000, 0);
    assert_eq!(row["owner_exited"], exited, "{row:#}");
}

#[test]
fn whose_number_comes_again_is_gone_still() {
    let test = "e2e_scenes::exits::whose_number_comes_again_is_gone_still";
    let Some(stage) = Stage::or_skip(test) else { return };
    let mut actor = stage.actor(&["heirs", "127.0.0.1:0"]);
    let said = actor.says();
    let [owner, heir, port] = ["number", "heir", "port"].map(|name| number(&said, name));
    let filter = format!("local_port={port} and state=listen");
    let row = left(&stage, &filter);
    owned(&row, owner as u32, ACTOR);
    assert_eq!(row["holders"].as_array().map(Vec::len), Some(1), "{row:#}");
    assert_eq!(row["holders"][0]["pid"], heir, "{row:#}");
    // What its child accepts is its own, too.
    let client = stage.ns.run(|| TcpStream::connect(("127.0.0.1", port as u16)).unwrap());
    left(
        &stage,
        &format!("local_port={port} and remote_port={}", client.local_addr().unwrap().port()),
    );
    // Another process of the same number.
    actor.goes_on();
    let other = number(&actor.says(), "port");
    let row = stage.row(&format!("local_port={other} and state=listen"), 0, 0);
    assert_eq!((&row["pid"], &row["owner_exited"]), (&owner.into(), &Value::Null), "{row:#}");
    let row = left(&stage, &filter);
    assert_eq!(row["pid"], owner, "{row:#}");
    actor.ends();
}

#[test]
fn a_threads_end_is_not_its_processs() {
    let test = "e2e_scenes::exits::a_threads_end_is_not_its_processs";
    let Some(stage) = Stage::or_skip(test) else { return };
    let mut actor = stage.actor(&["threads", "127.0.0.1:0"]);
    let (pid, said) = (actor.pid(), actor.says());
    // The first thread, which made one, has ended, and another, which made the other.
    for port in [number(&said, "first"), number(&said, "second")] {
        let row = wait_for("a row", SOON, || stage.live(&format!("local_port={port}")).pop());
        let row = row.unwrap();
        assert_eq!((&row["pid"], &row["owner_exited"]), (&pid.into(), &Value::Null), "{row:#}");
    }
    let stats = stage.daemon().json(&["sockets", "--stats"]);
    let exits = stats["events"].as_array().unwrap().iter().find(|row| row["class"] == "exited");
    let exits = exits.unwrap();
    assert_eq!((&exits["lost"], &stats["exits_unwatched"]), (&0.into(), &0.into()), "{stats:#}");
    actor.ends();
}
