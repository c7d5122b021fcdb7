//! The stages of a packet's way behind the first program, which reads it. Each is a program of its own, and
//! the one before goes on to it by a tail call: that is a jump, where a call has to come back
//! ([ADR 15](../../../docs/adr/0015-stages.md)). There is an array of them for each kind of hook, as the kernel doesn't let
//! one kind go on to the other; whoever loads the object fills both.

/// The flow table, IPv4; then the rules of most policies, and what they say is done.
pub const FLOW4: u32 = 0;
/// The same, IPv6.
pub const FLOW6: u32 = 1;
/// The rules, IPv4: of packets that have a flow, are translated, bring a cookie; of policies in several parts.
pub const JUDGE4: u32 = 2;
/// The same, IPv6.
pub const JUDGE6: u32 = 3;
/// A flow begins, IPv4.
pub const BEGIN4: u32 = 4;
/// The same, IPv6.
pub const BEGIN6: u32 = 5;
/// What was decided is done.
pub const END: u32 = 6;
/// How many there are.
pub const STAGES: usize = 7;

/// Arrays of stages, and the programs that stand in them, in order.
pub const ARRAYS: [(&str, [&str; STAGES]); 2] = [
    (
        "STAGES_XDP",
        [
            "sluice_x_flow4",
            "sluice_x_flow6",
            "sluice_x_judge4",
            "sluice_x_judge6",
            "sluice_x_begin4",
            "sluice_x_begin6",
            "sluice_x_end",
        ],
    ),
    (
        "STAGES_TC",
        [
            "sluice_t_flow4",
            "sluice_t_flow6",
            "sluice_t_judge4",
            "sluice_t_judge6",
            "sluice_t_begin4",
            "sluice_t_begin6",
            "sluice_t_end",
        ],
    ),
];
