//! A page of the docs that is run as it stands, so that what it tells people to do cannot rot.
//!
//! In: a page in Markdown, whose fenced blocks say by the words after the fence what they are. Out: nothing, or which
//! block of which line did not do what the page says.
//!
//! | words | the block |
//! |---|---|
//! | `sh` | is run, and must succeed; the folder that it ends in is that of the next |
//! | `sh exit N` | is run, and must end with this code |
//! | `sh again` | is run again and again, until it prints what the next block shows |
//! | `sh beside` | is begun, and runs beside all that follows |
//! | `text` | is what the run before printed: these lines, in this order; `…` stands for anything |
//! | `text beside` | is what the last block that was begun beside has printed; waited for |
//! | `diff FILE` | is an edit: the lines without `+` are there once, and those without `-` take their place |
//!
//! Invariant: every wait has a bound, and whatever was begun beside ends with the run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use xtask::process::{Service, describe, wait_within};

/// Longer than a crate takes to build on a machine that does much else.
const RUNS_WITHIN: Duration = Duration::from_secs(1_200);
const SHOWN_WITHIN: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Where and with what a page is run.
pub struct Desk {
    /// Where it begins.
    pub folder: PathBuf,
    /// For what is written beside the page's own files: outputs.
    pub notes: PathBuf,
    /// Further variables.
    pub environment: Vec<(String, String)>,
    /// Texts of the page that are others here: what stands there, what it is.
    pub others: Vec<(String, String)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Run { code: i32 },
    Again,
    Beside,
    Shown,
    ShownBeside,
    Edit(PathBuf),
}

#[derive(Debug, PartialEq, Eq)]
struct Block {
    /// Of its fence, from 1.
    line: usize,
    kind: Kind,
    text: String,
}

/// Runs the blocks of a page in their order.
///
/// # Errors
/// If one does not do what the page says, with what it printed.
pub async fn run_page(page: &str, desk: &Desk) -> Result<()> {
    let others =
        |text: &str| desk.others.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    let mut blocks = blocks(page)?;
    ensure!(!blocks.is_empty(), "the page has no blocks");
    blocks.iter_mut().for_each(|block| block.text = others(&block.text));
    let mut run = Run { desk, folder: desk.folder.clone(), printed: String::new(), beside: Vec::new() };
    for (nth, block) in blocks.iter().enumerate() {
        let next = blocks.get(nth + 1);
        run.take(block, next).await.with_context(|| format!("the block of line {}", block.line))?;
    }
    Ok(())
}

struct Run<'a> {
    desk: &'a Desk,
    folder: PathBuf,
    /// By the last block that was run.
    printed: String,
    /// What was begun, and where it prints.
    beside: Vec<(Service, PathBuf)>,
}

impl Run<'_> {
    async fn take(&mut self, block: &Block, next: Option<&Block>) -> Result<()> {
        match &block.kind {
            Kind::Run { code } => {
                let ended = self.run(&block.text)?;
                ensure!(ended == *code, "ended with {ended}, not {code}, and printed:\n{}", self.printed);
            }
            Kind::Again => {
                let shown = next.filter(|next| next.kind == Kind::Shown).context("what is waited for?")?;
                let mut looks = tokio::time::interval(LOOK_INTERVAL);
                let seen = async {
                    while missing(&shown.text, &self.printed).is_some() {
                        looks.tick().await;
                        self.run(&block.text)?;
                    }
                    anyhow::Ok(())
                };
                let waited = tokio::time::timeout(SHOWN_WITHIN, seen).await;
                waited.with_context(|| format!("it goes on printing:\n{}", self.printed))??;
            }
            Kind::Beside => self.begin(&block.text)?,
            Kind::Shown => {
                if let Some(line) = missing(&block.text, &self.printed) {
                    bail!("`{line}` is not, or not there, in:\n{}", self.printed);
                }
            }
            Kind::ShownBeside => {
                let (_, file) = self.beside.last().context("nothing runs beside")?;
                let mut looks = tokio::time::interval(LOOK_INTERVAL);
                let seen = async {
                    while missing(&block.text, &fs::read_to_string(file)?).is_some() {
                        looks.tick().await;
                    }
                    anyhow::Ok(())
                };
                let waited = tokio::time::timeout(SHOWN_WITHIN, seen).await;
                waited.with_context(|| fs::read_to_string(file).unwrap_or_default())??;
            }
            Kind::Edit(path) => {
                let path = self.folder.join(path);
                fs::write(&path, edited(&fs::read_to_string(&path)?, &block.text)?)?;
            }
        }
        Ok(())
    }

    /// Runs a script to its end; gives its exit code.
    fn run(&mut self, script: &str) -> Result<i32> {
        let (printed, folder) = (self.desk.notes.join("printed"), self.desk.notes.join("folder"));
        let script = format!("{script}\npwd > '{}'\n", folder.display());
        let mut child = self.bash(Command::new("bash"), &script, &printed)?.spawn()?;
        let ended = wait_within(&mut child, RUNS_WITHIN);
        if ended.is_none() {
            child.kill()?;
        }
        self.printed = fs::read_to_string(&printed)?;
        let status = ended.with_context(|| format!("took too long, and printed:\n{}", self.printed))?;
        let code = status.code().with_context(|| describe(status))?;
        if code == 0 {
            self.folder = fs::read_to_string(folder)?.trim_end().into();
        }
        Ok(code)
    }

    fn begin(&mut self, script: &str) -> Result<()> {
        let printed = self.desk.notes.join(format!("printed-beside-{}", self.beside.len()));
        let command = Service::command(Path::new("/bin/bash"), Signal::SIGKILL);
        let service = Service::start(self.bash(command, script, &printed)?)?;
        self.beside.push((service, printed));
        Ok(())
    }

    fn bash(&self, mut bash: Command, script: &str, printed: &Path) -> Result<Command> {
        let file = File::create(printed)?;
        bash.args(["-euo", "pipefail", "-c", script]).current_dir(&self.folder);
        bash.envs(self.desk.environment.iter().map(|(name, value)| (name, value)));
        bash.stdin(std::process::Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(bash)
    }
}

