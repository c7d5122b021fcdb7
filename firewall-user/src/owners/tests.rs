use super::*;
use std::process::{Command, Stdio};

/// A process as the kernel would stamp it.
fn stamped(pid: u32) -> Process {
    let stat = procfs::process::Process::new(pid as i32).and_then(|about| about.stat());
    let stat = stat.expect("a process");
    let mut comm = [0; 16];
    comm[..stat.comm.len()].copy_from_slice(stat.comm.as_bytes());
    // Somewhere within the tick.
    let start_ns = stat.starttime * (SECOND / procfs::ticks_per_second()) + 1_234_567;
    Process { tgid: pid, start_ns, comm, exe_inode: 7, ..Process::default() }
}

#[test]
fn a_living_process_is_read() {
    let me = stamped(std::process::id());
    let mut owners = Owners::default();
    assert!(owners.get(&me).is_none() && owners.is_new(&me));
    owners.learn(&me);
    let owner = owners.get(&me).expect("learnt");
    let exe = std::env::current_exe().expect("a path");
    assert_eq!(owner.exe.as_deref(), Some(&*exe.to_string_lossy()));
    assert_eq!(owner.user.as_deref(), Some("root"), "of user 0");
    assert!(owner.seen && owner.cmdline.is_some() && !owners.is_new(&me));
}

#[test]
fn another_start_is_another_process() {
    let mut me = stamped(std::process::id());
    // A second earlier: the number was another's then.
    me.start_ns -= SECOND;
    let mut owners = Owners::default();
    owners.learn(&me);
    let owner = owners.get(&me).expect("learnt");
    assert!(!owner.seen && owner.exe.is_none() && owner.cmdline.is_none(), "{owner:?}");
    assert_eq!(owner.user.as_deref(), Some("root"), "what the kernel said");
    // Others that ran the same file say what it is called.
    let mut owners = Owners::default();
    owners.learn(&stamped(std::process::id()));
    owners.learn(&me);
    let owner = owners.get(&me).expect("learnt");
    assert!(!owner.seen && owner.cmdline.is_none());
    let exe = std::env::current_exe().expect("a path");
    assert_eq!(owner.exe.as_deref(), Some(&*exe.to_string_lossy()));
}

/// The same, with its executable as the kernel numbers it.
fn stamped_with_file(pid: u32) -> Process {
    let file = std::fs::metadata(format!("/proc/{pid}/exe")).expect("an executable");
    let device = rustix::fs::major(file.dev()) << 20 | rustix::fs::minor(file.dev());
    Process { exe_inode: file.ino(), exe_device: device, ..stamped(pid) }
}

#[test]
fn an_exec_under_the_same_name_is_noticed() {
    let folder = std::env::temp_dir().join(format!("sluice-owners-{}", std::process::id()));
    let program = |of: &str, from: &str| {
        let folder = folder.join(of);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::copy(from, folder.join("same")).expect("a copy");
        folder.join("same").display().to_string()
    };
    let (first, second) = (program("a", "/bin/sh"), program("b", "/bin/cat"));
    let mut child = Command::new(&first)
        .args(["-c", &format!("read x; exec {second}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a shell");
    settled(&child);
    let before = stamped_with_file(child.id());
    let mut owners = Owners::default();
    owners.learn(&before);
    use std::io::Write as _;
    child.stdin.as_mut().expect("a pipe").write_all(b"go\n").expect("written");
    let after = (0..500)
        .map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            stamped_with_file(child.id())
        })
        .find(|now| now.exe_inode != before.exe_inode)
        .expect("another program");
    assert_eq!((after.comm, after.start_ns), (before.comm, before.start_ns), "the same in name");
    assert!(owners.is_new(&after));
    owners.learn(&after);
    let exe = |owners: &Owners, of: &Process| owners.get(of).and_then(|owner| owner.exe.clone());
    assert_eq!(exe(&owners, &after).as_deref(), Some(&*second));
    assert_eq!(exe(&owners, &before).as_deref(), Some(&*first), "who made a socket before");
    for _ in 0..2 {
        // Sockets from before and after it: nobody is read at each look.
        assert!(!owners.is_new(&before) && !owners.is_new(&after));
    }
    // Whoever comes too late isn't taken in: what runs now isn't what was stamped.
    let mut late = Owners::default();
    late.learn(&before);
    let owner = late.get(&before).expect("learnt");
    assert!(owner.exe.is_none() && owner.cmdline.is_none() && !owner.seen, "{owner:?}");
    assert_eq!(owner.user.as_deref(), Some("root"));
    drop(child.stdin.take());
    child.wait().expect("the end");
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn who_changes_names_all_the_time_is_not_read_all_the_time() {
    let mut owners = Owners::default();
    let mut me = stamped(std::process::id());
    let mut read = 0;
    for i in 0..100u8 {
        me.comm[0] = b'a' + i % 26;
        read += usize::from(owners.is_new(&me));
        owners.learn(&me);
    }
    assert_eq!(read, NAMES);
}

#[test]
fn who_becomes_another_program_is_read_again() {
    let script = "read x; exec cat";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a shell");
    let mut owners = Owners::default();
    let before = stamped(child.id());
    owners.learn(&before);
    use std::io::Write as _;
    child.stdin.as_mut().expect("a pipe").write_all(b"go\n").expect("written");
    let after = (0..500)
        .map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            stamped(child.id())
        })
        .find(|now| now.comm != before.comm)
        .expect("another program");
    assert_eq!(after.start_ns, before.start_ns, "the same process");
    assert!(owners.is_new(&after));
    owners.learn(&after);
    let owner = owners.get(&after).expect("learnt");
    assert!(owner.exe.as_deref().is_some_and(|exe| exe.ends_with("cat")), "{owner:?}");
    drop(child.stdin.take());
    child.wait().expect("the end");
    // Gone: what was read stays.
    owners.learn(&after);
    assert!(owners.get(&after).is_some_and(|owner| owner.seen));
}

