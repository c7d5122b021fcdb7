//! Pure transitions of a flow; `now` is always an argument.
