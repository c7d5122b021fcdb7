//! Port blocks by arithmetic (RFC 7422): which public address and which ports an inside host has, and
//! back.
//!
//! Hosts are counted from the first address of the inside prefix. Each public address serves as many
//! of them as blocks fit into its ports; the next hosts get the next address. What doesn't fill a
//! block at the end of the ports stays unused. So who had a port is told without a log of mappings.

/// One inside prefix and what it is translated to. IPv4, numbers host-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// First address of the inside prefix.
    pub inside: u32,
    /// Length of the inside prefix, bits.
    pub inside_len: u8,
    /// First public address.
    pub public: u32,
    /// How many public addresses, from there on.
    pub addresses: u16,
    /// First and last port that may be used.
    pub ports: [u16; 2],
    /// Ports of each host.
    pub size: u16,
}

/// What one host has: ports `first` to `last` (both included) of `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Public address.
    pub address: u32,
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

impl Blocks {
    /// Hosts that one public address serves.
    #[inline(always)]
    pub const fn per_address(&self) -> u32 {
        let [first, last] = self.ports;
        if self.size == 0 || last < first {
            return 0;
        }
        ((last - first) as u32 + 1) / self.size as u32
    }

    /// Hosts that all public addresses serve.
    #[inline(always)]
    pub const fn capacity(&self) -> u32 {
        // 65,535 addresses with 65,536 blocks each fit.
        self.per_address() * self.addresses as u32
    }

    /// Addresses in the inside prefix.
    pub const fn hosts(&self) -> u64 {
        if self.inside_len > 32 { 0 } else { 1 << (32 - self.inside_len) }
    }

    /// Whether every address of the inside prefix has a block.
    pub const fn serves_all(&self) -> bool {
        self.hosts() <= self.capacity() as u64
    }

    /// The host's place in the inside prefix; `None` if it isn't in it.
    #[inline(always)]
    const fn index(&self, host: u32) -> Option<u32> {
        let index = host.wrapping_sub(self.inside);
        if (index as u64) < self.hosts() { Some(index) } else { None }
    }

    /// What `host` has; `None` if it isn't of the inside prefix, or no block is left for it.
    #[inline(always)]
    pub const fn of_host(&self, host: u32) -> Option<Block> {
        let per_address = self.per_address();
        let Some(index) = self.index(host) else { return None };
        if per_address == 0 || index >= self.capacity() {
            return None;
        }
        // Fits: the block lies within the ports.
        let first = self.ports[0] as u32 + (index % per_address) * self.size as u32;
        Some(Block {
            address: self.public.wrapping_add(index / per_address),
            first: first as u16,
            last: (first + self.size as u32 - 1) as u16,
        })
    }

