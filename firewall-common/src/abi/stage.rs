//! The stages of a packet's way. Each is a program of its own, and the one before goes on to it by a tail call: that is a
//! jump, where a call has to come back ([ADR 15](../../../docs/adr/0015-stages.md)). There is an array of them for each kind
//! of hook, as the kernel doesn't let one kind go on to the other; whoever loads the object fills both.

/// The flow table, IPv4.
pub const TRACK4: u32 = 0;
/// The flow table, IPv6.
pub const TRACK6: u32 = 1;
/// The rules, IPv4.
pub const JUDGE4: u32 = 2;
/// The rules, IPv6.
pub const JUDGE6: u32 = 3;
/// What was decided is done.
pub const END: u32 = 4;
/// How many there are.
pub const STAGES: usize = 5;

/// Arrays of stages, and the programs that stand in them, in order.
pub const ARRAYS: [(&str, [&str; STAGES]); 2] = [
    (
        "STAGES_XDP",
        [
            "sluice_x_track4",
            "sluice_x_track6",
            "sluice_x_judge4",
            "sluice_x_judge6",
            "sluice_x_end",
        ],
    ),
    (
        "STAGES_TC",
        [
            "sluice_t_track4",
            "sluice_t_track6",
            "sluice_t_judge4",
            "sluice_t_judge6",
            "sluice_t_end",
        ],
    ),
];
