//! The messages of the WebSocket, as docs/protocol.md describes them.

use crate::server::error::ErrorBody;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Protocol version in `hello`.
pub const VERSION: u32 = 1;

/// What a client calls a subscription or a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// A number.
    Number(i64),
    /// Or a text.
    Text(String),
}

/// What one can subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// The flow table.
    Flows,
    /// Events as they come.
    Events,
    /// Rules and their counters.
    Rules,
    /// Totals, once a second.
    Stats,
}

impl Stream {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Flows, Self::Events, Self::Rules, Self::Stats];
    /// As in the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Events => "events",
            Self::Rules => "rules",
            Self::Stats => "stats",
        }
    }
}

/// Where a client left off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The daemon's life it was in.
    pub epoch: String,
    /// The last `seq` it saw on this stream.
    pub seq: u64,
}

/// From the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Begin a subscription.
    Subscribe {
        /// Its name.
        id: Id,
        /// To what.
        stream: Stream,
        /// Only rows that match.
        #[serde(default)]
        filter: Option<String>,
        /// Go on from here.
        #[serde(default)]
        resume: Option<Resume>,
    },
    /// End a subscription.
    Unsubscribe {
        /// Its name.
        id: Id,
    },
    /// Do something.
    Command {
        /// What the answer will be called.
        id: Id,
        /// What to do.
        verb: String,
        /// With what.
        #[serde(default)]
        args: Value,
    },
    /// Are you there?
    Ping {
        /// Comes back in `pong`.
        #[serde(default)]
        t: Value,
    },
}

/// From the server, all but `snapshot` and `delta` (those are put together from shared parts, see
/// [`super::frames`]).
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Reply<'a> {
    /// First of all.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The daemon's version.
        server: &'a str,
        /// The daemon's life.
        epoch: &'a str,
        /// What this client may do.
        role: &'a str,
        /// Streams and verbs.
        capabilities: Vec<&'a str>,
        /// Seconds between the server's pings.
        heartbeat_s: u64,
        /// Now.
        time: String,
    },
    /// What was sent on this subscription counts no more.
    Reset {
        /// The subscription.
        id: &'a Id,
        /// Why.
        reason: &'a str,
    },
    /// Events that this subscription will never see.
    Lost {
        /// The subscription.
        id: &'a Id,
        /// First sequence number.
        from: u64,
        /// Last sequence number.
        to: u64,
        /// How many.
        n: u64,
        /// The kernel's class, where the kernel lost them.
        #[serde(skip_serializing_if = "Option::is_none")]
        class: Option<&'a str>,
    },
    /// Answer to a command.
    Result {
        /// The command.
        id: &'a Id,
        /// Whether it was done.
        ok: bool,
        /// Its answer.
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Value>,
        /// Why not.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<ErrorBody>,
    },
    /// Answer to an `unsubscribe`.
    Unsubscribed {
        /// The subscription.
        id: &'a Id,
    },
    /// A message that couldn't be understood or obeyed.
    Error {
        /// The subscription, if it is about one.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a Id>,
        /// The error.
        #[serde(flatten)]
        error: &'a ErrorBody,
    },
    /// Answer to a `ping`.
    Pong {
        /// The ping's.
        t: Value,
    },
}

impl Reply<'_> {
    /// The message.
    pub fn encode(&self) -> tokio_tungstenite::tungstenite::Utf8Bytes {
        // Serialising these types can't fail: no map keys but strings, no custom serialiser.
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_as_documented() {
        let parse =
            |text: &str| serde_json::from_str::<Request>(text).map_err(|error| error.to_string());
        assert_eq!(
            parse(r#"{"type":"subscribe","id":1,"stream":"flows","resume":{"epoch":"e","seq":4}}"#),
            Ok(Request::Subscribe {
                id: Id::Number(1),
                stream: Stream::Flows,
                filter: None,
                resume: Some(Resume { epoch: "e".into(), seq: 4 })
            })
        );
        assert!(
            parse(r#"{"type":"subscribe","id":"a","stream":"packets"}"#)
                .unwrap_err()
                .contains("packets")
        );
        assert!(parse(r#"{"type":"shout"}"#).unwrap_err().contains("shout"));
        assert!(parse(r#"{"type":"unsubscribe","id":1,"extra":1}"#).unwrap_err().contains("extra"));
        assert!(parse(r#"{"type":"unsubscribe","id":[]}"#).is_err());
    }
}
