//! `docs/policy.md` is true: its examples are policies and filters, and it names every option,
//! field, protocol and time-out there is.

use firewall_common::abi::table::Timeout;
use firewall_user::filter::{self, Field, SubjectKind};
use firewall_user::policy::ast::Options;
use firewall_user::policy::units::show_ms;
use firewall_user::policy::{CheckContext, Slots, check, compile, parse};
use firewall_user::view::FlowView;

const DOCS: &str = include_str!("../../docs/policy.md");

/// Fenced blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut inside = false;
    for line in DOCS.lines() {
        if inside && line == "```" {
            inside = false;
        } else if inside && let Some(block) = out.last_mut() {
            block.push_str(line);
            block.push('\n');
        } else if line == format!("```{language}") {
            inside = true;
            out.push(String::new());
        }
    }
    out
}

#[test]
fn examples_are_policies_without_warnings() {
    let examples = blocks("sluice");
    assert!(examples.len() >= 6);
    for text in examples {
        let policy = parse(&text, "docs/policy.md").unwrap_or_else(|e| panic!("{text}\n{e}"));
        compile(&policy, &mut Slots::new(), 1).unwrap();
        let warnings = check(&policy, &CheckContext::default());
        // A piece of a policy may define more than it uses, and the page describes the whole language.
        let meant = ["unused-interface"];
        let warnings: Vec<_> =
            warnings.iter().filter(|w| !meant.contains(&w.code.as_ref())).collect();
        assert!(warnings.is_empty(), "{text}\n{warnings:?}");
    }
}

#[test]
fn example_filters_are_filters() {
    let lines: Vec<String> =
        blocks("filter").iter().flat_map(|b| b.lines()).map(str::to_owned).collect();
    assert!(lines.len() >= 4);
    for line in lines {
        filter::parse_for::<FlowView>(&line).unwrap_or_else(|e| panic!("{}", e.render()));
    }
}

#[test]
fn every_field_is_in_the_table_of_its_rows() {
    let rows: Vec<Vec<&str>> = DOCS
        .lines()
        .filter(|l| l.starts_with("| `"))
        .map(|l| l.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    for field in Field::ALL {
        let name = format!("`{}`", field.name());
        let kinds =
            [SubjectKind::Flow, SubjectKind::Event, SubjectKind::Rule, SubjectKind::Netfilter];
        // What only mappings have is in a table of its own.
        let cells = if kinds.iter().any(|kind| field.of(*kind)) { 7 } else { 3 };
        let is_it =
            |row: &&Vec<&str>| row.len() == cells && row[0].split(", ").any(|other| other == name);
        let row = rows.iter().find(is_it).unwrap_or_else(|| panic!("{name} is missing"));
        if cells == 3 {
            continue;
        }
        for (kind, cell) in kinds.into_iter().zip(&row[2..6]) {
            assert_eq!(field.of(kind), *cell == "x", "{name}, {}", kind.name());
        }
    }
}

#[test]
fn every_kind_of_translation_and_every_extra_has_its_row() {
    for name in ["masquerade", "source", "destination", "redirect", "static", "prefix"] {
        let row = format!("| `{name}` | ");
        assert!(DOCS.lines().any(|l| l.starts_with(&row)), "{name}");
    }
    for name in ["ports A-B", "endpoint-independent", "blocks N", "hairpin"] {
        let row = format!("| `{name}` | ");
        assert!(DOCS.lines().any(|l| l.starts_with(&row)), "{name}");
    }
}

#[test]
fn time_outs_are_the_built_in_ones() {
    for timeout in Timeout::ALL {
        let row = format!(
            "| `{}` | {} |",
            timeout.name(),
            show_ms(Options::default_timeout(*timeout).into())
        );
        assert!(DOCS.contains(&row), "{row}");
    }
    let options = Options::default();
    for (name, value) in firewall_user::policy::diff::entries(&options) {
        if !name.starts_with("timeout") {
            // A clause of rules may bear the name of an option.
            let mut rows = DOCS.lines().filter(|l| l.starts_with(&format!("| `{name}` |")));
            assert!(rows.any(|row| row.contains(&format!("| `{value}` |"))), "{name}: {value}");
        }
    }
}
