//! Where answers go: standard output as tables or JSON, and how the process ends.

use super::args::Colour;
use crate::{explain::capture::CaptureError, server::client::ClientError};
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use serde::Serialize;
use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};
use thiserror::Error;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    /// The daemon isn't there, or said no.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The operator said no.
    #[error("nothing was changed")]
    Declined,
    /// A capture file can't be used.
    #[error("{0}")]
    Capture(CaptureError),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// Standard output.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// The exit code, as `--help` documents it.
    pub fn exit(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Client(ClientError::Unreachable { .. }) => 4,
            Self::Client(ClientError::Refused(body)) => match body.code.as_str() {
                "bad-request" => 2,
                "policy-invalid" | "bad-filter" | "bad-packet" | "bad-entry" => 3,
                "generation-conflict" | "lock-out" => 5,
                _ => 1,
            },
            Self::Declined
            | Self::Client(ClientError::Broken(_))
            | Self::Capture(_)
            | Self::Failed(_)
            | Self::Output(_) => 1,
        })
    }
    /// Whether whoever read our output has had enough (`sluice flows | head`).
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    /// JSON instead of tables.
    pub json: bool,
    /// Colour on standard output.
    pub colour: bool,
}

/// What a value means, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Odd,
    /// Refused, lost, failed.
    Bad,
    /// Beside the point.
    Dim,
}

impl Tone {
    /// Of a verdict.
    pub fn of_verdict(verdict: &str) -> Self {
        match verdict {
            "allow" => Self::Good,
            "drop" | "reject" => Self::Bad,
            _ => Self::Plain,
        }
    }
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Odd => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Dim => "\x1b[2m",
        }
    }
}

impl Out {
    /// As the options say and the terminal can.
    pub fn new(json: bool, when: Colour) -> Self {
        let colour = match when {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => {
                io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        Self { json, colour }
    }

    /// Prints a line.
    pub fn line(&self, text: impl AsRef<str>) -> Result<(), CliError> {
        writeln!(io::stdout().lock(), "{}", text.as_ref())?;
        Ok(())
    }

    /// Prints an object as one line of JSON.
    pub fn object(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text =
            serde_json::to_string(value).map_err(|error| CliError::Failed(error.to_string()))?;
        self.line(text)
    }

    /// Prints rows: one JSON object a line, or a table.
    pub fn rows<T: Serialize>(
        &self,
        rows: &[T],
        heads: &[Head],
        cells: impl Fn(&T) -> Vec<(String, Tone)>,
    ) -> Result<(), CliError> {
        let mut stdout = io::BufWriter::new(io::stdout().lock());
        if self.json {
            for row in rows {
                serde_json::to_writer(&mut stdout, row).map_err(io::Error::from)?;
                writeln!(stdout)?;
            }
            stdout.flush()?;
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(
            heads
                .iter()
                .map(|head| head.align(Cell::new(head.name)).add_attribute(Attribute::Bold)),
        );
        for row in rows {
            table.add_row(heads.iter().zip(cells(row)).map(|(head, (text, tone))| {
                let cell = head.align(Cell::new(super::format::clean(&text)));
                match tone {
                    Tone::Plain => cell,
                    Tone::Good => cell.fg(Color::DarkGreen),
                    Tone::Odd => cell.fg(Color::DarkYellow),
                    Tone::Bad => cell.fg(Color::DarkRed),
                    Tone::Dim => cell.add_attribute(Attribute::Dim),
                }
            }));
        }
        for line in table.lines() {
            writeln!(stdout, "{}", line.trim_end())?;
        }
        stdout.flush()?;
        Ok(())
    }

    /// A word in colour.
    pub fn paint(&self, text: &str, tone: Tone) -> String {
        if self.colour && tone != Tone::Plain {
            format!("{}{text}\x1b[0m", tone.code())
        } else {
            text.to_owned()
        }
    }
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    name: &'static str,
    right: bool,
}

impl Head {
    /// Text: to the left.
    pub const fn text(name: &'static str) -> Self {
        Self { name, right: false }
    }
    /// A number: to the right.
    pub const fn number(name: &'static str) -> Self {
        Self { name, right: true }
    }
    fn align(self, cell: Cell) -> Cell {
        if self.right { cell.set_alignment(CellAlignment::Right) } else { cell }
    }
}
