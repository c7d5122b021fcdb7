//! SYN cookies: a SYN-ACK's sequence number from which its ACK is known again, so that a SYN leaves nothing
//! behind (RFC 4987 section 3.6).
//!
//! A cookie is the period in which it was made (2 bits), the class of the client's MSS (3 bits), and 27 bits
//! of a keyed hash (SipHash-2-4) over both, the tuple and the client's own number. What doesn't fit, window
//! scale and SACK, travels in the low six bits of the timestamp, which the client echoes; as in Linux
//! (net/ipv4/syncookies.c): a client without timestamps does without.

use crate::wire::{Facts, options::Options};

/// Words that are hashed.
pub const WORDS: usize = 6;

/// A period is `1 << PERIOD_SHIFT` nanoseconds, about 69 seconds. A cookie is good in the period in which it
/// was made and in the next one.
pub const PERIOD_SHIFT: u32 = 36;

/// Periods for which a cookie is good after the one it was made in.
pub const GOOD_FOR: u64 = 1;

/// MSS classes of IPv4: the least that every host takes, and what is common on tunnels, Ethernet and jumbo
/// frames. Powers of two many.
const CLASSES4: [u16; 8] = [536, 1200, 1300, 1360, 1400, 1440, 1460, 8960];
/// Those of IPv6, whose least is a packet of 1280.
const CLASSES6: [u16; 8] = [1220, 1280, 1320, 1360, 1400, 1420, 1440, 8940];

/// Window scale that is offered: Linux's own with its standard buffers (up to 8 MiB).
pub const SCALE: u8 = 7;

/// Window of the SYN-ACK, for which sockets have room unless they were told to have little: more than a first
/// flight (RFC 6928). The listener's own word comes with its first segment.
pub const WINDOW: u16 = 29_200;

/// Bits of a timestamp that carry options.
const OPTION_BITS: u32 = 0x3f;
/// No window scale.
const NO_SCALE: u32 = 0x0f;
/// SACK permitted.
const SACK: u32 = 1 << 4;

#[inline(always)]
fn class(family: u8, index: u8) -> u16 {
    let index = index as usize & 7;
    if family == 4 { CLASSES4[index] } else { CLASSES6[index] }
}

/// The MSS that a class stands for.
#[inline(always)]
pub fn mss_of(family: u8, index: u8) -> u16 {
    class(family, index)
}

/// The largest class that isn't above `mss` (0: none was said, which means the least). `None`: so little
/// that no class would do.
#[inline(always)]
pub fn class_of(family: u8, mss: u16) -> Option<u8> {
    if mss == 0 {
        return Some(0);
    }
    let mut index = 7;
    while index > 0 && class(family, index) > mss {
        index -= 1;
    }
    if class(family, index) > mss { None } else { Some(index) }
}

/// Period of a time.
#[inline(always)]
pub const fn period(now_ns: u64) -> u64 {
    now_ns >> PERIOD_SHIFT
}

/// Writes what is hashed: `isn` is the client's, as in its SYN.
#[inline(always)]
pub fn fill(words: &mut [u64; WORDS], f: &Facts, isn: u32, period: u64, class: u8) {
    let (s, d) = (&f.src, &f.dst);
    words[0] = u64::from_le_bytes([s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]]);
    words[1] = u64::from_le_bytes([s[8], s[9], s[10], s[11], s[12], s[13], s[14], s[15]]);
    words[2] = u64::from_le_bytes([d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]);
    words[3] = u64::from_le_bytes([d[8], d[9], d[10], d[11], d[12], d[13], d[14], d[15]]);
    let ports = u32::from_le_bytes([f.sport[0], f.sport[1], f.dport[0], f.dport[1]]);
    words[4] = (ports as u64) << 32 | isn as u64;
    words[5] = period << 8 | (class as u64) << 4 | f.family as u64;
}

#[inline(always)]
const fn round(v: [u64; 4]) -> [u64; 4] {
    let [mut a, mut b, mut c, mut d] = v;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012) of the first `N` words, little-endian.
