//! The rows of a policy: a map of its own for each policy, of one of three sizes, so that ten rules don't take the memory of
//! ten thousand. What looks into it is compiled once for each size, as the verifier wants every offset below a bound that
//! it knows. All of it are global functions, verified by themselves; what they look up are `work.fields`.

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps},
    cty::c_void,
    helpers::generated::bpf_loop,
    macros::btf_map,
};
use firewall_common::{
    abi::{
        iface::IFACE_SLOTS,
        set::ASK_WORDS,
        table::{
            ACTION_ADDS, ACTION_ASKS, ARENAS, Direction, MAX_CONTINUES, MAX_PARTS, PART_WORDS,
            Part, RuleAction, RuleTable, State,
        },
    },
    classify::{self, Arena, HAS_V4, NO_RULE, Rows, Step},
};

use crate::{
    arena::Mem,
    asks,
    classify::{meet, v6_halves},
    maps::{MMAPABLE, again_at_hand, at_hand},
    opaque::{put, volatile},
    work::Work,
};

type Rules<const WORDS: usize> = ArrayOfMaps<Array<[u64; WORDS], 1, { MMAPABLE as usize }>, 2>;

/// Arenas of small policies. As `TABLES`, the entry that isn't live is written; the daemon makes the map that it holds.
#[btf_map]
pub static RULES_S: Rules<{ ARENAS[0] }> = Rules::new();

/// The same of larger ones.
#[btf_map]
pub static RULES_M: Rules<{ ARENAS[1] }> = Rules::new();

/// The same of the largest.
#[btf_map]
pub static RULES_L: Rules<{ ARENAS[2] }> = Rules::new();

/// What [`in_part`] says where no rule is met; else the rule's place among all (upper half) and its action.
pub const NOTHING: u64 = u64::MAX;

/// The action in what [`in_part`] says.
#[inline(always)]
pub fn action(said: u64) -> RuleAction {
    RuleAction(said as u32)
}

#[inline(always)]
fn part(table: &RuleTable, index: u32) -> &Part {
    // SAFETY: the masked index is below the array's length.
    unsafe { table.parts.get_unchecked(index as usize & (MAX_PARTS - 1)) }
}

/// Where the rows of a part stand that were looked up: those of part 0 stay, for translations and rules that only count.
#[inline(always)]
fn rows_of(work: &mut Work, index: u32) -> &mut Rows {
    let other = (index | index.wrapping_neg()) >> 31;
    // SAFETY: 0 or 1.
    unsafe { work.rows.get_unchecked_mut(other as usize & 1) }
}

/// What is said of a rule of a part; the number behind it goes to `work.behind`.
#[inline(always)]
fn said_of(arena: &impl Arena, part: &Part, work: &mut Work, rule: u32) -> u64 {
    put(&mut work.behind, rule + 1);
    let place = arena.half(part.order + rule);
    u64::from(place) << 32 | u64::from(arena.half(part.actions + rule))
}

/// The first rule of a part that decides.
#[inline(always)]
fn in_part(arena: &impl Arena, table: &RuleTable, work: &mut Work, index: u32) -> u64 {
    let part = part(table, index);
    let fields = &raw const work.fields;
    let rows = rows_of(work, index);
    // SAFETY: the work's own; the rows stand elsewhere in it.
    classify::rows(arena, part, unsafe { &*fields }, rows);
    let rule = classify::first(arena, part, rows);
    if rule == NO_RULE {
        return NOTHING;
    }
    said_of(arena, part, work, rule)
}

/// One step of [`behind`], from `work.behind_search` on; 1 ends it.
#[inline(always)]
fn search(arena: &impl Arena, table: &RuleTable, work: &mut Work) -> i64 {
    let Search { index, from, .. } = volatile(&work.behind_search);
    let part = part(table, index);
    match classify::step(arena, part, rows_of(work, index), from) {
        Step::From(from) => {
            put(&mut work.behind_search.from, from);
            0
        }
        Step::Found(rule) => {
            put(&mut work.behind_search.rule, rule);
            1
        }
        Step::Over => 1,
    }
}

/// A search behind a rule.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Search {
    /// The part.
    index: u32,
    /// Number in it that it goes on from.
    from: u32,
    /// What was found; [`NO_RULE`].
    rule: u32,
}

/// Steps of a search, at most: one for each word, one for each that sums them up.
const STEPS: u32 = (PART_WORDS + PART_WORDS / 64) as u32;

