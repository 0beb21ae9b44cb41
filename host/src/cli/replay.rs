//! `twohop plugin replay FILE --changes FILE`: what a component would do with changes of old, and what it costs.
//!
//! In: a component, perhaps another to compare it with, and a file with a change or a post a line. Out: an effect a line,
//! or those that only one of both has, and what it comes to as the last line.
//!
//! Invariant: one batch is held at a time, and the same files give the same output on every machine.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use twohop::event::{Change, change_from_line};
use twohop::limits::{BATCH_COUNT_MAX, REPLAY_LINE_BYTES_MAX};
use twohop::policy::{Comparison, Engine, Facts, Found, Only, Plan, Post, Rehearsal, Stage, Tally};

use super::alone::Workshop;
use super::candidate::settings;
use super::compare::conclusion;
use super::table::{columns, head, plain};
use super::upload;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The component.
    file: PathBuf,
    /// The changes, a line each, as `twohop changes` prints them.
    #[arg(long, value_name = "FILE")]
    changes: PathBuf,
    /// Another component: print what differs from what it would do. The exit code is 1 if anything does.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// A setting.
    #[arg(long = "setting", alias = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// A setting of the other component, in place of all of `--setting`.
    #[arg(long = "against-setting", value_name = "KEY=VALUE", requires = "against")]
    against_settings: Vec<String>,
    /// What is known of the author of a post that a router makes: `followers`, `online`, `active`, `rate` or `previous`;
    /// else 0, and no post before.
    #[arg(long = "fact", value_name = "NAME=VALUE")]
    facts: Vec<String>,
    /// Which limits it runs under.
    #[arg(long, value_enum)]
    profile: Option<upload::Profile>,
    /// Print a JSON object a line.
    #[arg(long)]
    json: bool,
}

/// A line of the file.
enum Line {
    Change(Box<Change>),
    Post(FilePost),
}

/// `{"post":{"author":"ann","item":"7","followers":12000}}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PostLine {
    post: FilePost,
}

/// A post; what is not there is as `--fact` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePost {
    author: String,
    item: String,
    followers: Option<u64>,
    online: Option<u64>,
    active: Option<u64>,
    rate: Option<u32>,
    previous: Option<String>,
}

/// How a line that cannot be read is mended.
const MEND: &str =
    "a line is a change as `twohop changes` prints it, or a post: docs/command-line.md has both";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let facts = facts(&arguments.facts)?;
    let mut rehearsal = load(arguments, facts)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut lines = Lines::open(&arguments.changes)?;
    while let Some(batch) = lines.batch(&facts)? {
        for line in ask(&mut rehearsal, &batch, &facts, arguments.json) {
            writeln!(out, "{line}")?;
        }
        if rehearsal.is_stopped() {
            break;
        }
    }
    ensure!(lines.number > 0, "{} has no lines: `twohop changes` prints some", arguments.changes.display());
    writeln!(out, "{}", summary(&rehearsal, arguments.json))?;
    out.flush()?;
    let differs = rehearsal.compared().is_some_and(|(_, comparison)| differing_count(comparison) > 0);
    Ok(if differs || rehearsal.is_stopped() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn load(arguments: &Arguments, facts: Facts) -> Result<Rehearsal> {
    let workshop = Workshop::new(Engine::counting()?)?;
    let profile = arguments.profile.map(Into::into).unwrap_or_default();
    let own = settings(&arguments.settings)?;
    let others = match arguments.against_settings.as_slice() {
        [] => own.clone(),
        given => settings(given)?,
    };
    let load = |name: &str, file: &Path, settings| -> Result<_> {
        let plugin = workshop.load(name, file, settings, profile)?.plugin;
        let stages = [Stage::Filter, Stage::Router, Stage::Fanout];
        if !stages.into_iter().any(|stage| plugin.has(stage)) {
            bail!(
                "{} has a gate only, which is asked about connections and not about changes",
                file.display()
            );
        }
        Ok(plugin)
    };
    let plugin = load("replayed", &arguments.file, own)?;
    let against = arguments.against.as_ref().map(|file| load("against", file, others)).transpose()?;
    Ok(Rehearsal::new(plugin, against, facts))
}

/// Lines of one kind that follow each other, each with its number.
struct Batch {
    changes: Vec<Change>,
    posts: Vec<FilePost>,
    numbers: Vec<u64>,
}

struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    /// Of the last line that was read.
    number: u64,
    /// What was read and is of another kind than the batch.
    ahead: Option<(u64, Line)>,
}

