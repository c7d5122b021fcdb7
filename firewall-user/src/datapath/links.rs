//! Attaching, and taking over what is attached. Each link is pinned under its interface's slot; a new
//! daemon updates it in place, so that no packet meets an interface without a program.

use super::{
    error::{DatapathError, chain},
    mode::Ingress,
    netdev::NetDev,
};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, SchedClassifier, TcAttachType, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
        xdp::XdpLink,
    },
    util::KernelVersion,
};
use std::path::{Path, PathBuf};

/// Priority and handle of our clsact filters: fixed, so that the next daemon finds them.
const CLSACT_PRIORITY: u16 = 1;
const CLSACT_HANDLE: TcHandle = TcHandle::new(0, 0x51);

/// Whether TC programs go to TCX: the kernel has it (6.6), and `SLUICE_CLSACT` isn't set. The variable is
/// for tests of the way that older kernels take.
pub(super) fn has_tcx() -> bool {
    std::env::var_os("SLUICE_CLSACT").is_none()
        && KernelVersion::current().is_ok_and(|v| v >= KernelVersion::new(6, 6, 0))
}

/// Name of the TC flavour here.
pub(super) fn tc_name() -> &'static str {
    if has_tcx() { "tcx" } else { "clsact" }
}

fn pin(dir: &Path, slot: u8, hook: &str) -> PathBuf {
    dir.join(format!("link-{slot}-{hook}"))
}

const HOOKS: [&str; 5] = ["in-xdp", "in-xdp-generic", "in-tcx", COOKIES, "out-tcx"];

/// The program behind XDP that gives connections that cookies made to their listeners.
const COOKIES: &str = "in-cookies-tcx";

fn hook(ingress: Ingress) -> &'static str {
    match ingress {
        Ingress::Xdp => "in-xdp",
        Ingress::XdpGeneric => "in-xdp-generic",
        Ingress::Tc => "in-tcx",
    }
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, DatapathError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program>,
{
    ebpf.program_mut(name)
        .and_then(|p| p.try_into().ok())
        .ok_or_else(|| DatapathError::Load(format!("the object has no program {name}")))
}

/// Attaches at ingress, or updates the link that is pinned; `cookies`: connections that they made can be given
/// to their listeners.
pub(super) fn ingress(
    ebpf: &mut Ebpf,
    dir: &Path,
    slot: u8,
    dev: &NetDev,
    how: Ingress,
    cookies: bool,
) -> Result<(), DatapathError> {
    let path = pin(dir, slot, hook(how));
    if how != Ingress::Tc {
        xdp(ebpf, &path, dev, how)?;
    }
    // Behind XDP too: it judges what XDP leaves to it (`firewall_common::abi::iface::DEFERRED`).
    let path = pin(dir, slot, hook(Ingress::Tc));
    classifier(ebpf, "sluice_tc_in", &path, dev, TcAttachType::Ingress)?;
    let behind = cookies && how != Ingress::Tc;
    if behind {
        let path = pin(dir, slot, COOKIES);
        classifier(ebpf, "sluice_cookies_in", &path, dev, TcAttachType::Ingress)?;
    }
    // What an earlier mode left goes only now: for a moment both run, never none.
    let stays = |h: &&str| *h == hook(how) || *h == hook(Ingress::Tc) || (behind && *h == COOKIES);
    for other in HOOKS.into_iter().filter(|h| h.starts_with("in-") && !stays(h)) {
        let _ = std::fs::remove_file(pin(dir, slot, other));
    }
    Ok(())
}

/// Attaches at egress, or updates the link that is pinned.
pub(super) fn egress(
    ebpf: &mut Ebpf,
    dir: &Path,
    slot: u8,
    dev: &NetDev,
) -> Result<(), DatapathError> {
    let path = pin(dir, slot, "out-tcx");
    classifier(ebpf, "sluice_tc_out", &path, dev, TcAttachType::Egress)
}

fn refused<'a>(
    dev: &'a NetDev,
    mode: &'a str,
) -> impl Fn(&dyn std::error::Error) -> DatapathError + 'a {
    move |e| DatapathError::Attach {
        name: dev.name.clone(),
        mode: mode.to_owned(),
        message: chain(e),
    }
}

