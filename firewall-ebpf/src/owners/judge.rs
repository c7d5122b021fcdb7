//! The rules, asked: who calls, for what, by which policy.

use aya_ebpf::{
    cty::c_void,
    helpers::generated::{bpf_jiffies64, bpf_loop},
};
use core::mem::MaybeUninit;
use firewall_common::abi::{
    iface::IFACE_SLOTS,
    owner::{ExeKey, NameKey, OwnerTable, UserKey},
    small::{SMALL_RULES, WORDS},
    socket::Process,
    table::{ACTION_LOG, MAX_CONTINUES, RuleAction, SLOT_NONE, Verdict},
};

use crate::{
    atomic,
    call::Call,
    lookup::{at, row, v4, v6},
    maps::{OWNER_COUNTERS, OWNER_EXES, OWNER_PROCESSES, OWNER_USERS, RULE_COUNTERS},
    tell,
};

/// Rows of the eleven fields.
const FIELDS: usize = 11;

/// What is judged, at hand for each rule that is met.
pub struct Asked<'a> {
    /// The rules.
    pub table: &'a OwnerTable,
    /// What is called for.
    pub call: &'a Call,
    /// Who calls.
    pub who: &'a Process,
    /// Cookie of the socket.
    pub socket: u64,
    /// Rows of the caller's unit and cgroup, packed.
    pub place: u32,
    /// Generation of the policy.
    pub generation: u32,
    rows: MaybeUninit<[u16; FIELDS]>,
    first: usize,
}

#[inline(always)]
fn word(asked: &Asked<'_>, w: usize) -> u64 {
    let table = &asked.table.rules;
    // SAFETY: `look_up` wrote them all.
    let rows = unsafe { asked.rows.assume_init_ref() };
    row(table, rows[0])[w]
        & row(table, rows[1])[w]
        & row(table, rows[2])[w]
        & row(table, rows[3])[w]
        & row(table, rows[4])[w]
        & row(table, rows[5])[w]
        & row(table, rows[6])[w]
        & row(table, rows[7])[w]
        & row(table, rows[8])[w]
        & row(table, rows[9])[w]
        & row(table, rows[10])[w]
}

/// The value of a map, or else `unlisted`.
macro_rules! listed {
    ($map:ident, $key:expr, $unlisted:expr) => {
        $map.get_ptr(&$key).map_or($unlisted, |row| {
            // SAFETY: a live map value.
            (unsafe { row.read_volatile() }) as u16
        })
    };
}

/// Out of line: its frame, with the keys, is gone before a rule is met.
#[inline(never)]
fn look_up(asked: &mut Asked<'_>) {
    let (owners, call, who) = (asked.table, asked.call, asked.who);
    let table = &owners.rules;
    // SAFETY: sixteen bytes each, of any alignment.
    let (src, dst) = unsafe {
        (&*(&raw const call.src).cast::<[u8; 16]>(), &*(&raw const call.dst).cast::<[u8; 16]>())
    };
    let (src, dst) = if call.family == 4 {
        (v4(&table.src4, src), v4(&table.dst4, dst))
    } else {
        (v6(&table.src6, src), v6(&table.dst6, dst))
    };
    let (sport, dport) = if call.has_ports() {
        (
            at!(table.sport, u16::from_be(call.sport as u16), 65_536),
            at!(table.dport, u16::from_be(call.dport as u16), 65_536),
        )
    } else {
        (table.no_port[0], table.no_port[1])
    };
    let index = asked.generation & 1;
    let meta = call.direction() as usize * IFACE_SLOTS;
    let user = UserKey { uid: who.uid, table: index };
    let exe = ExeKey { inode: who.exe_inode, device: who.exe_device, table: index };
    let name = NameKey { comm: who.comm, table: index, _pad: 0 };
    let rows = asked.rows.as_mut_ptr().cast::<u16>();
    let put = |i: usize, row: u16| {
        // SAFETY: below the array's length. One by one: joined, they would stand at odd places.
        unsafe { rows.add(i).write_volatile(row) };
    };
    put(0, src);
    put(1, dst);
    put(2, sport);
    put(3, dport);
    put(4, at!(table.proto, call.proto, 256));
    put(5, at!(table.meta, meta, 2 * IFACE_SLOTS));
    put(6, listed!(OWNER_USERS, user, owners.unlisted[0]));
    put(7, listed!(OWNER_EXES, exe, owners.unlisted[1]));
    put(8, listed!(OWNER_PROCESSES, name, owners.unlisted[2]));
    put(9, asked.place as u16);
    put(10, (asked.place >> 16) as u16);
}