impl Lines {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { path: path.to_owned(), reader: BufReader::new(file), number: 0, ahead: None })
    }

    fn batch(&mut self, facts: &Facts) -> Result<Option<Batch>> {
        let mut batch = Batch { changes: Vec::new(), posts: Vec::new(), numbers: Vec::new() };
        while batch.numbers.len() < BATCH_COUNT_MAX {
            let Some((number, line)) =
                self.ahead.take().map(Ok).or_else(|| self.next(facts).transpose()).transpose()?
            else {
                break;
            };
            match line {
                Line::Change(change) if batch.posts.is_empty() => batch.changes.push(*change),
                Line::Post(post) if batch.changes.is_empty() => batch.posts.push(post),
                other => {
                    self.ahead = Some((number, other));
                    break;
                }
            }
            batch.numbers.push(number);
        }
        Ok((!batch.numbers.is_empty()).then_some(batch))
    }

    /// The next line that is not empty.
    fn next(&mut self, facts: &Facts) -> Result<Option<(u64, Line)>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = (&mut self.reader).take(REPLAY_LINE_BYTES_MAX + 1);
            let read = bounded.read_until(b'\n', &mut line);
            if read.with_context(|| format!("cannot read {}", self.path.display()))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            let at = || format!("{}:{}", self.path.display(), self.number);
            if line.len() as u64 > REPLAY_LINE_BYTES_MAX {
                bail!("{}: the line has more than {REPLAY_LINE_BYTES_MAX} bytes: leave it out", at());
            }
            let Ok(text) = std::str::from_utf8(&line) else {
                bail!("{}: the line is not UTF-8: {MEND}", at())
            };
            if !text.trim().is_empty() {
                let read =
                    read_line(text, facts).map_err(|why| anyhow::anyhow!("{}: {why}: {MEND}", at()))?;
                return Ok(Some((self.number, read)));
            }
        }
    }
}

fn read_line(text: &str, facts: &Facts) -> Result<Line> {
    let text = text.trim_end();
    if text.trim_start().starts_with("{\"post\"") {
        let PostLine { post } = serde_json::from_str(text)?;
        post.as_post(facts)?;
        return Ok(Line::Post(post));
    }
    Ok(Line::Change(Box::new(change_from_line(text)?)))
}

impl FilePost {
    /// # Errors
    /// If the plan of the author's last post is none.
    fn as_post(&self, facts: &Facts) -> Result<Post<'_>> {
        let known = Facts {
            followers: self.followers.unwrap_or(facts.followers),
            online: self.online.unwrap_or(facts.online),
            active: self.active.unwrap_or(facts.active),
            rate: self.rate.unwrap_or(facts.rate),
            previous: self.previous.as_deref().map(plan).transpose()?.or(facts.previous),
        };
        Ok(known.post(&self.author, &self.item))
    }
}

/// A plan as it is printed: `pull, notify`.
fn plan(text: &str) -> Result<Plan> {
    let known: Vec<Plan> = (0..).map_while(Plan::from_number).collect();
    let words: Vec<_> = known.iter().map(|plan| format!("`{plan}`")).collect();
    let plan = known.into_iter().find(|plan| plan.to_string() == text);
    plan.with_context(|| format!("`{text}` is no plan: there are {}", words.join("; ")))
}

fn facts(given: &[String]) -> Result<Facts> {
    let mut facts = Facts::default();
    for pair in given {
        let (name, value) = pair.split_once('=').with_context(|| format!("--fact {pair} has no `=`"))?;
        let number = || value.parse::<u64>().with_context(|| format!("--fact {pair} is no count"));
        match name {
            "followers" => facts.followers = number()?,
            "online" => facts.online = number()?,
            "active" => facts.active = number()?,
            "rate" => facts.rate = value.parse().with_context(|| format!("--fact {pair} is no count"))?,
            "previous" => facts.previous = Some(plan(value)?),
            _ => bail!("--fact {name} is none: there are followers, online, active, rate and previous"),
        }
    }
    Ok(facts)
}

/// A line for each effect.
fn ask(rehearsal: &mut Rehearsal, batch: &Batch, facts: &Facts, as_json: bool) -> Vec<String> {
    let posts: Vec<_> = batch.posts.iter().filter_map(|post| post.as_post(facts).ok()).collect();
    let found = if posts.is_empty() { rehearsal.changes(&batch.changes) } else { rehearsal.posts(&posts) };
    let line = |found: &Found| {
        let number = batch.numbers[found.index];
        let (of, key) = match batch.changes.get(found.index) {
            Some(change) => about(change),
            None => (posts[found.index].author.to_owned(), posts[found.index].item.to_owned()),
        };
        if as_json {
            let only = found.only.map(|only| if only == Only::Against { "against" } else { "file" });
            return json!({"line": number, "of": of, "key": key, "only": only, "effect": found.effect})
                .to_string();
        }
        let sign = match found.only {
            None => "",
            Some(Only::Against) => "- ",
            Some(Only::Plugin) => "+ ",
        };
        plain(&format!("{sign}{number} {of} {key}: {}", found.effect))
    };
    found.iter().map(line).collect()
}

/// The table and the key.
fn about(change: &Change) -> (String, String) {
    let mut key = String::new();
    change.write_key(&mut key);
    (change.table.full_name(), key)
}

fn differing_count(comparison: &Comparison) -> u64 {
    comparison.different_count + comparison.only_active_count + comparison.only_candidate_count
}

