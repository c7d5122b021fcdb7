//! More than one process at a socket, and processes that see another machine than we do.

use crate::stage::{ACTOR, Actor, Stage, is_near, me, number, owned};
use sluice_tests::lab::pass;
use std::ffi::CString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

const BYTES: usize = 300_000;

fn read_all(listener: &TcpListener) -> (TcpStream, u64) {
    let (mut stream, _) = listener.accept().unwrap();
    let (mut buffer, mut read) = (vec![0; 65_536], 0);
    while read < BYTES {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            n => read += n,
        }
    }
    (stream, read as u64)
}

#[test]
fn a_proxy_owns_what_it_opens_for_others() {
    let test = "e2e_scenes::crowd::a_proxy_owns_what_it_opens_for_others";
    let Some(stage) = Stage::or_skip(test) else { return };
    let listener = stage.ns.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let to = listener.local_addr().unwrap();
    let at = std::env::temp_dir().join(format!("sluice-scene-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&at);
    let mut proxy = stage.actor(&["proxy", at.to_str().unwrap(), &to.to_string()]);
    assert_eq!(proxy.says()["ready"], true);
    let mut client = UnixStream::connect(&at).unwrap();
    client.write_all(&vec![7; BYTES]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (stream, read) = read_all(&listener);
    let said = proxy.says();
    assert_eq!((number(&said, "sent"), read), (BYTES as u64, BYTES as u64));
    // Who speaks at the Unix socket has no part in what goes over the network.
    let row = stage.row(&format!("remote_port={}", to.port()), read, 0);
    owned(&row, proxy.pid(), ACTOR);
    assert!(row["user_pid"].is_null() && row["local_port"] == said["port"], "{row:#}");
    let rows = stage.live("state=established");
    assert_eq!(rows.len(), 2, "both ends of one connection, and no Unix socket: {rows:#?}");
    drop(stream);
    proxy.ends();
    let _ = std::fs::remove_file(&at);
}

#[test]
fn children_of_a_prefork_server_are_its_users() {
    let test = "e2e_scenes::crowd::children_of_a_prefork_server_are_its_users";
    let Some(stage) = Stage::or_skip(test) else { return };
    let mut server = stage.actor(&["prefork", "4", "127.0.0.1:0"]);
    let said = server.says();
    let port = number(&said, "port");
    let children: Vec<u64> =
        said["children"].as_array().unwrap().iter().filter_map(serde_json::Value::as_u64).collect();
    let mut served = Vec::new();
    for i in 1..=20u64 {
        let bytes = i * 10_000;
        let mut client = stage.ns.run(|| TcpStream::connect(("127.0.0.1", port as u16)).unwrap());
        client.write_all(&vec![7; bytes as usize]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = BufReader::new(&client);
        let (mut who, mut rest) = (Vec::new(), vec![0; bytes as usize]);
        answer.read_until(b' ', &mut who).unwrap();
        let left = bytes as usize - who.len();
        answer.read_exact(&mut rest[..left]).unwrap();
        let who: u64 = std::str::from_utf8(&who).unwrap().trim().parse().unwrap();
        served.push((client.local_addr().unwrap().port(), who, bytes));
        // The server's end stays open.
        std::mem::forget(client);
    }
    let mut users: Vec<u64> = served.iter().map(|(_, who, _)| *who).collect();
    for (port_there, who, bytes) in served {
        let filter = format!("local_port={port} and remote_port={port_there}");
        let row = stage.row(&filter, bytes, bytes);
        owned(&row, server.pid(), ACTOR);
        assert_eq!((&row["user_pid"], &row["user_comm"]), (&who.into(), &"scene-actor".into()));
        let holders: Vec<_> =
            row["holders"].as_array().unwrap().iter().map(|h| &h["pid"]).collect();
        assert_eq!(holders, [&who], "{row:#}");
        assert!(children.contains(&who));
    }
    users.sort_unstable();
    users.dedup();
    assert!(users.len() > 1, "more than one child had work: {users:?}");
    let listening = stage.row(&format!("local_port={port} and state=listen"), 0, 0);
    assert_eq!(listening["holders"].as_array().map(Vec::len), Some(5), "{listening:#}");
    server.ends();
}

#[test]
fn a_descriptor_that_is_passed_on_keeps_its_owner() {
    let test = "e2e_scenes::crowd::a_descriptor_that_is_passed_on_keeps_its_owner";
    let Some(stage) = Stage::or_skip(test) else { return };
    let listener = stage.ns.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let to = listener.local_addr().unwrap();
    let client = stage.ns.run(|| TcpStream::connect(to).unwrap());
    let port = client.local_addr().unwrap().port();
    let (ours, theirs) = UnixStream::pair().unwrap();
    // In the message, and nobody's descriptor: it is still there.
    pass(&ours, &client).unwrap();
    drop(client);
    let filter = format!("local_port={port}");
    let (pid, exe) = me();
    let row = stage.row(&filter, 0, 0);
    owned(&row, pid, &exe);
    assert_eq!(row["holders"], serde_json::json!([]), "{row:#}");
    let input = Stdio::from(std::os::fd::OwnedFd::from(theirs));
    let mut command = stage.ns.command(ACTOR);
    let mut actor = Actor::with_input(command.args(["take", &BYTES.to_string()]), input);
    let (stream, read) = read_all(&listener);
    assert_eq!((number(&actor.says(), "sent"), read), (BYTES as u64, BYTES as u64));
    let row = stage.row(&filter, read, 0);
    owned(&row, pid, &exe);
    let user = (actor.pid().into(), "scene-actor".into());
    assert_eq!((&row["user_pid"], &row["user_comm"]), (&user.0, &user.1), "{row:#}");
    assert_eq!(row["holders"][0]["pid"], user.0, "{row:#}");
    drop(ours);
    drop(command);
    actor.ends();
    drop(stream);
    let row = stage.end_of(&filter, read, 0);
    owned(&row, pid, &exe);
    assert_eq!(row["user_pid"], user.0, "{row:#}");
}

/// A control group of version 2, made for a scene.
pub struct Group(pub PathBuf);

impl Group {
    pub fn new(name: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let place = mounts.lines().find_map(|line| {
            let mut words = line.split(' ');
            let (place, kind) = (words.nth(1)?, words.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(place))
        })?;
        let path = place.join(name);
        std::fs::create_dir_all(&path).unwrap();
        Some(Self(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Those within may still be on their way out.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The only child of a process.
fn child_of(pid: u32) -> Option<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|child| parent(*child) == Some(pid))
}

#[test]
fn a_container_is_named_and_its_numbers_are_ours() {
    let test = "e2e_scenes::crowd::a_container_is_named_and_its_numbers_are_ours";
    if let Some(why) = sluice_tests::lab::missing_tools(&["unshare"]) {
        sluice_tests::skip::skip(test, &why);
        return;
    }
    let Some(stage) = Stage::or_skip(test) else { return };
    let id = format!("{:064x}", u128::from(std::process::id()) << 64 | 0x5ce0e);
    let Some(group) = Group::new(&format!("docker-{id}.scope")) else {
        sluice_tests::skip::skip(test, "cgroup v2 isn't mounted");
        return;
    };
    let listener = stage.ns.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let to = listener.local_addr().unwrap();
    let mut command = stage.ns.command("unshare");
    // Processes, mounts, control groups, names: all its own, as a container's.
    let apart = ["--pid", "--fork", "--kill-child", "--mount-proc", "--cgroup", "--uts", "--ipc"];
    let words = ["send", "write", &to.to_string(), &BYTES.to_string()].map(str::to_owned);
    command.args(apart).arg(ACTOR).args(words);
    let procs = CString::new(group.0.join("cgroup.procs").to_str().unwrap()).unwrap();
    // SAFETY: between fork and exec the closure makes system calls with what was made before.
    unsafe {
        command.pre_exec(move || {
            let file = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            if file < 0 || libc::write(file, c"0".as_ptr().cast(), 1) != 1 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut actor = Actor::start(&mut command);
    let (stream, read) = read_all(&listener);
    let port = number(&actor.says(), "port");
    let pid = child_of(actor.pid()).expect("a process within");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let numbers = status.lines().find(|line| line.starts_with("NSpid:")).unwrap();
    assert!(numbers.ends_with("\t1"), "it is the first of its namespace: {numbers}");
    let filter = format!("local_port={port} and container={id}");
    let row = stage.row(&filter, read, 0);
    owned(&row, pid, ACTOR);
    assert_eq!(row["unit"], format!("docker-{id}.scope"), "{row:#}");
    assert_eq!((&row["holders"][0]["pid"], &row["own_netns"]), (&pid.into(), &false.into()));
    actor.ends();
    drop(stream);
    owned(&stage.end_of(&filter, read, 0), pid, ACTOR);
    // And what all of the container did, on one row.
    let sums = stage.daemon().rows(&["summary", "by", "container", "--top", "10000"]);
    let sum = sums.iter().find(|row| row["key"] == id).expect("a row of the container's");
    assert!(is_near(&sum["sent_bytes"], read), "{sum:#}");
}
