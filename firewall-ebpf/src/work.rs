//! What is known of the packet at hand. It lives in a per-CPU map, because 512 bytes of stack are not
//! enough for it; programs of one CPU don't nest, so each packet has it to itself.

use firewall_common::{
    abi::{
        flow::Flow,
        frag::{FragFirst, FragKey},
        set::ASK_WORDS,
        table::{Direction, State},
    },
    classify::{Fields, Rows},
    wire::{Facts, options::Options},
};

use crate::{
    asks::{Adding, Found, Look, PARTS_ASKED},
    conntrack::Key,
    cookies::Cookie,
    forward::Route,
    limits::Measured,
    localports::Lent,
    mapping::{Mapping, Rewrite},
    ports::Search,
    rules,
    table::Scan,
};

/// The packet at hand. Keys live here too: the verifier wants every access to the stack aligned, and
/// the fields of a key aren't.
#[repr(C)]
pub struct Work {
    /// What the parser found.
    pub facts: Facts,
    /// The original direction's facts, where a reply is judged; the packet within an ICMP error.
    pub other: Facts,
    /// Its key in the flow table.
    pub key: Key,
    /// Key of the packet within an ICMP error.
    pub other_key: Key,
    /// Its key among the fragments.
    pub frag_key: FragKey,
    /// A first fragment's facts on their way into the map.
    pub frag_first: FragFirst,
    /// A flow on its way into the table.
    pub flow: Flow,
    /// A SYN cookie, made or brought back.
    pub cookie: Cookie,
    /// What is known of the room in its buckets.
    pub scan: Scan,
    /// TCP options of a SYN.
    pub options: Options,
    /// Their bytes.
    pub option_bytes: [u8; 64],
    /// Where their parser stands.
    pub option_at: u32,
    /// How the packet has to be translated here.
    pub rewrite: Rewrite,
    /// How the hook that it skips would translate it.
    pub across: Rewrite,
    /// Its way past the stack.
    pub route: Route,
    /// The mapping that is being made.
    pub mapping: Mapping,
    /// A search for a public port.
    pub search: Search,
    /// What the rules are looked up by.
    pub fields: Fields,
    /// The rows that were found: in part 0, and in any other part.
    pub rows: [Rows; 2],
    /// What was found in each part that was asked, where rules have conditions that rows don't know.
    pub found_in: [Found; PARTS_ASKED],
    /// The part whose rule is left behind; see `asks`.
    pub left: Found,
    /// Its number among those that were asked.
    pub left_at: u32,
    /// What rows don't know of the rule at hand.
    pub ask: [u64; ASK_WORDS as usize],
    /// A search in a live set.
    pub look: Look,
    /// Which set, and which end; see `look`.
    pub look_at: [u32; 2],
    /// What is added to a live set.
    pub adding: Adding,
    /// The rule that is met so far, and of how many parts; see `asks`.
    pub met: u64,
    /// See `met`.
    pub asked: u32,
    /// Size of the live policy's arena; see `met`.
    pub size: u32,
    /// What is said of the rule that only counts, and is asked; where that search ends, and the number behind it.
    pub passing: u64,
    /// See `passing`.
    pub pass_end: u32,
    /// See `passing`.
    pub passed: u32,
    /// The number behind the rule at which a walk along those that only count stopped; 0: it came to its end.
    pub stopped: u32,
    /// What is measured against a limit.
    pub measured: Measured,
    /// What the rules are asked, packed; then what they said.
    pub query: u64,
    /// A search for a rule behind another.
    pub behind_search: rules::Search,
    /// Number in its part of the rule that was found last, plus 1.
    pub behind: u32,
    /// An answer on its way into the packet.
    pub answer: [u8; 96],
    /// Id of the flow whose way is asked for.
    pub way_of: u64,
    /// Tick at which the packet met the hook.
    pub now: u64,
    /// Segments.
    pub packets: u64,
    /// Bytes from the IP header on, of all segments.
    pub bytes: u64,
    /// What was decided, packed; all ones: nothing yet.
    pub said: u64,
    /// What the flow's bits are once this segment counts.
    pub new_bits: u64,
    /// What its window scales are then.
    pub new_scales: u8,
    /// Secret of the tables.
    pub seed: u64,
    /// Hash of `key`.
    pub hash: u64,
    /// Slot of the flow that was entered; `u32::MAX`: another CPU was faster.
    pub slot: u32,
    /// Index of the source whose flows were counted; `u32::MAX`: none was.
    pub source: u32,
    /// Generation that judges.
    pub generation: u32,
    /// Interface.
    pub ifindex: u32,
    /// Frame length, bytes.
    pub frame_len: u32,
    /// Slot of the packet's flow; `u32::MAX`: it has none.
    pub found: u32,
    /// `IFACE_*` of the interface.
    pub iface_flags: u32,
    /// Number of the translation rule that changes its destination, plus 1; 0: none.
    pub nat_rule: u32,
    /// Rule whose packet it would be at the hook that it skips; `SLOT_NONE`: none judged there.
    pub across_slot: u32,
    /// A program of ours stands at the hook that it skips.
    pub across_judged: bool,
    /// Its flow goes to an AF_XDP socket.
    pub bypass: bool,
    /// The rule that lets its flow in limits packets or bits.
    pub limited: bool,
    /// The packet goes against its flow's original direction.
    pub reply: bool,
    /// It counts on its flow at this hook.
    pub counts: bool,
    /// It fits its flow's windows.
    pub fits: bool,
    /// TCP flags to step its flow's state with.
    pub step_flags: u8,
    /// Its source is end `a` of the key.
    pub src_is_a: bool,
    /// What has to be translated is left to the next program.
    pub defers: bool,
    /// It was.
    pub deferred: bool,
    /// Whether its flow has just got a public port.
    pub lent: Lent,
    /// It is an ICMP error, and `other` the packet that it carries.
    pub quotes: bool,
    /// It may begin a flow.
    pub begins: bool,
    /// Slot of the interface whose rules judge.
    pub judge_iface: u8,
    /// Hook whose rules judge.
    pub judge_at: Direction,
    /// What the rules are told of it.
    pub state: State,
    /// Slot of the interface.
    pub iface: u8,
    /// Hook.
    pub direction: Direction,
}