fn blocks(page: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut lines = (1..).zip(page.lines());
    while let Some((line, text)) = lines.next() {
        let Some(words) = text.strip_prefix("```") else { continue };
        let kind =
            kind(words).with_context(|| format!("line {line}: a block of `{words}` is unknown here"))?;
        let inside: Vec<_> = lines.by_ref().map(|(_, text)| text).take_while(|text| *text != "```").collect();
        blocks.push(Block { line, kind, text: inside.join("\n") });
    }
    Ok(blocks)
}

fn kind(words: &str) -> Option<Kind> {
    Some(match words.split(' ').collect::<Vec<_>>().as_slice() {
        ["sh"] => Kind::Run { code: 0 },
        ["sh", "exit", code] => Kind::Run { code: code.parse().ok()? },
        ["sh", "again"] => Kind::Again,
        ["sh", "beside"] => Kind::Beside,
        ["text"] => Kind::Shown,
        ["text", "beside"] => Kind::ShownBeside,
        ["diff", path] => Kind::Edit(path.into()),
        _ => return None,
    })
}

/// The first line that was not printed after those before it.
fn missing<'a>(shown: &'a str, printed: &str) -> Option<&'a str> {
    let mut rest = printed.lines();
    shown.lines().find(|line| *line != "…" && !rest.any(|printed| fits(line, printed)))
}

fn fits(shown: &str, printed: &str) -> bool {
    let pieces: Vec<_> = shown.split('…').collect();
    let [first, .., last] = pieces.as_slice() else { return shown == printed.trim_end() };
    let Some(rest) = printed.trim_end().strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    let between = &pieces[1..pieces.len() - 1];
    between.iter().try_fold(rest, |rest, piece| rest.split_once(piece).map(|(_, rest)| rest)).is_some()
}

/// The file with the edit made.
fn edited(file: &str, diff: &str) -> Result<String> {
    let lines = |without: char| {
        let lines = diff.lines().filter(|line| !line.starts_with(without));
        lines.map(|line| format!("{}\n", line.get(1..).unwrap_or_default())).collect::<String>()
    };
    let (before, after) = (lines('+'), lines('-'));
    let is_line = |at: &usize| file[..*at].is_empty() || file[..*at].ends_with('\n');
    let found: Vec<_> = file.match_indices(&before).map(|(at, _)| at).filter(is_line).collect();
    let [at] = found[..] else {
        bail!("what is to be edited is there {} times:\n{before}", found.len());
    };
    Ok(format!("{}{after}{}", &file[..at], &file[at + before.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_what_its_fence_says() {
        let page = "text\n```sh\na\nb\n```\n```sh exit 1\n```\n```diff src/lib.rs\n+c\n```\n";
        let block = |line, kind, text: &str| Block { line, kind, text: text.to_owned() };
        let expected = [
            block(2, Kind::Run { code: 0 }, "a\nb"),
            block(6, Kind::Run { code: 1 }, ""),
            block(8, Kind::Edit("src/lib.rs".into()), "+c"),
        ];
        assert_eq!(blocks(page).unwrap(), expected);
        assert!(blocks("```rust\n```").unwrap_err().to_string().starts_with("line 1: a block of `rust`"));
    }

    #[test]
    fn what_is_shown_is_looked_for_line_by_line() {
        let printed = "a\nb 17 c\nd\n";
        for shown in ["a", "a\n…\nd", "b … c", "…7 c\nd", "b …7… c"] {
            assert_eq!(missing(shown, printed), None, "{shown}");
        }
        assert_eq!(missing("d\na", printed), Some("a"));
        assert_eq!(missing("b … d", printed), Some("b … d"));
        assert_eq!(missing("b", printed), Some("b"));
    }

    #[test]
    fn an_edit_is_made_where_it_fits_and_nowhere_else() {
        let file = "a\n  b\nc\n";
        assert_eq!(edited(file, " a\n-  b\n+  d\n+e\n c").unwrap(), "a\n  d\ne\nc\n");
        assert!(edited(file, " b\n+d").is_err(), "it is indented");
        assert!(edited("a\na\n", " a\n+b").is_err(), "it is there twice");
    }
}
