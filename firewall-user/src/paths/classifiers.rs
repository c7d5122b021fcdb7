//! What hangs at TC: TCX and netkit programs by the kernel's rows, classifiers by rtnetlink.

use super::{
    error::PathsError,
    facts::{Link, Program, XdpMode},
    netlink::{Netlink, number, text},
};
use crate::{
    datapath::programs::{self, Row},
    netfilter::{DecodeError, attribute::Attributes},
};

const RTM_GETTFILTER: u16 = 46;
/// `struct tcmsg`.
const TCMSG: usize = 20;
/// TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) and _EGRESS: the kernel finds a plain ingress qdisc by it too.
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// include/uapi/linux/pkt_cls.h.
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;

/// Fills in the programs of an interface, in the order that packets meet them
/// (`__netif_receive_skb_core` and `__dev_queue_xmit` in net/core/dev.c: TCX before classifiers, both ways).
///
/// # Errors
/// What couldn't be read last; the rest is there.
pub fn read(netlink: &mut Netlink, link: &mut Link) -> Result<(), PathsError> {
    let mut trouble = Ok(());
    let xdp = link.xdp.iter().map(|(mode, id)| Program {
        hook: match mode {
            XdpMode::Offload => "xdp-offload",
            XdpMode::Native => "xdp",
            XdpMode::Generic => "xdp-generic",
        },
        id: Some(*id),
        ..Program::default()
    });
    let mut found: Vec<Program> = xdp.collect();
    let netkit = link.kind == "netkit";
    let rows = [
        (Row::TcxIn, "tcx-in", true),
        (Row::TcxOut, "tcx-out", true),
        (Row::NetkitPrimary, "netkit", netkit),
        (Row::NetkitPeer, "netkit-peer", netkit),
    ];
    for (row, hook, _) in rows.into_iter().filter(|(.., asked)| *asked) {
        match programs::row(link.index, row) {
            Ok(ids) => found.extend(ids.into_iter().map(|id| Program {
                hook,
                id: Some(id),
                ..Program::default()
            })),
            // Before Linux 6.6 there are no such rows.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => trouble = Err(PathsError::Refused(error)),
        }
    }
    for (parent, hook) in [(INGRESS, "tc-in"), (EGRESS, "tc-out")] {
        let mut body = vec![0; TCMSG];
        body[4..8].copy_from_slice(&link.index.to_ne_bytes());
        body[12..16].copy_from_slice(&parent.to_ne_bytes());
        match netlink.dump(RTM_GETTFILTER, &body) {
            Ok(bodies) => {
                for body in bodies {
                    match classifier(&body, hook) {
                        Ok(read) => found.extend(read),
                        Err(error) => trouble = Err(error.into()),
                    }
                }
            }
            // No qdisc of that kind, or no classifiers in this kernel.
            Err(error) if error.is_unknown() => {}
            Err(error) => trouble = Err(error),
        }
    }
    link.programs = found;
    trouble
}

/// `None` for a row that only says there is such a classifier, without one of its filters.
fn classifier(body: &[u8], hook: &'static str) -> Result<Option<Program>, DecodeError> {
    let handle = number(body, 8)?;
    let priority = (number(body, 16)? >> 16) as i32;
    let (mut kind, mut name, mut id) = (String::new(), None, None);
    for found in Attributes::new(body.get(TCMSG..).unwrap_or_default()) {
        let found = found?;
        match found.kind {
            TCA_KIND => kind = text(found.value),
            TCA_OPTIONS if kind == "bpf" => {
                for option in found.nested() {
                    let option = option?;
                    match option.kind {
                        TCA_BPF_NAME => name = Some(text(option.value)),
                        TCA_BPF_ID => id = Some(u32::from_ne_bytes(option.array()?)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if handle == 0 {
        return Ok(None);
    }
    Ok(Some(Program { hook, id, name: name.or(Some(kind)), priority: Some(priority) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::netlink::attribute;

    fn filter(handle: u32, priority: u32, kind: &[u8], options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![0; TCMSG];
        body[8..12].copy_from_slice(&handle.to_ne_bytes());
        body[16..20].copy_from_slice(&(priority << 16 | 0x0300).to_ne_bytes());
        attribute(&mut body, TCA_KIND, kind);
        let mut inner = Vec::new();
        options.iter().for_each(|(kind, value)| attribute(&mut inner, *kind, value));
        attribute(&mut body, TCA_OPTIONS, &inner);
        body
    }

    #[test]
    fn a_bpf_classifier_has_a_name_and_an_id_and_others_have_their_kind() {
        let options = [(TCA_BPF_NAME, &b"cut.o:[tc]\0"[..]), (TCA_BPF_ID, &[17, 0, 0, 0])];
        let read = classifier(&filter(1, 49152, b"bpf\0", &options), "tc-in").unwrap().unwrap();
        let expected = Program {
            hook: "tc-in",
            id: cfg!(target_endian = "little").then_some(17).or(Some(17 << 24)),
            name: Some("cut.o:[tc]".into()),
            priority: Some(49152),
        };
        assert_eq!(read, expected);
        let other = classifier(&filter(1, 10, b"flower\0", &[]), "tc-out").unwrap().unwrap();
        assert_eq!((other.id, other.name.as_deref()), (None, Some("flower")));
        assert_eq!(classifier(&filter(0, 10, b"bpf\0", &[]), "tc-in").unwrap(), None);
        assert!(classifier(&[0; 12], "tc-in").is_err());
    }
}