#[inline(always)]
pub fn hash<const N: usize>(words: &[u64; N], key: [u64; 2]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let mut i = 0;
    while i <= N {
        // The last block is the length alone: the words are whole.
        let word = if i < N { words[i] } else { (N as u64 * 8) << 56 };
        v[3] ^= word;
        v = round(round(v));
        v[0] ^= word;
        i += 1;
    }
    v[2] ^= 0xff;
    v = round(round(round(round(v))));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

/// The cookie of a hash.
#[inline(always)]
pub const fn make(hash: u64, period: u64, class: u8) -> u32 {
    (period as u32 & 3) << 30 | (class as u32 & 7) << 27 | hash as u32 & 0x07ff_ffff
}

/// Class of a cookie.
#[inline(always)]
pub const fn class_in(cookie: u32) -> u8 {
    (cookie >> 27) as u8 & 7
}

/// Period in which a cookie says that it was made; `None`: too long ago.
#[inline(always)]
pub const fn period_in(cookie: u32, now: u64) -> Option<u64> {
    let age = (now as u32).wrapping_sub(cookie >> 30) & 3;
    if age as u64 > GOOD_FOR || (age as u64) > now { None } else { Some(now - age as u64) }
}

/// The timestamp that carries a SYN's options; near `clock`, and never after it.
#[inline(always)]
pub const fn timestamp(clock: u32, options: &Options, offers: Offers) -> u32 {
    let mut bits = NO_SCALE;
    if options.has_scale && offers.scale {
        bits = options.scale as u32 & 0x0f;
    }
    if options.sack && offers.sack {
        bits |= SACK;
    }
    (clock.wrapping_sub(OPTION_BITS) & !OPTION_BITS) | bits
}

/// Which options the machine's own TCP takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// Timestamps; without, the others can't be kept.
    pub timestamps: bool,
    /// Window scale.
    pub scale: bool,
    /// SACK.
    pub sack: bool,
}

/// What the client's SYN said, from the timestamp that its ACK echoes.
#[inline(always)]
pub const fn options_in(echo: u32) -> Options {
    let scale = echo & 0x0f;
    Options {
        timestamp: 0,
        echo: 0,
        mss: 0,
        scale: if scale == NO_SCALE { 0 } else { scale as u8 },
        has_scale: scale != NO_SCALE,
        sack: echo & SACK != 0,
        has_timestamp: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_s_own_vectors() {
        // The paper's key, and of the reference implementation's vectors those for whole words: 8 and 16
        // bytes (vectors.h, vectors_sip64).
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(hash(&[0x0706_0504_0302_0100], key), 0x93f5_f579_9a93_2462);
        let words: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(hash(&words, key), 0x3f2a_cc7f_57c2_9bdb);
    }

    #[test]
    fn classes_never_promise_more_than_was_said() {
        for family in [4, 6] {
            for mss in 1..=u16::MAX {
                match class_of(family, mss) {
                    Some(index) => {
                        assert!(mss_of(family, index) <= mss);
                        assert!(index == 7 || mss_of(family, index + 1) > mss);
                    }
                    None => assert!(mss < mss_of(family, 0)),
                }
            }
            assert_eq!(class_of(family, 0), Some(0));
        }
    }

    #[test]
    fn a_cookie_says_when_and_what() {
        for now in 0..40u64 {
            for class in 0..8 {
                let cookie = make(u64::MAX, now, class);
                assert_eq!(class_in(cookie), class);
                assert_eq!(period_in(cookie, now), Some(now));
                assert_eq!(period_in(cookie, now + 1), Some(now));
                assert_eq!(period_in(cookie, now + 2), None);
                assert_eq!(period_in(cookie, now + 3), None);
            }
        }
        assert_eq!(period_in(make(0, 3, 0), 0), None, "from before the clock began");
    }

    #[test]
    fn options_come_back_by_the_timestamp() {
        let offers = Offers { timestamps: true, scale: true, sack: true };
        for clock in [0u32, 63, 64, 1_000_000, u32::MAX] {
            for scale in 0..=14 {
                for (has_scale, sack) in
                    [(true, true), (true, false), (false, true), (false, false)]
                {
                    let said = Options { scale, has_scale, sack, ..Options::default() };
                    let at = timestamp(clock, &said, offers);
                    assert!(clock.wrapping_sub(at) < 127, "near the clock, not after it");
                    let back = options_in(at);
                    assert_eq!((back.has_scale, back.sack), (has_scale, sack));
                    assert_eq!(back.scale, if has_scale { scale } else { 0 });
                }
            }
        }
        let none = Offers { timestamps: true, ..Offers::default() };
        let said = Options { scale: 3, has_scale: true, sack: true, ..Options::default() };
        let back = options_in(timestamp(500, &said, none));
        assert!(!back.has_scale && !back.sack);
    }

    #[test]
    fn every_part_of_the_tuple_counts() {
        let mut f = Facts { family: 4, proto: 6, ..Facts::default() };
        f.src[3] = 1;
        f.dst[3] = 2;
        let of = |f: &Facts, isn, period, class| {
            let mut words = [0; WORDS];
            fill(&mut words, f, isn, period, class);
            hash(&words, [1, 2])
        };
        let base = of(&f, 7, 9, 3);
        let mut others = vec![of(&f, 8, 9, 3), of(&f, 7, 10, 3), of(&f, 7, 9, 2)];
        for change in 0..5 {
            let mut g = f;
            match change {
                0 => g.src[15] ^= 1,
                1 => g.dst[0] ^= 1,
                2 => g.sport[1] ^= 1,
                3 => g.dport[0] ^= 1,
                _ => g.family = 6,
            }
            others.push(of(&g, 7, 9, 3));
        }
        assert!(others.iter().all(|other| *other != base));
    }
}