fn xdp(ebpf: &mut Ebpf, path: &Path, dev: &NetDev, how: Ingress) -> Result<(), DatapathError> {
    let (mode, name) = match how {
        Ingress::XdpGeneric => (XdpMode::Skb, "xdp-generic"),
        Ingress::Xdp | Ingress::Tc => (XdpMode::Driver, "xdp"),
    };
    let refused = refused(dev, name);
    let program: &mut Xdp = program(ebpf, "sluice_xdp")?;
    if let Ok(old) = PinnedLink::from_pin(path) {
        let link: Result<XdpLink, _> = FdLink::from(old).try_into();
        if let Ok(link) = link
            && let Ok(id) = program.attach_to_link(link)
        {
            // Ours again; the pin holds it, whatever becomes of the descriptor.
            program.take_link(id).map_err(|e| refused(&e))?;
            return Ok(());
        }
        // The interface it belonged to is gone.
        let _ = std::fs::remove_file(path);
    }
    let id = program.attach_to_if_index(dev.ifindex, mode).map_err(|e| refused(&e))?;
    let link = program.take_link(id).map_err(|e| refused(&e))?;
    let link: FdLink = link.try_into().map_err(|e| refused(&e))?;
    link.pin(path).map_err(|e| refused(&e))?;
    Ok(())
}

fn classifier(
    ebpf: &mut Ebpf,
    name: &str,
    path: &Path,
    dev: &NetDev,
    at: TcAttachType,
) -> Result<(), DatapathError> {
    let refused = refused(dev, tc_name());
    let program: &mut SchedClassifier = program(ebpf, name)?;
    if !has_tcx() {
        return clsact(program, dev, at);
    }
    if let Ok(old) = PinnedLink::from_pin(path) {
        let link: Result<SchedClassifierLink, _> = FdLink::from(old).try_into();
        if let Ok(link) = link
            && let Ok(id) = program.attach_to_link(link)
        {
            program.take_link(id).map_err(|e| refused(&e))?;
            return Ok(());
        }
        let _ = std::fs::remove_file(path);
    }
    // First in line at ingress: what others do with the packet, they do with what we let in.
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(&dev.name, at, order).map_err(|e| refused(&e))?;
    let link = program.take_link(id).map_err(|e| refused(&e))?;
    let link: FdLink = link.try_into().map_err(|e| refused(&e))?;
    link.pin(path).map_err(|e| refused(&e))?;
    Ok(())
}

/// Before Linux 6.6: a filter on a clsact qdisc. It stays without a pin.
fn clsact(
    program: &mut SchedClassifier,
    dev: &NetDev,
    at: TcAttachType,
) -> Result<(), DatapathError> {
    let refused = refused(dev, "clsact");
    // Fails if the qdisc is there already, which is as good.
    let _ = tc::qdisc_add_clsact(&dev.name);
    let old = SchedClassifierLink::attached(&dev.name, at, CLSACT_PRIORITY, CLSACT_HANDLE, None);
    let id = match old.map(|link| program.attach_to_link(link)) {
        Ok(Ok(id)) => id,
        Ok(Err(_)) | Err(_) => {
            let options = NlOptions {
                priority: CLSACT_PRIORITY,
                handle: CLSACT_HANDLE,
                ..NlOptions::default()
            };
            program
                .attach_with_options(&dev.name, at, TcAttachOptions::Netlink(options))
                .map_err(|e| refused(&e))?
        }
    };
    // Dropping the link would take the filter off.
    std::mem::forget(program.take_link(id).map_err(|e| refused(&e))?);
    Ok(())
}

/// Takes our programs off an interface.
pub(super) fn detach(dir: &Path, slot: u8, name: &str) {
    for h in HOOKS {
        let _ = std::fs::remove_file(pin(dir, slot, h));
    }
    if !has_tcx() {
        let _ = tc::qdisc_detach_program(name, TcAttachType::Ingress, "sluice_tc_in");
        let _ = tc::qdisc_detach_program(name, TcAttachType::Egress, "sluice_tc_out");
    }
}