/// Arguments of a child: a program that is just being started has none yet.
fn settled(child: &std::process::Child) -> String {
    let read = || arguments(child.id() as i32).expect("its arguments");
    (0..500)
        .map(|_| read())
        .find(|text| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            !text.is_empty()
        })
        .expect("it starts")
}

#[test]
fn arguments_may_be_any_bytes() {
    use std::os::unix::ffi::OsStrExt as _;
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let mut child = Command::new("sleep").args(["5"]).arg("5").spawn().expect("sleep");
    let plain = settled(&child);
    child.kill().expect("ended");
    child.wait().expect("the end");
    assert_eq!(plain, "sleep 5 5");
    let mut child = Command::new("sh")
        .arg("-c")
        .arg("read x")
        .arg(odd)
        .arg("x".repeat(2 * CMDLINE))
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let cut = settled(&child);
    child.kill().expect("ended");
    child.wait().expect("the end");
    assert!(cut.starts_with("sh -c read x \u{fffd}\u{fffd} xxx") && cut.ends_with("x..."), "{cut}");
}

#[test]
fn long_command_lines_are_cut_between_letters() {
    let long = "é".repeat(CMDLINE);
    let cut = shortened(&long);
    assert!(cut.len() <= CMDLINE + 3 && cut.ends_with("é..."), "{}", cut.len());
    assert_eq!(shortened("short"), "short");
}

#[test]
fn what_is_remembered_is_bounded_and_the_busy_stay() {
    let mut owners = Owners::default();
    let busy = stamped(std::process::id());
    owners.learn(&busy);
    // Numbers that nobody has: nothing is read.
    let process = |i: u32| Process { tgid: 5_000_000 + i, start_ns: 1, ..Process::default() };
    for i in 0..KNOWN as u32 + 10 {
        owners.learn(&process(i));
        assert!(!owners.is_new(&busy), "asked for all the time");
    }
    assert_eq!(owners.known.len(), KNOWN);
    assert_eq!(owners.forgotten(), 11, "one by one");
    assert!(owners.get(&process(0)).is_none() && owners.get(&process(KNOWN as u32)).is_some());
}

/// A process that nobody has.
fn nobody(i: u32) -> Process {
    Process { tgid: 5_000_000 + i, start_ns: 1, ..Process::default() }
}

fn balanced(owners: &Owners) -> Looks {
    let looks = owners.looks();
    let parts = looks.seen + looks.unseen + looks.waiting + looks.overflowed;
    assert_eq!(looks.met, parts, "{looks:?}");
    looks
}

#[test]
fn who_cannot_be_looked_at_at_once_waits_for_its_turn() {
    let mut owners = Owners::default();
    let me = stamped(std::process::id());
    let mut looks = 1;
    owners.meet(&nobody(0), &mut looks);
    owners.meet(&me, &mut looks);
    assert_eq!(looks, 0);
    let now = balanced(&owners);
    assert_eq!((now.met, now.unseen, now.waiting), (2, 1, 1));
    let owner = owners.get(&me).expect("met");
    assert_eq!((owner.exe.as_deref(), owner.user.as_deref()), (None, Some("root")), "meanwhile");
    // Who waits isn't met again.
    owners.meet(&me, &mut looks);
    owners.learn(&me);
    assert_eq!(balanced(&owners), now);
    owners.catch_up(&mut 0);
    assert_eq!(balanced(&owners), now, "no looks");
    let mut looks = 5;
    owners.meet(&nobody(1), &mut 0);
    owners.catch_up(&mut looks);
    assert_eq!(looks, 4, "who is gone costs none");
    let now = balanced(&owners);
    assert_eq!((now.met, now.seen, now.unseen, now.waiting), (3, 1, 2, 0));
    assert!(owners.get(&me).is_some_and(|owner| owner.seen && owner.exe.is_some()));
}

#[test]
fn who_finds_no_room_to_wait_is_counted_until_it_is_looked_at() {
    let mut owners = Owners::default();
    let me = stamped(std::process::id());
    for i in 0..WAITING as u32 + 3 {
        owners.meet(&nobody(i), &mut 0);
    }
    for _ in 0..2 {
        owners.meet(&me, &mut 0);
    }
    let now = balanced(&owners);
    assert_eq!((now.met, now.waiting, now.overflowed), (WAITING as u64 + 4, WAITING as u64, 4));
    assert_eq!(owners.get(&me).and_then(|owner| owner.user.clone()).as_deref(), Some("root"));
    // It comes by again: there is a look, or room.
    owners.meet(&me, &mut 1);
    owners.catch_up(&mut 1);
    owners.meet(&nobody(WAITING as u32), &mut 0);
    let now = balanced(&owners);
    assert_eq!((now.seen, now.overflowed), (1, 2));
    owners.catch_up_all();
    let now = balanced(&owners);
    assert_eq!((now.waiting, now.unseen, now.overflowed), (0, WAITING as u64 + 1, 2));
}
