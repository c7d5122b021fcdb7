//! A process of a scene: moves a known number of bytes through the way that is asked for, says on one line of
//! JSON what its calls returned, and keeps its sockets until its standard input ends.
//!
//! `scene-actor VERB ARGUMENTS`; see the suite `e2e_scenes`, which plays the other end.

mod crowd;
mod datagram;
mod heirs;
mod ring;
mod sys;
mod tcp;

use std::io::{Error, Read as _, Result, Write as _};
use std::process::ExitCode;

/// What the kernel here won't do; any other error is one.
const REFUSED: [i32; 4] =
    [libc::ENOSYS, libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT, libc::EOPNOTSUPP];

/// Says what was done.
fn tell(value: &serde_json::Value) {
    println!("{value}");
    let _ = std::io::stdout().flush();
}

/// Waits until nobody wants the sockets any more.
fn stay() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Waits for a line; whether there was one.
fn next() -> bool {
    std::io::stdin().read_line(&mut String::new()).is_ok_and(|length| length > 0)
}

fn number(text: &str) -> Result<usize> {
    text.parse().map_err(|_| Error::other(format!("{text}: not a number")))
}

fn play(verb: &str, args: &[&str]) -> Result<()> {
    match (verb, args) {
        ("send", [way, to, bytes]) => tcp::send(way, to, number(bytes)?),
        ("receive", [way, to, bytes]) => tcp::receive(way, to, number(bytes)?),
        ("datagrams", [way, to, count, size]) => {
            datagram::exchange(way, to, number(count)?, number(size)?)
        }
        ("frames", [count, size]) => datagram::frames(number(count)?, number(size)?),
        ("take", [bytes]) => crowd::take(number(bytes)?),
        ("proxy", [at, to]) => crowd::proxy(at, to),
        ("prefork", [children, at]) => crowd::prefork(number(children)?, at),
        ("swarm", [count, to, bytes]) => crowd::swarm(number(count)?, to, number(bytes)?),
        ("give", [to]) => heirs::give(to),
        ("heirs", [at]) => heirs::heirs(at),
        ("threads", [at]) => heirs::threads(at),
        ("burst", [count, to]) => crowd::burst(number(count)?, to),
        ("again", [rounds, to, other]) => crowd::again(number(rounds)?, to, other),
        _ => Err(Error::other(format!("{verb} {args:?}: no such part"))),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let Some((verb, rest)) = words.split_first() else {
        eprintln!("scene-actor: which part?");
        return ExitCode::FAILURE;
    };
    match play(verb, rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) if why.raw_os_error().is_some_and(|code| REFUSED.contains(&code)) => {
            tell(&serde_json::json!({"refused": format!("{}: {why}", words.join(" "))}));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("scene-actor {}: {why}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}
