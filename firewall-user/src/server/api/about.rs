//! The verbs about single sockets and their sums.

use super::{Api, done, parse};
use crate::{
    server::{attributes, error::ApiError, sockets, summary},
    view::FlowView,
};
use serde_json::{Value, json};

impl Api {
    /// One of `sockets.show`, `sockets.samples`, `sockets.attributes`, `sockets.note`, `summary`, `summary.reset`.
    pub(super) async fn about_sockets(&self, verb: &str, args: Value) -> Result<Value, ApiError> {
        let monitor = self.sockets()?;
        match verb {
            "sockets.show" => {
                let flows = |each: &mut dyn FnMut(FlowView)| self.model().flows().for_each(each);
                return done(sockets::show(monitor, flows, &parse(args)?).await?);
            }
            "sockets.samples" => return done(sockets::samples(monitor, &parse(args)?).await?),
            "sockets.attributes" => {
                let flows = |each: &mut dyn FnMut(FlowView)| self.model().flows().for_each(each);
                let all = attributes::attributes(monitor, flows, &parse(args)?).await?;
                return Ok(json!({"total": all.total, "rows": all.rows}));
            }
            "sockets.note" => sockets::note(monitor, &parse(args)?).await?,
            "summary.reset" => summary::reset(monitor, &parse(args)?).await?,
            _ => return done(summary::summary(monitor, &parse(args)?).await?),
        }
        Ok(json!({"ok": true}))
    }
}
