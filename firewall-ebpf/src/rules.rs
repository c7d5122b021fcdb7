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
    maps::{MMAPABLE, TABLES, WORK},
    opaque::put,
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

/// What [`search`] needs.
struct Rest<'a> {
    arena: *const u64,
    part: &'a Part,
    rows: &'a Rows,
    from: u32,
    rule: u32,
}

/// One step of [`behind`]; 1 ends it.
extern "C" fn search<const WORDS: usize>(_: u64, ctx: *mut c_void) -> i64 {
    // SAFETY: `behind` hands over a live `Rest`.
    let rest = unsafe { &mut *ctx.cast::<Rest>() };
    match classify::step(&Mem::<WORDS>(rest.arena), rest.part, rest.rows, rest.from) {
        Step::From(from) => {
            rest.from = from;
            0
        }
        Step::Found(rule) => {
            rest.rule = rule;
            1
        }
        Step::Over => 1,
    }
}

/// Steps of a search, at most: one for each word, one for each that sums them up.
const STEPS: u32 = (PART_WORDS + PART_WORDS / 64) as u32;

/// As [`in_part`], from number `from` of the part on. Rare: where what rows don't know of a rule doesn't hold.
#[inline(always)]
fn behind<const WORDS: usize>(
    arena: *const u64,
    table: &RuleTable,
    work: &mut Work,
    index: u32,
    from: u32,
) -> u64 {
    let part = part(table, index);
    let fields = &raw const work.fields;
    let rows = rows_of(work, index);
    if index != 0 {
        // Parts but for part 0 share the place of theirs.
        // SAFETY: as in `in_part`.
        classify::rows(&Mem::<WORDS>(arena), part, unsafe { &*fields }, rows);
    }
    let mut rest = Rest { arena, part, rows, from, rule: NO_RULE };
    // Two steps are all there is to do where a part has few rules: a loop costs more than they do.
    let mut turns = 0;
    while turns < 2 {
        match classify::step(&Mem::<WORDS>(arena), part, rows, rest.from) {
            Step::From(from) => rest.from = from,
            Step::Found(rule) => return said_of(&Mem::<WORDS>(arena), part, work, rule),
            Step::Over => return NOTHING,
        }
        turns += 1;
    }
    let ctx = (&raw mut rest).cast();
    // SAFETY: the callback takes a `Rest`, which outlives the call.
    unsafe { bpf_loop(STEPS, search::<WORDS> as *mut c_void, ctx, 0) };
    let rule = rest.rule;
    if rule == NO_RULE {
        return NOTHING;
    }
    said_of(&Mem::<WORDS>(arena), part, work, rule)
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

/// What [`pass_by`] needs.
struct Walk<'a> {
    arena: *const u64,
    table: &'a RuleTable,
    work: &'a mut Work,
    end: u32,
    from: u32,
    stopped: u32,
}

/// One rule that only counts or logs, number `i` of those that are left; 1 ends the walk.
extern "C" fn pass_by<const WORDS: usize>(i: u64, ctx: *mut c_void) -> i64 {
    // SAFETY: `count` hands over a live `Walk`.
    let walk = unsafe { &mut *ctx.cast::<Walk>() };
    let arena = Mem::<WORDS>(walk.arena);
    let part = part(walk.table, 0);
    let at = walk.from + i as u32;
    // SAFETY: the masked index is below the array's length.
    let rule = u32::from(unsafe {
        *walk.table.continues.get_unchecked(at as usize & (MAX_CONTINUES - 1))
    });
    if arena.half(part.order + rule) > walk.end {
        return 1;
    }
    if classify::meets(&arena, part, &walk.work.rows[0], rule) {
        let place = arena.half(part.order + rule);
        let raw = arena.half(part.actions + rule);
        if action(u64::from(raw)).flags() & (ACTION_ASKS | ACTION_ADDS) != 0 {
            asks::note_passing(walk.work, u64::from(place) << 32 | u64::from(raw));
            walk.stopped = at + 1;
            return 1;
        }
        meet(action(u64::from(raw)), walk.table, walk.work);
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
/// Else 0.
#[inline(always)]
fn count<const WORDS: usize>(
    arena: *const u64,
    table: &RuleTable,
    work: &mut Work,
    end: u32,
    from: u32,
) -> u32 {
    let left = table.continues_len.wrapping_sub(from);
    let mut walk = Walk { arena, table, work, end, from, stopped: 0 };
    let ctx = (&raw mut walk).cast();
    // A plain loop of this length would cost the verifier its million instructions.
    // SAFETY: the callback takes a `Walk`, which outlives the call.
    unsafe { bpf_loop(left, pass_by::<WORDS> as *mut c_void, ctx, 0) };
    walk.stopped
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
    ($map:ident, $words:expr, $part:ident, $behind:ident, $cut:ident, $count:ident, $nat:ident, $prefix:ident, $ask:ident) => {
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
        pub extern "C" fn $behind(generation: u32, index: u32, from: u32) -> u64 {
            let Some((table, work)) = at_hand(generation) else { return NOTHING };
            let Some(arena) = $map.get_value(generation & 1, &0) else { return NOTHING };
            behind::<{ $words }>(arena.as_ptr(), table, work, index, from)
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
            let Some(arena) = $map.get_value(generation & 1, &0) else { return 0 };
            count::<{ $words }>(arena.as_ptr(), table, work, end, from)
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
    sluice_cut_s,
    sluice_count_s,
    sluice_nat_s,
    sluice_npt_s,
    sluice_ask_s
);
sized!(
    RULES_M,
    ARENAS[1],
    sluice_part_m,
    sluice_behind_m,
    sluice_cut_m,
    sluice_count_m,
    sluice_nat_m,
    sluice_npt_m,
    sluice_ask_m
);
sized!(
    RULES_L,
    ARENAS[2],
    sluice_part_l,
    sluice_behind_l,
    sluice_cut_l,
    sluice_count_l,
    sluice_nat_l,
    sluice_npt_l,
    sluice_ask_l
);

#[inline(always)]
fn at_hand(generation: u32) -> Option<(&'static RuleTable, &'static mut Work)> {
    let (table, work) = (TABLES.get_ptr(generation & 1)?, WORK.get_ptr_mut(0)?);
    // SAFETY: live map values; the table isn't written while its generation is live, the work is this CPU's own.
    Some(unsafe { (&*table, &mut *work) })
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

/// [`behind`] in an arena of `size`.
#[inline(always)]
pub fn next(size: u32, generation: u32, index: u32, from: u32) -> u64 {
    match size {
        0 => sluice_behind_s(generation, index, from),
        1 => sluice_behind_m(generation, index, from),
        _ => sluice_behind_l(generation, index, from),
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