/// What it comes to, as the last lines, or in JSON the last line.
fn summary(rehearsal: &Rehearsal, as_json: bool) -> String {
    let (own, compared) = (rehearsal.tally(), rehearsal.compared());
    if as_json {
        let compared = compared.map(|(against, comparison)| {
            let (seen, equal) = (comparison.seen_count, comparison.equal_count);
            json!({"against": tally_json(against), "seen": seen, "equal": equal, "different": differing_count(comparison)})
        });
        return json!({"file": tally_json(own), "compared": compared}).to_string();
    }
    let mut rows = vec![head(&["", "asked", "effects", "dead letters", "faults", "instructions", "each"])];
    if let Some((against, _)) = compared {
        rows.push(row("- against", against));
    }
    rows.push(row(if compared.is_some() { "+ file" } else { "file" }, own));
    let mut text = format!("\n{}", columns(&rows));
    for tally in compared.iter().map(|(against, _)| *against).chain([own]) {
        if let Some(fault) = &tally.first_fault {
            text.push_str(&format!("the first fault: {}\n", plain(&fault.to_string())));
        }
    }
    text.push_str(&match (rehearsal.is_stopped(), compared) {
        (true, _) => {
            "stopped: too many calls failed in one batch, so that a server would not ask it any more"
                .to_owned()
        }
        (false, Some((_, comparison))) => {
            let (seen, equal) = (comparison.seen_count, comparison.equal_count);
            conclusion(seen, equal, differing_count(comparison)).trim_end().to_owned()
        }
        (false, None) => format!("{} effects of {} changes", own.effects_count, own.asked_count),
    });
    text
}

fn row(name: &str, tally: &Tally) -> Vec<String> {
    let Tally { asked_count, effects_count, dead_letters_count, faults_count, instructions, .. } = tally;
    let numbers = [*asked_count, *effects_count, *dead_letters_count, *faults_count, *instructions];
    let each = instructions.checked_div(*asked_count).map_or_else(|| "-".to_owned(), |each| each.to_string());
    [name.to_owned()].into_iter().chain(numbers.map(|number| number.to_string())).chain([each]).collect()
}

fn tally_json(tally: &Tally) -> Value {
    json!({
        "asked": tally.asked_count,
        "effects": tally.effects_count,
        "dead_letters": tally.dead_letters_count,
        "faults": tally.faults_count,
        "first_fault": tally.first_fault.as_ref().map(ToString::to_string),
        "instructions": tally.instructions,
        "stopped": tally.stopped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (tempfile::TempDir, Lines) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changes.jsonl");
        std::fs::write(&path, text).unwrap();
        let lines = Lines::open(&path).unwrap();
        (folder, lines)
    }

    const CHANGE: &str = r#"{"table":"t","operation":"truncate"}"#;
    const POST: &str = r#"{"post":{"author":"ann","item":"7","followers":12}}"#;

    #[test]
    fn lines_of_one_kind_are_a_batch_and_keep_their_numbers() {
        let many = format!("{CHANGE}\n").repeat(BATCH_COUNT_MAX + 1);
        let (_folder, mut lines) = of(&format!("{CHANGE}\n\n{CHANGE}\r\n{POST}\n{many}"));
        let mut batch =
            || lines.batch(&Facts::default()).unwrap().map(|batch| (batch.changes.len(), batch.numbers));
        assert_eq!(batch(), Some((2, vec![1, 3])));
        assert_eq!(batch(), Some((0, vec![4])));
        assert_eq!(batch().unwrap().0, BATCH_COUNT_MAX);
        assert_eq!(batch(), Some((1, vec![5 + BATCH_COUNT_MAX as u64])));
        assert_eq!(batch(), None);
    }

    #[test]
    fn a_bad_line_is_named_with_what_is_wrong_and_how_it_is_mended() {
        for (line, what) in [
            (r#"{"table":"t","operation":"upsert"}"#, "there is no operation `upsert`"),
            (r#"{"table":"t""#, "EOF while parsing an object at column 12"),
            (r#"{"post":{"author":"ann"}}"#, "missing field `item`"),
            (
                r#"{"post":{"author":"a","item":"7","previous":"both"}}"#,
                "`both` is no plan: there are `push, do",
            ),
            ("\u{1}", "expected value at column 1"),
        ] {
            let (_folder, mut lines) = of(&format!("{CHANGE}\n{line}\n"));
            let error = lines.batch(&Facts::default()).err().unwrap().to_string();
            let (place, rest) = error.split_once("changes.jsonl:2: ").unwrap_or_else(|| panic!("{error}"));
            assert!(place.starts_with('/') && rest.starts_with(what) && rest.ends_with(MEND), "{error}");
        }
    }

    #[test]
    fn facts_are_those_of_the_line_then_those_that_were_given() {
        let given: Vec<String> =
            ["followers=1", "online=2", "previous=pull, notify"].map(str::to_owned).into();
        let facts = facts(&given).unwrap();
        let Ok(Line::Post(post)) = read_line(POST, &facts) else { panic!("it is a post") };
        let post = post.as_post(&facts).unwrap();
        assert_eq!((post.followers, post.online, post.rate, post.previous), (12, 2, 0, Plan::from_number(3)));
        for wrong in ["followers", "followers=many", "fans=1", "previous=both"] {
            assert!(super::facts(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
