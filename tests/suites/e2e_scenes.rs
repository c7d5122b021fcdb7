//! Every way to open a socket and to move bytes, with a real daemon beside it: each row is there, its owner is
//! right, and its bytes are to within one in a hundred.
//!
//! One file a topic below `e2e_scenes/`. A scene has a network namespace of its own; `scene-actor` is the process
//! whose socket is looked for, and the test plays the other end.

#[path = "e2e_scenes/aborts.rs"]
mod aborts;
#[path = "e2e_scenes/beside.rs"]
mod beside;
#[path = "e2e_scenes/crowd.rs"]
mod crowd;
#[path = "e2e_scenes/datagrams.rs"]
mod datagrams;
#[path = "e2e_scenes/exits.rs"]
mod exits;
#[path = "e2e_scenes/gone.rs"]
mod gone;
#[path = "e2e_scenes/numbers.rs"]
mod numbers;
#[path = "e2e_scenes/older.rs"]
mod older;
#[path = "e2e_scenes/stage.rs"]
mod stage;
#[path = "e2e_scenes/tcp.rs"]
mod tcp;
#[path = "e2e_scenes/xsk.rs"]
mod xsk;
