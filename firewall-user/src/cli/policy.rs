//! Commands that check, apply, edit and print the policy.

use super::{
    args::{ApplyArgs, EditArgs, PlaceArgs, RuleCommand},
    format,
    out::{CliError, Out, Tone},
};
use crate::{
    daemon::control::{Applied, CheckScene, PolicyText},
    policy::{self, Diagnostic, Diagnostics},
    server::{
        client::{Client, ClientError, escape},
        error::ErrorBody,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, BufRead, IsTerminal, Read, Write},
    path::Path,
    process::ExitCode,
};

/// A file's text and name; `-` is standard input.
fn read(file: &Path) -> Result<(String, String), CliError> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text)?;
        return Ok((text, "standard input".to_owned()));
    }
    let text = fs::read_to_string(file)
        .map_err(|error| CliError::Failed(format!("{}: {error}", file.display())))?;
    Ok((text, file.display().to_string()))
}

/// The operator's own SSH connection, as sshd tells it.
pub fn ssh_connection() -> Option<String> {
    std::env::var("SSH_CONNECTION").ok().filter(|connection| !connection.is_empty())
}

pub fn check(out: &Out, file: &Path) -> Result<ExitCode, CliError> {
    let (text, name) = read(file)?;
    match policy::parse(&text, &name) {
        Err(found) => show_errors(out, &found),
        Ok(policy) => {
            let warnings = CheckScene::of_this_machine(ssh_connection().as_deref()).check(&policy);
            show_findings(out, &warnings)?;
            if !out.json {
                let rules = policy.rules.len();
                let warned = if warnings.is_empty() {
                    String::new()
                } else {
                    format!(", {} warnings", warnings.len())
                };
                out.line(format!(
                    "{name}: {}, {rules} rules{warned}",
                    out.paint("valid", Tone::Good)
                ))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn show_errors(out: &Out, found: &Diagnostics) -> Result<ExitCode, CliError> {
    if out.json {
        for item in &found.items {
            out.object(item)?;
        }
    } else {
        out.line(found.render(out.colour))?;
    }
    Ok(ExitCode::from(3))
}

pub async fn apply(out: &Out, client: &Client, args: ApplyArgs) -> Result<ExitCode, CliError> {
    let (text, name) = read(&args.file)?;
    let mut body = json!({
        "text": text,
        "dry_run": args.dry_run,
        "force": args.force,
        "base_generation": args.base_generation,
        "ssh_connection": ssh_connection(),
    });
    let asks = !args.yes && !out.json && io::stdin().is_terminal() && io::stdout().is_terminal();
    if asks && !args.dry_run {
        body["dry_run"] = true.into();
        let plan: Applied = match client.post("/api/v1/policy/apply", &body).await {
            Ok(plan) => plan,
            Err(error) => return refused(out, error, &text, &name),
        };
        show_changes(out, &plan)?;
        if !plan.changes.is_empty() && !confirmed("Apply this?")? {
            return Err(CliError::Declined);
        }
        body["dry_run"] = false.into();
        // What was shown is what is done: not on top of somebody else's change.
        body["base_generation"] = plan.generation.into();
        let applied: Applied = client.post("/api/v1/policy/apply", &body).await?;
        out.line(format!("generation {} is live", applied.generation))?;
        return Ok(ExitCode::SUCCESS);
    }
    // Where nobody is asked, it is looked at and done in one go.
    match client.post("/api/v1/policy/apply", &body).await {
        Ok(applied) => {
            report(out, &applied)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => refused(out, error, &text, &name),
    }
}

/// The daemon finds the mistakes of a policy, but doesn't know what the file is called here; and they are told where there
/// is no daemon, too.
fn refused(out: &Out, error: ClientError, text: &str, name: &str) -> Result<ExitCode, CliError> {
    let may_be_wrong = match &error {
        ClientError::Refused(body) => body.code == "policy-invalid",
        ClientError::Unreachable { .. } => true,
        ClientError::Broken(_) => false,
    };
    if may_be_wrong && let Err(found) = policy::parse(text, name) {
        return show_errors(out, &found);
    }
    Err(error.into())
}

fn confirmed(question: &str) -> Result<bool, CliError> {
    write!(io::stdout().lock(), "{question} [y/N] ")?;
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

pub async fn rule(out: &Out, client: &Client, command: RuleCommand) -> Result<ExitCode, CliError> {
    let in_path = |name: &str, verb: &str| format!("/api/v1/rules/{}/{verb}", escape(name));
    let applied: Applied = match command {
        RuleCommand::Add { place, edit, text } => {
            let mut body = body(edit, Some(place));
            body["text"] = rule_statement(&text.join(" ")).into();
            client.post("/api/v1/rules", &body).await?
        }
        RuleCommand::Delete { name, edit } => {
            let mut query = format!("?dry_run={}&force={}", edit.dry_run, edit.force);
            if let Some(base) = edit.base_generation {
                query.push_str(&format!("&base_generation={base}"));
            }
            if let Some(ssh) = ssh_connection() {
                query.push_str(&format!("&ssh_connection={}", escape(&ssh)));
            }
            client.delete(&format!("/api/v1/rules/{}{query}", escape(&name))).await?
        }
        RuleCommand::Move { name, place, edit } => {
            client.post(&in_path(&name, "move"), &body(edit, Some(place))).await?
        }
        RuleCommand::Enable { name, edit } => {
            client.post(&in_path(&name, "enable"), &body(edit, None)).await?
        }
        RuleCommand::Disable { name, edit } => {
            client.post(&in_path(&name, "disable"), &body(edit, None)).await?
        }
    };
    report(out, &applied)
}

fn body(edit: EditArgs, place: Option<PlaceArgs>) -> Value {
    let EditArgs { dry_run, force, base_generation } = edit;
    let mut body = json!({
        "dry_run": dry_run,
        "force": force,
        "base_generation": base_generation,
        "ssh_connection": ssh_connection(),
    });
    if let Some(PlaceArgs { position, before, after }) = place {
        body["position"] = position.into();
        body["before"] = before.into();
        body["after"] = after.into();
    }
    body
}

/// The word `rule` in front may be left out on the command line; a translation says `nat`.
fn rule_statement(text: &str) -> String {
    match text.split_whitespace().next() {
        Some("rule" | "nat" | "disabled") => text.to_owned(),
        _ => format!("rule {text}"),
    }
}

pub async fn print(out: &Out, client: &Client) -> Result<ExitCode, CliError> {
    let policy: PolicyText = client.get("/api/v1/policy").await?;
    if out.json {
        out.object(&policy)?;
    } else {
        write!(io::stdout().lock(), "{}", policy.text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn report(out: &Out, applied: &Applied) -> Result<ExitCode, CliError> {
    if out.json {
        out.object(applied)?;
        return Ok(ExitCode::SUCCESS);
    }
    show_changes(out, applied)?;
    if applied.dry_run {
        out.line(format!("nothing was changed; generation {} stays live", applied.generation))?;
    } else {
        out.line(format!("generation {} is live", applied.generation))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show_changes(out: &Out, applied: &Applied) -> Result<(), CliError> {
    if applied.changes.is_empty() {
        out.line("no rule, set, option or default differs")?;
    }
    // Thousands of lines in one go: each by itself would be a call of the system's.
    let mut shown = Vec::new();
    for line in applied.changes.iter().flat_map(|change| change.text.lines()) {
        let tone = match line.chars().next() {
            Some('+') => Tone::Good,
            Some('-') => Tone::Bad,
            _ => Tone::Odd,
        };
        writeln!(shown, "{}", out.paint(&format::clean(line), tone))?;
    }
    io::stdout().lock().write_all(&shown)?;
    show_findings(out, &applied.warnings)
}

fn show_findings(out: &Out, findings: &[Diagnostic]) -> Result<(), CliError> {
    for finding in findings {
        if out.json {
            out.object(finding)?;
        } else {
            out.line(finding.render(out.colour))?;
        }
    }
    Ok(())
}

/// What the daemon found wrong, the way `check` shows it.
pub fn explain(out: &Out, body: &ErrorBody) {
    let findings = match body.code.as_str() {
        "policy-invalid" | "bad-packet" => &body.details,
        "lock-out" => &body.details["findings"],
        _ => return,
    };
    for finding in Vec::<Diagnostic>::deserialize(findings).unwrap_or_default() {
        eprintln!("{}", finding.render(out.colour));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_rule_may_be_left_out() {
        assert_eq!(rule_statement("web allow in tcp"), "rule web allow in tcp");
        assert_eq!(rule_statement("rule web allow in tcp"), "rule web allow in tcp");
        assert_eq!(rule_statement("disabled rule web allow"), "disabled rule web allow");
    }
}
