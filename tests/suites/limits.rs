//! Limits of rules, in the kernel, against the kernel's own clock.

use sluice_tests::kernel::{Fate, Hook, Kernel};
use sluice_tests::packet::{Packet, tcp::SYN};
use std::time::{Duration, Instant};

const POLICY: &str = "
default in drop
rule packets allow in udp to port 1001 no-track limit 200 packets/s
rule bits    allow in udp to port 1002 no-track limit 800k bits/s burst 40k
rule new     allow in udp to port 1003 limit 200 new/s
rule over    drop  in udp to port 1004 over 200 packets/s
rule rest    allow in udp to port 1004 no-track
rule flows   allow in udp to port 1006 limit 200 packets/s
rule shaped  allow in udp to port 1007 limit 400k bits/s burst 20k per source
rule source  allow in udp to port 1005 no-track limit 100 packets/s burst 10 per source
";

/// How long each is overloaded.
const RUN: Duration = Duration::from_secs(10);
/// Packets come in bunches, so far apart.
const BUNCH: Duration = Duration::from_millis(5);

/// Packets of one kind: so many a bunch, what passed of them, what should have.
struct Stream {
    name: &'static str,
    frame: Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>,
    bunch: u32,
    /// A second, and at once.
    rate: f64,
    burst: f64,
    sent: u32,
    passed: u32,
}

impl Stream {
    fn new(
        name: &'static str,
        (bunch, rate, burst): (u32, f64, f64),
        frame: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self { name, frame: Box::new(frame), bunch, rate, burst, sent: 0, passed: 0 }
    }

    fn send(&mut self, kernel: &Kernel) {
        for _ in 0..self.bunch {
            let frame = (self.frame)(self.sent);
            self.sent += 1;
            let (fate, _) = kernel.run(Hook::Xdp, 0, &frame).expect("a frame that can be run");
            self.passed += u32::from(fate == Fate::Pass);
        }
    }

    /// What passes: a burst, and then the rate; where the sender was held up for longer than it takes to earn a burst, what
    /// more would have been earned is lost.
    fn expected(&self, bunches: &[Instant]) -> f64 {
        let (first, last) = (bunches[0], bunches[bunches.len() - 1]);
        let earned = |gap: Duration| gap.as_secs_f64() * self.rate;
        let lost: f64 =
            bunches.windows(2).map(|two| (earned(two[1] - two[0]) - self.burst).max(0.0)).sum();
        self.burst + earned(last - first) - lost
    }
}

fn datagram(src: &str, sport: u16, dport: u16, fill: usize) -> Vec<u8> {
    Packet::new().ipv4(src, "198.51.100.2").udp(sport, dport).fill(fill).build()
}

#[test]
fn rates_are_kept_at_ten_times_the_load() {
    let Some(mut kernel) = Kernel::or_skip("limits::rates_are_kept_at_ten_times_the_load") else {
        return;
    };
    kernel.install(POLICY);
    let from = |src: &'static str, dport, fill| move |_| datagram(src, 4242, dport, fill);
    let all = (12, 200.0, 10.0);
    let mut streams = [
        Stream::new("packets", all, from("192.0.2.1", 1001, 100)),
        // 500 bytes from the IP header on.
        Stream::new("bits", all, from("192.0.2.1", 1002, 472)),
        Stream::new("new", all, |i| datagram("192.0.2.1", 1024 + i as u16, 1003, 100)),
        Stream::new("over", all, from("192.0.2.1", 1004, 100)),
        // One flow each, of which only the first packet asks the rules.
        Stream::new("flow", all, from("192.0.2.1", 1006, 100)),
        Stream::new("shaped", (6, 100.0, 5.0), from("192.0.2.1", 1007, 472)),
        Stream::new("one source", (6, 100.0, 10.0), from("192.0.2.1", 1005, 100)),
        Stream::new("another", (6, 100.0, 10.0), from("192.0.2.2", 1005, 100)),
    ];
    // Who keeps within the limit isn't touched by those who don't.
    let mut quiet = Stream::new("quiet", (1, 0.0, 0.0), from("192.0.2.3", 1005, 100));
    let ns = kernel.namespace().clone();
    let bunches = ns.run(|| {
        let begun = Instant::now();
        let mut bunches = Vec::new();
        while begun.elapsed() < RUN {
            let at = Instant::now();
            bunches.push(at);
            streams.iter_mut().for_each(|stream| stream.send(&kernel));
            if bunches.len() % 4 == 0 {
                quiet.send(&kernel);
            }
            std::thread::sleep(BUNCH.saturating_sub(at.elapsed()));
        }
        bunches
    });
    for stream in &streams {
        let expected = stream.expected(&bunches);
        let (passed, sent) = (f64::from(stream.passed), stream.sent);
        println!("{}: {passed} of {sent} passed, {expected:.0} expected", stream.name);
        let off = (passed - expected).abs() / expected;
        assert!(off <= 0.02, "{}: {passed} of {sent} passed, not {expected:.0}", stream.name);
        assert!(f64::from(sent) > 5.0 * expected, "{}: {sent} is no overload", stream.name);
    }
    assert_eq!(quiet.passed, quiet.sent, "within its limit");
    let reason = kernel.counters().reasons[&("drop", "over-limit")][0];
    let over = |name: &str| kernel.over(name);
    assert_eq!(over("packets"), u64::from(streams[0].sent - streams[0].passed));
    assert_eq!(over("over"), u64::from(streams[3].sent - streams[3].passed));
    let flow = &streams[4];
    assert_eq!(over("flows"), u64::from(flow.sent - flow.passed));
    let policed = flow.sent - flow.passed + streams[5].sent - streams[5].passed;
    assert_eq!(reason, u64::from(policed));
    let sources = &streams[6..];
    let refused: u32 = sources.iter().map(|stream| stream.sent - stream.passed).sum();
    assert_eq!(over("source"), u64::from(refused));
}

