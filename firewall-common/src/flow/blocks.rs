//! Deterministic blocks of ports (RFC 7422): which host has which ports is arithmetic, so that nothing
//! has to be written down to know it later.

/// Blocks that one public address has room for. What is left over behind the last one is not used.
#[inline(always)]
pub const fn per_address(ports: [u16; 2], size: u16) -> u32 {
    let count = (ports[1] as u32 + 1).saturating_sub(ports[0] as u32);
    // No block is of no ports; said again so that nothing can divide by zero.
    let size = if size == 0 { 1 } else { size as u32 };
    count / size
}

/// Number of the public address, and first and last port, of the host with this number in its prefix.
/// `None` where an address has room for no block.
#[inline(always)]
pub const fn of_host(host: u32, ports: [u16; 2], size: u16) -> Option<(u32, [u16; 2])> {
    let each = per_address(ports, size);
    if each == 0 || size == 0 {
        return None;
    }
    let first = ports[0] as u32 + host % each * size as u32;
    Some((host / each, [first as u16, (first + size as u32 - 1) as u16]))
}

/// Number of the host that has this port of the public address with this number. `None` where no
/// block holds it.
#[inline(always)]
pub const fn host_of(address: u32, port: u16, ports: [u16; 2], size: u16) -> Option<u32> {
    let each = per_address(ports, size);
    if size == 0 || port < ports[0] {
        return None;
    }
    let block = (port - ports[0]) as u32 / size as u32;
    if block >= each { None } else { Some(address * each + block) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_is_of_one_host_at_most() {
        for (ports, size) in
            [([1024, 65_535], 500), ([1024, 65_535], 64_512), ([1, 65_535], 7), ([5, 5], 1)]
        {
            let each = per_address(ports, size);
            let mut held = std::collections::HashSet::new();
            for host in 0..each * 2 {
                let (address, block) = of_host(host, ports, size).expect("there is room");
                assert_eq!(block[1] - block[0], size - 1);
                assert!(block[0] >= ports[0] && block[1] <= ports[1] && address < 2);
                for port in [block[0], block[1]] {
                    assert_eq!(host_of(address, port, ports, size), Some(host));
                }
                assert!(held.insert((address, block[0])), "{host}");
            }
        }
    }

    #[test]
    fn what_is_left_over_belongs_to_nobody() {
        let (ports, size) = ([1024, 65_535], 1000);
        assert_eq!(per_address(ports, size), 64);
        assert_eq!(host_of(0, 65_023, ports, size), Some(63));
        assert_eq!(host_of(0, 65_024, ports, size), None);
        assert_eq!(host_of(0, 1023, ports, size), None);
        assert_eq!(of_host(0, [1024, 1033], 11), None);
        assert_eq!((of_host(0, ports, 0), host_of(0, 1024, ports, 0)), (None, None));
    }
}
