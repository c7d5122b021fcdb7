//! Whether and how SYN cookies can be sent here: the kernel has to take the connections that they make, and
//! the options that a cookie keeps must be those that the machine's own TCP takes.

use super::{Datapath, error::DatapathError};
use firewall_common::abi::{
    control::{COOKIES_ON, COOKIES_SACK, COOKIES_SCALE, COOKIES_TIMESTAMPS},
    table::{ACTION_COOKIES, RuleTable},
};

/// A number under `net.ipv4` of this network namespace (IPv6 listeners go by the same).
fn sysctl(name: &str) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?;
    text.trim().parse().ok()
}

/// The machine's settings for [`firewall_common::abi::control::Control::cookies`]; `able`: the kernel can
/// give connections to listeners.
pub(super) fn read(able: bool) -> u32 {
    flags(able, sysctl)
}

fn flags(able: bool, sysctl: impl Fn(&str) -> Option<u32>) -> u32 {
    let on = |name: &str, flag: u32| if sysctl(name).is_some_and(|n| n != 0) { flag } else { 0 };
    let cookies = if able { on("tcp_syncookies", COOKIES_ON) } else { 0 };
    cookies
        | on("tcp_timestamps", COOKIES_TIMESTAMPS)
        | on("tcp_window_scaling", COOKIES_SCALE)
        | on("tcp_sack", COOKIES_SACK)
}

/// Whether a policy asks for cookies.
pub(super) fn asked(table: &RuleTable) -> bool {
    table.settings.cookie_rate != 0 || table.any_flags & u32::from(ACTION_COOKIES) != 0
}

/// What keeps cookies from being sent here, or from keeping what a handshake agrees on; and what to do about
/// it.
pub fn outlook() -> Option<(&'static str, &'static str)> {
    let able = super::kfunc::has_cookies() && super::links::has_tcx();
    limit(able, read(able))
}

fn limit(able: bool, flags: u32) -> Option<(&'static str, &'static str)> {
    if !able {
        return Some((
            "none are sent: this kernel can't give a listener the connection that one made",
            "it takes Linux 6.8 with its types (BTF), and TCX",
        ));
    }
    if flags & COOKIES_ON == 0 {
        return Some((
            "none are sent: net.ipv4.tcp_syncookies is 0, and so the kernel takes none",
            "`sysctl net.ipv4.tcp_syncookies=1`",
        ));
    }
    if flags & COOKIES_TIMESTAMPS == 0 {
        return Some((
            "what they make has neither window scaling nor SACK: net.ipv4.tcp_timestamps is 0, and these \
             travel in the timestamp",
            "`sysctl net.ipv4.tcp_timestamps=1`",
        ));
    }
    None
}

impl Datapath {
    /// Brings the machine's settings to the kernel programs. Looked at once a second.
    ///
    /// # Errors
    /// The map can't be written.
    pub fn follow_cookies(&mut self) -> Result<(), DatapathError> {
        let mut control = self.control.get(&0, 0).map_err(DatapathError::map("CONTROL"))?;
        let flags = read(self.cookies_able);
        if control.cookies != flags {
            control.cookies = flags;
            self.control.set(0, control, 0).map_err(DatapathError::map("CONTROL"))?;
        }
        Ok(())
    }

    /// See [`Datapath::limits`].
    pub(super) fn cookie_limits(&self) -> Vec<String> {
        if !self.cookies_asked {
            return Vec::new();
        }
        let mut limits = Vec::new();
        if let Some((seen, advice)) = limit(self.cookies_able, read(self.cookies_able)) {
            limits.push(format!("SYN cookies are asked for; {seen}; {advice}"));
        }
        let clock = self.cookie_clock.get(&0, 0).unwrap_or_default();
        if clock.refused != 0 {
            limits.push(format!(
                "{} connections that SYN cookies made weren't taken by the kernel",
                clock.refused
            ));
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_flags() {
        let all = flags(true, |_| Some(1));
        assert_eq!(all, COOKIES_ON | COOKIES_TIMESTAMPS | COOKIES_SCALE | COOKIES_SACK);
        assert_eq!(limit(true, all), None);
        assert_eq!(flags(false, |_| Some(1)) & COOKIES_ON, 0);
        assert_eq!(flags(true, |_| None), 0, "unknown isn't on");
        let off = |name: &'static str| flags(true, move |n| Some(u32::from(n != name)));
        assert!(limit(true, off("tcp_syncookies")).unwrap().0.contains("tcp_syncookies is 0"));
        assert!(limit(true, off("tcp_timestamps")).unwrap().0.contains("tcp_timestamps is 0"));
        assert_eq!(limit(true, off("tcp_sack")), None);
        assert!(limit(false, all).unwrap().1.contains("6.8"));
    }
}
