//! `snapshot` and `delta`: rows are encoded once, bodies once per filter class, and only the short
//! head differs between subscribers. Copying bytes is cheap; encoding and system calls aren't.

use super::message::{Id, Stream};
use serde::Serialize;
use std::{cell::OnceCell, fmt::Write, sync::Arc};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// A row and, once somebody needed it, its JSON.
#[derive(Debug)]
pub struct Row<T> {
    /// The row.
    pub value: Arc<T>,
    json: OnceCell<String>,
}

impl<T: Serialize> Row<T> {
    /// Not encoded yet.
    pub fn new(value: Arc<T>) -> Self {
        Self { value, json: OnceCell::new() }
    }
    /// Its JSON.
    pub fn json(&self) -> &str {
        // Rows are structs of text and numbers: serialising them can't fail.
        self.json.get_or_init(|| serde_json::to_string(&*self.value).unwrap_or_default())
    }
}

/// The end of a message, from `"seq"` on, shared by all subscribers of a class.
#[derive(Clone, Debug)]
pub struct Body(String);

impl Body {
    /// `"seq":N` and lists of encoded values.
    pub fn new<'a>(seq: u64, lists: impl IntoIterator<Item = (&'a str, Vec<&'a str>)>) -> Self {
        let mut body = format!("\"seq\":{seq}");
        for (name, values) in lists {
            let _ = write!(body, ",\"{name}\":[{}]", values.join(","));
        }
        Self(body)
    }
    /// One more number.
    #[must_use]
    pub fn number(mut self, name: &str, value: u64) -> Self {
        let _ = write!(self.0, ",\"{name}\":{value}");
        self
    }
}

/// A `delta` for subscription `id`.
pub fn delta(id: &Id, body: &Body) -> Utf8Bytes {
    format!("{{\"type\":\"delta\",\"id\":{},{}}}", json(id), body.0).into()
}

/// A `snapshot` for subscription `id`.
pub fn snapshot(id: &Id, stream: Stream, epoch: &str, body: &Body) -> Utf8Bytes {
    format!(
        "{{\"type\":\"snapshot\",\"id\":{},\"stream\":\"{}\",\"epoch\":{},{}}}",
        json(id),
        stream.name(),
        json(&epoch),
        body.0
    )
    .into()
}

/// JSON of something that can't fail to have one.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn put_together_they_are_json() {
        let body =
            Body::new(7, [("upsert", vec!["{\"a\":1}", "{\"a\":2}"]), ("remove", vec!["\"x\""])]);
        let parse = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert_eq!(
            parse(&delta(&Id::Text("a\"b".into()), &body)),
            json!({"type": "delta", "id": "a\"b", "seq": 7, "upsert": [{"a": 1}, {"a": 2}], "remove": ["x"]})
        );
        assert_eq!(
            parse(&snapshot(
                &Id::Number(1),
                Stream::Rules,
                "e",
                &Body::new(0, [("rows", vec![])]).number("generation", 3)
            )),
            json!({"type": "snapshot", "id": 1, "stream": "rules", "epoch": "e", "seq": 0, "rows": [], "generation": 3})
        );
    }
}
