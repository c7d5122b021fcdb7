//! What the report of ways in and out has to know of the filter.

use super::{Control, ControlError};
use crate::{datapath::programs::Ways, view::IfaceView};

impl Control {
    /// The interfaces that take part, our programs, and the ways past the stack.
    ///
    /// # Errors
    /// The core has stopped.
    pub async fn ways(&self) -> Result<(Vec<IfaceView>, Ways), ControlError> {
        let gate = self.gate().await?;
        Ok((gate.interfaces, gate.ways))
    }
}
