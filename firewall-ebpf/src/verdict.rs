//! What becomes of a packet, as each hook says it.

/// The end of a packet's way through the gate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Goes on.
    Pass,
    /// Vanishes.
    Drop,
    /// Was turned into an answer and goes back.
    Bounce,
    /// Goes elsewhere, past the stack.
    Away,
}