/// Begins a search for what [`in_part`] says, from number `from` of a part on; 0: it has to be gone on with. Rare: where
/// what rows don't know of a rule doesn't hold.
#[inline(always)]
fn behind(arena: &impl Arena, table: &RuleTable, work: &mut Work, index: u32, from: u32) -> i64 {
    put(&mut work.behind_search.index, index);
    put(&mut work.behind_search.from, from);
    put(&mut work.behind_search.rule, NO_RULE);
    // Two steps are all there is to do where a part has few rules: a loop costs more than they do.
    if search(arena, table, work) != 0 { 1 } else { search(arena, table, work) }
}

/// What the search found, as [`in_part`] says it.
#[inline(always)]
fn found(arena: &impl Arena, table: &RuleTable, work: &mut Work) -> u64 {
    let Search { index, rule, .. } = volatile(&work.behind_search);
    if rule == NO_RULE { NOTHING } else { said_of(arena, part(table, index), work, rule) }
}

/// Parts that are asked for the packet's addresses: source's in the upper half, destination's in the lower; 0: none.
#[inline(always)]
fn of_addresses(arena: &impl Arena, table: &RuleTable, work: &Work) -> u64 {
    let f = &work.fields;
    let (src, dst) = if f.has & HAS_V4 != 0 {
        (
            classify::trie(arena, table.by_src4, f.src[0] as u32),
            classify::trie(arena, table.by_dst4, f.dst[0] as u32),
        )
    } else {
        (
            classify::intervals(arena, &table.by_src6, f.src[0], f.src[1]),
            classify::intervals(arena, &table.by_dst6, f.dst[0], f.dst[1]),
        )
    };
    u64::from(src) << 32 | u64::from(dst)
}

/// One rule that only counts or logs, number `i` of those from `work.passed` on; 1 ends the walk. What it needs stands in
/// the work, not on the stack.
#[inline(always)]
fn pass_by(arena: &impl Arena, table: &RuleTable, work: &mut Work, i: u32) -> i64 {
    let part = part(table, 0);
    let at = volatile(&work.passed) + i;
    // SAFETY: the masked index is below the array's length.
    let rule =
        u32::from(unsafe { *table.continues.get_unchecked(at as usize & (MAX_CONTINUES - 1)) });
    let place = arena.half(part.order + rule);
    if place > volatile(&work.pass_end) {
        return 1;
    }
    if classify::meets(arena, part, &work.rows[0], rule) {
        let raw = arena.half(part.actions + rule);
        if action(u64::from(raw)).flags() & (ACTION_ASKS | ACTION_ADDS) != 0 {
            asks::note_passing(work, u64::from(place) << 32 | u64::from(raw));
            put(&mut work.stopped, at + 1);
            return 1;
        }
        meet(action(u64::from(raw)), table, work);
    }
    0
}

/// Puts what rows don't know of the rule at `place` among all into `work.ask`.
#[inline(always)]
fn ask(arena: &impl Arena, table: &RuleTable, work: &mut Work, place: u32) {
    let at = arena.half(table.asks + place);
    let mut i = 0;
    while i < ASK_WORDS {
        // SAFETY: the masked index is below the array's length.
        let to = unsafe { work.ask.get_unchecked_mut((i & (ASK_WORDS - 1)) as usize) };
        put(to, arena.word(at + i));
        i += 1;
    }
}

/// Counts the packet on the rules before place `end` that only count or log, from number `from` of them on. Where rows
/// don't know all of one, or it adds to sets, it isn't counted: what it says is noted, and the number behind it returned.
/// Else 0. `step` is [`pass_by`] in an arena of this size.
#[inline(always)]
fn count(
    table: &RuleTable,
    work: &mut Work,
    end: u32,
    from: u32,
    step: extern "C" fn(u64, *mut c_void) -> i64,
) -> u32 {
    put(&mut work.pass_end, end);
    put(&mut work.passed, from);
    put(&mut work.stopped, 0);
    let left = table.continues_len.wrapping_sub(from);
    // A plain loop of this length would cost the verifier its million instructions.
    // SAFETY: the callback takes nothing.
    unsafe { bpf_loop(left, step as *mut c_void, core::ptr::null_mut(), 0) };
    volatile(&work.stopped)
}

/// Rows of part 0 that are looked up anew, or those that the last look-up left.
pub const AGAIN: u32 = 1;

/// The translation rules that a packet meets.
#[inline(always)]
fn translations(arena: &impl Arena, table: &RuleTable, work: &mut Work, again: u32) -> u64 {
    if again != 0 {
        classify::rows(arena, part(table, 0), &work.fields, &mut work.rows[0]);
    }
    classify::nat_word(arena, &work.rows[0], table.settings.nat_word)
}

/// Which address [`prefix_rules`] looks up.
#[derive(Clone, Copy)]
pub enum Which {
    /// The packet's source.
    Source = 0,
    /// Its destination.
    Destination = 1,
    /// Source of the packet that it quotes.
    QuotedSource = 2,
    /// Destination of that.
    QuotedDestination = 3,
}