/// Counts the call on a rule; tells of it if the rule says so, or refuses.
#[inline(always)]
fn meet(asked: &Asked<'_>, index: usize) -> u64 {
    let action: RuleAction = at!(asked.table.rules.actions, index, SMALL_RULES);
    if action.slot() == SLOT_NONE {
        return Verdict::Allow as u64;
    }
    if let Some(counter) = RULE_COUNTERS.get_ptr_mut(action.slot()) {
        // SAFETY: a live map value; its fields are aligned words. What interrupts us may count here, too.
        unsafe {
            atomic::add(&raw mut (*counter).hits, 1);
            if asked.call.comes_in() {
                atomic::add(&raw mut (*counter).packets, 1);
            }
            (&raw mut (*counter).last).write_volatile(bpf_jiffies64());
        }
    }
    let refused = matches!(action.verdict(), 2 | 3);
    if refused || action.flags() & ACTION_LOG != 0 {
        tell::call(asked, action);
    }
    u64::from(action.verdict())
}

/// One rule that only counts or logs; 1 ends the walk.
extern "C" fn pass_by(i: u64, ctx: *mut c_void) -> i64 {
    // SAFETY: `judge` hands over a live question.
    let asked = unsafe { &*ctx.cast::<Asked<'_>>() };
    let table = &asked.table.rules;
    let index = usize::from(at!(table.continues, i, MAX_CONTINUES)) & (SMALL_RULES - 1);
    if index > asked.first {
        return 1;
    }
    if word(asked, index / 64) >> (index % 64) & 1 != 0 {
        meet(asked, index);
    }
    0
}

/// What the rules say: a [`Verdict`]; allow where none is met. `place`: rows of the caller's unit and cgroup, and above
/// them the generation (a call takes five arguments at most). A frame of its own.
#[inline(never)]
pub fn judge(table: &OwnerTable, call: &Call, who: &Process, place: u64, socket: u64) -> u64 {
    let generation = (place >> 32) as u32;
    let asked = &mut Asked {
        table,
        call,
        who,
        socket,
        place: place as u32,
        generation,
        rows: MaybeUninit::uninit(),
        first: SMALL_RULES,
    };
    if let Some(counter) = OWNER_COUNTERS.get_ptr_mut(0) {
        // SAFETY: a live map value; the field is an aligned word.
        unsafe { atomic::add(&raw mut (*counter).judged, 1) };
    }
    look_up(asked);
    let table = &asked.table.rules;
    let words = table.settings.words as usize;
    let mut w = 0;
    while w < WORDS && w < words {
        let set = word(asked, w) & table.terminal[w];
        if set != 0 {
            asked.first = w * 64 + set.trailing_zeros() as usize;
            break;
        }
        w += 1;
    }
    if table.continues_len != 0 {
        let ctx = core::ptr::from_mut::<Asked<'_>>(asked).cast();
        // SAFETY: the callback takes the question, which outlives the call.
        unsafe { bpf_loop(table.continues_len, pass_by as *mut c_void, ctx, 0) };
    }
    if asked.first < SMALL_RULES { meet(asked, asked.first) } else { Verdict::Allow as u64 }
}
