//! Every capture of the corpus (malformed, truncated, tunnelled and odd packets of many link types)
//! through the parser and through the kernel: no crash, a reason for each, and the two agree.

use firewall_common::wire::{self, Facts, Parsed, Slice};
use sluice_tests::kernel::{Fate, Hook, Kernel};
use sluice_tests::{capture, model, packet, skip};
use std::collections::BTreeMap;

/// All captures as (file name, frames), or a skip.
fn corpus(test: &str) -> Option<Vec<(String, Vec<Vec<u8>>)>> {
    let Some(folder) = skip::shared_data("pcap") else {
        skip::skip(test, "no capture corpus at ../shared/data/pcap");
        return None;
    };
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("a readable folder").flatten().map(|e| e.path()).collect();
    files.sort();
    let all: Vec<_> = files
        .iter()
        .map(|path| {
            let packets = capture::read(path).unwrap_or_else(|error| panic!("{error}"));
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, packets.iter().map(capture::Captured::frame).collect::<Vec<_>>())
        })
        .collect();
    assert!(all.len() > 100, "the corpus has {} files only", all.len());
    Some(all)
}

/// What the product's parser says, in words that both it and the oracle use.
fn parsed(frame: &[u8]) -> String {
    let mut facts = Facts::default();
    match wire::parse(&Slice(frame), &mut facts) {
        Err(reason) => reason.name().to_owned(),
        Ok(Parsed::Arp) => "arp".to_owned(),
        Ok(Parsed::OtherEthertype) => "other".to_owned(),
        Ok(Parsed::Ip) => format!(
            "ip{} proto {} ttl {} len {} {:?} flags {:02x}",
            facts.family, facts.proto, facts.ttl, facts.ip_len, facts.fragment, facts.tcp_flags
        ),
    }
}

/// The same of the oracle's parser.
fn oracle(frame: &[u8]) -> String {
    match model::parse::read(frame) {
        Err(reason) => reason.to_owned(),
        Ok(model::parse::Frame::Arp) => "arp".to_owned(),
        Ok(model::parse::Frame::Other) => "other".to_owned(),
        Ok(model::parse::Frame::Ip(ip)) => format!(
            "ip{} proto {} ttl {} len {} {:?} flags {:02x}",
            if ip.ends.src.is_ipv4() { 4 } else { 6 },
            ip.ends.proto,
            ip.ttl,
            ip.len,
            ip.part,
            ip.flags
        ),
    }
}

#[test]
fn parser_and_oracle_agree_on_every_capture() {
    let Some(corpus) = corpus("pcap::parser_and_oracle_agree_on_every_capture") else { return };
    let mut count = 0;
    for (name, frames) in &corpus {
        for (i, frame) in frames.iter().enumerate() {
            // Every cut of the first frames as well: a truncated packet has a reason of its own.
            let cuts = if i < 2 { 0..=frame.len().min(200) } else { frame.len()..=frame.len() };
            for cut in cuts.chain([frame.len()]) {
                let bytes = &frame[..cut];
                assert_eq!(
                    parsed(bytes),
                    oracle(bytes),
                    "{name}, packet {i}, {cut} bytes: {}",
                    packet::hex(bytes)
                );
                count += 1;
            }
        }
    }
    assert!(count > 1000, "only {count} packets were read");
}

#[test]
fn the_kernel_survives_every_capture_and_agrees_with_the_parser() {
    let test = "pcap::the_kernel_survives_every_capture_and_agrees_with_the_parser";
    let Some(corpus) = corpus(test) else { return };
    let Some(mut kernel) = Kernel::or_skip(test) else { return };
    // Everything passes, whatever it is, so that only the reason tells what the kernel made of it.
    kernel.install(
        "default in allow\ndefault out allow\noption malformed allow\noption fragments allow\n",
    );
    let ns = kernel.namespace().clone();
    let mut count = 0;
    ns.run(|| {
        let mut before = BTreeMap::new();
        for (name, frames) in &corpus {
            for (i, frame) in frames.iter().enumerate() {
                // A test run takes no frame beyond a page.
                if frame.len() > 3500 {
                    continue;
                }
                for hook in [Hook::Xdp, Hook::TcIn, Hook::TcOut] {
                    let Some((fate, data)) = kernel.run(hook, 0, frame) else { continue };
                    assert_eq!((fate, &data), (Fate::Pass, frame), "{name}, packet {i}, {hook:?}");
                    let now = kernel.counters().reasons;
                    let counted: Vec<_> = now
                        .iter()
                        .filter(|(key, n)| before.get(*key) != Some(*n))
                        .map(|(key, _)| key.1)
                        .collect();
                    assert_eq!(
                        counted.len(),
                        1,
                        "{name}, packet {i}, {hook:?}: one reason, not {counted:?}"
                    );
                    check(counted[0], frame, &format!("{name}, packet {i}, {hook:?}"));
                    before = now;
                    count += 1;
                }
            }
        }
    });
    assert!(count > 1000, "only {count} runs");
}

/// Whether the reason fits what the parser says of the frame.
fn check(reason: &str, frame: &[u8], context: &str) {
    let mut facts = Facts::default();
    let expected: &[&str] = match wire::parse(&Slice(frame), &mut facts) {
        Err(error) => &[error.name()],
        Ok(Parsed::Arp) => &["arp"],
        Ok(Parsed::OtherEthertype) => &["unknown-ethertype"],
        Ok(Parsed::Ip) if facts.is_neighbour_discovery() => &["neighbour-discovery"],
        Ok(Parsed::Ip) => &["default", "established", "related", "fragment-without-first"],
    };
    assert!(
        expected.contains(&reason),
        "{context}: the kernel says {reason}, the parser {expected:?}"
    );
}
