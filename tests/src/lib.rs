//! What the suites share: the lab, the packet builder, the naive model.