/// The translation rules that are met by an IPv6 address and an interface, whatever else they ask: those for prefixes ask
/// nothing else. Those at ingress change destinations.
#[inline(always)]
fn of_prefix(
    arena: &impl Arena,
    table: &RuleTable,
    work: &Work,
    direction: u32,
    which: u32,
) -> u64 {
    let address = match which {
        0 => &work.facts.src,
        1 => &work.facts.dst,
        2 => &work.other.src,
        _ => &work.other.dst,
    };
    let part = part(table, 0);
    let map = if direction == Direction::In as u32 { &part.dst6 } else { &part.src6 };
    let [hi, lo] = v6_halves(address);
    let row = classify::intervals(arena, map, hi, lo);
    let place = direction as usize * IFACE_SLOTS + (work.iface as usize & (IFACE_SLOTS - 1));
    let place = arena.half(part.place + (place * STATES_OF_PLACE) as u32 + State::New as u32);
    let word = table.settings.nat_word;
    arena.word(row + word) & arena.word(place + word)
}

const STATES_OF_PLACE: usize = firewall_common::abi::table::STATES;

/// The functions of one size.
macro_rules! sized {
    ($map:ident, $words:expr, $part:ident, $behind:ident, $found:ident, $search:ident, $cut:ident, $count:ident, $pass:ident, $nat:ident, $prefix:ident, $ask:ident) => {
        /// See [`in_part`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $part(generation: u32, index: u32) -> u64 {
            let Some((table, work)) = at_hand(generation) else { return NOTHING };
            let Some(arena) = $map.get_value(generation & 1, &0) else { return NOTHING };
            in_part(&Mem::<{ $words }>(arena.as_ptr()), table, work, index)
        }
        /// See [`behind`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $behind(generation: u32, index: u32, from: u32) -> i64 {
            let Some((table, work)) = at_hand(generation) else { return 1 };
            let Some(arena) = $map.get_value(generation & 1, &0) else { return 1 };
            behind(&Mem::<{ $words }>(arena.as_ptr()), table, work, index, from)
        }
        /// See [`found`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $found(generation: u32) -> u64 {
            let Some((table, work)) = at_hand(generation) else { return NOTHING };
            let Some(arena) = $map.get_value(generation & 1, &0) else { return NOTHING };
            found(&Mem::<{ $words }>(arena.as_ptr()), table, work)
        }
        /// See [`search`].
        extern "C" fn $search(_: u64, _: *mut c_void) -> i64 {
            let Some((generation, table, work)) = again_at_hand() else { return 1 };
            let Some(arena) = $map.get_value(generation & 1, &0) else { return 1 };
            search(&Mem::<{ $words }>(arena.as_ptr()), table, work)
        }
        /// See [`of_addresses`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $cut(generation: u32) -> u64 {
            let Some((table, work)) = at_hand(generation) else { return 0 };
            let Some(arena) = $map.get_value(generation & 1, &0) else { return 0 };
            of_addresses(&Mem::<{ $words }>(arena.as_ptr()), table, work)
        }
        /// See [`count`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $count(generation: u32, end: u32, from: u32) -> u32 {
            let Some((table, work)) = at_hand(generation) else { return 0 };
            count(table, work, end, from, $pass)
        }
        /// See [`pass_by`].
        extern "C" fn $pass(i: u64, _: *mut c_void) -> i64 {
            let Some((generation, table, work)) = again_at_hand() else { return 1 };
            let Some(arena) = $map.get_value(generation & 1, &0) else { return 1 };
            pass_by(&Mem::<{ $words }>(arena.as_ptr()), table, work, i as u32)
        }
        /// See [`translations`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $nat(generation: u32, again: u32) -> u64 {
            let Some((table, work)) = at_hand(generation) else { return 0 };
            let Some(arena) = $map.get_value(generation & 1, &0) else { return 0 };
            translations(&Mem::<{ $words }>(arena.as_ptr()), table, work, again)
        }
        /// See [`of_prefix`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $prefix(generation: u32, direction: u32, which: u32) -> u64 {
            let Some((table, work)) = at_hand(generation) else { return 0 };
            let Some(arena) = $map.get_value(generation & 1, &0) else { return 0 };
            of_prefix(&Mem::<{ $words }>(arena.as_ptr()), table, work, direction, which)
        }
        /// See [`ask`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $ask(generation: u32, place: u32) -> u32 {
            let Some((table, work)) = at_hand(generation) else { return 0 };
            let Some(arena) = $map.get_value(generation & 1, &0) else { return 0 };
            ask(&Mem::<{ $words }>(arena.as_ptr()), table, work, place);
            1
        }
    };
}