    /// Whose port of which address it is; `None` if it belongs to no host's block.
    #[inline(always)]
    pub const fn host_of(&self, address: u32, port: u16) -> Option<u32> {
        let per_address = self.per_address();
        let place = address.wrapping_sub(self.public);
        if per_address == 0 || place >= self.addresses as u32 || port < self.ports[0] {
            return None;
        }
        let block = (port - self.ports[0]) as u32 / self.size as u32;
        if block >= per_address {
            return None;
        }
        let index = place * per_address + block;
        if index as u64 >= self.hosts() { None } else { Some(self.inside.wrapping_add(index)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ip(a: u8, b: u8, c: u8, d: u8) -> u32 {
        u32::from_be_bytes([a, b, c, d])
    }

    const SMALL: Blocks = Blocks {
        inside: ip(10, 0, 0, 0),
        inside_len: 24,
        public: ip(203, 0, 113, 254),
        addresses: 5,
        ports: [1024, 65535],
        size: 1000,
    };

    #[test]
    fn by_hand() {
        assert_eq!((SMALL.per_address(), SMALL.capacity(), SMALL.hosts()), (64, 320, 256));
        assert!(SMALL.serves_all());
        let first = Block { address: ip(203, 0, 113, 254), first: 1024, last: 2023 };
        assert_eq!(SMALL.of_host(ip(10, 0, 0, 0)), Some(first));
        let last = Block { address: ip(203, 0, 113, 254), first: 64024, last: 65023 };
        assert_eq!(SMALL.of_host(ip(10, 0, 0, 63)), Some(last));
        // The addresses go on past the end of an octet.
        let far = Block { address: ip(203, 0, 114, 0), first: 1024, last: 2023 };
        assert_eq!(SMALL.of_host(ip(10, 0, 0, 128)), Some(far));
        assert_eq!(SMALL.of_host(ip(10, 0, 1, 0)), None);
        assert_eq!(SMALL.of_host(ip(9, 255, 255, 255)), None);
        assert_eq!(SMALL.host_of(ip(203, 0, 113, 254), 1023), None);
        assert_eq!(SMALL.host_of(ip(203, 0, 113, 254), 65023), Some(ip(10, 0, 0, 63)));
        assert_eq!(
            SMALL.host_of(ip(203, 0, 113, 254), 65024),
            None,
            "the rest that fills no block"
        );
        assert_eq!(SMALL.host_of(ip(203, 0, 114, 1), 64023), Some(ip(10, 0, 0, 254)));
        assert_eq!(SMALL.host_of(ip(203, 0, 114, 2), 1024), None, "a block without a host");
        assert_eq!(SMALL.host_of(ip(203, 0, 114, 3), 1024), None);
        assert_eq!(SMALL.host_of(ip(203, 0, 113, 253), 1024), None);
    }

    #[test]
    fn both_ways_agree_over_every_host_and_every_port() {
        for blocks in [
            SMALL,
            Blocks { size: 64, addresses: 1, ..SMALL },
            Blocks { size: 1, ports: [40000, 40009], addresses: 3, ..SMALL },
            Blocks { size: 65535, ports: [0, 65535], addresses: 300, ..SMALL },
            Blocks { size: 7, ports: [0, 65535], inside_len: 28, ..SMALL },
        ] {
            let mut owned = 0u32;
            for host in 0..blocks.hosts() as u32 {
                let host = blocks.inside + host;
                let Some(block) = blocks.of_host(host) else {
                    assert!(!blocks.serves_all());
                    continue;
                };
                assert_eq!((block.last - block.first) as u32 + 1, u32::from(blocks.size));
                assert!(block.first >= blocks.ports[0] && block.last <= blocks.ports[1]);
                for port in block.first..=block.last {
                    assert_eq!(blocks.host_of(block.address, port), Some(host));
                    owned += 1;
                }
            }
            // Every port that is somebody's was met above, so no two hosts share one.
            let all = (0..u32::from(blocks.addresses))
                .flat_map(|place| (0..=u16::MAX).map(move |port| (place, port)))
                .filter(|(place, port)| blocks.host_of(blocks.public + place, *port).is_some());
            assert_eq!(all.count() as u32, owned);
        }
    }

    #[test]
    fn senseless_blocks_belong_to_nobody() {
        for blocks in [
            Blocks { size: 0, ..SMALL },
            Blocks { ports: [2000, 1000], ..SMALL },
            Blocks { ports: [1000, 1001], ..SMALL },
            Blocks { addresses: 0, ..SMALL },
            Blocks { inside_len: 33, ..SMALL },
        ] {
            assert_eq!(blocks.of_host(SMALL.inside), None);
            assert_eq!(blocks.host_of(SMALL.public, 1024), None);
        }
        let whole = Blocks {
            inside: 0,
            inside_len: 0,
            addresses: u16::MAX,
            size: 1,
            ports: [0, u16::MAX],
            ..SMALL
        };
        assert_eq!(whole.capacity(), 65535 * 65536);
        assert_eq!(whole.of_host(u32::MAX), None);
        let last = whole.capacity() - 1;
        let block = whole.of_host(last).expect("the last that is served");
        assert_eq!(whole.host_of(block.address, block.first), Some(last));
    }
}
