//! Lists of entries in text: one a line, as blocklists are published and as live sets are saved.
//!
//! ```text
//! # a comment, also with `;` or `//`
//! 192.0.2.0/24 ; behind an entry, too
//! 198.51.100.1-198.51.100.9
//! 203.0.113.7 timeout 10m
//! ```

use super::{
    SetKind,
    entry::{self, Entry, EntryError, expected},
};
use std::io::{self, Write};
use thiserror::Error;

/// Why a list can't be used: the first thing that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}, line {line}, column {column}: {fault}")]
pub struct ListError {
    /// What the list is called.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Byte of the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub fault: Box<ListFault>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ListFault {
    /// The entry.
    #[error("{0}")]
    Entry(#[from] EntryError),
    /// Something behind the entry.
    #[error(
        "`{seen}` behind the entry; expected the end of the line, `timeout 10m`, or a comment that begins with `#`, `;` \
         or `//`"
    )]
    Behind {
        /// It.
        seen: String,
    },
    /// No duration behind `timeout`.
    #[error("`{seen}` is no time-out; expected a duration such as `30s`, `10m` or `1d12h`")]
    Timeout {
        /// What is there.
        seen: String,
    },
    /// Ports have no room for a tick.
    #[error("`timeout {seen}` of a port; expected none: ports stay until they are deleted")]
    Lasting {
        /// The duration.
        seen: String,
    },
}

/// How a list is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// What the list is called, in errors.
    pub file: &'a str,
    /// What its set holds.
    pub kind: SetKind,
    /// Reads a duration; milliseconds.
    pub duration: fn(&str) -> Option<u64>,
}

impl Reader<'_> {
    /// Reads a list: `each` gets every entry with its time-out, milliseconds. Nothing is allocated but for an error.
    ///
    /// # Errors
    /// The first line that can't be understood. `each` has got those before it.
    pub fn read(
        &self,
        text: &[u8],
        each: &mut impl FnMut(Entry, Option<u64>),
    ) -> Result<(), ListError> {
        // Some editors put a byte order mark in front.
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            self.line(line, each).map_err(|(column, fault)| ListError {
                file: self.file.to_owned(),
                line: at + 1,
                column: column + 1,
                fault: Box::new(fault),
            })?;
        }
        Ok(())
    }

    fn line(
        &self,
        line: &[u8],
        each: &mut impl FnMut(Entry, Option<u64>),
    ) -> Result<(), (usize, ListFault)> {
        let Some((at, entry)) = word(line, 0) else { return Ok(()) };
        let timeout = self.behind(line, at + entry.len())?;
        entry::parse(entry, Some(self.kind), &mut |entry| each(entry, timeout))
            .map_err(|fault| (at, narrowed(fault, self.kind).into()))
    }

    /// What stands behind an entry.
    fn behind(&self, line: &[u8], at: usize) -> Result<Option<u64>, (usize, ListFault)> {
        let Some((at, seen)) = word(line, at) else { return Ok(None) };
        if seen != b"timeout" {
            return Err((at, ListFault::Behind { seen: shown(seen) }));
        }
        let begin = at;
        let Some((at, seen)) = word(line, at + seen.len()) else {
            let seen = "timeout".to_owned();
            return Err((begin, ListFault::Timeout { seen }));
        };
        let ms = std::str::from_utf8(seen).ok().and_then(self.duration).filter(|ms| *ms > 0);
        let ms = ms.ok_or_else(|| (at, ListFault::Timeout { seen: shown(seen) }))?;
        if self.kind == SetKind::Ports {
            return Err((begin, ListFault::Lasting { seen: shown(seen) }));
        }
        if let Some((at, seen)) = word(line, at + seen.len()) {
            return Err((at, ListFault::Behind { seen: shown(seen) }));
        }
        Ok(Some(ms))
    }
}

/// The next word of a line from `at` on, and where it begins; a comment is none.
fn word(line: &[u8], mut at: usize) -> Option<(usize, &[u8])> {
    while line.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
        at += 1;
    }
    let rest = &line[at..];
    let mut end = 0;
    while let Some(byte) = rest.get(end) {
        match byte {
            b' ' | b'\t' | b'\r' | b'#' | b';' => break,
            b'/' if rest.get(end + 1) == Some(&b'/') => break,
            _ => end += 1,
        }
    }
    (end > 0).then(|| (at, &rest[..end]))
}

/// The set's kind is known: no need to name the others'.
fn narrowed(fault: EntryError, kind: SetKind) -> EntryError {
    match fault {
        EntryError::Unreadable { seen, hint, .. } => {
            EntryError::Unreadable { seen, hint, expected: expected(kind) }
        }
        other => other,
    }
}

fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(word).chars().filter(|c| !c.is_control()).take(60).collect()
}