sized!(
    RULES_S,
    ARENAS[0],
    sluice_part_s,
    sluice_behind_s,
    sluice_found_s,
    search_s,
    sluice_cut_s,
    sluice_count_s,
    pass_s,
    sluice_nat_s,
    sluice_npt_s,
    sluice_ask_s
);
sized!(
    RULES_M,
    ARENAS[1],
    sluice_part_m,
    sluice_behind_m,
    sluice_found_m,
    search_m,
    sluice_cut_m,
    sluice_count_m,
    pass_m,
    sluice_nat_m,
    sluice_npt_m,
    sluice_ask_m
);
sized!(
    RULES_L,
    ARENAS[2],
    sluice_part_l,
    sluice_behind_l,
    sluice_found_l,
    search_l,
    sluice_cut_l,
    sluice_count_l,
    pass_l,
    sluice_nat_l,
    sluice_npt_l,
    sluice_ask_l
);

/// [`in_part`] of part 0, without a call.
#[inline(always)]
pub fn first_at_once(table: &RuleTable, work: &mut Work) -> u64 {
    let at = volatile(&work.generation) & 1;
    macro_rules! in_it {
        ($map:ident, $size:expr) => {{
            let Some(arena) = $map.get_value(at, &0) else { return NOTHING };
            in_part(&Mem::<{ ARENAS[$size] }>(arena.as_ptr()), table, work, 0)
        }};
    }
    match table.size {
        0 => in_it!(RULES_S, 0),
        1 => in_it!(RULES_M, 1),
        _ => in_it!(RULES_L, 2),
    }
}

/// [`in_part`] of an arena of `size`.
#[inline(always)]
pub fn first(size: u32, generation: u32, index: u32) -> u64 {
    match size {
        0 => sluice_part_s(generation, index),
        1 => sluice_part_m(generation, index),
        _ => sluice_part_l(generation, index),
    }
}

/// As [`first`], from number `from` of the part on. One call after the other: the stack is nearly used up here.
#[inline(always)]
pub fn next(size: u32, generation: u32, index: u32, from: u32) -> u64 {
    if index != 0 {
        // Its rows anew: parts but for part 0 share the place of theirs.
        first(size, generation, index);
    }
    let ended = match size {
        0 => sluice_behind_s(generation, index, from),
        1 => sluice_behind_m(generation, index, from),
        _ => sluice_behind_l(generation, index, from),
    };
    if ended == 0 {
        let step = match size {
            0 => search_s,
            1 => search_m,
            _ => search_l,
        };
        // SAFETY: the callback takes nothing.
        unsafe { bpf_loop(STEPS, step as *mut c_void, core::ptr::null_mut(), 0) };
    }
    match size {
        0 => sluice_found_s(generation),
        1 => sluice_found_m(generation),
        _ => sluice_found_l(generation),
    }
}

/// [`of_addresses`] in an arena of `size`.
#[inline(always)]
pub fn parts_of(size: u32, generation: u32) -> u64 {
    match size {
        0 => sluice_cut_s(generation),
        1 => sluice_cut_m(generation),
        _ => sluice_cut_l(generation),
    }
}

/// [`count`] in an arena of `size`.
#[inline(always)]
pub fn pass(size: u32, generation: u32, end: u32, from: u32) -> u32 {
    match size {
        0 => sluice_count_s(generation, end, from),
        1 => sluice_count_m(generation, end, from),
        _ => sluice_count_l(generation, end, from),
    }
}

/// [`translations`] in an arena of `size`.
#[inline(always)]
pub fn nat(size: u32, generation: u32, again: u32) -> u64 {
    match size {
        0 => sluice_nat_s(generation, again),
        1 => sluice_nat_m(generation, again),
        _ => sluice_nat_l(generation, again),
    }
}

/// [`of_prefix`] in an arena of `size`.
#[inline(always)]
pub fn prefix_rules(size: u32, generation: u32, direction: Direction, which: Which) -> u64 {
    let (direction, which) = (direction as u32, which as u32);
    match size {
        0 => sluice_npt_s(generation, direction, which),
        1 => sluice_npt_m(generation, direction, which),
        _ => sluice_npt_l(generation, direction, which),
    }
}

/// [`ask`] in an arena of `size`; whether it could be read.
#[inline(always)]
pub fn read_ask(size: u32, generation: u32, place: u32) -> bool {
    let read = match size {
        0 => sluice_ask_s(generation, place),
        1 => sluice_ask_m(generation, place),
        _ => sluice_ask_l(generation, place),
    };
    read != 0
}