#[test]
fn what_was_taken_off_stays_taken_off_when_the_policy_changes() {
    let test = "limits::what_was_taken_off_stays_taken_off_when_the_policy_changes";
    let Some(mut kernel) = Kernel::or_skip(test) else { return };
    let policy = |more: &str| {
        format!("default in drop\n{more}rule a allow in udp no-track limit 3 packets/h burst 3\n")
    };
    let passing = |kernel: &Kernel| {
        let frame = datagram("192.0.2.1", 1, 2, 10);
        let run = || kernel.run(Hook::TcIn, 0, &frame).expect("a run").0 == Fate::Pass;
        (0..5).filter(|_| run()).count()
    };
    let ns = kernel.namespace().clone();
    ns.run(|| {
        kernel.install(&policy(""));
        assert_eq!(passing(&kernel), 3);
        kernel.install(&policy("rule b count in tcp\n"));
        assert_eq!(passing(&kernel), 0);
    });
}

#[test]
fn a_flow_that_is_over_its_limit_lives_on() {
    let Some(mut kernel) = Kernel::or_skip("limits::a_flow_that_is_over_its_limit_lives_on") else {
        return;
    };
    let limited =
        "default in drop\ndefault out drop\nrule a allow in udp limit 4 packets/h burst 4\n";
    let there = datagram("192.0.2.1", 4242, 53, 10);
    let back = Packet::new().ipv4("198.51.100.2", "192.0.2.1").udp(53, 4242).fill(10).build();
    let ns = kernel.namespace().clone();
    let passing = |kernel: &Kernel, hook, frame: &[u8], times: usize| {
        let run = || kernel.run(hook, 0, frame).expect("a run").0 == Fate::Pass;
        (0..times).filter(|_| run()).count()
    };
    ns.run(|| {
        kernel.install(limited);
        // Answers are the flow's packets, too, and measured by themselves.
        assert_eq!(passing(&kernel, Hook::TcIn, &there, 2), 2);
        assert_eq!(passing(&kernel, Hook::TcOut, &back, 5), 4);
        assert_eq!(passing(&kernel, Hook::TcIn, &there, 3), 2);
        // Judged anew it isn't cut; nothing is earned by it, but for the packet that is judged.
        kernel.install(&format!("rule b count in tcp\n{limited}"));
        assert_eq!(passing(&kernel, Hook::TcIn, &there, 5), 1);
        assert_eq!(kernel.flows().len(), 1);
        // A policy without the limit lets it go on as it likes.
        kernel.install(&limited.replace(" limit 4 packets/h burst 4", ""));
        assert_eq!(passing(&kernel, Hook::TcIn, &there, 5), 5);
        kernel.install(limited);
        assert_eq!(passing(&kernel, Hook::TcIn, &there, 5), 1);
    });
}

#[test]
fn a_source_has_so_many_connections_at_once() {
    let Some(mut kernel) = Kernel::or_skip("limits::a_source_has_so_many_connections_at_once")
    else {
        return;
    };
    kernel.install(
        "default in drop
         rule web allow in tcp to port 80 limit 5 connections per source
         rule ssh allow in tcp to port 22
         rule six count in ipv6 over 2 connections per source",
    );
    let syn = |src: &str, sport: u16, dport: u16| {
        let dst = if src.contains(':') { "2001:db8::2" } else { "198.51.100.2" };
        Packet::new().ip(src, dst).tcp(sport, dport).flags(SYN).build()
    };
    let ns = kernel.namespace().clone();
    let passing = |src: &'static str, dport| {
        let run = |sport| kernel.run(Hook::TcIn, 0, &syn(src, sport, dport)).expect("a run").0;
        (2000..2020).filter(|sport| run(*sport) == Fate::Pass).count()
    };
    let seen = ns.run(|| {
        [
            passing("192.0.2.1", 80),
            passing("192.0.2.2", 80),
            // Others' connections count, too, but this rule has no limit.
            passing("192.0.2.1", 22),
            passing("2001:db8:7::1", 80),
            // Of the same /64.
            passing("2001:db8:7::9", 80),
        ]
    });
    assert_eq!(seen, [5, 5, 20, 5, 0]);
    // The five that were let in didn't come so far.
    assert_eq!(kernel.counters().rules["six"][0], 35);
}

#[test]
fn scanners_are_noted_by_their_rate() {
    let Some(mut kernel) = Kernel::or_skip("limits::scanners_are_noted_by_their_rate") else {
        return;
    };
    kernel.install(
        "default in drop
         set scanners live size 100
         rule noted drop in from @scanners
         rule fast  count in tcp over 10 new/h burst 10 per source add source to @scanners
         rule open  allow in tcp",
    );
    let ns = kernel.namespace().clone();
    let passing = |src: &'static str, ports: std::ops::Range<u16>| {
        let frame =
            |port| Packet::new().ipv4(src, "198.51.100.2").tcp(4242, port).flags(SYN).build();
        let run = |port| kernel.run(Hook::TcIn, 0, &frame(port)).expect("a run").0 == Fate::Pass;
        ports.filter(|port| run(*port)).count()
    };
    let seen = ns.run(|| [passing("192.0.2.66", 1..50), passing("192.0.2.7", 1..10)]);
    // The eleventh is let in still, and noted: the next one meets what it added.
    assert_eq!(seen, [11, 9]);
    assert_eq!(kernel.set("scanners"), ["192.0.2.66"]);
}
