//! Where on an interface the stages run.

use super::{error::DatapathError, netdev::NetDev};
use std::{fmt, str::FromStr};

/// Hook mode, as an operator asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HookMode {
    /// XDP where packets come off a wire, TC where the link is virtual.
    #[default]
    Auto,
    /// XDP in the driver.
    Xdp,
    /// XDP in the stack: works everywhere, costs more.
    XdpGeneric,
    /// TCX (clsact before Linux 6.6).
    Tc,
}

impl FromStr for HookMode {
    type Err = DatapathError;
    fn from_str(s: &str) -> Result<Self, DatapathError> {
        match s {
            "auto" => Ok(Self::Auto),
            "xdp" => Ok(Self::Xdp),
            "xdp-generic" => Ok(Self::XdpGeneric),
            "tc" => Ok(Self::Tc),
            other => Err(DatapathError::BadMode { seen: other.to_owned() }),
        }
    }
}

impl fmt::Display for HookMode {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
        })
    }
}

/// The ingress hook that was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ingress {
    /// Native XDP.
    Xdp,
    /// Generic XDP.
    XdpGeneric,
    /// TC.
    Tc,
}

/// Which hooks to try, in order, and why.
pub fn plan(mode: HookMode, dev: &NetDev) -> (Vec<Ingress>, String) {
    let driver = if dev.driver.is_empty() { "a virtual link" } else { dev.driver.as_str() };
    match mode {
        HookMode::Xdp => (vec![Ingress::Xdp], "asked for".to_owned()),
        HookMode::XdpGeneric => (vec![Ingress::XdpGeneric], "asked for".to_owned()),
        HookMode::Tc => (vec![Ingress::Tc], "asked for".to_owned()),
        HookMode::Auto if dev.physical => (
            vec![Ingress::Xdp, Ingress::Tc],
            format!("packets come off a wire ({driver}): judged in the driver, before the stack"),
        ),
        HookMode::Auto => (
            vec![Ingress::Tc],
            format!(
                "virtual link ({driver}): native XDP would turn segmentation offload off and cut \
                 bulk TCP to a third"
            ),
        ),
    }
}

/// What hook mode `auto` would choose for an interface of this network namespace, in a few words.
///
/// # Errors
/// There is no such interface, or it carries no Ethernet frames.
pub fn outlook(name: &str) -> Result<String, DatapathError> {
    let dev = super::netdev::find(name)?;
    let driver = if dev.driver.is_empty() { "virtual" } else { &dev.driver };
    let hook = if dev.physical { "XDP" } else { "TC" };
    Ok(format!("{driver}, auto would take {hook}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dev(driver: &str, physical: bool) -> NetDev {
        NetDev { name: "x".into(), ifindex: 2, driver: driver.into(), physical }
    }

    #[test]
    fn auto_takes_tc_on_virtual_links_and_xdp_on_wires() {
        assert_eq!(plan(HookMode::Auto, &dev("veth", false)).0, [Ingress::Tc]);
        assert_eq!(plan(HookMode::Auto, &dev("ixgbe", true)).0, [Ingress::Xdp, Ingress::Tc]);
    }

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for name in ["auto", "xdp", "xdp-generic", "tc"] {
            assert_eq!(name.parse::<HookMode>().unwrap().to_string(), name);
        }
        assert!("native".parse::<HookMode>().unwrap_err().to_string().contains("xdp-generic"));
    }
}
