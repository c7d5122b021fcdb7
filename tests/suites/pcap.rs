//! Every capture of the corpus (malformed, truncated, tunnelled and odd packets of many link types)
//! through the parser and through the kernel: no crash, a reason for each, and the two agree.

use firewall_common::wire::{self, Facts, Parsed, Slice};
use sluice_tests::{capture, model, packet, skip};

/// All captures as (file name, frames), or a skip.
fn corpus(test: &str) -> Option<Vec<(String, Vec<Vec<u8>>)>> {
    let Some(folder) = skip::shared_data("pcap") else {
        skip::skip(test, "no capture corpus at ../shared/data/pcap");
        return None;
    };
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("a readable folder").flatten().map(|e| e.path()).collect();
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
                assert_eq!(parsed(bytes), oracle(bytes), "{name}, packet {i}, {cut} bytes: {}", packet::hex(bytes));
                count += 1;
            }
        }
    }
    assert!(count > 1000, "only {count} packets were read");
}