/// Writes a list that [`Reader::read`] reads back; time-outs in milliseconds.
///
/// # Errors
/// Those of `out`.
pub fn write(
    out: &mut impl Write,
    entries: impl IntoIterator<Item = (Entry, Option<u64>)>,
) -> io::Result<()> {
    for (entry, timeout) in entries {
        match timeout {
            None => writeln!(out, "{entry}")?,
            Some(ms) => writeln!(out, "{entry} timeout {ms}ms")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::units::duration_ms;
    use proptest::prelude::*;

    fn reader(kind: SetKind) -> Reader<'static> {
        Reader { file: "drop.txt", kind, duration: duration_ms }
    }

    fn read(kind: SetKind, text: &str) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let said = |timeout: Option<u64>| timeout.map(|ms| format!(" {ms}")).unwrap_or_default();
        reader(kind)
            .read(text.as_bytes(), &mut |entry, timeout| {
                found.push(format!("{entry}{}", said(timeout)));
            })
            .map_err(|error| error.to_string())?;
        Ok(found)
    }

    #[test]
    fn blocklists_are_read_as_they_are_published() {
        let spamhaus = "; Spamhaus DROP List 2025/01/01\n; Expires: Wed\n1.10.16.0/20 ; SBL256894\n\
                        1.19.0.0/16 ; SBL434604\n";
        assert_eq!(read(SetKind::Addresses, spamhaus).unwrap(), ["1.10.16.0/20", "1.19.0.0/16"]);
        let firehol = "#\n# firehol_level1\n#\n0.0.0.0/8\r\n1.10.16.0/20\r\n\r\n5.6.7.8\r\n";
        assert_eq!(
            read(SetKind::Addresses, firehol).unwrap(),
            ["0.0.0.0/8", "1.10.16.0/20", "5.6.7.8"]
        );
        let mixed = "\u{feff}\t192.0.2.1 timeout 10m // why\n192.0.2.2//why\n192.0.2.4-192.0.2.7#x\n\
                     2001:db8::1 timeout 1500ms";
        assert_eq!(
            read(SetKind::Addresses, mixed).unwrap(),
            ["192.0.2.1 600000", "192.0.2.2", "192.0.2.4/30", "2001:db8::1 1500"]
        );
        assert_eq!(read(SetKind::Pairs, "192.0.2.1:80\n[::1]:9").unwrap().len(), 2);
        assert_eq!(read(SetKind::Ports, "80\n1000-2000 # x").unwrap(), ["80", "1000-2000"]);
        assert_eq!(read(SetKind::Ports, "").unwrap(), [""; 0]);
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        for (kind, text, words) in [
            (
                SetKind::Addresses,
                "# x\n\n  192.0.2.300 # y\n",
                ["drop.txt, line 3, column 3", "192.0.2.300", "such as `192.0.2.7`"],
            ),
            (
                SetKind::Addresses,
                "192.0.2.1 bad\n",
                ["line 1, column 11", "`bad`", "end of the line"],
            ),
            (
                SetKind::Addresses,
                "192.0.2.1 timeout soon\n",
                ["line 1, column 19", "`soon`", "10m"],
            ),
            (SetKind::Addresses, "192.0.2.1 timeout 0s", ["column 19", "`0s`", "10m"]),
            (SetKind::Addresses, "192.0.2.1 timeout", ["column 11", "timeout", "duration"]),
            (SetKind::Addresses, "192.0.2.1 timeout 1m x", ["column 22", "`x`", "end of the line"]),
            (
                SetKind::Addresses,
                "192.0.2.1:80",
                ["column 1", "with a port", "an address, a prefix"],
            ),
            (SetKind::Pairs, "192.0.2.1", ["column 1", "without a port", "192.0.2.1:443"]),
            (SetKind::Ports, "80 timeout 1m", ["column 4", "of a port", "until they are deleted"]),
            (SetKind::Ports, "1.2.3.4, 5.6.7.8", ["column 10", "`5.6.7.8`", "end of the line"]),
        ] {
            let error = read(kind, text).expect_err(text);
            for word in words {
                assert!(error.contains(word), "{text:?}: `{word}` is missing in: {error}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            entries in proptest::collection::vec((any::<u32>(), 0u8..=32, proptest::option::of(1u64..1 << 40)), 0..50)
        ) {
            let entries: Vec<_> = entries
                .into_iter()
                .filter_map(|(at, len, timeout)| {
                    let mask = if len == 0 { 0 } else { u32::MAX << (32 - len) };
                    Some((Entry::prefix4(at & mask, len)?, timeout))
                })
                .collect();
            let mut text = Vec::new();
            write(&mut text, entries.iter().copied()).unwrap();
            let mut back = Vec::new();
            reader(SetKind::Addresses).read(&text, &mut |entry, timeout| back.push((entry, timeout))).unwrap();
            prop_assert_eq!(back, entries);
        }

        #[test]
        fn anything_is_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = reader(SetKind::Addresses).read(&text, &mut |_, _| {});
        }
    }
}
