//! `sluice watch`: events as they happen, through daemon restarts.

use super::{
    format,
    list::print_events,
    out::{CliError, Out, Tone},
};
use crate::{
    server::{
        client::{Client, ClientError, Conversation},
        error::ErrorBody,
    },
    view::EventView,
};
use serde::Deserialize;
use serde_json::json;
use std::{process::ExitCode, time::Duration};

/// Between attempts to find the daemon again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a daemon may be away.
const PATIENCE: u32 = 120;

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Heard {
    Hello {
        epoch: String,
    },
    Snapshot {
        epoch: String,
        seq: u64,
        rows: Vec<EventView>,
    },
    Delta {
        seq: u64,
        events: Vec<EventView>,
    },
    Lost {
        n: u64,
        class: Option<String>,
    },
    Error {
        #[serde(flatten)]
        error: ErrorBody,
    },
    #[serde(other)]
    Other,
}

struct Watch<'a> {
    out: &'a Out,
    filter: &'a str,
    recent: usize,
    left: Option<u64>,
    /// Where we are: epoch and sequence number.
    at: Option<(String, u64)>,
}

pub async fn run(
    out: &Out,
    client: &Client,
    filter: &str,
    recent: usize,
    count: Option<u64>,
) -> Result<ExitCode, CliError> {
    let mut watch = Watch { out, filter, recent, left: count, at: None };
    let mut conversation = client.talk().await?;
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let broke = tokio::select! {
            ended = watch.listen(&mut conversation) => ended?,
            _ = &mut interrupt => return Ok(ExitCode::SUCCESS),
        };
        if !broke {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("sluice: the daemon has gone; waiting for it");
        conversation = tokio::select! {
            found = find_again(client) => found?,
            _ = &mut interrupt => return Ok(ExitCode::SUCCESS),
        };
    }
}

async fn find_again(client: &Client) -> Result<Conversation, CliError> {
    let mut tries = 0;
    loop {
        tokio::time::sleep(AGAIN).await;
        match client.talk().await {
            Ok(conversation) => return Ok(conversation),
            Err(error @ ClientError::Refused(_)) => return Err(error.into()),
            Err(error) if tries >= PATIENCE => return Err(error.into()),
            Err(_) => tries += 1,
        }
    }
}

impl Watch<'_> {
    /// Prints until the conversation breaks (true) or enough was seen (false).
    async fn listen(&mut self, conversation: &mut Conversation) -> Result<bool, CliError> {
        let mut subscribe =
            json!({"type": "subscribe", "id": 1, "stream": "events", "filter": self.filter});
        if let Some((epoch, seq)) = &self.at {
            subscribe["resume"] = json!({"epoch": epoch, "seq": seq});
        }
        if conversation.say(&subscribe).await.is_err() {
            return Ok(true);
        }
        loop {
            let Ok(Some(message)) = conversation.hear().await else { return Ok(true) };
            let heard = Heard::deserialize(&message)
                .map_err(|error| ClientError::Broken(error.to_string()))?;
            if !self.heard(heard)? {
                return Ok(false);
            }
        }
    }

    /// Whether to go on.
    fn heard(&mut self, heard: Heard) -> Result<bool, CliError> {
        match heard {
            Heard::Hello { epoch } => {
                if let Some((known, _)) = &self.at
                    && *known != epoch
                {
                    eprintln!(
                        "sluice: another daemon answers; what happened in between isn't shown"
                    );
                }
                Ok(true)
            }
            Heard::Snapshot { epoch, seq, rows } => {
                // After the first one a snapshot means that the past is unknown.
                let show = if self.at.is_none() { self.recent.min(rows.len()) } else { 0 };
                self.at = Some((epoch, seq));
                self.print(&rows[rows.len() - show..])
            }
            Heard::Delta { seq, events } => {
                if let Some((_, at)) = &mut self.at {
                    *at = seq;
                }
                self.print(&events)
            }
            Heard::Lost { n, class } => {
                let whose = class.map_or_else(
                    || "this client was too slow".to_owned(),
                    |class| format!("class {class}, the ring was full"),
                );
                if self.out.json {
                    self.out.object(&json!({"lost": n, "why": whose}))?;
                } else {
                    let note = format!("{} events lost ({whose})", format::count(n));
                    self.out.line(self.out.paint(&note, Tone::Bad))?;
                }
                Ok(true)
            }
            Heard::Error { error } => Err(ClientError::Refused(error).into()),
            Heard::Other => Ok(true),
        }
    }

    fn print(&mut self, events: &[EventView]) -> Result<bool, CliError> {
        let take = self.left.map_or(events.len() as u64, |left| left.min(events.len() as u64));
        print_events(self.out, &events[..take as usize])?;
        if let Some(left) = &mut self.left {
            *left -= take;
        }
        Ok(self.left != Some(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn messages_of_later_versions_are_passed_over() {
        let parse = |value: Value| Heard::deserialize(&value);
        assert!(matches!(parse(json!({"type": "presence", "who": 1})), Ok(Heard::Other)));
        assert!(matches!(
            parse(json!({"type": "lost", "id": 1, "from": 1, "to": 2, "n": 2})),
            Ok(Heard::Lost { n: 2, class: None })
        ));
        assert!(matches!(
            parse(json!({"type": "error", "code": "bad-filter", "message": "m", "details": {"column": 1}})),
            Ok(Heard::Error { error }) if error.code == "bad-filter"
        ));
    }
}
