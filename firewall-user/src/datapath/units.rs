//! From the policy's units to the kernel's: milliseconds to ticks, rates to budgets of windows and CPUs.

use firewall_common::abi::table::Settings;

/// Budget windows a second (see `Settings::budget_window`).
const WINDOWS: u64 = 8;

/// UDP that still goes both ways this long after its first packet is a stream (netfilter's figure,
/// net/netfilter/nf_conntrack_proto_udp.c).
const STREAM_AFTER_MS: u64 = 2000;

/// Milliseconds to ticks, rates to budgets.
pub(super) fn to_kernel(settings: &mut Settings, rate: u64) {
    for t in &mut settings.timeouts {
        let ticks = (u64::from(*t) * rate).div_ceil(1000).max(1);
        *t = u32::try_from(ticks).unwrap_or(u32::MAX);
    }
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let share = |per_second: u32| {
        let n = u64::from(per_second).div_ceil(WINDOWS * cpus);
        u32::try_from(n).unwrap_or(u32::MAX)
    };
    settings.budget_window = (rate / WINDOWS).max(1) as u32;
    settings.reject_budget = share(settings.reject_budget);
    settings.sample_budget = share(settings.sample_budget);
    settings.new_budget = share(settings.new_budget);
    if settings.cookie_rate > 1 {
        settings.cookie_rate = share(settings.cookie_rate).max(2);
    }
    let after = rate * STREAM_AFTER_MS / 1000;
    settings.stream_after = u32::try_from(after).unwrap_or(u32::MAX);
}
