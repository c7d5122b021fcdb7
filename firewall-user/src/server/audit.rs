//! What is written down of requests that change something: who asked, for what, and what came of it.

use super::{
    auth::{Identity, Via},
    error::ApiError,
    routes::Peer,
};
use crate::store::{Deed, now_ms};
use serde_json::Value;

/// Longest detail, characters.
const DETAIL: usize = 1_000;

/// The deed that a request would be; `None`: it changes nothing.
pub fn begin(verb: &str, args: &Value, who: &Identity) -> Option<Deed> {
    let words: &[&str] = match verb {
        "flows.kill" | "sockets.kill" => &["filter"],
        "rule.add" => &["text"],
        "rule.delete" | "rule.move" | "rule.enable" | "rule.disable" => {
            &["name", "position", "before", "after"]
        }
        "sets.add" => &["name", "entries", "timeout"],
        "sets.delete" => &["name", "entries"],
        "sets.flush" => &["name"],
        "sets.load" => &["name", "add"],
        "summary.reset" => &["by"],
        "policy.apply" | "counters.reset" => &[],
        _ => return None,
    };
    if args["dry_run"] == Value::Bool(true) {
        return None;
    }
    let given = words.iter().filter_map(|word| match &args[*word] {
        Value::Null => None,
        Value::String(text) if matches!(*word, "filter" | "text" | "name") => Some(text.clone()),
        Value::String(text) => Some(format!("{word} {text}")),
        // A list may be long: what is cut off later isn't written out.
        Value::Array(some) if *word == "entries" => {
            let some = some.iter().filter_map(Value::as_str).take(DETAIL / 2);
            Some(some.collect::<Vec<_>>().join(" "))
        }
        other => Some(format!("{word} {other}")),
    });
    Some(Deed {
        at_ms: now_ms(),
        who: name(who),
        verb: verb.to_owned(),
        detail: given.collect::<Vec<_>>().join(", "),
        outcome: String::new(),
    })
}

/// The deed, with what came of it.
pub fn end(mut deed: Deed, outcome: &Result<Value, ApiError>) -> Deed {
    let said = match outcome {
        Ok(answer) => {
            "done".clone_into(&mut deed.outcome);
            came_of(&deed.verb, answer)
        }
        Err(error) => {
            deed.outcome.clone_from(&error.body.code);
            error.body.message.clone()
        }
    };
    if !said.is_empty() {
        let sign = if deed.detail.is_empty() { "" } else { ": " };
        deed.detail = format!("{}{sign}{said}", deed.detail);
    }
    if let Some((at, _)) = deed.detail.char_indices().nth(DETAIL) {
        deed.detail.truncate(at);
        deed.detail.push_str("...");
    }
    deed
}

fn came_of(verb: &str, answer: &Value) -> String {
    let number = |field: &str| answer[field].as_u64().unwrap_or_default();
    let some = |field: &str| answer[field].as_array().map_or(0, Vec::len);
    match verb {
        "flows.kill" => format!("{} flows", number("total")),
        "sockets.kill" => {
            let mut said = format!("{} sockets", number("total"));
            if some("failed") > 0 {
                said.push_str(&format!(", {} failed", some("failed")));
            }
            let blocked = answer["blocked"].as_array().into_iter().flatten();
            for rule in blocked.filter_map(Value::as_str) {
                said.push_str(&format!(", {rule}"));
            }
            said
        }
        "counters.reset" | "summary.reset" => String::new(),
        "sets.add" | "sets.delete" | "sets.flush" | "sets.load" => {
            let moved = ["added", "renewed", "deleted"].map(|field| (field, number(field)));
            let moved = moved.iter().filter(|(_, many)| *many > 0);
            let moved: Vec<String> = moved.map(|(field, many)| format!("{many} {field}")).collect();
            format!(
                "{}{} entries",
                moved.iter().map(|part| format!("{part}, ")).collect::<String>(),
                number("entries")
            )
        }
        "policy.apply" => {
            format!("{} changes, generation {}", some("changes"), number("generation"))
        }
        _ => format!("generation {}", number("generation")),
    }
}

/// Who it is: a user of the machine, or whoever has the token, and where.
fn name(who: &Identity) -> String {
    let user = |uid: u32| {
        let user = uzers::get_user_by_uid(uid);
        user.map_or_else(|| uid.to_string(), |user| user.name().to_string_lossy().into_owned())
    };
    match (&who.via, &who.from) {
        (_, Some(Peer::Unix { uid, .. } | Peer::Stranger { uid, .. })) => {
            format!("user {}", user(*uid))
        }
        (Via::Cookie(_), Some(Peer::Tcp(from))) => format!("console at {}", from.ip()),
        (_, Some(Peer::Tcp(from))) => format!("token from {}", from.ip()),
        (_, None) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::Role;
    use serde_json::json;

    #[test]
    fn what_changes_something_is_a_deed_and_nothing_else_is() {
        let from = Some(Peer::Unix { uid: 0, pid: None });
        let root = Identity { role: Role::Admin, via: Via::Socket, from };
        let begun = |verb, args| begin(verb, &args, &root);
        assert_eq!(begun("flows", json!({"filter": "proto=tcp"})), None);
        assert_eq!(begun("flows.kill", json!({"filter": "proto=tcp", "dry_run": true})), None);
        let deed = begun("flows.kill", json!({"filter": "proto=tcp"})).expect("a deed");
        let deed = end(deed, &Ok(json!({"total": 3})));
        assert_eq!((deed.who.as_str(), deed.detail.as_str()), ("user root", "proto=tcp: 3 flows"));
        assert_eq!(deed.outcome, "done");
        let deed = begun("rule.move", json!({"name": "web", "before": "ssh"})).expect("a deed");
        let error = ApiError::not_found("no-such-rule", "there is no rule `web`");
        let deed = end(deed, &Err(error));
        assert_eq!(deed.outcome, "no-such-rule");
        assert_eq!(deed.detail, "web, before ssh: there is no rule `web`");
        let args =
            json!({"name": "scanners", "entries": ["192.0.2.1", "192.0.2.2"], "timeout": "10m"});
        let deed = begun("sets.add", args).expect("a deed");
        let deed = end(deed, &Ok(json!({"added": 1, "renewed": 1, "deleted": 0, "entries": 7})));
        assert_eq!(
            deed.detail,
            "scanners, 192.0.2.1 192.0.2.2, timeout 10m: 1 added, 1 renewed, 7 entries"
        );
        let deed = begun("sets.load", json!({"name": "scanners", "text": "x", "add": true}));
        assert_eq!(deed.expect("a deed").detail, "scanners, add true");
        assert_eq!(begun("sets.test", json!({"name": "scanners", "entry": "192.0.2.1"})), None);
        let long = begun("rule.add", json!({"text": "x".repeat(5_000)})).expect("a deed");
        assert_eq!(end(long, &Ok(json!({"generation": 2}))).detail.len(), DETAIL + 3);
    }
}
